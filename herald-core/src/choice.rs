//! Which PoPs probe a monitor or resolve a target: rendezvous hashing, so that a PoP that comes or goes changes the choice only where
//! it is itself concerned.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::PopId;

/// For so long, in ms, a PoP may be away and stays chosen.
pub const ABSENCE_MS: u64 = 30_000;

/// PoPs that may be chosen.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pops: BTreeMap<PopId, Candidate>,
    /// Sessions that are up, also of PoPs that may not be chosen.
    sessions: BTreeMap<PopId, Session>,
    is_changed: bool,
    /// When the next absence has lasted too long.
    next_at_ms: Option<u64>,
}

#[derive(Debug)]
struct Candidate {
    name: String,
    absent_since_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    is_able: bool,
    /// How many there are: a newer one may be up before the older one is down.
    count: u32,
}

impl Candidates {
    pub fn set(&mut self, now_ms: u64, pops: impl IntoIterator<Item = (PopId, String)>) {
        let mut before = std::mem::take(&mut self.pops);
        for (pop, name) in pops {
            let known = before.remove(&pop);
            self.is_changed |= known.is_none();
            let absent_since_ms = known.map_or(now_ms, |known| known.absent_since_ms);
            self.pops.insert(pop, Candidate { name, absent_since_ms });
        }
        self.is_changed |= !before.is_empty();
    }

    /// A session of a PoP is up; whether it can do what PoPs are chosen for.
    pub fn up(&mut self, pop: PopId, is_able: bool) {
        let session = self.sessions.entry(pop).or_insert(Session { is_able, count: 0 });
        session.is_able = is_able;
        session.count += 1;
        self.is_changed = true;
    }

    pub fn down(&mut self, now_ms: u64, pop: PopId) {
        let Some(session) = self.sessions.get_mut(&pop) else { return };
        session.count -= 1;
        if session.count > 0 {
            return;
        }
        self.sessions.remove(&pop);
        if let Some(candidate) = self.pops.get_mut(&pop) {
            candidate.absent_since_ms = now_ms;
        }
        self.is_changed = true;
    }

    /// Whether it is connected, and can say something.
    pub fn is_connected(&self, pop: PopId) -> bool {
        self.sessions.get(&pop).is_some_and(|session| session.is_able)
    }

    /// Whether it is connected, and can't do what PoPs are chosen for.
    pub fn is_unable(&self, pop: PopId) -> bool {
        self.sessions.get(&pop).is_some_and(|session| !session.is_able)
    }

    pub fn name(&self, pop: PopId) -> String {
        self.pops.get(&pop).map_or_else(|| pop.to_string(), |pop| pop.name.clone())
    }

    /// Whether choices may be others since this was last asked.
    pub fn take_changed(&mut self, now_ms: u64) -> bool {
        let is_over = self.next_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let is_changed = std::mem::take(&mut self.is_changed) || is_over;
        if is_changed {
            let away = self.pops.iter().filter(|(pop, _)| !self.sessions.contains_key(pop));
            let ends = away.map(|(_, candidate)| candidate.absent_since_ms + ABSENCE_MS);
            self.next_at_ms = ends.filter(|at_ms| *at_ms > now_ms).min();
        }
        is_changed
    }

    pub fn next_at_ms(&self) -> Option<u64> {
        self.next_at_ms
    }

    /// PoPs for whatever these octets stand for, the best placed first, and whether they are away for no longer than [`ABSENCE_MS`]. Those
    /// that are come before all others.
    pub fn ranked(&self, now_ms: u64, of: &[u8]) -> impl Iterator<Item = (bool, PopId)> + use<> {
        let mut ranked: Vec<(Reverse<bool>, Reverse<u128>, PopId)> = self
            .pops
            .iter()
            .filter_map(|(pop, candidate)| {
                let is_eligible = match self.sessions.get(pop) {
                    Some(session) if !session.is_able => return None,
                    Some(_) => true,
                    None => now_ms < candidate.absent_since_ms + ABSENCE_MS,
                };
                Some((Reverse(is_eligible), Reverse(score(of, *pop)), *pop))
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(Reverse(is_here), _, pop)| (is_here, pop))
    }
}

fn score(of: &[u8], pop: PopId) -> u128 {
    crate::digest128(&[of, &pop.0.to_be_bytes()].concat())
}
