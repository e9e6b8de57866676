//! From what PoPs see, and heartbeats, to verdicts. Pure: time is an input, in ms since any fixed moment.
//!
//! ```text
//!  PoPs come, go ─▶ choice: who probes what ──▶ to PoPs
//!  PoPs say      ─▶ quorum ─┐
//!  heartbeats    ─▶ in time ├▶ observed ─▶ held long enough? ─▶ verdict ─▶ to the log, and back by [`Health::put`]
//!  other verdicts ▶ k of n ─┘
//! ```
//!
//! - What a PoP says counts while it is connected and chosen, and said it of the monitor as it is now. With fewer than the quorum there
//!   is no new verdict: the last one stands.
//! - "Down" follows at once. "Up" after "down" follows when it has held for the monitor's recovery time, and longer where the verdict
//!   flaps: from the third "down" within ten minutes on by 10 s, doubled with each further one, at most 5 minutes.
//! - A choice outlasts a PoP's absence of up to 30 s, and never gets smaller because PoPs are away: a minority that is left decides nothing.

mod local;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use imbl::OrdMap;

pub use crate::choice::ABSENCE_MS;
use crate::choice::Candidates;
use crate::monitor::{Check, Monitor, VerdictChange};
use crate::{MonitorId, PopId};

pub use local::{LocalMonitors, LocalUses};

/// Verdicts of "down" within so many ms count as flaps.
pub const FLAP_WINDOW_MS: u64 = 600_000;

/// From so many on they make "up" wait.
pub const FLAPS_MIN: usize = 3;

/// For so long the first time, in ms, and at most.
pub const DAMPING_MS: u64 = 10_000;
/// See [`DAMPING_MS`].
pub const DAMPING_MS_MAX: u64 = 300_000;

/// A verdict that isn't on the log after so many ms is asked for again.
const AGAIN_MS: u64 = 1_000;

/// Longest cause of a verdict, and most of it that is of one PoP, in characters.
const CAUSE_CHARS_MAX: usize = 500;
const CAUSE_OF_POP_CHARS_MAX: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub struct Health {
    watched: BTreeMap<MonitorId, Watched>,
    /// Which calculated monitors are of a monitor.
    users: BTreeMap<MonitorId, BTreeSet<MonitorId>>,
    candidates: Candidates,
    choices: OrdMap<MonitorId, Arc<[PopId]>>,
    /// What may have another verdict by now.
    dirty: BTreeSet<MonitorId>,
    /// Heartbeats of monitors that are on the log, and aren't watched yet.
    early_beats: BTreeMap<MonitorId, u64>,
    /// When what has to be looked at again.
    timers: BTreeSet<(u64, MonitorId)>,
}

/// A monitor that is watched.
#[derive(Debug)]
struct Watched {
    monitor: Monitor,
    said: BTreeMap<PopId, Said>,
    beats: Beats,
    /// Of a calculated one: what the others come to, and since when.
    level: Option<(bool, u64)>,
    /// When the verdict became "down", within the window.
    downs: VecDeque<u64>,
    /// The verdict that was last asked for, and when.
    asked: Option<(bool, u64)>,
    /// Its place among the timers.
    timer: Option<u64>,
}

/// What a PoP says of a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The revision of the monitor that it probed by.
    pub revision: u64,
    /// Whether it is up; none if it can't say.
    pub up: Option<bool>,
    /// How the last probe went, in words.
    pub cause: String,
    /// Since when it has been seen like that.
    pub since_ms: u64,
    /// How long the last good probe took, in microseconds.
    pub took_us: Option<u64>,
    /// When the certificate ends, in seconds since the epoch.
    pub certificate_ends_s: Option<u64>,
}

/// Heartbeats of a monitor.
#[derive(Clone, Copy, Debug)]
struct Beats {
    /// When the watch began: the first one is due from then on.
    begun_ms: u64,
    last_ms: Option<u64>,
    /// Since when each was in time.
    since_ms: u64,
}

/// What is seen of a monitor, for who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// PoPs that are chosen.
    pub pops: Vec<PopSight>,
    /// When a heartbeat last came.
    pub last_beat_ms: Option<u64>,
}

/// What one PoP sees of a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopSight {
    /// The PoP.
    pub pop: PopId,
    /// Whether it is connected: else what it said doesn't count.
    pub is_connected: bool,
    /// What it said, of the monitor as it is now.
    pub said: Option<Said>,
}

/// What a monitor's endpoint looks like now.
struct Observed {
    up: bool,
    /// Since when enough say so.
    since_ms: u64,
    cause: String,
}

// ------------------------------------------------------------------------------------- what is told

impl Health {
    /// These PoPs are enabled and not drained; all others don't probe.
    pub fn set_pops(&mut self, now_ms: u64, pops: impl IntoIterator<Item = (PopId, String)>) {
        self.candidates.set(now_ms, pops);
    }

    /// A PoP's session is up, and it knows of monitors or not. What it said in an earlier one counts no more.
    pub fn pop_up(&mut self, pop: PopId, knows_monitors: bool) {
        self.forget_said(pop);
        self.candidates.up(pop, knows_monitors);
    }

    /// A PoP's session is over.
    pub fn pop_down(&mut self, now_ms: u64, pop: PopId) {
        self.candidates.down(now_ms, pop);
        let said_some = self.watched.iter().filter(|(_, watched)| watched.said.contains_key(&pop));
        self.dirty.extend(said_some.map(|(id, _)| *id));
    }

    fn forget_said(&mut self, pop: PopId) {
        for (id, watched) in &mut self.watched {
            if watched.said.remove(&pop).is_some() {
                self.dirty.insert(*id);
            }
        }
    }

    /// A monitor is this, with the verdict that is on the log.
    pub fn put(&mut self, now_ms: u64, monitor: &Monitor) {
        let id = monitor.id;
        let was_off = self.watched.get(&id).is_none_or(|old| !old.monitor.enabled);
        self.set_uses(id, &monitor.check);
        let is_down = monitor.down_since_ms().is_some();
        let watched = self.watched.entry(id).or_insert_with(|| Watched::new(now_ms, monitor));
        if is_down && watched.monitor.down_since_ms().is_none() {
            watched.downs.push_back(now_ms);
        }
        if was_off {
            watched.beats = Beats::new(now_ms);
        }
        let is_other = watched.monitor.revision != monitor.revision;
        watched.monitor = monitor.clone();
        if is_other || was_off {
            // What was said of it as it was doesn't count for it as it is.
            watched.said.retain(|_, said| said.revision == monitor.revision);
            watched.asked = None;
            self.choose(now_ms, id);
        }
        self.dirty.insert(id);
        self.dirty.extend(self.users.get(&id).into_iter().flatten());
        if let Some(at_ms) = self.early_beats.remove(&id) {
            self.beat(id, at_ms);
        }
    }

    /// A monitor is gone.
    pub fn remove(&mut self, id: MonitorId) {
        self.set_uses(id, &Check::Icmp { target: String::new() });
        if let Some(Watched { timer: Some(at_ms), .. }) = self.watched.remove(&id) {
            self.timers.remove(&(at_ms, id));
        }
        self.choices.remove(&id);
        self.early_beats.remove(&id);
        self.dirty.remove(&id);
        self.dirty.extend(self.users.get(&id).into_iter().flatten());
    }

    fn set_uses(&mut self, id: MonitorId, check: &Check) {
        let of = |check: &Check| match check {
            Check::Calculated { of, .. } => of.clone(),
            _ => Vec::new(),
        };
        let before = self.watched.get(&id).map(|watched| of(&watched.monitor.check)).unwrap_or_default();
        for other in before {
            if let Some(users) = self.users.get_mut(&other) {
                users.remove(&id);
                if users.is_empty() {
                    self.users.remove(&other);
                }
            }
        }
        for other in of(check) {
            self.users.entry(other).or_default().insert(id);
        }
    }

    /// A PoP says what it sees.
    pub fn said(&mut self, pop: PopId, id: MonitorId, said: Said) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        if said.revision == watched.monitor.revision {
            watched.said.insert(pop, said);
            self.dirty.insert(id);
        }
    }

    /// A heartbeat says that the endpoint was fine at this time. Said again, it says nothing more.
    pub fn beat(&mut self, id: MonitorId, at_ms: u64) {
        let Some(watched) = self.watched.get_mut(&id) else {
            self.early_beats.insert(id, at_ms);
            return;
        };
        let due_ms = watched.beat_due_ms();
        let beats = &mut watched.beats;
        if at_ms <= beats.begun_ms && beats.last_ms.is_some()
            || beats.last_ms.is_some_and(|last_ms| at_ms <= last_ms)
        {
            return;
        }
        if beats.last_ms.is_none() || at_ms >= due_ms {
            beats.since_ms = at_ms;
        }
        beats.last_ms = Some(at_ms);
        self.dirty.insert(id);
    }
}

// ------------------------------------------------------------------------------------ what comes of it

impl Health {
    /// Verdicts that are to be others now; the time of the day is that from which they are. Each is given again until
    /// [`Health::put`] says that it is on the log.
    pub fn poll(&mut self, now_ms: u64, time_ms: u64) -> Vec<VerdictChange> {
        if self.candidates.take_changed(now_ms) {
            let ids: Vec<MonitorId> = self.watched.keys().copied().collect();
            ids.into_iter().for_each(|id| self.choose(now_ms, id));
        }
        while let Some((at_ms, id)) = self.timers.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            self.timers.remove(&(at_ms, id));
            if let Some(watched) = self.watched.get_mut(&id) {
                watched.timer = None;
            }
            self.dirty.insert(id);
        }
        let mut changes = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            let Some(observed) = self.observe(now_ms, id) else { continue };
            let Some(watched) = self.watched.get_mut(&id) else { continue };
            let step = watched.step(now_ms, &observed);
            if step.is_now {
                watched.asked = Some((observed.up, now_ms));
                changes.push(VerdictChange {
                    monitor: id,
                    up: observed.up,
                    since_ms: time_ms,
                    cause: observed.cause,
                });
            }
            if let Some(at_ms) = step.again_ms {
                self.set_timer(id, at_ms);
            }
        }
        changes
    }

    /// When to poll again, if nothing is told before.
    pub fn next_at_ms(&self) -> Option<u64> {
        let first = self.timers.first().map(|(at_ms, _)| *at_ms);
        [first, self.candidates.next_at_ms()].into_iter().flatten().min()
    }

    /// Which PoPs probe what, the best placed first. A clone costs nothing.
    pub fn choices(&self) -> &OrdMap<MonitorId, Arc<[PopId]>> {
        &self.choices
    }

    /// What is seen of a monitor.
    pub fn view(&self, id: MonitorId) -> View {
        let Some(watched) = self.watched.get(&id) else { return View::default() };
        let chosen = self.choices.get(&id).map(|chosen| &**chosen).unwrap_or_default();
        let sight = |pop: &PopId| PopSight {
            pop: *pop,
            is_connected: self.candidates.is_connected(*pop),
            said: watched.said.get(pop).cloned(),
        };
        View { pops: chosen.iter().map(sight).collect(), last_beat_ms: watched.beats.last_ms }
    }

    fn set_timer(&mut self, id: MonitorId, at_ms: u64) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        if let Some(before) = watched.timer.replace(at_ms) {
            self.timers.remove(&(before, id));
        }
        self.timers.insert((at_ms, id));
    }

    fn choose(&mut self, now_ms: u64, id: MonitorId) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let Monitor { enabled, check, pace, .. } = &watched.monitor;
        let chosen = match *enabled && check.target().is_some() {
            // Those that are away for long fill up what is left: they count among those of which a quorum is asked.
            true => {
                let ranked = self.candidates.ranked(now_ms, &id.0.to_be_bytes());
                ranked.take(pace.probers.into()).map(|(_, pop)| pop).collect()
            }
            false => Vec::new(),
        };
        let before = self.choices.get(&id).map(|chosen| &**chosen).unwrap_or_default();
        if before == chosen {
            return;
        }
        watched.said.retain(|pop, _| chosen.contains(pop));
        match chosen.is_empty() {
            true => _ = self.choices.remove(&id),
            false => _ = self.choices.insert(id, chosen.into()),
        }
        self.dirty.insert(id);
    }

    fn observe(&mut self, now_ms: u64, id: MonitorId) -> Option<Observed> {
        let watched = self.watched.get(&id).filter(|watched| watched.monitor.enabled)?;
        match &watched.monitor.check {
            Check::Heartbeat { .. } => {
                let due_ms = watched.beat_due_ms();
                if now_ms < due_ms {
                    let seen = watched.observe_beat(now_ms);
                    self.set_timer(id, due_ms);
                    return seen;
                }
                watched.observe_beat(now_ms)
            }
            Check::Calculated { of, at_least, inverted } => {
                let (up, cause) = self.calculate(of, usize::from(*at_least), *inverted)?;
                let watched = self.watched.get_mut(&id)?;
                let since_ms = watched.level.filter(|level| level.0 == up).map_or(now_ms, |level| level.1);
                watched.level = Some((up, since_ms));
                Some(Observed { up, since_ms, cause })
            }
            _ => self.quorum(id, watched),
        }
    }

    /// What enough of the chosen PoPs say.
    fn quorum(&self, id: MonitorId, watched: &Watched) -> Option<Observed> {
        let chosen = self.choices.get(&id)?;
        let needed = watched.monitor.pace.quorum.map_or(chosen.len() / 2 + 1, usize::from);
        let said: Vec<(PopId, &Said, bool)> = chosen
            .iter()
            .filter(|pop| self.candidates.is_connected(**pop))
            .filter_map(|pop| watched.said.get(pop).and_then(|said| Some((*pop, said, said.up?))))
            .collect();
        let count = |wanted: bool| said.iter().filter(|(.., up)| *up == wanted).count();
        let (ups, downs) = (count(true), count(false));
        let up = match (ups >= needed, downs >= needed) {
            (true, false) => true,
            (false, true) => false,
            // A quorum of less than half can be on both sides.
            (true, true) if ups != downs => ups > downs,
            _ => return None,
        };
        let mut since: Vec<u64> =
            said.iter().filter(|(.., one)| *one == up).map(|(_, said, _)| said.since_ms).collect();
        since.sort_unstable();
        let since_ms = since.get(needed - 1).copied().unwrap_or(0);
        let causes: Vec<String> = said
            .iter()
            .filter(|(.., one)| *one == up)
            .map(|(pop, said, _)| {
                format!("{}: {}", self.candidates.name(*pop), shortened(&said.cause, CAUSE_OF_POP_CHARS_MAX))
            })
            .collect();
        let mut cause = causes.join("; ");
        let others = if up { downs } else { ups };
        if others > 0 {
            // It may be about to say the same: what counts in a row isn't told.
            let (of, last) = (chosen.len(), if up { "down" } else { "up" });
            cause.push_str(&format!("; {others} of {of} PoPs last said \"{last}\""));
        }
        Some(Observed { up, since_ms, cause: shortened(&cause, CAUSE_CHARS_MAX) })
    }

    /// What other monitors come to; none if that depends on those that have no verdict.
    fn calculate(&self, of: &[MonitorId], at_least: usize, inverted: bool) -> Option<(bool, String)> {
        let (mut up, mut unknown, mut down) = (0, 0, Vec::new());
        for id in of {
            match self.watched.get(id).map(|watched| &watched.monitor) {
                // One that is off counts as up, as everywhere.
                Some(monitor) if !monitor.enabled => up += 1,
                Some(monitor) => match &monitor.verdict {
                    None => unknown += 1,
                    Some(verdict) if verdict.up => up += 1,
                    Some(_) => down.push(monitor.name.as_str()),
                },
                None => unknown += 1,
            }
        }
        let is_met = match (up >= at_least, up + unknown < at_least) {
            (true, _) => true,
            (_, true) => false,
            _ => return None,
        };
        let mut cause = format!("{up} of {} are up, of which {at_least} have to be", of.len());
        if inverted {
            cause.push_str(", inverted");
        }
        if !down.is_empty() {
            cause.push_str(&format!("; down: {}", down.join(", ")));
        }
        Some((is_met != inverted, shortened(&cause, CAUSE_CHARS_MAX)))
    }
}

/// What is to be done about what is observed.
#[derive(Default)]
struct NextStep {
    is_now: bool,
    again_ms: Option<u64>,
}

impl Watched {
    fn new(now_ms: u64, monitor: &Monitor) -> Watched {
        Watched {
            monitor: monitor.clone(),
            said: BTreeMap::new(),
            beats: Beats::new(now_ms),
            level: None,
            downs: VecDeque::new(),
            asked: None,
            timer: None,
        }
    }

    fn step(&mut self, now_ms: u64, observed: &Observed) -> NextStep {
        let held = self.monitor.verdict.as_ref().map(|verdict| verdict.up);
        if held == Some(observed.up) {
            self.asked = None;
            return NextStep::default();
        }
        if held == Some(false) {
            // It has to hold since it was found down.
            let since_ms = observed.since_ms.max(self.downs.back().copied().unwrap_or(0));
            let due_ms = since_ms + u64::from(self.monitor.pace.recovery_ms) + self.damping_ms(now_ms);
            if now_ms < due_ms {
                return NextStep { is_now: false, again_ms: Some(due_ms) };
            }
        }
        match self.asked {
            Some((up, at_ms)) if up == observed.up && now_ms < at_ms + AGAIN_MS => {
                NextStep { is_now: false, again_ms: Some(at_ms + AGAIN_MS) }
            }
            _ => NextStep { is_now: true, again_ms: Some(now_ms + AGAIN_MS) },
        }
    }

    /// By how much longer "up" has to hold as the verdict flaps.
    fn damping_ms(&mut self, now_ms: u64) -> u64 {
        while self.downs.front().is_some_and(|down_ms| down_ms + FLAP_WINDOW_MS <= now_ms) {
            self.downs.pop_front();
        }
        match self.downs.len().checked_sub(FLAPS_MIN) {
            None => 0,
            Some(more) => (DAMPING_MS << more.min(16)).min(DAMPING_MS_MAX),
        }
    }

    fn beat_due_ms(&self) -> u64 {
        let pace = self.monitor.pace;
        let from_ms = self.beats.last_ms.unwrap_or(self.beats.begun_ms);
        from_ms + u64::from(pace.interval_ms) + u64::from(pace.timeout_ms)
    }

    fn observe_beat(&self, now_ms: u64) -> Option<Observed> {
        let Beats { last_ms, since_ms, .. } = self.beats;
        let due_ms = self.beat_due_ms();
        if now_ms < due_ms {
            last_ms?;
            return Some(Observed { up: true, since_ms, cause: "its heartbeats come".into() });
        }
        let wait_ms = u64::from(self.monitor.pace.interval_ms) + u64::from(self.monitor.pace.timeout_ms);
        let cause = match last_ms {
            Some(_) => format!("no heartbeat came for {}", seconds(wait_ms)),
            None => format!("no heartbeat came within {} of the watch's begin", seconds(wait_ms)),
        };
        Some(Observed { up: false, since_ms: due_ms, cause })
    }
}

impl Beats {
    fn new(now_ms: u64) -> Beats {
        Beats { begun_ms: now_ms, last_ms: None, since_ms: now_ms }
    }
}

fn seconds(ms: u64) -> String {
    match ms % 1000 {
        0 => format!("{} s", ms / 1000),
        rest => format!("{}.{rest:03} s", ms / 1000),
    }
}

/// At most so many characters, without any that aren't to be printed.
fn shortened(text: &str, chars_max: usize) -> String {
    let mut shown: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars_max).collect();
    if text.chars().nth(chars_max).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
