//! Notifications: tells tenants of verdicts, by the channels that they made.
//!
//! ```text
//!  the log ──verdicts, by the index of the history──▶ tell ──a message a channel──▶ outbox ──due──▶ send ──▶ courier: webhook, e-mail
//!                                                       └──how far it has come, in the same transaction──▶ │       └──how it went──▶ outbox
//! ```
//!
//! What is told is on the log, so nothing is lost by a restart or a crash: messages and how far the log was told are one transaction. A
//! message is sent until its receiver takes it, at least once; those of a channel go one after the other, oldest first.

mod email;
mod key;
mod message;
mod outbox;
mod webhook;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use herald_core::channel::{Channel, Receiver};
use herald_core::state::State;
use herald_core::state::monitors::MonitorDiff;
use herald_core::{ChannelId, TenantId};
use tokio::sync::Notify as Wake;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use email::Mail;
pub use message::{Event, Message};
pub use outbox::{FILE, OutboxError, Status};

use crate::clock;
use crate::engine::Follow;
use crate::history::{History, HistoryError, VerdictRecord};
use crate::spacing::Spacing;
use key::Key;
use outbox::{Due, Outbox};
use webhook::Webhooks;

/// About so many verdicts are read of the history at once.
const VERDICTS_MAX: usize = 500;

/// After a failure of the history or the outbox it is tried again this much later.
const AGAIN: Duration = Duration::from_secs(1);

/// So many messages are on their way at a time, and so many of one tenant.
const SENDING_MAX: usize = 32;
const SENDING_MAX_OF_TENANT: usize = 4;

/// From one test of a channel to the next.
const TEST_INTERVAL: Duration = Duration::from_secs(5);

/// From one code that a tenant has sent to the next, and from one that an address gets to the next.
const CODE_INTERVAL: Duration = Duration::from_secs(10);
const CODE_INTERVAL_OF_ADDRESS: Duration = Duration::from_secs(600);

/// Why no e-mail goes.
const NO_RELAY: &str = "the control plane has no mail relay";

/// Why what is on the log can't be told yet.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Takes messages to receivers of a kind. Blocking, and bounded in time by itself.
trait Courier: Send + Sync {
    /// Delivers, or says in words why not.
    fn deliver(&self, channel: &Channel, message: &Message) -> Result<(), String>;
}

/// Why notifications can't begin.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The outbox can't be used.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The key of webhooks can't be read or made.
    #[error("the key of webhooks in {}: {source}", path.display())]
    Key {
        /// Its file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A handle on notifications. Clones are handles on the same ones.
#[derive(Clone)]
pub struct Notify(Arc<Inner>);

struct Inner {
    follow: Follow,
    history: History,
    outbox: Mutex<Outbox>,
    key: Key,
    webhooks: Webhooks,
    mail: Option<Mail>,
    /// There is more to be sent.
    queued: Wake,
    /// When channels were last tested.
    tested: Spacing<ChannelId>,
    /// When tenants last had a code sent, and when addresses last got one.
    coded: Spacing<TenantId>,
    coded_to: Spacing<String>,
    delivered: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
}

impl Notify {
    /// Opens the outbox and the key in this directory, or begins them: then with what happens from now on.
    ///
    /// # Errors
    /// [`NotifyError`].
    pub fn open(
        dir: &Path,
        follow: Follow,
        history: History,
        mail: Option<Mail>,
    ) -> Result<Notify, NotifyError> {
        let outbox = Outbox::open(&dir.join(FILE), follow.state().revision())?;
        let key = Key::open(dir)?;
        let webhooks = Webhooks::new(key.clone(), follow.clone());
        Ok(Notify(Arc::new(Inner {
            follow,
            history,
            outbox: Mutex::new(outbox),
            key,
            webhooks,
            mail,
            queued: Wake::new(),
            tested: Spacing::new(TEST_INTERVAL),
            coded: Spacing::new(CODE_INTERVAL),
            coded_to: Spacing::new(CODE_INTERVAL_OF_ADDRESS),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        })))
    }

    /// Whether there is a relay for e-mail.
    pub fn has_mail(&self) -> bool {
        self.0.mail.is_some()
    }

    /// The secret that a channel's webhooks are signed with, as its tenant is shown it.
    pub fn secret_text(&self, channel: &Channel) -> String {
        self.0.key.secret_text(channel)
    }

    /// How deliveries by a channel go.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub async fn status(&self, channel: ChannelId) -> Result<Status, OutboxError> {
        self.with_outbox(move |outbox| outbox.status(channel)).await
    }

    /// Sends a test message by a channel, now and once, past what waits; gives how long that took, or why it failed, in words.
    ///
    /// # Errors
    /// If the channel was tested a moment ago: how long to wait for the next one.
    pub async fn test(&self, channel: &Channel) -> Result<Result<Duration, String>, Duration> {
        let begin = Instant::now();
        self.0.tested.take(channel.id)?;
        let (this, channel) = (self.clone(), channel.clone());
        let message = Message::test(&clock::entropy(), clock::now_ms());
        let done = tokio::task::spawn_blocking(move || this.0.deliver(&channel, &message)).await;
        let done = done.unwrap_or_else(|_| Err("the control plane is stopping".into()));
        Ok(done.map(|()| begin.elapsed()))
    }

    /// Whether this is the code that was sent to a channel's address.
    pub fn is_code(&self, channel: &Channel, typed: &str) -> bool {
        self.0.key.is_code(channel, typed)
    }

    /// Sends its code to the address of a channel that isn't confirmed yet, now and once; gives how long that took, or why it failed, in
    /// words. An address gets one every ten minutes at most, whoever asks, and a tenant sends one every ten seconds.
    ///
    /// # Errors
    /// If it is too early: how long to wait.
    pub async fn send_code(
        &self,
        tenant: &str,
        channel: &Channel,
    ) -> Result<Result<Duration, String>, Duration> {
        let Receiver::Email { address } = &channel.receiver else {
            return Ok(Err("it has no address".into()));
        };
        let receiver = address.to_ascii_lowercase();
        self.0.coded_to.take(receiver.clone())?;
        if let Err(wait) = self.0.coded.take(channel.tenant) {
            self.0.coded_to.give_back(&receiver);
            return Err(wait);
        }
        let begin = Instant::now();
        let code = self.0.key.code(channel).unwrap_or_default();
        let text = message::confirmation(tenant, &channel.name, &code);
        let id = Message::test(&clock::entropy(), 0).id;
        let (this, address) = (self.clone(), address.clone());
        let done = tokio::task::spawn_blocking(move || match &this.0.mail {
            Some(mail) => mail.send(&address, &id, message::CONFIRMATION_SUBJECT.into(), text),
            None => Err(NO_RELAY.into()),
        });
        let done = done.await.unwrap_or_else(|_| Err("the control plane is stopping".into()));
        if done.is_err() {
            self.0.coded_to.give_back(&receiver);
        }
        Ok(done.map(|()| begin.elapsed()))
    }

    /// Tells and sends until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::join!(self.tell(&shutdown), self.send(&shutdown));
    }

    /// Appends metrics in Prometheus' text format.
    pub fn metrics(&self, out: &mut String) {
        use std::fmt::Write as _;
        let inner = &*self.0;
        for (name, help, figure) in [
            ("delivered", "Notifications that their receivers took.", &inner.delivered),
            ("failed", "Attempts at delivering a notification that failed.", &inner.failed),
            ("given_up", "Notifications that were given up.", &inner.given_up),
        ] {
            let value = figure.load(Ordering::Relaxed);
            let name = format!("herald_notifications_{name}_total");
            _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        }
        if let Ok(pending) = inner.outbox().pending() {
            let name = "herald_notifications_pending";
            _ = writeln!(
                out,
                "# HELP {name} Notifications that wait for being delivered.\n# TYPE {name} gauge\n{name} {pending}"
            );
        }
    }

    async fn with_outbox<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut this.0.outbox())).await;
        done.map_err(|_| OutboxError::Stopping)?
    }
}

impl Inner {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers, by whoever takes messages to such receivers: the place where another kind is added.
    fn deliver(&self, channel: &Channel, message: &Message) -> Result<(), String> {
        let courier: &dyn Courier = match (&channel.receiver, &self.mail) {
            (Receiver::Webhook { .. }, _) => &self.webhooks,
            (Receiver::Email { .. }, Some(mail)) => mail,
            (Receiver::Email { .. }, None) => return Err(NO_RELAY.into()),
        };
        courier.deliver(channel, message)
    }
}

// ------------------------------------------------------------------------------------------- telling

impl Notify {
    /// Makes messages of verdicts as they come on the log.
    async fn tell(&self, shutdown: &CancellationToken) {
        let mut follow = self.0.follow.clone();
        let mut seen = Arc::<State>::default();
        // Up to where the log was told, once that is known: commits that bring no verdict cost nothing here.
        let mut told = None;
        loop {
            follow.revision().mark_unchanged();
            let state = follow.state();
            if let Err(error) = self.tell_of(&seen, &state, &mut told).await {
                tracing::error!("notifications wait: {error}");
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => continue,
                    () = shutdown.cancelled() => return,
                }
            }
            seen = state;
            tokio::select! {
                changed = follow.revision().changed() => if changed.is_err() { return },
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Tells of all verdicts that a state has and weren't told yet. The history is only asked where there is one.
    async fn tell_of(
        &self,
        seen: &State,
        state: &Arc<State>,
        told: &mut Option<u64>,
    ) -> Result<(), TellError> {
        if !seen.channels().is_same(state.channels()) {
            let known = Arc::clone(state);
            self.with_outbox(move |outbox| outbox.keep(|channel| known.channels().get(channel).is_some()))
                .await?;
        }
        let mut at = match *told {
            Some(at) => {
                let mut others = seen.monitors().diff(state.monitors());
                let verdict = |diff: MonitorDiff<'_>| Some(diff.new?.verdict.as_ref()?.revision);
                if !others.any(|diff| verdict(diff).is_some_and(|revision| revision > at)) {
                    return Ok(());
                }
                at
            }
            None => self.with_outbox(|outbox| outbox.told()).await?,
        };
        // What the state has is in the history by then; there may be more already.
        let up_to = state.revision();
        loop {
            let verdicts = self.0.history.verdicts(at, VERDICTS_MAX).await?;
            let is_all = verdicts.len() <= VERDICTS_MAX;
            let last = verdicts.last().map_or(at, |last| last.revision);
            at = if is_all { last.max(up_to) } else { last };
            let messages = messages(state, &verdicts);
            let (now_ms, count) = (clock::now_ms(), messages.len());
            let dropped = self.with_outbox(move |outbox| outbox.queue(&messages, at, now_ms)).await?;
            self.0.given_up.fetch_add(dropped, Ordering::Relaxed);
            *told = Some(at);
            if count > 0 {
                self.0.queued.notify_one();
            }
            if is_all {
                return Ok(());
            }
        }
    }
}

/// What is to be sent of verdicts.
fn messages(state: &State, verdicts: &[VerdictRecord]) -> Vec<(ChannelId, Message)> {
    let mut channels: BTreeMap<TenantId, Vec<&Channel>> = BTreeMap::new();
    let mut messages = Vec::new();
    for verdict in verdicts {
        let tenant = verdict.monitor.tenant;
        let own = channels
            .entry(tenant)
            .or_insert_with(|| state.channels().of_tenant(tenant, None).map(|channel| &**channel).collect());
        let hear = own.iter().filter(|channel| {
            // What was before the channel was made isn't news to it.
            channel.hears_of(verdict.monitor.id) && channel.created_at_ms <= verdict.time_ms
        });
        messages.extend(hear.map(|channel| (channel.id, Message::of_verdict(channel.id, verdict))));
    }
    messages
}

// ------------------------------------------------------------------------------------------- sending

/// What became of a message: the channel, the place in the outbox, when it was queued, and how it went.
type Sent = (ChannelId, TenantId, Due, Result<(), String>);

impl Notify {
    /// Sends what is due.
    async fn send(&self, shutdown: &CancellationToken) {
        let mut sending: JoinSet<Sent> = JoinSet::new();
        let mut on_their_way: HashMap<ChannelId, TenantId> = HashMap::new();
        loop {
            let next = match self.begin(&mut sending, &mut on_their_way).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!("notifications wait: {error}");
                    Some(AGAIN)
                }
            };
            let wait = next.unwrap_or(Duration::from_secs(3600));
            tokio::select! {
                Some(sent) = sending.join_next() => {
                    let Ok((channel, _, due, outcome)) = sent else { continue };
                    on_their_way.remove(&channel);
                    self.note(channel, due, outcome).await;
                }
                () = self.0.queued.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => break,
            }
        }
        // What is on its way has its own time limit; what isn't noted is sent again.
        while let Some(sent) = sending.join_next().await {
            if let Ok((channel, _, due, outcome)) = sent {
                self.note(channel, due, outcome).await;
            }
        }
    }

    /// Begins with as much as may be on its way at a time; gives in how long something else is due.
    async fn begin(
        &self,
        sending: &mut JoinSet<Sent>,
        on_their_way: &mut HashMap<ChannelId, TenantId>,
    ) -> Result<Option<Duration>, OutboxError> {
        let now_ms = clock::now_ms();
        let (due, next_ms) = self.with_outbox(move |outbox| outbox.due(now_ms, 4 * SENDING_MAX)).await?;
        let state = self.0.follow.state();
        for due in due {
            let id = due.channel;
            if sending.len() >= SENDING_MAX || on_their_way.contains_key(&id) {
                continue;
            }
            let Some(channel) = state.channels().get(id).filter(|channel| channel.is_on()) else {
                // Nobody is to hear of it any more.
                self.with_outbox(move |outbox| outbox.empty(id)).await?;
                continue;
            };
            let tenant = channel.tenant;
            if on_their_way.values().filter(|other| **other == tenant).count() >= SENDING_MAX_OF_TENANT {
                continue;
            }
            on_their_way.insert(id, tenant);
            let (this, channel) = (self.clone(), channel.clone());
            sending.spawn_blocking(move || {
                let outcome = this.0.deliver(&channel, &due.message);
                (id, tenant, due, outcome)
            });
        }
        Ok(next_ms.map(|next_ms| Duration::from_millis(next_ms.saturating_sub(now_ms))))
    }

    /// Notes how it went.
    async fn note(&self, channel: ChannelId, due: Due, outcome: Result<(), String>) {
        let inner = &*self.0;
        let counter = if outcome.is_ok() { &inner.delivered } else { &inner.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let (now_ms, jitter) = (clock::now_ms(), clock::entropy()[0]);
        let noted = self.with_outbox(move |outbox| match outcome {
            Ok(()) => outbox.delivered(&due, now_ms).map(|()| false),
            Err(why) => outbox.failed(&due, &why, now_ms, jitter),
        });
        match noted.await {
            Ok(is_given_up) => _ = inner.given_up.fetch_add(is_given_up.into(), Ordering::Relaxed),
            Err(error) => {
                tracing::error!("how a notification by the channel {channel} went can't be noted: {error}");
            }
        }
    }
}
