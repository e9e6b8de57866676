//! What the module has of each zone, and what it is being told: a state machine without a socket.
//!
//! ```text
//!            prepare                 Prepared                settle
//!   in use ──────────▶ being prepared ───────▶ prepared ────────────────▶ in use
//!     ▲                      │ Refused             │ abort (knotd did not take it)
//!     └──────────────────────┴─────────────────────┘
//! ```
//!
//! What it says is gathered as frames, so that what is prepared for many zones is one write ([`Desk::take_out`]).

use std::collections::HashMap;

use herald_core::{Generation, Name, RrKey, Rrset, ZoneId};
use steering::link::{ToAgent, ToModule, ZoneHead, encode_frame};

use super::zone::{WholeZone, about_bytes};

/// A change that takes about more bytes than this is told as a whole zone, in parts.
const CHANGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// See the module.
#[derive(Default)]
pub struct Desk {
    connection: Option<u64>,
    in_use: HashMap<ZoneId, Generation>,
    /// What is on its way to be in use, and for which name in knotd.
    pending: HashMap<ZoneId, Pending>,
    out: Vec<u8>,
}

struct Pending {
    generation: Generation,
    name: Name,
    is_prepared: bool,
    /// Whether nothing of the zone is left for the module.
    is_empty: bool,
}

/// A change of a zone that the module has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The zone.
    pub zone: ZoneId,
    /// What the module had to have before; none if the zone had no steering.
    pub before: Option<Generation>,
    /// What it has to have afterwards; none if the zone has no steering any more.
    pub after: Option<Generation>,
    /// The zone's generation afterwards.
    pub generation: Generation,
    /// Whether the zone is private.
    pub is_private: bool,
    /// Whether all records are for the module, too.
    pub with_records: bool,
    /// Whether what is for the module can't be told from the change: it has to be told the whole zone.
    pub is_whole_needed: bool,
}

impl Change {
    /// One change of a zone and a later one, as one.
    pub fn followed_by(earlier: Option<Change>, later: Option<Change>) -> Option<Change> {
        match (earlier, later) {
            (Some(earlier), Some(later)) => Some(Change {
                before: earlier.before,
                with_records: earlier.with_records || later.with_records,
                is_whole_needed: earlier.is_whole_needed || later.is_whole_needed,
                ..later
            }),
            (earlier, later) => earlier.or(later),
        }
    }
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepare {
    /// The module is being told.
    Told,
    /// The module has this, or something newer, which is prepared already.
    Known,
    /// The module has something else than the change builds upon: it has to be told the whole zone.
    WholeNeeded,
}

/// What the module said of a zone that was being prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The zone.
    pub zone: ZoneId,
    /// Its name.
    pub name: Name,
    /// Whether it is prepared, or why not.
    pub result: Result<(), String>,
}

impl Desk {
    /// A connection stands, and the module has these in use.
    pub fn up(&mut self, connection: u64, zones: impl IntoIterator<Item = (ZoneId, Generation)>) {
        self.connection = Some(connection);
        self.in_use = zones.into_iter().collect();
        self.pending.clear();
        self.out.clear();
    }

    /// The connection is gone: what was being prepared has to be told again.
    pub fn down(&mut self) {
        *self = Desk::default();
    }

    /// Whether a connection stands.
    pub fn is_up(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether this is the connection that stands.
    pub fn is_connection(&self, connection: u64) -> bool {
        self.connection == Some(connection)
    }

    /// What the module has in use of a zone.
    pub fn in_use(&self, zone: ZoneId) -> Option<Generation> {
        self.in_use.get(&zone).copied()
    }

    /// What it has in use.
    pub fn zones(&self) -> impl Iterator<Item = (ZoneId, Generation)> {
        self.in_use.iter().map(|(zone, generation)| (*zone, *generation))
    }

    /// Tells it a change: of RRsets where none means that it is gone, `soa` being the zone's SOA afterwards.
    pub fn prepare_change<'a>(
        &mut self,
        name: &Name,
        change: &Change,
        serial: u32,
        soa: &Rrset,
        rrsets: impl IntoIterator<Item = (&'a RrKey, Option<&'a Rrset>)>,
    ) -> Prepare {
        let in_use = self.in_use(change.zone);
        let generation = change.after.unwrap_or(change.generation);
        if change.after.is_some() && in_use.is_some_and(|in_use| in_use >= generation) {
            return Prepare::Known;
        }
        if change.before.is_none() && change.after.is_none() && in_use.is_none() {
            return Prepare::Known;
        }
        if change.is_whole_needed || in_use != change.before {
            return Prepare::WholeNeeded;
        }
        let zone = change.zone;
        let head = ZoneHead {
            zone,
            name: name.clone(),
            generation,
            serial,
            private: change.is_private,
            soa: soa.clone(),
        };
        let (mut puts, mut deletes, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (key, rrset) in rrsets {
            bytes += about_bytes(&key.owner, rrset);
            match rrset {
                Some(rrset) => puts.push((key.clone(), rrset.clone())),
                None => deletes.push(key.clone()),
            }
        }
        if bytes > CHANGE_BYTES_MAX {
            return Prepare::WholeNeeded;
        }
        match in_use {
            Some(base) => self.say(&ToModule::Delta { head, base, puts, deletes }),
            None => {
                self.say(&ToModule::Begin(head));
                self.say(&ToModule::Part { zone, rrsets: puts });
                self.say(&ToModule::End { zone });
            }
        }
        self.await_answer(name, zone, generation, change.after.is_none());
        Prepare::Told
    }

    /// Tells it a whole zone.
    pub fn prepare_whole(&mut self, name: &Name, whole: &WholeZone) -> Prepare {
        let is_empty = whole.steering_rrsets == 0;
        match self.in_use(whole.zone) {
            None if is_empty => return Prepare::Known,
            Some(in_use) if !is_empty && in_use == whole.generation => return Prepare::Known,
            _ => {}
        }
        self.out.extend_from_slice(&whole.frames);
        self.await_answer(name, whole.zone, whole.generation, is_empty);
        Prepare::Told
    }

    fn await_answer(&mut self, name: &Name, zone: ZoneId, generation: Generation, is_empty: bool) {
        let pending = Pending { generation, name: name.clone(), is_prepared: false, is_empty };
        self.pending.insert(zone, pending);
    }

    /// It answered; none if that is of no account any more.
    pub fn answered(&mut self, message: ToAgent) -> Option<Answer> {
        let (zone, generation, result) = match message {
            ToAgent::Prepared { zone, generation } => (zone, generation, Ok(())),
            ToAgent::Refused { zone, generation, reason } => (zone, generation, Err(reason)),
            ToAgent::Hello { .. }
            | ToAgent::GeoLoaded { .. }
            | ToAgent::FirewallLoaded { .. }
            | ToAgent::Status(_)
            | ToAgent::Queries { .. }
            | ToAgent::Counts(_) => {
                return None;
            }
        };
        let pending = self.pending.get_mut(&zone)?;
        if pending.generation != generation || pending.is_prepared {
            return None;
        }
        let name = pending.name.clone();
        match result {
            Ok(()) => pending.is_prepared = true,
            Err(_) => drop(self.pending.remove(&zone)),
        }
        Some(Answer { zone, name, result })
    }

    /// knotd serves what was prepared, or the zone is private, and nothing more is to be waited for.
    pub fn settle(&mut self, zone: ZoneId) {
        let Some(Pending { generation, is_empty, .. }) = self.pending.remove(&zone) else { return };
        self.say(&ToModule::Settle { zone, generation });
        if is_empty {
            self.in_use.remove(&zone);
            self.say(&ToModule::Remove { zone });
        } else {
            self.in_use.insert(zone, generation);
        }
    }

    /// knotd did not take it.
    pub fn abort(&mut self, zone: ZoneId) {
        let Some(Pending { generation, .. }) = self.pending.remove(&zone) else { return };
        self.say(&ToModule::Abort { zone, generation });
    }

    /// The zone is gone.
    pub fn remove(&mut self, zone: ZoneId) {
        let was_pending = self.pending.remove(&zone).is_some();
        if self.in_use.remove(&zone).is_some() || was_pending {
            self.say(&ToModule::Remove { zone });
        }
    }

    /// Tells it something that is of no zone.
    pub fn say(&mut self, message: &ToModule) {
        if self.is_up() {
            encode_frame(message, &mut self.out);
        }
    }

    /// What is to be written, and to which connection.
    pub fn take_out(&mut self) -> Option<(u64, Vec<u8>)> {
        let connection = self.connection?;
        (!self.out.is_empty()).then(|| (connection, std::mem::take(&mut self.out)))
    }
}

#[cfg(test)]
mod tests {
    use herald_core::Rdatas;
    use herald_core::steering::POOL;
    use steering::link::decode_frame;

    use super::*;

    const ZONE: ZoneId = ZoneId(7);

    fn generation(counter: u64) -> Generation {
        Generation { epoch: 1, counter }
    }

    fn change(before: Option<u64>, after: Option<u64>, at: u64) -> Change {
        Change {
            zone: ZONE,
            before: before.map(generation),
            after: after.map(generation),
            generation: generation(at),
            is_private: false,
            with_records: false,
            is_whole_needed: false,
        }
    }

    fn rrset(bytes: usize) -> Rrset {
        Rrset { ttl: 0, rdatas: Rdatas::single(&vec![1; bytes]) }
    }

    fn prepare(desk: &mut Desk, change: &Change, rdata_bytes: usize) -> Prepare {
        let name = Name::parse("example.com.").unwrap();
        let (key, value) = (RrKey::new(name.clone(), POOL), rrset(rdata_bytes));
        desk.prepare_change(&name, change, 5, &rrset(30), [(&key, Some(&value))])
    }

    fn prepared(desk: &mut Desk, counter: u64) -> Option<Answer> {
        desk.answered(ToAgent::Prepared { zone: ZONE, generation: generation(counter) })
    }

    fn said(desk: &mut Desk) -> Vec<ToModule> {
        let (_, bytes) = desk.take_out().unwrap_or_default();
        let (mut taken, mut messages) = (0, Vec::new());
        while let Some((count, message)) = decode_frame(&bytes[taken..]).unwrap() {
            taken += count;
            messages.push(message);
        }
        assert_eq!(taken, bytes.len());
        messages
    }

    #[test]
    fn a_change_builds_upon_what_is_in_use_or_needs_the_whole_zone() {
        let table = [
            // What is in use, the change, and what becomes of it.
            (Some(3), change(Some(3), Some(4), 4), Prepare::Told),
            (None, change(None, Some(4), 4), Prepare::Told),
            (Some(3), change(Some(3), None, 4), Prepare::Told),
            (Some(2), change(Some(3), Some(4), 4), Prepare::WholeNeeded),
            (None, change(Some(3), Some(4), 4), Prepare::WholeNeeded),
            (Some(3), change(None, Some(4), 4), Prepare::WholeNeeded),
            (Some(3), Change { is_whole_needed: true, ..change(Some(3), Some(4), 4) }, Prepare::WholeNeeded),
            // A file was read later than the change was made.
            (Some(4), change(Some(3), Some(4), 4), Prepare::Known),
            (Some(9), change(Some(3), Some(4), 4), Prepare::Known),
            (None, change(None, None, 4), Prepare::Known),
        ];
        for (in_use, change, becomes) in table {
            let mut desk = Desk::default();
            desk.up(1, in_use.map(|in_use| (ZONE, generation(in_use))));
            assert_eq!(prepare(&mut desk, &change, 10), becomes, "{in_use:?} {change:?}");
            assert_eq!(said(&mut desk).is_empty(), becomes != Prepare::Told);
        }
    }

    #[test]
    fn what_does_not_fit_into_a_message_is_told_as_a_whole() {
        let mut desk = Desk::default();
        desk.up(1, [(ZONE, generation(3))]);
        let name = Name::parse("example.com.").unwrap();
        let keys =
            (0..=CHANGE_BYTES_MAX / 60_000).map(|n| RrKey::new(name.child(format!("p{n}")).unwrap(), POOL));
        let (keys, value): (Vec<RrKey>, _) = (keys.collect(), rrset(60_000));
        let rrsets = keys.iter().map(|key| (key, Some(&value)));
        let change = change(Some(3), Some(4), 4);
        assert_eq!(desk.prepare_change(&name, &change, 5, &rrset(30), rrsets), Prepare::WholeNeeded);
        assert_eq!(desk.take_out(), None);
    }

    #[test]
    fn answers_of_no_account_are_passed_over() {
        let mut desk = Desk::default();
        desk.up(1, [(ZONE, generation(3))]);
        assert_eq!(prepared(&mut desk, 4), None, "nothing was asked");
        prepare(&mut desk, &change(Some(3), Some(4), 4), 10);
        prepare(&mut desk, &change(Some(3), Some(5), 5), 10);
        assert_eq!(prepared(&mut desk, 4), None, "something later was told since");
        assert!(prepared(&mut desk, 5).is_some_and(|answer| answer.result.is_ok()));
        assert_eq!(prepared(&mut desk, 5), None, "it was answered");
        said(&mut desk);
        desk.settle(ZONE);
        assert_eq!(said(&mut desk), [ToModule::Settle { zone: ZONE, generation: generation(5) }]);
        assert_eq!(desk.in_use(ZONE), Some(generation(5)));
        desk.settle(ZONE);
        desk.abort(ZONE);
        assert!(said(&mut desk).is_empty(), "there is nothing on its way");
    }

    #[test]
    fn what_is_aborted_or_refused_leaves_what_was_in_use() {
        let mut desk = Desk::default();
        desk.up(1, [(ZONE, generation(3))]);
        prepare(&mut desk, &change(Some(3), Some(4), 4), 10);
        prepared(&mut desk, 4);
        said(&mut desk);
        desk.abort(ZONE);
        assert_eq!(said(&mut desk), [ToModule::Abort { zone: ZONE, generation: generation(4) }]);
        prepare(&mut desk, &change(Some(3), Some(5), 5), 10);
        let reason = "no".to_owned();
        let refused = ToAgent::Refused { zone: ZONE, generation: generation(5), reason };
        assert_eq!(desk.answered(refused).unwrap().result, Err("no".into()));
        assert_eq!(desk.in_use(ZONE), Some(generation(3)));
    }

    #[test]
    fn a_zone_whose_last_steering_goes_is_removed_once_that_is_served() {
        let mut desk = Desk::default();
        desk.up(1, [(ZONE, generation(3))]);
        assert_eq!(prepare(&mut desk, &change(Some(3), None, 4), 10), Prepare::Told);
        prepared(&mut desk, 4);
        said(&mut desk);
        desk.settle(ZONE);
        let settle = ToModule::Settle { zone: ZONE, generation: generation(4) };
        assert_eq!(said(&mut desk), [settle, ToModule::Remove { zone: ZONE }]);
        assert_eq!(desk.zones().count(), 0);
    }

    #[test]
    fn nothing_is_said_without_a_connection() {
        let mut desk = Desk::default();
        desk.say(&ToModule::Ask);
        assert_eq!(desk.take_out(), None);
        desk.up(1, []);
        desk.say(&ToModule::Ask);
        desk.down();
        assert_eq!(desk.take_out(), None, "what was for a connection that broke is for no other");
    }
}
