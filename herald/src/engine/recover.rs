//! From the log back to the state, and checkpoints, so that this is quick whatever the log's length.
//!
//! A checkpoint is a row of changes whose fold is the state, in content-addressed chunks, and the hash of the
//! last envelope, so that the chain goes on from there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use herald_core::change::{Change, ChunkAddress, Chunks};
use herald_core::log;
use herald_core::state::{At, State};
use herald_core::zone::Zone;
use herald_core::{Generation, ZoneId};
use herald_store::{Checkpoint, ChunkId, Entry, Store, StoreError};

use super::SubmitError;
use super::upkeep::{Upkeep, drop_chunks_of, load_base};

/// Version of checkpoints that is written.
const CHECKPOINT_VERSION: u8 = 1;

/// How much of the log is read at once, in entries and bytes.
pub(super) const READ_ENTRIES: usize = 4096;
pub(super) const READ_BYTES: usize = 8 * 1024 * 1024;

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store can't be read.
    #[error("the store can't be read: {0}")]
    Store(#[from] StoreError),
    /// An entry is damaged, or from a newer version, or the chain breaks.
    #[error(transparent)]
    Log(#[from] log::LogError),
    /// The checkpoint is damaged or from a newer version.
    #[error("the checkpoint can't be used: {0}")]
    Checkpoint(String),
    /// The new epoch could not be written.
    #[error("a new epoch can't be begun: {0}")]
    BeginEpoch(SubmitError),
    /// The writer's thread could not be started.
    #[error("a thread can't be started: {0}")]
    Thread(std::io::Error),
}

pub(super) struct Recovered {
    pub state: State,
    /// Hash of the last envelope.
    pub hash: [u8; 32],
    pub bytes_since_checkpoint: u64,
}

/// Loads the latest checkpoint and folds the rest of the log onto it, verifying the chain.
pub(super) fn recover(store: &dyn Store) -> Result<Recovered, RecoverError> {
    let (mut state, mut hash) = match (store.checkpoint()?, store.base()?) {
        (Some(checkpoint), _) => load_checkpoint(store, &checkpoint)?,
        (None, Some(base)) => load_base(store, &base)?,
        (None, None) => (State::default(), log::GENESIS),
    };
    let mut bytes_since_checkpoint = 0;
    loop {
        let entries = store.read(state.revision(), READ_ENTRIES, READ_BYTES)?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            bytes_since_checkpoint += (entry.envelope.len() + entry.payload.len()) as u64;
            let (envelope, changes, entry_hash) = open_entry(store, &hash, &entry)?;
            for change in &changes {
                state.apply(envelope.at(), change);
            }
            hash = entry_hash;
        }
    }
    Ok(Recovered { state, hash, bytes_since_checkpoint })
}

/// Opens an entry: its envelope, its changes, and the hash that the next one names.
///
/// # Errors
/// If it is damaged or does not follow the envelope with `previous_hash`.
pub fn open_entry(
    store: &dyn Store,
    previous_hash: &[u8; 32],
    entry: &Entry,
) -> Result<(log::Envelope, Vec<Change>, [u8; 32]), log::LogError> {
    let revision = entry.revision;
    let (envelope, hash) = log::open(revision, previous_hash, &entry.envelope, &entry.payload)?;
    let changes = log::decode_payload(&entry.payload, &mut StoreChunks(store))
        .map_err(|source| log::LogError::Malformed { revision, source })?;
    Ok((envelope, changes, hash))
}

/// Finds staged chunks in a store.
pub struct StoreChunks<'a>(pub &'a dyn Store);

impl Chunks for StoreChunks<'_> {
    fn chunk(&self, address: &ChunkAddress) -> Option<Vec<u8>> {
        let found = self.0.chunk(&ChunkId::from_bytes(*address));
        found.inspect_err(|e| tracing::error!("a staged chunk can't be read: {e}")).ok().flatten()
    }
}

// ---------------------------------------------------------------------------------------- checkpoints

/// The state at a checkpoint, and the hash of the last envelope that is folded in.
///
/// # Errors
/// [`RecoverError::Checkpoint`] if it can't be read.
pub fn load_checkpoint(
    store: &dyn Store,
    checkpoint: &Checkpoint,
) -> Result<(State, [u8; 32]), RecoverError> {
    let broken = |what: String| RecoverError::Checkpoint(what);
    let hash = match checkpoint.meta.split_first() {
        Some((&CHECKPOINT_VERSION, hash)) => {
            hash.try_into().map_err(|_| broken("its hash is cut short".into()))?
        }
        Some((version, _)) => {
            return Err(broken(format!(
                "it has version {version}, and this program knows {CHECKPOINT_VERSION}"
            )));
        }
        None => return Err(broken("it is empty".into())),
    };
    Ok((load_state(store, checkpoint, None)?, hash))
}

/// The state that a checkpoint or a base holds. What it has in common with a state that there is already takes no memory of
/// its own.
pub(super) fn load_state(
    store: &dyn Store,
    checkpoint: &Checkpoint,
    like: Option<&State>,
) -> Result<State, RecoverError> {
    let mut state = State::default();
    // Of no account: what a checkpoint restores brings its own position.
    let at = At { generation: Generation::default(), time_ms: 0 };
    for id in &checkpoint.chunks {
        let mut zones = BTreeSet::new();
        for_each_change(store, id, |change| {
            state.apply(at, change);
            zones.extend(change.zone());
            if let Change::ContentRestored { zone, .. } = change {
                zones.insert(*zone);
            }
        })?;
        if let Some(like) = like {
            state.share_zones(like, zones);
        }
    }
    if state.revision() != checkpoint.revision {
        return Err(RecoverError::Checkpoint(format!(
            "it ends at revision {} and says {}",
            state.revision(),
            checkpoint.revision
        )));
    }
    Ok(state)
}

/// Reads the changes of one chunk of a checkpoint or a base.
pub(super) fn for_each_change(
    store: &dyn Store,
    id: &ChunkId,
    mut change_found: impl FnMut(&Change),
) -> Result<(), RecoverError> {
    let broken = |what: String| RecoverError::Checkpoint(what);
    let chunk = store.chunk(id)?.ok_or_else(|| broken("a chunk is missing".into()))?;
    let mut changes = minicbor::Decoder::new(&chunk);
    while changes.position() < chunk.len() {
        let change: Change = changes.decode_with(&mut ()).map_err(|e| broken(e.to_string()))?;
        change_found(&change);
    }
    Ok(())
}

/// Writes checkpoints on a thread of its own, one at a time: a state is a value that never moves, so the writer
/// need not wait.
pub(super) struct Checkpointer {
    store: Arc<dyn Store>,
    upkeep: Arc<Upkeep>,
    is_busy: Arc<AtomicBool>,
    last_bytes: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn new(store: Arc<dyn Store>, upkeep: Arc<Upkeep>) -> Checkpointer {
        Checkpointer { store, upkeep, is_busy: Arc::default(), last_bytes: Arc::default(), thread: None }
    }

    /// Size of the last one written, in bytes.
    pub(super) fn last_bytes(&self) -> u64 {
        self.last_bytes.load(Ordering::Relaxed)
    }

    /// Begins to write one, unless one is being written.
    pub(super) fn begin(&mut self, state: Arc<State>, hash: [u8; 32]) -> bool {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (store, upkeep) = (Arc::clone(&self.store), Arc::clone(&self.upkeep));
        let (is_busy, last_bytes) = (Arc::clone(&self.is_busy), Arc::clone(&self.last_bytes));
        let thread = std::thread::Builder::new().name("herald-checkpoint".into()).spawn(move || {
            match replace_checkpoint(&*store, &upkeep, &state, hash) {
                Ok(bytes) => last_bytes.store(bytes, Ordering::Relaxed),
                // Nothing is lost: the log has it all, and the next one is due soon.
                Err(e) => tracing::error!("a checkpoint could not be written: {e}"),
            }
            is_busy.store(false, Ordering::Release);
        });
        match thread {
            Ok(thread) => self.thread = Some(thread),
            Err(e) => {
                tracing::error!("a checkpoint could not be begun: {e}");
                self.is_busy.store(false, Ordering::Release);
            }
        }
        true
    }

    /// Writes a last one, after any that is being written.
    pub(super) fn finish(&mut self, state: &State, hash: [u8; 32]) {
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
        if let Err(e) = replace_checkpoint(&*self.store, &self.upkeep, state, hash) {
            tracing::error!("the last checkpoint could not be written: {e}");
        }
    }
}

/// Why a checkpoint was not written.
#[derive(Debug, thiserror::Error)]
enum CheckpointerError {
    #[error(transparent)]
    Chunk(#[from] herald_store::ChunkError),
    #[error(transparent)]
    Checkpoint(#[from] herald_store::CheckpointError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes a checkpoint, and drops the chunks that only the one before it had; gives its size in bytes.
fn replace_checkpoint(
    store: &dyn Store,
    upkeep: &Upkeep,
    state: &State,
    hash: [u8; 32],
) -> Result<u64, CheckpointerError> {
    let _replacing = upkeep.replacing();
    let before = store.checkpoint()?;
    let Written { chunks, bytes, .. } = write_state(store, state)?;
    let meta = std::iter::once(CHECKPOINT_VERSION).chain(hash).collect();
    store.set_checkpoint(&Checkpoint { revision: state.revision(), chunks, meta })?;
    drop_chunks_of(store, before.as_ref())?;
    Ok(bytes)
}

/// A state in chunks.
pub(super) struct Written {
    /// The chunks, in order.
    pub chunks: Vec<ChunkId>,
    /// Of each chunk the first zone that it has something of, so that one is found among them: zones are in order. What
    /// comes before all zones has the lowest id, and what comes after them the highest.
    pub first_zones: Vec<ZoneId>,
    /// Their size.
    pub bytes: u64,
}

/// Puts a state into the store as chunks.
pub(super) fn write_state(store: &dyn Store, state: &State) -> Result<Written, herald_store::ChunkError> {
    let chunk_bytes = store.limits().chunk_bytes_max;
    let mut written = Written { chunks: Vec::new(), first_zones: Vec::new(), bytes: 0 };
    let mut chunk = Vec::with_capacity(chunk_bytes);
    let mut change_bytes = Vec::new();
    let (mut first_zone, mut zones_begun) = (None, false);
    let mut put = |chunk: &mut Vec<u8>, first_zone: &mut Option<ZoneId>, zones_begun: bool| {
        written.chunks.extend(store.put_chunks(&[chunk])?);
        let without = if zones_begun { ZoneId(u128::MAX) } else { ZoneId(0) };
        written.first_zones.push(first_zone.take().unwrap_or(without));
        written.bytes += chunk.len() as u64;
        chunk.clear();
        Ok::<_, herald_store::ChunkError>(())
    };
    for change in state.to_changes() {
        change_bytes.clear();
        minicbor::encode_with(&change, &mut change_bytes, &mut ()).expect("writing to a Vec can't fail");
        if !chunk.is_empty() && chunk.len() + change_bytes.len() > chunk_bytes {
            put(&mut chunk, &mut first_zone, zones_begun)?;
        }
        if let Change::ZoneRestored { zone: Zone { id, .. } } | Change::ContentRestored { zone: id, .. } =
            &change
        {
            first_zone.get_or_insert(*id);
            zones_begun = true;
        }
        chunk.extend_from_slice(&change_bytes);
    }
    put(&mut chunk, &mut first_zone, zones_begun)?;
    Ok(written)
}
