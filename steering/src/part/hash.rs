//! The hash that entries are found by: cheap for names of a few octets, good in every bit. It needn't withstand those who know it: entries
//! of one hash are refused, and those with like hashes cost their own zone a few steps more.

use super::Kind;

const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0xd6e8_feb8_6659_fd93;

/// The hash of an entry's key. `name` is relative to the apex.
#[inline]
pub(crate) fn key_hash(kind: Kind, rtype: u16, name: &[u8]) -> u64 {
    octets_hash((kind as u64) << 16 | u64::from(rtype), name)
}

/// A hash of octets; different seeds give independent ones.
#[inline]
pub(crate) fn octets_hash(seed: u64, octets: &[u8]) -> u64 {
    let mut hash = fold(seed ^ FIRST, octets.len() as u64 ^ SECOND);
    let mut rest = octets;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        hash = fold(hash ^ u64::from_le_bytes(*eight), SECOND);
        rest = after;
    }
    // At most seven are left. Their number is in the length above.
    let mut last = 0;
    if let Some((four, after)) = rest.split_first_chunk::<4>() {
        last = u64::from(u32::from_le_bytes(*four));
        rest = after;
    }
    for octet in rest {
        last = last << 8 | u64::from(*octet);
    }
    fold(hash ^ last, FIRST)
}

/// Multiplies, and folds the upper half of the product into the lower one.
#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The `n`-th number of the stream of random numbers that `draw` starts (SplitMix64).
#[inline]
pub(crate) fn stream(draw: u64, n: u64) -> u64 {
    let mut z = draw.wrapping_add(FIRST.wrapping_mul(n.wrapping_add(1)));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
