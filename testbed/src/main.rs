//! The program behind `./dev run`, `./dev bench` and `./dev soak`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testbed::{bench, run, soak};

/// Starts Heralds, PoPs and their peers on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The platform on this machine, until Ctrl-C.
    Run(run::Arguments),
    /// Measures, against a peer in the same run.
    Bench {
        /// What.
        name: bench::Name,
        /// One JSON object a line instead of a table.
        #[arg(long)]
        json: bool,
        /// One side alone, while working on it.
        #[arg(long, value_enum, default_value_t)]
        only: bench::Side,
        /// With so many zones of 10 records loaded
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        zones: Option<u64>,
    },
    /// A campaign of faults.
    Soak {
        /// Which.
        name: soak::Name,
        /// How many rounds of each kind.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// Makes a campaign again [default: a new one]
        #[arg(long)]
        seed: Option<u64>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Bench { name, json, only, zones } => {
            bench::run(name, &bench::Settings { side: only, zones }, json);
        }
        Command::Soak { name, rounds, seed } => soak::run(name, rounds, seed),
        Command::Run(arguments) => {
            if let Err(problem) = run::run(&arguments) {
                eprintln!("dev run: {problem}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
