//! What was counted and the agent hasn't kept yet.
//!
//! Counts add up in rows until there is somebody to tell and little on its way; then they become a batch with the next number, and a batch
//! never changes. A file has what would be lost with the process: it is written when knotd ends, and every few seconds while batches
//! aren't kept. No batch is told that is in the file with other content, so whoever knows its number has what the file has of it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use herald_core::{Name, ZoneId};
use steering::counts::Counts;
use steering::link::{CountsBatch, CountsRow, ToAgent};

use super::file;

/// Batches on their way to the agent.
const BATCHES_MAX: usize = 16;

/// What a batch may weigh: a row is one, and so is each name and pool in it. At most 300 bytes each.
const BATCH_WEIGHT: usize = 8_000;

static OUTBOX: Mutex<Outbox> = Mutex::new(Outbox {
    instance: 0,
    sequence: 0,
    rows: BTreeMap::new(),
    batches: VecDeque::new(),
    dropped: 0,
    agents: 0,
    file: None,
    has_file: false,
    is_file_of_rows: false,
});

/// The process's one.
pub fn outbox() -> MutexGuard<'static, Outbox> {
    OUTBOX.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An agent wants to be told.
pub fn subscribe() {
    outbox().agents += 1;
}

/// An agent is gone.
pub fn unsubscribe() {
    let mut outbox = outbox();
    outbox.agents = outbox.agents.saturating_sub(1);
}

/// The agent has kept an instance's batches up to this one.
pub fn kept(instance: u64, sequence: u64) {
    outbox().kept(instance, sequence);
}

/// What a row is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The zone's name, if it is of a zone.
    pub name: Option<Name>,
    /// Which one, where the name doesn't say that.
    pub zone: Option<ZoneId>,
    /// Since 1970.
    pub minute: u64,
}

/// See the module.
pub struct Outbox {
    /// Of this process; zero before it is drawn.
    instance: u64,
    /// The number of the last batch.
    sequence: u64,
    rows: BTreeMap<Key, Counts>,
    /// In order; of earlier processes first.
    batches: VecDeque<CountsBatch>,
    /// Batches that were kept or merged, ever: what is at the front has this place.
    dropped: u64,
    /// Who wants to be told.
    agents: usize,
    file: Option<PathBuf>,
    has_file: bool,
    /// Whether rows are in the file that are in no batch yet.
    is_file_of_rows: bool,
}

impl Outbox {
    /// Begins to count; what is in the file comes first. A second time in a process, what is here goes on.
    pub fn open(&mut self, path: &Path) -> io::Result<()> {
        if self.instance == 0 {
            self.instance = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?.max(1);
            match file::read(path) {
                Ok(batches) => {
                    self.has_file = !batches.is_empty();
                    self.batches.extend(batches);
                }
                // It is put aside: it may be of a later version.
                Err(error) => {
                    eprintln!("herald: counts in {} can't be read: {error}", path.display());
                    let _ = std::fs::rename(path, path.with_extension("counts.unreadable"));
                }
            }
        }
        self.file = Some(path.to_owned());
        Ok(())
    }

    /// Takes what was counted, and makes batches of it if somebody is there to take them.
    pub fn add(&mut self, rows: impl IntoIterator<Item = (Key, Counts)>, rows_max: usize) {
        for (mut key, counts) in rows {
            if self.rows.len() >= rows_max && !self.rows.contains_key(&key) {
                key = self.minute_of(key);
            }
            match self.rows.get_mut(&key) {
                Some(known) => known.merge(&counts),
                None => drop(self.rows.insert(key, counts)),
            }
        }
        if self.agents > 0 && self.batches.len() < BATCHES_MAX {
            self.close();
        }
    }

    /// The last minute of the zone that there is, if there is one.
    fn minute_of(&self, key: Key) -> Key {
        let first = Key { minute: 0, ..key.clone() };
        let last = Key { minute: u64::MAX, ..key.clone() };
        self.rows.range(first..=last).next_back().map_or(key, |(known, _)| known.clone())
    }

    fn close(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let batches = self.numbered(rows.into_iter());
        self.sequence += batches.len() as u64;
        self.batches.extend(batches);
        if self.is_file_of_rows {
            self.write();
        }
    }

    /// Rows as the batches that they would be next. Rows that come later to the same place change none of what is told of the first ones.
    fn numbered(&self, rows: impl Iterator<Item = (Key, Counts)>) -> Vec<CountsBatch> {
        let mut batches: Vec<CountsBatch> = Vec::new();
        let mut weight = BATCH_WEIGHT;
        for (key, counts) in rows {
            for counts in counts.split(BATCH_WEIGHT) {
                let heavy = counts.weight();
                if weight + heavy > BATCH_WEIGHT {
                    let sequence = self.sequence + batches.len() as u64 + 1;
                    batches.push(CountsBatch { instance: self.instance, sequence, rows: Vec::new() });
                    weight = 0;
                }
                weight += heavy;
                if let Some(batch) = batches.last_mut() {
                    let Key { name, zone, minute } = key.clone();
                    batch.rows.push(CountsRow { name, zone, minute, counts });
                }
            }
        }
        batches
    }

    fn kept(&mut self, instance: u64, sequence: u64) {
        while let Some(first) = self.batches.front()
            && first.instance == instance
            && first.sequence <= sequence
        {
            self.batches.pop_front();
            self.dropped += 1;
        }
        if self.batches.is_empty() && !self.is_file_of_rows {
            self.remove_file();
        }
    }

    /// Tells of batches from this place on, and returns the place after them.
    pub fn tell(&mut self, place: u64, mut each: impl FnMut(&ToAgent)) -> u64 {
        let skipped = usize::try_from(place.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        for batch in self.batches.iter_mut().skip(skipped) {
            // It is in the message while that is told of, since to copy it would cost more than to tell.
            let message = ToAgent::Counts(std::mem::take(batch));
            each(&message);
            if let ToAgent::Counts(told) = message {
                *batch = told;
            }
        }
        self.dropped + self.batches.len() as u64
    }

    /// Writes what isn't kept to the file. While an agent keeps what it is told, nothing is written; as knotd ends, all is.
    pub fn write_file(&mut self, ends: bool) {
        let is_taken_soon = self.agents > 0 && self.batches.len() < BATCHES_MAX;
        let is_empty = self.batches.is_empty() && self.rows.is_empty();
        if !is_empty && (ends || !is_taken_soon) {
            self.write();
        }
    }

    fn write(&mut self) {
        let Some(path) = &self.file else { return };
        let rows = self.numbered(self.rows.clone().into_iter());
        match file::write(path, self.batches.iter().chain(&rows)) {
            Ok(()) => {
                self.has_file = true;
                self.is_file_of_rows = !rows.is_empty();
            }
            Err(error) => {
                eprintln!("herald: counts can't be written to {}: {error}", path.display());
                // What it has of rows is not what they will be told as.
                self.remove_file();
            }
        }
    }

    fn remove_file(&mut self) {
        if let Some(path) = self.file.as_ref().filter(|_| self.has_file) {
            self.has_file = std::fs::remove_file(path).is_err() && path.exists();
            self.is_file_of_rows = false;
        }
    }
}
