//! Queries of zones that are logged: each, or a sample, is noted when it has ended, and a thread of ours makes of that what the agent gets.
//!
//! ```text
//!  agent ──LogQueries──▶ `Logs` ──mark──▶ slots of zones ─┐
//!  BEGIN  the mark beside the zone's number ◀─────────────┘
//!  END    if there is a mark: a draw, and the query goes into a ring of the thread
//!  thread, every 50 ms: an even sample of each second and zone ──▶ outbox ──▶ agent
//! ```
//!
//! A query of a zone that isn't logged costs END one look at what it has loaded anyway. It is a log to find faults by: what doesn't fit is
//! dropped, and counted.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

use herald_core::{Name, ZoneId};
use steering::link::{LoggedQueries, LoggedQuery, LoggedZone, ToAgent};
use steering::query_log::{Kept, LOG_PLACES, Log, Logs, Mark, RECORD_WORDS, Record, log_of};

use crate::knot::{Answer, Query};
use crate::ring::Rings;
use crate::store::Store;
use crate::{STORE, hooks, knot, slot};

/// Records that fit into a ring (5 MB): what a thread that answers 300,000 queries a second logs between two visits of the reader.
const RECORDS: usize = 1 << 14;

/// A ring of one's thread.
pub type Ring = crate::ring::Ring<RECORD_WORDS, RECORDS>;

static RINGS: Rings<RECORD_WORDS, RECORDS> = Rings::new();

/// How often rings are emptied.
const TAKE_INTERVAL: Duration = Duration::from_millis(50);

/// What an even sample is of.
const WINDOW: Duration = Duration::from_secs(1);

/// Queries that may wait for the agent to read them: more are left out.
const WAITING_MAX: usize = 20_000;

/// Queries in one message: with the longest names they have some 3 MB.
const MESSAGE_QUERIES: usize = 1_500;

/// Queries that found no room in their ring, by the place of their log.
static DROPPED: [AtomicU64; LOG_PLACES] = [const { AtomicU64::new(0) }; LOG_PLACES];

static LOGGED: AtomicU64 = AtomicU64::new(0);
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

// ---------------------------------------------------------------------------------------------------
// A query ends
// ---------------------------------------------------------------------------------------------------

/// What of an ended query is known already.
pub struct Ended {
    /// What its zone is marked with.
    pub mark: u32,
    /// As in [`Record`].
    pub policy: u64,
    /// As in [`Record`].
    pub pool: u64,
    /// Whether the answer is truncated.
    pub is_truncated: bool,
    /// Whether there is no answer.
    pub is_dropped: bool,
}

/// A query of a zone that is logged has ended.
#[cold]
#[inline(never)]
pub fn note(ring: &OnceLock<&'static Ring>, query: &Query<'_>, answer: &Answer<'_>, ended: &Ended) {
    if !Mark::is_drawn(ended.mark, hooks::random()) {
        return;
    }
    let log = Mark::log(ended.mark);
    let record = Record {
        log,
        rtype: query.rtype(),
        rcode: query.rcode(),
        transport: query.transport(),
        is_truncated: ended.is_truncated,
        is_dropped: ended.is_dropped,
        source: query.source(),
        edns: query.edns(),
        answer_bytes: if ended.is_dropped { 0 } else { answer.bytes() },
        policy: ended.policy,
        pool: ended.pool,
        name: query.name(),
    };
    let is_put = ring.get_or_init(|| RINGS.add()).push(|words| {
        for (word, value) in words.iter().zip(record.head().into_iter().chain(record.name_words())) {
            word.store(value, Ordering::Relaxed);
        }
    });
    if !is_put && let Some(dropped) = DROPPED.get(Mark::place(log)) {
        dropped.fetch_add(1, Ordering::Relaxed);
    }
}

// ---------------------------------------------------------------------------------------------------
// Which zones are logged
// ---------------------------------------------------------------------------------------------------

/// What is logged, and what waits for the agent.
#[derive(Default)]
struct Desk {
    logs: Logs,
    /// Who wants it.
    owner: u64,
    /// What slots were told.
    shown: BTreeMap<Place, u32>,
    /// Whether slots may have to be told.
    is_changed: bool,
    told: VecDeque<LoggedQueries>,
    told_queries: usize,
}

/// Where queries find a zone's mark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// knotd has the zone.
    Named(Name),
    /// It is private.
    Private(ZoneId),
}

impl Place {
    fn of(zone: &LoggedZone) -> Place {
        if zone.is_private { Place::Private(zone.zone) } else { Place::Named(zone.name.clone()) }
    }
}

static DESK: Mutex<Option<Desk>> = Mutex::new(None);
static THREAD: Mutex<Option<Thread>> = Mutex::new(None);

fn with_desk<T>(look: impl FnOnce(&mut Desk) -> T) -> T {
    look(lock(&DESK).get_or_insert_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Since some moment, in ms.
fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Somebody who may want queries to be logged: a number for it.
pub fn owner() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Queries of these zones are logged from now on, for this owner.
pub fn set(owner: u64, zones: Vec<LoggedZone>, store: &Store) {
    with_desk(|desk| {
        if desk.owner != owner {
            desk.owner = owner;
            desk.told.clear();
            desk.told_queries = 0;
        }
        desk.logs.set(zones, now_ms());
        desk.is_changed = true;
    });
    show(store);
    wake();
}

/// The owner is gone: if none came after it, nothing is logged any more.
pub fn end(owner: u64) {
    with_desk(|desk| {
        if desk.owner == owner {
            desk.logs.set(Vec::new(), now_ms());
            desk.is_changed = true;
        }
    });
    // The store may be in the hands of who calls.
    wake();
}

fn wake() {
    if let Some(thread) = &*lock(&THREAD) {
        thread.unpark();
    }
}

/// What queries of the zone of this name are to be marked with; zero for nothing.
pub fn mark_of(name: &Name, private: Option<ZoneId>) -> u32 {
    let place = private.map_or_else(|| Place::Named(name.clone()), Place::Private);
    with_desk(|desk| desk.shown.get(&place).copied().unwrap_or_default())
}

/// Tells slots what changed. Whoever calls has the store, so that nobody else does so meanwhile.
fn show(store: &Store) {
    let changed = with_desk(|desk| {
        if !std::mem::take(&mut desk.is_changed) {
            return Vec::new();
        }
        let wanted: BTreeMap<Place, u32> =
            desk.logs.marks().map(|(zone, mark)| (Place::of(zone), mark.word())).collect();
        let gone =
            desk.shown.keys().filter(|place| !wanted.contains_key(*place)).map(|place| (place.clone(), 0));
        let new = wanted.iter().filter(|(place, mark)| desk.shown.get(*place) != Some(*mark));
        let changed: Vec<(Place, u32)> =
            gone.chain(new.map(|(place, mark)| (place.clone(), *mark))).collect();
        desk.shown = wanted;
        changed
    });
    for (place, mark) in changed {
        match place {
            Place::Named(name) => slot::mark(&name, mark),
            Place::Private(zone) => store.mark_private(zone, mark),
        }
    }
}

/// What this owner wasn't told yet.
pub fn take_told(owner: u64) -> Vec<ToAgent> {
    let told = with_desk(|desk| {
        if desk.owner != owner {
            return VecDeque::new();
        }
        desk.told_queries = 0;
        std::mem::take(&mut desk.told)
    });
    let mut messages = Vec::new();
    let (mut zones, mut queries) = (Vec::new(), 0);
    for one in told {
        if queries + one.queries.len() > MESSAGE_QUERIES {
            messages.push(ToAgent::Queries { zones: std::mem::take(&mut zones) });
            queries = 0;
        }
        queries += one.queries.len();
        zones.push(one);
    }
    if !zones.is_empty() {
        messages.push(ToAgent::Queries { zones });
    }
    messages
}

/// Zones that are logged, queries that were since the start, and queries that were left out.
pub fn figures() -> (u64, u64, u64) {
    let zones = with_desk(|desk| desk.logs.marks().count()) as u64;
    (zones, LOGGED.load(Ordering::Relaxed), LEFT_OUT.load(Ordering::Relaxed))
}

// ---------------------------------------------------------------------------------------------------
// The thread
// ---------------------------------------------------------------------------------------------------

/// The thread. It ends with this.
#[derive(Debug)]
pub struct Logging {
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread, which sleeps while no zone is logged.
///
/// # Errors
/// If there can't be a thread.
pub fn start() -> io::Result<Logging> {
    let is_ending = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&is_ending);
    let thread = knot::spawn_without_signals("herald-queries", move || run(&ending))?;
    *lock(&THREAD) = Some(thread.thread().clone());
    Ok(Logging { is_ending, thread: Some(thread) })
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        *lock(&THREAD) = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn run(is_ending: &AtomicBool) {
    let mut names = Names::default();
    let mut closed = Instant::now();
    while !is_ending.load(Ordering::Relaxed) {
        let (is_changed, is_empty) = with_desk(|desk| {
            take(&mut desk.logs);
            desk.is_changed |= desk.logs.expire(now_ms());
            (desk.is_changed, desk.logs.is_empty())
        });
        if is_changed {
            show(&lock(&STORE));
        }
        if is_empty {
            names = Names::default();
            std::thread::park();
            continue;
        }
        if closed.elapsed() >= WINDOW {
            closed = Instant::now();
            close(&mut names);
        }
        std::thread::park_timeout(TAKE_INTERVAL);
    }
}

/// Takes what threads have left.
fn take(logs: &mut Logs) {
    let time_ms = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    RINGS.take_all(|words| {
        let word = |place: usize| words[place].load(Ordering::Relaxed);
        // What is of a log that is forgotten is nobody's.
        if let Some(log) = logs.get_mut(log_of(word(0))) {
            log.window.offer(hooks::random(), || Kept { words: std::array::from_fn(word), time_ms });
        }
    });
}

/// A second is over: what is kept of it is for the agent.
fn close(names: &mut Names) {
    let closed: Vec<(LoggedZone, u64, Vec<Kept>)> = with_desk(|desk| {
        let close = |(place, log): (usize, &mut Log)| {
            let dropped = DROPPED.get(place).map_or(0, |dropped| dropped.swap(0, Ordering::Relaxed));
            let (left_out, kept) = log.window.close();
            let left_out = left_out + dropped + std::mem::take(&mut log.left_out);
            (left_out > 0 || !kept.is_empty()).then(|| (log.zone.clone(), left_out, kept))
        };
        let closed = desk.logs.iter_mut().filter_map(close).collect();
        desk.logs.forget_ended();
        closed
    });
    for (zone, left_out, kept) in closed {
        let queries: Vec<LoggedQuery> = kept.iter().filter_map(|kept| names.query(&zone, kept)).collect();
        let queries_kept = queries.len();
        let is_told = with_desk(|desk| {
            if desk.told_queries + queries_kept > WAITING_MAX {
                // Nobody reads. What is left out is told when somebody does, as long as the zone is logged.
                let log = desk.logs.iter_mut().find(|(_, log)| log.id() == zone.zone);
                if let Some((_, log)) = log {
                    log.left_out += left_out + queries_kept as u64;
                }
                return false;
            }
            desk.told_queries += queries_kept;
            desk.told.push_back(LoggedQueries { zone: zone.zone, left_out, queries });
            true
        });
        let counted = if is_told { (queries_kept as u64, left_out) } else { (0, queries_kept as u64) };
        LOGGED.fetch_add(counted.0, Ordering::Relaxed);
        LEFT_OUT.fetch_add(counted.1, Ordering::Relaxed);
    }
}

/// Names of policies and pools that are remembered.
const NAMES_MAX: usize = 10_000;

/// What policies and pools are called.
#[derive(Default)]
struct Names(BTreeMap<(ZoneId, u64, u64), Decided>);

/// Names of a policy and a pool.
type Decided = (Option<String>, Option<String>);

impl Names {
    fn query(&mut self, zone: &LoggedZone, kept: &Kept) -> Option<LoggedQuery> {
        let (policy, pool) = match kept.decided() {
            (0, _) => (None, None),
            (policy, pool) => self.find(zone, policy, pool),
        };
        Some(LoggedQuery {
            time_ms: kept.time_ms,
            name: kept.name()?,
            rtype: kept.rtype(),
            rcode: kept.rcode(),
            transport: kept.transport(),
            source: kept.source(),
            edns: kept.edns(),
            answer_bytes: kept.answer_bytes(),
            is_truncated: kept.is_truncated(),
            is_dropped: kept.is_dropped(),
            policy,
            pool,
        })
    }

    fn find(&mut self, zone: &LoggedZone, policy: u64, pool: u64) -> Decided {
        let key = (zone.zone, policy, pool);
        if let Some(names) = self.0.get(&key) {
            return names.clone();
        }
        let store = lock(&STORE);
        let private = zone.is_private.then_some(zone.zone);
        let policy_name = store.find_part(&zone.name, private, |part| part.policy_name(policy));
        let pool_name = match pool {
            0 => None,
            pool => store.find_part(&zone.name, private, |part| part.pool_name(pool)),
        };
        drop(store);
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        let names = (policy_name, pool_name);
        if names.0.is_some() {
            self.0.insert(key, names.clone());
        }
        names
    }
}
