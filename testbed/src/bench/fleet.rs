//! A fleet's worth of zones: how fast they are made, how fast an empty PoP serves them all, how fast herald is back
//! after a kill, how much memory it takes, how fast its zones are listed.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::Settings;
use super::report::{Line, figure, percentile_ms};
use super::zones;
use crate::api::Api;
use crate::observe::look;
use crate::platform::Platform;
use crate::wait::wait_until;

const ZONES: u64 = 100_000;

/// How often the control plane is asked whether the PoP has it all.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Goals.
const FILL_S: f64 = 30.0;
const READY_S: f64 = 5.0;
const MEMORY_MIB: f64 = 512.0;
const PAGE_MS: f64 = 10.0;

/// How often each kind of page is asked for.
const PAGES: usize = 300;

/// Measures.
pub fn run(settings: &Settings) -> Vec<Line> {
    let count = settings.zones.unwrap_or(ZONES);
    let mut platform = Platform::without_pops("bench-fleet");
    let made_per_s = zones::make(&platform.herald, &platform.tenant, count);
    let after_making = platform.herald.memory();

    let killed_ready = restarted(&mut platform);
    let pages = pages(&platform.tenant, count);
    let (fill, knot_answers) = fill(&mut platform, count);
    let after_filling = platform.herald.memory();
    platform.herald.stop().expect("herald stops");
    let stopped_ready = restarted(&mut platform);

    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let peak = mib(after_making.peak_bytes.max(after_filling.peak_bytes));
    let setting = || vec![("zones", count.into()), ("records_a_zone", zones::RECORDS_A_ZONE.into())];
    let line = |unit, ours: f64, goal: f64, details| {
        let mut line = Line {
            bench: "fleet",
            unit,
            less_is_better: true,
            ours: Some(ours),
            peer: None,
            setting: setting(),
            details,
            goals: Vec::new(),
        };
        line.goal(goal);
        line
    };
    let ready = killed_ready.max(stopped_ready);
    let slowest_page = pages.iter().map(|(_, p99_ms)| *p99_ms).fold(0.0, f64::max);
    vec![
        line(
            "s until an empty PoP serves all",
            fill.as_secs_f64(),
            FILL_S,
            vec![("ours_first_answer_s", figure(Some(knot_answers.as_secs_f64())))],
        ),
        line(
            "s from start to ready",
            ready.as_secs_f64(),
            READY_S,
            vec![
                ("after_kill_s", figure(Some(killed_ready.as_secs_f64()))),
                ("after_stop_s", figure(Some(stopped_ready.as_secs_f64()))),
            ],
        ),
        line(
            "MiB of herald at most",
            peak,
            MEMORY_MIB,
            vec![
                ("after_making_mib", figure(Some(mib(after_making.resident_bytes)))),
                ("restarted_and_filling_mib", figure(Some(mib(after_filling.resident_bytes)))),
                ("made_per_s", figure(Some(made_per_s))),
            ],
        ),
        line(
            "ms a page of zones at p99",
            slowest_page,
            PAGE_MS,
            pages.iter().map(|(name, p99_ms)| (*name, figure(Some(*p99_ms)))).collect(),
        ),
    ]
}

/// From the start of a herald that was killed, or has stopped, to its being ready.
fn restarted(platform: &mut Platform) -> Duration {
    platform.herald.kill();
    let start = Instant::now();
    platform.herald.restart();
    start.elapsed()
}

/// Starts a PoP that has nothing; until the control plane has its word for every zone, and until its Knot first answered. Then
/// every zone is asked for.
fn fill(platform: &mut Platform, count: u64) -> (Duration, Duration) {
    let operator = platform.herald.operator();
    let mut pop = platform.set_up_pop(platform.herald.pops);
    let start = Instant::now();
    pop.start();
    let answers = start.elapsed();
    wait_until(zones::sent_within(count), "the PoP to have all zones", || {
        let told = operator.get(&format!("/pops/{}", pop.name)).expect(200);
        let all = told["connected"] == true && told["zones_pending"] == 0 && told["zones_in_sync"] == count;
        if !all {
            std::thread::sleep(ASK_EVERY);
        }
        all
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", pop.tail()));
    let took = start.elapsed();
    let expected: Vec<(String, Ipv4Addr)> = (0..count).map(zones::proof).collect();
    let wrong = look(pop.listen, &expected).unwrap_or_else(|e| panic!("{e}\n{}", pop.tail()));
    assert!(wrong.is_empty(), "{} zones are not answered, {:?} is one", wrong.len(), wrong.first());
    platform.pops.push(pop);
    (took, answers)
}

/// How long a page takes at p99, by what is asked for. The pages lie anywhere in the list.
fn pages(api: &Api, count: u64) -> Vec<(&'static str, f64)> {
    let walk = |filter: &str| -> f64 {
        let mut cursor: Option<String> = None;
        let mut took_us = Vec::with_capacity(PAGES);
        for _ in 0..PAGES {
            let place = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let start = Instant::now();
            let page = api.get(&format!("/zones?limit=100{filter}{place}"));
            took_us.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
            // After the last page the first again.
            cursor = page.expect(200)["next_cursor"].as_str().map(str::to_owned);
        }
        took_us.sort_unstable();
        percentile_ms(&took_us, 0.99).expect("pages were read")
    };
    let rare = format!("shop-{:06}", count / 2);
    vec![
        ("all_ms", walk("")),
        ("by_label_ms", walk("&label=plan=gold")),
        ("by_status_ms", walk("&status=active")),
        ("by_rare_label_ms", walk("&label=plan=platinum")),
        ("by_two_labels_ms", walk("&label=plan=gold&label=plan=free")),
        ("by_nameserver_set_ms", walk("&nameserver_set=default")),
        ("by_pending_ms", walk("&status=pending")),
        ("by_name_ms", walk(&format!("&name={rare}"))),
        ("by_prefix_ms", walk(&format!("&name_prefix={rare}"))),
        ("by_prefix_of_many_ms", walk("&name_prefix=shop")),
        ("by_tree_ms", walk("&below=example")),
    ]
}
