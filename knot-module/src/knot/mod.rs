//! What of knotd is touched, and all of the crate's `unsafe`: everything outside this folder is safe code.
//!
//! - [`abi`]: what `knot/module.h` declares. The build fails where that isn't as it is said there.
//! - [`entry`]: what knotd calls: loading, unloading and the hooks. No panic gets past it.
//! - [`query`], [`answer`]: a query and its answer, as the hooks see them.
//! - [`rcu`]: what queries read while it is replaced.

mod abi;
mod answer;
mod entry;
mod query;
mod rcu;
mod signals;

pub use answer::{Answer, Fate, Rdatas, Replaced, Section};
pub use entry::{Loading, Priority};
pub use query::Query;
pub use rcu::{Retired, Shared, free_retired, wait_for_queries};
pub use signals::spawn_without_signals;

/// Where an answer stands: what a hook is told and tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was found yet.
    Begin,
    /// The name exists, and nothing of the type.
    NoData,
    /// The answer is there.
    Hit,
    /// The name doesn't exist.
    Miss,
    /// The name is in a delegated zone.
    Delegation,
    /// An alias was put, and what it points to is to be found.
    Follow,
    /// There was no room.
    Truncated,
    /// SERVFAIL.
    Error,
}

/// What a hook at the beginning of a query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// knotd goes on.
    GoOn,
    /// The answer is complete.
    Done,
    /// The answer is the response code of the query alone.
    Fail,
    /// There is no answer.
    Drop,
}
