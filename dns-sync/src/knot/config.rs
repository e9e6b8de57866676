//! The configuration file of a PoP's knotd, and the folders around it.
//!
//! Always a text file, never knotd's configuration database: with any shared module loaded, 3.2 crashes when a zone
//! is added there. Zones come from local catalog zones instead.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use herald_core::steering::Prefix;
use herald_core::{Name, digest128};

use super::catalog::{self, Catalogs};
use super::text;

/// How many catalog zones there are. With 100,000 zones, one more costs knotd 220 ms with one catalog, 134 ms with 16 and
/// 130 ms with 64: what is left is for all zones of the server, however they are listed.
const CATALOGS: u16 = 64;

/// Where knotd's warnings go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error of knotd, which is the supervisor's own or the journal.
    Stderr,
    /// A file.
    File(PathBuf),
}

/// How many responses by datagrams a network gets (knotd's mod-rrl). What is over is answered truncated: whoever is really there comes by TCP,
/// and to forged sources nothing is sent that is larger than what was forged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Responses a second to a network of 24 bits (IPv4) or 56 bits (IPv6).
    pub per_s: u32,
    /// Networks that it isn't for.
    pub except: Vec<Prefix>,
}

/// What a PoP's knotd is to be like.
#[derive(Debug, Clone)]
pub struct KnotConfig {
    /// Folder of everything below; made if missing. The control socket's path has to stay below 108 octets.
    pub base: PathBuf,
    /// Addresses to answer on. The first one that is not the wildcard address is probed; see
    /// [`KnotConfig::probe_address`].
    pub listen: Vec<SocketAddr>,
    /// `user` or `user:group` that knotd changes to; none keeps the caller's.
    pub user: Option<String>,
    /// The name below which the catalog zones are that list the served zones. knotd refuses every query for them, ours too.
    pub catalog: Name,
    /// How many catalog zones a knotd is started with.
    pub catalog_count: u16,
    /// Where warnings and errors go.
    pub log: LogTarget,
    /// UDP worker threads; none leaves it to knotd (one a CPU).
    pub udp_workers: Option<u16>,
    /// TCP worker threads; none leaves it to knotd.
    pub tcp_workers: Option<u16>,
    /// Threads that load zones; none leaves it to knotd.
    pub background_workers: Option<u16>,
    /// Our module for knotd; without it, zones with steering aren't served.
    pub module: Option<PathBuf>,
    /// Name of the PoP, as the module is told it: views and rules ask for it.
    pub pop: String,
    /// Whether draws follow from the ids of queries, so that tests know them.
    pub known_draws: bool,
    /// How many responses a network gets; none: as many as it asks for.
    pub rate_limit: Option<RateLimit>,
}

impl KnotConfig {
    /// A configuration with the catalog zones below `catalog.herald.invalid.` and knotd's own numbers of threads.
    pub fn new(base: impl Into<PathBuf>, listen: Vec<SocketAddr>) -> KnotConfig {
        KnotConfig {
            base: base.into(),
            listen,
            user: None,
            catalog: Name::parse("catalog.herald.invalid.").expect("a valid name"),
            catalog_count: CATALOGS,
            log: LogTarget::Stderr,
            udp_workers: None,
            tcp_workers: None,
            background_workers: None,
            module: None,
            pop: String::new(),
            known_draws: false,
            rate_limit: None,
        }
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.base.join("knot.conf")
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.rundir().join("knot.sock")
    }

    /// The PID file.
    pub fn pid_file(&self) -> PathBuf {
        self.rundir().join("knot.pid")
    }

    /// Folder of the zone files.
    pub fn zone_dir(&self) -> PathBuf {
        self.base.join("zones")
    }

    /// The catalogs that knotd is started with.
    pub fn catalogs(&self) -> Catalogs {
        Catalogs::numbered(&self.catalog, self.catalog_count)
    }

    /// Folder of the catalog zones' files.
    pub fn catalog_dir(&self) -> PathBuf {
        self.base.join("catalogs")
    }

    /// Where the first agents had their one catalog.
    pub fn old_catalog_file(&self) -> PathBuf {
        self.base.join("catalog.zone")
    }

    /// The socket at which the module is told what changes.
    pub fn module_socket(&self) -> PathBuf {
        self.rundir().join("herald.sock")
    }

    /// The file that the module starts with.
    pub fn module_snapshot(&self) -> PathBuf {
        self.base.join("steering.snapshot")
    }

    /// Where copies of the module are: one a content, so that a file that knotd has loaded never changes.
    fn module_dir(&self) -> PathBuf {
        self.base.join("modules")
    }

    /// Copies the module to a name of its content, takes away older copies, and gives the path.
    fn install_module(&self) -> io::Result<Option<PathBuf>> {
        let Some(module) = &self.module else { return Ok(None) };
        let bytes = fs::read(module)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", module.display())))?;
        let file_name = format!("herald-{:032x}.so", digest128(&bytes));
        let path = self.module_dir().join(&file_name);
        // Written anew each time: a copy that was cut off would keep knotd from starting for ever.
        let temporary = self.module_dir().join("herald.so.new");
        fs::write(&temporary, bytes)?;
        fs::rename(temporary, &path)?;
        for file in fs::read_dir(self.module_dir())?.flatten() {
            if *file.file_name() != *file_name {
                fs::remove_file(file.path())?;
            }
        }
        Ok(Some(path))
    }

    fn rundir(&self) -> PathBuf {
        self.base.join("run")
    }

    /// Folder of knotd's databases (catalog, timers, journal). None of them holds anything that is needed
    /// at the next start.
    fn database_dir(&self) -> PathBuf {
        self.base.join("db")
    }

    /// The address at which this machine asks knotd: the first one, by loopback where that is the wildcard.
    pub fn probe_address(&self) -> Option<SocketAddr> {
        let mut address = *self.listen.first()?;
        if address.ip().is_unspecified() {
            match address {
                SocketAddr::V4(_) => address.set_ip(std::net::Ipv4Addr::LOCALHOST.into()),
                SocketAddr::V6(_) => address.set_ip(std::net::Ipv6Addr::LOCALHOST.into()),
            }
        }
        Some(address)
    }

    /// The text of the configuration file, with the module in this file.
    pub fn render(&self, module: Option<&Path>) -> String {
        let mut out =
            String::from("# Written by koder-dns-sync at every start of knotd: changes are lost.\n");
        self.render_into(module, &mut out).expect("writing to a string can't fail");
        out
    }

    fn render_into(&self, module: Option<&Path>, out: &mut String) -> std::fmt::Result {
        writeln!(out, "server:")?;
        writeln!(out, "    rundir: {}", quoted(&self.rundir()))?;
        writeln!(out, "    pidfile: {}", quoted(&self.pid_file()))?;
        if let Some(user) = &self.user {
            writeln!(out, "    user: \"{user}\"")?;
        }
        for address in &self.listen {
            writeln!(out, "    listen: {}@{}", address.ip(), address.port())?;
        }
        let workers = [
            ("udp-workers", self.udp_workers),
            ("tcp-workers", self.tcp_workers),
            ("background-workers", self.background_workers),
        ];
        for (item, count) in workers.iter().filter_map(|(item, count)| Some((item, (*count)?))) {
            writeln!(out, "    {item}: {count}")?;
        }
        if module.is_some() {
            writeln!(out, "    edns-client-subnet: on")?;
        }

        writeln!(out, "control:\n    listen: {}", quoted(&self.control_socket()))?;

        // A transaction a change: one info line each would cost more than the change.
        writeln!(out, "log:")?;
        match &self.log {
            LogTarget::Stderr => writeln!(out, "  - target: stderr")?,
            LogTarget::File(path) => writeln!(out, "  - target: {}", quoted(path))?,
        }
        // Nothing of the control socket: the driver is told its errors, and removing what isn't there is none.
        writeln!(out, "    server: warning\n    zone: warning")?;

        writeln!(out, "database:\n    storage: {}", quoted(&self.database_dir()))?;

        if let Some(module) = module {
            writeln!(out, "module:\n  - id: mod-herald\n    file: {}", quoted(module))?;
            writeln!(out, "mod-herald:\n  - id: default")?;
            writeln!(out, "    socket: {}", quoted(&self.module_socket()))?;
            writeln!(out, "    snapshot: {}", quoted(&self.module_snapshot()))?;
            writeln!(out, "    pop: \"{}\"", self.pop)?;
            if self.known_draws {
                writeln!(out, "    known-draws: on")?;
            }
        }

        if let Some(RateLimit { per_s, except }) = &self.rate_limit {
            writeln!(out, "mod-rrl:\n  - id: default\n    rate-limit: {per_s}\n    slip: 1")?;
            if !except.is_empty() {
                let except: Vec<String> = except.iter().map(Prefix::to_string).collect();
                writeln!(out, "    whitelist: [ {} ]", except.join(", "))?;
            }
        }

        // The files are the state at start, and the control socket changes it. A journal would only slow
        // both down, and bring old content back.
        writeln!(out, "template:")?;
        for id in ["default", "member"] {
            writeln!(out, "  - id: {id}")?;
            writeln!(out, "    storage: {}", quoted(&self.zone_dir()))?;
            writeln!(out, "    file: \"{FILE_PATTERN}\"")?;
            writeln!(out, "    journal-content: none")?;
            writeln!(out, "    zonefile-load: whole")?;
            writeln!(out, "    zonefile-sync: -1")?;
            // Before ours, which counts what it does.
            if self.rate_limit.is_some() && id == "default" {
                writeln!(out, "    global-module: mod-rrl/default")?;
            }
            if module.is_some() {
                // Named twice: a global module is asked at a query's begin and end only, a zone's only in between.
                if id == "default" {
                    writeln!(out, "    global-module: mod-herald/default")?;
                }
                writeln!(out, "    module: mod-herald/default")?;
            }
        }

        writeln!(out, "zone:")?;
        for (index, name) in self.catalogs().names().iter().enumerate() {
            writeln!(out, "  - domain: \"{}\"", String::from_utf8_lossy(&text::name_text(name)))?;
            writeln!(out, "    file: {}", quoted(&self.catalog_dir().join(catalog::file_name(index))))?;
            writeln!(out, "    catalog-role: interpret\n    catalog-template: member")?;
        }
        Ok(())
    }

    fn dirs(&self) -> [PathBuf; 6] {
        let base = self.base.clone();
        [base, self.rundir(), self.database_dir(), self.zone_dir(), self.catalog_dir(), self.module_dir()]
    }

    /// Makes the folders, empties knotd's databases, copies the module and writes the configuration file. knotd must not be running.
    pub fn install(&self) -> io::Result<()> {
        // What the databases say could only be older than the files. The folder has to be there:
        // with a catalog and without it knotd 3.2 crashes at start.
        match fs::remove_dir_all(self.database_dir()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for dir in self.dirs() {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        }
        // knotd changes to its user before it reads zone files and makes its socket, its PID file and its databases. Its
        // group stays root's where none is given, so the folders have to be the user's own.
        if let Some(user) = &self.user
            && rustix::process::geteuid().is_root()
        {
            let (user, group) = find_user(user)?;
            for dir in self.dirs() {
                chown(dir, Some(user), Some(group))?;
            }
        }
        let temporary = self.base.join("knot.conf.new");
        fs::write(&temporary, self.render(self.install_module()?.as_deref()))?;
        fs::rename(temporary, self.config_file())
    }
}

/// The numbers of `user:group`, or of `user` and its own group.
fn find_user(user: &str) -> io::Result<(u32, u32)> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let (users, groups) = (fs::read_to_string("/etc/passwd")?, fs::read_to_string("/etc/group")?);
    let number = |fields: Option<Vec<&str>>, place: usize| fields?.get(place)?.parse().ok();
    let group = match group {
        None => number(account(&users, user), 3),
        Some(group) => number(account(&groups, group), 2),
    };
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "there is no such user or group for knotd");
    number(account(&users, user), 2).zip(group).ok_or_else(unknown)
}

/// The fields of an account in the text of passwd(5) or group(5).
fn account<'a>(accounts: &'a str, name: &str) -> Option<Vec<&'a str>> {
    accounts.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)
}

/// knotd's pattern of the file names: the zone name, `/` replaced by `_`, without the final dot.
const FILE_PATTERN: &str = "%s.zone";

/// The name of a zone's file as knotd makes it from the zone's name.
///
/// Two zones can share one: `/` (allowed in names of classless reverse zones) becomes `_`.
pub fn zone_file_name(zone: &Name) -> String {
    let mut name = String::with_capacity(zone.as_wire().len() + 8);
    for label in zone.labels() {
        for &octet in label {
            match octet {
                b'/' => name.push('_'),
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'*' => name.push(char::from(octet)),
                b'#' => name.push_str("\\035"),
                _ if octet.is_ascii_punctuation() => {
                    name.push('\\');
                    name.push(char::from(octet));
                }
                _ => {
                    let _ = write!(name, "\\{octet:03}");
                }
            }
        }
        name.push('.');
    }
    // The root's name is a dot that knotd takes away, too.
    name.pop();
    name.push_str(".zone");
    name
}

/// A path in quotes for the configuration file.
fn quoted(path: &Path) -> String {
    let mut out = String::from("\"");
    for c in path.to_string_lossy().chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
