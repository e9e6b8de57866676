//! How far around an address the same is decided.

use std::net::IpAddr;

use herald_core::steering::Prefix;

use super::places::Places;
use super::ranges::Span;
use super::{Facts, Geo, Place};

/// Most outcomes that [`widest`] compares for one answer.
pub const STEPS_MAX: usize = 512;

/// The length of the shortest prefix that contains the client and in which every address has the client's outcome.
///
/// `places` and `prefixes` are all that the outcome depends on: it may change only where membership in one of them does. What is
/// asked of autonomous systems is known to `outcome` only if one is among the places, and other facts only if something else is.
///
/// The addresses in which nothing is known to change are walked outwards, one stretch after the other, as long as a shorter
/// prefix needs it and the outcome stays the same. If that isn't settled after [`STEPS_MAX`] stretches, the prefix of so far is
/// the answer: longer than it could be, and still right. Only outcomes that are the same across many places, as those of
/// [`Place::Anywhere`] are, come to that.
pub fn widest(
    geo: &Geo,
    client: IpAddr,
    places: impl Iterator<Item = Place> + Clone,
    prefixes: impl Iterator<Item = Prefix> + Clone,
    mut outcome: impl FnMut(IpAddr, &Facts) -> u64,
) -> u8 {
    let asks_asn = places.clone().any(|place| matches!(place, Place::Asn(_)));
    let asks_place = places.clone().any(|place| !matches!(place, Place::Asn(_)));
    let mut outcome_at = |address: IpAddr| {
        let mut facts = if asks_place { *geo.place(address) } else { Facts::default() };
        if asks_asn {
            facts.asn = geo.asn(address);
        }
        outcome(address, &facts)
    };
    let span_at = |address| span(geo, address, places.clone(), prefixes.clone());
    let (bits, client_number) = match client {
        IpAddr::V4(v4) => (32, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (128, v6.to_bits()),
    };
    let address = |number: u128| match client {
        // The numbers are IPv4's own as long as the client is.
        IpAddr::V4(_) => IpAddr::V4((number as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    };

    let mut known = span_at(client);
    let wanted = outcome_at(client);
    for _ in 1..STEPS_MAX {
        let host_bits = host_bits(client_number, known, bits);
        if host_bits == bits {
            return 0;
        }
        // The prefix that is shorter by one bit is this one and its sibling, and that isn't known as a whole.
        let sibling_is_above = client_number >> host_bits & 1 == 0;
        let number = if sibling_is_above { known.last + 1 } else { known.first - 1 };
        if outcome_at(address(number)) != wanted {
            return (bits - host_bits) as u8;
        }
        let more = span_at(address(number));
        if sibling_is_above {
            known.last = more.last;
        } else {
            known.first = more.first;
        }
    }
    (bits - host_bits(client_number, known, bits)) as u8
}

/// How many bits of the client's address may be anything without leaving the span that it is in.
fn host_bits(client: u128, span: Span, bits: u32) -> u32 {
    let highest_difference = |other: u128| 127 - (client ^ other).leading_zeros();
    // The address before the span has a 0 where the client has the 1 that keeps its prefixes out of there; and after it, a 1.
    let below = if span.first == 0 { bits } else { highest_difference(span.first - 1) };
    let is_open = span.last == u128::MAX >> (128 - bits);
    let above = if is_open { bits } else { highest_difference(span.last + 1) };
    below.min(above)
}

/// The addresses around one that are in the same places and prefixes, or as many of them as are found at once.
fn span(
    geo: &Geo,
    address: IpAddr,
    places: impl Iterator<Item = Place>,
    prefixes: impl Iterator<Item = Prefix>,
) -> Span {
    let mut all = match address {
        IpAddr::V4(_) => Span { first: 0, last: u32::MAX.into() },
        IpAddr::V6(_) => Span { first: 0, last: u128::MAX },
    };
    let mut narrow = |span: Span| {
        all.first = all.first.max(span.first);
        all.last = all.last.min(span.last);
    };
    let (mut city_range, mut asn_range) = (None, None);
    for place in places {
        let (ranges, range) = match place {
            Place::Asn(_) => (&geo.asns, &mut asn_range),
            _ => (&geo.cities, &mut city_range),
        };
        let mut between = |first: usize, end: usize| {
            narrow(match address {
                IpAddr::V4(_) => ranges.span4(first, end),
                IpAddr::V6(v6) => ranges.span6(v6.to_bits(), first, end),
            });
        };
        let mut find = || {
            *range.get_or_insert_with(|| match address {
                IpAddr::V4(v4) => ranges.find4(v4.to_bits()),
                IpAddr::V6(v6) => ranges.find6(v6),
            })
        };
        if place == Place::Anywhere {
            let range = find();
            between(range, range + 1);
            continue;
        }
        geo.places.for_each_list(place, |bounds| {
            let range = find();
            let (first, end) = Places::around(bounds, range, ranges.len4(), ranges.len());
            between(first, end);
        });
    }
    for prefix in prefixes {
        if let Some(span) = span_of_prefix(prefix, address) {
            narrow(span);
        }
    }
    all
}

/// The addresses around one that are in the prefix, or aren't, like itself; none if the prefix is of the other family.
fn span_of_prefix(prefix: Prefix, address: IpAddr) -> Option<Span> {
    let (address, first, bits) = match (address, prefix.address()) {
        (IpAddr::V4(address), IpAddr::V4(first)) => (address.to_bits().into(), first.to_bits().into(), 32),
        (IpAddr::V6(address), IpAddr::V6(first)) => (address.to_bits(), first.to_bits(), 128),
        _ => return None,
    };
    let all: u128 = u128::MAX >> (128 - bits);
    let last = first | all.checked_shr(prefix.length().into()).unwrap_or(0);
    Some(if address < first {
        Span { first: 0, last: first - 1 }
    } else if address > last {
        Span { first: last + 1, last: all }
    } else {
        Span { first, last }
    })
}
