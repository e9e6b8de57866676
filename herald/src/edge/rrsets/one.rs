//! `GET`, `PUT`, `DELETE /zones/{zone}/rrsets/{name}/{type}`

use axum::http::StatusCode;
use axum::response::Response;
use herald_core::RrKey;
use herald_core::account::Verb;
use herald_core::command::{Action, EditOp, RrsetEdit, ZoneEdit, ZoneRef};
use herald_core::rejection::Rejection;
use herald_core::zone::Zone;
use herald_wire::api::{self, Problem, RrsetPut, Written};

use crate::edge::gate::{Answer, Done, Json, NoBody, Reading, WriteQuery, Writer, Writing, rrset_tag};
use crate::edge::names::{Faults, encoded, parse_owner, parse_record_type, parse_records};
use crate::edge::problem::{ApiError, Code, Pointers};
use crate::edge::{present, respond};

/// Zone, owner name and type, as the path has them: names are understood once the zone is known.
type RrsetPath = (ZoneRef, String, String);

/// One RRset.
#[utoipa::path(get, path = "/zones/{zone}/rrsets/{name}/{type}", tag = "rrsets", operation_id = "get_rrset",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("name" = String, Path, description = "Fully qualified, relative to the zone, or `@`."),
        ("type" = String, Path, description = "Mnemonic or `TYPEnnn`."),
    ),
    responses(
        (status = 200, body = api::Rrset, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<RrsetPath>) -> Result<Response, ApiError> {
    let Reading { caller, path: (zone, name, rtype), preconditions, .. } = request;
    let zone = caller.zone(&zone, Verb::Read)?;
    let key = key(zone, &name, &rtype)?;
    if !caller.access().scope.allows_rrset(&key) {
        return Err(ApiError::new(Code::Forbidden, format!("this token's scope doesn't have {key}")));
    }
    let rrset = zone.get(&key).ok_or_else(|| missing(&key))?;
    let document = || respond::json(StatusCode::OK, &present::rrset(&key, &rrset));
    Ok(respond::tagged_json(&preconditions, &rrset_tag(&key, &rrset), document))
}

/// The RRset becomes this.
#[utoipa::path(put, path = "/zones/{zone}/rrsets/{name}/{type}", tag = "rrsets", operation_id = "put_rrset",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("name" = String, Path, description = "Fully qualified, relative to the zone, or `@`."),
        ("type" = String, Path, description = "Mnemonic or `TYPEnnn`."),
        ("If-Match" = Option<String>, Header, description = "The RRset's ETag, or `*`: it is there."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it is not there."),
        WriteQuery,
    ),
    request_body = RrsetPut,
    responses(
        (status = 200, body = Written<api::Rrset>, headers(("ETag" = String))),
        (status = 201, body = Written<api::Rrset>, description = "It was not there before.",
            headers(("Location" = String), ("ETag" = String))),
        (status = 202, body = Written<api::Rrset>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<RrsetPath, Json<RrsetPut>>) -> Result<Answer<api::Rrset>, ApiError> {
    let Writing { writer, path: (zone, name, rtype), body: Json(body), preconditions, .. } = request;
    let zone = writer.zone(&zone, Verb::Write)?;
    let key = key(zone, &name, &rtype)?;
    let mut faults = Faults::default();
    let rdatas = parse_records(&key, &body.records, &mut faults);
    faults.check()?;
    let Some(rdatas) = rdatas else { unreachable!("records without a fault were read") };
    let op = EditOp::Put { ttl: body.ttl, rdatas };
    let edit = RrsetEdit { if_match: preconditions.rrset(zone, &key)?, key: key.clone(), op };
    let is_new = zone.get(&key).is_none();
    let path = format!("/zones/{}/rrsets/{}/{rtype}", zone.id, encoded(&key.owner.to_string()));
    let done = edit_one(&writer, zone, edit, body.message).await?;
    let rrset = done.zone().and_then(|zone| zone.get(&key));
    let etag = rrset.as_ref().map(|rrset| rrset_tag(&key, rrset));
    let item = rrset.map(|rrset| present::rrset(&key, &rrset));
    Ok(writer.answer(done, item).await?.tagged(etag).created_at(is_new.then_some(path)))
}

/// The RRset is removed.
#[utoipa::path(delete, path = "/zones/{zone}/rrsets/{name}/{type}", tag = "rrsets", operation_id = "delete_rrset",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("name" = String, Path, description = "Fully qualified, relative to the zone, or `@`."),
        ("type" = String, Path, description = "Mnemonic or `TYPEnnn`."),
        ("If-Match" = Option<String>, Header, description = "The RRset's ETag, or `*`: it is there."),
        WriteQuery,
    ),
    responses(
        (status = 200, body = Written<api::Rrset>),
        (status = 202, body = Written<api::Rrset>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<RrsetPath, NoBody>) -> Result<Answer<api::Rrset>, ApiError> {
    let Writing { writer, path: (zone, name, rtype), preconditions, .. } = request;
    let zone = writer.zone(&zone, Verb::Write)?;
    let key = key(zone, &name, &rtype)?;
    let if_match = preconditions.rrset(zone, &key)?;
    // With a precondition what isn't there fails that; without, it is not found, if it is to be seen at all.
    if if_match.is_none() && zone.get(&key).is_none() && writer.access().scope.allows_rrset(&key) {
        return Err(missing(&key));
    }
    let edit = RrsetEdit { if_match, key, op: EditOp::Delete };
    let done = edit_one(&writer, zone, edit, None).await?;
    writer.answer(done, None).await
}

async fn edit_one(
    writer: &Writer,
    zone: &Zone,
    edit: RrsetEdit,
    message: Option<String>,
) -> Result<Done, ApiError> {
    let edit = ZoneEdit { zone: ZoneRef::Id(zone.id), if_match: None, edits: vec![edit] };
    writer.submit(Action::EditZones { zones: vec![edit] }, message, Pointers::None).await
}

fn key(zone: &Zone, name: &str, rtype: &str) -> Result<RrKey, ApiError> {
    let owner = parse_owner(name, &zone.name)
        .map_err(|e| ApiError::malformed(format!("the name in the path: {e}")))?;
    Ok(RrKey::new(owner, parse_record_type(rtype).map_err(ApiError::malformed)?))
}

fn missing(key: &RrKey) -> ApiError {
    Rejection::not_found(format_args!("RRset {key}")).into()
}
