//! The RDATA of SOA as a value: it is the one record the platform itself makes.

use domain::base::iana::Rtype;

use super::{RdataError, check_rdata};
use crate::name::{Name, wire_name_bytes};

/// The start of authority of a zone (RFC 1035 §3.3.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    /// The primary name server.
    pub mname: Name,
    /// The mailbox of who is responsible, its `@` as the first dot.
    pub rname: Name,
    /// The version of the zone.
    pub serial: u32,
    /// How often secondaries look for a new serial.
    pub refresh_s: u32,
    /// How soon they look again when that failed.
    pub retry_s: u32,
    /// After how long without an answer they stop serving the zone.
    pub expire_s: u32,
    /// How long resolvers may keep that something does not exist (RFC 2308 §4).
    pub minimum_s: u32,
}

impl Soa {
    /// Reads uncompressed wire format.
    pub fn from_rdata(rdata: &[u8]) -> Result<Soa, RdataError> {
        check_rdata(Rtype::SOA, rdata)?;
        let mname_bytes = wire_name_bytes(rdata).expect("a checked name");
        let (mname, rest) = rdata.split_at(mname_bytes);
        let (rname, numbers) = rest.split_at(wire_name_bytes(rest).expect("a checked name"));
        let name = |wire: &[u8]| Name::from_wire(wire).expect("a checked name");
        let number = |index: usize| {
            u32::from_be_bytes(numbers[4 * index..4 * index + 4].try_into().expect("four octets"))
        };
        Ok(Soa {
            mname: name(mname),
            rname: name(rname),
            serial: number(0),
            refresh_s: number(1),
            retry_s: number(2),
            expire_s: number(3),
            minimum_s: number(4),
        })
    }

    /// Writes uncompressed wire format.
    pub fn to_rdata(&self) -> Vec<u8> {
        let mut rdata = [self.mname.as_wire(), self.rname.as_wire()].concat();
        for number in [self.serial, self.refresh_s, self.retry_s, self.expire_s, self.minimum_s] {
            rdata.extend(number.to_be_bytes());
        }
        rdata
    }
}
