//! Looking for what knotd serves though it should not, or otherwise than it should: somebody's `knotc`, a load that
//! failed later, a file that was purged.
//!
//! All served zones are asked for by DNS in rounds, and each catalog is read once a round, both at a constant rate. What is
//! found is reported and so mended by the agent, a bounded number of zones at a time.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use herald_core::{Name, Rtype};

use super::control::{Control, Event, Mode};
use super::encode::{push_set, push_short, push_unset, push_zone};
use super::socket::WorkError;
use super::zone::Phase;
use super::{Report, TaskError};
use crate::knot::catalog;
use crate::knot::ctl::{Batch, Command, Item};
use crate::knot::probe::{read_soa_answer, soa_query, socket_to};
use crate::knot::text;

/// The least time between two handfuls of questions.
const TICK_MIN: Duration = Duration::from_millis(100);

/// Zones that are being mended at the same time.
const MENDING_MAX: usize = 100;

/// After this time a zone that was reported doesn't count any more.
const MENDING_FOR: Duration = Duration::from_secs(60);

/// Questions that are sent before answers are read: these have to fit into the socket's receive buffer.
const BURST_QUERIES: usize = 100;

/// How long an answer may take; then it's asked once more.
const ANSWER_WAIT: Duration = Duration::from_millis(250);

/// Where a round stands.
#[derive(Default)]
pub(super) struct Sweep {
    /// Zones that are still to be asked for.
    zones: Vec<Name>,
    /// How many there were when the round began.
    round_zones: usize,
    drifted: u64,
    round_since: Option<Instant>,
    next_at: Option<Instant>,
    /// Whether questions are out.
    is_asking: bool,
    /// The catalog that is read next, and when.
    catalog: usize,
    catalog_at: Option<Instant>,
    /// Zones that were reported, and since when they are being mended.
    mending: HashMap<Name, Instant>,
    /// Records in catalogs that aren't ours, by the catalog.
    strays: Vec<(usize, Name)>,
}

/// A zone that is served otherwise than it should be.
#[derive(Debug)]
pub(super) struct Drift {
    zone: Name,
    expected: u32,
    serving: Option<u32>,
}

impl Sweep {
    /// When there's something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.next_at.filter(|_| !self.is_asking), self.catalog_at].into_iter().flatten().min()
    }

    /// Begins anew after a while: knotd is another one, or has just been looked at as a whole.
    pub(super) fn restart(&mut self, interval: Duration) {
        let (is_asking, now) = (self.is_asking, Instant::now());
        *self = Sweep { is_asking, ..Sweep::default() };
        if !interval.is_zero() {
            self.next_at = Some(now + TICK_MIN);
            self.catalog_at = Some(now + TICK_MIN);
        }
    }

    pub(super) fn stop(&mut self) {
        *self = Sweep { is_asking: self.is_asking, ..Sweep::default() };
    }

    /// The zone is served as it should be, or is no more.
    pub(super) fn mended(&mut self, zone: &Name) {
        self.mending.remove(zone);
    }
}

impl Control {
    /// Asks for the next few zones, and reads the next catalog.
    pub(super) fn run_sweep(&mut self) -> Result<(), WorkError> {
        let now = Instant::now();
        if self.sweep.next_at.is_some_and(|at| at <= now) && !self.sweep.is_asking {
            self.ask_for_some(now);
        }
        if self.sweep.catalog_at.is_some_and(|at| at <= now) {
            let count = u32::try_from(self.catalogs.names().len()).unwrap_or(u32::MAX);
            self.sweep.catalog_at = Some(now + (self.config.limits.sweep_interval / count).max(TICK_MIN));
            let index = self.sweep.catalog % self.catalogs.names().len();
            self.sweep.catalog = index + 1;
            self.check_catalog(index)?;
        }
        if !self.sweep.strays.is_empty() {
            self.remove_strays()?;
        }
        Ok(())
    }

    fn ask_for_some(&mut self, now: Instant) {
        let interval = self.config.limits.sweep_interval;
        if self.sweep.zones.is_empty() {
            if let Some(since) = self.sweep.round_since.take() {
                let (zones, drifted) = (self.sweep.round_zones as u64, mem::take(&mut self.sweep.drifted));
                let _ = self.reports.send(Report::Swept { zones, drifted });
                self.sweep.next_at = Some((since + interval).max(now + TICK_MIN));
                return;
            }
            let served = self.zones.iter().filter(|(_, zone)| matches!(zone.phase, Phase::Served { .. }));
            self.sweep.zones = served.map(|(name, _)| name.clone()).collect();
            self.sweep.round_zones = self.sweep.zones.len();
            self.sweep.round_since = Some(now);
        }
        let mending_since = now.checked_sub(MENDING_FOR);
        self.sweep.mending.retain(|_, since| mending_since.is_none_or(|at| *since >= at));
        let round = self.sweep.round_zones.max(1);
        let tick = (interval / u32::try_from(round).unwrap_or(u32::MAX)).max(TICK_MIN);
        self.sweep.next_at = Some(now + tick);
        if self.sweep.mending.len() >= MENDING_MAX {
            return;
        }
        let count = (round as f64 * tick.as_secs_f64() / interval.as_secs_f64()).ceil() as usize;
        let names = self.sweep.zones.split_off(self.sweep.zones.len().saturating_sub(count));
        // What is about to change is asked for when its turn comes again.
        let questions: Vec<(Name, u32)> = names
            .into_iter()
            .filter_map(|name| match self.zones.get(&name)? {
                zone if zone.is_idle() => match zone.phase {
                    Phase::Served { serial } => Some((name, serial)),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        if !questions.is_empty() && self.sweeper.send(questions).is_ok() {
            self.sweep.is_asking = true;
        }
    }

    /// Answers have come: what is still the other way than it should be is reported.
    pub(super) fn swept(&mut self, drifts: Vec<Drift>) {
        self.sweep.is_asking = false;
        if self.mode == Mode::Running {
            self.drifts.extend(drifts);
        }
    }

    /// Reports what was found, if it is still so.
    pub(super) fn judge_drifts(&mut self) -> Result<(), WorkError> {
        let mut drifts = mem::take(&mut self.drifts);
        drifts.retain(|drift| {
            self.zones.get(&drift.zone).is_some_and(|zone| {
                zone.phase == Phase::Served { serial: drift.expected }
                    && self.sweep.mending.len() < MENDING_MAX
                    && self.sweep.mending.insert(drift.zone.clone(), Instant::now()).is_none()
            })
        });
        if drifts.is_empty() {
            return Ok(());
        }
        // Somebody's open transaction would keep the zone from being loaded, for ever.
        let mut aborts = Batch::new();
        for (index, drift) in drifts.iter().enumerate() {
            push_zone(&mut aborts, Command::ZoneAbort, &drift.zone, index);
        }
        let mut connection = self.connect()?;
        connection.run(&aborts, |_| {})?;
        connection.close();
        for Drift { zone: name, serving, .. } in drifts {
            let Some(zone) = self.zones.get_mut(&name) else { continue };
            zone.phase = Phase::Broken;
            self.sweep.drifted += 1;
            let _ = self.reports.send(Report::Stale { zone: name.clone(), serving });
            // What waits builds upon what isn't there.
            self.fail_content(&name, Vec::new(), &TaskError::NotServed);
        }
        Ok(())
    }

    /// Compares the members of a catalog with the zones that should be there.
    fn check_catalog(&mut self, index: usize) -> Result<(), WorkError> {
        let catalog = self.catalogs.names()[index].clone();
        let mut batch = Batch::new();
        let items: [(Item, &[u8]); 2] = [(Item::Zone, &text::name_text(&catalog)), (Item::Type, b"PTR")];
        push_short(&mut batch, Command::ZoneRead, &items);
        let mut found: Vec<(Name, Name)> = Vec::new();
        let mut connection = self.connect()?;
        connection.run(&batch, |reply| {
            if reply.error().is_none()
                && let (Ok(owner), Ok(member)) =
                    (Name::parse(reply.text(Item::Owner)), Name::parse(reply.text(Item::Data)))
            {
                found.push((owner, member));
            }
        })?;
        connection.close();
        for (owner, member) in found {
            let is_ours = self.catalogs.index_of(&member) == index
                && catalog::member_owner(&catalog, &member).is_ok_and(|ours| ours == owner);
            if !is_ours && self.sweep.strays.len() < MENDING_MAX {
                self.sweep.drifted += 1;
                self.sweep.strays.push((index, owner));
            } else if is_ours && !self.zones.contains_key(&member) && self.sweep.mending.len() < MENDING_MAX {
                self.sweep.drifted += 1;
                self.sweep.mending.insert(member.clone(), Instant::now());
                self.found_unexpected(member);
            }
        }
        Ok(())
    }

    /// Takes out of the catalogs what this program would not have put there in this way.
    fn remove_strays(&mut self) -> Result<(), WorkError> {
        let mut by_catalog: HashMap<usize, Vec<Name>> = HashMap::new();
        for (index, owner) in mem::take(&mut self.sweep.strays) {
            by_catalog.entry(index).or_default().push(owner);
        }
        let mut connection = self.connect()?;
        for (index, owners) in by_catalog {
            let name = self.catalogs.names()[index].clone();
            let zone = text::name_text(&name);
            let serial = self.catalog_serials[index].wrapping_add(1);
            self.maybe_open.insert(name.clone());
            let mut batch = Batch::new();
            push_short(&mut batch, Command::ZoneAbort, &[(Item::Zone, &zone)]);
            push_short(&mut batch, Command::ZoneBegin, &[(Item::Zone, &zone)]);
            for owner in &owners {
                push_unset(&mut batch, &zone, owner, Rtype::PTR, usize::MAX);
            }
            push_set(&mut batch, &zone, &name, Rtype::SOA, &catalog::soa(serial), usize::MAX);
            push_short(&mut batch, Command::ZoneCommit, &[(Item::Zone, &zone)]);
            let mut error = None;
            connection.run(&batch, |reply| {
                if !matches!(reply.text(Item::Command), "zone-abort" | "zone-unset") {
                    error = error.take().or(reply.error());
                }
            })?;
            if let Some(error) = error {
                return Err(WorkError::Catalog(error));
            }
            self.maybe_open.remove(&name);
            self.catalog_serials[index] = serial;
        }
        connection.close();
        Ok(())
    }
}

// ---------------------------------------------------------------------------------------------------
// The thread that asks
// ---------------------------------------------------------------------------------------------------

/// Asks for the serials of zones, and tells which aren't as they should be. No answer tells nothing: knotd may be
/// stopped, and then others notice.
pub(super) fn ask(
    address: SocketAddr,
    questions: &Receiver<Vec<(Name, u32)>>,
    events: &Sender<Event>,
) -> io::Result<()> {
    let socket = socket_to(address)?;
    let mut id = 0;
    for batch in questions {
        let mut open: HashMap<Name, u32> = batch.into_iter().collect();
        let mut drifts = Vec::new();
        for _ in 0..2 {
            let names: Vec<Name> = open.keys().cloned().collect();
            for burst in names.chunks(BURST_QUERIES) {
                ask_burst(&socket, &mut id, burst, &mut open, &mut drifts);
            }
        }
        if events.send(Event::Swept(drifts)).is_err() {
            break;
        }
    }
    Ok(())
}

fn ask_burst(
    socket: &UdpSocket,
    id: &mut u16,
    names: &[Name],
    open: &mut HashMap<Name, u32>,
    drifts: &mut Vec<Drift>,
) {
    for name in names {
        *id = id.wrapping_add(1);
        // An error here is one of an earlier question (nobody listens).
        let _ = socket.send(&soa_query(*id, name));
    }
    let deadline = Instant::now() + ANSWER_WAIT;
    let mut waiting = names.len();
    let mut buffer = [0; 1500];
    while waiting > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return;
        }
        let Ok(count) = socket.recv(&mut buffer) else { continue };
        let Some(answer) = read_soa_answer(&buffer[..count]) else { continue };
        if let Some(expected) = open.remove(&answer.zone) {
            waiting -= 1;
            if answer.serial != Some(expected) {
                drifts.push(Drift { zone: answer.zone, expected, serving: answer.serial });
            }
        }
    }
}
