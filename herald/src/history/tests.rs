use std::collections::BTreeMap;

use herald_core::State;
use herald_core::account::Principal;
use herald_core::change::Evidence;
use herald_core::command::{Action, Prepared, ZoneRef};
use herald_core::content::Content;
use herald_core::firewall::{self, PolicyZone, Rule, When};
use herald_core::history::ChangeKind;
use herald_core::{RrKey, Rtype};
use herald_store::Store;

use super::*;
use crate::engine::testing::*;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A number below `n`, by a generator that says the same each time (xorshift).
fn below(n: u64, seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % n
}

/// What was lived through: every state there was, and every zone.
#[derive(Default)]
struct Lived {
    states: Vec<Arc<State>>,
    zones: Vec<ZoneId>,
}

impl Lived {
    /// So many steps of a tenant's life.
    async fn live(&mut self, platform: &Platform, steps: usize, seed: &mut u64) {
        for _ in 0..steps {
            let pick = |lived: &Lived, seed: &mut u64| match lived.zones.len() as u64 {
                0 => ZoneId(0),
                // Mostly of those that are still there.
                count => {
                    let back = usize::try_from(below(count.min(5), seed)).unwrap();
                    lived.zones[lived.zones.len() - 1 - back]
                }
            };
            let zone = pick(self, seed);
            let name = format!("z{}.example.com", below(6, seed));
            let octet = u8::try_from(below(250, seed)).unwrap();
            let action = match below(14, seed) {
                0 | 1 => create_zone(&name),
                2 => delete_zone(zone),
                3 => Action::UpdateZone {
                    zone: ZoneRef::Id(zone),
                    if_match: None,
                    labels: Some(BTreeMap::from([("n".into(), octet.to_string())])),
                    ns_set: None,
                },
                4 => Action::ActivateZone { zone: ZoneRef::Id(zone), by: Evidence::Txt },
                5 | 6 => match platform.engine.state().zone(zone) {
                    None => create_zone(&name),
                    Some(zone) => {
                        let big = octet.is_multiple_of(2);
                        replacement(platform, zone, if big { 200 } else { 5 }, octet)
                    }
                },
                _ => match platform.engine.state().zone(zone) {
                    None => create_zone(&name),
                    Some(zone) => {
                        put_a(zone.id, &format!("h{}.{}", octet % 5, zone.name), [192, 0, 2, octet])
                    }
                },
            };
            // What is refused is no part of the past.
            if let Ok(committed) = platform.submit(action).await {
                if let Some(herald_core::decide::Subject::Zone(id)) = committed.subject
                    && !self.zones.contains(&id)
                {
                    self.zones.push(id);
                }
                self.states.push(committed.state);
            }
        }
    }

    /// Every zone as it was after every entry, and at its time.
    async fn check(&self, history: &History) {
        for state in &self.states {
            for zone in &self.zones {
                let told = history.zone_at(*zone, state.revision()).await.unwrap();
                assert_eq!(
                    bare(told.as_deref()),
                    bare(state.zone(*zone).map(|zone| &**zone)),
                    "{zone} at {}",
                    state.revision()
                );
            }
            let revision = history.revision_at(state.time_ms()).await.unwrap();
            assert!(revision >= state.revision());
            assert_eq!(history.time_of(revision).await.unwrap(), Some(state.time_ms()));
        }
    }
}

/// The zone's content becomes so many RRsets, staged if they are many.
fn replacement(platform: &Platform, zone: &Zone, rrsets: usize, octet: u8) -> Action {
    let mut content = Content::default();
    let apex = RrKey::new(zone.name.clone(), Rtype::NS);
    content.put(apex.clone(), zone.content.get(&apex).unwrap().clone());
    for n in 0..rrsets {
        let key = RrKey::new(zone.name.child(format!("r{n}")).unwrap(), Rtype::A);
        let rdatas = herald_core::Rdatas::single(&[10, 0, 0, octet]);
        content.put(key, herald_core::Rrset { ttl: 60, rdatas });
    }
    let staged = (rrsets > 100).then(|| platform.engine.stage(&content).unwrap());
    let content = herald_core::check::CheckedContent::new(zone.name.clone(), content).unwrap();
    let content = Prepared { content, staged, serial_floor: None };
    Action::ReplaceZone { zone: ZoneRef::Id(zone.id), base: zone.revision, content }
}

#[tokio::test]
async fn zones_are_told_as_they_were() {
    for seed in [1, 2] {
        let dir = dir();
        let platform = Platform::new(dir.path(), no_effects()).await;
        let history = History::start(dir.path(), platform.engine.follow()).unwrap();
        let mut lived = Lived::default();
        lived.live(&platform, 120, &mut (seed * 0x9e37_79b9)).await;
        assert!(lived.states.len() > 50, "seed {seed}: {} changes", lived.states.len());
        lived.check(&history).await;
    }
}

#[tokio::test]
async fn an_index_that_is_not_of_this_log_is_made_anew() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let history = History::start(dir.path(), platform.engine.follow()).unwrap();
    let mut lived = Lived::default();
    let seed = &mut 77;
    lived.live(&platform, 40, seed).await;
    lived.check(&history).await;
    let file = dir.path().join(index::FILE);
    let wipe: fn(&Path) = |file| std::fs::remove_file(file).unwrap();
    let version: fn(&Path) = |file| {
        rusqlite::Connection::open(file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    };
    let garbage: fn(&Path) = |file| std::fs::write(file, b"no database").unwrap();
    let flip: fn(&Path) = |file| {
        let mut bytes = std::fs::read(file).unwrap();
        // The page of the schema stays, so that it opens.
        bytes[4096..].fill(0x5a);
        std::fs::write(file, bytes).unwrap();
    };
    let of_another: fn(&Path) = |file| {
        let db = rusqlite::Connection::open(file).unwrap();
        db.execute("UPDATE position SET hash = ?1", ([9_u8; 32],)).unwrap();
    };
    let ahead: fn(&Path) = |file| {
        let db = rusqlite::Connection::open(file).unwrap();
        db.execute("UPDATE position SET revision = revision + 100", ()).unwrap();
    };
    let (mut platform, mut history) = (platform, history);
    for damage in [wipe, version, garbage, flip, of_another, ahead] {
        // The follower ends with the engine; what it has of the index is closed then.
        let indexed = history.0.indexed.clone();
        drop(history);
        let store = platform.stop().await;
        tokio::time::timeout(Duration::from_secs(10), async {
            while indexed.has_changed().is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the follower ends");
        drop(store);
        // All of it into the one file that is damaged.
        let db = rusqlite::Connection::open(&file).unwrap();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
        drop(db);
        damage(&file);
        platform = Platform::open(dir.path());
        history = History::start(dir.path(), platform.engine.follow()).unwrap();
        lived.live(&platform, 5, seed).await;
        lived.check(&history).await;
    }
}

#[tokio::test]
async fn a_record_says_who_what_and_why() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let history = History::start(dir.path(), platform.engine.follow()).unwrap();
    let zone = platform.create("example.com").await;
    let context = crate::clock::context(platform.tenant, Some("more web servers".into()));
    let edit = put_a(zone, "www.example.com", [192, 0, 2, 1]);
    let edited =
        platform.engine.submit(herald_core::command::Command { context, action: edit }).await.unwrap();
    let big = {
        let zone = platform.zone(zone);
        platform.submit(replacement(&platform, &zone, 3_000, 1)).await.unwrap()
    };
    platform.submit(delete_zone(zone)).await.unwrap();

    let records = history.of_zone(zone, None, 10).await.unwrap();
    let told: Vec<_> = records
        .iter()
        .map(|one| {
            let kinds: Vec<ChangeKind> = one.record.kinds.iter().collect();
            (one.record.revision, kinds, one.rrsets_put, one.rrsets_deleted)
        })
        .collect();
    let created = edited.revision - 1;
    assert_eq!(
        told,
        [
            (big.revision + 1, vec![ChangeKind::ZoneDeleted], 0, 0),
            (big.revision, vec![ChangeKind::ZoneReplaced], 3_001, 0),
            (edited.revision, vec![ChangeKind::ZoneEdited], 1, 0),
            (created, vec![ChangeKind::ZoneCreated], 1, 0),
        ]
    );
    assert_eq!(records[2].record.principal, platform.tenant);
    assert_eq!(records[2].record.message.as_deref(), Some("more web servers"));
    let page = history.of_zone(zone, Some(big.revision), 1).await.unwrap();
    assert_eq!(page[0].record.revision, edited.revision);

    let known = history.known_zone(zone).await.unwrap().unwrap();
    assert_eq!((known.created, known.deleted), (created, Some(big.revision + 1)));
    // Filters: whose, of which zone, by whom, since and until when.
    let Principal::Tenant { tenant, token } = platform.tenant else { panic!("a tenant") };
    let revisions = |filter: ChangesFilter| {
        let history = history.clone();
        async move {
            let changes = history.changes(ChangesFilter { limit: 50, ..filter }).await.unwrap();
            changes.items.into_iter().map(|(record, ..)| record.revision).collect::<Vec<_>>()
        }
    };
    let of_zone = vec![created + 3, created + 2, created + 1, created];
    let filter = ChangesFilter { zone: Some(zone), ..ChangesFilter::default() };
    assert_eq!(revisions(filter.clone()).await, of_zone);
    assert_eq!(revisions(ChangesFilter { after: created, ..filter.clone() }).await, of_zone[..3]);
    assert_eq!(revisions(ChangesFilter { before: Some(created + 1), ..filter }).await, of_zone[3..]);
    let filter = ChangesFilter { token: Some(token), ..ChangesFilter::default() };
    assert_eq!(revisions(filter).await, of_zone);
    // The tenant's own making, and that of its token, concern it too.
    let filter = ChangesFilter { tenant: Some(tenant), ..ChangesFilter::default() };
    assert_eq!(revisions(filter).await.len(), 6);
    assert_eq!(revisions(ChangesFilter::default()).await.len() as u64, platform.engine.state().revision());
}

#[tokio::test]
async fn a_reader_waits_for_what_is_in_the_state() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let history = History::start(dir.path(), platform.engine.follow()).unwrap();
    let zone = platform.create("example.com").await;
    // A burst, and each time the past is asked for at once: never is anything missing.
    for n in 0..50_u8 {
        let committed = platform.submit(put_a(zone, "www.example.com", [192, 0, 2, n])).await.unwrap();
        let records = history.of_zone(zone, None, 1).await.unwrap();
        assert_eq!(records[0].record.revision, committed.revision);
    }
    assert!(platform.store.appends.load(Ordering::Relaxed) > 50);
}

/// Whatever is erased, and wherever that was interrupted: the present is the same, so is what is kept of the past, and
/// all verifies.
#[tokio::test]
async fn compaction_loses_nothing_that_is_kept() {
    for seed in [11_u64, 12] {
        let dir = dir();
        let seed = &mut (seed * 0x9e37_79b9);
        let mut platform = Platform::new(dir.path(), no_effects()).await;
        let mut lived = Lived::default();
        for round in 0..6_i64 {
            lived.live(&platform, 25, seed).await;
            // What was staged for a command that never came, and what a restart makes nobody's.
            let orphan = format!("\u{82}orphan {round}").into_bytes();
            platform.store.put_chunks(&[&orphan]).unwrap();
            platform = platform.restart(dir.path(), false).await;
            let before = held(&platform.engine.state());
            let head = platform.engine.state().revision();
            let horizon = below(head, seed);
            // Half the time it comes to its end.
            let crash_after = if round % 2 == 0 { -1 } else { i64::try_from(below(12, seed)).unwrap() };
            platform.store.crash_after.store(crash_after, std::sync::atomic::Ordering::Relaxed);
            let engine = platform.engine.clone();
            let done = tokio::task::spawn_blocking(move || engine.compact(horizon)).await.unwrap();
            assert_eq!(held(&platform.engine.state()), before);
            platform.store.crash_after.store(-1, std::sync::atomic::Ordering::Relaxed);
            if crash_after < 0 {
                let done = done.unwrap();
                assert!(done.chunks_deleted > 0, "round {round}");
                let id = herald_store::ChunkId::of(&orphan);
                assert_eq!(platform.store.chunk(&id).unwrap(), None, "an orphan of an earlier start");
                let base = platform.store.base().unwrap().map_or(0, |base| base.revision);
                assert_eq!(done.horizon, base);
                assert!(base >= horizon);
                let entries = platform.store.read(0, usize::MAX, usize::MAX).unwrap();
                for entry in entries {
                    assert_eq!(entry.payload.is_empty(), entry.revision <= base, "entry {}", entry.revision);
                }
            }
            // From the log as it is now, all is found again, and nothing is wrong with it.
            drop(platform.stop().await);
            let report = crate::audit::verify(dir.path()).unwrap();
            assert_eq!(report.problems, [], "round {round}, crash after {crash_after}");
            platform = Platform::open(dir.path());
            assert_eq!(held(&platform.engine.state()), before);
            let history = History::start(dir.path(), platform.engine.follow()).unwrap();
            let horizon = history.horizon();
            for state in &lived.states {
                for zone in &lived.zones {
                    match history.zone_at(*zone, state.revision()).await {
                        Ok(told) => {
                            assert_eq!(bare(told.as_deref()), bare(state.zone(*zone).map(|zone| &**zone)));
                        }
                        Err(HistoryError::Erased { horizon: said }) => {
                            assert!(state.revision() < horizon && said == horizon);
                        }
                        Err(e) => panic!("{e}"),
                    }
                }
            }
            if let Some(state) = lived.states.iter().find(|state| state.revision() < horizon) {
                let too_early = history.revision_at(state.time_ms().saturating_sub(1)).await.unwrap();
                assert!(too_early < horizon);
            }
            let changes = ChangesFilter { limit: 1_000, ..ChangesFilter::default() };
            let changes = history.changes(changes).await.unwrap().items;
            assert!(changes.iter().all(|(record, ..)| record.revision > horizon));
            assert_eq!(changes.len() as u64, platform.engine.state().revision() - horizon);
            // Every other time the index is made anew, with nothing left of the past that was erased.
            let indexed = history.0.indexed.clone();
            drop(history);
            let store = platform.stop().await;
            while indexed.has_changed().is_ok() {
                tokio::task::yield_now().await;
            }
            drop(store);
            platform = Platform::open(dir.path());
            if round % 2 == 1 {
                std::fs::remove_file(dir.path().join(index::FILE)).unwrap();
            }
        }
    }
}

/// The firewall is told as of each revision that is kept, before and after the past was cut off and from an index made anew; what a policy
/// zone had is there as long as a revision that is kept has it.
#[tokio::test]
async fn the_firewall_is_told_as_it_was() {
    let dir = dir();
    let mut platform = Platform::new(dir.path(), no_effects()).await;
    let Principal::Tenant { tenant, .. } = platform.tenant else { panic!("no tenant") };
    let owners = [Owner::Fleet, Owner::Tenant(tenant)];
    let rule = |n: u32| Rule {
        name: format!("r{}", n % 3),
        order: n,
        when: When::default(),
        action: firewall::Action::Drop,
        note: None,
    };
    let mut states = vec![platform.engine.state()];
    let mut chunks = Vec::new();
    for n in 0..12_u32 {
        let owner = owners[n as usize % 2];
        let action = match n {
            2 | 6 => {
                let body = format!("a policy zone {n}").into_bytes();
                let staged = platform.engine.stage_table(&body).unwrap();
                chunks.push(staged.clone());
                let zone = PolicyZone {
                    name: "block".into(),
                    order: 0,
                    sha256: [0; 32],
                    bytes: body.len() as u64,
                    chunks: staged,
                    names: 1,
                    clients: 0,
                    not_applying: 0,
                    serial: None,
                };
                Action::PutPolicyZone { if_match: None, zone }
            }
            9 => Action::SetFirewallRules { owner, if_match: None, rules: vec![rule(9)], zones: None },
            10 => Action::DeletePolicyZone { if_match: None, name: "block".into() },
            _ => Action::PutFirewallRule { owner, if_match: None, rule: rule(n) },
        };
        let done = submit(&platform.engine, platform.operator, action).await.unwrap();
        states.push(done.state);
    }
    chunks.iter().for_each(|chunks| platform.engine.forget_table(chunks));
    let told = |firewall: &Firewall, owner| -> Vec<Rule> { firewall.rules(owner).cloned().collect() };
    // Of nothing, of the fourth of these states, and of the last one is the rest cut off.
    for (cut, index_is_kept) in [(0, true), (4, true), (4, false), (12, true)] {
        platform = platform.restart(dir.path(), false).await;
        let horizon = if cut == 0 { 0 } else { states[cut].revision() };
        let engine = platform.engine.clone();
        tokio::task::spawn_blocking(move || engine.compact(horizon)).await.unwrap().unwrap();
        if !index_is_kept {
            std::fs::remove_file(dir.path().join(index::FILE)).unwrap();
        }
        let history = History::start(dir.path(), platform.engine.follow()).unwrap();
        for (n, state) in states.iter().enumerate() {
            for owner in owners {
                match history.firewall_at(owner, state.revision()).await {
                    Ok(then) => {
                        assert!(n >= cut || then.revision(owner) == state.firewall().revision(owner));
                        assert_eq!(told(&then, owner), told(state.firewall(), owner), "{n} of {cut}");
                        if owner == Owner::Fleet {
                            assert!(then.zones().eq(state.firewall().zones()), "{n} of {cut}");
                        }
                    }
                    Err(HistoryError::Erased { .. }) => assert!(n < cut, "{n} of {cut}"),
                    Err(e) => panic!("{e}"),
                }
            }
        }
        let records = history.of_firewall(Owner::Fleet, None, 100).await.unwrap();
        let kept = records.iter().filter(|record| record.revision > horizon).count();
        let lived = (1..13).filter(|n| *n > cut && n % 2 == 1).count();
        // Policy zones are the fleet's, whoever's turn it was.
        assert_eq!((kept, records.len()), (lived, lived), "after {cut}");
        let indexed = history.0.indexed.clone();
        drop(history);
        let has = |chunks: &[[u8; 32]]| platform.engine.table(chunks).unwrap().is_some();
        assert_eq!(
            chunks.iter().map(|chunks| has(chunks)).collect::<Vec<_>>(),
            [cut < 12, cut < 12],
            "after {cut}"
        );
        drop(platform.stop().await);
        while indexed.has_changed().is_ok() {
            tokio::task::yield_now().await;
        }
        platform = Platform::open(dir.path());
    }
}

/// Without whose word it had when much of it went: what comes of the log doesn't tell.
fn bare(zone: Option<&Zone>) -> Option<Zone> {
    zone.map(|zone| Zone { shrunk: None, ..zone.clone() })
}
