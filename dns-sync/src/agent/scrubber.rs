//! Re-reads zones of the replica, so that what was damaged on the disk is found before it is needed.
//!
//! A thread with a reader of its own does it, so that neither a large zone nor a slow disk keeps anybody waiting. When and
//! what is the core's to say.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use herald_core::ZoneId;
use herald_wire::stream::BUCKETS;

use super::shell::Event;
use crate::replica::{ReadZoneError, Reader};

/// After so many RRsets it is seen to it that no more are read in a second than should be.
const PACE_RRSETS: u64 = 500;

/// What is to be re-read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrub {
    /// The content of these zones.
    Zones {
        /// Which.
        zones: Vec<ZoneId>,
        /// RRsets a second at most.
        rrsets_per_s: u64,
    },
    /// The rows of all zones.
    Rows,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// Contents were re-read.
    Zones {
        /// How many zones.
        zones: u64,
        /// The damaged ones.
        damaged: Vec<ZoneId>,
    },
    /// The rows of all zones were: each bucket's digest; none if a row is damaged.
    Rows(Option<Box<[u128; BUCKETS]>>),
    /// The replica could not be read; it is tried again later.
    Failed,
}

/// Re-reads what is asked for.
pub fn scrub(replica_dir: &Path, scrub: &Scrub) -> Scrubbed {
    // Opened each time: the replica may have been put aside and made anew.
    let Ok(reader) = Reader::open(replica_dir) else { return Scrubbed::Failed };
    match scrub {
        Scrub::Rows => match reader.bucket_digests() {
            Ok(digests) => Scrubbed::Rows(digests),
            Err(_) => Scrubbed::Failed,
        },
        Scrub::Zones { zones, rrsets_per_s } => {
            let mut pace = Pace { began: Instant::now(), rrsets: 0, rrsets_per_s: *rrsets_per_s };
            let mut damaged = Vec::new();
            for zone in zones {
                match reader.zone(*zone, None, |_, _| {
                    pace.one();
                    Ok(())
                }) {
                    Err(ReadZoneError::Damaged(_)) => damaged.push(*zone),
                    Err(ReadZoneError::Replica(_)) => return Scrubbed::Failed,
                    Ok(_) | Err(ReadZoneError::Gone | ReadZoneError::Write(_)) => {}
                }
            }
            Scrubbed::Zones { zones: zones.len() as u64, damaged }
        }
    }
}

struct Pace {
    began: Instant,
    rrsets: u64,
    rrsets_per_s: u64,
}

impl Pace {
    fn one(&mut self) {
        self.rrsets += 1;
        if self.rrsets.is_multiple_of(PACE_RRSETS) {
            let due = Duration::from_secs_f64(self.rrsets as f64 / self.rrsets_per_s.max(1) as f64);
            thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
    }
}

/// Starts the thread; it ends when nobody can ask any more.
pub(super) fn start(replica_dir: PathBuf, events: Sender<Event>) -> io::Result<Sender<Scrub>> {
    let (orders, inbox) = mpsc::channel::<Scrub>();
    thread::Builder::new().name("scrubber".into()).spawn(move || {
        for order in inbox {
            if events.send(Event::Scrubbed(scrub(&replica_dir, &order))).is_err() {
                return;
            }
        }
    })?;
    Ok(orders)
}
