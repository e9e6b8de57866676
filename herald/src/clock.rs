//! The one place where the control plane reads the clock and draws chance.

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
    Context {
        principal,
        time_ms: now_ms(),
        entropy: entropy(),
        message,
        idempotency_key: None,
        confirmed: false,
    }
}

/// The time since some moment at the process's start: it never jumps.
pub fn uptime() -> std::time::Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// What a moment of [`uptime`] is in milliseconds since the Unix epoch.
pub fn uptime_ms(at: std::time::Duration) -> u64 {
    let ago = u64::try_from(uptime().saturating_sub(at).as_millis()).unwrap_or(u64::MAX);
    now_ms().saturating_sub(ago)
}
