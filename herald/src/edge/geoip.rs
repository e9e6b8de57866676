//! `/geoip`: the GeoIP databases that PoPs steer by. For operators.

use herald_core::command::Action;
use herald_core::rejection::{Rejection, RejectionKind};
use herald_wire::api::{Geoip, GeoipKind, Problem, Warning, Written};
use steering::geo::MmdbKind;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{
    Answer, AppState, FromPath, GeoipFile, NoBody, Reading, WriteQuery, Writer, Writing, blocking,
};
use super::problem::{ApiError, Code, Pointers};
use super::respond;
use crate::geoip::{StageError, Staged};

/// The routes of GeoIP.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(put, delete))
}

/// The databases, and how far they have got.
#[utoipa::path(get, path = "/geoip", tag = "geoip", operation_id = "get_geoip", responses(
    (status = 200, body = Geoip),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading) -> Result<respond::Ok<Geoip>, ApiError> {
    request.caller.access().need_operator()?;
    let publisher = request.caller.publisher().clone();
    Ok(respond::Ok(blocking(move || publisher.geoip_view()).await?))
}

/// Put a database in the place of the one of its kind.
///
/// A MaxMind database (mmdb) of the GeoIP2 or GeoLite2 family, as it is or gzip'd. PoPs get it one after another: first one of them, and
/// the others when that one has loaded it. Putting the same one again begins anew where that was stopped.
#[utoipa::path(put, path = "/geoip/{kind}", tag = "geoip", operation_id = "put_geoip",
    params(("kind" = GeoipKind, Path, description = "`city` or `asn`."), WriteQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "A database (mmdb)."),
    responses(
    (status = 200, body = Written<Geoip>),
    (status = 202, body = Written<Geoip>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<GeoipKind, GeoipFile>) -> Result<Answer<Geoip>, ApiError> {
    let Writing { writer, path, body, query, .. } = request;
    writer.access().need_operator()?;
    let file = body.collect().await?;
    let places = writer.publisher().places().clone();
    let _uploading = places.uploading().await;
    let staging = places.clone();
    let staged = blocking(move || staging.stage(kind_of(path), &file)).await?.map_err(unusable)?;
    let is_same = staged.table.as_ref().map(|table| table.sha256) == staged.base;
    let answer = set(&writer, staged, query.message).await?;
    if is_same && !query.dry_run {
        places.roll_out_again();
    }
    Ok(answer)
}

/// Have no database of a kind.
///
/// Rules that ask for what it told fall through from then on.
#[utoipa::path(delete, path = "/geoip/{kind}", tag = "geoip", operation_id = "delete_geoip",
    params(("kind" = GeoipKind, Path, description = "`city` or `asn`."), WriteQuery), responses(
    (status = 200, body = Written<Geoip>),
    (status = 202, body = Written<Geoip>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<GeoipKind, NoBody>) -> Result<Answer<Geoip>, ApiError> {
    let Writing { writer, path, query, .. } = request;
    writer.access().need_operator()?;
    let places = writer.publisher().places().clone();
    let _uploading = places.uploading().await;
    let state = writer.state();
    let has_kind = state.geoip().is_some_and(|table| match path {
        GeoipKind::City => table.city.is_some(),
        GeoipKind::Asn => table.asn.is_some(),
    });
    if !has_kind {
        return Err(Rejection::not_found("GeoIP database").into());
    }
    let staging = places.clone();
    let staged = blocking(move || staging.stage_without(kind_of(path))).await?.map_err(unusable)?;
    set(&writer, staged, query.message).await
}

/// Has a staged table be the one that PoPs get.
async fn set(writer: &Writer, staged: Staged, message: Option<String>) -> Result<Answer<Geoip>, ApiError> {
    let Staged { table, base, warning } = staged;
    let publisher = writer.publisher().clone();
    let places = publisher.places().clone();
    let before = writer.state().geoip().cloned();
    let action = Action::SetGeoip { table: table.clone(), base };
    let done = writer.submit(action, message, Pointers::None).await?;
    let is_done = done.revision.is_some();
    let view = blocking(move || {
        if is_done {
            // It was just written; should it not be readable, that is tried again and said.
            if let Err(e) = places.load() {
                tracing::error!("{e}");
            }
        }
        places.replaced(before.as_deref());
        places.replaced(table.as_ref());
        publisher.geoip_view()
    });
    let view = view.await?;
    let warnings = warning.map(|detail| Warning { code: "not_newer".into(), name: None, detail });
    writer.answer_with(done, Some(view), warnings.into_iter().collect()).await
}

fn kind_of(kind: GeoipKind) -> MmdbKind {
    match kind {
        GeoipKind::City => MmdbKind::City,
        GeoipKind::Asn => MmdbKind::Asn,
    }
}

fn unusable(error: StageError) -> ApiError {
    let code = match &error {
        StageError::Database(_) | StageError::Gzip(_) => Code::Invalid,
        StageError::TooLarge => Code::TooLarge,
        StageError::Store(_) => Code::Unavailable,
    };
    ApiError::new(code, error.to_string())
}

impl FromPath for GeoipKind {
    fn from_path(values: &mut dyn Iterator<Item = &str>) -> Result<GeoipKind, ApiError> {
        match String::from_path(values)?.as_str() {
            "city" => Ok(GeoipKind::City),
            "asn" => Ok(GeoipKind::Asn),
            _ => Err(Rejection::new(RejectionKind::NotFound, "GeoIP databases are `city` and `asn`").into()),
        }
    }
}
