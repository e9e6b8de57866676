//! Queries: what stands behind the question mark. An unknown parameter is refused.

use std::time::Duration;

use herald_wire::api::{Confirm, Wait};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use crate::edge::problem::ApiError;

/// For how long a request waits for PoPs unless it says, and at most, in ms.
const WAIT_MS: u64 = 5_000;
const WAIT_MS_MAX: u64 = 60_000;

/// The parameters of a query.
pub trait FromQuery: Sized {
    /// Reads them.
    ///
    /// # Errors
    /// If one is unknown or isn't what it is to be.
    fn from_query(query: Option<&str>) -> Result<Self, ApiError>;
}

impl<Q: DeserializeOwned + Default> FromQuery for Q {
    fn from_query(query: Option<&str>) -> Result<Q, ApiError> {
        match query {
            None | Some("") => Ok(Q::default()),
            Some(query) => serde_html_form::from_str(query)
                .map_err(|e| ApiError::malformed(format!("the query is not right: {e}"))),
        }
    }
}

/// No parameters at all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// How to write.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WriteQuery {
    /// Judge everything and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Answer when PoPs confirmed the change: all that were enabled and not drained, or a majority of them.
    #[param(inline)]
    pub wait: Option<Wait>,
    /// For how long to wait, in ms: 5000 unless given, at most 60000. Past it the answer is 202.
    pub timeout_ms: Option<u64>,
    /// `shrink`: that much of a zone goes is meant; refused with 428 else.
    #[param(inline)]
    pub confirm: Option<Confirm>,
    /// Why, for the history; a `message` in the body goes first.
    pub message: Option<String>,
}

/// A query of a write, whatever else it says.
pub trait WriteParams: FromQuery {
    /// How to write.
    ///
    /// # Errors
    /// If the time to wait is over the limit.
    fn options(&self) -> Result<WriteOptions, ApiError>;

    /// Why, for the history.
    fn message(&self) -> Option<&str>;
}

impl WriteParams for WriteQuery {
    fn options(&self) -> Result<WriteOptions, ApiError> {
        Ok(WriteOptions {
            confirm: self.confirm,
            ..WriteOptions::new(self.dry_run, self.wait, self.timeout_ms)?
        })
    }

    fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// How to write, checked.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// Do nothing.
    pub dry_run: bool,
    /// Whose confirmation to wait for.
    pub wait: Option<Wait>,
    /// For how long.
    pub timeout: Duration,
    /// What the caller said that it means.
    pub confirm: Option<Confirm>,
}

impl WriteOptions {
    /// Checks what a query says.
    ///
    /// # Errors
    /// If the time to wait is over the limit.
    pub fn new(dry_run: bool, wait: Option<Wait>, timeout_ms: Option<u64>) -> Result<WriteOptions, ApiError> {
        Ok(WriteOptions { dry_run, wait, timeout: wait_timeout(timeout_ms)?, confirm: None })
    }
}

/// For how long to wait.
///
/// # Errors
/// If it is over the limit.
fn wait_timeout(timeout_ms: Option<u64>) -> Result<Duration, ApiError> {
    match timeout_ms.unwrap_or(WAIT_MS) {
        ms if ms <= WAIT_MS_MAX => Ok(Duration::from_millis(ms)),
        _ => Err(ApiError::malformed(format!("timeout_ms is at most {WAIT_MS_MAX}"))),
    }
}
