//! Counts: exact over ten million queries whatever is restarted; what it costs to take them in from many PoPs; and reading a day back.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::report::{Line, figure, percentile_ms};
use super::{Settings, zones};
use crate::api::Api;
use crate::dns;
use crate::platform::Platform;
use crate::wait::wait_until;

/// Queries of the exact count, in so many parts, between which something is restarted.
const QUERIES: u64 = 10_000_000;
const PARTS: u64 = 10;

/// Zones with queries in each minute, at so many PoPs.
const ZONES: u64 = 10_000;
const POPS: usize = 15;

/// Minutes of these that are taken in.
const MINUTES: u64 = 3;

/// Reports of a request.
const REPORTS_A_REQUEST: u64 = 1_000;

/// How often a day is read.
const READS: usize = 21;

const WITHIN: Duration = Duration::from_secs(300);

/// Measures. A number of zones is taken in place of the ten thousand, and a thousand queries for each of them for the ten million.
///
/// # Panics
/// If something is refused, or a count is wrong.
pub fn run(settings: &Settings) -> Vec<Line> {
    let zones = settings.zones.unwrap_or(ZONES);
    let mut lines = vec![exact(settings.zones.map_or(QUERIES, |zones| zones * 1_000))];
    lines.extend(taking_in(zones));
    lines
}

/// Whether as many queries are counted as were answered, while agents and the control plane are restarted.
fn exact(queries: u64) -> Line {
    const ZONE: &str = "counted.example.";
    let mut platform = Platform::start("bench-counts", 1);
    platform.create_zone(ZONE);
    platform.wait_until_in_sync();
    let server = platform.pops[0].listen;
    let path = format!("/zones/{ZONE}/stats?step=1h");
    let counted = |platform: &Platform, kind: &str| -> u64 {
        let stats: Value = platform.herald.operator().get(&path).expect(200);
        stats["total"][kind].as_u64().unwrap_or_else(|| panic!("no count: {stats}"))
    };
    let begin = Instant::now();
    for part in 0..PARTS {
        match part % 4 {
            1 => {
                platform.pops[0].kill_agent();
                platform.pops[0].start();
            }
            2 => {
                platform.herald.kill();
                platform.herald.restart();
            }
            3 => {
                platform.pops[0].stop().unwrap_or_else(|e| panic!("{e}"));
                platform.pops[0].start();
                wait_until(WITHIN, "the zone to be served", || {
                    dns::query(server, ZONE, "SOA", dns::Transport::Udp)
                        .is_ok_and(|answer| !answer.answers.is_empty())
                })
                .unwrap_or_else(|e| panic!("{e}"));
            }
            _ => {}
        }
        dns::ask_many(server, &format!("www.{ZONE}"), queries / PARTS)
            .unwrap_or_else(|e| panic!("{e}\n{}", platform.pops[0].tail()));
    }
    let asking_s = begin.elapsed().as_secs_f64();
    let asked = queries / PARTS * PARTS;
    // The questions for the SOA are in the sum too, so NXDOMAIN is what is compared.
    let nxdomain = |platform: &Platform| counted(platform, "nxdomain");
    wait_until(WITHIN, "all queries to be counted", || nxdomain(&platform) >= asked)
        .unwrap_or_else(|e| panic!("{e}: {} of {asked}\n{}", nxdomain(&platform), platform.pops[0].tail()));
    // What is counted twice comes as late as what is counted once.
    std::thread::sleep(Duration::from_secs(5));
    let mut line = Line {
        bench: "counts",
        unit: "queries counted",
        less_is_better: false,
        ours: Some(nxdomain(&platform) as f64),
        peer: None,
        setting: vec![("queries", asked.into()), ("restarts", (PARTS - PARTS.div_ceil(4)).into())],
        details: vec![
            ("queries_a_second", figure(Some(asked as f64 / asking_s))),
            ("of_the_zone", counted(&platform, "query_count").into()),
        ],
        goals: Vec::new(),
    };
    line.goals.push(("= queries".into(), line.ours.map(|counted| counted == asked as f64)));
    line
}

/// What it costs to take in reports of all zones from all PoPs each minute, and to read a zone's day.
fn taking_in(zones: u64) -> Vec<Line> {
    let platform = Platform::without_pops("bench-counts-in");
    zones::make(&platform.herald, &platform.tenant, zones);
    let ids = zone_ids(&platform.tenant, zones);
    let pops: Vec<Api> = (0..POPS)
        .map(|number| Api::new(platform.herald.api, &platform.herald.register_pop(&format!("pop{number}"))))
        .collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs() / 60;

    let before = platform.herald.cpu_s();
    for minute in now - MINUTES..now {
        for pop in &pops {
            for ids in ids.chunks(REPORTS_A_REQUEST as usize) {
                send(pop, ids.iter().map(|id| report(id, minute)));
            }
        }
    }
    let share = (platform.herald.cpu_s() - before) / (MINUTES * 60) as f64;
    let mut taken = Line {
        bench: "counts",
        unit: "share of a core to take in each minute",
        less_is_better: true,
        ours: Some(share),
        peer: None,
        setting: vec![("zones", zones.into()), ("pops", POPS.into())],
        details: vec![("minutes", MINUTES.into())],
        goals: Vec::new(),
    };
    taken.goal(0.25);

    // The day before this hour, of one zone.
    let day = now / 60 * 60 - 24 * 60..now / 60 * 60;
    for pop in &pops {
        let minutes: Vec<u64> = day.clone().filter(|minute| !(now - MINUTES..now).contains(minute)).collect();
        for minutes in minutes.chunks(REPORTS_A_REQUEST as usize) {
            send(pop, minutes.iter().map(|minute| report(&ids[0], *minute)));
        }
    }
    let time = |minute: u64| minute * 60_000;
    let path = format!("/zones/{}/stats?step=1m&from={}&to={}", ids[0], time(day.start), time(day.end));
    let mut took_us: Vec<u32> = Vec::new();
    for _ in 0..READS {
        let begin = Instant::now();
        let reply = platform.tenant.get(&path);
        took_us.push(u32::try_from(begin.elapsed().as_micros()).expect("it is short"));
        let stats: Value = reply.expect(200);
        let periods = stats["periods"].as_array().map_or(0, Vec::len);
        assert_eq!(periods, 24 * 60, "a day has so many minutes");
    }
    took_us.sort_unstable();
    let mut read = Line {
        bench: "counts",
        unit: "ms to read a zone's day by minutes, at the median",
        less_is_better: true,
        ours: percentile_ms(&took_us, 0.5),
        peer: None,
        setting: vec![("pops", POPS.into())],
        details: vec![("slowest_ms", figure(percentile_ms(&took_us, 1.0)))],
        goals: Vec::new(),
    };
    read.goal(50.0);
    vec![taken, read]
}

/// What an active zone has in a minute at a PoP.
fn report(zone: &str, minute: u64) -> Value {
    json!({
        "zone_id": zone,
        "period_start": minute * 60,
        "sequence": minute,
        "query_count": 1_000,
        "nxdomain": 17,
        "truncated": 1,
        "ipv6": 311,
        "by_type": { "A": 600, "AAAA": 300, "MX": 40, "TXT": 40, "NS": 20 },
        "by_rcode": { "NOERROR": 983, "NXDOMAIN": 17 },
        "by_transport": { "udp": 980, "tcp": 20 },
        "by_country": { "DE": 400, "FR": 200, "GB": 150, "US": 150, "NL": 60, "PL": 40 },
    })
}

fn send(pop: &Api, reports: impl Iterator<Item = Value>) {
    let reply = pop.post("/sync/stats", &Value::Array(reports.collect()));
    assert!((200..300).contains(&reply.status), "{}", reply.text);
}

fn zone_ids(tenant: &Api, count: u64) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    while (ids.len() as u64) < count {
        let page: Value = tenant.get(&format!("/zones?limit=1000{cursor}")).expect(200);
        let items = page["items"].as_array().unwrap_or_else(|| panic!("no page: {page}"));
        ids.extend(items.iter().filter_map(|zone| zone["id"].as_str().map(str::to_owned)));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(ids.len() as u64, count, "all zones are listed");
    ids
}
