use proptest::prelude::*;

use super::*;
use crate::TenantId;
use crate::monitor::{Pace, Verdict};

/// Health, a log of verdicts that it is told of, and the time.
struct World {
    health: Health,
    now_ms: u64,
    monitors: BTreeMap<MonitorId, Monitor>,
    /// When which verdict was written.
    log: Vec<(u64, MonitorId, bool, String)>,
}

fn pace() -> Pace {
    Pace { interval_ms: 1000, timeout_ms: 500, rise: 1, fall: 2, probers: 3, quorum: None, recovery_ms: 0 }
}

fn monitor(id: u32, check: Check) -> Monitor {
    Monitor {
        id: MonitorId(id),
        tenant: TenantId(1),
        name: format!("m{id}"),
        check,
        pace: pace(),
        enabled: true,
        revision: 1,
        created_at_ms: 0,
        verdict: None,
    }
}

fn tcp(id: u32) -> Monitor {
    monitor(id, Check::Tcp { target: "www.example.com".into(), port: 443 })
}

fn heartbeat(id: u32) -> Monitor {
    monitor(id, Check::Heartbeat { secret_hash: [0; 32] })
}

impl World {
    /// With so many PoPs, connected.
    fn new(pops: u128) -> World {
        let mut health = Health::default();
        health.set_pops(0, (1..=pops).map(|n| (PopId(n), format!("pop{n}"))));
        (1..=pops).for_each(|n| health.pop_up(PopId(n), true));
        World { health, now_ms: 0, monitors: BTreeMap::new(), log: Vec::new() }
    }

    fn put(&mut self, monitor: Monitor) -> MonitorId {
        let id = monitor.id;
        self.health.put(self.now_ms, &monitor);
        self.monitors.insert(id, monitor);
        self.run();
        id
    }

    fn change(&mut self, id: MonitorId, change: impl FnOnce(&mut Monitor)) {
        let mut monitor = self.monitors[&id].clone();
        change(&mut monitor);
        self.put(monitor);
    }

    /// Writes what it asks for on the log, until there is nothing more.
    fn run(&mut self) {
        loop {
            let changes = self.health.poll(self.now_ms, self.now_ms);
            if changes.is_empty() {
                return;
            }
            for VerdictChange { monitor: id, up, since_ms, cause } in changes {
                let monitor = self.monitors.get_mut(&id).unwrap();
                monitor.verdict = Some(Verdict { up, since_ms, cause: cause.clone(), revision: 2 });
                self.health.put(self.now_ms, monitor);
                self.log.push((self.now_ms, id, up, cause));
            }
        }
    }

    fn say(&mut self, pop: u128, id: MonitorId, up: bool) {
        let (revision, since_ms) = (self.monitors[&id].revision, self.now_ms);
        let cause = if up { "connected" } else { "timed out" }.into();
        let said = Said { revision, up: Some(up), cause, since_ms, took_us: None, certificate_ends_s: None };
        self.health.said(PopId(pop), id, said);
        self.run();
    }

    /// Time passes, and nothing else happens.
    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while let Some(at_ms) = self.health.next_at_ms().filter(|at_ms| *at_ms <= until_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            self.run();
        }
        self.now_ms = until_ms;
        self.run();
    }

    fn chosen(&self, id: MonitorId) -> Vec<u128> {
        self.health
            .choices()
            .get(&id)
            .map(|chosen| chosen.iter().map(|pop| pop.0).collect())
            .unwrap_or_default()
    }

    fn verdict(&self, id: MonitorId) -> Option<bool> {
        self.monitors[&id].verdict.as_ref().map(|verdict| verdict.up)
    }
}

/// What three PoPs say (`+` up, `-` down, `?` nothing, `x` not connected), by what quorum, with what verdict before, and what follows.
#[test]
fn quorums() {
    let table = [
        // The first quorum, at once.
        ("???", None, None, None),
        ("+??", None, None, None),
        ("++?", None, None, Some(true)),
        ("--?", None, None, Some(false)),
        ("+-?", None, None, None),
        ("+--", None, None, Some(false)),
        // Fewer than enough: the last one stands.
        ("-xx", None, Some(true), Some(true)),
        ("+xx", None, Some(false), Some(false)),
        ("-??", None, Some(true), Some(true)),
        ("--x", None, Some(true), Some(false)),
        ("++x", None, Some(false), Some(true)),
        ("+-x", None, Some(true), Some(true)),
        ("---", None, Some(true), Some(false)),
        // As it was asked for.
        ("--+", Some(3), Some(true), Some(true)),
        ("---", Some(3), Some(true), Some(false)),
        ("-??", Some(1), Some(true), Some(false)),
        ("-++", Some(1), Some(true), Some(true)),
        ("-+?", Some(1), Some(true), Some(true)),
        ("-+?", Some(1), Some(false), Some(false)),
    ];
    for (said, quorum, before, after) in table {
        let mut world = World::new(3);
        let mut one = tcp(1);
        one.pace.quorum = quorum;
        one.verdict = before.map(|up| Verdict { up, since_ms: 0, cause: String::new(), revision: 1 });
        let id = one.id;
        world.monitors.insert(id, one.clone());
        world.health.put(0, &one);
        for (pop, said) in (1..).zip(said.chars()) {
            let up = match said {
                '+' => Some(true),
                '-' => Some(false),
                'x' => {
                    world.health.pop_down(0, PopId(pop));
                    continue;
                }
                _ => None,
            };
            let said = Said {
                revision: 1,
                up,
                cause: String::new(),
                since_ms: 0,
                took_us: None,
                certificate_ends_s: None,
            };
            world.health.said(PopId(pop), id, said);
        }
        world.run();
        assert_eq!(world.verdict(id), after, "{said} of {quorum:?} after {before:?}");
    }
}

#[test]
fn a_cause_names_pops() {
    let mut world = World::new(3);
    let id = world.put(tcp(1));
    world.say(1, id, true);
    world.say(2, id, false);
    world.say(3, id, false);
    let cause = &world.monitors[&id].verdict.as_ref().unwrap().cause;
    assert!(cause.contains("pop2: timed out") && cause.contains("pop3: timed out"), "{cause}");
    assert!(cause.ends_with("1 of 3 PoPs last said \"up\""), "{cause}");
}

#[test]
fn two_thirds_of_the_probing_pops_lost() {
    let mut world = World::new(3);
    let id = world.put(tcp(1));
    (1..=3).for_each(|pop| world.say(pop, id, true));
    world.health.pop_down(world.now_ms, PopId(1));
    world.health.pop_down(world.now_ms, PopId(2));
    world.say(3, id, false);
    world.pass(10 * ABSENCE_MS);
    assert_eq!(world.verdict(id), Some(true), "one that is left decides nothing, for however long");
    assert_eq!(world.chosen(id).len(), 3);
    // Another PoP comes, and takes the place of one of them.
    world.health.set_pops(world.now_ms, (1..=4).map(|n| (PopId(n), format!("pop{n}"))));
    world.health.pop_up(PopId(4), true);
    world.run();
    assert!(world.chosen(id).contains(&4));
    world.say(4, id, false);
    assert_eq!(world.verdict(id), Some(false));
}

#[test]
fn a_short_absence_changes_no_choice() {
    let mut world = World::new(6);
    let ids: Vec<MonitorId> = (1..=50).map(|n| world.put(tcp(n))).collect();
    let chosen = |world: &World| ids.iter().map(|id| world.chosen(*id)).collect::<Vec<_>>();
    let before = chosen(&world);
    let of_pop1 = before.iter().filter(|chosen| chosen.contains(&1)).count();
    assert!((15..=35).contains(&of_pop1), "half of them: {of_pop1}");
    world.health.pop_down(world.now_ms, PopId(1));
    world.pass(ABSENCE_MS - 1);
    assert_eq!(chosen(&world), before);
    world.pass(1);
    for (before, after) in before.iter().zip(chosen(&world)) {
        assert!(!after.contains(&1));
        assert!(before.iter().filter(|pop| **pop != 1).all(|pop| after.contains(pop)), "the others stay");
    }
    world.health.pop_up(PopId(1), true);
    world.run();
    assert_eq!(chosen(&world), before, "it gets its own back");
    // An agent that knows of no monitors is never chosen.
    world.health.pop_down(world.now_ms, PopId(2));
    world.health.pop_up(PopId(2), false);
    world.run();
    assert!(chosen(&world).iter().all(|chosen| !chosen.contains(&2) && chosen.len() == 3));
}

#[test]
fn what_was_said_in_an_earlier_session_or_of_an_earlier_monitor_does_not_count() {
    let mut world = World::new(3);
    let id = world.put(tcp(1));
    world.say(1, id, true);
    world.say(2, id, true);
    world.say(1, id, false);
    world.health.pop_down(world.now_ms, PopId(1));
    world.health.pop_up(PopId(1), true);
    world.say(2, id, false);
    assert_eq!(world.verdict(id), Some(true));
    world.change(id, |monitor| monitor.revision = 7);
    world.health.said(
        PopId(1),
        id,
        Said {
            revision: 1,
            up: Some(false),
            cause: String::new(),
            since_ms: 0,
            took_us: None,
            certificate_ends_s: None,
        },
    );
    world.run();
    world.say(3, id, false);
    assert_eq!(world.verdict(id), Some(true));
    world.say(1, id, false);
    assert_eq!(world.verdict(id), Some(false));
}

#[test]
fn up_has_to_hold() {
    let mut world = World::new(3);
    let mut slow = tcp(1);
    slow.pace.recovery_ms = 5_000;
    let id = world.put(slow);
    let all = |world: &mut World, up| (1..=3).for_each(|pop| world.say(pop, id, up));
    all(&mut world, true);
    assert_eq!(world.verdict(id), Some(true), "the first one is at once");
    all(&mut world, false);
    assert_eq!(world.verdict(id), Some(false), "down is at once");
    all(&mut world, true);
    world.pass(4_000);
    all(&mut world, false);
    all(&mut world, true);
    world.pass(4_999);
    assert_eq!(world.verdict(id), Some(false), "it held for 4 s, and then for 4.999");
    world.pass(1);
    assert_eq!(world.verdict(id), Some(true));
}

#[test]
fn flaps_are_damped() {
    let mut world = World::new(3);
    let id = world.put(tcp(1));
    let mut waits = Vec::new();
    for _ in 0..10 {
        (1..=3).for_each(|pop| world.say(pop, id, false));
        assert_eq!(world.verdict(id), Some(false));
        let from_ms = world.now_ms;
        (1..=3).for_each(|pop| world.say(pop, id, true));
        while world.verdict(id) == Some(false) {
            world.pass(1_000);
        }
        waits.push((world.now_ms - from_ms) / 1000);
    }
    assert_eq!(waits[..8], [0, 0, 10, 20, 40, 80, 160, 300]);
    assert!(waits.iter().all(|wait| *wait <= 300));
    world.pass(FLAP_WINDOW_MS);
    let from = world.log.len();
    (1..=3).for_each(|pop| world.say(pop, id, false));
    (1..=3).for_each(|pop| world.say(pop, id, true));
    assert_eq!(world.log.len(), from + 2, "that is forgotten");
}

#[test]
fn heartbeats() {
    let mut world = World::new(1);
    let id = world.put(heartbeat(1));
    assert!(world.chosen(id).is_empty());
    world.pass(1_499);
    assert_eq!(world.verdict(id), None);
    world.pass(1);
    assert_eq!(world.verdict(id), Some(false), "the first one never came");
    world.health.beat(id, world.now_ms);
    world.run();
    assert_eq!(world.verdict(id), Some(true));
    for _ in 0..5 {
        world.pass(1_400);
        world.health.beat(id, world.now_ms);
        world.run();
    }
    assert_eq!(world.verdict(id), Some(true));
    let last_ms = world.now_ms;
    world.pass(1_499);
    // The last one again, and an older one: they say nothing more, however often.
    for at_ms in [last_ms, last_ms - 1, 0] {
        world.health.beat(id, at_ms);
        world.run();
    }
    assert_eq!(world.verdict(id), Some(true));
    world.pass(1);
    assert_eq!(world.verdict(id), Some(false), "a replayed heartbeat keeps nothing up");
    assert!(world.monitors[&id].verdict.as_ref().unwrap().cause.contains("1.500 s"));
}

#[test]
fn a_heartbeat_may_come_before_its_watch() {
    let mut world = World::new(1);
    world.health.beat(MonitorId(1), 0);
    world.pass(5);
    let id = world.put(heartbeat(1));
    assert_eq!(world.verdict(id), Some(true));
}

#[test]
fn calculated_ones_follow() {
    let mut world = World::new(1);
    let parts: Vec<MonitorId> = (1..=3).map(|n| world.put(tcp(n))).collect();
    let calculated =
        |id, at_least, inverted| monitor(id, Check::Calculated { of: parts.clone(), at_least, inverted });
    let two = world.put(calculated(4, 2, false));
    let not_two = world.put(calculated(5, 2, true));
    let both = |world: &World| (world.verdict(two), world.verdict(not_two));
    world.say(1, parts[0], true);
    assert_eq!(both(&world), (None, None), "it depends on the others");
    world.say(1, parts[1], true);
    assert_eq!(both(&world), (Some(true), Some(false)));
    world.say(1, parts[2], false);
    world.say(1, parts[1], false);
    assert_eq!(both(&world), (Some(false), Some(true)));
    assert!(world.monitors[&two].verdict.as_ref().unwrap().cause.contains("down: m2, m3"));
    world.change(parts[2], |monitor| (monitor.enabled, monitor.verdict) = (false, None));
    assert_eq!(both(&world), (Some(true), Some(false)), "what is off counts as up");
    world.health.remove(two);
    world.health.remove(parts[0]);
    world.run();
}

#[test]
fn what_could_not_be_written_is_asked_for_again() {
    let mut world = World::new(1);
    let one = tcp(1);
    let id = one.id;
    world.health.put(0, &one);
    world.monitors.insert(id, one);
    let said = Said {
        revision: 1,
        up: Some(false),
        cause: String::new(),
        since_ms: 0,
        took_us: None,
        certificate_ends_s: None,
    };
    world.health.said(PopId(1), id, said);
    assert_eq!(world.health.poll(0, 0).len(), 1);
    assert_eq!((world.health.poll(0, 0).len(), world.health.next_at_ms()), (0, Some(AGAIN_MS)));
    assert_eq!(world.health.poll(AGAIN_MS, 0).len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Say { pop: u128, monitor: u32, up: bool },
    Up { pop: u128 },
    Down { pop: u128 },
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u128..6, 1u32..4, any::<bool>()).prop_map(|(pop, monitor, up)| Step::Say { pop, monitor, up }),
        1 => (1u128..6).prop_map(|pop| Step::Up { pop }),
        1 => (1u128..6).prop_map(|pop| Step::Down { pop }),
        2 => (0u64..40_000).prop_map(|ms| Step::Pass { ms }),
    ]
}

proptest! {
    /// A verdict is only ever what more than half of the chosen PoPs say then, of those that are connected; and it follows once they
    /// have said so for long enough.
    #[test]
    fn verdicts_are_what_a_quorum_says(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new(5);
        let ids: Vec<MonitorId> = (1..4).map(|n| world.put(tcp(n))).collect();
        let mut connected: BTreeSet<u128> = (1..6).collect();
        let mut says: BTreeMap<(u128, MonitorId), bool> = BTreeMap::new();
        for step in steps {
            let before = world.log.len();
            match step {
                Step::Say { pop, monitor, up } if connected.contains(&pop) => {
                    says.insert((pop, MonitorId(monitor)), up);
                    world.say(pop, MonitorId(monitor), up);
                }
                Step::Say { .. } => {}
                Step::Up { pop } => {
                    if connected.insert(pop) {
                        world.health.pop_up(PopId(pop), true);
                        says.retain(|(said, _), _| *said != pop);
                    }
                    world.run();
                }
                Step::Down { pop } => {
                    if connected.remove(&pop) {
                        world.health.pop_down(world.now_ms, PopId(pop));
                    }
                    world.run();
                }
                Step::Pass { ms } => world.pass(ms),
            }
            for (_, id, up, _) in &world.log[before..] {
                let chosen = world.chosen(*id);
                let votes = chosen
                    .iter()
                    .filter(|pop| connected.contains(pop) && says.get(&(**pop, *id)) == Some(up))
                    .count();
                prop_assert!(2 * votes > chosen.len(), "{id} {up}: {votes} of {chosen:?}");
            }
            for id in &ids {
                prop_assert_eq!(world.chosen(*id).len(), 3);
            }
        }
        for pop in 1..6 {
            if connected.insert(pop) {
                world.health.pop_up(PopId(pop), true);
            }
        }
        world.pass(0);
        for id in &ids {
            for pop in 1..6 {
                world.say(pop, *id, true);
            }
        }
        world.pass(DAMPING_MS_MAX);
        for id in &ids {
            prop_assert_eq!(world.verdict(*id), Some(true));
        }
    }
}
