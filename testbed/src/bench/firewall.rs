//! What the firewall costs those who are let through, and what it leaves them of their answers in a flood. Two platforms run side by
//! side, one with rules and one without; both knotds have one UDP worker and one CPU, the same for both.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use serde_json::{Value, json};

use super::Settings;
use super::report::{Line, figure};
use super::steering::flood::Questions;
use super::steering::pairs::{Side, compare, pin};
use super::steering::qps::{ASKER_CPU, SERVERS_CPU};
use crate::dns::{self, Transport};
use crate::platform::Platform;
use crate::wait::wait_until;

const ZONE: &str = "plain.test.";

/// Names that are asked for.
const NAMES: usize = 100;

/// Networks and names in rules, and how many a rule has.
const PREFIXES: usize = 10_000;
const BLOCKED_NAMES: usize = 10_000;
const VALUES_A_RULE: usize = 100;

/// Networks of those that the flood comes from, with an address each.
const FLOODING: usize = 1_000;

/// Queries a second of the flood, and of the others.
const FLOOD_PER_S: u64 = 100_000;
const OTHERS_PER_S: u64 = 5_000;

/// Runs without the flood and with it, taking turns, and how long each is.
const PAIRS: usize = 9;
const RUN: Duration = Duration::from_secs(1);

/// How many shares at either end lie outside of the interval that is told.
const OUTSIDE: usize = 1;

/// What is not answered by then is no answer.
const LATE: Duration = Duration::from_millis(500);

/// Queries that are sent at once, at most.
const AT_ONCE: u64 = 64;

/// Measures.
///
/// # Panics
/// If something isn't right.
pub fn run(_: &Settings) -> Vec<Line> {
    let (guarded, open) = (start("bench-firewall"), start("bench-no-firewall"));
    guard(&guarded);
    for platform in [&guarded, &open] {
        for process in platform.pops[0].knotds().iter().filter_map(|id| u32::try_from(*id).ok()) {
            pin(process, SERVERS_CPU);
        }
    }
    pin(std::process::id(), ASKER_CPU);
    let (here, beside) = (guarded.pops[0].listen, open.pops[0].listen);
    let questions = Questions::new((0..NAMES).map(|n| (format!("plain{n}.{ZONE}"), Rtype::A, None)));
    let side = |server| Side { server, questions: questions.clone() };
    let cost = compare("10,000 prefixes, 10,000 names", "no rules", &side(here), &side(beside), 0.95);
    vec![Line { bench: "firewall-qps", ..cost }, flooded(here, beside)]
}

fn start(label: &str) -> Platform {
    let mut platform = Platform::without_pops(label);
    let mut pop = platform.set_up_pop(platform.herald.pops);
    pop.configure(|config| format!("{config}udp_workers = 1\ntcp_workers = 1\n"));
    pop.start();
    platform.pops.push(pop);
    let record =
        |n: usize| json!({ "name": format!("plain{n}"), "type": "A", "ttl": 60, "records": ["192.0.2.1"] });
    let records: Vec<Value> = (0..NAMES).map(record).collect();
    platform.tenant.post("/zones?wait=all", &json!({ "name": ZONE, "rrsets": records })).expect(201);
    let listen = platform.pops[0].listen;
    wait_until(Duration::from_secs(60), "the zone", || {
        dns::query(listen, &format!("plain0.{ZONE}"), "A", Transport::Udp)
            .is_ok_and(|answer| !answer.values("A").is_empty())
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", platform.pops[0].tail()));
    platform
}

/// The network that one of the rules is for: of the first ones some address on loopback is in it.
fn prefix(number: usize) -> Ipv4Addr {
    let number = u32::try_from(number).expect("few");
    let base = if number < FLOODING as u32 { 0x7f80_0000 } else { 0x0a00_0000 };
    Ipv4Addr::from_bits(base + (number << 8))
}

/// Rules that drop queries from networks, and for names beside those that are asked for.
fn guard(platform: &Platform) {
    let by = |kind: &str, list: &str, values: Vec<String>| {
        let rule = |(number, values): (usize, &[String])| json!({ "name": format!("{kind}{number}"), "order": 1, "action": "drop", "when": { list: values } });
        values.chunks(VALUES_A_RULE).enumerate().map(rule).collect::<Vec<Value>>()
    };
    let sources = (0..PREFIXES).map(|n| format!("{}/24", prefix(n))).collect();
    let names = (0..BLOCKED_NAMES).map(|n| format!("blocked{n}.{ZONE}")).collect();
    let rules = [by("net", "sources", sources), by("name", "names", names)].concat();
    let path = "/firewall/rules?wait=all&timeout_ms=60000";
    platform.herald.operator().put(path, &json!({ "rules": rules })).expect(200);
    let listen = platform.pops[0].listen;
    let told = ask_for(listen, prefix(1), Duration::from_millis(200));
    assert!(told.is_err(), "a query that is to be dropped was answered");
}

/// Asks once from an address of a network.
fn ask_for(server: SocketAddr, network: Ipv4Addr, within: Duration) -> io::Result<usize> {
    let socket = UdpSocket::bind((Ipv4Addr::from_bits(network.to_bits() + 1), 0))?;
    socket.set_read_timeout(Some(within))?;
    socket.send_to(&dns::question(1, &format!("plain0.{ZONE}"), "A"), server)?;
    socket.recv(&mut [0; 512])
}

/// What others get of their answers while there is a flood, with rules that drop it and without.
fn flooded(guarded: SocketAddr, open: SocketAddr) -> Line {
    let measured = [guarded, open].map(|server| {
        let mut flood = Flood::new(server);
        let mut shares: Vec<f64> = (0..PAIRS)
            .map(|_| {
                let calm = others(server, None);
                others(server, Some(&mut flood)) / calm
            })
            .collect();
        shares.sort_by(f64::total_cmp);
        (shares, flood.sent)
    });
    let [(ours, sent), (peer, _)] = &measured;
    let mut line = Line {
        bench: "firewall-qps",
        unit: "of the answers without a flood",
        less_is_better: false,
        ours: Some(ours[PAIRS / 2]),
        peer: Some(peer[PAIRS / 2]),
        setting: vec![("flood", "1,000 blocked prefixes".into()), ("beside", "no rules".into())],
        details: vec![
            ("flood_per_s", (sent / PAIRS as u64 / RUN.as_secs()).into()),
            ("others_per_s", OTHERS_PER_S.into()),
            ("pairs", PAIRS.into()),
            ("least", figure(Some(ours[OUTSIDE]))),
            ("most", figure(Some(ours[PAIRS - 1 - OUTSIDE]))),
        ],
        goals: Vec::new(),
    };
    line.goal(0.9);
    line
}

/// Asks at a pace that a server has no trouble with, and gives how many answers came, by query. The flood is sent by the same thread, so
/// that neither comes in heaps while the other one has the CPU.
fn others(server: SocketAddr, mut flood: Option<&mut Flood>) -> f64 {
    let socket = UdpSocket::bind((server.ip(), 0)).expect("a socket");
    socket.connect(server).expect("it is local");
    socket.set_nonblocking(true).expect("it is a socket");
    let question = dns::question(1, &format!("plain0.{ZONE}"), "A");
    let (mut sent, mut answered, mut reply) = (0, 0_u64, [0; 512]);
    let (mut asked, mut flooded) = (Pace::new(OTHERS_PER_S), Pace::new(FLOOD_PER_S));
    let begin = Instant::now();
    while begin.elapsed() < RUN + LATE {
        let now = begin.elapsed().min(RUN);
        for _ in 0..asked.due(now) {
            sent += u64::from(socket.send(&question).is_ok());
        }
        if let Some(flood) = &mut flood {
            flood.send(flooded.due(now));
        }
        while let Ok(length) = socket.recv(&mut reply) {
            answered += u64::from(length > 12 && reply[3] & 0xf == 0 && reply[6..8] != [0, 0]);
        }
    }
    assert!(sent > 0 && answered <= sent, "{answered} of {sent} were answered");
    answered as f64 / sent as f64
}

/// So many a second, one after the other.
struct Pace {
    per_s: u64,
    taken: u64,
}

impl Pace {
    fn new(per_s: u64) -> Pace {
        Pace { per_s, taken: 0 }
    }

    /// How many there are to be now. Whoever had to wait for the CPU makes up for a few of them, as more would be a heap of queries that
    /// nobody's buffer takes.
    fn due(&mut self, now: Duration) -> u64 {
        let all = u64::try_from(now.as_micros()).unwrap_or(u64::MAX).saturating_mul(self.per_s) / 1_000_000;
        let due = (all - self.taken).min(AT_ONCE);
        self.taken = all;
        due
    }
}

/// Queries from all blocked networks in turn.
struct Flood {
    sockets: Vec<UdpSocket>,
    question: Vec<u8>,
    sent: u64,
}

impl Flood {
    fn new(server: SocketAddr) -> Flood {
        let socket = |number| {
            let address = Ipv4Addr::from_bits(prefix(number).to_bits() + 1);
            let socket = UdpSocket::bind((address, 0)).expect("all of 127.0.0.0/8 is local");
            socket.connect(server).expect("it is local");
            socket.set_nonblocking(true).expect("it is a socket");
            socket
        };
        let question = dns::question(1, &format!("plain0.{ZONE}"), "A");
        Flood { sockets: (0..FLOODING).map(socket).collect(), question, sent: 0 }
    }

    fn send(&mut self, count: u64) {
        for _ in 0..count {
            let place = usize::try_from(self.sent % FLOODING as u64).expect("few");
            // An error that an earlier query met is of no account.
            let _ = self.sockets[place].send(&self.question);
            self.sent += 1;
        }
    }
}
