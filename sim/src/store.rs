//! A store in memory that fails when it is told to.
//!
//! What it keeps outlives the value that is opened on it, as a disk outlives a process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herald_store::{
    AppendError, BaseError, Checkpoint, CheckpointError, ChunkError, ChunkId, Entry, Limits, Store,
    StoreError,
};

/// What happens to appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// They are done.
    #[default]
    None,
    /// There is no room: nothing is written, now and for as long as this lasts.
    Full,
    /// The next one fails, nothing is written, and no further write is taken.
    Fails,
    /// The next one is written, and then reported as failed; no further write is taken.
    AnswerLost,
}

/// The disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    chunks: BTreeMap<ChunkId, Vec<u8>>,
    checkpoint: Option<Checkpoint>,
    base: Option<Checkpoint>,
    fault: Fault,
}

/// An opened store.
pub struct MemoryStore {
    disk: Disk,
    /// Why it has to be opened again before it takes another write.
    is_broken: Mutex<bool>,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on.
    pub fn set_fault(&self, fault: Fault) {
        self.lock().fault = fault;
    }

    /// Loses the last entry, which no disk may.
    pub fn forget_last(&self) {
        self.lock().entries.pop();
    }

    /// Opens a store on it.
    pub fn open(&self) -> MemoryStore {
        MemoryStore { disk: self.clone(), is_broken: Mutex::new(false) }
    }
}

fn broken() -> StoreError {
    StoreError::MustReopen { cause: "an injected fault".into() }
}

impl MemoryStore {
    /// What is kept, for a write: refused if there is no room, or an earlier one failed.
    fn for_write(&self) -> Result<MutexGuard<'_, Kept>, StoreError> {
        if *self.is_broken.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(broken());
        }
        let kept = self.disk.lock();
        if kept.fault == Fault::Full {
            return Err(StoreError::Full);
        }
        Ok(kept)
    }

    fn break_down(&self) {
        *self.is_broken.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl Store for MemoryStore {
    fn limits(&self) -> Limits {
        Limits::PORTABLE
    }

    fn head(&self) -> Result<u64, StoreError> {
        Ok(self.disk.lock().entries.len() as u64)
    }

    fn append(&self, expected_head: u64, entries: &[Entry]) -> Result<(), AppendError> {
        self.limits().check_append(expected_head, entries)?;
        let mut kept = self.for_write()?;
        let head = kept.entries.len() as u64;
        if head != expected_head {
            return Err(AppendError::Conflict { head });
        }
        let fault = if entries.is_empty() { Fault::None } else { kept.fault };
        if fault != Fault::Fails {
            kept.entries.extend_from_slice(entries);
        }
        if matches!(fault, Fault::Fails | Fault::AnswerLost) {
            kept.fault = Fault::None;
            self.break_down();
            return Err(StoreError::Failed { doing: "append", source: "an injected fault".into() }.into());
        }
        Ok(())
    }

    fn read(&self, after: u64, entries_max: usize, bytes_max: usize) -> Result<Vec<Entry>, StoreError> {
        let kept = self.disk.lock();
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in
            kept.entries.iter().skip(usize::try_from(after).unwrap_or(usize::MAX)).take(entries_max.max(1))
        {
            bytes += entry.size();
            if !found.is_empty() && bytes > bytes_max {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn put_chunks(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>, ChunkError> {
        let limit = self.limits().chunk_bytes_max;
        if let Some(large) = chunks.iter().find(|chunk| chunk.len() > limit) {
            return Err(ChunkError::TooLarge { bytes: large.len(), limit });
        }
        let mut kept = self.for_write()?;
        let mut ids = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let id = ChunkId::of(chunk);
            kept.chunks.insert(id, chunk.to_vec());
            ids.push(id);
        }
        Ok(ids)
    }

    fn chunk(&self, id: &ChunkId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk.lock().chunks.get(id).cloned())
    }

    fn collect_chunks(&self, keep: &dyn Fn(&ChunkId) -> bool) -> Result<u64, StoreError> {
        let mut kept = self.for_write()?;
        let before = kept.chunks.len();
        kept.chunks.retain(|id, _| keep(id));
        Ok((before - kept.chunks.len()) as u64)
    }

    fn set_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let limit = self.limits().append_bytes_max;
        if checkpoint.size() > limit {
            return Err(CheckpointError::TooLarge { bytes: checkpoint.size(), limit });
        }
        let mut kept = self.for_write()?;
        let head = kept.entries.len() as u64;
        if checkpoint.revision > head {
            return Err(CheckpointError::AheadOfLog { revision: checkpoint.revision, head });
        }
        let base = kept.base.as_ref().map_or(0, |base| base.revision);
        if checkpoint.revision < base {
            return Err(CheckpointError::BehindBase { revision: checkpoint.revision, base });
        }
        kept.checkpoint = Some(checkpoint.clone());
        Ok(())
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.disk.lock().checkpoint.clone())
    }

    fn set_base(&self, base: &Checkpoint) -> Result<(), BaseError> {
        let (revision, limit) = (base.revision, self.limits().append_bytes_max);
        if base.size() > limit {
            return Err(BaseError::TooLarge { bytes: base.size(), limit });
        }
        let mut kept = self.for_write()?;
        let checkpoint = kept.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.revision);
        if revision > checkpoint {
            return Err(BaseError::AheadOfCheckpoint { revision, checkpoint });
        }
        let before = kept.base.as_ref().map_or(0, |base| base.revision);
        if revision < before {
            return Err(BaseError::Behind { revision, base: before });
        }
        kept.base = Some(base.clone());
        Ok(())
    }

    fn base(&self) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.disk.lock().base.clone())
    }

    fn erase_payloads(&self, after: u64, entries_max: usize) -> Result<Option<u64>, StoreError> {
        let mut kept = self.for_write()?;
        let up_to = kept.base.as_ref().map_or(0, |base| base.revision);
        let is_meant = |entry: &&mut Entry| entry.revision > after && entry.revision <= up_to;
        let mut last = None;
        for entry in kept.entries.iter_mut().filter(is_meant).take(entries_max) {
            entry.payload.clear();
            last = Some(entry.revision);
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn it_is_a_store_like_any_other() {
        let disks: RefCell<BTreeMap<String, Disk>> = RefCell::default();
        herald_store::contract::run(&|name| {
            Box::new(disks.borrow_mut().entry(name.into()).or_default().open())
        });
    }

    #[test]
    fn after_a_failed_write_it_has_to_be_opened_again() {
        let entry = Entry { revision: 1, envelope: vec![1], payload: Vec::new() };
        for (fault, head) in [(Fault::Full, 0), (Fault::Fails, 0), (Fault::AnswerLost, 1)] {
            let disk = Disk::default();
            let store = disk.open();
            disk.set_fault(fault);
            assert!(store.append(0, std::slice::from_ref(&entry)).is_err());
            disk.set_fault(Fault::None);
            assert_eq!(store.put_chunks(&[b"chunk"]).is_ok(), fault == Fault::Full);
            assert_eq!(disk.open().head().unwrap(), head);
            assert!(disk.open().append(head, &[]).is_ok());
        }
    }
}
