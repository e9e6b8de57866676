//! `GET /zones/{zone}/check`

use std::collections::BTreeSet;

use herald_core::account::Verb;
use herald_core::command::ZoneRef;
use herald_core::rdata::rdata_names;
use herald_core::zone::Zone;
use herald_core::{Name, RrKey, Rtype};
use herald_wire::api::{DelegationState, Problem, ZoneCheck};

use crate::delegation::{LookupError, ParentView};
use crate::edge::gate::Reading;
use crate::edge::problem::ApiError;
use crate::edge::respond;

/// How the delegation stands in the parent, and what to do about it.
#[utoipa::path(get, path = "/zones/{zone}/check", tag = "zones", operation_id = "check_zone",
    params(("zone" = String, Path, description = "Id or unambiguous name.")),
    responses(
        (status = 200, body = ZoneCheck),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn check(request: Reading<ZoneRef>) -> Result<respond::Ok<ZoneCheck>, ApiError> {
    let Reading { caller, path, .. } = request;
    let zone = caller.zone(&path, Verb::Read)?.arc();
    let view = caller.resolver().parent_view(&zone.name).await;
    Ok(respond::Ok(judge(&zone, view)))
}

/// Compares the parent's delegation with the apex NS.
fn judge(zone: &Zone, view: Result<ParentView, LookupError>) -> ZoneCheck {
    let ours: BTreeSet<Name> = zone
        .content
        .get(&RrKey::new(zone.name.clone(), Rtype::NS))
        .iter()
        .flat_map(|ns| &ns.rdatas)
        .flat_map(|rdata| rdata_names(Rtype::NS, rdata))
        .collect();
    let mut check = ZoneCheck {
        delegation: DelegationState::Unknown,
        parent: None,
        parent_nameservers: Vec::new(),
        nameservers: texts(&ours),
        missing_in_parent: Vec::new(),
        extra_in_parent: Vec::new(),
        ds_in_parent: false,
        findings: Vec::new(),
    };
    if !zone.is_served() {
        check.findings.push("The zone is pending and not served: prove the right to its name first.".into());
    }
    match view {
        Ok(view) => compare(zone, &ours, &view, &mut check),
        Err(e) => check.findings.push(format!("The parent could not be asked: {e}.")),
    }
    check
}

fn compare(zone: &Zone, ours: &BTreeSet<Name>, view: &ParentView, check: &mut ZoneCheck) {
    let theirs: BTreeSet<Name> = view.nameservers.iter().cloned().collect();
    let missing: BTreeSet<Name> = ours.difference(&theirs).cloned().collect();
    let extra: BTreeSet<Name> = theirs.difference(ours).cloned().collect();
    let (name, parent) = (&zone.name, &view.parent);
    check.delegation = if theirs.is_empty() {
        DelegationState::NotDelegated
    } else if missing.is_empty() && extra.is_empty() {
        DelegationState::Delegated
    } else if extra.len() == theirs.len() {
        DelegationState::Elsewhere
    } else {
        DelegationState::Partial
    };
    check.parent = Some(parent.to_string());
    check.parent_nameservers = texts(&theirs);
    check.missing_in_parent = texts(&missing);
    check.extra_in_parent = texts(&extra);
    check.ds_in_parent = view.has_ds;
    let where_to = format!("At the registrar, or in the zone {parent},");
    let findings = &mut check.findings;
    match check.delegation {
        DelegationState::Delegated => {
            findings.push(format!("{parent} delegates {name} to the right name servers."));
        }
        DelegationState::NotDelegated => findings.push(format!(
            "{parent} does not delegate {name}. {where_to} set its name servers to {}.",
            joined(ours)
        )),
        DelegationState::Elsewhere => findings.push(format!(
            "{parent} delegates {name} to others: {}. {where_to} replace them by {}.",
            joined(&theirs),
            joined(ours)
        )),
        DelegationState::Partial | DelegationState::Unknown => {
            if !missing.is_empty() {
                findings.push(format!("{where_to} add the name servers {}.", joined(&missing)));
            }
            if !extra.is_empty() {
                findings.push(format!(
                    "{where_to} remove the name servers {}: they are not of this zone.",
                    joined(&extra)
                ));
            }
        }
    }
    let without_glue: BTreeSet<Name> = theirs
        .iter()
        .filter(|server| server.is_at_or_below(name) && !view.glue.contains(*server))
        .cloned()
        .collect();
    if !without_glue.is_empty() {
        findings.push(format!(
            "{where_to} give the addresses (glue) of {}: they lie within {name} and can't be found without.",
            joined(&without_glue)
        ));
    }
    if view.has_ds {
        findings.push(format!(
            "{parent} has DS records for {name}, and the zone is not signed here: validating resolvers refuse its \
             answers. {where_to} remove the DS records."
        ));
    }
}

fn texts(names: &BTreeSet<Name>) -> Vec<String> {
    names.iter().map(Name::to_string).collect()
}

fn joined(names: &BTreeSet<Name>) -> String {
    texts(names).join(", ")
}
