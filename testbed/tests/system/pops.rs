//! From a change to the answers of real Knots, with PoPs that go and come back.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::api::Api;
use testbed::dns::{self, Transport};
use testbed::herald::{Pop, program};
use testbed::knot::Knot;
use testbed::platform::{Platform, wait_for_answer};
use testbed::wait::{wait_for, wait_until};

fn put(platform: &Platform, name: &str, address: &str, query: &str) -> testbed::api::Reply {
    let path = format!("/zones/example.com/rrsets/{name}/A{query}");
    platform.tenant.put(&path, &json!({ "ttl": 60, "records": [address] }))
}

fn rcode(pop: &Pop, name: &str) -> String {
    dns::query(pop.listen, name, "A", Transport::Udp).expect("an answer").rcode.to_string()
}

#[test]
fn a_change_is_answered_by_all_pops_when_its_receipt_says_so() {
    let platform = Platform::start("end-to-end", 2);
    platform.create_zone("example.com");
    let imported = platform.tenant.try_call(
        "POST",
        "/zones/example.com/import?wait=all",
        &[("Content-Type", "text/dns")],
        Some(testbed::EXAMPLE_ZONE),
    );
    imported.unwrap().expect(200);
    for (number, name) in ["www", "new", "deep.er.name", "*.wild"].iter().enumerate() {
        let address = format!("192.0.2.{}", 100 + number);
        let reply = put(&platform, name, &address, "?wait=all");
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
        let change = &reply.json()["change"];
        assert_eq!(change["state"], "in_sync", "{change}");
        for pop in change["pops"].as_array().unwrap() {
            assert!(pop["in_sync_ms"].as_f64().is_some_and(|ms| ms < 5000.0), "{change}");
        }
        // No waiting: the receipt has said that it is there.
        for pop in &platform.pops {
            for transport in [Transport::Udp, Transport::Tcp] {
                let name = format!("{name}.example.com.").replace('*', "anything");
                let answer = dns::query(pop.listen, &name, "A", transport).unwrap();
                assert_eq!(answer.values("A"), [address.as_str()], "{answer:?}");
                assert!(answer.authoritative);
            }
        }
    }
    platform.assert_pops_hold(&["example.com.".to_owned()]);
}

#[test]
fn a_herald_that_stops_leaves_all_in_its_files() {
    let mut platform = Platform::start("orderly-stop", 1);
    platform.create_zone("example.com");
    put(&platform, "www", "192.0.2.1", "?wait=all").expect(201);
    Api::new(platform.herald.api, "nobodys-token").get("/zones").expect(401);
    platform.herald.stop().unwrap();
    let data = platform.herald.data();
    let folders = [data.clone(), data.join("store")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name == "store.sqlite"), "{names:?}");
    let left: Vec<&String> = names.iter().filter(|name| name.ends_with("-wal")).collect();
    assert!(left.is_empty(), "{left:?}");

    // What was noted a moment before the end is there, too.
    platform.herald.restart();
    let denied = platform.herald.operator().get("/access-log?kind=denied").expect(200);
    assert_eq!(denied["items"][0]["status"], 401, "{denied}");
}

#[test]
fn zones_come_and_go_and_come_again() {
    let platform = Platform::start("zones", 1);
    let pop = &platform.pops[0];
    assert_eq!(rcode(pop, "www.example.com."), "REFUSED");
    platform.create_zone("example.com");
    put(&platform, "www", "192.0.2.1", "?wait=all");
    wait_for_answer(pop, "www.example.com.", "A", &["192.0.2.1"]);
    let serial = |platform: &Platform| platform.tenant.get("/zones/example.com").json()["serial"].as_u64();
    let first = serial(&platform);

    platform.tenant.delete("/zones/example.com?wait=all").expect(200);
    wait_until(Duration::from_secs(10), "the zone to be gone", || {
        rcode(pop, "www.example.com.") == "REFUSED"
    })
    .unwrap();
    platform.create_zone("example.com");
    assert!(serial(&platform) > first, "a serial never goes back");
    put(&platform, "other", "192.0.2.2", "?wait=all");
    wait_for_answer(pop, "other.example.com.", "A", &["192.0.2.2"]);
    assert_eq!(rcode(pop, "www.example.com."), "NXDOMAIN");

    // Zones below each other, and one for addresses.
    for zone in ["sub.example.com", "2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa", "münchen.example"] {
        platform.create_zone(zone);
    }
    let zones = ["example.com.", "sub.example.com.", "2.0.192.in-addr.arpa.", "0/25.2.0.192.in-addr.arpa."];
    for zone in zones.iter().chain(&["xn--mnchen-3ya.example."]) {
        wait_for(Duration::from_secs(10), &format!("{zone} to be answered"), || {
            let answer = dns::query(pop.listen, zone, "SOA", Transport::Udp).ok()?;
            answer.answers.iter().find(|record| record.name == *zone).cloned()
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", pop.tail()));
    }
}

#[test]
fn a_pending_zone_is_not_served() {
    let platform = Platform::start("pending-pop", 1);
    platform.create_zone("example.com");
    put(&platform, "www", "192.0.2.1", "?wait=all").expect(201);
    let thief = platform.herald.tenant("thief");
    thief.post("/zones?wait=all", &json!({ "name": "www.example.com" })).expect(201);
    let put = json!({ "ttl": 60, "records": ["203.0.113.1"] });
    thief.put("/zones/www.example.com/rrsets/@/A?wait=all", &put).expect(201);
    wait_for_answer(&platform.pops[0], "www.example.com.", "A", &["192.0.2.1"]);
}

#[test]
fn a_pop_that_is_down_holds_up_nobody_and_catches_up() {
    let mut platform = Platform::start("down", 3);
    platform.create_zone("example.com");
    platform.create_zone("gone.example");
    put(&platform, "www", "192.0.2.1", "?wait=all").expect(201);
    platform.pops[2].stop().unwrap();

    let late = put(&platform, "www", "192.0.2.2", "?wait=all&timeout_ms=300");
    let change = late.expect(202)["change"].clone();
    assert_eq!(change["state"], "pending", "{change}");
    let states: Vec<(&str, &str)> = change["pops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pop| (pop["name"].as_str().unwrap(), pop["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("pop1", "in_sync"), ("pop2", "in_sync"), ("pop3", "pending")]);
    put(&platform, "www", "192.0.2.3", "?wait=quorum&timeout_ms=5000").expect(200);

    // What it missed: many changes, a zone that went, one that came.
    for number in 0..50 {
        put(&platform, &format!("host{number}"), "192.0.2.9", "").expect(201);
    }
    platform.tenant.delete("/zones/gone.example").expect(200);
    platform.create_zone("come.example");
    platform.pops[2].start();
    platform.assert_pops_hold(&["example.com.".to_owned(), "come.example.".to_owned()]);
    let pop = &platform.pops[2];
    wait_until(Duration::from_secs(10), "the zone to be gone", || rcode(pop, "gone.example.") == "REFUSED")
        .unwrap_or_else(|e| {
            let answer = dns::query(pop.listen, "gone.example.", "SOA", Transport::Udp);
            panic!("{e}: {answer:?}\n{}", status(pop))
        });
    let id = change["id"].as_str().unwrap();
    wait_until(Duration::from_secs(10), "the receipt to say so", || {
        platform.tenant.get(&format!("/changes/{id}")).expect(200)["state"] == "in_sync"
    })
    .unwrap();

    // A drained PoP is not waited for.
    platform.pops[2].stop().unwrap();
    platform.herald.operator().patch("/pops/pop3", &json!({ "drained": true })).expect(200);
    put(&platform, "www", "192.0.2.4", "?wait=all&timeout_ms=5000").expect(200);
}

#[test]
fn answers_go_on_without_control_plane_and_agent() {
    let mut platform = Platform::start("alone", 1);
    platform.create_zone("example.com");
    put(&platform, "www", "192.0.2.1", "?wait=all").expect(201);
    platform.herald.kill();
    assert_eq!(rcode(&platform.pops[0], "www.example.com."), "NOERROR");
    platform.pops[0].kill_agent();
    assert_eq!(rcode(&platform.pops[0], "www.example.com."), "NOERROR");

    // The next agent goes on with the knotd it finds, and so do changes.
    let knotd = platform.pops[0].knotds();
    platform.pops[0].start();
    platform.herald.restart();
    put(&platform, "www", "192.0.2.2", "").expect(200);
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.2"]);
    assert_eq!(platform.pops[0].knotds(), knotd, "the same knotd goes on");
}

#[test]
fn materialize_rebuilds_what_was_confirmed() {
    let mut platform = Platform::start("materialize", 1);
    let zone = "example.com.".to_owned();
    platform.create_zone(&zone);
    platform.tenant.import(&zone, testbed::EXAMPLE_ZONE).expect(200);
    put(&platform, "www", "192.0.2.99", "?wait=all").expect(200);
    put(&platform, "fresh", "192.0.2.98", "?wait=all").expect(201);
    let contents = platform.assert_pops_hold(std::slice::from_ref(&zone));
    let pop = &mut platform.pops[0];
    pop.kill();
    // What lies around is not what a knotd may start from.
    let file = pop.folder().join("knot/zones/example.com.zone");
    fs::write(&file, "old").unwrap();
    let done = Command::new(program("koder-dns-sync"))
        .args(["materialize", "--config"])
        .arg(pop.config())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = fs::read_to_string(&file).unwrap();
    let folder = platform.folder("files");
    let held = Knot::of_files(&folder, "files", &[(zone.clone(), text)]).content(&zone);
    assert_eq!(dns::differences(&contents[&zone], &held, 20), "");

    platform.herald.kill();
    platform.pops[0].start();
    platform.assert_holds(0, &contents);
}

/// What the agent says of itself.
fn status(pop: &Pop) -> String {
    let output = Command::new(program("koder-dns-sync"))
        .args(["status", "--json", "--config"])
        .arg(pop.config())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_agent_tells_how_it_is() {
    let mut platform = Platform::start("status", 1);
    platform.create_zone("example.com");
    put(&platform, "www", "192.0.2.1", "?wait=all").expect(201);
    let pop = &mut platform.pops[0];
    let told: Value = serde_json::from_str(&status(pop)).unwrap();
    assert_eq!(told["pop"], "pop1", "{told}");
    assert_eq!(told["zones"], 1, "{told}");
    let for_people = |pop: &Pop| {
        let mut command = Command::new(program("koder-dns-sync"));
        command.args(["status", "--config"]).arg(pop.config()).output().unwrap()
    };
    assert!(for_people(pop).status.success());
    pop.stop().unwrap();
    assert!(!for_people(pop).status.success(), "nobody is there to tell");
}

/// A knotd that runs and does nothing: its agent says so, its changes wait, nobody else is held up, and all goes on when it does.
#[test]
fn a_frozen_knotd_is_noticed_and_goes_on() {
    let platform = Platform::start("frozen", 2);
    platform.create_zone("example.com");
    put(&platform, "www", "192.0.2.1", "?wait=all").expect(201);
    let (sound, frozen) = (&platform.pops[0], &platform.pops[1]);
    let knotds = frozen.knotds();
    let operator = platform.herald.operator();
    let is_running = || operator.get("/pops/pop2").expect(200)["status"]["knot_running"] == true;
    wait_until(Duration::from_secs(10), "the PoP to say that knotd runs", is_running).unwrap();

    frozen.freeze_knotd(true);
    let late = put(&platform, "www", "192.0.2.2", "?wait=all&timeout_ms=500").expect(202)["change"].clone();
    let behind: Vec<&str> = late["pops"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pop| pop["state"] == "pending")
        .map(|pop| pop["name"].as_str().unwrap())
        .collect();
    assert_eq!(behind, ["pop2"], "{late}");
    wait_for_answer(sound, "www.example.com.", "A", &["192.0.2.2"]);
    wait_until(Duration::from_secs(20), "the agent to say that knotd does not answer", || {
        frozen.status_text().contains("knotd runs, but does not answer")
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", frozen.status_text()));
    let told: Value = serde_json::from_str(&status(frozen)).unwrap();
    assert_eq!(told["knot"]["running"], false, "{told}");
    assert_eq!(told["zones_lagging"], 1, "{told}");
    wait_until(Duration::from_secs(10), "the control plane to show it", || !is_running()).unwrap();
    let pop = operator.get("/pops/pop2").expect(200);
    assert_eq!((&pop["connected"], &pop["zones_pending"]), (&json!(true), &json!(1)), "{pop}");

    frozen.freeze_knotd(false);
    wait_for_answer(frozen, "www.example.com.", "A", &["192.0.2.2"]);
    platform.assert_pops_hold(&["example.com.".to_owned()]);
    wait_until(Duration::from_secs(10), "the control plane to show that it runs", is_running).unwrap();
    assert_eq!(frozen.knotds(), knotds, "it was not started anew");
    let told: Value = serde_json::from_str(&status(frozen)).unwrap();
    assert_eq!((&told["knot"]["running"], &told["knot"]["restarts"]), (&json!(true), &json!(0)), "{told}");
}
