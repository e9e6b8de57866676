//! The publisher: what every PoP must now serve, and what it has confirmed.
//!
//! There is no queue of changes a PoP. A session remembers the state that it last sent from; what the PoP is to be
//! sent is the difference between that and the newest one. A slow PoP is thus sent less often and more at once, and one
//! that is away costs no memory but an entry for each zone it lacks.

mod firewall;
mod geo;
mod past;
mod session;
mod shared;
mod sum;
mod tracker;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use herald_core::account::Principal;
use herald_core::geoip::GeoipDatabase;
use herald_core::state::State;
use herald_core::{PopId, ZoneId};
use herald_store::Store;
use herald_wire::api::{self, GeoipRolloutState, PopModule, PopRefusal, PopStatus, Wait};
use herald_wire::stream::{ApiListener, GeoDatabase, GeoStatus};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::AccessLog;
use crate::aliases::Desk as AliasDesk;
use crate::clock;
use crate::engine::Engine;
use crate::firewall::Firewalls;
use crate::geoip::Places;
use crate::health::Desk;
use geo::Stage;
pub use geo::{Rollout, TableFile};
pub use session::{Next, Session, SessionError};
use shared::PopLive;
pub use shared::Shared;
pub use tracker::{ChangeFacts, PopSyncState, ReceiptPop, ReceiptZone, Tracker};
use tracker::{HeldZone, published_zones, receipt_zones};

/// How many held zones of a PoP are shown.
const HELD_SHOWN: usize = 100;

/// A handle on the publisher. Clones are handles on the same one.
#[derive(Clone)]
pub struct Publisher {
    engine: Engine,
    shared: Arc<Shared>,
    access_log: Option<AccessLog>,
    places: Places,
    firewalls: Firewalls,
}

/// The receipt of a change.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Its revision.
    pub revision: u64,
    /// When it was accepted, in ms since the epoch.
    pub accepted_at_ms: u64,
    /// Who.
    pub principal: Principal,
    /// Why.
    pub message: Option<String>,
    /// The zones it touched.
    pub zones: Vec<ReceiptZone>,
    /// How it stands at each PoP.
    pub pops: Vec<ReceiptPop>,
}

/// How a PoP stands.
#[derive(Clone, Debug, Default)]
pub struct PopView {
    /// Whether its session is up.
    pub connected: bool,
    /// Zones with changes that it has not confirmed; all of them before its first contact.
    pub zones_pending: u64,
    /// Zones it has as they are to be.
    pub zones_in_sync: u64,
    /// What is held back from it.
    pub held: Option<api::PopHeld>,
    /// Zones that it did not hold as it should.
    pub drift: api::PopDrift,
    /// What it last said of itself.
    pub status: Option<PopStatus>,
}

impl Publisher {
    /// A publisher of what this engine decides; `shared` is the one whose [`Shared::on_commit`] the engine calls.
    pub fn new(engine: Engine, shared: Arc<Shared>) -> Publisher {
        let places = Places::new(engine.clone(), Arc::clone(&shared));
        let firewalls = Firewalls::new(engine.clone(), Arc::clone(&shared));
        Publisher { engine, shared, access_log: None, places, firewalls }
    }

    /// The same, noting who logs in as a PoP.
    pub fn noting_logins(self, access_log: AccessLog) -> Publisher {
        Publisher { access_log: Some(access_log), ..self }
    }

    /// The same, telling PoPs where the HTTP API listens.
    pub fn telling_api(self, api: ApiListener) -> Publisher {
        self.shared.set_api(api);
        self
    }

    /// What PoPs see of monitors.
    pub fn health(&self) -> &Desk {
        self.shared.health()
    }

    /// What PoPs find of targets of ALIAS records.
    pub fn aliases(&self) -> &AliasDesk {
        self.shared.aliases()
    }

    /// The GeoIP databases and the table made of them.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The firewall.
    pub fn firewalls(&self) -> &Firewalls {
        &self.firewalls
    }

    /// The GeoIP databases, how far their table has got, and what the operator should know. Blocking.
    pub fn geoip_view(&self) -> api::Geoip {
        let state = self.engine.state();
        let table = state.geoip();
        let wanted = table.map(|table| &table.sha256[..]).unwrap_or_default();
        let pops = state.pops().filter_map(|pop| {
            let said = self.shared.with_pop(pop.id, |live| live.told.as_ref()?.status.geo.clone())??;
            let (in_sync, geoip) = (said.hash == wanted, pop_geoip(&said));
            Some(api::GeoipPop { pop: pop.name.clone(), in_sync, geoip })
        });
        let zones = self.places.zones_with_geo_rules();
        let database = |database: &GeoipDatabase| geoip_database(&database.kind, database.built_s);
        api::Geoip {
            city: table.and_then(|table| table.city.as_ref()).map(database),
            asn: table.and_then(|table| table.asn.as_ref()).map(database),
            sha256: table.map(|table| hexadecimal(&table.sha256)),
            bytes: table.map_or(0, |table| table.bytes),
            rollout: rollout_view(self.shared.rollout(), &state, table.is_some()),
            pops: pops.collect(),
            zones_with_geo_rules: zones as u64,
            notices: self.places.notices(zones),
        }
    }

    /// Accepts PoPs until `shutdown`, and then ends their sessions.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        shutdown: CancellationToken,
    ) {
        let sessions = TaskTracker::new();
        let tls = tls.map(tokio_rustls::TlsAcceptor::from);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, address)) => {
                    let session = session::io::Accepted {
                        publisher: self.clone(),
                        address,
                        shutdown: shutdown.child_token(),
                    };
                    sessions.spawn(session.run(stream, tls.clone()));
                }
                Err(e) => {
                    tracing::warn!("a PoP could not be accepted: {e}");
                    // Most likely out of file descriptors: let some be closed first.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
        sessions.close();
        sessions.wait().await;
    }

    /// The receipt of a change, if there is such a revision.
    pub async fn receipt(&self, revision: u64) -> Option<Receipt> {
        let facts = self.facts(revision).await?;
        let pops = self.shared.tracker().pops(&self.engine.state(), revision, &facts.published);
        let ChangeFacts { accepted_at_ms, principal, message, zones, .. } = facts;
        Some(Receipt { revision, accepted_at_ms, principal, message, zones, pops })
    }

    /// Waits until all, or a majority, of the PoPs that are waited for have confirmed a change; `false` if the deadline
    /// passed first or there is no such change.
    pub async fn wait(&self, revision: u64, wait: Wait, deadline: tokio::time::Instant) -> bool {
        let Some(facts) = self.facts(revision).await else { return false };
        let stands = || self.shared.tracker().pops(&self.engine.state(), revision, &facts.published);
        self.shared.tracker().wait(wait, deadline, stands).await
    }

    /// Whether a session of a PoP is up.
    pub fn is_connected(&self, pop: PopId) -> bool {
        self.shared.with_pop(pop, PopLive::is_connected).unwrap_or(false)
    }

    /// How a PoP stands.
    pub fn pop_view(&self, pop: PopId) -> PopView {
        let tracker = self.shared.tracker();
        let served = tracker.zones_served();
        let zones_pending = tracker.zones_pending(pop).unwrap_or(served);
        let live =
            self.shared.with_pop(pop, |live| (live.is_connected(), pop_status(live), live.drift.shown()));
        let (connected, status, drift) = live.unwrap_or_default();
        let (held_count, first) = tracker.zones_held(pop, HELD_SHOWN);
        let shrunk = first.iter().filter(|(_, held)| !held.is_lost).count() as u64;
        let zones_in_sync = served.saturating_sub(zones_pending + shrunk);
        let held = self.held_view(pop, held_count, &first);
        PopView { connected, zones_pending, zones_in_sync, held, drift, status }
    }

    fn held_view(&self, pop: PopId, zones: u64, first: &[(ZoneId, HeldZone)]) -> Option<api::PopHeld> {
        let on_log = self.engine.state().pop(pop).and_then(|pop| pop.held);
        let since_ms = match on_log {
            Some(held) => held.since_ms,
            None => clock::uptime_ms(first.iter().map(|(_, held)| held.since).min()?),
        };
        let reason = match on_log {
            Some(held) => format!(
                "{} of its {} zones would have been gone within an hour",
                held.zones_lost, held.zones_before
            ),
            None if first.iter().any(|(_, held)| held.is_lost) => {
                "too many of its zones would have been gone within an hour".into()
            }
            None => "much of these zones would have been gone on nobody's word".into(),
        };
        let shown = |(zone, held): &(ZoneId, HeldZone)| api::HeldZone {
            zone: zone.to_string(),
            name: held.name.as_ref().map(ToString::to_string),
            why: if held.is_lost { api::HeldWhy::Gone } else { api::HeldWhy::Shrunk },
        };
        Some(api::PopHeld { zones, since_ms, reason, first: first.iter().map(shown).collect() })
    }

    /// Appends metrics in Prometheus' text format.
    pub fn metrics(&self, out: &mut String) {
        let counters = &self.shared.counters;
        let mut counter = |name: &str, help: &str, kind: &str, value: &AtomicU64| {
            let value = value.load(Ordering::Relaxed);
            _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        counter("herald_pop_sessions", "PoP sessions that are up.", "gauge", &counters.sessions);
        counter("herald_pop_deltas_total", "Deltas sent to PoPs.", "counter", &counters.deltas);
        counter(
            "herald_pop_whole_zones_total",
            "Whole zones sent to PoPs.",
            "counter",
            &counters.whole_zones,
        );
        counter("herald_pop_sent_bytes_total", "Bytes sent to PoPs.", "counter", &counters.sent_bytes);
        counter("herald_pop_refused_total", "Publications that PoPs refused.", "counter", &counters.refused);
        let state = self.engine.state();
        self.shared.health().metrics(&state, out);
        self.shared.aliases().metrics(&state, out);
        let mut by_pop = |name: &str, help: &str, kind: &str, value: &dyn Fn(PopId) -> Option<u64>| {
            _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for pop in state.pops() {
                if let Some(value) = value(pop.id) {
                    _ = writeln!(out, "{name}{{pop=\"{}\"}} {value}", pop.name);
                }
            }
        };
        let (tracker, shared) = (self.shared.tracker(), &self.shared);
        by_pop("herald_pop_zones_pending", "Zones that a PoP has yet to confirm.", "gauge", &|pop| {
            tracker.zones_pending(pop)
        });
        let help = "Zones that the emptiness brake holds back from a PoP.";
        by_pop("herald_pop_zones_held", help, "gauge", &|pop| {
            tracker.zones_pending(pop).map(|_| tracker.zones_held(pop, 0).0)
        });
        let help = "Whether the emptiness brake lets no loss of a zone through to a PoP.";
        by_pop("herald_pop_brake_set", help, "gauge", &|pop| {
            state.pop(pop).map(|pop| u64::from(pop.held.is_some()))
        });
        let help = "Zones that a PoP turned out not to hold as it should.";
        by_pop("herald_pop_drift_found_total", help, "counter", &|pop| {
            shared.with_pop(pop, |live| live.drift.found)
        });
        by_pop("herald_pop_drift_mended_total", "Of these, those that were mended.", "counter", &|pop| {
            shared.with_pop(pop, |live| live.drift.mended)
        });
        let help = "Whether a PoP steers by the present table of places.";
        let wanted = state.geoip().map(|table| table.sha256.to_vec()).unwrap_or_default();
        by_pop("herald_pop_geoip_in_sync", help, "gauge", &|pop| {
            let said = shared.with_pop(pop, |live| live.told.as_ref()?.status.geo.clone())??;
            Some(u64::from(said.hash == wanted))
        });
        let help = "Whether the roll-out of the table of places stopped at a PoP.";
        by_pop("herald_pop_geoip_stopped", help, "gauge", &|pop| match shared.rollout().stage() {
            Stage::Stopped { pop: by, .. } => Some(u64::from(by == pop)),
            _ => Some(0),
        });
        let help = "Whether a PoP decides by the present rules and policy zones of the firewall.";
        by_pop("herald_pop_firewall_in_sync", help, "gauge", &|pop| {
            self.firewall_of(pop).map(|said| u64::from(self.has_firewall(&said)))
        });
        let help = "When drift was last found at a PoP, in seconds since the epoch.";
        by_pop("herald_pop_drift_last_seconds", help, "gauge", &|pop| {
            shared.with_pop(pop, |live| live.drift.shown().last_ms)?.map(|last_ms| last_ms / 1000)
        });
    }

    /// The facts of a change: recent ones are at hand, others are read from the log.
    async fn facts(&self, revision: u64) -> Option<ChangeFacts> {
        if let Some(facts) = self.shared.tracker().recent(revision) {
            return Some(facts);
        }
        let (store, state) = (Arc::clone(self.engine.store()), self.engine.state());
        let read = tokio::task::spawn_blocking(move || read_facts(&*store, &state, revision));
        read.await.ok().flatten()
    }
}

fn read_facts(store: &dyn Store, state: &State, revision: u64) -> Option<ChangeFacts> {
    let after = revision.checked_sub(1)?;
    // One whose payload was erased is as good as gone.
    let entry = store.read(after, 1, 1).ok()?.into_iter().next().filter(|entry| !entry.payload.is_empty())?;
    let envelope: herald_core::log::Envelope = minicbor::decode(&entry.envelope).ok()?;
    let (_, changes, _) = crate::engine::open_entry(store, &envelope.previous_hash, &entry)
        .inspect_err(|e| tracing::error!("{e}"))
        .ok()?;
    Some(ChangeFacts {
        revision,
        accepted_at_ms: envelope.time_ms,
        principal: envelope.principal,
        message: envelope.message,
        // What a zone was called that is gone is not known any more.
        zones: receipt_zones(&State::default(), state, &changes),
        published: published_zones(&changes).collect(),
    })
}

fn pop_status(live: &PopLive) -> Option<PopStatus> {
    let told = live.told.as_ref()?;
    let refusal =
        |(zone, reason): &(ZoneId, String)| PopRefusal { zone: zone.to_string(), reason: reason.clone() };
    Some(PopStatus {
        agent_version: told.agent_version.clone(),
        knot_version: told.status.knot_version.clone(),
        knot_running: told.status.knot_running,
        zones: told.status.zones,
        epoch: told.status.newest.epoch,
        counter: told.status.newest.counter,
        address: told.address.clone(),
        heard_at_ms: clock::uptime_ms(told.at),
        refused: live.refused.iter().map(refusal).collect(),
        module: told.status.module.as_ref().map(|module| PopModule {
            connected: module.connected,
            version: module.version.clone(),
            zones: module.zones,
            panics: module.panics,
            undecided: module.undecided,
            geo: module.geo.clone(),
        }),
        geoip: told.status.geo.as_ref().map(pop_geoip),
    })
}

/// How far a file has got; `is_wanted`: the log says that there is one.
fn rollout_view(rollout: &Rollout, state: &State, is_wanted: bool) -> api::GeoipRollout {
    let name = |pop: PopId| state.pop(pop).map_or_else(|| pop.to_string(), |pop| pop.name.clone());
    let (stage, pop, problem) = match rollout.stage() {
        Stage::First(pop) => (GeoipRolloutState::FirstPop, pop, None),
        Stage::All => (GeoipRolloutState::All, None, None),
        Stage::Stopped { pop, problem } => (GeoipRolloutState::Stopped, Some(pop), Some(problem)),
        Stage::Unknown if is_wanted => (GeoipRolloutState::FirstPop, None, None),
        Stage::Unknown | Stage::NoTable => (GeoipRolloutState::None, None, None),
    };
    api::GeoipRollout { state: stage, pop: pop.map(name), problem }
}

fn pop_geoip(said: &GeoStatus) -> api::PopGeoip {
    let database = |database: &GeoDatabase| geoip_database(&database.kind, database.built_s);
    api::PopGeoip {
        sha256: (!said.hash.is_empty()).then(|| hexadecimal(&said.hash)),
        city: said.city.as_ref().map(database),
        asn: said.asn.as_ref().map(database),
        problem: said.problem.as_ref().map(|problem| problem.reason.clone()),
    }
}

fn geoip_database(kind: &str, built_s: u64) -> api::GeoipDatabase {
    api::GeoipDatabase { kind: kind.to_owned(), built_at_ms: built_s.saturating_mul(1000) }
}

fn hexadecimal(octets: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(octets)
}

/// Zones by id that a PoP lacks, with the revision up to which it has them.
type Lacks = HashMap<ZoneId, u64>;

#[cfg(test)]
mod tests;
