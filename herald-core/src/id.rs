//! Identities, and the generation of what is published.
//!
//! An id is a letter that says of what, and 26 digits of Crockford's base 32: 128 bits, of which the first 48
//! are the time of creation in milliseconds and the rest is random. It is never used again, can't be
//! guessed, and sorts by age.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

macro_rules! id {
    ($name:ident, $letter:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id($letter, self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse_id($letter, text).map($name)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                context: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                cbor_u128::encode(&self.0, e, context)
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                context: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                cbor_u128::decode(d, context).map($name)
            }
        }
    };
}

id!(ZoneId, b'z', "Identity of a zone. Its name, and later its view, are attributes.");
id!(TenantId, b't', "Identity of a tenant.");
id!(TokenId, b'k', "Identity of an API token.");
id!(PopId, b'p', "Identity of a PoP.");
id!(NsSetId, b'n', "Identity of a set of name servers.");
id!(ChannelId, b'h', "Identity of a notification channel.");

/// The text is not an id of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub struct NotAnId;

/// Crockford's base 32 in lower case: no i, l, o, u.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Digits of an id after its letter: 26 of 5 bits hold 128.
const ID_DIGITS: usize = 26;

fn write_id(letter: u8, id: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [letter; 1 + ID_DIGITS];
    for (i, digit) in text[1..].iter_mut().enumerate() {
        let shift = 5 * (ID_DIGITS - 1 - i);
        *digit = DIGITS[(id >> shift) as usize & 31];
    }
    f.pad(std::str::from_utf8(&text).expect("ASCII"))
}

fn parse_id(letter: u8, text: &str) -> Result<u128, NotAnId> {
    let bytes = text.as_bytes();
    if bytes.len() != 1 + ID_DIGITS || bytes[0] != letter || bytes[1] > b'7' {
        return Err(NotAnId);
    }
    bytes[1..].iter().try_fold(0u128, |id, byte| {
        let digit = DIGITS.iter().position(|d| d == byte).ok_or(NotAnId)?;
        Ok(id << 5 | digit as u128)
    })
}

/// When a zone's published content was last changed: the leader's epoch and its log revision then.
///
/// The epoch rises with every new leader and every restore, so that a generation is never made twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Generation {
    /// Number of the leader's term.
    #[n(0)]
    pub epoch: u64,
    /// Revision of the log.
    #[n(1)]
    pub counter: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

/// 128-bit numbers in CBOR: a byte string of 16, big endian. For `#[cbor(with)]`.
pub mod cbor_u128 {
    use minicbor::encode::{Error, Write};
    use minicbor::{Decoder, Encoder};

    /// Writes the number.
    pub fn encode<C, W: Write>(n: &u128, e: &mut Encoder<W>, _: &mut C) -> Result<(), Error<W::Error>> {
        e.bytes(&n.to_be_bytes())?.ok()
    }

    /// Reads the number.
    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u128, minicbor::decode::Error> {
        let bytes: [u8; 16] = d
            .bytes()?
            .try_into()
            .map_err(|_| minicbor::decode::Error::message("a 128-bit number has 16 bytes"))?;
        Ok(u128::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_of_another_kind_or_length_is_none() {
        let zone = ZoneId(7).to_string();
        assert_eq!(zone, "z00000000000000000000000007");
        for wrong in ["", "z", "z7", &zone[1..], &zone.replace('z', "t"), "z80000000000000000000000000"] {
            assert_eq!(wrong.parse::<ZoneId>(), Err(NotAnId), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn ids_round_trip_and_sort_as_text(a: u128, b: u128) {
            let (x, y) = (ZoneId(a), ZoneId(b));
            prop_assert_eq!(x.to_string().parse(), Ok(x));
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
            let bytes = minicbor::to_vec(x).unwrap();
            prop_assert_eq!(minicbor::decode::<ZoneId>(&bytes).unwrap(), x);
        }
    }
}
