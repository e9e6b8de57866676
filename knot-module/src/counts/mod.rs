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

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub use outbox::{kept, outbox, subscribe, unsubscribe};
pub use ring::Numbered;
pub use tally::{Tallying, figures, start};

use crate::knot::{Answer, Query};
use crate::queries::{self, Ended};
use ring::{Kind, Record, Ring};

/// What a thread of knotd's knows of the query that it answers. It is found by knotd's number for the thread, in fewer instructions than
/// storage of the thread's own; nobody else writes it.
#[repr(align(64))]
struct Worker {
    /// Label of the zone that answers, zero if none does: its number, and above that the mark of zones that are logged.
    zone: AtomicU64,
    /// Of what was decided first: the policy, zero if nothing was, and the pool.
    policy: AtomicU64,
    pool: AtomicU64,
    ring: OnceLock<&'static Ring>,
    logged: OnceLock<&'static queries::Ring>,
}

/// Threads that are told apart: knotd has at most 255 for UDP, and as many for TCP and for each queue of a network card. What others
/// answer is counted coarsely, and under no zone.
const WORKERS: usize = 2048;

static WORKER: [Worker; WORKERS] = [const {
    Worker {
        zone: AtomicU64::new(0),
        policy: AtomicU64::new(0),
        pool: AtomicU64::new(0),
        ring: OnceLock::new(),
        logged: OnceLock::new(),
    }
}; WORKERS];

impl Worker {
    #[inline]
    fn forget(&self) {
        self.zone.store(0, Ordering::Relaxed);
        self.policy.store(0, Ordering::Relaxed);
    }
}

#[inline]
fn worker(query: &Query<'_>) -> Option<&'static Worker> {
    WORKER.get(query.thread())
}

/// The query is answered from the zone of this label, unless another one was named before.
#[inline]
pub fn zone(query: &Query<'_>, label: u64) {
    if let Some(worker) = worker(query)
        && worker.zone.load(Ordering::Relaxed) == 0
    {
        worker.zone.store(label, Ordering::Relaxed);
    }
}

/// A policy was asked, and this pool answers; what is decided first counts.
#[inline]
pub fn decided(query: &Query<'_>, policy: u64, pool: u64) {
    if let Some(worker) = worker(query)
        && worker.policy.load(Ordering::Relaxed) == 0
    {
        worker.policy.store(policy, Ordering::Relaxed);
        worker.pool.store(pool, Ordering::Relaxed);
    }
}

/// The query has no answer of its own, or isn't to be counted: what is known of it is forgotten.
#[inline]
pub fn forget(query: &Query<'_>) {
    if let Some(worker) = worker(query) {
        worker.forget();
    }
}

/// The query has ended, and is counted; and noted, if its zone is logged.
#[inline]
pub fn count(query: &Query<'_>, answer: &Answer<'_>, is_truncated: bool, is_dropped: bool) {
    // knotd is asked before anything else is known, that it needn't be put aside for that.
    let (source, is_ipv6) = query.source_bits();
    let rcode = query.rcode();
    let Some(worker) = worker(query) else {
        return ring::count_coarsely(0, Kind::of(rcode, is_dropped));
    };
    let (label, policy) = (worker.zone.load(Ordering::Relaxed), worker.policy.load(Ordering::Relaxed));
    let (zone, mark) = (label as u32, (label >> 32) as u32);
    worker.forget();
    let (address, is_client_ipv6) = query.client_bits((source, is_ipv6));
    let record = Record {
        zone,
        rtype: query.rtype(),
        rcode,
        transport: query.transport(),
        is_ipv6,
        is_client_ipv6,
        is_truncated,
        is_dropped,
        is_decided: policy != 0,
    };
    let ring = worker.ring.get_or_init(ring::new);
    let is_put = match policy {
        0 => ring::push(ring, record.pack(), address),
        policy => {
            let pool = worker.pool.load(Ordering::Relaxed);
            ring::push_decided(ring, record.pack(), address, policy, pool)
        }
    };
    if !is_put {
        ring::count_coarsely(zone, Kind::of(rcode, is_dropped));
    }
    if mark != 0 {
        let pool = if policy == 0 { 0 } else { worker.pool.load(Ordering::Relaxed) };
        let ended = Ended { mark, policy, pool, is_truncated, is_dropped };
        queries::note(&worker.logged, query, answer, &ended);
    }
}
