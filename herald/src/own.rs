//! Addresses of the platform's own hosts, which tenants may not have monitors, ALIAS records or webhooks lead to.
//!
//! Agents tell their hosts' addresses; herald has its own, and sees where sessions come from. What is new is put on the log within
//! seconds, so that it holds wherever addresses are judged, also while the host is away. What is gone is forgotten when it hasn't been
//! seen for an hour: an anycast address that a PoP withdraws is the platform's all the same, and an interface that comes and goes doesn't
//! fill the log.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use herald_core::PopId;
use herald_core::account::Principal;
use herald_core::command::{Action, Command};
use herald_core::special::names_a_host;
use herald_core::state::State;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::engine::Engine;
use crate::publisher::Shared;

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(2);

/// For so long an address that isn't seen any more is kept.
const KEPT: Duration = Duration::from_secs(3600);

/// A host: a PoP's, or the control plane's.
type Host = Option<PopId>;

/// Puts addresses of hosts on the log until `shutdown`.
pub async fn run(engine: Engine, shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut watch = Watch::default();
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let pops = shared.host_addresses().into_iter().map(|(pop, addresses)| (Some(pop), addresses));
        let seen: Vec<(Host, Vec<IpAddr>)> = pops.chain(here().map(|own| (None, own))).collect();
        let hosts = watch.step(&engine.state(), &seen, clock::uptime());
        if hosts.is_empty() {
            continue;
        }
        let context = clock::context(Principal::System, None);
        let command = Command { context, action: Action::SetOwnAddresses { hosts } };
        if let Err(e) = engine.submit(command).await {
            tracing::error!("addresses of the platform's hosts can't be put on the log yet: {e}");
        }
    }
}

/// Addresses of this host, if they can be had.
fn here() -> Option<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()
        .inspect_err(|e| tracing::warn!("the addresses of this host can't be read: {e}"))
        .ok()?;
    Some(interfaces.iter().map(if_addrs::Interface::ip).filter(|address| names_a_host(*address)).collect())
}

/// What hasn't been seen, and since when.
#[derive(Default)]
struct Watch {
    missing: HashMap<(Host, IpAddr), Duration>,
}

impl Watch {
    /// What the log is to say of hosts otherwise than it does. Hosts that aren't seen keep what they have.
    fn step(
        &mut self,
        state: &State,
        seen: &[(Host, Vec<IpAddr>)],
        now: Duration,
    ) -> Vec<(Host, Vec<IpAddr>)> {
        let mut hosts = Vec::new();
        for (host, seen) in seen {
            let had = state.monitors().own(*host);
            let mut own: BTreeSet<IpAddr> = seen.iter().copied().collect();
            for address in had {
                if own.contains(address) {
                    self.missing.remove(&(*host, *address));
                } else if now < *self.missing.entry((*host, *address)).or_insert(now) + KEPT {
                    own.insert(*address);
                }
            }
            if !own.iter().eq(had) {
                hosts.push((*host, own.into_iter().collect()));
            }
        }
        self.missing.retain(|(host, address), _| state.monitors().own(*host).binary_search(address).is_ok());
        hosts
    }
}

#[cfg(test)]
mod tests {
    use herald_core::Generation;
    use herald_core::change::Change;
    use herald_core::state::At;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// What the log says after what is to be put on it.
    fn noted(state: &mut State, hosts: Vec<(Host, Vec<IpAddr>)>) {
        for (pop, addresses) in hosts {
            let at = At { generation: Generation::default(), time_ms: 0 };
            state.apply(at, &Change::OwnAddressesSet { pop, addresses });
        }
    }

    #[test]
    fn what_is_new_is_noted_at_once_and_what_is_gone_after_an_hour() {
        let (mut watch, mut state) = (Watch::default(), State::default());
        let (pop, minute) = (Some(PopId(1)), Duration::from_secs(60));
        let mut step = |state: &mut State, seen: &[(Host, Vec<IpAddr>)], now: Duration| {
            let hosts = watch.step(state, seen, now);
            noted(state, hosts.clone());
            hosts
        };
        let both = addresses(&["192.0.2.1", "2001:db8::1"]);
        let first = [(pop, both.clone()), (None, addresses(&["192.0.2.9"]))];
        assert_eq!(step(&mut state, &first, Duration::ZERO).len(), 2);
        assert_eq!(step(&mut state, &first, minute), []);

        // One goes, one comes.
        let other = [(pop, addresses(&["192.0.2.1", "192.0.2.2"]))];
        let all = addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        assert_eq!(step(&mut state, &other, minute * 2), [(pop, all.clone())]);
        assert_eq!(step(&mut state, &other, minute * 61), []);
        // It was there again in between: the hour begins anew.
        assert_eq!(step(&mut state, &[(pop, all.clone())], minute * 61), []);
        assert_eq!(step(&mut state, &other, minute * 63), []);
        assert_eq!(step(&mut state, &other, minute * 122), []);
        assert_eq!(step(&mut state, &other, minute * 123), other);
        // A host that says nothing keeps what it has.
        assert_eq!(step(&mut state, &[], minute * 500), []);
        assert_eq!(state.monitors().own(pop), other[0].1);
        assert_eq!(state.monitors().own(None), addresses(&["192.0.2.9"]));
    }
}
