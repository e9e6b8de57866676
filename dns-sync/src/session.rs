//! The connection to the control plane: dials, says hello, cuts frames, keeps the peace with silence.
//!
//! What the frames mean is the agent's ([`crate::agent`]); here they are only read as they come, within a bound, and
//! handed on. Reading ahead is what lets a delta overtake the parts of a large zone that came before it.
//!
//! ```text
//!                 ┌────────────── back-off ◀─────────────┐
//!                 ▼                                      │ refused, silent, failed
//!   Waiting ──▶ Dialling ──▶ Hello sent ──▶ Welcome ──▶ Up ──▶ ended
//! ```

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use herald_core::Generation;
use herald_core::special::names_a_host;
use herald_wire::stream::{
    self, AgentStatus, BUCKETS, BULK_WINDOW_BYTES, FRAME_BYTES_MAX, FrameError, Hello, ModuleState, PROTOCOL,
    ToHerald, ToPop,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::alias::AliasKeeper;
use crate::config::{Config, SecretError, herald_host};
use crate::counts::ApiPlace;
use crate::files::Files;
use crate::health::HealthKeeper;
use crate::materialize::with_causes;
use crate::query_log::QueryLogKeeper;
use crate::status::{Board, now_ms};

/// How long dialling, and each step up to the welcome, may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A control plane that is not heard from for this long is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// How often the PoP says how it is.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// The wait after the first failure; it doubles up to [`BACKOFF_MAX`]. Both are shortened by up to a half by chance, so that
/// a fleet doesn't come back at one moment.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A session that was up so long has done well: the back-off starts from the beginning.
const GOOD_UPTIME: Duration = Duration::from_secs(5);

/// How many bytes of frames may wait to be taken in: all bulk that may be on its way, and as much again for deltas.
pub(crate) const READ_AHEAD_BYTES: u32 = 2 * BULK_WINDOW_BYTES as u32;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// What a session tells the agent.
pub enum SessionEvent {
    /// One is about to say hello, and wants to know with what.
    Greet(oneshot::Sender<Greeting>),
    /// It stands.
    Opened {
        /// The buckets whose inventory is asked for.
        buckets: Vec<u16>,
        /// The control plane's head.
        head: Generation,
        /// Where messages to it go.
        outbox: UnboundedSender<ToHerald>,
    },
    /// Frames, in order.
    Frames(Vec<Frame>),
    /// It is over.
    Closed,
}

/// What the agent says of its replica in a hello.
pub struct Greeting {
    /// The newest generation it has taken.
    pub newest: Generation,
    /// Digests of what it has and answers.
    pub bucket_digests: Box<[u128; BUCKETS]>,
}

/// A frame, and its share of the bound on what is read ahead.
pub struct Frame {
    /// What it says.
    pub message: ToPop,
    /// Its length, the length field counted.
    pub bytes: u64,
    /// None for one that nobody read ahead.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Frame {
    /// A frame outside of the bound.
    pub fn new(message: ToPop, bytes: u64) -> Frame {
        Frame { message, bytes, _permit: None }
    }
}

/// Why a session ended, or none came about.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The network, or TLS on it.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The other side closed the connection.
    #[error("the control plane closed the connection")]
    Closed,
    /// Something that isn't this protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Nothing was heard.
    #[error("the control plane was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// It sent something else than what was due.
    #[error("the control plane sent something that is not due")]
    OutOfTurn,
    /// It would not have us.
    #[error("the control plane refused the session: {0}")]
    Rejected(String),
    /// Its version is another.
    #[error("the control plane speaks protocol {0}, and this agent {PROTOCOL}: install versions that fit")]
    Protocol(u16),
    /// It knows less than this PoP has taken already.
    #[error(
        "the control plane's head is {head}, and this PoP has {newest} already: it was restored from an old backup, or is a \
         deposed one; it has to be given a newer epoch"
    )]
    Behind {
        /// Its head.
        head: Generation,
        /// The newest generation here.
        newest: Generation,
    },
    /// The credential.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The CA file.
    #[error("the certificates in tls_ca can't be used: {0}")]
    BadCa(String),
    /// The name that the certificate is to have.
    #[error("the control plane's name for TLS is no name: {0}")]
    BadName(#[from] InvalidDnsNameError),
    /// In the clear over a network.
    #[error(
        "{0} is not a loopback address, and there is no tls_ca: nothing is sent in the clear over a network"
    )]
    TlsNeeded(SocketAddr),
    /// The agent can't go on with it.
    #[error("the replica can't be used at the moment")]
    GivenUp,
    /// The agent is ending.
    #[error("the agent is ending")]
    Ending,
}

/// Dials the control plane again and again.
pub struct Dialer<E> {
    config: Arc<Config>,
    events: mpsc::Sender<E>,
    board: Arc<Board>,
    api: Option<watch::Sender<Option<ApiPlace>>>,
    health: Option<HealthKeeper>,
    files: Option<Files>,
    aliases: Option<AliasKeeper>,
    query_log: Option<QueryLogKeeper>,
}

impl<E: From<SessionEvent> + Send + 'static> Dialer<E> {
    /// A dialer that tells `events` what happens.
    pub fn new(config: Arc<Config>, events: mpsc::Sender<E>, board: Arc<Board>) -> Dialer<E> {
        Dialer { config, events, board, api: None, health: None, aliases: None, files: None, query_log: None }
    }

    /// The same, fetching files for these keepers.
    pub fn fetching(self, files: Files) -> Dialer<E> {
        Dialer { files: Some(files), ..self }
    }

    /// The same, telling where the control plane says that its API is.
    pub fn telling_api(self, api: watch::Sender<Option<ApiPlace>>) -> Dialer<E> {
        Dialer { api: Some(api), ..self }
    }

    /// The same, handing this keeper what is said of endpoints.
    pub fn minding(self, health: HealthKeeper) -> Dialer<E> {
        Dialer { health: Some(health), ..self }
    }

    /// The same, handing this keeper the targets of ALIAS records that are to be resolved.
    pub fn resolving(self, aliases: Option<AliasKeeper>) -> Dialer<E> {
        Dialer { aliases, ..self }
    }

    /// The same, handing this keeper the zones whose queries are to be logged.
    pub fn logging(self, query_log: Option<QueryLogKeeper>) -> Dialer<E> {
        Dialer { query_log, ..self }
    }

    /// Keeps one session up until `ending`.
    pub async fn run(self, ending: CancellationToken) {
        let mut backoff = BACKOFF_MIN;
        for herald in self.config.heralds.iter().cycle() {
            self.board.update(|status| status.session.herald.clone_from(herald));
            let began = tokio::time::Instant::now();
            let ended = tokio::select! {
                ended = self.session(herald) => ended,
                () = ending.cancelled() => Err(SessionError::Ending),
            };
            // Sent whether it was up or not: the agent knows.
            self.tell(SessionEvent::Closed);
            if let Some(files) = &self.files {
                files.closed();
            }
            if let Some(health) = &self.health {
                health.closed();
            }
            if let Some(aliases) = &self.aliases {
                aliases.closed();
            }
            let Err(error) = ended;
            if matches!(error, SessionError::Ending) {
                return;
            }
            self.note_end(herald, &error);
            if began.elapsed() >= GOOD_UPTIME {
                backoff = BACKOFF_MIN;
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(backoff)) => {}
                () = ending.cancelled() => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn tell(&self, event: SessionEvent) {
        // The agent is ending if it doesn't listen.
        let _ = self.events.send(event.into());
    }

    fn tell_frames(&self, batch: &mut Vec<Frame>) {
        if !batch.is_empty() {
            self.tell(SessionEvent::Frames(std::mem::take(batch)));
        }
    }

    fn note_end(&self, herald: &str, error: &SessionError) {
        let reason = with_causes(error);
        let mut is_news = false;
        self.board.update(|status| {
            let session = &mut status.session;
            is_news = session.connected || session.reason.as_ref() != Some(&reason);
            if session.connected {
                session.connected = false;
                session.since_ms = now_ms();
            }
            session.reason = Some(reason.clone());
            status.in_sync = false;
        });
        if is_news {
            tracing::warn!("no session with {herald}: {reason}");
            self.board.error(format!("no session with {herald}: {reason}"));
        }
    }

    async fn session(&self, herald: &str) -> Result<std::convert::Infallible, SessionError> {
        let stream = in_time(TcpStream::connect(herald)).await?;
        stream.set_nodelay(true)?;
        let address = stream.peer_addr()?;
        match &self.config.tls_ca {
            None if address.ip().is_loopback() => self.speak(herald, stream).await,
            None => Err(SessionError::TlsNeeded(address)),
            Some(ca) => {
                let name = self.config.tls_name.as_deref().or(herald_host(herald)).unwrap_or_default();
                let name = ServerName::try_from(name.to_owned())?;
                let connector = tokio_rustls::TlsConnector::from(Arc::new(tls_config(ca)?));
                let stream = in_time(connector.connect(name, stream)).await?;
                self.speak(herald, stream).await
            }
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite>(
        &self,
        herald: &str,
        stream: S,
    ) -> Result<std::convert::Infallible, SessionError> {
        let (reading, mut writing) = tokio::io::split(stream);
        let (answer, greeting) = oneshot::channel();
        self.tell(SessionEvent::Greet(answer));
        let greeting = greeting.await.map_err(|_| SessionError::GivenUp)?;
        let hello = Hello {
            protocol: PROTOCOL,
            pop: self.config.pop.clone(),
            secret: self.config.secret()?.expose().to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            newest: greeting.newest,
            bucket_digests: greeting.bucket_digests.iter().flat_map(|digest| digest.to_be_bytes()).collect(),
            geo: self.files.as_ref().map(Files::geo_status),
            knows_private: Some(true),
            resolves: Some(self.aliases.is_some()),
            logs_queries: Some(self.query_log.is_some()),
            verdicts: self.health.as_ref().map(HealthKeeper::as_of),
            firewall: self.files.as_ref().map(|files| files.firewall_status(Vec::new())),
        };
        let mut bytes = Vec::new();
        stream::encode_frame(&ToHerald::Hello(hello), &mut bytes);
        in_time(writing.write_all(&bytes)).await?;
        in_time(writing.flush()).await?;

        let mut frames = Frames::new(reading);
        let welcome = match in_time(frames.next()).await?.0 {
            ToPop::Welcome(welcome) => welcome,
            ToPop::Reject { reason } => return Err(SessionError::Rejected(reason)),
            _ => return Err(SessionError::OutOfTurn),
        };
        if welcome.protocol != PROTOCOL {
            return Err(SessionError::Protocol(welcome.protocol));
        }
        if welcome.head < greeting.newest {
            return Err(SessionError::Behind { head: welcome.head, newest: greeting.newest });
        }
        if let (Some(api), Some(listener), Some(host)) = (&self.api, welcome.api, herald_host(herald)) {
            let place = ApiPlace { host: host.to_owned(), port: listener.port, tls: listener.tls };
            api.send_replace(Some(place));
        }
        tracing::info!("the session with {herald} is up (control plane {})", welcome.herald_version);
        self.board.update(|status| {
            status.session.connected = true;
            status.session.since_ms = now_ms();
            status.session.reason = None;
            status.herald_head = Some(welcome.head.to_string());
        });
        let (outbox, messages) = unbounded_channel();
        if let Some(files) = &self.files {
            files.opened(&outbox.downgrade());
        }
        if let Some(health) = &self.health {
            health.opened(outbox.downgrade());
        }
        if let Some(aliases) = &self.aliases {
            aliases.opened(outbox.downgrade());
        }
        self.tell(SessionEvent::Opened { buckets: welcome.buckets, head: welcome.head, outbox });
        tokio::select! {
            ended = self.read(frames) => ended,
            ended = self.write(messages, writing) => ended,
        }
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        mut frames: Frames<R>,
    ) -> Result<std::convert::Infallible, SessionError> {
        let room = Arc::new(Semaphore::new(READ_AHEAD_BYTES as usize));
        let mut batch = Vec::new();
        loop {
            let (message, bytes) = match frames.decode()? {
                Some(frame) => frame,
                None => {
                    self.tell_frames(&mut batch);
                    match tokio::time::timeout(SILENCE, frames.fill()).await {
                        Ok(filled) => filled?,
                        Err(_) => return Err(SessionError::Silent(SILENCE)),
                    }
                    continue;
                }
            };
            let message = match &self.files {
                Some(files) => files.take(message),
                None => Some(message),
            };
            let message = match &self.health {
                Some(health) => message.and_then(|message| health.take(message)),
                None => message,
            };
            let message = match &self.aliases {
                Some(aliases) => message.and_then(|message| aliases.take(message)),
                None => message,
            };
            let message = match &self.query_log {
                Some(query_log) => message.and_then(|message| query_log.take(message)),
                None => message,
            };
            let Some(message) = message else { continue };
            let share = u32::try_from(bytes).unwrap_or(u32::MAX).min(READ_AHEAD_BYTES);
            let permit = match Arc::clone(&room).try_acquire_many_owned(share) {
                Ok(permit) => permit,
                Err(_) => {
                    // What is in the batch has to be taken in before there is room again.
                    self.tell_frames(&mut batch);
                    Arc::clone(&room).acquire_many_owned(share).await.map_err(|_| SessionError::Ending)?
                }
            };
            batch.push(Frame { message, bytes: bytes as u64, _permit: Some(permit) });
        }
    }

    async fn write<W: AsyncWrite + Unpin>(
        &self,
        mut messages: UnboundedReceiver<ToHerald>,
        mut writing: W,
    ) -> Result<std::convert::Infallible, SessionError> {
        let mut interval = tokio::time::interval(STATUS_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut bytes = Vec::new();
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => stream::encode_frame(&message, &mut bytes),
                    None => return Err(SessionError::GivenUp),
                },
                _ = interval.tick() => stream::encode_frame(&ToHerald::Status(self.agent_status()), &mut bytes),
            }
            while bytes.len() < READ_BYTES
                && let Ok(message) = messages.try_recv()
            {
                stream::encode_frame(&message, &mut bytes);
            }
            writing.write_all(&bytes).await?;
            writing.flush().await?;
            bytes.clear();
        }
    }

    fn agent_status(&self) -> AgentStatus {
        let status = self.board.status();
        AgentStatus {
            knot_version: status.knot.version,
            knot_running: status.knot.running,
            zones: status.zones,
            newest: self.board.newest(),
            module: status.module.map(|module| ModuleState {
                connected: module.connected,
                version: module.version,
                zones: module.zones,
                panics: module.panics,
                undecided: module.undecided,
                geo: module.geo,
            }),
            geo: self.files.as_ref().map(Files::geo_status),
            firewall: self.files.as_ref().map(|files| files.firewall_status(self.board.firewall_counts())),
            addresses: host_addresses(),
        }
    }
}

/// Addresses of this host that others know it by, ascending; none if they can't be had.
fn host_addresses() -> Option<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    let own: BTreeSet<IpAddr> =
        interfaces.iter().map(if_addrs::Interface::ip).filter(|address| names_a_host(*address)).collect();
    Some(own.into_iter().collect())
}

/// Cuts a stream into frames.
struct Frames<R> {
    reading: R,
    bytes: Vec<u8>,
    taken: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    fn new(reading: R) -> Frames<R> {
        Frames { reading, bytes: Vec::new(), taken: 0 }
    }

    /// The next frame that is here, and its length.
    fn decode(&mut self) -> Result<Option<(ToPop, usize)>, SessionError> {
        let Some((length, message)) = stream::decode_frame(&self.bytes[self.taken..])? else {
            return Ok(None);
        };
        self.taken += length;
        Ok(Some((message, length)))
    }

    /// Waits for more.
    async fn fill(&mut self) -> Result<(), SessionError> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        if self.bytes.len() > FRAME_BYTES_MAX + 4 {
            return Err(SessionError::OutOfTurn);
        }
        self.bytes.reserve(READ_BYTES);
        match self.reading.read_buf(&mut self.bytes).await? {
            0 => Err(SessionError::Closed),
            _ => Ok(()),
        }
    }

    async fn next(&mut self) -> Result<(ToPop, usize), SessionError> {
        loop {
            match self.decode()? {
                Some(frame) => return Ok(frame),
                None => self.fill().await?,
            }
        }
    }
}

async fn in_time<T, E: Into<SessionError>>(
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, SessionError> {
    match tokio::time::timeout(HANDSHAKE, future).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(SessionError::Silent(HANDSHAKE)),
    }
}

pub(crate) fn tls_config(ca: &std::path::Path) -> Result<rustls::ClientConfig, SessionError> {
    let bad = |error: String| SessionError::BadCa(format!("{}: {error}", ca.display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| bad(error.to_string()))? {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("there are none in it".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// The wait, shortened by up to a half.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter, which is no harm.
    let _ = getrandom::fill(&mut byte);
    wait.mul_f64(1.0 - f64::from(byte[0]) / 512.0)
}
