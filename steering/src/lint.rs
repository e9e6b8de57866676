//! What is odd about a policy: nothing that is forbidden, but most likely not what was meant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use herald_core::rdata::format_rtype;
use herald_core::steering::{
    City, EndpointState, Policy, Pool, Prefix, Rule, Subdivision, View, When, WhenIsolated,
};
use herald_core::{MonitorId, Rtype};

use crate::continents::{CONTINENTS, continent_of};
use crate::part::pool::candidates;

/// Answers that may fail over are better not kept for longer, in seconds.
const FAILOVER_TTL_S_MAX: u32 = 60;

/// What a policy refers to.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The zone's pools.
    pub pools: &'a BTreeMap<String, Pool>,
    /// The zone's views.
    pub views: &'a BTreeMap<String, View>,
    /// The names of all PoPs, if they are known.
    pub pops: Option<&'a BTreeSet<String>>,
    /// Those of the monitors that pools name which are there, if that is known.
    pub monitors: Option<&'a BTreeSet<MonitorId>>,
}

/// Something odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// The rule, counted from zero; none if it is about the policy as a whole.
    pub rule: Option<usize>,
    /// What it is.
    pub problem: Problem,
}

/// What is odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Whoever it is for meets one of these earlier rules.
    Shadowed(Vec<usize>),
    /// Nobody can meet all that it asks.
    Contradiction(String),
    /// It asks for a view that doesn't exist.
    UnknownView(String),
    /// It asks for a PoP that doesn't exist.
    UnknownPop(String),
    /// It leads to a pool that doesn't exist.
    UnknownPool(String),
    /// It leads to a pool that can't answer.
    PoolCannotAnswer(String, CannotAnswer),
    /// It asks for the nearest endpoint, and none of those of the pool that can answer has coordinates.
    NoCoordinates(String),
    /// Its endpoints may go down, and its answers are kept for so many seconds.
    SlowFailover(String, u32),
    /// An endpoint of a pool goes by a monitor that is gone.
    NoMonitor {
        /// The pool.
        pool: String,
        /// The endpoint.
        endpoint: String,
        /// The monitor.
        monitor: MonitorId,
    },
    /// Isolated PoPs go by their own probes of its pools, of which none is monitored.
    NothingToProbe,
    /// None of its pools can answer: whoever it is for gets no records.
    NoAnswer,
    /// The same thing twice.
    Duplicate(String),
    /// No rule is for these clients: they get no records.
    FallsThrough(String),
}

/// Why a pool can't answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotAnswer {
    /// No endpoint has records of the type.
    NoRecords(Rtype),
    /// All endpoints that have some are disabled.
    AllDisabled,
    /// There are only so many endpoints that can answer, and more are wanted.
    TooFew {
        /// How many can.
        can: usize,
        /// How many are to.
        wanted: u16,
    },
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            Some(rule) => write!(f, "rule {}: {}", rule + 1, self.problem),
            None => self.problem.fmt(f),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Shadowed(by) => {
                let by: Vec<String> = by.iter().map(|rule| (rule + 1).to_string()).collect();
                let rules = if by.len() == 1 { "rule" } else { "rules" };
                write!(f, "it can never match: whoever it is for is met by {rules} {} before", by.join(", "))
            }
            Problem::Contradiction(why) => write!(f, "it can never match: {why}"),
            Problem::UnknownView(view) => write!(f, "there is no view `{view}`"),
            Problem::UnknownPop(pop) => write!(f, "there is no PoP `{pop}`"),
            Problem::UnknownPool(pool) => write!(f, "there is no pool `{pool}`"),
            Problem::PoolCannotAnswer(pool, CannotAnswer::NoRecords(rtype)) => {
                write!(f, "no endpoint of the pool `{pool}` has records of type {}", format_rtype(*rtype))
            }
            Problem::PoolCannotAnswer(pool, CannotAnswer::AllDisabled) => {
                write!(f, "all endpoints of the pool `{pool}` that could answer are disabled")
            }
            Problem::PoolCannotAnswer(pool, CannotAnswer::TooFew { can, wanted }) => {
                write!(f, "the pool `{pool}` is to have {wanted} endpoints that can answer, and has {can}")
            }
            Problem::NoCoordinates(pool) => {
                write!(f, "the nearest endpoint is asked for, and none of the pool `{pool}` has coordinates")
            }
            Problem::SlowFailover(pool, ttl_s) => {
                let most = FAILOVER_TTL_S_MAX;
                write!(
                    f,
                    "the pool `{pool}` is monitored, and its TTL of {ttl_s} s keeps clients at what is down: {most} s at most is better"
                )
            }
            Problem::NoMonitor { pool, endpoint, monitor } => {
                write!(
                    f,
                    "the endpoint {endpoint} of the pool `{pool}` counts as up: its monitor {monitor} is gone"
                )
            }
            Problem::NothingToProbe => {
                write!(
                    f,
                    "an isolated PoP is to go by its own probes, and no endpoint of its pools has a monitor"
                )
            }
            Problem::NoAnswer => write!(f, "none of its pools can answer: whoever it is for gets no records"),
            Problem::Duplicate(what) => write!(f, "{what}"),
            Problem::FallsThrough(whom) => write!(f, "no rule is for {whom}: they get no records"),
        }
    }
}

/// What is odd about a policy for answers of a type.
pub fn lint(policy: &Policy, rtype: Rtype, around: &Surroundings<'_>) -> Vec<Lint> {
    let mut lints = Vec::new();
    // Rules that somebody can meet.
    let mut earlier: Vec<(usize, &Rule)> = Vec::new();
    for (number, rule) in policy.rules.iter().enumerate() {
        let mut say = |problem: Problem| lints.push(Lint { rule: Some(number), problem });
        unknown_names(&rule.when, around, &mut say);
        duplicates(rule, &mut say);
        pools(rule, rtype, around, &mut say);
        if let Some(why) = contradiction(&rule.when, around) {
            say(Problem::Contradiction(why));
        } else if let Some(by) = shadows(rule, &earlier) {
            say(Problem::Shadowed(by));
        } else {
            earlier.push((number, rule));
        }
    }
    let named = policy.rules.iter().flat_map(|rule| &rule.pools).filter_map(|name| around.pools.get(name));
    let mut endpoints = named.flat_map(|pool| &pool.endpoints);
    if policy.when_isolated == WhenIsolated::Local && endpoints.all(|endpoint| endpoint.monitor.is_none()) {
        lints.push(Lint { rule: None, problem: Problem::NothingToProbe });
    }
    let rules: Vec<&Rule> = earlier.into_iter().map(|(_, rule)| rule).collect();
    if let Some(whom) = falls_through(&rules) {
        lints.push(Lint { rule: None, problem: Problem::FallsThrough(whom) });
    }
    lints
}

fn unknown_names(when: &When, around: &Surroundings<'_>, say: &mut impl FnMut(Problem)) {
    for view in when.views.iter().filter(|view| !around.views.contains_key(*view)) {
        say(Problem::UnknownView(view.clone()));
    }
    if let Some(pops) = around.pops {
        for pop in when.pops.iter().filter(|pop| !pops.contains(*pop)) {
            say(Problem::UnknownPop(pop.clone()));
        }
    }
}

fn duplicates(rule: &Rule, say: &mut impl FnMut(Problem)) {
    fn twice<T: Ord + Clone>(list: &[T], show: impl Fn(&T) -> String, say: &mut impl FnMut(Problem)) {
        let mut sorted = list.to_vec();
        sorted.sort();
        let repeated: BTreeSet<&T> =
            sorted.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
        repeated
            .into_iter()
            .for_each(|one| say(Problem::Duplicate(format!("{} is listed twice", show(one)))));
    }
    let when = &rule.when;
    twice(&when.continents, |code| format!("the continent {}", code.escape_ascii()), say);
    twice(&when.countries, |code| format!("the country {}", code.escape_ascii()), say);
    twice(&when.subdivisions, |one| format!("the subdivision {one}"), say);
    let cities: Vec<String> = when.cities.iter().map(city_text).collect();
    twice(&cities, |city| format!("the city {city}"), say);
    twice(&when.asns, |asn| format!("AS{asn}"), say);
    twice(&when.pops, |pop| format!("the PoP `{pop}`"), say);
    twice(&when.views, |view| format!("the view `{view}`"), say);
    twice(&rule.pools, |pool| format!("the pool `{pool}`"), say);
    twice(&when.prefixes, |prefix| format!("the prefix {prefix}"), say);
    // In this order a prefix comes right before those in it.
    let mut sorted = when.prefixes.clone();
    sorted.sort_by_key(|prefix| (prefix.address(), prefix.length()));
    sorted.dedup();
    let mut last: Option<Prefix> = None;
    for prefix in sorted {
        match last {
            Some(last) if last.contains(prefix.address()) => {
                say(Problem::Duplicate(format!("the prefix {prefix} is in {last}, which is listed too")));
            }
            _ => last = Some(prefix),
        }
    }
}

fn city_text(city: &City) -> String {
    match city {
        City::GeoNames(number) => number.to_string(),
        City::Named { name, country } => format!("{}, {}", name.to_lowercase(), country.escape_ascii()),
    }
}

fn pools(rule: &Rule, rtype: Rtype, around: &Surroundings<'_>, say: &mut impl FnMut(Problem)) {
    let mut can_answer = false;
    for name in &rule.pools {
        let Some(pool) = around.pools.get(name) else {
            say(Problem::UnknownPool(name.clone()));
            continue;
        };
        if let Some(why) = cannot_answer(pool, rtype) {
            say(Problem::PoolCannotAnswer(name.clone(), why));
            continue;
        }
        let has_place =
            |place: &usize| pool.endpoints.get(*place).is_some_and(|endpoint| endpoint.location.is_some());
        if rule.nearest && !candidates(pool, rtype).iter().any(has_place) {
            say(Problem::NoCoordinates(name.clone()));
            continue;
        }
        let is_gone = |monitor: &MonitorId| around.monitors.is_some_and(|known| !known.contains(monitor));
        for endpoint in &pool.endpoints {
            if let Some(monitor) = endpoint.monitor.filter(is_gone) {
                let (pool, endpoint) = (name.clone(), endpoint.name.clone());
                say(Problem::NoMonitor { pool, endpoint, monitor });
            }
        }
        if pool.ttl > FAILOVER_TTL_S_MAX && pool.endpoints.iter().any(|endpoint| endpoint.monitor.is_some()) {
            say(Problem::SlowFailover(name.clone(), pool.ttl));
        }
        can_answer = true;
    }
    if !can_answer {
        say(Problem::NoAnswer);
    }
}

/// Why a pool can't answer with a type; none if it can.
pub fn cannot_answer(pool: &Pool, rtype: Rtype) -> Option<CannotAnswer> {
    let can = candidates(pool, rtype).len();
    if can >= usize::from(pool.min_healthy.max(1)) {
        return None;
    }
    let mut having = pool.endpoints.iter().filter(|endpoint| {
        endpoint.records.iter().any(|records| records.rtype == rtype && !records.rdatas.is_empty())
    });
    Some(match having.next() {
        None => CannotAnswer::NoRecords(rtype),
        Some(first) if can == 0 && first.state == EndpointState::Disabled => CannotAnswer::AllDisabled,
        Some(_) => CannotAnswer::TooFew { can, wanted: pool.min_healthy.max(1) },
    })
}

/// Why nobody can meet all that is asked.
fn contradiction(when: &When, around: &Surroundings<'_>) -> Option<String> {
    let in_countries = |country: [u8; 2]| when.countries.is_empty() || when.countries.contains(&country);
    // A country whose continent isn't known may be anywhere.
    let in_continents = |country: [u8; 2]| {
        when.continents.is_empty()
            || continent_of(country).is_none_or(|continent| when.continents.contains(&continent))
    };
    if !when.countries.is_empty() && !when.countries.iter().any(|country| in_continents(*country)) {
        return Some("none of the countries is in one of the continents".into());
    }
    let is_possible = |country: [u8; 2]| in_countries(country) && in_continents(country);
    if !when.subdivisions.is_empty() && !when.subdivisions.iter().any(|one| is_possible(one.country)) {
        return Some("none of the subdivisions is in one of the countries or continents".into());
    }
    let is_city_possible = |city: &City| match city {
        City::GeoNames(_) => true,
        City::Named { country, .. } => {
            let in_subdivisions = when.subdivisions.is_empty()
                || when.subdivisions.iter().any(|subdivision| subdivision.country == *country);
            is_possible(*country) && in_subdivisions
        }
    };
    if !when.cities.is_empty() && !when.cities.iter().any(is_city_possible) {
        return Some("none of the cities is in one of the countries, subdivisions or continents".into());
    }
    if !when.views.is_empty() {
        let known = || when.views.iter().filter_map(|view| around.views.get(view));
        if known().next().is_none() {
            return Some("none of the views exists".into());
        }
        let is_at = |view: &View| view.pops.is_empty() || view.pops.iter().any(|pop| when.pops.contains(pop));
        if !when.pops.is_empty() && !known().any(is_at) {
            return Some("none of the views is at one of the PoPs".into());
        }
    }
    if let Some(pops) = around.pops
        && !when.pops.is_empty()
        && !when.pops.iter().any(|pop| pops.contains(pop))
    {
        return Some("none of the PoPs exists".into());
    }
    None
}

/// The earlier rules that meet everybody whom a rule is for; none if somebody is left.
fn shadows(rule: &Rule, earlier: &[(usize, &Rule)]) -> Option<Vec<usize>> {
    let shadowing = |when: &When| {
        // A rule for the nearest endpoint lets those go on whose place isn't known.
        let mut earlier = earlier.iter().filter(|(_, earlier)| !earlier.nearest || rule.nearest);
        earlier.find(|(_, earlier)| implies(when, &earlier.when)).map(|(number, _)| *number)
    };
    if let Some(by) = shadowing(&rule.when) {
        return Some(vec![by]);
    }
    // One alternative after the other may be met by different ones.
    for narrowed in alternatives(&rule.when) {
        let by: Option<BTreeSet<usize>> = narrowed.iter().map(&shadowing).collect();
        if let Some(by) = by.filter(|by| !by.is_empty()) {
            return Some(by.into_iter().collect());
        }
    }
    None
}

/// For each kind of condition: what is asked, with each of its alternatives alone.
fn alternatives(when: &When) -> Vec<Vec<When>> {
    fn each<T: Clone>(when: &When, list: &[T], set: impl Fn(&mut When, T)) -> Vec<When> {
        let alone = |one: &T| {
            let mut when = when.clone();
            set(&mut when, one.clone());
            when
        };
        list.iter().map(alone).collect()
    }
    vec![
        each(when, &when.continents, |when, one| when.continents = vec![one]),
        each(when, &when.countries, |when, one| when.countries = vec![one]),
        each(when, &when.subdivisions, |when, one| when.subdivisions = vec![one]),
        each(when, &when.cities, |when, one| when.cities = vec![one]),
        each(when, &when.asns, |when, one| when.asns = vec![one]),
        each(when, &when.prefixes, |when, one| when.prefixes = vec![one]),
        each(when, &when.pops, |when, one| when.pops = vec![one]),
        each(when, &when.views, |when, one| when.views = vec![one]),
    ]
}

/// Whether everybody who meets one meets the other.
fn implies(one: &When, other: &When) -> bool {
    fn all<T>(list: &[T], is_met: impl Fn(&T) -> bool) -> bool {
        !list.is_empty() && list.iter().all(is_met)
    }
    let countries = |is_met: &dyn Fn([u8; 2]) -> bool| {
        all(&one.countries, |country| is_met(*country))
            || all(&one.subdivisions, |subdivision: &Subdivision| is_met(subdivision.country))
            || all(&one.cities, |city| match city {
                City::GeoNames(_) => false,
                City::Named { country, .. } => is_met(*country),
            })
    };
    let in_continents = other.continents.is_empty()
        || all(&one.continents, |continent| other.continents.contains(continent))
        || countries(&|country| {
            continent_of(country).is_some_and(|continent| other.continents.contains(&continent))
        });
    let in_countries = other.countries.is_empty() || countries(&|country| other.countries.contains(&country));
    let cities: Vec<String> = other.cities.iter().map(city_text).collect();
    in_continents
        && in_countries
        && (other.subdivisions.is_empty() || all(&one.subdivisions, |this| other.subdivisions.contains(this)))
        && (other.cities.is_empty() || all(&one.cities, |city| cities.contains(&city_text(city))))
        && (other.asns.is_empty() || all(&one.asns, |asn| other.asns.contains(asn)))
        && (other.prefixes.is_empty()
            || all(&one.prefixes, |prefix| {
                let holds =
                    |other: &Prefix| other.contains(prefix.address()) && other.length() <= prefix.length();
                other.prefixes.iter().any(holds)
            }))
        && (other.pops.is_empty() || all(&one.pops, |pop| other.pops.contains(pop)))
        && (other.views.is_empty() || all(&one.views, |view| other.views.contains(view)))
}

/// Whom none of these rules is for, in words; none if everybody has one.
fn falls_through(rules: &[&Rule]) -> Option<String> {
    if rules.iter().any(|rule| rule.when.is_any() && !rule.nearest) {
        return None;
    }
    if rules.is_empty() {
        return Some("anybody".into());
    }
    // Where each rule asks one thing, those who are left are those of whom none is true.
    let asks_one = rules.iter().all(|rule| {
        let when = &rule.when;
        let asked = [
            when.continents.is_empty(),
            when.countries.is_empty(),
            when.subdivisions.is_empty(),
            when.cities.is_empty(),
            when.asns.is_empty(),
            when.prefixes.is_empty(),
            when.pops.is_empty(),
            when.views.is_empty(),
            !rule.nearest,
        ];
        asked.iter().filter(|is_not| !**is_not).count() == 1
    });
    if !asks_one {
        return Some("clients who don't meet all that one of the rules asks".into());
    }
    let any = |is_asked: fn(&When) -> bool| rules.iter().any(|rule| is_asked(&rule.when));
    let continents: BTreeSet<[u8; 2]> =
        rules.iter().flat_map(|rule| rule.when.continents.iter().copied()).collect();
    let is_everywhere = continents.len() >= CONTINENTS || rules.iter().any(|rule| rule.nearest);
    let mut listed = Vec::new();
    let mut asks_place = rules.iter().any(|rule| rule.nearest);
    for (is_asked, what) in [
        (any(|when| !when.continents.is_empty()), "continent"),
        (any(|when| !when.countries.is_empty()), "country"),
        (any(|when| !when.subdivisions.is_empty()), "subdivision"),
        (any(|when| !when.cities.is_empty()), "city"),
    ] {
        asks_place |= is_asked;
        if is_asked && !is_everywhere {
            listed.push(what);
        }
    }
    let mut whom = Vec::new();
    let asks_asn = any(|when| !when.asns.is_empty());
    if asks_asn {
        listed.push("autonomous system");
    }
    if any(|when| !when.prefixes.is_empty()) {
        listed.push("prefix");
    }
    if any(|when| !when.views.is_empty()) {
        listed.push("view");
    }
    if !listed.is_empty() {
        whom.push(format!("in no listed {}", join(&listed)));
    }
    if any(|when| !when.pops.is_empty()) {
        whom.push("at no listed PoP".into());
    }
    let mut text = whom.join(" and ");
    if asks_place {
        // Those of whom nothing is known are in no listed place either, and worth a word.
        text.push_str(if text.is_empty() {
            "whose place isn't known"
        } else {
            ", or whose place isn't known"
        });
    }
    Some(format!("clients {text}"))
}

/// `a, b or c`.
fn join(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use herald_core::Rdatas;
    use herald_core::steering::{AnswerMode, Endpoint, EndpointRecords, Location};

    use super::*;

    fn pool(endpoints: &[(EndpointState, bool)]) -> Pool {
        let endpoint = |(place, (state, is_located)): (usize, &(EndpointState, bool))| Endpoint {
            name: format!("e{place}"),
            records: vec![EndpointRecords { rtype: Rtype::A, rdatas: Rdatas::single(&[192, 0, 2, 1]) }],
            weight: 1,
            state: *state,
            location: is_located.then_some(Location { latitude: 1.0, longitude: 1.0 }),
            bias: 0,
            monitor: None,
        };
        let endpoints = endpoints.iter().enumerate().map(endpoint).collect();
        Pool { ttl: 60, answer: AnswerMode::One, sticky: None, min_healthy: 0, endpoints }
    }

    #[test]
    fn monitors_are_there_and_asked_for() {
        let endpoint = |monitor| {
            let mut pool = pool(&[(EndpointState::Enabled, false)]);
            pool.endpoints[0].monitor = monitor;
            pool
        };
        let views = BTreeMap::new();
        let monitors = BTreeSet::from([MonitorId(7)]);
        let said = |monitor: Option<u32>, when_isolated| {
            let pools = BTreeMap::from([("web".to_owned(), endpoint(monitor.map(MonitorId)))]);
            let around = Surroundings { pools: &pools, views: &views, pops: None, monitors: Some(&monitors) };
            let rule = Rule { name: None, when: When::default(), pools: vec!["web".into()], nearest: false };
            let policy = Policy { when_isolated, ..Policy::of_rules(vec![rule]) };
            lint(&policy, Rtype::A, &around).iter().map(Lint::to_string).collect::<Vec<_>>()
        };
        assert_eq!(said(Some(7), WhenIsolated::Local), [""; 0]);
        assert_eq!(said(None, WhenIsolated::Hold), [""; 0]);
        assert_eq!(
            said(None, WhenIsolated::Local),
            ["an isolated PoP is to go by its own probes, and no endpoint of its pools has a monitor"]
        );
        assert_eq!(
            said(Some(8), WhenIsolated::Hold),
            ["rule 1: the endpoint e0 of the pool `web` counts as up: its monitor 8 is gone"]
        );
    }

    fn check(rules: &[(When, bool)], pools: &[&str]) -> Vec<String> {
        let known = BTreeMap::from([
            ("good".to_owned(), pool(&[(EndpointState::Enabled, false)])),
            ("placed".to_owned(), pool(&[(EndpointState::Enabled, true)])),
            ("off".to_owned(), pool(&[(EndpointState::Disabled, true)])),
            ("few".to_owned(), Pool { min_healthy: 2, ..pool(&[(EndpointState::Enabled, true)]) }),
        ]);
        let views =
            BTreeMap::from([("office".to_owned(), View { prefixes: Vec::new(), pops: vec!["ams".into()] })]);
        let pops = BTreeSet::from(["ams".to_owned(), "fra".to_owned()]);
        let monitors = BTreeSet::from([MonitorId(7)]);
        let around =
            Surroundings { pools: &known, views: &views, pops: Some(&pops), monitors: Some(&monitors) };
        let pools: Vec<String> = pools.iter().map(|pool| (*pool).to_owned()).collect();
        let rule = |(when, nearest): &(When, bool)| Rule {
            name: None,
            when: when.clone(),
            pools: pools.clone(),
            nearest: *nearest,
        };
        let policy = Policy::of_rules(rules.iter().map(rule).collect());
        lint(&policy, Rtype::A, &around).iter().map(Lint::to_string).collect()
    }

    fn countries(codes: &[&[u8; 2]]) -> When {
        When { countries: codes.iter().map(|code| **code).collect(), ..When::default() }
    }

    fn continents(codes: &[&[u8; 2]]) -> When {
        When { continents: codes.iter().map(|code| **code).collect(), ..When::default() }
    }

    fn prefixes(texts: &[&str]) -> When {
        When { prefixes: texts.iter().map(|text| text.parse().unwrap()).collect(), ..When::default() }
    }

    fn pops(names: &[&str]) -> When {
        When { pops: names.iter().map(|name| (*name).to_owned()).collect(), ..When::default() }
    }

    fn views(names: &[&str]) -> When {
        When { views: names.iter().map(|name| (*name).to_owned()).collect(), ..When::default() }
    }

    #[test]
    fn rules_that_can_never_match() {
        let all = When::default();
        let never = |rules: &[When]| -> Vec<String> {
            let mut rules: Vec<(When, bool)> = rules.iter().map(|when| (when.clone(), false)).collect();
            rules.push((When::default(), false));
            check(&rules, &["good"])
        };
        let by = |rules: &str| format!("it can never match: whoever it is for is met by {rules} before");
        assert_eq!(
            never(&[continents(&[b"EU"]), countries(&[b"US"]), countries(&[b"CA", b"US", b"MX"])]),
            [""; 0]
        );
        assert_eq!(
            never(&[all, countries(&[b"US"])]),
            [format!("rule 2: {}", by("rule 1")), format!("rule 3: {}", by("rule 1")),]
        );
        assert_eq!(
            never(&[continents(&[b"EU"]), countries(&[b"DE", b"FR"])]),
            [format!("rule 2: {}", by("rule 1"))]
        );
        assert_eq!(
            never(&[countries(&[b"DE"]), continents(&[b"AS"]), countries(&[b"DE", b"JP"])]),
            [format!("rule 3: {}", by("rules 1, 2"))]
        );
        let berlin = City::Named { name: "Berlin".into(), country: *b"DE" };
        let berlin = When { cities: vec![berlin], ..When::default() };
        assert_eq!(never(&[countries(&[b"DE"]), berlin]), [format!("rule 2: {}", by("rule 1"))]);
        assert_eq!(
            never(&[prefixes(&["10.0.0.0/8"]), prefixes(&["10.1.0.0/16", "10.2.0.0/16"])]),
            [format!("rule 2: {}", by("rule 1"))]
        );
        assert_eq!(never(&[prefixes(&["10.1.0.0/16"]), prefixes(&["10.0.0.0/8"])]), [""; 0]);
        let both = When { continents: vec![*b"EU"], ..countries(&[b"US"]) };
        assert_eq!(
            never(&[both]),
            ["rule 1: it can never match: none of the countries is in one of the continents"]
        );
        let elsewhere = When { pops: vec!["fra".into()], ..views(&["office"]) };
        assert_eq!(
            never(&[elsewhere]),
            ["rule 1: it can never match: none of the views is at one of the PoPs"]
        );
        assert_eq!(
            never(&[views(&["nowhere"]), pops(&["nyc"])]),
            [
                "rule 1: there is no view `nowhere`",
                "rule 1: it can never match: none of the views exists",
                "rule 2: there is no PoP `nyc`",
                "rule 2: it can never match: none of the PoPs exists",
            ]
        );
    }

    #[test]
    fn a_rule_for_the_nearest_shadows_only_its_like() {
        let nearest = |rules: &[(When, bool)]| check(rules, &["placed"]);
        let all = When::default();
        assert_eq!(nearest(&[(all.clone(), true), (all.clone(), false)]), [""; 0]);
        assert_eq!(
            nearest(&[(all.clone(), true), (countries(&[b"DE"]), true), (all.clone(), false)]),
            ["rule 2: it can never match: whoever it is for is met by rule 1 before"]
        );
        assert_eq!(
            nearest(&[(all, true)]),
            ["no rule is for clients whose place isn't known: they get no records"]
        );
    }

    #[test]
    fn pools_that_can_not_answer() {
        let all = [(When::default(), false)];
        assert_eq!(
            check(&all, &["off", "good"]),
            ["rule 1: all endpoints of the pool `off` that could answer are disabled"]
        );
        assert_eq!(
            check(&all, &["few", "missing"]),
            [
                "rule 1: the pool `few` is to have 2 endpoints that can answer, and has 1",
                "rule 1: there is no pool `missing`",
                "rule 1: none of its pools can answer: whoever it is for gets no records",
            ]
        );
        assert_eq!(
            check(&[(When::default(), true), (When::default(), false)], &["good"])[0],
            "rule 1: the nearest endpoint is asked for, and none of the pool `good` has coordinates"
        );
        assert_eq!(check(&all, &["good", "good"]), ["rule 1: the pool `good` is listed twice"]);
    }

    #[test]
    fn who_falls_through() {
        let whom = |rules: &[When]| -> String {
            let rules: Vec<(When, bool)> = rules.iter().map(|when| (when.clone(), false)).collect();
            check(&rules, &["good"]).pop().unwrap_or_default()
        };
        assert_eq!(whom(&[When::default()]), "");
        assert_eq!(whom(&[]), "no rule is for anybody: they get no records");
        assert_eq!(
            whom(&[countries(&[b"DE"]), continents(&[b"AS"])]),
            "no rule is for clients in no listed continent or country, or whose place isn't known: they get no records"
        );
        assert_eq!(
            whom(&[continents(&[b"AF", b"AN", b"AS", b"EU", b"NA", b"OC", b"SA"])]),
            "no rule is for clients whose place isn't known: they get no records"
        );
        assert_eq!(
            whom(&[prefixes(&["10.0.0.0/8"]), pops(&["ams"])]),
            "no rule is for clients in no listed prefix and at no listed PoP: they get no records"
        );
        assert_eq!(
            whom(&[When { pops: vec!["ams".into()], ..countries(&[b"DE"]) }]),
            "no rule is for clients who don't meet all that one of the rules asks: they get no records"
        );
        assert_eq!(
            whom(&[prefixes(&["10.0.0.0/8", "10.1.0.0/16"]), When::default()]),
            "rule 1: the prefix 10.1.0.0/16 is in 10.0.0.0/8, which is listed too"
        );
    }
}
