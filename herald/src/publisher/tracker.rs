//! Receipts: what every PoP has confirmed, derived from the generations that it confirms.
//!
//! For each PoP only the zones that it still lacks are kept, so a PoP that is away costs at most an entry a
//! zone. Milliseconds are known for the most recent changes; of older ones it is known whether they are in sync.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herald_core::account::Principal;
use herald_core::change::Change;
use herald_core::state::{PublishedDiff, State};
use herald_core::zone::Zone;
use herald_core::{Generation, Name, PopId, TenantId, ZoneId};
use herald_wire::api::Wait;
use tokio::sync::Notify;

use super::Lacks;
use super::past::PastZones;
use super::sum::{Sum, Version};
use crate::engine::Commit;

/// Of how many changes the milliseconds are kept.
const RECENT_CHANGES: usize = 65_536;

/// How many (change, zone) pairs a PoP may owe with their milliseconds still counted.
const WAITING_MAX: usize = 262_144;

/// Where a change stands at a PoP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PopSyncState {
    /// Not yet confirmed.
    Pending,
    /// Confirmed.
    InSync,
    /// The emptiness brake holds it back till an operator says that it is meant.
    Held,
    /// The PoP was disabled or drained at acceptance.
    NotWaitedFor,
}

/// A change at a PoP.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiptPop {
    /// The PoP.
    pub pop: PopId,
    /// Its name.
    pub name: String,
    /// Whether it was enabled and not drained at acceptance.
    pub is_waited_for: bool,
    /// Where the change stands there.
    pub state: PopSyncState,
    /// Milliseconds from acceptance to confirmation, where still known.
    pub in_sync_ms: Option<f64>,
}

/// A zone that a change touched.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiptZone {
    /// The zone.
    pub id: ZoneId,
    /// Its name.
    pub name: Name,
    /// Who holds it.
    pub tenant: TenantId,
    /// The serial that the change gave it; none if it was deleted.
    pub serial: Option<u32>,
}

/// A change as its receipt says it, without the PoPs.
#[derive(Clone, Debug)]
pub struct ChangeFacts {
    /// Its revision.
    pub revision: u64,
    /// When it was accepted, in ms since the epoch.
    pub accepted_at_ms: u64,
    /// Who.
    pub principal: Principal,
    /// Why.
    pub message: Option<String>,
    /// Which zones, as far as they are known still.
    pub zones: Vec<ReceiptZone>,
    /// Those whose publication it changed.
    pub published: Vec<ZoneId>,
}

/// See the module.
#[derive(Default)]
pub struct Tracker {
    inner: Mutex<Inner>,
    progress: Notify,
}

#[derive(Default)]
struct Inner {
    /// The state after the last commit that was noted. Readers see it a moment later.
    newest: Arc<State>,
    /// What it serves, in sum.
    served: Sum,
    past: PastZones,
    recent: VecDeque<Recent>,
    pops: HashMap<PopId, PopTrack>,
}

/// Commits that became durable at once: sessions see the states around them, and none between.
struct Group<'a> {
    before: &'a State,
    after: &'a State,
    now: Duration,
}

/// A recent change.
struct Recent {
    facts: ChangeFacts,
    accepted: Duration,
    /// The PoPs that were enabled and not drained at acceptance, and what they still owe.
    pops: Vec<RecentPop>,
}

struct RecentPop {
    pop: PopId,
    zones_left: u32,
    in_sync_ms: Option<f64>,
}

/// A zone that is held back from a PoP.
#[derive(Clone, Debug)]
pub(super) struct HeldZone {
    pub name: Option<Name>,
    /// Whether it is gone; else much of it is.
    pub is_lost: bool,
    /// Since when this session, or the last one, holds it back.
    pub since: Duration,
}

/// What a PoP lacks.
#[derive(Default)]
struct PopTrack {
    /// Number of its newest session: what comes from an earlier one counts no more.
    session: u64,
    /// Whether it has told what it has since this control plane started.
    is_known: bool,
    /// Revision of the state that its session last looked at.
    looked: u64,
    pending: HashMap<ZoneId, PendingZone>,
    /// Pending zones that ceased to be served after the last look.
    ceased: HashSet<ZoneId>,
    waiting: usize,
    /// Pending zones that its session holds back.
    held: HashMap<ZoneId, HeldZone>,
}

struct PendingZone {
    /// Every change of the zone up to this revision is confirmed.
    confirmed: u64,
    /// Revision of its last change.
    latest: u64,
    /// Revision at which it came to be served, if the PoP had nothing of it then.
    born: Option<u64>,
    /// Revisions of recent changes that wait for this zone, ascending.
    waiting: VecDeque<u64>,
}

impl PendingZone {
    fn lacking(confirmed: u64, latest: u64) -> PendingZone {
        PendingZone { confirmed, latest, born: None, waiting: VecDeque::new() }
    }
}

impl Tracker {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it is held leaves counts that are off and nothing unsafe.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of commits and the state that they led to. It is to be called before that state is visible, so
    /// that no PoP can confirm what isn't noted yet.
    pub fn committed(&self, after: &Arc<State>, commits: &[Commit], now: Duration) {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.newest, Arc::clone(after));
        inner.follow(&before, after, commits, now);
        let group = Group { before: &before, after, now };
        let mut previous = &before;
        let mut is_progress = false;
        for commit in commits {
            is_progress |= inner.note(&group, previous, commit);
            previous = &commit.state;
        }
        if is_progress {
            self.progress.notify_waiters();
        }
    }

    /// The state after the last commit: durable, and in a moment visible.
    pub fn newest(&self) -> Arc<State> {
        Arc::clone(&self.lock().newest)
    }

    /// The same, with what it serves in sum.
    pub(super) fn newest_in_sum(&self) -> (Arc<State>, Sum) {
        let inner = self.lock();
        (Arc::clone(&inner.newest), inner.served.clone())
    }

    /// How many zones are served.
    pub fn zones_served(&self) -> u64 {
        self.lock().served.zones
    }

    /// A session of the PoP begins; gives its number. Earlier ones have no say any more.
    pub fn begin_session(&self, pop: PopId) -> u64 {
        let mut inner = self.lock();
        let track = inner.pops.entry(pop).or_default();
        track.session += 1;
        track.session
    }

    /// What a PoP's session is to bring the PoP to, and the zones of which it may see no difference although they were
    /// served since its last look. None if another session took its place, or the PoP is gone.
    pub fn look(&self, pop: PopId, session: u64) -> Option<(Arc<State>, Vec<ZoneId>)> {
        let mut inner = self.lock();
        let newest = Arc::clone(&inner.newest);
        let track = inner.pops.get_mut(&pop).filter(|track| track.session == session)?;
        track.looked = newest.revision();
        let ceased = track.ceased.drain().filter(|zone| track.pending.contains_key(zone));
        let mut ceased: Vec<ZoneId> = ceased.filter(|zone| !is_served(&newest, *zone)).collect();
        ceased.sort_unstable();
        Some((newest, ceased))
    }

    /// Versions of zones that were served a while ago, those of them that are still known.
    pub(super) fn past<'a>(
        &self,
        versions: impl IntoIterator<Item = &'a Version>,
    ) -> HashMap<ZoneId, Arc<Zone>> {
        let inner = self.lock();
        versions.into_iter().filter_map(|version| Some((version.zone, inner.past.find(*version)?))).collect()
    }

    /// A PoP has told what it has: of what `state` says it lacks these zones, each confirmed up to the revision beside
    /// it, and no others.
    pub fn resynced(&self, pop: PopId, session: u64, state: &State, mut lacks: Lacks, now: Duration) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        for diff in state.published_diff(&inner.newest) {
            if let Some(zone) = diff.new.or(diff.old) {
                lacks.entry(zone.id).or_insert(state.revision());
            }
        }
        let latest = inner.newest.revision();
        let Some(track) = inner.pops.get_mut(&pop).filter(|track| track.session == session) else { return };
        track.is_known = true;
        track.looked = state.revision();
        track.ceased.clear();
        track.held.clear();
        for (zone, pending) in std::mem::take(&mut track.pending) {
            let confirmed = lacks.get(&zone).copied().unwrap_or(u64::MAX);
            let left = complete(&mut inner.recent, &mut track.waiting, pop, pending.waiting, confirmed, now);
            track.pending.insert(zone, PendingZone { confirmed, latest, born: None, waiting: left });
        }
        track.pending.retain(|zone, _| lacks.contains_key(zone));
        for (zone, confirmed) in lacks {
            track.pending.entry(zone).or_insert(PendingZone::lacking(confirmed, latest));
        }
        self.progress.notify_waiters();
    }

    /// A PoP turns out to lack these zones, although it confirmed them; `seen` is what its session has sent.
    pub fn drifted(&self, pop: PopId, session: u64, seen: &State, lacks: Lacks) {
        let mut inner = self.lock();
        let Some(track) = inner.pops.get_mut(&pop).filter(|track| track.session == session) else { return };
        for (zone, confirmed) in lacks {
            let latest = seen.zone(zone).map_or(seen.revision(), |zone| zone.generation.counter);
            let pending = track.pending.entry(zone).or_insert(PendingZone::lacking(confirmed, latest));
            pending.confirmed = pending.confirmed.min(confirmed);
        }
    }

    /// Whether a PoP has yet to confirm something of a zone.
    pub(super) fn lacks(&self, pop: PopId, zone: ZoneId) -> bool {
        self.lock().pops.get(&pop).is_none_or(|track| track.pending.contains_key(&zone))
    }

    /// A zone is held back from a PoP from now on, or is so no more.
    pub(super) fn held(&self, pop: PopId, session: u64, zone: ZoneId, held: Option<HeldZone>) {
        let mut inner = self.lock();
        let Some(track) = inner.pops.get_mut(&pop).filter(|track| track.session == session) else { return };
        match held {
            Some(held) => track.held.insert(zone, held),
            None => track.held.remove(&zone),
        };
        self.progress.notify_waiters();
    }

    /// How many zones are held back from a PoP, and the first of them by name.
    pub(super) fn zones_held(&self, pop: PopId, shown_max: usize) -> (u64, Vec<(ZoneId, HeldZone)>) {
        let inner = self.lock();
        let Some(track) = inner.pops.get(&pop) else { return Default::default() };
        let mut zones: Vec<(&ZoneId, &HeldZone)> = track.held.iter().collect();
        let shown = zones.len().min(shown_max);
        if shown > 0 {
            zones.select_nth_unstable_by(shown - 1, |(_, a), (_, b)| a.name.cmp(&b.name));
            zones[..shown].sort_unstable_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        }
        let count = zones.len() as u64;
        (count, zones.into_iter().take(shown).map(|(zone, held)| (*zone, held.clone())).collect())
    }

    /// A PoP confirms zones, each at a generation.
    pub fn confirmed(
        &self,
        pop: PopId,
        session: u64,
        zones: impl IntoIterator<Item = (ZoneId, Generation)>,
        now: Duration,
    ) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(track) = inner.pops.get_mut(&pop).filter(|track| track.session == session) else { return };
        for (zone, generation) in zones {
            let Some(pending) = track.pending.get_mut(&zone) else { continue };
            pending.confirmed = pending.confirmed.max(generation.counter);
            let waiting = std::mem::take(&mut pending.waiting);
            pending.waiting =
                complete(&mut inner.recent, &mut track.waiting, pop, waiting, pending.confirmed, now);
            let wanted = inner.newest.zone(zone).filter(|zone| zone.is_served()).map(|zone| zone.generation);
            // A zone that is not served any more is confirmed by its removal, which comes last.
            let is_last = match wanted {
                Some(wanted) => wanted <= generation,
                None => pending.latest <= generation.counter,
            };
            if pending.waiting.is_empty() && is_last {
                track.pending.remove(&zone);
                track.held.remove(&zone);
            }
        }
        self.progress.notify_waiters();
    }

    /// How many zones the PoP lacks that are not held back from it; none if it has not told yet.
    pub fn zones_pending(&self, pop: PopId) -> Option<u64> {
        let inner = self.lock();
        inner.pops.get(&pop).filter(|track| track.is_known).map(PopTrack::lacking)
    }

    /// A recent change.
    pub fn recent(&self, revision: u64) -> Option<ChangeFacts> {
        self.lock().find(revision).map(|recent| recent.facts.clone())
    }

    /// Where a change that published these zones stands at each PoP.
    pub fn pops(&self, state: &State, revision: u64, published: &[ZoneId]) -> Vec<ReceiptPop> {
        let inner = self.lock();
        let recent = inner.find(revision);
        let mut pops = Vec::new();
        for pop in state.pops() {
            let noted = recent.and_then(|recent| recent.pops.iter().find(|noted| noted.pop == pop.id));
            let in_sync_ms = noted.and_then(|noted| noted.in_sync_ms);
            let is_waited_for = match recent {
                Some(_) => noted.is_some(),
                None => pop.enabled && !pop.drained,
            };
            // It may have confirmed it and have lost it since.
            let has_it = inner.has(pop.id, revision, published);
            let in_sync_ms = in_sync_ms.filter(|_| has_it);
            let state = match (has_it, is_waited_for) {
                (true, _) => PopSyncState::InSync,
                (false, true) if inner.is_held(pop.id, revision, published) => PopSyncState::Held,
                (false, true) => PopSyncState::Pending,
                (false, false) => PopSyncState::NotWaitedFor,
            };
            pops.push(ReceiptPop { pop: pop.id, name: pop.name.clone(), is_waited_for, state, in_sync_ms });
        }
        pops
    }

    /// Waits until enough PoPs have confirmed; `stands` tells where the change stands now.
    pub async fn wait(
        &self,
        wait: Wait,
        deadline: tokio::time::Instant,
        stands: impl Fn() -> Vec<ReceiptPop>,
    ) -> bool {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let pops = stands();
            if is_enough(wait, &pops) {
                return true;
            }
            // Nothing comes of waiting for somebody's word.
            if !pops.iter().any(|pop| pop.state == PopSyncState::Pending) {
                return false;
            }
            if tokio::time::timeout_at(deadline, progress).await.is_err() {
                return is_enough(wait, &stands());
            }
        }
    }
}

fn is_enough(wait: Wait, pops: &[ReceiptPop]) -> bool {
    let waited: Vec<&ReceiptPop> = pops.iter().filter(|pop| pop.is_waited_for).collect();
    let in_sync = waited.iter().filter(|pop| pop.state == PopSyncState::InSync).count();
    match wait {
        Wait::All => in_sync == waited.len(),
        Wait::Quorum => waited.is_empty() || in_sync > waited.len() / 2,
    }
}

/// Takes off `waiting` the revisions that are confirmed and marks them; gives what is left.
fn complete(
    recent: &mut VecDeque<Recent>,
    count: &mut usize,
    pop: PopId,
    mut waiting: VecDeque<u64>,
    confirmed: u64,
    now: Duration,
) -> VecDeque<u64> {
    while let Some(revision) = waiting.front().copied().filter(|revision| *revision <= confirmed) {
        waiting.pop_front();
        *count -= 1;
        let Some(change) = find_mut(recent, revision) else { continue };
        let accepted = change.accepted;
        if let Some(noted) = change.pops.iter_mut().find(|noted| noted.pop == pop) {
            noted.zones_left = noted.zones_left.saturating_sub(1);
            if noted.zones_left == 0 && noted.in_sync_ms.is_none() {
                noted.in_sync_ms = Some(now.saturating_sub(accepted).as_secs_f64() * 1000.0);
            }
        }
    }
    waiting
}

fn find_mut(recent: &mut VecDeque<Recent>, revision: u64) -> Option<&mut Recent> {
    let place = recent.binary_search_by_key(&revision, |recent| recent.facts.revision).ok()?;
    recent.get_mut(place)
}

impl Inner {
    fn find(&self, revision: u64) -> Option<&Recent> {
        let place = self.recent.binary_search_by_key(&revision, |recent| recent.facts.revision).ok()?;
        self.recent.get(place)
    }

    /// Whether the PoP has all of a change of these zones.
    fn has(&self, pop: PopId, revision: u64, published: &[ZoneId]) -> bool {
        published.is_empty()
            || self.pops.get(&pop).is_some_and(|track| {
                let lacks = |zone: &ZoneId| {
                    track.pending.get(zone).is_some_and(|pending| pending.confirmed < revision)
                };
                track.is_known && !published.iter().any(lacks)
            })
    }

    /// Whether all that the PoP lacks of a change of these zones is held back from it.
    fn is_held(&self, pop: PopId, revision: u64, published: &[ZoneId]) -> bool {
        self.pops.get(&pop).is_some_and(|track| {
            let is_held = |zone: &ZoneId| {
                track.held.contains_key(zone)
                    || track.pending.get(zone).is_none_or(|pending| pending.confirmed >= revision)
            };
            track.is_known && published.iter().all(is_held)
        })
    }

    /// Keeps up what is known of the served zones.
    fn follow(&mut self, before: &State, after: &State, commits: &[Commit], now: Duration) {
        for PublishedDiff { old, new } in before.published_diff(after) {
            self.served.follow(old.map(|zone| &**zone), new.map(|zone| &**zone));
            match (old, new) {
                (Some(old), Some(_)) => self.past.remember(&old.arc(), now),
                (Some(old), None) => self.past.forget(old.id),
                (None, _) => {}
            }
        }
        for change in commits.iter().flat_map(|commit| &*commit.changes) {
            if let Change::ZoneReplaced { zone, .. } = change {
                self.past.forget(*zone);
            }
        }
    }

    /// `previous` is the state before this commit of the group. Gives whether earlier changes may be in sync by it.
    fn note(&mut self, group: &Group<'_>, previous: &State, commit: &Commit) -> bool {
        let Group { before, after, now } = *group;
        let revision = commit.revision;
        for change in &*commit.changes {
            if let Change::PopDeleted(pop) = change {
                self.pops.remove(pop);
            }
        }
        let published: Vec<ZoneId> = published_zones(&commit.changes)
            .filter(|zone| is_served(before, *zone) || is_served(after, *zone))
            .collect();
        let (mut pops, mut is_progress) = (Vec::new(), false);
        for pop in after.pops() {
            let track = self.pops.entry(pop.id).or_default();
            let owed = track.owe(group, revision, &published, &mut self.recent, pop.id);
            is_progress |= owed.len() < published.len();
            if !pop.enabled || pop.drained {
                continue;
            }
            // What touches nothing that it is to serve is in sync as it is.
            let is_in_sync = published.is_empty() || (owed.is_empty() && track.is_known);
            let zones_left = track.wait_for(revision, &owed);
            pops.push(RecentPop { pop: pop.id, zones_left, in_sync_ms: is_in_sync.then_some(0.0) });
        }
        if self.recent.len() == RECENT_CHANGES {
            self.recent.pop_front();
        }
        let facts = ChangeFacts {
            revision,
            accepted_at_ms: commit.context.time_ms,
            principal: commit.context.principal,
            message: commit.context.message.clone(),
            zones: receipt_zones(previous, &commit.state, &commit.changes),
            published,
        };
        self.recent.push_back(Recent { facts, accepted: now, pops });
        is_progress
    }
}

impl PopTrack {
    /// How many zones it lacks that are not held back from it.
    fn lacking(&self) -> u64 {
        let held = self.held.keys().filter(|zone| self.pending.contains_key(zone)).count();
        (self.pending.len() - held) as u64
    }

    /// Takes note of a change that published these zones; gives those that the PoP is to confirm.
    fn owe(
        &mut self,
        group: &Group<'_>,
        revision: u64,
        published: &[ZoneId],
        recent: &mut VecDeque<Recent>,
        pop: PopId,
    ) -> Vec<ZoneId> {
        let Group { before, after, now } = *group;
        let mut owed = Vec::with_capacity(published.len());
        for zone in published {
            let pending = self.pending.entry(*zone).or_insert_with(|| PendingZone {
                confirmed: revision - 1,
                latest: revision,
                born: (!is_served(before, *zone)).then_some(revision),
                waiting: VecDeque::new(),
            });
            pending.latest = revision;
            if is_served(after, *zone) {
                owed.push(*zone);
            } else if pending.born.is_some_and(|born| born > self.looked) {
                // It came and went without being sent: there is nothing to confirm, nor to remember of it.
                let waiting = std::mem::take(&mut pending.waiting);
                self.pending.remove(zone);
                if self.is_known {
                    complete(recent, &mut self.waiting, pop, waiting, u64::MAX, now);
                } else {
                    self.waiting -= waiting.len();
                }
            } else {
                self.ceased.insert(*zone);
                owed.push(*zone);
            }
        }
        owed
    }

    /// Has a change wait for these zones; gives how many, none if the PoP owes too much for its milliseconds to be
    /// counted.
    fn wait_for(&mut self, revision: u64, owed: &[ZoneId]) -> u32 {
        if self.waiting + owed.len() > WAITING_MAX {
            return 0;
        }
        for zone in owed {
            if let Some(pending) = self.pending.get_mut(zone) {
                pending.waiting.push_back(revision);
                self.waiting += 1;
            }
        }
        u32::try_from(owed.len()).expect("at most WAITING_MAX")
    }
}

fn is_served(state: &State, zone: ZoneId) -> bool {
    state.zone(zone).is_some_and(|zone| zone.is_served())
}

/// The zones whose publication changes may touch, each once.
pub fn published_zones(changes: &[Change]) -> impl Iterator<Item = ZoneId> {
    let mut seen = HashSet::new();
    changes
        .iter()
        .filter(|change| {
            !matches!(
                change,
                Change::ZoneLabelled { .. }
                    | Change::ZoneAdmitted { .. }
                    | Change::QueryLogSet(_)
                    | Change::QueryLogEnded { .. }
            )
        })
        .filter_map(Change::zone)
        .filter(move |zone| seen.insert(*zone))
}

/// The zones that changes touched, as far as the state before or after has them.
pub fn receipt_zones(before: &State, after: &State, changes: &[Change]) -> Vec<ReceiptZone> {
    let mut zones: Vec<ReceiptZone> = Vec::new();
    let mut places: HashMap<ZoneId, usize> = HashMap::new();
    for change in changes {
        let Some(id) = change.zone() else { continue };
        let serial = match change {
            Change::ZoneCreated { zone, .. } => Some(zone.serial),
            Change::ZoneEdited { serial, .. }
            | Change::ZoneReplaced { serial, .. }
            | Change::ZoneSoaSet { serial, .. }
            | Change::ZoneResolved { serial, .. }
            | Change::ZoneActivated { serial, .. } => Some(*serial),
            _ => None,
        };
        if let Some(place) = places.get(&id) {
            let zone = &mut zones[*place];
            zone.serial = serial.or(zone.serial);
            continue;
        }
        let known = match change {
            Change::ZoneCreated { zone, .. } => Some((zone.name.clone(), zone.tenant)),
            _ => after.zone(id).or(before.zone(id)).map(|zone| (zone.name.clone(), zone.tenant)),
        };
        if let Some((name, tenant)) = known {
            places.insert(id, zones.len());
            zones.push(ReceiptZone { id, name, tenant, serial });
        }
    }
    zones
}

#[cfg(test)]
mod tests;
