//! Which answer a client gets.

use std::net::IpAddr;
use std::ops::Range;

use herald_core::Rtype;
use herald_core::steering::{Prefix, WhenAllDown};

use crate::geo::{Ask, Basis, Decider, Facts, Known, Led, widest};
use crate::health::{Knowledge, Verdicts};
use crate::part::hash::fold;
use crate::part::octets::Reader;
use crate::part::policy::{Asked, CompiledRule, Condition, Conditions, Rules, relative};
use crate::part::pool::{Among, Chosen, PoolAnswers, Set, unit_vector};
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
    /// So many of its endpoints are up, and more are to be.
    TooFewUp(usize),
    /// The nearest endpoint is asked for, and none of those that can answer has a place.
    NoPlace,
    /// It answers although too few are up, as in all pools of the rule. It is told of after all of these were.
    LastResort,
}

/// The candidates of the pool that answers.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pool: &'a PoolAnswers<'a>,
    among: &'a Among<'a>,
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
        known: &Knowledge<'_>,
        out: &mut Vec<u8>,
        trace: &mut T,
    ) -> Decision {
        let Some((policy, rules, labels_less)) = self.policy(owner, rtype) else {
            return Decision { outcome: Outcome::NotSteered, scope: None, pool: 0, policy: 0 };
        };
        trace.policy(labels_less);
        Decision { policy, ..self.decide_by(rules, rtype, client, known, out, trace) }
    }

    /// What rules decide.
    #[inline]
    pub(crate) fn decide_by<T: Trace>(
        &self,
        rules: Rules<'_>,
        rtype: Rtype,
        client: &Client,
        known: &Knowledge<'_>,
        out: &mut Vec<u8>,
        trace: &mut T,
    ) -> Decision {
        let ecs = client.ecs.filter(|_| self.settings().ecs);
        let up = &mut Set::default();
        let route = match ecs {
            // A network of length zero tells of nobody.
            Some(ecs) if ecs.length() > 0 && rules.look_at_client() => {
                self.route_and_scope(rules, client, ecs, known, trace, up)
            }
            None | Some(_) if rules.look_at_client() && !T::WANTS_DETAILS => {
                self.known_route(rules, client, known, trace, up)
            }
            None | Some(_) => self.route(rules, &mut Asker::new(self, client, known, trace), up),
        };
        let scope = ecs.map(|ecs| match ecs.length() {
            0 => 0,
            _ => route.length.max(route.sticky_length(ecs.address())),
        });
        let Some(pool) = &route.pool else {
            return Decision { outcome: Outcome::NoData, scope, pool: 0, policy: 0 };
        };
        let mut draw = client.draw;
        if pool.answers.is_sticky() {
            draw = pool.answers.sticky_draw(pool.hash, client.rule_address(self));
        }
        if T::WANTS_DETAILS {
            let address = client.rule_address(self);
            trace.answers(
                &pool.answers,
                Candidates { pool: &pool.answers, among: &pool.among, address, draw },
            );
        }
        let outcome = match pool.answers.choose(&pool.among, draw, out) {
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
            return Some((hash, Rules::read(body), None));
        }
        let mut rest = relative;
        let mut labels_less = 0;
        loop {
            let (label_bytes, after) = rest.split_first()?;
            rest = after.get(usize::from(*label_bytes)..)?;
            labels_less += 1;
            let key = Key { kind: Kind::WildPolicy, rtype: rtype.to_int(), name: rest };
            if let Some((hash, body)) = self.table.get_hashed(&key) {
                return Some((hash, Rules::read(body), Some(labels_less)));
            }
        }
    }

    /// The first rule that is for the client, and the first of its pools that can answer.
    #[inline]
    fn route<'a, T: Trace>(
        &'a self,
        rules: Rules<'a>,
        asker: &mut Asker<'_, T>,
        up: &'a mut Set,
    ) -> Route<'a> {
        let mut is_by_location = false;
        let mut asked = 0;
        for (number, rule) in rules.enumerate() {
            asked = number + 1;
            if let Some(unmet) = rule.conditions.unmet(asker) {
                asker.trace.rule(number, RuleVerdict::Unmet(unmet));
                continue;
            }
            let mut from = None;
            if rule.is_nearest() {
                is_by_location = true;
                from = asker.place().location.and_then(unit_vector);
                if from.is_none() {
                    asker.trace.rule(number, RuleVerdict::PlaceUnknown);
                    continue;
                }
            }
            asker.trace.rule(number, RuleVerdict::Matched);
            let verdicts = asker.known.health.of(rule.is_local());
            let pool = self.first_pool(&rule, from, verdicts, asker.trace, up);
            return Route { asked, is_by_location, length: 0, pool };
        }
        Route { asked, is_by_location, length: 0, pool: None }
    }

    #[inline(always)]
    fn first_pool<'a>(
        &'a self,
        rule: &CompiledRule<'_>,
        from: Option<[f32; 3]>,
        verdicts: &Verdicts,
        trace: &mut impl Trace,
        up: &'a mut Set,
    ) -> Option<RoutedPool<'a>> {
        let mut is_any_down = false;
        for (number, hash) in rule.pools.iter().enumerate() {
            let hash = u64::from_le_bytes(*hash);
            let Some(answers) = self.pool(hash) else {
                trace.pool(number, PoolVerdict::Nothing);
                continue;
            };
            if !answers.can_answer() {
                trace.pool(number, PoolVerdict::TooFew(answers.candidates()));
                continue;
            }
            let is_some_down = answers.is_some_down(verdicts, up);
            if is_some_down && up.len() < answers.min_healthy() {
                is_any_down = true;
                trace.pool(number, PoolVerdict::TooFewUp(up.len()));
                continue;
            }
            let Some(nearest) = answers.nearest(is_some_down.then_some(&*up), from) else {
                trace.pool(number, PoolVerdict::NoPlace);
                continue;
            };
            trace.pool(number, PoolVerdict::Answers);
            let among = Among { set: is_some_down.then_some(&*up), nearest };
            return Some(RoutedPool { hash, answers, among });
        }
        if is_any_down { self.last_resort(rule, from, verdicts, trace, up) } else { None }
    }

    #[inline]
    fn pool(&self, hash: u64) -> Option<PoolAnswers<'_>> {
        self.table.get_hash(hash).and_then(|(_, body)| PoolAnswers::read(body))
    }

    /// What answers where no pool has as many endpoints up as it is to have.
    #[cold]
    fn last_resort<'a>(
        &'a self,
        rule: &CompiledRule<'_>,
        from: Option<[f32; 3]>,
        verdicts: &Verdicts,
        trace: &mut impl Trace,
        up: &'a mut Set,
    ) -> Option<RoutedPool<'a>> {
        let when_all_down = rule.when_all_down();
        let mut found: Option<(usize, u32, RoutedPool<'a>)> = None;
        for (number, hash) in rule.pools.iter().enumerate() {
            let hash = u64::from_le_bytes(*hash);
            let Some(answers) = self.pool(hash).filter(PoolAnswers::can_answer) else { continue };
            let (last, last_s) = match when_all_down {
                WhenAllDown::NoData => return None,
                WhenAllDown::ServeAll => (None, u32::MAX),
                WhenAllDown::ServeLast => {
                    let (set, last_s) = answers.last_up(verdicts);
                    (Some(set), last_s)
                }
            };
            if let Some(nearest) = answers.nearest(last.as_ref(), from)
                && found.as_ref().is_none_or(|(_, found_s, _)| last_s > *found_s)
            {
                *up = last.unwrap_or_default();
                found =
                    Some((number, last_s, RoutedPool { hash, answers, among: Among { set: None, nearest } }));
            }
        }
        let (number, _, mut pool) = found?;
        trace.pool(number, PoolVerdict::LastResort);
        if when_all_down == WhenAllDown::ServeLast {
            pool.among.set = Some(up);
        }
        Some(pool)
    }

    /// Where rules lead a client, with the length of the shortest prefix around it in which they lead everybody there.
    fn route_and_scope<'a, T: Trace>(
        &'a self,
        rules: Rules<'a>,
        client: &Client,
        ecs: Prefix,
        knowledge: &Knowledge<'_>,
        trace: &mut T,
        up: &'a mut Set,
    ) -> Route<'a> {
        let geo = knowledge.geo;
        let asker = &mut Asker::new(self, client, knowledge, trace);
        let Some((epoch, basis)) = self.basis(rules, client, knowledge) else {
            // Endpoints go up or down this moment.
            return Route { length: ecs.length(), ..self.route(rules, asker, up) };
        };
        let known = geo.known_scope(basis, ecs.address());
        if let Some(Known { length, pool: Some(hash) }) = known
            && !T::WANTS_DETAILS
        {
            return self.route_to(hash, length);
        }
        let mut route = self.route(rules, asker, up);
        route.length = known.map(|known| known.length).unwrap_or_else(|| {
            let decider = Wondering { part: self, rules, client, knowledge };
            let length = widest(geo, ecs.address(), route.led(), &decider);
            geo.keep_scope(basis, ecs.address(), Known { length, pool: route.certain_pool() });
            length
        });
        if knowledge.health.epoch() != Some(epoch) {
            // What changed in between may have led others elsewhere than the client. What was kept is of before, and not asked for again.
            route.length = ecs.length();
        }
        route
    }

    /// Where rules lead a client whose network isn't told: addresses that ask again and again are remembered.
    #[inline]
    fn known_route<'a, T: Trace>(
        &'a self,
        rules: Rules<'a>,
        client: &Client,
        knowledge: &Knowledge<'_>,
        trace: &mut T,
        up: &'a mut Set,
    ) -> Route<'a> {
        let geo = knowledge.geo;
        let asker = &mut Asker::new(self, client, knowledge, trace);
        let Some((_, basis)) = self.basis(rules, client, knowledge) else {
            return self.route(rules, asker, up);
        };
        let address = asker.address();
        if let Some(hash) = geo.known_pool(basis, address) {
            return self.route_to(hash, 0);
        }
        let route = self.route(rules, asker, up);
        if let Some(hash) = route.certain_pool() {
            geo.keep_pool(basis, address, hash);
        }
        route
    }

    /// What a decision by these rules depends on besides the client's address and the table of places, at this moment, and the moment's
    /// number; none while endpoints go up or down.
    #[inline]
    fn basis(&self, rules: Rules<'_>, client: &Client, knowledge: &Knowledge<'_>) -> Option<(u64, Basis)> {
        let epoch = knowledge.health.epoch()?;
        Some((epoch, Basis { part: self.stamp(), epoch, asked: asked_hash(rules, client) }))
    }

    /// To all of a pool, or nowhere if it is zero. How many rules were asked doesn't matter any more.
    #[inline]
    fn route_to(&self, hash: u64, length: u8) -> Route<'_> {
        let pool = self.pool(hash).map(|answers| RoutedPool { hash, answers, among: Among::ALL });
        Route { asked: 0, is_by_location: false, length, pool }
    }
}

/// The hash of rules, and of what they ask for besides the address that they look at.
fn asked_hash(rules: Rules<'_>, client: &Client) -> u64 {
    let mut hash = fold(rules.hash ^ 0x9e37_79b9_7f4a_7c15, client.pop ^ 0xd6e8_feb8_6659_fd93);
    if rules.ask_for_views() {
        let (upper, lower) = match client.source {
            IpAddr::V4(v4) => (4, v4.to_bits().into()),
            IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, v6.to_bits() as u64),
        };
        hash = fold(hash ^ upper, lower ^ 0x9e37_79b9_7f4a_7c15);
    }
    hash
}

/// Where other addresses than the client's are led.
struct Wondering<'a> {
    part: &'a Part,
    rules: Rules<'a>,
    client: &'a Client,
    knowledge: &'a Knowledge<'a>,
}

impl<'a> Decider<'a> for Wondering<'a> {
    fn led(&self, address: IpAddr) -> Led {
        let mut nobody = ();
        let asker = Asker::new(self.part, self.client, self.knowledge, &mut nobody);
        let mut asker = Asker { address: Some(address), ..asker };
        self.part.route(self.rules, &mut asker, &mut Set::default()).led()
    }

    fn asks(&self, rules: Range<usize>, each: &mut dyn FnMut(usize, Ask<'a>) -> bool) {
        for (number, rule) in self.rules.enumerate().take(rules.end).skip(rules.start) {
            rule.asks(&mut |ask| each(number, ask));
        }
    }
}

/// Where rules lead a client.
struct Route<'a> {
    /// How many rules were asked, up to the one that is for it.
    asked: usize,
    /// Whether one asked for coordinates.
    is_by_location: bool,
    /// The length of the shortest prefix around the client in which everybody is led there, if its network is told and matters.
    length: u8,
    pool: Option<RoutedPool<'a>>,
}

struct RoutedPool<'a> {
    hash: u64,
    answers: PoolAnswers<'a>,
    among: Among<'a>,
}

impl Route<'_> {
    fn led(&self) -> Led {
        let outcome = self.pool.as_ref().map_or(0, |pool| pool.hash ^ pool.answers.among_hash(&pool.among));
        let candidates = match &self.pool {
            Some(pool) if self.is_by_location => pool.answers.candidates(),
            _ => 0,
        };
        let work = RULE_WORK * self.asked + CANDIDATE_WORK * candidates;
        Led { outcome, rules: self.asked, is_by_location: self.is_by_location, work }
    }

    /// The pool, or zero if there is none, unless only some of it are in question.
    fn certain_pool(&self) -> Option<u64> {
        match &self.pool {
            None => Some(0),
            Some(pool) => pool.among.is_all().then_some(pool.hash),
        }
    }

    /// Where draws depend on the client's network, caches mustn't share beyond it.
    fn sticky_length(&self, address: IpAddr) -> u8 {
        let sticky = self.pool.as_ref().and_then(|pool| {
            pool.answers.sticky_length(address).filter(|_| pool.answers.has_choice(&pool.among))
        });
        sticky.unwrap_or(0)
    }
}

/// Instructions that it takes to ask a rule, and to find out how far a candidate is, about.
const RULE_WORK: usize = 200;
const CANDIDATE_WORK: usize = 150;

/// A client whom rules are asked for. What there is to know of it is found out when a rule asks.
struct Asker<'a, T> {
    part: &'a Part,
    client: &'a Client,
    /// The address that rules look at, if it isn't the client's.
    address: Option<IpAddr>,
    place: Option<&'a Facts>,
    asn: Option<u32>,
    known: &'a Knowledge<'a>,
    trace: &'a mut T,
}

impl<'a, T> Asker<'a, T> {
    #[inline]
    fn new(part: &'a Part, client: &'a Client, known: &'a Knowledge<'a>, trace: &'a mut T) -> Asker<'a, T> {
        Asker { part, client, address: None, place: None, asn: None, known, trace }
    }
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
        self.place.insert(self.known.geo.place(self.address()))
    }

    #[inline]
    fn asn(&mut self) -> u32 {
        if let Some(asn) = self.asn {
            return asn;
        }
        self.tell();
        *self.asn.insert(self.known.geo.asn(self.address()))
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
            self.trace.facts(address, &self.known.geo.facts(address));
        }
    }
}
