//! Rules of the query log.

use super::faults::at;
use super::quotas::need_room;
use super::zones::find;
use super::{Decision, Subject};
use crate::authorise::Authorised;
use crate::change::Change;
use crate::command::{Context, ZoneRef};
use crate::limits::Limit;
use crate::query_log::{LOG_MS_MAX, ONE_IN_MAX, QueryLog, ZONES_MAX};
use crate::rejection::{Rejection, RejectionKind};
use crate::state::State;

/// The shortest time that makes sense, in ms.
const LOG_MS_MIN: u64 = 1_000;

pub(super) fn set(
    state: &State,
    command: &Authorised,
    zone: &ZoneRef,
    for_ms: Option<u64>,
    one_in: u32,
) -> Result<Decision, Rejection> {
    let zone = find(state, command, zone)?;
    let for_ms = for_ms.unwrap_or(LOG_MS_MAX);
    if !(LOG_MS_MIN..=LOG_MS_MAX).contains(&for_ms) {
        return Err(at("/for_s", format!("queries are logged for 1 to {} seconds", LOG_MS_MAX / 1000)));
    }
    if !(1..=ONE_IN_MAX).contains(&one_in) {
        return Err(at("/one_in", format!("one query in 1 to {ONE_IN_MAX} is logged")));
    }
    if !zone.is_served() {
        return Err(Rejection::conflict(format!(
            "the zone {} isn't served: nobody asks for it here",
            zone.name
        )));
    }
    let since_ms = now_ms(state, command.context());
    let others = || state.query_logs().filter(|log| log.zone != zone.id && log.is_on_at(since_ms));
    let tenant = state.tenant(zone.tenant).ok_or_else(|| Rejection::not_found("tenant"))?;
    let own = others().filter(|log| log.tenant == tenant.id).count() as u64;
    let is_on = state.query_log(zone.id).is_some_and(|log| log.is_on_at(since_ms));
    need_room(tenant, Limit::QueryLogs, "", own + u64::from(is_on), own + 1)?;
    if !is_on && others().count() >= ZONES_MAX {
        return Err(Rejection::new(
            RejectionKind::Quota,
            format!(
                "queries of {ZONES_MAX} zones of this platform are logged now, and of no more at a time: try again later"
            ),
        ));
    }
    let log = QueryLog { zone: zone.id, tenant: tenant.id, since_ms, until_ms: since_ms + for_ms, one_in };
    Ok(Decision::one(Change::QueryLogSet(log), Subject::Zone(zone.id)))
}

pub(super) fn end(state: &State, command: &Authorised, zone: &ZoneRef) -> Result<Decision, Rejection> {
    let zone = find(state, command, zone)?;
    let at_ms = now_ms(state, command.context());
    let is_on = state.query_log(zone.id).is_some_and(|log| log.is_on_at(at_ms));
    let changes = is_on.then_some(Change::QueryLogEnded { zone: zone.id, at_ms });
    Ok(Decision {
        changes: changes.into_iter().collect(),
        subject: Some(Subject::Zone(zone.id)),
        ..Decision::default()
    })
}

/// Never before anything that is on the log, also if the clock was put back.
fn now_ms(state: &State, context: &Context) -> u64 {
    context.time_ms.max(state.time_ms())
}
