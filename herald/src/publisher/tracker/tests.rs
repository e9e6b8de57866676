use std::collections::BTreeMap;
use std::time::Duration;

use herald_core::NsSetId;
use herald_core::account::Pop;
use herald_core::change::Bulk;
use herald_core::command::Context;
use herald_core::content::{Content, Difference};
use herald_core::state::At;
use herald_core::zone::{SoaFields, Zone, ZoneStatus};

use super::PopSyncState::{InSync, NotWaitedFor, Pending};
use super::*;

/// A log of changes made up here, and a tracker that is told of them.
struct Log {
    tracker: Tracker,
    state: Arc<State>,
    sessions: HashMap<PopId, u64>,
}

const FRA: PopId = PopId(1);
const NYC: PopId = PopId(2);
const SIN: PopId = PopId(3);

impl Log {
    /// With these PoPs, all in touch and with nothing to have yet.
    fn new(pops: &[PopId]) -> Log {
        let mut log = Log { tracker: Tracker::default(), state: Arc::default(), sessions: HashMap::new() };
        for id in pops {
            log.commit(put_pop(*id, true, false));
            log.resync(*id, &[]);
        }
        log
    }

    fn commit(&mut self, change: Change) -> u64 {
        self.commit_group([vec![change]])[0]
    }

    /// Entries that become durable at once; gives their revisions.
    fn commit_group<const N: usize>(&mut self, entries: [Vec<Change>; N]) -> [u64; N] {
        let mut state = State::clone(&self.state);
        let commits = entries.map(|changes| {
            let revision = state.revision() + 1;
            let at = At { generation: Generation { epoch: 1, counter: revision }, time_ms: revision };
            changes.iter().for_each(|change| state.apply(at, change));
            let context = Context {
                principal: Principal::System,
                time_ms: revision,
                entropy: [0; 32],
                message: None,
                idempotency_key: None,
                confirmed: false,
            };
            Commit { revision, context, changes: changes.into(), state: Arc::new(state.clone()) }
        });
        self.state = Arc::new(state);
        self.tracker.committed(&self.state, &commits, Duration::from_millis(10));
        commits.map(|commit| commit.revision)
    }

    /// How a change stands at the PoPs, in order.
    fn stands(&self, revision: u64) -> Vec<PopSyncState> {
        self.receipt(revision).into_iter().map(|pop| pop.state).collect()
    }

    fn receipt(&self, revision: u64) -> Vec<ReceiptPop> {
        let facts = self.tracker.recent(revision).expect("it is recent");
        self.tracker.pops(&self.state, revision, &facts.published)
    }

    fn confirm(&self, pop: PopId, zone: u128, revision: u64) {
        let generation = Generation { epoch: 1, counter: revision };
        let session = self.sessions.get(&pop).copied().unwrap_or(0);
        self.tracker.confirmed(pop, session, [(ZoneId(zone), generation)], Duration::from_millis(15));
    }

    /// The PoP's session looks at the newest state; gives the zones that it may see no difference of.
    fn look(&self, pop: PopId) -> Vec<u128> {
        let (state, ceased) = self.tracker.look(pop, self.sessions[&pop]).unwrap();
        assert_eq!(state.revision(), self.state.revision());
        ceased.into_iter().map(|zone| zone.0).collect()
    }

    /// A session of the PoP begins, and it lacks these zones.
    fn resync(&mut self, pop: PopId, lacks: &[(u128, u64)]) {
        self.resync_at(pop, &Arc::clone(&self.state), lacks);
    }

    fn resync_at(&mut self, pop: PopId, state: &State, lacks: &[(u128, u64)]) {
        let session = self.tracker.begin_session(pop);
        self.sessions.insert(pop, session);
        self.tracker.resynced(pop, session, state, self.lacks(lacks), Duration::from_millis(15));
    }

    fn pending(&self, pop: PopId) -> Option<u64> {
        self.tracker.zones_pending(pop)
    }

    fn lacks(&self, zones: &[(u128, u64)]) -> Lacks {
        zones.iter().map(|(zone, confirmed)| (ZoneId(*zone), *confirmed)).collect()
    }
}

fn put_pop(id: PopId, enabled: bool, drained: bool) -> Change {
    let name = format!("pop{}", id.0);
    Change::PopPut(Pop {
        id,
        name,
        secret_hash: [0; 32],
        enabled,
        drained,
        created_at_ms: 0,
        released: None,
        held: None,
        region: None,
    })
}

fn create(zone: u128) -> Change {
    create_as(zone, ZoneStatus::Active)
}

fn create_as(zone: u128, status: ZoneStatus) -> Change {
    let name = Name::parse(&format!("z{zone}.example")).unwrap();
    let soa = SoaFields {
        mname: name.clone(),
        rname: name.clone(),
        refresh_s: 1,
        retry_s: 1,
        expire_s: 1,
        minimum_s: 1,
        ttl: 1,
    };
    let zone = Zone {
        id: ZoneId(zone),
        name,
        tenant: TenantId(7),
        status,
        ns_set: NsSetId(1),
        labels: BTreeMap::new(),
        created_at_ms: 0,
        changed_at_ms: 0,
        revision: 0,
        generation: Generation::default(),
        serial: 1,
        soa,
        challenge: String::new(),
        admitted_by: Vec::new(),
        content: Content::default(),
        shrunk: None,
        resolved: Content::default(),
    };
    Change::ZoneCreated { zone, content: Bulk { content: Content::default(), staged: None } }
}

fn edit(zone: u128) -> Change {
    Change::ZoneEdited { zone: ZoneId(zone), serial: 2, difference: Difference::default() }
}

fn delete(zone: u128) -> Change {
    Change::ZoneDeleted { zone: ZoneId(zone) }
}

fn displace(zone: u128) -> Change {
    Change::ZoneDisplaced { zone: ZoneId(zone), challenge: String::new() }
}

fn activate(zone: u128) -> Change {
    let by = herald_core::change::Evidence::Txt;
    Change::ZoneActivated { zone: ZoneId(zone), serial: 3, by }
}

fn label(zone: u128) -> Change {
    Change::ZoneLabelled { zone: ZoneId(zone), labels: BTreeMap::new() }
}

// ---------------------------------------------------------------------------------------- confirmations

#[test]
fn a_change_is_in_sync_where_it_was_confirmed() {
    let mut log = Log::new(&[FRA, NYC]);
    let made = log.commit(create(1));
    let changed = log.commit(edit(1));
    assert_eq!(log.stands(made), [Pending, Pending]);
    log.confirm(FRA, 1, made);
    assert_eq!((log.stands(made), log.stands(changed)), (vec![InSync, Pending], vec![Pending, Pending]));
    assert_eq!((log.pending(FRA), log.pending(NYC)), (Some(1), Some(1)));
    // A later generation holds all before it.
    log.confirm(NYC, 1, changed);
    assert_eq!((log.stands(made), log.stands(changed)), (vec![InSync, InSync], vec![Pending, InSync]));
    log.confirm(FRA, 1, changed);
    assert_eq!((log.pending(FRA), log.pending(NYC)), (Some(0), Some(0)));

    let receipt = log.receipt(changed);
    assert!(receipt.iter().all(|pop| pop.in_sync_ms.is_some_and(|ms| (0.0..60_000.0).contains(&ms))));
    let facts = log.tracker.recent(changed).unwrap();
    assert_eq!((facts.zones.len(), facts.zones[0].serial, facts.zones[0].tenant), (1, Some(2), TenantId(7)));
}

#[test]
fn a_change_of_several_zones_waits_for_all_of_them() {
    let mut log = Log::new(&[FRA]);
    log.commit_group([vec![create(1)], vec![create(2)]]);
    let [both] = log.commit_group([vec![edit(1), edit(2), edit(1)]]);
    assert_eq!(log.tracker.recent(both).unwrap().published.len(), 2);
    log.confirm(FRA, 2, both);
    assert_eq!(log.stands(both), [Pending]);
    log.confirm(FRA, 1, both - 1);
    assert_eq!(log.stands(both), [Pending]);
    log.confirm(FRA, 1, both);
    assert_eq!(log.stands(both), [InSync]);
}

#[test]
fn what_pops_do_not_see_is_in_sync_as_it_is() {
    let mut log = Log::new(&[FRA]);
    log.commit(create(1));
    let labelled = log.commit(label(1));
    let pending = log.commit(create_as(2, ZoneStatus::Pending));
    let edited = log.commit(edit(2));
    for revision in [labelled, pending, edited] {
        assert_eq!(log.stands(revision), [InSync]);
    }
    assert_eq!(log.pending(FRA), Some(1));
    let activated = log.commit(activate(2));
    assert_eq!(log.stands(activated), [Pending]);
    assert_eq!((log.stands(edited), log.pending(FRA)), (vec![InSync], Some(2)));
}

#[test]
fn who_is_drained_or_disabled_is_not_waited_for() {
    let mut log = Log::new(&[FRA, NYC, SIN]);
    log.commit(put_pop(NYC, true, true));
    log.commit(put_pop(SIN, false, false));
    let made = log.commit(create(1));
    assert_eq!(log.stands(made), [Pending, NotWaitedFor, NotWaitedFor]);
    // It may have it all the same.
    log.confirm(NYC, 1, made);
    assert_eq!(log.stands(made), [Pending, InSync, NotWaitedFor]);
    // What counts is how they were at acceptance.
    log.commit(put_pop(SIN, true, false));
    assert_eq!(log.stands(made), [Pending, InSync, NotWaitedFor]);
    log.commit(put_pop(FRA, true, true));
    let waited: Vec<bool> = log.receipt(made).iter().map(|pop| pop.is_waited_for).collect();
    assert_eq!(waited, [true, false, false]);
    // One that is gone is in no receipt.
    log.commit(Change::PopDeleted(NYC));
    assert_eq!(log.stands(made), [Pending, NotWaitedFor]);
    assert_eq!(log.pending(NYC), None);
}

#[tokio::test]
async fn all_and_a_majority() {
    let mut log = Log::new(&[FRA, NYC, SIN]);
    let made = log.commit(create(1));
    let wait = async |log: &Log, wait, seconds| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
        log.tracker.wait(wait, deadline, || log.receipt(made)).await
    };
    log.confirm(FRA, 1, made);
    assert!(!wait(&log, Wait::Quorum, 0).await);
    log.confirm(NYC, 1, made);
    assert!(wait(&log, Wait::Quorum, 0).await);
    assert!(!wait(&log, Wait::All, 0).await);
    // Who waits is told.
    let (in_sync, ()) = tokio::join!(wait(&log, Wait::All, 60), async { log.confirm(SIN, 1, made) });
    assert!(in_sync);

    // A majority of two is two, and of none it is none.
    for (pops, enough) in [(&[][..], 0), (&[FRA], 1), (&[FRA, NYC], 2), (&[FRA, NYC, SIN], 2)] {
        let mut log = Log::new(pops);
        let made = log.commit(create(1));
        for confirmed in 0..=pops.len() {
            assert_eq!(is_enough(Wait::Quorum, &log.receipt(made)), confirmed >= enough);
            assert_eq!(is_enough(Wait::All, &log.receipt(made)), confirmed == pops.len());
            if let Some(pop) = pops.get(confirmed) {
                log.confirm(*pop, 1, made);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------- deletion

#[test]
fn a_deletion_is_confirmed_by_the_removal_alone() {
    let mut log = Log::new(&[FRA, NYC]);
    // NYC is not waited for, and has to confirm the same.
    log.commit(put_pop(NYC, true, true));
    let made = log.commit(create(1));
    let changed = log.commit(edit(1));
    for pop in [FRA, NYC] {
        log.look(pop);
        log.confirm(pop, 1, made);
    }
    let deleted = log.commit(delete(1));
    for (pop, place) in [(FRA, 0), (NYC, 1)] {
        // What was on its way.
        log.confirm(pop, 1, changed);
        assert_ne!(log.stands(deleted)[place], InSync);
        assert_eq!(log.pending(pop), Some(1));
        log.confirm(pop, 1, deleted);
        assert_eq!((log.stands(deleted)[place], log.pending(pop)), (InSync, Some(0)));
    }
    let facts = log.tracker.recent(deleted).unwrap();
    assert_eq!((facts.zones[0].name.to_string().as_str(), facts.zones[0].serial), ("z1.example.", None));
}

#[test]
fn a_zone_that_came_and_went_between_two_looks_is_owed_by_nobody() {
    let mut log = Log::new(&[FRA]);
    log.look(FRA);
    let made = log.commit(create(1));
    let changed = log.commit(edit(1));
    let deleted = log.commit(delete(1));
    assert_eq!([made, changed, deleted].map(|revision| log.stands(revision)), [[InSync], [InSync], [InSync]]);
    assert_eq!((log.pending(FRA), log.look(FRA).len()), (Some(0), 0));
    // In one group it was never published at all, and the receipt knows its name.
    let group = log.commit_group([vec![create(2)], vec![edit(2)], vec![delete(2)]]);
    for revision in group {
        assert_eq!(log.stands(revision), [InSync]);
        assert_eq!(log.tracker.recent(revision).unwrap().zones[0].name.to_string(), "z2.example.");
    }
    // Once it was looked at, it has to be removed.
    log.commit(create(3));
    log.look(FRA);
    let deleted = log.commit(delete(3));
    assert_eq!((log.stands(deleted), log.look(FRA)), (vec![Pending], vec![3]));
    log.confirm(FRA, 3, deleted);
    assert_eq!(log.stands(deleted), [InSync]);
}

/// Removed, and before that is confirmed served again and gone again between two looks: the session sees no difference
/// and still has to say that the zone is gone.
#[test]
fn a_removal_is_said_again_where_it_does_not_cover_all() {
    let mut log = Log::new(&[FRA]);
    let made = log.commit(create(1));
    log.look(FRA);
    log.confirm(FRA, 1, made);
    let displaced = log.commit(displace(1));
    assert_eq!(log.look(FRA), [1]);
    let back = log.commit(activate(1));
    let gone = log.commit(delete(1));
    log.confirm(FRA, 1, displaced);
    assert_eq!([displaced, back, gone].map(|revision| log.stands(revision)[0]), [InSync, Pending, Pending]);
    assert_eq!(log.look(FRA), [1]);
    log.confirm(FRA, 1, gone);
    assert_eq!([back, gone].map(|revision| log.stands(revision)[0]), [InSync, InSync]);
    assert_eq!((log.pending(FRA), log.look(FRA).len()), (Some(0), 0));
    // One that is served when the session looks is none of these.
    let made = log.commit(create(2));
    log.look(FRA);
    log.confirm(FRA, 2, made);
    log.commit(displace(2));
    log.commit(activate(2));
    assert_eq!(log.look(FRA).len(), 0);
}

// ------------------------------------------------------------------------------------------------ resync

#[test]
fn a_pop_that_was_not_heard_yet_owes_all() {
    let mut log = Log::new(&[FRA]);
    let made = log.commit(create(1));
    log.confirm(FRA, 1, made);
    log.commit(put_pop(NYC, true, false));
    assert_eq!(log.pending(NYC), None);
    // The change was there before the PoP, and still it hasn't got it.
    assert_eq!(log.stands(made), [InSync, NotWaitedFor]);
    let changed = log.commit(edit(1));
    assert_eq!(log.stands(changed), [Pending, Pending]);
    log.resync(NYC, &[(1, 0)]);
    assert_eq!((log.stands(changed)[1], log.pending(NYC)), (Pending, Some(1)));
    log.confirm(NYC, 1, changed);
    assert_eq!((log.stands(made)[1], log.stands(changed)[1]), (InSync, InSync));
}

#[test]
fn a_pop_that_comes_back_says_what_it_has() {
    let mut log = Log::new(&[FRA]);
    let [a, b, c] = log.commit_group([vec![create(1)], vec![create(2)], vec![create(3)]]);
    let changed = log.commit(edit(1));
    // It has 2, an older 1, and not 3.
    log.resync(FRA, &[(1, a), (3, 0)]);
    assert_eq!(
        [a, b, c, changed].map(|revision| log.stands(revision)[0]),
        [InSync, InSync, Pending, Pending]
    );
    assert_eq!(log.pending(FRA), Some(2));
    assert!(log.receipt(b)[0].in_sync_ms.is_some());
    // It comes back with less than it had confirmed: a new disk.
    log.resync(FRA, &[(1, 0), (2, 0), (3, 0)]);
    assert_eq!(log.pending(FRA), Some(3));
    log.confirm(FRA, 1, changed);
    log.confirm(FRA, 2, b);
    log.confirm(FRA, 3, c);
    assert_eq!(log.pending(FRA), Some(0));
    assert_eq!([a, b, c, changed].map(|revision| log.stands(revision)[0]), [InSync; 4]);
}

#[test]
fn what_is_committed_while_a_pop_tells_what_it_has_is_owed() {
    let mut log = Log::new(&[FRA]);
    let made = log.commit(create(1));
    let also = log.commit(create(2));
    // An earlier session has sent them.
    log.look(FRA);
    let compared = Arc::clone(&log.state);
    // While the inventory is on its way:
    let changed = log.commit(edit(1));
    let new = log.commit(create(3));
    let gone = log.commit(delete(2));
    let [_, brief] = log.commit_group([vec![create(4)], vec![edit(4)]]);
    let brief_gone = log.commit(delete(4));
    log.resync_at(FRA, &compared, &[]);
    let stands = |log: &Log, revisions: &[u64]| -> Vec<_> {
        revisions.iter().map(|revision| log.stands(*revision)[0]).collect()
    };
    assert_eq!(stands(&log, &[made, also, brief, brief_gone]), [InSync; 4]);
    assert_eq!(stands(&log, &[changed, new, gone]), [Pending; 3]);
    assert_eq!(log.pending(FRA), Some(3));
    log.look(FRA);
    let head = log.state.revision();
    log.confirm(FRA, 1, changed);
    log.confirm(FRA, 3, new);
    log.confirm(FRA, 2, head);
    assert_eq!((stands(&log, &[changed, new, gone]), log.pending(FRA)), (vec![InSync; 3], Some(0)));
}

/// A zone that isn't there any more, of which a PoP that was away has something.
#[test]
fn what_a_pop_has_too_much_is_owed_till_it_is_removed() {
    let mut log = Log::new(&[FRA]);
    log.commit(create(1));
    log.resync(FRA, &[(1, 0), (99, 0)]);
    assert_eq!(log.pending(FRA), Some(2));
    let head = log.state.revision();
    log.confirm(FRA, 99, head - 1);
    assert_eq!(log.pending(FRA), Some(2), "that was no removal");
    log.confirm(FRA, 99, head);
    assert_eq!(log.pending(FRA), Some(1));
}

// ------------------------------------------------------------------------------------------------ memory

#[test]
fn what_a_pop_has_lost_again_is_not_in_sync() {
    let mut log = Log::new(&[FRA, NYC]);
    let (created, edited) = (log.commit(create(1)), log.commit(edit(1)));
    let other = log.commit(create(2));
    for pop in [FRA, NYC] {
        log.confirm(pop, 1, edited);
        log.confirm(pop, 2, other);
    }
    assert_eq!([created, edited, other].map(|revision| log.stands(revision)), [[InSync, InSync]; 3]);
    // It holds the first of its changes, and not the second one.
    let (session, state) = (log.sessions[&FRA], Arc::clone(&log.state));
    log.tracker.drifted(FRA, session, &state, log.lacks(&[(1, created)]));
    assert_eq!(log.stands(created), [InSync, InSync]);
    assert_eq!(log.stands(edited), [Pending, InSync]);
    assert_eq!(log.receipt(edited)[0].in_sync_ms, None);
    assert_eq!((log.stands(other), log.pending(FRA)), (vec![InSync, InSync], Some(1)));
    log.confirm(FRA, 1, edited);
    assert_eq!((log.stands(edited), log.pending(FRA)), (vec![InSync, InSync], Some(0)));
}

#[test]
fn a_pop_that_is_away_costs_at_most_an_entry_a_zone() {
    let mut log = Log::new(&[FRA]);
    log.commit(put_pop(NYC, true, false));
    log.commit(create(1));
    for zone in 10..2_000 {
        log.commit(create(zone));
        log.commit(edit(1));
        log.commit(delete(zone));
    }
    let inner = log.tracker.lock();
    for pop in [FRA, NYC] {
        let track = &inner.pops[&pop];
        assert_eq!((track.pending.len(), track.ceased.len()), (1, 0));
        assert_eq!(track.waiting, track.pending.values().map(|pending| pending.waiting.len()).sum::<usize>());
    }
}

#[test]
fn only_recent_changes_are_kept_and_older_ones_are_still_judged() {
    let mut log = Log::new(&[FRA]);
    let made = log.commit(create(1));
    let mut last = made;
    for _ in 0..=RECENT_CHANGES {
        last = log.commit(edit(1));
    }
    assert_eq!(log.tracker.lock().recent.len(), RECENT_CHANGES);
    assert!(log.tracker.recent(made).is_none());
    let old = |log: &Log| log.tracker.pops(&log.state, made, &[ZoneId(1)])[0].clone();
    assert_eq!(old(&log).state, Pending);
    log.confirm(FRA, 1, made);
    assert_eq!((old(&log).state, old(&log).in_sync_ms), (InSync, None));
    log.confirm(FRA, 1, last);
    assert_eq!(log.stands(last), [InSync]);
    assert_eq!(log.tracker.lock().pops[&FRA].waiting, 0);
}

#[test]
fn a_change_too_many_to_be_timed_is_not_in_sync_before_all_of_it_is() {
    let mut log = Log::new(&[FRA]);
    log.commit_group([vec![create(1)], vec![create(2)]]);
    log.resync(FRA, &[]);
    // As if the PoP owed all but one of what is kept.
    log.tracker.lock().pops.get_mut(&FRA).unwrap().waiting = WAITING_MAX - 1;
    let both = log.commit_group([vec![edit(1), edit(2)]])[0];
    log.confirm(FRA, 1, both);
    assert_eq!(log.stands(both), [Pending]);
    log.confirm(FRA, 2, both);
    assert_eq!((log.stands(both), log.receipt(both)[0].in_sync_ms), (vec![InSync], None));
}

#[test]
fn a_change_of_very_many_zones_is_noted_quickly() {
    let mut log = Log::new(&[FRA]);
    let zones = 50_000;
    log.commit_group([(1..=zones).map(create).collect()]);
    let [all] = log.commit_group([(1..=zones).map(edit).collect()]);
    let facts = log.tracker.recent(all).unwrap();
    assert_eq!((facts.zones.len(), facts.published.len()), (50_000, 50_000));
    for zone in 1..=zones {
        assert_eq!(log.stands_quick(all), Pending);
        log.confirm(FRA, zone, all);
    }
    assert_eq!(log.stands_quick(all), InSync);
}

impl Log {
    /// Of a change of so many zones that its receipt is costly.
    fn stands_quick(&self, revision: u64) -> PopSyncState {
        match self.tracker.lock().find(revision).unwrap().pops[0].in_sync_ms {
            Some(_) => InSync,
            None => Pending,
        }
    }
}
