//! Verdicts: an answer changes without any change of a zone, and what is held survives the agent and knotd.

mod support;

use std::fs;

use herald_core::steering::{AnswerMode, Item, Policy, Pool, When, WhenAllDown, WhenIsolated, policy_key};
use herald_core::{MonitorId, Rtype};
use steering::link::{SNAPSHOT_MAGIC, ToAgent, ToModule, Whose, encode_frame, verdicts_file};
use support::agent::snapshot;
use support::zone::{pool, rule};
use support::{Agent, Knot, TestZone};

fn verdicts(whose: Whose, is_all: bool, verdicts: &[(u32, u32)]) -> ToModule {
    let verdicts = verdicts.iter().map(|(monitor, since)| (MonitorId(*monitor), *since)).collect();
    ToModule::Verdicts { whose, is_all, verdicts, as_of: None }
}

/// A pool whose endpoints have these monitors.
fn monitored(endpoints: &[(&str, u32)]) -> Pool {
    let plain: Vec<(&str, u32)> = endpoints.iter().map(|(text, _)| (*text, 1)).collect();
    let mut pool = pool(AnswerMode::All, Rtype::A, &plain);
    for (endpoint, (_, monitor)) in pool.endpoints.iter_mut().zip(endpoints) {
        endpoint.monitor = (*monitor > 0).then_some(MonitorId(*monitor));
    }
    pool
}

fn policy(zone: &mut TestZone, label: &str, pools: &[&str], down: WhenAllDown, isolated: WhenIsolated) {
    let rules = vec![rule(When::default(), pools)];
    let policy = Policy { rules, when_all_down: down, when_isolated: isolated };
    let key = policy_key(&zone.name(label), Rtype::A).unwrap();
    zone.put(key, &Item::Policy(Rtype::A, policy));
}

fn zone() -> TestZone {
    let mut zone = TestZone::new("example.com.")
        .pool("main", monitored(&[("192.0.2.1", 1), ("192.0.2.2", 2)]))
        .pool("spare", monitored(&[("192.0.2.9", 9)]))
        .pool("plain", monitored(&[("192.0.2.5", 0)]));
    policy(&mut zone, "hold", &["main", "spare"], WhenAllDown::ServeAll, WhenIsolated::Hold);
    policy(&mut zone, "local", &["main", "spare"], WhenAllDown::ServeAll, WhenIsolated::Local);
    policy(&mut zone, "last", &["main", "spare"], WhenAllDown::ServeLast, WhenIsolated::Hold);
    policy(&mut zone, "none", &["main"], WhenAllDown::NoData, WhenIsolated::Hold);
    policy(&mut zone, "plain", &["plain"], WhenAllDown::NoData, WhenIsolated::Local);
    zone
}

fn answer(knot: &Knot, label: &str) -> String {
    knot.ask(&format!("{label}.example.com."), "A").values().join(" ")
}

fn tell(agent: &mut Agent, message: &ToModule) {
    agent.say(message);
    agent.synchronize();
}

#[test]
fn a_verdict_changes_answers_and_no_zone() {
    let zone = zone();
    let knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let mut agent = knot.agent();
    assert!(matches!(agent.hello, ToAgent::Hello { knows_verdicts: true, .. }));
    let both = "192.0.2.1 192.0.2.2";
    let answers = |knot: &Knot| ["hold", "last", "none", "plain"].map(|label| answer(knot, label));
    assert_eq!(answers(&knot), [both, both, both, "192.0.2.5"]);
    type Down = &'static [(u32, u32)];
    let table: [(Down, [&str; 4]); 7] = [
        (&[(1, 100)], ["192.0.2.2", "192.0.2.2", "192.0.2.2", "192.0.2.5"]),
        (&[(2, 200)], ["192.0.2.9", "192.0.2.9", "", "192.0.2.5"]),
        // The spare one went down before the second one.
        (&[(9, 150)], [both, "192.0.2.2", "", "192.0.2.5"]),
        (&[(9, 200)], [both, "192.0.2.2", "", "192.0.2.5"]),
        (&[(9, 201)], [both, "192.0.2.9", "", "192.0.2.5"]),
        (&[(1, 0)], ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.5"]),
        // Far beyond the room there was.
        (&[(2, 0), (5_000_000, 7)], [both, both, both, "192.0.2.5"]),
    ];
    for (changes, expected) in table {
        tell(&mut agent, &verdicts(Whose::Herald, false, changes));
        assert_eq!(answers(&knot), expected, "{changes:?}");
    }
    assert_eq!(agent.synchronize().down, 2, "the spare one, and one that nobody has");
    // All that isn't named is up; numbers beyond all bounds are passed over.
    tell(&mut agent, &verdicts(Whose::Herald, true, &[(1, 5), (u32::MAX, 5)]));
    assert_eq!(agent.synchronize().down, 1);
    assert_eq!(answer(&knot, "hold"), "192.0.2.2");
}

#[test]
fn an_isolated_pop_goes_by_its_own_verdicts_where_the_policy_wants_it() {
    let zone = zone();
    let knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let mut agent = knot.agent();
    tell(&mut agent, &verdicts(Whose::Herald, true, &[(1, 100)]));
    tell(&mut agent, &verdicts(Whose::Local, true, &[(2, 300)]));
    assert_eq!(answer(&knot, "local"), "192.0.2.2", "it isn't isolated yet");
    tell(&mut agent, &ToModule::Isolated { is_isolated: true });
    assert!(agent.synchronize().is_isolated);
    assert_eq!([answer(&knot, "local"), answer(&knot, "hold")], ["192.0.2.1", "192.0.2.2"]);
    tell(&mut agent, &verdicts(Whose::Local, false, &[(1, 301)]));
    assert_eq!([answer(&knot, "local"), answer(&knot, "hold")], ["192.0.2.9", "192.0.2.2"]);
    // What the control plane says on its return counts again.
    tell(&mut agent, &ToModule::Isolated { is_isolated: false });
    assert_eq!(answer(&knot, "local"), "192.0.2.2");
}

#[test]
fn verdicts_stay_without_the_agent_and_are_in_a_file_for_knotd() {
    let zone = zone();
    let mut knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let mut agent = knot.agent();
    tell(&mut agent, &verdicts(Whose::Herald, false, &[(1, 100)]));
    drop(agent);
    assert_eq!(answer(&knot, "hold"), "192.0.2.2", "nobody says anything else");

    let file = verdicts_file(&knot.snapshot_file());
    let write = |messages: &[ToModule]| {
        let mut octets = SNAPSHOT_MAGIC.to_vec();
        messages.iter().for_each(|message| encode_frame(message, &mut octets));
        fs::write(&file, octets).unwrap();
    };
    write(&[verdicts(Whose::Herald, true, &[(2, 100)]), ToModule::SnapshotEnd]);
    knot.kill();
    knot.run();
    assert_eq!(answer(&knot, "hold"), "192.0.2.1", "as the file says");
    // One that is no such file harms nobody.
    fs::write(&file, b"rubbish").unwrap();
    knot.kill();
    knot.run();
    assert_eq!(answer(&knot, "hold"), "192.0.2.1 192.0.2.2");
    assert!(knot.log().contains("verdicts"), "{}", knot.log());
}
