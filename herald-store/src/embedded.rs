//! The embedded store: a directory with one SQLite database, for a control plane without any setup.
//!
//! Why SQLite, with figures: docs/decisions/0001-embedded-store.md. SQLite gives durability and atomicity;
//! noticing damage is ours: every row carries a checksum, the head is kept beside the entries, and the
//! write-ahead log is looked through before SQLite may cut it ([`wal`]).

mod reading;
#[cfg(test)]
mod tests;
mod wal;

pub use reading::{BackupError, Inspected, StoreReader};

use crate::{
    AppendError, BaseError, Checkpoint, CheckpointError, ChunkError, ChunkId, Entry, Limits, Store,
    StoreError,
};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::Xxh3;

/// A store in a directory of this machine.
///
/// It holds the directory's lock until it is dropped. Nothing else in this process may open the database's
/// files meanwhile (not even to copy them): on closing them the system would drop SQLite's own locks.
pub struct EmbeddedStore {
    dir: PathBuf,
    writer: Mutex<Writer>,
    /// A connection of its own, so that a slow reader never delays an append.
    reader: Mutex<Connection>,
    /// The head as of the last append that is durable; written under the writer's lock.
    head: AtomicU64,
    /// Its lock is the store's, released when the file is closed. The last field, as fields are dropped in
    /// order: SQLite has to be done before another may begin.
    _lock: File,
}

struct Writer {
    db: Connection,
    /// Set by a failure after which the state of the files is in doubt: says what happened.
    broken: Option<String>,
}

/// What [`EmbeddedStore::verify`] went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries whose checksums are right.
    pub entries: u64,
    /// Chunks whose content has the hash it is named by.
    pub chunks: u64,
}

/// Why a directory could not be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("the store in {} is in use by process {holder}: stop that one first, or use another directory", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The number of the process, or `unknown`.
        holder: String,
    },
    /// Written by another version of this program, or by another program.
    #[error("the store in {} has the format \"{found}\", and this program reads \"{known}\": use the program that wrote it", dir.display())]
    UnknownFormat {
        /// The directory.
        dir: PathBuf,
        /// Name and version of the format found.
        found: String,
        /// Name and version of the format that this program knows.
        known: &'static str,
    },
    /// Not what was written; nothing was changed.
    #[error("the store in {} is damaged: {what}; restore it from a backup, or copy it from a standby", dir.display())]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The directory or its files can't be read or written.
    #[error("can't open the store in {}: check that the directory can be written and the disk has room", dir.display())]
    Failed {
        /// The directory.
        dir: PathBuf,
        /// What the system or the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EmbeddedStore {
    /// Opens the store in this directory, and creates directory and store if they are not there.
    ///
    /// Entries that were acknowledged before a crash are there; what was torn by it is gone.
    pub fn open(dir: &Path) -> Result<EmbeddedStore, OpenError> {
        Opening { dir }.open(PAGE_BYTES)
    }

    /// Reads everything and checks it: SQLite's own structure, entries, chunks, records. For backups and for
    /// operators in doubt; appends and reads go on meanwhile.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        const DOING: &str = "verify everything";
        let db = connect(&self.dir).map_err(failed(DOING))?;
        // One snapshot for all, so that entries appended meanwhile don't confuse the counts.
        let snapshot = db.unchecked_transaction().map_err(failed(DOING))?;
        verify(&snapshot)
    }

    /// Moves all that the write-ahead log holds into the database, as far as no reader needs it. Closing does it as well: this
    /// is for who can't wait for the last one to let go of the store.
    pub fn settle(&self) -> Result<(), StoreError> {
        let settled = self.writer()?.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
        settled.map_err(failed("empty the write-ahead log"))
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        // A panic while the lock was held (in `keep`, say) has rolled its transaction back.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match &writer.broken {
            Some(cause) => Err(StoreError::MustReopen { cause: cause.clone() }),
            None => Ok(writer),
        }
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmbeddedStore({}, head {})", self.dir.display(), self.head.load(Ordering::Acquire))
    }
}

impl Store for EmbeddedStore {
    fn limits(&self) -> Limits {
        Limits::PORTABLE
    }

    fn head(&self) -> Result<u64, StoreError> {
        Ok(self.head.load(Ordering::Acquire))
    }

    fn append(&self, expected_head: u64, entries: &[Entry]) -> Result<(), AppendError> {
        self.limits().check_append(expected_head, entries)?;
        let mut writer = self.writer()?;
        // The directory is ours alone, so what is in memory is what is on disk.
        let head = self.head.load(Ordering::Acquire);
        if head != expected_head {
            return Err(AppendError::Conflict { head });
        }
        let Some(last) = entries.last() else { return Ok(()) };
        writer.commit("append entries", |transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO entry (revision, envelope, payload, sum) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for entry in entries {
                insert.execute((
                    number(entry.revision),
                    &entry.envelope,
                    &entry.payload,
                    entry_sum(entry),
                ))?;
            }
            set_record(transaction, HEAD, &last.revision.to_be_bytes())
        })?;
        self.head.store(last.revision, Ordering::Release);
        Ok(())
    }

    fn read(&self, after: u64, entries_max: usize, bytes_max: usize) -> Result<Vec<Entry>, StoreError> {
        let head = self.head.load(Ordering::Acquire);
        read_entries(&self.reader(), after, entries_max, bytes_max, head)
    }

    fn put_chunks(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>, ChunkError> {
        let limit = self.limits().chunk_bytes_max;
        if let Some(chunk) = chunks.iter().find(|chunk| chunk.len() > limit) {
            return Err(ChunkError::TooLarge { bytes: chunk.len(), limit });
        }
        // Hashing is the larger part of the work: before the lock.
        let ids: Vec<ChunkId> = chunks.iter().map(|chunk| ChunkId::of(chunk)).collect();
        // In several transactions, so that appends get their turn in between.
        let mut rest: Vec<_> = ids.iter().zip(chunks).collect();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().take_while(|(_, chunk)| {
                bytes += chunk.len();
                bytes <= TRANSACTION_BYTES
            });
            let later = rest.split_off(fit.count());
            self.writer()?.commit("keep chunks", |transaction| {
                // A chunk that is there already is written again: should it be damaged, this mends it.
                let mut insert = transaction
                    .prepare_cached("INSERT OR REPLACE INTO chunk (id, content) VALUES (?1, ?2)")?;
                rest.iter().try_for_each(|(id, chunk)| insert.execute((id.0, chunk)).map(|_| ()))
            })?;
            rest = later;
        }
        Ok(ids)
    }

    fn chunk(&self, id: &ChunkId) -> Result<Option<Vec<u8>>, StoreError> {
        read_chunk(&self.reader(), id)
    }

    fn collect_chunks(&self, keep: &dyn Fn(&ChunkId) -> bool) -> Result<u64, StoreError> {
        // `keep` is asked under the writer's lock: whatever was staged before this moment it knows of, and
        // whatever is staged later is written after we are done.
        let deleted = self.writer()?.commit("delete chunks", |transaction| {
            let mut orphans: Vec<[u8; 32]> = Vec::new();
            let mut select = transaction.prepare("SELECT id FROM chunk")?;
            let mut rows = select.query(())?;
            while let Some(row) = rows.next()? {
                let id = row.get(0)?;
                if !keep(&ChunkId(id)) {
                    orphans.push(id);
                }
            }
            let mut delete = transaction.prepare("DELETE FROM chunk WHERE id = ?1")?;
            for id in &orphans {
                delete.execute((id,))?;
            }
            Ok(orphans.len())
        })?;
        Ok(deleted as u64)
    }

    fn set_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let limit = self.limits().append_bytes_max;
        if checkpoint.size() > limit {
            return Err(CheckpointError::TooLarge { bytes: checkpoint.size(), limit });
        }
        let head = self.head.load(Ordering::Acquire);
        if checkpoint.revision > head {
            return Err(CheckpointError::AheadOfLog { revision: checkpoint.revision, head });
        }
        let encoded = encode_checkpoint(checkpoint);
        let mut writer = self.writer()?;
        let base = read_base(&writer.db)?.map_or(0, |base| base.revision);
        if checkpoint.revision < base {
            return Err(CheckpointError::BehindBase { revision: checkpoint.revision, base });
        }
        writer.commit("set the checkpoint", |transaction| set_record(transaction, CHECKPOINT, &encoded))?;
        Ok(())
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        read_checkpoint(&self.reader())
    }

    fn set_base(&self, base: &Checkpoint) -> Result<(), BaseError> {
        let limit = self.limits().append_bytes_max;
        if base.size() > limit {
            return Err(BaseError::TooLarge { bytes: base.size(), limit });
        }
        let encoded = encode_checkpoint(base);
        let mut writer = self.writer()?;
        let checkpoint = read_checkpoint(&writer.db)?.map_or(0, |checkpoint| checkpoint.revision);
        if base.revision > checkpoint {
            return Err(BaseError::AheadOfCheckpoint { revision: base.revision, checkpoint });
        }
        let before = read_base(&writer.db)?.map_or(0, |base| base.revision);
        if base.revision < before {
            return Err(BaseError::Behind { revision: base.revision, base: before });
        }
        writer.commit("set the base", |transaction| set_record(transaction, BASE, &encoded))?;
        Ok(())
    }

    fn base(&self) -> Result<Option<Checkpoint>, StoreError> {
        read_base(&self.reader())
    }

    fn erase_payloads(&self, after: u64, entries_max: usize) -> Result<Option<u64>, StoreError> {
        let mut writer = self.writer()?;
        let up_to = read_base(&writer.db)?.map_or(0, |base| base.revision);
        let entries = match after < up_to {
            true => read_entries(&writer.db, after, entries_max, TRANSACTION_BYTES, up_to)?,
            false => Vec::new(),
        };
        let Some(last) = entries.last().map(|entry| entry.revision) else { return Ok(None) };
        writer.commit("erase payloads", |transaction| {
            let mut update =
                transaction.prepare_cached("UPDATE entry SET payload = x'', sum = ?2 WHERE revision = ?1")?;
            for mut entry in entries.into_iter().filter(|entry| !entry.payload.is_empty()) {
                entry.payload.clear();
                update.execute((number(entry.revision), entry_sum(&entry)))?;
            }
            Ok(())
        })?;
        Ok(Some(last))
    }
}

/// How much of chunks is written in one transaction: a few milliseconds' worth. More than the largest chunk.
const TRANSACTION_BYTES: usize = 4 << 20;

impl Writer {
    /// Runs `write` in a transaction and commits it: the one way in which anything is changed.
    fn commit<T>(
        &mut self,
        doing: &'static str,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let done =
            self.db.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
                // Dropped without a commit, or failing to commit, it is rolled back.
                let value = write(&transaction)?;
                transaction.commit()?;
                Ok(value)
            });
        let error = match done {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        // A full disk (or a lock that somebody's SQLite shell holds) was noticed before the commit was:
        // SQLite has rolled back, and nothing is in doubt. After any other failure (of a sync above all,
        // which the system reports once and then forgets) we don't know what the disk holds, and only
        // recovery on opening finds out.
        let harmless =
            matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy));
        if !harmless || !self.db.is_autocommit() {
            self.broken = Some(error.to_string());
        }
        Err(failed(doing)(error))
    }
}

// ---- opening ----------------------------------------------------------------------------------------

const DATABASE: &str = "store.sqlite";
const WAL: &str = "store.sqlite-wal";
const LOCK: &str = "lock";

/// SQLite's default; only the fixture of the format is made with smaller pages.
const PAGE_BYTES: u32 = 4096;

/// Name and version of the format, as the first record says it since the first commit.
const FORMAT_KNOWN: &str = "herald-store 1";

/// The tables of format 1, to the letter. Revisions are SQLite's row ids, so entries are one B-tree in order.
const SCHEMA: [&str; 3] = [
    "CREATE TABLE record (name TEXT PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE entry (revision INTEGER PRIMARY KEY, envelope BLOB NOT NULL, payload BLOB NOT NULL, sum INTEGER NOT NULL)",
    "CREATE TABLE chunk (id BLOB NOT NULL UNIQUE, content BLOB NOT NULL)",
];

/// The names of the records.
const FORMAT: &str = "format";
const HEAD: &str = "head";
const CHECKPOINT: &str = "checkpoint";
/// Not there before the first time that a base is set.
const BASE: &str = "base";

/// A connection to the database in `dir`.
fn connect(dir: &Path) -> rusqlite::Result<Connection> {
    // No mutex inside SQLite: ours guard the connections. No URI: a directory may have any name.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(dir.join(DATABASE), flags)
}

/// The steps of [`EmbeddedStore::open`], which all need the directory for their errors.
struct Opening<'a> {
    dir: &'a Path,
}

impl Opening<'_> {
    fn open(&self, page_bytes: u32) -> Result<EmbeddedStore, OpenError> {
        let lock = self.lock()?;
        self.check_wal()?;
        let db = connect(self.dir).map_err(self.library())?;
        self.set_up(&db, page_bytes)?;
        self.check_format(&db)?;
        let head = self.check_head(&db)?;
        // An empty write-ahead log to start with: what a crash left behind its end must not be mistaken,
        // after the next crash, for something that follows its new end. On a full disk it can wait: the store
        // has to be readable, and the mistake would be an error, not a loss.
        match db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())) {
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DiskFull) => {
                return Err(self.library()(error));
            }
            _ => {}
        }
        let reader = connect(self.dir).map_err(self.library())?;
        reader.pragma_update(None, "query_only", true).map_err(self.library())?;
        Ok(EmbeddedStore {
            dir: self.dir.to_owned(),
            _lock: lock,
            writer: Mutex::new(Writer { db, broken: None }),
            reader: Mutex::new(reader),
            head: AtomicU64::new(head),
        })
    }

    /// Makes the directory and takes its lock.
    fn lock(&self) -> Result<File, OpenError> {
        // Payloads hold secrets: for our own user only.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.dir).map_err(self.failed())?;
        let path = self.dir.join(LOCK);
        let mut options = File::options();
        let mut file = options.read(true).write(true).create(true).open(path).map_err(self.failed())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
                let holder = if known { holder.trim().to_owned() } else { "unknown".to_owned() };
                return Err(OpenError::InUse { dir: self.dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(self.failed()(error)),
        }
        // Who holds it is a courtesy to the reader of the error; a full disk must not keep the store shut.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(file)
    }

    /// SQLite would drop everything after a damaged frame: look before it does.
    fn check_wal(&self) -> Result<(), OpenError> {
        let content = match fs::read(self.dir.join(WAL)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            content => content.map_err(self.failed())?,
        };
        if let Some(what) = wal::damage(&content) {
            return Err(self.damaged(what));
        }
        // The database is never empty once there is a write-ahead log; SQLite would start afresh.
        let database = fs::metadata(self.dir.join(DATABASE)).map_or(0, |database| database.len());
        if !content.is_empty() && database == 0 {
            return Err(self.damaged(format!("{DATABASE} is missing or empty, and {WAL} is not")));
        }
        Ok(())
    }

    /// As [`Opening::check_wal`], unless a control plane is at work, which has looked itself, and whose writing would look
    /// like damage.
    fn check_wal_unless_used(&self) -> Result<(), OpenError> {
        let lock = match File::open(self.dir.join(LOCK)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return self.check_wal(),
            lock => lock.map_err(self.failed())?,
        };
        // Held for as long as it takes to look: a control plane that starts at this moment would say that the store is in use.
        match lock.try_lock_shared() {
            Ok(()) => self.check_wal(),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(self.failed()(error)),
        }
    }

    /// Settings of the writing connection, and the tables if the database is new.
    fn set_up(&self, db: &Connection, page_bytes: u32) -> Result<(), OpenError> {
        // Has an effect in a new database only.
        db.pragma_update(None, "page_size", page_bytes).map_err(self.library())?;
        let mode: String = db
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(self.library())?;
        if mode != "wal" {
            return Err(self.failed()(format!("the file system can't hold a write-ahead log (mode {mode})")));
        }
        // Every commit is synced before it returns: what the whole store stands on.
        db.pragma_update(None, "synchronous", "FULL").map_err(self.library())?;
        // Look twice at a page before trusting what it says about itself.
        db.pragma_update(None, "cell_size_check", true).map_err(self.library())?;
        // After a very large transaction the write-ahead log shrinks again.
        db.pragma_update(None, "journal_size_limit", 64 << 20).map_err(self.library())?;

        let tables: i64 = db
            .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
            .map_err(self.library())?;
        if tables > 0 {
            return Ok(());
        }
        let create = || {
            let transaction = db.unchecked_transaction()?;
            SCHEMA.iter().try_for_each(|table| transaction.execute_batch(table))?;
            set_record(&transaction, FORMAT, FORMAT_KNOWN.as_bytes())?;
            set_record(&transaction, HEAD, &0_u64.to_be_bytes())?;
            set_record(&transaction, CHECKPOINT, &[])?;
            transaction.commit()
        };
        create().map_err(self.library())?;
        // SQLite syncs the directory; the name of the directory itself is in its parent.
        if let Some(parent) = self.dir.canonicalize().ok().as_deref().and_then(Path::parent) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(self.failed())?;
        }
        Ok(())
    }

    fn check_format(&self, db: &Connection) -> Result<(), OpenError> {
        // The format comes before everything else: another one may have other tables.
        let has_records = "SELECT count(*) FROM sqlite_schema WHERE name = 'record'";
        let has_records: i64 = db.query_row(has_records, (), |row| row.get(0)).map_err(self.library())?;
        if has_records == 0 {
            return Err(self.unknown_format("none: it has no table of records".into()));
        }
        // Its checksum tells another version from a flipped bit.
        let found = record(db, FORMAT).map_err(self.store())?;
        if found != FORMAT_KNOWN.as_bytes() {
            return Err(self.unknown_format(String::from_utf8_lossy(&found).into_owned()));
        }
        let mut select =
            db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").map_err(self.library())?;
        let tables: Vec<String> = select
            .query_map((), |row| row.get(0))
            .and_then(|tables| tables.collect())
            .map_err(self.library())?;
        if tables != SCHEMA {
            return Err(self.damaged(format!("its tables are not those of {FORMAT_KNOWN}")));
        }
        Ok(())
    }

    /// The head: what the record says, confirmed by the last entry, which is read in full.
    fn check_head(&self, db: &Connection) -> Result<u64, OpenError> {
        let check = || {
            let head = recorded_head(db)?;
            let last: Option<i64> = db
                .query_row("SELECT max(revision) FROM entry", (), |row| row.get(0))
                .map_err(failed("read the head"))?;
            if last.unwrap_or(0) != number(head) {
                let last = last.map_or("none".into(), |last| last.to_string());
                return Err(damaged(format!("its head should be {head}, and its last entry is {last}")));
            }
            if head > 0 {
                read_entries(db, head - 1, 1, 0, head)?;
            }
            Ok(head)
        };
        check().map_err(self.store())
    }

    fn damaged(&self, what: String) -> OpenError {
        OpenError::Damaged { dir: self.dir.to_owned(), what }
    }

    fn unknown_format(&self, found: String) -> OpenError {
        OpenError::UnknownFormat { dir: self.dir.to_owned(), found, known: FORMAT_KNOWN }
    }

    fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(&self) -> impl Fn(E) -> OpenError {
        |error| OpenError::Failed { dir: self.dir.to_owned(), source: error.into() }
    }

    /// What SQLite says on opening: damage, or a failure.
    fn library(&self) -> impl Fn(rusqlite::Error) -> OpenError {
        |error| self.store()(failed("open the store")(error))
    }

    /// What a part of the open store would say, while it is not open yet.
    fn store(&self) -> impl Fn(StoreError) -> OpenError {
        |error| match error {
            StoreError::Damaged { what } => self.damaged(what),
            StoreError::Failed { source, .. } => self.failed()(source),
            error => self.failed()(error),
        }
    }
}

// ---- rows -------------------------------------------------------------------------------------------

/// [`Store::read`] on this connection; every revision up to `head` must be there, and none beyond it is given:
/// between a commit and the moment when the head is moved, the table is ahead of what [`Store::head`] says.
fn read_entries(
    db: &Connection,
    after: u64,
    entries_max: usize,
    bytes_max: usize,
    head: u64,
) -> Result<Vec<Entry>, StoreError> {
    const DOING: &str = "read entries";
    if after >= head {
        return Ok(Vec::new());
    }
    let mut select = db
        .prepare_cached(
            "SELECT revision, envelope, payload, sum FROM entry
             WHERE revision > ?1 AND revision <= ?2 ORDER BY revision LIMIT ?3",
        )
        .map_err(failed(DOING))?;
    let limit = number(entries_max.max(1) as u64);
    let mut rows = select.query((number(after), number(head), limit)).map_err(failed(DOING))?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    let mut expected = after + 1;
    while let Some(row) = rows.next().map_err(failed(DOING))? {
        let found: i64 = row.get(0).map_err(failed(DOING))?;
        if found != number(expected) {
            return Err(damaged(format!("entry {expected} is missing (the next is {found})")));
        }
        let broken = |_| damaged(format!("entry {expected} can't be read"));
        let entry = Entry {
            revision: expected,
            envelope: row.get(1).map_err(broken)?,
            payload: row.get(2).map_err(broken)?,
        };
        if row.get::<_, i64>(3).map_err(broken)? != entry_sum(&entry) {
            return Err(damaged(format!("entry {expected} has a wrong checksum")));
        }
        bytes += entry.size();
        if bytes > bytes_max && !entries.is_empty() {
            return Ok(entries);
        }
        entries.push(entry);
        expected += 1;
    }
    if entries.len() < entries_max.max(1) && expected <= head {
        return Err(damaged(format!("entry {expected} is missing (the head is {head})")));
    }
    Ok(entries)
}

fn recorded_head(db: &Connection) -> Result<u64, StoreError> {
    let bytes = record(db, HEAD)?
        .try_into()
        .map_err(|_| damaged("the record \"head\" has the wrong length".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The value of a record, its checksum verified. All records are there from the first commit.
fn record(db: &Connection, name: &str) -> Result<Vec<u8>, StoreError> {
    optional_record(db, name)?.ok_or_else(|| damaged(format!("the record {name:?} is missing")))
}

fn optional_record(db: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<(Vec<u8>, i64)> = db
        .prepare_cached("SELECT value, sum FROM record WHERE name = ?1")
        .and_then(|mut select| select.query_row((name,), |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(failed("read a record"))?;
    match row {
        Some((value, sum)) if sum == record_sum(name, &value) => Ok(Some(value)),
        Some(_) => Err(damaged(format!("the record {name:?} has a wrong checksum"))),
        None => Ok(None),
    }
}

fn set_record(transaction: &Transaction<'_>, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO record (name, value, sum) VALUES (?1, ?2, ?3)")?
        .execute((name, value, record_sum(name, value)))?;
    Ok(())
}

/// Revision, number of chunks, chunks, and the rest is meta. Numbers are big-endian. Nothing: there is none
/// yet.
fn encode_checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(checkpoint.size() + size_of::<u64>());
    bytes.extend(checkpoint.revision.to_be_bytes());
    bytes.extend((checkpoint.chunks.len() as u64).to_be_bytes());
    checkpoint.chunks.iter().for_each(|id| bytes.extend(id.0));
    bytes.extend(&checkpoint.meta);
    bytes
}

fn read_checkpoint(db: &Connection) -> Result<Option<Checkpoint>, StoreError> {
    decode_checkpoint(&record(db, CHECKPOINT)?)
}

fn read_base(db: &Connection) -> Result<Option<Checkpoint>, StoreError> {
    match optional_record(db, BASE)? {
        Some(bytes) => decode_checkpoint(&bytes),
        None => Ok(None),
    }
}

fn decode_checkpoint(bytes: &[u8]) -> Result<Option<Checkpoint>, StoreError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let decode = |bytes: &[u8]| {
        let (revision, bytes) = bytes.split_first_chunk()?;
        let (chunks, bytes) = bytes.split_first_chunk()?;
        let chunks = usize::try_from(u64::from_be_bytes(*chunks)).ok()?;
        let (chunks, meta) = bytes.split_at_checked(chunks.checked_mul(size_of::<ChunkId>())?)?;
        let (chunks, _) = chunks.as_chunks();
        Some(Checkpoint {
            revision: u64::from_be_bytes(*revision),
            chunks: chunks.iter().map(|id| ChunkId(*id)).collect(),
            meta: meta.to_vec(),
        })
    };
    // The checksum was right, so only a mistake of a program can have made it too short.
    decode(bytes).map(Some).ok_or_else(|| damaged("the checkpoint or base is cut short".into()))
}

fn read_chunk(db: &Connection, id: &ChunkId) -> Result<Option<Vec<u8>>, StoreError> {
    const DOING: &str = "read a chunk";
    let mut select = db.prepare_cached("SELECT content FROM chunk WHERE id = ?1").map_err(failed(DOING))?;
    let content: Option<Vec<u8>> =
        select.query_row((id.0,), |row| row.get(0)).optional().map_err(failed(DOING))?;
    if let Some(content) = &content {
        check_chunk(id, content)?;
    }
    Ok(content)
}

/// Reads everything of one snapshot and checks it.
fn verify(snapshot: &Connection) -> Result<Verified, StoreError> {
    const DOING: &str = "verify everything";
    let structure: String =
        snapshot.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0)).map_err(failed(DOING))?;
    if structure != "ok" {
        return Err(damaged(structure));
    }
    let head = recorded_head(snapshot)?;
    let mut entries = 0;
    while entries < head {
        let some = read_entries(snapshot, entries, 1000, 16 << 20, head)?;
        entries = some.last().map_or(head, |entry| entry.revision);
    }
    read_checkpoint(snapshot)?;
    read_base(snapshot)?;
    let mut chunks = 0;
    let mut select = snapshot.prepare("SELECT id, content FROM chunk").map_err(failed(DOING))?;
    let mut rows = select.query(()).map_err(failed(DOING))?;
    while let Some(row) = rows.next().map_err(failed(DOING))? {
        let id = ChunkId(row.get(0).map_err(failed(DOING))?);
        check_chunk(&id, row.get_ref(1).map_err(failed(DOING))?.as_blob().unwrap_or_default())?;
        chunks += 1;
    }
    Ok(Verified { entries, chunks })
}

fn check_chunk(id: &ChunkId, content: &[u8]) -> Result<(), StoreError> {
    if ChunkId::of(content) == *id {
        return Ok(());
    }
    Err(damaged(format!("the content of chunk {id} is not what its id says")))
}

// ---- checksums, numbers, errors ---------------------------------------------------------------------

/// Covers the revision and where the envelope ends, so that nothing can change places unnoticed.
fn entry_sum(entry: &Entry) -> i64 {
    sum(&[
        &entry.revision.to_be_bytes(),
        &(entry.envelope.len() as u64).to_be_bytes(),
        &entry.envelope,
        &entry.payload,
    ])
}

fn record_sum(name: &str, value: &[u8]) -> i64 {
    sum(&[name.as_bytes(), &[0], value])
}

/// XXH3, 64 bits, as SQLite's signed integer.
fn sum(parts: &[&[u8]]) -> i64 {
    let mut hash = Xxh3::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.digest().cast_signed()
}

/// SQLite's integers are signed. No log reaches the limit, and no caller's number may wrap.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn damaged(what: String) -> StoreError {
    StoreError::Damaged { what }
}

/// What SQLite says: damage, or a failure. Schema errors and wrong types are damage too: the statements are
/// fixed, and the schema was checked.
fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) | None => {
            damaged(format!("on trying to {doing}, SQLite says: {error}"))
        }
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(_) => StoreError::Failed { doing, source: error.into() },
    }
}
