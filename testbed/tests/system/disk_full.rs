//! A full disk under herald and under an agent: writes are refused, everything else goes on, and all goes on by itself
//! once there is room.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::platform::{Platform, wait_for_answer};
use testbed::small_disk::SmallDisk;
use testbed::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Far more than either needs for these zones, and quickly filled.
const DISK_MIB: u32 = 48;

/// A record large enough to need room: SQLite's write-ahead log has some to spare.
fn large(letter: char) -> Value {
    let strings: Vec<String> =
        (0..200).map(|n| format!("\"{n} {}\"", letter.to_string().repeat(240))).collect();
    json!({ "ttl": 60, "records": strings })
}

/// Where nothing can be mounted there is no small disk: said loudly, as the test is void then.
fn can_mount() -> bool {
    let possible = SmallDisk::is_possible();
    if let Err(why) = &possible {
        eprintln!("!!! NOT TESTED: a full disk needs a mount namespace (root, or CAP_SYS_ADMIN): {why}");
    }
    possible.is_ok()
}

#[test]
fn a_full_disk_under_herald_refuses_writes_and_nothing_else() {
    if !can_mount() {
        return;
    }
    let mut platform = Platform::without_pops("disk-full-herald");
    let data = platform.herald.data();
    platform.herald.kill();
    // It is empty: another platform than before.
    let disk = SmallDisk::mount(&data, DISK_MIB);
    platform.herald.prefix = disk.prefix();
    platform.herald.restart();
    std::fs::copy(disk.seen("operator.token"), data.join("operator.token")).unwrap();
    platform.herald.define_nameservers();
    platform.tenant = platform.herald.tenant("tenant");
    platform.add_pops(1, None);
    platform.create_zone("example.com");
    let path = |name: &str, rtype: &str| format!("/zones/example.com/rrsets/{name}/{rtype}");
    let www = |address: &str| json!({ "ttl": 60, "records": [address] });
    platform.tenant.put(&path("www", "A"), &www("192.0.2.1")).expect(201);
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.1"]);

    disk.fill();
    let mut number = 0;
    let refused = wait_for(SOON, "a write to be refused", || {
        number += 1;
        let reply = platform.tenant.put(&path(&format!("large{number}"), "TXT"), &large('x'));
        (reply.status >= 300).then_some(reply)
    })
    .unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(refused.content_type.as_deref(), Some("application/problem+json"));
    let problem = refused.json();
    assert_eq!(problem["type"], "urn:koder-herald:problem:unavailable", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("no room left on the disk"), "{problem}");

    // An import is staged in chunks before it gets to the log.
    let mut zone_file = String::from("$ORIGIN example.com.\n");
    for number in 0..8_000 {
        zone_file.push_str(&format!("host-{number}.of-a-long-name.example.com. 300 IN A 192.0.2.9\n"));
    }
    let import = platform.tenant.import("example.com", &zone_file);
    assert_eq!(import.status, 503, "{}", import.text);
    assert!(import.text.contains("no room left on the disk"), "{}", import.text);

    // Nothing of what was refused is there; reads and answers go on.
    let read = |name: &str| platform.tenant.get(&path(name, "A"));
    assert_eq!(read("www").expect(200)["records"], json!(["192.0.2.1"]));
    read("host-7.of-a-long-name").expect(404);
    assert!(platform.tenant.get("/zones/example.com/export").text.contains("192.0.2.1"));
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.1"]);

    // With room all goes on in the same process.
    disk.make_room();
    platform.tenant.put(&path("www", "A"), &www("192.0.2.2")).expect(200);
    platform.tenant.import("example.com", &zone_file).expect(200);
    platform.tenant.put(&path("www", "A"), &www("192.0.2.2")).expect(201);
    assert!(platform.herald.is_running());
    platform.wait_for_answer("host-7.of-a-long-name.example.com.", "A", &["192.0.2.9"]);

    // A herald that was killed on a full disk says why it doesn't start, and starts when there is room.
    disk.fill();
    platform.herald.kill();
    let process = platform.herald.launch();
    let ended = wait_until(SOON, "herald to give up", || !process.is_running());
    let output = process.tail();
    ended.unwrap_or_else(|e| panic!("{e}\n{output}"));
    assert!(output.contains("no room left on the disk") || output.contains("the disk has room"), "{output}");
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.2"]);
    disk.make_room();
    platform.herald.restart();
    platform.tenant.put(&path("www", "A"), &www("192.0.2.3")).expect(200);
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.3"]);
}

#[test]
fn a_full_disk_under_an_agent_holds_up_its_changes_and_nothing_else() {
    if !can_mount() {
        return;
    }
    let mut platform = Platform::start("disk-full-agent", 1);
    let mut pop = platform.set_up_pop(platform.herald.pops);
    let data = pop.folder().join("data");
    let disk = SmallDisk::mount(&data, DISK_MIB);
    pop.prefix = disk.prefix();
    let folder = pop.folder().to_owned();
    pop.configure(|config| config.replace(&format!("data = {folder:?}"), &format!("data = {data:?}")));
    pop.start();
    platform.pops.push(pop);
    platform.create_zone("example.com");
    platform.create_zone("other.example");
    let put = |name: &str, address: &str| {
        let path = format!("/zones/example.com/rrsets/{name}/A");
        let reply = platform.tenant.put(&path, &json!({ "ttl": 60, "records": [address] }));
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
    };
    put("www", "192.0.2.1");
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.1"]);

    disk.fill();
    // Large changes, so that it isn't long until the replica's write-ahead log has no room left.
    let mut sent = 0;
    wait_until(SOON, "the agent to say that its disk is full", || {
        let path = format!("/zones/other.example/rrsets/large{sent}/TXT");
        platform.tenant.put(&path, &large('y')).expect(201);
        sent += 1;
        platform.pops[1].status_text().contains("CAN'T BE WRITTEN: the disk is full")
    })
    .unwrap_or_else(|e| panic!("{e}\n{}\n{}", platform.pops[1].status_text(), platform.pops[1].tail()));
    put("www", "192.0.2.2");
    wait_for_answer(&platform.pops[0], "www.example.com.", "A", &["192.0.2.2"]);
    let late = platform.tenant.put(
        "/zones/example.com/rrsets/late/A?wait=all&timeout_ms=500",
        &json!({ "ttl": 60, "records": ["192.0.2.4"] }),
    );
    let change = late.expect(202)["change"].clone();
    let state = |name: &str| {
        change["pops"].as_array().unwrap().iter().find(|pop| pop["name"] == name).unwrap()["state"].clone()
    };
    assert_eq!((state("pop1"), state("pop2")), (json!("in_sync"), json!("pending")), "{change}");
    wait_for_answer(&platform.pops[1], "www.example.com.", "A", &["192.0.2.1"]);

    // An agent that was killed comes back on a full disk, and goes on with the knotd it finds.
    let knotds = platform.pops[1].knotds();
    platform.pops[1].kill_agent();
    wait_for_answer(&platform.pops[1], "www.example.com.", "A", &["192.0.2.1"]);
    platform.pops[1].start();
    assert_eq!(platform.pops[1].knotds(), knotds, "the same knotd goes on");
    wait_for_answer(&platform.pops[1], "www.example.com.", "A", &["192.0.2.1"]);

    // A knotd can't start without a page for its PID file: it is tried again until there is room.
    platform.pops[1].kill();
    platform.pops[1].launch();
    wait_until(SOON, "the agent to say why there is no knotd", || {
        let said = platform.pops[1].status_text();
        said.contains("DOWN since") && said.contains("CAN'T BE WRITTEN")
    })
    .unwrap_or_else(|e| panic!("{e}\n{}\n{}", platform.pops[1].status_text(), platform.pops[1].tail()));
    disk.make_room();
    wait_for_answer(&platform.pops[1], "www.example.com.", "A", &["192.0.2.2"]);
    platform.wait_until_in_sync();
    for number in 0..sent {
        let name = format!("large{number}.other.example.");
        let answer = testbed::dns::query(platform.pops[1].listen, &name, "TXT", testbed::dns::Transport::Tcp);
        assert_eq!(answer.unwrap().values("TXT").len(), 200, "{name}");
    }
    assert!(!platform.pops[1].status_text().contains("CAN'T BE WRITTEN"));
}
