//! What knotd calls. A panic ends here: the plain answer is given, or SERVFAIL where that isn't one to be seen.

use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use herald_core::Name;

use super::abi::{self, Conf, Mod, ModApi, Packet, QueryData, YpItem};
use super::answer::{find_marked, name_of};
use super::{Answer, Begun, Query, Section, State};
use crate::hooks::{self, MARKER_TTL_S};
use crate::slot::Slot;
use crate::{Settings, count_panic, counts};

/// What knotd looks for in the library.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is knotd's")]
static knotd_mod_api: ModApi = ModApi {
    version: abi::ABI_VERSION as u32,
    name: c"mod-herald".as_ptr(),
    flags: abi::FLAG_SCOPE_ANY as u32,
    load,
    unload,
    config: (&raw const SCHEMA).cast(),
    config_check: std::ptr::null(),
};

// SAFETY: nobody writes these, and what they point to is static.
unsafe impl Sync for ModApi {}
// SAFETY: see above.
unsafe impl Sync for YpItem {}

const fn item(name: &'static CStr, kind: c_int) -> YpItem {
    YpItem {
        name: name.as_ptr(),
        kind,
        var: [0; 4],
        flags: abi::YP_NO_FLAG,
        misc: [std::ptr::null(); 4],
        parent: std::ptr::null_mut(),
        sub_items: std::ptr::null_mut(),
    }
}

// Names begin with their length.
const SOCKET: &CStr = c"\x06socket";
const SNAPSHOT: &CStr = c"\x08snapshot";
const POP: &CStr = c"\x03pop";
const DRAWS: &CStr = c"\x0bknown-draws";
const PANICS: &CStr = c"\x06panics";

const END_OF_SCHEMA: YpItem = YpItem { name: std::ptr::null(), ..item(c"", 0) };

static SCHEMA: [YpItem; 6] = [
    item(SOCKET, abi::YP_STRING),
    item(SNAPSHOT, abi::YP_STRING),
    item(POP, abi::YP_STRING),
    item(DRAWS, abi::YP_BOOL),
    item(PANICS, abi::YP_BOOL),
    END_OF_SCHEMA,
];

/// An instance of the module that is being loaded.
#[derive(Debug)]
pub struct Loading {
    module: *mut Mod,
}

/// How much a line in knotd's log matters, as syslog has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Priority {
    /// Something doesn't work.
    Error = 3,
    /// Something isn't as it should be.
    Warning = 4,
    /// Something is so.
    Info = 6,
}

impl Loading {
    /// Writes a line to knotd's log.
    pub fn log(&self, priority: Priority, text: &str) {
        let Ok(text) = CString::new(text.replace('\0', " ")) else { return };
        // SAFETY: the instance is knotd's while it is loaded; the format takes the one string.
        unsafe { abi::knotd_mod_log(self.module, priority as c_int, c"%s".as_ptr(), text.as_ptr()) };
    }

    /// The zone that the instance is for; none for the global one.
    pub fn zone(&self) -> Option<Name> {
        // SAFETY: the instance is knotd's while it is loaded; null or a name in wire format, copied here, since it may be gone later.
        let wire = unsafe {
            let name = abi::knotd_mod_zone(self.module);
            if name.is_null() {
                return None;
            }
            name_of(name)
        };
        Name::from_wire(wire).ok()
    }

    /// What the configuration says.
    pub fn settings(&self) -> Settings {
        Settings {
            socket: self.text(SOCKET),
            snapshot: self.text(SNAPSHOT),
            pop: self.text(POP).unwrap_or_default(),
            known_draws: self.is_on(DRAWS),
            panics: self.is_on(PANICS),
        }
    }

    fn is_on(&self, item: &CStr) -> bool {
        // SAFETY: an item of this kind is read as what it is.
        unsafe { self.conf(item).single.boolean }
    }

    fn conf(&self, item: &CStr) -> Conf {
        // SAFETY: the instance is knotd's while it is loaded, and the item is of our schema.
        unsafe { abi::knotd_conf_mod(self.module, item.as_ptr()) }
    }

    fn text(&self, item: &CStr) -> Option<String> {
        // SAFETY: an item of this kind is read as what it is: null, or a string that is copied at once.
        let text: *const c_char = unsafe { self.conf(item).single.string };
        if text.is_null() {
            return None;
        }
        // SAFETY: see above.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        (!text.is_empty()).then_some(text)
    }
}

/// Never an error: knotd would answer the zone without us, and placeholders with it.
extern "C" fn load(module: *mut Mod) -> c_int {
    let loading = Loading { module };
    let loaded = catch_unwind(AssertUnwindSafe(|| crate::load(&loading)));
    let slot = loaded.unwrap_or_else(|_| {
        count_panic();
        loading.log(Priority::Error, "loading failed: what is steered is answered with SERVFAIL");
        None
    });
    let stages: &[(c_int, abi::Hook)] = match slot {
        Some(slot) => {
            // SAFETY: the instance is knotd's while it is loaded; `unload` takes the reference back.
            unsafe { abi::knotd_mod_ctx_set(module, Arc::into_raw(slot).cast_mut().cast()) };
            &[
                (abi::STAGE_BEGIN, begin),
                (abi::STAGE_PREANSWER, preanswer),
                (abi::STAGE_ANSWER, answer),
                (abi::STAGE_ADDITIONAL, additional),
            ]
        }
        None if loading.zone().is_none() => &[(abi::STAGE_BEGIN, begin_global), (abi::STAGE_END, end_global)],
        // Deny: without a slot there is nothing to decide by.
        None => &[(abi::STAGE_ANSWER, answer), (abi::STAGE_ADDITIONAL, additional)],
    };
    for (stage, hook) in stages {
        // SAFETY: the instance is knotd's while it is loaded, and the hook has the type that the stage calls for.
        let added = unsafe {
            match *stage {
                abi::STAGE_BEGIN | abi::STAGE_END => abi::knotd_mod_hook(module, *stage, *hook),
                _ => abi::knotd_mod_in_hook(module, *stage, *hook),
            }
        };
        if added != abi::OK {
            loading.log(Priority::Error, "there is no memory for a hook");
            return added;
        }
    }
    abi::OK
}

extern "C" fn unload(module: *mut Mod) {
    // SAFETY: the instance is knotd's until this returns; no query uses it any more.
    let slot = unsafe {
        let slot = abi::knotd_mod_ctx(module).cast::<Slot>().cast_const();
        abi::knotd_mod_ctx_set(module, std::ptr::null_mut());
        // SAFETY: `load` put it there, once.
        if slot.is_null() { None } else { Some(Arc::from_raw(slot)) }
    };
    if catch_unwind(AssertUnwindSafe(|| crate::unload(slot))).is_err() {
        count_panic();
    }
}

/// The slot of the zone that the instance is of.
///
/// # Safety
/// In a hook, with the instance that knotd gave to it.
#[inline]
unsafe fn slot_of<'q>(module: *mut Mod) -> Option<&'q Slot> {
    // SAFETY: null, or what `load` put there; knotd unloads an instance when no query uses it any more.
    unsafe { abi::knotd_mod_ctx(module).cast::<Slot>().as_ref() }
}

extern "C" fn begin_global(
    state: c_int,
    packet: *mut Packet,
    data: *mut QueryData,
    _module: *mut Mod,
) -> c_int {
    if !hooks::is_begun_globally() { state } else { begin_guarded(state, packet, data, None) }
}

extern "C" fn begin(state: c_int, packet: *mut Packet, data: *mut QueryData, module: *mut Mod) -> c_int {
    // SAFETY: knotd's own, for as long as the hook runs.
    let (Some(slot), Some(query)) = (unsafe { (slot_of(module), Query::new(data)) }) else { return state };
    counts::zone(&query, slot.label());
    if query.has_client_subnet() || slot.has_insiders() {
        begin_guarded(state, packet, data, Some(slot))
    } else {
        state
    }
}

/// For a zone's instance, or the global one.
#[inline(never)]
fn begin_guarded(state: c_int, packet: *mut Packet, data: *mut QueryData, slot: Option<&Slot>) -> c_int {
    // Whoever else was asked may have answered.
    if matches!(state, abi::STATE_NOOP | abi::STATE_DONE | abi::STATE_FAIL | abi::STATE_FINAL) {
        return state;
    }
    // SAFETY: knotd's own, for as long as the hook runs.
    let (Some(mut query), Some(mut answer)) = (unsafe { (Query::new(data), Answer::new(packet)) }) else {
        return state;
    };
    let begun = guarded(|| match slot {
        Some(slot) => hooks::begin(slot, &mut query, &mut answer),
        None => hooks::begin_global(&mut query, &mut answer),
    });
    match begun {
        Some(Begun::GoOn) => state,
        Some(Begun::Done) => abi::STATE_DONE,
        Some(Begun::Fail) => abi::STATE_FAIL,
        Some(Begun::Drop) => abi::STATE_NOOP,
        // Nothing of it was put, or knotd can't add to it.
        None if answer.is_empty() => state,
        None => abi::STATE_FAIL,
    }
}

extern "C" fn preanswer(state: c_int, packet: *mut Packet, data: *mut QueryData, module: *mut Mod) -> c_int {
    // SAFETY: knotd's own, for as long as the hook runs.
    let (Some(slot), Some(query)) = (unsafe { (slot_of(module), Query::new(data)) }) else { return state };
    if slot.is_unsteered() || state != abi::IN_BEGIN {
        return state;
    }
    let resolved_serial = hooks::resolved_serial(slot, &query);
    if resolved_serial.is_some() || slot.has_aliases() {
        preanswer_guarded(slot, packet, data, resolved_serial)
    } else {
        state
    }
}

#[inline(never)]
fn preanswer_guarded(
    slot: &Slot,
    packet: *mut Packet,
    data: *mut QueryData,
    resolved_serial: Option<u32>,
) -> c_int {
    // SAFETY: knotd's own, for as long as the hook runs.
    let (Some(mut query), Some(mut answer)) = (unsafe { (Query::new(data), Answer::new(packet)) }) else {
        return abi::IN_ERROR;
    };
    match guarded(|| hooks::preanswer(slot, &mut query, &mut answer, resolved_serial)) {
        Some(told) => in_state(told),
        None if answer.is_empty() => abi::IN_BEGIN,
        None => abi::IN_ERROR,
    }
}

extern "C" fn answer(state: c_int, packet: *mut Packet, data: *mut QueryData, module: *mut Mod) -> c_int {
    // SAFETY: knotd's own, for as long as the hook runs.
    match unsafe { find_marked(packet, Section::Answer, MARKER_TTL_S) } {
        Some(first) => replace_guarded(state, packet, data, module, Section::Answer, first),
        None => state,
    }
}

extern "C" fn additional(state: c_int, packet: *mut Packet, data: *mut QueryData, module: *mut Mod) -> c_int {
    // SAFETY: knotd's own, for as long as the hook runs.
    match unsafe { find_marked(packet, Section::Additional, MARKER_TTL_S) } {
        Some(first) => replace_guarded(state, packet, data, module, Section::Additional, first),
        None => state,
    }
}

#[inline(never)]
fn replace_guarded(
    state: c_int,
    packet: *mut Packet,
    data: *mut QueryData,
    module: *mut Mod,
    section: Section,
    first: usize,
) -> c_int {
    // SAFETY: knotd's own, for as long as the hook runs.
    let (slot, query, answer) = unsafe { (slot_of(module), Query::new(data), Answer::new(packet)) };
    let (Some(mut query), Some(mut answer)) = (query, answer) else { return abi::IN_ERROR };
    let told = guarded(|| hooks::replace(slot, &mut query, &mut answer, section, first, state_of(state)));
    told.map_or(abi::IN_ERROR, in_state)
}

/// The reply is complete, or there is none; instances of zones have no part in it.
extern "C" fn end_global(
    state: c_int,
    packet: *mut Packet,
    data: *mut QueryData,
    _module: *mut Mod,
) -> c_int {
    // SAFETY: knotd's own, for as long as the hook runs.
    let (Some(mut query), Some(answer)) = (unsafe { (Query::new(data), Answer::new(packet)) }) else {
        return state;
    };
    let is_truncated = answer.is_truncated();
    // In another state a transfer has more messages to come, and is counted with the last one.
    let has_ended = matches!(state, abi::STATE_NOOP | abi::STATE_DONE | abi::STATE_FAIL | abi::STATE_FINAL);
    if !has_ended || query.is_own() {
        counts::forget(&query);
    } else {
        counts::count(&query, &answer, is_truncated, state == abi::STATE_NOOP);
    }
    // An answer that knotd itself truncated didn't get to the later hooks of its zone.
    if is_truncated && answer.has_marked(MARKER_TTL_S) {
        query.fail_truncated();
        return abi::STATE_FAIL;
    }
    state
}

/// Runs a hook; none if it panicked.
#[inline]
fn guarded<T>(hook: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(hook)).map_err(|_| count_panic()).ok()
}

fn state_of(state: c_int) -> State {
    match state {
        abi::IN_BEGIN => State::Begin,
        abi::IN_NODATA => State::NoData,
        abi::IN_HIT => State::Hit,
        abi::IN_MISS => State::Miss,
        abi::IN_DELEG => State::Delegation,
        abi::IN_FOLLOW => State::Follow,
        abi::IN_TRUNC => State::Truncated,
        _ => State::Error,
    }
}

fn in_state(state: State) -> c_int {
    match state {
        State::Begin => abi::IN_BEGIN,
        State::NoData => abi::IN_NODATA,
        State::Hit => abi::IN_HIT,
        State::Miss => abi::IN_MISS,
        State::Delegation => abi::IN_DELEG,
        State::Follow => abi::IN_FOLLOW,
        State::Truncated => abi::IN_TRUNC,
        State::Error => abi::IN_ERROR,
    }
}
