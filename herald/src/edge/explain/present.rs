//! From the decider's words to the API's.

use std::net::IpAddr;

use herald_core::MonitorId;
use herald_core::Rtype;
use herald_core::rdata::format_rdata;
use herald_wire::api::explain as api;
use herald_wire::api::steering::Location;
use steering::explain::{EndpointVerdict, Explanation};
use steering::geo::{Database, Facts, Versions};
use steering::{Condition, PoolVerdict, RuleVerdict};

pub fn decision(
    explanation: &Explanation,
    rtype: Rtype,
    address: IpAddr,
    by_ecs: bool,
    cause: &Cause<'_>,
) -> api::Decision {
    let record = |rdata: &Vec<u8>| format_rdata(rtype, rdata);
    api::Decision {
        address: address.to_string(),
        by_ecs,
        ecs_scope: explanation.decision.scope,
        facts: explanation.facts.as_ref().map(|(_, facts)| self::facts(facts)),
        rules: explanation.rules.iter().map(rule).collect(),
        pools: explanation.pools.iter().map(|one| pool(one, cause)).collect(),
        answers: explanation
            .answers
            .iter()
            .map(|answer| api::ExplainedAnswer { record: record(&answer.rdata), odds: answer.odds })
            .collect(),
        odds_are_exact: explanation.odds_are_exact,
        sticky: explanation.sticky.map(|prefix| prefix.to_string()),
        answer: explanation.answer.as_ref().map(|chosen| api::ChosenAnswer {
            endpoints: chosen.endpoints.clone(),
            records: chosen.rdatas.iter().map(record).collect(),
            ttl: chosen.ttl,
        }),
    }
}

fn rule(rule: &steering::explain::RuleExplained) -> api::ExplainedRule {
    let (verdict, unmet) = match rule.verdict {
        RuleVerdict::Matched => (api::RuleOutcome::Matched, None),
        RuleVerdict::Unmet(condition) => (api::RuleOutcome::Unmet, Some(word(condition).into())),
        RuleVerdict::PlaceUnknown => (api::RuleOutcome::PlaceUnknown, None),
    };
    api::ExplainedRule { number: rule.number + 1, name: rule.name.clone(), verdict, unmet }
}

/// What a condition is called where rules are written.
fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Continent => "continents",
        Condition::Country => "countries",
        Condition::Subdivision => "subdivisions",
        Condition::City => "cities",
        Condition::Asn => "asns",
        Condition::Prefix => "prefixes",
        Condition::Pop => "pops",
        Condition::View => "views",
    }
}

/// Why what is held of a monitor is held, in words.
pub type Cause<'a> = dyn Fn(MonitorId) -> Option<String> + 'a;

fn pool(pool: &steering::explain::PoolExplained, cause: &Cause<'_>) -> api::ExplainedPool {
    let endpoint = |endpoint: &steering::explain::EndpointExplained| api::ExplainedEndpoint {
        name: endpoint.name.clone(),
        verdict: match endpoint.verdict {
            EndpointVerdict::Candidate => api::EndpointOutcome::Candidate,
            EndpointVerdict::NoRecords => api::EndpointOutcome::NoRecords,
            EndpointVerdict::Disabled => api::EndpointOutcome::Disabled,
            EndpointVerdict::Drained => api::EndpointOutcome::Drained,
            EndpointVerdict::NoWeight => api::EndpointOutcome::NoWeight,
            EndpointVerdict::NotNearest => api::EndpointOutcome::NotNearest,
            EndpointVerdict::Down => api::EndpointOutcome::Down,
            EndpointVerdict::PoolPassedOver => api::EndpointOutcome::PoolPassedOver,
        },
        odds: endpoint.odds,
        down_since_ms: endpoint.down_since_s.map(|since| u64::from(since) * 1000),
        monitor: endpoint.monitor.map(|monitor| monitor.0),
        cause: endpoint.monitor.and_then(cause),
    };
    api::ExplainedPool {
        name: pool.name.clone(),
        verdict: match pool.verdict {
            PoolVerdict::Answers => api::PoolOutcome::Answers,
            PoolVerdict::Nothing => api::PoolOutcome::Nothing,
            PoolVerdict::TooFew(_) => api::PoolOutcome::TooFew,
            PoolVerdict::TooFewUp(_) => api::PoolOutcome::TooFewUp,
            PoolVerdict::LastResort => api::PoolOutcome::LastResort,
            PoolVerdict::NoPlace => api::PoolOutcome::NoPlace,
        },
        endpoints: pool.endpoints.iter().map(endpoint).collect(),
    }
}

fn facts(facts: &Facts) -> api::GeoFacts {
    let code = |code: [u8; 2]| (code != [0; 2]).then(|| code.escape_ascii().to_string());
    api::GeoFacts {
        continent: code(facts.continent),
        country: code(facts.country),
        subdivisions: facts.subdivisions.iter().flatten().map(ToString::to_string).collect(),
        city: (facts.city != 0).then_some(facts.city),
        asn: (facts.asn != 0).then_some(facts.asn),
        location: facts.location.map(|at| Location { latitude: at.latitude, longitude: at.longitude }),
    }
}

pub fn versions(versions: &Versions) -> api::GeoVersions {
    let version = |database: &Database| api::GeoVersion {
        kind: database.kind.clone(),
        built_ms: database.built_s * 1000,
    };
    api::GeoVersions { city: versions.city.as_ref().map(version), asn: versions.asn.as_ref().map(version) }
}
