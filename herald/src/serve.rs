//! Puts the parts of the control plane together, and takes them apart in order.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use herald_core::account::Principal;
use herald_core::command::{Action, Command};
use herald_core::decide::Subject;
use herald_store::{EmbeddedStore, OpenError};
use herald_wire::stream::ApiListener;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::access_log::{AccessLog, AccessLogError};
use crate::backup;
use crate::clock;
use crate::config::Config;
use crate::delegation::Resolver;
use crate::edge::secret::NewSecret;
use crate::edge::{self, AppState, ConnectionLimits, Kept, Limits, ServeLimits};
use crate::engine::{Engine, RecoverError, SubmitError};
use crate::history::{History, HistoryError};
use crate::notify::{Notify, NotifyError};
use crate::publisher::{Publisher, Shared};
use crate::query_log::{self, QueryLogError, QueryLogs};
use crate::stats::{Stats, StatsError};

/// How long requests and sessions may take to end once the daemon was told to stop.
const SHUTDOWN_S: u64 = 10;

/// File descriptors that are not for connections of the API: the store's, PoPs', looks into the DNS.
const RESERVED_FILES: usize = 512;

/// How often what is too old is erased, and how long after the start for the first time.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(24 * 3600);
const COMPACTION_DELAY: Duration = Duration::from_secs(300);
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory can't be made or written.
    #[error("{} can't be used: {source}", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The state can't be recovered.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The access log can't be kept.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The history can't be followed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Counts can't be kept.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// Logged queries can't be kept.
    #[error(transparent)]
    QueryLog(#[from] QueryLogError),
    /// Notifications can't be kept.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The first operator's token could not be made.
    #[error("the first operator's token can't be made: {0}")]
    Bootstrap(SubmitError),
    /// An address can't be listened on.
    #[error("{address} can't be listened on: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system lacks something.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
}

/// Runs the control plane until SIGTERM or SIGINT.
///
/// # Errors
/// [`ServeError`] if it can't start.
pub fn run(config: Config) -> Result<(), ServeError> {
    let in_data = |source| ServeError::Data { path: config.data_dir.clone(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.data_dir).map_err(in_data)?;
    let store = Arc::new(EmbeddedStore::open(&backup::store_dir(&config.data_dir))?);
    let shared = Arc::new(Shared::default());
    let (engine, writer) = Engine::start(store.clone(), clock::now_ms(), shared.on_commit())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut keepers = Keepers::default();
    let served = runtime.block_on(serve(&config, engine, shared, &mut keepers));
    let told = Instant::now();
    // Drops what may still hold the engine; then the writer ends, with a last checkpoint, and after it who follows it.
    runtime.shutdown_timeout(Duration::from_secs(SHUTDOWN_S));
    writer.join();
    keepers.end();
    close(store);
    tracing::info!("herald has stopped, within {:.1} s", told.elapsed().as_secs_f64());
    served
}

/// The threads beside the writer that keep something in files.
#[derive(Default)]
struct Keepers {
    history: Option<JoinHandle<()>>,
    access_log: Option<AccessLog>,
}

impl Keepers {
    /// Waits for their ends. Blocking.
    fn end(self) {
        if self.history.is_some_and(|history| history.join().is_err()) {
            tracing::error!("the history's thread panicked");
        }
        if let Some(access_log) = self.access_log {
            access_log.end();
        }
    }
}

/// Closes the store, which empties its write-ahead log.
fn close(store: Arc<EmbeddedStore>) {
    if let Err(store) = Arc::try_unwrap(store) {
        // A request that was cut off may be at it. It only reads: the writer has ended.
        tracing::warn!("somebody still reads the store");
        if let Err(e) = store.settle() {
            tracing::error!("the store's write-ahead log could not be emptied: {e}");
        }
    }
}

async fn serve(
    config: &Config,
    engine: Engine,
    shared: Arc<Shared>,
    keepers: &mut Keepers,
) -> Result<(), ServeError> {
    bootstrap(&engine, &config.data_dir).await?;
    let history = History::start(&config.data_dir, engine.follow())?;
    keepers.history = history.take_thread();
    let access_log = AccessLog::start(&config.data_dir, config.history_days)?;
    keepers.access_log = Some(access_log.clone());
    let stats = Stats::open(&config.data_dir, config.stats)?;
    let limits = query_log::Limits::default();
    let query_logs = QueryLogs::open(&config.data_dir, config.query_log_addresses, limits)?;
    let mail = config.mail.clone();
    let notify = Notify::open(&config.data_dir, engine.follow(), history.clone(), mail)?;
    let publisher = Publisher::new(engine.clone(), shared.clone()).noting_logins(access_log.clone());
    let shutdown = CancellationToken::new();
    let places = tokio::spawn(publisher.places().clone().run(shutdown.clone()));
    let health = tokio::spawn(crate::health::run(engine.clone(), shared.clone(), shutdown.clone()));
    let firewall = tokio::spawn(publisher.firewalls().clone().run(shutdown.clone()));
    let aliases = tokio::spawn(crate::aliases::run(engine.clone(), shared.clone(), shutdown.clone()));
    let own = tokio::spawn(crate::own::run(engine.clone(), shared.clone(), shutdown.clone()));
    let compaction = tokio::spawn(keep_history(engine.clone(), history.clone(), config.history_days));
    let (api, pops) = (listen(config.listen).await?, listen(config.pop_listen).await?);
    let listener = ApiListener { port: api.local_addr()?.port(), tls: config.tls.is_some() };
    let publisher = publisher.telling_api(listener);
    let notifications = tokio::spawn(notify.clone().run(shutdown.clone()));
    let stats_kept = tokio::spawn(stats.clone().keep(shutdown.clone()));
    let logs_kept = tokio::spawn(query_logs.clone().keep(engine.follow(), shutdown.clone()));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(
        "herald {} serves the API on {} and awaits PoPs on {}, at revision {} of epoch {}",
        env!("CARGO_PKG_VERSION"),
        api.local_addr()?,
        pops.local_addr()?,
        engine.state().revision(),
        engine.state().epoch(),
    );
    let state = AppState::new(
        engine,
        publisher.clone(),
        Kept { history, access_log, stats, query_logs, notify },
        Resolver::new(config.resolvers.clone()),
        Limits::default(),
        shutdown.clone(),
    );
    let api = tokio::spawn(edge::serve(
        api,
        edge::router(state),
        config.tls.clone(),
        shutdown.clone(),
        ServeLimits { connections: connection_limits(), ..ServeLimits::default() },
    ));
    let sessions = tokio::spawn(publisher.serve(pops, config.pop_tls.clone(), shutdown.clone()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("herald is stopping");
    shutdown.cancel();
    compaction.abort();
    let ended = async {
        tokio::join!(
            api,
            sessions,
            places,
            health,
            aliases,
            own,
            stats_kept,
            logs_kept,
            firewall,
            notifications
        )
    };
    if tokio::time::timeout(Duration::from_secs(SHUTDOWN_S), ended).await.is_err() {
        tracing::warn!("some requests did not end within {SHUTDOWN_S} s and were cut off");
    }
    Ok(())
}

/// Once a day, and soon after the start, erases what is older than the past that is kept.
async fn keep_history(engine: Engine, history: History, days: u32) {
    let mut interval = tokio::time::interval(COMPACTION_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval.tick().await;
    tokio::time::sleep(COMPACTION_DELAY).await;
    loop {
        let oldest_ms = clock::now_ms().saturating_sub(u64::from(days) * DAY_MS);
        let horizon = match history.revision_at(oldest_ms).await {
            Ok(horizon) => horizon,
            Err(e) => {
                tracing::error!("the past can't be compacted: {e}");
                0
            }
        };
        let engine = engine.clone();
        match tokio::task::spawn_blocking(move || engine.compact(horizon)).await {
            Ok(Ok(done)) => {
                if done.horizon > history.horizon() || done.chunks_deleted > 0 {
                    tracing::info!(
                        "the past is kept from revision {} on; {} chunks were deleted",
                        done.horizon,
                        done.chunks_deleted
                    );
                }
                history.set_horizon(done.horizon);
            }
            Ok(Err(e)) => tracing::error!("the past could not be compacted: {e}"),
            Err(_) => return,
        }
        interval.tick().await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// As many connections as there are file descriptors for: the soft limit is raised to the hard one, which most systems set
/// a thousand times higher.
fn connection_limits() -> ConnectionLimits {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    let limits = ConnectionLimits::default();
    let room = files.map_or(limits.total, |files| {
        usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(RESERVED_FILES).max(RESERVED_FILES)
    });
    if room < limits.total {
        tracing::warn!("at most {room} connections of the API at once: raise the limit of open files");
    }
    ConnectionLimits { total: limits.total.min(room), ..limits }
}

/// Makes the first operator's token on an empty store, and writes it where only the operator can read it.
async fn bootstrap(engine: &Engine, data_dir: &Path) -> Result<(), ServeError> {
    if engine.state().tokens(None).next().is_some() {
        return Ok(());
    }
    let path = data_dir.join("operator.token");
    let in_file = |source| ServeError::Data { path: path.clone(), source };
    // The file first: a token that nobody knows could not be made again.
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(in_file)?;
    let secret = NewSecret::draw();
    let command = Command {
        context: clock::context(Principal::System, Some("first start".into())),
        action: Action::Bootstrap { secret_hash: secret.token_hash() },
    };
    // Its id is known beforehand, as deciding is repeatable: so the token is on disk before it is valid.
    let (decision, _) = engine.dry_run(command.clone()).map_err(|e| ServeError::Bootstrap(e.into()))?;
    let Some(Subject::Token(id)) = decision.subject else { unreachable!("bootstrapping makes a token") };
    writeln!(file, "{}", secret.token_text(id)).and_then(|()| file.sync_all()).map_err(in_file)?;
    engine.submit(command).await.map_err(ServeError::Bootstrap)?;
    tracing::info!("the first operator's token is in {}", path.display());
    Ok(())
}
