//! Rebuilds knotd's files from the replica: a file for each zone, and the catalogs that list them.
//!
//! Beside them, from the same reading of each zone, the module's snapshot is written: what it starts with.
//!
//! knotd starts from these files alone, and what they say is as old as they are. So they are written anew before every
//! start: by the agent, or by `koder-dns-sync materialize` where somebody else starts knotd.
//!
//! What can't be read is never taken for nothing: if the replica as a whole is damaged, or is still being filled and
//! has fewer zones than the files, the files stay as they are, and knotd answers what it last answered at a start.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use herald_core::firewall::FirewallPart;
use herald_core::{Name, ZoneId};

use crate::files::keeper;
use crate::knot::catalog;
use crate::knot::config::{KnotConfig, zone_file_name};
use crate::knot::driver::NO_MODULE;
use crate::knot::zonefile::ZoneWriter;
use crate::module::snapshot::SnapshotWriter;
use crate::replica::{ReadZoneError, Reader, ReplicaError, ZoneRow};

/// How many zones are written at the same time.
const THREADS: usize = 2;

/// How much is gathered before a write to a file.
const BUFFER_BYTES: usize = 256 * 1024;

/// The catalogs' serial in their files. It only has to be there: the agent reads it and counts on.
const CATALOG_SERIAL: u32 = 1;

const LOCK: &str = "materialize.lock";

/// What came of it.
#[derive(Debug)]
pub enum Materialized {
    /// All files are written.
    Written(Written),
    /// The files were left as they are: knotd starts with what it had at its last start.
    LeftAlone {
        /// Why, in words.
        reason: String,
    },
}

/// What the files hold.
#[derive(Debug, Default)]
pub struct Written {
    /// The zones that knotd has, with the serials of their SOAs.
    pub zones: Vec<(Name, u32)>,
    /// Private zones, which the module alone has.
    pub private_zones: u64,
    /// Records in all zones.
    pub records: u64,
    /// The wrapping sum of the zones' content digests.
    pub digest: u128,
    /// Zones that are damaged in the replica and were left out.
    pub damaged: Vec<ZoneId>,
    /// Zones with steering, which were left out since there is no module.
    pub refused: Vec<Name>,
    /// Zones whose row is damaged, so that it isn't known which they are.
    pub damaged_rows: u64,
}

/// Why knotd has no files to start from.
#[derive(Debug, thiserror::Error)]
pub enum MaterializeError {
    /// Another process is at it.
    #[error("another process is writing the files in {} right now", dir.display())]
    Busy {
        /// Directory of the lock.
        dir: PathBuf,
    },
    /// The replica can't be read, and there are no files of an earlier time.
    #[error("the replica can't be read, and there are no files of an earlier start: {0}")]
    NoReplica(String),
    /// The replica can't be read, and the files of an earlier time are for a knotd with the module.
    #[error("the replica can't be read, the files of the last start need the module, and {NO_MODULE}: {0}")]
    ForModule(String),
    /// The replica failed while it was read; the catalogs were not written.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A file could not be written.
    #[error("{} can't be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes all files. `data` holds the lock that keeps two from doing so at once.
///
/// # Errors
/// [`MaterializeError`]; the catalogs' files are then as they were.
pub fn materialize(data: &Path, replica: &Path, knot: &KnotConfig) -> Result<Materialized, MaterializeError> {
    let _lock = lock(data)?;
    let reader = match Reader::open(replica) {
        Ok(reader) => reader,
        Err(error) => return leave_alone(knot, with_causes(&error)),
    };
    let (zones, damaged_rows) = match reader.zones() {
        Ok(zones) => zones,
        Err(error) => return leave_alone(knot, error.to_string()),
    };
    let in_files = || members_in_files(knot).len();
    let for_knot = zones.iter().filter(|zone| !zone.is_private).count();
    let is_complete = match reader.is_complete() {
        Ok(is_complete) => is_complete,
        Err(error) => return leave_alone(knot, error.to_string()),
    };
    if !is_complete && for_knot < in_files() {
        let reason = format!("it is still being filled, and has {for_knot} zones of {}", in_files());
        return leave_alone(knot, reason);
    }

    let failed = |source| MaterializeError::Write { path: knot.module_snapshot(), source };
    let snapshot = knot.module.is_some().then(|| begin_snapshot(&knot.module_snapshot(), data));
    let snapshot = Mutex::new(snapshot.transpose().map_err(failed)?);
    let mut written = write_zones(replica, knot, zones, &snapshot)?;
    written.damaged_rows = damaged_rows;
    if written.zones.is_empty() && (damaged_rows > 0 || !written.damaged.is_empty()) && in_files() > 0 {
        return leave_alone(knot, "every zone in it is damaged".into());
    }
    match snapshot.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(snapshot) => snapshot.finish().map_err(failed)?,
        // So that it is known that no file needs it.
        None => remove_snapshot(knot).map_err(failed)?,
    }
    written.zones.sort_unstable();
    write_catalogs(knot, written.zones.iter().map(|(name, _)| name))?;
    remove_others(knot, &written.zones);
    Ok(Materialized::Written(written))
}

fn lock(data: &Path) -> Result<File, MaterializeError> {
    let path = data.join(LOCK);
    let failed = |source| MaterializeError::Write { path: path.clone(), source };
    fs::create_dir_all(data).map_err(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(MaterializeError::Busy { dir: data.into() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The firewall and the table of places come first: where they are told of, no name is answered without them.
fn begin_snapshot(path: &Path, data: &Path) -> io::Result<SnapshotWriter> {
    let mut snapshot = SnapshotWriter::create(path)?;
    if let Some(table) = keeper::in_use(&keeper::dir(data)) {
        snapshot.message(&table.message(None))?;
    }
    for part in FirewallPart::ALL {
        if let Some(file) = keeper::in_use(&keeper::firewall_dir(data, part)) {
            snapshot.message(&file.message(Some(part)))?;
        }
    }
    Ok(snapshot)
}

fn remove_snapshot(knot: &KnotConfig) -> io::Result<()> {
    match fs::remove_file(knot.module_snapshot()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn leave_alone(knot: &KnotConfig, reason: String) -> Result<Materialized, MaterializeError> {
    let files = catalog_files(knot);
    if files.is_empty() {
        return Err(MaterializeError::NoReplica(reason));
    }
    // They hold placeholders, which nobody would take out again.
    if knot.module.is_none() && knot.module_snapshot().exists() {
        return Err(MaterializeError::ForModule(reason));
    }
    // With another number of catalogs than they were written for, knotd would miss some and refuse queries.
    let mut wanted: Vec<PathBuf> = (0..knot.catalogs().names().len())
        .map(|index| knot.catalog_dir().join(catalog::file_name(index)))
        .collect();
    wanted.sort_unstable();
    if files != wanted {
        write_catalogs(knot, &members_in_files(knot))?;
    }
    Ok(Materialized::LeftAlone { reason })
}

/// The files that list what knotd was last started with, of however many catalogs.
fn catalog_files(knot: &KnotConfig) -> Vec<PathBuf> {
    let mut files = catalog::files_in(&knot.catalog_dir());
    files.sort_unstable();
    let old = knot.old_catalog_file();
    if files.is_empty() && old.exists() {
        files.push(old);
    }
    files
}

/// The zones that knotd was last started with, as far as that can be read.
fn members_in_files(knot: &KnotConfig) -> BTreeSet<Name> {
    catalog_files(knot).iter().flat_map(|path| catalog::members_in_file(path).unwrap_or_default()).collect()
}

fn write_catalogs<'a>(
    knot: &KnotConfig,
    members: impl IntoIterator<Item = &'a Name>,
) -> Result<(), MaterializeError> {
    let dir = knot.catalog_dir();
    let written = fs::create_dir_all(&dir)
        .and_then(|()| catalog::write_files(&dir, &knot.catalogs(), CATALOG_SERIAL, members));
    written.map_err(|source| MaterializeError::Write { path: dir, source })?;
    let _ = fs::remove_file(knot.old_catalog_file());
    Ok(())
}

/// Writes the zones' files in some threads, the largest zones first.
fn write_zones(
    replica: &Path,
    knot: &KnotConfig,
    mut zones: Vec<ZoneRow>,
    snapshot: &Mutex<Option<SnapshotWriter>>,
) -> Result<Written, MaterializeError> {
    leave_out_shared_files(&mut zones);
    zones.sort_by_key(|zone| std::cmp::Reverse(zone.rrset_count));
    let next = AtomicUsize::new(0);
    let work = || {
        let reader = Reader::open(replica).map_err(|error| ReplicaError::Failed(with_causes(&error)))?;
        let mut written = Written::default();
        while let Some(zone) = zones.get(next.fetch_add(1, Ordering::Relaxed)) {
            match zone.is_private {
                true => written.write_private_zone(&reader, knot, zone.id, snapshot)?,
                false => written.write_zone(&reader, knot, zone.id, snapshot)?,
            }
        }
        Ok::<Written, MaterializeError>(written)
    };
    let parts = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it doesn't panic")).collect::<Vec<_>>()
    });
    let mut all = Written::default();
    for part in parts {
        let part = part?;
        all.zones.extend(part.zones);
        all.private_zones += part.private_zones;
        all.records += part.records;
        all.digest = all.digest.wrapping_add(part.digest);
        all.damaged.extend(part.damaged);
        all.refused.extend(part.refused);
    }
    Ok(all)
}

/// knotd writes `_` for `/` in file names, so that two zones can have the same file: only the older one is served then.
fn leave_out_shared_files(zones: &mut Vec<ZoneRow>) {
    zones.sort_by_key(|zone| zone.id);
    let mut taken = HashSet::new();
    zones.retain(|zone| {
        let is_free = zone.is_private || taken.insert(zone_file_name(&zone.name));
        if !is_free {
            tracing::error!("the zone {} is left out: its file is another zone's", zone.name);
        }
        is_free
    });
}

impl Written {
    fn write_zone(
        &mut self,
        reader: &Reader,
        knot: &KnotConfig,
        id: ZoneId,
        snapshot: &Mutex<Option<SnapshotWriter>>,
    ) -> Result<(), MaterializeError> {
        // A name of its own: the agent may be writing the file of this zone, too.
        let temporary = knot.zone_dir().join(format!("{id}.new"));
        let failed = |source| MaterializeError::Write { path: temporary.clone(), source };
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&temporary).map_err(failed)?);
        let mut writer = ZoneWriter::new(&mut out);
        match reader.zone_and_rrsets(id, None, |read| writer.take(read)) {
            Ok(zone) => {
                let steering = writer.finish().steering.filter(|whole| whole.steering_rrsets > 0);
                out.flush().map_err(failed)?;
                let mut snapshot = snapshot.lock().unwrap_or_else(PoisonError::into_inner);
                match (steering, &mut *snapshot) {
                    (Some(_), None) => {
                        tracing::error!("the zone {} has steering and is left out: {NO_MODULE}", zone.name);
                        self.refused.push(zone.name);
                        return fs::remove_file(&temporary).map_err(failed);
                    }
                    (Some(whole), Some(snapshot)) => {
                        let path = knot.module_snapshot();
                        let failed = |source| MaterializeError::Write { path, source };
                        snapshot.frames(&whole.frames).map_err(failed)?;
                    }
                    (None, _) => {}
                }
                drop(snapshot);
                let path = knot.zone_dir().join(zone_file_name(&zone.name));
                fs::rename(&temporary, path).map_err(failed)?;
                self.zones.push((zone.name, zone.serial));
                self.records += zone.record_count;
                self.digest = self.digest.wrapping_add(zone.digest);
                return Ok(());
            }
            Err(error) => self.unreadable(id, error, &temporary)?,
        }
        fs::remove_file(&temporary).map_err(failed)
    }

    /// The module alone gets a private zone: neither a file nor a catalog tells knotd of it.
    fn write_private_zone(
        &mut self,
        reader: &Reader,
        knot: &KnotConfig,
        id: ZoneId,
        snapshot: &Mutex<Option<SnapshotWriter>>,
    ) -> Result<(), MaterializeError> {
        let mut nowhere = io::sink();
        let mut writer = ZoneWriter::new(&mut nowhere);
        let path = knot.module_snapshot();
        let zone = match reader.zone_and_rrsets(id, None, |read| writer.take(read)) {
            Ok(zone) => zone,
            Err(error) => return self.unreadable(id, error, &path),
        };
        let Some(whole) = writer.finish().steering.filter(|whole| whole.steering_rrsets > 0) else {
            // Nobody is inside.
            return Ok(());
        };
        match &mut *snapshot.lock().unwrap_or_else(PoisonError::into_inner) {
            None => {
                tracing::error!("the private zone {} is left out: {NO_MODULE}", zone.name);
                self.refused.push(zone.name);
            }
            Some(snapshot) => {
                let failed = |source| MaterializeError::Write { path, source };
                snapshot.frames(&whole.frames).map_err(failed)?;
                self.private_zones += 1;
                self.records += zone.record_count;
                self.digest = self.digest.wrapping_add(zone.digest);
            }
        }
        Ok(())
    }

    /// A zone that can't be read is left out, unless nothing can.
    fn unreadable(&mut self, id: ZoneId, error: ReadZoneError, out: &Path) -> Result<(), MaterializeError> {
        match error {
            ReadZoneError::Gone => Ok(()),
            ReadZoneError::Damaged(what) => {
                tracing::error!("the zone {id} is damaged in the replica and is left out: {what}");
                self.damaged.push(id);
                Ok(())
            }
            ReadZoneError::Replica(error) => Err(error.into()),
            ReadZoneError::Write(source) => Err(MaterializeError::Write { path: out.into(), source }),
        }
    }
}

/// Removes the files of zones that are not served any more, and what was left half written. What can't be
/// removed does no harm.
fn remove_others(knot: &KnotConfig, zones: &[(Name, u32)]) {
    let Ok(files) = fs::read_dir(knot.zone_dir()) else { return };
    let keep: HashSet<String> = zones.iter().map(|(name, _)| zone_file_name(name)).collect();
    for file in files.flatten() {
        if file.file_name().to_str().is_none_or(|name| !keep.contains(name)) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// An error with all of its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        source = cause.source();
    }
    out
}
