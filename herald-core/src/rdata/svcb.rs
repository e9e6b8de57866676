//! The parameters of SVCB and HTTPS records (RFC 9460 §2).

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use domain::utils::base64;

use super::RdataError;
use super::lexer::Token;
use super::read::{Reader, parse_digits};

/// The keys whose values have a form of their own, by number (RFC 9460 §14.3.2, RFC 9461, RFC 9540,
/// and the TLS supported groups).
const KEYS: [&str; 10] = [
    "mandatory",
    "alpn",
    "no-default-alpn",
    "port",
    "ipv4hint",
    "ech",
    "ipv6hint",
    "dohpath",
    "ohttp",
    "tls-supported-groups",
];
const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;
const TLS_SUPPORTED_GROUPS: u16 = 9;

/// Reads all parameters; they may come in any order, but each only once.
pub(super) fn read(reader: &mut Reader<'_, '_>) -> Result<(), RdataError> {
    let mut params = BTreeMap::new();
    while let Some(token) = reader.take() {
        let (key_text, value_text) = split_param(token);
        let Some(key) = parse_key(key_text) else {
            let shown = String::from_utf8_lossy(key_text);
            let problem =
                format_args!("expected a key like alpn or key123, found \"{}\"", shown.escape_debug());
            return Err(reader.error("parameters", problem));
        };
        let name = format_key(key);
        let mut octets = Vec::new();
        if let Some(text) = value_text {
            reader.unescape(&name, Token { text, is_quoted: true, ..token }, &mut octets)?;
        }
        // A key in the form of a number has its value in wire format, also where the key is known.
        let value = if key_text.starts_with(b"key") {
            check_value(key, &octets).map(|()| octets)
        } else {
            read_value(key, &octets)
        };
        let value = value.map_err(|problem| reader.error(&name, problem))?;
        if params.insert(key, value).is_some() {
            return Err(reader.error(&name, "given twice"));
        }
    }
    for (key, value) in params {
        reader.out.extend(key.to_be_bytes());
        let Ok(bytes) = u16::try_from(value.len()) else {
            return Err(reader.error(&format_key(key), "longer than 65535 octets"));
        };
        reader.out.extend(bytes.to_be_bytes());
        reader.out.extend(value);
    }
    Ok(())
}

/// Checks parameters in wire format: whole, ascending, well-formed, and in agreement (RFC 9460 §2.2, §7, §8).
pub(super) fn check(params: &[u8]) -> Result<(), String> {
    let mut keys = Vec::new();
    let mut mandatory = Vec::new();
    let mut whole_params = Params { rest: params };
    for (key, value) in whole_params.by_ref() {
        if keys.last().is_some_and(|previous| *previous >= key) {
            return Err("the keys are out of order or given twice".to_owned());
        }
        check_value(key, value).map_err(|problem| format!("{}: {problem}", format_key(key)))?;
        if key == MANDATORY {
            mandatory.extend(numbers(value));
        }
        keys.push(key);
    }
    if !whole_params.rest.is_empty() {
        return Err("the octets end within a parameter".to_owned());
    }
    if let Some(missing) = mandatory.iter().find(|key| !keys.contains(key)) {
        return Err(format!("{} is mandatory but missing", format_key(*missing)));
    }
    if keys.contains(&NO_DEFAULT_ALPN) && !keys.contains(&ALPN) {
        return Err("no-default-alpn needs alpn beside it".to_owned());
    }
    Ok(())
}

/// Writes parameters that are in order, each with a space in front.
pub(super) fn write(params: &[u8], out: &mut String) -> fmt::Result {
    for (key, value) in (Params { rest: params }) {
        write!(out, " {}", format_key(key))?;
        if value.is_empty() {
            continue;
        }
        out.push('=');
        match key {
            MANDATORY => write_list(numbers(value).map(format_key), out)?,
            ALPN => write_escaped(&format_alpn(value), out)?,
            PORT | TLS_SUPPORTED_GROUPS => write_list(numbers(value), out)?,
            IPV4HINT => {
                write_list(value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets)), out)?
            }
            IPV6HINT => {
                write_list(value.as_chunks::<16>().0.iter().map(|octets| Ipv6Addr::from(*octets)), out)?;
            }
            ECH => write!(out, "{}", base64::encode_display(&value))?,
            _ => write_escaped(value, out)?,
        }
    }
    Ok(())
}

/// The parameters in wire format, until one isn't whole.
struct Params<'r> {
    rest: &'r [u8],
}

impl<'r> Iterator for Params<'r> {
    type Item = (u16, &'r [u8]);

    fn next(&mut self) -> Option<(u16, &'r [u8])> {
        let (&[key_high, key_low, bytes_high, bytes_low], after) = self.rest.split_first_chunk()?;
        let (value, after) =
            after.split_at_checked(usize::from(u16::from_be_bytes([bytes_high, bytes_low])))?;
        self.rest = after;
        Some((u16::from_be_bytes([key_high, key_low]), value))
    }
}

fn numbers(value: &[u8]) -> impl Iterator<Item = u16> {
    value.as_chunks::<2>().0.iter().map(|octets| u16::from_be_bytes(*octets))
}

/// The key, and the value if there is one, without the quotation marks around it.
fn split_param<'t>(token: Token<'t>) -> (&'t [u8], Option<&'t [u8]>) {
    let Some(equals) = token.text.iter().position(|&octet| octet == b'=') else { return (token.text, None) };
    let (key, value) = (&token.text[..equals], &token.text[equals + 1..]);
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    (key, Some(if token.is_quoted { value } else { unquoted.unwrap_or(value) }))
}

fn parse_key(text: &[u8]) -> Option<u16> {
    if let Some(known) = KEYS.iter().position(|key| key.as_bytes() == text) {
        return Some(known as u16);
    }
    let digits = text.strip_prefix(b"key")?;
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    // The last number is not for use (RFC 9460 §14.3.2).
    parse_digits(digits).filter(|number| *number != u16::MAX)
}

fn format_key(key: u16) -> String {
    match KEYS.get(usize::from(key)) {
        Some(known) => (*known).to_owned(),
        None => format!("key{key}"),
    }
}

/// A value from the octets that its text stands for.
fn read_value(key: u16, octets: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(octets);
    let expected = |what: &str| format!("expected {what}, found \"{}\"", text.escape_debug());
    let mut value = Vec::new();
    match key {
        MANDATORY => {
            let mut keys = Vec::new();
            for part in text.split(',') {
                keys.push(parse_key(part.as_bytes()).ok_or_else(|| expected("a list of keys"))?);
            }
            keys.sort_unstable();
            value.extend(keys.into_iter().flat_map(u16::to_be_bytes));
        }
        ALPN => {
            for id in split_value_list(octets).ok_or_else(|| expected("a list of protocol ids"))? {
                let bytes = u8::try_from(id.len()).map_err(|_| expected("ids of up to 255 octets"))?;
                value.push(bytes);
                value.extend(id);
            }
        }
        PORT => {
            let port: u16 = parse_digits(octets).ok_or_else(|| expected("a number from 0 to 65535"))?;
            value.extend(port.to_be_bytes());
        }
        TLS_SUPPORTED_GROUPS => {
            for part in text.split(',') {
                let group: u16 =
                    parse_digits(part.as_bytes()).ok_or_else(|| expected("a list of numbers"))?;
                value.extend(group.to_be_bytes());
            }
        }
        IPV4HINT => {
            for part in text.split(',') {
                let address: Ipv4Addr = part.parse().map_err(|_| expected("a list of IPv4 addresses"))?;
                value.extend(address.octets());
            }
        }
        IPV6HINT => {
            for part in text.split(',') {
                let address: Ipv6Addr = part.parse().map_err(|_| expected("a list of IPv6 addresses"))?;
                value.extend(address.octets());
            }
        }
        ECH => value = base64::decode(&text).map_err(|_| expected("base 64"))?,
        _ => value.extend(octets),
    }
    check_value(key, &value)?;
    Ok(value)
}

/// Checks one value in wire format (RFC 9460 §7, §8; RFC 9461 §5; RFC 9540 §4).
fn check_value(key: u16, value: &[u8]) -> Result<(), String> {
    let is_list_of = |bytes: usize| !value.is_empty() && value.len().is_multiple_of(bytes);
    let problem = match key {
        MANDATORY => {
            let keys: Vec<u16> = numbers(value).collect();
            if is_list_of(2) && keys.is_sorted_by(|a, b| a < b) && !keys.contains(&MANDATORY) {
                return Ok(());
            }
            "expected keys, each once, without mandatory itself"
        }
        ALPN if is_alpn(value) => return Ok(()),
        ALPN => "expected protocol ids, none of them empty",
        NO_DEFAULT_ALPN | OHTTP if value.is_empty() => return Ok(()),
        NO_DEFAULT_ALPN | OHTTP => "has no value",
        PORT if value.len() == 2 => return Ok(()),
        PORT => "expected a port",
        IPV4HINT if is_list_of(4) => return Ok(()),
        IPV4HINT => "expected IPv4 addresses",
        ECH if !value.is_empty() => return Ok(()),
        ECH => "must not be empty",
        IPV6HINT if is_list_of(16) => return Ok(()),
        IPV6HINT => "expected IPv6 addresses",
        DOHPATH if std::str::from_utf8(value).is_ok_and(|path| path.contains("{?dns")) => return Ok(()),
        DOHPATH => "expected a URI template with the variable dns, like /dns-query{?dns}",
        TLS_SUPPORTED_GROUPS if is_list_of(2) => return Ok(()),
        TLS_SUPPORTED_GROUPS => "expected numbers of groups",
        u16::MAX => "not for use",
        _ => return Ok(()),
    };
    Err(problem.to_owned())
}

fn is_alpn(value: &[u8]) -> bool {
    let mut rest = value;
    while let [bytes @ 1..=255, after @ ..] = rest {
        match after.get(usize::from(*bytes)..) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty() && !value.is_empty()
}

/// Splits at commas that no backslash precedes, and takes the backslashes away (RFC 9460 §A.1).
fn split_value_list(octets: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = vec![Vec::new()];
    let mut rest = octets.iter();
    while let Some(&octet) = rest.next() {
        let part = parts.last_mut()?;
        match octet {
            b',' => parts.push(Vec::new()),
            b'\\' => part.push(*rest.next().filter(|escaped| matches!(escaped, b',' | b'\\'))?),
            _ => part.push(octet),
        }
    }
    Some(parts)
}

/// The ids with commas between, with backslashes where an id has a comma or a backslash.
fn format_alpn(value: &[u8]) -> Vec<u8> {
    let mut list = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [bytes, after @ ..] = rest {
        let (id, after) = after.split_at(usize::from(*bytes));
        if !list.is_empty() {
            list.push(b',');
        }
        for &octet in id {
            if matches!(octet, b',' | b'\\') {
                list.push(b'\\');
            }
            list.push(octet);
        }
        rest = after;
    }
    list
}

fn write_list(items: impl Iterator<Item = impl fmt::Display>, out: &mut String) -> fmt::Result {
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write!(out, "{item}")?;
    }
    Ok(())
}

/// Writes octets so that they are one token without quotation marks.
fn write_escaped(octets: &[u8], out: &mut String) -> fmt::Result {
    for &octet in octets {
        match octet {
            b'"' | b'\\' | b';' | b'(' | b')' => {
                out.push('\\');
                out.push(char::from(octet));
            }
            b'!'..=b'~' => out.push(char::from(octet)),
            _ => write!(out, "\\{octet:03}")?,
        }
    }
    Ok(())
}
