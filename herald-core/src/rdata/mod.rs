//! RDATA between presentation and wire format, and what a type says about its records.
//!
//! What a type's RDATA is made of stands in one table (`schema`); reading, checking and writing follow from
//! it, and so do the messages. The `domain` crate could read most types, but not LOC, URI, CERT, SMIMEA and
//! SVCB keys with a 9 or a z, and its errors name no field; the tests compare with it.
//!
//! Names in RDATA are kept in lower case, as Knot serves them, so that two records that differ in case only
//! are one.

mod lexer;
mod location;
mod read;
mod schema;
mod soa;
mod svcb;
mod wire;
mod write;

use domain::base::iana::Rtype;

use crate::alias::ALIAS;
use crate::name::Name;

pub use lexer::Token;
pub(crate) use lexer::{Entry, Lexer, tokens_of_rdata};
pub(crate) use read::{parse_period_s, read_rdata};
pub use soa::Soa;
pub use write::format_rdata_generic;

/// The most octets an RDATA may take (RFC 1035 §3.2.1).
pub const MAX_RDATA_BYTES: usize = 65_535;

/// Why a text or some octets are no RDATA of a type: which field it is, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RdataError {
    message: String,
    token: Option<usize>,
}

impl RdataError {
    fn new(rtype: Rtype, field: &str, problem: impl std::fmt::Display) -> RdataError {
        let rtype = format_rtype(rtype);
        let message = if field.is_empty() {
            format!("{rtype}: {problem}")
        } else {
            format!("{rtype} {field}: {problem}")
        };
        RdataError { message, token: None }
    }

    fn at_token(mut self, token: usize) -> RdataError {
        self.token.get_or_insert(token);
        self
    }

    /// Which of the tokens that were read is wrong, from 0, if it is one of them.
    pub fn token(&self) -> Option<usize> {
        self.token
    }
}

/// The type of a mnemonic or of `TYPEnnn` (RFC 3597 §5), in any case.
pub fn parse_rtype(text: &str) -> Option<Rtype> {
    let own = || ALIAS_MNEMONICS.iter().any(|own| text.eq_ignore_ascii_case(own)).then_some(ALIAS);
    Rtype::from_mnemonic(text.as_bytes())
        .or_else(own)
        .or_else(|| parse_prefixed(text, "TYPE").map(Rtype::from_int))
}

/// The number in `TYPE123`, `CLASS1` and the like.
pub(crate) fn parse_prefixed(text: &str, prefix: &str) -> Option<u16> {
    let (head, digits) = text.split_at_checked(prefix.len())?;
    let is_number = head.eq_ignore_ascii_case(prefix) && digits.bytes().all(|octet| octet.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// The mnemonic of a type, or `TYPEnnn` (RFC 3597 §5).
pub fn format_rtype(rtype: Rtype) -> String {
    if rtype == ALIAS { ALIAS_MNEMONICS[0].into() } else { rtype.to_string() }
}

/// What [`ALIAS`] is called: the first here, and in others' zone files the second, too.
const ALIAS_MNEMONICS: [&str; 2] = ["ALIAS", "ANAME"];

/// Whether the type is only for questions and messages and never in a zone: 0, OPT, and the range of
/// question and meta types with ANY, AXFR, IXFR, TSIG and TKEY (RFC 6895 §3.1).
pub fn is_meta_type(rtype: Rtype) -> bool {
    rtype == Rtype::OPT || matches!(rtype.to_int(), 0 | 128..=255)
}

/// Whether the records of the type are made by whoever signs the zone, and by no user (RFC 4034, RFC 5155).
pub fn is_system_type(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3 | Rtype::NSEC3PARAM)
}

/// Reads the presentation format of one record's RDATA into uncompressed wire format.
///
/// Names are fully qualified with or without the trailing dot, and may be internationalised. Any type may
/// be given as `\# length hex` (RFC 3597 §5). Strings of TXT and its like that are too long are split.
/// Semicolons and parentheses are ordinary characters.
pub fn parse_rdata(rtype: Rtype, text: &str) -> Result<Vec<u8>, RdataError> {
    let tokens = tokens_of_rdata(text).map_err(|(problem, _)| RdataError::new(rtype, "", problem))?;
    let mut rdata = Vec::new();
    read_rdata(rtype, &tokens, None, &mut rdata)?;
    Ok(rdata)
}

/// Like [`parse_rdata`], of the tokens of a zone file: names without a trailing dot are below `origin`.
pub fn parse_rdata_relative(
    rtype: Rtype,
    tokens: &[Token<'_>],
    origin: &Name,
) -> Result<Vec<u8>, RdataError> {
    let mut rdata = Vec::new();
    read_rdata(rtype, tokens, Some(origin), &mut rdata)?;
    Ok(rdata)
}

/// Writes the canonical presentation format of RDATA: that of RFC 3597 §5 where the type is unknown or the
/// octets are not of the type. [`parse_rdata`] reads the same octets back, names in lower case.
pub fn format_rdata(rtype: Rtype, rdata: &[u8]) -> String {
    write::format_known(rtype, rdata).unwrap_or_else(|| format_rdata_generic(rdata))
}

/// Checks that octets are well-formed RDATA of the type, without name compression. Of a type we do not
/// know everything is.
pub fn check_rdata(rtype: Rtype, rdata: &[u8]) -> Result<(), RdataError> {
    wire::walk(rtype, rdata, |_, _| {})
}

/// Checks RDATA in wire format like [`check_rdata`], and gives it in the form in which the platform keeps
/// it: with its names in lower case.
pub fn canonical_rdata(rtype: Rtype, rdata: &[u8]) -> Result<Vec<u8>, RdataError> {
    let mut canonical = Vec::with_capacity(rdata.len());
    wire::walk(rtype, rdata, |field, octets| {
        let start = canonical.len();
        canonical.extend_from_slice(octets);
        if wire::name_in(field, octets, rdata).is_some() {
            // Length octets are below the letters, so that only letters change.
            canonical[start..].make_ascii_lowercase();
        }
    })?;
    if schema::fields(rtype).is_none() {
        canonical.extend_from_slice(rdata);
    }
    Ok(canonical)
}

/// The domain names that RDATA holds, in order: the target of NS, MX, SRV, CNAME and so on. None if the
/// octets are not of the type.
pub fn rdata_names(rtype: Rtype, rdata: &[u8]) -> Vec<Name> {
    let mut names = Vec::new();
    let walked = wire::walk(rtype, rdata, |field, octets| {
        names.extend(wire::name_in(field, octets, rdata));
    });
    if walked.is_err() {
        names.clear();
    }
    names
}

#[cfg(test)]
pub(crate) mod tests;
