//! A thread in knotd's process that takes none of the signals which are knotd's.

use std::ffi::c_int;
use std::thread::JoinHandle;

/// `sigset_t` of Linux: 1,024 bits.
#[repr(C, align(8))]
struct SignalSet([u8; 128]);

const SIG_SETMASK: c_int = 2;

unsafe extern "C" {
    fn pthread_sigmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
}

/// Spawns a thread in which every signal is blocked.
///
/// # Errors
/// If there can't be another thread.
pub fn spawn_without_signals(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let all = SignalSet([0xff; 128]);
    let mut before = SignalSet([0; 128]);
    // SAFETY: both are of the size of a `sigset_t`, and live. A new thread begins with the mask of the one that makes it.
    unsafe { pthread_sigmask(SIG_SETMASK, &raw const all, &raw mut before) };
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    // SAFETY: as above; the mask is put back to what it was.
    unsafe { pthread_sigmask(SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    spawned
}
