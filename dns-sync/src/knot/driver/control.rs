//! The control thread: what happens to which zone when.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use herald_core::firewall::FirewallPart;
use herald_core::{Name, ZoneId};
use steering::link::ToModule;

use super::private::PrivateZone;
use super::socket::{WorkError, with_causes};
use super::sweep::{Drift, Sweep};
use super::zone::{Base, Phase, Zone, without_slashes};
use super::{DriverConfig, FileOrder, Job, Report, Task, TaskError};
use crate::files::keeper::KeptFile;
use crate::knot::catalog::Catalogs;
use crate::knot::config::zone_file_name;
use crate::knot::probe::{self, WatchOrder};
use crate::knot::zonefile::Written;
use crate::module::desk::Desk;
use crate::module::link::{Link, LinkEvent};
use crate::module::zone::WholeZone;
use crate::replica::Target;

pub(super) enum Event {
    Submit(Vec<Job>),
    Written(Name, io::Result<Written>),
    Gathered(ZoneId, io::Result<Option<WholeZone>>),
    Deleted,
    Served(Name, u32),
    WatcherFailed(io::Error),
    Swept(Vec<Drift>),
    Module(LinkEvent),
    ForgetSteering(Vec<ZoneId>),
    Filling(bool),
    /// The table of places that the module is to use.
    Geo(Option<KeptFile>),
    TellModule(ToModule),
    Firewall(FirewallPart, Option<KeptFile>),
    Suspend(Sender<()>),
    Resume(Vec<(Name, u32)>),
    Compare(Vec<(Name, u32)>),
    End,
}

/// The first wait after the control socket failed; it doubles up to [`RETRY_MAX`].
pub(super) const RETRY_MIN: Duration = Duration::from_millis(10);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(1);

/// When a load is first looked at through the control socket, if the watcher has nothing to say. That is how a
/// file that knotd can't read is found; the wait doubles up to [`LOAD_CHECK_MAX`].
pub(super) const LOAD_CHECK_FIRST: Duration = Duration::from_millis(200);
pub(super) const LOAD_CHECK_MAX: Duration = Duration::from_secs(5);

/// The same where the serial tells nothing, since the old content has it too.
pub(super) const LOAD_CHECK_FIRST_SAME_SERIAL: Duration = Duration::from_millis(2);

/// What is added to that for each zone that's expected after a resume: all are asked for at once.
pub(super) const EXPECTED_ZONE_TIME: Duration = Duration::from_micros(50);

/// Zones that are looked at in one connection.
pub(super) const LOAD_CHECK_ZONES_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Suspended,
    Running,
    Ended,
}

pub(super) struct Load {
    pub(super) since: Instant,
    /// When it's looked at through the control socket.
    pub(super) check_at: Instant,
    pub(super) check_again: Duration,
    pub(super) large: bool,
}

pub(super) struct Control {
    pub(super) config: DriverConfig,
    pub(super) reports: Sender<Report>,
    pub(super) files: Sender<FileOrder>,
    pub(super) watcher: Sender<WatchOrder>,
    pub(super) sweeper: Sender<Vec<(Name, u32)>>,

    pub(super) zones: HashMap<Name, Zone>,
    /// Private zones with something to be done.
    pub(super) private: BTreeMap<ZoneId, PrivateZone>,
    /// Zones whose file name isn't their own text, by the name that it is the text of.
    pub(super) file_names: HashMap<Name, Name>,
    pub(super) mode: Mode,
    /// Who waits for the suspension.
    pub(super) suspending: Vec<Sender<()>>,
    pub(super) file_orders_under_way: usize,

    /// None if knotd has no module.
    pub(super) link: Option<Link>,
    pub(super) desk: Desk,
    /// Zones with a change that the module is to be told of.
    pub(super) prepares: VecDeque<Name>,
    pub(super) deltas: VecDeque<Name>,
    /// Zones with a delta that are left alone until then, in the order of time.
    pub(super) resting: VecDeque<(Instant, Name)>,
    pub(super) reloads: VecDeque<Name>,
    pub(super) additions: VecDeque<Name>,
    pub(super) removals: VecDeque<Name>,
    pub(super) catalog_wanted_since: Option<Instant>,
    pub(super) catalog_not_before: Option<Instant>,
    pub(super) catalogs: Catalogs,
    pub(super) catalog_serials: Vec<u32>,
    /// Members that a change may have added whose answer was lost, or was an error.
    pub(super) maybe_members: HashSet<Name>,
    /// About how many members knotd has.
    pub(super) members: usize,
    /// Whether the PoP is being filled, so that it's in nobody's interest to go slowly.
    /// The table of places that the module is to use.
    pub(super) geo: Option<KeptFile>,
    /// The firewall's files that it is to use, and whether it is one that has a firewall.
    pub(super) firewall: BTreeMap<FirewallPart, KeptFile>,
    pub(super) has_firewall: bool,
    pub(super) is_filling: bool,
    pub(super) last_deltas_at: Option<Instant>,

    pub(super) loads: BTreeMap<Name, Load>,
    pub(super) load_checks: BTreeSet<(Instant, Name)>,
    pub(super) large_loads: usize,
    /// Zones that were expected at the resume and have yet to be seen.
    pub(super) unsettled: usize,
    /// Removed members that knotd may still have, and since when.
    pub(super) removing: Vec<(Name, Instant)>,
    /// Zones that are expected to be served once the catalogs could be read.
    pub(super) resuming: Option<Vec<(Name, u32)>>,

    /// Zones whose transaction may have been left open by a connection that broke.
    pub(super) maybe_open: BTreeSet<Name>,
    pub(super) sweep: Sweep,
    /// What the last answers of the sweep say, to be judged.
    pub(super) drifts: Vec<Drift>,
    pub(super) retry_at: Option<Instant>,
    pub(super) retry_wait: Duration,
}

impl Control {
    pub(super) fn new(
        config: DriverConfig,
        reports: Sender<Report>,
        files: Sender<FileOrder>,
        watcher: Sender<WatchOrder>,
        sweeper: Sender<Vec<(Name, u32)>>,
        link: Option<Link>,
    ) -> Control {
        Control {
            // Which there are is found out at the resume.
            catalogs: Catalogs::numbered(&config.catalog, 1),
            geo: config.geo.clone(),
            firewall: config.firewall.clone(),
            has_firewall: false,
            config,
            reports,
            files,
            watcher,
            sweeper,
            zones: HashMap::new(),
            private: BTreeMap::new(),
            file_names: HashMap::new(),
            mode: Mode::Suspended,
            suspending: Vec::new(),
            file_orders_under_way: 0,
            link,
            desk: Desk::default(),
            prepares: VecDeque::new(),
            deltas: VecDeque::new(),
            resting: VecDeque::new(),
            reloads: VecDeque::new(),
            additions: VecDeque::new(),
            removals: VecDeque::new(),
            catalog_wanted_since: None,
            catalog_not_before: None,
            catalog_serials: Vec::new(),
            maybe_members: HashSet::new(),
            members: 0,
            is_filling: false,
            last_deltas_at: None,
            loads: BTreeMap::new(),
            load_checks: BTreeSet::new(),
            large_loads: 0,
            unsettled: 0,
            removing: Vec::new(),
            resuming: None,
            maybe_open: BTreeSet::new(),
            sweep: Sweep::default(),
            drifts: Vec::new(),
            retry_at: None,
            retry_wait: RETRY_MIN,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Event>) {
        while self.mode != Mode::Ended {
            let wait_until = self.next_deadline();
            match probe::receive_until(inbox, wait_until) {
                Ok(Some(event)) => self.take_event(event),
                Ok(None) => {}
                Err(_) => break,
            }
            // What came in meanwhile goes into the same batches.
            while let Ok(event) = inbox.try_recv() {
                self.take_event(event);
            }
            if self.mode == Mode::Running || self.resuming.is_some() {
                self.work();
            }
            self.write_to_module();
            self.finish_suspension();
        }
        let open: Vec<(Name, Vec<u64>)> =
            self.zones.drain().map(|(name, mut zone)| (name, zone.take_tags())).collect();
        for (zone, tags) in open {
            self.report(&zone, tags, &Err(TaskError::Ended));
        }
        self.end_private();
    }

    /// When there's something to do even if no event comes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.mode != Mode::Running && self.resuming.is_none() {
            return None;
        }
        if let Some(retry_at) = self.retry_at {
            return Some(retry_at);
        }
        let now = Instant::now();
        if self.resuming.is_some() {
            return Some(now);
        }
        let room = self.loads.len() < self.config.limits.loads_max;
        if !self.deltas.is_empty()
            || !self.prepares.is_empty()
            || !self.drifts.is_empty()
            || (!self.reloads.is_empty() && room)
        {
            return Some(now);
        }
        let removals = (!self.removing.is_empty()).then(|| now + RETRY_MIN);
        let rested = self.resting.front().map(|(at, _)| *at);
        let load_check = self.load_checks.first().map(|(at, _)| *at);
        [removals, rested, self.catalog_due(), load_check, self.sweep.due()].into_iter().flatten().min()
    }

    pub(super) fn take_event(&mut self, event: Event) {
        match event {
            Event::Submit(jobs) => {
                for job in jobs {
                    self.take_job(job);
                }
            }
            Event::Written(zone, result) => self.file_written(&zone, result),
            Event::Gathered(zone, result) => self.private_gathered(zone, result),
            Event::Deleted => self.file_orders_under_way -= 1,
            Event::Served(zone, serial) => self.serial_seen(&zone, serial),
            Event::WatcherFailed(error) => {
                let error = format!("asking knotd by DNS failed: {error}");
                let _ = self.reports.send(Report::ControlFailed { error });
            }
            Event::Swept(drifts) => self.swept(drifts),
            Event::Module(event) => self.take_link_event(event),
            Event::ForgetSteering(zones) => zones.into_iter().for_each(|zone| self.desk.remove(zone)),
            Event::Filling(is_filling) => self.is_filling = is_filling,
            Event::TellModule(message) => self.desk.say(&message),
            Event::Geo(file) => {
                self.geo = file;
                self.tell_geo();
            }
            Event::Firewall(part, file) => {
                match file {
                    Some(file) => self.firewall.insert(part, file),
                    None => self.firewall.remove(&part),
                };
                self.tell_firewall(part);
            }
            Event::Suspend(done) => {
                self.suspending.push(done);
                self.suspend();
            }
            Event::Resume(expected) => {
                self.suspend();
                self.resuming = Some(expected);
            }
            Event::Compare(expected) => {
                // While knotd is away there is nothing to compare, and a resume follows.
                if self.mode == Mode::Running || self.resuming.is_some() {
                    self.suspend();
                    self.resuming = Some(expected);
                }
            }
            Event::End => self.mode = Mode::Ended,
        }
    }

    /// One round: each kind of work at most one batch, so that none starves another.
    pub(super) fn work(&mut self) {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.retry_at = None;
        let worked = self
            .resume()
            .map(|()| self.run_prepares())
            .map(|()| self.wake_rested())
            .and_then(|()| self.run_deltas())
            .and_then(|()| self.run_reloads())
            .and_then(|()| self.run_catalogs())
            .and_then(|()| self.check_loads())
            .and_then(|()| self.judge_drifts())
            .and_then(|()| self.run_sweep());
        match worked {
            Ok(()) => self.retry_wait = RETRY_MIN,
            Err(error) => {
                self.retry_at = Some(Instant::now() + self.retry_wait);
                self.retry_wait = (self.retry_wait * 2).min(RETRY_MAX);
                let _ = self.reports.send(Report::ControlFailed { error: with_causes(&error) });
            }
        }
    }

    // -- tasks ------------------------------------------------------------------------------------

    pub(super) fn take_job(&mut self, Job { zone, tag, task }: Job) {
        let name = match zone {
            Target::Public(name) => name,
            Target::Private(zone, name) => return self.take_private_job(zone, name, tag, task),
        };
        let zone = self.zones.entry(name.clone()).or_insert_with(Zone::absent);
        match task {
            Task::Put(put) => zone.hold_base(Base::Put(put), tag),
            Task::Remove => zone.hold_base(Base::Remove, tag),
            // While suspended it isn't known; that is judged at the resume.
            Task::Delta(_) if self.mode == Mode::Running && !zone.takes_delta() => {
                self.report(&name, vec![tag], &Err(TaskError::NotServed));
            }
            Task::Delta(delta) => zone.merge_delta(delta, tag, &self.config.limits),
        }
        self.advance(&name);
    }

    /// Starts the next held task of a zone if nothing is under way, and forgets the zone if there's nothing to know.
    pub(super) fn advance(&mut self, name: &Name) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        let member = match zone.phase {
            Phase::Absent => false,
            Phase::Served { .. } | Phase::Broken => true,
            _ => return,
        };
        if self.mode != Mode::Running {
            return;
        }
        if zone.waits_for_module && !matches!(zone.base, Some((Base::Remove, _))) {
            return;
        }
        match zone.base.take() {
            Some((Base::Put(put), tags)) => {
                if !member && let Err(error) = self.claim_file_name(name) {
                    self.fail_content(name, tags, &error);
                    return;
                }
                let Some(zone) = self.zones.get_mut(name) else { return };
                zone.serial_tells = match zone.phase {
                    Phase::Absent => true,
                    Phase::Served { serial } => serial != put.serial,
                    _ => false,
                };
                zone.phase = Phase::Writing { member };
                let path = self.config.zone_dir.join(zone_file_name(name));
                let order = FileOrder::Write { zone: name.clone(), path, content: put.content.clone() };
                zone.current = Some((Base::Put(put), tags));
                self.file_orders_under_way += 1;
                let _ = self.files.send(order);
            }
            Some((_, tags)) if member => {
                zone.current = Some((Base::Remove, tags));
                zone.phase = Phase::Removable;
                self.removals.push_back(name.clone());
                self.catalog_wanted_since.get_or_insert_with(Instant::now);
            }
            Some((_, tags)) => {
                self.report(name, tags, &Ok(()));
                self.advance(name);
            }
            None if zone.delta.is_some() => match zone.phase {
                Phase::Served { .. } if !zone.delta_queued => {
                    zone.delta_queued = true;
                    if zone.delta.as_ref().is_some_and(|delta| delta.steering.is_some()) {
                        return self.prepares.push_back(name.clone());
                    }
                    match zone.rests_until.filter(|until| *until > Instant::now()) {
                        Some(until) => self.resting.push_back((until, name.clone())),
                        None => self.deltas.push_back(name.clone()),
                    }
                }
                Phase::Served { .. } => {}
                _ => {
                    let tags = zone.delta.take().map(|delta| delta.tags).unwrap_or_default();
                    self.report(name, tags, &Err(TaskError::NotServed));
                    self.advance(name);
                }
            },
            None if zone.phase == Phase::Absent => {
                self.zones.remove(name);
            }
            None => {}
        }
    }

    /// Lets zones have their next delta that have rested.
    fn wake_rested(&mut self) {
        let now = Instant::now();
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            self.deltas.extend(self.resting.pop_front().map(|(_, name)| name));
        }
    }

    /// Content can't be had: what was to be put on top of it can't either.
    pub(super) fn fail_content(&mut self, name: &Name, mut tags: Vec<u64>, error: &TaskError) {
        if let Some(zone) = self.zones.get_mut(name)
            && zone.base.is_none()
            && let Some(delta) = zone.delta.take()
        {
            tags.extend(delta.tags);
        }
        self.report(name, tags, &Err(error.clone()));
        self.advance(name);
    }

    pub(super) fn report(&self, zone: &Name, tags: Vec<u64>, result: &Result<(), TaskError>) {
        self.report_target(&Target::Public(zone.clone()), tags, result);
    }

    pub(super) fn report_target(&self, zone: &Target, tags: Vec<u64>, result: &Result<(), TaskError>) {
        for tag in tags {
            // Nobody may want to know any more.
            let _ = self.reports.send(Report::Done { zone: zone.clone(), tag, result: result.clone() });
        }
    }

    /// Makes sure that no other zone has the same file: knotd writes `_` for `/`.
    pub(super) fn claim_file_name(&mut self, name: &Name) -> Result<(), TaskError> {
        let plain = without_slashes(name);
        let owner = match self.file_names.get(&plain) {
            Some(owner) => Some(owner),
            None if plain != *name => self.zones.get_key_value(&plain).map(|(owner, _)| owner),
            None => None,
        };
        match owner {
            Some(owner) if owner != name => Err(TaskError::FileNameTaken(owner.clone())),
            _ => {
                if plain != *name {
                    self.file_names.insert(plain, name.clone());
                }
                Ok(())
            }
        }
    }

    // -- files and loads --------------------------------------------------------------------------

    pub(super) fn file_written(&mut self, name: &Name, result: io::Result<Written>) {
        self.file_orders_under_way -= 1;
        // After a suspension the zone isn't in this phase any more, and the file will be written anew.
        let Some(zone) = self.zones.get_mut(name) else { return };
        let Phase::Writing { member } = zone.phase else { return };
        match result {
            Ok(Written { records, steering: None }) => self.content_ready(name, member, records),
            Ok(Written { records, steering: Some(whole) }) => {
                self.prepare_content(name, member, records, &whole);
            }
            Err(error) => {
                let tags = zone.take_current();
                zone.phase = if member { Phase::Broken } else { Phase::Absent };
                if !member {
                    self.release_file_name(name);
                }
                self.fail_content(name, tags, &TaskError::File(error.to_string()));
            }
        }
    }

    /// A zone's file is there, and the module is ready for it.
    pub(super) fn content_ready(&mut self, name: &Name, member: bool, records: u64) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        zone.phase = Phase::Written { member, records };
        if member {
            self.reloads.push_back(name.clone());
        } else {
            self.additions.push_back(name.clone());
            self.catalog_wanted_since.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn release_file_name(&mut self, name: &Name) {
        let plain = without_slashes(name);
        if self.file_names.get(&plain) == Some(name) {
            self.file_names.remove(&plain);
        }
    }

    /// knotd was told to load a zone: waits for its serial.
    pub(super) fn start_load(&mut self, name: &Name, records: u64, check_again: Duration) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        let serial = match &zone.current {
            Some((Base::Put(put), _)) => put.serial,
            Some((Base::Expect(serial), _)) => *serial,
            _ => return,
        };
        zone.phase = Phase::Loading;
        let now = Instant::now();
        if zone.serial_tells {
            let _ = self.watcher.send(WatchOrder::Watch(name.clone(), serial));
        }
        let large = records >= self.config.limits.large_load_records;
        self.large_loads += usize::from(large);
        let check_at = now + check_again;
        self.load_checks.insert((check_at, name.clone()));
        self.loads.insert(name.clone(), Load { since: now, check_at, check_again, large });
    }

    /// knotd was told to load the content of a task.
    pub(super) fn start_load_of_put(&mut self, name: &Name, records: u64) {
        let Some(zone) = self.zones.get(name) else { return };
        let check_first = if zone.serial_tells { LOAD_CHECK_FIRST } else { LOAD_CHECK_FIRST_SAME_SERIAL };
        self.start_load(name, records, check_first);
    }

    pub(super) fn end_load(&mut self, name: &Name) {
        if let Some(load) = self.loads.remove(name) {
            self.load_checks.remove(&(load.check_at, name.clone()));
            self.large_loads -= usize::from(load.large);
            let _ = self.watcher.send(WatchOrder::Forget(name.clone()));
        }
    }

    pub(super) fn serial_seen(&mut self, name: &Name, serial: u32) {
        let Some(zone) = self.zones.get(name) else { return };
        let expected = match &zone.current {
            Some((Base::Put(put), _)) => put.serial,
            Some((Base::Expect(serial), _)) => *serial,
            _ => return,
        };
        // The watcher may report what was given up meanwhile.
        if zone.phase == Phase::Loading && expected == serial && zone.serial_tells {
            self.load_done(name, Ok(serial));
        }
    }

    pub(super) fn load_done(&mut self, name: &Name, result: Result<u32, TaskError>) {
        self.end_load(name);
        let Some(zone) = self.zones.get_mut(name) else { return };
        let expected = matches!(zone.current, Some((Base::Expect(_), _)));
        let tags = zone.take_current();
        zone.phase = match &result {
            Ok(serial) => Phase::Served { serial: *serial },
            Err(_) => Phase::Broken,
        };
        if let Some(prepared) = zone.prepared_whole.take() {
            match &result {
                Ok(_) => self.desk.settle(prepared),
                Err(_) => self.desk.abort(prepared),
            }
        }
        match result {
            Ok(_) => {
                self.sweep.mended(name);
                self.report(name, tags, &Ok(()));
                self.advance(name);
            }
            Err(error) => {
                if expected {
                    let serving = match error {
                        TaskError::NotLoaded { serving } => serving,
                        _ => None,
                    };
                    let _ = self.reports.send(Report::Stale { zone: name.clone(), serving });
                }
                self.fail_content(name, tags, &error);
            }
        }
        if expected {
            self.unsettled -= 1;
            if self.unsettled == 0 {
                let _ = self.reports.send(Report::Settled);
            }
        }
    }

    // -- suspension -------------------------------------------------------------------------------

    pub(super) fn suspend(&mut self) {
        self.resuming = None;
        self.retry_at = None;
        self.retry_wait = RETRY_MIN;
        if self.mode != Mode::Running {
            return;
        }
        self.mode = Mode::Suspended;
        let _ = self.watcher.send(WatchOrder::ForgetAll);
        self.deltas.clear();
        self.prepares.clear();
        self.resting.clear();
        self.sweep.stop();
        self.drifts.clear();
        self.reloads.clear();
        self.additions.clear();
        self.removals.clear();
        self.catalog_wanted_since = None;
        self.catalog_not_before = None;
        self.loads.clear();
        self.load_checks.clear();
        self.large_loads = 0;
        self.unsettled = 0;
        self.removing.clear();
        self.maybe_open.clear();
        self.maybe_members.clear();
        self.file_names.clear();
        for zone in self.zones.values_mut() {
            zone.phase = Phase::Absent;
            zone.delta_queued = false;
            // What the module was told is told again: it isn't known which of it knotd serves.
            zone.prepared_whole = None;
            zone.waits_for_module = false;
            zone.hold_taken();
            let current = zone.current.take().filter(|(base, _)| !matches!(base, Base::Expect(_)));
            if let Some((base, tags)) = current {
                match &mut zone.base {
                    Some((_, later)) => {
                        later.splice(0..0, tags);
                    }
                    None => zone.base = Some((base, tags)),
                }
            }
        }
        self.zones.retain(|_, zone| zone.base.is_some() || zone.delta.is_some());
    }

    pub(super) fn finish_suspension(&mut self) {
        if self.mode != Mode::Running && self.file_orders_under_way == 0 {
            for done in self.suspending.drain(..) {
                let _ = done.send(());
            }
        }
    }

    /// knotd has a member that it should not have.
    pub(super) fn found_unexpected(&mut self, name: Name) {
        self.zones.entry(name.clone()).or_insert_with(Zone::absent).phase = Phase::Broken;
        let _ = self.claim_file_name(&name);
        let _ = self.reports.send(Report::Unexpected { zone: name });
    }

    pub(super) fn resume(&mut self) -> Result<(), WorkError> {
        if self.resuming.is_none() {
            return Ok(());
        }
        let (catalogs, serials, mut members) = self.read_catalogs()?;
        let Some(expected) = self.resuming.take() else { return Ok(()) };
        self.mode = Mode::Running;
        self.sweep.restart(self.config.limits.sweep_interval);
        self.catalogs = catalogs;
        self.catalog_serials = serials;
        self.members = members.len();
        let mut watched = Vec::new();
        for (name, serial) in expected {
            if !members.remove(&name) {
                let _ = self.reports.send(Report::Stale { zone: name.clone(), serving: None });
                continue;
            }
            let zone = self.zones.entry(name.clone()).or_insert_with(Zone::absent);
            zone.current = Some((Base::Expect(serial), zone.take_done_by(serial, &self.desk)));
            zone.serial_tells = true;
            watched.push(name);
        }
        self.unsettled = watched.len();
        // All are asked for at once, so the last answer takes its time.
        let check_first =
            LOAD_CHECK_FIRST + EXPECTED_ZONE_TIME * u32::try_from(watched.len()).unwrap_or(u32::MAX);
        for name in &watched {
            // What is served already was let through before.
            let _ = self.claim_file_name(name);
            self.start_load(name, 0, check_first);
        }
        for name in members {
            self.found_unexpected(name);
        }
        if self.unsettled == 0 {
            let _ = self.reports.send(Report::Settled);
        }
        let held: Vec<Name> = self.zones.keys().cloned().collect();
        for name in held {
            self.advance(&name);
        }
        self.advance_all_private();
        self.look_for_module();
        Ok(())
    }
}
