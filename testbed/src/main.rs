//! `testbed bench`: behind `./dev`.

use clap::{Parser, Subcommand};
use testbed::bench;

/// Starts Heralds, PoPs and their peers on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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

fn main() {
    match Arguments::parse().command {
        Command::Bench { name, json, only } => bench::run(name, only, json),
    }
}
