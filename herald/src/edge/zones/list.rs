//! `GET /zones`

use herald_core::account::Verb;
use herald_core::state::find::{NamePart, Place, ZoneQuery};
use herald_core::zone::ZoneStatus;
use herald_core::{Name, ZoneId};
use herald_wire::api::{self, Page, Problem};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::edge::gate::{Caller, Reading};
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
    /// What the name begins with, with A-labels or U-labels.
    name_prefix: Option<String>,
    /// The whole name.
    name_exact: Option<String>,
    /// A name that it has, or lies below.
    below: Option<String>,
    /// For operators: zones of this tenant (id or name).
    tenant: Option<String>,
    /// Whether it is served.
    #[param(inline)]
    status: Option<api::ZoneStatus>,
    /// Whether it is private.
    private: Option<bool>,
    /// Its set of name servers (id or name).
    nameserver_set: Option<String>,
    /// A label that it has, `key=value`; may be repeated, and then it has all of them.
    #[serde(default)]
    label: Vec<String>,
}

/// Zones in canonical order, a page at a time.
///
/// A zone is listed if all that is asked for is so. A page may have fewer items than asked for, or none, and still a
/// `next_cursor`: a part of a name is looked for in so many names a page.
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
    let found = state.find_zones(&zone_query(caller, query)?, after.as_ref(), limit);
    Ok(respond::Ok(Page {
        items: found.zones.iter().map(|zone| present::zone(state, zone)).collect(),
        next_cursor: found.next.map(|place| pages::write_cursor(&cursor(&place))),
    }))
}

/// The place in the order that a cursor stands for.
fn position(octets: &[u8]) -> Option<Place> {
    let (name, id) = octets.split_last_chunk()?;
    Some((Name::from_wire(name).ok()?, ZoneId(u128::from_be_bytes(*id))))
}

fn cursor((name, id): &Place) -> Vec<u8> {
    [name.as_wire(), &id.0.to_be_bytes()].concat()
}

fn zone_query<'a>(caller: &'a Caller, query: &ZoneListQuery) -> Result<ZoneQuery<'a>, ApiError> {
    let name = |parameter: &str, text: &Option<String>| {
        let parse = |text: &String| {
            Name::parse(text).map_err(|e| ApiError::malformed(format!("{parameter} is no domain name: {e}")))
        };
        text.as_ref().map(parse).transpose()
    };
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(ApiError::malformed("label is to be `key=value`")),
    };
    let part = match (&query.name, &query.name_prefix) {
        (Some(_), Some(_)) => return Err(ApiError::malformed("name and name_prefix exclude each other")),
        (Some(text), None) => Some(NamePart::anywhere(text)),
        (None, Some(text)) => Some(NamePart::in_front(text)),
        (None, None) => None,
    };
    let all = ZoneQuery::all(caller.access());
    Ok(ZoneQuery {
        tenant: match &query.tenant {
            Some(text) => Some(lookup::tenant(caller, text)?.id),
            None => all.tenant,
        },
        name: name("name_exact", &query.name_exact)?,
        below: name("below", &query.below)?,
        part,
        status: query.status.map(|status| match status {
            api::ZoneStatus::Active => ZoneStatus::Active,
            api::ZoneStatus::Pending => ZoneStatus::Pending,
        }),
        private: query.private,
        ns_set: match &query.nameserver_set {
            Some(text) => Some(lookup::nameserver_set(caller.state(), text)?.id),
            None => None,
        },
        labels: query.label.iter().map(label).collect::<Result<_, _>>()?,
        ..all
    })
}
