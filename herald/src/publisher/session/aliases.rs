//! What a PoP is told of targets of ALIAS records: which it is to resolve, as a difference between choices.

use std::collections::BTreeSet;
use std::sync::Arc;

use herald_core::{Name, PopId};
use herald_wire::stream::{Targets, ToPop};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

/// How many targets a frame has: at most 255 octets each.
const TARGETS_MAX: usize = 200;

/// Which PoPs resolve what.
pub(super) type Choices = OrdMap<Name, Arc<[PopId]>>;

/// See the module.
#[derive(Default)]
pub(super) struct AliasFeed {
    /// The choices by which it was told, but for what waits.
    told: Option<Choices>,
    /// These are still to be told.
    waiting: BTreeSet<Name>,
}

impl AliasFeed {
    /// Some of what the PoP is to be told.
    pub fn targets(&mut self, pop: PopId, choices: Choices) -> Option<ToPop> {
        let is_all = self.told.is_none();
        let told = self.told.get_or_insert_default();
        if !told.ptr_eq(&choices) {
            let is_chosen =
                |chosen: Option<&Arc<[PopId]>>| chosen.is_some_and(|chosen| chosen.contains(&pop));
            for item in told.diff(&choices) {
                let (name, old, new) = match item {
                    DiffItem::Add(name, new) => (name, None, Some(new)),
                    DiffItem::Remove(name, old) => (name, Some(old), None),
                    DiffItem::Update { old: (_, old), new: (name, new) } => (name, Some(old), Some(new)),
                };
                if is_chosen(old) != is_chosen(new) {
                    self.waiting.insert(name.clone());
                }
            }
            *told = choices;
        }
        if self.waiting.is_empty() && !is_all {
            return None;
        }
        let mut targets = Targets { is_all, ..Targets::default() };
        for name in std::iter::from_fn(|| self.waiting.pop_first()).take(TARGETS_MAX) {
            match told.get(&name).is_some_and(|chosen| chosen.contains(&pop)) {
                true => targets.puts.push(name),
                false => targets.deletes.push(name),
            }
        }
        Some(ToPop::Targets(targets))
    }
}
