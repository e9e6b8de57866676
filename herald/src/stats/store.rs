//! The file of counts.
//!
//! `minute` has what came, by minute, zone and PoP, each with the numbers of the reports that are in it. `hour` and `day` are made of it
//! once an hour or a day is over, and again if more of it comes: until then `late_hour` and `late_day` name it, and who reads adds up
//! what they are made of.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use herald_core::{PopId, ZoneId};
use minicbor::{Decode, Encode};
use rusqlite::{CachedStatement, Connection, OpenFlags, OptionalExtension, params};
use steering::counts::Counts;

/// Version of the file.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE zone (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE);
CREATE TABLE pop (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE);
CREATE TABLE minute (start INTEGER, zone INTEGER, pop INTEGER, counts BLOB NOT NULL, PRIMARY KEY (start, zone, pop)) WITHOUT ROWID;
CREATE TABLE hour (zone INTEGER, start INTEGER, pop INTEGER, counts BLOB NOT NULL, PRIMARY KEY (zone, start, pop)) WITHOUT ROWID;
CREATE TABLE day (zone INTEGER, start INTEGER, pop INTEGER, counts BLOB NOT NULL, PRIMARY KEY (zone, start, pop)) WITHOUT ROWID;
CREATE TABLE late_hour (start INTEGER PRIMARY KEY);
CREATE TABLE late_day (start INTEGER PRIMARY KEY);
CREATE TABLE kept (from_minute INTEGER NOT NULL, from_hour INTEGER NOT NULL);
INSERT INTO kept VALUES (0, 0);
";

/// The number of what is of no zone.
const NO_ZONE: i64 = 0;

/// Minutes of an hour and of a day.
pub const HOUR: u64 = 60;
/// See [`HOUR`].
pub const DAY: u64 = 24 * HOUR;

/// Why counts can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// What SQLite says.
    #[error("the counts in {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// Written by another version.
    #[error("the counts in {} have version {found}, and this program knows {VERSION}: use the program that wrote them", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Something in it can't be read.
    #[error("counts can't be read: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// No thread.
    #[error("a thread can't be started: {0}")]
    Thread(std::io::Error),
    /// The daemon is stopping.
    #[error("the control plane is stopping")]
    Stopping,
}

type Result<T> = std::result::Result<T, StatsError>;

/// Counts of a zone, or of no zone, in a minute, as a PoP reports them.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The zone.
    pub zone: Option<ZoneId>,
    /// Since 1970, by the PoP's clock.
    pub minute: u64,
    /// Tells reports of the zone and the minute apart.
    pub sequence: u64,
    /// Counts.
    pub counts: Counts,
}

/// What a minute's row has.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
struct Bucket {
    #[n(0)]
    counts: Counts,
    /// Numbers of the reports in it: the lowest one, then by how much each next one is higher.
    #[n(1)]
    taken: Vec<u64>,
}

impl Bucket {
    /// Adds a report; false if it is there already.
    fn take(&mut self, sequence: u64, counts: &Counts) -> bool {
        let mut numbers: Vec<u64> = Vec::with_capacity(self.taken.len() + 1);
        for step in &self.taken {
            numbers.push(numbers.last().map_or(*step, |last| last.saturating_add(*step)));
        }
        let Err(place) = numbers.binary_search(&sequence) else { return false };
        numbers.insert(place, sequence);
        let mut last = 0;
        self.taken =
            numbers.into_iter().map(|number| number - std::mem::replace(&mut last, number)).collect();
        self.counts.merge(counts);
        true
    }
}

/// Where periods are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, of UTC.
    Day,
}

impl Step {
    /// How long it is.
    pub fn minutes(self) -> u64 {
        match self {
            Step::Minute => 1,
            Step::Hour => HOUR,
            Step::Day => DAY,
        }
    }
}

/// For how long counts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Minutes, in days.
    pub minutes_days: u64,
    /// Hours, in days.
    pub hours_days: u64,
    /// Days, in days.
    pub days_days: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { minutes_days: 2, hours_days: 60, days_days: 800 }
    }
}

/// The file, opened to write.
pub struct File {
    db: Connection,
    path: PathBuf,
    zones: HashMap<ZoneId, i64>,
    pops: HashMap<PopId, i64>,
}

/// Opens the file.
pub fn connect(path: &Path, is_reader: bool) -> Result<Connection> {
    let open = || -> rusqlite::Result<Connection> {
        let flags = match is_reader {
            true => OpenFlags::SQLITE_OPEN_READ_ONLY,
            false => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        db.pragma_update(None, "cache_size", -65_536)?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(db)
    };
    open().map_err(|source| StatsError::Sqlite { path: path.into(), source })
}

impl File {
    /// Opens it, or begins it.
    pub fn open(path: &Path) -> Result<File> {
        let db = connect(path, false)?;
        let mut file = File { db, path: path.into(), zones: HashMap::new(), pops: HashMap::new() };
        let begun = file.begin();
        if let Some(found) = begun.map_err(|source| file.failed(source))? {
            return Err(StatsError::Version { path: path.into(), found });
        }
        Ok(file)
    }

    fn begin(&mut self) -> rusqlite::Result<Option<i64>> {
        self.db.pragma_update(None, "journal_mode", "WAL")?;
        // A report is only confirmed when it would outlive a loss of power.
        self.db.pragma_update(None, "synchronous", "FULL")?;
        match self.db.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                self.db.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"))?
            }
            VERSION => {}
            found => return Ok(Some(found)),
        }
        let mut select = self.db.prepare("SELECT id, number FROM zone")?;
        let zones = select.query_map((), |row| Ok((ZoneId(id(&row.get::<_, Vec<u8>>(0)?)), row.get(1)?)))?;
        self.zones = zones.collect::<rusqlite::Result<_>>()?;
        let mut select = self.db.prepare("SELECT id, number FROM pop")?;
        let pops = select.query_map((), |row| Ok((PopId(id(&row.get::<_, Vec<u8>>(0)?)), row.get(1)?)))?;
        self.pops = pops.collect::<rusqlite::Result<_>>()?;
        Ok(None)
    }

    fn failed(&self, source: rusqlite::Error) -> StatsError {
        StatsError::Sqlite { path: self.path.clone(), source }
    }

    /// Takes a PoP's reports, all of them or none; how many of them weren't taken before.
    pub fn take(&mut self, pop: PopId, reports: &[Report]) -> Result<u64> {
        let path = self.path.clone();
        let failed = |source| StatsError::Sqlite { path: path.clone(), source };
        let transaction = self.db.transaction().map_err(failed)?;
        let done = take(&transaction, &mut self.zones, &mut self.pops, pop, reports);
        match done {
            Ok(counted) => {
                transaction.commit().map_err(failed)?;
                Ok(counted)
            }
            Err(error) => {
                drop(transaction);
                // Numbers that were given within it are no more.
                self.zones.clear();
                self.pops.clear();
                self.begin().map_err(|source| self.failed(source))?;
                Err(match error {
                    TakeError::Sqlite(source) => self.failed(source),
                    TakeError::Malformed(error) => error.into(),
                })
            }
        }
    }

    /// Makes the hours and days that are over, and erases what is older than what is kept; `now` in minutes since 1970.
    pub fn roll(&mut self, now: u64, retention: &Retention) -> Result<()> {
        self.roll_up(now, retention).map_err(|error| match error {
            TakeError::Sqlite(source) => self.failed(source),
            TakeError::Malformed(error) => error.into(),
        })
    }

    fn roll_up(&mut self, now: u64, retention: &Retention) -> std::result::Result<(), TakeError> {
        // An hour that a PoP with a clock ahead names is made when it is over here.
        let over = |step: u64| signed(now.saturating_sub(step + 2));
        let hours = late(&self.db, "SELECT start FROM late_hour WHERE start <= ?1", over(HOUR))?;
        let (kept_minute, kept_hour): (i64, i64) =
            self.db.query_row("SELECT from_minute, from_hour FROM kept", (), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        for hour in hours {
            let transaction = self.db.transaction()?;
            // What was erased of it is in the hour alone, and what came since is added to it.
            let is_erased = hour < kept_minute;
            roll_up(&transaction, hour, HOUR, is_erased, MINUTES_OF_HOUR, "hour")?;
            if is_erased {
                transaction.execute(
                    "DELETE FROM minute WHERE start >= ?1 AND start < ?2",
                    (hour, hour + signed(HOUR)),
                )?;
            }
            transaction.execute("DELETE FROM late_hour WHERE start = ?1", (hour,))?;
            transaction
                .execute("INSERT OR IGNORE INTO late_day VALUES (?1)", (hour - hour % signed(DAY),))?;
            transaction.commit()?;
        }
        let days = late(
            &self.db,
            "SELECT start FROM late_day WHERE start <= ?1
             AND NOT EXISTS (SELECT 1 FROM late_hour WHERE late_hour.start >= late_day.start AND late_hour.start < late_day.start + 1440)",
            over(DAY),
        )?;
        for day in days {
            let transaction = self.db.transaction()?;
            roll_up(&transaction, day, DAY, day < kept_hour, HOURS_OF_DAY, "day")?;
            transaction.execute("DELETE FROM late_day WHERE start = ?1", (day,))?;
            transaction.commit()?;
        }
        // Whole days, so that what is erased is in days that are made.
        let horizon = |days: u64| {
            let minute = now.saturating_sub(days * DAY);
            signed(minute - minute % DAY)
        };
        let (from_minute, from_hour) = (horizon(retention.minutes_days), horizon(retention.hours_days));
        let transaction = self.db.transaction()?;
        transaction.execute(
            "DELETE FROM minute WHERE start < ?1 AND NOT EXISTS (SELECT 1 FROM late_hour WHERE late_hour.start = minute.start - minute.start % 60)",
            (from_minute,),
        )?;
        transaction.execute(
            "DELETE FROM hour WHERE start < ?1 AND NOT EXISTS (SELECT 1 FROM late_day WHERE late_day.start = hour.start - hour.start % 1440)",
            (from_hour,),
        )?;
        transaction.execute("DELETE FROM day WHERE start < ?1", (horizon(retention.days_days),))?;
        transaction.execute(
            "UPDATE kept SET from_minute = max(from_minute, ?1), from_hour = max(from_hour, ?2)",
            (from_minute, from_hour),
        )?;
        transaction.commit()?;
        Ok(())
    }
}

enum TakeError {
    Sqlite(rusqlite::Error),
    Malformed(minicbor::decode::Error),
}

impl From<rusqlite::Error> for TakeError {
    fn from(error: rusqlite::Error) -> TakeError {
        TakeError::Sqlite(error)
    }
}

impl From<minicbor::decode::Error> for TakeError {
    fn from(error: minicbor::decode::Error) -> TakeError {
        TakeError::Malformed(error)
    }
}

fn take(
    db: &Connection,
    zones: &mut HashMap<ZoneId, i64>,
    pops: &mut HashMap<PopId, i64>,
    pop: PopId,
    reports: &[Report],
) -> std::result::Result<u64, TakeError> {
    let pop = match pops.get(&pop) {
        Some(number) => *number,
        None => {
            db.execute("INSERT INTO pop (id) VALUES (?1)", (pop.0.to_be_bytes(),))?;
            let number = db.last_insert_rowid();
            pops.insert(pop, number);
            number
        }
    };
    let mut select =
        db.prepare_cached("SELECT counts FROM minute WHERE start = ?1 AND zone = ?2 AND pop = ?3")?;
    let mut put = db.prepare_cached("INSERT OR REPLACE INTO minute VALUES (?1, ?2, ?3, ?4)")?;
    let mut hours = Vec::new();
    let mut counted = 0;
    for report in reports {
        let zone = match report.zone {
            None => NO_ZONE,
            Some(zone) => match zones.get(&zone) {
                Some(number) => *number,
                None => {
                    db.prepare_cached("INSERT INTO zone (id) VALUES (?1)")?
                        .execute((zone.0.to_be_bytes(),))?;
                    let number = db.last_insert_rowid();
                    zones.insert(zone, number);
                    number
                }
            },
        };
        let start = signed(report.minute);
        let known: Option<Vec<u8>> = select.query_row((start, zone, pop), |row| row.get(0)).optional()?;
        let mut bucket: Bucket = match known {
            Some(octets) => minicbor::decode(&octets)?,
            None => Bucket::default(),
        };
        if bucket.take(report.sequence, &report.counts) {
            counted += 1;
            put.execute(params![start, zone, pop, minicbor::to_vec(&bucket).unwrap_or_default()])?;
            let hour = start - start % signed(HOUR);
            if !hours.contains(&hour) {
                hours.push(hour);
            }
        }
    }
    for hour in hours {
        db.prepare_cached("INSERT OR IGNORE INTO late_hour VALUES (?1)")?.execute((hour,))?;
    }
    Ok(counted)
}

fn late(db: &Connection, sql: &str, up_to: i64) -> rusqlite::Result<Vec<i64>> {
    let mut select = db.prepare(sql)?;
    let starts = select.query_map((up_to,), |row| row.get(0))?;
    starts.collect()
}

const MINUTES_OF_HOUR: &str = "SELECT zone, pop, counts FROM minute WHERE start >= ?1 AND start < ?2";
const HOURS_OF_DAY: &str = "SELECT zone, pop, counts FROM hour WHERE start >= ?1 AND start < ?2";

/// Makes an hour or a day of what it is made of.
fn roll_up(
    db: &Connection,
    start: i64,
    minutes: u64,
    adds: bool,
    parts: &str,
    table: &str,
) -> std::result::Result<(), TakeError> {
    let mut sums: BTreeMap<(i64, i64), Counts> = BTreeMap::new();
    let mut select = db.prepare_cached(parts)?;
    let mut rows = select.query((start, start + signed(minutes)))?;
    while let Some(row) = rows.next()? {
        let octets = row.get_ref(2)?.as_blob().unwrap_or_default();
        let counts = match table {
            "hour" => minicbor::decode::<Bucket>(octets)?.counts,
            _ => minicbor::decode(octets)?,
        };
        sums.entry((row.get(0)?, row.get(1)?)).or_default().merge(&counts);
    }
    let mut put = db.prepare_cached(&format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3, ?4)"))?;
    let mut known = db
        .prepare_cached(&format!("SELECT counts FROM {table} WHERE zone = ?1 AND start = ?2 AND pop = ?3"))?;
    for ((zone, pop), mut counts) in sums {
        if adds {
            let before: Option<Vec<u8>> = known.query_row((zone, start, pop), |row| row.get(0)).optional()?;
            if let Some(octets) = before {
                counts.merge(&minicbor::decode(&octets)?);
            }
        }
        put.execute(params![zone, start, pop, minicbor::to_vec(&counts).unwrap_or_default()])?;
    }
    Ok(())
}

/// Reads counts.
pub struct Reader<'a> {
    db: &'a Connection,
    zone: i64,
    pops: HashMap<i64, PopId>,
    each: &'a mut dyn FnMut(u64, PopId, &Counts),
}

/// Tells the counts of a zone, or of no zone, from one minute up to another: each with the period's begin, several times for some.
pub fn read(
    db: &Connection,
    zone: Option<ZoneId>,
    minutes: std::ops::Range<u64>,
    step: Step,
    each: &mut dyn FnMut(u64, PopId, &Counts),
) -> std::result::Result<(), ReadError> {
    // One state of the file: an hour that is being made is told once.
    let transaction = db.unchecked_transaction()?;
    let number = match zone {
        None => Some(NO_ZONE),
        Some(zone) => transaction
            .query_row("SELECT number FROM zone WHERE id = ?1", (zone.0.to_be_bytes(),), |row| row.get(0))
            .optional()?,
    };
    let Some(zone) = number else { return Ok(()) };
    let mut select = transaction.prepare_cached("SELECT number, id FROM pop")?;
    let pops = select.query_map((), |row| Ok((row.get(0)?, PopId(id(&row.get::<_, Vec<u8>>(1)?)))))?;
    let pops = pops.collect::<rusqlite::Result<_>>()?;
    drop(select);
    let mut reader = Reader { db: &transaction, zone, pops, each };
    match step {
        Step::Minute => reader.minutes(minutes, 1),
        Step::Hour => reader.hours(minutes, HOUR),
        Step::Day => reader.days(minutes),
    }
}

/// Why counts can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// What is there.
    #[error(transparent)]
    Malformed(#[from] minicbor::decode::Error),
}

impl Reader<'_> {
    fn minutes(&mut self, minutes: std::ops::Range<u64>, period: u64) -> std::result::Result<(), ReadError> {
        let mut select =
            self.db.prepare_cached("SELECT pop, counts FROM minute WHERE start = ?1 AND zone = ?2")?;
        for minute in minutes {
            let mut rows = select.query((signed(minute), self.zone))?;
            while let Some(row) = rows.next()? {
                let bucket: Bucket = minicbor::decode(row.get_ref(1)?.as_blob().unwrap_or_default())?;
                if let Some(pop) = self.pops.get(&row.get(0)?) {
                    (self.each)(minute - minute % period, *pop, &bucket.counts);
                }
            }
        }
        Ok(())
    }

    fn hours(&mut self, minutes: std::ops::Range<u64>, period: u64) -> std::result::Result<(), ReadError> {
        let (from_minute, _) = self.kept()?;
        let select = self.db.prepare_cached(
            "SELECT start, pop, counts FROM hour WHERE zone = ?1 AND start >= ?2 AND start < ?3",
        )?;
        let late = self.late("SELECT start FROM late_hour WHERE start >= ?1 AND start < ?2", &minutes)?;
        self.made(select, &minutes, period, |hour| !late.contains(&hour) || signed(hour) < from_minute)?;
        for hour in late {
            self.minutes(hour..hour + HOUR, period)?;
        }
        Ok(())
    }

    fn days(&mut self, minutes: std::ops::Range<u64>) -> std::result::Result<(), ReadError> {
        let (_, from_hour) = self.kept()?;
        let select = self.db.prepare_cached(
            "SELECT start, pop, counts FROM day WHERE zone = ?1 AND start >= ?2 AND start < ?3",
        )?;
        let mut late = self.late("SELECT start FROM late_day WHERE start >= ?1 AND start < ?2", &minutes)?;
        for hour in self.late("SELECT start FROM late_hour WHERE start >= ?1 AND start < ?2", &minutes)? {
            let day = hour - hour % DAY;
            if !late.contains(&day) {
                late.push(day);
            }
        }
        self.made(select, &minutes, DAY, |day| !late.contains(&day) || signed(day) < from_hour)?;
        for day in late {
            self.hours(day..day + DAY, DAY)?;
        }
        Ok(())
    }

    fn made(
        &mut self,
        mut select: CachedStatement<'_>,
        minutes: &std::ops::Range<u64>,
        period: u64,
        is_whole: impl Fn(u64) -> bool,
    ) -> std::result::Result<(), ReadError> {
        let mut rows = select.query((self.zone, signed(minutes.start), signed(minutes.end)))?;
        while let Some(row) = rows.next()? {
            let start = row.get::<_, i64>(0)?.cast_unsigned();
            if is_whole(start)
                && let Some(pop) = self.pops.get(&row.get(1)?)
            {
                let counts: Counts = minicbor::decode(row.get_ref(2)?.as_blob().unwrap_or_default())?;
                (self.each)(start - start % period, *pop, &counts);
            }
        }
        Ok(())
    }

    fn kept(&self) -> rusqlite::Result<(i64, i64)> {
        self.db.query_row("SELECT from_minute, from_hour FROM kept", (), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    fn late(&self, sql: &str, minutes: &std::ops::Range<u64>) -> rusqlite::Result<Vec<u64>> {
        let mut select = self.db.prepare_cached(sql)?;
        let starts =
            select.query_map((signed(minutes.start), signed(minutes.end)), |row| row.get::<_, i64>(0))?;
        starts.map(|start| start.map(i64::cast_unsigned)).collect()
    }
}

fn id(octets: &[u8]) -> u128 {
    octets.try_into().map_or(0, u128::from_be_bytes)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
