//! `GET`, `PATCH`, `DELETE /zones/{zone}`

use axum::http::StatusCode;
use axum::response::Response;
use herald_core::account::Verb;
use herald_core::command::{Action, ZoneRef};
use herald_wire::api::{self, Problem, Warning, Written, ZonePatch};

use crate::edge::gate::{Answer, Done, Json, NoBody, Reading, WriteQuery, Writer, Writing};
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::{lookup, present, respond};

/// One zone.
#[utoipa::path(get, path = "/zones/{zone}", tag = "zones", operation_id = "get_zone",
    params(("zone" = String, Path, description = "Id or unambiguous name.")),
    responses(
        (status = 200, body = api::Zone, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<ZoneRef>) -> Result<Response, ApiError> {
    let Reading { caller, path, preconditions, .. } = request;
    let zone = caller.zone(&path, Verb::Read)?;
    let document = || respond::json(StatusCode::OK, &present::zone(caller.state(), zone));
    Ok(respond::tagged_json(&preconditions, &zone.revision.to_string(), document))
}

/// Change its labels or its set of name servers.
#[utoipa::path(patch, path = "/zones/{zone}", tag = "zones", operation_id = "update_zone",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The zone's ETag."),
        WriteQuery,
    ),
    request_body = ZonePatch,
    responses(
        (status = 200, body = Written<api::Zone>),
        (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn update(request: Writing<ZoneRef, Json<ZonePatch>>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { writer, path, body: Json(patch), preconditions, .. } = request;
    let zone = writer.zone(&path, Verb::Create)?;
    let ns_set = match &patch.nameserver_set {
        Some(text) => Some(lookup::nameserver_set(writer.state(), text)?.id),
        None => None,
    };
    let action = Action::UpdateZone {
        zone: ZoneRef::Id(zone.id),
        if_match: preconditions.zone_revision(zone)?,
        labels: patch.labels,
        ns_set,
    };
    let done = writer.submit(action, patch.message, Pointers::None).await?;
    answer_zone(&writer, done).await
}

/// Delete it, with all of its records.
#[utoipa::path(delete, path = "/zones/{zone}", tag = "zones", operation_id = "delete_zone",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The zone's ETag."),
        WriteQuery,
    ),
    responses(
        (status = 200, body = Written<api::Zone>),
        (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<ZoneRef, NoBody>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { writer, path, preconditions, .. } = request;
    let zone = writer.zone(&path, Verb::Delete)?;
    let action =
        Action::DeleteZone { zone: ZoneRef::Id(zone.id), if_match: preconditions.zone_revision(zone)? };
    let done = writer.submit(action, None, Pointers::None).await?;
    writer.answer(done, None).await
}

/// Answers with the zone that a command was about.
///
/// # Errors
/// As `Writer::answer`.
pub(in crate::edge) async fn answer_zone(writer: &Writer, done: Done) -> Result<Answer<api::Zone>, ApiError> {
    answer_zone_with(writer, done, Vec::new()).await
}

/// As [`answer_zone`], with more warnings.
///
/// # Errors
/// As `Writer::answer`.
pub(in crate::edge) async fn answer_zone_with(
    writer: &Writer,
    done: Done,
    warnings: Vec<Warning>,
) -> Result<Answer<api::Zone>, ApiError> {
    let zone = done.zone().map(|zone| present::zone(&done.state, zone));
    let etag = zone.as_ref().map(|zone| zone.revision.to_string());
    Ok(writer.answer_with(done, zone, warnings).await?.tagged(etag))
}
