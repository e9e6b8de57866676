//! What a PoP is sent once it is known what it has.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use herald_core::account::Pop;
use herald_core::content::Content;
use herald_core::state::State;
use herald_core::zone::Zone;
use herald_core::{Name, RrKey, ZoneId};
use herald_wire::stream::{
    self, BULK_WINDOW_BYTES, InventoryZone, ToPop, ZoneBegin, ZoneDelta, ZoneGeneration, ZoneRrset,
};

use super::SessionError;
use super::compare::{Buckets, Comparison, Different, Mend};
use super::core::Next;
use super::gaps::Gaps;
use crate::publisher::shared::SessionUp;
use crate::publisher::sum::Sum;

/// A difference over this is sent as a whole zone, which yields to others, in bytes.
const DELTA_BYTES_MAX: usize = 256 * 1024;

/// A zone up to this is sent in one go, in bytes.
const SMALL_ZONE_BYTES_MAX: usize = 32 * 1024;

/// About how long a part of a large zone is, in bytes: what a delta waits behind at most.
const PART_BYTES: usize = 32 * 1024;

/// How much is put together before it is written, in bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// How long a PoP may take in the midst of a session to send an inventory, or more of it: it takes in first what was sent before.
const INVENTORY_S: u64 = 30;

/// How often a PoP hears that the control plane lives, and what it should hold.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Feed {
    up: SessionUp,
    pop_name: String,
    /// The state up to which all was sent, but for what stands in the lists below.
    seen: Arc<State>,
    /// The way to a newer state, if all of it could not be sent at once.
    step: Option<Step>,
    /// What the PoP holds once it has taken in all that was and is to be sent of `seen`, in sum.
    expected: Sum,
    /// Zones that a delta brings from what the PoP came with to `seen`.
    behind: VecDeque<(ZoneId, Arc<Zone>)>,
    /// Zones to be sent whole, each as it will be then.
    whole: VecDeque<ZoneId>,
    whole_set: HashSet<ZoneId>,
    /// Zones to be removed once nothing is left to be sent whole, as one of those may take the name over.
    removals: Vec<ZoneId>,
    /// The large zone that is being sent.
    large: Option<Large>,
    gaps: Gaps,
    bulk_sent_bytes: u64,
    bulk_credited_bytes: u64,
    /// What the PoP says it holds, as it isn't what it should.
    drifted: Option<Vec<u128>>,
    /// What it was asked because of that.
    comparison: Option<Comparison>,
    /// Zones that had drifted and are being mended.
    mending: HashSet<ZoneId>,
    ping_at: Duration,
    out: Vec<u8>,
}

/// From the state seen to a newer one, zone by zone.
struct Step {
    to: Arc<State>,
    zones: VecDeque<ZoneId>,
    ceased: VecDeque<ZoneId>,
}

/// A large zone on its way.
struct Large {
    zone: Arc<Zone>,
    /// The last RRset that was sent.
    after: Option<RrKey>,
}

impl Feed {
    pub(super) fn new(
        pop: Pop,
        up: SessionUp,
        seen: Arc<State>,
        expected: Sum,
        found: Vec<Different>,
        now: Duration,
    ) -> Feed {
        let mut feed = Feed {
            up,
            pop_name: pop.name,
            seen,
            step: None,
            expected,
            behind: VecDeque::new(),
            whole: VecDeque::new(),
            whole_set: HashSet::new(),
            removals: Vec::new(),
            large: None,
            gaps: Gaps::default(),
            bulk_sent_bytes: 0,
            bulk_credited_bytes: 0,
            drifted: None,
            comparison: None,
            mending: HashSet::new(),
            ping_at: now,
            out: Vec::new(),
        };
        found.into_iter().for_each(|different| feed.mend(different));
        feed
    }

    pub(super) fn up(&self) -> &SessionUp {
        &self.up
    }

    pub(super) fn pop_name(&self) -> &str {
        &self.pop_name
    }

    /// As [`Session::poll`](super::Session::poll).
    pub(super) fn poll(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<Next, SessionError> {
        while let Some(zone) = self.gaps.due(now) {
            self.want_whole(zone);
        }
        let inventory_until = self.comparison.as_ref().map(|comparison| comparison.until);
        if inventory_until.is_some_and(|until| until <= now) {
            // The next session begins with one.
            return Err(SessionError::NoInventory(INVENTORY_S));
        }
        let mut is_something = true;
        while is_something && self.out.len() < WRITE_BYTES {
            is_something =
                self.send_behind() || self.send_step()? || self.answer_drift(now) || self.send_bulk();
        }
        if self.ping_at <= now {
            self.ping();
            self.ping_at = now + PING_INTERVAL;
        }
        if self.out.is_empty() {
            let at = [self.gaps.next_at(), inventory_until].into_iter().flatten();
            return Ok(Next::At(at.fold(self.ping_at, Duration::min)));
        }
        self.up.shared.counters.sent_bytes.fetch_add(self.out.len() as u64, Ordering::Relaxed);
        out.append(&mut self.out);
        Ok(Next::More)
    }

    fn mend(&mut self, different: Different) {
        let zone = different.zone;
        match different.mend {
            Mend::Delta(base) => self.behind.push_back((zone, base)),
            Mend::Whole => self.want_whole(zone),
            Mend::Remove if self.removals.contains(&zone) => {}
            Mend::Remove => self.removals.push(zone),
        }
    }

    // -- what the PoP says ------------------------------------------------------------------------

    pub(super) fn credit(&mut self, bytes: u64) {
        self.bulk_credited_bytes = self.bulk_credited_bytes.saturating_add(bytes);
    }

    pub(super) fn applied(&mut self, zones: &[ZoneGeneration]) {
        if self.mending.is_empty() {
            return;
        }
        let mended = zones.iter().filter(|applied| self.mending.remove(&applied.zone)).count() as u64;
        self.up.shared.note(self.up.pop, |live| live.drift.mended += mended);
    }

    /// It can't do with a delta, and is to have the whole zone.
    pub(super) fn gap(&mut self, zone: ZoneId, now: Duration) {
        if self.gaps.asked(zone, now) {
            self.want_whole(zone);
        }
    }

    /// It holds something else than a ping said.
    pub(super) fn drifted(&mut self, theirs: Vec<u128>) {
        // One comparison at a time; should it not find all, the next ping leads to another.
        if self.comparison.is_none() {
            self.drifted = Some(theirs);
        }
    }

    pub(super) fn inventory(
        &mut self,
        zones: Vec<InventoryZone>,
        last: bool,
        now: Duration,
    ) -> Result<(), SessionError> {
        let Some(comparison) = &mut self.comparison else {
            return Err(SessionError::OutOfTurn("an inventory nobody asked for"));
        };
        comparison.inventory.extend(zones);
        comparison.until = now + Duration::from_secs(INVENTORY_S);
        if last && let Some(comparison) = self.comparison.take() {
            self.compared(comparison, now);
        }
        Ok(())
    }

    fn compared(&mut self, comparison: Comparison, now: Duration) {
        let seen = Arc::clone(&comparison.seen);
        let found = comparison.finish();
        if found.is_empty() {
            return;
        }
        tracing::warn!("the PoP {} had drifted in {} zones: they are sent again", self.pop_name, found.len());
        self.up.shared.note(self.up.pop, |live| {
            live.drift.found += found.len() as u64;
            live.drift.last = Some(now);
        });
        let lacks = found.iter().map(|different| (different.zone, different.confirmed)).collect();
        self.up.shared.tracker().drifted(self.up.pop, self.up.number, &seen, lacks);
        for different in found {
            self.mending.insert(different.zone);
            self.mend(different);
        }
    }

    /// Asks for what differs. What is still to be sent is left out: it comes right by itself.
    fn answer_drift(&mut self, now: Duration) -> bool {
        let Some(theirs) = self.drifted.take() else { return false };
        let numbers = self.expected.differing(&theirs);
        if !numbers.is_empty() {
            let mut excused: HashSet<ZoneId> = self.whole_set.iter().copied().collect();
            excused.extend(self.removals.iter().copied().chain(self.gaps.paused()));
            excused.extend(self.large.iter().map(|large| large.zone.id));
            let (seen, buckets) = (Arc::clone(&self.seen), Buckets::new(&numbers));
            let (inventory, until) = (Vec::new(), now + Duration::from_secs(INVENTORY_S));
            self.comparison = Some(Comparison { seen, buckets, excused, inventory, until });
        }
        self.put(&ToPop::Compare { buckets: numbers });
        true
    }

    // -- what it is sent --------------------------------------------------------------------------

    /// Brings zones from what the PoP came with to the state seen, before anything is sent that builds on that.
    fn send_behind(&mut self) -> bool {
        let Some((zone, base)) = self.behind.pop_front() else { return false };
        let seen = Arc::clone(&self.seen);
        if let Some(zone) = seen.zone(zone).filter(|zone| zone.is_served()) {
            self.put_delta(&base, zone);
        }
        true
    }

    /// Sends some of what changed since the last look; what is to be sent whole is put on the list. `false` if nothing
    /// did.
    fn send_step(&mut self) -> Result<bool, SessionError> {
        let mut step = match self.step.take() {
            Some(step) => step,
            None => match self.next_step()? {
                Some(step) => step,
                None => return Ok(false),
            },
        };
        let (old, new) = (Arc::clone(&self.seen), Arc::clone(&step.to));
        let served =
            |state: &State, id| state.zone(id).filter(|zone| zone.is_served()).map(|zone| zone.arc());
        while self.out.len() < WRITE_BYTES {
            if let Some(id) = step.zones.pop_front() {
                let (old, zone) = (served(&old, id), served(&new, id));
                self.expected.follow(old.as_deref(), zone.as_deref());
                match (old, zone) {
                    (Some(old), None) => {
                        self.large.take_if(|large| large.zone.id == id);
                        self.remove(id, Some(&old.name), &new);
                    }
                    (Some(old), Some(zone)) if !self.is_to_be_whole(id) => self.put_delta(&old, &zone),
                    (_, Some(_)) => self.want_whole(id),
                    (None, None) => {}
                }
            } else if let Some(id) = step.ceased.pop_front() {
                let name = old.zone(id).or(new.zone(id)).map(|zone| &zone.name);
                self.remove(id, name, &new);
            } else {
                self.seen = new;
                return Ok(true);
            }
        }
        self.step = Some(step);
        Ok(true)
    }

    /// The way to the newest state, if that is another.
    fn next_step(&self) -> Result<Option<Step>, SessionError> {
        let looked = self.up.shared.tracker().look(self.up.pop, self.up.number);
        let (to, ceased) = looked.ok_or(SessionError::Replaced)?;
        if self.seen.revision() == to.revision() {
            return Ok(None);
        }
        if !to.pop(self.up.pop).is_some_and(|pop| pop.enabled) {
            return Err(SessionError::Rejected("the PoP was disabled".into()));
        }
        let differs = self.seen.published_diff(&to);
        let zones = differs.filter_map(|diff| diff.new.or(diff.old).map(|zone| zone.id)).collect();
        // They came and went between two looks. The PoP may still be at an earlier removal, which says less.
        let is_news = |id: &ZoneId| self.seen.zone(*id).is_none_or(|zone| !zone.is_served());
        let ceased = ceased.into_iter().filter(is_news).collect();
        Ok(Some(Step { to, zones, ceased }))
    }

    fn remove(&mut self, zone: ZoneId, name: Option<&Name>, new: &State) {
        // Where another zone bears the name now, the PoP replaces this one by it.
        if name.is_none_or(|name| new.served_zone(name).is_none()) {
            self.put(&ToPop::Remove { zone, generation: new.head() });
        } else if !self.removals.contains(&zone) {
            self.removals.push(zone);
        }
    }

    /// Whether the zone is sent whole anyway: on the list, or on its way (what changes meanwhile follows it).
    fn is_to_be_whole(&self, zone: ZoneId) -> bool {
        self.whole_set.contains(&zone)
            || self.gaps.is_paused(zone)
            || self.large.as_ref().is_some_and(|large| large.zone.id == zone)
    }

    fn want_whole(&mut self, zone: ZoneId) {
        if !self.is_to_be_whole(zone) && self.whole_set.insert(zone) {
            self.whole.push_back(zone);
        }
    }

    fn put_delta(&mut self, old: &Zone, new: &Zone) {
        let difference = old.content.diff(&new.content);
        let bytes: usize =
            difference.puts.iter().map(|(key, rrset)| rrset.wire_bytes(&key.owner)).sum::<usize>()
                + difference.deletes.iter().map(|key| key.owner.as_wire().len() + 4).sum::<usize>();
        if bytes > DELTA_BYTES_MAX {
            return self.want_whole(new.id);
        }
        let soa = ZoneRrset { key: new.soa_key(), rrset: new.soa_rrset() };
        let puts = difference.puts.into_iter().map(|(key, rrset)| ZoneRrset { key, rrset });
        self.put(&ToPop::Delta(ZoneDelta {
            zone: new.id,
            base: old.generation,
            generation: new.generation,
            digest: new.published_digest(),
            puts: std::iter::once(soa).chain(puts).collect(),
            deletes: difference.deletes,
        }));
        self.up.shared.counters.deltas.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends a bounded piece of what is to be sent whole: small zones, or a part of a large one. `false` if there is
    /// nothing to send or no credit.
    fn send_bulk(&mut self) -> bool {
        if self.bulk_sent_bytes.saturating_sub(self.bulk_credited_bytes) >= BULK_WINDOW_BYTES {
            return false;
        }
        let mut is_some = false;
        let state = Arc::clone(&self.seen);
        // Small zones overtake the large one that is on its way; the next large one waits for it.
        let mut passed = 0;
        while self.out.len() < WRITE_BYTES && passed < self.whole.len() {
            let id = self.whole[passed];
            let zone = state.zone(id).filter(|zone| zone.is_served());
            let is_small = zone.is_none_or(|zone| content_bytes_within(&zone.content, SMALL_ZONE_BYTES_MAX));
            if !is_small && self.large.is_some() {
                passed += 1;
                if passed > 16 {
                    break;
                }
                continue;
            }
            self.whole.remove(passed);
            self.whole_set.remove(&id);
            is_some = true;
            let Some(zone) = zone else { continue };
            self.put_begin(zone);
            if is_small {
                self.put_part(zone.id, &zone.content, None, usize::MAX);
                self.put(&ToPop::ZoneEnd { zone: zone.id });
            } else {
                self.large = Some(Large { zone: zone.arc(), after: None });
            }
        }
        if let Some(large) = self.large.take() {
            is_some = true;
            self.send_part(large, &state);
        } else if self.whole.is_empty() && !self.removals.is_empty() {
            is_some = true;
            let generation = state.head();
            for zone in std::mem::take(&mut self.removals) {
                if !state.zone(zone).is_some_and(|zone| zone.is_served()) {
                    self.put(&ToPop::Remove { zone, generation });
                }
            }
        }
        is_some
    }

    fn put_begin(&mut self, zone: &Zone) {
        // It is brought right by this, whatever the PoP says that it had before.
        if let Some(comparison) = &mut self.comparison {
            comparison.excused.insert(zone.id);
        }
        self.put(&ToPop::ZoneBegin(ZoneBegin {
            zone: zone.id,
            name: zone.name.clone(),
            generation: zone.generation,
            digest: zone.published_digest(),
            rrset_count: zone.content.rrset_count() + 1,
        }));
        let soa = ZoneRrset { key: zone.soa_key(), rrset: zone.soa_rrset() };
        self.put(&ToPop::ZonePart { zone: zone.id, rrsets: vec![soa] });
        self.up.shared.counters.whole_zones.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts a part of some content; gives the last key, or none if this was the last part.
    fn put_part(
        &mut self,
        zone: ZoneId,
        content: &Content,
        after: Option<&RrKey>,
        bytes_max: usize,
    ) -> Option<RrKey> {
        let mut rrsets = content.after(after).peekable();
        let (mut part, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some((key, rrset)) = rrsets.next()
        {
            bytes += rrset.wire_bytes(&key.owner);
            part.push(ZoneRrset { key: key.clone(), rrset: rrset.clone() });
        }
        let last = rrsets.peek().and_then(|_| part.last().map(|rrset| rrset.key.clone()));
        self.put(&ToPop::ZonePart { zone, rrsets: part });
        last
    }

    fn send_part(&mut self, large: Large, state: &State) {
        let Large { zone, after } = large;
        let last = self.put_part(zone.id, &zone.content, after.as_ref(), PART_BYTES);
        if last.is_some() {
            self.large = Some(Large { zone, after: last });
            return;
        }
        self.put(&ToPop::ZoneEnd { zone: zone.id });
        // What changed while it was on its way.
        if let Some(now) =
            state.zone(zone.id).filter(|now| now.is_served() && now.generation != zone.generation)
        {
            self.put_delta(&zone, now);
        }
    }

    fn ping(&mut self) {
        let is_nothing_left = self.step.is_none()
            && self.behind.is_empty()
            && self.whole.is_empty()
            && self.large.is_none()
            && self.removals.is_empty();
        let in_sync = is_nothing_left && self.up.shared.tracker().zones_pending(self.up.pop) == Some(0);
        let holding = is_nothing_left.then(|| self.expected.holding());
        self.put(&ToPop::Ping { head: self.seen.head(), in_sync, holding });
    }

    fn put(&mut self, message: &ToPop) {
        let before = self.out.len();
        stream::encode_frame(message, &mut self.out);
        // These are what the PoP gives credit for.
        if let ToPop::ZonePart { .. } = message {
            self.bulk_sent_bytes += (self.out.len() - before) as u64;
        }
    }
}

/// Whether the content has at most so many bytes, found without looking at more of it than that.
fn content_bytes_within(content: &Content, bytes_max: usize) -> bool {
    let mut left = bytes_max;
    content.iter().all(|(key, rrset)| match left.checked_sub(rrset.wire_bytes(&key.owner)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    })
}
