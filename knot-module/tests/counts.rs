//! Every query is counted once: by zone, and by what is known of it; whatever becomes of the agent and of knotd.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use herald_core::Rtype;
use herald_core::steering::AnswerMode;
use steering::counts::Counts;
use steering::link::{ToAgent, ToModule};
use support::agent::snapshot;
use support::zone::pool;
use support::{Agent, Knot, Question, TestZone, WITHIN};

/// How long the module may take to tell of what it has counted: what is lost when knotd is killed is no older.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// An agent that keeps counts: each batch once.
#[derive(Default)]
struct Keeper {
    seen: HashSet<(u64, u64)>,
    zones: BTreeMap<String, Counts>,
}

impl Keeper {
    fn take(&mut self, message: ToAgent) -> Option<(u64, u64)> {
        let ToAgent::Counts(batch) = message else { return None };
        let key = (batch.instance, batch.sequence);
        if self.seen.insert(key) {
            for row in batch.rows {
                let name = row.name.map(|name| name.to_string()).unwrap_or_default();
                self.zones.entry(name).or_default().merge(&row.counts);
            }
        }
        Some(key)
    }

    /// Takes and keeps until there are so many queries of these zones.
    fn take_until(&mut self, agent: &mut Agent, zones: &[&str], queries: u64) {
        agent.say(&ToModule::CountsKept { instance: 0, sequence: 0 });
        let until = Instant::now() + WITHIN;
        while self.of(zones) < queries {
            let left = until.saturating_duration_since(Instant::now());
            let message = agent.try_receive(left);
            let message = message.unwrap_or_else(|| panic!("{queries} of {zones:?}, not {:?}", self.zones));
            if let Some((instance, sequence)) = self.take(message) {
                agent.say(&ToModule::CountsKept { instance, sequence });
            }
        }
        // Whether more come than there should be.
        while let Some(message) = agent.try_receive(TOLD_WITHIN) {
            if let Some((instance, sequence)) = self.take(message) {
                agent.say(&ToModule::CountsKept { instance, sequence });
            }
        }
        assert_eq!(self.of(zones), queries, "{:?}", self.zones);
    }

    fn of(&self, zones: &[&str]) -> u64 {
        zones.iter().filter_map(|zone| self.zones.get(*zone)).map(|counts| counts.queries).sum()
    }
}

fn steered(apex: &str) -> TestZone {
    let mut zone = TestZone::new(apex)
        .pool("east", pool(AnswerMode::All, Rtype::A, &[("192.0.2.7", 1)]))
        .policy("www", Rtype::A, &["east"])
        .policy("*.wild", Rtype::A, &["east"]);
    zone.records.push("plain A 192.0.2.1".into());
    zone
}

/// Sends so many questions and waits for all answers; whoever isn't answered in time is asked again, and counted again.
fn flood(knot: &Knot, name: &str, queries: u64) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(knot.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let octets = Question::new(name, "A").octets();
    let mut buffer = [0; 1500];
    let mut sent = 0;
    while sent < queries {
        let burst = 64.min(queries - sent);
        for _ in 0..burst {
            socket.send(&octets).unwrap();
        }
        for _ in 0..burst {
            socket.recv(&mut buffer).expect("an answer to each query");
        }
        sent += burst;
    }
    sent
}

#[test]
fn each_query_is_counted_by_what_it_asked_and_got() {
    let (zone, plain) = (steered("example.com."), TestZone::new("plain.example."));
    let knot = Knot::start(&[&zone, &plain], Some(&snapshot(&[&zone])));
    for _ in 0..3 {
        knot.ask("www.example.com.", "A");
    }
    knot.ask("WWW.example.com.", "A");
    knot.ask("a.wild.example.com.", "A");
    knot.ask("plain.example.com.", "A");
    knot.ask("nothing.example.com.", "AAAA");
    Question::new("www.example.com.", "A").tcp().ask(knot.address);
    Question::new("plain.example.com.", "A").edns(1232).ask(knot.address);
    for rtype in ["SOA", "TXT", "MX", "AXFR"] {
        Question::new("plain.example.", rtype).tcp().ask(knot.address);
    }
    // Nobody's: an unknown zone, a version of EDNS that isn't there, a message with no question, one with garbage behind it.
    knot.ask("example.net.", "A");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(knot.address).unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    let good = Question::new("www.example.com.", "A").edns(1232).octets();
    let mut bad_version = good.clone();
    let at = bad_version.len() - 5;
    bad_version[at] = 1;
    let no_question = [&[0, 9, 0, 0], &[0; 8][..]].concat();
    let garbage = [&Question::new("www.example.com.", "A").octets()[..], &[1, 2, 3]].concat();
    for octets in [&bad_version, &no_question, &garbage] {
        socket.send(octets).unwrap();
        socket.recv(&mut [0; 1500]).expect("an answer");
    }
    // The agent's own question is nobody's query.
    let mut own = Question::new("plain.example.", "SOA").octets();
    own[3] |= 0x40;
    socket.send(&own).unwrap();
    socket.recv(&mut [0; 1500]).expect("an answer");

    let mut keeper = Keeper::default();
    keeper.take_until(&mut knot.agent(), &["example.com.", "plain.example."], 9 + 4);
    let counts = &keeper.zones["example.com."];
    assert_eq!(counts.queries, 9, "{counts:?}");
    assert_eq!(counts.by_type.iter().collect::<Vec<_>>(), [(&1, 8), (&28, 1)]);
    assert_eq!(counts.by_rcode.iter().collect::<Vec<_>>(), [(&0, 8), (&3, 1)]);
    assert_eq!(counts.by_transport.iter().collect::<Vec<_>>(), [(&0, 8), (&1, 1)]);
    assert_eq!((counts.nxdomain(), counts.dropped, counts.truncated, counts.ipv6), (1, 0, 0, 0));
    assert_eq!(counts.by_pool["www.example.com."].get(&"east".into()), 5);
    assert_eq!(counts.by_pool["*.wild.example.com."].get(&"east".into()), 1);
    assert_eq!(counts.by_pool.len(), 2);
    let counts = &keeper.zones["plain.example."];
    assert_eq!(counts.by_type.iter().collect::<Vec<_>>(), [(&6, 1), (&15, 1), (&16, 1), (&252, 1)]);
    assert_eq!(counts.by_rcode.get(&9), 1, "a transfer that isn't allowed");
    let counts = &keeper.zones[""];
    assert_eq!((counts.by_rcode.get(&1), counts.by_rcode.get(&16)), (2, 1), "{counts:?}");
    assert!(counts.by_rcode.get(&5) >= 1);
    assert_eq!(counts.by_type.get(&0), 1, "the one without a question");
}

#[test]
fn none_is_lost_and_none_is_counted_twice_while_agents_come_and_go_and_knotd_is_restarted() {
    const ROUNDS: u64 = 6;
    const QUERIES: u64 = 20_000;
    let zone = steered("example.com.");
    let mut knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let mut keeper = Keeper::default();
    let mut sent = 0;
    for round in 0..ROUNDS {
        sent += flood(&knot, "www.example.com.", QUERIES);
        match round {
            // An agent that hears of a batch, keeps it, and is gone before it can say so.
            0 | 3 => {
                let mut agent = knot.agent();
                agent.say(&ToModule::CountsKept { instance: 0, sequence: 0 });
                while keeper.take(agent.receive()).is_none() {}
            }
            1 | 4 => knot.knotc(&["reload"]).clear(),
            2 => {
                knot.stop();
                knot.run();
            }
            _ => {}
        }
        // A batch on its way to an agent as knotd ends: it comes again.
        if round == 4 {
            let mut agent = knot.agent();
            agent.say(&ToModule::CountsKept { instance: 0, sequence: 0 });
            sent += flood(&knot, "www.example.com.", QUERIES);
            while keeper.take(agent.receive()).is_none() {}
            knot.stop();
            knot.run();
        }
    }
    keeper.take_until(&mut knot.agent(), &["example.com."], sent);
    let counts = &keeper.zones["example.com."];
    assert_eq!(counts.by_pool["www.example.com."].get(&"east".into()), sent);
    knot.wait("the file to be gone", || !knot.file("herald.counts").exists());
    assert_eq!(knot.agent().synchronize().counted_coarsely, Some(0));
}

#[test]
fn a_knotd_that_is_killed_loses_half_a_second_at_most() {
    let zone = steered("example.com.");
    let mut knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let mut agent = knot.agent();
    agent.say(&ToModule::CountsKept { instance: 0, sequence: 0 });
    let mut keeper = Keeper::default();
    // (When it was answered, how many there were.)
    let mut answered = Vec::new();
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        sent += flood(&knot, "plain.example.com.", 64);
        answered.push((Instant::now(), sent));
    }
    knot.kill();
    let killed = Instant::now();
    while let Some(message) = agent.try_receive(TOLD_WITHIN) {
        keeper.take(message);
    }
    let before =
        answered.iter().rfind(|(when, _)| killed - *when >= TOLD_WITHIN).map_or(0, |(_, sent)| *sent);
    let told = keeper.of(&["example.com."]);
    assert!(before > 0 && told >= before && told <= sent, "{told} of {before} to {sent}");

    // Without an agent it is what was counted since the file was written.
    let file = knot.file("herald.counts");
    let _ = std::fs::remove_file(&file);
    knot.run();
    let more = flood(&knot, "plain.example.com.", 1_000);
    knot.wait("the file", || file.exists());
    knot.kill();
    knot.run();
    keeper.take_until(&mut knot.agent(), &["example.com."], told + more);
}

#[test]
fn a_file_that_cannot_be_read_is_put_aside() {
    let zone = steered("example.com.");
    let mut knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    knot.kill();
    for garbage in
        [&b"rubbish"[..], b"herald-counts-01", b"herald-counts-01\x00\x00\x00\x05garbage of some length"]
    {
        std::fs::write(knot.file("herald.counts"), garbage).unwrap();
        knot.run();
        let mut keeper = Keeper::default();
        let sent = flood(&knot, "www.example.com.", 100);
        keeper.take_until(&mut knot.agent(), &["example.com."], sent);
        knot.kill();
    }
    assert!(knot.file("herald.counts.unreadable").exists());
}
