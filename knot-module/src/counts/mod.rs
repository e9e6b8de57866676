//! Every query is counted: what is known of it when it is answered goes to a ring of its thread, and a thread of ours adds up.
//!
//! ```text
//!  BEGIN  the zone's number ─┐
//!  (decisions) policy, pool ─┤ kept by the thread of the query
//!  END    code, transport ───┴─▶ ring ──▶ `tally` ──▶ `outbox` ──▶ agent
//!                             (full: counters of the zone)
//! ```
//!
//! The thread of the query takes no lock, doesn't allocate (but its ring, once) and reads no clock.

mod file;
mod outbox;
mod ring;
mod tally;

use std::cell::Cell;
use std::net::IpAddr;

pub use outbox::{kept, outbox, subscribe, unsubscribe};
pub use ring::Numbered;
pub use tally::{Tallying, figures, start};

use crate::knot::Query;
use ring::{Kind, Record, Ring};

/// What a thread of knotd's knows of the query that it answers.
struct Thread {
    /// Number of the zone that answers, zero if none does.
    zone: Cell<u32>,
    /// Of what was decided first: the policy, zero if nothing was, and the pool.
    policy: Cell<u64>,
    pool: Cell<u64>,
    ring: Cell<Option<&'static Ring>>,
}

thread_local! {
    static THREAD: Thread =
        const { Thread { zone: Cell::new(0), policy: Cell::new(0), pool: Cell::new(0), ring: Cell::new(None) } };
}

/// The query is answered from the zone of this number, unless another one was named before.
#[inline]
pub fn zone(number: u32) {
    THREAD.with(|thread| {
        if thread.zone.get() == 0 {
            thread.zone.set(number);
        }
    });
}

/// A policy was asked, and this pool answers; what is decided first counts.
#[inline]
pub fn decided(policy: u64, pool: u64) {
    THREAD.with(|thread| {
        if thread.policy.get() == 0 {
            thread.policy.set(policy);
            thread.pool.set(pool);
        }
    });
}

/// The query has no answer of its own, or isn't to be counted: what is known of it is forgotten.
#[inline]
pub fn forget() {
    THREAD.with(|thread| {
        thread.zone.set(0);
        thread.policy.set(0);
    });
}

/// The query has ended, and is counted.
#[inline]
pub fn count(query: &Query<'_>, is_truncated: bool, is_dropped: bool) {
    THREAD.with(|thread| {
        let (zone, policy) = (thread.zone.replace(0), thread.policy.replace(0));
        let ring = thread.ring.get().unwrap_or_else(|| new_ring(thread));
        let rcode = query.rcode();
        let source = query.source();
        let client = query.client_subnet().map(|subnet| subnet.address).or(source);
        let (address, is_client_ipv6) = match client {
            Some(IpAddr::V4(address)) => (u64::from(address.to_bits()), false),
            Some(IpAddr::V6(address)) => ((address.to_bits() >> 64) as u64, true),
            None => (0, false),
        };
        let record = Record {
            zone,
            rtype: query.rtype(),
            rcode,
            transport: query.transport(),
            is_ipv6: matches!(source, Some(IpAddr::V6(_))),
            is_client_ipv6,
            is_truncated,
            is_dropped,
            is_decided: policy != 0,
        };
        let is_put = match policy {
            0 => ring.push(record.pack(), address),
            policy => ring.push_decided(record.pack(), address, policy, thread.pool.get()),
        };
        if !is_put {
            ring::count_coarsely(zone, Kind::of(rcode, is_dropped));
        }
    });
}

#[cold]
fn new_ring(thread: &Thread) -> &'static Ring {
    let ring = ring::new();
    thread.ring.set(Some(ring));
    ring
}
