//! The scope of an answer is the length of the shortest prefix that holds the client and in which everybody is led to the same: never
//! shorter, so that no cache is poisoned, and never longer, so that none is split for nothing.

mod world;

use std::net::IpAddr;

use herald_core::steering::{
    AnswerMode, Endpoint, EndpointRecords, EndpointState, Policy, Pool, Prefix, RULES_MAX, Rule, Settings,
    When,
};
use herald_core::{Name, Rdatas, Rtype};
use proptest::prelude::*;
use steering::geo::Geo;
use steering::{Client, Knowledge, Part};
use world::{ASKED, Health, Led, TYPES, World, Zone, address_number, apex, name, number_address, starts};

/// The scope by trying every prefix around the client, with one address of each stretch in which nothing can change.
fn scope(
    zone: &Zone,
    world: &World,
    health: &Health,
    policy: &Policy,
    rtype: Rtype,
    client: &Client,
    ecs: Prefix,
) -> u8 {
    if ecs.length() == 0 {
        return 0;
    }
    let is_v4 = ecs.address().is_ipv4();
    let bits: u8 = if is_v4 { 32 } else { 128 };
    let led = |address: IpAddr| zone.led(policy, rtype, client, health, address, &world.facts(address));
    // Who is led by which rule makes no difference to whom they get.
    let pool = |address: IpAddr| led(address).and_then(|led| led.pool);
    let here = pool(ecs.address());
    let asked = policy.rules.iter().flat_map(|rule| rule.when.prefixes.iter().copied());
    let all = starts(world.0.iter().map(|(prefix, _)| *prefix).chain(asked), is_v4);
    let is_uniform = |length: &u8| {
        let prefix = Prefix::new(ecs.address(), *length).unwrap();
        // The stretch that the prefix begins in may begin before it.
        let own = [address_number(prefix.address())];
        all.iter()
            .chain(&own)
            .map(|number| number_address(*number, is_v4))
            .filter(|address| prefix.contains(*address))
            .all(|address| pool(address) == here)
    };
    let shortest = (0..=bits).find(is_uniform).unwrap();
    shortest.max(sticky_length(zone, led(ecs.address()).as_ref(), is_v4))
}

/// Where draws depend on the client's network, caches mustn't share beyond it.
fn sticky_length(zone: &Zone, led: Option<&Led>, is_v4: bool) -> u8 {
    let Some((pool, endpoints)) = led.and_then(|led| led.pool.as_ref()) else { return 0 };
    let pool = &zone.pools[pool];
    let is_choice = match pool.answer {
        AnswerMode::All => false,
        AnswerMode::One => endpoints.len() > 1,
        AnswerMode::UpTo(count) => endpoints.len() > usize::from(count.max(1)),
    };
    match pool.sticky {
        Some(sticky) if is_choice => {
            if is_v4 {
                sticky.ipv4_prefix
            } else {
                sticky.ipv6_prefix
            }
        }
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn scopes_are_the_shortest_that_are_right(
        mut zone in world::zone(),
        policy in world::policy(),
        world in world::world(),
        health in world::health(),
        clients in prop::collection::vec((world::client(), world::prefix()), 1..8),
    ) {
        zone.settings.ecs = true;
        let owner: Name = name("www.example.com");
        zone.policies.insert((owner, Rtype::A.to_int()), policy);
        let (part, geo) = (Part::compile(&apex(), zone.rrsets()).unwrap(), world.geo());
        for (client, ecs) in &clients {
            let client = Client { ecs: Some(*ecs), ..*client };
            need_scopes(&zone, &world, &health, &part, &geo, &client, *ecs)?;
        }
    }
}

proptest! {
    // A table that keeps scopes is large.
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn scopes_that_are_kept_hold_for_what_they_were_found_for(
        mut zones in prop::collection::vec(world::zone(), 3),
        policy in world::policy(),
        world in world::world(),
        other_world in world::world(),
        (health, other_health) in (world::health(), world::health()),
        clients in prop::collection::vec((world::client(), world::prefix()), 1..8),
    ) {
        let owner: Name = name("www.example.com");
        for zone in &mut zones {
            zone.settings.ecs = true;
            // The same rules, with other pools and views.
            zone.policies.insert((owner.clone(), Rtype::A.to_int()), policy.clone());
        }
        let parts = zones.iter().map(|zone| Part::compile(&apex(), zone.rrsets()).unwrap()).collect::<Vec<_>>();
        let edited = parts[0].with(zones[1].rrsets(), zones[0].rrsets().into_keys().filter(|key| !zones[1].rrsets().contains_key(key))).unwrap();
        for world in [&world, &other_world] {
            let geo = world.geo().keeping_scopes();
            // Each is asked for again, from other sources too, after the part was another one.
            for (round, (zone, part)) in zones.iter().zip(&parts).chain([(&zones[1], &edited), (&zones[0], &parts[0])]).enumerate() {
                for (place, (client, ecs)) in clients.iter().enumerate() {
                    let source = clients[(place + round) % clients.len()].0.source;
                    for client in [Client { ecs: Some(*ecs), ..*client }, Client { ecs: Some(*ecs), source, ..*client }] {
                        // Endpoints go down and up meanwhile.
                        for health in [&health, &other_health, &Health::default()] {
                            need_scopes(zone, world, health, part, &geo, &client, *ecs)?;
                        }
                    }
                }
            }
        }
    }
}

/// Asks for every name and compares, with a table that keeps nothing for what is decided.
fn need_scopes(
    zone: &Zone,
    world: &World,
    health: &Health,
    part: &Part,
    geo: &Geo,
    client: &Client,
    ecs: Prefix,
) -> Result<(), TestCaseError> {
    for (asked, rtype) in ASKED.iter().flat_map(|asked| TYPES.map(|rtype| (name(asked), rtype))) {
        let Some((_, policy)) = zone.policy(&asked, rtype) else { continue };
        let decide = |geo: &Geo| {
            let mut out = Vec::with_capacity(1000);
            let known = Knowledge { geo, health: health.health() };
            let decision = part.decide(asked.as_wire(), rtype, client, &known, &mut out, &mut ());
            (decision, out)
        };
        let decided = decide(geo);
        let expected = scope(zone, world, health, policy, rtype, client, ecs);
        prop_assert_eq!(decided.0.scope, Some(expected), "{} {} {}", asked, rtype, ecs);
        prop_assert_eq!(decided, decide(&world.geo()), "{} {} {}", asked, rtype, ecs);
    }
    Ok(())
}

/// A zone whose one policy has these rules.
fn zone_of_rules(rules: Vec<Rule>) -> Part {
    let pool = |number: u8| {
        let records = vec![EndpointRecords { rtype: Rtype::A, rdatas: Rdatas::single(&[10, 0, 0, number]) }];
        let endpoint = Endpoint {
            name: "e".into(),
            records,
            weight: 1,
            state: EndpointState::Enabled,
            location: None,
            bias: 0,
            monitor: None,
        };
        Pool { ttl: 60, answer: AnswerMode::All, sticky: None, min_healthy: 0, endpoints: vec![endpoint] }
    };
    let zone = Zone {
        settings: Settings { ecs: true, ..Settings::default() },
        pools: (0..3).map(|number| (format!("p{number}"), pool(number))).collect(),
        policies: [((name("www.example.com"), Rtype::A.to_int()), Policy::of_rules(rules))].into(),
        ..Zone::default()
    };
    Part::compile(&apex(), zone.rrsets()).unwrap()
}

fn scope_of(part: &Part, geo: &Geo, ecs: &str) -> u8 {
    let client =
        Client { source: "192.0.2.1".parse().unwrap(), ecs: Some(ecs.parse().unwrap()), pop: 0, draw: 0 };
    let mut out = Vec::with_capacity(65_536);
    part.decide(
        name("www.example.com").as_wire(),
        Rtype::A,
        &client,
        &Knowledge::places(geo),
        &mut out,
        &mut (),
    )
    .scope
    .unwrap()
}

fn prefix_rule(prefixes: Vec<Prefix>, pool: &str) -> Rule {
    Rule { name: None, when: When { prefixes, ..When::default() }, pools: vec![pool.into()], nearest: false }
}

#[test]
fn rules_that_lead_to_the_same_are_no_border_and_exceptions_in_them_are() {
    let prefix = |text: &str| text.parse::<Prefix>().unwrap();
    let rules = vec![
        prefix_rule(vec![prefix("10.1.2.0/24")], "p1"),
        prefix_rule(vec![prefix("10.0.0.0/9")], "p0"),
        prefix_rule(vec![prefix("10.128.0.0/9")], "p0"),
        prefix_rule(Vec::new(), "p2"),
    ];
    let part = zone_of_rules(rules);
    for geo in [Geo::empty(), Geo::empty().keeping_scopes()] {
        for _ in 0..2 {
            assert_eq!(scope_of(&part, &geo, "10.200.0.0/24"), 9);
            assert_eq!(scope_of(&part, &geo, "10.2.0.0/24"), 15);
            assert_eq!(scope_of(&part, &geo, "10.1.3.0/24"), 24);
            assert_eq!(scope_of(&part, &geo, "10.1.2.7/32"), 24);
            assert_eq!(scope_of(&part, &geo, "11.0.0.0/24"), 8);
            assert_eq!(scope_of(&part, &geo, "192.0.2.0/24"), 1);
        }
    }
}

#[test]
fn policies_at_their_limits_have_scopes_that_are_right() {
    // Every other /20 is in one rule or the other, and one network is in none.
    let networks = |first: u32| {
        (0..4_000_u32).map(move |n| Prefix::new(IpAddr::V4(((first + 2 * n) << 12).into()), 20).unwrap())
    };
    let split = [networks(0), networks(1)].map(|all| {
        let all: Vec<Prefix> = all.collect();
        all.chunks(42).map(<[Prefix]>::to_vec).collect::<Vec<_>>()
    });
    let rules = |pools: [&str; 2]| -> Vec<Rule> {
        let rules = split.iter().zip(pools);
        rules
            .flat_map(|(chunks, pool)| chunks.iter().map(move |chunk| prefix_rule(chunk.clone(), pool)))
            .collect()
    };
    let geo = Geo::empty();
    let apart = rules(["p0", "p1"]);
    assert!(apart.len() > 190 && apart.len() <= RULES_MAX, "{}", apart.len());
    let apart = zone_of_rules(apart);
    assert_eq!(scope_of(&apart, &geo, "1.2.3.0/24"), 20);
    // They lead to the same, and are too many to find all of them: what is found holds for all in it.
    let same = zone_of_rules(rules(["p0", "p0"]));
    let scope = scope_of(&same, &geo, "1.2.3.0/24");
    assert!((6..20).contains(&scope), "{scope}");
    // Outside of all there is one border alone.
    assert_eq!(scope_of(&same, &geo, "192.0.2.0/24"), 1);
}
