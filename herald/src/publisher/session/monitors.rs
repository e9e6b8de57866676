//! What a PoP is told of monitors: verdicts, and what it is to probe. As with zones there is no queue of changes, but a difference
//! between the state that was last told and the newest one.

use std::collections::BTreeSet;
use std::sync::Arc;

use herald_core::health::LocalUses;
use herald_core::monitor::Monitor;
use herald_core::special::AddressRules;
use herald_core::state::{Shared, State};
use herald_core::{Generation, MonitorId, PopId};
use herald_wire::stream::{MonitorVerdict, Probe, ProbeNow, Probes, ToPop};
use imbl::OrdMap;
use imbl::ordmap::DiffItem::{Add, Remove, Update};

/// How many verdicts a frame has: some ten octets each.
const VERDICTS_MAX: usize = 20_000;

/// How many monitors a frame has: some hundred octets each, and at most some thousand.
const PROBES_MAX: usize = 100;

/// Who probes what.
#[derive(Clone)]
pub(crate) struct Choices {
    /// Which PoPs were chosen.
    pub chosen: OrdMap<MonitorId, Arc<[PopId]>>,
    /// What isolated ones probe, too.
    pub local: LocalUses,
}

impl Choices {
    fn is_same(&self, other: &Choices) -> bool {
        self.chosen.ptr_eq(&other.chosen) && self.local.ptr_eq(&other.local)
    }
}

/// See the module.
pub(super) struct MonitorFeed {
    /// As of when the PoP had verdicts when it came.
    had: Generation,
    /// The state whose verdicts it was told, but for those that wait.
    judged: Option<Arc<State>>,
    /// Verdicts on these are still to be told.
    verdicts: BTreeSet<MonitorId>,
    /// The state and the choices by which it was told what to probe, but for what waits.
    told: Option<(Arc<State>, Choices)>,
    /// These are still to be told.
    probes: BTreeSet<MonitorId>,
    rules: Arc<AddressRules>,
}

impl MonitorFeed {
    pub fn new(had: Generation) -> MonitorFeed {
        let (verdicts, probes) = (BTreeSet::new(), BTreeSet::new());
        MonitorFeed { had, judged: None, verdicts, told: None, probes, rules: Arc::default() }
    }

    /// Some verdicts that the PoP is to be told now.
    pub fn verdicts(&mut self, newest: Arc<State>) -> Option<ToPop> {
        let is_first = self.judged.is_none();
        match &self.judged {
            Some(judged) if Arc::ptr_eq(judged, &newest) => {}
            Some(judged) => {
                let others = judged.monitors().diff(newest.monitors());
                let others = others.filter(|diff| down_since_ms(diff.old) != down_since_ms(diff.new));
                self.verdicts.extend(others.map(|diff| diff.id));
                self.judged = Some(newest);
            }
            None => {
                let had = self.had;
                if had < newest.head() {
                    let down =
                        newest.monitors().iter(None).filter(|monitor| monitor.down_since_ms().is_some());
                    self.verdicts.extend(down.map(|monitor| monitor.id));
                }
                let is_behind = had < newest.head();
                self.judged = Some(newest);
                if !is_behind {
                    return None;
                }
            }
        }
        if self.verdicts.is_empty() && !is_first {
            return None;
        }
        let state = self.judged.as_ref()?;
        let verdict = |monitor: MonitorId| MonitorVerdict {
            monitor,
            down_since_s: down_since_ms(state.monitors().get(monitor)).map(seconds),
        };
        let some = take_some(&mut self.verdicts, VERDICTS_MAX);
        let verdicts = some.into_iter().map(verdict).collect();
        Some(ToPop::Verdicts { as_of: state.head(), is_all: is_first, verdicts })
    }

    /// Some of what the PoP is to be told of what it is to probe.
    pub fn probes(&mut self, pop: PopId, newest: Arc<State>, choices: Choices) -> Option<ToPop> {
        let is_first = self.told.is_none();
        match &self.told {
            Some((told, chosen)) if Arc::ptr_eq(told, &newest) && chosen.is_same(&choices) => {}
            Some((told, before)) => {
                let others = told.monitors().diff(newest.monitors());
                let others = others.filter(|diff| !is_same_probe(diff.old, diff.new));
                self.probes.extend(others.map(|diff| diff.id));
                let is_chosen =
                    |chosen: Option<&Arc<[PopId]>>| chosen.is_some_and(|chosen| chosen.contains(&pop));
                for item in before.chosen.diff(&choices.chosen) {
                    let (id, old, new) = match item {
                        Add(id, new) => (id, None, Some(new)),
                        Remove(id, old) => (id, Some(old), None),
                        Update { old: (id, old), new: (_, new) } => (id, Some(old), Some(new)),
                    };
                    let is_told = newest.monitors().get(*id).is_some_and(|monitor| is_probed(monitor));
                    if is_told && is_chosen(old) != is_chosen(new) {
                        self.probes.insert(*id);
                    }
                }
                for item in before.local.diff(&choices.local) {
                    // How many zones there are is no matter to PoPs.
                    if let Add(id, _) | Remove(id, _) = item
                        && newest.monitors().get(*id).is_some_and(|monitor| is_probed(monitor))
                    {
                        self.probes.insert(*id);
                    }
                }
            }
            None => self.probes.extend(
                newest.monitors().iter(None).filter(|monitor| is_probed(monitor)).map(|monitor| monitor.id),
            ),
        }
        let is_ruled_otherwise = *newest.monitors().addresses() != self.rules;
        if is_ruled_otherwise {
            self.rules = newest.monitors().addresses().clone();
        }
        self.told = Some((newest, choices));
        if self.probes.is_empty() && !is_first && !is_ruled_otherwise {
            return None;
        }
        let (state, choices) = self.told.as_ref()?;
        let mut probes = Probes { is_all: is_first, ..self.ruled() };
        for id in take_some(&mut self.probes, PROBES_MAX) {
            match state.monitors().get(id).filter(|monitor| is_probed(monitor)) {
                None => probes.deletes.push(id),
                Some(monitor) => {
                    let is_chosen = choices.chosen.get(&id).is_some_and(|chosen| chosen.contains(&pop));
                    probes.puts.push(Probe {
                        monitor: id,
                        revision: monitor.revision,
                        check: monitor.check.clone(),
                        pace: monitor.pace,
                        is_chosen,
                        // Who was chosen probes anyway, and isn't to begin anew for that.
                        is_local: (!is_chosen).then(|| choices.local.contains_key(&id)),
                    });
                }
            }
        }
        Some(ToPop::Probes(probes))
    }

    /// What the PoP is to probe at once, if it was told of all monitors.
    pub fn now(&self, asks: Vec<ProbeNow>) -> Option<ToPop> {
        if asks.is_empty() {
            return None;
        }
        Some(ToPop::Probes(Probes { now: Some(asks), ..self.ruled() }))
    }

    /// Nothing to probe, and what may be.
    fn ruled(&self) -> Probes {
        let AddressRules { allowed, refused, own } = (*self.rules).clone();
        Probes { allowed, refused, own: Some(own), ..Probes::default() }
    }
}

/// Whether PoPs are told of it.
fn is_probed(monitor: &Monitor) -> bool {
    monitor.enabled && monitor.check.target().is_some()
}

/// Whether PoPs are told the same of it.
fn is_same_probe(old: Option<&Shared<Monitor>>, new: Option<&Shared<Monitor>>) -> bool {
    let told = |monitor: &Shared<Monitor>| is_probed(monitor).then_some(monitor.revision);
    old.and_then(told) == new.and_then(told)
}

fn down_since_ms(monitor: Option<&Shared<Monitor>>) -> Option<u64> {
    monitor.and_then(|monitor| monitor.down_since_ms())
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

fn take_some(ids: &mut BTreeSet<MonitorId>, count: usize) -> Vec<MonitorId> {
    std::iter::from_fn(|| ids.pop_first()).take(count).collect()
}
