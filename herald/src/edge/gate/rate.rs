//! How fast somebody may ask: token buckets, kept as the time at which each would be full again.
//!
//! A bucket that is full is the same as none, so that what is in memory are those that somebody takes from right now. The
//! clock is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Mutex;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use herald_core::limits::{Limit, TenantLimits};
use herald_core::{MonitorId, TenantId, TokenId};

use crate::edge::connections::network;
use crate::edge::problem::{ApiError, Code};

/// What an operator's token may: enough for every tool, and an end to one that runs wild.
const OPERATOR: Rate = Rate { per_s: 10_000, burst: 100_000 };

/// Failed attempts to authenticate of one address (a /64 of IPv6) that are answered as such.
const FAILURES: Rate = Rate { per_s: 1, burst: 100 };

/// Calls of one heartbeat.
const HEARTBEATS: Rate = Rate { per_s: 5, burst: 20 };

/// Addresses whose failures are counted one by one; all others share one bucket.
const ADDRESSES_MAX: usize = 65_536;

const NS_PER_S: u64 = 1_000_000_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second.
    pub per_s: u64,
    /// Requests at once.
    pub burst: u64,
}

/// A bucket as a request found it, and what its answer says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    kind: Kind,
    rate: Rate,
    /// Requests that may still be made at once.
    remaining: u64,
    /// Until the bucket is full.
    full_in_ns: u64,
    /// If this request was one too many: when there is room for one.
    retry_in_ns: Option<u64>,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It reads.
    Read,
    /// It writes; a batch is one.
    Write,
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A tenant, with all of its tokens.
    Tenant(TenantId),
    /// An operator's token.
    Operator(TokenId),
}

/// All buckets.
#[derive(Default)]
pub struct Buckets {
    requests: Mutex<Table<(Holder, Kind)>>,
    failures: Mutex<Table<Option<IpAddr>>>,
    heartbeats: Mutex<Table<MonitorId>>,
}

impl Buckets {
    /// Takes one request from a bucket.
    pub fn take(&self, holder: Holder, kind: Kind, limits: Option<&TenantLimits>, now_ns: u64) -> Taken {
        let rate = match (holder, kind) {
            (Holder::Operator(_), _) => OPERATOR,
            (Holder::Tenant(_), Kind::Read) => {
                Rate { per_s: Limit::ReadsPerS.of(limits), burst: Limit::ReadBurst.of(limits) }
            }
            (Holder::Tenant(_), Kind::Write) => {
                Rate { per_s: Limit::WritesPerS.of(limits), burst: Limit::WriteBurst.of(limits) }
            }
        };
        let mut requests = self.requests.lock().expect("nothing panics with it");
        requests.take((holder, kind), kind, rate, now_ns)
    }

    /// Takes one call of a heartbeat.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn take_heartbeat(&self, monitor: MonitorId, now_ns: u64) -> Result<(), ApiError> {
        let mut heartbeats = self.heartbeats.lock().expect("nothing panics with it");
        match heartbeats.take(monitor, Kind::Write, HEARTBEATS, now_ns).retry_in_ns {
            None => Ok(()),
            Some(retry_in_ns) => {
                let Rate { per_s, burst } = HEARTBEATS;
                let detail = format!("a heartbeat may come {burst} times at once and {per_s} times a second");
                Err(ApiError::new(Code::RateLimited, detail).retry_after(seconds_up(retry_in_ns)))
            }
        }
    }

    /// Counts a failed attempt to authenticate; an error if there were too many from this address.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn count_failure(&self, address: Option<IpAddr>, now_ns: u64) -> Result<(), ApiError> {
        let mut failures = self.failures.lock().expect("nothing panics with it");
        let mut key = address.map(network);
        if failures.full_at_ns.len() >= ADDRESSES_MAX && !failures.full_at_ns.contains_key(&key) {
            key = None;
        }
        let taken = failures.take(key, Kind::Read, FAILURES, now_ns);
        match taken.retry_in_ns {
            None => Ok(()),
            Some(retry_in_ns) => Err(ApiError::new(
                Code::RateLimited,
                "too many requests without a valid token came from this address",
            )
            .retry_after(seconds_up(retry_in_ns))),
        }
    }
}

/// Buckets by their keys.
struct Table<K> {
    /// When each is full again; one that is full isn't here, or will be dropped.
    full_at_ns: HashMap<K, u64>,
    /// So many buckets make a look for full ones worthwhile.
    sweep_at: usize,
}

const SWEEP_MIN: usize = 1024;

impl<K> Default for Table<K> {
    fn default() -> Self {
        Table { full_at_ns: HashMap::new(), sweep_at: SWEEP_MIN }
    }
}

impl<K: Eq + Hash> Table<K> {
    fn take(&mut self, key: K, kind: Kind, rate: Rate, now_ns: u64) -> Taken {
        if self.full_at_ns.len() >= self.sweep_at {
            self.full_at_ns.retain(|_, full_at_ns| *full_at_ns > now_ns);
            self.sweep_at = SWEEP_MIN.max(2 * self.full_at_ns.len());
            self.full_at_ns.shrink_to(self.sweep_at);
        }
        // To fill one request takes at least a nanosecond: a limit of a billion a second is none.
        let fill_ns = (NS_PER_S / rate.per_s.max(1)).max(1);
        let all_ns = fill_ns.saturating_mul(rate.burst);
        let full_at_ns = self.full_at_ns.get(&key).copied().unwrap_or(0).max(now_ns);
        let after_ns = full_at_ns.saturating_add(fill_ns);
        let too_early_ns = after_ns.saturating_sub(now_ns.saturating_add(all_ns));
        let full_at_ns = if too_early_ns == 0 {
            self.full_at_ns.insert(key, after_ns);
            after_ns
        } else {
            full_at_ns
        };
        let full_in_ns = full_at_ns - now_ns;
        Taken {
            kind,
            rate,
            // A bucket that was made smaller may be more than empty.
            remaining: all_ns.saturating_sub(full_in_ns) / fill_ns,
            full_in_ns,
            retry_in_ns: (too_early_ns > 0).then_some(too_early_ns),
        }
    }
}

impl Taken {
    /// Refuses the request that was one too many.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn check(&self) -> Result<(), ApiError> {
        let Some(retry_in_ns) = self.retry_in_ns else { return Ok(()) };
        let (Rate { per_s, burst }, kind) = (self.rate, self.kind.name());
        let detail = format!(
            "too many requests that {kind}: {burst} at once and {per_s} a second are allowed; put changes together in \
             batches, which count once"
        );
        Err(ApiError::new(Code::RateLimited, detail).retry_after(seconds_up(retry_in_ns)))
    }

    /// Says how the bucket stands (draft-ietf-httpapi-ratelimit-headers).
    pub fn tell(&self, headers: &mut HeaderMap) {
        let (kind, Rate { per_s, burst }) = (self.kind.name(), self.rate);
        let window_s = burst.div_ceil(per_s.max(1));
        let full_in_s = seconds_up(self.full_in_ns);
        let policy = format!("\"{kind}\";q={burst};w={window_s}");
        let now = format!("\"{kind}\";r={};t={full_in_s}", self.remaining);
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", now)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
        }
    }
}

fn seconds_up(ns: u64) -> u64 {
    ns.div_ceil(NS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_s: 10, burst: 3 };
    const MS: u64 = 1_000_000;

    fn take(table: &mut Table<u8>, key: u8, now_ms: u64) -> Taken {
        table.take(key, Kind::Write, RATE, now_ms * MS)
    }

    #[test]
    fn a_burst_and_then_what_fills() {
        let mut table = Table::default();
        // At, how many are left, and if refused when to come again.
        for (now_ms, remaining, retry_in_ms) in [
            (0, 2, None),
            (0, 1, None),
            (0, 0, None),
            (0, 0, Some(100)),
            (99, 0, Some(1)),
            (100, 0, None),
            (100, 0, Some(100)),
            (150, 0, Some(50)),
            (350, 1, None),
            (10_000, 2, None),
        ] {
            let taken = take(&mut table, 1, now_ms);
            let retry_in_ns = retry_in_ms.map(|ms: u64| ms * MS);
            assert_eq!((taken.remaining, taken.retry_in_ns), (remaining, retry_in_ns), "at {now_ms} ms");
        }
        // Another's is another.
        assert_eq!(take(&mut table, 2, 10_000).remaining, 2);
    }

    #[test]
    fn answers_say_how_the_bucket_stands() {
        let mut table = Table::default();
        let told = |taken: Taken| {
            let mut headers = HeaderMap::new();
            taken.tell(&mut headers);
            let text = |name: &str| headers[name].to_str().unwrap().to_owned();
            (text("ratelimit-policy"), text("ratelimit"))
        };
        let policy = "\"write\";q=3;w=1".to_owned();
        assert_eq!(told(take(&mut table, 1, 0)), (policy.clone(), "\"write\";r=2;t=1".into()));
        assert!((0..2).all(|_| take(&mut table, 1, 0).check().is_ok()));
        let refused = take(&mut table, 1, 0);
        assert_eq!(told(refused), (policy, "\"write\";r=0;t=1".into()));
        assert_eq!(refused.check().unwrap_err().code(), Code::RateLimited);
    }

    #[test]
    fn limits_may_change_under_way() {
        let mut table = Table::default();
        for _ in 0..10 {
            assert!(table.take(1, Kind::Read, Rate { per_s: 1, burst: 10 }, 0).check().is_ok());
        }
        // Smaller: it is more than empty. Larger: it has room at once.
        let smaller = table.take(1, Kind::Read, Rate { per_s: 1, burst: 2 }, 0);
        assert_eq!((smaller.remaining, smaller.retry_in_ns), (0, Some(9 * NS_PER_S)));
        assert!(
            table
                .take(1, Kind::Read, Rate { per_s: 1_000_000_000, burst: 1_000_000_000 }, 0)
                .check()
                .is_err()
        );
        assert!(table.take(1, Kind::Read, Rate { per_s: 1, burst: 12 }, 0).check().is_ok());
    }

    #[test]
    fn what_is_full_is_forgotten() {
        let mut table: Table<u32> = Table::default();
        for round in 0..20 {
            for key in 0..2_000 {
                let now_ns = (round * 10_000 + u64::from(key)) * MS;
                assert!(table.take(key + 2_000 * round as u32, Kind::Read, RATE, now_ns).check().is_ok());
            }
        }
        assert!(table.full_at_ns.len() <= SWEEP_MIN && table.full_at_ns.capacity() <= 4 * SWEEP_MIN);
    }

    #[test]
    fn failures_are_counted_by_network_and_within_bounds() {
        let buckets = Buckets::default();
        let address = |text: &str| Some(text.parse().unwrap());
        for n in 0..FAILURES.burst {
            assert!(buckets.count_failure(address(&format!("2001:db8::{n:x}")), 0).is_ok());
        }
        let refused = |text: &str| buckets.count_failure(address(text), 0).is_err();
        assert!(refused("2001:db8::ffff:1") && !refused("2001:db8:0:1::1"));
        assert!(!refused("192.0.2.1") && !refused("::ffff:192.0.2.1"));
        for n in 0..100_000u32 {
            _ = buckets.count_failure(Some(IpAddr::from(n.to_be_bytes())), 0);
        }
        assert!(buckets.failures.lock().unwrap().full_at_ns.len() <= ADDRESSES_MAX + 1);
        // Those that have no bucket of their own have one together; who is known keeps its own.
        assert!(refused("203.0.113.7") && !refused("192.0.2.1"));
    }

    proptest! {
        /// Whatever the times, in any stretch of time no more goes through than a burst and what fills meanwhile.
        #[test]
        fn no_more_goes_through(
            steps in proptest::collection::vec(0u64..200, 1..200),
            per_s in 1u64..2_000,
            burst in 1u64..50,
        ) {
            let (mut table, mut now_ms, mut passed) = (Table::default(), 0, Vec::new());
            for step in steps {
                now_ms += step;
                let taken = table.take(1u8, Kind::Read, Rate { per_s, burst }, now_ms * MS);
                match taken.retry_in_ns {
                    None => passed.push(now_ms),
                    Some(wait_ns) => {
                        // Whoever waits as told gets through.
                        let mut later = Table { full_at_ns: table.full_at_ns.clone(), sweep_at: SWEEP_MIN };
                        let again = later.take(1, Kind::Read, Rate { per_s, burst }, now_ms * MS + wait_ns);
                        prop_assert!(again.check().is_ok());
                    }
                }
            }
            for (n, from) in passed.iter().enumerate() {
                for (m, to) in passed.iter().enumerate().skip(n) {
                    let fill_ns = NS_PER_S / per_s;
                    prop_assert!((m - n) as u64 <= burst + (to - from) * MS / fill_ns);
                }
            }
        }
    }
}
