//! The past: who changed what, when and why, and any zone as it was.
//!
//! All of it is in the log. An index of our own, derived and rebuilt whenever it is missing, says which entries are
//! about which zone, so that a zone's past is read without reading everybody's. A thread keeps it up with the log; it is
//! never on the writer's way, and may lag: who asks waits for it.

mod as_of;
mod index;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herald_core::firewall::{Firewall, Owner};
use herald_core::zone::Zone;
use herald_core::{MonitorId, ZoneId};
use tokio::sync::{Notify, Semaphore, watch};

use crate::engine::Follow;
use as_of::Recent;
pub use index::{
    Changes, ChangesFilter, Kinds, KnownMonitor, KnownZone, MonitorEvent, MonitorRecord, Record, TouchedZone,
    VerdictRecord, ZoneRecord,
};
use index::{Index, IndexError};

/// For so long the follower lets entries gather, unless somebody waits: so a burst costs it few transactions.
const LINGER: Duration = Duration::from_millis(100);

/// For so long a reader waits for the index to come up with the log.
const WAIT: Duration = Duration::from_secs(10);

/// After a failure of the index it is tried again this much later.
const RETRY: Duration = Duration::from_secs(1);

/// So many entries, and about so many bytes, are read and indexed at once.
const BATCH_ENTRIES: usize = 2048;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// So many zones of the past are put together at once: each may be large.
const FOLDS_MAX: usize = 2;

/// A handle on the past. Clones are handles on the same one.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    follow: Follow,
    /// The reading side of the index; none while it is made anew.
    reader: Arc<Mutex<Option<Index>>>,
    /// Up to where the index has come.
    indexed: watch::Receiver<u64>,
    /// Somebody waits for it.
    hurry: Arc<Notify>,
    /// The revision from which on the past is kept.
    horizon: Arc<AtomicU64>,
    folds: Semaphore,
    recent: Mutex<Recent>,
}

/// Why the past can't be told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The index has not come up with the log in time.
    #[error(
        "the index of the history is being built, and is at revision {indexed} of {wanted}: try again soon"
    )]
    Behind {
        /// Where it is.
        indexed: u64,
        /// Where it is to be.
        wanted: u64,
    },
    /// What was asked for is so old that it is not kept any more.
    #[error("the history before revision {horizon} is not kept any more")]
    Erased {
        /// The oldest revision of which all is known.
        horizon: u64,
    },
    /// The index can't be read.
    #[error("the index of the history can't be read: {0}")]
    Index(#[from] IndexError),
    /// The log can't be read.
    #[error("the log can't be read: {0}")]
    Store(#[from] herald_store::StoreError),
    /// An entry can't be read.
    #[error(transparent)]
    Log(#[from] herald_core::log::LogError),
    /// The state from which the past is told can't be read.
    #[error("the past can't be told: {0}")]
    Base(String),
    /// The daemon is stopping.
    #[error("the control plane is stopping")]
    Stopping,
}

impl HistoryError {
    fn base(error: crate::engine::RecoverError) -> HistoryError {
        HistoryError::Base(error.to_string())
    }
}

impl History {
    /// Opens the index in this directory, or makes it, and begins to follow the log. It takes its time for what it hasn't
    /// seen yet, and nobody has to wait for that who doesn't ask about the past.
    ///
    /// # Errors
    /// If the index can't be made or the thread can't be started.
    pub fn start(dir: &Path, follow: Follow) -> Result<History, HistoryError> {
        let index = Index::open(dir, &**follow.store())?;
        let horizon = follow.store().base()?.map_or(0, |base| base.revision);
        let horizon = Arc::new(AtomicU64::new(horizon));
        let (announce, indexed) = watch::channel(index.indexed()?);
        let reader = Arc::new(Mutex::new(Some(Index::open_reader(dir)?)));
        let hurry = Arc::new(Notify::new());
        let follower = Follower {
            dir: dir.to_owned(),
            follow: follow.clone(),
            index: Some(index),
            reader: Arc::clone(&reader),
            announce,
            hurry: Arc::clone(&hurry),
            horizon: Arc::clone(&horizon),
        };
        let thread = std::thread::Builder::new().name("herald-history".into());
        let thread = thread.spawn(|| follower.run()).map_err(|e| IndexError::Thread(e.to_string()))?;
        Ok(History(Arc::new(Inner {
            thread: Mutex::new(Some(thread)),
            follow,
            reader,
            indexed,
            hurry,
            horizon,
            folds: Semaphore::new(FOLDS_MAX),
            recent: Mutex::default(),
        })))
    }

    /// The thread, for whoever wants to wait for its end, which comes after the engine's: it reads the store until then.
    /// Given once.
    pub fn take_thread(&self) -> Option<std::thread::JoinHandle<()>> {
        self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The revision from which on the past is kept; 0 if all of it is.
    pub fn horizon(&self) -> u64 {
        self.0.horizon.load(Ordering::Acquire)
    }

    /// Payloads before this revision were erased: what the index has of them goes too.
    pub fn set_horizon(&self, horizon: u64) {
        self.0.horizon.fetch_max(horizon, Ordering::AcqRel);
        self.0.hurry.notify_one();
    }

    /// The revision that was the last one at this time.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn revision_at(&self, time_ms: u64) -> Result<u64, HistoryError> {
        self.read(move |index| index.revision_at(time_ms)).await
    }

    /// When an entry was appended, in ms since the epoch.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn time_of(&self, revision: u64) -> Result<Option<u64>, HistoryError> {
        self.read(move |index| index.time_of(revision)).await
    }

    /// A zone that is or was: its name and holder.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn known_zone(&self, zone: ZoneId) -> Result<Option<KnownZone>, HistoryError> {
        self.read(move |index| index.known_zone(zone)).await
    }

    /// What was done to a zone, newest first: at most `limit` records of revisions below `before`.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn of_zone(
        &self,
        zone: ZoneId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ZoneRecord>, HistoryError> {
        let horizon = self.horizon();
        self.read(move |index| index.of_zone(zone, horizon, before, limit)).await
    }

    /// What happened to a monitor, newest first: at most `limit` records of revisions below `before`.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn of_monitor(
        &self,
        monitor: MonitorId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<MonitorRecord>, HistoryError> {
        let horizon = self.horizon();
        self.read(move |index| index.of_monitor(monitor, horizon, before, limit)).await
    }

    /// A monitor that is or was.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn known_monitor(&self, monitor: MonitorId) -> Result<Option<KnownMonitor>, HistoryError> {
        self.read(move |index| index.known_monitor(monitor)).await
    }

    /// Verdicts of revisions after this one, oldest first, those of an entry together: no more than `limit` if these are all.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn verdicts(&self, after: u64, limit: usize) -> Result<Vec<VerdictRecord>, HistoryError> {
        let after = after.max(self.horizon());
        self.read(move |index| index.verdicts(after, limit)).await
    }

    /// What was done to an owner's firewall, newest first: at most `limit` records of revisions below `before`.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn of_firewall(
        &self,
        owner: Owner,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Record>, HistoryError> {
        let horizon = self.horizon();
        self.read(move |index| index.of_firewall(owner, horizon, before, limit)).await
    }

    /// The firewall right after a revision, of which what is this owner's is told alone.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn firewall_at(&self, owner: Owner, revision: u64) -> Result<Firewall, HistoryError> {
        let now = self.0.follow.state();
        if now.firewall().revision(owner) <= revision {
            return Ok(now.firewall().clone());
        }
        let horizon = self.horizon();
        if revision < horizon {
            return Err(HistoryError::Erased { horizon });
        }
        let touches = self.read(move |index| index.firewall_touches(owner, horizon, revision)).await?;
        let _permit = self.0.folds.acquire().await.map_err(|_| HistoryError::Stopping)?;
        let store = Arc::clone(self.0.follow.store());
        let folded = tokio::task::spawn_blocking(move || as_of::fold_firewall(&*store, horizon, &touches));
        folded.await.map_err(|_| HistoryError::Stopping)?
    }

    /// What was done at all, newest first.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn changes(&self, mut filter: ChangesFilter) -> Result<Changes, HistoryError> {
        filter.after = filter.after.max(self.horizon());
        self.read(move |index| index.changes(&filter)).await
    }

    /// Whether a zone's SOA or set of name servers was changed after one revision and up to another.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn soa_was_set(&self, zone: ZoneId, after: u64, up_to: u64) -> Result<bool, HistoryError> {
        self.read(move |index| index.soa_was_set(zone, after, up_to)).await
    }

    /// A zone right after a revision; none if it wasn't there then.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn zone_at(&self, zone: ZoneId, revision: u64) -> Result<Option<Arc<Zone>>, HistoryError> {
        // It may not have changed since, and then it is at hand.
        let now = self.0.follow.state();
        if let Some(zone) = now.zone(zone)
            && zone.revision <= revision
        {
            return Ok(Some(zone.arc()));
        }
        let horizon = self.horizon();
        if revision < horizon {
            return Err(HistoryError::Erased { horizon });
        }
        let touches = self.read(move |index| index.touches(zone, horizon, revision)).await?;
        let last = touches.last().map_or(horizon, |(revision, _)| *revision);
        if last == 0 {
            return Ok(None);
        }
        if let Some(known) = self.recent().get(zone, last) {
            return Ok(Some(known));
        }
        let _permit = self.0.folds.acquire().await.map_err(|_| HistoryError::Stopping)?;
        // Somebody else may have put it together meanwhile.
        if let Some(known) = self.recent().get(zone, last) {
            return Ok(Some(known));
        }
        let store = Arc::clone(self.0.follow.store());
        let folded = tokio::task::spawn_blocking(move || as_of::fold(&*store, zone, horizon, &touches));
        let folded = folded.await.map_err(|_| HistoryError::Stopping)??;
        if let Some(folded) = &folded {
            self.recent().put(zone, last, Arc::clone(folded));
            // The store is not kept open for that.
            let this = Arc::downgrade(&self.0);
            tokio::spawn(async move {
                tokio::time::sleep(as_of::RECENT_TIME).await;
                if let Some(inner) = this.upgrade() {
                    History(inner).recent().forget(zone, last);
                }
            });
        }
        Ok(folded)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the index once it has all that is in the state now.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        self.wait_for(self.0.follow.state().revision()).await?;
        let reader = Arc::clone(&self.0.reader);
        let done = tokio::task::spawn_blocking(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.as_ref().map_or(Err(IndexError::BeingMade), read)
        });
        Ok(done.await.map_err(|_| HistoryError::Stopping)??)
    }

    async fn wait_for(&self, wanted: u64) -> Result<(), HistoryError> {
        let mut indexed = self.0.indexed.clone();
        if *indexed.borrow() >= wanted {
            return Ok(());
        }
        self.0.hurry.notify_one();
        match tokio::time::timeout(WAIT, indexed.wait_for(|indexed| *indexed >= wanted)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(HistoryError::Stopping),
            Err(_) => Err(HistoryError::Behind { indexed: *self.0.indexed.borrow(), wanted }),
        }
    }
}

/// The thread that keeps the index up with the log. It ends when the engine does.
struct Follower {
    dir: std::path::PathBuf,
    follow: Follow,
    index: Option<Index>,
    reader: Arc<Mutex<Option<Index>>>,
    announce: watch::Sender<u64>,
    hurry: Arc<Notify>,
    horizon: Arc<AtomicU64>,
}

impl Follower {
    fn run(mut self) {
        match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.follow()),
            Err(e) => tracing::error!("the history can't be followed: {e}"),
        }
        // Who writes closes the index last, as that empties its write-ahead log.
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn follow(&mut self) {
        let hurry = Arc::clone(&self.hurry);
        loop {
            if let Err(e) = self.catch_up() {
                tracing::error!("the index of the history: {e}; it is made anew if need be");
                self.index = None;
                if self.follow.revision().has_changed().is_err() {
                    return;
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
            tokio::select! {
                changed = self.follow.revision().changed() => if changed.is_err() { return },
                () = hurry.notified() => continue,
            }
            tokio::select! {
                () = tokio::time::sleep(LINGER) => {}
                () = hurry.notified() => {}
            }
        }
    }

    fn catch_up(&mut self) -> Result<(), HistoryError> {
        if self.index.is_none() {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            *reader = None;
            let index = self.index.insert(Index::open(&self.dir, &**self.follow.store())?);
            self.announce.send_replace(index.indexed()?);
            *reader = Some(Index::open_reader(&self.dir)?);
            let base = self.follow.store().base()?.map_or(0, |base| base.revision);
            self.horizon.fetch_max(base, Ordering::AcqRel);
        }
        let Some(index) = &mut self.index else { return Ok(()) };
        let horizon = self.horizon.load(Ordering::Acquire);
        if horizon > index.indexed()? {
            index.begin_at_base(&**self.follow.store())?;
        } else if horizon > 0 {
            index.forget_before(horizon)?;
        }
        let head = *self.follow.revision().borrow_and_update();
        let mut indexed = index.indexed()?;
        while indexed < head {
            let entries = self.follow.store().read(indexed, BATCH_ENTRIES, BATCH_BYTES)?;
            if entries.is_empty() {
                break;
            }
            indexed = index.add(&**self.follow.store(), &self.follow.state(), &entries)?;
            self.announce.send_replace(indexed);
        }
        Ok(())
    }
}
