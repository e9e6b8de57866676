//! The agent: takes in what the control plane sends, makes it durable, has knotd answer it, and confirms it.
//!
//! ```text
//!   session ──frames──▶ queue ──▶ one replica transaction ──jobs──▶ driver of knotd
//!      ▲                          (all that waits, one sync)             │
//!      └───────────── Applied ◀── durable and answered ◀── reports ──────┘
//! ```
//!
//! One thread decides; sessions, the driver and the supervisor tell it what happens by events. What waits while a
//! transaction is under way is in the next one, and what waits while knotd is busy is coalesced by the driver: the more there is
//! to do, the more is done at once.

mod flights;
mod hooks;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use herald_core::{Generation, Name, ZoneId};
use herald_wire::stream::{
    BUCKETS, InventoryZone, RefusalCause, Refused, ToHerald, ToPop, ZoneDelta, ZoneGeneration, bucket_of,
    inventory_digest,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use self::flights::{Flights, Landed};
use self::hooks::{AgentHooks, ReplicaContent, SharedReader};
use self::queue::{Class, Queue, Queued};
use crate::config::{Config, Mode, SecretError};
use crate::knot::driver::{Delta, Driver, DriverConfig, Job, Put, Report, Task, TaskError};
use crate::knot::process::{Runner, Supervisor, SupervisorConfig};
use crate::materialize::with_causes;
use crate::replica::{DeltaOutcome, OpenError, Replica, ReplicaError, TakenDelta, WholeOutcome, ZoneRow};
use crate::session::{Dialer, Frame, Greeting, SessionEvent};
use crate::status::{self, Board};

const LOCK: &str = "agent.lock";

/// How long knotd may take to start: 300,000 zones take 25 s.
const KNOT_START_TIMEOUT: Duration = Duration::from_secs(300);

/// How long knotd may take to end before it is killed.
const KNOT_STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How many urgent frames go into one transaction.
const GROUP_URGENT_MAX: usize = 2_000;

/// How many bytes of whole zones go into one transaction; fewer if something urgent comes meanwhile.
const GROUP_BULK_BYTES: u64 = 512 * 1024;

/// How many jobs may be under way before no more frames are taken in.
const JOBS_MAX: usize = 100_000;

/// How many rows of replaced zones are deleted at once.
const COLLECT_ROWS: usize = 1_000;

/// How long there has to be nothing to do before what can wait is done.
const IDLE: Duration = Duration::from_millis(200);

/// Zones in one frame of an inventory: each takes up to 60 bytes.
const INVENTORY_ZONES: usize = 10_000;

/// The first wait after the replica could not be written; it doubles up to [`REPLICA_WAIT_MAX`].
const REPLICA_WAIT_MIN: Duration = Duration::from_millis(100);
const REPLICA_WAIT_MAX: Duration = Duration::from_secs(5);

/// The first wait before a zone that knotd refused, or that came wrong, is tried again; it doubles up to
/// [`ZONE_WAIT_MAX`].
const ZONE_WAIT_MIN: Duration = Duration::from_secs(1);
const ZONE_WAIT_MAX: Duration = Duration::from_secs(60);

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one uses the directory.
    #[error(
        "another agent (process {holder}) uses {}: stop that one first, or use another directory", dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The number of the process, or `unknown`.
        holder: String,
    },
    /// The directory or something in it can't be had.
    #[error("the data directory {} can't be used", dir.display())]
    Data {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The credential.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The replica.
    #[error(transparent)]
    Replica(#[from] OpenError),
    /// A thread or a socket could not be made.
    #[error("the agent can't be started")]
    System(#[source] io::Error),
}

/// What happens.
pub enum Event {
    /// To the session.
    Session(SessionEvent),
    /// To a job of the driver.
    Knot(Report),
    /// knotd answers.
    KnotUp {
        /// What is in the files that it was started with; none if it was found running, or the files are old.
        written: Option<Vec<(Name, u32)>>,
    },
    /// A zone was found to be damaged in the replica.
    Damaged(ZoneId),
    /// The agent is to end.
    End,
}

impl From<SessionEvent> for Event {
    fn from(event: SessionEvent) -> Event {
        Event::Session(event)
    }
}

/// A running agent.
pub struct Agent {
    config: Arc<Config>,
    board: Arc<Board>,
    events: Sender<Event>,
    ending: CancellationToken,
    session: JoinHandle<()>,
    core: JoinHandle<()>,
    supervisor: Supervisor,
    /// Released last.
    _lock: File,
}

impl Agent {
    /// Starts the agent, and knotd if that is its to start.
    ///
    /// # Errors
    /// [`StartError`]. A damaged replica is none: it is put aside, and everything is asked for anew.
    pub fn start(config: Config) -> Result<Agent, StartError> {
        let config = Arc::new(config);
        let lock = lock(&config.data)?;
        config.secret()?;
        let board = Arc::new(Board::new(&config.pop));
        let replica = open_replica(&config, &board)?;
        status::serve(&config.status_socket(), board.clone())
            .map_err(|source| StartError::Data { dir: config.data.clone(), source })?;

        let (events, inbox) = mpsc::channel();
        let (report, reports) = mpsc::channel();
        // The configuration was checked to have an address.
        let driver = DriverConfig::of(&config.knot).ok_or_else(|| io::ErrorKind::InvalidInput.into());
        let driver = driver.and_then(|driver| Driver::start(driver, report)).map_err(StartError::System)?;
        let driver = Arc::new(driver);
        driver.filling(!replica.is_complete());
        let forward = events.clone();
        spawn("knot-reports", move || {
            reports.into_iter().try_for_each(|report| forward.send(Event::Knot(report))).unwrap_or_default();
        })?;

        let mut core = Core {
            reader: Arc::new(SharedReader::new(config.clone())),
            config: config.clone(),
            board: board.clone(),
            driver: driver.clone(),
            inbox,
            events: events.clone(),
            stash: VecDeque::new(),
            replica,
            replica_state: ReplicaState::Sound,
            queue: Queue::default(),
            flights: Flights::default(),
            session: None,
            gapped: HashSet::new(),
            acks: Vec::new(),
            applied: Vec::new(),
            damaged: Vec::new(),
            missing: HashMap::new(),
            leftovers: BTreeSet::new(),
            is_garbage: true,
            is_complete_wanted: false,
            retries: BTreeSet::new(),
            retry_waits: HashMap::new(),
            bad_wholes: HashMap::new(),
            late_refusals: BTreeMap::new(),
        };
        core.resume_unapplied();
        core.show();
        let core = spawn("agent", move || core.run())?;

        let hooks = AgentHooks {
            config: config.clone(),
            driver,
            events: events.clone(),
            board: board.clone(),
            written: None,
            was_up: false,
        };
        let supervisor = SupervisorConfig {
            knot: config.knot.clone(),
            runner: match config.mode {
                Mode::Supervise => Runner::Us { program: config.knotd.clone() },
                Mode::Attach => Runner::SomebodyElse,
            },
            start_timeout: KNOT_START_TIMEOUT,
            stop_timeout: KNOT_STOP_TIMEOUT,
        };
        let supervisor = Supervisor::start(supervisor, Box::new(hooks)).map_err(StartError::System)?;

        let ending = CancellationToken::new();
        let dialer = Dialer::new(config.clone(), events.clone(), board.clone());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::System)?;
        let session = spawn("session", {
            let ending = ending.clone();
            move || runtime.block_on(dialer.run(ending))
        })?;
        tracing::info!("the agent of the PoP {} runs", config.pop);
        Ok(Agent { config, board, events, ending, session, core, supervisor, _lock: lock })
    }

    /// How the agent is.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Ends the agent, and with `stop_knot` a knotd that is its own to run.
    pub fn stop(self, stop_knot: bool) {
        self.ending.cancel();
        // A thread that panicked has ended, too.
        let _ = self.session.join();
        match stop_knot {
            true => self.supervisor.stop(),
            false => self.supervisor.detach(),
        }
        let _ = self.events.send(Event::End);
        let _ = self.core.join();
        let _ = fs::remove_file(self.config.status_socket());
        tracing::info!("the agent of the PoP {} has ended", self.config.pop);
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    thread::Builder::new().name(name.into()).spawn(body).map_err(StartError::System)
}

/// Makes the directory and takes its lock.
fn lock(dir: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::Data { dir: dir.into(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let path = dir.join(LOCK);
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let is_known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if is_known { holder.trim().to_owned() } else { "unknown".to_owned() };
            return Err(StartError::InUse { dir: dir.into(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    // Who holds it is a courtesy to the reader of the error; a full disk must not keep the agent from its work.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Opens the replica; a damaged one is put aside.
fn open_replica(config: &Config, board: &Board) -> Result<Replica, OpenError> {
    let dir = config.replica_dir();
    let unusable = match Replica::open(&dir) {
        Err(OpenError::Replica { source: ReplicaError::Damaged(what), .. }) => {
            Err(("is damaged", aside_dir(config), what))
        }
        // Another version's: kept for it, should it come back.
        Err(OpenError::UnknownFormat { found, .. }) => {
            Err(("is of another version", config.data.join("replica.other-version"), found))
        }
        opened => Ok(opened),
    };
    let replica = match unusable {
        Ok(opened) => opened,
        Err((how, aside, what)) => {
            note(board, format!("the replica {how} and was put aside to {}: {what}", aside.display()));
            crate::replica::move_aside(&dir, &aside).map_err(|error| OpenError::Replica {
                dir: dir.clone(),
                source: ReplicaError::Failed(error.to_string()),
            })?;
            Replica::open(&dir)
        }
    }?;
    let set_aside = replica.set_aside_at_opening();
    if set_aside > 0 {
        note(board, format!("{set_aside} zones are damaged in the replica and are asked for anew"));
    }
    Ok(replica)
}

fn aside_dir(config: &Config) -> PathBuf {
    config.data.join("replica.damaged")
}

/// An error for the log and for the status.
fn note(board: &Board, message: String) {
    tracing::error!("{message}");
    board.error(message);
}

// ---------------------------------------------------------------------------------------------------
// The thread that decides
// ---------------------------------------------------------------------------------------------------

/// See the module.
struct Core {
    config: Arc<Config>,
    board: Arc<Board>,
    driver: Arc<Driver>,
    inbox: Receiver<Event>,
    events: Sender<Event>,
    /// Events that came while frames were looked for.
    stash: VecDeque<Event>,

    replica: Replica,
    replica_state: ReplicaState,
    reader: Arc<SharedReader>,
    queue: Queue,
    flights: Flights,
    session: Option<UnboundedSender<ToHerald>>,

    /// Zones whose deltas are dropped until they come whole.
    gapped: HashSet<ZoneId>,
    /// What is to be confirmed to the control plane.
    acks: Vec<ZoneGeneration>,
    /// What knotd answers; their marks in the replica have yet to be deleted.
    applied: Vec<ZoneGeneration>,
    /// Damaged zones that have yet to be set aside.
    damaged: Vec<ZoneId>,
    /// Zones that were set aside, as they are asked for again: by each session until they come or are removed.
    missing: HashMap<ZoneId, Refused>,
    /// Zones that knotd has and the replica hasn't.
    leftovers: BTreeSet<Name>,
    /// Whether there may be rows in the replica that belong to no zone.
    is_garbage: bool,
    /// Whether the replica is to note that it has been complete.
    is_complete_wanted: bool,

    /// When to give zones to knotd again, by the tags they wait under.
    retries: BTreeSet<(Instant, u64)>,
    retry_waits: HashMap<Name, Duration>,
    /// How often zones came that weren't what was announced.
    bad_wholes: HashMap<ZoneId, Duration>,
    /// Refusals that are sent later, so that a zone that always comes wrong isn't sent all the time.
    late_refusals: BTreeMap<(Instant, ZoneId), Refused>,
}

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
enum ReplicaState {
    Sound,
    /// The disk is full: what was to be written waits.
    Full {
        again_at: Instant,
        wait: Duration,
        told: HashSet<ZoneId>,
    },
    /// It has to be opened again before it can be used. There is no session meanwhile.
    Lost {
        again_at: Instant,
        wait: Duration,
    },
}

/// What a transaction leads to, once it is durable.
#[derive(Default)]
struct Group {
    frames: Vec<Queued>,
    jobs: Vec<(Name, Vec<ZoneGeneration>, Task)>,
    refusals: Vec<Refused>,
    bad: Vec<Refused>,
    /// Of zones that were set aside.
    missing: Vec<Refused>,
    /// What the replica has already: confirmed, unless knotd has yet to answer it.
    known: Vec<ZoneGeneration>,
    gapped: HashSet<ZoneId>,
    begun: HashSet<ZoneId>,
    whole: Vec<ZoneId>,
    credit_bytes: u64,
    bulk_bytes: u64,
    changes: u64,
    is_garbage: bool,
}

impl Core {
    fn run(mut self) {
        loop {
            let event = match self.stash.pop_front() {
                Some(event) => Some(event),
                None if self.has_work() => self.inbox.try_recv().ok(),
                None => match self.inbox.recv_timeout(self.wait()) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            let mut is_idle = event.is_none();
            let mut event = event;
            // What came in meanwhile goes into the same transaction.
            while let Some(one) = event {
                if let Event::End = one {
                    self.housekeep();
                    return;
                }
                self.take_event(one);
                event = self.stash.pop_front().or_else(|| self.inbox.try_recv().ok());
            }
            self.confirm();
            self.do_due();
            if self.has_work() {
                is_idle = false;
                self.transact();
            }
            if is_idle {
                self.housekeep();
            }
        }
    }

    /// Whether a transaction is to be made now.
    fn has_work(&self) -> bool {
        let is_something =
            (!self.queue.is_empty() && self.flights.len() < JOBS_MAX) || !self.damaged.is_empty();
        let is_time = match self.replica_state {
            ReplicaState::Sound => true,
            ReplicaState::Full { again_at, .. } => again_at <= Instant::now(),
            ReplicaState::Lost { .. } => false,
        };
        is_something && is_time
    }

    /// How long to wait for an event.
    fn wait(&self) -> Duration {
        let again_at = match self.replica_state {
            ReplicaState::Sound => None,
            ReplicaState::Full { again_at, .. } | ReplicaState::Lost { again_at, .. } => Some(again_at),
        };
        let retry = self.retries.first().map(|(at, _)| *at);
        let refusal = self.late_refusals.first_key_value().map(|((at, _), _)| *at);
        let until = [again_at, retry, refusal].into_iter().flatten().min();
        let wait = until.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        let is_something_left = self.is_garbage || self.is_complete_wanted || !self.applied.is_empty();
        if is_something_left { wait.min(IDLE) } else { wait }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Session(SessionEvent::Greet(answer)) => self.greet(answer),
            Event::Session(SessionEvent::Opened { buckets, outbox, head: _ }) => self.open(&buckets, outbox),
            Event::Session(SessionEvent::Frames(frames)) => {
                // Frames of a session that the agent has given up are of no use.
                if self.session.is_some() {
                    for frame in frames {
                        match frame.message {
                            ToPop::Ping { head, in_sync, .. } => self.ping(head, in_sync),
                            _ => self.queue.push(frame),
                        }
                    }
                }
            }
            Event::Session(SessionEvent::Closed) => self.close(),
            Event::Knot(report) => self.take_report(report),
            Event::KnotUp { written } => self.knot_up(written),
            Event::Damaged(zone) => self.damaged(zone),
            Event::End => {}
        }
    }

    // -- the session ------------------------------------------------------------------------------

    fn greet(&mut self, answer: tokio::sync::oneshot::Sender<Greeting>) {
        if let ReplicaState::Lost { .. } = self.replica_state {
            // The session ends without an answer.
            return;
        }
        match self.greeting() {
            Ok(greeting) => {
                // Nobody may want to know any more.
                let _ = answer.send(greeting);
            }
            Err(error) => self.replica_failed(&error, Group::default()),
        }
    }

    /// What is durable *and* answered; the rest is told with the inventory, and comes again.
    fn greeting(&self) -> Result<Greeting, ReplicaError> {
        let mut bucket_digests: Box<[u128; BUCKETS]> = Box::new(*self.replica.bucket_digests());
        for zone in self.flights.zones() {
            // What is on its way to knotd is not to be taken for confirmed, and not for absent either (knotd may have
            // it): its bucket has to differ, whether the control plane still has the zone or not.
            let bucket = &mut bucket_digests[bucket_of(zone)];
            if let Some(row) = self.replica.zone(zone)? {
                *bucket = bucket.wrapping_sub(inventory_digest(zone, row.generation, row.digest));
            }
            *bucket = bucket.wrapping_add(inventory_digest(zone, Generation::default(), 0));
        }
        Ok(Greeting { newest: self.replica.newest(), bucket_digests })
    }

    fn open(&mut self, buckets: &[u16], outbox: UnboundedSender<ToHerald>) {
        self.close();
        if !buckets.is_empty() {
            let wanted: HashSet<usize> = buckets.iter().map(|bucket| usize::from(*bucket)).collect();
            let mut zones = Vec::new();
            let inventory = self.replica.for_each_zone(|zone| {
                if wanted.contains(&bucket_of(zone.id)) && !self.flights.has_zone(zone.id) {
                    zones.push(InventoryZone {
                        zone: zone.id,
                        generation: zone.generation,
                        digest: zone.digest,
                        name: Some(zone.name),
                        rrset_count: Some(zone.rrset_count),
                    });
                }
            });
            if let Err(error) = inventory {
                return self.replica_failed(&error, Group::default());
            }
            // Not to be taken for confirmed.
            let pending = self.flights.zones().filter(|zone| wanted.contains(&bucket_of(*zone)));
            zones.extend(pending.map(|zone| InventoryZone {
                zone,
                generation: Generation::default(),
                digest: 0,
                name: self.flights.name_of(zone).cloned(),
                rrset_count: None,
            }));
            let mut chunks = zones.chunks(INVENTORY_ZONES).peekable();
            while let Some(chunk) = chunks.next() {
                let last = chunks.peek().is_none();
                let _ = outbox.send(ToHerald::Inventory { zones: chunk.to_vec(), last });
            }
            if zones.is_empty() {
                let _ = outbox.send(ToHerald::Inventory { zones, last: true });
            }
        }
        self.session = Some(outbox);
        // One may have been set aside since the hello.
        for refused in self.missing.values() {
            self.send(ToHerald::Refused(refused.clone()));
        }
    }

    /// The session is over; what it had yet to bring comes with the next one.
    fn close(&mut self) {
        self.session = None;
        self.queue = Queue::default();
        self.replica.forget_incoming();
        self.is_garbage = true;
        self.gapped.clear();
        self.acks.clear();
        self.late_refusals.clear();
    }

    fn ping(&mut self, head: Generation, in_sync: bool) {
        self.board.update(|status| {
            status.herald_head = Some(head.to_string());
            status.in_sync = in_sync;
        });
        if in_sync && self.queue.is_empty() && !self.replica.is_complete() {
            self.is_complete_wanted = true;
        }
    }

    fn send(&self, message: ToHerald) {
        if let Some(session) = &self.session {
            // The session has just ended if it fails.
            let _ = session.send(message);
        }
    }

    /// Confirms what is durable and answered.
    fn confirm(&mut self) {
        if !self.acks.is_empty() {
            let zones = std::mem::take(&mut self.acks);
            self.send(ToHerald::Applied { zones });
            self.show();
        }
    }

    fn show(&self) {
        let lagging = self.flights.zone_count() as u64;
        self.board.replica_is(self.replica.newest(), self.replica.zone_count(), lagging);
    }

    // -- the replica ------------------------------------------------------------------------------

    /// Takes in what waits, with one sync.
    fn transact(&mut self) {
        let mut group = Group::default();
        match self.fill(&mut group).and_then(|()| self.replica.commit()) {
            Ok(()) => {
                self.replica_is_sound();
                self.applied.clear();
                self.damaged.clear();
                self.is_garbage |= group.is_garbage;
                self.carry_out(group);
            }
            Err(error) => self.replica_failed(&error, group),
        }
    }

    fn replica_is_sound(&mut self) {
        if !matches!(self.replica_state, ReplicaState::Sound) {
            tracing::info!("the replica can be used again");
            self.replica_state = ReplicaState::Sound;
            self.board.update(|status| status.replica_error = None);
        }
    }

    fn fill(&mut self, group: &mut Group) -> Result<(), ReplicaError> {
        self.replica.begin()?;
        for zone in &self.applied {
            self.replica.applied(*zone)?;
        }
        for zone in self.damaged.clone() {
            self.set_aside(zone, group)?;
        }
        let mut is_cut_short = false;
        loop {
            let is_full = group.frames.len() >= GROUP_URGENT_MAX || group.bulk_bytes >= GROUP_BULK_BYTES;
            if is_full && !self.queue.has_urgent() || group.frames.len() >= 2 * GROUP_URGENT_MAX {
                return Ok(());
            }
            let Some(queued) = self.queue.next(is_full || is_cut_short) else { return Ok(()) };
            let is_bulk = queued.class != Class::Urgent;
            if is_bulk {
                group.bulk_bytes += queued.frame.bytes;
            } else if group.bulk_bytes > 0 {
                // It came while bulk was being taken in: not to be kept waiting for more of that.
                is_cut_short = true;
            }
            let taken = self.take_in(&queued.frame, group);
            // Kept, to be put back if the transaction fails.
            group.frames.push(queued);
            taken?;
            if is_bulk {
                self.look_for_frames();
            }
        }
    }

    /// Looks whether something urgent has come.
    fn look_for_frames(&mut self) {
        while self.stash.is_empty()
            && let Ok(event) = self.inbox.try_recv()
        {
            match event {
                Event::Session(SessionEvent::Frames(_)) => self.take_event(event),
                event => self.stash.push_back(event),
            }
        }
    }

    fn take_in(&mut self, frame: &Frame, group: &mut Group) -> Result<(), ReplicaError> {
        match &frame.message {
            ToPop::Delta(delta) => self.take_delta(delta, group)?,
            ToPop::ZoneBegin(begin) => {
                group.gapped.remove(&begin.zone);
                group.begun.insert(begin.zone);
                self.replica.whole_begin(begin.clone())?;
            }
            ToPop::ZonePart { zone, rrsets } => {
                group.credit_bytes += frame.bytes;
                self.replica.whole_part(*zone, rrsets)?;
            }
            ToPop::ZoneEnd { zone } => self.take_whole(*zone, group)?,
            ToPop::Remove { zone, generation } => {
                let receipt = ZoneGeneration { zone: *zone, generation: *generation };
                match self.replica.remove(*zone, *generation)? {
                    None => match self.name_only_knot_has(*zone)? {
                        Some(name) => group.jobs.push((name, vec![receipt], Task::Remove)),
                        None => group.known.push(receipt),
                    },
                    Some(row) => {
                        group.jobs.push((row.name, vec![receipt], Task::Remove));
                        group.is_garbage = true;
                        group.changes += 1;
                    }
                }
            }
            // They are no zone's and never get here.
            ToPop::Welcome(_) | ToPop::Reject { .. } | ToPop::Ping { .. } | ToPop::Compare { .. } => {}
        }
        Ok(())
    }

    /// The name of a zone that isn't in the replica, was set aside say, and that knotd may still have.
    fn name_only_knot_has(&self, zone: ZoneId) -> Result<Option<Name>, ReplicaError> {
        let Some(name) = self.flights.name_of(zone) else { return Ok(None) };
        Ok(self.replica.zone_named(name)?.is_none().then(|| name.clone()))
    }

    fn take_delta(&mut self, delta: &ZoneDelta, group: &mut Group) -> Result<(), ReplicaError> {
        let is_gapped = group.gapped.contains(&delta.zone)
            || (self.gapped.contains(&delta.zone) && !group.begun.contains(&delta.zone));
        if is_gapped {
            return Ok(());
        }
        let refused = |cause, reason, have| Refused {
            zone: delta.zone,
            generation: delta.generation,
            cause,
            reason,
            have,
        };
        match self.replica.delta(delta)? {
            DeltaOutcome::Taken(TakenDelta { zone, soa, changes }) => {
                let whole = self.put_of(&zone);
                let receipt = ZoneGeneration { zone: zone.id, generation: zone.generation };
                let task = Task::Delta(Delta { soa, changes, whole });
                group.jobs.push((zone.name, vec![receipt], task));
                group.changes += 1;
            }
            DeltaOutcome::Known => {
                group.known.push(ZoneGeneration { zone: delta.zone, generation: delta.generation });
            }
            DeltaOutcome::Older(have) => {
                let reason = format!("the replica has the newer {have}");
                group.refusals.push(refused(RefusalCause::Older, reason, Some(have)));
            }
            DeltaOutcome::Gap { reason, have } => {
                group.gapped.insert(delta.zone);
                group.refusals.push(refused(RefusalCause::Gap, reason, have));
            }
        }
        Ok(())
    }

    fn take_whole(&mut self, id: ZoneId, group: &mut Group) -> Result<(), ReplicaError> {
        match self.replica.whole_end(id)? {
            WholeOutcome::Taken { zone, replaced } => {
                let generation = zone.generation;
                let zones = [Some(id), replaced].into_iter().flatten();
                let receipts = zones.map(|zone| ZoneGeneration { zone, generation }).collect();
                let put = self.put_of(&zone);
                group.jobs.push((zone.name, receipts, Task::Put(put)));
                group.whole.push(id);
                group.is_garbage = true;
                group.changes += 1;
            }
            WholeOutcome::Known(generation) => group.known.push(ZoneGeneration { zone: id, generation }),
            // Another zone has its name by now.
            WholeOutcome::Older { generation, have: None } => {
                group.known.push(ZoneGeneration { zone: id, generation });
            }
            WholeOutcome::Older { generation, have: Some(have) } => group.refusals.push(Refused {
                zone: id,
                generation,
                cause: RefusalCause::Older,
                reason: format!("the replica has the newer {have}"),
                have: Some(have),
            }),
            WholeOutcome::Bad { generation, reason, have } => {
                group.is_garbage = true;
                group.bad.push(Refused { zone: id, generation, cause: RefusalCause::Gap, reason, have });
            }
            WholeOutcome::NotBegun => {}
        }
        Ok(())
    }

    /// A damaged zone goes out of the replica, and comes again whole. knotd goes on with what it has of it.
    fn set_aside(&mut self, id: ZoneId, group: &mut Group) -> Result<(), ReplicaError> {
        if let Some(row) = self.replica.set_aside(id)? {
            group.gapped.insert(id);
            group.is_garbage = true;
            group.missing.push(Refused {
                zone: id,
                generation: row.generation,
                cause: RefusalCause::Gap,
                reason: "it is damaged in the replica".into(),
                have: None,
            });
        }
        Ok(())
    }

    /// What follows from a transaction that is durable.
    fn carry_out(&mut self, group: Group) {
        self.gapped.retain(|zone| !group.begun.contains(zone));
        self.gapped.extend(group.gapped);
        for zone in group.whole {
            self.bad_wholes.remove(&zone);
        }
        let mut jobs = Vec::with_capacity(group.jobs.len());
        for refused in group.missing {
            self.send(ToHerald::Refused(refused.clone()));
            self.missing.insert(refused.zone, refused);
        }
        for (zone, receipts, task) in group.jobs {
            receipts.iter().for_each(|receipt| drop(self.missing.remove(&receipt.zone)));
            let tag = self.flights.launch(&zone, receipts);
            self.leftovers.remove(&zone);
            jobs.push(Job { zone, tag, task });
        }
        if !jobs.is_empty() {
            self.driver.submit(jobs);
        }
        let is_answered = |zone: &ZoneGeneration| !self.flights.has_zone(zone.zone);
        self.acks.extend(group.known.into_iter().filter(is_answered));
        for refused in group.refusals {
            self.send(ToHerald::Refused(refused));
        }
        for refused in group.bad {
            self.whole_was_bad(refused);
        }
        if group.credit_bytes > 0 {
            self.send(ToHerald::BulkCredit { bytes: group.credit_bytes });
        }
        self.board.update(|status| {
            status.changes_taken += group.changes;
            status.replica_commits += 1;
        });
        self.show();
        self.confirm();
    }

    /// The first time it is asked for again at once, and then later and later.
    fn whole_was_bad(&mut self, refused: Refused) {
        note(&self.board, format!("the zone {} came wrong: {}", refused.zone, refused.reason));
        match self.bad_wholes.get_mut(&refused.zone) {
            None => {
                self.bad_wholes.insert(refused.zone, ZONE_WAIT_MIN);
                self.send(ToHerald::Refused(refused));
            }
            Some(wait) => {
                self.late_refusals.insert((Instant::now() + *wait, refused.zone), refused);
                *wait = (*wait * 2).min(ZONE_WAIT_MAX);
            }
        }
    }

    /// A transaction failed: its frames wait, or the replica has to be opened again.
    fn replica_failed(&mut self, error: &ReplicaError, group: Group) {
        self.replica.rollback();
        let message = format!("the replica could not be used: {error}");
        self.board.update(|status| status.replica_error = Some(error.to_string()));
        match error {
            ReplicaError::Full => {
                let (wait, mut told) = match std::mem::replace(&mut self.replica_state, ReplicaState::Sound) {
                    ReplicaState::Full { wait, told, .. } => ((wait * 2).min(REPLICA_WAIT_MAX), told),
                    _ => {
                        note(&self.board, message);
                        (REPLICA_WAIT_MIN, HashSet::new())
                    }
                };
                for Queued { frame, .. } in &group.frames {
                    let (zone, generation) = match &frame.message {
                        ToPop::Delta(delta) => (delta.zone, delta.generation),
                        ToPop::ZoneBegin(begin) => (begin.zone, begin.generation),
                        ToPop::Remove { zone, generation } => (*zone, *generation),
                        _ => continue,
                    };
                    if told.insert(zone) {
                        let (cause, reason, have) = (RefusalCause::Replica, error.to_string(), None);
                        self.send(ToHerald::Refused(Refused { zone, generation, cause, reason, have }));
                    }
                }
                self.queue.put_back(group.frames);
                self.replica_state = ReplicaState::Full { again_at: Instant::now() + wait, wait, told };
            }
            ReplicaError::Failed(_) | ReplicaError::Damaged(_) => {
                note(&self.board, message);
                self.close();
                if let ReplicaError::Damaged(_) = error {
                    self.start_afresh();
                }
                self.replica_state = ReplicaState::Lost { again_at: Instant::now(), wait: REPLICA_WAIT_MIN };
            }
        }
    }

    /// Puts a replica aside that is damaged beyond single zones. knotd goes on, and everything comes again.
    fn start_afresh(&mut self) {
        let aside = aside_dir(&self.config);
        match self.replica.start_afresh(&aside) {
            Ok(()) => note(&self.board, format!("the damaged replica was put aside to {}", aside.display())),
            Err(error) => note(&self.board, with_causes(&error)),
        }
        self.reader.close();
    }

    fn open_again(&mut self, wait: Duration) {
        match Replica::open(self.replica.dir()) {
            Ok(replica) => {
                self.replica = replica;
                self.reader.close();
                self.replica_is_sound();
                self.is_garbage = true;
                self.show();
            }
            Err(error) => {
                self.board.error(with_causes(&error));
                let wait = (wait * 2).min(REPLICA_WAIT_MAX);
                self.replica_state = ReplicaState::Lost { again_at: Instant::now() + wait, wait };
            }
        }
    }

    /// What can wait: marks of what knotd answers, rows of no zone, and that the replica was complete.
    fn housekeep(&mut self) {
        let is_something = self.is_garbage || self.is_complete_wanted || !self.applied.is_empty();
        if !matches!(self.replica_state, ReplicaState::Sound) || !is_something {
            return;
        }
        match self.housekeeping() {
            Ok(is_garbage) => {
                self.is_garbage = is_garbage;
                self.applied.clear();
                if std::mem::take(&mut self.is_complete_wanted) {
                    self.driver.filling(false);
                    self.remove_leftovers();
                }
            }
            Err(error) => self.replica_failed(&error, Group::default()),
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

    // -- knotd ------------------------------------------------------------------------------------

    /// The zone's whole content as a task for the driver.
    fn put_of(&self, zone: &ZoneRow) -> Put {
        let content = ReplicaContent {
            reader: self.reader.clone(),
            events: self.events.clone(),
            zone: zone.id,
            serial: zone.serial,
        };
        Put { serial: zone.serial, content: Arc::new(content) }
    }

    /// What a killed agent may have left undone is done again, by file.
    fn resume_unapplied(&mut self) {
        let unapplied = match self.replica.unapplied() {
            Ok(unapplied) => unapplied,
            Err(error) => return self.replica_failed(&error, Group::default()),
        };
        for (name, receipt) in unapplied {
            self.give_again(&name, vec![receipt]);
        }
    }

    /// Gives knotd what the replica has of this name: the zone, or that there is none.
    fn give_again(&mut self, name: &Name, receipts: Vec<ZoneGeneration>) {
        let tag = self.flights.launch(name, receipts);
        self.give(name.clone(), tag);
    }

    fn give(&mut self, name: Name, tag: u64) {
        match self.replica.zone_named(&name) {
            Ok(zone) => {
                let task = zone.map_or(Task::Remove, |zone| Task::Put(self.put_of(&zone)));
                self.driver.submit(vec![Job { zone: name, tag, task }]);
            }
            Err(error) => self.replica_failed(&error, Group::default()),
        }
    }

    fn knot_up(&mut self, written: Option<Vec<(Name, u32)>>) {
        let expected = match written {
            Some(written) => written,
            // What is under way may be half done: it is done by file once knotd turns out not to serve it so.
            None => {
                let mut expected = Vec::new();
                let all = self.replica.for_each_zone(|zone| {
                    if !self.flights.has_name(&zone.name) {
                        expected.push((zone.name, zone.serial));
                    }
                });
                if let Err(error) = all {
                    self.replica_failed(&error, Group::default());
                }
                expected
            }
        };
        self.driver.resume(expected);
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Done { tag, result, .. } => {
                if let Some(landed) = self.flights.land(tag) {
                    match result {
                        Ok(()) => self.landed(landed),
                        Err(error) if landed.is_newest => self.failed(landed, &error),
                        // A newer job is under way.
                        Err(_) => {}
                    }
                }
            }
            Report::Stale { zone, serving } => self.found_stale(&zone, serving),
            Report::Unexpected { zone } => self.found_unexpected(zone),
            Report::Settled => tracing::info!("knotd serves what it should"),
            Report::ControlFailed { error } => note(&self.board, error),
        }
    }

    fn landed(&mut self, landed: Landed) {
        if landed.is_newest {
            if self.retry_waits.remove(&landed.name).is_some() {
                self.board.refused(&landed.name.to_string(), None);
            }
            self.applied.extend(&landed.zones);
        }
        self.acks.extend(landed.zones);
    }

    /// knotd doesn't have the newest content of a zone. It is put by file: at once if it was a change that failed, and
    /// later and later if that fails as well.
    fn failed(&mut self, landed: Landed, error: &TaskError) {
        let Landed { name, zones, .. } = landed;
        match error {
            TaskError::Ended => return,
            TaskError::NotServed => return self.give_again(&name, zones),
            _ => {}
        }
        let reason = error.to_string();
        note(&self.board, format!("the zone {name}: {reason}"));
        self.board.refused(&name.to_string(), Some(reason.clone()));
        for ZoneGeneration { zone, generation } in zones.iter().copied() {
            let (cause, reason) = (RefusalCause::Knot, reason.clone());
            self.send(ToHerald::Refused(Refused { zone, generation, cause, reason, have: Some(generation) }));
        }
        match self.retry_waits.get_mut(&name) {
            None => {
                self.retry_waits.insert(name.clone(), ZONE_WAIT_MIN);
                self.give_again(&name, zones);
            }
            Some(wait) => {
                let at = Instant::now() + *wait;
                *wait = (*wait * 2).min(ZONE_WAIT_MAX);
                let tag = self.flights.launch(&name, zones);
                self.retries.insert((at, tag));
            }
        }
    }

    fn found_stale(&mut self, name: &Name, serving: Option<u32>) {
        // What is under way makes it right.
        if self.flights.has_name(name) {
            return;
        }
        tracing::warn!(
            "knotd serves another serial of {name} than it should ({serving:?}): the zone is put again"
        );
        match self.replica.zone_named(name) {
            Ok(Some(row)) => {
                let receipt = ZoneGeneration { zone: row.id, generation: row.generation };
                self.give_again(name, vec![receipt]);
            }
            Ok(None) => {}
            Err(error) => self.replica_failed(&error, Group::default()),
        }
    }

    fn found_unexpected(&mut self, name: Name) {
        if self.flights.has_name(&name) {
            return;
        }
        match self.replica.zone_named(&name) {
            Ok(Some(_)) => self.found_stale(&name, None),
            Ok(None) => {
                self.leftovers.insert(name);
                self.remove_leftovers();
            }
            Err(error) => self.replica_failed(&error, Group::default()),
        }
    }

    /// Zones that the replica doesn't have are removed from knotd, but not for a replica that is still being filled.
    fn remove_leftovers(&mut self) {
        if self.replica.is_complete() {
            for name in std::mem::take(&mut self.leftovers) {
                self.give_again(&name, Vec::new());
            }
        }
    }

    /// A zone that can't be read as it was written. What knotd has of it is the last good state.
    fn damaged(&mut self, zone: ZoneId) {
        match self.replica.zone(zone) {
            Ok(Some(row)) => {
                note(
                    &self.board,
                    format!("the zone {} is damaged in the replica and is asked for anew", row.name),
                );
                // It waits for what comes: not to be taken for confirmed, nor for absent, as knotd has it.
                let receipt = ZoneGeneration { zone, generation: row.generation };
                self.flights.launch(&row.name, vec![receipt]);
                self.damaged.push(zone);
            }
            Ok(None) => {}
            Err(error) => self.replica_failed(&error, Group::default()),
        }
    }

    /// What is due by the clock.
    fn do_due(&mut self) {
        let now = Instant::now();
        if let ReplicaState::Lost { again_at, wait } = self.replica_state
            && again_at <= now
        {
            self.open_again(wait);
        }
        while let Some((at, tag)) = self.retries.pop_first() {
            if at > now {
                self.retries.insert((at, tag));
                break;
            }
            // A newer job may have taken its place.
            if let Some(name) = self.flights.name_if_newest(tag).cloned() {
                self.give(name, tag);
            }
        }
        while let Some((due, refused)) = self.late_refusals.pop_first() {
            if due.0 > now {
                self.late_refusals.insert(due, refused);
                break;
            }
            self.send(ToHerald::Refused(refused));
        }
    }
}
