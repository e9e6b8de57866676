//! From what PoPs say of targets to what is served at the owners of ALIAS records. Pure: time is an input, in ms since any fixed moment.
//!
//! ```text
//!  PoPs come, go ─▶ choice: who resolves what ──▶ to PoPs
//!  PoPs say      ─▶ the best placed one's answer ─▶ judged by the rules ─▶ what is to be served, to the log
//! ```
//!
//! - A target is resolved by up to [`VANTAGES`] PoPs, however many ALIAS records lead to it. What counts is the answer of the best placed of
//!   them that has one, for A and AAAA each; what it last said counts for as long as it is chosen, also while it is away.
//! - That there are no addresses has to be said by most of those that are chosen. Where nobody has an answer, what is served stays.
//! - An answer with an address that may not be connected to ([`crate::special`]) is refused as a whole, and the next PoP's is looked at.
//! - What is served and may not be any more, as the rules are others, goes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use domain::base::iana::Rtype;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use minicbor::{Decode, Encode};

use super::{ADDRESS_TYPES, circle};
use crate::choice::Candidates;
use crate::content::Difference;
use crate::special::AddressRules;
use crate::state::{AliasPlace, State};
use crate::zone::Zone;
use crate::{Name, PopId, RrKey, Rrset, ZoneId};

/// So many PoPs resolve a target.
pub const VANTAGES: usize = 3;

/// So many addresses of a type are served.
pub const ADDRESSES_MAX: usize = 32;

/// So many zones are changed at once.
const ZONES_AT_ONCE_MAX: usize = 2_000;

/// What a PoP found of one type.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Found {
    /// These records, with the lowest TTL on the way to them.
    #[n(0)]
    Addresses(#[n(0)] Rrset),
    /// There are none.
    #[n(1)]
    Nothing {
        /// In words.
        #[n(0)]
        cause: String,
    },
    /// It can't say.
    #[n(2)]
    Failed {
        /// In words.
        #[n(0)]
        cause: String,
    },
}

/// What a PoP says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// IPv4 addresses.
    pub a: Found,
    /// IPv6 addresses.
    pub aaaa: Found,
    /// Since when it has been so, by the time that is told here.
    pub since_ms: u64,
}

impl Sight {
    /// What was found of one of the two types.
    pub fn of(&self, rtype: Rtype) -> &Found {
        if rtype == Rtype::A { &self.a } else { &self.aaaa }
    }

    /// Whether all records are of the types that they are said to be of, and no more than are served.
    fn is_sound(&self) -> bool {
        [(&self.a, 4), (&self.aaaa, 16)].iter().all(|(found, octets)| match found {
            Found::Addresses(rrset) => {
                (1..=ADDRESSES_MAX).contains(&rrset.rdatas.len())
                    && rrset.rdatas.iter().all(|rdata| rdata.len() == *octets)
            }
            Found::Nothing { .. } | Found::Failed { .. } => true,
        })
    }
}

/// What is to be served at owners of one zone instead of what is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The zone.
    pub zone: ZoneId,
    /// What changes.
    pub difference: Difference,
}

/// What is known of a target, for who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The PoPs that are chosen, the best placed first, and what they say.
    pub pops: Vec<(PopId, bool, Option<Sight>)>,
}

impl View {
    /// Whether PoPs have different addresses.
    pub fn differs(&self) -> bool {
        ADDRESS_TYPES.iter().any(|rtype| {
            let mut answers = self.pops.iter().filter_map(|(_, _, sight)| match sight.as_ref()?.of(*rtype) {
                Found::Addresses(rrset) => Some(Some(&rrset.rdatas)),
                Found::Nothing { .. } => Some(None),
                Found::Failed { .. } => None,
            });
            answers.next().is_some_and(|first| answers.any(|other| other != first))
        })
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Watch {
    candidates: Candidates,
    targets: BTreeMap<Name, Target>,
    choices: OrdMap<Name, Arc<[PopId]>>,
    /// What may have another answer by now.
    dirty: BTreeSet<Name>,
}

#[derive(Debug, Default)]
struct Target {
    /// How many ALIAS records lead to it.
    aliases: usize,
    /// What PoPs said, and in which of their sessions.
    said: BTreeMap<PopId, (u64, Sight)>,
}

impl Watch {
    /// PoPs that may be chosen.
    pub fn set_pops(&mut self, now_ms: u64, pops: impl IntoIterator<Item = (PopId, String)>) {
        self.candidates.set(now_ms, pops);
    }

    /// A session of a PoP is up; whether it has a resolver.
    pub fn pop_up(&mut self, pop: PopId, resolves: bool) {
        self.candidates.up(pop, resolves);
    }

    /// A session of a PoP is over.
    pub fn pop_down(&mut self, now_ms: u64, pop: PopId) {
        self.candidates.down(now_ms, pop);
    }

    /// A PoP says something in its session of this number. What is of a session before a newer one is passed over.
    pub fn said(&mut self, pop: PopId, session: u64, name: &Name, sight: Sight) {
        let is_chosen = self.choices.get(name).is_some_and(|chosen| chosen.contains(&pop));
        let is_fine = is_chosen && sight.is_sound();
        let Some(target) = self.targets.get_mut(name).filter(|_| is_fine) else { return };
        if target.said.get(&pop).is_none_or(|(before, _)| *before <= session) {
            target.said.insert(pop, (session, sight));
            self.dirty.insert(name.clone());
        }
    }

    /// Takes in a state that comes after another.
    pub fn follow(&mut self, seen: &State, state: &State) {
        for item in seen.aliases().diff(state.aliases()) {
            let (place, more, fewer) = match item {
                DiffItem::Add(place, _) => (place, 1, 0),
                DiffItem::Remove(place, _) => (place, 0, 1),
                DiffItem::Update { new: (place, _), .. } => (place, 0, 0),
            };
            let target = self.targets.entry(place.target.clone()).or_default();
            target.aliases = target.aliases + more - fewer;
            if target.aliases == 0 {
                self.targets.remove(&place.target);
            }
            self.dirty.insert(place.target.clone());
            // What leads to its owner may lead in a circle now, or not any more.
            self.dirty.insert(place.owner.clone());
        }
        if seen.monitors().addresses() != state.monitors().addresses() {
            self.dirty.extend(self.targets.keys().cloned());
        }
    }

    /// Chooses anew where that may come out otherwise.
    pub fn choose(&mut self, now_ms: u64) {
        let is_changed = self.candidates.take_changed(now_ms);
        let names: Vec<Name> = match is_changed {
            true => self.targets.keys().cloned().collect(),
            false => self.dirty.iter().filter(|name| !self.choices.contains_key(*name)).cloned().collect(),
        };
        for name in names {
            let Some(target) = self.targets.get_mut(&name) else { continue };
            let ranked = self.candidates.ranked(now_ms, name.as_wire()).filter(|(is_here, _)| *is_here);
            let chosen: Arc<[PopId]> = ranked.take(VANTAGES).map(|(_, pop)| pop).collect();
            if self.choices.get(&name) != Some(&chosen) {
                target.said.retain(|pop, _| chosen.contains(pop));
                self.choices.insert(name.clone(), chosen);
                self.dirty.insert(name);
            }
        }
        let gone = self.dirty.iter().filter(|name| !self.targets.contains_key(*name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.choices.remove(&name);
        }
    }

    /// Which PoPs resolve what.
    pub fn choices(&self) -> &OrdMap<Name, Arc<[PopId]>> {
        &self.choices
    }

    /// When choices may be others, if nothing happens before.
    pub fn next_at_ms(&self) -> Option<u64> {
        self.candidates.next_at_ms()
    }

    /// What is to be served otherwise than the state says, of some zones: it is asked for again until the state has it.
    pub fn due(&mut self, state: &State) -> Vec<Resolved> {
        let mut zones: BTreeMap<ZoneId, Difference> = BTreeMap::new();
        let dirty = std::mem::take(&mut self.dirty);
        for name in dirty {
            let mut is_settled = true;
            for place in aliases_to(state, &name) {
                let Some(zone) = state.zone(place.zone) else { continue };
                let difference = self.difference(state, zone, place);
                if !difference.is_empty() {
                    is_settled = false;
                    if zones.len() < ZONES_AT_ONCE_MAX || zones.contains_key(&zone.id) {
                        let of_zone = zones.entry(zone.id).or_default();
                        of_zone.puts.extend(difference.puts);
                        of_zone.deletes.extend(difference.deletes);
                    }
                }
            }
            if !is_settled {
                self.dirty.insert(name);
            }
        }
        zones.into_iter().map(|(zone, difference)| Resolved { zone, difference }).collect()
    }

    fn difference(&self, state: &State, zone: &Zone, place: &AliasPlace) -> Difference {
        let mut difference = Difference::default();
        let Some(alias) = zone.content.aliases().get(&place.owner) else { return difference };
        let is_circle = circle(state, place.zone, &place.owner).is_some();
        for rtype in ADDRESS_TYPES {
            let key = RrKey::new(place.owner.clone(), rtype);
            let served = zone.resolved.get(&key);
            let wanted = match is_circle {
                true => Some(None),
                false => match self.answer(&place.target, rtype, state.monitors().addresses()) {
                    Answer::Addresses(found) => {
                        let (ttl, rdatas) = (found.ttl.min(alias.ttl), found.rdatas.clone());
                        Some(Some(Rrset { ttl, rdatas }))
                    }
                    Answer::Nothing => Some(None),
                    Answer::Unknown => None,
                },
            };
            let is_refused = || served.is_some_and(|served| refused_in(served, state.monitors().addresses()));
            match (served, wanted) {
                (Some(served), Some(Some(wanted))) if *served == wanted => {}
                (_, Some(Some(wanted))) => difference.puts.push((key, wanted)),
                (Some(_), Some(None)) => difference.deletes.push(key),
                (Some(_), None) if is_refused() => difference.deletes.push(key),
                (_, _) => {}
            }
        }
        difference
    }

    /// What is to be served of a target.
    fn answer(&self, name: &Name, rtype: Rtype, rules: &AddressRules) -> Answer<'_> {
        let Some(chosen) = self.choices.get(name) else { return Answer::Unknown };
        let said = |pop: &PopId| self.targets.get(name)?.said.get(pop).map(|(_, sight)| sight.of(rtype));
        let mut without = 0;
        for found in chosen.iter().filter_map(said) {
            match found {
                Found::Addresses(rrset) if !refused_in(rrset, rules) => return Answer::Addresses(rrset),
                Found::Addresses(_) => {}
                Found::Nothing { .. } => without += 1,
                Found::Failed { .. } => {}
            }
        }
        if without * 2 > chosen.len() { Answer::Nothing } else { Answer::Unknown }
    }

    /// What is known of a target.
    pub fn view(&self, name: &Name) -> View {
        let said = |pop: &PopId| self.targets.get(name)?.said.get(pop).map(|(_, sight)| sight.clone());
        let chosen = self.choices.get(name).into_iter().flat_map(|chosen| chosen.iter());
        View { pops: chosen.map(|pop| (*pop, self.candidates.is_connected(*pop), said(pop))).collect() }
    }

    /// How many targets there are, and of how many of these no PoP that is chosen has an answer for a type.
    pub fn counts(&self) -> (usize, usize) {
        let is_known = |target: &Target| {
            ADDRESS_TYPES.iter().all(|rtype| {
                target.said.values().any(|(_, sight)| !matches!(sight.of(*rtype), Found::Failed { .. }))
            })
        };
        (self.targets.len(), self.targets.values().filter(|target| !is_known(target)).count())
    }
}

enum Answer<'a> {
    Addresses(&'a Rrset),
    Nothing,
    /// What is served stays.
    Unknown,
}

fn refused_in(served: &Rrset, rules: &AddressRules) -> bool {
    addresses(served).any(|address| rules.refused(address).is_some())
}

/// The addresses of an RRset of type A or AAAA.
pub fn addresses(rrset: &Rrset) -> impl Iterator<Item = IpAddr> + '_ {
    rrset.rdatas.iter().filter_map(|rdata| match rdata.len() {
        4 => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
    })
}

/// The ALIAS records that lead to a name.
fn aliases_to<'a>(state: &'a State, target: &'a Name) -> impl Iterator<Item = &'a AliasPlace> {
    let first = AliasPlace { target: target.clone(), zone: ZoneId(0), owner: Name::root() };
    state.aliases().range(first..).map(|(place, _)| place).take_while(move |place| place.target == *target)
}
