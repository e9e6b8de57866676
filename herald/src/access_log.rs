//! The access log: who was denied what, which tokens are in use, who made tokens and was shown secrets.
//!
//! It is no part of the log: nothing of the state depends on it, and no request waits for it. It has a file of its own,
//! each record of which names the hash of the one before. What comes again within a minute is counted and not
//! repeated, so that a flood of denials fills no disk. It holds no secret and no name of a record.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use herald_core::account::Principal;
use herald_core::{PopId, TokenId};
use minicbor::{Decode, Encode};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use sha2::{Digest, Sha256};

use crate::clock;

/// The file's name in the data directory.
pub const FILE: &str = "access.sqlite";

/// Version of the file and of its records.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE record (number INTEGER PRIMARY KEY, kind INTEGER NOT NULL, time_ms INTEGER NOT NULL,
                     body BLOB NOT NULL, hash BLOB NOT NULL);
CREATE INDEX record_kind ON record (kind, number);
CREATE TABLE mark (name TEXT PRIMARY KEY, number INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
";

/// Hash that the first record names as the one before.
const GENESIS: [u8; 32] = [0; 32];

/// So many events may wait to be written; more are only counted.
const QUEUE_EVENTS: usize = 4096;

/// What is the same within this time is one record more, with a count.
const WINDOW: Duration = Duration::from_secs(60);

/// So many different things are told apart within a window; all others are counted together.
const DIFFERENT_MAX: usize = 512;

/// For so long events gather before they are written with one sync.
const LINGER: Duration = Duration::from_millis(200);

/// More records are not kept, however young they are: some hundred megabytes.
const RECORDS_MAX: u64 = 1_000_000;

/// How often old records are dropped.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

const HOUR_MS: u64 = 3600 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Kind {
    /// A request was refused for who it came from: 401, 403, or 404 for what is there and not to be seen.
    #[n(0)]
    Denied,
    /// A token was used, for the first time in this hour.
    #[n(1)]
    TokenUsed,
    /// A token was made, and its secret shown.
    #[n(2)]
    TokenCreated,
    /// Another secret was shown: a PoP's credential.
    #[n(3)]
    SecretShown,
    /// So many events are not told one by one: there were too many.
    #[n(4)]
    Others,
    /// A PoP logged in.
    #[n(5)]
    PopLogin,
    /// Somebody who would be a PoP was refused.
    #[n(6)]
    PopDenied,
    /// Somebody read the query log of a zone.
    #[n(7)]
    QueryLogRead,
}

/// What happened, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// Who, if that was found out.
    pub principal: Option<Principal>,
    /// The token that was presented or made.
    pub token: Option<TokenId>,
    /// The PoP that logged in, or whose name was given.
    pub pop: Option<PopId>,
    /// The answer's status.
    pub status: u16,
    /// The request's method.
    pub method: &'static str,
    /// The route, not the path.
    pub route: String,
    /// Where it came from.
    pub address: Option<IpAddr>,
}

impl Event {
    /// An event of which no more is known.
    fn of(kind: Kind) -> Event {
        let (principal, token, pop, address) = (None, None, None, None);
        Event { kind, principal, token, pop, status: 0, method: "", route: String::new(), address }
    }
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// Its number, from 1, without gaps.
    #[n(0)]
    pub number: u64,
    /// When, in ms since the epoch; the first time, if it stands for several.
    #[n(1)]
    pub time_ms: u64,
    /// The last time, if it stands for several.
    #[n(2)]
    pub until_ms: Option<u64>,
    /// For how many it stands.
    #[n(3)]
    pub count: u64,
    /// What.
    #[n(4)]
    pub kind: Kind,
    /// Who.
    #[n(5)]
    pub principal: Option<Principal>,
    /// The token that was presented or made.
    #[n(6)]
    pub token: Option<TokenId>,
    /// The answer's status.
    #[n(7)]
    pub status: u16,
    /// The request's method.
    #[n(8)]
    pub method: String,
    /// The route.
    #[n(9)]
    pub route: String,
    /// Where it came from.
    #[n(10)]
    pub address: Option<String>,
    /// SHA-256 of the record before as stored.
    #[cbor(n(11), with = "minicbor::bytes")]
    pub previous_hash: [u8; 32],
    /// The PoP that logged in, or whose name was given.
    #[n(12)]
    pub pop: Option<PopId>,
}

/// Why the access log can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// What SQLite says.
    #[error("the access log in {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// Written by another version.
    #[error("the access log in {} has version {found}, and this program knows {VERSION}: use the program that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// A record can't be read.
    #[error("record {0} of the access log can't be read: `herald audit verify` says more")]
    Malformed(u64),
    /// No thread.
    #[error("a thread can't be started: {0}")]
    Thread(std::io::Error),
    /// The daemon is stopping.
    #[error("the control plane is stopping")]
    Stopping,
}

/// A handle on the access log. Clones are handles on the same one.
#[derive(Clone)]
pub struct AccessLog(Arc<Inner>);

struct Inner {
    events: SyncSender<Message>,
    /// Events that found no room in the queue.
    lost: Arc<AtomicU64>,
    /// In which hour each token was last noted.
    used: Mutex<HashMap<TokenId, u64>>,
    path: PathBuf,
    reader: Mutex<Connection>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Event(Event, u64),
    /// There will be no more that counts.
    End,
    /// All that came before is to be written, and then said so.
    Flush(tokio::sync::oneshot::Sender<()>),
}

impl AccessLog {
    /// Opens it in this directory, or begins it, and starts its thread. Records are kept for so many days.
    ///
    /// # Errors
    /// [`AccessLogError`].
    pub fn start(dir: &Path, days: u32) -> Result<AccessLog, AccessLogError> {
        let path = dir.join(FILE);
        let file = File::open(&path)?;
        let reader = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let (events, queue) = sync_channel(QUEUE_EVENTS);
        let lost = Arc::<AtomicU64>::default();
        let keeper = Keeper { file, queue, lost: Arc::clone(&lost), days, window: Window::default() };
        let keeper = std::thread::Builder::new()
            .name("herald-access".into())
            .spawn(|| keeper.run())
            .map_err(AccessLogError::Thread)?;
        Ok(AccessLog(Arc::new(Inner {
            events,
            lost,
            used: Mutex::default(),
            path,
            reader: Mutex::new(reader),
            keeper: Mutex::new(Some(keeper)),
        })))
    }

    /// Writes what was noted, and ends; what is noted from here on is lost. Blocking.
    pub fn end(&self) {
        let keeper = self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Waits if the queue is full, which the keeper soon changes.
        if let Some(keeper) = keeper
            && (self.0.events.send(Message::End).is_err() | keeper.join().is_err())
        {
            tracing::error!("the access log's thread panicked");
        }
    }

    /// Notes an event. Never waits.
    pub fn note(&self, event: Event) {
        if self.0.events.try_send(Message::Event(event, clock::now_ms())).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that a token is in use, once an hour.
    pub fn note_use(&self, principal: Principal, address: Option<IpAddr>) {
        let (Principal::Operator { token } | Principal::Tenant { token, .. }) = principal else { return };
        let hour = clock::now_ms() / HOUR_MS;
        {
            let mut used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
            if used.insert(token, hour) == Some(hour) {
                return;
            }
            // Tokens that were not used in this hour need not be remembered.
            if used.len() > QUEUE_EVENTS {
                used.retain(|_, last| *last == hour);
            }
        }
        let (principal, token) = (Some(principal), Some(token));
        self.note(Event { principal, token, address, ..Event::of(Kind::TokenUsed) });
    }

    /// Notes that a PoP logged in, or somebody who gave its name was refused.
    pub fn note_login(&self, is_let_in: bool, pop: Option<PopId>, address: IpAddr) {
        let kind = if is_let_in { Kind::PopLogin } else { Kind::PopDenied };
        self.note(Event { pop, address: Some(address), ..Event::of(kind) });
    }

    /// Records, newest first: at most `limit` of numbers below `before`, of one kind or all.
    ///
    /// # Errors
    /// [`AccessLogError`].
    pub async fn read(
        &self,
        kind: Option<Kind>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Record>, AccessLogError> {
        // What was noted before is to be seen.
        let (written, when_written) = tokio::sync::oneshot::channel();
        let inner = Arc::clone(&self.0);
        let read = move || {
            // Waits if the queue is full, which the keeper soon changes.
            if inner.events.send(Message::Flush(written)).is_ok() {
                _ = when_written.blocking_recv();
            }
            let db = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
            read_records(&db, kind, before, limit).map_err(|source| sqlite(&inner.path, source))?
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| AccessLogError::Stopping)?
    }
}

fn read_records(
    db: &Connection,
    kind: Option<Kind>,
    before: Option<u64>,
    limit: usize,
) -> rusqlite::Result<Result<Vec<Record>, AccessLogError>> {
    let mut select = db.prepare_cached(
        "SELECT number, body FROM record WHERE number < ?1 AND (?2 IS NULL OR kind = ?2)
         ORDER BY number DESC LIMIT ?3",
    )?;
    let before = before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select.query_map((before, kind.map(|kind| kind as u8), limit), |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, Vec<u8>>(1)?))
    })?;
    let rows: Vec<(u64, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
    let decoded = |(number, body): (u64, Vec<u8>)| {
        minicbor::decode(&body).map_err(|_| AccessLogError::Malformed(number))
    };
    Ok(rows.into_iter().map(decoded).collect())
}

// ------------------------------------------------------------------------------------------- the thread

/// Writes what is noted, and drops what is old. It ends when it is told to, or there is no handle any more.
struct Keeper {
    file: File,
    queue: Receiver<Message>,
    lost: Arc<AtomicU64>,
    days: u32,
    window: Window,
}

/// What was seen within the present window.
#[derive(Default)]
struct Window {
    begin: Option<Instant>,
    /// Of each thing how often it came again after its first record, and when first and last.
    again: HashMap<Event, (u64, u64, u64)>,
    others: u64,
}

impl Keeper {
    fn run(mut self) {
        let mut pending: Vec<Record> = Vec::new();
        let mut flushed = Vec::new();
        let mut pruned: Option<Instant> = None;
        loop {
            if pruned.is_none_or(|when| when.elapsed() >= PRUNE_INTERVAL) {
                pruned = Some(Instant::now());
                let oldest_ms = clock::now_ms().saturating_sub(u64::from(self.days) * DAY_MS);
                self.tell(self.file.prune(oldest_ms, RECORDS_MAX));
            }
            let ended = self.gather(&mut pending, &mut flushed);
            self.end_window(ended, &mut pending);
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                self.window.begin.get_or_insert_with(Instant::now);
                self.window.others += lost;
            }
            if !pending.is_empty() {
                let written = self.file.append(&mut pending);
                self.tell(written);
                // On a full disk they are lost, but not their number.
                self.window.others += pending.drain(..).map(|record| record.count).sum::<u64>();
            }
            flushed.drain(..).for_each(|flush: tokio::sync::oneshot::Sender<()>| _ = flush.send(()));
            if ended {
                return;
            }
        }
    }

    fn tell(&self, done: rusqlite::Result<()>) {
        if let Err(e) = done {
            tracing::error!("the access log can't be written: {e}");
        }
    }

    /// Takes events for a while; says whether there will be no more.
    fn gather(
        &mut self,
        pending: &mut Vec<Record>,
        flushed: &mut Vec<tokio::sync::oneshot::Sender<()>>,
    ) -> bool {
        // Nothing to do before the window ends, or something comes.
        let mut until = Instant::now() + WINDOW;
        loop {
            let message = self.queue.recv_timeout(until.saturating_duration_since(Instant::now()));
            match message {
                Ok(Message::Event(event, time_ms)) => {
                    pending.extend(self.window.take(event, time_ms));
                    until = until.min(Instant::now() + LINGER);
                    if pending.len() >= QUEUE_EVENTS {
                        return false;
                    }
                }
                Ok(Message::Flush(flush)) => {
                    flushed.push(flush);
                    return false;
                }
                Err(RecvTimeoutError::Timeout) => return false,
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// At the end of a window, what came again gets its record.
    fn end_window(&mut self, at_once: bool, pending: &mut Vec<Record>) {
        let is_over = self.window.begin.is_some_and(|begin| begin.elapsed() >= WINDOW);
        if is_over || at_once {
            pending.extend(self.window.end());
        }
    }
}

impl Window {
    /// The record of what is new; what came before is counted.
    fn take(&mut self, event: Event, time_ms: u64) -> Option<Record> {
        self.begin.get_or_insert_with(Instant::now);
        if let Some((count, first_ms, last_ms)) = self.again.get_mut(&event) {
            if *count == 0 {
                *first_ms = time_ms;
            }
            *count += 1;
            *last_ms = time_ms;
            return None;
        }
        if self.again.len() >= DIFFERENT_MAX {
            self.others += 1;
            return None;
        }
        let record = record_of(&event, time_ms, None, 1);
        self.again.insert(event, (0, 0, 0));
        Some(record)
    }

    fn end(&mut self) -> Vec<Record> {
        self.begin = None;
        let mut records: Vec<Record> = self
            .again
            .drain()
            .filter(|(_, (count, ..))| *count > 0)
            .map(|(event, (count, first_ms, last_ms))| record_of(&event, first_ms, Some(last_ms), count))
            .collect();
        records.sort_by_key(|record| record.time_ms);
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            records.push(record_of(&Event::of(Kind::Others), clock::now_ms(), None, others));
        }
        records
    }
}

/// Number and chain come when it is written.
fn record_of(event: &Event, time_ms: u64, until_ms: Option<u64>, count: u64) -> Record {
    Record {
        number: 0,
        time_ms,
        until_ms,
        count,
        kind: event.kind,
        principal: event.principal,
        token: event.token,
        status: event.status,
        method: event.method.to_owned(),
        route: event.route.clone(),
        address: event.address.map(|address| address.to_string()),
        previous_hash: GENESIS,
        pop: event.pop,
    }
}

// --------------------------------------------------------------------------------------------- the file

fn sqlite(path: &Path, source: rusqlite::Error) -> AccessLogError {
    AccessLogError::Sqlite { path: path.to_owned(), source }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, AccessLogError> {
    Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(|e| sqlite(path, e))
}

/// The writing side.
struct File {
    db: Connection,
    last: u64,
    hash: [u8; 32],
}

impl File {
    fn open(path: &Path) -> Result<File, AccessLogError> {
        let db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        let opened = || -> rusqlite::Result<Result<(u64, [u8; 32]), i64>> {
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "FULL")?;
            let version: i64 = db.query_row("PRAGMA user_version", (), |row| row.get(0))?;
            match version {
                0 => {
                    db.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION};"))?;
                    for name in ["begin", "end"] {
                        db.execute("INSERT INTO mark VALUES (?1, 0, ?2)", (name, GENESIS))?;
                    }
                    db.execute_batch("COMMIT")?;
                }
                VERSION => {}
                other => return Ok(Err(other)),
            }
            mark(&db, "end").map(Ok)
        };
        let opened = opened().map_err(|e| sqlite(path, e))?;
        let (last, hash) =
            opened.map_err(|found| AccessLogError::Version { path: path.to_owned(), found })?;
        Ok(File { db, last, hash })
    }

    /// Writes records with one sync, and takes them.
    fn append(&mut self, records: &mut Vec<Record>) -> rusqlite::Result<()> {
        let (mut last, mut hash) = (self.last, self.hash);
        let transaction = self.db.transaction()?;
        for record in records.iter_mut() {
            last += 1;
            record.number = last;
            record.previous_hash = hash;
            let body = minicbor::to_vec(&*record).expect("writing to a Vec can't fail");
            hash = Sha256::digest(&body).into();
            transaction.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
                last.cast_signed(),
                record.kind as u8,
                record.time_ms.cast_signed(),
                body,
                hash,
            ))?;
        }
        transaction.execute(
            "UPDATE mark SET number = ?1, hash = ?2 WHERE name = 'end'",
            (last.cast_signed(), hash),
        )?;
        transaction.commit()?;
        (self.last, self.hash) = (last, hash);
        records.clear();
        Ok(())
    }

    /// Drops the records that are too old or too many, the oldest first: from what is left on the chain still verifies.
    fn prune(&self, oldest_ms: u64, records_max: u64) -> rusqlite::Result<()> {
        let transaction = self.db.unchecked_transaction()?;
        // Those before the first one that is young enough.
        let young: Option<i64> = transaction
            .query_row(
                "SELECT number FROM record WHERE time_ms >= ?1 ORDER BY number LIMIT 1",
                (oldest_ms.cast_signed(),),
                |row| row.get(0),
            )
            .optional()?;
        let by_age = young.map_or(self.last, |number| number.cast_unsigned() - 1);
        let until = by_age.max(self.last.saturating_sub(records_max));
        let hash: Option<[u8; 32]> = transaction
            .query_row("SELECT hash FROM record WHERE number = ?1", (until.cast_signed(),), |row| row.get(0))
            .optional()?;
        let Some(hash) = hash else { return Ok(()) };
        transaction.execute("DELETE FROM record WHERE number <= ?1", (until.cast_signed(),))?;
        transaction.execute(
            "UPDATE mark SET number = ?1, hash = ?2 WHERE name = 'begin'",
            (until.cast_signed(), hash),
        )?;
        transaction.commit()
    }
}

fn mark(db: &Connection, name: &str) -> rusqlite::Result<(u64, [u8; 32])> {
    db.query_row("SELECT number, hash FROM mark WHERE name = ?1", (name,), |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
    })
}

/// What is wrong, with the number of the record where it is, and how many records there are.
pub type Verified = (Vec<(u64, String)>, u64);

/// What is wrong with the access log in this directory, with the number of the record where it is; and how many records
/// there are. None at all is right.
///
/// # Errors
/// If it can't be read.
pub fn verify(dir: &Path) -> Result<Verified, AccessLogError> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok((Vec::new(), 0));
    }
    let db = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let read = || -> rusqlite::Result<Result<Verified, i64>> {
        db.execute_batch("BEGIN")?;
        let version: i64 = db.query_row("PRAGMA user_version", (), |row| row.get(0))?;
        if version != VERSION {
            return Ok(Err(version));
        }
        let (mut number, mut hash) = mark(&db, "begin")?;
        let end = mark(&db, "end")?;
        let (mut wrong, mut count) = (Vec::new(), 0);
        let mut select = db.prepare("SELECT number, body, hash FROM record ORDER BY number")?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            count += 1;
            let found = row.get::<_, i64>(0)?.cast_unsigned();
            let body: Vec<u8> = row.get(1)?;
            if found != number + 1 {
                wrong.push((number + 1, format!("records are missing up to {}", found - 1)));
            }
            match minicbor::decode::<Record>(&body) {
                Err(e) => wrong.push((found, format!("it can't be read: {e}"))),
                Ok(record) if record.number != found => wrong.push((found, "its number is another".into())),
                Ok(record) if found == number + 1 && record.previous_hash != hash => {
                    wrong.push((found, "the hash chain breaks: it names another as the one before".into()));
                }
                Ok(_) => {}
            }
            let hash_of_body: [u8; 32] = Sha256::digest(&body).into();
            if row.get::<_, [u8; 32]>(2)? != hash_of_body {
                wrong.push((found, "its hash is not that of its content".into()));
            }
            (number, hash) = (found, hash_of_body);
        }
        if (number, hash) != end {
            wrong.push((number + 1, format!("it is to end with record {}, and ends with {number}", end.0)));
        }
        Ok(Ok((wrong, count)))
    };
    let read = read().map_err(|e| sqlite(&path, e))?;
    read.map_err(|found| AccessLogError::Version { path, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, route: &str) -> Event {
        Event {
            kind,
            principal: Some(Principal::Operator { token: TokenId(7) }),
            token: None,
            pop: None,
            status: 403,
            method: "GET",
            route: route.into(),
            address: Some("192.0.2.1".parse().unwrap()),
        }
    }

    #[tokio::test]
    async fn a_flood_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let log = AccessLog::start(dir.path(), 400).unwrap();
        // More different ones than are told apart, and one thing again and again.
        for n in 0..600 {
            log.note(event(Kind::Denied, &format!("/r{n}")));
        }
        for _ in 0..3_000 {
            log.note(event(Kind::Denied, "/r1"));
        }
        let records = log.read(None, None, 10_000).await.unwrap();
        assert_eq!(records.len(), DIFFERENT_MAX);
        // At the end of the window, which comes early when the daemon ends, the rest is told as numbers.
        let path = dir.path().to_owned();
        drop(log);
        let deadline = Instant::now() + Duration::from_secs(10);
        let (sum, lines) = loop {
            let db = connect(&path.join(FILE), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            let records = read_records(&db, None, None, 10_000).unwrap().unwrap();
            let sum: u64 = records.iter().map(|record| record.count).sum();
            if sum == 3_600 || Instant::now() > deadline {
                break (sum, records.len());
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((sum, lines), (3_600, DIFFERENT_MAX + 2));
        assert_eq!(verify(&path).unwrap(), (Vec::new(), lines as u64));
    }

    #[test]
    fn what_was_noted_is_written_at_the_end_whoever_has_a_handle() {
        let dir = tempfile::tempdir().unwrap();
        let log = AccessLog::start(dir.path(), 400).unwrap();
        let handle = log.clone();
        for _ in 0..3 {
            handle.note(event(Kind::Denied, "/zones"));
        }
        log.end();
        // A second time there is nothing left to do, and nobody waits for what comes too late.
        handle.note(event(Kind::Denied, "/zones"));
        handle.end();
        // The first one, and the two that were the same.
        assert_eq!(verify(dir.path()).unwrap(), (vec![], 2));
    }

    #[tokio::test]
    async fn records_are_chained_over_restarts_and_pruned_from_the_front() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut file = File::open(&path).unwrap();
        for n in 1..=20 {
            file.append(&mut vec![record_of(&event(Kind::TokenCreated, "/tokens"), n, None, 1)]).unwrap();
            if n == 10 {
                file = File::open(&path).unwrap();
            }
        }
        assert_eq!(verify(dir.path()).unwrap(), (vec![], 20));
        file.prune(6, 1_000).unwrap();
        assert_eq!(verify(dir.path()).unwrap(), (vec![], 15));
        file.prune(0, 10).unwrap();
        assert_eq!(verify(dir.path()).unwrap(), (vec![], 10));
        let db = Connection::open(&path).unwrap();
        let first = read_records(&db, None, None, 100).unwrap().unwrap();
        assert_eq!((first.last().unwrap().number, first[0].number), (11, 20));
        let kind = Some(Kind::Denied);
        assert!(read_records(&db, kind, None, 100).unwrap().unwrap().is_empty());
        // All of it may be old.
        file.prune(1_000, 1_000).unwrap();
        assert_eq!(verify(dir.path()).unwrap(), (vec![], 0));
        file.append(&mut vec![record_of(&event(Kind::Denied, "/"), 5, None, 1)]).unwrap();
        assert_eq!(verify(dir.path()).unwrap(), (vec![], 1));
    }

    #[test]
    fn tampering_is_told_with_its_place() {
        type Damage = fn(&Connection);
        let cases: &[(Damage, &[(u64, &str)])] = &[
            (
                |db| _ = db.execute("DELETE FROM record WHERE number = 4", ()).unwrap(),
                &[(4, "records are missing up to 4")],
            ),
            (
                |db| _ = db.execute("DELETE FROM record WHERE number = 9", ()).unwrap(),
                &[(9, "it is to end with record 9")],
            ),
            (
                |db| _ = db.execute("DELETE FROM record WHERE number = 1", ()).unwrap(),
                &[(1, "records are missing up to 1")],
            ),
            (
                |db| {
                    let body: Vec<u8> = db
                        .query_row("SELECT body FROM record WHERE number = 4", (), |row| row.get(0))
                        .unwrap();
                    let mut record: Record = minicbor::decode(&body).unwrap();
                    record.status = 200;
                    let body = minicbor::to_vec(&record).unwrap();
                    let hash: [u8; 32] = Sha256::digest(&body).into();
                    db.execute("UPDATE record SET body = ?1, hash = ?2 WHERE number = 4", (body, hash))
                        .unwrap();
                },
                &[(5, "the hash chain breaks")],
            ),
            (
                |db| _ = db.execute("UPDATE record SET hash = zeroblob(32) WHERE number = 4", ()).unwrap(),
                &[(4, "its hash is not that of its content")],
            ),
        ];
        for (damage, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            let mut file = File::open(&dir.path().join(FILE)).unwrap();
            for n in 1..=9 {
                file.append(&mut vec![record_of(&event(Kind::Denied, "/"), n, None, 1)]).unwrap();
            }
            damage(&file.db);
            let (wrong, _) = verify(dir.path()).unwrap();
            assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
            for ((number, what), (expected_number, expected)) in wrong.iter().zip(*expected) {
                assert!(number == expected_number && what.starts_with(expected), "{number}: {what}");
            }
        }
    }

    #[test]
    fn another_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        drop(File::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
        assert!(matches!(AccessLog::start(dir.path(), 1), Err(AccessLogError::Version { found: 2, .. })));
        assert!(matches!(verify(dir.path()), Err(AccessLogError::Version { found: 2, .. })));
    }
}
