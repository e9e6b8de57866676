//! What is said to the control plane.

use std::collections::HashSet;

use herald_core::{Generation, ZoneId};
use herald_wire::stream::{BUCKETS, InventoryZone, ToHerald, bucket_of, inventory_digest};

use super::queue::Queue;
use super::store::ReplicaState;
use super::{Action, Core};
use crate::replica::{ReplicaError, Target, ZoneRow};
use crate::session::Greeting;

/// Zones in one frame of an inventory: each takes up to 60 bytes.
const INVENTORY_ZONES: usize = 10_000;

/// Whether a zone is told as the replica has it.
enum Told {
    AsIs,
    /// As something that nobody published: it comes again, or is removed.
    AsNothing,
}

impl Core {
    /// What a session is to say hello with; none if the replica can't be used at the moment.
    pub fn greet(&mut self, now: std::time::Duration) -> Option<Greeting> {
        self.now = now;
        if let ReplicaState::Lost { .. } = self.replica_state {
            return None;
        }
        match self.greeting() {
            Ok(greeting) => Some(greeting),
            Err(error) => {
                self.replica_failed(&error);
                None
            }
        }
    }

    /// What is durable *and* answered; the rest is told with the inventory, and comes again.
    fn greeting(&self) -> Result<Greeting, ReplicaError> {
        let mut bucket_digests: Box<[u128; BUCKETS]> = Box::new(*self.replica.bucket_digests());
        for zone in self.flights.zones() {
            // What is on its way to knotd is not to be taken for confirmed, and not for absent either (knotd may have
            // it): its bucket has to differ, whether the control plane still has the zone or not.
            let bucket = &mut bucket_digests[bucket_of(zone)];
            if let Some(row) = self.replica.zone(zone)? {
                *bucket = bucket.wrapping_sub(inventory_digest(zone, row.generation, row.digest));
            }
            *bucket = bucket.wrapping_add(inventory_digest(zone, Generation::default(), 0));
        }
        Ok(Greeting { newest: self.replica.newest(), bucket_digests })
    }

    pub(super) fn open(&mut self, buckets: &[u16], head: Generation) {
        self.close();
        self.figures.herald_head = Some(head);
        self.is_open = true;
        if !buckets.is_empty() {
            let told = |core: &Core, zone: &ZoneRow| match core.flights.has_zone(zone.id) {
                true => Told::AsNothing,
                false => Told::AsIs,
            };
            match self.inventory(buckets, told) {
                Ok(inventory) => self.tell_inventory(&inventory),
                Err(error) => return self.replica_failed(&error),
            }
        }
        // One may have been set aside since the hello.
        for refused in self.missing.values().cloned().collect::<Vec<_>>() {
            self.send(ToHerald::Refused(refused));
        }
    }

    /// The inventory in the midst of a session: what the replica holds, answered or not. Receipts follow by themselves.
    pub(super) fn inventory_as_held(&self, buckets: &[u16]) -> Result<Vec<InventoryZone>, ReplicaError> {
        self.inventory(buckets, |_, _| Told::AsIs)
    }

    fn inventory(
        &self,
        buckets: &[u16],
        told: impl Fn(&Core, &ZoneRow) -> Told,
    ) -> Result<Vec<InventoryZone>, ReplicaError> {
        let wanted: HashSet<usize> = buckets.iter().map(|bucket| usize::from(*bucket)).collect();
        let mut zones = Vec::new();
        let mut held: HashSet<ZoneId> = HashSet::new();
        self.replica.for_each_zone(|zone| {
            if wanted.contains(&bucket_of(zone.id))
                && let Told::AsIs = told(self, &zone)
            {
                held.insert(zone.id);
                let ZoneRow { id, name, is_private, generation, digest, rrset_count, .. } = zone;
                let (name, rrset_count) = (Some(name).filter(|_| !is_private), Some(rrset_count));
                zones.push(InventoryZone { zone: id, generation, digest, name, rrset_count });
            }
        })?;
        // What waits for knotd and isn't told as held may still be answered by it: not to be taken for absent.
        let pending = self.flights.zones().filter(|zone| wanted.contains(&bucket_of(*zone)));
        zones.extend(pending.filter(|zone| !held.contains(zone)).map(|zone| InventoryZone {
            zone,
            generation: Generation::default(),
            digest: 0,
            name: self.flights.target_of(zone).and_then(Target::public_name).cloned(),
            rrset_count: None,
        }));
        Ok(zones)
    }

    pub(super) fn tell_inventory(&mut self, zones: &[InventoryZone]) {
        let mut chunks = zones.chunks(INVENTORY_ZONES).peekable();
        while let Some(chunk) = chunks.next() {
            let last = chunks.peek().is_none();
            self.send(ToHerald::Inventory { zones: chunk.to_vec(), last });
        }
        if zones.is_empty() {
            self.send(ToHerald::Inventory { zones: Vec::new(), last: true });
        }
    }

    /// The session is over; what it had yet to bring comes with the next one.
    pub(super) fn close(&mut self) {
        self.is_open = false;
        self.queue = Queue::default();
        self.replica.forget_incoming();
        self.is_garbage = true;
        self.gapped.clear();
        self.acks.clear();
        self.late_refusals.clear();
        self.figures.in_sync = false;
        self.stop_comparing();
    }

    /// Ends the session from this side.
    pub(super) fn hang_up(&mut self) {
        self.close();
        self.actions.push(Action::HangUp);
    }

    pub(super) fn ping(&mut self, head: Generation, in_sync: bool) {
        self.figures.herald_head = Some(head);
        self.figures.in_sync = in_sync;
        if in_sync && self.queue.is_empty() {
            self.is_complete_wanted |= !self.replica.is_complete();
            self.remove_leftovers();
        }
    }

    /// Confirms what is durable and answered.
    pub(super) fn confirm(&mut self) {
        if !self.acks.is_empty() {
            let zones = std::mem::take(&mut self.acks);
            self.send(ToHerald::Applied { zones });
            self.show();
        }
    }
}
