//! Steering: which answer a client gets. The same code decides in knotd's query path, in the API's `explain` and in tests.
//!
//! Pure: a random draw, the client and the facts about its address come in; nothing here does I/O, reads a clock or spawns.

mod continents;
pub mod counts;
mod decide;
pub mod explain;
pub mod firewall;
pub mod geo;
mod health;
pub mod link;
pub mod lint;
pub mod lookup;
mod part;
pub mod query_log;
pub mod recent;
mod view_index;

pub use decide::{Candidates, Client, Decision, Outcome, PoolVerdict, RuleVerdict, Trace};
pub use health::{Health, Knowledge, MONITORS_MAX, Verdicts};
pub use part::policy::{Condition, pop_hash};
pub use part::pool::{PoolAnswers, candidates};
pub use part::{CompileError, Part, RrsetRef, rrset_octets};
pub use view_index::ViewIndex;
