//! A table from MaxMind's files: GeoIP2 and GeoLite2, City and ASN.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use herald_core::steering::Location;
use herald_core::steering::Subdivision;
use herald_core::steering::item::letters;
use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};
use serde::Deserialize;

use super::build::OutOfOrder;
use super::ranges::ALIASES;
use super::{Aliases, Builder, Database, Facts, city_name_hash};

/// What a file tells of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmdbKind {
    /// Places.
    City,
    /// Autonomous systems.
    Asn,
}

impl MmdbKind {
    /// Words of which one is in the type of a database of this kind.
    fn words(self) -> [&'static str; 2] {
        match self {
            MmdbKind::City => ["City", "Enterprise"],
            MmdbKind::Asn => ["ASN", "ISP"],
        }
    }
}

impl fmt::Display for MmdbKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MmdbKind::City => "City",
            MmdbKind::Asn => "ASN",
        })
    }
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MmdbError {
    /// It isn't sound, as far as it had to be read.
    #[error("it is no whole MaxMind database (mmdb): {0}")]
    Unreadable(#[from] MaxMindDbError),
    /// It is of another kind.
    #[error("it is a database of the type {found:?}, and not one of {expected}")]
    Kind {
        /// What it says it is.
        found: String,
        /// What is wanted.
        expected: MmdbKind,
    },
    /// Its tree can't be gone through in order.
    #[error("it is no sound MaxMind database: {0}")]
    Order(#[from] OutOfOrder),
    /// It has no network about which anything is known.
    #[error("nothing is said in it of any network")]
    Empty,
}

/// What is read of a City database's records.
#[derive(Default, Deserialize)]
struct CityRecord<'a> {
    #[serde(borrow, default)]
    continent: Option<Continent<'a>>,
    #[serde(borrow, default)]
    country: Option<Coded<'a>>,
    #[serde(borrow, default)]
    subdivisions: Vec<Coded<'a>>,
    #[serde(borrow, default)]
    city: Option<City<'a>>,
    #[serde(default)]
    location: Option<Coordinates>,
}

#[derive(Deserialize)]
struct Continent<'a> {
    #[serde(borrow, default)]
    code: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Coded<'a> {
    #[serde(borrow, default)]
    iso_code: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct City<'a> {
    #[serde(default)]
    geoname_id: Option<u32>,
    #[serde(borrow, default)]
    names: Option<Names<'a>>,
}

#[derive(Deserialize)]
struct Names<'a> {
    #[serde(borrow, default)]
    en: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Coordinates {
    #[serde(default)]
    latitude: Option<f64>,
    #[serde(default)]
    longitude: Option<f64>,
}

/// What is read of an ASN database's records.
#[derive(Deserialize)]
struct AsnRecord {
    #[serde(default)]
    autonomous_system_number: Option<u32>,
}

impl Builder {
    /// Takes all that a file of this kind tells; once a kind.
    ///
    /// # Errors
    /// [`MmdbError`]; the builder is of no use then.
    pub fn add_mmdb(&mut self, kind: MmdbKind, file: &[u8]) -> Result<(), MmdbError> {
        let reader = Reader::from_source(file)?;
        let metadata = reader.metadata();
        let database = Database { kind: metadata.database_type.clone(), built_s: metadata.build_epoch };
        if !kind.words().iter().any(|word| database.kind.contains(word)) {
            return Err(MmdbError::Kind { found: database.kind, expected: kind });
        }
        match kind {
            MmdbKind::City => {
                let aliases = self.add_networks(
                    &reader,
                    |builder, found| Ok(builder.record(city_facts(&found.decode()?.unwrap_or_default()))),
                    Builder::city4,
                    Builder::city6,
                )?;
                self.city_database(database, aliases);
            }
            MmdbKind::Asn => {
                let aliases = self.add_networks(
                    &reader,
                    |_, found| {
                        let record: Option<AsnRecord> = found.decode()?;
                        Ok(record.and_then(|record| record.autonomous_system_number).unwrap_or(0))
                    },
                    Builder::asn4,
                    Builder::asn6,
                )?;
                self.asn_database(database, aliases);
            }
        }
        Ok(())
    }

    /// Goes through the tree. What is said at one place in the file is decoded once.
    fn add_networks(
        &mut self,
        reader: &Reader<&[u8]>,
        decode: impl Fn(&mut Builder, &LookupResult<'_, &[u8]>) -> Result<u32, MaxMindDbError>,
        put4: fn(&mut Builder, u32, u32, u32) -> Result<(), OutOfOrder>,
        put6: fn(&mut Builder, u128, u128, u32) -> Result<(), OutOfOrder>,
    ) -> Result<Aliases, MmdbError> {
        // A tree that ends above the IPv4 addresses has none, and then nothing in it stands for them.
        let has_v4 =
            matches!(reader.lookup(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?.network()?.ip(), IpAddr::V4(_));
        let mut options = WithinOptions::default();
        if !has_v4 {
            options = options.include_aliased_networks();
        }
        let mut aliases = Aliases::NONE;
        let mut decoded: HashMap<usize, u32> = HashMap::new();
        let mut is_first_v4 = true;
        for found in reader.networks(options)? {
            let found = found?;
            let Some(offset) = found.offset() else { continue };
            let value = match decoded.get(&offset) {
                Some(value) => *value,
                None => {
                    let value = decode(self, &found)?;
                    decoded.insert(offset, value);
                    value
                }
            };
            let network = found.network()?;
            match network.ip() {
                IpAddr::V4(first) => {
                    if std::mem::take(&mut is_first_v4) && reader.metadata().ip_version == 6 {
                        aliases = aliases_of(reader, first, network.prefix(), offset)?;
                    }
                    let first = first.to_bits();
                    put4(
                        self,
                        first,
                        first | u32::MAX.checked_shr(network.prefix().into()).unwrap_or(0),
                        value,
                    )?;
                }
                IpAddr::V6(first) => {
                    let first = first.to_bits();
                    let last = first | u128::MAX.checked_shr(network.prefix().into()).unwrap_or(0);
                    if first == 0 && last >= ALIASES[0].last() {
                        put4(self, 0, u32::MAX, value)?;
                    }
                    // What has a tree of its own stands for nothing else.
                    aliases = aliases.without(first, last);
                    put6(self, first, last, value)?;
                }
            }
        }
        match decoded.values().any(|value| *value != 0) {
            true => Ok(aliases),
            false => Err(MmdbError::Empty),
        }
    }
}

/// Where in the IPv6 tree a network of IPv4's tree is found too.
fn aliases_of(
    reader: &Reader<&[u8]>,
    first: Ipv4Addr,
    length: u8,
    offset: usize,
) -> Result<Aliases, MaxMindDbError> {
    let mut aliases = Aliases::NONE;
    for (bit, alias) in ALIASES.into_iter().enumerate() {
        let found = reader.lookup(IpAddr::V6(Ipv6Addr::from_bits(alias.address(first.to_bits()))))?;
        if found.offset() == Some(offset)
            && u32::from(found.network()?.prefix()) == alias.length + u32::from(length)
        {
            aliases.0 |= 1 << bit;
        }
    }
    Ok(aliases)
}

fn city_facts(record: &CityRecord<'_>) -> Facts {
    let code = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(letters).unwrap_or_default();
    let country_text = record.country.as_ref().and_then(|country| country.iso_code.as_deref());
    let country = country_text.and_then(letters).unwrap_or_default();
    let mut subdivisions = [None; 2];
    let codes = record.subdivisions.iter().filter_map(|subdivision| {
        Subdivision::parse(&format!("{}-{}", country_text?, subdivision.iso_code.as_deref()?))
    });
    subdivisions.iter_mut().zip(codes).for_each(|(place, code)| *place = Some(code));
    let city = record.city.as_ref();
    let name = city.and_then(|city| city.names.as_ref()?.en.as_deref());
    Facts {
        continent: record.continent.as_ref().map_or([0; 2], |continent| code(&continent.code)),
        country,
        subdivisions,
        city: city.and_then(|city| city.geoname_id).unwrap_or(0),
        city_name: name.map_or(0, |name| city_name_hash(country, name)),
        asn: 0,
        location: record.location.as_ref().and_then(location),
    }
}

/// Coordinates, if both are told and are on earth.
fn location(coordinates: &Coordinates) -> Option<Location> {
    let (latitude, longitude) = (coordinates.latitude?, coordinates.longitude?);
    (latitude.abs() <= 90.0 && longitude.abs() <= 180.0)
        .then_some(Location { latitude: latitude as f32, longitude: longitude as f32 })
}
