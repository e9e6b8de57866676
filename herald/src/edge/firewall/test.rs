//! `/firewall/test`: what would be done with a query.

use std::net::IpAddr;

use herald_core::Name;
use herald_core::firewall::Owner;
use herald_core::rdata::parse_rtype;
use herald_wire::api::Problem;
use herald_wire::api::firewall::FirewallVerdict;
use serde::Deserialize;
use steering::firewall::{Decider, Decision, Question, Trial, Verdict, decide};
use utoipa::IntoParams;

use super::read;
use crate::edge::gate::{Caller, Reading, blocking};
use crate::edge::names::shortened;
use crate::edge::problem::{ApiError, Code};
use crate::edge::respond;
use crate::firewall::Compiled;

/// A query that is thought of.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TestQuery {
    /// The name asked for.
    #[param(required)]
    name: Option<String>,
    /// The type asked for: A unless given.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    rtype: Option<String>,
    /// The address that it comes from.
    #[param(required)]
    client: Option<String>,
    /// Whether it comes by TCP.
    #[serde(default)]
    tcp: bool,
}

/// What the firewall does with a query, and which rule says so: decided by the code that PoPs decide by.
#[utoipa::path(get, path = "/firewall/test", tag = "firewall", operation_id = "test_firewall",
    params(TestQuery), responses(
    (status = 200, body = FirewallVerdict),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn test(request: Reading<(), TestQuery>) -> Result<respond::Ok<FirewallVerdict>, ApiError> {
    let Reading { caller, query, .. } = request;
    let needed = |parameter: &str, value: &Option<String>| {
        value.clone().ok_or_else(|| ApiError::malformed(format!("say `{parameter}`")))
    };
    let (name, client) = (needed("name", &query.name)?, needed("client", &query.client)?);
    let wrong = |parameter: &str, text: &str, detail: String| {
        ApiError::malformed(format!("the parameter `{parameter}`, `{}`: {detail}", shortened(text)))
    };
    let asked = Name::parse(&name).map_err(|e| wrong("name", &name, e.to_string()))?;
    let source: IpAddr =
        client.parse().map_err(|e: std::net::AddrParseError| wrong("client", &client, e.to_string()))?;
    let text = query.rtype.as_deref().unwrap_or("A");
    let rtype = parse_rtype(text).ok_or_else(|| wrong("type", text, "there is no such type".into()))?;
    let firewalls = caller.publisher().firewalls().clone();
    blocking({
        let firewalls = firewalls.clone();
        move || firewalls.make()
    })
    .await?
    .map_err(super::unavailable)?;
    let above = std::iter::successors(Some(asked.clone()), Name::parent);
    let zone = above.into_iter().find_map(|apex| caller.state().served_zone(&apex).cloned());
    if caller.access().need_operator().is_err()
        && !zone.as_ref().is_some_and(|zone| caller.access().sees(zone))
    {
        return Err(ApiError::new(Code::NotFound, format!("there is no zone of {asked} that you can see")));
    }
    let question = Question {
        source: source.to_canonical(),
        name: asked.as_wire(),
        rtype,
        is_udp: !query.tcp,
        zone: zone.as_ref().map(|zone| zone.name.as_wire()),
    };
    Ok(respond::Ok(verdict(&firewalls.compiled(), &caller, &question)))
}

/// The verdict on a query, as the caller may see it.
pub fn verdict(compiled: &Compiled, caller: &Caller, question: &Question<'_>) -> FirewallVerdict {
    let geo = caller.geo();
    let of = |is_fast| {
        decide(compiled.rules.as_deref(), compiled.policies.as_deref(), question, &geo, &Trial { is_fast })
    };
    let (calm, fast) = (of(false), of(true));
    let is_operator = caller.access().tenant.is_none();
    let mut verdict = shown(calm.as_ref(), is_operator);
    if fast != calm {
        let fast = shown(fast.as_ref(), is_operator);
        verdict.when_fast = Some(format!("{}: {}", fast.verdict, fast.reason));
    }
    verdict
}

fn shown(decision: Option<&Decision<'_>>, is_operator: bool) -> FirewallVerdict {
    let Some(Decision { verdict, by }) = decision else {
        return FirewallVerdict {
            verdict: "pass".into(),
            owner: None,
            name: None,
            reason: "no rule and no policy zone says anything of it".into(),
            when_fast: None,
        };
    };
    let word = match verdict {
        Verdict::Pass => "pass",
        Verdict::Drop => "drop",
        Verdict::Refuse => "refuse",
        Verdict::Truncate => "truncate",
        Verdict::NxDomain => "nxdomain",
        Verdict::NoData => "nodata",
        Verdict::Local(_) => "local_data",
    };
    let (owner, name, reason) = match by {
        Decider::Rule { owner, name } => {
            let whose = if *owner == Owner::Fleet { "the fleet's" } else { "the tenant's" };
            (read::owner(Some(*owner)), *name, format!("{whose} rule {name} is the first one that is for it"))
        }
        Decider::Policy { zone, by_client: true } => {
            (read::owner(None), *zone, format!("the policy zone {zone} has the client's address"))
        }
        Decider::Policy { zone, by_client: false } => {
            (read::owner(None), *zone, format!("the policy zone {zone} has the name"))
        }
    };
    // What operators do is theirs to tell.
    let is_told = is_operator || matches!(by, Decider::Rule { owner: Owner::Tenant(_), .. });
    FirewallVerdict {
        verdict: word.into(),
        owner: is_told.then_some(owner),
        name: is_told.then(|| name.to_owned()),
        reason: if is_told { reason } else { "the platform's operators have it so".into() },
        when_fast: None,
    }
}
