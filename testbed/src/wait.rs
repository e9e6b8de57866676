//! Waiting for something to become true, with a deadline instead of a guess.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `condition` gives something, at most `within`.
///
/// # Errors
/// Says what was waited for and for how long, if the deadline passes first.
pub fn wait_for<T>(
    within: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(TimedOut { what: what.to_owned(), within });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until `condition` holds, at most `within`.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<(), TimedOut> {
    wait_for(within, what, || condition().then_some(()))
}

/// A deadline passed.
#[derive(Debug, thiserror::Error)]
#[error("waited {within:?} in vain: {what}")]
pub struct TimedOut {
    what: String,
    within: Duration,
}
