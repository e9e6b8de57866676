//! One session of a PoP: it says what it has, is sent what it lacks, and confirms.
//!
//! ```text
//!            ┌────────── reader: receipts, refusals, credit, status ◀──────── socket
//!            ▼                                                                  ▲
//!   tracker, Inbox (refused zones, bulk credit)                                 │
//!            │                                                                  │
//!            └─▶ sender: deltas first, then whole small zones, then a part of a large one
//! ```
//!
//! The sender never waits for a receipt before it sends more. What it has yet to send is no queue of changes but
//! the difference between the state it last looked at and the newest one, and a list of zones to be sent whole.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use herald_core::account::Pop;
use herald_core::content::Content;
use herald_core::state::{PublishedDiff, State};
use herald_core::zone::Zone;
use herald_core::{Name, PopId, RrKey, ZoneId};
use herald_wire::api::{PopRefusal, PopStatus};
use herald_wire::stream::{
    self, AgentStatus, BUCKETS, BULK_WINDOW_BYTES, FRAME_BYTES_MAX, Hello, InventoryZone, PROTOCOL,
    RefusalCause, Refused, ToHerald, ToPop, Welcome, ZoneBegin, ZoneDelta, ZoneRrset,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Lacks, Publisher};

/// How long a PoP may take to say hello, or to send its inventory.
const HANDSHAKE_S: u64 = 30;

/// Longest hello, in bytes: its digests have 4 KiB.
const HELLO_BYTES_MAX: usize = 16 * 1024;

/// A PoP that is not heard from for this long is gone.
const SILENCE_S: u64 = 10;

/// A difference over this is sent as a whole zone, which yields to others, in bytes.
const DELTA_BYTES_MAX: usize = 256 * 1024;

/// A zone up to this is sent in one go, in bytes.
const SMALL_ZONE_BYTES_MAX: usize = 32 * 1024;

/// About how long a part of a large zone is, in bytes: what a delta waits behind at most.
const PART_BYTES: usize = 32 * 1024;

/// How much is put together before it is written, in bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// How much the kernel may hold that it has not sent yet, in bytes: what a delta waits behind on a long way.
const UNSENT_BYTES: u32 = 64 * 1024;

/// How many refusals are kept for the operator.
const REFUSALS_SHOWN: usize = 20;

/// A connection whose PoP isn't known yet.
pub(super) struct Accepted {
    pub publisher: Publisher,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] stream::FrameError),
    #[error("it sent something that is not due: {0}")]
    OutOfTurn(&'static str),
    #[error("it was refused: {0}")]
    Rejected(String),
    #[error("it was silent for {0} s")]
    Silent(u64),
}

impl Accepted {
    pub(super) async fn run(self, stream: TcpStream, tls: Option<tokio_rustls::TlsAcceptor>) {
        let (address, shutdown) = (self.address, self.shutdown.clone());
        let ended = tokio::select! {
            ended = self.connected(stream, tls) => ended,
            () = shutdown.cancelled() => Ok(()),
        };
        if let Err(e) = ended {
            tracing::warn!("the session of a PoP at {address} ended: {e}");
        }
    }

    async fn connected(
        self,
        stream: TcpStream,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Result<(), SessionError> {
        self.prepare(&stream)?;
        match tls {
            None => self.session(stream).await,
            Some(tls) => {
                let stream = in_time(tls.accept(stream)).await?;
                self.session(stream).await
            }
        }
    }

    fn prepare(&self, stream: &TcpStream) -> Result<(), SessionError> {
        stream.set_nodelay(true)?;
        socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        Ok(())
    }

    async fn session<S: AsyncRead + AsyncWrite + Send + 'static>(
        self,
        stream: S,
    ) -> Result<(), SessionError> {
        let (reading, mut writing) = tokio::io::split(stream);
        let mut frames = Frames::new(reading);
        let ToHerald::Hello(hello) = in_time(frames.next()).await? else {
            return Err(SessionError::OutOfTurn("no hello"));
        };
        frames.bytes_max = FRAME_BYTES_MAX;
        let state = self.publisher.shared.tracker.newest();
        let pop = match judge(&state, &hello) {
            Ok(pop) => pop,
            Err(reason) => {
                let mut bytes = Vec::new();
                stream::encode_frame(&ToPop::Reject { reason: reason.clone() }, &mut bytes);
                in_time(writing.write_all(&bytes)).await?;
                writing.shutdown().await?;
                return Err(SessionError::Rejected(reason));
            }
        };
        let up = SessionUp::begin(&self, &pop);
        tracing::info!("the session of the PoP {} at {} is up", pop.name, self.address);
        let compared = tokio::select! {
            biased;
            // A newer session of the same PoP knows better what it has.
            () = up.token.cancelled() => return Ok(()),
            compared = self.compare(&state, &hello, &mut frames, &mut writing) => compared,
        };
        let (lacks, to_send) = compared?;
        self.publisher.shared.tracker.resynced(pop.id, &state, lacks);

        let inbox = Arc::new(Inbox::default());
        let mut reader = Reader {
            publisher: self.publisher.clone(),
            pop: pop.clone(),
            agent_version: hello.agent_version,
            address: self.address,
            inbox: Arc::clone(&inbox),
            frames,
        };
        let mut sender = Sender {
            publisher: self.publisher.clone(),
            pop: pop.id,
            revision: self.publisher.engine.revision(),
            seen: state,
            whole: to_send.whole.into(),
            whole_set: HashSet::new(),
            removals: to_send.removals,
            large: None,
            bulk_sent_bytes: 0,
            inbox,
            out: Vec::with_capacity(2 * WRITE_BYTES),
            writing,
        };
        sender.whole_set = sender.whole.iter().copied().collect();
        tokio::select! {
            ended = reader.run() => ended,
            ended = sender.run() => ended,
            () = up.token.cancelled() => Ok(()),
        }
    }

    /// Finds what the PoP lacks, by digest.
    async fn compare<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        state: &State,
        hello: &Hello,
        frames: &mut Frames<R>,
        writing: &mut W,
    ) -> Result<(Lacks, ToSend), SessionError> {
        let ours = bucket_digests(state);
        let theirs =
            hello.bucket_digests.chunks_exact(16).map(|d| u128::from_be_bytes(d.try_into().expect("16")));
        let theirs: Vec<u128> = theirs.collect();
        let differs = |bucket: usize| theirs.get(bucket) != Some(&ours[bucket]);
        #[expect(clippy::cast_possible_truncation, reason = "256 buckets")]
        let buckets: Vec<u16> =
            (0..BUCKETS).filter(|bucket| differs(*bucket)).map(|bucket| bucket as u16).collect();
        let welcome = Welcome {
            protocol: PROTOCOL,
            herald_version: env!("CARGO_PKG_VERSION").into(),
            head: state.head(),
            buckets: buckets.clone(),
        };
        let mut bytes = Vec::new();
        stream::encode_frame(&ToPop::Welcome(welcome), &mut bytes);
        in_time(writing.write_all(&bytes)).await?;

        let mut inventory: HashMap<ZoneId, InventoryZone> = HashMap::new();
        let mut is_last = buckets.is_empty();
        while !is_last {
            match in_time(frames.next()).await? {
                ToHerald::Inventory { zones, last } => {
                    inventory.extend(zones.into_iter().map(|zone| (zone.zone, zone)));
                    is_last = last;
                }
                ToHerald::Status(_) => {}
                _ => return Err(SessionError::OutOfTurn("no inventory")),
            }
        }
        Ok(differences(state, &differs, &inventory))
    }
}

/// What a PoP is to be sent after its inventory was compared.
#[derive(Default)]
struct ToSend {
    whole: Vec<ZoneId>,
    removals: Vec<ZoneId>,
}

fn differences(
    state: &State,
    differs: &dyn Fn(usize) -> bool,
    inventory: &HashMap<ZoneId, InventoryZone>,
) -> (Lacks, ToSend) {
    let (mut lacks, mut to_send) = (Lacks::new(), ToSend::default());
    for zone in state.zones().filter(|zone| zone.is_served() && differs(stream::bucket_of(zone.id))) {
        let theirs = inventory.get(&zone.id);
        let same = |theirs: &InventoryZone| {
            theirs.generation == zone.generation && theirs.digest == zone.published_digest()
        };
        if !theirs.is_some_and(same) {
            // What it has is some earlier state of the zone, if it isn't damaged.
            let confirmed =
                theirs.map_or(0, |theirs| theirs.generation.counter.min(zone.generation.counter - 1));
            lacks.insert(zone.id, confirmed);
            to_send.whole.push(zone.id);
        }
    }
    for zone in inventory.keys() {
        if !state.zone(*zone).is_some_and(|zone| zone.is_served()) {
            lacks.insert(*zone, 0);
            to_send.removals.push(*zone);
        }
    }
    (lacks, to_send)
}

fn bucket_digests(state: &State) -> Vec<u128> {
    let mut digests = vec![0u128; BUCKETS];
    for zone in state.zones().filter(|zone| zone.is_served()) {
        let digest = stream::inventory_digest(zone.id, zone.generation, zone.published_digest());
        let bucket = &mut digests[stream::bucket_of(zone.id)];
        *bucket = bucket.wrapping_add(digest);
    }
    digests
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
    Ok((**pop).clone())
}

async fn in_time<T, E: Into<SessionError>>(
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, SessionError> {
    match tokio::time::timeout(Duration::from_secs(HANDSHAKE_S), future).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(SessionError::Silent(HANDSHAKE_S)),
    }
}

/// The session is known to be up as long as this lives. Another one of the same PoP takes its place.
struct SessionUp {
    publisher: Publisher,
    pop: PopId,
    token: CancellationToken,
}

impl SessionUp {
    fn begin(accepted: &Accepted, pop: &Pop) -> SessionUp {
        let token = accepted.shutdown.child_token();
        let mut pops = accepted.publisher.shared.pops();
        let live = pops.entry(pop.id).or_default();
        live.refused.clear();
        if let Some(previous) = live.session.replace(token.clone()) {
            previous.cancel();
        }
        drop(pops);
        accepted.publisher.shared.counters.sessions.fetch_add(1, Ordering::Relaxed);
        SessionUp { publisher: accepted.publisher.clone(), pop: pop.id, token }
    }
}

impl Drop for SessionUp {
    fn drop(&mut self) {
        self.publisher.shared.counters.sessions.fetch_sub(1, Ordering::Relaxed);
        if let Some(live) = self.publisher.shared.pops().get_mut(&self.pop)
            && !self.token.is_cancelled()
        {
            live.session = None;
        }
    }
}

// --------------------------------------------------------------------------------------------- reading

/// Cuts a stream into frames.
struct Frames<R> {
    reading: R,
    bytes: Vec<u8>,
    taken: usize,
    /// Longest frame that is taken; from strangers no longer one than a hello has.
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    fn new(reading: R) -> Frames<R> {
        Frames { reading, bytes: Vec::new(), taken: 0, bytes_max: HELLO_BYTES_MAX }
    }

    async fn next(&mut self) -> Result<ToHerald, SessionError> {
        loop {
            if let Some((length, message)) = stream::decode_frame(&self.bytes[self.taken..])? {
                self.taken += length;
                return Ok(message);
            }
            self.bytes.drain(..self.taken);
            self.taken = 0;
            if self.bytes.len() > self.bytes_max + 4 {
                return Err(SessionError::OutOfTurn("a frame without end"));
            }
            if self.reading.read_buf(&mut self.bytes).await? == 0 {
                return Err(SessionError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// What the reader tells the sender.
struct Inbox {
    /// Zones that the PoP asks for whole.
    wanted: std::sync::Mutex<Vec<ZoneId>>,
    credited_bytes: AtomicU64,
    changed: Notify,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox { wanted: Default::default(), credited_bytes: AtomicU64::new(0), changed: Notify::new() }
    }
}

struct Reader<R> {
    publisher: Publisher,
    pop: Pop,
    agent_version: String,
    address: SocketAddr,
    inbox: Arc<Inbox>,
    frames: Frames<R>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    async fn run(&mut self) -> Result<(), SessionError> {
        loop {
            let silence = Duration::from_secs(SILENCE_S);
            match tokio::time::timeout(silence, self.frames.next()).await {
                Err(_) => return Err(SessionError::Silent(SILENCE_S)),
                Ok(Err(SessionError::Io(e))) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(());
                }
                Ok(frame) => self.take(frame?)?,
            }
        }
    }

    fn take(&self, frame: ToHerald) -> Result<(), SessionError> {
        let shared = &self.publisher.shared;
        match frame {
            ToHerald::Applied { zones } => {
                shared.tracker.confirmed(self.pop.id, zones.iter().map(|z| (z.zone, z.generation)));
                if let Some(live) = shared.pops().get_mut(&self.pop.id) {
                    let applied =
                        |refusal: &PopRefusal| zones.iter().any(|z| z.zone.to_string() == refusal.zone);
                    live.refused.retain(|refusal| !applied(refusal));
                }
            }
            ToHerald::Refused(refused) => self.refused(refused),
            ToHerald::BulkCredit { bytes } => {
                self.inbox.credited_bytes.fetch_add(bytes, Ordering::Relaxed);
                self.inbox.changed.notify_one();
            }
            ToHerald::Status(status) => self.status(&status),
            ToHerald::Hello(_) => return Err(SessionError::OutOfTurn("a second hello")),
            ToHerald::Inventory { .. } | ToHerald::Drifted { .. } => {
                return Err(SessionError::OutOfTurn("an inventory nobody asked for"));
            }
        }
        Ok(())
    }

    fn refused(&self, refused: Refused) {
        self.publisher.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        match refused.cause {
            // An ordinary part of catching up.
            RefusalCause::Gap => {
                tracing::info!(
                    "the PoP {} asks for the whole zone {}: {}",
                    self.pop.name,
                    refused.zone,
                    refused.reason
                );
                self.inbox
                    .wanted
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push(refused.zone);
                self.inbox.changed.notify_one();
            }
            RefusalCause::Older => {
                tracing::warn!(
                    "the PoP {} has a newer generation of {}: {}",
                    self.pop.name,
                    refused.zone,
                    refused.reason
                );
            }
            RefusalCause::Knot | RefusalCause::Replica => {
                tracing::warn!(
                    "the PoP {} could not apply {}: {}",
                    self.pop.name,
                    refused.zone,
                    refused.reason
                );
                let mut pops = self.publisher.shared.pops();
                let Some(live) = pops.get_mut(&self.pop.id) else { return };
                let zone = refused.zone.to_string();
                live.refused.retain(|refusal| refusal.zone != zone);
                live.refused.push(PopRefusal { zone, reason: refused.reason });
                if live.refused.len() > REFUSALS_SHOWN {
                    live.refused.remove(0);
                }
            }
        }
    }

    fn status(&self, status: &AgentStatus) {
        let mut pops = self.publisher.shared.pops();
        let live = pops.entry(self.pop.id).or_default();
        live.status = Some(PopStatus {
            agent_version: self.agent_version.clone(),
            knot_version: status.knot_version.clone(),
            knot_running: status.knot_running,
            zones: status.zones,
            epoch: status.newest.epoch,
            counter: status.newest.counter,
            address: self.address.to_string(),
            heard_at_ms: crate::clock::now_ms(),
            refused: Vec::new(),
        });
    }
}

// --------------------------------------------------------------------------------------------- sending

struct Sender<W> {
    publisher: Publisher,
    pop: PopId,
    revision: watch::Receiver<u64>,
    /// The state up to which all was sent, but for what stands in the lists below.
    seen: Arc<State>,
    /// Zones to be sent whole, each as it will be then.
    whole: VecDeque<ZoneId>,
    whole_set: HashSet<ZoneId>,
    /// Zones to be removed once nothing is left to be sent whole, as one of those may take the name over.
    removals: Vec<ZoneId>,
    /// The large zone that is being sent.
    large: Option<Large>,
    bulk_sent_bytes: u64,
    inbox: Arc<Inbox>,
    out: Vec<u8>,
    writing: W,
}

/// A large zone on its way.
struct Large {
    zone: Arc<Zone>,
    /// The last RRset that was sent.
    after: Option<RrKey>,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    async fn run(&mut self) -> Result<(), SessionError> {
        let mut ping = tokio::time::interval(Duration::from_secs(1));
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.send_differences().await?;
            self.take_wanted();
            if self.send_bulk().await? {
                continue;
            }
            tokio::select! {
                changed = self.revision.changed() => if changed.is_err() { return Ok(()) },
                () = self.inbox.changed.notified() => {}
                _ = ping.tick() => self.ping().await?,
            }
        }
    }

    /// Sends what changed since the last look, deltas first; what is to be sent whole is put on the list.
    async fn send_differences(&mut self) -> Result<(), SessionError> {
        let (new, ceased) = self.publisher.shared.tracker.look(self.pop);
        let seen = Arc::clone(&self.seen);
        if seen.revision() == new.revision() {
            return Ok(());
        }
        if !new.pop(self.pop).is_some_and(|pop| pop.enabled) {
            return Err(SessionError::Rejected("the PoP was disabled".into()));
        }
        for PublishedDiff { old, new: zone } in seen.published_diff(&new) {
            match (old, zone) {
                (Some(old), None) => {
                    self.large.take_if(|large| large.zone.id == old.id);
                    self.remove(old.id, Some(&old.name), &new);
                }
                (Some(old), Some(zone)) if !self.is_to_be_whole(zone.id) => self.put_delta(old, zone),
                (_, Some(zone)) => self.want_whole(zone.id),
                (None, None) => {}
            }
            if self.out.len() >= WRITE_BYTES {
                self.flush().await?;
            }
        }
        // They came and went between two looks. The PoP may still be at an earlier removal, which says less.
        for id in ceased.into_iter().filter(|id| seen.zone(*id).is_none_or(|zone| !zone.is_served())) {
            let name = seen.zone(id).or(new.zone(id)).map(|zone| &zone.name);
            self.remove(id, name, &new);
        }
        self.seen = new;
        self.flush().await
    }

    fn remove(&mut self, zone: ZoneId, name: Option<&Name>, new: &State) {
        // Where another zone bears the name now, the PoP replaces this one by it.
        if name.is_none_or(|name| new.served_zone(name).is_none()) {
            self.put(&ToPop::Remove { zone, generation: new.head() });
        } else if !self.removals.contains(&zone) {
            self.removals.push(zone);
        }
    }

    /// Whether the zone is sent whole anyway: on the list, or on its way (what changes meanwhile follows it).
    fn is_to_be_whole(&self, zone: ZoneId) -> bool {
        self.whole_set.contains(&zone) || self.large.as_ref().is_some_and(|large| large.zone.id == zone)
    }

    fn want_whole(&mut self, zone: ZoneId) {
        let on_its_way = self.large.as_ref().is_some_and(|large| large.zone.id == zone);
        if !on_its_way && self.whole_set.insert(zone) {
            self.whole.push_back(zone);
        }
    }

    fn take_wanted(&mut self) {
        let wanted =
            std::mem::take(&mut *self.inbox.wanted.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        wanted.into_iter().for_each(|zone| self.want_whole(zone));
    }

    fn put_delta(&mut self, old: &Zone, new: &Zone) {
        let difference = old.content.diff(&new.content);
        let bytes: usize =
            difference.puts.iter().map(|(key, rrset)| rrset.wire_bytes(&key.owner)).sum::<usize>()
                + difference.deletes.iter().map(|key| key.owner.as_wire().len() + 4).sum::<usize>();
        if bytes > DELTA_BYTES_MAX {
            return self.want_whole(new.id);
        }
        let soa = ZoneRrset { key: new.soa_key(), rrset: new.soa_rrset() };
        let puts = difference.puts.into_iter().map(|(key, rrset)| ZoneRrset { key, rrset });
        self.put(&ToPop::Delta(ZoneDelta {
            zone: new.id,
            base: old.generation,
            generation: new.generation,
            digest: new.published_digest(),
            puts: std::iter::once(soa).chain(puts).collect(),
            deletes: difference.deletes,
        }));
        self.publisher.shared.counters.deltas.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends a bounded piece of what is to be sent whole: small zones, or a part of a large one. `false` if there is
    /// nothing to send or no credit.
    async fn send_bulk(&mut self) -> Result<bool, SessionError> {
        let credited = self.inbox.credited_bytes.load(Ordering::Relaxed);
        if self.bulk_sent_bytes.saturating_sub(credited) >= BULK_WINDOW_BYTES {
            return Ok(false);
        }
        let mut is_some = false;
        let state = Arc::clone(&self.seen);
        // Small zones overtake the large one that is on its way; the next large one waits for it.
        let mut passed = 0;
        while self.out.len() < WRITE_BYTES && passed < self.whole.len() {
            let id = self.whole[passed];
            let zone = state.zone(id).filter(|zone| zone.is_served());
            let is_small = zone.is_none_or(|zone| content_bytes_within(&zone.content, SMALL_ZONE_BYTES_MAX));
            if !is_small && self.large.is_some() {
                passed += 1;
                if passed > 16 {
                    break;
                }
                continue;
            }
            self.whole.remove(passed);
            self.whole_set.remove(&id);
            let Some(zone) = zone else { continue };
            is_some = true;
            self.put_begin(zone);
            if is_small {
                self.put_part(zone.id, &zone.content, None, usize::MAX);
                self.put(&ToPop::ZoneEnd { zone: zone.id });
            } else {
                self.large = Some(Large { zone: zone.arc(), after: None });
            }
        }
        if let Some(large) = self.large.take() {
            is_some = true;
            self.send_part(large, &state);
        } else if self.whole.is_empty() && !self.removals.is_empty() {
            is_some = true;
            let generation = state.head();
            for zone in std::mem::take(&mut self.removals) {
                if !state.zone(zone).is_some_and(|zone| zone.is_served()) {
                    self.put(&ToPop::Remove { zone, generation });
                }
            }
        }
        self.flush().await?;
        Ok(is_some)
    }

    fn put_begin(&mut self, zone: &Zone) {
        self.put(&ToPop::ZoneBegin(ZoneBegin {
            zone: zone.id,
            name: zone.name.clone(),
            generation: zone.generation,
            digest: zone.published_digest(),
            rrset_count: zone.content.rrset_count() + 1,
        }));
        let soa = ZoneRrset { key: zone.soa_key(), rrset: zone.soa_rrset() };
        self.put(&ToPop::ZonePart { zone: zone.id, rrsets: vec![soa] });
        self.publisher.shared.counters.whole_zones.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts a part of some content; gives the last key, or none if this was the last part.
    fn put_part(
        &mut self,
        zone: ZoneId,
        content: &Content,
        after: Option<&RrKey>,
        bytes_max: usize,
    ) -> Option<RrKey> {
        let mut rrsets = content.after(after).peekable();
        let (mut part, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some((key, rrset)) = rrsets.next()
        {
            bytes += rrset.wire_bytes(&key.owner);
            part.push(ZoneRrset { key: key.clone(), rrset: rrset.clone() });
        }
        let last = rrsets.peek().and_then(|_| part.last().map(|rrset| rrset.key.clone()));
        self.put(&ToPop::ZonePart { zone, rrsets: part });
        last
    }

    fn send_part(&mut self, large: Large, state: &State) {
        let Large { zone, after } = large;
        let last = self.put_part(zone.id, &zone.content, after.as_ref(), PART_BYTES);
        if last.is_some() {
            self.large = Some(Large { zone, after: last });
            return;
        }
        self.put(&ToPop::ZoneEnd { zone: zone.id });
        // What changed while it was on its way.
        if let Some(now) =
            state.zone(zone.id).filter(|now| now.is_served() && now.generation != zone.generation)
        {
            self.put_delta(&zone, now);
        }
    }

    async fn ping(&mut self) -> Result<(), SessionError> {
        let is_nothing_left = self.whole.is_empty() && self.large.is_none() && self.removals.is_empty();
        let in_sync = is_nothing_left && self.publisher.shared.tracker.zones_pending(self.pop) == Some(0);
        self.put(&ToPop::Ping { head: self.seen.head(), in_sync, holding: None });
        self.flush().await
    }

    fn put(&mut self, message: &ToPop) {
        let before = self.out.len();
        stream::encode_frame(message, &mut self.out);
        // These are what the PoP gives credit for.
        if let ToPop::ZonePart { .. } = message {
            self.bulk_sent_bytes += (self.out.len() - before) as u64;
        }
    }

    async fn flush(&mut self) -> Result<(), SessionError> {
        if !self.out.is_empty() {
            self.writing.write_all(&self.out).await?;
            self.writing.flush().await?;
            self.publisher.shared.counters.sent_bytes.fetch_add(self.out.len() as u64, Ordering::Relaxed);
            self.out.clear();
        }
        Ok(())
    }
}

/// Whether the content has at most so many bytes, found without looking at more of it than that.
fn content_bytes_within(content: &Content, bytes_max: usize) -> bool {
    let mut left = bytes_max;
    content.iter().all(|(key, rrset)| match left.checked_sub(rrset.wire_bytes(&key.owner)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    })
}
