//! Rules of the firewall, and policy zones.

use std::collections::BTreeSet;

use super::Decision;
use crate::change::Change;
use crate::firewall::{
    FLEET_RULES_MAX, FLEET_VALUES_MAX, Owner, POLICY_ZONES_MAX, PolicyZone, Rule, TENANT_RULES_MAX,
    TENANT_VALUES_MAX, is_label, rule_faults,
};
use crate::rejection::{RejectedItem, Rejection, RejectionKind};
use crate::state::State;

pub(super) fn set_rules(
    state: &State,
    owner: Owner,
    if_match: Option<u64>,
    rules: &[Rule],
    zones: Option<&[PolicyZone]>,
) -> Result<Decision, Rejection> {
    check_owner(state, owner, if_match)?;
    let mut names = BTreeSet::new();
    let mut items = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        items.extend(faults(place, rule));
        if !names.insert(&rule.name) {
            let detail = format!("rule {}: name: there are two of this name", rule.name);
            items.push(RejectedItem { edit: Some(place), detail, ..RejectedItem::default() });
        }
    }
    need_none(items)?;
    check_limits(owner, rules.len(), rules.iter().map(|rule| rule.when.values()).sum())?;
    let firewall = state.firewall();
    let gone = firewall.rules(owner).filter(|rule| !names.contains(&rule.name));
    let mut changes: Vec<Change> =
        gone.map(|rule| Change::FirewallRuleDeleted { owner, name: rule.name.clone() }).collect();
    let news = rules.iter().filter(|rule| firewall.rule(owner, &rule.name) != Some(*rule));
    changes.extend(news.map(|rule| Change::FirewallRulePut { owner, rule: rule.clone() }));
    if let Some(zones) = zones {
        let gone = firewall.zones().filter(|old| zones.iter().all(|zone| zone.name != old.name));
        changes.extend(gone.map(|zone| Change::PolicyZoneDeleted { name: zone.name.clone() }));
        let news = zones.iter().filter(|zone| firewall.zone(&zone.name) != Some(*zone));
        changes.extend(news.map(|zone| Change::PolicyZonePut(zone.clone())));
    }
    Ok(Decision { changes, ..Decision::default() })
}

pub(super) fn put_rule(
    state: &State,
    owner: Owner,
    if_match: Option<u64>,
    rule: &Rule,
) -> Result<Decision, Rejection> {
    check_owner(state, owner, if_match)?;
    need_none(faults(0, rule).collect())?;
    let firewall = state.firewall();
    if firewall.rule(owner, &rule.name) == Some(rule) {
        return Ok(Decision::default());
    }
    let others = || firewall.rules(owner).filter(|other| other.name != rule.name);
    check_limits(
        owner,
        others().count() + 1,
        others().map(|other| other.when.values()).sum::<usize>() + rule.when.values(),
    )?;
    Ok(one(Change::FirewallRulePut { owner, rule: rule.clone() }))
}

pub(super) fn delete_rule(
    state: &State,
    owner: Owner,
    if_match: Option<u64>,
    name: &str,
) -> Result<Decision, Rejection> {
    check_owner(state, owner, if_match)?;
    match state.firewall().rule(owner, name) {
        Some(_) => Ok(one(Change::FirewallRuleDeleted { owner, name: name.to_owned() })),
        None => Err(Rejection::not_found(format!("rule `{}`", name.escape_debug()))),
    }
}

pub(super) fn put_zone(
    state: &State,
    if_match: Option<u64>,
    zone: &PolicyZone,
) -> Result<Decision, Rejection> {
    check_owner(state, Owner::Fleet, if_match)?;
    if !is_label(&zone.name) {
        return Err(Rejection::invalid(format!(
            "`{}` is no name of a policy zone: it has 1 to 63 of a-z, 0-9 and hyphens, and neither begins nor ends with a \
             hyphen",
            zone.name.escape_debug()
        )));
    }
    let firewall = state.firewall();
    if firewall.zone(&zone.name) == Some(zone) {
        return Ok(Decision::default());
    }
    if firewall.zone(&zone.name).is_none() && firewall.zones().count() >= POLICY_ZONES_MAX {
        return Err(Rejection::new(
            RejectionKind::Quota,
            format!("there are {POLICY_ZONES_MAX} policy zones, and more aren't possible: delete one first"),
        ));
    }
    Ok(one(Change::PolicyZonePut(zone.clone())))
}

pub(super) fn delete_zone(state: &State, if_match: Option<u64>, name: &str) -> Result<Decision, Rejection> {
    check_owner(state, Owner::Fleet, if_match)?;
    match state.firewall().zone(name) {
        Some(_) => Ok(one(Change::PolicyZoneDeleted { name: name.to_owned() })),
        None => Err(Rejection::not_found(format!("policy zone `{}`", name.escape_debug()))),
    }
}

fn one(change: Change) -> Decision {
    Decision { changes: vec![change], ..Decision::default() }
}

fn check_owner(state: &State, owner: Owner, if_match: Option<u64>) -> Result<(), Rejection> {
    if let Owner::Tenant(id) = owner
        && state.tenant(id).is_none()
    {
        return Err(Rejection::not_found("tenant"));
    }
    let revision = state.firewall().revision(owner);
    if if_match.is_some_and(|wanted| wanted != revision) {
        return Err(Rejection::new(
            RejectionKind::Precondition,
            format!("the firewall has changed since: its ETag is \"{revision}\" now"),
        ));
    }
    Ok(())
}

fn faults(place: usize, rule: &Rule) -> impl Iterator<Item = RejectedItem> {
    rule_faults(rule).into_iter().map(move |fault| {
        let detail = format!("rule {}: {fault}", rule.name.escape_debug());
        RejectedItem { edit: Some(place), detail, ..RejectedItem::default() }
    })
}

fn need_none(items: Vec<RejectedItem>) -> Result<(), Rejection> {
    match items.first() {
        None => Ok(()),
        Some(first) => Err(Rejection::invalid(first.detail.clone()).with_items(items)),
    }
}

fn check_limits(owner: Owner, rules: usize, values: usize) -> Result<(), Rejection> {
    let (rules_max, values_max) = match owner {
        Owner::Fleet => (FLEET_RULES_MAX, FLEET_VALUES_MAX),
        Owner::Tenant(_) => (TENANT_RULES_MAX, TENANT_VALUES_MAX),
    };
    let over = |what: &str, found: usize, max: usize| {
        Err(Rejection::new(
            RejectionKind::Quota,
            format!("there would be {found} {what}: {max} are the limit"),
        ))
    };
    if rules > rules_max {
        return over("rules", rules, rules_max);
    }
    if values > values_max {
        return over("values in the lists of all rules", values, values_max);
    }
    Ok(())
}
