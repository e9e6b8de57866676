//! The control plane: the real engine in steps, the real publisher's sessions, and those who write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herald::engine::{Commit, Committed, OnCommit, Stepped, SubmitError};
use herald::publisher::{Session, Shared};
use herald_core::account::{Principal, Scope};
use herald_core::alias::ALIAS;
use herald_core::alias::watch::Resolved;
use herald_core::brakes::Brakes;
use herald_core::command::{Action, Command, Context, EditOp, NsSetInput, RrsetEdit, ZoneEdit, ZoneRef};
use herald_core::content::Difference;
use herald_core::decide::Subject;
use herald_core::state::{Shared as Kept, State};
use herald_core::zone::{SoaFields, Zone};
use herald_core::{Name, PopId, Rdatas, RrKey, Rrset, Rtype, ZoneId};
use sha2::{Digest, Sha256};

use crate::random::Random;
use crate::record::Record;
use crate::store::Disk;

/// What the clock showed when the simulation began, in ms since the epoch.
const EPOCH_MS: u64 = 1_760_000_000_000;

/// How many names the writers fight for.
const NAMES: u64 = 8;

/// What outlives the process, and the process if it runs.
pub struct Control {
    /// The log.
    pub disk: Disk,
    /// The truth.
    pub record: Arc<Mutex<Record>>,
    /// The process.
    pub running: Option<Running>,
    /// Which life it is in.
    pub life: u64,
    clock_us: Arc<AtomicU64>,
    operator: Principal,
    tenants: Vec<Principal>,
    /// The PoPs.
    pub pops: Vec<PopId>,
}

/// The process.
pub struct Running {
    /// The engine.
    pub engine: Stepped,
    /// The publisher.
    pub shared: Arc<Shared>,
    /// Sessions by their links, and when each is to be polled.
    pub sessions: BTreeMap<u64, (Session, Option<u64>)>,
}

/// The secret of a PoP.
pub fn secret_of(pop: usize) -> String {
    format!("swordfish {pop}")
}

impl Control {
    /// A platform with so many PoPs.
    pub fn new(pops: usize, random: &mut Random) -> Control {
        let mut control = Control {
            disk: Disk::default(),
            record: Arc::default(),
            running: None,
            life: 0,
            clock_us: Arc::default(),
            operator: Principal::System,
            tenants: Vec::new(),
            pops: Vec::new(),
        };
        control.start(0).expect("an empty log is recovered");
        let bootstrap = Action::Bootstrap { secret_hash: [1; 32] };
        let Some(Subject::Token(token)) = control.must(Principal::System, bootstrap, random) else {
            panic!("no token")
        };
        control.operator = Principal::Operator { token };
        let operator = control.operator;
        let set = NsSetInput {
            name: "default".into(),
            nameservers: ["ns1.herald.example", "ns2.herald.example"].map(name).to_vec(),
            soa: SoaFields {
                mname: Name::root(),
                rname: name("hostmaster.herald.example"),
                refresh_s: 3600,
                retry_s: 600,
                expire_s: 1_209_600,
                minimum_s: 300,
                ttl: 3600,
            },
            is_default: true,
        };
        control.must(operator, Action::CreateNsSet(set), random);
        for number in 0..2 {
            let tenant = Action::CreateTenant { name: format!("tenant{number}") };
            let Some(Subject::Tenant(tenant)) = control.must(operator, tenant, random) else {
                panic!("no tenant")
            };
            let token = Action::CreateToken {
                tenant: Some(tenant),
                description: String::new(),
                scope: Scope::default(),
                expires_at_ms: None,
                secret_hash: [2 + number; 32],
            };
            let Some(Subject::Token(token)) = control.must(operator, token, random) else {
                panic!("no token")
            };
            control.tenants.push(Principal::Tenant { tenant, token });
        }
        // What is held back is looked at elsewhere: here all PoPs are to come to what the state says.
        let off = Brakes { zone_percent: 100, pop_percent: 100, ..Brakes::default() };
        control.must(operator, Action::SetBrakes(off), random);
        for pop in 0..pops {
            let secret_hash = Sha256::digest(secret_of(pop).as_bytes()).into();
            let action = Action::CreatePop { name: format!("pop{pop}"), secret_hash, region: None };
            let Some(Subject::Pop(id)) = control.must(operator, action, random) else { panic!("no PoP") };
            control.pops.push(id);
        }
        control
    }

    fn must(&mut self, principal: Principal, action: Action, random: &mut Random) -> Option<Subject> {
        let command = self.command(principal, action, random);
        let committed = self.submit(vec![command]).pop().expect("an answer");
        committed.expect("the platform is set up").subject
    }

    /// Starts the process: what was acknowledged has to be there.
    ///
    /// # Errors
    /// What isn't as it must be.
    pub fn start(&mut self, now_us: u64) -> Result<(), String> {
        self.clock_us.store(now_us, Ordering::Relaxed);
        let shared = Arc::new(Shared::default());
        let (tracker, record, clock_us) =
            (Arc::clone(&shared), Arc::clone(&self.record), Arc::clone(&self.clock_us));
        let mut is_recovered = false;
        let violations = Arc::new(Mutex::new(None));
        let told = Arc::clone(&violations);
        let on_commit: OnCommit = Box::new(move |after: &Arc<State>, commits: &[Commit]| {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            match std::mem::replace(&mut is_recovered, true) {
                true => commits.iter().for_each(|commit| record.note(&commit.state)),
                // The beginning of the epoch, after all that was recovered.
                false => {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) =
                        record.check_recovered(after).err();
                    record.note_recovered(after);
                }
            }
            let now = Duration::from_micros(clock_us.load(Ordering::Relaxed));
            tracker.tracker().committed(after, commits, now);
        });
        let store = Arc::new(self.disk.open());
        let engine = Stepped::open(store, EPOCH_MS + now_us / 1000, on_commit)
            .map_err(|error| format!("the log can't be recovered: {error}"))?;
        if let Some(violation) = violations.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(violation);
        }
        let state = engine.state();
        self.record.lock().unwrap_or_else(PoisonError::into_inner).acknowledge(&state);
        self.life += 1;
        self.running = Some(Running { engine, shared, sessions: BTreeMap::new() });
        Ok(())
    }

    /// Time passes.
    pub fn set_clock(&self, now_us: u64) {
        self.clock_us.store(now_us, Ordering::Relaxed);
    }

    /// Has a group of commands carried out, if the process runs.
    pub fn submit(&mut self, commands: Vec<Command>) -> Vec<Result<Committed, SubmitError>> {
        let Some(running) = &mut self.running else { return Vec::new() };
        let answers = running.engine.submit(commands);
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        for committed in answers.iter().flatten() {
            record.acknowledge(&committed.state);
        }
        answers
    }

    fn command(&self, principal: Principal, action: Action, random: &mut Random) -> Command {
        let time_ms = EPOCH_MS + self.clock_us.load(Ordering::Relaxed) / 1000;
        let context = Context {
            principal,
            time_ms,
            entropy: random.bytes(),
            message: None,
            idempotency_key: None,
            // Who removes much is asked first, and mostly means it.
            confirmed: random.permille(800),
        };
        Command { context, action }
    }

    /// A few commands of somebody, and what they are in words.
    pub fn write(&self, random: &mut Random) -> (Vec<Command>, String) {
        let Some(running) = &self.running else { return (Vec::new(), "nobody is there to write to".into()) };
        let state = running.engine.state();
        let mut words = Vec::new();
        let mut commands = Vec::new();
        for _ in 0..random.between(1, 4) {
            let (principal, action, said) = self.action(&state, random);
            words.push(said);
            commands.push(self.command(principal, action, random));
        }
        (commands, words.join(", "))
    }

    /// All PoPs are to be served.
    pub fn enable_pops(&self, random: &mut Random) -> Vec<Command> {
        let enable = |pop: &PopId| Action::UpdatePop {
            pop: *pop,
            enabled: Some(true),
            drained: Some(false),
            region: None,
        };
        self.pops.iter().map(|pop| self.command(self.operator, enable(pop), random)).collect()
    }

    fn action(&self, state: &State, random: &mut Random) -> (Principal, Action, String) {
        let tenant = *random.pick(&self.tenants).expect("there are tenants");
        let own: Vec<ZoneId> = state
            .zones()
            .filter(|zone| matches!(tenant, Principal::Tenant { tenant, .. } if tenant == zone.tenant))
            .map(|zone| zone.id)
            .collect();
        match (random.below(100), random.pick(&own).copied()) {
            (0..2, _) => {
                let pop = *random.pick(&self.pops).expect("there are PoPs");
                let enabled = Some(random.permille(700));
                let action = Action::UpdatePop { pop, enabled, drained: None, region: None };
                (self.operator, action, format!("enable {pop}: {enabled:?}"))
            }
            (2..10, Some(zone)) => {
                let action = Action::DeleteZone { zone: ZoneRef::Id(zone), if_match: None };
                (tenant, action, format!("delete {zone}"))
            }
            (10..16, Some(_)) => {
                let some: BTreeSet<ZoneId> = (0..3).filter_map(|_| random.pick(&own).copied()).collect();
                let zones = some.iter().map(|zone| edit(state, *zone, 2, random)).collect();
                (tenant, Action::EditZones { zones }, format!("edit {} zones", some.len()))
            }
            (16..22, Some(zone)) => {
                // Too large for one frame, so that it comes in parts.
                let grown = grow(state, zone, random);
                (tenant, Action::EditZones { zones: vec![grown] }, format!("grow {zone}"))
            }
            (22..25, Some(zone)) => {
                // Of so many RRsets that its versions are remembered: who was away gets a delta.
                let widened = widen(state, zone, random);
                (tenant, Action::EditZones { zones: vec![widened] }, format!("widen {zone}"))
            }
            (25..33, Some(zone)) => (
                tenant,
                Action::EditZones { zones: vec![alias(state, zone, random)] },
                format!("alias in {zone}"),
            ),
            (33..43, _) => {
                // Of whose zone ever, as what targets resolve to is the platform's to say; more than one zone in an entry.
                let with: Vec<&Kept<Zone>> =
                    state.zones().filter(|zone| !zone.content.aliases().is_empty()).collect();
                let some: BTreeSet<usize> = (0..2)
                    .filter(|_| !with.is_empty())
                    .map(|_| random.below(with.len() as u64) as usize)
                    .collect();
                let zones: Vec<Resolved> = some
                    .iter()
                    .filter_map(|place| with.get(*place))
                    .map(|zone| resolve(zone, random))
                    .collect();
                let said = format!("resolve {} zones", zones.len());
                (Principal::System, Action::SetResolved { zones }, said)
            }
            (43..80, Some(zone)) => {
                let edits = random.between(1, 3);
                let zones = vec![edit(state, zone, edits, random)];
                (tenant, Action::EditZones { zones }, format!("edit {zone}"))
            }
            _ => {
                let zone = name(&format!("zone{}.com", random.below(NAMES)));
                let said = format!("create {zone}");
                let action = Action::CreateZone {
                    name: zone,
                    tenant: None,
                    ns_set: None,
                    labels: BTreeMap::new(),
                    content: None,
                    insiders: None,
                };
                (tenant, action, said)
            }
        }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn edit(state: &State, zone: ZoneId, count: u64, random: &mut Random) -> ZoneEdit {
    let apex = state.zone(zone).map(|zone| zone.name.clone()).expect("a zone of the state");
    let edits = (0..count)
        .map(|_| {
            let owner = apex.child(format!("a{}", random.below(6))).expect("a name");
            let op = match random.below(4) {
                0 => EditOp::Delete,
                _ => EditOp::Put { ttl: 60, rdatas: Rdatas::single(&(random.number() as u32).to_be_bytes()) },
            };
            RrsetEdit { key: RrKey::new(owner, Rtype::A), if_match: None, op }
        })
        .map(|edit| (edit.key.clone(), edit))
        .collect::<BTreeMap<_, _>>();
    ZoneEdit { zone: ZoneRef::Id(zone), if_match: None, edits: edits.into_values().collect() }
}

/// ALIAS records come, go and lead elsewhere, under a few names.
fn alias(state: &State, zone: ZoneId, random: &mut Random) -> ZoneEdit {
    let apex = state.zone(zone).map(|zone| zone.name.clone()).expect("a zone of the state");
    let owner = apex.child(format!("l{}", random.below(3))).expect("a name");
    let op = match random.below(4) {
        0 => EditOp::Delete,
        _ => {
            let target = name(&format!("t{}.example.net", random.below(4)));
            EditOp::Put { ttl: 60, rdatas: Rdatas::single(target.as_wire()) }
        }
    };
    let edits = vec![RrsetEdit { key: RrKey::new(owner, ALIAS), if_match: None, op }];
    ZoneEdit { zone: ZoneRef::Id(zone), if_match: None, edits }
}

/// What an ALIAS resolves to comes, changes and goes.
fn resolve(zone: &Zone, random: &mut Random) -> Resolved {
    let mut difference = Difference::default();
    for owner in zone.content.aliases().keys() {
        let key = RrKey::new(owner.clone(), Rtype::A);
        if random.permille(300) {
            difference.deletes.push(key);
        } else {
            let rdatas = Rdatas::single(&(random.number() as u32).to_be_bytes());
            difference.puts.push((key, Rrset { ttl: 30, rdatas }));
        }
    }
    Resolved { zone: zone.id, difference }
}

fn grow(state: &State, zone: ZoneId, random: &mut Random) -> ZoneEdit {
    fill(state, zone, "t", Rtype::TXT, 40, random, |random| {
        let mut text = Vec::new();
        for _ in 0..8 {
            text.push(200);
            text.extend(std::iter::repeat_n(b'a' + random.below(26) as u8, 200));
        }
        text
    })
}

fn widen(state: &State, zone: ZoneId, random: &mut Random) -> ZoneEdit {
    fill(state, zone, "w", Rtype::A, 280, random, |random| (random.number() as u32).to_be_bytes().to_vec())
}

/// Puts so many RRsets, or deletes those that are there.
fn fill(
    state: &State,
    zone: ZoneId,
    prefix: &str,
    rtype: Rtype,
    count: u64,
    random: &mut Random,
    rdata: impl Fn(&mut Random) -> Vec<u8>,
) -> ZoneEdit {
    let of = state.zone(zone).expect("a zone of the state");
    let is_more = random.permille(700);
    let mut edits = Vec::new();
    for number in 0..count {
        let key = RrKey::new(of.name.child(format!("{prefix}{number}")).expect("a name"), rtype);
        let op = match is_more {
            true => EditOp::Put { ttl: 60, rdatas: Rdatas::single(&rdata(random)) },
            false if of.content.get(&key).is_some() => EditOp::Delete,
            false => continue,
        };
        edits.push(RrsetEdit { key, if_match: None, op });
    }
    ZoneEdit { zone: ZoneRef::Id(zone), if_match: None, edits }
}
