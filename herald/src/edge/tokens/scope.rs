//! Scopes as requests have them.

use herald_core::Name;
use herald_core::account::{NamePattern, Scope, ScopeType, Verb, ZonePattern};
use herald_wire::api;

use crate::edge::names::{Faults, parse_type};

/// Reads a scope; what is wrong with it is noted.
pub(super) fn parse_scope(scope: &api::Scope, faults: &mut Faults) -> Scope {
    Scope {
        zones: each("zones", &scope.zones, zone_pattern, faults),
        names: each("names", &scope.names, name_pattern, faults),
        types: each("types", &scope.types, |text| parse_type(text).map(ScopeType), faults),
        verbs: scope.verbs.iter().copied().map(verb).collect(),
    }
}

fn each<T>(
    field: &str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, String>,
    faults: &mut Faults,
) -> Vec<T> {
    let mut parsed = Vec::with_capacity(texts.len());
    for (place, text) in texts.iter().enumerate() {
        match read(text) {
            Ok(one) => parsed.push(one),
            Err(detail) => faults.add(format!("/scope/{field}/{place}"), detail, None, None),
        }
    }
    parsed
}

/// `*.example.com`: all zones below; else an id or a name.
fn zone_pattern(text: &str) -> Result<ZonePattern, String> {
    if let Ok(id) = text.parse() {
        return Ok(ZonePattern::Id(id));
    }
    match text.strip_prefix("*.") {
        Some(parent) => Ok(ZonePattern::Below(name(parent)?)),
        None => Ok(ZonePattern::Name(name(text)?)),
    }
}

/// `*.dyn.example.com`: all names below; `_acme-challenge.*`: all that begin so; else a name.
fn name_pattern(text: &str) -> Result<NamePattern, String> {
    if let Some(parent) = text.strip_prefix("*.") {
        return Ok(NamePattern::Below(name(parent)?));
    }
    let Some(first) = text.strip_suffix(".*") else { return Ok(NamePattern::Name(name(text)?)) };
    let first = name(first)?;
    let mut labels = first.labels();
    match (labels.next().map(|label| std::str::from_utf8(label)), labels.next()) {
        (Some(Ok(label)), None) => Ok(NamePattern::FirstLabel(label.to_owned())),
        _ => Err(format!("`{first}` is to be one label, as in `_acme-challenge.*`")),
    }
}

fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|e| e.to_string())
}

fn verb(verb: api::Verb) -> Verb {
    match verb {
        api::Verb::Read => Verb::Read,
        api::Verb::Write => Verb::Write,
        api::Verb::Create => Verb::Create,
        api::Verb::Delete => Verb::Delete,
        api::Verb::Admin => Verb::Admin,
        api::Verb::Monitor => Verb::Monitor,
    }
}
