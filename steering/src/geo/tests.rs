//! Small random worlds, in which everything is found out by going through all of it and compared.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use herald_core::steering::Prefix;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::ranges::ALIASES;
use super::*;

/// Networks of both families; the longest one that an address is in tells of it.
#[derive(Clone, Debug)]
struct World {
    v4: Vec<(Prefix, Facts)>,
    v6: Vec<(Prefix, Facts)>,
    asns: Vec<(Prefix, u32)>,
    has_aliases: bool,
}

/// What leads to which outcome; the first that is met does.
#[derive(Clone, Debug)]
enum Asks {
    Place(Place),
    Prefix(Prefix),
    /// The outcome is where the client is.
    Location,
}

const NAMES: [&str; 3] = ["Springfield", "Paris", "Łódź"];

fn facts() -> impl Strategy<Value = Facts> {
    (0..3_u8, 0..3_u8, 0..3_u8, 0..4_u32, 0..3_usize, 0..3_u8).prop_map(
        |(continent, country, subdivision, city, name, location)| {
            let continent = [b"EU", b"NA", &[0; 2]][usize::from(continent)];
            let country = *[b"DE", b"US", &[0; 2]][usize::from(country)];
            let code = |code| Subdivision { country, code: [b'A', code, 0] };
            Facts {
                continent: *continent,
                country,
                subdivisions: match subdivision {
                    0 => [None, None],
                    1 => [Some(code(b'1')), None],
                    _ => [Some(code(b'1')), Some(code(b'2'))],
                },
                city,
                city_name: if city == 0 { 0 } else { city_name_hash(country, NAMES[name]) },
                asn: 0,
                location: (location > 0)
                    .then(|| Location { latitude: f32::from(location), longitude: -f32::from(location) }),
            }
        },
    )
}

/// Networks lie close together, so that they hold, touch and cross each other.
fn prefix4() -> impl Strategy<Value = Prefix> {
    (select(vec![0, 10 << 24, 0x0a01_0200, 0xffff_ff00_u32]), 0..64_u32, 0..16_u32, 0..=32_u8).prop_map(
        |(base, low, high, length)| {
            Prefix::new(Ipv4Addr::from_bits(base ^ low ^ high << 20).into(), length).unwrap()
        },
    )
}

fn prefix6() -> impl Strategy<Value = Prefix> {
    let bases =
        vec![0, 0xffff << 32, 0x2001 << 112, 0x2001_0db8 << 96, 0x2002 << 112, 0x2a00 << 112, u128::MAX];
    (select(bases), 0..16_u128, 0..16_u128, select(vec![64, 60, 84, 124, 0]), 0..=128_u8).prop_map(
        |(base, low, high, shift, length)| {
            Prefix::new(Ipv6Addr::from_bits(base ^ low << shift ^ high << 28).into(), length).unwrap()
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    let asn = (prop_oneof![prefix4(), prefix6()], 1..4_u32);
    (vec((prefix4(), facts()), 0..12), vec((prefix6(), facts()), 0..12), vec(asn, 0..6), any::<bool>())
        .prop_map(|(v4, v6, asns, has_aliases)| World { v4, v6, asns, has_aliases })
}

fn asks() -> impl Strategy<Value = Asks> {
    let place = facts().prop_flat_map(|facts| {
        let name = facts.city_name;
        let mut places = vec![
            Place::Continent(facts.continent),
            Place::Country(facts.country),
            Place::City(facts.city),
            Place::CityName(name),
            Place::Asn(facts.city),
        ];
        places.extend(facts.subdivisions.into_iter().flatten().map(Place::Subdivision));
        // Nobody asks for what isn't known.
        places.retain(|place| {
            !matches!(
                place,
                Place::Continent([0, 0])
                    | Place::Country([0, 0])
                    | Place::City(0)
                    | Place::CityName(0)
                    | Place::Asn(0)
            )
        });
        places.push(Place::Country(*b"US"));
        select(places)
    });
    prop_oneof![
        6 => place.prop_map(Asks::Place),
        1 => prefix4().prop_map(Asks::Prefix),
        1 => prefix6().prop_map(Asks::Prefix),
        1 => Just(Asks::Location),
    ]
}

/// The value of the longest network of those that the address is in; of equal ones the last.
fn longest<T: Copy>(networks: &[(Prefix, T)], address: IpAddr) -> Option<T> {
    let within = networks.iter().filter(|(prefix, _)| prefix.contains(address));
    within.max_by_key(|(prefix, _)| prefix.length()).map(|(_, value)| *value)
}

impl World {
    /// The IPv4 address that an IPv6 address stands for.
    fn meant(&self, address: IpAddr) -> IpAddr {
        let IpAddr::V6(v6) = address else { return address };
        let octets = v6.octets();
        let at = |place: usize| {
            IpAddr::from([octets[place], octets[place + 1], octets[place + 2], octets[place + 3]])
        };
        let segments = v6.segments();
        match segments {
            _ if !self.has_aliases => address,
            [0, 0, 0, 0, 0, 0 | 0xffff, ..] => at(12),
            [0x2001, 0, ..] => at(4),
            [0x2002, ..] => at(2),
            _ => address,
        }
    }

    fn facts(&self, address: IpAddr) -> Facts {
        let address = self.meant(address);
        let networks = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let mut facts = longest(networks, address).unwrap_or_default();
        facts.asn = longest(&self.asns, address).unwrap_or_default();
        facts
    }

    /// Addresses of a family between which nothing changes: the first of each stretch, ascending.
    fn stretches(&self, prefixes: &[Prefix], is_v4: bool) -> Vec<u128> {
        let networks = self.v4.iter().chain(&self.v6).map(|(prefix, _)| *prefix);
        let networks: Vec<Prefix> = networks
            .chain(self.asns.iter().map(|(prefix, _)| *prefix))
            .chain(prefixes.iter().copied())
            .collect();
        let mut edges = vec![0];
        for prefix in &networks {
            let (first, last, bits) = ends(*prefix);
            let after = [Some(first), last.checked_add(1)];
            if is_v4 == (bits == 32) {
                edges.extend(after.into_iter().flatten());
            } else if bits == 32 {
                for alias in ALIASES {
                    let shift = 96 - alias.length;
                    edges.extend(after.into_iter().flatten().map(|edge| alias.first + (edge << shift)));
                }
            }
        }
        if !is_v4 {
            edges.extend(ALIASES.iter().flat_map(|alias| [alias.first, alias.last() + 1]));
        }
        edges.retain(|edge| !is_v4 || u32::try_from(*edge).is_ok());
        edges.sort_unstable();
        edges.dedup();
        edges
    }

    fn geo(&self) -> Geo {
        let database = |kind: &str| Database { kind: kind.into(), built_s: 1_700_000_000 };
        let aliases = if self.has_aliases { Aliases::ALL } else { Aliases::NONE };
        let mut builder = Builder::default();
        builder.city_database(database("Test-City"), aliases);
        builder.asn_database(database("Test-ASN"), aliases);
        for is_v4 in [true, false] {
            let edges = self.stretches(&[], is_v4);
            let end: u128 = if is_v4 { u32::MAX.into() } else { u128::MAX };
            for (place, first) in edges.iter().enumerate() {
                let last = edges.get(place + 1).map_or(end, |next| next - 1);
                // As in databases, IPv6 has nothing of its own where it stands for IPv4.
                if self.meant(address(*first, is_v4)).is_ipv4() != is_v4 {
                    continue;
                }
                let facts = self.facts(address(*first, is_v4));
                let record = builder.record(facts);
                // What nothing is known of may be left out.
                if is_v4 {
                    let (first, last) = (*first as u32, last as u32);
                    if record != 0 {
                        builder.city4(first, last, record).unwrap();
                    }
                    builder.asn4(first, last, facts.asn).unwrap();
                } else {
                    builder.city6(*first, last, record).unwrap();
                    if facts.asn != 0 {
                        builder.asn6(*first, last, facts.asn).unwrap();
                    }
                }
            }
        }
        builder.finish()
    }
}

fn address(number: u128, is_v4: bool) -> IpAddr {
    if is_v4 { Ipv4Addr::from_bits(number as u32).into() } else { Ipv6Addr::from_bits(number).into() }
}

/// First and last address of a network, and how many bits its addresses have.
fn ends(prefix: Prefix) -> (u128, u128, u32) {
    match prefix.address() {
        IpAddr::V4(first) => {
            let last = first.to_bits() | u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
            (first.to_bits().into(), last.into(), 32)
        }
        IpAddr::V6(first) => (
            first.to_bits(),
            first.to_bits() | u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0),
            128,
        ),
    }
}

fn is_met(ask: &Asks, address: IpAddr, facts: &Facts) -> bool {
    match ask {
        Asks::Place(Place::Continent(code)) => facts.continent == *code,
        Asks::Place(Place::Country(code)) => facts.country == *code,
        Asks::Place(Place::Subdivision(code)) => facts.subdivisions.contains(&Some(*code)),
        Asks::Place(Place::City(city)) => facts.city == *city,
        Asks::Place(Place::CityName(name)) => facts.city_name == *name,
        Asks::Place(Place::Asn(asn)) => facts.asn == *asn,
        Asks::Prefix(prefix) => prefix.contains(address),
        Asks::Location => facts.location.is_some(),
    }
}

/// The first rule that is met, and for some the client's whereabouts.
fn outcome(rules: &[Asks], address: IpAddr, facts: &Facts) -> u64 {
    match rules.iter().position(|rule| is_met(rule, address, facts)) {
        // Some rules lead to the same.
        Some(rule) if !matches!(rules[rule], Asks::Location) => rule as u64 / 2,
        Some(rule) => 100 + rule as u64 + facts.location.map_or(0, |location| location.latitude as u64),
        None => 1_000,
    }
}

/// The prefix that a rule asks for, if it does, as rules have it.
enum Prefixes {
    None,
    V4([u8; 5]),
    V6([u8; 17]),
}

impl Prefixes {
    fn of(ask: &Asks) -> Prefixes {
        let Asks::Prefix(prefix) = ask else { return Prefixes::None };
        match prefix.address() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Prefixes::V4([a, b, c, d, prefix.length()])
            }
            IpAddr::V6(v6) => {
                let mut octets = [prefix.length(); 17];
                octets[..16].copy_from_slice(&v6.octets());
                Prefixes::V6(octets)
            }
        }
    }
}

/// Decides by rules.
struct ByRules<'a> {
    geo: &'a Geo,
    rules: &'a [Asks],
    prefixes: &'a [Prefixes],
}

impl<'a> Decider<'a> for ByRules<'a> {
    fn led(&self, address: IpAddr) -> Led {
        let facts = self.geo.facts(address);
        let met = self.rules.iter().position(|rule| is_met(rule, address, &facts));
        let rules = met.map_or(usize::MAX, |met| met + 1);
        let is_by_location = self.rules.iter().take(rules).any(|rule| matches!(rule, Asks::Location));
        Led { outcome: outcome(self.rules, address, &facts), rules, is_by_location, work: 50 }
    }

    fn asks(&self, rules: Range<usize>, each: &mut dyn FnMut(usize, Ask<'a>) -> bool) {
        let asked = self.rules.iter().zip(self.prefixes).enumerate().take(rules.end).skip(rules.start);
        for (number, (ask, prefixes)) in asked {
            match (ask, prefixes) {
                (Asks::Place(place), _) => each(number, Ask::Place(*place)),
                (_, Prefixes::V4(octets)) => each(number, Ask::Prefixes4(std::slice::from_ref(octets))),
                (_, Prefixes::V6(octets)) => each(number, Ask::Prefixes6(std::slice::from_ref(octets))),
                (_, Prefixes::None) => true,
            };
        }
    }
}

/// Decides by what is known of an address, asking for places in one rule, and counts how often.
struct Counting<'a> {
    geo: &'a Geo,
    places: &'a [Place],
    is_by_location: bool,
    outcome: fn(&Facts) -> u64,
    asked: Cell<usize>,
}

impl<'a> Counting<'a> {
    fn new(geo: &'a Geo, places: &'a [Place], outcome: fn(&Facts) -> u64) -> Counting<'a> {
        Counting { geo, places, is_by_location: true, outcome, asked: Cell::new(0) }
    }
}

impl<'a> Decider<'a> for Counting<'a> {
    fn led(&self, address: IpAddr) -> Led {
        self.asked.set(self.asked.get() + 1);
        let outcome = (self.outcome)(&self.geo.facts(address));
        Led { outcome, rules: 1, is_by_location: self.is_by_location, work: 50 }
    }

    fn asks(&self, rules: Range<usize>, each: &mut dyn FnMut(usize, Ask<'a>) -> bool) {
        if rules.contains(&0) {
            self.places.iter().all(|place| each(0, Ask::Place(*place)));
        }
    }
}

/// Lengths from the shortest on, until all stretches of the prefix have the client's outcome.
fn widest_by_trying(world: &World, client: IpAddr, rules: &[Asks]) -> u8 {
    let prefixes: Vec<Prefix> = rules
        .iter()
        .filter_map(|ask| if let Asks::Prefix(prefix) = ask { Some(*prefix) } else { None })
        .collect();
    let edges = world.stretches(&prefixes, client.is_ipv4());
    let at = |address: IpAddr| outcome(rules, address, &world.facts(address));
    let wanted = at(client);
    (0..)
        .find(|length| {
            let (first, last, _) = ends(Prefix::new(client, *length).expect("the whole address is constant"));
            let within = edges.iter().copied().filter(|edge| (first..=last).contains(edge)).chain([first]);
            within.into_iter().all(|edge| at(address(edge, client.is_ipv4())) == wanted)
        })
        .unwrap()
}

/// Addresses worth asking for: each stretch's first and last.
fn probes(world: &World, rules: &[Asks], is_v4: bool) -> Vec<IpAddr> {
    let prefixes: Vec<Prefix> = rules
        .iter()
        .filter_map(|ask| if let Asks::Prefix(prefix) = ask { Some(*prefix) } else { None })
        .collect();
    let end: u128 = if is_v4 { u32::MAX.into() } else { u128::MAX };
    let edges = world.stretches(&prefixes, is_v4);
    let ends = edges.iter().flat_map(|edge| [*edge, edge.wrapping_sub(1) & end]);
    ends.map(|number| address(number, is_v4)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn facts_are_those_of_the_longest_network(world in world()) {
        let geo = world.geo();
        for is_v4 in [true, false] {
            for address in probes(&world, &[], is_v4) {
                prop_assert_eq!(geo.facts(address), world.facts(address), "{}", address);
            }
        }
    }

    #[test]
    fn the_widest_prefix_is_found(
        world in world(),
        rules in vec(asks(), 0..6),
        chosen in vec(any::<proptest::sample::Index>(), 12),
    ) {
        let geo = world.geo();
        let prefixes: Vec<Prefixes> = rules.iter().map(Prefixes::of).collect();
        let by_rules = ByRules { geo: &geo, rules: &rules, prefixes: &prefixes };
        for (turn, chosen) in chosen.iter().enumerate() {
            let client = *chosen.get(&probes(&world, &rules, turn % 2 == 0));
            let found = widest(&geo, client, by_rules.led(client), &by_rules);
            prop_assert_eq!(found, widest_by_trying(&world, client, &rules), "{}", client);
        }
    }

    #[test]
    fn a_table_is_read_as_it_was_written(world in world()) {
        let geo = world.geo();
        let file = geo.write();
        let read = Geo::read(&file).unwrap();
        prop_assert_eq!(read.versions(), geo.versions());
        prop_assert_eq!(&Versions::read(&file).unwrap(), geo.versions());
        prop_assert_eq!(read.write(), file);
        for is_v4 in [true, false] {
            for address in probes(&world, &[], is_v4) {
                prop_assert_eq!(read.facts(address), geo.facts(address), "{}", address);
            }
        }
    }

    #[test]
    fn a_damaged_file_is_refused(
        world in world(),
        place in any::<proptest::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let mut file = world.geo().write();
        let place = place.index(file.len());
        prop_assert!(Geo::read(&file[..place]).is_err(), "cut off at {}", place);
        file[place] ^= change;
        prop_assert!(Geo::read(&file).is_err(), "changed at {}", place);
    }

    #[test]
    fn any_content_under_a_right_checksum_is_read_or_refused(
        world in world(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut file = world.geo().write();
        for (place, octet) in changes {
            let place = place.index(file.len());
            file[place] = octet;
        }
        format::seal(&mut file);
        if let Ok(geo) = Geo::read(&file) {
            for address in probes(&world, &[], true).into_iter().chain(probes(&world, &[], false)) {
                let _ = geo.facts(address);
                let places = [Place::Country(*b"US")];
                let decider = Counting::new(&geo, &places, |facts| facts.city.into());
                widest(&geo, address, decider.led(address), &decider);
            }
        }
    }
}

#[test]
fn nothing_is_known_of_any_address_by_the_empty_table() {
    let geo = Geo::empty();
    for address in ["0.0.0.0", "255.255.255.255", "::", "2001:db8::1", "ffff::"] {
        let address = address.parse().unwrap();
        assert_eq!(geo.facts(address), Facts::default());
        let places = [Place::Country(*b"NZ"), Place::Asn(1)];
        let decider = Counting::new(&geo, &places, |_| 7);
        assert_eq!(widest(&geo, address, decider.led(address), &decider), 0);
    }
    assert_eq!(Geo::read(&geo.write()).unwrap().versions(), &Versions::default());
}

#[test]
fn outcomes_that_differ_nowhere_end_after_so_many_steps() {
    let mut builder = Builder::default();
    let cities: Vec<u32> = (1..4).map(|city| builder.record(Facts { city, ..Facts::default() })).collect();
    for network in 0..1_u32 << 16 {
        let first = network << 16;
        builder.city4(first, first | 0xffff, cities[network as usize % cities.len()]).unwrap();
    }
    let geo = builder.finish();
    let client = "10.0.0.1".parse().unwrap();
    let decider = Counting::new(&geo, &[], |_| 0);
    let length = widest(&geo, client, decider.led(client), &decider);
    // Each step takes 200 instructions, about.
    let asked = decider.asked.get();
    assert!((256..1_024).contains(&asked), "{asked}");
    // 512 stretches from 10.0.0.0 on are no more than 10.0.0.0/7, and at least half of it.
    assert!((7..=8).contains(&length), "{length}");
    // Of a place's own stretches, none is the rest of the world.
    let places = [Place::Country(*b"NZ")];
    let nowhere = Counting { is_by_location: false, ..Counting::new(&geo, &places, |_| 0) };
    assert_eq!(widest(&geo, client, nowhere.led(client), &nowhere), 0);
}

#[test]
fn more_places_than_there_is_room_for_are_told_apart_by_network() {
    let mut builder = Builder::default();
    let count = 600;
    let cities: Vec<u32> =
        (1..=count).map(|city| builder.record(Facts { city, ..Facts::default() })).collect();
    for network in 0..1_u32 << 14 {
        let first = network << 18;
        builder.city4(first, first | 0x3ffff, cities[network as usize % cities.len()]).unwrap();
    }
    let geo = builder.finish();
    for asked in [1, 20, 100, 200, 300, count - 1] {
        let places: Vec<Place> = (1..=asked).map(Place::City).collect();
        for city in [1, 2, 150, 500, 599] {
            let client = IpAddr::V4(((city - 1) << 18 | 77).into());
            let decider =
                Counting { is_by_location: false, ..Counting::new(&geo, &places, |facts| facts.city.into()) };
            let length = widest(&geo, client, decider.led(client), &decider);
            // Where it isn't asked for, nobody knows that its neighbours are led elsewhere, unless all networks are told apart.
            if asked >= city || asked > 512 {
                assert_eq!(length, 14, "{asked} {city}");
            }
            assert!(decider.asked.get() < 1_024, "{asked} {city}");
        }
    }
}

#[test]
fn tables_are_combined() {
    let place = |city: u32| {
        let mut builder = Builder::default();
        let record = builder.record(Facts { city, ..Facts::default() });
        builder.city4(0, 9, record).unwrap();
        builder.asn4(5, 9, city * 10).unwrap();
        builder.city_database(Database { kind: format!("City-{city}"), built_s: 1 }, Aliases::NONE);
        builder.asn_database(Database { kind: format!("ASN-{city}"), built_s: 1 }, Aliases::NONE);
        builder.finish()
    };
    let both = Geo::combine(&place(1), &place(2));
    let facts = both.facts("0.0.0.7".parse().unwrap());
    assert_eq!((facts.city, facts.asn), (1, 20));
    let kind = |database: &Option<Database>| database.as_ref().map(|database| database.kind.clone());
    assert_eq!(kind(&both.versions().city).as_deref(), Some("City-1"));
    assert_eq!(kind(&both.versions().asn).as_deref(), Some("ASN-2"));
}
