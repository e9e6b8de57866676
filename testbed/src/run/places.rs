//! The places of the networks of the documentation (RFC 5737, RFC 3849), as `./dev run` has them: real City databases are not ours to hand on.

use steering::geo::testing::{City, mmdb};

/// Built at the time of the first RFC of these networks: any real database is newer.
const BUILT_S: u64 = 1_262_304_000;

/// Network, continent, country, subdivision, number at GeoNames, name, and coordinates.
type Place = (&'static str, &'static str, &'static str, &'static str, u32, &'static str, (f64, f64));

const PLACES: [Place; 4] = [
    ("192.0.2.0/24", "EU", "DE", "BE", 2_950_159, "Berlin", (52.52, 13.41)),
    ("198.51.100.0/24", "NA", "US", "NY", 5_128_581, "New York", (40.71, -74.01)),
    ("203.0.113.0/24", "AS", "JP", "13", 1_850_147, "Tokyo", (35.69, 139.69)),
    ("2001:db8::/32", "EU", "NL", "NH", 2_759_794, "Amsterdam", (52.37, 4.89)),
];

/// A database in MaxMind's form.
pub(super) fn city_database() -> Vec<u8> {
    let networks = PLACES.map(|(network, continent, country, subdivision, number, name, location)| {
        let subdivisions = &[subdivision][..];
        let city =
            City { continent, country, subdivisions, city: Some((number, name)), location: Some(location) };
        (network.parse().expect("a prefix"), city.record())
    });
    mmdb("Documentation-City", BUILT_S, &networks)
}
