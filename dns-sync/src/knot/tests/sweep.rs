//! What others do to knotd behind the driver's back is found and can be put right.

use std::process::Command as Process;

use super::*;

/// A PoP whose zones are all asked for in a fraction of a second.
fn swept_pop(zones: &[TestZone]) -> Pop {
    let limits = Limits { sweep_interval: Duration::from_millis(300), ..Limits::default() };
    let pop = Pop::start_with(zones.iter().cloned(), limits);
    pop.wait_report(&Report::Swept { zones: zones.len() as u64, drifted: 0 });
    pop
}

/// What an operator types.
fn knotc(pop: &Pop, arguments: &[&str]) {
    let socket = pop.knot.control_socket();
    let output = Process::new("knotc").arg("-s").arg(socket).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// The next report of something that was found; those of rounds are passed over.
fn next_finding(pop: &Pop) -> Report {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match pop.next_report_by(deadline) {
            Report::Swept { .. } => {}
            report => return report,
        }
    }
}

/// Puts a zone right, and sees that the round tells of it.
fn put_right(pop: &Pop, zone: &TestZone) {
    pop.submit(&zone.apex, 9, Task::Put(zone.put()));
    let deadline = Instant::now() + DEADLINE;
    let (mut done, mut told) = (false, false);
    while !done || !told {
        match pop.next_report_by(deadline) {
            Report::Done { tag: 9, result, .. } => {
                assert_eq!(result, Ok(()), "{}", pop.log());
                done = true;
            }
            // It may be the round of the step before, too.
            Report::Swept { drifted, .. } => told |= drifted > 0,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pop.serial(&zone.apex), Some(zone.serial));
}

#[test]
fn a_zone_that_somebody_changed_is_found() {
    let mut zones = hundred_zones();
    let pop = swept_pop(&zones);
    let zone = &mut zones[7];
    let apex = zone.apex.clone();
    let apex_text = apex.to_string();
    knotc(&pop, &["zone-begin", &apex_text]);
    knotc(&pop, &["zone-set", &apex_text, "a", "60", "A", "203.0.113.9"]);
    knotc(&pop, &["zone-commit", &apex_text]);
    assert_eq!(next_finding(&pop), Report::Stale { zone: apex.clone(), serving: Some(2) });
    // It's not for a delta to be put on top of that.
    let delta = zone.change_a([192, 0, 2, 2]);
    pop.submit(&apex, 1, Task::Delta(delta));
    let deadline = Instant::now() + DEADLINE;
    loop {
        match pop.next_report_by(deadline) {
            Report::Done { tag, result, .. } => {
                assert_eq!((tag, result), (1, Err(TaskError::NotServed)));
                break;
            }
            Report::Swept { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    pop.do_ok_among_rounds(&apex, Task::Put(zone.put()));
    assert_eq!(pop.read(&apex, &apex.child("a").unwrap(), "A"), ["192.0.2.2"]);

    // One whose transaction was left open as well.
    let zone = &zones[8];
    // The transaction first: begun by somebody after the zone was found, it would hold up its load.
    knotc(&pop, &["zone-begin", &zone.apex.to_string()]);
    knotc(&pop, &["zone-purge", "-f", &zone.apex.to_string()]);
    assert_eq!(next_finding(&pop), Report::Stale { zone: zone.apex.clone(), serving: None });
    put_right(&pop, zone);
}

#[test]
fn members_that_come_and_go_by_other_hands_are_found() {
    let zones = hundred_zones();
    let pop = swept_pop(&zones);
    let catalogs = pop.knot.catalogs();
    let change = |catalog: &Name, verb: &str, owner: &Name, member: Option<&Name>| {
        let zone = catalog.to_string();
        knotc(&pop, &["zone-begin", &zone]);
        let (owner, member) = (owner.to_string(), member.map(Name::to_string));
        match &member {
            Some(member) => knotc(&pop, &[verb, &zone, &owner, "0", "PTR", member]),
            None => knotc(&pop, &[verb, &zone, &owner, "PTR"]),
        }
        knotc(&pop, &["zone-commit", &zone]);
    };

    // Taken out of its catalog: it isn't served any more.
    let gone = &zones[3];
    let catalog = &catalogs.names()[catalogs.index_of(&gone.apex)];
    change(catalog, "zone-unset", &catalog::member_owner(catalog, &gone.apex).unwrap(), None);
    assert_eq!(next_finding(&pop), Report::Stale { zone: gone.apex.clone(), serving: None });
    put_right(&pop, gone);

    // Put into its catalog: it's served, or SERVFAIL.
    let new = name("new.test");
    let catalog = &catalogs.names()[catalogs.index_of(&new)];
    change(catalog, "zone-set", &catalog::member_owner(catalog, &new).unwrap(), Some(&new));
    assert_eq!(next_finding(&pop), Report::Unexpected { zone: new.clone() });
    pop.do_ok_among_rounds(&new, Task::Remove);
    assert_eq!(pop.ask_soa(&new).rcode, 5);

    // Put into a catalog in a way of their own: the driver takes it out by itself.
    let stray = name("stray.test");
    let catalog = &catalogs.names()[5];
    change(catalog, "zone-set", &catalog.child("zones").unwrap().child("x").unwrap(), Some(&stray));
    // The round tells of it, and of the one before perhaps.
    let deadline = Instant::now() + DEADLINE;
    while !matches!(pop.next_report_by(deadline), Report::Swept { drifted: 1.., .. }) {}
    while pop.ask_soa(&stray).rcode != 5 {
        assert!(Instant::now() < deadline, "the stray member stays");
        std::thread::yield_now();
    }
}
