//! The program behind `./dev sim` and `./dev soak sim`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use sim::mutation::Mutation;

/// After so many seeds it is said how far it is.
const PROGRESS_SEEDS: u64 = 500;

/// Simulates the platform on virtual time: shows one run, or with `--rounds` runs many and shows those that aren't right.
#[derive(Parser)]
struct Arguments {
    /// Shows the run of this seed [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
    /// Runs so many seeds instead, beginning with that one
    #[arg(long, overrides_with = "rounds")]
    rounds: Option<u64>,
    /// Puts a fault in on purpose, which has to be found
    #[arg(long)]
    mutation: Option<Mutation>,
}

fn main() -> ExitCode {
    let Arguments { seed, rounds, mutation } = Arguments::parse();
    let first = seed.unwrap_or_else(sim::random::fresh_seed);
    let is_right = match rounds {
        None => show(first, mutation),
        Some(rounds) => run_many(first, rounds, mutation),
    };
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(seed: u64, mutation: Option<Mutation>) -> bool {
    match sim::run(seed, true, mutation) {
        Ok(run) => println!("seed {seed}: all is right, trace {:016x}", run.hash),
        Err(what) => {
            eprintln!("{what}");
            return false;
        }
    }
    true
}

fn run_many(first: u64, rounds: u64, mutation: Option<Mutation>) -> bool {
    println!("{rounds} seeds from {first}");
    let (ended, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    let seeds = (0..rounds).map(|round| first.wrapping_add(round));
    let (failures, met) = sim::run_all(seeds, mutation, |run| {
        if let Err(what) = run {
            wrong.fetch_add(1, Ordering::Relaxed);
            eprintln!("{what}\n");
        }
        let ended = ended.fetch_add(1, Ordering::Relaxed) + 1;
        if ended.is_multiple_of(PROGRESS_SEEDS) {
            println!("{ended} of {rounds}, {} wrong", wrong.load(Ordering::Relaxed));
        }
    });
    for (what, count) in met {
        println!("{count:>10} {what}");
    }
    println!("{} of {rounds} seeds were right", rounds - failures);
    failures == 0
}
