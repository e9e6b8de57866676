//! Networks of sources to numbers.

use std::net::IpAddr;

use herald_core::steering::Prefix;

use crate::geo::Aliases;
use crate::geo::ranges::Ranges;

/// Networks, sorted so that each comes after those that it is in.
pub(super) struct Networks {
    /// No two are equal.
    pub(super) prefixes: Vec<Prefix>,
    /// The smallest other one that each is in.
    pub(super) outer: Vec<Option<usize>>,
}

impl Networks {
    pub(super) fn new(mut prefixes: Vec<Prefix>) -> Networks {
        prefixes.sort_unstable_by_key(|prefix| (prefix.address(), prefix.length()));
        prefixes.dedup();
        let mut outer = Vec::with_capacity(prefixes.len());
        let mut open: Vec<usize> = Vec::new();
        for (number, prefix) in prefixes.iter().enumerate() {
            while open.last().is_some_and(|last| !prefixes[*last].contains(prefix.address())) {
                open.pop();
            }
            outer.push(open.last().copied());
            open.push(number);
        }
        Networks { prefixes, outer }
    }

    /// Where this one is.
    pub(super) fn place(&self, prefix: &Prefix) -> Option<usize> {
        let key = |prefix: &Prefix| (prefix.address(), prefix.length());
        self.prefixes.binary_search_by_key(&key(prefix), key).ok()
    }

    /// Every address with the value of the smallest network that it is in, and zero where it is in none.
    pub(super) fn ranges(&self, value_of: impl Fn(usize) -> u32) -> Ranges {
        let (mut v4, mut v6) = (Starts::default(), Starts::default());
        for is_v4 in [true, false] {
            let starts = if is_v4 { &mut v4 } else { &mut v6 };
            let end = if is_v4 { u128::from(u32::MAX) } else { u128::MAX };
            starts.put(0, 0);
            // Networks that are open, with their last addresses.
            let mut open: Vec<(usize, u128)> = Vec::new();
            let close = |open: &mut Vec<(usize, u128)>, starts: &mut Starts, before: Option<u128>| {
                while let Some(&(_, last)) = open.last()
                    && before.is_none_or(|address| last < address)
                {
                    open.pop();
                    if last < end {
                        starts.put(last + 1, open.last().map_or(0, |(outer, _)| value_of(*outer)));
                    }
                }
            };
            for (number, prefix) in self.prefixes.iter().enumerate() {
                let (first, last) = bounds(prefix);
                if prefix.address().is_ipv4() == is_v4 {
                    close(&mut open, starts, Some(first));
                    open.push((number, last));
                    starts.put(first, value_of(number));
                }
            }
            close(&mut open, starts, None);
        }
        let values = [&v4.values[..], &v6.values].concat();
        // An address of IPv4 was written as one before it is looked up.
        Ranges::new(v4.starts.iter().map(|start| *start as u32).collect(), v6.starts, values, Aliases::NONE)
    }
}

#[derive(Default)]
struct Starts {
    starts: Vec<u128>,
    values: Vec<u32>,
}

impl Starts {
    fn put(&mut self, start: u128, value: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }
}

/// The first and the last address.
fn bounds(prefix: &Prefix) -> (u128, u128) {
    match prefix.address() {
        IpAddr::V4(v4) => {
            let first = v4.to_bits();
            (first.into(), (first | u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            let first = v6.to_bits();
            (first, first | u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0))
        }
    }
}
