//! `GET`, `PUT /zones/{zone}/steering`: all of it.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::Response;
use herald_core::RrKey;
use herald_core::command::ZoneRef;
use herald_core::steering::{self, Item};
use herald_core::zone::Zone;
use herald_wire::api::steering::SteeringDocument;
use herald_wire::api::{self, Problem, Written};

use super::draft::Draft;
use super::read::Reader;
use super::{Asked, AtQuery, Edits, change, show, whole_zone};
use crate::edge::gate::{Answer, Json, Reading, WriteQuery, Writing, blocking};
use crate::edge::names::Faults;
use crate::edge::problem::ApiError;
use crate::edge::respond;
use crate::edge::zones::answer_zone_with;

/// All steering of a zone, as it is or was.
#[utoipa::path(get, path = "/zones/{zone}/steering", tag = "steering", operation_id = "get_steering",
    params(("zone" = String, Path, description = "Id or unambiguous name."), AtQuery),
    responses(
        (status = 200, body = SteeringDocument, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<ZoneRef, AtQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path, query, preconditions } = request;
    let zone = whole_zone(&caller, &path, query.at.as_deref()).await?;
    let tag = zone.revision.to_string();
    // There may be a million policies.
    blocking(move || {
        let document = || respond::json(StatusCode::OK, &show::document(&zone));
        respond::tagged_json(&preconditions, &tag, document)
    })
    .await
}

/// The zone's steering becomes this: what isn't in the document goes.
#[utoipa::path(put, path = "/zones/{zone}/steering", tag = "steering", operation_id = "put_steering",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The zone's ETag."),
        WriteQuery,
    ),
    request_body = SteeringDocument,
    responses(
        (status = 200, body = Written<api::Zone>, headers(("ETag" = String))),
        (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<ZoneRef, Json<SteeringDocument>>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { mut writer, path, body: Json(document), preconditions, .. } = request;
    writer.need_whole_zones()?;
    let is_guarded = preconditions.if_match.is_some();
    let asked = Asked { path: &path, is_guarded, needs_base: true, message: None };
    let (done, warnings) =
        change(&mut writer, asked, Some(&preconditions), |zone| edits(zone, &document)).await?;
    answer_zone_with(&writer, done, warnings).await
}

/// What makes a zone's steering this.
fn edits(zone: &Zone, document: &SteeringDocument) -> Result<Edits, ApiError> {
    let mut faults = Faults::default();
    let mut draft = Draft::of(zone);
    let settings = Reader::settings(document.settings);
    if document.settings != api::steering::SteeringSettings::default() {
        draft.put(steering::settings_key(&zone.name), &settings, "/settings");
    }
    let mut reader = Reader { zone: &zone.name, faults: &mut faults };
    for (name, view) in &document.views {
        let at = format!("/views/{}", escaped(name));
        let item = reader.view(view, &at);
        if let (Some(name), Some(item)) = (reader.label(name, at.clone()), item) {
            put_held(&mut draft, steering::view_key(&zone.name, name), &item, &at, &mut reader);
        }
    }
    for (name, pool) in &document.pools {
        let at = format!("/pools/{}", escaped(name));
        let item = reader.pool(pool, &at);
        if let (Some(name), Some(item)) = (reader.label(name, at.clone()), item) {
            put_held(&mut draft, steering::pool_key(&zone.name, name), &item, &at, &mut reader);
        }
    }
    let mut seen = BTreeSet::new();
    for (place, policy) in document.policies.iter().enumerate() {
        let at = format!("/policies/{place}");
        let Some((owner, answered, item)) = reader.policy(policy, &at) else { continue };
        let Some(key) = steering::policy_key(&owner, answered) else { continue };
        if !seen.insert(key.clone()) {
            reader.faults.add(
                at.clone(),
                "this policy is given twice",
                Some(&policy.name),
                Some(&policy.rtype),
            );
        }
        draft.put(key, &item, &at);
    }
    overlays(&mut draft, document, &mut reader);
    faults.check()?;
    draft.delete_others("");
    Ok(draft.finish())
}

fn overlays(draft: &mut Draft<'_>, document: &SteeringDocument, reader: &mut Reader<'_>) {
    let mut by_owner = std::collections::BTreeMap::<_, (Vec<steering::Overlay>, String)>::new();
    for (place, overlay) in document.overlays.iter().enumerate() {
        let at = format!("/overlays/{place}");
        let Some((owner, read)) = reader.overlay(overlay, &at) else { continue };
        let (all, _) = by_owner.entry(owner).or_insert_with(|| (Vec::new(), at.clone()));
        if all.iter().any(|other| super::draft::is_of(other, &read.view, read.rtype)) {
            reader.faults.add(at, "this overlay is given twice", Some(&overlay.name), Some(&overlay.rtype));
            continue;
        }
        all.push(read);
    }
    for (owner, (overlays, at)) in by_owner {
        let key = RrKey::new(owner, steering::OVERLAY);
        let item = Item::Overlays(overlays);
        if item.write().is_err() {
            reader.faults.add(at, "an overlay is too large", None, None);
            continue;
        }
        draft.put(key, &item, &at);
    }
}

fn put_held(
    draft: &mut Draft<'_>,
    key: Result<RrKey, herald_core::name::NameError>,
    item: &Item,
    at: &str,
    reader: &mut Reader<'_>,
) {
    match key {
        Ok(key) => draft.put(key, item, at),
        Err(e) => reader.faults.add(at.into(), e.to_string(), None, None),
    }
}

/// A key as a part of a JSON pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
