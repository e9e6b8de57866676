//! The rules of one owner, compiled: which of them may be for a query is found by its source and its name, and asked in order.
//!
//! A rule is a candidate by its names if it has some, else by its sources if it has some, else always. Each name, and each range of
//! addresses, has the list of its candidates; what is further said in a rule is then looked at.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use herald_core::firewall::{Action, Owner, Rate, Rule};
use herald_core::steering::Prefix;
use herald_core::{Name, Rtype};

use super::buckets::Pace;
use super::names::NameIndex;
use super::sources::Networks;
use super::{Circumstances, CompileError, Question};
use crate::geo::Geo;
use crate::geo::ranges::Ranges;
use crate::part::hash::octets_hash;

/// Most numbers in all lists of candidates together.
const CANDIDATES_MAX: usize = 8_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct RuleSet {
    rules: Vec<Compiled>,
    sources: Option<Ranges>,
    names: Option<NameIndex>,
    lists: Lists,
    /// Candidates for every query.
    always: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: String,
    pub(super) action: Action,
    pub(super) hits: Arc<AtomicU64>,
    /// Where it is a candidate by something else.
    sources: Option<Ranges>,
    types: Box<[Rtype]>,
    countries: Box<[[u8; 2]]>,
    asns: Box<[u32]>,
    over: Option<Over>,
    /// Whether what makes it a candidate is all there is.
    is_plain: bool,
}

/// A rate that is exceeded.
#[derive(Debug)]
pub struct Over {
    /// As it was written.
    pub rate: Rate,
    pub(super) pace: Pace,
    /// Tells rules apart.
    pub(super) seed: u64,
}

impl Over {
    /// What the bucket of a source is found by.
    pub(super) fn key(&self, source: IpAddr) -> u64 {
        match source {
            IpAddr::V4(v4) => {
                let shift = 32 - u32::from(self.rate.v4_length);
                octets_hash(self.seed, &(v4.to_bits().checked_shr(shift).unwrap_or(0)).to_ne_bytes())
            }
            IpAddr::V6(v6) => {
                let shift = 128 - u32::from(self.rate.v6_length);
                octets_hash(self.seed, &(v6.to_bits().checked_shr(shift).unwrap_or(0)).to_ne_bytes())
            }
        }
    }
}

/// Lists of numbers of rules, ascending, each once.
#[derive(Debug, Default)]
struct Lists {
    numbers: Vec<u32>,
    spans: Vec<(u32, u32)>,
    known: HashMap<Vec<u32>, u32>,
}

impl Lists {
    fn put(&mut self, list: Vec<u32>) -> Result<u32, CompileError> {
        if let Some(known) = self.known.get(&list) {
            return Ok(*known);
        }
        if self.numbers.len() + list.len() > CANDIDATES_MAX {
            return Err(CompileError::TooManyCandidates);
        }
        let start = self.numbers.len() as u32;
        self.numbers.extend_from_slice(&list);
        self.spans.push((start, self.numbers.len() as u32));
        let id = (self.spans.len() - 1) as u32;
        self.known.insert(list, id);
        Ok(id)
    }

    #[inline]
    fn get(&self, id: u32) -> &[u32] {
        let (start, end) = self.spans[id as usize];
        &self.numbers[start as usize..end as usize]
    }
}

/// What is done by a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) rule: usize,
    pub(super) action: Action,
}

impl RuleSet {
    /// Compiles rules, in any order.
    pub(super) fn compile(owner: Owner, rules: &[Rule]) -> Result<RuleSet, CompileError> {
        let mut sorted: Vec<&Rule> = rules.iter().collect();
        sorted.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        let mut compiled = Vec::with_capacity(sorted.len());
        let (mut by_source, mut by_name) = (Vec::<(Prefix, u32)>::new(), BTreeMap::<&Name, Vec<u32>>::new());
        let mut always = Vec::new();
        for (number, rule) in sorted.iter().enumerate() {
            let (number, when) = (number as u32, &rule.when);
            let is_by_name = !when.names.is_empty();
            let is_by_source = !is_by_name && !when.sources.is_empty();
            if is_by_name {
                for name in &when.names {
                    let list = by_name.entry(name).or_default();
                    if list.last() != Some(&number) {
                        list.push(number);
                    }
                }
            } else if is_by_source {
                by_source.extend(when.sources.iter().map(|prefix| (*prefix, number)));
            } else {
                always.push(number);
            }
            let sources = (is_by_name && !when.sources.is_empty())
                .then(|| Networks::new(when.sources.clone()).ranges(|_| 1));
            let over = when.over.map(|rate| Over {
                rate,
                pace: Pace::new(rate.per_s, rate.burst),
                seed: seed(owner, &rule.name),
            });
            let is_plain = sources.is_none()
                && over.is_none()
                && when.types.is_empty()
                && when.countries.is_empty()
                && when.asns.is_empty();
            compiled.push(Compiled {
                name: rule.name.clone(),
                action: rule.action,
                hits: Arc::default(),
                sources,
                types: when.types.iter().map(|one| one.0).collect(),
                countries: when.countries.clone().into(),
                asns: when.asns.clone().into(),
                over,
                is_plain,
            });
        }
        let mut lists = Lists::default();
        lists.put(Vec::new())?;
        let end = |list: Vec<u32>| cut(&compiled, list);
        let sources = match by_source.is_empty() {
            true => None,
            false => Some(source_ranges(by_source, &mut lists, end)?),
        };
        let names = match by_name.is_empty() {
            true => None,
            false => Some(name_index(by_name, &mut lists, end)?),
        };
        lists.known = HashMap::new();
        let always = cut(&compiled, always);
        Ok(RuleSet { rules: compiled, sources, names, lists, always })
    }

    /// The first rule for a query that does something, those that count having counted.
    #[inline]
    pub(super) fn decide(
        &self,
        question: &Question<'_>,
        geo: &Geo,
        circumstances: &impl Circumstances,
    ) -> Option<Hit> {
        let mut by_source = match &self.sources {
            Some(ranges) => self.lists.get(ranges.get(question.source)),
            None => &[],
        };
        let mut by_name = match &self.names {
            Some(names) => names.find(question.name).map_or(&[][..], |list| self.lists.get(list)),
            None => &[],
        };
        if by_source.is_empty() && by_name.is_empty() && self.always.is_empty() {
            return None;
        }
        let mut always = &self.always[..];
        loop {
            let heads = [by_source.first(), by_name.first(), always.first()];
            let number = *heads.into_iter().flatten().min()?;
            for list in [&mut by_source, &mut by_name, &mut always] {
                if list.first() == Some(&number) {
                    *list = &list[1..];
                }
            }
            let rule = &self.rules[number as usize];
            if !rule.is_for(question, geo, circumstances) {
                continue;
            }
            circumstances.hit(&rule.hits);
            match rule.action {
                Action::Count => {}
                // Over TCP nothing is truncated: who is there is who it says.
                Action::Truncate if !question.is_udp => {
                    return Some(Hit { rule: number as usize, action: Action::Pass });
                }
                action => return Some(Hit { rule: number as usize, action }),
            }
        }
    }

    pub(super) fn rules(&self) -> &[Compiled] {
        &self.rules
    }

    /// Goes on with the counts of another one's rules of the same names.
    pub(super) fn count_on(&mut self, before: &RuleSet) {
        let known: HashMap<&str, &Arc<AtomicU64>> =
            before.rules.iter().map(|rule| (rule.name.as_str(), &rule.hits)).collect();
        for rule in &mut self.rules {
            if let Some(hits) = known.get(rule.name.as_str()) {
                rule.hits = Arc::clone(hits);
            }
        }
    }

    /// Whether a rule counts how fast queries come.
    pub(super) fn has_rates(&self) -> bool {
        self.rules.iter().any(|rule| rule.over.is_some())
    }

    pub(super) fn bytes(&self) -> usize {
        self.rules.capacity() * size_of::<Compiled>()
            + self.sources.as_ref().map_or(0, Ranges::bytes)
            + self.names.as_ref().map_or(0, NameIndex::bytes)
            + (self.lists.numbers.capacity() + self.always.capacity()) * size_of::<u32>()
            + self.lists.spans.capacity() * size_of::<(u32, u32)>()
    }
}

impl Compiled {
    #[inline]
    fn is_for(&self, question: &Question<'_>, geo: &Geo, circumstances: &impl Circumstances) -> bool {
        self.is_plain || self.holds(question, geo, circumstances)
    }

    /// Whether all holds that is said besides what made it a candidate. How fast queries come is asked last, as it counts them.
    #[inline(never)]
    fn holds(&self, question: &Question<'_>, geo: &Geo, circumstances: &impl Circumstances) -> bool {
        let source = question.source;
        let is_from = self.sources.as_ref().is_none_or(|sources| sources.get(source) != 0);
        let is_of_type = self.types.is_empty() || self.types.contains(&question.rtype);
        is_from
            && is_of_type
            && (self.countries.is_empty() || self.countries.contains(&geo.place(source).country))
            && (self.asns.is_empty() || self.asns.contains(&geo.asn(source)))
            && self.over.as_ref().is_none_or(|over| circumstances.is_over(over, source))
    }

    pub(super) fn count(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

fn seed(owner: Owner, name: &str) -> u64 {
    let mut octets = minicbor::to_vec(owner).expect("writing to a Vec can't fail");
    octets.extend_from_slice(name.as_bytes());
    octets_hash(0, &octets)
}

/// After a rule that is for every query with this list, no other is asked.
fn cut(rules: &[Compiled], mut list: Vec<u32>) -> Vec<u32> {
    let last = list.iter().position(|number| {
        let rule = &rules[*number as usize];
        rule.is_plain && rule.action != Action::Count
    });
    if let Some(last) = last {
        list.truncate(last + 1);
    }
    list
}

fn merged(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all.dedup();
    all
}

fn source_ranges(
    by_source: Vec<(Prefix, u32)>,
    lists: &mut Lists,
    end: impl Fn(Vec<u32>) -> Vec<u32>,
) -> Result<Ranges, CompileError> {
    let networks = Networks::new(by_source.iter().map(|(prefix, _)| *prefix).collect());
    let mut own: Vec<Vec<u32>> = vec![Vec::new(); networks.prefixes.len()];
    for (prefix, number) in &by_source {
        if let Some(place) = networks.place(prefix) {
            own[place].push(*number);
        }
    }
    let mut list_of = Vec::with_capacity(own.len());
    for (place, numbers) in own.iter().enumerate() {
        // It comes after the one that it is in.
        let outer = networks.outer[place].map_or(&[][..], |outer| lists.get(list_of[outer]));
        let list = end(merged(outer, numbers));
        list_of.push(lists.put(list)?);
    }
    Ok(networks.ranges(|place| list_of[place]))
}

fn name_index(
    by_name: BTreeMap<&Name, Vec<u32>>,
    lists: &mut Lists,
    end: impl Fn(Vec<u32>) -> Vec<u32>,
) -> Result<NameIndex, CompileError> {
    let mut values = Vec::with_capacity(by_name.len());
    for (name, own) in &by_name {
        let mut all = own.clone();
        // Wildcards that the name, or all that a wildcard stands for, is below.
        let base = if name.is_wildcard() { name.parent() } else { Some((*name).clone()) };
        let mut above = base.and_then(|base| base.parent());
        while let Some(one) = above {
            if let Some(numbers) = one.child("*").ok().and_then(|wildcard| by_name.get(&wildcard)) {
                all = merged(&all, numbers);
            }
            above = one.parent();
        }
        all.sort_unstable();
        all.dedup();
        values.push((*name, lists.put(end(all))?));
    }
    Ok(NameIndex::new(values.len(), values.iter().map(|(name, list)| (name.as_wire(), *list))))
}
