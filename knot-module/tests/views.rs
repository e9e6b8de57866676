//! Insiders of views and of private zones, and what everybody else gets.

mod support;

use domain::base::iana::Rcode;
use herald_core::rdata::parse_rdata;
use herald_core::steering::{AnswerMode, Item, OVERLAY, Overlay, View};
use herald_core::{Rdatas, RrKey, Rrset, Rtype};
use support::agent::snapshot;
use support::zone::pool;
use support::{Answer, Knot, Question, TestZone};

/// Who is inside.
const INSIDE: &str = "127.0.9.1";

fn rrset(rtype: Rtype, text: &str) -> Rrset {
    Rrset { ttl: 120, rdatas: Rdatas::single(&parse_rdata(rtype, text).unwrap()) }
}

fn office() -> View {
    View { prefixes: vec!["127.0.9.0/24".parse().unwrap()], pops: vec![] }
}

/// A zone whose view `office` has, replaces and hides names. Its records are told to the module too.
fn viewed() -> TestZone {
    let overlay = |rtype, text: Option<&str>| Overlay {
        view: "office".into(),
        rtype,
        rrset: text.map(|text| rrset(rtype, text)),
    };
    let mut zone = TestZone::new("example.com.")
        .records(&[
            "www A 192.0.2.1",
            "hidden A 192.0.2.2",
            "mail MX 10 www",
            "sub NS ns.sub",
            "ns.sub A 192.0.2.3",
        ])
        .pool("pool", pool(AnswerMode::All, Rtype::A, &[("192.0.2.9", 1)]))
        .policy("steered", Rtype::A, &["pool"])
        .view("office", office());
    let overlays = [
        ("www", overlay(Rtype::A, Some("10.0.0.1"))),
        ("intranet", overlay(Rtype::A, Some("10.0.0.2"))),
        ("alias", overlay(Rtype::CNAME, Some("intranet.example.com."))),
        ("hidden", overlay(Rtype::ANY, None)),
    ];
    for (owner, overlay) in overlays {
        zone.put(RrKey::new(zone.name(owner), OVERLAY), &Item::Overlays(vec![overlay]));
    }
    add_records(
        &mut zone,
        &[
            ("@", Rtype::NS, "ns.example.com."),
            ("ns", Rtype::A, "192.0.2.1"),
            ("www", Rtype::A, "192.0.2.1"),
            ("hidden", Rtype::A, "192.0.2.2"),
            ("mail", Rtype::MX, "10 www.example.com."),
            ("sub", Rtype::NS, "ns.sub.example.com."),
            ("ns.sub", Rtype::A, "192.0.2.3"),
        ],
    );
    zone
}

/// Records that the module is told of.
fn add_records(zone: &mut TestZone, records: &[(&str, Rtype, &str)]) {
    for (owner, rtype, text) in records {
        let rrset = Rrset { ttl: 300, ..rrset(*rtype, text) };
        zone.steering.push((RrKey::new(zone.name(owner), *rtype), rrset));
    }
}

fn inside(knot: &Knot, name: &str, rtype: &str) -> Answer {
    Question::new(name, rtype).source(INSIDE).ask(knot.address)
}

#[test]
fn insiders_get_what_their_view_has() {
    let zone = viewed();
    let knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let soa = "example.com. 300 SOA ns.example.com. admin.example.com. 1 3600 600 86400 300";

    assert_eq!(inside(&knot, "WWW.example.com.", "A").answers, ["WWW.example.com. 120 A 10.0.0.1"]);
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.1"]);
    let alias = inside(&knot, "alias.example.com.", "A");
    assert_eq!(
        alias.answers,
        ["alias.example.com. 120 CNAME intranet.example.com.", "intranet.example.com. 120 A 10.0.0.2"]
    );
    assert!(alias.is_authoritative);
    for name in ["alias.example.com.", "intranet.example.com."] {
        let outside = knot.ask(name, "A");
        assert_eq!((outside.rcode, outside.authority), (Rcode::NXDOMAIN, vec![soa.to_owned()]), "{name}");
    }
    let hidden = inside(&knot, "hidden.example.com.", "A");
    assert_eq!(
        (hidden.rcode, hidden.is_authoritative, hidden.authority),
        (Rcode::NXDOMAIN, true, vec![soa.to_owned()])
    );
    assert_eq!(knot.ask("hidden.example.com.", "A").values(), ["192.0.2.2"]);
    let none = inside(&knot, "intranet.example.com.", "AAAA");
    assert_eq!((none.rcode, none.answers.len(), none.authority), (Rcode::NOERROR, 0, vec![soa.to_owned()]));

    // What the view says nothing of.
    assert_eq!(inside(&knot, "steered.example.com.", "A").answers, ["steered.example.com. 60 A 192.0.2.9"]);
    assert_eq!(inside(&knot, "mail.example.com.", "MX").values(), ["10 www.example.com."]);
    let referral = inside(&knot, "x.sub.example.com.", "A");
    assert_eq!(
        (referral.is_authoritative, referral.authority.len(), referral.additional.len()),
        (false, 1, 1)
    );
    let edns = Question::new("www.example.com.", "A").source(INSIDE).edns(1232).ask(knot.address);
    assert_eq!(edns.answers.len(), 1);

    // Never by what a resolver says of its client, and such a thing isn't answered in a zone that doesn't use it.
    let told = Question::new("www.example.com.", "A").subnet("127.0.9.0", 24).ask(knot.address);
    assert_eq!((told.values(), told.scope), (vec!["192.0.2.1"], None));
    let told =
        Question::new("www.example.com.", "A").subnet("127.0.9.0", 24).source(INSIDE).ask(knot.address);
    assert_eq!((told.values(), told.scope), (vec!["10.0.0.1"], None));
    assert_eq!(knot.agent().synchronize().panics, 0);
}

#[test]
fn private_zones_are_there_for_insiders_alone() {
    let public = TestZone::new("example.com.").records(&["www A 192.0.2.1", "*.corp A 192.0.2.5"]);
    let deeper = TestZone::new("deep.corp.example.com.").records(&["www A 192.0.2.6"]);
    let another = TestZone::new("other.corp.example.com.").records(&["www A 192.0.2.7"]);
    let private = |apex: &str, address: &str| {
        let mut zone = TestZone::new(apex).view("office", office());
        zone.id.0 += 1;
        zone.is_private = true;
        add_records(&mut zone, &[("@", Rtype::NS, "ns.example.com."), ("www", Rtype::A, address)]);
        zone
    };
    // Below a public zone, with the name of one, and where there is none.
    let mut corp = private("corp.example.com.", "10.0.0.1");
    add_records(&mut corp, &[("deep", Rtype::NS, "ns.example.com.")]);
    let same = private("example.com.", "10.0.0.2");
    let alone = private("internal.test.", "10.0.0.3");
    let knot = Knot::start(&[&public, &deeper, &another], Some(&snapshot(&[&corp, &same, &alone])));

    for (name, inner, outer) in [
        ("www.corp.example.com.", "10.0.0.1", Some("192.0.2.5")),
        ("www.example.com.", "10.0.0.2", Some("192.0.2.1")),
        ("www.internal.test.", "10.0.0.3", None),
        ("www.deep.corp.example.com.", "192.0.2.6", Some("192.0.2.6")),
    ] {
        let insider = inside(&knot, name, "A");
        assert_eq!((insider.values(), insider.is_authoritative), (vec![inner], true), "{name}");
        let outsider = knot.ask(name, "A");
        match outer {
            Some(outer) => assert_eq!(outsider.values(), [outer], "{name}"),
            None => assert_eq!((outsider.rcode, outsider.authority.len()), (Rcode::REFUSED, 0), "{name}"),
        }
    }
    // A zone beneath a private one that doesn't delegate it is anybody's, and not for insiders.
    assert_eq!(inside(&knot, "www.other.corp.example.com.", "A").rcode, Rcode::NXDOMAIN);
    assert_eq!(knot.ask("www.other.corp.example.com.", "A").values(), ["192.0.2.7"]);
    assert_eq!(inside(&knot, "deep.corp.example.com.", "DS").values(), Vec::<&str>::new());
    let none = inside(&knot, "nobody.internal.test.", "A");
    assert_eq!((none.rcode, none.authority.len()), (Rcode::NXDOMAIN, 1));
    // It changes, and goes.
    let mut agent = knot.agent();
    let mut next = private("internal.test.", "10.0.0.4");
    next.serial = 2;
    agent.put(&next);
    assert_eq!(inside(&knot, "www.internal.test.", "A").values(), ["10.0.0.4"]);
    agent.say(&steering::link::ToModule::Remove { zone: next.id });
    agent.synchronize();
    assert_eq!(inside(&knot, "www.internal.test.", "A").rcode, Rcode::REFUSED);
    assert_eq!(agent.synchronize().panics, 0);
}
