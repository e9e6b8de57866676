//! The firewall: whose rules they are, limits, revisions, and a checkpoint that says the same.

use proptest::prelude::*;

use super::*;
use crate::account::{Verb, ZonePattern};
use crate::firewall::{
    self, Owner, PolicyZone, QueryType, Rate, Rule, TENANT_RULES_MAX, TENANT_VALUES_MAX, When,
};
use crate::rejection::RejectionKind::{Forbidden, Invalid, NotFound, Precondition, Quota};

fn rule(name: &str, order: u32) -> Rule {
    Rule { name: name.into(), order, when: When::default(), action: firewall::Action::Drop, note: None }
}

fn set(owner: Owner, rules: Vec<Rule>) -> Action {
    Action::SetFirewallRules { owner, if_match: None, rules, zones: None }
}

fn put(owner: Owner, rule: Rule) -> Action {
    Action::PutFirewallRule { owner, if_match: None, rule }
}

fn policy_zone(name: &str, order: u32) -> PolicyZone {
    PolicyZone {
        name: name.into(),
        order,
        sha256: [order as u8; 32],
        bytes: 1,
        chunks: vec![[order as u8; 32]],
        names: 1,
        clients: 0,
        not_applying: 0,
        serial: None,
    }
}

fn tenant_of(principal: Principal) -> TenantId {
    let Principal::Tenant { tenant, .. } = principal else { panic!("{principal:?}") };
    tenant
}

fn names(world: &World, owner: Owner) -> Vec<String> {
    world.state.firewall().rules(owner).map(|rule| rule.name.clone()).collect()
}

#[test]
fn each_has_its_own_rules_and_operators_have_all() {
    let mut world = World::new();
    let (alice, bob) = (world.tenant("alice"), world.tenant("bob"));
    let (of_alice, of_bob) = (Owner::Tenant(tenant_of(alice)), Owner::Tenant(tenant_of(bob)));
    world.run(alice, put(of_alice, rule("a", 1))).unwrap();
    assert_eq!(world.run(alice, put(of_bob, rule("a", 1))).unwrap_err().kind, NotFound);
    assert_eq!(world.run(alice, put(Owner::Fleet, rule("a", 1))).unwrap_err().kind, Forbidden);
    let zone = Action::PutPolicyZone { if_match: None, zone: policy_zone("block", 1) };
    assert_eq!(world.run(alice, zone.clone()).unwrap_err().kind, Forbidden);
    world.operate(zone);
    world.operate(put(of_alice, rule("b", 2)));
    // A token of some zones, or one that may not administer, changes none.
    for scope in [
        Scope { zones: vec![ZonePattern::Name(name("example.com"))], ..Scope::default() },
        Scope { verbs: vec![Verb::Read, Verb::Write], ..Scope::default() },
    ] {
        let limited = world.token(Some(tenant_of(alice)), scope);
        assert_eq!(world.run(limited, put(of_alice, rule("c", 3))).unwrap_err().kind, Forbidden);
    }
    assert_eq!(names(&world, of_alice), ["a", "b"]);
    assert!(names(&world, of_bob).is_empty() && names(&world, Owner::Fleet).is_empty());
    let gone = Action::DeleteFirewallRule { owner: of_alice, if_match: None, name: "c".into() };
    assert_eq!(world.run(alice, gone).unwrap_err().kind, NotFound);
    // They go with their tenant.
    world.operate(Action::DeleteTenant { tenant: tenant_of(alice) });
    assert!(names(&world, of_alice).is_empty());
    assert_eq!(world.state.firewall().revision(of_alice), 0);
    assert_eq!(world.run(world.operator, put(of_alice, rule("a", 1))).unwrap_err().kind, NotFound);
}

#[test]
fn a_set_is_taken_whole_or_not_at_all() {
    let mut world = World::new();
    let tenant = world.tenant("acme");
    let owner = Owner::Tenant(tenant_of(tenant));
    world.run(tenant, set(owner, vec![rule("a", 1), rule("b", 2), rule("c", 3)])).unwrap();
    let before = world.state.revision();
    let wrong = vec![rule("a", 9), rule("Big", 1), rule("b", 2), rule("b", 3)];
    let rejection = world.run(tenant, set(owner, wrong)).unwrap_err();
    assert_eq!(rejection.kind, Invalid);
    let places: Vec<Option<usize>> = rejection.items.iter().map(|item| item.edit).collect();
    assert_eq!(places, [Some(1), Some(3)], "{rejection:?}");
    assert_eq!(world.state.revision(), before);
    // What differs is on the log, and nothing else.
    let other = vec![rule("a", 1), rule("b", 5), rule("d", 4)];
    let decision = world.run(tenant, set(owner, other.clone())).unwrap();
    assert_eq!(
        decision.changes,
        [
            Change::FirewallRuleDeleted { owner, name: "c".into() },
            Change::FirewallRulePut { owner, rule: rule("b", 5) },
            Change::FirewallRulePut { owner, rule: rule("d", 4) },
        ]
    );
    assert!(world.run(tenant, set(owner, other)).unwrap().changes.is_empty());
}

#[test]
fn limits_are_of_rules_and_of_all_their_values() {
    let mut world = World::new();
    let tenant = world.tenant("acme");
    let owner = Owner::Tenant(tenant_of(tenant));
    let many = |count: usize| (0..count).map(|n| rule(&format!("r{n}"), 0)).collect::<Vec<_>>();
    world.run(tenant, set(owner, many(TENANT_RULES_MAX))).unwrap();
    assert_eq!(world.run(tenant, set(owner, many(TENANT_RULES_MAX + 1))).unwrap_err().kind, Quota);
    assert_eq!(world.run(tenant, put(owner, rule("more", 0))).unwrap_err().kind, Quota);
    world.run(tenant, put(owner, rule("r0", 7))).unwrap();
    let asns = |count: usize| {
        let asns = (1..).take(count).collect();
        Rule { when: When { asns, ..When::default() }, ..rule("r1", 0) }
    };
    world.run(tenant, put(owner, asns(TENANT_VALUES_MAX))).unwrap();
    let rejection = world.run(tenant, put(owner, asns(TENANT_VALUES_MAX + 1))).unwrap_err();
    assert_eq!(rejection.kind, Quota);
    assert!(rejection.detail.contains(&TENANT_VALUES_MAX.to_string()), "{}", rejection.detail);
    // The fleet's are many more.
    world.operate(set(Owner::Fleet, many(TENANT_RULES_MAX + 1)));
}

#[test]
fn who_was_not_there_last_is_told() {
    let mut world = World::new();
    let owner = Owner::Fleet;
    let matching = |if_match, name: &str| Action::PutFirewallRule { owner, if_match, rule: rule(name, 1) };
    world.operate(matching(Some(0), "a"));
    let first = world.state.firewall().revision(owner);
    assert_eq!(first, world.state.revision());
    assert_eq!(world.run(world.operator, matching(Some(0), "b")).unwrap_err().kind, Precondition);
    // Policy zones are the fleet's, too; what is a tenant's isn't.
    let zone = Action::PutPolicyZone { if_match: Some(first), zone: policy_zone("block", 1) };
    world.operate(zone.clone());
    assert_eq!(world.run(world.operator, zone).unwrap_err().kind, Precondition);
    let second = world.state.firewall().revision(owner);
    let tenant = world.tenant("acme");
    world.run(tenant, put(Owner::Tenant(tenant_of(tenant)), rule("a", 1))).unwrap();
    let back = |if_match| Action::SetFirewallRules { owner, if_match, rules: vec![], zones: Some(vec![]) };
    assert_eq!(world.run(world.operator, back(Some(first))).unwrap_err().kind, Precondition);
    world.operate(back(Some(second)));
    assert!(names(&world, owner).is_empty() && world.state.firewall().zones().next().is_none());
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let when =
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(net, names, types, over)| {
            When {
                sources: if net { vec!["192.0.2.0/24".parse().unwrap()] } else { vec![] },
                names: if names { vec![name("*.example.com")] } else { vec![] },
                types: if types { vec![QueryType(Rtype::ANY)] } else { vec![] },
                over: over.then_some(Rate { per_s: 1, burst: 2, v4_length: 24, v6_length: 56 }),
                ..When::default()
            }
        });
    (0..5_u8, 0..3_u32, when)
        .prop_map(|(name, order, when)| Rule { when, ..rule(&format!("r{name}"), order) })
}

proptest! {
    /// Whatever is done, a checkpoint says the same as the log, revisions included; and each set is what was asked for.
    #[test]
    fn a_checkpoint_is_the_state(
        steps in prop::collection::vec((0..3_u8, any::<bool>(), prop::collection::vec(any_rule(), 0..4)), 1..12)
    ) {
        let mut world = World::new();
        let tenant = world.tenant("acme");
        for (step, is_fleet, rules) in steps {
            let owner = if is_fleet { Owner::Fleet } else { Owner::Tenant(tenant_of(tenant)) };
            match step {
                0 => {
                    let done = world.run(world.operator, set(owner, rules.clone()));
                    if done.is_ok() {
                        let mut wanted: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
                        wanted.sort_unstable();
                        prop_assert_eq!(names(&world, owner), wanted);
                    }
                }
                1 => for rule in rules {
                    world.operate(put(owner, rule.clone()));
                    prop_assert_eq!(world.state.firewall().rule(owner, &rule.name), Some(&rule));
                },
                _ => for (n, _) in rules.iter().enumerate() {
                    let zone = policy_zone(&format!("z{n}"), n as u32);
                    world.operate(Action::PutPolicyZone { if_match: None, zone });
                },
            }
        }
        let mut restored = State::default();
        let at = At { generation: Generation { epoch: 9, counter: 99_999 }, time_ms: 0 };
        world.state.to_changes().for_each(|change| restored.apply(at, &change));
        prop_assert_eq!(
            world.state.to_changes().collect::<Vec<_>>(),
            restored.to_changes().collect::<Vec<_>>()
        );
    }
}
