//! What is known of addresses: places and autonomous systems, in a table made for the look-up.

use herald_core::steering::{Location, Subdivision};

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
