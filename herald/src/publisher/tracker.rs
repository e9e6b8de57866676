//! Receipts: what every PoP has confirmed, derived from the generations that it confirms.
//!
//! For each PoP only the zones that it still lacks are kept, so a PoP that is away costs at most an entry a
//! zone. Milliseconds are known for the most recent changes; of older ones it is known whether they are in sync.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use herald_core::account::Principal;
use herald_core::change::Change;
use herald_core::state::State;
use herald_core::{Generation, Name, PopId, TenantId, ZoneId};
use herald_wire::api::Wait;
use tokio::sync::Notify;

use super::Lacks;
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
    /// Which zones.
    pub zones: Vec<ReceiptZone>,
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
    recent: VecDeque<Recent>,
    pops: HashMap<PopId, PopTrack>,
}

/// A recent change.
struct Recent {
    facts: ChangeFacts,
    accepted: Instant,
    /// The PoPs that were enabled and not drained at acceptance, and what they still owe.
    pops: Vec<RecentPop>,
}

struct RecentPop {
    pop: PopId,
    zones_left: u32,
    in_sync_ms: Option<f64>,
}

/// What a PoP lacks.
#[derive(Default)]
struct PopTrack {
    /// Whether it has told what it has since this control plane started.
    is_known: bool,
    pending: HashMap<ZoneId, PendingZone>,
    waiting: usize,
}

struct PendingZone {
    /// Every change of the zone up to this revision is confirmed.
    confirmed: u64,
    /// Revisions of recent changes that wait for this zone, ascending.
    waiting: VecDeque<u64>,
}

impl Tracker {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it is held leaves counts that are off and nothing unsafe.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of commits and the state that they led to. It is to be called before that state is visible, so
    /// that no PoP can confirm what isn't noted yet.
    pub fn committed(&self, after: &Arc<State>, commits: &[Commit]) {
        let accepted = Instant::now();
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.newest, Arc::clone(after));
        for commit in commits {
            inner.note(&before, after, commit, accepted);
        }
    }

    /// A PoP has told what it has: of what `state` says it lacks these zones, each confirmed up to the revision beside
    /// it, and no others.
    pub fn resynced(&self, pop: PopId, state: &State, mut lacks: Lacks) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        for diff in state.published_diff(&inner.newest) {
            if let Some(zone) = diff.new.or(diff.old) {
                lacks.entry(zone.id).or_insert(state.revision());
            }
        }
        let track = inner.pops.entry(pop).or_default();
        track.is_known = true;
        for (zone, pending) in std::mem::take(&mut track.pending) {
            let confirmed = lacks.get(&zone).copied().unwrap_or(u64::MAX);
            let left = complete(&mut inner.recent, &mut track.waiting, pop, pending.waiting, confirmed);
            track.pending.insert(zone, PendingZone { confirmed, waiting: left });
        }
        track.pending.retain(|zone, _| lacks.contains_key(zone));
        for (zone, confirmed) in lacks {
            track.pending.entry(zone).or_insert(PendingZone { confirmed, waiting: VecDeque::new() });
        }
        self.progress.notify_waiters();
    }

    /// A PoP confirms zones, each at a generation.
    pub fn confirmed(&self, pop: PopId, zones: impl IntoIterator<Item = (ZoneId, Generation)>) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(track) = inner.pops.get_mut(&pop) else { return };
        for (zone, generation) in zones {
            let Some(pending) = track.pending.get_mut(&zone) else { continue };
            pending.confirmed = pending.confirmed.max(generation.counter);
            let waiting = std::mem::take(&mut pending.waiting);
            pending.waiting =
                complete(&mut inner.recent, &mut track.waiting, pop, waiting, pending.confirmed);
            let wanted = inner.newest.zone(zone).filter(|zone| zone.is_served()).map(|zone| zone.generation);
            // A zone that is not served any more is confirmed by its removal, which comes last.
            if pending.waiting.is_empty() && wanted.is_none_or(|wanted| wanted <= generation) {
                track.pending.remove(&zone);
            }
        }
        self.progress.notify_waiters();
    }

    /// How many zones the PoP lacks; none if it has not told yet.
    pub fn zones_pending(&self, pop: PopId) -> Option<u64> {
        let inner = self.lock();
        inner.pops.get(&pop).filter(|track| track.is_known).map(|track| track.pending.len() as u64)
    }

    /// A recent change.
    pub fn recent(&self, revision: u64) -> Option<ChangeFacts> {
        self.lock().find(revision).map(|recent| recent.facts.clone())
    }

    /// Where a change of these zones stands at each PoP.
    pub fn pops(&self, state: &State, revision: u64, zones: &[ReceiptZone]) -> Vec<ReceiptPop> {
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
            let has_it = in_sync_ms.is_some() || inner.has(pop.id, revision, zones);
            let state = match (has_it, is_waited_for) {
                (true, _) => PopSyncState::InSync,
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
            if is_enough(wait, &stands()) {
                return true;
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
) -> VecDeque<u64> {
    while let Some(revision) = waiting.pop_front_if(|revision| *revision <= confirmed) {
        *count -= 1;
        let Some(change) = find_mut(recent, revision) else { continue };
        let accepted = change.accepted;
        if let Some(noted) = change.pops.iter_mut().find(|noted| noted.pop == pop) {
            noted.zones_left = noted.zones_left.saturating_sub(1);
            if noted.zones_left == 0 && noted.in_sync_ms.is_none() {
                noted.in_sync_ms = Some(accepted.elapsed().as_secs_f64() * 1000.0);
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
    fn has(&self, pop: PopId, revision: u64, zones: &[ReceiptZone]) -> bool {
        zones.is_empty()
            || self.pops.get(&pop).is_some_and(|track| {
                let lacks = |zone: &ReceiptZone| {
                    track.pending.get(&zone.id).is_some_and(|pending| pending.confirmed < revision)
                };
                track.is_known && !zones.iter().any(lacks)
            })
    }

    fn note(&mut self, before: &State, after: &State, commit: &Commit, accepted: Instant) {
        let revision = commit.revision;
        for change in &*commit.changes {
            if let Change::PopDeleted(pop) = change {
                self.pops.remove(pop);
            }
        }
        let (zones, published) = touched_zones(before, after, &commit.changes);
        let mut pops = Vec::new();
        for pop in after.pops() {
            let track = self.pops.entry(pop.id).or_default();
            let is_waited_for = pop.enabled && !pop.drained;
            let mut zones_left = 0;
            for zone in &published {
                let pending = track
                    .pending
                    .entry(*zone)
                    .or_insert_with(|| PendingZone { confirmed: revision - 1, waiting: VecDeque::new() });
                if is_waited_for && track.waiting < WAITING_MAX {
                    pending.waiting.push_back(revision);
                    track.waiting += 1;
                    zones_left += 1;
                }
            }
            if is_waited_for {
                // What touches nothing that is served is in sync as it is.
                let in_sync_ms = published.is_empty().then_some(0.0);
                pops.push(RecentPop { pop: pop.id, zones_left, in_sync_ms });
            }
        }
        if self.recent.len() == RECENT_CHANGES {
            self.recent.pop_front();
        }
        let facts = ChangeFacts {
            revision,
            accepted_at_ms: commit.context.time_ms,
            principal: commit.context.principal,
            message: commit.context.message.clone(),
            zones,
        };
        self.recent.push_back(Recent { facts, accepted, pops });
    }
}

/// The zones of a change for its receipt, and those whose publication it changed.
fn touched_zones(before: &State, after: &State, changes: &[Change]) -> (Vec<ReceiptZone>, Vec<ZoneId>) {
    let mut zones = receipt_zones(after, changes);
    let mut published = Vec::new();
    for change in changes {
        let Some(id) = change.zone() else { continue };
        let is_served = |state: &State| state.zone(id).is_some_and(|zone| zone.is_served());
        if !matches!(change, Change::ZoneLabelled { .. } | Change::ZoneAdmitted { .. })
            && (is_served(before) || is_served(after))
            && !published.contains(&id)
        {
            published.push(id);
        }
        // A deleted zone is only known to the state before.
        if let Change::ZoneDeleted { zone } = change
            && let Some(zone) = before.zone(*zone)
        {
            zones.push(ReceiptZone { id, name: zone.name.clone(), tenant: zone.tenant, serial: None });
        }
    }
    (zones, published)
}

/// The zones that changes touched, as far as the state still has them.
pub fn receipt_zones(state: &State, changes: &[Change]) -> Vec<ReceiptZone> {
    let mut zones: Vec<ReceiptZone> = Vec::new();
    for change in changes {
        let serial = match change {
            Change::ZoneCreated { zone, .. } => Some(zone.serial),
            Change::ZoneEdited { serial, .. }
            | Change::ZoneReplaced { serial, .. }
            | Change::ZoneSoaSet { serial, .. }
            | Change::ZoneActivated { serial, .. } => Some(*serial),
            _ => None,
        };
        let Some(id) = change.zone() else { continue };
        let known = match change {
            Change::ZoneCreated { zone, .. } => Some((zone.name.clone(), zone.tenant)),
            _ => state.zone(id).map(|zone| (zone.name.clone(), zone.tenant)),
        };
        if let Some((name, tenant)) = known {
            match zones.iter_mut().find(|zone| zone.id == id) {
                Some(zone) => zone.serial = serial.or(zone.serial),
                None => zones.push(ReceiptZone { id, name, tenant, serial }),
            }
        }
    }
    zones
}
