//! Zone files: the master file format that BIND reads (RFC 1035 §5, RFC 2308 §4), in and out.

mod generate;

use std::collections::BTreeMap;
use std::fmt;

use domain::base::iana::Rtype;

use crate::name::Name;
use crate::rdata::{
    Entry, LexError, Lexer, Soa, Token, format_rdata, format_rtype, is_meta_type, is_system_type,
    parse_period_s, parse_prefixed, parse_rtype, read_rdata,
};
use crate::rrset::{MAX_TTL_S, Rdatas, RrKey, Rrset};

/// After so many errors the rest of a file isn't read: nobody corrects more at once.
pub const MAX_ERRORS: usize = 1_000;

/// After so many warnings no more are kept.
const MAX_WARNINGS: usize = 1_000;

/// What a zone file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneFile {
    /// The TTL of the SOA in seconds, and the SOA, if there is one.
    pub soa: Option<(u32, Soa)>,
    /// All other RRsets.
    pub rrsets: BTreeMap<RrKey, Rrset>,
    /// What was put right or left out.
    pub warnings: Vec<ZoneFileWarning>,
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

/// What was read in another way than it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneFileWarning {
    /// The line, from 1.
    pub line: usize,
    /// What was done.
    pub message: String,
}

impl fmt::Display for ZoneFileWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Reads the zone file of the zone `origin`, which is also what `@` means at first.
///
/// A record without a TTL has that of the last `$TTL`, else of the last record that has one, else
/// `default_ttl_s`, else the minimum of the SOA above it. The records that signing makes are left out.
/// All errors are reported, up to [`MAX_ERRORS`].
pub fn parse_zone_file(
    text: &[u8],
    origin: &Name,
    default_ttl_s: Option<u32>,
) -> Result<ZoneFile, Vec<ZoneFileError>> {
    let mut parser = Parser::new(text, origin, default_ttl_s);
    let mut lexer = Lexer::new(text);
    let mut tokens = Vec::new();
    while parser.errors.len() < MAX_ERRORS {
        match lexer.next_entry(&mut tokens) {
            Ok(Some(entry)) => {
                if let Err(Problem { token, message }) = parser.entry(entry, &tokens) {
                    let offset =
                        tokens.get(token).or(tokens.last()).map_or(entry.offset, |token| token.offset);
                    parser.add_error(entry, offset, message);
                }
            }
            Ok(None) => break,
            Err((problem, entry, offset)) => parser.lex_error(problem, entry, offset),
        }
    }
    parser.finish()
}

/// What is wrong with an entry, and which of its tokens it is.
struct Problem {
    token: usize,
    message: String,
}

impl Problem {
    fn new(token: usize, message: impl fmt::Display) -> Problem {
        Problem { token, message: message.to_string() }
    }
}

/// The owner that an entry without one takes over.
enum LastOwner {
    None,
    /// The entry that had one is wrong, so that those below it can't be understood.
    Unknown,
    Known(Name),
}

/// A record as it was read; its RDATA is in one buffer with all others.
struct Record {
    owner: Name,
    rtype: Rtype,
    ttl_s: u32,
    line: usize,
    rdata_start: usize,
    rdata_bytes: usize,
}

/// A zone file so far.
struct Parser<'a> {
    text: &'a [u8],
    zone: &'a Name,
    origin: Name,
    /// What a record without a TTL gets, in the order in which they count.
    dollar_ttl_s: Option<u32>,
    last_ttl_s: Option<u32>,
    default_ttl_s: Option<u32>,
    last_owner: LastOwner,
    soa: Option<(u32, Soa)>,
    records: Vec<Record>,
    rdatas: Vec<u8>,
    generated: generate::Budget,
    left_out: Vec<Rtype>,
    warnings: Vec<ZoneFileWarning>,
    errors: Vec<ZoneFileError>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8], origin: &'a Name, default_ttl_s: Option<u32>) -> Parser<'a> {
        Parser {
            text,
            zone: origin,
            origin: origin.clone(),
            dollar_ttl_s: None,
            last_ttl_s: None,
            default_ttl_s,
            last_owner: LastOwner::None,
            soa: None,
            records: Vec::new(),
            rdatas: Vec::new(),
            generated: generate::Budget::default(),
            left_out: Vec::new(),
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn entry(&mut self, entry: Entry, tokens: &[Token<'_>]) -> Result<(), Problem> {
        let first = tokens[0];
        if entry.starts_blank || first.is_quoted || !first.text.starts_with(b"$") {
            return self.record(entry, tokens);
        }
        if first.is_word("$ORIGIN") {
            let origin = argument(tokens, "the domain name")?;
            self.origin = self.name(origin).map_err(|problem| Problem::new(1, problem))?;
            Ok(())
        } else if first.is_word("$TTL") {
            let ttl_s = parse_ttl_s(argument(tokens, "the TTL")?.text);
            self.dollar_ttl_s = Some(ttl_s.ok_or_else(|| Problem::new(1, BAD_TTL))?);
            Ok(())
        } else if first.is_word("$GENERATE") {
            self.generate(entry, tokens)
        } else if first.is_word("$INCLUDE") {
            Err(Problem::new(0, "$INCLUDE is not possible here: put the other file in its place"))
        } else {
            let word = String::from_utf8_lossy(first.text);
            Err(Problem::new(0, format_args!("unknown directive \"{}\"", word.escape_debug())))
        }
    }

    /// `$GENERATE range owner [ttl] [class] type rdata`: the entry once for each number of the range.
    fn generate(&mut self, entry: Entry, tokens: &[Token<'_>]) -> Result<(), Problem> {
        let Some((range, template)) = tokens[1..].split_first().filter(|(_, template)| template.len() > 2)
        else {
            return Err(Problem::new(0, "$GENERATE needs a range, an owner, a type and RDATA"));
        };
        let numbers = generate::parse_range(range.text).map_err(|problem| Problem::new(1, problem))?;
        let mut text = Vec::new();
        let mut ends = Vec::with_capacity(template.len());
        for number in numbers {
            text.clear();
            ends.clear();
            for (index, token) in template.iter().enumerate() {
                generate::substitute(token.text, number, &mut text)
                    .map_err(|problem| Problem::new(2 + index, problem))?;
                ends.push(text.len());
            }
            self.generated.spend(text.len()).map_err(|problem| Problem::new(0, problem))?;
            let mut start = 0;
            let generated: Vec<Token<'_>> = template
                .iter()
                .zip(&ends)
                .map(|(token, &end)| {
                    let text = &text[start..end];
                    start = end;
                    Token { text, ..*token }
                })
                .collect();
            // One error is enough: those of the other numbers are nearly always the same.
            self.record(Entry { starts_blank: false, ..entry }, &generated)
                .map_err(|problem| Problem { token: 2 + problem.token, ..problem })?;
        }
        Ok(())
    }

    /// `[owner] [ttl] [class] type rdata`, with TTL and class in either order (RFC 1035 §5.1).
    fn record(&mut self, entry: Entry, tokens: &[Token<'_>]) -> Result<(), Problem> {
        let mut next = 0;
        if !entry.starts_blank {
            next = 1;
            if !self.is_last_owner(tokens[0]) {
                match self.name(tokens[0]) {
                    Ok(owner) => self.last_owner = LastOwner::Known(owner),
                    Err(problem) => {
                        self.last_owner = LastOwner::Unknown;
                        return Err(Problem::new(0, format_args!("owner: {problem}")));
                    }
                }
            }
        }
        let owner = match &self.last_owner {
            LastOwner::Known(owner) => owner.clone(),
            LastOwner::Unknown => return Ok(()),
            LastOwner::None => return Err(Problem::new(0, "the first record has no owner")),
        };
        let (mut ttl_s, mut has_class) = (None, false);
        while let Some(token) = tokens.get(next) {
            if ttl_s.is_none() && token.text.first().is_some_and(u8::is_ascii_digit) {
                ttl_s = Some(parse_ttl_s(token.text).ok_or_else(|| Problem::new(next, BAD_TTL))?);
            } else if !has_class && let Some(is_internet) = parse_class(*token) {
                if !is_internet {
                    return Err(Problem::new(next, "only class IN is possible"));
                }
                has_class = true;
            } else {
                break;
            }
            next += 1;
        }
        let Some(rtype_token) = tokens.get(next) else {
            return Err(Problem::new(next, "the type is missing"));
        };
        let Some(rtype) = rtype_token.as_str().and_then(parse_rtype) else {
            let text = String::from_utf8_lossy(rtype_token.text);
            return Err(Problem::new(next, format_args!("unknown record type \"{}\"", text.escape_debug())));
        };
        self.last_ttl_s = ttl_s.or(self.last_ttl_s);
        if is_meta_type(rtype) {
            let problem = format_args!("{}: no record of this type can be in a zone", format_rtype(rtype));
            return Err(Problem::new(next, problem));
        }
        if !owner.is_at_or_below(self.zone) {
            return Err(Problem::new(0, format_args!("{owner} is not in the zone {}", self.zone)));
        }
        if is_system_type(rtype) {
            self.leave_out(rtype, entry.line);
            return Ok(());
        }
        let rdata_start = self.rdatas.len();
        read_rdata(rtype, &tokens[next + 1..], Some(&self.origin), &mut self.rdatas)
            .map_err(|error| Problem::new(error.token().map_or(next, |token| next + 1 + token), error))?;
        if rtype == Rtype::SOA {
            let soa = Soa::from_rdata(&self.rdatas[rdata_start..]).expect("RDATA that was just read");
            self.rdatas.truncate(rdata_start);
            return self
                .start_of_authority(entry, owner, ttl_s, soa)
                .map_err(|problem| Problem::new(0, problem));
        }
        let Some(ttl_s) = self.ttl_s(ttl_s) else {
            self.rdatas.truncate(rdata_start);
            return Err(Problem::new(
                next,
                "the record has no TTL, and there is no $TTL and no SOA above it",
            ));
        };
        let rdata_bytes = self.rdatas.len() - rdata_start;
        self.records.push(Record { owner, rtype, ttl_s, line: entry.line, rdata_start, rdata_bytes });
        Ok(())
    }

    /// Whether an owner's text is the plain form of the name that was the owner last: most owners are.
    fn is_last_owner(&self, token: Token<'_>) -> bool {
        let LastOwner::Known(last) = &self.last_owner else { return false };
        let Some(label) = last.labels().next() else { return false };
        token.text == label
            && label.is_ascii()
            && !label.iter().any(|octet| matches!(octet, b'.' | b'\\' | b'@'))
            && last.as_wire()[1 + label.len()..] == *self.origin.as_wire()
    }

    fn start_of_authority(
        &mut self,
        entry: Entry,
        owner: Name,
        ttl_s: Option<u32>,
        soa: Soa,
    ) -> Result<(), &'static str> {
        if owner != *self.zone {
            return Err("the SOA is not at the top of the zone");
        }
        match &self.soa {
            None => {
                let ttl_s = self.ttl_s(ttl_s).unwrap_or(soa.minimum_s.min(MAX_TTL_S));
                self.soa = Some((ttl_s, soa));
                Ok(())
            }
            // What a transfer was saved as ends with the SOA it begins with.
            Some((_, first)) if *first == soa => {
                self.warn(entry.line, "the same SOA again was left out".to_owned());
                Ok(())
            }
            Some(_) => Err("a second SOA"),
        }
    }

    /// The TTL of a record that itself may have none.
    fn ttl_s(&self, own_ttl_s: Option<u32>) -> Option<u32> {
        own_ttl_s
            .or(self.dollar_ttl_s)
            .or(self.last_ttl_s)
            .or(self.default_ttl_s)
            .or_else(|| self.soa.as_ref().map(|(_, soa)| soa.minimum_s))
            .map(|ttl_s| ttl_s.min(MAX_TTL_S))
    }

    fn name(&self, token: Token<'_>) -> Result<Name, String> {
        let text = token.as_str().ok_or("the domain name is not UTF-8")?;
        Name::parse_relative(text, &self.origin)
            .map_err(|error| format!("{error}, found \"{}\"", text.escape_debug()))
    }

    fn leave_out(&mut self, rtype: Rtype, line: usize) {
        if !self.left_out.contains(&rtype) {
            self.left_out.push(rtype);
            let message = format!("{} records were left out: signing makes them", format_rtype(rtype));
            self.warn(line, message);
        }
    }

    fn warn(&mut self, line: usize, message: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(ZoneFileWarning { line, message });
        }
    }

    fn lex_error(&mut self, problem: LexError, entry: Entry, offset: usize) {
        // Whatever owner the line has, the lines below it must not get the one above it.
        self.last_owner = LastOwner::Unknown;
        self.add_error(entry, offset, problem.to_string());
    }

    /// Notes an error at an offset of the text, in or below the line that the entry starts on.
    fn add_error(&mut self, entry: Entry, offset: usize, message: String) {
        let before = &self.text[entry.offset..offset];
        let line = entry.line + before.iter().filter(|octet| **octet == b'\n').count();
        let line_start = before.iter().rposition(|octet| *octet == b'\n').map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        self.errors.push(ZoneFileError { line, column, message });
    }

    fn finish(mut self) -> Result<ZoneFile, Vec<ZoneFileError>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let mut records = std::mem::take(&mut self.records);
        // Stable, and quick where the file is sorted already.
        records.sort_by(|a, b| a.owner.cmp(&b.owner).then_with(|| a.rtype.to_int().cmp(&b.rtype.to_int())));
        let mut rrsets: Vec<(RrKey, Rrset)> = Vec::new();
        for same in records.chunk_by(|a, b| a.rtype == b.rtype && a.owner == b.owner) {
            let ttl_s = self.lowest_ttl_s(same);
            let rdata =
                |record: &Record| &self.rdatas[record.rdata_start..record.rdata_start + record.rdata_bytes];
            let rdatas = match same {
                [record] => Rdatas::single(rdata(record)),
                _ => same.iter().map(rdata).collect(),
            };
            // RRsets of one owner share its octets.
            let owner = match rrsets.last() {
                Some((last, _)) if last.owner == same[0].owner => last.owner.clone(),
                _ => same[0].owner.clone(),
            };
            rrsets.push((RrKey { owner, rtype: same[0].rtype }, Rrset { ttl: ttl_s, rdatas }));
        }
        self.warnings.sort_by_key(|warning| warning.line);
        Ok(ZoneFile { soa: self.soa, rrsets: rrsets.into_iter().collect(), warnings: self.warnings })
    }

    /// The TTL of an RRset: the lowest of its records (RFC 2181 §5.2).
    fn lowest_ttl_s(&mut self, records: &[Record]) -> u32 {
        let first_ttl_s = records[0].ttl_s;
        let lowest_ttl_s = records.iter().map(|record| record.ttl_s).min().unwrap_or(first_ttl_s);
        if let Some(other) = records.iter().find(|record| record.ttl_s != first_ttl_s) {
            let (owner, rtype) = (&other.owner, format_rtype(other.rtype));
            let message = format!(
                "the {rtype} records of {owner} have different TTLs: the lowest, {lowest_ttl_s}, was taken"
            );
            self.warn(other.line, message);
        }
        lowest_ttl_s
    }
}

const BAD_TTL: &str = "expected a TTL from 0 to 2147483647 seconds, or like 1h30m";

/// A TTL in seconds or with units (RFC 1035 §3.2.1, RFC 2181 §8).
fn parse_ttl_s(text: &[u8]) -> Option<u32> {
    parse_period_s(text).filter(|ttl_s| *ttl_s <= MAX_TTL_S)
}

/// Whether the token is a class, and if so, whether it is IN.
fn parse_class(token: Token<'_>) -> Option<bool> {
    if token.is_word("IN") {
        return Some(true);
    }
    if ["CH", "CHAOS", "HS", "HESIOD", "CS"].iter().any(|class| token.is_word(class)) {
        return Some(false);
    }
    parse_prefixed(token.as_str()?, "CLASS").map(|number| number == 1)
}

/// The one argument of a directive.
fn argument<'t>(tokens: &[Token<'t>], what: &str) -> Result<Token<'t>, Problem> {
    match tokens {
        [_, argument] => Ok(*argument),
        [_] => Err(Problem::new(0, format_args!("{what} is missing"))),
        _ => Err(Problem::new(2, format_args!("unexpected text after {what}"))),
    }
}

/// Writes a zone file: the SOA, then the RRsets as they come, with owners relative to the origin.
///
/// Given sorted RRsets, equal zones make equal files; [`parse_zone_file`] reads the same zone back. Types and
/// parameters have their names here, of which other servers may not know the newest.
pub fn write_zone_file<'r>(
    origin: &Name,
    soa: Option<(u32, &Soa)>,
    rrsets: impl IntoIterator<Item = (&'r RrKey, &'r Rrset)>,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    writeln!(out, "$ORIGIN {origin}")?;
    if let Some((ttl_s, soa)) = soa {
        writeln!(out, "$TTL {ttl_s}")?;
        writeln!(out, "@\t{ttl_s}\tIN\tSOA\t{}", format_rdata(Rtype::SOA, &soa.to_rdata()))?;
    }
    for (key, rrset) in rrsets {
        let rtype = format_rtype(key.rtype);
        for rdata in &rrset.rdatas {
            write_owner(&key.owner, origin, out)?;
            writeln!(out, "\t{}\tIN\t{rtype}\t{}", rrset.ttl, format_rdata(key.rtype, rdata))?;
        }
    }
    Ok(())
}

/// Writes a name relative to the origin.
fn write_owner(owner: &Name, origin: &Name, out: &mut impl fmt::Write) -> fmt::Result {
    if owner == origin {
        return out.write_char('@');
    }
    if !owner.is_below(origin) || origin.is_root() {
        return write!(out, "{owner}");
    }
    let relative_labels = owner.label_count() - origin.label_count();
    for (index, label) in owner.labels().take(relative_labels).enumerate() {
        if index > 0 {
            out.write_char('.')?;
        }
        crate::name::write_label(out, label)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
