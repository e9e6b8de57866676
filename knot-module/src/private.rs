//! Zones that knotd doesn't have: they are there for those inside their views, who are found by the source of the query.

use std::sync::{Arc, Mutex, PoisonError};

use steering::{Part, ViewIndex};

use crate::knot::{Query, Retired, Shared, free_retired as free};
use crate::slot::Slot;

type Index = ViewIndex<Arc<Slot>>;

static INDEX: Shared<Index> = Shared::empty();
static WRITER: Mutex<Writer> = Mutex::new(Writer { pop: String::new(), retired: Vec::new() });

struct Writer {
    pop: String,
    retired: Vec<Retired<Index>>,
}

/// Whether there is any.
#[inline]
pub fn is_any() -> bool {
    !INDEX.is_empty()
}

/// The deepest private zone that the name asked for is in, and whose views the source is in.
pub fn find<'q>(query: &Query<'q>) -> Option<&'q Slot> {
    const DS: u16 = 43;
    let index = INDEX.get(query)?;
    index.find(query.source()?, query.name(), query.rtype() == DS).map(|(_, slot)| &**slot)
}

/// Sets what views may depend on.
pub fn set_up(pop: &str) {
    pop.clone_into(&mut WRITER.lock().unwrap_or_else(PoisonError::into_inner).pop);
}

/// From now on it is these.
pub fn list<'a>(zones: impl Iterator<Item = (&'a Arc<Slot>, &'a Part)>) {
    let mut writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    let zones = zones.map(|(slot, part)| (slot.name().clone(), slot.clone(), part.views()));
    let index = ViewIndex::new(&writer.pop, zones);
    writer.retired.push(INDEX.replace((!index.is_empty()).then(|| Box::new(index))));
}

/// Frees what no query reads any more.
pub fn free_retired() {
    free(&mut WRITER.lock().unwrap_or_else(PoisonError::into_inner).retired);
}
