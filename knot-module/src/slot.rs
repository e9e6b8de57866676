//! What a zone's instance of the module refers to: the place where queries find the zone's steering.
//!
//! knotd makes and unmakes instances at each reload, the new before it lets go of the old. A slot is there as long as an instance
//! of its zone or steering for it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herald_core::{Generation, Name};
use steering::Part;

use crate::knot::{Query, Retired, Shared};

/// Where a zone's steering is found.
#[derive(Debug)]
pub struct Slot {
    name: Name,
    steering: Shared<Steering>,
}

/// A zone's steering: what is in use, and what will be once knotd serves the records that it goes with.
#[derive(Clone, Debug, Default)]
pub struct Steering {
    /// In use.
    pub current: Option<Version>,
    /// Prepared, the latest last.
    pub pending: Vec<Version>,
}

/// Steering at a generation of its zone.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its generation.
    pub generation: Generation,
    /// The serial of the SOA at that generation.
    pub serial: u32,
    /// What is decided by.
    pub part: Part,
}

impl Slot {
    /// Whether there is no steering.
    #[inline]
    pub fn is_unsteered(&self) -> bool {
        self.steering.is_empty()
    }

    /// The steering that goes with the records which the query sees.
    #[inline]
    pub fn part<'q>(&self, query: &Query<'q>) -> Option<&'q Part> {
        let steering = self.steering.get(query)?;
        if !steering.pending.is_empty()
            && let Some(serial) = query.zone_serial()
            && let Some(pending) = steering.pending.iter().rfind(|version| version.serial == serial)
        {
            return Some(&pending.part);
        }
        steering.current.as_ref().map(|version| &version.part)
    }

    /// Puts this in the place of what is there; none if the zone has no steering any more.
    pub fn replace(&self, steering: Option<Steering>) -> Retired<Steering> {
        self.steering.replace(steering.map(Box::new))
    }
}

/// Slots of the zones that knotd serves.
static SLOTS: Mutex<BTreeMap<Name, Arc<Slot>>> = Mutex::new(BTreeMap::new());

fn slots() -> MutexGuard<'static, BTreeMap<Name, Arc<Slot>>> {
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slot of a zone, made if there is none.
pub fn of(name: &Name) -> Arc<Slot> {
    let mut slots = slots();
    if let Some(slot) = slots.get(name) {
        return slot.clone();
    }
    let slot = Arc::new(Slot { name: name.clone(), steering: Shared::empty() });
    slots.insert(name.clone(), slot.clone());
    slot
}

/// Lets go of a slot. It is gone if nobody else has it and it is empty.
pub fn release(slot: Arc<Slot>) {
    let mut slots = slots();
    let is_last = Arc::strong_count(&slot) <= 2 && slot.is_unsteered();
    if is_last && slots.get(&slot.name).is_some_and(|listed| Arc::ptr_eq(listed, &slot)) {
        slots.remove(&slot.name);
    }
}
