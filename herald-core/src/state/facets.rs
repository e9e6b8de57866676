//! What zones are found by, beside their names. It is derived from the zones, and in no log and no checkpoint.

use std::cmp::Ordering;
use std::sync::Arc;

use imbl::OrdSet;
use imbl::shared_ptr::DefaultSharedPtr;

use crate::zone::{Zone, ZoneStatus};
use crate::{Name, NsSetId, TenantId};

/// Something that zones have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Facet {
    /// It is pending. Nearly all are active, so that these need no index.
    Pending,
    /// Its set of name servers.
    NsSet(NsSetId),
    /// A label: its tenant's, its key, its value.
    Label(TenantId, String, String),
}

impl Facet {
    /// What there is to find a zone by.
    pub(super) fn of(zone: &Zone) -> Vec<Facet> {
        let pending = (zone.status == ZoneStatus::Pending).then_some(Facet::Pending);
        let labels =
            zone.labels.iter().map(|(key, value)| Facet::Label(zone.tenant, key.clone(), value.clone()));
        pending.into_iter().chain([Facet::NsSet(zone.ns_set)]).chain(labels).collect()
    }
}

/// For each facet the names of zones that have it, in canonical order. A name takes 24 bytes, as it is shared with
/// the zone and the facet with all that have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Facets(OrdSet<(SharedFacet, Name)>);

/// Names of one facet.
pub(super) type FacetNames<'a> = imbl::ordset::RangedIter<'a, (SharedFacet, Name), DefaultSharedPtr>;

impl Facets {
    pub(super) fn insert(&mut self, facet: Facet, name: &Name) {
        let facet = self.shared(&facet).unwrap_or_else(|| SharedFacet(Arc::new(facet)));
        self.0.insert((facet, name.clone()));
    }

    pub(super) fn remove(&mut self, facet: Facet, name: &Name) {
        self.0.remove(&(SharedFacet(Arc::new(facet)), name.clone()));
    }

    /// The facet as it is shared, if any zone has it.
    pub(super) fn shared(&self, facet: &Facet) -> Option<SharedFacet> {
        let least = (SharedFacet(Arc::new(facet.clone())), Name::root());
        let (found, _) = self.0.range(least..).next()?;
        (*found.0 == *facet).then(|| found.clone())
    }

    /// What follows from this facet and name on: first the facet's own names, then those of others.
    pub(super) fn from(&self, facet: &SharedFacet, name: &Name) -> FacetNames<'_> {
        self.0.range((facet.clone(), name.clone())..)
    }
}

/// A facet that is mostly compared with itself.
#[derive(Clone, Debug)]
pub(super) struct SharedFacet(Arc<Facet>);

impl Ord for SharedFacet {
    fn cmp(&self, other: &SharedFacet) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for SharedFacet {
    fn partial_cmp(&self, other: &SharedFacet) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SharedFacet {
    fn eq(&self, other: &SharedFacet) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SharedFacet {}
