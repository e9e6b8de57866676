//! `decide`: every rule there is. A state and an authorised command go in, changes come out; nothing else
//! is looked at and nothing is done.

mod accounts;
mod brakes;
mod channels;
mod faults;
mod firewall;
mod monitors;
mod private;
mod query_log;
mod quotas;
mod records;
mod zones;

pub use zones::delegation_is_evidence;

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::account::Principal;
use crate::authorise::Authorised;
use crate::change::Change;
use crate::check::Finding;
use crate::command::{Action, Context};
use crate::geoip;
use crate::idempotency::Request;
use crate::rejection::Rejection;
use crate::state::State;
use crate::{ChannelId, MonitorId, NsSetId, PopId, TenantId, TokenId, ZoneId};

/// Longest message and idempotency key that go with a command, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024;
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// What is to happen.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Facts, in order. None: all is already as was wanted.
    pub changes: Vec<Change>,
    /// What is probably not meant.
    pub warnings: Vec<Finding>,
    /// What the command was about, where that isn't known before.
    pub subject: Option<Subject>,
}

/// What a command made or was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Subject {
    /// A zone.
    #[n(0)]
    Zone(#[n(0)] ZoneId),
    /// A tenant.
    #[n(1)]
    Tenant(#[n(0)] TenantId),
    /// A token.
    #[n(2)]
    Token(#[n(0)] TokenId),
    /// A set of name servers.
    #[n(3)]
    NsSet(#[n(0)] NsSetId),
    /// A PoP.
    #[n(4)]
    Pop(#[n(0)] PopId),
    /// A monitor.
    #[n(5)]
    Monitor(#[n(0)] MonitorId),
    /// A notification channel.
    #[n(6)]
    Channel(#[n(0)] ChannelId),
}

impl Decision {
    fn one(change: Change, subject: Subject) -> Decision {
        Decision { changes: vec![change], subject: Some(subject), ..Decision::default() }
    }
}

/// Judges a command by the state it would lead to.
///
/// # Errors
/// A [`Rejection`] that names the offending items; then nothing happens.
pub fn decide(state: &State, command: &Authorised) -> Result<Decision, Rejection> {
    let context = command.context();
    if context.message.as_ref().is_some_and(|message| message.len() > MESSAGE_BYTES_MAX) {
        return Err(Rejection::invalid(format!("a message has at most {MESSAGE_BYTES_MAX} bytes")));
    }
    if context.idempotency_key.as_ref().is_some_and(|key| key.text.len() > IDEMPOTENCY_KEY_BYTES_MAX) {
        return Err(Rejection::invalid(format!(
            "an idempotency key has at most {IDEMPOTENCY_KEY_BYTES_MAX} bytes"
        )));
    }
    let mut decision = brakes::need_word(state, command, decide_action(state, command)?)?;
    // What changed nothing is not remembered: nothing speaks against judging it again.
    if let (false, Some(key)) = (decision.changes.is_empty(), &context.idempotency_key) {
        decision.changes.push(Change::RequestRemembered(Request::new(key, decision.subject)));
    }
    Ok(decision)
}

fn decide_action(state: &State, command: &Authorised) -> Result<Decision, Rejection> {
    let context = command.context();
    match command.action() {
        Action::BeginEpoch => Ok(Decision {
            changes: vec![Change::EpochBegan { epoch: state.epoch() + 1 }],
            ..Decision::default()
        }),
        Action::Bootstrap { secret_hash } => accounts::bootstrap(state, context, *secret_hash),
        Action::CreateTenant { name } => accounts::create_tenant(state, context, name),
        Action::UpdateTenant { tenant, name, enabled, limits, source_prefixes } => {
            let patch = accounts::TenantPatch {
                name: name.as_deref(),
                enabled: *enabled,
                limits,
                source_prefixes: source_prefixes.as_deref(),
            };
            accounts::update_tenant(state, *tenant, patch)
        }
        Action::DeleteTenant { tenant } => accounts::delete_tenant(state, context, *tenant),
        Action::CreateToken { tenant, description, scope, expires_at_ms, secret_hash } => {
            let token =
                accounts::NewToken { tenant: *tenant, description, scope, expires_at_ms: *expires_at_ms };
            accounts::create_token(state, context, token, *secret_hash)
        }
        Action::RevokeToken { token } => accounts::revoke_token(state, context, *token),
        Action::CreateNsSet(input) => accounts::create_ns_set(state, context, input),
        Action::UpdateNsSet { set, input } => accounts::update_ns_set(state, context, *set, input),
        Action::DeleteNsSet { set } => accounts::delete_ns_set(state, *set),
        Action::CreatePop { name, secret_hash, region } => {
            accounts::create_pop(state, context, name, *secret_hash, region.as_deref())
        }
        Action::UpdatePop { pop, enabled, drained, region } => {
            accounts::update_pop(state, *pop, *enabled, *drained, region.as_deref())
        }
        Action::ReleasePops { pop, revision } => brakes::release(state, *pop, *revision),
        Action::RestoreCopy { epoch, .. } if *epoch <= state.epoch() => Err(Rejection::invalid(format!(
            "the epoch {epoch} is not above {}, which has begun",
            state.epoch()
        ))),
        Action::RestoreCopy { epoch, serials_ahead } => Ok(Decision {
            changes: vec![
                Change::EpochBegan { epoch: *epoch },
                Change::CopyRestored { serials_ahead: *serials_ahead },
            ],
            ..Decision::default()
        }),
        Action::HoldPop { pop, revision, zones_lost, zones_before } => {
            Ok(brakes::hold(state, *pop, *revision, *zones_lost, *zones_before))
        }
        Action::SetBrakes(brakes) => brakes::set(state, *brakes),
        Action::SetGeoip { table, base } => {
            geoip::need_base(state, *base)?;
            let is_news = state.geoip().map(|table| &**table) != table.as_ref();
            let changes = is_news.then(|| Change::GeoipSet { table: table.clone() });
            Ok(Decision { changes: changes.into_iter().collect(), ..Decision::default() })
        }
        Action::CreateMonitor { tenant, input } => {
            monitors::create(state, context, command.tenant().or(*tenant), input)
        }
        Action::UpdateMonitor { monitor, if_match, input, new_secret } => {
            monitors::update(state, *monitor, *if_match, input, *new_secret)
        }
        Action::DeleteMonitor { monitor, if_match } => monitors::delete(state, *monitor, *if_match),
        Action::SetVerdicts { verdicts } => Ok(monitors::set_verdicts(state, verdicts)),
        Action::SetResolved { zones } => Ok(zones::set_resolved(state, context, zones)),
        Action::SetOwnAddresses { hosts } => Ok(monitors::set_own(state, hosts)),
        Action::SetProbeRules(rules) => monitors::set_rules(state, rules),
        Action::CreateChannel { tenant, input } => {
            channels::create(state, context, command.tenant().or(*tenant), input)
        }
        Action::ConfirmChannel { channel, address } => channels::confirm(state, *channel, address),
        Action::UpdateChannel { channel, if_match, input, new_secret } => {
            channels::update(state, context, *channel, *if_match, input, *new_secret)
        }
        Action::DeleteChannel { channel, if_match } => channels::delete(state, *channel, *if_match),
        Action::SetFirewallRules { owner, if_match, rules, zones } => {
            firewall::set_rules(state, *owner, *if_match, rules, zones.as_deref())
        }
        Action::PutFirewallRule { owner, if_match, rule } => {
            firewall::put_rule(state, *owner, *if_match, rule)
        }
        Action::DeleteFirewallRule { owner, if_match, name } => {
            firewall::delete_rule(state, *owner, *if_match, name)
        }
        Action::PutPolicyZone { if_match, zone } => firewall::put_zone(state, *if_match, zone),
        Action::DeletePolicyZone { if_match, name } => firewall::delete_zone(state, *if_match, name),
        Action::DeletePop { pop } => accounts::delete_pop(state, *pop),
        Action::CreateZone { name, tenant, ns_set, labels, content, insiders } => {
            let is_operator = matches!(context.principal, Principal::Operator { .. });
            let new = zones::NewZone {
                name,
                tenant: command.tenant().or(*tenant),
                ns_set: *ns_set,
                labels,
                content: content.as_ref(),
                insiders: insiders.as_ref(),
                is_operator,
            };
            zones::create(state, context, new)
        }
        Action::CreateZones { tenant, zones } => {
            let is_operator = matches!(context.principal, Principal::Operator { .. });
            zones::create_all(state, context, command.tenant().or(*tenant), zones, is_operator)
        }
        Action::UpdateZone { zone, if_match, labels, ns_set } => {
            zones::update(state, command, zone, *if_match, labels.as_ref(), *ns_set)
        }
        Action::DeleteZone { zone, if_match } => zones::delete(state, command, zone, *if_match),
        Action::SetQueryLog { zone, for_ms, one_in } => {
            query_log::set(state, command, zone, *for_ms, *one_in)
        }
        Action::EndQueryLog { zone } => query_log::end(state, command, zone),
        Action::EditZones { zones } => records::edit(state, command, zones),
        Action::ReplaceZone { zone, base, content } => records::replace(state, command, zone, *base, content),
        Action::ActivateZone { zone, by } => zones::activate(state, command, zone, *by),
        Action::AdmitZone { name, code } => zones::admit(state, command, name, code),
    }
}

/// An id of the command's time and chance; `n` tells several of one command apart.
fn new_id(context: &Context, n: u8) -> u128 {
    let random = u128::from_be_bytes(derived(context, n)[..16].try_into().expect("16 of 32 bytes"));
    u128::from(context.time_ms) << 80 | random >> 48
}

/// Random bytes of the command's chance.
fn derived(context: &Context, n: u8) -> [u8; 32] {
    Sha256::new().chain_update(context.entropy).chain_update([n]).finalize().into()
}

/// The command with a chance of its own for one of the many things that it is about.
fn nth(context: &Context, place: usize) -> Context {
    let entropy = Sha256::new().chain_update(context.entropy).chain_update((place as u64).to_be_bytes());
    Context { entropy: entropy.finalize().into(), ..context.clone() }
}

/// Short names of tenants, PoPs, sets: letters, digits and `-`, at most 63, not at the ends.
fn check_short_name(what: &str, name: &str) -> Result<(), Rejection> {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let fits = (1..=63).contains(&name.len()) && name.bytes().all(good);
    if fits && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err(Rejection::invalid(format!(
        "the name of a {what} has 1 to 63 lower-case letters, digits and inner `-`, which `{}` has not",
        name.escape_debug()
    )))
}

#[cfg(test)]
mod tests;
