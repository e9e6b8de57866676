//! Zone files and the catalog file: fast to write, complete or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use herald_core::rdata::check_rdata;
use herald_core::steering::{is_steering_type, placeholder};
use herald_core::{Name, Rrset, Rtype};

use super::text;
use crate::module::zone::{About, Gatherer, WholeZone};
use crate::replica::Read;

/// How much is gathered before a write to the file.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes the records of one zone.
///
/// knotd takes records in any order but wants the SOA of the zone somewhere; write it first, so that people find it.
pub struct ZoneWriter<'a> {
    out: &'a mut dyn Write,
    line: Vec<u8>,
    owner: Option<Name>,
    /// The owner as text, since an owner's RRsets mostly follow each other.
    owner_text: Vec<u8>,
    records: u64,
    steering: Option<Gatherer>,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// How many records knotd gets.
    pub records: u64,
    /// What the module in knotd gets; none if nobody said which zone it was.
    pub steering: Option<WholeZone>,
}

impl<'a> ZoneWriter<'a> {
    /// A writer into `out`, which should be buffered.
    pub fn new(out: &'a mut dyn Write) -> ZoneWriter<'a> {
        ZoneWriter { out, line: Vec::new(), owner: None, owner_text: Vec::new(), records: 0, steering: None }
    }

    /// Takes what the replica reads of a zone.
    pub fn take(&mut self, read: Read<'_>) -> io::Result<()> {
        match read {
            Read::Zone(row) => {
                self.zone(row);
                Ok(())
            }
            Read::Rrset(key, rrset) => self.rrset(&key.owner, key.rtype, rrset),
        }
    }

    /// Says before anything is written which zone it is, so that what is for the module is gathered.
    pub fn zone(&mut self, about: impl Into<About>) {
        self.steering = Some(Gatherer::new(about.into()));
    }

    /// Writes an RRset, if its records are well-formed: knotd 3.2 would take others, and crash on some. Of steering it gets
    /// placeholders.
    pub fn rrset(&mut self, owner: &Name, rtype: Rtype, rrset: &Rrset) -> io::Result<()> {
        if let Some(steering) = &mut self.steering {
            steering.rrset(owner, rtype, rrset);
        }
        if !is_steering_type(rtype) {
            return self.records_of(owner, rtype, rrset);
        }
        placeholder(rtype).map_or(Ok(()), |(rtype, rrset)| self.records_of(owner, rtype, &rrset))
    }

    fn records_of(&mut self, owner: &Name, rtype: Rtype, rrset: &Rrset) -> io::Result<()> {
        if self.owner.as_ref() != Some(owner) {
            self.owner_text.clear();
            text::push_name(&mut self.owner_text, owner);
            self.owner = Some(owner.clone());
        }
        self.line.clear();
        for rdata in rrset.rdatas.iter() {
            check_rdata(rtype, rdata)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{owner}: {error}")))?;
            self.line.extend_from_slice(&self.owner_text);
            self.line.push(b' ');
            text::push_decimal(&mut self.line, rrset.ttl);
            self.line.push(b' ');
            text::push_type(&mut self.line, rtype.to_int());
            self.line.push(b' ');
            text::push_rdata(&mut self.line, rdata);
            self.line.push(b'\n');
            self.records += 1;
        }
        self.out.write_all(&self.line)
    }

    /// All is written.
    pub fn finish(self) -> Written {
        Written { records: self.records, steering: self.steering.and_then(Gatherer::finish) }
    }
}

/// Writes a file of records beside `path` and renames it to `path`; gives back what was written.
///
/// There is no sync to the disk: after a crash of the machine all files are written anew anyway.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut ZoneWriter<'_>) -> io::Result<()>,
) -> io::Result<Written> {
    let temporary = temporary_path(path);
    let written = (|| {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&temporary)?);
        let mut writer = ZoneWriter::new(&mut out);
        write(&mut writer)?;
        let all = writer.finish();
        out.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::rename(&temporary, path)?;
        Ok(all)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    name.into()
}
