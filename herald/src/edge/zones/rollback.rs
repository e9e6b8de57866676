//! `POST /zones/{zone}/rollback` and `restore`: the past made present again, by a new change.

use std::sync::Arc;

use herald_core::account::Verb;
use herald_core::command::{Action, Insiders, ZoneRef};
use herald_core::content::Content;
use herald_core::rejection::Rejection;
use herald_core::{RrKey, Rtype};
use herald_wire::api::{self, Problem, Rollback, RollbackReport, Warning, Written};

use super::content;
use super::import::{ATTEMPTS, Differences, set_of};
use super::one::answer_zone_with;
use crate::edge::at::{self, At};
use crate::edge::gate::{Answer, Json, NoBody, WriteQuery, Writing, blocking};
use crate::edge::present;
use crate::edge::problem::{ApiError, Code, Pointers};

/// A zone gets the records again that it had, by a new change with a higher serial.
///
/// Labels, set of name servers and SOA stay. Where the zone's set of name servers was changed since, the apex NS are
/// that set's as they are now.
#[utoipa::path(post, path = "/zones/{zone}/rollback", tag = "zones", operation_id = "rollback_zone",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The zone's ETag."),
        WriteQuery,
    ),
    request_body = Rollback,
    responses(
        (status = 200, body = Written<RollbackReport>),
        (status = 202, body = Written<RollbackReport>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn rollback(request: Writing<ZoneRef, Json<Rollback>>) -> Result<Answer<RollbackReport>, ApiError> {
    let Writing { mut writer, path, body: Json(body), query, preconditions } = request;
    writer.need_whole_zones()?;
    let zone = writer.zone(&path, Verb::Create)?.arc();
    let path = ZoneRef::Id(zone.id);
    let to = At::parse("to", &body.to).map_err(|e| e.at("/to"))?;
    let to = to.revision(&writer).await.map_err(|e| e.at("/to"))?;
    let then = writer.history().zone_at(zone.id, to).await?;
    let then = then.ok_or_else(|| at::not_there(&zone.name, to))?;
    let message = body.message.or(query.message).unwrap_or_else(|| format!("rollback to revision {to}"));
    for _ in 0..ATTEMPTS {
        let zone = writer.zone(&path, Verb::Create)?.arc();
        preconditions.zone_revision(&zone)?;
        let set = set_of(&writer, &zone)?;
        let set_changed = writer.history().soa_was_set(zone.id, to, zone.revision).await?;
        let (base, old) = (Arc::clone(&zone), then.content.clone());
        let prepared = blocking(move || {
            let content = match set_changed {
                true => content::with_apex_ns(&base.name, old.clone(), &set),
                false => old.clone(),
            };
            let nameservers_kept = content != old;
            let checked = content::checked(&base.name, content)?.as_version_of(&base.content);
            let counts = Differences::of(&base.content, checked.content(), 0);
            Ok::<_, ApiError>((checked, counts, nameservers_kept))
        });
        let (content, counts, nameservers_kept) = prepared.await??;
        let content = writer.prepare(content, counts.rrsets(), None).await?;
        let action = Action::ReplaceZone { zone: path.clone(), base: zone.revision, content };
        match writer.submit(action, Some(message.clone()), Pointers::None).await {
            Ok(done) => {
                let report = done.zone().map(|zone| RollbackReport {
                    zone: present::zone(&done.state, zone),
                    to,
                    rrsets_added: counts.added,
                    rrsets_changed: counts.changed,
                    rrsets_removed: counts.removed,
                    nameservers_kept,
                });
                let etag = report.as_ref().map(|report| report.zone.revision.to_string());
                return Ok(writer.answer(done, report).await?.tagged(etag));
            }
            Err(e) if e.code() == Code::Stale => writer.refresh()?,
            Err(e) => return Err(e),
        }
    }
    Err(ApiError::new(
        Code::Conflict,
        "the zone is being changed so often that the rollback could not be fitted in: try again",
    ))
}

/// A deleted zone is made again as it last was, under a new id; its name must be free.
#[utoipa::path(post, path = "/zones/{zone}/restore", tag = "zones", operation_id = "restore_zone",
    params(("zone" = String, Path, description = "Id of the deleted zone."), WriteQuery),
    responses(
        (status = 201, body = Written<api::Zone>, headers(("Location" = String), ("ETag" = String))),
        (status = 200, body = Written<api::Zone>, description = "Of a dry run."),
        (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn restore(request: Writing<ZoneRef, NoBody>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { writer, path, query, .. } = request;
    writer.access().need_verb(Verb::Create)?;
    writer.need_whole_zones()?;
    let held = at::held(&writer, &path).await?;
    let Some(deleted) = held.deleted else {
        return Err(Rejection::conflict(format!("the zone {} was not deleted", held.name)).into());
    };
    let then = writer.history().zone_at(held.id, deleted - 1).await?;
    let then = then.ok_or_else(|| at::not_there(&held.name, deleted - 1))?;
    let state = writer.state();
    let set = state.ns_set(then.ns_set).or_else(|| state.default_ns_set());
    let set = set.ok_or_else(|| Rejection::not_found("set of name servers"))?.arc();
    let mut warnings = Vec::new();
    let ns_key = RrKey::new(then.name.clone(), Rtype::NS);
    let (zone, its_set) = (Arc::clone(&then), Arc::clone(&set));
    let content: Result<_, ApiError> = blocking(move || {
        let content: Content = content::with_apex_ns(&zone.name, zone.content.clone(), &its_set);
        content::checked(&zone.name, content)
    })
    .await?;
    let content = content?;
    if content.content().get(&ns_key) != then.content.get(&ns_key) {
        warnings.push(Warning {
            code: "nameservers_replaced".into(),
            name: Some(then.name.to_string()),
            detail: format!("the apex NS are those of the set of name servers {} as it is now", set.name),
        });
    }
    let rrsets = content.content().rrset_count();
    let content = writer.prepare(content, rrsets, Some(then.serial)).await?;
    let action = Action::CreateZone {
        name: then.name.clone(),
        tenant: Some(held.tenant),
        ns_set: Some(set.id),
        labels: then.labels.clone(),
        content: Some(content),
        insiders: then.is_private().then_some(Insiders::OfContent),
    };
    let message = query.message.unwrap_or_else(|| format!("restored {}", held.id));
    let done = writer.submit(action, Some(message), Pointers::None).await?;
    let path = done.zone().map(|zone| format!("/zones/{}", zone.id));
    Ok(answer_zone_with(&writer, done, warnings).await?.created_at(path))
}
