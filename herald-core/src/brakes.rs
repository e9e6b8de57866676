//! The emptiness brake: what would empty much of a zone, or of a PoP, waits for somebody's word.
//!
//! A mistake that removes is worse than one that adds, as it is felt at once and everywhere. So whoever removes much of
//! a zone by API is asked first. And a PoP that would lose many zones, or much of a zone without anybody's confirmation,
//! goes on serving what it has until an operator says that it was meant: the publisher holds that back. What is too much
//! is said here; that something is held, and the operator's word, are on the log.

use minicbor::{Decode, Encode};

use crate::content::{Content, Difference};

/// How much may go before somebody is asked. 100 percent: all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Brakes {
    /// Percent of a zone's RRsets, or of its records, that may go in one change.
    #[n(0)]
    pub zone_percent: u8,
    /// A zone of fewer RRsets may lose all.
    #[n(1)]
    pub zone_rrsets_min: u64,
    /// Percent of a PoP's zones that may go within an hour.
    #[n(2)]
    pub pop_percent: u8,
    /// Fewer zones than this may go within an hour, whatever share that is.
    #[n(3)]
    pub pop_zones_min: u64,
}

impl Default for Brakes {
    fn default() -> Brakes {
        Brakes { zone_percent: 50, zone_rrsets_min: 20, pop_percent: 20, pop_zones_min: 100 }
    }
}

/// How much there is of a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// RRsets, the SOA left out.
    pub rrsets: u64,
    /// Records, the SOA left out.
    pub records: u64,
}

impl Size {
    /// Of some content.
    pub fn of(content: &Content) -> Size {
        Size { rrsets: content.rrset_count(), records: content.record_count() }
    }

    /// Of the content that a difference leads to, found without doing it.
    pub fn after(content: &Content, difference: &Difference) -> Size {
        let mut size = Size::of(content);
        let puts = difference.puts.iter().map(|(key, rrset)| (key, rrset.rdatas.len() as u64));
        for (key, records) in puts.chain(difference.deletes.iter().map(|key| (key, 0))) {
            if let Some(old) = content.get(key) {
                size.rrsets -= 1;
                size.records -= old.rdatas.len() as u64;
            }
            size.rrsets += u64::from(records > 0);
            size.records += records;
        }
        size
    }
}

impl Brakes {
    /// Whether a zone loses so much that somebody has to say that it is meant.
    pub fn hold_zone(&self, before: Size, after: Size) -> bool {
        before.rrsets >= self.zone_rrsets_min
            && (is_over(self.zone_percent, before.rrsets, after.rrsets)
                || is_over(self.zone_percent, before.records, after.records))
    }

    /// Whether a PoP that had `before` zones an hour ago loses so much, `lost` in all since then.
    pub fn hold_pop(&self, before: u64, lost: u64) -> bool {
        lost >= self.pop_zones_min.max(1) && is_over(self.pop_percent, before, before.saturating_sub(lost))
    }
}

fn is_over(percent: u8, before: u64, after: u64) -> bool {
    u128::from(before.saturating_sub(after)) * 100 > u128::from(before) * u128::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much() {
        let brakes = Brakes::default();
        let flat = |rrsets| Size { rrsets, records: rrsets };
        let zone = |before, after| brakes.hold_zone(flat(before), flat(after));
        assert!(!zone(19, 0), "a small zone");
        assert!(zone(20, 0) && zone(20, 9) && zone(1_000_000, 499_999));
        assert!(!zone(20, 10) && !zone(20, 20) && !zone(20, 1000), "half of it may go");
        let records = |before, after| {
            let size = |records| Size { rrsets: 30, records };
            brakes.hold_zone(size(before), size(after))
        };
        assert!(records(1000, 30) && !records(1000, 500), "or records of RRsets that stay");

        let pop = |before, lost| brakes.hold_pop(before, lost);
        assert!(!pop(100, 99) && pop(100, 100) && pop(499, 100));
        assert!(!pop(500, 100) && pop(500, 101) && !pop(1000, 200));
        let off = Brakes { zone_percent: 100, pop_percent: 100, ..brakes };
        assert!(!off.hold_zone(flat(1000), flat(0)) && !off.hold_pop(1000, 1000));
        let none = Brakes { zone_percent: 0, zone_rrsets_min: 0, pop_percent: 0, pop_zones_min: 0 };
        assert!(none.hold_zone(flat(1), flat(0)) && !none.hold_zone(flat(0), flat(0)));
        assert!(none.hold_pop(1, 1) && !none.hold_pop(1, 0));
    }
}
