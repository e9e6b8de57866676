//! The emptiness brake: what a PoP would lose is held back, whatever comes between, till an operator's word.

use std::collections::HashMap;
use std::time::Instant;

use herald_core::brakes::Brakes;
use herald_wire::api::HeldWhy;

use super::pop::Held;
use super::*;

type Zones = HashMap<ZoneId, Held>;

/// At most 5 zones, or 20 % of more, may go within an hour; much of a zone is half of 20 RRsets.
const BRAKES: Brakes = Brakes { zone_percent: 50, zone_rrsets_min: 20, pop_percent: 20, pop_zones_min: 5 };

/// A platform of `zones` zones and one PoP that holds them all.
async fn fleet_of(zones: usize) -> (Fleet, TestPop, Vec<ZoneId>) {
    let fleet = Fleet::new(&["fra1"]).await;
    fleet.platform.operate(Action::SetBrakes(BRAKES)).await;
    let mut ids = Vec::new();
    for n in 0..zones {
        ids.push(fleet.platform.create(&format!("z{n}.example")).await);
    }
    let mut pop = fleet.connect("fra1").await;
    settle(&mut pop, &wanted(&fleet.state())).await;
    (fleet, pop, ids)
}

/// Takes in what comes till the PoP holds just this, and hears that it should. Whatever a ping says it must hold,
/// it holds: nothing that is held back is drift.
async fn settle(pop: &mut TestPop, zones: &Zones) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline, "it holds {:?}", pop.replica.zones.values());
        let (length, frame) = pop.connection.next().await.expect("the session goes on");
        let ToPop::Ping { holding, in_sync, .. } = frame else {
            pop.took(length, &frame).await;
            continue;
        };
        let Some(holding) = holding else { continue };
        assert_eq!(holding, pop.replica.holding(), "a ping says what it holds");
        if in_sync && pop.replica.zones == *zones {
            return;
        }
    }
}

/// What the state says, and these zones as they were.
fn with(state: &State, held: &Zones, ids: &[ZoneId]) -> Zones {
    let mut zones = wanted(state);
    zones.extend(ids.iter().map(|id| (*id, held[id].clone())));
    zones
}

async fn release(platform: &Platform, pop: PopId) -> u64 {
    platform.operate(Action::ReleasePops { pop: Some(pop), revision: None }).await.revision
}

async fn stands(publisher: &Publisher, revision: u64) -> PopSyncState {
    publisher.receipt(revision).await.unwrap().pops[0].state
}

#[tokio::test]
async fn a_loss_of_too_many_zones_waits_for_a_word() {
    let (fleet, mut pop, ids) = fleet_of(20).await;
    let before = wanted(&fleet.state());
    let id = fleet.pop("fra1");
    // Four go as always, one after another.
    for zone in &ids[..4] {
        let deleted = fleet.platform.submit(delete_zone(*zone)).await.unwrap();
        settle(&mut pop, &wanted(&fleet.state())).await;
        assert!(fleet.wait(deleted.revision).await);
    }
    assert!(fleet.publisher.pop_view(id).held.is_none());
    // The fifth within the hour is too much, and so is all that follows.
    let mut last = 0;
    for zone in &ids[4..10] {
        last = fleet.platform.submit(delete_zone(*zone)).await.unwrap().revision;
    }
    let held = &ids[4..10];
    // Others go on, and one that is new comes.
    fleet.platform.submit(put_a(ids[15], "www.z15.example", [192, 0, 2, 1])).await.unwrap();
    let created = fleet.platform.create("new.example").await;
    settle(&mut pop, &with(&fleet.state(), &before, held)).await;
    assert!(pop.replica.zones.contains_key(&created));

    // The receipt says so, and nobody waits in vain.
    assert_eq!(stands(&fleet.publisher, last).await, PopSyncState::Held);
    let long = tokio::time::Instant::now() + Duration::from_secs(3600);
    assert!(!fleet.publisher.wait(last, Wait::All, long).await);
    // It is on the log, and shown.
    until(|| fleet.state().pop(id).and_then(|pop| pop.held)).await;
    let view = fleet.publisher.pop_view(id);
    let shown = view.held.unwrap();
    assert_eq!((shown.zones, shown.first.len(), view.zones_pending), (6, 6, 0));
    assert_eq!(shown.reason, "5 of its 20 zones would have been gone within an hour");
    assert_eq!(shown.first[0].name.as_deref(), Some("z4.example."));
    assert_eq!(shown.first[0].why, HeldWhy::Gone);
    let mut metrics = String::new();
    fleet.publisher.metrics(&mut metrics);
    assert!(metrics.contains("herald_pop_zones_held{pop=\"fra1\"} 6\n"), "{metrics}");
    assert!(metrics.contains("herald_pop_brake_set{pop=\"fra1\"} 1\n"), "{metrics}");

    // Another session finds the same, though by now fewer would go than is too much.
    for _ in 0..2 {
        pop = fleet.connect_with("fra1", pop.replica.clone()).await;
        settle(&mut pop, &with(&fleet.state(), &before, held)).await;
        assert_eq!(stands(&fleet.publisher, last).await, PopSyncState::Held);
    }
    // A word as of before is none for what came after.
    let early = fleet.state().pop(id).unwrap().held.unwrap().revision - 1;
    fleet.platform.operate(Action::ReleasePops { pop: Some(id), revision: Some(early) }).await;
    settle(&mut pop, &with(&fleet.state(), &before, held)).await;

    release(&fleet.platform, id).await;
    settle(&mut pop, &wanted(&fleet.state())).await;
    assert!(fleet.wait(last).await);
    assert!(fleet.publisher.pop_view(id).held.is_none());
    // What was let go does not count any more: four more may go.
    for zone in &ids[10..14] {
        let deleted = fleet.platform.submit(delete_zone(*zone)).await.unwrap();
        assert!(until_known(&fleet, &mut pop, deleted.revision).await);
    }
}

/// Takes frames in till a change is in sync.
async fn until_known(fleet: &Fleet, pop: &mut TestPop, revision: u64) -> bool {
    settle(pop, &wanted(&fleet.state())).await;
    fleet.wait(revision).await
}

/// The control plane forgets all but its log, and the PoP was away for long.
#[tokio::test]
async fn what_is_held_back_stays_so_after_a_restart_and_a_long_absence() {
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let secret_hash = Sha256::digest(SECRET).into();
    platform.operate(Action::CreatePop { name: "fra1".into(), secret_hash, region: None }).await;
    platform.operate(Action::SetBrakes(BRAKES)).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(platform.create(&format!("z{n}.example")).await);
    }
    let before = wanted(&platform.engine.state());
    let mut replica =
        Replica { zones: before.clone(), newest: platform.engine.state().head(), ..Replica::default() };
    let (principal, tenant) = (platform.operator, platform.tenant);
    for zone in &ids[..6] {
        platform.submit(delete_zone(*zone)).await.unwrap();
    }
    let store = platform.stop().await;
    for round in 0..3 {
        let shared = Arc::new(Shared::default());
        let (engine, writer) = start(&store, shared.on_commit()).unwrap();
        let publisher = Publisher::new(engine.clone(), shared);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(publisher.clone().serve(listener, None, shutdown.clone()));
        let id = engine.state().pops().next().unwrap().id;
        let mut pop = TestPop::connect(address, "fra1", SECRET, replica).await;
        match round {
            // Six of ten: the loss is measured against what it holds.
            0 => {
                settle(&mut pop, &with(&engine.state(), &before, &ids[..6])).await;
                until(|| engine.state().pop(id).and_then(|pop| pop.held)).await;
            }
            // One more, which by itself would be little; and a name that is taken again is no loss.
            1 => {
                submit(&engine, tenant, delete_zone(ids[6])).await.unwrap();
                submit(&engine, tenant, create_zone("z0.example")).await.unwrap();
                settle(&mut pop, &with(&engine.state(), &before, &ids[1..7])).await;
                assert_eq!(publisher.pop_view(id).held.unwrap().zones, 6);
            }
            _ => {
                settle(&mut pop, &with(&engine.state(), &before, &ids[1..7])).await;
                let release = Action::ReleasePops { pop: None, revision: None };
                submit(&engine, principal, release).await.unwrap();
                settle(&mut pop, &wanted(&engine.state())).await;
                assert!(publisher.pop_view(id).held.is_none());
            }
        }
        replica = pop.replica.clone();
        drop(pop);
        shutdown.cancel();
        serving.await.unwrap();
        drop((engine, publisher));
        tokio::task::spawn_blocking(|| writer.join()).await.unwrap();
    }
}

#[tokio::test]
async fn much_of_a_zone_that_is_gone_on_nobodys_word_is_held_back() {
    let (fleet, mut pop, ids) = fleet_of(3).await;
    let hosts = |n: usize| format!("h{n}.z0.example");
    let put = (0..40).map(|n| put_txt(&hosts(n), 256, 0)).collect();
    fleet.platform.submit(edit(ids[0], put)).await.unwrap();
    let put = (0..40).map(|n| put_txt(&format!("h{n}.z1.example"), 256, 0)).collect();
    fleet.platform.submit(edit(ids[1], put)).await.unwrap();
    settle(&mut pop, &wanted(&fleet.state())).await;
    let before = wanted(&fleet.state());
    let replica = pop.replica.clone();
    drop(pop);
    let delete = |owner: String| RrsetEdit {
        key: RrKey::new(name(&owner), Rtype::TXT),
        if_match: None,
        op: EditOp::Delete,
    };
    // Bit by bit while the PoP is away: nobody was asked. Of the other all at once, and it was said to be meant.
    for ten in 0..3 {
        let edits = (10 * ten..10 * ten + 10).map(|n| delete(hosts(n))).collect();
        fleet.platform.submit(edit(ids[0], edits)).await.unwrap();
    }
    let edits = (0..40).map(|n| delete(format!("h{n}.z1.example"))).collect();
    fleet.platform.submit(edit(ids[1], edits)).await.unwrap();

    let mut pop = fleet.connect_with("fra1", replica).await;
    settle(&mut pop, &with(&fleet.state(), &before, &ids[..1])).await;
    let id = fleet.pop("fra1");
    let shown = fleet.publisher.pop_view(id).held.unwrap();
    assert_eq!((shown.zones, shown.first[0].why), (1, HeldWhy::Shrunk));
    // What is changed of it stays held as well; it is no reason to hold others.
    let changed = fleet.platform.submit(put_a(ids[0], "www.z0.example", [192, 0, 2, 1])).await.unwrap();
    fleet.platform.submit(delete_zone(ids[2])).await.unwrap();
    settle(&mut pop, &with(&fleet.state(), &before, &ids[..1])).await;
    assert_eq!(stands(&fleet.publisher, changed.revision).await, PopSyncState::Held);

    release(&fleet.platform, id).await;
    settle(&mut pop, &wanted(&fleet.state())).await;
    assert!(fleet.wait(changed.revision).await);
}

/// Or it is filled again, which needs no word.
#[tokio::test]
async fn a_zone_that_is_filled_again_is_held_no_more() {
    let (fleet, mut pop, ids) = fleet_of(1).await;
    let put = |to: usize| (0..to).map(|n| put_txt(&format!("h{n}.z0.example"), 256, 0)).collect();
    fleet.platform.submit(edit(ids[0], put(40))).await.unwrap();
    settle(&mut pop, &wanted(&fleet.state())).await;
    let (before, replica) = (wanted(&fleet.state()), pop.replica.clone());
    drop(pop);
    for ten in 0..3 {
        let delete = |n| RrsetEdit {
            key: RrKey::new(name(&format!("h{n}.z0.example")), Rtype::TXT),
            if_match: None,
            op: EditOp::Delete,
        };
        let edits = (10 * ten..10 * ten + 10).map(delete).collect();
        fleet.platform.submit(edit(ids[0], edits)).await.unwrap();
    }
    let mut pop = fleet.connect_with("fra1", replica).await;
    settle(&mut pop, &before).await;
    let filled = fleet.platform.submit(edit(ids[0], put(30))).await.unwrap();
    settle(&mut pop, &wanted(&fleet.state())).await;
    assert!(fleet.wait(filled.revision).await);
    assert!(fleet.publisher.pop_view(fleet.pop("fra1")).held.is_none());
}

/// Whatever the PoP turns out to have of what is held back, that is what it goes on with.
#[tokio::test]
async fn drift_in_what_is_held_back_is_told_from_a_loss() {
    let (fleet, pop, ids) = fleet_of(10).await;
    let before = wanted(&fleet.state());
    let replica = pop.replica.clone();
    drop(pop);
    for zone in &ids[..6] {
        fleet.platform.submit(delete_zone(*zone)).await.unwrap();
    }
    let mut pop = fleet.connect_with("fra1", replica).await;
    settle(&mut pop, &with(&fleet.state(), &before, &ids[..6])).await;
    // It loses one of them and one that is to be served, and another becomes another.
    pop.replica.zones.remove(&ids[0]);
    pop.replica.zones.remove(&ids[9]);
    let changed = pop.replica.zones.get_mut(&ids[1]).unwrap();
    changed.content.delete(&RrKey::new(name("z1.example"), Rtype::NS));
    pop.tell_drift().await;
    let mut expected = with(&fleet.state(), &before, &ids[2..6]);
    expected.insert(ids[1], pop.replica.zones[&ids[1]].clone());
    settle(&mut pop, &expected).await;
    let view = fleet.publisher.pop_view(fleet.pop("fra1"));
    assert_eq!((view.held.unwrap().zones, view.drift.found), (5, 2));
    until(|| (fleet.publisher.pop_view(fleet.pop("fra1")).drift.mended == 2).then_some(())).await;
    let mut metrics = String::new();
    fleet.publisher.metrics(&mut metrics);
    assert!(metrics.contains("herald_pop_drift_found_total{pop=\"fra1\"} 2\n"), "{metrics}");
    assert!(metrics.contains("herald_pop_drift_mended_total{pop=\"fra1\"} 2\n"), "{metrics}");
    assert!(metrics.contains("herald_pop_drift_last_seconds{pop=\"fra1\"} 1"), "{metrics}");
}

/// It had confirmed it, and nothing of it was changed: what it has was damaged.
#[tokio::test]
async fn a_zone_that_is_asked_for_again_had_drifted() {
    let (fleet, mut pop, ids) = fleet_of(2).await;
    let generation = fleet.state().zone(ids[0]).unwrap().generation;
    pop.connection.send(&refuse(ids[0], generation)).await.unwrap();
    let frame = pop.step().await.unwrap();
    assert_eq!(shown(&frame), ("begin", Some(ids[0])));
    settle(&mut pop, &wanted(&fleet.state())).await;
    let drift = || fleet.publisher.pop_view(fleet.pop("fra1")).drift;
    until(|| (drift().mended == 1).then_some(())).await;
    assert!(drift().found == 1 && drift().last_ms.is_some());
}

/// A zone that has yet to reach the PoP when it is lost with others still does.
#[tokio::test]
async fn what_was_on_its_way_is_held_as_it_was_to_be() {
    let (fleet, pop, ids) = fleet_of(10).await;
    let (before, replica) = (wanted(&fleet.state()), pop.replica.clone());
    drop(pop);
    let large = fleet.create_large("large.example", 2 * BULK_WINDOW_BYTES as usize).await;
    let mut pop = fleet.connect_with("fra1", replica).await;
    pop.gives_credit = false;
    // Part of it is on its way, and no more comes without credit.
    while pop.uncredited < BULK_WINDOW_BYTES {
        pop.step().await.unwrap();
    }
    let mut zones = wanted(&fleet.state());
    for zone in ids[..7].iter().chain([&large]) {
        fleet.platform.submit(delete_zone(*zone)).await.unwrap();
    }
    pop.gives_credit = true;
    pop.credit().await;
    zones.retain(|zone, _| *zone == large || before.contains_key(zone));
    // The first four may have gone before it was too much.
    let revision = fleet.state().revision();
    let deadline = Instant::now() + Duration::from_secs(20);
    while pop.replica.zones.get(&large) != zones.get(&large) {
        assert!(Instant::now() < deadline);
        pop.step().await.unwrap();
    }
    let gone: Vec<ZoneId> =
        ids[..7].iter().copied().filter(|zone| !pop.replica.zones.contains_key(zone)).collect();
    assert!(gone.len() <= 4, "{gone:?}");
    zones.retain(|zone, _| !gone.contains(zone));
    settle(&mut pop, &zones).await;
    assert_eq!(stands(&fleet.publisher, revision).await, PopSyncState::Held);
    release(&fleet.platform, fleet.pop("fra1")).await;
    settle(&mut pop, &wanted(&fleet.state())).await;
}
