//! What the entries of a zone file mean.

use std::fmt;

use domain::base::iana::Rtype;

use super::records::Records;
use super::{Warnings, ZoneFile, ZoneFileError, ZoneFileErrors, generate};
use crate::name::Name;
use crate::rdata::{
    Entry, Lexer, Soa, Token, format_rtype, is_meta_type, is_system_type, parse_period_s, parse_prefixed,
    parse_rtype, read_rdata, tokens_of_rdata,
};
use crate::rrset::{MAX_TTL_S, RrKey};

/// Types that the signer of a zone puts at its apex. In a signed file they are that signer's.
const OF_A_SIGNER: [Rtype; 4] = [Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY, Rtype::ZONEMD];

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

/// A zone file so far: what its entries mean.
pub(super) struct Parser {
    zone: Name,
    origin: Name,
    /// What a record without a TTL gets, in the order in which they count.
    dollar_ttl_s: Option<u32>,
    last_ttl_s: Option<u32>,
    default_ttl_s: Option<u32>,
    last_owner: LastOwner,
    soa: Option<(u32, Soa)>,
    records: Records,
    pub(super) records_max: usize,
    /// The RDATA that is being read.
    rdata: Vec<u8>,
    generated: generate::Budget,
    left_out: Vec<Rtype>,
    warnings: Warnings,
    errors: ZoneFileErrors,
}

impl Parser {
    pub(super) fn new(zone: &Name, default_ttl_s: Option<u32>) -> Parser {
        Parser {
            zone: zone.clone(),
            origin: zone.clone(),
            dollar_ttl_s: None,
            last_ttl_s: None,
            default_ttl_s,
            last_owner: LastOwner::None,
            soa: None,
            records: Records::default(),
            records_max: usize::MAX,
            rdata: Vec::new(),
            generated: generate::Budget::default(),
            left_out: Vec::new(),
            warnings: Warnings::default(),
            errors: ZoneFileErrors::default(),
        }
    }

    /// Reads what a lexer finds in a text; all places of errors are in that text.
    pub(super) fn read(&mut self, lexer: &mut Lexer<'_>, text: &[u8]) {
        let mut tokens = Vec::new();
        loop {
            match lexer.next_entry(&mut tokens) {
                Ok(Some(entry)) => {
                    if let Err(Problem { token, message }) = self.entry(entry, &tokens) {
                        let offset =
                            tokens.get(token).or(tokens.last()).map_or(entry.offset, |token| token.offset);
                        self.add_error(text, entry, offset, message);
                    }
                }
                Ok(None) => return,
                Err((problem, entry, offset)) => {
                    // Whatever owner the line has, the lines below it must not get the one above it.
                    self.last_owner = LastOwner::Unknown;
                    self.add_error(text, entry, offset, problem.to_string());
                }
            }
        }
    }

    /// Notes an error that has no place in an entry.
    pub(super) fn fail(&mut self, line: usize, message: String) {
        self.note_error(ZoneFileError { line, column: 1, message });
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

    /// `$GENERATE range owner [ttl] [class] type rdata`: the entry once for each number of the range. RDATA of several fields
    /// may stand in quotation marks, as BIND has it.
    fn generate(&mut self, entry: Entry, tokens: &[Token<'_>]) -> Result<(), Problem> {
        let Some((range, template)) = tokens[1..].split_first().filter(|(_, template)| template.len() > 2)
        else {
            return Err(Problem::new(0, "$GENERATE needs a range, an owner, a type and RDATA"));
        };
        let numbers = generate::parse_range(range.text).map_err(|problem| Problem::new(1, problem))?;
        let quoted_rdata = quoted_rdata_type(template);
        let (last, mut is_warned) = (tokens.len() - 1, false);
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
            let mut generated: Vec<Token<'_>> = template
                .iter()
                .zip(&ends)
                .map(|(token, &end)| {
                    let text = &text[start..end];
                    start = end;
                    Token { text, ..*token }
                })
                .collect();
            let rdata;
            if let Some(rtype) = quoted_rdata {
                let quoted = generated.pop().expect("the RDATA");
                rdata = generate::unquote(quoted.text).map_err(|problem| Problem::new(last, problem))?;
                let fields = tokens_of_rdata(&rdata).map_err(|(problem, _)| Problem::new(last, problem))?;
                if rtype == Rtype::TXT && fields.len() > 1 && !is_warned {
                    is_warned = true;
                    let message =
                        "the quoted text was read as the RDATA, as BIND does: it is more than one string";
                    self.warn(entry.line, message.to_owned());
                }
                generated.extend(fields);
            }
            // One error is enough: those of the other numbers are nearly always the same.
            self.record(Entry { starts_blank: false, ..entry }, &generated)
                .map_err(|problem| Problem { token: last.min(2 + problem.token), ..problem })?;
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
        if !owner.is_at_or_below(&self.zone) {
            return Err(Problem::new(0, format_args!("{owner} is not in the zone {}", self.zone)));
        }
        if is_system_type(rtype) {
            self.leave_out(rtype, entry.line);
            return Ok(());
        }
        self.rdata.clear();
        read_rdata(rtype, &tokens[next + 1..], Some(&self.origin), &mut self.rdata)
            .map_err(|error| Problem::new(error.token().map_or(next, |token| next + 1 + token), error))?;
        if rtype == Rtype::SOA {
            let soa = Soa::from_rdata(&self.rdata).expect("RDATA that was just read");
            return self
                .start_of_authority(entry, owner, ttl_s, soa)
                .map_err(|problem| Problem::new(0, problem));
        }
        let Some(ttl_s) = self.ttl_s(ttl_s) else {
            return Err(Problem::new(
                next,
                "the record has no TTL, and there is no $TTL and no SOA above it",
            ));
        };
        // Of a file with errors nothing is kept.
        if self.errors.count == 0 {
            if self.records.len() == self.records_max {
                let message = format_args!("the file has more than {} records", self.records_max);
                return Err(Problem::new(0, message));
            }
            self.records.add(RrKey { owner, rtype }, ttl_s, &self.rdata, entry.line);
        }
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
        if owner != self.zone {
            return Err("the SOA is not at the top of the zone");
        }
        match &self.soa {
            None => {
                // Where nothing else says it, the minimum is what records have that come without a TTL: exports of Windows rely
                // on it (RFC 1035 §5.2), and BIND reads it so.
                let minimum_s = soa.minimum_s.min(MAX_TTL_S);
                let ttl_s = match self.ttl_s(ttl_s) {
                    Some(ttl_s) => ttl_s,
                    None => *self.dollar_ttl_s.insert(minimum_s),
                };
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
        self.warnings.add(line, message);
    }

    /// Notes an error at an offset of the text, in or below the line that the entry starts on.
    fn add_error(&mut self, text: &[u8], entry: Entry, offset: usize, message: String) {
        let before = &text[entry.offset..offset];
        let line = entry.line + before.iter().filter(|octet| **octet == b'\n').count();
        let line_start = before.iter().rposition(|octet| *octet == b'\n').map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        self.note_error(ZoneFileError { line, column, message });
    }

    fn note_error(&mut self, error: ZoneFileError) {
        self.records = Records::default();
        self.errors.add(error);
    }

    /// The TTL of the SOA and the SOA, and all other records.
    pub(super) fn finish_records(self) -> Result<(Option<(u32, Soa)>, Records), ZoneFileErrors> {
        if self.errors.count > 0 { Err(self.errors) } else { Ok((self.soa, self.records)) }
    }

    pub(super) fn finish(mut self) -> Result<ZoneFile, ZoneFileErrors> {
        if self.errors.count > 0 {
            return Err(self.errors);
        }
        let mut rrsets = self.records.into_content(&mut self.warnings);
        if self.left_out.contains(&Rtype::RRSIG) {
            for rtype in OF_A_SIGNER {
                let key = RrKey::new(self.zone.clone(), rtype);
                if rrsets.get(&key).is_some() {
                    rrsets.delete(&key);
                    let message = format!(
                        "the {} records of the apex were left out: they belong to the signer of the file",
                        format_rtype(rtype)
                    );
                    self.warnings.add(0, message);
                }
            }
        }
        Ok(ZoneFile { soa: self.soa, rrsets, warnings: self.warnings.into_sorted() })
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

/// The type of a `$GENERATE` whose RDATA is one quoted text with all fields in it (`MX "10 mail-$"`), and no empty one.
fn quoted_rdata_type(template: &[Token<'_>]) -> Option<Rtype> {
    let [_, before @ .., rtype, rdata] = template else { return None };
    let is_ttl_or_class = |token: &Token<'_>| {
        token.text.first().is_some_and(u8::is_ascii_digit) || parse_class(*token).is_some()
    };
    let is_it = rdata.is_quoted && !rdata.text.is_empty() && before.iter().all(is_ttl_or_class);
    rtype.as_str().and_then(parse_rtype).filter(|_| is_it)
}

/// The one argument of a directive.
fn argument<'t>(tokens: &[Token<'t>], what: &str) -> Result<Token<'t>, Problem> {
    match tokens {
        [_, argument] => Ok(*argument),
        [_] => Err(Problem::new(0, format_args!("{what} is missing"))),
        _ => Err(Problem::new(2, format_args!("unexpected text after {what}"))),
    }
}
