//! What control knows of a zone, and how tasks for it are held and coalesced.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;

use herald_core::rdata::check_rdata;
use herald_core::steering::is_steering_type;
use herald_core::{Name, RrKey, Rrset, Rtype, ZoneId};

use super::encode::SET_RDATA_BYTES_MAX;
use super::{Delta, Limits, Put, TaskError};
use crate::knot::placeholder::changes_for_knot;
use crate::module::desk::{Change, Desk};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not a member of the catalog.
    Absent,
    /// Its file is being written.
    Writing { member: bool },
    /// Its file is there, and the module is being told what of it is for it.
    Awaiting { member: bool, records: u64 },
    /// Its file is there; a reload (member) or an addition is to come.
    Written { member: bool, records: u64 },
    /// knotd is loading it.
    Loading,
    /// A member that's served with this serial.
    Served { serial: u32 },
    /// A member that's served with this serial, and the module is being told of a change.
    Preparing { serial: u32 },
    /// The same, and the module is ready for it.
    Prepared { serial: u32 },
    /// A member, but what it serves isn't what it should.
    Broken,
    /// To be removed from the catalog.
    Removable,
    /// Removed from the catalog; knotd has yet to notice.
    Removing,
}

pub(super) struct Zone {
    pub(super) phase: Phase,
    /// The task that is under way, and the tags that it answers.
    pub(super) current: Option<(Base, Vec<u64>)>,
    /// Whether the serial of the current task's content tells it from what was served before.
    pub(super) serial_tells: bool,
    /// Replaces the content once the current task is through.
    pub(super) base: Option<(Base, Vec<u64>)>,
    /// Changes on top of it.
    pub(super) delta: Option<HeldDelta>,
    /// The changes that the module is being told of, or is ready for.
    pub(super) taken: Option<HeldDelta>,
    /// Whether the module is ready for the content that is under way, and as which zone's.
    pub(super) prepared_whole: Option<ZoneId>,
    /// Whether it has nothing to do before the module can be told.
    pub(super) waits_for_module: bool,
    /// Whether it's in the queue of deltas, in that of resting zones, or in that of those that the module is to be told of.
    pub(super) delta_queued: bool,
    /// When its next delta may be done.
    pub(super) rests_until: Option<Instant>,
}

#[derive(Clone)]
pub(super) enum Base {
    Put(Put),
    Remove,
    /// To be found served with this serial after a resume.
    Expect(u32),
}

pub(super) struct HeldDelta {
    pub(super) soa: Rrset,
    pub(super) changes: BTreeMap<RrKey, Option<Rrset>>,
    pub(super) records: usize,
    pub(super) whole: Put,
    /// What it is for the module, if anything.
    pub(super) steering: Option<Change>,
    pub(super) tags: Vec<u64>,
}

impl HeldDelta {
    pub(super) fn new(delta: Delta) -> HeldDelta {
        let mut held = HeldDelta {
            soa: delta.soa.clone(),
            changes: BTreeMap::new(),
            records: 0,
            whole: delta.whole.clone(),
            steering: None,
            tags: Vec::new(),
        };
        held.merge(delta);
        held
    }

    pub(super) fn merge(&mut self, delta: Delta) {
        self.soa = delta.soa;
        self.whole = delta.whole;
        self.steering = Change::followed_by(self.steering.take(), delta.steering);
        for (key, rrset) in delta.changes {
            self.records += weight(rrset.as_ref());
            if let Some(replaced) = self.changes.insert(key, rrset) {
                self.records -= weight(replaced.as_ref());
            }
        }
    }

    /// Puts an older delta beneath this one.
    pub(super) fn merge_below(&mut self, older: HeldDelta) {
        self.steering = Change::followed_by(older.steering, self.steering.take());
        for (key, rrset) in older.changes {
            if let Entry::Vacant(entry) = self.changes.entry(key) {
                self.records += weight(rrset.as_ref());
                entry.insert(rrset);
            }
        }
        self.tags.splice(0..0, older.tags);
    }
}

/// What an RRset counts in a delta: its records, and one for the removal of the old ones.
pub(super) fn weight(rrset: Option<&Rrset>) -> usize {
    1 + rrset.map_or(0, |rrset| rrset.rdatas.len())
}

impl Zone {
    pub(super) fn absent() -> Zone {
        Zone {
            phase: Phase::Absent,
            current: None,
            serial_tells: false,
            base: None,
            delta: None,
            taken: None,
            prepared_whole: None,
            waits_for_module: false,
            delta_queued: false,
            rests_until: None,
        }
    }

    /// Whether nothing is under way or held.
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.base.is_none() && self.delta.is_none() && self.taken.is_none()
    }

    /// Whether a delta has something to go on top of, now or later.
    pub(super) fn takes_delta(&self) -> bool {
        match (&self.base, &self.current) {
            (Some((base, _)), _) | (None, Some((base, _))) => !matches!(base, Base::Remove),
            (None, None) => {
                matches!(self.phase, Phase::Served { .. } | Phase::Preparing { .. } | Phase::Prepared { .. })
            }
        }
    }

    /// Changes that the module was told of are held again, beneath those that came since.
    pub(super) fn hold_taken(&mut self) {
        let Some(taken) = self.taken.take() else { return };
        match (&mut self.base, &mut self.delta) {
            // Content that came since has them in it.
            (Some((_, tags)), _) => tags.splice(0..0, taken.tags).for_each(drop),
            (None, Some(later)) => later.merge_below(taken),
            (None, None) => self.delta = Some(taken),
        }
    }

    /// What is under way is held again, unless something came meanwhile, which takes its place.
    pub(super) fn hold_current(&mut self) {
        match (self.current.take(), &mut self.base) {
            (Some((_, tags)), Some((_, later))) => later.splice(0..0, tags).for_each(drop),
            (current, base) => *base = current.or(base.take()),
        }
    }

    /// Holds a task that replaces everything that's held.
    pub(super) fn hold_base(&mut self, base: Base, tag: u64) {
        let mut tags = self.base.take().map(|(_, tags)| tags).unwrap_or_default();
        tags.extend(self.delta.take().map(|delta| delta.tags).unwrap_or_default());
        tags.push(tag);
        self.base = Some((base, tags));
    }

    /// Holds a change on top of the one that is held.
    pub(super) fn merge_delta(&mut self, delta: Delta, tag: u64, limits: &Limits) {
        let mut held = match self.delta.take() {
            None => HeldDelta::new(delta),
            Some(mut held) => {
                held.merge(delta);
                held
            }
        };
        held.tags.push(tag);
        self.hold_delta(held, limits);
    }

    /// Holds a change, as whole content where that is the better way.
    pub(super) fn hold_delta(&mut self, held: HeldDelta, limits: &Limits) {
        let too_much = held.records > limits.delta_records_max || held.has_rdata_for_files_only();
        match &mut self.base {
            Some((base, tags)) => {
                *base = Base::Put(held.whole);
                tags.extend(held.tags);
            }
            None if too_much => self.base = Some((Base::Put(held.whole), held.tags)),
            None => self.delta = Some(held),
        }
    }

    /// Takes the tags of held tasks that content of this serial has in it already. Where the module may lack what goes with it, the
    /// whole zone is put.
    pub(super) fn take_done_by(&mut self, serial: u32, desk: &Desk) -> Vec<u64> {
        let is_known = |put: &Put| put.module.is_none_or(|(zone, needed)| desk.in_use(zone) == Some(needed));
        let mut tags = Vec::new();
        if let Some((Base::Put(put), _)) = &self.base
            && !is_newer(put.serial, serial)
            && is_known(put)
        {
            tags.extend(self.base.take().map(|(_, tags)| tags).unwrap_or_default());
        }
        if let Some(delta) = self.delta.take_if(|delta| !is_newer(delta.whole.serial, serial)) {
            match is_known(&delta.whole) {
                true => tags.extend(delta.tags),
                false => {
                    let mut all = self.base.take().map(|(_, tags)| tags).unwrap_or_default();
                    all.extend(delta.tags);
                    self.base = Some((Base::Put(delta.whole), all));
                }
            }
        }
        tags
    }

    pub(super) fn take_current(&mut self) -> Vec<u64> {
        self.current.take().map(|(_, tags)| tags).unwrap_or_default()
    }

    pub(super) fn take_tags(&mut self) -> Vec<u64> {
        let mut tags = self.take_current();
        tags.extend(self.taken.take().map(|taken| taken.tags).unwrap_or_default());
        tags.extend(self.base.take().map(|(_, tags)| tags).unwrap_or_default());
        tags.extend(self.delta.take().map(|delta| delta.tags).unwrap_or_default());
        tags
    }
}

/// Whether serial `a` is newer than `b` (RFC 1982).
pub(super) fn is_newer(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

impl HeldDelta {
    /// Checks the records, which knotd does not when they come as octets.
    pub(super) fn check(&self) -> Result<(), TaskError> {
        let changes = self.changes.iter().filter_map(|(key, rrset)| Some((key.rtype, rrset.as_ref()?)));
        changes
            .chain([(Rtype::SOA, &self.soa)])
            .try_for_each(|(rtype, rrset)| {
                rrset.rdatas.iter().try_for_each(|rdata| check_rdata(rtype, rdata))
            })
            .map_err(|error| TaskError::Malformed(error.to_string()))
    }

    /// What of it knotd is told.
    pub(super) fn for_knot(&self) -> Cow<'_, BTreeMap<RrKey, Option<Rrset>>> {
        match self.changes.keys().any(|key| is_steering_type(key.rtype)) {
            true => Cow::Owned(changes_for_knot(&self.changes)),
            false => Cow::Borrowed(&self.changes),
        }
    }

    /// What of it the module is told.
    pub(super) fn for_module(&self, with_records: bool) -> impl Iterator<Item = (&RrKey, Option<&Rrset>)> {
        let is_for_it = move |key: &RrKey| with_records || is_steering_type(key.rtype);
        let changes = self.changes.iter().filter(move |(key, _)| is_for_it(key));
        changes.map(|(key, rrset)| (key, rrset.as_ref()))
    }

    pub(super) fn has_rdata_for_files_only(&self) -> bool {
        let plain = self.changes.iter().filter(|(key, _)| !is_steering_type(key.rtype));
        let rrsets = plain.filter_map(|(_, rrset)| rrset.as_ref()).chain([&self.soa]);
        rrsets.flat_map(|rrset| rrset.rdatas.iter()).any(|rdata| rdata.len() > SET_RDATA_BYTES_MAX)
    }
}

/// The name as knotd has it in file names.
pub(super) fn without_slashes(name: &Name) -> Name {
    let wire: Vec<u8> =
        name.as_wire().iter().map(|&octet| if octet == b'/' { b'_' } else { octet }).collect();
    // A length octet of 47 would be changed too.
    if name.labels().any(|label| label.len() == usize::from(b'/')) {
        let mut wire = Vec::with_capacity(wire.len());
        for label in name.labels() {
            wire.push(label.len() as u8);
            wire.extend(label.iter().map(|&octet| if octet == b'/' { b'_' } else { octet }));
        }
        wire.push(0);
        return Name::from_wire(&wire).unwrap_or_else(|_| name.clone());
    }
    Name::from_wire(&wire).unwrap_or_else(|_| name.clone())
}
