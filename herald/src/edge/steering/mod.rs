//! `/zones/{zone}/steering`, `pools`, `policies`, `views`: who gets which answer.
//!
//! Steering is content of its zone: each item is an RRset of a private type, and what is asked for here becomes edits of
//! those, in one change with records where that is asked.

mod changes;
mod document;
mod draft;
mod held;
pub(super) mod lint;
mod list;
mod overlays;
mod policies;
mod pools;
mod read;
mod settings;
pub(super) mod show;
mod views;

use std::sync::Arc;

use herald_core::account::Verb;
use herald_core::command::{Action, RrsetEdit, RrsetMatch, ZoneEdit, ZoneRef};
use herald_core::rejection::Rejection;
use herald_core::steering::Item;
use herald_core::zone::Zone;
use herald_core::{RrKey, Rrset};
use herald_wire::api::Warning;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::draft::Draft;
pub(super) use self::read::Reader;
use super::at;
use super::gate::{AppState, Caller, Done, Preconditions, Writer, rrset_tag};
use super::names::Faults;
use super::problem::{ApiError, Code, Pointers};

/// The routes of steering.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(document::get, document::put, changes::patch))
        .routes(routes!(lint::list))
        .routes(routes!(settings::get, settings::put))
        .routes(routes!(pools::list))
        .routes(routes!(pools::get, pools::put, pools::delete))
        .routes(routes!(policies::list))
        .routes(routes!(policies::get, policies::put, policies::delete))
        .routes(routes!(views::list))
        .routes(routes!(views::get, views::put, views::delete))
        .routes(routes!(overlays::list))
        .routes(routes!(overlays::get, overlays::put, overlays::delete))
}

/// As of when.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AtQuery {
    /// As it was at this revision (`4711`, `c4711`) or time (RFC 3339), instead of as it is.
    at: Option<String>,
}

/// How often a change is made anew because what it was made of changed meanwhile.
const ATTEMPTS: usize = 5;

/// Edits of a zone, and where in the request each comes from.
type Edits = (Vec<RrsetEdit>, Vec<String>);

/// What a request asks for beside its edits.
struct Asked<'a> {
    path: &'a ZoneRef,
    /// Whether the caller gave a precondition: then what fails it is not tried again.
    is_guarded: bool,
    /// Whether the zone must still be the one that the edits were made of.
    needs_base: bool,
    message: Option<String>,
}

/// Has a zone changed, and says what is odd about its policies afterwards. Where an edit was made of something that has changed since it is made anew.
async fn change(
    writer: &mut Writer,
    asked: Asked<'_>,
    preconditions: Option<&Preconditions>,
    edits: impl Fn(&Zone) -> Result<Edits, ApiError>,
) -> Result<(Done, Vec<Warning>), ApiError> {
    let id = writer.zone(asked.path, Verb::Write)?.id;
    let mut attempt = 1;
    loop {
        let zone = writer.zone(&ZoneRef::Id(id), Verb::Write)?.arc();
        let wanted = preconditions.map_or(Ok(None), |preconditions| preconditions.zone_revision(&zone))?;
        let (edits, pointers) = edits(&zone)?;
        let touched: Vec<RrKey> = edits.iter().map(|edit| edit.key.clone()).collect();
        let if_match = wanted.or(asked.needs_base.then_some(zone.revision));
        let action = Action::EditZones { zones: vec![ZoneEdit { zone: ZoneRef::Id(id), if_match, edits }] };
        let pointers = Pointers::Each(Arc::from(pointers));
        match writer.submit(action, asked.message.clone(), pointers).await {
            Err(e) if e.code() == Code::PreconditionFailed && !asked.is_guarded && attempt < ATTEMPTS => {
                attempt += 1;
                writer.refresh()?;
            }
            done => {
                let done = done?;
                let warnings = done.zone().map(|zone| lint::of_change(&done.state, zone, &touched));
                return Ok((done, warnings.unwrap_or_default()));
            }
        }
    }
}

/// One item becomes another, or goes.
async fn change_one(
    writer: &mut Writer,
    path: &ZoneRef,
    preconditions: &Preconditions,
    key: &RrKey,
    item: Option<&Item>,
) -> Result<(Done, Vec<Warning>), ApiError> {
    let is_guarded = preconditions.if_match.is_some() || preconditions.if_none_match.is_some();
    let asked = Asked { path, is_guarded, needs_base: false, message: None };
    change(writer, asked, None, |zone| {
        let mut draft = Draft::of(zone);
        let wanted: Option<RrsetMatch> = preconditions.rrset(zone, key)?;
        match item {
            Some(item) => draft.put(key.clone(), item, ""),
            None if wanted.is_none() && zone.content.get(key).is_none() => return Err(missing(zone, key)),
            None => draft.delete(key.clone(), ""),
        }
        draft.require(key, wanted);
        Ok(draft.finish())
    })
    .await
}

/// Reads something of a request's body; what is wrong with it is told.
fn read<T>(zone: &Zone, read: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Result<T, ApiError> {
    let mut faults = Faults::default();
    let read = read(&mut Reader { zone: &zone.name, faults: &mut faults });
    faults.check()?;
    read.ok_or_else(|| ApiError::new(Code::Invalid, "it can't be read"))
}

/// The item that is held at a key, with its tag.
fn found(zone: &Zone, key: &RrKey) -> Result<(Item, String), ApiError> {
    let rrset = zone.content.get(key).ok_or_else(|| missing(zone, key))?;
    let item = read_item(key, rrset).ok_or_else(|| missing(zone, key))?;
    Ok((item, rrset_tag(key, rrset)))
}

/// What an RRset of steering says.
fn read_item(key: &RrKey, rrset: &Rrset) -> Option<Item> {
    Item::read(key.rtype, &rrset.rdatas).ok()
}

fn missing(zone: &Zone, key: &RrKey) -> ApiError {
    Rejection::not_found(format_args!("{} in {}", show::title(&zone.name, key), zone.name)).into()
}

/// A zone as it is or was, for who may see all of it.
async fn whole_zone(caller: &Caller, path: &ZoneRef, at: Option<&str>) -> Result<Arc<Zone>, ApiError> {
    caller.need_whole_zones()?;
    at::zone(caller, path, at).await
}

/// Where a pool or view of this name is held.
fn held_key(
    key: Result<RrKey, herald_core::name::NameError>,
    zone: &Zone,
    name: &str,
) -> Result<RrKey, ApiError> {
    let is_label = herald_core::steering::item::is_label(name);
    match key {
        Ok(key) if is_label => Ok(key),
        _ => Err(ApiError::malformed(format!(
            "a name has 1 to 63 of a-z, 0-9, `-` and `_`, and fits into {}: `{}` doesn't",
            zone.name,
            super::names::shortened(name)
        ))),
    }
}
