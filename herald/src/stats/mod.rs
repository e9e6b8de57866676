//! Counts of queries, as PoPs report them. They have a file of their own beside the log, and no part of the state depends on them.

mod report;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herald_core::{PopId, ZoneId};
use rusqlite::Connection;
use steering::counts::Counts;
use tokio_util::sync::CancellationToken;

pub use report::{BadReport, read_report};
pub use store::{DAY, HOUR, Report, Retention, StatsError, Step};

use crate::clock;
use store::{File, ReadError};

/// The file's name in the data directory.
pub const FILE: &str = "stats.sqlite";

/// How often it is looked whether an hour is over.
const ROLL_INTERVAL: Duration = Duration::from_secs(60);

const MINUTE_MS: u64 = 60_000;

/// Connections that read.
const READERS_MAX: usize = 4;

/// A handle on the counts. Clones are handles on the same ones.
#[derive(Clone)]
pub struct Stats(Arc<Inner>);

struct Inner {
    path: PathBuf,
    retention: Retention,
    writer: Mutex<File>,
    readers: Mutex<Vec<Connection>>,
    queries: AtomicU64,
    dropped: AtomicU64,
    reports: AtomicU64,
    repeated: AtomicU64,
}

/// Counts of a period, in all and by PoP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Period {
    /// Of all PoPs that were asked for.
    pub counts: Counts,
    /// Queries by PoP.
    pub by_pop: BTreeMap<PopId, u64>,
}

impl Stats {
    /// Opens the counts in this directory, or begins them.
    ///
    /// # Errors
    /// [`StatsError`].
    pub fn open(dir: &Path, retention: Retention) -> Result<Stats, StatsError> {
        let path = dir.join(FILE);
        let writer = Mutex::new(File::open(&path)?);
        let counter = AtomicU64::default;
        Ok(Stats(Arc::new(Inner {
            path,
            retention,
            writer,
            readers: Mutex::default(),
            queries: counter(),
            dropped: counter(),
            reports: counter(),
            repeated: counter(),
        })))
    }

    /// Makes hours and days of minutes, and erases what is too old, until `shutdown`.
    pub async fn keep(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(ROLL_INTERVAL) => {}
                () = shutdown.cancelled() => return,
            }
            let stats = self.clone();
            let rolled = tokio::task::spawn_blocking(move || stats.roll(clock::now_ms() / MINUTE_MS)).await;
            if let Ok(Err(e)) = rolled {
                tracing::error!("hours and days of counts can't be made: {e}");
            }
        }
    }

    fn roll(&self, now: u64) -> Result<(), StatsError> {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.roll(now, &self.0.retention)
    }

    /// Takes a PoP's reports, durably, all or none; how many of them weren't taken before.
    ///
    /// # Errors
    /// [`StatsError`]: none was taken.
    pub async fn take(&self, pop: PopId, reports: Vec<Report>) -> Result<u64, StatsError> {
        let stats = self.clone();
        let take = move || stats.take_now(pop, &reports);
        tokio::task::spawn_blocking(take).await.map_err(|_| StatsError::Stopping)?
    }

    /// As [`Stats::take`]. Blocking.
    ///
    /// # Errors
    /// [`StatsError`]: none was taken.
    pub fn take_now(&self, pop: PopId, reports: &[Report]) -> Result<u64, StatsError> {
        let inner = &*self.0;
        let counted = {
            let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.take(pop, reports)?
        };
        let repeated = reports.len() as u64 - counted;
        inner.reports.fetch_add(counted, Ordering::Relaxed);
        inner.repeated.fetch_add(repeated, Ordering::Relaxed);
        if repeated == 0 {
            let sum = |of: fn(&Counts) -> u64| reports.iter().map(|report| of(&report.counts)).sum();
            inner.queries.fetch_add(sum(|counts| counts.queries), Ordering::Relaxed);
            inner.dropped.fetch_add(sum(|counts| counts.dropped), Ordering::Relaxed);
        }
        Ok(counted)
    }

    /// Counts of a zone, or of no zone, by the begin of their periods: from one minute since 1970 up to another, at all PoPs or one.
    /// Blocking.
    ///
    /// # Errors
    /// [`StatsError`].
    pub fn read(
        &self,
        zone: Option<ZoneId>,
        minutes: Range<u64>,
        step: Step,
        only: Option<PopId>,
    ) -> Result<BTreeMap<u64, Period>, StatsError> {
        let inner = &*self.0;
        let kept = inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = match kept {
            Some(db) => db,
            None => store::connect(&inner.path, true)?,
        };
        let mut periods: BTreeMap<u64, Period> = BTreeMap::new();
        let read = store::read(&db, zone, minutes, step, &mut |start, pop, counts| {
            if only.is_none_or(|only| only == pop) {
                let period = periods.entry(start).or_default();
                period.counts.merge(counts);
                *period.by_pop.entry(pop).or_default() += counts.queries;
            }
        });
        let mut readers = inner.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_MAX {
            readers.push(db);
        }
        match read {
            Ok(()) => Ok(periods),
            Err(ReadError::Malformed(error)) => Err(error.into()),
            Err(ReadError::Sqlite(source)) => Err(StatsError::Sqlite { path: inner.path.clone(), source }),
        }
    }

    /// What was taken since the start, in Prometheus' text format.
    pub fn metrics(&self, out: &mut String) {
        use std::fmt::Write as _;
        let figures = [
            ("queries", "Queries that PoPs reported.", &self.0.queries),
            ("queries_dropped", "Of these, those that weren't answered on purpose.", &self.0.dropped),
            ("stats_reports", "Reports of counts that were taken.", &self.0.reports),
            ("stats_reports_repeated", "Reports of counts that were taken before.", &self.0.repeated),
        ];
        for (name, help, figure) in figures {
            let value = figure.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "# HELP herald_{name}_total {help}\n# TYPE herald_{name}_total counter\nherald_{name}_total {value}"
            );
        }
    }
}
