//! `GET /access-log`

use data_encoding::BASE64URL_NOPAD;
use herald_wire::api::{AccessKind, AccessRecord, Page, Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{AppState, Reading};
use super::problem::{ApiError, Code};
use super::{pages, respond};
use crate::access_log::{Kind, Record};

/// The routes of the access log.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which records, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AccessQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    limit: Option<usize>,
    /// Of this kind.
    #[param(inline)]
    kind: Option<AccessKind>,
}

/// Who was denied what, which tokens are in use, who was shown secrets, which PoPs logged in.
///
/// Newest first; for operators.
#[utoipa::path(get, path = "/access-log", tag = "changes", operation_id = "list_access",
    params(AccessQuery), responses(
    (status = 200, body = Page<AccessRecord>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: Reading<(), AccessQuery>) -> Result<respond::Ok<Page<AccessRecord>>, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_operator()?;
    let limit = pages::limit(query.limit)?;
    let before = pages::read_revision_cursor(query.cursor.as_deref())?;
    let kind = query.kind.map(|kind| match kind {
        AccessKind::Denied => Kind::Denied,
        AccessKind::TokenUsed => Kind::TokenUsed,
        AccessKind::TokenCreated => Kind::TokenCreated,
        AccessKind::SecretShown => Kind::SecretShown,
        AccessKind::Others => Kind::Others,
        AccessKind::PopLogin => Kind::PopLogin,
        AccessKind::PopDenied => Kind::PopDenied,
        AccessKind::QueryLogRead => Kind::QueryLogRead,
    });
    let records = caller.access_log().read(kind, before, limit + 1).await;
    let mut records = records.map_err(|e| ApiError::new(Code::Unavailable, e.to_string()))?;
    let is_last = records.len() <= limit;
    records.truncate(limit);
    let last = records.last().filter(|_| !is_last);
    let next_cursor = last.map(|last| BASE64URL_NOPAD.encode(&last.number.to_be_bytes()));
    Ok(respond::Ok(Page { items: records.into_iter().map(told).collect(), next_cursor }))
}

fn told(record: Record) -> AccessRecord {
    AccessRecord {
        number: record.number,
        time_ms: record.time_ms,
        until_ms: record.until_ms,
        count: record.count,
        kind: match record.kind {
            Kind::Denied => AccessKind::Denied,
            Kind::TokenUsed => AccessKind::TokenUsed,
            Kind::TokenCreated => AccessKind::TokenCreated,
            Kind::SecretShown => AccessKind::SecretShown,
            Kind::Others => AccessKind::Others,
            Kind::PopLogin => AccessKind::PopLogin,
            Kind::PopDenied => AccessKind::PopDenied,
            Kind::QueryLogRead => AccessKind::QueryLogRead,
        },
        principal: record.principal.map(|principal| principal.to_string()),
        token: record.token.map(|token| token.to_string()),
        pop: record.pop.map(|pop| pop.to_string()),
        status: Some(record.status).filter(|status| *status > 0),
        method: record.method,
        route: record.route,
        address: record.address,
    }
}
