//! Rules of notification channels.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::faults::{Faults, at};
use super::monitors::{check_host, check_target};
use super::quotas::need_room;
use super::{Decision, Subject, check_short_name, derived, new_id};
use crate::TenantId;
use crate::account::Tenant;
use crate::change::Change;
use crate::channel::{Channel, ChannelInput, Receiver};
use crate::command::Context;
use crate::id::ChannelId;
use crate::limits::Limit;
use crate::rejection::{Rejection, RejectionKind};
use crate::state::{Shared, State};

/// Longest URL, in octets.
const URL_BYTES_MAX: usize = 2048;
/// Longest e-mail address, and most of it that is before the `@`, in octets (RFC 5321 §4.5.3.1).
const ADDRESS_BYTES_MAX: usize = 254;
const LOCAL_PART_BYTES_MAX: usize = 64;
/// How many monitors a channel may name: for more there is "all".
const MONITORS_MAX: usize = 1000;

pub(super) fn create(
    state: &State,
    context: &Context,
    tenant: Option<TenantId>,
    input: &ChannelInput,
) -> Result<Decision, Rejection> {
    let tenant = tenant.ok_or_else(|| Rejection::invalid("say for which tenant the channel is to be"))?;
    let tenant = state.tenant(tenant).ok_or_else(|| Rejection::not_found("tenant"))?;
    check(state, tenant, None, input)?;
    let count = state.channels().of_tenant(tenant.id, None).count() as u64;
    need_room(tenant, Limit::Channels, "", count, count + 1)?;
    let ChannelInput { name, receiver, monitors, enabled } = input.clone();
    let confirmed = unconfirmed(&receiver);
    let id = ChannelId(new_id(context, 0));
    let channel = Channel {
        id,
        tenant: tenant.id,
        name,
        receiver,
        monitors,
        enabled,
        salt: new_salt(context),
        revision: state.revision() + 1,
        created_at_ms: context.time_ms,
        confirmed,
    };
    Ok(Decision::one(Change::ChannelPut(channel), Subject::Channel(id)))
}

pub(super) fn update(
    state: &State,
    context: &Context,
    id: ChannelId,
    if_match: Option<u64>,
    input: &ChannelInput,
    new_secret: bool,
) -> Result<Decision, Rejection> {
    let old = find(state, id, if_match)?;
    let tenant = state.tenant(old.tenant).ok_or_else(|| Rejection::not_found("tenant"))?;
    if old.receiver.kind() != input.receiver.kind() {
        let kind = old.receiver.kind();
        return Err(at(
            "/receiver/kind",
            format!("it stays a channel of the kind `{kind}`: make another one"),
        ));
    }
    check(state, tenant, Some(old), input)?;
    let ChannelInput { name, receiver, monitors, enabled } = input.clone();
    let salt = if new_secret { new_salt(context) } else { old.salt };
    let confirmed = if receiver == old.receiver { old.confirmed } else { unconfirmed(&receiver) };
    let channel = Channel { name, receiver, monitors, enabled, salt, confirmed, ..Channel::clone(old) };
    let subject = Subject::Channel(id);
    if channel == **old {
        return Ok(Decision { subject: Some(subject), ..Decision::default() });
    }
    let revision = state.revision() + 1;
    Ok(Decision::one(Change::ChannelPut(Channel { revision, ..channel }), subject))
}

/// Whoever has the code that was sent to the address may read its mail.
pub(super) fn confirm(state: &State, id: ChannelId, address: &str) -> Result<Decision, Rejection> {
    let old = find(state, id, None)?;
    if !matches!(&old.receiver, Receiver::Email { address: now } if now == address) {
        return Err(Rejection::conflict(format!("the channel {} has another address by now", old.name)));
    }
    let subject = Subject::Channel(id);
    if !old.is_unconfirmed() {
        return Ok(Decision { subject: Some(subject), ..Decision::default() });
    }
    let revision = state.revision() + 1;
    let channel = Channel { confirmed: Some(true), revision, ..Channel::clone(old) };
    Ok(Decision::one(Change::ChannelPut(channel), subject))
}

pub(super) fn delete(state: &State, id: ChannelId, if_match: Option<u64>) -> Result<Decision, Rejection> {
    find(state, id, if_match)?;
    Ok(Decision::one(Change::ChannelDeleted(id), Subject::Channel(id)))
}

/// Mail can be sent to people who never asked for it; a webhook that nobody asked for fails.
fn unconfirmed(receiver: &Receiver) -> Option<bool> {
    matches!(receiver, Receiver::Email { .. }).then_some(false)
}

fn new_salt(context: &Context) -> [u8; 16] {
    derived(context, 1)[..16].try_into().expect("16 of 32 bytes")
}

fn find(state: &State, id: ChannelId, if_match: Option<u64>) -> Result<&Shared<Channel>, Rejection> {
    let channel =
        state.channels().get(id).ok_or_else(|| Rejection::not_found(format_args!("channel {id}")))?;
    if if_match.is_some_and(|revision| revision != channel.revision) {
        let (name, revision) = (&channel.name, channel.revision);
        return Err(Rejection::new(
            RejectionKind::Precondition,
            format!("the channel {name} has changed since: its ETag is \"{revision}\" now"),
        ));
    }
    Ok(channel)
}

/// Judges what a channel is to be; `old` is what it is now.
fn check(
    state: &State,
    tenant: &Tenant,
    old: Option<&Channel>,
    input: &ChannelInput,
) -> Result<(), Rejection> {
    check_short_name("channel", &input.name).map_err(|rejection| at("/name", rejection.detail))?;
    if input.name.parse::<ChannelId>().is_ok() {
        return Err(at("/name", "this name would be taken for an id: write another one"));
    }
    let named = state.channels().named(tenant.id, &input.name);
    if named.is_some_and(|named| old.is_none_or(|old| old.id != named.id)) {
        return Err(Rejection::conflict(format!("there is a channel {} already", input.name)));
    }
    let mut faults = Faults::default();
    match &input.receiver {
        Receiver::Webhook { url } => check_url(state, url, &mut faults),
        Receiver::Email { address } => {
            if let Err(why) = check_address(address) {
                faults.add("/receiver/address", why);
            }
        }
    }
    if let Some(monitors) = &input.monitors {
        faults.need("/monitors", (1..=MONITORS_MAX).contains(&monitors.len()), || {
            format!("1 to {MONITORS_MAX} monitors are named, or none for all of them")
        });
        let known = old.and_then(|old| old.monitors.as_ref());
        let mut seen = BTreeSet::new();
        for (place, id) in monitors.iter().enumerate().take(MONITORS_MAX) {
            let field = format!("/monitors/{place}");
            let is_own = state.monitors().get(*id).is_some_and(|monitor| monitor.tenant == tenant.id);
            // One that was deleted meanwhile is in nobody's way: no id is ever used again.
            let is_known = known.is_some_and(|known| known.contains(id));
            faults.need(&field, is_own || is_known, || format!("there is no monitor {id} that you can see"));
            faults.need(&field, seen.insert(*id), || "it is named twice".into());
        }
    }
    faults.check()
}

/// Judges a URL as far as it can be without a look-up: its host's addresses are judged at each delivery.
fn check_url(state: &State, url: &str, faults: &mut Faults) {
    let field = "/receiver/url";
    let is_printable = url.bytes().all(|octet| octet.is_ascii_graphic());
    faults.need(field, url.len() <= URL_BYTES_MAX, || format!("a URL has at most {URL_BYTES_MAX} octets"));
    faults.need(field, is_printable && !url.contains(['#', '\\']), || {
        "a URL has no spaces, fragments, `\\` or octets outside of ASCII: percent-encode them".into()
    });
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return faults.add(field, "a URL begins with `https://` or `http://`");
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return faults.add(field, "no user and password in a URL: messages are signed");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    faults.need(field, is_port, || "a port is 1 to 65535".into());
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let judged = match (inner, host.parse::<IpAddr>()) {
        (Some(inner), _) if inner.parse::<IpAddr>().is_err() => Err(format!("`{host}` is no address")),
        (Some(inner), _) => check_target(inner, state.monitors().addresses()),
        (None, _) => check_target(host, state.monitors().addresses()),
    };
    if let Err(why) = judged {
        faults.add(field, why);
    }
}

/// Judges an e-mail address: one that needs no quotes, in a domain with a full name.
fn check_address(address: &str) -> Result<(), String> {
    let shown: String = address.chars().take(64).flat_map(char::escape_debug).collect();
    let no_address = || format!("`{shown}` is no e-mail address such as ops@example.com");
    let (local, domain) = address.rsplit_once('@').ok_or_else(no_address)?;
    let is_atom = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&octet);
    let is_dotted = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    let fits = (1..=LOCAL_PART_BYTES_MAX).contains(&local.len()) && address.len() <= ADDRESS_BYTES_MAX;
    if !fits || !is_dotted || !local.bytes().all(is_atom) {
        return Err(no_address());
    }
    check_host(domain)
}
