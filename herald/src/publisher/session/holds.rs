//! What the emptiness brake holds back from a PoP: zones that it goes on serving as it has them, although the state has
//! dropped them, or much of them.
//!
//! Nothing here outlives the session but what is on the log ([`Pop::held`]). A session that follows finds what its PoP
//! still has in the PoP's inventory.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use herald_core::account::{Pop, PopHold};
use herald_core::command::Action;
use herald_core::state::State;
use herald_core::zone::Zone;
use herald_core::{Name, PopId, ZoneId};
use herald_wire::stream::InventoryZone;

use crate::publisher::sum::Version;

/// For how long the loss of a zone counts.
pub(super) const WINDOW: Duration = Duration::from_secs(3600);

/// How long the log may take to note that something is held, before it is asked again.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);

/// A zone that a PoP goes on serving.
pub(super) struct Held {
    /// What it serves of it.
    pub version: Version,
    pub name: Option<Name>,
    pub why: Why,
    /// The zone at this version, if it is known still.
    pub zone: Option<Arc<Zone>>,
}

/// Why a zone is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It is not to be served any more, and too many are not.
    Lost,
    /// It had so many RRsets, and much fewer are left on nobody's word.
    Shrunk { rrsets: u64, revision: u64 },
}

impl Held {
    /// A zone that is lost, as a PoP tells that it has it.
    pub(super) fn lost(theirs: &InventoryZone) -> Held {
        Held { version: theirs.into(), name: theirs.name.clone(), why: Why::Lost, zone: None }
    }

    /// A zone that a PoP has with much more than is left of it on nobody's word, if it is that.
    pub(super) fn shrunk(state: &State, pop: &Pop, theirs: &InventoryZone, ours: &Zone) -> Option<Held> {
        let rrsets = theirs.rrset_count?.saturating_sub(1);
        let is_older = theirs.generation < ours.generation;
        let is_released = pop.released.is_some_and(|released| released >= ours.generation.counter);
        let why = Why::Shrunk { rrsets, revision: state.revision() };
        let held = Held { version: theirs.into(), name: Some(ours.name.clone()), why, zone: None };
        (is_older && !is_released && held.is_still_too_much(state, ours)).then_some(held)
    }

    /// Whether too much of it would go if it became this.
    pub(super) fn is_still_too_much(&self, state: &State, zone: &Zone) -> bool {
        let Why::Shrunk { rrsets, .. } = self.why else { return false };
        let is_confirmed = zone.shrunk.is_some_and(|shrunk| shrunk > self.version.generation.counter);
        let regions = state.pops().filter_map(|pop| pop.region.as_deref()).collect::<BTreeSet<_>>();
        !is_confirmed && zone.is_shrunk_from(rrsets, regions.len() as u64, state.brakes())
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Holds {
    zones: HashMap<ZoneId, Held>,
    /// Those that are lost, by name, as another zone may take it over.
    by_name: HashMap<Name, ZoneId>,
    /// The loss that was too much; none is let through since.
    since: Option<TooMuch>,
    note_at: Duration,
}

/// A loss that was too much.
#[derive(Clone, Copy)]
pub(super) struct TooMuch {
    /// As of this revision.
    pub revision: u64,
    pub zones_lost: u64,
    pub zones_before: u64,
}

impl Holds {
    /// As the log has it.
    pub(super) fn new(pop: &Pop) -> Holds {
        let since = pop.held.map(|PopHold { revision, zones_lost, zones_before, .. }| TooMuch {
            revision,
            zones_lost,
            zones_before,
        });
        Holds { since, ..Holds::default() }
    }

    pub(super) fn get(&self, zone: ZoneId) -> Option<&Held> {
        self.zones.get(&zone)
    }

    pub(super) fn has(&self, zone: ZoneId) -> bool {
        self.zones.contains_key(&zone)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ZoneId, &Held)> {
        self.zones.iter().map(|(zone, held)| (*zone, held))
    }

    /// The lost zone that bears this name.
    pub(super) fn named(&self, name: &Name) -> Option<ZoneId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn insert(&mut self, zone: ZoneId, held: Held) {
        if let (Why::Lost, Some(name)) = (held.why, &held.name) {
            self.by_name.insert(name.clone(), zone);
        }
        self.zones.insert(zone, held);
    }

    pub(super) fn remove(&mut self, zone: ZoneId) -> Option<Held> {
        let held = self.zones.remove(&zone)?;
        if let Some(name) = &held.name
            && self.by_name.get(name) == Some(&zone)
        {
            self.by_name.remove(name);
        }
        Some(held)
    }

    /// The PoP serves another version of it than was known.
    pub(super) fn correct(&mut self, zone: ZoneId, version: Version) {
        if let Some(held) = self.zones.get_mut(&zone) {
            (held.version, held.zone) = (version, None);
        }
    }

    /// Whether losing these of `now_zones` is too much, with what was lost before within the hour. If not, it is
    /// counted there.
    pub(super) fn is_too_much(
        &mut self,
        state: &State,
        pop: &Pop,
        lost: &HashSet<ZoneId>,
        now_zones: u64,
        earlier: &mut HashMap<ZoneId, Duration>,
        now: Duration,
    ) -> bool {
        if self.since.is_some() {
            return true;
        }
        if pop.released.is_some_and(|released| released >= state.last_loss()) {
            return false;
        }
        earlier.retain(|_, at| now < *at + WINDOW);
        let others = earlier.keys().filter(|zone| !lost.contains(zone)).count() as u64;
        let (zones_before, zones_lost) = (now_zones + others, lost.len() as u64 + others);
        if !state.brakes().hold_pop(zones_before, zones_lost) {
            earlier.extend(lost.iter().map(|zone| (*zone, now)));
            return false;
        }
        self.since = Some(TooMuch { revision: state.revision(), zones_lost, zones_before });
        tracing::warn!(
            "the emptiness brake sets in at the PoP {}: {zones_lost} of its {zones_before} zones would be gone within an \
             hour. It goes on serving them; if this is meant: koder dns pop release {}",
            pop.name,
            pop.name
        );
        true
    }

    /// The zones that an operator's word lets go.
    pub(super) fn let_go(&mut self, pop: &Pop) -> Vec<ZoneId> {
        let Some(released) = pop.released else { return Vec::new() };
        let is_over = self.since.is_some_and(|since| since.revision <= released);
        if is_over {
            self.since = None;
        }
        let goes = |held: &Held| match held.why {
            Why::Lost => is_over,
            Why::Shrunk { revision, .. } => revision <= released,
        };
        let mut freed: Vec<ZoneId> =
            self.zones.iter().filter(|(_, held)| goes(held)).map(|(zone, _)| *zone).collect();
        freed.sort_unstable();
        freed
    }

    /// What the log is to note, if it doesn't know.
    pub(super) fn due_note(&mut self, state: &State, pop: PopId, now: Duration) -> Option<Action> {
        let TooMuch { revision, zones_lost, zones_before } = self.since?;
        if now < self.note_at || state.pop(pop).is_none_or(|pop| pop.held.is_some()) {
            return None;
        }
        self.note_at = now + NOTE_INTERVAL;
        Some(Action::HoldPop { pop, revision, zones_lost, zones_before })
    }
}
