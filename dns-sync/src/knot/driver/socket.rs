//! Control's rounds of work on zones' content, each one bounded batch on a connection of its own.

use std::collections::HashMap;
use std::time::Instant;

use herald_core::{Name, Rtype};

use super::TaskError;
use super::control::{Control, LOAD_CHECK_MAX, LOAD_CHECK_ZONES_MAX};
use super::encode::{push_set, push_short, push_unset, push_zone};
use super::zone::{Base, HeldDelta, Phase};
use crate::knot::ctl::{Batch, Command, Connection, CtlError, Item};
use crate::knot::text;

impl Control {
    /// Connects, and closes the transactions that a broken connection may have left open: a load of such a zone
    /// would wait for them, the next catalog change for the load, and the control socket for that.
    pub(super) fn connect(&mut self) -> Result<Connection, CtlError> {
        let limits = &self.config.limits;
        let mut connection = Connection::open(&self.config.control_socket, limits.control_timeout)?;
        if !self.maybe_open.is_empty() {
            let mut aborts = Batch::new();
            for zone in &self.maybe_open {
                push_short(&mut aborts, Command::ZoneAbort, &[(Item::Zone, &text::name_text(zone))]);
            }
            connection.run(&aborts, |_| {})?;
            self.maybe_open.clear();
        }
        Ok(connection)
    }

    pub(super) fn run_deltas(&mut self) -> Result<(), WorkError> {
        let mut batch = self.take_deltas();
        if batch.is_empty() {
            return Ok(());
        }
        let applied = self.apply_deltas(&mut batch);
        self.last_deltas_at = Some(Instant::now());
        if let Err(error) = applied {
            // Which of them were committed isn't known, but doing one again changes nothing.
            for TakenDelta { zone: name, held, .. } in batch {
                self.maybe_open.insert(name.clone());
                let Some(zone) = self.zones.get_mut(&name) else { continue };
                // The module stays ready for it.
                if let Phase::Prepared { .. } = zone.phase {
                    zone.taken = Some(held);
                    zone.delta_queued = true;
                    self.deltas.push_back(name);
                    continue;
                }
                match &mut zone.delta {
                    Some(later) => later.merge_below(held),
                    None => zone.delta = Some(held),
                }
                self.advance(&name);
            }
            return Err(error.into());
        }
        let rests_until = Instant::now() + self.config.limits.zone_rest;
        for TakenDelta { zone: name, held, error, .. } in batch {
            let Some(zone) = self.zones.get_mut(&name) else { continue };
            match (&held.steering, &error) {
                (Some(change), None) => self.desk.settle(change.zone),
                (Some(change), Some(_)) => self.desk.abort(change.zone),
                (None, _) => {}
            }
            match error {
                None => {
                    zone.phase = Phase::Served { serial: held.whole.serial };
                    zone.rests_until = Some(rests_until);
                    self.report(&name, held.tags, &Ok(()));
                    self.advance(&name);
                }
                Some(error) => {
                    zone.phase = Phase::Broken;
                    self.fail_content(&name, held.tags, &TaskError::Rejected(error));
                }
            }
        }
        Ok(())
    }

    fn take_deltas(&mut self) -> Vec<TakenDelta> {
        let limits = self.config.limits.clone();
        let mut batch = Vec::new();
        let mut records = 0;
        while batch.len() < limits.batch_zones_max && records < limits.batch_records_max {
            let Some(name) = self.deltas.pop_front() else { break };
            let Some(zone) = self.zones.get_mut(&name) else { continue };
            zone.delta_queued = false;
            let taken = match zone.phase {
                // A change for the module may have come on top of it.
                Phase::Served { .. } if zone.delta.as_ref().is_some_and(|delta| delta.steering.is_some()) => {
                    zone.delta_queued = true;
                    self.prepares.push_back(name);
                    continue;
                }
                Phase::Served { .. } => zone.delta.take(),
                Phase::Prepared { .. } => zone.taken.take(),
                // Something else may have come over it.
                _ => None,
            };
            let Some(held) = taken else { continue };
            if let Err(error) = held.check() {
                zone.phase = Phase::Broken;
                if let Some(change) = &held.steering {
                    self.desk.abort(change.zone);
                }
                self.fail_content(&name, held.tags, &error);
                continue;
            }
            records += held.records;
            batch.push(TakenDelta { zone: name, held, error: None, begun: false });
        }
        batch
    }

    fn apply_deltas(&mut self, batch: &mut [TakenDelta]) -> Result<(), CtlError> {
        let mut connection = self.connect()?;

        // A crashed agent may have left a transaction open: it's dropped and the zone done again, once.
        for attempt in 0..2 {
            let mut commands = Batch::new();
            let todo: Vec<usize> = (0..batch.len()).filter(|&index| !batch[index].begun).collect();
            for &index in &todo {
                batch[index].begun = true;
                batch[index].error = None;
                push_zone(&mut commands, Command::ZoneBegin, &batch[index].zone, index);
            }
            for &index in &todo {
                batch[index].push_unset(&mut commands, index);
            }
            for &index in &todo {
                batch[index].push_set(&mut commands, index);
            }
            connection.run(&commands, |reply| {
                let Some(taken) = reply.tag().and_then(|index| batch.get_mut(index)) else { return };
                let Some(error) = reply.error() else { return };
                match reply.text(Item::Command) {
                    "zone-begin" => {
                        taken.begun = false;
                        taken.error = Some(error);
                    }
                    // There was nothing to remove.
                    "zone-unset" => {}
                    _ => {
                        let owner = reply.text(Item::Owner);
                        let rtype = reply.text(Item::Type);
                        taken.error.get_or_insert(format!("{owner} {rtype}: {error}"));
                    }
                }
            })?;
            let mut aborts = Batch::new();
            for (index, taken) in batch.iter().enumerate().filter(|(_, taken)| !taken.begun) {
                push_zone(&mut aborts, Command::ZoneAbort, &taken.zone, index);
            }
            if attempt > 0 || aborts.is_empty() {
                break;
            }
            connection.run(&aborts, |_| {})?;
        }

        let mut ends = Batch::new();
        for (index, taken) in batch.iter().enumerate().filter(|(_, taken)| taken.error.is_none()) {
            push_zone(&mut ends, Command::ZoneCommit, &taken.zone, index);
        }
        connection.run(&ends, |reply| {
            if let Some(taken) = reply.tag().and_then(|index| batch.get_mut(index)) {
                taken.error = reply.error();
            }
        })?;
        let mut aborts = Batch::new();
        for (index, taken) in batch.iter().enumerate().filter(|(_, taken)| taken.error.is_some()) {
            push_zone(&mut aborts, Command::ZoneAbort, &taken.zone, index);
        }
        connection.run(&aborts, |_| {})?;
        connection.close();
        Ok(())
    }

    pub(super) fn run_reloads(&mut self) -> Result<(), WorkError> {
        let room = self.config.limits.loads_max.saturating_sub(self.loads.len());
        let names: Vec<Name> = self.reloads.iter().take(room.min(LOAD_CHECK_ZONES_MAX)).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for (index, name) in names.iter().enumerate() {
            push_zone(&mut batch, Command::ZoneReload, name, index);
        }
        let mut errors: Vec<Option<String>> = vec![None; names.len()];
        let mut connection = self.connect()?;
        connection.run(&batch, |reply| {
            if let Some(error) = reply.tag().and_then(|index| errors.get_mut(index)) {
                *error = reply.error();
            }
        })?;
        connection.close();
        self.reloads.drain(..names.len());
        for (name, error) in names.into_iter().zip(errors) {
            let Some(zone) = self.zones.get_mut(&name) else { continue };
            let Phase::Written { records, .. } = zone.phase else { continue };
            match error {
                None => self.start_load_of_put(&name, records),
                Some(error) if needs_new_member(&error) => self.add_anew(&name),
                Some(error) => self.load_done(&name, Err(TaskError::Rejected(error))),
            }
        }
        Ok(())
    }

    /// A member that knotd can't load again is taken out of its catalog and put in anew.
    fn add_anew(&mut self, name: &Name) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        let put = zone.current.take();
        match &mut zone.base {
            // What came meanwhile takes its place.
            Some((_, tags)) => {
                tags.splice(0..0, put.map(|(_, tags)| tags).unwrap_or_default()).for_each(drop)
            }
            None => zone.base = put,
        }
        zone.current = Some((Base::Remove, Vec::new()));
        zone.phase = Phase::Removable;
        self.removals.push_back(name.clone());
        self.catalog_wanted_since.get_or_insert_with(Instant::now);
    }

    /// Looks at loads for which the watcher had nothing to say for a while.
    pub(super) fn check_loads(&mut self) -> Result<(), WorkError> {
        let now = Instant::now();
        let due: Vec<Name> = self
            .load_checks
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(LOAD_CHECK_ZONES_MAX)
            .map(|(_, name)| name.clone())
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for (index, name) in due.iter().enumerate() {
            let (zone, tag) = (text::name_text(name), index.to_string());
            let items: [(Item, &[u8]); 3] =
                [(Item::Zone, &zone), (Item::Id, tag.as_bytes()), (Item::Filter, b"se")];
            // The answer to a unit doesn't carry its tag, only an error does: a block for each.
            push_short(&mut batch, Command::ZoneStatus, &items);
        }
        let mut states: HashMap<Name, LoadState> = HashMap::new();
        let mut connection = self.connect()?;
        connection.run(&batch, |reply| {
            if reply.error().is_some() {
                return;
            }
            let Ok(name) = Name::parse(reply.text(Item::Zone)) else { return };
            let state = states.entry(name).or_default();
            let value = reply.text(Item::Data);
            match reply.text(Item::Type) {
                "serial" => state.serial = value.parse().ok(),
                "load" => state.busy = matches!(value, "pending" | "running" | "frozen"),
                _ => {}
            }
        })?;
        connection.close();
        for name in due {
            let state = states.remove(&name).unwrap_or_default();
            self.judge_load(&name, &state, now);
        }
        Ok(())
    }

    fn judge_load(&mut self, name: &Name, state: &LoadState, now: Instant) {
        let expected = match self.zones.get(name).and_then(|zone| zone.current.as_ref()) {
            Some((Base::Put(put), _)) => put.serial,
            Some((Base::Expect(serial), _)) => *serial,
            _ => return,
        };
        let limits = &self.config.limits;
        let Some(load) = self.loads.get_mut(name) else { return };
        if !state.busy {
            let result = match state.serial {
                Some(serial) if serial == expected => Ok(serial),
                serving => Err(TaskError::NotLoaded { serving }),
            };
            self.load_done(name, result);
        } else if now - load.since >= limits.load_timeout {
            let waited_ms = limits.load_timeout.as_millis() as u64;
            self.load_done(name, Err(TaskError::TimedOut { waited_ms }));
        } else {
            self.load_checks.remove(&(load.check_at, name.clone()));
            load.check_again = (load.check_again * 2).min(LOAD_CHECK_MAX);
            load.check_at = now + load.check_again;
            self.load_checks.insert((load.check_at, name.clone()));
        }
    }
}

/// Whether this is what knotd says of a member that somebody purged (it counts as expired), or that it doesn't have.
fn needs_new_member(error: &str) -> bool {
    matches!(error, "operation not supported" | "no such zone found")
}

/// What knotd says about a zone that it's to load.
#[derive(Default)]
struct LoadState {
    busy: bool,
    serial: Option<u32>,
}

/// Why a round of work stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkError {
    #[error(transparent)]
    Control(#[from] CtlError),
    #[error("a catalog zone of knotd: {0}")]
    Catalog(String),
}

/// An error with all of its causes in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        source = cause.source();
    }
    out
}

struct TakenDelta {
    zone: Name,
    held: HeldDelta,
    error: Option<String>,
    begun: bool,
}

impl TakenDelta {
    fn push_unset(&self, batch: &mut Batch, tag: usize) {
        let zone = text::name_text(&self.zone);
        for key in self.held.for_knot().keys() {
            push_unset(batch, &zone, &key.owner, key.rtype, tag);
        }
    }

    fn push_set(&self, batch: &mut Batch, tag: usize) {
        let zone = text::name_text(&self.zone);
        for (key, rrset) in self.held.for_knot().iter() {
            if let Some(rrset) = rrset {
                push_set(batch, &zone, &key.owner, key.rtype, rrset, tag);
            }
        }
        // Setting a SOA replaces it.
        push_set(batch, &zone, &self.zone, Rtype::SOA, &self.held.soa, tag);
    }
}
