//! How fast queries come from networks: token buckets in a table of fixed size, without locks.
//!
//! A bucket is one word: which network it is of, and the time at which it will be full again (the generic cell rate algorithm, ITU-T
//! I.371). Four places are looked at for a network. When all are taken by others, the one that is full the soonest is given up: a
//! table that is too small forgets who is slow first.

use std::sync::atomic::{AtomicU64, Ordering};

/// Places that a network may have.
const WAYS: usize = 4;
/// Time in a bucket is in units of 64 ns, and has so many bits: 208 days.
const TIME_BITS: u32 = 48;
const UNIT_NS_SHIFT: u32 = 6;
const UNITS_PER_S: u64 = 1_000_000_000 >> UNIT_NS_SHIFT;
/// How often a bucket is tried that others change meanwhile. What isn't counted then is no query too many.
const TRIES: usize = 8;

/// Networks that a table of the usual size knows of at a time.
pub const BUCKETS: usize = 1 << 18;

/// A table of buckets.
#[derive(Debug)]
pub struct Buckets(Box<[[AtomicU64; WAYS]]>);

/// A rate, as buckets have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Units of time that a query takes.
    step: u64,
    /// Units that a bucket holds.
    room: u64,
}

impl Pace {
    pub(super) fn new(per_s: u32, burst: u32) -> Pace {
        let step = (UNITS_PER_S / u64::from(per_s.max(1))).max(1);
        Pace { step, room: step * u64::from(burst.max(1)) }
    }
}

impl Buckets {
    /// For so many networks at least.
    pub fn new(networks: usize) -> Buckets {
        let sets = (networks / WAYS).max(1).next_power_of_two();
        Buckets((0..sets).map(|_| <[AtomicU64; WAYS]>::default()).collect())
    }

    /// Takes a query of a network, and says whether it was one too many. `key` is a hash of the network and of who counts it; `now_ns` is
    /// a time that never goes back.
    pub(super) fn is_over(&self, key: u64, pace: Pace, now_ns: u64) -> bool {
        let tag = key >> TIME_BITS << TIME_BITS | 1 << TIME_BITS;
        let set = &self.0[key as usize & (self.0.len() - 1)];
        let now = now_ns >> UNIT_NS_SHIFT & TIME_MASK;
        for _ in 0..TRIES {
            let words = set.each_ref().map(|way| way.load(Ordering::Relaxed));
            let own = words.iter().position(|word| word & !TIME_MASK == tag);
            // How much of a bucket is taken: of one that is none's, nothing.
            let taken = |word: u64| match ahead(word, now) {
                // From so long ago that it seems to be to come.
                much if much > pace.room && own.is_some() => 0,
                taken => taken,
            };
            let least =
                || (0..WAYS).min_by_key(|way| if words[*way] == 0 { 0 } else { 1 + ahead(words[*way], now) });
            let Some(way) = own.or_else(least) else { return false };
            let level = if own.is_some() { taken(words[way]) } else { 0 };
            if level + pace.step > pace.room {
                return true;
            }
            let full = now.wrapping_add(level + pace.step) & TIME_MASK;
            let new = tag | full;
            if set[way].compare_exchange(words[way], new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return false;
            }
        }
        false
    }
}

const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// How far a bucket's time is ahead of now; zero if it is past.
fn ahead(word: u64, now: u64) -> u64 {
    let difference = (word & TIME_MASK).wrapping_sub(now) & TIME_MASK;
    if difference >> (TIME_BITS - 1) == 0 { difference } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_network_gets_its_burst_and_then_its_rate() {
        let buckets = Buckets::new(1024);
        let pace = Pace::new(100, 10);
        for start in [S, 3600 * S, 400 * 24 * 3600 * S] {
            let over = (0..1_000u64).filter(|n| buckets.is_over(7, pace, start + n * S / 1_000)).count();
            // 1,000 queries in a second: 10 at once, 100 of the rest.
            assert!((885..=895).contains(&over), "{over} were over");
            assert!(!buckets.is_over(7 << 50, pace, start), "another network isn't touched");
        }
    }

    #[test]
    fn many_networks_push_out_the_slow_ones() {
        let buckets = Buckets::new(64);
        let pace = Pace::new(10, 10);
        for _ in 0..20 {
            buckets.is_over(1 << 60, pace, S);
        }
        for key in 0..10_000u64 {
            buckets.is_over(key << 32 | key.wrapping_mul(0x9e37_79b9_7f4a_7c15) << 49, pace, S);
        }
        assert!(buckets.is_over(1 << 60, pace, S), "the fast one was forgotten");
    }

    #[test]
    fn threads_together_get_no_more_than_the_rate() {
        let buckets = Buckets::new(64);
        let pace = Pace::new(1, 1_000);
        let passed: usize = std::thread::scope(|scope| {
            let count = || (0..2_000).filter(|_| !buckets.is_over(9, pace, S)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Where eight tries in a row fail, one more passes.
        assert!((1_000..1_050).contains(&passed), "{passed}");
    }
}
