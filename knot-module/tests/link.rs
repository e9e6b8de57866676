//! The agent and the module: what either does when the other fails, and changes that queries see whole.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use herald_core::Rtype;
use herald_core::steering::AnswerMode;
use steering::link::{PROTOCOL, ToAgent, ToModule};
use support::agent::snapshot;
use support::zone::pool;
use support::{Knot, Question, TestZone};

/// A zone in which `www` has this address, by steering.
fn zone(apex: &str, serial: u32, address: &str) -> TestZone {
    TestZone::new(apex).serial(serial).pool("pool", pool(AnswerMode::All, Rtype::A, &[(address, 1)])).policy(
        "www",
        Rtype::A,
        &["pool"],
    )
}

#[test]
fn the_module_goes_on_without_an_agent_and_tells_the_next_one_what_it_has() {
    let zone = zone("example.com.", 7, "192.0.2.7");
    let mut knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.7"], "from the snapshot");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(knot.socket()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let agent = knot.agent();
    let ToAgent::Hello { protocol, zones, last, geo, .. } = &agent.hello else { panic!("{:?}", agent.hello) };
    assert_eq!((*protocol, *last, geo.len()), (PROTOCOL, true, 0));
    assert_eq!(zones, &[(zone.id, zone.generation())]);
    drop(agent);
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.7"]);

    // What the agent says later is lost with knotd: the agent has written it to the snapshot.
    let next = self::zone("example.com.", 8, "192.0.2.8");
    knot.reload_zone(&next);
    knot.agent().put(&next);
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.8"]);
    std::fs::write(knot.snapshot_file(), snapshot(&[&next])).unwrap();
    knot.kill();
    knot.run();
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.8"]);
    let ToAgent::Hello { zones, .. } = knot.agent().hello else { panic!("it says hello first") };
    assert_eq!(zones, [(next.id, next.generation())]);

    // knotd reads its configuration anew.
    knot.knotc(&["reload"]);
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.8"]);
    knot.agent().put(&self::zone("example.com.", 8, "192.0.2.9"));
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.9"]);
}

#[test]
fn garbage_closes_its_connection_and_nothing_else() {
    let zone = zone("example.com.", 1, "192.0.2.1");
    let knot = Knot::start(&[&zone], None);
    let mut good = knot.agent();
    good.put(&zone);
    let mut frame = Vec::new();
    steering::link::encode_frame(&ToModule::Remove { zone: zone.id }, &mut frame);
    let mut flipped = frame.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut other = vec![0, 0, 0, 1];
    other.extend_from_slice(&xxh3(&[0xff]).to_be_bytes());
    other.push(0xff);
    for garbage in [vec![0xff; 100_000], flipped, other, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut bad = knot.agent();
        bad.say_octets(&garbage);
        assert!(bad.is_left());
        assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.1"]);
    }
    // A frame that was begun and never ended.
    let mut cut = knot.agent();
    cut.say_octets(&frame[..frame.len() - 1]);
    drop(cut);
    assert_eq!(good.synchronize().zones, 1);
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.1"]);

    // Messages that can be read, and make no sense.
    good.say(&ToModule::End { zone: zone.id });
    assert!(matches!(good.receive(), ToAgent::Refused { .. }));
    let base = herald_core::Generation { epoch: 9, counter: 9 };
    good.say(&ToModule::Delta { head: zone.head(), base, puts: vec![], deletes: vec![] });
    assert!(matches!(good.receive(), ToAgent::Refused { .. }));
    let mut broken = self::zone("example.com.", 2, "192.0.2.2");
    broken.steering[0].1.rdatas = herald_core::Rdatas::single(&[1, 0xff]);
    for message in broken.messages() {
        good.say(&message);
    }
    let ToAgent::Refused { reason, .. } = good.receive() else { panic!("it is broken") };
    assert!(reason.contains("pool._steering.example.com"), "{reason}");
    assert_eq!(knot.ask("www.example.com.", "A").values(), ["192.0.2.1"]);

    good.say(&ToModule::Remove { zone: zone.id });
    good.synchronize();
    assert!(knot.ask("www.example.com.", "A").is_servfail());
}

fn xxh3(octets: &[u8]) -> u64 {
    // The checksum of a frame, as it is in one.
    let mut frame = Vec::new();
    steering::link::encode_frame(&Raw(octets), &mut frame);
    u64::from_be_bytes(*frame[4..].first_chunk().unwrap())
}

/// Octets that are encoded as they are.
struct Raw<'a>(&'a [u8]);

impl<C> minicbor::Encode<C> for Raw<'_> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.writer_mut().write_all(self.0).map_err(minicbor::encode::Error::write)
    }
}

#[test]
fn a_snapshot_is_used_as_far_as_it_is_whole() {
    let (first, second) = (zone("first.example.", 1, "192.0.2.1"), zone("second.example.", 1, "192.0.2.2"));
    let whole = snapshot(&[&first, &second]);
    let first_bytes = snapshot(&[&first]).len();
    let mut flipped = whole.clone();
    flipped[first_bytes + 5] ^= 0x10;
    let mut other_magic = whole.clone();
    other_magic[15] = b'9';
    // How much of each zone is answered.
    let cases: [(&str, Vec<u8>, [bool; 2]); 6] = [
        ("whole", whole.clone(), [true, true]),
        ("cut off in the second zone", whole[..whole.len() - 40].to_vec(), [true, false]),
        ("without its end", whole[..whole.len() - 14].to_vec(), [true, true]),
        ("damaged in the second zone", flipped, [true, false]),
        ("of another version", other_magic, [false, false]),
        ("empty", vec![], [false, false]),
    ];
    for (what, octets, answered) in cases {
        let knot = Knot::start(&[&first, &second], Some(&octets));
        let answers = [knot.ask("www.first.example.", "A"), knot.ask("www.second.example.", "A")];
        for ((answer, is_answered), address) in answers.iter().zip(answered).zip(["192.0.2.1", "192.0.2.2"]) {
            let is_right = if is_answered { answer.values() == [address] } else { answer.is_servfail() };
            assert!(is_right, "{what}: {answer:?}");
        }
        assert_eq!(knot.log().contains("wait for the agent"), what != "whole", "{what}: {}", knot.log());
        // What else is in the zones is answered anyway.
        assert_eq!(knot.ask("ns.second.example.", "A").values(), ["192.0.2.1"]);
        let mut agent = knot.agent();
        agent.put(&first);
        agent.put(&second);
        assert_eq!(knot.ask("www.second.example.", "A").values(), ["192.0.2.2"], "{what}");
    }
}

#[test]
fn records_and_steering_change_together() {
    // The text says the serial, as plain data; the steered address says it too. A client asks for a chain through both.
    let zone = |serial: u32| {
        let address = format!("10.0.{}.{}", serial >> 8 & 255, serial & 255);
        let mut zone = self::zone("example.com.", serial, &address);
        zone.records.push(format!("chain{serial} CNAME www"));
        zone
    };
    let first = zone(1);
    let knot = Knot::start(&[&first], Some(&snapshot(&[&first])));
    let mut agent = knot.agent();
    let stop = AtomicBool::new(false);
    let (seen, asked) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for asker in 0..2u16 {
            let (knot, stop, seen, asked) = (&knot, &stop, &seen, &asked);
            scope.spawn(move || {
                let mut id = asker;
                let mut serial = 1;
                while !stop.load(Ordering::Relaxed) {
                    id = id.wrapping_add(2);
                    // The alias exists in one generation alone: if it is there, what it leads to must be of the same one.
                    let question = Question::new(&format!("chain{serial}.example.com."), "A").id(id);
                    let answer = question.ask(knot.address);
                    asked.fetch_add(1, Ordering::Relaxed);
                    assert_ne!(answer.rcode, domain::base::iana::Rcode::SERVFAIL);
                    if answer.answers.is_empty() {
                        serial += 1;
                        if serial > GENERATIONS {
                            serial = 1;
                        }
                        continue;
                    }
                    seen.fetch_add(1, Ordering::Relaxed);
                    let address =
                        format!("www.example.com. 60 A 10.0.{}.{}", serial >> 8 & 255, serial & 255);
                    assert_eq!(answer.answers[1..], [address], "serial {serial}");
                }
            });
        }
        for serial in 2..=GENERATIONS {
            let next = zone(serial);
            agent.prepare(&next);
            knot.reload_zone(&next);
            if serial % 3 == 0 {
                // An agent that fails here leaves both; the next one tells all of it again.
                agent = knot.agent();
                agent.prepare(&next);
            }
            agent.settle(&next);
        }
        agent.synchronize();
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} of {} questions were answered", seen.load(Ordering::Relaxed), asked.load(Ordering::Relaxed));
    assert!(seen.load(Ordering::Relaxed) > 100);

    // What knotd doesn't take is dropped, and what was served stays.
    let aborted = zone(GENERATIONS + 1);
    agent.prepare(&aborted);
    agent.say(&ToModule::Abort { zone: aborted.id, generation: aborted.generation() });
    assert_eq!(agent.synchronize().undecided, 0);
    let address = format!("10.0.{}.{}", GENERATIONS >> 8 & 255, GENERATIONS & 255);
    assert_eq!(knot.ask("www.example.com.", "A").values(), [address]);
}

/// Changes in the test of records and steering.
const GENERATIONS: u32 = 60;
