//! From a request to the new answer at the last of three PoPs, in an open loop: a change's time runs from when it
//! was due, so that waiting in line counts.
//!
//! The peer is DNS' own way: PowerDNS' API → NOTIFY (asked for with each change) → IXFR → three Knots. In the second
//! setting one PoP is far away and busy with a big zone; the peer's far Knot is spared that zone, and the delay of
//! NOTIFYs.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::open_loop::{Figures, GIVE_UP, POPS, Run};
use super::report::{Line, figure, percentile_ms};
use super::{Settings, Side, zones};
use crate::address_of;
use crate::chain::Chain;
use crate::dns::{self, Transport};
use crate::observe::Seen;
use crate::platform::Platform;
use crate::scratch::Scratch;
use crate::wait::wait_until;
use crate::{http, powerdns};

const ZONES: u64 = 100;

/// The first setting: this many changes in as many rounds.
const CHANGES: u64 = 500;
const ROUNDS: u64 = 2;
const CHANGES_PER_S: u32 = 50;

/// The second setting.
const ONE_WAY: Duration = Duration::from_millis(150);
const FAR_CHANGES_PER_S: u32 = 500;
const FAR_CHANGES_MOST: u64 = 10_000;
const BULK_ZONE: &str = "bulk.example.";
const BULK_RECORDS: u64 = 1_000_000;
const BULK_WITHIN: Duration = Duration::from_secs(300);
/// The peer's, far away: as many changes as in the first setting.
const FAR_PEER_CHANGES: u64 = CHANGES;

/// The settings with many zones loaded: so many zones are made a second while propagation is measured.
const MADE_PER_S: u32 = 20;

/// Measures all settings, or those with many zones loaded.
pub fn run(settings: &Settings) -> Vec<Line> {
    match settings.zones {
        Some(zones) => loaded(zones),
        None => vec![near(settings.side), far(settings.side)],
    }
}

// ------------------------------------------------------------------------------------------- settings

/// Three PoPs at no distance.
fn near(side: Side) -> Line {
    let scratch = Scratch::new("bench-propagation");
    let herald = side.ours().then(|| Ours::start(CHANGES / ZONES, None));
    let chain = side
        .peer()
        .then(|| Chain::start(&scratch.folder("peer"), &changed_zones(CHANGES / ZONES), POPS, None));
    let (mut ours, mut peer) = (Figures::default(), Figures::default());
    for round in 0..ROUNDS {
        let run = Run {
            first_change: round * CHANGES / ROUNDS,
            count: CHANGES / ROUNDS,
            per_s: CHANGES_PER_S,
            far: Duration::ZERO,
        };
        if let Some(herald) = &herald {
            ours.add(herald.measure(&run, &|| false));
        }
        if let Some(chain) = &chain {
            peer.add(measure_chain(chain, &run));
        }
    }
    let mut line = line(ours, peer, Duration::ZERO, CHANGES_PER_S);
    line.goal(5.0);
    line.goal_detail("ours_p99_ms", 25.0);
    line.goal_ratio(100.0);
    line
}

/// Three PoPs at no distance, without and with many zones loaded, and then while more of them are made.
fn loaded(zones_loaded: u64) -> Vec<Line> {
    let run = Run { first_change: 0, count: CHANGES, per_s: CHANGES_PER_S, far: Duration::ZERO };
    let alone = {
        let herald = Ours::start(CHANGES / ZONES, None);
        figures_of(herald.measure(&run, &|| false))
    };
    let platform = zones::platform("bench-propagation", POPS, zones_loaded);
    let ours = Ours::on(platform, CHANGES / ZONES);
    let with = figures_of(ours.measure(&run, &|| false));
    let again = Run { first_change: CHANGES, ..run };
    let done = AtomicBool::new(false);
    let meanwhile = thread::scope(|scope| {
        let made = scope.spawn(|| zones::make_meanwhile(&ours.0, zones_loaded, MADE_PER_S, &done));
        let figures = figures_of(ours.measure(&again, &|| false));
        done.store(true, Ordering::SeqCst);
        made.join().expect("zones are made");
        figures
    });
    let p50_alone_ms = percentile_ms(&alone.last_us, 0.5);
    let p99_alone_ms = percentile_ms(&alone.last_us, 0.99);
    let settings = [(alone, 0, 0), (with, zones_loaded, 0), (meanwhile, zones_loaded, MADE_PER_S)];
    let lines = settings.map(|(figures, zones, made_per_s)| {
        let mut line = line(figures, Figures::default(), Duration::ZERO, CHANGES_PER_S);
        line.setting.extend([("loaded_zones", zones.into()), ("zones_made_per_s", made_per_s.into())]);
        if zones > 0 && made_per_s == 0 {
            line.details.push(("unloaded_p50_ms", figure(p50_alone_ms)));
            line.details.push(("unloaded_p99_ms", figure(p99_alone_ms)));
            line.goal((p50_alone_ms.unwrap_or(0.0) * 1.2 * 1000.0).round() / 1000.0);
        }
        line.goal_detail("ours_p99_ms", 25.0);
        line
    });
    lines.into()
}

fn figures_of(seen: Vec<Seen>) -> Figures {
    let mut figures = Figures::default();
    figures.add(seen);
    figures.sort();
    figures
}

/// One PoP 150 ms away, which is being sent a big zone.
fn far(side: Side) -> Line {
    let scratch = Scratch::new("bench-propagation-far");
    let mut ours = Figures::default();
    if side.ours() {
        let mut platform = Ours::start(FAR_CHANGES_MOST / ZONES, Some(ONE_WAY));
        let far = platform.send_bulk_to_far();
        let done = AtomicBool::new(false);
        let run = Run { first_change: 0, count: FAR_CHANGES_MOST, per_s: FAR_CHANGES_PER_S, far: ONE_WAY };
        thread::scope(|scope| {
            scope.spawn(|| {
                let arrived = wait_until(BULK_WITHIN, "the big zone", || answers_bulk(far));
                done.store(true, Ordering::SeqCst);
                arrived.expect("the big zone arrives at the far PoP");
            });
            ours.add(platform.measure(&run, &|| done.load(Ordering::SeqCst)));
        });
    }
    let mut peer = Figures::default();
    if side.peer() {
        let zones = changed_zones(FAR_PEER_CHANGES / ZONES);
        let chain = Chain::start(&scratch.folder("peer"), &zones, POPS, Some(ONE_WAY));
        let run = Run { first_change: 0, count: FAR_PEER_CHANGES, per_s: CHANGES_PER_S, far: ONE_WAY };
        peer.add(measure_chain(&chain, &run));
    }
    let mut line = line(ours, peer, ONE_WAY, FAR_CHANGES_PER_S);
    line.setting.push(("peer_changes_per_s", CHANGES_PER_S.into()));
    line.goal(ONE_WAY.as_secs_f64() * 1000.0 + 10.0);
    line
}

fn line(mut ours: Figures, mut peer: Figures, one_way: Duration, per_s: u32) -> Line {
    let rtt_ms = one_way.as_millis() as u64 * 2;
    ours.sort();
    peer.sort();
    let mut details = vec![
        ("ours_p99_ms", figure(percentile_ms(&ours.last_us, 0.99))),
        ("peer_p99_ms", figure(percentile_ms(&peer.last_us, 0.99))),
        ("ours_changes", ours.last_us.len().into()),
        ("peer_changes", peer.last_us.len().into()),
        ("ours_unseen", ours.unseen.into()),
        ("peer_unseen", peer.unseen.into()),
    ];
    if !one_way.is_zero() {
        details.extend([
            ("ours_near_p50_ms", figure(percentile_ms(&ours.near_us, 0.5))),
            ("ours_near_p99_ms", figure(percentile_ms(&ours.near_us, 0.99))),
            ("peer_near_p50_ms", figure(percentile_ms(&peer.near_us, 0.5))),
        ]);
    }
    Line {
        bench: "propagation",
        unit: "ms at the median",
        less_is_better: true,
        ours: percentile_ms(&ours.last_us, 0.5),
        peer: percentile_ms(&peer.last_us, 0.5),
        setting: vec![("rtt_ms", rtt_ms.into()), ("changes_per_s", per_s.into())],
        details,
        goals: Vec::new(),
    }
}

// ----------------------------------------------------------------------------------------- both sides

fn measure_chain(chain: &Chain, run: &Run) -> Vec<Seen> {
    let api = chain.primary.api;
    let servers: Vec<SocketAddr> = chain.secondaries.iter().map(|knot| knot.listen).collect();
    let request = |change: u64, step: usize, out: &mut Vec<u8>| {
        let (zone, name) = owner(change);
        match step {
            0 => out.extend(powerdns::set_address(api, &zone, &name, &address_of(change))),
            1 => out.extend(powerdns::notify(api, &zone)),
            _ => return false,
        }
        true
    };
    run.measure(api, &servers, arrival, request, &|| false)
        .unwrap_or_else(|e| panic!("{e}\n{}", chain.primary.process.tail()))
}

/// Where a change is looked for.
fn arrival(change: u64) -> (String, Ipv4Addr) {
    let (zone, name) = owner(change);
    (format!("{name}.{zone}"), address_of(change).parse().expect("an address"))
}

/// Zones with the records that changes will set.
fn changed_zones(names_a_zone: u64) -> Vec<(String, Vec<(String, String)>)> {
    let records = |_| (0..names_a_zone).map(|name| (format!("host{name}"), "192.0.2.1".to_owned())).collect();
    (0..ZONES).map(|zone| (format!("zone{zone}.example."), records(zone))).collect()
}

/// The zone and the owner name (relative) that a change is about: no two of a run are about the same.
fn owner(change: u64) -> (String, String) {
    (format!("zone{}.example.", change % ZONES), format!("host{}", change / ZONES))
}

// ----------------------------------------------------------------------------------------------- ours

/// A platform with the zones of a run; the last PoP is far away if that is asked for.
struct Ours(Platform);

impl Ours {
    fn start(names_a_zone: u64, far: Option<Duration>) -> Self {
        Self::on(Platform::start_with("bench-propagation", POPS, far), names_a_zone)
    }

    /// On a platform that stands, with the zones of a run made there.
    fn on(platform: Platform, names_a_zone: u64) -> Self {
        for (zone, records) in changed_zones(names_a_zone) {
            let rrsets: Vec<_> = records
                .iter()
                .map(|(name, value)| json!({ "name": name, "type": "A", "ttl": 300, "records": [value] }))
                .collect();
            platform.tenant.post("/zones", &json!({ "name": zone, "rrsets": rrsets })).expect(201);
        }
        platform.wait_until_in_sync();
        Self(platform)
    }

    fn measure(&self, run: &Run, stop: &dyn Fn() -> bool) -> Vec<Seen> {
        let api = self.0.herald.api;
        let authorization = format!("Authorization: Bearer {}", self.0.tenant.token());
        let servers: Vec<SocketAddr> = self.0.pops.iter().map(|pop| pop.listen).collect();
        let request = |change: u64, step: usize, out: &mut Vec<u8>| {
            if step == 0 {
                let (zone, name) = owner(change);
                let path = format!("/api/v1/zones/{zone}/rrsets/{name}.{zone}/A");
                let body = format!(r#"{{"ttl":300,"records":["{}"]}}"#, address_of(change));
                out.extend(http::request("PUT", &path, api, &authorization, &body));
            }
            step == 0
        };
        run.measure(api, &servers, arrival, request, stop)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.0.herald.tail()))
    }

    /// Imports a big zone while the far PoP is down, and starts that PoP: it is being sent the zone when this
    /// returns. Gives the far PoP's address.
    fn send_bulk_to_far(&mut self) -> SocketAddr {
        let (far, near) = self.0.pops.split_last_mut().expect("there are PoPs");
        far.stop().expect("the far PoP stops");
        self.0.tenant.post("/zones", &json!({ "name": BULK_ZONE })).expect(201);
        self.0.tenant.import(BULK_ZONE, &bulk_zone_file()).expect(200);
        for pop in near {
            wait_until(BULK_WITHIN, "the big zone", || answers_bulk(pop.listen))
                .unwrap_or_else(|e| panic!("{e}\n{}", pop.tail()));
        }
        far.start();
        let operator = self.0.herald.operator();
        let path = format!("/pops/{}", far.name);
        wait_until(GIVE_UP, "the far PoP's session", || operator.get(&path).expect(200)["connected"] == true)
            .unwrap_or_else(|e| panic!("{e}\n{}", far.tail()));
        far.listen
    }
}

/// About 60 MB in a million records.
fn bulk_zone_file() -> String {
    let mut file = String::with_capacity(64 << 20);
    file.push_str("$ORIGIN bulk.example.\n@ 3600 IN NS ns1.dns.example.\n");
    for record in 0..BULK_RECORDS {
        let _ = writeln!(file, "{} 300 IN A {}", bulk_name(record), address_of(record));
    }
    file
}

fn bulk_name(record: u64) -> String {
    format!("host-{record:07}.some-rack.{BULK_ZONE}")
}

fn answers_bulk(server: SocketAddr) -> bool {
    dns::query(server, &bulk_name(BULK_RECORDS - 1), "A", Transport::Udp)
        .is_ok_and(|answer| !answer.answers.is_empty())
}
