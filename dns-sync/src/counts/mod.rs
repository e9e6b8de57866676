//! Counts of queries on their way from the module in knotd to the control plane.
//!
//! ```text
//!  module ──batch──▶ keeper ──durable──▶ CountsKept
//!                      │ adds up by zone and minute, every few seconds (a minute at most)
//!                      ▼
//!                  reports ──POST /api/v1/sync/stats──▶ control plane ──200──▶ forgotten
//! ```
//!
//! A batch is durable as it came, before the module is told that it is kept. Then batches become reports in one transaction: a
//! report is the counts of one zone in one minute under a number of its own, and never changes once it may have been sent. What isn't
//! confirmed is sent again, however long that takes, and the control plane counts each number once.

mod sender;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use herald_core::{Name, ZoneId};
use steering::link::{CountsBatch, ToModule};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

pub use self::sender::{ApiPlace, PostError, Sender};
pub use self::store::{CountsStore, Report, StoreError};
use crate::replica::Reader;
use crate::status::Board;

/// The shortest time between two reports of a zone.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The longest one: so often what came is made reports of, whatever becomes of them.
const REPORT_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Reports a second that a PoP makes at most of itself: with more zones that are asked for, they are made less often.
const REPORTS_PER_S: usize = 100;

/// The wait after the first failure; it doubles up to the second.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// How often it is looked whether there is something to do.
const TICK: Duration = Duration::from_millis(250);

/// Has the module tell all that isn't kept.
const TELL_ALL: ToModule = ToModule::CountsKept { instance: 0, sequence: 0 };

/// For how long it is remembered which zone had a name: a zone may be gone when the last of its counts come.
const NAME_TIME: Duration = Duration::from_secs(3600);

/// For how long the replica needn't be asked for a name again.
const NAME_FRESH: Duration = Duration::from_secs(1);

/// A handle on the keeper, whose thread ends with the last one.
#[derive(Clone)]
pub struct CountsKeeper {
    events: UnboundedSender<Event>,
}

enum Event {
    Batch(CountsBatch),
    Up,
    End,
}

impl CountsKeeper {
    /// Opens the store in `file` and starts to keep and to send. `kept` is called, in the keeper's thread, with what the module is to be told.
    ///
    /// # Errors
    /// If the store can't be had, or the thread.
    pub fn start(
        file: PathBuf,
        replica_dir: PathBuf,
        sender: Sender,
        places: watch::Receiver<Option<ApiPlace>>,
        board: Arc<Board>,
        kept: impl Fn(ToModule) + Send + 'static,
    ) -> Result<CountsKeeper, StoreError> {
        let store = CountsStore::open(&file)?;
        let (events, inbox) = unbounded_channel();
        let names = Names { replica_dir, reader: None, known: HashMap::new() };
        let failed = |error: std::io::Error| StoreError::Thread(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let keeper = Keeper { store, names, sender: Arc::new(sender), places, board, kept, failed: None };
        std::thread::Builder::new()
            .name("counts".into())
            .spawn(move || runtime.block_on(keeper.run(inbox)))
            .map_err(failed)?;
        Ok(CountsKeeper { events })
    }

    /// The module has counted this.
    pub fn take(&self, batch: CountsBatch) {
        let _ = self.events.send(Event::Batch(batch));
    }

    /// A module is there that counts: it is told to tell.
    pub fn module_up(&self) {
        let _ = self.events.send(Event::Up);
    }

    /// What comes from now on isn't kept; what is kept stays.
    pub fn end(&self) {
        let _ = self.events.send(Event::End);
    }
}

struct Keeper<K> {
    store: CountsStore,
    names: Names,
    sender: Arc<Sender>,
    places: watch::Receiver<Option<ApiPlace>>,
    board: Arc<Board>,
    kept: K,
    /// The batch that couldn't be taken, as instance and number: none that comes after it is taken before it.
    failed: Option<(u64, u64)>,
}

impl<K: Fn(ToModule)> Keeper<K> {
    async fn run(mut self, mut inbox: UnboundedReceiver<Event>) {
        let mut reported = Instant::now();
        let mut asked_again = Instant::now();
        let mut retry = RETRY_MIN;
        let mut due = Instant::now();
        // A batch is in the database again when an agent starts again; which zones it is of is found out now.
        if let Err(error) = self.store.recover(&mut |name| self.names.zone(name)) {
            self.failed(&error);
        }
        self.names.let_go();
        let (done, mut outcomes) = unbounded_channel();
        let mut is_posting = false;
        loop {
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(Event::Batch(batch)) => self.take(batch),
                    // All that isn't kept comes in this connection, in order.
                    Some(Event::Up) => {
                        self.failed = None;
                        (self.kept)(TELL_ALL);
                    }
                    Some(Event::End) | None => return,
                },
                Some((first, outcome)) = outcomes.recv() => {
                    is_posting = false;
                    match self.posted(first, outcome) {
                        true => (retry, due) = (RETRY_MIN, Instant::now()),
                        false => {
                            due = Instant::now() + retry;
                            retry = (retry * 2).min(RETRY_MAX);
                        }
                    }
                }
                () = tokio::time::sleep_until(due.max(Instant::now()).into()), if !is_posting => {
                    due = Instant::now() + TICK;
                    if self.failed.is_some() && asked_again.elapsed() >= RETRY_MAX {
                        asked_again = Instant::now();
                        (self.kept)(TELL_ALL);
                    }
                    if self.is_report_due(reported.elapsed()) {
                        reported = Instant::now();
                        if let Err(error) = self.store.report() {
                            self.failed(&error);
                        }
                        self.names.prune();
                    }
                    match self.store.first_reports() {
                        Ok(reports) if reports.is_empty() => {}
                        Ok(reports) => {
                            is_posting = true;
                            let (sender, done) = (Arc::clone(&self.sender), done.clone());
                            let place = self.places.borrow().clone();
                            tokio::spawn(async move {
                                let outcome = sender.post(place, &reports).await;
                                let _ = done.send((reports, outcome));
                            });
                        }
                        Err(error) => self.failed(&error),
                    }
                }
            }
        }
    }

    fn is_report_due(&self, since: Duration) -> bool {
        let rows = self.store.rows();
        let wanted = Duration::from_secs((rows / REPORTS_PER_S) as u64).max(REPORT_INTERVAL);
        let is_free = self.store.backlog() == 0;
        rows > 0 && (since >= REPORT_INTERVAL_MAX || (is_free && since >= wanted))
    }

    fn take(&mut self, batch: CountsBatch) {
        let (instance, sequence) = (batch.instance, batch.sequence);
        if self.failed.is_some_and(|failed| failed != (instance, sequence)) {
            return;
        }
        let taken = self.store.take(&batch, &mut |name| self.names.zone(name));
        self.names.let_go();
        match taken {
            Ok(()) => {
                self.failed = None;
                self.board.counts(|counts| counts.error = None);
                (self.kept)(ToModule::CountsKept { instance, sequence });
            }
            Err(error) => {
                self.failed = Some((instance, sequence));
                self.failed(&error);
            }
        }
        let (backlog, rows) = (self.store.backlog(), self.store.rows());
        self.board.counts(|counts| {
            counts.taken = self.store.taken();
            counts.unconfirmed = (backlog + rows) as u64;
        });
    }

    /// What came of sending reports; whether to go on at once.
    fn posted(&mut self, reports: Vec<Report>, outcome: Result<(), PostError>) -> bool {
        let done = match &outcome {
            Ok(()) => self.store.confirmed(&reports),
            Err(PostError::UnknownZones(places)) => {
                let unknown =
                    places.iter().filter_map(|place| reports.get(*place)).map(|report| report.sequence);
                let unknown: Vec<u64> = unknown.collect();
                match unknown.is_empty() {
                    true => Ok(()),
                    false => self.store.of_no_zone(&unknown).map(|()| {
                        tracing::info!(
                            "counts of {} zones that are gone are counted as those of no zone",
                            unknown.len()
                        )
                    }),
                }
            }
            Err(_) => Ok(()),
        };
        if let Err(error) = &done {
            self.failed(error);
        }
        let reason = outcome.as_ref().err().map(ToString::to_string);
        let backlog = self.store.backlog() + self.store.rows();
        let mut is_news = false;
        self.board.counts(|counts| {
            is_news = reason.is_some() && counts.reason != reason;
            counts.reason.clone_from(&reason);
            counts.unconfirmed = backlog as u64;
        });
        if let Some(reason) = reason.filter(|_| is_news) {
            tracing::warn!("counts wait: {reason}");
        }
        done.is_ok() && matches!(outcome, Ok(()) | Err(PostError::UnknownZones(_)))
    }

    fn failed(&self, error: &StoreError) {
        let text = crate::materialize::with_causes(error);
        let mut is_news = false;
        self.board.counts(|counts| {
            is_news = counts.error.as_ref() != Some(&text);
            counts.error = Some(text.clone());
        });
        if is_news {
            tracing::error!("counts can't be kept: {text}");
        }
    }
}

/// Which zone has a name, or had it last.
struct Names {
    replica_dir: PathBuf,
    reader: Option<Reader>,
    known: HashMap<Name, (ZoneId, Instant)>,
}

impl Names {
    fn zone(&mut self, name: &Name) -> Option<ZoneId> {
        let known = self.known.get(name).copied();
        if let Some((zone, seen)) = known
            && seen.elapsed() < NAME_FRESH
        {
            return Some(zone);
        }
        match self.ask(name) {
            Some(zone) => {
                self.known.insert(name.clone(), (zone, Instant::now()));
                Some(zone)
            }
            None => known.map(|(zone, _)| zone),
        }
    }

    fn ask(&mut self, name: &Name) -> Option<ZoneId> {
        if self.reader.is_none() {
            self.reader = Reader::open(&self.replica_dir).ok();
        }
        match self.reader.as_ref()?.zone_named(name) {
            Ok(zone) => zone,
            Err(_) => {
                self.reader = None;
                None
            }
        }
    }

    fn prune(&mut self) {
        self.known.retain(|_, (_, seen)| seen.elapsed() < NAME_TIME);
    }

    /// Closes the replica: it may be put aside, and whoever closes it last has to be the one that writes it.
    fn let_go(&mut self) {
        self.reader = None;
    }
}
