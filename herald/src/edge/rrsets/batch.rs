//! `PATCH /zones/{zone}/rrsets`

use herald_core::account::Verb;
use herald_core::command::{Action, ZoneEdit, ZoneRef};
use herald_wire::api::{self, Problem, RrsetBatch, Written};

use crate::edge::gate::{Answer, Json, WriteQuery, Writing};
use crate::edge::names::{Faults, parse_changes};
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::zones::answer_zone;

/// A batch of changes: done in order, judged by the final state, whole or not at all.
#[utoipa::path(patch, path = "/zones/{zone}/rrsets", tag = "rrsets", operation_id = "change_rrsets",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The zone's ETag."),
        WriteQuery,
    ),
    request_body = RrsetBatch,
    responses(
        (status = 200, body = Written<api::Zone>, headers(("ETag" = String))),
        (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn patch(request: Writing<ZoneRef, Json<RrsetBatch>>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { writer, path, body: Json(batch), preconditions, .. } = request;
    let zone = writer.zone(&path, Verb::Write)?;
    let mut faults = Faults::default();
    let edits = parse_changes(&batch.changes, &zone.name, "/changes", &mut faults);
    faults.check()?;
    let edit = ZoneEdit { zone: ZoneRef::Id(zone.id), if_match: preconditions.zone_revision(zone)?, edits };
    let action = Action::EditZones { zones: vec![edit] };
    let done = writer.submit(action, batch.message, Pointers::Changes).await?;
    answer_zone(&writer, done).await
}
