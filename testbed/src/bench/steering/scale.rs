//! Very many steered names in one knotd: their memory beside that of plain names, and whether answers get slower.

use std::time::Duration;

use domain::base::iana::Rtype;

use super::flood::Questions;
use super::names::{self, Kind, NAMES_A_ZONE};
use super::pairs::{Numbers, Side, compare, pin};
use super::qps::{ASKER_CPU, SERVERS_CPU};
use crate::bench::Settings;
use crate::bench::report::{Line, figure};
use crate::platform::Platform;
use crate::process;
use crate::wait::wait_until;

/// Steered names.
const NAMES: u64 = 1_000_000;

/// Names of which few are loaded.
const FEW: u64 = NAMES_A_ZONE;

/// Different questions.
const QUESTIONS: usize = 100_000;

/// For how long knotd's memory has to stay the same to be taken for settled.
const SETTLED_FOR: Duration = Duration::from_secs(3);

/// Measures. What the benchmark is told as a number of zones is taken for thousands of names.
///
/// # Panics
/// If something is refused.
pub fn run(settings: &Settings) -> Vec<Line> {
    let count = settings.zones.map_or(NAMES, |zones| zones * NAMES_A_ZONE);
    let (plain, plain_bytes) = loaded("bench-scale-plain", count, Kind::Plain);
    let (steered, steered_bytes) = loaded("bench-scale-steered", count, Kind::Steered);
    let (few, _) = loaded("bench-scale-few", FEW, Kind::Steered);
    pin(std::process::id(), ASKER_CPU);
    let mut memory = Line {
        bench: "steering-scale",
        unit: "bytes a steered name",
        less_is_better: true,
        ours: Some(steered_bytes.saturating_sub(plain_bytes) as f64 / count as f64),
        peer: None,
        setting: vec![("names", count.into())],
        details: vec![
            ("plain_bytes_a_name", figure(Some(plain_bytes as f64 / count as f64))),
            ("all_bytes_a_name", figure(Some(steered_bytes as f64 / count as f64))),
        ],
        goals: Vec::new(),
    };
    memory.goal(300.0);
    let side =
        |platform: &Platform, of: u64| Side { server: platform.pops[0].listen, questions: questions(of) };
    let beside = |what, peer, ours: &Side, other: &Side| {
        let mut line = compare(what, peer, ours, other, 0.9);
        line.bench = "steering-scale";
        line
    };
    vec![
        memory,
        beside("the same names, with all loaded", "few loaded", &side(&steered, FEW), &side(&few, FEW)),
        beside("all names", "as many plain names", &side(&steered, count), &side(&plain, count)),
    ]
}

/// A platform with one PoP that has the names, and how much memory its knotd then has.
fn loaded(label: &str, count: u64, kind: Kind) -> (Platform, u64) {
    let mut platform = Platform::without_pops(label);
    names::make(&platform, count, kind);
    // The PoP gets all at once, as one that comes anew does.
    let mut pop = platform.set_up_pop(platform.herald.pops);
    pop.configure(|config| format!("{config}udp_workers = 1\ntcp_workers = 1\n"));
    pop.start();
    platform.pops.push(pop);
    platform.wait_until_in_sync();
    // It is started once more: what it is then is what it was told, and no trace of how.
    platform.pops[0].stop().unwrap_or_else(|e| panic!("{e}"));
    platform.pops[0].start();
    platform.wait_until_in_sync();
    let [knotd] = platform.pops[0].knotds()[..] else { panic!("one knotd a PoP") };
    let knotd = u32::try_from(knotd).expect("a process id");
    pin(knotd, SERVERS_CPU);
    let mut before = 0;
    wait_until(Duration::from_secs(120), "knotd's memory to settle", || {
        std::thread::sleep(SETTLED_FOR);
        let now = process::memory(knotd).resident_bytes;
        std::mem::replace(&mut before, now) == now
    })
    .unwrap_or_else(|e| panic!("{e}"));
    (platform, before)
}

fn questions(of: u64) -> Questions {
    let mut numbers = Numbers::new(3);
    Questions::new((0..QUESTIONS).map(|_| (names::name(numbers.next() % of), Rtype::A, None)))
}
