//! The scope of an answer is the length of the shortest prefix that holds the client and in which everybody is led to the same: never
//! shorter, so that no cache is poisoned, and never longer, so that none is split for nothing.

mod world;

use std::net::IpAddr;

use herald_core::Name;
use herald_core::steering::{AnswerMode, Policy, Prefix};
use proptest::prelude::*;
use steering::{Client, Part};
use world::{ASKED, Led, TYPES, World, Zone, address_number, apex, name, number_address, starts};

/// The scope by trying every prefix around the client, with one address of each stretch in which nothing can change.
fn scope(
    zone: &Zone,
    world: &World,
    policy: &Policy,
    rtype: herald_core::Rtype,
    client: &Client,
    ecs: Prefix,
) -> u8 {
    if ecs.length() == 0 {
        return 0;
    }
    let is_v4 = ecs.address().is_ipv4();
    let bits: u8 = if is_v4 { 32 } else { 128 };
    let led = |address: IpAddr| zone.led(policy, rtype, client, address, &world.facts(address));
    let here = led(ecs.address());
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
            .all(|address| led(address) == here)
    };
    let shortest = (0..=bits).find(is_uniform).unwrap();
    shortest.max(sticky_length(zone, here.as_ref(), is_v4))
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
        clients in prop::collection::vec((world::client(), world::prefix()), 1..8),
    ) {
        zone.settings.ecs = true;
        let owner: Name = name("www.example.com");
        zone.policies.insert((owner, herald_core::Rtype::A.to_int()), policy);
        let (part, geo) = (Part::compile(&apex(), zone.rrsets()).unwrap(), world.geo());
        for (client, ecs) in &clients {
            let client = Client { ecs: Some(*ecs), ..*client };
            for (asked, rtype) in ASKED.iter().flat_map(|asked| TYPES.map(|rtype| (name(asked), rtype))) {
                let Some((_, policy)) = zone.policy(&asked, rtype) else { continue };
                let mut out = Vec::with_capacity(1000);
                let decision = part.decide(asked.as_wire(), rtype, &client, &geo, &mut out, &mut ());
                let expected = scope(&zone, &world, policy, rtype, &client, *ecs);
                prop_assert_eq!(decision.scope, Some(expected), "{} {} {}", asked, rtype, ecs);
            }
        }
    }
}
