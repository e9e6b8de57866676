//! The query log: what PoPs noted of queries of zones that are logged. It has a file of its own beside the log, and no part of the state
//! depends on it. It holds addresses of clients: it is kept for a day at most, and goes with its zone.

mod report;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herald_core::state::State;
use herald_core::{PopId, ZoneId};
use herald_wire::api::query_log::QueryLogAddresses;
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

pub use report::{BadBatch, Batch, OfZone, read_batch};
pub use store::{Edns, Figures, Place, Prefix, Query, QueryLogError, Record};

use crate::clock;
use crate::engine::Follow;
use store::File;

/// The file's name in the data directory.
pub const FILE: &str = "query-log.sqlite";

/// Records of a zone that are kept: the newest.
pub const ZONE_RECORDS_MAX: u64 = 100_000;

/// Records of all zones that are kept: the zones that have the most give the oldest of theirs.
pub const RECORDS_MAX: u64 = 5_000_000;

/// For how long records are kept, in ms.
pub const KEPT_MS: u64 = 24 * 3_600_000;

/// Records are at most so old when they come, in ms: what a PoP's clock says beyond that isn't so.
const OLD_MS: u64 = 2 * 3_600_000;

/// How often what is too old, or of zones that are gone, is erased.
const ERASE_INTERVAL: Duration = Duration::from_secs(60);

/// Connections that read.
const READERS_MAX: usize = 4;

/// A handle on the query log. Clones are handles on the same one.
#[derive(Clone)]
pub struct QueryLogs(Arc<Inner>);

struct Inner {
    path: PathBuf,
    addresses: QueryLogAddresses,
    limits: Limits,
    writer: Mutex<File>,
    readers: Mutex<Vec<Connection>>,
    records: AtomicU64,
    left_out: AtomicU64,
    passed_over: AtomicU64,
}

/// How many records are kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a zone.
    pub of_zone: u64,
    /// Of all.
    pub of_all: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { of_zone: ZONE_RECORDS_MAX, of_all: RECORDS_MAX }
    }
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records that were kept.
    pub kept: u64,
    /// Records that weren't.
    pub passed_over: u64,
}

impl QueryLogs {
    /// Opens the query log in this directory, or begins it.
    ///
    /// # Errors
    /// [`QueryLogError`].
    pub fn open(
        dir: &Path,
        addresses: QueryLogAddresses,
        limits: Limits,
    ) -> Result<QueryLogs, QueryLogError> {
        let path = dir.join(FILE);
        let writer = Mutex::new(File::open(&path)?);
        let counter = AtomicU64::default;
        Ok(QueryLogs(Arc::new(Inner {
            path,
            addresses,
            limits,
            writer,
            readers: Mutex::default(),
            records: counter(),
            left_out: counter(),
            passed_over: counter(),
        })))
    }

    /// How much of addresses is kept.
    pub fn addresses(&self) -> QueryLogAddresses {
        self.0.addresses
    }

    /// Erases what is too old, and what is of zones that are gone, until `shutdown`.
    pub async fn keep(self, follow: Follow, shutdown: CancellationToken) {
        loop {
            let (logs, state) = (self.clone(), follow.state());
            let erased = tokio::task::spawn_blocking(move || logs.erase(&state, clock::now_ms())).await;
            if let Ok(Err(e)) = erased {
                tracing::error!("the query log can't be erased: {e}");
            }
            tokio::select! {
                () = tokio::time::sleep(ERASE_INTERVAL) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn erase(&self, state: &State, now_ms: u64) -> Result<(), QueryLogError> {
        let is_gone = |zone: ZoneId| state.zone(zone).is_none();
        self.writer().erase(now_ms.saturating_sub(KEPT_MS), is_gone)
    }

    /// Takes what a PoP logged: what is of zones that are logged by this state, or were till lately, and wasn't taken before.
    ///
    /// # Errors
    /// [`QueryLogError`]: nothing was taken.
    pub async fn take(&self, state: Arc<State>, pop: PopId, batch: Batch) -> Result<Taken, QueryLogError> {
        let logs = self.clone();
        let take = move || logs.take_now(&state, pop, batch, clock::now_ms());
        tokio::task::spawn_blocking(take).await.map_err(|_| QueryLogError::Stopping)?
    }

    /// As [`QueryLogs::take`]. Blocking.
    ///
    /// # Errors
    /// [`QueryLogError`]: nothing was taken.
    pub fn take_now(
        &self,
        state: &State,
        pop: PopId,
        mut batch: Batch,
        now_ms: u64,
    ) -> Result<Taken, QueryLogError> {
        let all = batch.queries();
        let mut left_out = 0;
        batch.zones.retain_mut(|of_zone| {
            // Who lost the right to a name meanwhile is shown no queries for it: its log is gone from the state before PoPs answer for
            // another.
            let log = state.query_log(of_zone.zone).filter(|log| log.is_awaited_at(now_ms));
            of_zone.since_ms = log.map_or(0, |log| log.since_ms);
            log.is_some()
        });
        for of_zone in &mut batch.zones {
            left_out += of_zone.left_out;
            for query in &mut of_zone.queries {
                query.time_ms = query.time_ms.clamp(now_ms.saturating_sub(OLD_MS), now_ms);
                if self.0.addresses == QueryLogAddresses::Prefixes {
                    query.shorten();
                }
            }
        }
        let awaited = batch.queries();
        let is_news = self.writer().take(pop, &batch, self.0.limits, now_ms)?;
        let kept = if is_news { awaited } else { 0 };
        self.0.records.fetch_add(kept, Ordering::Relaxed);
        self.0.passed_over.fetch_add(all - kept, Ordering::Relaxed);
        if is_news {
            self.0.left_out.fetch_add(left_out, Ordering::Relaxed);
        }
        Ok(Taken { kept, passed_over: all - kept })
    }

    /// How much there is of a zone. Blocking.
    ///
    /// # Errors
    /// [`QueryLogError`].
    pub fn figures(&self, zone: ZoneId) -> Result<Figures, QueryLogError> {
        self.reading(|db| store::figures(db, zone))
    }

    /// Records of a zone, newest first: those before a place, or from the newest on, and not before `since_ms`. `each` says whether to go
    /// on. Blocking.
    ///
    /// # Errors
    /// [`QueryLogError`].
    pub fn read(
        &self,
        zone: ZoneId,
        before: Place,
        since_ms: u64,
        each: &mut dyn FnMut(Record) -> bool,
    ) -> Result<(), QueryLogError> {
        self.reading(|db| store::read(db, zone, before, since_ms, each))
    }

    fn reading<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, store::ReadError>,
    ) -> Result<T, QueryLogError> {
        let inner = &*self.0;
        let readers = || inner.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = readers().pop();
        let db = match kept {
            Some(db) => db,
            None => store::connect(&inner.path, true)?,
        };
        let found = read(&db);
        let mut readers = readers();
        if readers.len() < READERS_MAX {
            readers.push(db);
        }
        found.map_err(|error| error.at(&inner.path))
    }

    fn writer(&self) -> MutexGuard<'_, File> {
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was taken since the start, in Prometheus' text format.
    pub fn metrics(&self, out: &mut String) {
        use std::fmt::Write as _;
        let figures = [
            ("records", "Queries that PoPs logged, and that were kept.", &self.0.records),
            (
                "left_out",
                "Queries that PoPs were to log and left out, as there were too many.",
                &self.0.left_out,
            ),
            ("passed_over", "Logged queries that came and weren't kept.", &self.0.passed_over),
        ];
        for (name, help, figure) in figures {
            let value = figure.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "# HELP herald_query_log_{name}_total {help}\n# TYPE herald_query_log_{name}_total counter\n\
                 herald_query_log_{name}_total {value}"
            );
        }
    }
}
