//! The daemons of the project as guards: the control plane and its PoPs.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::api::Api;
use crate::dns::{self, Transport};
use crate::loopback;
use crate::process::{self, Launch, Memory, Process, cpu_s};
use crate::wait::wait_until;

/// How long the daemons may take to get ready.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How long the daemons may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A program of the workspace: it lies where this one does.
///
/// # Panics
/// If it was not built.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not built: cargo build --workspace"))
}

/// A control plane. It can be killed and started again on the same data and ports.
#[derive(Debug)]
pub struct Herald {
    /// Where its API is.
    pub api: SocketAddr,
    /// Where PoPs dial in.
    pub pops: SocketAddr,
    /// More arguments, for the next start.
    pub arguments: Vec<String>,
    /// What stands before its command, from the next start on.
    pub prefix: Vec<OsString>,
    /// What its environment has, from the next start on.
    pub environment: Vec<(String, OsString)>,
    folder: PathBuf,
    process: Option<Process>,
}

impl Herald {
    /// Starts one with its data in `folder`, on ports of its own.
    ///
    /// # Panics
    /// If it doesn't get ready.
    pub fn start(folder: &Path, environment: &[(&str, String)]) -> Self {
        Self::start_at(folder, environment, loopback::free_endpoint(), loopback::free_endpoint())
    }

    /// Starts one with its data in `folder`, on these ports.
    ///
    /// # Panics
    /// If it doesn't get ready.
    pub fn start_at(
        folder: &Path,
        environment: &[(&str, String)],
        api: SocketAddr,
        pops: SocketAddr,
    ) -> Self {
        fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), v.into())).collect();
        let (arguments, prefix, folder) = (Vec::new(), Vec::new(), folder.to_owned());
        let mut herald = Self { api, pops, arguments, prefix, folder, environment, process: None };
        herald.restart();
        herald
    }

    /// Starts it again after it was killed or stopped, and waits until it is ready.
    ///
    /// # Panics
    /// If it doesn't get ready.
    pub fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|said| panic!("herald ended\n{said}"));
    }

    /// As [`Herald::restart`], if it doesn't refuse.
    ///
    /// # Errors
    /// What it said before it ended.
    ///
    /// # Panics
    /// If it neither gets ready nor ends.
    pub fn try_restart(&mut self) -> Result<(), String> {
        let probe = Api::new(self.api, "");
        let process = self.launch();
        let mut has_ended = false;
        wait_until(START_WITHIN, "herald to be ready", || {
            has_ended = !process.is_running();
            has_ended || probe.try_call("GET", "//readyz", &[], None).is_ok_and(|reply| reply.status == 200)
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", process.tail()));
        if has_ended { Err(process.said()) } else { Ok(()) }
    }

    /// Starts it again and waits for nothing.
    pub fn launch(&mut self) -> &mut Process {
        self.kill();
        let mut launch = Launch::behind(&self.prefix, "herald", program("herald"), &self.folder)
            .arg("serve")
            .arg("--data")
            .arg(self.folder.join("data"))
            .args(["--listen".to_owned(), self.api.to_string()])
            .args(["--pop-listen".to_owned(), self.pops.to_string()])
            .args(&self.arguments);
        for (key, value) in &self.environment {
            launch = launch.env(key, value);
        }
        self.process.insert(launch.start())
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it as an operator would.
    ///
    /// # Errors
    /// If it doesn't stop.
    pub fn stop(&mut self) -> Result<(), String> {
        match self.process.take() {
            Some(mut process) => process.stop(STOP_WITHIN).map(drop),
            None => Ok(()),
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// How much memory it has.
    pub fn memory(&self) -> Memory {
        self.process.as_ref().map(Process::memory).unwrap_or_default()
    }

    /// How many seconds of CPU it has used since its start.
    pub fn cpu_s(&self) -> f64 {
        self.process.as_ref().map(|process| cpu_s(process.id())).unwrap_or_default()
    }

    /// Begins to measure its peak memory anew.
    pub fn forget_peak(&self) {
        if let Some(process) = &self.process {
            process.forget_peak();
        }
    }

    /// The end of its output, for messages.
    pub fn tail(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }

    /// The API with the operator's token.
    ///
    /// # Panics
    /// If the token wasn't written.
    pub fn operator(&self) -> Api {
        let file = self.data().join("operator.token");
        let token = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Api::new(self.api, token.trim())
    }

    /// Makes a tenant and gives the API with a token of it. Its limits are out of the way: what is measured and
    /// soaked is the platform, not what a customer is allowed.
    ///
    /// # Panics
    /// If that is refused.
    pub fn tenant(&self, name: &str) -> Api {
        let operator = self.operator();
        operator.post("/tenants", &json!({ "name": name })).expect(201);
        let much = 1_000_000_000;
        let limits = json!({
            "zones": much, "rrsets_per_zone": much, "records_per_zone": much, "records": much,
            "reads_per_s": much, "read_burst": much, "writes_per_s": much, "write_burst": much,
            "zone_file_bytes": 1 << 30,
        });
        operator.patch(&format!("/tenants/{name}"), &json!({ "limits": limits })).expect(200);
        let token =
            operator.post("/tokens", &json!({ "tenant": name, "description": "testbed" })).expect(201);
        Api::new(self.api, token["item"]["secret"].as_str().expect("the secret is shown once"))
    }

    /// Makes the default set of name servers.
    ///
    /// # Panics
    /// If that is refused.
    pub fn define_nameservers(&self) {
        let set = json!({
            "name": "default", "default": true, "rname": "hostmaster.dns.example.",
            "nameservers": ["ns1.dns.example.", "ns2.dns.example."],
        });
        self.operator().post("/nameserver-sets", &set).expect(201);
    }

    /// Makes a PoP and gives its secret.
    ///
    /// # Panics
    /// If that is refused.
    pub fn register_pop(&self, name: &str) -> String {
        let made = self.operator().post("/pops", &json!({ "name": name })).expect(201);
        made["item"]["secret"].as_str().expect("the secret is shown once").to_owned()
    }
}

/// A PoP: `koder-dns-sync` and the knotd that it supervises.
#[derive(Debug)]
pub struct Pop {
    /// Its name.
    pub name: String,
    /// Where its knotd answers.
    pub listen: SocketAddr,
    /// What stands before the agent's command, from the next start on.
    pub prefix: Vec<OsString>,
    folder: PathBuf,
    agent: Option<Process>,
}

impl Pop {
    /// Writes its configuration into `folder/name`; nothing is started. Its session is dialled to `dial`.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn set_up(folder: &Path, name: &str, secret: &str, dial: SocketAddr, listen: SocketAddr) -> Self {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let secret_file = folder.join("secret");
        let written = fs::File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&secret_file)
            .and_then(|mut file| std::io::Write::write_all(&mut file, secret.as_bytes()));
        written.unwrap_or_else(|e| panic!("{}: {e}", secret_file.display()));
        let config = format!(
            "pop = {name:?}\nsecret_file = {secret_file:?}\nherald = \"{dial}\"\ndata = {data:?}\n\
             stop_knot_on_exit = true\n\n\
             [knot]\nmode = \"supervise\"\nlisten = [\"{ip}@{port}\"]\n",
            data = folder,
            ip = listen.ip(),
            port = listen.port(),
        );
        let file = folder.join("agent.toml");
        fs::write(&file, config).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Self { name: name.to_owned(), listen, prefix: Vec::new(), folder, agent: None }
    }

    /// Changes its configuration, for the next start.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let file = self.config();
        let config = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        fs::write(&file, change(config)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("agent.toml")
    }

    /// The folder with its configuration, its replica and its knotd's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of its replica.
    pub fn replica(&self) -> PathBuf {
        self.folder.join("replica/replica.db")
    }

    /// The control socket of its knotd.
    pub fn control_socket(&self) -> PathBuf {
        self.folder.join("knot/run/knot.sock")
    }

    /// Starts it and waits until its knotd answers.
    ///
    /// # Panics
    /// If it doesn't.
    pub fn start(&mut self) {
        let listen = self.listen;
        let name = self.name.clone();
        let agent = self.launch();
        wait_until(START_WITHIN, &format!("{name} to answer"), || {
            assert!(agent.is_running(), "koder-dns-sync ended\n{}", agent.tail());
            dns::query(listen, "a.zone.nobody.has.", "SOA", Transport::Tcp).is_ok()
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", agent.tail()));
    }

    /// What the agent says of itself: for people, or as JSON.
    ///
    /// # Panics
    /// If it can't be asked.
    pub fn status(&self, arguments: &[&str]) -> Output {
        let words = self.prefix.iter().cloned().chain([program("koder-dns-sync").into_os_string()]);
        let words: Vec<OsString> = words.collect();
        Command::new(&words[0])
            .args(&words[1..])
            .args(["status", "--config"])
            .arg(self.config())
            .args(arguments)
            .output()
            .unwrap_or_else(|e| panic!("koder-dns-sync status: {e}"))
    }

    /// The status of the agent as text, errors included.
    pub fn status_text(&self) -> String {
        let output = self.status(&[]);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Starts the agent and waits for nothing.
    pub fn launch(&mut self) -> &mut Process {
        let launch = Launch::behind(&self.prefix, "koder-dns-sync", program("koder-dns-sync"), &self.folder)
            .args(["run", "--config"])
            .arg(self.config());
        self.agent.insert(launch.start())
    }

    /// `kill -9` of the agent alone; its knotd may go on.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// `kill -9` of knotd alone.
    ///
    /// # Panics
    /// If there is none.
    pub fn kill_knotd(&self) {
        assert!(!process::find("knotd", &self.folder).is_empty(), "{} has no knotd", self.name);
        process::kill_orphans("knotd", &self.folder);
    }

    /// Stops knotd as a debugger would, without its being told: it runs and does nothing. Or has it go on.
    ///
    /// # Panics
    /// If there is none.
    pub fn freeze_knotd(&self, is_frozen: bool) {
        let signal = if is_frozen { Signal::STOP } else { Signal::CONT };
        let knotds = process::find("knotd", &self.folder);
        assert!(!knotds.is_empty(), "{} has no knotd", self.name);
        for pid in knotds {
            kill_process(pid, signal).unwrap_or_else(|e| panic!("{}'s knotd: {e}", self.name));
        }
    }

    /// The process ids of its knotd: one, if all is well.
    pub fn knotds(&self) -> Vec<i32> {
        process::find("knotd", &self.folder).into_iter().map(|pid| pid.as_raw_nonzero().get()).collect()
    }

    /// `kill -9` of both.
    pub fn kill(&mut self) {
        self.kill_agent();
        process::kill_orphans("knotd", &self.folder);
    }

    /// Stops both as an operator would.
    ///
    /// # Errors
    /// If they don't stop.
    pub fn stop(&mut self) -> Result<(), String> {
        match self.agent.take() {
            Some(mut agent) => agent.stop(STOP_WITHIN).map(drop),
            None => Ok(()),
        }
    }

    /// Whether the agent runs.
    pub fn is_running(&mut self) -> bool {
        self.agent.as_mut().is_some_and(Process::is_running)
    }

    /// What the agent has said since it was started last.
    pub fn said(&self) -> String {
        self.agent.as_ref().map(Process::said).unwrap_or_default()
    }

    /// The end of the agent's output, for messages.
    pub fn tail(&self) -> String {
        self.agent.as_ref().map(Process::tail).unwrap_or_default()
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        self.kill();
    }
}
