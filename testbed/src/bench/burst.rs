//! Many changes at once: from the moment when the last one was accepted until no PoP lacks any.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Settings;
use super::open_loop::POPS;
use super::report::{Line, figure};
use super::zones;
use crate::load::{self, Pace};
use crate::observe::look;
use crate::platform::Platform;
use crate::wait::wait_until;
use crate::{address_of, http};

const ZONES: u64 = 5000;
const CONNECTIONS: usize = 64;
const ROUNDS: u64 = 3;
const GIVE_UP: Duration = Duration::from_secs(120);

/// Measures.
pub fn run(settings: &Settings) -> Vec<Line> {
    let count = settings.zones.unwrap_or(ZONES);
    let platform = zones::platform("bench-burst", POPS, count);
    let mut rounds: Vec<Round> = (1..=ROUNDS).map(|round| burst(&platform, count, round)).collect();
    rounds.sort_by_key(|round| round.in_sync);
    let median = &rounds[rounds.len() / 2];
    let slowest = rounds.last().expect("there are rounds");
    let mut line = Line {
        bench: "burst",
        unit: "s to in sync",
        less_is_better: true,
        ours: Some(median.in_sync.as_secs_f64()),
        peer: None,
        setting: vec![("changes", count.into()), ("zones", count.into()), ("pops", POPS.into())],
        details: vec![
            ("ours_slowest_s", figure(Some(slowest.in_sync.as_secs_f64()))),
            ("ours_accepted_per_s", figure(Some(median.accepted_per_s))),
        ],
        goals: Vec::new(),
    };
    line.goal(5.0);
    vec![line]
}

struct Round {
    accepted_per_s: f64,
    in_sync: Duration,
}

/// One change in each zone. What the receipts say is believed for the time, and then checked: every receipt, and at every PoP
/// every answer.
fn burst(platform: &Platform, count: u64, round: u64) -> Round {
    let api = platform.herald.api;
    let authorization = format!("Authorization: Bearer {}", platform.tenant.token());
    let value = |zone: u64| address_of(round * count + zone);
    let request = &mut |zone: u64, step: usize, out: &mut Vec<u8>| {
        if step == 0 {
            let apex = zones::name(zone);
            let path = format!("/api/v1/zones/{apex}/rrsets/www.{apex}/A");
            let body = format!(r#"{{"ttl":300,"records":["{}"]}}"#, value(zone));
            out.extend(http::request("PUT", &path, api, &authorization, &body));
        }
        step == 0
    };
    let before = revision(platform);
    let outcome = load::run(api, CONNECTIONS, Pace::Count(count), 0, request, &|| false)
        .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()));
    let accepted = Instant::now();
    let last = before + count;
    let operator = platform.herald.operator();
    wait_until(GIVE_UP, "all PoPs to be in sync", || {
        let pops = operator.get("/pops").expect(200);
        let in_sync = |pop: &Value| pop["connected"] == true && pop["zones_pending"] == 0;
        pops["items"].as_array().expect("a page").iter().all(in_sync) && is_in_sync(platform, last)
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()));
    let in_sync = accepted.elapsed();
    assert_eq!(revision(platform), last, "a revision each change");
    for change in before + 1..=last {
        assert!(is_in_sync(platform, change), "change {change} has to be in sync");
    }
    let expected: Vec<(String, Ipv4Addr)> =
        (0..count).map(|zone| (zones::proof(zone).0, value(zone).parse().expect("an address"))).collect();
    for pop in &platform.pops {
        let wrong = look(pop.listen, &expected).unwrap_or_else(|e| panic!("{e}\n{}", pop.tail()));
        assert!(wrong.is_empty(), "{} answers {} changes otherwise than receipts say", pop.name, wrong.len());
    }
    Round { accepted_per_s: outcome.rate_per_s(), in_sync }
}

fn is_in_sync(platform: &Platform, revision: u64) -> bool {
    platform.tenant.get(&format!("/changes/c{revision}")).expect(200)["state"] == "in_sync"
}

/// The log's head.
fn revision(platform: &Platform) -> u64 {
    let metrics = platform.tenant.get("//metrics").text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("herald_engine_revision "));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no revision in\n{metrics}"))
}
