//! Rules of steering, by the final state of a change.

use super::*;
use crate::account::{NamePattern, ScopeType};
use crate::command::{EditOp, RrsetEdit, ZoneEdit};
use crate::health::LocalMonitors;
use crate::steering::{
    AnswerMode, Endpoint, EndpointRecords, EndpointState, Item, Location, OVERLAY, Overlay, Policy, Pool,
    Rule, Settings, Tally, Used, View, When, WhenIsolated, policy_key, pool_key, settings_key, view_key,
};
use crate::{MonitorId, Rdatas, RrKey, Rrset};

const ZONE: &str = "example.com";

/// Edits as words: what is not said of an item doesn't matter to the rules here.
///
/// ```text
/// pool NAME [located] [monitor=ID]  view NAME            settings
/// policy OWNER TYPE POOL… [near] [local] [view=NAME]        overlay OWNER VIEW TYPE[-]…     (`-`: hidden)
/// record OWNER TYPE RDATA      gone pool|view NAME, gone policy|record OWNER TYPE, gone overlay OWNER
/// ```
fn edit(line: &str) -> RrsetEdit {
    let words: Vec<&str> = line.split_whitespace().collect();
    let apex = name(ZONE);
    let owner = |text: &str| if text == "@" { apex.clone() } else { name(&format!("{text}.{ZONE}")) };
    let rtype = |text: &str| crate::rdata::parse_rtype(text).unwrap();
    let put = |key: RrKey, item: Item| {
        let Rrset { ttl, rdatas } = item.write().unwrap();
        RrsetEdit { key, if_match: None, op: EditOp::Put { ttl, rdatas } }
    };
    match words.as_slice() {
        ["pool", pool, rest @ ..] => {
            let mut made = a_pool(rest.contains(&"located"));
            let monitor = rest.iter().find_map(|word| word.strip_prefix("monitor="));
            made.endpoints[0].monitor = monitor.map(|id| MonitorId(id.parse().unwrap()));
            put(pool_key(&apex, pool).unwrap(), Item::Pool(made))
        }
        ["view", view] => {
            let prefixes = vec!["10.0.0.0/8".parse().unwrap()];
            put(view_key(&apex, view).unwrap(), Item::View(View { prefixes, pops: Vec::new() }))
        }
        ["settings"] => {
            put(settings_key(&apex), Item::Settings(Settings { ecs: true, ..Settings::default() }))
        }
        ["policy", at, answered, rest @ ..] => {
            let views =
                rest.iter().filter_map(|word| word.strip_prefix("view=")).map(str::to_owned).collect();
            let pools = rest.iter().filter(|word| !["near", "local"].contains(*word) && !word.contains('='));
            let rule = Rule {
                name: None,
                when: When { views, ..When::default() },
                pools: pools.map(|pool| (*pool).to_owned()).collect(),
                nearest: rest.contains(&"near"),
            };
            let key = policy_key(&owner(at), rtype(answered)).unwrap();
            let when_isolated =
                if rest.contains(&"local") { WhenIsolated::Local } else { WhenIsolated::Hold };
            let policy = Policy { when_isolated, ..Policy::of_rules(vec![rule]) };
            put(key, Item::Policy(rtype(answered), policy))
        }
        ["overlay", at, view, types @ ..] => {
            let overlay = |text: &&str| {
                let hidden = text.strip_suffix('-');
                let rtype = rtype(hidden.unwrap_or(text));
                let rdata = if rtype == Rtype::CNAME {
                    name("x.example").as_wire().to_vec()
                } else {
                    vec![10, 0, 0, 1]
                };
                let rrset = hidden.is_none().then(|| Rrset { ttl: 60, rdatas: Rdatas::single(&rdata) });
                Overlay { view: (*view).to_owned(), rtype, rrset }
            };
            let key = RrKey::new(owner(at), OVERLAY);
            put(key, Item::Overlays(types.iter().map(overlay).collect()))
        }
        ["record", at, text, data @ ..] => {
            let rdatas = Rdatas::single(&rdata(rtype(text), &data.join(" "), &apex));
            let key = RrKey::new(owner(at), rtype(text));
            RrsetEdit { key, if_match: None, op: EditOp::Put { ttl: 60, rdatas } }
        }
        ["gone", what, at, rest @ ..] => {
            let key = match (*what, rest.first()) {
                ("pool", _) => pool_key(&apex, at).unwrap(),
                ("view", _) => view_key(&apex, at).unwrap(),
                ("policy", Some(text)) => policy_key(&owner(at), rtype(text)).unwrap(),
                ("record", Some(text)) => RrKey::new(owner(at), rtype(text)),
                _ => RrKey::new(owner(at), OVERLAY),
            };
            RrsetEdit { key, if_match: None, op: EditOp::Delete }
        }
        _ => panic!("{line}"),
    }
}

fn a_pool(is_located: bool) -> Pool {
    let endpoint = Endpoint {
        name: "a".into(),
        records: vec![EndpointRecords { rtype: Rtype::A, rdatas: Rdatas::single(&[192, 0, 2, 1]) }],
        weight: 1,
        state: EndpointState::Enabled,
        location: is_located.then_some(Location { latitude: 50.0, longitude: 8.0 }),
        bias: 0,
        monitor: None,
    };
    Pool { ttl: 60, answer: AnswerMode::All, sticky: None, min_healthy: 1, endpoints: vec![endpoint] }
}

fn edits(text: &str) -> Action {
    let edits = text.split(';').map(str::trim).filter(|line| !line.is_empty()).map(edit).collect();
    Action::EditZones { zones: vec![ZoneEdit { zone: by_name(ZONE), if_match: None, edits }] }
}

#[test]
fn steering_and_records_are_judged_together() {
    for (before, change, refused) in [
        ("", "pool eu; policy www A eu", None),
        ("", "policy www A eu; pool eu", None),
        ("", "policy www A eu", Some("leads to the pool `eu`, which isn't there")),
        ("pool eu", "policy www A eu view=in", Some("asks for the view `in`, which isn't there")),
        ("pool eu; view in", "policy www A eu view=in", None),
        // What is used stays, and its user is named.
        ("pool eu; policy www A eu", "gone pool eu", Some("the policy www.example.com. A")),
        ("pool eu; policy www A eu", "gone pool eu; gone policy www A", None),
        ("view in; overlay www in A", "gone view in", Some("what views have at www.example.com.")),
        ("view in; overlay www in A", "gone overlay www; gone view in", None),
        ("pool eu; view in; policy www A eu view=in", "gone view in", Some("the policy www.example.com. A")),
        // The nearest of what?
        ("pool eu", "policy www A eu near", Some("none of its endpoints has a location")),
        ("pool eu located", "policy www A eu near", None),
        ("pool eu located; policy www A eu near", "pool eu", Some("none of its endpoints has a location")),
        ("pool eu located; policy www A eu near", "pool eu; policy www A eu", None),
        // One or the other.
        (
            "pool eu; record www A 192.0.2.1",
            "policy www A eu",
            Some("has a policy and records of the type A"),
        ),
        ("pool eu; record www A 192.0.2.1", "policy www A eu; gone record www A", None),
        (
            "pool eu; policy www A eu",
            "record www A 192.0.2.1",
            Some("has a policy and records of the type A"),
        ),
        ("pool eu; policy www A eu", "record www AAAA 2001:db8::1", None),
        // A policy for CNAME is a CNAME.
        ("pool eu; policy www CNAME eu", "record www A 192.0.2.1", Some("a CNAME allows no other type")),
        ("pool eu; policy www CNAME eu", "policy www A eu", Some("a CNAME allows no other type")),
        ("pool eu; record www CNAME x.example.", "policy www A eu", Some("a CNAME allows no other type")),
        ("pool eu", "policy @ CNAME eu", Some("it can't have a CNAME")),
        ("pool eu", "policy @ A eu", None),
        // What is delegated or redirected has none.
        (
            "pool eu; record sub NS ns.example.",
            "policy a.sub A eu",
            Some("sub.example.com. is delegated away"),
        ),
        ("pool eu; record sub NS ns.example.", "policy sub A eu", Some("sub.example.com. is delegated away")),
        (
            "pool eu; policy a.sub A eu",
            "record sub NS ns.example.",
            Some("the policy A at a.sub.example.com. lies below it"),
        ),
        ("view in; overlay a.sub in A", "record sub NS ns.example.", Some("lies below it")),
        ("view in; record sub NS ns.example.", "overlay a.sub in A", Some("is delegated away")),
        (
            "pool eu; policy a.sub A eu",
            "record sub DNAME x.example.",
            Some("no name may exist below a DNAME"),
        ),
        ("pool eu; record sub DNAME x.example.", "policy a.sub A eu", Some("lies below the DNAME")),
        ("pool eu; view in; settings", "record @ DNAME x.example.", None),
        // Views.
        ("", "overlay www in A", Some("the view `in` isn't there")),
        ("view in", "overlay www in A A-", Some("has A twice")),
        ("view in", "overlay www in A CNAME", Some("the view `in` has A at www.example.com.")),
        ("view in; record www A 192.0.2.1", "overlay www in CNAME", None),
        ("view in; record www CNAME x.example.", "overlay www in A AAAA-", None),
        ("view in", "overlay @ in CNAME", Some("can't have a CNAME in any view")),
        ("view in", "overlay @ in ANY-", Some("hide types, not ANY")),
        ("view in", "overlay www in ANY-", None),
        ("view in", "overlay www in ANY", Some("ANY can only be hidden")),
        ("view in", "overlay www in NS-", Some("NS is the same in every view")),
        ("view in", "overlay www in TYPE65280-", Some("is the same in every view")),
        // Other uses of the types that hold steering.
        (
            "",
            r"record www TYPE65280 \# 1 01",
            Some("the steering at www.example.com. TYPE65280 is not right"),
        ),
        ("", r"record www TYPE65342 \# 1 01", Some("holds no steering")),
        ("", r"record x TYPE65281 \# 1 02", Some("version 2 of its form isn't known")),
    ] {
        let mut world = World::new();
        let tenant = world.tenant("t");
        world.create(tenant, ZONE).unwrap();
        world.run(tenant, edits(before)).unwrap_or_else(|e| panic!("{before}: {e}"));
        let outcome = world.run(tenant, edits(change));
        match (&outcome, refused) {
            (Ok(decision), None) => assert!(decision.changes.len() <= 1, "{change}: one change"),
            (Err(rejection), Some(detail)) => {
                assert_eq!(rejection.kind, RejectionKind::Invalid);
                let all: Vec<&str> = rejection.items.iter().map(|item| item.detail.as_str()).collect();
                assert!(all.iter().any(|one| one.contains(detail)), "{before} | {change}: {all:#?}");
            }
            _ => panic!("{before} | {change}: {outcome:?}"),
        }
        // Content as a whole is judged as its changes are.
        if outcome.is_ok() {
            let zone = world.state.zones_named(&name(ZONE)).next().unwrap();
            CheckedContent::new(name(ZONE), zone.content.clone())
                .unwrap_or_else(|e| panic!("{change}: {e:?}"));
        }
    }
}

#[test]
fn misplaced_items_are_refused() {
    for (at, of) in [("www", "pool eu"), ("x.y._steering", "pool eu"), ("www", "settings")] {
        let mut world = World::new();
        let tenant = world.tenant("t");
        world.create(tenant, ZONE).unwrap();
        let mut moved = edit(of);
        moved.key.owner = name(&format!("{at}.{ZONE}"));
        let edit = ZoneEdit { zone: by_name(ZONE), if_match: None, edits: vec![moved] };
        assert_eq!(
            kind(world.run(tenant, Action::EditZones { zones: vec![edit] })),
            RejectionKind::Invalid,
            "{of}"
        );
    }
}

#[test]
fn a_policy_is_what_its_records_would_be_to_a_token() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    world.create(tenant, ZONE).unwrap();
    world.run(tenant, edits("pool eu; view in; policy www A eu; policy www AAAA eu")).unwrap();
    let scope = Scope {
        names: vec![NamePattern::Name(name("www.example.com"))],
        types: vec![ScopeType(Rtype::A)],
        ..Scope::default()
    };
    let limited = world.token(Some(tenant_of(tenant)), scope);
    world.run(limited, edits("policy www A eu view=in")).unwrap();
    for change in
        ["policy www AAAA eu", "policy other A eu", "pool eu", "view in", "settings", "overlay www in A"]
    {
        assert_eq!(kind(world.run(limited, edits(change))), RejectionKind::Forbidden, "{change}");
    }
}

mod tally {
    use proptest::prelude::*;

    use super::*;

    fn step() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "pool eu",
            "pool us",
            "view in",
            "policy a A eu us",
            "policy a A us near",
            "policy b A eu view=in",
            "policy b AAAA eu",
            "overlay a in A",
            "overlay b in A AAAA-",
            "record c A 192.0.2.1",
            "gone pool eu",
            "gone policy a A",
            "gone policy b A",
            "gone overlay a",
            "gone overlay b",
            "gone record c A",
        ])
    }

    proptest! {
        /// However content came about, what is counted of it is what counting it anew gives.
        #[test]
        fn counts_are_of_what_is_there(steps in prop::collection::vec(step(), 0..40)) {
            let mut content = Content::default();
            for step in steps {
                let RrsetEdit { key, op, .. } = edit(step);
                match op {
                    EditOp::Put { ttl, rdatas } => content.put(key, Rrset { ttl, rdatas }),
                    _ => content.delete(&key),
                }
            }
            let fresh: Content = content.iter().map(|(k, r)| (k.clone(), r.clone())).collect();
            let told = |content: &Content| {
                let of = |count: &dyn Fn(&Tally) -> u64| content.steering().map_or(0, count);
                let uses = [
                    Used::Pool("eu".into()), Used::Pool("us".into()), Used::NearestPool("us".into()), Used::View("in".into()),
                ];
                let uses = uses.map(|used| of(&|tally| tally.uses(&used)));
                let digest = content.steering().map_or(0, Tally::digest);
                (of(&Tally::rrset_count), of(&Tally::policy_count), digest, uses)
            };
            prop_assert_eq!(told(&content), told(&fresh));
            let steering = content.iter().filter(|(key, _)| crate::steering::is_steering_type(key.rtype)).count();
            prop_assert_eq!(told(&content).0, steering as u64);
            prop_assert_eq!(content.steering().is_some(), steering > 0);
        }
    }
}

#[test]
fn isolated_pops_probe_what_policies_go_by() {
    let mut world = World::new();
    let acme = world.tenant("acme");
    world.create(acme, ZONE).unwrap();
    let (one, two) = (world.some_monitor(acme, "one"), world.some_monitor(acme, "two"));
    let mut local = LocalMonitors::default();
    let mut seen = State::default();
    let mut after = |world: &mut World, text: &str| -> Vec<u32> {
        if !text.is_empty() {
            world.run(acme, edits(text)).unwrap();
        }
        local.step(&seen, &world.state);
        seen = world.state.clone();
        local.uses().keys().map(|monitor| monitor.0).collect()
    };
    let pools = format!("pool a monitor={one}; pool b monitor={two}; policy www A a b");
    assert_eq!(after(&mut world, &pools), [0; 0], "that one holds what it heard");
    assert_eq!(after(&mut world, "policy www AAAA a local"), [one.0]);
    assert_eq!(after(&mut world, "policy x A b a local"), [one.0, two.0]);
    assert_eq!(after(&mut world, "pool b"), [one.0]);
    assert_eq!(after(&mut world, "gone policy x A; policy www AAAA b local"), [0; 0]);
    assert_eq!(after(&mut world, &format!("pool b monitor={two}")), [two.0]);
    world.run(acme, Action::DeleteZone { zone: by_name(ZONE), if_match: None }).unwrap();
    assert_eq!(after(&mut world, ""), [0; 0]);
}
