//! Monitors from and to documents.

use herald_core::command::MonitorInput;
use herald_core::monitor::{Check, HttpCheck, Monitor, Pace, TlsCheck};
use herald_core::rdata::format_rtype;
use herald_core::{MonitorId, Name, PopId, Rtype, State};
use herald_wire::api::monitors as api;
use herald_wire::stream::ProbeAnswer;

use crate::clock;
use crate::edge::names::{Faults, parse_record_type};
use crate::edge::present;
use crate::edge::problem::ApiError;
use crate::publisher::Publisher;

/// How long a probe may take unless it is said, in ms.
const TIMEOUT_MS: u32 = 2_000;

/// Reads what a monitor is to be. What depends on its tenant and on other monitors is judged by `decide`.
///
/// # Errors
/// Invalid, with all that can't be read.
pub fn read(body: &api::MonitorInput, secret_hash: [u8; 32]) -> Result<MonitorInput, ApiError> {
    let mut faults = Faults::default();
    let check = read_check(&body.check, secret_hash, &mut faults);
    let api::MonitorPace { interval_ms, timeout_ms, rise, fall, probers, quorum, recovery_ms } = body.pace;
    let timeout_ms = timeout_ms.unwrap_or(TIMEOUT_MS.min(interval_ms));
    let pace = Pace { interval_ms, timeout_ms, rise, fall, probers, quorum, recovery_ms };
    faults.check()?;
    let check = check.ok_or_else(|| ApiError::malformed("the check can't be read"))?;
    Ok(MonitorInput { name: body.name.clone(), check, pace, enabled: body.enabled })
}

fn read_check(check: &api::MonitorCheck, secret_hash: [u8; 32], faults: &mut Faults) -> Option<Check> {
    Some(match check {
        api::MonitorCheck::Http(http) => {
            if http.tls.is_some() {
                faults.add("/check/tls".into(), "HTTP has no TLS: use the kind `https`", None, None);
            }
            Check::Http(read_http(http, false))
        }
        api::MonitorCheck::Https(http) => Check::Http(read_http(http, true)),
        api::MonitorCheck::Tcp(tcp) => Check::Tcp { target: tcp.target.clone(), port: tcp.port },
        api::MonitorCheck::Tls(tls) => {
            Check::Tls { target: tls.target.clone(), port: tls.port, tls: read_tls(&tls.tls) }
        }
        api::MonitorCheck::Dns(dns) => {
            let name = Name::parse(&dns.name)
                .map_err(|e| faults.add("/check/name".into(), e.to_string(), Some(&dns.name), None))
                .ok();
            let rtype = parse_record_type(&dns.rtype)
                .map_err(|e| faults.add("/check/type".into(), e, None, Some(&dns.rtype)))
                .ok();
            Check::Dns {
                target: dns.target.clone(),
                port: dns.port,
                name: name?,
                rtype: rtype?.to_int(),
                rcode: dns.rcode,
                contains: dns.contains.clone(),
            }
        }
        api::MonitorCheck::Icmp(icmp) => Check::Icmp { target: icmp.target.clone() },
        api::MonitorCheck::Heartbeat(_) => Check::Heartbeat { secret_hash },
        api::MonitorCheck::Calculated(api::MonitorCalculated { of, at_least, inverted }) => {
            Check::Calculated {
                of: of.iter().copied().map(MonitorId).collect(),
                at_least: *at_least,
                inverted: *inverted,
            }
        }
    })
}

fn read_http(http: &api::MonitorHttp, is_tls: bool) -> HttpCheck {
    HttpCheck {
        target: http.target.clone(),
        port: http.port.unwrap_or(if is_tls { 443 } else { 80 }),
        path: http.path.clone(),
        host: http.host.clone(),
        head: http.method == api::MonitorMethod::Head,
        status: (http.status_min, http.status_max),
        body_contains: http.body_contains.clone(),
        redirects: http.redirects,
        tls: is_tls.then(|| http.tls.as_ref().map(read_tls).unwrap_or_default()),
    }
}

fn read_tls(tls: &api::MonitorTlsCheck) -> TlsCheck {
    TlsCheck { sni: tls.sni.clone(), accept_any: tls.accept_any, days_left_min: tls.days_left_min }
}

/// A monitor, without what PoPs see.
pub fn monitor(monitor: &Monitor) -> api::Monitor {
    let Pace { interval_ms, timeout_ms, rise, fall, probers, quorum, recovery_ms } = monitor.pace;
    let timeout_ms = Some(timeout_ms);
    api::Monitor {
        id: monitor.id.0,
        name: monitor.name.clone(),
        tenant: monitor.tenant.to_string(),
        check: show_check(&monitor.check),
        pace: api::MonitorPace { interval_ms, timeout_ms, rise, fall, probers, quorum, recovery_ms },
        enabled: monitor.enabled,
        state: state(monitor),
        verdict: monitor.verdict.as_ref().map(|verdict| api::MonitorVerdict {
            up: verdict.up,
            since_ms: verdict.since_ms,
            cause: verdict.cause.clone(),
            change: present::change_id(verdict.revision),
        }),
        pops: Vec::new(),
        last_heartbeat_ms: None,
        revision: monitor.revision,
        created_at_ms: monitor.created_at_ms,
        heartbeat_path: None,
    }
}

/// What is held of it.
pub fn state(monitor: &Monitor) -> api::MonitorState {
    match &monitor.verdict {
        _ if !monitor.enabled => api::MonitorState::Off,
        None => api::MonitorState::Unknown,
        Some(verdict) if verdict.up => api::MonitorState::Up,
        Some(_) => api::MonitorState::Down,
    }
}

/// Adds what PoPs see of it.
pub fn observed(state: &State, publisher: &Publisher, monitor: &Monitor, shown: &mut api::Monitor) {
    let view = publisher.health().view(monitor.id);
    shown.pops = view
        .pops
        .into_iter()
        .map(|pop| api::MonitorPop {
            pop: pop_name(state, pop.pop),
            connected: pop.is_connected,
            up: pop.said.as_ref().and_then(|said| said.up),
            since_ms: pop
                .said
                .as_ref()
                .map(|said| clock::uptime_ms(std::time::Duration::from_millis(said.since_ms))),
            took_us: pop.said.as_ref().and_then(|said| said.took_us),
            certificate_ends_at_ms: pop
                .said
                .as_ref()
                .and_then(|said| said.certificate_ends_s)
                .map(|ends_s| ends_s.saturating_mul(1000)),
            cause: pop.said.map(|said| said.cause),
        })
        .collect();
    shown.last_heartbeat_ms =
        view.last_beat_ms.map(|at_ms| clock::uptime_ms(std::time::Duration::from_millis(at_ms)));
}

fn pop_name(state: &State, pop: PopId) -> String {
    state.pop(pop).map_or_else(|| pop.to_string(), |pop| pop.name.clone())
}

/// How a probe went that was asked of a PoP at once.
pub fn tested(
    state: &State,
    pop: PopId,
    is_connected: bool,
    answer: Option<ProbeAnswer>,
) -> api::MonitorTestPop {
    let pop = pop_name(state, pop);
    match answer {
        Some(ProbeAnswer { good, cause, took_us, certificate_ends_s, .. }) => api::MonitorTestPop {
            pop,
            good,
            cause,
            took_us: Some(took_us),
            certificate_ends_at_ms: certificate_ends_s.map(|ends_s| ends_s.saturating_mul(1000)),
        },
        None => {
            let cause =
                if is_connected { "the PoP did not answer in time" } else { "the PoP is not connected" };
            api::MonitorTestPop {
                pop,
                good: None,
                cause: cause.into(),
                took_us: None,
                certificate_ends_at_ms: None,
            }
        }
    }
}

fn show_check(check: &Check) -> api::MonitorCheck {
    match check {
        Check::Http(http) => {
            let shown = api::MonitorHttp {
                target: http.target.clone(),
                port: Some(http.port),
                path: http.path.clone(),
                host: http.host.clone(),
                method: if http.head { api::MonitorMethod::Head } else { api::MonitorMethod::Get },
                status_min: http.status.0,
                status_max: http.status.1,
                body_contains: http.body_contains.clone(),
                redirects: http.redirects,
                tls: http.tls.as_ref().map(show_tls),
            };
            match http.tls {
                Some(_) => api::MonitorCheck::Https(shown),
                None => api::MonitorCheck::Http(shown),
            }
        }
        Check::Tcp { target, port } => {
            api::MonitorCheck::Tcp(api::MonitorTcp { target: target.clone(), port: *port })
        }
        Check::Tls { target, port, tls } => api::MonitorCheck::Tls(api::MonitorTls {
            target: target.clone(),
            port: *port,
            tls: show_tls(tls),
        }),
        Check::Dns { target, port, name, rtype, rcode, contains } => {
            api::MonitorCheck::Dns(api::MonitorDns {
                target: target.clone(),
                port: *port,
                name: name.to_string(),
                rtype: format_rtype(Rtype::from_int(*rtype)),
                rcode: *rcode,
                contains: contains.clone(),
            })
        }
        Check::Icmp { target } => api::MonitorCheck::Icmp(api::MonitorIcmp { target: target.clone() }),
        Check::Heartbeat { .. } => api::MonitorCheck::Heartbeat(api::MonitorHeartbeat {}),
        Check::Calculated { of, at_least, inverted } => {
            api::MonitorCheck::Calculated(api::MonitorCalculated {
                of: of.iter().map(|id| id.0).collect(),
                at_least: *at_least,
                inverted: *inverted,
            })
        }
    }
}

fn show_tls(tls: &TlsCheck) -> api::MonitorTlsCheck {
    api::MonitorTlsCheck {
        sni: tls.sni.clone(),
        accept_any: tls.accept_any,
        days_left_min: tls.days_left_min,
    }
}
