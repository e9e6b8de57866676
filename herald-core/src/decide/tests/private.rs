//! Private zones: whose clients are inside, and that nobody else notices.

use RejectionKind::{Conflict, Invalid, NotFound};
use ZoneStatus::{Active, Pending, Private};

use super::*;
use crate::RrKey;
use crate::command::{EditOp, Insiders, RrsetEdit, ZoneEdit};
use crate::steering::{Item, VIEW, View, view_key};

fn view(prefixes: &[&str]) -> View {
    View { prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(), pops: Vec::new() }
}

fn create_private(zone: &str, tenant: Option<TenantId>, inside: &[&str]) -> Action {
    let (labels, insiders) = (BTreeMap::new(), Some(Insiders::View(view(inside))));
    Action::CreateZone { name: name(zone), tenant, ns_set: None, labels, content: None, insiders }
}

impl World {
    fn private(&mut self, by: Principal, zone: &str, inside: &[&str]) -> Result<ZoneId, Rejection> {
        match self.run(by, create_private(zone, None, inside))?.subject {
            Some(Subject::Zone(id)) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    fn put_view(&mut self, by: Principal, zone: ZoneId, view: &View) -> Result<Decision, Rejection> {
        let rrset = Item::View(view.clone()).write().unwrap();
        let key = view_key(&self.zone(zone).name, "more").unwrap();
        let op = EditOp::Put { ttl: rrset.ttl, rdatas: rrset.rdatas };
        let edits = vec![RrsetEdit { key, if_match: None, op }];
        let edit = ZoneEdit { zone: ZoneRef::Id(zone), if_match: None, edits };
        self.run(by, Action::EditZones { zones: vec![edit] })
    }
}

/// Two tenants, each with clients of its own.
fn two() -> (World, Principal, Principal) {
    let mut world = World::new();
    let (a, b) = (world.tenant("a"), world.tenant("b"));
    world.grant(tenant_of(a), &["10.1.0.0/16", "2001:db8:1::/48"]).unwrap();
    world.grant(tenant_of(b), &["10.2.0.0/16"]).unwrap();
    (world, a, b)
}

#[test]
fn a_private_zone_may_have_any_name_and_is_in_nobodys_way() {
    let (mut world, a, b) = two();
    let public = world.create(b, "example.com").unwrap();
    // Under the name of another's, above it, beneath it, and where nobody may hold a public one.
    for zone in ["example.com", "com", "corp.example.com", "internal"] {
        let id = world.private(a, zone, &["10.1.2.0/24"]).unwrap();
        assert_eq!(world.status(id), Private, "{zone}");
        let views: Vec<&RrKey> =
            world.zone(id).content.iter().map(|(key, _)| key).filter(|key| key.rtype == VIEW).collect();
        assert_eq!(views, [&view_key(&name(zone), "insiders").unwrap()]);
    }
    // The other may have private ones of the same names, and public ones as if there were none.
    world.private(b, "example.com", &["10.2.0.0/16"]).unwrap();
    let sub = world.create(b, "x.corp.example.com").unwrap();
    assert_eq!((world.status(public), world.status(sub)), (Active, Active));
    let foreign = world.create(a, "example.com").unwrap();
    assert_eq!(world.status(foreign), Pending, "who has a private zone has no right to the name");
    // Nothing of them is evidence, nor can it be displaced.
    world.activate(foreign, Evidence::Txt).unwrap();
    assert_eq!((world.status(public), world.status(foreign)), (Pending, Active));
    assert_eq!(world.state.served_zone(&name("example.com")).unwrap().id, foreign);
    assert_eq!(kind(world.private(a, "example.com", &["10.1.0.0/16"])), Conflict);
    assert_eq!(kind(world.private(a, ".", &["10.1.0.0/16"])), Invalid);
}

#[test]
fn insiders_come_from_the_tenants_own_prefixes() {
    let (mut world, a, b) = two();
    for (inside, is_taken) in [
        (&["10.1.0.0/16"][..], true),
        (&["10.1.7.0/24", "2001:db8:1:2::/64"], true),
        (&["10.1.7.0/24", "10.2.0.1/32"], false),
        (&["10.0.0.0/8"], false),
        (&["0.0.0.0/0"], false),
        (&["::/0"], false),
        (&["2001:db8::/32"], false),
        // A view of no prefix has everybody inside.
        (&[], false),
    ] {
        let made = world.private(a, "example.com", inside);
        assert_eq!(made.is_ok(), is_taken, "{inside:?}");
        match made {
            Ok(id) => drop(world.delete(a, id).unwrap()),
            Err(rejection) => {
                assert_eq!(rejection.kind, Invalid);
                let is_said = rejection.detail.contains("source prefixes") || inside.is_empty();
                assert!(is_said, "{}", rejection.detail);
            }
        }
    }
    let zone = world.private(a, "example.com", &["10.1.0.0/16"]).unwrap();
    world.put_view(a, zone, &view(&["2001:db8:1::/64"])).unwrap();
    for foreign in [view(&["10.2.0.0/16"]), view(&[]), View { pops: vec!["fra".into()], ..view(&[]) }] {
        let refused = world.put_view(a, zone, &foreign).unwrap_err();
        assert_eq!(refused.kind, Invalid);
        let item = &refused.items[0];
        assert_eq!((item.zone, item.edit, item.rtype), (Some(0), Some(0), Some(VIEW)), "it is named");
    }
    // Views of a zone that everybody sees may have anybody inside.
    let public = world.create(a, "example.net").unwrap();
    world.put_view(a, public, &view(&["10.2.0.0/16"])).unwrap();
    // Who was granted nothing has no clients of its own.
    let c = world.tenant("c");
    assert_eq!(kind(world.private(c, "example.com", &["10.3.0.0/16"])), Invalid);
    // An operator makes one for a tenant by the same rule.
    let action = create_private("x.example", Some(tenant_of(b)), &["10.1.0.0/16"]);
    assert_eq!(kind(world.run(world.operator, action)), Invalid);
}

#[test]
fn an_address_is_one_tenants() {
    let (mut world, a, b) = two();
    for (tenant, prefixes, is_taken) in [
        (b, &["10.1.2.0/24"][..], false),
        (b, &["10.0.0.0/8"], false),
        (b, &["0.0.0.0/0"], false),
        (b, &["::/0"], false),
        (b, &["10.2.0.0/16", "10.3.0.0/16"], true),
        (a, &["10.3.0.0/24"], false),
        (a, &["10.1.0.0/16", "10.1.0.0/16", "fd00::/8"], true),
        (b, &["2001:db8:1::/48"], true),
    ] {
        let granted = world.grant(tenant_of(tenant), prefixes);
        assert_eq!(granted.is_ok(), is_taken, "{prefixes:?}");
        if let Err(rejection) = granted {
            assert_eq!(rejection.kind, Conflict);
        }
    }
    let zone = world.private(a, "example.com", &["10.1.0.0/16"]).unwrap();
    let taken_away = world.grant(tenant_of(a), &["fd00::/8"]).unwrap_err();
    assert_eq!(taken_away.kind, Conflict);
    assert!(taken_away.detail.contains("example.com"), "{}", taken_away.detail);
    world.delete(a, zone).unwrap();
    world.grant(tenant_of(a), &["fd00::/8"]).unwrap();
    // No tenant says itself where its clients are.
    let refused = world.run(a, grant(tenant_of(a), vec!["10.9.0.0/16".parse().unwrap()]));
    assert_eq!(kind(refused), RejectionKind::Forbidden);
}

#[test]
fn a_name_alone_is_never_that_of_a_private_zone() {
    let (mut world, a, b) = two();
    let private = world.private(a, "example.com", &["10.1.0.0/16"]).unwrap();
    let delete = |zone: ZoneRef| Action::DeleteZone { zone, if_match: None };
    assert_eq!(kind(world.run(a, delete(by_name("example.com")))), NotFound);
    let public = world.create(a, "example.com").unwrap();
    world.run(a, delete(by_name("example.com"))).unwrap();
    assert!(world.state.zone(public).is_none() && world.state.zone(private).is_some());
    assert_eq!(kind(world.run(a, delete(by_name("example.com")))), NotFound, "the same again");
    let reference = ZoneRef::parse("private:Example.com").unwrap();
    assert_eq!(reference.to_string(), "private:example.com.");
    assert_eq!(kind(world.run(b, delete(reference.clone()))), NotFound);
    // For operators, it has to be one alone.
    let other = world.private(b, "example.com", &["10.2.0.0/16"]).unwrap();
    assert_eq!(kind(world.run(world.operator, delete(reference.clone()))), Conflict);
    world.run(b, delete(reference.clone())).unwrap();
    assert!(world.state.zone(other).is_none());
    world.run(world.operator, delete(reference)).unwrap();
    assert!(world.state.zone(private).is_none());
}

/// What comes of other tenants' commands is the same whether there are private zones or not.
#[test]
fn the_others_notice_nothing() {
    let outcome = |with_private: bool| {
        let (mut world, a, b) = two();
        if with_private {
            for zone in ["example.com", "sub.example.com", "com"] {
                let id = world.private(a, zone, &["10.1.0.0/16"]).unwrap();
                world.put_view(a, id, &view(&["10.1.9.0/24"])).unwrap();
            }
            let gone = world.private(a, "gone.example", &["10.1.0.0/16"]).unwrap();
            world.delete(a, gone).unwrap();
        }
        let mut seen = Vec::new();
        for zone in ["example.com", "sub.example.com", "a.example.com", "gone.example", "example.com", "com"]
        {
            let made = world.create(b, zone);
            seen.push(made.map(|id| (world.zone(id).status, world.zone(id).serial)).map_err(|e| e.detail));
        }
        let all = world.state.served_zone(&name("example.com")).unwrap().id;
        let admitted = world
            .run(b, Action::AdmitZone { name: name("example.com"), code: world.zone(all).challenge.clone() });
        (seen, kind(admitted))
    };
    assert_eq!(outcome(true), outcome(false));
}

/// A private zone that is made again goes on from its own serial, and not from that of another's.
#[test]
fn serials_are_of_the_tenants_own_name() {
    let (mut world, a, b) = two();
    let first = world.private(a, "example.com", &["10.1.0.0/16"]).unwrap();
    for n in 0..3 {
        world.put_view(a, first, &view(&[&format!("10.1.{n}.0/24")])).unwrap();
    }
    let serial = world.zone(first).serial;
    world.delete(a, first).unwrap();
    let again = world.private(a, "example.com", &["10.1.0.0/16"]).unwrap();
    assert_eq!(world.zone(again).serial, serial + 1);
    let theirs = world.private(b, "example.com", &["10.2.0.0/16"]).unwrap();
    let public = world.create(b, "example.com").unwrap();
    assert!(world.zone(theirs).serial < serial && world.zone(public).serial < serial);
}
