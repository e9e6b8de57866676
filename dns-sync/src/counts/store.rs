//! What isn't confirmed yet, in a SQLite file of its own.
//!
//! Tables: `batch` has what the module told since reports were last made, as it came; `instance` the last batch of each process of
//! the module; `report` what is to be confirmed. Counts are in no two of `batch` and `report`.

use std::collections::BTreeMap;
use std::path::Path;

use herald_core::{Name, ZoneId};
use rusqlite::{Connection, OptionalExtension, params};
use steering::counts::Counts;
use steering::link::CountsBatch;

/// Version of the file.
const FORMAT: i64 = 1;

/// Reports in one request.
const POST_REPORTS: usize = 1_000;

/// Bytes of reports, as they are kept, in one request that has several.
const POST_BYTES: usize = 512 * 1024;

/// Names that a report may have: a minute with more of them becomes several reports.
const REPORT_WEIGHT: usize = 4_000;

/// Reports that may wait. Beyond it, those of a zone within an hour become one: 10,000 zones that are asked for in each minute make as
/// many in an hour and a half.
const REPORTS_MAX: usize = 1_000_000;

/// Processes of the module that are remembered.
const INSTANCES_MAX: i64 = 1_000;

const HOUR_MINUTES: u64 = 60;

/// Why counts can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database.
    #[error("the database of counts failed")]
    Db(#[from] rusqlite::Error),
    /// The file is of another version.
    #[error(
        "the database of counts is of format {0}, and this agent knows {FORMAT}: install the version that wrote it"
    )]
    Format(i64),
    /// Something in it can't be read.
    #[error("counts that were kept can't be read")]
    Damaged(#[from] minicbor::decode::Error),
    /// No thread.
    #[error("counts can't be kept: {0}")]
    Thread(String),
}

/// Counts of a zone in a minute, or of no zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its number.
    pub sequence: u64,
    /// The zone.
    pub zone: Option<ZoneId>,
    /// Since 1970.
    pub minute: u64,
    /// Counts.
    pub counts: Counts,
}

/// See the module.
pub struct CountsStore {
    db: Connection,
    /// What is in `batch`, added up.
    rows: BTreeMap<(Option<ZoneId>, u64), Counts>,
    /// Queries in batches that were taken since the start.
    taken: u64,
    backlog: usize,
}

impl CountsStore {
    /// Opens it, or makes it. [`CountsStore::recover`] has to be called before anything is taken.
    ///
    /// # Errors
    /// If it can't be had, or is of another version.
    pub fn open(file: &Path) -> Result<CountsStore, StoreError> {
        let db = Connection::open(file)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        let format: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match format {
            0 => db.execute_batch(&format!(
                "BEGIN;
                 CREATE TABLE instance (instance INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, used INTEGER NOT NULL);
                 CREATE TABLE batch (number INTEGER PRIMARY KEY, counts BLOB NOT NULL);
                 CREATE TABLE report (sequence INTEGER PRIMARY KEY, zone BLOB, minute INTEGER NOT NULL, counts BLOB NOT NULL);
                 CREATE TABLE next (sequence INTEGER NOT NULL);
                 PRAGMA user_version = {FORMAT};
                 COMMIT;"
            ))?,
            FORMAT => {}
            other => return Err(StoreError::Format(other)),
        }
        let next: Option<i64> = db.query_row("SELECT sequence FROM next", (), |row| row.get(0)).optional()?;
        if next.is_none() {
            // Should the file be lost, its numbers don't come again.
            let first = crate::status::now_ms().saturating_mul(1_000);
            db.execute("INSERT INTO next VALUES (?1)", (signed(first),))?;
        }
        let backlog: i64 = db.query_row("SELECT count(*) FROM report", (), |row| row.get(0))?;
        Ok(CountsStore {
            db,
            rows: BTreeMap::new(),
            taken: 0,
            backlog: usize::try_from(backlog).unwrap_or(0),
        })
    }

    /// Reads what was taken and not yet made reports of.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn recover(&mut self, zone_of: &mut dyn FnMut(&Name) -> Option<ZoneId>) -> Result<(), StoreError> {
        let mut select = self.db.prepare("SELECT counts FROM batch ORDER BY number")?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            let batch: CountsBatch = minicbor::decode(row.get_ref(0)?.as_blob().unwrap_or_default())?;
            add(&mut self.rows, &batch, zone_of);
        }
        Ok(())
    }

    /// Takes a batch, durably; one that was taken before is passed over.
    ///
    /// # Errors
    /// If that isn't possible: nothing was taken.
    pub fn take(
        &mut self,
        batch: &CountsBatch,
        zone_of: &mut dyn FnMut(&Name) -> Option<ZoneId>,
    ) -> Result<(), StoreError> {
        let instance = batch.instance.cast_signed();
        let transaction = self.db.transaction()?;
        let last: Option<i64> = transaction
            .prepare_cached("SELECT sequence FROM instance WHERE instance = ?1")?
            .query_row((instance,), |row| row.get(0))
            .optional()?;
        if last.is_some_and(|last| last >= signed(batch.sequence)) {
            return Ok(());
        }
        let octets = minicbor::to_vec(batch).unwrap_or_default();
        transaction.prepare_cached("INSERT INTO batch (counts) VALUES (?1)")?.execute((octets,))?;
        transaction
            .prepare_cached(
                "INSERT INTO instance VALUES (?1, ?2, (SELECT coalesce(max(used), 0) + 1 FROM instance))
                 ON CONFLICT DO UPDATE SET sequence = excluded.sequence, used = excluded.used",
            )?
            .execute((instance, signed(batch.sequence)))?;
        if last.is_none() {
            transaction.execute(
                "DELETE FROM instance WHERE instance NOT IN (SELECT instance FROM instance ORDER BY used DESC LIMIT ?1)",
                (INSTANCES_MAX,),
            )?;
        }
        transaction.commit()?;
        self.taken += add(&mut self.rows, batch, zone_of);
        Ok(())
    }

    /// Makes reports of what was taken.
    ///
    /// # Errors
    /// If that isn't possible: all is as it was.
    pub fn report(&mut self) -> Result<(), StoreError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let transaction = self.db.transaction()?;
        let mut made = 0;
        let mut next: i64 = transaction.query_row("SELECT sequence FROM next", (), |row| row.get(0))?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO report VALUES (?1, ?2, ?3, ?4)")?;
            for ((zone, minute), counts) in &self.rows {
                for counts in counts.clone().split(REPORT_WEIGHT) {
                    let octets = minicbor::to_vec(&counts).unwrap_or_default();
                    insert.execute(params![next, octets_of(*zone), signed(*minute), octets])?;
                    next += 1;
                    made += 1;
                }
            }
        }
        transaction.execute("UPDATE next SET sequence = ?1", (next,))?;
        transaction.execute("DELETE FROM batch", ())?;
        transaction.commit()?;
        self.backlog += made;
        self.rows.clear();
        if self.backlog > REPORTS_MAX {
            self.coarsen()?;
        }
        Ok(())
    }

    /// The reports that are to be sent next. They are the same ones until they are confirmed.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn first_reports(&self) -> Result<Vec<Report>, StoreError> {
        let mut bytes = 0;
        let mut reports = self.reports(0, POST_REPORTS)?;
        let fit = reports.iter().take_while(|report| {
            bytes += minicbor::to_vec(&report.counts).map_or(0, |octets| octets.len());
            bytes <= POST_BYTES
        });
        let fit = fit.count().max(1);
        reports.truncate(fit);
        Ok(reports)
    }

    fn reports(&self, skipped: usize, most: usize) -> Result<Vec<Report>, StoreError> {
        let mut select = self.db.prepare_cached(
            "SELECT sequence, zone, minute, counts FROM report ORDER BY sequence LIMIT ?2 OFFSET ?1",
        )?;
        let mut rows = select.query((signed(skipped as u64), signed(most as u64)))?;
        let mut reports = Vec::new();
        while let Some(row) = rows.next()? {
            let zone: Option<Vec<u8>> = row.get(1)?;
            let zone = zone
                .and_then(|octets| octets.try_into().ok())
                .map(|octets| ZoneId(u128::from_be_bytes(octets)));
            reports.push(Report {
                sequence: row.get::<_, i64>(0)?.cast_unsigned(),
                zone,
                minute: row.get::<_, i64>(2)?.cast_unsigned(),
                counts: minicbor::decode(row.get_ref(3)?.as_blob().unwrap_or_default())?,
            });
        }
        Ok(reports)
    }

    /// These are confirmed.
    ///
    /// # Errors
    /// If that can't be written: they are sent again, and counted once all the same.
    pub fn confirmed(&mut self, reports: &[Report]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (reports.first(), reports.last()) else { return Ok(()) };
        let bounds = (signed(first.sequence), signed(last.sequence));
        let deleted = self.db.execute("DELETE FROM report WHERE sequence BETWEEN ?1 AND ?2", bounds)?;
        self.backlog = self.backlog.saturating_sub(deleted);
        Ok(())
    }

    /// The control plane knows nothing of the zones of these: they are of none.
    ///
    /// # Errors
    /// If that can't be written.
    pub fn of_no_zone(&mut self, sequences: &[u64]) -> Result<(), StoreError> {
        let transaction = self.db.transaction()?;
        for sequence in sequences {
            transaction
                .prepare_cached("UPDATE report SET zone = NULL WHERE sequence = ?1")?
                .execute((signed(*sequence),))?;
        }
        Ok(transaction.commit()?)
    }

    /// Reports of a zone within an hour become one, but those that may have been sent.
    fn coarsen(&mut self) -> Result<(), StoreError> {
        let mut merged: BTreeMap<(Option<ZoneId>, u64), Counts> = BTreeMap::new();
        let waiting = self.reports(POST_REPORTS, usize::MAX >> 1)?;
        let Some(first) = waiting.first().map(|report| report.sequence) else { return Ok(()) };
        for report in waiting {
            let hour = report.minute - report.minute % HOUR_MINUTES;
            merged.entry((report.zone, hour)).or_default().merge(&report.counts);
        }
        let transaction = self.db.transaction()?;
        transaction.execute("DELETE FROM report WHERE sequence >= ?1", (signed(first),))?;
        {
            let mut insert = transaction.prepare("INSERT INTO report VALUES (?1, ?2, ?3, ?4)")?;
            // They are no more than there were, and none of them was sent: their numbers are good for them.
            let merged = merged.into_iter().flat_map(|((zone, minute), counts)| {
                counts.split(REPORT_WEIGHT).into_iter().map(move |counts| (zone, minute, counts))
            });
            for ((zone, minute, counts), sequence) in merged.zip(first..) {
                let octets = minicbor::to_vec(&counts).unwrap_or_default();
                insert.execute(params![signed(sequence), octets_of(zone), signed(minute), octets])?;
            }
        }
        transaction.commit()?;
        let kept: i64 = self.db.query_row("SELECT count(*) FROM report", (), |row| row.get(0))?;
        self.backlog = usize::try_from(kept).unwrap_or(0);
        Ok(())
    }

    /// Zones and minutes that no reports were made of yet.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Reports that aren't confirmed.
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    /// Queries that were taken since the start.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}

/// Adds a batch up; how many queries it is of.
fn add(
    rows: &mut BTreeMap<(Option<ZoneId>, u64), Counts>,
    batch: &CountsBatch,
    zone_of: &mut dyn FnMut(&Name) -> Option<ZoneId>,
) -> u64 {
    let mut queries = 0;
    for row in &batch.rows {
        let zone = row.zone.or_else(|| zone_of(row.name.as_ref()?));
        rows.entry((zone, row.minute)).or_default().merge(&row.counts);
        queries += row.counts.queries;
    }
    queries
}

fn octets_of(zone: Option<ZoneId>) -> Option<[u8; 16]> {
    zone.map(|zone| zone.0.to_be_bytes())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
