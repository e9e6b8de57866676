//! The agent: takes in what the control plane sends, makes it durable, has knotd answer it, and confirms it.
//!
//! ```text
//!   session ──frames──▶ core ──jobs──▶ driver of knotd
//!      ▲                 │  ▲                │
//!      └─ Applied ◀──────┘  └── reports ◀────┘
//! ```
//!
//! [`core`] decides, as a state machine that reads no clock and owns no thread; the `shell` is the thread around it, which
//! brings it what happens and carries out what it says.

mod content;
pub mod core;
mod hooks;
mod scrubber;
mod shell;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use herald_core::firewall::FirewallPart;
use steering::link::ToAgent;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::content::Contents;
use self::core::Core;
use self::hooks::AgentHooks;
pub use self::scrubber::{Scrub, Scrubbed, scrub};
use self::shell::{Event, Shell};
use crate::alias::AliasKeeper;
use crate::config::{Config, Mode, SecretError};
use crate::counts::{CountsKeeper, Sender as CountsSender};
use crate::files::Files;
use crate::health::HealthKeeper;
use crate::knot::driver::{Driver, DriverConfig, Report};
use crate::knot::process::{Runner, Supervisor, SupervisorConfig};
use crate::materialize::with_causes;
use crate::query_log::QueryLogKeeper;
use crate::replica::{OpenError, Replica, ReplicaError};
use crate::session::Dialer;
use crate::status::{self, Board, FirewallCountStatus};

const LOCK: &str = "agent.lock";

/// How long knotd may take to start: 300,000 zones take 25 s.
const KNOT_START_TIMEOUT: Duration = Duration::from_secs(300);

/// How long knotd may take to end before it is killed.
const KNOT_STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one uses the directory.
    #[error(
        "another agent (process {holder}) uses {}: stop that one first, or use another directory", dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The number of the process, or `unknown`.
        holder: String,
    },
    /// The directory or something in it can't be had.
    #[error("the data directory {} can't be used", dir.display())]
    Data {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The credential.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The replica.
    #[error(transparent)]
    Replica(#[from] OpenError),
    /// A thread or a socket could not be made.
    #[error("the agent can't be started")]
    System(#[source] io::Error),
}

/// A running agent.
pub struct Agent {
    config: Arc<Config>,
    board: Arc<Board>,
    events: Sender<Event>,
    ending: CancellationToken,
    session: JoinHandle<()>,
    core: JoinHandle<()>,
    supervisor: Supervisor,
    counts: Option<CountsKeeper>,
    query_log: Option<QueryLogKeeper>,
    /// Released last.
    _lock: File,
}

impl Agent {
    /// Starts the agent, and knotd if that is its to start.
    ///
    /// # Errors
    /// [`StartError`]. A damaged replica is none: it is put aside, and everything is asked for anew.
    pub fn start(config: Config) -> Result<Agent, StartError> {
        let config = Arc::new(config);
        let lock = lock(&config.data)?;
        config.secret()?;
        let board = Arc::new(Board::new(&config.pop));
        if config.knot.module.is_some() {
            board.module(|module| module.since_ms = status::now_ms());
        }
        let replica = open_replica(&config, &board)?;
        status::serve(&config.status_socket(), board.clone())
            .map_err(|source| StartError::Data { dir: config.data.clone(), source })?;

        let files = Files::start(&config.data)
            .map_err(|source| StartError::Data { dir: config.data.clone(), source })?;
        // They are on the log already.
        files.problems().for_each(|problem| board.error(problem));

        let health = HealthKeeper::start(
            config.verdicts_file(),
            config.knot.module.is_some().then(|| config.knot.module_socket()),
            config.resolver,
            board.clone(),
        )
        .map_err(StartError::System)?;

        let aliases = match config.alias_resolvers.as_slice() {
            [] => None,
            some => Some(AliasKeeper::start(some.to_vec(), board.clone()).map_err(StartError::System)?),
        };
        let (events, inbox) = mpsc::channel();
        let (report, reports) = mpsc::channel();
        let damaged = events.clone();
        let contents =
            Contents::new(config.replica_dir(), move |zone| drop(damaged.send(Event::Damaged(zone))));
        // The configuration was checked to have an address.
        let driver = DriverConfig::of(&config.knot).ok_or_else(|| io::ErrorKind::InvalidInput.into());
        let table = files.geo.file().borrow().clone();
        let firewall = FirewallPart::ALL
            .into_iter()
            .filter_map(|part| Some((part, files.firewall(part).file().borrow().clone()?)))
            .collect();
        let driver = driver.map(|driver| DriverConfig { geo: table, firewall, ..driver });
        let driver = driver.and_then(|driver| Driver::start(driver, report)).map_err(StartError::System)?;
        let driver = Arc::new(driver);
        driver.filling(!replica.is_complete());
        let (api, api_places) = watch::channel(None);
        let told = Arc::clone(&driver);
        let query_log = config.knot.module.is_some().then(|| {
            let sender = CountsSender::new(config.clone());
            QueryLogKeeper::start(config.knot.module_socket(), sender, api_places.clone(), board.clone())
        });
        let query_log = query_log.transpose().map_err(StartError::System)?;
        let counts = CountsKeeper::start(
            config.counts_file(),
            config.replica_dir(),
            CountsSender::new(config.clone()),
            api_places,
            board.clone(),
            move |message| told.tell_module(message),
        );
        // Answers matter more than counts, which the module keeps until somebody takes them.
        let counts = counts.map_err(|error| note(&board, with_causes(&error))).ok();
        let counted = counts.clone();
        let (forward, figures, fetched) = (events.clone(), board.clone(), files.clone());
        spawn("knot-reports", move || {
            for report in reports {
                show_report(&report, &figures);
                fetched.module_reports(&report);
                match (&counted, &report) {
                    (Some(counted), Report::ModuleSaid(ToAgent::Counts(batch))) => {
                        counted.take(batch.clone());
                        continue;
                    }
                    (Some(counted), Report::ModuleUp { counts: true, .. }) => counted.module_up(),
                    _ => {}
                }
                if forward.send(Event::Knot(report)).is_err() {
                    return;
                }
            }
        })?;

        let mut core = Core::new(replica, contents, aside_dir(&config));
        core.resume_unapplied(Duration::ZERO);
        let scrubs = scrubber::start(config.replica_dir(), events.clone()).map_err(StartError::System)?;
        let shell = Shell::new(core, inbox, board.clone(), driver.clone(), scrubs);
        let core = spawn("agent", move || shell.run())?;

        let (steered, mut table) = (Arc::clone(&driver), files.geo.file());
        let (mut rules, mut policies) = (files.rules.file(), files.policies.file());
        let hooks = AgentHooks {
            config: config.clone(),
            driver,
            events: events.clone(),
            board: board.clone(),
            written: None,
            was_up: false,
        };
        let supervisor = SupervisorConfig {
            knot: config.knot.clone(),
            runner: match config.mode {
                Mode::Supervise => Runner::Us { program: config.knotd.clone() },
                Mode::Attach => Runner::SomebodyElse,
            },
            start_timeout: KNOT_START_TIMEOUT,
            stop_timeout: KNOT_STOP_TIMEOUT,
        };
        let supervisor = Supervisor::start(supervisor, Box::new(hooks)).map_err(StartError::System)?;

        let ending = CancellationToken::new();
        let dialer = Dialer::new(config.clone(), events.clone(), board.clone())
            .fetching(files)
            .telling_api(api)
            .minding(health)
            .resolving(aliases)
            .logging(query_log.clone());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::System)?;
        let session = spawn("session", {
            let ending = ending.clone();
            move || {
                let tell_table = async {
                    loop {
                        let file = table.borrow_and_update().clone();
                        steered.geo(file);
                        if table.changed().await.is_err() {
                            return;
                        }
                    }
                };
                let tell_firewall = async {
                    // What there was at the start, the driver has.
                    loop {
                        let (part, file) = tokio::select! {
                            Ok(()) = rules.changed() => (FirewallPart::Rules, &mut rules),
                            Ok(()) = policies.changed() => (FirewallPart::Policies, &mut policies),
                            else => return,
                        };
                        steered.firewall(part, file.borrow_and_update().clone());
                    }
                };
                runtime.block_on(async {
                    tokio::select! {
                        () = dialer.run(ending.clone()) => {}
                        () = async { tokio::join!(tell_table, tell_firewall, ending.cancelled()); } => {}
                    }
                });
            }
        })?;
        tracing::info!("the agent of the PoP {} runs", config.pop);
        Ok(Agent { config, board, events, ending, session, core, supervisor, counts, query_log, _lock: lock })
    }

    /// How the agent is.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Ends the agent, and with `stop_knot` a knotd that is its own to run.
    pub fn stop(self, stop_knot: bool) {
        self.ending.cancel();
        // A thread that panicked has ended, too.
        let _ = self.session.join();
        match stop_knot {
            true => self.supervisor.stop(),
            false => self.supervisor.detach(),
        }
        let _ = self.events.send(Event::End);
        let _ = self.core.join();
        if let Some(counts) = self.counts {
            counts.end();
        }
        if let Some(query_log) = self.query_log {
            query_log.end();
        }
        let _ = fs::remove_file(self.config.status_socket());
        tracing::info!("the agent of the PoP {} has ended", self.config.pop);
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    thread::Builder::new().name(name.into()).spawn(body).map_err(StartError::System)
}

/// Shows what people want to know of knotd.
fn show_report(report: &Report, board: &Board) {
    match report {
        // What a round found was reported zone by zone already.
        Report::Swept { zones, drifted } => board.swept(*zones, *drifted),
        Report::ModuleUp { zones, version, geo, .. } => {
            tracing::info!("the module {version} in knotd has {} zones with steering", zones.len());
            board.module(|module| {
                module.connected = true;
                module.since_ms = status::now_ms();
                module.version.clone_from(version);
                module.reason = None;
                module.zones = zones.len() as u64;
                module.geo = hex(geo);
            });
        }
        Report::ModuleDown { reason } => {
            tracing::warn!("the module in knotd can't be told of changes: {reason}");
            board.module(|module| {
                if std::mem::take(&mut module.connected) || module.reason.is_none() {
                    module.since_ms = status::now_ms();
                }
                module.reason = Some(reason.clone());
            });
        }
        Report::ModuleSaid(ToAgent::GeoLoaded { hash, problem }) => match problem {
            None => board.module(|module| module.geo = hex(hash)),
            Some(problem) => note(board, format!("the module does not use the GeoIP table: {problem}")),
        },
        Report::ModuleSaid(ToAgent::FirewallLoaded { problem: Some(problem), .. }) => {
            note(board, format!("the module does not use a file of the firewall: {problem}"));
        }
        Report::ModuleSaid(ToAgent::Status(said)) => board.module(|module| {
            module.zones = said.zones;
            module.panics = said.panics;
            module.undecided = said.undecided;
            module.bytes = said.bytes;
            module.firewall = said.firewall.iter().flatten().map(FirewallCountStatus::from).collect();
        }),
        _ => {}
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Makes the directory and takes its lock.
fn lock(dir: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::Data { dir: dir.into(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let path = dir.join(LOCK);
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let is_known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if is_known { holder.trim().to_owned() } else { "unknown".to_owned() };
            return Err(StartError::InUse { dir: dir.into(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    // Who holds it is a courtesy to the reader of the error; a full disk must not keep the agent from its work.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Opens the replica; a damaged one is put aside.
fn open_replica(config: &Config, board: &Board) -> Result<Replica, OpenError> {
    let dir = config.replica_dir();
    let unusable = match Replica::open(&dir) {
        Err(OpenError::Replica { source: ReplicaError::Damaged(what), .. }) => {
            Err(("is damaged", aside_dir(config), what))
        }
        // Another version's: kept for it, should it come back.
        Err(OpenError::UnknownFormat { found, .. }) => {
            Err(("is of another version", config.data.join("replica.other-version"), found))
        }
        opened => Ok(opened),
    };
    let replica = match unusable {
        Ok(opened) => opened,
        Err((how, aside, what)) => {
            note(board, format!("the replica {how} and was put aside to {}: {what}", aside.display()));
            crate::replica::move_aside(&dir, &aside).map_err(|error| OpenError::Replica {
                dir: dir.clone(),
                source: ReplicaError::Failed(error.to_string()),
            })?;
            Replica::open(&dir)
        }
    }?;
    let set_aside = replica.set_aside_at_opening();
    if set_aside > 0 {
        note(board, format!("{set_aside} zones are damaged in the replica and are asked for anew"));
    }
    Ok(replica)
}

fn aside_dir(config: &Config) -> PathBuf {
    config.data.join("replica.damaged")
}

/// An error for the log and for the status.
fn note(board: &Board, message: String) {
    tracing::error!("{message}");
    board.error(message);
}
