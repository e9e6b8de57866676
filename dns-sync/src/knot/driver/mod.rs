//! Applies changes of zones to a running knotd.
//!
//! Four threads. *Control* owns all state and is the only one that uses the control socket, in bounded batches, since
//! knotd serves one connection at a time. *Files* writes zone files, *watcher* asks knotd by DNS
//! whether a zone is served with a serial, and *sweeper* asks for all zones in turn. So a small delta never waits for bulk work: neither for a file to
//! be written nor for knotd to load it.
//!
//! A zone, as control sees it:
//! ```text
//!              Put                  written               reload, or            serial is served
//!   Absent ──────────▶ Writing ───────────────▶ Written ─── catalog ──▶ Loading ───────────────▶ Served ◀─┐
//!     ▲                   ▲                              addition          │                     │  │     │
//!     │                   │ Put (a member's new content)                   ▼ not loaded          │  └─────┘
//!     │                   ├─────────────────────────────────────────── Broken ──┐                │   Delta
//!     │                   └──────────────────────────────────────────────────── │ ───────────────┤
//!     │     gone                                              Remove            ▼                │
//!     └────────────── Removing ◀── catalog removal ◀── Removable ◀──────────────┴────────────────┘
//! ```
//! Tasks for a zone that is under way are held and coalesced: a later `Put` or `Remove` replaces what is held, a `Delta`
//! is merged by owner and type. What was replaced is reported done with what replaced it.
//!
//! Private zones are the module's alone (`private`).
//!
//! A change that is for the module, too, is told that first, and goes on when it is ready for it (`steered`).
//!
//! Small deltas go as transactions, one a zone, many zones on one connection, in two steps: all transactions are opened and filled,
//! the answers are read, and only then the good ones are committed and the others aborted.

mod control;
mod encode;
mod members;
mod private;
mod socket;
mod steered;
mod sweep;
mod zone;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use herald_core::firewall::FirewallPart;
use herald_core::{Generation, Name, RrKey, Rrset, ZoneId};
use steering::link::{FirewallHashes, ToAgent, ToModule};

use self::control::{Control, Event};
use super::config::KnotConfig;
use super::probe;
use super::zonefile::{self, ZoneWriter};
use crate::files::keeper::KeptFile;
use crate::module::desk::Change;
use crate::module::link::Link;
use crate::replica::Target;

// ---------------------------------------------------------------------------------------------------
// What is asked and what is answered
// ---------------------------------------------------------------------------------------------------

/// Why steering is refused where knotd has no module.
pub(crate) const NO_MODULE: &str = "knotd has no module here (`module` in agent.toml)";

/// The whole content of a zone at one moment, cheap to hold on to, written when the driver gets to it.
pub trait ZoneContent: Send + Sync {
    /// Writes all records, the SOA first. Called in the thread that writes files, perhaps more than once.
    fn write(&self, out: &mut ZoneWriter<'_>) -> io::Result<()>;
}

/// One thing to be done for one zone.
pub struct Job {
    /// The zone.
    pub zone: Target,
    /// Comes back in the [`Report`].
    pub tag: u64,
    /// What is to be done.
    pub task: Task,
}

/// What can be done with a zone.
pub enum Task {
    /// Serve this content, whether the zone was served before or not.
    Put(Put),
    /// Change some RRsets of a served zone.
    Delta(Delta),
    /// Serve the zone no more.
    Remove,
}

/// A zone's whole content.
#[derive(Clone)]
pub struct Put {
    /// The serial in the content's SOA: it tells that the content is being served.
    pub serial: u32,
    /// The content.
    pub content: Arc<dyn ZoneContent>,
    /// What the module has to have in use for it, if anything.
    pub module: Option<(ZoneId, Generation)>,
}

/// A change of a zone: whole RRsets.
pub struct Delta {
    /// The new SOA.
    pub soa: Rrset,
    /// The RRsets that change, as they are to be; none removes the RRset. The SOA isn't among them.
    pub changes: Vec<(RrKey, Option<Rrset>)>,
    /// The zone's content after this change, for the case that loading a file is the better way.
    pub whole: Put,
    /// What it is for the module: then that is told first.
    pub steering: Option<Change>,
}

/// Why a task was not done. The zone goes on as it was, unless it says otherwise; but what it serves isn't what
/// later deltas build upon, so that those fail with [`TaskError::NotServed`] until a [`Task::Put`] is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A delta for a zone that isn't served, or not with what the delta builds upon: it needs a [`Task::Put`].
    #[error("the zone is not served with what the change builds upon")]
    NotServed,
    /// A record isn't of its type. knotd never saw it: 3.2 takes such records, and crashes on some.
    #[error("a record is malformed: {0}")]
    Malformed(String),
    /// knotd refused a record or the whole transaction.
    #[error("knotd refused the change: {0}")]
    Rejected(String),
    /// The zone file could not be written.
    #[error("the zone file could not be written: {0}")]
    File(String),
    /// knotd did not load the file. Its log says why. It serves what it served before.
    #[error("knotd did not load the zone file (it serves serial {})", shown(*.serving))]
    NotLoaded {
        /// The serial that it serves instead; none if it answers SERVFAIL.
        serving: Option<u32>,
    },
    /// knotd did not do it in time; what it serves is not known.
    #[error("knotd took more than {waited_ms} ms")]
    TimedOut {
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
    },
    /// Another served zone has the same file: their names differ by `/` and `_` only.
    #[error("the zone's file name is that of the served zone {0}")]
    FileNameTaken(Name),
    /// The module doesn't take the zone's steering. What it had goes on.
    #[error("its steering can't be used: {0}")]
    Steering(String),
    /// The driver was ended before the task was done.
    #[error("the driver has ended")]
    Ended,
}

fn shown(serial: Option<u32>) -> String {
    serial.map_or_else(|| "none".into(), |serial| serial.to_string())
}

/// What the driver has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A task is done: the content is served (or the zone no more), or will not be.
    Done {
        /// The zone.
        zone: Target,
        /// The tag of its [`Job`].
        tag: u64,
        /// Whether it was done.
        result: Result<(), TaskError>,
    },
    /// A zone is not served as it should be, after [`Driver::resume`] or later, and needs a [`Task::Put`].
    Stale {
        /// The zone.
        zone: Name,
        /// The serial that is served, if any.
        serving: Option<u32>,
    },
    /// knotd has a zone that it should not have, after [`Driver::resume`] or later. It needs a [`Task::Remove`] or a [`Task::Put`].
    Unexpected {
        /// The zone.
        zone: Name,
    },
    /// After [`Driver::resume`]: every expected zone is either served as expected or was reported.
    Settled,
    /// All served zones were asked for, in a round that runs in the background.
    Swept {
        /// How many zones were served at its beginning.
        zones: u64,
        /// How many were found to be served otherwise than they should be, or though they should not. They were reported.
        drifted: u64,
    },
    /// The module in knotd is there, and has this in use.
    ModuleUp {
        /// Zones and their generations.
        zones: Vec<(ZoneId, Generation)>,
        /// Its version.
        version: String,
        /// SHA-256 of the table of places that it has, empty if it has none.
        geo: Vec<u8>,
        /// Whether it counts queries.
        counts: bool,
        /// What it has of the firewall; none if it is too old to have one.
        firewall: Option<FirewallHashes>,
    },
    /// The module isn't there: changes of steering wait.
    ModuleDown {
        /// Why.
        reason: String,
    },
    /// What the module says that is of no zone.
    ModuleSaid(ToAgent),
    /// The control socket failed; it's tried again, and no task is lost.
    ControlFailed {
        /// The error and its causes.
        error: String,
    },
}

/// Where the driver finds knotd, and how much it does at once.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// knotd's control socket.
    pub control_socket: PathBuf,
    /// Where knotd answers DNS.
    pub dns: SocketAddr,
    /// Folder of the zone files.
    pub zone_dir: PathBuf,
    /// The name below which the catalog zones are.
    pub catalog: Name,
    /// The socket of the module in knotd; none if knotd has no module, so that zones with steering are refused.
    pub module_socket: Option<PathBuf>,
    /// The table of places that the module is to use, as it is known at the start.
    pub geo: Option<KeptFile>,
    /// The firewall's files that it is to use, likewise.
    pub firewall: BTreeMap<FirewallPart, KeptFile>,
    /// Bounds.
    pub limits: Limits,
}

impl DriverConfig {
    /// The driver's side of a knotd configuration; none if that has no address.
    pub fn of(knot: &KnotConfig) -> Option<DriverConfig> {
        Some(DriverConfig {
            control_socket: knot.control_socket(),
            dns: knot.probe_address()?,
            zone_dir: knot.zone_dir(),
            catalog: knot.catalog.clone(),
            module_socket: knot.module.is_some().then(|| knot.module_socket()),
            geo: None,
            firewall: BTreeMap::new(),
            limits: Limits::default(),
        })
    }
}

/// How much is done at once. Each batch on the control socket delays all others for as long as it takes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A delta of more records than this becomes a file. Held deltas of a zone are bounded by it, too.
    pub delta_records_max: usize,
    /// Zones in one connection.
    pub batch_zones_max: usize,
    /// Records in one connection, after which no further zone is taken.
    pub batch_records_max: usize,
    /// Members added and removed in one change of the catalogs.
    pub catalog_members_max: usize,
    /// The same while the PoP is being filled.
    pub filling_members_max: usize,
    /// The pause after a change of the catalogs while others' changes are flowing, as a multiple of the time that it held
    /// the control socket. While the PoP is being filled there is none.
    pub catalog_pause_factor: u32,
    /// But it isn't longer than this.
    pub catalog_pause_max: Duration,
    /// A file of more records is large: changes of the catalogs wait while knotd loads it, since knotd finishes
    /// all loads before it applies one, with the control socket held meanwhile.
    pub large_load_records: u64,
    /// But they don't wait longer than this.
    pub catalog_hold_max: Duration,
    /// How long a change of the catalogs waits for more zones at most, while the PoP is being filled.
    pub filling_hold_max: Duration,
    /// Zones that knotd may be loading at the same time.
    pub loads_max: usize,
    /// How long a load or a removal may take.
    pub load_timeout: Duration,
    /// How long a zone is left alone after a change: another one would wait for knotd to free the old content, and
    /// everything else on the control socket with it.
    pub zone_rest: Duration,
    /// How long a round takes in which all zones are asked for, to find what was changed behind our back; zero for none.
    pub sweep_interval: Duration,
    /// How long a single answer on the control socket may take.
    pub control_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            delta_records_max: 2_000,
            batch_zones_max: 256,
            batch_records_max: 4_000,
            catalog_members_max: 2_000,
            filling_members_max: 20_000,
            catalog_pause_factor: 2,
            catalog_pause_max: Duration::from_secs(1),
            large_load_records: 50_000,
            catalog_hold_max: Duration::from_secs(2),
            filling_hold_max: Duration::from_secs(1),
            loads_max: 20_000,
            load_timeout: Duration::from_secs(60),
            zone_rest: Duration::from_millis(11),
            sweep_interval: Duration::from_secs(120),
            control_timeout: Duration::from_secs(30),
        }
    }
}

/// Drives one knotd. Dropping it ends its threads; knotd goes on.
pub struct Driver {
    events: Sender<Event>,
    threads: Vec<JoinHandle<()>>,
}

impl Driver {
    /// Starts the threads. The driver is suspended until [`Driver::resume`]; reports go to `reports`.
    pub fn start(config: DriverConfig, reports: Sender<Report>) -> io::Result<Driver> {
        let (events, inbox) = mpsc::channel();
        let (files, file_orders) = mpsc::channel();
        let (watcher, watch_orders) = mpsc::channel();
        let (sweeper, questions) = mpsc::channel();
        let dns = config.dns;
        // A socket that can't be made is to be known now, not in the thread.
        probe::socket_to(dns)?;
        let link = match &config.module_socket {
            None => None,
            Some(socket) => {
                let events = events.clone();
                // It fails once the driver has ended.
                Some(Link::start(socket.clone(), move |event| drop(events.send(Event::Module(event))))?)
            }
        };
        let control = Control::new(config, reports, files, watcher, sweeper, link);
        let threads = vec![
            thread::Builder::new().name("knot-control".into()).spawn(move || control.run(&inbox))?,
            thread::Builder::new().name("knot-files".into()).spawn({
                let events = events.clone();
                move || keep_files(&file_orders, &events)
            })?,
            thread::Builder::new().name("knot-watcher".into()).spawn({
                let events = events.clone();
                move || {
                    if let Err(error) = probe::watch(dns, &watch_orders, &events, Event::Served) {
                        let _ = events.send(Event::WatcherFailed(error));
                    }
                }
            })?,
            thread::Builder::new().name("knot-sweeper".into()).spawn({
                let events = events.clone();
                move || {
                    if let Err(error) = sweep::ask(dns, &questions, &events) {
                        let _ = events.send(Event::WatcherFailed(error));
                    }
                }
            })?,
        ];
        Ok(Driver { events, threads })
    }

    /// Takes tasks. They're done in order for each zone; between zones there's no order.
    ///
    /// Nothing bounds how many wait: the caller has a report for each and should not have too many out.
    pub fn submit(&self, jobs: Vec<Job>) {
        // It fails only if the driver's thread is gone; then its end was reported.
        let _ = self.events.send(Event::Submit(jobs));
    }

    /// Whether the PoP is being filled: zones then come in as fast as can be, at the expense of changes to those that
    /// are served already. It isn't at first.
    pub fn filling(&self, is_filling: bool) {
        let _ = self.events.send(Event::Filling(is_filling));
    }

    /// The table of places that the module is to use; none at first.
    pub fn geo(&self, file: Option<KeptFile>) {
        let _ = self.events.send(Event::Geo(file));
    }

    /// The module is told this, which is of no zone; nothing if it isn't there.
    pub fn tell_module(&self, message: ToModule) {
        let _ = self.events.send(Event::TellModule(message));
    }

    /// The file of a part of the firewall that the module is to use.
    pub fn firewall(&self, part: FirewallPart, file: Option<KeptFile>) {
        let _ = self.events.send(Event::Firewall(part, file));
    }

    /// Stops using knotd and the zone files, and returns when nothing is under way any more. Tasks are kept.
    ///
    /// To be called when knotd is gone, before its files are written anew.
    pub fn suspend(&self) {
        let (done, wait) = mpsc::channel();
        if self.events.send(Event::Suspend(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Goes on with a knotd that should serve these zones, with these serials: what its files were written
    /// with, or for an adopted one, what the replica has.
    ///
    /// Every zone is asked for; those that aren't served so are reported. A task that was kept is done already if
    /// the expected serial isn't older than its own.
    pub fn resume(&self, expected: Vec<(Name, u32)>) {
        let _ = self.events.send(Event::Resume(expected));
    }

    /// The module is to have these zones no more.
    pub fn forget_steering(&self, zones: Vec<ZoneId>) {
        let _ = self.events.send(Event::ForgetSteering(zones));
    }

    /// The same with a knotd that is answering; of no effect while the driver is suspended.
    pub fn compare(&self, expected: Vec<(Name, u32)>) {
        let _ = self.events.send(Event::Compare(expected));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.events.send(Event::End);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// The thread that writes and deletes files
// ---------------------------------------------------------------------------------------------------

enum FileOrder {
    Write {
        zone: Name,
        path: PathBuf,
        content: Arc<dyn ZoneContent>,
    },
    /// What the module is to have of a private zone, which has no file.
    Gather {
        zone: ZoneId,
        content: Arc<dyn ZoneContent>,
    },
    Delete {
        path: PathBuf,
    },
}

/// Does one order after the other, so that a zone that comes back doesn't lose its new file to the removal of its old
/// one. Deleting is here too, since it takes a millisecond in a large folder of some file systems.
fn keep_files(orders: &Receiver<FileOrder>, events: &Sender<Event>) {
    for order in orders {
        let event = match order {
            FileOrder::Write { zone, path, content } => {
                Event::Written(zone, zonefile::write_file(&path, |out| content.write(out)))
            }
            FileOrder::Gather { zone, content } => {
                let mut nowhere = io::sink();
                let mut writer = ZoneWriter::new(&mut nowhere);
                let written = content.write(&mut writer);
                Event::Gathered(zone, written.map(|()| writer.finish().steering))
            }
            FileOrder::Delete { path } => {
                // A file that stays is in nobody's way: without the member nobody reads it.
                let _ = fs::remove_file(path);
                Event::Deleted
            }
        };
        if events.send(event).is_err() {
            return;
        }
    }
}
