//! The durable replica: all that the PoP is to serve, in one SQLite database.
//!
//! - One writer, in transactions of many changes and one sync ([`Replica::begin`] to [`Replica::commit`]). Readers have
//!   connections of their own ([`Reader`]) and see the state of one moment.
//! - The RRsets of a zone stand under a *content number*, and its row names that. A whole zone comes in under a number of
//!   its own, in as many transactions as it takes, and becomes the zone by one change of the row; what it replaces is
//!   deleted later, in small steps.
//! - Damage is noticed: each zone's row has a checksum, and its content the digest that the control plane said. The digest is
//!   recomputed whenever a zone is read whole, and a change that was applied to damaged rows doesn't lead to the right
//!   one. A damaged zone is set aside and comes again whole.
//!
//! ```text
//!   record     name ─▶ value                        format, newest generation, whether it was ever complete
//!   zone       id ─▶ name (private: name and id), generation, digest, serial, counts, content number
//!   rrset      content number, owner and type ─▶ TTL and RDATA
//!   unapplied  id ─▶ name, generation               durable here, not yet known to be answered by knotd
//!   discarded  content number                       no zone's: to be deleted, or of a whole zone on its way
//! ```

mod read;
mod row;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use herald_core::steering::is_steering_type;
use herald_core::{Generation, Name, RrKey, Rrset, Rtype, ZoneId};
use herald_wire::stream::{
    BUCKETS, Holding, ZoneBegin, ZoneDelta, ZoneGeneration, ZoneRrset, bucket_of, inventory_digest,
};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row};

pub use read::{Read, ReadZoneError, Reader};
pub(crate) use row::soa_serial;
pub use row::{SteeringRow, Target, ZoneRow};
use row::{name_column, parse_name_column, parse_row_value, row_key, row_value, sum};

/// Name and version of the format.
pub const FORMAT: &str = "koder-dns-sync replica 1";

const DATABASE: &str = "replica.db";

const SCHEMA: &str = "
CREATE TABLE record (name TEXT PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE zone (
    id BLOB PRIMARY KEY,
    name BLOB NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    digest BLOB NOT NULL,
    serial INTEGER NOT NULL,
    rrset_count INTEGER NOT NULL,
    record_count INTEGER NOT NULL,
    content INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    steering_rrset_count INTEGER NOT NULL DEFAULT 0,
    overlay_count INTEGER NOT NULL DEFAULT 0,
    steering_epoch INTEGER NOT NULL DEFAULT 0,
    steering_counter INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE rrset (
    content INTEGER NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (content, key)
) WITHOUT ROWID;
CREATE TABLE unapplied (
    id BLOB PRIMARY KEY,
    name BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    counter INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE discarded (content INTEGER PRIMARY KEY);
";

/// Columns of `zone` that the first agents didn't have.
const STEERING_COLUMNS: [&str; 4] =
    ["steering_rrset_count", "overlay_count", "steering_epoch", "steering_counter"];

const FORMAT_RECORD: &str = "format";
const NEWEST_RECORD: &str = "newest";
const COMPLETE_RECORD: &str = "complete";

/// Pages of the write-ahead log after which a commit moves them to the database.
const WAL_PAGES: u32 = 2_000;

/// Every commit is synced before it returns; or only before the write-ahead log is moved to the database.
const SYNCED: &str = "FULL";
const UNSYNCED: &str = "NORMAL";

/// Memory that the writer's pages may take, in KiB.
const CACHE_KIB: i32 = 8 * 1024;

/// The columns of [`ZoneRow`], as [`read_zone_row`] takes them.
const ZONE_COLUMNS: &str = "id, name, epoch, counter, digest, serial, rrset_count, record_count, content, sum, \
     steering_rrset_count, overlay_count, steering_epoch, steering_counter";

/// Why a directory could not be opened as a replica.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by another version of this program, or by another program.
    #[error(
        "the replica in {} has the format \"{found}\", and this program reads \"{FORMAT}\": use the program that \
         wrote it, or move the directory away to get everything anew",
        dir.display()
    )]
    UnknownFormat {
        /// The directory.
        dir: PathBuf,
        /// The format that was found.
        found: String,
    },
    /// There is none; only said to readers.
    #[error("there is no replica in {}", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// Damaged as a whole, or out of reach.
    #[error("the replica in {} can't be opened", dir.display())]
    Replica {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: ReplicaError,
    },
}

/// Why the replica could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The disk is full. Nothing of the transaction was kept; it can be tried again.
    #[error("the disk is full")]
    Full,
    /// What is on the disk isn't what was written.
    #[error("the replica is damaged: {0}")]
    Damaged(String),
    /// Rows of single zones aren't what was written. Opening the replica anew takes them out.
    #[error("the replica is damaged: {0}")]
    DamagedZone(String),
    /// Anything else. Whether a commit that failed in this way is on the disk, the next opening tells.
    #[error("the replica failed: {0}")]
    Failed(String),
}

impl From<rusqlite::Error> for ReplicaError {
    fn from(error: rusqlite::Error) -> ReplicaError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => ReplicaError::Full,
            // The statements are fixed and the format was checked: a wrong type or column is damage too.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => {
                ReplicaError::Damaged(error.to_string())
            }
            Some(_) => ReplicaError::Failed(error.to_string()),
        }
    }
}

/// What became of a delta.
#[derive(Debug, PartialEq)]
pub enum DeltaOutcome {
    /// It is in the transaction.
    Taken(TakenDelta),
    /// The zone has this generation already.
    Known,
    /// The zone has a newer generation, this one.
    Older(Generation),
    /// It doesn't fit: the whole zone is needed.
    Gap {
        /// Why, in words.
        reason: String,
        /// What the replica has of the zone.
        have: Option<Generation>,
    },
}

/// A delta that was taken, as knotd needs it.
#[derive(Debug, PartialEq)]
pub struct TakenDelta {
    /// The zone, afterwards.
    pub zone: ZoneRow,
    /// The new SOA.
    pub soa: Rrset,
    /// RRsets that change, the SOA left out; none where it is gone.
    pub changes: Vec<(RrKey, Option<Rrset>)>,
    /// What of the zone was steering before.
    pub steering_before: SteeringRow,
}

/// What became of a whole zone.
#[derive(Debug, PartialEq)]
pub enum WholeOutcome {
    /// It is in the transaction.
    Taken {
        /// The zone.
        zone: ZoneRow,
        /// The zone that had the name before, if it was another one.
        replaced: Option<ZoneRow>,
    },
    /// The replica has just this; the parts were dropped.
    Known(Generation),
    /// The replica has a newer generation, or a newer zone of this name; the parts were dropped.
    Older {
        /// The generation that came.
        generation: Generation,
        /// What the replica has of the zone itself.
        have: Option<Generation>,
    },
    /// What came isn't what was announced.
    Bad {
        /// The generation that came.
        generation: Generation,
        /// Why, in words.
        reason: String,
        /// What the replica has of the zone.
        have: Option<Generation>,
    },
    /// It was never begun.
    NotBegun,
}

/// A whole zone on its way.
#[derive(Clone, Debug)]
struct Incoming {
    begin: ZoneBegin,
    fate: Fate,
    content: i64,
    /// Whether the content number is in the table of discarded ones, so that a crash leaves no rows for ever.
    is_listed: bool,
    digest: u128,
    rrset_count: u64,
    record_count: u64,
    steering: SteeringRow,
    serial: Option<u32>,
    bad: Option<String>,
}

/// What is done with the parts of a whole zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// They are kept.
    Keep,
    /// They are dropped: the replica has just this.
    Known,
    /// They are dropped: the replica has something newer.
    Older,
}

/// What the transaction that is open will have changed in memory.
#[derive(Default)]
struct Draft {
    buckets: Vec<(usize, u128)>,
    digest: u128,
    zones: i64,
    rrsets: i64,
    newest: Option<Generation>,
    is_complete: bool,
    /// Whole zones on their way as they were before, for a rollback.
    incoming_before: HashMap<ZoneId, Option<Incoming>>,
}

/// The replica, with the right to write.
///
/// The caller sees to it that there is one in all processes; see [`crate::agent`].
pub struct Replica {
    db: Connection,
    dir: PathBuf,
    buckets: Box<[u128; BUCKETS]>,
    /// Buckets that changed since somebody wanted to know.
    watched: Option<HashSet<usize>>,
    /// The wrapping sum of the buckets.
    digest: u128,
    zones: u64,
    rrsets: u64,
    newest: Generation,
    is_complete: bool,
    next_content: i64,
    incoming: HashMap<ZoneId, Incoming>,
    draft: Draft,
    /// Whether commits are synced, as the connection is set.
    is_synced: bool,
    /// Zones that could not be read at the opening.
    set_aside: u64,
}

impl Replica {
    /// Opens the replica in this directory, or makes an empty one.
    ///
    /// Zones whose rows are damaged are taken out ([`Replica::set_aside_at_opening`]).
    ///
    /// # Errors
    /// [`OpenError`] if the format is unknown, or the database as a whole is damaged or out of reach.
    pub fn open(dir: &Path) -> Result<Replica, OpenError> {
        let failed = |source| OpenError::Replica { dir: dir.into(), source };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| failed(ReplicaError::Failed(error.to_string())))?;
        let db = connect(dir, OpenFlags::SQLITE_OPEN_CREATE).map_err(|error| failed(error.into()))?;
        set_up(&db).map_err(|error| failed(error.into()))?;
        check_format(&db, dir)?;
        let mut replica = Replica {
            db,
            dir: dir.into(),
            buckets: Box::new([0; BUCKETS]),
            watched: None,
            digest: 0,
            zones: 0,
            rrsets: 0,
            newest: Generation::default(),
            is_complete: false,
            next_content: 1,
            incoming: HashMap::new(),
            draft: Draft::default(),
            is_synced: true,
            set_aside: 0,
        };
        replica.load().map_err(failed)?;
        Ok(replica)
    }

    /// Reads what is kept in memory.
    fn load(&mut self) -> Result<(), ReplicaError> {
        let newest = record(&self.db, NEWEST_RECORD)?;
        self.newest = parse_generation(&newest)
            .ok_or_else(|| ReplicaError::Damaged("the newest generation can't be read".into()))?;
        self.is_complete = record(&self.db, COMPLETE_RECORD)? == [1];
        let mut damaged: Vec<Vec<u8>> = Vec::new();
        {
            let mut select = self.db.prepare(&format!("SELECT {ZONE_COLUMNS} FROM zone"))?;
            let mut rows = select.query(())?;
            while let Some(row) = rows.next()? {
                match read_zone_row(row) {
                    Some(zone) => {
                        let bucket = &mut self.buckets[bucket_of(zone.id)];
                        *bucket = bucket.wrapping_add(digest_of(&zone));
                        self.digest = self.digest.wrapping_add(digest_of(&zone));
                        self.zones += 1;
                        self.rrsets = self.rrsets.wrapping_add(zone.rrset_count);
                    }
                    None => damaged.push(row.get(0)?),
                }
            }
        }
        for id in &damaged {
            self.db
                .execute("INSERT OR IGNORE INTO discarded SELECT content FROM zone WHERE id = ?1", (id,))?;
            self.db.execute("DELETE FROM zone WHERE id = ?1", (id,))?;
        }
        self.set_aside = damaged.len() as u64;
        let last: Option<i64> = self.db.query_row(
            "SELECT max(n) FROM (SELECT max(content) AS n FROM rrset UNION ALL SELECT max(content) FROM zone
             UNION ALL SELECT max(content) FROM discarded)",
            (),
            |row| row.get(0),
        )?;
        self.next_content = last.unwrap_or(0) + 1;
        Ok(())
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets the database grow no further, so that the disk seems to be full, or (with `false`) grow again. A simulation does so.
    ///
    /// # Errors
    /// If the database can't be reached.
    pub fn seem_full(&self, is_full: bool) -> Result<(), ReplicaError> {
        let pages_max = match is_full {
            true => self.db.query_row("PRAGMA page_count", (), |row| row.get(0))?,
            false => i64::from(u32::MAX - 1),
        };
        Ok(self.db.query_row(&format!("PRAGMA max_page_count = {pages_max}"), (), |_| Ok(()))?)
    }

    /// How many zones had to be taken out at the opening since their rows were damaged.
    pub fn set_aside_at_opening(&self) -> u64 {
        self.set_aside
    }

    /// How many zones there are.
    pub fn zone_count(&self) -> u64 {
        self.zones
    }

    /// The newest generation that was ever taken.
    pub fn newest(&self) -> Generation {
        self.newest
    }

    /// Whether it ever held everything that it was to hold. One that is still being filled is no reason to take anything
    /// away from what is served.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The digest of each inventory bucket.
    pub fn bucket_digests(&self) -> &[u128; BUCKETS] {
        &self.buckets
    }

    /// All zones in sum, the open transaction counted.
    pub fn holding(&self) -> Holding {
        Holding {
            zones: self.zones.saturating_add_signed(self.draft.zones),
            digest: self.digest.wrapping_add(self.draft.digest),
        }
    }

    /// How many RRsets there are.
    pub fn rrset_count(&self) -> u64 {
        self.rrsets
    }

    /// From now on, which buckets change is noted.
    pub fn watch_buckets(&mut self) {
        self.watched = Some(HashSet::new());
    }

    /// The buckets that have changed since [`Replica::watch_buckets`]; none if that wasn't said of this replica as it is open.
    pub fn watched_buckets(&mut self) -> Option<HashSet<usize>> {
        self.watched.take()
    }

    /// The zones that follow this one in the order of their ids: so many at most, and no more once they have so many RRsets.
    pub fn zones_after(
        &self,
        after: Option<ZoneId>,
        zones_max: usize,
        rrsets_max: u64,
    ) -> Result<Vec<ZoneId>, ReplicaError> {
        let mut select =
            self.db.prepare_cached("SELECT id, rrset_count FROM zone WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let after = after.map_or_else(Vec::new, |after| after.0.to_be_bytes().to_vec());
        let mut rows = select.query((after, zones_max as i64))?;
        let (mut zones, mut rrsets) = (Vec::new(), 0_u64);
        while rrsets < rrsets_max.max(1)
            && let Some(row) = rows.next()?
        {
            zones.push(ZoneId(u128::from_be_bytes(row.get(0)?)));
            rrsets = rrsets.saturating_add(unsigned(row.get(1)?));
        }
        Ok(zones)
    }

    /// A zone.
    pub fn zone(&self, id: ZoneId) -> Result<Option<ZoneRow>, ReplicaError> {
        let mut select = self.db.prepare_cached(&format!("SELECT {ZONE_COLUMNS} FROM zone WHERE id = ?1"))?;
        one_zone(select.query((id.0.to_be_bytes(),))?)
    }

    /// What there is of a target.
    pub fn target(&self, target: &Target) -> Result<Option<ZoneRow>, ReplicaError> {
        match target {
            Target::Public(name) => self.zone_named(name),
            Target::Private(zone, _) => Ok(self.zone(*zone)?.filter(|row| row.is_private)),
        }
    }

    /// The zone of this name that is served to everybody.
    pub fn zone_named(&self, name: &Name) -> Result<Option<ZoneRow>, ReplicaError> {
        let mut select =
            self.db.prepare_cached(&format!("SELECT {ZONE_COLUMNS} FROM zone WHERE name = ?1"))?;
        one_zone(select.query((name.as_wire(),))?)
    }

    /// Goes through all zones, in the order of their ids.
    pub fn for_each_zone(&self, mut each: impl FnMut(ZoneRow)) -> Result<(), ReplicaError> {
        let mut select = self.db.prepare_cached(&format!("SELECT {ZONE_COLUMNS} FROM zone"))?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            each(read_zone_row(row).ok_or_else(damaged_zone_row)?);
        }
        Ok(())
    }

    /// Goes through all zones that have steering.
    pub fn for_each_steered_zone(&self, mut each: impl FnMut(ZoneRow)) -> Result<(), ReplicaError> {
        let mut select = self
            .db
            .prepare_cached(&format!("SELECT {ZONE_COLUMNS} FROM zone WHERE steering_rrset_count > 0"))?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            each(read_zone_row(row).ok_or_else(damaged_zone_row)?);
        }
        Ok(())
    }

    /// What is durable but was not yet known to be answered by knotd: zones, and removed ones.
    pub fn unapplied(&self) -> Result<Vec<(Target, ZoneGeneration)>, ReplicaError> {
        let mut select = self.db.prepare_cached("SELECT id, name, epoch, counter FROM unapplied")?;
        let mut rows = select.query(())?;
        let mut unapplied = Vec::new();
        while let Some(row) = rows.next()? {
            let damaged = || ReplicaError::Damaged("a mark of an unapplied zone can't be read".into());
            let zone = ZoneId(u128::from_be_bytes(row.get(0)?));
            let column = row.get_ref(1)?.as_blob().unwrap_or_default();
            let target = parse_name_column(zone, column).ok_or_else(damaged)?;
            let generation = Generation { epoch: unsigned(row.get(2)?), counter: unsigned(row.get(3)?) };
            unapplied.push((target, ZoneGeneration { zone, generation }));
        }
        Ok(unapplied)
    }
}

// ---------------------------------------------------------------------------------------------------
// Writing
// ---------------------------------------------------------------------------------------------------

impl Replica {
    /// Opens a transaction. Everything below is done in one.
    pub fn begin(&mut self) -> Result<(), ReplicaError> {
        self.open_transaction(true)
    }

    /// Opens a transaction that only gets durable with the next one that was begun as usual: all before that, or a crash of
    /// the machine takes the later ones away.
    pub fn begin_unsynced(&mut self) -> Result<(), ReplicaError> {
        self.open_transaction(false)
    }

    fn open_transaction(&mut self, is_synced: bool) -> Result<(), ReplicaError> {
        self.draft = Draft::default();
        if self.is_synced != is_synced {
            self.db.pragma_update(None, "synchronous", if is_synced { SYNCED } else { UNSYNCED })?;
            self.is_synced = is_synced;
        }
        Ok(self.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Makes the transaction durable, with one sync, and those before it that had none.
    ///
    /// # Errors
    /// After an error, [`Replica::rollback`]; if it was [`ReplicaError::Failed`], the replica has to be opened again, as nobody knows what
    /// is on the disk.
    pub fn commit(&mut self) -> Result<(), ReplicaError> {
        if let Some(newest) = self.draft.newest {
            set_record(&self.db, NEWEST_RECORD, &generation_bytes(newest))?;
        }
        if self.draft.is_complete {
            set_record(&self.db, COMPLETE_RECORD, &[1])?;
        }
        let mut listed = Vec::new();
        for id in self.draft.incoming_before.keys() {
            if let Some(incoming) = self.incoming.get(id)
                && incoming.fate == Fate::Keep
                && !incoming.is_listed
            {
                discard(&self.db, incoming.content)?;
                listed.push(*id);
            }
        }
        self.db.execute_batch("COMMIT")?;
        for id in listed {
            if let Some(incoming) = self.incoming.get_mut(&id) {
                incoming.is_listed = true;
            }
        }
        let draft = std::mem::take(&mut self.draft);
        for (bucket, change) in draft.buckets {
            self.buckets[bucket] = self.buckets[bucket].wrapping_add(change);
            if let Some(watched) = &mut self.watched {
                watched.insert(bucket);
            }
        }
        self.digest = self.digest.wrapping_add(draft.digest);
        self.rrsets = self.rrsets.wrapping_add_signed(draft.rrsets);
        self.zones = self.zones.saturating_add_signed(draft.zones);
        self.newest = draft.newest.unwrap_or(self.newest);
        self.is_complete |= draft.is_complete;
        Ok(())
    }

    /// Drops the transaction: all is as it was before it.
    pub fn rollback(&mut self) {
        if !self.db.is_autocommit() {
            // It fails only where SQLite has done it by itself.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        for (id, before) in std::mem::take(&mut self.draft).incoming_before {
            match before {
                Some(incoming) => self.incoming.insert(id, incoming),
                None => self.incoming.remove(&id),
            };
        }
    }

    /// Applies a delta: its base has to be what the zone has, and the digest afterwards the one that it says.
    pub fn delta(&mut self, delta: &ZoneDelta) -> Result<DeltaOutcome, ReplicaError> {
        let Some(old) = self.zone(delta.zone)? else {
            return Ok(DeltaOutcome::Gap { reason: "the zone is not in the replica".into(), have: None });
        };
        let gap = |reason: String| Ok(DeltaOutcome::Gap { reason, have: Some(old.generation) });
        if delta.generation == old.generation {
            return Ok(DeltaOutcome::Known);
        }
        if delta.generation < old.generation {
            return Ok(DeltaOutcome::Older(old.generation));
        }
        if delta.base != old.generation {
            return gap(format!(
                "the change builds upon {}, and the replica has {}",
                delta.base, old.generation
            ));
        }

        let mut zone = ZoneRow { generation: delta.generation, ..old.clone() };
        let mut rows: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut changes = Vec::with_capacity(delta.puts.len() + delta.deletes.len());
        let mut soa = None;
        let mut is_steering_changed = old.with_records();
        let puts = delta.puts.iter().map(|put| (&put.key, Some(&put.rrset)));
        for (key, rrset) in delta.deletes.iter().map(|key| (key, None)).chain(puts) {
            let Some(row_key) = row_key(&zone.name, key) else {
                return gap(format!("{key} is not in the zone"));
            };
            let before = match self.value(zone.content, &row_key)? {
                Some(Some(before)) => Some(before),
                Some(None) => return gap(format!("{key} is damaged in the replica")),
                None => None,
            };
            if let Some(before) = &before {
                zone.digest = zone.digest.wrapping_sub(before.digest(key));
                zone.rrset_count = zone.rrset_count.wrapping_sub(1);
                zone.record_count = zone.record_count.wrapping_sub(before.rdatas.len() as u64);
                zone.steering.count(key.rtype, -1);
            }
            if let Some(rrset) = rrset {
                zone.digest = zone.digest.wrapping_add(rrset.digest(key));
                zone.rrset_count = zone.rrset_count.wrapping_add(1);
                zone.record_count = zone.record_count.wrapping_add(rrset.rdatas.len() as u64);
                zone.steering.count(key.rtype, 1);
            }
            is_steering_changed |= is_steering_type(key.rtype);
            rows.push((row_key, rrset.map(row_value)));
            match rrset {
                Some(rrset) if is_soa(&zone.name, key) => soa = Some(rrset.clone()),
                _ => changes.push((key.clone(), rrset.cloned())),
            }
        }
        if zone.digest != delta.digest {
            return gap("the content afterwards is not what it should be".into());
        }
        let Some((soa, serial)) = soa.and_then(|soa| soa_serial(&soa).map(|serial| (soa, serial))) else {
            return gap("the change has no SOA".into());
        };
        zone.serial = serial;
        if zone.steering.rrset_count == 0 {
            zone.steering = SteeringRow::default();
        } else if is_steering_changed {
            zone.steering.generation = zone.generation;
        }

        for (row_key, value) in rows {
            match value {
                Some(value) => self
                    .db
                    .prepare_cached("INSERT OR REPLACE INTO rrset (content, key, value) VALUES (?1, ?2, ?3)")?
                    .execute((zone.content, row_key, value))?,
                None => self
                    .db
                    .prepare_cached("DELETE FROM rrset WHERE content = ?1 AND key = ?2")?
                    .execute((zone.content, row_key))?,
            };
        }
        self.put_zone(Some(&old), &zone)?;
        Ok(DeltaOutcome::Taken(TakenDelta { zone, soa, changes, steering_before: old.steering }))
    }

    /// A whole zone is coming. One of the same id that was on its way is dropped.
    pub fn whole_begin(&mut self, begin: ZoneBegin) -> Result<(), ReplicaError> {
        self.drop_incoming(begin.zone)?;
        let fate = match self.zone(begin.zone)? {
            Some(have) if have.generation > begin.generation => Fate::Older,
            Some(have) if have.generation == begin.generation && have.digest == begin.digest => Fate::Known,
            _ => Fate::Keep,
        };
        let content = self.next_content;
        self.next_content += 1;
        let incoming = Incoming {
            fate,
            content,
            is_listed: false,
            digest: 0,
            rrset_count: 0,
            record_count: 0,
            steering: SteeringRow::default(),
            serial: None,
            bad: None,
            begin,
        };
        self.draft.incoming_before.entry(incoming.begin.zone).or_insert(None);
        self.incoming.insert(incoming.begin.zone, incoming);
        Ok(())
    }

    /// Some RRsets of a zone that was begun.
    pub fn whole_part(&mut self, zone: ZoneId, rrsets: &[ZoneRrset]) -> Result<(), ReplicaError> {
        let Some(incoming) = self.incoming.get_mut(&zone) else { return Ok(()) };
        if incoming.fate != Fate::Keep || incoming.bad.is_some() {
            return Ok(());
        }
        self.draft.incoming_before.entry(zone).or_insert_with(|| Some(incoming.clone()));
        let mut insert = self
            .db
            .prepare_cached("INSERT OR IGNORE INTO rrset (content, key, value) VALUES (?1, ?2, ?3)")?;
        for ZoneRrset { key, rrset } in rrsets {
            let Some(row_key) = row_key(&incoming.begin.name, key) else {
                incoming.bad = Some(format!("{key} is not in the zone"));
                return Ok(());
            };
            if insert.execute((incoming.content, row_key, row_value(rrset)))? == 0 {
                incoming.bad = Some(format!("{key} came twice"));
                return Ok(());
            }
            incoming.digest = incoming.digest.wrapping_add(rrset.digest(key));
            incoming.rrset_count += 1;
            incoming.steering.count(key.rtype, 1);
            incoming.record_count += rrset.rdatas.len() as u64;
            if is_soa(&incoming.begin.name, key) {
                incoming.serial = soa_serial(rrset);
            }
        }
        Ok(())
    }

    /// The zone that was begun is all there: it becomes the zone if it is what was announced.
    pub fn whole_end(&mut self, id: ZoneId) -> Result<WholeOutcome, ReplicaError> {
        let Some(incoming) = self.incoming.get(&id).cloned() else { return Ok(WholeOutcome::NotBegun) };
        let generation = incoming.begin.generation;
        let old = self.zone(id)?;
        let have = old.as_ref().map(|old| old.generation);
        let is_private = incoming.begin.is_private();
        let namesake = match is_private {
            true => None,
            false => self.zone_named(&incoming.begin.name)?.filter(|namesake| namesake.id != id),
        };
        let is_older = incoming.fate == Fate::Older
            || have.is_some_and(|have| have > generation)
            || namesake.as_ref().is_some_and(|namesake| namesake.generation > generation);
        if incoming.fate == Fate::Known || is_older {
            self.drop_incoming(id)?;
            return Ok(match is_older {
                true => WholeOutcome::Older { generation, have },
                false => WholeOutcome::Known(generation),
            });
        }
        let bad = if incoming.bad.is_some() {
            incoming.bad
        } else if incoming.rrset_count != incoming.begin.rrset_count {
            Some(format!("{} RRsets came of {}", incoming.rrset_count, incoming.begin.rrset_count))
        } else if incoming.digest != incoming.begin.digest {
            Some("its content is not what was announced".into())
        } else if incoming.serial.is_none() {
            Some("it has no SOA".into())
        } else {
            None
        };
        if let Some(reason) = bad {
            self.drop_incoming(id)?;
            return Ok(WholeOutcome::Bad { generation, reason, have });
        }
        let zone = ZoneRow {
            id,
            name: incoming.begin.name,
            is_private,
            generation,
            digest: incoming.digest,
            serial: incoming.serial.unwrap_or_default(),
            rrset_count: incoming.rrset_count,
            record_count: incoming.record_count,
            steering: match incoming.steering.rrset_count {
                0 => SteeringRow::default(),
                _ => SteeringRow { generation, ..incoming.steering },
            },
            content: incoming.content,
        };
        if let Some(namesake) = &namesake {
            self.delete_zone(namesake)?;
            self.unmark(namesake.id)?;
        }
        if let Some(old) = &old {
            discard(&self.db, old.content)?;
        }
        if incoming.is_listed {
            self.db
                .prepare_cached("DELETE FROM discarded WHERE content = ?1")?
                .execute((incoming.content,))?;
        }
        self.draft.incoming_before.entry(id).or_insert_with(|| self.incoming.get(&id).cloned());
        self.incoming.remove(&id);
        self.put_zone(old.as_ref(), &zone)?;
        Ok(WholeOutcome::Taken { zone, replaced: namesake })
    }

    /// Takes a zone out, and what has come of it; gives it back if it was there.
    pub fn remove(&mut self, zone: ZoneId, generation: Generation) -> Result<Option<ZoneRow>, ReplicaError> {
        self.drop_incoming(zone)?;
        self.saw(generation);
        let Some(row) = self.zone(zone)? else { return Ok(None) };
        self.delete_zone(&row)?;
        self.mark(&row.target(), zone, generation)?;
        Ok(Some(row))
    }

    /// Takes out a zone whose content is damaged, so that it is asked for again.
    pub fn set_aside(&mut self, zone: ZoneId) -> Result<Option<ZoneRow>, ReplicaError> {
        let Some(row) = self.zone(zone)? else { return Ok(None) };
        self.delete_zone(&row)?;
        Ok(Some(row))
    }

    /// knotd is known to answer this generation: the mark of an unapplied one goes, unless a newer one has left it.
    pub fn applied(&mut self, zone: ZoneGeneration) -> Result<(), ReplicaError> {
        self.db
            .prepare_cached("DELETE FROM unapplied WHERE id = ?1 AND (epoch, counter) <= (?2, ?3)")?
            .execute((
                zone.zone.0.to_be_bytes(),
                signed(zone.generation.epoch),
                signed(zone.generation.counter),
            ))?;
        Ok(())
    }

    /// It holds everything that it is to hold.
    pub fn complete(&mut self) {
        self.draft.is_complete = true;
    }

    /// Deletes up to so many rows that belong to no zone; `false` if there are none left.
    pub fn collect(&mut self, rows_max: usize) -> Result<bool, ReplicaError> {
        let mut left = rows_max;
        let contents: Vec<i64> = {
            let mut select = self.db.prepare_cached("SELECT content FROM discarded")?;
            let all = select.query_map((), |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            let on_its_way =
                |content: &i64| self.incoming.values().any(|incoming| incoming.content == *content);
            all.into_iter().filter(|content| !on_its_way(content)).collect()
        };
        for content in contents {
            if left == 0 {
                return Ok(true);
            }
            let deleted = self
                .db
                .prepare_cached(
                    "DELETE FROM rrset WHERE (content, key) IN
                     (SELECT content, key FROM rrset WHERE content = ?1 LIMIT ?2)",
                )?
                .execute((content, left as i64))?;
            if deleted < left {
                self.db.prepare_cached("DELETE FROM discarded WHERE content = ?1")?.execute((content,))?;
            }
            left -= deleted;
        }
        Ok(left == 0)
    }

    /// Forgets the whole zones that are on their way: their session is over.
    pub fn forget_incoming(&mut self) {
        self.incoming.clear();
    }

    /// Moves the directory to `aside` and starts afresh with an empty replica.
    pub fn start_afresh(&mut self, aside: &Path) -> Result<(), OpenError> {
        let failed =
            |error: String| OpenError::Replica { dir: self.dir.clone(), source: ReplicaError::Failed(error) };
        // Closed before its files are moved: on closing it, SQLite goes by their names.
        self.db = Connection::open_in_memory().map_err(|error| failed(error.to_string()))?;
        move_aside(&self.dir, aside).map_err(|error| failed(error.to_string()))?;
        *self = Replica::open(&self.dir.clone())?;
        Ok(())
    }

    // -- steps ------------------------------------------------------------------------------------

    /// The RRset in a row: none if there is no row, and none within if it can't be read.
    fn value(&self, content: i64, row_key: &[u8]) -> Result<Option<Option<Rrset>>, ReplicaError> {
        let mut select = self.db.prepare_cached("SELECT value FROM rrset WHERE content = ?1 AND key = ?2")?;
        let mut rows = select.query((content, row_key))?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(row.get_ref(0)?.as_blob().ok().and_then(parse_row_value)))
    }

    /// Writes a zone's row and its mark.
    fn put_zone(&mut self, old: Option<&ZoneRow>, zone: &ZoneRow) -> Result<(), ReplicaError> {
        self.db
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO zone ({ZONE_COLUMNS})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
            ))?
            .execute((
                zone.id.0.to_be_bytes(),
                name_column(&zone.target()),
                signed(zone.generation.epoch),
                signed(zone.generation.counter),
                zone.digest.to_be_bytes(),
                zone.serial,
                signed(zone.rrset_count),
                signed(zone.record_count),
                zone.content,
                zone.sum(),
                signed(zone.steering.rrset_count),
                signed(zone.steering.overlay_count),
                signed(zone.steering.generation.epoch),
                signed(zone.steering.generation.counter),
            ))?;
        self.mark(&zone.target(), zone.id, zone.generation)?;
        let before = old.map_or(0, digest_of);
        self.count(zone.id, digest_of(zone).wrapping_sub(before));
        self.draft.zones += i64::from(old.is_none());
        let rrsets_before = old.map_or(0, |old| old.rrset_count);
        self.draft.rrsets += zone.rrset_count.wrapping_sub(rrsets_before).cast_signed();
        self.saw(zone.generation);
        Ok(())
    }

    fn delete_zone(&mut self, zone: &ZoneRow) -> Result<(), ReplicaError> {
        self.db.prepare_cached("DELETE FROM zone WHERE id = ?1")?.execute((zone.id.0.to_be_bytes(),))?;
        discard(&self.db, zone.content)?;
        self.count(zone.id, digest_of(zone).wrapping_neg());
        self.draft.zones -= 1;
        self.draft.rrsets -= zone.rrset_count.cast_signed();
        Ok(())
    }

    fn count(&mut self, zone: ZoneId, change: u128) {
        self.draft.buckets.push((bucket_of(zone), change));
        self.draft.digest = self.draft.digest.wrapping_add(change);
    }

    fn mark(&self, target: &Target, zone: ZoneId, generation: Generation) -> Result<(), ReplicaError> {
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO unapplied (id, name, epoch, counter) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((
                zone.0.to_be_bytes(),
                name_column(target),
                signed(generation.epoch),
                signed(generation.counter),
            ))?;
        Ok(())
    }

    fn unmark(&self, zone: ZoneId) -> Result<(), ReplicaError> {
        self.db.prepare_cached("DELETE FROM unapplied WHERE id = ?1")?.execute((zone.0.to_be_bytes(),))?;
        Ok(())
    }

    fn drop_incoming(&mut self, zone: ZoneId) -> Result<(), ReplicaError> {
        if let Some(incoming) = self.incoming.remove(&zone) {
            // It was listed when a part of it was committed; what is in this transaction only has yet to be.
            if incoming.fate == Fate::Keep && !incoming.is_listed {
                discard(&self.db, incoming.content)?;
            }
            self.draft.incoming_before.entry(zone).or_insert(Some(incoming));
        }
        Ok(())
    }

    fn saw(&mut self, generation: Generation) {
        if generation > self.draft.newest.unwrap_or(self.newest) {
            self.draft.newest = Some(generation);
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// The database
// ---------------------------------------------------------------------------------------------------

/// Moves a replica's directory away, in place of one that was moved there before.
pub fn move_aside(dir: &Path, aside: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(dir, aside)
}

fn connect(dir: &Path, create: OpenFlags) -> rusqlite::Result<Connection> {
    // One thread uses a connection at a time: no locks of SQLite's own.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let db = Connection::open_with_flags(dir.join(DATABASE), flags)?;
    db.set_prepared_statement_cache_capacity(32);
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(db)
}

/// Settings of the writer, and the tables if the database is new.
fn set_up(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", SYNCED)?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    // After a very large transaction the write-ahead log shrinks again.
    db.pragma_update(None, "journal_size_limit", 64 << 20)?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if tables > 0 {
        return add_columns(db);
    }
    let transaction = db.unchecked_transaction()?;
    transaction.execute_batch(SCHEMA)?;
    set_record(&transaction, FORMAT_RECORD, FORMAT.as_bytes())?;
    set_record(&transaction, NEWEST_RECORD, &generation_bytes(Generation::default()))?;
    set_record(&transaction, COMPLETE_RECORD, &[0])?;
    transaction.commit()
}

/// A replica of an agent that knew no steering gets the columns for it: it holds none.
fn add_columns(db: &Connection) -> rusqlite::Result<()> {
    let present = |column: &str| {
        let sql = "SELECT count(*) FROM pragma_table_info('zone') WHERE name = ?1";
        db.query_row(sql, (column,), |row| row.get::<_, i64>(0))
    };
    // A database without the table is found out by its format.
    if present("id")? == 0 || present(STEERING_COLUMNS[0])? > 0 {
        return Ok(());
    }
    let transaction = db.unchecked_transaction()?;
    for column in STEERING_COLUMNS {
        transaction
            .execute_batch(&format!("ALTER TABLE zone ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0"))?;
    }
    transaction.commit()
}

/// The format comes before everything else: another one may have other tables.
fn check_format(db: &Connection, dir: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Replica { dir: dir.into(), source };
    let unknown = |found| OpenError::UnknownFormat { dir: dir.into(), found };
    let records = "SELECT count(*) FROM sqlite_schema WHERE name = 'record'";
    let records: i64 = db.query_row(records, (), |row| row.get(0)).map_err(|error| failed(error.into()))?;
    if records == 0 {
        return Err(unknown("none: it has no table of records".into()));
    }
    let found = record(db, FORMAT_RECORD).map_err(failed)?;
    if found != FORMAT.as_bytes() {
        return Err(unknown(String::from_utf8_lossy(&found).into_owned()));
    }
    Ok(())
}

fn record(db: &Connection, name: &str) -> Result<Vec<u8>, ReplicaError> {
    let row: Option<(Vec<u8>, i64)> = db
        .query_row("SELECT value, sum FROM record WHERE name = ?1", (name,), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    match row {
        Some((value, sum)) if sum == record_sum(name, &value) => Ok(value),
        _ => Err(ReplicaError::Damaged(format!("the record \"{name}\" is missing or has a wrong checksum"))),
    }
}

fn set_record(db: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO record (name, value, sum) VALUES (?1, ?2, ?3)")?.execute((
        name,
        value,
        record_sum(name, value),
    ))?;
    Ok(())
}

fn record_sum(name: &str, value: &[u8]) -> i64 {
    sum(&[name.as_bytes(), &[0], value].concat())
}

fn discard(db: &Connection, content: i64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO discarded (content) VALUES (?1)")?.execute((content,))?;
    Ok(())
}

fn one_zone(mut rows: rusqlite::Rows<'_>) -> Result<Option<ZoneRow>, ReplicaError> {
    match rows.next()? {
        Some(row) => Ok(Some(read_zone_row(row).ok_or_else(damaged_zone_row)?)),
        None => Ok(None),
    }
}

fn damaged_zone_row() -> ReplicaError {
    ReplicaError::DamagedZone("the row of a zone has a wrong checksum".into())
}

/// A zone's row; none if it is damaged.
fn read_zone_row(row: &Row<'_>) -> Option<ZoneRow> {
    let id = ZoneId(u128::from_be_bytes(row.get(0).ok()?));
    let (is_private, name) = match parse_name_column(id, row.get_ref(1).ok()?.as_blob().ok()?)? {
        Target::Public(name) => (false, name),
        Target::Private(_, name) => (true, name),
    };
    let zone = ZoneRow {
        id,
        name,
        is_private,
        generation: Generation { epoch: unsigned(row.get(2).ok()?), counter: unsigned(row.get(3).ok()?) },
        digest: u128::from_be_bytes(row.get(4).ok()?),
        serial: row.get(5).ok()?,
        rrset_count: unsigned(row.get(6).ok()?),
        record_count: unsigned(row.get(7).ok()?),
        steering: SteeringRow {
            rrset_count: unsigned(row.get(10).ok()?),
            overlay_count: unsigned(row.get(11).ok()?),
            generation: Generation {
                epoch: unsigned(row.get(12).ok()?),
                counter: unsigned(row.get(13).ok()?),
            },
        },
        content: row.get(8).ok()?,
    };
    let sum: i64 = row.get(9).ok()?;
    (sum == zone.sum()).then_some(zone)
}

fn digest_of(zone: &ZoneRow) -> u128 {
    inventory_digest(zone.id, zone.generation, zone.digest)
}

fn is_soa(apex: &Name, key: &RrKey) -> bool {
    key.rtype == Rtype::SOA && key.owner == *apex
}

fn generation_bytes(generation: Generation) -> [u8; 16] {
    (u128::from(generation.epoch) << 64 | u128::from(generation.counter)).to_be_bytes()
}

fn parse_generation(bytes: &[u8]) -> Option<Generation> {
    let (epoch, counter) = bytes.split_first_chunk::<8>()?;
    let generation = Generation {
        epoch: u64::from_be_bytes(*epoch),
        counter: u64::from_be_bytes(counter.try_into().ok()?),
    };
    Some(generation)
}

/// SQLite's integers are signed: the same bits.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}
