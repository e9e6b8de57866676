//! What was given to the driver of knotd and has yet to be confirmed.
//!
//! Each job has a tag. The newest job of a target answers for all that went before it: knotd then has the newest
//! content, whatever became of the older jobs.

use std::collections::{BTreeMap, HashMap};

use herald_core::ZoneId;
use herald_wire::stream::ZoneGeneration;

use crate::replica::Target;

/// See the module.
#[derive(Default)]
pub(super) struct Flights {
    last_tag: u64,
    by_tag: HashMap<u64, Flight>,
    newest: HashMap<Target, u64>,
    /// The newest job that each zone waits for.
    zones: BTreeMap<ZoneId, u64>,
}

struct Flight {
    target: Target,
    zones: Vec<ZoneGeneration>,
}

/// A job that has come to its end.
pub(super) struct Landed {
    pub target: Target,
    pub zones: Vec<ZoneGeneration>,
    /// Whether no other job followed it.
    pub is_newest: bool,
}

impl Flights {
    /// A job for this target starts; once it is done, these zones are. Gives its tag.
    pub fn launch(&mut self, target: &Target, mut zones: Vec<ZoneGeneration>) -> u64 {
        self.last_tag += 1;
        let tag = self.last_tag;
        if let Some(before) =
            self.newest.insert(target.clone(), tag).and_then(|before| self.by_tag.get(&before))
        {
            let is_new = |old: &ZoneGeneration| !zones.iter().any(|zone| zone.zone == old.zone);
            let carried: Vec<ZoneGeneration> = before.zones.iter().copied().filter(is_new).collect();
            zones.extend(carried);
        }
        for zone in &zones {
            self.zones.insert(zone.zone, tag);
        }
        self.by_tag.insert(tag, Flight { target: target.clone(), zones });
        tag
    }

    /// A job has come to its end; none if it was forgotten.
    pub fn land(&mut self, tag: u64) -> Option<Landed> {
        let Flight { target, zones } = self.by_tag.remove(&tag)?;
        let is_newest = self.newest.get(&target) == Some(&tag);
        if is_newest {
            self.newest.remove(&target);
            for zone in &zones {
                if self.zones.get(&zone.zone) == Some(&tag) {
                    self.zones.remove(&zone.zone);
                }
            }
        }
        Some(Landed { target, zones, is_newest })
    }

    /// What a zone waits for makes it be at this generation, too: then that is confirmed. `false` if it waits for nothing.
    pub fn raise(&mut self, receipt: ZoneGeneration) -> bool {
        let flight = self.zones.get(&receipt.zone).and_then(|tag| self.by_tag.get_mut(tag));
        let Some(flight) = flight else { return false };
        for zone in flight.zones.iter_mut().filter(|zone| zone.zone == receipt.zone) {
            zone.generation = zone.generation.max(receipt.generation);
        }
        true
    }

    /// What a job is for, if no other followed it.
    pub fn target_if_newest(&self, tag: u64) -> Option<&Target> {
        let flight = self.by_tag.get(&tag)?;
        (self.newest.get(&flight.target) == Some(&tag)).then_some(&flight.target)
    }

    /// Whether a job for it is under way.
    pub fn has(&self, target: &Target) -> bool {
        self.newest.contains_key(target)
    }

    /// Whether this zone waits for a job.
    pub fn has_zone(&self, zone: ZoneId) -> bool {
        self.zones.contains_key(&zone)
    }

    /// What the job is for that this zone waits for.
    pub fn target_of(&self, zone: ZoneId) -> Option<&Target> {
        Some(&self.by_tag.get(self.zones.get(&zone)?)?.target)
    }

    /// The zones that wait for a job.
    pub fn zones(&self) -> impl Iterator<Item = ZoneId> {
        self.zones.keys().copied()
    }

    /// How many zones wait for a job.
    pub fn zone_count(&self) -> usize {
        self.zones.len()
    }

    /// How many jobs are under way.
    pub fn len(&self) -> usize {
        self.by_tag.len()
    }
}

#[cfg(test)]
mod tests {
    use herald_core::{Generation, Name};

    use super::*;

    fn receipt(zone: u128, counter: u64) -> ZoneGeneration {
        ZoneGeneration { zone: ZoneId(zone), generation: Generation { epoch: 1, counter } }
    }

    /// A zone took another one's name over, and that one's removal follows: it is confirmed as the removal, not as
    /// the older generation that took the name.
    #[test]
    fn a_removal_is_confirmed_with_what_took_the_name() {
        let name = Target::Public(Name::parse("example.com").unwrap());
        let mut flights = Flights::default();
        let tag = flights.launch(&name, vec![receipt(1, 5), receipt(2, 5)]);
        assert!(flights.raise(receipt(2, 9)));
        assert!(flights.raise(receipt(1, 4)), "what is older changes nothing");
        assert!(!flights.raise(receipt(3, 9)), "nothing is under way for it");
        let landed = flights.land(tag).unwrap();
        assert_eq!(landed.zones, [receipt(1, 5), receipt(2, 9)]);
        assert!(!flights.raise(receipt(2, 10)));
    }
}
