//! Writes small databases in MaxMind's format (MaxMind DB File Format Specification 2.0), for tests.

use std::net::IpAddr;

use herald_core::steering::Prefix;

/// Size of the tree's references, the one that GeoLite2 City has.
const RECORD_BITS: u16 = 28;
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// What is told of a network.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Keys and values.
    Map(Vec<(&'static str, Value)>),
    /// Values.
    Array(Vec<Value>),
    /// Text.
    Text(String),
    /// A number of 16 bits.
    U16(u16),
    /// A number of 32 bits.
    U32(u32),
    /// A number of 64 bits.
    U64(u64),
    /// A number with a fraction.
    Double(f64),
}

/// A place, as it is told in City databases.
#[derive(Clone, Copy, Debug)]
pub struct City<'a> {
    /// Continent code.
    pub continent: &'a str,
    /// ISO 3166-1 code.
    pub country: &'a str,
    /// ISO 3166-2 codes without the country.
    pub subdivisions: &'a [&'a str],
    /// Number at GeoNames and English name.
    pub city: Option<(u32, &'a str)>,
    /// Latitude and longitude.
    pub location: Option<(f64, f64)>,
}

impl City<'_> {
    /// Its record.
    pub fn record(self) -> Value {
        let names = |name: &str| ("names", Value::Map(vec![("en", Value::Text(name.into()))]));
        let coded = |code: &str| Value::Map(vec![("iso_code", Value::Text(code.into())), names(code)]);
        let mut all = vec![
            (
                "continent",
                Value::Map(vec![("code", Value::Text(self.continent.into())), names(self.continent)]),
            ),
            ("country", coded(self.country)),
            ("registered_country", coded("AQ")),
        ];
        if let Some((id, name)) = self.city {
            all.push(("city", Value::Map(vec![("geoname_id", Value::U32(id)), names(name)])));
        }
        if !self.subdivisions.is_empty() {
            all.push((
                "subdivisions",
                Value::Array(self.subdivisions.iter().map(|code| coded(code)).collect()),
            ));
        }
        if let Some((latitude, longitude)) = self.location {
            all.push((
                "location",
                Value::Map(vec![
                    ("accuracy_radius", Value::U16(10)),
                    ("latitude", Value::Double(latitude)),
                    ("longitude", Value::Double(longitude)),
                ]),
            ));
        }
        Value::Map(all)
    }
}

/// The record of an autonomous system in ASN databases.
pub fn asn_record(number: u32) -> Value {
    Value::Map(vec![
        ("autonomous_system_number", Value::U32(number)),
        ("autonomous_system_organization", Value::Text(format!("System {number}"))),
    ])
}

/// An IPv6 database of this type and build time. A network within another one takes its place there. As in the real ones, IPv4 is at
/// ::/96, and found at ::ffff:0:0/96, 2001::/32 and 2002::/16 too.
///
/// # Panics
/// If a network has an alias' addresses, or what is told is too long for a database of tests.
pub fn mmdb(kind: &str, built_s: u64, networks: &[(Prefix, Value)]) -> Vec<u8> {
    let mut tree = Tree { nodes: vec![[Target::Nothing; 2]] };
    let mut data = Vec::new();
    let mut networks: Vec<_> = networks.iter().collect();
    networks.sort_by_key(|(prefix, _)| tree_place(*prefix).1);
    // There has to be a tree of IPv4's before something else can refer to it.
    let v4 = tree.node_at(0, 96);
    for (first, length) in [(0xffff_u128 << 32, 96), (0x2001 << 112, 32), (0x2002 << 112, 16)] {
        tree.put(first, length, Target::Node(v4));
    }
    for (prefix, value) in networks {
        let (first, length) = tree_place(*prefix);
        tree.put(first, length, Target::Data(data.len()));
        encode(value, &mut data);
    }
    tree.write(kind, built_s, &data)
}

/// First address and length of a network in the tree.
fn tree_place(prefix: Prefix) -> (u128, u8) {
    match prefix.address() {
        IpAddr::V4(first) => (first.to_bits().into(), prefix.length() + 96),
        IpAddr::V6(first) => (first.to_bits(), prefix.length()),
    }
}

struct Tree {
    nodes: Vec<[Target; 2]>,
}

#[derive(Clone, Copy)]
enum Target {
    Nothing,
    Node(usize),
    /// At this place of the data.
    Data(usize),
}

impl Tree {
    /// The node of a network; what a larger network says is said of both its halves.
    fn node_at(&mut self, first: u128, length: u8) -> usize {
        let mut node = 0;
        for bit in 0..length {
            let side = usize::from(first >> (127 - bit) & 1 == 1);
            node = match self.nodes[node][side] {
                Target::Node(next) => next,
                said => {
                    self.nodes.push([said; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = Target::Node(next);
                    next
                }
            };
        }
        node
    }

    fn put(&mut self, first: u128, length: u8, target: Target) {
        let node = self.node_at(first, length - 1);
        self.nodes[node][usize::from(first >> (128 - length) & 1 == 1)] = target;
    }

    fn write(&self, kind: &str, built_s: u64, data: &[u8]) -> Vec<u8> {
        let count = self.nodes.len();
        let number = |target: Target| match target {
            Target::Nothing => count,
            Target::Node(node) => node,
            Target::Data(place) => count + 16 + place,
        };
        let mut file = Vec::new();
        for sides in &self.nodes {
            let [left, right] = sides.map(|target| u32::try_from(number(target)).expect("a small database"));
            assert!(left >> RECORD_BITS == 0 && right >> RECORD_BITS == 0, "a small database");
            file.extend_from_slice(&left.to_be_bytes()[1..]);
            file.push((left >> 24 << 4 | right >> 24) as u8);
            file.extend_from_slice(&right.to_be_bytes()[1..]);
        }
        file.extend_from_slice(&[0; 16]);
        file.extend_from_slice(data);
        file.extend_from_slice(MARKER);
        let text = |text: &str| Value::Text(text.into());
        let metadata = Value::Map(vec![
            ("binary_format_major_version", Value::U16(2)),
            ("binary_format_minor_version", Value::U16(0)),
            ("build_epoch", Value::U64(built_s)),
            ("database_type", text(kind)),
            ("description", Value::Map(vec![("en", text("made by a test"))])),
            ("ip_version", Value::U16(6)),
            ("languages", Value::Array(vec![text("en")])),
            ("node_count", Value::U32(u32::try_from(count).expect("a small database"))),
            ("record_size", Value::U16(RECORD_BITS)),
        ]);
        encode(&metadata, &mut file);
        file
    }
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Map(entries) => {
            control(7, entries.len(), out);
            for (key, value) in entries {
                control(2, key.len(), out);
                out.extend_from_slice(key.as_bytes());
                encode(value, out);
            }
        }
        Value::Array(values) => {
            control(11, values.len(), out);
            values.iter().for_each(|value| encode(value, out));
        }
        Value::Text(text) => {
            control(2, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::U16(number) => {
            control(5, 2, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::U32(number) => {
            control(6, 4, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::U64(number) => {
            control(9, 8, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Double(number) => {
            control(3, 8, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// The octets before a value: its type and its size.
fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (short, rest) = match size {
        0..29 => (size as u8, None),
        29..285 => (29, Some((size - 29) as u8)),
        _ => panic!("{size} is too long for a database of tests"),
    };
    // Types from 8 on are in an octet of their own, which comes second.
    match kind {
        0..8 => out.push(kind << 5 | short),
        _ => out.extend_from_slice(&[short, kind - 7]),
    }
    out.extend(rest);
}
