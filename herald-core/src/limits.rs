//! Limits of tenants: how much each may have, and how fast it may ask. Operators adjust them; what isn't set is as this
//! table says.
//!
//! A limit is judged against growth alone: one that was lowered breaks nothing that is there.

use std::str::FromStr;

use minicbor::{Decode, Encode};

macro_rules! limits {
    ($($number:literal $limit:ident $field:ident = $default:expr, $min:literal ..= $max:expr, $doc:literal;)*) => {
        /// What is limited. Its name in the API is that of the field in [`TenantLimits`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Limit {
            $(#[doc = $doc] $limit,)*
        }

        /// The limits that were set for a tenant; the others are the default ones.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
        pub struct TenantLimits {
            $(#[n($number)] $field: Option<u64>,)*
        }

        impl Limit {
            /// All of them.
            pub const ALL: &[Limit] = &[$(Limit::$limit),*];

            /// Its name in the API.
            pub fn name(self) -> &'static str {
                match self {
                    $(Limit::$limit => stringify!($field),)*
                }
            }

            /// What it is unless it was set.
            pub fn default_value(self) -> u64 {
                match self {
                    $(Limit::$limit => $default,)*
                }
            }

            /// What it can be set to.
            pub fn range(self) -> std::ops::RangeInclusive<u64> {
                match self {
                    $(Limit::$limit => $min..=$max,)*
                }
            }
        }

        impl TenantLimits {
            /// What was set, if it was.
            pub fn get(&self, limit: Limit) -> Option<u64> {
                match limit {
                    $(Limit::$limit => self.$field,)*
                }
            }

            /// Sets it, or goes back to the default.
            pub fn set(&mut self, limit: Limit, value: Option<u64>) {
                match limit {
                    $(Limit::$limit => self.$field = value,)*
                }
            }
        }
    };
}

/// More of anything is not asked for in earnest.
const COUNT_MAX: u64 = 1_000_000_000;

const MIB: u64 = 1024 * 1024;

// A number is persistent, and never used again for something else.
limits! {
    0 Zones zones = 100_000, 0..=COUNT_MAX, "Zones, pending ones included.";
    1 RrsetsPerZone rrsets_per_zone = 2_000_000, 0..=COUNT_MAX, "RRsets of a zone, its SOA included.";
    2 RecordsPerRrset records_per_rrset = 1_000, 1..=COUNT_MAX, "Records of an RRset.";
    3 RecordsPerZone records_per_zone = 2_000_000, 0..=COUNT_MAX, "Records of a zone, its SOA included.";
    4 Records records = 5_000_000, 0..=COUNT_MAX, "Records of all zones together.";
    5 LabelsPerZone labels_per_zone = 64, 0..=10_000, "Labels of a zone.";
    6 Tokens tokens = 1_000, 1..=100_000, "Tokens, revoked and expired ones included while they are kept.";
    7 ReadsPerS reads_per_s = 500, 1..=COUNT_MAX, "Requests a second that read, in the long run.";
    8 ReadBurst read_burst = 10_000, 1..=COUNT_MAX, "Requests at once that read.";
    9 WritesPerS writes_per_s = 100, 1..=COUNT_MAX, "Requests a second that write, in the long run; a batch is one.";
    10 WriteBurst write_burst = 2_000, 1..=COUNT_MAX, "Requests at once that write.";
    11 BodyBytes body_bytes = 4 * MIB, 1024..=64 * MIB, "Bytes of a request's body, decompressed.";
    12 ZoneFileBytes zone_file_bytes = 1024 * MIB, 1024..=4096 * MIB, "Bytes of a zone file, decompressed.";
    13 PoliciesPerZone policies_per_zone = 2_000_000, 0..=COUNT_MAX, "Steering policies of a zone; each is a record, too.";
    14 Monitors monitors = 1_000, 0..=1_000_000, "Monitors.";
    15 MonitorIntervalMs monitor_interval_ms = 1_000, 1_000..=86_400_000, "Milliseconds between two probes of a monitor, at least.";
    16 Channels channels = 20, 0..=10_000, "Notification channels.";
    18 AliasesPerZone aliases_per_zone = 1_000, 0..=100_000, "ALIAS records of a zone; each is a record, too.";
    20 QueryLogs query_logs = 10, 0..=1_000, "Zones whose queries are logged at a time.";
}

impl Limit {
    /// What it is for a tenant for which these were set.
    pub fn of(self, set: Option<&TenantLimits>) -> u64 {
        set.and_then(|set| set.get(self)).unwrap_or_else(|| self.default_value())
    }
}

/// The text names no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such limit")]
pub struct NoSuchLimit;

impl FromStr for Limit {
    type Err = NoSuchLimit;

    fn from_str(text: &str) -> Result<Limit, NoSuchLimit> {
        Limit::ALL.iter().copied().find(|limit| limit.name() == text).ok_or(NoSuchLimit)
    }
}

/// How much a tenant has of what is limited for all of its zones together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Zones, pending ones included.
    pub zones: u64,
    /// Records, each zone's SOA included.
    pub records: u64,
    /// Tokens, revoked and expired ones included.
    pub tokens: u64,
    /// Monitors.
    pub monitors: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_the_default() {
        let mut set = TenantLimits::default();
        for limit in Limit::ALL {
            assert_eq!(limit.name().parse(), Ok(*limit));
            assert!(limit.range().contains(&limit.default_value()), "{limit:?}");
            assert_eq!(limit.of(None), limit.default_value());
            assert_eq!(limit.of(Some(&set)), limit.default_value());
            set.set(*limit, Some(7));
            assert_eq!(limit.of(Some(&set)), 7);
        }
        let bytes = minicbor::to_vec(&set).unwrap();
        assert_eq!(minicbor::decode::<TenantLimits>(&bytes).unwrap(), set);
        set.set(Limit::Zones, None);
        assert_eq!(Limit::Zones.of(Some(&set)), 100_000);
        assert_eq!("zone".parse::<Limit>(), Err(NoSuchLimit));
    }
}
