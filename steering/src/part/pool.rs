//! A pool's answers of one type, flat: who can answer, with which weight and what; and the choice among them.
//!
//! ```text
//! TTL (u32), endpoints of an answer (u16: 0 for all), sticky lengths (2 octets, 255 for none), least endpoints (u16)
//! number of candidates (u16), number of RDATAs (u16), octets of each RDATA (u16, 0 if they differ), flags (u16)
//! MONITORED: for each candidate the number of its monitor (u32, 0 if it has none)
//! candidates: sum of the weights so far (u32)
//! LISTED: where each candidate's RDATAs begin in the list (u16), and where the last one's end; the list of numbers of RDATAs (u16)
//! LOCATED: for each candidate its unit vector (3 × f32; NaN if it has no place) and the factor of its distance (f32)
//! where each RDATA begins (u32) and where the last one ends, if they differ in length
//! RDATAs in canonical order, each once: length (u16, native), octets, a zero if they are odd in number
//! ```

use std::net::IpAddr;

use herald_core::Rtype;
use herald_core::steering::{AnswerMode, Endpoint, EndpointState, Location, Pool};

use super::hash::{fold, octets_hash, stream};
use super::octets::{Reader, TooLarge, narrow};
use crate::health::Verdicts;

/// A candidate has other RDATAs than the one of its own number.
const LISTED: u16 = 1;
/// Candidates have places.
const LOCATED: u16 = 2;
/// Candidates have monitors.
const MONITORED: u16 = 4;

/// The most candidates of which some have monitors: more than a pool has endpoints.
const MONITORED_MAX: usize = 512;
const _: () = assert!(MONITORED_MAX >= herald_core::steering::ENDPOINTS_MAX);

/// No stickiness.
const NOT_STICKY: [u8; 2] = [255, 255];

/// The most RDATAs of a type: two octets and more each in an item of at most 65,535 octets.
const RDATAS_MAX: usize = 32_768;

/// The endpoints that can answer with this type, as numbers in the pool: enabled ones, or the drained ones if there are no others.
/// Where an answer is drawn by weight, those of weight zero are left out, unless that leaves none.
pub fn candidates(pool: &Pool, rtype: Rtype) -> Vec<usize> {
    let of = |state: EndpointState| {
        let is_one = move |(_, endpoint): &(usize, &Endpoint)| {
            endpoint.state == state && records(endpoint, rtype).is_some()
        };
        pool.endpoints.iter().enumerate().filter(is_one).map(|(place, _)| place).collect::<Vec<_>>()
    };
    let mut usable = of(EndpointState::Enabled);
    if usable.is_empty() {
        usable = of(EndpointState::Drained);
    }
    if pool.answer == AnswerMode::All {
        return usable;
    }
    let is_weighty = |place: &usize| pool.endpoints[*place].weight > 0;
    if usable.iter().any(is_weighty) {
        usable.retain(is_weighty);
    }
    usable
}

fn records(endpoint: &Endpoint, rtype: Rtype) -> Option<&herald_core::Rdatas> {
    let of_type = endpoint.records.iter().find(|records| records.rtype == rtype)?;
    (!of_type.rdatas.is_empty()).then_some(&of_type.rdatas)
}

/// The candidates in the order of the flat form: where each has one RDATA of its own, that of the RDATAs.
pub(crate) fn ordered_candidates(pool: &Pool, rtype: Rtype) -> Vec<usize> {
    let mut places = candidates(pool, rtype);
    places.sort_by(|one, other| {
        let rdatas = |place: &usize| records(&pool.endpoints[*place], rtype).map(|rdatas| rdatas.iter());
        rdatas(one).into_iter().flatten().cmp(rdatas(other).into_iter().flatten())
    });
    places
}

/// The flat form of a pool's answers of a type; nothing is written if nothing can answer.
pub(crate) fn write(pool: &Pool, rtype: Rtype, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let places = ordered_candidates(pool, rtype);
    let endpoints: Vec<(&Endpoint, &herald_core::Rdatas)> = places
        .iter()
        .filter_map(|place| {
            let endpoint = pool.endpoints.get(*place)?;
            Some((endpoint, records(endpoint, rtype)?))
        })
        .collect();
    if endpoints.is_empty() {
        return Ok(());
    }
    let mut rdatas: Vec<&[u8]> = endpoints.iter().flat_map(|(_, rdatas)| rdatas.iter()).collect();
    rdatas.sort_unstable();
    rdatas.dedup();
    if rdatas.len() > RDATAS_MAX {
        return Err(TooLarge);
    }
    let is_listed = rdatas.len() != endpoints.len() || endpoints.iter().any(|(_, rdatas)| rdatas.len() != 1);
    let is_located = endpoints.iter().any(|(endpoint, _)| endpoint.location.is_some());
    let is_monitored = endpoints.iter().any(|(endpoint, _)| endpoint.monitor.is_some());
    if is_monitored && endpoints.len() > MONITORED_MAX {
        return Err(TooLarge);
    }
    let first_bytes = rdatas.first().map_or(0, |rdata| padded(rdata.len()));
    let stride = if rdatas.iter().all(|rdata| padded(rdata.len()) == first_bytes) { first_bytes } else { 0 };
    // The one length that doesn't fit 16 bits with its padding.
    let stride = u16::try_from(stride).unwrap_or(0);

    out.extend_from_slice(&pool.ttl.to_le_bytes());
    let answers = match pool.answer {
        AnswerMode::All => 0,
        AnswerMode::One => 1,
        AnswerMode::UpTo(count) => u16::from(count.max(1)),
    };
    out.extend_from_slice(&answers.to_le_bytes());
    out.extend(
        pool.sticky.map_or(NOT_STICKY, |sticky| [sticky.ipv4_prefix.min(32), sticky.ipv6_prefix.min(128)]),
    );
    let flags = if is_listed { LISTED } else { 0 }
        | if is_located { LOCATED } else { 0 }
        | if is_monitored { MONITORED } else { 0 };
    let numbers = [pool.min_healthy, narrow(endpoints.len())?, narrow(rdatas.len())?, stride, flags];
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    if is_monitored {
        for (endpoint, _) in &endpoints {
            out.extend_from_slice(&endpoint.monitor.map_or(0, |monitor| monitor.0).to_le_bytes());
        }
    }
    let mut sum = 0;
    for weight in weights(pool, &endpoints) {
        sum += weight;
        out.extend_from_slice(&sum.to_le_bytes());
    }
    if is_listed {
        let mut start = 0_usize;
        for rdatas in endpoints.iter().map(|(_, rdatas)| rdatas) {
            out.extend_from_slice(&narrow::<u16>(start)?.to_le_bytes());
            start += rdatas.len();
        }
        out.extend_from_slice(&narrow::<u16>(start)?.to_le_bytes());
        for rdata in endpoints.iter().flat_map(|(_, rdatas)| rdatas.iter()) {
            let number = rdatas.binary_search(&rdata).map_err(|_| TooLarge)?;
            out.extend_from_slice(&narrow::<u16>(number)?.to_le_bytes());
        }
    }
    if is_located {
        for (endpoint, _) in &endpoints {
            let vector = endpoint.location.and_then(unit_vector).unwrap_or([f32::NAN; 3]);
            vector.iter().for_each(|part| out.extend_from_slice(&part.to_le_bytes()));
            out.extend_from_slice(&distance_factor(endpoint.bias).to_le_bytes());
        }
    }
    if stride == 0 {
        let mut start = 0;
        for bytes in rdatas.iter().map(|rdata| padded(rdata.len())) {
            out.extend_from_slice(&narrow::<u32>(start)?.to_le_bytes());
            start += bytes;
        }
        out.extend_from_slice(&narrow::<u32>(start)?.to_le_bytes());
    }
    for rdata in rdatas {
        push_rdata(rdata, out)?;
    }
    Ok(())
}

/// Appends an RDATA as knotd's RRsets have it.
pub(crate) fn push_rdata(rdata: &[u8], out: &mut Vec<u8>) -> Result<(), TooLarge> {
    out.extend_from_slice(&narrow::<u16>(rdata.len())?.to_ne_bytes());
    out.extend_from_slice(rdata);
    if rdata.len() % 2 == 1 {
        out.push(0);
    }
    Ok(())
}

fn padded(rdata_bytes: usize) -> usize {
    2 + rdata_bytes + rdata_bytes % 2
}

/// The weights of draws: as they are, or equal if all are zero. Where their sum takes more than 32 bits all are divided by a power of two.
fn weights(pool: &Pool, endpoints: &[(&Endpoint, &herald_core::Rdatas)]) -> Vec<u32> {
    let given = endpoints.iter().map(|(endpoint, _)| endpoint.weight);
    let sum: u64 = given.clone().map(u64::from).sum();
    if sum == 0 || pool.answer == AnswerMode::All {
        return vec![1; endpoints.len()];
    }
    let mut shift = 0;
    loop {
        let weights: Vec<u32> = given.clone().map(|weight| (weight >> shift).max(weight.min(1))).collect();
        if weights.iter().map(|weight| u64::from(*weight)).sum::<u64>() <= u64::from(u32::MAX) {
            return weights;
        }
        shift += 1;
    }
}

/// The place as a vector from the centre of a sphere of radius one; none if its coordinates are none.
pub(crate) fn unit_vector(location: Location) -> Option<[f32; 3]> {
    let (latitude, longitude) = (f64::from(location.latitude), f64::from(location.longitude));
    if !(latitude.abs() <= 90.0 && longitude.abs() <= 360.0) {
        return None;
    }
    let ((sin, cos), (sin_east, cos_east)) =
        (latitude.to_radians().sin_cos(), longitude.to_radians().sin_cos());
    Some([(cos * cos_east) as f32, (cos * sin_east) as f32, sin as f32])
}

/// What a distance is multiplied by: as Route 53's geoproximity does it.
fn distance_factor(bias: i8) -> f32 {
    let bias = f32::from(bias.clamp(-99, 99)) / 100.0;
    if bias >= 0.0 { 1.0 - bias } else { 1.0 / (1.0 + bias) }
}

/// A pool's answers of one type.
#[derive(Clone, Copy, Debug)]
pub struct PoolAnswers<'a> {
    pub(crate) ttl: u32,
    /// Endpoints of an answer; zero for all.
    answers: u16,
    sticky: [u8; 2],
    min_healthy: u16,
    candidates: u16,
    rdata_count: u16,
    /// Octets of each RDATA; zero if they differ.
    stride: u16,
    flags: u16,
    /// Numbers of the candidates' monitors, if there are any.
    monitors: &'a [[u8; 4]],
    /// What is after these numbers, found when it is needed.
    rest: &'a [u8],
}

/// Octets of the numbers in front.
const HEAD_BYTES: usize = 18;

/// Where each candidate's RDATAs begin in a list of their numbers, and the list.
type Lists<'a> = (&'a [[u8; 2]], &'a [[u8; 2]]);

/// Some of the candidates of a pool with monitors, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Set([u64; MONITORED_MAX / 64]);

impl Set {
    fn insert(&mut self, candidate: usize) {
        if let Some(word) = self.0.get_mut(candidate / 64) {
            *word |= 1 << (candidate % 64);
        }
    }

    fn contains(&self, candidate: usize) -> bool {
        self.0.get(candidate / 64).is_some_and(|word| word >> (candidate % 64) & 1 == 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// Which of a pool's candidates are in question. It is found out once for a decision, as endpoints go up and down meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Among<'s> {
    /// None for all.
    pub(crate) set: Option<&'s Set>,
    pub(crate) nearest: Option<Nearest>,
}

/// Only those nearest to a place, at this distance from it.
pub(crate) type Nearest = ([f32; 3], f64);

impl Among<'_> {
    /// All of them.
    pub(crate) const ALL: Among<'static> = Among { set: None, nearest: None };

    #[inline]
    pub(crate) fn is_all(&self) -> bool {
        self.set.is_none() && self.nearest.is_none()
    }
}

/// RDATAs that were chosen.
pub(crate) enum Chosen {
    /// So many, and they have been appended.
    Count(u16),
    /// There was no room for them.
    NoRoom,
}

impl<'a> PoolAnswers<'a> {
    #[inline]
    pub(crate) fn read(octets: &'a [u8]) -> Option<PoolAnswers<'a>> {
        let (head, rest) = octets.split_first_chunk::<HEAD_BYTES>()?;
        let mut head = Reader(head);
        let mut answers = PoolAnswers {
            ttl: head.u32()?,
            answers: head.u16()?,
            sticky: head.u16()?.to_le_bytes(),
            min_healthy: head.u16()?,
            candidates: head.u16()?,
            rdata_count: head.u16()?,
            stride: head.u16()?,
            flags: head.u16()?,
            monitors: &[],
            rest,
        };
        if answers.flags & MONITORED != 0 {
            let mut rest = Reader(rest);
            answers.monitors = rest.pieces(answers.candidates())?;
            answers.rest = rest.0;
        }
        Some(answers)
    }

    /// Sums of the weights up to and with each candidate's.
    #[inline]
    fn sums(&self) -> &'a [[u8; 4]] {
        self.rest.get(..4 * self.candidates()).unwrap_or_default().as_chunks().0
    }

    /// What is at an offset after the numbers.
    fn pieces<const N: usize>(&self, offset: usize, count: usize) -> &'a [[u8; N]] {
        self.rest.get(offset..).and_then(|rest| rest.get(..N * count)).unwrap_or_default().as_chunks().0
    }

    fn lists(&self) -> Option<Lists<'a>> {
        if self.flags & LISTED == 0 {
            return None;
        }
        let (offset, starts) = (4 * self.candidates(), self.candidates() + 1);
        let starts: &[[u8; 2]] = self.pieces(offset, starts);
        let count = starts.last().map_or(0, |end| usize::from(u16::from_le_bytes(*end)));
        Some((starts, self.pieces(offset + 2 * starts.len(), count)))
    }

    fn places_offset(&self) -> usize {
        let lists = self.lists().map_or(0, |(starts, list)| 2 * starts.len() + 2 * list.len());
        4 * self.candidates() + lists
    }

    fn places(&self) -> &'a [[u8; 16]] {
        if self.flags & LOCATED == 0 { &[] } else { self.pieces(self.places_offset(), self.candidates()) }
    }

    #[inline]
    fn starts_offset(&self) -> usize {
        if self.flags & (LISTED | LOCATED) == 0 {
            return 4 * self.candidates();
        }
        self.places_offset() + 16 * self.places().len()
    }

    /// All RDATAs.
    fn rdatas(&self) -> &'a [u8] {
        let starts = if self.stride == 0 { usize::from(self.rdata_count) + 1 } else { 0 };
        self.rest.get(self.starts_offset() + 4 * starts..).unwrap_or_default()
    }

    /// Whether it has as many endpoints as it is to have at least.
    #[inline]
    pub(crate) fn can_answer(&self) -> bool {
        self.candidates >= self.min_healthy.max(1)
    }

    /// How many endpoints it is to have at least.
    pub(crate) fn min_healthy(&self) -> usize {
        self.min_healthy.max(1).into()
    }

    /// Whether some are down. If so, those that are up are in `up` now.
    #[inline]
    pub(crate) fn is_some_down(&self, verdicts: &Verdicts, up: &mut Set) -> bool {
        let is_up = |monitor: &[u8; 4]| verdicts.raw(u32::from_le_bytes(*monitor)) == 0;
        let is_some_down = !self.monitors.iter().all(is_up);
        if is_some_down {
            *up = self.up_set(verdicts);
        }
        is_some_down
    }

    #[cold]
    fn up_set(&self, verdicts: &Verdicts) -> Set {
        let mut set = Set::default();
        for (candidate, monitor) in self.monitors.iter().enumerate() {
            if verdicts.raw(u32::from_le_bytes(*monitor)) == 0 {
                set.insert(candidate);
            }
        }
        set
    }

    /// Those that are up, or else those that went down last; and the second when they did.
    pub(crate) fn last_up(&self, verdicts: &Verdicts) -> (Set, u32) {
        let (mut set, mut last) = (Set::default(), 0);
        for (candidate, monitor) in self.monitors.iter().enumerate() {
            let since = match verdicts.raw(u32::from_le_bytes(*monitor)) {
                0 => u32::MAX,
                since => since,
            };
            if since > last {
                (set, last) = (Set::default(), since);
            }
            if since == last {
                set.insert(candidate);
            }
        }
        (set, last)
    }

    /// How many endpoints can answer.
    #[inline]
    pub fn candidates(&self) -> usize {
        self.candidates.into()
    }

    /// How many endpoints an answer has at most; none for all.
    pub fn answers(&self) -> Option<u16> {
        (self.answers > 0).then_some(self.answers)
    }

    /// The prefix length by which clients are told apart, if draws are sticky.
    #[inline]
    pub fn sticky_length(&self, address: IpAddr) -> Option<u8> {
        self.is_sticky().then_some(self.sticky[usize::from(address.is_ipv6())])
    }

    /// The weight that a candidate is drawn by.
    pub fn weight(&self, candidate: usize) -> u32 {
        let sum = |place: usize| self.sums().get(place).map_or(0, |sum| u32::from_le_bytes(*sum));
        sum(candidate).saturating_sub(if candidate == 0 { 0 } else { sum(candidate - 1) })
    }

    /// How far a candidate is from a place: an angle with the endpoint's bias. None if it has no place.
    fn distance(&self, candidate: usize, from: [f32; 3]) -> Option<f64> {
        let mut reader = Reader(self.places().get(candidate)?);
        let mut part = || reader.u32().map(f32::from_bits).map(f64::from);
        let (vector, factor) = ([part()?, part()?, part()?], part()?);
        let square = |at: usize| (vector[at] - f64::from(from[at])) * (vector[at] - f64::from(from[at]));
        let chord = (square(0) + square(1) + square(2)).sqrt();
        // What isn't a number has no place; the lesser of that and a number would be the number.
        (!chord.is_nan()).then(|| 2.0 * (chord / 2.0).min(1.0).asin() * factor)
    }

    /// The nearest to a place, if one is given, of the candidates of a set, or all; none if none of them has a place.
    #[inline]
    pub(crate) fn nearest(&self, set: Option<&Set>, from: Option<[f32; 3]>) -> Option<Option<Nearest>> {
        from.map_or(Some(None), |from| self.nearest_to(set, from).map(Some))
    }

    fn nearest_to(&self, set: Option<&Set>, from: [f32; 3]) -> Option<Nearest> {
        let in_set = |candidate: &usize| set.is_none_or(|set| set.contains(*candidate));
        let candidates = (0..self.places().len()).filter(in_set);
        let distances = candidates.filter_map(|candidate| self.distance(candidate, from));
        distances.min_by(f64::total_cmp).map(|least| (from, least))
    }

    /// Whether a candidate is in question.
    pub(crate) fn is_among(&self, candidate: usize, among: &Among<'_>) -> bool {
        candidate < self.candidates()
            && among.set.is_none_or(|set| set.contains(candidate))
            && among.nearest.is_none_or(|(from, least)| self.distance(candidate, from) == Some(least))
    }

    /// Something that is equal for equal sets of candidates in question.
    pub(crate) fn among_hash(&self, among: &Among<'_>) -> u64 {
        if among.is_all() {
            return 0;
        }
        let of_those = (0..self.candidates()).filter(|candidate| self.is_among(*candidate, among));
        let (count, hash) = of_those.fold((0, 0xd6e8_feb8_6659_fd93), |(count, hash), candidate| {
            (count + 1, fold(hash ^ candidate as u64, 0x9e37_79b9_7f4a_7c15))
        });
        // The nearest ones may be all there are.
        if count == self.candidates() { 0 } else { hash }
    }

    /// Whether the draw makes a difference.
    pub(crate) fn has_choice(&self, among: &Among<'_>) -> bool {
        let in_question = if among.is_all() {
            self.candidates()
        } else {
            (0..self.candidates()).filter(|place| self.is_among(*place, among)).count()
        };
        self.answers > 0 && in_question > usize::from(self.answers)
    }

    /// The numbers of a candidate's RDATAs.
    pub(crate) fn rdatas_of(&self, candidate: usize) -> impl Iterator<Item = u16> + 'a {
        let (own, listed): (_, &[[u8; 2]]) = match self.lists() {
            None => (u16::try_from(candidate).ok(), &[]),
            Some((starts, list)) => {
                let at =
                    |place: usize| starts.get(place).map(|start| usize::from(u16::from_le_bytes(*start)));
                let range = at(candidate).zip(at(candidate + 1));
                (None, range.and_then(|(start, end)| list.get(start..end)).unwrap_or_default())
            }
        };
        own.into_iter().chain(listed.iter().map(|number| u16::from_le_bytes(*number)))
    }

    /// An RDATA as it is answered with.
    #[inline]
    fn entry(&self, number: u16) -> Option<&'a [u8]> {
        let (number, stride) = (usize::from(number), usize::from(self.stride));
        if stride > 0 {
            return self.rest.get(self.starts_offset() + number * stride..)?.get(..stride);
        }
        let starts: &[[u8; 4]] = self.pieces(self.starts_offset(), usize::from(self.rdata_count) + 1);
        let at = |place: usize| starts.get(place).map(|start| u32::from_le_bytes(*start) as usize);
        self.rdatas().get(at(number)?..at(number + 1)?)
    }

    /// The octets of an RDATA.
    pub(crate) fn rdata(&self, number: u16) -> Option<&'a [u8]> {
        let entry = self.entry(number)?;
        let (length, rest) = entry.split_first_chunk::<2>()?;
        rest.get(..usize::from(u16::from_ne_bytes(*length)))
    }

    /// Whether a client's network gets the same draw each time.
    #[inline]
    pub(crate) fn is_sticky(&self) -> bool {
        self.sticky != NOT_STICKY
    }

    /// The draw of a client's network, which it gets each time.
    pub(crate) fn sticky_draw(&self, key: u64, address: IpAddr) -> u64 {
        network_hash(key, address, self.sticky_length(address).unwrap_or(u8::MAX))
    }

    /// Chooses, and appends the RDATAs of all chosen endpoints: in canonical order, each once.
    #[inline]
    pub(crate) fn choose(&self, among: &Among<'_>, draw: u64, out: &mut Vec<u8>) -> Chosen {
        match self.answers {
            0 if among.is_all() => append(out, self.rdatas(), self.rdata_count),
            1 if among.is_all() => self.append_one(self.drawn(draw), out),
            _ => self.choose_some(among, draw, out),
        }
    }

    fn choose_some(&self, among: &Among<'_>, draw: u64, out: &mut Vec<u8>) -> Chosen {
        let mut picks = [0; 256];
        let picks = self.pick(among, draw, &mut picks);
        match picks {
            Some([one]) => self.append_one(usize::from(*one), out),
            Some(picks) => self.append_merged(picks.iter().map(|candidate| usize::from(*candidate)), out),
            None => {
                let all = (0..self.candidates()).filter(|candidate| self.is_among(*candidate, among));
                self.append_merged(all, out)
            }
        }
    }

    /// The candidate that a draw falls on.
    #[inline]
    fn drawn(&self, draw: u64) -> usize {
        let total = self.sums().last().map_or(0, |sum| u32::from_le_bytes(*sum));
        let at = scaled(draw, u64::from(total));
        self.sums().partition_point(|sum| u64::from(u32::from_le_bytes(*sum)) <= at)
    }

    /// Picks endpoints by weight, none twice, each with a number of the stream that the draw starts; in ascending order. None if all
    /// in question are in the answer.
    pub(crate) fn pick<'b>(
        &self,
        among: &Among<'_>,
        draw: u64,
        picks: &'b mut [u16; 256],
    ) -> Option<&'b [u16]> {
        if !self.has_choice(among) {
            return None;
        }
        if self.answers == 1 && among.is_all() {
            picks[0] = u16::try_from(self.drawn(draw)).ok()?;
            return picks.get(..1);
        }
        let wanted = usize::from(self.answers).min(picks.len());
        let count = if among.is_all() {
            self.pick_of_all(draw, wanted, picks)
        } else {
            self.pick_of_some(among, draw, wanted, picks)
        };
        picks.get(..count)
    }

    /// Each pick is drawn from the sums of all weights without the parts of those picked before.
    fn pick_of_all(&self, draw: u64, wanted: usize, picks: &mut [u16; 256]) -> usize {
        let sum = |end: usize| end.checked_sub(1).and_then(|last| self.sums().get(last));
        let sum = |end: usize| sum(end).map_or(0, |sum| u64::from(u32::from_le_bytes(*sum)));
        let mut left = sum(self.candidates());
        for count in 0..wanted {
            let mut at = scaled(stream(draw, count as u64), left);
            let mut place = 0;
            for picked in picks.iter().take(count).map(|picked| usize::from(*picked)) {
                if at < sum(picked) {
                    break;
                }
                at += u64::from(self.weight(picked));
                place += 1;
            }
            let found = self.sums().partition_point(|sum| u64::from(u32::from_le_bytes(*sum)) <= at);
            left -= u64::from(self.weight(found));
            picks.copy_within(place..count, place + 1);
            picks[place] = found as u16;
        }
        wanted
    }

    /// Each pick walks those that are left.
    fn pick_of_some(&self, among: &Among<'_>, draw: u64, wanted: usize, picks: &mut [u16; 256]) -> usize {
        let mut left = [0_u64; 1024];
        for candidate in (0..self.candidates()).filter(|candidate| self.is_among(*candidate, among)) {
            left[candidate / 64 % 1024] |= 1 << (candidate % 64);
        }
        let weight = |left: &[u64; 1024], candidate: usize| {
            let is_left = left[candidate / 64 % 1024] >> (candidate % 64) & 1 == 1;
            if is_left { u64::from(self.weight(candidate)) } else { 0 }
        };
        for (count, pick) in picks.iter_mut().enumerate().take(wanted) {
            let total = (0..self.candidates()).map(|candidate| weight(&left, candidate)).sum();
            let draw = if wanted == 1 { draw } else { stream(draw, count as u64) };
            let mut at = scaled(draw, total);
            let found = (0..self.candidates()).find(|candidate| {
                let weight = weight(&left, *candidate);
                let is_it = at < weight;
                at = at.saturating_sub(weight);
                is_it
            });
            let Some(found) = found else { return count };
            left[found / 64 % 1024] &= !(1 << (found % 64));
            *pick = found as u16;
        }
        wanted
    }

    #[inline]
    fn append_one(&self, candidate: usize, out: &mut Vec<u8>) -> Chosen {
        if self.flags & LISTED == 0
            && let Some(entry) = u16::try_from(candidate).ok().and_then(|number| self.entry(number))
        {
            return append(out, entry, 1);
        }
        // They are in order, as each endpoint's are.
        let mut count = 0;
        for entry in self.rdatas_of(candidate).filter_map(|number| self.entry(number)) {
            match append(out, entry, count + 1) {
                Chosen::Count(now) => count = now,
                Chosen::NoRoom => return Chosen::NoRoom,
            }
        }
        Chosen::Count(count)
    }

    fn append_merged(&self, chosen: impl Iterator<Item = usize>, out: &mut Vec<u8>) -> Chosen {
        if self.rdata_count <= 64 {
            self.append_set::<1>(chosen, out)
        } else {
            self.append_set::<{ RDATAS_MAX / 64 }>(chosen, out)
        }
    }

    fn append_set<const WORDS: usize>(
        &self,
        chosen: impl Iterator<Item = usize>,
        out: &mut Vec<u8>,
    ) -> Chosen {
        let mut set = [0_u64; WORDS];
        for number in chosen.flat_map(|candidate| self.rdatas_of(candidate)) {
            if let Some(word) = set.get_mut(usize::from(number) / 64) {
                *word |= 1 << (number % 64);
            }
        }
        let mut count = 0;
        for (place, word) in set.iter().enumerate().take(usize::from(self.rdata_count).div_ceil(64)) {
            let mut rest = *word;
            while rest != 0 {
                let number = place as u16 * 64 + rest.trailing_zeros() as u16;
                rest &= rest - 1;
                let Some(entry) = self.entry(number) else { continue };
                match append(out, entry, count + 1) {
                    Chosen::Count(now) => count = now,
                    Chosen::NoRoom => return Chosen::NoRoom,
                }
            }
        }
        Chosen::Count(count)
    }
}

/// Appends octets that make `count` RDATAs in all, within the room that was reserved.
#[inline]
fn append(out: &mut Vec<u8>, entries: &[u8], count: u16) -> Chosen {
    if out.capacity() - out.len() < entries.len() {
        return Chosen::NoRoom;
    }
    // Most are IPv4 addresses: these are copied without a call.
    match <&[u8; 6]>::try_from(entries) {
        Ok(address) => out.extend_from_slice(address),
        Err(_) => out.extend_from_slice(entries),
    }
    Chosen::Count(count)
}

/// A draw as a number below `total`.
#[inline]
fn scaled(draw: u64, total: u64) -> u64 {
    ((u128::from(draw) * u128::from(total)) >> 64) as u64
}

/// Equal for all addresses of a network.
fn network_hash(seed: u64, address: IpAddr, length: u8) -> u64 {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            octets_hash(seed, &(v4.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            octets_hash(seed, &(v6.to_bits() & mask).to_be_bytes())
        }
    }
}
