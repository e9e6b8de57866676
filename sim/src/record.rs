//! What was ever published and acknowledged: the truth that everything is held against.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use herald_core::change::Change;
use herald_core::state::State;
use herald_core::{Generation, Name, ZoneId};

/// How many changes are kept to be asked after.
const CHANGES_KEPT: usize = 64;

/// See the module.
#[derive(Default)]
pub struct Record {
    /// The newest durable state.
    pub newest: Arc<State>,
    /// The newest state that somebody was told of.
    pub acknowledged: Arc<State>,
    /// Whether entries may be on the log of which nobody was told.
    pub is_more_possible: bool,
    /// Digest and name of each zone at each generation.
    published: HashMap<(ZoneId, Generation), (Name, u128)>,
    /// Who had a content, the SOA aside, under a name.
    bodies: HashMap<(Name, u128), BTreeSet<(ZoneId, Generation)>>,
    /// When zones ceased to be served.
    ceased: HashMap<ZoneId, Vec<u64>>,
    /// Recent changes, and the zones whose publication they changed.
    pub changes: BTreeMap<u64, Vec<ZoneId>>,
}

impl Record {
    /// A state is durable.
    pub fn note(&mut self, state: &Arc<State>) {
        let (revision, touched) = (state.revision(), self.follow(state));
        self.changes.insert(revision, touched);
        if self.changes.len() > CHANGES_KEPT {
            self.changes.pop_first();
        }
    }

    /// A state was recovered, with all that is on the log and that nobody was told of: which of these changes touched
    /// which zones is not known.
    pub fn note_recovered(&mut self, state: &Arc<State>) {
        self.follow(state);
    }

    /// Gives the zones whose publication changed.
    fn follow(&mut self, state: &Arc<State>) -> Vec<ZoneId> {
        let before = std::mem::replace(&mut self.newest, Arc::clone(state));
        let revision = state.revision();
        let mut touched = Vec::new();
        for diff in before.published_diff(state) {
            if let Some(zone) = diff.new {
                self.published
                    .insert((zone.id, zone.generation), (zone.name.clone(), zone.published_digest()));
                self.bodies
                    .entry((zone.name.clone(), zone.published().digest()))
                    .or_default()
                    .insert((zone.id, zone.generation));
                touched.push(zone.id);
            } else if let Some(zone) = diff.old {
                self.ceased.entry(zone.id).or_default().push(revision);
                touched.push(zone.id);
            }
        }
        touched
    }

    /// Somebody was told that this is durable.
    pub fn acknowledge(&mut self, state: &Arc<State>) {
        if state.revision() > self.acknowledged.revision() {
            self.acknowledged = Arc::clone(state);
        }
    }

    /// A state was recovered from the log: all that was acknowledged has to be in it.
    ///
    /// # Errors
    /// What isn't.
    pub fn check_recovered(&mut self, state: &State) -> Result<(), String> {
        let told = &self.acknowledged;
        if state.revision() < told.revision() {
            return Err(format!(
                "revision {} was acknowledged, and {} recovered",
                told.revision(),
                state.revision()
            ));
        }
        if !self.is_more_possible && held(told) != held(state) {
            return Err(format!(
                "the recovered state at {} is not that of {}",
                state.revision(),
                told.revision()
            ));
        }
        for zone in told.zones() {
            match state.zone(zone.id) {
                None if self.is_more_possible => {}
                None => return Err(format!("the zone {} is lost", zone.name)),
                Some(now) if now.generation < zone.generation => {
                    return Err(format!("the zone {} went back to {}", zone.name, now.generation));
                }
                Some(now)
                    if now.generation == zone.generation
                        && now.published_digest() != zone.published_digest() =>
                {
                    return Err(format!("the zone {} is another one at {}", zone.name, now.generation));
                }
                Some(_) => {}
            }
        }
        self.is_more_possible = false;
        Ok(())
    }

    /// Whether a zone was published just so.
    pub fn was_published(&self, zone: ZoneId, generation: Generation, name: &Name, digest: u128) -> bool {
        self.published.get(&(zone, generation)) == Some(&(name.clone(), digest))
    }

    /// Whether such a content, the SOA aside, was published for this zone at this generation or later.
    pub fn has_body(&self, name: &Name, body: u128, zone: ZoneId, least: Generation) -> bool {
        self.bodies
            .get(&(name.clone(), body))
            .is_some_and(|of| of.iter().any(|(id, generation)| *id == zone && *generation >= least))
    }

    /// Whether such a content was ever published for another zone of this name.
    pub fn is_of_another(&self, name: &Name, body: u128, zone: ZoneId) -> bool {
        self.bodies.get(&(name.clone(), body)).is_some_and(|of| of.iter().any(|(id, _)| *id != zone))
    }

    /// Whether a zone ceased to be served at this revision or before.
    pub fn had_ceased(&self, zone: ZoneId, revision: u64) -> bool {
        self.ceased.get(&zone).is_some_and(|at| at.iter().any(|at| *at <= revision))
    }

    /// Names that a zone was published under.
    pub fn name_of(&self, zone: ZoneId) -> Option<&Name> {
        self.published.iter().find(|((id, _), _)| *id == zone).map(|(_, (name, _))| name)
    }
}

/// All that a state holds, but where it stands on the log.
fn held(state: &State) -> Vec<Change> {
    state.to_changes().filter(|change| !matches!(change, Change::PositionRestored { .. })).collect()
}
