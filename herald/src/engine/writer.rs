//! The one writer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use herald_core::account::Principal;
use herald_core::authorise::authorise;
use herald_core::change::Change;
use herald_core::command::{Action, Command, Context};
use herald_core::decide::decide;
use herald_core::idempotency::repetition;
use herald_core::log;
use herald_core::state::{At, State};
use herald_core::{Generation, ZoneId};
use herald_store::{Entry, Store};
use tokio::sync::{mpsc, oneshot, watch};

use super::reaper::Reaper;
use super::recover::RecoverError;
use super::upkeep::Upkeep;
use super::{Commit, Committed, OnCommit, Submission, SubmitError, put_chunk};

/// A payload over this is staged in chunks and only named by its entry, in bytes.
const INLINE_BYTES_MAX: usize = 128 * 1024;

/// A checkpoint is written when the log has grown by this much since the last one, or by as much as the
/// last one had, whichever is more: so that writing checkpoints costs no more than writing the log.
const CHECKPOINT_BYTES_MIN: u64 = 32 * 1024 * 1024;

pub(super) struct Writer {
    store: Arc<dyn Store>,
    state: Arc<ArcSwap<State>>,
    hash: [u8; 32],
    announce: watch::Sender<u64>,
    on_commit: OnCommit,
    checkpoints: super::recover::Checkpointer,
    bytes_since_checkpoint: u64,
    reaper: Reaper,
}

/// What a group has decided so far. Nobody sees it until it is durable.
struct Draft {
    state: State,
    hash: [u8; 32],
    entries: Vec<Entry>,
    bytes: usize,
    commits: Vec<Commit>,
    /// What was judged by a draft is told when that is durable, refusals too.
    answers: Vec<(Answer, Result<Committed, SubmitError>)>,
}

type Answer = oneshot::Sender<Result<Committed, SubmitError>>;

impl Writer {
    pub(super) fn new(
        store: Arc<dyn Store>,
        state: Arc<ArcSwap<State>>,
        hash: [u8; 32],
        bytes_since_checkpoint: u64,
        announce: watch::Sender<u64>,
        on_commit: OnCommit,
        upkeep: Arc<Upkeep>,
    ) -> Writer {
        let checkpoints = super::recover::Checkpointer::new(Arc::clone(&store), upkeep);
        let reaper = Reaper::default();
        Writer { store, state, hash, announce, on_commit, checkpoints, bytes_since_checkpoint, reaper }
    }

    /// Begins this leader's term, before any command is taken.
    pub(super) fn begin_epoch(&mut self, now_ms: u64) -> Result<(), RecoverError> {
        let context = Context {
            principal: Principal::System,
            time_ms: now_ms,
            entropy: [0; 32],
            message: None,
            idempotency_key: None,
            confirmed: false,
        };
        let (answer, mut answered) = oneshot::channel();
        let command = Command { context, action: Action::BeginEpoch };
        self.write_group([Submission { command, answer }]);
        match answered.try_recv() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(RecoverError::BeginEpoch(e)),
            Err(_) => unreachable!("a group answers every submission"),
        }
    }

    /// Takes commands until there is nobody left to give any.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Submission>) {
        let group_max = self.store.limits().append_entries_max;
        let mut group = Vec::with_capacity(group_max);
        while queue.blocking_recv_many(&mut group, group_max) > 0 {
            self.write_group(group.drain(..));
            self.checkpoint_if_due();
        }
        self.checkpoint();
    }

    /// Writes a checkpoint of the state as it is, after any that is being written.
    pub(super) fn checkpoint(&mut self) {
        self.checkpoints.finish(&self.state.load_full(), self.hash);
        self.bytes_since_checkpoint = 0;
    }

    /// Decides a group, makes it durable with one append (more if it is over the store's limits), applies, answers.
    pub(super) fn write_group(&mut self, group: impl IntoIterator<Item = Submission>) {
        let mut draft = self.new_draft();
        for Submission { command, answer } in group {
            let decided = self.decide_into(&mut draft, command);
            draft.answers.push((answer, decided));
            if draft.bytes > self.store.limits().append_bytes_max / 2 {
                self.commit(draft);
                draft = self.new_draft();
            }
        }
        self.commit(draft);
    }

    fn new_draft(&self) -> Draft {
        Draft {
            state: State::clone(&self.state.load()),
            hash: self.hash,
            entries: Vec::new(),
            bytes: 0,
            commits: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn decide_into(&self, draft: &mut Draft, command: Command) -> Result<Committed, SubmitError> {
        if let Some(outcome) = repetition(&draft.state, &command.context)? {
            return Ok(Committed {
                revision: outcome.revision,
                state: Arc::new(draft.state.clone()),
                subject: outcome.subject,
                warnings: Vec::new(),
                is_repetition: true,
            });
        }
        let authorised = authorise(&draft.state, command)?;
        let decision = decide(&draft.state, &authorised)?;
        let mut committed = Committed {
            revision: 0,
            state: Arc::default(),
            subject: decision.subject,
            warnings: decision.warnings,
            is_repetition: false,
        };
        if decision.changes.is_empty() {
            committed.revision = unchanged_since(&draft.state, &authorised, decision.subject);
            committed.state = Arc::new(draft.state.clone());
            return Ok(committed);
        }
        let at = match decision.changes.as_slice() {
            // A new term's first entry bears the new epoch itself.
            [Change::EpochBegan { epoch }, ..] => {
                let mut at = next_at(&draft.state, authorised.context().time_ms);
                at.generation.epoch = *epoch;
                at
            }
            _ => next_at(&draft.state, authorised.context().time_ms),
        };
        let payload = self.encode(&decision.changes)?;
        let sealed = log::seal(authorised.context(), at, draft.hash, payload);
        for change in &decision.changes {
            draft.state.apply(at, change);
        }
        committed.state = Arc::new(draft.state.clone());
        draft.hash = sealed.hash;
        draft.bytes += sealed.envelope.len() + sealed.payload.len();
        draft.entries.push(Entry {
            revision: at.generation.counter,
            envelope: sealed.envelope,
            payload: sealed.payload,
        });
        draft.commits.push(Commit {
            revision: at.generation.counter,
            context: Context { time_ms: at.time_ms, ..authorised.context().clone() },
            changes: decision.changes.into(),
            state: Arc::clone(&committed.state),
        });
        committed.revision = at.generation.counter;
        Ok(committed)
    }

    /// Encodes changes; what is too long for an entry is staged, and durable, before the entry names it.
    fn encode(&self, changes: &[Change]) -> Result<Vec<u8>, SubmitError> {
        let payload = log::encode_inline(changes);
        if payload.len() <= INLINE_BYTES_MAX {
            return Ok(payload);
        }
        let mut addresses = Vec::new();
        for chunk in log::payload_chunks(&payload, self.store.limits().chunk_bytes_max) {
            let address =
                put_chunk(&*self.store, &chunk).map_err(|e| SubmitError::Unavailable(e.to_string()))?;
            addresses.extend(address);
        }
        Ok(log::encode_chunked(&addresses))
    }

    fn commit(&mut self, draft: Draft) {
        let appended = match draft.entries.first() {
            None => Ok(()),
            Some(first) => self.store.append(first.revision - 1, &draft.entries),
        };
        if let Err(e) = appended {
            tracing::error!("{} entries could not be appended: {e}", draft.entries.len());
            let error = SubmitError::Unavailable(format!("the log can't be written: {e}"));
            for (answer, _) in draft.answers {
                _ = answer.send(Err(error.clone()));
            }
            return;
        }
        let state = Arc::new(draft.state);
        if !draft.entries.is_empty() {
            self.hash = draft.hash;
            self.bytes_since_checkpoint += draft.bytes as u64;
            (self.on_commit)(&state, &draft.commits);
            let changes = draft.commits.iter().flat_map(|commit| commit.changes.iter());
            self.reaper.keep(&self.state.load(), changes);
            self.state.store(Arc::clone(&state));
        }
        for (answer, decided) in draft.answers {
            _ = answer.send(decided);
        }
        if !draft.entries.is_empty() {
            self.announce.send_replace(state.revision());
        }
    }

    fn checkpoint_if_due(&mut self) {
        if self.bytes_since_checkpoint >= CHECKPOINT_BYTES_MIN.max(self.checkpoints.last_bytes())
            && self.checkpoints.begin(self.state.load_full(), self.hash)
        {
            self.bytes_since_checkpoint = 0;
        }
    }
}

/// Where the next entry after this state stands. Time never runs backwards on the log.
pub(super) fn next_at(state: &State, time_ms: u64) -> At {
    At {
        generation: Generation { epoch: state.epoch(), counter: state.revision() + 1 },
        time_ms: time_ms.max(state.time_ms()),
    }
}

/// The revision that made all as a command wants it: the last one of its zones.
fn unchanged_since(
    state: &State,
    command: &herald_core::authorise::Authorised,
    subject: Option<herald_core::decide::Subject>,
) -> u64 {
    use herald_core::decide::Subject;
    let revision_of = |id: ZoneId| state.zone(id).map(|zone| zone.revision);
    if let Some(Subject::Zone(id)) = subject {
        return revision_of(id).unwrap_or(state.revision());
    }
    let access = herald_core::authorise::Access::of(state, command.context());
    match (command.action(), access) {
        (Action::EditZones { zones }, Ok(access)) => zones
            .iter()
            .filter_map(|edit| access.visible_zone(state, &edit.zone).ok())
            .map(|zone| zone.revision)
            .max()
            .unwrap_or(state.revision()),
        _ => state.revision(),
    }
}
