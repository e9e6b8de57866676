//! `koder dns explain`: which answer a client gets, and why.

use clap::Args;
use herald_wire::api::explain::{
    Decision, EndpointOutcome, ExplainedOutcome, Explanation, GeoFacts, PoolOutcome, RuleOutcome,
};

use super::Session;
use crate::client::ExplainQuery;
use crate::failure::Failure;
use crate::names;
use crate::table;

/// Flags of `koder dns explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
The answer comes from the code that decides in the PoPs. With --draw there is one answer: what is left to chance depends on
that number alone.

Examples:
  koder dns explain www.example.com A --client 198.51.100.7
  koder dns explain www.example.com A --client 192.0.2.53 --ecs 198.51.100.0/24 --pop fra1
  koder dns explain www.example.com AAAA --client 2001:db8::1 --at 4711 --draw 42")]
pub struct ExplainArgs {
    /// The name that is asked for, fully qualified
    pub name: String,
    /// The type that is asked for
    #[arg(value_name = "TYPE", default_value = "A")]
    pub rtype: String,
    /// The address that the query comes from
    #[arg(long, value_name = "ADDRESS")]
    pub client: String,
    /// The client subnet that the resolver tells of (RFC 7871)
    #[arg(long, value_name = "PREFIX")]
    pub ecs: Option<String>,
    /// Name of the PoP that answers
    #[arg(long)]
    pub pop: Option<String>,
    /// As it was at this revision or time (4711, 2026-11-01, 2026-11-01T12:00:00Z)
    #[arg(long, value_name = "WHEN")]
    pub at: Option<String>,
    /// The draw, instead of the odds alone
    #[arg(long, value_name = "N")]
    pub draw: Option<u64>,
    /// The zone (name or id), instead of the nearest one above the name
    #[arg(long)]
    pub zone: Option<String>,
}

pub(super) fn run(session: &mut Session<'_>, args: &ExplainArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let answer = client.explain(&ExplainQuery {
        name: args.name.clone(),
        rtype: args.rtype.clone(),
        client: args.client.clone(),
        ecs: args.ecs.clone(),
        pop: args.pop.clone(),
        at: args.at.clone(),
        draw: args.draw,
        zone: args.zone.as_deref().map(names::zone_for_path),
    })?;
    session.show(&answer, show)
}

fn show(explanation: &Explanation) -> String {
    let Explanation { name, rtype, zone_name, revision, generation, .. } = explanation;
    let place = || {
        let owner = explanation.owner.as_deref().unwrap_or_default();
        format!("{owner} {}", explanation.answered_type.as_deref().unwrap_or_default()).trim_end().to_owned()
    };
    let outcome = match explanation.outcome {
        ExplainedOutcome::Steered => format!("the policy {} decides", place()),
        ExplainedOutcome::Records => format!("the records {}, the same for everybody", place()),
        ExplainedOutcome::Overlay => format!("the records {} of a view", place()),
        ExplainedOutcome::NoData => format!("{} is there, with no {rtype} records", place()),
        ExplainedOutcome::NoSuchName => "there is no such name".into(),
        ExplainedOutcome::Delegated => format!("{} is delegated to others", place()),
        ExplainedOutcome::Redirected => format!("{} leads elsewhere", place()),
    };
    let version = |one: &Option<herald_wire::api::explain::GeoVersion>| {
        one.as_ref().map(|one| format!("{} of {}", one.kind, crate::times::format_time(one.built_ms)))
    };
    let databases: Vec<String> =
        [version(&explanation.geo.city), version(&explanation.geo.asn)].into_iter().flatten().collect();
    let mut text = table::pairs([
        ("question", Some(format!("{name} {rtype}"))),
        ("zone", Some(format!("{zone_name} at revision {revision}, generation {generation}"))),
        ("views", Some(explanation.views.join(", "))),
        ("outcome", Some(outcome)),
        ("ttl", explanation.ttl.map(|ttl| ttl.to_string())),
        ("places", Some(if databases.is_empty() { "no database".into() } else { databases.join(", ") })),
        ("note", explanation.note.clone()),
    ]);
    for record in &explanation.records {
        text.push_str(&format!("  {}\n", table::printable(record)));
    }
    if let Some(alias) = &explanation.alias {
        text.push('\n');
        text.push_str(&super::alias::details(alias));
    }
    if let Some(decision) = &explanation.decision {
        text.push_str(&decided(decision));
    }
    text
}

fn decided(decision: &Decision) -> String {
    let mut text = String::from("\n");
    let by = if decision.by_ecs { "of the client subnet" } else { "of the query" };
    text.push_str(&table::pairs([
        ("address", Some(format!("{} ({by})", decision.address))),
        ("known", decision.facts.as_ref().map(facts)),
        ("ECS scope", decision.ecs_scope.map(|scope| format!("/{scope}"))),
        ("sticky for", decision.sticky.clone()),
    ]));
    text.push('\n');
    text.push_str(&table::columns(
        ["RULE", "NAME", "WHAT CAME OF IT"],
        decision.rules.iter().map(|rule| {
            let verdict = match rule.verdict {
                RuleOutcome::Matched => "matches".into(),
                RuleOutcome::Unmet => {
                    format!("not for this client: {}", rule.unmet.as_deref().unwrap_or_default())
                }
                RuleOutcome::PlaceUnknown => "the client's place isn't known".into(),
            };
            [rule.number.to_string(), rule.name.clone().unwrap_or_default(), verdict]
        }),
    ));
    if !decision.pools.is_empty() {
        text.push('\n');
        text.push_str(&table::columns(
            ["POOL", "ENDPOINT", "WHAT CAME OF IT", "ODDS"],
            decision.pools.iter().flat_map(pool_rows),
        ));
    }
    text.push('\n');
    match &decision.answer {
        Some(answer) => {
            text.push_str(&format!("answer (TTL {}):\n", answer.ttl));
            for record in &answer.records {
                text.push_str(&format!("  {}\n", table::printable(record)));
            }
        }
        None if decision.answers.is_empty() => text.push_str("answer: no records (NODATA)\n"),
        None => {
            let about = if decision.odds_are_exact { "" } else { " (estimated)" };
            text.push_str(&table::columns(
                ["ANSWER", "ODDS"],
                decision.answers.iter().map(|one| [one.record.clone(), percent(one.odds) + about]),
            ));
        }
    }
    text
}

fn pool_rows(pool: &herald_wire::api::explain::ExplainedPool) -> Vec<[String; 4]> {
    let verdict = match pool.verdict {
        PoolOutcome::Answers => "answers",
        PoolOutcome::Nothing => "nothing in it can answer",
        PoolOutcome::TooFew => "too few endpoints can answer",
        PoolOutcome::TooFewUp => "too few endpoints are up",
        PoolOutcome::LastResort => "too few endpoints are up, and still answers: no other pool can",
        PoolOutcome::NoPlace => "none of its endpoints has a location",
    };
    let mut rows = vec![[pool.name.clone(), String::new(), verdict.into(), String::new()]];
    rows.extend(pool.endpoints.iter().map(|endpoint| {
        let verdict = match endpoint.verdict {
            EndpointOutcome::Candidate => "can answer",
            EndpointOutcome::NoRecords => "has no records of the type",
            EndpointOutcome::Disabled => "disabled",
            EndpointOutcome::Drained => "drained",
            EndpointOutcome::NoWeight => "has no weight",
            EndpointOutcome::NotNearest => "not the nearest",
            EndpointOutcome::Down => "down",
            EndpointOutcome::PoolPassedOver => "could, but its pool is passed over",
        };
        let odds = if endpoint.verdict == EndpointOutcome::Candidate {
            percent(endpoint.odds)
        } else {
            String::new()
        };
        let verdict = match (&endpoint.cause, endpoint.verdict) {
            (Some(cause), EndpointOutcome::Down) => format!("{verdict}: {cause}"),
            _ => verdict.to_owned(),
        };
        [String::new(), endpoint.name.clone(), verdict, odds]
    }));
    rows
}

fn percent(odds: f64) -> String {
    format!("{:.1} %", odds * 100.0)
}

fn facts(facts: &GeoFacts) -> String {
    let known = [
        facts.continent.clone(),
        facts.country.clone(),
        (!facts.subdivisions.is_empty()).then(|| facts.subdivisions.join(", ")),
        facts.city.map(|city| format!("city {city}")),
        facts.asn.map(|asn| format!("AS{asn}")),
        facts.location.map(|at| format!("{} {}", at.latitude, at.longitude)),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    if known.is_empty() { "nothing".into() } else { known.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_decision_in_words() {
        let explanation: Explanation = serde_json::from_value(json!({
            "zone": "z1", "zone_name": "example.com.", "revision": 7, "generation": "1.7",
            "name": "www.example.com.", "type": "A", "outcome": "steered",
            "owner": "www.example.com.", "answered_type": "A", "geo": {}, "note": "Places are of now.",
            "decision": {
                "address": "198.51.100.7", "by_ecs": true, "ecs_scope": 24,
                "facts": { "country": "DE", "asn": 64496 },
                "rules": [
                    { "number": 1, "name": "office", "verdict": "unmet", "unmet": "views" },
                    { "number": 2, "verdict": "matched" },
                ],
                "pools": [{ "name": "eu", "verdict": "answers", "endpoints": [
                    { "name": "a", "verdict": "candidate", "odds": 0.75 },
                    { "name": "b", "verdict": "drained", "odds": 0.0 },
                ] }],
                "answers": [{ "record": "192.0.2.1", "odds": 0.75 }],
                "odds_are_exact": true,
            },
        }))
        .unwrap();
        assert_eq!(
            show(&explanation),
            "question  www.example.com. A\n\
             zone      example.com. at revision 7, generation 1.7\n\
             outcome   the policy www.example.com. A decides\n\
             places    no database\n\
             note      Places are of now.\n\
             \n\
             address    198.51.100.7 (of the client subnet)\n\
             known      DE, AS64496\n\
             ECS scope  /24\n\
             \n\
             RULE  NAME    WHAT CAME OF IT\n\
             1     office  not for this client: views\n\
             2             matches\n\
             \n\
             POOL  ENDPOINT  WHAT CAME OF IT  ODDS\n\
             eu              answers\n\
             \x20     a         can answer       75.0 %\n\
             \x20     b         drained\n\
             \n\
             ANSWER     ODDS\n\
             192.0.2.1  75.0 %\n"
        );
    }
}
