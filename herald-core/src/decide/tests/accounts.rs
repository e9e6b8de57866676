//! Tenants, tokens and what their scopes allow.

use super::*;
use crate::account::{NamePattern, ScopeType, Verb, ZonePattern};
use crate::command::{EditOp, RrsetEdit, ZoneEdit};
use crate::idempotency::{KeyHolder, RequestKey};
use crate::limits::Limit;
use crate::{Rdatas, RrKey};
use RejectionKind::{Conflict, Forbidden, Invalid, NotFound, Unauthenticated};

fn put_txt(zone: &str, owner: &str) -> Action {
    let op = EditOp::Put { ttl: 60, rdatas: Rdatas::single(b"\x01x") };
    let edits = vec![RrsetEdit { key: RrKey::new(name(owner), Rtype::TXT), if_match: None, op }];
    Action::EditZones { zones: vec![ZoneEdit { zone: by_name(zone), if_match: None, edits }] }
}

fn delete_zone(zone: &str) -> Action {
    Action::DeleteZone { zone: by_name(zone), if_match: None }
}

fn label_zone(zone: &str) -> Action {
    let labels = Some(BTreeMap::from([("k".to_owned(), "v".to_owned())]));
    Action::UpdateZone { zone: by_name(zone), if_match: None, labels, ns_set: None }
}

/// What becomes of actions on `example.com` (and `sub.example.com`, which is also the tenant's) by a token of this
/// scope. What isn't to be seen is not found; what is to be seen and not allowed is forbidden.
#[test]
fn scopes() {
    let verbs = |verbs: &[Verb]| Scope { verbs: verbs.to_vec(), ..Scope::default() };
    let zones = |zones: &[ZonePattern]| Scope { zones: zones.to_vec(), ..Scope::default() };
    let names = |names: &[NamePattern]| Scope { names: names.to_vec(), ..Scope::default() };
    let edit = || put_txt("example.com", "www.example.com");
    let acme = || put_txt("example.com", "_acme-challenge.www.example.com");
    let cases: Vec<(&str, Scope, Action, Result<(), RejectionKind>)> = vec![
        ("all", Scope::default(), edit(), Ok(())),
        ("read", verbs(&[Verb::Read]), edit(), Err(Forbidden)),
        ("read", verbs(&[Verb::Read]), delete_zone("example.com"), Err(Forbidden)),
        ("read", verbs(&[Verb::Read]), create_zone("new.example", None, None), Err(Forbidden)),
        ("read", verbs(&[Verb::Read]), delete_zone("other.example"), Err(NotFound)),
        ("write", verbs(&[Verb::Write]), edit(), Ok(())),
        ("write", verbs(&[Verb::Write]), label_zone("example.com"), Err(Forbidden)),
        ("create", verbs(&[Verb::Create]), label_zone("example.com"), Ok(())),
        ("create", verbs(&[Verb::Create]), delete_zone("example.com"), Err(Forbidden)),
        ("delete", verbs(&[Verb::Delete]), delete_zone("example.com"), Ok(())),
        ("this zone", zones(&[ZonePattern::Name(name("example.com"))]), edit(), Ok(())),
        (
            "this zone",
            zones(&[ZonePattern::Name(name("example.com"))]),
            delete_zone("sub.example.com"),
            Err(NotFound),
        ),
        (
            "this zone",
            zones(&[ZonePattern::Name(name("a.example"))]),
            create_zone("b.example", None, None),
            Err(Forbidden),
        ),
        (
            "this zone",
            zones(&[ZonePattern::Name(name("a.example"))]),
            create_zone("a.example", None, None),
            Ok(()),
        ),
        ("by id", zones(&[ZonePattern::Id(ZoneId(1))]), edit(), Err(NotFound)),
        ("by id", zones(&[ZonePattern::Id(ZoneId(1))]), create_zone("b.example", None, None), Err(Forbidden)),
        ("below", zones(&[ZonePattern::Below(name("example.com"))]), edit(), Err(NotFound)),
        ("below", zones(&[ZonePattern::Below(name("example.com"))]), delete_zone("sub.example.com"), Ok(())),
        ("label", names(&[NamePattern::FirstLabel("_acme-challenge".into())]), acme(), Ok(())),
        ("label", names(&[NamePattern::FirstLabel("_acme-challenge".into())]), edit(), Err(Forbidden)),
        ("name", names(&[NamePattern::Name(name("www.example.com"))]), edit(), Ok(())),
        ("name", names(&[NamePattern::Name(name("www.example.com"))]), acme(), Err(Forbidden)),
        ("below", names(&[NamePattern::Below(name("www.example.com"))]), acme(), Ok(())),
        ("below", names(&[NamePattern::Below(name("www.example.com"))]), edit(), Err(Forbidden)),
        // Who may only change some names can't change the zone as a whole.
        (
            "name",
            names(&[NamePattern::Below(name("example.com"))]),
            delete_zone("example.com"),
            Err(Forbidden),
        ),
        (
            "name",
            names(&[NamePattern::Below(name("example.com"))]),
            label_zone("example.com"),
            Err(Forbidden),
        ),
        (
            "name",
            names(&[NamePattern::Below(name("example.com"))]),
            create_zone("b.example", None, None),
            Err(Forbidden),
        ),
        ("TXT", Scope { types: vec![ScopeType(Rtype::TXT)], ..Scope::default() }, edit(), Ok(())),
        ("A", Scope { types: vec![ScopeType(Rtype::A)], ..Scope::default() }, edit(), Err(Forbidden)),
        ("write", verbs(&[Verb::Write]), create_token(None, Scope::default()), Err(Forbidden)),
    ];
    for (scope_name, scope, action, expected) in cases {
        let mut world = World::new();
        let all = world.tenant("t");
        world.create(all, "example.com").unwrap();
        world.create(all, "sub.example.com").unwrap();
        let other = world.tenant("other");
        world.create(other, "other.example").unwrap();
        let token = world.token(Some(tenant_of(all)), scope);
        let shown = format!("{scope_name}: {action:?}");
        assert_eq!(
            world.run(token, action).map(drop).map_err(|rejection| rejection.kind),
            expected,
            "{shown}"
        );
    }
}

#[test]
fn all_edits_out_of_scope_are_named() {
    let mut world = World::new();
    let all = world.tenant("t");
    world.create(all, "example.com").unwrap();
    let scope = Scope { types: vec![ScopeType(Rtype::TXT)], ..Scope::default() };
    let token = world.token(Some(tenant_of(all)), scope);
    let edit = |owner: &str, rtype| RrsetEdit {
        key: RrKey::new(name(owner), rtype),
        if_match: None,
        op: EditOp::Delete,
    };
    let edits = vec![
        edit("a.example.com", Rtype::A),
        edit("b.example.com", Rtype::TXT),
        edit("c.example.com", Rtype::MX),
    ];
    let zones = vec![ZoneEdit { zone: by_name("example.com"), if_match: None, edits }];
    let refused = world.run(token, Action::EditZones { zones }).unwrap_err();
    let places: Vec<_> = refused.items.iter().map(|item| (item.zone, item.edit, item.rtype)).collect();
    assert_eq!(refused.kind, Forbidden);
    assert_eq!(places, [(Some(0), Some(0), Some(Rtype::A)), (Some(0), Some(2), Some(Rtype::MX))]);
}

#[test]
fn another_tenants_zone_and_one_that_is_not_there_look_the_same() {
    let mut world = World::new();
    let (first, second) = (world.tenant("first"), world.tenant("second"));
    let id = world.create(first, "example.com").unwrap();
    let nowhere = ZoneId(id.0 ^ 1);
    let answer = |world: &mut World, zone: ZoneRef| {
        let shown = zone.to_string();
        let answers = [
            Action::DeleteZone { zone: zone.clone(), if_match: Some(1) },
            Action::UpdateZone { zone: zone.clone(), if_match: Some(1), labels: None, ns_set: None },
            Action::EditZones {
                zones: vec![ZoneEdit { zone: zone.clone(), if_match: Some(1), edits: vec![] }],
            },
            Action::ActivateZone { zone, by: Evidence::Txt },
        ];
        answers.map(|action| {
            let mut refused = world.run(second, action).unwrap_err();
            refused.detail = refused.detail.replace(&shown, "ZONE");
            refused.items.iter_mut().for_each(|item| item.detail = item.detail.replace(&shown, "ZONE"));
            refused
        })
    };
    let (held, missing) = (answer(&mut world, ZoneRef::Id(id)), answer(&mut world, ZoneRef::Id(nowhere)));
    assert_eq!(held, missing);
    assert_eq!(answer(&mut world, by_name("example.com")), answer(&mut world, by_name("example.net")));
    assert_eq!(held.map(|refused| refused.kind), [NotFound, NotFound, NotFound, Forbidden]);
}

#[test]
fn a_token_works_till_it_ends_or_its_tenant_is_disabled() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    world.create(tenant, "example.com").unwrap();
    let id = tenant_of(tenant);
    let action = || label_zone("example.com");
    let update = |enabled| Action::UpdateTenant {
        tenant: id,
        name: None,
        enabled: Some(enabled),
        limits: Vec::new(),
        source_prefixes: None,
    };

    // Expired.
    let expires_at_ms = Some(world.time_ms + 1000);
    let expired = |expires_at_ms| Action::CreateToken {
        tenant: Some(id),
        description: String::new(),
        scope: Scope::default(),
        expires_at_ms,
        secret_hash: [3; 32],
    };
    let made = world.operate(expired(expires_at_ms)).subject;
    let Some(Subject::Token(token)) = made else { panic!("{made:?}") };
    let short = Principal::Tenant { tenant: id, token };
    // It can't make one that outlives it.
    assert_eq!(kind(world.run(short, expired(None))), Forbidden);
    assert_eq!(kind(world.run(short, expired(expires_at_ms.map(|end| end + 1)))), Forbidden);
    world.run(short, expired(expires_at_ms)).unwrap();
    world.time_ms += 999;
    world.run(short, action()).unwrap();
    world.time_ms += 1;
    assert_eq!(kind(world.run(short, action())), Unauthenticated);
    assert_eq!(kind(world.run(world.operator, expired(Some(world.time_ms)))), Invalid);

    // Disabled, and enabled again; the zone is served all the while.
    world.operate(update(false));
    assert_eq!(kind(world.run(tenant, action())), Unauthenticated);
    assert!(world.state.served_zone(&name("example.com")).is_some());
    world.operate(update(true));
    world.run(tenant, action()).unwrap();

    // Another's token, an operator's, or none at all is no token of the tenant.
    let stranger = world.tenant("stranger");
    for token in [token_of(stranger), token_of(world.operator), TokenId(1)] {
        assert_eq!(kind(world.run(Principal::Tenant { tenant: id, token }, action())), Unauthenticated);
        let as_operator = Principal::Operator { token };
        let refused = world.run(as_operator, Action::CreateTenant { name: "x".into() });
        assert!(token == token_of(world.operator) || kind(refused) == Unauthenticated);
    }

    // Revoked.
    world.run(tenant, Action::RevokeToken { token: token_of(tenant) }).unwrap();
    assert_eq!(kind(world.run(tenant, action())), Unauthenticated);
    let again = Action::RevokeToken { token: token_of(tenant) };
    assert!(world.operate(again).changes.is_empty());
}

#[test]
fn tokens_make_none_that_are_wider() {
    let mut world = World::new();
    let (tenant, other) = (world.tenant("t"), world.tenant("other"));
    let id = Some(tenant_of(tenant));
    let admin = |zones: &[&str]| Scope {
        zones: zones.iter().map(|zone| ZonePattern::Name(name(zone))).collect(),
        verbs: vec![Verb::Admin, Verb::Write],
        ..Scope::default()
    };
    let limited = world.token(id, admin(&["a.example", "b.example"]));
    world.run(limited, create_token(id, admin(&["a.example"]))).unwrap();
    for wider in [admin(&["c.example"]), admin(&[]), Scope::default()] {
        assert_eq!(kind(world.run(limited, create_token(id, wider))), Forbidden);
    }
    // Neither for another tenant nor for an operator.
    for holder in [Some(tenant_of(other)), None] {
        assert_eq!(kind(world.run(tenant, create_token(holder, Scope::default()))), NotFound);
    }
    assert_eq!(kind(world.run(tenant, Action::RevokeToken { token: token_of(other) })), NotFound);
    assert_eq!(kind(world.run(tenant, Action::RevokeToken { token: token_of(world.operator) })), NotFound);
    world.run(tenant, Action::RevokeToken { token: token_of(limited) }).unwrap();
    assert_eq!(kind(world.run(world.operator, create_token(Some(TenantId(1)), Scope::default()))), NotFound);
}

#[test]
fn what_is_for_operators_is_for_nobody_else() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let reader = world.token(None, Scope { verbs: vec![Verb::Read], ..Scope::default() });
    let id = tenant_of(tenant);
    let set = world.state.default_ns_set().unwrap().id;
    let actions = [
        Action::CreateTenant { name: "x".into() },
        Action::UpdateTenant {
            tenant: id,
            name: None,
            enabled: Some(false),
            limits: Vec::new(),
            source_prefixes: None,
        },
        Action::DeleteTenant { tenant: id },
        Action::CreateNsSet(ns_set_input("x", &["ns.x.example"])),
        Action::UpdateNsSet { set, input: ns_set_input("x", &["ns.x.example"]) },
        Action::DeleteNsSet { set },
        Action::CreatePop { name: "p".into(), secret_hash: [0; 32], region: None },
        Action::BeginEpoch,
        Action::Bootstrap { secret_hash: [0; 32] },
    ];
    for action in actions {
        assert_eq!(kind(world.run(tenant, action.clone())), Forbidden, "{action:?}");
        assert_eq!(kind(world.run(reader, action.clone())), Forbidden, "{action:?}");
    }
    for action in [Action::BeginEpoch, Action::Bootstrap { secret_hash: [0; 32] }] {
        assert_eq!(kind(world.run(world.operator, action)), Forbidden);
    }
    let again = Action::Bootstrap { secret_hash: [0; 32] };
    assert_eq!(kind(world.run(Principal::System, again)), Conflict);
}

#[test]
fn tenants_come_and_go() {
    let mut world = World::new();
    let tenant = world.tenant("acme");
    let id = tenant_of(tenant);
    let zone = world.create(tenant, "example.com").unwrap();
    let operator = world.operator;
    assert_eq!(kind(world.run(operator, Action::CreateTenant { name: "acme".into() })), Conflict);
    for bad in ["", "-a", "a-", "A", "a b", "ä", &"a".repeat(64)] {
        assert_eq!(kind(world.run(operator, Action::CreateTenant { name: bad.into() })), Invalid, "{bad}");
    }
    let rename = |name: &str| Action::UpdateTenant {
        tenant: id,
        name: Some(name.into()),
        enabled: None,
        limits: Vec::new(),
        source_prefixes: None,
    };
    world.tenant("other");
    assert_eq!(kind(world.run(operator, rename("other"))), Conflict);
    assert!(world.operate(rename("acme")).changes.is_empty());
    world.operate(rename("acme2"));
    assert!(world.state.tenant_named("acme").is_none() && world.state.tenant_named("acme2").is_some());

    assert_eq!(kind(world.run(operator, Action::DeleteTenant { tenant: id })), Conflict);
    world.delete(tenant, zone).unwrap();
    world.operate(Action::DeleteTenant { tenant: id });
    assert_eq!(kind(world.create(tenant, "example.com")), Unauthenticated);
    assert!(world.state.token(token_of(tenant)).unwrap().revoked_at_ms.is_some());
    assert!(world.state.tenant_named("acme2").is_none());
}

#[test]
fn pops_come_and_go() {
    let mut world = World::new();
    let create = || Action::CreatePop { name: "fra1".into(), secret_hash: [7; 32], region: None };
    let Some(Subject::Pop(pop)) = world.operate(create()).subject else { panic!("no PoP") };
    assert_eq!(kind(world.run(world.operator, create())), Conflict);
    let update = |enabled, drained| Action::UpdatePop { pop, enabled, drained, region: None };
    assert!(world.operate(update(Some(true), Some(false))).changes.is_empty());
    assert_eq!(kind(world.run(world.operator, Action::DeletePop { pop })), Conflict);
    world.operate(update(Some(false), Some(true)));
    world.operate(Action::DeletePop { pop });
    assert_eq!(kind(world.run(world.operator, update(None, None))), NotFound);
}

#[test]
fn pops_are_in_few_regions() {
    let mut world = World::new();
    let regions: Vec<String> = (1..=17).map(|number| format!("r{number}")).collect();
    let mut pops = Vec::new();
    for (number, region) in (0..).zip(&regions) {
        let region = (number < 16).then(|| region.clone());
        let create = Action::CreatePop { name: format!("pop{number}"), secret_hash: [number; 32], region };
        let Some(Subject::Pop(pop)) = world.operate(create).subject else { panic!("no PoP") };
        pops.push(pop);
    }
    let set = |pop, region: &str| Action::UpdatePop {
        pop,
        enabled: None,
        drained: None,
        region: Some(region.into()),
    };
    let region = |world: &World, pop| world.state.pop(pop).unwrap().region.clone();
    let last = pops[16];
    let refused = world.run(world.operator, set(last, "r17")).unwrap_err();
    assert!(refused.kind == Conflict && refused.detail.contains("16 regions"), "{}", refused.detail);
    world.operate(set(last, "r1"));
    assert!(world.operate(set(last, "r1")).changes.is_empty());
    assert_eq!(region(&world, last).as_deref(), Some("r1"));
    // The last one of a region can move to a new one.
    world.operate(set(pops[1], "r17"));
    world.operate(set(last, ""));
    assert_eq!(region(&world, last), None);
    for bad in ["EU", "eu_west", "-eu", "e~u", &"x".repeat(33)] {
        assert_eq!(kind(world.run(world.operator, set(last, bad))), Invalid, "{bad}");
    }
    world.operate(set(pops[1], &"x".repeat(32)));
}

#[test]
fn limits_of_words() {
    let mut world = World::new();
    let context = |message: Option<String>, idempotency_key: Option<RequestKey>| Context {
        principal: world.operator,
        time_ms: world.time_ms,
        entropy: [9; 32],
        message,
        idempotency_key,
        confirmed: false,
    };
    let key = |bytes: usize| RequestKey {
        holder: KeyHolder::of(world.operator).unwrap(),
        text: "k".repeat(bytes),
        fingerprint: 0,
    };
    let judge = |context| {
        let action = Action::CreateTenant { name: "x".into() };
        decide(&world.state, &authorise(&world.state, Command { context, action }).unwrap()).map(drop)
    };
    assert_eq!(judge(context(Some("m".repeat(1024)), Some(key(256)))), Ok(()));
    assert_eq!(kind(judge(context(Some("m".repeat(1025)), None))), Invalid);
    assert_eq!(kind(judge(context(None, Some(key(257))))), Invalid);
    let token = |length| Action::CreateToken {
        tenant: None,
        description: "d".repeat(length),
        scope: Scope::default(),
        expires_at_ms: None,
        secret_hash: [0; 32],
    };
    world.operate(token(1024));
    assert_eq!(kind(world.run(world.operator, token(1025))), Invalid);
}

/// Growth over each limit is refused with its name, figures and item; what is there already stays, and shrinks.
#[test]
fn limits() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let zone = world.import(tenant, "example.com", "a A 192.0.2.1\na A 192.0.2.2\nb A 192.0.2.1");
    let limit = |world: &mut World, limit: Limit, value: Option<u64>| {
        let (tenant, limits) = (tenant_of(tenant), vec![(limit, value)]);
        world.operate(Action::UpdateTenant {
            tenant,
            name: None,
            enabled: None,
            limits,
            source_prefixes: None,
        });
    };
    let put = |owner: &str, count: u8| {
        let rdatas = (1..=count).map(|n| vec![192, 0, 2, n]).collect();
        let key = RrKey::new(name(owner), Rtype::A);
        RrsetEdit { key, if_match: None, op: EditOp::Put { ttl: 60, rdatas } }
    };
    let edit = |edits: Vec<RrsetEdit>| Action::EditZones {
        zones: vec![ZoneEdit { zone: by_name("example.com"), if_match: None, edits }],
    };
    let labels = |count: usize| Action::UpdateZone {
        zone: by_name("example.com"),
        if_match: None,
        labels: Some((0..count).map(|n| (n.to_string(), String::new())).collect()),
        ns_set: None,
    };
    let import = |text: &str| {
        let text = format!("$TTL 300\n@ NS ns1.herald.example.\n@ NS ns2.herald.example.\n{text}\n");
        Some(prepared("example.com", content_of("example.com", &text)))
    };
    let replace = |world: &World, text: &str| Action::ReplaceZone {
        zone: by_name("example.com"),
        base: world.zone(zone).revision,
        content: import(text).unwrap(),
    };
    let usage = world.state.usage(tenant_of(tenant));
    assert_eq!((usage.zones, usage.records, usage.tokens), (1, 6, 1));
    world.run(tenant, labels(3)).unwrap();

    // At or under what there is, so that only what shrinks or stays as large goes.
    let low = [
        (Limit::Zones, 0),
        (Limit::RrsetsPerZone, 4),
        (Limit::RecordsPerRrset, 1),
        (Limit::RecordsPerZone, 5),
        (Limit::Records, 5),
        (Limit::LabelsPerZone, 2),
        (Limit::Tokens, 1),
    ];
    let more = |world: &World, of: Limit| match of {
        Limit::Zones => create_zone("example.net", None, None),
        Limit::RrsetsPerZone => edit(vec![put("c.example.com", 1)]),
        Limit::RecordsPerRrset => edit(vec![put("b.example.com", 1), put("a.example.com", 3)]),
        Limit::RecordsPerZone | Limit::Records => {
            replace(world, "a A 192.0.2.1\na A 192.0.2.2\nb A 192.0.2.1\nc A 192.0.2.1")
        }
        Limit::LabelsPerZone => labels(4),
        Limit::Tokens => create_token(Some(tenant_of(tenant)), Scope::default()),
        _ => unreachable!(),
    };
    for (of, value) in &low {
        limit(&mut world, *of, Some(*value));
        let action = more(&world, *of);
        let refused = world.run(tenant, action.clone()).unwrap_err();
        assert_eq!(refused.kind, RejectionKind::Quota, "{of:?}");
        assert!(refused.detail.contains(&format!("`{}`", of.name())), "{}", refused.detail);
        // Whoever asks: it is the tenant's.
        let by_operator = match action {
            Action::CreateZone { .. } => create_zone("example.net", Some(tenant_of(tenant)), None),
            other => other,
        };
        assert_eq!(kind(world.run(world.operator, by_operator)), RejectionKind::Quota, "{of:?}");
        if *of == Limit::RecordsPerRrset {
            assert_eq!((refused.items[0].zone, refused.items[0].edit), (Some(0), Some(1)));
            assert!(
                refused.detail.contains("is 1, and this would make 3 at a.example.com. A"),
                "{}",
                refused.detail
            );
        }
        limit(&mut world, *of, None);
    }
    low.iter().for_each(|(of, value)| limit(&mut world, *of, Some(*value)));
    // Over all of its limits it can still be changed where nothing grows.
    world.run(tenant, edit(vec![put("a.example.com", 2)])).unwrap();
    let rename = [put("c.example.com", 1), RrsetEdit { op: EditOp::Delete, ..put("b.example.com", 1) }];
    world.run(tenant, edit(rename.into())).unwrap();
    world.run(tenant, labels(3)).unwrap();
    let smaller = replace(&world, "a A 192.0.2.1\na A 192.0.2.2");
    world.run(tenant, smaller).unwrap();
    // A zone that is deleted makes room.
    limit(&mut world, Limit::Zones, Some(1));
    assert_eq!(kind(world.create(tenant, "example.net")), RejectionKind::Quota);
    world.delete(tenant, zone).unwrap();
    world.create(tenant, "example.net").unwrap();
    let over = world.run(
        world.operator,
        Action::UpdateTenant {
            tenant: tenant_of(tenant),
            name: None,
            enabled: None,
            limits: vec![(Limit::WritesPerS, Some(0))],
            source_prefixes: None,
        },
    );
    assert_eq!(kind(over), Invalid);
}

/// A tenant can't fill the state with tokens: at its limit those that ended make room, and else there is none.
#[test]
fn tokens_that_ended_make_room() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let id = tenant_of(tenant);
    let limits = vec![(Limit::Tokens, Some(3))];
    world.operate(Action::UpdateTenant {
        tenant: id,
        name: None,
        enabled: None,
        limits,
        source_prefixes: None,
    });
    world.time_ms += 1;
    let second = world.token(Some(id), Scope::default());
    world.time_ms += 1;
    let third = world.token(Some(id), Scope::default());
    assert_eq!(kind(world.run(tenant, create_token(Some(id), Scope::default()))), RejectionKind::Quota);
    for ended in [third, second] {
        world.run(tenant, Action::RevokeToken { token: token_of(ended) }).unwrap();
    }
    world.token(Some(id), Scope::default());
    assert!(world.state.token(token_of(second)).is_none() && world.state.token(token_of(third)).is_some());
    world.token(Some(id), Scope::default());
    assert_eq!(world.state.usage(id).tokens, 3);
    assert_eq!(kind(world.run(tenant, create_token(Some(id), Scope::default()))), RejectionKind::Quota);
}
