//! What is noted of a query whose zone is logged, which logs there are, and how many of too many queries are kept: pure.
//!
//! - [`Record`], [`Kept`]: a query in some words, for a ring between threads.
//! - [`Logs`]: which zones are logged, each by a number that goes with its queries.
//! - [`Window`]: an even sample of what came within a second.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use herald_core::{Name, ZoneId};

use crate::link::{LoggedEdns, LoggedSubnet, LoggedZone};

// ---------------------------------------------------------------------------------------------------
// Records
// ---------------------------------------------------------------------------------------------------

/// Words of a record before the name.
pub const HEAD_WORDS: usize = 8;

/// Words of a record: the longest name has 255 octets.
pub const RECORD_WORDS: usize = HEAD_WORDS + 32;

/// What is noted of a query.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The number of the log that it is for.
    pub log: u32,
    /// The type asked for.
    pub rtype: u16,
    /// The response code, the extended one.
    pub rcode: u16,
    /// How it came, as [`Transport`](crate::counts::Transport) has it.
    pub transport: u8,
    /// Whether the answer was truncated.
    pub is_truncated: bool,
    /// Whether it wasn't answered, on purpose.
    pub is_dropped: bool,
    /// Where it came from.
    pub source: Option<IpAddr>,
    /// EDNS, if it had any.
    pub edns: Option<Edns>,
    /// Octets of the answer.
    pub answer_bytes: u32,
    /// The policy that was asked, zero if none was.
    pub policy: u64,
    /// The pool that answered, zero if none did.
    pub pool: u64,
    /// The name asked for, in wire format and small letters.
    pub name: &'a [u8],
}

/// EDNS of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Octets of an answer that it takes.
    pub udp_bytes: u16,
    /// Whether signatures are asked for.
    pub wants_dnssec: bool,
    /// First address and length of the client subnet that came with it.
    pub subnet: Option<(IpAddr, u8)>,
}

const LOG_BITS: u32 = 18;
const IS_SOURCE_IPV6: u32 = 50;
const HAS_EDNS: u32 = 51;
const WANTS_DNSSEC: u32 = 52;
const HAS_SUBNET: u32 = 53;
const IS_SUBNET_IPV6: u32 = 54;
const IS_TRUNCATED: u32 = 55;
const IS_DROPPED: u32 = 56;

impl Record<'_> {
    /// All of it but the name.
    pub fn head(&self) -> [u64; HEAD_WORDS] {
        let subnet = self.edns.and_then(|edns| edns.subnet);
        let (source, is_source_ipv6) = bits(self.source);
        let (address, is_subnet_ipv6) = bits(subnet.map(|(address, _)| address));
        let flags = u64::from(is_source_ipv6) << IS_SOURCE_IPV6
            | u64::from(self.edns.is_some()) << HAS_EDNS
            | u64::from(self.edns.is_some_and(|edns| edns.wants_dnssec)) << WANTS_DNSSEC
            | u64::from(subnet.is_some()) << HAS_SUBNET
            | u64::from(is_subnet_ipv6) << IS_SUBNET_IPV6
            | u64::from(self.is_truncated) << IS_TRUNCATED
            | u64::from(self.is_dropped) << IS_DROPPED;
        let what = u64::from(self.log & ((1 << LOG_BITS) - 1))
            | u64::from(self.rtype) << LOG_BITS
            | u64::from(self.rcode & 0xfff) << 34
            | u64::from(self.transport & 0xf) << 46
            | flags;
        let sizes = u64::from(self.answer_bytes.min(0xff_ffff))
            | u64::from(self.edns.map_or(0, |edns| edns.udp_bytes)) << 24
            | u64::from(subnet.map_or(0, |(_, length)| length)) << 40
            | (self.name.len().min(255) as u64) << 48;
        let halves = |bits: u128| ((bits >> 64) as u64, bits as u64);
        let ((source_high, source_low), (address_high, address_low)) = (halves(source), halves(address));
        [what, sizes, source_high, source_low, address_high, address_low, self.policy, self.pool]
    }

    /// The words of the name.
    pub fn name_words(&self) -> impl Iterator<Item = u64> {
        let word = |octets: &[u8]| octets.iter().rev().fold(0, |word, octet| word << 8 | u64::from(*octet));
        self.name.chunks(8).take(RECORD_WORDS - HEAD_WORDS).map(word)
    }
}

fn bits(address: Option<IpAddr>) -> (u128, bool) {
    match address {
        None => (0, false),
        Some(IpAddr::V4(v4)) => (v4.to_bits().into(), false),
        Some(IpAddr::V6(v6)) => (v6.to_bits(), true),
    }
}

/// The number of the log that a record is for, from its first word.
pub fn log_of(word: u64) -> u32 {
    (word & ((1 << LOG_BITS) - 1)) as u32
}

/// A record as it was put. Of its words, those after the name may be anything.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its words.
    pub words: [u64; RECORD_WORDS],
    /// When it was taken, in ms since the epoch.
    pub time_ms: u64,
}

impl Kept {
    fn is(&self, bit: u32) -> bool {
        self.words[0] >> bit & 1 == 1
    }

    /// The type asked for.
    pub fn rtype(&self) -> u16 {
        (self.words[0] >> LOG_BITS) as u16
    }

    /// The response code.
    pub fn rcode(&self) -> u16 {
        (self.words[0] >> 34) as u16 & 0xfff
    }

    /// How it came.
    pub fn transport(&self) -> u8 {
        (self.words[0] >> 46) as u8 & 0xf
    }

    /// Whether the answer was truncated.
    pub fn is_truncated(&self) -> bool {
        self.is(IS_TRUNCATED)
    }

    /// Whether it wasn't answered, on purpose.
    pub fn is_dropped(&self) -> bool {
        self.is(IS_DROPPED)
    }

    /// Octets of the answer.
    pub fn answer_bytes(&self) -> u32 {
        (self.words[1] & 0xff_ffff) as u32
    }

    /// Where it came from: 4 or 16 octets.
    pub fn source(&self) -> Vec<u8> {
        octets(self.is(IS_SOURCE_IPV6), self.words[2], self.words[3])
    }

    /// EDNS, if it had any.
    pub fn edns(&self) -> Option<LoggedEdns> {
        let subnet = self.is(HAS_SUBNET).then(|| LoggedSubnet {
            address: octets(self.is(IS_SUBNET_IPV6), self.words[4], self.words[5]),
            length: (self.words[1] >> 40) as u8,
        });
        self.is(HAS_EDNS).then(|| LoggedEdns {
            udp_bytes: (self.words[1] >> 24) as u16,
            wants_dnssec: self.is(WANTS_DNSSEC),
            subnet,
        })
    }

    /// The policy, zero if none was asked, and the pool.
    pub fn decided(&self) -> (u64, u64) {
        (self.words[6], self.words[7])
    }

    /// The name asked for; none if it isn't one.
    pub fn name(&self) -> Option<Name> {
        let octets: Vec<u8> = self.words[HEAD_WORDS..].iter().flat_map(|word| word.to_le_bytes()).collect();
        Name::from_wire(octets.get(..(self.words[1] >> 48 & 0xff) as usize)?).ok()
    }
}

fn octets(is_ipv6: bool, high: u64, low: u64) -> Vec<u8> {
    match is_ipv6 {
        true => Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).octets().to_vec(),
        false => Ipv4Addr::from_bits(low as u32).octets().to_vec(),
    }
}

// ---------------------------------------------------------------------------------------------------
// An even sample
// ---------------------------------------------------------------------------------------------------

/// Queries of a zone that are kept of each second at a PoP.
pub const KEPT_PER_S: usize = 100;

/// What came within a second: all of it, or as many as are kept, each with the same chance.
#[derive(Debug, Default)]
pub struct Window {
    seen: u64,
    kept: Vec<(u64, Kept)>,
}

impl Window {
    /// Another one came; `keep` is called if it is kept. `draw` is chance.
    pub fn offer(&mut self, draw: u64, keep: impl FnOnce() -> Kept) {
        let number = self.seen;
        self.seen += 1;
        if self.kept.len() < KEPT_PER_S {
            self.kept.push((number, keep()));
            return;
        }
        // Any of those that came has the same chance of a place (algorithm R).
        let place = (u128::from(draw) * u128::from(self.seen)) >> 64;
        if let Some(kept) = usize::try_from(place).ok().and_then(|place| self.kept.get_mut(place)) {
            *kept = (number, keep());
        }
    }

    /// How many came that aren't kept, and those that are, in order; it begins anew.
    pub fn close(&mut self) -> (u64, Vec<Kept>) {
        let mut kept = std::mem::take(&mut self.kept);
        let left_out = std::mem::take(&mut self.seen) - kept.len() as u64;
        kept.sort_unstable_by_key(|(number, _)| *number);
        (left_out, kept.into_iter().map(|(_, kept)| kept).collect())
    }
}

// ---------------------------------------------------------------------------------------------------
// Logs
// ---------------------------------------------------------------------------------------------------

/// Places for logs: more than zones that are logged at a time, so that numbers of those that ended rest for a while.
pub const LOG_PLACES: usize = 1 << PLACE_BITS;

const PLACE_BITS: u32 = 10;
const ONE_IN_BITS: u32 = 14;

/// A log's number and how often a query is logged, in one word that isn't zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u32);

impl Mark {
    /// As a word.
    pub fn word(self) -> u32 {
        self.0
    }

    /// The number of the log.
    #[inline]
    pub fn log(word: u32) -> u32 {
        word >> ONE_IN_BITS
    }

    /// Whether a query with this draw is logged.
    #[inline]
    pub fn is_drawn(word: u32, draw: u64) -> bool {
        let one_in = word & ((1 << ONE_IN_BITS) - 1);
        (u128::from(draw) * u128::from(one_in)) >> 64 == 0
    }

    /// The place of a log of this number.
    pub fn place(log: u32) -> usize {
        log as usize % LOG_PLACES
    }
}

/// A zone that is logged, or was until a moment ago.
#[derive(Debug)]
pub struct Log {
    /// Which zone, how often, and whether it is private.
    pub zone: LoggedZone,
    /// What came of it.
    pub window: Window,
    /// Queries that weren't told of, and aren't in the window.
    pub left_out: u64,
    number: u32,
    /// When it ends.
    until_ms: u64,
    is_on: bool,
}

/// Which zones are logged. Times are any that only go up.
#[derive(Debug, Default)]
pub struct Logs {
    places: Vec<Option<Log>>,
    generation: u32,
}

impl Logs {
    /// From now on it is these zones, and no others.
    pub fn set(&mut self, zones: Vec<LoggedZone>, now_ms: u64) {
        let is_same = |log: &Log, zone: &LoggedZone| {
            let LoggedZone { zone: id, name, is_private, one_in, .. } = &log.zone;
            (id, name, is_private, one_in) == (&zone.zone, &zone.name, &zone.is_private, &zone.one_in)
        };
        let mut new = zones;
        new.truncate(crate::link::LOGGED_ZONES_MAX);
        for log in self.places.iter_mut().flatten() {
            match new.iter().position(|zone| log.is_on && is_same(log, zone)) {
                Some(place) => log.until_ms = now_ms.saturating_add(new.swap_remove(place).left_ms),
                None => log.is_on = false,
            }
        }
        for zone in new {
            self.begin(zone, now_ms);
        }
    }

    fn begin(&mut self, zone: LoggedZone, now_ms: u64) {
        if self.places.is_empty() {
            self.places.resize_with(LOG_PLACES, || None);
        }
        let is_free = |log: &Option<Log>| log.is_none();
        let is_over = |log: &Option<Log>| log.as_ref().is_none_or(|log| !log.is_on);
        let place = self.places.iter().position(is_free).or_else(|| self.places.iter().position(is_over));
        let Some(place) = place else { return };
        // No query that is on its way is taken for one of another zone.
        self.generation = (self.generation + 1) % (1 << (LOG_BITS - PLACE_BITS));
        let number = self.generation << PLACE_BITS | place as u32;
        let until_ms = now_ms.saturating_add(zone.left_ms);
        let window = Window::default();
        self.places[place] = Some(Log { zone, window, left_out: 0, number, until_ms, is_on: true });
    }

    /// Ends what has run out; whether anything did.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let mut is_any = false;
        for log in self.places.iter_mut().flatten().filter(|log| log.is_on && log.until_ms <= now_ms) {
            log.is_on = false;
            is_any = true;
        }
        is_any
    }

    /// Zones that are logged, and what their queries are marked with.
    pub fn marks(&self) -> impl Iterator<Item = (&LoggedZone, Mark)> {
        self.places.iter().flatten().filter(|log| log.is_on).map(|log| {
            let one_in = log.zone.one_in.clamp(1, (1 << ONE_IN_BITS) - 1);
            (&log.zone, Mark(log.number << ONE_IN_BITS | one_in))
        })
    }

    /// The log of this number, also if it ended a moment ago.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Log> {
        self.places.get_mut(Mark::place(number))?.as_mut().filter(|log| log.number == number)
    }

    /// All logs by their places.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Log)> {
        self.places.iter_mut().enumerate().filter_map(|(place, log)| Some((place, log.as_mut()?)))
    }

    /// Forgets logs that ended, once all that came of them was told.
    pub fn forget_ended(&mut self) {
        for place in &mut self.places {
            place.take_if(|log| !log.is_on);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }
}

/// Whose queries these are.
impl Log {
    /// The zone.
    pub fn id(&self) -> ZoneId {
        self.zone.zone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(log: u32, name: &[u8]) -> Record<'_> {
        let subnet = Some(("2001:db8:1::".parse().unwrap(), 48));
        Record {
            log,
            rtype: 65_535,
            rcode: 4_095,
            transport: 4,
            is_truncated: true,
            is_dropped: false,
            source: Some("192.0.2.255".parse().unwrap()),
            edns: Some(Edns { udp_bytes: 65_535, wants_dnssec: true, subnet }),
            answer_bytes: 65_535,
            policy: u64::MAX,
            pool: 7,
            name,
        }
    }

    fn kept(record: Record<'_>) -> Kept {
        let mut words = [u64::MAX; RECORD_WORDS];
        for (to, word) in words.iter_mut().zip(record.head().into_iter().chain(record.name_words())) {
            *to = word;
        }
        Kept { words, time_ms: 1 }
    }

    #[test]
    fn what_is_put_is_read_again() {
        let long = [&[63][..], &[b'a'; 63]].concat().repeat(3);
        let long = [&long[..], &[61], &[b'b'; 61], &[0]].concat();
        assert_eq!(long.len(), 255);
        for (log, name) in [(0, &[0][..]), (0x3_ffff, &long), (7, b"\x03www\x07example\x03com\0")] {
            let kept = kept(record(log, name));
            assert_eq!(log_of(kept.words[0]), log);
            assert_eq!(kept.name().unwrap().as_wire(), name);
            assert_eq!((kept.rtype(), kept.rcode(), kept.transport()), (65_535, 4_095, 4));
            assert_eq!((kept.is_truncated(), kept.is_dropped(), kept.answer_bytes()), (true, false, 65_535));
            assert_eq!(kept.source(), [192, 0, 2, 255]);
            assert_eq!(kept.decided(), (u64::MAX, 7));
            let address = "2001:db8:1::".parse::<Ipv6Addr>().unwrap().octets().to_vec();
            let subnet = Some(LoggedSubnet { address, length: 48 });
            let edns = LoggedEdns { udp_bytes: 65_535, wants_dnssec: true, subnet };
            assert_eq!(kept.edns(), Some(edns));
        }
        let source = Some("2001:db8::1".parse().unwrap());
        let bare =
            kept(Record { edns: None, source, is_dropped: true, is_truncated: false, ..record(1, &[0]) });
        assert_eq!((bare.edns(), bare.source().len()), (None, 16));
        assert_eq!((bare.is_truncated(), bare.is_dropped()), (false, true));
        let v4 = Some(("192.0.2.0".parse().unwrap(), 24));
        let edns = Some(Edns { udp_bytes: 1232, wants_dnssec: false, subnet: v4 });
        let edns = kept(Record { edns, ..record(1, &[0]) }).edns().unwrap();
        assert_eq!((edns.wants_dnssec, edns.subnet.unwrap().address), (false, vec![192, 0, 2, 0]));
    }

    /// SplitMix64.
    fn draws() -> impl FnMut() -> u64 {
        let mut state = 1_u64;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    #[test]
    fn of_too_many_an_even_sample_is_kept_in_order() {
        let mut draw = draws();
        let one = kept(record(1, &[0]));
        let mut window = Window::default();
        for n in 0..KEPT_PER_S as u64 {
            window.offer(draw(), || Kept { time_ms: n, ..one.clone() });
        }
        let (left_out, all) = window.close();
        assert_eq!((left_out, all.len()), (0, KEPT_PER_S));
        // Of 10,000 each tenth has its share, over many windows.
        let mut tenths = [0_u32; 10];
        for _ in 0..50 {
            for n in 0..10_000 {
                window.offer(draw(), || Kept { time_ms: n, ..one.clone() });
            }
            let (left_out, some) = window.close();
            assert_eq!((left_out, some.len()), (10_000 - KEPT_PER_S as u64, KEPT_PER_S));
            assert!(some.is_sorted_by_key(|kept| kept.time_ms));
            some.iter().for_each(|kept| tenths[kept.time_ms as usize / 1_000] += 1);
        }
        assert!(tenths.iter().all(|count| (400..600).contains(count)), "{tenths:?}");
        assert_eq!(window.close().0, 0);
    }

    fn zone(id: u128, one_in: u32, left_ms: u64) -> LoggedZone {
        let name = Name::parse(&format!("z{id}.example.")).unwrap();
        LoggedZone { zone: ZoneId(id), name, is_private: false, one_in, left_ms }
    }

    fn on(logs: &Logs) -> Vec<(u128, u32)> {
        logs.marks().map(|(zone, mark)| (zone.zone.0, mark.word())).collect()
    }

    #[test]
    fn logs_run_out_and_keep_their_numbers_while_they_last() {
        let mut logs = Logs::default();
        assert!(logs.is_empty() && !logs.expire(u64::MAX));
        logs.set(vec![zone(1, 1, 1_000), zone(2, 10_000, 5_000)], 100);
        let first = on(&logs);
        // It is told again, and lasts longer.
        logs.set(vec![zone(2, 10_000, 5_000), zone(1, 1, 3_000)], 1_000);
        assert_eq!(on(&logs), first);
        assert!(!logs.expire(3_999) && logs.expire(4_000) && !logs.expire(4_001));
        assert_eq!(on(&logs), first[1..]);
        // What is on its way of the one that ended is still taken.
        let ended = Mark::log(first[0].1);
        assert_eq!(logs.get_mut(ended).unwrap().id(), ZoneId(1));
        logs.forget_ended();
        assert!(logs.get_mut(ended).is_none() && !logs.is_empty());
        // Another in its place isn't it.
        logs.set(vec![zone(2, 10_000, 5_000), zone(3, 2, 1)], 5_000);
        assert!(logs.get_mut(ended).is_none());
        let marks = on(&logs);
        let third = marks.iter().find(|(zone, _)| *zone == 3).unwrap().1;
        assert_eq!(Mark::place(Mark::log(third)), Mark::place(ended));
        // Set otherwise, it is another log.
        logs.set(vec![zone(3, 5, 1_000)], 6_000);
        assert_eq!(on(&logs).len(), 1);
        assert_ne!(on(&logs)[0].1, third);
        logs.set(Vec::new(), 7_000);
        logs.forget_ended();
        assert!(logs.is_empty() && on(&logs).is_empty());
    }

    #[test]
    fn there_is_room_for_as_many_as_there_may_be() {
        let mut logs = Logs::default();
        for round in 0..3 {
            let many = (0..2_000).map(|n| zone(round * 10_000 + n, 1, 1_000)).collect();
            logs.set(many, 0);
            assert_eq!(on(&logs).len(), crate::link::LOGGED_ZONES_MAX);
            let numbers: std::collections::HashSet<u32> =
                on(&logs).iter().map(|(_, mark)| Mark::log(*mark)).collect();
            assert_eq!(numbers.len(), crate::link::LOGGED_ZONES_MAX);
        }
    }

    #[test]
    fn one_in_so_many_is_drawn() {
        for one_in in [1, 2, 10, 10_000] {
            let mut logs = Logs::default();
            logs.set(vec![zone(1, one_in, 1)], 0);
            let word = on(&logs)[0].1;
            let mut draw = draws();
            let drawn = (0..1_000_000).filter(|_| Mark::is_drawn(word, draw())).count() as u32;
            let expected = 1_000_000 / one_in;
            assert!(drawn.abs_diff(expected) <= expected / 3 * u32::from(one_in > 1), "{one_in}: {drawn}");
        }
    }
}
