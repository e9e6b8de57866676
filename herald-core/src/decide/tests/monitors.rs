//! Monitors: who may have which.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::account::{Verb, ZonePattern};
use crate::command::MonitorInput;
use crate::limits::Limit;
use crate::monitor::{Check, HttpCheck, Monitor, Pace, ProbeRules, TlsCheck, VerdictChange};
use crate::{MonitorId, PopId};

fn pace() -> Pace {
    Pace {
        interval_ms: 10_000,
        timeout_ms: 2_000,
        rise: 2,
        fall: 2,
        probers: 3,
        quorum: None,
        recovery_ms: 0,
    }
}

fn http() -> HttpCheck {
    HttpCheck {
        target: "www.example.com".into(),
        port: 443,
        path: "/".into(),
        host: None,
        head: false,
        status: (200, 399),
        body_contains: None,
        redirects: 0,
        tls: Some(TlsCheck::default()),
    }
}

fn input(name: &str, check: Check) -> MonitorInput {
    MonitorInput { name: name.into(), check, pace: pace(), enabled: true }
}

fn tcp(target: &str) -> Check {
    Check::Tcp { target: target.into(), port: 443 }
}

impl World {
    fn monitor(&mut self, principal: Principal, input: MonitorInput) -> Result<MonitorId, Rejection> {
        match self.run(principal, Action::CreateMonitor { tenant: None, input })?.subject {
            Some(Subject::Monitor(id)) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    fn update(
        &mut self,
        principal: Principal,
        monitor: MonitorId,
        input: MonitorInput,
    ) -> Result<Decision, Rejection> {
        self.run(principal, Action::UpdateMonitor { monitor, if_match: None, input, new_secret: false })
    }

    fn judge(&mut self, monitor: MonitorId, up: bool) -> Decision {
        let change = VerdictChange { monitor, up, since_ms: self.time_ms, cause: "fra1: it is so".into() };
        self.run(Principal::System, Action::SetVerdicts { verdicts: vec![change] }).unwrap()
    }

    fn shown(&self, monitor: MonitorId) -> &Monitor {
        self.state.monitors().get(monitor).expect("it is there")
    }
}

#[test]
fn a_life() {
    let mut world = World::new();
    let acme = world.tenant("acme");
    let id = world.monitor(acme, input("web", tcp("www.example.com"))).unwrap();
    assert_eq!(id, MonitorId(1));
    let made = world.state.revision();
    assert_eq!((world.shown(id).revision, world.state.usage(tenant_of(acme)).monitors), (made, 1));

    assert_eq!(world.judge(id, false).changes.len(), 1);
    assert!(world.judge(id, false).changes.is_empty(), "that is no news");
    assert_eq!(world.shown(id).down_since_ms(), Some(START_MS));
    assert_eq!(world.shown(id).revision, made, "a verdict is no change of the monitor");
    assert_eq!(world.shown(id).verdict.as_ref().unwrap().revision, made + 1);

    // A verdict outlives a change of the pace, and not one of the target.
    let slower =
        MonitorInput { pace: Pace { interval_ms: 20_000, ..pace() }, ..input("web", tcp("www.example.com")) };
    world.update(acme, id, slower.clone()).unwrap();
    assert!(world.update(acme, id, slower).unwrap().changes.is_empty(), "all is so already");
    assert!(world.shown(id).verdict.is_some());
    world.update(acme, id, input("web", tcp("www.example.net"))).unwrap();
    assert_eq!(world.shown(id).verdict, None);

    // One that is off has none, and gets none.
    world.judge(id, false);
    world.update(acme, id, MonitorInput { enabled: false, ..input("web", tcp("www.example.net")) }).unwrap();
    assert!(world.judge(id, false).changes.is_empty());
    assert_eq!(world.shown(id).verdict, None);

    let stale = Action::DeleteMonitor { monitor: id, if_match: Some(made) };
    assert_eq!(kind(world.run(acme, stale)), RejectionKind::Precondition);
    world.run(acme, Action::DeleteMonitor { monitor: id, if_match: None }).unwrap();
    assert_eq!(world.state.usage(tenant_of(acme)).monitors, 0);
    assert!(world.judge(id, true).changes.is_empty());
    assert_eq!(
        world.monitor(acme, input("web", tcp("www.example.com"))).unwrap(),
        MonitorId(2),
        "ids come once"
    );
}

#[test]
fn whoever_may() {
    let mut world = World::new();
    let (acme, evil) = (world.tenant("acme"), world.tenant("evil"));
    let id = world.monitor(acme, input("web", tcp("www.example.com"))).unwrap();
    let web = || input("web", tcp("www.example.net"));
    assert_eq!(kind(world.update(evil, id, web())), RejectionKind::NotFound);
    assert_eq!(
        kind(world.run(evil, Action::DeleteMonitor { monitor: id, if_match: None })),
        RejectionKind::NotFound
    );
    world.monitor(evil, web()).expect("names are each tenant's own");
    let for_other =
        Action::CreateMonitor { tenant: Some(tenant_of(acme)), input: input("x1", tcp("a.example.com")) };
    assert_eq!(kind(world.run(evil, for_other.clone())), RejectionKind::NotFound);
    world.operate(for_other);
    assert_eq!(kind(world.monitor(world.operator, web())), RejectionKind::Invalid);

    let tenant = Some(tenant_of(acme));
    let zones = vec![ZonePattern::Name(name("example.com"))];
    for (scope, is_fine) in [
        (Scope { verbs: vec![Verb::Read, Verb::Write], ..Scope::default() }, false),
        (Scope { verbs: vec![Verb::Monitor], ..Scope::default() }, true),
        (Scope { zones: zones.clone(), ..Scope::default() }, false),
        (Scope { zones, verbs: vec![Verb::Monitor], ..Scope::default() }, true),
    ] {
        let token = world.token(tenant, scope.clone());
        let tried = world.update(token, id, web());
        assert_eq!(tried.is_ok(), is_fine, "{scope:?}");
        assert!(tried.is_ok() || kind(tried) == RejectionKind::Forbidden);
    }
    let verdicts = Action::SetVerdicts { verdicts: Vec::new() };
    assert_eq!(kind(world.run(acme, verdicts)), RejectionKind::Forbidden);
    let rules = Action::SetProbeRules(ProbeRules::default());
    assert_eq!(kind(world.run(acme, rules)), RejectionKind::Forbidden);
}

/// What is wrong, and the field that is named.
#[test]
fn what_can_be_no_monitor() {
    let mut world = World::new();
    let acme = world.tenant("acme");
    let check = |check| input("m1", check);
    let with_pace = |pace| MonitorInput { pace, ..input("m1", tcp("www.example.com")) };
    let mut bad = vec![
        ("/name", input("", tcp("www.example.com"))),
        ("/name", input("Web", tcp("www.example.com"))),
        ("/name", input("17", tcp("www.example.com"))),
        ("/check/port", check(Check::Tcp { target: "www.example.com".into(), port: 0 })),
        ("/check/path", check(Check::Http(HttpCheck { path: "health".into(), ..http() }))),
        ("/check/path", check(Check::Http(HttpCheck { path: "/a b".into(), ..http() }))),
        ("/check/path", check(Check::Http(HttpCheck { path: "/\r\nX: y".into(), ..http() }))),
        ("/check/path", check(Check::Http(HttpCheck { path: format!("/{}", "a".repeat(3000)), ..http() }))),
        ("/check/host", check(Check::Http(HttpCheck { host: Some("a\r\nX: y".into()), ..http() }))),
        ("/check/host", check(Check::Http(HttpCheck { host: Some("a.example:99999".into()), ..http() }))),
        ("/check/status", check(Check::Http(HttpCheck { status: (400, 200), ..http() }))),
        ("/check/status", check(Check::Http(HttpCheck { status: (1, 999), ..http() }))),
        (
            "/check/body_contains",
            check(Check::Http(HttpCheck { body_contains: Some(String::new()), ..http() })),
        ),
        (
            "/check/body_contains",
            check(Check::Http(HttpCheck { head: true, body_contains: Some("x".into()), ..http() })),
        ),
        ("/check/redirects", check(Check::Http(HttpCheck { redirects: 200, ..http() }))),
        (
            "/check/tls/sni",
            check(Check::Http(HttpCheck {
                tls: Some(TlsCheck { sni: Some("1.2.3.4".into()), ..TlsCheck::default() }),
                ..http()
            })),
        ),
        ("/check/of", check(Check::Calculated { of: Vec::new(), at_least: 1, inverted: false })),
        ("/check/of/0", check(Check::Calculated { of: vec![MonitorId(77)], at_least: 1, inverted: false })),
        ("/pace/interval_ms", with_pace(Pace { interval_ms: 999, timeout_ms: 500, ..pace() })),
        ("/pace/interval_ms", with_pace(Pace { interval_ms: u32::MAX, ..pace() })),
        ("/pace/timeout_ms", with_pace(Pace { timeout_ms: 0, ..pace() })),
        ("/pace/timeout_ms", with_pace(Pace { timeout_ms: 10_001, ..pace() })),
        ("/pace/rise", with_pace(Pace { rise: 0, ..pace() })),
        ("/pace/fall", with_pace(Pace { fall: 255, ..pace() })),
        ("/pace/probers", with_pace(Pace { probers: 0, ..pace() })),
        ("/pace/quorum", with_pace(Pace { quorum: Some(4), ..pace() })),
        ("/pace/recovery_ms", with_pace(Pace { recovery_ms: u32::MAX, ..pace() })),
    ];
    for target in [
        "",
        ".",
        "*",
        "127.0.0.1",
        "169.254.169.254",
        "10.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "[::1]",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "localhost",
        "a.localhost",
        "db",
        "a b.example.com",
        "a@b.example.com",
        "http://www.example.com/",
        "www.example.com:80",
        "www.example.com/",
        "a\0.example.com",
        "*.example.com",
    ] {
        bad.push(("/check/target", check(tcp(target))));
    }
    for (field, input) in bad {
        let refused = world.monitor(acme, input.clone()).expect_err(field);
        assert_eq!(refused.kind, RejectionKind::Invalid, "{input:?}");
        let fields: Vec<_> = refused.items.iter().filter_map(|item| item.field.as_deref()).collect();
        assert!(fields.contains(&field), "{field}: {refused:?}");
    }
    for target in [
        "1.1.1.1",
        "2606:4700::1111",
        "www.example.com",
        "www.example.com.",
        "bücher.example",
        "_x.example.com",
    ] {
        world.monitor(acme, input(&format!("m{}", world.commands), tcp(target))).expect(target);
    }
}

#[test]
fn operators_say_what_may_be_aimed_at() {
    let mut world = World::new();
    let acme = world.tenant("acme");
    let prefixes = |text: &str| vec![text.parse().unwrap()];
    world.operate(Action::SetProbeRules(ProbeRules {
        allowed: prefixes("10.0.0.0/8"),
        refused: prefixes("1.1.1.0/24"),
    }));
    world.monitor(acme, input("inside", tcp("10.1.2.3"))).unwrap();
    let refused = world.monitor(acme, input("own", tcp("1.1.1.1"))).unwrap_err();
    assert!(refused.detail.contains("the platform's own"), "{refused}");
}

#[test]
fn the_platforms_own_hosts_are_not_monitored() {
    let mut world = World::new();
    let acme = world.tenant("acme");
    let create = Action::CreatePop { name: "fra1".into(), secret_hash: [0; 32], region: None };
    let Some(Subject::Pop(pop)) = world.operate(create).subject else { panic!("no PoP") };
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    let note = |hosts| Action::SetOwnAddresses { hosts };
    let hosts = vec![
        (Some(pop), addresses(&["2620:fe::9", "9.9.9.9", "9.9.9.9"])),
        (None, addresses(&["8.8.8.8", "10.0.0.8"])),
        (Some(PopId(0xdead)), addresses(&["8.8.4.4"])),
    ];
    world.run(Principal::System, note(hosts.clone())).unwrap();
    assert_eq!(world.state.monitors().own(Some(pop)), addresses(&["9.9.9.9", "2620:fe::9"]));
    // Said again it is no news, and of a PoP that isn't there nothing is kept.
    let revision = world.state.revision();
    world.run(Principal::System, note(hosts)).unwrap();
    assert_eq!(world.state.revision(), revision);

    for target in ["9.9.9.9", "2620:fe::9", "8.8.8.8", "10.0.0.8"] {
        let refused = world.monitor(acme, input("own", tcp(target))).unwrap_err();
        assert!(refused.detail.contains("the platform's own"), "{target}: {refused}");
    }
    world.monitor(acme, input("other", tcp("8.8.4.4"))).unwrap();
    // An allowed network doesn't let one of its hosts go, an allowed address does.
    let allow = |texts: &[&str]| ProbeRules {
        allowed: texts.iter().map(|text| text.parse().unwrap()).collect(),
        refused: Vec::new(),
    };
    world.operate(Action::SetProbeRules(allow(&["10.0.0.0/8", "8.0.0.0/8"])));
    for target in ["8.8.8.8", "10.0.0.8"] {
        world.monitor(acme, input("own", tcp(target))).unwrap_err();
    }
    world.monitor(acme, input("inside", tcp("10.0.0.9"))).unwrap();
    world.operate(Action::SetProbeRules(allow(&["10.0.0.0/8", "8.8.8.8/32"])));
    world.monitor(acme, input("named", tcp("8.8.8.8"))).unwrap();
    world.monitor(acme, input("unnamed", tcp("10.0.0.8"))).unwrap_err();

    // It is no tenant's or operator's to say, and goes with the PoP.
    let mine = world.run(world.operator, note(vec![(None, Vec::new())])).unwrap_err();
    assert_eq!(mine.kind, RejectionKind::Forbidden);
    world.operate(Action::UpdatePop { pop, enabled: Some(false), drained: None, region: None });
    world.operate(Action::DeletePop { pop });
    world.monitor(acme, input("gone", tcp("9.9.9.9"))).unwrap();
}

#[test]
fn limits_are_each_tenants() {
    let mut world = World::new();
    let acme = world.tenant("acme");
    let id = world.monitor(acme, input("a", tcp("a.example.com"))).unwrap();
    let limits = vec![(Limit::Monitors, Some(1)), (Limit::MonitorIntervalMs, Some(30_000))];
    world.operate(Action::UpdateTenant {
        tenant: tenant_of(acme),
        name: None,
        enabled: None,
        limits,
        source_prefixes: None,
    });
    let slow = |name| MonitorInput {
        pace: Pace { interval_ms: 30_000, ..pace() },
        ..input(name, tcp("b.example.com"))
    };
    assert_eq!(kind(world.monitor(acme, slow("b"))), RejectionKind::Quota);
    world
        .update(acme, id, input("a", tcp("b.example.com")))
        .expect("a limit that was lowered breaks nothing");
    let quicker =
        MonitorInput { pace: Pace { interval_ms: 5000, ..pace() }, ..input("a", tcp("b.example.com")) };
    assert_eq!(kind(world.update(acme, id, quicker)), RejectionKind::Invalid);
}

#[test]
fn calculated_ones_are_of_others_that_stay() {
    let mut world = World::new();
    let (acme, evil) = (world.tenant("acme"), world.tenant("evil"));
    let a = world.monitor(acme, input("a", tcp("a.example.com"))).unwrap();
    let b = world.monitor(acme, input("b", tcp("b.example.com"))).unwrap();
    let of = |of: &[MonitorId], at_least| Check::Calculated { of: of.to_vec(), at_least, inverted: false };
    assert_eq!(
        kind(world.monitor(evil, input("c", of(&[a], 1)))),
        RejectionKind::Invalid,
        "another's isn't there"
    );
    assert_eq!(kind(world.monitor(acme, input("c", of(&[a, a], 1)))), RejectionKind::Invalid);
    assert_eq!(kind(world.monitor(acme, input("c", of(&[a, b], 3)))), RejectionKind::Invalid);
    let c = world.monitor(acme, input("c", of(&[a, b], 1))).unwrap();
    assert_eq!(kind(world.monitor(acme, input("d", of(&[c], 1)))), RejectionKind::Invalid);
    assert_eq!(kind(world.update(acme, c, input("c", of(&[c], 1)))), RejectionKind::Invalid);
    assert_eq!(kind(world.update(acme, a, input("a", of(&[b], 1)))), RejectionKind::Invalid, "c is of it");
    let delete = |monitor| Action::DeleteMonitor { monitor, if_match: None };
    assert_eq!(kind(world.run(acme, delete(a))), RejectionKind::Conflict);
    world.update(acme, c, input("c", of(&[b], 1))).unwrap();
    world.run(acme, delete(a)).unwrap();
    world.operate(Action::DeleteTenant { tenant: tenant_of(acme) });
    assert_eq!(world.state.monitors().count(), 0);
}

#[test]
fn a_heartbeat_keeps_its_secret_till_it_gets_another() {
    let mut world = World::new();
    let acme = world.tenant("acme");
    let beat = |octet| Check::Heartbeat { secret_hash: [octet; 32] };
    let id = world.monitor(acme, input("cron", beat(1))).unwrap();
    let known =
        |world: &World, octet| world.state.monitors().heartbeat(&[octet; 32]).map(|monitor| monitor.id);
    world.update(acme, id, input("job", beat(2))).unwrap();
    assert_eq!((known(&world, 1), known(&world, 2)), (Some(id), None));
    let renewed =
        Action::UpdateMonitor { monitor: id, if_match: None, input: input("job", beat(3)), new_secret: true };
    world.run(acme, renewed).unwrap();
    assert_eq!((known(&world, 1), known(&world, 3)), (None, Some(id)));
    assert_eq!(kind(world.update(acme, id, input("job", tcp("a.example.com")))), RejectionKind::Invalid);
    world.run(acme, Action::DeleteMonitor { monitor: id, if_match: None }).unwrap();
    assert_eq!(known(&world, 3), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done, a checkpoint brings the same back, and what is found by name and tenant is what there is.
    #[test]
    fn a_checkpoint_has_all(steps in prop::collection::vec((0u8..6, 0u32..8, 0u8..4), 1..40)) {
        let mut world = World::new();
        let tenants = [world.tenant("acme"), world.tenant("evil")];
        for (op, id, n) in steps {
            let (by, id) = (tenants[usize::from(n % 2)], MonitorId(id));
            let name = format!("m{n}");
            let of_own = || world.state.monitors().of_tenant(tenant_of(by), None).map(|m| m.id).take(2).collect::<Vec<_>>();
            let check = match n {
                0 => tcp("a.example.com"),
                1 => Check::Heartbeat { secret_hash: [u8::try_from(world.commands % 251).unwrap(); 32] },
                _ => Check::Calculated { of: of_own(), at_least: 1, inverted: false },
            };
            let action = match op {
                0 | 1 => Action::CreateMonitor { tenant: None, input: input(&name, check) },
                2 => Action::UpdateMonitor { monitor: id, if_match: None, input: input(&name, check), new_secret: n > 1 },
                3 => Action::DeleteMonitor { monitor: id, if_match: None },
                _ => { world.judge(id, n > 1); continue }
            };
            _ = world.run(by, action);
        }
        let state = &world.state;
        let mut restored = State::default();
        let at = At { generation: Generation::default(), time_ms: 0 };
        state.to_changes().for_each(|change| restored.apply(at, &change));
        prop_assert_eq!(state.to_changes().collect::<Vec<_>>(), restored.to_changes().collect::<Vec<_>>());
        prop_assert_eq!(state.monitors().next_id(), restored.monitors().next_id());
        for state in [state, &restored] {
            for tenant in tenants.map(tenant_of) {
                let own = || state.monitors().iter(None).filter(|monitor| monitor.tenant == tenant);
                prop_assert_eq!(own().count() as u64, state.usage(tenant).monitors);
                prop_assert_eq!(own().count(), state.monitors().of_tenant(tenant, None).count());
                for monitor in own() {
                    prop_assert_eq!(state.monitors().named(tenant, &monitor.name).map(|m| m.id), Some(monitor.id));
                    if let Check::Heartbeat { secret_hash } = &monitor.check {
                        prop_assert_eq!(state.monitors().heartbeat(secret_hash).map(|m| m.id), Some(monitor.id));
                    }
                }
            }
        }
    }
}
