//! What is odd about policies: warnings of whoever changes them, and a list for whoever asks.

use std::collections::{BTreeMap, BTreeSet};

use ::steering::lint::{Problem as Odd, Surroundings, lint};
use herald_core::command::ZoneRef;
use herald_core::rdata::format_rtype;
use herald_core::state::State;
use herald_core::state::monitors::Monitors;
use herald_core::steering::{self, Item, Policy, Pool, View};
use herald_core::zone::Zone;
use herald_core::{MonitorId, RrKey, Rrset};
use herald_wire::api::{Page, Problem, Warning};
use memchr::memmem::Finder;

use super::list::{SteeringListQuery, page_of_many};
use super::{read_item, show};
use crate::edge::gate::Reading;
use crate::edge::problem::ApiError;
use crate::edge::{at, respond};

/// So many policies are looked at for the warnings of a change, and so many RRsets to find them.
const POLICIES_MAX: usize = 200;
const SCAN_MAX: usize = 10_000;

/// So many warnings of a change are told.
const WARNINGS_MAX: usize = 100;

/// What is odd about the policies of a zone: each finding with its code. Those within the token's scope.
///
/// A page may have fewer items than asked for, or none, and still a `next_cursor`.
#[utoipa::path(get, path = "/zones/{zone}/steering/lint", tag = "steering", operation_id = "lint_steering",
    params(("zone" = String, Path, description = "Id or unambiguous name."), SteeringListQuery),
    responses(
        (status = 200, body = Page<Warning>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    request: Reading<ZoneRef, SteeringListQuery>,
) -> Result<respond::Ok<Page<Warning>>, ApiError> {
    let Reading { caller, path, query, .. } = &request;
    let zone = at::zone(caller, path, query.at.as_deref()).await?;
    let (scope, state) = (&caller.access().scope, caller.state());
    let pops = pop_names(state);
    let each = |key: &RrKey, rrset: &Rrset| {
        let found = if key.rtype == steering::SETTINGS && scope.allows_rrset(key) {
            of_settings(state, &zone).into_iter().collect()
        } else if super::read::is_policy(key.rtype) && scope.allows_rrset(key) {
            of_policy(&zone, key, rrset, (&pops, state.monitors()))
        } else {
            Vec::new()
        };
        (0..).zip(found).collect()
    };
    Ok(respond::Ok(page_of_many(&zone, query, each)?))
}

/// What is odd about the policies that a change of these RRsets is about: those that it puts, and those that lead to what it puts.
pub fn of_change(state: &State, zone: &Zone, touched: &[RrKey]) -> Vec<Warning> {
    if zone.content.steering().is_none() {
        return Vec::new();
    }
    let mut policies: BTreeSet<&RrKey> =
        touched.iter().filter(|key| super::read::is_policy(key.rtype)).take(POLICIES_MAX).collect();
    let named: BTreeSet<String> = touched
        .iter()
        .filter(|key| matches!(key.rtype, steering::POOL | steering::VIEW))
        .filter_map(|key| steering::held_name(&key.owner))
        .collect();
    if !named.is_empty() {
        let scanned = zone.content.iter().take(SCAN_MAX);
        // A name stands in RDATA as it is: what doesn't have it needn't be read, which takes far longer.
        let finders: Vec<Finder<'_>> = named.iter().map(|name| Finder::new(name.as_bytes())).collect();
        let is_candidate = |rrset: &Rrset| {
            rrset.rdatas.iter().any(|rdata| finders.iter().any(|finder| finder.find(rdata).is_some()))
        };
        let candidates =
            scanned.filter(|(key, rrset)| super::read::is_policy(key.rtype) && is_candidate(rrset));
        let users = candidates.filter(|(key, rrset)| match policy_of(key, rrset) {
            Some(policy) => policy
                .rules
                .iter()
                .any(|rule| rule.pools.iter().chain(&rule.when.views).any(|name| named.contains(name))),
            None => false,
        });
        policies.extend(users.map(|(key, _)| key).take(POLICIES_MAX));
    }
    let settings = touched.iter().find(|key| key.rtype == steering::SETTINGS);
    let settings = settings.and_then(|_| of_settings(state, zone));
    let pops = pop_names(state);
    let found = policies.into_iter().filter_map(|key| Some((key, zone.content.get(key)?)));
    let found = found.flat_map(|(key, rrset)| of_policy(zone, key, rrset, (&pops, state.monitors())));
    settings.into_iter().chain(found).take(WARNINGS_MAX).collect()
}

/// What is odd about the settings of a zone.
fn of_settings(state: &State, zone: &Zone) -> Option<Warning> {
    let is_odd = zone.settings().alias_by_region && state.pops().all(|pop| pop.region.is_none());
    is_odd.then(|| Warning {
        code: "no_region".into(),
        name: Some(zone.name.to_string()),
        detail: "ALIAS records are to be answered by region, and no PoP is in one: until an operator says where PoPs are, all of them \
                 give the same answer"
            .into(),
    })
}

fn pop_names(state: &State) -> BTreeSet<String> {
    state.pops().map(|pop| pop.name.clone()).collect()
}

fn policy_of(key: &RrKey, rrset: &Rrset) -> Option<Policy> {
    if !super::read::is_policy(key.rtype) {
        return None;
    }
    match read_item(key, rrset)? {
        Item::Policy(_, policy) => Some(policy),
        _ => None,
    }
}

fn of_policy(
    zone: &Zone,
    key: &RrKey,
    rrset: &Rrset,
    (pops, monitors): (&BTreeSet<String>, &Monitors),
) -> Vec<Warning> {
    let (Some(policy), Some(answered)) = (policy_of(key, rrset), steering::answered_type(key.rtype)) else {
        return Vec::new();
    };
    let (pools, views) = named_by(zone, &policy);
    let named = pools.values().flat_map(|pool| &pool.endpoints).filter_map(|endpoint| endpoint.monitor);
    let there: BTreeSet<MonitorId> = named.filter(|monitor| monitors.get(*monitor).is_some()).collect();
    let around = Surroundings { pools: &pools, views: &views, pops: Some(pops), monitors: Some(&there) };
    let owner = show::relative(&zone.name, &key.owner);
    lint(&policy, answered, &around)
        .into_iter()
        .map(|odd| Warning {
            code: code(&odd.problem).into(),
            name: Some(key.owner.to_string()),
            detail: format!("policy {owner} {}: {odd}", format_rtype(answered)),
        })
        .collect()
}

/// The pools and views that a policy names, as far as they are there.
pub fn named_by(zone: &Zone, policy: &Policy) -> (BTreeMap<String, Pool>, BTreeMap<String, View>) {
    let item = |key: Result<RrKey, _>| {
        let key = key.ok()?;
        read_item(&key, zone.content.get(&key)?)
    };
    let names = policy.rules.iter().flat_map(|rule| &rule.pools);
    let pools = names.filter_map(|name| match item(steering::pool_key(&zone.name, name))? {
        Item::Pool(pool) => Some((name.clone(), pool)),
        _ => None,
    });
    let names = policy.rules.iter().flat_map(|rule| &rule.when.views);
    let views = names.filter_map(|name| match item(steering::view_key(&zone.name, name))? {
        Item::View(view) => Some((name.clone(), view)),
        _ => None,
    });
    (pools.collect(), views.collect())
}

/// A stable word for programs.
fn code(problem: &Odd) -> &'static str {
    match problem {
        Odd::Shadowed(_) => "rule_shadowed",
        Odd::Contradiction(_) => "rule_contradicts_itself",
        Odd::UnknownView(_) => "no_view",
        Odd::UnknownPop(_) => "no_pop",
        Odd::UnknownPool(_) => "no_pool",
        Odd::PoolCannotAnswer(..) => "pool_cannot_answer",
        Odd::NoCoordinates(_) => "no_location",
        Odd::NoMonitor { .. } => "no_monitor",
        Odd::NothingToProbe => "nothing_to_probe",
        Odd::SlowFailover(..) => "slow_failover",
        Odd::NoAnswer => "rule_without_answer",
        Odd::Duplicate(_) => "given_twice",
        Odd::FallsThrough(_) => "clients_fall_through",
    }
}
