//! Edits in the making: what a request makes of a zone's steering, with where in the request each comes from.

use std::collections::{BTreeMap, BTreeSet};

use herald_core::command::{EditOp, RrsetEdit, RrsetMatch};
use herald_core::steering::{self, Item, Overlay};
use herald_core::zone::Zone;
use herald_core::{Name, RrKey, Rrset, Rtype};

/// What becomes of RRsets of steering. Each has one edit, however often it is named.
pub struct Draft<'z> {
    zone: &'z Zone,
    edits: BTreeMap<RrKey, Planned>,
    /// Their order, as it is the request's.
    order: Vec<RrKey>,
}

struct Planned {
    /// None: it goes.
    becomes: Option<Rrset>,
    /// What the RRset must be before.
    if_match: Option<RrsetMatch>,
    /// Where in the request this was said.
    pointer: String,
}

impl<'z> Draft<'z> {
    /// Nothing changes yet.
    pub fn of(zone: &'z Zone) -> Draft<'z> {
        Draft { zone, edits: BTreeMap::new(), order: Vec::new() }
    }

    /// An RRset as it is after the edits so far.
    pub fn current(&self, key: &RrKey) -> Option<&Rrset> {
        match self.edits.get(key) {
            Some(planned) => planned.becomes.as_ref(),
            None => self.zone.content.get(key),
        }
    }

    /// What an RRset says after the edits so far.
    pub fn item(&self, key: &RrKey) -> Option<Item> {
        Item::read(key.rtype, &self.current(key)?.rdatas).ok()
    }

    /// The item becomes this. Its size was checked.
    pub fn put(&mut self, key: RrKey, item: &Item, pointer: &str) {
        let rrset = item.write().ok();
        self.plan(key, rrset, pointer);
    }

    /// The item goes.
    pub fn delete(&mut self, key: RrKey, pointer: &str) {
        self.plan(key, None, pointer);
    }

    /// Asks for what an RRset must be before.
    pub fn require(&mut self, key: &RrKey, wanted: Option<RrsetMatch>) {
        if let Some(planned) = self.edits.get_mut(key) {
            planned.if_match = wanted.or(planned.if_match);
        }
    }

    /// The overlays at a name become others. That the request's view of them still holds is judged with it.
    pub fn edit_overlays(&mut self, owner: &Name, pointer: &str, edit: impl FnOnce(&mut Vec<Overlay>)) {
        let key = RrKey::new(owner.clone(), steering::OVERLAY);
        let mut overlays = match self.item(&key) {
            Some(Item::Overlays(overlays)) => overlays,
            _ => Vec::new(),
        };
        edit(&mut overlays);
        self.replace(key, (!overlays.is_empty()).then_some(Item::Overlays(overlays)), pointer);
    }

    /// An item becomes one that was made of what it is: that it still is that is judged with it.
    pub fn replace(&mut self, key: RrKey, item: Option<Item>, pointer: &str) {
        let before = self.zone.content.get(&key).map(|rrset| rrset.digest(&key));
        self.plan(key.clone(), item.and_then(|item| item.write().ok()), pointer);
        self.require(&key, Some(before.map_or(RrsetMatch::Absent, RrsetMatch::Digest)));
    }

    fn plan(&mut self, key: RrKey, becomes: Option<Rrset>, pointer: &str) {
        let if_match = self.edits.get(&key).and_then(|planned| planned.if_match);
        let planned = Planned { becomes, if_match, pointer: pointer.into() };
        if self.edits.insert(key.clone(), planned).is_none() {
            self.order.push(key);
        }
    }

    /// All steering that isn't planned goes.
    pub fn delete_others(&mut self, pointer: &str) {
        if self.zone.content.steering().is_none() {
            return;
        }
        let kept: BTreeSet<RrKey> = self.edits.keys().cloned().collect();
        let zone = self.zone;
        let steering = zone.content.iter().map(|(key, _)| key);
        let others = steering.filter(|key| steering::is_steering_type(key.rtype) && !kept.contains(key));
        for key in others {
            self.plan(key.clone(), None, pointer);
        }
    }

    /// The edits that change anything, each with its pointer.
    pub fn finish(mut self) -> (Vec<RrsetEdit>, Vec<String>) {
        let mut finished = (Vec::new(), Vec::new());
        for key in self.order {
            let Some(Planned { becomes, if_match, pointer }) = self.edits.remove(&key) else { continue };
            let now = self.zone.content.get(&key);
            if now == becomes.as_ref() && if_match.is_none() {
                continue;
            }
            let op = match becomes {
                Some(Rrset { ttl, rdatas }) => EditOp::Put { ttl, rdatas },
                None if now.is_none() => continue,
                None => EditOp::Delete,
            };
            finished.0.push(RrsetEdit { key, if_match, op });
            finished.1.push(pointer);
        }
        finished
    }
}

/// Overlays of a view and type, apart from the others.
pub fn is_of(overlay: &Overlay, view: &str, rtype: Rtype) -> bool {
    overlay.view == view && overlay.rtype == rtype
}
