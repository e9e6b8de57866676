//! Whether the replica holds what it must: compared with what the control plane says with each ping, and re-read from the
//! disk all the time.
//!
//! What differs is mended zone by zone: the control plane is told the bucket digests, asks for the inventory of those that
//! differ, and sends what isn't right. A zone that was found to be damaged is asked for at once.

use std::time::Duration;

use herald_core::ZoneId;
use herald_wire::stream::{BUCKETS, ToHerald};

use super::store::ReplicaState;
use super::{Action, Core};
use crate::agent::scrubber::{Scrub, Scrubbed};
use crate::replica::ReplicaError;

/// How often the control plane is told that the replica holds something else, and how long it may take a zone that
/// was asked for to come before that counts as such.
const DRIFT_PAUSE: Duration = Duration::from_secs(3);

/// In what time all zones are re-read: in the shorter one, if that takes no more than [`SCRUB_RRSETS_PER_S`].
const SCRUB_ROUND_MIN_S: u64 = 60;
const SCRUB_ROUND_MAX_S: u64 = 3600;
const SCRUB_RRSETS_PER_S: u64 = 5_000;

/// How often some zones are re-read.
const SCRUB_INTERVAL: Duration = Duration::from_secs(1);

/// How many zones are re-read at once, at most.
const SCRUB_ZONES_MAX: u64 = 1_000;

/// The comparison with what the control plane says.
#[derive(Default)]
pub(super) struct Comparison {
    /// Since when the replica is known to hold something else.
    differs_since: Option<Duration>,
    /// When the control plane was last told so.
    told_at: Option<Duration>,
}

/// How far re-reading is.
pub(super) struct ScrubState {
    /// The last zone that was re-read in this round.
    after: Option<ZoneId>,
    /// When to go on; none while something is being re-read.
    due: Option<Duration>,
}

impl ScrubState {
    pub(super) fn new() -> ScrubState {
        ScrubState { after: None, due: Some(SCRUB_INTERVAL) }
    }
}

impl Core {
    /// A ping's figures were compared.
    pub(super) fn compared(&mut self, is_same: bool) {
        let now = self.now;
        self.figures.compared_at = Some(now);
        if is_same {
            if std::mem::take(&mut self.figures.is_drifted) {
                self.figures.drifts_mended += 1;
                tracing::info!("the replica holds again what it must");
            }
            self.stop_comparing();
            return;
        }
        let since = *self.comparison.differs_since.get_or_insert(now);
        // What was asked for is on its way. But a question may get lost, too.
        let is_asked_for =
            !self.gapped.is_empty() || !self.missing.is_empty() || !self.late_refusals.is_empty();
        let is_time = self.comparison.told_at.is_none_or(|told_at| now >= told_at + DRIFT_PAUSE);
        if !is_time || is_asked_for && now < since + DRIFT_PAUSE {
            return;
        }
        if !std::mem::replace(&mut self.figures.is_drifted, true) {
            self.figures.drifts_found += 1;
            tracing::warn!("the replica holds something else than it must: what differs is asked for");
        }
        self.comparison.told_at = Some(now);
        let bucket_digests = self.replica.bucket_digests().iter().flat_map(|digest| digest.to_be_bytes());
        let bucket_digests = bucket_digests.collect();
        self.send(ToHerald::Drifted { bucket_digests });
    }

    pub(super) fn stop_comparing(&mut self) {
        self.comparison = Comparison::default();
    }

    // -- re-reading -------------------------------------------------------------------------------

    /// When to go on with re-reading.
    pub(super) fn scrub_due(&self) -> Option<Duration> {
        match self.replica_state {
            ReplicaState::Sound => self.scrub.due,
            ReplicaState::Full { .. } | ReplicaState::Lost { .. } => None,
        }
    }

    pub(super) fn scrub_if_due(&mut self) {
        if self.scrub_due().is_none_or(|due| due > self.now) {
            return;
        }
        self.scrub.due = None;
        let (rate, zones_max) = self.scrub_pace();
        match self.replica.zones_after(self.scrub.after, zones_max as usize, rate) {
            Ok(zones) => {
                let order = match zones.last() {
                    Some(last) => {
                        self.scrub.after = Some(*last);
                        Scrub::Zones { zones, rrsets_per_s: rate }
                    }
                    None => {
                        self.replica.watch_buckets();
                        Scrub::Rows
                    }
                };
                self.actions.push(Action::Scrub(order));
            }
            Err(error) => self.replica_failed(&error),
        }
    }

    /// How many RRsets a second are re-read, and how many zones at once at most.
    fn scrub_pace(&self) -> (u64, u64) {
        let (zones, rrsets) = (self.replica.zone_count(), self.replica.rrset_count());
        let round_s = (rrsets / SCRUB_RRSETS_PER_S).clamp(SCRUB_ROUND_MIN_S, SCRUB_ROUND_MAX_S);
        let per_s = |count: u64| count.div_ceil(round_s).max(1);
        (per_s(rrsets), per_s(zones).min(SCRUB_ZONES_MAX))
    }

    pub(super) fn scrubbed(&mut self, scrubbed: Scrubbed) {
        self.scrub.due = Some(self.now + SCRUB_INTERVAL);
        match scrubbed {
            Scrubbed::Zones { zones, damaged } => {
                self.figures.zones_scrubbed += zones;
                damaged.into_iter().for_each(|zone| self.zone_damaged(zone));
            }
            Scrubbed::Rows(digests) => {
                self.scrub.after = None;
                self.figures.scrub_rounds += 1;
                self.compare_rows(digests.as_deref());
            }
            Scrubbed::Failed => {}
        }
    }

    /// What is kept in memory has to be what the rows add up to.
    fn compare_rows(&mut self, digests: Option<&[u128; BUCKETS]>) {
        // None if the replica was opened anew meanwhile.
        let Some(changed) = self.replica.watched_buckets() else { return };
        let kept = self.replica.bucket_digests();
        let is_same = |bucket: usize| digests.is_some_and(|digests| digests[bucket] == kept[bucket]);
        if (0..BUCKETS).any(|bucket| !changed.contains(&bucket) && !is_same(bucket)) {
            let what = "rows of zones are not what was written".into();
            // Opening it anew takes damaged rows out and counts what is there; what is missing then comes.
            self.replica_failed(&ReplicaError::DamagedZone(what));
        }
    }
}
