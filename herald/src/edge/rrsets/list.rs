//! `GET /zones/{zone}/rrsets`

use herald_core::command::ZoneRef;
use herald_core::steering::is_steering_type;
use herald_core::zone::Zone;
use herald_core::{Name, RrKey, Rrset, Rtype};
use herald_wire::api::{self, Page, Problem};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::edge::gate::Reading;
use crate::edge::names::{parse_owner, parse_record_type};
use crate::edge::problem::ApiError;
use crate::edge::{at, pages, present, respond};

/// Which RRsets, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RrsetListQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    limit: Option<usize>,
    /// The owner name: fully qualified, relative to the zone, or `@`.
    name: Option<String>,
    /// The type.
    #[serde(rename = "type")]
    rtype: Option<String>,
    /// As they were at this revision (`4711`, `c4711`) or time (RFC 3339), instead of as they are.
    at: Option<String>,
}

/// RRsets in canonical order, the SOA included, a page at a time: those within the token's scope.
///
/// Steering is not among them. With a type given, and in zones with much steering, a page may have fewer items than asked for, or none, and still a `next_cursor`.
#[utoipa::path(get, path = "/zones/{zone}/rrsets", tag = "rrsets", operation_id = "list_rrsets",
    params(("zone" = String, Path, description = "Id or unambiguous name."), RrsetListQuery),
    responses(
        (status = 200, body = Page<api::Rrset>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    request: Reading<ZoneRef, RrsetListQuery>,
) -> Result<respond::Ok<Page<api::Rrset>>, ApiError> {
    let Reading { caller, path, query, .. } = &request;
    let zone = at::zone(caller, path, query.at.as_deref()).await?;
    let limit = pages::limit(query.limit)?;
    let after = pages::read_cursor(query.cursor.as_deref(), position)?;
    let owner = match &query.name {
        Some(text) => Some(
            parse_owner(text, &zone.name)
                .map_err(|e| ApiError::malformed(format!("the parameter `name`: {e}")))?,
        ),
        None => None,
    };
    let rtype = match &query.rtype {
        Some(text) => Some(parse_record_type(text).map_err(ApiError::malformed)?),
        None => None,
    };
    let scope = &caller.access().scope;
    let cursor =
        |(key, _): &(RrKey, Rrset)| [key.owner.as_wire(), &key.rtype.to_int().to_be_bytes()].concat();
    let wanted = |(key, rrset): &(RrKey, Rrset)| {
        (rtype.is_none_or(|rtype| rtype == key.rtype)
            && !is_steering_type(key.rtype)
            && scope.allows_rrset(key))
        .then(|| present::rrset(key, rrset))
    };
    let page = match owner {
        None => pages::page(with_soa(&zone, after.as_ref()), limit, cursor, wanted),
        Some(owner) => {
            // Begins right at the owner, or after the cursor if that is further.
            let before = RrKey::new(owner.clone(), Rtype::from_int(0));
            let after = after.map_or(before.clone(), |after| after.max(before));
            let candidates = with_soa(&zone, Some(&after)).take_while(|(key, _)| key.owner == owner);
            pages::page(candidates, limit, cursor, wanted)
        }
    };
    Ok(respond::Ok(page))
}

/// The place in the order that a cursor stands for.
fn position(octets: &[u8]) -> Option<RrKey> {
    let (name, rtype) = octets.split_last_chunk()?;
    Some(RrKey::new(Name::from_wire(name).ok()?, Rtype::from_int(u16::from_be_bytes(*rtype))))
}

/// The RRsets after a key, with the SOA in its place among them.
fn with_soa<'z>(zone: &'z Zone, after: Option<&'z RrKey>) -> impl Iterator<Item = (RrKey, Rrset)> + use<'z> {
    let soa_key = zone.soa_key();
    let mut soa = after.is_none_or(|after| *after < soa_key).then(|| (soa_key, zone.soa_rrset()));
    let mut rrsets = zone.content.after(after).map(|(key, rrset)| (key.clone(), rrset.clone())).peekable();
    std::iter::from_fn(move || match (&soa, rrsets.peek()) {
        (Some((soa_key, _)), Some((key, _))) if key < soa_key => rrsets.next(),
        (Some(_), _) => soa.take(),
        (None, _) => rrsets.next(),
    })
}
