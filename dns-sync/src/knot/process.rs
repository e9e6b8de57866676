//! Keeping a knotd running: one of our own, or one that somebody else (systemd) runs.
//!
//! ```text
//!            ┌────────────── adopted (its socket answers already) ──────────────┐
//!   start ───┤                                                                  ▼
//!            └─▶ install config ─▶ materialize ─▶ spawn ─▶ answers by socket ─▶ up ─▶ died ─┐
//!                    ▲                                     and by DNS                       │
//!                    └───────────────── back-off ◀── down ◀─────────────────────────────────┘
//! ```
//!
//! knotd's files only hold what was true when they were written. So no start happens without the hook
//! [`Hooks::materialize`], which writes them anew from the replica.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, thread};

use herald_core::Name;
use rustix::process::{Pid, Signal};

use super::config::KnotConfig;
use super::ctl::{self, Batch, Command, CtlError};
use super::{catalog, probe};

/// How often it's looked whether knotd still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// How often an answer is asked for.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How many such probes in a row have to fail for knotd to count as silent, and as down if it isn't our child.
const FAILURES_MAX: u32 = 4;

/// How long one question to knotd may take while it's being waited for.
const ASK_TIMEOUT: Duration = Duration::from_millis(200);

/// The first wait before knotd is started again. It doubles with every start that didn't last.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A knotd that ran so long has done well, and the back-off starts from the beginning.
const GOOD_UPTIME: Duration = Duration::from_secs(30);

/// An error of a hook, to be logged.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// What the supervisor needs others to do. All calls come from the supervisor's thread.
pub trait Hooks: Send {
    /// Writes all zone files and the catalog file anew. knotd isn't running, and is not started if this fails.
    fn materialize(&mut self) -> Result<(), HookError>;
    /// knotd answers. `adopted` if it ran before, so that what it serves is not known.
    fn up(&mut self, adopted: bool);
    /// knotd is gone. Not called for a stop that was asked for.
    fn down(&mut self, reason: &str);
    /// Our knotd runs but doesn't answer any more (`true`), or does again. It is left to itself: one that is stopped or has no
    /// processor goes on when it can, and to start it anew would take what it still has in memory.
    fn silent(&mut self, _is_silent: bool) {}
    /// A start failed and is tried again later.
    fn start_failed(&mut self, error: &StartError);
}

/// Who runs knotd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runner {
    /// We do, with this program. One that answers already, left by a killed agent, is adopted.
    Us {
        /// Path or name of knotd.
        program: PathBuf,
    },
    /// Somebody else does; we only wait for its socket.
    SomebodyElse,
}

/// How to look after knotd.
#[derive(Debug, Clone)]
pub struct SupervisorConfig {
    /// Its configuration.
    pub knot: KnotConfig,
    /// Who runs it.
    pub runner: Runner,
    /// How long a start may take until it answers. Loading 300,000 zones takes 25 s.
    pub start_timeout: Duration,
    /// How long it may take to end before it's killed.
    pub stop_timeout: Duration,
}

/// Why knotd could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no address to answer on.
    #[error("knotd has no address to listen on")]
    NoAddress,
    /// Folders or the configuration file could not be written.
    #[error("can't write knotd's configuration")]
    Install(#[source] io::Error),
    /// The zone files could not be written.
    #[error("can't write the zone files")]
    Materialize(#[source] HookError),
    /// The program could not be started.
    #[error("can't start {program}")]
    Spawn {
        /// What was to be started.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended by itself before it answered.
    #[error("knotd ended while it was starting ({status})")]
    Ended {
        /// How it ended, and what is wrong with its configuration, if anything is: a module that can't be loaded, say.
        status: String,
    },
    /// It runs but doesn't answer.
    #[error("knotd did not answer within {waited_ms} ms")]
    Silent {
        /// How long it was waited for, in milliseconds.
        waited_ms: u128,
    },
}

/// Looks after a knotd in a thread of its own.
pub struct Supervisor {
    stop: Sender<StopKind>,
    thread: Option<JoinHandle<()>>,
}

enum StopKind {
    /// End knotd, too, if it is ours.
    WithKnot,
    /// Leave knotd running: it goes on answering without an agent.
    LeaveKnot,
}

impl Supervisor {
    /// Starts looking after knotd.
    pub fn start(config: SupervisorConfig, hooks: Box<dyn Hooks>) -> io::Result<Supervisor> {
        let (stop, stop_requests) = mpsc::channel();
        let thread = thread::Builder::new().name("knot-supervisor".into()).spawn(move || {
            Keeper { config, hooks, stop_requests, child: None }.run();
        })?;
        Ok(Supervisor { stop, thread: Some(thread) })
    }

    /// Stops knotd gracefully, if it's ours, and waits for its end.
    pub fn stop(mut self) {
        self.finish(StopKind::WithKnot);
    }

    /// Stops looking after knotd but leaves it running.
    pub fn detach(mut self) {
        self.finish(StopKind::LeaveKnot);
    }

    fn finish(&mut self, kind: StopKind) {
        if let Some(thread) = self.thread.take() {
            // It fails only if the thread has ended by itself.
            let _ = self.stop.send(kind);
            let _ = thread.join();
        }
    }
}

impl Drop for Supervisor {
    /// An agent that goes away unexpectedly must not take the answers with it.
    fn drop(&mut self) {
        self.finish(StopKind::LeaveKnot);
    }
}

struct Keeper {
    config: SupervisorConfig,
    hooks: Box<dyn Hooks>,
    stop_requests: Receiver<StopKind>,
    child: Option<Child>,
}

impl Keeper {
    fn run(&mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let adopted = self.answers();
            let ready = match (&self.config.runner, adopted) {
                (_, true) => Ok(()),
                (Runner::Us { program }, false) => self.start_ours(&program.clone()),
                (Runner::SomebodyElse, false) => {
                    Err(StartError::Silent { waited_ms: PROBE_INTERVAL.as_millis() })
                }
            };
            match ready {
                Ok(()) => {
                    let since = Instant::now();
                    self.hooks.up(adopted);
                    let reason = match self.watch() {
                        Watched::Died(reason) => reason,
                        Watched::Stop(kind) => return self.end(&kind),
                    };
                    self.hooks.down(&reason);
                    if since.elapsed() >= GOOD_UPTIME {
                        backoff = BACKOFF_MIN;
                    }
                }
                Err(error) => {
                    self.hooks.start_failed(&error);
                    self.kill_child(Duration::ZERO);
                }
            }
            match self.stop_requests.recv_timeout(backoff) {
                Ok(kind) => return self.end(&kind),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => backoff = (backoff * 2).min(BACKOFF_MAX),
            }
        }
    }

    fn start_ours(&mut self, program: &Path) -> Result<(), StartError> {
        let knot = self.config.knot.clone();
        let address = knot.probe_address().ok_or(StartError::NoAddress)?;
        // One that hangs would keep the port and the socket.
        kill_by_pid_file(&knot.pid_file(), self.config.stop_timeout);
        knot.install().map_err(StartError::Install)?;
        remove_if_there(&knot.pid_file()).map_err(StartError::Install)?;
        remove_if_there(&knot.control_socket()).map_err(StartError::Install)?;
        self.hooks.materialize().map_err(StartError::Materialize)?;
        let child = Process::new(program)
            .arg("-c")
            .arg(knot.config_file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // What is sent to the agent's group, by a terminal say, is not for knotd: it goes on without the agent.
            .process_group(0)
            .spawn()
            .map_err(|source| StartError::Spawn { program: program.into(), source })?;
        let child = self.child.insert(child);
        let since = Instant::now();
        while since.elapsed() < self.config.start_timeout {
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                let complaint = complaint(program, &knot.config_file());
                let status = complaint.map_or(status.to_string(), |why| format!("{status}: {why}"));
                return Err(StartError::Ended { status });
            }
            if answers_dns(address, &knot.catalog)
                && catalog::are_loaded(&knot.control_socket(), ASK_TIMEOUT, &knot.catalog)
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(StartError::Silent { waited_ms: since.elapsed().as_millis() })
    }

    fn answers(&self) -> bool {
        let knot = &self.config.knot;
        catalog::are_loaded(&knot.control_socket(), Duration::from_secs(5), &knot.catalog)
            && knot.probe_address().is_some_and(|address| answers_dns(address, &knot.catalog))
    }

    /// Waits until knotd dies or a stop is asked for.
    fn watch(&mut self) -> Watched {
        let pid_file = self.config.knot.pid_file();
        let first_pid = read_pid(&pid_file);
        let (mut failures, mut probed_at) = (0, Instant::now());
        loop {
            let interval = if self.child.is_some() { WATCH_INTERVAL } else { PROBE_INTERVAL };
            match self.stop_requests.recv_timeout(interval) {
                Ok(kind) => return Watched::Stop(kind),
                Err(RecvTimeoutError::Disconnected) => return Watched::Stop(StopKind::LeaveKnot),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(child) = &mut self.child {
                match child.try_wait() {
                    Ok(None) => {}
                    Ok(Some(status)) => {
                        self.child = None;
                        return Watched::Died(format!("knotd ended ({status})"));
                    }
                    Err(error) => return Watched::Died(format!("can't watch knotd: {error}")),
                }
                if probed_at.elapsed() < PROBE_INTERVAL {
                    continue;
                }
            } else if read_pid(&pid_file) != first_pid {
                return Watched::Died("knotd was started anew by somebody else".into());
            }
            let was_silent = failures >= FAILURES_MAX;
            // The control socket is left alone: it may be busy for good reasons.
            let knot = &self.config.knot;
            match knot.probe_address() {
                Some(address) if answers_dns(address, &knot.catalog) => failures = 0,
                _ => failures = FAILURES_MAX.min(failures + 1),
            }
            probed_at = Instant::now();
            let is_silent = failures >= FAILURES_MAX;
            if self.child.is_some() {
                if is_silent != was_silent {
                    self.hooks.silent(is_silent);
                }
                continue;
            }
            if is_silent || first_pid.is_some_and(|pid| !is_alive(pid)) {
                return Watched::Died("knotd does not answer".into());
            }
        }
    }

    fn end(&mut self, kind: &StopKind) {
        match kind {
            // Dropping a child leaves it running.
            StopKind::LeaveKnot => self.child = None,
            StopKind::WithKnot if self.config.runner == Runner::SomebodyElse => {}
            StopKind::WithKnot => {
                let asked = stop(&self.config.knot.control_socket(), self.config.stop_timeout).is_ok();
                // A signal while it ends by itself would make it drop everything at once.
                self.kill_child(if asked { self.config.stop_timeout / 2 } else { Duration::ZERO });
                kill_by_pid_file(&self.config.knot.pid_file(), self.config.stop_timeout);
            }
        }
    }

    /// Waits for the child's end, asks for it after `grace`, and forces it after the time to stop.
    fn kill_child(&mut self, grace: Duration) {
        let Some(mut child) = self.child.take() else { return };
        let since = Instant::now();
        let mut term_sent = false;
        loop {
            match child.try_wait() {
                Ok(Some(_)) => return,
                _ if since.elapsed() >= self.config.stop_timeout => break,
                _ if !term_sent && since.elapsed() >= grace => {
                    term_sent = true;
                    signal(child.id(), Signal::TERM);
                }
                _ => thread::sleep(Duration::from_millis(5)),
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

enum Watched {
    Died(String),
    Stop(StopKind),
}

/// Asks knotd to end; it has not ended yet when this returns.
pub fn stop(socket: &Path, timeout: Duration) -> Result<(), CtlError> {
    let mut batch = Batch::new();
    batch.push(Command::Stop, &[]).expect("no items");
    ctl::run_batch(socket, timeout, &batch, |_| {})
}

/// Whether a knotd runs that was started with this configuration.
pub fn is_running(knot: &KnotConfig) -> bool {
    read_pid(&knot.pid_file()).is_some_and(is_alive)
}

/// Whether knotd answers at all, if only that it knows no such zone.
fn answers_dns(address: SocketAddr, catalog: &Name) -> bool {
    matches!(probe::ask_soa(address, catalog, ASK_TIMEOUT), Ok(Some(_)))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether a knotd runs under this PID. A PID is used again by others, so its name is looked at.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // `pid (name) state`; Z is one that has ended already.
        stat.contains("(knotd)") && !stat.contains("(knotd) Z")
    })
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It fails only if the process has ended.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// What `knotc`, beside knotd, has to say against the configuration. knotd said so too, in its log.
fn complaint(knotd: &Path, config: &Path) -> Option<String> {
    let check =
        Process::new(knotd.with_file_name("knotc")).arg("-c").arg(config).arg("conf-check").output().ok()?;
    let said = String::from_utf8_lossy(&check.stderr);
    let first = said.lines().find_map(|line| line.strip_prefix("error: "))?;
    (!check.status.success()).then(|| first.to_owned())
}

/// Ends a knotd that isn't our child but has our PID file.
fn kill_by_pid_file(path: &Path, timeout: Duration) {
    let Some(pid) = read_pid(path) else { return };
    let deadline = Instant::now() + timeout;
    let mut kind = Signal::TERM;
    while is_alive(pid) {
        signal(pid, kind);
        let step = Instant::now() + Duration::from_millis(500);
        while is_alive(pid) && Instant::now() < step {
            thread::sleep(Duration::from_millis(5));
        }
        if Instant::now() >= deadline {
            if kind == Signal::KILL {
                return;
            }
            kind = Signal::KILL;
        }
    }
}
