//! The agent's side of the PoP stream: what its core does with any row of frames, on a real replica and with a driver of knotd that
//! does what it is told, fails or is slow. Whatever comes, the replica stays sound, and no change alone makes a zone older.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use dns_sync::agent::core::{Action, Core, Input};
use dns_sync::agent::{Contents, Scrubbed, scrub};
use dns_sync::knot::driver::{Job, Report, Task, TaskError};
use dns_sync::knot::zonefile::ZoneWriter;
use dns_sync::replica::{Reader, Replica};
use dns_sync::session::Frame;
use herald_core::{Generation, Name, Rdatas, RrKey, Rrset, Rtype, ZoneId};
use herald_wire::stream::{
    BUCKETS, Holding, ToHerald, ToPop, ZoneBegin, ZoneDelta, ZoneGeneration, ZoneRrset, decode_frame,
    encode_frame,
};
use tempfile::TempDir;

/// Bits of the octet before each frame.
mod how {
    /// Digests, the delta's base and the count of RRsets are made right: only then a zone is taken.
    pub(super) const RIGHT: u8 = 1;
    /// The frames that have gathered are taken in now.
    pub(super) const NOW: u8 = 2;
    /// knotd's driver does what it has to do.
    pub(super) const WORK: u8 = 4;
    /// Its first job fails.
    pub(super) const FAULT: u8 = 8;
    /// Six seconds pass.
    pub(super) const LATER: u8 = 16;
    /// The session ends and another one begins.
    pub(super) const AGAIN: u8 = 32;
    /// knotd was started again on its files, or says of a zone that it isn't as it should be.
    pub(super) const KNOT: u8 = 64;
    /// The agent is killed and started again.
    pub(super) const RESTART: u8 = 128;
}

/// An empty replica, made once: making one takes longer than all the rest.
static EMPTY: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = folder();
    drop(Replica::open(&replica_in(dir.path())).expect("a replica"));
    dir
});

/// In memory, where the system has it as a folder: nothing has to outlive the machine.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
}

fn replica_in(dir: &Path) -> PathBuf {
    dir.join("replica")
}

/// The first octet says which buckets are asked for, whether the replica is re-read meanwhile (2), and whether it is opened again in
/// the end (4); then frames without their lengths, each with an octet of [`how`] before it.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, mut bytes)) = data.split_first() else { return };
    let mut agent = Agent::new(choice);
    while let Some((&octet, rest)) = bytes.split_first() {
        let mut decoder = minicbor::Decoder::new(rest);
        let Ok(message) = decoder.decode::<ToPop>() else { break };
        bytes = &rest[decoder.position()..];
        agent.take(octet, message);
    }
    agent.end();
}

struct Agent {
    choice: u8,
    core: Core,
    now: Duration,
    frames: Vec<Frame>,
    /// Of whole zones whose frames are gathered: what makes them right is known only at their end.
    begun: HashMap<ZoneId, Begun>,
    jobs: Vec<Job>,
    /// The newest generation of each zone, and what may have been removed since.
    rows: BTreeMap<ZoneId, Generation>,
    is_replaced: bool,
    damaged: Receiver<ZoneId>,
    dir: TempDir,
}

/// A whole zone whose beginning is among the frames.
struct Begun {
    place: usize,
    rrsets: HashMap<RrKey, Rrset>,
}

impl Agent {
    fn new(choice: u8) -> Agent {
        let dir = folder();
        let replica = replica_in(dir.path());
        std::fs::create_dir(&replica).expect("a folder");
        for file in std::fs::read_dir(replica_in(EMPTY.path())).expect("a folder") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), replica.join(file.file_name())).expect("a copy");
        }
        let (core, damaged) = Self::start(dir.path());
        let mut agent = Agent {
            choice,
            core,
            now: Duration::ZERO,
            frames: Vec::new(),
            begun: HashMap::new(),
            jobs: Vec::new(),
            rows: BTreeMap::new(),
            is_replaced: false,
            damaged,
            dir,
        };
        agent.begin();
        agent
    }

    fn start(dir: &Path) -> (Core, Receiver<ZoneId>) {
        let replica = Replica::open(&replica_in(dir)).expect("the replica can be opened");
        assert_eq!(replica.set_aside_at_opening(), 0, "a zone was damaged");
        let (tell, damaged) = mpsc::channel();
        let contents = Contents::new(replica_in(dir), move |zone| {
            let _ = tell.send(zone);
        });
        (Core::new(replica, contents, dir.join("aside")), damaged)
    }

    /// What the agent does first, and a session.
    fn begin(&mut self) {
        self.core.resume_unapplied(self.now);
        self.handle(Input::KnotUp { written: None });
        self.open();
    }

    fn open(&mut self) {
        self.core.greet(self.now).expect("a greeting");
        let buckets = (0..BUCKETS as u16).filter(|bucket| bucket % 2 == u16::from(self.choice) % 2);
        self.handle(Input::Opened { buckets: buckets.collect(), head: Generation { epoch: 1, counter: 1 } });
    }

    fn take(&mut self, octet: u8, message: ToPop) {
        let is = |bit: u8| octet & bit != 0;
        if is(how::LATER) {
            self.now += Duration::from_secs(6);
        }
        if is(how::RESTART) {
            self.forget();
            // What was under way is lost with the agent.
            self.jobs.clear();
            (self.core, self.damaged) = Self::start(self.dir.path());
            self.begin();
        } else if is(how::AGAIN) {
            self.forget();
            self.handle(Input::Closed);
            self.open();
        }
        if is(how::KNOT) {
            self.knot_says(octet, &message);
        }
        self.gather(message, is(how::RIGHT));
        if is(how::NOW) {
            self.step();
        }
        if is(how::WORK) {
            self.work(is(how::FAULT));
        }
    }

    /// Frames of a session that is over.
    fn forget(&mut self) {
        self.frames.clear();
        self.begun.clear();
    }

    fn gather(&mut self, mut message: ToPop, is_right: bool) {
        match &mut message {
            ToPop::Delta(delta) if is_right => {
                self.step();
                self.put_right(delta);
            }
            ToPop::ZoneBegin(begin) => {
                self.is_replaced = true;
                if is_right {
                    let (place, rrsets) = (self.frames.len(), HashMap::new());
                    self.begun.insert(begin.zone, Begun { place, rrsets });
                }
            }
            ToPop::ZonePart { zone, rrsets } => {
                if let Some(begun) = self.begun.get_mut(zone) {
                    begun.rrsets.extend(rrsets.iter().map(|rrset| (rrset.key.clone(), rrset.rrset.clone())));
                }
            }
            ToPop::ZoneEnd { zone } => {
                if let Some(begun) = self.begun.remove(zone)
                    && let Some(Frame { message: ToPop::ZoneBegin(begin), .. }) =
                        self.frames.get_mut(begun.place)
                {
                    begin.digest = digest(&begun.rrsets);
                    begin.rrset_count = begun.rrsets.len() as u64;
                }
            }
            ToPop::Remove { .. } => self.is_replaced = true,
            _ => {}
        }
        let mut bytes = Vec::new();
        encode_frame(&message, &mut bytes);
        self.frames.push(Frame::new(message, bytes.len() as u64));
    }

    /// Makes a delta fit the zone that the replica has.
    fn put_right(&self, delta: &mut ZoneDelta) {
        let Ok(Some(row)) = self.core.replica().zone(delta.zone) else { return };
        let mut rrsets = self.content(delta.zone);
        delta.base = row.generation;
        delta.deletes.iter().for_each(|key| drop(rrsets.remove(key)));
        rrsets.extend(delta.puts.iter().map(|put| (put.key.clone(), put.rrset.clone())));
        delta.digest = digest(&rrsets);
    }

    fn content(&self, zone: ZoneId) -> HashMap<RrKey, Rrset> {
        let reader = Reader::open(&replica_in(self.dir.path())).expect("a reader");
        let mut rrsets = HashMap::new();
        let read = reader.zone(zone, None, |key, rrset| {
            rrsets.insert(key.clone(), rrset.clone());
            Ok(())
        });
        read.unwrap_or_else(|error| panic!("{zone} can't be read: {error}"));
        rrsets
    }

    fn knot_says(&mut self, octet: u8, message: &ToPop) {
        let zone = match message {
            ToPop::ZoneBegin(begin) => begin.name.clone(),
            _ => example(),
        };
        match octet % 4 {
            0 => self.handle(Input::KnotUp { written: None }),
            1 => self.handle(Input::KnotUp { written: Some(vec![(zone, 1)]) }),
            2 => self.handle(Input::Report(Report::Stale { zone, serving: None })),
            _ => self.handle(Input::Report(Report::Unexpected { zone })),
        }
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(input, self.now);
        self.act();
    }

    /// Takes in what has gathered.
    fn step(&mut self) {
        self.begun.clear();
        let frames = std::mem::take(&mut self.frames);
        self.handle(Input::Frames(frames));
        // What waits behind a question for the inventory is taken in by a step of its own.
        for _ in 0..100 {
            self.core.step(self.now, &mut || None);
            self.act();
            if self.core.next_due(self.now) != Some(self.now) {
                break;
            }
        }
        let mut rows = BTreeMap::new();
        let read = self.core.replica().for_each_zone(|row| {
            rows.insert(row.id, row.generation);
        });
        read.expect("the rows can be read");
        // A whole zone may follow a removal, or be another one of that name.
        if !std::mem::take(&mut self.is_replaced) {
            for (zone, was) in &self.rows {
                assert!(rows.get(zone).is_some_and(|is| is >= was), "{zone} was at {was}: {rows:?}");
            }
        }
        self.rows = rows;
    }

    fn act(&mut self) {
        // Carrying something out may lead to more.
        for _ in 0..100 {
            let actions = self.core.actions();
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.carry_out(action));
        }
        panic!("there is no end of what is to be done");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send(message) => self.sent(&message),
            Action::Submit(jobs) => self.jobs.extend(jobs),
            Action::Resume(_) | Action::Compare(_) => {
                self.core.handle(Input::Report(Report::Settled), self.now)
            }
            // Reading all again takes most of the time: half of the inputs go without.
            Action::Scrub(_) if self.choice & 2 == 0 => {
                self.core.handle(Input::Scrubbed(Scrubbed::Failed), self.now);
            }
            Action::Scrub(order) => {
                let scrubbed = scrub(&replica_in(self.dir.path()), &order);
                if let Scrubbed::Zones { damaged, .. } = &scrubbed {
                    assert!(damaged.is_empty(), "damaged: {damaged:?}");
                }
                self.core.handle(Input::Scrubbed(scrubbed), self.now);
            }
            Action::HangUp => panic!("the replica failed: {:?}", self.core.figures().replica_error),
            Action::Error(_)
            | Action::KnotRefuses { .. }
            | Action::Filling(_)
            | Action::ForgetSteering(_) => {}
        }
    }

    /// What is said can be read, and nothing is confirmed that isn't durable.
    fn sent(&self, message: &ToHerald) {
        let mut bytes = Vec::new();
        encode_frame(message, &mut bytes);
        let read = decode_frame::<ToHerald>(&bytes).expect("what is said is read").expect("whole");
        assert_eq!((read.0, &read.1), (bytes.len(), message));
        if let ToHerald::Applied { zones } = message {
            for ZoneGeneration { zone, generation } in zones {
                let row = self.core.replica().zone(*zone).expect("the row can be read");
                let is_durable = row.as_ref().is_none_or(|row| row.generation >= *generation);
                assert!(is_durable, "{zone} is confirmed at {generation}: {row:?}");
            }
        }
    }

    /// The driver does all that it has to do.
    fn work(&mut self, is_fault: bool) {
        for (place, Job { zone, tag, task }) in std::mem::take(&mut self.jobs).into_iter().enumerate() {
            if let Task::Put(put) = &task {
                // Not there is a zone that was removed meanwhile.
                let _ = put.content.write(&mut ZoneWriter::new(&mut Vec::new()));
            }
            let result = match place {
                0 if is_fault && tag % 2 == 0 => Err(TaskError::NotServed),
                0 if is_fault => Err(TaskError::Rejected("words".into())),
                _ => Ok(()),
            };
            self.handle(Input::Report(Report::Done { zone, tag, result }));
        }
        assert_eq!(self.damaged.try_iter().next(), None, "a zone can't be read");
        self.step();
    }

    /// All that is left is done; then the replica is what it says it is, and can be opened.
    fn end(mut self) {
        self.step();
        for _ in 0..20 {
            self.now += Duration::from_secs(61);
            let is_done = self.jobs.is_empty();
            self.work(false);
            if is_done && self.jobs.is_empty() {
                break;
            }
        }
        assert!(self.jobs.is_empty(), "there is no end of what knotd has to do");
        assert_eq!(self.core.figures().zones_damaged, 0);
        self.core.end();
        let holding = self.core.replica().holding();
        let zones: Vec<ZoneId> = self.rows.keys().copied().collect();
        for zone in zones {
            let row = self.core.replica().zone(zone).expect("the row can be read").expect("it is there");
            let rrsets = self.content(zone);
            assert_eq!((digest(&rrsets), rrsets.len() as u64), (row.digest, row.rrset_count), "{row:?}");
        }
        if self.choice & 4 == 0 {
            return;
        }
        drop(self.core);
        let (core, _damaged) = Self::start(self.dir.path());
        assert_eq!(core.replica().holding(), holding, "it holds something else after a start");
    }
}

fn digest(rrsets: &HashMap<RrKey, Rrset>) -> u128 {
    rrsets.iter().fold(0, |sum, (key, rrset)| sum.wrapping_add(rrset.digest(key)))
}

// ---------------------------------------------------------------------------------------------------
// Seeds
// ---------------------------------------------------------------------------------------------------

fn example() -> Name {
    Name::parse("example.com.").expect("a name")
}

fn soa(serial: u8) -> ZoneRrset {
    let mut rdata = b"\x02ns\x04test\0\x01h\x04test\0".to_vec();
    rdata.extend_from_slice(&[0, 0, 0, serial]);
    rdata.extend_from_slice(&[0; 16]);
    ZoneRrset {
        key: RrKey::new(example(), Rtype::SOA),
        rrset: Rrset { ttl: 60, rdatas: Rdatas::single(&rdata) },
    }
}

fn address(last: u8) -> ZoneRrset {
    let key = RrKey::new(example().child("a").expect("a name"), Rtype::A);
    ZoneRrset { key, rrset: Rrset { ttl: 60, rdatas: Rdatas::single(&[192, 0, 2, last]) } }
}

/// Rows of frames as a control plane sends them, and each message in the midst of one.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let generation = |counter| Generation { epoch: 1, counter };
    let zone = ZoneId(1);
    let whole = |zone: ZoneId, counter: u64| {
        let (digest, rrset_count, name) = (0, 2, example());
        let generation = generation(counter);
        [
            ToPop::ZoneBegin(ZoneBegin { zone, name, generation, digest, rrset_count, private: None }),
            ToPop::ZonePart { zone, rrsets: vec![soa(counter as u8), address(1)] },
            ToPop::ZoneEnd { zone },
        ]
    };
    let delta = |counter: u64| {
        let puts = vec![soa(counter as u8), address(counter as u8)];
        let (base, generation) = (generation(counter - 1), generation(counter));
        ToPop::Delta(ZoneDelta { zone, base, generation, digest: 0, puts, deletes: Vec::new() })
    };
    let deletion = ToPop::Delta(ZoneDelta {
        zone,
        base: generation(3),
        generation: generation(4),
        digest: 0,
        puts: vec![soa(4)],
        deletes: vec![address(0).key],
    });
    let ping = |holding| ToPop::Ping { head: generation(9), in_sync: true, holding };
    let all = [
        delta(2),
        delta(3),
        deletion,
        ping(None),
        ping(Some(Holding { zones: 1, digest: 5 })),
        ToPop::Compare { buckets: (0..BUCKETS as u16).step_by(5).collect() },
        ToPop::Remove { zone, generation: generation(5) },
        ToPop::Reject { reason: "words".into() },
    ];
    let row = |octets: &[u8], messages: &[ToPop]| {
        let mut bytes = vec![7];
        for (place, message) in messages.iter().enumerate() {
            bytes.push(octets[place % octets.len()]);
            minicbor::encode(message, &mut bytes).expect("a Vec takes it");
        }
        bytes
    };
    let (first, other) = (whole(zone, 1), whole(ZoneId(2), 6));
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for octets in [
        &[how::RIGHT | how::NOW | how::WORK][..],
        &[how::RIGHT],
        &[how::NOW],
        &[how::RIGHT, how::RIGHT, how::RIGHT | how::NOW | how::WORK | how::FAULT],
        &[how::RIGHT, how::RIGHT, how::RIGHT | how::NOW, how::RIGHT | how::KNOT | how::LATER | how::WORK],
    ] {
        seeds.push(row(octets, &[&first[..], &all, &other].concat()));
    }
    for message in &all {
        for last in [how::RIGHT | how::NOW, how::AGAIN | how::RIGHT, how::RESTART | how::WORK] {
            let octets = [how::RIGHT, how::RIGHT, how::RIGHT | how::NOW, last];
            seeds.push(row(&octets, &[&first[..], std::slice::from_ref(message), &other].concat()));
        }
    }
    seeds
}
