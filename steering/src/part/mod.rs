//! One zone's steering, compiled: flat entries in a table of which an edit copies little.

pub(crate) mod hash;
mod names;
pub(crate) mod node;
pub(crate) mod octets;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod table;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use herald_core::steering::{
    HOLDER, Item, ItemError, OVERLAY, POOL, SETTINGS, STEERABLE, Settings, VIEW, View, answered_type,
    is_steering_type,
};
use herald_core::{Name, RrKey, Rrset, Rtype};

use hash::octets_hash;
use names::Names;
use octets::TooLarge;
use policy::{Conditions, relative};
use table::{Collision, Edits, Key, Table};

pub use node::{RrsetRef, rrset_octets};

/// Kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A policy at a name, for answers of a type.
    Policy = 1,
    /// A policy at the wildcard below a name.
    WildPolicy,
    /// A pool's answers of a type.
    Pool,
    /// Who is inside a view.
    View,
    /// The records at a name: everybody's, and those that views have there.
    Node,
}

/// One zone's compiled steering, and its records if insiders of views are answered from here. It never changes; a clone shares all.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    stamp: Stamp,
    apex: Name,
    pub(crate) table: Table,
    settings: Settings,
    views: Arc<[(String, View)]>,
    /// The same views, compiled.
    compiled_views: Arc<[CompiledView]>,
    cname_policies: usize,
    /// Delegations and DNAMEs, of everybody or of views: below them names aren't answered by what is there.
    cuts: usize,
    /// The owners of records, overlays and policies: in parts with records or overlays alone.
    pub(crate) names: Option<Names>,
}

/// Who is inside a view.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompiledView {
    /// The view's hash.
    pub(crate) hash: u64,
    octets: Box<[u8]>,
}

impl CompiledView {
    fn of((name, view): &(String, View)) -> Option<CompiledView> {
        let mut octets = Vec::new();
        // One that was put into the table can be written.
        policy::write_view(view, &mut octets).ok()?;
        Some(CompiledView { hash: policy::view_hash(name), octets: octets.into() })
    }

    pub(crate) fn conditions(&self) -> Conditions<'_> {
        Conditions::of(&self.octets)
    }
}

/// Tells parts apart, also those that hold the same: no two that were made in a process have the same number. Clones do.
#[derive(Clone, Copy, Debug)]
struct Stamp(u64);

impl Stamp {
    fn new() -> Stamp {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Stamp(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl PartialEq for Stamp {
    /// What a part holds is what it is compared by.
    fn eq(&self, _: &Stamp) -> bool {
        true
    }
}

/// Why RRsets aren't steering that can be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// An RRset holds nothing that can be read.
    #[error("{key}: {error}")]
    Item {
        /// The RRset.
        key: RrKey,
        /// What is wrong.
        error: ItemError,
    },
    /// An RRset isn't of this zone, or not where such ones are held.
    #[error("{0} is out of place")]
    Misplaced(RrKey),
    /// More than the compiled form has room for.
    #[error("{0} is too large")]
    TooLarge(RrKey),
    /// Two names have one hash.
    #[error("two names have one hash")]
    Collision,
}

impl Part {
    /// Compiles a zone's steering. RRsets that are no steering are its records: they are given where insiders of views, or of a private
    /// zone, are to be answered from here.
    ///
    /// # Errors
    /// [`CompileError`] names the RRset.
    pub fn compile(
        apex: &Name,
        rrsets: impl IntoIterator<Item = (RrKey, Rrset)>,
    ) -> Result<Part, CompileError> {
        let empty = Part {
            stamp: Stamp::new(),
            apex: apex.clone(),
            table: Table::default(),
            settings: Settings::default(),
            views: Arc::from([]),
            compiled_views: Arc::from([]),
            cname_policies: 0,
            cuts: 0,
            names: None,
        };
        empty.with(rrsets, [])
    }

    /// Compiles items of a zone, beside its records and overlays.
    pub(crate) fn of_items(
        apex: &Name,
        items: impl IntoIterator<Item = (RrKey, Item)>,
    ) -> Result<Part, CompileError> {
        let empty = Part::compile(apex, [])?;
        let mut change = Change::new(&empty);
        for (key, item) in items {
            change.put_item(&key, item)?;
        }
        change.done()
    }

    /// The part after these changes: what they don't touch is shared with this one.
    ///
    /// # Errors
    /// [`CompileError`] names the RRset.
    pub fn with(
        &self,
        puts: impl IntoIterator<Item = (RrKey, Rrset)>,
        deletes: impl IntoIterator<Item = RrKey>,
    ) -> Result<Part, CompileError> {
        let mut change = Change::new(self);
        for key in deletes {
            change.delete(&key)?;
        }
        for (key, rrset) in puts {
            change.put(&key, &rrset)?;
        }
        change.done()
    }

    /// The zone's apex.
    #[inline]
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// What tells it from all other parts.
    #[inline]
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp.0
    }

    /// Whether it holds nothing that bears on any answer.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Whether there is a policy for CNAME, as such a name is found out about at another stage.
    pub fn has_cname_policies(&self) -> bool {
        self.cname_policies > 0
    }

    /// The zone's settings.
    #[inline]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The zone's views, ascending by name.
    pub fn views(&self) -> &[(String, View)] {
        &self.views
    }

    /// The zone's views in the same order, compiled.
    #[inline]
    pub(crate) fn compiled_views(&self) -> &[CompiledView] {
        &self.compiled_views
    }

    /// Whether there are delegations or DNAMEs.
    #[inline]
    pub(crate) fn has_cuts(&self) -> bool {
        self.cuts > 0
    }

    /// Whether it has records or overlays, so that insiders are answered from here.
    pub fn has_records(&self) -> bool {
        self.names.is_some()
    }

    /// Entries of the compiled form: about two for a name with a policy and a pool of its own.
    pub fn entries(&self) -> usize {
        self.table.len()
    }

    /// The name whose policy [`crate::Decision::policy`] identifies, in presentation format; none if the part has no such policy.
    pub fn policy_name(&self, hash: u64) -> Option<String> {
        let (kind, relative) = self.table.kind_and_name(hash)?;
        let wildcard: &[u8] = match kind {
            kind if kind == Kind::Policy as u8 => b"",
            kind if kind == Kind::WildPolicy as u8 => b"\x01*",
            _ => return None,
        };
        Name::from_wire(&[wildcard, relative, self.apex.as_wire()].concat()).ok().map(|name| name.to_string())
    }

    /// The pool that [`crate::Decision::pool`] identifies; none if the part has no such pool.
    pub fn pool_name(&self, hash: u64) -> Option<String> {
        let (kind, name) = self.table.kind_and_name(hash)?;
        (kind == Kind::Pool as u8).then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        // A node of the set of names has some half of its places in use.
        let names = self.names.as_ref().map_or(0, |names| names.len() * 96);
        size_of::<Part>() + self.table.bytes() + names
    }
}

/// A part that is being changed.
struct Change<'a> {
    base: &'a Part,
    edits: Edits,
    settings: Settings,
    /// What becomes of views, if anything does.
    views: Option<BTreeMap<String, View>>,
    /// Hashes of the names of the pools that are touched.
    pools: HashSet<u64>,
    /// Policies that are touched: of type CNAME, or all where owners are kept track of.
    policies: BTreeSet<RrKey>,
    /// What becomes of records and overlays.
    nodes: BTreeMap<Name, Vec<(Rtype, Option<Rrset>)>>,
}

impl<'a> Change<'a> {
    fn new(base: &'a Part) -> Change<'a> {
        Change {
            base,
            edits: Edits::default(),
            settings: base.settings.clone(),
            views: None,
            pools: HashSet::new(),
            policies: BTreeSet::new(),
            nodes: BTreeMap::new(),
        }
    }

    fn put(&mut self, key: &RrKey, rrset: &Rrset) -> Result<(), CompileError> {
        if key.rtype == OVERLAY || !is_steering_type(key.rtype) {
            self.relative(key)?;
            self.nodes.entry(key.owner.clone()).or_default().push((key.rtype, Some(rrset.clone())));
            return Ok(());
        }
        let item = Item::read(key.rtype, &rrset.rdatas)
            .map_err(|error| CompileError::Item { key: key.clone(), error })?;
        self.put_item(key, item)
    }

    fn put_item(&mut self, key: &RrKey, item: Item) -> Result<(), CompileError> {
        let relative = self.relative(key)?;
        let too_large = |TooLarge| CompileError::TooLarge(key.clone());
        match item {
            Item::Settings(settings) if relative.is_empty() => self.settings = settings,
            Item::Settings(_) => return Err(CompileError::Misplaced(key.clone())),
            Item::Pool(pool) => {
                let name = held(relative).ok_or_else(|| CompileError::Misplaced(key.clone()))?;
                self.delete_pool(name);
                let mut types: Vec<Rtype> = pool
                    .endpoints
                    .iter()
                    .flat_map(|endpoint| endpoint.records.iter().map(|records| records.rtype))
                    .filter(|rtype| STEERABLE.contains(rtype))
                    .collect();
                types.sort_unstable_by_key(|rtype| rtype.to_int());
                types.dedup();
                for rtype in types {
                    if pool::candidates(&pool, rtype).is_empty() {
                        continue;
                    }
                    let key = Key { kind: Kind::Pool, rtype: rtype.to_int(), name };
                    self.edits.put(&key, |out| pool::write(&pool, rtype, out)).map_err(too_large)?;
                }
            }
            Item::View(view) => {
                let name = held(relative).ok_or_else(|| CompileError::Misplaced(key.clone()))?;
                let entry = Key { kind: Kind::View, rtype: 0, name };
                self.edits.put(&entry, |out| policy::write_view(&view, out)).map_err(too_large)?;
                self.views().insert(String::from_utf8_lossy(name).into_owned(), view);
            }
            Item::Policy(answered, policy) => {
                let entry = policy_key(relative, answered);
                self.edits
                    .put(&entry, |out| policy::write_policy(&policy, answered.to_int(), out))
                    .map_err(too_large)?;
                self.touch_policy(key, answered);
            }
            Item::Overlays(_) => return Err(CompileError::Misplaced(key.clone())),
        }
        Ok(())
    }

    fn delete(&mut self, key: &RrKey) -> Result<(), CompileError> {
        let relative = self.relative(key)?;
        let misplaced = || CompileError::Misplaced(key.clone());
        match key.rtype {
            SETTINGS if relative.is_empty() => self.settings = Settings::default(),
            POOL => self.delete_pool(held(relative).ok_or_else(misplaced)?),
            VIEW => {
                let name = held(relative).ok_or_else(misplaced)?;
                self.edits.delete(&Key { kind: Kind::View, rtype: 0, name });
                self.views().remove(&*String::from_utf8_lossy(name));
            }
            rtype if rtype == OVERLAY || !is_steering_type(rtype) => {
                self.nodes.entry(key.owner.clone()).or_default().push((rtype, None));
            }
            rtype => {
                let answered = answered_type(rtype).ok_or_else(misplaced)?;
                self.edits.delete(&policy_key(relative, answered));
                self.touch_policy(key, answered);
            }
        }
        Ok(())
    }

    fn relative<'k>(&self, key: &'k RrKey) -> Result<&'k [u8], CompileError> {
        relative(key.owner.as_wire(), &self.base.apex).ok_or_else(|| CompileError::Misplaced(key.clone()))
    }

    fn delete_pool(&mut self, name: &[u8]) {
        // Types that it had before, in the base or in this change.
        let is_again = !self.pools.insert(octets_hash(0, name));
        for rtype in STEERABLE {
            let key = Key { kind: Kind::Pool, rtype: rtype.to_int(), name };
            if is_again || self.base.table.get(&key).is_some() {
                self.edits.delete(&key);
            }
        }
    }

    fn views(&mut self) -> &mut BTreeMap<String, View> {
        self.views.get_or_insert_with(|| self.base.views.iter().cloned().collect())
    }

    fn touch_policy(&mut self, key: &RrKey, answered: Rtype) {
        if answered == Rtype::CNAME || self.base.names.is_some() {
            self.policies.insert(RrKey::new(key.owner.clone(), answered));
        }
    }

    fn done(mut self) -> Result<Part, CompileError> {
        let base = self.base;
        let mut cuts = base.cuts;
        for (owner, changes) in &self.nodes {
            let key = RrKey::new(owner.clone(), Rtype::ANY);
            let relative = self.relative(&key)?;
            let entry = Key { kind: Kind::Node, rtype: 0, name: relative };
            let old = base.table.get(&entry).unwrap_or_default();
            let new = node::changed(old, changes).map_err(|error| error.at(owner))?;
            let count = |body: &[u8]| node::cuts(body, relative.is_empty());
            cuts = cuts + count(new.as_deref().unwrap_or_default()) - count(old);
            match new {
                Some(body) => self
                    .edits
                    .put(&entry, |out| {
                        out.extend_from_slice(&body);
                        Ok(())
                    })
                    .map_err(|TooLarge| CompileError::TooLarge(key.clone()))?,
                None => self.edits.delete(&entry),
            }
        }
        let table = base.table.edited(self.edits).map_err(|Collision| CompileError::Collision)?;
        let has_policy = |table: &Table, key: &RrKey| {
            relative(key.owner.as_wire(), &base.apex)
                .is_some_and(|relative| table.get(&policy_key(relative, key.rtype)).is_some())
        };
        let cnames = || self.policies.iter().filter(|key| key.rtype == Rtype::CNAME);
        let gone = cnames().filter(|key| has_policy(&base.table, key)).count();
        let come = cnames().filter(|key| has_policy(&table, key)).count();
        let (views, compiled_views) = match self.views {
            Some(views) => {
                let views: Arc<[_]> = views.into_iter().collect();
                let compiled = views.iter().filter_map(CompiledView::of).collect();
                (views, compiled)
            }
            None => (base.views.clone(), base.compiled_views.clone()),
        };
        let mut part = Part {
            stamp: Stamp::new(),
            apex: base.apex.clone(),
            table,
            settings: self.settings,
            views,
            compiled_views,
            cname_policies: base.cname_policies + come - gone,
            cuts,
            names: base.names.clone(),
        };
        let mut touched: BTreeSet<&Name> = self.nodes.keys().collect();
        touched.extend(self.policies.iter().map(|key| &key.owner));
        part.rename(&touched);
        Ok(part)
    }
}

impl Part {
    /// Brings the set of names up to date, of which these may have come or gone.
    fn rename(&mut self, touched: &BTreeSet<&Name>) {
        let has_nodes = |part: &Part| {
            let mut relatives = touched.iter().filter_map(|name| relative(name.as_wire(), &part.apex));
            relatives.any(|relative| part.node_at(relative).is_some())
        };
        let Some(mut names) = self.names.take() else {
            if has_nodes(self) {
                // From here on policies' owners count too: they had no part in it so far.
                self.names = Some(self.all_owners());
            }
            return;
        };
        for name in touched {
            let Some(relative) = relative(name.as_wire(), &self.apex) else { continue };
            if self.is_owner(relative) {
                names.insert(relative);
            } else {
                names.remove(relative);
            }
        }
        self.names = Some(names);
    }

    /// Whether there are records, overlays or policies at a name.
    fn is_owner(&self, relative: &[u8]) -> bool {
        let has_policy = |rtype: &Rtype| self.table.get(&policy_key(relative, *rtype)).is_some();
        self.node_at(relative).is_some() || STEERABLE.iter().any(has_policy)
    }

    fn all_owners(&self) -> Names {
        let mut names = Names::default();
        self.table.for_each(Kind::Node, |key, _| names.insert(key.name));
        self.table.for_each(Kind::Policy, |key, _| names.insert(key.name));
        self.table.for_each(Kind::WildPolicy, |key, _| names.insert(&[b"\x01*", key.name].concat()));
        names
    }
}

/// Where a policy at a name relative to the apex is.
#[inline]
pub(crate) fn policy_key(relative: &[u8], answered: Rtype) -> Key<'_> {
    let rtype = answered.to_int();
    match relative.strip_prefix(b"\x01*") {
        Some(parent) => Key { kind: Kind::WildPolicy, rtype, name: parent },
        None => Key { kind: Kind::Policy, rtype, name: relative },
    }
}

/// The label of a pool or view that is held at a name relative to the apex.
fn held(relative: &[u8]) -> Option<&[u8]> {
    let (label_bytes, rest) = relative.split_first()?;
    let (label, rest) = rest.split_at_checked(usize::from(*label_bytes))?;
    let (holder_bytes, holder) = rest.split_first()?;
    (usize::from(*holder_bytes) == HOLDER.len() && holder == HOLDER.as_bytes()).then_some(label)
}
