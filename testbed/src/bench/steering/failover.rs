//! From an endpoint that dies to the answer without it: at the last of three PoPs, and at name servers that probe by themselves.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::peers::{self, Peer};
use crate::bench::Settings;
use crate::bench::open_loop::POPS;
use crate::bench::report::{Line, figure, percentile_ms};
use crate::dns::{self, Transport};
use crate::endpoint::Endpoint;
use crate::loopback;
use crate::observe::{Expected, Watched, observe};
use crate::platform::Platform;
use crate::process::Launch;
use crate::wait::wait_until;

/// How often the endpoint dies.
const RUNS: usize = 50;

/// The endpoint, and the one that answers in its place.
const MAIN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SPARE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The zone of ours.
const ZONE: &str = "failover.example.";

/// The name that peers steer, in [`peers::ZONE`].
const PEERS_NAME: &str = "www.steered.test.";

/// How long a change may take until it is given up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Measures. A number of zones is taken for a number of runs.
///
/// # Panics
/// If something is refused, or doesn't come to stand.
pub fn run(settings: &Settings) -> Vec<Line> {
    let runs = settings.zones.map_or(RUNS, |runs| usize::try_from(runs).expect("few"));
    let platform = Platform::start("bench-failover", POPS);
    let main = Endpoint::start((MAIN, 0).into());
    let port = main.address.port();
    let _spare = Endpoint::start((SPARE, port).into());
    let rules = json!({ "allowed": ["127.0.0.0/8"], "refused": [] });
    platform.herald.operator().put("/probe-rules", &rules).expect(200);
    platform.create_zone(ZONE);
    platform.wait_until_in_sync();
    let folder = platform.folder("peers");
    let peers =
        if settings.side.peer() { vec![gdnsd(&folder, port), powerdns(&folder, port)] } else { vec![] };
    let ours: Vec<SocketAddr> = platform.pops.iter().map(|pop| pop.listen).collect();

    let mut main = Some(main);
    let mut took_us: Vec<Vec<u32>> = vec![Vec::new(); 1 + peers.len()];
    for number in 0..runs {
        let endpoint = main.take().unwrap_or_else(|| Endpoint::start((MAIN, port).into()));
        let owner = format!("www{number}.{ZONE}");
        let monitor = make_monitored(&platform, number, port);
        let watched: Vec<(&[SocketAddr], &str)> = std::iter::once((&ours[..], &owner[..]))
            .chain(peers.iter().map(|peer| (std::slice::from_ref(&peer.listen), PEERS_NAME)))
            .collect();
        for (servers, name) in &watched {
            wait_for_answer(servers, name, MAIN);
        }
        // Probes are under way; where between two of them the endpoint dies is drawn.
        std::thread::sleep(Duration::from_millis(number as u64 * 619 % 1_000));
        let since = Instant::now();
        drop(endpoint);
        for (took_us, took) in took_us.iter_mut().zip(watch(&watched, since)) {
            took_us.push(took.map_or(u32::MAX, |took| u32::try_from(took.as_micros()).unwrap_or(u32::MAX)));
        }
        platform.tenant.delete(&format!("/zones/{ZONE}/policies/www{number}/A")).expect(200);
        platform.tenant.delete(&format!("/zones/{ZONE}/pools/main{number}")).expect(200);
        platform.tenant.delete(&format!("/monitors/{monitor}")).expect(200);
    }
    took_us.iter_mut().for_each(|took_us| took_us.sort_unstable());
    lines(&took_us)
}

fn lines(took_us: &[Vec<u32>]) -> Vec<Line> {
    let line = |peer: usize, beside: &'static str| {
        let (ours, theirs) = (&took_us[0], took_us.get(peer).filter(|_| peer > 0));
        let mut line = Line {
            bench: "failover",
            unit: "ms at the 99th percentile",
            less_is_better: true,
            ours: percentile_ms(ours, 0.99),
            peer: theirs.and_then(|took_us| percentile_ms(took_us, 0.99)),
            setting: vec![("interval_s", 1.into()), ("beside", beside.into())],
            details: vec![
                ("ours_median_ms", figure(percentile_ms(ours, 0.5))),
                ("peer_median_ms", figure(theirs.and_then(|took_us| percentile_ms(took_us, 0.5)))),
                ("runs", ours.len().into()),
            ],
            goals: Vec::new(),
        };
        line.goal(2_500.0);
        line
    };
    match took_us.len() {
        1 => vec![line(0, "nobody")],
        _ => vec![
            line(1, "gdnsd, every 2 s (its least), down after 2"),
            line(2, "PowerDNS ifurlup, down after 1"),
        ],
    }
}

/// Makes a monitor, and a name that goes by it; the monitor's id, once there is a verdict on it. It is another one for each run: one that
/// goes down again and again comes back later and later.
fn make_monitored(platform: &Platform, number: usize, port: u16) -> Value {
    let tenant = &platform.tenant;
    let monitor = json!({
        "name": format!("main{number}"),
        "check": { "kind": "http", "target": MAIN, "port": port },
        "pace": { "interval_ms": 1000, "timeout_ms": 500, "fall": 2, "rise": 1 },
    });
    let made: Value = tenant.post("/monitors", &monitor).expect(201);
    let id = made["item"]["id"].clone();
    let pool = |address: Ipv4Addr, monitor: Option<&Value>| {
        let mut endpoint = json!({ "name": "one", "records": { "A": [address] } });
        if let Some(monitor) = monitor {
            endpoint["monitor"] = monitor.clone();
        }
        json!({ "ttl": 5, "endpoints": [endpoint] })
    };
    if number == 0 {
        tenant.put(&format!("/zones/{ZONE}/pools/spare"), &pool(SPARE, None)).expect(201);
    }
    tenant.put(&format!("/zones/{ZONE}/pools/main{number}"), &pool(MAIN, Some(&id))).expect(201);
    let policy = json!({ "rules": [{ "pools": [format!("main{number}"), "spare"] }] });
    tenant.put(&format!("/zones/{ZONE}/policies/www{number}/A"), &policy).expect(201);
    wait_until(GIVE_UP, "a verdict", || {
        let shown: Value = tenant.get(&format!("/monitors/{id}")).expect(200);
        shown["state"] == "up"
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()));
    id
}

fn wait_for_answer(servers: &[SocketAddr], name: &str, address: Ipv4Addr) {
    for server in servers {
        wait_until(GIVE_UP, &format!("{name} at {server}"), || {
            dns::query(*server, name, "A", Transport::Udp)
                .is_ok_and(|answer| answer.values("A") == [address.to_string()])
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
}

/// How long it takes until all servers of a group answer with the spare endpoint; none if they don't.
fn watch(groups: &[(&[SocketAddr], &str)], since: Instant) -> Vec<Option<Duration>> {
    let one = |servers: &[SocketAddr], name: &str| {
        let watched: Vec<Watched> =
            servers.iter().map(|&server| Watched { server, no_sooner: Duration::ZERO }).collect();
        let (sender, receiver) = channel();
        let expected = Expected { since, name: name.to_owned(), value: SPARE };
        sender.send(expected).expect("the receiver is here");
        drop(sender);
        let seen = observe(&watched, &receiver, GIVE_UP).expect("loopback works");
        seen.first().filter(|seen| seen.len() == servers.len()).and_then(|seen| seen.last().copied())
    };
    std::thread::scope(|scope| {
        let watching: Vec<_> =
            groups.iter().map(|(servers, name)| scope.spawn(|| one(servers, name))).collect();
        watching.into_iter().map(|watching| watching.join().expect("it doesn't panic")).collect()
    })
}

/// gdnsd: the endpoint is down after two probes that fail, one each two seconds, which is the least that it takes.
fn gdnsd(folder: &Path, port: u16) -> Peer {
    let home = peers::folder_of(folder, "gdnsd");
    let listen = loopback::free_endpoint();
    for sub in ["zones", "run", "state"] {
        peers::folder_of(&home, sub);
    }
    peers::write(&home.join("zones/steered.test"), &format!("{}www 5 DYNA simplefo!www\n", peers::HEAD));
    let config = format!(
        "options => {{ listen => [ {ip}:{dns_port} ] udp_threads => 1 tcp_threads => 1 \
         run_dir => {home}/run state_dir => {home}/state zones_default_ttl => 5 }}\n\
         service_types => {{ web => {{ plugin => http_status port => {port} url_path => / interval => 2 timeout => 1 \
         up_thresh => 1 ok_thresh => 1 down_thresh => 2 }} }}\n\
         plugins => {{ simplefo => {{ www => {{ primary => {MAIN} secondary => {SPARE} service_types => web }} }} }}\n",
        ip = listen.ip(),
        dns_port = listen.port(),
        home = home.display(),
    );
    peers::write(&home.join("config"), &config);
    let launch = Launch::new("gdnsd", "/usr/sbin/gdnsd", &home);
    peers::started(launch.arg("-c").arg(&home).arg("start").start(), listen, PEERS_NAME)
}

/// PowerDNS, whose Lua records probe by themselves: the endpoint is down after one probe that fails.
fn powerdns(folder: &Path, port: u16) -> Peer {
    let home = peers::folder_of(folder, "powerdns");
    let url = format!("http://{}:{port}/", PEERS_NAME.trim_end_matches('.'));
    let record =
        format!("www 5 LUA A \"ifurlup('{url}', {{{{'{MAIN}'}}, {{'{SPARE}'}}}}, {{timeout=1}})\"\n");
    peers::powerdns(&home, &record, "lua-health-checks-interval=1\n", PEERS_NAME)
}
