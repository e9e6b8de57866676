//! All zones' steering, as the agent told of it, and how it gets to where queries read it.
//!
//! Messages change what is known here first. [`Store::publish`] then shows all of it to queries at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use herald_core::{Generation, Name, RrKey, Rrset, ZoneId};
use steering::link::{ModuleStatus, PROTOCOL, ToAgent, ToModule, ZoneHead};
use steering::{CompileError, Part};

use crate::knot::{self, Retired};
use crate::slot::{self, Slot, Soa, Steering, Version};
use crate::{PANICS, UNDECIDED, counts, firewall, health, places, private, queries};

/// Versions of a zone that may be prepared at a time. The agent has one on its way, and another while the first settles.
const PENDING_MAX: usize = 4;

/// Zones in one frame of the kind [`ToAgent::Hello`].
const HELLO_ZONES: usize = 4096;

/// What is known of all zones.
#[derive(Debug)]
pub struct Store {
    zones: BTreeMap<ZoneId, Zone>,
    /// Zones of which queries don't see yet what is known.
    changed: BTreeSet<ZoneId>,
    /// By name of the zones that knotd has: whose steering queries see.
    shown: BTreeMap<Name, Shown>,
    /// Whether a zone settled since queries were waited for.
    has_settled: bool,
    retired: Vec<Retired<Steering>>,
}

#[derive(Debug)]
struct Zone {
    slot: Arc<Slot>,
    is_private: bool,
    steering: Steering,
}

/// Whose steering queries see under a name: a zone may be deleted and made again, as another zone, and then both are known for a while.
#[derive(Clone, Copy, Debug)]
struct Shown {
    zone: ZoneId,
    /// Whose it was before.
    before: Option<ZoneId>,
}

/// A zone that is being told of, RRset by RRset.
#[derive(Debug)]
pub struct Begun {
    head: ZoneHead,
    rrsets: Vec<(RrKey, Rrset)>,
}

/// Zones that one connection, or the snapshot, is telling of.
#[derive(Debug, Default)]
pub struct Telling(BTreeMap<ZoneId, Begun>);

impl Telling {
    /// Whether a zone was begun and not ended.
    pub fn is_unfinished(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Why a zone isn't prepared.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Compile(#[from] CompileError),
    #[error("the zone wasn't begun")]
    NotBegun,
    #[error("there is nothing at the generation that the change starts from")]
    Base,
}

impl Store {
    /// Nothing is known.
    pub const fn new() -> Store {
        Store {
            zones: BTreeMap::new(),
            changed: BTreeSet::new(),
            shown: BTreeMap::new(),
            has_settled: false,
            retired: Vec::new(),
        }
    }

    /// What whoever connects is told.
    pub fn hello(&self) -> Vec<ToAgent> {
        let current =
            |(zone, known): (&ZoneId, &Zone)| Some((*zone, known.steering.current.as_ref()?.generation));
        let zones: Vec<_> = self.zones.iter().filter_map(current).collect();
        let mut chunks: Vec<Vec<_>> = zones.chunks(HELLO_ZONES).map(<[_]>::to_vec).collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        let last = chunks.len() - 1;
        let hello = |(place, zones)| ToAgent::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            zones,
            last: place == last,
            geo: places::hash(),
            counts: Some(true),
            firewall: Some(firewall::hashes()),
            knows_verdicts: true,
            logs_queries: true,
        };
        chunks.into_iter().enumerate().map(hello).collect()
    }

    /// Takes a message, and gives the answer to it, which may be sent once this is published.
    pub fn take(&mut self, message: ToModule, telling: &mut Telling) -> Option<ToAgent> {
        match message {
            ToModule::Begin(head) => {
                telling.0.insert(head.zone, Begun { head, rrsets: Vec::new() });
                None
            }
            ToModule::Part { zone, rrsets } => {
                // What belongs to no zone is refused with its end.
                if let Some(begun) = telling.0.get_mut(&zone) {
                    begun.rrsets.extend(rrsets);
                }
                None
            }
            ToModule::End { zone } => Some(match telling.0.remove(&zone) {
                Some(Begun { head, rrsets }) => {
                    let generation = head.generation;
                    let compiled = Part::compile(&head.name, rrsets);
                    prepared(
                        zone,
                        generation,
                        compiled.map_err(Refusal::from).map(|part| self.prepare(head, part)),
                    )
                }
                None => prepared(zone, Generation::default(), Err(Refusal::NotBegun)),
            }),
            ToModule::Delta { head, base, puts, deletes } => {
                let (zone, generation) = (head.zone, head.generation);
                let changed = self.delta(head, base, puts, deletes);
                Some(prepared(zone, generation, changed))
            }
            ToModule::Settle { zone, generation } => {
                self.settle(zone, generation);
                None
            }
            ToModule::Abort { zone, generation } => {
                if let Some(known) = self.zones.get_mut(&zone) {
                    known.steering.pending.retain(|version| version.generation != generation);
                    self.changed.insert(zone);
                }
                None
            }
            ToModule::Remove { zone } => {
                if let Some(known) = self.zones.get_mut(&zone) {
                    known.steering = Steering::default();
                    self.changed.insert(zone);
                }
                None
            }
            ToModule::Geo { path, hash } => {
                let problem = places::load(&path, &hash).err();
                Some(ToAgent::GeoLoaded { hash, problem })
            }
            ToModule::NoGeo => {
                places::clear();
                None
            }
            ToModule::Firewall { part, path, hash } => {
                let problem = firewall::load(part, &path, &hash).err();
                Some(ToAgent::FirewallLoaded { part, hash, problem })
            }
            ToModule::Verdicts { whose, is_all, verdicts, .. } => {
                health::take(whose, is_all, &verdicts);
                None
            }
            ToModule::Isolated { is_isolated } => {
                health::set_isolated(is_isolated);
                None
            }
            ToModule::SnapshotEnd => None,
            ToModule::Ask => Some(ToAgent::Status(self.status())),
            // The connection's own.
            ToModule::CountsKept { .. } | ToModule::LogQueries { .. } => None,
        }
    }

    fn delta(
        &mut self,
        head: ZoneHead,
        base: Generation,
        puts: Vec<(RrKey, Rrset)>,
        deletes: Vec<RrKey>,
    ) -> Result<(), Refusal> {
        let known = self.zones.get(&head.zone).ok_or(Refusal::Base)?;
        let mut versions = known.steering.pending.iter().rev().chain(&known.steering.current);
        let base = versions.find(|version| version.generation == base).ok_or(Refusal::Base)?;
        let part = base.part.with(puts, deletes)?;
        self.prepare(head, part);
        Ok(())
    }

    fn prepare(&mut self, head: ZoneHead, part: Part) {
        let ZoneHead { zone, name, generation, serial, private, soa } = head;
        let soa = if part.has_records() { Soa::new(&soa) } else { None };
        let version = Version { generation, serial, is_private: private, part, soa };
        let known = self.zones.entry(zone).or_insert_with(|| Zone {
            slot: slot_of(&name, zone, private),
            is_private: private,
            steering: Steering::default(),
        });
        let pending = &mut known.steering.pending;
        pending.retain(|other| other.generation != generation);
        if pending.len() >= PENDING_MAX {
            pending.remove(0);
        }
        pending.push(version);
        self.changed.insert(zone);
        if private {
            // There are no records of knotd's that it would have to wait for.
            self.settle(zone, generation);
        }
    }

    /// What was prepared is in use, and what was before is dropped.
    fn settle(&mut self, zone: ZoneId, generation: Generation) {
        let Some(known) = self.zones.get_mut(&zone) else { return };
        let pending = &mut known.steering.pending;
        let Some(place) = pending.iter().position(|version| version.generation == generation) else { return };
        let version = pending.remove(place);
        // Those that come after it stay: the agent may be ahead.
        pending.drain(..place);
        known.steering.current = Some(version);
        self.changed.insert(zone);
        self.has_settled = true;
    }

    /// All that was prepared is in use: the snapshot is told before any query is answered.
    pub fn settle_all(&mut self) {
        let settled: Vec<(ZoneId, Generation)> = self
            .zones
            .iter()
            .filter_map(|(zone, known)| Some((*zone, known.steering.pending.last()?.generation)))
            .collect();
        for (zone, generation) in settled {
            self.settle(zone, generation);
        }
        self.has_settled = false;
    }

    /// Shows queries what is known now.
    pub fn publish(&mut self) {
        if std::mem::take(&mut self.has_settled) {
            // A query that sees the records of before must not get the steering of now, which from here on knows no other serial.
            knot::wait_for_queries();
        }
        let mut private_changed = false;
        for zone in std::mem::take(&mut self.changed) {
            let Some(known) = self.zones.get_mut(&zone) else { continue };
            private_changed |= known.is_private;
            let current = known.steering.current.as_ref();
            if let Some(is_private) = current.map(|current| current.is_private)
                && is_private != known.is_private
            {
                self.retired.push(known.slot.replace(None));
                self.shown.remove(known.slot.name());
                let other = slot_of(known.slot.name(), zone, is_private);
                slot::release(std::mem::replace(&mut known.slot, other));
                known.is_private = is_private;
                private_changed = true;
            }
            let is_gone = known.steering.current.is_none() && known.steering.pending.is_empty();
            if known.is_private {
                let shown = (!is_gone).then(|| known.steering.clone());
                self.retired.push(known.slot.replace(shown));
            } else {
                self.show(zone, is_gone);
            }
            if is_gone && let Some(gone) = self.zones.remove(&zone) {
                slot::release(gone.slot);
            }
        }
        if private_changed {
            let private = self.zones.values().filter(|known| known.is_private);
            private::list(
                private.filter_map(|known| Some((&known.slot, &known.steering.current.as_ref()?.part))),
            );
        }
    }

    /// Shows queries the steering of a zone that knotd has, or that it has none any more. As long as nothing of it settled, records of
    /// the zone that had its name before may still be served, and then that one's is in use.
    fn show(&mut self, zone: ZoneId, is_gone: bool) {
        let Some(known) = self.zones.get(&zone) else { return };
        let name = known.slot.name();
        let shown = self.shown.get(name).copied();
        let holder = match (shown, is_gone) {
            (Some(shown), false) if shown.zone == zone => shown,
            (shown, false) => Shown { zone, before: shown.map(|shown| shown.zone) },
            (Some(Shown { zone: holder, before: Some(before) }), true)
                if holder == zone && self.zones.contains_key(&before) =>
            {
                Shown { zone: before, before: None }
            }
            (Some(shown), true) if shown.zone != zone => return,
            (_, true) => {
                self.shown.remove(name);
                self.retired.push(known.slot.replace(None));
                return;
            }
        };
        let Some(held) = self.zones.get(&holder.zone) else { return };
        let mut steering = held.steering.clone();
        if steering.current.is_none() {
            let before = holder.before.and_then(|before| self.zones.get(&before));
            steering.current = before.and_then(|before| before.steering.current.clone());
        }
        self.retired.push(known.slot.replace(Some(steering)));
        self.shown.insert(name.clone(), holder);
    }

    /// Frees what no query reads any more. It waits for those that run.
    pub fn free_retired(&mut self) {
        knot::free_retired(&mut self.retired);
        private::free_retired();
        places::free_retired();
        firewall::free_retired();
        health::free_retired();
    }

    /// What is found in the steering of a zone: the one of this id, or else the one of this name that queries see.
    pub fn find_part<T>(
        &self,
        name: &Name,
        zone: Option<ZoneId>,
        find: impl Fn(&Part) -> Option<T>,
    ) -> Option<T> {
        let zone = zone.or_else(|| self.shown.get(name).map(|shown| shown.zone))?;
        let steering = &self.zones.get(&zone)?.steering;
        steering.current.iter().chain(&steering.pending).find_map(|version| find(&version.part))
    }

    /// Queries of this private zone are logged under this mark from now on; with zero they aren't.
    pub fn mark_private(&self, zone: ZoneId, mark: u32) {
        if let Some(known) = self.zones.get(&zone).filter(|known| known.is_private) {
            known.slot.mark(mark);
        }
    }

    /// How many zones have steering in use.
    pub fn zones(&self) -> usize {
        self.zones.len()
    }

    fn status(&self) -> ModuleStatus {
        let bytes =
            |known: &Zone| known.steering.current.as_ref().map_or(0, |version| version.part.bytes() as u64);
        let (counted, counted_coarsely) = counts::figures();
        let (firewall, firewall_bytes) = firewall::counts();
        let (logged_zones, logged, left_out) = queries::figures();
        ModuleStatus {
            counted: Some(counted),
            counted_coarsely: Some(counted_coarsely),
            firewall: Some(firewall),
            zones: self.zones.len() as u64,
            panics: PANICS.load(Ordering::Relaxed),
            undecided: UNDECIDED.load(Ordering::Relaxed),
            bytes: self.zones.values().map(bytes).sum::<u64>() + firewall_bytes as u64,
            down: health::down() as u64,
            is_isolated: health::is_isolated(),
            logged_zones,
            logged,
            left_out,
        }
    }
}

fn slot_of(name: &Name, zone: ZoneId, is_private: bool) -> Arc<Slot> {
    if is_private { Slot::unlisted(name, zone) } else { slot::of(name) }
}

fn prepared(zone: ZoneId, generation: Generation, result: Result<(), Refusal>) -> ToAgent {
    match result {
        Ok(()) => ToAgent::Prepared { zone, generation },
        Err(refusal) => ToAgent::Refused { zone, generation, reason: refusal.to_string() },
    }
}
