//! A model of knotd and its driver: takes jobs, is slow, refuses some, is restarted.
//!
//! knotd outlives the agent; the driver's jobs don't. As with the real ones, a job that waits is replaced by a later one of the
//! zone, a delta needs a zone that is served with what it builds upon, and after a start all zones are looked through.

use std::collections::{BTreeMap, BTreeSet};

use dns_sync::knot::driver::{Job, Put, Report, Task, TaskError};
use dns_sync::knot::zonefile::ZoneWriter;
use herald_core::zone::serial_is_newer;
use herald_core::{Name, Rdatas, RrKey, Rrset, Rtype};

use crate::mutation::Mutation;

/// A zone as it is answered.
#[derive(Clone, Default)]
pub struct Served {
    /// All RRsets, the SOA too.
    pub rrsets: BTreeMap<RrKey, Rrset>,
}

/// See the module.
#[derive(Default)]
pub struct Knot {
    /// Whether knotd runs.
    pub is_running: bool,
    /// What knotd answers.
    pub zones: BTreeMap<Name, Served>,
    /// What it would start with.
    pub files: BTreeMap<Name, Served>,
    /// Whether the driver may use it.
    is_resumed: bool,
    jobs: BTreeMap<Name, Vec<Job>>,
    /// Zones of which the driver knows what is served.
    known: BTreeSet<Name>,
    /// What is wrong with it on purpose.
    pub mutation: Option<Mutation>,
}

/// What became of a zone's jobs.
pub struct Done {
    /// Reports, in order.
    pub reports: Vec<Report>,
    /// Whether what is answered may have changed.
    pub is_changed: bool,
}

impl Served {
    /// A zone from its RRsets.
    pub fn new(rrsets: impl IntoIterator<Item = (RrKey, Rrset)>) -> Served {
        Served { rrsets: rrsets.into_iter().collect() }
    }

    /// Digest of everything but the SOA: a file may have newer content than its serial says.
    pub fn body(&self, apex: &Name) -> u128 {
        let soa = RrKey::new(apex.clone(), Rtype::SOA);
        self.rrsets
            .iter()
            .filter(|(key, _)| **key != soa)
            .fold(0, |sum, (key, rrset)| sum.wrapping_add(rrset.digest(key)))
    }

    /// Digest of everything.
    pub fn digest(&self) -> u128 {
        self.rrsets.iter().fold(0, |sum, (key, rrset)| sum.wrapping_add(rrset.digest(key)))
    }

    /// The serial.
    pub fn serial(&self, apex: &Name) -> Option<u32> {
        self.rrsets.get(&RrKey::new(apex.clone(), Rtype::SOA)).and_then(soa_serial)
    }
}

fn soa_serial(soa: &Rrset) -> Option<u32> {
    let rdata = soa.rdatas.iter().next()?;
    Some(u32::from_be_bytes(*rdata.get(rdata.len().checked_sub(20)?..)?.first_chunk()?))
}

impl Knot {
    /// Takes jobs; gives the zones that have something to do now.
    pub fn submit(&mut self, jobs: Vec<Job>) -> Vec<Name> {
        let mut zones = Vec::new();
        for job in jobs {
            let name = name_of(&job).clone();
            zones.push(name.clone());
            self.jobs.entry(name).or_default().push(job);
        }
        if self.is_resumed { zones } else { Vec::new() }
    }

    /// A new agent: the driver knows nothing and has nothing to do.
    pub fn forget_driver(&mut self) {
        self.suspend();
        self.jobs.clear();
    }

    /// knotd is gone, or is about to be.
    pub fn suspend(&mut self) {
        self.is_resumed = false;
        self.known.clear();
    }

    /// Goes on with a knotd that should serve these; gives reports, and the zones that have something to do.
    pub fn resume(&mut self, expected: &[(Name, u32)]) -> (Vec<Report>, Vec<Name>) {
        self.is_resumed = true;
        let mut reports = Vec::new();
        for (zone, serial) in expected {
            let serving = self.zones.get(zone).and_then(|served| served.serial(zone));
            if serving != Some(*serial) {
                reports.push(Report::Stale { zone: zone.clone(), serving });
                continue;
            }
            self.known.insert(zone.clone());
            // What is served already is done.
            if let Some(jobs) = self.jobs.get_mut(zone) {
                let is_done = |job: &Job| match &job.task {
                    Task::Put(put) => !serial_is_newer(put.serial, *serial),
                    Task::Delta(delta) => {
                        soa_serial(&delta.soa).is_some_and(|own| !serial_is_newer(own, *serial))
                    }
                    Task::Remove => false,
                };
                let done = jobs.iter().take_while(|job| is_done(job)).count();
                reports.extend(jobs.drain(..done).map(|job| report(job, Ok(()))));
            }
        }
        let expected: BTreeSet<&Name> = expected.iter().map(|(zone, _)| zone).collect();
        let unexpected = self.zones.keys().filter(|zone| !expected.contains(zone));
        reports.extend(unexpected.map(|zone| Report::Unexpected { zone: zone.clone() }));
        reports.push(Report::Settled);
        self.jobs.retain(|_, jobs| !jobs.is_empty());
        (reports, self.jobs.keys().cloned().collect())
    }

    /// The same, if knotd was gone on with.
    pub fn compare(&mut self, expected: &[(Name, u32)]) -> (Vec<Report>, Vec<Name>) {
        if !self.is_resumed {
            return (Vec::new(), Vec::new());
        }
        self.suspend();
        self.resume(expected)
    }

    /// Does what there is to do for a zone; with `fault`, it fails.
    pub fn work(&mut self, zone: &Name, mut fault: Option<TaskError>) -> Done {
        let mut done = Done { reports: Vec::new(), is_changed: false };
        if !self.is_resumed || !self.is_running {
            return done;
        }
        let jobs = self.jobs.remove(zone).unwrap_or_default();
        // All before the last whole one is replaced by it.
        let whole = jobs.iter().rposition(|job| !matches!(job.task, Task::Delta(_))).unwrap_or(0);
        let mut replaced = Vec::new();
        for (place, job) in jobs.into_iter().enumerate() {
            if place < whole {
                replaced.push(job);
                continue;
            }
            let result = match fault.take() {
                Some(fault) => {
                    // Nobody knows what it does after a time-out.
                    if matches!(fault, TaskError::TimedOut { .. }) {
                        done.is_changed |= self.carry_out(&job).is_ok();
                    }
                    Err(fault)
                }
                None => self.carry_out(&job),
            };
            match &result {
                Ok(()) => done.is_changed = true,
                Err(_) => drop(self.known.remove(zone)),
            }
            let before = replaced.drain(..).map(|job| report(job, result.clone()));
            done.reports.extend(before.collect::<Vec<_>>());
            done.reports.push(report(job, result));
        }
        done
    }

    fn carry_out(&mut self, job: &Job) -> Result<(), TaskError> {
        let zone = name_of(job);
        match &job.task {
            Task::Put(put) => {
                let served = read_content(put).map_err(|error| TaskError::File(error.to_string()))?;
                self.files.insert(zone.clone(), served.clone());
                if self.mutation != Some(Mutation::OlderContent) || !self.zones.contains_key(zone) {
                    self.zones.insert(zone.clone(), served);
                }
                self.known.insert(zone.clone());
            }
            Task::Delta(delta) => {
                let served = self.zones.get_mut(zone).filter(|_| self.known.contains(zone));
                let served = served.ok_or(TaskError::NotServed)?;
                for (key, rrset) in &delta.changes {
                    match rrset {
                        Some(rrset) => served.rrsets.insert(key.clone(), rrset.clone()),
                        None if self.mutation == Some(Mutation::KeptRrset) => None,
                        None => served.rrsets.remove(key),
                    };
                }
                served.rrsets.insert(RrKey::new(zone.clone(), Rtype::SOA), delta.soa.clone());
            }
            Task::Remove => {
                self.zones.remove(zone);
                self.files.remove(zone);
                self.known.remove(zone);
            }
        }
        Ok(())
    }
}

/// The zones of a simulation are for everybody.
fn name_of(job: &Job) -> &Name {
    job.zone.public_name().expect("no zone is private here")
}

fn report(job: Job, result: Result<(), TaskError>) -> Report {
    Report::Done { zone: job.zone, tag: job.tag, result }
}

/// Reads a zone's content as knotd does: from the text of its file.
fn read_content(put: &Put) -> std::io::Result<Served> {
    let mut text = Vec::new();
    put.content.write(&mut ZoneWriter::new(&mut text))?;
    let text = String::from_utf8(text).expect("a zone file is ASCII");
    let mut records: BTreeMap<RrKey, (u32, Vec<Vec<u8>>)> = BTreeMap::new();
    for line in text.lines() {
        // `owner TTL TYPEn \# length hex`
        let mut words = line.split(' ');
        let mut word = || words.next().expect("six words a record");
        let owner = Name::parse(word()).expect("an owner");
        let ttl = word().parse().expect("a TTL");
        let rtype = word().strip_prefix("TYPE").and_then(|number| number.parse().ok()).expect("a type");
        assert_eq!(word(), "\\#");
        let length: usize = word().parse().expect("a length");
        let hex = words.next().unwrap_or_default();
        let octet = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
        let rdata = (0..length).map(octet).collect();
        let (_, rdatas) =
            records.entry(RrKey::new(owner, Rtype::from_int(rtype))).or_insert_with(|| (ttl, Vec::new()));
        rdatas.push(rdata);
    }
    let rrsets = records
        .into_iter()
        .map(|(key, (ttl, rdatas))| (key, Rrset { ttl, rdatas: Rdatas::from_iter(rdatas) }));
    Ok(Served::new(rrsets))
}
