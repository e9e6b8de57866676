//! Batches of records: in order, and judged by where they lead.

use super::*;
use crate::command::{EditOp, RrsetEdit, RrsetMatch, ZoneEdit};
use crate::rdata::{format_rdata, format_rtype, parse_rtype};
use crate::{Rdatas, RrKey};

const ZONE: &str = "example.com";

/// What a batch does to a zone with these records. The edits are lines:
///
/// ```text
/// put    OWNER TTL TYPE RDATA | RDATA …
/// add    OWNER TTL TYPE RDATA | RDATA …     (TTL `-`: as it was)
/// remove OWNER TYPE RDATA | RDATA …
/// delete OWNER TYPE
/// ```
///
/// The outcome: the records that are then there beside the apex NS, and `!` with each warning; or the offending
/// edits by their places.
fn outcome(records: &str, edits: &str) -> String {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let id = world.import(tenant, ZONE, records);
    let edits = edits.lines().map(str::trim).filter(|line| !line.is_empty()).map(edit).collect();
    let zones = vec![ZoneEdit { zone: by_name(ZONE), if_match: None, edits }];
    match world.run(tenant, Action::EditZones { zones }) {
        Ok(decision) => {
            let warnings = decision.warnings.iter().map(|warning| format!("! {}", warning.code));
            records_of(world.zone(id)).into_iter().chain(warnings).collect::<Vec<_>>().join("\n")
        }
        Err(rejection) => items(&rejection),
    }
}

fn items(rejection: &Rejection) -> String {
    let item = |item: &crate::rejection::RejectedItem| {
        let edit = item.edit.map_or("?".into(), |edit| edit.to_string());
        format!("edit {edit}: {}", item.detail)
    };
    rejection.items.iter().map(item).collect::<Vec<_>>().join("\n")
}

fn records_of(zone: &Zone) -> Vec<String> {
    let apex_ns = RrKey::new(zone.name.clone(), Rtype::NS);
    let rrsets = zone.content.iter().filter(|(key, _)| **key != apex_ns);
    let lines = rrsets.flat_map(|(key, rrset)| {
        rrset.rdatas.iter().map(|rdata| {
            let owner = key.owner.to_string();
            let owner = owner.strip_suffix(".example.com.").unwrap_or("@");
            format!("{owner} {} {} {}", rrset.ttl, format_rtype(key.rtype), format_rdata(key.rtype, rdata))
        })
    });
    lines.collect()
}

fn edit(line: &str) -> RrsetEdit {
    let mut words = line.splitn(3, ' ');
    let (verb, owner, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let origin = name(ZONE);
    let owner = Name::parse_relative(owner, &origin).unwrap();
    let has_ttl = matches!(verb, "put" | "add");
    let (ttl, rest) = if has_ttl { rest.split_once(' ').unwrap() } else { ("-", rest) };
    let (rtype, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let rtype = parse_rtype(rtype).unwrap();
    let rdatas: Rdatas = rest
        .split('|')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| rdata(rtype, text, &origin))
        .collect();
    let ttl = ttl.parse().ok();
    let op = match verb {
        "put" => EditOp::Put { ttl: ttl.unwrap(), rdatas },
        "add" => EditOp::Add { ttl, rdatas },
        "remove" => EditOp::Remove { rdatas },
        "delete" => EditOp::Delete,
        other => panic!("{other}"),
    };
    RrsetEdit { key: RrKey::new(owner, rtype), if_match: None, op }
}

#[track_caller]
fn assert_outcomes(table: &[(&str, &str, &str)]) {
    for (records, edits, expected) in table {
        let tidy = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned();
        assert_eq!(outcome(records, edits), tidy(expected), "{records}\n--- {edits}");
    }
}

#[test]
fn a_batch_is_done_in_order_and_judged_by_where_it_leads() {
    assert_outcomes(&[
        ("", "put www 60 A 192.0.2.1", "www 60 A 192.0.2.1"),
        // On the way there are a CNAME and an A at one name; in the end there aren't.
        ("www A 192.0.2.1", "put www 60 CNAME web\n delete www A", "www 60 CNAME web.example.com."),
        ("www CNAME web", "put www 60 A 192.0.2.1\n delete www CNAME", "www 60 A 192.0.2.1"),
        ("www A 192.0.2.1", "delete www A\n put www 60 A 192.0.2.2", "www 60 A 192.0.2.2"),
        ("www A 192.0.2.1", "put www 60 A 192.0.2.2\n put www 30 A 192.0.2.3", "www 30 A 192.0.2.3"),
        ("", "put www 60 A 192.0.2.1\n delete www A", ""),
        ("", "put www 60 A 192.0.2.1\n add www - A 192.0.2.2\n remove www A 192.0.2.1", "www 60 A 192.0.2.2"),
        // The last record gone, the RRset is gone.
        ("www A 192.0.2.1", "remove www A 192.0.2.1", ""),
        (
            "www A 192.0.2.1",
            "remove www A 192.0.2.1\n delete www A",
            "edit 1: there is no RRset www.example.com. A",
        ),
        ("", "delete www A", "edit 0: there is no RRset www.example.com. A"),
        ("", "remove www A 192.0.2.1", "edit 0: there is no RRset www.example.com. A"),
        ("www A 192.0.2.1", "remove www A 192.0.2.9", "edit 0: www.example.com. A has no record 192.0.2.9"),
        (
            "",
            "delete a A\n put b 60 A 192.0.2.1\n delete c A",
            "edit 0: there is no RRset a.example.com. A\n edit 2: there is no RRset c.example.com. A",
        ),
        (
            "",
            "put www 60 A",
            "edit 0: an RRset has at least one record; use the operation `delete` to remove it",
        ),
    ]);
}

#[test]
fn one_ttl_an_rrset() {
    assert_outcomes(&[
        ("www 77 A 192.0.2.1", "add www - A 192.0.2.2", "www 77 A 192.0.2.1\n www 77 A 192.0.2.2"),
        ("www 77 A 192.0.2.1", "add www 5 A 192.0.2.2", "www 5 A 192.0.2.1\n www 5 A 192.0.2.2"),
        ("www 77 A 192.0.2.1", "add www 5 A 192.0.2.1", "www 5 A 192.0.2.1"),
        ("", "add www - A 192.0.2.2", "edit 0: a new RRset needs a TTL"),
        ("", "add www 5 A 192.0.2.2", "www 5 A 192.0.2.2"),
        ("", "put www 2147483647 A 192.0.2.2", "www 2147483647 A 192.0.2.2"),
        (
            "",
            "put www 2147483648 A 192.0.2.2",
            "edit 0: a TTL is at most 2147483647 s (RFC 2181 §8), not 2147483648",
        ),
    ]);
}

#[test]
fn what_a_cname_and_a_dname_exclude() {
    let cname_and = |place: u32, owner: &str, others: &str| {
        format!("edit {place}: a CNAME allows no other type at its name, and {owner} has {others}")
    };
    assert_outcomes(&[
        ("www CNAME web", "put www 60 A 192.0.2.1", &cname_and(0, "www.example.com.", "A")),
        ("www A 192.0.2.1\nwww TXT x", "put www 60 CNAME web", &cname_and(0, "www.example.com.", "A, TXT")),
        // Blamed is what touches the CNAME itself, and else what was last done at the name.
        (
            "",
            "put a 60 TXT x\n put www 60 CNAME web\n put www 60 A 192.0.2.1",
            &cname_and(1, "www.example.com.", "A"),
        ),
        (
            "www CNAME web",
            "put www 60 TXT x\n put www 60 A 192.0.2.1",
            &cname_and(1, "www.example.com.", "A, TXT"),
        ),
        ("", "put @ 60 CNAME web", "edit 0: the apex has a SOA, so it can't have a CNAME"),
        ("", "put www 60 CNAME web | web2", "edit 0: there can be only one CNAME at a name"),
        ("", "put *.w 60 CNAME web", "*.w 60 CNAME web.example.com."),
        ("", "put a 60 DNAME example.net.", "a 60 DNAME example.net."),
        // Other types may stand beside a DNAME, and nothing below it.
        ("a DNAME example.net.", "put a 60 TXT x", "a 60 TXT \"x\"\n a 300 DNAME example.net."),
        ("", "put a 60 DNAME example.net. | example.org.", "edit 0: there can be only one DNAME at a name"),
        (
            "a DNAME example.net.",
            "put c.b.a 60 A 192.0.2.1",
            "edit 0: c.b.a.example.com. lies below the DNAME at a.example.com. (RFC 6672 §2.4)",
        ),
        (
            "c.b.a A 192.0.2.1",
            "put a 60 DNAME example.net.",
            "edit 0: no name may exist below a DNAME (RFC 6672 §2.4), and c.b.a.example.com. does",
        ),
        ("c.b.a A 192.0.2.1", "put a 60 DNAME example.net.\n delete c.b.a A", "a 60 DNAME example.net."),
        ("a DNAME example.net.", "put c.a 60 A 192.0.2.1\n delete a DNAME", "c.a 60 A 192.0.2.1"),
        ("www CNAME web", "put www 60 DNAME example.net.", &cname_and(0, "www.example.com.", "DNAME")),
        (
            "www A 192.0.2.1",
            "put @ 60 DNAME example.net.",
            "edit 0: no name may exist below a DNAME (RFC 6672 §2.4), and www.example.com. does",
        ),
    ]);
}

#[test]
fn the_apex() {
    let soa_is_made = "the SOA is made by the system; set it through the set of name servers";
    let soa = "ns1.herald.example. h.herald.example. 1 2 3 4 5";
    assert_outcomes(&[
        ("", "delete @ NS", "edit 0: the apex needs an NS RRset"),
        ("", "put @ 60 NS ns9.example.net.", ""),
        ("", "remove @ NS ns1.herald.example.", ""),
        ("", "remove @ NS ns1.herald.example. | ns2.herald.example.", "edit 0: the apex needs an NS RRset"),
        ("", &format!("put @ 60 SOA {soa}"), &format!("edit 0: {soa_is_made}")),
        ("", "delete @ SOA", &format!("edit 0: {soa_is_made}")),
        ("", &format!("put sub 60 SOA {soa}"), &format!("edit 0: {soa_is_made}")),
        ("", "put @ 60 DS 1 8 99 00", "edit 0: DS records belong in the parent zone (RFC 4034 §5)"),
        ("", "put @ 60 A 192.0.2.1\n put @ 60 MX 10 mail", "@ 60 A 192.0.2.1\n @ 60 MX 10 mail.example.com."),
    ]);
}

#[test]
fn what_is_not_of_the_zone() {
    assert_outcomes(&[
        (
            "",
            "put www.example.net. 60 A 192.0.2.1",
            "edit 0: www.example.net. is not in the zone example.com.",
        ),
        ("", "put com. 60 A 192.0.2.1", "edit 0: com. is not in the zone example.com."),
        ("", "put notexample.com. 60 A 192.0.2.1", "edit 0: notexample.com. is not in the zone example.com."),
    ]);
}

/// Whoever made the octets: nothing that reads text lets them through.
#[test]
fn rdata_that_can_be_of_no_zone() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    world.import(tenant, ZONE, "");
    let cases = [
        (Rtype::A, &[192, 0, 2][..], "the RDATA of www.example.com. A is not right"),
        (Rtype::from_int(255), &[], "ANY is not a type of data"),
        (Rtype::from_int(41), &[], "OPT is not a type of data"),
        (Rtype::from_int(46), &[], "RRSIG records are made by the signer"),
    ];
    for (rtype, rdata, expected) in cases {
        let key = RrKey::new(name("www.example.com"), rtype);
        let op = EditOp::Put { ttl: 60, rdatas: Rdatas::single(rdata) };
        let edits = vec![RrsetEdit { key, if_match: None, op }];
        let zones = vec![ZoneEdit { zone: by_name(ZONE), if_match: None, edits }];
        let refused = items(&world.run(tenant, Action::EditZones { zones }).unwrap_err());
        assert!(refused.starts_with(&format!("edit 0: {expected}")), "{refused}");
    }
}

#[test]
fn what_is_delegated_away_is_warned_about() {
    assert_outcomes(&[
        // Glue is as it should be.
        (
            "",
            "put sub 60 NS ns.sub\n put ns.sub 60 A 192.0.2.1",
            "sub 60 NS ns.sub.example.com.\n ns.sub 60 A 192.0.2.1",
        ),
        ("", "put sub 60 NS ns.sub", "sub 60 NS ns.sub.example.com.\n ! glue_missing"),
        (
            "",
            "put sub 60 NS ns.example.net.\n put sub 60 DS 1 8 99 00",
            "sub 60 NS ns.example.net.\n sub 60 DS 1 8 99 00",
        ),
        (
            "sub NS ns.example.net.",
            "put x.sub 60 A 192.0.2.1",
            "sub 300 NS ns.example.net.\n x.sub 60 A 192.0.2.1\n ! occluded_name",
        ),
        (
            "x.sub A 192.0.2.1",
            "put sub 60 NS ns.example.net.",
            "sub 60 NS ns.example.net.\n x.sub 300 A 192.0.2.1\n ! occluded_name",
        ),
        (
            "sub NS ns.example.net.",
            "put sub 60 TXT x",
            "sub 300 NS ns.example.net.\n sub 60 TXT \"x\"\n ! occluded_name",
        ),
        // A cut below a cut: the upper one counts.
        (
            "sub NS ns.sub\nns.sub A 192.0.2.1",
            "put b.sub 60 NS ns.b.sub",
            "sub 300 NS ns.sub.example.com.\n b.sub 60 NS ns.b.sub.example.com.\n ns.sub 300 A 192.0.2.1\n \
             ! occluded_name\n ! glue_missing",
        ),
        ("", "put *.w 60 NS ns.example.net.", "*.w 60 NS ns.example.net.\n ! wildcard_cut"),
        (
            "mail CNAME m",
            "put @ 60 MX 10 mail",
            "@ 60 MX 10 mail.example.com.\n mail 300 CNAME m.example.com.\n ! target_is_cname",
        ),
        ("", "put a 60 CNAME a", "a 60 CNAME a.example.com.\n ! cname_to_itself"),
    ]);
}

#[test]
fn an_rrset_must_fit_a_message() {
    let texts = |count: usize| {
        let long = "x".repeat(255);
        (0..count)
            .map(|n| format!("{n:03}{} {long} {long} {long}", "x".repeat(252)))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    // 12 octets a record and 1024 of RDATA: 63 fit 64 KiB, 64 don't.
    assert!(outcome("", &format!("put a 60 TXT {}", texts(63))).starts_with("a 60 TXT"));
    let refused = outcome("", &format!("put b 60 TXT x\nput a 60 TXT {}", texts(64)));
    assert_eq!(refused, "edit 1: the RRset needs a message of 66346 bytes, and 65535 is the most there is");
}

#[test]
fn an_edit_holds_only_if_what_it_was_made_for_does() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let id = world.import(tenant, ZONE, "www A 192.0.2.1");
    let key = RrKey::new(name("www.example.com"), Rtype::A);
    let digest = world.zone(id).get(&key).unwrap().digest(&key);
    let revision = world.zone(id).revision;
    let soa_key = world.zone(id).soa_key();
    let soa_digest = world.zone(id).soa_rrset().digest(&soa_key);

    let mut run = |zone_match, edits: Vec<(&str, Option<RrsetMatch>)>| {
        let edits = edits.into_iter().map(|(line, if_match)| RrsetEdit { if_match, ..edit(line) }).collect();
        let zones = vec![ZoneEdit { zone: by_name(ZONE), if_match: zone_match, edits }];
        let result = world.run(tenant, Action::EditZones { zones });
        result.map(|decision| decision.changes.len()).map_err(|rejection| {
            let item = rejection.items.first().map(|item| (item.zone, item.edit));
            (rejection.kind, item)
        })
    };
    use RejectionKind::Precondition;
    use RrsetMatch::{Absent, Digest, Present};
    let failed = |edit| Err((Precondition, Some((Some(0), edit))));
    let put = "put www 60 A 192.0.2.2";
    let other = "put other 60 A 192.0.2.2";

    assert_eq!(run(Some(revision - 1), vec![(put, None)]), failed(None));
    assert_eq!(run(None, vec![(other, None), (put, Some(Digest(digest ^ 1)))]), failed(Some(1)));
    assert_eq!(run(None, vec![(put, Some(Absent))]), failed(Some(0)));
    assert_eq!(run(None, vec![(other, Some(Present))]), failed(Some(0)));
    assert_eq!(run(None, vec![(other, Some(Digest(digest)))]), failed(Some(0)));
    // It is the state before the batch that counts.
    assert_eq!(run(None, vec![("delete www A", None), (put, Some(Digest(digest)))]), Ok(1));
    assert_eq!(run(None, vec![(put, Some(Digest(digest)))]), failed(Some(0)));
    assert_eq!(run(Some(revision), vec![(other, None)]), failed(None));
    assert_eq!(run(Some(revision + 1), vec![(other, Some(Absent))]), Ok(1));
    // The SOA has changed with every edit.
    let on_soa = RrsetEdit { key: soa_key, if_match: Some(Digest(soa_digest)), op: EditOp::Delete };
    let zones = vec![ZoneEdit { zone: by_name(ZONE), if_match: None, edits: vec![on_soa] }];
    assert_eq!(kind(world.run(tenant, Action::EditZones { zones })), Precondition);
}

#[test]
fn a_batch_over_zones_is_all_or_nothing() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let ids = [world.import(tenant, ZONE, ""), world.create(tenant, "example.net").unwrap()];
    let before = world.state.revision();
    let zone = |zone: &str, lines: &[&str]| ZoneEdit {
        zone: by_name(zone),
        if_match: None,
        edits: lines.iter().map(|line| edit(line)).collect(),
    };
    let good = zone(ZONE, &["put www 60 A 192.0.2.1"]);

    // `edit` reads names below example.com.
    let bad = zone("example.net", &["put www.example.net. 60 A 192.0.2.1", "put www 60 A 192.0.2.1"]);
    let refused = world.run(tenant, Action::EditZones { zones: vec![good.clone(), bad] }).unwrap_err();
    let places: Vec<_> = refused.items.iter().map(|item| (item.zone, item.edit)).collect();
    assert_eq!((refused.kind, places), (RejectionKind::Invalid, vec![(Some(1), Some(1))]));

    // By name and by id it is the same zone.
    let again = ZoneEdit { zone: ZoneRef::Id(ids[0]), ..good.clone() };
    let refused = world.run(tenant, Action::EditZones { zones: vec![good.clone(), again] }).unwrap_err();
    assert_eq!((refused.kind, refused.items[0].zone), (RejectionKind::Invalid, Some(1)));

    let missing = zone("example.org", &[]);
    let refused = world.run(tenant, Action::EditZones { zones: vec![good.clone(), missing] }).unwrap_err();
    assert_eq!((refused.kind, refused.items[0].zone), (RejectionKind::NotFound, Some(1)));
    assert_eq!(world.state.revision(), before);

    let both = vec![good, zone("example.net", &["put www.example.net. 60 A 192.0.2.1"])];
    let decision = world.run(tenant, Action::EditZones { zones: both.clone() }).unwrap();
    assert_eq!((decision.changes.len(), world.state.revision()), (2, before + 1));
    assert!(ids.iter().all(|id| world.zone(*id).revision == before + 1));
    // What is so already is no change.
    assert!(world.run(tenant, Action::EditZones { zones: both }).unwrap().changes.is_empty());
    assert_eq!(world.state.revision(), before + 1);
}

#[test]
fn a_replacement_holds_only_for_the_revision_it_was_made_for() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let id = world.import(tenant, ZONE, "www A 192.0.2.1");
    let replace = |base, records: &str, serial_floor, made_for: &str| {
        let text = format!("$TTL 300\n@ NS ns1.herald.example.\n{records}");
        let content = Prepared { serial_floor, ..prepared(made_for, content_of(made_for, &text)) };
        Action::ReplaceZone { zone: by_name(ZONE), base, content }
    };
    let base = world.zone(id).revision;
    assert_eq!(kind(world.run(tenant, replace(base - 1, "", None, ZONE))), RejectionKind::Stale);
    assert_eq!(kind(world.run(tenant, replace(base, "", None, "example.net"))), RejectionKind::Stale);

    let floor = world.zone(id).serial + 1_000_000;
    world.run(tenant, replace(base, "new A 192.0.2.9", Some(floor), ZONE)).unwrap();
    assert_eq!(records_of(world.zone(id)), ["new 300 A 192.0.2.9"]);
    assert_eq!(world.zone(id).serial, floor + 1);
    // The same again is no change.
    let base = world.zone(id).revision;
    assert!(world.run(tenant, replace(base, "new A 192.0.2.9", None, ZONE)).unwrap().changes.is_empty());
}
