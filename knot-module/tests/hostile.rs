//! Panics in the path of queries, and packets that nobody well-meaning sends: knotd goes on, and no placeholder gets out.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::base::iana::Rcode;
use herald_core::rdata::parse_rdata;
use herald_core::steering::{AnswerMode, Item, OVERLAY, Overlay, View, When};
use herald_core::{Rdatas, RrKey, Rrset, Rtype};
use support::agent::snapshot;
use support::zone::{pool, rule};
use support::{Answer, Knot, Question, TestZone};

/// Who is inside.
const INSIDE: &str = "127.0.9.1";

/// The message id that makes hooks panic where the module is set so.
const PANIC_ID: u16 = 0xdead;

fn office() -> View {
    View { prefixes: vec!["127.0.9.0/24".parse().unwrap()], pops: vec![] }
}

/// Tells the module of a record as well, as it needs to know where it answers insiders.
fn add_record(zone: &mut TestZone, owner: &str, rtype: Rtype, text: &str) {
    let rrset = Rrset { ttl: 300, rdatas: Rdatas::single(&parse_rdata(rtype, text).unwrap()) };
    zone.steering.push((RrKey::new(zone.name(owner), rtype), rrset));
}

/// A zone with steered names, plain ones, and a view.
fn zone() -> TestZone {
    let near = When { prefixes: vec!["192.0.2.0/24".parse().unwrap()], ..When::default() };
    let mut zone = TestZone::new("example.com.")
        .records(&["plain A 192.0.2.99", "mail MX 10 www", "aliased CNAME www"])
        .ecs()
        .pool("pool", pool(AnswerMode::All, Rtype::A, &[("192.0.2.9", 1)]))
        .pool("alias", pool(AnswerMode::All, Rtype::CNAME, &[("plain.example.com.", 1)]))
        .rules("www", Rtype::A, vec![rule(near, &["pool"]), rule(When::default(), &["pool"])])
        .policy("*.wild", Rtype::A, &["pool"])
        .policy("alias", Rtype::CNAME, &["alias"])
        .view("office", office());
    let address = Rrset { ttl: 60, rdatas: Rdatas::single(&[10, 0, 0, 1]) };
    for owner in ["intranet", "plain"] {
        let overlay = Overlay { view: "office".into(), rtype: Rtype::A, rrset: Some(address.clone()) };
        zone.put(RrKey::new(zone.name(owner), OVERLAY), &Item::Overlays(vec![overlay]));
    }
    add_record(&mut zone, "@", Rtype::NS, "ns.example.com.");
    add_record(&mut zone, "ns", Rtype::A, "192.0.2.1");
    add_record(&mut zone, "plain", Rtype::A, "192.0.2.99");
    add_record(&mut zone, "mail", Rtype::MX, "10 www.example.com.");
    add_record(&mut zone, "aliased", Rtype::CNAME, "www.example.com.");
    zone
}

/// A zone that knotd doesn't have.
fn private() -> TestZone {
    let mut zone = TestZone::new("internal.test.").view("office", office());
    zone.is_private = true;
    add_record(&mut zone, "@", Rtype::NS, "ns.example.com.");
    add_record(&mut zone, "www", Rtype::A, "10.0.0.2");
    zone
}

// -------------------------------------------------------------------------------------------- panics

/// What is asked, by whom, and what becomes of it if each hook that has a decision to take panics.
const PANICKING: [(&str, &str, Option<&str>, Then); 9] = [
    // A placeholder is in its place: there is no plain answer.
    ("www.example.com.", "A", None, Then::ServFail),
    ("x.wild.example.com.", "A", None, Then::ServFail),
    ("aliased.example.com.", "A", None, Then::ServFail),
    ("alias.example.com.", "A", None, Then::ServFail),
    ("www.example.com.", "A", Some(INSIDE), Then::ServFail),
    // The zone's plain answer.
    ("plain.example.com.", "A", None, Then::Plain("192.0.2.99")),
    ("plain.example.com.", "A", Some(INSIDE), Then::Plain("192.0.2.99")),
    ("intranet.example.com.", "A", Some(INSIDE), Then::None(Rcode::NXDOMAIN)),
    ("www.internal.test.", "A", Some(INSIDE), Then::None(Rcode::REFUSED)),
];

#[derive(Clone, Copy)]
enum Then {
    ServFail,
    Plain(&'static str),
    None(Rcode),
}

#[test]
fn a_panic_ends_in_the_plain_answer_or_a_failure_and_is_counted() {
    let (zone, private) = (zone(), private());
    let knot = Knot::start_by(&[], "panics: on", &[&zone], Some(&snapshot(&[&zone, &private])));
    let mut agent = knot.agent();
    let pid = knot.pid();
    let question = |name: &str, rtype: &str, source: Option<&str>| {
        let question = Question::new(name, rtype);
        if let Some(source) = source { question.source(source) } else { question }
    };
    // In the second round questions are answered where knotd had found the placeholder before.
    for round in 0..2 {
        for (name, rtype, source, then) in PANICKING {
            let before = agent.synchronize().panics;
            let asked = question(name, rtype, source).id(PANIC_ID);
            let answer = asked.ask(knot.address);
            match then {
                Then::ServFail => assert!(answer.is_servfail(), "{name}: {answer:?}"),
                Then::Plain(value) => assert_eq!(answer.values(), [value], "{name}: {answer:?}"),
                Then::None(rcode) => {
                    assert_eq!((answer.rcode, answer.answers.len()), (rcode, 0), "{name}: {answer:?}");
                }
            }
            let counted = agent.synchronize().panics - before;
            assert!(counted > 0, "{name} from {source:?}, round {round}");
        }
        // With any other id all of it is answered as it should be.
        for (name, value) in [("www", "192.0.2.9"), ("x.wild", "192.0.2.9"), ("plain", "192.0.2.99")] {
            assert_eq!(knot.ask(&format!("{name}.example.com."), "A").values(), [value], "{name}");
        }
        let inside = |name: &str| question(name, "A", Some(INSIDE)).ask(knot.address);
        assert_eq!(inside("plain.example.com.").values(), ["10.0.0.1"]);
        assert_eq!(inside("intranet.example.com.").values(), ["10.0.0.1"]);
        assert_eq!(inside("www.internal.test.").values(), ["10.0.0.2"]);
    }
    // Where the placeholder is in the additional section, what was asked for can't be given alone.
    let mail = Question::new("mail.example.com.", "MX").id(PANIC_ID).ask(knot.address);
    assert!(mail.is_servfail(), "{mail:?}");
    assert!(Question::new("www.example.com.", "A").id(PANIC_ID).tcp().ask(knot.address).is_servfail());
    assert_eq!(agent.synchronize().undecided, 0);
    assert_eq!(knot.pid(), pid);
    // What was told while there were panics is in use.
    let mut next = zone.clone();
    next.serial = 2;
    agent.put(&next.pool("pool", pool(AnswerMode::All, Rtype::A, &[("192.0.2.10", 1)])));
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.10"]);
}

#[test]
fn the_id_of_the_test_is_one_like_any_other_where_nobody_tests() {
    let zone = zone();
    let knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let answer = Question::new("www.example.com.", "A").id(PANIC_ID).ask(knot.address);
    assert_eq!(answer.values(), ["192.0.2.9"]);
    assert_eq!(knot.agent().synchronize().panics, 0);
}

// -------------------------------------------------------------------------------------------- packets

/// Packets that are sent.
const PACKETS: u32 = 20_000;

/// Of which so many by TCP.
const BY_TCP: u32 = 500;

/// After so many, what is well asked has to be answered well.
const BATCH: u32 = 100;

#[test]
fn malformed_packets_harm_nobody() {
    let given = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_micros() as u64);
    let seed: u64 = given.unwrap_or_else(fresh);
    println!("seed {seed}");
    let (zone, private) = (zone(), private());
    let knot = Knot::start(&[&zone], Some(&snapshot(&[&zone, &private])));
    let mut random = Random(seed);
    let mut replies = 0u32;
    for batch in 0..PACKETS / BATCH {
        let source: IpAddr = if batch % 2 == 0 { INSIDE } else { "127.0.0.1" }.parse().unwrap();
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.connect(knot.address).unwrap();
        for _ in 0..BATCH {
            let packet = packet(&mut random);
            socket.send(&packet).unwrap();
            if random.below(PACKETS / BY_TCP) == 0 {
                send_by_tcp(&knot, &packet, &mut random);
            }
        }
        // The last one is well-formed. With its answer all before it are answered, if at all, but for what another thread is at.
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send(&Question::new("www.example.com.", "A").id(PANIC_ID).octets()).unwrap();
        let mut reply = [0; 65_535];
        loop {
            let bytes = socket.recv(&mut reply).unwrap_or_else(|error| panic!("no answer: {error}"));
            let answer = Answer::read(&reply[..bytes]);
            if reply[..2] == PANIC_ID.to_be_bytes() && answer.values() == ["192.0.2.9"] {
                break;
            }
            replies += 1;
        }
        for (name, value) in [("plain.example.com.", "192.0.2.99"), ("x.wild.example.com.", "192.0.2.9")] {
            assert_eq!(knot.ask(name, "A").values(), [value]);
        }
        let inside = Question::new("intranet.example.com.", "A").source(INSIDE).ask(knot.address);
        assert_eq!(inside.values(), ["10.0.0.1"]);
    }
    println!("{replies} replies to {PACKETS} packets");
    assert!(replies > PACKETS / 20, "{replies} replies: most packets should get to an answer");
    let status = knot.agent().synchronize();
    assert_eq!((status.panics, status.undecided), (0, 0), "{}", knot.log());
}

/// A packet that begins as one of these, with changes.
fn packet(random: &mut Random) -> Vec<u8> {
    const NAMES: [&str; 8] = [
        "www.example.com.",
        "x.wild.example.com.",
        "alias.example.com.",
        "aliased.example.com.",
        "mail.example.com.",
        "intranet.example.com.",
        "www.internal.test.",
        "example.com.",
    ];
    const TYPES: [&str; 12] =
        ["A", "AAAA", "CNAME", "MX", "ANY", "NS", "SOA", "DS", "RRSIG", "AXFR", "IXFR", "TXT"];
    let name = NAMES[random.below(NAMES.len() as u32) as usize];
    let rtype = TYPES[random.below(TYPES.len() as u32) as usize];
    // No id is that of the well-formed one.
    let mut question = Question::new(name, rtype).id(random.below(0xd000) as u16);
    question = match random.below(4) {
        0 => question,
        1 => question.dnssec(),
        2 => question.subnet("192.0.2.0", 24),
        _ => question.subnet("2001:db8::", 56),
    };
    let mut octets = question.octets();
    match random.below(8) {
        0 => {}
        1 => flip(&mut octets, 0, random),
        2 => flip(&mut octets, 12, random),
        3 => octets.truncate(random.below(octets.len() as u32) as usize),
        4 => (0..random.below(600)).for_each(|_| octets.push(random.next() as u8)),
        // Another question, a name that points to itself, labels that don't end.
        5 => {
            octets.splice(12.., [0xc0, random.below(16) as u8, 0, 1, 0, 1]);
        }
        6 => {
            let label = [&[63][..], &[b'a'; 63]].concat();
            octets.splice(12..12, label.repeat(random.below(5) as usize));
        }
        _ => client_subnet(&mut octets, random),
    }
    // Counts of records, opcodes and flags of all kinds.
    if octets.len() >= 12 {
        match random.below(8) {
            0 => octets[4 + random.below(8) as usize] ^= 1 << random.below(8),
            1 => octets[2] = random.next() as u8,
            _ => {}
        }
        if octets[..2] == PANIC_ID.to_be_bytes() {
            octets[0] = 0;
        }
    }
    octets
}

fn flip(octets: &mut [u8], from: usize, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if octets.len() > from {
            let at = from + random.below((octets.len() - from) as u32) as usize;
            octets[at] ^= 1 << random.below(8);
        }
    }
}

/// Puts an OPT record with a client subnet that makes no sense, perhaps more than one.
fn client_subnet(octets: &mut Vec<u8>, random: &mut Random) {
    let options: Vec<u8> = (0..=random.below(2))
        .flat_map(|_| {
            let family = [0, 1, 2, 3, 255][random.below(5) as usize];
            let (source, scope) = (random.below(256) as u8, random.below(2) as u8);
            let address: Vec<u8> = (0..random.below(20)).map(|_| random.next() as u8).collect();
            // Now and then its length isn't that of what follows.
            let length = 4 + address.len() as u8 + random.below(8) as u8 / 7;
            [&[0, 8, 0, length, 0, family, source, scope][..], &address].concat()
        })
        .collect();
    let opt = [&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, options.len() as u8][..], &options].concat();
    if octets[11] == 0 || random.below(4) == 0 {
        octets[11] += 1;
        octets.extend_from_slice(&opt);
    } else {
        // In the place of the one that it had.
        let at = octets.windows(3).rposition(|three| three == [0, 0, 41]).unwrap_or(octets.len());
        octets.splice(at.., opt);
    }
}

/// Sends it by TCP, not always as a whole, and reads what comes.
fn send_by_tcp(knot: &Knot, packet: &[u8], random: &mut Random) {
    let mut stream = TcpStream::connect(knot.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let length = packet.len() as u16 + (random.below(4) / 3) as u16 * random.below(100) as u16;
    let framed = [&length.to_be_bytes()[..], packet].concat();
    let _ = stream.write_all(&framed);
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(bytes @ 1..) = stream.read(&mut chunk) {
        reply.extend_from_slice(&chunk[..bytes]);
    }
    if let Some((length, rest)) = reply.split_first_chunk::<2>()
        && let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*length)))
    {
        Answer::read(message);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }
}
