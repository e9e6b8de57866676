//! What a zone has of steering, kept up to date with each change of its content, so that a change is judged in the time that
//! it takes itself: whether anything uses a pool is known without looking for it among a million policies.

use std::sync::Arc;

use imbl::OrdMap;

use super::{Item, OVERLAY, POOL, WhenIsolated, answered_type, is_steering_type};
use crate::{MonitorId, RrKey, Rrset};

/// A thing that others name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Used {
    /// A pool that policies lead to.
    Pool(Arc<str>),
    /// A pool of which a policy wants the nearest endpoint.
    NearestPool(Arc<str>),
    /// A view that policies ask for or overlays are of.
    View(Arc<str>),
    /// A monitor that endpoints of pools go by.
    Monitor(MonitorId),
    /// A pool that policies lead to which go by a PoP's own probes while that is isolated.
    LocalPool(Arc<str>),
}

/// Of the steering of one zone.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    rrsets: u64,
    policies: u64,
    digest: u128,
    uses: OrdMap<Used, u64>,
}

impl Tally {
    /// How many RRsets there are.
    pub fn rrset_count(&self) -> u64 {
        self.rrsets
    }

    /// How many of them are policies.
    pub fn policy_count(&self) -> u64 {
        self.policies
    }

    /// The wrapping sum of the digests of the RRsets: equal steering has an equal digest.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// How many RRsets name it.
    pub fn uses(&self, used: &Used) -> u64 {
        self.uses.get(used).copied().unwrap_or(0)
    }

    /// The pools that policies lead to which go by a PoP's own probes while that is isolated.
    pub fn local_pools(&self) -> impl Iterator<Item = &str> {
        let used = self.uses.range(Used::LocalPool("".into())..).map(|(used, _)| used);
        used.filter_map(|used| match used {
            Used::LocalPool(name) => Some(&**name),
            _ => None,
        })
    }

    pub(crate) fn add(&mut self, key: &RrKey, rrset: &Rrset) {
        self.rrsets += 1;
        self.policies += u64::from(answered_type(key.rtype).is_some());
        self.digest = self.digest.wrapping_add(rrset.digest(key));
        for used in uses_of(key, rrset) {
            *self.uses.entry(used).or_insert(0) += 1;
        }
    }

    pub(crate) fn remove(&mut self, key: &RrKey, rrset: &Rrset) {
        self.rrsets -= 1;
        self.policies -= u64::from(answered_type(key.rtype).is_some());
        self.digest = self.digest.wrapping_sub(rrset.digest(key));
        for used in uses_of(key, rrset) {
            match self.uses.get_mut(&used) {
                Some(count) if *count > 1 => *count -= 1,
                _ => _ = self.uses.remove(&used),
            }
        }
    }
}

/// What an RRset of steering names, each thing once. What can't be read names nothing.
pub(crate) fn uses_of(key: &RrKey, rrset: &Rrset) -> Vec<Used> {
    if !(matches!(key.rtype, OVERLAY | POOL) || answered_type(key.rtype).is_some()) {
        return Vec::new();
    }
    let mut uses: Vec<Used> = match Item::read(key.rtype, &rrset.rdatas) {
        Ok(Item::Policy(_, policy)) => policy
            .rules
            .iter()
            .flat_map(|rule| {
                let pools = rule.pools.iter().map(|pool| Used::Pool(pool.as_str().into()));
                let nearest = rule.pools.iter().filter(|_| rule.nearest);
                let nearest = nearest.map(|pool| Used::NearestPool(pool.as_str().into()));
                let local = rule.pools.iter().filter(|_| policy.when_isolated == WhenIsolated::Local);
                let local = local.map(|pool| Used::LocalPool(pool.as_str().into()));
                let views = rule.when.views.iter().map(|view| Used::View(view.as_str().into()));
                pools.chain(nearest).chain(local).chain(views)
            })
            .collect(),
        Ok(Item::Overlays(overlays)) => {
            overlays.iter().map(|overlay| Used::View(overlay.view.as_str().into())).collect()
        }
        Ok(Item::Pool(pool)) => {
            pool.endpoints.iter().filter_map(|endpoint| endpoint.monitor.map(Used::Monitor)).collect()
        }
        _ => Vec::new(),
    };
    uses.sort_unstable();
    uses.dedup();
    uses
}

/// Whether an RRset counts here.
pub(crate) fn counts(key: &RrKey) -> bool {
    is_steering_type(key.rtype)
}
