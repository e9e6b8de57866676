//! Random commits, disconnects, reconnects and lost zones: in the end every PoP has what the state says.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use herald_core::brakes::Brakes;
use herald_core::change::Evidence;
use herald_core::command::ZoneRef;

use super::*;

/// Small numbers of no quality, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A PoP that goes away, comes back and loses zones, till it is told to be calm.
async fn restless_pop(
    address: SocketAddr,
    name: &str,
    mut random: Random,
    is_calm: &AtomicBool,
    replica: &Mutex<Replica>,
) {
    loop {
        let kept = replica.lock().unwrap().clone();
        let connection = match random.one_in(2) {
            true => Connection::open(address).await,
            false => Connection::open_narrow(address).await,
        };
        let mut pop = TestPop::begin(connection, name, SECRET, kept).await;
        let was_calm = is_calm.load(Ordering::Relaxed);
        let frames = 1 + random.below(200);
        for _ in 0..frames {
            // What it lost it tells when it comes back; after that it stays.
            let is_calm = is_calm.load(Ordering::Relaxed);
            if is_calm && !was_calm {
                break;
            }
            if !is_calm && random.one_in(30) {
                // On an odd day it gives credit late, or loses something.
                pop.gives_credit = !pop.gives_credit;
                let ids: Vec<ZoneId> = pop.replica.zones.keys().copied().collect();
                if !ids.is_empty() {
                    let lost = ids[random.below(ids.len())];
                    pop.replica.zones.remove(&lost);
                    pop.replica.lost.insert(lost);
                }
            }
            // Late, and not never.
            if pop.uncredited > 1 << 20 {
                pop.credit().await;
            }
            let frame = pop.step().await;
            *replica.lock().unwrap() = pop.replica.clone();
            if frame.is_none() {
                return;
            }
        }
    }
}

/// A random command on a few names that two tenants fight for.
fn command(random: &mut Random, fleet: &Fleet, tenants: &[Principal], n: u32) -> (Principal, Action) {
    let state = fleet.state();
    let tenant = tenants[random.below(tenants.len())];
    let zones: Vec<_> = state.zones().collect();
    let zone = (!zones.is_empty()).then(|| zones[random.below(zones.len())]);
    let operator = fleet.platform.operator;
    match (random.below(20), zone) {
        (0..3, _) | (_, None) => (tenant, create_zone(&format!("z{}.example", random.below(8)))),
        (3, Some(zone)) => (operator, delete_zone(zone.id)),
        (4 | 5, Some(zone)) => {
            (operator, Action::ActivateZone { zone: ZoneRef::Id(zone.id), by: Evidence::Operator })
        }
        (6, Some(zone)) => {
            // A lot at once: too long for a delta.
            let mark = u8::try_from(n % 251).unwrap();
            let edits = (0..20).map(|h| put_txt(&format!("h{h}.{}", zone.name), 16 * 1024, mark)).collect();
            (operator, edit(zone.id, edits))
        }
        (7, Some(zone)) => {
            let keys = zone.content.iter().map(|(key, _)| key.clone());
            let keys = keys.filter(|key| key.owner != zone.name).take(5);
            let delete = |key| RrsetEdit { key, if_match: None, op: EditOp::Delete };
            (operator, edit(zone.id, keys.map(delete).collect()))
        }
        (_, Some(zone)) => {
            let owner = format!("h{}.{}", random.below(30), zone.name);
            let [.., a, b] = n.to_be_bytes();
            (operator, put_a(zone.id, &owner, [192, 0, a, b]))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_pops_end_with_what_the_state_says() {
    for seed in 1..=6 {
        converge(seed).await;
    }
}

async fn converge(seed: u64) {
    const POPS: [&str; 3] = ["fra1", "nyc1", "sin1"];
    let fleet = Fleet::new(&POPS).await;
    // What is held back is looked at elsewhere.
    let off = Brakes { zone_percent: 100, pop_percent: 100, ..Brakes::default() };
    fleet.platform.operate(Action::SetBrakes(off)).await;
    let tenants = [fleet.platform.tenant, fleet.second_tenant().await];
    let is_calm = Arc::new(AtomicBool::new(false));
    let replicas: Vec<Arc<Mutex<Replica>>> = POPS.iter().map(|_| Arc::default()).collect();
    let mut pops = tokio::task::JoinSet::new();
    for (n, (name, replica)) in POPS.into_iter().zip(&replicas).enumerate() {
        let (address, replica, is_calm) = (fleet.address, Arc::clone(replica), Arc::clone(&is_calm));
        let random = Random(seed * 1000 + n as u64 + 1);
        pops.spawn(async move { restless_pop(address, name, random, &is_calm, &replica).await });
    }

    let mut random = Random(seed);
    let mut last = 0;
    for n in 0..400 {
        // Some at once, so that they make groups.
        let mut group = tokio::task::JoinSet::new();
        for _ in 0..=random.below(4) {
            let (principal, action) = command(&mut random, &fleet, &tenants, n);
            let engine = fleet.platform.engine.clone();
            group.spawn(async move { submit(&engine, principal, action).await });
        }
        for committed in group.join_all().await.into_iter().flatten() {
            last = last.max(committed.revision);
        }
    }
    is_calm.store(true, Ordering::Relaxed);
    // What wakes them up.
    let wake = fleet.platform.create("wake.example").await;
    last = last.max(fleet.platform.zone(wake).revision);

    // Every receipt says so, and so it is.
    for revision in 1..=last {
        assert!(fleet.wait(revision).await, "seed {seed}: change {revision} is not in sync everywhere");
    }
    let wanted = wanted(&fleet.state());
    for (replica, name) in replicas.iter().zip(POPS) {
        let has_all = || (replica.lock().unwrap().zones == wanted).then_some(());
        until(has_all).await;
        let tracker = fleet.publisher.shared.tracker();
        until(|| tracker.zones_pending(fleet.pop(name)).filter(|pending| *pending == 0)).await;
    }
    // They end with the publisher.
    fleet.shutdown.cancel();
    pops.abort_all();
    while let Some(ended) = pops.join_next().await {
        assert!(ended.is_ok() || ended.is_err_and(|e| e.is_cancelled()), "seed {seed}");
    }
}
