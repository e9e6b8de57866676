//! What the agent decides: a state machine without a clock, a thread or a channel.
//!
//! ```text
//!   Input ─▶ handle ─┐                            ┌─▶ Action: messages to the control plane, jobs for the driver, …
//!                    ├─▶ queue ─▶ step: one ──────┤
//!   frames ─▶────────┘   replica transaction      └─▶ next_due: when to call step at the latest
//! ```
//!
//! Who drives it calls [`Core::handle`] with what has happened, and then [`Core::step`], which takes in what waits with one
//! sync; then carries out [`Core::actions`], in their order. Time is what the caller says it is, counted from any moment. The
//! replica is its own, and the only thing outside that it touches.
//!
//! What waits while a transaction is under way is in the next one, and what waits while knotd is busy is coalesced by the
//! driver: the more there is to do, the more is done at once.

mod drift;
mod flights;
mod intake;
mod knot;
pub(super) mod queue;
mod session;
mod store;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use herald_core::{Generation, Name, ZoneId};
use herald_wire::stream::{Refused, ToHerald, ToPop, ZoneGeneration};

use self::drift::{Comparison, ScrubState};
use self::flights::Flights;
use self::queue::Queue;
use self::store::ReplicaState;
use super::Contents;
use super::scrubber::{Scrub, Scrubbed};
use crate::knot::driver::{Job, Report};
use crate::replica::{Replica, Target};
use crate::session::Frame;

/// How long there has to be nothing to do before what can wait is done.
const IDLE: Duration = Duration::from_millis(200);

/// How many jobs may be under way before no more frames are taken in.
const JOBS_MAX: usize = 100_000;

/// What happens.
pub enum Input {
    /// A session stands; what is sent from now on is for it.
    Opened {
        /// The buckets whose inventory is asked for.
        buckets: Vec<u16>,
        /// The control plane's head.
        head: Generation,
    },
    /// Frames came, in order.
    Frames(Vec<Frame>),
    /// The session is over, or none came about.
    Closed,
    /// The driver has something to say.
    Report(Report),
    /// knotd answers.
    KnotUp {
        /// What is in the files that it was started with; none if it was found running, or the files are old.
        written: Option<Vec<(Name, u32)>>,
    },
    /// A zone was found to be damaged in the replica.
    Damaged(ZoneId),
    /// Zones were re-read.
    Scrubbed(Scrubbed),
}

/// What is to be done.
#[expect(
    clippy::large_enum_variant,
    reason = "it is handled at once, and hardly anything else is made as often as messages"
)]
pub enum Action {
    /// A message to the control plane, in the session that stands.
    Send(ToHerald),
    /// The session is to be ended: the replica can't be used.
    HangUp,
    /// Jobs for the driver of knotd; each is reported.
    Submit(Vec<Job>),
    /// The driver is to go on with a knotd that should serve these zones with these serials.
    Resume(Vec<(Name, u32)>),
    /// The same, if it is with one already: the replica may have lost zones that knotd has.
    Compare(Vec<(Name, u32)>),
    /// The module in knotd is to have these zones no more.
    ForgetSteering(Vec<ZoneId>),
    /// Whether the replica has yet to hold all that it is to hold, so that many zones come.
    Filling(bool),
    /// Something is to be re-read; [`Input::Scrubbed`] tells how it went.
    Scrub(Scrub),
    /// An error for the operator.
    Error(String),
    /// knotd refuses a zone, or (without a reason) doesn't any more.
    KnotRefuses {
        /// Which.
        zone: Target,
        /// Why.
        reason: Option<String>,
    },
}

/// How it stands, in figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// The newest generation that the replica has taken.
    pub newest: Generation,
    /// Zones in the replica.
    pub zones: u64,
    /// Zones whose newest generation knotd isn't yet known to answer.
    pub zones_lagging: u64,
    /// The control plane's newest generation, as far as it is known.
    pub herald_head: Option<Generation>,
    /// Whether the control plane says that all is confirmed.
    pub in_sync: bool,
    /// Deltas, whole zones and removals that were taken.
    pub changes_taken: u64,
    /// Transactions that made them durable.
    pub replica_commits: u64,
    /// What is wrong with the replica at the moment.
    pub replica_error: Option<String>,
    /// When the replica was last compared with what the control plane says it must hold.
    pub compared_at: Option<Duration>,
    /// Whether it holds something else.
    pub is_drifted: bool,
    /// How often it was found to.
    pub drifts_found: u64,
    /// How often that was mended.
    pub drifts_mended: u64,
    /// Zones whose content was re-read.
    pub zones_scrubbed: u64,
    /// How often all zones were re-read.
    pub scrub_rounds: u64,
    /// Zones that were found to be damaged, by re-reading or otherwise, and are asked for anew.
    pub zones_damaged: u64,
}

/// See the module.
pub struct Core {
    replica: Replica,
    replica_state: ReplicaState,
    /// Where a damaged replica is put.
    aside: PathBuf,
    contents: Contents,
    queue: Queue,
    flights: Flights,
    is_open: bool,
    figures: Figures,
    actions: Vec<Action>,
    now: Duration,
    /// When something last happened.
    busy_at: Duration,

    /// Zones whose deltas are dropped until they come whole.
    gapped: HashSet<ZoneId>,
    /// What is to be confirmed to the control plane.
    acks: Vec<ZoneGeneration>,
    /// What knotd answers; their marks in the replica have yet to be deleted.
    applied: Vec<ZoneGeneration>,
    /// Damaged zones that have yet to be set aside.
    damaged: Vec<ZoneId>,
    /// Zones that were set aside, as they are asked for again: by each session until they come or are removed.
    missing: BTreeMap<ZoneId, Refused>,
    /// Zones with steering that are gone from the replica, and that the module may have until knotd hasn't got them any more.
    unsteered: BTreeSet<ZoneId>,
    /// Zones that knotd has and the replica hasn't.
    leftovers: BTreeSet<Name>,
    /// The replica was opened anew, perhaps while knotd was being started on files that were written from what it was.
    is_reopened: bool,
    /// Whether there may be rows in the replica that belong to no zone.
    is_garbage: bool,
    /// Whether the replica is to note that it has been complete.
    is_complete_wanted: bool,

    /// When to give zones to knotd again, by the tags they wait under.
    retries: BTreeSet<(Duration, u64)>,
    retry_waits: HashMap<Target, Duration>,
    /// How long zones that weren't what was announced are waited for.
    bad_wholes: HashMap<ZoneId, Duration>,
    /// Refusals that are sent later, so that a zone that always comes wrong isn't sent all the time.
    late_refusals: BTreeMap<(Duration, ZoneId), Refused>,

    comparison: Comparison,
    scrub: ScrubState,
}

impl Core {
    /// A core with this replica. `contents` reads the same one for the driver; `aside` is where it is put if it turns out to be
    /// damaged beyond single zones.
    pub fn new(replica: Replica, contents: Contents, aside: PathBuf) -> Core {
        let mut core = Core {
            replica,
            replica_state: ReplicaState::Sound,
            aside,
            contents,
            queue: Queue::default(),
            flights: Flights::default(),
            is_open: false,
            figures: Figures::default(),
            actions: Vec::new(),
            now: Duration::ZERO,
            busy_at: Duration::ZERO,
            gapped: HashSet::new(),
            acks: Vec::new(),
            applied: Vec::new(),
            damaged: Vec::new(),
            missing: BTreeMap::new(),
            unsteered: BTreeSet::new(),
            leftovers: BTreeSet::new(),
            is_reopened: false,
            is_garbage: true,
            is_complete_wanted: false,
            retries: BTreeSet::new(),
            retry_waits: HashMap::new(),
            bad_wholes: HashMap::new(),
            late_refusals: BTreeMap::new(),
            comparison: Comparison::default(),
            scrub: ScrubState::new(),
        };
        core.show();
        core
    }

    /// Takes note of what has happened.
    pub fn handle(&mut self, input: Input, now: Duration) {
        self.now = now;
        self.busy_at = now;
        match input {
            Input::Opened { buckets, head } => self.open(&buckets, head),
            Input::Frames(frames) => self.queue_frames(frames),
            Input::Closed => self.close(),
            Input::Report(report) => self.take_report(report),
            Input::KnotUp { written } => self.knot_up(written),
            Input::Damaged(zone) => self.zone_damaged(zone),
            Input::Scrubbed(scrubbed) => self.scrubbed(scrubbed),
        }
    }

    /// Does what is due: takes in what waits, in one transaction. `more` gives frames that have come meanwhile, so that
    /// something urgent needn't wait for the next one.
    pub fn step(&mut self, now: Duration, more: &mut dyn FnMut() -> Option<Vec<Frame>>) {
        self.now = now;
        self.confirm();
        self.do_due();
        if self.has_work() {
            self.busy_at = now;
            self.transact(more);
        } else if now >= self.busy_at + IDLE || self.is_full() {
            self.housekeep();
        }
        self.scrub_if_due();
    }

    /// When [`Core::step`] has something to do if nothing happens; not before `now`.
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        if self.has_work() || !self.acks.is_empty() {
            return Some(now);
        }
        let again_at = match self.replica_state {
            ReplicaState::Sound => None,
            ReplicaState::Full { again_at, .. } | ReplicaState::Lost { again_at, .. } => Some(again_at),
        };
        let retry = self.retries.first().map(|(at, _)| *at);
        let refusal = self.late_refusals.first_key_value().map(|((at, _), _)| *at);
        let is_sound = again_at.is_none();
        let idle = (is_sound && self.has_something_left()).then_some(self.busy_at + IDLE);
        let due = [again_at, retry, refusal, idle, self.scrub_due()].into_iter().flatten().min();
        due.map(|due| due.max(now))
    }

    /// What is to be done, in this order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// How it stands.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Its replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// It is to end in good order.
    pub fn end(&mut self) {
        self.housekeep();
    }

    /// Whether a transaction is to be made now.
    fn has_work(&self) -> bool {
        let is_something =
            (!self.queue.is_empty() && self.flights.len() < JOBS_MAX) || !self.damaged.is_empty();
        is_something && self.is_replica_ready()
    }

    fn queue_frames(&mut self, frames: Vec<Frame>) {
        // Frames of a session that the agent has given up are of no use.
        if self.is_open {
            for frame in frames {
                if let ToPop::Ping { head, in_sync, .. } = frame.message {
                    self.ping(head, in_sync);
                }
                self.queue.push(frame);
            }
        }
    }

    /// What is due by the clock.
    fn do_due(&mut self) {
        if let ReplicaState::Lost { again_at, wait } = self.replica_state
            && again_at <= self.now
        {
            self.open_again(wait);
        }
        while let Some((at, tag)) = self.retries.pop_first() {
            if at > self.now {
                self.retries.insert((at, tag));
                break;
            }
            // A newer job may have taken its place.
            if let Some(target) = self.flights.target_if_newest(tag).cloned() {
                self.give(target, tag);
            }
        }
        while let Some((due, refused)) = self.late_refusals.pop_first() {
            if due.0 > self.now {
                self.late_refusals.insert(due, refused);
                break;
            }
            self.send(ToHerald::Refused(refused));
        }
    }

    fn send(&mut self, message: ToHerald) {
        if self.is_open {
            self.actions.push(Action::Send(message));
        }
    }

    fn error(&mut self, message: String) {
        self.actions.push(Action::Error(message));
    }

    fn show(&mut self) {
        self.figures.newest = self.replica.newest();
        self.figures.zones = self.replica.zone_count();
        self.figures.zones_lagging = self.flights.zone_count() as u64;
    }
}
