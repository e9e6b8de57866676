//! The firewall: which queries aren't answered as their zones would have it. The same code decides in knotd and where a rule is tried out.
//!
//! ```text
//! query ──▶ the fleet's rules ──▶ policy zones ──▶ rules of the zone's tenant ──▶ the zone
//!              in order             in order          in order
//! ```
//!
//! The first rule that is for a query decides, one that passes it too; rules that count let the next ones be asked. Rules are compiled
//! flat, so that ten thousand of them cost a query two look-ups: one by its source, one by its name. Nothing is
//! allocated or locked when it is decided, and time comes in.

mod buckets;
mod file;
mod names;
mod policy;
mod rpz;
mod rules;
mod sources;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use herald_core::firewall::{Action, Owner};
use herald_core::{Rtype, TenantId};

use crate::geo::Geo;
use names::NameIndex;
use policy::PolicyRules;
use rules::RuleSet;

pub use buckets::{BUCKETS, Buckets};
pub use file::{FileError, POLICIES_BYTES_MAX, PoliciesFile, RULES_BYTES_MAX, RulesFile, TenantRules};
pub use policy::{LocalRrset, PolicyAction};
pub use rpz::{Rpz, read_rpz};
pub use rules::Over;

/// What is asked, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where the query came from. An address of IPv4 is written as one.
    pub source: IpAddr,
    /// The name asked for, in wire format and small letters.
    pub name: &'a [u8],
    /// The type asked for.
    pub rtype: Rtype,
    /// Whether it came in a datagram.
    pub is_udp: bool,
    /// The zone that would answer, likewise; none if there is none.
    pub zone: Option<&'a [u8]>,
}

/// What is done with a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict<'a> {
    /// It is answered as if there were no firewall.
    Pass,
    /// It gets no answer.
    Drop,
    /// REFUSED.
    Refuse,
    /// An empty truncated answer.
    Truncate,
    /// NXDOMAIN.
    NxDomain,
    /// NOERROR, and nothing.
    NoData,
    /// These RRsets, of which none may be of the type asked for.
    Local(&'a [LocalRrset]),
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decider<'a> {
    /// A rule.
    Rule {
        /// Whose.
        owner: Owner,
        /// Its name.
        name: &'a str,
    },
    /// A policy zone.
    Policy {
        /// Its name.
        zone: &'a str,
        /// Whether it was the source that was found in it; else it was the name.
        by_client: bool,
    },
}

/// What is decided, and by whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision<'a> {
    /// What is done.
    pub verdict: Verdict<'a>,
    /// Who said so.
    pub by: Decider<'a>,
}

/// What a decision depends on besides the query, and who is told of it.
pub trait Circumstances {
    /// Takes a query into account that a rule is for if there are too many, and says whether there are.
    fn is_over(&self, over: &Over, source: IpAddr) -> bool;

    /// A rule was for the query.
    fn hit(&self, hits: &AtomicU64);
}

/// Queries as they come.
#[derive(Debug)]
pub struct Live<'a, N> {
    /// How fast they come.
    pub buckets: &'a Buckets,
    /// The time in ns, which never goes back. It is asked where it matters alone.
    pub now_ns: N,
}

impl<N: Fn() -> u64> Circumstances for Live<'_, N> {
    fn is_over(&self, over: &Over, source: IpAddr) -> bool {
        self.buckets.is_over(over.key(source), over.pace, (self.now_ns)())
    }

    #[inline]
    fn hit(&self, hits: &AtomicU64) {
        hits.fetch_add(1, Ordering::Relaxed);
    }
}

/// A query that is only thought of: nothing is counted, and all rates are kept, or exceeded.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Whether all rates are exceeded.
    pub is_fast: bool,
}

impl Circumstances for Trial {
    fn is_over(&self, _: &Over, _: IpAddr) -> bool {
        self.is_fast
    }

    fn hit(&self, _: &AtomicU64) {}
}

/// Why rules can't be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Too many of them may be for the same queries.
    #[error(
        "the rules' networks and names overlap too much: more than 8,000,000 steps would have to be kept"
    )]
    TooManyCandidates,
}

/// All rules, compiled.
#[derive(Debug)]
pub struct Rules {
    fleet: RuleSet,
    tenants: Vec<(TenantId, RuleSet)>,
    /// Zones to places among tenants.
    zones: NameIndex,
}

/// How often a rule was for a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCount<'a> {
    /// Whose.
    pub owner: Owner,
    /// Its name.
    pub name: &'a str,
    /// How often.
    pub hits: u64,
}

impl Rules {
    /// Compiles them.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn compile(file: &RulesFile) -> Result<Rules, CompileError> {
        let fleet = RuleSet::compile(Owner::Fleet, &file.fleet)?;
        let mut tenants = Vec::with_capacity(file.tenants.len());
        let mut zones = Vec::new();
        for (place, tenant) in file.tenants.iter().enumerate() {
            tenants.push((tenant.tenant, RuleSet::compile(Owner::Tenant(tenant.tenant), &tenant.rules)?));
            zones.extend(tenant.zones.iter().map(|zone| (zone.as_wire(), place as u32)));
        }
        let zones = NameIndex::new(zones.len(), zones.iter().copied());
        Ok(Rules { fleet, tenants, zones })
    }

    /// Whether a rule asks how fast queries come.
    pub fn has_rates(&self) -> bool {
        self.sets().any(|(_, set)| set.has_rates())
    }

    /// Goes on with the counts of the rules that these replace.
    pub fn count_on(&mut self, before: &Rules) {
        self.fleet.count_on(&before.fleet);
        for (tenant, set) in &mut self.tenants {
            if let Some((_, old)) = before.tenants.iter().find(|(other, _)| other == tenant) {
                set.count_on(old);
            }
        }
    }

    /// How often rules were for queries.
    pub fn counts(&self) -> impl Iterator<Item = RuleCount<'_>> {
        self.sets().flat_map(|(owner, set)| {
            set.rules().iter().map(move |rule| RuleCount { owner, name: &rule.name, hits: rule.count() })
        })
    }

    fn sets(&self) -> impl Iterator<Item = (Owner, &RuleSet)> {
        let tenants = self.tenants.iter().map(|(tenant, set)| (Owner::Tenant(*tenant), set));
        std::iter::once((Owner::Fleet, &self.fleet)).chain(tenants)
    }

    /// How many bytes of memory they take, about.
    pub fn bytes(&self) -> usize {
        self.sets().map(|(_, set)| set.bytes()).sum::<usize>() + self.zones.bytes()
    }
}

/// All policy zones.
#[derive(Debug, Default)]
pub struct Policies {
    zones: Vec<(String, PolicyRules)>,
}

impl Policies {
    /// How often each policy zone was for a query, by what it did.
    pub fn counts(&self) -> impl Iterator<Item = (&str, PolicyAction, u64)> {
        self.zones.iter().flat_map(|(name, rules)| {
            PolicyAction::ALL.into_iter().map(move |action| (name.as_str(), action, rules.count(action)))
        })
    }

    /// Goes on with the counts of the policy zones that these replace.
    pub fn count_on(&mut self, before: &Policies) {
        for (name, rules) in &mut self.zones {
            if let Some((_, old)) = before.zones.iter().find(|(other, _)| other == name) {
                rules.count_on(old);
            }
        }
    }

    /// How many bytes of memory they take, about.
    pub fn bytes(&self) -> usize {
        self.zones.iter().map(|(_, rules)| rules.bytes()).sum()
    }

    /// How many rules they have: by name and by client.
    pub fn len(&self) -> (usize, usize) {
        self.zones.iter().fold((0, 0), |(names, clients), (_, rules)| {
            let (more_names, more_clients) = rules.len();
            (names + more_names, clients + more_clients)
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    #[inline]
    fn decide<'a>(
        &'a self,
        question: &Question<'_>,
        circumstances: &impl Circumstances,
    ) -> Option<Decision<'a>> {
        self.zones.iter().find_map(|(name, rules)| {
            let (verdict, by_client) = rules.decide(question, circumstances)?;
            Some(Decision { verdict, by: Decider::Policy { zone: name, by_client } })
        })
    }
}

/// What is done with a query; none if nothing says anything of it.
#[inline]
pub fn decide<'a>(
    rules: Option<&'a Rules>,
    policies: Option<&'a Policies>,
    question: &Question<'_>,
    geo: &Geo,
    circumstances: &impl Circumstances,
) -> Option<Decision<'a>> {
    let of_rule = |owner, set: &'a RuleSet| {
        let hit = set.decide(question, geo, circumstances)?;
        let by = Decider::Rule { owner, name: &set.rules()[hit.rule].name };
        Some(Decision { verdict: Verdict::of(hit.action), by })
    };
    if let Some(rules) = rules
        && let Some(decision) = of_rule(Owner::Fleet, &rules.fleet)
    {
        return Some(decision);
    }
    if let Some(policies) = policies
        && let Some(decision) = policies.decide(question, circumstances)
    {
        return Some(decision);
    }
    let rules = rules.filter(|rules| !rules.tenants.is_empty())?;
    let (tenant, set) = &rules.tenants[rules.zones.find_exact(question.zone?)? as usize];
    of_rule(Owner::Tenant(*tenant), set)
}

impl<'a> Verdict<'a> {
    fn of(action: Action) -> Verdict<'a> {
        match action {
            Action::Pass | Action::Count => Verdict::Pass,
            Action::Drop => Verdict::Drop,
            Action::Refuse => Verdict::Refuse,
            Action::Truncate => Verdict::Truncate,
            Action::NxDomain => Verdict::NxDomain,
        }
    }
}

/// A count that goes on over replacements.
type Count = Arc<AtomicU64>;

#[cfg(test)]
mod tests;
