//! Frames become transactions of the replica, and what follows from these.

use std::collections::HashSet;

use herald_core::ZoneId;
use herald_wire::stream::{InventoryZone, RefusalCause, Refused, ToHerald, ToPop, ZoneDelta, ZoneGeneration};

use super::knot::{ZONE_WAIT_MAX, ZONE_WAIT_MIN};
use super::queue::{Class, Queued};
use super::{Action, Core};
use crate::knot::driver::{Delta, Job, Task};
use crate::module::desk::Change;
use crate::replica::{DeltaOutcome, ReplicaError, SteeringRow, TakenDelta, Target, WholeOutcome, ZoneRow};
use crate::session::Frame;

/// How many frames go into one transaction.
const GROUP_FRAMES_MAX: usize = 2_000;

/// How many bytes of whole zones go into one transaction; fewer if something urgent comes meanwhile.
const GROUP_BULK_BYTES: u64 = 512 * 1024;

/// The same for small zones, which are four frames each, of a PoP that has yet to hold all that it is to hold.
const GROUP_FILLING_FRAMES_MAX: usize = 40_000;
const GROUP_FILLING_BYTES: u64 = 4 * 1024 * 1024;

/// What a transaction leads to, once it is durable.
#[derive(Default)]
pub(super) struct Group {
    pub frames: Vec<Queued>,
    jobs: Vec<(Target, Vec<ZoneGeneration>, Task)>,
    refusals: Vec<Refused>,
    bad: Vec<Refused>,
    /// Of zones that were set aside.
    missing: Vec<Refused>,
    /// What the replica has already: confirmed, once knotd answers it.
    known: Vec<ZoneGeneration>,
    gapped: HashSet<ZoneId>,
    begun: HashSet<ZoneId>,
    whole: Vec<ZoneId>,
    /// Zones with steering that are gone: the module is to have them no more, once knotd hasn't.
    unsteered: Vec<ZoneId>,
    credit_bytes: u64,
    bulk_bytes: u64,
    changes: u64,
    is_garbage: bool,
    /// Whether the replica held, at a ping's place, what it must.
    compared: Option<bool>,
    /// What was asked for by a compare, which is then the last frame.
    inventory: Option<Vec<InventoryZone>>,
}

impl Core {
    /// Takes in what waits, with one sync.
    pub(super) fn transact(&mut self, more: &mut dyn FnMut() -> Option<Vec<Frame>>) {
        let mut group = Group::default();
        match self.fill(&mut group, more).and_then(|()| self.replica.commit()) {
            Ok(()) => {
                self.replica_is_sound();
                self.applied.clear();
                self.damaged.clear();
                self.is_garbage |= group.is_garbage;
                self.carry_out(group);
            }
            Err(error) => self.transaction_failed(&error, group),
        }
    }

    fn fill(
        &mut self,
        group: &mut Group,
        more: &mut dyn FnMut() -> Option<Vec<Frame>>,
    ) -> Result<(), ReplicaError> {
        // Parts of a large zone need no sync of their own: nothing is confirmed before the zone's end is durable, and they with it.
        // Others' changes would wait for each.
        let are_parts = self.damaged.is_empty() && self.queue.next_is_part();
        match are_parts {
            true => self.replica.begin_unsynced()?,
            false => self.replica.begin()?,
        }
        for zone in &self.applied {
            self.replica.applied(*zone)?;
        }
        for zone in self.damaged.clone() {
            self.set_aside(zone, group)?;
        }
        let (frames_max, bulk_max_bytes) = match self.replica.is_complete() || are_parts {
            true => (GROUP_FRAMES_MAX, GROUP_BULK_BYTES),
            false => (GROUP_FILLING_FRAMES_MAX, GROUP_FILLING_BYTES),
        };
        let mut is_cut_short = false;
        loop {
            let is_full = group.frames.len() >= frames_max || group.bulk_bytes >= bulk_max_bytes;
            if are_parts && !self.queue.next_is_part() {
                return Ok(());
            }
            if is_full && !self.queue.has_urgent() || group.frames.len() >= 2 * frames_max {
                return Ok(());
            }
            let Some(queued) = self.queue.next(is_full || is_cut_short) else { return Ok(()) };
            let is_bulk = queued.class != Class::Urgent;
            if is_bulk {
                group.bulk_bytes += queued.frame.bytes;
            } else if group.bulk_bytes > 0 {
                // It came while bulk was being taken in: not to be kept waiting for more of that.
                is_cut_short = true;
            }
            let taken = self.take_in(&queued.frame, group);
            // Kept, to be put back if the transaction fails.
            group.frames.push(queued);
            taken?;
            // What is told of the replica is told as it is here.
            if group.inventory.is_some() || group.compared == Some(false) {
                return Ok(());
            }
            if is_bulk {
                while let Some(frames) = more() {
                    self.queue_frames(frames);
                }
            }
        }
    }

    fn take_in(&mut self, frame: &Frame, group: &mut Group) -> Result<(), ReplicaError> {
        match &frame.message {
            ToPop::Delta(delta) => self.take_delta(delta, group)?,
            ToPop::ZoneBegin(begin) => {
                group.gapped.remove(&begin.zone);
                group.begun.insert(begin.zone);
                self.replica.whole_begin(begin.clone())?;
            }
            ToPop::ZonePart { zone, rrsets } => {
                group.credit_bytes += frame.bytes;
                self.replica.whole_part(*zone, rrsets)?;
            }
            ToPop::ZoneEnd { zone } => self.take_whole(*zone, group)?,
            ToPop::Remove { zone, generation } => {
                let receipt = ZoneGeneration { zone: *zone, generation: *generation };
                match self.replica.remove(*zone, *generation)? {
                    None => match self.only_knot_has(*zone)? {
                        Some(target) => group.jobs.push((target, vec![receipt], Task::Remove)),
                        None => group.known.push(receipt),
                    },
                    Some(row) => {
                        group.unsteered.extend(row.steering.expected().map(|_| row.id));
                        group.jobs.push((row.target(), vec![receipt], Task::Remove));
                        group.is_garbage = true;
                        group.changes += 1;
                    }
                }
            }
            ToPop::Ping { holding, .. } => {
                // With bulk still waiting that came before it, there is nothing to be compared yet: the next one will do.
                if let Some(holding) = holding
                    && !self.queue.has_bulk()
                {
                    group.compared = Some(self.replica.holding() == *holding);
                }
            }
            ToPop::Compare { buckets } => group.inventory = Some(self.inventory_as_held(buckets)?),
            // They are never queued.
            ToPop::Welcome(_) | ToPop::Reject { .. } => {}
            // They are not for the replica: the session hands them to who keeps the table of places.
            ToPop::GeoOffer { .. }
            | ToPop::GeoPart { .. }
            | ToPop::Probes(_)
            | ToPop::Verdicts { .. }
            | ToPop::QueryLogs(_)
            | ToPop::Targets(_) => {}
        }
        Ok(())
    }

    /// A zone that isn't in the replica, was set aside say, and that knotd may still have.
    fn only_knot_has(&self, zone: ZoneId) -> Result<Option<Target>, ReplicaError> {
        let Some(target) = self.flights.target_of(zone) else { return Ok(None) };
        Ok(self.replica.target(target)?.is_none().then(|| target.clone()))
    }

    fn take_delta(&mut self, delta: &ZoneDelta, group: &mut Group) -> Result<(), ReplicaError> {
        let is_gapped = group.gapped.contains(&delta.zone)
            || (self.gapped.contains(&delta.zone) && !group.begun.contains(&delta.zone));
        if is_gapped {
            return Ok(());
        }
        let refused = |cause, reason, have| Refused {
            zone: delta.zone,
            generation: delta.generation,
            cause,
            reason,
            have,
        };
        match self.replica.delta(delta)? {
            DeltaOutcome::Taken(TakenDelta { zone, soa, changes, steering_before }) => {
                let whole = self.contents.put_of(&zone);
                let receipt = ZoneGeneration { zone: zone.id, generation: zone.generation };
                let steering = steering_change(&zone, steering_before);
                let task = Task::Delta(Delta { soa, changes, whole, steering });
                group.jobs.push((zone.target(), vec![receipt], task));
                group.changes += 1;
            }
            DeltaOutcome::Known => {
                group.known.push(ZoneGeneration { zone: delta.zone, generation: delta.generation });
            }
            DeltaOutcome::Older(have) => {
                let reason = format!("the replica has the newer {have}");
                group.refusals.push(refused(RefusalCause::Older, reason, Some(have)));
            }
            DeltaOutcome::Gap { reason, have } => {
                group.gapped.insert(delta.zone);
                group.refusals.push(refused(RefusalCause::Gap, reason, have));
            }
        }
        Ok(())
    }

    fn take_whole(&mut self, id: ZoneId, group: &mut Group) -> Result<(), ReplicaError> {
        match self.replica.whole_end(id)? {
            WholeOutcome::Taken { zone, replaced } => {
                let generation = zone.generation;
                let was_steered = replaced.as_ref().filter(|row| row.steering.expected().is_some());
                group.unsteered.extend(was_steered.map(|row| row.id));
                let zones = [Some(id), replaced.map(|row| row.id)].into_iter().flatten();
                let receipts = zones.map(|zone| ZoneGeneration { zone, generation }).collect();
                let put = self.contents.put_of(&zone);
                group.jobs.push((zone.target(), receipts, Task::Put(put)));
                group.whole.push(id);
                group.is_garbage = true;
                group.changes += 1;
            }
            WholeOutcome::Known(generation) => group.known.push(ZoneGeneration { zone: id, generation }),
            // Another zone has its name by now.
            WholeOutcome::Older { generation, have: None } => {
                group.known.push(ZoneGeneration { zone: id, generation });
            }
            WholeOutcome::Older { generation, have: Some(have) } => group.refusals.push(Refused {
                zone: id,
                generation,
                cause: RefusalCause::Older,
                reason: format!("the replica has the newer {have}"),
                have: Some(have),
            }),
            WholeOutcome::Bad { generation, reason, have } => {
                group.is_garbage = true;
                group.bad.push(Refused { zone: id, generation, cause: RefusalCause::Gap, reason, have });
            }
            WholeOutcome::NotBegun => {}
        }
        Ok(())
    }

    /// A damaged zone goes out of the replica, and comes again whole. knotd goes on with what it has of it.
    fn set_aside(&mut self, id: ZoneId, group: &mut Group) -> Result<(), ReplicaError> {
        if let Some(row) = self.replica.set_aside(id)? {
            group.gapped.insert(id);
            group.is_garbage = true;
            group.missing.push(Refused {
                zone: id,
                generation: row.generation,
                cause: RefusalCause::Gap,
                reason: "it is damaged in the replica".into(),
                have: None,
            });
        }
        Ok(())
    }

    /// What follows from a transaction that is durable.
    fn carry_out(&mut self, group: Group) {
        self.gapped.retain(|zone| !group.begun.contains(zone));
        self.gapped.extend(group.gapped);
        for zone in group.whole {
            self.bad_wholes.remove(&zone);
        }
        self.unsteered.extend(group.unsteered);
        let mut jobs = Vec::with_capacity(group.jobs.len());
        self.figures.zones_damaged += group.missing.len() as u64;
        for refused in group.missing {
            self.send(ToHerald::Refused(refused.clone()));
            self.missing.insert(refused.zone, refused);
        }
        for (zone, receipts, task) in group.jobs {
            receipts.iter().for_each(|receipt| drop(self.missing.remove(&receipt.zone)));
            let tag = self.flights.launch(&zone, receipts);
            if let Some(name) = zone.public_name() {
                self.leftovers.remove(name);
            }
            jobs.push(Job { zone, tag, task });
        }
        if !jobs.is_empty() {
            self.actions.push(Action::Submit(jobs));
        }
        for known in group.known {
            if !self.flights.raise(known) {
                self.acks.push(known);
            }
        }
        for refused in group.refusals {
            self.send(ToHerald::Refused(refused));
        }
        for refused in group.bad {
            self.whole_was_bad(refused);
        }
        if group.credit_bytes > 0 {
            self.send(ToHerald::BulkCredit { bytes: group.credit_bytes });
        }
        if let Some(inventory) = group.inventory {
            self.queue.pass_barrier();
            self.tell_inventory(&inventory);
        }
        if let Some(is_same) = group.compared {
            self.compared(is_same);
        }
        self.figures.changes_taken += group.changes;
        self.figures.replica_commits += u64::from(group.changes > 0);
        self.show();
        self.confirm();
    }

    /// The first time it is asked for again at once, and then later and later.
    fn whole_was_bad(&mut self, refused: Refused) {
        self.error(format!("the zone {} came wrong: {}", refused.zone, refused.reason));
        match self.bad_wholes.get_mut(&refused.zone) {
            None => {
                self.bad_wholes.insert(refused.zone, ZONE_WAIT_MIN);
                self.send(ToHerald::Refused(refused));
            }
            Some(wait) => {
                self.late_refusals.insert((self.now + *wait, refused.zone), refused);
                *wait = (*wait * 2).min(ZONE_WAIT_MAX);
            }
        }
    }
}

/// What a change is for the module; none if it is nothing.
fn steering_change(zone: &ZoneRow, before: SteeringRow) -> Option<Change> {
    let after = zone.steering;
    if before == after {
        return None;
    }
    let with_records = |row: SteeringRow| row.expected().is_some() && (zone.is_private || row.with_records());
    Some(Change {
        zone: zone.id,
        before: before.expected(),
        after: after.expected(),
        generation: zone.generation,
        is_private: zone.is_private,
        with_records: with_records(after),
        // All records come in, or go out.
        is_whole_needed: after.expected().is_some() && with_records(before) != with_records(after),
    })
}
