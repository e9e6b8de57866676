//! `GET`, `PUT /zones/{zone}/steering/settings`

use axum::http::StatusCode;
use axum::response::Response;
use herald_core::account::Verb;
use herald_core::command::ZoneRef;
use herald_core::steering;
use herald_core::zone::Zone;
use herald_wire::api::steering::SteeringSettings;
use herald_wire::api::{Problem, Written};

use super::read::Reader;
use super::{AtQuery, change_one, show, whole_zone};
use crate::edge::gate::{Answer, Json, Reading, WriteQuery, Writing, rrset_tag};
use crate::edge::problem::ApiError;
use crate::edge::respond;

/// Settings of a zone that bear on answers. Those that were never set have no ETag.
#[utoipa::path(get, path = "/zones/{zone}/steering/settings", tag = "steering",
    operation_id = "get_steering_settings",
    params(("zone" = String, Path, description = "Id or unambiguous name."), AtQuery),
    responses(
        (status = 200, body = SteeringSettings, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<ZoneRef, AtQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path, query, preconditions } = request;
    let zone = whole_zone(&caller, &path, query.at.as_deref()).await?;
    let document = || respond::json(StatusCode::OK, &of(&zone));
    Ok(match tag(&zone) {
        Some(tag) => respond::tagged_json(&preconditions, &tag, document),
        None => document(),
    })
}

/// The settings become these.
#[utoipa::path(put, path = "/zones/{zone}/steering/settings", tag = "steering",
    operation_id = "put_steering_settings",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The settings' ETag, or `*`: they were set."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: they were never set."),
        WriteQuery,
    ),
    request_body = SteeringSettings,
    responses(
        (status = 200, body = Written<SteeringSettings>, headers(("ETag" = String))),
        (status = 202, body = Written<SteeringSettings>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(
    request: Writing<ZoneRef, Json<SteeringSettings>>,
) -> Result<Answer<SteeringSettings>, ApiError> {
    let Writing { mut writer, path, body: Json(settings), preconditions, .. } = request;
    writer.need_whole_zones()?;
    let key = steering::settings_key(&writer.zone(&path, Verb::Write)?.name);
    let item = Reader::settings(settings);
    let (done, warnings) = change_one(&mut writer, &path, &preconditions, &key, Some(&item)).await?;
    let (item, tag) = match done.zone() {
        Some(zone) => (Some(of(zone)), tag(zone)),
        None => (None, None),
    };
    Ok(writer.answer_with(done, item, warnings).await?.tagged(tag))
}

fn of(zone: &Zone) -> SteeringSettings {
    show::settings(&zone.settings())
}

fn tag(zone: &Zone) -> Option<String> {
    let key = steering::settings_key(&zone.name);
    zone.content.get(&key).map(|rrset| rrset_tag(&key, rrset))
}
