//! The edge: the HTTP API. Authenticate, read the request, give a command to the engine, answer.
//!
//! Handlers get at nothing but through the `gate`. The routes and the types of the reference are in `docs/api.md`;
//! the OpenAPI document is made of the handlers themselves.

mod access_log;
mod admissions;
mod aliases;
mod at;
mod batches;
mod brakes;
mod changes;
mod channels;
mod compression;
mod connections;
mod explain;
mod firewall;
mod gate;
mod geoip;
mod lookup;
mod meta;
mod metrics;
mod monitors;
mod names;
mod nameserver_sets;
mod openapi;
mod pages;
mod pops;
pub(crate) mod present;
mod problem;
mod query_log;
mod respond;
mod rrsets;
pub mod secret;
mod server;
mod stats;
mod steering;
mod tenants;
mod tokens;
mod zones;

#[cfg(test)]
mod tests;

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
use herald_wire::api::PREFIX;

pub use connections::ConnectionLimits;
pub use gate::{AppState, Kept, Limits};
pub use metrics::Metrics;
pub use openapi::document as openapi_document;
pub use server::{ServeLimits, serve};

use problem::{ApiError, Code};

/// Everything that is served.
pub fn router(app: AppState) -> Router {
    let (api, document) = openapi::routes().split_for_parts();
    let api = api.merge(openapi::served(&document));
    Router::new()
        .nest(PREFIX, api)
        .merge(meta::outside())
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn_with_state(app.clone(), watch))
        .with_state(app)
}

async fn unknown_route() -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no such route; the API is under {PREFIX}"))
}

async fn unknown_method(method: Method) -> ApiError {
    ApiError::new(
        Code::MethodNotAllowed,
        format!("this route has no method {method}; `Allow` says which it has"),
    )
}

/// What is done for every request: one layer, as each costs its allocations. It counts each with its route, not its
/// path, of which there are too many.
async fn watch(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unknown", MatchedPath::as_str);
    let method = known_method(request.method());
    let accepted = compression::Accepted::of(request.headers());
    let response = gate::annotated(&app, request, next, route, method).await;
    let response = app.compressor().compressed(accepted, response).await;
    app.metrics().count(route, method, response.status().as_str(), begin.elapsed());
    response
}

/// A method's name, of which there are few: anybody can make up more.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
