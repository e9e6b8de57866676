//! The query log: who may switch it on, for how long, of how many zones, and that it goes with its zone.

use proptest::prelude::*;

use super::*;
use crate::account::{NamePattern, Verb, ZonePattern};
use crate::limits::Limit;
use crate::query_log::{LATE_MS, LOG_MS_MAX, ONE_IN_MAX, QueryLog, ZONES_MAX};
use crate::rejection::RejectionKind::{Conflict, Forbidden, Invalid, NotFound, Quota};

fn set(zone: ZoneId, for_ms: Option<u64>, one_in: u32) -> Action {
    Action::SetQueryLog { zone: ZoneRef::Id(zone), for_ms, one_in }
}

fn end(zone: ZoneId) -> Action {
    Action::EndQueryLog { zone: ZoneRef::Id(zone) }
}

fn tenant_of(principal: Principal) -> TenantId {
    let Principal::Tenant { tenant, .. } = principal else { panic!("{principal:?}") };
    tenant
}

fn is_on(world: &World, zone: ZoneId) -> bool {
    world.state.query_log(zone).is_some_and(|log| log.is_on_at(world.time_ms))
}

#[test]
fn it_takes_the_right_to_change_the_zone() {
    let mut world = World::new();
    let (alice, bob) = (world.tenant("alice"), world.tenant("bob"));
    let zone = world.create(alice, "example.com").unwrap();
    let tenant = tenant_of(alice);
    let verbs = |verbs: &[Verb]| Scope { verbs: verbs.to_vec(), ..Scope::default() };
    let www = || vec![NamePattern::Name(Name::parse("www.example.com").unwrap())];
    let elsewhere = || vec![ZonePattern::Name(Name::parse("example.net").unwrap())];
    let here = || vec![ZonePattern::Name(Name::parse("example.com").unwrap())];
    for (scope, refused) in [
        (verbs(&[Verb::Read]), Some(Forbidden)),
        (verbs(&[Verb::Read, Verb::Write, Verb::Delete, Verb::Admin, Verb::Monitor]), Some(Forbidden)),
        (Scope { names: www(), ..Scope::default() }, Some(Forbidden)),
        (Scope { zones: elsewhere(), ..Scope::default() }, Some(NotFound)),
        (Scope { zones: here(), ..verbs(&[Verb::Create]) }, None),
    ] {
        let limited = world.token(Some(tenant), scope.clone());
        for action in [set(zone, None, 1), end(zone)] {
            let kind = world.run(limited, action).err().map(|rejection| rejection.kind);
            assert_eq!(kind, refused, "{scope:?}");
        }
    }
    for action in [set(zone, None, 1), end(zone)] {
        assert_eq!(world.run(bob, action).unwrap_err().kind, NotFound);
    }
    world.operate(set(zone, None, 1));
    assert!(is_on(&world, zone));
}

#[test]
fn it_runs_out_and_is_ended_before() {
    let mut world = World::new();
    let alice = world.tenant("alice");
    let zone = world.create(alice, "example.com").unwrap();
    let revision = world.zone(zone).revision;
    for (for_ms, one_in) in
        [(Some(0), 1), (Some(999), 1), (Some(LOG_MS_MAX + 1), 1), (None, 0), (None, ONE_IN_MAX + 1)]
    {
        let rejection = world.run(alice, set(zone, for_ms, one_in)).unwrap_err();
        assert_eq!(rejection.kind, Invalid);
        assert!(rejection.items[0].field.is_some(), "{rejection:?}");
    }
    assert!(world.run(alice, end(zone)).unwrap().changes.is_empty());
    let decision = world.run(alice, set(zone, None, ONE_IN_MAX)).unwrap();
    let (tenant, since_ms) = (tenant_of(alice), world.time_ms);
    let log = QueryLog { zone, tenant, since_ms, until_ms: since_ms + LOG_MS_MAX, one_in: ONE_IN_MAX };
    assert_eq!(decision.changes, [Change::QueryLogSet(log)]);
    world.time_ms += LOG_MS_MAX - 1;
    assert!(is_on(&world, zone));
    world.time_ms += 1;
    assert!(!is_on(&world, zone) && world.state.query_log(zone).unwrap().is_awaited_at(world.time_ms));
    assert!(world.run(alice, end(zone)).unwrap().changes.is_empty());
    world.run(alice, set(zone, Some(60_000), 1)).unwrap();
    world.time_ms += 1_000;
    world.run(alice, end(zone)).unwrap();
    assert!(!is_on(&world, zone));
    assert_eq!(world.state.query_log(zone).unwrap().until_ms, world.time_ms);
    // Neither content nor ETag of the zone are others.
    assert_eq!(world.zone(zone).revision, revision);
    // What is over is forgotten when somebody else switches it on.
    let other = world.create(alice, "example.net").unwrap();
    world.time_ms += LATE_MS;
    world.run(alice, set(other, None, 1)).unwrap();
    assert!(world.state.query_log(zone).is_none() && is_on(&world, other));
}

#[test]
fn a_clock_that_was_put_back_makes_it_no_longer() {
    let mut world = World::new();
    let alice = world.tenant("alice");
    let zone = world.create(alice, "example.com").unwrap();
    let before = world.time_ms;
    world.time_ms -= 5_000_000;
    world.run(alice, set(zone, Some(2_000), 1)).unwrap();
    let log = *world.state.query_log(zone).unwrap();
    assert_eq!((log.since_ms, log.until_ms), (before, before + 2_000));
}

#[test]
fn so_many_zones_at_a_time_and_no_more() {
    let mut world = World::new();
    let alice = world.tenant("alice");
    let tenant = tenant_of(alice);
    let limits = vec![(Limit::QueryLogs, Some(2))];
    let limited = Action::UpdateTenant { tenant, name: None, enabled: None, limits, source_prefixes: None };
    world.operate(limited.clone());
    let zones: Vec<ZoneId> =
        (0..3).map(|n| world.create(alice, &format!("z{n}.example.com")).unwrap()).collect();
    world.run(alice, set(zones[0], Some(10_000), 1)).unwrap();
    world.run(alice, set(zones[1], None, 1)).unwrap();
    let rejection = world.run(alice, set(zones[2], None, 1)).unwrap_err();
    assert_eq!(rejection.kind, Quota);
    assert!(rejection.detail.contains("query_logs"), "{}", rejection.detail);
    // One that is on is set otherwise.
    world.run(alice, set(zones[1], None, 7)).unwrap();
    // One that ran out is no more.
    world.time_ms += 10_000;
    world.run(alice, set(zones[2], None, 1)).unwrap();
    assert_eq!(world.run(alice, set(zones[0], None, 1)).unwrap_err().kind, Quota);

    // And of all tenants together.
    let Action::UpdateTenant { limits, .. } = limited else { unreachable!() };
    let limits = limits.into_iter().map(|(limit, _)| (limit, Some(1_000))).collect();
    world.operate(Action::UpdateTenant { tenant, name: None, enabled: None, limits, source_prefixes: None });
    let bob = world.tenant("bob");
    let of_bob = world.create(bob, "example.net").unwrap();
    for n in 0..ZONES_MAX - 2 {
        let zone = world.create(alice, &format!("y{n}.example.com")).unwrap();
        world.run(alice, set(zone, None, 1)).unwrap();
    }
    assert_eq!(world.run(bob, set(of_bob, None, 1)).unwrap_err().kind, Quota);
    world.run(alice, end(zones[1])).unwrap();
    world.run(bob, set(of_bob, None, 1)).unwrap();
}

#[test]
fn it_goes_with_its_zone_and_with_the_name() {
    let mut world = World::new();
    let (alice, bob) = (world.tenant("alice"), world.tenant("bob"));
    let zone = world.create(alice, "example.com").unwrap();
    let pending = world.create(bob, "example.com").unwrap();
    assert_eq!(world.run(bob, set(pending, None, 1)).unwrap_err().kind, Conflict, "nobody asks for it");
    world.run(alice, set(zone, None, 1)).unwrap();
    // Bob shows the better right: queries for the name are his from here on, and alice is to see none of them.
    world.activate(pending, Evidence::Txt).unwrap();
    assert!(world.state.query_log(zone).is_none());
    world.run(bob, set(pending, None, 1)).unwrap();
    world.run_confirmed(bob, Action::DeleteZone { zone: ZoneRef::Id(pending), if_match: None }).unwrap();
    assert!(world.state.query_log(pending).is_none());
}

proptest! {
    /// Whatever is done, a checkpoint leads to the same, and differences tell what changed.
    #[test]
    fn a_checkpoint_says_the_same(steps in prop::collection::vec((0usize..4, 0u8..5, 0u64..2_000_000), 1..40)) {
        let mut world = World::new();
        let alice = world.tenant("alice");
        let zones: Vec<ZoneId> =
            (0..4).map(|n| world.create(alice, &format!("z{n}.example.com")).unwrap()).collect();
        for (zone, what, wait_ms) in steps {
            world.time_ms += wait_ms;
            let before = world.state.clone();
            let action = match what {
                0 => end(zones[zone]),
                _ => set(zones[zone], Some(wait_ms.clamp(1_000, LOG_MS_MAX)), 1),
            };
            world.run(alice, action).unwrap();
            let changed: Vec<ZoneId> = before.query_logs_diff(&world.state).collect();
            for zone in &zones {
                let differs = before.query_log(*zone) != world.state.query_log(*zone);
                prop_assert_eq!(changed.contains(zone), differs);
            }
            let mut restored = State::default();
            let at = At { generation: world.state.head(), time_ms: world.state.time_ms() };
            world.state.to_changes().for_each(|change| restored.apply(at, &change));
            let logs = |state: &State| state.query_logs().copied().collect::<Vec<_>>();
            prop_assert_eq!(logs(&world.state), logs(&restored));
        }
    }
}
