//! Versions of large zones that were served a while ago.
//!
//! A PoP that was out of touch comes back with one of them: from there a delta brings it up to date, where without it
//! the whole zone would have to be sent. Small zones are sent whole, which costs as little.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use herald_core::ZoneId;
use herald_core::zone::Zone;

use super::sum::Version;

/// A zone of fewer RRsets isn't remembered.
const RRSETS_MIN: u64 = 256;

/// Most versions that are remembered. Each holds what its successor doesn't share: some kilobytes.
const VERSIONS_MAX: usize = 4_096;

/// For how long one is remembered.
const AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// See the module.
#[derive(Default)]
pub(super) struct PastZones {
    versions: HashMap<ZoneId, VecDeque<(u64, Arc<Zone>)>>,
    /// When each was superseded, and its number: oldest first. Some may be gone already.
    order: VecDeque<(Duration, ZoneId, u64)>,
    next_number: u64,
}

impl PastZones {
    /// This version has just been superseded by one that shares most with it.
    pub(super) fn remember(&mut self, zone: &Arc<Zone>, now: Duration) {
        self.drop_old(now);
        if zone.content.rrset_count() < RRSETS_MIN {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.versions.entry(zone.id).or_default().push_back((number, Arc::clone(zone)));
        self.order.push_back((now, zone.id, number));
    }

    /// The zone is gone or wholly other: what was before shares nothing with it and would only take room.
    pub(super) fn forget(&mut self, zone: ZoneId) {
        self.versions.remove(&zone);
    }

    /// The zone at exactly this version.
    pub(super) fn find(&self, version: Version) -> Option<Arc<Zone>> {
        let versions = self.versions.get(&version.zone)?;
        let found = versions.iter().rev().find(|(_, zone)| zone.generation == version.generation)?;
        (found.1.published_digest() == version.digest).then(|| Arc::clone(&found.1))
    }

    fn drop_old(&mut self, now: Duration) {
        while let Some((at, zone, number)) = self.order.front().copied()
            && (self.order.len() >= VERSIONS_MAX || now.saturating_sub(at) > AGE_MAX)
        {
            self.order.pop_front();
            if let Some(versions) = self.versions.get_mut(&zone) {
                while versions.front().is_some_and(|(first, _)| *first <= number) {
                    versions.pop_front();
                }
                if versions.is_empty() {
                    self.versions.remove(&zone);
                }
            }
        }
    }
}
