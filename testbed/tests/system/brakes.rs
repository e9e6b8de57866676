//! What would empty PoPs is held back, and what had drifted is mended, under the real daemons.

use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use testbed::dns::{self, Transport};
use testbed::herald::{Pop, program};
use testbed::platform::{Platform, wait_for_answer};
use testbed::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn rcode(pop: &Pop, zone: &str) -> String {
    dns::query(pop.listen, zone, "SOA", Transport::Udp)
        .map_or_else(|e| e.to_string(), |answer| answer.rcode.to_string())
}

fn shown(platform: &Platform, pop: usize) -> Value {
    platform.herald.operator().get(&format!("/pops/{}", platform.pops[pop].name)).expect(200)
}

/// Waits till a PoP has so many zones held back.
fn wait_till_held(platform: &Platform, pop: usize, zones: u64) -> Value {
    wait_for(SOON, &format!("{zones} zones to be held"), || {
        let shown = shown(platform, pop);
        let is_all = shown["held"]["zones"] == zones && shown["zones_pending"] == 0;
        is_all.then(|| shown["held"].clone())
    })
    .unwrap_or_else(|e| panic!("{e}: {}\n{}", shown(platform, pop), platform.herald.tail()))
}

fn metric(platform: &Platform, name: &str) -> u64 {
    let text = platform.tenant.get("//metrics").text;
    let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn zones_deleted_in_masses_are_answered_till_they_are_released() {
    const ZONES: usize = 250;
    const DELETED: usize = 130;
    let mut platform = Platform::start("brake", 2);
    let zones: Vec<String> = (0..ZONES).map(|n| format!("z{n}.example.")).collect();
    let create: Vec<Value> = zones.iter().map(|zone| json!({ "name": zone })).collect();
    platform.tenant.post("/batches", &json!({ "create": create })).expect(201);
    platform.wait_until_in_sync();
    platform.pops[1].stop().unwrap();
    let mut last = Value::Null;
    for zone in &zones[..DELETED] {
        last = platform.tenant.delete(&format!("/zones/{zone}")).expect(200)["change"].clone();
    }
    // The one that is up lost 99 before it was too much; the other comes back to a loss of all of them.
    wait_till_held(&platform, 0, 31);
    platform.pops[1].start();
    let held = wait_till_held(&platform, 1, 130);
    assert_eq!(held["reason"], "130 of its 250 zones would have been gone within an hour");
    platform.wait_for_answer("z200.example.", "NS", &["ns1.dns.example.", "ns2.dns.example."]);
    let answered = |platform: &Platform| {
        for (pop, first) in [(0, 99), (1, 0)] {
            assert_eq!(rcode(&platform.pops[pop], &zones[0]), if first == 0 { "NOERROR" } else { "REFUSED" });
            // A knotd that was just started answers SERVFAIL for what it is still loading, and never that a zone isn't its own.
            wait_until(SOON, "knotd to load its zones", || {
                zones[first..].iter().all(|zone| rcode(&platform.pops[pop], zone) != "SERVFAIL")
            })
            .unwrap();
            for zone in &zones[first..] {
                assert_eq!(
                    rcode(&platform.pops[pop], zone),
                    "NOERROR",
                    "{zone} at {}",
                    platform.pops[pop].name
                );
            }
        }
    };
    answered(&platform);
    let id = last["id"].as_str().unwrap();
    assert_eq!(
        platform.tenant.get(&format!("/changes/{id}?wait=all&timeout_ms=60000")).json()["state"],
        "held"
    );
    assert!(platform.herald.tail().contains("the emptiness brake sets in"), "{}", platform.herald.tail());

    // Others go on, and nothing of it is forgotten with a restart of all.
    platform.herald.stop().unwrap();
    platform.herald.restart();
    let pop = &mut platform.pops[0];
    pop.stop().unwrap();
    pop.start();
    wait_till_held(&platform, 0, 31);
    wait_till_held(&platform, 1, 130);
    let put = json!({ "ttl": 60, "records": ["192.0.2.1"] });
    platform.tenant.put("/zones/z200.example./rrsets/www/A?wait=all", &put).expect(201);
    platform.wait_for_answer("www.z200.example.", "A", &["192.0.2.1"]);
    answered(&platform);

    platform.herald.operator().post("/brakes/release", &json!({})).expect(200);
    for pop in 0..2 {
        for zone in &zones[..DELETED] {
            wait_until(SOON, &format!("{zone} to be gone"), || rcode(&platform.pops[pop], zone) == "REFUSED")
                .unwrap();
        }
        assert_eq!(shown(&platform, pop)["held"], Value::Null);
    }
    let state = || platform.tenant.get(&format!("/changes/{id}")).expect(200)["state"] == "in_sync";
    wait_until(SOON, "the receipt to say so", state).unwrap();
    assert_eq!(rcode(&platform.pops[1], &zones[DELETED]), "NOERROR");
}

#[test]
fn a_zone_that_is_damaged_in_the_replica_is_mended_alone() {
    let platform = Platform::start("drift", 1);
    let zones: Vec<String> = (0..20).map(|n| format!("z{n}.example.")).collect();
    zones.iter().for_each(|zone| drop(platform.create_zone(zone)));
    platform.assert_pops_hold(&zones);
    let pop = &platform.pops[0];
    let (whole, session) =
        (metric(&platform, "herald_pop_whole_zones_total"), pop.said().matches("session").count());
    // A record is changed behind the agent's back, on the disk.
    let db = Connection::open(pop.replica()).unwrap();
    db.busy_timeout(SOON).unwrap();
    let damage =
        "UPDATE rrset SET value = zeroblob(length(value)) WHERE content = (SELECT min(content) FROM zone)";
    assert!(db.execute(damage, []).unwrap() > 0);
    let status = || serde_json::from_slice::<Value>(&pop.status(&["--json"]).stdout).unwrap_or_default();
    wait_until(SOON, "the damage to be found and mended", || {
        status()["drift"]["zones_damaged"] == 1
            && metric(&platform, "herald_pop_whole_zones_total") == whole + 1
    })
    .unwrap_or_else(|e| panic!("{e}: {}\n{}", status(), pop.tail()));
    platform.assert_pops_hold(&zones);
    wait_until(SOON, "that to be told", || {
        let drift = &shown(&platform, 0)["drift"];
        drift["found"] == 1 && drift["mended"] == 1 && drift["last_ms"].is_u64()
    })
    .unwrap_or_else(|e| panic!("{e}: {}", shown(&platform, 0)));
    assert_eq!(metric(&platform, "herald_pop_drift_found_total"), 1);
    assert_eq!(metric(&platform, "herald_pop_drift_mended_total"), 1);
    let damaged = "SELECT count(*) FROM rrset WHERE value = zeroblob(length(value))";
    wait_until(SOON, "no damaged row to be left", || {
        db.query_row(damaged, [], |row| row.get::<_, i64>(0)) == Ok(0)
    })
    .unwrap();
    assert_eq!(pop.said().matches("session").count(), session, "in the same session\n{}", pop.tail());
}

/// The rows themselves are gone: the replica is opened anew, and only what it lacks comes.
#[test]
fn a_zone_that_is_gone_from_the_replica_comes_again_alone() {
    let platform = Platform::start("drift-row", 1);
    let zones: Vec<String> = (0..5).map(|n| format!("z{n}.example.")).collect();
    zones.iter().for_each(|zone| drop(platform.create_zone(zone)));
    platform.assert_pops_hold(&zones);
    let whole = metric(&platform, "herald_pop_whole_zones_total");
    let db = Connection::open(platform.pops[0].replica()).unwrap();
    db.busy_timeout(SOON).unwrap();
    assert_eq!(db.execute("DELETE FROM zone WHERE id = (SELECT max(id) FROM zone)", []).unwrap(), 1);
    let count = || db.query_row("SELECT count(*) FROM zone", [], |row| row.get::<_, i64>(0));
    wait_until(SOON, "the zone to be there again", || count() == Ok(5))
        .unwrap_or_else(|e| panic!("{e}: {}\n{}", shown(&platform, 0), platform.pops[0].tail()));
    platform.assert_pops_hold(&zones);
    assert_eq!(metric(&platform, "herald_pop_whole_zones_total"), whole + 1, "and nothing else");
}

#[test]
fn a_pop_that_comes_back_gets_the_delta_of_a_large_zone() {
    let mut platform = Platform::start("reconnect", 1);
    platform.create_zone("example.com");
    let hosts: String = (0..20_000).map(|n| format!("h{n} 300 A 192.0.2.{}\n", n % 250)).collect();
    let zone = platform.tenant.get("/zones/example.com/export").text + &hosts;
    platform.tenant.import("example.com", &zone).expect(200);
    platform.wait_until_in_sync();
    platform.pops[0].stop().unwrap();
    let (whole, bytes) =
        (metric(&platform, "herald_pop_whole_zones_total"), metric(&platform, "herald_pop_sent_bytes_total"));
    for n in 0..10 {
        let put = json!({ "ttl": 60, "records": [format!("198.51.100.{n}")] });
        platform.tenant.put(&format!("/zones/example.com/rrsets/h{n}/A"), &put).expect(200);
    }
    platform.pops[0].start();
    wait_for_answer(&platform.pops[0], "h9.example.com.", "A", &["198.51.100.9"]);
    platform.wait_until_in_sync();
    assert_eq!(metric(&platform, "herald_pop_whole_zones_total"), whole);
    let sent = metric(&platform, "herald_pop_sent_bytes_total") - bytes;
    assert!(sent < 20_000, "{sent} bytes for ten records of a zone of 20,000");
    platform.assert_pops_hold(&["example.com.".to_owned()]);
}

/// An old copy is put in place: PoPs take it for newer than what they have, and serials go up.
#[test]
fn pops_converge_to_a_restored_backup() {
    let mut platform = Platform::start("restore", 1);
    let put = |platform: &Platform, zone: &str, address: &str| {
        let body = json!({ "ttl": 60, "records": [address] });
        let reply = platform.tenant.put(&format!("/zones/{zone}/rrsets/www/A?wait=all"), &body);
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
    };
    for zone in ["kept.example", "gone.example"] {
        platform.create_zone(zone);
        put(&platform, zone, "192.0.2.1");
    }
    let file = platform.folder("backups").join("backup");
    let herald = |arguments: &[&str]| {
        let done = Command::new(program("herald")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        (done.status.success(), said)
    };
    let data = platform.herald.data();
    let (data, file) = (data.to_str().unwrap(), file.to_str().unwrap());
    let (is_done, said) = herald(&["backup", "--data", data, "--to", file]);
    assert!(is_done, "{said}");
    for n in 2..30 {
        put(&platform, "kept.example", &format!("192.0.2.{n}"));
    }
    platform.tenant.delete("/zones/gone.example?wait=all").expect(200);
    platform.create_zone("new.example");
    put(&platform, "new.example", "192.0.2.1");
    let serial = |platform: &Platform| {
        let answer = dns::query(platform.pops[0].listen, "kept.example.", "SOA", Transport::Udp).unwrap();
        answer.values("SOA")[0].split(' ').nth(2).unwrap().parse::<u32>().unwrap()
    };
    let before = serial(&platform);

    let (is_done, said) = herald(&["restore", "--data", data, "--from", file]);
    assert!(!is_done && said.contains("in use"), "{said}");
    platform.herald.stop().unwrap();
    let (is_done, said) = herald(&["restore", "--data", data, "--from", file]);
    assert!(is_done, "{said}");
    platform.herald.restart();
    for zone in ["kept", "gone"] {
        platform.wait_for_answer(&format!("www.{zone}.example."), "A", &["192.0.2.1"]);
    }
    let pop = &platform.pops[0];
    wait_until(SOON, "the zone that was made since to be gone", || rcode(pop, "new.example.") == "REFUSED")
        .unwrap();
    platform.assert_pops_hold(&["kept.example.".to_owned(), "gone.example.".to_owned()]);
    let after = serial(&platform);
    assert!(after.wrapping_sub(before).cast_signed() > 0, "{before} {after}");
    put(&platform, "kept.example", "192.0.2.99");
    assert!(serial(&platform).wrapping_sub(after).cast_signed() > 0);
}
