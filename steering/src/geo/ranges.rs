//! Addresses to numbers: every address of both families is in one range, and a range has a value.

use std::net::{IpAddr, Ipv6Addr};

/// Most bits of an address that the first step of a look-up goes by.
const INDEX_BITS_MAX: u32 = 20;
/// Global unicast addresses (RFC 4291 §2.4), 2000::/3, are what IPv6's first step tells apart.
const GLOBAL: u128 = 0x2000 << 112;
const GLOBAL_LENGTH: u32 = 3;

/// Which IPv6 networks stand for IPv4's addresses: a database has them as one and the same tree. One bit a network: IPv4 in IPv6
/// (::/96, where databases keep IPv4 itself), IPv4-mapped addresses (::ffff:0:0/96), Teredo (2001::/32), 6to4 (2002::/16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aliases(pub(super) u8);

impl Aliases {
    /// None of them.
    pub const NONE: Aliases = Aliases(0);
    /// All of them.
    pub const ALL: Aliases = Aliases((1 << ALIASES.len()) - 1);

    fn iter(self) -> impl Iterator<Item = Alias> {
        ALIASES.into_iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, alias)| alias)
    }

    /// Those that no address of a network is in.
    pub(super) fn without(self, first: u128, last: u128) -> Aliases {
        let is_apart = |alias: Alias| last < alias.first || first > alias.last();
        let apart = ALIASES.into_iter().enumerate().filter(|(_, alias)| is_apart(*alias));
        Aliases(self.0 & apart.fold(0, |bits, (bit, _)| bits | 1 << bit))
    }

    /// The one that the address is in.
    #[inline]
    fn find(self, address: u128) -> Option<Alias> {
        self.iter().find(|alias| alias.contains(address))
    }
}

/// Ascending.
pub(super) const ALIASES: [Alias; 4] = [
    Alias { first: 0, length: 96 },
    Alias { first: 0xffff << 32, length: 96 },
    Alias { first: 0x2001 << 112, length: 32 },
    Alias { first: 0x2002 << 112, length: 16 },
];

/// A network whose addresses hold an IPv4 address right after the prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alias {
    pub first: u128,
    pub length: u32,
}

impl Alias {
    pub(super) fn last(self) -> u128 {
        self.first | (u128::MAX >> self.length)
    }

    fn contains(self, address: u128) -> bool {
        (address ^ self.first) >> (128 - self.length) == 0
    }

    /// Its first address that stands for this IPv4 address.
    pub(super) fn address(self, v4: u32) -> u128 {
        self.first | u128::from(v4) << self.shift()
    }

    /// Bits after the IPv4 address.
    fn shift(self) -> u32 {
        96 - self.length
    }
}

/// Ranges of both families, IPv4's first: a range is known by its place among all.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    /// First addresses of IPv4's ranges; the first one is zero.
    v4: Vec<u32>,
    /// For each value of an address' first bits the range that its first address is in, and the last range.
    v4_index: Vec<u32>,
    v4_shift: u32,
    /// First addresses of IPv6's ranges: their first halves; the first one is zero.
    v6_high: Vec<u64>,
    /// Their second halves, empty if all are zero.
    v6_low: Vec<u64>,
    v6_index: Vec<u32>,
    v6_shift: u32,
    /// Values, of all ranges.
    values: Vec<u32>,
    aliases: Aliases,
}

/// A range of addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub first: u128,
    pub last: u128,
}

impl Ranges {
    /// Of the ranges' first addresses and values, ascending, the first address of all being zero in each family.
    pub(crate) fn new(v4: Vec<u32>, v6: Vec<u128>, values: Vec<u32>, aliases: Aliases) -> Ranges {
        debug_assert!(
            v4.first() == Some(&0) && v6.first() == Some(&0) && values.len() == v4.len() + v6.len()
        );
        let bits = v4.len().ilog2().min(INDEX_BITS_MAX);
        let v4_index = index(1 << bits, v4.len(), |bucket| {
            let first = (bucket as u64) << (32 - bits);
            v4.partition_point(|start| u64::from(*start) <= first) - 1
        });
        let v6_bits = v6.len().ilog2().min(INDEX_BITS_MAX);
        let v6_shift = 128 - GLOBAL_LENGTH - v6_bits;
        let v6_index = index(1 << v6_bits, v6.len(), |bucket| {
            let first = GLOBAL + ((bucket as u128) << v6_shift);
            v6.partition_point(|start| *start <= first) - 1
        });
        let v6_high = v6.iter().map(|start| (start >> 64) as u64).collect();
        let v6_low = if v6.iter().all(|start| *start as u64 == 0) {
            Vec::new()
        } else {
            v6.iter().map(|start| *start as u64).collect()
        };
        Ranges { v4, v4_index, v4_shift: 32 - bits, v6_high, v6_low, v6_index, v6_shift, values, aliases }
    }

    /// The value of an address.
    #[inline]
    pub(crate) fn get(&self, address: IpAddr) -> u32 {
        let range = match address {
            IpAddr::V4(v4) => self.find4(v4.to_bits()),
            IpAddr::V6(v6) => self.find6(v6),
        };
        self.values[range]
    }

    /// The range that an IPv4 address is in.
    #[inline]
    pub(super) fn find4(&self, address: u32) -> usize {
        // One range is the whole family: shifting by all of an address' bits isn't defined.
        let bucket = (u64::from(address) >> self.v4_shift) as usize;
        let (mut low, mut high) = (self.v4_index[bucket] as usize, self.v4_index[bucket + 1] as usize);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.v4[middle] <= address {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    /// The range that an IPv6 address is in: one of IPv4's if it stands for an IPv4 address.
    pub(super) fn find6(&self, address: Ipv6Addr) -> usize {
        let address = address.to_bits();
        match self.aliases.find(address) {
            Some(alias) => self.find4((address >> alias.shift()) as u32),
            None => self.v4.len() + self.find_own6(address),
        }
    }

    /// The range of IPv6's own, counted from its first.
    fn find_own6(&self, address: u128) -> usize {
        let (mut low, mut high) = if address >> (128 - GLOBAL_LENGTH) == GLOBAL >> (128 - GLOBAL_LENGTH) {
            let bucket = ((address - GLOBAL) >> self.v6_shift) as usize;
            (self.v6_index[bucket] as usize, self.v6_index[bucket + 1] as usize)
        } else {
            (0, self.v6_high.len() - 1)
        };
        let (address_high, address_low) = ((address >> 64) as u64, address as u64);
        while low < high {
            let middle = (low + high).div_ceil(2);
            let start = self.v6_high[middle];
            let starts_before = start < address_high
                || start == address_high
                    && self.v6_low.get(middle).copied().unwrap_or_default() <= address_low;
            if starts_before {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    /// The addresses around an IPv4 address as far as they are in ranges from `first` to before `end`, it being in one of them.
    pub(super) fn span4(&self, first: usize, end: usize) -> Span {
        Span {
            first: self.v4[first.min(self.v4.len() - 1)].into(),
            last: self.v4.get(end).map_or(u32::MAX, |start| start - 1).into(),
        }
    }

    /// The addresses around an IPv6 address as far as they are in ranges from `first` to before `end`, it being in one of them,
    /// and as far as they stand for IPv4 addresses, or don't, like itself.
    pub(super) fn span6(&self, address: u128, first: usize, end: usize) -> Span {
        if let Some(alias) = self.aliases.find(address) {
            let v4 = self.span4(first, end);
            return Span {
                first: alias.first | v4.first << alias.shift(),
                last: alias.first | v4.last << alias.shift() | ((1 << alias.shift()) - 1),
            };
        }
        let own = |range: usize| range.saturating_sub(self.v4.len());
        let mut span = Span {
            first: self.start6(own(first)),
            last: if own(end) < self.v6_high.len() { self.start6(own(end)) - 1 } else { u128::MAX },
        };
        for alias in self.aliases.iter() {
            if alias.last() < address {
                span.first = span.first.max(alias.last() + 1);
            } else {
                span.last = span.last.min(alias.first - 1);
            }
        }
        span
    }

    fn start6(&self, range: usize) -> u128 {
        u128::from(self.v6_high[range]) << 64
            | u128::from(self.v6_low.get(range).copied().unwrap_or_default())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// How many are IPv4's.
    pub(super) fn len4(&self) -> usize {
        self.v4.len()
    }

    pub(super) fn values(&self) -> &[u32] {
        &self.values
    }

    /// What [`Ranges::new`] takes: first addresses of each family, values, aliases.
    pub(super) fn parts(&self) -> (&[u32], impl ExactSizeIterator<Item = u128> + Clone, &[u32], Aliases) {
        (&self.v4, (0..self.v6_high.len()).map(|range| self.start6(range)), &self.values, self.aliases)
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.v4.len() + self.v4_index.len() + self.v6_index.len() + self.values.len()) * size_of::<u32>()
            + (self.v6_high.len() + self.v6_low.len()) * size_of::<u64>()
    }
}

/// The range of the first address of each bucket, and the last range of all.
fn index(buckets: usize, ranges: usize, range_of: impl Fn(usize) -> usize) -> Vec<u32> {
    let number = |range: usize| u32::try_from(range).expect("fewer than 2^32 ranges");
    (0..buckets).map(|bucket| number(range_of(bucket))).chain([number(ranges - 1)]).collect()
}
