//! The session without its connection: frames go in, frames come out, and time is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use herald_core::Generation;
use herald_core::PopId;
use herald_core::account::Pop;
use herald_core::command::Action;
use herald_core::firewall::FirewallPart;
use herald_core::state::State;
use herald_wire::stream::{
    self, FirewallFiles, GeoStatus, Hello, InventoryZone, PROTOCOL, RefusalCause, Refused, ToHerald, ToPop,
    Welcome, ZoneGeneration,
};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::SessionError;
use super::compare::{Buckets, differences};
use super::feed::Feed;
use crate::publisher::shared::{SessionUp, Shared, Told};
use crate::publisher::sum::{Sum, read_digests};

/// How long a PoP may take to say hello, or to send its inventory.
const HANDSHAKE_S: u64 = 30;

/// Why an agent is refused that would serve private zones to everybody.
pub(super) const KNOWS_NOTHING_PRIVATE: &str =
    "there are private zones, which this agent would serve to everybody: install a newer one";

/// A PoP that is not heard from for this long is gone.
const SILENCE_S: u64 = 10;

/// One session of a PoP, from its hello on.
///
/// It is driven by whoever has the connection: each frame that comes is [taken](Session::take), and whenever the last
/// bytes were written it is [polled](Session::poll) for more. Time is the span since any fixed moment, the same one that
/// [`Tracker::committed`](crate::publisher::Tracker::committed) is told.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use herald::publisher::{Next, Session, SessionError, Shared};
/// use herald_wire::stream::{Hello, ToHerald, ToPop, decode_frame};
///
/// // A simulation calls `shared.tracker().committed(&state, &commits, now)` with each group of its engine.
/// let shared = Arc::new(Shared::default());
/// let mut now = Duration::ZERO;
/// let mut session = Session::new(Arc::clone(&shared), "198.51.100.7:4000".into(), now);
/// let (pop, secret, agent_version) = ("nowhere".into(), "wrong".into(), "1".into());
/// let (newest, bucket_digests, geo, verdicts) = (Default::default(), Vec::new(), None, None);
/// let (knows_private, firewall, resolves, logs_queries) = (None, None, None, None);
/// session.take(ToHerald::Hello(Hello { protocol: 1, pop, secret, agent_version, newest, bucket_digests, geo, verdicts, knows_private, firewall, resolves, logs_queries }), now)?;
/// let mut bytes = Vec::new();
/// assert_eq!(session.poll(now, &mut bytes)?, Next::More);
/// let (_, answer) = decode_frame::<ToPop>(&bytes)?.expect("a whole frame");
/// assert!(matches!(answer, ToPop::Reject { .. }));
/// // Time passes, the bytes are written: what else?
/// now += Duration::from_millis(1);
/// assert!(matches!(session.poll(now, &mut bytes), Err(SessionError::Rejected(_))));
/// # Ok::<(), SessionError>(())
/// ```
///
/// After an error the session is over and is dropped; so it is when the connection is lost.
pub struct Session {
    shared: Arc<Shared>,
    address: String,
    /// The PoP whose name it gave, if there is one.
    claimed: Option<PopId>,
    agent_version: String,
    /// When it was last heard of.
    heard: Duration,
    /// Frames of the handshake that [`Session::poll`] has yet to give.
    out: Vec<u8>,
    phase: Phase,
}

/// ```text
///   Hello ──▶ Inventory ──▶ Up
///     │ └── nothing differs ─▲
///     └──▶ Rejected
/// ```
enum Phase {
    Hello,
    Inventory(Box<Awaited>),
    Up(Box<Feed>),
    Rejected(String),
}

/// An inventory that was asked for by the welcome.
struct Awaited {
    pop: Pop,
    up: SessionUp,
    state: Arc<State>,
    sum: Sum,
    buckets: Buckets,
    inventory: Vec<InventoryZone>,
    geo: Option<GeoStatus>,
    knows_private: bool,
    verdicts: Option<Generation>,
    firewall: Option<FirewallFiles>,
    resolves: Option<bool>,
    logs_queries: bool,
}

/// What [`Session::poll`] leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Poll again as soon as these bytes are written.
    More,
    /// Nothing, till a frame is taken, a change is committed or it is this time.
    At(Duration),
}

impl Session {
    /// A session with somebody at this address who has yet to say hello.
    pub fn new(shared: Arc<Shared>, address: String, now: Duration) -> Session {
        let (agent_version, out) = (String::new(), Vec::new());
        Session { shared, address, claimed: None, agent_version, heard: now, out, phase: Phase::Hello }
    }

    /// Takes a frame of the PoP. The last one of an inventory takes a while: up to 100 ms where there are 100,000 zones.
    ///
    /// # Errors
    /// [`SessionError`] if the frame has no place here.
    pub fn take(&mut self, frame: ToHerald, now: Duration) -> Result<(), SessionError> {
        self.heard = now;
        match (&mut self.phase, frame) {
            (Phase::Hello, ToHerald::Hello(hello)) => self.hello(hello, now),
            (Phase::Hello, _) => Err(SessionError::OutOfTurn("no hello")),
            (_, ToHerald::Hello(_)) => Err(SessionError::OutOfTurn("a second hello")),
            (Phase::Rejected(_), _) => Ok(()),
            (_, ToHerald::Status(status)) => {
                let (agent_version, address) = (self.agent_version.clone(), self.address.clone());
                let told = Told { status, agent_version, address, at: now };
                if let Some(up) = self.up() {
                    let status = &told.status;
                    self.shared.has_files(up.pop, status.geo.as_ref(), status.firewall.as_ref());
                    self.shared.note(up.pop, |live| live.told = Some(told));
                }
                Ok(())
            }
            (Phase::Inventory(awaited), ToHerald::Inventory { zones, last }) => {
                awaited.inventory.extend(zones);
                if last {
                    self.compared(now);
                }
                Ok(())
            }
            // It comes again, once it has been told of all monitors and targets.
            (Phase::Inventory(_), ToHerald::Probed { .. } | ToHerald::Resolved { .. }) => Ok(()),
            (Phase::Inventory(_), _) => Err(SessionError::OutOfTurn("no inventory")),
            (Phase::Up(feed), ToHerald::Inventory { zones, last }) => feed.inventory(zones, last, now),
            (Phase::Up(feed), ToHerald::Drifted { bucket_digests }) => {
                feed.drifted(read_digests(&bucket_digests));
                Ok(())
            }
            (Phase::Up(feed), ToHerald::BulkCredit { bytes }) => {
                feed.credit(bytes);
                Ok(())
            }
            (Phase::Up(feed), ToHerald::Applied { zones }) => {
                applied(feed, &zones, now);
                Ok(())
            }
            (Phase::Up(feed), ToHerald::GeoWant { hash, from, to, part }) => {
                feed.want_file(part, hash, from, to);
                Ok(())
            }
            (Phase::Up(feed), ToHerald::Probed { seen, answers }) => {
                feed.probed(seen, answers.unwrap_or_default(), now);
                Ok(())
            }
            (Phase::Up(feed), ToHerald::Resolved { targets }) => {
                feed.resolved(targets, now);
                Ok(())
            }
            (Phase::Up(feed), ToHerald::Refused(refusal)) => {
                refused(feed, refusal, now);
                Ok(())
            }
        }
    }

    /// Appends what is to be sent now to `out`, which must hold nothing that wasn't written: some tens of kilobytes, so
    /// that what is urgent never waits behind much.
    ///
    /// # Errors
    /// [`SessionError`] if the session is over.
    pub fn poll(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<Next, SessionError> {
        if !self.out.is_empty() {
            out.append(&mut self.out);
            return Ok(Next::More);
        }
        let silent_at = self.silent_at();
        if let Phase::Rejected(reason) = &self.phase {
            return Err(SessionError::Rejected(reason.clone()));
        }
        if now >= silent_at {
            return Err(self.silent());
        }
        let Phase::Up(feed) = &mut self.phase else { return Ok(Next::At(silent_at)) };
        Ok(match feed.poll(now, out)? {
            Next::At(at) => Next::At(at.min(silent_at)),
            Next::More => Next::More,
        })
    }

    /// When the session is over if nothing is heard till then, also while nothing can be written.
    pub fn silent_at(&self) -> Duration {
        self.heard + Duration::from_secs(self.silence_s())
    }

    /// What it then ends with.
    pub fn silent(&self) -> SessionError {
        SessionError::Silent(self.silence_s())
    }

    /// What the log is to note of the PoP: a command of the system.
    pub fn due_note(&mut self, now: Duration) -> Option<Action> {
        match &mut self.phase {
            Phase::Up(feed) => feed.due_note(now),
            _ => None,
        }
    }

    fn silence_s(&self) -> u64 {
        match self.phase {
            Phase::Up(_) => SILENCE_S,
            _ => HANDSHAKE_S,
        }
    }

    /// Whether it was let in, and the PoP whose name it gave; none before the hello.
    pub fn login(&self) -> Option<(bool, Option<PopId>)> {
        match self.phase {
            Phase::Hello => None,
            Phase::Rejected(_) => Some((false, self.claimed)),
            Phase::Inventory(_) | Phase::Up(_) => Some((true, self.claimed)),
        }
    }

    /// Cancelled when a newer session of the same PoP takes this one's place; none before the hello.
    pub fn replaced(&self) -> Option<CancellationToken> {
        self.up().map(|up| up.replaced.clone())
    }

    fn up(&self) -> Option<&SessionUp> {
        match &self.phase {
            Phase::Hello | Phase::Rejected(_) => None,
            Phase::Inventory(awaited) => Some(&awaited.up),
            Phase::Up(feed) => Some(feed.up()),
        }
    }

    fn hello(&mut self, hello: Hello, now: Duration) -> Result<(), SessionError> {
        let (state, sum) = self.shared.tracker().newest_in_sum();
        self.claimed = state.pops().find(|pop| pop.name == hello.pop).map(|pop| pop.id);
        let pop = match judge(&state, &hello) {
            Ok(pop) => pop,
            Err(reason) => {
                stream::encode_frame(&ToPop::Reject { reason: reason.clone() }, &mut self.out);
                self.phase = Phase::Rejected(reason);
                return Ok(());
            }
        };
        let up = SessionUp::begin(&self.shared, pop.id);
        tracing::info!("the session of the PoP {} at {} is up", pop.name, self.address);
        self.agent_version = hello.agent_version;
        let buckets = sum.differing(&read_digests(&hello.bucket_digests));
        let welcome = Welcome {
            protocol: PROTOCOL,
            herald_version: env!("CARGO_PKG_VERSION").into(),
            head: state.head(),
            buckets: buckets.clone(),
            api: self.shared.api(),
        };
        stream::encode_frame(&ToPop::Welcome(welcome), &mut self.out);
        let is_same = buckets.is_empty();
        let (buckets, inventory) = (Buckets::new(&buckets), Vec::new());
        self.shared.has_files(up.pop, hello.geo.as_ref(), hello.firewall.as_ref());
        let (geo, verdicts, firewall) = (hello.geo, hello.verdicts, hello.firewall);
        let knows_private = hello.knows_private == Some(true);
        self.phase = Phase::Inventory(Box::new(Awaited {
            pop,
            up,
            state,
            sum,
            buckets,
            inventory,
            geo,
            knows_private,
            verdicts,
            firewall,
            resolves: hello.resolves,
            logs_queries: hello.logs_queries == Some(true),
        }));
        if is_same {
            self.compared(now);
        }
        Ok(())
    }

    /// All that was asked for is there: the PoP is brought from what it has to what it should have.
    fn compared(&mut self, now: Duration) {
        let Phase::Inventory(awaited) = std::mem::replace(&mut self.phase, Phase::Hello) else {
            unreachable!("only an inventory is compared")
        };
        let Awaited {
            pop,
            mut up,
            state,
            sum,
            buckets,
            inventory,
            geo,
            knows_private,
            verdicts,
            firewall,
            resolves,
            logs_queries,
        } = *awaited;
        up.watch(verdicts.is_some(), resolves == Some(true));
        let tracker = self.shared.tracker();
        let found = differences(&state, &buckets, &inventory, |versions| tracker.past(versions));
        // Where nothing differs, it holds what it should.
        let others = state.zones().filter(|zone| zone.is_served() && !buckets.has(zone.id)).count();
        let zones = (others + inventory.len()) as u64;
        let mut feed = Feed::new(&pop, up, state, sum, now);
        feed.knows_private(knows_private);
        feed.knows_monitors(verdicts);
        if let Some(geo) = geo {
            feed.knows_file(None, geo.hash);
        }
        for part in FirewallPart::ALL {
            if let Some(firewall) = &firewall {
                feed.knows_file(Some(part), firewall.part(part).hash.clone());
            }
        }
        feed.knows_aliases(resolves);
        feed.knows_query_logs(logs_queries);
        feed.bring(&pop, found, zones, now);
        self.phase = Phase::Up(Box::new(feed));
    }
}

/// Who says hello, or why it can't be let in.
fn judge(state: &State, hello: &Hello) -> Result<Pop, String> {
    if hello.protocol != PROTOCOL {
        return Err(format!(
            "this control plane speaks protocol {PROTOCOL}, not {}: install versions that fit",
            hello.protocol
        ));
    }
    let pop = state.pops().find(|pop| pop.name == hello.pop);
    // One answer for an unknown name and a wrong credential, in the same time.
    let known = pop.map_or([0; 32], |pop| pop.secret_hash);
    let given: [u8; 32] = Sha256::digest(hello.secret.as_bytes()).into();
    let is_same = known.iter().zip(given).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0;
    let pop = pop.filter(|_| is_same).ok_or("the PoP's name or credential is wrong")?;
    if !pop.enabled {
        return Err("the PoP is disabled".into());
    }
    if hello.newest > state.head() {
        return Err(format!(
            "the PoP has generation {} and this control plane only {}: was it restored from an old backup?",
            hello.newest,
            state.head()
        ));
    }
    if hello.knows_private != Some(true) && state.zones().any(|zone| zone.is_private()) {
        return Err(KNOWS_NOTHING_PRIVATE.into());
    }
    Ok((**pop).clone())
}

fn applied(feed: &mut Feed, zones: &[ZoneGeneration], now: Duration) {
    let SessionUp { shared, pop, number, .. } = feed.up();
    let generations = zones.iter().map(|applied| (applied.zone, applied.generation));
    shared.tracker().confirmed(*pop, *number, generations, now);
    shared.note(*pop, |live| {
        live.refused.retain(|(refused, _)| !zones.iter().any(|applied| applied.zone == *refused));
    });
    feed.applied(zones);
}

fn refused(feed: &mut Feed, refusal: Refused, now: Duration) {
    let (shared, pop) = (&feed.up().shared, feed.pop_name());
    shared.counters.refused.fetch_add(1, Ordering::Relaxed);
    let Refused { zone, cause, reason, .. } = refusal;
    match cause {
        // An ordinary part of catching up.
        RefusalCause::Gap => {
            tracing::info!("the PoP {pop} asks for the whole zone {zone}: {reason}");
            feed.gap(zone, now);
        }
        RefusalCause::Older => tracing::warn!("the PoP {pop} has a newer generation of {zone}: {reason}"),
        RefusalCause::Knot | RefusalCause::Replica => {
            tracing::warn!("the PoP {pop} could not apply {zone}: {reason}");
            shared.note(feed.up().pop, |live| live.refuses(zone, reason));
        }
    }
}
