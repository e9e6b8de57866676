//! `/heartbeats/{secret}`: endpoints call in. Whoever knows the secret may; there is no token.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use herald_wire::api::Problem;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::edge::gate::{AppState, ClientAddress, FromQuery};
use crate::edge::problem::ApiError;

/// What a call may say.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatQuery {
    /// When the endpoint was fine, in ms since the epoch: now unless given. The monitor is up till an interval and the time-out after it,
    /// so that the same call, repeated by whomever, says nothing more.
    at_ms: Option<u64>,
}

/// A heartbeat.
#[utoipa::path(post, path = "/heartbeats/{secret}", tag = "monitors", operation_id = "post_heartbeat",
    params(("secret" = String, Path, description = "As it was shown when the monitor was made."), HeartbeatQuery),
    security(()),
    responses(
        (status = 204, description = "It was heard."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn post(
    State(app): State<AppState>,
    Path(secret): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    heard(&app, &secret, &request)
}

/// A heartbeat, for who can only GET. No cache may answer in its place.
#[utoipa::path(get, path = "/heartbeats/{secret}", tag = "monitors", operation_id = "get_heartbeat",
    params(("secret" = String, Path, description = "As it was shown when the monitor was made."), HeartbeatQuery),
    security(()),
    responses(
        (status = 204, description = "It was heard."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(
    State(app): State<AppState>,
    Path(secret): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    heard(&app, &secret, &request)
}

fn heard(app: &AppState, secret: &str, request: &Request) -> Result<Response, ApiError> {
    let query = HeartbeatQuery::from_query(request.uri().query())?;
    let address = request.extensions().get().map(|ClientAddress(address)| *address);
    app.heartbeat(secret, query.at_ms, address)?;
    let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((StatusCode::NO_CONTENT, [no_store]).into_response())
}
