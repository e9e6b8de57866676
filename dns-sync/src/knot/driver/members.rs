//! Control's rounds of work on the catalogs: which zones knotd has.
//!
//! A change of the catalogs costs knotd some microseconds for every zone that it has, whatever is changed, and it does
//! nothing else on the control socket meanwhile. So all that waits goes into one change, and where others' changes are
//! flowing there's a pause after it, in proportion to what it cost.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::{Duration, Instant};

use herald_core::{Name, Rtype};

use super::control::{Control, LOAD_CHECK_FIRST};
use super::encode::{push_set, push_short, push_unset};
use super::socket::WorkError;
use super::zone::Phase;
use super::{FileOrder, TaskError};
use crate::knot::catalog::{self, Catalogs};
use crate::knot::config::zone_file_name;
use crate::knot::ctl::{Batch, Command, Item};
use crate::knot::text;

/// How long after a delta others are expected to follow.
const FLOW: Duration = Duration::from_secs(1);

/// While the PoP is being filled, a change of the catalogs waits for one in so many zones that knotd has, and for so many at
/// least, as long as more are being written.
const FILLING_STEP: usize = 8;
const FILLING_STEP_MIN: usize = 500;

/// How long knotd takes at most for each zone that it is to load, on a busy machine.
const LOAD_ZONE_TIME: Duration = Duration::from_micros(500);

impl Control {
    /// The catalogs that knotd has, and their members. Drops all open transactions.
    pub(super) fn read_catalogs(&mut self) -> Result<(Catalogs, Vec<u32>, BTreeSet<Name>), WorkError> {
        let mut aborts = Batch::new();
        push_short(&mut aborts, Command::ZoneAbort, &[]);
        let mut connection = self.connect()?;
        connection.run(&aborts, |_| {})?;
        let running = catalog::running(&mut connection, &self.config.catalog)?
            .ok_or_else(|| WorkError::Catalog("its configuration was not written by this program".into()))?;
        let mut members = Vec::new();
        for catalog in running.catalogs.names() {
            let mut batch = Batch::new();
            let items: [(Item, &[u8]); 2] = [(Item::Zone, &text::name_text(catalog)), (Item::Type, b"PTR")];
            push_short(&mut batch, Command::ZoneRead, &items);
            connection.run(&batch, |reply| {
                if reply.error().is_none() {
                    members.extend(Name::parse(reply.text(Item::Data)));
                }
            })?;
        }
        connection.close();
        let unloaded = || WorkError::Catalog("it can't be read".into());
        let serials = running.serials.into_iter().map(|serial| serial.ok_or_else(unloaded));
        Ok((running.catalogs, serials.collect::<Result<_, _>>()?, members.into_iter().collect()))
    }

    /// When the next change of the catalogs is due; none if there's nothing to change.
    pub(super) fn catalog_due(&self) -> Option<Instant> {
        let since = self.catalog_wanted_since?;
        let mut due = self.catalog_not_before.unwrap_or(since);
        if self.large_loads > 0 {
            due = due.max(since + self.config.limits.catalog_hold_max);
        }
        // An empty knotd is filled in steps that are a share of what it has, as each step costs it so much a zone.
        let step = (self.members / FILLING_STEP).max(FILLING_STEP_MIN);
        if self.is_filling && self.additions.len() < step && self.file_orders_under_way > 0 {
            due = due.max(since + self.config.limits.filling_hold_max);
        }
        Some(due)
    }

    pub(super) fn run_catalogs(&mut self) -> Result<(), WorkError> {
        if !self.removing.is_empty() {
            self.check_removals()?;
        }
        let started = Instant::now();
        if self.catalog_due().is_none_or(|due| due > started) {
            return Ok(());
        }
        let limits = &self.config.limits;
        let most = if self.is_filling { limits.filling_members_max } else { limits.catalog_members_max };
        let removals: Vec<Name> = self.removals.iter().take(most).cloned().collect();
        let room = limits.loads_max.saturating_sub(self.loads.len());
        let additions: Vec<Name> =
            self.additions.iter().take(room.min(most - removals.len())).cloned().collect();
        if removals.is_empty() && additions.is_empty() {
            return Ok(());
        }

        let errors = match self.change_catalogs(&removals, &additions) {
            Ok(errors) => errors,
            Err(error) => {
                self.maybe_open.extend(self.catalogs.names().iter().cloned());
                self.maybe_members.extend(additions);
                return Err(error);
            }
        };
        self.members = (self.members + additions.len()).saturating_sub(removals.len());
        self.removals.drain(..removals.len());
        self.additions.drain(..additions.len());
        for name in removals {
            if let Some(zone) = self.zones.get_mut(&name) {
                zone.phase = Phase::Removing;
                self.removing.push((name, started));
            }
        }
        let loading = self.loads.len() + additions.len();
        let check_first = LOAD_CHECK_FIRST + LOAD_ZONE_TIME * u32::try_from(loading).unwrap_or(u32::MAX);
        for (name, error) in additions.into_iter().zip(errors) {
            match &error {
                None => self.maybe_members.remove(&name),
                Some(_) => self.maybe_members.insert(name.clone()),
            };
            let Some(zone) = self.zones.get_mut(&name) else { continue };
            let Phase::Written { records, .. } = zone.phase else { continue };
            match error {
                None => self.start_load(&name, records, check_first),
                Some(error) => {
                    zone.phase = Phase::Absent;
                    let tags = zone.take_current();
                    if let Some(prepared) = zone.prepared_whole.take() {
                        self.desk.abort(prepared);
                    }
                    self.release_file_name(&name);
                    self.fail_content(&name, tags, &TaskError::Rejected(error));
                }
            }
        }
        self.catalog_wanted_since = None;

        // knotd applies the change after the connection has ended and before it takes the next one.
        let passed = self.check_removals();
        let now = Instant::now();
        self.catalog_not_before = Some(now + self.catalog_pause(now - started));
        if !self.removals.is_empty() || !self.additions.is_empty() {
            self.catalog_wanted_since.get_or_insert(now);
        }
        passed
    }

    /// How long there's to be no other change of the catalogs after one that took so long.
    fn catalog_pause(&self, took: Duration) -> Duration {
        let is_flowing = !self.deltas.is_empty() || self.last_deltas_at.is_some_and(|at| at.elapsed() < FLOW);
        if self.is_filling || !is_flowing {
            return Duration::ZERO;
        }
        let limits = &self.config.limits;
        (took * limits.catalog_pause_factor).min(limits.catalog_pause_max)
    }

    /// One transaction on each catalog that is concerned, all on one connection: knotd then applies them together.
    /// Gives back what went wrong with each addition.
    fn change_catalogs(
        &mut self,
        removals: &[Name],
        additions: &[Name],
    ) -> Result<Vec<Option<String>>, WorkError> {
        let mut changes: BTreeMap<usize, Change<'_>> = BTreeMap::new();
        for name in removals {
            changes.entry(self.catalogs.index_of(name)).or_default().unset.push(name);
        }
        for (place, name) in additions.iter().enumerate() {
            let change = changes.entry(self.catalogs.index_of(name)).or_default();
            if self.maybe_members.contains(name) {
                change.unset.push(name);
            }
            change.set.push((place, name));
        }

        let mut errors = vec![None; additions.len()];
        let mut failed: Option<String> = None;
        let mut connection = self.connect()?;
        for (&index, change) in &changes {
            let catalog = &self.catalogs.names()[index];
            let fill = change.fill(catalog, self.catalog_serials[index].wrapping_add(1))?;
            connection.run(&fill, |reply| {
                let Some(error) = reply.error() else { return };
                match (reply.text(Item::Command), reply.tag().and_then(|place| errors.get_mut(place))) {
                    ("zone-unset", _) => {}
                    (_, Some(slot)) => *slot = Some(error),
                    (_, None) => failed = failed.take().or(Some(error)),
                }
            })?;
        }
        let end = if failed.is_none() { Command::ZoneCommit } else { Command::ZoneAbort };
        for index in changes.into_keys() {
            let mut batch = Batch::new();
            push_short(&mut batch, end, &[(Item::Zone, &text::name_text(&self.catalogs.names()[index]))]);
            let mut error = None;
            connection.run(&batch, |reply| error = reply.error())?;
            match error {
                None if end == Command::ZoneCommit => {
                    self.catalog_serials[index] = self.catalog_serials[index].wrapping_add(1);
                }
                None => {}
                Some(error) => failed = failed.take().or(Some(error)),
            }
        }
        connection.close();
        match failed {
            // Those that were committed are done again with the others, which changes nothing.
            Some(error) => Err(WorkError::Catalog(error)),
            None => Ok(errors),
        }
    }

    /// Asks whether the removed zones are gone; also waits until knotd has applied the last change of the catalogs.
    fn check_removals(&mut self) -> Result<(), WorkError> {
        let mut batch = Batch::new();
        push_short(&mut batch, Command::Status, &[(Item::Type, b"version")]);
        for (index, (name, _)) in self.removing.iter().enumerate() {
            let (zone, tag) = (text::name_text(name), index.to_string());
            let items: [(Item, &[u8]); 3] =
                [(Item::Zone, &zone), (Item::Id, tag.as_bytes()), (Item::Filter, b"s")];
            push_short(&mut batch, Command::ZoneStatus, &items);
        }
        let mut gone = vec![false; self.removing.len()];
        let mut connection = self.connect()?;
        connection.run(&batch, |reply| {
            if let Some(gone) = reply.tag().and_then(|index| gone.get_mut(index)) {
                *gone = reply.error().is_some();
            }
        })?;
        connection.close();

        let waited_ms = self.config.limits.load_timeout.as_millis() as u64;
        for ((name, since), gone) in mem::take(&mut self.removing).into_iter().zip(gone) {
            let Some(zone) = self.zones.get_mut(&name) else { continue };
            if gone {
                // knotd leaves the file alone, since it's not to write it either.
                let path = self.config.zone_dir.join(zone_file_name(&name));
                self.file_orders_under_way += 1;
                let _ = self.files.send(FileOrder::Delete { path });
                zone.phase = Phase::Absent;
                let tags = zone.take_current();
                self.release_file_name(&name);
                self.report(&name, tags, &Ok(()));
                self.advance(&name);
            } else if since.elapsed() >= self.config.limits.load_timeout {
                zone.phase = Phase::Broken;
                let tags = zone.take_current();
                self.report(&name, tags, &Err(TaskError::TimedOut { waited_ms }));
                self.advance(&name);
            } else {
                self.removing.push((name, since));
            }
        }
        Ok(())
    }
}

/// What is to be done to one catalog.
#[derive(Default)]
struct Change<'a> {
    unset: Vec<&'a Name>,
    /// With the places of the additions that they are.
    set: Vec<(usize, &'a Name)>,
}

impl Change<'_> {
    /// Opens the transaction and fills it.
    fn fill(&self, catalog: &Name, serial: u32) -> Result<Batch, WorkError> {
        let zone = text::name_text(catalog);
        let owner_of = |member: &Name| {
            catalog::member_owner(catalog, member).map_err(|error| WorkError::Catalog(error.to_string()))
        };
        let mut batch = Batch::new();
        push_short(&mut batch, Command::ZoneBegin, &[(Item::Zone, &zone)]);
        for member in &self.unset {
            push_unset(&mut batch, &zone, &owner_of(member)?, Rtype::PTR, usize::MAX);
        }
        for (place, member) in &self.set {
            let rrset = catalog::member_rrset(member);
            push_set(&mut batch, &zone, &owner_of(member)?, Rtype::PTR, &rrset, *place);
        }
        push_set(&mut batch, &zone, catalog, Rtype::SOA, &catalog::soa(serial), usize::MAX);
        Ok(batch)
    }
}
