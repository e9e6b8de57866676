//! `/zones/{zone}/views/{view}/records`: what a view has at names.

use axum::http::StatusCode;
use axum::response::Response;
use herald_core::account::Verb;
use herald_core::command::ZoneRef;
use herald_core::rejection::Rejection;
use herald_core::steering::{self, Item};
use herald_core::zone::Zone;
use herald_core::{Name, RrKey, Rrset, Rtype};
use herald_wire::api::steering::{Overlay, OverlayPut, Tagged};
use herald_wire::api::{Page, Problem, Warning, Written};

use super::draft::{Draft, is_of};
use super::list::{SteeringListQuery, page_of_many};
use super::{Asked, AtQuery, change, read, read_item, show, whole_zone};
use crate::edge::gate::{
    Answer, Done, IfMatch, Json, NoBody, Preconditions, Reading, WriteQuery, Writer, Writing, rrset_tag,
};
use crate::edge::names::{encoded, parse_owner};
use crate::edge::problem::{ApiError, Code};
use crate::edge::respond;

/// Zone, view, owner name and type, as the path has them.
type OverlayPath = (ZoneRef, String, String, String);

/// What a view has, in canonical order, a page at a time.
///
/// A page may have fewer items than asked for, or none, and still a `next_cursor`.
#[utoipa::path(get, path = "/zones/{zone}/views/{view}/records", tag = "steering", operation_id = "list_overlays",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "The view's name."),
        SteeringListQuery,
    ),
    responses(
        (status = 200, body = Page<Tagged<Overlay>>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    request: Reading<(ZoneRef, String), SteeringListQuery>,
) -> Result<respond::Ok<Page<Tagged<Overlay>>>, ApiError> {
    let Reading { caller, path: (zone, view), query, .. } = &request;
    let zone = whole_zone(caller, zone, query.at.as_deref()).await?;
    let each = |key: &RrKey, rrset: &Rrset| {
        let overlays = if key.rtype == steering::OVERLAY { all(key, rrset) } else { Vec::new() };
        let mut of_view: Vec<_> = overlays
            .into_iter()
            .filter(|overlay| overlay.view == *view)
            .map(|overlay| (overlay.rtype.to_int(), of(&zone.name, &key.owner, overlay)))
            .collect();
        of_view.sort_by_key(|(number, _)| *number);
        of_view
    };
    Ok(respond::Ok(page_of_many(&zone, query, each)?))
}

/// What a view has at a name and type.
#[utoipa::path(get, path = "/zones/{zone}/views/{view}/records/{name}/{type}", tag = "steering",
    operation_id = "get_overlay",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "The view's name."),
        ("name" = String, Path, description = "Fully qualified, relative to the zone, or `@`."),
        ("type" = String, Path, description = "A type, or `ANY`."),
        AtQuery,
    ),
    responses(
        (status = 200, body = Tagged<Overlay>, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<OverlayPath, AtQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path: (zone, view, name, rtype), query, preconditions } = request;
    let zone = whole_zone(&caller, &zone, query.at.as_deref()).await?;
    let (owner, rtype) = place(&zone, &name, &rtype)?;
    let shown = current(&zone, &owner, &view, rtype).ok_or_else(|| missing(&view, &owner, rtype))?;
    let tag = shown.etag.clone();
    Ok(respond::tagged_json(&preconditions, &tag, || respond::json(StatusCode::OK, &shown)))
}

/// What a view has at a name and type becomes this.
#[utoipa::path(put, path = "/zones/{zone}/views/{view}/records/{name}/{type}", tag = "steering",
    operation_id = "put_overlay",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "The view's name."),
        ("name" = String, Path, description = "Fully qualified, relative to the zone, or `@`."),
        ("type" = String, Path, description = "A type, or `ANY` to hide all of the name."),
        ("If-Match" = Option<String>, Header, description = "Its ETag, or `*`: it is there."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it is not there."),
        WriteQuery,
    ),
    request_body = OverlayPut,
    responses(
        (status = 200, body = Written<Tagged<Overlay>>, headers(("ETag" = String))),
        (status = 201, body = Written<Tagged<Overlay>>, description = "It was not there before.",
            headers(("Location" = String), ("ETag" = String))),
        (status = 202, body = Written<Tagged<Overlay>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(
    request: Writing<OverlayPath, Json<OverlayPut>>,
) -> Result<Answer<Tagged<Overlay>>, ApiError> {
    let Writing { mut writer, path: (zone, view, name, text), body: Json(body), preconditions, .. } = request;
    let zone = writer.zone(&zone, Verb::Write)?.arc();
    writer.need_whole_zones()?;
    let (owner, rtype) = place(&zone, &name, &text)?;
    let overlay = read(&zone, |reader| reader.overlay_body(view.clone(), rtype, &body, ""))?;
    let is_new = current(&zone, &owner, &view, rtype).is_none();
    let path = format!("/zones/{}/views/{view}/records/{}/{text}", zone.id, encoded(&owner.to_string()));
    let target = Target { zone: &zone, view: &view, owner: &owner, rtype };
    let (done, warnings) = edit(&mut writer, &target, &preconditions, Some(&overlay)).await?;
    let shown = done.zone().and_then(|zone| current(zone, &owner, &view, rtype));
    let tag = shown.as_ref().map(|shown| shown.etag.clone());
    Ok(writer.answer_with(done, shown, warnings).await?.tagged(tag).created_at(is_new.then_some(path)))
}

/// The view has nothing of its own at a name and type any more.
#[utoipa::path(delete, path = "/zones/{zone}/views/{view}/records/{name}/{type}", tag = "steering",
    operation_id = "delete_overlay",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "The view's name."),
        ("name" = String, Path, description = "Fully qualified, relative to the zone, or `@`."),
        ("type" = String, Path, description = "A type, or `ANY`."),
        ("If-Match" = Option<String>, Header, description = "Its ETag, or `*`: it is there."),
        WriteQuery,
    ),
    responses(
        (status = 200, body = Written<Tagged<Overlay>>),
        (status = 202, body = Written<Tagged<Overlay>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<OverlayPath, NoBody>) -> Result<Answer<Tagged<Overlay>>, ApiError> {
    let Writing { mut writer, path: (zone, view, name, rtype), preconditions, .. } = request;
    let zone = writer.zone(&zone, Verb::Write)?.arc();
    writer.need_whole_zones()?;
    let (owner, rtype) = place(&zone, &name, &rtype)?;
    let target = Target { zone: &zone, view: &view, owner: &owner, rtype };
    let (done, warnings) = edit(&mut writer, &target, &preconditions, None).await?;
    writer.answer_with(done, None, warnings).await
}

/// What is changed.
struct Target<'a> {
    zone: &'a Zone,
    view: &'a str,
    owner: &'a Name,
    rtype: Rtype,
}

async fn edit(
    writer: &mut Writer,
    target: &Target<'_>,
    preconditions: &Preconditions,
    overlay: Option<&steering::Overlay>,
) -> Result<(Done, Vec<Warning>), ApiError> {
    let Target { view, owner, rtype, .. } = *target;
    let is_guarded = preconditions.if_match.is_some() || preconditions.if_none_match.is_some();
    let path = ZoneRef::Id(target.zone.id);
    // Others at the same name share its RRset: that one changed meanwhile is no failure of this one.
    let asked = Asked { path: &path, is_guarded: false, needs_base: false, message: None };
    change(writer, asked, None, |zone| {
        let now = current(zone, owner, view, rtype);
        if is_guarded {
            need(preconditions, now.as_ref().map(|now| now.etag.as_str()))?;
        } else if overlay.is_none() && now.is_none() {
            return Err(missing(view, owner, rtype));
        }
        let mut draft = Draft::of(zone);
        draft.edit_overlays(owner, "", |overlays| {
            overlays.retain(|other| !is_of(other, view, rtype));
            overlays.extend(overlay.cloned());
        });
        Ok(draft.finish())
    })
    .await
}

/// Judges the preconditions of a request by the tag of what is there.
fn need(preconditions: &Preconditions, tag: Option<&str>) -> Result<(), ApiError> {
    let holds = match (&preconditions.if_match, &preconditions.if_none_match) {
        (Some(wanted), None) => tag.is_some_and(|tag| wanted.has(tag)),
        (None, Some(IfMatch::Any)) => tag.is_none(),
        (None, None) => true,
        _ => {
            return Err(ApiError::malformed(
                "with a write, If-None-Match can only be `*`, and without If-Match",
            ));
        }
    };
    if holds {
        return Ok(());
    }
    Err(ApiError::new(Code::PreconditionFailed, "what the view has there was changed, made or deleted since"))
}

fn place(zone: &Zone, name: &str, rtype: &str) -> Result<(Name, Rtype), ApiError> {
    let owner = parse_owner(name, &zone.name)
        .map_err(|e| ApiError::malformed(format!("the name in the path: {e}")))?;
    let rtype = read(zone, |reader| reader.overlay_type(rtype, String::new()))
        .map_err(|e| ApiError::malformed(e.into_items().swap_remove(0).detail))?;
    Ok((owner, rtype))
}

fn current(zone: &Zone, owner: &Name, view: &str, rtype: Rtype) -> Option<Tagged<Overlay>> {
    let key = RrKey::new(owner.clone(), steering::OVERLAY);
    let overlays = all(&key, zone.content.get(&key)?);
    let overlay = overlays.into_iter().find(|overlay| is_of(overlay, view, rtype))?;
    Some(of(&zone.name, owner, overlay))
}

fn all(key: &RrKey, rrset: &Rrset) -> Vec<steering::Overlay> {
    match read_item(key, rrset) {
        Some(Item::Overlays(overlays)) => overlays,
        _ => Vec::new(),
    }
}

fn of(zone: &Name, owner: &Name, overlay: steering::Overlay) -> Tagged<Overlay> {
    let shown = show::overlay(zone, owner, &overlay);
    let key = RrKey::new(owner.clone(), steering::OVERLAY);
    let alone = Item::Overlays(vec![overlay]).write().map(|rrset| rrset_tag(&key, &rrset));
    Tagged { etag: alone.unwrap_or_default(), item: shown }
}

fn missing(view: &str, owner: &Name, rtype: Rtype) -> ApiError {
    let view = crate::edge::names::shortened(view);
    Rejection::not_found(format_args!("{owner} {rtype} of the view `{view}`")).into()
}
