//! Health: takes what PoPs see and the heartbeats that come, and puts verdicts on the log as they change.
//!
//! ```text
//!  sessions ──what PoPs see──▶ Desk ──wakes──▶ run ──verdicts, as the system──▶ engine
//!  API ───────heartbeats──────▶ │                ▲                                │
//!  sessions ◀──who probes what──┘                └────────── the log ◀────────────┘
//! ```
//!
//! What is decided is in [`herald_core::health`]; this keeps the time. Nothing here outlives the daemon: verdicts are on the log, and PoPs
//! tell what they see with their next sessions.

mod ask;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herald_core::account::Principal;
use herald_core::command::{Action, Command};
use herald_core::health::{Health, LocalMonitors, LocalUses, Said, View};
use herald_core::monitor::VerdictChange;
use herald_core::state::State;
use herald_core::{MonitorId, PopId};
use herald_wire::stream::{ProbeAnswer, ProbeNow, Seen};
use imbl::OrdMap;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::engine::Engine;
use crate::publisher::Shared;
use crate::spacing::Spacing;
use ask::Asks;

/// Longest text of a PoP on a probe or a target that is kept, in octets.
const CAUSE_BYTES_MAX: usize = 500;

/// From one test of a monitor to the next.
const TEST_INTERVAL: Duration = Duration::from_secs(5);

/// Where sessions and requests leave what they hear. It is memory alone: time is told to it, as the span since any fixed moment.
pub struct Desk {
    core: Mutex<Health>,
    local: Mutex<LocalMonitors>,
    /// Something was heard.
    heard: Notify,
    /// How often it became another who probes what, or something was asked of PoPs.
    choices: watch::Sender<u64>,
    asks: Asks,
    tests: Spacing<MonitorId>,
    changes: AtomicU64,
}

impl Default for Desk {
    fn default() -> Desk {
        Desk {
            core: Mutex::default(),
            local: Mutex::default(),
            heard: Notify::new(),
            choices: watch::Sender::new(0),
            asks: Asks::default(),
            tests: Spacing::new(TEST_INTERVAL),
            changes: AtomicU64::new(0),
        }
    }
}

impl Desk {
    /// A PoP's session is up, and it knows of monitors or not.
    pub fn pop_up(&self, pop: PopId, knows_monitors: bool) {
        self.lock().pop_up(pop, knows_monitors);
        self.heard.notify_one();
    }

    /// A PoP's session is over.
    pub fn pop_down(&self, pop: PopId, now: Duration) {
        self.lock().pop_down(ms(now), pop);
        self.heard.notify_one();
    }

    /// A PoP says what it sees.
    pub fn said(&self, pop: PopId, seen: Vec<Seen>, now: Duration) {
        let mut core = self.lock();
        for Seen { monitor, revision, up, mut cause, for_ms, took_us, certificate_ends_s } in seen {
            shorten(&mut cause);
            let since_ms = ms(now).saturating_sub(for_ms);
            core.said(pop, monitor, Said { revision, up, cause, since_ms, took_us, certificate_ends_s });
        }
        drop(core);
        self.heard.notify_one();
    }

    /// A PoP says how probes went that it was asked for.
    pub fn answered(&self, pop: PopId, answers: Vec<ProbeAnswer>) {
        for mut answer in answers {
            shorten(&mut answer.cause);
            self.asks.answer(pop, answer);
        }
    }

    /// What a PoP is to probe at once; it is told so once.
    pub fn asks(&self, pop: PopId) -> Vec<ProbeNow> {
        self.asks.take(pop)
    }

    /// Has PoPs probe a monitor at once, beside what is due, and waits for them, at most for so long; gives the answers that came.
    ///
    /// # Errors
    /// If that was done a moment ago: how long to wait for the next time.
    pub async fn test(
        &self,
        monitor: MonitorId,
        pops: impl IntoIterator<Item = PopId>,
        within: Duration,
    ) -> Result<BTreeMap<PopId, ProbeAnswer>, Duration> {
        self.tests.take(monitor)?;
        Ok(self.asks.ask(monitor, pops, within, || self.choices.send_modify(|count| *count += 1)).await)
    }

    /// A heartbeat came, as of so long ago.
    pub fn beat(&self, monitor: MonitorId, ago: Duration, now: Duration) {
        self.lock().beat(monitor, ms(now.saturating_sub(ago)));
        self.heard.notify_one();
    }

    /// What is seen of a monitor; times are spans since the same moment as all here.
    pub fn view(&self, monitor: MonitorId) -> View {
        self.lock().view(monitor)
    }

    /// Which PoPs probe what.
    pub fn choices(&self) -> OrdMap<MonitorId, Arc<[PopId]>> {
        self.lock().choices().clone()
    }

    /// What isolated PoPs probe, too.
    pub fn local(&self) -> LocalUses {
        self.lock_local().uses().clone()
    }

    /// Follows which PoPs probe what.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.choices.subscribe()
    }

    /// Takes in a state that comes after another; gives verdicts that are to be put on the log, and when to look again.
    pub fn step(
        &self,
        seen: &State,
        state: &State,
        now: Duration,
        time_ms: u64,
    ) -> (Vec<VerdictChange>, Option<Duration>) {
        let mut core = self.lock();
        let before = core.choices().clone();
        let pops = state.pops().filter(|pop| pop.enabled && !pop.drained);
        core.set_pops(ms(now), pops.map(|pop| (pop.id, pop.name.clone())));
        for diff in seen.monitors().diff(state.monitors()) {
            match diff.new {
                Some(monitor) => core.put(ms(now), monitor),
                None => core.remove(diff.id),
            }
        }
        let changes = core.poll(ms(now), time_ms);
        let next = core.next_at_ms().map(Duration::from_millis);
        let is_other = !before.ptr_eq(core.choices());
        drop(core);
        let mut local = self.lock_local();
        let before = local.uses().clone();
        local.step(seen, state);
        let is_other = is_other || !before.ptr_eq(local.uses());
        drop(local);
        if is_other {
            self.choices.send_modify(|count| *count += 1);
        }
        (changes, next)
    }

    /// Appends metrics in Prometheus' text format.
    pub fn metrics(&self, state: &State, out: &mut String) {
        let (mut up, mut down, mut unknown, mut off) = (0, 0, 0, 0);
        for monitor in state.monitors().iter(None) {
            match &monitor.verdict {
                _ if !monitor.enabled => off += 1,
                None => unknown += 1,
                Some(verdict) if verdict.up => up += 1,
                Some(_) => down += 1,
            }
        }
        out.push_str(
            "# HELP herald_monitors Monitors by what is held of them.\n# TYPE herald_monitors gauge\n",
        );
        for (name, count) in [("up", up), ("down", down), ("unknown", unknown), ("off", off)] {
            _ = writeln!(out, "herald_monitors{{state=\"{name}\"}} {count}");
        }
        let changes = self.changes.load(Ordering::Relaxed);
        out.push_str("# HELP herald_verdict_changes_total Verdicts that were put on the log.\n");
        _ = writeln!(
            out,
            "# TYPE herald_verdict_changes_total counter\nherald_verdict_changes_total {changes}"
        );
        out.push_str("# HELP herald_pop_probes Monitors that a PoP is chosen to probe.\n");
        out.push_str("# TYPE herald_pop_probes gauge\n");
        let choices = self.choices();
        for pop in state.pops() {
            let count = choices.values().filter(|chosen| chosen.contains(&pop.id)).count();
            _ = writeln!(out, "herald_pop_probes{{pop=\"{}\"}} {count}", pop.name);
        }
    }

    fn lock_local(&self) -> MutexGuard<'_, LocalMonitors> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a PoP says in words, no longer than is kept.
pub(crate) fn shorten(cause: &mut String) {
    if cause.len() > CAUSE_BYTES_MAX {
        let end = (0..=CAUSE_BYTES_MAX).rev().find(|end| cause.is_char_boundary(*end));
        cause.truncate(end.unwrap_or(0));
    }
}

/// A span in milliseconds.
pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Puts verdicts on the log until `shutdown`.
pub async fn run(engine: Engine, shared: Arc<Shared>, shutdown: CancellationToken) {
    let desk = shared.health();
    let mut revision = engine.revision();
    let mut seen = Arc::<State>::default();
    loop {
        revision.mark_unchanged();
        let state = engine.state();
        let (verdicts, next) = desk.step(&seen, &state, clock::uptime(), clock::now_ms());
        seen = state;
        if !verdicts.is_empty() {
            let count = verdicts.len() as u64;
            let context = clock::context(Principal::System, None);
            let command = Command { context, action: Action::SetVerdicts { verdicts } };
            match engine.submit(command).await {
                Ok(_) => _ = desk.changes.fetch_add(count, Ordering::Relaxed),
                // They are asked for again in a second.
                Err(e) => tracing::error!("verdicts on {count} monitors can't be put on the log yet: {e}"),
            }
            continue;
        }
        let at = next.unwrap_or(Duration::MAX);
        let wait = at.saturating_sub(clock::uptime()).min(Duration::from_secs(3600));
        tokio::select! {
            changed = revision.changed() => if changed.is_err() { return },
            () = desk.heard.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
