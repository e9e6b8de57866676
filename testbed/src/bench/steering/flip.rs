//! From a verdict to the changed answer at the last of three PoPs, with very many steered names loaded.
//!
//! The verdict is that of a heartbeat: the endpoint calls in, and counts as up from that moment on. So the time begins when the call is due.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::names::{self, Kind, NAMES_A_ZONE};
use crate::bench::Settings;
use crate::bench::open_loop::{Figures, POPS, Run};
use crate::bench::report::{Line, figure, percentile_ms};
use crate::http;
use crate::platform::Platform;
use crate::wait::wait_until;

/// Steered names that are loaded besides.
const NAMES: u64 = 1_000_000;

/// Verdicts, each on a monitor of its own.
const FLIPS: u64 = 200;
const FLIPS_PER_S: u32 = 20;

const ZONE: &str = "flip.example.";

/// What is answered while the endpoint is down.
const SPARE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// How long it may take until all endpoints count as down.
const DOWN_WITHIN: Duration = Duration::from_secs(60);

/// Measures. What the benchmark is told as a number of zones is taken for thousands of names.
///
/// # Panics
/// If something is refused.
pub fn run(settings: &Settings) -> Vec<Line> {
    let count = settings.zones.map_or(NAMES, |zones| zones * NAMES_A_ZONE);
    let platform = Platform::start("bench-flip", POPS);
    names::make(&platform, count, Kind::Steered);
    let calls = make_monitored(&platform);
    let api = platform.herald.api;
    let servers: Vec<SocketAddr> = platform.pops.iter().map(|pop| pop.listen).collect();
    let run = Run { first_change: 0, count: FLIPS, per_s: FLIPS_PER_S, far: Duration::ZERO };
    let call = |number: u64, step: usize, out: &mut Vec<u8>| {
        if step == 0 {
            let path = &calls[usize::try_from(number).expect("few")];
            out.extend(http::request("POST", path, api, "Accept: */*", ""));
        }
        step == 0
    };
    let seen = run
        .measure(api, &servers, |number| (owner(number), address(number)), call, &|| false)
        .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()));
    let mut figures = Figures::default();
    figures.add(seen);
    figures.sort();
    let mut line = Line {
        bench: "flip",
        unit: "ms at the 99th percentile",
        less_is_better: true,
        ours: percentile_ms(&figures.last_us, 0.99),
        peer: None,
        setting: vec![("names", count.into()), ("verdicts_per_s", FLIPS_PER_S.into())],
        details: vec![
            ("ours_median_ms", figure(percentile_ms(&figures.last_us, 0.5))),
            ("ours_verdicts", figures.last_us.len().into()),
            ("ours_unseen", figures.unseen.into()),
        ],
        goals: Vec::new(),
    };
    line.goal(25.0);
    vec![line]
}

fn owner(number: u64) -> String {
    format!("www{number}.{ZONE}")
}

fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).expect("few"))
}

/// Makes the monitors, names that go by them, and waits until all are down; the paths that endpoints call.
fn make_monitored(platform: &Platform) -> Vec<String> {
    let tenant = &platform.tenant;
    let (mut calls, mut pools, mut policies) = (Vec::new(), Map::new(), Vec::new());
    let endpoint = |address: Ipv4Addr| json!({ "name": "one", "records": { "A": [address] } });
    pools.insert("spare".into(), json!({ "ttl": 5, "endpoints": [endpoint(SPARE)] }));
    for number in 0..FLIPS {
        let monitor = json!({
            "name": format!("beat{number}"),
            "check": { "kind": "heartbeat" },
            "pace": { "interval_ms": 1000, "timeout_ms": 1000 },
        });
        let made: Value = tenant.post("/monitors", &monitor).expect(201);
        let path = made["item"]["heartbeat_path"].as_str().unwrap_or_else(|| panic!("no path: {made}"));
        calls.push(format!("/api/v1{path}"));
        let mut monitored = endpoint(address(number));
        monitored["monitor"] = made["item"]["id"].clone();
        pools.insert(format!("p{number}"), json!({ "ttl": 5, "endpoints": [monitored] }));
        let rule = json!({ "pools": [format!("p{number}"), "spare"] });
        policies.push(json!({ "name": format!("www{number}"), "type": "A", "rules": [rule] }));
    }
    platform.create_zone(ZONE);
    let steering = json!({ "pools": pools, "policies": policies });
    tenant.put(&format!("/zones/{ZONE}/steering?wait=all"), &steering).expect(200);
    wait_until(DOWN_WITHIN, "all endpoints to be down", || {
        let shown: Value = tenant.get("/monitors?state=down&limit=1000").expect(200);
        shown["items"].as_array().is_some_and(|items| items.len() as u64 == FLIPS)
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()));
    for number in 0..FLIPS {
        platform.wait_for_answer(&owner(number), "A", &[&SPARE.to_string()]);
    }
    calls
}
