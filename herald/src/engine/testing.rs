//! For tests: a store that fails when it is told to, and a platform with an operator, a tenant and name servers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use herald_core::account::{Principal, Scope};
use herald_core::command::{Action, Command, Context, EditOp, NsSetInput, RrsetEdit, ZoneEdit, ZoneRef};
use herald_core::decide::Subject;
use herald_core::zone::{SoaFields, Zone};
use herald_core::{Name, Rdatas, RrKey, Rtype, State, ZoneId};
use herald_store::{
    AppendError, BaseError, Checkpoint, CheckpointError, ChunkError, ChunkId, EmbeddedStore, Entry, Limits,
    Store, StoreError,
};

use super::{Committed, Engine, OnCommit, RecoverError, SubmitError, Writer};

/// The embedded store, with faults.
pub(crate) struct TestStore {
    inner: EmbeddedStore,
    /// So many appends fail from now on.
    pub failing_appends: AtomicU32,
    /// Whether there is no room for checkpoints.
    pub no_checkpoints: AtomicBool,
    /// After so many more writes that are no appends, none goes through any more: as after a crash; below 0 all do.
    pub crash_after: AtomicI64,
    /// How many appends of entries have been done.
    pub appends: AtomicU64,
    /// Damages entries as they are read.
    pub damage: Mutex<Option<fn(&mut Entry)>>,
    /// Damages the checkpoint as it is read.
    pub damage_checkpoint: Mutex<Option<fn(&mut Checkpoint)>>,
    /// Whether appends have to wait, and whether one does.
    gate: Mutex<(bool, bool)>,
    moved: Condvar,
}

impl TestStore {
    pub(crate) fn open(dir: &Path) -> Arc<TestStore> {
        Arc::new(TestStore {
            inner: EmbeddedStore::open(dir).unwrap(),
            failing_appends: AtomicU32::new(0),
            no_checkpoints: AtomicBool::new(false),
            crash_after: AtomicI64::new(-1),
            appends: AtomicU64::new(0),
            damage: Mutex::new(None),
            damage_checkpoint: Mutex::new(None),
            gate: Mutex::new((false, false)),
            moved: Condvar::new(),
        })
    }

    fn pass_crash(&self) -> Result<(), StoreError> {
        let count = |left: i64| match left {
            0 => None,
            left if left < 0 => Some(left),
            left => Some(left - 1),
        };
        match self.crash_after.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Full),
        }
    }

    /// How many chunks there are.
    pub(crate) fn chunks(&self) -> u64 {
        self.inner.verify().unwrap().chunks
    }

    /// Appends wait from now on.
    pub(crate) fn hold_appends(&self) {
        self.gate.lock().unwrap().0 = true;
    }

    /// Waits till an append is held. Blocking.
    pub(crate) fn wait_till_held(&self) {
        drop(self.moved.wait_while(self.gate.lock().unwrap(), |(_, held)| !*held).unwrap());
    }

    pub(crate) fn release_appends(&self) {
        self.gate.lock().unwrap().0 = false;
        self.moved.notify_all();
    }

    fn pass_gate(&self) {
        let mut gate = self.gate.lock().unwrap();
        gate.1 = gate.0;
        self.moved.notify_all();
        let mut gate = self.moved.wait_while(gate, |(closed, _)| *closed).unwrap();
        gate.1 = false;
    }
}

impl Store for TestStore {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn head(&self) -> Result<u64, StoreError> {
        self.inner.head()
    }

    fn append(&self, expected_head: u64, entries: &[Entry]) -> Result<(), AppendError> {
        self.pass_gate();
        let fails = |left: u32| left.checked_sub(1);
        if self.failing_appends.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
            return Err(StoreError::Full.into());
        }
        self.appends.fetch_add(1, Ordering::Relaxed);
        self.inner.append(expected_head, entries)
    }

    fn read(&self, after: u64, entries_max: usize, bytes_max: usize) -> Result<Vec<Entry>, StoreError> {
        let mut entries = self.inner.read(after, entries_max, bytes_max)?;
        if let Some(damage) = *self.damage.lock().unwrap() {
            entries.iter_mut().for_each(damage);
        }
        Ok(entries)
    }

    fn put_chunks(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>, ChunkError> {
        self.pass_crash()?;
        self.inner.put_chunks(chunks)
    }

    fn chunk(&self, id: &ChunkId) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.chunk(id)
    }

    fn collect_chunks(&self, keep: &dyn Fn(&ChunkId) -> bool) -> Result<u64, StoreError> {
        self.pass_crash()?;
        self.inner.collect_chunks(keep)
    }

    fn set_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        if self.no_checkpoints.load(Ordering::Relaxed) {
            return Err(StoreError::Full.into());
        }
        self.inner.set_checkpoint(checkpoint)
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let mut checkpoint = self.inner.checkpoint()?;
        if let (Some(damage), Some(checkpoint)) = (*self.damage_checkpoint.lock().unwrap(), &mut checkpoint) {
            damage(checkpoint);
        }
        Ok(checkpoint)
    }

    fn set_base(&self, base: &Checkpoint) -> Result<(), BaseError> {
        self.pass_crash()?;
        self.inner.set_base(base)
    }

    fn base(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.inner.base()
    }

    fn erase_payloads(&self, after: u64, entries_max: usize) -> Result<Option<u64>, StoreError> {
        self.pass_crash()?;
        self.inner.erase_payloads(after, entries_max)
    }
}

/// A running engine, an operator, a tenant, a set of name servers.
pub(crate) struct Platform {
    pub store: Arc<TestStore>,
    pub engine: Engine,
    pub operator: Principal,
    pub tenant: Principal,
    writer: Writer,
}

impl Platform {
    /// A new platform in an empty directory.
    pub(crate) async fn new(dir: &Path, on_commit: OnCommit) -> Platform {
        let store = TestStore::open(dir);
        let (engine, writer) = start(&store, on_commit).unwrap();
        let bootstrap = Action::Bootstrap { secret_hash: [1; 32] };
        let Some(Subject::Token(token)) =
            submit(&engine, Principal::System, bootstrap).await.unwrap().subject
        else {
            panic!("no token");
        };
        let operator = Principal::Operator { token };
        let hosts = ["ns1.herald.example", "ns2.herald.example"];
        let set = NsSetInput {
            name: "default".into(),
            nameservers: hosts.map(name).to_vec(),
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
        submit(&engine, operator, Action::CreateNsSet(set)).await.unwrap();
        let created =
            submit(&engine, operator, Action::CreateTenant { name: "tenant".into() }).await.unwrap();
        let Some(Subject::Tenant(tenant)) = created.subject else { panic!("no tenant") };
        let token = Action::CreateToken {
            tenant: Some(tenant),
            description: String::new(),
            scope: Scope::default(),
            expires_at_ms: None,
            secret_hash: [2; 32],
        };
        let Some(Subject::Token(token)) = submit(&engine, operator, token).await.unwrap().subject else {
            panic!("no token");
        };
        Platform { store, engine, operator, tenant: Principal::Tenant { tenant, token }, writer }
    }

    /// A platform that was made in this directory before: its first operator's and first tenant's tokens.
    pub(crate) fn open(dir: &Path) -> Platform {
        let store = TestStore::open(dir);
        let (engine, writer) = start(&store, no_effects()).unwrap();
        let state = engine.state();
        let operator = state.tokens(None).find(|token| token.tenant.is_none()).expect("an operator").id;
        let tenant = state.tokens(None).find_map(|token| Some((token.tenant?, token.id)));
        let (tenant, token) = tenant.expect("a tenant");
        let operator = Principal::Operator { token: operator };
        Platform { store, engine, operator, tenant: Principal::Tenant { tenant, token }, writer }
    }

    /// Stops the engine, closes the store and starts again.
    pub(crate) async fn restart(self, dir: &Path, no_checkpoint: bool) -> Platform {
        let Platform { store, engine, operator, tenant, writer } = self;
        store.no_checkpoints.store(no_checkpoint, Ordering::Relaxed);
        drop(engine);
        tokio::task::spawn_blocking(|| writer.join()).await.unwrap();
        drop(store);
        let store = TestStore::open(dir);
        let (engine, writer) = start(&store, no_effects()).unwrap();
        Platform { store, engine, operator, tenant, writer }
    }

    /// Stops the engine; gives the store.
    pub(crate) async fn stop(self) -> Arc<TestStore> {
        drop(self.engine);
        let writer = self.writer;
        tokio::task::spawn_blocking(|| writer.join()).await.unwrap();
        self.store
    }

    pub(crate) async fn submit(&self, action: Action) -> Result<Committed, SubmitError> {
        submit(&self.engine, self.tenant, action).await
    }

    pub(crate) async fn create(&self, zone: &str) -> ZoneId {
        zone_of(&self.submit(create_zone(zone)).await.unwrap())
    }

    pub(crate) async fn operate(&self, action: Action) -> Committed {
        submit(&self.engine, self.operator, action).await.unwrap()
    }

    pub(crate) fn zone(&self, id: ZoneId) -> Arc<Zone> {
        self.engine.state().zone(id).expect("the zone is there").arc()
    }
}

/// Effects of commits that nobody cares for.
pub(crate) fn no_effects() -> OnCommit {
    Box::new(|_, _| {})
}

pub(crate) fn start(store: &Arc<TestStore>, on_commit: OnCommit) -> Result<(Engine, Writer), RecoverError> {
    Engine::start(Arc::clone(store) as Arc<dyn Store>, crate::clock::now_ms(), on_commit)
}

pub(crate) async fn submit(
    engine: &Engine,
    principal: Principal,
    action: Action,
) -> Result<Committed, SubmitError> {
    // Whoever removes much of a zone here means it.
    let context = Context { confirmed: true, ..crate::clock::context(principal, None) };
    engine.submit(Command { context, action }).await
}

pub(crate) fn zone_of(committed: &Committed) -> ZoneId {
    match committed.subject {
        Some(Subject::Zone(id)) => id,
        other => panic!("{other:?} is no zone"),
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn create_zone(zone: &str) -> Action {
    Action::CreateZone {
        name: name(zone),
        tenant: None,
        ns_set: None,
        labels: BTreeMap::new(),
        content: None,
        insiders: None,
    }
}

pub(crate) fn delete_zone(zone: ZoneId) -> Action {
    Action::DeleteZone { zone: ZoneRef::Id(zone), if_match: None }
}

/// An RRset of type A becomes this address.
pub(crate) fn put_a(zone: ZoneId, owner: &str, address: [u8; 4]) -> Action {
    let op = EditOp::Put { ttl: 60, rdatas: Rdatas::single(&address) };
    edit(zone, vec![RrsetEdit { key: RrKey::new(name(owner), Rtype::A), if_match: None, op }])
}

pub(crate) fn edit(zone: ZoneId, edits: Vec<RrsetEdit>) -> Action {
    Action::EditZones { zones: vec![ZoneEdit { zone: ZoneRef::Id(zone), if_match: None, edits }] }
}

/// All that a state holds, but where it stands on the log.
pub(crate) fn held(state: &State) -> Vec<herald_core::change::Change> {
    use herald_core::change::Change;
    state.to_changes().filter(|change| !matches!(change, Change::PositionRestored { .. })).collect()
}
