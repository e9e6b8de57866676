//! How far around an address the same is decided.

use std::net::IpAddr;
use std::ops::Range;

use super::places::Places;
use super::ranges::{Ranges, Span};
use super::{Geo, Place};

/// Most instructions, about, that the walk for one answer may take. A prefix that isn't found by then is longer than it could be, and
/// still right.
const WORK_MAX: usize = 150_000;
/// What a step takes of that, beside what the decision takes.
const STEP_WORK: usize = 150;
/// And for each thing that may begin or end there.
const BORDER_WORK: usize = 10;

/// Borders that are followed one by one: few in small memory, or more. Where rules ask for more places, each network of the table is
/// taken for one of its own.
const BORDERS_FEW: usize = 24;
const BORDERS_MAX: usize = 256;
/// Places that are looked for in the table.
const PLACES_MAX: usize = 512;

/// Something that a rule asks of addresses.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Whether they are in a place.
    Place(Place),
    /// Whether they are in one of these prefixes of IPv4 (octets, length), which are sorted and disjoint.
    Prefixes4(&'a [[u8; 5]]),
    /// Whether they are in one of these of IPv6.
    Prefixes6(&'a [[u8; 17]]),
}

/// Where an address is led.
#[derive(Clone, Copy, Debug)]
pub struct Led {
    /// Equal for those who get the same.
    pub outcome: u64,
    /// How many rules were asked, from the first one: what others ask makes no difference before one of these does.
    pub rules: usize,
    /// Whether it depends on the coordinates.
    pub is_by_location: bool,
    /// Instructions that it took, about.
    pub work: usize,
}

/// Decides for addresses.
pub trait Decider<'a> {
    /// Where an address is led.
    fn led(&self, address: IpAddr) -> Led;

    /// Tells `each` what the rules of these numbers ask, in their order. Of alternatives that are places no more need be told once it
    /// says false.
    fn asks(&self, rules: Range<usize>, each: &mut dyn FnMut(usize, Ask<'a>) -> bool);
}

/// The length of the shortest prefix that contains the client and in which every address has the client's outcome, which is `wanted`.
///
/// Outcomes may change only where something that a rule asks for begins or ends. The addresses in which nothing does are walked
/// outwards, one stretch after the other, as long as a shorter prefix needs it and the outcome stays the same.
pub fn widest<'a>(geo: &'a Geo, client: IpAddr, wanted: Led, decider: &impl Decider<'a>) -> u8 {
    let bits = if client.is_ipv4() { 32 } else { 128 };
    // So many rules that there is no room for them aren't published.
    walk::<BORDERS_FEW>(geo, client, wanted, decider, false)
        .or_else(|| walk::<BORDERS_MAX>(geo, client, wanted, decider, false))
        .or_else(|| walk::<BORDERS_MAX>(geo, client, wanted, decider, true))
        .unwrap_or(bits)
}

/// None if there are more borders than room for them. If it `is_coarse`, places aren't told apart.
fn walk<'a, const N: usize>(
    geo: &'a Geo,
    client: IpAddr,
    wanted: Led,
    decider: &impl Decider<'a>,
    is_coarse: bool,
) -> Option<u8> {
    let (bits, client_number) = match client {
        IpAddr::V4(v4) => (32, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (128, v6.to_bits()),
    };
    let address = |number: u128| match client {
        // The numbers are IPv4's own as long as the client is.
        IpAddr::V4(_) => IpAddr::V4((number as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    };
    let mut borders = Borders::<N>::new(geo, is_coarse);
    let mut known = borders.around(client, client_number, wanted, decider)?;
    let mut work = 0;
    loop {
        let host_bits = host_bits(client_number, known, bits);
        if host_bits == bits || work > WORK_MAX {
            return Some((bits - host_bits) as u8);
        }
        // The prefix that is shorter by one bit is this one and its sibling, and that isn't known as a whole.
        let sibling_is_above = client_number >> host_bits & 1 == 0;
        let number = if sibling_is_above { known.last + 1 } else { known.first - 1 };
        let led = decider.led(address(number));
        if led.outcome != wanted.outcome {
            return Some((bits - host_bits) as u8);
        }
        let more = borders.around(address(number), number, led, decider)?;
        if sibling_is_above {
            known.last = more.last;
        } else {
            known.first = more.first;
        }
        work += led.work + STEP_WORK + BORDER_WORK * borders.count;
    }
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

/// All that begins or ends somewhere, and the addresses around where the walk is in which it doesn't.
struct Borders<'a, const N: usize> {
    geo: &'a Geo,
    /// Places aren't told apart.
    is_coarse: bool,
    all: [Border<'a>; N],
    count: usize,
    /// The rules whose borders are there.
    rules: usize,
    /// Places that were looked for.
    places: usize,
    /// The table's own network, for what depends on coordinates.
    network: Border<'a>,
}

#[derive(Clone, Copy)]
struct Border<'a> {
    of: Of<'a>,
    /// The number of the rule that asks for it.
    rule: usize,
    span: Span,
}

/// What begins and ends.
#[derive(Clone, Copy)]
enum Of<'a> {
    /// A list of ranges of places.
    Cities(&'a [u32]),
    /// A list of ranges of autonomous systems.
    Asns(&'a [u32]),
    /// Every range of places.
    EachCity,
    /// Every range of autonomous systems.
    EachAsn,
    Prefixes4(&'a [[u8; 5]]),
    Prefixes6(&'a [[u8; 17]]),
}

impl<'a> Border<'a> {
    fn new(of: Of<'a>, rule: usize) -> Border<'a> {
        // No address is in there.
        Border { of, rule, span: Span { first: 1, last: 0 } }
    }
}

impl<'a, const N: usize> Borders<'a, N> {
    fn new(geo: &'a Geo, is_coarse: bool) -> Borders<'a, N> {
        let network = Border::new(Of::EachCity, 0);
        Borders { geo, is_coarse, all: [network; N], count: 0, rules: 0, places: 0, network }
    }

    /// The addresses around one in which nothing begins or ends that its decision depends on. None if there is no room.
    fn around(
        &mut self,
        address: IpAddr,
        number: u128,
        led: Led,
        decider: &impl Decider<'a>,
    ) -> Option<Span> {
        if led.rules > self.rules {
            let mut has_room = true;
            decider.asks(self.rules..led.rules, &mut |rule, ask| {
                let goes_on = self.add(rule, ask, address.is_ipv4());
                has_room &= goes_on.is_some();
                goes_on.unwrap_or(false)
            });
            if !has_room {
                return None;
            }
            self.rules = led.rules;
        }
        let mut at = At { geo: self.geo, address, number, city: None, asn: None };
        let mut all = match address {
            IpAddr::V4(_) => Span { first: 0, last: u32::MAX.into() },
            IpAddr::V6(_) => Span { first: 0, last: u128::MAX },
        };
        let network = led.is_by_location.then_some(&mut self.network);
        let borders = self.all.iter_mut().take(self.count).filter(|border| border.rule < led.rules);
        for border in borders.chain(network) {
            if number < border.span.first || number > border.span.last {
                border.span = at.span(border.of);
            }
            all.first = all.first.max(border.span.first);
            all.last = all.last.min(border.span.last);
        }
        Some(all)
    }

    /// Adds what a rule asks for. Says whether more of its alternatives matter; none if there is no room.
    fn add(&mut self, rule: usize, ask: Ask<'a>, is_v4: bool) -> Option<bool> {
        match ask {
            Ask::Prefixes4(list) if is_v4 => self.push(Of::Prefixes4(list), rule)?,
            Ask::Prefixes6(list) if !is_v4 => self.push(Of::Prefixes6(list), rule)?,
            Ask::Prefixes4(_) | Ask::Prefixes6(_) => {}
            Ask::Place(place) => {
                let is_asn = matches!(place, Place::Asn(_));
                if self.is_coarse {
                    self.push_once(if is_asn { Of::EachAsn } else { Of::EachCity }, rule)?;
                    return Some(false);
                }
                self.places += 1;
                if self.places > PLACES_MAX {
                    return None;
                }
                let mut has_room = Some(());
                let geo = self.geo;
                geo.places.for_each_list(place, |bounds| {
                    let pushed = self.push(if is_asn { Of::Asns(bounds) } else { Of::Cities(bounds) }, rule);
                    has_room = has_room.and(pushed);
                });
                has_room?;
            }
        }
        Some(true)
    }

    fn push(&mut self, of: Of<'a>, rule: usize) -> Option<()> {
        *self.all.get_mut(self.count)? = Border::new(of, rule);
        self.count += 1;
        Some(())
    }

    /// The first rule that asks for it counts.
    fn push_once(&mut self, of: Of<'a>, rule: usize) -> Option<()> {
        let is_same = |border: &Border<'_>| std::mem::discriminant(&border.of) == std::mem::discriminant(&of);
        let is_there = self.all.iter().take(self.count).any(is_same);
        if is_there { Some(()) } else { self.push(of, rule) }
    }
}

/// An address, and the ranges that it is in once somebody wants to know.
struct At<'a> {
    geo: &'a Geo,
    address: IpAddr,
    number: u128,
    city: Option<usize>,
    asn: Option<usize>,
}

impl At<'_> {
    /// The addresses around it that are in something, or aren't, like itself, or as many of them as are found at once.
    fn span(&mut self, of: Of<'_>) -> Span {
        let (ranges, bounds) = match of {
            Of::Prefixes4(list) => return span_of_prefixes(list, self.number, 32, prefix4),
            Of::Prefixes6(list) => return span_of_prefixes(list, self.number, 128, prefix6),
            Of::Cities(bounds) => (&self.geo.cities, Some(bounds)),
            Of::Asns(bounds) => (&self.geo.asns, Some(bounds)),
            Of::EachCity => (&self.geo.cities, None),
            Of::EachAsn => (&self.geo.asns, None),
        };
        let range = match of {
            Of::Asns(_) | Of::EachAsn => &mut self.asn,
            _ => &mut self.city,
        };
        let address = self.address;
        let range = *range.get_or_insert_with(|| find(ranges, address));
        let (first, end) = match bounds {
            Some(bounds) => Places::around(bounds, range, ranges.len4(), ranges.len()),
            None => (range, range + 1),
        };
        match address {
            IpAddr::V4(_) => ranges.span4(first, end),
            IpAddr::V6(v6) => ranges.span6(v6.to_bits(), first, end),
        }
    }
}

fn find(ranges: &Ranges, address: IpAddr) -> usize {
    match address {
        IpAddr::V4(v4) => ranges.find4(v4.to_bits()),
        IpAddr::V6(v6) => ranges.find6(v6),
    }
}

fn prefix4(octets: &[u8; 5]) -> (u128, u8) {
    let [a, b, c, d, length] = *octets;
    (u32::from_be_bytes([a, b, c, d]).into(), length)
}

fn prefix6(octets: &[u8; 17]) -> (u128, u8) {
    (octets.first_chunk().map_or(0, |octets| u128::from_be_bytes(*octets)), octets[16])
}

/// The addresses around one that are in the same prefix, or in none.
fn span_of_prefixes<T>(list: &[T], number: u128, bits: u32, read: impl Fn(&T) -> (u128, u8)) -> Span {
    let all: u128 = u128::MAX >> (128 - bits);
    let after = list.partition_point(|prefix| read(prefix).0 <= number);
    let mut span = Span { first: 0, last: all };
    if let Some((start, length)) = after.checked_sub(1).and_then(|before| list.get(before)).map(&read) {
        let last = start | all.checked_shr(length.into()).unwrap_or(0);
        if number <= last {
            return Span { first: start, last };
        }
        span.first = last + 1;
    }
    if let Some((start, _)) = list.get(after).map(read) {
        span.last = start - 1;
    }
    span
}
