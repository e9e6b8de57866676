//! Queries that are logged, on their way from the module in knotd to the control plane.
//!
//! ```text
//!   session ──zones, for how long──▶ keeper ──LogQueries──▶ module in knotd   (by a connection of its own)
//!                                      │ ◀────Queries────────┘
//!                                      └──POST /api/v1/sync/query-log──▶ control plane
//! ```
//!
//! It is a log to find faults by: what waits is in memory, bounded, and lost with the agent. It has a connection to the module, a thread and
//! requests of its own, so that counts and changes never wait for it. A zone's log ends when its time is up, also if nobody is heard of any
//! more.

mod queue;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use herald_core::ZoneId;
use herald_wire::stream::{LoggedZone, QueryLogs, ToPop};
use steering::link::{LOGGED_ZONES_MAX, LoggedQueries, ToAgent, ToModule, encode_frame};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use self::queue::{Batch, Queue};
use crate::counts::{ApiPlace, PostError, Sender};
use crate::module::link::{Link, LinkEvent};
use crate::status::{Board, QueryLogStatus};

/// The wait after the first failure; it doubles up to the second.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// How long it is waited for more before a batch is sent.
const GATHER: Duration = Duration::from_millis(200);

/// A handle on who keeps it. It ends with the last handle.
#[derive(Clone)]
pub struct QueryLogKeeper(UnboundedSender<Event>);

enum Event {
    Set(QueryLogs),
    Module(LinkEvent),
    /// The agent ends.
    End,
}

impl QueryLogKeeper {
    /// Starts with nothing to log, for the module that listens at this socket.
    ///
    /// # Errors
    /// If there can't be a thread.
    pub fn start(
        module_socket: PathBuf,
        sender: Sender,
        places: watch::Receiver<Option<ApiPlace>>,
        board: Arc<Board>,
    ) -> io::Result<QueryLogKeeper> {
        let (events, inbox) = unbounded_channel();
        let linked = events.clone();
        let link = Link::start(module_socket, move |event| drop(linked.send(Event::Module(event))))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keeper = Keeper {
            link,
            connection: None,
            logged: BTreeMap::new(),
            module_logs: 0,
            queue: Queue::new(getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?),
            sender: Arc::new(sender),
            places,
            board,
            reason: None,
        };
        std::thread::Builder::new()
            .name("query-log".into())
            .spawn(move || runtime.block_on(keeper.run(inbox)))?;
        Ok(QueryLogKeeper(events))
    }

    /// Takes a frame if it is about the query log, and gives back any other.
    pub(crate) fn take(&self, frame: ToPop) -> Option<ToPop> {
        match frame {
            ToPop::QueryLogs(logs) => {
                self.tell(Event::Set(logs));
                None
            }
            other => Some(other),
        }
    }

    /// Nothing is sent any more.
    pub fn end(&self) {
        self.tell(Event::End);
    }

    fn tell(&self, event: Event) {
        // Its thread lives until it is told to end.
        let _ = self.0.send(event);
    }
}

struct Keeper {
    link: Link,
    /// The connection that stands, if the module logs queries.
    connection: Option<u64>,
    /// What is to be logged, and when it ends.
    logged: BTreeMap<ZoneId, (LoggedZone, Instant)>,
    /// Zones that the module says it logs.
    module_logs: u64,
    queue: Queue,
    sender: Arc<Sender>,
    places: watch::Receiver<Option<ApiPlace>>,
    board: Arc<Board>,
    /// Why what there is waits.
    reason: Option<String>,
}

impl Keeper {
    async fn run(mut self, mut inbox: UnboundedReceiver<Event>) {
        let (done, mut outcomes) = unbounded_channel();
        let mut retry = RETRY_MIN;
        let mut due: Option<Instant> = None;
        let mut is_posting = false;
        loop {
            if due.is_none() && !is_posting && !self.queue.is_empty() {
                due = Some(Instant::now() + GATHER);
            }
            self.show();
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(Event::Set(logs)) => self.set(logs),
                    Some(Event::Module(event)) => self.module(event),
                    Some(Event::End) | None => return,
                },
                Some((batch, outcome)) = outcomes.recv() => {
                    is_posting = false;
                    let (wait, next) = match self.posted(batch, outcome) {
                        true => (GATHER, RETRY_MIN),
                        false => (retry, (retry * 2).min(RETRY_MAX)),
                    };
                    retry = next;
                    due = Some(Instant::now() + wait);
                }
                () = sleep_until(due), if !is_posting && due.is_some() => {
                    due = None;
                    if let Some(batch) = self.queue.next_batch() {
                        is_posting = true;
                        let (sender, done) = (Arc::clone(&self.sender), done.clone());
                        let place = self.places.borrow().clone();
                        tokio::spawn(async move {
                            let outcome = sender.send(place, "/sync/query-log", &batch.document()).await;
                            let _ = done.send((batch, outcome));
                        });
                    }
                }
            }
        }
    }

    fn set(&mut self, logs: QueryLogs) {
        let QueryLogs { is_all, puts, deletes } = logs;
        let now = Instant::now();
        if is_all {
            self.logged.clear();
        }
        self.logged.retain(|zone, (_, until)| *until > now && !deletes.contains(zone));
        for zone in puts {
            let until = now + Duration::from_millis(zone.left_ms);
            self.logged.insert(zone.zone, (zone, until));
        }
        self.tell_module();
    }

    fn module(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { connection, logs_queries, .. } => {
                self.connection = logs_queries.then_some(connection);
                self.tell_module();
            }
            LinkEvent::Said { connection, message: ToAgent::Queries { zones } } => {
                if self.connection == Some(connection) {
                    zones.into_iter().for_each(|zone: LoggedQueries| self.queue.push(zone));
                }
            }
            LinkEvent::Said { connection, message: ToAgent::Status(status) } => {
                if self.connection == Some(connection) {
                    self.module_logs = status.logged_zones;
                }
            }
            LinkEvent::Said { .. } => {}
            LinkEvent::Down { .. } => {
                self.connection = None;
                self.module_logs = 0;
            }
        }
    }

    /// It forgets what it was told with the connection, and when the time is up.
    fn tell_module(&self) {
        let Some(connection) = self.connection else { return };
        let now = Instant::now();
        let zones = self.logged.values().filter(|(_, until)| *until > now).take(LOGGED_ZONES_MAX);
        let zones = zones.map(|(zone, until)| steering::link::LoggedZone {
            zone: zone.zone,
            name: zone.name.clone(),
            is_private: zone.is_private,
            one_in: zone.one_in,
            left_ms: u64::try_from((*until - now).as_millis()).unwrap_or(u64::MAX),
        });
        let mut frame = Vec::new();
        encode_frame(&ToModule::LogQueries { zones: zones.collect() }, &mut frame);
        encode_frame(&ToModule::Ask, &mut frame);
        self.link.write(connection, frame);
    }

    /// What came of sending a batch; whether to go on at once.
    fn posted(&mut self, batch: Batch, outcome: Result<(), PostError>) -> bool {
        let reason = outcome.as_ref().err().map(ToString::to_string);
        if let Some(reason) = &reason
            && self.reason.as_ref() != Some(reason)
        {
            tracing::warn!("logged queries wait: {reason}");
        }
        self.reason = reason;
        match outcome {
            Ok(()) => {
                self.queue.confirmed(&batch);
                true
            }
            // It won't be taken later either.
            Err(PostError::Refused { status: 400 | 404 | 413 | 422, .. } | PostError::UnknownZones(_)) => {
                self.queue.lost(&batch);
                false
            }
            Err(_) => {
                self.queue.put_back(batch);
                false
            }
        }
    }

    fn show(&self) {
        let status = QueryLogStatus {
            zones: self.module_logs,
            waiting: self.queue.waiting() as u64,
            sent: self.queue.sent,
            left_out: self.queue.left_out,
            reason: self.reason.clone(),
        };
        self.board.update(|shown| shown.query_log = Some(status));
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
