//! `./dev run`: the platform on this machine, to be played with; and its tour, made by itself.

mod places;
mod tour;

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::EXAMPLE_ZONE;
use crate::api::Api;
use crate::herald::{Herald, Pop, program};
use crate::platform::wait_for_answer;
use crate::scratch::Scratch;
use crate::wait::wait_until;

/// Where ports are looked for first: the API, PoPs' sessions, the first PoP's DNS.
const API_PORT: u16 = 8053;
const POPS_PORT: u16 = 8054;
const DNS_PORT: u16 = 5301;

/// Most PoPs on one machine.
pub const POPS_MOST: usize = 15;

/// How long the table of places may take to get to all PoPs.
const PLACES_WITHIN: Duration = Duration::from_secs(60);

/// How often the daemons are looked after.
const LOOK_AFTER_EVERY: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many PoPs, 1 to 15 [default: as many as there were, or 1]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=POPS_MOST as i64))]
    pops: Option<u8>,
    /// Make the tour, check every answer and stop; on a folder that vanishes unless --data is given
    #[arg(long)]
    once: bool,
    /// Where the state is kept [default: .dev]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs the platform until Ctrl-C, or makes the tour.
///
/// # Errors
/// In words, if something was not right.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let scratch = (arguments.once && arguments.data.is_none()).then(|| Scratch::new("once"));
    let data = scratch.as_ref().map(Scratch::path).or(arguments.data.as_deref()).unwrap_or(Path::new(".dev"));
    let mut site = Site::start(data, arguments.pops.map(usize::from))?;
    let outcome = if arguments.once {
        tour::make(&mut site)
    } else {
        site.introduce();
        site.look_after()
    };
    // Stopped in any case, and what went wrong first is told.
    let stopped = site.stop();
    outcome.and(stopped)
}

/// The platform as it runs here.
struct Site {
    plan: Plan,
    data: PathBuf,
    herald: Herald,
    pops: Vec<Pop>,
}

impl Site {
    fn start(data: &Path, pop_count: Option<usize>) -> Result<Self, String> {
        fs::create_dir_all(data).map_err(|e| format!("{}: {e}", data.display()))?;
        let data = data.canonicalize().map_err(|e| format!("{}: {e}", data.display()))?;
        let stored = Plan::load(&data)?;
        let mut plan = match &stored {
            Some(plan) => plan.clone(),
            None => Plan { api: free(API_PORT)?, pops_at: free(POPS_PORT)?, ..Plan::default() },
        };
        let herald = Herald::start_at(&data.join("herald"), &[], plan.api, plan.pops_at);
        if plan.token.is_empty() {
            herald.define_nameservers();
            herald.tenant("demo").token().clone_into(&mut plan.token);
            plan.store(&data)?;
        }
        let pop_count = pop_count.unwrap_or(plan.pops.len().max(1));
        while plan.pops.len() < pop_count {
            let name = format!("pop{}", plan.pops.len() + 1);
            let last_port = plan.pops.last().map_or(DNS_PORT - 1, |(_, listen)| listen.port());
            plan.pops.push((herald.register_pop(&name), free(last_port + 1)?));
            plan.store(&data)?;
        }
        let mut site = Self { plan, data, herald, pops: Vec::new() };
        site.start_pops(pop_count);
        if stored.is_none() {
            site.import_example()?;
            site.put_places()?;
        }
        site.write_environment()?;
        Ok(site)
    }

    /// Starts the first PoPs; the others of the plan are drained, so that nobody waits for them.
    fn start_pops(&mut self, count: usize) {
        let operator = self.herald.operator();
        for (index, (secret, listen)) in self.plan.pops.iter().enumerate() {
            let name = format!("pop{}", index + 1);
            operator.patch(&format!("/pops/{name}"), &json!({ "drained": index >= count })).expect(200);
            if index < count {
                let mut pop = Pop::set_up(&self.data, &name, secret, self.plan.pops_at, *listen);
                pop.start();
                self.pops.push(pop);
            }
        }
    }

    fn import_example(&self) -> Result<(), String> {
        let tenant = self.tenant();
        tenant.post("/zones", &json!({ "name": "example.com" })).expect(201);
        let reply = tenant.import("example.com", EXAMPLE_ZONE);
        if reply.status != 200 {
            return Err(format!("the example zone was not imported: {}", reply.text));
        }
        for pop in &self.pops {
            wait_for_answer(pop, "www.example.com.", "A", &["192.0.2.12"]);
        }
        Ok(())
    }

    /// The table of places comes to one PoP after the other: whoever is told what to type next finds it everywhere.
    fn put_places(&self) -> Result<(), String> {
        let operator = self.herald.operator();
        operator.put_file("/geoip/city", &places::city_database()).expect(200);
        wait_until(PLACES_WITHIN, "the table of places at all PoPs", || {
            let shown = operator.get("/geoip").expect(200);
            let mut pops = shown["pops"].as_array().into_iter().flatten();
            pops.all(|pop| pop["in_sync"] == true)
        })
        .map_err(|e| format!("{e}\n{}", self.herald.tail()))
    }

    fn tenant(&self) -> Api {
        Api::new(self.plan.api, &self.plan.token)
    }

    /// What makes `koder` and its login known to a shell.
    fn write_environment(&self) -> Result<(), String> {
        let koder = program("koder");
        let folder = koder.parent().unwrap_or(Path::new("/"));
        let text = format!(
            "export KODER_SERVER=http://{}\nexport KODER_TOKEN={}\nexport PATH=\"{}:$PATH\"\n",
            self.plan.api,
            self.plan.token,
            folder.display()
        );
        write_private(&self.data.join("env"), &text)
    }

    fn introduce(&self) {
        let dns = self.pops[0].listen;
        println!("Koder Herald runs; Ctrl-C stops it, and `./dev run` goes on where it was.\n");
        println!("  API      http://{}/api/v1", self.plan.api);
        println!("  token    {}   (tenant demo)", self.plan.token);
        println!("  operator {}", self.data.join("herald/data/operator.token").display());
        for pop in &self.pops {
            println!("  {:8} DNS at {}, UDP and TCP", pop.name, pop.listen);
        }
        println!("\nIn another terminal:\n");
        println!("  . {}", shown(&self.data.join("env")));
        println!("  koder dns record list example.com");
        println!("  kdig @{} -p {} www.example.com A +short", dns.ip(), dns.port());
        println!("  koder dns record set example.com www A 192.0.2.80 --ttl 60 --wait");
        println!("  kdig @{} -p {} www.example.com A +short", dns.ip(), dns.port());
        println!("  koder dns zone export example.com");
        println!("  koder dns steering import example.com testbed/assets/steering.yaml --wait");
        println!("  kdig @{} -p {} app.example.com A +short +subnet=192.0.2.0/24", dns.ip(), dns.port());
        println!("  koder dns explain app.example.com A --client 198.51.100.7\n");
    }

    /// Waits for Ctrl-C (or SIGTERM), or for a daemon to end by itself.
    fn look_after(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("no runtime: {e}"))?;
        runtime.block_on(async {
            let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
                return Err("signals can't be waited for".to_owned());
            };
            let mut look = tokio::time::interval(LOOK_AFTER_EVERY);
            loop {
                tokio::select! {
                    _ = interrupt.recv() => return Ok(()),
                    _ = terminate.recv() => return Ok(()),
                    _ = look.tick() => self.check()?,
                }
            }
        })
    }

    fn check(&mut self) -> Result<(), String> {
        if !self.herald.is_running() {
            return Err(format!("herald ended by itself\n{}", self.herald.tail()));
        }
        match self.pops.iter_mut().find_map(|pop| (!pop.is_running()).then(|| pop.tail())) {
            Some(tail) => Err(format!("koder-dns-sync ended by itself\n{tail}")),
            None => Ok(()),
        }
    }

    fn stop(&mut self) -> Result<(), String> {
        let pops: Vec<_> = self.pops.iter_mut().map(Pop::stop).collect();
        pops.into_iter().chain([self.herald.stop()]).collect()
    }
}

/// What is the same at every start on the same data.
#[derive(Clone, Debug)]
struct Plan {
    api: SocketAddr,
    pops_at: SocketAddr,
    /// The tenant's.
    token: String,
    /// By PoP: its secret, and where it answers.
    pops: Vec<(String, SocketAddr)>,
}

impl Default for Plan {
    fn default() -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self { api: nowhere, pops_at: nowhere, token: String::new(), pops: Vec::new() }
    }
}

impl Plan {
    fn load(data: &Path) -> Result<Option<Self>, String> {
        let file = data.join("plan.json");
        let text = match fs::read_to_string(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| format!("{}: {e}", file.display()))?,
        };
        let plan = serde_json::from_str(&text).ok().and_then(|json| Self::read(&json));
        plan.map(Some).ok_or_else(|| format!("{}: not a plan; remove {}", file.display(), data.display()))
    }

    fn read(json: &Value) -> Option<Self> {
        let address = |value: &Value| value.as_str()?.parse().ok();
        let pops = json["pops"].as_array()?.iter();
        Some(Self {
            api: address(&json["api"])?,
            pops_at: address(&json["pops_at"])?,
            token: json["token"].as_str()?.to_owned(),
            pops: pops
                .map(|pop| Some((pop["secret"].as_str()?.to_owned(), address(&pop["listen"])?)))
                .collect::<Option<_>>()?,
        })
    }

    fn store(&self, data: &Path) -> Result<(), String> {
        let pops: Vec<Value> = self
            .pops
            .iter()
            .map(|(secret, listen)| json!({ "secret": secret, "listen": listen.to_string() }))
            .collect();
        let json = json!({
            "api": self.api.to_string(), "pops_at": self.pops_at.to_string(),
            "token": self.token, "pops": pops,
        });
        write_private(&data.join("plan.json"), &format!("{json:#}\n"))
    }
}

/// The first endpoint on 127.0.0.1, from this port up, that is free for UDP and TCP.
fn free(from: u16) -> Result<SocketAddr, String> {
    (from..from.saturating_add(1000))
        .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        .find(|endpoint| TcpListener::bind(endpoint).is_ok() && UdpSocket::bind(endpoint).is_ok())
        .ok_or_else(|| format!("no port from {from} up is free"))
}

/// A path as one would type it here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

fn write_private(path: &Path, text: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path))
        .map_err(|e| format!("{}: {e}", path.display()))
}
