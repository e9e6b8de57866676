//! Against a real knotd, on free ports of the loopback interface, in temporary folders.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, io};

use herald_core::{Generation, Name, Rdatas, RrKey, Rrset, Rtype, ZoneId};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

mod catalogs;
mod steered;
mod sweep;

use super::config::{KnotConfig, LogTarget, zone_file_name};
use super::ctl::{Batch, Command, Connection, Item};
use super::driver::{Delta, Driver, DriverConfig, Job, Limits, Put, Report, Task, TaskError, ZoneContent};
use super::process::{HookError, Hooks, Runner, StartError, Supervisor, SupervisorConfig};
use super::zonefile::{self, ZoneWriter};
use super::{catalog, ctl, probe, text};
use crate::module::zone::About;

const DEADLINE: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------------------------------------------
// A small PoP
// ---------------------------------------------------------------------------------------------------

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn rrset(ttl: u32, rdatas: &[&[u8]]) -> Rrset {
    Rrset { ttl, rdatas: rdatas.iter().collect() }
}

fn soa(serial: u32) -> Rrset {
    let mut rdata = b"\x02ns\x04test\0\x01h\x04test\0".to_vec();
    for number in [serial, 3600, 600, 86400, 60] {
        rdata.extend_from_slice(&number.to_be_bytes());
    }
    rrset(60, &[&rdata])
}

/// A zone's content in a form that's cheap to share.
#[derive(Clone)]
struct TestZone {
    apex: Name,
    serial: u32,
    records: Arc<BTreeMap<RrKey, Rrset>>,
    /// As which zone the module gets it.
    steered: Option<ZoneId>,
}

impl TestZone {
    fn new(apex: &str, serial: u32) -> TestZone {
        let apex = name(apex);
        let ns = RrKey::new(apex.clone(), Rtype::NS);
        let records = BTreeMap::from([(ns, rrset(60, &[b"\x02ns\x04test\0"]))]);
        TestZone { apex, serial, records: Arc::new(records), steered: None }
    }

    /// The zone with its `a.` record at this address.
    fn with_a(mut self, address: [u8; 4]) -> TestZone {
        let owner = self.apex.child("a").unwrap();
        Arc::make_mut(&mut self.records).insert(RrKey::new(owner, Rtype::A), rrset(60, &[&address]));
        self
    }

    fn with_many(mut self, count: u32) -> TestZone {
        let records = Arc::make_mut(&mut self.records);
        for number in 0..count {
            let owner = self.apex.child(format!("host-{number}")).unwrap();
            records.insert(RrKey::new(owner, Rtype::A), rrset(60, &[&number.to_be_bytes()]));
        }
        self
    }

    fn put(&self) -> Put {
        let is_steered = self.records.keys().any(|key| herald_core::steering::is_steering_type(key.rtype));
        let module = self.steered.filter(|_| is_steered).map(|zone| (zone, generation(self.serial.into())));
        Put { serial: self.serial, content: Arc::new(self.clone()), module }
    }

    /// The change to the next serial with `a.` at this address; `self` becomes the changed zone.
    fn change_a(&mut self, address: [u8; 4]) -> Delta {
        let key = RrKey::new(self.apex.child("a").unwrap(), Rtype::A);
        let rrset = rrset(60, &[&address]);
        self.serial += 1;
        Arc::make_mut(&mut self.records).insert(key.clone(), rrset.clone());
        Delta { soa: soa(self.serial), changes: vec![(key, Some(rrset))], whole: self.put(), steering: None }
    }
}

impl ZoneContent for TestZone {
    fn write(&self, out: &mut ZoneWriter<'_>) -> io::Result<()> {
        if let Some(zone) = self.steered {
            let (name, generation) = (self.apex.clone(), generation(self.serial.into()));
            out.zone(About { zone, name, generation, is_private: false, with_records: false });
        }
        out.rrset(&self.apex, Rtype::SOA, &soa(self.serial))?;
        for (key, rrset) in self.records.iter() {
            out.rrset(&key.owner, key.rtype, rrset)?;
        }
        Ok(())
    }
}

fn generation(counter: u64) -> Generation {
    Generation { epoch: 1, counter }
}

type Replica = Arc<Mutex<BTreeMap<Name, TestZone>>>;

#[derive(Debug, PartialEq)]
enum Seen {
    Materialized,
    Up { adopted: bool },
    Down,
    StartFailed(String),
}

#[derive(Clone)]
struct TestHooks {
    knot: KnotConfig,
    replica: Replica,
    driver: Arc<Driver>,
    seen: Sender<Seen>,
}

impl Hooks for TestHooks {
    fn materialize(&mut self) -> Result<(), HookError> {
        let replica = self.replica.lock().unwrap();
        for zone in replica.values() {
            let path = self.knot.zone_dir().join(zone_file_name(&zone.apex));
            zonefile::write_file(&path, |out| zone.write(out))?;
        }
        catalog::write_files(&self.knot.catalog_dir(), &self.knot.catalogs(), 1, replica.keys())?;
        let _ = self.seen.send(Seen::Materialized);
        Ok(())
    }

    fn up(&mut self, adopted: bool) {
        let replica = self.replica.lock().unwrap();
        self.driver.resume(replica.values().map(|zone| (zone.apex.clone(), zone.serial)).collect());
        let _ = self.seen.send(Seen::Up { adopted });
    }

    fn down(&mut self, _reason: &str) {
        self.driver.suspend();
        let _ = self.seen.send(Seen::Down);
    }

    fn start_failed(&mut self, error: &StartError) {
        let _ = self.seen.send(Seen::StartFailed(format!("{error:?}")));
    }
}

struct Pop {
    knot: KnotConfig,
    replica: Replica,
    driver: Arc<Driver>,
    reports: Receiver<Report>,
    seen: Receiver<Seen>,
    supervisor: Option<Supervisor>,
    dir: TempDir,
}

fn free_port() -> u16 {
    // A port that's free for both protocols.
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn supervise(knot: &KnotConfig, replica: &Replica, driver: &Arc<Driver>, seen: Sender<Seen>) -> Supervisor {
    let config = SupervisorConfig {
        knot: knot.clone(),
        runner: Runner::Us { program: PathBuf::from("knotd") },
        start_timeout: DEADLINE,
        stop_timeout: Duration::from_secs(10),
    };
    let hooks = TestHooks { knot: knot.clone(), replica: replica.clone(), driver: driver.clone(), seen };
    Supervisor::start(config, Box::new(hooks)).unwrap()
}

impl Pop {
    fn start(zones: impl IntoIterator<Item = TestZone>) -> Pop {
        Pop::start_with(zones, Limits::default())
    }

    fn start_with(zones: impl IntoIterator<Item = TestZone>, limits: Limits) -> Pop {
        Pop::start_on(zones, limits, |_| {})
    }

    /// A PoP whose knotd may be running already, once `before` is through.
    fn start_on(
        zones: impl IntoIterator<Item = TestZone>,
        limits: Limits,
        before: impl FnOnce(&TestHooks),
    ) -> Pop {
        Pop::start_beside(zones, limits, None, before)
    }

    /// The same, with a module at this socket.
    fn start_beside(
        zones: impl IntoIterator<Item = TestZone>,
        limits: Limits,
        module_socket: Option<PathBuf>,
        before: impl FnOnce(&TestHooks),
    ) -> Pop {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut knot = KnotConfig::new(dir.path(), vec![listen]);
        knot.log = LogTarget::File(dir.path().join("knot.log"));
        knot.udp_workers = Some(1);
        knot.tcp_workers = Some(1);
        let replica: Replica =
            Arc::new(Mutex::new(zones.into_iter().map(|zone| (zone.apex.clone(), zone)).collect()));
        let (report, reports) = mpsc::channel();
        let config = DriverConfig { limits, module_socket, ..DriverConfig::of(&knot).unwrap() };
        let driver = Arc::new(Driver::start(config, report).unwrap());
        let (seen_by, seen) = mpsc::channel();
        let (no_one, _) = mpsc::channel();
        before(&TestHooks {
            knot: knot.clone(),
            replica: replica.clone(),
            driver: driver.clone(),
            seen: no_one,
        });
        let supervisor = Some(supervise(&knot, &replica, &driver, seen_by));
        let pop = Pop { knot, replica, driver, reports, seen, supervisor, dir };
        pop.wait_report(&Report::Settled);
        pop
    }

    fn submit(&self, zone: &Name, tag: u64, task: Task) {
        self.driver.submit(vec![Job { zone: zone.clone().into(), tag, task }]);
    }

    fn next_report(&self) -> Report {
        self.next_report_by(Instant::now() + DEADLINE)
    }

    /// For loops, which are to end by one deadline although rounds of the sweep are reported all the time.
    fn next_report_by(&self, deadline: Instant) -> Report {
        match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(report) => report,
            Err(_) => panic!(
                "no report in time; seen: {:?}; knotd's log:\n{}",
                self.seen.try_iter().collect::<Vec<_>>(),
                self.log()
            ),
        }
    }

    fn wait_report(&self, wanted: &Report) {
        let deadline = Instant::now() + DEADLINE;
        while self.next_report_by(deadline) != *wanted {}
    }

    /// Waits for the reports of these tags, in whatever order; anything else is an error.
    fn wait_done(&self, tags: impl IntoIterator<Item = u64>) -> BTreeMap<u64, Result<(), TaskError>> {
        let mut open: std::collections::BTreeSet<u64> = tags.into_iter().collect();
        let mut results = BTreeMap::new();
        while !open.is_empty() {
            match self.next_report() {
                Report::Done { tag, result, .. } => {
                    assert!(open.remove(&tag), "tag {tag} was not waited for");
                    results.insert(tag, result);
                }
                other => panic!("unexpected {other:?}; knotd's log:\n{}", self.log()),
            }
        }
        results
    }

    fn do_ok(&self, zone: &Name, task: Task) {
        self.submit(zone, 0, task);
        let results = self.wait_done([0]);
        assert_eq!(results[&0], Ok(()), "{}", self.log());
    }

    /// As [`Pop::do_ok`], where the sweep may report rounds meanwhile.
    fn do_ok_among_rounds(&self, zone: &Name, task: Task) {
        self.submit(zone, 0, task);
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.next_report_by(deadline) {
                Report::Swept { .. } => {}
                Report::Done { tag: 0, result, .. } => {
                    assert_eq!(result, Ok(()), "{}", self.log());
                    return;
                }
                other => panic!("unexpected {other:?}; knotd's log:\n{}", self.log()),
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.knot.listen[0]
    }

    fn serial(&self, zone: &Name) -> Option<u32> {
        self.ask_soa(zone).serial
    }

    fn ask_soa(&self, zone: &Name) -> probe::SoaAnswer {
        probe::ask_soa(self.address(), zone, DEADLINE).unwrap().expect("an answer")
    }

    /// The RDATA that knotd has for a name and type, as text.
    fn read(&self, zone: &Name, owner: &Name, rtype: &str) -> Vec<String> {
        let mut batch = Batch::new();
        let items: [(Item, &[u8]); 3] = [
            (Item::Zone, &text::name_text(zone)),
            (Item::Owner, &text::name_text(owner)),
            (Item::Type, rtype.as_bytes()),
        ];
        batch.push(Command::ZoneRead, &items).unwrap();
        let mut values = Vec::new();
        ctl::run_batch(&self.knot.control_socket(), DEADLINE, &batch, |reply| {
            if reply.error().is_none() {
                values.push(reply.text(Item::Data).to_owned());
            }
        })
        .unwrap();
        values
    }

    fn address_of_a(&self, zone: &Name) -> Vec<String> {
        self.read(zone, &zone.child("a").unwrap(), "A")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("knot.log")).unwrap_or_default()
    }

    /// Waits until there are so many zone files.
    fn wait_files(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while fs::read_dir(self.knot.zone_dir()).unwrap().count() != count {
            assert!(Instant::now() < deadline, "not {count} zone files");
            std::thread::yield_now();
        }
    }

    fn pid(&self) -> Pid {
        let text = fs::read_to_string(self.knot.pid_file()).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    fn wait_seen(&self, wanted: &Seen) {
        loop {
            let seen = self.seen.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{}", self.log()));
            if seen == *wanted {
                return;
            }
            assert!(!matches!(seen, Seen::StartFailed(_)), "{seen:?}\n{}", self.log());
        }
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.stop();
        }
    }
}

/// One command on a connection of its own; what went wrong, if something did.
fn command(pop: &Pop, command: Command, items: &[(Item, &[u8])]) -> Vec<String> {
    let mut batch = Batch::new();
    batch.push(command, items).unwrap();
    let mut errors = Vec::new();
    ctl::run_batch(&pop.knot.control_socket(), DEADLINE, &batch, |reply| errors.extend(reply.error()))
        .unwrap();
    errors
}

// ---------------------------------------------------------------------------------------------------
// The control protocol
// ---------------------------------------------------------------------------------------------------

#[test]
fn a_batch_reports_the_error_of_each_unit() {
    let pop = Pop::start([TestZone::new("one.test", 1)]);
    let mut batch = Batch::new();
    for (tag, zone) in ["none.test.", "one.test.", "neither.test."].iter().enumerate() {
        let tag = tag.to_string();
        batch
            .push(Command::ZoneStatus, &[(Item::Zone, zone.as_bytes()), (Item::Id, tag.as_bytes())])
            .unwrap();
    }
    batch.push(Command::Status, &[(Item::Type, b"version")]).unwrap();
    let (mut errors, mut serial, mut version) = (Vec::new(), None, false);
    let mut connection = Connection::open(&pop.knot.control_socket(), DEADLINE).unwrap();
    connection
        .run(&batch, |reply| {
            if let Some(error) = reply.error() {
                errors.push((reply.tag(), error));
            }
            match reply.text(Item::Type) {
                "serial" => serial = Some(reply.text(Item::Data).to_owned()),
                "version" => version = true,
                _ => {}
            }
        })
        .unwrap();
    connection.close();
    let no_zone = || "no such zone found".to_owned();
    assert_eq!(errors, [(Some(0), no_zone()), (Some(2), no_zone())]);
    assert_eq!(serial.as_deref(), Some("1"));
    assert!(version);
}

#[test]
fn a_batch_larger_than_all_buffers_gets_through() {
    let pop = Pop::start([TestZone::new("one.test", 1)]);
    let mut batch = Batch::new();
    let long = vec![b'x'; 60_000];
    for tag in 0..50_000 {
        let tag = format!("{tag}");
        // Every unit fails, and is echoed with its error.
        let items: [(Item, &[u8]); 3] =
            [(Item::Zone, b"none.test."), (Item::Id, tag.as_bytes()), (Item::Owner, b"x")];
        batch.push(Command::ZoneSet, &items).unwrap();
    }
    for _ in 0..100 {
        batch.push(Command::ZoneUnset, &[(Item::Zone, b"none.test."), (Item::Data, &long)]).unwrap();
    }
    let mut errors = 0;
    ctl::run_batch(&pop.knot.control_socket(), DEADLINE, &batch, |reply| {
        errors += usize::from(reply.error().is_some());
    })
    .unwrap();
    assert_eq!(errors, 50_100);
}

#[test]
fn an_item_that_cannot_be_sent_is_refused() {
    let mut batch = Batch::new();
    let too_long = vec![b'x'; ctl::ITEM_BYTES_MAX + 1];
    let error = batch.push(Command::ZoneSet, &[(Item::Data, &too_long)]).unwrap_err();
    assert_eq!(error.bytes, ctl::ITEM_BYTES_MAX + 1);
    assert!(batch.is_empty());
}

#[test]
fn nobody_at_the_socket_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let error = Connection::open(&dir.path().join("none"), DEADLINE).err().unwrap();
    assert!(matches!(error, ctl::CtlError::Connect { .. }), "{error}");
}

#[test]
fn a_knotd_that_does_not_answer_is_an_error_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut batch = Batch::new();
    batch.push(Command::Status, &[]).unwrap();
    let error = ctl::run_batch(&path, Duration::from_millis(50), &batch, |_| {}).unwrap_err();
    assert!(matches!(error, ctl::CtlError::Io(_)), "{error}");
}

// ---------------------------------------------------------------------------------------------------
// Deltas
// ---------------------------------------------------------------------------------------------------

fn hundred_zones() -> Vec<TestZone> {
    (0..100).map(|number| TestZone::new(&format!("z{number}.test"), 1).with_a([192, 0, 2, 1])).collect()
}

#[test]
fn deltas_of_a_hundred_zones() {
    let mut zones = hundred_zones();
    let pop = Pop::start(zones.clone());
    let mut took = Vec::new();
    for round in 2..12 {
        let since = Instant::now();
        let jobs = zones.iter_mut().enumerate().map(|(tag, zone)| Job {
            zone: zone.apex.clone().into(),
            tag: tag as u64,
            task: Task::Delta(zone.change_a([192, 0, 2, round])),
        });
        pop.driver.submit(jobs.collect());
        assert!(pop.wait_done(0..100).values().all(Result::is_ok), "{}", pop.log());
        took.push(since.elapsed());
    }
    eprintln!("100 zones, one delta each: {:?}", took.iter().min().unwrap());
    for zone in &zones {
        assert_eq!(pop.serial(&zone.apex), Some(11));
        assert_eq!(pop.address_of_a(&zone.apex), ["192.0.2.11"]);
    }
}

#[test]
fn an_rrset_is_removed_and_removing_nothing_is_fine() {
    let mut zone = TestZone::new("one.test", 1).with_a([192, 0, 2, 1]);
    let pop = Pop::start([zone.clone()]);
    let mut delta = zone.change_a([192, 0, 2, 2]);
    delta.changes[0].1 = None;
    delta.changes.push((RrKey::new(name("not-there.one.test"), Rtype::MX), None));
    pop.do_ok(&zone.apex, Task::Delta(delta));
    assert!(pop.address_of_a(&zone.apex).is_empty());
    assert_eq!(pop.serial(&zone.apex), Some(2));
}

#[test]
fn a_bad_record_spoils_its_own_zone_only() {
    let mut zones = hundred_zones();
    let pop = Pop::start(zones.clone());
    let bad = 42;
    let jobs = zones.iter_mut().enumerate().map(|(tag, zone)| {
        let mut delta = zone.change_a([192, 0, 2, 2]);
        if tag == bad {
            let foreign = RrKey::new(name("not.in.this.zone"), Rtype::A);
            delta.changes.push((foreign, Some(rrset(60, &[&[192, 0, 2, 9]]))));
        }
        Job { zone: zone.apex.clone().into(), tag: tag as u64, task: Task::Delta(delta) }
    });
    pop.driver.submit(jobs.collect());
    for (tag, result) in pop.wait_done(0..100) {
        let zone = &zones[tag as usize].apex;
        if tag == bad as u64 {
            assert!(matches!(&result, Err(TaskError::Rejected(_))), "{result:?}");
            eprintln!("a bad record: {}", result.unwrap_err());
            assert_eq!(pop.serial(zone), Some(1));
            assert_eq!(pop.address_of_a(zone), ["192.0.2.1"]);
        } else {
            assert_eq!((result, pop.serial(zone)), (Ok(()), Some(2)));
            assert_eq!(pop.address_of_a(zone), ["192.0.2.2"]);
        }
    }
    // Its transaction is closed, but what comes next builds upon something that isn't there.
    let zone = &mut zones[bad];
    pop.submit(&zone.apex.clone(), 7, Task::Delta(zone.change_a([192, 0, 2, 3])));
    assert_eq!(pop.wait_done([7])[&7], Err(TaskError::NotServed));
    pop.do_ok(&zone.apex.clone(), Task::Put(zone.put()));
    pop.do_ok(&zone.apex.clone(), Task::Delta(zone.change_a([192, 0, 2, 4])));
    assert_eq!(pop.address_of_a(&zone.apex), ["192.0.2.4"]);
}

#[test]
fn a_malformed_record_never_reaches_knotd() {
    // knotd 3.2 takes this MX, whose name has octets after its end, and crashes when it answers with it.
    let malformed = rrset(60, &[b"\0\x0a\x01a\xff\xff\xff"]);
    let mut zone = TestZone::new("one.test", 1).with_a([192, 0, 2, 1]);
    let pop = Pop::start([zone.clone()]);
    let (apex, key) = (zone.apex.clone(), RrKey::new(zone.apex.clone(), Rtype::MX));
    let mut delta = zone.change_a([192, 0, 2, 2]);
    delta.changes.push((key.clone(), Some(malformed.clone())));
    pop.submit(&apex, 1, Task::Delta(delta));
    assert!(matches!(&pop.wait_done([1])[&1], Err(TaskError::Malformed(_))));
    Arc::make_mut(&mut zone.records).insert(key.clone(), malformed);
    pop.submit(&apex, 2, Task::Put(zone.put()));
    assert!(matches!(&pop.wait_done([2])[&2], Err(TaskError::File(_))));
    Arc::make_mut(&mut zone.records).remove(&key);
    pop.do_ok(&apex, Task::Put(zone.put()));
    assert_eq!(pop.address_of_a(&apex), ["192.0.2.2"]);
}

#[test]
fn a_transaction_left_open_by_somebody_is_dropped() {
    let mut zone = TestZone::new("one.test", 1).with_a([192, 0, 2, 1]);
    let pop = Pop::start([zone.clone()]);
    let items: [(Item, &[u8]); 5] = [
        (Item::Zone, b"one.test."),
        (Item::Owner, b"foreign"),
        (Item::Ttl, b"60"),
        (Item::Type, b"A"),
        (Item::Data, b"192.0.2.9"),
    ];
    assert!(command(&pop, Command::ZoneBegin, &items[..1]).is_empty());
    assert!(command(&pop, Command::ZoneSet, &items).is_empty());
    pop.do_ok(&zone.apex.clone(), Task::Delta(zone.change_a([192, 0, 2, 2])));
    assert_eq!(pop.address_of_a(&zone.apex), ["192.0.2.2"]);
    assert!(pop.read(&zone.apex, &name("foreign.one.test"), "A").is_empty());
}

#[test]
fn a_large_delta_becomes_a_file() {
    let mut zone = TestZone::new("one.test", 1).with_a([192, 0, 2, 1]);
    let pop = Pop::start([zone.clone()]);
    zone = TestZone { serial: 2, ..zone.with_many(5_000) };
    let changes = zone.records.iter().map(|(key, rrset)| (key.clone(), Some(rrset.clone())));
    let delta = Delta { soa: soa(2), changes: changes.collect(), whole: zone.put(), steering: None };
    pop.do_ok(&zone.apex, Task::Delta(delta));
    assert_eq!(pop.serial(&zone.apex), Some(2));
    assert_eq!(pop.read(&zone.apex, &name("host-4999.one.test"), "A"), ["0.0.19.135"]);
    let file = fs::read_to_string(pop.knot.zone_dir().join("one.test.zone")).unwrap();
    assert_eq!(file.lines().count(), 5_003);
}

// ---------------------------------------------------------------------------------------------------
// Every type as `\#`
// ---------------------------------------------------------------------------------------------------

/// RDATA of every type that knotd knows by name, and some that it doesn't, with octets that text would have
/// trouble with.
fn all_types() -> Vec<(u16, Vec<u8>)> {
    let target = b"\x04\x00.;\"\x05other\x00".to_vec();
    // No part of a name is to be seen twice in an answer, or it's compressed.
    let second = b"\x02\xff$\x03two\x00".to_vec();
    let with_name = |prefix: &[u8]| [prefix, &target].concat();
    let mut long_txt = Vec::new();
    for _ in 0..4 {
        long_txt.push(255);
        long_txt.extend(1..=255);
    }
    let rrsig =
        [&[0, 1, 13, 1, 0, 0, 0, 60, 127, 0, 0, 0, 1, 0, 0, 0, 0, 7][..], b"\x04test\0", &[9; 64]].concat();
    vec![
        (1, vec![192, 0, 2, 1]),
        (2, target.clone()),
        (12, target.clone()),
        (13, b"\x03cpu\x02os".to_vec()),
        (14, [target.clone(), second.clone()].concat()),
        (15, with_name(&[0, 10])),
        (16, long_txt),
        (17, [target.clone(), second.clone()].concat()),
        (18, with_name(&[0, 1])),
        (21, with_name(&[0, 1])),
        (25, vec![1, 0, 3, 13, 1, 2, 3, 4]),
        (28, vec![0x20, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (29, vec![0, 0x12, 0x16, 0x13, 0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0x98, 0x96, 0x80]),
        (33, with_name(&[0, 1, 0, 2, 0, 53])),
        (35, with_name(b"\0\x01\0\x02\x01u\x07E2U+sip\0")),
        (36, with_name(&[0, 1])),
        (37, vec![0, 1, 0, 2, 8, 1, 2, 3]),
        (39, target.clone()),
        (42, vec![0, 1, 24, 3, 192, 0, 2]),
        (43, [&[0, 7, 13, 2][..], &[5; 32]].concat()),
        (44, [&[4, 2][..], &[5; 32]].concat()),
        (45, vec![10, 1, 2, 192, 0, 2, 38, 1, 2, 3]),
        (46, rrsig),
        (48, [&[1, 1, 3, 13][..], &[5; 64]].concat()),
        (49, vec![0, 1, 1, 5, 5, 5]),
        (52, [&[3, 1, 1][..], &[5; 32]].concat()),
        (53, [&[3, 1, 1][..], &[5; 32]].concat()),
        (59, [&[0, 7, 13, 2][..], &[5; 32]].concat()),
        (60, [&[1, 1, 3, 13][..], &[5; 64]].concat()),
        (61, vec![5; 40]),
        (62, vec![0, 0, 0, 66, 0, 3, 0, 4, 0x60, 0, 0, 8]),
        (64, with_name(&[0, 1])),
        (65, with_name(&[0, 1]).into_iter().chain([0, 1, 0, 3, 2, b'h', b'2']).collect()),
        (99, b"\x05v=spf".to_vec()),
        (104, vec![0, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
        (105, vec![0, 10, 192, 0, 2, 1]),
        (106, vec![0, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
        (107, with_name(&[0, 10])),
        (108, vec![1, 2, 3, 4, 5, 6]),
        (109, vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (256, b"\0\x01\0\x02https://example.test/\"".to_vec()),
        (257, b"\0\x05issueca.test; a=\"b\"".to_vec()),
        (4711, vec![0, 255, b'"', b'\\', b'\n']),
        (4712, vec![]),
        (65_400, vec![7; 3000]),
    ]
}

/// The RDATA of the only answer to a query over TCP.
fn query_rdata(address: SocketAddr, owner: &Name, rtype: u16) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut query = probe::soa_query(1, owner);
    let end = query.len();
    query[end - 4..end - 2].copy_from_slice(&rtype.to_be_bytes());
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!((answer[3] & 15, answer[7]), (0, 1), "{owner} {rtype}: {answer:?}");
    // The owner is a pointer to the question.
    let fixed = &answer[query.len()..];
    let length = usize::from(u16::from_be_bytes([fixed[10], fixed[11]]));
    fixed[12..12 + length].to_vec()
}

#[test]
fn every_type_goes_through_unchanged() {
    let file_zone = TestZone::new("file.test", 1);
    let socket_zone = TestZone::new("socket.test", 1);
    let pop = Pop::start([socket_zone.clone()]);

    let rrsets_below = |apex: &Name| {
        let labels = all_types().into_iter().map(|(rtype, rdata)| (format!("\x01.t{rtype}"), rtype, rdata));
        let keyed = labels.map(|(label, rtype, rdata)| {
            let key = RrKey::new(apex.child(label).unwrap(), Rtype::from_int(rtype));
            (key, Rrset { ttl: 60, rdatas: Rdatas::single(&rdata) })
        });
        keyed.collect::<Vec<_>>()
    };

    let mut records = (*file_zone.records).clone();
    records.extend(rrsets_below(&file_zone.apex));
    let file_zone = TestZone { records: Arc::new(records), ..file_zone };
    pop.do_ok(&file_zone.apex, Task::Put(file_zone.put()));

    let changed = rrsets_below(&socket_zone.apex);
    let whole = TestZone { serial: 2, ..socket_zone.clone() }.put();
    let changes = changed.into_iter().map(|(key, rrset)| (key, Some(rrset))).collect();
    pop.do_ok(&socket_zone.apex, Task::Delta(Delta { soa: soa(2), changes, whole, steering: None }));

    for zone in [&file_zone.apex, &socket_zone.apex] {
        for (rtype, rdata) in all_types() {
            let owner = zone.child(format!("\x01.t{rtype}")).unwrap();
            // Signatures are only given away with what they sign; delegations are referrals, and a DNAME
            // isn't asked for by itself below.
            if rtype == 46 {
                assert_eq!(pop.read(zone, &owner, "RRSIG").len(), 1);
            } else if rtype == 2 {
                assert_eq!(pop.read(zone, &owner, "NS").len(), 1);
            } else {
                assert_eq!(query_rdata(pop.address(), &owner, rtype), rdata, "{zone} {rtype}");
            }
        }
    }
}

#[test]
fn rdata_too_long_for_the_socket_goes_by_file() {
    let mut zone = TestZone::new("one.test", 1);
    let pop = Pop::start([zone.clone()]);
    let key = RrKey::new(zone.apex.clone(), Rtype::from_int(4711));
    let rrset = rrset(60, &[&vec![7; 60_000]]);
    Arc::make_mut(&mut zone.records).insert(key.clone(), rrset.clone());
    zone.serial = 2;
    let delta = Delta { soa: soa(2), changes: vec![(key, Some(rrset))], whole: zone.put(), steering: None };
    pop.do_ok(&zone.apex, Task::Delta(delta));
    assert_eq!(query_rdata(pop.address(), &zone.apex, 4711).len(), 60_000);
}

// ---------------------------------------------------------------------------------------------------
// Whole zones
// ---------------------------------------------------------------------------------------------------

#[test]
fn a_zone_comes_changes_goes_and_comes_back_while_deltas_flow() {
    let mut steady = TestZone::new("steady.test", 1).with_a([192, 0, 2, 1]);
    let pop = Pop::start([steady.clone()]);
    let other = name("other.test");
    assert_eq!(pop.ask_soa(&other).rcode, 5);
    for round in 1..=20_u8 {
        // What comes back has a lower serial than what was there before.
        let mut zone = TestZone::new("other.test", 100 - u32::from(round)).with_a([10, 0, 0, round]);
        let jobs = vec![
            Job { zone: other.clone().into(), tag: 1, task: Task::Put(zone.put()) },
            Job { zone: other.clone().into(), tag: 2, task: Task::Delta(zone.change_a([10, 0, 1, round])) },
            Job {
                zone: steady.apex.clone().into(),
                tag: 3,
                task: Task::Delta(steady.change_a([192, 0, 2, round])),
            },
        ];
        pop.driver.submit(jobs);
        assert!(pop.wait_done(1..=3).values().all(Result::is_ok), "{}", pop.log());
        assert_eq!(pop.serial(&other), Some(zone.serial));
        assert_eq!(pop.address_of_a(&other), [format!("10.0.1.{round}")]);
        if round % 2 == 0 {
            // Removed, and put again before it's gone.
            pop.driver.submit(vec![
                Job { zone: other.clone().into(), tag: 4, task: Task::Remove },
                Job {
                    zone: steady.apex.clone().into(),
                    tag: 5,
                    task: Task::Delta(steady.change_a([192, 0, 3, round])),
                },
            ]);
        } else {
            pop.driver.submit(vec![
                Job { zone: other.clone().into(), tag: 4, task: Task::Remove },
                Job {
                    zone: steady.apex.clone().into(),
                    tag: 5,
                    task: Task::Delta(steady.change_a([192, 0, 3, round])),
                },
            ]);
            assert!(pop.wait_done(4..=5).values().all(Result::is_ok), "{}", pop.log());
            assert_eq!(pop.ask_soa(&other).rcode, 5);
            pop.wait_files(1);
            continue;
        }
        let zone = TestZone::new("other.test", 50).with_a([10, 0, 2, round]);
        pop.submit(&other, 6, Task::Put(zone.put()));
        assert!(pop.wait_done(4..=6).values().all(Result::is_ok), "{}", pop.log());
        assert_eq!(
            (pop.serial(&other), pop.address_of_a(&other)),
            (Some(50), vec![format!("10.0.2.{round}")])
        );
        pop.do_ok(&other, Task::Remove);
    }
    assert_eq!(pop.address_of_a(&steady.apex), ["192.0.3.20"]);
}

#[test]
fn new_content_with_the_same_serial_is_waited_for() {
    let zone = TestZone::new("one.test", 7).with_a([192, 0, 2, 1]).with_many(20_000);
    let pop = Pop::start([zone.clone()]);
    for round in 2..6 {
        let zone = zone.clone().with_a([192, 0, 2, round]);
        pop.do_ok(&zone.apex, Task::Put(zone.put()));
        assert_eq!(pop.address_of_a(&zone.apex), [format!("192.0.2.{round}")]);
    }
}

#[test]
fn content_that_knotd_cannot_load_leaves_what_is_served() {
    struct Broken;
    impl ZoneContent for Broken {
        fn write(&self, out: &mut ZoneWriter<'_>) -> io::Result<()> {
            out.rrset(&name("elsewhere.test"), Rtype::SOA, &soa(2))
        }
    }
    struct Unwritable;
    impl ZoneContent for Unwritable {
        fn write(&self, _: &mut ZoneWriter<'_>) -> io::Result<()> {
            Err(io::Error::other("no content"))
        }
    }
    let mut zone = TestZone::new("one.test", 1).with_a([192, 0, 2, 1]);
    let pop = Pop::start([zone.clone()]);
    let apex = zone.apex.clone();
    pop.submit(&apex, 1, Task::Put(Put { serial: 2, content: Arc::new(Broken), module: None }));
    assert_eq!(pop.wait_done([1])[&1], Err(TaskError::NotLoaded { serving: Some(1) }));
    pop.submit(&apex, 2, Task::Put(Put { serial: 2, content: Arc::new(Unwritable), module: None }));
    assert_eq!(pop.wait_done([2])[&2], Err(TaskError::File("no content".into())));
    assert_eq!(pop.address_of_a(&apex), ["192.0.2.1"]);
    // A new zone is there without content then, and can be put again or removed.
    let new = name("new.test");
    pop.submit(&new, 3, Task::Put(Put { serial: 2, content: Arc::new(Broken), module: None }));
    assert_eq!(pop.wait_done([3])[&3], Err(TaskError::NotLoaded { serving: None }));
    assert_eq!(pop.ask_soa(&new).rcode, 2);
    pop.do_ok(&new, Task::Put(TestZone::new("new.test", 3).put()));
    assert_eq!(pop.serial(&new), Some(3));
    zone.serial = 2;
    pop.do_ok(&apex, Task::Put(zone.put()));
    pop.do_ok(&apex, Task::Delta(zone.change_a([192, 0, 2, 3])));
    assert_eq!(pop.serial(&apex), Some(3));
}

#[test]
fn zones_whose_files_would_have_one_name_are_kept_apart() {
    let pop = Pop::start([]);
    let slash = TestZone::new("0/25.2.0.192.in-addr.arpa", 1);
    let underscore = TestZone::new("0_25.2.0.192.in-addr.arpa", 1);
    pop.do_ok(&slash.apex, Task::Put(slash.put()));
    pop.submit(&underscore.apex, 1, Task::Put(underscore.put()));
    assert_eq!(pop.wait_done([1])[&1], Err(TaskError::FileNameTaken(slash.apex.clone())));
    pop.do_ok(&slash.apex, Task::Remove);
    pop.do_ok(&underscore.apex, Task::Put(underscore.put()));
    pop.submit(&slash.apex, 2, Task::Put(slash.put()));
    assert_eq!(pop.wait_done([2])[&2], Err(TaskError::FileNameTaken(underscore.apex.clone())));
}

#[test]
fn odd_zone_names_find_their_files() {
    let pop = Pop::start([]);
    for odd in [
        "a\\.b.test",
        "sp\\032ace.test",
        "\\#x.test",
        "\\000\\255.test",
        "x\\;y\\\"z\\\\.test",
        "*.wild.test",
        ".",
    ] {
        let zone = TestZone::new(odd, 5);
        pop.do_ok(&zone.apex, Task::Put(zone.put()));
        assert_eq!(pop.serial(&zone.apex), Some(5), "{odd}");
    }
}

#[test]
fn thousands_of_zones_come_and_go() {
    const ZONES: u64 = 3_000;
    let mut steady = TestZone::new("steady.test", 1).with_a([192, 0, 2, 1]);
    let pop = Pop::start([steady.clone()]);
    let zones: Vec<TestZone> = (0..ZONES)
        .map(|number| TestZone::new(&format!("z{number}.many.test"), 5).with_a([10, 0, 0, 1]))
        .collect();
    let job = |tag: u64, zone: &TestZone, task: Task| Job { zone: zone.apex.clone().into(), tag, task };
    let since = Instant::now();
    pop.driver
        .submit(zones.iter().zip(1..).map(|(zone, tag)| job(tag, zone, Task::Put(zone.put()))).collect());
    pop.submit(&steady.apex.clone(), 0, Task::Delta(steady.change_a([192, 0, 2, 2])));
    assert!(pop.wait_done(0..=ZONES).values().all(Result::is_ok), "{}", pop.log());
    eprintln!("{ZONES} zones added: {:?}", since.elapsed());
    let since = Instant::now();
    pop.driver.submit(zones.iter().zip(1..).map(|(zone, tag)| job(tag, zone, Task::Remove)).collect());
    assert!(pop.wait_done(1..=ZONES).values().all(Result::is_ok), "{}", pop.log());
    eprintln!("{ZONES} zones removed: {:?}", since.elapsed());
    assert_eq!(pop.ask_soa(&zones[7].apex).rcode, 5);
    pop.wait_files(1);
}

#[test]
fn deltas_do_not_wait_for_a_big_zone() {
    const RECORDS: u32 = 1_000_000;
    let mut zones = hundred_zones();
    let pop = Pop::start(zones.clone());
    let mut big = TestZone::new("big.test", 1).with_a([10, 0, 0, 1]);
    pop.do_ok(&big.apex, Task::Put(big.put()));
    let with_big = big.clone().with_many(RECORDS);

    let since = Instant::now();
    big = TestZone { serial: 2, ..with_big };
    pop.submit(&big.apex.clone(), 1, Task::Put(big.put()));
    // Held back until the content is there.
    pop.submit(&big.apex.clone(), 2, Task::Delta(big.change_a([10, 0, 0, 2])));
    let (mut waits, mut done) = (Vec::new(), BTreeMap::new());
    let mut rounds = 0_u64;
    while done.len() < 2 {
        rounds += 1;
        let tag = 1_000 + rounds;
        let zone = &mut zones[(rounds % 100) as usize];
        let submitted = Instant::now();
        pop.submit(&zone.apex.clone(), tag, Task::Delta(zone.change_a([10, 0, 0, 3])));
        loop {
            match pop.next_report() {
                Report::Done { tag: 1 | 2, result, zone } => {
                    done.insert(done.len(), (zone, result, since.elapsed()));
                }
                Report::Done { tag: one, result, .. } => {
                    assert_eq!((one, result), (tag, Ok(())));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        waits.push(submitted.elapsed());
    }
    waits.sort();
    eprintln!(
        "a zone of {RECORDS} records: {:?}; {} deltas meanwhile: median {:?}, 99% {:?}, worst {:?}",
        done.values().map(|(_, _, took)| *took).collect::<Vec<_>>(),
        waits.len(),
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        waits.last().unwrap(),
    );
    assert!(done.values().all(|(_, result, _)| result.is_ok()), "{done:?}");
    assert_eq!(pop.serial(&big.apex), Some(3));
    assert_eq!(pop.address_of_a(&big.apex), ["10.0.0.2"]);
    assert!(waits.len() > 50, "only {} deltas", waits.len());
    assert!(waits[waits.len() / 2] < Duration::from_millis(100), "{:?}", waits[waits.len() / 2]);
}

// ---------------------------------------------------------------------------------------------------
// The process
// ---------------------------------------------------------------------------------------------------

#[test]
fn a_killed_knotd_comes_back_with_what_the_replica_has() {
    let mut zone = TestZone::new("one.test", 1).with_a([192, 0, 2, 1]);
    let gone = TestZone::new("gone.test", 1);
    let pop = Pop::start([zone.clone(), gone.clone()]);
    pop.wait_seen(&Seen::Up { adopted: false });
    let apex = zone.apex.clone();
    pop.do_ok(&apex, Task::Delta(zone.change_a([192, 0, 2, 2])));

    // The replica is ahead of what knotd was told.
    let mut ahead = zone.clone();
    let delta = ahead.change_a([192, 0, 2, 3]);
    {
        let mut replica = pop.replica.lock().unwrap();
        replica.insert(apex.clone(), ahead.clone());
        replica.remove(&gone.apex);
    }
    rustix::process::kill_process(pop.pid(), Signal::KILL).unwrap();
    pop.submit(&apex, 1, Task::Delta(delta));
    pop.submit(&gone.apex, 2, Task::Remove);
    pop.wait_seen(&Seen::Down);
    pop.wait_seen(&Seen::Materialized);
    pop.wait_seen(&Seen::Up { adopted: false });
    let (mut results, mut settled) = (BTreeMap::new(), false);
    while results.len() < 2 || !settled {
        match pop.next_report() {
            Report::Done { tag, result, .. } => drop(results.insert(tag, result)),
            Report::ControlFailed { .. } => {}
            Report::Settled => settled = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(results.values().all(Result::is_ok), "{results:?}");
    assert_eq!((pop.serial(&apex), pop.address_of_a(&apex)), (Some(3), vec!["192.0.2.3".into()]));
    assert_eq!(pop.ask_soa(&gone.apex).rcode, 5);
    pop.do_ok(&apex, Task::Delta(ahead.change_a([192, 0, 2, 4])));
    assert_eq!(pop.address_of_a(&apex), ["192.0.2.4"]);
}

#[test]
fn a_knotd_that_was_left_alone_is_adopted_and_found_out() {
    let zones = hundred_zones();
    let mut pop = Pop::start(zones.clone());
    let pid = pop.pid();
    pop.supervisor.take().unwrap().detach();
    assert_eq!(pop.serial(&zones[0].apex), Some(1));

    // An agent that knows better: one zone is newer, one is not to be there, one is missing.
    {
        let mut replica = pop.replica.lock().unwrap();
        let mut newer = zones[1].clone();
        newer.change_a([192, 0, 2, 2]);
        replica.insert(newer.apex.clone(), newer);
        replica.remove(&zones[2].apex);
        replica.insert(name("new.test"), TestZone::new("new.test", 1));
    }
    let (seen_by, seen) = mpsc::channel();
    pop.seen = seen;
    pop.supervisor = Some(supervise(&pop.knot, &pop.replica, &pop.driver, seen_by));
    pop.wait_seen(&Seen::Up { adopted: true });
    assert_eq!(pop.pid(), pid);
    let mut reports = Vec::new();
    loop {
        match pop.next_report() {
            Report::Settled => break,
            report => reports.push(report),
        }
    }
    assert_eq!(
        reports,
        [
            Report::Stale { zone: name("new.test"), serving: None },
            Report::Unexpected { zone: zones[2].apex.clone() },
            Report::Stale { zone: zones[1].apex.clone(), serving: Some(1) },
        ]
    );
    let newer = pop.replica.lock().unwrap()[&zones[1].apex].clone();
    pop.do_ok(&newer.apex, Task::Put(newer.put()));
    pop.do_ok(&zones[2].apex, Task::Remove);
    pop.do_ok(&name("new.test"), Task::Put(TestZone::new("new.test", 1).put()));
    assert_eq!(pop.serial(&newer.apex), Some(2));
    assert_eq!(pop.ask_soa(&zones[2].apex).rcode, 5);
    assert_eq!(pop.serial(&name("new.test")), Some(1));

    // It isn't our child, but its death is seen and it's started again.
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    pop.wait_seen(&Seen::Down);
    pop.wait_seen(&Seen::Up { adopted: false });
    pop.wait_report(&Report::Settled);
    assert_eq!(pop.serial(&newer.apex), Some(2));
}

#[test]
fn a_knotd_that_cannot_start_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let knot = KnotConfig::new(dir.path(), vec![SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))]);
    let (report, _reports) = mpsc::channel();
    let driver = Arc::new(Driver::start(DriverConfig::of(&knot).unwrap(), report).unwrap());
    let (seen_by, seen) = mpsc::channel();
    let config = SupervisorConfig {
        knot: knot.clone(),
        runner: Runner::Us { program: dir.path().join("no-knotd") },
        start_timeout: DEADLINE,
        stop_timeout: DEADLINE,
    };
    let hooks = TestHooks { knot, replica: Replica::default(), driver, seen: seen_by };
    let supervisor = Supervisor::start(config, Box::new(hooks)).unwrap();
    for _ in 0..2 {
        assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), Seen::Materialized);
        assert!(matches!(seen.recv_timeout(DEADLINE).unwrap(), Seen::StartFailed(_)));
    }
    supervisor.stop();
}

// ---------------------------------------------------------------------------------------------------
// Files
// ---------------------------------------------------------------------------------------------------

#[test]
fn a_file_that_fails_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zone");
    let zone = TestZone::new("one.test", 1).with_many(10);
    assert_eq!(zonefile::write_file(&path, |out| zone.write(out)).unwrap().records, 12);
    let before = fs::read(&path).unwrap();
    let failed = zonefile::write_file(&path, |out| {
        zone.write(out)?;
        Err(io::Error::other("late"))
    });
    assert!(failed.is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_million_records_are_written_fast() {
    let dir = tempfile::tempdir().unwrap();
    let zone = TestZone::new("big.test", 1).with_many(1_000_000);
    let since = Instant::now();
    zonefile::write_file(&dir.path().join("zone"), |out| zone.write(out)).unwrap();
    eprintln!("1,000,000 records written: {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(10));
}
