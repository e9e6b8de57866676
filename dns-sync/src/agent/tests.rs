//! The agent between a control plane that is only its protocol, and a real knotd.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use herald_core::content::Content;
use herald_core::{Generation, Name, Rdatas, RrKey, Rrset, Rtype, ZoneId};
use herald_wire::stream::{
    BUCKETS, BULK_WINDOW_BYTES, Hello, Holding, InventoryZone, PROTOCOL, RefusalCause, Refused, ToHerald,
    ToPop, Welcome, ZoneBegin, ZoneDelta, ZoneGeneration, ZoneRrset, bucket_of, decode_frame, encode_frame,
    inventory_digest,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::core::queue::{Class, Queue};
use super::{Agent, StartError};
use crate::config::Config;
use crate::knot::ctl::{self, Batch, Command, Item};
use crate::knot::{probe, process, text};
use crate::materialize::{MaterializeError, Materialized, Written, materialize};
use crate::replica::{DeltaOutcome, Replica};
use crate::session::{Dialer, Greeting, READ_AHEAD_BYTES, SessionEvent};
use crate::status::{Board, Status};

const DEADLINE: Duration = Duration::from_secs(30);

// ---------------------------------------------------------------------------------------------------
// Zones
// ---------------------------------------------------------------------------------------------------

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn generation(counter: u64) -> Generation {
    Generation { epoch: 1, counter }
}

fn soa(serial: u32) -> Rrset {
    let mut rdata = b"\x02ns\x04test\0\x01h\x04test\0".to_vec();
    for number in [serial, 3600, 600, 86400, 60] {
        rdata.extend_from_slice(&number.to_be_bytes());
    }
    Rrset { ttl: 60, rdatas: Rdatas::single(&rdata) }
}

/// A zone as the control plane has it; its serial is its generation's counter.
#[derive(Clone)]
struct Zone {
    id: ZoneId,
    name: Name,
    generation: Generation,
    content: Content,
}

impl Zone {
    fn new(id: u128, apex: &str, counter: u64) -> Zone {
        let mut zone =
            Zone { id: ZoneId(id), name: name(apex), generation: generation(0), content: Content::default() };
        let ns = RrKey::new(zone.name.clone(), Rtype::NS);
        zone.content.put(ns, Rrset { ttl: 60, rdatas: Rdatas::single(b"\x02ns\x04test\0") });
        zone.renumber(counter);
        zone
    }

    fn renumber(&mut self, counter: u64) {
        self.generation = generation(counter);
        self.content.put(RrKey::new(self.name.clone(), Rtype::SOA), soa(counter as u32));
    }

    fn set_a(&mut self, label: &str, address: [u8; 4]) {
        let key = RrKey::new(self.name.child(label).unwrap(), Rtype::A);
        self.content.put(key, Rrset { ttl: 60, rdatas: Rdatas::single(&address) });
    }

    /// Changes `a.` and gives the delta.
    fn change_a(&mut self, counter: u64, address: [u8; 4]) -> ZoneDelta {
        let old = self.clone();
        self.set_a("a", address);
        self.renumber(counter);
        let difference = old.content.diff(&self.content);
        ZoneDelta {
            zone: self.id,
            base: old.generation,
            generation: self.generation,
            digest: self.content.digest(),
            puts: difference.puts.into_iter().map(|(key, rrset)| ZoneRrset { key, rrset }).collect(),
            deletes: difference.deletes,
        }
    }

    fn whole(&self) -> Vec<ToPop> {
        let begin = ToPop::ZoneBegin(ZoneBegin {
            zone: self.id,
            name: self.name.clone(),
            generation: self.generation,
            digest: self.content.digest(),
            rrset_count: self.content.rrset_count(),
            private: None,
        });
        let rrsets: Vec<ZoneRrset> = self
            .content
            .iter()
            .map(|(key, rrset)| ZoneRrset { key: key.clone(), rrset: rrset.clone() })
            .collect();
        let parts = rrsets.chunks(500).map(|part| ToPop::ZonePart { zone: self.id, rrsets: part.to_vec() });
        let end = ToPop::ZoneEnd { zone: self.id };
        std::iter::once(begin).chain(parts).chain([end]).collect()
    }

    fn receipt(&self) -> ZoneGeneration {
        ZoneGeneration { zone: self.id, generation: self.generation }
    }
}

// ---------------------------------------------------------------------------------------------------
// The control plane's side
// ---------------------------------------------------------------------------------------------------

struct Herald {
    listener: TcpListener,
}

/// A session, from the control plane's side.
struct Peer {
    stream: TcpStream,
    bytes: Vec<u8>,
    hello: Hello,
}

impl Herald {
    fn listen() -> Herald {
        Herald { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Takes the next connection and reads its hello.
    fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let hello = Hello {
            protocol: 0,
            pop: String::new(),
            secret: String::new(),
            agent_version: String::new(),
            newest: Generation::default(),
            bucket_digests: Vec::new(),
            geo: None,
            firewall: None,
            verdicts: None,
            knows_private: Some(true),
            resolves: None,
            logs_queries: None,
        };
        let mut peer = Peer { stream, bytes: Vec::new(), hello };
        let ToHerald::Hello(hello) = peer.next_of_any() else { panic!("no hello") };
        assert_eq!(
            (hello.protocol, hello.pop.as_str(), hello.secret.as_str()),
            (PROTOCOL, "fra1", "swordfish")
        );
        peer.hello = hello;
        peer
    }

    /// The same, and welcomes it with these zones; gives what the PoP has in buckets that differ.
    fn welcome(&self, head: u64, zones: &[&Zone]) -> (Peer, Vec<InventoryZone>) {
        let mut peer = self.accept();
        let mut ours = vec![0_u128; BUCKETS];
        for zone in zones {
            let digest = inventory_digest(zone.id, zone.generation, zone.content.digest());
            ours[bucket_of(zone.id)] = ours[bucket_of(zone.id)].wrapping_add(digest);
        }
        let (theirs, _) = peer.hello.bucket_digests.as_chunks::<16>();
        assert_eq!(theirs.len(), BUCKETS);
        let buckets: Vec<u16> = (0..BUCKETS)
            .filter(|bucket| u128::from_be_bytes(theirs[*bucket]) != ours[*bucket])
            .map(|bucket| bucket as u16)
            .collect();
        peer.send(&[ToPop::Welcome(Welcome {
            protocol: PROTOCOL,
            herald_version: "test".into(),
            head: generation(head),
            buckets: buckets.clone(),
            api: None,
        })]);
        let mut inventory = Vec::new();
        while !buckets.is_empty() {
            let ToHerald::Inventory { zones, last } = peer.next() else { panic!("no inventory") };
            inventory.extend(zones);
            if last {
                break;
            }
        }
        (peer, inventory)
    }
}

impl Peer {
    fn send(&mut self, messages: &[ToPop]) -> u64 {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| encode_frame(message, &mut bytes));
        self.stream.write_all(&bytes).unwrap();
        bytes.len() as u64
    }

    fn next_of_any(&mut self) -> ToHerald {
        loop {
            if let Some((length, message)) = decode_frame(&self.bytes).unwrap() {
                self.bytes.drain(..length);
                return message;
            }
            let mut buffer = [0; 65536];
            let count = self.stream.read(&mut buffer).expect("a message in time");
            assert!(count > 0, "the agent closed the connection");
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }

    /// The next message that isn't a status.
    fn next(&mut self) -> ToHerald {
        loop {
            match self.next_of_any() {
                ToHerald::Status(_) => {}
                message => return message,
            }
        }
    }

    /// Reads until all of these are confirmed; gives the bytes that were credited meanwhile.
    fn wait_applied(&mut self, wanted: impl IntoIterator<Item = ZoneGeneration>) -> u64 {
        let mut wanted: Vec<ZoneGeneration> = wanted.into_iter().collect();
        let mut credit = 0;
        while !wanted.is_empty() {
            match self.next() {
                ToHerald::Applied { zones } => wanted.retain(|zone| !zones.contains(zone)),
                ToHerald::BulkCredit { bytes } => credit += bytes,
                other => panic!("{other:?}"),
            }
        }
        credit
    }

    fn wait_refused(&mut self) -> Refused {
        loop {
            match self.next() {
                ToHerald::Refused(refused) => return refused,
                ToHerald::BulkCredit { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn put(&mut self, zone: &Zone) {
        self.send(&zone.whole());
        self.wait_applied([zone.receipt()]);
    }
}

// ---------------------------------------------------------------------------------------------------
// The PoP's side
// ---------------------------------------------------------------------------------------------------

struct Pop {
    config: Config,
    agent: Option<Agent>,
    dir: TempDir,
}

impl Pop {
    fn new(herald: &Herald) -> Pop {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let text = format!(
            "pop = \"fra1\"\nsecret_file = \"secret\"\nherald = \"{}\"\ndata = \"data\"\n[knot]\n\
             listen = [\"127.0.0.1@{port}\"]\nudp_workers = 1\ntcp_workers = 1\nlog = \"knot.log\"\n",
            herald.address()
        );
        let path = dir.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "swordfish").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        Pop { config: Config::load(&path).unwrap(), agent: None, dir }
    }

    fn start(&mut self) {
        self.agent = Some(Agent::start(self.config.clone()).unwrap());
    }

    fn started(herald: &Herald) -> Pop {
        let mut pop = Pop::new(herald);
        pop.start();
        pop
    }

    fn stop(&mut self, stop_knot: bool) {
        if let Some(agent) = self.agent.take() {
            agent.stop(stop_knot);
        }
    }

    fn status(&self) -> Status {
        self.agent.as_ref().unwrap().board().status()
    }

    fn wait_status(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        wait_for(what, || Some(self.status()).filter(&is_so))
    }

    fn address(&self) -> SocketAddr {
        self.config.knot.listen[0]
    }

    /// The serial that knotd answers, or none if it refuses.
    fn serial(&self, zone: &str) -> Option<u32> {
        probe::ask_soa(self.address(), &name(zone), DEADLINE).unwrap().and_then(|answer| answer.serial)
    }

    /// The addresses that knotd has at `a.` of a zone.
    fn addresses(&self, zone: &str) -> Vec<String> {
        let owner = name(&format!("a.{zone}"));
        let items: [(Item, &[u8]); 3] = [
            (Item::Zone, &text::name_text(&name(zone))),
            (Item::Owner, &text::name_text(&owner)),
            (Item::Type, b"A"),
        ];
        let mut batch = Batch::new();
        batch.push(Command::ZoneRead, &items).unwrap();
        let mut values = Vec::new();
        ctl::run_batch(&self.config.knot.control_socket(), DEADLINE, &batch, |reply| {
            if reply.error().is_none() {
                values.push(reply.text(Item::Data).to_owned());
            }
        })
        .unwrap();
        values
    }

    fn kill_knotd(&self) {
        let pid: i32 = fs::read_to_string(self.config.knot.pid_file()).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        wait_for("knotd's end", || (!process::is_running(&self.config.knot)).then_some(()));
    }

    fn materialize(&self) -> Result<Materialized, MaterializeError> {
        materialize(&self.config.data, &self.config.replica_dir(), &self.config.knot)
    }

    fn written(&self) -> Written {
        match self.materialize().unwrap() {
            Materialized::Written(written) => written,
            other => panic!("{other:?}"),
        }
    }

    /// All files of knotd's zones.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let zones = fs::read_dir(self.config.knot.zone_dir()).unwrap();
        let mut paths: Vec<PathBuf> = zones.map(|file| file.unwrap().path()).collect();
        paths.extend(crate::knot::catalog::files_in(&self.config.knot.catalog_dir()));
        paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    fn damage(&self, sql: &str) {
        let db = rusqlite::Connection::open(self.config.replica_dir().join("replica.db")).unwrap();
        db.busy_timeout(DEADLINE).unwrap();
        assert_eq!(db.execute(sql, ()).unwrap(), 1);
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("knot.log")).unwrap_or_default();
            eprintln!("knotd's log:\n{log}");
        }
        self.stop(true);
        if process::is_running(&self.config.knot) {
            self.kill_knotd();
        }
    }
}

fn free_port() -> u16 {
    // A port that is free for both protocols.
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Asks again and again until there is an answer.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

// ---------------------------------------------------------------------------------------------------
// What it does
// ---------------------------------------------------------------------------------------------------

#[test]
fn changes_are_answered_and_then_confirmed() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    let (mut peer, inventory) = herald.welcome(1, &[]);
    assert!(inventory.is_empty());
    let mut zone = Zone::new(1, "one.test", 5);
    peer.put(&zone);
    assert_eq!(pop.serial("one.test"), Some(5));
    for counter in 6..20 {
        let delta = zone.change_a(counter, [192, 0, 2, counter as u8]);
        peer.send(&[ToPop::Delta(delta)]);
        peer.wait_applied([zone.receipt()]);
        assert_eq!(pop.serial("one.test"), Some(counter as u32));
        assert_eq!(pop.addresses("one.test"), [format!("192.0.2.{counter}")]);
    }
    // Many in one go: the last confirms them all.
    let deltas: Vec<ToPop> =
        (20..220).map(|counter| ToPop::Delta(zone.change_a(counter, [192, 0, 2, counter as u8]))).collect();
    peer.send(&deltas);
    peer.wait_applied([zone.receipt()]);
    assert_eq!(pop.addresses("one.test"), ["192.0.2.219"]);
    let status = pop.status();
    assert!(status.replica_commits < status.changes_taken, "{status:?}");

    peer.send(&[ToPop::Remove { zone: zone.id, generation: generation(300) }]);
    peer.wait_applied([ZoneGeneration { zone: zone.id, generation: generation(300) }]);
    assert_eq!(pop.serial("one.test"), None);
    // What isn't there is removed already.
    peer.send(&[ToPop::Remove { zone: ZoneId(9), generation: generation(301) }]);
    peer.wait_applied([ZoneGeneration { zone: ZoneId(9), generation: generation(301) }]);
}

#[test]
fn what_does_not_fit_is_refused_until_the_whole_zone_comes() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let mut zone = Zone::new(1, "one.test", 5);
    peer.put(&zone);
    zone.change_a(6, [192, 0, 2, 6]);
    let (gap, follows) = (zone.change_a(7, [192, 0, 2, 7]), zone.change_a(8, [192, 0, 2, 8]));
    peer.send(&[ToPop::Delta(gap), ToPop::Delta(follows.clone())]);
    let refused = peer.wait_refused();
    assert_eq!((refused.cause, refused.generation), (RefusalCause::Gap, generation(7)));
    assert_eq!(refused.have, Some(generation(5)));
    // The one that followed was ignored; the next thing said is about the whole zone.
    peer.put(&zone);
    assert_eq!(pop.addresses("one.test"), ["192.0.2.8"]);

    peer.send(&[ToPop::Delta(follows)]);
    peer.wait_applied([zone.receipt()]);
    let older = ZoneDelta { generation: generation(3), ..zone.clone().change_a(9, [1; 4]) };
    peer.send(&[ToPop::Delta(older)]);
    assert_eq!(peer.wait_refused().cause, RefusalCause::Older);
    // The same zone once more is known.
    peer.put(&zone);

    // A whole zone that isn't what was announced is asked for again.
    let mut next = zone.clone();
    next.change_a(10, [192, 0, 2, 10]);
    let mut wrong = next.whole();
    wrong.remove(1);
    peer.send(&wrong);
    let refused = peer.wait_refused();
    assert_eq!((refused.cause, refused.have), (RefusalCause::Gap, Some(generation(8))));
    peer.put(&next);
    assert_eq!(pop.serial("one.test"), Some(10));
}

#[test]
fn a_delta_overtakes_a_large_zone() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let mut small = Zone::new(1, "small.test", 5);
    peer.put(&small);
    let mut large = Zone::new(2, "large.test", 6);
    for n in 0..20_000_u32 {
        large.set_a(&format!("host-{n}"), n.to_be_bytes());
    }
    let mut frames = large.whole();
    let end = frames.pop().unwrap();
    let parts: u64 = frames.drain(1..).map(|part| peer_bytes(&part)).sum::<u64>();
    let frames = large.whole();
    peer.send(&frames[..frames.len() - 1]);
    let delta = small.change_a(7, [192, 0, 2, 7]);
    peer.send(&[ToPop::Delta(delta)]);
    // Confirmed though the large zone has not ended.
    let mut credit = peer.wait_applied([small.receipt()]);
    assert_eq!((pop.serial("large.test"), pop.serial("small.test")), (None, Some(7)));
    // A small whole zone overtakes it, too.
    let another = Zone::new(3, "another.test", 8);
    peer.send(&another.whole());
    credit += peer.wait_applied([another.receipt()]);
    peer.send(&[end]);
    credit += peer.wait_applied([large.receipt()]);
    let another_parts: u64 =
        another.whole().iter().filter(|m| matches!(m, ToPop::ZonePart { .. })).map(peer_bytes).sum();
    assert_eq!(credit, parts + another_parts);
    assert_eq!(pop.serial("large.test"), Some(6));

    // Another zone of its name takes its place, and both are confirmed.
    let heir = Zone::new(4, "large.test", 9);
    peer.send(&heir.whole());
    peer.wait_applied([heir.receipt(), ZoneGeneration { zone: large.id, generation: generation(9) }]);
    assert_eq!(pop.serial("large.test"), Some(9));
    assert_eq!(pop.status().zones, 3);
}

fn peer_bytes(message: &ToPop) -> u64 {
    let mut bytes = Vec::new();
    encode_frame(message, &mut bytes);
    bytes.len() as u64
}

#[test]
fn a_zone_that_is_removed_on_its_way_does_not_come() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let zone = Zone::new(1, "one.test", 5);
    let frames = zone.whole();
    peer.send(&frames[..2]);
    peer.send(&[ToPop::Remove { zone: zone.id, generation: generation(6) }]);
    let mut removed = false;
    while !removed {
        match peer.next() {
            ToHerald::Applied { zones } => removed = zones[0].generation == generation(6),
            ToHerald::BulkCredit { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((pop.serial("one.test"), pop.status().zones), (None, 0));
}

#[test]
fn a_session_goes_on_where_the_last_one_ended() {
    let herald = Herald::listen();
    let mut pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let (one, two) = (Zone::new(1, "one.test", 5), Zone::new(2, "two.test", 6));
    peer.put(&one);
    peer.put(&two);
    drop(peer);
    let (peer, inventory) = herald.welcome(6, &[&one, &two]);
    assert!(inventory.is_empty(), "nothing differs: {inventory:?}");
    assert_eq!(peer.hello.newest, generation(6));
    drop(peer);
    // One zone is missing here and is told.
    let (mut peer, inventory) = herald.welcome(7, &[&one]);
    let two_told = InventoryZone {
        zone: two.id,
        generation: two.generation,
        digest: two.content.digest(),
        name: Some(two.name.clone()),
        rrset_count: Some(two.content.rrset_count()),
    };
    assert_eq!(inventory, [two_told]);
    peer.send(&[ToPop::Remove { zone: two.id, generation: generation(7) }]);
    peer.wait_applied([ZoneGeneration { zone: two.id, generation: generation(7) }]);
    drop(peer);

    // A control plane that knows less than the PoP is refused.
    let mut peer = herald.accept();
    peer.send(&[ToPop::Welcome(Welcome {
        protocol: PROTOCOL,
        herald_version: "old".into(),
        head: generation(6),
        buckets: Vec::new(),
        api: None,
    })]);
    let status = pop.wait_status("a refusal", |status| {
        status.session.reason.as_ref().is_some_and(|reason| reason.contains("old backup"))
    });
    assert!(!status.session.connected && !status.is_ok());
    drop(peer);
    // And the other way round.
    let mut peer = herald.accept();
    peer.send(&[ToPop::Reject { reason: "no such PoP".into() }]);
    pop.wait_status("a rejection", |status| {
        status.session.reason.as_ref().is_some_and(|reason| reason.contains("no such PoP"))
    });

    // With nobody to talk to, a restarted PoP answers what it had.
    drop(herald);
    pop.stop(true);
    assert!(!process::is_running(&pop.config.knot));
    pop.start();
    pop.wait_status("knotd", |status| status.knot.running);
    assert_eq!((pop.serial("one.test"), pop.serial("two.test")), (Some(5), None));
}

#[test]
fn drift_is_told_and_mended() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let (one, mut two, three) =
        (Zone::new(1, "one.test", 5), Zone::new(2, "two.test", 6), Zone::new(3, "three.test", 7));
    let holding = |zones: &[&Zone]| {
        let digest = |zone: &&Zone| inventory_digest(zone.id, zone.generation, zone.content.digest());
        let digest = zones.iter().map(digest).fold(0, u128::wrapping_add);
        ToPop::Ping {
            head: generation(9),
            in_sync: true,
            holding: Some(Holding { zones: zones.len() as u64, digest }),
        }
    };
    peer.put(&one);
    peer.put(&two);
    // What comes in the same go counts, before the ping and not after it.
    let before = holding(&[&one, &two]);
    let delta = ToPop::Delta(two.change_a(8, [192, 0, 2, 8]));
    peer.send(&[before, delta, holding(&[&one, &two])]);
    peer.wait_applied([two.receipt()]);
    let status = pop.wait_status("a comparison", |status| status.drift.compared_at_ms.is_some());
    assert!(!status.drift.is_drifted && status.is_ok(), "{status:?}");

    peer.send(&[holding(&[&one, &two, &three])]);
    let ToHerald::Drifted { bucket_digests } = peer.next() else { panic!("no drift") };
    let (theirs, _) = bucket_digests.as_chunks::<16>();
    assert_eq!((theirs.len(), theirs[3]), (BUCKETS, [0; 16]));
    pop.wait_status("drift", |status| status.drift.is_drifted && !status.is_ok());
    // The inventory is that of its place: the zone that comes behind the question isn't in it.
    peer.send(&[ToPop::Compare { buckets: vec![2, 3] }]);
    peer.send(&three.whole());
    let ToHerald::Inventory { zones, last: true } = peer.next() else { panic!("no inventory") };
    let told: Vec<_> = zones.iter().map(|told| (told.zone, told.generation, told.digest)).collect();
    assert_eq!(told, [(two.id, two.generation, two.content.digest())]);
    peer.wait_applied([three.receipt()]);
    peer.send(&[holding(&[&one, &two, &three])]);
    let status = pop.wait_status("the end of it", |status| !status.drift.is_drifted);
    assert_eq!((status.drift.found, status.drift.mended), (1, 1));
}

#[test]
fn what_is_damaged_on_the_disk_is_found_by_rereading_it() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let (one, two) = (Zone::new(1, "one.test", 5), Zone::new(2, "two.test", 6));
    peer.put(&one);
    peer.put(&two);
    pop.damage(
        "UPDATE rrset SET value = x'82183d' || substr(value, 4) WHERE content = 1 AND key = x'000002'",
    );
    let refused = peer.wait_refused();
    assert_eq!((refused.zone, refused.cause, refused.have), (one.id, RefusalCause::Gap, None));
    pop.wait_status("the damage", |status| status.zones == 1 && status.drift.zones_damaged == 1);
    assert_eq!(pop.serial("one.test"), Some(5));
    peer.put(&one);

    // A row of a zone: what is kept in memory doesn't show it, so the replica is opened anew.
    pop.damage("UPDATE zone SET counter = 4 WHERE id = x'00000000000000000000000000000002'");
    let (mut peer, inventory) = herald.welcome(7, &[&one, &two]);
    assert_eq!(inventory, []);
    peer.put(&two);
    pop.wait_status("the zone", |status| status.zones == 2);
    assert_eq!(pop.serial("two.test"), Some(6));
}

#[test]
fn one_agent_has_a_directory_alone() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    match Agent::start(pop.config.clone()) {
        Err(error @ StartError::InUse { .. }) => {
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_killed_knotd_comes_back_with_the_newest_state() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let mut zone = Zone::new(1, "one.test", 5);
    peer.put(&zone);
    for round in 0..5 {
        let delta = zone.change_a(10 + 2 * round, [192, 0, 2, round as u8]);
        peer.send(&[ToPop::Delta(delta)]);
        peer.wait_applied([zone.receipt()]);
        pop.kill_knotd();
        // What comes while it is down is confirmed once it is up.
        let delta = zone.change_a(11 + 2 * round, [192, 0, 2, 100 + round as u8]);
        peer.send(&[ToPop::Delta(delta)]);
        peer.wait_applied([zone.receipt()]);
        assert_eq!(pop.addresses("one.test"), [format!("192.0.2.{}", 100 + round)]);
        let status = pop.wait_status("knotd", |status| status.knot.restarts == round + 1);
        assert!(status.knot.running && status.knot.version.starts_with('3'), "{status:?}");
    }
}

/// What an agent leaves that is killed after a change was durable and before knotd had it.
#[test]
fn what_was_durable_and_not_yet_answered_is_put_again() {
    let herald = Herald::listen();
    let mut pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let (mut one, two, three) =
        (Zone::new(1, "one.test", 5), Zone::new(2, "two.test", 6), Zone::new(3, "three.test", 7));
    for zone in [&one, &two, &three] {
        peer.put(zone);
    }
    drop(peer);
    pop.stop(false);
    assert!(process::is_running(&pop.config.knot), "knotd goes on without an agent");
    let four = Zone::new(4, "four.test", 8);
    let mut replica = Replica::open(&pop.config.replica_dir()).unwrap();
    assert_eq!(replica.unapplied().unwrap(), [], "what was confirmed is not marked");
    replica.begin().unwrap();
    let delta = one.change_a(9, [192, 0, 2, 9]);
    assert!(matches!(replica.delta(&delta).unwrap(), DeltaOutcome::Taken(_)));
    replica.remove(two.id, generation(10)).unwrap();
    for message in four.whole() {
        match message {
            ToPop::ZoneBegin(begin) => replica.whole_begin(begin).unwrap(),
            ToPop::ZonePart { zone, rrsets } => replica.whole_part(zone, &rrsets).unwrap(),
            _ => drop(replica.whole_end(four.id).unwrap()),
        }
    }
    replica.commit().unwrap();
    drop(replica);
    assert_eq!((pop.serial("one.test"), pop.serial("two.test")), (Some(5), Some(6)));

    pop.start();
    wait_for("the put", || (pop.serial("one.test") == Some(9)).then_some(()));
    wait_for("the removal", || (pop.serial("two.test").is_none()).then_some(()));
    wait_for("the addition", || (pop.serial("four.test") == Some(8)).then_some(()));
    assert_eq!(pop.addresses("one.test"), ["192.0.2.9"]);
    assert_eq!(pop.serial("three.test"), Some(7));
    pop.wait_status("nothing lagging", |status| status.zones_lagging == 0);
    assert_eq!(pop.status().knot.restarts, 0);
    // The hello may have been said before all was answered; the inventory says that it is by now.
    let (_peer, inventory) = herald.welcome(10, &[&one, &three, &four]);
    for zone in [&one, &four] {
        let told = inventory.iter().find(|told| told.zone == zone.id);
        assert!(told.is_none_or(|told| told.digest == zone.content.digest()), "{inventory:?}");
    }
}

#[test]
fn the_files_are_the_replica() {
    let herald = Herald::listen();
    let mut pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let mut zones = Vec::new();
    for n in 0..20 {
        let mut zone = Zone::new(n, &format!("z{n}.test"), 5 + n as u64);
        peer.put(&zone);
        let delta = zone.change_a(100 + n as u64, [192, 0, 2, n as u8]);
        peer.send(&[ToPop::Delta(delta)]);
        peer.wait_applied([zone.receipt()]);
        zones.push(zone);
    }
    pop.stop(true);
    let digest = zones.iter().fold(0_u128, |sum, zone| sum.wrapping_add(zone.content.digest()));
    let written = pop.written();
    assert_eq!((written.zones.len(), written.records, written.digest), (20, 60, digest));
    let files = pop.files();
    // What is left over or damaged is made good.
    let zone_dir = pop.config.knot.zone_dir();
    fs::write(zone_dir.join("old.test.zone"), "old").unwrap();
    fs::write(zone_dir.join("z3.test.zone"), "wrong").unwrap();
    assert_eq!(pop.written().digest, digest);
    assert_eq!(pop.files(), files);

    // A damaged zone is left out, and asked for again.
    pop.damage(
        "UPDATE rrset SET value = x'82183d' || substr(value, 4) WHERE content = 1 AND key = x'000002'",
    );
    let written = pop.written();
    assert_eq!((written.zones.len(), written.damaged.len()), (19, 1));
    pop.start();
    pop.wait_status("knotd", |status| status.knot.running);
    pop.wait_status("the damage", |status| status.zones == 19);
    assert_eq!((pop.serial("z0.test"), pop.serial("z1.test")), (None, Some(101)));
    let served: Vec<&Zone> = zones.iter().collect();
    let (mut peer, inventory) = herald.welcome(200, &served);
    let is_nothing =
        |told: &InventoryZone| told.zone == zones[0].id && told.generation == Generation::default();
    assert!(inventory.iter().all(is_nothing), "{inventory:?}");
    let refused = peer.wait_refused();
    assert_eq!((refused.zone, refused.cause, refused.have), (zones[0].id, RefusalCause::Gap, None));
    peer.put(&zones[0]);
    assert_eq!(pop.serial("z0.test"), Some(100));
}

#[test]
fn a_damaged_zone_is_answered_until_it_is_removed() {
    let herald = Herald::listen();
    let mut pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let zone = Zone::new(1, "one.test", 5);
    peer.put(&zone);
    drop(peer);
    pop.stop(false);
    pop.damage(
        "UPDATE rrset SET value = x'82183d' || substr(value, 4) WHERE content = 1 AND key = x'000002'",
    );
    pop.damage("INSERT INTO unapplied SELECT id, name, epoch, counter FROM zone");
    pop.start();
    pop.wait_status("the damage", |status| status.zones == 0 && status.knot.running);
    assert_eq!(pop.serial("one.test"), Some(5));
    // Deleted while the PoP was away: it has to be told so, though its replica hasn't the zone any more.
    let (mut peer, inventory) = herald.welcome(7, &[]);
    assert_eq!(inventory.len(), 1);
    assert_eq!(peer.wait_refused().cause, RefusalCause::Gap);
    let removal = ZoneGeneration { zone: zone.id, generation: generation(7) };
    peer.send(&[ToPop::Remove { zone: removal.zone, generation: removal.generation }]);
    peer.wait_applied([removal]);
    assert_eq!(pop.serial("one.test"), None);
    pop.wait_status("nothing lagging", |status| status.zones_lagging == 0);
}

#[test]
fn a_zone_that_the_replica_lost_is_answered_until_all_else_is_there() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let (kept, lost) = (Zone::new(1, "one.test", 5), Zone::new(2, "two.test", 6));
    peer.put(&kept);
    peer.put(&lost);
    peer.send(&[ToPop::Ping { head: generation(6), in_sync: true, holding: None }]);
    // Its row: the whole replica is opened anew.
    pop.damage("UPDATE zone SET serial = serial + 1 WHERE name = x'0374776f047465737400'");
    let mut peer = {
        drop(peer);
        pop.wait_status("the damage", |status| status.zones == 1);
        assert_eq!((pop.serial("one.test"), pop.serial("two.test")), (Some(5), Some(6)));
        // Deleted meanwhile: nothing is said of it, since the PoP hasn't it any more.
        let (peer, inventory) = herald.welcome(7, &[&kept]);
        assert!(inventory.is_empty());
        peer
    };
    assert_eq!(pop.serial("two.test"), Some(6));
    peer.send(&[ToPop::Ping { head: generation(7), in_sync: true, holding: None }]);
    wait_for("the removal", || pop.serial("two.test").is_none().then_some(()));
    assert_eq!(pop.serial("one.test"), Some(5));
}

#[test]
fn a_damaged_replica_does_not_empty_the_pop() {
    let herald = Herald::listen();
    let mut pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let (one, two) = (Zone::new(1, "one.test", 5), Zone::new(2, "two.test", 6));
    peer.put(&one);
    peer.put(&two);
    drop(peer);
    pop.stop(true);
    pop.written();
    let files = pop.files();
    fs::write(pop.config.replica_dir().join("replica.db"), vec![7; 100_000]).unwrap();
    assert!(matches!(pop.materialize().unwrap(), Materialized::LeftAlone { .. }));
    assert_eq!(pop.files(), files);

    // The agent starts an empty replica, and knotd with the old files.
    pop.start();
    let status = pop.wait_status("knotd", |status| status.knot.running);
    assert!(status.errors.iter().any(|error| error.message.contains("put aside")), "{status:?}");
    assert_eq!((pop.serial("one.test"), pop.serial("two.test")), (Some(5), Some(6)));
    let (mut peer, inventory) = herald.welcome(6, &[&one]);
    assert!(inventory.is_empty() && peer.hello.newest == Generation::default());
    peer.put(&one);
    assert_eq!(pop.serial("two.test"), Some(6), "nothing is removed before all is there");
    peer.send(&[ToPop::Ping { head: generation(6), in_sync: true, holding: None }]);
    wait_for("the removal", || pop.serial("two.test").is_none().then_some(()));
    assert_eq!(pop.serial("one.test"), Some(5));
}

#[test]
fn without_a_replica_and_files_there_is_nothing_to_start_from() {
    let herald = Herald::listen();
    let pop = Pop::new(&herald);
    pop.config.knot.install().unwrap();
    assert!(matches!(pop.materialize(), Err(MaterializeError::NoReplica(_))));
}

#[test]
fn no_more_is_read_than_may_wait() {
    let herald = Herald::listen();
    let pop = Pop::new(&herald);
    let mut zone = Zone::new(1, "one.test", 5);
    (0..500_u32).for_each(|n| zone.set_a(&format!("host-{n}"), n.to_be_bytes()));
    let part = zone.whole().swap_remove(1);
    let part_bytes = peer_bytes(&part);
    let parts = 3 * READ_AHEAD_BYTES as usize / part_bytes as usize;
    let control_plane = std::thread::spawn(move || {
        let (mut peer, _) = herald.welcome(1, &[]);
        for _ in 0..parts {
            peer.send(std::slice::from_ref(&part));
        }
        peer
    });

    let (events, inbox) = std::sync::mpsc::channel::<SessionEvent>();
    let dialer = Dialer::new(Arc::new(pop.config.clone()), events, Arc::new(Board::new("fra1")));
    let ending = CancellationToken::new();
    let session = std::thread::spawn({
        let ending = ending.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        move || runtime.block_on(dialer.run(ending))
    });
    let (mut held, mut seen, mut outbox_kept) = (Vec::new(), 0, None);
    // Nothing is taken in: so much comes and no more.
    while (held.len() as u64 + 1) * part_bytes <= u64::from(READ_AHEAD_BYTES) {
        match inbox.recv_timeout(DEADLINE).unwrap() {
            SessionEvent::Greet(answer) => {
                let greeting =
                    Greeting { newest: Generation::default(), bucket_digests: Box::new([0; BUCKETS]) };
                assert!(answer.send(greeting).is_ok());
            }
            SessionEvent::Opened { outbox, .. } => outbox_kept = Some(outbox),
            SessionEvent::Frames(frames) => held.extend(frames),
            SessionEvent::Closed => panic!("closed"),
        }
    }
    assert!(held.len() as u64 * part_bytes <= u64::from(READ_AHEAD_BYTES));
    let more = inbox.recv_timeout(Duration::from_millis(200));
    assert!(more.is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout));
    // As soon as it is, the rest follows.
    seen += held.len();
    drop(held);
    while seen < parts {
        match inbox.recv_timeout(DEADLINE).unwrap() {
            SessionEvent::Frames(frames) => seen += frames.len(),
            _ => panic!("something else than frames"),
        }
    }
    ending.cancel();
    session.join().unwrap();
    drop((control_plane.join().unwrap(), outbox_kept));
}

/// How long a change takes and a large zone, from sent to confirmed, and what memory it takes: `cargo test -p dns-sync
/// --lib -- --ignored --nocapture how_fast`.
#[test]
#[ignore = "a measurement"]
fn how_fast_and_how_large() {
    let herald = Herald::listen();
    let pop = Pop::started(&herald);
    let (mut peer, _) = herald.welcome(1, &[]);
    let mut zones: Vec<Zone> = (0..100).map(|n| Zone::new(n, &format!("z{n}.test"), 5)).collect();
    for zone in &zones {
        peer.put(zone);
    }
    let show = |what: &str, mut taken: Vec<Duration>| {
        taken.sort();
        let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
        println!("{what}: median {:?}, p99 {:?}, longest {:?}", at(0.5), at(0.99), at(1.0));
    };
    let mut counter = 100;
    let mut taken = Vec::new();
    for n in 0..2_000 {
        counter += 1;
        let zone = &mut zones[n % 100];
        let delta = zone.change_a(counter, [192, 0, 2, n as u8]);
        let began = Instant::now();
        peer.send(&[ToPop::Delta(delta)]);
        peer.wait_applied([zone.receipt()]);
        taken.push(began.elapsed());
    }
    show("one delta at a time", taken);

    let mut wanted = Vec::new();
    let mut deltas = Vec::new();
    for n in 0..20_000 {
        counter += 1;
        let zone = &mut zones[n % 100];
        deltas.push(ToPop::Delta(zone.change_a(counter, [192, 0, 2, n as u8])));
    }
    wanted.extend(zones.iter().map(Zone::receipt));
    let began = Instant::now();
    peer.send(&deltas);
    peer.wait_applied(wanted);
    println!("20,000 deltas of 100 zones: {:?}", began.elapsed());
    println!("memory: {}", memory());

    let mut large = Zone::new(1_000, "large.test", 6);
    for n in 0..1_000_000_u32 {
        large.set_a(&format!("host-{n}"), n.to_be_bytes());
    }
    let mut frames = large.whole();
    let end = frames.pop().unwrap();
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| encode_frame(frame, &mut bytes));
    drop(frames);
    let before = memory();
    let began = Instant::now();
    let mut writing = peer.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        writing.write_all(&bytes).unwrap();
        encode_frame(&end, &mut bytes);
        let start = bytes.len() - peer_bytes(&end) as usize;
        writing.write_all(&bytes[start..]).unwrap();
    });
    let mut highest = String::new();
    let mut credit = 0;
    let mut taken = Duration::ZERO;
    loop {
        match peer.next() {
            ToHerald::BulkCredit { bytes } => {
                credit += bytes;
                taken = began.elapsed();
                highest = memory();
            }
            ToHerald::Applied { zones } if zones[0].zone == large.id => break,
            other => panic!("{other:?}"),
        }
    }
    writer.join().unwrap();
    println!("a million records, {credit} bytes: durable in {taken:?}, answered in {:?}", began.elapsed());
    println!("memory: {before} before, {highest} at the end of the parts (with the test's own copies)");

    // Deltas while it comes once more, within the window that herald keeps to.
    large.renumber(7);
    let mut frames = large.whole().into_iter().peekable();
    let (mut sent, mut credit) = (0, 0);
    let mut taken = Vec::new();
    while frames.peek().is_some() {
        while sent < credit + BULK_WINDOW_BYTES
            && let Some(frame) = frames.next()
        {
            let bytes = peer.send(&[frame]);
            sent += bytes;
        }
        counter += 1;
        let zone = &mut zones[taken.len() % 100];
        let delta = ToPop::Delta(zone.change_a(counter, [192, 0, 3, 1]));
        let began = Instant::now();
        peer.send(&[delta]);
        let wanted = zone.receipt();
        let mut is_applied = false;
        while !is_applied {
            match peer.next() {
                ToHerald::Applied { zones } => is_applied = zones.contains(&wanted),
                ToHerald::BulkCredit { bytes } => credit += bytes,
                other => panic!("{other:?}"),
            }
        }
        taken.push(began.elapsed());
    }
    println!("{} deltas", taken.len());
    show("a delta beside a large zone", taken);
    peer.wait_applied([large.receipt()]);
    drop(pop);
}

/// What this process has in memory.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().filter(|line| line.starts_with("VmRSS")).collect()
}

// ---------------------------------------------------------------------------------------------------
// Parts
// ---------------------------------------------------------------------------------------------------

mod queue {
    use super::*;
    use crate::session::Frame;

    fn frame(message: ToPop) -> Frame {
        Frame::new(message, 0)
    }

    fn labels(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next(false)).map(|queued| label(&queued.frame.message)).collect()
    }

    fn label(message: &ToPop) -> String {
        match message {
            ToPop::Delta(delta) => format!("d{}", delta.zone.0),
            ToPop::ZoneBegin(begin) => format!("b{}", begin.zone.0),
            ToPop::ZonePart { zone, .. } => format!("p{}", zone.0),
            ToPop::ZoneEnd { zone } => format!("e{}", zone.0),
            other => panic!("{other:?}"),
        }
    }

    fn whole(id: u128, rrsets: u64, parts: usize) -> Vec<ToPop> {
        let zone = Zone::new(id, "one.test", 1);
        let mut frames = zone.whole();
        if let ToPop::ZoneBegin(begin) = &mut frames[0] {
            begin.rrset_count = rrsets;
        }
        let part = frames[1].clone();
        frames.splice(1..2, std::iter::repeat_n(part, parts));
        frames
    }

    fn delta(id: u128) -> ToPop {
        ToPop::Delta(Zone::new(id, "one.test", 1).change_a(2, [1; 4]))
    }

    #[test]
    fn urgent_first_and_each_zone_in_order() {
        let mut queue = Queue::default();
        whole(1, 5_000, 3).into_iter().for_each(|message| queue.push(frame(message)));
        queue.push(frame(delta(1)));
        whole(2, 2, 1).into_iter().for_each(|message| queue.push(frame(message)));
        whole(3, 2, 1).into_iter().for_each(|message| queue.push(frame(message)));
        queue.push(frame(delta(4)));
        queue.push(frame(delta(2)));
        assert!(queue.has_urgent());
        let all = labels(&mut queue);
        assert_eq!(all[0], "d4", "{all:?}");
        for zone in ["1", "2"] {
            let own: Vec<&String> = all.iter().filter(|label| label[1..] == *zone).collect();
            assert_eq!(
                (own[0].as_str(), own[own.len() - 2].as_str()),
                (&*format!("b{zone}"), &*format!("e{zone}"))
            );
            assert_eq!(own[own.len() - 1], &format!("d{zone}"));
        }
        // Small zones and parts of the large one take turns.
        assert!(all.iter().position(|l| l == "e3") < all.iter().position(|l| l == "e1"), "{all:?}");
        assert!(all.iter().position(|l| l == "b1") < all.iter().position(|l| l == "b3"), "{all:?}");
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_put_back_comes_in_the_same_order() {
        let fill = || {
            let mut queue = Queue::default();
            whole(1, 5_000, 3).into_iter().for_each(|message| queue.push(frame(message)));
            whole(2, 2, 1).into_iter().for_each(|message| queue.push(frame(message)));
            queue.push(frame(delta(4)));
            queue
        };
        let mut queue = fill();
        let taken: Vec<_> = std::iter::from_fn(|| queue.next(false)).take(4).collect();
        assert_eq!(taken[0].class, Class::Urgent);
        queue.put_back(taken);
        queue.push(frame(delta(1)));
        let all = labels(&mut queue);
        assert_eq!(all.len(), fill_len());
        assert_eq!(all[0], "d4");
        assert_eq!(all.last().unwrap(), "d1");
    }

    #[test]
    fn what_comes_after_a_question_waits_for_its_answer() {
        let mut queue = Queue::default();
        let compare = || ToPop::Compare { buckets: vec![3] };
        whole(1, 5_000, 2).into_iter().for_each(|message| queue.push(frame(message)));
        for message in [compare(), delta(2), compare(), delta(3)] {
            queue.push(frame(message));
        }
        for _ in 0..4 {
            assert_eq!(label(&queue.next(false).unwrap().frame.message)[1..], *"1");
        }
        for after in ["d2", "d3"] {
            for _ in 0..2 {
                // It is asked again and again, as a transaction may fail.
                let asked = queue.next(false).unwrap().frame.message;
                assert_eq!(asked, compare());
            }
            assert!(!queue.is_empty());
            queue.pass_barrier();
            assert_eq!(label(&queue.next(false).unwrap().frame.message), after);
        }
        assert!(queue.is_empty());
    }

    fn fill_len() -> usize {
        5 + 3 + 1 + 1
    }
}
