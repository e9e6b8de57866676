//! A zone as it was: folded from its own entries.

use std::sync::Arc;
use std::time::Duration;

use herald_core::change::Change;
use herald_core::firewall::Firewall;
use herald_core::history::{ChangeKind, FoldPlan, ZoneFold};
use herald_core::log::{self, Envelope, LogError};
use herald_core::state::At;
use herald_core::zone::Zone;
use herald_core::{Generation, ZoneId};
use herald_store::{Checkpoint, Store, StoreError};

use super::HistoryError;
use crate::engine::{StoreChunks, firewall_of_base, zone_of_base};

/// For so long a zone of the past is kept at hand after it was put together: a list of its records is read page by page.
pub const RECENT_TIME: Duration = Duration::from_secs(60);

/// So many are kept at hand, and so many of their records in all; one may be larger than that.
const RECENT_ZONES: usize = 8;
const RECENT_RECORDS: u64 = 500_000;

/// The zone after the last of these entries, which are all of those after the horizon that touched it, in order.
pub fn fold(
    store: &dyn Store,
    zone: ZoneId,
    horizon: u64,
    touches: &[(u64, ChangeKind)],
) -> Result<Option<Arc<Zone>>, HistoryError> {
    let plan = FoldPlan::new(touches);
    let mut fold = ZoneFold::new(zone);
    if let Some(base) = base_at(store, horizon)?
        && let Some(zone) = zone_of_base(store, &base, zone).map_err(HistoryError::base)?
    {
        fold.restore(At { generation: Generation::default(), time_ms: 0 }, &zone);
    }
    for revision in plan.revisions {
        let (at, changes) = changes_of(store, revision, revision >= plan.content_from)?;
        changes.iter().for_each(|change| fold.apply(at, change));
    }
    Ok(fold.zone())
}

/// The firewall after the last of these entries, which are all of those after the horizon that touched what is of one owner, in order:
/// what is of others isn't told.
pub fn fold_firewall(store: &dyn Store, horizon: u64, touches: &[u64]) -> Result<Firewall, HistoryError> {
    let mut firewall = match base_at(store, horizon)? {
        Some(base) => firewall_of_base(store, &base).map_err(HistoryError::base)?,
        None => Firewall::default(),
    };
    for revision in touches {
        let (_, changes) = changes_of(store, *revision, false)?;
        changes.iter().for_each(|change| firewall.apply(*revision, change));
    }
    Ok(firewall)
}

/// The base at the horizon, if there is one. Compaction may have gone on meanwhile.
fn base_at(store: &dyn Store, horizon: u64) -> Result<Option<Checkpoint>, HistoryError> {
    match store.base()? {
        Some(base) if base.revision > horizon => Err(HistoryError::Erased { horizon: base.revision }),
        base => Ok(base.filter(|base| base.revision == horizon)),
    }
}

/// The changes of an entry, with the content that they bring or without.
fn changes_of(
    store: &dyn Store,
    revision: u64,
    with_content: bool,
) -> Result<(At, Vec<Change>), HistoryError> {
    let entry = store.read(revision - 1, 1, 0)?.into_iter().next();
    let entry = entry.filter(|entry| entry.revision == revision);
    let entry = entry.ok_or_else(|| StoreError::Damaged { what: format!("entry {revision} is missing") })?;
    if entry.payload.is_empty() {
        return Err(HistoryError::Erased { horizon: store.base()?.map_or(0, |base| base.revision) });
    }
    let malformed = |source| LogError::Malformed { revision, source };
    let envelope: Envelope = minicbor::decode(&entry.envelope).map_err(malformed)?;
    let (envelope, _) = log::open(revision, &envelope.previous_hash, &entry.envelope, &entry.payload)?;
    let changes = if with_content {
        log::decode_payload(&entry.payload, &mut StoreChunks(store))
    } else {
        log::decode_outline(&entry.payload, &StoreChunks(store))
    };
    Ok((envelope.at(), changes.map_err(malformed)?))
}

/// Zones of the past that were asked for lately, oldest first.
#[derive(Default)]
pub struct Recent(Vec<(ZoneId, u64, Arc<Zone>)>);

impl Recent {
    /// The zone right after the entry that touched it last.
    pub fn get(&self, zone: ZoneId, revision: u64) -> Option<Arc<Zone>> {
        let found = self.0.iter().find(|(id, at, _)| (*id, *at) == (zone, revision));
        found.map(|(_, _, zone)| Arc::clone(zone))
    }

    /// Keeps it, and drops the oldest if there are too many.
    pub fn put(&mut self, id: ZoneId, revision: u64, zone: Arc<Zone>) {
        self.forget(id, revision);
        self.0.push((id, revision, zone));
        let records = |recent: &Recent| -> u64 {
            recent.0.iter().map(|(_, _, zone)| zone.content.record_count()).sum()
        };
        while self.0.len() > RECENT_ZONES || self.0.len() > 1 && records(self) > RECENT_RECORDS {
            self.0.remove(0);
        }
    }

    /// Drops it.
    pub fn forget(&mut self, zone: ZoneId, revision: u64) {
        self.0.retain(|(id, at, _)| (*id, *at) != (zone, revision));
    }
}
