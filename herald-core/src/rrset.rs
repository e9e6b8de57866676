//! RRsets: the unit in which records are read, changed and compared (RFC 2181 §5).

use std::fmt;
use std::sync::Arc;

use domain::base::iana::Rtype;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use xxhash_rust::xxh3::xxh3_128;

use crate::name::Name;
use crate::rdata::format_rtype;

/// The highest TTL there is: the top bit is to be zero (RFC 2181 §8).
pub const MAX_TTL_S: u32 = 0x7fff_ffff;

/// The octets of a record in a message beside its owner and RDATA: type, class, TTL and length (RFC 1035 §3.2.1).
const RECORD_FIXED_BYTES: usize = 10;

/// What an RRset is known by inside a zone: its owner and its type, ordered in this way.
#[derive(Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct RrKey {
    /// The name that has the records.
    #[n(0)]
    pub owner: Name,
    /// The type of the records.
    #[cbor(n(1), with = "rtype_number")]
    pub rtype: Rtype,
}

impl RrKey {
    /// A key of its two parts.
    pub fn new(owner: Name, rtype: Rtype) -> RrKey {
        RrKey { owner, rtype }
    }
}

impl Ord for RrKey {
    fn cmp(&self, other: &RrKey) -> std::cmp::Ordering {
        self.owner.cmp(&other.owner).then_with(|| self.rtype.to_int().cmp(&other.rtype.to_int()))
    }
}

impl PartialOrd for RrKey {
    fn partial_cmp(&self, other: &RrKey) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RrKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.owner, format_rtype(self.rtype))
    }
}

impl fmt::Debug for RrKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record type as its number, for `#[cbor(with)]`.
pub mod rtype_number {
    use domain::base::iana::Rtype;
    use minicbor::encode::{Error, Write};
    use minicbor::{Decoder, Encoder};

    /// Writes the number of the type.
    pub fn encode<C, W: Write>(
        rtype: &Rtype,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), Error<W::Error>> {
        encoder.u16(rtype.to_int())?.ok()
    }

    /// Reads the number of the type.
    pub fn decode<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Rtype, minicbor::decode::Error> {
        decoder.u16().map(Rtype::from_int)
    }
}

/// The RDATA of an RRset's records, in canonical order (RFC 4034 §6.3) and each once (RFC 2181 §5).
///
/// All in one shared allocation: a length of two octets, big endian, and the octets of each in turn.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Rdatas(Arc<[u8]>);

impl Rdatas {
    /// One RDATA alone: what most RRsets have.
    ///
    /// # Panics
    /// If it has more than 65,535 octets, which no checked RDATA has.
    pub fn single(rdata: &[u8]) -> Rdatas {
        let mut packed = Vec::with_capacity(2 + rdata.len());
        push_packed(&mut packed, rdata);
        Rdatas(packed.into())
    }

    /// The RDATAs in order.
    pub fn iter(&self) -> RdataIter<'_> {
        RdataIter { packed: &self.0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this RDATA is among them.
    pub fn contains(&self, rdata: &[u8]) -> bool {
        self.iter().any(|one| one == rdata)
    }

    /// Whether `packed` is what [`Rdatas`] holds: whole entries, ascending, each once.
    fn is_canonical(packed: &[u8]) -> bool {
        let mut entries = RdataIter { packed };
        let mut previous = None;
        for rdata in entries.by_ref() {
            if previous >= Some(rdata) {
                return false;
            }
            previous = Some(rdata);
        }
        entries.packed.is_empty()
    }
}

fn push_packed(packed: &mut Vec<u8>, rdata: &[u8]) {
    let rdata_bytes = u16::try_from(rdata.len()).expect("RDATA has at most 65,535 octets");
    packed.extend_from_slice(&rdata_bytes.to_be_bytes());
    packed.extend_from_slice(rdata);
}

impl<T: AsRef<[u8]>> FromIterator<T> for Rdatas {
    /// # Panics
    /// If one has more than 65,535 octets, which no checked RDATA has.
    fn from_iter<I: IntoIterator<Item = T>>(rdatas: I) -> Rdatas {
        let rdatas: Vec<T> = rdatas.into_iter().collect();
        let mut sorted: Vec<&[u8]> = rdatas.iter().map(AsRef::as_ref).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut packed = Vec::with_capacity(sorted.iter().map(|rdata| 2 + rdata.len()).sum());
        for rdata in sorted {
            push_packed(&mut packed, rdata);
        }
        Rdatas(packed.into())
    }
}

impl<'a> IntoIterator for &'a Rdatas {
    type Item = &'a [u8];
    type IntoIter = RdataIter<'a>;

    fn into_iter(self) -> RdataIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Rdatas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<C> Encode<C> for Rdatas {
    fn encode<W: encode::Write>(
        &self,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        encoder.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Rdatas {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Rdatas, decode::Error> {
        let position = decoder.position();
        let packed = decoder.bytes()?;
        if !Rdatas::is_canonical(packed) {
            return Err(decode::Error::message("the RDATAs are cut short or out of order").at(position));
        }
        Ok(Rdatas(packed.into()))
    }
}

/// The RDATAs of an RRset, in order.
#[derive(Clone, Debug)]
pub struct RdataIter<'a> {
    packed: &'a [u8],
}

impl<'a> Iterator for RdataIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.packed.split_first_chunk()?;
        let (rdata, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.packed = rest;
        Some(rdata)
    }
}

/// The records of one owner and type, which share a TTL (RFC 2181 §5.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Rrset {
    /// How long a resolver may keep the records, in seconds; at most [`MAX_TTL_S`].
    #[n(0)]
    pub ttl: u32,
    /// The records.
    #[n(1)]
    pub rdatas: Rdatas,
}

impl Rrset {
    /// The digest of the RRset and its key: XXH3 (128 bits, no seed) over the owner in wire format, then
    /// the type (16 bits), the TTL (32 bits) and for each RDATA in order its length (16 bits) and octets,
    /// numbers big endian.
    ///
    /// It is kept on disk and compared between machines: this definition can't change any more.
    pub fn digest(&self, key: &RrKey) -> u128 {
        let owner = key.owner.as_wire();
        let mut input = Vec::with_capacity(owner.len() + 6 + self.rdatas.0.len());
        input.extend_from_slice(owner);
        input.extend_from_slice(&key.rtype.to_int().to_be_bytes());
        input.extend_from_slice(&self.ttl.to_be_bytes());
        input.extend_from_slice(&self.rdatas.0);
        xxh3_128(&input)
    }

    /// The octets of the RRset in a message without name compression (RFC 1035 §4.1.3).
    pub fn wire_bytes(&self, owner: &Name) -> usize {
        self.rdatas.iter().map(|rdata| owner.as_wire().len() + RECORD_FIXED_BYTES + rdata.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(owner: &str, rtype: Rtype) -> RrKey {
        RrKey::new(Name::parse(owner).unwrap(), rtype)
    }

    #[test]
    fn rdatas_are_sorted_and_each_once() {
        let rdatas: Rdatas = [&b"b"[..], b"", b"ab", b"a", b"b"].into_iter().collect();
        assert_eq!(rdatas.iter().collect::<Vec<_>>(), [&b""[..], b"a", b"ab", b"b"]);
        assert_eq!((rdatas.len(), rdatas.is_empty()), (4, false));
        assert!(rdatas.contains(b"ab") && !rdatas.contains(b"c"));
        assert_eq!(Rdatas::single(b"a"), [b"a"].into_iter().collect());
        assert!(Rdatas::from_iter::<[&[u8]; 0]>([]).is_empty());
    }

    #[test]
    fn keys_are_ordered_by_owner_and_number_of_the_type() {
        let mut keys = [
            key("b.example", Rtype::A),
            key("a.example", Rtype::AAAA),
            key("example", Rtype::CAA),
            key("a.example", Rtype::TXT),
            key("example", Rtype::SOA),
        ];
        keys.sort();
        let shown: Vec<String> = keys.iter().map(RrKey::to_string).collect();
        assert_eq!(
            shown,
            ["example. SOA", "example. CAA", "a.example. TXT", "a.example. AAAA", "b.example. A"]
        );
    }

    /// These numbers are on disks: a change of them is a change of the format.
    #[test]
    fn digest_and_encoding_stay_what_they_are() {
        let key = key("www.example.com", Rtype::A);
        let rrset = Rrset { ttl: 3600, rdatas: [[192, 0, 2, 1], [192, 0, 2, 2]].into_iter().collect() };
        assert_eq!(rrset.digest(&key), 0x1e21_2faf_8464_baa9_47be_f42e_04a1_00d8);
        assert_eq!(rrset.wire_bytes(&key.owner), 2 * (17 + 10 + 4));
        let hex = |octets: Vec<u8>| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        assert_eq!(hex(minicbor::to_vec(&key).unwrap()), "825103777777076578616d706c6503636f6d0001");
        assert_eq!(hex(minicbor::to_vec(&rrset).unwrap()), "82190e104c0004c00002010004c0000202");
    }

    #[test]
    fn bad_encodings() {
        // One octet where two are announced; descending; twice the same.
        for packed in [&b"\0\x02a"[..], b"\0\x01b\0\x01a", b"\0\x01a\0\x01a", b"\0"] {
            let cbor = minicbor::to_vec(minicbor::bytes::ByteVec::from(packed.to_vec())).unwrap();
            assert!(minicbor::decode::<Rdatas>(&cbor).is_err(), "{packed:?}");
        }
    }

    proptest! {
        #[test]
        fn cbor_and_back(
            ttl in 0..=MAX_TTL_S,
            rdatas in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6),
        ) {
            let rrset = Rrset { ttl, rdatas: rdatas.iter().collect() };
            let cbor = minicbor::to_vec(&rrset).unwrap();
            prop_assert_eq!(minicbor::decode::<Rrset>(&cbor).unwrap(), rrset);
        }
    }
}
