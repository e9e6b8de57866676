//! Keeps one of the files that the control plane has: fetched in the session, checked, kept under its hash, told to the module in knotd. The
//! table of places is one, and so are the two of the firewall, each in a directory of its own.
//!
//! ```text
//! data/geo/current        SHA-256 of the table in use
//! data/geo/HASH.geo       tables: that one, and the one before it
//! data/geo/HASH.part      one that is being fetched; the next session goes on with it
//! ```
//!
//! A table is used once all of it is here and is what its hash says. One that turns out to be damaged is fetched anew, and until then
//! the one before it is used.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use herald_core::firewall::FirewallPart;
use herald_wire::stream::{GEO_WINDOW_BYTES, GeoDatabase, GeoProblem, GeoStatus, ToHerald, ToPop};
use sha2::{Digest, Sha256};
use steering::firewall::{Policies, Rules};
use steering::geo::{Database, Geo, Versions};
use steering::link::ToModule;
use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::sync::watch;

use crate::materialize::with_causes;

const CURRENT: &str = "current";
const TABLE: &str = "geo";
const PART: &str = "part";

/// A file that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFile {
    /// Its file. It is never changed, and stays at least until the second one after it is in use.
    pub path: PathBuf,
    /// SHA-256 of it.
    pub hash: [u8; 32],
}

impl KeptFile {
    /// What the module is told of it, being this part of the firewall, or without one the table of places.
    pub fn message(&self, part: Option<FirewallPart>) -> ToModule {
        let (path, hash) = (self.path.to_string_lossy().into_owned(), self.hash.to_vec());
        match part {
            None => ToModule::Geo { path, hash },
            Some(part) => ToModule::Firewall { part, path, hash },
        }
    }
}

/// Where an agent with this data folder has tables of places.
pub fn dir(data: &Path) -> PathBuf {
    data.join("geo")
}

/// Where an agent with this data folder has a part of the firewall.
pub fn firewall_dir(data: &Path, part: FirewallPart) -> PathBuf {
    data.join("firewall").join(match part {
        FirewallPart::Rules => "rules",
        FirewallPart::Policies => "policies",
    })
}

/// The table in this directory that is in use, if it is there. Whether it is whole is found out by who reads it.
pub fn in_use(dir: &Path) -> Option<KeptFile> {
    let text = fs::read_to_string(dir.join(CURRENT)).ok()?;
    let hash = read_hash(text.trim())?;
    let path = path_of(dir, &hash, TABLE);
    path.is_file().then_some(KeptFile { path, hash })
}

/// A handle on who keeps it. Clones are handles on the same one.
#[derive(Clone)]
pub struct FileKeeper {
    part: Option<FirewallPart>,
    events: Sender<Event>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    status: Mutex<GeoStatus>,
    file: watch::Sender<Option<KeptFile>>,
}

enum Event {
    /// A session stands; messages to the control plane go here, as long as it does.
    Opened(WeakUnboundedSender<ToHerald>),
    Frame(ToPop),
    Closed,
}

impl FileKeeper {
    /// Reads what is in this directory, and keeps it up to date from then on, on a thread of its own.
    ///
    /// # Errors
    /// If the directory or the thread can't be made.
    pub fn start(dir: PathBuf) -> io::Result<FileKeeper> {
        FileKeeper::start_of(None, dir)
    }

    /// The same for a part of the firewall; without one, for the table of places.
    ///
    /// # Errors
    /// As [`FileKeeper::start`].
    pub fn start_of(part: Option<FirewallPart>, dir: PathBuf) -> io::Result<FileKeeper> {
        fs::create_dir_all(&dir)?;
        let (events, inbox) = mpsc::channel();
        let shared = Arc::<Shared>::default();
        let mut keeper = Keeper { part, dir, shared: Arc::clone(&shared), outbox: None, incoming: None };
        keeper.load();
        thread::Builder::new().name("geo".into()).spawn(move || keeper.run(&inbox))?;
        Ok(FileKeeper { part, events, shared })
    }

    /// What is told to the control plane.
    pub fn status(&self) -> GeoStatus {
        self.shared.status().clone()
    }

    /// The table that the module is to use, and each one after it.
    pub fn file(&self) -> watch::Receiver<Option<KeptFile>> {
        self.shared.file.subscribe()
    }

    /// The module says whether it uses a table.
    pub fn module_says(&self, hash: &[u8], problem: Option<String>) {
        let mut status = self.shared.status();
        let is_told = status.problem.as_ref().is_some_and(|problem| problem.hash == hash);
        match problem {
            Some(reason) => status.problem = Some(GeoProblem { hash: hash.to_vec(), reason }),
            None if is_told => status.problem = None,
            None => {}
        }
    }

    /// A session stands.
    pub(crate) fn opened(&self, outbox: WeakUnboundedSender<ToHerald>) {
        self.tell(Event::Opened(outbox));
    }

    /// It is over.
    pub(crate) fn closed(&self) {
        self.tell(Event::Closed);
    }

    /// Takes a frame if it is about what it keeps, and gives back any other.
    pub(crate) fn take(&self, frame: ToPop) -> Option<ToPop> {
        match frame {
            ToPop::GeoOffer { part, .. } | ToPop::GeoPart { part, .. } if part == self.part => {
                self.tell(Event::Frame(frame));
                None
            }
            other => Some(other),
        }
    }

    fn tell(&self, event: Event) {
        // Its thread lives as long as there is a handle.
        let _ = self.events.send(event);
    }
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, GeoStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Keeper {
    part: Option<FirewallPart>,
    dir: PathBuf,
    shared: Arc<Shared>,
    outbox: Option<WeakUnboundedSender<ToHerald>>,
    incoming: Option<Incoming>,
}

/// A table that is being fetched.
struct Incoming {
    hash: [u8; 32],
    bytes: u64,
    file: File,
    have: u64,
    /// Up to where it was asked for.
    asked: u64,
}

/// Why a table can't be used.
#[derive(Debug, thiserror::Error)]
enum GeoError {
    #[error("its file can't be read or written")]
    Io(#[from] io::Error),
    #[error("it isn't what its hash says")]
    Hash,
    #[error(transparent)]
    Table(#[from] steering::geo::GeoError),
    #[error(transparent)]
    Firewall(#[from] steering::firewall::FileError),
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Event>) {
        for event in inbox {
            match event {
                Event::Opened(outbox) => self.outbox = Some(outbox),
                Event::Closed => (self.outbox, self.incoming) = (None, None),
                Event::Frame(ToPop::GeoOffer { hash, bytes, .. }) => self.offered(&hash, bytes),
                Event::Frame(ToPop::GeoPart { hash, from, bytes, .. }) => self.part(&hash, from, &bytes),
                Event::Frame(_) => {}
            }
        }
    }

    // -- at the start ------------------------------------------------------------------------------

    /// Uses what there is: the table that was in use, or if that is damaged another one that is here.
    fn load(&mut self) {
        let current = fs::read_to_string(self.dir.join(CURRENT)).ok().and_then(|text| read_hash(text.trim()));
        let Some(current) = current else { return };
        let others = self.tables().into_iter().filter(|hash| *hash != current);
        for hash in [current].into_iter().chain(others) {
            match self.read(&hash, TABLE) {
                Ok(versions) => return self.used(hash, &versions),
                Err(error) => {
                    let reason =
                        format!("{} on the disk can't be used: {}", self.what(), with_causes(&error));
                    tracing::error!("{reason}");
                    let _ = fs::remove_file(self.path(&hash, TABLE));
                    // That it is damaged here says nothing of the table: so it is told of none.
                    self.shared.status().problem = Some(GeoProblem { hash: Vec::new(), reason });
                }
            }
        }
    }

    /// Tables that are here, the newest first.
    fn tables(&self) -> Vec<[u8; 32]> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut tables: Vec<_> = entries
            .filter_map(|entry| {
                let path = entry.path();
                let hash = read_hash(path.file_stem()?.to_str()?)?;
                let is_table = path.extension()? == TABLE;
                is_table.then_some((entry.metadata().ok()?.modified().ok()?, hash))
            })
            .collect();
        tables.sort_unstable_by(|a, b| b.cmp(a));
        tables.into_iter().map(|(_, hash)| hash).collect()
    }

    /// Reads a table as a whole and checks it.
    fn read(&self, hash: &[u8; 32], extension: &str) -> Result<Versions, GeoError> {
        let bytes = fs::read(self.path(hash, extension))?;
        if Sha256::digest(&bytes)[..] != hash[..] {
            return Err(GeoError::Hash);
        }
        match self.part {
            None => Ok(Geo::read(&bytes)?.versions().clone()),
            Some(FirewallPart::Rules) => Ok(Rules::read(&bytes).map(|_| Versions::default())?),
            Some(FirewallPart::Policies) => Ok(Policies::read(&bytes).map(|_| Versions::default())?),
        }
    }

    // -- in a session ------------------------------------------------------------------------------

    fn offered(&mut self, hash: &[u8], bytes: u64) {
        self.incoming = None;
        let Ok(hash) = <[u8; 32]>::try_from(hash) else { return self.have_none() };
        if self.shared.status().hash == hash {
            return;
        }
        if let Err(error) = self.begin(hash, bytes) {
            self.fails(&hash, &error);
        }
    }

    /// Goes on with what is here of it.
    fn begin(&mut self, hash: [u8; 32], bytes: u64) -> Result<(), GeoError> {
        // Of one that isn't offered any more, nothing is needed.
        for other in self.files(PART).into_iter().filter(|path| *path != self.path(&hash, PART)) {
            let _ = fs::remove_file(other);
        }
        let file = File::options().append(true).create(true).open(self.path(&hash, PART))?;
        let mut have = file.metadata()?.len();
        if have > bytes {
            file.set_len(0)?;
            have = 0;
        }
        self.incoming = Some(Incoming { hash, bytes, file, have, asked: have });
        self.go_on()
    }

    fn part(&mut self, hash: &[u8], from: u64, bytes: &[u8]) {
        let Some(incoming) = &mut self.incoming else { return };
        // Of an offer before this one.
        if incoming.hash != hash || incoming.have != from {
            return;
        }
        let hash = incoming.hash;
        let written = incoming.file.write_all(bytes);
        incoming.have += bytes.len() as u64;
        if let Err(error) = written.map_err(GeoError::from).and_then(|()| self.go_on()) {
            self.incoming = None;
            self.fails(&hash, &error);
        }
    }

    /// Asks for more if all that was asked for is here, or uses the table if all of it is.
    fn go_on(&mut self) -> Result<(), GeoError> {
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        if incoming.have < incoming.bytes {
            if incoming.have >= incoming.asked {
                incoming.asked = (incoming.have + GEO_WINDOW_BYTES).min(incoming.bytes);
                let want = ToHerald::GeoWant {
                    hash: incoming.hash.to_vec(),
                    from: incoming.have,
                    to: incoming.asked,
                    part: self.part,
                };
                if let Some(outbox) = self.outbox.as_ref().and_then(WeakUnboundedSender::upgrade) {
                    // The session has just ended if it fails.
                    let _ = outbox.send(want);
                }
            }
            return Ok(());
        }
        let Some(incoming) = self.incoming.take() else { return Ok(()) };
        incoming.file.sync_all()?;
        let hash = incoming.hash;
        drop(incoming);
        let versions = match self.read(&hash, PART) {
            Ok(versions) => versions,
            Err(error) => {
                // What is wrong with it would be so the next time, too.
                fs::remove_file(self.path(&hash, PART))?;
                return Err(error);
            }
        };
        fs::rename(self.path(&hash, PART), self.path(&hash, TABLE))?;
        self.point_at(&hash)?;
        let before = self.shared.status().hash.clone();
        self.used(hash, &versions);
        // The module may be reading the one before; those before that nobody needs.
        let is_kept = |table: &[u8; 32]| *table == hash || table[..] == before;
        for table in self.tables().iter().filter(|table| !is_kept(table)) {
            let _ = fs::remove_file(self.path(table, TABLE));
        }
        Ok(())
    }

    /// From here on this table is used, also after a start.
    fn point_at(&self, hash: &[u8; 32]) -> io::Result<()> {
        let new = self.dir.join("current.new");
        let mut file = File::create(&new)?;
        writeln!(file, "{}", hexadecimal(hash))?;
        file.sync_all()?;
        fs::rename(new, self.dir.join(CURRENT))?;
        File::open(&self.dir)?.sync_all()
    }

    fn used(&self, hash: [u8; 32], versions: &Versions) {
        let database = |database: &Option<Database>| {
            let Database { kind, built_s } = database.clone()?;
            Some(GeoDatabase { kind, built_s })
        };
        // Whoever sees it in the status finds the file.
        self.shared.file.send_replace(Some(KeptFile { path: self.path(&hash, TABLE), hash }));
        {
            let mut status = self.shared.status();
            status.hash = hash.to_vec();
            (status.city, status.asn) = (database(&versions.city), database(&versions.asn));
            // That another one was damaged here is of account until the wanted one is.
            status.problem =
                status.problem.take().filter(|problem| problem.hash.is_empty() && self.outbox.is_none());
        }
        tracing::info!("{} with the hash {} is in use", self.what(), hexadecimal(&hash));
    }

    /// What it keeps, for people.
    fn what(&self) -> &'static str {
        match self.part {
            None => "the GeoIP table",
            Some(FirewallPart::Rules) => "the firewall's file of rules",
            Some(FirewallPart::Policies) => "the firewall's file of policy zones",
        }
    }

    /// Rules that need a table are to fall through.
    fn have_none(&self) {
        self.shared.file.send_replace(None);
        let _ = fs::remove_file(self.dir.join(CURRENT));
        self.files(TABLE).into_iter().chain(self.files(PART)).for_each(|path| drop(fs::remove_file(path)));
        // Whoever sees in the status that there is none finds none.
        *self.shared.status() = GeoStatus::default();
    }

    fn fails(&self, hash: &[u8; 32], error: &GeoError) {
        let reason = format!("{} can't be used: {}", self.what(), with_causes(error));
        tracing::error!("{reason}");
        self.shared.status().problem = Some(GeoProblem { hash: hash.to_vec(), reason });
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }

    fn path(&self, hash: &[u8; 32], extension: &str) -> PathBuf {
        path_of(&self.dir, hash, extension)
    }
}

fn path_of(dir: &Path, hash: &[u8; 32], extension: &str) -> PathBuf {
    dir.join(format!("{}.{extension}", hexadecimal(hash)))
}

fn hexadecimal(hash: &[u8; 32]) -> String {
    hash.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn read_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (place, octet) in hash.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use steering::geo::{Aliases, Builder, Facts};
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn table(built_s: u64) -> Vec<u8> {
        let mut builder = Builder::default();
        builder.city_database(Database { kind: "Test-City".into(), built_s }, Aliases::NONE);
        let numbers: Vec<u32> =
            (1..3).map(|city| builder.record(Facts { city, ..Facts::default() })).collect();
        for network in 0..100_000_u32 {
            builder.city4(network << 8, network << 8 | 0xff, numbers[network as usize % 2]).unwrap();
        }
        builder.finish().write()
    }

    fn hash_of(table: &[u8]) -> Vec<u8> {
        Sha256::digest(table).to_vec()
    }

    fn session(keeper: &FileKeeper) -> (UnboundedSender<ToHerald>, UnboundedReceiver<ToHerald>) {
        let (outbox, messages) = unbounded_channel();
        keeper.opened(outbox.downgrade());
        (outbox, messages)
    }

    /// Offers a table and gives what is asked for of it, `parts_max` parts at most.
    fn serve(
        keeper: &FileKeeper,
        table: &[u8],
        messages: &mut UnboundedReceiver<ToHerald>,
        parts_max: usize,
    ) {
        let hash = hash_of(table);
        let mut left = parts_max;
        keeper.take(ToPop::GeoOffer { hash: hash.clone(), bytes: table.len() as u64, part: None });
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            let said = keeper.status();
            if said.hash == hash || said.problem.is_some_and(|problem| problem.hash == hash) {
                return;
            }
            let Ok(ToHerald::GeoWant { hash: wanted, from, to, .. }) = messages.try_recv() else {
                thread::yield_now();
                continue;
            };
            assert_eq!(wanted, hash);
            let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            for place in (from..to).step_by(32 * 1024) {
                if left == 0 {
                    return;
                }
                left -= 1;
                let bytes = table[place..(place + 32 * 1024).min(to)].to_vec();
                keeper.take(ToPop::GeoPart { hash: hash.clone(), from: place as u64, bytes, part: None });
            }
        }
        panic!("nothing came of the offer: {:?}", keeper.status());
    }

    fn until(keeper: &FileKeeper, what: &str, is_so: impl Fn(&GeoStatus) -> bool) -> GeoStatus {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            let said = keeper.status();
            if is_so(&said) {
                return said;
            }
            thread::yield_now();
        }
        panic!("not within {DEADLINE:?}: {what}: {:?}", keeper.status());
    }

    #[test]
    fn a_table_is_fetched_used_and_there_after_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (table(1), table(2));
        assert!(old.len() as u64 > GEO_WINDOW_BYTES / 2);
        let keeper = FileKeeper::start(folder.path().into()).unwrap();
        assert_eq!(keeper.status(), GeoStatus::default());
        let mut file = keeper.file();
        let (_outbox, mut messages) = session(&keeper);
        serve(&keeper, &old, &mut messages, usize::MAX);
        assert_eq!(keeper.status().city.map(|city| city.built_s), Some(1));
        let told = file.borrow_and_update().clone().unwrap();
        assert_eq!((fs::read(told.path).unwrap(), told.hash.to_vec()), (old.clone(), hash_of(&old)));
        serve(&keeper, &new, &mut messages, usize::MAX);
        assert_eq!(keeper.status().hash, hash_of(&new));

        let again = FileKeeper::start(folder.path().into()).unwrap();
        assert_eq!((again.status().hash, again.status().problem), (hash_of(&new), None));
        // Damaged on the disk: the one before it is used until it is here again.
        let hash: [u8; 32] = hash_of(&new).try_into().unwrap();
        let path = folder.path().join(format!("{}.geo", hexadecimal(&hash)));
        let mut damaged = fs::read(&path).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&path, damaged).unwrap();
        let again = FileKeeper::start(folder.path().into()).unwrap();
        let said = again.status();
        assert_eq!(said.hash, hash_of(&old));
        assert!(said.problem.unwrap().hash.is_empty(), "it is no problem of the table");
        let (_outbox, mut messages) = session(&again);
        serve(&again, &new, &mut messages, usize::MAX);
        let said = until(&again, "the new one", |said| said.hash == hash_of(&new));
        assert_eq!(said.problem, None);

        again.take(ToPop::GeoOffer { hash: Vec::new(), bytes: 0, part: None });
        until(&again, "none", |said| *said == GeoStatus::default());
        assert!(again.file().borrow().is_none());
        assert_eq!(FileKeeper::start(folder.path().into()).unwrap().status(), GeoStatus::default());
    }

    #[test]
    fn fetching_goes_on_where_it_was_when_the_session_ended() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(1);
        let keeper = FileKeeper::start(folder.path().into()).unwrap();
        let (_outbox, mut messages) = session(&keeper);
        serve(&keeper, &table, &mut messages, 5);
        keeper.closed();
        let (_outbox, mut messages) = session(&keeper);
        keeper.take(ToPop::GeoOffer { hash: hash_of(&table), bytes: table.len() as u64, part: None });
        let begun = Instant::now();
        let want = loop {
            match messages.try_recv() {
                Ok(want) => break want,
                Err(_) => assert!(begun.elapsed() < DEADLINE, "nothing is asked for"),
            }
        };
        let ToHerald::GeoWant { from, .. } = want else { panic!("{want:?}") };
        assert_eq!(from, 5 * 32 * 1024);
        serve(&keeper, &table, &mut messages, usize::MAX);
        assert_eq!(keeper.status().hash, hash_of(&table));
    }

    #[test]
    fn what_is_not_the_table_is_told_and_the_one_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (good, mut bad) = (table(1), table(2));
        let keeper = FileKeeper::start(folder.path().into()).unwrap();
        let (_outbox, mut messages) = session(&keeper);
        serve(&keeper, &good, &mut messages, usize::MAX);
        // Whole and as its hash says, but no table.
        bad.truncate(bad.len() - 7);
        serve(&keeper, &bad, &mut messages, usize::MAX);
        let said = keeper.status();
        assert_eq!(said.hash, hash_of(&good));
        let problem = said.problem.unwrap();
        assert_eq!(problem.hash, hash_of(&bad));
        assert!(problem.reason.contains("was cut off"), "{}", problem.reason);
        assert_eq!(keeper.file().borrow().as_ref().unwrap().hash.to_vec(), hash_of(&good));
        // What the module says of it counts as well.
        keeper.module_says(&hash_of(&good), Some("no memory".into()));
        assert_eq!(keeper.status().problem.unwrap().reason, "no memory");
        keeper.module_says(&hash_of(&good), None);
        assert_eq!(keeper.status().problem, None);
    }
}
