//! `/zones/{zone}/views`

use axum::http::StatusCode;
use axum::response::Response;
use herald_core::account::Verb;
use herald_core::command::ZoneRef;
use herald_core::steering::{self, Item};
use herald_core::zone::Zone;
use herald_core::{RrKey, Rrset};
use herald_wire::api::steering::{Named, View};
use herald_wire::api::{Page, Problem, Written};

use super::list::{SteeringListQuery, page};
use super::{AtQuery, change_one, found, held_key, read, read_item, show, whole_zone};
use crate::edge::gate::{Answer, Json, NoBody, Reading, WriteQuery, Writing, rrset_tag};
use crate::edge::problem::{ApiError, Code};
use crate::edge::respond;

/// Views of a zone, a page at a time.
#[utoipa::path(get, path = "/zones/{zone}/views", tag = "steering", operation_id = "list_views",
    params(("zone" = String, Path, description = "Id or unambiguous name."), SteeringListQuery),
    responses(
        (status = 200, body = Page<Named<View>>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    request: Reading<ZoneRef, SteeringListQuery>,
) -> Result<respond::Ok<Page<Named<View>>>, ApiError> {
    let Reading { caller, path, query, .. } = &request;
    let zone = whole_zone(caller, path, query.at.as_deref()).await?;
    let holder = steering::holder(&zone.name).map_err(|e| ApiError::new(Code::Invalid, e.to_string()))?;
    Ok(respond::Ok(page(&zone, Some(&holder), query, of)?))
}

/// One view.
#[utoipa::path(get, path = "/zones/{zone}/views/{view}", tag = "steering", operation_id = "get_view",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "Its name."),
        AtQuery,
    ),
    responses(
        (status = 200, body = Named<View>, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<(ZoneRef, String), AtQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path: (zone, name), query, preconditions } = request;
    let zone = whole_zone(&caller, &zone, query.at.as_deref()).await?;
    let key = key(&zone, &name)?;
    let (_, tag) = found(&zone, &key)?;
    let shown = zone.content.get(&key).and_then(|rrset| of(&key, rrset));
    Ok(respond::tagged_json(&preconditions, &tag, || respond::json(StatusCode::OK, &shown)))
}

/// The view becomes this.
#[utoipa::path(put, path = "/zones/{zone}/views/{view}", tag = "steering", operation_id = "put_view",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The view's ETag, or `*`: it is there."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it is not there."),
        WriteQuery,
    ),
    request_body = View,
    responses(
        (status = 200, body = Written<Named<View>>, headers(("ETag" = String))),
        (status = 201, body = Written<Named<View>>, description = "It was not there before.",
            headers(("Location" = String), ("ETag" = String))),
        (status = 202, body = Written<Named<View>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<(ZoneRef, String), Json<View>>) -> Result<Answer<Named<View>>, ApiError> {
    let Writing { mut writer, path: (zone_ref, name), body: Json(body), preconditions, .. } = request;
    let zone = writer.zone(&zone_ref, Verb::Write)?.arc();
    let key = key(&zone, &name)?;
    let item = read(&zone, |reader| reader.view(&body, ""))?;
    let is_new = zone.content.get(&key).is_none();
    let path = format!("/zones/{}/views/{name}", zone.id);
    let (done, warnings) =
        change_one(&mut writer, &ZoneRef::Id(zone.id), &preconditions, &key, Some(&item)).await?;
    let shown = done.zone().and_then(|zone| of(&key, zone.content.get(&key)?));
    let tag = shown.as_ref().map(|shown| shown.etag.clone());
    Ok(writer.answer_with(done, shown, warnings).await?.tagged(tag).created_at(is_new.then_some(path)))
}

/// The view is removed: not while a policy asks for it or it has anything.
#[utoipa::path(delete, path = "/zones/{zone}/views/{view}", tag = "steering", operation_id = "delete_view",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The view's ETag, or `*`: it is there."),
        WriteQuery,
    ),
    responses(
        (status = 200, body = Written<Named<View>>),
        (status = 202, body = Written<Named<View>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<(ZoneRef, String), NoBody>) -> Result<Answer<Named<View>>, ApiError> {
    let Writing { mut writer, path: (zone_ref, name), preconditions, .. } = request;
    let zone = writer.zone(&zone_ref, Verb::Write)?.arc();
    writer.need_whole_zones()?;
    let key = key(&zone, &name)?;
    let (done, warnings) = change_one(&mut writer, &ZoneRef::Id(zone.id), &preconditions, &key, None).await?;
    writer.answer_with(done, None, warnings).await
}

fn key(zone: &Zone, name: &str) -> Result<RrKey, ApiError> {
    held_key(steering::view_key(&zone.name, name), zone, name)
}

fn of(key: &RrKey, rrset: &Rrset) -> Option<Named<View>> {
    if key.rtype != steering::VIEW {
        return None;
    }
    let Item::View(view) = read_item(key, rrset)? else { return None };
    let name = steering::held_name(&key.owner)?;
    Some(Named { name, etag: rrset_tag(key, rrset), item: show::view(&view) })
}
