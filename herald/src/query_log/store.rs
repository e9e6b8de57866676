//! The file of the query log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use herald_core::{Name, PopId, ZoneId};
use minicbor::{Decode, Encode};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{Batch, Limits};

/// Version of the file and of its records.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE zone (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, since_ms INTEGER NOT NULL,
                   left_out INTEGER NOT NULL, records INTEGER NOT NULL);
CREATE TABLE record (zone INTEGER, time_ms INTEGER, number INTEGER, pop BLOB NOT NULL, body BLOB NOT NULL,
                     PRIMARY KEY (zone, time_ms, number)) WITHOUT ROWID;
CREATE TABLE sender (pop BLOB, instance TEXT, sequence INTEGER NOT NULL, time_ms INTEGER NOT NULL,
                     PRIMARY KEY (pop, instance)) WITHOUT ROWID;
CREATE TABLE last (number INTEGER NOT NULL);
INSERT INTO last VALUES (0);
";

/// Why queries can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum QueryLogError {
    /// What SQLite says.
    #[error("the query log in {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// Written by another version.
    #[error("the query log in {} has version {found}, and this program knows {VERSION}: use the program that wrote it, or remove it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Something in it can't be read.
    #[error("the query log in {} can't be read: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What.
        source: minicbor::decode::Error,
    },
    /// The daemon is stopping.
    #[error("the control plane is stopping")]
    Stopping,
}

/// Why something can't be read.
#[derive(Debug)]
pub enum ReadError {
    /// What SQLite says.
    Sqlite(rusqlite::Error),
    /// A record isn't what was written.
    Malformed(minicbor::decode::Error),
}

impl ReadError {
    /// In this file.
    pub fn at(self, path: &Path) -> QueryLogError {
        let path = path.to_owned();
        match self {
            ReadError::Sqlite(source) => QueryLogError::Sqlite { path, source },
            ReadError::Malformed(source) => QueryLogError::Malformed { path, source },
        }
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> ReadError {
        ReadError::Sqlite(error)
    }
}

impl From<minicbor::decode::Error> for ReadError {
    fn from(error: minicbor::decode::Error) -> ReadError {
        ReadError::Malformed(error)
    }
}

// ---------------------------------------------------------------------------------------------------
// What is kept
// ---------------------------------------------------------------------------------------------------

/// The first bits of an address: all of them, or what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Prefix {
    /// 4 or 16 octets, zero behind its length.
    #[cbor(n(0), with = "minicbor::bytes")]
    octets: Vec<u8>,
    /// How many bits are known.
    #[n(1)]
    length: u8,
}

impl Prefix {
    /// So many bits of an address; none if it has fewer.
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let mut prefix = Prefix { octets, length: u8::MAX };
        (usize::from(length) <= prefix.octets.len() * 8).then(|| {
            prefix.shorten(length);
            prefix
        })
    }

    /// All of an address.
    pub fn whole(address: IpAddr) -> Prefix {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Prefix::new(address, length).unwrap_or(Prefix { octets: Vec::new(), length: 0 })
    }

    fn shorten(&mut self, length: u8) {
        self.length = self.length.min(length);
        for (place, octet) in self.octets.iter_mut().enumerate() {
            let bits = usize::from(self.length).saturating_sub(place * 8).min(8);
            *octet &= !(0xff_u16 >> bits) as u8;
        }
    }

    /// How many bits are known.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The address, zero behind what is known.
    pub fn address(&self) -> Option<IpAddr> {
        match self.octets.len() {
            4 => <[u8; 4]>::try_from(&self.octets[..]).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(&self.octets[..]).ok().map(IpAddr::from),
        }
    }

    /// Whether all of it is known.
    pub fn is_whole(&self) -> bool {
        usize::from(self.length) == self.octets.len() * 8
    }
}

/// EDNS of a query.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Edns {
    /// Octets of an answer that it takes.
    #[n(0)]
    pub udp_bytes: u16,
    /// Whether signatures are asked for.
    #[n(1)]
    pub wants_dnssec: bool,
    /// The client subnet that came with it.
    #[n(2)]
    pub subnet: Option<Prefix>,
}

/// A query, and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Query {
    /// When, in ms since the epoch. It isn't in the body.
    #[cbor(skip)]
    pub time_ms: u64,
    /// The name asked for.
    #[n(0)]
    pub name: Name,
    /// The type asked for.
    #[n(1)]
    pub rtype: u16,
    /// The response code.
    #[n(2)]
    pub rcode: u16,
    /// How it came, as [`Transport`](steering::counts::Transport) has it.
    #[n(3)]
    pub transport: u8,
    /// Where it came from.
    #[n(4)]
    pub source: Prefix,
    /// EDNS, if it had any.
    #[n(5)]
    pub edns: Option<Edns>,
    /// Octets of the answer.
    #[n(6)]
    pub answer_bytes: u32,
    /// Whether the answer was truncated.
    #[n(7)]
    pub is_truncated: bool,
    /// Whether it wasn't answered, on purpose.
    #[n(8)]
    pub is_dropped: bool,
    /// The steered name whose policy was asked.
    #[n(9)]
    pub policy: Option<String>,
    /// The pool that answered.
    #[n(10)]
    pub pool: Option<String>,
}

/// Bits of addresses that are kept if not all of them are.
const V4_BITS: u8 = 24;
const V6_BITS: u8 = 48;

impl Query {
    /// Forgets what tells clients apart.
    pub fn shorten(&mut self) {
        let subnet = self.edns.as_mut().and_then(|edns| edns.subnet.as_mut());
        for prefix in [&mut self.source].into_iter().chain(subnet) {
            prefix.shorten(if prefix.octets.len() == 4 { V4_BITS } else { V6_BITS });
        }
    }
}

/// A record's place among those of its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it was, in ms since the epoch.
    pub time_ms: u64,
    /// Tells it from others.
    pub number: u64,
}

impl Place {
    /// After all.
    pub const END: Place = Place { time_ms: i64::MAX.cast_unsigned(), number: i64::MAX.cast_unsigned() };
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub place: Place,
    /// Which PoP was asked.
    pub pop: PopId,
    /// The query.
    pub query: Query,
}

/// How much there is of a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records.
    pub records: u64,
    /// When the log was switched on that the last of it is of, in ms since the epoch.
    pub since_ms: u64,
    /// Queries that were left out since then.
    pub left_out: u64,
}

// ---------------------------------------------------------------------------------------------------
// The file
// ---------------------------------------------------------------------------------------------------

/// Opens the file.
///
/// # Errors
/// If it can't be.
pub fn connect(path: &Path, is_reader: bool) -> Result<Connection, QueryLogError> {
    let open = || -> rusqlite::Result<Connection> {
        let flags = match is_reader {
            true => OpenFlags::SQLITE_OPEN_READ_ONLY,
            false => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(db)
    };
    open().map_err(|source| QueryLogError::Sqlite { path: path.into(), source })
}

/// The file, opened to write.
pub struct File {
    db: Connection,
    path: PathBuf,
}

impl File {
    /// Opens it, or begins it.
    pub fn open(path: &Path) -> Result<File, QueryLogError> {
        let db = connect(path, false)?;
        let file = File { db, path: path.into() };
        match file.begin() {
            Ok(None) => Ok(file),
            Ok(Some(found)) => Err(QueryLogError::Version { path: path.into(), found }),
            Err(source) => Err(file.failed(source)),
        }
    }

    fn begin(&self) -> rusqlite::Result<Option<i64>> {
        self.db.pragma_update(None, "journal_mode", "WAL")?;
        // What a loss of power takes is lost: it is a log to find faults by.
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        // What is erased is overwritten.
        self.db.pragma_update(None, "secure_delete", true)?;
        match self.db.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                self.db
                    .execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"))?;
                Ok(None)
            }
            VERSION => Ok(None),
            found => Ok(Some(found)),
        }
    }

    fn failed(&self, source: rusqlite::Error) -> QueryLogError {
        QueryLogError::Sqlite { path: self.path.clone(), source }
    }

    /// Takes a PoP's batch, all of it; false if it was taken before.
    pub fn take(
        &mut self,
        pop: PopId,
        batch: &Batch,
        limits: Limits,
        now_ms: u64,
    ) -> Result<bool, QueryLogError> {
        let taken = self.try_take(pop, batch, limits, now_ms);
        taken.map_err(|source| self.failed(source))
    }

    fn try_take(&mut self, pop: PopId, batch: &Batch, limits: Limits, now_ms: u64) -> rusqlite::Result<bool> {
        let db = self.db.transaction()?;
        let pop = pop.0.to_be_bytes();
        let news = db
            .prepare_cached(
                "INSERT INTO sender VALUES (?1, ?2, ?3, ?4) ON CONFLICT (pop, instance)
                 DO UPDATE SET sequence = ?3, time_ms = ?4 WHERE sequence < ?3",
            )?
            .execute(params![pop, batch.instance, signed(batch.sequence), signed(now_ms)])?;
        if news == 0 {
            return Ok(false);
        }
        let mut last: i64 = db.query_row("SELECT number FROM last", (), |row| row.get(0))?;
        for of_zone in &batch.zones {
            let id = of_zone.zone.0.to_be_bytes();
            db.prepare_cached(
                "INSERT OR IGNORE INTO zone (id, since_ms, left_out, records) VALUES (?1, 0, 0, 0)",
            )?
            .execute((id,))?;
            // What was left out is told of the last time that it was switched on.
            let (zone, records): (i64, i64) = db
                .prepare_cached(
                    "UPDATE zone SET left_out = CASE WHEN since_ms = ?2 THEN left_out ELSE 0 END + ?3,
                     since_ms = ?2, records = records + ?4 WHERE id = ?1 RETURNING number, records",
                )?
                .query_row(
                    params![
                        id,
                        signed(of_zone.since_ms),
                        signed(of_zone.left_out),
                        signed(of_zone.queries.len() as u64)
                    ],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
            let mut put = db.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3, ?4, ?5)")?;
            let mut body = Vec::new();
            for query in &of_zone.queries {
                last += 1;
                body.clear();
                minicbor::encode(query, &mut body).expect("writing to a Vec can't fail");
                put.execute(params![zone, signed(query.time_ms), last, pop, body])?;
            }
            drop(put);
            drop_oldest(&db, zone, records - signed(limits.of_zone))?;
        }
        db.execute("UPDATE last SET number = ?1", (last,))?;
        // Whose zones have the most give.
        let mut excess = all_records(&db)? - signed(limits.of_all);
        while excess > 0 {
            let most = db
                .query_row("SELECT number, records FROM zone ORDER BY records DESC LIMIT 1", (), |row| {
                    Ok::<(i64, i64), _>((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let Some((zone, records)) = most.filter(|(_, records)| *records > 0) else { break };
            let some = excess.min(records / 10 + 1);
            drop_oldest(&db, zone, some)?;
            excess -= some;
        }
        db.commit()?;
        Ok(true)
    }

    /// Erases what is before this time, and what is of zones that are gone.
    pub fn erase(&mut self, before_ms: u64, is_gone: impl Fn(ZoneId) -> bool) -> Result<(), QueryLogError> {
        let erased = self.try_erase(before_ms, is_gone);
        erased.map_err(|source| self.failed(source))
    }

    fn try_erase(&mut self, before_ms: u64, is_gone: impl Fn(ZoneId) -> bool) -> rusqlite::Result<()> {
        let db = self.db.transaction()?;
        let zones: HashMap<i64, ZoneId> = {
            let mut select = db.prepare("SELECT number, id FROM zone")?;
            let zones =
                select.query_map((), |row| Ok((row.get(0)?, ZoneId(id(&row.get::<_, Vec<u8>>(1)?)))))?;
            zones.collect::<rusqlite::Result<_>>()?
        };
        for (number, zone) in zones {
            let before = if is_gone(zone) { i64::MAX } else { signed(before_ms) };
            let erased = db
                .prepare_cached("DELETE FROM record WHERE zone = ?1 AND time_ms < ?2")?
                .execute((number, before))?;
            db.prepare_cached("UPDATE zone SET records = records - ?2 WHERE number = ?1")?
                .execute((number, signed(erased as u64)))?;
            if is_gone(zone) {
                db.execute("DELETE FROM zone WHERE number = ?1", (number,))?;
            }
        }
        db.execute("DELETE FROM zone WHERE records = 0 AND since_ms < ?1", (signed(before_ms),))?;
        db.execute("DELETE FROM sender WHERE time_ms < ?1", (signed(before_ms),))?;
        db.commit()?;
        // Erased pages are in the write-ahead log, too.
        self.db.pragma_update(None, "wal_checkpoint", "TRUNCATE")
    }
}

fn drop_oldest(db: &Connection, zone: i64, count: i64) -> rusqlite::Result<()> {
    if count <= 0 {
        return Ok(());
    }
    let dropped = db
        .prepare_cached(
            "DELETE FROM record WHERE zone = ?1 AND (time_ms, number) IN
             (SELECT time_ms, number FROM record WHERE zone = ?1 ORDER BY time_ms, number LIMIT ?2)",
        )?
        .execute((zone, count))?;
    db.prepare_cached("UPDATE zone SET records = records - ?2 WHERE number = ?1")?
        .execute((zone, signed(dropped as u64)))?;
    Ok(())
}

fn all_records(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT coalesce(sum(records), 0) FROM zone", (), |row| row.get(0))
}

/// How much there is of a zone.
pub fn figures(db: &Connection, zone: ZoneId) -> Result<Figures, ReadError> {
    let found = db
        .prepare_cached("SELECT records, since_ms, left_out FROM zone WHERE id = ?1")?
        .query_row((zone.0.to_be_bytes(),), |row| {
            Ok(Figures {
                records: row.get::<_, i64>(0)?.cast_unsigned(),
                since_ms: row.get::<_, i64>(1)?.cast_unsigned(),
                left_out: row.get::<_, i64>(2)?.cast_unsigned(),
            })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Has records of a zone looked at, newest first.
pub fn read(
    db: &Connection,
    zone: ZoneId,
    before: Place,
    since_ms: u64,
    each: &mut dyn FnMut(Record) -> bool,
) -> Result<(), ReadError> {
    let mut select = db.prepare_cached(
        "SELECT time_ms, number, pop, body FROM record WHERE zone = (SELECT number FROM zone WHERE id = ?1)
         AND (time_ms, number) < (?2, ?3) AND time_ms >= ?4 ORDER BY time_ms DESC, number DESC",
    )?;
    let mut rows = select.query(params![
        zone.0.to_be_bytes(),
        signed(before.time_ms),
        signed(before.number),
        signed(since_ms)
    ])?;
    while let Some(row) = rows.next()? {
        let time_ms = row.get::<_, i64>(0)?.cast_unsigned();
        let place = Place { time_ms, number: row.get::<_, i64>(1)?.cast_unsigned() };
        let pop = PopId(id(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?));
        let body = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
        let query = Query { time_ms, ..minicbor::decode(body)? };
        if !each(Record { place, pop, query }) {
            break;
        }
    }
    Ok(())
}

/// No number here is beyond it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn id(octets: &[u8]) -> u128 {
    octets.try_into().map_or(0, u128::from_be_bytes)
}
