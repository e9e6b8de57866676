//! A PoP: the real agent's core on a real replica, a model of knotd, and the parts of the agent that a shell has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use dns_sync::agent::Contents;
use dns_sync::agent::core::Core;
use dns_sync::replica::{ReadZoneError, Reader, Replica};
use herald_core::{Generation, Name, ZoneId};

use crate::knot::{Knot, Served};
use crate::record::Record;

/// The wait after the first failed session; it doubles.
pub const BACKOFF_MIN_US: u64 = 200_000;
/// And is no longer than this.
pub const BACKOFF_MAX_US: u64 = 5_000_000;

/// The files of a replica: the database, and what of it isn't in there yet.
const REPLICA_FILES: [&str; 2] = ["replica.db", "replica.db-wal"];

/// See the module.
pub struct Pop {
    /// Its name.
    pub name: String,
    dir: PathBuf,
    /// Which life the agent is in: what was meant for an earlier one is of no account.
    pub life: u64,
    /// The agent, while it runs.
    pub agent: Option<Agent>,
    /// knotd and its driver.
    pub knot: Knot,
    /// Which life knotd is in.
    pub knot_life: u64,
    /// What is held against what comes next.
    pub seen: Seen,
}

/// The agent's process.
pub struct Agent {
    /// It decides.
    pub core: Core,
    /// Zones that knotd's content turned out to be damaged of.
    pub damaged: Receiver<ZoneId>,
    /// The connection, and how far it is.
    pub link: Option<(u64, Phase)>,
    /// When the control plane was last heard, or dialled.
    pub heard_us: u64,
    /// The control plane's head when the session began.
    pub greeted: Generation,
    /// How long to wait after the next failure.
    pub backoff_us: u64,
    /// When the core is to take its next step.
    pub step_us: Option<u64>,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The hello is sent.
    Hello {
        /// The newest generation here: a control plane that is behind it is refused.
        newest: Generation,
    },
    /// It stands.
    Open,
}

/// What was seen of a PoP.
#[derive(Default)]
pub struct Seen {
    /// The generation of each zone that the replica had last.
    pub rows: BTreeMap<ZoneId, Generation>,
    /// The newest one of each that was confirmed.
    pub confirmed: BTreeMap<ZoneId, Generation>,
    /// Zones that were damaged from outside: nothing is sure of them until all is calm.
    pub spoilt: BTreeSet<ZoneId>,
    /// Whether frames may come much too late, which only a hostile network brings about.
    pub is_hostile: bool,
}

impl Seen {
    /// Whether nothing is sure of this zone until all is calm: it was damaged, or removed and may have come again by frames that
    /// are late.
    pub fn is_unsure(&self, zone: ZoneId, record: &Record) -> bool {
        self.spoilt.contains(&zone) || self.is_hostile && record.had_ceased(zone, u64::MAX)
    }
}

impl Pop {
    /// A PoP that has never run.
    pub fn new(index: usize, dir: PathBuf) -> Pop {
        Pop {
            name: format!("pop{index}"),
            dir,
            life: 0,
            agent: None,
            knot: Knot::default(),
            knot_life: 0,
            seen: Seen::default(),
        }
    }

    /// Where its replica is.
    pub fn replica_dir(&self) -> PathBuf {
        self.dir.join("replica")
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// If the replica can't be opened.
    pub fn start(&mut self, now_us: u64) -> Result<(), String> {
        let replica = Replica::open(&self.replica_dir()).map_err(|error| error.to_string())?;
        self.life += 1;
        let (tell, damaged) = mpsc::channel();
        let contents = Contents::new(self.replica_dir(), move |zone| {
            // Nobody listens to an agent that was killed.
            let _ = tell.send(zone);
        });
        let mut core = Core::new(replica, contents, self.dir.join("replica.damaged"));
        core.resume_unapplied(Duration::from_micros(now_us));
        self.knot.forget_driver();
        self.agent = Some(Agent {
            core,
            damaged,
            link: None,
            heard_us: now_us,
            greeted: Generation::default(),
            backoff_us: BACKOFF_MIN_US,
            step_us: None,
        });
        Ok(())
    }

    /// Writes knotd's files anew from the replica; gives what is in them (none if they were left as they are), and the zones that
    /// are damaged.
    ///
    /// # Errors
    /// If the replica fails.
    #[expect(clippy::type_complexity, reason = "what the hook of the real agent tells")]
    pub fn materialize(&mut self) -> Result<(Option<Vec<(Name, u32)>>, Vec<ZoneId>), String> {
        let failed = |error: String| format!("{}'s replica failed: {error}", self.name);
        let reader = Reader::open(&self.replica_dir()).map_err(|error| failed(error.to_string()))?;
        let is_complete = reader.is_complete().map_err(|error| failed(error.to_string()))?;
        let (rows, _) = reader.zones().map_err(|error| failed(error.to_string()))?;
        if !is_complete && rows.len() < self.knot.files.len() {
            self.knot.zones = self.knot.files.clone();
            return Ok((None, Vec::new()));
        }
        let (mut files, mut written, mut damaged) = (BTreeMap::new(), Vec::new(), Vec::new());
        for row in rows {
            let mut rrsets = Vec::new();
            let each = |key: &_, rrset: &_| {
                rrsets.push((Clone::clone(key), Clone::clone(rrset)));
                Ok(())
            };
            match reader.zone(row.id, None, each) {
                Ok(_) => {
                    files.insert(row.name.clone(), Served::new(rrsets));
                    written.push((row.name, row.serial));
                }
                Err(ReadZoneError::Damaged(_)) => damaged.push(row.id),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        self.knot.zones.clone_from(&files);
        self.knot.files = files;
        Ok((Some(written), damaged))
    }

    /// Damages a value of some zone behind the agent's back; gives which zone.
    pub fn damage(&mut self, choice: u64) -> Option<ZoneId> {
        let db = rusqlite::Connection::open(self.replica_dir().join("replica.db")).ok()?;
        let zones: Vec<([u8; 16], i64)> = db
            .prepare("SELECT id, content FROM zone ORDER BY id")
            .ok()?
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
            .ok()?
            .collect::<Result<_, _>>()
            .ok()?;
        let (id, content) = zones.get(choice as usize % zones.len().max(1))?;
        let changed = match choice / 7 % 5 {
            // A row of an RRset that is another one now, or gone.
            0 | 1 => db.execute(
                "UPDATE rrset SET value = x'82183d' || substr(value, 4) WHERE (content, key) IN
                 (SELECT content, key FROM rrset WHERE content = ?1 ORDER BY key LIMIT 1)",
                (content,),
            ),
            2 => db.execute(
                "DELETE FROM rrset WHERE (content, key) IN
                 (SELECT content, key FROM rrset WHERE content = ?1 ORDER BY key LIMIT 1)",
                (content,),
            ),
            // The row of the zone itself: gone, or another one.
            3 => db.execute("DELETE FROM zone WHERE id = ?1", (id,)),
            _ => db.execute("UPDATE zone SET serial = serial + 1 WHERE id = ?1", (id,)),
        };
        if changed.ok()? == 0 {
            return None;
        }
        let zone = ZoneId(u128::from_be_bytes(*id));
        self.seen.spoilt.insert(zone);
        Some(zone)
    }

    /// Keeps what is on the disk now, to be [brought back](Pop::bring_back).
    pub fn remember_disk(&self) {
        let kept = self.dir.join("kept");
        let _ = fs::create_dir_all(&kept);
        for file in REPLICA_FILES {
            let _ = fs::copy(self.replica_dir().join(file), kept.join(file));
        }
    }

    /// The disk is again as it was remembered, if it was, which no disk may be.
    pub fn bring_back(&self) {
        let kept = self.dir.join("kept");
        if kept.is_dir() {
            for file in REPLICA_FILES {
                let _ = fs::remove_file(self.replica_dir().join(file));
                let _ = fs::copy(kept.join(file), self.replica_dir().join(file));
            }
        }
    }

    /// Holds what the replica has now against what was published and what it had before.
    ///
    /// # Errors
    /// What isn't as it must be.
    pub fn check_rows(&mut self, record: &Record) -> Result<(), String> {
        let Some(agent) = &self.agent else { return Ok(()) };
        let mut wrong = None;
        let seen = &mut self.seen;
        let all = agent.core.replica().for_each_zone(|row| {
            if seen.is_unsure(row.id, record) {
                return;
            }
            if !record.was_published(row.id, row.generation, &row.name, row.digest) {
                wrong = Some(format!("{} at {} was never published so", row.name, row.generation));
            }
            let newest = seen.rows.entry(row.id).or_insert(row.generation);
            if row.generation < *newest {
                wrong = Some(format!("{} went from {newest} back to {}", row.name, row.generation));
            }
            *newest = row.generation;
        });
        match (all, wrong) {
            (_, Some(wrong)) => Err(format!("{}: {wrong}", self.name)),
            // A damaged row: the core will come upon it.
            (Err(_) | Ok(()), None) => Ok(()),
        }
    }

    /// Whether what it confirms is durable and answered.
    ///
    /// # Errors
    /// What isn't.
    pub fn check_confirmed(
        &mut self,
        zone: ZoneId,
        generation: Generation,
        record: &Record,
    ) -> Result<(), String> {
        let Some(agent) = &self.agent else { return Ok(()) };
        if self.seen.is_unsure(zone, record) {
            return Ok(());
        }
        let held = |what: &str| format!("{} confirms {zone} at {generation}, but {what}", self.name);
        match agent.core.replica().zone(zone) {
            Ok(Some(row)) if row.generation < generation => return Err(held("the replica has an older one")),
            Ok(Some(row)) => {
                let served =
                    self.knot.zones.get(&row.name).ok_or_else(|| held("knotd does not answer it"))?;
                if self.knot.is_running
                    && !record.has_body(&row.name, served.body(&row.name), zone, generation)
                {
                    return Err(held("knotd answers something else"));
                }
            }
            Ok(None) => {
                // What was removed since is confirmed with the removal.
                if !record.had_ceased(zone, agent.core.replica().newest().counter) {
                    return Err(held("it is not there, and never ceased to be served"));
                }
                // A change before the removal may be confirmed while that is on its way to knotd.
                if record.had_ceased(zone, generation.counter)
                    && let Some((name, served)) =
                        record.name_of(zone).and_then(|name| self.knot.zones.get_key_value(name))
                    && self.knot.is_running
                    && !record.is_of_another(name, served.body(name), zone)
                {
                    return Err(held("knotd still answers it"));
                }
            }
            Err(_) => return Ok(()),
        }
        let confirmed = self.seen.confirmed.entry(zone).or_insert(generation);
        *confirmed = (*confirmed).max(generation);
        Ok(())
    }

    /// Whether all that was confirmed is still there, right after the agent was killed and started again.
    ///
    /// # Errors
    /// What isn't.
    pub fn check_restarted(&self, record: &Record) -> Result<(), String> {
        let Some(agent) = &self.agent else { return Ok(()) };
        let replica = agent.core.replica();
        for (zone, generation) in &self.seen.confirmed {
            if self.seen.is_unsure(*zone, record) {
                continue;
            }
            let is_there = match replica.zone(*zone) {
                Ok(Some(row)) => row.generation >= *generation,
                Ok(None) => record.had_ceased(*zone, replica.newest().counter),
                Err(_) => true,
            };
            if !is_there {
                return Err(format!("{} had confirmed {zone} at {generation}, and it is lost", self.name));
            }
        }
        Ok(())
    }
}
