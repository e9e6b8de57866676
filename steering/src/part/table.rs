//! A persistent hash table of flat entries: a trie by the bits of a hash, whose leaves are chunks of up to [`CHUNK_ENTRIES`] entries in one
//! allocation each. An edit copies the chunks that it changes and the nodes above them; everything else is shared. Its form depends on
//! what it holds alone, not on how that came about.

use std::sync::Arc;

use super::Kind;
use super::hash::key_hash;
use super::octets::are_equal;

/// A chunk never has more, unless the bits of the hash are used up.
const CHUNK_ENTRIES: usize = 128;

/// Bits of the hash that a level of the trie decides by.
const LEVEL_BITS: u32 = 4;

/// Levels after which no bits of a hash are left.
const LEVELS: u32 = u64::BITS / LEVEL_BITS;

const FANOUT: usize = 1 << LEVEL_BITS;

/// The table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table(Tree);

/// What an entry is found by. Names are relative to the apex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key<'a> {
    pub(crate) kind: Kind,
    pub(crate) rtype: u16,
    pub(crate) name: &'a [u8],
}

impl Key<'_> {
    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        key_hash(self.kind, self.rtype, self.name)
    }

    /// Appends what an entry begins with. No name has more than 255 octets.
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        out.extend_from_slice(&self.rtype.to_le_bytes());
        out.push(u8::try_from(self.name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.name);
    }
}

/// The key of an entry, as octets, and what comes after it.
fn split_entry(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    entry.split_at_checked(4 + usize::from(*entry.get(3)?))
}

/// What is to be put and deleted: of edits with one key the last one counts.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    octets: Vec<u8>,
    list: Vec<Edit>,
}

#[derive(Clone, Copy, Debug)]
struct Edit {
    hash: u64,
    start: usize,
    end: usize,
    is_put: bool,
}

impl Edits {
    /// Puts an entry whose body `write` appends.
    pub(crate) fn put<E>(
        &mut self,
        key: &Key<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.octets.len();
        key.write(&mut self.octets);
        write(&mut self.octets)?;
        self.list.push(Edit { hash: key.hash(), start, end: self.octets.len(), is_put: true });
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: &Key<'_>) {
        let start = self.octets.len();
        key.write(&mut self.octets);
        self.list.push(Edit { hash: key.hash(), start, end: self.octets.len(), is_put: false });
    }

    fn entry(&self, edit: &Edit) -> &[u8] {
        self.octets.get(edit.start..edit.end).unwrap_or_default()
    }
}

/// Two keys have one hash. It takes some four billion entries for that to be likely, or intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collision;

/// A part of the trie.
#[derive(Clone, Debug)]
enum Tree {
    Chunk(Chunk),
    Node(Arc<Node>),
}

impl PartialEq for Tree {
    fn eq(&self, other: &Tree) -> bool {
        match (self, other) {
            (Tree::Chunk(one), Tree::Chunk(other)) => one.0 == other.0,
            (Tree::Node(one), Tree::Node(other)) => Arc::ptr_eq(one, other) || one.children == other.children,
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Node {
    entries: usize,
    bytes: usize,
    children: [Tree; FANOUT],
}

/// Entries, in one allocation, ascending by hash:
///
/// ```text
/// number of bits that choose a bucket (1 octet), number of entries (1 octet)
/// where each bucket's entries begin, as a number of an entry (1 octet), and where the last one's end
/// for each entry its hash (u64) and where it begins (u32); at last zero and where the last one ends
/// the entries: kind (1 octet), type (u16), length of the name (1 octet), name, body
/// ```
#[derive(Clone, Debug)]
struct Chunk(Arc<[u8]>);

const HEADER_BYTES: usize = 2;
const SLOT_BYTES: usize = 12;

impl Default for Table {
    fn default() -> Table {
        Table(Tree::Chunk(Chunk(Arc::from([]))))
    }
}

impl Table {
    /// The body of the entry of this key.
    #[inline]
    pub(crate) fn get(&self, key: &Key<'_>) -> Option<&[u8]> {
        self.get_hashed(key).map(|(_, body)| body)
    }

    /// The hash of the key and the body of its entry.
    #[inline]
    pub(crate) fn get_hashed(&self, key: &Key<'_>) -> Option<(u64, &[u8])> {
        let hash = key.hash();
        let (head, rest) = self.find(hash)?.split_first_chunk::<4>()?;
        let (name, body) = rest.split_at_checked(key.name.len())?;
        let wanted = key.kind as u32 | u32::from(key.rtype) << 8 | (key.name.len() as u32) << 24;
        (u32::from_le_bytes(*head) == wanted && are_equal(name, key.name)).then_some((hash, body))
    }

    /// The kind, as its number, and the name of the entry of this hash.
    pub(crate) fn kind_and_name(&self, hash: u64) -> Option<(u8, &[u8])> {
        let (head, rest) = self.find(hash)?.split_first_chunk::<4>()?;
        Some((head[0], rest.get(..usize::from(head[3]))?))
    }

    /// The name and the body of the entry of this hash: for hashes that were made from a key when something was compiled.
    #[inline]
    pub(crate) fn get_hash(&self, hash: u64) -> Option<(&[u8], &[u8])> {
        let (head, rest) = self.find(hash)?.split_first_chunk::<4>()?;
        rest.split_at_checked(usize::from(head[3]))
    }

    #[inline]
    fn find(&self, hash: u64) -> Option<&[u8]> {
        let mut tree = &self.0;
        let mut rest = hash;
        loop {
            match tree {
                Tree::Chunk(chunk) => return chunk.find(hash, rest),
                Tree::Node(node) => {
                    tree = &node.children[(rest >> (u64::BITS - LEVEL_BITS)) as usize % FANOUT];
                    rest <<= LEVEL_BITS;
                }
            }
        }
    }

    /// The table after these edits.
    pub(crate) fn edited(&self, mut edits: Edits) -> Result<Table, Collision> {
        let mut list = std::mem::take(&mut edits.list);
        // Stable: of edits with one key the last one counts.
        list.sort_by_key(|edit| edit.hash);
        self.0.edited(&edits, &list, 0).map(Table)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.entries()
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Calls `each` with the key and body of every entry of one kind.
    pub(crate) fn for_each<'a>(&'a self, kind: Kind, mut each: impl FnMut(Key<'a>, &'a [u8])) {
        let mut entries = Vec::new();
        self.0.collect(&mut entries);
        for (_, entry) in entries {
            let Some((head, body)) = split_entry(entry) else { continue };
            if let [octet, low, high, _, name @ ..] = head
                && *octet == kind as u8
            {
                each(Key { kind, rtype: u16::from_le_bytes([*low, *high]), name }, body);
            }
        }
    }
}

impl Tree {
    fn entries(&self) -> usize {
        match self {
            Tree::Chunk(chunk) => chunk.entries(),
            Tree::Node(node) => node.entries,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            // The counts of an Arc are part of the allocation.
            Tree::Chunk(chunk) => chunk.0.len() + 16,
            Tree::Node(node) => node.bytes,
        }
    }

    fn collect<'a>(&'a self, out: &mut Vec<(u64, &'a [u8])>) {
        match self {
            Tree::Chunk(chunk) => out.extend(chunk.iter()),
            Tree::Node(node) => node.children.iter().for_each(|child| child.collect(out)),
        }
    }

    fn edited(&self, edits: &Edits, list: &[Edit], level: u32) -> Result<Tree, Collision> {
        if list.is_empty() {
            return Ok(self.clone());
        }
        let node = match self {
            Tree::Chunk(chunk) => {
                let mut entries = Vec::with_capacity(chunk.entries() + list.len());
                merge(chunk.iter(), edits, list, &mut entries)?;
                return Ok(Tree::of(&entries, level));
            }
            Tree::Node(node) => node,
        };
        let mut children = node.children.clone();
        let mut rest = list;
        for (place, child) in children.iter_mut().enumerate() {
            let own = rest.partition_point(|edit| nibble(edit.hash, level) <= place);
            let (own, after) = rest.split_at(own);
            *child = child.edited(edits, own, level + 1)?;
            rest = after;
        }
        let node = Tree::node(children);
        if node.entries() > CHUNK_ENTRIES {
            return Ok(node);
        }
        let mut entries = Vec::with_capacity(CHUNK_ENTRIES);
        node.collect(&mut entries);
        Ok(Tree::of(&entries, level))
    }

    fn node(children: [Tree; FANOUT]) -> Tree {
        let entries = children.iter().map(Tree::entries).sum();
        let bytes = children.iter().map(Tree::bytes).sum::<usize>() + size_of::<Node>() + 16;
        Tree::Node(Arc::new(Node { entries, bytes, children }))
    }

    /// The tree of entries that are sorted by hash and agree in the bits above this level.
    fn of(entries: &[(u64, &[u8])], level: u32) -> Tree {
        if entries.len() <= CHUNK_ENTRIES || level == LEVELS {
            return Tree::Chunk(Chunk::of(entries, level));
        }
        let mut rest = entries;
        Tree::node(std::array::from_fn(|place| {
            let own = rest.partition_point(|(hash, _)| nibble(*hash, level) <= place);
            let (own, after) = rest.split_at(own);
            rest = after;
            Tree::of(own, level + 1)
        }))
    }
}

fn nibble(hash: u64, level: u32) -> usize {
    (hash << (level * LEVEL_BITS) >> (u64::BITS - LEVEL_BITS)) as usize
}

/// Old entries and edits, both ascending by hash.
fn merge<'a>(
    old: impl Iterator<Item = (u64, &'a [u8])>,
    edits: &'a Edits,
    list: &[Edit],
    out: &mut Vec<(u64, &'a [u8])>,
) -> Result<(), Collision> {
    let mut old = old.peekable();
    let mut list = list.iter().peekable();
    while let Some(edit) = list.next() {
        while let Some(entry) = old.next_if(|(hash, _)| *hash < edit.hash) {
            out.push(entry);
        }
        let key = |entry: &'a [u8]| split_entry(entry).map(|(key, _)| key);
        let mut current = old.next_if(|(hash, _)| *hash == edit.hash).map(|(_, entry)| entry);
        let mut apply = |edit: &Edit| {
            let entry = edits.entry(edit);
            let is_same = current.is_none_or(|current| key(current) == key(entry));
            match (edit.is_put, is_same) {
                (true, true) => current = Some(entry),
                (true, false) => return Err(Collision),
                (false, true) => current = None,
                (false, false) => {}
            }
            Ok(())
        };
        apply(edit)?;
        while let Some(edit) = list.next_if(|next| next.hash == edit.hash) {
            apply(edit)?;
        }
        out.extend(current.map(|entry| (edit.hash, entry)));
    }
    out.extend(old);
    Ok(())
}

impl Chunk {
    fn of(entries: &[(u64, &[u8])], level: u32) -> Chunk {
        if entries.is_empty() {
            return Chunk(Arc::from([]));
        }
        // One or two entries a bucket.
        let bits = if level == LEVELS { 0 } else { entries.len().ilog2() };
        let bits = bits.min(7).min(u64::BITS - level * LEVEL_BITS);
        let bucket = |hash: u64| bucket(hash << ((level * LEVEL_BITS) % u64::BITS), bits);
        let body = slots_start(bits) + SLOT_BYTES * (entries.len() + 1);
        let total = body + entries.iter().map(|(_, entry)| entry.len()).sum::<usize>();
        let mut chunk = Vec::with_capacity(total);
        // No more than a chunk has, as no two entries share all bits of a hash.
        chunk.extend_from_slice(&[bits as u8, entries.len() as u8]);
        for place in 0..=1_usize << bits {
            chunk.push(entries.partition_point(|(hash, _)| bucket(*hash) < place) as u8);
        }
        let mut offset = body;
        let ends = entries.iter().map(|(hash, entry)| (*hash, entry.len())).chain([(0, 0)]);
        for (hash, bytes) in ends {
            chunk.extend_from_slice(&hash.to_le_bytes());
            chunk.extend_from_slice(&(offset as u32).to_le_bytes());
            offset += bytes;
        }
        entries.iter().for_each(|(_, entry)| chunk.extend_from_slice(entry));
        Chunk(chunk.into())
    }

    fn entries(&self) -> usize {
        self.0.get(1).copied().map_or(0, usize::from)
    }

    /// The entry of this hash; `rest` is the hash without the bits that led here.
    #[inline]
    fn find(&self, hash: u64, rest: u64) -> Option<&[u8]> {
        let chunk = &*self.0;
        let bits = u32::from(*chunk.first()?) % 8;
        let [start, end] = *chunk.get(HEADER_BYTES + bucket(rest, bits)..)?.first_chunk()?;
        let slots = chunk.get(slots_start(bits)..)?;
        for at in start..end {
            // The slot, and the next one, whose entry begins where this one's ends.
            let two: &[u8; 2 * SLOT_BYTES] = slots.get(SLOT_BYTES * usize::from(at)..)?.first_chunk()?;
            let [h0, h1, h2, h3, h4, h5, h6, h7, s0, s1, s2, s3, .., e0, e1, e2, e3] = *two;
            if u64::from_le_bytes([h0, h1, h2, h3, h4, h5, h6, h7]) == hash {
                let offset = |octets: [u8; 4]| u32::from_le_bytes(octets) as usize;
                return chunk.get(offset([s0, s1, s2, s3])..offset([e0, e1, e2, e3]));
            }
        }
        None
    }

    fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let chunk = &*self.0;
        let bits = chunk.first().copied().map_or(0, u32::from);
        let (slots, _) = chunk.get(slots_start(bits)..).unwrap_or_default().as_chunks::<SLOT_BYTES>();
        slots.windows(2).take(self.entries()).filter_map(move |pair| {
            let [slot, next] = pair else { return None };
            let hash = slot.first_chunk().map(|octets| u64::from_le_bytes(*octets))?;
            Some((hash, chunk.get(offset(slot)..offset(next))?))
        })
    }
}

/// Where a chunk's slots begin.
#[inline]
fn slots_start(bits: u32) -> usize {
    HEADER_BYTES + (1 << bits) + 1
}

/// The bucket of a hash whose upper bits decide.
#[inline]
fn bucket(rest: u64, bits: u32) -> usize {
    // Two shifts, as no number can be shifted by all its bits.
    (rest >> 1 >> (u64::BITS - 1 - bits)) as usize
}

#[inline]
fn offset(slot: &[u8; SLOT_BYTES]) -> usize {
    slot.last_chunk().map_or(0, |octets| u32::from_le_bytes(*octets) as usize)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u32) -> (u16, [u8; 3]) {
        let [a, b, c, d] = number.to_be_bytes();
        (u16::from(a), [b, c, d])
    }

    fn table(edits: &[(u32, Option<Vec<u8>>)], base: &Table) -> Table {
        let mut all = Edits::default();
        for (number, body) in edits {
            let (rtype, name) = key(*number);
            let key = Key { kind: Kind::Pool, rtype, name: &name };
            match body {
                Some(body) => {
                    let put: Result<(), ()> = all.put(&key, |out| {
                        out.extend_from_slice(body);
                        Ok(())
                    });
                    put.unwrap();
                }
                None => all.delete(&key),
            }
        }
        base.edited(all).unwrap()
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_its_form_depends_on_its_content_alone(
            first in prop::collection::vec((0_u32..2000, prop::option::weighted(0.9, prop::collection::vec(any::<u8>(), 0..9))), 0..1500),
            second in prop::collection::vec((0_u32..2000, prop::option::weighted(0.4, prop::collection::vec(any::<u8>(), 0..9))), 0..1500),
        ) {
            let before = table(&first, &Table::default());
            let after = table(&second, &before);
            for (built, edits) in [(&before, first.clone()), (&after, [first, second].concat())] {
                let mut map = BTreeMap::new();
                for (number, body) in edits {
                    match body {
                        Some(body) => drop(map.insert(number, body)),
                        None => drop(map.remove(&number)),
                    }
                }
                prop_assert_eq!(built.len(), map.len());
                for number in 0..2000 {
                    let (rtype, name) = key(number);
                    let found = built.get(&Key { kind: Kind::Pool, rtype, name: &name });
                    prop_assert_eq!(found, map.get(&number).map(Vec::as_slice));
                }
                let list: Vec<_> = map.into_iter().map(|(number, body)| (number, Some(body))).collect();
                prop_assert_eq!(built, &table(&list, &Table::default()));
            }
        }
    }

    #[test]
    fn an_edit_copies_one_path() {
        let many: Vec<_> = (0..20_000).map(|number| (number, Some(vec![1]))).collect();
        let before = table(&many, &Table::default());
        let after = table(&[(7, Some(vec![2]))], &before);
        fn chunks(tree: &Tree, out: &mut Vec<*const u8>) {
            match tree {
                Tree::Chunk(chunk) => out.push(chunk.0.as_ptr()),
                Tree::Node(node) => node.children.iter().for_each(|child| chunks(child, out)),
            }
        }
        let (mut one, mut other) = (Vec::new(), Vec::new());
        chunks(&before.0, &mut one);
        chunks(&after.0, &mut other);
        assert_eq!(one.len(), other.len());
        assert_eq!(one.iter().zip(&other).filter(|(one, other)| one != other).count(), 1);
    }
}
