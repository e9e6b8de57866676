//! The program behind `./dev sim`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::Parser;

/// Simulates the platform on virtual time.
#[derive(Parser)]
struct Arguments {
    /// Shows one run of this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Runs so many seeds instead, beginning with `--seed` [default: a new one]
    #[arg(long)]
    rounds: Option<u64>,
}

fn main() -> ExitCode {
    let Arguments { seed, rounds } = Arguments::parse();
    let first = seed.unwrap_or_else(sim::random::fresh_seed);
    let Some(rounds) = rounds else {
        return match sim::run(first, true) {
            Ok(hash) => {
                println!("seed {first}: all is right, trace {hash:016x}");
                ExitCode::SUCCESS
            }
            Err(what) => {
                eprintln!("{what}");
                ExitCode::FAILURE
            }
        };
    };
    println!("{rounds} seeds from {first}");
    let (next, failures) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= rounds {
                        return;
                    }
                    if let Err(what) = sim::run(first.wrapping_add(round), false) {
                        failures.fetch_add(1, Ordering::Relaxed);
                        eprintln!("{what}\n");
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    println!("{} of {rounds} seeds were right", rounds - failures);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
