//! What a PoP holds, against what it should: at a hello, and when a heartbeat shows drift.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use herald_core::ZoneId;
use herald_core::state::State;
use herald_core::zone::Zone;
use herald_wire::stream::{BUCKETS, InventoryZone, bucket_of};

use crate::publisher::sum::Version;

/// Some of the inventory's buckets.
pub(super) struct Buckets(Box<[bool; BUCKETS]>);

impl Buckets {
    pub(super) fn new(numbers: &[u16]) -> Buckets {
        let mut buckets = Box::new([false; BUCKETS]);
        numbers.iter().for_each(|number| buckets[usize::from(*number)] = true);
        Buckets(buckets)
    }

    pub(super) fn has(&self, zone: ZoneId) -> bool {
        self.0[bucket_of(zone)]
    }
}

/// A zone of which a PoP doesn't hold what it should.
pub(super) struct Different {
    pub zone: ZoneId,
    /// What it holds, if anything.
    pub theirs: Option<InventoryZone>,
    /// That is some state of the zone up to this revision, if it isn't damaged.
    pub confirmed: u64,
    pub mend: Mend,
}

/// What brings it right.
pub(super) enum Mend {
    /// The difference to what it holds.
    Delta(Arc<Zone>),
    Whole,
    Remove,
}

/// Compares the zones of these buckets; `past` finds versions that were served a while ago.
pub(super) fn differences(
    state: &State,
    buckets: &Buckets,
    inventory: &[InventoryZone],
    past: impl FnOnce(&[Version]) -> HashMap<ZoneId, Arc<Zone>>,
) -> Vec<Different> {
    let mut inventory: HashMap<ZoneId, &InventoryZone> =
        inventory.iter().filter(|zone| buckets.has(zone.zone)).map(|zone| (zone.zone, zone)).collect();
    let mut found = Vec::new();
    let mut earlier = Vec::new();
    for zone in state.zones().filter(|zone| zone.is_served() && buckets.has(zone.id)) {
        let theirs = inventory.remove(&zone.id);
        let same = |theirs: &InventoryZone| {
            theirs.generation == zone.generation && theirs.digest == zone.published_digest()
        };
        if theirs.is_some_and(same) {
            continue;
        }
        earlier.extend(theirs.filter(|theirs| theirs.generation < zone.generation).map(Version::from));
        let confirmed = theirs.map_or(0, |theirs| theirs.generation.counter.min(zone.generation.counter - 1));
        let theirs = theirs.cloned();
        found.push(Different { zone: zone.id, theirs, confirmed, mend: Mend::Whole });
    }
    let mut past = past(&earlier);
    for different in &mut found {
        if let Some(zone) = past.remove(&different.zone) {
            different.mend = Mend::Delta(zone);
        }
    }
    // What is left is not to be served.
    let mut gone: Vec<&InventoryZone> = inventory.into_values().collect();
    gone.sort_unstable_by_key(|theirs| theirs.zone);
    found.extend(gone.into_iter().map(|theirs| Different {
        zone: theirs.zone,
        theirs: Some(theirs.clone()),
        confirmed: 0,
        mend: Mend::Remove,
    }));
    found
}

/// A comparison within a session, under way: what the PoP is to hold at the place in the stream where it was asked.
pub(super) struct Comparison {
    pub seen: Arc<State>,
    pub buckets: Buckets,
    /// Zones that are brought right anyway.
    pub excused: HashSet<ZoneId>,
    /// Zones that were held back when it was asked.
    pub held: HashSet<ZoneId>,
    pub inventory: Vec<InventoryZone>,
    /// When the session is over if no more of the inventory has come.
    pub until: Duration,
}

impl Comparison {
    /// What differs, all of which is to come whole: the PoP may be waiting for just that.
    pub(super) fn finish(&self) -> Vec<Different> {
        let mut found = differences(&self.seen, &self.buckets, &self.inventory, |_| HashMap::new());
        found.retain(|different| !self.excused.contains(&different.zone));
        found
    }
}
