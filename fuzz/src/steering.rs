//! What knotd's module decides and looks up, on any snapshot and for the name in any packet: nothing panics, nothing is written beyond
//! the room there is, what is answered is well-formed, and a changed part is the part of what it has become.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use herald_core::steering::{
    AnswerMode, City, Endpoint, EndpointRecords, EndpointState, Item, Location, OVERLAY, Overlay, Policy,
    Pool, Prefix, Rule, STEERABLE, Settings, Sticky, View, When, policy_key, pool_key, settings_key,
    view_key,
};
use herald_core::{Generation, Name, Rdatas, RrKey, Rrset, Rtype, ZoneId};
use minicbor::Decoder;
use steering::geo::{Builder, Facts, Geo};
use steering::link::{ToAgent, ToModule, ZoneHead, decode_frame, encode_frame};
use steering::lookup::{Query, Reply, Section};
use steering::{Client, Decision, Knowledge, Outcome, Part, RrsetRef, pop_hash, rrset_octets};

/// Octets of room for an answer's RDATAs.
const ROOM_BYTES: usize = 512;

/// Names below the zone's policies that are asked for, at most.
const OWNERS_MAX: usize = 16;

/// 128.0.0.0 and up is in one place, all else of IPv4 in none; of IPv6 it is 8000:: and up.
static GEO: LazyLock<Geo> = LazyLock::new(|| {
    let mut builder = Builder::default();
    let nowhere = builder.record(Facts::default());
    let somewhere = builder.record(Facts {
        continent: *b"EU",
        country: *b"DE",
        city: 2_950_159,
        location: Some(Location { latitude: 52.5, longitude: 13.4 }),
        ..Facts::default()
    });
    builder.city4(0, u32::MAX >> 1, nowhere).expect("ascending");
    builder.city4(1 << 31, u32::MAX, somewhere).expect("ascending");
    builder.city6(1 << 127, u128::MAX, somewhere).expect("ascending");
    builder.finish()
});

/// The first octets are the client: of which family (a bit), 16 octets of its address, and a draw. Then the length of a packet and the
/// packet, and then the messages that the module is sent, each with a frame about it or without.
pub(crate) fn run(data: &[u8]) {
    play(data);
}

/// As [`run`]; how many versions of a zone were asked, and for whom.
fn play(data: &[u8]) -> Option<(usize, Client)> {
    let (head, rest) = data.split_first_chunk::<26>()?;
    let (packet, messages) = rest.split_at_checked(usize::from(head[25]))?;
    let asked = Asked::read(packet);
    let client = Client {
        source: address(head[0] & 1 == 0, &head[1..]),
        ecs: asked.subnet,
        pop: pop_hash("ams"),
        draw: head[17..25].iter().fold(0, |draw, octet| draw << 8 | u64::from(*octet)),
    };
    let mut module = Module::new(&example());
    let (mut messages, mut versions) = (messages, 0);
    while let Some((octets, message)) = first_message(messages) {
        messages = &messages[octets..];
        if module.take(message) {
            ask(&module, &asked, &client);
            versions += 1;
        }
    }
    Some((versions, client))
}

/// The message that these octets begin with, and how many octets it has.
fn first_message(octets: &[u8]) -> Option<(usize, ToModule)> {
    // Whatever it is, reading it as the agent does comes to an end.
    let _ = decode_frame::<ToAgent>(octets);
    let (taken, message) = match decode_frame(octets) {
        Ok(Some(framed)) => framed,
        // A fuzzer seldom finds the checksum of what it changes.
        _ => {
            let mut decoder = Decoder::new(octets);
            let message = decoder.decode().ok()?;
            (decoder.position(), message)
        }
    };
    assert!((1..=octets.len()).contains(&taken), "{taken} octets of {}", octets.len());
    let mut frame = Vec::new();
    encode_frame(&message, &mut frame);
    let again = decode_frame(&frame).expect("what was written is read").expect("it is whole");
    // Numbers that are none differ from themselves, so it is the octets that are compared.
    let mut frame_again = Vec::new();
    encode_frame::<ToModule>(&again.1, &mut frame_again);
    assert!(again.0 == frame.len() && frame == frame_again, "a message is read as another one");
    assert!(matches!(decode_frame::<ToModule>(&frame[..frame.len() - 1]), Ok(None)), "half a frame is none");
    Some((taken, message))
}

fn address(is_v4: bool, octets: &[u8]) -> IpAddr {
    let mut padded = [0; 16];
    let bytes = octets.len().min(16);
    padded[..bytes].copy_from_slice(&octets[..bytes]);
    let [a, b, c, d, ..] = padded;
    if is_v4 { [a, b, c, d].into() } else { padded.into() }
}

/// What the module gets of a packet, by way of knotd.
struct Asked<'a> {
    name: &'a [u8],
    rtype: Rtype,
    /// RFC 7871.
    subnet: Option<Prefix>,
}

impl<'a> Asked<'a> {
    /// Reads a packet as far as it goes: a header, one question, an OPT record. A name needn't be one.
    fn read(packet: &'a [u8]) -> Self {
        let question = packet.get(12..).unwrap_or(packet);
        let mut bytes = 0;
        while let Some(length) = question.get(bytes) {
            bytes += 1 + usize::from(*length);
            if *length == 0 {
                break;
            }
        }
        let (name, rest) = question.split_at(bytes.min(question.len()));
        let number = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
        // After type and class: a root's name, OPT, eight octets, the length of options. The first one is the subnet's, or there is none.
        let subnet =
            rest.get(15..).filter(|_| number(5) == Some(41) && number(15) == Some(8)).and_then(|_| {
                let (family, length) = (number(19)?, *rest.get(21)?);
                matches!(family, 1 | 2).then(|| Prefix::new(address(family == 1, rest.get(23..)?), length))?
            });
        Self { name, rtype: Rtype::from_int(number(0).unwrap_or(1)), subnet }
    }
}

/// What the module knows of a zone.
struct Module {
    part: Part,
    rrsets: BTreeMap<RrKey, Rrset>,
    soa: Rrset,
}

impl Module {
    fn new(apex: &Name) -> Self {
        let part = Part::compile(apex, []).expect("nothing is wrong with nothing");
        Self { part, rrsets: BTreeMap::new(), soa: Rrset { ttl: 3600, rdatas: Rdatas::single(&[0; 22]) } }
    }

    /// Whether there is something new to ask for.
    fn take(&mut self, message: ToModule) -> bool {
        let (puts, deletes) = match message {
            ToModule::Begin(head) => {
                *self = Self::new(&head.name);
                if rrset_octets(&head.soa.rdatas).is_some_and(|(_, count)| count == 1) {
                    self.soa = head.soa;
                }
                return false;
            }
            ToModule::Part { rrsets, .. } => (rrsets, Vec::new()),
            ToModule::Delta { puts, deletes, .. } => (puts, deletes),
            _ => return false,
        };
        let Ok(next) = self.part.with(puts.clone(), deletes.clone()) else { return false };
        deletes.iter().for_each(|key| drop(self.rrsets.remove(key)));
        self.rrsets.extend(puts);
        let whole = Part::compile(self.part.apex(), self.rrsets.clone()).expect("what could be put is sound");
        // That there were records isn't forgotten.
        if next.has_records() == whole.has_records() {
            assert!(next == whole, "a changed part isn't that of what it has become");
        }
        self.part = next;
        true
    }
}

/// Asks for what the packet asks for, and for the names of policies.
fn ask(module: &Module, asked: &Asked<'_>, client: &Client) {
    let Module { part, rrsets, soa } = module;
    let names = rrsets.keys().map(|key| key.owner.as_wire()).take(OWNERS_MAX);
    let (octets, count) = rrset_octets(&soa.rdatas).expect("one");
    let soa = RrsetRef { rtype: Rtype::SOA, ttl: soa.ttl, count, rdatas: &octets };
    let inside = part.inside(client);
    let scope_most = client.ecs.map_or(0, |subnet| if subnet.address().is_ipv4() { 32 } else { 128 });
    let mut out = Vec::with_capacity(ROOM_BYTES);
    for name in names.chain([asked.name]) {
        for rtype in STEERABLE.into_iter().chain([asked.rtype]) {
            out.clear();
            let decision = part.decide(name, rtype, client, &Knowledge::places(&GEO), &mut out, &mut ());
            check(part, client, &decision, scope_most, &out);
            let mut again = Vec::with_capacity(ROOM_BYTES);
            assert_eq!(
                decision,
                part.decide(name, rtype, client, &Knowledge::places(&GEO), &mut again, &mut ())
            );
            assert_eq!(out, again);
        }
        // A look-up is for names: the module gets them from knotd, which has read them.
        let Ok(name) = Name::from_wire(name) else { continue };
        for rtype in [Rtype::A, Rtype::CNAME, Rtype::DS, Rtype::ANY, Rtype::NS, asked.rtype] {
            out.clear();
            let query = Query { name: name.as_wire(), rtype, client, inside: &inside, soa };
            let mut reply = Check { left: 64 };
            let verdict = part.lookup(&query, &Knowledge::places(&GEO), &mut out, &mut reply);
            assert_eq!(out.capacity(), ROOM_BYTES);
            assert!(verdict.scope.is_none_or(|scope| scope <= scope_most));
        }
    }
}

fn check(part: &Part, client: &Client, decision: &Decision, scope_most: u8, out: &Vec<u8>) {
    assert_eq!(out.capacity(), ROOM_BYTES, "there was more than room for");
    match decision.outcome {
        Outcome::Answer { ttl, rtype, count } => {
            let rdatas: Vec<&[u8]> = RrsetRef { rtype, ttl, count, rdatas: out }.iter().collect();
            assert_eq!(rdatas.len(), usize::from(count));
            assert!(
                count > 0 && rdatas.is_sorted_by(|one, next| one < next),
                "RDATAs out of order: {rdatas:?}"
            );
        }
        Outcome::NotSteered | Outcome::NoData => assert!(out.is_empty()),
        Outcome::NoRoom => {}
    }
    let is_told = decision.outcome != Outcome::NotSteered && part.settings().ecs && client.ecs.is_some();
    assert_eq!(decision.scope.is_some(), is_told);
    assert!(decision.scope.is_none_or(|scope| scope <= scope_most));
}

/// Looks at what a response would have, and has room for so many RRsets.
struct Check {
    left: usize,
}

impl Reply for Check {
    fn put(&mut self, _: Section, owner: &[u8], rrset: RrsetRef<'_>) -> bool {
        assert!(Name::from_wire(owner).is_ok(), "{owner:?} is no name");
        assert_eq!(rrset.iter().count(), usize::from(rrset.count));
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }
}

fn example() -> Name {
    Name::parse("example.com").expect("a name")
}

/// Zones with policies, pools, views and overlays, whole and changed.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let name = |text: &str| Name::parse(text).expect("a name");
    let write = |item: Item| item.write().expect("small");
    let apex = example();
    let endpoint = |octet: u8, is_listed: bool| Endpoint {
        name: format!("e{octet}"),
        records: vec![
            EndpointRecords {
                rtype: Rtype::A,
                rdatas: if is_listed {
                    [[192, 0, 2, octet], [192, 0, 2, 9]].into_iter().collect()
                } else {
                    Rdatas::single(&[192, 0, 2, octet])
                },
            },
            EndpointRecords { rtype: Rtype::CNAME, rdatas: Rdatas::single(name("b.example.com").as_wire()) },
        ],
        weight: octet.into(),
        state: if octet == 3 { EndpointState::Drained } else { EndpointState::Enabled },
        location: Some(Location { latitude: octet.into(), longitude: 0.0 }),
        bias: octet as i8,
        monitor: None,
    };
    let pool = |answer: AnswerMode, is_listed: bool| {
        Item::Pool(Pool {
            ttl: 60,
            answer,
            sticky: is_listed.then_some(Sticky { ipv4_prefix: 24, ipv6_prefix: 56 }),
            min_healthy: 1,
            endpoints: (1..5).map(|octet| endpoint(octet, is_listed)).collect(),
        })
    };
    let rule = |when: When, pool: &str, nearest: bool| Rule {
        name: None,
        when,
        pools: vec!["missing".into(), pool.into()],
        nearest,
    };
    let rules = vec![
        rule(
            When { prefixes: vec!["10.1.0.0/16".parse().expect("a prefix")], ..When::default() },
            "several",
            false,
        ),
        rule(
            When { countries: vec![*b"DE"], cities: vec![City::GeoNames(2_950_159)], ..When::default() },
            "one",
            true,
        ),
        rule(
            When { views: vec!["office".into()], pops: vec!["ams".into()], ..When::default() },
            "all",
            false,
        ),
        rule(When::default(), "one", false),
    ];
    let policy = |rtype| write(Item::Policy(rtype, Policy::of_rules(rules.clone())));
    let steering: Vec<(RrKey, Rrset)> = vec![
        (settings_key(&apex), write(Item::Settings(Settings { ecs: true, ..Settings::default() }))),
        (pool_key(&apex, "one").expect("a label"), write(pool(AnswerMode::One, false))),
        (pool_key(&apex, "several").expect("a label"), write(pool(AnswerMode::UpTo(2), true))),
        (pool_key(&apex, "all").expect("a label"), write(pool(AnswerMode::All, true))),
        (
            view_key(&apex, "office").expect("a label"),
            write(Item::View(View {
                prefixes: vec!["10.0.0.0/8".parse().expect("a prefix")],
                pops: Vec::new(),
            })),
        ),
        (policy_key(&name("www.example.com"), Rtype::A).expect("steerable"), policy(Rtype::A)),
        (policy_key(&name("*.w.example.com"), Rtype::CNAME).expect("steerable"), policy(Rtype::CNAME)),
    ];
    let address = |octet: u8| Rrset { ttl: 60, rdatas: Rdatas::single(&[10, 0, 0, octet]) };
    let overlay = |rtype, rrset| Overlay { view: "office".into(), rtype, rrset };
    let hidden = write(Item::Overlays(vec![overlay(Rtype::ANY, None)]));
    let shown = write(Item::Overlays(vec![overlay(Rtype::A, Some(address(1)))]));
    let to = |target: &str| Rrset { ttl: 60, rdatas: Rdatas::single(name(target).as_wire()) };
    let records: Vec<(RrKey, Rrset)> = vec![
        (RrKey::new(apex.clone(), Rtype::NS), to("ns.example.com")),
        (RrKey::new(name("ns.example.com"), Rtype::A), address(2)),
        (RrKey::new(name("b.example.com"), Rtype::A), address(3)),
        (RrKey::new(name("c.example.com"), Rtype::CNAME), to("d.t.example.com")),
        (RrKey::new(name("t.example.com"), Rtype::DNAME), to("w.example.com")),
        (RrKey::new(name("sub.example.com"), Rtype::NS), to("ns.sub.example.com")),
        (RrKey::new(name("b.example.com"), OVERLAY), hidden),
        (RrKey::new(name("new.example.com"), OVERLAY), shown),
    ];
    let zone = ZoneId(1);
    let generation = Generation { epoch: 1, counter: 1 };
    let head = ZoneHead {
        zone,
        name: apex.clone(),
        generation,
        serial: 1,
        private: false,
        soa: Rrset { ttl: 60, rdatas: Rdatas::single(&[0; 22]) },
    };
    let delta = |puts: Vec<(RrKey, Rrset)>, deletes: Vec<RrKey>| ToModule::Delta {
        head: head.clone(),
        base: generation,
        puts,
        deletes,
    };
    let keys = |rrsets: &[(RrKey, Rrset)]| rrsets.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let begin = || ToModule::Begin(head.clone());
    let part = |rrsets: &[(RrKey, Rrset)]| ToModule::Part { zone, rrsets: rrsets.to_vec() };
    let rows = [
        vec![begin(), part(&steering)],
        vec![begin(), part(&steering), delta(records.clone(), keys(&steering[1..2]))],
        vec![
            begin(),
            part(&records),
            delta(steering.clone(), keys(&records[6..])),
            delta(Vec::new(), keys(&steering)),
        ],
    ];
    // Without EDNS, and with a client subnet of either family.
    let opt = |family: u8, length: u8| {
        let fixed = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, family, length, 0];
        [&fixed[..], &[200, 1, 2]].concat()
    };
    let packets = [
        ("www.example.com", 1, vec![]),
        ("x.w.example.com", 28, opt(1, 24)),
        ("a.sub.example.com", 255, opt(2, 24)),
        ("www.example.com", 1, opt(2, 20)),
    ];
    let seed = |messages: &[ToModule], place: usize| {
        let (asked, rtype, opt) = &packets[place];
        let mut seed = vec![u8::from(place == 2), 10, 1, 2, 3];
        seed.resize(25, 7);
        let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!opt.is_empty())];
        let packet = [&header, name(asked).as_wire(), &[0, *rtype, 0, 1], opt].concat();
        seed.push(u8::try_from(packet.len()).expect("short"));
        seed.extend_from_slice(&packet);
        for (number, message) in messages.iter().enumerate() {
            if number == place {
                encode_frame(message, &mut seed);
            } else {
                minicbor::encode(message, &mut seed).expect("writing to a Vec can't fail");
            }
        }
        seed
    };
    let places = 0..packets.len();
    rows.iter().flat_map(|messages| places.clone().map(|place| seed(messages, place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_lead_to_questions() {
        let subnets: Vec<Option<String>> = seeds()
            .iter()
            .map(|seed| {
                let (versions, client) = play(seed).expect("it has all parts");
                assert!(versions > 0);
                client.ecs.map(|subnet| subnet.to_string())
            })
            .collect();
        let told = [None, Some("200.1.2.0/24"), Some("c801:200::/24"), Some("c801::/20")];
        let subnets: Vec<Option<&str>> = subnets.iter().map(Option::as_deref).collect();
        assert_eq!(subnets, told.repeat(3));
    }
}
