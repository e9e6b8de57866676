//! A seeded simulation of the platform on virtual time.
//!
//! Writers, the real engine in steps on a store in memory, the real publisher's sessions, a network, and one to four PoPs, each
//! the real core of the agent on a real replica with a model of knotd. All that goes wrong is drawn from the seed; the same seed
//! is the same run. What must be so is looked at as it happens, and in the end every PoP has to hold and to answer just what it is to.

mod control;
mod knot;
mod link;
mod pop;
pub mod random;
mod record;
mod store;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use trace::Trace;
use world::World;

/// Runs one seed; gives the hash of all that happened.
///
/// # Errors
/// What wasn't as it must be, and what happened last.
pub fn run(seed: u64, is_shown: bool) -> Result<u64, String> {
    let dir = tempfile::tempdir_in(fast_dir()).map_err(|error| error.to_string())?;
    let mut trace = Trace::default();
    trace.is_shown = is_shown;
    let mut world = World::new(seed, dir.path(), trace);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("of no words")))
    });
    let hash = world.trace.hash();
    outcome.map(|()| hash).map_err(|what| format!("{}seed {seed}: {what}", world.trace.tail()))
}

/// Memory, where the system has it as a folder: nothing has to outlive the machine.
fn fast_dir() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.into() } else { std::env::temp_dir() }
}
