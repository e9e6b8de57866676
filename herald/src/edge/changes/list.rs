//! `GET /changes`

use data_encoding::BASE64URL_NOPAD;
use herald_core::account::{Principal, Verb};
use herald_core::command::ZoneRef;
use herald_core::{TenantId, TokenId};
use herald_wire::api::{ChangeItem, Page, Problem, TouchedZone};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::edge::at::{self, At};
use crate::edge::gate::{Caller, Reading};
use crate::edge::problem::ApiError;
use crate::edge::{lookup, pages, present, respond};
use crate::history::{self, ChangesFilter, Record};

/// So many entries are looked at for a page; past it a page has fewer items than asked for.
const LOOKED_AT_MAX: usize = 10_000;

/// Which changes, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ChangeListQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    limit: Option<usize>,
    /// Of this zone: name, or id, also of a zone that was deleted.
    zone: Option<String>,
    /// Done by this token (id), by tokens of this tenant (id or name), by any `operator`, or by the `system`.
    principal: Option<String>,
    /// Not before this revision or time (RFC 3339).
    since: Option<String>,
    /// Not after this revision or time (RFC 3339).
    until: Option<String>,
}

/// Who changed what and why, newest first: for operators all changes, for tenants those of their own and of their zones.
///
/// With filters a page may have fewer items than asked for, or none, and still a `next_cursor`.
#[utoipa::path(get, path = "/changes", tag = "changes", operation_id = "list_changes",
    params(ChangeListQuery), responses(
    (status = 200, body = Page<ChangeItem>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: Reading<(), ChangeListQuery>) -> Result<respond::Ok<Page<ChangeItem>>, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_verb(Verb::Read)?;
    let limit = pages::limit(query.limit)?;
    let by = match &query.principal {
        Some(text) => Some(By::parse(&caller, text)?),
        None => None,
    };
    let mut filter = filter(&caller, &query, by).await?;
    let mut items = Vec::new();
    let mut looked_at = 0;
    let next_before = loop {
        filter.limit = limit;
        let page = caller.history().changes(filter.clone()).await?;
        let mut last = None;
        for (record, zones, zone_count) in page.items {
            looked_at += 1;
            last = Some(record.revision);
            if by.is_none_or(|by| by.is(record.principal)) {
                items.extend(item(&caller, &record, zones, zone_count));
            }
            if items.len() == limit {
                break;
            }
        }
        filter.before = last;
        if page.more_before.is_none() || items.len() == limit || looked_at >= LOOKED_AT_MAX {
            break last.filter(|_| page.more_before.is_some());
        }
    };
    let next_cursor = next_before.map(|before| BASE64URL_NOPAD.encode(&before.to_be_bytes()));
    Ok(respond::Ok(Page { items, next_cursor }))
}

async fn filter(caller: &Caller, query: &ChangeListQuery, by: Option<By>) -> Result<ChangesFilter, ApiError> {
    let zone = match &query.zone {
        Some(text) => {
            let zone = ZoneRef::parse(text)
                .map_err(|e| ApiError::malformed(format!("the parameter `zone`: {e}")))?;
            Some(at::held(caller, &zone).await?.id)
        }
        None => None,
    };
    let cursor = pages::read_revision_cursor(query.cursor.as_deref())?;
    // What is since a time comes after the last entry before it.
    let after = match query.since.as_deref().map(|text| At::parse("since", text)).transpose()? {
        None => 0,
        Some(At::Revision(revision)) => revision.saturating_sub(1),
        Some(At::TimeMs(time_ms)) => match time_ms.checked_sub(1) {
            Some(before) => At::TimeMs(before).revision(caller).await?,
            None => 0,
        },
    };
    let until = match query.until.as_deref().map(|text| At::parse("until", text)).transpose()? {
        None => None,
        Some(At::Revision(revision)) => Some(revision.saturating_add(1)),
        Some(time) => Some(time.revision(caller).await? + 1),
    };
    let before = match (cursor, until) {
        (Some(cursor), Some(until)) => Some(cursor.min(until)),
        (cursor, until) => cursor.or(until),
    };
    let by_tenant = match by {
        Some(By::Tenant(tenant)) => Some(tenant),
        _ => None,
    };
    let token = match by {
        Some(By::Token(token)) => Some(token),
        _ => None,
    };
    Ok(ChangesFilter { tenant: caller.access().tenant.or(by_tenant), zone, token, after, before, limit: 0 })
}

/// Who did it.
#[derive(Clone, Copy)]
enum By {
    System,
    Operator,
    Tenant(TenantId),
    Token(TokenId),
}

impl By {
    fn parse(caller: &Caller, text: &str) -> Result<By, ApiError> {
        match text {
            "system" => Ok(By::System),
            "operator" => Ok(By::Operator),
            _ => match text.parse() {
                Ok(token) => Ok(By::Token(token)),
                Err(_) => Ok(By::Tenant(lookup::tenant(caller, text)?.id)),
            },
        }
    }

    fn is(self, principal: Principal) -> bool {
        match (self, principal) {
            (By::System, Principal::System) | (By::Operator, Principal::Operator { .. }) => true,
            (By::Tenant(wanted), Principal::Tenant { tenant, .. }) => wanted == tenant,
            (By::Token(wanted), Principal::Operator { token } | Principal::Tenant { token, .. }) => {
                wanted == token
            }
            _ => false,
        }
    }
}

/// A change as this caller is to see it, if it is.
fn item(
    caller: &Caller,
    record: &Record,
    zones: Vec<history::TouchedZone>,
    zone_count: u64,
) -> Option<ChangeItem> {
    let access = caller.access();
    let sees = |zone: &history::TouchedZone| {
        access.tenant.is_none_or(|tenant| tenant == zone.zone.tenant)
            && access.scope.allows_zone(Some(zone.zone.id), &zone.zone.name)
    };
    let told = zones.len();
    let zones: Vec<TouchedZone> = zones
        .into_iter()
        .filter(sees)
        .map(|touched| TouchedZone {
            id: touched.zone.id.to_string(),
            name: touched.zone.name.to_string(),
            name_unicode: touched.zone.name.to_unicode(),
            deleted: touched.zone.deleted.is_some(),
        })
        .collect();
    let is_unlimited = access.scope.zones.is_empty();
    let is_visible = !zones.is_empty()
        || record.principal == caller.principal()
        || is_unlimited && (at::is_own(caller, record.principal) || zone_count == 0);
    if !is_visible {
        return None;
    }
    let (principal, message) = at::who_and_why(caller, record);
    Some(ChangeItem {
        id: present::change_id(record.revision),
        revision: record.revision,
        accepted_at_ms: record.time_ms,
        principal,
        message,
        kinds: present::kinds(record.kinds),
        zone_count: if zones.len() == told { zone_count } else { zones.len() as u64 },
        zones,
    })
}
