//! `/zones/{zone}/policies`: which rules answer a name and type.

use axum::http::StatusCode;
use axum::response::Response;
use herald_core::account::Verb;
use herald_core::command::ZoneRef;
use herald_core::steering::{self, Item};
use herald_core::zone::Zone;
use herald_core::{Name, RrKey, Rrset};
use herald_wire::api::steering::{Policy, PolicyPut, Tagged};
use herald_wire::api::{Page, Problem, Written};

use super::list::{SteeringListQuery, page};
use super::{AtQuery, change_one, found, read, read_item, show};
use crate::edge::gate::{Answer, Caller, Json, NoBody, Reading, WriteQuery, Writing, rrset_tag};
use crate::edge::names::{encoded, parse_owner, parse_type};
use crate::edge::problem::{ApiError, Code};
use crate::edge::{at, respond};

/// Zone, owner name and type, as the path has them.
type PolicyPath = (ZoneRef, String, String);

/// Policies in canonical order, a page at a time: those within the token's scope.
///
/// A page may have fewer items than asked for, or none, and still a `next_cursor`.
#[utoipa::path(get, path = "/zones/{zone}/policies", tag = "steering", operation_id = "list_policies",
    params(("zone" = String, Path, description = "Id or unambiguous name."), SteeringListQuery),
    responses(
        (status = 200, body = Page<Tagged<Policy>>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    request: Reading<ZoneRef, SteeringListQuery>,
) -> Result<respond::Ok<Page<Tagged<Policy>>>, ApiError> {
    let Reading { caller, path, query, .. } = &request;
    let zone = at::zone(caller, path, query.at.as_deref()).await?;
    let scope = &caller.access().scope;
    let wanted = |key: &RrKey, rrset: &Rrset| {
        (super::read::is_policy(key.rtype) && scope.allows_rrset(key))
            .then(|| of(&zone.name, key, rrset))
            .flatten()
    };
    Ok(respond::Ok(page(&zone, None, query, wanted)?))
}

/// The policy for answers of a name and type.
#[utoipa::path(get, path = "/zones/{zone}/policies/{name}/{type}", tag = "steering", operation_id = "get_policy",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("name" = String, Path, description = "Fully qualified, relative to the zone, or `@`."),
        ("type" = String, Path, description = "Type of the answers."),
        AtQuery,
    ),
    responses(
        (status = 200, body = Tagged<Policy>, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<PolicyPath, AtQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path: (zone, name, rtype), query, preconditions } = request;
    let zone = at::zone(&caller, &zone, query.at.as_deref()).await?;
    let key = key(&zone, &name, &rtype)?;
    need_scope(&caller, &zone, &key)?;
    let (_, tag) = found(&zone, &key)?;
    let shown = zone.content.get(&key).and_then(|rrset| of(&zone.name, &key, rrset));
    Ok(respond::tagged_json(&preconditions, &tag, || respond::json(StatusCode::OK, &shown)))
}

/// The policy becomes this.
#[utoipa::path(put, path = "/zones/{zone}/policies/{name}/{type}", tag = "steering", operation_id = "put_policy",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("name" = String, Path, description = "Fully qualified, relative to the zone, or `@`."),
        ("type" = String, Path, description = "Type of the answers."),
        ("If-Match" = Option<String>, Header, description = "The policy's ETag, or `*`: it is there."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it is not there."),
        WriteQuery,
    ),
    request_body = PolicyPut,
    responses(
        (status = 200, body = Written<Tagged<Policy>>, headers(("ETag" = String))),
        (status = 201, body = Written<Tagged<Policy>>, description = "It was not there before.",
            headers(("Location" = String), ("ETag" = String))),
        (status = 202, body = Written<Tagged<Policy>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<PolicyPath, Json<PolicyPut>>) -> Result<Answer<Tagged<Policy>>, ApiError> {
    let Writing { mut writer, path: (zone, name, rtype), body: Json(body), preconditions, .. } = request;
    let zone = writer.zone(&zone, Verb::Write)?.arc();
    let key = key(&zone, &name, &rtype)?;
    need_scope(&writer, &zone, &key)?;
    let Some(answered) = steering::answered_type(key.rtype) else { unreachable!("the key of a policy") };
    let item = read(&zone, |reader| reader.rules(answered, &body, ""))?;
    let is_new = zone.content.get(&key).is_none();
    let path = format!("/zones/{}/policies/{}/{rtype}", zone.id, encoded(&key.owner.to_string()));
    let (done, warnings) =
        change_one(&mut writer, &ZoneRef::Id(zone.id), &preconditions, &key, Some(&item)).await?;
    let shown = done.zone().and_then(|zone| of(&zone.name, &key, zone.content.get(&key)?));
    let tag = shown.as_ref().map(|shown| shown.etag.clone());
    Ok(writer.answer_with(done, shown, warnings).await?.tagged(tag).created_at(is_new.then_some(path)))
}

/// The policy is removed.
#[utoipa::path(delete, path = "/zones/{zone}/policies/{name}/{type}", tag = "steering",
    operation_id = "delete_policy",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("name" = String, Path, description = "Fully qualified, relative to the zone, or `@`."),
        ("type" = String, Path, description = "Type of the answers."),
        ("If-Match" = Option<String>, Header, description = "The policy's ETag, or `*`: it is there."),
        WriteQuery,
    ),
    responses(
        (status = 200, body = Written<Tagged<Policy>>),
        (status = 202, body = Written<Tagged<Policy>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<PolicyPath, NoBody>) -> Result<Answer<Tagged<Policy>>, ApiError> {
    let Writing { mut writer, path: (zone, name, rtype), preconditions, .. } = request;
    let zone = writer.zone(&zone, Verb::Write)?.arc();
    let key = key(&zone, &name, &rtype)?;
    need_scope(&writer, &zone, &key)?;
    let (done, warnings) = change_one(&mut writer, &ZoneRef::Id(zone.id), &preconditions, &key, None).await?;
    writer.answer_with(done, None, warnings).await
}

fn need_scope(caller: &Caller, zone: &Zone, key: &RrKey) -> Result<(), ApiError> {
    if caller.access().scope.allows_rrset(key) {
        return Ok(());
    }
    let title = show::title(&zone.name, key);
    Err(ApiError::new(Code::Forbidden, format!("this token's scope doesn't have the {title}")))
}

fn key(zone: &Zone, name: &str, rtype: &str) -> Result<RrKey, ApiError> {
    let owner = parse_owner(name, &zone.name)
        .map_err(|e| ApiError::malformed(format!("the name in the path: {e}")))?;
    let answered = parse_type(rtype).map_err(ApiError::malformed)?;
    steering::policy_key(&owner, answered).ok_or_else(|| {
        let types = steering::STEERABLE.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        ApiError::malformed(format!("{answered} can't be steered: {types} can"))
    })
}

fn of(zone: &Name, key: &RrKey, rrset: &Rrset) -> Option<Tagged<Policy>> {
    let Item::Policy(answered, policy) = read_item(key, rrset)? else { return None };
    Some(Tagged { etag: rrset_tag(key, rrset), item: show::policy(zone, &key.owner, answered, &policy) })
}
