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
use steering::link::{ToModule, ZoneHead};
use steering::lookup::{Query, Reply, Section};
use steering::{Client, Decision, Outcome, Part, RrsetRef, pop_hash, rrset_octets};

/// Octets of room for an answer's RDATAs.
const ROOM_BYTES: usize = 512;

/// Names below the zone's policies that are asked for, at most.
const OWNERS_MAX: usize = 16;

/// 128.0.0.0 and up is in one place, all else of IPv4 in none.
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
    builder.finish()
});

/// The first octets are the client: source, length of the client subnet and its address, 4 octets each, and a draw. Then the length of
/// a packet and the packet, and then the messages that the module is sent, without their frames.
pub(crate) fn run(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<18>() else { return };
    let Some((packet, messages)) = rest.split_at_checked(usize::from(head[17])) else { return };
    let address = |at: usize| IpAddr::V4([head[at], head[at + 1], head[at + 2], head[at + 3]].into());
    let client = Client {
        source: address(0),
        ecs: Prefix::new(address(4), head[8] % 33),
        pop: pop_hash("ams"),
        draw: u64::from_be_bytes([
            head[9], head[10], head[11], head[12], head[13], head[14], head[15], head[16],
        ]),
    };
    let mut rrsets = BTreeMap::new();
    let mut part = Part::compile(&example(), []).expect("nothing is wrong with nothing");
    let mut decoder = Decoder::new(messages);
    while let Ok(message) = decoder.decode::<ToModule>() {
        let (puts, deletes) = match message {
            ToModule::Begin(head) => {
                rrsets.clear();
                part = Part::compile(&head.name, []).expect("nothing is wrong with nothing");
                continue;
            }
            ToModule::Part { rrsets, .. } => (rrsets, Vec::new()),
            ToModule::Delta { puts, deletes, .. } => (puts, deletes),
            _ => continue,
        };
        let Ok(next) = part.with(puts.clone(), deletes.clone()) else { continue };
        deletes.iter().for_each(|key| drop(rrsets.remove(key)));
        rrsets.extend(puts);
        let whole = Part::compile(part.apex(), rrsets.clone()).expect("what could be put is sound");
        // That there were records isn't forgotten.
        if next.has_records() == whole.has_records() {
            assert!(next == whole, "a changed part isn't that of what it has become");
        }
        part = next;
        ask(&part, &rrsets, packet, &client);
    }
}

/// Asks for the name of the packet, and for those of policies.
fn ask(part: &Part, rrsets: &BTreeMap<RrKey, Rrset>, packet: &[u8], client: &Client) {
    let asked = packet.get(12..).unwrap_or(packet);
    let names = rrsets.keys().map(|key| key.owner.as_wire()).take(OWNERS_MAX);
    let soa = Rrset { ttl: 3600, rdatas: Rdatas::single(&[0; 22]) };
    let (octets, count) = rrset_octets(&soa.rdatas).expect("one");
    let soa = RrsetRef { rtype: Rtype::SOA, ttl: soa.ttl, count, rdatas: &octets };
    let inside = part.inside(client);
    let mut out = Vec::with_capacity(ROOM_BYTES);
    for name in names.chain([asked]) {
        for rtype in STEERABLE {
            out.clear();
            let decision = part.decide(name, rtype, client, &GEO, &mut out, &mut ());
            check(part, client, &decision, &out);
            let mut again = Vec::with_capacity(ROOM_BYTES);
            assert_eq!(decision, part.decide(name, rtype, client, &GEO, &mut again, &mut ()));
            assert_eq!(out, again);
        }
        // A look-up is for names: the module gets them from knotd, which has read them.
        let Ok(name) = Name::from_wire(name) else { continue };
        for rtype in [Rtype::A, Rtype::CNAME, Rtype::DS, Rtype::ANY, Rtype::NS] {
            out.clear();
            let query = Query { name: name.as_wire(), rtype, client, inside: &inside, soa };
            let mut reply = Check { left: 64 };
            let verdict = part.lookup(&query, &GEO, &mut out, &mut reply);
            assert_eq!(out.capacity(), ROOM_BYTES);
            assert!(verdict.scope.is_none_or(|scope| scope <= 32));
        }
    }
}

fn check(part: &Part, client: &Client, decision: &Decision, out: &Vec<u8>) {
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
    assert!(decision.scope.is_none_or(|scope| scope <= 32));
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
    let policy = |rtype| write(Item::Policy(rtype, Policy { rules: rules.clone() }));
    let steering: Vec<(RrKey, Rrset)> = vec![
        (settings_key(&apex), write(Item::Settings(Settings { ecs: true }))),
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
    let asked = ["www.example.com", "x.w.example.com", "a.sub.example.com"];
    let seed = |messages: &[ToModule], asked: &str| {
        let mut seed = vec![10, 1, 2, 3, 200, 1, 2, 0, 24, 1, 2, 3, 4, 5, 6, 7, 8];
        let packet = [&[0; 12], name(asked).as_wire(), &[0, 1, 0, 1]].concat();
        seed.push(u8::try_from(packet.len()).expect("short"));
        seed.extend_from_slice(&packet);
        for message in messages {
            minicbor::encode(message, &mut seed).expect("writing to a Vec can't fail");
        }
        seed
    };
    rows.iter().flat_map(|messages| asked.map(|asked| seed(messages, asked))).collect()
}
