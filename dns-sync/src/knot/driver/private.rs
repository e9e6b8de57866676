//! Private zones: knotd has none of them, in no catalog and no file. The module alone is told, and what it is ready for it uses at once.
//!
//! ```text
//!            Put                gathered              Prepared
//!   idle ──────────▶ gathering ──────────▶ being told ────────▶ idle
//!     │                                        ▲
//!     └────────── Delta, Remove ───────────────┘
//! ```
//! Without the module everything waits. What comes meanwhile is held and coalesced as that of other zones is.

use std::io;

use herald_core::{Generation, Name, ZoneId};

use super::control::{Control, Mode};
use super::zone::{Base, Phase, Zone};
use super::{FileOrder, NO_MODULE, Task, TaskError};
use crate::module::desk::Prepare;
use crate::module::zone::WholeZone;
use crate::replica::Target;

/// A private zone with something to be done.
pub(super) struct PrivateZone {
    name: Name,
    /// What is held and under way. Of its phases it is in `Absent` (idle), `Writing` (gathering) and `Awaiting` (being told).
    zone: Zone,
}

impl Control {
    pub(super) fn take_private_job(&mut self, id: ZoneId, name: Name, tag: u64, task: Task) {
        let private = self.private.entry(id).or_insert_with(|| PrivateZone { name, zone: Zone::absent() });
        let zone = &mut private.zone;
        match task {
            Task::Put(put) => zone.hold_base(Base::Put(put), tag),
            Task::Remove => zone.hold_base(Base::Remove, tag),
            Task::Delta(delta) => zone.merge_delta(delta, tag, &self.config.limits),
        }
        self.advance_private(id);
    }

    pub(super) fn advance_all_private(&mut self) {
        let all: Vec<ZoneId> = self.private.keys().copied().collect();
        all.into_iter().for_each(|id| self.advance_private(id));
    }

    /// Starts the next held task of a zone if nothing is under way, and forgets the zone if there is none.
    fn advance_private(&mut self, id: ZoneId) {
        let Some(PrivateZone { name, zone }) = self.private.get_mut(&id) else { return };
        if zone.phase != Phase::Absent || self.mode != Mode::Running {
            return;
        }
        if zone.is_idle() {
            self.private.remove(&id);
            return;
        }
        if self.link.is_none() {
            let error = TaskError::Steering(NO_MODULE.into());
            let is_removal = matches!(zone.base, Some((Base::Remove, _)));
            let result = if is_removal { Ok(()) } else { Err(error) };
            return self.private_done(id, result);
        }
        if !self.desk.is_up() {
            return;
        }
        match zone.base.take() {
            Some((Base::Put(put), tags)) => {
                zone.phase = Phase::Writing { member: true };
                let order = FileOrder::Gather { zone: id, content: put.content.clone() };
                zone.current = Some((Base::Put(put), tags));
                self.file_orders_under_way += 1;
                let _ = self.files.send(order);
            }
            Some((base, tags)) => {
                // Later than all that the module has.
                let in_use = self.desk.in_use(id).unwrap_or_default();
                let generation = Generation { counter: in_use.counter + 1, ..in_use };
                let gone = WholeZone::without_insiders(id, name.clone(), generation);
                zone.current = Some((base, tags));
                self.tell_private(id, &gone);
            }
            None => self.tell_private_change(id),
        }
    }

    fn tell_private_change(&mut self, id: ZoneId) {
        let Some(PrivateZone { name, zone }) = self.private.get_mut(&id) else { return };
        let Some(held) = zone.delta.take() else { return };
        let told = match (&held.steering, held.check()) {
            (_, Err(error)) => Err(error),
            // Nobody is inside.
            (None, Ok(())) => Ok(Prepare::Known),
            (Some(change), Ok(())) => {
                let rrsets = held.for_module(change.with_records);
                Ok(self.desk.prepare_change(name, change, held.whole.serial, &held.soa, rrsets))
            }
        };
        zone.taken = Some(held);
        match told {
            Ok(Prepare::Told) => zone.phase = Phase::Awaiting { member: true, records: 0 },
            Ok(Prepare::Known) => self.private_done(id, Ok(())),
            Ok(Prepare::WholeNeeded) => self.private_done(id, Err(TaskError::NotServed)),
            Err(error) => self.private_done(id, Err(error)),
        }
    }

    pub(super) fn private_gathered(&mut self, id: ZoneId, gathered: io::Result<Option<WholeZone>>) {
        self.file_orders_under_way -= 1;
        let Some(PrivateZone { zone, .. }) = self.private.get_mut(&id) else { return };
        if !matches!(zone.phase, Phase::Writing { .. }) {
            return;
        }
        match gathered {
            Ok(Some(whole)) if self.desk.is_up() => self.tell_private(id, &whole),
            Ok(Some(_)) => {
                zone.phase = Phase::Absent;
                zone.hold_current();
            }
            Ok(None) => self.private_done(id, Err(TaskError::File("it has no SOA".into()))),
            Err(error) => self.private_done(id, Err(TaskError::File(error.to_string()))),
        }
    }

    fn tell_private(&mut self, id: ZoneId, whole: &WholeZone) {
        let Some(PrivateZone { name, zone }) = self.private.get_mut(&id) else { return };
        match self.desk.prepare_whole(name, whole) {
            Prepare::Told => zone.phase = Phase::Awaiting { member: true, records: 0 },
            Prepare::Known | Prepare::WholeNeeded => self.private_done(id, Ok(())),
        }
    }

    /// The module uses what it was told, or refuses it.
    pub(super) fn private_answered(&mut self, id: ZoneId, result: Result<(), String>) {
        if result.is_ok() {
            self.desk.settle(id);
        }
        self.private_done(id, result.map_err(TaskError::Steering));
    }

    /// What is under way has come to its end; if nothing was, what is held.
    fn private_done(&mut self, id: ZoneId, result: Result<(), TaskError>) {
        let Some(PrivateZone { name, zone }) = self.private.get_mut(&id) else { return };
        let target = Target::Private(id, name.clone());
        let mut tags = zone.take_current();
        tags.extend(zone.taken.take().map(|taken| taken.tags).unwrap_or_default());
        // What was to be put on top of what couldn't be had can't be had either.
        if tags.is_empty() || result.is_err() && zone.base.is_none() {
            tags.extend(zone.take_tags());
        }
        zone.phase = Phase::Absent;
        self.report_target(&target, tags, &result);
        self.advance_private(id);
    }

    /// The module is gone: what it was being told is told again once it is there.
    pub(super) fn private_lost(&mut self) {
        for PrivateZone { zone, .. } in self.private.values_mut() {
            if let Phase::Awaiting { .. } = zone.phase {
                zone.phase = Phase::Absent;
                zone.hold_current();
                zone.hold_taken();
            }
        }
    }

    /// The driver ends.
    pub(super) fn end_private(&mut self) {
        for (id, PrivateZone { name, mut zone }) in std::mem::take(&mut self.private) {
            let tags = zone.take_tags();
            self.report_target(&Target::Private(id, name), tags, &Err(TaskError::Ended));
        }
    }
}
