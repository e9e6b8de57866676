//! Monitors through sessions: what PoPs are told, what they say, and the verdicts that come of it.

use std::net::IpAddr;

use herald_core::MonitorId;
use herald_core::command::MonitorInput;
use herald_core::monitor::{Check, Pace, ProbeRules};
use herald_wire::stream::{MonitorVerdict, Probes, Seen};

use super::*;

impl Fleet {
    /// With PoPs as [`Fleet::new`], and the thread that puts verdicts on the log.
    async fn with_health(pops: &[&str]) -> Fleet {
        let fleet = Fleet::new(pops).await;
        let shared = Arc::clone(&fleet.publisher.shared);
        tokio::spawn(crate::health::run(fleet.platform.engine.clone(), shared, fleet.shutdown.clone()));
        fleet
    }

    async fn monitor(&self, name: &str) -> MonitorId {
        let action = Action::CreateMonitor { tenant: None, input: tcp(name) };
        match self.platform.submit(action).await.unwrap().subject {
            Some(Subject::Monitor(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    async fn watching(&self, pop: &str) -> TestPop {
        let replica = Replica { verdicts: Some(Generation::default()), ..Replica::default() };
        self.connect_with(pop, replica).await
    }

    fn up(&self, monitor: MonitorId) -> Option<bool> {
        let state = self.state();
        state.monitors().get(monitor).unwrap().verdict.as_ref().map(|verdict| verdict.up)
    }
}

fn tcp(name: &str) -> MonitorInput {
    MonitorInput {
        name: name.into(),
        check: Check::Tcp { target: "www.example.com".into(), port: 443 },
        pace: Pace {
            interval_ms: 1000,
            timeout_ms: 500,
            rise: 1,
            fall: 2,
            probers: 3,
            quorum: None,
            recovery_ms: 0,
        },
        enabled: true,
    }
}

impl TestPop {
    async fn says(&mut self, fleet: &Fleet, monitor: MonitorId, up: bool) {
        let revision = fleet.state().monitors().get(monitor).unwrap().revision;
        let cause = if up { "connected" } else { "connection refused" }.into();
        let seen = Seen {
            monitor,
            revision,
            up: Some(up),
            cause,
            for_ms: 0,
            took_us: Some(700),
            certificate_ends_s: None,
        };
        self.connection.send(&ToHerald::Probed { seen: vec![seen], answers: None }).await.unwrap();
    }

    async fn next_verdicts(&mut self) -> (bool, Vec<MonitorVerdict>) {
        loop {
            if let ToPop::Verdicts { is_all, verdicts, .. } = self.step().await.expect("the session goes on")
            {
                return (is_all, verdicts);
            }
        }
    }

    /// Takes frames in till it is chosen for a monitor.
    async fn is_chosen_for(&mut self, monitor: MonitorId) {
        while !self.next_probes().await.puts.iter().any(|probe| probe.monitor == monitor && probe.is_chosen) {
        }
    }

    async fn next_probes(&mut self) -> Probes {
        loop {
            if let ToPop::Probes(probes) = self.step().await.expect("the session goes on") {
                return probes;
            }
        }
    }

    /// Takes frames in till it was told this of a monitor.
    async fn hears(&mut self, monitor: MonitorId, is_down: bool) {
        loop {
            let (_, verdicts) = self.next_verdicts().await;
            if verdicts.iter().any(|one| one.monitor == monitor && one.down_since_s.is_some() == is_down) {
                return;
            }
        }
    }
}

#[tokio::test]
async fn what_pops_say_becomes_a_verdict_at_all_of_them() {
    let fleet = Fleet::with_health(&["fra1", "nyc1", "sin1"]).await;
    let id = fleet.monitor("web").await;
    let mut pops = Vec::new();
    for pop in ["fra1", "nyc1", "sin1"] {
        let mut pop = fleet.watching(pop).await;
        assert_eq!(pop.next_verdicts().await, (true, Vec::new()), "verdicts come first");
        pop.is_chosen_for(id).await;
        pops.push(pop);
    }
    pops[0].says(&fleet, id, false).await;
    pops[1].says(&fleet, id, false).await;
    for pop in &mut pops {
        pop.hears(id, true).await;
    }
    let state = fleet.state();
    let verdict = state.monitors().get(id).unwrap().verdict.clone().unwrap();
    assert!(
        verdict.cause.contains("fra1: connection refused") && verdict.cause.contains("nyc1"),
        "{verdict:?}"
    );
    // Only changes are on the log.
    let before = fleet.state().revision();
    pops[2].says(&fleet, id, false).await;
    pops[0].says(&fleet, id, false).await;
    pops[0].says(&fleet, id, true).await;
    pops[1].says(&fleet, id, true).await;
    for pop in &mut pops {
        pop.hears(id, false).await;
    }
    assert_eq!(fleet.state().revision(), before + 1);
    let view = fleet.publisher.health().view(id);
    assert!(view.pops.iter().all(|pop| pop.is_connected && pop.said.is_some()), "{view:?}");

    // Who comes later is told what is down now, and who knows of no monitors nothing.
    pops[0].says(&fleet, id, false).await;
    pops[1].says(&fleet, id, false).await;
    pops[2].hears(id, true).await;
    let mut again = fleet.watching("fra1").await;
    let (is_all, verdicts) = again.next_verdicts().await;
    assert!(is_all && verdicts.len() == 1 && verdicts[0].down_since_s.is_some());
    let mut old = fleet.connect("nyc1").await;
    old.reach_in_sync().await;
}

#[tokio::test]
async fn changes_of_monitors_go_to_pops() {
    let fleet = Fleet::with_health(&["fra1"]).await;
    let first = fleet.monitor("first").await;
    let mut pop = fleet.watching("fra1").await;
    assert_eq!(pop.next_probes().await.puts.len(), 1);
    let second = fleet.monitor("second").await;
    // It is known, and then chosen for it, in one frame or two.
    let mut probes = pop.next_probes().await;
    while !probes.puts.iter().any(|probe| probe.monitor == second && probe.is_chosen) {
        assert!(!probes.is_all && probes.deletes.is_empty(), "{probes:?}");
        probes = pop.next_probes().await;
    }
    let off = MonitorInput { enabled: false, ..tcp("first") };
    let action = Action::UpdateMonitor { monitor: first, if_match: None, input: off, new_secret: false };
    fleet.platform.submit(action).await.unwrap();
    assert_eq!(pop.next_probes().await.deletes, [first]);
    let rules = ProbeRules { allowed: vec!["10.0.0.0/8".parse().unwrap()], ..ProbeRules::default() };
    fleet.platform.operate(Action::SetProbeRules(rules.clone())).await;
    assert_eq!(pop.next_probes().await.allowed, rules.allowed);
    fleet.platform.submit(Action::DeleteMonitor { monitor: second, if_match: None }).await.unwrap();
    assert_eq!(pop.next_probes().await.deletes, [second]);
    // Thousands come in parts, of which the first alone says that these are all.
    for n in 0..250 {
        fleet.monitor(&format!("m{n}")).await;
    }
    let mut again = fleet.watching("fra1").await;
    let mut count = 0;
    let mut is_first = true;
    while count < 250 {
        let probes = again.next_probes().await;
        assert_eq!(probes.is_all, is_first);
        is_first = false;
        count += probes.puts.len();
    }
}

/// What a PoP says of its host's addresses is on the log soon, and told to those who probe.
#[tokio::test]
async fn addresses_of_hosts_are_told_to_those_who_probe() {
    let fleet = Fleet::with_health(&["fra1", "nyc1"]).await;
    fleet.monitor("first").await;
    let (mut fra, mut nyc) = (fleet.watching("fra1").await, fleet.watching("nyc1").await);
    let shutdown = CancellationToken::new();
    let own = tokio::spawn(crate::own::run(
        fleet.platform.engine.clone(),
        Arc::clone(&fleet.publisher.shared),
        shutdown.clone(),
    ));
    let address: IpAddr = "2620:fe::9".parse().unwrap();
    let status = AgentStatus { addresses: Some(vec![address]), ..status(Generation::default()) };
    fra.connection.send(&ToHerald::Status(status)).await.unwrap();
    while !nyc.next_probes().await.own.is_some_and(|own| own.contains(&address)) {}
    while !fra.next_probes().await.own.is_some_and(|own| own.contains(&address)) {}
    let state = fleet.state();
    let rules = state.monitors().addresses();
    assert_eq!(rules.refused(address), Some("the platform's own"));
    assert!(state.monitors().own(Some(fleet.pop("nyc1"))).is_empty());
    shutdown.cancel();
    own.await.unwrap();
}

/// PoPs that are split off in the midst of a flap go on with the last verdict, and the ones that are left decide nothing alone.
#[tokio::test]
async fn pops_are_lost_during_a_flap() {
    let fleet = Fleet::with_health(&["fra1", "nyc1", "sin1"]).await;
    let id = fleet.monitor("web").await;
    let mut fra = fleet.watching("fra1").await;
    let mut nyc = fleet.watching("nyc1").await;
    let mut sin = fleet.watching("sin1").await;
    sin.is_chosen_for(id).await;
    for pop in [&mut fra, &mut nyc] {
        pop.is_chosen_for(id).await;
    }
    for up in [false, true, false] {
        fra.says(&fleet, id, up).await;
        nyc.says(&fleet, id, up).await;
        fra.hears(id, !up).await;
        assert_eq!(fleet.up(id), Some(up));
    }
    drop((fra, nyc));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while fleet.publisher.health().view(id).pops.iter().filter(|pop| pop.is_connected).count() > 1 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = fleet.state().revision();
    sin.says(&fleet, id, true).await;
    // It was heard once this is shown.
    while fleet.publisher.health().view(id).pops.iter().filter(|pop| pop.said.is_some()).count() < 1 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((fleet.up(id), fleet.state().revision()), (Some(false), before), "the last verdict stands");
    // They are back, and their words count again.
    let mut fra = fleet.watching("fra1").await;
    let (is_all, verdicts) = fra.next_verdicts().await;
    assert!(is_all && verdicts.iter().any(|one| one.monitor == id && one.down_since_s.is_some()));
    fra.is_chosen_for(id).await;
    fra.says(&fleet, id, true).await;
    fra.hears(id, false).await;
}

/// From what the last PoP of a quorum says to a durable verdict.
#[tokio::test]
async fn a_verdict_takes_milliseconds() {
    let fleet = Fleet::with_health(&["fra1"]).await;
    let id = fleet.monitor("web").await;
    let mut pop = fleet.watching("fra1").await;
    pop.is_chosen_for(id).await;
    let mut took = Vec::new();
    for _ in 0..2 {
        for up in [true, false] {
            let begin = std::time::Instant::now();
            pop.says(&fleet, id, up).await;
            while fleet.up(id) != Some(up) {
                assert!(begin.elapsed() < Duration::from_secs(10));
                tokio::task::yield_now().await;
            }
            took.push(begin.elapsed());
        }
    }
    let best = took.iter().min().unwrap();
    println!("from a report to a durable verdict: {took:?}");
    // A machine under load takes its time now and then.
    assert!(*best < Duration::from_millis(250), "{took:?}");
}
