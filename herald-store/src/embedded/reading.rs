//! A store as another process reads it, while the control plane goes on, or while there is none: for verifying and for
//! backups.

use super::{
    DATABASE, Opening, damaged, entry_sum, failed, number, read_base, read_checkpoint, read_chunk,
    read_entries, recorded_head, verify,
};
use crate::{
    AppendError, BaseError, Checkpoint, CheckpointError, ChunkError, ChunkId, Entry, Limits, OpenError,
    Store, StoreError, Verified,
};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A store as it was when it was opened: what is appended later isn't seen, nothing can be written, and nobody is
/// locked out.
///
/// As long as it is held, the write-ahead log of the control plane's SQLite can't be cut: hold it for minutes, not for days.
///
/// Never in the process that has the store open as [`EmbeddedStore`](super::EmbeddedStore): closing the files would drop SQLite's own locks
/// there.
pub struct StoreReader {
    dir: PathBuf,
    /// In a transaction from its opening on: one snapshot.
    db: Mutex<Connection>,
    head: u64,
}

/// What opening confirms beside the format.
#[derive(Clone, Copy)]
enum Confirm {
    Head,
    Nothing,
}

/// An entry as it was found, right or wrong.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// What was found.
    pub entry: Entry,
    /// Whether its checksum is that of its content.
    pub sum_is_right: bool,
}

/// Why there is no backup. What was half written was removed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing is overwritten.
    #[error("{} is there already: give the backup another name, or remove that file", .0.display())]
    Exists(PathBuf),
    /// The store can't be read, or what was written is not what was read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was written can't be read as a store.
    #[error("the backup can't be read back: {0}")]
    Unreadable(#[from] OpenError),
    /// The file can't be written.
    #[error("the backup {} can't be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreReader {
    /// Opens the store in this directory.
    ///
    /// # Errors
    /// [`OpenError`] if there is none, or it is damaged, or of another format.
    pub fn open(dir: &Path) -> Result<StoreReader, OpenError> {
        let opening = Opening { dir };
        opening.check_wal_unless_used()?;
        Self::open_file(dir, DATABASE, Confirm::Head)
    }

    /// Opens a store that may be damaged, to find out where: the head is what is recorded, and no entry is looked at yet.
    ///
    /// # Errors
    /// [`OpenError`] if there is none, or it is of another format, or so damaged that SQLite can't open it.
    pub fn open_damaged(dir: &Path) -> Result<StoreReader, OpenError> {
        let opening = Opening { dir };
        opening.check_wal_unless_used()?;
        Self::open_file(dir, DATABASE, Confirm::Nothing)
    }

    /// Opens a backup, which is a database of the same format in one file.
    ///
    /// # Errors
    /// As [`StoreReader::open`].
    pub fn open_backup(file: &Path) -> Result<StoreReader, OpenError> {
        let name = file.file_name().and_then(|name| name.to_str());
        let dir = file.parent().unwrap_or(Path::new(""));
        match name {
            Some(name) => Self::open_file(dir, name, Confirm::Head),
            None => Err(Opening { dir }.failed()(format!("{} is no file", file.display()))),
        }
    }

    fn open_file(dir: &Path, name: &str, confirm: Confirm) -> Result<StoreReader, OpenError> {
        let opening = Opening { dir };
        let path = dir.join(name);
        if let Err(error) = fs::metadata(&path) {
            return Err(opening.failed()(format!("{}: {error}", path.display())));
        }
        // Opened for reading it leaves the write-ahead log as it is, whoever comes or goes meanwhile.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).map_err(opening.library())?;
        db.pragma_update(None, "cell_size_check", true).map_err(opening.library())?;
        // A transaction sees what was there when it first read.
        db.execute_batch("BEGIN").map_err(opening.library())?;
        opening.check_format(&db)?;
        let head = match confirm {
            Confirm::Head => opening.check_head(&db)?,
            Confirm::Nothing => recorded_head(&db).map_err(opening.store())?,
        };
        Ok(StoreReader { dir: dir.to_owned(), db: Mutex::new(db), head })
    }

    /// Reads everything and checks it: SQLite's own structure, entries, chunks, records.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] says what is wrong.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        verify(&self.db())
    }

    /// What SQLite finds wrong with its own structure, a line for each, at most `problems_max`.
    ///
    /// # Errors
    /// If it can't be asked.
    pub fn structure(&self, problems_max: u32) -> Result<Vec<String>, StoreError> {
        const DOING: &str = "check the structure";
        let db = self.db();
        let mut check =
            db.prepare(&format!("PRAGMA integrity_check({problems_max})")).map_err(failed(DOING))?;
        let lines = check.query_map((), |row| row.get(0)).map_err(failed(DOING))?;
        let lines: Vec<String> = lines.collect::<rusqlite::Result<_>>().map_err(failed(DOING))?;
        Ok(if lines == ["ok"] { Vec::new() } else { lines })
    }

    /// The entries after revision `after`, as they are: with gaps, wrong checksums, and beyond the head, at most
    /// `entries_max` of them.
    ///
    /// # Errors
    /// If SQLite can't read on.
    pub fn inspect(&self, after: u64, entries_max: usize) -> Result<Vec<Inspected>, StoreError> {
        const DOING: &str = "inspect entries";
        let db = self.db();
        let mut select = db
            .prepare_cached(
                "SELECT revision, envelope, payload, sum FROM entry WHERE revision > ?1 ORDER BY revision LIMIT ?2",
            )
            .map_err(failed(DOING))?;
        let rows = select
            .query_map((number(after), number(entries_max as u64)), |row| {
                let blob = |column| row.get::<_, Vec<u8>>(column).ok();
                let (envelope, payload) = (blob(1), blob(2));
                let is_readable = envelope.is_some() && payload.is_some();
                let entry = Entry {
                    revision: row.get::<_, i64>(0)?.cast_unsigned(),
                    envelope: envelope.unwrap_or_default(),
                    payload: payload.unwrap_or_default(),
                };
                let sum = row.get::<_, i64>(3).ok();
                Ok(Inspected { sum_is_right: is_readable && sum == Some(entry_sum(&entry)), entry })
            })
            .map_err(failed(DOING))?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed(DOING))
    }

    /// The ids of all chunks.
    ///
    /// # Errors
    /// If SQLite can't read them.
    pub fn chunk_ids(&self) -> Result<Vec<ChunkId>, StoreError> {
        const DOING: &str = "list chunks";
        let db = self.db();
        let mut select = db.prepare("SELECT id FROM chunk").map_err(failed(DOING))?;
        let ids = select.query_map((), |row| row.get(0).map(ChunkId)).map_err(failed(DOING))?;
        ids.collect::<rusqlite::Result<_>>().map_err(failed(DOING))
    }

    /// Writes a copy into one file, which only its owner may read, and verifies the copy. The control plane goes on meanwhile.
    ///
    /// The copy has all that was durable when this reader was opened, and perhaps some of what came later.
    ///
    /// # Errors
    /// [`BackupError`]; then there is no file.
    pub fn backup(&self, to: &Path) -> Result<(u64, Verified), BackupError> {
        let write =
            |source: std::io::Error| BackupError::Write { path: to.to_owned(), source: source.into() };
        // Its place is taken at once; SQLite takes an empty file for none.
        let file =
            File::options().write(true).create_new(true).mode(0o600).open(to).map_err(|error| match error
                .kind()
            {
                ErrorKind::AlreadyExists => BackupError::Exists(to.to_owned()),
                _ => write(error),
            })?;
        let copied = self.copy(to).and_then(|verified| {
            file.sync_all().map_err(write)?;
            let parent =
                to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(write)?;
            Ok(verified)
        });
        if copied.is_err() {
            let _ = fs::remove_file(to);
        }
        copied
    }

    fn copy(&self, to: &Path) -> Result<(u64, Verified), BackupError> {
        let write = |error: rusqlite::Error| BackupError::Write { path: to.to_owned(), source: error.into() };
        let Some(name) = to.to_str() else {
            let source = "its name is not UTF-8".into();
            return Err(BackupError::Write { path: to.to_owned(), source });
        };
        // A connection of its own, since SQLite doesn't copy within a transaction.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db =
            Connection::open_with_flags(self.dir.join(DATABASE), flags).map_err(failed("copy the store"))?;
        db.execute("VACUUM INTO ?1", (name,)).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                failed("copy the store")(error).into()
            }
            _ => write(error),
        })?;
        drop(db);
        let copy = StoreReader::open_backup(to)?;
        if copy.head < self.head {
            return Err(
                damaged(format!("the copy ends at {} and the store at {}", copy.head, self.head)).into()
            );
        }
        Ok((copy.head, copy.verify()?))
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading half; every write is refused.
impl Store for StoreReader {
    fn limits(&self) -> Limits {
        Limits::PORTABLE
    }

    fn head(&self) -> Result<u64, StoreError> {
        Ok(self.head)
    }

    fn append(&self, _: u64, _: &[Entry]) -> Result<(), AppendError> {
        Err(for_reading("append entries").into())
    }

    fn read(&self, after: u64, entries_max: usize, bytes_max: usize) -> Result<Vec<Entry>, StoreError> {
        read_entries(&self.db(), after, entries_max, bytes_max, self.head)
    }

    fn put_chunks(&self, _: &[&[u8]]) -> Result<Vec<ChunkId>, ChunkError> {
        Err(for_reading("keep chunks").into())
    }

    fn chunk(&self, id: &ChunkId) -> Result<Option<Vec<u8>>, StoreError> {
        read_chunk(&self.db(), id)
    }

    fn collect_chunks(&self, _: &dyn Fn(&ChunkId) -> bool) -> Result<u64, StoreError> {
        Err(for_reading("delete chunks"))
    }

    fn set_checkpoint(&self, _: &Checkpoint) -> Result<(), CheckpointError> {
        Err(for_reading("set the checkpoint").into())
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        read_checkpoint(&self.db())
    }

    fn set_base(&self, _: &Checkpoint) -> Result<(), BaseError> {
        Err(for_reading("set the base").into())
    }

    fn base(&self) -> Result<Option<Checkpoint>, StoreError> {
        read_base(&self.db())
    }

    fn erase_payloads(&self, _: u64, _: usize) -> Result<Option<u64>, StoreError> {
        Err(for_reading("erase payloads"))
    }
}

fn for_reading(doing: &'static str) -> StoreError {
    StoreError::Failed { doing, source: "it was opened for reading".into() }
}
