//! ALIAS records: takes what PoPs find of their targets, and puts what is to be served on the log as it changes.
//!
//! ```text
//!  sessions ──what PoPs find──▶ Desk ──wakes──▶ run ──what is to be served, as the system──▶ engine
//!  sessions ◀──who resolves what──┘              ▲                                             │
//!                                                └────────────────── the log ◀─────────────────┘
//! ```
//!
//! What is decided is in [`herald_core::alias::watch`]; this keeps the time. What is served is on the log, and so outlives the daemon; what
//! PoPs find they tell again with their next sessions.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herald_core::account::Principal;
use herald_core::alias::watch::{Found, Resolved, Sight, View, Watch};
use herald_core::command::{Action, Command};
use herald_core::state::State;
use herald_core::{Name, PopId};
use herald_wire::stream::TargetSeen;
use imbl::OrdMap;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::engine::Engine;
use crate::health::{ms, shorten};
use crate::publisher::Shared;

/// What changes goes on the log together, no more often than this: so much, and no more, can the answers of others make it grow.
const ENTRY_INTERVAL: Duration = Duration::from_secs(1);

/// Where sessions leave what they hear. It is memory alone: time is told to it, as the span since any fixed moment.
pub struct Desk {
    core: Mutex<Watch>,
    /// Something was heard.
    heard: Notify,
    /// How often it became another who resolves what.
    choices: watch::Sender<u64>,
    changes: AtomicU64,
}

impl Default for Desk {
    fn default() -> Desk {
        Desk {
            core: Mutex::default(),
            heard: Notify::new(),
            choices: watch::Sender::new(0),
            changes: AtomicU64::new(0),
        }
    }
}

impl Desk {
    /// A PoP's session is up, and it has a resolver or not.
    pub fn pop_up(&self, pop: PopId, resolves: bool) {
        self.lock().pop_up(pop, resolves);
        self.heard.notify_one();
    }

    /// A PoP's session is over.
    pub fn pop_down(&self, pop: PopId, now: Duration) {
        self.lock().pop_down(ms(now), pop);
        self.heard.notify_one();
    }

    /// A PoP says what it finds, in its session of this number.
    pub fn said(&self, pop: PopId, session: u64, targets: Vec<TargetSeen>, now: Duration) {
        let short = |mut found: Found| {
            if let Found::Nothing { cause } | Found::Failed { cause } = &mut found {
                shorten(cause);
            }
            found
        };
        let mut core = self.lock();
        for TargetSeen { target, a, aaaa, for_ms } in targets {
            let sight = Sight { a: short(a), aaaa: short(aaaa), since_ms: ms(now).saturating_sub(for_ms) };
            core.said(pop, session, &target, sight);
        }
        drop(core);
        self.heard.notify_one();
    }

    /// What is known of a target; times are spans since the same moment as all here.
    pub fn view(&self, target: &Name) -> View {
        self.lock().view(target)
    }

    /// Which PoPs resolve what.
    pub fn choices(&self) -> OrdMap<Name, Arc<[PopId]>> {
        self.lock().choices().clone()
    }

    /// Follows which PoPs resolve what.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.choices.subscribe()
    }

    /// Takes in a state that comes after another; gives what is to be put on the log, and when to look again.
    pub fn step(&self, seen: &State, state: &State, now: Duration) -> (Vec<Resolved>, Option<Duration>) {
        let mut core = self.lock();
        let before = core.choices().clone();
        let pops = state.pops().filter(|pop| pop.enabled && !pop.drained);
        core.set_pops(ms(now), pops.map(|pop| (pop.id, pop.name.clone())));
        core.follow(seen, state);
        core.choose(ms(now));
        let due = core.due(state);
        let next = core.next_at_ms().map(Duration::from_millis);
        let is_other = !before.ptr_eq(core.choices());
        drop(core);
        if is_other {
            self.choices.send_modify(|count| *count += 1);
        }
        (due, next)
    }

    /// Appends metrics in Prometheus' text format.
    pub fn metrics(&self, state: &State, out: &mut String) {
        let (targets, without) = self.lock().counts();
        let mut figure = |name: &str, kind: &str, help: &str, value: u64| {
            _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        let help = "ALIAS records of zones that are served.";
        figure("herald_aliases", "gauge", help, state.aliases().len() as u64);
        figure("herald_alias_targets", "gauge", "Names that these lead to.", targets as u64);
        let help = "Names that they lead to of which no PoP has an answer.";
        figure("herald_alias_targets_unresolved", "gauge", help, without as u64);
        let help = "Zones whose ALIAS records came to resolve to something else.";
        figure("herald_alias_changes_total", "counter", help, self.changes.load(Ordering::Relaxed));
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts what is to be served on the log until `shutdown`.
pub async fn run(engine: Engine, shared: Arc<Shared>, shutdown: CancellationToken) {
    let desk = shared.aliases();
    let mut revision = engine.revision();
    let mut seen = Arc::<State>::default();
    let mut entry_at = Duration::ZERO;
    loop {
        revision.mark_unchanged();
        let state = engine.state();
        let now = clock::uptime();
        let (due, mut next) = desk.step(&seen, &state, now);
        seen = state;
        if !due.is_empty() && now >= entry_at {
            let count = due.len() as u64;
            let context = clock::context(Principal::System, None);
            let command = Command { context, action: Action::SetResolved { zones: due } };
            match engine.submit(command).await {
                Ok(_) => _ = desk.changes.fetch_add(count, Ordering::Relaxed),
                Err(e) => tracing::error!("what ALIAS records resolve to can't be put on the log yet: {e}"),
            }
            entry_at = clock::uptime() + ENTRY_INTERVAL;
            continue;
        }
        if !due.is_empty() {
            next = Some(next.map_or(entry_at, |next| next.min(entry_at)));
        }
        let wait = next.map_or(Duration::MAX, |at| at.saturating_sub(clock::uptime()));
        tokio::select! {
            changed = revision.changed() => if changed.is_err() { return },
            () = desk.heard.notified() => {}
            () = tokio::time::sleep(wait.min(Duration::from_secs(3600))) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
