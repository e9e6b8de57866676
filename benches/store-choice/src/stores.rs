//! The candidates behind one small interface: append a group durably, read all back in order.
//!
//! Each is set up the way Herald would run it: every append is synced before it returns, and the
//! caches are held to 64 MB so that memory can be compared.

use std::path::Path;

/// What goes wrong inside a candidate; only ever printed.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Every candidate, in the order in which a round runs them. `redb-2pc` is redb with two-phase commit,
/// and `redb-quick` is redb with `quick_repair`, which avoids the full scan after a crash.
pub const NAMES: [&str; 5] = ["redb", "redb-2pc", "redb-quick", "fjall", "sqlite"];

const CACHE_BYTES: usize = 64 << 20;

/// One candidate store holding entries numbered from 1.
pub trait Candidate {
    /// Appends the entries `first..`, durable when it returns.
    fn append(&mut self, first: u64, entries: &[Vec<u8>]) -> Result<(), Error>;
    /// The highest number, 0 when empty.
    fn head(&self) -> Result<u64, Error>;
    /// Calls `each` for every entry in order.
    fn scan(&self, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), Error>;
}

/// Opens or creates the candidate `name` in `dir`.
pub fn open(name: &str, dir: &Path) -> Result<Box<dyn Candidate>, Error> {
    std::fs::create_dir_all(dir)?;
    Ok(match name {
        "redb" => Box::new(Redb::open(dir, false, false)?),
        "redb-2pc" => Box::new(Redb::open(dir, true, false)?),
        "redb-quick" => Box::new(Redb::open(dir, false, true)?),
        "fjall" => Box::new(Fjall::open(dir)?),
        "sqlite" => Box::new(Sqlite::open(dir)?),
        _ => return Err(format!("no store is called {name}").into()),
    })
}

struct Redb {
    db: redb::Database,
    two_phase: bool,
    quick_repair: bool,
}

const TABLE: redb::TableDefinition<'static, u64, &'static [u8]> = redb::TableDefinition::new("entries");

impl Redb {
    fn open(dir: &Path, two_phase: bool, quick_repair: bool) -> Result<Redb, Error> {
        let db = redb::Builder::new().set_cache_size(CACHE_BYTES).create(dir.join("store.redb"))?;
        let transaction = db.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        Ok(Redb { db, two_phase, quick_repair })
    }
}

impl Candidate for Redb {
    fn append(&mut self, first: u64, entries: &[Vec<u8>]) -> Result<(), Error> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_two_phase_commit(self.two_phase);
        transaction.set_quick_repair(self.quick_repair);
        {
            let mut table = transaction.open_table(TABLE)?;
            for (number, entry) in (first..).zip(entries) {
                table.insert(number, entry.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn head(&self) -> Result<u64, Error> {
        use redb::{ReadableDatabase, ReadableTable};
        let table = self.db.begin_read()?.open_table(TABLE)?;
        Ok(table.last()?.map_or(0, |(key, _)| key.value()))
    }

    fn scan(&self, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), Error> {
        use redb::{ReadableDatabase, ReadableTable};
        let table = self.db.begin_read()?.open_table(TABLE)?;
        for item in table.iter()? {
            let (key, value) = item?;
            each(key.value(), value.value());
        }
        Ok(())
    }
}

struct Fjall {
    db: fjall::Database,
    entries: fjall::Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Result<Fjall, Error> {
        let db = fjall::Database::builder(dir).cache_size(CACHE_BYTES as u64).open()?;
        let entries = db.keyspace("entries", fjall::KeyspaceCreateOptions::default)?;
        Ok(Fjall { db, entries })
    }
}

impl Candidate for Fjall {
    fn append(&mut self, first: u64, entries: &[Vec<u8>]) -> Result<(), Error> {
        let mut batch = self.db.batch().durability(Some(fjall::PersistMode::SyncData));
        for (number, entry) in (first..).zip(entries) {
            batch.insert(&self.entries, number.to_be_bytes(), entry.as_slice());
        }
        batch.commit()?;
        Ok(())
    }

    fn head(&self) -> Result<u64, Error> {
        match self.entries.last_key_value() {
            None => Ok(0),
            Some(guard) => Ok(u64::from_be_bytes(guard.key()?.as_ref().try_into()?)),
        }
    }

    fn scan(&self, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), Error> {
        for guard in self.entries.iter() {
            let (key, value) = guard.into_inner()?;
            each(u64::from_be_bytes(key.as_ref().try_into()?), &value);
        }
        Ok(())
    }
}

struct Sqlite {
    db: rusqlite::Connection,
}

impl Sqlite {
    fn open(dir: &Path) -> Result<Sqlite, Error> {
        let db = rusqlite::Connection::open(dir.join("store.sqlite"))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "cache_size", -((CACHE_BYTES / 1024) as i64))?;
        db.execute_batch("CREATE TABLE IF NOT EXISTS entries (n INTEGER PRIMARY KEY, entry BLOB NOT NULL)")?;
        Ok(Sqlite { db })
    }
}

impl Candidate for Sqlite {
    fn append(&mut self, first: u64, entries: &[Vec<u8>]) -> Result<(), Error> {
        let transaction = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO entries (n, entry) VALUES (?1, ?2)")?;
            for (number, entry) in (first..).zip(entries) {
                insert.execute((number as i64, entry))?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn head(&self) -> Result<u64, Error> {
        let head: Option<i64> = self.db.query_row("SELECT max(n) FROM entries", (), |row| row.get(0))?;
        Ok(head.unwrap_or(0) as u64)
    }

    fn scan(&self, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), Error> {
        let mut select = self.db.prepare("SELECT n, entry FROM entries ORDER BY n")?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            each(row.get::<_, i64>(0)? as u64, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }
}
