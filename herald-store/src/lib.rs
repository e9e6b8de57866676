//! The log's durable home: compare-and-append, content-addressed chunks, checkpoints.
//!
//! A [`Store`] keeps bytes and knows nothing of what they mean. Its one write that matters is
//! [`Store::append`]: "append these entries if the head is still N". Two writers can't both win, so a deposed
//! leader is fenced by construction. Large payloads are staged first as chunks, named by their SHA-256, and
//! one small entry that names them makes them real. A checkpoint is a shortcut for reading the log, never a
//! part of it. A base is the state from which the past is told once payloads of older entries were erased.
//!
//! [`EmbeddedStore`] is the default: a directory, no setup. Other stores pass the same [`contract`].

pub mod contract;
mod embedded;

pub use embedded::{BackupError, EmbeddedStore, Inspected, OpenError, StoreReader, Verified};

use sha2::{Digest, Sha256};
use std::fmt;

/// The log's durable home. Every method blocks and may be called from any thread.
///
/// What a method reports as done is durable: it survives a crash of the process and of the machine.
/// Of a write that ends with [`StoreError::Failed`] nobody knows whether it happened (a crash may come after
/// the disk took it and before we heard); read [`Store::head`] after reopening.
pub trait Store: Send + Sync {
    /// What this store takes at most. Constant for as long as it is open.
    fn limits(&self) -> Limits;

    /// The revision of the last entry, 0 when the log is empty.
    fn head(&self) -> Result<u64, StoreError>;

    /// Appends `entries` if the head is still `expected_head`: all of them, durably, or none.
    ///
    /// Their revisions must be `expected_head + 1`, `+ 2` and so on. No entries: only compares, which is how
    /// a leader asks whether it still is one.
    fn append(&self, expected_head: u64, entries: &[Entry]) -> Result<(), AppendError>;

    /// The entries after revision `after`, in order, without a gap.
    ///
    /// At most `entries_max`, and not more once their [`Entry::size`]s exceed `bytes_max`, but at least one
    /// if there is one, so that a reader always gets on. Empty means: `after` is the head, or beyond it.
    fn read(&self, after: u64, entries_max: usize, bytes_max: usize) -> Result<Vec<Entry>, StoreError>;

    /// Keeps chunks, and returns their ids in the same order. A chunk that is there already is kept once.
    ///
    /// Durable when it returns; all or some are kept when it fails, which does no harm.
    fn put_chunks(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>, ChunkError>;

    /// The content of a chunk, verified against its id; `None` when there is no such chunk.
    fn chunk(&self, id: &ChunkId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Deletes every chunk for which `keep` says no, and returns how many.
    ///
    /// Collecting may run while others stage chunks if `keep` already says yes to an id *before* it is staged
    /// ([`ChunkId::of`] tells the id). `keep` must not call the store.
    fn collect_chunks(&self, keep: &dyn Fn(&ChunkId) -> bool) -> Result<u64, StoreError>;

    /// Makes this the checkpoint; there is one, the latest, and it is replaced atomically.
    ///
    /// Its chunks must have been kept before. Its revision may not be beyond the head, nor before that of the base.
    fn set_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError>;

    /// The checkpoint, `None` when there is none yet.
    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError>;

    /// Makes this the base: from now on the payloads of entries up to its revision may be erased, and the past before it
    /// is gone. There is one, and it is replaced atomically.
    ///
    /// Its chunks must have been kept before. Its revision may not be beyond the checkpoint's, so that the present never
    /// depends on what may be erased, nor before that of the base that it replaces.
    fn set_base(&self, base: &Checkpoint) -> Result<(), BaseError>;

    /// The base, `None` when nothing may have been erased yet.
    fn base(&self) -> Result<Option<Checkpoint>, StoreError>;

    /// Erases payloads of the entries after revision `after` and up to the base's, of at most `entries_max` of them, so that
    /// appends get their turn; returns the revision up to which it came, `None` when there were no more. What is
    /// erased is an empty payload from then on; envelopes stay. Erasing again does no harm.
    fn erase_payloads(&self, after: u64, entries_max: usize) -> Result<Option<u64>, StoreError>;
}

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its number: 1 for the first entry of the log, one more for each that follows.
    pub revision: u64,
    /// Kept forever; the hash chain runs over envelopes.
    pub envelope: Vec<u8>,
    /// May be empty in old entries: compacted or erased.
    pub payload: Vec<u8>,
}

impl Entry {
    /// What this entry counts for in [`Limits::append_bytes_max`] and in `bytes_max` of [`Store::read`]: its
    /// bytes, and a flat sum for what a store adds to them.
    pub fn size(&self) -> usize {
        const FRAMING: usize = 64;
        self.envelope.len() + self.payload.len() + FRAMING
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads may be secret and long: sizes only.
        write!(f, "Entry({}, {} + {} bytes)", self.revision, self.envelope.len(), self.payload.len())
    }
}

/// The name of a chunk: the SHA-256 of its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId([u8; 32]);

impl ChunkId {
    /// The id that this content has, kept or not.
    pub fn of(content: &[u8]) -> ChunkId {
        ChunkId(Sha256::digest(content).into())
    }

    /// The id with these bytes, as [`ChunkId::as_bytes`] returned them earlier.
    pub fn from_bytes(bytes: [u8; 32]) -> ChunkId {
        ChunkId(bytes)
    }

    /// The 32 bytes of the SHA-256.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ChunkId {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The state after one revision, kept as chunks, so that a start needn't fold the whole log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The revision up to which entries are folded in.
    pub revision: u64,
    /// Where the state is, in order.
    pub chunks: Vec<ChunkId>,
    /// What its writer has to know to read it; free form, small.
    pub meta: Vec<u8>,
}

impl Checkpoint {
    /// What this checkpoint counts for in [`Limits::append_bytes_max`].
    pub fn size(&self) -> usize {
        size_of::<u64>() + self.chunks.len() * size_of::<ChunkId>() + self.meta.len()
    }
}

/// What a store takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The sum of [`Entry::size`] over one append; also the size of a checkpoint.
    pub append_bytes_max: usize,
    /// Entries in one append.
    pub append_entries_max: usize,
    /// Bytes in one chunk.
    pub chunk_bytes_max: usize,
}

impl Limits {
    /// Below etcd's defaults: 1.5 MiB a request, 128 operations a transaction.
    ///
    /// The embedded store could take more, and doesn't: what works on it has to work on every store.
    pub const PORTABLE: Limits =
        Limits { append_bytes_max: 1 << 20, append_entries_max: 120, chunk_bytes_max: 1 << 20 };

    /// Whether these entries may be appended at once after `expected_head`: checks sizes and revisions.
    /// Every store calls it before anything else, so that all refuse the same.
    pub fn check_append(&self, expected_head: u64, entries: &[Entry]) -> Result<(), AppendError> {
        let bytes = entries.iter().map(Entry::size).sum();
        if entries.len() > self.append_entries_max || bytes > self.append_bytes_max {
            return Err(AppendError::TooLarge { entries: entries.len(), bytes, limits: *self });
        }
        for (expected, entry) in (expected_head.saturating_add(1)..).zip(entries) {
            if entry.revision != expected {
                return Err(AppendError::NotContiguous { expected, found: entry.revision });
            }
        }
        Ok(())
    }
}

/// Why an operation on an open store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is kept is not what was written. Nothing was changed.
    #[error("the store is damaged: {what}; restore it from a backup, or copy it from a standby")]
    Damaged {
        /// Which entry, chunk or record, and how it is wrong.
        what: String,
    },
    /// There is no room left. Nothing was changed, and the store can be used again once there is room.
    #[error("no room left on the disk of the store; nothing was written; make room, then try again")]
    Full,
    /// The disk, the network or the library failed. Reads may be tried again.
    #[error("the store failed to {doing}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A write failed earlier in a way after which no further write is safe. The store has to be opened
    /// again.
    #[error(
        "the store takes no more writes since one failed ({cause}); close it, see to the disk, open it again"
    )]
    MustReopen {
        /// What was said when it failed.
        cause: String,
    },
}

/// Why entries were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended first. Nothing was appended.
    #[error("the log has moved on: its head is {head}")]
    Conflict {
        /// The head as it is.
        head: u64,
    },
    /// The entries' revisions don't follow `expected_head` one by one. Nothing was appended.
    #[error("entries must be numbered without a gap: expected {expected}, found {found}")]
    NotContiguous {
        /// The revision that should have come.
        expected: u64,
        /// The revision that came.
        found: u64,
    },
    /// More than one append may hold. Nothing was appended.
    #[error("{entries} entries of {bytes} bytes are too much for one append (at most {} and {}): split them, \
             or stage payloads as chunks", limits.append_entries_max, limits.append_bytes_max)]
    TooLarge {
        /// How many entries it was.
        entries: usize,
        /// Their size in all.
        bytes: usize,
        /// What is allowed.
        limits: Limits,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why chunks were not kept.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// One of the chunks is too large. None was kept.
    #[error("a chunk of {bytes} bytes is too large: split it into chunks of at most {limit} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a checkpoint was not set; the one before it still stands.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Its list of chunks and its meta are too large.
    #[error("a checkpoint of {bytes} bytes is too large (at most {limit}): use larger chunks, or less meta")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// It claims to hold entries that the log does not have.
    #[error("a checkpoint of revision {revision} is ahead of the log, whose head is {head}")]
    AheadOfLog {
        /// The checkpoint's revision.
        revision: u64,
        /// The log's head.
        head: u64,
    },
    /// The payloads that would be needed from there on may have been erased.
    #[error("a checkpoint of revision {revision} is before the base, which is at {base}")]
    BehindBase {
        /// The checkpoint's revision.
        revision: u64,
        /// The base's.
        base: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a base was not set; the one before it still stands.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// Its list of chunks and its meta are too large.
    #[error("a base of {bytes} bytes is too large (at most {limit}): use larger chunks, or less meta")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The present would depend on what may be erased.
    #[error("a base of revision {revision} is ahead of the checkpoint, which is at {checkpoint}")]
    AheadOfCheckpoint {
        /// The base's revision.
        revision: u64,
        /// The checkpoint's; 0 if there is none.
        checkpoint: u64,
    },
    /// What the base before it let be erased can't be had back.
    #[error("a base of revision {revision} is before the one that there is, of revision {base}")]
    Behind {
        /// The base's revision.
        revision: u64,
        /// That of the one that there is.
        base: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
