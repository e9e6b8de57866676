//! From the request that changes a weight to the changed answer at the last of three PoPs, with very many steered names loaded.

use std::net::SocketAddr;
use std::time::Duration;

use super::names::{self, Kind, NAMES_A_ZONE};
use crate::bench::Settings;
use crate::bench::open_loop::{Figures, POPS, Run};
use crate::bench::report::{Line, figure, percentile_ms};
use crate::http;
use crate::platform::Platform;

/// Steered names that are loaded.
const NAMES: u64 = 1_000_000;

const CHANGES: u64 = 500;
const CHANGES_PER_S: u32 = 50;

/// Measures. What the benchmark is told as a number of zones is taken for thousands of names.
///
/// # Panics
/// If something is refused.
pub fn run(settings: &Settings) -> Vec<Line> {
    let count = settings.zones.map_or(NAMES, |zones| zones * NAMES_A_ZONE);
    let platform = Platform::start("bench-steer-propagation", POPS);
    names::make(&platform, count, Kind::Steered);
    let mut figures = Figures::default();
    figures.add(measure(&platform, count));
    figures.sort();
    let mut line = Line {
        bench: "steer-propagation",
        unit: "ms at the median",
        less_is_better: true,
        ours: percentile_ms(&figures.last_us, 0.5),
        peer: None,
        setting: vec![("names", count.into()), ("changes_per_s", CHANGES_PER_S.into())],
        details: vec![
            ("ours_p99_ms", figure(percentile_ms(&figures.last_us, 0.99))),
            ("ours_changes", figures.last_us.len().into()),
            ("ours_unseen", figures.unseen.into()),
        ],
        goals: Vec::new(),
    };
    line.goal(5.0);
    line.goal_detail("ours_p99_ms", 25.0);
    vec![line]
}

/// All the weight of a name's pool goes from its first endpoint to the second: a change is seen when that one answers.
fn measure(platform: &Platform, count: u64) -> Vec<crate::observe::Seen> {
    let api = platform.herald.api;
    let authorization = format!("Authorization: Bearer {}", platform.tenant.token());
    let servers: Vec<SocketAddr> = platform.pops.iter().map(|pop| pop.listen).collect();
    // Changes go to zones far from each other.
    let number = |change: u64| change * (count / CHANGES).max(1);
    let run = Run { first_change: 0, count: CHANGES.min(count), per_s: CHANGES_PER_S, far: Duration::ZERO };
    let arrival = |change: u64| (names::name(number(change)), names::addresses(number(change))[1]);
    let request = |change: u64, step: usize, out: &mut Vec<u8>| {
        if step == 0 {
            let number = number(change);
            let path = format!("/api/v1/zones/{}/pools/{}", names::zone(number), names::label(number));
            let body = names::pool(number, [0, 1]).to_string();
            out.extend(http::request("PUT", &path, api, &authorization, &body));
        }
        step == 0
    };
    run.measure(api, &servers, arrival, request, &|| false)
        .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()))
}
