//! Tables of places: any content under a right checksum is read or refused; what is read answers and is written the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use steering::geo::testing::{City, mmdb};
use steering::geo::{Ask, Builder, Decider, Geo, Led, MmdbKind, Place, seal, widest};

/// The first octet chooses: a table as it is, one whose header is put right, or a database in MaxMind's form.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    match choice % 3 {
        0 => read(bytes),
        1 if bytes.len() >= 40 => {
            let mut file = bytes.to_vec();
            seal(&mut file);
            read(&file);
        }
        2 => {
            let mut builder = Builder::default();
            if builder.add_mmdb(MmdbKind::City, bytes).is_ok() {
                read(&builder.finish().write());
            }
        }
        _ => {}
    }
}

fn read(file: &[u8]) {
    let Ok(geo) = Geo::read(file) else { return };
    let numbers = file
        .chunks(16)
        .take(16)
        .map(|octets| octets.iter().fold(0, |number, octet| number << 8 | u128::from(*octet)));
    for number in numbers {
        let addresses: [IpAddr; 2] =
            [Ipv4Addr::from_bits(number as u32).into(), Ipv6Addr::from_bits(number).into()];
        for address in addresses {
            let decider = ByCountry { geo: &geo, country: geo.facts(address).country };
            let length = widest(&geo, address, decider.led(address), &decider);
            assert!(length <= if address.is_ipv4() { 32 } else { 128 });
        }
    }
    assert!(Geo::read(&geo.write()).is_ok(), "what was written is not read");
}

/// Tells those of one country from others, and looks at each network.
struct ByCountry<'a> {
    geo: &'a Geo,
    country: [u8; 2],
}

impl<'a> Decider<'a> for ByCountry<'a> {
    fn led(&self, address: IpAddr) -> Led {
        let outcome = u64::from(self.geo.facts(address).country == self.country);
        Led { outcome, rules: 1, is_by_location: true, work: 50 }
    }

    fn asks(&self, rules: Range<usize>, each: &mut dyn FnMut(usize, Ask<'a>) -> bool) {
        if rules.contains(&0) {
            each(0, Ask::Place(Place::Country(self.country)));
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let record = |country| City {
        continent: "EU",
        country,
        subdivisions: &["BE"],
        city: Some((7, "Here")),
        location: Some((1.0, 2.0)),
    };
    let all = [("192.0.2.0/24", "DE"), ("2001:db8::/32", "NL"), ("192.0.2.128/25", "FR")];
    (1..=all.len())
        .flat_map(|count| {
            let network = |(network, country): &(&str, _)| {
                (network.parse().expect("a prefix"), record(*country).record())
            };
            let networks: Vec<_> = all[..count].iter().map(network).collect();
            let database = mmdb("Fuzz-City", 1, &networks);
            let mut builder = Builder::default();
            builder.add_mmdb(MmdbKind::City, &database).expect("a database");
            let table = builder.finish().write();
            [(0, &table), (1, &table), (2, &database)].map(|(choice, bytes)| [&[choice], &bytes[..]].concat())
        })
        .collect()
}
