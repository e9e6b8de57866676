//! What the writer's thread, the sessions and the API share. It is memory alone: time is told to it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use herald_core::firewall::FirewallPart;
use herald_core::special::names_a_host;
use herald_core::state::State;
use herald_core::{PopId, ZoneId};
use herald_wire::api;
use herald_wire::stream::{AgentStatus, ApiListener, FirewallFiles, GeoStatus};
use tokio_util::sync::CancellationToken;

use super::geo::Rollout;
use super::tracker::Tracker;
use crate::aliases::Desk as AliasDesk;
use crate::clock;
use crate::engine::{Commit, OnCommit};
use crate::health::Desk;

/// How many refusals of a PoP are kept for the operator.
const REFUSALS_SHOWN: usize = 20;

/// See the module.
#[derive(Default)]
pub struct Shared {
    tracker: Tracker,
    rollout: Rollout,
    health: Desk,
    firewall_rules: Rollout,
    firewall_policies: Rollout,
    aliases: AliasDesk,
    pops: Mutex<HashMap<PopId, PopLive>>,
    pub(super) counters: Counters,
    api: OnceLock<ApiListener>,
}

/// What is known of a PoP beside its receipts.
#[derive(Default)]
pub(super) struct PopLive {
    /// Ends the session that is up, if one is.
    session: Option<CancellationToken>,
    pub told: Option<Told>,
    /// What it could not apply, and why.
    pub refused: Vec<(ZoneId, String)>,
    pub drift: Drift,
    /// Zones that it lost within the hour, and when: the emptiness brake counts them.
    pub lost: HashMap<ZoneId, Duration>,
}

/// What a PoP last said of itself.
#[derive(Clone)]
pub(super) struct Told {
    pub status: AgentStatus,
    pub agent_version: String,
    pub address: String,
    /// When, by [`clock::uptime`].
    pub at: Duration,
}

/// Zones that a PoP turned out not to hold as it should, since this control plane started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drift {
    pub found: u64,
    pub mended: u64,
    /// When drift was last found, by [`clock::uptime`].
    pub last: Option<Duration>,
}

#[derive(Default)]
pub(super) struct Counters {
    pub sessions: AtomicU64,
    pub deltas: AtomicU64,
    pub whole_zones: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub refused: AtomicU64,
}

impl Shared {
    /// What the engine is to call with each group.
    pub fn on_commit(self: &Arc<Shared>) -> OnCommit {
        let shared = Arc::clone(self);
        Box::new(move |after: &Arc<State>, commits: &[Commit]| {
            shared.tracker.committed(after, commits, clock::uptime());
        })
    }

    /// PoPs are told from now on that the HTTP API listens there.
    pub(super) fn set_api(&self, api: ApiListener) {
        // It is told once.
        let _ = self.api.set(api);
    }

    /// Where the HTTP API listens, once that is known.
    pub(super) fn api(&self) -> Option<ApiListener> {
        self.api.get().copied()
    }

    /// What every PoP has confirmed.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// How far the table of places has got.
    pub fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// What PoPs see of monitors, and which of them probe what.
    pub fn health(&self) -> &Desk {
        &self.health
    }

    /// How far a part of the firewall has got, or without a part the table of places.
    pub fn rollout_of(&self, part: Option<FirewallPart>) -> &Rollout {
        match part {
            None => &self.rollout,
            Some(FirewallPart::Rules) => &self.firewall_rules,
            Some(FirewallPart::Policies) => &self.firewall_policies,
        }
    }

    /// What a PoP says that it has of the table of places and of the firewall.
    pub(super) fn has_files(&self, pop: PopId, geo: Option<&GeoStatus>, firewall: Option<&FirewallFiles>) {
        if let Some(geo) = geo {
            self.rollout.told(pop, geo);
        }
        for part in FirewallPart::ALL {
            if let Some(firewall) = firewall {
                self.rollout_of(Some(part)).told(pop, firewall.part(part));
            }
        }
    }

    /// What PoPs find of targets of ALIAS records, and which of them resolve what.
    pub fn aliases(&self) -> &AliasDesk {
        &self.aliases
    }

    /// Addresses of the hosts of PoPs that are connected, by their own word and as their sessions are seen here. PoPs that don't tell
    /// aren't there.
    pub fn host_addresses(&self) -> Vec<(PopId, Vec<IpAddr>)> {
        let pops = self.lock();
        let connected = pops.iter().filter(|(_, live)| live.is_connected());
        let told = connected.filter_map(|(pop, live)| {
            let told = live.told.as_ref()?;
            let seen = told.address.parse().ok().map(|address: SocketAddr| address.ip().to_canonical());
            let seen = seen.filter(|address| names_a_host(*address));
            Some((*pop, told.status.addresses.iter().flatten().copied().chain(seen).collect()))
        });
        told.collect()
    }

    /// What is known of a PoP, if anything is.
    pub(super) fn with_pop<T>(&self, pop: PopId, look: impl FnOnce(&PopLive) -> T) -> Option<T> {
        self.lock().get(&pop).map(look)
    }

    /// Notes something of a PoP.
    pub(super) fn note(&self, pop: PopId, note: impl FnOnce(&mut PopLive)) {
        note(self.lock().entry(pop).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PopId, PopLive>> {
        self.pops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drift {
    pub(super) fn shown(&self) -> api::PopDrift {
        let Drift { found, mended, last } = *self;
        api::PopDrift { found, mended, last_ms: last.map(clock::uptime_ms) }
    }
}

impl PopLive {
    pub(super) fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn refuses(&mut self, zone: ZoneId, reason: String) {
        self.refused.retain(|(refused, _)| *refused != zone);
        self.refused.push((zone, reason));
        if self.refused.len() > REFUSALS_SHOWN {
            self.refused.remove(0);
        }
    }
}

/// A session is known to be up as long as this lives. A newer one of the same PoP takes its place.
pub(super) struct SessionUp {
    pub shared: Arc<Shared>,
    pub pop: PopId,
    pub number: u64,
    /// Cancelled when its place was taken.
    pub replaced: CancellationToken,
    /// Whether its end is told to those who go by what PoPs see.
    is_watched: bool,
}

impl SessionUp {
    pub(super) fn begin(shared: &Arc<Shared>, pop: PopId) -> SessionUp {
        let replaced = CancellationToken::new();
        let mut number = 0;
        shared.note(pop, |live| {
            number = shared.tracker.begin_session(pop);
            live.refused.clear();
            if let Some(previous) = live.session.replace(replaced.clone()) {
                previous.cancel();
            }
        });
        shared.counters.sessions.fetch_add(1, Ordering::Relaxed);
        SessionUp { shared: Arc::clone(shared), pop, number, replaced, is_watched: false }
    }

    /// What the PoP sees of monitors counts from here on, if it knows of them, and what it finds of targets, if it resolves them.
    pub(super) fn watch(&mut self, knows_monitors: bool, resolves: bool) {
        self.is_watched = true;
        self.shared.health.pop_up(self.pop, knows_monitors);
        self.shared.aliases.pop_up(self.pop, resolves);
    }
}

impl Drop for SessionUp {
    fn drop(&mut self) {
        self.shared.counters.sessions.fetch_sub(1, Ordering::Relaxed);
        if self.is_watched {
            let now = clock::uptime();
            self.shared.health.pop_down(self.pop, now);
            self.shared.aliases.pop_down(self.pop, now);
        }
        self.shared.note(self.pop, |live| {
            if !self.replaced.is_cancelled() {
                live.session = None;
            }
        });
    }
}
