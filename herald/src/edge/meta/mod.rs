//! About the caller and about the service: `/whoami`, `/openapi.json`, and outside the base `/healthz`, `/readyz`,
//! `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use herald_core::account::Principal;
use herald_core::rejection::Rejection;
use herald_wire::api::{Problem, Whoami};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{AppState, Reading};
use super::problem::{ApiError, Code};
use super::{present, respond};

/// The routes about the caller.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(whoami))
}

/// The routes outside the API's base: for those who run the service, without a token.
pub fn outside() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// Whom the caller's token stands for.
#[utoipa::path(get, path = "/whoami", tag = "tokens", operation_id = "whoami", responses(
    (status = 200, body = Whoami),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn whoami(request: Reading) -> Result<respond::Ok<Whoami>, ApiError> {
    let caller = request.caller;
    let state = caller.state();
    let (kind, tenant, token) = match caller.principal() {
        Principal::Operator { token } => ("operator", None, token),
        Principal::Tenant { tenant, token } => ("tenant", state.tenant(tenant), token),
        Principal::System => return Err(ApiError::new(Code::Unauthenticated, "the system has no token")),
    };
    let token = state.token(token).ok_or_else(|| Rejection::not_found(format_args!("token {token}")))?;
    Ok(respond::Ok(Whoami {
        kind: kind.into(),
        tenant: tenant.map(|tenant| present::tenant(state, tenant)),
        token: present::token(token),
    }))
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(app): State<AppState>) -> Response {
    if app.is_ready().await {
        "ready\n".into_response()
    } else {
        ApiError::new(Code::Unavailable, "writes are not accepted now").into_response()
    }
}

async fn metrics(State(app): State<AppState>) -> Response {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4");
    (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], app.metrics_text()).into_response()
}
