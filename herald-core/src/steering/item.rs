//! The pieces of steering, as they are kept.
//!
//! Their encoding is persistent: field numbers are never used again for something else; what is added is optional.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use domain::base::iana::Rtype;
use minicbor::{Decode, Encode};

use super::{OVERLAY, POOL, SETTINGS, VIEW, answered_type};
use crate::rrset::rtype_number;
use crate::{MonitorId, Rdatas, Rrset};

/// First octet of RDATA that holds an item.
const VERSION: u8 = 1;

/// One RRset of steering, read.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Of a zone.
    Settings(Settings),
    /// A pool.
    Pool(Pool),
    /// A view.
    View(View),
    /// What views have at a name, ascending by view and type.
    Overlays(Vec<Overlay>),
    /// A policy for answers of this type.
    Policy(Rtype, Policy),
}

/// Why an RRset isn't steering that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Its type holds no steering.
    #[error("{0} holds no steering")]
    Type(Rtype),
    /// Not one RDATA where one is to be.
    #[error("one record is expected, not {0}")]
    Count(usize),
    /// Written by a newer version.
    #[error("version {0} of its form isn't known")]
    Version(u8),
    /// Not what this version writes.
    #[error("it can't be read: {0}")]
    Malformed(String),
}

impl Item {
    /// Reads what an RRset of this type holds.
    ///
    /// # Errors
    /// [`ItemError`] if it is no steering of a known version.
    pub fn read(rtype: Rtype, rdatas: &Rdatas) -> Result<Item, ItemError> {
        if rtype == OVERLAY {
            return rdatas.iter().map(read_rdata).collect::<Result<_, _>>().map(Item::Overlays);
        }
        let mut all = rdatas.iter();
        let (Some(rdata), None) = (all.next(), all.next()) else {
            return Err(ItemError::Count(rdatas.len()));
        };
        match rtype {
            SETTINGS => read_rdata(rdata).map(Item::Settings),
            POOL => read_rdata(rdata).map(Item::Pool),
            VIEW => read_rdata(rdata).map(Item::View),
            _ => match answered_type(rtype) {
                Some(answered) => read_rdata(rdata).map(|policy| Item::Policy(answered, policy)),
                None => Err(ItemError::Type(rtype)),
            },
        }
    }

    /// The RRset that holds it. Its TTL is zero and means nothing.
    ///
    /// # Errors
    /// How many octets it has, if these are more than an RDATA can hold (65,535).
    pub fn write(&self) -> Result<Rrset, usize> {
        let rdatas = match self {
            Item::Settings(settings) => vec![write_rdata(settings)],
            Item::Pool(pool) => vec![write_rdata(pool)],
            Item::View(view) => vec![write_rdata(view)],
            Item::Overlays(overlays) => overlays.iter().map(write_rdata).collect(),
            Item::Policy(_, policy) => vec![write_rdata(policy)],
        };
        match rdatas.iter().map(Vec::len).find(|bytes| *bytes > usize::from(u16::MAX)) {
            Some(bytes) => Err(bytes),
            None => Ok(Rrset { ttl: 0, rdatas: rdatas.iter().map(Vec::as_slice).collect() }),
        }
    }
}

fn read_rdata<'a, T: Decode<'a, ()>>(rdata: &'a [u8]) -> Result<T, ItemError> {
    match rdata.split_first() {
        Some((&VERSION, cbor)) => {
            minicbor::decode(cbor).map_err(|error| ItemError::Malformed(error.to_string()))
        }
        Some((version, _)) => Err(ItemError::Version(*version)),
        None => Err(ItemError::Malformed("it is empty".into())),
    }
}

fn write_rdata<T: Encode<()>>(item: &T) -> Vec<u8> {
    let mut rdata = vec![VERSION];
    minicbor::encode(item, &mut rdata).expect("writing to a Vec can't fail");
    rdata
}

/// Settings of a zone that bear on answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Settings {
    /// Whether the client subnet that a resolver tells of (RFC 7871) is used, and echoed with the scope of the answer.
    #[n(0)]
    pub ecs: bool,
    /// Whether the PoPs of each region answer for ALIAS records with what their targets resolve to there.
    #[cbor(n(1), skip_if = "is_default")]
    pub alias_by_region: bool,
}

/// Endpoints, and how they are answered with.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Pool {
    /// TTL of its answers, in seconds.
    #[n(0)]
    pub ttl: u32,
    /// How many endpoints an answer has.
    #[n(1)]
    pub answer: AnswerMode,
    /// Whether a client network gets the same draw each time.
    #[n(2)]
    pub sticky: Option<Sticky>,
    /// With fewer endpoints that can answer, the pool is passed over.
    #[n(3)]
    pub min_healthy: u16,
    /// The endpoints.
    #[n(4)]
    pub endpoints: Vec<Endpoint>,
}

/// How many endpoints of a pool an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AnswerMode {
    /// All; weights mean nothing.
    #[n(0)]
    All,
    /// One, drawn by weight.
    #[n(1)]
    One,
    /// Up to so many, drawn by weight without repetition.
    #[n(2)]
    UpTo(#[n(0)] u8),
}

/// Draws depend on the client's network alone: it gets the same answer as long as the pool is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Sticky {
    /// Length of the IPv4 prefix that counts as one client, in bits.
    #[n(0)]
    pub ipv4_prefix: u8,
    /// Length of the IPv6 prefix that counts as one client, in bits.
    #[n(1)]
    pub ipv6_prefix: u8,
}

/// What a pool answers with.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Endpoint {
    /// Unique in its pool.
    #[n(0)]
    pub name: String,
    /// Its RDATA by type, each type once, ascending.
    #[n(1)]
    pub records: Vec<EndpointRecords>,
    /// Its share of the draws; zero for none.
    #[n(2)]
    pub weight: u32,
    /// Whether it is used.
    #[n(3)]
    pub state: EndpointState,
    /// Where it is, for rules that choose the nearest.
    #[n(4)]
    pub location: Option<Location>,
    /// From -99 to 99, in percent: how much smaller (positive) or larger its distance is taken, so that it attracts clients from
    /// further away or sends them off.
    #[n(5)]
    pub bias: i8,
    /// What says whether it is up; none: it always counts as such.
    #[n(6)]
    pub monitor: Option<MonitorId>,
}

/// RDATA of one type.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EndpointRecords {
    /// The type.
    #[cbor(n(0), with = "rtype_number")]
    pub rtype: Rtype,
    /// In wire format.
    #[n(1)]
    pub rdatas: Rdatas,
}

/// Whether an endpoint is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum EndpointState {
    /// It answers.
    #[n(0)]
    Enabled,
    /// It answers only where its pool has nothing else.
    #[n(1)]
    Drained,
    /// It never answers.
    #[n(2)]
    Disabled,
}

/// A place on earth (WGS 84).
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct Location {
    /// Degrees north, -90 to 90.
    #[n(0)]
    pub latitude: f32,
    /// Degrees east, -180 to 180.
    #[n(1)]
    pub longitude: f32,
}

/// What decides the answers at one name and type: the first rule that matches.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Policy {
    /// In order.
    #[n(0)]
    pub rules: Vec<Rule>,
    /// What is answered when none of the rule's pools has as many endpoints up as it is to have.
    #[cbor(n(1), skip_if = "is_default")]
    pub when_all_down: WhenAllDown,
    /// Whose word on endpoints counts at a PoP that doesn't hear from the control plane.
    #[cbor(n(2), skip_if = "is_default")]
    pub when_isolated: WhenIsolated,
}

impl Policy {
    /// A policy of these rules that is like any other in all else.
    pub fn of_rules(rules: Vec<Rule>) -> Policy {
        Policy { rules, when_all_down: WhenAllDown::default(), when_isolated: WhenIsolated::default() }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What is answered when none of a rule's pools has as many endpoints up as it is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum WhenAllDown {
    /// The first pool answers that would if all were up, as if all were.
    #[default]
    #[n(0)]
    ServeAll,
    /// Those that are up, or else those that went down last.
    #[n(1)]
    ServeLast,
    /// Nothing.
    #[n(2)]
    NoData,
}

/// Whose word on endpoints counts at a PoP that doesn't hear from the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum WhenIsolated {
    /// The control plane's last one.
    #[default]
    #[n(0)]
    Hold,
    /// The PoP's own probes decide.
    #[n(1)]
    Local,
}

/// Whom it is for, and what they get.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Rule {
    /// What the tenant calls it.
    #[n(0)]
    pub name: Option<String>,
    /// Whom it is for; everybody if nothing is asked.
    #[n(1)]
    pub when: When,
    /// Names of pools; the first one that can answer does.
    #[n(2)]
    pub pools: Vec<String>,
    /// Whether only the endpoint nearest to the client is a candidate. A client whose place isn't known goes on to the next rule.
    #[n(3)]
    pub nearest: bool,
}

/// What is asked of a client. Of each kind that asks anything one alternative must be met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct When {
    /// Continents by their codes: `AF`, `AN`, `AS`, `EU`, `NA`, `OC`, `SA`.
    #[n(0)]
    pub continents: Vec<[u8; 2]>,
    /// Countries (ISO 3166-1 alpha-2, capital letters).
    #[n(1)]
    pub countries: Vec<[u8; 2]>,
    /// Subdivisions.
    #[n(2)]
    pub subdivisions: Vec<Subdivision>,
    /// Cities.
    #[n(3)]
    pub cities: Vec<City>,
    /// Numbers of autonomous systems.
    #[n(4)]
    pub asns: Vec<u32>,
    /// The client's address.
    #[n(5)]
    pub prefixes: Vec<Prefix>,
    /// Names of the PoPs that answer.
    #[n(6)]
    pub pops: Vec<String>,
    /// Names of the views that the source of the query is in.
    #[n(7)]
    pub views: Vec<String>,
}

impl When {
    /// Whether everybody meets it.
    pub fn is_any(&self) -> bool {
        *self == When::default()
    }
}

/// A subdivision (ISO 3166-2): `US-CA`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Subdivision {
    /// Country.
    #[n(0)]
    pub country: [u8; 2],
    /// One to three capital letters or digits, zeros after them.
    #[n(1)]
    pub code: [u8; 3],
}

impl Subdivision {
    /// A code such as `US-CA`, in any case; none if it can't be one.
    pub fn parse(text: &str) -> Option<Subdivision> {
        let (country, code) = text.split_once('-')?;
        let is_code =
            (1..=3).contains(&code.len()) && code.bytes().all(|octet| octet.is_ascii_alphanumeric());
        let mut padded = [0; 3];
        padded.get_mut(..code.len())?.copy_from_slice(code.to_ascii_uppercase().as_bytes());
        is_code.then_some(Subdivision { country: letters(country)?, code: padded })
    }
}

impl fmt::Display for Subdivision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.split(|octet| *octet == 0).next().unwrap_or_default();
        write!(f, "{}-{}", self.country.escape_ascii(), code.escape_ascii())
    }
}

impl fmt::Debug for Subdivision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Two letters as capitals: a country or a continent. None if it isn't two letters.
pub fn letters(text: &str) -> Option<[u8; 2]> {
    let two: [u8; 2] = text.as_bytes().try_into().ok()?;
    two.iter().all(u8::is_ascii_alphabetic).then(|| two.map(|octet| octet.to_ascii_uppercase()))
}

/// A city.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum City {
    /// By its number at GeoNames.
    #[n(0)]
    GeoNames(#[n(0)] u32),
    /// Every city that has this English name in this country, whatever the case of its letters.
    #[n(1)]
    Named {
        /// Its name.
        #[n(0)]
        name: String,
        /// Country (ISO 3166-1 alpha-2).
        #[n(1)]
        country: [u8; 2],
    },
}

/// A network: its address, whose bits after the prefix are zero, and the prefix's length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The network of this length that an address is in; none if it is longer than the address.
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        let address = match address {
            IpAddr::V4(v4) => {
                let shift = 32u8.checked_sub(length)?;
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(shift.into()).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                let shift = 128u8.checked_sub(length)?;
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(shift.into()).unwrap_or(0)).into())
            }
        };
        Some(Prefix { address, length })
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its length in bits.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether an address of the same family is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Prefix::new(address, self.length) == Some(*self)
    }

    /// Whether this address, and nothing else, is in it.
    pub fn is_only(&self, address: IpAddr) -> bool {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        self.length == bits && self.address == address
    }

    /// Whether all of another prefix is in it.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    /// The prefixes that hold every address.
    pub fn everybody() -> [Prefix; 2] {
        [IpAddr::V4([0; 4].into()), IpAddr::V6([0; 16].into())].map(|address| Prefix { address, length: 0 })
    }
}

/// What is wrong with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no prefix: write an address, a slash and a length whose other bits are zero, as in 192.0.2.0/24"
)]
pub struct PrefixError(String);

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `192.0.2.0/24`, or an address alone for its own network. Bits after the prefix must be zero, as they are a slip otherwise.
    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let error = || PrefixError(text.into());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let length = length.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
        Prefix::new(address, length).filter(|prefix| prefix.address == address).ok_or_else(error)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<C> Encode<C> for Prefix {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self.address {
            IpAddr::V4(v4) => e.array(2)?.bytes(&v4.octets())?,
            IpAddr::V6(v6) => e.array(2)?.bytes(&v6.octets())?,
        };
        e.u8(self.length)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Prefix {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Prefix, minicbor::decode::Error> {
        let error = minicbor::decode::Error::message;
        d.array()?;
        let octets = d.bytes()?;
        let address = match (<[u8; 4]>::try_from(octets), <[u8; 16]>::try_from(octets)) {
            (Ok(v4), _) => IpAddr::from(v4),
            (_, Ok(v6)) => IpAddr::from(v6),
            _ => return Err(error("an address has 4 or 16 octets")),
        };
        Prefix::new(address, d.u8()?).ok_or_else(|| error("a prefix is longer than its address"))
    }
}

/// Who is inside: whose query comes from one of the prefixes, if any are named, to one of the PoPs, if any are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct View {
    /// Sources of queries: never what a resolver says of its client.
    #[n(0)]
    pub prefixes: Vec<Prefix>,
    /// Names of the PoPs that answer.
    #[n(1)]
    pub pops: Vec<String>,
}

/// What a view has at a name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Overlay {
    /// The view.
    #[n(0)]
    pub view: String,
    /// The type; ANY only to hide the whole name.
    #[cbor(n(1), with = "rtype_number")]
    pub rtype: Rtype,
    /// The RRset that insiders get; none hides what everybody else gets.
    #[n(2)]
    pub rrset: Option<Rrset>,
}

/// The names of pools and views: 1 to 63 of `a-z 0-9 - _`, as they are labels.
pub fn is_label(name: &str) -> bool {
    let is_fine =
        |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || matches!(octet, b'-' | b'_');
    (1..=63).contains(&name.len()) && name.bytes().all(is_fine)
}
