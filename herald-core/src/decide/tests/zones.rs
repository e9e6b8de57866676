//! Who may bear which name, and when a zone is served.

use super::*;
use crate::account::ZonePattern;
use crate::command::{EditOp, RrsetEdit, ZoneEdit};
use crate::zone::serial_is_newer;
use crate::{Rdatas, RrKey};
use ZoneStatus::{Active, Pending};

#[test]
fn public_suffixes_are_for_operators() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let suffixes = [
        "com",
        "test",
        "co.uk",
        "github.io",
        "in-addr.arpa",
        "ip6.arpa",
        "arpa",
        // A rule with a wildcard, one of a private section, and two that are IDNs.
        "any.ck",
        "s3.amazonaws.com",
        "xn--p1ai",
        "公司.hk",
        "xn--55qx5d.cn",
    ];
    for suffix in suffixes {
        let refused = world.create(tenant, suffix).unwrap_err();
        assert_eq!(refused.kind, RejectionKind::Invalid, "{suffix}");
        assert!(refused.detail.contains("public suffix"), "{suffix}: {}", refused.detail);
    }
    let free = [
        "example.co.uk",
        "koder.github.io",
        "2.0.192.in-addr.arpa",
        "0/25.2.0.192.in-addr.arpa",
        "8.b.d.0.1.0.0.2.ip6.arpa",
        "example.xn--p1ai",
        "a.any.ck",
        "www.ck",
        "bücher.example",
        "a.test",
    ];
    for zone in free {
        let id = world.create(tenant, zone).unwrap();
        assert_eq!(world.status(id), Active, "{zone}");
    }
    let holder = Some(tenant_of(tenant));
    for suffix in suffixes {
        world
            .run(world.operator, create_zone(suffix, holder, None))
            .unwrap_or_else(|e| panic!("{suffix}: {e}"));
    }
}

#[test]
fn what_can_be_no_zone() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    for zone in [".", "*.example.com"] {
        assert_eq!(kind(world.create(tenant, zone)), RejectionKind::Invalid, "{zone}");
        let by_operator = create_zone(zone, Some(tenant_of(tenant)), None);
        assert_eq!(kind(world.run(world.operator, by_operator)), RejectionKind::Invalid, "{zone}");
    }
    assert_eq!(kind(world.run(world.operator, create_zone("a.example", None, None))), RejectionKind::Invalid);
    let nobody = create_zone("a.example", Some(TenantId(1)), None);
    assert_eq!(kind(world.run(world.operator, nobody)), RejectionKind::NotFound);
    world.create(tenant, "a.example").unwrap();
    assert_eq!(kind(world.create(tenant, "a.example")), RejectionKind::Conflict);
    assert_eq!(kind(world.create(tenant, "A.EXAMPLE.")), RejectionKind::Conflict);
}

#[test]
fn a_zone_in_the_way_of_another_tenants_is_pending_whatever_the_cause() {
    for held in ["shop.example.com", "example.com", "a.shop.example.com", "a.b.shop.example.com"] {
        let mut world = World::new();
        let (first, second) = (world.tenant("first"), world.tenant("second"));
        assert_eq!(world.create(first, held).map(|id| world.status(id)), Ok(Active));
        let id = world.create(second, "shop.example.com").unwrap();
        assert_eq!(world.status(id), Pending, "{held}");
        // One's own is in nobody's way.
        let own = world.create(first, "shop.example.com").map(|id| world.status(id));
        assert!(own == Ok(Active) || held == "shop.example.com", "{held}");
    }
    let mut world = World::new();
    let (first, second) = (world.tenant("first"), world.tenant("second"));
    world.create(first, "example.com").unwrap();
    for zone in ["example.net", "notexample.com", "com.example"] {
        assert_eq!(world.create(second, zone).map(|id| world.status(id)), Ok(Active), "{zone}");
    }
    // A pending zone is in nobody's way.
    let pending = world.create(second, "example.com").unwrap();
    assert_eq!(world.status(pending), Pending);
    let third = world.tenant("third");
    world.create(second, "x.example.net").unwrap();
    world.delete(first, world.state.served_zone(&name("example.com")).unwrap().id).unwrap();
    assert_eq!(world.create(third, "example.com").map(|id| world.status(id)), Ok(Active));
}

#[test]
fn a_pending_zone_is_edited_and_not_served() {
    let mut world = World::new();
    let (first, second) = (world.tenant("first"), world.tenant("second"));
    world.create(first, "example.com").unwrap();
    let before = world.state.clone();
    let id = world.import(second, "example.com", "www A 192.0.2.1");
    assert_eq!(world.status(id), Pending);
    assert_eq!(before.published_diff(&world.state).count(), 0);
    world.activate(id, Evidence::Txt).unwrap();
    assert_eq!(world.status(id), Active);
    assert_eq!(before.published_diff(&world.state).count(), 2);
}

#[test]
fn proof_displaces_who_bore_the_name() {
    for by in [Evidence::Txt, Evidence::Operator] {
        let mut world = World::new();
        let (squatter, owner) = (world.tenant("squatter"), world.tenant("owner"));
        let squatted = world.create(squatter, "example.com").unwrap();
        let owned = world.create(owner, "example.com").unwrap();
        let old_challenge = world.zone(squatted).challenge.clone();
        let published = world.zone(squatted).serial;

        world.activate(owned, by).unwrap();
        assert_eq!((world.status(squatted), world.status(owned)), (Pending, Active));
        assert_ne!(world.zone(squatted).challenge, old_challenge, "what was shown once proves nothing again");
        assert!(serial_is_newer(world.zone(owned).serial, published));
        assert!(world.activate(owned, by).unwrap().changes.is_empty());

        // And back.
        let published = world.zone(owned).serial;
        world.activate(squatted, by).unwrap();
        assert_eq!((world.status(squatted), world.status(owned)), (Active, Pending));
        assert!(serial_is_newer(world.zone(squatted).serial, published));
    }
}

#[test]
fn a_delegation_is_evidence_only_where_it_tells_tenants_apart() {
    let mut world = World::new();
    let (first, second) = (world.tenant("first"), world.tenant("second"));
    world.ns_set("other", &["ns1.other.example", "ns2.other.example"]);
    world.ns_set("mixed", &["ns1.other.example", "ns1.herald.example"]);
    let set_of = |world: &World, set: &str| world.state.ns_sets().find(|s| s.name == set).unwrap().id;
    let move_to = |world: &mut World, zone, set: &str| {
        let ns_set = Some(set_of(world, set));
        let action = Action::UpdateZone { zone: ZoneRef::Id(zone), if_match: None, labels: None, ns_set };
        world.run(second, action).unwrap();
    };
    let held = world.create(first, "example.com").unwrap();
    let same = world.create(second, "example.com").unwrap();
    let below = world.create(second, "sub.example.com").unwrap();

    assert_eq!(kind(world.activate(same, Evidence::Delegation)), RejectionKind::Conflict);
    move_to(&mut world, same, "mixed");
    assert_eq!(kind(world.activate(same, Evidence::Delegation)), RejectionKind::Conflict);
    // The holder of the zone above makes the delegation, whatever the name servers.
    move_to(&mut world, below, "other");
    assert_eq!(kind(world.activate(below, Evidence::Delegation)), RejectionKind::Conflict);
    move_to(&mut world, same, "other");
    world.activate(same, Evidence::Delegation).unwrap();
    assert_eq!((world.status(held), world.status(same)), (Pending, Active));
    // Now the zone above is its own.
    world.activate(below, Evidence::Delegation).unwrap();
}

#[test]
fn all_who_are_concerned_have_to_let_a_zone_in() {
    let mut world = World::new();
    let [above, same, below, newcomer] = ["above", "same", "below", "newcomer"].map(|t| world.tenant(t));
    world.create(above, "example.com").unwrap();
    let same_zone = world.create(same, "shop.example.com").unwrap();
    world.activate(same_zone, Evidence::Operator).unwrap();
    let below_zone = world.create(below, "a.shop.example.com").unwrap();
    world.activate(below_zone, Evidence::Operator).unwrap();
    let id = world.create(newcomer, "shop.example.com").unwrap();

    let stranger = world.tenant("stranger");
    assert_eq!(kind(world.admit(stranger, id)), RejectionKind::NotFound);
    assert_eq!(kind(world.admit(newcomer, id)), RejectionKind::NotFound);
    assert_eq!(kind(world.admit(world.operator, id)), RejectionKind::Forbidden);
    let wrong = Action::AdmitZone { name: name("shop.example.com"), code: "x".into() };
    assert_eq!(kind(world.run(above, wrong)), RejectionKind::NotFound);

    assert_eq!(world.admit(below, id).unwrap().changes.len(), 1);
    assert!(world.admit(below, id).unwrap().changes.is_empty(), "once is enough");
    world.admit(above, id).unwrap();
    assert_eq!(world.status(id), Pending);
    let last = world.admit(same, id).unwrap();
    assert_eq!(
        (world.status(id), world.status(same_zone), world.status(below_zone)),
        (Active, Pending, Active)
    );
    assert_eq!(last.subject, None, "the zone is another's");
    assert!(world.zone(id).admitted_by.is_empty());
    assert_eq!(kind(world.admit(same, id)), RejectionKind::NotFound);
}

#[test]
fn a_zone_far_below_is_the_concern_of_the_one_between() {
    let mut world = World::new();
    let [middle, deep, newcomer] = ["middle", "deep", "newcomer"].map(|t| world.tenant(t));
    world.create(middle, "b.example.com").unwrap();
    let id = world.create(deep, "a.b.example.com").unwrap();
    world.activate(id, Evidence::Operator).unwrap();
    let id = world.create(newcomer, "example.com").unwrap();
    assert_eq!(world.status(id), Pending);
    assert_eq!(kind(world.admit(deep, id)), RejectionKind::NotFound);
    world.admit(middle, id).unwrap();
    assert_eq!(world.status(id), Active);
}

#[test]
fn a_token_lets_nobody_into_a_zone_that_it_does_not_see() {
    let mut world = World::new();
    let (holder, newcomer) = (world.tenant("holder"), world.tenant("newcomer"));
    let held = world.create(holder, "example.com").unwrap();
    world.create(holder, "example.net").unwrap();
    let id = world.create(newcomer, "example.com").unwrap();
    let scoped = |world: &mut World, zone: &str| {
        let scope = Scope { zones: vec![ZonePattern::Name(name(zone))], ..Scope::default() };
        world.token(Some(tenant_of(holder)), scope)
    };
    let (other, right) = (scoped(&mut world, "example.net"), scoped(&mut world, "example.com"));
    assert_eq!(kind(world.admit(other, id)), RejectionKind::NotFound);
    assert_eq!(world.status(held), Active);
    world.admit(right, id).unwrap();
    assert_eq!((world.status(id), world.status(held)), (Active, Pending));
}

#[test]
fn serials_go_up_across_deletion_and_displacement() {
    let mut world = World::new();
    let (first, second) = (world.tenant("first"), world.tenant("second"));
    let far_ahead = 2_300_000_000;
    let content = content_of("example.com", "@ 60 NS ns1.herald.example.");
    let import = Prepared { serial_floor: Some(far_ahead), ..prepared("example.com", content) };
    let id = world.create_with(first, "example.com", Some(import)).unwrap();
    assert_eq!(world.zone(id).serial, far_ahead + 1);
    world.delete(first, id).unwrap();

    let again = world.create(second, "example.com").unwrap();
    assert_eq!(world.zone(again).serial, far_ahead + 2);
    assert_ne!(again, id);
    // A pending zone's serial is not published: it needn't be remembered.
    let pending = world.create(first, "example.com").unwrap();
    world.delete(first, pending).unwrap();
    world.delete(second, again).unwrap();
    assert_eq!(world.state.published_serial(None, &name("example.com")), Some(far_ahead + 2));

    // A floor that serial number arithmetic can't follow is left aside.
    let content = content_of("example.com", "@ 60 NS ns1.herald.example.");
    let floor = (far_ahead + 2).wrapping_add(1 << 31);
    let import = Prepared { serial_floor: Some(floor), ..prepared("example.com", content) };
    let id = world.create_with(first, "example.com", Some(import)).unwrap();
    assert!(serial_is_newer(world.zone(id).serial, far_ahead + 2));
}

#[test]
fn operators_serve_what_they_make_unless_the_name_is_taken() {
    let mut world = World::new();
    let (first, second) = (world.tenant("first"), world.tenant("second"));
    world.create(first, "example.com").unwrap();
    let holder = Some(tenant_of(second));
    assert_eq!(
        kind(world.run(world.operator, create_zone("example.com", holder, None))),
        RejectionKind::Conflict
    );
    let operator = world.operator;
    world.run(operator, create_zone("sub.example.com", holder, None)).unwrap();
    assert!(world.state.served_zone(&name("sub.example.com")).is_some());
    // By name only where one bears it.
    let pending = world.create(second, "example.com").unwrap();
    let delete = Action::DeleteZone { zone: by_name("example.com"), if_match: None };
    assert_eq!(kind(world.run(operator, delete.clone())), RejectionKind::Conflict);
    world.delete(operator, pending).unwrap();
    world.run(operator, delete).unwrap();
}

#[test]
fn a_set_of_name_servers_takes_its_zones_along() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let id = world.create(tenant, "example.com").unwrap();
    // A new zone has its set's NS, whatever its first content said; they can be added to afterwards.
    let custom = world.import(tenant, "example.net", "@ NS ns.dropped.example.");
    let ns = RrKey::new(world.zone(custom).name.clone(), Rtype::NS);
    let rdatas = Rdatas::single(Name::parse("ns.custom.example").unwrap().as_wire());
    let edit = RrsetEdit { key: ns, if_match: None, op: EditOp::Add { ttl: Some(300), rdatas } };
    let edit = ZoneEdit { zone: ZoneRef::Id(custom), if_match: None, edits: vec![edit] };
    world.run(tenant, Action::EditZones { zones: vec![edit] }).unwrap();
    let first = world.state.default_ns_set().unwrap().id;
    let apex = |world: &World, id: ZoneId| {
        let zone = world.zone(id);
        let rrset = zone.get(&RrKey::new(zone.name.clone(), Rtype::NS)).unwrap();
        (rrset.ttl, rrset.rdatas.len(), zone.soa.mname.to_string(), zone.serial)
    };
    let (before, custom_before) = (apex(&world, id), apex(&world, custom));
    assert_eq!((before.0, before.1, before.2.as_str()), (3600, 2, "ns1.herald.example."));

    let mut input = ns_set_input("first", &["a.dns.example", "b.dns.example", "c.dns.example"]);
    input.soa.ttl = 60;
    let update = Action::UpdateNsSet { set: first, input };
    assert_eq!(world.operate(update.clone()).changes.len(), 3);
    let after = apex(&world, id);
    assert_eq!((after.0, after.1, after.2.as_str()), (60, 3, "a.dns.example."));
    assert!(serial_is_newer(after.3, before.3));
    // Apex NS that aren't the set's stay; the SOA is always the set's.
    let custom_after = apex(&world, custom);
    assert_eq!((custom_after.0, custom_after.1, custom_after.2.as_str()), (300, 3, "a.dns.example."));
    assert!(serial_is_newer(custom_after.3, custom_before.3));
    assert!(world.operate(update).changes.is_empty());

    // A zone moves to another set by itself too.
    let other = world.ns_set("other", &["ns.other.example"]);
    let update = |ns_set| Action::UpdateZone {
        zone: ZoneRef::Id(id),
        if_match: None,
        labels: Some(BTreeMap::from([("team".into(), "web".into())])),
        ns_set: Some(ns_set),
    };
    assert_eq!(world.run(tenant, update(other)).unwrap().changes.len(), 2);
    assert!(world.run(tenant, update(other)).unwrap().changes.is_empty());
    assert_eq!((apex(&world, id).1, world.zone(id).labels["team"].as_str()), (1, "web"));
    assert_eq!(kind(world.run(tenant, update(NsSetId(9)))), RejectionKind::NotFound);

    assert_eq!(kind(world.run(world.operator, Action::DeleteNsSet { set: other })), RejectionKind::Conflict);
    assert_eq!(kind(world.run(world.operator, Action::DeleteNsSet { set: first })), RejectionKind::Conflict);
    world.operate(Action::UpdateNsSet {
        set: other,
        input: NsSetInput { is_default: true, ..ns_set_input("other", &["ns.other.example"]) },
    });
    assert_eq!(world.state.ns_sets().filter(|set| set.is_default).count(), 1);
    world.delete(tenant, custom).unwrap();
    world.operate(Action::DeleteNsSet { set: first });
    assert_eq!(world.state.default_ns_set().unwrap().id, other);
}

#[test]
fn limits_of_sets_and_labels() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let hosts: Vec<String> = (0..14).map(|n| format!("ns{n}.x.example")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for (set, nameservers) in
        [("x", &hosts[..0]), ("x", &hosts[..14]), ("x", &["."]), ("x", &["*.a.example"])]
    {
        let input = ns_set_input(set, nameservers);
        assert_eq!(kind(world.run(world.operator, Action::CreateNsSet(input))), RejectionKind::Invalid);
    }
    let mut input = ns_set_input("x", &hosts[..1]);
    input.soa.ttl = 1 << 31;
    assert_eq!(kind(world.run(world.operator, Action::CreateNsSet(input))), RejectionKind::Invalid);
    let again = Action::CreateNsSet(ns_set_input("first", &hosts[..1]));
    assert_eq!(kind(world.run(world.operator, again)), RejectionKind::Conflict);
    world.ns_set("thirteen", &hosts[..13]);

    let id = world.create(tenant, "example.com").unwrap();
    let mut label = |labels: BTreeMap<String, String>| {
        let zone = ZoneRef::Id(id);
        world.run(tenant, Action::UpdateZone { zone, if_match: None, labels: Some(labels), ns_set: None })
    };
    let many = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect();
    label(many(64)).unwrap();
    assert_eq!(kind(label(many(65))), RejectionKind::Quota);
    label(BTreeMap::from([("k".repeat(256), "v".repeat(256))])).unwrap();
    assert_eq!(kind(label(BTreeMap::from([("k".repeat(257), String::new())]))), RejectionKind::Invalid);
    assert_eq!(kind(label(BTreeMap::from([("k".into(), "v".repeat(257))]))), RejectionKind::Invalid);
    assert_eq!(kind(label(BTreeMap::from([(String::new(), String::new())]))), RejectionKind::Invalid);
}

#[test]
fn preconditions_of_zones() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let id = world.create(tenant, "example.com").unwrap();
    let stale = Some(world.zone(id).revision + 1);
    let zone = ZoneRef::Id(id);
    let update = Action::UpdateZone { zone: zone.clone(), if_match: stale, labels: None, ns_set: None };
    assert_eq!(kind(world.run(tenant, update)), RejectionKind::Precondition);
    let delete = |if_match| Action::DeleteZone { zone: zone.clone(), if_match };
    assert_eq!(kind(world.run(tenant, delete(stale))), RejectionKind::Precondition);
    world.run(tenant, delete(stale.map(|revision| revision - 1))).unwrap();
    assert_eq!(kind(world.run(tenant, delete(None))), RejectionKind::NotFound);
}
