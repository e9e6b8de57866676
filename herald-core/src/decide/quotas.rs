//! Rules of limits: judged on the final state, and only where it has more than the state before.

use std::collections::BTreeMap;

use crate::account::Tenant;
use crate::check::CheckedContent;
use crate::content::Content;
use crate::limits::Limit;
use crate::rejection::{RejectedItem, Rejection, RejectionKind};
use crate::state::State;
use crate::steering::Tally;
use crate::{RrKey, Rrset, TenantId};

/// Refuses growth over a limit of the tenant; `whose` says what has a limit of its own, if not the tenant as a whole.
pub(super) fn need_room(
    tenant: &Tenant,
    limit: Limit,
    whose: &str,
    before: u64,
    after: u64,
) -> Result<(), Rejection> {
    match over(tenant, limit, whose, before, after) {
        None => Ok(()),
        Some(detail) => Err(Rejection::new(RejectionKind::Quota, detail)),
    }
}

/// What is to be said if this is growth over a limit.
fn over(tenant: &Tenant, limit: Limit, whose: &str, before: u64, after: u64) -> Option<String> {
    let allowed = limit.of(tenant.limits.as_ref());
    if after <= allowed || after <= before {
        return None;
    }
    let (name, who) = (limit.name(), &tenant.name);
    let whose = if whose.is_empty() { String::new() } else { format!(" {whose}") };
    Some(format!(
        "the limit `{name}` of the tenant {who} is {allowed}, and this would make {after}{whose}: \
         remove some, or ask an operator to raise it"
    ))
}

/// RRsets and records of a zone as its API counts them, the SOA and the steering included.
fn counts(content: &Content) -> (u64, u64) {
    (content.rrset_count() + 1, content.record_count() + 1)
}

/// Names and types of a zone that are steered.
fn policies(content: &Content) -> u64 {
    content.steering().map_or(0, Tally::policy_count)
}

/// ALIAS records of a zone.
fn aliases(content: &Content) -> u64 {
    content.aliases().len() as u64
}

/// What is over the limits of a zone whose content becomes `new`, of which these RRsets are new or different.
pub(super) fn zone_excess<'a>(
    tenant: &Tenant,
    old: &Content,
    new: &Content,
    puts: impl IntoIterator<Item = (&'a RrKey, &'a Rrset)>,
) -> Vec<RejectedItem> {
    let of_zone = |detail| RejectedItem { detail, ..RejectedItem::default() };
    let ((old_rrsets, old_records), (new_rrsets, new_records)) = (counts(old), counts(new));
    let mut items: Vec<RejectedItem> = [
        over(tenant, Limit::RrsetsPerZone, "in the zone", old_rrsets, new_rrsets),
        over(tenant, Limit::RecordsPerZone, "in the zone", old_records, new_records),
        over(tenant, Limit::PoliciesPerZone, "in the zone", policies(old), policies(new)),
        over(tenant, Limit::AliasesPerZone, "in the zone", aliases(old), aliases(new)),
    ]
    .into_iter()
    .flatten()
    .map(of_zone)
    .collect();
    for (key, rrset) in puts {
        let before = old.get(key).map_or(0, |old| old.rdatas.len() as u64);
        let whose = format!("at {key}");
        if let Some(detail) = over(tenant, Limit::RecordsPerRrset, &whose, before, rrset.rdatas.len() as u64)
        {
            let (owner, rtype) = (Some(key.owner.clone()), Some(key.rtype));
            items.push(RejectedItem { owner, rtype, ..of_zone(detail) });
        }
    }
    items
}

/// Refuses content of a zone, and growth of its tenant, over the limits. `old` is what the zone has now.
pub(super) fn need_room_for_content(
    state: &State,
    tenant: &Tenant,
    old: Option<&Content>,
    new: &CheckedContent,
) -> Result<(), Rejection> {
    let none = Content::default();
    // All RRsets are looked at only if one of them has too many records.
    let is_within = new.records_per_rrset_max() <= Limit::RecordsPerRrset.of(tenant.limits.as_ref());
    let puts = (!is_within).then(|| new.content().iter()).into_iter().flatten();
    let items = zone_excess(tenant, old.unwrap_or(&none), new.content(), puts);
    if let Some(first) = items.first() {
        return Err(Rejection::new(RejectionKind::Quota, first.detail.clone()).with_items(items));
    }
    let mut growth = Growth::default();
    growth.add(tenant.id, old, Some(new.content()));
    growth.need_room(state)
}

/// By how much tenants' records grow.
#[derive(Default)]
pub(super) struct Growth(BTreeMap<TenantId, i128>);

impl Growth {
    /// Counts a zone as it was, if it was, and as it is to be.
    pub(super) fn add(&mut self, tenant: TenantId, old: Option<&Content>, new: Option<&Content>) {
        let records = |content: Option<&Content>| content.map_or(0, |content| i128::from(counts(content).1));
        *self.0.entry(tenant).or_default() += records(new) - records(old);
    }

    /// Refuses it if it is over a tenant's limit.
    pub(super) fn need_room(&self, state: &State) -> Result<(), Rejection> {
        for (id, growth) in &self.0 {
            let (Some(tenant), before) = (state.tenant(*id), state.usage(*id).records) else { continue };
            let after = u64::try_from(i128::from(before) + growth).unwrap_or(0);
            need_room(tenant, Limit::Records, "in all zones", before, after)?;
        }
        Ok(())
    }
}
