//! A PoP for tests: it applies frames to a replica in memory as the agent does, and is strict about what it is sent.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use herald_core::content::Content;
use herald_core::{Generation, Name, State, ZoneId};
use herald_wire::stream::{
    BUCKETS, Hello, Holding, InventoryZone, PROTOCOL, RefusalCause, Refused, ToHerald, ToPop, Welcome,
    ZoneBegin, ZoneGeneration, bucket_of, decode_frame, encode_frame, inventory_digest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A zone as the PoP serves it; the SOA is among its content.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub name: Name,
    pub generation: Generation,
    pub content: Content,
}

/// What a PoP keeps across sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    pub zones: HashMap<ZoneId, Held>,
    pub newest: Generation,
    /// Zones that it lost, so that a gap is to be expected.
    pub lost: HashSet<ZoneId>,
    /// As of when it has verdicts; none if it knows of no monitors.
    pub verdicts: Option<Generation>,
}

/// What the state says that a PoP is to serve.
pub(super) fn wanted(state: &State) -> HashMap<ZoneId, Held> {
    let served = state.zones().filter(|zone| zone.is_served());
    let held = served.map(|zone| {
        let mut content = zone.content.clone();
        content.put(zone.soa_key(), zone.soa_rrset());
        (zone.id, Held { name: zone.name.clone(), generation: zone.generation, content })
    });
    held.collect()
}

impl Replica {
    fn bucket_digests(&self) -> Vec<u8> {
        let mut digests = vec![0u128; BUCKETS];
        for (id, held) in &self.zones {
            let digest = &mut digests[bucket_of(*id)];
            *digest = digest.wrapping_add(inventory_digest(*id, held.generation, held.content.digest()));
        }
        digests.iter().flat_map(|digest| digest.to_be_bytes()).collect()
    }

    /// As a heartbeat says what must be held.
    pub(super) fn holding(&self) -> Holding {
        let digest = self.zones.iter().fold(0u128, |sum, (id, held)| {
            sum.wrapping_add(inventory_digest(*id, held.generation, held.content.digest()))
        });
        Holding { zones: self.zones.len() as u64, digest }
    }

    pub(super) fn hello(&self, pop: &str, secret: &str) -> Hello {
        Hello {
            protocol: PROTOCOL,
            pop: pop.into(),
            secret: secret.into(),
            agent_version: "test".into(),
            newest: self.newest,
            bucket_digests: self.bucket_digests(),
            geo: None,
            firewall: None,
            knows_private: Some(true),
            resolves: None,
            logs_queries: None,
            verdicts: self.verdicts,
        }
    }

    fn inventory(&self, buckets: &[u16]) -> Vec<InventoryZone> {
        let asked = |id: &ZoneId| buckets.iter().any(|bucket| usize::from(*bucket) == bucket_of(*id));
        let zones = self.zones.iter().filter(|(id, _)| asked(id));
        zones
            .map(|(id, held)| InventoryZone {
                zone: *id,
                generation: held.generation,
                digest: held.content.digest(),
                name: Some(held.name.clone()),
                rrset_count: Some(held.content.rrset_count()),
            })
            .collect()
    }
}

/// Frames over a connection.
pub(super) struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
    taken: usize,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Connection {
        Connection { stream: TcpStream::connect(address).await.unwrap(), bytes: Vec::new(), taken: 0 }
    }

    /// One whose kernel takes in little that isn't read.
    pub(super) async fn open_narrow(address: SocketAddr) -> Connection {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        Connection { stream: socket.connect(address).await.unwrap(), bytes: Vec::new(), taken: 0 }
    }

    pub(super) async fn send(&mut self, message: &ToHerald) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        encode_frame(message, &mut bytes);
        self.stream.write_all(&bytes).await
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next frame and its length; none if the other side has closed.
    pub(super) async fn next(&mut self) -> Option<(usize, ToPop)> {
        tokio::time::timeout(DEADLINE, self.read()).await.expect("a frame within the deadline")
    }

    async fn read(&mut self) -> Option<(usize, ToPop)> {
        loop {
            if let Some((length, frame)) = decode_frame(&self.bytes[self.taken..]).unwrap() {
                self.taken += length;
                return Some((length, frame));
            }
            self.bytes.drain(..self.taken);
            self.taken = 0;
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// What a hello is answered with.
    pub(super) async fn greet(&mut self, hello: Hello) -> Result<Welcome, String> {
        self.send(&ToHerald::Hello(hello)).await.unwrap();
        match self.next().await {
            Some((_, ToPop::Welcome(welcome))) => Ok(welcome),
            Some((_, ToPop::Reject { reason })) => Err(reason),
            None => Err("closed".into()),
            Some((_, other)) => panic!("{other:?} answers no hello"),
        }
    }
}

/// A session that stands.
pub(super) struct TestPop {
    pub connection: Connection,
    pub replica: Replica,
    pub welcome: Welcome,
    /// Whole zones on their way.
    incoming: HashMap<ZoneId, (ZoneBegin, u64, Content)>,
    /// Zones asked for whole: deltas of them are left aside till they come.
    gapped: HashSet<ZoneId>,
    /// Bytes of bulk that came and were not credited.
    pub uncredited: u64,
    pub gives_credit: bool,
}

impl TestPop {
    /// Says hello and tells what the replica has.
    pub(super) async fn begin(
        mut connection: Connection,
        name: &str,
        secret: &str,
        replica: Replica,
    ) -> TestPop {
        let welcome = connection.greet(replica.hello(name, secret)).await.unwrap();
        if !welcome.buckets.is_empty() {
            // In two frames, for good measure.
            let mut zones = replica.inventory(&welcome.buckets);
            let rest = zones.split_off(zones.len() / 2);
            for (zones, last) in [(zones, false), (rest, true)] {
                _ = connection.send(&ToHerald::Inventory { zones, last }).await;
            }
        }
        TestPop {
            connection,
            replica,
            welcome,
            incoming: HashMap::new(),
            gapped: HashSet::new(),
            uncredited: 0,
            gives_credit: true,
        }
    }

    pub(super) async fn connect(address: SocketAddr, name: &str, secret: &str, replica: Replica) -> TestPop {
        TestPop::begin(Connection::open(address).await, name, secret, replica).await
    }

    /// Takes the next frame but pings in, and answers it; none if the session is over.
    pub(super) async fn step(&mut self) -> Option<ToPop> {
        loop {
            let (length, frame) = self.connection.next().await?;
            if let ToPop::Ping { .. } = frame {
                continue;
            }
            self.took(length, &frame).await;
            return Some(frame);
        }
    }

    /// Takes a frame of so many bytes in, and answers it.
    pub(super) async fn took(&mut self, length: usize, frame: &ToPop) {
        let answer = self.take(frame);
        if let ToPop::ZonePart { .. } = frame {
            self.uncredited += length as u64;
            if self.gives_credit {
                self.credit().await;
            }
        }
        if let Some(answer) = answer {
            // That it is over shows when the next frame is read.
            _ = self.connection.send(&answer).await;
        }
    }

    /// Says that it holds something else than it must, and what, when it is asked.
    pub(super) async fn tell_drift(&mut self) {
        let bucket_digests = self.replica.bucket_digests();
        self.connection.send(&ToHerald::Drifted { bucket_digests }).await.unwrap();
        loop {
            if let (_, ToPop::Compare { buckets }) = self.connection.next().await.expect("an answer") {
                let zones = self.replica.inventory(&buckets);
                return self.connection.send(&ToHerald::Inventory { zones, last: true }).await.unwrap();
            }
        }
    }

    pub(super) async fn credit(&mut self) {
        let bytes = std::mem::take(&mut self.uncredited);
        _ = self.connection.send(&ToHerald::BulkCredit { bytes }).await;
    }

    /// Takes frames in till all is as this state wants it.
    pub(super) async fn reach(&mut self, state: &State) {
        let wanted = wanted(state);
        while self.replica.zones != wanted {
            self.step().await.expect("the session goes on");
        }
    }

    /// Waits for a ping that says so.
    pub(super) async fn reach_in_sync(&mut self) {
        loop {
            match self.connection.next().await.expect("the session goes on").1 {
                ToPop::Ping { in_sync: true, .. } => return,
                ToPop::Ping { .. } => {}
                other => panic!("{other:?} is not due"),
            }
        }
    }

    fn take(&mut self, frame: &ToPop) -> Option<ToHerald> {
        match frame {
            ToPop::Delta(delta) => {
                if self.gapped.contains(&delta.zone) {
                    return None;
                }
                self.saw(delta.generation);
                let held = self.replica.zones.get_mut(&delta.zone);
                let Some(held) = held.filter(|held| held.generation == delta.base) else {
                    assert!(self.replica.lost.contains(&delta.zone), "a gap that nobody made: {delta:?}");
                    self.gapped.insert(delta.zone);
                    return Some(refuse(delta.zone, delta.generation));
                };
                assert!(delta.generation > held.generation);
                delta.deletes.iter().for_each(|key| held.content.delete(key));
                delta.puts.iter().for_each(|put| held.content.put(put.key.clone(), put.rrset.clone()));
                held.generation = delta.generation;
                assert_eq!(held.content.digest(), delta.digest, "{delta:?}");
                applied([(delta.zone, delta.generation)])
            }
            ToPop::ZoneBegin(begin) => {
                self.saw(begin.generation);
                if let Some(held) = self.replica.zones.get(&begin.zone) {
                    assert!(begin.generation >= held.generation, "{begin:?} is older");
                }
                self.gapped.remove(&begin.zone);
                self.replica.lost.remove(&begin.zone);
                self.incoming.insert(begin.zone, (begin.clone(), 0, Content::default()));
                None
            }
            ToPop::ZonePart { zone, rrsets } => {
                let (_, count, content) = self.incoming.get_mut(zone).expect("begun before");
                for rrset in rrsets {
                    *count += 1;
                    content.put(rrset.key.clone(), rrset.rrset.clone());
                }
                None
            }
            ToPop::ZoneEnd { zone } => {
                let (begin, count, content) = self.incoming.remove(zone).expect("begun before");
                assert_eq!((count, content.rrset_count()), (begin.rrset_count, begin.rrset_count));
                assert_eq!(content.digest(), begin.digest);
                let named =
                    |(id, held): (&ZoneId, &Held)| (*id != *zone && held.name == begin.name).then_some(*id);
                let replaced = self.replica.zones.iter().find_map(named);
                if let Some(replaced) = replaced {
                    self.replica.zones.remove(&replaced);
                }
                let held = Held { name: begin.name, generation: begin.generation, content };
                self.replica.zones.insert(*zone, held);
                applied([Some(*zone), replaced].into_iter().flatten().map(|zone| (zone, begin.generation)))
            }
            ToPop::Remove { zone, generation } => {
                self.saw(*generation);
                self.incoming.remove(zone);
                self.gapped.remove(zone);
                self.replica.lost.remove(zone);
                if let Some(held) = self.replica.zones.remove(zone) {
                    assert!(held.generation < *generation);
                }
                applied([(*zone, *generation)])
            }
            ToPop::Welcome(_)
            | ToPop::Reject { .. }
            | ToPop::Ping { .. }
            | ToPop::Compare { .. }
            | ToPop::GeoOffer { .. }
            | ToPop::GeoPart { .. }
            | ToPop::QueryLogs(_) => {
                panic!("{frame:?} is not due")
            }
            ToPop::Probes(_) | ToPop::Targets(_) | ToPop::Verdicts { .. } => {
                assert!(self.replica.verdicts.is_some(), "{frame:?} to who knows of no monitors");
                None
            }
        }
    }

    fn saw(&mut self, generation: Generation) {
        self.replica.newest = self.replica.newest.max(generation);
    }
}

fn applied(zones: impl IntoIterator<Item = (ZoneId, Generation)>) -> Option<ToHerald> {
    let zones = zones.into_iter().map(|(zone, generation)| ZoneGeneration { zone, generation });
    Some(ToHerald::Applied { zones: zones.collect() })
}

pub(super) fn refuse(zone: ZoneId, generation: Generation) -> ToHerald {
    let reason = "test".into();
    ToHerald::Refused(Refused { zone, generation, cause: RefusalCause::Gap, reason, have: None })
}
