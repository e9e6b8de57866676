//! A zone as the module gets it: its steering, and all records if insiders of a view are answered from there.

use herald_core::steering::is_steering_type;
use herald_core::{Generation, Name, Rdatas, RrKey, Rrset, Rtype, ZoneId};
use steering::link::{ToModule, ZoneHead, encode_frame};

use crate::replica::{ZoneRow, soa_serial};

/// A part of a zone has no more bytes than about this, or one RRset.
const PART_BYTES: usize = 256 * 1024;

/// A whole zone, as frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeZone {
    /// The zone.
    pub zone: ZoneId,
    /// The generation at which what is in here last changed.
    pub generation: Generation,
    /// How many RRsets of steering types there are.
    pub steering_rrsets: u64,
    /// From its begin to its end.
    pub frames: Vec<u8>,
}

impl WholeZone {
    /// A private zone that nobody is inside of any more.
    pub fn without_insiders(zone: ZoneId, name: Name, generation: Generation) -> WholeZone {
        let soa = Rrset { ttl: 0, rdatas: Rdatas::single(&[]) };
        WholeZone::new(ZoneHead { zone, name, generation, serial: 0, private: true, soa }, 0, &[])
    }

    fn new(head: ZoneHead, steering_rrsets: u64, parts: &[u8]) -> WholeZone {
        let (zone, generation) = (head.zone, head.generation);
        let mut frames = Vec::with_capacity(parts.len() + 256);
        encode_frame(&ToModule::Begin(head), &mut frames);
        frames.extend_from_slice(parts);
        encode_frame(&ToModule::End { zone }, &mut frames);
        WholeZone { zone, generation, steering_rrsets, frames }
    }
}

/// Which zone it is that is gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The zone.
    pub zone: ZoneId,
    /// Its apex.
    pub name: Name,
    /// The generation at which what is for the module last changed.
    pub generation: Generation,
    /// Whether it is private.
    pub is_private: bool,
    /// Whether all records are for the module.
    pub with_records: bool,
}

impl From<&ZoneRow> for About {
    fn from(row: &ZoneRow) -> About {
        About {
            zone: row.id,
            name: row.name.clone(),
            generation: row.steering.expected().unwrap_or(row.generation),
            is_private: row.is_private,
            with_records: row.with_records(),
        }
    }
}

/// Gathers a zone's RRsets for the module while they are written for knotd.
#[derive(Debug)]
pub struct Gatherer {
    zone: ZoneId,
    name: Name,
    generation: Generation,
    is_private: bool,
    with_records: bool,
    soa: Option<Rrset>,
    steering_rrsets: u64,
    part: Vec<(RrKey, Rrset)>,
    part_bytes: usize,
    parts: Vec<u8>,
}

impl Gatherer {
    /// For this zone.
    pub fn new(about: About) -> Gatherer {
        let About { zone, name, generation, is_private, with_records } = about;
        Gatherer {
            zone,
            name,
            generation,
            is_private,
            with_records,
            soa: None,
            steering_rrsets: 0,
            part: Vec::new(),
            part_bytes: 0,
            parts: Vec::new(),
        }
    }

    /// Takes an RRset of the zone, if it is for the module.
    pub fn rrset(&mut self, owner: &Name, rtype: Rtype, rrset: &Rrset) {
        if rtype == Rtype::SOA && *owner == self.name {
            self.soa = Some(rrset.clone());
        }
        let is_steering = is_steering_type(rtype);
        self.steering_rrsets += u64::from(is_steering);
        if !is_steering && !self.with_records {
            return;
        }
        let bytes = about_bytes(owner, Some(rrset));
        if self.part_bytes + bytes > PART_BYTES {
            self.end_part();
        }
        self.part_bytes += bytes;
        self.part.push((RrKey::new(owner.clone(), rtype), rrset.clone()));
    }

    fn end_part(&mut self) {
        if !self.part.is_empty() {
            let rrsets = std::mem::take(&mut self.part);
            self.part_bytes = 0;
            encode_frame(&ToModule::Part { zone: self.zone, rrsets }, &mut self.parts);
        }
    }

    /// The zone, once all of its RRsets were taken; none if it has no SOA.
    pub fn finish(mut self) -> Option<WholeZone> {
        self.end_part();
        let soa = self.soa?;
        let head = ZoneHead {
            zone: self.zone,
            name: self.name,
            generation: self.generation,
            serial: soa_serial(&soa)?,
            private: self.is_private,
            soa,
        };
        Some(WholeZone::new(head, self.steering_rrsets, &self.parts))
    }
}

/// About how many bytes an RRset takes in a message.
pub(super) fn about_bytes(owner: &Name, rrset: Option<&Rrset>) -> usize {
    let rdata_bytes = rrset.map_or(0, |rrset| rrset.rdatas.iter().map(|rdata| rdata.len() + 8).sum());
    owner.as_wire().len() + 32 + rdata_bytes
}
