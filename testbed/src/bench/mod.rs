//! Benchmarks: ours and the peer in the same run, taking turns.

mod propagation;
mod report;
mod writes;

use report::Line;

/// A benchmark, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Durable changes of one RRset by HTTP.
    Writes,
    /// From a request to the answer at the last of three PoPs.
    Propagation,
}

/// Which side runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// Both, taking turns.
    #[default]
    Both,
    /// Koder Herald alone.
    Ours,
    /// The peer alone.
    Peer,
}

impl Side {
    fn ours(self) -> bool {
        self != Self::Peer
    }

    fn peer(self) -> bool {
        self != Self::Ours
    }
}

/// Runs one benchmark and prints a line a setting: JSON objects, or a table for people.
pub fn run(name: Name, side: Side, json: bool) {
    let lines = match name {
        Name::Writes => writes::run(side),
        Name::Propagation => propagation::run(side),
    };
    if json {
        for line in &lines {
            println!("{}", line.to_json());
        }
    } else {
        println!("{}", Line::table(&lines));
    }
}
