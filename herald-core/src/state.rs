//! The state: a fold over the log.
//!
//! A clone costs nothing, so a draft is a clone and every reader has a state of its own that never moves.

pub mod channels;
mod facets;
pub mod find;
pub mod monitors;

use std::ops::{Bound, Deref};
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};

use crate::account::{NsSet, Pop, PopHold, Tenant, Token};
use crate::alias::Alias;
use crate::brakes::Brakes;
use crate::change::Change;
use crate::content::{Content, Difference};
use crate::firewall::Firewall;
use crate::geoip::Geoip;
use crate::idempotency::{KeyHolder, Requests};
use crate::limits::Usage;
use crate::monitor::Monitor;
use crate::query_log::QueryLog;
use crate::zone::{Zone, ZoneStatus, serial_far_ahead, serial_is_newer};
use crate::{Generation, Name, NsSetId, PopId, RrKey, Rrset, TenantId, TokenId, ZoneId};

use channels::Channels;
use facets::{Facet, Facets};
use monitors::Monitors;

/// All that the log says, at one revision.
#[derive(Clone, Debug, Default)]
pub struct State {
    revision: u64,
    epoch: u64,
    time_ms: u64,
    zones: OrdMap<ZoneId, Shared<Zone>>,
    zones_by_name: OrdSet<(Name, ZoneId)>,
    /// Whether a zone is private is part of its name: a tenant may have one of each kind.
    zones_by_tenant: OrdMap<(TenantId, Name, bool), ZoneId>,
    facets: Facets,
    /// The highest serial published under names that no served zone bears now; of private zones' names under that of their tenant.
    serials: OrdMap<(Option<TenantId>, Name), u32>,
    tenants: OrdMap<TenantId, Shared<Tenant>>,
    tenants_by_name: OrdMap<String, TenantId>,
    tokens: OrdMap<TokenId, Shared<Token>>,
    tokens_by_tenant: OrdSet<(TenantId, TokenId)>,
    /// What tenants have, of what is limited.
    usage: OrdMap<TenantId, Usage>,
    requests: Requests,
    ns_sets: OrdMap<NsSetId, Shared<NsSet>>,
    pops: OrdMap<PopId, Shared<Pop>>,
    brakes: Brakes,
    geoip: Option<Arc<Geoip>>,
    monitors: Monitors,
    channels: Channels,
    firewall: Firewall,
    /// Zones whose queries are logged, or were till lately.
    query_logs: OrdMap<ZoneId, QueryLog>,
    /// ALIAS records of zones that are served, by their targets.
    aliases: OrdMap<AliasPlace, AliasTerms>,
    /// Revision at which a zone last ceased to be served.
    last_loss: u64,
}

/// Where an ALIAS record is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AliasPlace {
    /// What it leads to.
    pub target: Name,
    /// Its zone.
    pub zone: ZoneId,
    /// Its owner.
    pub owner: Name,
}

/// What else bears on what is served in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AliasTerms {
    /// The highest TTL, in seconds.
    pub ttl: u32,
    /// Whether its zone has regions answer with what they find.
    pub by_region: bool,
}

/// The ALIAS records of a zone, if it is served.
#[derive(Default)]
struct Aliases {
    by_owner: OrdMap<Name, Alias>,
    by_region: bool,
}

/// Where on the log a change stands.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The leader's epoch and the entry's revision.
    pub generation: Generation,
    /// The entry's time, in ms since the epoch.
    pub time_ms: u64,
}

// ------------------------------------------------------------------------------------------- applying

impl State {
    /// Folds one change in. It can't fail: all rules were judged by `decide`, and a change of something that
    /// isn't there leaves the rest as it is.
    pub fn apply(&mut self, at: At, change: &Change) {
        self.revision = at.generation.counter;
        self.time_ms = at.time_ms;
        match change {
            Change::EpochBegan { epoch } => self.epoch = *epoch,
            Change::TenantPut(tenant) => self.put_tenant(tenant.clone()),
            Change::TenantDeleted(id) => {
                if let Some(tenant) = self.tenants.remove(id) {
                    self.tenants_by_name.remove(&tenant.name);
                    self.firewall.forget(tenant.id);
                    self.requests.forget_all(KeyHolder::Tenant(tenant.id));
                }
            }
            Change::TokenPut(token) => self.put_token(token.clone()),
            Change::TokenRevoked { token, at_ms } => {
                if let Some(token) = self.tokens.get_mut(token) {
                    token.make_mut().revoked_at_ms = Some(*at_ms);
                }
            }
            Change::TokenForgotten(id) => self.forget_token(*id),
            Change::NsSetPut(set) => self.put_ns_set(set.clone()),
            Change::NsSetDeleted(id) => {
                self.ns_sets.remove(id);
            }
            Change::PopPut(pop) => {
                self.pops.insert(pop.id, Shared::new(pop.clone()));
            }
            Change::PopReleased { pop, revision } => {
                if let Some(pop) = self.pops.get_mut(pop) {
                    let pop = pop.make_mut();
                    pop.released = Some(*revision);
                    pop.held = pop.held.filter(|held| held.revision > *revision);
                }
            }
            Change::PopHeld { pop, revision, zones_lost, zones_before } => {
                if let Some(pop) = self.pops.get_mut(pop) {
                    pop.make_mut().held = Some(PopHold {
                        revision: *revision,
                        since_ms: at.time_ms,
                        zones_lost: *zones_lost,
                        zones_before: *zones_before,
                    });
                }
            }
            Change::BrakesSet(brakes) => self.brakes = *brakes,
            Change::FirewallRulePut { .. }
            | Change::FirewallRuleDeleted { .. }
            | Change::PolicyZonePut(_)
            | Change::PolicyZoneDeleted { .. }
            | Change::FirewallRestored { .. } => self.firewall.apply(at.generation.counter, change),
            Change::GeoipSet { table } => self.geoip = table.clone().map(Arc::new),
            Change::MonitorPut(monitor) => {
                self.put_monitor(Monitor { revision: at.generation.counter, ..monitor.clone() });
            }
            Change::MonitorRestored(monitor) => self.put_monitor(monitor.clone()),
            Change::MonitorDeleted(id) => {
                if let Some(gone) = self.monitors.remove(*id) {
                    self.count(gone.tenant, |usage| usage.monitors -= 1);
                }
            }
            Change::MonitorIdsRestored { last } => self.monitors.restore_last_id(*last),
            Change::VerdictsSet { verdicts } => self.monitors.judge(at, verdicts),
            Change::ProbeRulesSet(rules) => self.monitors.set_rules(rules.clone()),
            Change::OwnAddressesSet { pop, addresses } => self.monitors.set_own(*pop, addresses),
            Change::ChannelPut(channel) => self.channels.put(channel.clone()),
            Change::ChannelDeleted(id) => self.channels.remove(*id),
            Change::LossRestored { revision } => self.last_loss = *revision,
            Change::ShrinkConfirmed { zones } => {
                for zone in zones {
                    if let Some(zone) = self.zones.get_mut(zone) {
                        zone.make_mut().shrunk = Some(at.generation.counter);
                    }
                }
            }
            Change::PopDeleted(id) => {
                self.pops.remove(id);
                self.monitors.set_own(Some(*id), &[]);
            }
            Change::ZoneCreated { zone, content } => {
                let mut zone = zone.clone();
                zone.content = content.content.clone();
                zone.revision = at.generation.counter;
                zone.generation = at.generation;
                zone.created_at_ms = at.time_ms;
                zone.changed_at_ms = at.time_ms;
                self.insert_zone(zone);
            }
            Change::ZoneEdited { zone, serial, difference } => self.publish(at, *zone, |zone| {
                zone.serial = *serial;
                zone.content.apply(difference);
            }),
            Change::ZoneReplaced { zone, serial, content } => self.publish(at, *zone, |zone| {
                zone.serial = *serial;
                zone.content = content.content.clone();
            }),
            Change::ZoneResolved { zone, serial, difference } => self.resolve(at, *zone, *serial, difference),
            Change::ResolvedRestored { zone, rrsets } => {
                if let Some(zone) = self.zones.get_mut(zone) {
                    zone.make_mut().resolved.extend(rrsets.iter().cloned());
                }
            }
            Change::ZoneLabelled { zone, labels } => self.change_facets(*zone, |state| {
                state.touch(at, *zone, |zone| zone.labels.clone_from(labels));
            }),
            Change::ZoneSoaSet { zone, serial, ns_set, soa, difference } => {
                self.change_facets(*zone, |state| {
                    state.publish(at, *zone, |zone| {
                        zone.serial = *serial;
                        zone.ns_set = *ns_set;
                        zone.soa = soa.clone();
                        zone.content.apply(difference);
                    });
                });
            }
            Change::ZoneActivated { zone, serial, .. } => {
                self.change_facets(*zone, |state| {
                    state.publish(at, *zone, |zone| {
                        zone.status = ZoneStatus::Active;
                        zone.serial = *serial;
                        zone.admitted_by.clear();
                    });
                });
                if let Some(zone) = self.zones.get(zone) {
                    self.serials.remove(&(None, zone.name.clone()));
                }
            }
            Change::QueryLogSet(log) => {
                // What is long over is of no account any more.
                let over = self.query_logs.values().filter(|other| !other.is_awaited_at(log.since_ms));
                let over: Vec<ZoneId> = over.map(|other| other.zone).collect();
                over.iter().for_each(|zone| _ = self.query_logs.remove(zone));
                self.query_logs.insert(log.zone, *log);
            }
            Change::QueryLogEnded { zone, at_ms } => {
                if let Some(log) = self.query_logs.get_mut(zone) {
                    log.until_ms = log.until_ms.min(*at_ms);
                }
            }
            Change::ZoneDisplaced { zone, challenge } => {
                self.retire(at, *zone);
                // Queries for the name are another's from here on.
                self.query_logs.remove(zone);
                self.change_facets(*zone, |state| {
                    state.publish(at, *zone, |zone| {
                        zone.status = ZoneStatus::Pending;
                        zone.challenge.clone_from(challenge);
                    });
                });
            }
            Change::ZoneAdmitted { zone, by } => self.touch(at, *zone, |zone| zone.admitted_by.push(*by)),
            Change::ZoneDeleted { zone } => {
                self.retire(at, *zone);
                self.query_logs.remove(zone);
                let mut removed = None;
                self.change_facets(*zone, |state| removed = state.zones.remove(zone));
                if let Some(zone) = removed {
                    self.follow_aliases(zone.id, &aliases_of(&zone), &Aliases::default());
                    self.zones_by_name.remove(&(zone.name.clone(), zone.id));
                    self.zones_by_tenant.remove(&(zone.tenant, zone.name.clone(), zone.is_private()));
                    self.count(zone.tenant, |usage| {
                        usage.zones -= 1;
                        usage.records -= records_of(&zone);
                    });
                }
            }
            Change::CopyRestored { serials_ahead } => self.publish_anew(at, *serials_ahead),
            Change::ZoneRestored { zone } => self.insert_zone(zone.clone()),
            Change::ContentRestored { zone, rrsets } => {
                if let Some(zone) = self.zones.get_mut(zone) {
                    let zone = zone.make_mut();
                    let (id, aliases) = (zone.id, aliases_of(zone));
                    let content = &mut zone.content;
                    let before = content.record_count();
                    content.extend(rrsets.iter().cloned());
                    let (tenant, more) = (zone.tenant, content.record_count() - before);
                    let now = aliases_of(zone);
                    self.count(tenant, |usage| usage.records += more);
                    self.follow_aliases(id, &aliases, &now);
                }
            }
            Change::SerialRestored { name, serial, tenant } => {
                self.serials.insert((*tenant, name.clone()), *serial);
            }
            Change::RequestRemembered(request) => {
                self.requests.remember(request, at.generation.counter, at.time_ms);
            }
            Change::RequestRestored { request, revision, time_ms } => {
                self.requests.remember(request, *revision, *time_ms);
            }
            Change::PositionRestored { revision, epoch, time_ms } => {
                self.revision = *revision;
                self.epoch = *epoch;
                self.time_ms = *time_ms;
            }
        }
    }

    fn put_tenant(&mut self, tenant: Tenant) {
        if let Some(old) = self.tenants.get(&tenant.id) {
            self.tenants_by_name.remove(&old.name);
        }
        self.tenants_by_name.insert(tenant.name.clone(), tenant.id);
        self.tenants.insert(tenant.id, Shared::new(tenant));
    }

    fn put_monitor(&mut self, monitor: Monitor) {
        let tenant = monitor.tenant;
        if self.monitors.put(monitor) {
            self.count(tenant, |usage| usage.monitors += 1);
        }
    }

    fn put_token(&mut self, token: Token) {
        self.forget_token(token.id);
        if let Some(tenant) = token.tenant {
            self.tokens_by_tenant.insert((tenant, token.id));
            self.count(tenant, |usage| usage.tokens += 1);
        }
        self.tokens.insert(token.id, Shared::new(token));
    }

    fn forget_token(&mut self, id: TokenId) {
        if let Some(tenant) = self.tokens.remove(&id).and_then(|token| token.tenant) {
            self.tokens_by_tenant.remove(&(tenant, id));
            self.count(tenant, |usage| usage.tokens -= 1);
        }
    }

    /// Keeps the count of what a tenant has.
    fn count(&mut self, tenant: TenantId, change: impl FnOnce(&mut Usage)) {
        let mut usage = self.usage(tenant);
        change(&mut usage);
        if usage == Usage::default() {
            self.usage.remove(&tenant);
        } else {
            self.usage.insert(tenant, usage);
        }
    }

    fn put_ns_set(&mut self, set: NsSet) {
        if set.is_default {
            let previous = self.default_ns_set().map(|set| set.id).filter(|id| *id != set.id);
            if let Some(previous) = previous.and_then(|id| self.ns_sets.get_mut(&id)) {
                previous.make_mut().is_default = false;
            }
        }
        self.ns_sets.insert(set.id, Shared::new(set));
    }

    fn insert_zone(&mut self, zone: Zone) {
        if zone.is_served() {
            self.serials.remove(&(zone.private_holder(), zone.name.clone()));
        }
        self.zones_by_name.insert((zone.name.clone(), zone.id));
        self.zones_by_tenant.insert((zone.tenant, zone.name.clone(), zone.is_private()), zone.id);
        self.count(zone.tenant, |usage| {
            usage.zones += 1;
            usage.records += records_of(&zone);
        });
        self.follow_aliases(zone.id, &Aliases::default(), &aliases_of(&zone));
        self.change_facets(zone.id, |state| _ = state.zones.insert(zone.id, Shared::new(zone)));
    }

    /// Changes something that a zone is found by.
    fn change_facets(&mut self, zone: ZoneId, change: impl FnOnce(&mut State)) {
        let of = |state: &State| state.zones.get(&zone).map(|zone| (Facet::of(zone), zone.name.clone()));
        let before = of(self);
        change(self);
        let after = of(self);
        let Some((_, name)) = before.as_ref().or(after.as_ref()) else { return };
        let (name, facets) =
            (name.clone(), |of: Option<(Vec<Facet>, Name)>| of.unzip().0.unwrap_or_default());
        let (before, after) = (facets(before), facets(after));
        for gone in before.iter().filter(|facet| !after.contains(facet)) {
            // Zones of other tenants may have the name and the facet too.
            if !self.zones_named(&name).any(|zone| Facet::of(zone).contains(gone)) {
                self.facets.remove(gone.clone(), &name);
            }
        }
        for new in after.into_iter().filter(|facet| !before.contains(facet)) {
            self.facets.insert(new, &name);
        }
    }

    /// Has these zones share memory with those of another state, where they are the same, or have the same content. Nothing
    /// else changes.
    pub fn share_zones(&mut self, with: &State, zones: impl IntoIterator<Item = ZoneId>) {
        for id in zones {
            let (Some(own), Some(other)) = (self.zones.get_mut(&id), with.zones.get(&id)) else { continue };
            if own.content != other.content {
                continue;
            }
            match **own == **other {
                true => *own = other.clone(),
                false => own.make_mut().content = other.content.clone(),
            }
        }
    }

    /// Changes something of a zone that PoPs don't see.
    fn touch(&mut self, at: At, zone: ZoneId, change: impl FnOnce(&mut Zone)) {
        if let Some(zone) = self.zones.get_mut(&zone) {
            let zone = zone.make_mut();
            let before = records_of(zone);
            change(zone);
            zone.revision = at.generation.counter;
            zone.changed_at_ms = at.time_ms;
            let (tenant, after) = (zone.tenant, records_of(zone));
            if after != before {
                self.count(tenant, |usage| usage.records = usage.records - before + after);
            }
        }
    }

    /// Changes something of a zone that PoPs see.
    fn publish(&mut self, at: At, zone: ZoneId, change: impl FnOnce(&mut Zone)) {
        let (mut before, mut after) = (Aliases::default(), Aliases::default());
        self.touch(at, zone, |zone| {
            before = aliases_of(zone);
            let had_regions = zone.resolved.steering().is_some();
            change(zone);
            zone.settle_resolved(&before.by_owner);
            if had_regions && !zone.settings().alias_by_region {
                // Whoever doesn't ask for it any more has it gone.
                zone.shrunk = Some(at.generation.counter);
            }
            zone.generation = at.generation;
            after = aliases_of(zone);
        });
        self.follow_aliases(zone, &before, &after);
    }

    /// Targets of ALIAS records resolve to something else: PoPs see it, and nothing else tells of it.
    fn resolve(&mut self, at: At, zone: ZoneId, serial: u32, difference: &Difference) {
        if let Some(zone) = self.zones.get_mut(&zone) {
            let zone = zone.make_mut();
            zone.resolve(difference);
            zone.serial = serial;
            zone.generation = at.generation;
        }
    }

    /// Keeps where ALIAS records are, of a zone that had those before.
    fn follow_aliases(&mut self, zone: ZoneId, before: &Aliases, after: &Aliases) {
        let place = |owner: &Name, alias: &Alias| AliasPlace {
            target: alias.target.clone(),
            zone,
            owner: owner.clone(),
        };
        let terms = |alias: &Alias| AliasTerms { ttl: alias.ttl, by_region: after.by_region };
        for item in before.by_owner.diff(&after.by_owner) {
            let (old, new) = match item {
                DiffItem::Add(owner, new) => (None, Some((owner, new))),
                DiffItem::Remove(owner, old) => (Some((owner, old)), None),
                DiffItem::Update { old, new } => (Some(old), Some(new)),
            };
            if let Some((owner, old)) = old {
                self.aliases.remove(&place(owner, old));
            }
            if let Some((owner, new)) = new {
                self.aliases.insert(place(owner, new), terms(new));
            }
        }
        if before.by_region != after.by_region {
            let all = after.by_owner.iter();
            self.aliases.extend(all.map(|(owner, alias)| (place(owner, alias), terms(alias))));
        }
    }

    /// Zones get a new generation and a higher serial, all of them. What PoPs have besides is lost now.
    fn publish_anew(&mut self, at: At, serials_ahead: u32) {
        let ids: Vec<ZoneId> = self.zones.keys().copied().collect();
        for id in ids {
            self.publish(at, id, |zone| {
                zone.serial = serial_far_ahead(zone.serial, serials_ahead, at.time_ms)
            });
        }
        let retired = self
            .serials
            .iter()
            .map(|(of, serial)| (of.clone(), serial_far_ahead(*serial, serials_ahead, at.time_ms)));
        self.serials = retired.collect();
        self.last_loss = at.generation.counter;
    }

    /// A zone ceases to be served: its serial is remembered, and that there was a loss.
    fn retire(&mut self, at: At, zone: ZoneId) {
        if let Some(zone) = self.zones.get(&zone).filter(|zone| zone.is_served()) {
            self.last_loss = at.generation.counter;
            self.serials.insert((zone.private_holder(), zone.name.clone()), zone.serial);
        }
    }
}

// -------------------------------------------------------------------------------------------- reading

impl State {
    /// Revision of the last entry folded in.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The leader's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Time of the last entry, in ms since the epoch.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Epoch and revision.
    pub fn head(&self) -> Generation {
        Generation { epoch: self.epoch, counter: self.revision }
    }

    /// A zone.
    pub fn zone(&self, id: ZoneId) -> Option<&Shared<Zone>> {
        self.zones.get(&id)
    }

    /// All zones by age.
    pub fn zones(&self) -> impl Iterator<Item = &Shared<Zone>> {
        self.zones.values()
    }

    /// How many zones there are.
    pub fn zone_count(&self) -> usize {
        self.zones.len()
    }

    /// Zones in canonical order of their names, those after `(name, id)` if given.
    pub fn zones_by_name(&self, after: Option<&(Name, ZoneId)>) -> impl Iterator<Item = &Shared<Zone>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.zones_by_name
            .range::<_, (Name, ZoneId)>((from, Bound::Unbounded))
            .filter_map(|(_, id)| self.zones.get(id))
    }

    /// Zones that bear this name, private ones too: at most one is served to everybody.
    pub fn zones_named<'a>(&'a self, name: &Name) -> impl Iterator<Item = &'a Shared<Zone>> + use<'a> {
        let name = name.clone();
        self.zones_by_name
            .range((name.clone(), ZoneId(0))..)
            .take_while(move |(other, _)| *other == name)
            .filter_map(|(_, id)| self.zones.get(id))
    }

    /// Zones whose names lie below this one.
    pub fn zones_below<'a>(&'a self, name: &Name) -> impl Iterator<Item = &'a Shared<Zone>> + use<'a> {
        let name = name.clone();
        let last = (name.clone(), ZoneId(u128::MAX));
        self.zones_by_name
            .range::<_, (Name, ZoneId)>((Bound::Excluded(&last), Bound::Unbounded))
            .take_while(move |(other, _)| other.is_below(&name))
            .filter_map(|(_, id)| self.zones.get(id))
    }

    /// The zone of this name that is served to everybody.
    pub fn served_zone(&self, name: &Name) -> Option<&Shared<Zone>> {
        self.zones_named(name).find(|zone| zone.is_served() && !zone.is_private())
    }

    /// Whether another zone is served where this one was, once it is gone: nobody is left without an answer then.
    pub fn is_taken_over(&self, gone: &Zone) -> bool {
        !gone.is_private() && self.served_zone(&gone.name).is_some()
    }

    /// A tenant's zone by name, its private ones left out.
    pub fn tenant_zone(&self, tenant: TenantId, name: &Name) -> Option<&Shared<Zone>> {
        let id = self.zones_by_tenant.get(&(tenant, name.clone(), false))?;
        self.zones.get(id)
    }

    /// A tenant's private zone by name.
    pub fn private_zone(&self, tenant: TenantId, name: &Name) -> Option<&Shared<Zone>> {
        let id = self.zones_by_tenant.get(&(tenant, name.clone(), true))?;
        self.zones.get(id)
    }

    /// A tenant's zones in canonical order, those after `name` if given.
    pub fn tenant_zones(
        &self,
        tenant: TenantId,
        after: Option<&Name>,
    ) -> impl Iterator<Item = &Shared<Zone>> {
        let from = match after {
            Some(name) => Bound::Excluded((tenant, name.clone(), true)),
            None => Bound::Included((tenant, Name::root(), false)),
        };
        self.zones_by_tenant
            .range((from, Bound::Unbounded))
            .take_while(move |((holder, ..), _)| *holder == tenant)
            .filter_map(|(_, id)| self.zones.get(id))
    }

    /// The highest serial that was ever published under this name, to everybody or in this tenant's private zones.
    pub fn published_serial(&self, private_holder: Option<TenantId>, name: &Name) -> Option<u32> {
        let served = match private_holder {
            Some(tenant) => self.private_zone(tenant, name),
            None => self.served_zone(name),
        };
        let served = served.map(|zone| zone.serial);
        let retired = self.serials.get(&(private_holder, name.clone())).copied();
        match (served, retired) {
            (Some(a), Some(b)) => Some(if serial_is_newer(a, b) { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    /// A tenant.
    pub fn tenant(&self, id: TenantId) -> Option<&Shared<Tenant>> {
        self.tenants.get(&id)
    }

    /// A tenant by name.
    pub fn tenant_named(&self, name: &str) -> Option<&Shared<Tenant>> {
        self.tenants.get(self.tenants_by_name.get(name)?)
    }

    /// Tenants by age, those after `id` if given.
    pub fn tenants(&self, after: Option<TenantId>) -> impl Iterator<Item = &Shared<Tenant>> {
        after_key(&self.tenants, after)
    }

    /// A token.
    pub fn token(&self, id: TokenId) -> Option<&Shared<Token>> {
        self.tokens.get(&id)
    }

    /// Tokens by age, those after `id` if given.
    pub fn tokens(&self, after: Option<TokenId>) -> impl Iterator<Item = &Shared<Token>> {
        after_key(&self.tokens, after)
    }

    /// A tenant's tokens by age, those after `id` if given.
    pub fn tenant_tokens(
        &self,
        tenant: TenantId,
        after: Option<TokenId>,
    ) -> impl Iterator<Item = &Shared<Token>> {
        let from = match after {
            Some(id) => Bound::Excluded((tenant, id)),
            None => Bound::Included((tenant, TokenId(0))),
        };
        self.tokens_by_tenant
            .range((from, Bound::Unbounded))
            .take_while(move |(holder, _)| *holder == tenant)
            .filter_map(|(_, id)| self.tokens.get(id))
    }

    /// What a tenant has, of what is limited.
    pub fn usage(&self, tenant: TenantId) -> Usage {
        self.usage.get(&tenant).copied().unwrap_or_default()
    }

    /// Requests that are remembered by their keys.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// A set of name servers.
    pub fn ns_set(&self, id: NsSetId) -> Option<&Shared<NsSet>> {
        self.ns_sets.get(&id)
    }

    /// Sets of name servers by age.
    pub fn ns_sets(&self) -> impl Iterator<Item = &Shared<NsSet>> {
        self.ns_sets.values()
    }

    /// The set that zones take where none is named.
    pub fn default_ns_set(&self) -> Option<&Shared<NsSet>> {
        self.ns_sets().find(|set| set.is_default)
    }

    /// A PoP.
    pub fn pop(&self, id: PopId) -> Option<&Shared<Pop>> {
        self.pops.get(&id)
    }

    /// PoPs by age.
    pub fn pops(&self) -> impl Iterator<Item = &Shared<Pop>> {
        self.pops.values()
    }

    /// What the emptiness brake holds back.
    pub fn brakes(&self) -> &Brakes {
        &self.brakes
    }

    /// The table of places that PoPs are to steer by.
    pub fn geoip(&self) -> Option<&Arc<Geoip>> {
        self.geoip.as_ref()
    }

    /// Notification channels.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Monitors, and what is held of their endpoints.
    pub fn monitors(&self) -> &Monitors {
        &self.monitors
    }

    /// The rules of the firewall and the policy zones.
    pub fn firewall(&self) -> &Firewall {
        &self.firewall
    }

    /// Whether queries of a zone are logged, or were till lately.
    pub fn query_log(&self, zone: ZoneId) -> Option<&QueryLog> {
        self.query_logs.get(&zone)
    }

    /// Of all zones whose queries are logged, or were till lately.
    pub fn query_logs(&self) -> impl Iterator<Item = &QueryLog> {
        self.query_logs.values()
    }

    /// Zones of which that is otherwise in a later state. Takes the time that the difference takes.
    pub fn query_logs_diff<'a>(&'a self, new: &'a State) -> impl Iterator<Item = ZoneId> + use<'a> {
        self.query_logs.diff(&new.query_logs).map(|item| match item {
            DiffItem::Add(zone, _) | DiffItem::Remove(zone, _) => *zone,
            DiffItem::Update { new: (zone, _), .. } => *zone,
        })
    }

    /// ALIAS records of zones that are served, by their targets.
    pub fn aliases(&self) -> &OrdMap<AliasPlace, AliasTerms> {
        &self.aliases
    }

    /// Revision at which a zone last ceased to be served; 0 if none ever has.
    pub fn last_loss(&self) -> u64 {
        self.last_loss
    }

    /// Zones whose publication differs between this state and a later one: each as it was and as it is, if it was
    /// or is served. Takes the time that the difference takes, not that of the state.
    pub fn published_diff<'a>(&'a self, new: &'a State) -> impl Iterator<Item = PublishedDiff<'a>> {
        let served = |zone: &'a Shared<Zone>| zone.is_served().then_some(zone);
        self.zones
            .diff(&new.zones)
            .map(move |item| match item {
                DiffItem::Add(_, zone) => PublishedDiff { old: None, new: served(zone) },
                DiffItem::Remove(_, zone) => PublishedDiff { old: served(zone), new: None },
                DiffItem::Update { old: (_, old), new: (_, new) } => {
                    PublishedDiff { old: served(old), new: served(new) }
                }
            })
            .filter(|diff| match (diff.old, diff.new) {
                (None, None) => false,
                (Some(old), Some(new)) => old.generation != new.generation,
                _ => true,
            })
    }

    /// Changes whose fold is this state: what a checkpoint holds.
    pub fn to_changes(&self) -> impl Iterator<Item = Change> + '_ {
        let tenants = self.tenants.values().map(|tenant| Change::TenantPut((**tenant).clone()));
        let tokens = self.tokens.values().map(|token| Change::TokenPut((**token).clone()));
        let ns_sets = self.ns_sets.values().map(|set| Change::NsSetPut((**set).clone()));
        let pops = self.pops.values().map(|pop| Change::PopPut((**pop).clone()));
        let zones = self.zones.values().flat_map(|zone| restored(zone));
        let serials = self.serials.iter().map(|((tenant, name), serial)| Change::SerialRestored {
            name: name.clone(),
            serial: *serial,
            tenant: *tenant,
        });
        let requests = self.requests.iter(self.time_ms).map(|(request, at)| Change::RequestRestored {
            request,
            revision: at.generation.counter,
            time_ms: at.time_ms,
        });
        let position =
            Change::PositionRestored { revision: self.revision, epoch: self.epoch, time_ms: self.time_ms };
        let brakes = (self.brakes != Brakes::default()).then_some(Change::BrakesSet(self.brakes));
        let geoip = self.geoip.as_ref().map(|table| Change::GeoipSet { table: Some((**table).clone()) });
        let loss = (self.last_loss > 0).then_some(Change::LossRestored { revision: self.last_loss });
        let accounts = tenants.chain(tokens).chain(ns_sets).chain(pops);
        accounts
            .chain(zones)
            .chain(serials)
            .chain(requests)
            .chain(brakes)
            .chain(geoip)
            .chain(self.monitors.to_changes())
            .chain(self.channels.to_changes())
            .chain(self.firewall.changes())
            .chain(self.query_logs.values().map(|log| Change::QueryLogSet(*log)))
            .chain(loss)
            .chain([position])
    }
}

/// The ALIAS records of a zone, if it is served.
fn aliases_of(zone: &Zone) -> Aliases {
    match zone.is_served() && !zone.content.aliases().is_empty() {
        true => {
            let by_region = zone.settings().alias_by_region;
            Aliases { by_owner: zone.content.aliases().clone(), by_region }
        }
        false => Aliases::default(),
    }
}

/// A zone's records, the SOA included.
fn records_of(zone: &Zone) -> u64 {
    zone.content.record_count() + 1
}

/// About how many bytes of RRsets a change of a checkpoint restores.
const RESTORED_BYTES: usize = 128 * 1024;

/// A zone without its content, and then its content in parts.
fn restored(zone: &Zone) -> impl Iterator<Item = Change> + '_ {
    let content = parts(&zone.content).map(|rrsets| Change::ContentRestored { zone: zone.id, rrsets });
    let resolved = parts(&zone.resolved).map(|rrsets| Change::ResolvedRestored { zone: zone.id, rrsets });
    let bare = Zone { content: Content::default(), resolved: Content::default(), ..zone.clone() };
    std::iter::once(Change::ZoneRestored { zone: bare }).chain(content).chain(resolved)
}

fn parts(content: &Content) -> impl Iterator<Item = Vec<(RrKey, Rrset)>> + '_ {
    let mut rrsets = content.iter().peekable();
    std::iter::from_fn(move || {
        rrsets.peek()?;
        let (mut part, mut bytes) = (Vec::new(), 0);
        while bytes < RESTORED_BYTES
            && let Some((key, rrset)) = rrsets.next()
        {
            bytes += rrset.wire_bytes(&key.owner);
            part.push((key.clone(), rrset.clone()));
        }
        Some(part)
    })
}

/// A zone's publication before and after.
#[derive(Clone, Copy, Debug)]
pub struct PublishedDiff<'a> {
    /// As it was served, if it was.
    pub old: Option<&'a Shared<Zone>>,
    /// As it is served, if it is.
    pub new: Option<&'a Shared<Zone>>,
}

/// What a tenant has, by name; what comes after `name` if given.
fn of_tenant<'a, V>(
    by_name: &'a OrdMap<(TenantId, String), V>,
    tenant: TenantId,
    after: Option<&str>,
) -> impl Iterator<Item = &'a V> {
    let from = match after {
        Some(name) => Bound::Excluded((tenant, name.to_owned())),
        None => Bound::Included((tenant, String::new())),
    };
    let own = by_name.range((from, Bound::Unbounded)).take_while(move |((holder, _), _)| *holder == tenant);
    own.map(|(_, value)| value)
}

fn after_key<K: Ord + Clone, V: Clone>(map: &OrdMap<K, V>, after: Option<K>) -> impl Iterator<Item = &V> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    map.range((from, Bound::Unbounded)).map(|(_, value)| value)
}

/// A shared value that is equal to another only if it is the same one, so that two states are compared without
/// looking into what they share.
#[derive(Debug)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    fn new(value: T) -> Shared<T> {
        Shared(Arc::new(value))
    }

    /// Another handle on the same value.
    pub fn arc(&self) -> Arc<T> {
        Arc::clone(&self.0)
    }
}

impl<T: Clone> Shared<T> {
    fn make_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
