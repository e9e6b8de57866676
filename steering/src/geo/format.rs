//! The table as a file.
//!
//! Numbers are little endian. The magic, in which the version is; the length of the whole; XXH3-128 of all that follows; then the
//! databases it was made from (CBOR, with its length before it), the records, and the ranges of places and of autonomous systems.
//! Nothing is used before all of it was checked.

use std::fmt;

use herald_core::steering::{Location, Subdivision};
use minicbor::{Decode, Encode};

use super::{Aliases, Database, Facts, Geo, Ranges, Versions};

/// First octets of every version.
const MAGIC: &[u8; 12] = b"herald-geo\r\n";
const VERSION: u32 = 1;
/// Magic, version, length, checksum.
const HEADER_BYTES: usize = 12 + 4 + 8 + 16;
/// Codes, two subdivisions of a country and a code each, the city's number and name, coordinates.
const RECORD_BYTES: usize = 2 + 2 + 2 * 5 + 4 + 8 + 4 + 4;

/// Why octets are no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeoError {
    /// They begin otherwise than every table does.
    #[error("it is no table of places")]
    NoTable,
    /// Written by another version.
    #[error("version {0} of the table of places isn't known")]
    Version(u32),
    /// Some of it is missing, or there is more.
    #[error(
        "the table of places has {found} bytes and says {said}: it was cut off, or isn't what was written"
    )]
    Length {
        /// What it says it has.
        said: u64,
        /// What it has.
        found: u64,
    },
    /// Its checksum is wrong.
    #[error("the table of places is damaged")]
    Damaged,
    /// It is whole, and yet not what a table looks like.
    #[error("the table of places is malformed: {0}")]
    Malformed(&'static str),
}

#[derive(Encode, Decode)]
struct Meta {
    #[n(0)]
    city: Option<MetaDatabase>,
    #[n(1)]
    asn: Option<MetaDatabase>,
}

#[derive(Encode, Decode)]
struct MetaDatabase {
    #[n(0)]
    kind: String,
    #[n(1)]
    built_s: u64,
}

impl Geo {
    /// The table in this file.
    ///
    /// # Errors
    /// [`GeoError`] if it isn't whole and sound.
    pub fn read(bytes: &[u8]) -> Result<Geo, GeoError> {
        let (versions, mut rest) = open(bytes)?;
        let count = rest.count(RECORD_BYTES)?;
        let records = (0..count).map(|_| read_record(&mut rest)).collect::<Result<Vec<_>, _>>()?;
        if records.first() != Some(&Facts::default()) {
            return Err(GeoError::Malformed("the first record says something"));
        }
        let cities = read_ranges(&mut rest)?;
        let asns = read_ranges(&mut rest)?;
        if !rest.0.is_empty() {
            return Err(GeoError::Malformed("there is more than a table"));
        }
        if cities.values().iter().any(|record| *record as usize >= records.len()) {
            return Err(GeoError::Malformed("a range has a record that isn't there"));
        }
        Ok(Geo::new(versions, records, cities, asns))
    }

    /// The file of this table.
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        let meta = minicbor::to_vec(meta(&self.versions)).expect("writing to a Vec can't fail");
        put_count(&mut out, meta.len());
        out.extend_from_slice(&meta);
        put_count(&mut out, self.records.len());
        for facts in &self.records {
            write_record(facts, &mut out);
        }
        write_ranges(&self.cities, &mut out);
        write_ranges(&self.asns, &mut out);
        seal(&mut out);
        out
    }
}

impl Versions {
    /// Those of the table in this file, whose checksum is looked at and nothing else.
    ///
    /// # Errors
    /// [`GeoError`] if it is damaged.
    pub fn read(bytes: &[u8]) -> Result<Versions, GeoError> {
        open(bytes).map(|(versions, _)| versions)
    }
}

/// Writes the header of what follows it. Public so that checks of the content can be tested with anything in it.
#[doc(hidden)]
pub fn seal(file: &mut [u8]) {
    let length = file.len() as u64;
    let (header, content) = file.split_at_mut(HEADER_BYTES);
    let sum = xxhash_rust::xxh3::xxh3_128(content);
    header[..12].copy_from_slice(MAGIC);
    header[12..16].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&length.to_le_bytes());
    header[24..].copy_from_slice(&sum.to_le_bytes());
}

/// Checks the header, and reads what comes first.
fn open(bytes: &[u8]) -> Result<(Versions, Rest<'_>), GeoError> {
    let mut rest = Rest(bytes);
    if rest.array::<12>().ok() != Some(MAGIC) {
        return Err(GeoError::NoTable);
    }
    let found = bytes.len() as u64;
    let cut = |_| GeoError::Length { said: HEADER_BYTES as u64, found };
    let version = rest.u32().map_err(cut)?;
    if version != VERSION {
        return Err(GeoError::Version(version));
    }
    let said = rest.array().map(|octets| u64::from_le_bytes(*octets)).map_err(cut)?;
    let sum = rest.array().map(|octets| u128::from_le_bytes(*octets)).map_err(cut)?;
    if said != found {
        return Err(GeoError::Length { said, found });
    }
    if xxhash_rust::xxh3::xxh3_128(rest.0) != sum {
        return Err(GeoError::Damaged);
    }
    let length = rest.count(1)?;
    let meta: Meta = minicbor::decode(rest.take(length)?)
        .map_err(|_| GeoError::Malformed("its databases can't be read"))?;
    let database = |database: MetaDatabase| Database { kind: database.kind, built_s: database.built_s };
    Ok((Versions { city: meta.city.map(database), asn: meta.asn.map(database) }, rest))
}

fn meta(versions: &Versions) -> Meta {
    let database =
        |database: &Database| MetaDatabase { kind: database.kind.clone(), built_s: database.built_s };
    Meta { city: versions.city.as_ref().map(database), asn: versions.asn.as_ref().map(database) }
}

fn write_record(facts: &Facts, out: &mut Vec<u8>) {
    out.extend_from_slice(&facts.continent);
    out.extend_from_slice(&facts.country);
    for subdivision in facts.subdivisions {
        let (country, code) = subdivision.map_or(([0; 2], [0; 3]), |place| (place.country, place.code));
        out.extend_from_slice(&country);
        out.extend_from_slice(&code);
    }
    out.extend_from_slice(&facts.city.to_le_bytes());
    out.extend_from_slice(&facts.city_name.to_le_bytes());
    let (latitude, longitude) =
        facts.location.map_or((f32::NAN, f32::NAN), |location| (location.latitude, location.longitude));
    out.extend_from_slice(&latitude.to_le_bytes());
    out.extend_from_slice(&longitude.to_le_bytes());
}

fn read_record(rest: &mut Rest<'_>) -> Result<Facts, GeoError> {
    let (continent, country) = (*rest.array()?, *rest.array()?);
    let mut subdivisions = [None; 2];
    for subdivision in &mut subdivisions {
        let (country, code) = (*rest.array()?, *rest.array()?);
        *subdivision = (code != [0; 3]).then_some(Subdivision { country, code });
    }
    let (city, city_name) = (rest.u32()?, u64::from_le_bytes(*rest.array()?));
    let (latitude, longitude) = (f32::from_le_bytes(*rest.array()?), f32::from_le_bytes(*rest.array()?));
    let location = match (latitude.is_nan(), longitude.is_nan()) {
        (true, true) => None,
        _ if latitude.abs() <= 90.0 && longitude.abs() <= 180.0 => Some(Location { latitude, longitude }),
        _ => return Err(GeoError::Malformed("coordinates aren't on earth")),
    };
    Ok(Facts { continent, country, subdivisions, city, city_name, asn: 0, location })
}

fn write_ranges(ranges: &Ranges, out: &mut Vec<u8>) {
    let (v4, v6, values, Aliases(aliases)) = ranges.parts();
    out.push(aliases);
    put_count(out, v4.len());
    put_count(out, v6.len());
    let has_low = v6.clone().any(|start| start as u64 != 0);
    out.push(has_low.into());
    out.extend(v4.iter().flat_map(|start| start.to_le_bytes()));
    out.extend(v6.clone().flat_map(|start| ((start >> 64) as u64).to_le_bytes()));
    if has_low {
        out.extend(v6.flat_map(|start| (start as u64).to_le_bytes()));
    }
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn read_ranges(rest: &mut Rest<'_>) -> Result<Ranges, GeoError> {
    let [aliases] = *rest.array()?;
    let (v4_count, v6_count) = (rest.u32()? as usize, rest.u32()? as usize);
    let [has_low] = *rest.array()?;
    if aliases > Aliases::ALL.0 || has_low > 1 {
        return Err(GeoError::Malformed("a flag isn't known"));
    }
    let v4: Vec<u32> = rest.numbers(v4_count)?.map(u32::from_le_bytes).collect();
    let mut v6: Vec<u128> =
        rest.numbers(v6_count)?.map(|octets| u128::from(u64::from_le_bytes(octets)) << 64).collect();
    if has_low == 1 {
        for (start, low) in v6.iter_mut().zip(rest.numbers(v6_count)?) {
            *start |= u128::from(u64::from_le_bytes(low));
        }
    }
    let values: Vec<u32> = rest.numbers(v4_count.saturating_add(v6_count))?.map(u32::from_le_bytes).collect();
    if v4.first() != Some(&0) || v6.first() != Some(&0) || !v4.is_sorted_by(|a, b| a < b) {
        return Err(GeoError::Malformed("ranges don't ascend from zero"));
    }
    if !v6.is_sorted_by(|a, b| a < b) || u32::try_from(values.len()).is_err() {
        return Err(GeoError::Malformed("ranges don't ascend, or are too many"));
    }
    Ok(Ranges::new(v4, v6, values, Aliases(aliases)))
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).expect("fewer than 2^32 of anything").to_le_bytes());
}

/// What hasn't been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], GeoError> {
        let (taken, rest) =
            self.0.split_at_checked(bytes).ok_or(GeoError::Malformed("it ends in the middle"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], GeoError> {
        Ok(self.take(N)?.first_chunk().expect("so many were taken"))
    }

    fn u32(&mut self) -> Result<u32, GeoError> {
        self.array().map(|octets| u32::from_le_bytes(*octets))
    }

    /// How many of something follow. More than there is room for are refused before anything is allocated.
    fn count(&mut self, bytes_each: usize) -> Result<usize, GeoError> {
        let count = self.u32()? as usize;
        match self.0.len() / bytes_each >= count {
            true => Ok(count),
            false => Err(GeoError::Malformed("it ends in the middle")),
        }
    }

    fn numbers<const N: usize>(&mut self, count: usize) -> Result<impl Iterator<Item = [u8; N]>, GeoError> {
        let bytes = count.checked_mul(N).ok_or(GeoError::Malformed("it ends in the middle"))?;
        let (numbers, _) = self.take(bytes)?.as_chunks::<N>();
        Ok(numbers.iter().copied())
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} built at {}", self.kind, self.built_s)
    }
}
