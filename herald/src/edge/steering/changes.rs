//! `PATCH /zones/{zone}/steering`: some of it, and records, in one change.

use herald_core::command::ZoneRef;
use herald_core::steering::{self, Item};
use herald_core::zone::Zone;
use herald_core::{RrKey, Rtype};
use herald_wire::api::steering::{SteeringChange, SteeringOp, SteeringPatch};
use herald_wire::api::{self, Problem, Written};

use super::draft::{Draft, is_of};
use super::read::{self, Reader};
use super::{Asked, Edits, change};
use crate::edge::gate::{Answer, Json, WriteQuery, Writing};
use crate::edge::names::{Faults, parse_changes};
use crate::edge::problem::ApiError;
use crate::edge::zones::answer_zone_with;

/// Steering and records in one change: seen whole or not at all by every PoP.
///
/// Done in order, judged by the final state.
#[utoipa::path(patch, path = "/zones/{zone}/steering", tag = "steering", operation_id = "change_steering",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The zone's ETag."),
        WriteQuery,
    ),
    request_body = SteeringPatch,
    responses(
        (status = 200, body = Written<api::Zone>, headers(("ETag" = String))),
        (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn patch(request: Writing<ZoneRef, Json<SteeringPatch>>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { mut writer, path, body: Json(patch), preconditions, .. } = request;
    let message = patch.message.clone();
    let is_guarded = preconditions.if_match.is_some();
    let asked = Asked { path: &path, is_guarded, needs_base: false, message };
    let (done, warnings) =
        change(&mut writer, asked, Some(&preconditions), |zone| edits(zone, &patch)).await?;
    answer_zone_with(&writer, done, warnings).await
}

fn edits(zone: &Zone, patch: &SteeringPatch) -> Result<Edits, ApiError> {
    let mut faults = Faults::default();
    let mut draft = Draft::of(zone);
    for (place, change) in patch.changes.iter().enumerate() {
        let at = format!("/changes/{place}");
        let mut reader = Reader { zone: &zone.name, faults: &mut faults };
        refuse_others(change, &at, reader.faults);
        plan(change, &at, &mut draft, &mut reader);
    }
    let records = parse_changes(&patch.records, &zone.name, "/records", &mut faults);
    faults.check()?;
    let (mut edits, mut pointers) = draft.finish();
    pointers.extend((0..records.len()).map(|place| format!("/records/{place}")));
    edits.extend(records);
    Ok((edits, pointers))
}

/// Refuses fields that an operation doesn't take, as they would be taken for done.
fn refuse_others(change: &SteeringChange, at: &str, faults: &mut Faults) {
    let SteeringChange { op, name, rtype, settings, pool, view, policy, overlay, endpoint, weight, state } =
        change;
    let takes: &[&str] = match op {
        SteeringOp::PutSettings => &["settings"],
        SteeringOp::PutPool => &["name", "pool"],
        SteeringOp::DeletePool | SteeringOp::DeleteView => &["name"],
        SteeringOp::SetEndpoint => &["name", "endpoint", "weight", "state"],
        SteeringOp::PutView => &["name", "view"],
        SteeringOp::PutPolicy => &["policy"],
        SteeringOp::DeletePolicy => &["name", "type"],
        SteeringOp::PutOverlay | SteeringOp::DeleteOverlay => &["overlay"],
    };
    let fields = [
        ("name", name.is_some()),
        ("type", rtype.is_some()),
        ("settings", settings.is_some()),
        ("pool", pool.is_some()),
        ("view", view.is_some()),
        ("policy", policy.is_some()),
        ("overlay", overlay.is_some()),
        ("endpoint", endpoint.is_some()),
        ("weight", weight.is_some()),
        ("state", state.is_some()),
    ];
    for (field, is_given) in fields {
        let is_optional = matches!(field, "weight" | "state");
        match (is_given, takes.contains(&field)) {
            (true, false) => {
                faults.add(format!("{at}/{field}"), "this operation doesn't take it", None, None)
            }
            (false, true) if !is_optional => {
                faults.add(format!("{at}/{field}"), "this operation needs it", None, None);
            }
            _ => {}
        }
    }
}

/// Plans one change. What is missing was noted before.
fn plan(change: &SteeringChange, at: &str, draft: &mut Draft<'_>, reader: &mut Reader<'_>) -> Option<()> {
    let zone = reader.zone;
    match change.op {
        SteeringOp::PutSettings => {
            draft.put(steering::settings_key(zone), &Reader::settings(change.settings?), at);
        }
        SteeringOp::PutPool => {
            let item = reader.pool(change.pool.as_ref()?, &format!("{at}/pool"));
            let key = held_key(change, steering::POOL, at, reader)?;
            draft.put(key, &item?, at);
        }
        SteeringOp::PutView => {
            let item = reader.view(change.view.as_ref()?, &format!("{at}/view"));
            let key = held_key(change, steering::VIEW, at, reader)?;
            draft.put(key, &item?, at);
        }
        SteeringOp::DeletePool => {
            let key = held_key(change, steering::POOL, at, reader)?;
            delete(key, at, draft, reader);
        }
        SteeringOp::DeleteView => {
            let key = held_key(change, steering::VIEW, at, reader)?;
            delete(key, at, draft, reader);
        }
        SteeringOp::SetEndpoint => set_endpoint(change, at, draft, reader)?,
        SteeringOp::PutPolicy => {
            let (owner, answered, item) = reader.policy(change.policy.as_ref()?, &format!("{at}/policy"))?;
            draft.put(steering::policy_key(&owner, answered)?, &item, at);
        }
        SteeringOp::DeletePolicy => {
            let owner = reader.owner(change.name.as_ref()?, at);
            let answered = reader.answered(change.rtype.as_ref()?, format!("{at}/type"))?;
            delete(steering::policy_key(&owner?, answered)?, at, draft, reader);
        }
        SteeringOp::PutOverlay => {
            let (owner, overlay) = reader.overlay(change.overlay.as_ref()?, &format!("{at}/overlay"))?;
            draft.edit_overlays(&owner, at, |overlays| {
                overlays.retain(|other| !is_of(other, &overlay.view, overlay.rtype));
                overlays.push(overlay);
            });
        }
        SteeringOp::DeleteOverlay => delete_overlay(change, at, draft, reader)?,
    }
    Some(())
}

/// Where a change's pool or view is held.
fn held_key(change: &SteeringChange, rtype: Rtype, at: &str, reader: &mut Reader<'_>) -> Option<RrKey> {
    let name = reader.label(change.name.as_ref()?, format!("{at}/name"))?;
    let key = match rtype {
        steering::POOL => steering::pool_key(reader.zone, name),
        _ => steering::view_key(reader.zone, name),
    };
    key.map_err(|e| reader.faults.add(format!("{at}/name"), e.to_string(), None, None)).ok()
}

fn delete(key: RrKey, at: &str, draft: &mut Draft<'_>, reader: &mut Reader<'_>) {
    if draft.current(&key).is_none() {
        let detail = format!("there is no {}", super::show::title(reader.zone, &key));
        reader.faults.add(format!("{at}/name"), detail, None, None);
    }
    draft.delete(key, at);
}

fn set_endpoint(
    change: &SteeringChange,
    at: &str,
    draft: &mut Draft<'_>,
    reader: &mut Reader<'_>,
) -> Option<()> {
    let key = held_key(change, steering::POOL, at, reader)?;
    let Some(Item::Pool(mut pool)) = draft.item(&key) else {
        let detail = format!("there is no {}", super::show::title(reader.zone, &key));
        reader.faults.add(format!("{at}/name"), detail, None, None);
        return None;
    };
    let name = change.endpoint.as_ref()?;
    let Some(endpoint) = pool.endpoints.iter_mut().find(|endpoint| endpoint.name == *name) else {
        let detail = format!(
            "the pool `{}` has no endpoint `{}`",
            change.name.as_ref()?,
            crate::edge::names::shortened(name)
        );
        reader.faults.add(format!("{at}/endpoint"), detail, None, None);
        return None;
    };
    if let Some(weight) = change.weight {
        if weight > steering::WEIGHT_MAX {
            let detail = format!("a weight is at most {}, not {weight}", steering::WEIGHT_MAX);
            reader.faults.add(format!("{at}/weight"), detail, None, None);
        }
        endpoint.weight = weight;
    }
    if let Some(state) = change.state {
        endpoint.state = read::state(state);
    }
    draft.replace(key, Some(Item::Pool(pool)), at);
    Some(())
}

fn delete_overlay(
    change: &SteeringChange,
    at: &str,
    draft: &mut Draft<'_>,
    reader: &mut Reader<'_>,
) -> Option<()> {
    let (given, at_overlay) = (change.overlay.as_ref()?, format!("{at}/overlay"));
    if given.hidden || given.ttl.is_some() || !given.records.is_empty() {
        let detail = "what is removed is named by its view, name and type alone";
        reader.faults.add(at_overlay.clone(), detail, Some(&given.name), Some(&given.rtype));
    }
    let owner = reader.owner(&given.name, &at_overlay);
    let rtype = reader.overlay_type(&given.rtype, format!("{at_overlay}/type"))?;
    let owner = owner?;
    let mut was_there = false;
    draft.edit_overlays(&owner, at, |overlays| {
        let before = overlays.len();
        overlays.retain(|other| !is_of(other, &given.view, rtype));
        was_there = overlays.len() < before;
    });
    if !was_there {
        let detail = "the view has nothing of this name and type";
        reader.faults.add(at_overlay, detail, Some(&given.name), Some(&given.rtype));
    }
    Some(())
}
