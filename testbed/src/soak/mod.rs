//! Campaigns: faults under load, drawn from a seed. `./dev soak` runs them at length, the tests a sample.

pub mod kill;
mod random;

pub use random::fresh_seed;

/// A campaign, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// `kill -9` of herald, agents and knotds while changes are written.
    Kill,
}

/// Runs one and says how it went.
///
/// # Panics
/// At the first thing that isn't right.
pub fn run(name: Name, rounds: usize, seed: Option<u64>) {
    let seed = seed.unwrap_or_else(fresh_seed);
    match name {
        Name::Kill => {
            let outcome = kill::run(rounds, seed);
            println!("{outcome}");
        }
    }
}
