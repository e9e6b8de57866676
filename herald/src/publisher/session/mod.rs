//! One session of a PoP: it says what it has, is sent what it lacks, and confirms.
//!
//! ```text
//!   socket ──▶ io ──frames──▶ Session::take ──▶ tracker, refusals, status
//!                                   │
//!                            what is left to send
//!                                   ▼
//!   socket ◀── io ◀──bytes─── Session::poll: verdicts first, then deltas, small whole zones, then a part of a large one
//! ```
//!
//! [`Session`] decides and is pure: it has no socket, task or clock. `io` moves the bytes and tells the time.
//!
//! Nothing waits for a receipt before more is sent. What is left to send is no queue of changes but the difference
//! between the state last looked at and the newest one, and a list of zones to be sent whole.

mod aliases;
mod compare;
mod core;
mod feed;
mod gaps;
mod holds;
pub(super) mod io;
mod monitors;
mod query_logs;

pub use self::core::{Next, Session};

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The network, or TLS on it.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// Something that isn't this protocol.
    #[error(transparent)]
    Frame(#[from] herald_wire::stream::FrameError),
    /// A frame that does not belong here.
    #[error("it sent something that is not due: {0}")]
    OutOfTurn(&'static str),
    /// It may not have a session.
    #[error("it was refused: {0}")]
    Rejected(String),
    /// A newer session of the same PoP has taken its place.
    #[error("a newer session has taken its place")]
    Replaced,
    /// It was asked in the midst of the session what it holds.
    #[error("it did not say for {0} s what it holds")]
    NoInventory(u64),
    /// Nothing was heard.
    #[error("it was silent for {0} s")]
    Silent(u64),
}
