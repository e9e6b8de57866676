//! Rules of zones: who may bear which name, and when a zone is served.

use std::collections::{BTreeMap, BTreeSet};

use super::accounts::{move_zone, ns_rrset};
use super::quotas::{need_room, need_room_for_content};
use super::{Decision, Subject, derived, new_id, nth, private};
use crate::alias::served;
use crate::alias::watch::Resolved;
use crate::authorise::{Access, Authorised, is_public_suffix};
use crate::change::{Bulk, Change, Evidence};
use crate::command::{Context, Insiders, Prepared, ZONES_PER_BATCH_MAX, ZoneDraft, ZoneRef};
use crate::content::{Content, Difference};
use crate::limits::Limit;
use crate::rejection::{RejectedItem, Rejection, RejectionKind};
use crate::state::{At, Shared, State};
use crate::zone::{Zone, ZoneStatus, newest_serial, next_serial_above};
use crate::{Generation, Name, NsSetId, RrKey, Rtype, TenantId, ZoneId};

/// Longest key and value of a label, in bytes.
const LABEL_BYTES_MAX: usize = 256;

/// What a new zone is to be.
pub(super) struct NewZone<'a> {
    pub name: &'a Name,
    pub tenant: Option<TenantId>,
    pub ns_set: Option<NsSetId>,
    pub labels: &'a BTreeMap<String, String>,
    pub content: Option<&'a Prepared>,
    /// Who is inside, if it is to be private.
    pub insiders: Option<&'a Insiders>,
    pub is_operator: bool,
}

pub(super) fn create(state: &State, context: &Context, new: NewZone<'_>) -> Result<Decision, Rejection> {
    let NewZone { name, labels, is_operator, insiders, .. } = new;
    let is_private = insiders.is_some();
    let holder = new.tenant.ok_or_else(|| Rejection::invalid("say which tenant will hold the zone"))?;
    let holder = state.tenant(holder).ok_or_else(|| Rejection::not_found("tenant"))?;
    let tenant = holder.id;
    if name.is_root() || name.is_wildcard() {
        return Err(Rejection::invalid(format!("{name} can't be a zone")));
    }
    // A private zone is in nobody's way, whatever its name: its insiders are its tenant's own.
    if !is_operator && !is_private && is_public_suffix(name) {
        return Err(Rejection::invalid(format!(
            "{name} is a public suffix: only operators can make it a zone"
        )));
    }
    check_labels(labels)?;
    need_room(holder, Limit::LabelsPerZone, "", 0, labels.len() as u64)?;
    let (kind, same) = match is_private {
        true => ("private zone", state.private_zone(tenant, name)),
        false => ("zone", state.tenant_zone(tenant, name)),
    };
    if same.is_some() {
        return Err(Rejection::conflict(format!("there is a {kind} {name} already")));
    }
    if is_operator
        && !is_private
        && let Some(served) = state.served_zone(name)
    {
        return Err(Rejection::conflict(format!("the zone {name} is held by the tenant {}", served.tenant)));
    }
    let zones = state.usage(tenant).zones;
    need_room(holder, Limit::Zones, "", zones, zones + 1)?;
    if let Some(prepared) = new.content {
        need_room_for_content(state, holder, None, &prepared.content)?;
    }
    let set = match new.ns_set {
        Some(id) => state.ns_set(id).ok_or_else(|| Rejection::not_found("set of name servers"))?,
        None => state.default_ns_set().ok_or_else(|| {
            Rejection::conflict("there is no set of name servers yet: an operator has to define one first")
        })?,
    };
    let mut content = match new.content {
        Some(prepared) => bulk_of(prepared, name)?,
        None => Bulk { content: Content::default(), staged: None },
    };
    // The set may have changed since content was prepared.
    let (ns_key, ns) = (RrKey::new(name.clone(), Rtype::NS), ns_rrset(set));
    if content.content.get(&ns_key) != Some(&ns) {
        content.content.put(ns_key, ns);
        content.staged = None;
    }
    let status = match is_private {
        true => ZoneStatus::Private,
        false if is_operator || conflicting_tenants(state, tenant, name).is_empty() => ZoneStatus::Active,
        false => ZoneStatus::Pending,
    };
    let view = match insiders {
        Some(insiders) => private::insiders(holder, name, &content.content, insiders)?,
        None => None,
    };
    let private_holder = is_private.then_some(tenant);
    let floor = new.content.and_then(|prepared| prepared.serial_floor);
    let id = ZoneId(new_id(context, 0));
    let zone = Zone {
        id,
        name: name.clone(),
        tenant,
        status,
        ns_set: set.id,
        labels: labels.clone(),
        // These four are the entry's, set when it is applied.
        created_at_ms: 0,
        changed_at_ms: 0,
        revision: 0,
        generation: Generation::default(),
        serial: next_serial_above(state.published_serial(private_holder, name), floor, context.time_ms),
        soa: set.soa.clone(),
        challenge: new_challenge(context),
        admitted_by: Vec::new(),
        content: Content::default(),
        shrunk: None,
        resolved: Content::default(),
    };
    let warnings = new.content.map(|prepared| prepared.content.warnings().to_vec()).unwrap_or_default();
    let serial = zone.serial;
    let mut changes = vec![Change::ZoneCreated { zone, content }];
    // Beside the content, which may be staged.
    changes.extend(view.map(|view| {
        let difference = Difference { puts: vec![view], deletes: Vec::new() };
        Change::ZoneEdited { zone: id, serial, difference }
    }));
    Ok(Decision { changes, warnings, subject: Some(Subject::Zone(id)) })
}

/// Makes several zones, each judged with those before it in place.
pub(super) fn create_all(
    state: &State,
    context: &Context,
    tenant: Option<TenantId>,
    zones: &[ZoneDraft],
    is_operator: bool,
) -> Result<Decision, Rejection> {
    if zones.len() > ZONES_PER_BATCH_MAX {
        return Err(Rejection::invalid(format!(
            "{} zones at once are too many: at most {ZONES_PER_BATCH_MAX}",
            zones.len()
        )));
    }
    let mut draft = state.clone();
    let at = At { generation: state.head(), time_ms: context.time_ms };
    let mut decision = Decision::default();
    let (mut kind, mut items) = (None, Vec::new());
    for (place, zone) in zones.iter().enumerate() {
        let ZoneDraft { name, ns_set, labels, content, insiders } = zone;
        let content = content.as_ref();
        let insiders = insiders.as_ref();
        let new = NewZone { name, tenant, ns_set: *ns_set, labels, content, insiders, is_operator };
        match create(&draft, &nth(context, place), new) {
            Ok(made) => {
                made.changes.iter().for_each(|change| draft.apply(at, change));
                decision.changes.extend(made.changes);
                decision.warnings.extend(made.warnings);
            }
            Err(Rejection { kind: other, detail, .. }) => {
                kind.get_or_insert(other);
                let owner = Some(name.clone());
                items.push(RejectedItem { zone: Some(place), detail, owner, ..RejectedItem::default() });
            }
        }
    }
    match kind {
        None => Ok(decision),
        Some(kind) => Err(Rejection::new(kind, items[0].detail.clone()).with_items(items)),
    }
}

pub(super) fn update(
    state: &State,
    command: &Authorised,
    zone: &ZoneRef,
    if_match: Option<u64>,
    labels: Option<&BTreeMap<String, String>>,
    ns_set: Option<NsSetId>,
) -> Result<Decision, Rejection> {
    let zone = find(state, command, zone)?;
    need_revision(zone, if_match)?;
    let mut changes = Vec::new();
    if let Some(labels) = labels.filter(|labels| **labels != zone.labels) {
        check_labels(labels)?;
        if let Some(tenant) = state.tenant(zone.tenant) {
            let (before, after) = (zone.labels.len() as u64, labels.len() as u64);
            need_room(tenant, Limit::LabelsPerZone, "", before, after)?;
        }
        changes.push(Change::ZoneLabelled { zone: zone.id, labels: labels.clone() });
    }
    if let Some(id) = ns_set.filter(|id| *id != zone.ns_set) {
        let missing = || Rejection::not_found("set of name servers");
        let new = state.ns_set(id).ok_or_else(missing)?;
        let old = state.ns_set(zone.ns_set).ok_or_else(missing)?;
        changes.push(move_zone(state, command.context(), zone, old, new));
    }
    Ok(Decision { changes, subject: Some(Subject::Zone(zone.id)), ..Decision::default() })
}

pub(super) fn delete(
    state: &State,
    command: &Authorised,
    zone: &ZoneRef,
    if_match: Option<u64>,
) -> Result<Decision, Rejection> {
    let zone = find(state, command, zone)?;
    need_revision(zone, if_match)?;
    Ok(Decision::one(Change::ZoneDeleted { zone: zone.id }, Subject::Zone(zone.id)))
}

pub(super) fn activate(
    state: &State,
    command: &Authorised,
    zone: &ZoneRef,
    by: Evidence,
) -> Result<Decision, Rejection> {
    let zone = find(state, command, zone)?;
    if zone.is_served() {
        return Ok(Decision { subject: Some(Subject::Zone(zone.id)), ..Decision::default() });
    }
    if by == Evidence::Delegation && !delegation_is_evidence(state, zone) {
        return Err(Rejection::conflict(
            "the delegation leads to name servers that others of this platform share: prove the name by TXT",
        ));
    }
    Ok(activation(state, command.context(), zone, by))
}

pub(super) fn admit(
    state: &State,
    command: &Authorised,
    name: &Name,
    code: &str,
) -> Result<Decision, Rejection> {
    let holder = command.tenant().ok_or_else(|| Rejection::forbidden("only a tenant holds names"))?;
    let zone = state
        .zones_named(name)
        .find(|zone| !zone.is_served() && zone.challenge == code)
        .ok_or_else(|| Rejection::not_found(format_args!("pending zone {name} with this code")))?;
    let mut needed = conflicting_tenants(state, zone.tenant, name);
    // Who lets it in answers for every zone of the holder's that is concerned, so the token has to see them all.
    let access = Access::of(state, command.context())?;
    let sees_its_own = conflicting_zones(state, name).all(|own| own.tenant != holder || access.sees(own));
    if !needed.remove(&holder) || !sees_its_own {
        return Err(Rejection::not_found(format_args!("pending zone {name} with this code")));
    }
    if needed.iter().all(|tenant| zone.admitted_by.contains(tenant)) {
        let mut decision = activation(state, command.context(), zone, Evidence::Holder);
        // The zone is another tenant's: the holder is told of nothing but the change.
        decision.subject = None;
        return Ok(decision);
    }
    let changes = if zone.admitted_by.contains(&holder) {
        Vec::new()
    } else {
        vec![Change::ZoneAdmitted { zone: zone.id, by: holder }]
    };
    Ok(Decision { changes, ..Decision::default() })
}

/// Whether a delegation to the zone's name servers says anything about its tenant: not where the name, or one
/// above it, is served from the same name servers for somebody else.
pub fn delegation_is_evidence(state: &State, zone: &Zone) -> bool {
    enclosing(state, &zone.name).is_none_or(|other| other.tenant == zone.tenant)
        && state.served_zone(&zone.name).is_none_or(|other| {
            let servers = |id| state.ns_set(id).map(|set| set.nameservers.clone()).unwrap_or_default();
            let ours = servers(zone.ns_set);
            !servers(other.ns_set).iter().any(|server| ours.contains(server))
        })
}

/// The zone is served; who bore the name till now is displaced.
fn activation(state: &State, context: &Context, zone: &Zone, by: Evidence) -> Decision {
    let displaced = state
        .served_zone(&zone.name)
        .map(|other| Change::ZoneDisplaced { zone: other.id, challenge: new_challenge(context) });
    let serial = next_zone_serial(state, zone, None, context.time_ms);
    let activated = Change::ZoneActivated { zone: zone.id, serial, by };
    Decision {
        changes: displaced.into_iter().chain([activated]).collect(),
        subject: Some(Subject::Zone(zone.id)),
        ..Decision::default()
    }
}

/// What targets of ALIAS records resolve to: as far as the records are still there, and it is news.
pub(super) fn set_resolved(state: &State, context: &Context, resolved: &[Resolved]) -> Decision {
    let change = |one: &Resolved| {
        let zone = state.zone(one.zone).filter(|zone| zone.is_served())?;
        let is_alias =
            |key: &RrKey| served::is_of_aliases(key, |owner| zone.content.aliases().contains_key(owner));
        let Difference { puts, deletes } = &one.difference;
        let puts = puts.iter().filter(|(key, rrset)| is_alias(key) && zone.resolved.get(key) != Some(rrset));
        let deletes = deletes.iter().filter(|key| zone.resolved.get(key).is_some());
        let difference = Difference { puts: puts.cloned().collect(), deletes: deletes.cloned().collect() };
        let serial = next_zone_serial(state, zone, None, context.time_ms);
        (!difference.is_empty()).then_some(Change::ZoneResolved { zone: zone.id, serial, difference })
    };
    Decision { changes: resolved.iter().filter_map(change).collect(), ..Decision::default() }
}

/// Tenants but this one whose served zones equal, enclose or lie under the name.
fn conflicting_tenants(state: &State, tenant: TenantId, name: &Name) -> BTreeSet<TenantId> {
    conflicting_zones(state, name).map(|zone| zone.tenant).filter(|other| *other != tenant).collect()
}

/// Served zones that equal, enclose or lie under the name.
fn conflicting_zones<'a>(state: &'a State, name: &'a Name) -> impl Iterator<Item = &'a Shared<Zone>> {
    let same = state.served_zone(name);
    let below = state.zones_below(name).filter(move |zone| {
        // One that lies under another served zone below the name is that one's concern.
        let between = |parent: &Name| parent.is_below(name) && state.served_zone(parent).is_some();
        zone.is_served()
            && !zone.is_private()
            && !std::iter::successors(zone.name.parent(), Name::parent).any(|parent| between(&parent))
    });
    same.into_iter().chain(enclosing(state, name)).chain(below)
}

/// The nearest served zone above the name.
fn enclosing<'a>(state: &'a State, name: &Name) -> Option<&'a Shared<Zone>> {
    std::iter::successors(name.parent(), Name::parent).find_map(|parent| state.served_zone(&parent))
}

// -------------------------------------------------------------------------------------- common to zones

/// The zone that the command's principal names.
pub(super) fn find<'a>(
    state: &'a State,
    command: &Authorised,
    zone: &ZoneRef,
) -> Result<&'a Shared<Zone>, Rejection> {
    Access::of(state, command.context())?.visible_zone(state, zone)
}

pub(super) fn need_revision(zone: &Zone, if_match: Option<u64>) -> Result<(), Rejection> {
    match if_match {
        Some(wanted) if wanted != zone.revision => Err(Rejection::new(
            RejectionKind::Precondition,
            format!("the zone {} has changed since: its ETag is \"{}\" now", zone.name, zone.revision),
        )),
        _ => Ok(()),
    }
}

/// Prepared content as that of a zone of this name.
pub(super) fn bulk_of(prepared: &Prepared, name: &Name) -> Result<Bulk, Rejection> {
    if prepared.content.zone() != name {
        return Err(Rejection::new(
            RejectionKind::Stale,
            format!("the content was prepared for another zone than {name}"),
        ));
    }
    Ok(Bulk { content: prepared.content.content().clone(), staged: prepared.staged.clone() })
}

/// The serial that a change of a zone gives it: newer than its own and than all that were published under its name.
pub(super) fn next_zone_serial(state: &State, zone: &Zone, floor: Option<u32>, time_ms: u64) -> u32 {
    let floor = newest_serial(Some(zone.serial), floor);
    next_serial_above(state.published_serial(zone.private_holder(), &zone.name), floor, time_ms)
}

fn new_challenge(context: &Context) -> String {
    let random = u128::from_be_bytes(derived(context, b'c')[..16].try_into().expect("16 of 32 bytes"));
    ZoneId(random).to_string()[1..].to_owned()
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Rejection> {
    match labels.iter().find(|(key, value)| key.is_empty() || key.len().max(value.len()) > LABEL_BYTES_MAX) {
        None => Ok(()),
        Some((key, _)) => Err(Rejection::invalid(format!(
            "the label `{}` is empty or has a key or value of over {LABEL_BYTES_MAX} bytes",
            key.chars().take(40).collect::<String>()
        ))),
    }
}
