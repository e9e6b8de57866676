//! A seeded simulation of the platform on virtual time.
//!
//! Writers, the real engine in steps on a store in memory, the real publisher's sessions, a network, and one to four PoPs, each
//! the real core of the agent on a real replica with a model of knotd. All that goes wrong is drawn from the seed; the same seed
//! is the same run. What must be so is looked at as it happens, and in the end every PoP has to hold and to answer just what it is to.

mod control;
mod knot;
mod link;
pub mod mutation;
mod pop;
pub mod random;
mod record;
mod store;
#[cfg(test)]
mod tests;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use mutation::Mutation;
use trace::Trace;
use world::World;

/// What a run went through, by the words of `World`: it shows that what is built for a case comes upon that case.
pub type Met = BTreeMap<&'static str, u64>;

/// A run in which all was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Hash of all that happened.
    pub hash: u64,
    /// What was met.
    pub met: Met,
}

/// Runs one seed.
///
/// # Errors
/// What wasn't as it must be, and what happened last.
pub fn run(seed: u64, is_shown: bool, mutation: Option<Mutation>) -> Result<Run, String> {
    let dir = tempfile::tempdir_in(fast_dir()).map_err(|error| error.to_string())?;
    let mut trace = Trace::default();
    trace.is_shown = is_shown;
    let mut world = World::new(seed, dir.path(), trace, mutation);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("of no words")))
    });
    let (hash, met) = (world.trace.hash(), std::mem::take(&mut world.met));
    let run = outcome.map(|()| Run { hash, met });
    run.map_err(|what| format!("{}seed {seed}: {what}", world.trace.tail()))
}

/// Runs these seeds on all cores; `each` is told of every one that has ended. Gives how many were wrong, and what was met.
pub fn run_all(
    seeds: impl IntoIterator<Item = u64, IntoIter: Send>,
    mutation: Option<Mutation>,
    each: impl Fn(&Result<Run, String>) + Sync,
) -> (u64, Met) {
    let seeds = Mutex::new(seeds.into_iter());
    let result = Mutex::new((0, Met::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                        return;
                    };
                    let run = run(seed, false, mutation);
                    each(&run);
                    let (wrong, met) = &mut *result.lock().unwrap_or_else(PoisonError::into_inner);
                    match run {
                        Ok(run) => run
                            .met
                            .into_iter()
                            .for_each(|(what, count)| *met.entry(what).or_default() += count),
                        Err(_) => *wrong += 1,
                    }
                }
            });
        }
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Memory, where the system has it as a folder: nothing has to outlive the machine.
fn fast_dir() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.into() } else { std::env::temp_dir() }
}
