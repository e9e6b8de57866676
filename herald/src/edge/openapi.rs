//! The OpenAPI document, made of the handlers and types that are served.

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use herald_wire::api::PREFIX;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{SecurityRequirement, Server};
use utoipa_axum::router::OpenApiRouter;

use super::gate::AppState;
use super::{
    access_log, admissions, aliases, batches, brakes, changes, channels, explain, firewall, geoip, meta,
    monitors, nameserver_sets, pops, query_log, rrsets, stats, steering, tenants, tokens, zones,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Koder Herald",
        description = "Control plane of an anycast authoritative DNS platform. \
                       Errors are problem documents (RFC 9457) with the offending items.",
    ),
    tags(
        (name = "zones"),
        (name = "rrsets"),
        (name = "steering", description = "Who gets which answer: pools, policies, views. It is content of its zone."),
        (name = "monitors", description = "What is asked of endpoints again and again, and the verdict on them."),
        (name = "changes", description = "Receipts: a change is accepted when it is durable, \
                                          and in sync when PoPs confirmed it."),
        (name = "tenants"),
        (name = "tokens"),
        (name = "pops"),
        (name = "nameserver-sets"),
        (name = "stats", description = "Counts of queries, by zone and minute."),
        (name = "query-log", description = "Queries of a zone one by one, or a sample of them, for an hour at most."),
        (name = "geoip", description = "GeoIP databases, which tell where clients are."),
        (name = "firewall", description = "Which queries are dropped, refused or answered otherwise before their zone answers them."),
        (name = "brakes", description = "The emptiness brake: what would empty much of a PoP waits for an operator's word."),
    ),
)]
struct Api;

/// All routes under the base, and their description.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(described())
        .merge(zones::routes())
        .merge(rrsets::routes())
        .merge(aliases::routes())
        .merge(steering::routes())
        .merge(explain::routes())
        .merge(monitors::routes())
        .merge(channels::routes())
        .merge(batches::routes())
        .merge(changes::routes())
        .merge(access_log::routes())
        .merge(admissions::routes())
        .merge(tenants::routes())
        .merge(tokens::routes())
        .merge(pops::routes())
        .merge(brakes::routes())
        .merge(geoip::routes())
        .merge(firewall::routes())
        .merge(nameserver_sets::routes())
        .merge(stats::routes())
        .merge(query_log::routes())
        .merge(meta::routes())
}

fn described() -> utoipa::openapi::OpenApi {
    let mut document = Api::openapi();
    document.servers = Some(vec![Server::new(PREFIX)]);
    let components = document.components.get_or_insert_default();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.security_schemes.insert("token".into(), scheme);
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    document
}

/// The document, as text.
///
/// # Panics
/// Never: it is plain data.
pub fn document() -> String {
    let (_, document) = routes().split_for_parts();
    text(&document)
}

fn text(document: &utoipa::openapi::OpenApi) -> String {
    let mut text = document.to_pretty_json().expect("plain data");
    text.push('\n');
    text
}

/// The route that serves the document, without a token.
pub fn served(document: &utoipa::openapi::OpenApi) -> Router<AppState> {
    let text = Bytes::from(text(document));
    let serve = move || {
        let text = text.clone();
        async move {
            let content_type = HeaderValue::from_static("application/json");
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text).into_response()
        }
    };
    Router::new().route("/openapi.json", get(serve))
}
