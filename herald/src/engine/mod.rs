//! The engine: one writer that decides, appends, applies and answers, in this order.
//!
//! Commands that wait together are decided together against a draft that no reader sees, made durable with one
//! sync, and only then become visible. If the append fails the draft is dropped and nothing happened.

mod reaper;
mod recover;
mod upkeep;
mod writer;

use std::sync::Arc;

use arc_swap::ArcSwap;
use herald_core::authorise::authorise;
use herald_core::change::{Change, ChunkAddress, content_chunks};
use herald_core::check::Finding;
use herald_core::command::{Command, Context};
use herald_core::content::Content;
use herald_core::decide::{Decision, Subject, decide};
use herald_core::rejection::Rejection;
use herald_core::state::State;
use herald_store::{ChunkId, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

pub use recover::{RecoverError, StoreChunks, load_checkpoint, open_entry};
pub use upkeep::{
    CompactError, Compacted, firewall_of_base, for_each_change_of_base, load_base, zone_of_base,
};
use upkeep::{Remembering, Upkeep};

/// So many chunks of content are staged with one sync.
const STAGED_CHUNKS: usize = 7;

/// How many commands may wait for the writer; more are made to wait at the door.
const QUEUE_COMMANDS: usize = 4096;

/// A handle on the engine. Clones are handles on the same one.
#[derive(Clone)]
pub struct Engine {
    commands: mpsc::Sender<Submission>,
    state: Arc<ArcSwap<State>>,
    revision: watch::Receiver<u64>,
    store: Arc<dyn Store>,
    upkeep: Arc<Upkeep>,
}

/// The log as it grows, and the state beside it.
#[derive(Clone)]
pub struct Follow {
    store: Arc<dyn Store>,
    state: Arc<ArcSwap<State>>,
    revision: watch::Receiver<u64>,
}

impl Follow {
    /// The store, for reading the log.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The state as it is now.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Follows the revision; closed once the engine has ended.
    pub fn revision(&mut self) -> &mut watch::Receiver<u64> {
        &mut self.revision
    }
}

/// A command that was carried out and is durable.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The change's revision; that of the last change of the zones in question where all was so already, and the
    /// head where there are none.
    pub revision: u64,
    /// The state right after it.
    pub state: Arc<State>,
    /// What it made or was about.
    pub subject: Option<Subject>,
    /// What is probably not meant.
    pub warnings: Vec<Finding>,
    /// Whether its request was carried out before, and this is what came of it then.
    pub is_repetition: bool,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// It isn't allowed or isn't right.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The store can't be written, or the engine is stopping. Nothing is visible of it; whether a store that failed
    /// in the midst of writing kept it shows after a restart.
    #[error("{0}")]
    Unavailable(String),
}

/// An entry that was just committed, for those who follow.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its revision.
    pub revision: u64,
    /// Its circumstances; the time is the entry's.
    pub context: Context,
    /// Its changes.
    pub changes: Arc<[Change]>,
    /// The state right after it.
    pub state: Arc<State>,
}

/// What is called with each group once it is durable and before it is visible, on the writer's thread: it must
/// be quick.
pub type OnCommit = Box<dyn FnMut(&Arc<State>, &[Commit]) + Send>;

struct Submission {
    command: Command,
    answer: oneshot::Sender<Result<Committed, SubmitError>>,
}

impl Engine {
    /// Opens the log: recovers the state, begins a new epoch, starts the writer.
    ///
    /// # Errors
    /// If the log can't be read or its chain doesn't hold.
    pub fn start(
        store: Arc<dyn Store>,
        now_ms: u64,
        on_commit: OnCommit,
    ) -> Result<(Engine, Writer), RecoverError> {
        let Stepped { writer, state, revision, store, upkeep } = Stepped::open(store, now_ms, on_commit)?;
        let (commands, queue) = mpsc::channel(QUEUE_COMMANDS);
        let thread = std::thread::Builder::new()
            .name("herald-writer".into())
            .spawn(move || writer.run(queue))
            .map_err(RecoverError::Thread)?;
        Ok((Engine { commands, state, revision, store, upkeep }, Writer { thread }))
    }

    /// The state as it is now.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Follows the revision.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }

    /// The store, for reading the log.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What it takes to follow the log. It keeps the store open, and not the engine running.
    pub fn follow(&self) -> Follow {
        Follow {
            store: Arc::clone(&self.store),
            state: Arc::clone(&self.state),
            revision: self.revision.clone(),
        }
    }

    /// Has a command carried out; the answer comes when it is durable and visible.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, command: Command) -> Result<Committed, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let stopping = || SubmitError::Unavailable("the control plane is stopping".into());
        self.commands.send(Submission { command, answer }).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    /// Judges a command as if it were submitted now, and does nothing. Gives the state it would lead to as well.
    ///
    /// # Errors
    /// The [`Rejection`] it would get.
    pub fn dry_run(&self, command: Command) -> Result<(Decision, State), Rejection> {
        let mut state = State::clone(&self.state());
        let authorised = authorise(&state, command)?;
        let decision = decide(&state, &authorised)?;
        let at = writer::next_at(&state, authorised.context().time_ms);
        for change in &decision.changes {
            state.apply(at, change);
        }
        Ok((decision, state))
    }

    /// Erases what of the past is before this revision, and deletes chunks that nobody names. Blocking, and long; what goes on
    /// meanwhile is not held up.
    ///
    /// # Errors
    /// [`CompactError`]; nothing is lost, and the next time it goes on from there.
    pub fn compact(&self, horizon: u64) -> Result<Compacted, CompactError> {
        upkeep::compact(&*self.store, &self.upkeep, &self.state(), horizon)
    }

    /// Puts content into the store ahead of the command that will name it, some megabytes at a time, so that appends get
    /// their turn in between. Blocking.
    ///
    /// # Errors
    /// If the store can't be written.
    pub fn stage(&self, content: &Content) -> Result<Vec<ChunkAddress>, SubmitError> {
        let mut addresses = Vec::new();
        let mut chunks = content_chunks(content);
        loop {
            let some: Vec<Vec<u8>> = chunks.by_ref().take(STAGED_CHUNKS).collect();
            if some.is_empty() {
                return Ok(addresses);
            }
            let some: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
            let ids = self.store.put_chunks(&some).map_err(|e| SubmitError::Unavailable(e.to_string()))?;
            addresses.extend(ids.iter().map(|id| *id.as_bytes()));
        }
    }
}

/// First octet of the chunks of a table of places: no chunk of anything else begins with it, so that none is taken for another.
const TABLE_CHUNK: u8 = 0xff;
/// How much of a table a chunk has, in bytes.
const TABLE_CHUNK_BYTES: usize = 512 * 1024;

impl Engine {
    /// Puts a table of places into the store ahead of the command that will name it. Blocking.
    ///
    /// # Errors
    /// If the store can't be written.
    pub fn stage_table(&self, table: &[u8]) -> Result<Vec<ChunkAddress>, SubmitError> {
        let mut addresses = Vec::new();
        for some in table.chunks(TABLE_CHUNK_BYTES * STAGED_CHUNKS) {
            let some: Vec<Vec<u8>> =
                some.chunks(TABLE_CHUNK_BYTES).map(|part| [&[TABLE_CHUNK], part].concat()).collect();
            let some: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
            let ids = self.store.put_chunks(&some).map_err(|e| SubmitError::Unavailable(e.to_string()))?;
            addresses.extend(ids.iter().map(|id| *id.as_bytes()));
        }
        Ok(addresses)
    }

    /// The table in these chunks, none if one of them isn't there. Blocking.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn table(&self, chunks: &[ChunkAddress]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut table = Vec::new();
        for address in chunks {
            let chunk = self.store.chunk(&ChunkId::from_bytes(*address))?;
            let Some([TABLE_CHUNK, part @ ..]) = chunk.as_deref() else { return Ok(None) };
            table.extend_from_slice(part);
        }
        Ok(Some(table))
    }

    /// These chunks of a table were replaced: the next compaction may delete them.
    pub fn forget_table(&self, chunks: &[ChunkAddress]) {
        self.upkeep.forget(chunks);
    }
}

fn put_chunk(store: &dyn Store, chunk: &[u8]) -> Result<Option<ChunkAddress>, herald_store::ChunkError> {
    Ok(store.put_chunks(&[chunk])?.first().map(|id| *id.as_bytes()))
}

/// The engine without a thread: who holds it gives it one group of commands after another. [`Engine::start`] does so from a
/// queue; a simulation does it by itself, so that nothing happens but what it says.
pub struct Stepped {
    writer: writer::Writer,
    state: Arc<ArcSwap<State>>,
    revision: watch::Receiver<u64>,
    store: Arc<dyn Store>,
    upkeep: Arc<Upkeep>,
}

impl Stepped {
    /// Opens the log: recovers the state, begins a new epoch.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn open(store: Arc<dyn Store>, now_ms: u64, on_commit: OnCommit) -> Result<Stepped, RecoverError> {
        let upkeep = Arc::<Upkeep>::default();
        let store: Arc<dyn Store> = Arc::new(Remembering { store, upkeep: Arc::clone(&upkeep) });
        let recovered = recover::recover(&*store)?;
        let state = Arc::new(ArcSwap::from_pointee(recovered.state));
        let (announce, revision) = watch::channel(state.load().revision());
        let mut writer = writer::Writer::new(
            Arc::clone(&store),
            Arc::clone(&state),
            recovered.hash,
            recovered.bytes_since_checkpoint,
            announce,
            on_commit,
            Arc::clone(&upkeep),
        );
        writer.begin_epoch(now_ms)?;
        Ok(Stepped { writer, state, revision, store, upkeep })
    }

    /// The state as it is now.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Has a group of commands carried out; the answers are theirs, in order.
    pub fn submit(&mut self, commands: Vec<Command>) -> Vec<Result<Committed, SubmitError>> {
        let mut answers = Vec::with_capacity(commands.len());
        let group = commands.into_iter().map(|command| {
            let (answer, answered) = oneshot::channel();
            answers.push(answered);
            Submission { command, answer }
        });
        self.writer.write_group(group);
        let answered =
            |mut answer: oneshot::Receiver<_>| answer.try_recv().expect("a group answers every one");
        answers.into_iter().map(answered).collect()
    }

    /// Writes a checkpoint of the state as it is now. One that fails is no loss: the log has it all.
    pub fn checkpoint(&mut self) {
        self.writer.checkpoint();
    }
}

/// The writer's thread. It ends when every [`Engine`] handle is gone, after a last checkpoint.
pub struct Writer {
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    /// Waits for its end. Blocking.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the writer's thread panicked");
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
