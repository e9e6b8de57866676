//! Zone files: the master file format that BIND reads (RFC 1035 §5, RFC 2308 §4), in and out.

mod entries;
mod generate;
mod records;
mod write;

use std::fmt;

use crate::content::Content;
use crate::name::Name;
use crate::rdata::{Lexer, Soa};
use crate::rrset::{Rdatas, RrKey};

pub use write::write_zone_file;

/// So many errors of a file are kept, and the rest counted: nobody corrects more at once.
pub const MAX_ERRORS: usize = 1_000;

/// So much of what is said of an error is kept.
const MESSAGE_CHARS_MAX: usize = 500;

/// So many warnings are kept.
const MAX_WARNINGS: usize = 1_000;

/// The longest entry, with its comments, in octets. The longest RDATA takes a quarter of it, each octet escaped.
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// What a zone file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneFile {
    /// The TTL of the SOA in seconds, and the SOA, if there is one.
    pub soa: Option<(u32, Soa)>,
    /// All other RRsets.
    pub rrsets: Content,
    /// What was put right or left out.
    pub warnings: Vec<ZoneFileWarning>,
}

/// A record of a zone file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneFileRecord {
    /// Its owner and type.
    pub key: RrKey,
    /// Its TTL in seconds.
    pub ttl_s: u32,
    /// Its RDATA, one.
    pub rdata: Rdatas,
    /// The line that it begins in, from 1.
    pub line: usize,
}

/// What is wrong with a zone file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ZoneFileError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// All that is wrong with a zone file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneFileErrors {
    /// The first ones, up to [`MAX_ERRORS`].
    pub first: Vec<ZoneFileError>,
    /// How many there are in all.
    pub count: u64,
}

impl ZoneFileErrors {
    /// Adds one, or counts it if there are enough.
    pub fn add(&mut self, mut error: ZoneFileError) {
        self.count += 1;
        if self.first.len() < MAX_ERRORS {
            // It may quote a line of megabytes.
            if let Some((end, _)) = error.message.char_indices().nth(MESSAGE_CHARS_MAX) {
                error.message.truncate(end);
                error.message.shrink_to_fit();
                error.message.push('…');
            }
            self.first.push(error);
        }
    }
}

/// What was read in another way than it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneFileWarning {
    /// The line, from 1; 0 where it is the file as a whole.
    pub line: usize,
    /// What was done.
    pub message: String,
}

impl fmt::Display for ZoneFileWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

/// Warnings as they come.
#[derive(Default)]
struct Warnings(Vec<ZoneFileWarning>);

impl Warnings {
    fn add(&mut self, line: usize, message: String) {
        if self.0.len() < MAX_WARNINGS {
            self.0.push(ZoneFileWarning { line, message });
        }
    }

    fn into_sorted(mut self) -> Vec<ZoneFileWarning> {
        self.0.sort_by_key(|warning| warning.line);
        self.0
    }
}

/// Reads a zone file as it arrives, in parts that end anywhere. What it keeps is the records, and the text of one entry at
/// most.
pub struct ZoneFileReader {
    parser: entries::Parser,
    /// The text from the first line on that is not read yet, and the number of that line.
    held: Vec<u8>,
    line: usize,
    /// An entry has no end: what follows can't be understood.
    is_stuck: bool,
}

impl ZoneFileReader {
    /// Begins the zone file of the zone `origin`, which is also what `@` means at first.
    ///
    /// A record without a TTL has that of the last `$TTL`, else of the last record that has one, else
    /// `default_ttl_s`, else the minimum of the SOA above it. If that SOA has none itself, its minimum counts as `$TTL`. The records
    /// that signing makes are left out.
    pub fn new(origin: &Name, default_ttl_s: Option<u32>) -> ZoneFileReader {
        let parser = entries::Parser::new(origin, default_ttl_s);
        ZoneFileReader { parser, held: Vec::new(), line: 1, is_stuck: false }
    }

    /// Sets how many records there may be; more are an error. Unless it is set, it is as many as there is memory for.
    #[must_use]
    pub fn with_records_max(mut self, records_max: usize) -> ZoneFileReader {
        self.parser.records_max = records_max;
        self
    }

    /// Reads the next part.
    pub fn read(&mut self, part: &[u8]) {
        if self.is_stuck {
            return;
        }
        if self.held.is_empty() {
            let used = self.read_entries(part, false);
            self.held.extend_from_slice(&part[used..]);
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(part);
            let used = self.read_entries(&text, false);
            text.drain(..used);
            self.held = text;
        }
        if self.held.len() > MAX_ENTRY_BYTES {
            let held = std::mem::take(&mut self.held);
            let message = if held.contains(&b'\n') {
                "the parenthesis is not closed within 1048576 octets"
            } else {
                "the line is longer than 1048576 octets"
            };
            self.parser.fail(self.line, message.to_owned());
            self.is_stuck = true;
        }
    }

    /// Reads what is left, and gives the whole file, or all of its errors.
    ///
    /// # Errors
    /// [`ZoneFileErrors`].
    pub fn finish(mut self) -> Result<ZoneFile, ZoneFileErrors> {
        self.read_rest();
        self.parser.finish()
    }

    /// As [`ZoneFileReader::finish`], for who has more to say of the records than that they are the content of a zone: its SOA, and each
    /// other record with its line, by owner and type.
    ///
    /// # Errors
    /// [`ZoneFileErrors`].
    pub fn finish_records(
        mut self,
    ) -> Result<(Option<Soa>, impl Iterator<Item = ZoneFileRecord>), ZoneFileErrors> {
        self.read_rest();
        let (soa, records) = self.parser.finish_records()?;
        Ok((soa.map(|(_, soa)| soa), records.into_sorted().map(ZoneFileRecord::from)))
    }

    fn read_rest(&mut self) {
        let text = std::mem::take(&mut self.held);
        self.read_entries(&text, true);
    }

    /// Reads the entries that are whole, and gives how many octets they take.
    fn read_entries(&mut self, text: &[u8], is_last: bool) -> usize {
        let mut lexer = Lexer::new(text, self.line, is_last);
        self.parser.read(&mut lexer, text);
        let (place, line) = lexer.place();
        self.line = line;
        place
    }
}

/// Reads a whole zone file, as [`ZoneFileReader`] does.
///
/// # Errors
/// [`ZoneFileErrors`].
pub fn parse_zone_file(
    text: &[u8],
    origin: &Name,
    default_ttl_s: Option<u32>,
) -> Result<ZoneFile, ZoneFileErrors> {
    let mut reader = ZoneFileReader::new(origin, default_ttl_s);
    reader.read(text);
    reader.finish()
}

#[cfg(test)]
mod tests;
