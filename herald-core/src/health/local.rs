//! Which monitors PoPs probe that are isolated, whoever was chosen for them: those of pools of policies that want it so.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;

use crate::state::State;
use crate::steering::{Item, POOL, Tally, pool_key};
use crate::zone::Zone;
use crate::{MonitorId, ZoneId};

/// How many zones have policies that go by a PoP's own probes of a monitor, while that is isolated.
pub type LocalUses = OrdMap<MonitorId, u32>;

/// Kept up to date with the state.
#[derive(Debug, Default)]
pub struct LocalMonitors {
    by_zone: BTreeMap<ZoneId, BTreeSet<MonitorId>>,
    uses: LocalUses,
}

impl LocalMonitors {
    /// Takes in a state that comes after another, in the time that the difference of their zones takes.
    pub fn step(&mut self, seen: &State, state: &State) {
        for diff in seen.published_diff(state) {
            if let Some(old) = diff.old {
                self.put(old.id, BTreeSet::new());
            }
            if let Some(new) = diff.new {
                self.put(new.id, monitors_of(new));
            }
        }
    }

    /// The monitors, and how many zones each has.
    pub fn uses(&self) -> &LocalUses {
        &self.uses
    }

    fn put(&mut self, zone: ZoneId, monitors: BTreeSet<MonitorId>) {
        for monitor in &monitors {
            *self.uses.entry(*monitor).or_insert(0) += 1;
        }
        let before = match monitors.is_empty() {
            true => self.by_zone.remove(&zone),
            false => self.by_zone.insert(zone, monitors),
        };
        for monitor in before.into_iter().flatten() {
            match self.uses.get_mut(&monitor) {
                Some(count) if *count > 1 => *count -= 1,
                _ => _ = self.uses.remove(&monitor),
            }
        }
    }
}

fn monitors_of(zone: &Zone) -> BTreeSet<MonitorId> {
    let pools = zone.content.steering().into_iter().flat_map(Tally::local_pools);
    let pools = pools.filter_map(|name| {
        let rrset = zone.content.get(&pool_key(&zone.name, name).ok()?)?;
        match Item::read(POOL, &rrset.rdatas) {
            Ok(Item::Pool(pool)) => Some(pool),
            _ => None,
        }
    });
    pools.flat_map(|pool| pool.endpoints).filter_map(|endpoint| endpoint.monitor).collect()
}
