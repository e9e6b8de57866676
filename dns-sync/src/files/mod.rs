//! All files that the control plane has this PoP fetch.

pub mod keeper;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herald_core::firewall::{FirewallCount, FirewallPart};
use herald_wire::stream::{FirewallFiles, GeoStatus, ToHerald, ToPop};
use steering::link::{FirewallHashes, ToAgent};
use tokio::sync::mpsc::WeakUnboundedSender;

use self::keeper::{FileKeeper, dir, firewall_dir};
use crate::knot::driver::Report;

/// Who keeps them. Clones are handles on the same.
#[derive(Clone)]
pub struct Files {
    /// The table of places.
    pub geo: FileKeeper,
    /// The firewall's rules.
    pub rules: FileKeeper,
    /// The firewall's policy zones.
    pub policies: FileKeeper,
    /// What the module has of the firewall.
    in_use: Arc<Mutex<FirewallHashes>>,
}

impl Files {
    /// Reads what is in this data folder, and keeps it up to date from then on.
    ///
    /// # Errors
    /// If a directory or a thread can't be made.
    pub fn start(data: &Path) -> io::Result<Files> {
        let part = |part| FileKeeper::start_of(Some(part), firewall_dir(data, part));
        Ok(Files {
            geo: FileKeeper::start(dir(data))?,
            rules: part(FirewallPart::Rules)?,
            policies: part(FirewallPart::Policies)?,
            in_use: Arc::default(),
        })
    }

    /// Who keeps a part of the firewall.
    pub fn firewall(&self, part: FirewallPart) -> &FileKeeper {
        match part {
            FirewallPart::Rules => &self.rules,
            FirewallPart::Policies => &self.policies,
        }
    }

    fn all(&self) -> [&FileKeeper; 3] {
        [&self.geo, &self.rules, &self.policies]
    }

    /// What of them can't be used, and why.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.all().into_iter().filter_map(|keeper| Some(keeper.status().problem?.reason))
    }

    /// What is told to the control plane of the table of places.
    pub fn geo_status(&self) -> GeoStatus {
        self.geo.status()
    }

    /// What is told of the firewall, with what it has counted.
    pub fn firewall_status(&self, counts: Vec<FirewallCount>) -> FirewallFiles {
        let FirewallHashes { rules, policies } = self.in_use().clone();
        FirewallFiles {
            rules: self.rules.status(),
            policies: self.policies.status(),
            counts,
            rules_in_use: rules,
            policies_in_use: policies,
        }
    }

    /// The module says something that may be about them.
    pub(crate) fn module_reports(&self, report: &Report) {
        match report {
            Report::ModuleUp { firewall, .. } => *self.in_use() = firewall.clone().unwrap_or_default(),
            Report::ModuleDown { .. } => *self.in_use() = FirewallHashes::default(),
            Report::ModuleSaid(ToAgent::GeoLoaded { hash, problem }) => {
                self.geo.module_says(hash, problem.clone());
            }
            Report::ModuleSaid(ToAgent::FirewallLoaded { part, hash, problem }) => {
                self.firewall(*part).module_says(hash, problem.clone());
                if problem.is_none() {
                    self.in_use().part_mut(*part).clone_from(hash);
                }
            }
            _ => {}
        }
    }

    fn in_use(&self) -> MutexGuard<'_, FirewallHashes> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session stands.
    pub(crate) fn opened(&self, outbox: &WeakUnboundedSender<ToHerald>) {
        self.all().into_iter().for_each(|keeper| keeper.opened(outbox.clone()));
    }

    /// It is over.
    pub(crate) fn closed(&self) {
        self.all().into_iter().for_each(FileKeeper::closed);
    }

    /// Takes a frame if it is about one of them, and gives back any other.
    pub(crate) fn take(&self, frame: ToPop) -> Option<ToPop> {
        self.all().into_iter().try_fold(frame, |frame, keeper| keeper.take(frame))
    }
}
