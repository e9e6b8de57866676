//! What is known of addresses: places and autonomous systems, in a table made for the look-up.
//!
//! ```text
//! mmdb files ──▶ Builder ──▶ Geo ──▶ facts(address)      what is known of it
//!  (mmdb.rs)    (build.rs)    │ ▲    widest(address, …)   how far around it the same decision is taken
//!                             │ │    known                 what was found of that before (known.rs)
//!                             ▼ │
//!                         flat file (format.rs): versioned, checked as a whole before it is used
//! ```
//!
//! A table is made once and never changed; whoever takes another one exchanges the `Arc` it is in.

mod build;
mod format;
mod known;
mod mmdb;
mod places;
pub(crate) mod ranges;
pub mod testing;
mod widest;

use std::net::IpAddr;

use herald_core::steering::{Location, Subdivision};

pub use build::{Builder, OutOfOrder};
pub use format::{GeoError, seal};
pub use mmdb::{MmdbError, MmdbKind};
pub use ranges::Aliases;

pub(crate) use known::{Basis, Known};
pub use widest::{Ask, Decider, Led, widest};

use known::KnownScopes;
use places::Places;
use ranges::Ranges;

/// What is known of an address. What isn't known is zero or none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// Continent code.
    pub continent: [u8; 2],
    /// Country (ISO 3166-1 alpha-2).
    pub country: [u8; 2],
    /// Subdivisions (ISO 3166-2), the larger one first.
    pub subdivisions: [Option<Subdivision>; 2],
    /// City, as its number at GeoNames.
    pub city: u32,
    /// [`city_name_hash`] of the city's English name and its country, zero if there is no name.
    pub city_name: u64,
    /// Autonomous system.
    pub asn: u32,
    /// Coordinates.
    pub location: Option<Location>,
}

/// What a city is known by where only its name is given: equal for equal countries and names, whatever the case of letters.
pub fn city_name_hash(country: [u8; 2], name: &str) -> u64 {
    let mut input = country.to_vec();
    input.extend(name.chars().flat_map(char::to_lowercase).collect::<String>().into_bytes());
    // Zero stands for no name.
    xxhash_rust::xxh3::xxh3_64(&input).max(1)
}

/// Where an address can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A continent code.
    Continent([u8; 2]),
    /// A country (ISO 3166-1 alpha-2).
    Country([u8; 2]),
    /// A subdivision (ISO 3166-2).
    Subdivision(Subdivision),
    /// A city, by its number at GeoNames.
    City(u32),
    /// All cities of a name, by its [`city_name_hash`].
    CityName(u64),
    /// An autonomous system.
    Asn(u32),
}

/// The databases that a table was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of places.
    pub city: Option<Database>,
    /// Of autonomous systems.
    pub asn: Option<Database>,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// What it calls itself: `GeoLite2-City`.
    pub kind: String,
    /// When it was built, in seconds since 1970.
    pub built_s: u64,
}

/// Facts about every address. A look-up neither locks nor allocates.
#[derive(Debug)]
pub struct Geo {
    versions: Versions,
    /// Each combination of facts once; the first one is of addresses about which nothing is known. `asn` is zero in all.
    records: Vec<Facts>,
    /// Addresses to indices into `records`.
    cities: Ranges,
    /// Addresses to numbers of autonomous systems, zero if not known.
    asns: Ranges,
    /// Where each place is.
    places: Places,
    /// Scopes that were found before, if these are kept.
    known: Option<KnownScopes>,
}

impl Geo {
    /// The table that knows nothing.
    pub fn empty() -> Geo {
        Builder::default().finish()
    }

    /// The table, which from now on keeps the scopes that are found by it (4 MB), so that they needn't be found again.
    #[must_use]
    pub fn keeping_scopes(self) -> Geo {
        Geo { known: Some(KnownScopes::new()), ..self }
    }

    /// What is known of an address.
    pub fn facts(&self, address: IpAddr) -> Facts {
        let mut facts = *self.place(address);
        facts.asn = self.asn(address);
        facts
    }

    /// What is known of an address but its autonomous system, which is left out.
    pub fn place(&self, address: IpAddr) -> &Facts {
        &self.records[self.cities.get(address) as usize]
    }

    /// The autonomous system that announces the address, zero if it isn't known.
    pub fn asn(&self, address: IpAddr) -> u32 {
        self.asns.get(address)
    }

    /// What was found before.
    #[inline]
    pub(crate) fn known_scope(&self, basis: Basis, client: IpAddr) -> Option<Known> {
        self.known.as_ref()?.get(basis, client)
    }

    /// Keeps what was found.
    pub(crate) fn keep_scope(&self, basis: Basis, client: IpAddr, known: Known) {
        if let Some(scopes) = &self.known {
            scopes.put(basis, client, known);
        }
    }

    /// The pool that answers an address, zero if none does, if that was found before.
    #[inline]
    pub(crate) fn known_pool(&self, basis: Basis, client: IpAddr) -> Option<u64> {
        self.known.as_ref()?.pool_of(basis, client)
    }

    /// Keeps which pool answers an address.
    pub(crate) fn keep_pool(&self, basis: Basis, client: IpAddr, pool: u64) {
        if let Some(scopes) = &self.known {
            scopes.put_pool(basis, client, pool);
        }
    }

    /// What it was made from.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// How many bytes of memory it takes, about.
    pub fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<Facts>()
            + self.cities.bytes()
            + self.asns.bytes()
            + self.places.bytes()
    }

    /// How many ranges of addresses it tells apart: those of places and those of autonomous systems.
    pub fn counts(&self) -> (usize, usize) {
        (self.cities.len(), self.asns.len())
    }
}

#[cfg(test)]
mod tests;
