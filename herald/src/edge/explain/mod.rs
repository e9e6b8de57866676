//! `GET /explain`: which answer a client gets, and why. The code that decides is the module's own.

mod isolation;
mod lookup;
mod present;

use std::net::IpAddr;
use std::sync::Arc;

use herald_core::account::Verb;
use herald_core::alias::ADDRESS_TYPES;
use herald_core::alias::served::Served;
use herald_core::command::ZoneRef;
use herald_core::rdata::{format_rdata, format_rtype};
use herald_core::rejection::Rejection;
use herald_core::state::monitors::Monitors;
use herald_core::steering::{Endpoint, Policy, Prefix};
use herald_core::zone::Zone;
use herald_core::{MonitorId, Name, RrKey, Rtype};
use herald_wire::api::Problem;
use herald_wire::api::explain::{ExplainedOutcome, Explanation};
use serde::Deserialize;
use steering::explain::{Question, explain as decide};
use steering::geo::Geo;
use steering::{Client, Health, Knowledge, Verdicts};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::lookup::Found;
use super::gate::{AppState, Caller, Reading};
use super::names::{parse_record_type, shortened};
use super::problem::{ApiError, Code};
use super::steering::{lint, show};
use super::{aliases, at, respond};

/// What is told of the past: tables of places are too large to keep those of then.
const PAST_PLACES: &str = "The zone is as it was then. Places are looked up in the GeoIP databases of now, and endpoints are up or down as they are now, which may be otherwise than it was then.";

/// What is told of ALIAS records of the past.
const PAST_ALIAS: &str = "what that resolved to then isn't kept.";

/// The routes of explanations.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(explain))
}

/// Who asks what, where and when.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// The name that is asked for, fully qualified.
    #[param(required = true)]
    name: Option<String>,
    /// The type that is asked for: A unless given.
    #[serde(rename = "type")]
    rtype: Option<String>,
    /// Where the query comes from: the address of the resolver.
    #[param(required = true)]
    client: Option<String>,
    /// The client subnet that the resolver tells of (RFC 7871): `203.0.113.0/24`.
    ecs: Option<String>,
    /// Name of the PoP that answers.
    pop: Option<String>,
    /// As it was at this revision (`4711`, `c4711`) or time (RFC 3339), instead of as it is.
    at: Option<String>,
    /// The draw: what is left to chance depends on this number alone.
    draw: Option<u64>,
    /// The zone (id or name), instead of the one that has the name.
    zone: Option<String>,
}

/// Which answer a client gets, and why: rules, facts, pools, odds.
#[utoipa::path(get, path = "/explain", tag = "steering", operation_id = "explain",
    params(ExplainQuery),
    responses(
        (status = 200, body = Explanation),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn explain(request: Reading<(), ExplainQuery>) -> Result<respond::Ok<Explanation>, ApiError> {
    let Reading { caller, query, .. } = request;
    let asked = Asked::read(&query)?;
    let zone = zone_of(&caller, &asked, query.zone.as_deref())?;
    let zone = at::zone(&caller, &zone, query.at.as_deref()).await?;
    if !asked.name.is_at_or_below(&zone.name) {
        let detail = format!("{} is not in the zone {}", asked.name, zone.name);
        return Err(ApiError::malformed(detail));
    }
    if !caller.access().scope.allows_rrset(&RrKey::new(asked.name.clone(), asked.rtype)) {
        let detail = format!("this token's scope doesn't have {} {}", asked.name, format_rtype(asked.rtype));
        return Err(ApiError::new(Code::Forbidden, detail));
    }
    let geo = caller.geo();
    // ALIAS records are what they resolved to, as PoPs have it.
    let published = match zone.content.aliases().is_empty() {
        true => Arc::clone(&zone),
        false => Arc::new(Zone { content: zone.published(), ..(*zone).clone() }),
    };
    let (mut explanation, policy) = explained(&published, &asked, &geo, caller.state().monitors())?;
    let owner = explanation.owner.as_deref().and_then(|owner| Name::parse(owner).ok());
    let owner = owner.unwrap_or_else(|| asked.name.clone());
    let alias = zone.content.aliases().get(&owner).filter(|_| ADDRESS_TYPES.contains(&asked.rtype));
    explanation.note = match (&query.at, policy, &asked.pop, alias) {
        (Some(_), _, _, None) => Some(PAST_PLACES.to_owned()),
        (Some(_), _, _, Some(alias)) => {
            Some(format!("{PAST_PLACES} {owner} is an ALIAS of {}: {PAST_ALIAS}", alias.target))
        }
        (None, _, pop, Some(_)) => {
            let served = zone.served(&owner, asked.rtype);
            let region = pop.as_deref().and_then(|pop| served.region_at(pop));
            explanation.region = region.map(str::to_owned);
            by_region(&served, pop.as_deref(), region)
        }
        (None, Some(policy), Some(pop), None) => isolation::note(&caller, &zone, &policy, pop),
        _ => None,
    };
    if query.at.is_none() {
        explanation.alias = alias.map(|alias| aliases::shown(&caller, &zone, &owner, alias));
    }
    Ok(respond::Ok(explanation))
}

/// Which region's answer a PoP gives in the place of an ALIAS, where that makes a difference.
fn by_region(served: &Served, pop: Option<&str>, region: Option<&str>) -> Option<String> {
    let regions: Vec<&str> = served.regions.keys().map(String::as_str).collect();
    match (pop, region) {
        _ if regions.is_empty() => None,
        (Some(pop), Some(region)) => {
            Some(format!("The PoP {pop} gives the answer of its region, {region}: others have another."))
        }
        (pop, _) => {
            let who = pop.map_or("This".to_owned(), |pop| format!("What the PoP {pop} gives"));
            Some(format!(
                "{who} is served wherever a region has no answer of its own, as {} have.",
                regions.join(", ")
            ))
        }
    }
}

/// What is asked.
struct Asked {
    name: Name,
    rtype: Rtype,
    client: Client,
    pop: Option<String>,
    is_drawn: bool,
}

impl Asked {
    fn read(query: &ExplainQuery) -> Result<Asked, ApiError> {
        let needed = |parameter: &str, value: &Option<String>| {
            value.clone().ok_or_else(|| ApiError::malformed(format!("say `{parameter}`")))
        };
        let wrong = |parameter: &str, text: &str, detail: &dyn std::fmt::Display| {
            ApiError::malformed(format!("the parameter `{parameter}`, `{}`: {detail}", shortened(text)))
        };
        let name = needed("name", &query.name)?;
        let client = needed("client", &query.client)?;
        let source: IpAddr = client.parse().map_err(|e| wrong("client", &client, &e))?;
        let ecs = match &query.ecs {
            Some(text) => Some(text.parse::<Prefix>().map_err(|e| wrong("ecs", text, &e))?),
            None => None,
        };
        let rtype = query.rtype.as_deref().unwrap_or("A");
        Ok(Asked {
            name: Name::parse(&name).map_err(|e| wrong("name", &name, &e))?,
            rtype: parse_record_type(rtype).map_err(|detail| wrong("type", rtype, &detail))?,
            client: Client {
                source: source.to_canonical(),
                ecs,
                pop: query.pop.as_deref().map_or(0, steering::pop_hash),
                draw: query.draw.unwrap_or(0),
            },
            pop: query.pop.clone(),
            is_drawn: query.draw.is_some(),
        })
    }
}

/// The zone that has a name, among those that the caller may see: the nearest private one that the client is inside of, or else the nearest.
fn zone_of(caller: &Caller, asked: &Asked, zone: Option<&str>) -> Result<ZoneRef, ApiError> {
    if let Some(text) = zone {
        return ZoneRef::parse(text).map_err(|e| {
            ApiError::malformed(format!("`{}` is neither a zone's id nor its name: {e}", shortened(text)))
        });
    }
    let (state, access) = (caller.state(), caller.access());
    let above = || std::iter::successors(Some(asked.name.clone()), Name::parent);
    let public = above().find_map(|apex| {
        let served = state.served_zone(&apex).filter(|zone| access.sees(zone));
        let own = || {
            access.tenant.and_then(|tenant| state.tenant_zone(tenant, &apex)).filter(|zone| access.sees(zone))
        };
        served.or_else(own)
    });
    // As the module in knotd does it: DS at an apex is the parent's.
    let is_ds = asked.rtype == Rtype::DS;
    let private = above().skip(usize::from(is_ds)).find_map(|apex| {
        let is_inside =
            |zone: &Zone| !lookup::views_of(zone, asked.client.source, asked.pop.as_deref()).is_empty();
        let mut named = state.zones_named(&apex);
        named.find(|zone| zone.is_private() && access.sees(zone) && is_inside(zone))
    });
    let zone = match (private, public) {
        (Some(private), Some(public)) if delegates(private, &public.name) => public,
        (private, public) => private
            .or(public)
            .ok_or_else(|| Rejection::not_found(format_args!("zone that has {}", asked.name)))?,
    };
    Ok(ZoneRef::Id(caller.zone(&ZoneRef::Id(zone.id), Verb::Read)?.id))
}

/// Whether a private zone leaves another one, beneath it, to itself.
fn delegates(private: &Zone, below: &Name) -> bool {
    let between = std::iter::successors(Some(below.clone()), Name::parent);
    between
        .take_while(|name| name.is_below(&private.name))
        .any(|name| private.content.get(&RrKey::new(name, Rtype::NS)).is_some())
}

/// How the answer comes about, and the policy that decides, if one does.
fn explained(
    zone: &Arc<Zone>,
    asked: &Asked,
    geo: &Geo,
    monitors: &Monitors,
) -> Result<(Explanation, Option<Policy>), ApiError> {
    let mut explanation = Explanation {
        zone: zone.id.to_string(),
        zone_name: zone.name.to_string(),
        revision: zone.revision,
        generation: zone.generation.to_string(),
        name: asked.name.to_string(),
        rtype: format_rtype(asked.rtype),
        geo: present::versions(geo.versions()),
        ..Explanation::default()
    };
    explanation.views = lookup::views_of(zone, asked.client.source, asked.pop.as_deref());
    let found = lookup::find(zone, &asked.name, asked.rtype, &explanation.views);
    let place = |explanation: &mut Explanation, owner: &Name, rtype: Rtype| {
        explanation.owner = Some(owner.to_string());
        explanation.answered_type = Some(format_rtype(rtype));
    };
    match found {
        Found::Overlay { owner, overlays, answer } => {
            explanation.outcome =
                if answer.is_some() { ExplainedOutcome::Overlay } else { ExplainedOutcome::NoData };
            if let Some((rtype, rrset)) = answer {
                place(&mut explanation, &owner, rtype);
                explanation.ttl = Some(rrset.ttl);
                explanation.records = rrset.rdatas.iter().map(|rdata| format_rdata(rtype, rdata)).collect();
            }
            explanation.overlays =
                overlays.iter().map(|overlay| show::overlay(&zone.name, &owner, overlay)).collect();
        }
        Found::Records { owner, rtype, rrset } => {
            explanation.outcome = ExplainedOutcome::Records;
            place(&mut explanation, &owner, rtype);
            explanation.ttl = Some(rrset.ttl);
            explanation.records = rrset.rdatas.iter().map(|rdata| format_rdata(rtype, rdata)).collect();
        }
        Found::Policy { owner, rtype, policy } => {
            explanation.outcome = ExplainedOutcome::Steered;
            place(&mut explanation, &owner, rtype);
            explanation.decision = Some(decision(zone, asked, (geo, monitors), &owner, rtype, &policy)?);
            return Ok((explanation, Some(policy)));
        }
        Found::Delegated(cut) => {
            explanation.outcome = ExplainedOutcome::Delegated;
            place(&mut explanation, &cut, Rtype::NS);
        }
        Found::Redirected(dname) => {
            explanation.outcome = ExplainedOutcome::Redirected;
            place(&mut explanation, &dname, Rtype::DNAME);
        }
        Found::NoData(owner) => {
            explanation.outcome = ExplainedOutcome::NoData;
            explanation.owner = Some(owner.to_string());
        }
        Found::NoSuchName => explanation.outcome = ExplainedOutcome::NoSuchName,
    }
    Ok((explanation, None))
}

fn decision(
    zone: &Zone,
    asked: &Asked,
    (geo, monitors): (&Geo, &Monitors),
    owner: &Name,
    rtype: Rtype,
    policy: &Policy,
) -> Result<herald_wire::api::explain::Decision, ApiError> {
    let settings = zone.settings();
    let (pools, views) = lint::named_by(zone, policy);
    let question = Question {
        apex: &zone.name,
        settings: &settings,
        name: &asked.name,
        rtype,
        owner,
        policy,
        pools: &pools,
        views: &views,
    };
    let down: Vec<(MonitorId, u32)> = pools
        .values()
        .flat_map(|pool| &pool.endpoints)
        .filter_map(|endpoint| down(monitors, endpoint))
        .collect();
    let verdicts = Verdicts::of(&down);
    let known = Knowledge { geo, health: Health { verdicts: &verdicts, local: None } };
    let explanation = decide(&question, &asked.client, asked.is_drawn, &known)
        .map_err(|e| ApiError::new(Code::Invalid, format!("the policy can't be explained: {e}")))?;
    let by_ecs = settings.ecs && asked.client.ecs.is_some_and(|ecs| ecs.length() > 0);
    let ecs = asked.client.ecs.filter(|_| by_ecs);
    let address = ecs.map_or(asked.client.source, |ecs| ecs.address());
    let cause = |monitor: MonitorId| Some(monitors.get(monitor)?.verdict.as_ref()?.cause.clone());
    Ok(present::decision(&explanation, rtype, address, by_ecs, &cause))
}

/// The monitor of an endpoint that is down, and since when, in seconds since the epoch.
fn down(monitors: &Monitors, endpoint: &Endpoint) -> Option<(MonitorId, u32)> {
    let monitor = monitors.get(endpoint.monitor?)?;
    let verdict = monitor.verdict.as_ref().filter(|verdict| monitor.enabled && !verdict.up)?;
    Some((monitor.id, u32::try_from(verdict.since_ms / 1000).unwrap_or(u32::MAX)))
}
