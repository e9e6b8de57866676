//! `herald audit verify`: reads everything that is kept and says where it is not what it should be.
//!
//! It reads one snapshot of the store, whether the control plane runs or not, and goes on after what is wrong, so that all
//! of it is told: checksums, the hash chain over envelopes, payloads against their hashes, chunks, and whether the
//! checkpoint is what the log leads to.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use herald_core::State;
use herald_core::change::{Change, ChunkAddress, Chunks};
use herald_core::log::{self, Envelope, LogError};
use herald_store::{Checkpoint, ChunkId, Inspected, OpenError, Store, StoreError, StoreReader};
use sha2::{Digest, Sha256};

use crate::access_log::{self, AccessLogError};
use crate::backup::store_dir;
use crate::config::{self, ConfigError};
use crate::engine::{RecoverError, load_base, load_checkpoint};

/// So many entries are read at once.
const BATCH_ENTRIES: usize = 256;

/// So many lines SQLite tells of what it finds wrong with its own structure.
const STRUCTURE_LINES: u32 = 20;

/// What to do about what is kept.
#[derive(Clone, Debug, Subcommand)]
pub enum AuditCommand {
    /// Read everything, and say where checksums, the hash chain or the checkpoint don't hold; exit status 1 if they don't
    Verify(VerifyArgs),
}

/// Arguments of `herald audit verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Directory of the store, as `herald serve` has it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The TOML file of `herald serve`, which may name the directory
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The arguments are not right.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The access log can't be opened.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
}

/// Something that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
}

/// Where something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The database as such.
    Store,
    /// An entry of the log.
    Revision(u64),
    /// A chunk.
    Chunk(ChunkId),
    /// The checkpoint.
    Checkpoint,
    /// The state from which the past is told.
    Base,
    /// A record of the access log.
    Access(u64),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Store => write!(f, "store: {}", self.what),
            Place::Revision(revision) => write!(f, "revision {revision}: {}", self.what),
            Place::Chunk(id) => write!(f, "chunk {id}: {}", self.what),
            Place::Checkpoint => write!(f, "checkpoint: {}", self.what),
            Place::Base => write!(f, "base: {}", self.what),
            Place::Access(number) => write!(f, "access log, record {number}: {}", self.what),
        }
    }
}

/// What was gone through, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is wrong, in the order of the log.
    pub problems: Vec<Problem>,
    /// The revision of the last entry, as it is recorded.
    pub head: u64,
    /// Up to where payloads may have been erased.
    pub horizon: u64,
    /// Entries read.
    pub entries: u64,
    /// Those of them whose payload was erased.
    pub erased: u64,
    /// Chunks read.
    pub chunks: u64,
}

impl Report {
    fn add(&mut self, place: Place, what: impl Into<String>) {
        self.problems.push(Problem { place, what: what.into() });
    }
}

/// Runs it, and prints a line for each problem and one that sums up.
///
/// # Errors
/// [`AuditError`] if nothing could be verified.
pub fn run(command: AuditCommand) -> Result<ExitCode, AuditError> {
    let AuditCommand::Verify(args) = command;
    let data = config::data_dir(args.data, args.config.as_deref())?;
    let mut report = verify(&store_dir(&data))?;
    let (wrong, records) = access_log::verify(&data)?;
    for (number, what) in wrong {
        report.add(Place::Access(number), what);
    }
    for problem in &report.problems {
        println!("{problem}");
    }
    let Report { head, horizon, entries, erased, chunks, .. } = report;
    let past = match horizon {
        0 => String::new(),
        _ => format!(", the past kept from revision {horizon} on ({erased} payloads erased)"),
    };
    let read = format!(
        "{entries} entries up to revision {head} and {chunks} chunks{past}; {records} records of the access log"
    );
    Ok(match report.problems.len() {
        0 => {
            println!("all is right: {read}");
            ExitCode::SUCCESS
        }
        count => {
            println!("{count} problems: {read}; restore the store from a backup, or copy it from a standby");
            ExitCode::FAILURE
        }
    })
}

/// Verifies the store in this directory.
///
/// # Errors
/// If it can't even be opened.
pub fn verify(dir: &Path) -> Result<Report, OpenError> {
    let store = StoreReader::open_damaged(dir)?;
    let mut report = Report::default();
    match store.structure(STRUCTURE_LINES) {
        Ok(lines) => lines.into_iter().for_each(|line| report.add(Place::Store, line)),
        Err(e) => report.add(Place::Store, plain(&e)),
    }
    report.head = store.head().unwrap_or(0);
    let mut follower = Follower::new(&store, report);
    follower.follow_log();
    let mut report = follower.finish();
    verify_chunks(&store, &mut report);
    Ok(report)
}

/// A point that the log has to lead to: a checkpoint or the base.
struct Point {
    place: Place,
    revision: u64,
    /// Its state and the hash of the envelope at it.
    held: Option<(State, [u8; 32])>,
}

impl Point {
    fn read(
        place: Place,
        found: Result<Option<Checkpoint>, StoreError>,
        load: impl FnOnce(&Checkpoint) -> Result<(State, [u8; 32]), RecoverError>,
        report: &mut Report,
    ) -> Option<Point> {
        let found = found.unwrap_or_else(|e| {
            report.add(place, plain(&e));
            None
        })?;
        if found.revision > report.head {
            report
                .add(place, format!("it is of revision {}, beyond the head {}", found.revision, report.head));
        }
        let held = load(&found).map_err(|e| report.add(place, plain_recover(&e))).ok();
        Some(Point { place, revision: found.revision, held })
    }
}

/// Follows the log from its begin to its end.
struct Follower<'a> {
    store: &'a StoreReader,
    report: Report,
    base: Option<Point>,
    checkpoint: Option<Point>,
    /// What the log leads to so far; none where that isn't known.
    state: Option<State>,
    /// Hash of the envelope before; none after a gap.
    previous_hash: Option<[u8; 32]>,
    previous: Option<Envelope>,
}

impl<'a> Follower<'a> {
    fn new(store: &'a StoreReader, mut report: Report) -> Follower<'a> {
        let base = Point::read(Place::Base, store.base(), |base| load_base(store, base), &mut report);
        let load = |checkpoint: &Checkpoint| load_checkpoint(store, checkpoint);
        let checkpoint = Point::read(Place::Checkpoint, store.checkpoint(), load, &mut report);
        report.horizon = base.as_ref().map_or(0, |base| base.revision);
        match &checkpoint {
            Some(checkpoint) if checkpoint.revision < report.horizon => {
                report.add(Place::Checkpoint, "it is before the base, so that the state can't be recovered");
            }
            None if report.horizon > 0 => {
                report.add(Place::Checkpoint, "there is none, though payloads may have been erased");
            }
            _ => {}
        }
        Follower {
            store,
            report,
            base,
            checkpoint,
            state: Some(State::default()),
            previous_hash: Some(log::GENESIS),
            previous: None,
        }
    }

    fn follow_log(&mut self) {
        let mut after = 0;
        loop {
            let some = match self.store.inspect(after, BATCH_ENTRIES) {
                Ok(some) => some,
                Err(e) => {
                    self.report.add(
                        Place::Revision(after + 1),
                        format!("it can't be read on from here: {}", plain(&e)),
                    );
                    return;
                }
            };
            if some.is_empty() {
                break;
            }
            for found in some {
                let revision = found.entry.revision;
                self.gap(after + 1, revision);
                after = revision;
                self.entry(found);
            }
        }
        if after < self.report.head {
            self.gap(after + 1, self.report.head + 1);
        }
    }

    /// Tells which entries are missing before this one.
    fn gap(&mut self, expected: u64, found: u64) {
        if expected == found {
            return;
        }
        let what = match found - expected {
            1 => "the entry is missing".to_owned(),
            _ => format!("the entries from here to {} are missing", found - 1),
        };
        self.report.add(Place::Revision(expected), what);
        self.previous_hash = None;
        self.state = None;
    }

    fn entry(&mut self, found: Inspected) {
        let Inspected { entry, sum_is_right } = found;
        let revision = entry.revision;
        let place = Place::Revision(revision);
        self.report.entries += 1;
        if !sum_is_right {
            self.report.add(place, "the checksum is not that of the entry");
        }
        if revision > self.report.head {
            self.report.add(place, format!("it is beyond the head, which is {}", self.report.head));
        }
        let envelope = self.envelope(revision, &entry.envelope);
        self.previous_hash = Some(Sha256::digest(&entry.envelope).into());
        let changes = envelope.as_ref().and_then(|envelope| self.payload(envelope, &entry.payload));
        match (&envelope, &changes, &mut self.state) {
            (Some(envelope), Some(changes), Some(state)) => {
                changes.iter().for_each(|change| state.apply(envelope.at(), change));
            }
            _ => self.state = None,
        }
        self.previous = envelope.or(self.previous.take());
        let (base, checkpoint) = (self.base.take(), self.checkpoint.take());
        self.base = self.pass(revision, base);
        self.checkpoint = self.pass(revision, checkpoint);
    }

    /// What the envelope says, if it can be read.
    fn envelope(&mut self, revision: u64, bytes: &[u8]) -> Option<Envelope> {
        let place = Place::Revision(revision);
        let envelope = match log::open_envelope(revision, bytes) {
            Ok(envelope) => envelope,
            Err(e) => {
                self.report.add(place, plain_log(&e));
                return None;
            }
        };
        if self.previous_hash.is_some_and(|hash| hash != envelope.previous_hash) {
            self.report.add(
                place,
                "the hash chain breaks: its envelope names another as the one before than that which is there",
            );
        }
        if let Some(previous) = &self.previous {
            if envelope.time_ms < previous.time_ms {
                self.report.add(place, "its time is before that of the entry before");
            }
            if envelope.epoch < previous.epoch {
                self.report.add(place, "its epoch is before that of the entry before");
            }
        }
        Some(envelope)
    }

    /// The changes, if the payload is there and right.
    fn payload(&mut self, envelope: &Envelope, payload: &[u8]) -> Option<Vec<Change>> {
        let place = Place::Revision(envelope.revision);
        if payload.is_empty() {
            if envelope.revision <= self.report.horizon {
                self.report.erased += 1;
            } else {
                self.report
                    .add(place, "its payload is missing, and it is not so old that it may have been erased");
            }
            return None;
        }
        if envelope.payload_hash[..] != Sha256::digest(payload)[..] {
            self.report.add(place, "its payload is not the one that its envelope names");
            return None;
        }
        let mut chunks = AuditedChunks { store: self.store, wrong: Default::default() };
        let changes = log::decode_payload(payload, &mut chunks);
        let wrong = chunks.wrong.into_inner();
        for what in &wrong {
            self.report.add(place, what.clone());
        }
        match changes {
            Ok(changes) => Some(changes),
            Err(e) => {
                if wrong.is_empty() {
                    self.report.add(place, format!("its payload can't be read: {e}"));
                }
                None
            }
        }
    }

    /// At a point that the log has to lead to: compares, and goes on from it.
    fn pass(&mut self, revision: u64, point: Option<Point>) -> Option<Point> {
        let point = point?;
        if point.revision != revision {
            return Some(point);
        }
        let place = point.place;
        let (state, hash) = point.held?;
        if self.previous_hash != Some(hash) {
            self.report.add(place, format!("it names another envelope than that of revision {revision}"));
        }
        match &self.state {
            Some(led_to) => {
                if let Some(what) = first_difference(led_to, &state) {
                    self.report.add(
                        place,
                        format!("it is not what the log leads to at revision {revision}: {what}"),
                    );
                }
            }
            // What couldn't be followed up to here can be from here on.
            None => self.state = Some(state),
        }
        None
    }

    fn finish(self) -> Report {
        self.report
    }
}

/// Finds chunks, and notes what is wrong with those that it finds or doesn't find.
struct AuditedChunks<'a> {
    store: &'a StoreReader,
    wrong: std::cell::RefCell<BTreeSet<String>>,
}

impl Chunks for AuditedChunks<'_> {
    fn chunk(&self, address: &ChunkAddress) -> Option<Vec<u8>> {
        let id = ChunkId::from_bytes(*address);
        let found = match self.store.chunk(&id) {
            Ok(Some(chunk)) => return Some(chunk),
            Ok(None) => format!("the chunk {id}, which it names, is missing"),
            Err(_) => format!("the chunk {id}, which it names, is damaged"),
        };
        self.wrong.borrow_mut().insert(found);
        None
    }
}

/// Every chunk has the content that its id says, named or not.
fn verify_chunks(store: &StoreReader, report: &mut Report) {
    let ids = match store.chunk_ids() {
        Ok(ids) => ids,
        Err(e) => return report.add(Place::Store, plain(&e)),
    };
    for id in ids {
        report.chunks += 1;
        match store.chunk(&id) {
            Ok(Some(_)) => {}
            Ok(None) => report.add(Place::Chunk(id), "it is in the list of chunks and can't be found"),
            Err(_) => report.add(Place::Chunk(id), "its content is not what its id says"),
        }
    }
}

/// In what two states differ, in words; nothing if they don't.
fn first_difference(log: &State, kept: &State) -> Option<String> {
    let (mut log, mut kept) = (log.to_changes(), kept.to_changes());
    let told = |change: &Change| match change {
        Change::ContentRestored { zone, .. } => format!("records of zone {zone}"),
        Change::ZoneRestored { zone } => format!("zone {} ({})", zone.id, zone.name),
        Change::TenantPut(tenant) => format!("tenant {}", tenant.id),
        Change::TokenPut(token) => format!("token {}", token.id),
        Change::NsSetPut(set) => format!("set of name servers {}", set.id),
        Change::PopPut(pop) => format!("PoP {}", pop.id),
        Change::SerialRestored { name, .. } => format!("the serial of {name}"),
        _ => "the position on the log".to_owned(),
    };
    loop {
        match (log.next(), kept.next()) {
            (None, None) => return None,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => {
                return Some(format!("the log has {}, and here is {}", told(&one), told(&other)));
            }
            (Some(one), None) => return Some(format!("{} is missing", told(&one))),
            (None, Some(other)) => return Some(format!("the log doesn't lead to {}", told(&other))),
        }
    }
}

/// What is wrong, without advice that a list of problems would repeat.
fn plain(error: &StoreError) -> String {
    match error {
        StoreError::Damaged { what } => what.clone(),
        other => other.to_string(),
    }
}

fn plain_recover(error: &RecoverError) -> String {
    match error {
        RecoverError::Store(e) => plain(e),
        RecoverError::Checkpoint(what) => what.clone(),
        other => other.to_string(),
    }
}

/// What is wrong with an envelope; its revision is told anyway.
fn plain_log(error: &LogError) -> String {
    match error {
        LogError::Malformed { source, .. } => format!("its envelope can't be read: {source}"),
        LogError::Version { version, .. } => {
            format!("it has version {version}, and this program knows up to {}", log::VERSION)
        }
        LogError::Chain { what, .. } => (*what).to_owned(),
    }
}

#[cfg(test)]
mod tests;
