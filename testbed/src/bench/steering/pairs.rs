//! Two servers, or two kinds of question, compared in pairs of runs that follow each other at once: what disturbs the machine
//! disturbs both.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::flood::{self, Questions};
use crate::bench::Line;
use crate::bench::report::figure;

/// Pairs that are measured: of so many the third smallest and the third largest ratio enclose the median in 96 of 100 cases.
const PAIRS: usize = 12;

/// How many ratios at either end lie outside of the interval that is told.
const OUTSIDE: usize = 2;

/// How long one side of a pair is asked.
const RUN: Duration = Duration::from_secs(1);

/// Something to be asked.
#[derive(Clone, Debug)]
pub struct Side {
    /// Where.
    pub server: SocketAddr,
    /// What.
    pub questions: Questions,
}

/// Measures `ours` beside `peer`, and how often ours answers when the peer answers once.
///
/// # Panics
/// If one of them doesn't answer.
pub fn compare(setting: &'static str, peer_name: &'static str, ours: &Side, peer: &Side, goal: f64) -> Line {
    let rate = |side: &Side| {
        let outcome =
            flood::run(side.server, &side.questions, RUN).unwrap_or_else(|e| panic!("{setting}: {e}"));
        assert_eq!(outcome.others, 0, "{setting}: replies that are no answers");
        outcome.rate_per_s()
    };
    // The first run of each warms caches.
    rate(ours);
    rate(peer);
    let mut pairs: Vec<(f64, f64)> = (0..PAIRS)
        .map(|pair| {
            if pair % 2 == 0 {
                let ours = rate(ours);
                (ours, rate(peer))
            } else {
                let peer = rate(peer);
                (rate(ours), peer)
            }
        })
        .collect();
    pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let ratio = |place: usize| pairs[place].0 / pairs[place].1;
    let median = f64::midpoint(ratio(PAIRS / 2 - 1), ratio(PAIRS / 2));
    let (least, most) = (ratio(OUTSIDE), ratio(PAIRS - 1 - OUTSIDE));
    let mut rates: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
    rates.sort_by(f64::total_cmp);
    let peer_rate = f64::midpoint(rates[PAIRS / 2 - 1], rates[PAIRS / 2]);
    Line {
        bench: "steering-qps",
        unit: "answers/s",
        less_is_better: false,
        // So that the ratio that is shown is the median of the pairs' ratios.
        ours: Some(peer_rate * median),
        peer: Some(peer_rate),
        setting: vec![("answers", setting.into()), ("beside", peer_name.into())],
        details: vec![
            ("pairs", PAIRS.into()),
            ("ratio_least", figure(Some(least))),
            ("ratio_most", figure(Some(most))),
        ],
        goals: vec![(format!("≥ {goal}x"), Some(median >= goal))],
    }
}

/// Binds all threads of a process to one CPU.
///
/// # Panics
/// If that fails.
pub fn pin(process: u32, cpu: usize) {
    let output = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &cpu.to_string(), &process.to_string()])
        .output()
        .unwrap_or_else(|e| panic!("taskset: {e}"));
    assert!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
}

/// A seeded source of numbers, so that each run asks the same.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// From a seed other than zero.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one (xorshift).
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
