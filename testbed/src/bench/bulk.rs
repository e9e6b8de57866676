//! One large zone: a file of a million records, from the CLI's start to the acceptance, to a PoP that answers with it, in memory
//! of herald; and what becomes of other zones' changes meanwhile. The peer is `pdnsutil load-zone` into LMDB, which
//! serves nothing meanwhile.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::open_loop::Run;
use super::report::{Line, figure, percentile_ms};
use super::{Settings, Side};
use crate::dns::{self, Transport};
use crate::herald::program;
use crate::platform::Platform;
use crate::scratch::Scratch;
use crate::wait::wait_until;
use crate::{address_of, http};

const RECORDS: u64 = 1_000_000;
const ZONE: &str = "bulk.example.";
const WITHIN: Duration = Duration::from_secs(300);

/// Other zones, and how many of their records are changed a second meanwhile.
const OTHER_ZONES: u64 = 100;
const CHANGES_PER_S: u32 = 50;

/// Goals.
const RATIO: f64 = 1.0 / 3.0;
const IN_SYNC_S: f64 = 10.0;
const MEMORY_BYTES: f64 = 300.0;
const OTHERS_P99_MS: f64 = 100.0;

/// Measures.
pub fn run(settings: &Settings) -> Vec<Line> {
    let scratch = Scratch::new("bench-bulk");
    let file = scratch.path().join("bulk.example.zone");
    write_zone_file(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let side: Side = settings.side;
    let ours = side.ours().then(|| ours(&file));
    let peer_s = side.peer().then(|| peer(&scratch, &file).as_secs_f64());
    let mut line = Line {
        bench: "bulk",
        unit: "s until accepted",
        less_is_better: true,
        ours: ours.as_ref().map(|ours| ours.accepted.as_secs_f64()),
        peer: peer_s,
        setting: vec![("records", RECORDS.into())],
        details: Vec::new(),
        goals: Vec::new(),
    };
    if let Some(mut ours) = ours {
        let slowest = ours.others_us.iter().enumerate().max_by_key(|(_, us)| **us);
        let slowest_due_s = slowest.map(|(change, _)| change as f64 / f64::from(CHANGES_PER_S));
        ours.others_us.sort_unstable();
        let p = |share| figure(percentile_ms(&ours.others_us, share));
        line.details = vec![
            ("ours_in_sync_s", figure(Some(ours.in_sync.as_secs_f64()))),
            ("ours_bytes_a_record_at_most", figure(Some(ours.grown_bytes as f64 / RECORDS as f64))),
            ("others_p50_ms", p(0.5)),
            ("others_p99_ms", p(0.99)),
            ("others_slowest_due_s", figure(slowest_due_s)),
            ("others_changes", ours.others_us.len().into()),
        ];
    }
    line.goal_ratio(RATIO);
    line.goal_detail("ours_in_sync_s", IN_SYNC_S);
    line.goal_detail("ours_bytes_a_record_at_most", MEMORY_BYTES);
    line.goal_detail("others_p99_ms", OTHERS_P99_MS);
    vec![line]
}

/// About 60 MB.
fn write_zone_file(path: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "$ORIGIN {ZONE}")?;
    writeln!(file, "@ 3600 IN SOA ns1.dns.example. hostmaster.dns.example. 1 7200 3600 1209600 300")?;
    writeln!(file, "@ 3600 IN NS ns1.dns.example.")?;
    for record in 0..RECORDS {
        writeln!(file, "{} 300 IN A {}", name(record), address_of(record))?;
    }
    file.flush()
}

fn name(record: u64) -> String {
    format!("host-{record:07}.some-rack.{ZONE}")
}

/// What was measured of ours; times run from the start of the CLI.
struct Ours {
    accepted: Duration,
    in_sync: Duration,
    /// By how much herald's memory grew at most.
    grown_bytes: u64,
    /// How long other zones' changes took to the PoP, in the order in which they were due.
    others_us: Vec<u32>,
}

fn ours(file: &Path) -> Ours {
    let platform = Platform::start("bench-bulk", 1);
    for zone in 0..OTHER_ZONES {
        platform.tenant.post("/zones", &json!({ "name": other(zone) })).expect(201);
    }
    platform.wait_until_in_sync();
    platform.herald.forget_peak();
    let before = platform.herald.memory();
    let pop = platform.pops[0].listen;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| change_others(&platform, pop, &done));
        let start = Instant::now();
        import(&platform, file);
        let accepted = start.elapsed();
        let arrived = wait_until(WITHIN, "the PoP to answer with the zone", || {
            dns::query(pop, &name(RECORDS - 1), "A", Transport::Udp)
                .is_ok_and(|answer| !answer.answers.is_empty())
        });
        let in_sync = start.elapsed();
        done.store(true, Ordering::SeqCst);
        let others_us = others.join().expect("other zones are changed");
        arrived.unwrap_or_else(|e| panic!("{e}\n{}\n{}", platform.pops[0].tail(), platform.herald.tail()));
        let grown_bytes = platform.herald.memory().peak_bytes.saturating_sub(before.resident_bytes);
        Ours { accepted, in_sync, grown_bytes, others_us }
    })
}

fn import(platform: &Platform, file: &Path) {
    let output = Command::new(program("koder"))
        .args(["dns", "zone", "import", "--quiet"])
        .arg(file)
        .env("KODER_SERVER", format!("http://{}", platform.herald.api))
        .env("KODER_TOKEN", platform.tenant.token())
        .env("KODER_CONFIG", platform.folder("koder").join("config.toml"))
        .stdin(Stdio::null())
        .output()
        .expect("the CLI can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", platform.herald.tail());
}

fn other(zone: u64) -> String {
    format!("other{}.example.", zone % OTHER_ZONES)
}

/// Changes other zones until `done`, and gives how long that took to be answered.
fn change_others(platform: &Platform, pop: SocketAddr, done: &AtomicBool) -> Vec<u32> {
    let api = platform.herald.api;
    let authorization = format!("Authorization: Bearer {}", platform.tenant.token());
    let owner = |change: u64| format!("host{}.{}", change / OTHER_ZONES, other(change));
    let count = WITHIN.as_secs() * u64::from(CHANGES_PER_S);
    let run = Run { first_change: 0, count, per_s: CHANGES_PER_S, far: Duration::ZERO };
    let seen = run
        .measure(
            api,
            &[pop],
            |change| (owner(change), address_of(change).parse().expect("an address")),
            |change, step, out| {
                if step == 0 {
                    let path = format!("/api/v1/zones/{}/rrsets/{}/A", other(change), owner(change));
                    let body = format!(r#"{{"ttl":300,"records":["{}"]}}"#, address_of(change));
                    out.extend(http::request("PUT", &path, api, &authorization, &body));
                }
                step == 0
            },
            &|| done.load(Ordering::SeqCst),
        )
        .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()));
    let micros =
        |at: Option<&Duration>| at.map_or(u32::MAX, |at| u32::try_from(at.as_micros()).unwrap_or(u32::MAX));
    seen.iter().map(|change| micros(change.first())).collect()
}

fn peer(scratch: &Scratch, file: &Path) -> Duration {
    let home = scratch.folder("peer");
    let config = format!("launch=lmdb\nlmdb-filename={}/pdns.lmdb\nlmdb-sync-mode=sync\n", home.display());
    fs::write(home.join("pdns.conf"), config).expect("the folder was just made");
    let start = Instant::now();
    let output = Command::new("pdnsutil")
        .arg(format!("--config-dir={}", home.display()))
        .args(["load-zone", ZONE.trim_end_matches('.')])
        .arg(file)
        .output()
        .expect("pdnsutil can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    start.elapsed()
}
