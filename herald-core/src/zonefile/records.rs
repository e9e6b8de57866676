//! The records of a zone file, on their way to being the content of a zone.

use crate::content::Content;
use crate::rdata::format_rtype;
use crate::rrset::{Rdatas, RrKey, Rrset};

use super::{Warnings, ZoneFileRecord};

/// Records as they were read, in any order. A million of them are in memory at once, beside the content that they become:
/// so they are small, and the RDATA of most is never copied.
#[derive(Default)]
pub(super) struct Records(Vec<Record>);

pub(super) struct Record {
    key: RrKey,
    ttl_s: u32,
    line: u32,
    rdata: Rdatas,
}

impl From<Record> for ZoneFileRecord {
    fn from(record: Record) -> ZoneFileRecord {
        let Record { key, ttl_s, line, rdata } = record;
        ZoneFileRecord { key, ttl_s, rdata, line: line as usize }
    }
}

impl Records {
    pub(super) fn add(&mut self, key: RrKey, ttl_s: u32, rdata: &[u8], line: usize) {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        self.0.push(Record { key, ttl_s, line, rdata: Rdatas::single(rdata) });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All records, by owner, type and line.
    pub(super) fn into_sorted(mut self) -> impl Iterator<Item = Record> {
        self.sort();
        self.0.into_iter()
    }

    fn sort(&mut self) {
        // In place, and quick where the file is sorted already.
        self.0.sort_unstable_by(|a, b| a.key.cmp(&b.key).then(a.line.cmp(&b.line)));
    }

    /// All records by RRset.
    pub(super) fn into_content(mut self, warnings: &mut Warnings) -> Content {
        self.sort();
        let mut content = Content::default();
        content.extend(Grouped { records: self.0.into_iter().peekable(), warnings });
        content
    }
}

/// Sorted records by RRset.
struct Grouped<'w, I: Iterator<Item = Record>> {
    records: std::iter::Peekable<I>,
    warnings: &'w mut Warnings,
}

impl<I: Iterator<Item = Record>> Iterator for Grouped<'_, I> {
    type Item = (RrKey, Rrset);

    fn next(&mut self) -> Option<(RrKey, Rrset)> {
        let first = self.records.next()?;
        let (mut lowest_ttl_s, mut other_ttl_line) = (first.ttl_s, None);
        let mut more: Vec<Rdatas> = Vec::new();
        while let Some(record) = self.records.next_if(|record| record.key == first.key) {
            if record.ttl_s != first.ttl_s {
                other_ttl_line.get_or_insert(record.line);
            }
            lowest_ttl_s = lowest_ttl_s.min(record.ttl_s);
            more.push(record.rdata);
        }
        // The TTL of an RRset is the lowest of its records (RFC 2181 §5.2).
        if let Some(line) = other_ttl_line {
            let RrKey { owner, rtype } = &first.key;
            let rtype = format_rtype(*rtype);
            let message = format!(
                "the {rtype} records of {owner} have different TTLs: the lowest, {lowest_ttl_s}, was taken"
            );
            self.warnings.add(line as usize, message);
        }
        let rdatas = if more.is_empty() {
            first.rdata
        } else {
            first.rdata.iter().chain(more.iter().flatten()).collect()
        };
        Some((first.key, Rrset { ttl: lowest_ttl_s, rdatas }))
    }
}
