//! The replica when it can't be written, or turns out to be damaged; and what can wait.

use std::collections::HashSet;
use std::time::Duration;

use herald_core::ZoneId;
use herald_wire::stream::{RefusalCause, Refused, ToHerald, ToPop};

use super::intake::Group;
use super::queue::Queued;
use super::{Action, Core};
use crate::materialize::with_causes;
use crate::replica::{OpenError, Replica, ReplicaError};

/// How many rows of replaced zones are deleted at once.
const COLLECT_ROWS: usize = 1_000;

/// The first wait after the replica could not be written; it doubles up to [`REPLICA_WAIT_MAX`].
const REPLICA_WAIT_MIN: Duration = Duration::from_millis(100);
const REPLICA_WAIT_MAX: Duration = Duration::from_secs(5);

/// How the replica is.
///
/// ```text
///            ┌── written ──┐
///            ▼             │
///   ┌──▶ Sound ──full──▶ Full
///   │        │             │
///   │        └──failed─────┴──▶ Lost ─┐
///   └──────────────── opened anew ◀───┘
/// ```
pub(super) enum ReplicaState {
    Sound,
    /// The disk is full: what was to be written waits.
    Full {
        again_at: Duration,
        wait: Duration,
        told: HashSet<ZoneId>,
    },
    /// It has to be opened again before it can be used. There is no session meanwhile.
    Lost {
        again_at: Duration,
        wait: Duration,
    },
}

impl Core {
    /// Whether it is worth while to try a transaction.
    pub(super) fn is_replica_ready(&self) -> bool {
        match self.replica_state {
            ReplicaState::Sound => true,
            ReplicaState::Full { again_at, .. } => again_at <= self.now,
            ReplicaState::Lost { .. } => false,
        }
    }

    /// Whether the disk was full at the last transaction.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.replica_state, ReplicaState::Full { .. })
    }

    pub(super) fn replica_is_sound(&mut self) {
        if !matches!(self.replica_state, ReplicaState::Sound) {
            tracing::info!("the replica can be used again");
            self.replica_state = ReplicaState::Sound;
            self.figures.replica_error = None;
        }
    }

    /// A transaction failed: its frames wait, or the replica has to be opened again.
    pub(super) fn transaction_failed(&mut self, error: &ReplicaError, group: Group) {
        self.replica.rollback();
        let message = format!("the replica could not be used: {error}");
        self.figures.replica_error = Some(error.to_string());
        match error {
            ReplicaError::Full => {
                let (wait, mut told) = match std::mem::replace(&mut self.replica_state, ReplicaState::Sound) {
                    ReplicaState::Full { wait, told, .. } => ((wait * 2).min(REPLICA_WAIT_MAX), told),
                    _ => {
                        self.error(message);
                        (REPLICA_WAIT_MIN, HashSet::new())
                    }
                };
                let mut refusals = Vec::new();
                for Queued { frame, .. } in &group.frames {
                    let (zone, generation) = match &frame.message {
                        ToPop::Delta(delta) => (delta.zone, delta.generation),
                        ToPop::ZoneBegin(begin) => (begin.zone, begin.generation),
                        ToPop::Remove { zone, generation } => (*zone, *generation),
                        _ => continue,
                    };
                    if told.insert(zone) {
                        let (cause, reason, have) = (RefusalCause::Replica, error.to_string(), None);
                        refusals.push(Refused { zone, generation, cause, reason, have });
                    }
                }
                refusals.into_iter().for_each(|refused| self.send(ToHerald::Refused(refused)));
                self.queue.put_back(group.frames);
                self.replica_state = ReplicaState::Full { again_at: self.now + wait, wait, told };
            }
            ReplicaError::Failed(_) | ReplicaError::DamagedZone(_) | ReplicaError::Damaged(_) => {
                self.error(message);
                self.hang_up();
                if let ReplicaError::Damaged(_) = error {
                    self.start_afresh();
                }
                self.replica_state = ReplicaState::Lost { again_at: self.now, wait: REPLICA_WAIT_MIN };
            }
        }
    }

    /// Outside of a transaction.
    pub(super) fn replica_failed(&mut self, error: &ReplicaError) {
        self.transaction_failed(error, Group::default());
    }

    /// Puts a replica aside that is damaged beyond single zones. knotd goes on, and everything comes again.
    fn start_afresh(&mut self) {
        let message = match self.replica.start_afresh(&self.aside) {
            Ok(()) => format!("the damaged replica was put aside to {}", self.aside.display()),
            Err(error) => with_causes(&error),
        };
        self.error(message);
        self.contents.close();
    }

    pub(super) fn open_again(&mut self, wait: Duration) {
        match Replica::open(self.replica.dir()) {
            Ok(replica) => {
                self.replica = replica;
                self.contents.close();
                self.replica_is_sound();
                self.is_garbage = true;
                self.is_reopened = true;
                self.actions.push(Action::Filling(!self.replica.is_complete()));
                let expected = self.expected();
                self.actions.push(Action::Compare(expected));
                self.show();
            }
            Err(error) => {
                self.error(with_causes(&error));
                if let OpenError::Replica { source: ReplicaError::Damaged(_), .. } = error {
                    self.start_afresh();
                }
                let wait = (wait * 2).min(REPLICA_WAIT_MAX);
                self.replica_state = ReplicaState::Lost { again_at: self.now + wait, wait };
            }
        }
    }

    /// Whether something is left that can wait.
    pub(super) fn has_something_left(&self) -> bool {
        self.is_garbage || self.is_complete_wanted || !self.applied.is_empty()
    }

    /// What can wait: marks of what knotd answers, rows of no zone, and that the replica was complete.
    pub(super) fn housekeep(&mut self) {
        if !self.is_replica_ready() || !(self.has_something_left() || self.is_full()) {
            return;
        }
        match self.housekeeping() {
            Ok(is_garbage) => {
                self.replica_is_sound();
                self.is_garbage = is_garbage;
                self.applied.clear();
                if std::mem::take(&mut self.is_complete_wanted) {
                    self.actions.push(Action::Filling(false));
                    self.remove_leftovers();
                }
            }
            Err(error) => self.replica_failed(&error),
        }
    }

    fn housekeeping(&mut self) -> Result<bool, ReplicaError> {
        self.replica.begin()?;
        for zone in &self.applied {
            self.replica.applied(*zone)?;
        }
        if self.is_complete_wanted {
            self.replica.complete();
        }
        let is_garbage = self.is_garbage && self.replica.collect(COLLECT_ROWS)?;
        self.replica.commit()?;
        Ok(is_garbage)
    }
}
