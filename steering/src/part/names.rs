//! The set of a zone's names, in an order in which those below a name follow it.

use std::sync::Arc;

use imbl::OrdSet;

/// Names relative to the apex, as sort keys: labels from the right, each ended by a zero; zeros and ones in labels are a one and
/// something higher.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names(OrdSet<Arc<[u8]>>);

/// Twice the octets of the longest name.
const KEY_BYTES: usize = 512;

impl Names {
    pub(crate) fn insert(&mut self, relative: &[u8]) {
        let mut key = Key::new();
        self.0.insert(key.of(relative).into());
    }

    pub(crate) fn remove(&mut self, relative: &[u8]) {
        let mut key = Key::new();
        self.0.remove(key.of(relative));
    }

    pub(crate) fn contains(&self, relative: &[u8]) -> bool {
        let mut key = Key::new();
        self.0.contains(key.of(relative))
    }

    /// Whether one of the names below this one is as is wanted.
    pub(crate) fn any_below(&self, relative: &[u8], mut is_wanted: impl FnMut(&[u8]) -> bool) -> bool {
        let mut key = Key::new();
        let above = key.of(relative).len();
        let mut after = Key { octets: key.octets, len: key.len };
        // The least key after this one.
        after.push(0);
        while let Some(next) = self.0.get_next(after.as_slice()) {
            if next.get(..above) != key.octets.get(..above) {
                return false;
            }
            let mut name = [0; 255];
            if is_wanted(decode(next, &mut name)) {
                return true;
            }
            after.len = 0;
            next.iter().for_each(|octet| after.push(*octet));
            after.push(0);
        }
        false
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

struct Key {
    octets: [u8; KEY_BYTES],
    len: usize,
}

impl Key {
    fn new() -> Key {
        Key { octets: [0; KEY_BYTES], len: 0 }
    }

    fn push(&mut self, octet: u8) {
        if let Some(place) = self.octets.get_mut(self.len) {
            *place = octet;
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }

    fn of(&mut self, relative: &[u8]) -> &[u8] {
        self.len = 0;
        let mut starts = [0_u8; 128];
        let mut count = 0;
        let mut start = 0;
        while let (Some(label_bytes), Some(place)) = (relative.get(start), starts.get_mut(count)) {
            *place = start as u8;
            start += 1 + usize::from(*label_bytes);
            count += 1;
        }
        for start in starts.iter().take(count).rev() {
            let start = usize::from(*start);
            let label_bytes = relative.get(start).copied().map_or(0, usize::from);
            for octet in relative.get(start + 1..start + 1 + label_bytes).unwrap_or_default() {
                match octet {
                    0 | 1 => {
                        self.push(1);
                        self.push(octet + 2);
                    }
                    octet => self.push(*octet),
                }
            }
            self.push(0);
        }
        self.as_slice()
    }
}

/// The name of a key.
fn decode<'a>(key: &[u8], name: &'a mut [u8; 255]) -> &'a [u8] {
    // Written from the end, as labels are from the right.
    let mut start = name.len();
    for label in key.split(|octet| *octet == 0) {
        let escapes = label.iter().filter(|octet| **octet == 1).count();
        let label_bytes = label.len() - escapes;
        if label.is_empty() || start < label_bytes + 1 {
            break;
        }
        start -= label_bytes + 1;
        name[start] = label_bytes as u8;
        let mut place = start + 1;
        let mut octets = label.iter();
        while let Some(octet) = octets.next() {
            name[place] = if *octet == 1 { octets.next().map_or(0, |next| next - 2) } else { *octet };
            place += 1;
        }
    }
    name.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(labels: &[Vec<u8>]) -> Vec<u8> {
        labels.iter().flat_map(|label| [&[label.len() as u8], label.as_slice()].concat()).collect()
    }

    proptest! {
        #[test]
        fn names_below_a_name_are_found(
            names in prop::collection::btree_set(prop::collection::vec(prop::collection::vec(0_u8..4, 1..3), 0..4), 0..12),
            asked in prop::collection::vec(prop::collection::vec(0_u8..4, 1..3), 0..3),
        ) {
            let mut set = Names::default();
            names.iter().for_each(|name| set.insert(&wire(name)));
            prop_assert_eq!(set.contains(&wire(&asked)), names.contains(&asked));
            let below: std::collections::BTreeSet<Vec<u8>> =
                names.iter().filter(|name| name.len() > asked.len() && name.ends_with(&asked)).map(|name| wire(name)).collect();
            let mut found = std::collections::BTreeSet::new();
            set.any_below(&wire(&asked), |name| {
                found.insert(name.to_vec());
                false
            });
            prop_assert_eq!(&found, &below);
            prop_assert_eq!(set.any_below(&wire(&asked), |_| true), !below.is_empty());
            names.iter().for_each(|name| set.remove(&wire(name)));
            prop_assert_eq!(set.len(), 0);
        }
    }
}
