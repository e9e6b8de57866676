//! Names and wildcards to numbers.

use crate::part::hash::octets_hash;

/// Found by hash: exact names, and wildcards for all names below theirs. It never changes.
#[derive(Clone, Debug)]
pub(super) struct NameIndex {
    /// The upper half of a hash, its lowest bit saying whether it is a wildcard's, and the number of an entry and one; zero if empty.
    slots: Box<[u64]>,
    /// Where an entry's name begins, and its value.
    entries: Vec<(u32, u32)>,
    /// Names in wire format; wildcards without their asterisk.
    octets: Vec<u8>,
    /// How many labels names have, a bit each; those of wildcards without their asterisk.
    exact_depths: u128,
    wildcard_depths: u128,
}

/// Labels that a name can have (RFC 1035 §2.3.4), and one.
const LABELS_MAX: usize = 128;

const EXACT: u64 = 0;
const WILDCARD: u64 = 1;

impl NameIndex {
    /// Of names in wire format and small letters, no two equal, with their values. A first label `*` makes it a wildcard.
    pub(super) fn new<'a>(count: usize, names: impl Iterator<Item = (&'a [u8], u32)>) -> NameIndex {
        let slots = (count.max(1) * 3 / 2 + 1).next_power_of_two();
        let mut index = NameIndex {
            slots: vec![0; slots].into(),
            entries: Vec::with_capacity(count),
            octets: Vec::new(),
            exact_depths: 0,
            wildcard_depths: 0,
        };
        for (name, value) in names {
            index.insert(name, value);
        }
        index
    }

    fn insert(&mut self, name: &[u8], value: u32) {
        let (name, kind) = name.strip_prefix(b"\x01*").map_or((name, EXACT), |rest| (rest, WILDCARD));
        let depth = 1 << Labels::of(name).count;
        match kind {
            EXACT => self.exact_depths |= depth,
            _ => self.wildcard_depths |= depth,
        }
        let start = u32::try_from(self.octets.len()).expect("fewer than 2^32 octets of names");
        self.octets.extend_from_slice(name);
        self.entries.push((start, value));
        let entry = u32::try_from(self.entries.len()).expect("fewer than 2^32 names");
        let (mut place, tag) = self.place(name, kind);
        while self.slots[place] != 0 {
            place = (place + 1) & (self.slots.len() - 1);
        }
        self.slots[place] = tag | u64::from(entry);
    }

    #[inline]
    fn place(&self, name: &[u8], kind: u64) -> (usize, u64) {
        let hash = octets_hash(kind, name);
        (hash as usize & (self.slots.len() - 1), hash >> 33 << 33 | kind << 32)
    }

    /// What is said of a name itself, or if nothing is, of the deepest wildcard that it is below.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Option<u32> {
        let labels = Labels::of(name);
        if self.exact_depths >> labels.count & 1 == 1
            && let Some(value) = self.probe(name, EXACT)
        {
            return Some(value);
        }
        let mut depths = self.wildcard_depths & ((1 << labels.count) - 1);
        while depths != 0 {
            let depth = depths.ilog2();
            depths ^= 1 << depth;
            let above = name.get(labels.start(depth as usize)..).unwrap_or_default();
            if let Some(value) = self.probe(above, WILDCARD) {
                return Some(value);
            }
        }
        None
    }

    /// What is said of a name itself.
    #[inline]
    pub(super) fn find_exact(&self, name: &[u8]) -> Option<u32> {
        self.probe(name, EXACT)
    }

    #[inline]
    fn probe(&self, name: &[u8], kind: u64) -> Option<u32> {
        let (mut place, tag) = self.place(name, kind);
        loop {
            let slot = self.slots[place];
            if slot == 0 {
                return None;
            }
            if slot >> 32 << 32 == tag {
                let (start, value) = self.entries[slot as u32 as usize - 1];
                // A name ends with the root, so that none is the beginning of another.
                if self.octets[start as usize..].starts_with(name) {
                    return Some(value);
                }
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u64>()
            + self.entries.capacity() * size_of::<(u32, u32)>()
            + self.octets.capacity()
    }
}

/// Where the labels of a name begin.
struct Labels {
    starts: [u8; LABELS_MAX],
    /// How many there are, the root not counted.
    count: usize,
}

impl Labels {
    #[inline]
    fn of(name: &[u8]) -> Labels {
        let mut labels = Labels { starts: [0; LABELS_MAX], count: 0 };
        let mut at = 0;
        while let Some(&length) = name.get(at)
            && let Some(start) = labels.starts.get_mut(labels.count)
        {
            *start = at as u8;
            if length == 0 || labels.count == LABELS_MAX - 1 {
                break;
            }
            at += 1 + usize::from(length);
            labels.count += 1;
        }
        labels
    }

    /// Where the name of the last so many labels begins.
    #[inline]
    fn start(&self, depth: usize) -> usize {
        self.starts[self.count - depth].into()
    }
}
