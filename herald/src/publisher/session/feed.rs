//! What a PoP is sent once it is known what it has.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use herald_core::account::Pop;
use herald_core::command::Action;
use herald_core::content::{Content, Difference, RrsetChange};
use herald_core::firewall::FirewallPart;
use herald_core::state::{PublishedDiff, State};
use herald_core::zone::Zone;
use herald_core::{Generation, Name, RrKey, ZoneId};
use herald_wire::stream::{
    self, BULK_WINDOW_BYTES, GEO_WINDOW_BYTES, InventoryZone, ProbeAnswer, Seen, TargetSeen, ToPop,
    ZoneBegin, ZoneDelta, ZoneGeneration, ZoneRrset,
};

use super::SessionError;
use super::aliases::AliasFeed;
use super::compare::{Buckets, Comparison, Different, Mend};
use super::core::{KNOWS_NOTHING_PRIVATE, Next};
use super::gaps::Gaps;
use super::holds::{Held, Holds, Why};
use super::monitors::{Choices, MonitorFeed};
use super::query_logs::QueryLogFeed;
use crate::clock;
use crate::publisher::TableFile;
use crate::publisher::shared::{PopLive, SessionUp};
use crate::publisher::sum::{Sum, Version};
use crate::publisher::{HeldZone, Lacks};

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
    /// What it goes on serving otherwise than `seen` says.
    holds: Holds,
    bulk_sent_bytes: u64,
    bulk_credited_bytes: u64,
    /// What the PoP says it holds, as it isn't what it should.
    drifted: Option<Vec<u128>>,
    /// What it was asked because of that.
    comparison: Option<Comparison>,
    /// Zones that had drifted and are being mended.
    mending: HashSet<ZoneId>,
    ping_at: Duration,
    monitors: Option<MonitorFeed>,
    /// Files that it can be offered.
    files: Vec<FileFeed>,
    aliases: Option<AliasFeed>,
    query_logs: Option<QueryLogFeed>,
    out: Vec<u8>,
    /// Whether the PoP keeps private zones private.
    knows_private: bool,
}

/// The table of places, or a part of the firewall, on its way to a PoP that can take it.
struct FileFeed {
    /// Which part of the firewall; none is the table of places.
    part: Option<FirewallPart>,
    /// SHA-256 of what the PoP had when it came.
    had: Vec<u8>,
    /// The roll-out in which it was offered the table.
    offered: Option<u64>,
    /// What is to be sent of it.
    wanted: Option<FileWanted>,
}

struct FileWanted {
    table: Arc<TableFile>,
    from: usize,
    to: usize,
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
    /// What is sent of it.
    published: Content,
    /// The last RRset that was sent.
    after: Option<RrKey>,
}

impl Feed {
    /// A feed to a PoP that holds what `seen` says, which is `expected` in sum, but for what is
    /// [brought](Feed::bring) then.
    pub(super) fn new(pop: &Pop, up: SessionUp, seen: Arc<State>, expected: Sum, now: Duration) -> Feed {
        Feed {
            up,
            pop_name: pop.name.clone(),
            seen,
            step: None,
            expected,
            behind: VecDeque::new(),
            whole: VecDeque::new(),
            whole_set: HashSet::new(),
            removals: Vec::new(),
            large: None,
            gaps: Gaps::default(),
            holds: Holds::new(pop),
            bulk_sent_bytes: 0,
            bulk_credited_bytes: 0,
            drifted: None,
            comparison: None,
            mending: HashSet::new(),
            ping_at: now,
            knows_private: false,
            monitors: None,
            files: Vec::new(),
            aliases: None,
            query_logs: None,
            out: Vec::new(),
        }
    }

    /// Brings a PoP that has told what it holds, `zones` in all, to what is seen.
    pub(super) fn bring(&mut self, pop: &Pop, mut found: Vec<Different>, zones: u64, now: Duration) {
        let state = Arc::clone(&self.seen);
        let mut lacks: Lacks = found.iter().map(|different| (different.zone, different.confirmed)).collect();
        let held = self.hold_found(&state, pop, &mut found, zones, now);
        for (zone, held) in &held {
            // Of one that is lost it has all that was before.
            let confirmed = held.version.generation.counter.min(state.last_loss().saturating_sub(1));
            lacks.entry(*zone).and_modify(|lacks| *lacks = confirmed.max(*lacks));
        }
        self.up.shared.tracker().resynced(self.up.pop, self.up.number, &state, lacks, now);
        held.into_iter().for_each(|(zone, held)| self.hold(zone, held, now));
        found.into_iter().for_each(|different| self.mend(different));
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
            is_something = self.send_verdicts()
                || self.send_query_logs(now)
                || self.send_behind()
                || self.send_step(now)?
                || self.answer_drift(now)
                || self.send_probes()
                || self.send_targets()
                || self.send_bulk()
                || self.send_file();
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

    /// Whether it keeps private zones private.
    pub(super) fn knows_private(&mut self, knows_private: bool) {
        self.knows_private = knows_private;
    }

    /// It knows of monitors, and has verdicts as of then.
    pub(super) fn knows_monitors(&mut self, verdicts_of: Option<Generation>) {
        self.monitors = verdicts_of.map(MonitorFeed::new);
    }

    /// It knows of ALIAS records, and has a resolver or not.
    pub(super) fn knows_aliases(&mut self, resolves: Option<bool>) {
        self.aliases = (resolves == Some(true)).then(AliasFeed::default);
    }

    /// Whether it logs queries.
    pub(super) fn knows_query_logs(&mut self, logs_queries: bool) {
        self.query_logs = logs_queries.then(QueryLogFeed::default);
    }

    /// It says what it finds of targets of ALIAS records.
    pub(super) fn resolved(&self, targets: Vec<TargetSeen>, now: Duration) {
        if self.aliases.is_some() {
            self.up.shared.aliases().said(self.up.pop, self.up.number, targets, now);
        }
    }

    /// It says what it sees of monitors, and how probes went that it was asked for.
    pub(super) fn probed(&self, seen: Vec<Seen>, answers: Vec<ProbeAnswer>, now: Duration) {
        // Who says nothing of verdicts in its greeting is told of no monitors.
        if self.monitors.is_some() {
            let health = self.up.shared.health();
            if !seen.is_empty() {
                health.said(self.up.pop, seen, now);
            }
            health.answered(self.up.pop, answers);
        }
    }

    /// Sends verdicts that are others now.
    fn send_verdicts(&mut self) -> bool {
        let Feed { up, monitors: Some(monitors), .. } = self else { return false };
        let Some(message) = monitors.verdicts(up.shared.tracker().newest()) else { return false };
        self.put(&message);
        true
    }

    /// Sends some of the monitors that it is to probe, or would, and then what it is to probe at once.
    fn send_probes(&mut self) -> bool {
        let Feed { up, monitors: Some(monitors), .. } = self else { return false };
        let health = up.shared.health();
        let choices = Choices { chosen: health.choices(), local: health.local() };
        let state = up.shared.tracker().newest();
        let message = monitors.probes(up.pop, state, choices);
        let message = message.or_else(|| monitors.now(health.asks(up.pop)));
        let Some(message) = message else { return false };
        self.put(&message);
        true
    }

    /// Sends whose queries it is to log: before zones, so that no query for a name that has passed to another is noted as if it hadn't.
    fn send_query_logs(&mut self, now: Duration) -> bool {
        let Feed { up, query_logs: Some(logs), .. } = self else { return false };
        let Some(message) = logs.query_logs(up.shared.tracker().newest(), clock::uptime_ms(now)) else {
            return false;
        };
        self.put(&message);
        true
    }

    /// Sends some of what it is to resolve.
    fn send_targets(&mut self) -> bool {
        let Feed { up, aliases: Some(aliases), .. } = self else { return false };
        let Some(message) = aliases.targets(up.pop, up.shared.aliases().choices()) else { return false };
        self.put(&message);
        true
    }

    /// It can be offered the table of places, or this part of the firewall, and has this one.
    pub(super) fn knows_file(&mut self, part: Option<FirewallPart>, had: Vec<u8>) {
        self.files.push(FileFeed { part, had, offered: None, wanted: None });
    }

    /// It wants some of a file. Of one that was replaced it wants no more as soon as it hears of the other.
    pub(super) fn want_file(&mut self, part: Option<FirewallPart>, hash: Vec<u8>, from: u64, to: u64) {
        let Some(file) = self.files.iter_mut().find(|file| file.part == part) else { return };
        let table = self.up.shared.rollout_of(part).table().filter(|table| table.sha256[..] == hash);
        file.wanted = table.and_then(|table| {
            let end = table.bytes.len();
            let to = usize::try_from(to.min(from.saturating_add(GEO_WINDOW_BYTES))).ok()?.min(end);
            let from = usize::try_from(from).ok()?;
            (from < to).then_some(FileWanted { table, from, to })
        });
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
        let (tracker, pop) = (self.up.shared.tracker(), self.up.pop);
        if let Some(ours) = served(&self.seen, zone)
            && !self.holds.has(zone)
            && tracker.zones_pending(pop).is_some()
            && !tracker.lacks(pop, zone)
        {
            // It confirmed it, and no change of it is under way: what it has was damaged since.
            self.found_drift(1, now);
            self.mending.insert(zone);
            let lacks = [(zone, ours.generation.counter - 1)].into();
            tracker.drifted(pop, self.up.number, &self.seen, lacks);
        }
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
        let mut found = comparison.finish();
        self.compare_held(&comparison, &mut found);
        let Some(pop) = seen.pop(self.up.pop) else { return };
        for (zone, held) in self.hold_found(&seen, pop, &mut found, self.expected.zones, now) {
            self.hold(zone, held, now);
        }
        if found.is_empty() {
            return;
        }
        tracing::warn!("the PoP {} had drifted in {} zones: they are sent again", self.pop_name, found.len());
        self.found_drift(found.len() as u64, now);
        let lacks = found.iter().map(|different| (different.zone, different.confirmed)).collect();
        self.up.shared.tracker().drifted(self.up.pop, self.up.number, &seen, lacks);
        for different in found {
            self.mending.insert(different.zone);
            self.mend(different);
        }
    }

    fn found_drift(&self, zones: u64, now: Duration) {
        self.up.shared.note(self.up.pop, |live| {
            live.drift.found += zones;
            live.drift.last = Some(now);
        });
    }

    /// Of what is held back, it has what it has: that is all there is to go by, where the content isn't known any more.
    fn compare_held(&mut self, comparison: &Comparison, found: &mut Vec<Different>) {
        let is_compared = |zone: ZoneId| comparison.buckets.has(zone) && !comparison.excused.contains(&zone);
        let theirs: HashMap<ZoneId, Version> =
            comparison.inventory.iter().map(|theirs| (theirs.zone, Version::from(theirs))).collect();
        let wrong = self.holds.iter().filter(|(zone, held)| {
            is_compared(*zone) && comparison.held.contains(zone) && theirs.get(zone) != Some(&held.version)
        });
        let mut wrong: Vec<(ZoneId, bool)> = wrong.map(|(zone, held)| (zone, held.zone.is_some())).collect();
        wrong.sort_unstable();
        found.retain(|different| !self.holds.has(different.zone));
        for (zone, is_known) in wrong {
            match theirs.get(&zone) {
                _ if is_known => {
                    let mend = Mend::Whole;
                    found.push(Different { zone, theirs: None, confirmed: 0, mend });
                }
                Some(version) => {
                    let old = self.holds.get(zone).map(|held| held.version);
                    self.expect(old, Some(*version));
                    self.holds.correct(zone, *version);
                }
                // Nothing is left that could be held.
                None => {
                    self.unhold(zone);
                    let mend = match self.seen.zone(zone).is_some_and(|zone| zone.is_served()) {
                        true => Mend::Whole,
                        false => Mend::Remove,
                    };
                    found.push(Different { zone, theirs: None, confirmed: 0, mend });
                }
            }
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
            let held = self.holds.iter().map(|(zone, _)| zone).collect();
            let (inventory, until) = (Vec::new(), now + Duration::from_secs(INVENTORY_S));
            self.comparison = Some(Comparison { seen, buckets, excused, held, inventory, until });
        }
        self.put(&ToPop::Compare { buckets: numbers });
        true
    }

    // -- what is held back ------------------------------------------------------------------------

    /// Takes off what was found to differ, in a state, what the PoP is to go on serving as it has it.
    fn hold_found(
        &mut self,
        state: &State,
        pop: &Pop,
        found: &mut Vec<Different>,
        zones: u64,
        now: Duration,
    ) -> Vec<(ZoneId, Held)> {
        let is_lost = |different: &Different| {
            matches!(different.mend, Mend::Remove)
                && different.theirs.as_ref().is_some_and(|theirs| {
                    // A private zone's name is none that somebody takes over, and isn't told.
                    theirs.name.as_ref().is_none_or(|name| state.served_zone(name).is_none())
                })
        };
        let lost: HashSet<ZoneId> =
            found.iter().filter(|different| is_lost(different)).map(|different| different.zone).collect();
        let is_too_much = !lost.is_empty() && self.is_too_much(state, pop, &lost, zones, now);
        let mut held = Vec::new();
        found.retain(|different| {
            let Some(theirs) = &different.theirs else { return true };
            let holds = match state.zone(different.zone).filter(|zone| zone.is_served()) {
                Some(ours) => Held::shrunk(state, pop, theirs, ours),
                None => (is_too_much && lost.contains(&different.zone)).then(|| Held::lost(theirs)),
            };
            let is_sent = holds.is_none();
            held.extend(holds.map(|holds| (different.zone, holds)));
            is_sent
        });
        held
    }

    fn is_too_much(
        &mut self,
        state: &State,
        pop: &Pop,
        lost: &HashSet<ZoneId>,
        zones: u64,
        now: Duration,
    ) -> bool {
        let Feed { up, holds, .. } = self;
        let mut is_too_much = false;
        up.shared.note(up.pop, |live| {
            is_too_much = holds.is_too_much(state, pop, lost, zones, &mut live.lost, now);
        });
        is_too_much
    }

    /// From here on the PoP goes on serving this.
    fn hold(&mut self, zone: ZoneId, held: Held, now: Duration) {
        if let Why::Shrunk { rrsets, .. } = held.why {
            tracing::warn!(
                "the emptiness brake holds {zone} at the PoP {}: of its {rrsets} RRsets much would be gone on nobody's \
                 word. If this is meant: koder dns pop release {}",
                self.pop_name,
                self.pop_name
            );
        }
        let before = match self.holds.get(zone) {
            Some(before) => Some(before.version),
            None => served(&self.seen, zone).map(|zone| Version::of(&zone)),
        };
        self.expect(before, Some(held.version));
        let is_lost = held.why == Why::Lost;
        let shown = HeldZone { name: held.name.clone(), is_lost, since: now };
        self.up.shared.tracker().held(self.up.pop, self.up.number, zone, Some(shown));
        self.holds.insert(zone, held);
    }

    /// It is held no more; what it is to be is that of `seen`.
    fn unhold(&mut self, zone: ZoneId) {
        let Some(held) = self.holds.remove(zone) else { return };
        self.up.shared.tracker().held(self.up.pop, self.up.number, zone, None);
        let after = served(&self.seen, zone).map(|zone| Version::of(&zone));
        self.expect(Some(held.version), after);
        // An answer to a question that was asked before is none.
        if let Some(comparison) = &mut self.comparison {
            comparison.excused.insert(zone);
        }
    }

    fn expect(&mut self, old: Option<Version>, new: Option<Version>) {
        if let Some(old) = old {
            self.expected.subtract(old);
        }
        if let Some(new) = new {
            self.expected.add(new);
        }
    }

    /// Lets go what an operator's word is for; gives those that are to be removed.
    fn let_go(&mut self, pop: &Pop) -> Vec<ZoneId> {
        let mut gone = Vec::new();
        let freed = self.holds.let_go(pop);
        if freed.is_empty() {
            return gone;
        }
        tracing::info!("{} zones are held back no more from the PoP {}", freed.len(), self.pop_name);
        // They are no surprise to the brake.
        self.up.shared.note(self.up.pop, |live| live.lost.clear());
        for zone in freed {
            self.unhold(zone);
            match served(&self.seen, zone) {
                Some(_) => self.want_whole(zone),
                None => {
                    self.large.take_if(|large| large.zone.id == zone);
                    gone.push(zone);
                }
            }
        }
        gone
    }

    /// Zones cease to be served: that goes on, or is held back.
    fn lose(&mut self, to: &State, pop: &Pop, lost: Vec<Arc<Zone>>, now: Duration) {
        if lost.is_empty() {
            return;
        }
        let ids = lost.iter().map(|zone| zone.id).collect();
        if !self.is_too_much(to, pop, &ids, self.expected.zones, now) {
            // One of which much less was left than it still serves goes, too.
            return ids.into_iter().for_each(|zone| self.unhold(zone));
        }
        for zone in lost {
            let name = public_name(&zone).cloned();
            let held = match self.holds.get(zone.id) {
                Some(held) => Held { version: held.version, name, why: Why::Lost, zone: held.zone.clone() },
                None => Held { version: Version::of(&zone), name, why: Why::Lost, zone: Some(zone.clone()) },
            };
            self.hold(zone.id, held, now);
        }
    }

    /// A zone is now to be served like this: what is held of it, or under its name, may be so no more.
    fn supersede(&mut self, zone: &Zone, to: &State) {
        let named = public_name(zone).and_then(|name| self.holds.named(name));
        if let Some(other) = named.filter(|other| *other != zone.id) {
            self.unhold(other);
            self.large.take_if(|large| large.zone.id == other);
            self.removals.push(other);
        }
        if self.holds.get(zone.id).is_some_and(|held| !held.is_still_too_much(to, zone)) {
            self.unhold(zone.id);
            self.want_whole(zone.id);
        }
    }

    /// The table of places or a part of the firewall: what is offered, or else a piece of what is wanted.
    fn send_file(&mut self) -> bool {
        (0..self.files.len()).any(|place| self.send_file_at(place))
    }

    fn send_file_at(&mut self, place: usize) -> bool {
        let Feed { up, files, .. } = self;
        let Some(file) = files.get_mut(place) else { return false };
        let (shared, part) = (&up.shared, file.part);
        let is_connected = |pop| shared.with_pop(pop, PopLive::is_connected).unwrap_or(false);
        if let Some(offer) = shared.rollout_of(part).offer(up.pop, is_connected)
            && file.offered != Some(offer.number)
        {
            let is_first = file.offered.replace(offer.number).is_none();
            let hash = offer.table.as_ref().map(|table| table.sha256.to_vec()).unwrap_or_default();
            file.wanted = None;
            if !is_first || hash != file.had {
                let bytes = offer.table.map_or(0, |table| table.bytes.len() as u64);
                self.put(&ToPop::GeoOffer { hash, bytes, part });
                return true;
            }
        }
        let Some(FileWanted { table, from, to }) = &mut file.wanted else { return false };
        let (begin, end) = (*from, (*from + PART_BYTES).min(*to));
        let bytes = table.bytes[begin..end].to_vec();
        let sent = ToPop::GeoPart { hash: table.sha256.to_vec(), from: begin as u64, bytes, part };
        *from = end;
        if end == *to {
            file.wanted = None;
        }
        self.put(&sent);
        true
    }

    /// What the log is to note of it.
    pub(super) fn due_note(&mut self, now: Duration) -> Option<Action> {
        self.holds.due_note(&self.seen, self.up.pop, now)
    }

    /// The zone as it is to be sent.
    fn to_be_sent(&self, zone: ZoneId) -> Option<Arc<Zone>> {
        match self.holds.get(zone) {
            Some(held) => held.zone.clone(),
            None => served(&self.seen, zone),
        }
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
    fn send_step(&mut self, now: Duration) -> Result<bool, SessionError> {
        let mut step = match self.step.take() {
            Some(step) => step,
            None => match self.next_step(now)? {
                Some(step) => step,
                None => return Ok(false),
            },
        };
        let (old, new) = (Arc::clone(&self.seen), Arc::clone(&step.to));
        while self.out.len() < WRITE_BYTES {
            if let Some(id) = step.zones.pop_front() {
                let (old, zone) = (served(&old, id), served(&new, id));
                if let Some(zone) = &zone {
                    self.supersede(zone, &new);
                }
                if self.holds.has(id) {
                    continue;
                }
                self.expected.follow(old.as_deref(), zone.as_deref());
                match (old, zone) {
                    (Some(old), None) => {
                        self.large.take_if(|large| large.zone.id == id);
                        self.remove(id, public_name(&old), &new);
                    }
                    (Some(old), Some(zone)) if !self.is_to_be_whole(id) => self.put_delta(&old, &zone),
                    (_, Some(_)) => self.want_whole(id),
                    (None, None) => {}
                }
            } else if let Some(id) = step.ceased.pop_front() {
                if !self.holds.has(id) && served(&new, id).is_none() {
                    let name = old.zone(id).or(new.zone(id)).and_then(|zone| public_name(zone));
                    self.remove(id, name, &new);
                }
            } else {
                self.seen = new;
                return Ok(true);
            }
        }
        self.step = Some(step);
        Ok(true)
    }

    /// The way to the newest state, if that is another.
    fn next_step(&mut self, now: Duration) -> Result<Option<Step>, SessionError> {
        let looked = self.up.shared.tracker().look(self.up.pop, self.up.number);
        let (to, ceased) = looked.ok_or(SessionError::Replaced)?;
        if self.seen.revision() == to.revision() {
            return Ok(None);
        }
        let Some(pop) = to.pop(self.up.pop).filter(|pop| pop.enabled) else {
            return Err(SessionError::Rejected("the PoP was disabled".into()));
        };
        let gone = self.let_go(pop);
        let seen = Arc::clone(&self.seen);
        let (mut zones, mut lost) = (VecDeque::new(), Vec::new());
        for PublishedDiff { old, new } in seen.published_diff(&to) {
            if !self.knows_private && new.is_some_and(|zone| zone.is_private()) {
                return Err(SessionError::Rejected(KNOWS_NOTHING_PRIVATE.into()));
            }
            zones.extend(new.or(old).map(|zone| zone.id));
            // Where another zone takes the name over, nothing is lost.
            if let (Some(old), None) = (old, new)
                && !to.is_taken_over(old)
            {
                lost.push(old.arc());
            }
        }
        self.lose(&to, pop, lost, now);
        // They came and went between two looks. The PoP may still be at an earlier removal, which says less.
        let is_news = |id: &ZoneId| seen.zone(*id).is_none_or(|zone| !zone.is_served());
        let ceased = ceased.into_iter().filter(is_news).chain(gone).collect();
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
        let Some(difference) = difference_within(old, new, DELTA_BYTES_MAX) else {
            return self.want_whole(new.id);
        };
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
            let zone = self.to_be_sent(id);
            let is_small = zone
                .as_ref()
                .is_none_or(|zone| content_bytes_within(&zone.published(), SMALL_ZONE_BYTES_MAX));
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
            self.put_begin(&zone);
            if is_small {
                self.put_part(zone.id, &zone.published(), None, usize::MAX);
                self.put(&ToPop::ZoneEnd { zone: zone.id });
            } else {
                let published = zone.published();
                self.large = Some(Large { zone, published, after: None });
            }
        }
        if let Some(large) = self.large.take() {
            is_some = true;
            self.send_part(large);
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
            rrset_count: zone.published_rrset_count() + 1,
            private: zone.is_private().then_some(true),
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

    fn send_part(&mut self, large: Large) {
        let Large { zone, published, after } = large;
        let last = self.put_part(zone.id, &published, after.as_ref(), PART_BYTES);
        if last.is_some() {
            self.large = Some(Large { zone, published, after: last });
            return;
        }
        self.put(&ToPop::ZoneEnd { zone: zone.id });
        // What changed while it was on its way.
        if let Some(now) = self.to_be_sent(zone.id).filter(|now| now.generation != zone.generation) {
            self.put_delta(&zone, &now);
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

/// The zone, if it is served.
fn served(state: &State, zone: ZoneId) -> Option<Arc<Zone>> {
    state.zone(zone).filter(|zone| zone.is_served()).map(|zone| zone.arc())
}

/// How what is published differs, if that takes at most so many bytes; found without looking at more than that, as others' changes
/// wait meanwhile.
fn difference_within(old: &Zone, new: &Zone, bytes_max: usize) -> Option<Difference> {
    let (mut difference, mut bytes) = (Difference::default(), 0);
    for RrsetChange { key, new, .. } in old.published_changes(new) {
        match new {
            Some(rrset) => {
                bytes += rrset.wire_bytes(&key.owner);
                difference.puts.push((key.clone(), rrset.clone()));
            }
            None => {
                bytes += key.owner.as_wire().len() + 4;
                difference.deletes.push(key.clone());
            }
        }
        if bytes > bytes_max {
            return None;
        }
    }
    Some(difference)
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

/// The zone's name, if another zone may take it over.
fn public_name(zone: &Zone) -> Option<&Name> {
    (!zone.is_private()).then_some(&zone.name)
}
