//! Names and records as requests have them, into those of the domain; all that is wrong is collected.

use herald_core::command::{EditOp, RrsetEdit};
use herald_core::name::NameError;
use herald_core::rdata::{format_rtype, parse_rdata, parse_rtype};
use herald_core::steering::is_steering_type;
use herald_core::{Name, Rdatas, RrKey, Rrset, Rtype};
use herald_wire::api::{ProblemItem, RrsetChange, RrsetInput, RrsetOp};

use super::problem::{ApiError, Code, ITEMS_MAX};

/// An owner name: `@` or nothing is the apex; a name that is in the zone as it stands is fully qualified, with or
/// without the trailing dot; any other without one is relative to the zone.
pub fn parse_owner(text: &str, zone: &Name) -> Result<Name, NameError> {
    if text.is_empty() || text == "@" {
        return Ok(zone.clone());
    }
    let absolute = Name::parse(text)?;
    if absolute.is_at_or_below(zone) { Ok(absolute) } else { Name::parse_relative(text, zone) }
}

/// A type, or what is wrong with it.
pub fn parse_type(text: &str) -> Result<Rtype, String> {
    parse_rtype(text).ok_or_else(|| {
        format!("there is no record type `{}`; any type can be given as TYPEnnn", shortened(text))
    })
}

/// A type of records: not one that holds steering, which has an API of its own.
pub fn parse_record_type(text: &str) -> Result<Rtype, String> {
    let rtype = parse_type(text)?;
    if is_steering_type(rtype) {
        return Err(format!("{} holds steering: use /zones/{{zone}}/steering", format_rtype(rtype)));
    }
    Ok(rtype)
}

/// A name as a segment of a path.
pub fn encoded(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for octet in name.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~*".contains(&octet) {
            segment.push(char::from(octet));
        } else {
            segment.push_str(&format!("%{octet:02X}"));
        }
    }
    segment
}

/// As much of a text as a message bears.
pub fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// Collects what is wrong with a request, each with where it is.
#[derive(Debug, Default)]
pub struct Faults(Vec<ProblemItem>);

impl Faults {
    /// Notes one; those that would not be shown are only counted.
    pub fn add(
        &mut self,
        pointer: String,
        detail: impl Into<String>,
        name: Option<&str>,
        rtype: Option<&str>,
    ) {
        // One over the limit tells that there are more.
        if self.0.len() <= ITEMS_MAX {
            let (name, rtype) = (name.map(shortened), rtype.map(shortened));
            self.0.push(ProblemItem { pointer, detail: detail.into(), name, rtype });
        }
    }

    /// Fails if anything is wrong.
    pub fn check(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::new(Code::Invalid, "").with_items(self.0)) }
    }
}

/// The changes of one zone, as edits. `list` is the JSON pointer of the list that they are.
pub fn parse_changes(
    changes: &[RrsetChange],
    zone: &Name,
    list: &str,
    faults: &mut Faults,
) -> Vec<RrsetEdit> {
    let mut edits = Vec::with_capacity(changes.len());
    for (place, change) in changes.iter().enumerate() {
        edits.extend(parse_change(change, zone, &|| format!("{list}/{place}"), faults));
    }
    edits
}

fn parse_change(
    change: &RrsetChange,
    zone: &Name,
    at: &dyn Fn() -> String,
    faults: &mut Faults,
) -> Option<RrsetEdit> {
    let item = Item { at, name: &change.name, rtype: &change.rtype };
    let key = item.key(zone, faults);
    let needs_records = change.op != RrsetOp::Delete;
    if needs_records && change.records.is_empty() {
        item.fault(faults, "/records", "this operation needs records");
    }
    if !needs_records && !change.records.is_empty() {
        item.fault(
            faults,
            "/records",
            "`delete` removes the whole RRset; to remove some records use `remove`",
        );
    }
    if change.op == RrsetOp::Put && change.ttl.is_none() {
        item.fault(faults, "/ttl", "`put` needs a TTL");
    }
    if matches!(change.op, RrsetOp::Remove | RrsetOp::Delete) && change.ttl.is_some() {
        item.fault(faults, "/ttl", "this operation takes no TTL");
    }
    let key = key?;
    let rdatas = item.rdatas(key.rtype, &change.records, faults)?;
    let op = match (change.op, change.ttl) {
        (RrsetOp::Put, Some(ttl)) => EditOp::Put { ttl, rdatas },
        (RrsetOp::Put, None) => return None,
        (RrsetOp::Add, ttl) => EditOp::Add { ttl, rdatas },
        (RrsetOp::Remove, _) => EditOp::Remove { rdatas },
        (RrsetOp::Delete, _) => EditOp::Delete,
    };
    Some(RrsetEdit { key, if_match: None, op })
}

/// First RRsets of a zone.
pub fn parse_rrsets(rrsets: &[RrsetInput], zone: &Name, faults: &mut Faults) -> Vec<(RrKey, Rrset)> {
    let mut parsed = Vec::with_capacity(rrsets.len());
    let mut seen = std::collections::BTreeSet::new();
    for (place, rrset) in rrsets.iter().enumerate() {
        let at = || format!("/rrsets/{place}");
        let item = Item { at: &at, name: &rrset.name, rtype: &rrset.rtype };
        let Some(key) = item.key(zone, faults) else { continue };
        if rrset.records.is_empty() {
            item.fault(faults, "/records", "an RRset has at least one record");
        }
        if key.owner == *zone && matches!(key.rtype, Rtype::NS | Rtype::SOA) {
            item.fault(faults, "", "apex NS and SOA come from the set of name servers");
        }
        if !seen.insert(key.clone()) {
            item.fault(faults, "", "this RRset is given twice: put its records together");
        }
        if let Some(rdatas) = item.rdatas(key.rtype, &rrset.records, faults) {
            parsed.push((key, Rrset { ttl: rrset.ttl, rdatas }));
        }
    }
    parsed
}

/// The records of `PUT /rrsets/{name}/{type}`.
pub fn parse_records(key: &RrKey, records: &[String], faults: &mut Faults) -> Option<Rdatas> {
    let (name, rtype) = (key.owner.to_string(), format_rtype(key.rtype));
    let item = Item { at: &String::new, name: &name, rtype: &rtype };
    if records.is_empty() {
        item.fault(faults, "/records", "an RRset has at least one record; use DELETE to remove it");
    }
    item.rdatas(key.rtype, records, faults)
}

/// One item of a request: where it is, and how it names its RRset.
struct Item<'a> {
    at: &'a dyn Fn() -> String,
    name: &'a str,
    rtype: &'a str,
}

impl Item<'_> {
    fn fault(&self, faults: &mut Faults, field: &str, detail: impl Into<String>) {
        faults.add((self.at)() + field, detail, Some(self.name), Some(self.rtype));
    }

    fn key(&self, zone: &Name, faults: &mut Faults) -> Option<RrKey> {
        let owner = parse_owner(self.name, zone).map_err(|e| self.fault(faults, "/name", e.to_string())).ok();
        let rtype = parse_record_type(self.rtype).map_err(|detail| self.fault(faults, "/type", detail)).ok();
        Some(RrKey::new(owner?, rtype?))
    }

    fn rdatas(&self, rtype: Rtype, records: &[String], faults: &mut Faults) -> Option<Rdatas> {
        let mut rdatas = Vec::with_capacity(records.len());
        for (place, record) in records.iter().enumerate() {
            match parse_rdata(rtype, record) {
                Ok(rdata) => rdatas.push(rdata),
                Err(e) => self.fault(faults, &format!("/records/{place}"), e.to_string()),
            }
        }
        match rdatas.as_slice() {
            _ if rdatas.len() < records.len() => None,
            [only] => Some(Rdatas::single(only)),
            _ => Some(rdatas.into_iter().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_relative_unless_they_are_in_the_zone_as_they_stand() {
        let zone = Name::parse("example.com").unwrap();
        for (text, owner) in [
            ("", "example.com."),
            ("@", "example.com."),
            ("example.com", "example.com."),
            ("WWW", "www.example.com."),
            ("a.b", "a.b.example.com."),
            ("www.example.com", "www.example.com."),
            ("www.example.com.", "www.example.com."),
            // Not in the zone as it stands, and without a dot: relative.
            ("www.example.org", "www.example.org.example.com."),
            ("notexample.com", "notexample.com.example.com."),
            // With the dot it is meant as it stands; `decide` refuses it.
            ("www.example.org.", "www.example.org."),
            ("bücher", "xn--bcher-kva.example.com."),
        ] {
            assert_eq!(parse_owner(text, &zone).unwrap().to_string(), owner, "{text}");
        }
        assert!(parse_owner("a..b", &zone).is_err());
    }
}
