//! Monitors: by id, by their tenants' names for them, and by the secrets that heartbeats are called in with.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::{At, Shared};
use crate::change::Change;
use crate::monitor::{Check, Monitor, ProbeRules, Verdict, VerdictChange};
use crate::special::AddressRules;
use crate::{MonitorId, PopId, TenantId};

/// All monitors. A clone costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Monitors {
    by_id: OrdMap<MonitorId, Shared<Monitor>>,
    by_name: OrdMap<(TenantId, String), MonitorId>,
    heartbeats: OrdMap<[u8; 32], MonitorId>,
    /// The highest id there ever was.
    last: u32,
    rules: ProbeRules,
    /// Addresses of the platform's hosts, ascending: of a PoP's, and of the control plane's.
    own: OrdMap<Option<PopId>, Vec<IpAddr>>,
    /// What follows from both.
    addresses: Arc<AddressRules>,
}

/// A monitor in an earlier state and a later one.
#[derive(Clone, Copy, Debug)]
pub struct MonitorDiff<'a> {
    /// Which.
    pub id: MonitorId,
    /// As it was, if it was.
    pub old: Option<&'a Shared<Monitor>>,
    /// As it is, if it is.
    pub new: Option<&'a Shared<Monitor>>,
}

impl Monitors {
    /// A monitor.
    pub fn get(&self, id: MonitorId) -> Option<&Shared<Monitor>> {
        self.by_id.get(&id)
    }

    /// A tenant's monitor by its name.
    pub fn named(&self, tenant: TenantId, name: &str) -> Option<&Shared<Monitor>> {
        self.get(*self.by_name.get(&(tenant, name.to_owned()))?)
    }

    /// The heartbeat that is called in with the secret of this SHA-256.
    pub fn heartbeat(&self, secret_hash: &[u8; 32]) -> Option<&Shared<Monitor>> {
        self.get(*self.heartbeats.get(secret_hash)?)
    }

    /// All by age, those after `id` if given.
    pub fn iter(&self, after: Option<MonitorId>) -> impl Iterator<Item = &Shared<Monitor>> {
        super::after_key(&self.by_id, after)
    }

    /// A tenant's by name, those after `name` if given.
    pub fn of_tenant(&self, tenant: TenantId, after: Option<&str>) -> impl Iterator<Item = &Shared<Monitor>> {
        super::of_tenant(&self.by_name, tenant, after).filter_map(|id| self.by_id.get(id))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The id that the next one gets; none if there are no more.
    pub fn next_id(&self) -> Option<MonitorId> {
        self.last.checked_add(1).map(MonitorId)
    }

    /// Which addresses they may be aimed at, by the operator's word.
    pub fn rules(&self) -> &ProbeRules {
        &self.rules
    }

    /// Addresses of the platform's hosts, ascending: of a PoP's, or of the control plane's.
    pub fn own(&self, pop: Option<PopId>) -> &[IpAddr] {
        self.own.get(&pop).map_or(&[], Vec::as_slice)
    }

    /// Which addresses they may be aimed at, all in all.
    pub fn addresses(&self) -> &Arc<AddressRules> {
        &self.addresses
    }

    /// Those that differ between this state and a later one, verdicts included. Takes the time that the difference takes.
    pub fn diff<'a>(&'a self, new: &'a Monitors) -> impl Iterator<Item = MonitorDiff<'a>> {
        self.by_id.diff(&new.by_id).map(|item| match item {
            DiffItem::Add(id, monitor) => MonitorDiff { id: *id, old: None, new: Some(monitor) },
            DiffItem::Remove(id, monitor) => MonitorDiff { id: *id, old: Some(monitor), new: None },
            DiffItem::Update { old: (id, old), new: (_, new) } => {
                MonitorDiff { id: *id, old: Some(old), new: Some(new) }
            }
        })
    }

    /// Puts one; gives whether it is new.
    pub(super) fn put(&mut self, monitor: Monitor) -> bool {
        let is_new = self.remove(monitor.id).is_none();
        self.last = self.last.max(monitor.id.0);
        self.by_name.insert((monitor.tenant, monitor.name.clone()), monitor.id);
        if let Check::Heartbeat { secret_hash } = &monitor.check {
            self.heartbeats.insert(*secret_hash, monitor.id);
        }
        self.by_id.insert(monitor.id, Shared::new(monitor));
        is_new
    }

    pub(super) fn remove(&mut self, id: MonitorId) -> Option<Shared<Monitor>> {
        let gone = self.by_id.remove(&id)?;
        self.by_name.remove(&(gone.tenant, gone.name.clone()));
        if let Check::Heartbeat { secret_hash } = &gone.check {
            self.heartbeats.remove(secret_hash);
        }
        Some(gone)
    }

    pub(super) fn judge(&mut self, at: At, verdicts: &[VerdictChange]) {
        for VerdictChange { monitor, up, since_ms, cause } in verdicts {
            if let Some(monitor) = self.by_id.get_mut(monitor) {
                let (cause, revision) = (cause.clone(), at.generation.counter);
                monitor.make_mut().verdict = Some(Verdict { up: *up, since_ms: *since_ms, cause, revision });
            }
        }
    }

    pub(super) fn set_rules(&mut self, rules: ProbeRules) {
        self.rules = rules;
        self.combine();
    }

    /// A host that has no addresses is forgotten.
    pub(super) fn set_own(&mut self, pop: Option<PopId>, addresses: &[IpAddr]) {
        match addresses {
            [] => self.own.remove(&pop),
            _ => self.own.insert(pop, addresses.to_vec()),
        };
        self.combine();
    }

    fn combine(&mut self) {
        let mut own: Vec<IpAddr> = self.own.values().flatten().copied().collect();
        own.sort_unstable();
        own.dedup();
        let ProbeRules { allowed, refused } = self.rules.clone();
        self.addresses = Arc::new(AddressRules { allowed, refused, own });
    }

    pub(super) fn restore_last_id(&mut self, last: MonitorId) {
        self.last = self.last.max(last.0);
    }

    /// Changes whose fold they are.
    pub(super) fn to_changes(&self) -> impl Iterator<Item = Change> + '_ {
        let last = (self.last > 0).then_some(Change::MonitorIdsRestored { last: MonitorId(self.last) });
        let rules = (self.rules != ProbeRules::default()).then(|| Change::ProbeRulesSet(self.rules.clone()));
        let monitors = self.by_id.values().map(|monitor| Change::MonitorRestored((**monitor).clone()));
        let own = self
            .own
            .iter()
            .map(|(pop, addresses)| Change::OwnAddressesSet { pop: *pop, addresses: addresses.clone() });
        monitors.chain(last).chain(rules).chain(own)
    }
}
