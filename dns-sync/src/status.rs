//! How the agent is, for people and programs: kept on a board, told over a Unix socket.
//!
//! Whoever connects to the socket gets one JSON document and the end of the stream. A socket that nobody listens
//! on says as much: the agent doesn't run.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herald_core::Generation;
use herald_core::firewall::{FirewallCount, Owner};
use serde::{Deserialize, Serialize};

use crate::agent::core::Figures;

/// Version of the document.
pub const STATUS_VERSION: u32 = 1;

/// How many errors are kept.
const ERRORS_KEPT: usize = 10;

/// How many refused zones are shown.
const REFUSED_SHOWN: usize = 20;

/// How long the other side of the socket may take.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);

/// How the agent is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_VERSION`].
    pub version: u32,
    /// Name of the PoP.
    pub pop: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs, in ms since the epoch.
    pub started_at_ms: u64,
    /// The session with the control plane.
    pub session: SessionStatus,
    /// The control plane's newest generation, `epoch.counter`, as far as it is known.
    pub herald_head: Option<String>,
    /// The newest generation that the replica has taken, `epoch.counter`.
    pub newest: String,
    /// Whether the control plane says that all is confirmed.
    pub in_sync: bool,
    /// Zones in the replica.
    pub zones: u64,
    /// Zones whose newest generation knotd isn't yet known to answer.
    pub zones_lagging: u64,
    /// Changes that were taken since the agent started: deltas, whole zones and removals.
    pub changes_taken: u64,
    /// Transactions that made them durable.
    pub replica_commits: u64,
    /// What is wrong with the replica at the moment: a full disk, say. Answers go on, changes wait.
    pub replica_error: Option<String>,
    /// Whether the replica holds what it must.
    #[serde(default)]
    pub drift: DriftStatus,
    /// knotd.
    pub knot: KnotStatus,
    /// The module in knotd; none where there is none, so that zones with steering are refused.
    #[serde(default)]
    pub module: Option<ModuleStatus>,
    /// Counts of queries.
    #[serde(default)]
    pub counts: CountsStatus,
    /// Which endpoints are held to be up.
    #[serde(default)]
    pub health: Option<HealthStatus>,
    /// Targets of ALIAS records; none if there is no resolver for them.
    pub aliases: Option<AliasStatus>,
    /// Queries that are logged; none where there is no module.
    #[serde(default)]
    pub query_log: Option<QueryLogStatus>,
    /// Zones that knotd doesn't take, with the reasons; it answers their last good states. At most 20 are shown.
    pub refused: BTreeMap<String, String>,
    /// What went wrong lately, the newest last.
    pub errors: VecDeque<ErrorStatus>,
}

/// The session with the control plane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Whether it is up.
    pub connected: bool,
    /// Since when it is up or down, in ms since the epoch.
    pub since_ms: u64,
    /// The address that was dialled last.
    pub herald: String,
    /// Why it is down.
    pub reason: Option<String>,
}

/// Whether the replica holds what the control plane says it must, and what re-reading it found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DriftStatus {
    /// When it was last compared, in ms since the epoch.
    pub compared_at_ms: Option<u64>,
    /// Whether it holds something else; what differs is asked for.
    pub is_drifted: bool,
    /// How often it was found to, since the agent started.
    pub found: u64,
    /// How often that was mended.
    pub mended: u64,
    /// Zones that were re-read since the agent started.
    pub zones_scrubbed: u64,
    /// How often all zones were.
    pub scrub_rounds: u64,
    /// Zones that were damaged, and were asked for anew.
    pub zones_damaged: u64,
}

/// knotd.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KnotStatus {
    /// Whether it answers.
    pub running: bool,
    /// Its version, empty while unknown.
    pub version: String,
    /// Since when it answers, or doesn't, in ms since the epoch.
    pub since_ms: u64,
    /// How often it had to be started again.
    pub restarts: u64,
    /// Why it was down last.
    pub reason: Option<String>,
    /// Rounds in which it was asked for all zones, to find what was changed there by others.
    #[serde(default)]
    pub sweeps: u64,
    /// When the last one ended, in ms since the epoch.
    #[serde(default)]
    pub swept_at_ms: u64,
    /// Zones that were found to be served otherwise than they should be, or though they should not. They are put right.
    #[serde(default)]
    pub drifted: u64,
}

/// The module in knotd, which decides what steered names are answered with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// Whether it can be told of changes. If not, it answers by what it has, and changes of steering wait.
    pub connected: bool,
    /// Since when it can, or can't, in ms since the epoch.
    pub since_ms: u64,
    /// Its version, empty while unknown.
    pub version: String,
    /// Why it can't be told.
    pub reason: Option<String>,
    /// Zones with steering that it has.
    pub zones: u64,
    /// Panics that were caught since knotd was started.
    pub panics: u64,
    /// Answers to steered names that could not be decided: SERVFAIL.
    pub undecided: u64,
    /// Bytes that its zones take, about.
    pub bytes: u64,
    /// SHA-256 of the table of places that it has, in hexadecimal; empty if it has none.
    pub geo: String,
    /// How often rules of the firewall and policy zones were for queries since knotd started, those that never were left out.
    #[serde(default)]
    pub firewall: Vec<FirewallCountStatus>,
}

/// How often something of the firewall was for a query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FirewallCountStatus {
    /// `fleet`, a tenant's id, or `policy_zone`.
    pub owner: String,
    /// The name of the rule or the policy zone.
    pub name: String,
    /// What a policy zone did.
    pub action: String,
    /// How often.
    pub queries: u64,
    #[serde(skip)]
    counted: Option<FirewallCount>,
}

impl From<&FirewallCount> for FirewallCountStatus {
    fn from(count: &FirewallCount) -> FirewallCountStatus {
        FirewallCountStatus {
            owner: match count.owner {
                None => "policy_zone".into(),
                Some(Owner::Fleet) => "fleet".into(),
                Some(Owner::Tenant(tenant)) => tenant.to_string(),
            },
            name: count.name.clone(),
            action: count.action.clone(),
            queries: count.queries,
            counted: Some(count.clone()),
        }
    }
}

/// Counts of queries, on their way from the module to the control plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CountsStatus {
    /// Queries that were taken in since the agent started.
    pub taken: u64,
    /// Counts of a zone and a minute that the control plane hasn't confirmed yet.
    pub unconfirmed: u64,
    /// Why they wait, if they do.
    pub reason: Option<String>,
    /// Why none can be taken in, if that is so.
    pub error: Option<String>,
}

/// Which endpoints are held to be up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// Monitors that are down by the control plane's verdicts.
    pub down: u64,
    /// As of when these are, `epoch.counter`.
    pub as_of: String,
    /// Monitors that this PoP was chosen to probe.
    pub probes: u64,
    /// Whether nothing was heard from the control plane for 5 s: policies that want it so go by this PoP's own probes, one vantage
    /// point.
    pub is_isolated: bool,
}

/// Targets of ALIAS records that this PoP resolves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasStatus {
    /// Who is asked, in turn.
    pub resolvers: Vec<String>,
    /// How many it was chosen for.
    pub targets: u64,
    /// Of how many of these it has no answer for IPv4 or for IPv6 addresses.
    pub unresolved: u64,
}

/// Queries that are logged, on their way from the module to the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryLogStatus {
    /// Zones whose queries the module logs; none while it can't be told.
    pub zones: u64,
    /// Queries that wait to be sent.
    pub waiting: u64,
    /// Queries that were sent since the agent started.
    pub sent: u64,
    /// Queries that were left out since then, as there were too many.
    pub left_out: u64,
    /// Why they wait, if they do.
    pub reason: Option<String>,
}

/// Something that went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorStatus {
    /// When, in ms since the epoch.
    pub at_ms: u64,
    /// What.
    pub message: String,
}

/// The status as the agent's threads keep it.
pub struct Board {
    inner: Mutex<Inner>,
}

struct Inner {
    status: Status,
    newest: Generation,
}

impl Board {
    /// How often rules of the firewall and policy zones were for queries.
    pub fn firewall_counts(&self) -> Vec<FirewallCount> {
        let module = self.status().module;
        module.into_iter().flat_map(|module| module.firewall).filter_map(|count| count.counted).collect()
    }

    /// The board of an agent that starts now.
    pub fn new(pop: &str) -> Board {
        let now_ms = now_ms();
        let status = Status {
            version: STATUS_VERSION,
            pop: pop.into(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at_ms: now_ms,
            session: SessionStatus {
                since_ms: now_ms,
                reason: Some("it has yet to be tried".into()),
                ..SessionStatus::default()
            },
            herald_head: None,
            newest: String::new(),
            in_sync: false,
            zones: 0,
            zones_lagging: 0,
            changes_taken: 0,
            replica_commits: 0,
            replica_error: None,
            drift: DriftStatus::default(),
            knot: KnotStatus { since_ms: now_ms, ..KnotStatus::default() },
            module: None,
            counts: CountsStatus::default(),
            health: None,
            aliases: None,
            query_log: None,
            refused: BTreeMap::new(),
            errors: VecDeque::new(),
        };
        Board { inner: Mutex::new(Inner { status, newest: Generation::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it is held leaves figures that are off.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the status.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock().status);
    }

    /// Takes over the core's figures.
    pub fn show(&self, figures: &Figures) {
        let mut inner = self.lock();
        inner.newest = figures.newest;
        let status = &mut inner.status;
        status.zones = figures.zones;
        status.zones_lagging = figures.zones_lagging;
        status.herald_head = figures.herald_head.map(|head| head.to_string());
        status.in_sync = figures.in_sync;
        status.changes_taken = figures.changes_taken;
        status.replica_commits = figures.replica_commits;
        status.replica_error.clone_from(&figures.replica_error);
        let started_at_ms = status.started_at_ms;
        let at_ms = |at: Duration| started_at_ms + u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        status.drift = DriftStatus {
            compared_at_ms: figures.compared_at.map(at_ms),
            is_drifted: figures.is_drifted,
            found: figures.drifts_found,
            mended: figures.drifts_mended,
            zones_scrubbed: figures.zones_scrubbed,
            scrub_rounds: figures.scrub_rounds,
            zones_damaged: figures.zones_damaged,
        };
    }

    /// Notes a round in which knotd was asked for all zones.
    pub fn swept(&self, zones: u64, drifted: u64) {
        self.update(|status| {
            status.knot.sweeps += 1;
            status.knot.swept_at_ms = now_ms();
            status.knot.drifted += drifted;
        });
        if drifted > 0 {
            self.error(format!(
                "knotd did not serve {drifted} of {zones} zones as it should: they are put right"
            ));
        }
    }

    /// Notes what there is to say of counts.
    pub fn counts(&self, change: impl FnOnce(&mut CountsStatus)) {
        change(&mut self.lock().status.counts);
    }

    /// Notes what there is to say of the module; the first word of it says that knotd has one.
    pub fn module(&self, change: impl FnOnce(&mut ModuleStatus)) {
        change(self.lock().status.module.get_or_insert_default());
    }

    /// Notes an error.
    pub fn error(&self, message: String) {
        let mut inner = self.lock();
        let errors = &mut inner.status.errors;
        // The same thing again and again must not push everything else out.
        errors.retain(|error| error.message != message);
        if errors.len() == ERRORS_KEPT {
            errors.pop_front();
        }
        errors.push_back(ErrorStatus { at_ms: now_ms(), message });
    }

    /// Notes that a zone is refused, or isn't any more.
    pub fn refused(&self, zone: &str, reason: Option<String>) {
        let refused = &mut self.lock().status.refused;
        match reason {
            None => {
                refused.remove(zone);
            }
            Some(reason) => {
                if refused.len() < REFUSED_SHOWN || refused.contains_key(zone) {
                    refused.insert(zone.into(), reason);
                }
            }
        }
    }

    /// The newest generation that the replica has taken.
    pub fn newest(&self) -> Generation {
        self.lock().newest
    }

    /// The status now.
    pub fn status(&self) -> Status {
        let inner = self.lock();
        Status { newest: inner.newest.to_string(), ..inner.status.clone() }
    }
}

impl Status {
    /// Whether all is as it should be: it is connected, the replica can be written, knotd answers, and nothing is refused.
    pub fn is_ok(&self) -> bool {
        self.session.connected
            && self.replica_error.is_none()
            && !self.drift.is_drifted
            && self.knot.running
            && self.module.as_ref().is_none_or(|module| module.connected)
            && self.refused.is_empty()
    }

    /// The status for people.
    pub fn render(&self) -> String {
        let now_ms = now_ms();
        let ago = |ms: u64| format!("{} ago", duration_text(now_ms.saturating_sub(ms)));
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "{name:<14}{text}");
        };
        line(
            "PoP",
            format!(
                "{} (agent {}, process {}, started {})",
                self.pop,
                self.agent_version,
                self.pid,
                ago(self.started_at_ms)
            ),
        );
        let session = &self.session;
        line(
            "control plane",
            match session.connected {
                true => format!("connected to {} since {}", session.herald, ago(session.since_ms)),
                false => format!(
                    "NOT connected since {}: {}",
                    ago(session.since_ms),
                    session.reason.as_deref().unwrap_or("unknown")
                ),
            },
        );
        let head = self.herald_head.as_deref().unwrap_or("unknown");
        line("generation", format!("{} (control plane: {head})", self.newest));
        let sync = if self.in_sync { "in sync" } else { "not in sync" };
        line("zones", format!("{}, {} lagging, {sync}", self.zones, self.zones_lagging));
        if let Some(error) = &self.replica_error {
            line("replica", format!("CAN'T BE WRITTEN: {error}"));
        }
        let drift = &self.drift;
        let compared = match drift.compared_at_ms {
            Some(at_ms) if drift.is_drifted => format!("NOT what it must hold (compared {})", ago(at_ms)),
            Some(at_ms) => format!("as it must be (compared {})", ago(at_ms)),
            None => "not yet compared".into(),
        };
        line("content", format!("{compared}; drift found {}, mended {}", drift.found, drift.mended));
        line(
            "scrub",
            format!(
                "{} zones re-read in {} rounds, {} damaged",
                drift.zones_scrubbed, drift.scrub_rounds, drift.zones_damaged
            ),
        );
        let knot = &self.knot;
        line(
            "knotd",
            match knot.running {
                true => format!(
                    "{} answers since {}, restarted {} times",
                    knot.version,
                    ago(knot.since_ms),
                    knot.restarts
                ),
                false => {
                    format!(
                        "DOWN since {}: {}",
                        ago(knot.since_ms),
                        knot.reason.as_deref().unwrap_or("not started")
                    )
                }
            },
        );
        line(
            "module",
            match &self.module {
                None => "none: zones with steering are refused".into(),
                Some(module) if module.connected => format!(
                    "{} has {} zones in {} bytes, {} answers undecided, {} panics",
                    module.version, module.zones, module.bytes, module.undecided, module.panics
                ),
                Some(module) => format!(
                    "CAN'T BE TOLD since {}: {}",
                    ago(module.since_ms),
                    module.reason.as_deref().unwrap_or("it has not been reached yet")
                ),
            },
        );
        if let Some(health) = self.health.as_ref().filter(|health| **health != HealthStatus::default()) {
            let isolated = if health.is_isolated {
                "; ISOLATED: its own probes count where policies want it"
            } else {
                ""
            };
            line(
                "health",
                format!("{} monitors are down, {} are probed here{isolated}", health.down, health.probes),
            );
        }
        if let Some(aliases) = self.aliases.as_ref().filter(|aliases| aliases.targets > 0) {
            let AliasStatus { resolvers, targets, unresolved } = aliases;
            let by = resolvers.join(", ");
            line(
                "aliases",
                format!(
                    "{targets} targets are resolved here by {by}, {unresolved} of them without an answer"
                ),
            );
        }
        if let Some(log) = self.query_log.as_ref().filter(|log| log.zones + log.waiting > 0) {
            let QueryLogStatus { zones, waiting, left_out, reason, .. } = log;
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            line(
                "query log",
                format!("queries of {zones} zones are logged, {left_out} were left out, {waiting} wait{why}"),
            );
        }
        for (zone, reason) in &self.refused {
            line("refused", format!("{zone}: {reason}"));
        }
        for error in &self.errors {
            line("error", format!("{}: {}", ago(error.at_ms), error.message));
        }
        out
    }
}

/// Answers at the socket, in a thread that lives as long as the process.
///
/// # Errors
/// If the socket can't be made.
pub fn serve(path: &Path, board: std::sync::Arc<Board>) -> io::Result<()> {
    // The caller has the lock of the directory: what is there is left over.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    thread::Builder::new().name("status".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // Somebody who doesn't read is not waited for long.
            let _ = stream.set_write_timeout(Some(SOCKET_TIMEOUT));
            let mut text = serde_json::to_vec(&board.status()).expect("a status is valid JSON");
            text.push(b'\n');
            let _ = (&stream).write_all(&text);
        }
    })?;
    Ok(())
}

/// Asks a running agent for its status, as JSON.
///
/// # Errors
/// If nobody answers: the agent doesn't run, or hangs.
pub fn ask(path: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The time in ms since the epoch.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn duration_text(ms: u64) -> String {
    humantime::format_duration(Duration::from_secs(ms / 1000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn whoever_asks_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.sock");
        assert!(ask(&path).is_err());
        let board = Arc::new(Board::new("fra1"));
        serve(&path, board.clone()).unwrap();
        board.show(&Figures {
            newest: Generation { epoch: 2, counter: 7 },
            zones: 3,
            zones_lagging: 1,
            is_drifted: true,
            compared_at: Some(Duration::from_secs(1)),
            ..Figures::default()
        });
        board.refused("example.com.", Some("bad".into()));
        assert!(board.status().render().contains("zones with steering are refused"));
        board.module(|module| module.reason = Some("gone".into()));
        let status: Status = serde_json::from_str(&ask(&path).unwrap()).unwrap();
        assert_eq!((status.version, status.newest.as_str(), status.zones), (STATUS_VERSION, "2.7", 3));
        assert!(!status.is_ok());
        let text = status.render();
        for part in [
            "fra1",
            "2.7",
            "3, 1 lagging",
            "NOT connected",
            "NOT what it must hold",
            "example.com.: bad",
            "BE TOLD",
        ] {
            assert!(text.contains(part), "{text}");
        }
        board.update(|status| {
            status.session.connected = true;
            status.knot.running = true;
            status.drift.is_drifted = false;
        });
        board.refused("example.com.", None);
        assert!(!board.status().is_ok(), "the module can't be told");
        board.module(|module| module.connected = true);
        assert!(board.status().is_ok());
    }

    #[test]
    fn an_error_that_repeats_is_shown_once() {
        let board = Board::new("fra1");
        for number in 0..20 {
            board.error(format!("error {}", number % 2));
            board.error(format!("other {number}"));
        }
        let errors = board.status().errors;
        assert_eq!(errors.len(), ERRORS_KEPT);
        assert_eq!(errors.iter().filter(|error| error.message == "error 1").count(), 1);
    }
}
