//! How zones and RRsets are laid out in rows.
//!
//! An RRset's key is its owner's labels below the apex, rightmost first, and its type. Compared octet by octet such keys
//! are in canonical order (RFC 4034 §6.1), in which whole zones come, so that rows are appended and not
//! inserted all over the table. Octets 0 and 1 of a label are escaped, 0 ends one, and an empty one ends the owner:
//!
//! ```text
//! www.a.example.com. A in example.com.   61 00 | 77 77 77 00 | 00 | 00 01
//! ```

use herald_core::name::MAX_LABEL_BYTES;
use herald_core::steering::{OVERLAY, is_steering_type};
use herald_core::{Generation, Name, RrKey, Rrset, Rtype, ZoneId, digest128};

/// Ends a label, and after the last one the owner. Lower than all that is in a label, so that a name comes before
/// those below it.
const LABEL_END: u8 = 0;

/// Comes before an octet 0 or 1 of a label, which is then one higher.
const ESCAPE: u8 = 1;

/// A zone of the replica, without its RRsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRow {
    /// Its identity.
    pub id: ZoneId,
    /// Its apex.
    pub name: Name,
    /// Whether it is private.
    pub is_private: bool,
    /// What the replica has of it.
    pub generation: Generation,
    /// The wrapping sum of its RRsets' digests, the SOA's included.
    pub digest: u128,
    /// The serial in its SOA.
    pub serial: u32,
    /// RRsets.
    pub rrset_count: u64,
    /// Records.
    pub record_count: u64,
    /// What of it is steering.
    pub steering: SteeringRow,
    /// The number under which its RRsets are kept; another one with each whole zone that comes.
    pub(super) content: i64,
}

/// What there is one of at a PoP: whatever is done to it is done in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// What knotd serves to everybody under this name.
    Public(Name),
    /// A private zone, of this name. Others may have the name too, a public one among them, and knotd has none of them: the module
    /// alone does.
    Private(ZoneId, Name),
}

impl Target {
    /// Its name in knotd, if it is for knotd.
    pub fn public_name(&self) -> Option<&Name> {
        match self {
            Target::Public(name) => Some(name),
            Target::Private(..) => None,
        }
    }
}

impl From<Name> for Target {
    /// What everybody gets under this name.
    fn from(name: Name) -> Target {
        Target::Public(name)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Public(name) => name.fmt(f),
            Target::Private(zone, name) => write!(f, "{name} (private, {zone})"),
        }
    }
}

/// What the module in knotd has to have of a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteeringRow {
    /// RRsets of steering types; none of what follows means anything without any.
    pub rrset_count: u64,
    /// Those of them that are overlays of views: with any, all records are for the module, too.
    pub overlay_count: u64,
    /// The generation at which what is for the module last changed.
    pub generation: Generation,
}

impl SteeringRow {
    /// The generation that the module has to have; none if the zone is none of its.
    pub fn expected(&self) -> Option<Generation> {
        (self.rrset_count > 0).then_some(self.generation)
    }

    /// Whether all records are for the module since there are overlays.
    pub fn with_records(&self) -> bool {
        self.overlay_count > 0
    }

    /// Counts an RRset of this type in, or out.
    pub(super) fn count(&mut self, rtype: Rtype, change: i64) {
        let count = |of: u64| of.wrapping_add_signed(change);
        if is_steering_type(rtype) {
            self.rrset_count = count(self.rrset_count);
        }
        if rtype == OVERLAY {
            self.overlay_count = count(self.overlay_count);
        }
    }
}

impl ZoneRow {
    /// What it is at this PoP.
    pub fn target(&self) -> Target {
        match self.is_private {
            true => Target::Private(self.id, self.name.clone()),
            false => Target::Public(self.name.clone()),
        }
    }

    /// Whether all records are for the module.
    pub fn with_records(&self) -> bool {
        self.is_private || self.steering.with_records()
    }

    /// Covers all columns, so that a flipped bit in any of them is noticed.
    pub(super) fn sum(&self) -> i64 {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&self.id.0.to_be_bytes());
        bytes.extend_from_slice(&self.generation.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.generation.counter.to_be_bytes());
        bytes.extend_from_slice(&self.digest.to_be_bytes());
        bytes.extend_from_slice(&self.serial.to_be_bytes());
        bytes.extend_from_slice(&self.rrset_count.to_be_bytes());
        bytes.extend_from_slice(&self.record_count.to_be_bytes());
        bytes.extend_from_slice(&self.content.to_be_bytes());
        bytes.extend_from_slice(self.name.as_wire());
        if self.is_private {
            bytes.push(1);
        }
        // Rows of zones without steering are as they were before there was any.
        if self.steering != SteeringRow::default() {
            let SteeringRow { rrset_count, overlay_count, generation } = self.steering;
            for number in [rrset_count, overlay_count, generation.epoch, generation.counter] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        sum(&bytes)
    }
}

/// The column `name`, which has no two equal ones: the name of a private zone has the zone's id behind it. What doesn't know of private
/// zones finds no name in it, and takes the row for damaged.
pub(super) fn name_column(target: &Target) -> Vec<u8> {
    match target {
        Target::Public(name) => name.as_wire().to_vec(),
        Target::Private(zone, name) => [name.as_wire(), &zone.0.to_be_bytes()].concat(),
    }
}

/// Reads [`name_column`] of this zone; none if it is none.
pub(super) fn parse_name_column(zone: ZoneId, column: &[u8]) -> Option<Target> {
    if let Ok(name) = Name::from_wire(column) {
        return Some(Target::Public(name));
    }
    let name = column.strip_suffix(&zone.0.to_be_bytes())?;
    Name::from_wire(name).ok().map(|name| Target::Private(zone, name))
}

/// A checksum as SQLite's signed integer: the upper half of the content digest.
pub(super) fn sum(bytes: &[u8]) -> i64 {
    ((digest128(bytes) >> 64) as u64).cast_signed()
}

/// The key of an RRset's row; none if the owner isn't in the zone.
pub(super) fn row_key(apex: &Name, key: &RrKey) -> Option<Vec<u8>> {
    if !key.owner.is_at_or_below(apex) {
        return None;
    }
    let below_bytes = key.owner.as_wire().len() - apex.as_wire().len();
    let mut labels: Vec<&[u8]> = Vec::new();
    let mut bytes = 0;
    for label in key.owner.labels() {
        if bytes == below_bytes {
            break;
        }
        bytes += 1 + label.len();
        labels.push(label);
    }
    let mut row_key = Vec::with_capacity(below_bytes + 3);
    for label in labels.iter().rev() {
        for &octet in *label {
            match octet {
                0 | 1 => row_key.extend_from_slice(&[ESCAPE, octet + 1]),
                _ => row_key.push(octet),
            }
        }
        row_key.push(LABEL_END);
    }
    row_key.push(LABEL_END);
    row_key.extend_from_slice(&key.rtype.to_int().to_be_bytes());
    Some(row_key)
}

/// The RRset's owner and type; none if the octets are no such key.
pub(super) fn parse_row_key(apex: &Name, row_key: &[u8]) -> Option<RrKey> {
    let (owner, rtype) = row_key.split_last_chunk::<2>()?;
    let (_, labels) = owner.split_last().filter(|(end, _)| **end == LABEL_END)?;
    let rtype = Rtype::from_int(u16::from_be_bytes(*rtype));
    if labels.is_empty() {
        return Some(RrKey::new(apex.clone(), rtype));
    }
    // Written from the back, as the labels come rightmost first; they are no shorter in the key.
    let mut wire = vec![0; labels.len() + apex.as_wire().len()];
    let mut start = labels.len();
    wire[start..].copy_from_slice(apex.as_wire());
    let mut label = Vec::with_capacity(MAX_LABEL_BYTES);
    let mut octets = labels.iter();
    while !octets.as_slice().is_empty() {
        label.clear();
        loop {
            match *octets.next()? {
                LABEL_END => break,
                ESCAPE => label.push(octets.next()?.checked_sub(1)?),
                octet => label.push(octet),
            }
        }
        if label.is_empty() {
            return None;
        }
        start = start.checked_sub(1 + label.len())?;
        wire[start] = u8::try_from(label.len()).ok()?;
        wire[start + 1..][..label.len()].copy_from_slice(&label);
    }
    Some(RrKey::new(Name::from_wire(&wire[start..]).ok()?, rtype))
}

/// The TTL and RDATA of an RRset, in CBOR.
pub(super) fn row_value(rrset: &Rrset) -> Vec<u8> {
    minicbor::to_vec(rrset).expect("writing to a Vec can't fail")
}

/// Reads [`row_value`]; none if it is none.
pub(super) fn parse_row_value(value: &[u8]) -> Option<Rrset> {
    minicbor::decode(value).ok()
}

/// The serial of a SOA RRset (RFC 1035 §3.3.13): the fifth number from the end.
pub(crate) fn soa_serial(soa: &Rrset) -> Option<u32> {
    let rdata = soa.rdatas.iter().next()?;
    let tail = rdata.get(rdata.len().checked_sub(20)?..)?;
    Some(u32::from_be_bytes(*tail.first_chunk()?))
}

/// The SOA RRset with another serial.
pub(super) fn with_serial(soa: &Rrset, serial: u32) -> Option<Rrset> {
    let mut rdata = soa.rdatas.iter().next()?.to_vec();
    let start = rdata.len().checked_sub(20)?;
    rdata[start..start + 4].copy_from_slice(&serial.to_be_bytes());
    Some(Rrset { ttl: soa.ttl, rdatas: herald_core::Rdatas::single(&rdata) })
}
