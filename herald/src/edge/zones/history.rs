//! `GET /zones/{zone}/history`

use data_encoding::BASE64URL_NOPAD;
use herald_core::command::ZoneRef;
use herald_wire::api::{Page, Problem, ZoneHistoryItem};

use crate::edge::gate::Reading;
use crate::edge::pages::{self, PageQuery};
use crate::edge::problem::ApiError;
use crate::edge::{at, present, respond};

/// What was done to a zone, newest first: when, by whom, why, and how much.
///
/// By its id also that of a zone that was deleted. Of what another than the caller's tenant did it is told what, and not
/// why.
#[utoipa::path(get, path = "/zones/{zone}/history", tag = "zones", operation_id = "list_zone_history",
    params(("zone" = String, Path, description = "Id or unambiguous name."), PageQuery),
    responses(
        (status = 200, body = Page<ZoneHistoryItem>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    request: Reading<ZoneRef, PageQuery>,
) -> Result<respond::Ok<Page<ZoneHistoryItem>>, ApiError> {
    let Reading { caller, path, query, .. } = request;
    let limit = pages::limit(query.limit)?;
    let before = pages::read_revision_cursor(query.cursor.as_deref())?;
    let zone = at::held(&caller, &path).await?;
    let mut records = caller.history().of_zone(zone.id, before, limit + 1).await?;
    let is_last = records.len() <= limit;
    records.truncate(limit);
    let next_cursor = records
        .last()
        .filter(|_| !is_last)
        .map(|last| BASE64URL_NOPAD.encode(&last.record.revision.to_be_bytes()));
    let items = records.into_iter().map(|one| {
        let (principal, message) = at::who_and_why(&caller, &one.record);
        ZoneHistoryItem {
            id: present::change_id(one.record.revision),
            revision: one.record.revision,
            accepted_at_ms: one.record.time_ms,
            principal,
            message,
            kinds: present::kinds(one.record.kinds),
            rrsets_put: one.rrsets_put,
            rrsets_deleted: one.rrsets_deleted,
        }
    });
    Ok(respond::Ok(Page { items: items.collect(), next_cursor }))
}
