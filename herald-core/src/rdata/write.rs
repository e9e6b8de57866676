//! RDATA from wire to presentation format.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use domain::base::iana::Rtype;
use domain::utils::{base16, base32, base64};

use super::schema::{Field, Kind, fields};
use super::wire::{split_char_string, types_in_bitmap, walk};
use super::{format_rtype, location, svcb};
use crate::name::write_wire;

/// The presentation of a known type's well-formed RDATA.
pub(super) fn format_known(rtype: Rtype, rdata: &[u8]) -> Option<String> {
    fields(rtype)?;
    let mut text = String::new();
    walk(rtype, rdata, |field, octets| {
        write_field(field, octets, rdata, &mut text).expect("a String takes everything");
    })
    .ok()?;
    Some(text)
}

/// Writes any RDATA as `\# length hex` (RFC 3597 §5). Beside `TYPEnnn` every server reads it, also one that
/// does not know the type or a new parameter of it: that is the form for files which must always load.
pub fn format_rdata_generic(rdata: &[u8]) -> String {
    match rdata.len() {
        0 => r"\# 0".to_owned(),
        length => format!(r"\# {length} {}", Hex(rdata)),
    }
}

/// Writes a field that was checked, with a space in front unless it is the first.
fn write_field(field: &Field, octets: &[u8], rdata: &[u8], text: &mut String) -> fmt::Result {
    let is_optional = match field.kind {
        Kind::Base64 { may_be_empty } => may_be_empty,
        Kind::TypeBitmap | Kind::SvcParams => true,
        _ => false,
    };
    if is_optional && octets.is_empty() {
        return Ok(());
    }
    // Those that are lists put a space in front of each item.
    if !text.is_empty() && !matches!(field.kind, Kind::TypeBitmap | Kind::SvcParams) {
        text.push(' ');
    }
    match field.kind {
        Kind::U8
        | Kind::U16
        | Kind::U32
        | Kind::Seconds
        | Kind::Timestamp
        | Kind::Algorithm
        | Kind::CertType
        | Kind::DsyncScheme => {
            let number = octets.iter().fold(0_u32, |number, octet| number << 8 | u32::from(*octet));
            write!(text, "{number}")
        }
        Kind::RecordType => {
            text.push_str(&format_rtype(Rtype::from_int(u16::from_be_bytes([octets[0], octets[1]]))));
            Ok(())
        }
        Kind::Ipv4 => write_ipv4(octets, text),
        Kind::Ipv6 => write_ipv6(octets, text),
        Kind::Name => write_wire(text, octets),
        Kind::CharString => write_quoted(&octets[1..], text),
        Kind::CharStrings => {
            let mut rest = octets;
            while !rest.is_empty() {
                let (string, after) = split_char_string(rest);
                write_quoted(string, text)?;
                if !after.is_empty() {
                    text.push(' ');
                }
                rest = after;
            }
            Ok(())
        }
        Kind::Tag => {
            text.extend(octets[1..].iter().map(|octet| char::from(*octet)));
            Ok(())
        }
        Kind::Octets { .. } => write_quoted(octets, text),
        Kind::Hex => write!(text, "{}", Hex(octets)),
        Kind::Base64 { .. } => write!(text, "{}", base64::encode_display(&octets)),
        Kind::Salt if octets == [0] => text.write_str("-"),
        Kind::Salt => write!(text, "{}", Hex(&octets[1..])),
        Kind::Base32 => write!(text, "{}", base32::encode_display_hex(&&octets[1..])),
        Kind::TypeBitmap => {
            for rtype in types_in_bitmap(octets) {
                write!(text, " {}", format_rtype(rtype))?;
            }
            Ok(())
        }
        Kind::IpsecGateway => match rdata[1] {
            0 => text.write_str("."),
            1 => write_ipv4(octets, text),
            2 => write_ipv6(octets, text),
            _ => write_wire(text, octets),
        },
        Kind::Eui { .. } => {
            for (index, octet) in octets.iter().enumerate() {
                write!(text, "{}{octet:02x}", if index > 0 { "-" } else { "" })?;
            }
            Ok(())
        }
        Kind::Id64 => {
            for (index, group) in octets.as_chunks::<2>().0.iter().enumerate() {
                let group = u16::from_be_bytes(*group);
                write!(text, "{}{group:04x}", if index > 0 { ":" } else { "" })?;
            }
            Ok(())
        }
        Kind::Location => location::write(octets, text),
        Kind::SvcParams => svcb::write(octets, text),
    }
}

fn write_ipv4(octets: &[u8], text: &mut String) -> fmt::Result {
    let octets: [u8; 4] = octets.try_into().map_err(|_| fmt::Error)?;
    write!(text, "{}", Ipv4Addr::from(octets))
}

fn write_ipv6(octets: &[u8], text: &mut String) -> fmt::Result {
    let octets: [u8; 16] = octets.try_into().map_err(|_| fmt::Error)?;
    write!(text, "{}", Ipv6Addr::from(octets))
}

/// Writes a string in quotation marks (RFC 1035 §5.1).
fn write_quoted(octets: &[u8], text: &mut String) -> fmt::Result {
    text.push('"');
    for &octet in octets {
        match octet {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(octet));
            }
            b' '..=b'~' => text.push(char::from(octet)),
            _ => write!(text, "\\{octet:03}")?,
        }
    }
    text.push('"');
    Ok(())
}

/// Octets in hexadecimal.
struct Hex<'r>(&'r [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        base16::display(&self.0, f)
    }
}
