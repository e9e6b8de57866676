//! The firewall: what the log says of rules and policy zones becomes two files, which PoPs get in waves.
//!
//! ```text
//! rules ───────┐ on the log ──▶ this follows it ──▶ a file of rules ──────────┐
//! policy zones ┴ chunks of the store ─────────────▶ a file of policy zones ───┴▶ publisher ──▶ PoPs
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use herald_core::Name;
use herald_core::TenantId;
use herald_core::change::ChunkAddress;
use herald_core::firewall::{FirewallPart, Owner, PolicyZone, Rule};
use herald_core::state::State;
use herald_core::zonefile::ZoneFileErrors;
use sha2::{Digest, Sha256};
use steering::firewall::{Policies, PoliciesFile, Rules, RulesFile, TenantRules, read_rpz};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, SubmitError};
use crate::publisher::{Shared, TableFile};

/// The largest zone file of a policy zone that is taken, decompressed, in bytes.
pub const POLICY_ZONE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Files are made at most that often, so that many changes in a row are sent once.
const PACE: Duration = Duration::from_millis(200);

/// How long after policy zones could not be read they are tried again.
const RETRY: Duration = Duration::from_secs(10);

/// A handle. Clones are handles on the same one.
#[derive(Clone)]
pub struct Firewalls(Arc<Inner>);

struct Inner {
    engine: Engine,
    shared: Arc<Shared>,
    compiled: ArcSwap<Compiled>,
    /// The state that this was made from; none before the first time.
    made: Mutex<Option<Arc<State>>>,
    /// One policy zone is put at a time.
    uploading: tokio::sync::Mutex<()>,
}

/// Rules and policy zones, as PoPs decide by them.
#[derive(Default)]
pub struct Compiled {
    /// Rules, if there are any.
    pub rules: Option<Arc<Rules>>,
    /// Policy zones, if there are any.
    pub policies: Option<Arc<Policies>>,
}

/// A policy zone that was read and staged.
pub struct Staged {
    /// What the log is to say.
    pub zone: PolicyZone,
    /// What was left out, by kind of trigger.
    pub not_applying: BTreeMap<&'static str, u64>,
}

/// Why a policy zone isn't taken.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It can't be read.
    #[error("the policy zone can't be read")]
    File(ZoneFileErrors),
    /// The store.
    #[error(transparent)]
    Store(#[from] SubmitError),
}

impl Firewalls {
    /// The firewall of this engine, told to who shares this.
    pub fn new(engine: Engine, shared: Arc<Shared>) -> Firewalls {
        Firewalls(Arc::new(Inner {
            engine,
            shared,
            compiled: ArcSwap::default(),
            made: Mutex::default(),
            uploading: tokio::sync::Mutex::default(),
        }))
    }

    /// What PoPs are to decide by.
    pub fn compiled(&self) -> Arc<Compiled> {
        self.0.compiled.load_full()
    }

    /// Held by who puts a policy zone, from reading it to its being on the log.
    pub async fn uploading(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.uploading.lock().await
    }

    /// Reads a policy zone and puts its rules into the store. Blocking.
    ///
    /// # Errors
    /// [`StageError`]: nothing changed.
    pub fn stage(&self, name: &str, order: u32, origin: &Name, text: &[u8]) -> Result<Staged, StageError> {
        let rpz = read_rpz(text, origin).map_err(StageError::File)?;
        let chunks = self.0.engine.stage_table(&rpz.body)?;
        let zone = PolicyZone {
            name: name.to_owned(),
            order,
            sha256: Sha256::digest(&rpz.body).into(),
            bytes: rpz.body.len() as u64,
            chunks,
            names: rpz.names,
            clients: rpz.clients,
            not_applying: rpz.not_applying.values().sum(),
            serial: rpz.serial,
        };
        Ok(Staged { zone, not_applying: rpz.not_applying })
    }

    /// These chunks may be named by no policy zone any more: then they may go.
    pub fn forget(&self, chunks: &[ChunkAddress]) {
        let state = self.0.engine.state();
        let is_named =
            |chunk: &ChunkAddress| state.firewall().zones().any(|zone| zone.chunks.contains(chunk));
        let gone: Vec<ChunkAddress> = chunks.iter().copied().filter(|chunk| !is_named(chunk)).collect();
        self.0.engine.forget_table(&gone);
    }

    /// Begins the roll-out of what there is anew.
    pub fn roll_out_again(&self) {
        for part in FirewallPart::ALL {
            let rollout = self.0.shared.rollout_of(Some(part));
            rollout.begin(rollout.table());
        }
    }

    /// Makes the files of what the log says now, where that isn't what they were made of. Blocking.
    ///
    /// # Errors
    /// If the store can't be read, or hasn't got a policy zone.
    pub fn make(&self) -> Result<(), SubmitError> {
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.0.engine.state();
        let before = made.as_deref();
        let old = self.0.compiled.load_full();
        let rules = match before {
            Some(before) if is_same_rules(before, &now) => old.rules.clone(),
            _ => self.make_rules(&now),
        };
        let policies = match before {
            Some(before) if now.firewall().has_zones_of(before.firewall()) => old.policies.clone(),
            _ => self.make_policies(&now)?,
        };
        self.0.compiled.store(Arc::new(Compiled { rules, policies }));
        *made = Some(now);
        Ok(())
    }

    fn make_rules(&self, state: &State) -> Option<Arc<Rules>> {
        let file = rules_file(state);
        if file.fleet.is_empty() && file.tenants.is_empty() {
            self.roll_out(FirewallPart::Rules, None);
            return None;
        }
        match Rules::compile(&file) {
            Ok(rules) => {
                self.roll_out(FirewallPart::Rules, Some(file.write()));
                Some(Arc::new(rules))
            }
            Err(error) => {
                // PoPs keep what they have.
                tracing::error!("the firewall's rules can't be used: {error}");
                self.0.compiled.load().rules.clone()
            }
        }
    }

    fn make_policies(&self, state: &State) -> Result<Option<Arc<Policies>>, SubmitError> {
        let mut file = PoliciesFile::default();
        for zone in state.firewall().zones() {
            file.zones.push((zone.name.clone(), self.body(zone)?));
        }
        if file.zones.is_empty() {
            self.roll_out(FirewallPart::Policies, None);
            return Ok(None);
        }
        let file = file.write();
        let policies = Policies::read(&file).map_err(|e| SubmitError::Unavailable(e.to_string()))?;
        self.roll_out(FirewallPart::Policies, Some(file));
        Ok(Some(Arc::new(policies)))
    }

    /// The rules of a policy zone, in the form that PoPs use. Blocking.
    ///
    /// # Errors
    /// If the store can't be read, or hasn't got it.
    pub fn body(&self, zone: &PolicyZone) -> Result<Vec<u8>, SubmitError> {
        let unusable = |why: &str| {
            let name = &zone.name;
            SubmitError::Unavailable(format!("the policy zone {name} can't be read from the store: {why}"))
        };
        let body = self.0.engine.table(&zone.chunks).map_err(|e| unusable(&e.to_string()))?;
        let body = body.ok_or_else(|| unusable("a part of it is missing"))?;
        if Sha256::digest(&body)[..] != zone.sha256 {
            return Err(unusable("it isn't what was written"));
        }
        Ok(body)
    }

    /// Has PoPs get a file, unless it is the one that they are getting.
    fn roll_out(&self, part: FirewallPart, file: Option<Vec<u8>>) {
        let file = file.map(|bytes| Arc::new(TableFile { sha256: Sha256::digest(&bytes).into(), bytes }));
        let rollout = self.0.shared.rollout_of(Some(part));
        let sha256 = |file: &Option<Arc<TableFile>>| file.as_ref().map(|file| file.sha256);
        if !rollout.is_known() || sha256(&rollout.table()) != sha256(&file) {
            rollout.begin(file);
        }
    }

    /// Follows the log until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut revision = self.0.engine.revision();
        loop {
            revision.mark_unchanged();
            let this = self.clone();
            let is_made = match tokio::task::spawn_blocking(move || this.make()).await {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::error!("{error}");
                    false
                }
                Err(_) => false,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(if is_made { PACE } else { RETRY }) => {}
            }
            if is_made {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = revision.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}

/// Whether the file of rules is the same in both: rules, and the zones of the tenants that have some. Takes the time of what changed.
fn is_same_rules(before: &State, now: &State) -> bool {
    let firewall = now.firewall();
    firewall.has_rules_of(before.firewall())
        && !before.published_diff(now).any(|diff| {
            let zone = |zone: Option<&herald_core::state::Shared<herald_core::zone::Zone>>| {
                zone.map(|zone| (zone.tenant, zone.name.clone()))
            };
            let (old, new) = (zone(diff.old), zone(diff.new));
            let has_rules = |of: &Option<(TenantId, Name)>| {
                of.as_ref().is_some_and(|(tenant, _)| firewall.rules(Owner::Tenant(*tenant)).next().is_some())
            };
            old != new && (has_rules(&old) || has_rules(&new))
        })
}

/// All rules, and which zones those of tenants are for.
pub fn rules_file(state: &State) -> RulesFile {
    let mut file = RulesFile::default();
    let mut tenants: BTreeMap<TenantId, Vec<Rule>> = BTreeMap::new();
    for (owner, rule) in state.firewall().all_rules() {
        match owner {
            Owner::Fleet => file.fleet.push((**rule).clone()),
            Owner::Tenant(tenant) => tenants.entry(tenant).or_default().push((**rule).clone()),
        }
    }
    file.tenants = tenants
        .into_iter()
        .map(|(tenant, rules)| {
            let zones = state.tenant_zones(tenant, None).filter(|zone| zone.is_served());
            TenantRules { tenant, zones: zones.map(|zone| zone.name.clone()).collect(), rules }
        })
        .collect();
    file
}
