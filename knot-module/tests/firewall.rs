//! The firewall in a real knotd: rules and policy zones, taken into use, replaced, refused, and there after a start.

mod support;

use std::fs;

use domain::base::iana::Rcode;
use herald_core::firewall::{Action, Owner, QueryType, Rate, Rule, When};
use herald_core::{Name, Rtype, TenantId};
use sha2::{Digest, Sha256};
use steering::firewall::{PoliciesFile, RulesFile, TenantRules, read_rpz};
use steering::link::{FirewallCount, FirewallPart, ToAgent, ToModule};
use support::agent::snapshot;
use support::{Agent, Answer, Knot, Question, TestZone};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn rule(name: &str, order: u32, action: Action, when: When) -> Rule {
    Rule { name: name.into(), order, when, action, note: None }
}

fn from(prefix: &str) -> When {
    When { sources: vec![prefix.parse().unwrap()], ..When::default() }
}

fn message(knot: &Knot, part: FirewallPart, file: &[u8]) -> ToModule {
    if file.is_empty() {
        return ToModule::Firewall { part, path: String::new(), hash: Vec::new() };
    }
    let path = knot.file(&format!("{part:?}"));
    fs::write(&path, file).unwrap();
    ToModule::Firewall { part, path: path.to_str().unwrap().into(), hash: Sha256::digest(file).to_vec() }
}

/// Announces a file, and gives back what is wrong with it.
fn announce(agent: &mut Agent, knot: &Knot, part: FirewallPart, file: &[u8]) -> Option<String> {
    agent.say(&message(knot, part, file));
    match agent.receive() {
        ToAgent::FirewallLoaded { part: of, problem, .. } if of == part => problem,
        other => panic!("{other:?}"),
    }
}

fn zones() -> [TestZone; 2] {
    [
        TestZone::new("example.com.").records(&["www A 192.0.2.1", "a.b A 192.0.2.2"]),
        TestZone::new("example.net.").records(&["www A 192.0.2.3"]),
    ]
}

fn rules() -> RulesFile {
    let any = When { types: vec![QueryType(Rtype::ANY)], ..When::default() };
    let names = |text: &str| When { names: vec![name(text)], ..When::default() };
    let slow = Rate { per_s: 1, burst: 5, v4_length: 24, v6_length: 56 };
    RulesFile {
        fleet: vec![
            rule("friends", 1, Action::Pass, from("127.0.1.0/24")),
            rule("see", 2, Action::Count, from("127.0.0.0/8")),
            rule("flood", 3, Action::Drop, from("127.0.2.0/24")),
            rule("refused", 4, Action::Refuse, from("127.0.3.0/24")),
            rule("no-any", 5, Action::Truncate, any),
            rule("gone", 6, Action::NxDomain, names("*.b.example.com.")),
            rule("fast", 7, Action::Drop, When { over: Some(slow), ..from("127.0.4.0/23") }),
        ],
        tenants: vec![TenantRules {
            tenant: TenantId(7),
            zones: vec![name("example.net.")],
            rules: vec![rule("ours", 1, Action::Refuse, names("www.example.net."))],
        }],
    }
}

fn ask(knot: &Knot, source: &str, asked: &str, rtype: &str) -> Option<Answer> {
    Question::new(asked, rtype).source(source).try_ask(knot.address)
}

#[test]
fn queries_get_what_rules_say_and_a_restart_keeps_them() {
    let zones = zones();
    let zones: Vec<&TestZone> = zones.iter().collect();
    let mut knot = Knot::start(&zones, Some(&snapshot(&zones)));
    let mut agent = knot.agent();
    let rcode =
        |knot: &Knot, source: &str, asked: &str| ask(knot, source, asked, "A").map(|answer| answer.rcode);
    assert_eq!(rcode(&knot, "127.0.3.1", "www.example.com."), Some(Rcode::NOERROR));

    let file = rules().write();
    assert_eq!(announce(&mut agent, &knot, FirewallPart::Rules, &file), None);
    let check = |knot: &Knot| {
        assert_eq!(rcode(knot, "127.0.9.1", "www.example.com."), Some(Rcode::NOERROR));
        assert_eq!(rcode(knot, "127.0.2.1", "www.example.com."), None, "it is dropped");
        assert_eq!(rcode(knot, "127.0.3.1", "www.example.com."), Some(Rcode::REFUSED));
        assert_eq!(rcode(knot, "127.0.1.1", "a.b.example.com."), Some(Rcode::NOERROR));
        let gone = ask(knot, "127.0.9.1", "a.b.example.com.", "A").unwrap();
        assert_eq!((gone.rcode, gone.answers.len(), gone.is_authoritative), (Rcode::NXDOMAIN, 0, true));
        assert!(gone.authority[0].contains("SOA"), "{gone:?}");
        let any = Question::new("www.example.com.", "ANY");
        let truncated = any.clone().source("127.0.9.1").ask(knot.address);
        assert!(truncated.is_truncated && truncated.answers.is_empty(), "{truncated:?}");
        assert!(!any.tcp().ask(knot.address).answers.is_empty(), "by TCP it passes");
        // A zone's rules are for its own names, whatever they say.
        assert_eq!(rcode(knot, "127.0.9.1", "www.example.net."), Some(Rcode::REFUSED));
        let fast = (0..10).filter(|_| ask_quickly(knot, "127.0.4.1")).count();
        assert!((5..8).contains(&fast), "{fast} of 10 were answered, at 5 and then one a second");
        assert!(ask_quickly(knot, "127.0.5.1"), "another network of that length isn't touched");
    };
    check(&knot);
    let count = |status: steering::link::ModuleStatus, rule: &str| {
        let counts = status.firewall.unwrap();
        counts.iter().find(|count| count.name == rule).map_or(0, |count| count.queries)
    };
    let status = agent.synchronize();
    assert_eq!(count(status.clone(), "friends"), 1);
    assert_eq!(count(status.clone(), "flood"), 1);
    let ours = FirewallCount {
        owner: Some(Owner::Tenant(TenantId(7))),
        name: "ours".into(),
        action: String::new(),
        queries: 1,
    };
    assert!(status.firewall.unwrap().contains(&ours));

    // What can't be read leaves what is in use.
    let problem = announce(&mut agent, &knot, FirewallPart::Rules, b"rubbish").unwrap();
    assert!(problem.contains("no file of the firewall"), "{problem}");
    assert!(announce(&mut agent, &knot, FirewallPart::Rules, &file[..file.len() - 3]).is_some());
    assert_eq!(rcode(&knot, "127.0.3.1", "www.example.com."), Some(Rcode::REFUSED));

    // Others in their place go on counting.
    let mut fewer = rules();
    fewer.fleet.retain(|rule| matches!(rule.name.as_str(), "refused" | "flood"));
    assert_eq!(announce(&mut agent, &knot, FirewallPart::Rules, &fewer.write()), None);
    assert_eq!(rcode(&knot, "127.0.3.1", "www.example.com."), Some(Rcode::REFUSED));
    assert_eq!(count(agent.synchronize(), "refused"), 3);

    // knotd alone is killed: no query is let through before the rules are there again.
    let mut octets = steering::link::SNAPSHOT_MAGIC.to_vec();
    let told = [message(&knot, FirewallPart::Rules, &file)].into_iter();
    for message in told.chain(zones.iter().flat_map(|zone| zone.messages())).chain([ToModule::SnapshotEnd]) {
        steering::link::encode_frame(&message, &mut octets);
    }
    fs::write(knot.snapshot_file(), octets).unwrap();
    knot.kill();
    knot.run();
    check(&knot);

    let mut agent = knot.agent();
    let ToAgent::Hello { firewall: Some(hashes), .. } = &agent.hello else { panic!("{:?}", agent.hello) };
    assert_eq!(hashes.rules, Sha256::digest(&file).to_vec());
    assert_eq!(announce(&mut agent, &knot, FirewallPart::Rules, b""), None);
    assert_eq!(rcode(&knot, "127.0.3.1", "www.example.com."), Some(Rcode::NOERROR));
}

/// Whether there is an answer within a moment: what is dropped is waited for in vain, and a second more would be a query more.
fn ask_quickly(knot: &Knot, source: &str) -> bool {
    let socket = std::net::UdpSocket::bind((source, 0)).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    socket.send_to(&Question::new("www.example.com.", "A").octets(), knot.address).unwrap();
    socket.recv_from(&mut [0; 512]).is_ok()
}

#[test]
fn policy_zones_answer_in_order() {
    const RPZ: &str = "\
        gone.example.com CNAME .\n\
        empty.example.com CNAME *.\n\
        drop.example.com CNAME rpz-drop.\n\
        tcp.example.com CNAME rpz-tcp-only.\n\
        walled.example.com 30 A 192.0.2.80\n\
        walled.example.com 30 TXT \"walled off\"\n\
        *.each.example.com 30 CNAME *.garden.example.\n\
        32.1.3.0.127.rpz-client-ip CNAME .\n\
        elsewhere.example CNAME .\n";
    let zones = zones();
    let zones: Vec<&TestZone> = zones.iter().collect();
    let knot = Knot::start(&zones, Some(&snapshot(&zones)));
    let mut agent = knot.agent();
    let read = |text: &str| read_rpz(text.as_bytes(), &name("rpz.example.")).unwrap().body;
    let first = ("first".to_owned(), read("fine.gone.example.com CNAME rpz-passthru.\n"));
    let file = PoliciesFile { zones: vec![first, ("second".into(), read(RPZ))] }.write();
    assert_eq!(announce(&mut agent, &knot, FirewallPart::Policies, &file), None);
    let asked = |asked: &str, rtype: &str| ask(&knot, "127.0.9.1", asked, rtype);
    let gone = asked("gone.example.com.", "A").unwrap();
    assert!(gone.rcode == Rcode::NXDOMAIN && gone.authority[0].contains("SOA"), "{gone:?}");
    let empty = asked("empty.example.com.", "A").unwrap();
    assert!(
        empty.rcode == Rcode::NOERROR && empty.answers.is_empty() && empty.authority.len() == 1,
        "{empty:?}"
    );
    assert_eq!(asked("drop.example.com.", "A"), None);
    assert!(asked("tcp.example.com.", "A").unwrap().is_truncated);
    let by_tcp = Question::new("tcp.example.com.", "A").tcp().ask(knot.address);
    assert_eq!(by_tcp.rcode, Rcode::NXDOMAIN, "the zone's own answer");
    assert_eq!(asked("walled.example.com.", "A").unwrap().answers, ["walled.example.com. 30 A 192.0.2.80"]);
    assert_eq!(asked("walled.example.com.", "ANY").unwrap().answers.len(), 2);
    let other = asked("walled.example.com.", "MX").unwrap();
    assert!(other.rcode == Rcode::NOERROR && other.answers.is_empty(), "{other:?}");
    let each = asked("x.each.example.com.", "A").unwrap();
    assert_eq!(each.answers, ["x.each.example.com. 30 CNAME x.each.example.com.garden.example."]);
    assert_eq!(asked("elsewhere.example.", "A").unwrap().rcode, Rcode::NXDOMAIN, "of no zone of knotd's");
    assert_eq!(asked("www.example.com.", "A").unwrap().rcode, Rcode::NOERROR);
    let client = ask(&knot, "127.0.3.1", "www.example.com.", "A").unwrap();
    assert_eq!(client.rcode, Rcode::NXDOMAIN);
    // The agent's own questions, which are marked, pass.
    let mut own = Question::new("gone.example.com.", "SOA").octets();
    own[3] |= 0x40;
    let socket = std::net::UdpSocket::bind("127.0.3.1:0").unwrap();
    socket.set_read_timeout(Some(support::WITHIN)).unwrap();
    socket.send_to(&own, knot.address).unwrap();
    socket.recv_from(&mut own).unwrap();
    let status = agent.synchronize();
    let counts = status.firewall.unwrap();
    let count = |zone: &str, action: &str| {
        counts
            .iter()
            .find(|count| count.name == zone && count.action == action)
            .map_or(0, |count| count.queries)
    };
    assert_eq!((count("second", "local_data"), count("second", "drop")), (4, 1));
    assert_eq!(announce(&mut agent, &knot, FirewallPart::Policies, b""), None);
    assert_eq!(asked("drop.example.com.", "A").unwrap().rcode, Rcode::NXDOMAIN);
}
