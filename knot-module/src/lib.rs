//! The module of Knot DNS that decides who gets which answer, within knotd.
//!
//! ```text
//!            knotd
//!  query ──▶ BEGIN     the firewall drops, refuses, answers; insiders of views are answered; client subnets are dropped where they aren't used
//!            PREANSWER aliases that are steered are put, and answers that knotd needn't look for again
//!            (knotd looks the name up, and finds a placeholder)
//!            ANSWER, ADDITIONAL: placeholders are replaced with what is decided
//!            END       no placeholder gets out; the query is counted
//!                              │ reads
//!  agent ──▶ socket ──▶ thread ┴─▶ a pointer a zone to its steering, replaced as a whole
//! ```
//!
//! - `hooks`: what is done at each stage.
//! - `slot`: where a query finds the steering of its zone; `private`: zones that knotd doesn't have; `places`: the table of places;
//!   `health`: which endpoints are up; `firewall`: rules and policy zones.
//! - `resolved`: what knotd found before.
//! - `counts`: what is counted of queries, and how the agent gets it; `queries`: likewise queries that are logged.
//! - `store`, `server`: what the agent says, and how it becomes what queries read.
//! - `knot`: the layer to knotd, where all `unsafe` is.
//!
//! Nothing fails open: what can't be decided, and what panics, is never answered with a placeholder.

mod counts;
mod firewall;
mod health;
mod hooks;
#[allow(unsafe_code, reason = "it is the layer to knotd's C")]
mod knot;
mod places;
mod private;
mod queries;
mod resolved;
mod ring;
mod server;
mod slot;
mod store;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use counts::Tallying;
use knot::{Loading, Priority};
use queries::Logging;
use server::Server;
use slot::Slot;
use steering::link::verdicts_file;
use store::Store;

/// What knotd's configuration says of us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where the agent connects.
    pub socket: Option<String>,
    /// The file that holds what the agent would say to a module that knows nothing.
    pub snapshot: Option<String>,
    /// The name of the PoP.
    pub pop: String,
    /// Whether draws follow from the ids of messages, so that tests know them.
    pub known_draws: bool,
    /// Whether a query with a certain message id makes its hook panic, so that tests see what becomes of it.
    pub panics: bool,
}

/// Panics in the path of queries since the start.
static PANICS: AtomicU64 = AtomicU64::new(0);
/// Placeholders that nothing was decided for.
static UNDECIDED: AtomicU64 = AtomicU64::new(0);

static STORE: Mutex<Store> = Mutex::new(Store::new());
static PROCESS: Mutex<Process> = Mutex::new(Process {
    instances: 0,
    settings: None,
    server: None,
    counting: None,
    logging: None,
    has_snapshot: false,
});

/// What all instances in knotd's process share. There are many: one a zone, and the global one.
struct Process {
    instances: usize,
    /// Those in effect.
    settings: Option<Settings>,
    server: Option<Server>,
    counting: Option<Tallying>,
    logging: Option<Logging>,
    /// Whether a snapshot was looked for: what the agent has said since then is newer.
    has_snapshot: bool,
}

fn process() -> MutexGuard<'static, Process> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

/// An instance is loaded: the slot of its zone, none for the global one.
fn load(loading: &Loading) -> Option<Arc<Slot>> {
    let mut process = process();
    process.instances += 1;
    // Instances share their settings: all are of the one section of the configuration.
    if process.server.is_none() || loading.zone().is_none() {
        process.set_up(loading);
    }
    loading.zone().map(|zone| slot::of(&zone))
}

/// An instance is gone.
fn unload(slot: Option<Arc<Slot>>) {
    if let Some(slot) = slot {
        slot::release(slot);
    }
    let mut process = process();
    process.instances = process.instances.saturating_sub(1);
    if process.instances == 0 {
        // What is known stays: at a reload the last one may go before the first one comes.
        process.server = None;
        process.counting = None;
        process.logging = None;
        process.settings = None;
    }
}

impl Process {
    fn set_up(&mut self, loading: &Loading) {
        let settings = loading.settings();
        if self.settings.as_ref() == Some(&settings) {
            return;
        }
        hooks::set_up(&settings);
        if !self.has_snapshot {
            self.has_snapshot = true;
            read_snapshot(loading, settings.snapshot.as_deref());
        }
        self.server = None;
        self.counting = None;
        self.logging = None;
        if let Some(socket) = settings.socket.as_deref() {
            match counts::start(&Path::new(socket).with_extension("counts")) {
                Ok(counting) => self.counting = Some(counting),
                Err(error) => loading.log(Priority::Error, &format!("queries can't be counted: {error}")),
            }
            match queries::start() {
                Ok(logging) => self.logging = Some(logging),
                Err(error) => loading.log(Priority::Error, &format!("queries can't be logged: {error}")),
            }
        }
        match settings.socket.as_deref() {
            Some(socket) => match Server::start(Path::new(socket), &STORE) {
                Ok(server) => self.server = Some(server),
                Err(error) => loading.log(Priority::Error, &format!("can't listen at {socket}: {error}")),
            },
            None => loading.log(Priority::Error, "no socket is configured: steering stays as it is"),
        }
        self.settings = Some(settings);
    }
}

fn read_snapshot(loading: &Loading, file: Option<&str>) {
    let Some(file) = file else {
        loading.log(Priority::Warning, "no snapshot is configured: steered names wait for the agent");
        return;
    };
    let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
    let read = server::read_snapshot(Path::new(file), &mut store);
    let verdicts = verdicts_file(Path::new(file));
    match server::read_snapshot(&verdicts, &mut store) {
        Ok(()) => {
            loading.log(Priority::Info, &format!("{} monitors are down, from {file}", health::down()));
        }
        // Without it all is up, as where there are no monitors.
        Err(server::SnapshotError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => loading.log(Priority::Warning, &format!("{}: {error}", verdicts.display())),
    }
    let zones = store.zones();
    match read {
        Ok(()) => loading.log(Priority::Info, &format!("{zones} zones are steered, from {file}")),
        Err(error) => {
            let text =
                format!("{file}: {error}: {zones} zones are steered from it, others wait for the agent");
            loading.log(Priority::Warning, &text);
        }
    }
}
