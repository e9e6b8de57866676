//! Questions that knotd has found a placeholder for: names and types, at the serial that the zone had.
//!
//! knotd alone knows whether a name is what is asked for: whether it isn't below a delegation, whether a wildcard is for it. What it found is
//! the same as long as the zone is, so it needn't look again, and the answer is put before it would.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::knot::Query;
use crate::slot::Slot;

/// Questions that are remembered at a time; one takes the place of another. These are 8 MB, of which what isn't used is no memory: with a
/// million names most questions are remembered, and what knotd would read to find a name isn't fetched.
const PLACES: usize = 1 << 20;

/// In each place the upper half of a question's hash and the serial; zero if there is none.
static PLACE: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];

/// What hashes begin with: nobody outside can tell which questions have one hash.
static SEED: AtomicU64 = AtomicU64::new(0);

/// A question's hash.
#[derive(Clone, Copy, Debug)]
pub struct Question(u64);

impl Question {
    /// Of a query in the zone of the slot.
    #[inline]
    pub fn of(slot: &Slot, query: &Query<'_>) -> Question {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            product as u64 ^ (product >> 64) as u64
        };
        let number = |eight: &[u8; 8]| u64::from_le_bytes(*eight);
        let name = query.name();
        let start =
            std::ptr::from_ref(slot) as u64 ^ (name.len() as u64) << 48 ^ u64::from(query.rtype()) << 32;
        let mut hash = start ^ SEED.load(Ordering::Relaxed);
        let mut rest = name;
        while let Some(([one @ .., _, _, _, _, _, _, _, _], after)) = rest.split_first_chunk::<16>()
            && let Some(other) = rest.get(8..).and_then(|rest| rest.first_chunk())
        {
            hash = fold(hash ^ number(one), number(other) ^ FACTOR);
            rest = after;
        }
        // The last octets, some of them again, or all of a short name.
        let (one, other) = match (name.last_chunk::<16>(), name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some([one @ .., _, _, _, _, _, _, _, _]), _, Some(other)) => (number(one), number(other)),
            (None, Some(one), Some(other)) => (number(one), number(other)),
            _ => (0, name.iter().fold(0, |last, octet| last << 8 | u64::from(*octet))),
        };
        Question(fold(hash ^ one, other ^ FACTOR))
    }

    fn place(self) -> &'static AtomicU64 {
        &PLACE[self.0 as usize % PLACES]
    }

    /// The serial that the zone had when knotd found a placeholder, if it did.
    #[inline]
    pub fn serial(self) -> Option<u32> {
        let known = self.place().load(Ordering::Relaxed);
        ((known ^ self.0) >> 32 == 0).then_some(known as u32)
    }

    /// knotd has found one.
    pub fn remember(self, query: &Query<'_>) {
        if let Some(serial) = query.zone_serial() {
            self.place().store(self.0 >> 32 << 32 | u64::from(serial), Ordering::Relaxed);
        }
    }
}

/// Sets what hashes begin with.
pub fn set_up() {
    let seed = getrandom::u64().unwrap_or_else(|_| std::ptr::from_ref(&SEED) as u64);
    // Once: what is remembered stays right at a reload.
    let _ = SEED.compare_exchange(0, seed, Ordering::Relaxed, Ordering::Relaxed);
}
