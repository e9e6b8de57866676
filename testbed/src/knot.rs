//! Knot DNS as others run it: a secondary fed by transfers, or a server of zone files.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::dns::{self, Record, Transport};
use crate::loopback;
use crate::process::{Launch, Process};
use crate::wait::wait_until;

/// How long a knotd may take until it answers.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Transfers at a time, more than Knot would take of itself on few cores: a far primary's transfers wait, they don't
/// compute.
const BACKGROUND_WORKERS: u32 = 32;

/// A running knotd with a text configuration.
#[derive(Debug)]
pub struct Knot {
    /// Where it answers, over UDP and TCP.
    pub listen: SocketAddr,
    /// The guard of its process.
    pub process: Process,
}

impl Knot {
    /// A secondary of `primary` for `zones`, set up as Knot's manual has it: it transfers what it is notified of.
    /// It answers at `listen`.
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn secondary(
        folder: &Path,
        name: &str,
        listen: SocketAddr,
        primary: SocketAddr,
        zones: &[String],
    ) -> Self {
        let mut sections = format!(
            "remote:\n  - id: primary\n    address: {ip}@{port}\n\
             template:\n  - id: default\n    storage: {storage}\n    master: primary\n    acl: [notify, transfer]\n",
            ip = primary.ip(),
            port = primary.port(),
            storage = prepared(folder, name, "zones").display(),
        );
        sections.push_str("zone:\n");
        for zone in zones {
            let _ = writeln!(sections, "  - domain: {zone}");
        }
        Self::start(folder, name, listen, &sections)
    }

    /// A server of the given zone files: the reference that other servers' content is compared with.
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn of_files(folder: &Path, name: &str, zones: &[(String, String)]) -> Self {
        Self::of_files_at(folder, name, loopback::free_endpoint(), zones)
    }

    /// As [`Knot::of_files`], at an address that is known: also in the place of one that was there before.
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn of_files_at(folder: &Path, name: &str, listen: SocketAddr, zones: &[(String, String)]) -> Self {
        let storage = prepared(folder, name, "zones");
        let mut sections = format!(
            "template:\n  - id: default\n    storage: {}\n    acl: transfer\nzone:\n",
            storage.display()
        );
        for (index, (zone, content)) in zones.iter().enumerate() {
            let file = storage.join(format!("{index}.zone"));
            fs::write(&file, content).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let _ = writeln!(sections, "  - domain: {zone}\n    file: {index}.zone");
        }
        let knot = Self::start(folder, name, listen, &sections);
        let names: Vec<String> = zones.iter().map(|(zone, _)| zone.clone()).collect();
        knot.wait_for_zones(&names, START_WITHIN);
        knot
    }

    fn start(folder: &Path, name: &str, listen: SocketAddr, sections: &str) -> Self {
        let home = folder.join(name);
        let config = home.join("knot.conf");
        let text = format!(
            "server:\n    rundir: {run}\n    listen: {ip}@{port}\n    background-workers: {BACKGROUND_WORKERS}\n\
             database:\n    storage: {database}\n\
             log:\n  - target: stderr\n    any: warning\n\
             acl:\n  - id: transfer\n    address: 127.0.0.0/8\n    action: transfer\n  \
             - id: notify\n    address: 127.0.0.0/8\n    action: notify\n{sections}",
            run = prepared(folder, name, "run").display(),
            database = prepared(folder, name, "database").display(),
            ip = listen.ip(),
            port = listen.port(),
        );
        fs::write(&config, text).unwrap_or_else(|e| panic!("{}: {e}", config.display()));
        let process = Launch::new(name, "/usr/sbin/knotd", &home).arg("-c").arg(&config).start();
        let mut knot = Self { listen, process };
        wait_until(START_WITHIN, "knotd to answer", || {
            assert!(knot.process.is_running(), "knotd ended\n{}", knot.process.tail());
            dns::query(knot.listen, "a.zone.nobody.has.", "SOA", Transport::Tcp).is_ok()
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", knot.process.tail()));
        knot
    }

    /// Waits until it answers each zone's SOA.
    ///
    /// # Panics
    /// If that takes longer than `within`.
    pub fn wait_for_zones(&self, zones: &[String], within: Duration) {
        for zone in zones {
            wait_until(within, &format!("{zone} at {}", self.process.name()), || {
                dns::query(self.listen, zone, "SOA", Transport::Udp)
                    .is_ok_and(|answer| !answer.values("SOA").is_empty())
            })
            .unwrap_or_else(|e| panic!("{e}\n{}", self.process.tail()));
        }
    }

    /// The content of a zone, by AXFR.
    ///
    /// # Panics
    /// If it is refused.
    pub fn content(&self, zone: &str) -> BTreeSet<Record> {
        dns::transfer(self.listen, zone).unwrap_or_else(|e| panic!("{zone}: {e}\n{}", self.process.tail()))
    }
}

/// The zones that a knotd holds, read over its control socket, as zone files; `None` if it doesn't answer, or lacks one.
///
/// # Panics
/// If `knotc` can't be run.
pub fn zone_files_of(control_socket: &Path, zones: &[String]) -> Option<Vec<(String, String)>> {
    let read = |zone: &String| {
        let output = Command::new("/usr/sbin/knotc")
            .arg("--socket")
            .arg(control_socket)
            .args(["zone-read", zone])
            .output()
            .unwrap_or_else(|e| panic!("knotc can't be run: {e}"));
        let text = String::from_utf8_lossy(&output.stdout);
        // Each line begins with the zone's name in brackets.
        let records: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("] ")).map(|(_, record)| record).collect();
        let complete = output.status.success() && !records.is_empty();
        complete.then(|| (zone.clone(), records.join("\n") + "\n"))
    };
    zones.iter().map(read).collect()
}

fn prepared(folder: &Path, name: &str, part: &str) -> PathBuf {
    let path = folder.join(name).join(part);
    fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}
