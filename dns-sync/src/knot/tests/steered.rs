//! The order between the module and knotd: a real knotd without the module, and at the module's socket somebody who takes down
//! what is said and answers when told to.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use herald_core::steering::{PLACEHOLDER_TTL_S, POOL, policy_type};
use steering::link::{PROTOCOL, ToAgent, ToModule, decode_frame, encode_frame};

use super::*;
use crate::module::desk::Change;

const ZONE: ZoneId = ZoneId(7);

/// Somebody at the module's socket.
struct Listener {
    listener: UnixListener,
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Listener {
    fn bind(path: &std::path::Path) -> UnixListener {
        let _ = fs::remove_file(path);
        UnixListener::bind(path).unwrap()
    }

    /// Waits for the agent, and says hello with these zones.
    fn accept(listener: UnixListener, zones: Vec<(ZoneId, Generation)>) -> Listener {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut said = Listener { listener, stream, bytes: Vec::new() };
        let version = "double".into();
        said.say(&ToAgent::Hello {
            protocol: PROTOCOL,
            version,
            zones,
            last: true,
            geo: Vec::new(),
            counts: None,
            firewall: None,
            knows_verdicts: false,
            logs_queries: false,
        });
        said
    }

    fn say(&mut self, message: &ToAgent) {
        let mut frame = Vec::new();
        encode_frame(message, &mut frame);
        self.stream.write_all(&frame).unwrap();
    }

    /// The next message that isn't the question how it is.
    fn next(&mut self) -> ToModule {
        loop {
            if let Some((count, message)) = decode_frame(&self.bytes).unwrap() {
                self.bytes.drain(..count);
                match message {
                    ToModule::Ask => continue,
                    message => return message,
                }
            }
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).unwrap();
            assert!(count > 0, "the agent has hung up");
            self.bytes.extend_from_slice(&chunk[..count]);
        }
    }

    fn prepared(&mut self, counter: u64) {
        self.say(&ToAgent::Prepared { zone: ZONE, generation: generation(counter) });
    }

    fn expect_settle(&mut self, counter: u64) {
        assert_eq!(self.next(), ToModule::Settle { zone: ZONE, generation: generation(counter) });
    }
}

fn pool_key(zone: &TestZone) -> RrKey {
    RrKey::new(zone.apex.child("_steering").unwrap().child("eu").unwrap(), POOL)
}

fn policy_key(zone: &TestZone) -> RrKey {
    RrKey::new(zone.apex.child("www").unwrap(), policy_type(Rtype::A).unwrap())
}

/// A change at this serial, which is the generation too.
fn change(zone: &mut TestZone, serial: u32, before: Option<u32>, changes: &[(RrKey, Option<Rrset>)]) -> Task {
    zone.serial = serial;
    let records = Arc::make_mut(&mut zone.records);
    for (key, rrset) in changes {
        match rrset {
            Some(rrset) => drop(records.insert(key.clone(), rrset.clone())),
            None => drop(records.remove(key)),
        }
    }
    let is_steered = records.keys().any(|key| herald_core::steering::is_steering_type(key.rtype));
    let at = generation(serial.into());
    let steering = Change {
        zone: ZONE,
        before: before.map(|before| generation(before.into())),
        after: is_steered.then_some(at),
        generation: at,
        is_private: false,
        with_records: false,
        is_whole_needed: false,
    };
    Task::Delta(Delta {
        soa: soa(serial),
        changes: changes.to_vec(),
        whole: zone.put(),
        steering: Some(steering),
    })
}

/// What knotd has at `www`, with TTL.
fn www(pop: &Pop, zone: &TestZone) -> Vec<(String, String)> {
    let mut batch = Batch::new();
    let owner = zone.apex.child("www").unwrap();
    let items: [(Item, &[u8]); 3] = [
        (Item::Zone, &text::name_text(&zone.apex)),
        (Item::Owner, &text::name_text(&owner)),
        (Item::Type, b"A"),
    ];
    batch.push(Command::ZoneRead, &items).unwrap();
    let mut values = Vec::new();
    ctl::run_batch(&pop.knot.control_socket(), DEADLINE, &batch, |reply| {
        if reply.error().is_none() {
            values.push((reply.text(Item::Ttl).to_owned(), reply.text(Item::Data).to_owned()));
        }
    })
    .unwrap();
    values
}

/// Waits for the end of this task; what is told of the module itself is passed over.
fn wait_done(pop: &Pop, wanted: u64) -> Result<(), TaskError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match pop.next_report_by(deadline) {
            Report::Done { tag, result, .. } if tag == wanted => return result,
            Report::ModuleUp { .. } | Report::ModuleDown { .. } | Report::ModuleSaid(_) | Report::Settled => {
            }
            other => panic!("unexpected {other:?}; knotd's log:\n{}", pop.log()),
        }
    }
}

#[test]
fn the_module_is_told_before_knotd_and_what_it_refuses_or_misses_is_not_served() {
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("herald.sock");
    let listener = Listener::bind(&path);
    let greeting = thread::spawn(move || Listener::accept(listener, Vec::new()));
    let mut plain = TestZone::new("plain.test.", 1).with_a([1; 4]);
    let pop = Pop::start_beside([plain.clone()], Limits::default(), Some(path.clone()), |_| {});
    let mut module = greeting.join().unwrap();
    let marker = (PLACEHOLDER_TTL_S.to_string(), "192.0.0.8".to_owned());

    // A whole zone: told first, served when the module is ready, settled when it is served.
    let mut zone = TestZone { steered: Some(ZONE), ..TestZone::new("steered.test.", 1) };
    let (eu, steered) = (pool_key(&zone), policy_key(&zone));
    let policy = rrset(0, &[b"policy"]);
    let both = [(eu.clone(), policy.clone()), (steered.clone(), policy.clone())];
    Arc::make_mut(&mut zone.records).extend(both);
    pop.submit(&zone.apex, 1, Task::Put(zone.put()));
    assert!(
        matches!(module.next(), ToModule::Begin(head) if head.serial == 1 && head.generation == generation(1))
    );
    let ToModule::Part { rrsets, .. } = module.next() else { panic!("a part follows") };
    assert_eq!(rrsets.len(), 2, "steering alone: {rrsets:?}");
    assert_eq!(module.next(), ToModule::End { zone: ZONE });
    assert_eq!(pop.serial(&zone.apex), None, "it isn't served before the module is ready");
    module.prepared(1);
    module.expect_settle(1);
    assert_eq!(wait_done(&pop, 1), Ok(()));
    assert_eq!(www(&pop, &zone), std::slice::from_ref(&marker));
    // A policy gives way to a record, and a pool changes, as one; others' changes go on meanwhile.
    let www_a = RrKey::new(zone.apex.child("www").unwrap(), Rtype::A);
    let swap = [
        (www_a.clone(), Some(rrset(60, &[&[192, 0, 2, 1]]))),
        (steered.clone(), None),
        (eu.clone(), Some(rrset(0, &[b"other"]))),
    ];
    let task = change(&mut zone, 2, Some(1), &swap);
    pop.submit(&zone.apex, 2, task);
    let ToModule::Delta { head, base, puts, deletes } = module.next() else { panic!("a delta") };
    assert_eq!((head.serial, base), (2, generation(1)));
    assert_eq!((puts.len(), deletes), (1, vec![steered.clone()]));
    pop.submit(&plain.apex.clone(), 3, Task::Delta(plain.change_a([2; 4])));
    assert_eq!(wait_done(&pop, 3), Ok(()));
    assert_eq!(pop.serial(&zone.apex), Some(1), "the module has yet to be ready");
    module.prepared(2);
    module.expect_settle(2);
    assert_eq!(wait_done(&pop, 2), Ok(()));
    assert_eq!(www(&pop, &zone), [("60".to_owned(), "192.0.2.1".to_owned())]);

    // What it refuses isn't committed. The whole zone is to be put then; it is refused, too.
    let back = [(www_a.clone(), None), (steered.clone(), Some(policy.clone()))];
    let task = change(&mut zone, 3, Some(2), &back);
    pop.submit(&zone.apex, 4, task);
    let ToModule::Delta { .. } = module.next() else { panic!("a delta") };
    let refused =
        |reason: &str| ToAgent::Refused { zone: ZONE, generation: generation(3), reason: reason.into() };
    module.say(&refused("no such pool"));
    assert_eq!(wait_done(&pop, 4), Err(TaskError::Steering("no such pool".into())));
    pop.submit(&zone.apex, 5, Task::Put(zone.put()));
    while module.next() != (ToModule::End { zone: ZONE }) {}
    module.say(&refused("still none"));
    assert_eq!(wait_done(&pop, 5), Err(TaskError::Steering("still none".into())));
    assert_eq!(pop.serial(&zone.apex), Some(2), "the last good state goes on");
    pop.submit(&zone.apex, 6, Task::Put(zone.put()));
    while module.next() != (ToModule::End { zone: ZONE }) {}
    module.prepared(3);
    module.expect_settle(3);
    assert_eq!(wait_done(&pop, 6), Ok(()));
    assert_eq!(www(&pop, &zone), std::slice::from_ref(&marker));

    // It goes away while it is being told of a change: that waits, others' changes go on, and it is told again.
    let task = change(&mut zone, 4, Some(3), &[(eu.clone(), Some(rrset(0, &[b"third"])))]);
    pop.submit(&zone.apex, 7, task);
    let ToModule::Delta { .. } = module.next() else { panic!("a delta") };
    let Listener { listener, stream, .. } = module;
    drop(stream);
    pop.submit(&plain.apex.clone(), 8, Task::Delta(plain.change_a([3; 4])));
    assert_eq!(wait_done(&pop, 8), Ok(()));
    assert_eq!(pop.serial(&zone.apex), Some(3));
    let mut module = Listener::accept(listener, vec![(ZONE, generation(3))]);
    let ToModule::Delta { base, .. } = module.next() else { panic!("the delta again") };
    assert_eq!(base, generation(3));
    module.prepared(4);
    module.expect_settle(4);
    assert_eq!(wait_done(&pop, 7), Ok(()));
    assert_eq!(pop.serial(&zone.apex), Some(4));

    // It comes back with something else than a change builds upon: the whole zone has to be put.
    let Listener { listener, stream, .. } = module;
    drop(stream);
    let mut module = Listener::accept(listener, vec![(ZONE, generation(1))]);
    let task = change(&mut zone, 5, Some(4), &[(eu.clone(), Some(rrset(0, &[b"fourth"])))]);
    pop.submit(&zone.apex, 9, task);
    assert_eq!(wait_done(&pop, 9), Err(TaskError::NotServed));
    pop.submit(&zone.apex, 10, Task::Put(zone.put()));
    while module.next() != (ToModule::End { zone: ZONE }) {}
    module.prepared(5);
    module.expect_settle(5);
    assert_eq!(wait_done(&pop, 10), Ok(()));

    // The last steering goes: the module gets rid of the zone after knotd did.
    let task = change(&mut zone, 6, Some(5), &[(eu.clone(), None), (steered.clone(), None)]);
    pop.submit(&zone.apex, 11, task);
    let ToModule::Delta { deletes, .. } = module.next() else { panic!("a delta") };
    assert_eq!(deletes.len(), 2);
    module.prepared(6);
    module.expect_settle(6);
    assert_eq!(module.next(), ToModule::Remove { zone: ZONE });
    assert_eq!(wait_done(&pop, 11), Ok(()));
    assert!(www(&pop, &zone).is_empty());
}

/// An agent that finds a knotd whose module has nothing, as its snapshot was damaged, may hear of the module before or after it knows
/// what knotd serves: that the serial is served says nothing of the module.
#[test]
fn a_served_serial_does_not_say_that_the_module_has_what_goes_with_it() {
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("herald.sock");
    let listener = Listener::bind(&path);
    let greeting = thread::spawn(move || Listener::accept(listener, Vec::new()));
    let pop = Pop::start_beside([], Limits::default(), Some(path.clone()), |_| {});
    let mut module = greeting.join().unwrap();
    let mut zone = TestZone { steered: Some(ZONE), ..TestZone::new("steered.test.", 1) };
    let (eu, steered, policy) = (pool_key(&zone), policy_key(&zone), rrset(0, &[b"policy"]));
    Arc::make_mut(&mut zone.records).extend([(eu.clone(), policy.clone()), (steered, policy)]);
    pop.submit(&zone.apex, 1, Task::Put(zone.put()));
    while module.next() != (ToModule::End { zone: ZONE }) {}
    module.prepared(1);
    module.expect_settle(1);
    assert_eq!(wait_done(&pop, 1), Ok(()));

    let resume = || pop.driver.resume(vec![(zone.apex.clone(), 1)]);
    pop.driver.suspend();
    pop.submit(&zone.apex, 2, Task::Put(zone.put()));
    resume();
    assert_eq!(wait_done(&pop, 2), Ok(()), "the module has it");
    let Listener { listener, stream, .. } = module;
    drop(stream);
    let mut module = Listener::accept(listener, Vec::new());
    pop.driver.suspend();
    pop.submit(&zone.apex, 3, Task::Put(zone.put()));
    resume();
    assert!(matches!(module.next(), ToModule::Begin(head) if head.generation == generation(1)));
    while module.next() != (ToModule::End { zone: ZONE }) {}
    module.prepared(1);
    module.expect_settle(1);
    assert_eq!(wait_done(&pop, 3), Ok(()));

    // So it is with a change that knotd has already.
    let Listener { listener, stream, .. } = module;
    drop(stream);
    let mut module = Listener::accept(listener, Vec::new());
    pop.driver.suspend();
    let mut next = zone.clone();
    let change = change(&mut next, 1, Some(0), &[(eu, Some(rrset(0, &[b"policy"])))]);
    pop.submit(&zone.apex, 4, change);
    resume();
    while module.next() != (ToModule::End { zone: ZONE }) {}
    module.prepared(1);
    module.expect_settle(1);
    assert_eq!(wait_done(&pop, 4), Ok(()));
}

#[test]
fn without_a_module_a_zone_with_steering_is_refused() {
    let pop = Pop::start([]);
    let mut zone = TestZone { steered: Some(ZONE), ..TestZone::new("steered.test.", 1) };
    let key = policy_key(&zone);
    pop.submit(&zone.apex, 1, Task::Put(zone.put()));
    assert_eq!(wait_done(&pop, 1), Ok(()), "it has none yet");
    let task = change(&mut zone, 2, None, &[(key, Some(rrset(0, &[b"policy"])))]);
    pop.submit(&zone.apex, 2, task);
    assert!(matches!(wait_done(&pop, 2), Err(TaskError::Steering(_))));
    pop.submit(&zone.apex, 3, Task::Put(zone.put()));
    assert!(matches!(wait_done(&pop, 3), Err(TaskError::Steering(_))));
    assert_eq!(pop.serial(&zone.apex), Some(1), "the last good state goes on");
}
