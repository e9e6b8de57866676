//! A table from networks in ascending order.

use std::collections::HashMap;

use super::places::Places;
use super::{Aliases, Database, Facts, Geo, Ranges, Versions};

/// Takes networks in ascending order, each family by itself, and makes a table of them.
#[derive(Debug, Default)]
pub struct Builder {
    pub(super) versions: Versions,
    /// Records in order of their first use; the one that says nothing comes first, when the table is made.
    records: Vec<Facts>,
    numbers: HashMap<[u64; 6], u32>,
    cities: Networks,
    asns: Networks,
}

/// A network is before, or within, one that was given earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("networks have to ascend and may not overlap")]
pub struct OutOfOrder;

impl Builder {
    /// Says which database the places are of, and which IPv6 addresses it finds at IPv4's.
    pub fn city_database(&mut self, database: Database, aliases: Aliases) {
        self.versions.city = Some(database);
        self.cities.aliases = aliases;
    }

    /// Says which database the autonomous systems are of, and which IPv6 addresses it finds at IPv4's.
    pub fn asn_database(&mut self, database: Database, aliases: Aliases) {
        self.versions.asn = Some(database);
        self.asns.aliases = aliases;
    }

    /// The number of a combination of facts, for [`Builder::city4`] and [`Builder::city6`].
    pub fn record(&mut self, facts: Facts) -> u32 {
        let facts = Facts { asn: 0, ..facts };
        if facts == Facts::default() {
            return 0;
        }
        let records = &mut self.records;
        *self.numbers.entry(identity(&facts)).or_insert_with(|| {
            records.push(facts);
            u32::try_from(records.len()).expect("fewer records than networks")
        })
    }

    /// A range of IPv4 addresses, both ends included, has these facts.
    ///
    /// # Errors
    /// [`OutOfOrder`].
    pub fn city4(&mut self, first: u32, last: u32, record: u32) -> Result<(), OutOfOrder> {
        self.cities.put4(first, last, record)
    }

    /// A range of IPv6 addresses, both ends included, has these facts.
    ///
    /// # Errors
    /// [`OutOfOrder`].
    pub fn city6(&mut self, first: u128, last: u128, record: u32) -> Result<(), OutOfOrder> {
        self.cities.put6(first, last, record)
    }

    /// A range of IPv4 addresses, both ends included, is announced by this system.
    ///
    /// # Errors
    /// [`OutOfOrder`].
    pub fn asn4(&mut self, first: u32, last: u32, asn: u32) -> Result<(), OutOfOrder> {
        self.asns.put4(first, last, asn)
    }

    /// A range of IPv6 addresses, both ends included, is announced by this system.
    ///
    /// # Errors
    /// [`OutOfOrder`].
    pub fn asn6(&mut self, first: u128, last: u128, asn: u32) -> Result<(), OutOfOrder> {
        self.asns.put6(first, last, asn)
    }

    /// The table.
    pub fn finish(self) -> Geo {
        let mut records = Vec::with_capacity(self.records.len() + 1);
        records.push(Facts::default());
        records.extend(self.records);
        Geo::new(self.versions, records, self.cities.finish(), self.asns.finish())
    }
}

impl Geo {
    /// The places of one table and the autonomous systems of another.
    #[must_use]
    pub fn combine(places: &Geo, asns: &Geo) -> Geo {
        let versions = Versions { city: places.versions.city.clone(), asn: asns.versions.asn.clone() };
        Geo::new(versions, places.records.clone(), places.cities.clone(), asns.asns.clone())
    }

    /// `cities` has indices into `records`, whose first one says nothing.
    pub(super) fn new(versions: Versions, records: Vec<Facts>, cities: Ranges, asns: Ranges) -> Geo {
        let places = Places::new(&records, &cities, &asns);
        Geo { versions, records, cities, asns, places, known: None }
    }
}

/// What makes two records the same: their octets.
fn identity(facts: &Facts) -> [u64; 6] {
    let two = |code: [u8; 2]| u64::from(u16::from_be_bytes(code));
    let subdivision = |place: usize| {
        facts.subdivisions[place].map_or(0, |subdivision| {
            let [a, b, c] = subdivision.code.map(u64::from);
            1 << 63 | two(subdivision.country) << 24 | a << 16 | b << 8 | c
        })
    };
    let location = facts.location.map_or(u64::MAX, |location| {
        u64::from(location.latitude.to_bits()) << 32 | u64::from(location.longitude.to_bits())
    });
    let codes = two(facts.continent) << 16 | two(facts.country);
    [codes, subdivision(0), subdivision(1), facts.city.into(), facts.city_name, location]
}

/// Networks of both families, what lies between them being filled with zero, and neighbours of one value being merged.
#[derive(Debug, Default)]
struct Networks {
    v4: Family<u32>,
    v6: Family<u128>,
    aliases: Aliases,
}

#[derive(Debug, Default)]
struct Family<A> {
    starts: Vec<A>,
    values: Vec<u32>,
    /// The address after the last network's last; none if there is none, or at the end of the family.
    next: Option<A>,
    is_begun: bool,
}

impl Networks {
    fn put4(&mut self, first: u32, last: u32, value: u32) -> Result<(), OutOfOrder> {
        self.v4.put(first, last, last.checked_add(1), value)
    }

    fn put6(&mut self, first: u128, last: u128, value: u32) -> Result<(), OutOfOrder> {
        self.v6.put(first, last, last.checked_add(1), value)
    }

    fn finish(self) -> Ranges {
        let (v4, mut values) = self.v4.finish();
        let (v6, v6_values) = self.v6.finish();
        values.extend(v6_values);
        Ranges::new(v4, v6, values, self.aliases)
    }
}

impl<A: Copy + Ord + Default> Family<A> {
    fn put(&mut self, first: A, last: A, after: Option<A>, value: u32) -> Result<(), OutOfOrder> {
        let next = if self.is_begun { self.next.ok_or(OutOfOrder)? } else { A::default() };
        if first < next || last < first {
            return Err(OutOfOrder);
        }
        if first > next {
            self.push(next, 0);
        }
        self.push(first, value);
        self.next = after;
        self.is_begun = true;
        Ok(())
    }

    fn push(&mut self, start: A, value: u32) {
        if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    fn finish(mut self) -> (Vec<A>, Vec<u32>) {
        match self.next {
            Some(next) => self.push(next, 0),
            None if !self.is_begun => self.push(A::default(), 0),
            None => {}
        }
        self.starts.shrink_to_fit();
        self.values.shrink_to_fit();
        (self.starts, self.values)
    }
}
