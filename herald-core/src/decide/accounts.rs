//! Rules of tenants, tokens, sets of name servers and PoPs.

use std::collections::BTreeSet;

use super::quotas::need_room;
use super::zones::next_zone_serial;
use super::{Decision, Subject, check_short_name, new_id, private};
use crate::account::{NsSet, Pop, Scope, Tenant, Token};
use crate::change::Change;
use crate::command::{Context, NsSetInput};
use crate::limits::{Limit, TenantLimits};
use crate::rejection::Rejection;
use crate::state::State;
use crate::steering::Prefix;
use crate::zone::SoaFields;
use crate::{Name, NsSetId, PopId, Rdatas, RrKey, Rrset, Rtype, TenantId, TokenId};

/// Longest description of a token, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 1024;

/// Most regions that PoPs are in: in each of them PoPs may resolve a target of their own accord.
pub(super) const REGIONS_MAX: usize = 16;

/// Longest name of a region, in bytes: it is part of a label.
const REGION_BYTES_MAX: usize = 32;

/// Most name servers in a set.
const NAMESERVERS_MAX: usize = 13;

// -------------------------------------------------------------------------------------------- tenants

pub(super) fn create_tenant(state: &State, context: &Context, name: &str) -> Result<Decision, Rejection> {
    check_short_name("tenant", name)?;
    need_free_tenant_name(state, name)?;
    let id = TenantId(new_id(context, 0));
    let created_at_ms = context.time_ms;
    let tenant =
        Tenant { id, name: name.into(), enabled: true, created_at_ms, limits: None, source_prefixes: None };
    Ok(Decision::one(Change::TenantPut(tenant), Subject::Tenant(id)))
}

/// What is to be different of a tenant.
pub(super) struct TenantPatch<'a> {
    pub name: Option<&'a str>,
    pub enabled: Option<bool>,
    pub limits: &'a [(Limit, Option<u64>)],
    pub source_prefixes: Option<&'a [Prefix]>,
}

pub(super) fn update_tenant(
    state: &State,
    id: TenantId,
    patch: TenantPatch<'_>,
) -> Result<Decision, Rejection> {
    let TenantPatch { name, enabled, limits, source_prefixes } = patch;
    let old = state.tenant(id).ok_or_else(|| Rejection::not_found("tenant"))?;
    let mut tenant = Tenant::clone(old);
    if let Some(name) = name.filter(|name| *name != old.name) {
        check_short_name("tenant", name)?;
        need_free_tenant_name(state, name)?;
        tenant.name = name.into();
    }
    tenant.enabled = enabled.unwrap_or(tenant.enabled);
    let mut set = tenant.limits.take().unwrap_or_default();
    for (limit, value) in limits {
        let range = limit.range();
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            return Err(Rejection::invalid(format!(
                "the limit `{}` can be {} to {}, and not {value}",
                limit.name(),
                range.start(),
                range.end()
            )));
        }
        set.set(*limit, *value);
    }
    tenant.limits = (set != TenantLimits::default()).then_some(set);
    if let Some(prefixes) = source_prefixes {
        private::grant(state, &mut tenant, prefixes)?;
    }
    Ok(put_if_new(tenant == **old, Change::TenantPut(tenant), Subject::Tenant(id)))
}

pub(super) fn delete_tenant(state: &State, context: &Context, id: TenantId) -> Result<Decision, Rejection> {
    let tenant = state.tenant(id).ok_or_else(|| Rejection::not_found("tenant"))?;
    if state.tenant_zones(id, None).next().is_some() {
        return Err(Rejection::conflict(format!(
            "the tenant {} holds zones: delete them first",
            tenant.name
        )));
    }
    let tokens = state.tenant_tokens(id, None).filter(|token| token.revoked_at_ms.is_none());
    let monitors = state.monitors().of_tenant(id, None).map(|monitor| Change::MonitorDeleted(monitor.id));
    let channels = state.channels().of_tenant(id, None).map(|channel| Change::ChannelDeleted(channel.id));
    let mut changes: Vec<Change> =
        tokens.map(|token| Change::TokenRevoked { token: token.id, at_ms: context.time_ms }).collect();
    changes.extend(monitors);
    changes.extend(channels);
    changes.push(Change::TenantDeleted(id));
    Ok(Decision { changes, subject: Some(Subject::Tenant(id)), ..Decision::default() })
}

fn need_free_tenant_name(state: &State, name: &str) -> Result<(), Rejection> {
    match state.tenant_named(name) {
        None => Ok(()),
        Some(_) => Err(Rejection::conflict(format!("there is a tenant {name} already"))),
    }
}

// --------------------------------------------------------------------------------------------- tokens

/// What a new token is to be.
pub(super) struct NewToken<'a> {
    pub tenant: Option<TenantId>,
    pub description: &'a str,
    pub scope: &'a Scope,
    pub expires_at_ms: Option<u64>,
}

pub(super) fn bootstrap(
    state: &State,
    context: &Context,
    secret_hash: [u8; 32],
) -> Result<Decision, Rejection> {
    if state.tokens(None).next().is_some() {
        return Err(Rejection::conflict("there are tokens already"));
    }
    let scope = Scope::default();
    let token = NewToken { tenant: None, description: "first operator", scope: &scope, expires_at_ms: None };
    create_token(state, context, token, secret_hash)
}

pub(super) fn create_token(
    state: &State,
    context: &Context,
    new: NewToken<'_>,
    secret_hash: [u8; 32],
) -> Result<Decision, Rejection> {
    let tenant = match new.tenant {
        Some(id) => Some(state.tenant(id).ok_or_else(|| Rejection::not_found("tenant"))?),
        None => None,
    };
    if new.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(Rejection::invalid(format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes")));
    }
    if new.expires_at_ms.is_some_and(|end| end <= context.time_ms) {
        return Err(Rejection::invalid("the token would have expired already"));
    }
    let token = Token {
        id: TokenId(new_id(context, 0)),
        tenant: new.tenant,
        description: new.description.into(),
        scope: new.scope.clone(),
        secret_hash,
        created_at_ms: context.time_ms,
        expires_at_ms: new.expires_at_ms,
        revoked_at_ms: None,
    };
    let subject = Subject::Token(token.id);
    let mut decision = Decision::one(Change::TokenPut(token), subject);
    if let Some(tenant) = tenant {
        decision.changes.extend(room_for_a_token(state, tenant, context.time_ms)?);
    }
    Ok(decision)
}

/// Where a tenant has as many tokens as it may, the oldest of those that aren't valid any more makes room.
fn room_for_a_token(state: &State, tenant: &Tenant, time_ms: u64) -> Result<Option<Change>, Rejection> {
    let before = state.usage(tenant.id).tokens;
    let full = match need_room(tenant, Limit::Tokens, "", before, before + 1) {
        Ok(()) => return Ok(None),
        Err(full) => full,
    };
    let dead = state.tenant_tokens(tenant.id, None).find(|token| !token.is_valid_at(time_ms));
    dead.map(|token| Some(Change::TokenForgotten(token.id))).ok_or(full)
}

pub(super) fn revoke_token(state: &State, context: &Context, id: TokenId) -> Result<Decision, Rejection> {
    let token = state.token(id).ok_or_else(|| Rejection::not_found(format_args!("token {id}")))?;
    let change = Change::TokenRevoked { token: id, at_ms: context.time_ms };
    Ok(put_if_new(token.revoked_at_ms.is_some(), change, Subject::Token(id)))
}

// ------------------------------------------------------------------------------- sets of name servers

pub(super) fn create_ns_set(
    state: &State,
    context: &Context,
    input: &NsSetInput,
) -> Result<Decision, Rejection> {
    let id = NsSetId(new_id(context, 0));
    check_ns_set(state, id, input)?;
    let set = NsSet {
        id,
        name: input.name.clone(),
        nameservers: input.nameservers.clone(),
        soa: soa_of(input),
        // The first set is the default whether that was asked for or not: there is always one.
        is_default: input.is_default || state.default_ns_set().is_none(),
        created_at_ms: context.time_ms,
    };
    Ok(Decision::one(Change::NsSetPut(set), Subject::NsSet(id)))
}

pub(super) fn update_ns_set(
    state: &State,
    context: &Context,
    id: NsSetId,
    input: &NsSetInput,
) -> Result<Decision, Rejection> {
    let old = state.ns_set(id).ok_or_else(|| Rejection::not_found("set of name servers"))?;
    check_ns_set(state, id, input)?;
    let set = NsSet {
        id,
        name: input.name.clone(),
        nameservers: input.nameservers.clone(),
        soa: soa_of(input),
        is_default: input.is_default || old.is_default,
        created_at_ms: old.created_at_ms,
    };
    let mut decision = put_if_new(set == **old, Change::NsSetPut(set.clone()), Subject::NsSet(id));
    if set.nameservers != old.nameservers || set.soa != old.soa {
        let zones = state.zones().filter(|zone| zone.ns_set == id);
        decision.changes.extend(zones.map(|zone| move_zone(state, context, zone, old, &set)));
    }
    Ok(decision)
}

pub(super) fn delete_ns_set(state: &State, id: NsSetId) -> Result<Decision, Rejection> {
    let set = state.ns_set(id).ok_or_else(|| Rejection::not_found("set of name servers"))?;
    if let Some(zone) = state.zones().find(|zone| zone.ns_set == id) {
        return Err(Rejection::conflict(format!("zones use the set {}, {} for one", set.name, zone.name)));
    }
    if set.is_default && state.ns_sets().count() > 1 {
        return Err(Rejection::conflict(format!(
            "{} is the default set: make another one the default first",
            set.name
        )));
    }
    Ok(Decision::one(Change::NsSetDeleted(id), Subject::NsSet(id)))
}

/// Gives a zone another SOA, and another apex NS where it had the old set's.
pub(super) fn move_zone(
    state: &State,
    context: &Context,
    zone: &crate::zone::Zone,
    old: &NsSet,
    new: &NsSet,
) -> Change {
    let key = RrKey::new(zone.name.clone(), Rtype::NS);
    let mut content = zone.content.clone();
    if content.get(&key).is_some_and(|ns| ns.rdatas == ns_rdatas(&old.nameservers)) {
        content.put(key, ns_rrset(new));
    }
    Change::ZoneSoaSet {
        zone: zone.id,
        serial: next_zone_serial(state, zone, None, context.time_ms),
        ns_set: new.id,
        soa: new.soa.clone(),
        difference: zone.content.diff(&content),
    }
}

/// The apex NS RRset that a set gives.
pub fn ns_rrset(set: &NsSet) -> Rrset {
    Rrset { ttl: set.soa.ttl, rdatas: ns_rdatas(&set.nameservers) }
}

fn ns_rdatas(nameservers: &[Name]) -> Rdatas {
    nameservers.iter().map(Name::as_wire).collect()
}

fn soa_of(input: &NsSetInput) -> SoaFields {
    SoaFields { mname: input.nameservers[0].clone(), ..input.soa.clone() }
}

fn check_ns_set(state: &State, id: NsSetId, input: &NsSetInput) -> Result<(), Rejection> {
    check_short_name("set of name servers", &input.name)?;
    if state.ns_sets().any(|set| set.name == input.name && set.id != id) {
        return Err(Rejection::conflict(format!("there is a set {} already", input.name)));
    }
    if !(1..=NAMESERVERS_MAX).contains(&input.nameservers.len()) {
        return Err(Rejection::invalid(format!("a set has 1 to {NAMESERVERS_MAX} name servers")));
    }
    if let Some(bad) = input.nameservers.iter().find(|name| name.is_root() || name.is_wildcard()) {
        return Err(Rejection::invalid(format!("{bad} is no host name")));
    }
    if input.soa.ttl > crate::rrset::MAX_TTL_S {
        return Err(Rejection::invalid(format!("a TTL is at most {} s", crate::rrset::MAX_TTL_S)));
    }
    Ok(())
}

// ----------------------------------------------------------------------------------------------- PoPs

pub(super) fn create_pop(
    state: &State,
    context: &Context,
    name: &str,
    secret_hash: [u8; 32],
    region: Option<&str>,
) -> Result<Decision, Rejection> {
    check_short_name("PoP", name)?;
    if state.pops().any(|pop| pop.name == name) {
        return Err(Rejection::conflict(format!("there is a PoP {name} already")));
    }
    let id = PopId(new_id(context, 0));
    let region = region.map_or(Ok(None), |region| checked_region(state, id, region))?;
    let pop = Pop {
        id,
        name: name.into(),
        secret_hash,
        enabled: true,
        drained: false,
        created_at_ms: context.time_ms,
        released: None,
        held: None,
        region,
    };
    Ok(Decision::one(Change::PopPut(pop), Subject::Pop(id)))
}

pub(super) fn update_pop(
    state: &State,
    id: PopId,
    enabled: Option<bool>,
    drained: Option<bool>,
    region: Option<&str>,
) -> Result<Decision, Rejection> {
    let old = state.pop(id).ok_or_else(|| Rejection::not_found("PoP"))?;
    let mut pop = Pop::clone(old);
    pop.enabled = enabled.unwrap_or(pop.enabled);
    pop.drained = drained.unwrap_or(pop.drained);
    if let Some(region) = region {
        pop.region = checked_region(state, id, region)?;
    }
    Ok(put_if_new(pop == **old, Change::PopPut(pop), Subject::Pop(id)))
}

/// The region that a PoP is to be in; an empty one is none.
fn checked_region(state: &State, id: PopId, region: &str) -> Result<Option<String>, Rejection> {
    if region.is_empty() {
        return Ok(None);
    }
    check_short_name("region", region)?;
    if region.len() > REGION_BYTES_MAX {
        return Err(Rejection::invalid(format!(
            "the name of a region has at most {REGION_BYTES_MAX} letters"
        )));
    }
    let others = state.pops().filter(|pop| pop.id != id).filter_map(|pop| pop.region.as_deref());
    let regions: BTreeSet<&str> = others.chain([region]).collect();
    if regions.len() > REGIONS_MAX {
        return Err(Rejection::conflict(format!(
            "PoPs are in {REGIONS_MAX} regions already, and that is the most there can be"
        )));
    }
    Ok(Some(region.to_owned()))
}

pub(super) fn delete_pop(state: &State, id: PopId) -> Result<Decision, Rejection> {
    let pop = state.pop(id).ok_or_else(|| Rejection::not_found("PoP"))?;
    if pop.enabled {
        return Err(Rejection::conflict(format!("the PoP {} is enabled: disable it first", pop.name)));
    }
    Ok(Decision::one(Change::PopDeleted(id), Subject::Pop(id)))
}

/// The change, unless all is so already.
fn put_if_new(is_same: bool, change: Change, subject: Subject) -> Decision {
    let changes = if is_same { Vec::new() } else { vec![change] };
    Decision { changes, subject: Some(subject), ..Decision::default() }
}
