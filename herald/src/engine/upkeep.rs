//! What keeps the store from growing for ever: payloads that fell out of the kept past are erased, and chunks that nobody
//! names are deleted.
//!
//! Each step leaves a store that is whole, whenever it is stopped: first the state at the horizon is made durable as the base, then
//! payloads before it are erased, in order and in parts, and at last chunks go that no entry, checkpoint or base names.
//! The next compaction does what was left undone.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herald_core::Generation;
use herald_core::ZoneId;
use herald_core::change::{Bulk, Change, ChunkAddress};
use herald_core::firewall::Firewall;
use herald_core::history::ZoneFold;
use herald_core::log;
use herald_core::state::{At, State};
use herald_core::zone::Zone;
use herald_store::{
    AppendError, BaseError, Checkpoint, CheckpointError, ChunkError, ChunkId, Entry, Limits, Store,
    StoreError,
};

use super::recover::{
    READ_BYTES, READ_ENTRIES, RecoverError, StoreChunks, load_state, open_entry, write_state,
};

/// Version of bases that is written.
const BASE_VERSION: u8 = 1;

/// Payloads of so many entries are erased in one transaction.
const ERASED_AT_ONCE: usize = if cfg!(test) { 7 } else { 1000 };

/// What compaction and checkpoints share.
#[derive(Default)]
pub struct Upkeep {
    /// Chunks that were put since the start: a command that is on its way may name them.
    put: Mutex<HashSet<ChunkId>>,
    /// Held by who replaces checkpoint or base and deletes their chunks.
    replacing: Mutex<()>,
}

impl Upkeep {
    pub(super) fn replacing(&self) -> MutexGuard<'_, ()> {
        self.replacing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chunks that were put, and that nobody will name any more.
    pub(super) fn forget(&self, gone: &[ChunkAddress]) {
        let mut put = self.put();
        gone.iter().for_each(|address| _ = put.remove(&ChunkId::from_bytes(*address)));
    }

    fn put(&self) -> MutexGuard<'_, HashSet<ChunkId>> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a compaction did not come to its end; the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The log or the base can't be read.
    #[error(transparent)]
    Read(#[from] RecoverError),
    /// The base can't be written.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The base can't be set.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// The revision from which on the past is kept; 0 if all of it is.
    pub horizon: u64,
    /// Chunks that were deleted.
    pub chunks_deleted: u64,
}

/// Makes `horizon` the revision from which the past is kept, or the checkpoint's if that is earlier, and erases what is
/// before it. `now` is the present state: what the one at the horizon has in common with it is not in memory twice.
pub(super) fn compact(
    store: &dyn Store,
    upkeep: &Upkeep,
    now: &State,
    horizon: u64,
) -> Result<Compacted, CompactError> {
    let before = store.base()?;
    let kept_from = before.as_ref().map_or(0, |base| base.revision);
    let checkpoint = store.checkpoint()?.map_or(0, |checkpoint| checkpoint.revision);
    let horizon = horizon.min(checkpoint).max(kept_from);
    if horizon > kept_from {
        replace_base(store, upkeep, now, before, horizon)?;
    }
    if horizon > 0 {
        let mut after = erased_up_to(store, horizon)?;
        while let Some(reached) = store.erase_payloads(after, ERASED_AT_ONCE)? {
            after = reached;
        }
    }
    let chunks_deleted = collect_orphans(store, upkeep, now, horizon)?;
    Ok(Compacted { horizon, chunks_deleted })
}

/// The state at the horizon, folded from the base before it, becomes the base.
fn replace_base(
    store: &dyn Store,
    upkeep: &Upkeep,
    now: &State,
    before: Option<Checkpoint>,
    horizon: u64,
) -> Result<(), CompactError> {
    let (mut state, mut hash) = match &before {
        Some(base) => (load_state(store, base, Some(now))?, base_meta(base)?.0),
        None => (State::default(), log::GENESIS),
    };
    while state.revision() < horizon {
        let left = usize::try_from(horizon - state.revision()).unwrap_or(usize::MAX);
        let entries = store.read(state.revision(), READ_ENTRIES.min(left), READ_BYTES)?;
        if entries.is_empty() {
            let what = format!("the log ends before revision {horizon}");
            return Err(StoreError::Damaged { what }.into());
        }
        for entry in entries {
            let (envelope, changes, entry_hash) =
                open_entry(store, &hash, &entry).map_err(RecoverError::Log)?;
            changes.iter().for_each(|change| state.apply(envelope.at(), change));
            let zones: BTreeSet<ZoneId> = changes.iter().filter_map(Change::zone).collect();
            state.share_zones(now, zones);
            hash = entry_hash;
        }
    }
    let _replacing = upkeep.replacing();
    let written = write_state(store, &state)?;
    let meta = [BASE_VERSION].into_iter().chain(hash);
    let meta = meta.chain(written.first_zones.iter().flat_map(|zone| zone.0.to_be_bytes())).collect();
    let base = Checkpoint { revision: horizon, chunks: written.chunks, meta };
    store.set_base(&base)?;
    drop_chunks_of(store, before.as_ref())?;
    Ok(())
}

/// Deletes the chunks of a checkpoint or base that was replaced, but for those that the present ones have too. Nobody else can
/// have them: those of entries begin with other bytes.
pub(super) fn drop_chunks_of(store: &dyn Store, replaced: Option<&Checkpoint>) -> Result<u64, StoreError> {
    let Some(replaced) = replaced else { return Ok(0) };
    let present = [store.checkpoint()?, store.base()?];
    let present: HashSet<ChunkId> = present.into_iter().flatten().flat_map(|point| point.chunks).collect();
    let gone: HashSet<ChunkId> =
        replaced.chunks.iter().filter(|id| !present.contains(*id)).copied().collect();
    store.collect_chunks(&|id| !gone.contains(id))
}

/// Up to where payloads are erased: they are in order, so that it is found by halving.
fn erased_up_to(store: &dyn Store, horizon: u64) -> Result<u64, StoreError> {
    let (mut erased, mut kept) = (0, horizon + 1);
    while erased + 1 < kept {
        let middle = erased + (kept - erased) / 2;
        let entry = store.read(middle - 1, 1, 0)?.into_iter().next();
        match entry.is_some_and(|entry| entry.payload.is_empty()) {
            true => erased = middle,
            false => kept = middle,
        }
    }
    Ok(erased)
}

/// Deletes chunks that nobody names: of erased entries, of commands that were refused, of what a crash interrupted. Of the tables of
/// places that entries name, only the present one is ever read.
fn collect_orphans(
    store: &dyn Store,
    upkeep: &Upkeep,
    now: &State,
    horizon: u64,
) -> Result<u64, CompactError> {
    let mut orphans: HashSet<ChunkId> = HashSet::new();
    {
        let _replacing = upkeep.replacing();
        let found = Mutex::new(&mut orphans);
        store.collect_chunks(&|id| {
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(*id);
            true
        })?;
    }
    let base = store.base()?;
    let then = base.map_or_else(|| Ok(Firewall::default()), |base| firewall_of_base(store, &base))?;
    let is_named = |orphans: &mut HashSet<ChunkId>| -> Result<(), StoreError> {
        for point in [store.checkpoint()?, store.base()?].into_iter().flatten() {
            point.chunks.iter().for_each(|id| _ = orphans.remove(id));
        }
        upkeep.put().iter().for_each(|id| _ = orphans.remove(id));
        let table = now.geoip().map_or(&[][..], |table| &table.chunks);
        let policies = [now.firewall(), &then].into_iter().flat_map(Firewall::zones);
        let policies = policies.flat_map(|zone| &zone.chunks);
        table.iter().chain(policies).for_each(|address| _ = orphans.remove(&ChunkId::from_bytes(*address)));
        Ok(())
    };
    is_named(&mut orphans)?;
    // An entry that is appended from here on names what was put since the start, and so do all that are being decided.
    let (mut after, head) = (horizon, store.head()?);
    while after < head && !orphans.is_empty() {
        let entries = store.read(after, READ_ENTRIES, READ_BYTES)?;
        let Some(last) = entries.last().map(|entry| entry.revision) else { break };
        for entry in &entries {
            for address in addresses_of(store, entry)? {
                orphans.remove(&ChunkId::from_bytes(address));
            }
        }
        after = last;
    }
    if orphans.is_empty() {
        return Ok(0);
    }
    let _replacing = upkeep.replacing();
    is_named(&mut orphans)?;
    // Asked once more under the store's own lock, for what was put this moment.
    Ok(store.collect_chunks(&|id| !orphans.contains(id) || upkeep.put().contains(id))?)
}

/// All chunks that an entry names.
fn addresses_of(store: &dyn Store, entry: &Entry) -> Result<Vec<ChunkAddress>, CompactError> {
    if entry.payload.is_empty() {
        return Ok(Vec::new());
    }
    let revision = entry.revision;
    let malformed = |source| RecoverError::Log(log::LogError::Malformed { revision, source });
    let mut addresses: Vec<ChunkAddress> = log::payload_addresses(&entry.payload).collect();
    for change in log::decode_outline(&entry.payload, &StoreChunks(store)).map_err(malformed)? {
        match change {
            Change::ZoneCreated { content: Bulk { staged: Some(staged), .. }, .. }
            | Change::ZoneReplaced { content: Bulk { staged: Some(staged), .. }, .. } => {
                addresses.extend(staged)
            }
            // One of them may be wanted back.
            Change::PolicyZonePut(zone) => addresses.extend(zone.chunks),
            _ => {}
        }
    }
    Ok(addresses)
}

// ----------------------------------------------------------------------------------------------- the base

/// The state at the base, and the hash of the last envelope that is folded in.
///
/// # Errors
/// [`RecoverError::Checkpoint`] if it can't be read.
pub fn load_base(store: &dyn Store, base: &Checkpoint) -> Result<(State, [u8; 32]), RecoverError> {
    let (hash, _) = base_meta(base)?;
    Ok((load_state(store, base, None)?, hash))
}

/// One zone of the base, without reading the others.
///
/// # Errors
/// As [`load_base`].
pub fn zone_of_base(
    store: &dyn Store,
    base: &Checkpoint,
    id: ZoneId,
) -> Result<Option<Arc<Zone>>, RecoverError> {
    let (_, first_zones) = base_meta(base)?;
    // The last chunk that begins before the zone has its begin; those after it may have the rest.
    let begin = first_zones.partition_point(|first| *first < id).saturating_sub(1);
    let mut fold = ZoneFold::new(id);
    let at = At { generation: Generation::default(), time_ms: 0 };
    for (chunk, first) in base.chunks.iter().zip(first_zones).skip(begin) {
        if first > id {
            break;
        }
        super::recover::for_each_change(store, chunk, |change| fold.apply(at, change))?;
    }
    Ok(fold.zone())
}

/// The firewall of the base.
///
/// # Errors
/// As [`load_base`].
pub fn firewall_of_base(store: &dyn Store, base: &Checkpoint) -> Result<Firewall, RecoverError> {
    let (_, first_zones) = base_meta(base)?;
    // It comes after all zones: the last chunk that has one may have some of it.
    let begin = first_zones.iter().rposition(|first| *first != ZoneId(u128::MAX)).unwrap_or(0);
    let mut firewall = Firewall::default();
    for chunk in &base.chunks[begin..] {
        super::recover::for_each_change(store, chunk, |change| firewall.apply(base.revision, change))?;
    }
    Ok(firewall)
}

/// What the base is a fold of, but for records of zones.
///
/// # Errors
/// As [`load_base`].
pub fn for_each_change_of_base(
    store: &dyn Store,
    base: &Checkpoint,
    mut found: impl FnMut(&Change),
) -> Result<(), RecoverError> {
    for chunk in &base.chunks {
        super::recover::for_each_change(store, chunk, |change| {
            if !matches!(change, Change::ContentRestored { .. }) {
                found(change);
            }
        })?;
    }
    Ok(())
}

fn base_meta(base: &Checkpoint) -> Result<([u8; 32], Vec<ZoneId>), RecoverError> {
    let broken = |what: &str| RecoverError::Checkpoint(format!("the base: {what}"));
    let rest = match base.meta.split_first() {
        Some((&BASE_VERSION, rest)) => rest,
        Some((version, _)) => {
            return Err(broken(&format!("it has version {version}, and this program knows {BASE_VERSION}")));
        }
        None => return Err(broken("it is empty")),
    };
    let (hash, index) = rest.split_first_chunk().ok_or_else(|| broken("its hash is cut short"))?;
    let (index, left) = index.as_chunks::<16>();
    if index.len() != base.chunks.len() || !left.is_empty() {
        return Err(broken("its index is not that of its chunks"));
    }
    Ok((*hash, index.iter().map(|zone| ZoneId(u128::from_be_bytes(*zone))).collect()))
}

// -------------------------------------------------------------------------------------------- the store

/// The store as the engine and all who stage content use it: what is put is remembered *before* it is put, so that it is
/// not taken for an orphan.
pub(super) struct Remembering {
    pub store: Arc<dyn Store>,
    pub upkeep: Arc<Upkeep>,
}

impl Store for Remembering {
    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn head(&self) -> Result<u64, StoreError> {
        self.store.head()
    }

    fn append(&self, expected_head: u64, entries: &[Entry]) -> Result<(), AppendError> {
        self.store.append(expected_head, entries)
    }

    fn read(&self, after: u64, entries_max: usize, bytes_max: usize) -> Result<Vec<Entry>, StoreError> {
        self.store.read(after, entries_max, bytes_max)
    }

    fn put_chunks(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>, ChunkError> {
        self.upkeep.put().extend(chunks.iter().map(|chunk| ChunkId::of(chunk)));
        self.store.put_chunks(chunks)
    }

    fn chunk(&self, id: &ChunkId) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.chunk(id)
    }

    fn collect_chunks(&self, keep: &dyn Fn(&ChunkId) -> bool) -> Result<u64, StoreError> {
        self.store.collect_chunks(keep)
    }

    fn set_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.store.set_checkpoint(checkpoint)
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.store.checkpoint()
    }

    fn set_base(&self, base: &Checkpoint) -> Result<(), BaseError> {
        self.store.set_base(base)
    }

    fn base(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.store.base()
    }

    fn erase_payloads(&self, after: u64, entries_max: usize) -> Result<Option<u64>, StoreError> {
        self.store.erase_payloads(after, entries_max)
    }
}
