//! Why a command is not carried out.

use crate::{Name, Rtype};

/// A refusal: nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Rejection {
    /// What kind.
    pub kind: RejectionKind,
    /// What is wrong and what to do, in words.
    pub detail: String,
    /// The offending items.
    pub items: Vec<RejectedItem>,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionKind {
    /// No valid credential is behind it.
    Unauthenticated,
    /// It is there, and the credential doesn't allow it.
    Forbidden,
    /// It isn't there, or isn't to be seen.
    NotFound,
    /// It exists already, or is in use.
    Conflict,
    /// A precondition of the request does not hold.
    Precondition,
    /// The content was prepared for a state that has passed: prepare again.
    Stale,
    /// The final state would not be right.
    Invalid,
    /// Another request had the same idempotency key.
    KeyReused,
    /// The final state would be over a limit of its tenant.
    Quota,
    /// Much of a zone would go: the caller is to say that it is meant.
    NeedsConfirmation,
}

/// One offending item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RejectedItem {
    /// Place among the command's zones.
    pub zone: Option<usize>,
    /// Place among the zone's edits.
    pub edit: Option<usize>,
    /// What is wrong with it.
    pub detail: String,
    /// Owner name that it is about.
    pub owner: Option<Name>,
    /// Type that it is about.
    pub rtype: Option<Rtype>,
    /// Where in what was given it is, as a JSON pointer.
    pub field: Option<String>,
}

impl Rejection {
    /// A refusal without items.
    pub fn new(kind: RejectionKind, detail: impl Into<String>) -> Rejection {
        Rejection { kind, detail: detail.into(), items: Vec::new() }
    }

    /// The final state would not be right.
    pub fn invalid(detail: impl Into<String>) -> Rejection {
        Rejection::new(RejectionKind::Invalid, detail)
    }

    /// It isn't there or isn't to be seen: one answer for both.
    pub fn not_found(what: impl std::fmt::Display) -> Rejection {
        Rejection::new(RejectionKind::NotFound, format!("there is no {what} that you can see"))
    }

    /// It is in the way of something.
    pub fn conflict(detail: impl Into<String>) -> Rejection {
        Rejection::new(RejectionKind::Conflict, detail)
    }

    /// It isn't allowed.
    pub fn forbidden(detail: impl Into<String>) -> Rejection {
        Rejection::new(RejectionKind::Forbidden, detail)
    }

    /// Adds items.
    pub fn with_items(mut self, items: Vec<RejectedItem>) -> Rejection {
        self.items = items;
        self
    }
}
