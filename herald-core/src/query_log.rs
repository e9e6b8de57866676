//! The query log: which zones' queries PoPs note one by one, or a sample of them, and for how long.

use minicbor::{Decode, Encode};

use crate::{TenantId, ZoneId};

/// The longest time that a zone's queries are logged at a stretch, and that they are unless it is said, in ms.
pub const LOG_MS_MAX: u64 = 3_600_000;

/// One query in so many at the rarest.
pub const ONE_IN_MAX: u32 = 10_000;

/// Zones of all tenants whose queries are logged at a time: PoPs have room for so many.
pub const ZONES_MAX: usize = 1_000;

/// For so long after its end, in ms, what was logged before it may still come in from PoPs.
pub const LATE_MS: u64 = 15 * 60_000;

/// That queries of a zone are logged. It runs out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct QueryLog {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// Who holds it.
    #[n(1)]
    pub tenant: TenantId,
    /// Since when, in ms since the epoch.
    #[n(2)]
    pub since_ms: u64,
    /// Until when, in ms since the epoch.
    #[n(3)]
    pub until_ms: u64,
    /// One query in so many, by chance.
    #[n(4)]
    pub one_in: u32,
}

impl QueryLog {
    /// Whether queries are logged at this time.
    pub fn is_on_at(&self, time_ms: u64) -> bool {
        time_ms < self.until_ms
    }

    /// Whether what was logged may still come in at this time.
    pub fn is_awaited_at(&self, time_ms: u64) -> bool {
        time_ms < self.until_ms.saturating_add(LATE_MS)
    }
}
