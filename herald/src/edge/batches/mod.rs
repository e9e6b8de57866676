//! `POST /batches`: changes of several zones, or several new ones, atomic in the log.

mod create;

use herald_core::account::Verb;
use herald_core::command::{Action, ZoneEdit, ZoneRef};
use herald_wire::api::{self, MultiZoneBatch, Problem, Written};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{Answer, AppState, IfMatch, Json, WriteQuery, Writing};
use super::names::{Faults, parse_changes};
use super::present;
use super::problem::{ApiError, Pointers};

/// The routes of batches.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(batch))
}

/// Change several zones, or make several: all or nothing.
#[utoipa::path(post, path = "/batches", tag = "rrsets", operation_id = "create_batch",
    params(WriteQuery), request_body = MultiZoneBatch, responses(
    (status = 200, body = Written<Vec<api::Zone>>),
    (status = 201, body = Written<Vec<api::Zone>>, description = "The zones were made."),
    (status = 202, body = Written<Vec<api::Zone>>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn batch(request: Writing<(), Json<MultiZoneBatch>>) -> Result<Answer<Vec<api::Zone>>, ApiError> {
    let Writing { writer, body: Json(batch), .. } = request;
    if !batch.create.is_empty() {
        return create::zones(&writer, batch).await;
    }
    let mut faults = Faults::default();
    let (mut ids, mut edits) = (Vec::new(), Vec::new());
    for (place, part) in batch.zones.iter().enumerate() {
        let pointer = || format!("/zones/{place}");
        let path = match ZoneRef::parse(&part.zone) {
            Ok(path) => path,
            Err(e) => {
                faults.add(pointer() + "/zone", format!("neither a zone's id nor its name: {e}"), None, None);
                continue;
            }
        };
        let zone = writer.zone(&path, Verb::Write).map_err(|e| e.at(pointer() + "/zone"))?;
        let if_match = match &part.if_match {
            Some(tags) => {
                IfMatch::parse(tags).zone_revision(zone).map_err(|e| e.at(pointer() + "/if_match"))?
            }
            None => None,
        };
        let changes =
            parse_changes(&part.changes, &zone.name, &format!("{}/changes", pointer()), &mut faults);
        ids.push(zone.id);
        edits.push(ZoneEdit { zone: ZoneRef::Id(zone.id), if_match, edits: changes });
    }
    faults.check()?;
    let done = writer.submit(Action::EditZones { zones: edits }, batch.message, Pointers::Zones).await?;
    let zones = ids.iter().filter_map(|id| done.state.zone(*id));
    let zones = zones.map(|zone| present::zone(&done.state, zone)).collect();
    writer.answer(done, Some(zones)).await
}
