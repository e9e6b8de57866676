//! Which endpoints this PoP holds to be up: the control plane's verdicts, and its own where it probes.
//!
//! ```text
//!   session ──verdicts, monitors──▶ keeper ──verdicts──▶ module in knotd   (at once, by a connection of its own)
//!      ▲                             │  ▲  └───────────▶ file of verdicts  (read again after a restart, by the module too)
//!      └──────── what is seen ───────┘  │
//!                                 prober ◀── monitors
//! ```
//!
//! A PoP that has heard nothing from the control plane for [`ISOLATED_AFTER`] is isolated: policies that want it so go by its own
//! probes until the control plane is heard again.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use herald_core::{Generation, MonitorId};
use herald_wire::stream::{MonitorVerdict, Probe, ProbeAnswer, Probes, Seen, ToHerald, ToPop};
use steering::link::{SNAPSHOT_MAGIC, ToModule, Whose, decode_frame, encode_frame};
use tokio::sync::mpsc::WeakUnboundedSender;

use crate::module::link::{Link, LinkEvent};
use crate::probe::{Prober, Resolver, Told};
use crate::status::{Board, HealthStatus, now_ms};

/// Whoever hears nothing from the control plane for so long is isolated: it pings once a second.
pub const ISOLATED_AFTER: Duration = Duration::from_secs(5);

/// How long changes of verdicts may wait to be written to the file. The module is told at once, and the control plane tells again
/// what the file doesn't have.
const WRITE_AFTER: Duration = Duration::from_millis(50);

/// Monitors in one message to the control plane, and verdicts in one to the module.
const MESSAGE_ITEMS: usize = 2_000;
const FRAME_VERDICTS: usize = 100_000;

/// A handle on who keeps it. Clones are handles on the same one.
#[derive(Clone)]
pub struct HealthKeeper(Arc<Handle>);

struct Handle {
    events: Sender<Event>,
    as_of: Arc<Mutex<Generation>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Its other senders are with those that it keeps.
        let _ = self.events.send(Event::End);
    }
}

enum Event {
    Opened(WeakUnboundedSender<ToHerald>),
    Closed,
    /// Something was heard from the control plane; whether it was a ping, which comes after the verdicts of before.
    Heard {
        is_ping: bool,
    },
    Verdicts {
        as_of: Generation,
        is_all: bool,
        verdicts: Vec<MonitorVerdict>,
    },
    Probes(Box<Probes>),
    Seen(Box<Seen>),
    Answer(ProbeAnswer),
    Module(LinkEvent),
    /// Nobody has a handle any more.
    End,
}

impl HealthKeeper {
    /// Reads the verdicts in this file and keeps them up to date from then on, on a thread of its own; tells them to the module that
    /// listens at this socket, if there is one; and probes what the control plane wants to be probed.
    ///
    /// # Errors
    /// If a thread can't be made. A file that can't be read is none: the control plane tells all again.
    pub fn start(
        file: PathBuf,
        module_socket: Option<PathBuf>,
        resolver: Resolver,
        board: Arc<Board>,
    ) -> io::Result<HealthKeeper> {
        let (events, inbox) = mpsc::channel();
        let (as_of, herald) = read_file(&file).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                board.error(format!(
                    "the verdicts in {} can't be read, and are asked for anew: {error}",
                    file.display()
                ));
            }
            (Generation::default(), BTreeMap::new())
        });
        let handle = Handle { events: events.clone(), as_of: Arc::new(Mutex::new(as_of)) };
        let (linked, seen) = (events.clone(), events);
        let link = module_socket
            .map(|socket| Link::start(socket, move |event| drop(linked.send(Event::Module(event)))));
        let prober = Prober::start(resolver, move |told| {
            let event = match told {
                Told::Seen(one) => Event::Seen(Box::new(one)),
                Told::Answer(answer) => Event::Answer(answer),
            };
            drop(seen.send(event));
        })?;
        let keeper = Keeper {
            file,
            board,
            link: link.transpose()?,
            connection: None,
            prober,
            outbox: None,
            shared_as_of: handle.as_of.clone(),
            as_of,
            herald,
            probes: HashMap::new(),
            seen: HashMap::new(),
            heard_at: Instant::now(),
            is_isolated: false,
            write_at: None,
        };
        thread::Builder::new().name("health".into()).spawn(move || keeper.run(&inbox))?;
        Ok(HealthKeeper(Arc::new(handle)))
    }

    /// As of when it has verdicts.
    pub fn as_of(&self) -> Generation {
        *self.0.as_of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session stands.
    pub(crate) fn opened(&self, outbox: WeakUnboundedSender<ToHerald>) {
        self.tell(Event::Opened(outbox));
    }

    /// It is over.
    pub(crate) fn closed(&self) {
        self.tell(Event::Closed);
    }

    /// Takes a frame if it is about monitors, and gives back any other.
    pub(crate) fn take(&self, frame: ToPop) -> Option<ToPop> {
        match frame {
            ToPop::Verdicts { as_of, is_all, verdicts } => {
                self.tell(Event::Verdicts { as_of, is_all, verdicts });
                None
            }
            ToPop::Probes(probes) => {
                self.tell(Event::Probes(Box::new(probes)));
                None
            }
            other => {
                self.tell(Event::Heard { is_ping: matches!(other, ToPop::Ping { .. }) });
                Some(other)
            }
        }
    }

    fn tell(&self, event: Event) {
        // Its thread lives as long as there is a handle.
        let _ = self.0.events.send(event);
    }
}

struct Keeper {
    file: PathBuf,
    board: Arc<Board>,
    link: Option<Link>,
    /// The connection that stands, if the module knows of verdicts.
    connection: Option<u64>,
    prober: Prober,
    outbox: Option<WeakUnboundedSender<ToHerald>>,
    shared_as_of: Arc<Mutex<Generation>>,
    as_of: Generation,
    /// What is down by the control plane's word, and since when, in seconds since the epoch.
    herald: BTreeMap<MonitorId, u32>,
    probes: HashMap<MonitorId, Probe>,
    /// What this PoP sees, and the second since when.
    seen: HashMap<MonitorId, (Seen, u32)>,
    heard_at: Instant,
    is_isolated: bool,
    /// When the file is to be written.
    write_at: Option<Instant>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Event>) {
        loop {
            let isolated_at = (!self.is_isolated).then(|| self.heard_at + ISOLATED_AFTER);
            let due = [isolated_at, self.write_at].into_iter().flatten().min();
            let now = Instant::now();
            let wait = due.map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(now));
            match inbox.recv_timeout(wait) {
                Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if !self.is_isolated && now >= self.heard_at + ISOLATED_AFTER {
                self.isolate();
            }
            if self.write_at.is_some_and(|at| now >= at) {
                self.write_at = None;
                self.write();
            }
        }
        if self.write_at.is_some() {
            self.write();
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Opened(outbox) => self.outbox = Some(outbox),
            Event::Closed => self.outbox = None,
            Event::Heard { is_ping } => {
                self.heard_at = Instant::now();
                // What was said of verdicts in this session came before.
                if is_ping && self.is_isolated {
                    self.rejoin();
                }
            }
            Event::Verdicts { as_of, is_all, verdicts } => self.verdicts(as_of, is_all, &verdicts),
            Event::Probes(probes) => self.probes(*probes),
            Event::Seen(seen) => self.see(*seen),
            Event::Answer(answer) => {
                self.send_frame(ToHerald::Probed { seen: Vec::new(), answers: Some(vec![answer]) })
            }
            Event::Module(LinkEvent::Up { connection, knows_verdicts, .. }) => {
                self.connection = knows_verdicts.then_some(connection);
                self.tell_all();
            }
            Event::Module(LinkEvent::Said { .. }) | Event::End => {}
            Event::Module(LinkEvent::Down { .. }) => self.connection = None,
        }
    }

    fn verdicts(&mut self, as_of: Generation, is_all: bool, verdicts: &[MonitorVerdict]) {
        self.heard_at = Instant::now();
        if as_of < self.as_of {
            return;
        }
        let changes: Vec<(MonitorId, u32)> = verdicts
            .iter()
            .map(|one| (one.monitor, one.down_since_s.map_or(0, |since| since.max(1))))
            .collect();
        // First of all: what is said here is what clients wait for.
        self.tell(&verdict_frames(Whose::Herald, is_all, &changes, None));
        if is_all {
            self.herald.clear();
        }
        for (monitor, since) in &changes {
            match since {
                0 => _ = self.herald.remove(monitor),
                since => _ = self.herald.insert(*monitor, *since),
            }
        }
        self.as_of = as_of;
        self.write_at.get_or_insert(Instant::now() + WRITE_AFTER);
        self.show();
    }

    fn probes(&mut self, probes: Probes) {
        self.heard_at = Instant::now();
        if probes.is_all {
            self.probes.clear();
        }
        for gone in &probes.deletes {
            self.probes.remove(gone);
        }
        for probe in &probes.puts {
            self.probes.insert(probe.monitor, probe.clone());
        }
        let is_current = |(seen, _): &(Seen, u32), probes: &HashMap<MonitorId, Probe>| {
            probes.get(&seen.monitor).is_some_and(|probe| probe.revision == seen.revision)
        };
        self.seen.retain(|_, one| is_current(one, &self.probes));
        let is_all = probes.is_all;
        self.prober.set(probes);
        if is_all {
            let now_s = now_s();
            let all = self.seen.values().map(|(seen, since_s)| Seen {
                for_ms: u64::from(now_s.saturating_sub(*since_s)) * 1000,
                ..seen.clone()
            });
            let all: Vec<Seen> = all.filter(|seen| self.is_chosen(seen.monitor)).collect();
            all.chunks(MESSAGE_ITEMS).for_each(|some| self.send(some.to_vec()));
        }
        self.show();
    }

    fn is_chosen(&self, monitor: MonitorId) -> bool {
        self.probes.get(&monitor).is_some_and(|probe| probe.is_chosen)
    }

    fn see(&mut self, seen: Seen) {
        let Some(probe) = self.probes.get(&seen.monitor) else { return };
        if probe.revision != seen.revision {
            return;
        }
        if probe.is_chosen {
            self.send(vec![seen.clone()]);
        }
        let monitor = seen.monitor;
        let since_s = now_s().saturating_sub(u32::try_from(seen.for_ms / 1000).unwrap_or(0)).max(1);
        self.seen.insert(monitor, (seen, since_s));
        if self.is_isolated {
            let verdict = [(monitor, self.local(monitor))];
            self.tell(&verdict_frames(Whose::Local, false, &verdict, None));
        }
    }

    /// What this PoP holds of a monitor on its own: what it sees, or where it sees nothing, the control plane's last word.
    fn local(&self, monitor: MonitorId) -> u32 {
        match self.seen.get(&monitor) {
            Some((Seen { up: Some(true), .. }, _)) => 0,
            Some((Seen { up: Some(false), .. }, since_s)) => *since_s,
            _ => self.herald.get(&monitor).copied().unwrap_or(0),
        }
    }

    fn all_local(&self) -> Vec<(MonitorId, u32)> {
        let all = self.herald.keys().chain(self.seen.keys());
        let down: BTreeMap<MonitorId, u32> =
            all.map(|monitor| (*monitor, self.local(*monitor))).filter(|(_, since)| *since > 0).collect();
        down.into_iter().collect()
    }

    fn isolate(&mut self) {
        self.is_isolated = true;
        tracing::warn!(
            "nothing was heard from the control plane for {} s: this PoP is isolated",
            ISOLATED_AFTER.as_secs()
        );
        self.tell_all();
        self.prober.set_isolated(true);
        self.show();
    }

    fn rejoin(&mut self) {
        self.is_isolated = false;
        tracing::info!("the control plane is heard again");
        let mut frames = Vec::new();
        encode_frame(&ToModule::Isolated { is_isolated: false }, &mut frames);
        self.tell(&frames);
        self.prober.set_isolated(false);
        // What was seen while nobody asked is old when it is needed again.
        let probes = &self.probes;
        self.seen.retain(|monitor, _| probes.get(monitor).is_some_and(|probe| probe.is_chosen));
        self.show();
    }

    /// Tells the module all there is to know.
    fn tell_all(&self) {
        let herald: Vec<(MonitorId, u32)> =
            self.herald.iter().map(|(monitor, since)| (*monitor, *since)).collect();
        let mut frames = verdict_frames(Whose::Herald, true, &herald, None);
        if self.is_isolated {
            frames.extend(verdict_frames(Whose::Local, true, &self.all_local(), None));
        }
        encode_frame(&ToModule::Isolated { is_isolated: self.is_isolated }, &mut frames);
        self.tell(&frames);
    }

    fn tell(&self, frames: &[u8]) {
        if let (Some(link), Some(connection)) = (&self.link, self.connection) {
            link.write(connection, frames.to_vec());
        }
    }

    fn send(&self, seen: Vec<Seen>) {
        self.send_frame(ToHerald::Probed { seen, answers: None });
    }

    fn send_frame(&self, frame: ToHerald) {
        if let Some(outbox) = self.outbox.as_ref().and_then(WeakUnboundedSender::upgrade) {
            // The session has just ended if it fails; the next one asks for all.
            let _ = outbox.send(frame);
        }
    }

    fn write(&mut self) {
        let herald: Vec<(MonitorId, u32)> =
            self.herald.iter().map(|(monitor, since)| (*monitor, *since)).collect();
        match write_file(&self.file, self.as_of, &herald) {
            Ok(()) => *self.shared_as_of.lock().unwrap_or_else(PoisonError::into_inner) = self.as_of,
            Err(error) => {
                self.board
                    .error(format!("the verdicts could not be written to {}: {error}", self.file.display()));
                self.write_at = Some(Instant::now() + Duration::from_secs(1));
            }
        }
    }

    fn show(&self) {
        let status = HealthStatus {
            down: self.herald.len() as u64,
            as_of: self.as_of.to_string(),
            probes: self.probes.values().filter(|probe| probe.is_chosen).count() as u64,
            is_isolated: self.is_isolated,
        };
        self.board.update(|shown| shown.health = Some(status));
    }
}

fn now_s() -> u32 {
    u32::try_from(now_ms() / 1000).unwrap_or(u32::MAX)
}

/// Frames that say it; the first one that these are all, if they are.
fn verdict_frames(
    whose: Whose,
    is_all: bool,
    verdicts: &[(MonitorId, u32)],
    as_of: Option<Generation>,
) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut say = |is_all, verdicts: &[_]| {
        encode_frame(&ToModule::Verdicts { whose, is_all, verdicts: verdicts.to_vec(), as_of }, &mut frames);
    };
    let mut chunks = verdicts.chunks(FRAME_VERDICTS);
    say(is_all, chunks.next().unwrap_or_default());
    chunks.for_each(|chunk| say(false, chunk));
    frames
}

fn write_file(file: &Path, as_of: Generation, herald: &[(MonitorId, u32)]) -> io::Result<()> {
    let mut bytes = SNAPSHOT_MAGIC.to_vec();
    bytes.extend(verdict_frames(Whose::Herald, true, herald, Some(as_of)));
    encode_frame(&ToModule::SnapshotEnd, &mut bytes);
    let mut temporary = file.as_os_str().to_owned();
    temporary.push("~");
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut out = fs::File::create(&temporary)?;
    out.write_all(&bytes)?;
    out.sync_data()?;
    fs::rename(&temporary, file)
}

type Kept = (Generation, BTreeMap<MonitorId, u32>);

fn read_file(file: &Path) -> io::Result<Kept> {
    let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut bytes = Vec::new();
    fs::File::open(file)?.read_to_end(&mut bytes)?;
    let mut rest = bytes.strip_prefix(SNAPSHOT_MAGIC).ok_or_else(|| damaged("it is of another version"))?;
    let (mut as_of, mut down) = (Generation::default(), BTreeMap::new());
    loop {
        let frame = decode_frame(rest).map_err(|error| damaged(&error.to_string()))?;
        let (bytes, message) = frame.ok_or_else(|| damaged("it ends in the midst"))?;
        rest = rest.get(bytes..).unwrap_or_default();
        match message {
            ToModule::Verdicts { verdicts, as_of: told, .. } => {
                as_of = told.unwrap_or(as_of);
                down.extend(verdicts);
            }
            ToModule::SnapshotEnd => return Ok((as_of, down)),
            _ => return Err(damaged("it holds something else")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_as_they_were_written_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("steering.snapshot.verdicts");
        assert_eq!(read_file(&file).unwrap_err().kind(), io::ErrorKind::NotFound);
        let as_of = Generation { epoch: 3, counter: 9 };
        let down: Vec<(MonitorId, u32)> = (1..250_000).map(|number| (MonitorId(number), number)).collect();
        write_file(&file, as_of, &down).unwrap();
        assert_eq!(read_file(&file).unwrap(), (as_of, down.iter().copied().collect()));
        let bytes = fs::read(&file).unwrap();
        for cut in [0, 5, 40, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&file, &bytes[..cut]).unwrap();
            assert_eq!(read_file(&file).unwrap_err().kind(), io::ErrorKind::InvalidData, "{cut}");
        }
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        fs::write(&file, damaged).unwrap();
        assert_eq!(read_file(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
