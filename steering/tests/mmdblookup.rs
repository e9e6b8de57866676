//! Facts of the table against what libmaxminddb's `mmdblookup` says of the same file, address by address.
//!
//! The file is made here, and another one too if `HERALD_GEOIP_CITY` or `HERALD_GEOIP_ASN` names it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use herald_core::steering::item::letters;
use herald_core::steering::{Location, Prefix, Subdivision};
use serde_json::{Map, Value, json};
use steering::geo::testing::{City, asn_record, mmdb};
use steering::geo::{Builder, Facts, Geo, MmdbError, MmdbKind, city_name_hash};

const ADDRESSES: usize = 10_000;
const SEED: u64 = 20_260_918;

#[test]
fn facts_are_what_mmdblookup_says_of_ten_thousand_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(SEED);
    let networks = networks(&mut random);
    let city_file = folder.path().join("city.mmdb");
    std::fs::write(&city_file, city_database(&networks, &mut random)).unwrap();
    let asn_file = folder.path().join("asn.mmdb");
    std::fs::write(&asn_file, asn_database(&networks, &mut random)).unwrap();
    compare(MmdbKind::City, &city_file, &addresses(&networks, &mut random, ADDRESSES));
    compare(MmdbKind::Asn, &asn_file, &addresses(&networks, &mut random, ADDRESSES / 10));
}

#[test]
fn facts_are_what_mmdblookup_says_of_the_file_that_is_named() {
    for (kind, variable) in [(MmdbKind::City, "HERALD_GEOIP_CITY"), (MmdbKind::Asn, "HERALD_GEOIP_ASN")] {
        let Some(file) = std::env::var_os(variable) else { continue };
        compare(kind, Path::new(&file), &addresses(&[], &mut Random(SEED), ADDRESSES));
    }
}

#[test]
fn files_that_are_cut_off_or_of_another_kind_are_refused() {
    let mut random = Random(SEED);
    let networks = networks(&mut random);
    let city = city_database(&networks, &mut random);
    let table = |kind, file: &[u8]| Builder::default().add_mmdb(kind, file);
    let cut = table(MmdbKind::City, &city[..city.len() / 2]).unwrap_err();
    assert!(matches!(cut, MmdbError::Unreadable(_)), "{cut}");
    assert!(cut.to_string().starts_with("it is no whole MaxMind database"), "{cut}");
    let other = table(MmdbKind::Asn, &city).unwrap_err();
    assert_eq!(other.to_string(), "it is a database of the type \"Test-City\", and not one of ASN");
    assert!(matches!(table(MmdbKind::City, b"").unwrap_err(), MmdbError::Unreadable(_)));
    assert!(matches!(table(MmdbKind::City, &mmdb("Test-City", 1, &[])).unwrap_err(), MmdbError::Empty));
    // Wherever octets are missing or other ones than they were, it ends well.
    for _ in 0..300 {
        let mut damaged = city.clone();
        let place = random.below(damaged.len());
        match random.below(2) {
            0 => drop(damaged.drain(place..(place + 1 + random.below(64)).min(city.len()))),
            _ => damaged[place] ^= 1 << random.below(8),
        }
        let _ = table(MmdbKind::City, &damaged);
    }
}

/// Compares a table of a file with the file.
fn compare(kind: MmdbKind, file: &Path, addresses: &[IpAddr]) {
    let begun = Instant::now();
    let mut builder = Builder::default();
    builder
        .add_mmdb(kind, &std::fs::read(file).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let geo = builder.finish();
    let made = begun.elapsed();
    let written = geo.write();
    let geo = Geo::read(&written).unwrap();
    println!(
        "{kind}: made in {made:.1?}, {} bytes, {} in memory, ranges {:?}",
        written.len(),
        geo.bytes(),
        geo.counts()
    );
    let known = std::thread::scope(|scope| {
        let halves = addresses.chunks(addresses.len().div_ceil(2));
        let threads: Vec<_> = halves
            .map(|half| {
                let geo = &geo;
                scope.spawn(move || {
                    let mut known = 0;
                    for address in half {
                        let said = mmdblookup(file, *address);
                        known += usize::from(said.is_some());
                        let said = said.unwrap_or_default();
                        let facts = geo.facts(*address);
                        match kind {
                            MmdbKind::City => assert_eq!(facts, city_facts(&said), "{address}"),
                            MmdbKind::Asn => {
                                let number = said.get("autonomous_system_number").and_then(Value::as_u64);
                                assert_eq!(u64::from(facts.asn), number.unwrap_or(0), "{address}");
                            }
                        }
                    }
                    known
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    println!("{kind}: {known} of {} addresses are known", addresses.len());
    assert!(known > addresses.len() / 5, "only {known} addresses are known: nothing is compared");
    assert!(addresses.len() - known > 50, "all addresses are known: what isn't, isn't compared");
}

fn city_facts(said: &Map<String, Value>) -> Facts {
    let at = |path: &str| {
        said.get(path.split('/').next().unwrap())
            .and_then(|value| value.pointer(&path[path.find('/').unwrap()..]))
    };
    let code = |path: &str| at(path).and_then(Value::as_str).and_then(letters).unwrap_or_default();
    let country = code("country/iso_code");
    let subdivision = |place: usize| {
        let code = said.get("subdivisions")?.get(place)?.get("iso_code")?.as_str()?;
        Subdivision::parse(&format!("{}-{code}", std::str::from_utf8(&country).unwrap()))
    };
    let degrees = |path: &str| at(path).and_then(Value::as_f64);
    Facts {
        continent: code("continent/code"),
        country,
        subdivisions: [subdivision(0), subdivision(1)],
        city: at("city/geoname_id").and_then(Value::as_u64).map_or(0, |city| u32::try_from(city).unwrap()),
        city_name: at("city/names/en")
            .and_then(Value::as_str)
            .map_or(0, |name| city_name_hash(country, name)),
        asn: 0,
        location: degrees("location/latitude")
            .zip(degrees("location/longitude"))
            .map(|(latitude, longitude)| Location { latitude: latitude as f32, longitude: longitude as f32 }),
    }
}

/// What it says of the address; none if the file has nothing.
fn mmdblookup(file: &Path, address: IpAddr) -> Option<Map<String, Value>> {
    let ran =
        Command::new("mmdblookup").arg("--file").arg(file).arg("--ip").arg(address.to_string()).output();
    let output = ran.expect("mmdblookup (Debian: mmdb-bin) can be run");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("Could not find an entry for this IP address"), "{address}: {said}");
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match value(lines.next()?, &mut lines) {
        Value::Object(map) => Some(map),
        other => panic!("{address}: {other}"),
    }
}

/// Its output is JSON but for the commas and for the types behind values.
fn value<'a>(line: &str, lines: &mut impl Iterator<Item = &'a str>) -> Value {
    match line {
        "{" => {
            let mut map = Map::new();
            loop {
                let line = lines.next().expect("a map has an end");
                if line == "}" {
                    return Value::Object(map);
                }
                let key = line.strip_suffix(':').expect("a key").trim_matches('"').to_owned();
                let line = lines.next().expect("a key has a value");
                map.insert(key, value(line, lines));
            }
        }
        "[" => {
            let mut all = Vec::new();
            loop {
                let line = lines.next().expect("an array has an end");
                if line == "]" {
                    return Value::Array(all);
                }
                all.push(value(line, lines));
            }
        }
        _ => {
            let (value, kind) = line.rsplit_once(" <").expect("a value and its type");
            match kind {
                "utf8_string>" => json!(value.strip_prefix('"').unwrap().strip_suffix('"').unwrap()),
                "double>" => json!(value.parse::<f64>().unwrap()),
                "boolean>" => json!(value == "true"),
                _ => json!(value.parse::<u64>().unwrap()),
            }
        }
    }
}

/// Networks of all lengths, within each other and side by side, none where IPv6 stands for IPv4.
fn networks(random: &mut Random) -> Vec<Prefix> {
    let mut networks = Vec::new();
    while networks.len() < 400 {
        let length = 4 + random.below(29) as u8;
        networks.push(Prefix::new(Ipv4Addr::from_bits(random.next() as u32).into(), length).unwrap());
        let inner = networks[random.below(networks.len())];
        if let IpAddr::V4(v4) = inner.address() {
            let within =
                v4.to_bits() | (random.next() as u32).checked_shr(inner.length().into()).unwrap_or(0);
            let length = inner.length() + random.below(usize::from(33 - inner.length())) as u8;
            networks.push(Prefix::new(Ipv4Addr::from_bits(within).into(), length).unwrap());
        }
        let v6 = u128::from(random.next()) << 64 | u128::from(random.next());
        let length = 12 + random.below(117) as u8;
        networks.push(Prefix::new(Ipv6Addr::from_bits(0x24 << 120 | v6 >> 8).into(), length.max(8)).unwrap());
    }
    networks
}

fn city_database(networks: &[Prefix], random: &mut Random) -> Vec<u8> {
    const NAMES: [&str; 5] = ["Springfield", "Saint-Denis", "Łódź", "São Paulo", "Wagga Wagga"];
    let records: Vec<_> = networks
        .iter()
        .map(|prefix| {
            let (continent, country) =
                [("EU", "DE"), ("NA", "US"), ("OC", "NZ"), ("SA", "BR")][random.below(4)];
            let name = random.below(NAMES.len());
            let some = |random: &mut Random| random.below(3) > 0;
            let record = City {
                continent,
                country,
                subdivisions: [&["MA", "07"][..], &["WGN"], &[]][random.below(3)],
                city: some(random).then_some((1_000 + name as u32, NAMES[name])),
                location: some(random).then(|| {
                    (
                        random.below(1_800_000) as f64 / 1e4 - 90.0,
                        random.below(3_600_000) as f64 / 1e4 - 180.0,
                    )
                }),
            };
            (*prefix, record.record())
        })
        .collect();
    mmdb("Test-City", 1_789_706_978, &records)
}

fn asn_database(networks: &[Prefix], random: &mut Random) -> Vec<u8> {
    let records: Vec<_> =
        networks.iter().map(|prefix| (*prefix, asn_record(1 + random.next() as u32 / 2))).collect();
    mmdb("Test-ASN", 1_789_706_978, &records)
}

/// Addresses of all kinds: of and around these networks, in the space that is in use, and such as stand for IPv4 addresses.
fn addresses(networks: &[Prefix], random: &mut Random, count: usize) -> Vec<IpAddr> {
    (0..count)
        .map(|turn| {
            let v4 = random.next() as u32;
            let v6 = u128::from(random.next()) << 64 | u128::from(random.next());
            let shift = [64, 80, 96, 104][random.below(4)];
            match turn % 8 {
                0..3 => Ipv4Addr::from_bits(v4).into(),
                // Regional registries' own blocks.
                3 => {
                    let block = [0x2001_0400, 0x2400_0000, 0x2600_0000, 0x2800_0000, 0x2a00_0000_u128]
                        [random.below(5)];
                    Ipv6Addr::from_bits(block << 96 | v6 >> 12).into()
                }
                4 => {
                    let (base, shift) = [(0, 0), (0xffff << 32, 0), (0x2001 << 112, 64), (0x2002 << 112, 80)]
                        [random.below(4)];
                    Ipv6Addr::from_bits(base | u128::from(v4) << shift).into()
                }
                _ if networks.is_empty() => Ipv4Addr::from_bits(v4).into(),
                _ => match networks[random.below(networks.len())].address() {
                    IpAddr::V4(first) => {
                        Ipv4Addr::from_bits(first.to_bits().wrapping_add(v4 % 1024).wrapping_sub(8)).into()
                    }
                    IpAddr::V6(first) => {
                        Ipv6Addr::from_bits((first.to_bits() ^ v6 >> shift).wrapping_sub(1)).into()
                    }
                },
            }
        })
        .collect()
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }
}
