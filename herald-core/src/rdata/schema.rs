//! What each type's RDATA is made of: one table, from which text, wire format and messages all follow.

use domain::base::iana::Rtype;

use crate::alias::ALIAS;

/// A field of a type's RDATA.
#[derive(Debug)]
pub(super) struct Field {
    /// The name that the type's RFC gives it.
    pub name: &'static str,
    pub kind: Kind,
}

/// How a field looks in wire and in presentation format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    U16,
    U32,
    /// 32 bits; units are allowed in text (`1h30m`).
    Seconds,
    /// 32 bits; seconds since 1970 or `YYYYMMDDHHmmSS` (RFC 4034 §3.2).
    Timestamp,
    /// 16 bits; a record type.
    RecordType,
    /// 8 bits; a number or a mnemonic of a DNSSEC algorithm (RFC 4034 §A.1).
    Algorithm,
    /// 16 bits; a number or a mnemonic of a certificate type (RFC 4398 §2.1).
    CertType,
    /// 8 bits; a number or a mnemonic of a DSYNC scheme (RFC 9859 §2.1).
    DsyncScheme,
    Ipv4,
    Ipv6,
    Name,
    /// A `<character-string>` (RFC 1035 §3.3).
    CharString,
    /// One or more of them, up to the end.
    CharStrings,
    /// Letters and digits with a length in front (RFC 8659 §4.1).
    Tag,
    /// One string up to the end, without a length.
    Octets {
        may_be_empty: bool,
    },
    /// Hexadecimal digits up to the end, at least one octet.
    Hex,
    /// Base 64 up to the end.
    Base64 {
        may_be_empty: bool,
    },
    /// Hexadecimal digits with a length in front, or `-` for none (RFC 5155 §3.3).
    Salt,
    /// Base 32 with extended hex alphabet, with a length in front (RFC 5155 §3.3).
    Base32,
    /// A type bit map up to the end (RFC 4034 §4.1.2).
    TypeBitmap,
    /// What the gateway type in the second octet says (RFC 4025 §2.5).
    IpsecGateway,
    /// So many octets in hexadecimal with hyphens (RFC 7043 §3.2).
    Eui {
        bytes: usize,
    },
    /// 64 bits as four groups of hexadecimal digits (RFC 6742 §2.1.2).
    Id64,
    /// All of a LOC (RFC 1876).
    Location,
    /// The parameters of a service binding, up to the end (RFC 9460 §2.2).
    SvcParams,
}

/// The fields of a type, unless it is one of which only RFC 3597 can speak.
pub(super) fn fields(rtype: Rtype) -> Option<&'static [Field]> {
    macro_rules! fields {
        ($($name:literal: $kind:expr),+) => {{
            const FIELDS: &[Field] = &[$(Field { name: $name, kind: $kind }),+];
            FIELDS
        }};
    }
    use Kind::*;

    Some(match rtype {
        Rtype::A => fields!("address": Ipv4),
        Rtype::AAAA => fields!("address": Ipv6),
        Rtype::NS => fields!("name server": Name),
        Rtype::CNAME | Rtype::DNAME => fields!("target": Name),
        ALIAS => fields!("target": Name),
        Rtype::PTR => fields!("host": Name),
        Rtype::MB | Rtype::MD | Rtype::MF => fields!("host": Name),
        Rtype::MG | Rtype::MR => fields!("mailbox": Name),
        Rtype::MINFO => fields!("rmailbx": Name, "emailbx": Name),
        Rtype::SOA => fields!(
            "mname": Name, "rname": Name, "serial": U32,
            "refresh": Seconds, "retry": Seconds, "expire": Seconds, "minimum": Seconds
        ),
        Rtype::MX => fields!("preference": U16, "exchange": Name),
        Rtype::TXT | Rtype::SPF | Rtype::AVC | Rtype::NINFO | Rtype::RESINFO | Rtype::WALLET => {
            fields!("text": CharStrings)
        }
        Rtype::HINFO => fields!("CPU": CharString, "OS": CharString),
        Rtype::RP => fields!("mailbox": Name, "text name": Name),
        Rtype::AFSDB => fields!("subtype": U16, "host": Name),
        Rtype::RT => fields!("preference": U16, "intermediate host": Name),
        Rtype::KX => fields!("preference": U16, "exchanger": Name),
        Rtype::PX => fields!("preference": U16, "map822": Name, "mapx400": Name),
        Rtype::X25 => fields!("PSDN address": CharString),
        Rtype::LOC => fields!("location": Location),
        Rtype::SRV => fields!("priority": U16, "weight": U16, "port": U16, "target": Name),
        Rtype::NAPTR => fields!(
            "order": U16, "preference": U16, "flags": CharString,
            "services": CharString, "regexp": CharString, "replacement": Name
        ),
        Rtype::CERT => fields!(
            "type": CertType, "key tag": U16, "algorithm": Algorithm,
            "certificate": Base64 { may_be_empty: false }
        ),
        Rtype::DS | Rtype::CDS | Rtype::DLV | Rtype::TA => {
            fields!("key tag": U16, "algorithm": Algorithm, "digest type": U8, "digest": Hex)
        }
        Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::KEY => fields!(
            "flags": U16, "protocol": U8, "algorithm": Algorithm,
            "public key": Base64 { may_be_empty: false }
        ),
        Rtype::SSHFP => fields!("algorithm": U8, "fingerprint type": U8, "fingerprint": Hex),
        Rtype::TLSA | Rtype::SMIMEA => fields!(
            "certificate usage": U8, "selector": U8, "matching type": U8,
            "certificate association data": Hex
        ),
        Rtype::IPSECKEY => fields!(
            "precedence": U8, "gateway type": U8, "algorithm": U8,
            "gateway": IpsecGateway, "public key": Base64 { may_be_empty: true }
        ),
        Rtype::DHCID => fields!("digest": Base64 { may_be_empty: false }),
        Rtype::OPENPGPKEY => fields!("public key": Base64 { may_be_empty: false }),
        Rtype::CSYNC => fields!("SOA serial": U32, "flags": U16, "types": TypeBitmap),
        Rtype::ZONEMD => fields!("serial": U32, "scheme": U8, "hash algorithm": U8, "digest": Hex),
        Rtype::DSYNC => fields!("type": RecordType, "scheme": DsyncScheme, "port": U16, "target": Name),
        Rtype::SVCB | Rtype::HTTPS => {
            fields!("priority": U16, "target": Name, "parameters": SvcParams)
        }
        Rtype::NID => fields!("preference": U16, "node ID": Id64),
        Rtype::L32 => fields!("preference": U16, "locator": Ipv4),
        Rtype::L64 => fields!("preference": U16, "locator": Id64),
        Rtype::LP => fields!("preference": U16, "FQDN": Name),
        Rtype::EUI48 => fields!("address": Eui { bytes: 6 }),
        Rtype::EUI64 => fields!("address": Eui { bytes: 8 }),
        Rtype::URI => {
            fields!("priority": U16, "weight": U16, "target": Octets { may_be_empty: false })
        }
        Rtype::CAA => fields!("flags": U8, "tag": Tag, "value": Octets { may_be_empty: true }),
        Rtype::RRSIG => fields!(
            "type covered": RecordType, "algorithm": Algorithm, "labels": U8, "original TTL": U32,
            "expiration": Timestamp, "inception": Timestamp, "key tag": U16, "signer": Name,
            "signature": Base64 { may_be_empty: false }
        ),
        Rtype::NSEC => fields!("next name": Name, "types": TypeBitmap),
        Rtype::NSEC3 => fields!(
            "hash algorithm": U8, "flags": U8, "iterations": U16, "salt": Salt,
            "next hashed owner": Base32, "types": TypeBitmap
        ),
        Rtype::NSEC3PARAM => {
            fields!("hash algorithm": U8, "flags": U8, "iterations": U16, "salt": Salt)
        }
        _ => return None,
    })
}
