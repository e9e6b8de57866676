//! The thread that adds up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use std::{io, path};

use foldhash::fast::RandomState;
use herald_core::{Name, ZoneId};
use steering::counts::{Counts, Label, NO_POOL};
use steering::geo::Geo;
use steering::recent::Recent;

use super::outbox::{self, outbox};
use super::ring::{self, Record};
use crate::{STORE, knot, places};

/// How often rings are emptied: no thread fills its ring meanwhile but one that answers more than 1.3 million queries a second.
const TAKE_INTERVAL: Duration = Duration::from_millis(50);

/// How often what was counted is told, if it is at least [`BATCH_QUERIES`]: what a knotd that is killed loses is at most what it counted
/// since then.
const BATCH_INTERVAL: Duration = Duration::from_millis(250);
const BATCH_QUERIES: u64 = 1_000;

/// How often it is told if it is less.
const BATCH_INTERVAL_MAX: Duration = Duration::from_secs(1);

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
    /// Queries since the last batch.
    taken: u64,
    /// The minute of what is recent.
    minute: u64,
    /// Where clients are.
    geo: Option<Arc<Geo>>,
    /// Of what comes again and again: all of the query but its client.
    kinds: Recent<u64, KINDS>,
    /// The zone with the client's family, and its address.
    clients: Recent<(u64, u64), CLIENTS>,
    /// The zone with the client's family, the policy and the pool.
    decided: Recent<(u64, u64, u64), DECIDED>,
    /// By number of the zone and minute; most zones have one.
    rows: HashMap<(u32, u64), Row, RandomState>,
    policies: HashMap<(u32, u64, u64), (Label, Label), RandomState>,
}

/// How many of each are recent at a time.
const KINDS: usize = 1 << 10;
const CLIENTS: usize = 1 << 12;
const DECIDED: usize = 1 << 12;

#[derive(Default)]
struct Row {
    counts: Counts,
    /// By policy and pool.
    decided: HashMap<(u64, u64), u64, RandomState>,
}

impl Tally {
    fn run(mut self, is_ending: &AtomicBool) {
        let (mut told, mut written) = (Instant::now(), Instant::now());
        loop {
            let ends = is_ending.load(Ordering::Relaxed);
            let interval = if self.taken >= BATCH_QUERIES { BATCH_INTERVAL } else { BATCH_INTERVAL_MAX };
            let is_due = ends || told.elapsed() >= interval;
            // Before what is there is taken, so that none of it has a number that is freed below.
            let gone = if is_due { ring::gone() } else { Vec::new() };
            self.take();
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
            std::thread::park_timeout(TAKE_INTERVAL);
        }
    }

    /// Takes what was counted.
    fn take(&mut self) {
        let minute = minute();
        if minute != self.minute {
            self.settle();
            self.minute = minute;
        }
        if self.geo.is_none() {
            self.geo = places::current();
        }
        let has_places = self.geo.is_some();
        let (mut counted, mut coarsely) = (0, 0);
        ring::take_all(|what, address, decided| {
            counted += 1;
            if let Some((what, count)) = self.kinds.count(what, what) {
                self.add_kind(what, count);
            }
            let zone = Record::zone_and_client(what);
            if has_places && let Some((client, count)) = self.clients.count((zone, address), zone ^ address) {
                self.add_client(client, count);
            }
            if let Some((policy, pool)) = decided
                && let Some((decided, count)) = self.decided.count((zone, policy, pool), policy ^ pool)
            {
                self.add_decided(decided, count);
            }
        });
        ring::take_coarse(|zone, kind, count| {
            coarsely += count;
            let counts = &mut self.row(zone).counts;
            counts.queries += count;
            match kind.rcode() {
                Some(rcode) => counts.by_rcode.add(rcode, count),
                None if kind == ring::Kind::Dropped => counts.dropped += count,
                None => {}
            }
        });
        self.taken += counted + coarsely;
        COUNTED.fetch_add(counted + coarsely, Ordering::Relaxed);
        COUNTED_COARSELY.fetch_add(coarsely, Ordering::Relaxed);
    }

    /// Brings what is recent to the rows of its minute, and looks whether there is another table of places.
    fn settle(&mut self) {
        while let Some((what, count)) = self.kinds.pop() {
            self.add_kind(what, count);
        }
        while let Some((client, count)) = self.clients.pop() {
            self.add_client(client, count);
        }
        while let Some((decided, count)) = self.decided.pop() {
            self.add_decided(decided, count);
        }
        self.geo = places::current();
    }

    fn row(&mut self, zone: u32) -> &mut Row {
        self.rows.entry((zone, self.minute)).or_default()
    }

    fn add_kind(&mut self, what: u64, count: u64) {
        let record = Record::unpack(what);
        let counts = &mut self.row(record.zone).counts;
        counts.queries += count;
        counts.by_type.add(record.rtype, count);
        counts.by_transport.add(record.transport, count);
        if record.is_truncated {
            counts.truncated += count;
        }
        if record.is_ipv6 {
            counts.ipv6 += count;
        }
        if record.is_dropped {
            counts.dropped += count;
        } else {
            counts.by_rcode.add(record.rcode, count);
        }
    }

    fn add_client(&mut self, (zone, address): (u64, u64), count: u64) {
        let Some(geo) = &self.geo else { return };
        let record = Record::unpack(zone);
        let country = geo.place(client(record.is_client_ipv6, address)).country;
        if country != [0; 2] {
            self.row(record.zone).counts.by_country.add(country, count);
        }
    }

    fn add_decided(&mut self, (zone, policy, pool): (u64, u64, u64), count: u64) {
        *self.row(Record::unpack(zone).zone).decided.entry((policy, pool)).or_default() += count;
    }

    /// Hands on what was counted, zones by name.
    fn tell(&mut self) {
        self.settle();
        self.taken = 0;
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
    ) -> (Label, Label) {
        if let Some(names) = self.policies.get(&(number, policy, pool)) {
            return names.clone();
        }
        let unknown = || (NO_POOL.into(), NO_POOL.into());
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
        let names = (policy_name.into(), pool_name.map_or_else(|| NO_POOL.into(), Label::from));
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

fn client(is_ipv6: bool, address: u64) -> IpAddr {
    match is_ipv6 {
        true => Ipv6Addr::from_bits(u128::from(address) << 64).into(),
        false => Ipv4Addr::from_bits(address as u32).into(),
    }
}
