//! The query log end to end: switched on by the API, noted by a real Knot, sent by the agent, read back by API and CLI.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use domain::base::iana::Rcode;
use serde_json::{Value, json};
use testbed::dns::{self, Asked, Transport};
use testbed::herald::program;
use testbed::platform::Platform;
use testbed::wait::wait_until;

const WITHIN: Duration = Duration::from_secs(60);

const PATH: &str = "/zones/example.com/query-log";

/// A zone in which `www` is steered.
fn steered(platform: &Platform) {
    platform.create_zone("example.com");
    let pool = json!({ "ttl": 30, "answer": "all", "endpoints": [
        { "name": "a", "records": { "A": ["192.0.2.1"] }, "weight": 1 },
    ] });
    let changes = json!([
        { "op": "put_pool", "name": "web", "pool": pool },
        { "op": "put_policy", "policy": { "name": "www", "type": "A", "rules": [{ "pools": ["web"] }] } },
    ]);
    let body = json!({ "changes": changes });
    platform.tenant.patch("/zones/example.com/steering?wait=all", &body).expect(200);
}

/// Zones that the agent of the first PoP has its module log.
fn logged_zones(platform: &Platform) -> u64 {
    let status = platform.pops[0].status(&["--json"]).stdout;
    let status: Value = serde_json::from_slice(&status).unwrap_or_default();
    status["query_log"]["zones"].as_u64().unwrap_or(u64::MAX)
}

fn wait_for_zones(platform: &Platform, zones: u64) {
    wait_until(WITHIN, "the agent to know", || logged_zones(platform) == zones)
        .unwrap_or_else(|e| panic!("{e}: {}", platform.pops[0].status_text()));
}

fn switch_on(platform: &Platform, body: &Value) {
    let put = platform.tenant.put(PATH, body).expect(200);
    assert_eq!(put["item"]["on"], true, "{put}");
    wait_for_zones(platform, 1);
}

fn switch_off(platform: &Platform) {
    let deleted = platform.tenant.delete(PATH).expect(200);
    assert_eq!(deleted["item"]["on"], false, "{deleted}");
    wait_for_zones(platform, 0);
}

/// Records of queries for a name, the oldest first.
fn records(platform: &Platform, name: &str) -> Vec<Value> {
    let path = format!("{PATH}/records?name={name}&limit=1000");
    let page = platform.tenant.get(&path).expect(200);
    let mut records = page["items"].as_array().unwrap().clone();
    records.reverse();
    records
}

fn wait_for_records(platform: &Platform, name: &str, count: usize) -> Vec<Value> {
    let mut seen = Vec::new();
    wait_until(WITHIN, "records to come", || {
        seen = records(platform, name);
        seen.len() >= count
    })
    .unwrap_or_else(|e| panic!("{e}: {count} of {name}, {seen:?}\n{}", platform.pops[0].status_text()));
    assert_eq!(seen.len(), count, "{seen:?}");
    seen
}

fn koder(platform: &Platform, line: &str) -> Command {
    let mut command = Command::new(program("koder"));
    command
        .args(line.split(' '))
        .env_clear()
        .env("HOME", platform.folder("home"))
        .env("KODER_SERVER", format!("http://{}", platform.herald.api))
        .env("KODER_TOKEN", platform.tenant.token());
    command
}

fn ok(platform: &Platform, line: &str) -> String {
    let Output { status, stdout, stderr } = koder(platform, line).output().expect("koder can be run");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    assert!(status.success(), "koder {line}\n{}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

/// Queries for the zone that were counted.
fn counted(platform: &Platform) -> u64 {
    let stats = platform.tenant.get("/zones/example.com/stats?step=1h").expect(200);
    stats["total"]["query_count"].as_u64().unwrap()
}

#[test]
fn queries_are_logged_while_it_is_on_and_read_by_api_and_cli() {
    let platform = Platform::start("query-log", 1);
    steered(&platform);
    let server = platform.pops[0].listen;
    // What it took to get here is counted, too.
    let (mut before, mut same) = (0, 0);
    wait_until(WITHIN, "counts to settle", || {
        let now = counted(&platform);
        same = if now == before { same + 1 } else { 0 };
        before = now;
        std::thread::sleep(Duration::from_millis(200));
        same > 40
    })
    .unwrap();
    let mut sent = 0;
    let mut ask = |name: &str, rtype: &str, transport| {
        sent += 1;
        dns::query(server, &format!("{name}.example.com."), rtype, transport).unwrap()
    };
    ask("before", "A", Transport::Udp);
    let on = ok(&platform, "dns query-log on example.com --for 10m -m why");
    assert!(on.starts_with("logs queries of example.com. until 20"), "{on}");
    wait_for_zones(&platform, 1);
    ask("www", "A", Transport::Udp);
    ask("www", "A", Transport::Tcp);
    ask("missing", "TXT", Transport::Udp);
    let asked = Asked { subnet: Some(("198.51.100.0".parse().unwrap(), 24)), ..Asked::default() };
    dns::query_as(server, "subnet.example.com.", "A", &asked).unwrap();

    let www = wait_for_records(&platform, "www", 2);
    let of = |transport: &str| www.iter().find(|record| record["transport"] == transport).unwrap();
    for transport in ["udp", "tcp"] {
        let record = of(transport);
        for (field, value) in [
            ("pop", json!(platform.pops[0].name)),
            ("name", json!("www.example.com.")),
            ("type", json!("A")),
            ("rcode", json!("NOERROR")),
            ("source", json!("127.0.0.1")),
            ("policy", json!("www.example.com.")),
            ("pool", json!("web")),
            ("truncated", json!(false)),
        ] {
            assert_eq!(record[field], value, "{record}");
        }
    }
    let missing = &wait_for_records(&platform, "missing", 1)[0];
    assert_eq!((&missing["rcode"], &missing["type"]), (&json!("NXDOMAIN"), &json!("TXT")), "{missing}");
    let subnet = &wait_for_records(&platform, "subnet", 1)[0];
    assert_eq!(subnet["edns"]["client_subnet"], "198.51.100.0/24", "{subnet}");
    assert!(records(&platform, "before").is_empty(), "it wasn't on yet");

    // By command line; whoever follows sees what comes.
    let shown = ok(&platform, "dns query-log show example.com");
    assert!(shown.contains("records") && shown.contains("whole"), "{shown}");
    let tail = ok(&platform, "dns query-log tail example.com");
    assert!(tail.contains("127.0.0.1 udp www.example.com. A NOERROR"), "{tail}");
    assert!(
        tail.contains("policy=www.example.com. pool=web") && tail.contains("ecs=198.51.100.0/24"),
        "{tail}"
    );
    let tail = ok(&platform, "--json dns query-log tail example.com --rcode NXDOMAIN --type TXT");
    let line: Value = serde_json::from_str(tail.trim()).unwrap();
    assert_eq!(line["name"], "missing.example.com.");
    let mut follow = koder(&platform, "--json dns query-log tail example.com --name followed --follow");
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    for _ in 0..3 {
        ask("followed", "A", Transport::Udp);
    }
    let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let followed: Vec<Value> =
        lines.take(3).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert!(followed.iter().all(|record| record["name"] == "followed.example.com."), "{followed:?}");

    // Off: nothing more is noted, and what was stays.
    let off = ok(&platform, "dns query-log off example.com");
    assert!(off.contains("no more"), "{off}");
    wait_for_zones(&platform, 0);
    ask("off", "A", Transport::Udp);
    switch_on(&platform, &json!({ "one_in": 1 }));
    ask("sentinel", "A", Transport::Udp);
    wait_for_records(&platform, "sentinel", 1);
    assert!(records(&platform, "off").is_empty());
    assert_eq!(records(&platform, "www").len(), 2);

    // One in ten, of more than are kept of a second: each is a record, or is counted as left out.
    switch_off(&platform);
    switch_on(&platform, &json!({ "one_in": 10 }));
    let earlier = platform.tenant.get(PATH).expect(200)["records"].as_u64().unwrap();
    dns::ask_many(server, "tenth.example.com.", 20_000).unwrap();
    let (mut drawn, mut still) = (0, 0);
    wait_until(WITHIN, "all of it to come", || {
        let log = platform.tenant.get(PATH).expect(200);
        let now = log["records"].as_u64().unwrap() - earlier + log["left_out"].as_u64().unwrap();
        still = if now == drawn { still + 1 } else { 0 };
        drawn = now;
        std::thread::sleep(Duration::from_millis(200));
        drawn > 0 && still > 20
    })
    .unwrap();
    assert!((1_700..2_300).contains(&drawn), "{drawn} of 20,000, one in ten");

    // Counts are exact beside it.
    let expected = before + sent + 1 + 20_000;
    wait_until(WITHIN, "all to be counted", || counted(&platform) >= expected).unwrap();
    assert_eq!(counted(&platform), expected);
}

#[test]
fn a_pop_that_is_cut_off_stops_by_itself_and_tells_what_it_noted_later() {
    let mut platform = Platform::start("query-log-cut-off", 1);
    platform.create_zone("example.com");
    let server = platform.pops[0].listen;
    // What knotd refuses, as it hasn't loaded the zone yet, isn't the zone's.
    let ask = |name: &str| {
        dns::query(server, &format!("{name}.example.com."), "A", Transport::Udp)
            .is_ok_and(|answer| answer.rcode == Rcode::NXDOMAIN)
    };
    wait_until(WITHIN, "the zone to be served", || ask("begin")).unwrap();
    switch_on(&platform, &json!({ "for_s": 8 }));
    platform.herald.kill();
    assert!(ask("noted"));
    // Its time is up, with nobody to say so.
    wait_for_zones(&platform, 0);
    assert!(ask("late"));
    platform.herald.restart();
    let noted = wait_for_records(&platform, "noted", 1);
    assert_eq!(noted[0]["rcode"], "NXDOMAIN");
    // An agent that is killed takes the log with it, as nobody reads it; it goes on with the agent.
    switch_on(&platform, &json!({}));
    platform.pops[0].kill_agent();
    assert!(ask("unread"));
    platform.pops[0].start();
    wait_for_zones(&platform, 1);
    assert!(ask("sentinel"));
    wait_for_records(&platform, "sentinel", 1);
    assert!(records(&platform, "late").is_empty());
    let log = platform.tenant.get(PATH).expect(200);
    assert_eq!((&log["on"], &log["left_out"]), (&json!(true), &json!(0)), "{log}");
}
