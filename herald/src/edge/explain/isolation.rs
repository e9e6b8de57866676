//! What a PoP goes by that the control plane doesn't reach, as far as that is known here.

use herald_core::MonitorId;
use herald_core::account::Pop;
use herald_core::steering::{Policy, WhenIsolated};
use herald_core::zone::Zone;

use crate::edge::gate::Caller;
use crate::edge::steering::lint;

/// A word on that; none where there is nothing to be said.
pub fn note(caller: &Caller, zone: &Zone, policy: &Policy, pop: &str) -> Option<String> {
    let pop = caller.state().pops().find(|known| known.name == pop)?;
    let is_connected = caller.publisher().is_connected(pop.id);
    let name = &pop.name;
    match (policy.when_isolated, is_connected) {
        (WhenIsolated::Hold, true) => None,
        (WhenIsolated::Hold, false) => Some(format!(
            "The PoP {name} isn't connected: it goes on with the verdicts that it heard last, which may be others than those here."
        )),
        (WhenIsolated::Local, true) => Some(format!(
            "Should the PoP {name} hear nothing from the control plane for 5 s, it goes by its own probes: one vantage point."
        )),
        (WhenIsolated::Local, false) => {
            let seen = seen(caller, zone, policy, pop);
            let seen = if seen.is_empty() {
                "what it sees isn't known here".into()
            } else {
                format!("it last said: {}", seen.join(", "))
            };
            Some(format!(
                "The PoP {name} isn't connected: it goes by its own probes, one vantage point, and not by the verdicts here; {seen}."
            ))
        }
    }
}

/// What a PoP last said of the monitors of a policy's pools.
fn seen(caller: &Caller, zone: &Zone, policy: &Policy, pop: &Pop) -> Vec<String> {
    let (pools, _) = lint::named_by(zone, policy);
    let endpoints = pools.values().flat_map(|pool| &pool.endpoints);
    let monitors: std::collections::BTreeSet<MonitorId> =
        endpoints.filter_map(|endpoint| endpoint.monitor).collect();
    let health = caller.publisher().health();
    let said = monitors.into_iter().filter_map(|id| {
        let monitor = caller.state().monitors().get(id)?;
        let sight = health.view(id).pops.into_iter().find(|sight| sight.pop == pop.id)?;
        let up = sight.said?.up?;
        Some(format!("{} is {}", monitor.name, if up { "up" } else { "down" }))
    });
    said.collect()
}
