//! What is decided is what a plain reading of the model says, whatever the zone and however its part came about.

mod world;

use std::net::IpAddr;

use herald_core::steering::{
    AnswerMode, Endpoint, EndpointRecords, EndpointState, Policy, Pool, Rule, Sticky, When, policy_type,
};
use herald_core::{RrKey, Rrset, Rtype};
use proptest::prelude::*;
use steering::geo::Geo;
use steering::{Client, Knowledge, Outcome, Part};
use world::{ASKED, TYPES, Zone, apex, name, possible, unpack};

fn compile(zone: &Zone) -> Part {
    Part::compile(&apex(), zone.rrsets()).unwrap()
}

fn rule_address(zone: &Zone, client: &Client) -> IpAddr {
    let ecs = client.ecs.filter(|ecs| zone.settings.ecs && ecs.length() > 0);
    ecs.map_or(client.source, |ecs| ecs.address())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_what_the_model_says(
        zone in world::zone(),
        world in world::world(),
        health in world::health(),
        clients in prop::collection::vec(world::client(), 1..6),
    ) {
        let (part, geo) = (compile(&zone), world.geo());
        let known = Knowledge { geo: &geo, health: health.health() };
        prop_assert_eq!(part.settings(), &zone.settings);
        let is_cname = |(_, rtype): &&(herald_core::Name, u16)| *rtype == Rtype::CNAME.to_int();
        prop_assert_eq!(part.has_cname_policies(), zone.policies.keys().any(|key| is_cname(&key)));
        for client in &clients {
            for (asked, rtype) in ASKED.iter().flat_map(|asked| TYPES.map(|rtype| (name(asked), rtype))) {
                let mut out = Vec::with_capacity(1000);
                let decision = part.decide(asked.as_wire(), rtype, client, &known, &mut out, &mut ());
                let Some((_, policy)) = zone.policy(&asked, rtype) else {
                    prop_assert_eq!(decision.outcome, Outcome::NotSteered);
                    prop_assert_eq!(decision.scope, None);
                    continue;
                };
                prop_assert_eq!(decision.scope.is_some(), zone.settings.ecs && client.ecs.is_some());
                let address = rule_address(&zone, client);
                let led = zone.led(policy, rtype, client, &health, address, &world.facts(address));
                let Some((pool, endpoints)) = led.and_then(|led| led.pool) else {
                    prop_assert_eq!(decision.outcome, Outcome::NoData);
                    prop_assert!(out.is_empty());
                    continue;
                };
                let pool = &zone.pools[&pool];
                let rdatas = unpack(&out);
                let count = rdatas.len() as u16;
                prop_assert_eq!(decision.outcome, Outcome::Answer { ttl: pool.ttl, rtype, count });
                let possible = possible(pool, rtype, &endpoints);
                prop_assert!(possible.contains(&rdatas), "{:?} is none of {:?}", rdatas, possible);
                // The same again, and with another draw if the pool is sticky.
                let mut again = Vec::with_capacity(1000);
                let other = Client { draw: if pool.sticky.is_some() { !client.draw } else { client.draw }, ..*client };
                part.decide(asked.as_wire(), rtype, &other, &known, &mut again, &mut ());
                prop_assert_eq!(&out, &again);
                // There is never more than room for it.
                let mut small = Vec::with_capacity(out.len() - 1);
                if small.capacity() < out.len() {
                    let decision = part.decide(asked.as_wire(), rtype, &other, &known, &mut small, &mut ());
                    prop_assert_eq!(decision.outcome, Outcome::NoRoom);
                }
            }
        }
    }

    #[test]
    fn a_changed_part_is_the_part_of_what_it_has_become(
        before in world::zone(),
        after in world::zone(),
    ) {
        let (old, new) = (before.rrsets(), after.rrsets());
        let puts: Vec<(RrKey, Rrset)> =
            new.iter().filter(|(key, rrset)| old.get(key) != Some(rrset)).map(|(key, rrset)| (key.clone(), rrset.clone())).collect();
        let deletes: Vec<RrKey> = old.keys().filter(|key| !new.contains_key(key)).cloned().collect();
        let part = compile(&before).with(puts, deletes).unwrap();
        prop_assert_eq!(&part, &compile(&after));
        let gone = part.with([], new.keys().cloned()).unwrap();
        prop_assert!(gone.is_empty() && !gone.has_cname_policies() && gone.views().is_empty());
        prop_assert_eq!(gone, Part::compile(&apex(), []).unwrap());
    }

    #[test]
    fn nothing_panics_whatever_the_rdata(
        zone in world::zone(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
        rdata in prop::collection::vec(any::<u8>(), 0..40),
        asked in prop::collection::vec(any::<u8>(), 0..40),
        client in world::client(),
    ) {
        let mut rrsets: Vec<(RrKey, Rrset)> = zone.rrsets().into_iter().collect();
        rrsets.push((
            RrKey::new(name("www.example.com"), policy_type(Rtype::A).unwrap()),
            Rrset { ttl: 0, rdatas: [&rdata].into_iter().collect() },
        ));
        for (which, octet, new) in places {
            let (_, rrset) = &mut rrsets[which.index(zone.rrsets().len() + 1)];
            let mut octets = rrset.rdatas.iter().next().unwrap().to_vec();
            if !octets.is_empty() {
                // The version stays, so that the rest is read.
                let place = octet.index(octets.len()).max(1).min(octets.len() - 1);
                octets[place] = new;
            }
            rrset.rdatas = [octets].into_iter().collect();
        }
        // One that can't be read refuses all; without those the rest has to hold.
        let readable = rrsets.into_iter().filter(|one| Part::compile(&apex(), [one.clone()]).is_ok());
        let part = Part::compile(&apex(), readable).unwrap();
        let mut out = Vec::with_capacity(100);
        for rtype in TYPES {
            part.decide(&asked, rtype, &client, &Knowledge::places(&Geo::empty()), &mut out, &mut ());
            part.decide(name("www.example.com").as_wire(), rtype, &client, &Knowledge::places(&Geo::empty()), &mut out, &mut ());
        }
        prop_assert_eq!(out.capacity(), 100);
    }
}

/// How far counts are from what weights say, in units of the number of degrees of freedom.
fn chi_square(counts: &[u64], weights: &[f64]) -> f64 {
    let (draws, total) = (counts.iter().sum::<u64>() as f64, weights.iter().sum::<f64>());
    let terms = counts.iter().zip(weights).map(|(count, weight)| {
        let expected = draws * weight / total;
        (*count as f64 - expected).powi(2) / expected
    });
    terms.sum()
}

/// A zone with one pool of addresses 0.0.0.0 and up, of these weights.
fn weighted_zone(weights: &[u32], answer: AnswerMode) -> Zone {
    let endpoints = weights.iter().enumerate().map(|(place, weight)| Endpoint {
        name: format!("e{place}"),
        records: vec![EndpointRecords {
            rtype: Rtype::A,
            rdatas: herald_core::Rdatas::single(&(place as u32).to_be_bytes()),
        }],
        weight: *weight,
        state: EndpointState::Enabled,
        location: None,
        bias: 0,
        monitor: None,
    });
    let pool = Pool { ttl: 60, answer, sticky: None, min_healthy: 0, endpoints: endpoints.collect() };
    let rule = Rule { name: None, when: When::default(), pools: vec!["p0".into()], nearest: false };
    Zone {
        pools: [("p0".to_owned(), pool)].into(),
        policies: [((name("www.example.com"), Rtype::A.to_int()), Policy::of_rules(vec![rule]))].into(),
        ..Zone::default()
    }
}

fn weighted(weights: &[u32], answer: AnswerMode) -> Part {
    compile(&weighted_zone(weights, answer))
}

/// Numbers of the SplitMix64 generator.
fn draws(seed: u64) -> impl Iterator<Item = u64> {
    (0_u64..).map(move |n| {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n + 1));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn answers(part: &Part, count: usize, seed: u64) -> Vec<Vec<usize>> {
    let owner = name("www.example.com");
    let mut out = Vec::with_capacity(4096);
    let mut answer = |draw: u64| {
        let client = Client { source: "192.0.2.1".parse().unwrap(), ecs: None, pop: 0, draw };
        out.clear();
        part.decide(owner.as_wire(), Rtype::A, &client, &Knowledge::places(&Geo::empty()), &mut out, &mut ());
        unpack(&out).iter().map(|rdata| usize::from(rdata[3])).collect()
    };
    draws(seed).take(count).map(&mut answer).collect()
}

#[test]
fn draws_of_one_follow_the_weights() {
    for (seed, weights) in [
        (1, vec![1, 1]),
        (2, vec![1, 2, 3, 4]),
        (3, vec![99, 1]),
        (4, vec![5, 0, 5]),
        (5, vec![u32::MAX, u32::MAX, u32::MAX - 1]),
        (6, (1..40).collect()),
    ] {
        let mut counts = vec![0; weights.len()];
        for answer in answers(&weighted(&weights, AnswerMode::One), 60_000, seed) {
            assert_eq!(answer.len(), 1);
            counts[answer[0]] += 1;
        }
        let pairs = counts.iter().zip(&weights).filter(|(count, weight)| {
            assert!(**weight > 0 || **count == 0, "weight zero answered");
            **weight > 0
        });
        let (counts, weights): (Vec<u64>, Vec<f64>) =
            pairs.map(|(count, weight)| (*count, f64::from(*weight))).unzip();
        let (square, degrees) = (chi_square(&counts, &weights), (weights.len() - 1) as f64);
        // Mean and variance of the distribution are known; five deviations are far out.
        assert!(
            square < degrees + 5.0 * (2.0 * degrees).sqrt(),
            "seed {seed}: {square} of {degrees}: {counts:?}"
        );
    }
}

#[test]
fn draws_of_several_follow_the_weights_one_after_the_other() {
    for (seed, weights, picks) in [
        (1, vec![1_u32, 1, 1, 1], 2),
        (2, vec![1, 2, 3, 4], 2),
        (3, vec![10, 1, 1], 2),
        (4, vec![3, 1, 4, 1, 5], 3),
    ] {
        // How likely each set is, by going through all orders of picks.
        fn walk(weights: &[u32], left: usize, set: usize, probability: f64, out: &mut [f64]) {
            if left == 0 {
                out[set] += probability;
                return;
            }
            let free = || weights.iter().enumerate().filter(|(place, _)| set >> place & 1 == 0);
            let total: u32 = free().map(|(_, weight)| weight).sum();
            for (place, weight) in free() {
                let share = probability * f64::from(*weight) / f64::from(total);
                walk(weights, left - 1, set | 1 << place, share, out);
            }
        }
        let mut expected = vec![0.0; 1 << weights.len()];
        walk(&weights, picks, 0, 1.0, &mut expected);
        let mut counts = vec![0_u64; 1 << weights.len()];
        for answer in answers(&weighted(&weights, AnswerMode::UpTo(picks as u8)), 60_000, seed) {
            assert_eq!(answer.len(), picks);
            counts[answer.iter().map(|place| 1 << place).sum::<usize>()] += 1;
        }
        let (counts, expected): (Vec<u64>, Vec<f64>) =
            counts.into_iter().zip(expected).filter(|(_, expected)| *expected > 0.0).unzip();
        assert_eq!(counts.iter().sum::<u64>(), 60_000);
        let (square, degrees) = (chi_square(&counts, &expected), (counts.len() - 1) as f64);
        assert!(square < degrees + 5.0 * (2.0 * degrees).sqrt(), "seed {seed}: {square} of {degrees}");
    }
}

#[test]
fn sticky_draws_are_spread_over_networks() {
    let mut zone = weighted_zone(&[1, 2, 5], AnswerMode::One);
    zone.pools.get_mut("p0").unwrap().sticky = Some(Sticky { ipv4_prefix: 24, ipv6_prefix: 56 });
    let part = compile(&zone);
    let owner = name("www.example.com");
    let answer = |source: IpAddr, draw: u64| {
        let mut out = Vec::with_capacity(64);
        let client = Client { source, ecs: None, pop: 0, draw };
        part.decide(owner.as_wire(), Rtype::A, &client, &Knowledge::places(&Geo::empty()), &mut out, &mut ());
        usize::from(unpack(&out)[0][3])
    };
    let mut counts = [0_u64; 3];
    for network in 0..20_000_u32 {
        let first = answer(IpAddr::V4((network << 8).into()), 1);
        assert_eq!(first, answer(IpAddr::V4((network << 8 | 200).into()), 2));
        counts[first] += 1;
    }
    let square = chi_square(&counts, &[1.0, 2.0, 5.0]);
    assert!(square < 2.0 + 5.0 * 2.0, "{square}: {counts:?}");
}
