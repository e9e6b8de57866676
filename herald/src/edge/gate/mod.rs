//! The gate: nobody gets at the engine but through it, and that is a matter of types.
//!
//! A handler takes a [`Reading`] or a [`Writing`]. To make one the request's credential was authenticated, then its
//! path, query and body were read, in this order; only then is there a [`Caller`] with a state to read, or a
//! [`Writer`] that can have a command carried out. [`AppState`] gives nothing away by itself.

mod body;
mod credential;
mod encoding;
mod idempotency;
mod path;
mod precondition;
mod query;
mod rate;
mod room;
mod write;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use herald_core::account::Principal;
use herald_core::account::Verb;
use herald_core::authorise::Access;
use herald_core::command::{Context, ZoneRef};
use herald_core::limits::{Limit, TenantLimits};
use herald_core::rejection::RejectionKind;
use herald_core::state::{Shared, State};
use herald_core::zone::Zone;
use herald_core::{PopId, TokenId};
use tokio_util::sync::CancellationToken;

pub use body::{Body, GeoipFile, Json, NoBody, WholeZoneFile, ZoneFileStream};
pub use encoding::ACCEPTED as ACCEPTED_ENCODINGS;
pub use path::FromPath;
pub use precondition::{IfMatch, Preconditions, rrset_tag};
pub use query::{FromQuery, NoQuery, WriteOptions, WriteParams, WriteQuery};
pub use write::{Answer, Done, OffThread, Writer, blocking};

use idempotency::{Key, Repetition};

use super::compression::Compressor;
use super::metrics::Metrics;
use super::problem::{ApiError, Code};
use crate::access_log::{self, AccessLog, Event};
use crate::clock;
use crate::delegation::Resolver;
use crate::engine::Engine;
use crate::history::History;
use crate::notify::Notify;
use crate::publisher::Publisher;
use crate::query_log::QueryLogs;
use crate::stats::Stats;

/// For so long `/readyz` repeats its last answer.
const READY_TIME: Duration = Duration::from_secs(1);

/// How far the clock of who calls a heartbeat in may be ahead, in ms.
const HEARTBEAT_AHEAD_MS_MAX: u64 = 5_000;

/// How much and how long a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of a zone file.
    pub zone_file_bytes: usize,
    /// Records of a zone file that is imported.
    pub import_records: usize,
    /// Octets of any other body.
    pub body_bytes: usize,
    /// Octets of all bodies together that are in memory, as far as they are counted.
    pub bodies_bytes: usize,
    /// For a body to arrive.
    pub body_time: Duration,
    /// For a JSON body that may hold a zone file to arrive.
    pub zone_file_time: Duration,
    /// For some of a zone file that is imported to arrive; the whole may take as long as it takes.
    pub stall_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            zone_file_bytes: bytes(Limit::ZoneFileBytes.default_value()),
            body_bytes: bytes(Limit::BodyBytes.default_value()),
            bodies_bytes: 512 << 20,
            import_records: bytes(Limit::RecordsPerZone.default_value()),
            body_time: Duration::from_secs(30),
            zone_file_time: Duration::from_secs(300),
            stall_time: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The same, with what was set for a tenant.
    fn of(self, set: Option<&TenantLimits>) -> Limits {
        let set = |limit| set.and_then(|set| set.get(limit)).map(bytes);
        Limits {
            zone_file_bytes: set(Limit::ZoneFileBytes).unwrap_or(self.zone_file_bytes),
            import_records: set(Limit::RecordsPerZone).unwrap_or(self.import_records),
            body_bytes: set(Limit::BodyBytes).unwrap_or(self.body_bytes),
            ..self
        }
    }
}

fn bytes(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// What all requests share. It is for [`super::router`], and of use to nobody else.
#[derive(Clone)]
pub struct AppState(Arc<App>);

struct App {
    engine: Engine,
    publisher: Publisher,
    history: History,
    access_log: AccessLog,
    stats: Stats,
    query_logs: QueryLogs,
    notify: Notify,
    resolver: Resolver,
    metrics: Metrics,
    compressor: Compressor,
    limits: Limits,
    bodies: Arc<room::Bodies>,
    buckets: rate::Buckets,
    /// What the times of buckets are counted from.
    begin: Instant,
    shutdown: CancellationToken,
    /// When it was last asked whether writes are accepted, and what the answer was.
    ready: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

/// What is kept beside the log, in files of its own.
pub struct Kept {
    /// Which entry touched which zone.
    pub history: History,
    /// Denials, uses of tokens, logins of PoPs.
    pub access_log: AccessLog,
    /// Counts of queries.
    pub stats: Stats,
    /// Queries of zones that are logged.
    pub query_logs: QueryLogs,
    /// What tenants are to be told.
    pub notify: Notify,
}

impl AppState {
    /// Puts it together. After `shutdown` no request waits for PoPs any more, and `/readyz` says no.
    pub fn new(
        engine: Engine,
        publisher: Publisher,
        kept: Kept,
        resolver: Resolver,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> AppState {
        let Kept { history, access_log, stats, query_logs, notify } = kept;
        let (metrics, ready) = (Metrics::new(), tokio::sync::Mutex::default());
        let (buckets, begin) = (rate::Buckets::default(), Instant::now());
        let bodies = room::Bodies::new(limits.bodies_bytes);
        AppState(Arc::new(App {
            engine,
            publisher,
            history,
            access_log,
            stats,
            query_logs,
            notify,
            resolver,
            metrics,
            compressor: Compressor::default(),
            limits,
            bodies,
            buckets,
            begin,
            shutdown,
            ready,
        }))
    }

    /// What is counted about requests.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Compresses answers.
    pub fn compressor(&self) -> &Compressor {
        &self.0.compressor
    }

    /// Everything that is counted, in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        let mut text = self.0.metrics.text(&self.0.engine.state());
        self.0.publisher.metrics(&mut text);
        self.0.stats.metrics(&mut text);
        self.0.query_logs.metrics(&mut text);
        self.0.notify.metrics(&mut text);
        text
    }

    /// Takes a heartbeat: of the monitor with this secret, and as of this time, in ms since the epoch.
    ///
    /// # Errors
    /// Not found; too many requests; malformed if it is of a time to come.
    pub fn heartbeat(
        &self,
        secret: &str,
        at_ms: Option<u64>,
        address: Option<IpAddr>,
    ) -> Result<(), ApiError> {
        let app = &self.0;
        let now_ns = u64::try_from(app.begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let state = app.engine.state();
        let hash: [u8; 32] =
            sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(secret)).into();
        let Some(monitor) = state.monitors().heartbeat(&hash) else {
            app.buckets.count_failure(address, now_ns)?;
            return Err(ApiError::new(Code::NotFound, "there is no heartbeat with this secret"));
        };
        app.buckets.take_heartbeat(monitor.id, now_ns)?;
        let now_ms = clock::now_ms();
        let ahead_ms = at_ms.unwrap_or(now_ms).saturating_sub(now_ms);
        if ahead_ms > HEARTBEAT_AHEAD_MS_MAX {
            let detail = format!("at_ms is {ahead_ms} ms from now: set the clock of who calls right");
            return Err(ApiError::malformed(detail));
        }
        let ago = Duration::from_millis(now_ms.saturating_sub(at_ms.unwrap_or(now_ms)));
        app.publisher.health().beat(monitor.id, ago, clock::uptime());
        Ok(())
    }

    /// Whether writes are accepted: not while shutting down, and not if the log can't be written.
    pub async fn is_ready(&self) -> bool {
        if self.0.shutdown.is_cancelled() {
            return false;
        }
        // Anybody may ask, and the store shall not be asked that often.
        let mut asked = self.0.ready.lock().await;
        if let Some((when, is_ready)) = *asked
            && when.elapsed() < READY_TIME
        {
            return is_ready;
        }
        let (store, head) = (Arc::clone(self.0.engine.store()), self.0.engine.state().revision());
        // Appending nothing asks whether this is still the one leader; the log may have gone on since `head`.
        let answer = tokio::task::spawn_blocking(move || store.append(head, &[])).await;
        let is_ready = match answer {
            Ok(Ok(()) | Err(herald_store::AppendError::Conflict { .. })) => true,
            Ok(Err(e)) => {
                tracing::error!("not ready: {e}");
                false
            }
            Err(_) => false,
        };
        *asked = Some((Instant::now(), is_ready));
        is_ready
    }
}

/// Somebody whose credential was found valid, with the state as it was then.
pub struct Caller {
    app: Arc<App>,
    principal: Principal,
    access: Access,
    state: Arc<State>,
    notes: Option<Arc<Notes>>,
    address: Option<IpAddr>,
}

/// What is found out about a request on its way in, for what is said on its way out.
#[derive(Default)]
struct Notes {
    rate: OnceLock<rate::Taken>,
    /// Who it is, if that was found out.
    principal: OnceLock<Principal>,
    /// Whose token was presented, genuine or not, if there is such a token.
    presented: OnceLock<TokenId>,
    /// Whether what was asked for is there, and not to be seen.
    hidden: AtomicBool,
    /// Its idempotency key is remembered.
    repetition: OnceLock<Repetition>,
    /// It was carried out before, and was told so.
    is_repetition: AtomicBool,
}

/// Where a request came from, as far as it came over the network.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// Has a request answered, says in the answer how its caller's bucket stands and whether it is that to a repetition, and
/// notes in the access log who was there.
pub async fn annotated(
    app: &AppState,
    mut request: Request,
    next: Next,
    route: &str,
    method: &'static str,
) -> Response {
    let notes = Arc::new(Notes::default());
    request.extensions_mut().insert(Arc::clone(&notes));
    let address = request.extensions().get().map(|ClientAddress(address)| *address);
    let mut response = next.run(request).await;
    if let Some(repetition) = notes.repetition.get()
        && let Some(answer) = repetition.instead_of(response.status()).await
    {
        response = answer;
        notes.is_repetition.store(true, Ordering::Relaxed);
    }
    if notes.is_repetition.load(Ordering::Relaxed) {
        response.headers_mut().insert(idempotency::REPLAYED, HeaderValue::from_static("true"));
    }
    let principal = notes.principal.get().copied();
    if let Some(principal) = principal {
        app.0.access_log.note_use(principal, address);
    }
    let is_denied = match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
        StatusCode::NOT_FOUND => notes.hidden.load(Ordering::Relaxed),
        _ => false,
    };
    if is_denied {
        app.0.access_log.note(Event {
            kind: access_log::Kind::Denied,
            principal,
            token: notes.presented.get().copied(),
            pop: None,
            status: response.status().as_u16(),
            method,
            route: route.to_owned(),
            address,
        });
    }
    if let Some(rate) = notes.rate.get() {
        rate.tell(response.headers_mut());
    }
    response
}

impl Caller {
    /// Finds out who it is, and takes the request from the bucket of its kind.
    fn authenticate(app: &AppState, parts: &Parts, kind: rate::Kind) -> Result<Caller, ApiError> {
        let app = Arc::clone(&app.0);
        let state = app.engine.state();
        let now_ms = clock::now_ms();
        let now_ns = u64::try_from(app.begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let notes = parts.extensions.get::<Arc<Notes>>().cloned();
        let address = parts.extensions.get().map(|ClientAddress(address)| *address);
        let found = credential::present(&parts.headers).and_then(|credential| {
            if let (Some(notes), Some(token)) = (&notes, credential.token(&state)) {
                _ = notes.presented.set(token);
            }
            let principal = credential.principal(&state, now_ms)?;
            Ok((principal, access(&state, principal, now_ms)?))
        });
        let (principal, access) = match found {
            Ok(found) => found,
            Err(refused) => {
                // Who has a valid token is never held up by others at the same address.
                app.buckets.count_failure(address, now_ns)?;
                return Err(refused);
            }
        };
        let tenant = access.tenant.and_then(|id| state.tenant(id));
        let holder = match principal {
            Principal::Tenant { tenant, .. } => rate::Holder::Tenant(tenant),
            Principal::Operator { token } => rate::Holder::Operator(token),
            Principal::System => return Err(ApiError::new(Code::Unauthenticated, "the system has no token")),
        };
        let limits = tenant.and_then(|tenant| tenant.limits.as_ref());
        let taken = app.buckets.take(holder, kind, limits, now_ns);
        if let Some(notes) = &notes {
            _ = notes.principal.set(principal);
            _ = notes.rate.set(taken);
        }
        taken.check()?;
        Ok(Caller { app, principal, access, state, notes, address })
    }

    /// The state that this request sees: it never moves.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The same, to keep.
    pub fn state_arc(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Who it is.
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// What it may see and do.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// A zone that it may see and has this verb for.
    ///
    /// # Errors
    /// Not found, or forbidden.
    pub fn zone(&self, zone: &ZoneRef, verb: Verb) -> Result<&Shared<Zone>, ApiError> {
        let found = self.access.zone_for(&self.state, zone, verb);
        if let (Err(rejection), Some(notes)) = (&found, &self.notes)
            && rejection.kind == RejectionKind::NotFound
        {
            let is_there = match zone {
                ZoneRef::Id(id) => self.state.zone(*id).is_some(),
                ZoneRef::Name(name) | ZoneRef::Private(name) => self.state.zones_named(name).next().is_some(),
            };
            notes.hidden.fetch_or(is_there, Ordering::Relaxed);
        }
        Ok(found?)
    }

    /// The access log.
    pub fn access_log(&self) -> &AccessLog {
        &self.app.access_log
    }

    /// Notes in the access log that it was shown a secret: that of a token, or another.
    pub fn note_secret(&self, kind: access_log::Kind, token: Option<TokenId>, route: &str) {
        let (principal, route) = (Some(self.principal), format!("{}{route}", herald_wire::api::PREFIX));
        let address = self.address;
        self.app.access_log.note(Event {
            kind,
            principal,
            token,
            pop: None,
            status: 201,
            method: "POST",
            route,
            address,
        });
    }

    /// Notes in the access log that it was shown something that not many are to see.
    pub fn note_shown(&self, kind: access_log::Kind, method: &'static str, route: &str) {
        let (principal, route) = (Some(self.principal), format!("{}{route}", herald_wire::api::PREFIX));
        let address = self.address;
        let (token, pop) = (None, None);
        self.app.access_log.note(Event { kind, principal, token, pop, status: 200, method, route, address });
    }

    /// Asks for a token that isn't limited to some names or types.
    ///
    /// # Errors
    /// Forbidden.
    pub fn need_whole_zones(&self) -> Result<(), ApiError> {
        if self.access.scope.limits_rrsets() {
            let detail = "this token's scope is limited to some names or types of a zone";
            return Err(ApiError::new(Code::Forbidden, detail));
        }
        Ok(())
    }

    /// How large its requests may be.
    fn limits(&self) -> Limits {
        let tenant = self.access.tenant.and_then(|id| self.state.tenant(id));
        self.app.limits.of(tenant.and_then(|tenant| tenant.limits.as_ref()))
    }

    /// Receipts and how PoPs stand.
    pub fn publisher(&self) -> &Publisher {
        &self.app.publisher
    }

    /// The past.
    pub fn history(&self) -> &History {
        &self.app.history
    }

    /// Counts of queries.
    pub fn stats(&self) -> &Stats {
        &self.app.stats
    }

    /// Queries of zones that are logged.
    pub fn query_logs(&self) -> &QueryLogs {
        &self.app.query_logs
    }

    /// What tenants are told, and how that goes.
    pub fn notify(&self) -> &Notify {
        &self.app.notify
    }

    /// Facts about addresses.
    pub fn geo(&self) -> Arc<steering::geo::Geo> {
        self.app.publisher.places().geo()
    }

    /// Looks things up in the public DNS.
    pub fn resolver(&self) -> &Resolver {
        &self.app.resolver
    }

    /// Waits until PoPs confirmed a revision; `false` if the time passed, or the daemon is stopping.
    pub async fn wait(&self, revision: u64, options: &WriteOptions) -> bool {
        let Some(wait) = options.wait else { return true };
        let deadline = tokio::time::Instant::now() + options.timeout;
        tokio::select! {
            in_sync = self.app.publisher.wait(revision, wait, deadline) => in_sync,
            () = self.app.shutdown.cancelled() => false,
        }
    }

    /// The same caller, seeing the state as it is now.
    ///
    /// # Errors
    /// If its credential isn't valid any more.
    fn refreshed(&self) -> Result<Caller, ApiError> {
        let (app, state) = (Arc::clone(&self.app), self.app.engine.state());
        let access = access(&state, self.principal, clock::now_ms())?;
        let (notes, address) = (self.notes.clone(), self.address);
        Ok(Caller { app, principal: self.principal, access, state, notes, address })
    }
}

fn access(state: &State, principal: Principal, time_ms: u64) -> Result<Access, ApiError> {
    // Access looks at who and when, and at no more.
    let context = Context {
        principal,
        time_ms,
        entropy: [0; 32],
        message: None,
        idempotency_key: None,
        confirmed: false,
    };
    Ok(Access::of(state, &context)?)
}

/// A request that reads: who, what path, what query.
pub struct Reading<P = (), Q = NoQuery> {
    /// Who.
    pub caller: Caller,
    /// What of.
    pub path: P,
    /// Which.
    pub query: Q,
    /// `If-None-Match`.
    pub preconditions: Preconditions,
}

impl<P: FromPath, Q: FromQuery> FromRequestParts<AppState> for Reading<P, Q> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let caller = Caller::authenticate(app, parts, rate::Kind::Read)?;
        let path = read_path(parts, app).await?;
        let query = Q::from_query(parts.uri.query())?;
        Ok(Reading { caller, path, query, preconditions: Preconditions::read(&parts.headers)? })
    }
}

/// A request that writes: who, what path, what body, and how.
pub struct Writing<P = (), B = NoBody, Q = WriteQuery> {
    /// Who, and how to write.
    pub writer: Writer,
    /// What of.
    pub path: P,
    /// What.
    pub body: B,
    /// What else was asked.
    pub query: Q,
    /// `If-Match` and `If-None-Match`.
    pub preconditions: Preconditions,
}

impl<P, B, Q> FromRequest<AppState> for Writing<P, B, Q>
where
    P: FromPath + Send,
    B: Body + Send,
    Q: WriteParams + Send,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::authenticate(app, &parts, rate::Kind::Write)?;
        let path = read_path(&mut parts, app).await?;
        let query = Q::from_query(parts.uri.query())?;
        let options = query.options()?;
        let message = query.message().map(str::to_owned);
        let mut preconditions = Preconditions::read(&parts.headers)?;
        let notes = parts.extensions.get::<Arc<Notes>>().cloned().unwrap_or_default();
        let key = if options.dry_run { None } else { Key::read(&parts, caller.principal())? };
        let body = match &key {
            Some(key) => key.watch(body),
            None => body,
        };
        let room = caller.app.bodies.of_request();
        let body = B::read(&parts.headers, body, &caller.limits(), &room).await?;
        if let Some(key) = &key
            && let Some(outcome) = caller.state.requests().outcome(&key.request_key(), clock::now_ms())
        {
            let (key, outcome) = (key.clone(), *outcome);
            _ = notes.repetition.set(Repetition { caller: caller.refreshed()?, key, outcome });
            // They held when it was carried out, and what it did may be what makes them fail now.
            preconditions = Preconditions::default();
        }
        let writer = Writer::new(caller, options, message, key, notes, room);
        Ok(Writing { writer, path, body, query, preconditions })
    }
}

/// A request of a PoP that reports something: who, and what.
pub struct Reporting<B> {
    /// Who.
    pub pop: PopId,
    /// The state that this request sees.
    pub state: Arc<State>,
    /// Counts of queries.
    pub stats: Stats,
    /// Queries of zones that are logged.
    pub query_logs: QueryLogs,
    /// What.
    pub body: B,
}

impl<B: Body + Send> FromRequest<AppState> for Reporting<B> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let app = Arc::clone(&app.0);
        let state = app.engine.state();
        let pop = match credential::pop(&parts.headers, &state) {
            Ok(pop) => pop,
            Err(refused) => {
                let address = parts.extensions.get().map(|ClientAddress(address)| *address);
                let now_ns = u64::try_from(app.begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
                app.buckets.count_failure(address, now_ns)?;
                return Err(refused);
            }
        };
        NoQuery::from_query(parts.uri.query())?;
        let room = app.bodies.of_request();
        let body = B::read(&parts.headers, body, &app.limits, &room).await?;
        let (stats, query_logs) = (app.stats.clone(), app.query_logs.clone());
        Ok(Reporting { pop, state, stats, query_logs, body })
    }
}

async fn read_path<P: FromPath>(parts: &mut Parts, app: &AppState) -> Result<P, ApiError> {
    if P::IS_EMPTY {
        return P::from_path(&mut std::iter::empty());
    }
    let params = RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|_| ApiError::malformed("the path is not percent-encoded UTF-8"))?;
    P::from_path(&mut params.iter().map(|(_, value)| value))
}
