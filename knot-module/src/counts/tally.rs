//! The thread that adds up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use std::{io, path};

use herald_core::{Name, ZoneId};
use steering::counts::{Counts, NO_POOL};
use steering::geo::Geo;

use super::outbox::{self, outbox};
use super::ring::{self, Record};
use crate::{STORE, knot, places};

/// How often rings are emptied.
const TAKE_INTERVAL: Duration = Duration::from_millis(5);

/// How often what was counted is told: what a knotd that is killed loses is at most what it counted since then.
pub const BATCH_INTERVAL: Duration = Duration::from_millis(250);

/// How often what nobody has kept is written to the file.
const FILE_INTERVAL: Duration = Duration::from_secs(5);

/// Rows of a zone and a minute that may wait. Beyond it, what is counted is added to minutes that are there.
const ROWS_MAX: usize = 500_000;

/// Names of policies and pools that are remembered.
const NAMES_MAX: usize = 100_000;

const MINUTE_S: u64 = 60;

static COUNTED: AtomicU64 = AtomicU64::new(0);
static COUNTED_COARSELY: AtomicU64 = AtomicU64::new(0);

/// Queries that were counted since the start, and how many of them without their details.
pub fn figures() -> (u64, u64) {
    (COUNTED.load(Ordering::Relaxed), COUNTED_COARSELY.load(Ordering::Relaxed))
}

/// The thread. Dropping it takes what is there, and writes to the file what the agent hasn't kept.
#[derive(Debug)]
pub struct Tallying {
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread. What an earlier one left in the file is told first.
///
/// # Errors
/// If there can't be a thread, or no random number.
pub fn start(file: &path::Path) -> io::Result<Tallying> {
    ring::set_up();
    outbox().open(file)?;
    let is_ending = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&is_ending);
    let thread = knot::spawn_without_signals("herald-counts", move || Tally::default().run(&ending))?;
    Ok(Tallying { is_ending, thread: Some(thread) })
}

impl Drop for Tallying {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// What was counted since the last batch.
#[derive(Default)]
struct Tally {
    /// By number of the zone and minute; most zones have one.
    rows: HashMap<(u32, u64), Row>,
    policies: HashMap<(u32, u64, u64), (String, String)>,
}

#[derive(Default)]
struct Row {
    counts: Counts,
    /// By policy and pool.
    decided: HashMap<(u64, u64), u64>,
}

impl Tally {
    fn run(mut self, is_ending: &AtomicBool) {
        let (mut told, mut written) = (Instant::now(), Instant::now());
        loop {
            let ends = is_ending.load(Ordering::Relaxed);
            let is_due = ends || told.elapsed() >= BATCH_INTERVAL;
            // Before what is there is taken, so that none of it has a number that is freed below.
            let gone = if is_due { ring::gone() } else { Vec::new() };
            let is_idle = !self.take();
            if is_due {
                self.tell();
                told = Instant::now();
            }
            ring::free(gone);
            if ends || written.elapsed() >= FILE_INTERVAL {
                outbox().write_file(ends);
                written = Instant::now();
            }
            if ends {
                return;
            }
            std::thread::park_timeout(if is_idle { TAKE_INTERVAL * 4 } else { TAKE_INTERVAL });
        }
    }

    /// Takes what was counted; false if there was nothing.
    fn take(&mut self) -> bool {
        let minute = minute();
        let geo = places::current();
        let (mut counted, mut coarsely) = (0, 0);
        ring::take_all(|record, address, decided| {
            counted += 1;
            self.add(minute, record, address, decided, geo.as_deref());
        });
        ring::take_coarse(|zone, kind, count| {
            coarsely += count;
            let counts = &mut self.rows.entry((zone, minute)).or_default().counts;
            counts.queries += count;
            match kind.rcode() {
                Some(rcode) => counts.by_rcode.add(rcode, count),
                None if kind == ring::Kind::Dropped => counts.dropped += count,
                None => {}
            }
        });
        COUNTED.fetch_add(counted + coarsely, Ordering::Relaxed);
        COUNTED_COARSELY.fetch_add(coarsely, Ordering::Relaxed);
        counted + coarsely > 0
    }

    fn add(
        &mut self,
        minute: u64,
        record: Record,
        address: u64,
        decided: Option<(u64, u64)>,
        geo: Option<&Geo>,
    ) {
        let row = self.rows.entry((record.zone, minute)).or_default();
        let counts = &mut row.counts;
        counts.queries += 1;
        counts.truncated += u64::from(record.is_truncated);
        counts.ipv6 += u64::from(record.is_ipv6);
        counts.by_type.add(record.rtype, 1);
        counts.by_transport.add(record.transport, 1);
        if record.is_dropped {
            counts.dropped += 1;
        } else {
            counts.by_rcode.add(record.rcode, 1);
        }
        if let Some(geo) = geo {
            let country = geo.place(client(record, address)).country;
            if country != [0; 2] {
                counts.by_country.add(country, 1);
            }
        }
        if let Some(decided) = decided {
            *row.decided.entry(decided).or_default() += 1;
        }
    }

    /// Hands on what was counted, zones by name.
    fn tell(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut self.rows);
        let mut named = Vec::with_capacity(rows.len());
        for ((number, minute), Row { mut counts, decided }) in rows {
            let zone = ring::zone_of(number);
            for ((policy, pool), count) in decided {
                let (policy, pool) = self.names(number, zone.as_ref(), policy, pool);
                counts.by_pool.entry(policy).or_default().add(pool, count);
            }
            let (name, zone) = zone.map_or((None, None), |(name, zone)| (Some(name), zone));
            named.push((outbox::Key { name, zone, minute }, counts));
        }
        outbox().add(named, ROWS_MAX);
    }

    /// What the policy and the pool are called.
    fn names(
        &mut self,
        number: u32,
        zone: Option<&(Name, Option<ZoneId>)>,
        policy: u64,
        pool: u64,
    ) -> (String, String) {
        if let Some(names) = self.policies.get(&(number, policy, pool)) {
            return names.clone();
        }
        let unknown = || (NO_POOL.to_owned(), NO_POOL.to_owned());
        let Some((name, id)) = zone else { return unknown() };
        let store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(policy_name) = store.find_part(name, *id, |part| part.policy_name(policy)) else {
            return unknown();
        };
        let pool_name = match pool {
            0 => None,
            pool => store.find_part(name, *id, |part| part.pool_name(pool)),
        };
        drop(store);
        let names = (policy_name, pool_name.unwrap_or_else(|| NO_POOL.to_owned()));
        if self.policies.len() >= NAMES_MAX {
            self.policies.clear();
        }
        self.policies.insert((number, policy, pool), names.clone());
        names
    }
}

/// Minutes since 1970.
fn minute() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / MINUTE_S)
}

fn client(record: Record, address: u64) -> IpAddr {
    match record.is_client_ipv6 {
        true => Ipv6Addr::from_bits(u128::from(address) << 64).into(),
        false => Ipv4Addr::from_bits(address as u32).into(),
    }
}
