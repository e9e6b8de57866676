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
//! - Where zones ask for it by region, up to [`VANTAGES_PER_REGION`] PoPs of each region resolve the target besides, and what they have is
//!   judged in the same way: if it is another than that of the fleet, their region's PoPs serve it. A region whose PoPs don't know keeps what it
//!   has of its own; one that has nothing of its own, or no PoP with a resolver, goes with the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use domain::base::iana::Rtype;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use minicbor::{Decode, Encode};

use super::served::{Regional, Served};
use super::{ADDRESS_TYPES, circle};
use crate::choice::Candidates;
use crate::content::Difference;
use crate::special::AddressRules;
use crate::state::{AliasPlace, AliasTerms, State};
use crate::zone::Zone;
use crate::{Name, PopId, Rrset, ZoneId};

/// So many PoPs resolve a target.
pub const VANTAGES: usize = 3;

/// So many PoPs of a region resolve a target, where that is asked for by region.
pub const VANTAGES_PER_REGION: usize = 2;

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
    /// The PoPs that are chosen, and what they say: first those of the fleet, the best placed first, and then what regions have besides.
    pub pops: Vec<(PopId, bool, Option<Sight>)>,
    /// How many of them are the fleet's.
    pub fleet: usize,
    /// The PoPs that are chosen of each region, the best placed first, if that is asked for by region.
    pub regions: BTreeMap<String, Vec<PopId>>,
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
    /// The PoPs of each region by their names, also those that may not be chosen.
    regions: BTreeMap<String, BTreeMap<String, PopId>>,
    /// Regions are others since choices were made.
    are_regions_new: bool,
    /// Regions all of whose PoPs are connected and have no resolver.
    deaf: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Target {
    /// How many ALIAS records lead to it.
    aliases: usize,
    /// How many of them ask for it by region.
    by_region: usize,
    /// Who resolves it, once that was chosen.
    chosen: Option<Chosen>,
    /// What PoPs said, and in which of their sessions.
    said: BTreeMap<PopId, (u64, Sight)>,
}

/// Who resolves a target, the best placed first.
#[derive(Debug, Default)]
struct Chosen {
    /// For everybody.
    fleet: Vec<PopId>,
    /// For those of a region, if that is asked for.
    regions: Option<BTreeMap<String, Vec<PopId>>>,
}

impl Target {
    /// Whether it has to be chosen who resolves it.
    fn is_open(&self) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.regions.is_some() != (self.by_region > 0))
    }
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
            let (place, old, new) = match item {
                DiffItem::Add(place, new) => (place, None, Some(new)),
                DiffItem::Remove(place, old) => (place, Some(old), None),
                DiffItem::Update { old: (_, old), new: (place, new) } => (place, Some(old), Some(new)),
            };
            let target = self.targets.entry(place.target.clone()).or_default();
            let by_region =
                |terms: Option<&AliasTerms>| usize::from(terms.is_some_and(|terms| terms.by_region));
            target.aliases = target.aliases + usize::from(new.is_some()) - usize::from(old.is_some());
            target.by_region = target.by_region + by_region(new) - by_region(old);
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
        let mut regions = BTreeMap::<_, BTreeMap<_, _>>::new();
        for pop in state.pops() {
            if let Some(region) = &pop.region {
                regions.entry(region.clone()).or_default().insert(pop.name.clone(), pop.id);
            }
        }
        if regions != self.regions {
            self.regions = regions;
            self.are_regions_new = true;
            self.look_again_by_region();
        }
    }

    fn look_again_by_region(&mut self) {
        let concerned = self.targets.iter().filter(|(_, target)| target.by_region > 0);
        self.dirty.extend(concerned.map(|(name, _)| name.clone()));
    }

    /// Chooses anew where that may come out otherwise.
    pub fn choose(&mut self, now_ms: u64) {
        let is_changed = self.candidates.take_changed(now_ms) | std::mem::take(&mut self.are_regions_new);
        if is_changed {
            let is_unable = |pop: &PopId| self.candidates.is_unable(*pop);
            let deaf = self.regions.iter().filter(|(_, members)| members.values().all(is_unable));
            let deaf = deaf.map(|(region, _)| region.clone()).collect();
            if deaf != self.deaf {
                self.deaf = deaf;
                self.look_again_by_region();
            }
        }
        let is_open = |name: &&Name| self.targets.get(*name).is_some_and(Target::is_open);
        let names: Vec<Name> = match is_changed {
            true => self.targets.keys().cloned().collect(),
            false => self.dirty.iter().filter(is_open).cloned().collect(),
        };
        for name in names {
            let Some(target) = self.targets.get_mut(&name) else { continue };
            let ranked = self.candidates.ranked(now_ms, name.as_wire()).filter(|(is_here, _)| *is_here);
            let ranked: Vec<PopId> = ranked.map(|(_, pop)| pop).collect();
            let fleet: Vec<PopId> = ranked.iter().take(VANTAGES).copied().collect();
            let of_region = |members: &BTreeMap<String, PopId>| {
                let own = ranked.iter().filter(|pop| members.values().any(|member| member == *pop));
                own.take(VANTAGES_PER_REGION).copied().collect()
            };
            let regions: Option<BTreeMap<String, Vec<PopId>>> = (target.by_region > 0).then(|| {
                self.regions.iter().map(|(region, members)| (region.clone(), of_region(members))).collect()
            });
            let mut chosen = fleet.clone();
            for pop in regions.iter().flat_map(BTreeMap::values).flatten() {
                if !chosen.contains(pop) {
                    chosen.push(*pop);
                }
            }
            target.chosen = Some(Chosen { fleet, regions });
            let chosen: Arc<[PopId]> = chosen.into();
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
            for (place, terms) in aliases_to(state, &name) {
                let Some(zone) = state.zone(place.zone) else { continue };
                let difference = self.difference(state, zone, place, *terms);
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

    fn difference(&self, state: &State, zone: &Zone, place: &AliasPlace, terms: AliasTerms) -> Difference {
        let mut difference = Difference::default();
        let is_circle = circle(state, place.zone, &place.owner).is_some();
        for rtype in ADDRESS_TYPES {
            let served = zone.served(&place.owner, rtype);
            let mut wanted = match is_circle {
                true => Served::default(),
                false => {
                    self.wanted(&place.target, rtype, served, terms.by_region, state.monitors().addresses())
                }
            };
            wanted.cap(terms.ttl);
            let Difference { puts, deletes } =
                wanted.difference(&zone.resolved, &zone.name, &place.owner, rtype);
            difference.puts.extend(puts);
            difference.deletes.extend(deletes);
        }
        difference
    }

    /// What is to be served of a target where this is.
    fn wanted(
        &self,
        name: &Name,
        rtype: Rtype,
        served: Served,
        by_region: bool,
        rules: &AddressRules,
    ) -> Served {
        let Some(chosen) = self.targets.get(name).and_then(|target| target.chosen.as_ref()) else {
            return served;
        };
        let is_fine = |rrset: &Rrset| !refused_in(rrset, rules);
        let everywhere = match self.answer(name, rtype, rules, &chosen.fleet) {
            Answer::Addresses(found) => Some(found.clone()),
            Answer::Nothing => None,
            Answer::Unknown => served.everywhere.filter(is_fine),
        };
        let mut regions = BTreeMap::new();
        for (region, members) in self.regions.iter().filter(|_| by_region) {
            let of_region = chosen.regions.as_ref().and_then(|regions| regions.get(region));
            let rrset = match self.answer(name, rtype, rules, of_region.map_or(&[], Vec::as_slice)) {
                Answer::Addresses(found) => Some(found.clone()),
                Answer::Nothing => None,
                Answer::Unknown if self.deaf.contains(region) => continue,
                Answer::Unknown => match served.regions.get(region) {
                    Some(own) if own.rrset.as_ref().is_none_or(is_fine) => own.rrset.clone(),
                    _ => continue,
                },
            };
            // The same addresses are the same answer, however long each may keep it.
            let rdatas = |rrset: &Option<Rrset>| rrset.as_ref().map(|rrset| rrset.rdatas.clone());
            if rdatas(&rrset) != rdatas(&everywhere) {
                regions.insert(region.clone(), Regional { pops: members.keys().cloned().collect(), rrset });
            }
        }
        Served { everywhere, regions }
    }

    /// What these PoPs, the best placed first, have of a target.
    fn answer(&self, name: &Name, rtype: Rtype, rules: &AddressRules, chosen: &[PopId]) -> Answer<'_> {
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
        let pops = chosen.map(|pop| (*pop, self.candidates.is_connected(*pop), said(pop))).collect();
        let chosen = self.targets.get(name).and_then(|target| target.chosen.as_ref());
        View {
            pops,
            fleet: chosen.map_or(0, |chosen| chosen.fleet.len()),
            regions: chosen.and_then(|chosen| chosen.regions.clone()).unwrap_or_default(),
        }
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
fn aliases_to<'a>(
    state: &'a State,
    target: &'a Name,
) -> impl Iterator<Item = (&'a AliasPlace, &'a AliasTerms)> {
    let first = AliasPlace { target: target.clone(), zone: ZoneId(0), owner: Name::root() };
    state.aliases().range(first..).take_while(move |(place, _)| place.target == *target)
}
