//! The program behind `./dev run`, `./dev bench` and `./dev soak`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testbed::{bench, run};

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
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Bench { name, json, only } => bench::run(name, only, json),
        Command::Run(arguments) => {
            if let Err(problem) = run::run(&arguments) {
                eprintln!("dev run: {problem}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
