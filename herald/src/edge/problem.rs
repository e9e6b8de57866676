//! Errors of the API: problem documents (RFC 9457).

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use herald_core::check::Finding;
use herald_core::rdata::format_rtype;
use herald_core::rejection::{RejectedItem, Rejection, RejectionKind};
use herald_wire::api::{Problem, ProblemItem};

use crate::engine::SubmitError;
use crate::history::HistoryError;

/// More of a detail or a pointer is not told.
const CHARS_MAX: usize = 500;

/// Of more bad items nobody is told at once.
pub const ITEMS_MAX: usize = 100;

/// Kinds of error: the last part of a problem's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Not JSON, unknown or missing fields, a bad parameter.
    Malformed,
    /// No valid token.
    Unauthenticated,
    /// The token's scope doesn't allow it.
    Forbidden,
    /// Not there, or not to be seen.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The request took too long to arrive.
    Timeout,
    /// It exists already, is in use, or the proof was not found.
    Conflict,
    /// Prepared for a state that has passed: to be prepared again, and if that doesn't help a conflict.
    Stale,
    /// So old that it is not kept any more.
    Gone,
    /// A precondition did not hold.
    PreconditionFailed,
    /// The body is over the limit.
    TooLarge,
    /// The body is of another type.
    UnsupportedMediaType,
    /// The body is compressed in another way.
    UnsupportedEncoding,
    /// Well-formed, but the final state would not be right.
    Invalid,
    /// The final state would be over a limit of the tenant.
    QuotaExceeded,
    /// Another request had the same idempotency key.
    IdempotencyKeyReused,
    /// Too many requests: come again later.
    RateLimited,
    /// Much of a zone would go: to be repeated with `confirm=shrink` if that is meant.
    NeedsConfirmation,
    /// Shutting down, or the store can't be written.
    Unavailable,
}

impl Code {
    /// The word in the problem's `type`, the status, and the title.
    fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Code::Malformed => ("malformed", StatusCode::BAD_REQUEST, "The request is malformed"),
            Code::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED, "No valid token"),
            Code::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "Not allowed"),
            Code::NotFound => ("not_found", StatusCode::NOT_FOUND, "Not found"),
            Code::MethodNotAllowed => {
                ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            }
            Code::Timeout => ("timeout", StatusCode::REQUEST_TIMEOUT, "The request took too long"),
            Code::Conflict | Code::Stale => ("conflict", StatusCode::CONFLICT, "Conflict"),
            Code::Gone => ("gone", StatusCode::GONE, "Not kept any more"),
            Code::PreconditionFailed => {
                ("precondition_failed", StatusCode::PRECONDITION_FAILED, "Precondition failed")
            }
            Code::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE, "The request is too large"),
            Code::UnsupportedMediaType => {
                ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type")
            }
            Code::UnsupportedEncoding => {
                ("unsupported_encoding", StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported content encoding")
            }
            Code::Invalid => {
                ("invalid", StatusCode::UNPROCESSABLE_ENTITY, "The final state would not be right")
            }
            Code::QuotaExceeded => ("quota_exceeded", StatusCode::FORBIDDEN, "Over a limit of the tenant"),
            Code::IdempotencyKeyReused => (
                "idempotency_key_reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The idempotency key was used for another request",
            ),
            Code::RateLimited => ("rate_limited", StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
            Code::NeedsConfirmation => {
                ("needs_confirmation", StatusCode::PRECONDITION_REQUIRED, "To be confirmed")
            }
            Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
        }
    }
}

/// An error to be answered. Boxed, since results carry it everywhere and it is rare.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Content>);

#[derive(Clone, Debug)]
struct Content {
    code: Code,
    detail: String,
    items: Vec<ProblemItem>,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// An error without items; `detail` says what is wrong and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> ApiError {
        let retry_after_s = (code == Code::Unavailable).then_some(1);
        ApiError(Box::new(Content { code, detail: capped(detail.into()), items: Vec::new(), retry_after_s }))
    }

    /// [`Code::Malformed`].
    pub fn malformed(detail: impl Into<String>) -> ApiError {
        ApiError::new(Code::Malformed, detail)
    }

    /// [`Code::RateLimited`]: it may be tested again after this time.
    pub fn tested_lately(what: &str, wait: std::time::Duration) -> ApiError {
        let detail = format!("the {what} was tested a moment ago: a test is at most every 5 seconds");
        ApiError::new(Code::RateLimited, detail).retry_after(wait.as_secs() + 1)
    }

    /// [`Code::Invalid`], about one item.
    pub fn invalid_at(pointer: impl Into<String>, detail: impl Into<String>) -> ApiError {
        ApiError::new(Code::Invalid, "").with_items(vec![item(pointer, detail)])
    }

    /// Adds the offending items, at most [`ITEMS_MAX`]; an empty detail becomes that of the first.
    pub fn with_items(self, items: Vec<ProblemItem>) -> ApiError {
        let count = items.len() as u64;
        self.with_some_items(items, count)
    }

    /// Adds some of the offending items, of which there are so many in all.
    pub fn with_some_items(mut self, mut items: Vec<ProblemItem>, count: u64) -> ApiError {
        items.truncate(ITEMS_MAX);
        for item in &mut items {
            item.detail = capped(std::mem::take(&mut item.detail));
            item.pointer = capped(std::mem::take(&mut item.pointer));
        }
        if let (true, Some(first)) = (self.0.detail.is_empty(), items.first()) {
            self.0.detail.clone_from(&first.detail);
        }
        match count {
            0 | 1 => {}
            _ if count == items.len() as u64 => {
                self.0.detail.push_str(&format!("; {count} items are wrong"));
            }
            _ => {
                let more = format!("; {count} items are wrong, and the first {} are told", items.len());
                self.0.detail.push_str(&more);
            }
        }
        self.0.items = items;
        self
    }

    /// Says after how many seconds it may go well: at least one.
    pub fn retry_after(mut self, seconds: u64) -> ApiError {
        self.0.retry_after_s = Some(seconds.max(1));
        self
    }

    /// The same error, said of the item at this pointer.
    pub fn at(self, pointer: impl Into<String>) -> ApiError {
        let items = vec![item(pointer, self.0.detail.clone())];
        self.with_items(items)
    }

    /// A refusal of the engine, its items found in the request by `pointers`.
    pub fn rejected(rejection: Rejection, pointers: Pointers) -> ApiError {
        let code = match rejection.kind {
            RejectionKind::Unauthenticated => Code::Unauthenticated,
            RejectionKind::Forbidden => Code::Forbidden,
            RejectionKind::NotFound => Code::NotFound,
            RejectionKind::Conflict => Code::Conflict,
            RejectionKind::Stale => Code::Stale,
            RejectionKind::Precondition => Code::PreconditionFailed,
            RejectionKind::Invalid => Code::Invalid,
            RejectionKind::KeyReused => Code::IdempotencyKeyReused,
            RejectionKind::Quota => Code::QuotaExceeded,
            RejectionKind::NeedsConfirmation => Code::NeedsConfirmation,
        };
        let items = rejection.items.into_iter().map(|item| pointers.item(item)).collect();
        ApiError::new(code, rejection.detail).with_items(items)
    }

    /// A command that was not carried out.
    pub fn not_submitted(error: SubmitError, pointers: Pointers) -> ApiError {
        match error {
            SubmitError::Rejected(rejection) => ApiError::rejected(rejection, pointers),
            SubmitError::Unavailable(detail) => ApiError::new(Code::Unavailable, detail),
        }
    }

    /// The offending items; the error itself where it names none.
    pub fn into_items(self) -> Vec<ProblemItem> {
        if self.0.items.is_empty() { vec![item("", self.0.detail)] } else { self.0.items }
    }

    /// What kind it is.
    pub fn code(&self) -> Code {
        self.0.code
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> ApiError {
        let code = match error {
            HistoryError::Erased { .. } => Code::Gone,
            _ => Code::Unavailable,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> ApiError {
        ApiError::rejected(rejection, Pointers::None)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (word, status, title) = self.0.code.parts();
        let problem = Problem {
            kind: format!("urn:koder-herald:problem:{word}"),
            title: title.into(),
            status: status.as_u16(),
            detail: self.0.detail,
            errors: self.0.items,
        };
        let body = serde_json::to_vec(&problem).expect("a problem is plain data");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.0.code {
            Code::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // What was not read of the body is not worth reading.
            Code::Timeout | Code::TooLarge => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Code::UnsupportedEncoding => {
                headers.insert(
                    header::ACCEPT_ENCODING,
                    HeaderValue::from_static(super::gate::ACCEPTED_ENCODINGS),
                );
            }
            _ => {}
        }
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A text that tells what was sent, in which that may be all of it: no more than the begin.
fn capped(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An offending item that has no name or type.
pub fn item(pointer: impl Into<String>, detail: impl Into<String>) -> ProblemItem {
    ProblemItem { pointer: pointer.into(), detail: detail.into(), name: None, rtype: None }
}

/// How places in a command are places in the request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pointers {
    /// The body as a whole.
    None,
    /// `/changes/n`.
    Changes,
    /// `/zones/n/changes/m`.
    Zones,
    /// `/create/n`.
    Create,
    /// Each edit of the one zone has its own.
    Each(Arc<[String]>),
}

impl Pointers {
    fn item(&self, rejected: RejectedItem) -> ProblemItem {
        let mut pointer = String::new();
        if let (Pointers::Each(pointers), Some(edit)) = (self, rejected.edit) {
            pointer = pointers.get(edit).cloned().unwrap_or_default();
        }
        match (self, rejected.zone) {
            (Pointers::Zones, Some(zone)) => pointer = format!("/zones/{zone}"),
            (Pointers::Create, Some(zone)) => pointer = format!("/create/{zone}"),
            _ => {}
        }
        if let (Pointers::Zones | Pointers::Changes, Some(edit)) = (self, rejected.edit) {
            pointer.push_str(&format!("/changes/{edit}"));
        }
        pointer.push_str(rejected.field.as_deref().unwrap_or_default());
        ProblemItem {
            pointer,
            detail: rejected.detail,
            name: rejected.owner.map(|owner| owner.to_string()),
            rtype: rejected.rtype.map(format_rtype),
        }
    }
}

/// What was found wrong in content as a whole, each where `pointer` says.
pub fn content_error(findings: Vec<Finding>, pointer: impl Fn(&Finding) -> String) -> ApiError {
    let item = |finding: Finding| ProblemItem {
        pointer: pointer(&finding),
        detail: finding.detail,
        name: Some(finding.owner.to_string()),
        rtype: finding.rtype.map(format_rtype),
    };
    ApiError::new(Code::Invalid, "").with_items(findings.into_iter().map(item).collect())
}
