//! Who is inside which zone's views: found by the source of a query in one look-up, so that outsiders cost next to nothing.

use std::net::IpAddr;

use herald_core::Name;
use herald_core::steering::{Prefix, View};

use crate::part::hash::octets_hash;

/// For the PoP that it is made for: from sources to zones whose views they are in. It never changes.
#[derive(Clone, Debug)]
pub struct ViewIndex<T> {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// Networks, each with the zones whose views name it, and the next larger network that is named.
    networks: Vec<Network>,
    zones: Vec<(Name, T)>,
}

#[derive(Clone, Debug)]
struct Network {
    /// Hashes of apexes and numbers of zones, ascending.
    zones: Vec<(u64, usize)>,
    outer: Option<usize>,
}

/// Where networks begin and end: each address is in the innermost network of the last start at or before it.
#[derive(Clone, Debug)]
struct Ranges<A> {
    starts: Vec<A>,
    networks: Vec<Option<usize>>,
}

impl<A: Ord + Copy> Ranges<A> {
    fn find(&self, address: A) -> Option<usize> {
        let after = self.starts.partition_point(|start| *start <= address);
        *self.networks.get(after.checked_sub(1)?)?
    }
}

impl<T> ViewIndex<T> {
    /// The index of zones with their views, for a PoP. Views of no prefix and of no PoP hold everybody there.
    pub fn new<'a>(
        pop: &str,
        zones: impl IntoIterator<Item = (Name, T, &'a [(String, View)])>,
    ) -> ViewIndex<T> {
        let mut all = Vec::new();
        let mut named: Vec<(Prefix, usize)> = Vec::new();
        for (apex, zone, views) in zones {
            let number = all.len();
            for (_, view) in views {
                if !view.pops.is_empty() && !view.pops.iter().any(|one| one == pop) {
                    continue;
                }
                if view.prefixes.is_empty() {
                    named.extend(everybody().into_iter().map(|prefix| (prefix, number)));
                }
                named.extend(view.prefixes.iter().map(|prefix| (*prefix, number)));
            }
            all.push((apex, zone));
        }
        // So networks come before those in them.
        named.sort_by_key(|(prefix, number)| (prefix.address(), prefix.length(), *number));
        named.dedup();
        let mut networks: Vec<Network> = Vec::new();
        let mut prefixes: Vec<Prefix> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for (prefix, number) in named {
            while let Some(last) = open.last() {
                if prefixes.get(*last).is_some_and(|last| last.contains(prefix.address())) {
                    break;
                }
                open.pop();
            }
            let network = match open.last() {
                Some(last) if prefixes.get(*last) == Some(&prefix) => *last,
                outer => {
                    networks.push(Network { zones: Vec::new(), outer: outer.copied() });
                    prefixes.push(prefix);
                    open.push(networks.len() - 1);
                    networks.len() - 1
                }
            };
            if let (Some(network), Some((apex, _))) = (networks.get_mut(network), all.get(number)) {
                network.zones.push((apex_hash(apex.as_wire()), number));
            }
        }
        networks.iter_mut().for_each(|network| network.zones.sort_unstable());
        let (v4, v6) = (ranges(&prefixes, &networks, v4_bounds), ranges(&prefixes, &networks, v6_bounds));
        ViewIndex { v4, v6, networks, zones: all }
    }

    /// The deepest zone at or above a name (wire format, lower case) whose views the source is in; strictly above it if `is_above`, as
    /// DS at a zone's apex is its parent's.
    pub fn find(&self, source: IpAddr, name: &[u8], is_above: bool) -> Option<&(Name, T)> {
        let network = self.innermost(source)?;
        let mut rest = name;
        if is_above {
            rest = parent(rest)?;
        }
        loop {
            let hash = apex_hash(rest);
            let mut next = Some(network);
            while let Some(network) = next.and_then(|number| self.networks.get(number)) {
                let first = network.zones.partition_point(|(one, _)| *one < hash);
                let like = network.zones.get(first..).unwrap_or_default().iter();
                let mut like = like.take_while(|(one, _)| *one == hash);
                let zone = like.find_map(|(_, number)| {
                    self.zones.get(*number).filter(|(apex, _)| apex.as_wire() == rest)
                });
                if zone.is_some() {
                    return zone;
                }
                next = network.outer;
            }
            rest = parent(rest)?;
        }
    }

    /// Whether the source is in any view at all.
    pub fn is_insider(&self, source: IpAddr) -> bool {
        self.innermost(source).is_some()
    }

    /// Whether there is no view at all.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    fn innermost(&self, source: IpAddr) -> Option<usize> {
        match source {
            IpAddr::V4(v4) => self.v4.find(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()),
        }
    }
}

fn apex_hash(apex: &[u8]) -> u64 {
    octets_hash(0, apex)
}

/// The name without its first label; the root has none.
fn parent(name: &[u8]) -> Option<&[u8]> {
    let label_bytes = usize::from(*name.first()?);
    if label_bytes == 0 { None } else { name.get(1 + label_bytes..) }
}

fn everybody() -> Vec<Prefix> {
    let all = [IpAddr::V4([0; 4].into()), IpAddr::V6([0; 16].into())];
    all.into_iter().filter_map(|address| Prefix::new(address, 0)).collect()
}

fn v4_bounds(prefix: &Prefix) -> Option<(u32, Option<u32>)> {
    let IpAddr::V4(first) = prefix.address() else { return None };
    let hosts = u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
    let last = first.to_bits() | hosts;
    Some((first.to_bits(), last.checked_add(1)))
}

fn v6_bounds(prefix: &Prefix) -> Option<(u128, Option<u128>)> {
    let IpAddr::V6(first) = prefix.address() else { return None };
    let hosts = u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
    let last = first.to_bits() | hosts;
    Some((first.to_bits(), last.checked_add(1)))
}

/// The ranges that networks of one family make; `bounds` gives a prefix's first address and the one after its last.
fn ranges<A: Ord + Copy>(
    prefixes: &[Prefix],
    networks: &[Network],
    bounds: impl Fn(&Prefix) -> Option<(A, Option<A>)>,
) -> Ranges<A> {
    // At one address networks end before others begin; of those that end the outermost, of those that begin the innermost counts.
    let mut edges: Vec<(A, bool, usize, Option<usize>)> = Vec::new();
    for (number, prefix) in prefixes.iter().enumerate() {
        let Some((first, after)) = bounds(prefix) else { continue };
        let length = usize::from(prefix.length());
        edges.push((first, true, length, Some(number)));
        if let Some(after) = after {
            let outer = networks.get(number).and_then(|network| network.outer);
            edges.push((after, false, usize::from(u8::MAX) - length, outer));
        }
    }
    edges.sort_unstable();
    let mut ranges = Ranges { starts: Vec::new(), networks: Vec::new() };
    for (start, _, _, network) in edges {
        if ranges.starts.last() == Some(&start) {
            ranges.starts.pop();
            ranges.networks.pop();
        }
        ranges.starts.push(start);
        ranges.networks.push(network);
    }
    ranges
}
