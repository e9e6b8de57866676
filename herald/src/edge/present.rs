//! From the domain to the API's types.

use herald_core::account::{NamePattern, NsSet, Pop, Principal, Scope, Tenant, Token, Verb, ZonePattern};
use herald_core::brakes::Brakes;
use herald_core::check::Finding;
use herald_core::history::ChangeKind;
use herald_core::limits::Limit;
use herald_core::rdata::{format_rdata, format_rtype};
use herald_core::state::State;
use herald_core::steering::Tally;
use herald_core::zone::{Zone, ZoneStatus};
use herald_core::{Name, RrKey, Rrset};
use herald_wire::api;

use super::gate::{Caller, rrset_tag};
use crate::history::Kinds;
use crate::publisher::{PopSyncState, Publisher, Receipt, ReceiptZone};

/// Owner name of the TXT record that proves control of a zone's name, under that name.
pub const PROOF_LABEL: &str = "_koder-herald";

/// What the TXT record says before the challenge.
pub const PROOF_PREFIX: &str = "koder-herald=";

/// A zone.
pub fn zone(state: &State, zone: &Zone) -> api::Zone {
    api::Zone {
        id: zone.id.to_string(),
        name: zone.name.to_string(),
        name_unicode: zone.name.to_unicode(),
        tenant: zone.tenant.to_string(),
        status: match zone.status {
            ZoneStatus::Active | ZoneStatus::Private => api::ZoneStatus::Active,
            ZoneStatus::Pending => api::ZoneStatus::Pending,
        },
        private: zone.is_private(),
        serial: zone.serial,
        revision: zone.revision,
        rrset_count: zone.content.rrset_count() + 1,
        record_count: zone.content.record_count() + 1,
        steering_count: zone.content.steering().map_or(0, Tally::rrset_count),
        labels: zone.labels.clone(),
        nameserver_set: zone.ns_set.to_string(),
        created_at_ms: zone.created_at_ms,
        changed_at_ms: zone.changed_at_ms,
        proof: (!zone.is_served()).then(|| proof(state, zone)),
    }
}

fn proof(state: &State, zone: &Zone) -> api::ZoneProof {
    let nameservers = state.ns_set(zone.ns_set).map(|set| names(&set.nameservers));
    api::ZoneProof {
        txt_name: format!("{PROOF_LABEL}.{}", zone.name),
        txt_value: format!("{PROOF_PREFIX}{}", zone.challenge),
        delegate_to: nameservers.unwrap_or_default(),
        admission_code: zone.challenge.clone(),
    }
}

fn names(names: &[Name]) -> Vec<String> {
    names.iter().map(Name::to_string).collect()
}

/// An RRset.
pub fn rrset(key: &RrKey, rrset: &Rrset) -> api::Rrset {
    api::Rrset {
        name: key.owner.to_string(),
        name_unicode: key.owner.to_unicode(),
        rtype: format_rtype(key.rtype),
        ttl: rrset.ttl,
        records: rrset.rdatas.iter().map(|rdata| format_rdata(key.rtype, rdata)).collect(),
        etag: rrset_tag(key, rrset),
    }
}

/// A warning.
pub fn warning(finding: &Finding) -> api::Warning {
    api::Warning {
        code: finding.code.into(),
        name: Some(finding.owner.to_string()),
        detail: finding.detail.clone(),
    }
}

/// The receipt as this caller is to see it: with the zones that it sees, and without the names and words of others.
pub fn change(caller: &Caller, receipt: Receipt) -> api::Change {
    let is_own = is_own(caller, &receipt);
    let zones = receipt.zones.iter().filter(|zone| sees_zone(caller, zone)).map(|zone| api::ChangedZone {
        id: zone.id.to_string(),
        name: zone.name.to_string(),
        serial: zone.serial,
    });
    let is_any = |state| receipt.pops.iter().any(|pop| pop.state == state);
    let state = match (is_any(PopSyncState::Pending), is_any(PopSyncState::Held)) {
        (true, _) => api::SyncState::Pending,
        (false, true) => api::SyncState::Held,
        (false, false) => api::SyncState::InSync,
    };
    let last_ms = receipt.pops.iter().filter_map(|pop| pop.in_sync_ms).reduce(f64::max);
    api::Change {
        id: change_id(receipt.revision),
        revision: receipt.revision,
        accepted_at_ms: receipt.accepted_at_ms,
        principal: if is_own { receipt.principal.to_string() } else { kind(receipt.principal).into() },
        message: receipt.message.clone().filter(|_| is_own),
        zones: zones.collect(),
        state,
        in_sync_ms: last_ms.filter(|_| state == api::SyncState::InSync),
        pops: receipt
            .pops
            .iter()
            .map(|pop| api::PopSync {
                pop: pop.pop.to_string(),
                name: pop.name.clone(),
                state: match pop.state {
                    PopSyncState::Pending => api::SyncState::Pending,
                    PopSyncState::InSync => api::SyncState::InSync,
                    PopSyncState::Held => api::SyncState::Held,
                    PopSyncState::NotWaitedFor => api::SyncState::NotWaitedFor,
                },
                in_sync_ms: pop.in_sync_ms,
            })
            .collect(),
    }
}

/// Whether the caller may see a receipt at all: it did it itself, or may read and it touched a zone of its own.
pub fn sees_change(caller: &Caller, receipt: &Receipt) -> bool {
    let is_same_token = receipt.principal == caller.principal();
    let may_read = caller.access().scope.allows_verb(Verb::Read);
    let is_unlimited = caller.access().scope.zones.is_empty();
    is_same_token
        || may_read
            && (receipt.zones.iter().any(|zone| sees_zone(caller, zone))
                || is_unlimited && is_own(caller, receipt))
}

/// Whether it is the change of the caller's own tenant; to operators all are.
fn is_own(caller: &Caller, receipt: &Receipt) -> bool {
    match (caller.access().tenant, receipt.principal) {
        (None, _) => true,
        (Some(own), Principal::Tenant { tenant, .. }) => own == tenant,
        (Some(_), _) => false,
    }
}

fn sees_zone(caller: &Caller, zone: &ReceiptZone) -> bool {
    let access = caller.access();
    access.tenant.is_none_or(|tenant| tenant == zone.tenant)
        && access.scope.allows_zone(Some(zone.id), &zone.name)
}

/// Who, without saying which.
pub fn kind(principal: Principal) -> &'static str {
    match principal {
        Principal::System => "system",
        Principal::Operator { .. } => "operator",
        Principal::Tenant { .. } => "tenant",
    }
}

/// Kinds of change.
pub fn kinds(kinds: Kinds) -> Vec<api::ChangeKind> {
    kinds
        .iter()
        .filter_map(|kind| {
            Some(match kind {
                ChangeKind::EpochBegan => api::ChangeKind::EpochBegan,
                ChangeKind::TenantPut => api::ChangeKind::TenantPut,
                ChangeKind::TenantDeleted => api::ChangeKind::TenantDeleted,
                ChangeKind::TokenPut => api::ChangeKind::TokenPut,
                ChangeKind::TokenRevoked => api::ChangeKind::TokenRevoked,
                ChangeKind::NsSetPut => api::ChangeKind::NameserverSetPut,
                ChangeKind::NsSetDeleted => api::ChangeKind::NameserverSetDeleted,
                ChangeKind::PopPut => api::ChangeKind::PopPut,
                ChangeKind::PopDeleted => api::ChangeKind::PopDeleted,
                ChangeKind::ZoneCreated => api::ChangeKind::ZoneCreated,
                ChangeKind::ZoneEdited => api::ChangeKind::ZoneEdited,
                ChangeKind::ZoneReplaced => api::ChangeKind::ZoneReplaced,
                ChangeKind::ZoneLabelled => api::ChangeKind::ZoneLabelled,
                ChangeKind::ZoneSoaSet => api::ChangeKind::ZoneSoaSet,
                ChangeKind::ZoneActivated => api::ChangeKind::ZoneActivated,
                ChangeKind::ZoneDisplaced => api::ChangeKind::ZoneDisplaced,
                ChangeKind::ZoneAdmitted => api::ChangeKind::ZoneAdmitted,
                ChangeKind::ZoneDeleted => api::ChangeKind::ZoneDeleted,
                ChangeKind::TokenForgotten => api::ChangeKind::TokenForgotten,
                ChangeKind::ShrinkConfirmed => api::ChangeKind::ShrinkConfirmed,
                ChangeKind::PopReleased => api::ChangeKind::PopReleased,
                ChangeKind::BrakesSet => api::ChangeKind::BrakesSet,
                ChangeKind::PopHeld => api::ChangeKind::PopHeld,
                ChangeKind::CopyRestored => api::ChangeKind::CopyRestored,
                ChangeKind::GeoipSet => api::ChangeKind::GeoipSet,
                ChangeKind::MonitorPut => api::ChangeKind::MonitorPut,
                ChangeKind::MonitorDeleted => api::ChangeKind::MonitorDeleted,
                ChangeKind::VerdictsSet => api::ChangeKind::VerdictsSet,
                ChangeKind::ProbeRulesSet => api::ChangeKind::ProbeRulesSet,
                ChangeKind::OwnAddressesSet => api::ChangeKind::OwnAddressesSet,
                ChangeKind::ChannelPut => api::ChangeKind::ChannelPut,
                ChangeKind::ChannelDeleted => api::ChangeKind::ChannelDeleted,
                ChangeKind::FirewallRulePut => api::ChangeKind::FirewallRulePut,
                ChangeKind::FirewallRuleDeleted => api::ChangeKind::FirewallRuleDeleted,
                ChangeKind::PolicyZonePut => api::ChangeKind::PolicyZonePut,
                ChangeKind::PolicyZoneDeleted => api::ChangeKind::PolicyZoneDeleted,
                ChangeKind::ZoneResolved => api::ChangeKind::ZoneResolved,
                ChangeKind::QueryLogSet => api::ChangeKind::QueryLogSet,
                ChangeKind::QueryLogEnded => api::ChangeKind::QueryLogEnded,
                // It goes with the changes of the request, and is none by itself.
                ChangeKind::RequestRemembered | ChangeKind::Restored => return None,
            })
        })
        .collect()
}

/// A change's id.
pub fn change_id(revision: u64) -> String {
    format!("c{revision}")
}

/// The revision of a change's id.
pub fn change_revision(id: &str) -> Option<u64> {
    let digits = id.strip_prefix('c')?;
    // One id a change: no leading zeros or signs.
    let is_plain = digits.bytes().all(|octet| octet.is_ascii_digit()) && !digits.starts_with('0');
    is_plain.then(|| digits.parse().ok()).flatten()
}

/// A tenant.
pub fn tenant(state: &State, tenant: &Tenant) -> api::Tenant {
    let usage = state.usage(tenant.id);
    api::Tenant {
        id: tenant.id.to_string(),
        name: tenant.name.clone(),
        enabled: tenant.enabled,
        zone_count: usage.zones,
        limits: Limit::ALL
            .iter()
            .map(|limit| (limit.name().into(), limit.of(tenant.limits.as_ref())))
            .collect(),
        usage: api::TenantUsage {
            zones: usage.zones,
            records: usage.records,
            tokens: usage.tokens,
            monitors: usage.monitors,
        },
        source_prefixes: tenant.source_prefixes.iter().flatten().map(ToString::to_string).collect(),
        created_at_ms: tenant.created_at_ms,
    }
}

/// A token, without its secret.
pub fn token(token: &Token) -> api::Token {
    api::Token {
        id: token.id.to_string(),
        tenant: token.tenant.map(|tenant| tenant.to_string()),
        description: token.description.clone(),
        scope: scope(&token.scope),
        created_at_ms: token.created_at_ms,
        expires_at_ms: token.expires_at_ms,
        revoked_at_ms: token.revoked_at_ms,
        secret: None,
    }
}

fn scope(scope: &Scope) -> api::Scope {
    let zone = |pattern: &ZonePattern| match pattern {
        ZonePattern::Id(id) => id.to_string(),
        ZonePattern::Name(name) => name.to_string(),
        ZonePattern::Below(name) => format!("*.{name}"),
    };
    let name = |pattern: &NamePattern| match pattern {
        NamePattern::Name(name) => name.to_string(),
        NamePattern::Below(name) => format!("*.{name}"),
        NamePattern::FirstLabel(label) => format!("{label}.*"),
    };
    api::Scope {
        zones: scope.zones.iter().map(zone).collect(),
        names: scope.names.iter().map(name).collect(),
        types: scope.types.iter().map(|rtype| format_rtype(rtype.0)).collect(),
        verbs: scope.verbs.iter().copied().map(verb).collect(),
    }
}

fn verb(verb: Verb) -> api::Verb {
    match verb {
        Verb::Read => api::Verb::Read,
        Verb::Write => api::Verb::Write,
        Verb::Create => api::Verb::Create,
        Verb::Delete => api::Verb::Delete,
        Verb::Admin => api::Verb::Admin,
        Verb::Monitor => api::Verb::Monitor,
    }
}

/// A set of name servers.
pub fn nameserver_set(set: &NsSet) -> api::NameserverSet {
    api::NameserverSet {
        id: set.id.to_string(),
        name: set.name.clone(),
        nameservers: names(&set.nameservers),
        rname: set.soa.rname.to_string(),
        ttl: set.soa.ttl,
        soa: api::SoaTimers {
            refresh: set.soa.refresh_s,
            retry: set.soa.retry_s,
            expire: set.soa.expire_s,
            minimum: set.soa.minimum_s,
        },
        default: set.is_default,
        created_at_ms: set.created_at_ms,
    }
}

/// A PoP, without its credential, and how it stands.
pub fn pop(publisher: &Publisher, pop: &Pop) -> api::Pop {
    let view = publisher.pop_view(pop.id);
    api::Pop {
        id: pop.id.to_string(),
        name: pop.name.clone(),
        enabled: pop.enabled,
        drained: pop.drained,
        region: pop.region.clone(),
        connected: view.connected,
        zones_pending: view.zones_pending,
        zones_in_sync: view.zones_in_sync,
        held: view.held,
        drift: view.drift,
        status: view.status,
        created_at_ms: pop.created_at_ms,
        secret: None,
    }
}

/// How much may go before somebody is asked.
pub fn brakes(brakes: &Brakes) -> api::Brakes {
    let Brakes { zone_percent, zone_rrsets_min, pop_percent, pop_zones_min } = *brakes;
    api::Brakes { zone_percent, zone_rrsets_min, pop_percent, pop_zones_min }
}
