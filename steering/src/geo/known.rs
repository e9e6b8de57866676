//! Scopes that were found before, so that they needn't be found again for each client in them.
//!
//! The shortest prefix around a client in which everybody gets the same is the same for everybody in it. Readers and writers come from all
//! of a server's threads: neither waits for the other, and what was being written meanwhile is taken for unknown.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::part::hash::fold;

/// How many are known at a time, 64 octets each; one takes the place of another.
const PLACES: usize = 1 << 16;

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// What decisions depend on besides the client's address and the table of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Basis {
    /// Which part it is: no two have the same.
    pub part: u64,
    /// What else changes with time.
    pub epoch: u64,
    /// The hash of the rules and of whatever else they ask for.
    pub asked: u64,
}

/// What is known of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The length of the prefix.
    pub length: u8,
    /// The pool that answers, zero if none does; none if it has to be asked which of its endpoints do.
    pub pool: Option<u64>,
}

/// What is known of clients.
#[derive(Debug)]
pub(crate) struct KnownScopes(Box<[Place]>);

/// What is known of one prefix. `turn` is odd while it is written.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place {
    turn: AtomicU64,
    /// The hash of what it is found by; the part; the prefix's first octets, its length and whether `pool` is none; the pool. Of an address
    /// its last octets, and what says so.
    words: [AtomicU64; 5],
}

/// Set in the word of the length where the pool isn't known.
const NO_POOL: u64 = 1 << 8;

/// In the word of the length where it is an address that something is known of, and not a prefix.
const ADDRESS_V4: u64 = 1 << 9;
const ADDRESS_V6: u64 = 1 << 10;

/// Prefixes up to these lengths are found by so many bits of a client's address, longer ones by more.
const LEVELS_V4: [u8; 2] = [16, 24];
const LEVELS_V6: [u8; 2] = [32, 48];

impl KnownScopes {
    pub(crate) fn new() -> KnownScopes {
        KnownScopes((0..PLACES).map(|_| Place::default()).collect())
    }

    /// What is known of a client.
    #[inline]
    pub(crate) fn get(&self, basis: Basis, client: IpAddr) -> Option<Known> {
        let (bits, levels) = upper_bits(client);
        levels.into_iter().find_map(|level| {
            let hash = hash(basis, bits, level, client.is_ipv4());
            let [found, part, start, length, pool] = self.place(hash).read()?;
            let is_it = found == hash && part == basis.part && first_bits(bits, length as u8) == start;
            is_it.then_some(Known { length: length as u8, pool: (length & NO_POOL == 0).then_some(pool) })
        })
    }

    /// From now on this is known. What there is no room for, isn't.
    pub(crate) fn put(&self, basis: Basis, client: IpAddr, known: Known) {
        let (bits, levels) = upper_bits(client);
        if known.length > 64 {
            return;
        }
        let level = if known.length <= levels[0] { levels[0] } else { levels[1] };
        let hash = hash(basis, bits, level, client.is_ipv4());
        let length = u64::from(known.length) | if known.pool.is_none() { NO_POOL } else { 0 };
        let start = first_bits(bits, known.length);
        self.place(hash).write([hash, basis.part, start, length, known.pool.unwrap_or(0)]);
    }

    /// The pool that answers an address, as it was found for this one alone.
    #[inline]
    pub(crate) fn pool_of(&self, basis: Basis, client: IpAddr) -> Option<u64> {
        let (hash, last, kind) = address_hash(basis, client);
        let [found, part, start, length, pool] = self.place(hash).read()?;
        (found == hash && part == basis.part && start == last && length == kind).then_some(pool)
    }

    /// From now on this pool is known to answer an address.
    pub(crate) fn put_pool(&self, basis: Basis, client: IpAddr, pool: u64) {
        let (hash, last, kind) = address_hash(basis, client);
        self.place(hash).write([hash, basis.part, last, kind, pool]);
    }

    #[inline]
    fn place(&self, hash: u64) -> &Place {
        &self.0[hash as usize % PLACES]
    }
}

/// The first 64 bits of an address, and the levels by which it is found.
#[inline]
fn upper_bits(address: IpAddr) -> (u64, [u8; 2]) {
    match address {
        IpAddr::V4(v4) => (u64::from(v4.to_bits()) << 32, LEVELS_V4),
        IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, LEVELS_V6),
    }
}

/// The bits up to this length, and zeros.
#[inline]
fn first_bits(bits: u64, length: u8) -> u64 {
    let rest = u64::MAX.checked_shr(length.into()).unwrap_or(0);
    bits & !rest
}

#[inline]
fn hash(basis: Basis, bits: u64, level: u8, is_v4: bool) -> u64 {
    let block = first_bits(bits, level) | u64::from(level) | if is_v4 { 1 << 8 } else { 0 };
    fold(fold(basis.part ^ basis.epoch.rotate_left(32) ^ FACTOR, basis.asked) ^ block, FACTOR)
}

/// The hash of an address, its last octets, which are compared besides, and what says that it is one.
#[inline]
fn address_hash(basis: Basis, address: IpAddr) -> (u64, u64, u64) {
    let (first, last, kind) = match address {
        IpAddr::V4(v4) => (0, u64::from(v4.to_bits()), ADDRESS_V4),
        IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, v6.to_bits() as u64, ADDRESS_V6),
    };
    let basis = fold(basis.part ^ basis.epoch.rotate_left(32) ^ FACTOR, basis.asked ^ kind);
    (fold(fold(basis ^ first, FACTOR) ^ last, FACTOR), last, kind)
}

impl Place {
    #[inline]
    fn read(&self) -> Option<[u64; 5]> {
        let before = self.turn.load(Ordering::Acquire);
        let words = std::array::from_fn(|place| self.words[place].load(Ordering::Relaxed));
        // The words are read before the turn is read again.
        fence(Ordering::Acquire);
        (before.is_multiple_of(2) && self.turn.load(Ordering::Relaxed) == before).then_some(words)
    }

    fn write(&self, words: [u64; 5]) {
        let turn = self.turn.load(Ordering::Relaxed);
        let is_ours = turn.is_multiple_of(2)
            && self.turn.compare_exchange(turn, turn + 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !is_ours {
            return;
        }
        // Nobody sees one of the words who doesn't see the turn.
        fence(Ordering::Release);
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.turn.store(turn + 2, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_known_holds_for_the_prefix_alone() {
        let scopes = KnownScopes::new();
        let basis = Basis { part: 1, epoch: 3, asked: 7 };
        for (client, length, inside, outside) in [
            ("10.1.2.3", 12, "10.1.9.9", "10.16.0.0"),
            ("10.200.2.3", 20, "10.200.2.77", "10.200.16.3"),
            ("192.0.2.9", 29, "192.0.2.15", "192.0.2.16"),
            ("172.16.0.1", 0, "172.16.255.1", "172.17.0.1"),
            ("2001:db8::1", 30, "2001:db8:ffff::", "2001:dbc::"),
            ("2001:db9:1::1", 64, "2001:db9:1::ffff", "2001:db9:1:1::"),
        ] {
            let known = Known { length, pool: Some(5) };
            scopes.put(basis, address(client), known);
            assert_eq!(scopes.get(basis, address(client)), Some(known), "{client}");
            assert_eq!(scopes.get(basis, address(inside)), Some(known), "{inside}");
            // It is in the prefix of length zero, but found by other bits.
            assert_eq!(scopes.get(basis, address(outside)), None, "{outside}");
            for other in
                [Basis { part: 2, ..basis }, Basis { epoch: 4, ..basis }, Basis { asked: 8, ..basis }]
            {
                assert_eq!(scopes.get(other, address(client)), None, "{client}");
            }
        }
        let nearest = Known { length: 24, pool: None };
        scopes.put(basis, address("10.9.9.9"), nearest);
        assert_eq!(scopes.get(basis, address("10.9.9.1")), Some(nearest));
        scopes.put(basis, address("2001:dba::1"), Known { length: 65, pool: Some(5) });
        assert_eq!(scopes.get(basis, address("2001:dba::1")), None);
    }

    #[test]
    fn what_is_known_of_an_address_holds_for_it_alone() {
        let scopes = KnownScopes::new();
        let basis = Basis { part: 1, epoch: 3, asked: 7 };
        for (client, other) in [
            ("192.0.2.9", "192.0.2.8"),
            ("2001:db8::1", "2001:db8::2"),
            ("2001:db8:1::1", "2001:db8:2::1"),
            ("::4:0:0:c000:20a", "192.0.2.10"),
        ] {
            scopes.put_pool(basis, address(client), 5);
            assert_eq!(scopes.pool_of(basis, address(client)), Some(5), "{client}");
            assert_eq!(scopes.pool_of(basis, address(other)), None, "{other}");
            assert_eq!(scopes.get(basis, address(client)), None, "{client}");
            for other in
                [Basis { part: 2, ..basis }, Basis { epoch: 4, ..basis }, Basis { asked: 8, ..basis }]
            {
                assert_eq!(scopes.pool_of(other, address(client)), None, "{client}");
            }
        }
    }

    #[test]
    fn what_is_written_by_many_is_read_whole() {
        let place = Place::default();
        std::thread::scope(|scope| {
            for thread in 1..3_u64 {
                let place = &place;
                scope.spawn(move || (0..100_000).for_each(|n| place.write([thread * n; 5])));
            }
            for _ in 0..100_000 {
                let Some(words) = place.read() else { continue };
                assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
            }
        });
    }
}
