//! A sample of what `./dev soak fuzz` does at length: the seeds, and mutations of them. `FUZZ_SEED` makes a sample again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuzz::mutate::{Random, mutant};
use fuzz::{TARGETS, found, target};

/// Mutations of each target: so many, but for no longer.
const MUTATIONS: usize = 20_000;
const AT_MOST: Duration = Duration::from_secs(3);

/// Runs the seeds and mutations of them.
fn sample(name: &str) {
    let target = target(name);
    let given = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_micros() as u64);
    let seed: u64 = given.unwrap_or_else(fresh);
    println!("{name}: seed {seed}");
    let seeds = [(target.seeds)(), found(name)].concat();
    assert!(!seeds.is_empty());
    let check = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
            eprintln!("{name}: seed {seed}: the input was b\"{}\"", input.escape_ascii());
            resume_unwind(panic);
        }
    };
    seeds.iter().for_each(|seed| check(seed));
    let mut random = Random::new(seed);
    let until = Instant::now() + AT_MOST;
    let mut tried = 0;
    while tried < MUTATIONS && Instant::now() < until {
        check(&mutant(&seeds, target.words, &mut random));
        tried += 1;
    }
    println!("{name}: {tried} mutations");
    assert!(tried > 30, "{name}: only {tried} mutations in {AT_MOST:?}");
}

#[test]
fn zone_files() {
    sample("zone_file");
}

#[test]
fn frames() {
    sample("frames");
}

#[test]
fn sessions() {
    sample("session");
}

#[test]
fn log_entries() {
    sample("log");
}

#[test]
fn requests() {
    sample("api");
}

#[test]
fn agents() {
    sample("agent");
}

/// A seed that is refused at its first octet teaches a fuzzer nothing.
#[test]
fn every_target_has_seeds_and_a_name_of_its_own() {
    for one in TARGETS {
        assert!((one.seeds)().len() >= 9, "{} has few seeds", one.name);
        assert_eq!(TARGETS.iter().filter(|other| other.name == one.name).count(), 1);
    }
}

#[test]
fn tables_of_places() {
    sample("geo");
}

#[test]
fn steering() {
    sample("steering");
}
