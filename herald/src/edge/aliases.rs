//! `GET /zones/{zone}/aliases`: what ALIAS records resolve to, and from where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herald_core::alias::served::Served;
use herald_core::alias::watch::{Found, View, addresses};
use herald_core::alias::{ADDRESS_TYPES, ALIAS, Alias, circle};
use herald_core::command::ZoneRef;
use herald_core::rdata::{format_rdata, format_rtype};
use herald_core::special::AddressRules;
use herald_core::state::State;
use herald_core::zone::Zone;
use herald_core::{Name, PopId, RrKey, Rrset, Rtype};
use herald_wire::api::aliases as api;
use herald_wire::api::{Page, Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{AppState, Caller, Reading};
use super::names::parse_owner;
use super::pages;
use super::problem::ApiError;
use super::{at, respond};
use crate::clock;
use crate::publisher::Publisher;

/// The routes of ALIAS records.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which ALIAS records, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AliasesQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    limit: Option<usize>,
    /// The one at this name: fully qualified, relative to the zone, or `@`.
    name: Option<String>,
}

/// ALIAS records with what is served in their place, and what each PoP found: those within the token's scope.
///
/// The records themselves are RRsets of the type ALIAS, and are changed like any others.
#[utoipa::path(get, path = "/zones/{zone}/aliases", tag = "rrsets", operation_id = "list_aliases",
    params(("zone" = String, Path, description = "Id or unambiguous name."), AliasesQuery),
    responses(
        (status = 200, body = Page<api::Alias>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    request: Reading<ZoneRef, AliasesQuery>,
) -> Result<respond::Ok<Page<api::Alias>>, ApiError> {
    let Reading { caller, path, query, .. } = request;
    let zone = at::zone(&caller, &path, None).await?;
    let limit = pages::limit(query.limit)?;
    let after = pages::read_cursor(query.cursor.as_deref(), |octets| Name::from_wire(octets).ok())?;
    let name = match &query.name {
        Some(text) => {
            let name = parse_owner(text, &zone.name);
            Some(name.map_err(|e| ApiError::malformed(format!("the parameter `name`: {e}")))?)
        }
        None => None,
    };
    let scope = &caller.access().scope;
    let from = match &after {
        Some(after) => std::ops::Bound::Excluded(after),
        None => std::ops::Bound::Unbounded,
    };
    let aliases = zone.content.aliases().range::<_, Name>((from, std::ops::Bound::Unbounded));
    let wanted = |(owner, alias): &(&Name, &Alias)| {
        let key = RrKey::new((*owner).clone(), ALIAS);
        let is_wanted = name.as_ref().is_none_or(|name| name == *owner) && scope.allows_rrset(&key);
        is_wanted.then(|| shown(&caller, &zone, owner, alias))
    };
    Ok(respond::Ok(pages::page(aliases, limit, |(owner, _)| owner.as_wire().to_vec(), wanted)))
}

/// An ALIAS of a zone as it is now.
pub fn shown(caller: &Caller, zone: &Zone, owner: &Name, alias: &Alias) -> api::Alias {
    let (state, publisher): (&State, &Publisher) = (caller.state(), caller.publisher());
    let rules = state.monitors().addresses();
    let view = publisher.aliases().view(&alias.target);
    let by_type = ADDRESS_TYPES.map(|rtype| (rtype, zone.served(owner, rtype)));
    let everywhere = |(rtype, served): &(Rtype, Served)| Some(answer(*rtype, served.everywhere.as_ref()?));
    let served: Vec<api::AliasAnswer> = by_type.iter().filter_map(everywhere).collect();
    let pops: Vec<api::AliasPop> = view.pops.iter().map(|one| pop(state, rules, one)).collect();
    let fleet: BTreeSet<PopId> = view.pops.iter().take(view.fleet).map(|(pop, ..)| *pop).collect();
    let regions = match zone.settings().alias_by_region {
        true => regions(state, &view, &by_type),
        false => Vec::new(),
    };
    let is_open = |rtype: &Rtype| !is_answered(&view, &fleet, *rtype, rules);
    let is_kept =
        |rtype: &Rtype| by_type.iter().any(|(of, served)| of == rtype && served.everywhere.is_some());
    let open: Vec<Rtype> = ADDRESS_TYPES.into_iter().filter(is_open).collect();
    let (state, cause) = match circle(state, zone.id, owner) {
        _ if !zone.is_served() => (api::AliasState::NotServed, None),
        Some(way) => {
            let names: Vec<String> = way.iter().map(Name::to_string).collect();
            (api::AliasState::Circle, Some(format!("it leads in a circle: {}", names.join(" → "))))
        }
        None if open.is_empty() => (api::AliasState::Resolved, None),
        None => {
            let state = match (open.iter().any(is_kept), served.is_empty()) {
                (true, _) => api::AliasState::LastGood,
                (false, true) => api::AliasState::Unresolved,
                // There are addresses of the other type.
                (false, false) => api::AliasState::Resolved,
            };
            (state, Some(why_open(&pops[..view.fleet.min(pops.len())], &open)))
        }
    };
    api::Alias {
        name: owner.to_string(),
        target: alias.target.to_string(),
        ttl: alias.ttl,
        state,
        cause,
        served,
        differs_by_place: view.differs(),
        pops,
        regions,
    }
}

/// What is served in each region.
fn regions(state: &State, view: &View, by_type: &[(Rtype, Served)]) -> Vec<api::AliasRegion> {
    let mut members = BTreeMap::<&str, Vec<String>>::new();
    for pop in state.pops() {
        let region = pop.region.as_deref();
        region.into_iter().for_each(|region| members.entry(region).or_default().push(pop.name.clone()));
    }
    let rules = state.monitors().addresses();
    let of_region = |(region, mut pops): (&str, Vec<String>)| {
        pops.sort();
        let by = view.regions.get(region).map(Vec::as_slice).unwrap_or_default();
        let chosen: BTreeSet<PopId> = by.iter().copied().collect();
        let own = by_type.iter().filter(|(_, served)| served.regions.contains_key(region));
        let own: Vec<Rtype> = own.map(|(rtype, _)| *rtype).collect();
        let is_kept = own.iter().any(|rtype| !is_answered(view, &chosen, *rtype, rules));
        let served = by_type.iter().filter_map(|(rtype, served)| {
            let rrset = served.regions.get(region).map_or(&served.everywhere, |regional| &regional.rrset);
            Some(answer(*rtype, rrset.as_ref()?))
        });
        api::AliasRegion {
            region: region.to_owned(),
            state: match (own.is_empty(), is_kept) {
                (true, _) => api::AliasRegionState::Everywhere,
                (false, false) => api::AliasRegionState::Own,
                (false, true) => api::AliasRegionState::LastGood,
            },
            served: served.collect(),
            pops,
            resolved_by: by.iter().map(|pop| pop_name(state, *pop)).collect(),
        }
    };
    members.into_iter().map(of_region).collect()
}

/// Whether what these PoPs found of a type is an answer that is served.
fn is_answered(view: &View, chosen: &BTreeSet<PopId>, rtype: Rtype, rules: &AddressRules) -> bool {
    let of_chosen = || view.pops.iter().filter(|(pop, ..)| chosen.contains(pop));
    let found = || of_chosen().filter_map(|(.., sight)| Some(sight.as_ref()?.of(rtype)));
    let is_fine = |found: &Found| match found {
        Found::Addresses(rrset) => addresses(rrset).all(|address| rules.refused(address).is_none()),
        _ => false,
    };
    let without = found().filter(|found| matches!(found, Found::Nothing { .. })).count();
    found().any(is_fine) || without * 2 > chosen.len()
}

fn why_open(pops: &[api::AliasPop], open: &[Rtype]) -> String {
    let open: Vec<String> = open.iter().map(|rtype| format_rtype(*rtype)).collect();
    if pops.is_empty() {
        return "no PoP that is connected has a resolver for it (`alias_resolvers`)".into();
    }
    let causes = pops.iter().flat_map(|pop| {
        let causes = pop.causes.iter().filter(|cause| open.contains(&cause.rtype));
        causes.map(move |cause| format!("{}, {}: {}", pop.pop, cause.rtype, cause.cause))
    });
    match causes.collect::<Vec<_>>().join("; ") {
        none if none.is_empty() => "no PoP has said anything of it yet".into(),
        causes => causes,
    }
}

fn pop(
    state: &State,
    rules: &AddressRules,
    (pop, connected, sight): &(PopId, bool, Option<herald_core::alias::watch::Sight>),
) -> api::AliasPop {
    let (mut answers, mut causes) = (Vec::new(), Vec::new());
    for rtype in ADDRESS_TYPES.into_iter().filter(|_| sight.is_some()) {
        let cause = match sight.as_ref().map(|sight| sight.of(rtype)) {
            Some(Found::Addresses(rrset)) => {
                answers.push(answer(rtype, rrset));
                addresses(rrset).find_map(|address| {
                    let what = rules.refused(address)?;
                    Some(format!("{address} isn't served: it is {what}; ask an operator to allow it"))
                })
            }
            Some(Found::Nothing { cause } | Found::Failed { cause }) => Some(cause.clone()),
            None => None,
        };
        causes.extend(cause.map(|cause| api::AliasCause { rtype: format_rtype(rtype), cause }));
    }
    api::AliasPop {
        pop: pop_name(state, *pop),
        region: state.pop(*pop).and_then(|pop| pop.region.clone()),
        connected: *connected,
        since_ms: sight.as_ref().map(|sight| clock::uptime_ms(Duration::from_millis(sight.since_ms))),
        answers,
        causes,
    }
}

fn pop_name(state: &State, pop: PopId) -> String {
    state.pop(pop).map_or_else(|| pop.to_string(), |pop| pop.name.clone())
}

fn answer(rtype: Rtype, rrset: &Rrset) -> api::AliasAnswer {
    api::AliasAnswer {
        rtype: format_rtype(rtype),
        ttl: rrset.ttl,
        records: rrset.rdatas.iter().map(|rdata| format_rdata(rtype, rdata)).collect(),
    }
}
