//! What is held of endpoints, for all zones at once: one store, and all that is answered with an endpoint follows.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use herald_core::MonitorId;

use crate::geo::Geo;
use crate::part::hash::fold;

/// Numbers of monitors that there can be verdicts on: those from here on always count as up.
pub const MONITORS_MAX: usize = 1 << 24;

/// Verdicts by the numbers of their monitors. Whoever reads them never waits for who changes one.
#[derive(Debug)]
pub struct Verdicts {
    /// Zero: it is up, or nothing is known; else since when it is down, in seconds since the epoch.
    down_since: Box<[AtomicU32]>,
    /// Odd while something changes, and another number afterwards.
    changes: AtomicU64,
    /// What tells it from all others.
    stamp: u64,
}

/// The next one's stamp.
static STAMP: AtomicU64 = AtomicU64::new(1);

impl Default for Verdicts {
    fn default() -> Verdicts {
        Verdicts::with_room(0)
    }
}

impl Verdicts {
    /// Room for verdicts on monitors of numbers below this, and all of them up.
    pub fn with_room(numbers: usize) -> Verdicts {
        let all_up = std::iter::repeat_with(AtomicU32::default).take(numbers.min(MONITORS_MAX));
        let stamp = STAMP.fetch_add(1, Ordering::Relaxed);
        Verdicts { down_since: all_up.collect(), changes: AtomicU64::new(0), stamp }
    }

    /// All monitors are up but these, which are down since then.
    pub fn of(down: &[(MonitorId, u32)]) -> Verdicts {
        let room = down.iter().map(|(monitor, _)| monitor.0 as usize + 1).max().unwrap_or(0);
        let verdicts = Verdicts::with_room(room);
        down.iter().for_each(|(monitor, since)| _ = verdicts.set(*monitor, Some(*since)));
        verdicts
    }

    /// Monitors of numbers below this can be down.
    pub fn room(&self) -> usize {
        self.down_since.len()
    }

    /// Since when a monitor is down, in seconds since the epoch; none if it is up or nothing is known of it.
    pub fn down_since(&self, monitor: MonitorId) -> Option<u32> {
        match self.raw(monitor.0) {
            0 => None,
            since => Some(since),
        }
    }

    /// Zero if it is up, else since when it is down.
    #[inline]
    pub(crate) fn raw(&self, monitor: u32) -> u32 {
        self.down_since.get(monitor as usize).map_or(0, |since| since.load(Ordering::Relaxed))
    }

    /// Holds that a monitor is down since then, or is up. One thread at a time may do that. False if there is no room for it.
    #[must_use]
    pub fn set(&self, monitor: MonitorId, down_since: Option<u32>) -> bool {
        let Some(place) = self.down_since.get(monitor.0 as usize) else { return down_since.is_none() };
        let before = self.changes.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        place.store(down_since.map_or(0, |since| since.max(1)), Ordering::Relaxed);
        self.changes.store(before.wrapping_add(2), Ordering::Release);
        true
    }

    /// Those that are down, ascending.
    pub fn down(&self) -> impl Iterator<Item = (MonitorId, u32)> {
        let numbered = (0_u32..).zip(&self.down_since);
        numbered
            .map(|(number, since)| (MonitorId(number), since.load(Ordering::Relaxed)))
            .filter(|(_, since)| *since > 0)
    }

    /// What tells these verdicts, as they are, from all others; none while one changes.
    fn epoch(&self) -> Option<u64> {
        // What was read before is not read again later than this.
        fence(Ordering::Acquire);
        let changes = self.changes.load(Ordering::Acquire);
        changes
            .is_multiple_of(2)
            .then(|| fold(self.stamp ^ 0x9e37_79b9_7f4a_7c15, changes ^ 0xd6e8_feb8_6659_fd93))
    }
}

/// What a PoP goes by.
#[derive(Clone, Copy, Debug)]
pub struct Health<'a> {
    /// The control plane's verdicts.
    pub verdicts: &'a Verdicts,
    /// Those of the PoP itself, if it is isolated: where it has none of its own, it has the control plane's there.
    pub local: Option<&'a Verdicts>,
}

impl<'a> Health<'a> {
    /// What a policy goes by.
    #[inline]
    pub(crate) fn of(&self, is_local: bool) -> &'a Verdicts {
        match self.local {
            Some(local) if is_local => local,
            _ => self.verdicts,
        }
    }

    /// What tells this state of things from all others; none while something changes.
    pub(crate) fn epoch(&self) -> Option<u64> {
        let herald = self.verdicts.epoch()?;
        match self.local {
            None => Some(herald),
            Some(local) => Some(fold(herald ^ 0x9e37_79b9_7f4a_7c15, local.epoch()? ^ 0xd6e8_feb8_6659_fd93)),
        }
    }
}

/// What is known of the world when something is decided.
#[derive(Clone, Copy, Debug)]
pub struct Knowledge<'a> {
    /// Where clients are.
    pub geo: &'a Geo,
    /// Which endpoints are up.
    pub health: Health<'a>,
}

impl<'a> Knowledge<'a> {
    /// All that is known is where clients are; everything counts as up.
    pub fn places(geo: &'a Geo) -> Knowledge<'a> {
        static ALL_UP: std::sync::LazyLock<Verdicts> = std::sync::LazyLock::new(Verdicts::default);
        Knowledge { geo, health: Health { verdicts: &ALL_UP, local: None } }
    }
}
