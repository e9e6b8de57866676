//! Rules as the API has them, in and out.

use herald_core::Name;
use herald_core::firewall::{Action, Owner, QueryType, Rate, Rule, When};
use herald_core::rdata::{format_rtype, parse_rtype};
use herald_core::steering::Prefix;
use herald_wire::api::ProblemItem;
use herald_wire::api::firewall::{FirewallAction, FirewallRate, FirewallRule, FirewallWhen};

use crate::edge::names::shortened;
use crate::edge::problem::item;

/// Lengths of the networks that are counted, unless others are given: what one customer has.
const V4_LENGTH: u8 = 24;
const V6_LENGTH: u8 = 56;

/// A rule of a document, or what is wrong with it; `at` is its JSON pointer.
pub fn rule(rule: &FirewallRule, at: &str) -> Result<Rule, Vec<ProblemItem>> {
    let mut faults = Vec::new();
    let FirewallWhen { sources, countries, asns, names, types, over } = &rule.when;
    let place = |list: &str, place: usize| format!("{at}/when/{list}/{place}");
    let mut fault = |list: &str, n: usize, detail: String| {
        faults.push(item(place(list, n), format!("rule {}: {detail}", shortened(&rule.name))));
    };
    let mut when = When { asns: asns.clone(), ..When::default() };
    for (n, text) in sources.iter().enumerate() {
        match text.parse::<Prefix>() {
            Ok(prefix) => when.sources.push(prefix),
            Err(error) => fault("sources", n, error.to_string()),
        }
    }
    for (n, text) in countries.iter().enumerate() {
        match text.as_bytes().try_into() {
            Ok(code) => when.countries.push(code),
            Err(_) => fault(
                "countries",
                n,
                format!("`{}` is no country (ISO 3166-1 alpha-2, as DE)", shortened(text)),
            ),
        }
    }
    for (n, text) in names.iter().enumerate() {
        match Name::parse(text) {
            Ok(name) => when.names.push(name),
            Err(error) => fault("names", n, format!("`{}`: {error}", shortened(text))),
        }
    }
    for (n, text) in types.iter().enumerate() {
        match parse_rtype(text) {
            Some(rtype) => when.types.push(QueryType(rtype)),
            None => fault("types", n, format!("`{}` is no record type", shortened(text))),
        }
    }
    when.over = over.map(|rate| Rate {
        per_s: rate.per_s,
        burst: rate.burst.unwrap_or(rate.per_s),
        v4_length: rate.v4_length.unwrap_or(V4_LENGTH),
        v6_length: rate.v6_length.unwrap_or(V6_LENGTH),
    });
    if !faults.is_empty() {
        return Err(faults);
    }
    let action = match rule.action {
        FirewallAction::Pass => Action::Pass,
        FirewallAction::Drop => Action::Drop,
        FirewallAction::Refuse => Action::Refuse,
        FirewallAction::Truncate => Action::Truncate,
        FirewallAction::Nxdomain => Action::NxDomain,
        FirewallAction::Count => Action::Count,
    };
    Ok(Rule { name: rule.name.clone(), order: rule.order, when, action, note: rule.note.clone() })
}

/// Rules for people, in the order in which they are gone through.
pub fn shown<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<FirewallRule> {
    let mut rules: Vec<&Rule> = rules.collect();
    rules.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    rules.into_iter().map(show).collect()
}

/// A rule for people.
pub fn show(rule: &Rule) -> FirewallRule {
    let When { sources, countries, asns, names, types, over } = &rule.when;
    FirewallRule {
        name: rule.name.clone(),
        order: rule.order,
        when: FirewallWhen {
            sources: sources.iter().map(Prefix::to_string).collect(),
            countries: countries.iter().map(|code| String::from_utf8_lossy(code).into_owned()).collect(),
            asns: asns.clone(),
            names: names.iter().map(Name::to_string).collect(),
            types: types.iter().map(|one| format_rtype(one.0)).collect(),
            over: over.map(|rate| FirewallRate {
                per_s: rate.per_s,
                burst: Some(rate.burst),
                v4_length: Some(rate.v4_length),
                v6_length: Some(rate.v6_length),
            }),
        },
        action: match rule.action {
            Action::Pass => FirewallAction::Pass,
            Action::Drop => FirewallAction::Drop,
            Action::Refuse => FirewallAction::Refuse,
            Action::Truncate => FirewallAction::Truncate,
            Action::NxDomain => FirewallAction::Nxdomain,
            Action::Count => FirewallAction::Count,
        },
        note: rule.note.clone(),
    }
}

/// Whose, for people; none is a policy zone's.
pub fn owner(owner: Option<Owner>) -> String {
    match owner {
        None => "policy_zone".into(),
        Some(Owner::Fleet) => "fleet".into(),
        Some(Owner::Tenant(tenant)) => tenant.to_string(),
    }
}
