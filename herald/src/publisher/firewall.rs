//! The firewall at PoPs: how far its files have got, and what they counted.

use std::time::Duration;

use herald_core::PopId;
use herald_core::firewall::{FirewallCount, FirewallPart};
use herald_wire::api::Wait;
use herald_wire::api::firewall::{FirewallFile, FirewallPop};
use herald_wire::stream::FirewallFiles;
use tokio::time::Instant;

use super::{Publisher, hexadecimal, rollout_view};

/// How often it is looked whether PoPs have the firewall: they say so once a second.
const LOOK: Duration = Duration::from_millis(50);

impl Publisher {
    /// The firewall's files: how far they have got, and what PoPs say of them.
    pub fn firewall_files(&self) -> Vec<FirewallFile> {
        FirewallPart::ALL.map(|part| self.firewall_file(part)).into()
    }

    fn firewall_file(&self, part: FirewallPart) -> FirewallFile {
        let state = self.engine.state();
        let rollout = self.shared.rollout_of(Some(part));
        let table = rollout.table();
        let wanted = table.as_ref().map(|table| &table.sha256[..]).unwrap_or_default();
        let pops = state.pops().filter_map(|pop| {
            let said = self.firewall_of(pop.id)?;
            let in_use = said.in_use(part);
            Some(FirewallPop {
                pop: pop.name.clone(),
                sha256: Some(in_use).filter(|hash| !hash.is_empty()).map(hexadecimal),
                in_sync: in_use == wanted,
                problem: said.part(part).problem.as_ref().map(|problem| problem.reason.clone()),
            })
        });
        FirewallFile {
            part: match part {
                FirewallPart::Rules => "rules".into(),
                FirewallPart::Policies => "policy_zones".into(),
            },
            bytes: table.as_ref().map_or(0, |table| table.bytes.len() as u64),
            sha256: table.as_ref().map(|table| hexadecimal(&table.sha256)),
            rollout: rollout_view(rollout, &state, table.is_some()),
            pops: pops.collect(),
        }
    }

    /// Waits until as many PoPs decide by the firewall as it is now; `false` if the time passed.
    pub async fn wait_for_firewall(&self, wait: Wait, deadline: Instant) -> bool {
        loop {
            let state = self.engine.state();
            let waited: Vec<PopId> =
                state.pops().filter(|pop| pop.enabled && !pop.drained).map(|pop| pop.id).collect();
            let has_it = |pop: &&PopId| self.firewall_of(**pop).is_some_and(|said| self.has_firewall(&said));
            let in_sync = waited.iter().filter(has_it).count();
            let is_enough = match wait {
                Wait::All => in_sync == waited.len(),
                Wait::Quorum => waited.is_empty() || in_sync > waited.len() / 2,
            };
            if is_enough || Instant::now() >= deadline {
                return is_enough;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How often rules and policy zones were for queries, at each PoP since its knotd started.
    pub fn firewall_counts(&self) -> Vec<(String, FirewallCount)> {
        let state = self.engine.state();
        let mut counts = Vec::new();
        for pop in state.pops() {
            let of_it = self.firewall_of(pop.id).map(|said| said.counts).unwrap_or_default();
            counts.extend(of_it.into_iter().map(|count| (pop.name.clone(), count)));
        }
        counts
    }

    /// What a PoP says of its firewall.
    pub(super) fn firewall_of(&self, pop: PopId) -> Option<FirewallFiles> {
        self.shared.with_pop(pop, |live| live.told.as_ref()?.status.firewall.clone())?
    }

    /// Whether these are the files that it should have.
    pub(super) fn has_firewall(&self, said: &FirewallFiles) -> bool {
        FirewallPart::ALL.into_iter().all(|part| {
            let table = self.shared.rollout_of(Some(part)).table();
            said.in_use(part) == table.as_ref().map(|table| &table.sha256[..]).unwrap_or_default()
        })
    }
}
