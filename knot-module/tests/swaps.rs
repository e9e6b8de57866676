//! Steering and the table of places are swapped all the time under questions at speed: no answer is lost, wrong or stale, and
//! knotd's memory doesn't grow.

mod support;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use herald_core::Rtype;
use herald_core::steering::{AnswerMode, POOL, When};
use sha2::{Digest, Sha256};
use steering::geo::{Builder, Facts};
use steering::link::{ToAgent, ToModule};
use support::agent::snapshot;
use support::zone::{pool, rule};
use support::{Agent, Answer, Knot, Question, TestZone};

const SWAPS_A_SECOND: u32 = 1_000;

/// Zones whose steering is swapped in turn.
const ZONES: u32 = 8;

/// Every so many swaps, one tells of the zone as a whole; others are deltas.
const WHOLE_EVERY: u32 = 61;

/// Every so many swaps, the table of places is swapped too.
const PLACES_EVERY: u32 = 500;

const ASKERS: u32 = 3;

/// Questions that one asker has on their way at a time: few enough that no socket's buffer overflows.
const QUESTIONS: u16 = 32;

/// How much more of knotd's memory may be in use at the end than in the first quarter: what 3,600,000 swaps would take by far if each
/// left something behind.
const GROWTH_KIB: u64 = 1_024;
/// Within seconds tables of fixed size fill that knotd has from its start: what is resolved, scopes that are kept, rings of counts.
const FILLING_KIB: u64 = 24 * 1_024;

#[test]
fn steering_is_swapped_a_thousand_times_a_second_under_load() {
    swap(Duration::from_secs(5), FILLING_KIB);
}

/// The campaign: `HERALD_SWAP_S` seconds of it.
#[test]
#[ignore = "it takes as long as it is told to"]
fn steering_is_swapped_for_long() {
    let seconds = std::env::var("HERALD_SWAP_S").map_or(3_600, |text| text.parse().unwrap());
    swap(Duration::from_secs(seconds), GROWTH_KIB);
}

/// The address that says how many swaps there were.
fn address(swap: u32) -> Ipv4Addr {
    Ipv4Addr::from(10 << 24 | swap)
}

fn apex(place: u32) -> String {
    format!("zone{place}.example.")
}

fn told_pool(zone: TestZone, swap: u32) -> TestZone {
    zone.pool("told", pool(AnswerMode::All, Rtype::A, &[(&address(swap).to_string(), 1)]))
}

/// A zone with names whose address is of the pool that is swapped, and one whose address depends on the table of places.
fn zone(place: u32) -> TestZone {
    let germany = When { countries: vec![*b"DE"], ..When::default() };
    let mut zone = told_pool(TestZone::new(&apex(place)), 0)
        .pool("de", pool(AnswerMode::All, Rtype::A, &[("192.0.2.49", 1)]))
        .pool("any", pool(AnswerMode::All, Rtype::A, &[("192.0.2.33", 1)]))
        .rules("geo", Rtype::A, vec![rule(germany, &["de"]), rule(When::default(), &["any"])]);
    for name in 0..30 {
        zone = zone.policy(&format!("n{name}"), Rtype::A, &["told"]);
    }
    zone
}

/// A table in which all of 127.0.0.0/8 is in a country.
fn places(country: [u8; 2]) -> Vec<u8> {
    let mut builder = Builder::default();
    let record = builder.record(Facts { country, ..Facts::default() });
    builder.city4(0x7f00_0000, 0x7fff_ffff, record).unwrap();
    builder.finish().write()
}

/// What swapper and askers tell each other.
#[derive(Default)]
struct Shared {
    /// By zone, the latest swap that the module was told of.
    told: [AtomicU32; ZONES as usize],
    /// By zone, the latest swap that is in use for sure.
    used: [AtomicU32; ZONES as usize],
    answers: AtomicU64,
    stop: AtomicBool,
}

/// Stops the askers, whatever happens.
struct Stop<'a>(&'a Shared);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

fn swap(within: Duration, growth_kib: u64) {
    let zones: Vec<TestZone> = (0..ZONES).map(zone).collect();
    let zones: Vec<&TestZone> = zones.iter().collect();
    let knot = Knot::start(&zones, Some(&snapshot(&zones)));
    let shared = Shared::default();
    std::thread::scope(|scope| {
        let _stop = Stop(&shared);
        let askers: Vec<_> = (0..ASKERS)
            .map(|asker| {
                scope.spawn({
                    let (knot, shared) = (&knot, &shared);
                    move || ask(knot, shared, asker)
                })
            })
            .collect();
        scope.spawn(|| keep_counts(knot.agent(), &shared));
        let is_asking = || askers.iter().all(|asker| !asker.is_finished());
        let outcome = Swapper::new(&knot, &shared).run(within, is_asking);
        assert!(is_asking(), "an asker gave up");
        let answers = shared.answers.load(Ordering::SeqCst);
        println!("{outcome}, {:.0} answers a second", answers as f64 / outcome.seconds);
        outcome.assert_sound(growth_kib);
        assert!(answers > 1_000);
    });
    assert!(!knot.log().contains("panic"), "{}", knot.log());
}

// ------------------------------------------------------------------------------------------- swapping

struct Swapper<'a> {
    knot: &'a Knot,
    shared: &'a Shared,
    agent: Agent,
    zones: Vec<TestZone>,
    swaps: u32,
}

struct Outcome {
    swaps: u32,
    seconds: f64,
    /// What of knotd's memory was in use, in KiB: the medians of the first and of the last quarter.
    first_kib: u64,
    last_kib: u64,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { swaps, seconds, first_kib, last_kib } = self;
        let rate = f64::from(*swaps) / seconds;
        write!(
            f,
            "{swaps} swaps ({rate:.0} a second), {first_kib} KiB in the first quarter, {last_kib} KiB in the last"
        )
    }
}

impl Outcome {
    fn assert_sound(&self, growth_kib: u64) {
        assert!(
            f64::from(self.swaps) > f64::from(SWAPS_A_SECOND) * self.seconds / 2.0,
            "too few swaps: {self}"
        );
        assert!(self.last_kib <= self.first_kib + growth_kib, "knotd grew: {self}");
    }
}

impl<'a> Swapper<'a> {
    fn new(knot: &'a Knot, shared: &'a Shared) -> Self {
        let zones = (0..ZONES).map(zone).collect();
        Swapper { knot, shared, agent: knot.agent(), zones, swaps: 0 }
    }

    fn run(mut self, within: Duration, is_asking: impl Fn() -> bool) -> Outcome {
        let tables = [places(*b"DE"), places(*b"FR")].map(|octets| {
            let hash = Sha256::digest(&octets).to_vec();
            let file = self.knot.file(&format!("places-{:02x}", hash[0]));
            fs::write(&file, octets).unwrap();
            ToModule::Geo { path: file.to_str().unwrap().into(), hash }
        });
        let start = Instant::now();
        let (sampled_every, told_every) = (within / 240, Duration::from_secs(60));
        let mut resident_kib = Vec::new();
        let mut told = 0;
        while start.elapsed() < within && is_asking() {
            self.swap_one();
            if self.swaps.is_multiple_of(PLACES_EVERY) {
                self.agent.say(&tables[(self.swaps / PLACES_EVERY % 2) as usize]);
                let loaded = self.agent.receive();
                assert!(matches!(loaded, ToAgent::GeoLoaded { problem: None, .. }), "{loaded:?}");
            }
            if start.elapsed() >= sampled_every * resident_kib.len() as u32 {
                resident_kib.push(self.knot.resident_kib());
            }
            if start.elapsed() >= told_every * (told + 1) {
                told += 1;
                let (swaps, answers) = (self.swaps, self.shared.answers.load(Ordering::Relaxed));
                println!("{told} min: {swaps} swaps, {answers} answers, {} KiB", self.knot.resident_kib());
            }
            let next = start + Duration::from_secs(1) * self.swaps / SWAPS_A_SECOND;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let seconds = start.elapsed().as_secs_f64();
        let status = self.agent.synchronize();
        assert_eq!((status.zones, status.panics, status.undecided), (ZONES.into(), 0, 0), "{status:?}");
        let quarter = (resident_kib.len() / 4).max(1);
        let median = |kib: &[u64]| {
            let mut kib = kib.to_vec();
            kib.sort_unstable();
            kib[kib.len() / 2]
        };
        Outcome {
            swaps: self.swaps,
            seconds,
            first_kib: median(&resident_kib[..quarter]),
            last_kib: median(&resident_kib[resident_kib.len() - quarter..]),
        }
    }

    fn swap_one(&mut self) {
        let before = self.swaps;
        self.swaps += 1;
        let place = (self.swaps % ZONES) as usize;
        let zone = &mut self.zones[place];
        let base = zone.generation();
        zone.serial += 1;
        *zone = told_pool(zone.clone(), self.swaps);
        // Whatever is seen from here on may be of this swap.
        self.shared.told[place].store(self.swaps, Ordering::SeqCst);
        if self.swaps.is_multiple_of(WHOLE_EVERY) {
            zone.messages().iter().for_each(|message| self.agent.say(message));
        } else {
            let is_told =
                |key: &herald_core::RrKey| key.rtype == POOL && key.owner.to_string().starts_with("told.");
            let puts = zone.steering.iter().filter(|(key, _)| is_told(key)).cloned().collect::<Vec<_>>();
            assert_eq!(puts.len(), 1);
            self.agent.say(&ToModule::Delta { head: zone.head(), base, puts, deletes: vec![] });
        }
        let prepared = ToAgent::Prepared { zone: zone.id, generation: zone.generation() };
        assert_eq!(self.agent.receive(), prepared);
        self.agent.say(&ToModule::Settle { zone: zone.id, generation: zone.generation() });
        // The module takes one message after another: this answer says that the swap before has settled.
        self.shared.used[(before % ZONES) as usize].store(before, Ordering::SeqCst);
    }
}

/// Takes counts until it is told to stop, as agents do: else they would pile up, minute by minute.
fn keep_counts(mut agent: Agent, shared: &Shared) {
    agent.say(&ToModule::CountsKept { instance: 0, sequence: 0 });
    while !shared.stop.load(Ordering::SeqCst) {
        if let Some(ToAgent::Counts(batch)) = agent.try_receive(Duration::from_millis(500)) {
            agent.say(&ToModule::CountsKept { instance: batch.instance, sequence: batch.sequence });
        }
    }
}

// -------------------------------------------------------------------------------------------- asking

/// Asks until it is told to stop, so many questions at a time.
fn ask(knot: &Knot, shared: &Shared, asker: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(knot.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reply = [0; 512];
    let mut round = asker;
    while !shared.stop.load(Ordering::SeqCst) {
        round = round.wrapping_add(1);
        let place = round % ZONES;
        let least = shared.used[place as usize].load(Ordering::SeqCst);
        for id in 0..QUESTIONS {
            // The last two are no swap's: one's address is of the table of places, the other one is plain data.
            let name = match id {
                30 => "geo".to_owned(),
                31 => "ns".to_owned(),
                _ => format!("n{id}"),
            };
            let question = Question::new(&format!("{name}.{}", apex(place)), "A").id(id);
            socket.send(&question.octets()).unwrap();
        }
        let mut answered = 0u32;
        for _ in 0..QUESTIONS {
            let bytes = socket.recv(&mut reply).expect("an answer is lost");
            let answer = Answer::read(&reply[..bytes]);
            let id = u16::from_be_bytes([reply[0], reply[1]]);
            assert_eq!(answer.rcode, Rcode::NOERROR, "{answer:?}");
            assert_eq!(answered & 1 << id, 0, "{id} is answered twice");
            answered |= 1 << id;
            let values = answer.values();
            match id {
                30 => assert!(values == ["192.0.2.49"] || values == ["192.0.2.33"], "{answer:?}"),
                31 => assert_eq!(values, ["192.0.2.1"]),
                _ => {
                    let most = shared.told[place as usize].load(Ordering::SeqCst);
                    let [value] = values[..] else { panic!("{answer:?}") };
                    let value: Ipv4Addr = value.parse().unwrap();
                    assert!(
                        (address(least)..=address(most)).contains(&value),
                        "{value} isn't of {least}–{most}"
                    );
                }
            }
        }
        assert_eq!(answered, u32::MAX);
        shared.answers.fetch_add(QUESTIONS.into(), Ordering::Relaxed);
    }
}
