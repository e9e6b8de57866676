//! RDATA from presentation to wire format.

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Rtype, SecurityAlgorithm};
use domain::rdata::dnssec::Timestamp;
use domain::utils::{base16, base32, base64};

use super::lexer::{Token, unescape_into};
use super::schema::{Field, Kind, fields};
use super::wire::write_type_bitmap;
use super::{
    MAX_RDATA_BYTES, RdataError, canonical_rdata, check_rdata, is_meta_type, location, parse_rtype, svcb,
};
use crate::name::{self, Name};

/// The most octets a `<character-string>` may have (RFC 1035 §3.3).
const MAX_CHAR_STRING_BYTES: usize = 255;

/// The most characters of a bad token that are repeated in a message.
const MAX_SHOWN_CHARACTERS: usize = 60;

/// Certificate types that have a mnemonic (RFC 4398 §2.1).
const CERT_TYPES: [(&str, u16); 10] = [
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

/// Appends the RDATA that the tokens present to `out`, or leaves it as it was. Without an origin, names are
/// fully qualified with and without the trailing dot.
pub(crate) fn read_rdata(
    rtype: Rtype,
    tokens: &[Token<'_>],
    origin: Option<&Name>,
    out: &mut Vec<u8>,
) -> Result<(), RdataError> {
    let start = out.len();
    let mut reader = Reader { rtype, tokens, next: 0, origin, start, out };
    let result = reader.read();
    let next = reader.next;
    if result.is_err() {
        out.truncate(start);
    }
    // What is wrong was found in the token that was taken last.
    result.map_err(|error| if next == 0 { error } else { error.at_token(next - 1) })
}

/// A time in seconds, in digits or with units as in `1h30m` (BIND's form), up to 2^32-1.
pub(crate) fn parse_period_s(text: &[u8]) -> Option<u32> {
    let (mut total_s, mut number) = (0_u32, None::<u32>);
    for octet in text {
        let unit_s = match octet.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u32::from(digit - b'0'))?);
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total_s = total_s.checked_add(number.take()?.checked_mul(unit_s)?)?;
    }
    match number {
        // A number without a unit comes alone.
        Some(number_s) if text.last()?.is_ascii_digit() && text.iter().all(u8::is_ascii_digit) => {
            Some(number_s)
        }
        Some(_) => None,
        None if text.is_empty() => None,
        None => Some(total_s),
    }
}

/// The tokens of one RDATA as they are used up, and the octets as they come about.
pub(super) struct Reader<'a, 't> {
    rtype: Rtype,
    tokens: &'a [Token<'t>],
    next: usize,
    origin: Option<&'a Name>,
    start: usize,
    pub(super) out: &'a mut Vec<u8>,
}

impl<'t> Reader<'_, 't> {
    fn read(&mut self) -> Result<(), RdataError> {
        if is_meta_type(self.rtype) {
            return Err(self.error("", "no record of this type can be in a zone"));
        }
        if self.peek().is_some_and(|token| token.text == br"\#" && !token.is_quoted) {
            return self.read_unknown();
        }
        let Some(fields) = fields(self.rtype) else {
            let problem =
                r"only the form of RFC 3597 is known for this type: `\#`, the length, and hexadecimal digits";
            return Err(self.error("", problem));
        };
        for field in fields {
            self.read_field(field)?;
        }
        if let Some(token) = self.take() {
            return Err(self.error("", format_args!("unexpected {} after the last field", Shown(token))));
        }
        // Also what several fields have to agree on, and the lengths of what was put together.
        check_rdata(self.rtype, &self.out[self.start..])
    }

    /// `\# length hex` (RFC 3597 §5), which has to be RDATA of the type if that is known.
    fn read_unknown(&mut self) -> Result<(), RdataError> {
        self.take();
        let length = usize::from(self.number::<u16>(r"\# length")?);
        let octets = self.rest_hex(r"\# data", true)?;
        if octets.len() != length {
            let problem = format_args!("expected {length} octets, found {}", octets.len());
            return Err(self.error(r"\# data", problem));
        }
        self.out.extend(canonical_rdata(self.rtype, &octets)?);
        Ok(())
    }

    fn read_field(&mut self, field: &Field) -> Result<(), RdataError> {
        let name = field.name;
        match field.kind {
            Kind::U8 => {
                let number = self.number::<u8>(name)?;
                self.out.push(number);
            }
            Kind::U16 => {
                let number = self.number::<u16>(name)?;
                self.out.extend(number.to_be_bytes());
            }
            Kind::U32 => {
                let number = self.number::<u32>(name)?;
                self.out.extend(number.to_be_bytes());
            }
            Kind::Seconds => {
                let seconds = self.take_as(name, "a number of seconds, or a time like 1h30m", |token| {
                    parse_period_s(token.text)
                })?;
                self.out.extend(seconds.to_be_bytes());
            }
            Kind::Timestamp => {
                let expected = "a number of seconds or a time as YYYYMMDDHHmmSS";
                let timestamp: Timestamp =
                    self.take_as(name, expected, |token| token.as_str()?.parse().ok())?;
                self.out.extend(timestamp.into_int().to_be_bytes());
            }
            Kind::RecordType => {
                let rtype = self.rtype_token(name)?;
                self.out.extend(rtype.to_int().to_be_bytes());
            }
            Kind::Algorithm => {
                let expected = "a number from 0 to 255 or the mnemonic of an algorithm";
                let algorithm = self.take_as(name, expected, |token| {
                    let mnemonic = SecurityAlgorithm::from_mnemonic(token.text);
                    mnemonic.map(|algorithm| algorithm.to_int()).or_else(|| parse_digits(token.text))
                })?;
                self.out.push(algorithm);
            }
            Kind::CertType => {
                let expected = "a number from 0 to 65535 or the mnemonic of a certificate type";
                let cert_type = self.take_as(name, expected, |token| {
                    let named = CERT_TYPES.iter().find(|(mnemonic, _)| token.is_word(mnemonic));
                    named.map(|(_, number)| *number).or_else(|| parse_digits(token.text))
                })?;
                self.out.extend(cert_type.to_be_bytes());
            }
            Kind::DsyncScheme => {
                let scheme = self.take_as(name, "a number from 0 to 255 or NOTIFY", |token| {
                    if token.is_word("NOTIFY") { Some(1) } else { parse_digits(token.text) }
                })?;
                self.out.push(scheme);
            }
            Kind::Ipv4 => {
                let address: Ipv4Addr = self.parsed(name, "an IPv4 address")?;
                self.out.extend(address.octets());
            }
            Kind::Ipv6 => {
                let address: Ipv6Addr = self.parsed(name, "an IPv6 address")?;
                self.out.extend(address.octets());
            }
            Kind::Name => self.read_name(name)?,
            Kind::CharString => self.read_char_string(name)?,
            Kind::CharStrings => self.read_char_strings(name)?,
            Kind::Tag => self.read_char_string(name)?,
            Kind::Octets { .. } => {
                let token = self.expect(name)?;
                self.push_unescaped(name, token)?;
            }
            Kind::Hex => {
                let octets = self.rest_hex(name, false)?;
                self.out.extend(octets);
            }
            Kind::Base64 { may_be_empty } => {
                let text = self.rest_text(name, may_be_empty)?;
                let octets: Vec<u8> = base64::decode(&text).map_err(|_| {
                    self.error(name, format_args!("expected base 64, found {}", Shown::of(&text)))
                })?;
                self.out.extend(octets);
            }
            Kind::Salt => {
                let octets = self.take_as(name, "up to 255 octets in hexadecimal, or -", |token| {
                    if token.is_word("-") {
                        Some(Vec::new())
                    } else {
                        base16::decode_vec(token.as_str()?).ok()
                    }
                })?;
                self.push_char_string(name, &octets)?;
            }
            Kind::Base32 => {
                let octets: Vec<u8> = self.take_as(name, "base 32 (extended hex)", |token| {
                    base32::decode_hex(token.as_str()?).ok()
                })?;
                self.push_char_string(name, &octets)?;
            }
            Kind::TypeBitmap => {
                let mut types = Vec::new();
                while self.peek().is_some() {
                    types.push(self.rtype_token(name)?);
                }
                write_type_bitmap(types, self.out);
            }
            Kind::IpsecGateway => self.read_ipsec_gateway(field)?,
            Kind::Eui { bytes } => {
                let expected = "octets in hexadecimal with hyphens between, like 00-00-5e-00-53-2a";
                let octets = self.take_as(name, expected, |token| parse_groups(token, '-', 2, bytes))?;
                self.out.extend(octets);
            }
            Kind::Id64 => {
                let expected = "four groups of hexadecimal digits with colons between";
                let octets = self.take_as(name, expected, |token| parse_groups(token, ':', 4, 8))?;
                self.out.extend(octets);
            }
            Kind::Location => location::read(self)?,
            Kind::SvcParams => svcb::read(self)?,
        }
        if self.out.len() - self.start > MAX_RDATA_BYTES {
            return Err(self.error(name, "the record is longer than 65535 octets"));
        }
        Ok(())
    }

    fn read_name(&mut self, name: &str) -> Result<(), RdataError> {
        let token = self.expect(name)?;
        let Some(text) = token.as_str() else {
            return Err(self.error(name, "the domain name is not UTF-8"));
        };
        name::parse_into(text, self.origin, self.out)
            .map_err(|error| self.error(name, format_args!("{error}, found {}", Shown(token))))
    }

    fn read_char_string(&mut self, name: &str) -> Result<(), RdataError> {
        let token = self.expect(name)?;
        let length_at = self.out.len();
        self.out.push(0);
        self.push_unescaped(name, token)?;
        let bytes = self.out.len() - length_at - 1;
        self.out[length_at] = u8::try_from(bytes)
            .map_err(|_| self.error(name, format_args!("expected at most 255 octets, found {bytes}")))?;
        Ok(())
    }

    /// What is too long for one string is split, as people expect of long DKIM keys.
    fn read_char_strings(&mut self, name: &str) -> Result<(), RdataError> {
        if self.peek().is_none() {
            self.expect(name)?;
        }
        let mut octets = Vec::new();
        while let Some(token) = self.peek() {
            if token.text.len() <= MAX_CHAR_STRING_BYTES {
                self.read_char_string(name)?;
                continue;
            }
            octets.clear();
            self.take();
            self.unescape(name, token, &mut octets)?;
            for part in octets.chunks(MAX_CHAR_STRING_BYTES) {
                self.out.push(part.len() as u8);
                self.out.extend_from_slice(part);
            }
        }
        Ok(())
    }

    fn read_ipsec_gateway(&mut self, field: &Field) -> Result<(), RdataError> {
        match self.out[self.start + 1] {
            0 => self.take_as(field.name, "`.` since there is no gateway", |token| {
                token.is_word(".").then_some(())
            }),
            1 => self.read_field(&Field { name: field.name, kind: Kind::Ipv4 }),
            2 => self.read_field(&Field { name: field.name, kind: Kind::Ipv6 }),
            3 => self.read_name(field.name),
            _ => Err(self.error("gateway type", "expected 0, 1, 2 or 3")),
        }
    }

    /// The next token, if there is one, without taking it.
    pub(super) fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.next).copied()
    }

    /// Takes the next token, if there is one.
    pub(super) fn take(&mut self) -> Option<Token<'t>> {
        let token = self.peek()?;
        self.next += 1;
        Some(token)
    }

    /// Takes the next token, which has to be there.
    pub(super) fn expect(&mut self, name: &str) -> Result<Token<'t>, RdataError> {
        self.take().ok_or_else(|| self.error(name, "missing"))
    }

    /// Takes the next token as what `parse` makes of it.
    pub(super) fn take_as<T>(
        &mut self,
        name: &str,
        expected: impl Display,
        parse: impl FnOnce(Token<'t>) -> Option<T>,
    ) -> Result<T, RdataError> {
        let token = self.expect(name)?;
        parse(token)
            .ok_or_else(|| self.error(name, format_args!("expected {expected}, found {}", Shown(token))))
    }

    /// What is wrong with a field.
    pub(super) fn error(&self, name: &str, problem: impl Display) -> RdataError {
        RdataError::new(self.rtype, name, problem)
    }

    /// The octets that a token stands for.
    pub(super) fn unescape(
        &self,
        name: &str,
        token: Token<'_>,
        octets: &mut Vec<u8>,
    ) -> Result<(), RdataError> {
        if !token.is_quoted && has_bare_quote(token.text) {
            return Err(self.error(name, format_args!("a quotation mark in the middle of {}", Shown(token))));
        }
        unescape_into(token.text, octets).ok_or_else(|| {
            let expected = r"a backslash must be followed by a character or by three digits up to 255";
            self.error(name, format_args!("{expected}, found {}", Shown(token)))
        })
    }

    fn push_unescaped(&mut self, name: &str, token: Token<'_>) -> Result<(), RdataError> {
        let mut out = std::mem::take(self.out);
        let result = self.unescape(name, token, &mut out);
        *self.out = out;
        result
    }

    fn push_char_string(&mut self, name: &str, octets: &[u8]) -> Result<(), RdataError> {
        let bytes =
            u8::try_from(octets.len()).map_err(|_| self.error(name, "expected at most 255 octets"))?;
        self.out.push(bytes);
        self.out.extend_from_slice(octets);
        Ok(())
    }

    fn number<T: Number>(&mut self, name: &str) -> Result<T, RdataError> {
        self.take_as(name, format_args!("a number from 0 to {}", T::MAX), |token| parse_digits(token.text))
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &str, expected: &str) -> Result<T, RdataError> {
        self.take_as(name, expected, |token| token.as_str()?.parse().ok())
    }

    fn rtype_token(&mut self, name: &str) -> Result<Rtype, RdataError> {
        self.take_as(name, "a record type", |token| parse_rtype(token.as_str()?))
    }

    /// All that is left, as one text.
    fn rest_text(&mut self, name: &str, may_be_empty: bool) -> Result<String, RdataError> {
        let mut text = String::new();
        if self.peek().is_none() && !may_be_empty {
            self.expect(name)?;
        }
        while let Some(token) = self.take() {
            text.push_str(&String::from_utf8_lossy(token.text));
        }
        Ok(text)
    }

    fn rest_hex(&mut self, name: &str, may_be_empty: bool) -> Result<Vec<u8>, RdataError> {
        let text = self.rest_text(name, may_be_empty)?;
        base16::decode_vec(&text).map_err(|_| {
            let expected = "an even number of hexadecimal digits";
            self.error(name, format_args!("expected {expected}, found {}", Shown::of(&text)))
        })
    }
}

/// The numbers that RDATA has.
trait Number: std::str::FromStr {
    const MAX: u32;
}

impl Number for u8 {
    const MAX: u32 = u8::MAX as u32;
}

impl Number for u16 {
    const MAX: u32 = u16::MAX as u32;
}

impl Number for u32 {
    const MAX: u32 = u32::MAX;
}

/// A number in digits alone; `FromStr` would take a plus sign as well.
pub(super) fn parse_digits<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Octets as groups of so many hexadecimal digits.
fn parse_groups(token: Token<'_>, separator: char, group_digits: usize, bytes: usize) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(bytes);
    for group in token.as_str()?.split(separator) {
        // Groups of a locator may leave out zeros in front, as in an IPv6 address.
        let is_full = group.len() == group_digits || (group_digits == 4 && (1..=4).contains(&group.len()));
        if !is_full || !group.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return None;
        }
        let value = u16::from_str_radix(group, 16).ok()?.to_be_bytes();
        octets.extend_from_slice(&value[2 - group_digits / 2..]);
    }
    (octets.len() == bytes).then_some(octets)
}

fn has_bare_quote(text: &[u8]) -> bool {
    let mut octets = text.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b'"' => return true,
            b'\\' => {
                octets.next();
            }
            _ => {}
        }
    }
    false
}

/// A token in a message: in quotation marks, and shortened.
struct Shown<'t>(Token<'t>);

impl<'t> Shown<'t> {
    fn of(text: &'t str) -> Shown<'t> {
        Shown(Token { text: text.as_bytes(), is_quoted: false, offset: 0 })
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(self.0.text);
        let mut characters = text.chars();
        f.write_str("\"")?;
        for character in characters.by_ref().take(MAX_SHOWN_CHARACTERS) {
            match character {
                // Backslashes and quotation marks are shown as they were written.
                '\\' | '"' => write!(f, "{character}")?,
                _ => write!(f, "{}", character.escape_debug())?,
            }
        }
        f.write_str(if characters.next().is_some() { "…\"" } else { "\"" })
    }
}
