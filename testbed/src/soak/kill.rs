//! `kill -9` under write load.
//!
//! Writers send changes all the time, each made of several RRsets, every third one in two zones. Each round kills something
//! at a random moment and starts it again (knotd is its agent's to start), and then looks: every acknowledged change is
//! there once, none is half there, a writer's last change wins, and every PoP's knotd holds what the API exports. After
//! some rounds a PoP is killed once more and started while there is no control plane.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::random::Random;
use crate::address_of;
use crate::api::Api;
use crate::dns::{self, Record, Transport};
use crate::herald::Pop;
use crate::platform::Platform;
use crate::wait::wait_for;

const POPS: usize = 2;
const ZONES: usize = 6;
const WRITERS: usize = 8;

/// After so many rounds the zones are deleted and others are made: a long campaign must not spend its time comparing ever larger
/// zones.
const SECTION_ROUNDS: usize = 10;

/// A writer's pause after each change: load, not saturation, so that all daemons are at work at any moment.
const WRITER_PAUSE: Duration = Duration::from_millis(10);

/// How long a PoP that was started alone may take.
const LOADED_WITHIN: Duration = Duration::from_secs(30);

/// How many receipts are read again at the end.
const RECEIPTS_READ: usize = 100;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Herald,
    Agent,
    Knotd,
    /// Agent and knotd at once, and afterwards again while there is no control plane.
    Pop,
    /// The control plane and every agent and knotd at once, as when the power fails everywhere.
    All,
}

const VICTIMS: [Victim; 5] = [Victim::Herald, Victim::Agent, Victim::Knotd, Victim::Pop, Victim::All];

/// What the zones hold, by zone.
type Contents = BTreeMap<String, BTreeSet<Record>>;

/// How a campaign went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The seed that makes it again.
    pub seed: u64,
    /// Rounds by each victim.
    pub rounds: usize,
    /// Changes that were acknowledged, and are there.
    pub acknowledged: usize,
    /// Changes whose answer never came, and that are there all the same.
    pub unanswered_there: usize,
    /// Changes whose answer never came, and that are not there.
    pub unanswered_not_there: usize,
}

impl Outcome {
    fn add(&mut self, section: &Self) {
        self.acknowledged += section.acknowledged;
        self.unanswered_there += section.unanswered_there;
        self.unanswered_not_there += section.unanswered_not_there;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kill: {} rounds of each of {VICTIMS:?} (seed {}): {} changes acknowledged and all there, once; of \
             those without an answer {} are there and {} not, none by half",
            self.rounds, self.seed, self.acknowledged, self.unanswered_there, self.unanswered_not_there
        )
    }
}

/// Runs `rounds` rounds for each victim, in random order.
///
/// # Panics
/// At the first thing that isn't right.
pub fn run(rounds: usize, seed: u64) -> Outcome {
    println!("kill: {rounds} rounds each, seed {seed}");
    let mut random = Random::new(seed);
    let mut platform = Platform::start("kill", POPS);
    // Its zones come and go, and that is meant.
    let off = json!({ "zone_percent": 100, "pop_percent": 100 });
    platform.herald.operator().patch("/brakes", &off).expect(200);
    let mut outcome = Outcome { seed, rounds, ..Outcome::default() };
    let mut victims = VICTIMS.repeat(rounds);
    shuffle(&mut victims, &mut random);
    let mut next_change = 1;
    for (section, victims) in victims.chunks(SECTION_ROUNDS).enumerate() {
        let zones: Vec<String> = (0..ZONES).map(|zone| format!("zone{zone}-{section}.example.")).collect();
        for zone in &zones {
            platform.create_zone(zone);
        }
        let writers = Writers::new(platform.tenant.clone(), &zones, next_change);
        let mut of_section = Outcome::default();
        for (round, victim) in victims.iter().enumerate() {
            let pop = random.below(POPS);
            println!("kill: round {}: {victim:?} (pop{})", section * SECTION_ROUNDS + round + 1, pop + 1);
            writers.write_while(|| {
                pause(&mut random);
                strike(&mut platform, *victim, pop, &mut random);
                pause(&mut random);
            });
            let contents = platform.assert_pops_hold(&zones);
            of_section = writers.check(&contents);
            if *victim == Victim::Pop {
                start_alone(&mut platform, pop, &contents);
            }
        }
        platform.wait_until_in_sync();
        writers.check_receipts(&mut random);
        outcome.add(&of_section);
        next_change = writers.next.into_inner();
        for zone in &zones {
            platform.tenant.delete(&format!("/zones/{zone}?confirm=shrink")).expect(200);
        }
    }
    outcome
}

/// Kills, and starts again, while changes are written.
fn strike(platform: &mut Platform, victim: Victim, pop: usize, random: &mut Random) {
    let Platform { herald, pops, .. } = platform;
    let pop = &mut pops[pop];
    match victim {
        Victim::Herald => {
            herald.kill();
            pause(random);
            herald.restart();
        }
        Victim::Agent => {
            pop.kill_agent();
            pause(random);
            pop.start();
        }
        Victim::Knotd => pop.kill_knotd(),
        Victim::Pop => {
            pop.kill();
            pause(random);
            pop.start();
        }
        Victim::All => {
            thread::scope(|scope| {
                scope.spawn(|| herald.kill());
                for pop in &mut *pops {
                    scope.spawn(|| pop.kill());
                }
            });
            pause(random);
            // Whichever is first finds nobody.
            let herald_first = random.below(2) == 0;
            if herald_first {
                herald.restart();
            }
            pops.iter_mut().for_each(Pop::start);
            if !herald_first {
                herald.restart();
            }
        }
    }
}

/// With the control plane gone, a PoP comes back with all that it had confirmed, from the first answer on.
fn start_alone(platform: &mut Platform, pop: usize, confirmed: &Contents) {
    platform.herald.kill();
    platform.pops[pop].kill();
    platform.pops[pop].start();
    for (zone, content) in confirmed {
        let soa =
            content.iter().find(|record| record.rtype.to_string() == "SOA").expect("every zone has one");
        // While it loads, it refuses.
        let answer = wait_for(LOADED_WITHIN, &format!("{zone} to be answered"), || {
            let answer = dns::query(platform.pops[pop].listen, zone, "SOA", Transport::Udp).ok()?;
            answer.authoritative.then_some(answer)
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", platform.pops[pop].tail()));
        assert_eq!(
            answer.answers,
            std::slice::from_ref(soa),
            "{zone}: the first answer without a control plane"
        );
    }
    platform.assert_holds(pop, confirmed);
    platform.herald.restart();
}

fn pause(random: &mut Random) {
    thread::sleep(random.between(Duration::from_millis(50), Duration::from_millis(800)));
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at + 1));
    }
}

// -------------------------------------------------------------------------------------------- writers

/// The writers, and what they know.
struct Writers {
    api: Api,
    zones: Vec<String>,
    next: AtomicU64,
    sent: Mutex<Vec<Sent>>,
}

/// A change that was sent.
#[derive(Clone, Debug)]
struct Sent {
    number: u64,
    writer: usize,
    zones: Vec<String>,
    /// Its id and revision, if it was acknowledged.
    receipt: Option<(String, u64)>,
}

impl Writers {
    fn new(api: Api, zones: &[String], next_change: u64) -> Self {
        Self { api, zones: zones.to_vec(), next: AtomicU64::new(next_change), sent: Mutex::default() }
    }

    /// Writes until `action` has ended, or panicked.
    fn write_while(&self, action: impl FnOnce()) {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let stopped = AtomicBool::new(false);
        thread::scope(|scope| {
            let _stop = Stop(&stopped);
            for writer in 0..WRITERS {
                let stopped = &stopped;
                scope.spawn(move || {
                    while !stopped.load(Ordering::SeqCst) {
                        self.write_one(writer);
                        thread::sleep(WRITER_PAUSE);
                    }
                });
            }
            action();
        });
    }

    fn write_one(&self, writer: usize) {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let at = |offset: u64| self.zones[(number + offset) as usize % self.zones.len()].clone();
        let zones = if number.is_multiple_of(3) { vec![at(0), at(1)] } else { vec![at(0)] };
        let (method, path, body) = match zones.as_slice() {
            [zone] => {
                ("PATCH", format!("/zones/{zone}/rrsets"), json!({ "changes": changes(number, writer) }))
            }
            _ => {
                let parts =
                    zones.iter().map(|zone| json!({ "zone": zone, "changes": changes(number, writer) }));
                ("POST", "/batches".to_owned(), json!({ "zones": parts.collect::<Value>() }))
            }
        };
        let reply = self.api.try_call(method, &path, &[], Some(&body.to_string()));
        let receipt = reply.ok().and_then(|reply| {
            assert!(
                matches!(reply.status, 200 | 202 | 503),
                "change {number} was refused with {}: {}",
                reply.status,
                reply.text
            );
            let change = &reply.json()["change"];
            Some((change["id"].as_str()?.to_owned(), change["revision"].as_u64()?))
        });
        self.sent.lock().expect("never poisoned").push(Sent { number, writer, zones, receipt });
    }

    /// Every acknowledged change is there, none is half there, and a writer's last change is the one that stands.
    fn check(&self, contents: &Contents) -> Outcome {
        let there: HashMap<(&str, &str, String), String> = contents
            .iter()
            .flat_map(|(zone, content)| content.iter().map(move |record| (zone, record)))
            .map(|(zone, r)| ((zone.as_str(), r.name.as_str(), r.rtype.to_string()), r.value()))
            .collect();
        let value = |zone: &str, name: &str, rtype: &str| {
            let name = format!("{name}.{zone}");
            there.get(&(zone, name.as_str(), rtype.to_owned())).cloned()
        };
        let sent = self.sent.lock().expect("never poisoned");
        let mut outcome = Outcome::default();
        for change in sent.iter() {
            let number = change.number;
            let mut parts = Vec::new();
            for zone in &change.zones {
                let address = value(zone, &format!("a{number}"), "A");
                let text = value(zone, &format!("b{number}"), "TXT");
                parts.push(address == Some(address_of(number)));
                parts.push(text == Some(format!("\"{number}\"")));
            }
            let whole = parts.iter().all(|part| *part);
            assert!(whole || !parts.contains(&true), "change {number} is half there: {change:?}");
            match (&change.receipt, whole) {
                (Some(_), true) => outcome.acknowledged += 1,
                (Some(_), false) => panic!("an acknowledged change is not there: {change:?}"),
                (None, true) => outcome.unanswered_there += 1,
                (None, false) => outcome.unanswered_not_there += 1,
            }
            for zone in &change.zones {
                let last = value(zone, &format!("last{}", change.writer), "TXT");
                let last: u64 = last.and_then(|text| text.trim_matches('"').parse().ok()).unwrap_or(0);
                assert!(
                    change.receipt.is_none() || last >= number,
                    "{zone}: change {last} of writer {} undoes change {number}",
                    change.writer
                );
            }
        }
        outcome
    }

    /// No two changes share a place on the log, and receipts can still be read.
    fn check_receipts(&self, random: &mut Random) {
        let sent = self.sent.lock().expect("never poisoned");
        let receipts: Vec<&(String, u64)> =
            sent.iter().filter_map(|change| change.receipt.as_ref()).collect();
        let revisions: HashSet<u64> = receipts.iter().map(|(_, revision)| *revision).collect();
        assert_eq!(revisions.len(), receipts.len(), "two changes have the same revision");
        for _ in 0..RECEIPTS_READ.min(receipts.len()) {
            let (id, revision) = receipts[random.below(receipts.len())];
            let change = self.api.get(&format!("/changes/{id}")).expect(200);
            assert_eq!(change["revision"], *revision, "{change}");
            assert_eq!(change["state"], "in_sync", "{change}");
        }
    }
}

/// What a change does in each of its zones.
fn changes(number: u64, writer: usize) -> Value {
    json!([
        { "op": "put", "name": format!("a{number}"), "type": "A", "ttl": 60, "records": [address_of(number)] },
        { "op": "put", "name": format!("b{number}"), "type": "TXT", "ttl": 60, "records": [number.to_string()] },
        { "op": "put", "name": format!("last{writer}"), "type": "TXT", "ttl": 60, "records": [number.to_string()] },
    ])
}
