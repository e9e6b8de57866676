//! Name servers that steer, set up to answer what ours is asked: the same names, places and weights.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dns::{self, Transport};
use crate::loopback;
use crate::process::{Launch, Process};
use crate::wait::wait_until;

/// How long a peer may take until it answers.
const START_WITHIN: Duration = Duration::from_secs(60);

/// The zone that all serve.
pub const ZONE: &str = "steered.test.";

/// How many names of each kind there are in it.
pub const NAMES: usize = 100;

/// The n-th name of a kind: `geo`, `weight` and so on.
pub fn name(kind: &str, number: usize) -> String {
    format!("{kind}{number}.{ZONE}")
}

/// A place that a geo name has an answer of its own for.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Continent code.
    pub continent: &'static str,
    /// Country.
    pub country: &'static str,
    /// Subdivision, which gdnsd wants to know, and city; the whole country if none.
    pub city: Option<(&'static str, &'static str)>,
    /// The answer.
    pub address: &'static str,
}

const fn place(
    continent: &'static str,
    country: &'static str,
    city: Option<(&'static str, &'static str)>,
    address: &'static str,
) -> Place {
    Place { continent, country, city, address }
}

/// Places that geo names answer by; elsewhere it is [`ELSEWHERE`].
pub const PLACES: [Place; 6] = [
    place("EU", "DE", Some(("BE", "Berlin")), "192.0.2.1"),
    place("EU", "DE", None, "192.0.2.2"),
    place("NA", "US", Some(("NY", "New York")), "192.0.2.3"),
    place("NA", "US", None, "192.0.2.4"),
    place("AS", "JP", None, "192.0.2.5"),
    place("SA", "BR", None, "192.0.2.6"),
];

/// Answer of a geo name in other places.
pub const ELSEWHERE: &str = "192.0.2.100";

/// Addresses and weights of weighted names.
pub const WEIGHTS: [(&str, u32); 3] = [("192.0.2.11", 10), ("192.0.2.12", 20), ("192.0.2.13", 70)];

/// What each zone of them begins with.
pub const HEAD: &str = "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n";

/// A running peer.
#[derive(Debug)]
pub struct Peer {
    /// Where it answers.
    pub listen: SocketAddr,
    /// The guard of its process.
    pub process: Process,
}

/// A folder for a peer, made if it isn't there.
pub fn folder_of(folder: &Path, name: &str) -> PathBuf {
    let home = folder.join(name);
    fs::create_dir_all(&home).unwrap_or_else(|e| panic!("{}: {e}", home.display()));
    home
}

/// Writes a file of a peer's.
pub fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The peer, once it answers a name.
pub fn started(mut process: Process, listen: SocketAddr, probe: &str) -> Peer {
    wait_until(START_WITHIN, "a peer to answer", || {
        assert!(process.is_running(), "{} ended\n{}", process.name(), process.tail());
        dns::query(listen, probe, "A", Transport::Udp).is_ok_and(|answer| !answer.values("A").is_empty())
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", process.tail()));
    Peer { listen, process }
}

/// knotd with its own geoip module: one by country and city, one by weight.
pub fn knot_geoip(folder: &Path, city: &Path) -> Peer {
    let home = folder_of(folder, "mod-geoip");
    let listen = loopback::free_endpoint();
    let (mut geo, mut weighted, mut zone) = (String::new(), String::new(), HEAD.to_owned());
    for number in 0..NAMES {
        geo += &format!("{}:\n", name("geo", number));
        for Place { country, city, address, .. } in PLACES {
            let city = city.map_or("*", |(_, city)| city);
            geo += &format!("  - geo: \"{country};{city}\"\n    A: {address}\n");
        }
        geo += &format!("  - geo: \"*;*\"\n    A: {ELSEWHERE}\n");
        weighted += &format!("{}:\n", name("weight", number));
        for (address, weight) in WEIGHTS {
            weighted += &format!("  - weight: {weight}\n    A: {address}\n");
        }
        zone += &format!("geo{number} A {ELSEWHERE}\nweight{number} A {ELSEWHERE}\n");
    }
    write(&home.join("geo.conf"), &geo);
    write(&home.join("weight.conf"), &weighted);
    write(&home.join("steered.zone"), &zone);
    let config = format!(
        "server:\n    rundir: {home}\n    listen: {ip}@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    \
         edns-client-subnet: on\n\
         database:\n    storage: {home}/db\nlog:\n  - target: stderr\n    any: warning\n\
         mod-geoip:\n  - id: geo\n    config-file: {home}/geo.conf\n    ttl: 60\n    mode: geodb\n    \
         geodb-file: {city}\n    geodb-key: [ country/iso_code, city/names/en ]\n  \
         - id: weight\n    config-file: {home}/weight.conf\n    ttl: 60\n    mode: weighted\n\
         zone:\n  - domain: {ZONE}\n    file: {home}/steered.zone\n    module: [ mod-geoip/geo, mod-geoip/weight ]\n",
        home = home.display(),
        ip = listen.ip(),
        port = listen.port(),
        city = city.display(),
    );
    write(&home.join("knot.conf"), &config);
    let launch = Launch::new("mod-geoip", "/usr/sbin/knotd", &home);
    started(launch.arg("-c").arg(home.join("knot.conf")).start(), listen, &name("geo", 0))
}

/// gdnsd with its weighted and its geoip plugin.
pub fn gdnsd(folder: &Path, city: &Path) -> Peer {
    let home = folder_of(folder, "gdnsd");
    let listen = loopback::free_endpoint();
    for sub in ["zones", "geoip", "run", "state"] {
        folder_of(&home, sub);
    }
    let mut zone = HEAD.to_owned();
    for number in 0..NAMES {
        zone += &format!("geo{number} 60 DYNA geoip!places\nweight{number} 60 DYNA weighted!weights\n");
    }
    write(&home.join("zones/steered.test"), &zone);
    let mut weights = String::new();
    for (place, (address, weight)) in WEIGHTS.iter().enumerate() {
        weights += &format!("w{place} = [ {address}, {weight} ] ");
    }
    let (mut datacenters, mut centres, mut map) = (String::from("else"), String::new(), String::new());
    for (number, place) in PLACES.iter().enumerate() {
        datacenters += &format!(", p{number}");
        centres += &format!("p{number} = {{ addrs_v4 = {{ a = {} }}, service_types = up }} ", place.address);
        map += &match place.city {
            // Each city comes right before its country.
            Some((subdivision, city)) => format!(
                "{} => {{ {} => {{ {subdivision} => {{ \"{city}\" => [p{number}] }}, ",
                place.continent, place.country
            ),
            None if number > 0 && PLACES[number - 1].city.is_some() => {
                format!("default => [p{number}] }}, default => [else] }}, ")
            }
            None => {
                format!("{} => {{ {} => [p{number}], default => [else] }}, ", place.continent, place.country)
            }
        };
    }
    map += "default => [else]";
    let config = format!(
        "options => {{ listen => [ {ip}:{port} ] udp_threads => 1 tcp_threads => 1 \
         run_dir => {home}/run state_dir => {home}/state zones_default_ttl => 60 }}\n\
         plugins => {{\n  weighted => {{ service_types => up weights => {{ multi => false {weights} }} }}\n  \
         geoip => {{ maps => {{ m => {{ geoip2_db => {city} datacenters => [ {datacenters} ] \
         map => {{ {map} }} }} }}\n    \
         resources => {{ places => {{ map => m dcmap => {{ else => {{ addrs_v4 => {{ a => {ELSEWHERE} }} \
         service_types => up }} {centres} }} }} }} }}\n}}\n",
        ip = listen.ip(),
        port = listen.port(),
        home = home.display(),
        city = city.display(),
    );
    write(&home.join("config"), &config);
    let launch = Launch::new("gdnsd", "/usr/sbin/gdnsd", &home);
    started(launch.arg("-c").arg(&home).arg("start").start(), listen, &name("weight", 0))
}

/// PowerDNS with Lua records.
pub fn powerdns_lua(folder: &Path) -> Peer {
    let choices: Vec<String> =
        WEIGHTS.iter().map(|(address, weight)| format!("{{{weight}, '{address}'}}")).collect();
    let mut records = String::new();
    for number in 0..NAMES {
        records += &format!("weight{number} 60 LUA A \"pickwrandom({{{}}})\"\n", choices.join(", "));
    }
    powerdns(&folder_of(folder, "powerdns-lua"), &records, "", &name("weight", 0))
}

/// PowerDNS with these records in the zone, and what else its configuration is to say.
pub fn powerdns(home: &Path, records: &str, more: &str, probe: &str) -> Peer {
    let listen = loopback::free_endpoint();
    write(&home.join("steered.zone"), &format!("$ORIGIN {ZONE}\n{HEAD}{records}"));
    write(
        &home.join("named.conf"),
        &format!("zone \"{ZONE}\" {{ type master; file \"{}/steered.zone\"; }};\n", home.display()),
    );
    let config = format!(
        "launch=bind\nbind-config={home}/named.conf\nlocal-address={ip}\nlocal-port={port}\n\
         enable-lua-records=yes\nreceiver-threads=1\ndistributor-threads=1\nloglevel=3\nsecurity-poll-suffix=\n\
         socket-dir={home}\ndaemon=no\nguardian=no\nwrite-pid=no\n{more}",
        home = home.display(),
        ip = listen.ip(),
        port = listen.port(),
    );
    write(&home.join("pdns.conf"), &config);
    let launch = Launch::new("powerdns-lua", "/usr/sbin/pdns_server", home);
    started(launch.arg(format!("--config-dir={}", home.display())).start(), listen, probe)
}
