//! The index: a SQLite file beside the store, derived from the log and nothing else. It holds no content, only which
//! entry touched what, and what its envelope says.

use std::path::{Path, PathBuf};

use herald_core::account::Principal;
use herald_core::change::Change;
use herald_core::firewall::Owner;
use herald_core::history::ChangeKind;
use herald_core::log::{self, Envelope, LogError};
use herald_core::monitor::{Monitor, VerdictChange};
use herald_core::state::State;
use herald_core::{MonitorId, Name, TenantId, TokenId, ZoneId};
use herald_store::{Entry, Store, StoreError};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};
use sha2::{Digest, Sha256};

use crate::engine::StoreChunks;

/// The file's name in the data directory.
pub const FILE: &str = "history.sqlite";

/// Version of the file. One of another version is made anew.
const VERSION: i64 = 4;

const SCHEMA: &str = "
CREATE TABLE position (
    one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, hash BLOB NOT NULL);
CREATE TABLE entry (
    revision INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, principal BLOB NOT NULL, token BLOB, message TEXT,
    kinds INTEGER NOT NULL, zones INTEGER NOT NULL);
CREATE INDEX entry_token ON entry (token, revision);
CREATE TABLE touch (
    zone BLOB NOT NULL, revision INTEGER NOT NULL, kind INTEGER NOT NULL, puts INTEGER, deletes INTEGER,
    PRIMARY KEY (zone, revision, kind)) WITHOUT ROWID;
CREATE INDEX touch_revision ON touch (revision);
CREATE TABLE monitor_touch (
    monitor INTEGER NOT NULL, revision INTEGER NOT NULL, up INTEGER, cause TEXT,
    PRIMARY KEY (monitor, revision)) WITHOUT ROWID;
CREATE INDEX verdict ON monitor_touch (revision) WHERE up IS NOT NULL;
CREATE TABLE monitor (id INTEGER PRIMARY KEY, tenant BLOB NOT NULL, name TEXT NOT NULL, deleted INTEGER);
CREATE TABLE firewall_touch (
    owner BLOB NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (owner, revision)) WITHOUT ROWID;
CREATE TABLE concern (
    tenant BLOB NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (tenant, revision)) WITHOUT ROWID;
CREATE TABLE zone (
    id BLOB PRIMARY KEY, name BLOB NOT NULL, tenant BLOB NOT NULL, created INTEGER NOT NULL, deleted INTEGER)
    WITHOUT ROWID;
";

/// Of the zones that an entry touched, a list names at most so many.
const ZONES_NAMED: usize = 100;

/// So many entries are looked at for a page of changes; past it a page has fewer than asked for.
const LOOKED_AT_MAX: usize = 20_000;

/// Why the index can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// What SQLite says.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The log can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its file can't be replaced.
    #[error("{0} can't be removed: {1}")]
    File(PathBuf, std::io::Error),
    /// No thread.
    #[error("a thread can't be started: {0}")]
    Thread(String),
    /// The state from which the past is told can't be read.
    #[error("the base can't be read: {0}")]
    Base(String),
    /// It was damaged, and is being made anew.
    #[error("it is being made anew: try again soon")]
    BeingMade,
}

type Result<T> = std::result::Result<T, IndexError>;

/// The index, open for writing or for reading.
pub struct Index {
    db: Connection,
}

/// Kinds of change, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u64);

impl Kinds {
    fn add(&mut self, kind: ChangeKind) {
        self.0 |= 1_u64 << kind as u8;
    }

    /// The kinds in it.
    pub fn iter(self) -> impl Iterator<Item = ChangeKind> {
        ChangeKind::ALL.into_iter().filter(move |kind| self.0 & (1_u64 << *kind as u8) != 0)
    }
}

/// What an entry's envelope says, and what kinds of change it holds.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its revision.
    pub revision: u64,
    /// When, in ms since the epoch.
    pub time_ms: u64,
    /// Who.
    pub principal: Principal,
    /// Why.
    pub message: Option<String>,
    /// What kinds of change.
    pub kinds: Kinds,
}

/// What an entry did to one zone.
#[derive(Clone, Debug)]
pub struct ZoneRecord {
    /// The entry; of its kinds those that are about the zone.
    pub record: Record,
    /// RRsets that were put.
    pub rrsets_put: u64,
    /// RRsets that were deleted; those that a replacement left out are not counted.
    pub rrsets_deleted: u64,
}

/// What an entry did to one monitor.
#[derive(Clone, Debug)]
pub struct MonitorRecord {
    /// The entry.
    pub record: Record,
    /// What it did.
    pub event: MonitorEvent,
}

/// What happened to a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorEvent {
    /// It was made or changed.
    Put,
    /// It was deleted.
    Deleted,
    /// There is another verdict.
    Verdict {
        /// Whether it is up.
        up: bool,
        /// Why.
        cause: String,
    },
}

/// A monitor that is or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownMonitor {
    /// Its identity.
    pub id: MonitorId,
    /// Whose it is or was.
    pub tenant: TenantId,
    /// Its last name.
    pub name: String,
    /// The entry that deleted it.
    pub deleted: Option<u64>,
}

/// A verdict, on a monitor that is or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictRecord {
    /// The entry's revision.
    pub revision: u64,
    /// When, in ms since the epoch.
    pub time_ms: u64,
    /// On which monitor.
    pub monitor: KnownMonitor,
    /// Whether it is up.
    pub up: bool,
    /// Why.
    pub cause: String,
}

/// A zone that is or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownZone {
    /// Its identity.
    pub id: ZoneId,
    /// Its name.
    pub name: Name,
    /// Who holds or held it.
    pub tenant: TenantId,
    /// The entry that made it.
    pub created: u64,
    /// The entry that deleted it.
    pub deleted: Option<u64>,
}

/// A zone that an entry touched.
#[derive(Clone, Debug)]
pub struct TouchedZone {
    /// Which.
    pub zone: KnownZone,
    /// How.
    pub kinds: Kinds,
}

/// Which changes, and how many.
#[derive(Clone, Debug, Default)]
pub struct ChangesFilter {
    /// Those that are about this tenant or its zones, or were done by it.
    pub tenant: Option<TenantId>,
    /// Those of this zone.
    pub zone: Option<ZoneId>,
    /// Those done by this token.
    pub token: Option<TokenId>,
    /// Those of revisions after this one.
    pub after: u64,
    /// Those of revisions below this one.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// A page of changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Entries, newest first, with zones that they touched (the tenant's, if one was asked for) and how many those are.
    pub items: Vec<(Record, Vec<TouchedZone>, u64)>,
    /// Whether there may be more, and below which revision.
    pub more_before: Option<u64>,
}

// ---------------------------------------------------------------------------------------------- opening

impl Index {
    /// Opens the index of this store for writing. One that is damaged, of another version, or of another log, is made anew.
    pub fn open(dir: &Path, store: &dyn Store) -> Result<Index> {
        match Index::open_as_it_is(dir, store) {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => tracing::info!("the index of the history is made anew"),
            Err(e @ (IndexError::Store(_) | IndexError::Log(_))) => return Err(e),
            Err(e) => tracing::warn!("the index of the history is made anew: {e}"),
        }
        for suffix in ["", "-wal", "-shm"] {
            let path = dir.join(format!("{FILE}{suffix}"));
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(IndexError::File(path, e)),
                _ => {}
            }
        }
        let index = Index::connect(dir, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        index.db.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION};"))?;
        index.db.execute("INSERT INTO position VALUES (1, 0, ?1)", (log::GENESIS,))?;
        index.db.execute_batch("COMMIT")?;
        Ok(index)
    }

    /// The index as it is, if it is one of this log.
    fn open_as_it_is(dir: &Path, store: &dyn Store) -> Result<Option<Index>> {
        if !dir.join(FILE).exists() {
            return Ok(None);
        }
        let index = Index::connect(dir, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let version: i64 = index.db.query_row("PRAGMA user_version", (), |row| row.get(0))?;
        if version != VERSION {
            return Ok(None);
        }
        let check: String = index.db.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
        let (indexed, hash): (u64, [u8; 32]) =
            index.db.query_row("SELECT revision, hash FROM position", (), |row| {
                Ok((unsigned(row, 0)?, row.get(1)?))
            })?;
        // The log may have been put back from a backup.
        let of_this_log = match indexed {
            0 => hash == log::GENESIS,
            _ => {
                let entry = store.read(indexed - 1, 1, 0)?.into_iter().next();
                entry.is_some_and(|entry| hash[..] == Sha256::digest(&entry.envelope)[..])
            }
        };
        Ok((check == "ok" && of_this_log).then_some(index))
    }

    /// Opens the index for reading.
    pub fn open_reader(dir: &Path) -> Result<Index> {
        Index::connect(dir, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn connect(dir: &Path, flags: OpenFlags) -> Result<Index> {
        let db = Connection::open_with_flags(dir.join(FILE), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.set_prepared_statement_cache_capacity(32);
        if flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
            db.pragma_update(None, "journal_mode", "WAL")?;
            // What a power failure takes is derived again.
            db.pragma_update(None, "synchronous", "NORMAL")?;
            db.pragma_update(None, "journal_size_limit", 64 << 20)?;
        }
        Ok(Index { db })
    }
}

// ---------------------------------------------------------------------------------------------- writing

impl Index {
    /// Up to which revision it has the log.
    pub fn indexed(&self) -> Result<u64> {
        Ok(self.db.query_row("SELECT revision FROM position", (), |row| unsigned(row, 0))?)
    }

    /// Takes in the entries that follow, in one transaction; gives the last one's revision. `state` is one at or after the
    /// last of them.
    pub fn add(&mut self, store: &dyn Store, state: &State, entries: &[Entry]) -> Result<u64> {
        let indexed = self.indexed()?;
        let transaction = self.db.transaction()?;
        let mut position = None;
        for entry in entries {
            let hash: [u8; 32] = Sha256::digest(&entry.envelope).into();
            add_entry(&transaction, store, state, entry)?;
            position = Some((entry.revision, hash));
        }
        let Some((revision, hash)) = position else { return Ok(indexed) };
        transaction
            .prepare_cached("UPDATE position SET revision = ?1, hash = ?2")?
            .execute((revision.cast_signed(), hash))?;
        transaction.commit()?;
        Ok(revision)
    }

    /// Begins at the base: of what was before it nothing is known any more but the zones that were there.
    pub fn begin_at_base(&mut self, store: &dyn Store) -> Result<()> {
        let Some(base) = store.base()? else { return Ok(()) };
        let entry = store.read(base.revision - 1, 1, 0)?.into_iter().next();
        let missing = || StoreError::Damaged { what: format!("entry {} is missing", base.revision) };
        let entry = entry.ok_or_else(missing)?;
        let transaction = self.db.transaction()?;
        transaction
            .execute_batch("DELETE FROM entry; DELETE FROM touch; DELETE FROM monitor_touch; DELETE FROM monitor; DELETE FROM firewall_touch; DELETE FROM concern; DELETE FROM zone;")?;
        let mut failed = None;
        let read = crate::engine::for_each_change_of_base(store, &base, |change| {
            let known = match change {
                Change::ZoneRestored { zone } => {
                    transaction.prepare_cached("INSERT INTO zone VALUES (?1, ?2, ?3, 0, NULL)").and_then(
                        |mut insert| insert.execute((id(zone.id.0), zone.name.as_wire(), id(zone.tenant.0))),
                    )
                }
                Change::MonitorRestored(monitor) => know_monitor(&transaction, monitor),
                _ => return,
            };
            failed = failed.take().or(known.err());
        });
        read.map_err(|e| IndexError::Base(e.to_string()))?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let revision = base.revision;
        let envelope = log::open_envelope(revision, &entry.envelope)?;
        add_envelope(&transaction, &envelope, Kinds::default(), 0)?;
        let hash: [u8; 32] = Sha256::digest(&entry.envelope).into();
        transaction
            .execute("UPDATE position SET revision = ?1, hash = ?2", (revision.cast_signed(), hash))?;
        Ok(transaction.commit()?)
    }

    /// Drops what it has of entries before the horizon, if it has anything of them.
    pub fn forget_before(&mut self, horizon: u64) -> Result<()> {
        let first: Option<i64> =
            self.db.query_row("SELECT min(revision) FROM entry", (), |row| row.get(0))?;
        if first.is_none_or(|first| first.cast_unsigned() >= horizon) {
            return Ok(());
        }
        let transaction = self.db.transaction()?;
        // The entry at the horizon stays: its time says which times are before it.
        for delete in [
            "DELETE FROM entry WHERE revision < ?1",
            "DELETE FROM touch WHERE revision <= ?1",
            "DELETE FROM monitor_touch WHERE revision <= ?1",
            "DELETE FROM firewall_touch WHERE revision <= ?1",
            "DELETE FROM concern WHERE revision <= ?1",
            "DELETE FROM zone WHERE deleted <= ?1",
            "DELETE FROM monitor WHERE deleted <= ?1",
        ] {
            transaction.execute(delete, (horizon.cast_signed(),))?;
        }
        Ok(transaction.commit()?)
    }
}

fn add_envelope(db: &Transaction<'_>, envelope: &Envelope, kinds: Kinds, zones: u64) -> Result<()> {
    let token = match envelope.principal {
        Principal::System => None,
        Principal::Operator { token } | Principal::Tenant { token, .. } => Some(token),
    };
    db.prepare_cached("INSERT OR REPLACE INTO entry VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(
        params![
            envelope.revision.cast_signed(),
            envelope.time_ms.cast_signed(),
            minicbor::to_vec(envelope.principal).expect("writing to a Vec can't fail"),
            token.map(|token| id(token.0)),
            envelope.message,
            kinds.0.cast_signed(),
            zones.cast_signed(),
        ],
    )?;
    Ok(())
}

fn add_entry(db: &Transaction<'_>, store: &dyn Store, state: &State, entry: &Entry) -> Result<()> {
    let revision = entry.revision;
    let malformed = |source| LogError::Malformed { revision, source };
    let envelope: Envelope = minicbor::decode(&entry.envelope).map_err(malformed)?;
    if entry.payload.is_empty() {
        // Erased before it was seen: the index begins anew, at the base.
        return Err(IndexError::BeingMade);
    }
    let changes = log::decode_outline(&entry.payload, &StoreChunks(store)).map_err(malformed)?;
    let mut kinds = Kinds::default();
    let mut concerned: Vec<TenantId> = Vec::new();
    let mut zones = 0_u64;
    if let Principal::Tenant { tenant, .. } = envelope.principal {
        concerned.push(tenant);
    }
    let mut last_zone = None;
    for change in &changes {
        let kind = ChangeKind::of(change);
        kinds.add(kind);
        match change {
            Change::TenantPut(tenant) => concerned.push(tenant.id),
            Change::TenantDeleted(tenant) => concerned.push(*tenant),
            Change::TokenPut(token) => concerned.extend(token.tenant),
            Change::TokenRevoked { token, .. } => {
                concerned.extend(state.token(*token).and_then(|token| token.tenant));
            }
            Change::MonitorPut(monitor) => {
                concerned.push(monitor.tenant);
                know_monitor(db, monitor)?;
                touch_monitor(db, revision, monitor.id, None)?;
            }
            Change::MonitorDeleted(monitor) => {
                touch_monitor(db, revision, *monitor, None)?;
                db.prepare_cached("UPDATE monitor SET deleted = ?2 WHERE id = ?1")?
                    .execute((monitor.0, revision.cast_signed()))?;
                concerned.extend(monitor_tenant(db, *monitor)?);
            }
            Change::VerdictsSet { verdicts } => {
                for verdict in verdicts {
                    concerned.extend(monitor_tenant(db, verdict.monitor)?);
                    touch_monitor(db, revision, verdict.monitor, Some(verdict))?;
                }
            }
            Change::FirewallRulePut { owner, .. } | Change::FirewallRuleDeleted { owner, .. } => {
                if let Owner::Tenant(tenant) = owner {
                    concerned.push(*tenant);
                }
                touch_firewall(db, revision, *owner)?;
            }
            Change::PolicyZonePut(_) | Change::PolicyZoneDeleted { .. } => {
                touch_firewall(db, revision, Owner::Fleet)?;
            }
            _ => {}
        }
        // What ALIAS records resolve to is nobody's doing.
        let Some(zone) = change.zone().filter(|_| kind != ChangeKind::ZoneResolved) else { continue };
        if let Change::ZoneCreated { zone, .. } = change {
            db.prepare_cached("INSERT OR REPLACE INTO zone VALUES (?1, ?2, ?3, ?4, NULL)")?.execute((
                id(zone.id.0),
                zone.name.as_wire(),
                id(zone.tenant.0),
                revision.cast_signed(),
            ))?;
        }
        if let Change::ZoneDeleted { zone } = change {
            db.prepare_cached("UPDATE zone SET deleted = ?2 WHERE id = ?1")?
                .execute((id(zone.0), revision.cast_signed()))?;
        }
        let (puts, deletes) = counts(store, state, revision, zone, change);
        db.prepare_cached("INSERT OR REPLACE INTO touch VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
            id(zone.0),
            revision.cast_signed(),
            kind as u8,
            puts,
            deletes,
        ))?;
        if last_zone != Some(zone) {
            last_zone = Some(zone);
            zones += 1;
            let holder: Option<[u8; 16]> = db
                .prepare_cached("SELECT tenant FROM zone WHERE id = ?1")?
                .query_row((id(zone.0),), |row| row.get(0))
                .optional()?;
            concerned.extend(holder.map(|id| TenantId(u128::from_be_bytes(id))));
        }
    }
    add_envelope(db, &envelope, kinds, zones)?;
    concerned.sort_unstable();
    concerned.dedup();
    for tenant in concerned {
        db.prepare_cached("INSERT OR IGNORE INTO concern VALUES (?1, ?2)")?
            .execute((id(tenant.0), revision.cast_signed()))?;
    }
    Ok(())
}

fn know_monitor(db: &Connection, monitor: &Monitor) -> rusqlite::Result<usize> {
    db.prepare_cached("INSERT OR REPLACE INTO monitor VALUES (?1, ?2, ?3, NULL)")?.execute((
        monitor.id.0,
        id(monitor.tenant.0),
        &monitor.name,
    ))
}

fn monitor_tenant(db: &Connection, monitor: MonitorId) -> rusqlite::Result<Option<TenantId>> {
    let mut select = db.prepare_cached("SELECT tenant FROM monitor WHERE id = ?1")?;
    let tenant: Option<[u8; 16]> = select.query_row((monitor.0,), |row| row.get(0)).optional()?;
    Ok(tenant.map(|id| TenantId(u128::from_be_bytes(id))))
}

fn touch_monitor(
    db: &Transaction<'_>,
    revision: u64,
    monitor: MonitorId,
    verdict: Option<&VerdictChange>,
) -> Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO monitor_touch VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        monitor.0,
        revision.cast_signed(),
        verdict.map(|verdict| verdict.up),
        verdict.map(|verdict| verdict.cause.as_str()),
    ])?;
    Ok(())
}

fn touch_firewall(db: &Transaction<'_>, revision: u64, owner: Owner) -> Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO firewall_touch VALUES (?1, ?2)")?
        .execute((owner_key(owner), revision.cast_signed()))?;
    Ok(())
}

/// RRsets that a change of a zone puts and deletes.
fn counts(
    store: &dyn Store,
    state: &State,
    revision: u64,
    zone: ZoneId,
    change: &Change,
) -> (Option<i64>, Option<i64>) {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    match change {
        Change::ZoneEdited { difference, .. } | Change::ZoneSoaSet { difference, .. } => {
            (Some(number(difference.puts.len())), Some(number(difference.deletes.len())))
        }
        Change::ZoneCreated { content, .. } | Change::ZoneReplaced { content, .. } => {
            let count = match &content.staged {
                None => content.content.rrset_count(),
                // Most of the time the zone is still as this entry made it, and knows.
                Some(addresses) => match state.zone(zone).filter(|zone| zone.revision == revision) {
                    Some(zone) => zone.content.rrset_count(),
                    None => addresses.iter().map(|address| count_rrsets(store, address)).sum(),
                },
            };
            (Some(count.cast_signed()), None)
        }
        _ => (None, None),
    }
}

/// RRsets in a chunk of content, which is a row of keys and RRsets.
fn count_rrsets(store: &dyn Store, address: &[u8; 32]) -> u64 {
    let chunk = store.chunk(&herald_store::ChunkId::from_bytes(*address)).ok().flatten().unwrap_or_default();
    let mut rows = minicbor::Decoder::new(&chunk);
    let mut count = 0;
    while rows.position() < chunk.len() && rows.skip().is_ok() && rows.skip().is_ok() {
        count += 1;
    }
    count
}

// ---------------------------------------------------------------------------------------------- reading

impl Index {
    /// The last revision of which the time is not after this one; 0 if there is none.
    pub fn revision_at(&self, time_ms: u64) -> Result<u64> {
        // Times never decrease on the log, so it is found by halving.
        let (mut known, mut beyond) = (0, self.indexed()? + 1);
        while known + 1 < beyond {
            let middle = known + (beyond - known) / 2;
            match self.time_of(middle)? {
                Some(time) if time > time_ms => beyond = middle,
                _ => known = middle,
            }
        }
        Ok(known)
    }

    /// When an entry was appended.
    pub fn time_of(&self, revision: u64) -> Result<Option<u64>> {
        let mut select = self.db.prepare_cached("SELECT time_ms FROM entry WHERE revision = ?1")?;
        Ok(select.query_row((revision.cast_signed(),), |row| unsigned(row, 0)).optional()?)
    }

    /// A zone that is or was.
    pub fn known_zone(&self, zone: ZoneId) -> Result<Option<KnownZone>> {
        let mut select =
            self.db.prepare_cached("SELECT id, name, tenant, created, deleted FROM zone WHERE id = ?1")?;
        Ok(select.query_row((id(zone.0),), |row| known_zone(row, 0)).optional()?)
    }

    /// What touched a zone after a revision and up to another, in order.
    pub fn touches(&self, zone: ZoneId, after: u64, up_to: u64) -> Result<Vec<(u64, ChangeKind)>> {
        let mut select = self.db.prepare_cached(
            "SELECT revision, kind FROM touch WHERE zone = ?1 AND revision > ?2 AND revision <= ?3
             ORDER BY revision, kind",
        )?;
        let rows = select.query_map((id(zone.0), after.cast_signed(), up_to.cast_signed()), |row| {
            let kind = ChangeKind::from_number(row.get(1)?).ok_or(rusqlite::Error::InvalidQuery)?;
            Ok((unsigned(row, 0)?, kind))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether the SOA or the set of name servers of a zone was changed between two revisions.
    pub fn soa_was_set(&self, zone: ZoneId, after: u64, up_to: u64) -> Result<bool> {
        let mut select = self.db.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM touch WHERE zone = ?1 AND revision > ?2 AND revision <= ?3 AND kind = ?4)",
        )?;
        let kind = ChangeKind::ZoneSoaSet as u8;
        Ok(select
            .query_row((id(zone.0), after.cast_signed(), up_to.cast_signed(), kind), |row| row.get(0))?)
    }

    /// What was done to a zone, newest first.
    pub fn of_zone(
        &self,
        zone: ZoneId,
        after: u64,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ZoneRecord>> {
        // The kinds of one entry differ, so that their sum is their set.
        let mut select = self.db.prepare_cached(
            "SELECT entry.revision, time_ms, principal, message, sum(1 << kind), total(puts), total(deletes)
             FROM touch JOIN entry USING (revision) WHERE zone = ?1 AND revision > ?2 AND revision < ?3
             GROUP BY revision ORDER BY revision DESC LIMIT ?4",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = select.query_map((id(zone.0), after.cast_signed(), bound(before), limit), |row| {
            Ok(ZoneRecord {
                record: record(row)?,
                rrsets_put: count(row, 5)?,
                rrsets_deleted: count(row, 6)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What happened to a monitor, newest first.
    pub fn of_monitor(
        &self,
        monitor: MonitorId,
        after: u64,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<MonitorRecord>> {
        let mut select = self.db.prepare_cached(
            "SELECT entry.revision, time_ms, principal, message, kinds, up, cause, revision = deleted
             FROM monitor_touch JOIN entry USING (revision) JOIN monitor ON monitor.id = monitor
             WHERE monitor_touch.monitor = ?1 AND revision > ?2 AND revision < ?3 ORDER BY revision DESC LIMIT ?4",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = select.query_map((monitor.0, after.cast_signed(), bound(before), limit), |row| {
            let event = match row.get::<_, Option<bool>>(5)? {
                Some(up) => MonitorEvent::Verdict { up, cause: row.get(6)? },
                None if row.get::<_, Option<bool>>(7)?.unwrap_or_default() => MonitorEvent::Deleted,
                None => MonitorEvent::Put,
            };
            Ok(MonitorRecord { record: record(row)?, event })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A monitor that is or was.
    pub fn known_monitor(&self, monitor: MonitorId) -> Result<Option<KnownMonitor>> {
        let mut select =
            self.db.prepare_cached("SELECT id, tenant, name, deleted FROM monitor WHERE id = ?1")?;
        Ok(select.query_row((monitor.0,), |row| known_monitor(row, 0)).optional()?)
    }

    /// Verdicts of revisions after this one, oldest first, those of an entry together: no more than `limit` if these are all.
    pub fn verdicts(&self, after: u64, limit: usize) -> Result<Vec<VerdictRecord>> {
        let mut select = self.db.prepare_cached(
            "SELECT revision, time_ms, up, cause, monitor.id, tenant, name, deleted
             FROM monitor_touch INDEXED BY verdict JOIN entry USING (revision) JOIN monitor ON monitor.id = monitor
             WHERE up IS NOT NULL AND revision > ?1 AND revision <= coalesce(
                (SELECT revision FROM monitor_touch WHERE up IS NOT NULL AND revision > ?1 ORDER BY revision LIMIT 1 OFFSET ?2), ?3)
             ORDER BY revision, monitor.id",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = select.query_map((after.cast_signed(), limit, i64::MAX), |row| {
            Ok(VerdictRecord {
                revision: unsigned(row, 0)?,
                time_ms: unsigned(row, 1)?,
                up: row.get(2)?,
                cause: row.get(3)?,
                monitor: known_monitor(row, 4)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What was done to an owner's firewall, newest first.
    pub fn of_firewall(
        &self,
        owner: Owner,
        after: u64,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let mut select = self.db.prepare_cached(
            "SELECT entry.revision, time_ms, principal, message, kinds
             FROM firewall_touch JOIN entry USING (revision)
             WHERE owner = ?1 AND revision > ?2 AND revision < ?3 ORDER BY revision DESC LIMIT ?4",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = select.query_map((owner_key(owner), after.cast_signed(), bound(before), limit), record)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What touched an owner's firewall after a revision and up to another, in order.
    pub fn firewall_touches(&self, owner: Owner, after: u64, up_to: u64) -> Result<Vec<u64>> {
        let mut select = self.db.prepare_cached(
            "SELECT revision FROM firewall_touch WHERE owner = ?1 AND revision > ?2 AND revision <= ?3
             ORDER BY revision",
        )?;
        let rows = select.query_map((owner_key(owner), after.cast_signed(), up_to.cast_signed()), |row| {
            unsigned(row, 0)
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What was done at all, newest first.
    pub fn changes(&self, filter: &ChangesFilter) -> Result<Changes> {
        let from = match filter {
            ChangesFilter { zone: Some(_), .. } => {
                "(SELECT DISTINCT revision FROM touch WHERE zone = ?3) JOIN entry USING (revision)"
            }
            ChangesFilter { token: Some(_), .. } => "entry INDEXED BY entry_token",
            ChangesFilter { tenant: Some(_), .. } => {
                "(SELECT revision FROM concern WHERE tenant = ?4) JOIN entry USING (revision)"
            }
            _ => "entry",
        };
        let mut select = self.db.prepare_cached(&format!(
            "SELECT revision, time_ms, principal, message, kinds, zones FROM {from}
             WHERE revision > ?1 AND revision < ?2
               AND (?3 IS NULL OR EXISTS (SELECT 1 FROM touch t WHERE t.zone = ?3 AND t.revision = entry.revision))
               AND (?4 IS NULL OR EXISTS
                    (SELECT 1 FROM concern c WHERE c.tenant = ?4 AND c.revision = entry.revision))
               AND (?5 IS NULL OR token = ?5)
             ORDER BY revision DESC LIMIT ?6",
        ))?;
        let looked_at = filter.limit.min(LOOKED_AT_MAX);
        let rows = select.query_map(
            params![
                filter.after.cast_signed(),
                bound(filter.before),
                filter.zone.map(|zone| id(zone.0)),
                filter.tenant.map(|tenant| id(tenant.0)),
                filter.token.map(|token| id(token.0)),
                i64::try_from(looked_at).unwrap_or(i64::MAX),
            ],
            |row| Ok((record(row)?, count(row, 5)?)),
        )?;
        let records: Vec<(Record, u64)> = rows.collect::<rusqlite::Result<_>>()?;
        let is_full = records.len() == looked_at;
        let more_before = records.last().map(|(record, _)| record.revision).filter(|_| is_full);
        let mut items = Vec::with_capacity(records.len());
        for (record, zones) in records {
            let (touched, zones) = self.touched(record.revision, zones, filter.tenant)?;
            items.push((record, touched, zones));
        }
        Ok(Changes { items, more_before })
    }

    /// Zones that an entry touched, of one tenant or all: some if there are many, and how many.
    fn touched(
        &self,
        revision: u64,
        zones: u64,
        tenant: Option<TenantId>,
    ) -> Result<(Vec<TouchedZone>, u64)> {
        if zones == 0 {
            return Ok((Vec::new(), 0));
        }
        let mut select = self.db.prepare_cached(
            "SELECT id, name, tenant, created, deleted, sum(1 << kind)
             FROM touch JOIN zone ON zone.id = touch.zone
             WHERE revision = ?1 AND (?2 IS NULL OR tenant = ?2) GROUP BY zone.id LIMIT ?3",
        )?;
        let tenant = tenant.map(|tenant| id(tenant.0));
        let limit = i64::try_from(ZONES_NAMED).unwrap_or(i64::MAX);
        let rows = select.query_map(params![revision.cast_signed(), tenant, limit], |row| {
            Ok(TouchedZone { zone: known_zone(row, 0)?, kinds: Kinds(unsigned(row, 5)?) })
        })?;
        let touched: Vec<TouchedZone> = rows.collect::<rusqlite::Result<_>>()?;
        let count = match (touched.len(), tenant) {
            (ZONES_NAMED, None) => zones,
            (ZONES_NAMED, Some(_)) => self
                .db
                .prepare_cached(
                    "SELECT count(DISTINCT zone) FROM touch JOIN zone ON zone.id = touch.zone
                     WHERE revision = ?1 AND tenant = ?2",
                )?
                .query_row(params![revision.cast_signed(), tenant], |row| unsigned(row, 0))?,
            (few, _) => few as u64,
        };
        Ok((touched, count))
    }
}

/// The columns revision, time_ms, principal, message, kinds.
fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let principal: Vec<u8> = row.get(2)?;
    Ok(Record {
        revision: unsigned(row, 0)?,
        time_ms: unsigned(row, 1)?,
        principal: minicbor::decode(&principal).map_err(|_| rusqlite::Error::InvalidQuery)?,
        message: row.get(3)?,
        kinds: Kinds(unsigned(row, 4)?),
    })
}

fn known_zone(row: &Row<'_>, first: usize) -> rusqlite::Result<KnownZone> {
    let name: Vec<u8> = row.get(first + 1)?;
    Ok(KnownZone {
        id: ZoneId(u128::from_be_bytes(row.get(first)?)),
        name: Name::from_wire(&name).map_err(|_| rusqlite::Error::InvalidQuery)?,
        tenant: TenantId(u128::from_be_bytes(row.get(first + 2)?)),
        created: unsigned(row, first + 3)?,
        deleted: row.get::<_, Option<i64>>(first + 4)?.map(i64::cast_unsigned),
    })
}

fn known_monitor(row: &Row<'_>, first: usize) -> rusqlite::Result<KnownMonitor> {
    Ok(KnownMonitor {
        id: MonitorId(row.get(first)?),
        tenant: TenantId(u128::from_be_bytes(row.get(first + 1)?)),
        name: row.get(first + 2)?,
        deleted: row.get::<_, Option<i64>>(first + 3)?.map(i64::cast_unsigned),
    })
}

fn owner_key(owner: Owner) -> Vec<u8> {
    match owner {
        Owner::Fleet => Vec::new(),
        Owner::Tenant(tenant) => id(tenant.0).to_vec(),
    }
}

/// Ids as SQLite orders them: big-endian.
fn id(id: u128) -> [u8; 16] {
    id.to_be_bytes()
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

/// A sum, which SQLite may give as a floating-point number.
fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of RRsets")]
    row.get(column).map(|count: f64| count as u64)
}

fn bound(before: Option<u64>) -> i64 {
    before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX))
}
