//! Where each place is: the runs of ranges that are in it, so that the next address at which a place begins or ends is found by
//! halving, however many other places lie between.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{Facts, Place, Ranges};

/// Runs of all places.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The lists that make up a place, as a part of `members`.
    parts: Parts,
    members: Vec<u32>,
    /// Where in `bounds` a list begins; one more at the end.
    offsets: Vec<u32>,
    /// A list is the first range of a run, the range after it, the first one of the next run, and so on.
    bounds: Vec<u32>,
}

type Parts = HashMap<Key, (u32, u32), BuildHasherDefault<Mix>>;

/// A place as one number: its kind, and which one. Two city names could share one, by chance: each would then be taken to begin and
/// end wherever the other one does, which is more often than need be and does no harm.
type Key = u64;

fn key(place: Place) -> Key {
    let number = |octets: &[u8]| octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
    let (kind, number) = match place {
        Place::Continent(code) => (0, number(&code)),
        Place::Country(code) => (1, number(&code)),
        Place::Subdivision(subdivision) => {
            (2, number(&subdivision.country) << 24 | number(&subdivision.code))
        }
        Place::City(city) => (3, city.into()),
        Place::CityName(name) => (4, name >> 8),
        Place::Asn(asn) => (5, asn.into()),
    };
    kind << 56 | number
}

/// Lists that one record is in, and the one that none is.
const LISTS_A_RECORD: usize = 5;
const NO_LIST: u32 = u32::MAX;

impl Places {
    /// Finds out where places are: `cities` has indices into `records`, `asns` autonomous systems.
    pub(super) fn new(records: &[Facts], cities: &Ranges, asns: &Ranges) -> Places {
        let mut lists = Lists::default();
        let of_records: Vec<_> = records.iter().map(|facts| lists.of_record(facts)).collect();
        let mut of_asns: HashMap<u32, u32, BuildHasherDefault<Mix>> = HashMap::default();
        for asn in asns.values().iter().filter(|asn| **asn != 0) {
            of_asns.entry(*asn).or_insert_with(|| lists.of(&[Place::Asn(*asn)]));
        }
        let count = lists.numbers.len();
        // Goes through all ranges twice: to count bounds, and to put them where they belong.
        let runs = |each: &mut dyn FnMut(usize, u32, bool)| {
            for_each_run(cities, count, |range| of_records[cities.values()[range] as usize], each);
            let of_asn = |range: usize| [of_asns.get(&asns.values()[range]).copied().unwrap_or(NO_LIST)];
            for_each_run(asns, count, of_asn, each);
        };
        let mut next = vec![0_u32; count + 1];
        runs(&mut |list, _, begins| next[list + 1] += if begins { 2 } else { 0 });
        for list in 0..count {
            next[list + 1] += next[list];
        }
        let offsets = next.clone();
        let mut bounds = vec![0; next[count] as usize];
        runs(&mut |list, range, begins| {
            let next = &mut next[list];
            if begins {
                bounds[*next as usize] = range;
                *next += 2;
            }
            bounds[*next as usize - 1] = range + 1;
        });
        let (parts, members) = lists.finish();
        Places { parts, members, offsets, bounds }
    }

    /// Calls `each` with the runs of every list that makes up a place; a place that nothing is known of has none.
    #[inline]
    pub(super) fn for_each_list<'a>(&'a self, place: Place, mut each: impl FnMut(&'a [u32])) {
        let Some((first, end)) = self.parts.get(&key(place)) else { return };
        for list in &self.members[*first as usize..*end as usize] {
            let list = *list as usize;
            each(&self.bounds[self.offsets[list] as usize..self.offsets[list + 1] as usize]);
        }
    }

    /// The ranges around one, from the first to before the end, that are of its family and in the place, or aren't, like itself.
    #[inline]
    pub(super) fn around(bounds: &[u32], range: usize, len4: usize, len: usize) -> (usize, usize) {
        let place = bounds.partition_point(|bound| *bound as usize <= range);
        let first = place.checked_sub(1).map_or(0, |before| bounds[before] as usize);
        let end = bounds.get(place).map_or(len, |bound| *bound as usize);
        if range < len4 { (first, end.min(len4)) } else { (first.max(len4), end) }
    }

    pub(super) fn bytes(&self) -> usize {
        (self.members.len() + self.offsets.len() + self.bounds.len()) * size_of::<u32>()
            + self.parts.capacity() * (size_of::<(Key, (u32, u32))>() + 1)
    }
}

/// Hands out lists. One city may have several names, and one name several cities: what has both the same is one list.
#[derive(Default)]
struct Lists {
    numbers: HashMap<[Key; 2], u32, BuildHasherDefault<Mix>>,
    /// Places, and the lists that they are made up of.
    parts: Vec<(Key, u32)>,
}

impl Lists {
    fn of_record(&mut self, facts: &Facts) -> [u32; LISTS_A_RECORD] {
        let [first, second] = facts.subdivisions;
        let city = [
            (facts.city != 0).then_some(Place::City(facts.city)),
            (facts.city_name != 0).then_some(Place::CityName(facts.city_name)),
        ];
        let mut of = |place: Option<Place>| place.map_or(NO_LIST, |place| self.of(&[place]));
        [
            of((facts.continent != [0; 2]).then_some(Place::Continent(facts.continent))),
            of((facts.country != [0; 2]).then_some(Place::Country(facts.country))),
            of(first.map(Place::Subdivision)),
            of(second.filter(|_| second != first).map(Place::Subdivision)),
            match city {
                [None, None] => NO_LIST,
                [Some(city), Some(name)] => self.of(&[city, name]),
                [place, other] => of(place.or(other)),
            },
        ]
    }

    /// The list of what is in each of these places.
    fn of(&mut self, places: &[Place]) -> u32 {
        let mut keys = [0; 2];
        keys.iter_mut().zip(places).for_each(|(to, place)| *to = key(*place));
        let next = u32::try_from(self.numbers.len()).expect("fewer places than ranges");
        let number = *self.numbers.entry(keys).or_insert(next);
        if number == next {
            self.parts.extend(places.iter().map(|place| (key(*place), number)));
        }
        number
    }

    fn finish(mut self) -> (Parts, Vec<u32>) {
        self.parts.sort_unstable();
        let mut members = Vec::with_capacity(self.parts.len());
        let mut parts = Parts::default();
        for same in self.parts.chunk_by(|a, b| a.0 == b.0) {
            let place = |place: usize| u32::try_from(place).expect("fewer places than ranges");
            let first = place(members.len());
            members.extend(same.iter().map(|(_, list)| *list));
            parts.insert(same[0].0, (first, place(members.len())));
        }
        (parts, members)
    }
}

/// Calls `each` with list, range, and whether a run begins there, for every range and every list that it is in. A run ends where
/// the family does.
fn for_each_run<const N: usize>(
    ranges: &Ranges,
    lists: usize,
    lists_of: impl Fn(usize) -> [u32; N],
    each: &mut dyn FnMut(usize, u32, bool),
) {
    // The range after the last one of the run that was seen last, by list; none before the first.
    let mut ends = vec![u32::MAX; lists];
    for range in 0..ranges.len() {
        let number = u32::try_from(range).expect("fewer than 2^32 ranges");
        for list in lists_of(range) {
            if let Some(end) = ends.get_mut(list as usize) {
                each(list as usize, number, *end != number || range == ranges.len4());
                *end = number + 1;
            }
        }
    }
}

/// Spreads numbers that nobody chooses in order to have them collide.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // The upper bits are the best ones, and the map looks at the lower ones as well.
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}
