//! Rules of monitors.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::faults::{Faults, at};
use super::quotas::need_room;
use super::{Decision, Subject, check_short_name};
use crate::account::Tenant;
use crate::change::Change;
use crate::command::{Context, MonitorInput};
use crate::limits::Limit;
use crate::monitor::{Check, HttpCheck, Monitor, Pace, ProbeRules, TlsCheck, VerdictChange};
use crate::rejection::{RejectedItem, Rejection, RejectionKind};
use crate::special::AddressRules;
use crate::state::State;
use crate::steering::{Item, POOL, Used};
use crate::zone::Zone;
use crate::{MonitorId, Name, PopId, RrKey, Rrset, Rtype, TenantId};

/// The longest interval and time-out of a heartbeat, in ms.
const DAY_MS: u32 = 24 * 3600 * 1000;
/// How long an answer to a probe may take, in ms.
const TIMEOUT_MS: std::ops::RangeInclusive<u32> = 50..=60_000;
/// How long "up" may have to hold, in ms.
const RECOVERY_MS_MAX: u32 = 3600 * 1000;
/// How many probes in a row may be asked for.
const IN_A_ROW_MAX: u8 = 20;
/// How many PoPs may probe.
const PROBERS_MAX: u8 = 15;
/// Longest path, in octets.
const PATH_BYTES_MAX: usize = 2048;
/// Longest text that is looked for, in octets.
const CONTAINS_BYTES_MAX: usize = 1024;
/// How many redirects may be followed.
const REDIRECTS_MAX: u8 = 10;
/// For how many days a certificate may have to be valid yet.
const DAYS_LEFT_MAX: u16 = 3650;
/// How many others a calculated one may be of.
const CALCULATED_OF_MAX: usize = 64;
/// How many prefixes operators may name, of each sort.
const RULES_MAX: usize = 1000;

/// So many addresses of a host are kept, the lowest ones.
const OWN_ADDRESSES_MAX: usize = 256;

pub(super) fn create(
    state: &State,
    context: &Context,
    tenant: Option<TenantId>,
    input: &MonitorInput,
) -> Result<Decision, Rejection> {
    let tenant = tenant.ok_or_else(|| Rejection::invalid("say for which tenant the monitor is to be"))?;
    let tenant = state.tenant(tenant).ok_or_else(|| Rejection::not_found("tenant"))?;
    check(state, tenant, None, input)?;
    let count = state.usage(tenant.id).monitors;
    need_room(tenant, Limit::Monitors, "", count, count + 1)?;
    let id =
        state.monitors().next_id().ok_or_else(|| Rejection::conflict("there are no more ids of monitors"))?;
    let monitor = Monitor {
        id,
        tenant: tenant.id,
        name: input.name.clone(),
        check: input.check.clone(),
        pace: input.pace,
        enabled: input.enabled,
        revision: state.revision() + 1,
        created_at_ms: context.time_ms,
        verdict: None,
    };
    Ok(Decision::one(Change::MonitorPut(monitor), Subject::Monitor(id)))
}

pub(super) fn update(
    state: &State,
    id: MonitorId,
    if_match: Option<u64>,
    input: &MonitorInput,
    new_secret: bool,
) -> Result<Decision, Rejection> {
    let old = find(state, id, if_match)?;
    let tenant = state.tenant(old.tenant).ok_or_else(|| Rejection::not_found("tenant"))?;
    let mut input = input.clone();
    match (&old.check, &mut input.check) {
        (Check::Heartbeat { secret_hash: known }, Check::Heartbeat { secret_hash }) if !new_secret => {
            *secret_hash = *known;
        }
        (Check::Heartbeat { .. }, Check::Heartbeat { .. }) => {}
        // Who calls in knows a secret that others have no use for.
        (Check::Heartbeat { .. }, _) | (_, Check::Heartbeat { .. }) => {
            return Err(at(
                "/check/kind",
                "a heartbeat stays one, and nothing else becomes one: make another monitor",
            ));
        }
        _ => {}
    }
    check(state, tenant, Some(old), &input)?;
    let MonitorInput { name, check, pace, enabled } = input;
    // What was held of another endpoint says nothing of this one; what is held while it is off may be long past.
    let is_same_endpoint = check.target() == old.check.target() && old.enabled && enabled;
    let verdict = old.verdict.clone().filter(|_| is_same_endpoint);
    let monitor = Monitor { name, check, pace, enabled, verdict, ..Monitor::clone(old) };
    let subject = Subject::Monitor(id);
    if monitor == **old {
        return Ok(Decision { subject: Some(subject), ..Decision::default() });
    }
    let revision = state.revision() + 1;
    Ok(Decision::one(Change::MonitorPut(Monitor { revision, ..monitor }), subject))
}

pub(super) fn delete(state: &State, id: MonitorId, if_match: Option<u64>) -> Result<Decision, Rejection> {
    let monitor = find(state, id, if_match)?;
    let mut others = state.monitors().of_tenant(monitor.tenant, None);
    if let Some(user) =
        others.find(|other| matches!(&other.check, Check::Calculated { of, .. } if of.contains(&id)))
    {
        return Err(Rejection::conflict(format!(
            "the monitor {} is calculated of {}: change or delete that first",
            user.name, monitor.name
        )));
    }
    let mut zones = state.tenant_zones(monitor.tenant, None);
    let names = |zone: &Zone| zone.content.steering().is_some_and(|tally| tally.uses(&Used::Monitor(id)) > 0);
    if let Some(zone) = zones.find(|zone| names(zone)) {
        return Err(Rejection::conflict(format!(
            "pools of the zone {} name the monitor {}: change or delete those first",
            zone.name, monitor.name
        )));
    }
    Ok(Decision::one(Change::MonitorDeleted(id), Subject::Monitor(id)))
}

/// Endpoints of pools among these RRsets that name another tenant's monitor, or one that isn't there. What comes back from the past may
/// name a monitor that is gone (`may_be_gone`): its endpoint counts as up, and no id is ever used again.
pub(super) fn foreign<'a>(
    state: &State,
    zone: &Zone,
    rrsets: impl Iterator<Item = (&'a RrKey, &'a Rrset)>,
    may_be_gone: bool,
) -> Vec<RejectedItem> {
    let pools = rrsets.filter(|(key, _)| key.rtype == POOL);
    let read = pools.filter_map(|(key, rrset)| Some((key, Item::read(key.rtype, &rrset.rdatas).ok()?)));
    let mut items = Vec::new();
    for (key, item) in read {
        let Item::Pool(pool) = item else { continue };
        for (place, endpoint) in pool.endpoints.iter().enumerate() {
            let Some(id) = endpoint.monitor else { continue };
            let is_fine = match state.monitors().get(id) {
                Some(monitor) => monitor.tenant == zone.tenant,
                None => may_be_gone && state.monitors().next_id().is_none_or(|next| id < next),
            };
            if !is_fine {
                items.push(RejectedItem {
                    detail: format!(
                        "the endpoint {} names the monitor {id}, which the zone's tenant doesn't have",
                        endpoint.name
                    ),
                    owner: Some(key.owner.clone()),
                    rtype: Some(key.rtype),
                    field: Some(format!("/endpoints/{place}/monitor")),
                    ..RejectedItem::default()
                });
            }
        }
    }
    items
}

pub(super) fn set_verdicts(state: &State, verdicts: &[VerdictChange]) -> Decision {
    let is_news = |change: &&VerdictChange| {
        state.monitors().get(change.monitor).is_some_and(|monitor| {
            monitor.enabled && monitor.verdict.as_ref().is_none_or(|verdict| verdict.up != change.up)
        })
    };
    let verdicts: Vec<VerdictChange> = verdicts.iter().filter(is_news).cloned().collect();
    let changes = (!verdicts.is_empty()).then_some(Change::VerdictsSet { verdicts });
    Decision { changes: changes.into_iter().collect(), ..Decision::default() }
}

pub(super) fn set_own(state: &State, hosts: &[(Option<PopId>, Vec<IpAddr>)]) -> Decision {
    let mut decision = Decision::default();
    for (pop, addresses) in hosts {
        let mut addresses = addresses.clone();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(OWN_ADDRESSES_MAX);
        let is_there = pop.is_none_or(|pop| state.pop(pop).is_some());
        if is_there && state.monitors().own(*pop) != addresses {
            decision.changes.push(Change::OwnAddressesSet { pop: *pop, addresses });
        }
    }
    decision
}

pub(super) fn set_rules(state: &State, rules: &ProbeRules) -> Result<Decision, Rejection> {
    let mut faults = Faults::default();
    for (field, prefixes) in [("allowed", &rules.allowed), ("refused", &rules.refused)] {
        if prefixes.len() > RULES_MAX {
            faults.add(
                &format!("/{field}"),
                format!("at most {RULES_MAX} prefixes, and not {}", prefixes.len()),
            );
        }
    }
    faults.check()?;
    let is_news = state.monitors().rules() != rules;
    let changes = is_news.then(|| Change::ProbeRulesSet(rules.clone()));
    Ok(Decision { changes: changes.into_iter().collect(), ..Decision::default() })
}

fn find(
    state: &State,
    id: MonitorId,
    if_match: Option<u64>,
) -> Result<&crate::state::Shared<Monitor>, Rejection> {
    let monitor =
        state.monitors().get(id).ok_or_else(|| Rejection::not_found(format_args!("monitor {id}")))?;
    if if_match.is_some_and(|revision| revision != monitor.revision) {
        return Err(Rejection::new(
            RejectionKind::Precondition,
            format!(
                "the monitor {} has changed since: its ETag is \"{}\" now",
                monitor.name, monitor.revision
            ),
        ));
    }
    Ok(monitor)
}

// ------------------------------------------------------------------------------------ what is right

/// Judges what a monitor is to be; `old` is what it is now.
fn check(
    state: &State,
    tenant: &Tenant,
    old: Option<&Monitor>,
    input: &MonitorInput,
) -> Result<(), Rejection> {
    check_short_name("monitor", &input.name).map_err(|rejection| at("/name", rejection.detail))?;
    if input.name.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(at("/name", "a name of digits alone would be taken for an id: add a letter"));
    }
    let named = state.monitors().named(tenant.id, &input.name);
    if named.is_some_and(|named| old.is_none_or(|old| old.id != named.id)) {
        return Err(Rejection::conflict(format!("there is a monitor {} already", input.name)));
    }
    let mut faults = Faults::default();
    check_pace(tenant, old, input, &mut faults);
    check_check(state, tenant, old, &input.check, &mut faults);
    faults.check()
}

fn check_pace(tenant: &Tenant, old: Option<&Monitor>, input: &MonitorInput, faults: &mut Faults) {
    let Pace { interval_ms, timeout_ms, rise, fall, probers, quorum, recovery_ms } = input.pace;
    let shortest = Limit::MonitorIntervalMs.of(tenant.limits.as_ref());
    let shortest = u32::try_from(shortest).unwrap_or(u32::MAX);
    // As with all limits: one that was lowered breaks nothing that is there.
    let is_as_before = old.is_some_and(|old| old.pace.interval_ms == interval_ms);
    faults.need("/pace/interval_ms", is_as_before || (shortest..=DAY_MS).contains(&interval_ms), || {
        format!("the interval is {shortest} to {DAY_MS} ms, and not {interval_ms}")
    });
    if let Check::Heartbeat { .. } = input.check {
        faults.need("/pace/timeout_ms", (1000..=DAY_MS).contains(&timeout_ms), || {
            format!("a heartbeat may be late by 1000 to {DAY_MS} ms, and not {timeout_ms}")
        });
    } else {
        faults.need("/pace/timeout_ms", TIMEOUT_MS.contains(&timeout_ms), || {
            format!("the time-out is {} to {} ms, and not {timeout_ms}", TIMEOUT_MS.start(), TIMEOUT_MS.end())
        });
        faults.need("/pace/timeout_ms", timeout_ms <= interval_ms, || {
            format!("the time-out ({timeout_ms} ms) is longer than the interval ({interval_ms} ms)")
        });
    }
    for (field, count) in [("rise", rise), ("fall", fall)] {
        faults.need(&format!("/pace/{field}"), (1..=IN_A_ROW_MAX).contains(&count), || {
            format!("`{field}` is 1 to {IN_A_ROW_MAX} probes in a row, and not {count}")
        });
    }
    faults.need("/pace/probers", (1..=PROBERS_MAX).contains(&probers), || {
        format!("1 to {PROBERS_MAX} PoPs probe, and not {probers}")
    });
    if let Some(quorum) = quorum {
        faults.need("/pace/quorum", (1..=probers).contains(&quorum), || {
            format!("the quorum is 1 to the number of probers, {probers}, and not {quorum}")
        });
    }
    faults.need("/pace/recovery_ms", recovery_ms <= RECOVERY_MS_MAX, || {
        format!("\"up\" has to hold for at most {RECOVERY_MS_MAX} ms, and not {recovery_ms}")
    });
}

fn check_check(state: &State, tenant: &Tenant, old: Option<&Monitor>, check: &Check, faults: &mut Faults) {
    if let Some(target) = check.target()
        && let Err(why) = check_target(target, state.monitors().addresses())
    {
        faults.add("/check/target", why);
    }
    if let Check::Tcp { port, .. }
    | Check::Tls { port, .. }
    | Check::Dns { port, .. }
    | Check::Http(HttpCheck { port, .. }) = check
    {
        faults.need("/check/port", *port != 0, || "a port is 1 to 65535".into());
    }
    match check {
        Check::Http(http) => check_http(http, faults),
        Check::Tls { tls, .. } => check_tls(tls, faults),
        Check::Dns { rtype, rcode, contains, .. } => {
            let is_meta =
                matches!(Rtype::from_int(*rtype), Rtype::OPT | Rtype::AXFR | Rtype::IXFR | Rtype::TSIG);
            faults.need("/check/type", !is_meta && *rtype != 0, || {
                format!("{} can't be asked for", Rtype::from_int(*rtype))
            });
            faults.need("/check/rcode", *rcode <= 15, || format!("an RCODE is 0 to 15, and not {rcode}"));
            check_contains("/check/contains", contains.as_deref(), faults);
        }
        Check::Calculated { of, at_least, .. } => check_calculated(state, tenant, old, of, *at_least, faults),
        Check::Tcp { .. } | Check::Icmp { .. } | Check::Heartbeat { .. } => {}
    }
}

/// Judges where probes are to go: an address that may be connected to, or a name that can be looked up. Every address that it
/// turns out to have is judged again by the PoP.
pub(super) fn check_target(target: &str, rules: &AddressRules) -> Result<(), String> {
    if let Ok(address) = target.parse::<IpAddr>() {
        return match rules.refused(address) {
            None => Ok(()),
            Some(what) => {
                Err(format!("{address} can't be monitored: it is {what}; ask an operator to allow it"))
            }
        };
    }
    check_host(target)
}

/// Judges a host name: one that every resolver takes for a name.
pub(super) fn check_host(host: &str) -> Result<(), String> {
    let shown: String = host.chars().take(64).flat_map(char::escape_debug).collect();
    let name =
        Name::parse(host).map_err(|e| format!("`{shown}` is neither an address nor a host name: {e}"))?;
    let is_host = |label: &[u8]| {
        label.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    if name.is_root() || !name.labels().filter(|label| !label.is_empty()).all(is_host) {
        return Err(format!("`{shown}` is no host name: letters, digits, `-`, `_` and dots"));
    }
    let labels: Vec<&[u8]> = name.labels().filter(|label| !label.is_empty()).collect();
    let last = labels.last().copied().unwrap_or_default();
    // Some resolvers take these for addresses: 127.1, 0x7f000001, 2130706433.
    if last.iter().all(u8::is_ascii_digit) || last.starts_with(b"0x") {
        return Err(format!("`{shown}` looks like an address and is none: write all four octets in decimal"));
    }
    if labels.len() < 2 || last == b"localhost" {
        return Err(format!("`{shown}` is no public name: write it in full"));
    }
    Ok(())
}

fn check_http(http: &HttpCheck, faults: &mut Faults) {
    let HttpCheck { path, host, status: (first, last), body_contains, redirects, tls, head, .. } = http;
    let is_path =
        path.starts_with('/') && path.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'#');
    faults.need("/check/path", is_path, || {
        "a path begins with `/` and has no spaces, fragments or octets outside of ASCII: percent-encode them".into()
    });
    faults.need("/check/path", path.len() <= PATH_BYTES_MAX, || {
        format!("a path has at most {PATH_BYTES_MAX} octets")
    });
    if let Some(host) = host {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !host.ends_with(']') && !name.contains(':') => (name, Some(port)),
            Some((name, port)) if name.ends_with(']') => (name, Some(port)),
            _ => (host.as_str(), None),
        };
        let is_address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
        let is_name = |name: &str| {
            Name::parse(name).is_ok_and(|parsed| !parsed.is_root())
                && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
        };
        faults.need(
            "/check/host",
            is_port && (is_address.parse::<IpAddr>().is_ok() || is_name(name)),
            || "the Host is a name or an address, perhaps with `:` and a port".into(),
        );
    }
    faults.need("/check/status", (100..=599).contains(first) && first <= last && *last <= 599, || {
        format!("statuses are 100 to 599, the first one not above the last, and not {first} to {last}")
    });
    check_contains("/check/body_contains", body_contains.as_deref(), faults);
    faults.need("/check/body_contains", !(*head && body_contains.is_some()), || {
        "the answer to a HEAD has no body: use GET".into()
    });
    faults.need("/check/redirects", *redirects <= REDIRECTS_MAX, || {
        format!("at most {REDIRECTS_MAX} redirects are followed, and not {redirects}")
    });
    if let Some(tls) = tls {
        check_tls(tls, faults);
    }
}

fn check_tls(tls: &TlsCheck, faults: &mut Faults) {
    if let Some(sni) = &tls.sni
        && let Err(why) = check_host(sni)
    {
        faults.add("/check/tls/sni", why);
    }
    faults.need("/check/tls/days_left_min", tls.days_left_min <= DAYS_LEFT_MAX, || {
        format!("at most {DAYS_LEFT_MAX} days, and not {}", tls.days_left_min)
    });
}

fn check_contains(field: &str, text: Option<&str>, faults: &mut Faults) {
    let is_fine =
        text.is_none_or(|text| (1..=CONTAINS_BYTES_MAX).contains(&text.len()) && !text.contains('\0'));
    faults.need(field, is_fine, || format!("a text of 1 to {CONTAINS_BYTES_MAX} octets, none of them zero"));
}

fn check_calculated(
    state: &State,
    tenant: &Tenant,
    old: Option<&Monitor>,
    of: &[MonitorId],
    at_least: u16,
    faults: &mut Faults,
) {
    faults.need("/check/of", (1..=CALCULATED_OF_MAX).contains(&of.len()), || {
        format!("a calculated monitor is of 1 to {CALCULATED_OF_MAX} others, and not of {}", of.len())
    });
    faults.need("/check/at_least", (1..=of.len().max(1)).contains(&usize::from(at_least)), || {
        format!("`at_least` is 1 to the number of others, {}, and not {at_least}", of.len())
    });
    let mut seen = BTreeSet::new();
    for (place, id) in of.iter().enumerate().take(CALCULATED_OF_MAX) {
        let field = format!("/check/of/{place}");
        let other = state.monitors().get(*id).filter(|other| other.tenant == tenant.id);
        match other {
            _ if !seen.insert(*id) => faults.add(&field, "it is named twice"),
            None => faults.add(&field, format!("there is no monitor {id} that you can see")),
            Some(other) if matches!(other.check, Check::Calculated { .. }) => {
                faults.add(
                    &field,
                    format!("the monitor {} is itself calculated: name those that it is of", other.name),
                );
            }
            Some(_) => {}
        }
    }
    // Another one that is calculated may name this one as long as it isn't calculated itself.
    if let Some(old) = old.filter(|old| !matches!(old.check, Check::Calculated { .. })) {
        let mut others = state.monitors().of_tenant(tenant.id, None);
        let user =
            others.find(|other| matches!(&other.check, Check::Calculated { of, .. } if of.contains(&old.id)));
        if let Some(user) = user {
            faults.add("/check/kind", format!("the monitor {} is calculated of this one", user.name));
        }
        faults.need("/check/of", !of.contains(&old.id), || "it can't be calculated of itself".into());
    }
}
