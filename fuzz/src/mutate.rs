//! Mutations from a seed, for where there is no libFuzzer.

/// SplitMix64: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// The longest input that is made.
const BYTES_MAX: usize = 8 * 1024;

/// Octets at which something may change.
const EDGES: [u8; 12] = [0, 1, 0x17, 0x18, 0x1b, 0x1f, 0x3f, 0x40, 0x7f, 0x80, 0x9f, 0xff];

/// One of the seeds, changed in some places.
///
/// # Panics
/// If there are no seeds.
pub fn mutant(seeds: &[Vec<u8>], words: &[&str], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let to = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = EDGES[random.below(EDGES.len())],
            2 if at < to => drop(bytes.drain(at..to)),
            3 if at < to => {
                let copy = bytes[at..to].to_vec();
                let times = 1 + random.below(4);
                (0..times).for_each(|_| drop(bytes.splice(at..at, copy.iter().copied())));
            }
            4 => bytes.insert(at, random.next() as u8),
            5 if !words.is_empty() => {
                let word = words[random.below(words.len())];
                drop(bytes.splice(at..at, word.bytes()));
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let (from, length) = (random.below(other.len()), 1 + random.below(64));
                let part = other[from..].iter().take(length).copied().collect::<Vec<u8>>();
                drop(bytes.splice(at..to.max(at), part));
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}
