//! Rules of records: a batch is done in order and judged by where it leads, whole or not at all.

use std::collections::BTreeSet;

use super::quotas::{Growth, need_room_for_content, zone_excess};
use super::zones::{bulk_of, find, need_revision, next_zone_serial};
use super::{Decision, Subject, monitors, private};
use crate::authorise::Authorised;
use crate::change::Change;
use crate::check::{Finding, check};
use crate::command::{EditOp, Prepared, RrsetEdit, ZoneEdit, ZoneRef};
use crate::content::Content;
use crate::rejection::{RejectedItem, Rejection, RejectionKind};
use crate::state::State;
use crate::steering::holder;
use crate::zone::Zone;
use crate::{Name, Rdatas, Rrset, Rtype, ZoneId};

pub(super) fn edit(state: &State, command: &Authorised, zones: &[ZoneEdit]) -> Result<Decision, Rejection> {
    let mut decision = Decision::default();
    let mut seen: BTreeSet<ZoneId> = BTreeSet::new();
    let mut errors = Vec::new();
    let (mut over, mut growth) = (Vec::new(), Growth::default());
    for (place, edit) in zones.iter().enumerate() {
        let zone = find(state, command, &edit.zone)?;
        need_revision(zone, edit.if_match).map_err(|stale| {
            let detail = stale.detail.clone();
            stale.with_items(vec![RejectedItem { zone: Some(place), detail, ..RejectedItem::default() }])
        })?;
        if !seen.insert(zone.id) {
            let detail = format!("the zone {} is named twice: put its changes together", zone.name);
            errors.push(RejectedItem { zone: Some(place), detail, ..RejectedItem::default() });
            continue;
        }
        match edit_zone(zone, edit) {
            Ok((content, warnings)) => {
                let difference = zone.content.diff(&content);
                decision.warnings.extend(warnings);
                if zone.is_private() {
                    let views = difference.puts.iter().map(|(key, rrset)| (key, rrset));
                    let items = private::foreign_sources(state, zone, views);
                    errors.extend(items.into_iter().map(|item| placed(place, edit, item)));
                }
                let puts = difference.puts.iter().map(|(key, rrset)| (key, rrset));
                let items = monitors::foreign(state, zone, puts, false);
                errors.extend(items.into_iter().map(|item| placed(place, edit, item)));
                if let Some(tenant) = state.tenant(zone.tenant) {
                    let puts = difference.puts.iter().map(|(key, rrset)| (key, rrset));
                    let items = zone_excess(tenant, &zone.content, &content, puts);
                    over.extend(items.into_iter().map(|item| placed(place, edit, item)));
                }
                growth.add(zone.tenant, Some(&zone.content), Some(&content));
                if !difference.is_empty() {
                    let serial = next_zone_serial(state, zone, None, command.context().time_ms);
                    decision.changes.push(Change::ZoneEdited { zone: zone.id, serial, difference });
                }
            }
            Err(EditError::Precondition(item)) => {
                let rejection = Rejection::new(RejectionKind::Precondition, item.detail.clone());
                return Err(rejection.with_items(vec![RejectedItem { zone: Some(place), ..item }]));
            }
            Err(EditError::Items(items)) => {
                errors.extend(items.into_iter().map(|item| RejectedItem { zone: Some(place), ..item }));
            }
        }
    }
    if let [only] = zones {
        decision.subject = Some(Subject::Zone(find(state, command, &only.zone)?.id));
    }
    if let Some(first) = errors.first() {
        return Err(Rejection::invalid(first.detail.clone()).with_items(errors));
    }
    if let Some(first) = over.first() {
        return Err(Rejection::new(RejectionKind::Quota, first.detail.clone()).with_items(over));
    }
    growth.need_room(state)?;
    Ok(decision)
}

/// What is over a limit of a zone, as an item of the edit that brings it there.
fn placed(zone: usize, edit: &ZoneEdit, item: RejectedItem) -> RejectedItem {
    let same = |e: &RrsetEdit| Some(&e.key.owner) == item.owner.as_ref() && Some(e.key.rtype) == item.rtype;
    RejectedItem { zone: Some(zone), edit: edit.edits.iter().rposition(same), ..item }
}

pub(super) fn replace(
    state: &State,
    command: &Authorised,
    zone: &ZoneRef,
    base: u64,
    prepared: &Prepared,
) -> Result<Decision, Rejection> {
    let zone = find(state, command, zone)?;
    if zone.revision != base {
        return Err(Rejection::new(
            RejectionKind::Stale,
            format!("the zone {} changed while the import was prepared: try again", zone.name),
        ));
    }
    let content = bulk_of(prepared, &zone.name)?;
    let warnings = prepared.content.warnings().to_vec();
    if let Some(tenant) = state.tenant(zone.tenant) {
        need_room_for_content(state, tenant, Some(&zone.content), &prepared.content)?;
    }
    if zone.is_private() {
        let views = private::views(&zone.name, &content.content);
        let items = private::foreign_sources(state, zone, views.iter().map(|(key, rrset)| (key, rrset)));
        if let Some(first) = items.first() {
            return Err(Rejection::invalid(first.detail.clone()).with_items(items));
        }
    }
    if content.content.steering().is_some()
        && let Ok(holder) = holder(&zone.name)
    {
        let items = monitors::foreign(state, zone, content.content.below(&holder), true);
        if let Some(first) = items.first() {
            return Err(Rejection::invalid(first.detail.clone()).with_items(items));
        }
    }
    let mut decision = Decision { subject: Some(Subject::Zone(zone.id)), warnings, ..Decision::default() };
    // What is not staged is little, or differs little from what there is.
    if content.staged.is_none() {
        let difference = zone.content.diff(&content.content);
        if !difference.is_empty() {
            let serial = next_zone_serial(state, zone, prepared.serial_floor, command.context().time_ms);
            decision.changes.push(Change::ZoneEdited { zone: zone.id, serial, difference });
        }
    } else if content.content != zone.content {
        let serial = next_zone_serial(state, zone, prepared.serial_floor, command.context().time_ms);
        decision.changes.push(Change::ZoneReplaced { zone: zone.id, serial, content });
    }
    Ok(decision)
}

enum EditError {
    /// This RRset is not what the request took it for.
    Precondition(RejectedItem),
    Items(Vec<RejectedItem>),
}

/// The content that the edits lead to.
fn edit_zone(zone: &Zone, edit: &ZoneEdit) -> Result<(Content, Vec<Finding>), EditError> {
    let mut content = zone.content.clone();
    let mut items = Vec::new();
    for (place, edit) in edit.edits.iter().enumerate() {
        if let Some(wanted) = edit.if_match
            && !wanted.is_met_by(zone.get(&edit.key).map(|rrset| rrset.digest(&edit.key)))
        {
            let RrsetEdit { key, .. } = edit;
            let detail =
                format!("{key} is not what the request takes it for: it was changed, made or deleted since");
            return Err(EditError::Precondition(item(Some(place), detail, &key.owner, Some(key.rtype))));
        }
        if let Err(detail) = edit_rrset(&mut content, &zone.name, edit) {
            items.push(item(Some(place), detail, &edit.key.owner, Some(edit.key.rtype)));
        }
    }
    if items.is_empty() {
        let findings = check(&zone.name, &content, edit.edits.iter().map(|edit| &edit.key.owner));
        if findings.errors.is_empty() {
            return Ok((content, findings.warnings));
        }
        items = findings.errors.into_iter().map(|finding| blame(edit, finding)).collect();
    }
    Err(EditError::Items(items))
}

fn edit_rrset(content: &mut Content, zone: &Name, edit: &RrsetEdit) -> Result<(), String> {
    let key = &edit.key;
    if key.rtype == Rtype::SOA && key.owner == *zone {
        return Err("the SOA is made by the system; set it through the set of name servers".into());
    }
    let old = content.get(key);
    let no_such = || format!("there is no RRset {key}");
    match &edit.op {
        EditOp::Put { ttl, rdatas } => {
            if rdatas.is_empty() {
                return Err(
                    "an RRset has at least one record; use the operation `delete` to remove it".into()
                );
            }
            content.put(key.clone(), Rrset { ttl: *ttl, rdatas: rdatas.clone() });
        }
        EditOp::Add { ttl, rdatas } => {
            let ttl = ttl.or(old.map(|old| old.ttl)).ok_or("a new RRset needs a TTL")?;
            let rdatas: Rdatas = match old {
                Some(old) => old.rdatas.iter().chain(rdatas).collect(),
                None => rdatas.clone(),
            };
            content.put(key.clone(), Rrset { ttl, rdatas });
        }
        EditOp::Remove { rdatas } => {
            let old = old.ok_or_else(no_such)?;
            if let Some(missing) = rdatas.iter().find(|rdata| !old.rdatas.contains(rdata)) {
                let missing = crate::rdata::format_rdata(key.rtype, missing);
                return Err(format!("{key} has no record {missing}"));
            }
            let left: Rdatas = old.rdatas.iter().filter(|rdata| !rdatas.contains(rdata)).collect();
            let ttl = old.ttl;
            content.put(key.clone(), Rrset { ttl, rdatas: left });
        }
        EditOp::Delete => {
            old.ok_or_else(no_such)?;
            content.delete(key);
        }
    }
    Ok(())
}

/// Finds the edit that a finding comes from: the last one of the same owner and type, or else of the same owner,
/// or else of a name above or below.
fn blame(edit: &ZoneEdit, finding: Finding) -> RejectedItem {
    let last = |matches: &dyn Fn(&RrsetEdit) -> bool| edit.edits.iter().rposition(matches);
    let place = last(&|e| e.key.owner == finding.owner && Some(e.key.rtype) == finding.rtype)
        .or_else(|| last(&|e| e.key.owner == finding.owner));
    item(place, finding.detail, &finding.owner, finding.rtype)
}

fn item(edit: Option<usize>, detail: String, owner: &Name, rtype: Option<Rtype>) -> RejectedItem {
    RejectedItem { zone: None, edit, detail, owner: Some(owner.clone()), rtype, field: None }
}
