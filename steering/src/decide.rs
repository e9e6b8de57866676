//! Which answer a client gets.

use std::net::IpAddr;

use herald_core::Rtype;
use herald_core::steering::Prefix;

use crate::geo::{Facts, Geo, widest};
use crate::part::hash::fold;
use crate::part::octets::Reader;
use crate::part::policy::{Asked, Condition, Conditions, Rules, relative};
use crate::part::pool::{Among, Chosen, PoolAnswers, unit_vector};
use crate::part::table::Key;
use crate::part::{Kind, Part, policy_key};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Where the query comes from.
    pub source: IpAddr,
    /// The network that the resolver says its client is in, with the length that it gave (RFC 7871).
    pub ecs: Option<Prefix>,
    /// The PoP that answers, as [`crate::pop_hash`] of its name.
    pub pop: u64,
    /// A random number: what is left to chance depends on it alone.
    pub draw: u64,
}

impl Client {
    /// The address that rules for places and prefixes look at, and that sticky draws are made from.
    pub(crate) fn rule_address(&self, part: &Part) -> IpAddr {
        // A network of length zero tells of nobody: its resolver doesn't want it to be told (RFC 7871 §7.1.2).
        let ecs = self.ecs.filter(|ecs| part.settings().ecs && ecs.length() > 0);
        ecs.map_or(self.source, |ecs| ecs.address())
    }
}

/// What comes of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub outcome: Outcome,
    /// If the query had a client subnet and the zone uses it: the length of the shortest prefix that contains the client in which
    /// everybody gets the same decision.
    pub scope: Option<u8>,
    /// What identifies the pool that answers, zero if none does.
    pub pool: u64,
    /// What identifies the policy, zero if there is none.
    pub policy: u64,
}

/// The answer of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No policy is at the name for the type.
    NotSteered,
    /// No rule is for the client, or none of its pools can answer.
    NoData,
    /// What was appended.
    Answer {
        /// TTL, in seconds.
        ttl: u32,
        /// Type.
        rtype: Rtype,
        /// Number of RDATAs.
        count: u16,
    },
    /// There was no room for what would have been appended: the answer can't be given.
    NoRoom,
}

/// Is told how a decision comes about. What it does by default is nothing, so that it costs nothing where nobody wants to know.
pub trait Trace {
    /// Whether somebody wants to know of facts and candidates too, which takes time to find out.
    const WANTS_DETAILS: bool = false;

    /// There is a policy: at the name itself, or at the wildcard below its ancestor of so many labels less.
    fn policy(&mut self, labels_less: Option<usize>) {
        let _ = labels_less;
    }
    /// What is known of the address that rules look at. A detail; called if a rule asks.
    fn facts(&mut self, address: IpAddr, facts: &Facts) {
        let _ = (address, facts);
    }
    /// What came of a rule.
    fn rule(&mut self, number: usize, verdict: RuleVerdict) {
        let _ = (number, verdict);
    }
    /// What came of a pool of the rule that matched.
    fn pool(&mut self, number: usize, verdict: PoolVerdict) {
        let _ = (number, verdict);
    }
    /// The pool that answers, and the candidates in it. A detail.
    fn answers(&mut self, pool: &PoolAnswers<'_>, candidates: Candidates<'_>) {
        let _ = (pool, candidates);
    }
}

/// Nobody wants to know.
impl Trace for () {}

/// What came of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleVerdict {
    /// It is for this client.
    Matched,
    /// The first condition that wasn't met.
    Unmet(Condition),
    /// It asks for the nearest endpoint, and the client's place isn't known.
    PlaceUnknown,
}

/// What came of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolVerdict {
    /// It answers.
    Answers,
    /// It doesn't exist, or has no endpoint that can answer with this type.
    Nothing,
    /// It has so many endpoints that can answer, and is to have more.
    TooFew(usize),
    /// The nearest endpoint is asked for, and none of those that can answer has a place.
    NoPlace,
}

/// The candidates of the pool that answers.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pool: &'a PoolAnswers<'a>,
    among: Among,
    /// The address that sticky draws are made from.
    pub address: IpAddr,
    /// The draw that chooses among them.
    pub draw: u64,
}

impl Candidates<'_> {
    /// Whether the draw makes a difference.
    pub fn is_choice(&self) -> bool {
        self.pool.has_choice(self.among)
    }

    /// Whether a candidate of the pool is in question.
    pub fn contains(&self, candidate: usize) -> bool {
        self.pool.is_among(candidate, self.among)
    }

    /// The candidates that a draw chooses.
    pub fn chosen(&self, draw: u64) -> Vec<usize> {
        let mut picks = [0; 256];
        match self.pool.pick(self.among, draw, &mut picks) {
            Some(picks) => picks.iter().map(|pick| usize::from(*pick)).collect(),
            None => (0..self.pool.candidates()).filter(|place| self.contains(*place)).collect(),
        }
    }
}

impl Part {
    /// Decides what a client gets at a name and type. `owner` is in wire format and lower case: the name as it was asked for, also where
    /// a policy at a wildcard is for it. RDATAs are appended to `out` as knotd's RRsets have them (each: length as u16 in native order,
    /// octets, a zero if they are odd in number), in canonical order, each once, and never beyond the capacity of `out`.
    #[inline]
    pub fn decide<T: Trace>(
        &self,
        owner: &[u8],
        rtype: Rtype,
        client: &Client,
        geo: &Geo,
        out: &mut Vec<u8>,
        trace: &mut T,
    ) -> Decision {
        let Some((policy, rules, labels_less)) = self.policy(owner, rtype) else {
            return Decision { outcome: Outcome::NotSteered, scope: None, pool: 0, policy: 0 };
        };
        trace.policy(labels_less);
        Decision { policy, ..self.decide_by(rules, rtype, client, geo, out, trace) }
    }

    /// What rules decide.
    #[inline]
    pub(crate) fn decide_by<T: Trace>(
        &self,
        rules: Rules<'_>,
        rtype: Rtype,
        client: &Client,
        geo: &Geo,
        out: &mut Vec<u8>,
        trace: &mut T,
    ) -> Decision {
        let mut asker =
            Asker { part: self, client, address: None, place: None, asn: None, geo, trace: &mut *trace };
        let route = self.route(rules, &mut asker);
        let scope = if self.settings().ecs {
            client.ecs.map(|ecs| self.scope(rules, &route, client, ecs, geo))
        } else {
            None
        };
        let Some(pool) = &route.pool else {
            return Decision { outcome: Outcome::NoData, scope, pool: 0, policy: 0 };
        };
        let mut draw = client.draw;
        if pool.answers.is_sticky() {
            draw = pool.answers.sticky_draw(pool.hash, client.rule_address(self));
        }
        if T::WANTS_DETAILS {
            let address = client.rule_address(self);
            trace
                .answers(&pool.answers, Candidates { pool: &pool.answers, among: pool.among, address, draw });
        }
        let outcome = match pool.answers.choose(pool.among, draw, out) {
            Chosen::Count(count) => Outcome::Answer { ttl: pool.answers.ttl, rtype, count },
            Chosen::NoRoom => Outcome::NoRoom,
        };
        Decision { outcome, scope, pool: pool.hash, policy: 0 }
    }

    /// The hash and the rules of the policy for a name and type: its own, or those of the nearest wildcard that covers it.
    #[inline]
    fn policy(&self, owner: &[u8], rtype: Rtype) -> Option<(u64, Rules<'_>, Option<usize>)> {
        let relative = relative(owner, self.apex())?;
        if let Some((hash, body)) = self.table.get_hashed(&policy_key(relative, rtype)) {
            return Some((hash, Rules(Reader(body)), None));
        }
        let mut rest = relative;
        let mut labels_less = 0;
        loop {
            let (label_bytes, after) = rest.split_first()?;
            rest = after.get(usize::from(*label_bytes)..)?;
            labels_less += 1;
            let key = Key { kind: Kind::WildPolicy, rtype: rtype.to_int(), name: rest };
            if let Some((hash, body)) = self.table.get_hashed(&key) {
                return Some((hash, Rules(Reader(body)), Some(labels_less)));
            }
        }
    }

    /// The first rule that is for the client, and the first of its pools that can answer.
    #[inline]
    fn route<'a, T: Trace>(&'a self, rules: Rules<'a>, asker: &mut Asker<'_, T>) -> Route<'a> {
        let mut looked_at_client = false;
        for (number, rule) in rules.enumerate() {
            looked_at_client |= rule.looks_at_client();
            if let Some(unmet) = rule.conditions.unmet(asker) {
                asker.trace.rule(number, RuleVerdict::Unmet(unmet));
                continue;
            }
            let mut from = None;
            if rule.is_nearest() {
                from = asker.place().location.and_then(unit_vector);
                if from.is_none() {
                    asker.trace.rule(number, RuleVerdict::PlaceUnknown);
                    continue;
                }
            }
            asker.trace.rule(number, RuleVerdict::Matched);
            let pool = self.first_pool(rule.pools, from, asker.trace);
            return Route { rule: number, pool, looked_at_client };
        }
        Route { rule: usize::MAX, pool: None, looked_at_client }
    }

    #[inline]
    fn first_pool<'a>(
        &'a self,
        pools: &[[u8; 8]],
        from: Option<[f32; 3]>,
        trace: &mut impl Trace,
    ) -> Option<RoutedPool<'a>> {
        for (number, hash) in pools.iter().enumerate() {
            let hash = u64::from_le_bytes(*hash);
            let answers = self.table.get_hash(hash).and_then(|(_, body)| PoolAnswers::read(body));
            let Some(answers) = answers else {
                trace.pool(number, PoolVerdict::Nothing);
                continue;
            };
            if !answers.can_answer() {
                trace.pool(number, PoolVerdict::TooFew(answers.candidates()));
                continue;
            }
            let among = match from {
                None => Some(Among::All),
                Some(from) => answers.nearest(from),
            };
            let Some(among) = among else {
                trace.pool(number, PoolVerdict::NoPlace);
                continue;
            };
            trace.pool(number, PoolVerdict::Answers);
            return Some(RoutedPool { hash, answers, among });
        }
        None
    }

    /// The length of the shortest prefix that contains the client in which everybody is led to the same.
    fn scope(&self, rules: Rules<'_>, route: &Route<'_>, client: &Client, ecs: Prefix, geo: &Geo) -> u8 {
        if ecs.length() == 0 {
            return 0;
        }
        let sticky = route.pool.as_ref().and_then(|pool| {
            pool.answers.sticky_length(ecs.address()).filter(|_| pool.answers.has_choice(pool.among))
        });
        let led = if route.looked_at_client {
            // What later rules ask makes no difference before one of these does.
            let asking = rules.take(route.rule.saturating_add(1));
            let outcome = |address: IpAddr, facts: &Facts| {
                let (address, place, asn) = (Some(address), Some(facts), Some(facts.asn));
                let mut asker = Asker { part: self, client, address, place, asn, geo, trace: &mut () };
                self.route(rules, &mut asker).hash()
            };
            widest(
                geo,
                ecs.address(),
                asking.clone().flat_map(|rule| rule.places()),
                asking.flat_map(|rule| rule.prefixes()),
                outcome,
            )
        } else {
            0
        };
        led.max(sticky.unwrap_or(0))
    }
}

/// Where rules lead a client.
struct Route<'a> {
    rule: usize,
    pool: Option<RoutedPool<'a>>,
    /// Whether a rule up to this one asks something of the client.
    looked_at_client: bool,
}

struct RoutedPool<'a> {
    hash: u64,
    answers: PoolAnswers<'a>,
    among: Among,
}

impl Route<'_> {
    /// Equal for those who are led to the same.
    fn hash(&self) -> u64 {
        let target = self.pool.as_ref().map_or(0, |pool| pool.hash ^ pool.answers.among_hash(pool.among));
        fold(target ^ 0x9e37_79b9_7f4a_7c15, self.rule as u64 ^ 0xd6e8_feb8_6659_fd93)
    }
}

/// A client whom rules are asked for. What there is to know of it is found out when a rule asks.
struct Asker<'a, T> {
    part: &'a Part,
    client: &'a Client,
    /// If it isn't the client's.
    address: Option<IpAddr>,
    place: Option<&'a Facts>,
    asn: Option<u32>,
    geo: &'a Geo,
    trace: &'a mut T,
}

impl<T: Trace> Asked for Asker<'_, T> {
    #[inline]
    fn address(&self) -> IpAddr {
        self.address.unwrap_or_else(|| self.client.rule_address(self.part))
    }

    #[inline]
    fn place(&mut self) -> &Facts {
        if let Some(place) = self.place {
            return place;
        }
        self.tell();
        self.place.insert(self.geo.place(self.address()))
    }

    #[inline]
    fn asn(&mut self) -> u32 {
        if let Some(asn) = self.asn {
            return asn;
        }
        self.tell();
        *self.asn.insert(self.geo.asn(self.address()))
    }

    #[inline]
    fn pop(&self) -> u64 {
        self.client.pop
    }

    fn is_in_view(&self, view: u64) -> bool {
        let view = self.part.table.get_hash(view);
        view.is_some_and(|(_, body)| Conditions(Reader(body)).is_inside(self.client.source, self.client.pop))
    }
}

impl<T: Trace> Asker<'_, T> {
    /// Tells what is known, the first time that something is asked.
    #[inline]
    fn tell(&mut self) {
        if T::WANTS_DETAILS && self.place.is_none() && self.asn.is_none() {
            let address = self.address();
            self.trace.facts(address, &self.geo.facts(address));
        }
    }
}
