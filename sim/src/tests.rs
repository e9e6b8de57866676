//! A sample of the simulation. `./dev soak sim` runs more.

use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;

use super::*;

/// Seeds that once found something.
const REGRESSIONS: [u64; 10] = [4, 6, 14, 23, 46, 73, 89, 98, 1560, 8257];

/// How many seeds are run each time, the same ones: what a change breaks is then that change's fault. `./dev soak sim` takes
/// fresh ones.
const SAMPLE: u64 = 200;

/// How many seeds a fault put in on purpose may take to be found.
const MUTATION_SEEDS: u64 = 24;

fn assert_right(seeds: impl IntoIterator<Item = u64, IntoIter: Send>) -> Met {
    let failures = Mutex::new(Vec::new());
    let (_, met) = run_all(seeds, None, |run| {
        if let Err(what) = run {
            failures.lock().unwrap_or_else(PoisonError::into_inner).push(what.clone());
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(
        failures.is_empty(),
        "{}\n\n{} seeds are wrong; `./dev sim --seed N` shows one",
        failures.join("\n\n"),
        failures.len()
    );
    met
}

#[test]
fn seeds_that_found_something_are_right() {
    assert_right(REGRESSIONS);
}

#[test]
fn a_sample_is_right() {
    println!("seeds 1 to {SAMPLE}");
    assert_right(1..=SAMPLE);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3] {
        let runs = [(); 2].map(|()| run(seed, false, None).unwrap());
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
    assert_ne!(run(1, false, None).unwrap().hash, run(2, false, None).unwrap().hash);
}

#[test]
fn faults_put_in_on_purpose_are_found() {
    for mutation in Mutation::value_variants() {
        let found = (1..=MUTATION_SEEDS).find(|seed| run(*seed, false, Some(*mutation)).is_err());
        assert!(found.is_some(), "{mutation:?} goes unnoticed in {MUTATION_SEEDS} seeds");
    }
}
