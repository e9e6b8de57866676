//! What knotd is to serve, read from the replica when the driver gets to it.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use herald_core::ZoneId;

use crate::knot::driver::{Put, ZoneContent};
use crate::knot::zonefile::ZoneWriter;
use crate::materialize::with_causes;
use crate::replica::{OpenError, ReadZoneError, Reader, ZoneRow};

/// Makes contents of zones, which share one reader of the replica: opened when it is first needed, and anew after the
/// replica was. Clones are handles on the same one.
#[derive(Clone)]
pub struct Contents {
    shared: Arc<Shared>,
}

struct Shared {
    replica_dir: PathBuf,
    reader: Mutex<Option<Reader>>,
    /// Told of zones that turn out to be damaged.
    damaged: Box<dyn Fn(ZoneId) + Send + Sync>,
}

impl Contents {
    /// Contents from the replica in this directory; `damaged` is called with zones that can't be read as they were written.
    pub fn new(replica_dir: PathBuf, damaged: impl Fn(ZoneId) + Send + Sync + 'static) -> Contents {
        let (reader, damaged) = (Mutex::new(None), Box::new(damaged));
        Contents { shared: Arc::new(Shared { replica_dir, reader, damaged }) }
    }

    /// The zone's whole content as a task for the driver.
    pub(super) fn put_of(&self, zone: &ZoneRow) -> Put {
        let content = ReplicaContent { shared: self.shared.clone(), zone: zone.id, serial: zone.serial };
        let module = zone.steering.expected().map(|generation| (zone.id, generation));
        Put { serial: zone.serial, content: Arc::new(content), module }
    }

    /// The replica's files are other ones now.
    pub(super) fn close(&self) {
        *self.shared.reader.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A zone as the replica has it when it is written, which may be newer than when it was put.
///
/// The serial is then still the one that it was put with: the driver waits for that, and what is newer follows as
/// deltas, which change nothing but the serial.
struct ReplicaContent {
    shared: Arc<Shared>,
    zone: ZoneId,
    serial: u32,
}

impl ZoneContent for ReplicaContent {
    fn write(&self, out: &mut ZoneWriter<'_>) -> io::Result<()> {
        let mut reader = self.shared.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = match &mut *reader {
            Some(reader) => reader,
            closed => {
                let opened = Reader::open(&self.shared.replica_dir);
                closed.insert(opened.map_err(|error: OpenError| io::Error::other(with_causes(&error)))?)
            }
        };
        match reader.zone_and_rrsets(self.zone, Some(self.serial), |read| out.take(read)) {
            Ok(_) => Ok(()),
            Err(ReadZoneError::Write(error)) => Err(error),
            Err(error) => {
                if let ReadZoneError::Damaged(_) = error {
                    (self.shared.damaged)(self.zone);
                }
                Err(io::Error::other(error.to_string()))
            }
        }
    }
}
