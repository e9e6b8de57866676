//! What knotd is given to do, and what becomes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use herald_core::{Generation, Name, ZoneId};
use herald_wire::stream::{RefusalCause, Refused, ToHerald, ZoneGeneration};

use super::flights::Landed;
use super::{Action, Core};
use crate::knot::driver::{Job, Report, Task, TaskError};
use crate::replica::Target;

/// The first wait before a zone that knotd refused, or that came wrong, is tried again; it doubles up to
/// [`ZONE_WAIT_MAX`].
pub(super) const ZONE_WAIT_MIN: Duration = Duration::from_secs(1);
pub(super) const ZONE_WAIT_MAX: Duration = Duration::from_secs(60);

impl Core {
    /// What a killed agent may have left undone is done again, by file.
    pub fn resume_unapplied(&mut self, now: Duration) {
        self.now = now;
        let unapplied = match self.replica.unapplied() {
            Ok(unapplied) => unapplied,
            Err(error) => return self.replica_failed(&error),
        };
        for (target, receipt) in unapplied {
            self.give_again(&target, vec![receipt]);
        }
    }

    /// Gives knotd what the replica has of this: the zone, or that there is none.
    fn give_again(&mut self, target: &Target, receipts: Vec<ZoneGeneration>) {
        let tag = self.flights.launch(target, receipts);
        self.give(target.clone(), tag);
    }

    pub(super) fn give(&mut self, zone: Target, tag: u64) {
        match self.replica.target(&zone) {
            Ok(row) => {
                let task = row.map_or(Task::Remove, |row| Task::Put(self.contents.put_of(&row)));
                self.actions.push(Action::Submit(vec![Job { zone, tag, task }]));
            }
            Err(error) => self.replica_failed(&error),
        }
    }

    pub(super) fn knot_up(&mut self, written: Option<Vec<(Name, u32)>>) {
        // Files that were written from a replica that was put aside or mended meanwhile may be of zones that are in none.
        let expected = match written.filter(|_| !std::mem::take(&mut self.is_reopened)) {
            Some(written) => written,
            None => self.expected(),
        };
        self.actions.push(Action::Resume(expected));
    }

    /// What knotd should serve by now. What is under way may be half done: it is done by file once knotd turns out not to
    /// serve it so.
    pub(super) fn expected(&mut self) -> Vec<(Name, u32)> {
        let mut expected = Vec::new();
        let all = self.replica.for_each_zone(|zone| {
            if !zone.is_private && !self.flights.has(&zone.target()) {
                expected.push((zone.name, zone.serial));
            }
        });
        if let Err(error) = all {
            self.replica_failed(&error);
        }
        expected
    }

    pub(super) fn take_report(&mut self, report: Report) {
        match report {
            Report::Done { tag, result, .. } => {
                if let Some(landed) = self.flights.land(tag) {
                    match result {
                        Ok(()) => self.landed(landed),
                        Err(error) if landed.is_newest => self.failed(landed, &error),
                        // A newer job is under way.
                        Err(_) => {}
                    }
                }
            }
            Report::Stale { zone, serving } => self.found_stale(&zone, serving),
            Report::Unexpected { zone } => self.found_unexpected(zone),
            Report::Settled => tracing::info!("knotd serves what it should"),
            Report::ModuleUp { zones, .. } => self.compare_module(&zones),
            // What is for the status; what was found came before.
            Report::Swept { .. } | Report::ModuleDown { .. } | Report::ModuleSaid(_) => {}
            Report::ControlFailed { error } => self.error(error),
        }
    }

    fn landed(&mut self, landed: Landed) {
        let zones = landed.zones.iter().map(|receipt| receipt.zone);
        let gone = zones.filter(|zone| self.unsteered.contains(zone)).collect();
        self.forget_steering(gone);
        if landed.is_newest {
            if self.retry_waits.remove(&landed.target).is_some() {
                self.actions.push(Action::KnotRefuses { zone: landed.target.clone(), reason: None });
            }
            self.applied.extend(&landed.zones);
        }
        self.acks.extend(landed.zones);
    }

    /// knotd doesn't have the newest content of a zone. It is put by file: at once if it was a change that failed, and
    /// later and later if that fails as well.
    fn failed(&mut self, landed: Landed, error: &TaskError) {
        let Landed { target, zones, .. } = landed;
        match error {
            TaskError::Ended => return,
            TaskError::NotServed => return self.give_again(&target, zones),
            _ => {}
        }
        let reason = error.to_string();
        self.error(format!("the zone {target}: {reason}"));
        self.actions.push(Action::KnotRefuses { zone: target.clone(), reason: Some(reason.clone()) });
        for ZoneGeneration { zone, generation } in zones.iter().copied() {
            let (cause, reason) = (RefusalCause::Knot, reason.clone());
            self.send(ToHerald::Refused(Refused { zone, generation, cause, reason, have: Some(generation) }));
        }
        match self.retry_waits.get_mut(&target) {
            None => {
                self.retry_waits.insert(target.clone(), ZONE_WAIT_MIN);
                self.give_again(&target, zones);
            }
            Some(wait) => {
                let at = self.now + *wait;
                *wait = (*wait * 2).min(ZONE_WAIT_MAX);
                let tag = self.flights.launch(&target, zones);
                self.retries.insert((at, tag));
            }
        }
    }

    /// The module is there: what it has is made to be what the replica has.
    fn compare_module(&mut self, zones: &[(ZoneId, Generation)]) {
        let mut left: BTreeMap<ZoneId, Generation> = zones.iter().copied().collect();
        let mut differing = Vec::new();
        let all = self.replica.for_each_steered_zone(|row| {
            let has = left.remove(&row.id);
            if has != row.steering.expected() {
                differing.push(row);
            }
        });
        if let Err(error) = all {
            return self.replica_failed(&error);
        }
        // What is under way makes it right.
        differing.retain(|row| !self.flights.has(&row.target()));
        for row in differing {
            let receipt = ZoneGeneration { zone: row.id, generation: row.generation };
            self.give_again(&row.target(), vec![receipt]);
        }
        // A replica that is being filled may have lost them: what knotd has of them needs them.
        self.unsteered.extend(left.into_keys());
        self.remove_leftovers();
    }

    /// Zones that the replica doesn't have, or not with steering, are nothing for the module.
    fn forget_steering(&mut self, zones: Vec<ZoneId>) {
        let mut gone = Vec::new();
        for zone in zones {
            self.unsteered.remove(&zone);
            match self.replica.zone(zone) {
                Ok(Some(row)) if row.steering.expected().is_some() => {}
                Ok(_) => gone.push(zone),
                Err(error) => return self.replica_failed(&error),
            }
        }
        if !gone.is_empty() {
            self.actions.push(Action::ForgetSteering(gone));
        }
    }

    fn found_stale(&mut self, name: &Name, serving: Option<u32>) {
        // What is under way makes it right.
        let target = Target::Public(name.clone());
        if self.flights.has(&target) {
            return;
        }
        tracing::warn!(
            "knotd serves another serial of {name} than it should ({serving:?}): the zone is put again"
        );
        match self.replica.zone_named(name) {
            Ok(Some(row)) => {
                let receipt = ZoneGeneration { zone: row.id, generation: row.generation };
                self.give_again(&target, vec![receipt]);
            }
            Ok(None) => {}
            Err(error) => self.replica_failed(&error),
        }
    }

    fn found_unexpected(&mut self, name: Name) {
        match self.replica.zone_named(&name) {
            Ok(Some(_)) => self.found_stale(&name, None),
            // Also if something is under way for the name: a zone that was damaged waits for content that never comes, if it
            // was deleted meanwhile.
            Ok(None) => {
                self.leftovers.insert(name);
                self.remove_leftovers();
            }
            Err(error) => self.replica_failed(&error),
        }
    }

    /// Zones that the replica doesn't have are removed from knotd, but not before the control plane says that all is there: the
    /// replica may still be being filled, or have lost them.
    pub(super) fn remove_leftovers(&mut self) {
        if self.replica.is_complete() && self.figures.in_sync {
            for name in std::mem::take(&mut self.leftovers) {
                self.give_again(&Target::Public(name), Vec::new());
            }
            let gone = self.unsteered.iter().copied().filter(|zone| !self.flights.has_zone(*zone));
            self.forget_steering(gone.collect());
        }
    }

    /// A zone that can't be read as it was written. What knotd has of it is the last good state.
    pub(super) fn zone_damaged(&mut self, zone: ZoneId) {
        match self.replica.zone(zone) {
            Ok(Some(row)) => {
                self.error(format!("the zone {} is damaged in the replica and is asked for anew", row.name));
                // It waits for what comes: not to be taken for confirmed, nor for absent, as knotd has it.
                let receipt = ZoneGeneration { zone, generation: row.generation };
                self.flights.launch(&row.target(), vec![receipt]);
                self.damaged.push(zone);
            }
            Ok(None) => {}
            Err(error) => self.replica_failed(&error),
        }
    }
}
