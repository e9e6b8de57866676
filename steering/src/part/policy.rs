//! A policy's rules and a view's conditions, flat.
//!
//! ```text
//! policy: a hash of all of it, of which two bits are flags (u64); for each rule its length (u24) and flags (1 octet), then the rule
//! rule: number of pools (u16), hash of each (u64), conditions
//! condition: its kind (1 octet), number of alternatives (u16), the alternatives, ascending and in big endian
//! ```
//! Cities are two lists, and prefixes too: by number and by name, of IPv4 and of IPv6.

use std::net::IpAddr;

use herald_core::Name;
use herald_core::steering::{City, Policy, Prefix, Rule, Subdivision, View, When, WhenAllDown, WhenIsolated};

use super::Kind;
use super::hash::{key_hash, octets_hash};
use super::octets::{Reader, TooLarge, are_equal, is_among, narrow};
use crate::geo::{Ask, Facts, Place, city_name_hash};

/// Only the nearest of a pool's endpoints are in question.
const NEAREST: u8 = 1;
/// Where too few are up, those last up answer, or nothing.
const SERVE_LAST: u8 = 4;
const SERVE_NOTHING: u8 = 8;
/// A PoP on its own goes by its own probes.
const LOCAL: u8 = 16;

/// Some rule asks something of the client's address or its place.
const SOME_LOOK_AT_CLIENT: u64 = 1;
/// Some rule asks for views.
const SOME_ASK_FOR_VIEWS: u64 = 2;

/// What a rule can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The continent.
    Continent,
    /// The country.
    Country,
    /// The subdivision.
    Subdivision,
    /// The city.
    City,
    /// The autonomous system.
    Asn,
    /// The client's address.
    Prefix,
    /// The PoP that answers.
    Pop,
    /// A view that the source is in.
    View,
}

impl Condition {
    const ALL: [Condition; 8] = [
        Condition::Continent,
        Condition::Country,
        Condition::Subdivision,
        Condition::City,
        Condition::Asn,
        Condition::Prefix,
        Condition::Pop,
        Condition::View,
    ];
}

/// What PoPs are known by here.
pub fn pop_hash(name: &str) -> u64 {
    octets_hash(Kind::View as u64, name.as_bytes())
}

/// Of a pool's answers of a type.
pub(crate) fn pool_hash(pool: &str, rtype: u16) -> u64 {
    key_hash(Kind::Pool, rtype, pool.as_bytes())
}

/// Of a view.
pub(crate) fn view_hash(view: &str) -> u64 {
    key_hash(Kind::View, 0, view.as_bytes())
}

/// Appends the flat form of a policy for answers of a type.
pub(crate) fn write_policy(policy: &Policy, rtype: u16, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let head = out.len();
    out.extend_from_slice(&[0; 8]);
    let of_policy = match policy.when_all_down {
        WhenAllDown::ServeAll => 0,
        WhenAllDown::ServeLast => SERVE_LAST,
        WhenAllDown::NoData => SERVE_NOTHING,
    } | match policy.when_isolated {
        WhenIsolated::Hold => 0,
        WhenIsolated::Local => LOCAL,
    };
    for rule in &policy.rules {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        write_rule(rule, rtype, out)?;
        let length: u32 = narrow(out.len() - start - 4)?;
        let flags = of_policy | if rule.nearest { NEAREST } else { 0 };
        let head = length.checked_mul(256).ok_or(TooLarge)? | u32::from(flags);
        if let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&head.to_le_bytes());
        }
    }
    let asks =
        |is_asked: fn(&Rule) -> bool, flag: u64| if policy.rules.iter().any(is_asked) { flag } else { 0 };
    let flags = asks(looks_at_client, SOME_LOOK_AT_CLIENT)
        | asks(|rule| !rule.when.views.is_empty(), SOME_ASK_FOR_VIEWS);
    let hash = octets_hash(0, out.get(head + 8..).unwrap_or_default());
    if let Some(place) = out.get_mut(head..head + 8) {
        place.copy_from_slice(&(hash & !(SOME_LOOK_AT_CLIENT | SOME_ASK_FOR_VIEWS) | flags).to_le_bytes());
    }
    Ok(())
}

fn looks_at_client(rule: &Rule) -> bool {
    let without = When { pops: Vec::new(), views: Vec::new(), ..rule.when.clone() };
    rule.nearest || !without.is_any()
}

fn write_rule(rule: &Rule, rtype: u16, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    out.extend_from_slice(&narrow::<u16>(rule.pools.len())?.to_le_bytes());
    for pool in &rule.pools {
        out.extend_from_slice(&pool_hash(pool, rtype).to_le_bytes());
    }
    // What is cheap to find out comes first.
    let when = &rule.when;
    write_condition(Condition::Pop, when.pops.iter().map(|pop| pop_hash(pop).to_be_bytes()), out)?;
    write_prefixes(&when.prefixes, out)?;
    write_condition(Condition::View, when.views.iter().map(|view| view_hash(view).to_be_bytes()), out)?;
    write_condition(Condition::Continent, when.continents.iter().copied(), out)?;
    write_condition(Condition::Country, when.countries.iter().copied(), out)?;
    let subdivisions = when.subdivisions.iter().map(|one| subdivision_octets(one.country, one.code));
    write_condition(Condition::Subdivision, subdivisions, out)?;
    if !when.cities.is_empty() {
        out.push(Condition::City as u8);
        let numbers = when.cities.iter().filter_map(|city| match city {
            City::GeoNames(number) => Some(number.to_be_bytes()),
            City::Named { .. } => None,
        });
        write_list(numbers, out)?;
        let names = when.cities.iter().filter_map(|city| match city {
            City::GeoNames(_) => None,
            City::Named { name, country } => Some(city_name_hash(*country, name).to_be_bytes()),
        });
        write_list(names, out)?;
    }
    write_condition(Condition::Asn, when.asns.iter().map(|asn| asn.to_be_bytes()), out)
}

fn subdivision_octets(country: [u8; 2], code: [u8; 3]) -> [u8; 5] {
    let ([a, b], [c, d, e]) = (country, code);
    [a, b, c, d, e]
}

/// Appends the conditions of a view.
pub(crate) fn write_view(view: &View, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    write_condition(Condition::Pop, view.pops.iter().map(|pop| pop_hash(pop).to_be_bytes()), out)?;
    write_prefixes(&view.prefixes, out)
}

fn write_prefixes(prefixes: &[Prefix], out: &mut Vec<u8>) -> Result<(), TooLarge> {
    if prefixes.is_empty() {
        return Ok(());
    }
    let mut sorted = prefixes.to_vec();
    sorted.sort_unstable_by_key(|prefix| (prefix.address(), prefix.length()));
    let mut disjoint: Vec<Prefix> = Vec::with_capacity(sorted.len());
    for prefix in sorted {
        if !disjoint.last().is_some_and(|last| last.contains(prefix.address())) {
            disjoint.push(prefix);
        }
    }
    out.push(Condition::Prefix as u8);
    let v4 = disjoint.iter().filter_map(|prefix| match prefix.address() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Some([a, b, c, d, prefix.length()])
        }
        IpAddr::V6(_) => None,
    });
    write_list(v4, out)?;
    let v6 = disjoint.iter().filter_map(|prefix| match prefix.address() {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => {
            let mut octets = [prefix.length(); 17];
            octets[..16].copy_from_slice(&v6.octets());
            Some(octets)
        }
    });
    write_list(v6, out)
}

fn write_condition<const N: usize>(
    condition: Condition,
    alternatives: impl Iterator<Item = [u8; N]>,
    out: &mut Vec<u8>,
) -> Result<(), TooLarge> {
    let mut alternatives = alternatives.peekable();
    if alternatives.peek().is_none() {
        return Ok(());
    }
    out.push(condition as u8);
    write_list(alternatives, out)
}

fn write_list<const N: usize>(
    list: impl Iterator<Item = [u8; N]>,
    out: &mut Vec<u8>,
) -> Result<(), TooLarge> {
    let mut list: Vec<[u8; N]> = list.collect();
    list.sort_unstable();
    list.dedup();
    out.extend_from_slice(&narrow::<u16>(list.len())?.to_le_bytes());
    out.extend_from_slice(list.as_flattened());
    Ok(())
}

/// A list of alternatives.
#[inline]
fn read_list<'a, const N: usize>(reader: &mut Reader<'a>) -> Option<&'a [[u8; N]]> {
    let count = reader.u16()?;
    reader.pieces(usize::from(count))
}

/// The rules of a policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// Equal for equal rules.
    pub(crate) hash: u64,
    reader: Reader<'a>,
}

impl<'a> Rules<'a> {
    /// Those of an entry of a table.
    #[inline]
    pub(crate) fn read(body: &'a [u8]) -> Rules<'a> {
        let mut reader = Reader(body);
        Rules { hash: reader.u64().unwrap_or_default(), reader }
    }

    /// Whether some rule asks something of the client's address or its place.
    #[inline]
    pub(crate) fn look_at_client(&self) -> bool {
        self.hash & SOME_LOOK_AT_CLIENT != 0
    }

    /// Whether some rule asks for views.
    #[inline]
    pub(crate) fn ask_for_views(&self) -> bool {
        self.hash & SOME_ASK_FOR_VIEWS != 0
    }
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompiledRule<'a> {
    flags: u8,
    pub(crate) pools: &'a [[u8; 8]],
    pub(crate) conditions: Conditions<'a>,
}

impl<'a> CompiledRule<'a> {
    /// Tells `each` what it asks of addresses. Of alternatives that are places no more are told once it says false.
    pub(crate) fn asks(&self, each: &mut dyn FnMut(Ask<'a>) -> bool) {
        self.conditions.for_each(|alternatives| alternatives.asks(each));
    }

    pub(crate) fn is_nearest(&self) -> bool {
        self.flags & NEAREST != 0
    }

    /// Whether a PoP on its own goes by its own probes.
    pub(crate) fn is_local(&self) -> bool {
        self.flags & LOCAL != 0
    }

    pub(crate) fn when_all_down(&self) -> WhenAllDown {
        match self.flags & (SERVE_LAST | SERVE_NOTHING) {
            SERVE_LAST => WhenAllDown::ServeLast,
            SERVE_NOTHING => WhenAllDown::NoData,
            _ => WhenAllDown::ServeAll,
        }
    }
}

impl<'a> Iterator for Rules<'a> {
    type Item = CompiledRule<'a>;

    #[inline]
    fn next(&mut self) -> Option<CompiledRule<'a>> {
        let head = self.reader.u32()?;
        let mut rule = Reader(self.reader.take((head >> 8) as usize)?);
        let pools = rule.u16()?;
        let pools = rule.pieces(usize::from(pools))?;
        Some(CompiledRule { flags: head as u8, pools, conditions: Conditions(rule) })
    }
}

/// The conditions of a rule or a view: of each there is, one alternative must be met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions<'a>(pub(crate) Reader<'a>);

/// What conditions are asked of.
pub(crate) trait Asked {
    /// The address that rules for prefixes look at.
    fn address(&self) -> IpAddr;
    /// What is known of its place.
    fn place(&mut self) -> &Facts;
    /// The autonomous system that announces it, zero if that isn't known.
    fn asn(&mut self) -> u32;
    /// The PoP that answers.
    fn pop(&self) -> u64;
    /// Whether the source of the query is in the view of this hash.
    fn is_in_view(&self, view: u64) -> bool;
}

/// A condition with its alternatives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alternatives<'a> {
    Continents(&'a [[u8; 2]]),
    Countries(&'a [[u8; 2]]),
    Subdivisions(&'a [[u8; 5]]),
    Cities(&'a [[u8; 4]], &'a [[u8; 8]]),
    Asns(&'a [[u8; 4]]),
    Prefixes(&'a [[u8; 5]], &'a [[u8; 17]]),
    Pops(&'a [[u8; 8]]),
    Views(&'a [[u8; 8]]),
}

impl<'a> Iterator for Conditions<'a> {
    type Item = Alternatives<'a>;

    #[inline]
    fn next(&mut self) -> Option<Alternatives<'a>> {
        let kind = self.0.u8()?;
        let reader = &mut self.0;
        Some(match Condition::ALL.get(usize::from(kind))? {
            Condition::Continent => Alternatives::Continents(read_list(reader)?),
            Condition::Country => Alternatives::Countries(read_list(reader)?),
            Condition::Subdivision => Alternatives::Subdivisions(read_list(reader)?),
            Condition::City => Alternatives::Cities(read_list(reader)?, read_list(reader)?),
            Condition::Asn => Alternatives::Asns(read_list(reader)?),
            Condition::Prefix => Alternatives::Prefixes(read_list(reader)?, read_list(reader)?),
            Condition::Pop => Alternatives::Pops(read_list(reader)?),
            Condition::View => Alternatives::Views(read_list(reader)?),
        })
    }
}

impl<'a> Alternatives<'a> {
    fn asks(self, each: &mut dyn FnMut(Ask<'a>) -> bool) {
        let mut place = |place: Place| each(Ask::Place(place));
        match self {
            Alternatives::Continents(list) => {
                list.iter().all(|code| place(Place::Continent(*code)));
            }
            Alternatives::Countries(list) => {
                list.iter().all(|code| place(Place::Country(*code)));
            }
            Alternatives::Subdivisions(list) => {
                let read = |[a, b, c, d, e]: [u8; 5]| Subdivision { country: [a, b], code: [c, d, e] };
                list.iter().all(|octets| place(Place::Subdivision(read(*octets))));
            }
            Alternatives::Cities(numbers, names) => {
                let _ = numbers.iter().all(|number| place(Place::City(u32::from_be_bytes(*number))))
                    && names.iter().all(|name| place(Place::CityName(u64::from_be_bytes(*name))));
            }
            Alternatives::Asns(list) => {
                list.iter().all(|number| place(Place::Asn(u32::from_be_bytes(*number))));
            }
            Alternatives::Prefixes(v4, v6) => {
                each(Ask::Prefixes4(v4));
                each(Ask::Prefixes6(v6));
            }
            Alternatives::Pops(_) | Alternatives::Views(_) => {}
        }
    }

    pub(crate) fn condition(&self) -> Condition {
        match self {
            Alternatives::Continents(_) => Condition::Continent,
            Alternatives::Countries(_) => Condition::Country,
            Alternatives::Subdivisions(_) => Condition::Subdivision,
            Alternatives::Cities(..) => Condition::City,
            Alternatives::Asns(_) => Condition::Asn,
            Alternatives::Prefixes(..) => Condition::Prefix,
            Alternatives::Pops(_) => Condition::Pop,
            Alternatives::Views(_) => Condition::View,
        }
    }

    #[inline]
    fn is_met(&self, asked: &mut impl Asked) -> bool {
        match self {
            Alternatives::Continents(list) => is_among(list, asked.place().continent),
            Alternatives::Countries(list) => is_among(list, asked.place().country),
            Alternatives::Subdivisions(list) => asked
                .place()
                .subdivisions
                .iter()
                .flatten()
                .any(|one| is_among(list, subdivision_octets(one.country, one.code))),
            Alternatives::Cities(numbers, names) => {
                let facts = asked.place();
                // Zero is what isn't known.
                (facts.city != 0 && is_among(numbers, facts.city.to_be_bytes()))
                    || (facts.city_name != 0 && is_among(names, facts.city_name.to_be_bytes()))
            }
            Alternatives::Asns(list) => {
                let asn = asked.asn();
                asn != 0 && is_among(list, asn.to_be_bytes())
            }
            Alternatives::Prefixes(v4, v6) => contains(v4, v6, asked.address()),
            Alternatives::Pops(list) => is_among(list, asked.pop().to_be_bytes()),
            Alternatives::Views(list) => list.iter().any(|view| asked.is_in_view(u64::from_be_bytes(*view))),
        }
    }
}

impl<'a> Conditions<'a> {
    pub(crate) fn of(octets: &'a [u8]) -> Conditions<'a> {
        Conditions(Reader(octets))
    }

    /// The first condition that isn't met, if there is one.
    #[inline]
    pub(crate) fn unmet(self, asked: &mut impl Asked) -> Option<Condition> {
        for alternatives in self {
            if !alternatives.is_met(asked) {
                return Some(alternatives.condition());
            }
        }
        None
    }

    /// Whether a source that asks a PoP is inside the view that these are of.
    pub(crate) fn is_inside(self, source: IpAddr, pop: u64) -> bool {
        for alternatives in self {
            let is_met = match alternatives {
                Alternatives::Prefixes(v4, v6) => contains(v4, v6, source),
                Alternatives::Pops(list) => is_among(list, pop.to_be_bytes()),
                // A view asks nothing else.
                _ => false,
            };
            if !is_met {
                return false;
            }
        }
        true
    }
}

/// Whether one of the prefixes, which are sorted and disjoint, contains the address.
fn contains(v4: &[[u8; 5]], v6: &[[u8; 17]], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            let start =
                |prefix: &[u8; 5]| prefix.first_chunk().map_or(0, |octets| u32::from_be_bytes(*octets));
            let after = v4.partition_point(|prefix| start(prefix) <= bits);
            after.checked_sub(1).and_then(|place| v4.get(place)).is_some_and(|prefix| {
                // A shift by all bits is one that leaves nothing to differ.
                (start(prefix) ^ bits).checked_shr(32 - u32::from(prefix[4].min(32))).unwrap_or(0) == 0
            })
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let start =
                |prefix: &[u8; 17]| prefix.first_chunk().map_or(0, |octets| u128::from_be_bytes(*octets));
            let after = v6.partition_point(|prefix| start(prefix) <= bits);
            after.checked_sub(1).and_then(|place| v6.get(place)).is_some_and(|prefix| {
                (start(prefix) ^ bits).checked_shr(128 - u32::from(prefix[16].min(128))).unwrap_or(0) == 0
            })
        }
    }
}

/// A name without the labels of the apex; none if it isn't at or below it.
#[inline]
pub(crate) fn relative<'a>(owner: &'a [u8], apex: &Name) -> Option<&'a [u8]> {
    let apex = apex.as_wire();
    let extra = owner.len().checked_sub(apex.len())?;
    let (relative, same) = owner.split_at_checked(extra)?;
    if !are_equal(same, apex) {
        return None;
    }
    // Octets that look alike are only the same labels if a label starts there.
    let mut rest = relative;
    while let Some(label_bytes) = rest.first() {
        rest = rest.get(1 + usize::from(*label_bytes)..)?;
    }
    Some(relative)
}
