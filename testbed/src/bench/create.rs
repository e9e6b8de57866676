//! A new zone: from the moment it was due to be made by the API until the last of three PoPs answers it.

use std::net::SocketAddr;
use std::time::Duration;

use super::Settings;
use super::open_loop::{Figures, POPS, Run};
use super::report::{Line, figure, percentile_ms};
use super::zones;
use crate::http;

/// With so many zones loaded, how long it may take at the 99th percentile.
const SETTINGS: [(u64, f64); 2] = [(1_000, 100.0), (100_000, 2_000.0)];

/// How many are made, in an open loop.
const CREATED: u64 = 300;
const CREATED_PER_S: u32 = 10;

/// Measures all settings, or the one that is asked for.
pub fn run(settings: &Settings) -> Vec<Line> {
    let all = SETTINGS.iter().copied();
    match settings.zones {
        Some(zones) => {
            let goal_ms =
                all.clone().find(|(most, _)| zones <= *most).map_or(SETTINGS[1].1, |(_, goal)| goal);
            vec![measure(zones, goal_ms, CREATED.min(zones))]
        }
        None => all.map(|(zones, goal_ms)| measure(zones, goal_ms, CREATED)).collect(),
    }
}

fn measure(loaded: u64, goal_ms: f64, count: u64) -> Line {
    let platform = zones::platform("bench-create", POPS, loaded);
    let api = platform.herald.api;
    let authorization = format!("Authorization: Bearer {}", platform.tenant.token());
    let servers: Vec<SocketAddr> = platform.pops.iter().map(|pop| pop.listen).collect();
    let request = |zone: u64, step: usize, out: &mut Vec<u8>| {
        if step == 0 {
            let body = zones::body(zone).to_string();
            out.extend(http::request("POST", "/api/v1/zones", api, &authorization, &body));
        }
        step == 0
    };
    let run = Run { first_change: loaded, count, per_s: CREATED_PER_S, far: Duration::ZERO };
    let seen = run
        .measure(api, &servers, zones::proof, request, &|| false)
        .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()));
    let mut figures = Figures::default();
    figures.add(seen);
    figures.sort();
    let mut line = Line {
        bench: "create",
        unit: "ms at p99",
        less_is_better: true,
        ours: percentile_ms(&figures.last_us, 0.99),
        peer: None,
        setting: vec![
            ("loaded_zones", loaded.into()),
            ("created", count.into()),
            ("created_per_s", CREATED_PER_S.into()),
        ],
        details: vec![
            ("ours_p50_ms", figure(percentile_ms(&figures.last_us, 0.5))),
            ("ours_max_ms", figure(percentile_ms(&figures.last_us, 1.0))),
            ("ours_unseen", figures.unseen.into()),
        ],
        goals: Vec::new(),
    };
    line.goal(goal_ms);
    line
}
