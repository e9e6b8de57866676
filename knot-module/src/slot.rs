//! What a zone's instance of the module refers to: the place where queries find the zone's steering.
//!
//! knotd makes and unmakes instances at each reload, the new before it lets go of the old. A slot is there as long as an instance
//! of its zone or steering for it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herald_core::zone::serial_is_newer;
use herald_core::{Generation, Name, Rrset, Rtype, ZoneId};
use steering::{Part, RrsetRef, rrset_octets};

use crate::counts::Numbered;
use crate::knot::{Query, Retired, Shared};
use crate::queries;

/// Where a zone's steering is found.
#[derive(Debug)]
pub struct Slot {
    /// Of [`INSIDERS`] and [`ALIASES`] what some of the steering has. It is looked at first, since most zones have neither.
    has: AtomicU8,
    steering: Shared<Steering>,
    /// What its queries are counted under.
    number: Numbered,
    /// The same number, and above it what its queries are marked with if they are logged: one load for both.
    label: AtomicU64,
    name: Name,
}

/// Insiders are answered from the steering.
const INSIDERS: u8 = 1;
/// There are policies for CNAME.
const ALIASES: u8 = 2;

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
    /// Whether knotd doesn't have the zone: it is there for insiders alone.
    pub is_private: bool,
    /// What is decided by.
    pub part: Part,
    /// The zone's SOA, where insiders are answered from here.
    pub soa: Option<Soa>,
}

/// A zone's SOA, in knotd's form.
#[derive(Clone, Debug)]
pub struct Soa {
    ttl: u32,
    octets: Arc<[u8]>,
}

impl Soa {
    /// None if the RRset is no SOA's.
    pub fn new(rrset: &Rrset) -> Option<Soa> {
        let (octets, count) = rrset_octets(&rrset.rdatas)?;
        (count == 1).then(|| Soa { ttl: rrset.ttl, octets: octets.into() })
    }

    /// As look-ups have it.
    pub fn as_rrset(&self) -> RrsetRef<'_> {
        RrsetRef { rtype: Rtype::SOA, ttl: self.ttl, count: 1, rdatas: &self.octets }
    }
}

impl Steering {
    fn has(&self) -> u8 {
        let has = |version: &Version| {
            let insiders = if version.soa.is_some() { INSIDERS } else { 0 };
            let aliases = if version.part.has_cname_policies() { ALIASES } else { 0 };
            insiders | aliases
        };
        self.pending.iter().chain(&self.current).map(has).fold(0, |all, one| all | one)
    }

    /// What goes with the records of this serial.
    #[cold]
    fn seen(&self, serial: Option<u32>) -> Option<&Version> {
        // Records alone may have changed since, under a later serial, before this was told that it is in use.
        let is_seen =
            |version: &&Version| serial.is_some_and(|serial| !serial_is_newer(version.serial, serial));
        let pending = self.pending.iter().rfind(is_seen);
        pending.or(self.current.as_ref())
    }
}

impl Slot {
    /// One that is in no list: of a zone that knotd doesn't have.
    pub fn unlisted(name: &Name, zone: ZoneId) -> Arc<Slot> {
        Slot::new(name, Some(zone))
    }

    fn new(name: &Name, zone: Option<ZoneId>) -> Arc<Slot> {
        let number = Numbered::new(name, zone);
        let slot = Slot {
            has: AtomicU8::new(0),
            steering: Shared::empty(),
            label: AtomicU64::new(number.number().into()),
            number,
            name: name.clone(),
        };
        slot.mark(queries::mark_of(name, zone));
        Arc::new(slot)
    }

    /// What its queries are counted under, and above it what they are marked with if they are logged.
    #[inline]
    pub fn label(&self) -> u64 {
        self.label.load(Ordering::Relaxed)
    }

    /// Its queries are logged under this mark from now on; with zero they aren't.
    pub fn mark(&self, mark: u32) {
        self.label.store(u64::from(mark) << 32 | u64::from(self.number.number()), Ordering::Relaxed);
    }

    /// The zone's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether there is no steering.
    pub fn is_unsteered(&self) -> bool {
        self.steering.is_empty()
    }

    /// Whether insiders may be answered from here.
    #[inline]
    pub fn has_insiders(&self) -> bool {
        self.has.load(Ordering::Relaxed) & INSIDERS != 0
    }

    /// Whether there may be policies for CNAME.
    #[inline]
    pub fn has_aliases(&self) -> bool {
        self.has.load(Ordering::Relaxed) & ALIASES != 0
    }

    /// The steering that goes with the records which the query sees.
    #[inline]
    pub fn version<'q>(&self, query: &Query<'q>) -> Option<&'q Version> {
        let steering = self.steering.get(query)?;
        if steering.pending.is_empty() {
            steering.current.as_ref()
        } else {
            steering.seen(query.zone_serial())
        }
    }

    /// The steering of a zone that knotd doesn't have.
    pub fn settled<'q>(&self, query: &Query<'q>) -> Option<&'q Version> {
        self.steering.get(query)?.current.as_ref()
    }

    /// Puts this in the place of what is there; none if the zone has no steering any more.
    pub fn replace(&self, steering: Option<Steering>) -> Retired<Steering> {
        let has = steering.as_ref().map_or(0, Steering::has);
        // At no time less than what a query may find, whichever it sees.
        self.has.fetch_or(has, Ordering::SeqCst);
        let retired = self.steering.replace(steering.map(Box::new));
        self.has.store(has, Ordering::SeqCst);
        retired
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
    let slot = Slot::new(name, None);
    slots.insert(name.clone(), slot.clone());
    slot
}

/// Queries of the zone of this name are logged under this mark from now on, if knotd has it; with zero they aren't.
pub fn mark(name: &Name, mark: u32) {
    if let Some(slot) = slots().get(name) {
        slot.mark(mark);
    }
}

/// Lets go of a slot. It is gone if nobody else has it and it is empty.
pub fn release(slot: Arc<Slot>) {
    let mut slots = slots();
    let is_last = Arc::strong_count(&slot) <= 2 && slot.is_unsteered();
    if is_last && slots.get(&slot.name).is_some_and(|listed| Arc::ptr_eq(listed, &slot)) {
        slots.remove(&slot.name);
    }
}
