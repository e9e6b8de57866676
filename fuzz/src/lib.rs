//! What is fuzzed: one function a target, which takes any bytes and panics if something isn't right.
//!
//! Three drive the same functions: `./dev test` a seeded sample of mutations of the seeds (`tests/sample.rs`),
//! `./dev soak fuzz` libFuzzer with coverage (`libfuzzer/`), and a single input that was found before
//! (`cargo run -p fuzz -- TARGET FILE`).

mod agent;
mod api;
mod control_plane;
mod frames;
mod geo;
mod log;
pub mod mutate;
mod steering;
mod zone_file;

use std::fs;
use std::path::Path;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that inputs are made of.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "zone_file", run: zone_file::run, seeds: zone_file::seeds, words: zone_file::WORDS },
    Target { name: "frames", run: frames::run, seeds: frames::seeds, words: &[] },
    Target { name: "session", run: frames::run_session, seeds: frames::session_seeds, words: &[] },
    Target { name: "log", run: log::run, seeds: log::seeds, words: &[] },
    Target { name: "api", run: api::run, seeds: api::seeds, words: api::WORDS },
    Target { name: "geo", run: geo::run, seeds: geo::seeds, words: &[] },
    Target { name: "agent", run: agent::run, seeds: agent::seeds, words: &[] },
    Target { name: "steering", run: steering::run, seeds: steering::seeds, words: &[] },
];

/// Inputs that were findings once, kept in `found/TARGET/` so that they are never one again.
///
/// # Panics
/// If they can't be read.
pub fn found(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("found").join(name);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| fs::read(entry.expect("an entry").path()).expect("a file")).collect()
}

/// The target of this name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> Target {
    TARGETS
        .into_iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| panic!("no target is named {name}"))
}
