//! The answer under construction, as the hooks see it.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::abi::{self, Packet, RdataSet, RrsetView};

/// The answer to a query that runs.
#[derive(Debug)]
pub struct Answer<'q> {
    packet: NonNull<Packet>,
    running: PhantomData<&'q mut ()>,
}

/// A section of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answers.
    Answer,
    /// The zone's SOA, delegations.
    Authority,
    /// Addresses of names in the others.
    Additional,
}

impl Section {
    /// Its place in the packet, and where in the header its records are counted.
    #[inline]
    fn place(self) -> (usize, usize) {
        match self {
            Section::Answer => (abi::ANSWER as usize, 6),
            Section::Authority => (abi::AUTHORITY as usize, 8),
            Section::Additional => (abi::ADDITIONAL as usize, 10),
        }
    }
}

/// An RRset that is to be replaced.
#[derive(Clone, Copy, Debug)]
pub struct Marked<'a> {
    /// Its owner, in wire format and small letters.
    pub owner: &'a [u8],
    /// Its type.
    pub rtype: u16,
}

/// What comes into the place of a marked RRset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody knows: the answer fails.
    Unknown,
    /// Nothing.
    Nothing,
    /// An RRset of the same owner and type, whose RDATAs were written to the octets given, in knotd's form.
    Rrset {
        /// Its TTL, in seconds.
        ttl: u32,
        /// How many RDATAs.
        count: u16,
    },
}

/// What became of the marked RRsets of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Each has what was said in its place.
    All,
    /// As above, but the last one had nothing.
    LastIsNothing,
    /// There was no room, and the answer says so: it is truncated.
    Truncated,
    /// There was no room where there must be, or nobody knew: none of the answer may be sent.
    Failed,
}

/// The type of signatures. Those of marked RRsets are dropped.
const RRSIG: u16 = 46;

/// The type of aliases.
const CNAME: u16 = 5;

/// RDATAs one after another in knotd's form: each its length in the machine's order, its octets, and a filling octet if they are odd.
#[derive(Clone, Copy, Debug)]
pub struct Rdatas<'a>(pub &'a [u8]);

impl<'a> Iterator for Rdatas<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let (rdata, rest) = rest.split_at_checked(length)?;
        self.0 = rest.get(length & 1..).unwrap_or_default();
        Some(rdata)
    }
}

impl<'q> Answer<'q> {
    /// # Safety
    /// In a hook, with what knotd gave to it, and not beyond.
    #[inline]
    pub(super) unsafe fn new(packet: *mut Packet) -> Option<Answer<'q>> {
        NonNull::new(packet).map(|packet| Answer { packet, running: PhantomData })
    }

    #[inline]
    fn packet(&self) -> &Packet {
        // SAFETY: knotd keeps it for as long as the hook runs, and nobody else has it meanwhile.
        unsafe { self.packet.as_ref() }
    }

    #[inline]
    fn packet_mut(&mut self) -> &mut Packet {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { self.packet.as_mut() }
    }

    /// The RRsets of the packet.
    #[inline]
    fn rrsets(&self) -> &[RrsetView] {
        let packet = self.packet();
        if packet.rr.is_null() {
            return &[];
        }
        // SAFETY: `rr` has at least `rrset_count` elements.
        unsafe { std::slice::from_raw_parts(packet.rr, usize::from(packet.rrset_count)) }
    }

    /// Where the section's RRsets are among those of the packet.
    #[inline]
    fn bounds(&self, section: Section) -> (usize, usize) {
        let section = &self.packet().sections[section.place().0];
        let first = usize::from(section.pos);
        (first, first + usize::from(section.count))
    }

    /// Whether there are RRsets at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packet().rrset_count == 0
    }

    /// Whether an RRset of any section has this TTL.
    pub fn has_marked(&self, ttl: u32) -> bool {
        self.rrsets().iter().any(|rrset| rrset.ttl == ttl)
    }

    /// Whether there is one RRset alone.
    pub fn is_single(&self) -> bool {
        self.packet().rrset_count == 1
    }

    /// How many octets it has.
    pub fn bytes(&self) -> u32 {
        u32::try_from(self.packet().size).unwrap_or(u32::MAX)
    }

    /// Whether it says that it is truncated.
    #[inline]
    pub fn is_truncated(&self) -> bool {
        // SAFETY: the wire has a header at least.
        unsafe { *self.packet().wire.add(2) & 0x02 != 0 }
    }

    /// Says that it is authoritative.
    pub fn set_authoritative(&mut self) {
        // SAFETY: the wire has a header at least, and `self` is borrowed alone.
        unsafe { *self.packet().wire.add(2) |= 0x04 };
    }

    /// Says that it is truncated.
    pub fn set_truncated(&mut self) {
        // SAFETY: the wire has a header at least, and `self` is borrowed alone.
        unsafe { *self.packet().wire.add(2) |= 0x02 };
    }

    /// Goes on to a section. One that was passed is not gone back to.
    pub fn begin(&mut self, section: Section) {
        // SAFETY: the packet is knotd's, and the section exists; that it isn't one before the current one is checked there.
        unsafe { abi::knot_pkt_begin(self.packet.as_ptr(), section.place().0 as i32) };
    }

    /// Gives back so many octets that were reserved for the OPT record.
    pub(super) fn reclaim(&mut self, bytes: u16) {
        let packet = self.packet_mut();
        packet.reserved = packet.reserved.saturating_sub(bytes);
    }

    /// Octets of the query's own memory, which goes when it is answered.
    fn allocate(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let memory = &self.packet().mm;
        // SAFETY: knotd's function for this memory, which gives null or so many octets until the query is answered.
        NonNull::new(memory.alloc?(memory.ctx, bytes.max(1)).cast())
    }

    /// A copy in the query's memory.
    pub(super) fn copy(&mut self, octets: &[u8]) -> Option<*mut u8> {
        let copy = self.allocate(octets.len())?.as_ptr();
        // SAFETY: it was just allocated with that length.
        unsafe { std::ptr::copy_nonoverlapping(octets.as_ptr(), copy, octets.len()) };
        Some(copy)
    }

    /// RDATAs, in knotd's form already, in the query's memory.
    fn rdata_set(&mut self, count: u16, octets: &[u8]) -> Option<RdataSet> {
        let size = u32::try_from(octets.len()).ok()?;
        Some(RdataSet { count, size, rdata: self.copy(octets)? })
    }

    /// Puts an RRset into the current section: so many RDATAs in knotd's form, whole. False if there is no room; the answer then says that
    /// it is truncated, if `truncates`. `owner` is none for the name asked for, in the spelling of the query.
    pub fn put(
        &mut self,
        owner: Option<&[u8]>,
        rtype: u16,
        ttl: u32,
        rdatas: Rdatas<'_>,
        truncates: bool,
    ) -> bool {
        let count = rdatas.count();
        let Some(rrs) = u16::try_from(count).ok().and_then(|count| self.rdata_set(count, rdatas.0)) else {
            return false;
        };
        let (owner, hint) = match owner {
            Some(owner) => {
                let Some(copy) = self.copy(owner) else { return false };
                (copy, abi::HINT_NONE)
            }
            None => (self.packet_mut().lower_qname.as_mut_ptr(), abi::HINT_QNAME),
        };
        let rrset = RrsetView { owner, ttl, rtype, class: 1, rrs, additional: std::ptr::null_mut() };
        self.put_rrset(&rrset, hint as u16, if truncates { 0 } else { abi::PF_NOTRUNC as u16 })
    }

    pub(super) fn put_rrset(&mut self, rrset: &RrsetView, hint: u16, flags: u16) -> bool {
        // SAFETY: the packet is knotd's, and what the RRset points to lives as long as the query.
        unsafe { abi::knot_pkt_put_rotate(self.packet.as_ptr(), hint, rrset, 0, flags) == abi::OK }
    }

    /// Replaces the RRsets of the section, which is the current one, that have this TTL: from `first` on, the place of the first such one.
    ///
    /// What comes after an alias that is replaced is left out: it belongs to what was there.
    pub fn replace_marked(
        &mut self,
        section: Section,
        ttl: u32,
        first: usize,
        octets: &mut Vec<u8>,
        mut decide: impl FnMut(Marked<'_>, &mut Vec<u8>) -> Fate,
    ) -> Replaced {
        let end = self.bounds(section).1;
        if first + 1 == end && end == self.rrsets().len() {
            let marked = self.marked(first);
            if !has_compressed_rdata(marked.rtype) && marked.rtype != RRSIG {
                octets.clear();
                let fate = decide(marked, octets);
                return self.rewrite_last(section, first, fate, octets);
            }
        }
        self.replace_from(section, ttl, first, end, octets, &mut decide)
    }

    /// The RRset at this place.
    fn marked(&self, place: usize) -> Marked<'_> {
        let rrset = &self.rrsets()[place];
        // SAFETY: owners are names in wire format without compression, which end with an octet of zero.
        let owner = unsafe { name_of(rrset.owner) };
        Marked { owner, rtype: rrset.rtype }
    }

    /// Takes the RRsets of the section from this place on out of the message. Their descriptions stay until they are written over.
    fn rewind(&mut self, section: Section, place: usize, end: usize) {
        let removed: u16 = self.rrsets()[place..end].iter().map(|rrset| rrset.rrs.count).sum();
        let (index, counter) = section.place();
        let count = self.section_count(counter).saturating_sub(removed);
        self.set_section_count(counter, count);
        let packet = self.packet_mut();
        // SAFETY: `rr_info` has an element for each of `rr`.
        packet.size = usize::from(unsafe { (*packet.rr_info.add(place)).pos });
        packet.rrset_count = place as u16;
        packet.sections[index].count = place as u16 - packet.sections[index].pos;
        // A suffix that was written after this place is gone: knotd begins anew with the name of the question.
        packet.compr.suffix_pos = 0;
        packet.compr.rrinfo = std::ptr::null_mut();
    }

    #[inline]
    fn section_count(&self, counter: usize) -> u16 {
        // SAFETY: the wire has a header at least.
        unsafe {
            u16::from_be_bytes([*self.packet().wire.add(counter), *self.packet().wire.add(counter + 1)])
        }
    }

    #[inline]
    fn set_section_count(&mut self, counter: usize, count: u16) {
        let [high, low] = count.to_be_bytes();
        // SAFETY: the wire has a header at least, and `self` is borrowed alone.
        unsafe {
            *self.packet().wire.add(counter) = high;
            *self.packet().wire.add(counter + 1) = low;
        }
    }

    fn replace_from(
        &mut self,
        section: Section,
        ttl: u32,
        first: usize,
        end: usize,
        octets: &mut Vec<u8>,
        decide: &mut impl FnMut(Marked<'_>, &mut Vec<u8>) -> Fate,
    ) -> Replaced {
        let kept_bytes = {
            // SAFETY: `rr_info` has an element for each RRset.
            unsafe { (*self.packet().rr_info.add(first)).pos }
        };
        self.rewind(section, first, end);
        let mut replaced = Replaced::All;
        for place in first..end {
            // SAFETY: these two have at least `end` elements. At most one RRset is put for each that is read, so that none is written
            // over before it was read.
            let (mut rrset, info) =
                unsafe { (*self.packet().rr.add(place), *self.packet().rr_info.add(place)) };
            // Names that were written after this place are gone.
            let hint = if info.compress_ptr[0] < kept_bytes { info.compress_ptr[0] } else { 0 };
            let mut flags = info.flags;
            let is_marked = rrset.ttl == ttl;
            if is_marked {
                if rrset.rtype == RRSIG {
                    continue;
                }
                // SAFETY: as in `marked`.
                let owner = unsafe { name_of(rrset.owner) };
                octets.clear();
                match decide(Marked { owner, rtype: rrset.rtype }, octets) {
                    Fate::Unknown => return Replaced::Failed,
                    Fate::Nothing => {
                        replaced = Replaced::LastIsNothing;
                        if rrset.rtype == CNAME {
                            break;
                        }
                        continue;
                    }
                    Fate::Rrset { ttl, count } => {
                        let Some(rrs) = self.rdata_set(count, octets) else { return Replaced::Failed };
                        rrset.ttl = ttl;
                        rrset.rrs = rrs;
                        rrset.additional = std::ptr::null_mut();
                        flags &= !(abi::PF_FREE as u16);
                        replaced = Replaced::All;
                    }
                }
            }
            if !self.put_rrset(&rrset, hint, flags) {
                match self.no_room(section, flags) {
                    // What is additional is sent as far as there is room.
                    Replaced::All => continue,
                    failed => return failed,
                }
            }
            if is_marked && rrset.rtype == CNAME {
                break;
            }
        }
        replaced
    }

    /// What it means that an RRset has no room.
    fn no_room(&mut self, section: Section, flags: u16) -> Replaced {
        if flags & abi::PF_NOTRUNC as u16 == 0 {
            self.set_truncated();
            Replaced::Truncated
        } else if section == Section::Additional {
            Replaced::All
        } else {
            Replaced::Failed
        }
    }

    /// Replaces the RRset at the end of the message in place. Its RDATA has no names that are compressed, so that its TTL and RDATA are
    /// written over, and further records behind it.
    fn rewrite_last(&mut self, section: Section, place: usize, fate: Fate, octets: &[u8]) -> Replaced {
        let (ttl, written) = match fate {
            Fate::Unknown => return Replaced::Failed,
            Fate::Nothing => {
                self.rewind(section, place, place + 1);
                return Replaced::LastIsNothing;
            }
            Fate::Rrset { ttl, count } => (ttl, count),
        };
        let packet = self.packet();
        // SAFETY: `rr` and `rr_info` have an element at `place`; the wire has `size` octets, and room for `max_size`.
        let (info, count, wire) = unsafe {
            let wire = std::slice::from_raw_parts_mut(packet.wire, packet.max_size);
            (*packet.rr_info.add(place), (*packet.rr.add(place)).rrs.count, wire)
        };
        let start = usize::from(info.pos);
        let room = packet.max_size - usize::from(packet.reserved);
        let Some(end) = write_records(wire, start, room, ttl, Rdatas(octets)) else {
            self.rewind(section, place, place + 1);
            return self.no_room(section, info.flags);
        };
        let counter = section.place().1;
        let counted = self.section_count(counter);
        self.set_section_count(counter, counted - count + written);
        let packet = self.packet_mut();
        packet.size = end;
        // SAFETY: as above.
        unsafe { (*packet.rr.add(place)).ttl = ttl };
        Replaced::All
    }
}

/// Writes records over the first one, which is at `start`, and behind it: their owner stays. Where they end, or none if that is beyond `room`.
fn write_records(wire: &mut [u8], start: usize, room: usize, ttl: u32, rdatas: Rdatas<'_>) -> Option<usize> {
    let owner_bytes = wire_name_bytes(wire.get(start..)?)?;
    // Up to the TTL, after the type and the class.
    let head_bytes = owner_bytes + 4;
    // What doesn't fit may have been begun: it is behind the end of the message.
    let wire = wire.get_mut(..room)?;
    let mut at = start;
    for rdata in rdatas {
        let rest = wire.get_mut(at + head_bytes..)?;
        let (fixed, rest) = rest.split_first_chunk_mut::<6>()?;
        fixed[..4].copy_from_slice(&ttl.to_be_bytes());
        fixed[4..].copy_from_slice(&(rdata.len() as u16).to_be_bytes());
        copy_short(rest.get_mut(..rdata.len())?, rdata);
        if at > start {
            wire.copy_within(start..start + head_bytes, at);
        }
        at += head_bytes + 6 + rdata.len();
    }
    Some(at)
}

/// Copies octets of which there are mostly four, an address.
#[inline]
fn copy_short(to: &mut [u8], from: &[u8]) {
    match (to.first_chunk_mut::<4>(), from.first_chunk::<4>()) {
        (Some(to), Some(four)) if from.len() == 4 => *to = *four,
        _ => to.copy_from_slice(from),
    }
}

/// The place of the first RRset of the section that has this TTL.
///
/// # Safety
/// In a hook, with the answer that knotd gave to it.
#[inline]
pub(super) unsafe fn find_marked(packet: *const Packet, section: Section, ttl: u32) -> Option<usize> {
    // SAFETY: the packet is whole; the RRsets of its sections are among those of `rr`.
    unsafe {
        let bounds = &(&(*packet).sections)[section.place().0];
        let mut at = (*packet).rr.cast_const().add(usize::from(bounds.pos));
        for place in 0..usize::from(bounds.count) {
            if (*at).ttl == ttl {
                return Some(usize::from(bounds.pos) + place);
            }
            at = at.add(1);
        }
    }
    None
}

/// Whether knotd compresses names in RDATA of the type.
fn has_compressed_rdata(rtype: u16) -> bool {
    matches!(rtype, 2..=9 | 12 | 14 | 15)
}

/// How many octets a name at the beginning of these has, as it is there: up to its end or its pointer.
#[inline]
fn wire_name_bytes(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *octets.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return Some(at + 2),
        }
    }
}

/// # Safety
/// `name` is a name in wire format without compression, which lives as long as what is given.
pub(super) unsafe fn name_of<'a>(name: *const u8) -> &'a [u8] {
    let mut bytes = 0;
    loop {
        // SAFETY: labels follow each other up to the one of length zero.
        let length = unsafe { *name.add(bytes) };
        bytes += 1 + usize::from(length);
        if length == 0 {
            // SAFETY: each of these was just gone over.
            return unsafe { std::slice::from_raw_parts(name, bytes) };
        }
    }
}
