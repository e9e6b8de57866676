//! Durable changes of one RRset by HTTP: Herald's `PUT …/rrsets/{name}/A` against PowerDNS' `PATCH …/zones/{zone}`.
//!
//! A shim counts both sides' syncs, so that "durable" is seen, not believed, and in one setting makes every
//! sync 5 ms slower, as on a network volume.

use std::io;
use std::time::Duration;

use serde_json::json;

use super::report::{Line, figure, percentile_ms};
use super::{Settings, Side, zones};
use crate::address_of;
use crate::herald::Herald;
use crate::load::{self, Outcome, Pace};
use crate::powerdns::{self, PowerDns};
use crate::scratch::Scratch;
use crate::shim::{SyncCounter, SyncShim};
use crate::{http, loopback};

const ZONES: u64 = 100;
/// Owner names in all zones of a setting.
const NAMES: u64 = 1000;
const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_secs(3);

/// In one zone, where changes of a peer that locks by zone stand in line, and once over all zones.
const SETTINGS: [Setting; 4] = [
    Setting { concurrency: 1, sync_ms: 0, zones: 1 },
    Setting { concurrency: 64, sync_ms: 0, zones: 1 },
    Setting { concurrency: 64, sync_ms: 0, zones: ZONES },
    Setting { concurrency: 64, sync_ms: 5, zones: 1 },
];

#[derive(Clone, Copy, Debug)]
struct Setting {
    /// Requests under way.
    concurrency: usize,
    /// Milliseconds added to each sync.
    sync_ms: u64,
    /// Zones that changes go to in turn.
    zones: u64,
}

/// Measures all settings, or those with many zones loaded.
pub fn run(settings: &Settings) -> Vec<Line> {
    match settings.zones {
        Some(zones) => loaded(zones),
        None => compared(settings.side),
    }
}

/// Against the peer.
fn compared(side: Side) -> Vec<Line> {
    let scratch = Scratch::new("bench-writes");
    let shim = SyncShim::build(scratch.path());
    let mut servers: Vec<Server> = Vec::new();
    for sync_ms in [0, 5] {
        if side.ours() {
            servers.push(Server::ours(&scratch, &shim, sync_ms));
        }
        if side.peer() {
            servers.push(Server::peer(&scratch, &shim, sync_ms));
        }
    }
    let measured = SETTINGS.map(|setting| {
        let (ours, peer) = take_turns(&mut servers, setting);
        line(setting, ours, peer)
    });
    measured.into()
}

/// Ours with many zones loaded against ours without.
fn loaded(zones_loaded: u64) -> Vec<Line> {
    let scratch = Scratch::new("bench-writes");
    let shim = SyncShim::build(scratch.path());
    let mut alone = Server::ours(&scratch, &shim, 0);
    alone.is_ours = false;
    let with = Server::loaded(&scratch, &shim, zones_loaded);
    let mut servers = [alone, with];
    let settings = SETTINGS.into_iter().filter(|setting| setting.sync_ms == 0);
    let measured = settings.map(|setting| {
        let (with, alone) = take_turns(&mut servers, setting);
        let mut line = line(setting, with, alone);
        line.goals.clear();
        if let Some(alone) = line.peer.take() {
            line.details.retain(|(key, _)| !key.starts_with("peer"));
            line.details.push(("unloaded", figure(Some(alone))));
            line.goal(
                ((if line.less_is_better { alone * 1.2 } else { alone * 0.8 }) * 1000.0).round() / 1000.0,
            );
        }
        line.setting.push(("loaded_zones", zones_loaded.into()));
        line
    });
    measured.collect()
}

/// All rounds of a setting: figures of ours and of the other side.
fn take_turns(servers: &mut [Server], setting: Setting) -> (Figures, Figures) {
    let mut ours = Figures::default();
    let mut other = Figures::default();
    for round in 0..ROUNDS {
        let mut turns: Vec<&mut Server> =
            servers.iter_mut().filter(|server| server.sync_ms == setting.sync_ms).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for server in turns {
            let figures = if server.is_ours { &mut ours } else { &mut other };
            server.measure(setting, figures);
        }
    }
    (ours, other)
}

fn line(setting: Setting, mut ours: Figures, mut peer: Figures) -> Line {
    let Setting { concurrency, sync_ms, zones } = setting;
    ours.latencies_us.sort_unstable();
    peer.latencies_us.sort_unstable();
    let alone = concurrency == 1;
    let p50 = |figures: &Figures| percentile_ms(&figures.latencies_us, 0.5);
    let p99 = |figures: &Figures| figure(percentile_ms(&figures.latencies_us, 0.99));
    let main = |figures: &Figures| if alone { p50(figures) } else { figures.rate_per_s() };
    let mut details = if alone {
        vec![("ours_per_s", figure(ours.rate_per_s())), ("peer_per_s", figure(peer.rate_per_s()))]
    } else {
        vec![("ours_p50_ms", figure(p50(&ours))), ("peer_p50_ms", figure(p50(&peer)))]
    };
    details.extend([
        ("ours_p99_ms", p99(&ours)),
        ("peer_p99_ms", p99(&peer)),
        ("ours_syncs_per_change", figure(ours.syncs_per_change())),
        ("peer_syncs_per_change", figure(peer.syncs_per_change())),
    ]);
    let mut line = Line {
        bench: "writes",
        unit: if alone { "ms at the median" } else { "changes/s" },
        less_is_better: alone,
        ours: main(&ours),
        peer: main(&peer),
        setting: vec![
            ("concurrency", concurrency.into()),
            ("sync_ms", sync_ms.into()),
            ("zones", zones.into()),
        ],
        details,
        goals: Vec::new(),
    };
    match (concurrency, sync_ms, zones) {
        (1, ..) => line.goal_ratio(4.0),
        (_, 0, 1) => {
            line.goal(10_000.0);
            line.goal_ratio(50.0);
        }
        (_, 0, _) => line.goal(10_000.0),
        _ => line.goal(5_000.0),
    }
    line
}

/// What one side did in all rounds of a setting.
#[derive(Debug, Default)]
struct Figures {
    latencies_us: Vec<u32>,
    elapsed: Duration,
    sync_count: u64,
}

impl Figures {
    fn add(&mut self, outcome: &Outcome, sync_count: u64) {
        self.latencies_us.extend(&outcome.latencies_us);
        self.elapsed += outcome.elapsed;
        self.sync_count += sync_count;
    }

    fn rate_per_s(&self) -> Option<f64> {
        let count = self.latencies_us.len() as f64;
        (count > 0.0).then(|| count / self.elapsed.as_secs_f64())
    }

    fn syncs_per_change(&self) -> Option<f64> {
        let count = self.latencies_us.len() as f64;
        (count > 0.0).then(|| self.sync_count as f64 / count)
    }
}

/// One side at one speed of syncing.
struct Server {
    is_ours: bool,
    sync_ms: u64,
    syncs: SyncCounter,
    changes: u64,
    kind: Kind,
}

enum Kind {
    Herald(Herald, String),
    PowerDns(PowerDns),
}

impl Server {
    fn ours(scratch: &Scratch, shim: &SyncShim, sync_ms: u64) -> Self {
        Self::named(&format!("herald-{sync_ms}"), scratch, shim, sync_ms, 0)
    }

    /// Ours, with so many zones besides those of the benchmark.
    fn loaded(scratch: &Scratch, shim: &SyncShim, zones_loaded: u64) -> Self {
        Self::named("herald-loaded", scratch, shim, 0, zones_loaded)
    }

    fn named(name: &str, scratch: &Scratch, shim: &SyncShim, sync_ms: u64, zones_loaded: u64) -> Self {
        let (environment, syncs) = shim.environment(name, sync_ms);
        let herald = Herald::start(&scratch.folder(name), &environment);
        herald.define_nameservers();
        let tenant = herald.tenant("bench");
        zones::make(&herald, &tenant, zones_loaded);
        for zone in 0..ZONES {
            tenant.post("/zones", &json!({ "name": zone_name(zone) })).expect(201);
        }
        let authorization = format!("Authorization: Bearer {}", tenant.token());
        let kind = Kind::Herald(herald, authorization);
        Self { is_ours: true, sync_ms, syncs, changes: 0, kind }
    }

    fn peer(scratch: &Scratch, shim: &SyncShim, sync_ms: u64) -> Self {
        let name = format!("peer-{sync_ms}");
        let (environment, syncs) = shim.environment(&name, sync_ms);
        let folder = scratch.folder(&name);
        let powerdns = PowerDns::start(&folder, loopback::free_endpoint(), &[], &environment);
        for zone in 0..ZONES {
            powerdns.create_zone(&zone_name(zone), &[]);
        }
        Self { is_ours: false, sync_ms, syncs, changes: 0, kind: Kind::PowerDns(powerdns) }
    }

    fn measure(&mut self, setting: Setting, figures: &mut Figures) {
        self.send(setting, WARM_UP);
        let before = self.syncs.count();
        let outcome = self.send(setting, MEASURED);
        figures.add(&outcome, self.syncs.count() - before);
    }

    fn send(&mut self, setting: Setting, duration: Duration) -> Outcome {
        let Setting { concurrency, zones, .. } = setting;
        let pace = Pace::Closed(duration);
        let outcome: io::Result<Outcome> = match &self.kind {
            Kind::Herald(herald, authorization) => {
                let api = herald.api;
                let requests = &mut |change: u64, step: usize, out: &mut Vec<u8>| {
                    let (zone, name) = owner(change, zones);
                    let path = format!("/api/v1/zones/{zone}/rrsets/{name}.{zone}/A");
                    let body = format!(r#"{{"ttl":300,"records":["{}"]}}"#, address_of(change));
                    if step == 0 {
                        out.extend(http::request("PUT", &path, api, authorization, &body));
                    }
                    step == 0
                };
                load::run(api, concurrency, pace, self.changes, requests, &|| false)
            }
            Kind::PowerDns(powerdns) => {
                let api = powerdns.api;
                let requests = &mut |change: u64, step: usize, out: &mut Vec<u8>| {
                    let (zone, name) = owner(change, zones);
                    if step == 0 {
                        out.extend(powerdns::set_address(api, &zone, &name, &address_of(change)));
                    }
                    step == 0
                };
                load::run(api, concurrency, pace, self.changes, requests, &|| false)
            }
        };
        let outcome = outcome.unwrap_or_else(|e| panic!("{e}\n{}", self.tail()));
        self.changes += outcome.latencies_us.len() as u64;
        outcome
    }

    fn tail(&self) -> String {
        match &self.kind {
            Kind::Herald(herald, _) => herald.tail(),
            Kind::PowerDns(powerdns) => powerdns.process.tail(),
        }
    }
}

fn zone_name(zone: u64) -> String {
    format!("zone{zone}.example.")
}

/// The zone and the owner name (relative) that a change is about: each change sets another value there.
fn owner(change: u64, zones: u64) -> (String, String) {
    (zone_name(change % zones), format!("host{}", change / zones % (NAMES / zones)))
}
