//! Propagation as DNS itself has it: PowerDNS' API → NOTIFY → IXFR → Knot secondaries.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::delay::DelayProxy;
use crate::knot::Knot;
use crate::loopback;
use crate::powerdns::PowerDns;

/// How long the first transfers may take.
const TRANSFERRED_WITHIN: Duration = Duration::from_secs(120);

/// A PowerDNS and the Knots that follow it.
#[derive(Debug)]
pub struct Chain {
    /// The primary.
    pub primary: PowerDns,
    /// The secondaries, in sync when the chain stands.
    pub secondaries: Vec<Knot>,
    // Carries the last secondary's transfers, if it is far away.
    _far: Option<DelayProxy>,
}

impl Chain {
    /// Sets up a primary with `zones` (names and A records) and `secondaries` secondaries. With `far`, the last one's
    /// transfers take this long each way; its NOTIFYs don't, in the chain's favour.
    ///
    /// # Panics
    /// If it doesn't come to stand.
    pub fn start(
        folder: &Path,
        zones: &[(String, Vec<(String, String)>)],
        secondaries: usize,
        far: Option<Duration>,
    ) -> Self {
        let primary_listen = loopback::free_endpoint();
        let listens: Vec<SocketAddr> = (0..secondaries).map(|_| loopback::free_endpoint()).collect();
        let primary = PowerDns::start(folder, primary_listen, &listens, &[]);
        for (zone, records) in zones {
            primary.create_zone(zone, records);
        }
        let names: Vec<String> = zones.iter().map(|(zone, _)| zone.clone()).collect();
        let far = far.map(|one_way| DelayProxy::start(primary_listen, one_way));
        let secondaries: Vec<Knot> = listens
            .iter()
            .enumerate()
            .map(|(index, listen)| {
                let proxy = far.as_ref().filter(|_| index + 1 == secondaries);
                let primary = proxy.map_or(primary_listen, |proxy| proxy.listen);
                Knot::secondary(folder, &format!("secondary{index}"), *listen, primary, &names)
            })
            .collect();
        for secondary in &secondaries {
            secondary.wait_for_zones(&names, TRANSFERRED_WITHIN);
        }
        Self { primary, secondaries, _far: far }
    }
}
