//! Domain names as the whole platform keeps them: fully qualified, lower case, uncompressed wire format.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most octets a name may take in wire format, the root label included (RFC 1035 §2.3.4).
pub const MAX_NAME_BYTES: usize = 255;

/// The most octets a label may take (RFC 1035 §2.3.4).
pub const MAX_LABEL_BYTES: usize = 63;

/// The most labels a name of [`MAX_NAME_BYTES`] can have, without the root label.
const MAX_LABELS: usize = (MAX_NAME_BYTES - 1) / 2;

/// A fully qualified domain name: lower case, uncompressed wire format (RFC 1035 §3.1), shared.
///
/// There are millions of them in memory, hence one fat pointer and no slack; a clone copies no octets.
/// `Ord` is the canonical order of DNSSEC (RFC 4034 §6.1), so that a zone's names follow its apex.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<[u8]>);

/// Why a text or some octets are no domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all was given.
    #[error("a domain name is missing")]
    Empty,
    /// Two dots in a row, or a dot in front.
    #[error("the domain name has an empty label (two dots in a row, or a dot in front)")]
    EmptyLabel,
    /// A label of more than [`MAX_LABEL_BYTES`] octets.
    #[error("a label of the domain name is longer than 63 octets")]
    LabelTooLong,
    /// A name of more than [`MAX_NAME_BYTES`] octets.
    #[error("the domain name is longer than 255 octets")]
    NameTooLong,
    /// A lone `@` where nothing says what the origin is.
    #[error("`@` stands for the origin, which only a zone file has")]
    NoOrigin,
    /// White space or another character that needs an escape.
    #[error("the domain name has the character {0:?}, which needs a backslash in front")]
    BadCharacter(char),
    /// A backslash that isn't followed by a character or by three digits up to 255.
    #[error(r"the domain name has a bad escape: expected `\` and a character or three digits up to 255")]
    BadEscape,
    /// A label that international domain names do not allow (UTS 46).
    #[error("the label \"{0}\" is not a valid internationalised label")]
    BadIdn(String),
    /// Octets that are no uncompressed name, or more than one.
    #[error("the octets are not one uncompressed domain name")]
    BadWire,
}

impl Name {
    /// The root of all names.
    pub fn root() -> Name {
        Name(Arc::new([0]))
    }

    /// Reads the presentation format (RFC 1035 §5.1), with or without the trailing dot.
    ///
    /// U-labels become A-labels (UTS 46); `.` is the root.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        NameBuffer::parse(text, None).map(NameBuffer::into_name)
    }

    /// Reads a name as zone files have it (RFC 1035 §5.1): `@` is the origin, and what has no trailing
    /// dot is below the origin.
    pub fn parse_relative(text: &str, origin: &Name) -> Result<Name, NameError> {
        if text == "@" {
            return Ok(origin.clone());
        }
        NameBuffer::parse(text, Some(origin)).map(NameBuffer::into_name)
    }

    /// Takes one uncompressed name in wire format, in any case, and nothing after it.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        match wire_name_bytes(wire) {
            Some(bytes) if bytes == wire.len() => Ok(Name(wire.to_ascii_lowercase().into())),
            _ => Err(NameError::BadWire),
        }
    }

    /// The uncompressed wire format, in lower case.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The labels, leftmost first, without the root label.
    pub fn labels(&self) -> Labels<'_> {
        Labels { rest: &self.0 }
    }

    /// The number of labels, the root label not counted (as in the RRSIG RDATA, RFC 4034 §3.1.3, but
    /// with the `*` counted).
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// The name without its leftmost label; the root has none.
    pub fn parent(&self) -> Option<Name> {
        self.labels().next().map(|label| Name(self.0[1 + label.len()..].into()))
    }

    /// Whether the leftmost label is a lone `*` (RFC 4592 §2.1.1).
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// Whether this is `other` or a name below it.
    pub fn is_at_or_below(&self, other: &Name) -> bool {
        let (own, other) = (self.as_wire(), other.as_wire());
        let Some(extra_bytes) = own.len().checked_sub(other.len()) else { return false };
        // Octets that look alike are only the same labels if a label starts there.
        own[extra_bytes..] == *other && {
            let mut offset = 0;
            while offset < extra_bytes {
                offset += 1 + usize::from(own[offset]);
            }
            offset == extra_bytes
        }
    }

    /// Whether this is a name below `other`, and not `other` itself.
    pub fn is_below(&self, other: &Name) -> bool {
        self.0.len() > other.0.len() && self.is_at_or_below(other)
    }

    /// The name with one more label in front; the label is octets, so that a dot in it is no separator.
    pub fn child(&self, label: impl AsRef<[u8]>) -> Result<Name, NameError> {
        let mut buffer = NameBuffer::new();
        buffer.push_label(&label.as_ref().to_ascii_lowercase())?;
        buffer.push_octets(self.as_wire())?;
        Ok(buffer.into_name())
    }

    /// The name for people's eyes: like `Display`, but with U-labels where they lead back to the same name.
    pub fn to_unicode(&self) -> String {
        if self.is_root() {
            return ".".to_owned();
        }
        let mut text = String::with_capacity(self.0.len());
        for label in self.labels() {
            match unicode_label(label) {
                Some(unicode) => text.push_str(&unicode),
                None => write_label(&mut text, label).expect("a String takes everything"),
            }
            text.push('.');
        }
        text
    }
}

/// A label in Unicode, if it is an A-label whose U-label is read back as the same label.
fn unicode_label(label: &[u8]) -> Option<String> {
    if !label.starts_with(b"xn--") {
        return None;
    }
    let (unicode, result) = Uts46::new().to_unicode(label, AsciiDenyList::URL, Hyphens::CheckFirstLast);
    result.ok()?;
    (ascii_label(&unicode).ok()?.as_bytes() == label).then(|| unicode.into_owned())
}

/// A U-label as an A-label.
fn ascii_label(label: &str) -> Result<String, NameError> {
    match Uts46::new().to_ascii(
        label.as_bytes(),
        AsciiDenyList::URL,
        Hyphens::CheckFirstLast,
        DnsLength::Ignore,
    ) {
        // A few characters are mapped to something with a dot, or to nothing: that is not one label any more.
        Ok(ascii) if !ascii.is_empty() && !ascii.contains('.') => Ok(ascii.into_owned()),
        _ => Err(NameError::BadIdn(label.to_owned())),
    }
}

/// How many octets the uncompressed name takes that `wire` starts with.
pub(crate) fn wire_name_bytes(wire: &[u8]) -> Option<usize> {
    let mut offset = 0;
    loop {
        let label_bytes = usize::from(*wire.get(offset)?);
        offset += 1 + label_bytes;
        if label_bytes > MAX_LABEL_BYTES || offset > MAX_NAME_BYTES || offset > wire.len() {
            return None;
        }
        if label_bytes == 0 {
            return Some(offset);
        }
    }
}

/// The labels of a [`Name`], leftmost first.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&label_bytes, rest) = self.rest.split_first()?;
        if label_bytes == 0 {
            return None;
        }
        let (label, rest) = rest.split_at(usize::from(label_bytes));
        self.rest = rest;
        Some(label)
    }
}

/// Appends the name that a text presents to `out`, in wire format: below the origin if there is one and the
/// text has no trailing dot, and fully qualified else.
pub(crate) fn parse_into(text: &str, origin: Option<&Name>, out: &mut Vec<u8>) -> Result<(), NameError> {
    let mut buffer = NameBuffer::parse(text, origin)?;
    out.extend_from_slice(buffer.lower_case());
    Ok(())
}

/// What a presentation ended with.
enum Ending {
    Dot,
    Label,
}

/// A name that is being put together, on the stack.
struct NameBuffer {
    octets: [u8; MAX_NAME_BYTES],
    len: usize,
}

impl NameBuffer {
    fn new() -> NameBuffer {
        NameBuffer { octets: [0; MAX_NAME_BYTES], len: 0 }
    }

    /// Reads the presentation of a name: with an origin as in a zone file, and without as fully qualified.
    fn parse(text: &str, origin: Option<&Name>) -> Result<NameBuffer, NameError> {
        let mut buffer = NameBuffer::new();
        match (text, origin) {
            ("@", None) => return Err(NameError::NoOrigin),
            ("@", Some(origin)) => buffer.push_octets(origin.as_wire())?,
            (_, None) => {
                buffer.push_text(text)?;
                buffer.push_octets(&[0])?;
            }
            (_, Some(origin)) => match buffer.push_text(text)? {
                Ending::Dot => buffer.push_octets(&[0])?,
                Ending::Label => buffer.push_octets(origin.as_wire())?,
            },
        }
        Ok(buffer)
    }

    /// Appends the labels of a presentation, but never the root label.
    fn push_text(&mut self, text: &str) -> Result<Ending, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text == "." {
            return Ok(Ending::Dot);
        }
        let mut rest = text;
        loop {
            let (label, after) = split_label(rest)?;
            if label.is_ascii() {
                self.push_ascii_label(label)?;
            } else if label.contains('\\') {
                return Err(NameError::BadIdn(label.to_owned()));
            } else {
                self.push_label(ascii_label(label)?.as_bytes())?;
            }
            match after {
                None => return Ok(Ending::Label),
                Some("") => return Ok(Ending::Dot),
                Some(after) => rest = after,
            }
        }
    }

    /// Appends a label in ASCII, with its escapes.
    fn push_ascii_label(&mut self, text: &str) -> Result<(), NameError> {
        if !text.contains('\\') {
            for octet in text.bytes() {
                check_character(octet)?;
            }
            return self.push_label(text.as_bytes());
        }
        let mut label = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&octet, after)) = rest.split_first() {
            rest = after;
            if octet != b'\\' {
                label.push(check_character(octet)?);
                continue;
            }
            let (escaped, after) = unescape(rest).ok_or(NameError::BadEscape)?;
            label.push(escaped);
            rest = after;
        }
        self.push_label(&label)
    }

    fn push_label(&mut self, label: &[u8]) -> Result<(), NameError> {
        match label.len() {
            0 => Err(NameError::EmptyLabel),
            1..=MAX_LABEL_BYTES => {
                self.push_octets(&[label.len() as u8])?;
                self.push_octets(label)
            }
            _ => Err(NameError::LabelTooLong),
        }
    }

    fn push_octets(&mut self, octets: &[u8]) -> Result<(), NameError> {
        let end = self.len + octets.len();
        self.octets.get_mut(self.len..end).ok_or(NameError::NameTooLong)?.copy_from_slice(octets);
        self.len = end;
        Ok(())
    }

    fn into_name(mut self) -> Name {
        Name(self.lower_case().into())
    }

    fn lower_case(&mut self) -> &[u8] {
        let octets = &mut self.octets[..self.len];
        // A length octet is at most 63, below the letters, so that it stays what it is.
        octets.make_ascii_lowercase();
        octets
    }
}

/// Refuses what in zone files ends a name or starts a comment: in a name it is a slip more often than meant.
fn check_character(octet: u8) -> Result<u8, NameError> {
    match octet {
        b'"' | b'(' | b')' | b';' | b' ' | 0..=0x1f | 0x7f => Err(NameError::BadCharacter(char::from(octet))),
        _ => Ok(octet),
    }
}

/// Splits at the first dot that separates labels: the label, and what follows the dot if there is one.
///
/// In a label with other than ASCII characters, the three ideographic full stops separate as well (UTS 46 §2.3).
fn split_label(text: &str) -> Result<(&str, Option<&str>), NameError> {
    let mut characters = text.char_indices();
    while let Some((offset, character)) = characters.next() {
        match character {
            '.' | '\u{3002}' | '\u{FF0E}' | '\u{FF61}' => {
                return Ok((&text[..offset], Some(&text[offset + character.len_utf8()..])));
            }
            '\\' => {
                characters.next().ok_or(NameError::BadEscape)?;
            }
            _ => {}
        }
    }
    Ok((text, None))
}

/// The octet that an escape stands for, given what follows the backslash, and the rest (RFC 1035 §5.1).
pub(crate) fn unescape(after_backslash: &[u8]) -> Option<(u8, &[u8])> {
    match after_backslash {
        [a @ b'0'..=b'9', rest @ ..] => match rest {
            [b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
                let value = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
                Some((u8::try_from(value).ok()?, rest))
            }
            _ => None,
        },
        [octet, rest @ ..] => Some((*octet, rest)),
        [] => None,
    }
}

/// Writes a label so that zone files, and [`Name::parse`], read the same octets back.
pub(crate) fn write_label(out: &mut impl fmt::Write, label: &[u8]) -> fmt::Result {
    for &octet in label {
        match octet {
            b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                out.write_char('\\')?;
                out.write_char(char::from(octet))?;
            }
            b'!'..=b'~' => out.write_char(char::from(octet))?,
            _ => write!(out, "\\{octet:03}")?,
        }
    }
    Ok(())
}

/// Writes the presentation of a name in wire format, with the trailing dot.
pub(crate) fn write_wire(out: &mut impl fmt::Write, wire: &[u8]) -> fmt::Result {
    if wire == [0] {
        return out.write_str(".");
    }
    for label in (Labels { rest: wire }) {
        write_label(out, label)?;
        out.write_char('.')?;
    }
    Ok(())
}

impl fmt::Display for Name {
    /// The presentation format in ASCII, with the trailing dot (RFC 1035 §5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wire(f, &self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::parse(text)
    }
}

impl Ord for Name {
    /// The canonical order of DNSSEC (RFC 4034 §6.1): by labels from the right, each as octets.
    fn cmp(&self, other: &Name) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        // Most names that are compared are siblings.
        if let ([own_bytes, own @ ..], [other_bytes, others @ ..]) = (&*self.0, &*other.0)
            && let Some((own, own_parent)) = own.split_at_checked(usize::from(*own_bytes))
            && let Some((other, other_parent)) = others.split_at_checked(usize::from(*other_bytes))
            && !own.is_empty()
            && !other.is_empty()
            && own_parent == other_parent
        {
            return own.cmp(other);
        }
        let (mut own_starts, mut other_starts) = ([0; MAX_LABELS], [0; MAX_LABELS]);
        let own_count = label_starts(&self.0, &mut own_starts);
        let other_count = label_starts(&other.0, &mut other_starts);
        let own = own_starts[..own_count].iter().rev();
        let mut others = other_starts[..other_count].iter().rev();
        for &start in own {
            let Some(&other_start) = others.next() else { return Ordering::Greater };
            match label_at(&self.0, start).cmp(label_at(&other.0, other_start)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
        if others.next().is_some() { Ordering::Less } else { Ordering::Equal }
    }
}

/// Notes where each label of a name starts, and returns how many there are.
fn label_starts(wire: &[u8], starts: &mut [u8; MAX_LABELS]) -> usize {
    let (mut offset, mut count) = (0, 0);
    while wire[offset] != 0 {
        starts[count] = offset as u8;
        count += 1;
        offset += 1 + usize::from(wire[offset]);
    }
    count
}

fn label_at(wire: &[u8], start: u8) -> &[u8] {
    let start = usize::from(start);
    &wire[start + 1..start + 1 + usize::from(wire[start])]
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a domain name")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Name, E> {
                Name::parse(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl<C> minicbor::Encode<C> for Name {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.bytes(self.as_wire())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Name {
    fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Name, minicbor::decode::Error> {
        let position = decoder.position();
        Name::from_wire(decoder.bytes()?)
            .map_err(|error| minicbor::decode::Error::message(error).at(position))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn presentation_forms() {
        for (text, canonical, wire) in [
            (".", ".", &b"\0"[..]),
            ("example.com", "example.com.", b"\x07example\x03com\0"),
            ("Example.COM.", "example.com.", b"\x07example\x03com\0"),
            ("*.example", "*.example.", b"\x01*\x07example\0"),
            ("_443._tcp.a", "_443._tcp.a.", b"\x04_443\x04_tcp\x01a\0"),
            (r"a\.b.c", r"a\.b.c.", b"\x03a.b\x01c\0"),
            (r"a\046b.c", r"a\.b.c.", b"\x03a.b\x01c\0"),
            (r"\000\255.c", r"\000\255.c.", b"\x02\x00\xff\x01c\0"),
            (r"\065", "a.", b"\x01a\0"),
            (r"a\032b", r"a\032b.", b"\x03a b\0"),
            (r"\@", r"\@.", b"\x01@\0"),
            (r"\\", r"\\.", b"\x01\\\0"),
            ("Bücher.Example", "xn--bcher-kva.example.", b"\x0dxn--bcher-kva\x07example\0"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah.", b"\x0bxn--r8jz45g\x0axn--zckzah\0"),
            ("straße", "xn--strae-oqa.", b"\x0dxn--strae-oqa\0"),
        ] {
            let parsed = name(text);
            assert_eq!(parsed.to_string(), canonical, "{text}");
            assert_eq!(parsed.as_wire(), wire, "{text}");
            assert_eq!(Name::from_wire(&wire.to_ascii_uppercase()).unwrap(), parsed, "{text}");
        }
    }

    #[test]
    fn bad_presentations() {
        let label_64 = "a".repeat(64);
        let name_256 = [&"a".repeat(63)[..]; 4].join(".");
        for (text, error) in [
            ("", NameError::Empty),
            ("@", NameError::NoOrigin),
            ("..", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (&label_64, NameError::LabelTooLong),
            (&name_256, NameError::NameTooLong),
            ("a\\", NameError::BadEscape),
            ("a\\1", NameError::BadEscape),
            ("a\\12x", NameError::BadEscape),
            ("a\\256", NameError::BadEscape),
            ("a b", NameError::BadCharacter(' ')),
            ("a;b", NameError::BadCharacter(';')),
            ("\"a\"", NameError::BadCharacter('"')),
            ("ü\\.b", NameError::BadIdn("ü\\.b".to_owned())),
            ("\u{200d}", NameError::BadIdn("\u{200d}".to_owned())),
            ("\u{ad}.com", NameError::BadIdn("\u{ad}".to_owned())),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text}");
        }
        for wire in [&b""[..], b"\x01a", b"\x01a\0\0", b"\xc0\x0c", b"\x40a\0", b"\x05a\0"] {
            assert_eq!(Name::from_wire(wire), Err(NameError::BadWire), "{wire:?}");
        }
        // 255 octets are allowed, and one more is not.
        let wire_255 = [&[63; 64][..], &[63; 64], &[63; 64], &[61; 62], &[0]].concat();
        assert!(Name::from_wire(&wire_255).is_ok());
        let longest = Name::from_wire(&wire_255).unwrap().to_string();
        assert_eq!(name(&longest).as_wire(), wire_255);
        assert!(name(&longest).child("a").is_err());
    }

    #[test]
    fn relative_names() {
        let origin = name("example.com");
        for (text, absolute) in [
            ("@", "example.com."),
            ("www", "www.example.com."),
            ("a.b", "a.b.example.com."),
            ("www.", "www."),
            (".", "."),
            (r"\@", r"\@.example.com."),
        ] {
            assert_eq!(Name::parse_relative(text, &origin).unwrap().to_string(), absolute, "{text}");
        }
        assert_eq!(Name::parse_relative("", &origin), Err(NameError::Empty));
    }

    #[test]
    fn unicode_only_where_it_leads_back() {
        for (text, unicode) in [
            ("bücher.example", "bücher.example."),
            ("xn--bcher-kva.example", "bücher.example."),
            ("*.xn--zckzah", "*.テスト."),
            // No A-labels: malformed, or of a letter that is mapped to another.
            ("xn--a", "xn--a."),
            ("xn--abc", "xn--abc."),
            ("xn--", "xn--."),
            (r"a\.b", r"a\.b."),
            (".", "."),
        ] {
            assert_eq!(name(text).to_unicode(), unicode, "{text}");
        }
    }

    #[test]
    fn family() {
        let zone = name("example.com");
        let www = name("www.example.com");
        assert_eq!(www.parent(), Some(zone.clone()));
        assert_eq!(Name::root().parent(), None);
        assert_eq!(name("com").parent(), Some(Name::root()));
        assert_eq!(www.labels().collect::<Vec<_>>(), [&b"www"[..], b"example", b"com"]);
        assert_eq!((www.label_count(), Name::root().label_count()), (3, 0));
        assert_eq!(zone.child("WWW").unwrap(), www);
        assert_eq!(zone.child("a.b").unwrap().to_string(), r"a\.b.example.com.");
        assert_eq!(zone.child(""), Err(NameError::EmptyLabel));
        assert!(name("*.a").is_wildcard() && !name("*a.b").is_wildcard() && !zone.is_wildcard());
        assert!(www.is_below(&zone) && www.is_at_or_below(&zone) && www.is_below(&Name::root()));
        assert!(zone.is_at_or_below(&zone) && !zone.is_below(&zone) && !zone.is_at_or_below(&www));
        assert!(!name("notexample.com").is_at_or_below(&zone));
        // The octets of `example.com` are at the end, but within a label.
        assert!(!Name::from_wire(b"\x0bx\x07example\x03com\0").is_ok_and(|name| name.is_below(&zone)));
        let inside = zone.as_wire()[..zone.as_wire().len() - 1].to_vec();
        let trap = Name::root().child(&inside).unwrap();
        assert!(!trap.is_at_or_below(&zone));
    }

    #[test]
    fn order_of_rfc_4034() {
        let sorted = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            r"\001.z.example",
            "*.z.example",
            r"\200.z.example",
        ]
        .map(name);
        let mut shuffled = sorted.clone();
        shuffled.reverse();
        shuffled.sort();
        assert_eq!(shuffled, sorted);
        assert!(Name::root() < sorted[0]);
    }

    #[test]
    fn serde_and_cbor() {
        let www = name("www.bücher.example");
        let json = serde_json::to_string(&www).unwrap();
        assert_eq!(json, "\"www.xn--bcher-kva.example.\"");
        assert_eq!(serde_json::from_str::<Name>(&json).unwrap(), www);
        assert!(serde_json::from_str::<Name>("\"a..b\"").is_err());
        let cbor = minicbor::to_vec(&www).unwrap();
        assert_eq!(minicbor::decode::<Name>(&cbor).unwrap(), www);
        assert!(minicbor::decode::<Name>(b"\x43\x03ab").is_err());
    }

    proptest! {
        #[test]
        fn text_and_wire(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..12)) {
            let labels: Vec<Vec<u8>> = labels.iter().map(|label| label.to_ascii_lowercase()).collect();
            let mut built = Name::root();
            for label in labels.iter().rev() {
                built = built.child(label).unwrap();
            }
            prop_assert_eq!(&Name::parse(&built.to_string()).unwrap(), &built);
            prop_assert_eq!(&Name::from_wire(built.as_wire()).unwrap(), &built);
            prop_assert_eq!(&Name::parse(&built.to_unicode()).unwrap(), &built);
            prop_assert!(built.labels().eq(labels.iter().map(Vec::as_slice)));
        }

        #[test]
        fn order_is_that_of_reversed_labels(a in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}", b in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}") {
            let (a, b) = (name(&a), name(&b));
            let mut a_labels: Vec<&[u8]> = a.labels().collect();
            let mut b_labels: Vec<&[u8]> = b.labels().collect();
            a_labels.reverse();
            b_labels.reverse();
            prop_assert_eq!(a.cmp(&b), a_labels.cmp(&b_labels));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            if let Ok(parsed) = Name::parse(&text) {
                prop_assert_eq!(Name::parse(&parsed.to_string()).unwrap(), parsed);
            }
        }
    }
}
