//! Pools and views: what a zone holds by names of their own. They are listed, shown and changed alike.

use axum::http::StatusCode;
use axum::response::Response;
use herald_core::account::Verb;
use herald_core::command::ZoneRef;
use herald_core::name::NameError;
use herald_core::steering::{self, Item};
use herald_core::zone::Zone;
use herald_core::{Name, RrKey, Rrset, Rtype};
use herald_wire::api::Page;
use herald_wire::api::steering::Named;
use serde::Serialize;

use super::list::{SteeringListQuery, page};
use super::read::Reader;
use super::{AtQuery, change_one, found, held_key, read, read_item, whole_zone};
use crate::edge::gate::{Answer, Json, NoBody, Reading, Writing, rrset_tag};
use crate::edge::problem::{ApiError, Code};
use crate::edge::respond;

/// What is held by a name.
pub(super) trait Held: Serialize + Sized {
    /// The type of the RRset that holds it.
    const RTYPE: Rtype;
    /// What its kind is called in paths.
    const SEGMENT: &'static str;

    /// Where it is held.
    fn key(apex: &Name, name: &str) -> Result<RrKey, NameError>;

    /// What it is in the zone; what is wrong with it is told to the reader.
    fn read(&self, reader: &mut Reader<'_>) -> Option<Item>;

    /// As it is shown, if the item is one.
    fn show(item: &Item) -> Option<Self>;
}

pub(super) async fn list<T: Held>(
    request: Reading<ZoneRef, SteeringListQuery>,
) -> Result<respond::Ok<Page<Named<T>>>, ApiError> {
    let Reading { caller, path, query, .. } = &request;
    let zone = whole_zone(caller, path, query.at.as_deref()).await?;
    let holder = steering::holder(&zone.name).map_err(|e| ApiError::new(Code::Invalid, e.to_string()))?;
    Ok(respond::Ok(page(&zone, Some(&holder), query, of)?))
}

pub(super) async fn get<T: Held>(request: Reading<(ZoneRef, String), AtQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path: (zone, name), query, preconditions } = request;
    let zone = whole_zone(&caller, &zone, query.at.as_deref()).await?;
    let key = key::<T>(&zone, &name)?;
    let (_, tag) = found(&zone, &key)?;
    let shown = zone.content.get(&key).and_then(|rrset| of::<T>(&key, rrset));
    Ok(respond::tagged_json(&preconditions, &tag, || respond::json(StatusCode::OK, &shown)))
}

pub(super) async fn put<T: Held>(
    request: Writing<(ZoneRef, String), Json<T>>,
) -> Result<Answer<Named<T>>, ApiError> {
    let Writing { mut writer, path: (zone_ref, name), body: Json(body), preconditions, .. } = request;
    let zone = writer.zone(&zone_ref, Verb::Write)?.arc();
    // Before its preconditions tell what there is.
    writer.need_whole_zones()?;
    let key = key::<T>(&zone, &name)?;
    let item = read(&zone, |reader| body.read(reader))?;
    let is_new = zone.content.get(&key).is_none();
    let path = format!("/zones/{}/{}/{name}", zone.id, T::SEGMENT);
    let (done, warnings) =
        change_one(&mut writer, &ZoneRef::Id(zone.id), &preconditions, &key, Some(&item)).await?;
    let shown: Option<Named<T>> = done.zone().and_then(|zone| of(&key, zone.content.get(&key)?));
    let tag = shown.as_ref().map(|shown| shown.etag.clone());
    Ok(writer.answer_with(done, shown, warnings).await?.tagged(tag).created_at(is_new.then_some(path)))
}

pub(super) async fn delete<T: Held>(
    request: Writing<(ZoneRef, String), NoBody>,
) -> Result<Answer<Named<T>>, ApiError> {
    let Writing { mut writer, path: (zone_ref, name), preconditions, .. } = request;
    let zone = writer.zone(&zone_ref, Verb::Write)?.arc();
    writer.need_whole_zones()?;
    let key = key::<T>(&zone, &name)?;
    let (done, warnings) = change_one(&mut writer, &ZoneRef::Id(zone.id), &preconditions, &key, None).await?;
    writer.answer_with(done, None, warnings).await
}

fn key<T: Held>(zone: &Zone, name: &str) -> Result<RrKey, ApiError> {
    held_key(T::key(&zone.name, name), zone, name)
}

fn of<T: Held>(key: &RrKey, rrset: &Rrset) -> Option<Named<T>> {
    if key.rtype != T::RTYPE {
        return None;
    }
    let item = T::show(&read_item(key, rrset)?)?;
    Some(Named { name: steering::held_name(&key.owner)?, etag: rrset_tag(key, rrset), item })
}
