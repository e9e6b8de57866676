//! Which endpoints are up, for all zones. A verdict is one store; queries read it without a lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use herald_core::MonitorId;
use steering::link::Whose;
use steering::{Health, MONITORS_MAX, Verdicts};

use crate::knot::{Query, Retired, Shared, free_retired as free};

static HERALD: Shared<Arc<Verdicts>> = Shared::empty();
static LOCAL: Shared<Arc<Verdicts>> = Shared::empty();
static IS_ISOLATED: AtomicBool = AtomicBool::new(false);
static WRITER: Mutex<Writer> = Mutex::new(Writer { herald: None, local: None, retired: Vec::new() });

/// The least room that a vector of verdicts is made with, so that the first monitors don't have it made anew one by one.
const ROOM_MIN: usize = 1024;

struct Writer {
    /// What queries are shown; none before the first verdict.
    herald: Option<Arc<Verdicts>>,
    local: Option<Arc<Verdicts>>,
    retired: Vec<Retired<Arc<Verdicts>>>,
}

/// Until something is told, all is up.
static ALL_UP: LazyLock<Verdicts> = LazyLock::new(Verdicts::default);

fn writer() -> MutexGuard<'static, Writer> {
    WRITER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What queries go by. It is made sure in `set_up` that this never waits.
#[inline]
pub fn health<'q>(query: &Query<'q>) -> Health<'q> {
    let verdicts =
        |shown: &Shared<Arc<Verdicts>>| -> &'q Verdicts { shown.get(query).map_or(&ALL_UP, |shown| shown) };
    let is_isolated = IS_ISOLATED.load(Ordering::Relaxed);
    Health { verdicts: verdicts(&HERALD), local: is_isolated.then(|| verdicts(&LOCAL)) }
}

/// Makes what queries of before the first verdict need.
pub fn set_up() {
    LazyLock::force(&ALL_UP);
}

/// Takes verdicts: zero is up, else since when it is down. Numbers beyond [`MONITORS_MAX`] are passed over: these count as up.
pub fn take(whose: Whose, is_all: bool, told: &[(MonitorId, u32)]) {
    let writer = &mut *writer();
    let (known, shown) = match whose {
        Whose::Herald => (&mut writer.herald, &HERALD),
        Whose::Local => (&mut writer.local, &LOCAL),
    };
    let mut changes: BTreeMap<MonitorId, u32> = BTreeMap::new();
    if let (true, Some(known)) = (is_all, &*known) {
        changes.extend(known.down().map(|(monitor, _)| (monitor, 0)));
    }
    changes.extend(told.iter().copied().filter(|(monitor, _)| (monitor.0 as usize) < MONITORS_MAX));
    let room = changes.last_key_value().map_or(0, |(monitor, _)| monitor.0 as usize + 1);
    match known {
        Some(known) if room <= known.room() => set(known, changes),
        _ => {
            let grown = Verdicts::with_room(room.next_power_of_two().max(ROOM_MIN));
            if let Some(known) = known {
                set(&grown, known.down());
            }
            set(&grown, changes);
            let grown = Arc::new(grown);
            *known = Some(grown.clone());
            writer.retired.push(shown.replace(Some(Box::new(grown))));
        }
    }
}

fn set(verdicts: &Verdicts, changes: impl IntoIterator<Item = (MonitorId, u32)>) {
    for (monitor, since) in changes {
        // There is room for all that is told.
        let _ = verdicts.set(monitor, (since > 0).then_some(since));
    }
}

/// Whether the PoP's own verdicts count where policies want it so.
pub fn set_isolated(is_isolated: bool) {
    IS_ISOLATED.store(is_isolated, Ordering::Relaxed);
}

/// Whether they do.
pub fn is_isolated() -> bool {
    IS_ISOLATED.load(Ordering::Relaxed)
}

/// How many monitors are down by the control plane's verdicts.
pub fn down() -> usize {
    writer().herald.as_ref().map_or(0, |verdicts| verdicts.down().count())
}

/// Frees what no query reads any more.
pub fn free_retired() {
    free(&mut writer().retired);
}
