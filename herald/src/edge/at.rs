//! `at=`, `from=`, `to=`: points of the past, and zones as they were then.

use std::sync::Arc;

use herald_core::account::{Principal, Verb};
use herald_core::command::ZoneRef;
use herald_core::rejection::{Rejection, RejectionKind};
use herald_core::zone::Zone;
use herald_core::{Name, TenantId, ZoneId};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::gate::Caller;
use super::names::shortened;
use super::present;
use super::problem::{ApiError, Code};
use crate::history::Record;

/// A point of the past, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Right after this entry.
    Revision(u64),
    /// In ms since the epoch.
    TimeMs(u64),
}

impl At {
    /// Reads a revision (`4711`), a change's id (`c4711`), a time (RFC 3339), or a day, which stands for its begin in UTC.
    ///
    /// # Errors
    /// Malformed, with the parameter's name.
    pub fn parse(parameter: &str, text: &str) -> Result<At, ApiError> {
        if let Ok(revision) = text.strip_prefix('c').unwrap_or(text).parse() {
            return Ok(At::Revision(revision));
        }
        let day =
            || Date::strptime("%Y-%m-%d", text).ok()?.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp());
        let time = text.parse::<Timestamp>().ok().or_else(day);
        time.and_then(|time| u64::try_from(time.as_millisecond()).ok()).map(At::TimeMs).ok_or_else(|| {
            ApiError::malformed(format!(
                "`{}` is neither a revision nor a time: `{parameter}` is to be like 4711, c4711, \
                 2026-11-23T09:30:00Z or 2026-11-23",
                shortened(text)
            ))
        })
    }

    /// The revision that is meant.
    ///
    /// # Errors
    /// Malformed if it is beyond the log.
    pub async fn revision(self, caller: &Caller) -> Result<u64, ApiError> {
        let head = caller.state().revision();
        match self {
            At::Revision(revision) if revision <= head => Ok(revision),
            At::Revision(revision) => Err(ApiError::malformed(format!(
                "there is no revision {revision} yet: the last one is {head}"
            ))),
            At::TimeMs(time_ms) if time_ms >= caller.state().time_ms() => Ok(head),
            At::TimeMs(time_ms) => Ok(caller.history().revision_at(time_ms).await?),
        }
    }
}

/// A zone that the caller holds, or held when it was deleted.
#[derive(Clone, Debug)]
pub struct Held {
    /// Identity.
    pub id: ZoneId,
    /// Apex.
    pub name: Name,
    /// Who holds or held it.
    pub tenant: TenantId,
    /// The entry that deleted it.
    pub deleted: Option<u64>,
}

/// Finds a zone whose past the caller may see: one that is there, or by its id one that was.
///
/// # Errors
/// Not found, or forbidden.
pub async fn held(caller: &Caller, zone: &ZoneRef) -> Result<Held, ApiError> {
    let missing = match caller.zone(zone, Verb::Read) {
        Ok(zone) => {
            let (id, name, tenant) = (zone.id, zone.name.clone(), zone.tenant);
            return Ok(Held { id, name, tenant, deleted: None });
        }
        Err(e) => e,
    };
    let ZoneRef::Id(id) = zone else { return Err(missing) };
    if missing.code() != Code::NotFound || caller.state().zone(*id).is_some() {
        return Err(missing);
    }
    let access = caller.access();
    let known = caller.history().known_zone(*id).await?;
    let known = known.filter(|known| {
        access.tenant.is_none_or(|tenant| tenant == known.tenant)
            && access.scope.allows_zone(Some(known.id), &known.name)
    });
    let known = known.ok_or(missing)?;
    access.need_verb(Verb::Read)?;
    Ok(Held { id: known.id, name: known.name, tenant: known.tenant, deleted: known.deleted })
}

/// A zone as it is, or as it was.
///
/// # Errors
/// Not found, also if it wasn't there then.
pub async fn zone(caller: &Caller, zone: &ZoneRef, at: Option<&str>) -> Result<Arc<Zone>, ApiError> {
    let Some(at) = at else { return Ok(caller.zone(zone, Verb::Read)?.arc()) };
    let at = At::parse("at", at)?;
    let held = held(caller, zone).await?;
    let revision = at.revision(caller).await?;
    let found = caller.history().zone_at(held.id, revision).await?;
    found.ok_or_else(|| not_there(&held.name, revision))
}

/// The zone was not there then.
pub fn not_there(name: &Name, revision: u64) -> ApiError {
    Rejection::new(
        RejectionKind::NotFound,
        format!("the zone {name} was not there at revision {revision}: its history says when it was"),
    )
    .into()
}

/// Who did it and why, as this caller is to be told.
pub fn who_and_why(caller: &Caller, record: &Record) -> (String, Option<String>) {
    if is_own(caller, record.principal) {
        return (record.principal.to_string(), record.message.clone());
    }
    (present::kind(record.principal).into(), None)
}

/// Whether it is of the caller's own tenant; to operators all are.
pub fn is_own(caller: &Caller, principal: Principal) -> bool {
    match (caller.access().tenant, principal) {
        (None, _) => true,
        (Some(own), Principal::Tenant { tenant, .. }) => own == tenant,
        (Some(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_the_past() {
        for (text, at) in [
            ("4711", At::Revision(4711)),
            ("c12", At::Revision(12)),
            ("1970-01-01T00:00:01.5Z", At::TimeMs(1500)),
            ("1970-01-01T02:00:01+02:00", At::TimeMs(1000)),
            ("1970-01-02", At::TimeMs(86_400_000)),
        ] {
            assert_eq!(At::parse("at", text).unwrap(), at, "{text}");
        }
        for text in
            ["", "yesterday", "-1", "cc1", "1969-12-31T00:00:00Z", "2026-11-23T09:30:00", "2026-13-01"]
        {
            assert_eq!(At::parse("at", text).unwrap_err().code(), Code::Malformed, "{text}");
        }
    }
}
