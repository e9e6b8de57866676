//! The one place where the control plane reads the clock and draws chance for commands.

use herald_core::account::Principal;
use herald_core::command::Context;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Fresh random bytes.
///
/// # Panics
/// If the system has none, without which no secret could be made.
pub fn entropy() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// The circumstances of a command that somebody gives now.
pub fn context(principal: Principal, message: Option<String>) -> Context {
    Context { principal, time_ms: now_ms(), entropy: entropy(), message, idempotency_key: None }
}
