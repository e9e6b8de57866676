//! Queries of zones that are logged: noted as they were asked and answered, in a real knotd, and no others.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use herald_core::firewall::{Action, FirewallPart, Rule, When};
use herald_core::rdata::parse_rdata;
use herald_core::steering::{AnswerMode, View};
use herald_core::{Name, Rdatas, RrKey, Rrset, Rtype, ZoneId};
use sha2::{Digest, Sha256};
use steering::firewall::RulesFile;
use steering::link::{LoggedEdns, LoggedQuery, LoggedSubnet, LoggedZone, ToAgent, ToModule};
use steering::query_log::KEPT_PER_S;
use support::agent::snapshot;
use support::zone::pool;
use support::{Agent, Knot, Question, TestZone, WITHIN};

const HOUR_MS: u64 = 3_600_000;

fn logged(zone: &TestZone, one_in: u32, left_ms: u64) -> LoggedZone {
    LoggedZone { zone: zone.id, name: zone.apex(), is_private: zone.is_private, one_in, left_ms }
}

fn log(agent: &mut Agent, zones: &[LoggedZone]) {
    agent.say(&ToModule::LogQueries { zones: zones.to_vec() });
}

/// What an agent is told.
#[derive(Default)]
struct Told {
    queries: BTreeMap<ZoneId, Vec<LoggedQuery>>,
    left_out: u64,
}

impl Told {
    fn take(&mut self, message: ToAgent) {
        let ToAgent::Queries { zones } = message else { return };
        for zone in zones {
            self.left_out += zone.left_out;
            self.queries.entry(zone.zone).or_default().extend(zone.queries);
        }
    }

    /// Takes until there are so many queries, left out ones included.
    fn take_until(&mut self, agent: &mut Agent, queries: u64) {
        let until = Instant::now() + WITHIN;
        while self.all() < queries {
            let message = agent.try_receive(until.saturating_duration_since(Instant::now()));
            self.take(message.unwrap_or_else(|| panic!("{queries}, not {:?}", self.queries)));
        }
        assert_eq!(self.all(), queries, "{:?}", self.queries);
    }

    /// Takes what comes for longer than anything waits.
    fn take_all(&mut self, agent: &mut Agent) {
        let until = Instant::now() + Duration::from_millis(2_500);
        while let Some(message) = agent.try_receive(until.saturating_duration_since(Instant::now())) {
            self.take(message);
        }
    }

    fn all(&self) -> u64 {
        self.queries.values().map(|queries| queries.len() as u64).sum::<u64>() + self.left_out
    }
}

fn steered(apex: &str) -> TestZone {
    TestZone::new(apex)
        .pool("east", pool(AnswerMode::All, Rtype::A, &[("192.0.2.7", 1)]))
        .policy("www", Rtype::A, &["east"])
        .records(&["plain A 192.0.2.1"])
}

/// A zone that is there for those at 127.0.9.0/24 alone.
fn private() -> TestZone {
    let view = View { prefixes: vec!["127.0.9.0/24".parse().unwrap()], pops: vec![] };
    let mut zone = TestZone::new("internal.test.").view("office", view);
    zone.is_private = true;
    for (owner, rtype, text) in [("@", Rtype::NS, "ns.example.com."), ("www", Rtype::A, "10.0.0.1")] {
        let rdatas = Rdatas::single(&parse_rdata(rtype, text).unwrap());
        zone.steering.push((RrKey::new(zone.name(owner), rtype), Rrset { ttl: 60, rdatas }));
    }
    zone
}

/// A flood over one socket, each query answered.
fn flood(knot: &Knot, name: &str, queries: u64) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(knot.address).unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    let octets = Question::new(name, "A").octets();
    let mut buffer = [0; 1500];
    for begin in (0..queries).step_by(64) {
        let burst = 64.min(queries - begin);
        (0..burst).for_each(|_| _ = socket.send(&octets).unwrap());
        (0..burst).for_each(|_| _ = socket.recv(&mut buffer).expect("an answer to each query"));
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn a_query_is_noted_as_it_was_asked_and_answered() {
    let (zone, other, private) = (steered("example.com."), TestZone::new("example.net."), private());
    let knot = Knot::start(&[&zone, &other], Some(&snapshot(&[&zone, &private])));
    let mut agent = knot.agent();
    assert!(matches!(agent.hello, ToAgent::Hello { logs_queries: true, .. }));
    // Somebody at 127.0.3.1 is refused.
    let when = When { sources: vec!["127.0.3.0/24".parse().unwrap()], ..When::default() };
    let refused = Rule { name: "refused".into(), order: 1, when, action: Action::Refuse, note: None };
    let file = RulesFile { fleet: vec![refused], tenants: Vec::new() }.write();
    let path = knot.file("rules");
    std::fs::write(&path, &file).unwrap();
    let (path, hash) = (path.to_str().unwrap().into(), Sha256::digest(&file).to_vec());
    agent.say(&ToModule::Firewall { part: FirewallPart::Rules, path, hash });
    assert!(matches!(agent.receive(), ToAgent::FirewallLoaded { problem: None, .. }));

    // Before it is on: nothing of this is noted.
    knot.ask("plain.example.com.", "A");
    log(&mut agent, &[logged(&zone, 1, HOUR_MS), logged(&private, 1, HOUR_MS)]);
    assert_eq!(agent.synchronize().logged_zones, 2);
    let begin_ms =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    knot.ask("PLAIN.example.com.", "A");
    let udp = Question::new("www.example.com.", "A").subnet("198.51.100.0", 24).ask(knot.address);
    let tcp = Question::new("www.example.com.", "A").tcp().dnssec().ask(knot.address);
    let missing = knot.ask("missing.example.com.", "TXT");
    assert_eq!(missing.rcode, Rcode::NXDOMAIN);
    let refused = Question::new("plain.example.com.", "A").source("127.0.3.1").ask(knot.address);
    assert_eq!(refused.rcode, Rcode::REFUSED);
    let long = format!("{0}.{0}.{0}.example.com.", "a".repeat(63));
    Question::new(&long, "AAAA").subnet("2001:db8:1234::", 48).ask(knot.address);
    let inside = Question::new("www.internal.test.", "A").source("127.0.9.1").ask(knot.address);
    assert_eq!(inside.values(), ["10.0.0.1"]);
    // Not these: of a zone that isn't logged, of none, and the agent's own.
    knot.ask("www.example.net.", "A");
    knot.ask("www.example.org.", "A");
    let mut own = Question::new("plain.example.com.", "A").octets();
    own[3] |= 0x40;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&own, knot.address).unwrap();

    let mut told = Told::default();
    told.take_until(&mut agent, 7);
    told.take_all(&mut agent);
    assert_eq!((told.all(), told.left_out), (7, 0));
    // What several threads answer within one visit of the reader comes in any order.
    let of = |asked: &str, is_so: &dyn Fn(&LoggedQuery) -> bool| {
        let mut found =
            told.queries[&zone.id].iter().filter(|query| query.name == name(asked) && is_so(query));
        let one = found.next().unwrap_or_else(|| panic!("{asked}: {:?}", told.queries));
        assert!(found.next().is_none(), "{asked}: {:?}", told.queries);
        one.clone()
    };
    let plain = of("plain.example.com.", &|query| query.rcode == 0);
    let refused = of("plain.example.com.", &|query| query.rcode == 5);
    let (by_udp, by_tcp) = (
        of("www.example.com.", &|query| query.transport == 0),
        of("www.example.com.", &|query| query.transport == 1),
    );
    let (missed, longest) = (of("missing.example.com.", &|_| true), of(&long, &|_| true));
    assert_eq!(
        (&plain.name, plain.rtype, plain.rcode, plain.transport),
        (&name("plain.example.com."), 1, 0, 0)
    );
    assert_eq!((&plain.source[..], &plain.edns, &plain.policy), (&[127, 0, 0, 1][..], &None, &None));
    assert!(plain.time_ms >= begin_ms && plain.time_ms < begin_ms + 60_000, "{plain:?}");
    assert!(plain.answer_bytes >= 40 && !plain.is_truncated && !plain.is_dropped, "{plain:?}");
    assert_eq!(by_udp.answer_bytes, udp.bytes as u32);
    assert_eq!((by_udp.policy.as_deref(), by_udp.pool.as_deref()), (Some("www.example.com."), Some("east")));
    let subnet = |address: &[u8], length| Some(LoggedSubnet { address: address.to_vec(), length });
    let edns = |wants_dnssec, subnet| Some(LoggedEdns { udp_bytes: 1232, wants_dnssec, subnet });
    assert_eq!(by_udp.edns, edns(false, subnet(&[198, 51, 100, 0], 24)));
    assert_eq!((by_tcp.transport, &by_tcp.edns), (1, &edns(true, None)));
    assert_eq!((by_tcp.answer_bytes, by_tcp.pool.as_deref()), (tcp.bytes as u32, Some("east")));
    assert_eq!((missed.rcode, missed.rtype, &missed.policy), (3, 16, &None));
    assert_eq!((refused.rcode, &refused.source[..]), (5, &[127, 0, 3, 1][..]));
    assert_eq!((&longest.name, longest.rtype), (&name(&long), 28));
    let six = [0x20, 1, 0xd, 0xb8, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(longest.edns, edns(false, subnet(&six, 48)));
    let [ref insider] = told.queries[&private.id][..] else { panic!("{:?}", told.queries) };
    assert_eq!((&insider.name, &insider.source[..]), (&name("www.internal.test."), &[127, 0, 9, 1][..]));
    let status = agent.synchronize();
    assert_eq!((status.logged, status.left_out, status.panics), (7, 0, 0));
    assert!(status.counted >= Some(1 + 7 + 2), "each is counted, too: {status:?}");
}

#[test]
fn of_many_a_sample_and_of_too_many_what_there_is_room_for() {
    let (zone, busy) = (steered("example.com."), TestZone::new("example.net."));
    let knot = Knot::start(&[&zone, &busy], Some(&snapshot(&[&zone])));
    let mut agent = knot.agent();
    // One in 400: fewer than what is kept of a second.
    log(&mut agent, &[logged(&zone, 400, HOUR_MS), logged(&busy, 1, HOUR_MS)]);
    agent.synchronize();
    flood(&knot, "www.example.com.", 20_000);
    flood(&knot, "example.net.", 20_000);
    let mut told = Told::default();
    let seen_of_busy = |told: &Told| {
        let sampled = told.queries.get(&zone.id).map_or(0, Vec::len) as u64;
        told.all() - sampled
    };
    let until = Instant::now() + WITHIN;
    while seen_of_busy(&told) < 20_000 {
        told.take(agent.try_receive(until.saturating_duration_since(Instant::now())).expect("more of them"));
    }
    told.take_all(&mut agent);
    let sampled = told.queries[&zone.id].len();
    assert!((20..90).contains(&sampled), "{sampled} of 20,000, one in 400");
    // Of each second so many are kept, and the others counted.
    let kept = told.queries[&busy.id].len();
    assert!((KEPT_PER_S..20 * KEPT_PER_S).contains(&kept), "{kept}");
    assert_eq!(seen_of_busy(&told), 20_000);
    assert!(told.left_out > 0);
}

#[test]
fn it_ends_when_it_is_said_when_it_runs_out_and_when_the_agent_is_gone() {
    let zone = steered("example.com.");
    let knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let mut agent = knot.agent();
    let mut told = Told::default();
    // Said.
    log(&mut agent, &[logged(&zone, 1, HOUR_MS)]);
    agent.synchronize();
    knot.ask("www.example.com.", "A");
    told.take_until(&mut agent, 1);
    log(&mut agent, &[]);
    assert_eq!(agent.synchronize().logged_zones, 0);
    knot.ask("www.example.com.", "A");
    // Runs out, and is told to last longer.
    log(&mut agent, &[logged(&zone, 1, 300)]);
    log(&mut agent, &[logged(&zone, 1, 1_000)]);
    agent.synchronize();
    knot.ask("www.example.com.", "A");
    told.take_until(&mut agent, 2);
    knot.wait("it to run out", || agent.synchronize_past(|message| told.take(message)).logged_zones == 0);
    knot.ask("www.example.com.", "A");
    told.take_all(&mut agent);
    assert_eq!(told.all(), 2);
    // It is on again, and stays so over a reload, for which instances are made anew.
    log(&mut agent, &[logged(&zone, 1, HOUR_MS)]);
    agent.synchronize();
    knot.knotc(&["reload"]).clear();
    knot.ask("www.example.com.", "A");
    told.take_until(&mut agent, 3);
    // Another agent comes, and then the first is gone: that ends nothing.
    let mut second = knot.agent();
    log(&mut second, &[logged(&zone, 1, HOUR_MS)]);
    second.synchronize();
    drop(agent);
    knot.wait("the first to be gone", || {
        knot.ask("www.example.com.", "A");
        second.synchronize_past(|message| told.take(message)).logged_zones == 1 && told.all() > 3
    });
    // And when that is gone, too, nobody wants it any more.
    drop(second);
    let mut third = knot.agent();
    knot.wait("it to end", || third.synchronize().logged_zones == 0);
    assert_eq!(third.synchronize().panics, 0);
}
