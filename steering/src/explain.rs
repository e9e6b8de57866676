//! How a decision comes about, in words that an API can give: the same code decides, and is watched.

use std::collections::BTreeMap;
use std::net::IpAddr;

use herald_core::steering::{
    EndpointState, Item, Policy, Pool, Prefix, Settings, View, WhenIsolated, policy_key, pool_key,
    settings_key, view_key,
};
use herald_core::{MonitorId, Name, RrKey, Rtype};

use crate::decide::{Candidates, Client, Decision, Outcome, PoolVerdict, RuleVerdict, Trace};
use crate::geo::Facts;
use crate::health::{Knowledge, Verdicts};
use crate::part::hash::stream;
use crate::part::policy::Conditions;
use crate::part::pool::{PoolAnswers, ordered_candidates};
use crate::part::{CompileError, Part};

/// Up to so many candidates the odds of answers of several endpoints are exact.
const EXACT_CANDIDATES: usize = 12;

/// Draws that odds are estimated by, where there are more.
const ESTIMATE_DRAWS: u64 = 20_000;

/// Where the draws of estimates begin: always here, so that an explanation is the same each time.
const ESTIMATE_SEED: u64 = 0x6865_7261_6c64;

/// What is asked, and what the zone has for it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The zone.
    pub apex: &'a Name,
    /// The zone's settings.
    pub settings: &'a Settings,
    /// The name that is asked for.
    pub name: &'a Name,
    /// The type that the policy answers.
    pub rtype: Rtype,
    /// The name that has the policy: the one asked for, or a wildcard that covers it.
    pub owner: &'a Name,
    /// The policy.
    pub policy: &'a Policy,
    /// The zone's pools, those of the policy at least.
    pub pools: &'a BTreeMap<String, Pool>,
    /// The zone's views.
    pub views: &'a BTreeMap<String, View>,
}

/// How a decision came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What the module answers with the draw that was given; with none, with one that isn't told.
    pub decision: Decision,
    /// The address that rules for places and prefixes looked at, and what is known of it; none if no rule asked for its place.
    pub facts: Option<(IpAddr, Facts)>,
    /// The views that the source of the query is in.
    pub views: Vec<String>,
    /// The rules in order, up to the one that matched.
    pub rules: Vec<RuleExplained>,
    /// Whether the last of these matched.
    pub is_matched: bool,
    /// The pools of the rule that matched, up to the one that answers.
    pub pools: Vec<PoolExplained>,
    /// RDATAs that can be answered with, and how likely each is to be in an answer, from 0 to 1.
    pub answers: Vec<AnswerOdds>,
    /// Whether odds are exact; they are estimated where several of many endpoints are drawn.
    pub odds_are_exact: bool,
    /// The network that gets the same answer each time, if the pool is sticky.
    pub sticky: Option<Prefix>,
    /// The answer, if the draw was given or makes no difference.
    pub answer: Option<Chosen>,
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleExplained {
    /// Its place in the policy, from zero.
    pub number: usize,
    /// What the tenant calls it.
    pub name: Option<String>,
    /// What came of it.
    pub verdict: RuleVerdict,
}

/// What came of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolExplained {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub verdict: PoolVerdict,
    /// Its endpoints in their order.
    pub endpoints: Vec<EndpointExplained>,
}

/// What came of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointExplained {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub verdict: EndpointVerdict,
    /// How likely it is in an answer, from 0 to 1.
    pub odds: f64,
    /// What says whether it is up.
    pub monitor: Option<MonitorId>,
    /// Since when it is down, in seconds since the epoch; none if it counts as up.
    pub down_since_s: Option<u32>,
}

/// What came of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointVerdict {
    /// It can be in the answer.
    Candidate,
    /// It has no records of the type.
    NoRecords,
    /// It is disabled.
    Disabled,
    /// It is drained, and others aren't.
    Drained,
    /// Its weight is zero, and others have one.
    NoWeight,
    /// Another one is nearer, or it has no place.
    NotNearest,
    /// It is down.
    Down,
    /// It could, but its pool is passed over.
    PoolPassedOver,
}

/// How likely an RDATA is in an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerOdds {
    /// The RDATA, in wire format.
    pub rdata: Vec<u8>,
    /// From 0 to 1.
    pub odds: f64,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The endpoints in it, in their order in the pool.
    pub endpoints: Vec<String>,
    /// The RDATAs, in canonical order.
    pub rdatas: Vec<Vec<u8>>,
    /// TTL, in seconds.
    pub ttl: u32,
}

/// Explains which answer a client gets. `client.draw` counts if `is_drawn`.
///
/// # Errors
/// [`CompileError`] if the items aren't such as a PoP would take.
pub fn explain(
    question: &Question<'_>,
    client: &Client,
    is_drawn: bool,
    known: &Knowledge<'_>,
) -> Result<Explanation, CompileError> {
    let part = compile(question)?;
    let verdicts = known.health.of(question.policy.when_isolated == WhenIsolated::Local);
    let (rules, pools) = (Vec::new(), Vec::new());
    let mut watch = Watch { question, verdicts, facts: None, rules, pools, answering: 0, drawn: None };
    let mut out = Vec::with_capacity(usize::from(u16::MAX) * 2);
    let decision = part.decide(question.name.as_wire(), question.rtype, client, known, &mut out, &mut watch);
    let drawn = watch.drawn.take().unwrap_or_default();
    let ttl = match decision.outcome {
        Outcome::Answer { ttl, .. } => ttl,
        _ => 0,
    };
    let chosen = Chosen { endpoints: drawn.endpoints, rdatas: drawn.rdatas, ttl };
    let is_decided = is_drawn || drawn.is_certain;
    let address = client.rule_address(&part);
    let is_inside = |view: &View| {
        let mut conditions = Vec::new();
        crate::part::policy::write_view(view, &mut conditions).is_ok()
            && Conditions::of(&conditions).is_inside(client.source, client.pop)
    };
    let inside = question.views.iter().filter(|(_, view)| is_inside(view));
    Ok(Explanation {
        decision,
        facts: watch.facts,
        views: inside.map(|(name, _)| name.clone()).collect(),
        is_matched: watch.rules.last().is_some_and(|rule| rule.verdict == RuleVerdict::Matched),
        rules: watch.rules,
        pools: watch.pools,
        answers: drawn.answers,
        odds_are_exact: drawn.is_exact,
        sticky: drawn.sticky_length.and_then(|length| Prefix::new(address, length)),
        answer: (is_decided && matches!(decision.outcome, Outcome::Answer { .. })).then_some(chosen),
    })
}

fn compile(question: &Question<'_>) -> Result<Part, CompileError> {
    let misplaced = |owner: &Name, rtype| CompileError::Misplaced(RrKey::new(owner.clone(), rtype));
    let mut items = Vec::new();
    items.push((settings_key(question.apex), Item::Settings(question.settings.clone())));
    let key = policy_key(question.owner, question.rtype)
        .ok_or_else(|| misplaced(question.owner, question.rtype))?;
    items.push((key, Item::Policy(question.rtype, question.policy.clone())));
    for (name, pool) in question.pools {
        let key = pool_key(question.apex, name)
            .map_err(|_| misplaced(question.apex, herald_core::steering::POOL))?;
        items.push((key, Item::Pool(pool.clone())));
    }
    for (name, view) in question.views {
        let key = view_key(question.apex, name)
            .map_err(|_| misplaced(question.apex, herald_core::steering::VIEW))?;
        items.push((key, Item::View(view.clone())));
    }
    Part::of_items(question.apex, items)
}

/// Notes what happens.
struct Watch<'a> {
    question: &'a Question<'a>,
    verdicts: &'a Verdicts,
    facts: Option<(IpAddr, Facts)>,
    rules: Vec<RuleExplained>,
    pools: Vec<PoolExplained>,
    /// The number of the pool that answers.
    answering: usize,
    drawn: Option<Drawn>,
}

#[derive(Default)]
struct Drawn {
    answers: Vec<AnswerOdds>,
    is_exact: bool,
    /// Whether no draw but this one can be.
    is_certain: bool,
    sticky_length: Option<u8>,
    endpoints: Vec<String>,
    rdatas: Vec<Vec<u8>>,
}

impl<'a> Watch<'a> {
    /// The pool of this number in the rule that matched.
    fn pool_of(&self, number: usize) -> Option<(&'a str, Option<&'a Pool>)> {
        let rule = self.question.policy.rules.get(self.rules.last()?.number)?;
        let name = rule.pools.get(number)?;
        Some((name, self.question.pools.get(name)))
    }
}

impl Trace for Watch<'_> {
    const WANTS_DETAILS: bool = true;

    fn facts(&mut self, address: IpAddr, facts: &Facts) {
        self.facts = Some((address, *facts));
    }

    fn rule(&mut self, number: usize, verdict: RuleVerdict) {
        let name = self.question.policy.rules.get(number).and_then(|rule| rule.name.clone());
        self.rules.push(RuleExplained { number, name, verdict });
    }

    fn pool(&mut self, number: usize, verdict: PoolVerdict) {
        let Some((name, pool)) = self.pool_of(number) else { return };
        let of_pool = |pool| endpoints(pool, self.question.rtype, self.verdicts);
        let endpoints = pool.map(of_pool).unwrap_or_default();
        let mut explained = PoolExplained { name: name.to_owned(), verdict, endpoints };
        if matches!(verdict, PoolVerdict::Answers | PoolVerdict::LastResort) {
            self.answering = number;
        } else {
            let passed = explained.endpoints.iter_mut();
            passed.filter(|endpoint| endpoint.verdict == EndpointVerdict::Candidate).for_each(|endpoint| {
                endpoint.verdict = match endpoint.down_since_s {
                    Some(_) => EndpointVerdict::Down,
                    None => EndpointVerdict::PoolPassedOver,
                }
            });
        }
        // Of a last resort it was told before that too few of it are up.
        match self.pools.get_mut(number) {
            Some(pool) => *pool = explained,
            None => self.pools.push(explained),
        }
    }

    fn answers(&mut self, answers: &PoolAnswers<'_>, candidates: Candidates<'_>) {
        let Some((_, Some(pool))) = self.pool_of(self.answering) else { return };
        // Candidates are numbered in the order of their RDATAs, endpoints in the tenant's.
        let places = ordered_candidates(pool, self.question.rtype);
        let odds = odds(answers, &candidates);
        if let Some(explained) = self.pools.get_mut(self.answering) {
            for (candidate, place) in places.iter().enumerate() {
                let Some(endpoint) = explained.endpoints.get_mut(*place) else { continue };
                endpoint.odds = odds.endpoints.get(candidate).copied().unwrap_or_default();
                if !candidates.contains(candidate) {
                    endpoint.verdict = match endpoint.down_since_s {
                        Some(_) => EndpointVerdict::Down,
                        None => EndpointVerdict::NotNearest,
                    };
                }
            }
        }
        let chosen = candidates.chosen(candidates.draw);
        let mut in_answer: Vec<usize> =
            chosen.iter().filter_map(|candidate| places.get(*candidate).copied()).collect();
        in_answer.sort_unstable();
        let endpoint_name = |place: &usize| pool.endpoints.get(*place).map(|endpoint| endpoint.name.clone());
        let octets = |number: u16| answers.rdata(number).map(<[u8]>::to_vec).unwrap_or_default();
        let sticky_length = answers.sticky_length(candidates.address);
        self.drawn = Some(Drawn {
            answers: odds
                .rdatas
                .into_iter()
                .map(|(number, odds)| AnswerOdds { rdata: octets(number), odds })
                .collect(),
            is_exact: odds.is_exact,
            is_certain: sticky_length.is_some() || !candidates.is_choice(),
            sticky_length,
            endpoints: in_answer.iter().filter_map(endpoint_name).collect(),
            rdatas: union(answers, &chosen).into_iter().map(octets).collect(),
        });
    }
}

/// What is to be said of a pool's endpoints before one is drawn.
fn endpoints(pool: &Pool, rtype: Rtype, verdicts: &Verdicts) -> Vec<EndpointExplained> {
    let candidates = ordered_candidates(pool, rtype);
    let explain = |(place, endpoint): (usize, &herald_core::steering::Endpoint)| {
        let has_records =
            endpoint.records.iter().any(|records| records.rtype == rtype && !records.rdatas.is_empty());
        let verdict = if !has_records {
            EndpointVerdict::NoRecords
        } else if candidates.contains(&place) {
            EndpointVerdict::Candidate
        } else {
            let is_of_enabled = candidates.iter().any(|other| {
                pool.endpoints.get(*other).is_some_and(|other| other.state == EndpointState::Enabled)
            });
            match endpoint.state {
                EndpointState::Disabled => EndpointVerdict::Disabled,
                EndpointState::Drained if is_of_enabled => EndpointVerdict::Drained,
                EndpointState::Drained | EndpointState::Enabled => EndpointVerdict::NoWeight,
            }
        };
        let down_since_s = endpoint.monitor.and_then(|monitor| verdicts.down_since(monitor));
        EndpointExplained {
            name: endpoint.name.clone(),
            verdict,
            odds: 0.0,
            monitor: endpoint.monitor,
            down_since_s,
        }
    };
    pool.endpoints.iter().enumerate().map(explain).collect()
}

/// How likely candidates, and RDATAs by their numbers, are in an answer.
struct Odds {
    endpoints: Vec<f64>,
    rdatas: BTreeMap<u16, f64>,
    is_exact: bool,
}

fn odds(pool: &PoolAnswers<'_>, candidates: &Candidates<'_>) -> Odds {
    let mut odds = Odds { endpoints: vec![0.0; pool.candidates()], rdatas: BTreeMap::new(), is_exact: true };
    let mut note = |chosen: &[usize], probability: f64| {
        for candidate in chosen {
            if let Some(odds) = odds.endpoints.get_mut(*candidate) {
                *odds += probability;
            }
        }
        for number in union(pool, chosen) {
            *odds.rdatas.entry(number).or_default() += probability;
        }
    };
    let among: Vec<usize> = (0..pool.candidates()).filter(|place| candidates.contains(*place)).collect();
    match pool.answers() {
        _ if !candidates.is_choice() => note(&among, 1.0),
        Some(1) => {
            let total: f64 = among.iter().map(|candidate| f64::from(pool.weight(*candidate))).sum();
            among
                .iter()
                .for_each(|candidate| note(&[*candidate], f64::from(pool.weight(*candidate)) / total));
        }
        Some(count) if among.len() <= EXACT_CANDIDATES => {
            let weights: Vec<f64> =
                among.iter().map(|candidate| f64::from(pool.weight(*candidate))).collect();
            for (set, probability) in sets(&weights, u32::from(count)) {
                let members = among.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1);
                note(&members.map(|(_, candidate)| *candidate).collect::<Vec<_>>(), probability);
            }
        }
        _ => {
            for number in 0..ESTIMATE_DRAWS {
                note(&candidates.chosen(stream(ESTIMATE_SEED, number)), 1.0 / ESTIMATE_DRAWS as f64);
            }
            odds.is_exact = false;
        }
    }
    odds
}

/// The sets that so many picks by weight without repetition can come to, as bits, and how likely each is.
fn sets(weights: &[f64], picks: u32) -> BTreeMap<u32, f64> {
    let mut sets = BTreeMap::from([(0_u32, 1.0)]);
    for _ in 0..picks {
        let mut next = BTreeMap::new();
        for (set, probability) in sets {
            let left = || weights.iter().enumerate().filter(|(place, _)| set >> place & 1 == 0);
            let total: f64 = left().map(|(_, weight)| weight).sum();
            for (place, weight) in left() {
                *next.entry(set | 1 << place).or_default() += probability * weight / total;
            }
        }
        sets = next;
    }
    sets
}

/// The numbers of the RDATAs that these candidates have, each once, ascending.
fn union(pool: &PoolAnswers<'_>, chosen: &[usize]) -> Vec<u16> {
    let mut numbers: Vec<u16> = chosen.iter().flat_map(|candidate| pool.rdatas_of(*candidate)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
