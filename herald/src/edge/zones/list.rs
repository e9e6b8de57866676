//! `GET /zones`

use herald_core::account::Verb;
use herald_core::state::Shared;
use herald_core::zone::{Zone, ZoneStatus};
use herald_core::{Name, TenantId, ZoneId};
use herald_wire::api::{self, Page, Problem};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::edge::gate::Reading;
use crate::edge::problem::ApiError;
use crate::edge::{lookup, pages, present, respond};

/// Which zones, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ZoneListQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    limit: Option<usize>,
    /// Part of the name, with A-labels or U-labels.
    name: Option<String>,
    /// For operators: zones of this tenant (id or name).
    tenant: Option<String>,
    /// Whether it is served.
    #[param(inline)]
    status: Option<api::ZoneStatus>,
    /// A label that it has, `key=value`; may be repeated, and then it has all of them.
    #[serde(default)]
    label: Vec<String>,
}

/// Zones in canonical order, a page at a time.
///
/// With filters a page may have fewer items than asked for, or none, and still a `next_cursor`.
#[utoipa::path(get, path = "/zones", tag = "zones", operation_id = "list_zones",
    params(ZoneListQuery), responses(
    (status = 200, body = Page<api::Zone>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: Reading<(), ZoneListQuery>) -> Result<respond::Ok<Page<api::Zone>>, ApiError> {
    let Reading { caller, query, .. } = &request;
    let (state, access) = (caller.state(), caller.access());
    access.need_verb(Verb::Read)?;
    let limit = pages::limit(query.limit)?;
    let after = pages::read_cursor(query.cursor.as_deref(), position)?;
    let filter = Filter::new(query)?;
    let tenant: Option<TenantId> = match &query.tenant {
        Some(text) => Some(lookup::tenant(caller, text)?.id),
        None => access.tenant,
    };
    let cursor = |zone: &&Shared<Zone>| [zone.name.as_wire(), &zone.id.0.to_be_bytes()].concat();
    let wanted = |zone: &&Shared<Zone>| {
        (access.sees(zone) && filter.matches(zone)).then(|| present::zone(state, zone))
    };
    let page = match tenant {
        Some(tenant) => {
            let zones = state.tenant_zones(tenant, after.as_ref().map(|(name, _)| name));
            pages::page(zones, limit, cursor, wanted)
        }
        None => pages::page(state.zones_by_name(after.as_ref()), limit, cursor, wanted),
    };
    Ok(respond::Ok(page))
}

/// The place in the order that a cursor stands for.
fn position(octets: &[u8]) -> Option<(Name, ZoneId)> {
    let (name, id) = octets.split_last_chunk()?;
    Some((Name::from_wire(name).ok()?, ZoneId(u128::from_be_bytes(*id))))
}

struct Filter<'a> {
    name: Option<String>,
    status: Option<ZoneStatus>,
    labels: Vec<(&'a str, &'a str)>,
}

impl<'a> Filter<'a> {
    fn new(query: &'a ZoneListQuery) -> Result<Filter<'a>, ApiError> {
        let label = |text: &'a String| {
            text.split_once('=').ok_or_else(|| ApiError::malformed("label is to be `key=value`"))
        };
        Ok(Filter {
            name: query.name.as_ref().map(|name| name.to_lowercase()),
            status: query.status.map(|status| match status {
                api::ZoneStatus::Active => ZoneStatus::Active,
                api::ZoneStatus::Pending => ZoneStatus::Pending,
            }),
            labels: query.label.iter().map(label).collect::<Result<_, _>>()?,
        })
    }

    fn matches(&self, zone: &Zone) -> bool {
        self.status.is_none_or(|status| status == zone.status)
            && self.labels.iter().all(|(key, value)| zone.labels.get(*key).is_some_and(|own| own == value))
            && self.name.as_ref().is_none_or(|part| {
                zone.name.to_string().contains(part) || zone.name.to_unicode().contains(part)
            })
    }
}
