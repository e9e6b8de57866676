//! The emptiness brake at the API: much of a zone goes on its caller's word only.

use super::*;
use crate::brakes::Brakes;
use crate::command::{EditOp, RrsetEdit, ZoneEdit};
use crate::rejection::RejectionKind::{Forbidden, Invalid, NeedsConfirmation, NotFound};
use crate::{PopId, RrKey};

/// Records `h1` to `h{count}`, each an RRset.
fn hosts(count: usize) -> String {
    (1..=count).map(|n| format!("h{n} A 192.0.2.{n}\n")).collect()
}

fn delete_hosts(zone: ZoneId, apex: &str, count: usize) -> ZoneEdit {
    let delete = |n| {
        let key = RrKey::new(name(&format!("h{n}.{apex}")), Rtype::A);
        RrsetEdit { key, if_match: None, op: EditOp::Delete }
    };
    ZoneEdit { zone: ZoneRef::Id(zone), if_match: None, edits: (1..=count).map(delete).collect() }
}

/// Content of as many hosts, and the apex NS.
fn content_with(zone: &str, count: usize) -> Prepared {
    let text = format!("$TTL 300\n@ NS ns1.herald.example.\n@ NS ns2.herald.example.\n{}", hosts(count));
    prepared(zone, content_of(zone, &text))
}

#[test]
fn who_removes_much_of_a_zone_is_asked_first() {
    let mut world = World::new();
    let tenant = world.tenant("acme");
    // 40 RRsets: the apex NS and 39 hosts.
    let zone = world.import(tenant, "example.com", &hosts(39));
    let small = world.import(tenant, "small.example", &hosts(18));
    let id = |zone| ZoneRef::Id(zone);
    let base = |world: &World| world.zone(zone).revision;
    let edits = |zones| Action::EditZones { zones };
    let replace = |world: &World, count| Action::ReplaceZone {
        zone: id(zone),
        base: base(world),
        content: content_with("example.com", count),
    };
    let delete = |zone| Action::DeleteZone { zone: id(zone), if_match: None };
    let held: Vec<(Action, &str, Option<usize>)> = vec![
        (
            edits(vec![delete_hosts(zone, "example.com", 21)]),
            "of example.com. with 41 records, 20 would be left",
            Some(0),
        ),
        (
            edits(vec![delete_hosts(small, "small.example", 18), delete_hosts(zone, "example.com", 39)]),
            "of example.com. with 41 records, 2 would be left",
            Some(1),
        ),
        (replace(&world, 18), "of example.com. with 41 records, 20 would be left", None),
        (delete(zone), "example.com. is deleted, with its 41 records", None),
    ];
    for (action, said, place) in held {
        let before = world.state.revision();
        let rejection = world.run(tenant, action.clone()).unwrap_err();
        assert_eq!(rejection.kind, NeedsConfirmation);
        assert_eq!(rejection.detail, format!("{said}: if that is meant, confirm it (`confirm=shrink`)"));
        assert_eq!(rejection.items.len(), 1);
        assert_eq!((rejection.items[0].zone, rejection.items[0].detail.as_str()), (place, said));
        assert_eq!(world.state.revision(), before, "nothing was done");
        // On the caller's word it is done, and what is left notes that it was given.
        let state = world.state.clone();
        let decision = world.run_confirmed(tenant, action).unwrap();
        let is_left = world.state.zone(zone).is_some();
        let confirmed = Change::ShrinkConfirmed { zones: vec![zone] };
        assert_eq!(decision.changes.contains(&confirmed), is_left);
        if is_left {
            assert_eq!(world.zone(zone).shrunk, Some(world.state.revision()));
        }
        world.state = state;
    }
    // Half of it may go, all of a small one, and what grows or stays goes through.
    let free = [
        edits(vec![delete_hosts(zone, "example.com", 20)]),
        edits(vec![delete_hosts(small, "small.example", 18)]),
        delete(small),
    ];
    for action in free {
        let decision = world.run(tenant, action).unwrap();
        assert!(!decision.changes.iter().any(|change| matches!(change, Change::ShrinkConfirmed { .. })));
    }
    world.run(tenant, replace(&world, 60)).unwrap();
    // A word that was not needed is not noted.
    let grown = world.run_confirmed(tenant, replace(&world, 61)).unwrap();
    assert_eq!((grown.changes.len(), world.zone(zone).shrunk), (1, None));
}

#[test]
fn operators_set_the_brake_and_let_go_what_it_holds() {
    let mut world = World::new();
    let (tenant, operator) = (world.tenant("acme"), world.operator);
    let zone = world.import(tenant, "example.com", &hosts(9));
    let kind = |result: Result<Decision, Rejection>| result.unwrap_err().kind;
    let brakes = Brakes { zone_percent: 10, zone_rrsets_min: 5, pop_percent: 30, pop_zones_min: 7 };
    assert_eq!(kind(world.run(tenant, Action::SetBrakes(brakes))), Forbidden);
    let wrong = Brakes { pop_percent: 101, ..brakes };
    assert_eq!(kind(world.run(operator, Action::SetBrakes(wrong))), Invalid);
    assert_eq!(world.operate(Action::SetBrakes(brakes)).changes, [Change::BrakesSet(brakes)]);
    assert!(world.operate(Action::SetBrakes(brakes)).changes.is_empty(), "as it is");
    let two = Action::EditZones { zones: vec![delete_hosts(zone, "example.com", 2)] };
    assert_eq!(kind(world.run(tenant, two)), NeedsConfirmation);

    let create = |name: &str| Action::CreatePop { name: name.into(), secret_hash: [0; 32], region: None };
    let Some(Subject::Pop(fra)) = world.operate(create("fra1")).subject else { panic!("no PoP") };
    let Some(Subject::Pop(nyc)) = world.operate(create("nyc1")).subject else { panic!("no PoP") };
    let release = |pop, revision| Action::ReleasePops { pop, revision };
    assert_eq!(kind(world.run(tenant, release(None, None))), Forbidden);
    assert_eq!(kind(world.run(operator, release(Some(PopId(1)), None))), NotFound);
    let head = world.state.revision();
    assert_eq!(kind(world.run(operator, release(None, Some(head + 1)))), Invalid);
    let released = |world: &World, pop| world.state.pop(pop).unwrap().released;
    world.operate(release(Some(fra), Some(3)));
    assert_eq!((released(&world, fra), released(&world, nyc)), (Some(3), None));
    world.operate(release(None, None));
    assert_eq!((released(&world, fra), released(&world, nyc)), (Some(head + 1), Some(head + 1)));
    // What was let go stays so.
    assert!(world.operate(release(None, Some(2))).changes.is_empty());

    // All of it survives a checkpoint.
    world.run_confirmed(tenant, Action::DeleteZone { zone: ZoneRef::Id(zone), if_match: None }).unwrap();
    let mut restored = State::default();
    let at = At { generation: Generation::default(), time_ms: 0 };
    world.state.to_changes().for_each(|change| restored.apply(at, &change));
    assert_eq!((restored.brakes(), restored.last_loss()), (&brakes, world.state.revision()));
    assert_eq!(restored.pop(fra).unwrap().released, Some(head + 1));
}
