//! Small zones and small worlds, drawn at random, and what a plain reading of the rules says of them.
#![allow(dead_code, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use herald_core::steering::{
    AnswerMode, City, Endpoint, EndpointRecords, EndpointState, Item, Location, Policy, Pool, Prefix, Rule,
    Settings, Sticky, Subdivision, View, When, WhenAllDown, WhenIsolated, policy_key, pool_key, settings_key,
    view_key,
};
use herald_core::{MonitorId, Name, Rdatas, RrKey, Rrset, Rtype};
use proptest::prelude::*;
use steering::geo::{Builder, Facts, Geo, city_name_hash};
use steering::{Client, Verdicts, pop_hash};

pub const TYPES: [Rtype; 4] = [Rtype::A, Rtype::AAAA, Rtype::CNAME, Rtype::TXT];
pub const POPS: [&str; 3] = ["ams", "fra", "nyc"];
pub const VIEWS: [&str; 3] = ["lab", "office", "none"];
pub const POOLS: [&str; 5] = ["p0", "p1", "p2", "p3", "none"];
pub const OWNERS: [&str; 6] = [
    "example.com",
    "www.example.com",
    "*.example.com",
    "*.w.example.com",
    "a.w.example.com",
    "x.y.example.com",
];
pub const ASKED: [&str; 9] = [
    "example.com",
    "www.example.com",
    "*.example.com",
    "a.w.example.com",
    "b.w.example.com",
    "c.b.w.example.com",
    "w.example.com",
    "x.y.example.com",
    "elsewhere.org",
];

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn apex() -> Name {
    name("example.com")
}

/// What a zone has.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    pub settings: Settings,
    pub pools: BTreeMap<String, Pool>,
    pub views: BTreeMap<String, View>,
    pub policies: BTreeMap<(Name, u16), Policy>,
}

impl Zone {
    pub fn rrsets(&self) -> BTreeMap<RrKey, Rrset> {
        let write = |item: Item| item.write().unwrap();
        let mut rrsets = BTreeMap::new();
        if self.settings != Settings::default() {
            rrsets.insert(settings_key(&apex()), write(Item::Settings(self.settings.clone())));
        }
        for (name, pool) in &self.pools {
            rrsets.insert(pool_key(&apex(), name).unwrap(), write(Item::Pool(pool.clone())));
        }
        for (name, view) in &self.views {
            rrsets.insert(view_key(&apex(), name).unwrap(), write(Item::View(view.clone())));
        }
        for ((owner, rtype), policy) in &self.policies {
            let rtype = Rtype::from_int(*rtype);
            rrsets.insert(policy_key(owner, rtype).unwrap(), write(Item::Policy(rtype, policy.clone())));
        }
        rrsets
    }

    /// The policy for a name: at it, or at the nearest wildcard above.
    pub fn policy(&self, asked: &Name, rtype: Rtype) -> Option<(Name, &Policy)> {
        if !asked.is_at_or_below(&apex()) {
            return None;
        }
        let at =
            |owner: Name| self.policies.get(&(owner.clone(), rtype.to_int())).map(|policy| (owner, policy));
        at(asked.clone()).or_else(|| {
            let mut ancestor = asked.clone();
            while ancestor != apex() {
                ancestor = ancestor.parent()?;
                if let Some(found) = at(ancestor.child("*").ok()?) {
                    return Some(found);
                }
            }
            None
        })
    }

    /// Whom a view holds.
    pub fn is_inside(&self, view: &str, client: &Client) -> bool {
        self.views.get(view).is_some_and(|view| {
            (view.prefixes.is_empty() || view.prefixes.iter().any(|prefix| prefix.contains(client.source)))
                && (view.pops.is_empty() || view.pops.iter().any(|pop| pop_hash(pop) == client.pop))
        })
    }

    fn meets(&self, when: &When, client: &Client, address: IpAddr, facts: &Facts) -> bool {
        fn any<T>(list: &[T], is_met: impl Fn(&T) -> bool) -> bool {
            list.is_empty() || list.iter().any(is_met)
        }
        any(&when.continents, |one| *one == facts.continent)
            && any(&when.countries, |one| *one == facts.country)
            && any(&when.subdivisions, |one| facts.subdivisions.contains(&Some(*one)))
            && any(&when.cities, |city| match city {
                City::GeoNames(number) => *number == facts.city,
                City::Named { name, country } => city_name_hash(*country, name) == facts.city_name,
            })
            && any(&when.asns, |asn| *asn == facts.asn)
            && any(&when.prefixes, |prefix| prefix.contains(address))
            && any(&when.pops, |pop| pop_hash(pop) == client.pop)
            && any(&when.views, |view| self.is_inside(view, client))
    }

    /// Where a policy leads an address.
    pub fn led(
        &self,
        policy: &Policy,
        rtype: Rtype,
        client: &Client,
        health: &Health,
        address: IpAddr,
        facts: &Facts,
    ) -> Option<Led> {
        let rule = policy.rules.iter().enumerate().find(|(_, rule)| {
            self.meets(&rule.when, client, address, facts) && (!rule.nearest || facts.location.is_some())
        });
        let (number, rule) = rule?;
        let from = if rule.nearest { facts.location } else { None };
        let down = match &health.local {
            Some(local) if policy.when_isolated == WhenIsolated::Local => local,
            _ => &health.down,
        };
        let since = |pool: &Pool, place: usize| {
            pool.endpoints[place].monitor.and_then(|monitor| down.get(&monitor)).copied()
        };
        // The endpoints that can be in the answers of a pool, of all that could be.
        let choose = |name: &String, is_in: &dyn Fn(&Pool, usize) -> bool, is_enough_wanted: bool| {
            let pool = self.pools.get(name)?;
            let mut endpoints = usable(pool, rtype)?;
            endpoints.retain(|place| is_in(pool, *place));
            if is_enough_wanted && endpoints.len() < usize::from(pool.min_healthy.max(1)) {
                return None;
            }
            let endpoints = among_nearest(pool, endpoints, from);
            (!endpoints.is_empty()).then(|| (name.clone(), endpoints))
        };
        let up = |pool: &Pool, place: usize| since(pool, place).is_none();
        let mut pool = rule.pools.iter().find_map(|name| choose(name, &up, true));
        let is_any_down = rule.pools.iter().filter_map(|name| self.pools.get(name)).any(|pool| {
            let usable = usable(pool, rtype).unwrap_or_default();
            let count = usable.iter().filter(|place| up(pool, **place)).count();
            !usable.is_empty() && count < usize::from(pool.min_healthy.max(1))
        });
        if pool.is_none() && is_any_down {
            pool = match policy.when_all_down {
                WhenAllDown::NoData => None,
                WhenAllDown::ServeAll => rule.pools.iter().find_map(|name| choose(name, &|_, _| true, false)),
                WhenAllDown::ServeLast => {
                    let rank = |pool: &Pool, place: usize| since(pool, place).unwrap_or(u32::MAX);
                    let mut found: Option<(u32, (String, BTreeSet<usize>))> = None;
                    for name in &rule.pools {
                        let Some(pool) = self.pools.get(name) else { continue };
                        let usable = usable(pool, rtype).unwrap_or_default();
                        let Some(last) = usable.iter().map(|place| rank(pool, *place)).max() else {
                            continue;
                        };
                        let is_last = |pool: &Pool, place: usize| rank(pool, place) == last;
                        if let Some(chosen) = choose(name, &is_last, false)
                            && found.as_ref().is_none_or(|(best, _)| last > *best)
                        {
                            found = Some((last, chosen));
                        }
                    }
                    found.map(|(_, chosen)| chosen)
                }
            };
        }
        Some(Led { rule: number, pool })
    }
}

/// A rule, and a pool with the endpoints of it that are in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    pub rule: usize,
    pub pool: Option<(String, BTreeSet<usize>)>,
}

/// The endpoints that can answer when all are up, unless these are too few.
fn usable(pool: &Pool, rtype: Rtype) -> Option<BTreeSet<usize>> {
    let has_type = |endpoint: &Endpoint| endpoint.records.iter().any(|records| records.rtype == rtype);
    let of_state = |state: EndpointState| -> Vec<usize> {
        let endpoints = pool.endpoints.iter().enumerate();
        endpoints.filter(|(_, one)| one.state == state && has_type(one)).map(|(place, _)| place).collect()
    };
    let enabled = of_state(EndpointState::Enabled);
    let mut usable = if enabled.is_empty() { of_state(EndpointState::Drained) } else { enabled };
    if pool.answer != AnswerMode::All && usable.iter().any(|place| pool.endpoints[*place].weight > 0) {
        usable.retain(|place| pool.endpoints[*place].weight > 0);
    }
    if usable.len() < usize::from(pool.min_healthy.max(1)) {
        return None;
    }
    Some(usable.into_iter().collect())
}

/// Those of them that are nearest to a place, if one is given.
fn among_nearest(pool: &Pool, usable: BTreeSet<usize>, from: Option<Location>) -> BTreeSet<usize> {
    let Some(from) = from else { return usable };
    let far = |place: &usize| {
        let endpoint = &pool.endpoints[*place];
        endpoint.location.map(|location| great_circle(from, location) * factor(endpoint.bias))
    };
    let Some(least) = usable.iter().filter_map(far).min_by(f64::total_cmp) else { return BTreeSet::new() };
    usable.into_iter().filter(|place| far(place).is_some_and(|far| far - least < 1e-5)).collect()
}

fn factor(bias: i8) -> f64 {
    let bias = f64::from(bias) / 100.0;
    if bias >= 0.0 { 1.0 - bias } else { 1.0 / (1.0 + bias) }
}

/// The angle between two places, by the haversine formula.
fn great_circle(one: Location, other: Location) -> f64 {
    let radians = |degrees: f32| f64::from(degrees).to_radians();
    let (lat1, lat2) = (radians(one.latitude), radians(other.latitude));
    let half = |one: f64, other: f64| ((other - one) / 2.0).sin().powi(2);
    let square =
        half(lat1, lat2) + lat1.cos() * lat2.cos() * half(radians(one.longitude), radians(other.longitude));
    2.0 * square.sqrt().min(1.0).asin()
}

/// All answers that a choice among endpoints can have, each sorted.
pub fn possible(pool: &Pool, rtype: Rtype, endpoints: &BTreeSet<usize>) -> BTreeSet<Vec<Vec<u8>>> {
    let endpoints: Vec<usize> = endpoints.iter().copied().collect();
    let size = match pool.answer {
        AnswerMode::All => endpoints.len(),
        AnswerMode::One => 1,
        AnswerMode::UpTo(count) => endpoints.len().min(usize::from(count.max(1))),
    };
    let mut all = BTreeSet::new();
    for set in 0_u32..1 << endpoints.len() {
        if set.count_ones() as usize != size {
            continue;
        }
        let members = endpoints.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
        let rdatas: BTreeSet<Vec<u8>> = members
            .flat_map(|(_, place)| pool.endpoints[*place].records.iter())
            .filter(|records| records.rtype == rtype)
            .flat_map(|records| records.rdatas.iter().map(<[u8]>::to_vec))
            .collect();
        all.insert(rdatas.into_iter().collect());
    }
    all
}

/// RDATAs as the module has them, as octets each.
pub fn unpack(mut out: &[u8]) -> Vec<Vec<u8>> {
    let mut rdatas = Vec::new();
    while let Some((length, rest)) = out.split_first_chunk::<2>() {
        let length = usize::from(u16::from_ne_bytes(*length));
        rdatas.push(rest[..length].to_vec());
        out = &rest[length + length % 2..];
    }
    rdatas
}

/// The world: what is known of which network; the most specific one counts.
#[derive(Clone, Debug, Default)]
pub struct World(pub Vec<(Prefix, Facts)>);

impl World {
    pub fn facts(&self, address: IpAddr) -> Facts {
        let within = self.0.iter().filter(|(prefix, _)| prefix.contains(address));
        within.max_by_key(|(prefix, _)| prefix.length()).map(|(_, facts)| *facts).unwrap_or_default()
    }

    /// The table of it.
    pub fn geo(&self) -> Geo {
        let mut builder = Builder::default();
        for is_v4 in [true, false] {
            let starts: Vec<u128> =
                starts(self.0.iter().map(|(prefix, _)| *prefix), is_v4).into_iter().collect();
            for (place, first) in starts.iter().enumerate() {
                let all = if is_v4 { u128::from(u32::MAX) } else { u128::MAX };
                let last = starts.get(place + 1).map_or(all, |next| next - 1);
                let facts = self.facts(number_address(*first, is_v4));
                let record = builder.record(Facts { asn: 0, ..facts });
                if is_v4 {
                    builder.city4(*first as u32, last as u32, record).unwrap();
                    builder.asn4(*first as u32, last as u32, facts.asn).unwrap();
                } else {
                    builder.city6(*first, last, record).unwrap();
                    builder.asn6(*first, last, facts.asn).unwrap();
                }
            }
        }
        builder.finish()
    }
}

/// The first addresses of networks, and those after their last ones, and zero.
pub fn starts(prefixes: impl Iterator<Item = Prefix>, is_v4: bool) -> BTreeSet<u128> {
    let all = if is_v4 { u128::from(u32::MAX) } else { u128::MAX };
    let mut starts = BTreeSet::from([0]);
    for prefix in prefixes.filter(|prefix| prefix.address().is_ipv4() == is_v4) {
        let first = address_number(prefix.address());
        starts.insert(first);
        let last = first | all.checked_shr(prefix.length().into()).unwrap_or(0);
        if last < all {
            starts.insert(last + 1);
        }
    }
    starts
}

pub fn address_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

pub fn number_address(number: u128, is_v4: bool) -> IpAddr {
    if is_v4 { IpAddr::V4((number as u32).into()) } else { IpAddr::V6(number.into()) }
}

// Strategies.

pub fn address() -> impl Strategy<Value = IpAddr> {
    // Few bits differ, at both ends and in between, so that networks meet.
    let v4 = any::<u8>().prop_map(|bits| {
        let bits = u32::from(bits);
        let spread = (bits & 3) << 30 | (bits >> 2 & 3) << 15 | (bits >> 4 & 3) << 8 | bits >> 6 & 3;
        IpAddr::V4(spread.into())
    });
    let v6 = any::<u8>().prop_map(|bits| {
        let bits = u128::from(bits);
        let spread = (bits & 3) << 126 | (bits >> 2 & 3) << 80 | (bits >> 4 & 3) << 63 | bits >> 6 & 3;
        IpAddr::V6(spread.into())
    });
    prop_oneof![v4, v6]
}

pub fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), any::<prop::sample::Index>()).prop_map(|(address, index)| {
        let lengths: &[u8] = match address {
            IpAddr::V4(_) => &[0, 1, 2, 8, 16, 17, 23, 24, 30, 31, 32],
            IpAddr::V6(_) => &[0, 1, 2, 32, 47, 48, 56, 64, 65, 126, 127, 128],
        };
        Prefix::new(address, *index.get(lengths)).unwrap()
    })
}

fn location() -> impl Strategy<Value = Location> {
    prop::sample::select(vec![
        (0.0, 0.0),
        (52.37, 4.9),
        (50.11, 8.68),
        (40.71, -74.0),
        (-33.87, 151.2),
        (90.0, 0.0),
    ])
    .prop_map(|(latitude, longitude)| Location { latitude, longitude })
}

pub fn facts() -> impl Strategy<Value = Facts> {
    let place = prop::sample::select(vec![
        ("", "", "", 0, ""),
        ("EU", "", "", 0, ""),
        ("EU", "DE", "DE-HE", 1, "Springfield"),
        ("EU", "DE", "DE-BE", 2, "Berlin"),
        ("EU", "FR", "", 0, ""),
        ("NA", "US", "US-IL", 3, "Springfield"),
        ("NA", "US", "US-CA", 4, "Fresno"),
    ]);
    (place, 0_u32..3, prop::option::of(location())).prop_map(|(place, asn, location)| {
        let (continent, country, subdivision, city, city_name) = place;
        let code = |text: &str| herald_core::steering::item::letters(text).unwrap_or_default();
        Facts {
            continent: code(continent),
            country: code(country),
            subdivisions: [Subdivision::parse(subdivision), None],
            city,
            city_name: if city_name.is_empty() { 0 } else { city_name_hash(code(country), city_name) },
            asn,
            location,
        }
    })
}

pub fn world() -> impl Strategy<Value = World> {
    prop::collection::vec((prefix(), facts()), 0..12).prop_map(|mut networks| {
        networks.sort_by_key(|(prefix, _)| *prefix);
        networks.dedup_by_key(|(prefix, _)| *prefix);
        World(networks)
    })
}

pub fn client() -> impl Strategy<Value = Client> {
    (address(), prop::option::of(prefix()), prop::sample::select(POPS.to_vec()), any::<u64>())
        .prop_map(|(source, ecs, pop, draw)| Client { source, ecs, pop: pop_hash(pop), draw })
}

fn subset<T: Clone + std::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    let most = all.len().min(2);
    // Mostly nothing is asked.
    prop_oneof![3 => Just(Vec::new()), 1 => prop::sample::subsequence(all, 1..=most)]
}

fn when() -> impl Strategy<Value = When> {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let subdivisions =
        ["DE-HE", "US-CA", "US-IL"].iter().filter_map(|text| Subdivision::parse(text)).collect();
    let named = |name: &str, country| City::Named { name: name.into(), country };
    let cities =
        vec![City::GeoNames(2), City::GeoNames(4), named("springfield", *b"US"), named("Berlin", *b"DE")];
    (
        subset(vec![*b"EU", *b"NA"]),
        subset(vec![*b"DE", *b"FR", *b"US"]),
        subset(subdivisions),
        subset(cities),
        subset(vec![1_u32, 2]),
        prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(prefix(), 1..5)],
        subset(texts(&POPS)),
        subset(texts(&VIEWS)),
    )
        .prop_map(|(continents, countries, subdivisions, cities, asns, prefixes, pops, views)| When {
            continents,
            countries,
            subdivisions,
            cities,
            asns,
            prefixes,
            pops,
            views,
        })
}

fn rule() -> impl Strategy<Value = Rule> {
    let pools: Vec<String> = POOLS.iter().map(|pool| (*pool).to_owned()).collect();
    (when(), prop::sample::subsequence(pools, 0..=3).prop_shuffle(), prop::bool::weighted(0.3))
        .prop_map(|(when, pools, nearest)| Rule { name: None, when, pools, nearest })
}

pub fn policy() -> impl Strategy<Value = Policy> {
    let when_all_down =
        prop::sample::select(vec![WhenAllDown::ServeAll, WhenAllDown::ServeLast, WhenAllDown::NoData]);
    let when_isolated = prop::sample::select(vec![WhenIsolated::Hold, WhenIsolated::Local]);
    (prop::collection::vec(rule(), 0..5), when_all_down, when_isolated)
        .prop_map(|(rules, when_all_down, when_isolated)| Policy { rules, when_all_down, when_isolated })
}

/// Which monitors are down, and since when.
#[derive(Clone, Debug, Default)]
pub struct Health {
    pub down: BTreeMap<MonitorId, u32>,
    /// What an isolated PoP sees.
    pub local: Option<BTreeMap<MonitorId, u32>>,
    verdicts: (Arc<Verdicts>, Option<Arc<Verdicts>>),
}

impl Health {
    pub fn health(&self) -> steering::Health<'_> {
        steering::Health { verdicts: &self.verdicts.0, local: self.verdicts.1.as_deref() }
    }
}

pub fn health() -> impl Strategy<Value = Health> {
    let down = || prop::collection::btree_map(monitor(), 1_u32..4, 0..6);
    let verdicts = |down: &BTreeMap<MonitorId, u32>| {
        let down: Vec<_> = down.iter().map(|(monitor, since)| (*monitor, *since)).collect();
        Arc::new(Verdicts::of(&down))
    };
    (down(), prop::option::of(down())).prop_map(move |(down, local)| Health {
        verdicts: (verdicts(&down), local.as_ref().map(verdicts)),
        down,
        local,
    })
}

fn monitor() -> impl Strategy<Value = MonitorId> {
    (1_u32..8).prop_map(MonitorId)
}

pub fn records(rtype: Rtype) -> impl Strategy<Value = EndpointRecords> {
    let bytes = if rtype == Rtype::A { 4..5_usize } else { 1..6 };
    let rdata = prop::collection::vec(0_u8..3, bytes);
    prop::collection::vec(rdata, 1..3).prop_map(move |rdatas| {
        let rdatas: Vec<Vec<u8>> = if rtype == Rtype::A {
            rdatas
                .into_iter()
                .map(|mut one| {
                    one.truncate(4);
                    one
                })
                .collect()
        } else {
            rdatas
        };
        EndpointRecords { rtype, rdatas: rdatas.iter().collect::<Rdatas>() }
    })
}

pub fn endpoint() -> impl Strategy<Value = Endpoint> {
    let states =
        vec![EndpointState::Enabled, EndpointState::Enabled, EndpointState::Drained, EndpointState::Disabled];
    (
        records(Rtype::A),
        prop::option::of(records(Rtype::AAAA)),
        prop::option::of(records(Rtype::CNAME)),
        prop_oneof![Just(0_u32), 1_u32..5, Just(u32::MAX)],
        prop::sample::select(states),
        prop::option::of(location()),
        prop_oneof![Just(0_i8), -99_i8..=99],
        prop::option::of(monitor()),
    )
        .prop_map(|(a, aaaa, cname, weight, state, location, bias, monitor)| Endpoint {
            name: String::new(),
            records: [Some(a), aaaa, cname].into_iter().flatten().collect(),
            weight,
            state,
            location,
            bias,
            monitor,
        })
}

pub fn pool() -> impl Strategy<Value = Pool> {
    let answer =
        prop_oneof![Just(AnswerMode::All), Just(AnswerMode::One), (0_u8..5).prop_map(AnswerMode::UpTo)];
    let sticky = prop::option::of((0_u8..=32, 0_u8..=128))
        .prop_map(|lengths| lengths.map(|(ipv4_prefix, ipv6_prefix)| Sticky { ipv4_prefix, ipv6_prefix }));
    (0_u32..100_000, answer, sticky, 0_u16..3, prop::collection::vec(endpoint(), 0..6)).prop_map(
        |(ttl, answer, sticky, min_healthy, mut endpoints)| {
            for (place, endpoint) in endpoints.iter_mut().enumerate() {
                endpoint.name = format!("e{place}");
            }
            Pool { ttl, answer, sticky, min_healthy, endpoints }
        },
    )
}

fn view() -> impl Strategy<Value = View> {
    let pops = POPS.iter().map(|pop| (*pop).to_owned()).collect();
    (prop::collection::vec(prefix(), 0..3), subset(pops)).prop_map(|(prefixes, pops)| View { prefixes, pops })
}

pub fn zone() -> impl Strategy<Value = Zone> {
    let owners: Vec<Name> = OWNERS.iter().map(|text| name(text)).collect();
    (
        any::<bool>(),
        prop::collection::btree_map(prop::sample::select(POOLS[..4].to_vec()), pool(), 0..5),
        prop::collection::btree_map(prop::sample::select(VIEWS[..2].to_vec()), view(), 0..3),
        prop::collection::btree_map(
            (
                prop::sample::select(owners),
                prop::sample::select(TYPES.to_vec()).prop_map(|rtype| rtype.to_int()),
            ),
            policy(),
            0..8,
        ),
    )
        .prop_map(|(ecs, pools, views, policies)| Zone {
            settings: Settings { ecs, ..Settings::default() },
            pools: pools.into_iter().map(|(name, pool)| (name.to_owned(), pool)).collect(),
            views: views.into_iter().map(|(name, view)| (name.to_owned(), view)).collect(),
            policies,
        })
}
