//! Pages of a zone's steering.

use herald_core::zone::Zone;
use herald_core::{Name, RrKey, Rrset, Rtype};
use herald_wire::api::Page;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::edge::pages;
use crate::edge::problem::ApiError;

/// Which page, as of when.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SteeringListQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    limit: Option<usize>,
    /// As they were at this revision (`4711`, `c4711`) or time (RFC 3339), instead of as they are.
    pub at: Option<String>,
}

/// A page of what RRsets stand for, in canonical order; below `holder` if one is given.
pub fn page<T>(
    zone: &Zone,
    holder: Option<&Name>,
    query: &SteeringListQuery,
    wanted: impl Fn(&RrKey, &Rrset) -> Option<T>,
) -> Result<Page<T>, ApiError> {
    let limit = pages::limit(query.limit)?;
    let after = pages::read_cursor(query.cursor.as_deref(), position)?;
    let begin = holder.map(|holder| RrKey::new(holder.clone(), Rtype::from_int(u16::MAX)));
    let after = after.max(begin);
    let is_within = |key: &RrKey| holder.is_none_or(|holder| key.owner.is_below(holder));
    let candidates = zone.content.after(after.as_ref()).take_while(|(key, _)| is_within(key));
    let cursor = |(key, _): &(&RrKey, &Rrset)| octets(key);
    Ok(pages::page(candidates, limit, cursor, |(key, rrset)| wanted(key, rrset)))
}

/// A page of several things that an RRset may stand for: `each` gives them by number, ascending.
pub fn page_of_many<T>(
    zone: &Zone,
    query: &SteeringListQuery,
    each: impl Fn(&RrKey, &Rrset) -> Vec<(u16, T)>,
) -> Result<Page<T>, ApiError> {
    let limit = pages::limit(query.limit)?;
    let after = pages::read_cursor(query.cursor.as_deref(), |octets| {
        let (key, number) = octets.split_last_chunk()?;
        Some((position(key)?, u16::from_be_bytes(*number)))
    })?;
    // The RRset of the cursor may have more.
    let own = after.as_ref().and_then(|(key, _)| zone.content.get(key).map(|rrset| (key, rrset)));
    let rrsets = own.into_iter().chain(zone.content.after(after.as_ref().map(|(key, _)| key)));
    let is_next = |key: &RrKey, number: u16| {
        after.as_ref().is_none_or(|(last, numbered)| key != last || number > *numbered)
    };
    let candidates = rrsets.flat_map(|(key, rrset)| {
        let mut things: Vec<(&RrKey, u16, Option<T>)> = each(key, rrset)
            .into_iter()
            .filter(|(number, _)| is_next(key, *number))
            .map(|(number, thing)| (key, number, Some(thing)))
            .collect();
        if things.is_empty() {
            // That it was looked at counts.
            things.push((key, u16::MAX, None));
        }
        things
    });
    let candidates = candidates.map(|(key, number, thing)| (key, number, std::cell::Cell::new(thing)));
    let cursor = |(key, number, _): &(&RrKey, u16, std::cell::Cell<Option<T>>)| {
        [&octets(key)[..], &number.to_be_bytes()].concat()
    };
    Ok(pages::page(candidates, limit, cursor, |(_, _, thing)| thing.take()))
}

fn octets(key: &RrKey) -> Vec<u8> {
    [key.owner.as_wire(), &key.rtype.to_int().to_be_bytes()].concat()
}

/// The place in the order that a cursor stands for.
fn position(octets: &[u8]) -> Option<RrKey> {
    let (name, rtype) = octets.split_last_chunk()?;
    Some(RrKey::new(Name::from_wire(name).ok()?, Rtype::from_int(u16::from_be_bytes(*rtype))))
}
