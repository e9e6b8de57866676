//! RDATA in wire format, taken apart into its fields.

use domain::base::iana::Rtype;

use super::schema::{Field, Kind, fields};
use super::{MAX_RDATA_BYTES, RdataError, is_meta_type, location, svcb};
use crate::name::{Name, wire_name_bytes};

/// Shows every field of well-formed RDATA to `visit`, in order; together they are all of its octets.
///
/// The fields before a malformed one are shown before the error comes. A type without a table is not
/// taken apart.
pub(super) fn walk<'r>(
    rtype: Rtype,
    rdata: &'r [u8],
    mut visit: impl FnMut(&'static Field, &'r [u8]),
) -> Result<(), RdataError> {
    if is_meta_type(rtype) {
        return Err(RdataError::new(rtype, "", "no record of this type can be in a zone"));
    }
    if rdata.len() > MAX_RDATA_BYTES {
        return Err(RdataError::new(rtype, "", "longer than 65535 octets"));
    }
    let Some(fields) = fields(rtype) else { return Ok(()) };
    let mut rest = rdata;
    for field in fields {
        let field_bytes = measure(field.kind, rest, rdata)
            .map_err(|problem| RdataError::new(rtype, field.name, problem))?;
        let (octets, after) = rest.split_at(field_bytes);
        visit(field, octets);
        rest = after;
    }
    if !rest.is_empty() {
        let problem = format!("{} octets too many", rest.len());
        return Err(RdataError::new(rtype, "", problem));
    }
    check_together(rtype, rdata)
}

/// The name that the octets of a field are, if they are one.
pub(super) fn name_in(field: &Field, octets: &[u8], rdata: &[u8]) -> Option<Name> {
    match field.kind {
        Kind::Name => Name::from_wire(octets).ok(),
        Kind::IpsecGateway if rdata.get(1) == Some(&3) => Name::from_wire(octets).ok(),
        _ => None,
    }
}

/// How many octets the field takes that `rest` starts with; `rdata` is the whole.
fn measure(kind: Kind, rest: &[u8], rdata: &[u8]) -> Result<usize, String> {
    let fixed = |bytes: usize| {
        if rest.len() < bytes { Err("the octets end before it does".to_owned()) } else { Ok(bytes) }
    };
    let prefixed = || match rest {
        [bytes, octets @ ..] if octets.len() >= usize::from(*bytes) => Ok(1 + usize::from(*bytes)),
        _ => fixed(usize::MAX),
    };
    let remaining = |may_be_empty: bool| {
        if rest.is_empty() && !may_be_empty { Err("must not be empty".to_owned()) } else { Ok(rest.len()) }
    };
    match kind {
        Kind::U8 | Kind::Algorithm | Kind::DsyncScheme => fixed(1),
        Kind::U16 | Kind::RecordType | Kind::CertType => fixed(2),
        Kind::U32 | Kind::Seconds | Kind::Timestamp | Kind::Ipv4 => fixed(4),
        Kind::Ipv6 => fixed(16),
        Kind::Id64 => fixed(8),
        Kind::Eui { bytes } => fixed(bytes),
        Kind::Name => {
            wire_name_bytes(rest).ok_or_else(|| "the octets are not an uncompressed domain name".to_owned())
        }
        Kind::CharString | Kind::Salt => prefixed(),
        Kind::Base32 => match prefixed()? {
            1 => Err("must not be empty".to_owned()),
            bytes => Ok(bytes),
        },
        Kind::CharStrings => {
            remaining(false)?;
            let mut offset = 0;
            while offset < rest.len() {
                offset += 1 + usize::from(rest[offset]);
            }
            if offset == rest.len() { Ok(offset) } else { fixed(usize::MAX) }
        }
        Kind::Tag => {
            let bytes = prefixed()?;
            if bytes > 1 && rest[1..bytes].iter().all(u8::is_ascii_alphanumeric) {
                Ok(bytes)
            } else {
                Err("expected letters and digits".to_owned())
            }
        }
        Kind::Octets { may_be_empty } | Kind::Base64 { may_be_empty } => remaining(may_be_empty),
        Kind::Hex => remaining(false),
        Kind::TypeBitmap => check_type_bitmap(rest),
        Kind::IpsecGateway => match rdata.get(1) {
            Some(0) => Ok(0),
            Some(1) => fixed(4),
            Some(2) => fixed(16),
            Some(3) => measure(Kind::Name, rest, rdata),
            _ => Err("the gateway type must be 0, 1, 2 or 3".to_owned()),
        },
        Kind::Location => {
            fixed(location::LOCATION_BYTES)?;
            location::check(rest)?;
            Ok(location::LOCATION_BYTES)
        }
        Kind::SvcParams => {
            svcb::check(rest)?;
            Ok(rest.len())
        }
    }
}

/// Window blocks ascend, and none has zero octets at its end (RFC 4034 §4.1.2).
fn check_type_bitmap(bitmap: &[u8]) -> Result<usize, String> {
    let mut rest = bitmap;
    let mut previous = None;
    while let [window, bytes, after @ ..] = rest {
        let bytes = usize::from(*bytes);
        if !(1..=32).contains(&bytes) || after.len() < bytes || after[bytes - 1] == 0 {
            return Err("the type bit map is malformed".to_owned());
        }
        if previous >= Some(window) {
            return Err("the windows of the type bit map are out of order".to_owned());
        }
        previous = Some(window);
        rest = &after[bytes..];
    }
    if rest.is_empty() { Ok(bitmap.len()) } else { Err("the type bit map is malformed".to_owned()) }
}

/// Rules over more than one field, of RDATA whose fields are well-formed.
fn check_together(rtype: Rtype, rdata: &[u8]) -> Result<(), RdataError> {
    match rtype {
        Rtype::DS | Rtype::CDS | Rtype::DLV | Rtype::TA => {
            // RFC 4034 §5.1.4, RFC 4509 §2.1, RFC 6605 §2
            let expected_bytes = match rdata[3] {
                1 => Some(20),
                2 => Some(32),
                4 => Some(48),
                _ => None,
            };
            check_digest(rtype, "digest", &rdata[4..], expected_bytes)
        }
        Rtype::SSHFP => {
            // RFC 4255 §3.1.2, RFC 6594 §2.2
            let expected_bytes = match rdata[1] {
                1 => Some(20),
                2 => Some(32),
                _ => None,
            };
            check_digest(rtype, "fingerprint", &rdata[2..], expected_bytes)
        }
        Rtype::TLSA | Rtype::SMIMEA => {
            // RFC 6698 §2.1.3
            let expected_bytes = match rdata[2] {
                1 => Some(32),
                2 => Some(64),
                _ => None,
            };
            check_digest(rtype, "certificate association data", &rdata[3..], expected_bytes)
        }
        Rtype::ZONEMD => {
            // RFC 8976 §2.2.4, §5.3
            let digest = &rdata[6..];
            match rdata[5] {
                1 => check_digest(rtype, "digest", digest, Some(48)),
                2 => check_digest(rtype, "digest", digest, Some(64)),
                _ if digest.len() < 12 => Err(RdataError::new(rtype, "digest", "shorter than 12 octets")),
                _ => Ok(()),
            }
        }
        Rtype::NAPTR => check_naptr(rdata),
        Rtype::IPSECKEY => {
            // RFC 4025 §2.4
            let gateway_bytes = measure(Kind::IpsecGateway, &rdata[3..], rdata).expect("a measured field");
            match (rdata[2], rdata.len() > 3 + gateway_bytes) {
                (0, true) => Err(RdataError::new(rtype, "public key", "algorithm 0 says there is none")),
                (1.., false) => Err(RdataError::new(rtype, "public key", "missing")),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn check_digest(
    rtype: Rtype,
    field: &str,
    digest: &[u8],
    expected_bytes: Option<usize>,
) -> Result<(), RdataError> {
    match expected_bytes {
        Some(expected) if expected != digest.len() => Err(RdataError::new(
            rtype,
            field,
            format!("expected {expected} octets for this digest, found {}", digest.len()),
        )),
        _ => Ok(()),
    }
}

/// Flags are letters and digits, and either the regexp or the replacement is used (RFC 3403 §4.1).
fn check_naptr(rdata: &[u8]) -> Result<(), RdataError> {
    let (flags, rest) = split_char_string(&rdata[4..]);
    let (_services, rest) = split_char_string(rest);
    let (regexp, replacement) = split_char_string(rest);
    if !flags.iter().all(u8::is_ascii_alphanumeric) {
        return Err(RdataError::new(Rtype::NAPTR, "flags", "expected letters and digits"));
    }
    if !regexp.is_empty() && replacement != [0] {
        return Err(RdataError::new(Rtype::NAPTR, "replacement", "must be \".\" when there is a regexp"));
    }
    Ok(())
}

/// The first of the character strings in octets that were measured before, and what follows it.
pub(super) fn split_char_string(octets: &[u8]) -> (&[u8], &[u8]) {
    octets[1..].split_at(usize::from(octets[0]))
}

/// The types in a well-formed type bit map.
pub(super) fn types_in_bitmap(bitmap: &[u8]) -> impl Iterator<Item = Rtype> {
    let mut rest = bitmap;
    std::iter::from_fn(move || {
        let [window, bytes, after @ ..] = rest else { return None };
        let (bits, after) = after.split_at(usize::from(*bytes));
        rest = after;
        Some((u16::from(*window) << 8, bits))
    })
    .flat_map(|(window, bits)| {
        (0..bits.len() * 8)
            .filter(|bit| bits[bit / 8] & (0x80 >> (bit % 8)) != 0)
            .map(move |bit| Rtype::from_int(window + bit as u16))
    })
}

/// Appends the type bit map of some types.
pub(super) fn write_type_bitmap(mut types: Vec<Rtype>, out: &mut Vec<u8>) {
    types.sort_unstable_by_key(|rtype| rtype.to_int());
    for window in types.chunk_by(|a, b| a.to_int() >> 8 == b.to_int() >> 8) {
        let mut bits = [0_u8; 32];
        let mut bytes = 0;
        for rtype in window {
            let bit = usize::from(rtype.to_int() & 0xff);
            bits[bit / 8] |= 0x80 >> (bit % 8);
            bytes = bit / 8 + 1;
        }
        out.push((window[0].to_int() >> 8) as u8);
        out.push(bytes as u8);
        out.extend_from_slice(&bits[..bytes]);
    }
}
