//! What steering is when something of a PoP is killed, cut off or missing: what is answered is right and whole, or nothing is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::dns::{self, Answer, Transport};
use testbed::herald::{Pop, program};
use testbed::platform::{Platform, wait_for_answer};
use testbed::process::Launch;
use testbed::wait::{wait_for, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// The first address of what steers.
fn address(number: u32) -> String {
    format!("10.0.{}.{}", number / 256, number % 256)
}

/// Has `www` of a zone answered with this address by a pool, and the alias to it tell the same by its TTL.
fn publish(platform: &Platform, zone: &str, number: u32) -> Value {
    let pool = json!({ "ttl": 30, "endpoints": [{ "name": "one", "records": { "A": [address(number)] } }] });
    let changes = json!([
        { "op": "put_pool", "name": "web", "pool": pool },
        { "op": "put_policy", "policy": { "name": "www", "type": "A", "rules": [{ "pools": ["web"] }] } },
    ]);
    let records = json!([
        { "op": "put", "name": "alias", "type": "CNAME", "ttl": 1000 + number, "records": [format!("www.{zone}")] },
        { "op": "put", "name": "plain", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
    ]);
    let body = json!({ "changes": changes, "records": records });
    platform.tenant.patch(&format!("/zones/{zone}/steering"), &body).expect(200)
}

fn zone(number: u32) -> String {
    format!("zone{number}.example.")
}

// --------------------------------------------------------------------------------------------- kills

/// Agent, knotd and both are killed while pools and records are changed together without pause.
#[test]
fn steering_and_records_stay_together_while_agent_and_knotd_are_killed() {
    let mut platform = Platform::start("steering-swaps", 1);
    let zone = zone(1);
    platform.create_zone(&zone);
    publish(&platform, &zone, 1);
    platform.wait_until_in_sync();
    let listen = platform.pops[0].listen;
    let has_ended = AtomicBool::new(false);
    let (published, seen) = (AtomicU32::new(1), AtomicU32::new(0));
    // What a client may see while knotd starts is nothing, and never half of something.
    let check = |answer: &Answer| -> Option<u32> {
        let alias = answer.answers.iter().find(|record| record.rtype.to_string() == "CNAME")?;
        let number = alias.ttl - 1000;
        assert_eq!(answer.values("A"), [address(number)], "{answer:?}");
        Some(number)
    };
    let mut pop = platform.pops.pop().unwrap();
    thread::scope(|scope| {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _end = End(&has_ended);
        let (platform, zone, published, seen, has_ended) = (&platform, &zone, &published, &seen, &has_ended);
        scope.spawn(move || {
            while !has_ended.load(Ordering::SeqCst) {
                publish(platform, zone, published.load(Ordering::SeqCst) + 1);
                published.fetch_add(1, Ordering::SeqCst);
            }
        });
        scope.spawn(move || {
            let alias = format!("alias.{zone}");
            while !has_ended.load(Ordering::SeqCst) {
                if let Ok(answer) = dns::query(listen, &alias, "A", Transport::Udp)
                    && let Some(number) = check(&answer)
                {
                    // A knotd that starts has what the replica has, and that is never less than what was answered.
                    let before = seen.fetch_max(number, Ordering::SeqCst);
                    assert!(number >= before, "{number} is answered after {before}");
                }
            }
        });
        for round in 0..9 {
            // New versions are answered again before anything is killed.
            let from = published.load(Ordering::SeqCst);
            wait_until(WITHIN, "changes to be answered", || seen.load(Ordering::SeqCst) > from + 3)
                .unwrap_or_else(|e| panic!("round {round}: {e}: {}\n{}", pop.status_text(), pop.tail()));
            match round % 3 {
                0 => {
                    pop.kill_agent();
                    pop.launch();
                }
                1 => pop.kill_knotd(),
                _ => {
                    pop.kill();
                    pop.launch();
                }
            }
        }
    });
    platform.pops.push(pop);
    platform.wait_until_in_sync();
    let last = published.load(Ordering::SeqCst);
    let pop = &platform.pops[0];
    let answer = dns::query(pop.listen, &format!("alias.{zone}"), "A", Transport::Tcp).unwrap();
    assert_eq!(check(&answer), Some(last), "{answer:?}");
    let module = module_status(pop);
    assert_eq!((&module["panics"], &module["undecided"]), (&json!(0), &json!(0)), "{module}");
    println!("{last} changes");
}

fn module_status(pop: &Pop) -> Value {
    let status = pop.status(&["--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    status["module"].clone()
}

// ------------------------------------------------------------------------------------------ snapshots

const ZONES: u32 = 6;

/// Of a zone, what its steered name is answered with; none where that is denied. What is plain is answered in any case.
fn steered(pop: &Pop, number: u32) -> Option<String> {
    // A busy machine may drop a datagram.
    let ask = |label: &str| {
        let name = format!("{label}.{}", zone(number));
        wait_for(WITHIN, "an answer", || dns::query(pop.listen, &name, "A", Transport::Udp).ok())
            .unwrap_or_else(|e| panic!("{name}: {e}\n{}", pop.tail()))
    };
    let plain = ask("plain");
    assert_eq!(plain.values("A"), ["192.0.2.1"], "{plain:?}");
    let answer = ask("www");
    match (answer.rcode.to_string().as_str(), &answer.values("A")[..]) {
        ("SERVFAIL", []) => None,
        ("NOERROR", [value]) => Some(value.clone()),
        _ => panic!("{answer:?}"),
    }
}

/// A knotd that somebody starts on a snapshot that was cut off denies what it has no steering for. The agent finds that knotd and tells
/// it all, with no control plane.
#[test]
fn a_snapshot_that_was_cut_off_denies_and_the_agent_heals_it() {
    let mut platform = Platform::start("steering-cut", 1);
    for number in 0..ZONES {
        platform.create_zone(&zone(number));
        publish(&platform, &zone(number), number);
    }
    platform.wait_until_in_sync();
    platform.herald.kill();
    let Platform { pops, .. } = &mut platform;
    let pop = &mut pops[0];
    // Written anew for a knotd that starts: the one that runs was told of the zones since it was started.
    pop.kill();
    pop.start();
    let folder = pop.folder().to_owned();
    let (snapshot, config) = (folder.join("knot/steering.snapshot"), folder.join("knot/knot.conf"));
    let whole = fs::read(&snapshot).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let cut = |octets: usize| Some(whole[..octets].to_vec());
    let cases = [
        ("none", None),
        ("of no octet", cut(0)),
        ("cut off in its first octets", cut(9)),
        ("cut off in its first zone", cut(100)),
        ("cut off at a third", cut(whole.len() / 3)),
        ("cut off at two thirds", cut(whole.len() * 2 / 3)),
        ("cut off at its end", cut(whole.len() - 1)),
        ("damaged in the midst", Some(flipped)),
        ("whole", cut(whole.len())),
    ];
    let mut most = 0;
    for (what, octets) in cases {
        pop.kill();
        match &octets {
            Some(octets) => fs::write(&snapshot, octets).unwrap(),
            None => fs::remove_file(&snapshot).unwrap(),
        }
        // Somebody who starts it takes away what a killed one has left.
        let _ = fs::remove_file(folder.join("knot/run/knot.pid"));
        let knotd = Launch::new("knotd", "/usr/sbin/knotd", &folder).arg("-c").arg(&config).start();
        wait_until(WITHIN, "knotd to serve all zones", || {
            (0..ZONES).all(|number| {
                let answer = dns::query(pop.listen, &zone(number), "SOA", Transport::Tcp);
                answer.is_ok_and(|answer| answer.authoritative)
            })
        })
        .unwrap_or_else(|e| panic!("{what}: {e}\n{}", knotd.tail()));
        let answered: Vec<u32> = (0..ZONES)
            .filter(|number| match steered(pop, *number) {
                Some(value) => {
                    assert_eq!(value, address(*number), "{what}");
                    true
                }
                None => false,
            })
            .collect();
        println!("{what}: {answered:?}");
        // The last octets say no more than that it is at its end.
        let is_whole =
            octets.is_some_and(|octets| octets == whole[..octets.len()] && octets.len() + 1 >= whole.len());
        assert_eq!(answered.len() == ZONES as usize, is_whole, "{what}: {answered:?}");
        if !is_whole {
            most = most.max(answered.len());
        }

        pop.start();
        for number in 0..ZONES {
            wait_until(WITHIN, "the agent to heal it", || steered(pop, number) == Some(address(number)))
                .unwrap_or_else(|e| panic!("{what}: {e}: {}\n{}", pop.status_text(), pop.tail()));
        }
        assert_eq!(pop.knotds(), [knotd.id() as i32], "{what}: the same knotd goes on");
    }
    assert!(most > 0, "zones before the damage are answered");
}

// -------------------------------------------------------------------------------------------- modules

fn modules(pop: &Pop) -> Vec<PathBuf> {
    let entries = fs::read_dir(pop.folder().join("knot/modules")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn is_same(one: &Path, other: &Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}

#[test]
fn a_module_that_is_missing_or_none_is_told_of_and_nothing_steered_is_answered_wrongly() {
    let mut platform = Platform::start("steering-module", 1);
    platform.create_zone(&zone(1));
    publish(&platform, &zone(1), 1);
    platform.create_zone("plain.example.");
    let put = json!({ "ttl": 60, "records": ["192.0.2.7"] });
    platform.tenant.put("/zones/plain.example/rrsets/www/A?wait=all", &put).expect(201);
    platform.wait_until_in_sync();
    let folder = platform.folder("module");
    let shipped = program("koder-dns-sync").with_file_name("libherald_so.so");
    let (www, own) = (format!("www.{}", zone(1)), address(1));
    let pop = &mut platform.pops[0];
    let usual = fs::read_to_string(pop.config()).unwrap();
    let with_module = |file: &Path| format!("{usual}module = {file:?}\n");

    // knotd has a copy that is named by its content, so that nobody changes what it has loaded.
    let [copy] = &modules(pop)[..] else { panic!("{:?}", modules(pop)) };
    assert!(is_same(copy, &shipped));
    let loaded = fs::read_to_string(pop.folder().join("knot/knot.conf")).unwrap();
    assert!(loaded.contains(copy.to_str().unwrap()), "{loaded}");

    // The agent is told of a file that isn't there: it says so and ends, and knotd goes on as before.
    pop.kill_agent();
    pop.configure(|_| with_module(Path::new("/nowhere/herald.so")));
    pop.launch();
    wait_until(WITHIN, "the agent to end", || !pop.is_running()).unwrap();
    assert!(pop.said().contains("the module /nowhere/herald.so can't be read"), "{}", pop.said());
    assert_eq!(dns::query(pop.listen, &www, "A", Transport::Udp).unwrap().values("A"), [own.as_str()]);

    // Another one takes its place at knotd's next start, and not before.
    let other = folder.join("other.so");
    let mut octets = fs::read(&shipped).unwrap();
    octets.extend_from_slice(b"more");
    fs::write(&other, &octets).unwrap();
    pop.configure(|_| with_module(&other));
    pop.start();
    assert_eq!(modules(pop), std::slice::from_ref(copy));
    pop.kill_knotd();
    wait_for_answer(pop, &www, "A", &[&own]);
    let [newer] = &modules(pop)[..] else { panic!("{:?}", modules(pop)) };
    assert!(newer != copy && is_same(newer, &other));

    // What is no module is told of, and nothing is answered: without it, placeholders would be.
    pop.kill();
    fs::write(&other, "this is no library").unwrap();
    pop.launch();
    let told = wait_for(WITHIN, "the agent to say why", || {
        let text = pop.status_text();
        text.contains("does not run").then_some(text)
    })
    .unwrap_or_else(|e| panic!("{e}: {}\n{}", pop.status_text(), pop.tail()));
    assert!(told.contains("modules/herald-") && told.contains("file too short"), "{told}");
    assert!(dns::query(pop.listen, &www, "A", Transport::Tcp).is_err());

    // There is none at all: what has steering isn't served, and all else is.
    pop.kill();
    pop.configure(|_| usual.clone());
    let alone = folder.join("koder-dns-sync");
    fs::copy(program("koder-dns-sync"), &alone).unwrap();
    let run_alone = format!("shift; exec {} \"$@\"", alone.display());
    pop.prefix = ["sh", "-c", &run_alone, "sh"].map(Into::into).to_vec();
    pop.start();
    wait_for_answer(pop, "www.plain.example.", "A", &["192.0.2.7"]);
    let answer = dns::query(pop.listen, &www, "A", Transport::Udp).unwrap();
    assert_eq!((answer.rcode.to_string().as_str(), answer.answers.len()), ("REFUSED", 0), "{answer:?}");
    let told = pop.status_text();
    assert!(
        told.contains(&zone(1)[..zone(1).len() - 1]) && told.contains("knotd has no module here"),
        "{told}"
    );

    pop.prefix.clear();
    pop.kill();
    pop.start();
    wait_for_answer(pop, &www, "A", &[&own]);
    platform.wait_until_in_sync();
}
