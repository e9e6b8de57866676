//! A real knotd with the module in it, what an agent would say to it, and a client.

#![allow(dead_code, reason = "each test file uses some of it")]

pub mod agent;
pub mod client;
pub mod zone;

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use agent::Agent;
pub use client::{Answer, Question};
pub use zone::TestZone;

/// How long anything may take.
pub const WITHIN: Duration = Duration::from_secs(60);

/// The setting of the module by which draws follow from the ids of messages.
pub const KNOWN_DRAWS: &str = "known-draws: on";

/// A knotd with the module. It ends with this.
pub struct Knot {
    pub folder: TempDir,
    pub address: SocketAddr,
    process: Option<Child>,
    /// What it is run by, if by anything.
    runner: Vec<String>,
}

impl Knot {
    /// Starts one that serves these zones, from files. What is in `snapshot` is there before it starts.
    pub fn start(zones: &[&TestZone], snapshot: Option<&[u8]>) -> Knot {
        Knot::start_by(&[], KNOWN_DRAWS, zones, snapshot)
    }

    /// As [`Knot::start`], run by another program, and with this setting of the module.
    pub fn start_by(runner: &[&str], setting: &str, zones: &[&TestZone], snapshot: Option<&[u8]>) -> Knot {
        let mut knot = Knot {
            folder: tempfile::Builder::new().prefix("herald-so-").tempdir().unwrap(),
            address: free_address(),
            process: None,
            runner: runner.iter().map(|word| (*word).to_owned()).collect(),
        };
        for zone in zones {
            knot.write_zone(zone);
        }
        if let Some(snapshot) = snapshot {
            fs::write(knot.snapshot_file(), snapshot).unwrap();
        }
        fs::write(knot.file("knot.conf"), knot.config(zones, setting)).unwrap();
        fs::create_dir(knot.file("catalogs")).unwrap();
        knot.run();
        knot
    }

    fn config(&self, zones: &[&TestZone], setting: &str) -> String {
        let folder = self.folder.path().display();
        let mut text = format!(
            "server:\n    rundir: {folder}\n    listen: {}@{}\n    udp-workers: 2\n    tcp-workers: 1\n    \
             background-workers: 1\n    edns-client-subnet: on\n\
             database:\n    storage: {folder}/catalogs\n\
             log:\n  - target: stderr\n    any: info\n",
            self.address.ip(),
            self.address.port(),
        );
        let _ = write!(
            text,
            "module:\n  - id: mod-herald\n    file: {}\n\
             mod-herald:\n  - id: herald\n    socket: {folder}/herald.sock\n    snapshot: {folder}/snapshot\n    \
             pop: fra1\n    {setting}\n\
             template:\n  - id: default\n    storage: {folder}\n    global-module: mod-herald/herald\n    \
             module: mod-herald/herald\n    zonefile-load: whole\n    journal-content: none\nzone:\n",
            module_file().display(),
        );
        for zone in zones {
            let _ = writeln!(text, "  - domain: {}", zone.apex);
        }
        text
    }

    /// Starts it again, or for the first time, and waits until it answers.
    pub fn run(&mut self) {
        assert!(self.process.is_none());
        let _ = fs::remove_file(self.file("knot.pid"));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.file("log")).unwrap();
        let (program, arguments) = match self.runner.split_first() {
            Some((program, arguments)) => {
                (program.as_str(), [arguments, &["/usr/sbin/knotd".to_owned()]].concat())
            }
            None => ("/usr/sbin/knotd", Vec::new()),
        };
        let mut command = Command::new(program);
        command.args(arguments).arg("-c").arg(self.file("knot.conf")).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = command.spawn().expect("knotd");
        self.wait("knotd to answer", || {
            assert_eq!(process.try_wait().unwrap(), None, "knotd ended");
            Question::new("nobody.has.this.", "SOA").try_ask(self.address).is_some()
        });
        self.process = Some(process);
    }

    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Has it end as its operator would.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let told = Command::new("kill").arg(process.id().to_string()).status().unwrap();
        assert!(told.success());
        let status = process.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub fn knotc(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("/usr/sbin/knotc");
        command.arg("-s").arg(self.file("knot.sock")).args(arguments);
        let output = command.output().expect("knotc");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "knotc {arguments:?}: {text}\n{}", self.log());
        text
    }

    /// Has knotd load the zone's file anew, and waits until it has.
    pub fn reload_zone(&self, zone: &TestZone) {
        self.write_zone(zone);
        self.knotc(&["-b", "zone-reload", &zone.apex]);
    }

    pub fn write_zone(&self, zone: &TestZone) {
        let file = self.file(&format!("{}zone", zone.apex));
        fs::write(file, zone.file()).unwrap();
    }

    pub fn agent(&self) -> Agent {
        Agent::connect(&self.socket(), self)
    }

    pub fn ask(&self, name: &str, rtype: &str) -> Answer {
        Question::new(name, rtype).ask(self.address)
    }

    pub fn socket(&self) -> PathBuf {
        self.file("herald.sock")
    }

    pub fn snapshot_file(&self) -> PathBuf {
        self.file("snapshot")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// # Panics
    /// If it takes too long, with knotd's log.
    pub fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + WITHIN;
        while !is_so() {
            assert!(Instant::now() < until, "waited for {what} in vain\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What of its memory is in use, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("knotd's log:\n{}", self.log());
        }
    }
}

/// The library that Cargo built with this test: beside it, as no other is sure to be as new. `HERALD_SO` names another.
pub fn module_file() -> PathBuf {
    if let Some(file) = std::env::var_os("HERALD_SO") {
        return file.into();
    }
    let test = std::env::current_exe().unwrap();
    let file = test.parent().unwrap_or(Path::new("/")).join("libherald_so.so");
    assert!(file.exists(), "{} is missing", file.display());
    file
}

/// An address of this machine's loopback at which nobody listens, neither for datagrams nor for connections.
fn free_address() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
