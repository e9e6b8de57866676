//! Rules of private zones: whose clients can be inside.
//!
//! A private zone may have any name, also one that is somebody else's. So it must not reach anybody else's clients: who is inside
//! comes from prefixes that an operator has granted to the zone's tenant, and no address is granted to two tenants. A query's source is thus
//! in private zones of one tenant at most, whatever their names are.

use crate::account::Tenant;
use crate::command::Insiders;
use crate::content::Content;
use crate::rejection::{RejectedItem, Rejection};
use crate::state::State;
use crate::steering::{Item, Prefix, VIEW, faults, held_name, holder, view_key};
use crate::zone::Zone;
use crate::{Name, RrKey, Rrset};

/// The view of a private zone that it is made with.
const INSIDERS: &str = "insiders";

/// Prefixes that a tenant may be granted.
const SOURCE_PREFIXES_MAX: usize = 1_000;

/// Sets the prefixes that a tenant's own clients come from.
pub(super) fn grant(state: &State, tenant: &mut Tenant, prefixes: &[Prefix]) -> Result<(), Rejection> {
    if prefixes.len() > SOURCE_PREFIXES_MAX {
        let count = prefixes.len();
        return Err(Rejection::invalid(format!(
            "{count} source prefixes are too many: at most {SOURCE_PREFIXES_MAX}"
        )));
    }
    for other in state.tenants(None).filter(|other| other.id != tenant.id) {
        for theirs in other.source_prefixes.iter().flatten() {
            if let Some(prefix) =
                prefixes.iter().find(|prefix| prefix.covers(theirs) || theirs.covers(prefix))
            {
                return Err(Rejection::conflict(format!(
                    "the source prefix {prefix} has addresses of {theirs}, which the tenant {} has: each is one tenant's",
                    other.name
                )));
            }
        }
    }
    let mut prefixes = prefixes.to_vec();
    prefixes.sort_by_key(|prefix| (prefix.address(), prefix.length()));
    prefixes.dedup();
    tenant.source_prefixes = (!prefixes.is_empty()).then_some(prefixes);
    for zone in state.tenant_zones(tenant.id, None).filter(|zone| zone.is_private()) {
        let views = views(&zone.name, &zone.content);
        let views = views.iter().map(|(key, rrset)| (key, rrset));
        if let Some((key, prefix)) = foreign(tenant, views).into_iter().next() {
            let view = held_name(&key.owner).unwrap_or_default();
            return Err(Rejection::conflict(format!(
                "the view `{view}` of the private zone {} has {prefix} inside: change it first",
                zone.name
            )));
        }
    }
    Ok(())
}

/// The view that a new private zone gets, beside those in its first content.
pub(super) fn insiders(
    tenant: &Tenant,
    zone: &Name,
    content: &Content,
    insiders: &Insiders,
) -> Result<Option<(RrKey, Rrset)>, Rejection> {
    let invalid = |detail: String| Rejection::invalid(detail);
    let given = views(zone, content);
    if let Some((key, prefix)) = foreign(tenant, given.iter().map(|(key, rrset)| (key, rrset))).first() {
        return Err(invalid(not_granted(&held_name(&key.owner).unwrap_or_default(), prefix)));
    }
    let Insiders::View(view) = insiders else { return Ok(None) };
    let item = Item::View(view.clone());
    if let Some(fault) = faults(&item).into_iter().next() {
        return Err(invalid(format!("insiders: {}: {}", fault.pointer, fault.detail)));
    }
    let key = view_key(zone, INSIDERS).map_err(|e| invalid(format!("{zone}: {e}")))?;
    let rrset = item.write().map_err(|bytes| invalid(format!("insiders: {bytes} bytes are too many")))?;
    match foreign(tenant, [(&key, &rrset)]).first() {
        Some((_, prefix)) => Err(invalid(not_granted(INSIDERS, prefix))),
        None => Ok(Some((key, rrset))),
    }
}

/// What views of a private zone would have inside though it isn't its tenant's, of what is given of the zone.
pub(super) fn foreign_sources<'a>(
    state: &State,
    zone: &Zone,
    rrsets: impl IntoIterator<Item = (&'a RrKey, &'a Rrset)>,
) -> Vec<RejectedItem> {
    let Some(tenant) = state.tenant(zone.tenant) else { return Vec::new() };
    let item = |(key, prefix): (&RrKey, Prefix)| RejectedItem {
        detail: not_granted(&held_name(&key.owner).unwrap_or_default(), &prefix),
        owner: Some(key.owner.clone()),
        rtype: Some(key.rtype),
        ..RejectedItem::default()
    };
    foreign(tenant, rrsets).into_iter().map(item).collect()
}

/// The views of a zone.
pub(super) fn views(zone: &Name, content: &Content) -> Vec<(RrKey, Rrset)> {
    let Ok(holder) = holder(zone) else { return Vec::new() };
    let views = content.below(&holder).filter(|(key, _)| key.rtype == VIEW);
    views.map(|(key, rrset)| (key.clone(), rrset.clone())).collect()
}

/// Views with the first prefix of each that isn't granted to the tenant. A view of no prefix has everybody inside.
fn foreign<'a>(
    tenant: &Tenant,
    rrsets: impl IntoIterator<Item = (&'a RrKey, &'a Rrset)>,
) -> Vec<(&'a RrKey, Prefix)> {
    let foreign = |(key, rrset): (&'a RrKey, &'a Rrset)| {
        if key.rtype != VIEW {
            return None;
        }
        let Ok(Item::View(view)) = Item::read(VIEW, &rrset.rdatas) else { return None };
        let everybody = Prefix::everybody();
        let inside = if view.prefixes.is_empty() { &everybody[..] } else { &view.prefixes };
        inside.iter().find(|prefix| !tenant.has_source(prefix)).map(|prefix| (key, *prefix))
    };
    rrsets.into_iter().filter_map(foreign).collect()
}

fn not_granted(view: &str, prefix: &Prefix) -> String {
    format!(
        "the view `{view}` of a private zone would have {prefix} inside, which is none of the tenant's source prefixes: an \
         operator grants these"
    )
}
