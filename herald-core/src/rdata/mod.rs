//! RDATA between presentation and wire format, and what a type says about its records.

use domain::base::iana::Rtype;

use crate::name::Name;

/// Why a text or some octets are no RDATA of a type; says which field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RdataError(String);

/// The type of a mnemonic or of `TYPEnnn` (RFC 3597 §5), in any case.
pub fn parse_rtype(text: &str) -> Option<Rtype> {
    text.parse().ok()
}

/// The mnemonic of a type, or `TYPEnnn` (RFC 3597 §5).
pub fn format_rtype(rtype: Rtype) -> String {
    rtype.to_string()
}

/// Whether the type is only for questions and messages and never in a zone (RFC 6895 §3.1).
pub fn is_meta_type(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::OPT | Rtype::NXNAME) || matches!(rtype.to_int(), 0 | 249..=255)
}

/// Whether the records of the type are made by whoever signs the zone, and by no user (RFC 4034, RFC 5155).
pub fn is_system_type(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3 | Rtype::NSEC3PARAM)
}

/// Reads the presentation format of RDATA into uncompressed wire format; names in it are fully qualified,
/// with or without the trailing dot.
pub fn parse_rdata(rtype: Rtype, text: &str) -> Result<Vec<u8>, RdataError> {
    let _ = (rtype, text);
    todo!()
}

/// Writes the canonical presentation format of RDATA: that of RFC 3597 where the type is unknown or the
/// octets are not of the type.
pub fn format_rdata(rtype: Rtype, rdata: &[u8]) -> String {
    let _ = (rtype, rdata);
    todo!()
}

/// Checks that octets are well-formed RDATA of the type, without name compression.
pub fn check_rdata(rtype: Rtype, rdata: &[u8]) -> Result<(), RdataError> {
    let _ = (rtype, rdata);
    todo!()
}

/// The domain names that RDATA holds, in order: the target of NS, MX, SRV, CNAME and so on.
pub fn rdata_names(rtype: Rtype, rdata: &[u8]) -> Vec<Name> {
    let _ = (rtype, rdata);
    todo!()
}
