//! Values that queries read while others replace them. knotd answers each query within a read section of its RCU, so whoever replaces a
//! value waits for the queries that may still read the old one, and those never wait.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::{Query, abi};

/// A value that may be there, and that can be replaced at any time.
#[derive(Debug)]
pub struct Shared<T>(AtomicPtr<T>);

impl<T> Shared<T> {
    /// Nothing is there.
    pub const fn empty() -> Shared<T> {
        Shared(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Whether nothing is there at the moment.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// What is there, for as long as the query runs.
    #[inline]
    pub fn get<'q>(&self, _query: &Query<'q>) -> Option<&'q T> {
        // SAFETY: it is null or a box that `replace` put. A `Query` exists only while a hook runs, that is in a read section, and a
        // replaced value is freed only by `free_retired`, which waits for all read sections that may have seen it.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Puts a value in the place of what is there.
    pub fn replace(&self, value: Option<Box<T>>) -> Retired<T> {
        let new = value.map_or(std::ptr::null_mut(), Box::into_raw);
        Retired(self.0.swap(new, Ordering::AcqRel))
    }
}

// SAFETY: it owns a `T` that threads read and another one drops.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: see above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let left = *self.0.get_mut();
        if !left.is_null() {
            // SAFETY: it is a box that `replace` put. Nothing refers to this any more, but queries may have read it before.
            unsafe {
                abi::urcu_memb_synchronize_rcu();
                drop(Box::from_raw(left));
            }
        }
    }
}

/// What was replaced, and may still be read. Dropping it alone frees nothing: see [`free_retired`].
#[derive(Debug)]
#[must_use = "it is only freed by free_retired"]
pub struct Retired<T>(*mut T);

// SAFETY: it is the box that it was before, to be dropped on another thread.
unsafe impl<T: Send> Send for Retired<T> {}

/// Waits until no query can read any of these, and frees them. Must not be called in a hook.
pub fn free_retired<T>(retired: &mut Vec<Retired<T>>) {
    if retired.is_empty() {
        return;
    }
    wait_for_queries();
    for Retired(value) in retired.drain(..) {
        if !value.is_null() {
            // SAFETY: `Shared::replace` took it out, so that no query which began since then saw it, and the others have ended.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

/// Waits until all queries that run now are answered. Must not be called in a hook.
pub fn wait_for_queries() {
    // SAFETY: the thread is in no read section, as hooks never call this.
    unsafe { abi::urcu_memb_synchronize_rcu() }
}
