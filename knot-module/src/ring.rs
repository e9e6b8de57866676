//! Rings in which threads of knotd's leave records for a thread of ours: one writer and one reader each, no lock, no clock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A ring of records of so many words. It is made when its thread first needs it, and is there as long as knotd is.
pub struct Ring<const WORDS: usize, const RECORDS: usize> {
    /// Records that were put, ever.
    put: Apart<AtomicUsize>,
    /// Records that were taken, ever.
    taken: Apart<AtomicUsize>,
    records: Box<[[AtomicU64; WORDS]; RECORDS]>,
}

/// In a cache line that nothing else is in.
#[repr(align(128))]
struct Apart<T>(T);

impl<const WORDS: usize, const RECORDS: usize> Ring<WORDS, RECORDS> {
    fn new() -> Self {
        let mut records = Vec::with_capacity(RECORDS);
        records.resize_with(RECORDS, || [const { AtomicU64::new(0) }; WORDS]);
        let Ok(records) = records.into_boxed_slice().try_into() else { unreachable!("so many were made") };
        Ring { put: Apart(AtomicUsize::new(0)), taken: Apart(AtomicUsize::new(0)), records }
    }

    /// Puts a record, which `write` writes. False if there is no room. Called by the ring's thread alone.
    #[inline]
    pub fn push(&self, write: impl FnOnce(&[AtomicU64; WORDS])) -> bool {
        let put = self.put.0.load(Ordering::Relaxed);
        if put.wrapping_sub(self.taken.0.load(Ordering::Acquire)) >= RECORDS {
            return false;
        }
        write(&self.records[put % RECORDS]);
        self.put.0.store(put.wrapping_add(1), Ordering::Release);
        true
    }

    #[inline]
    fn take(&self, mut each: impl FnMut(&[AtomicU64; WORDS])) {
        let taken = self.taken.0.load(Ordering::Relaxed);
        let put = self.put.0.load(Ordering::Acquire);
        for place in 0..put.wrapping_sub(taken) {
            each(&self.records[taken.wrapping_add(place) % RECORDS]);
        }
        self.taken.0.store(put, Ordering::Release);
    }
}

/// All rings of a kind.
pub struct Rings<const WORDS: usize, const RECORDS: usize>(Mutex<Vec<&'static Ring<WORDS, RECORDS>>>);

impl<const WORDS: usize, const RECORDS: usize> Rings<WORDS, RECORDS> {
    /// None yet.
    pub const fn new() -> Self {
        Rings(Mutex::new(Vec::new()))
    }

    /// A ring for the thread that asks.
    #[cold]
    pub fn add(&self) -> &'static Ring<WORDS, RECORDS> {
        let ring: &'static Ring<WORDS, RECORDS> = Box::leak(Box::new(Ring::new()));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ring);
        ring
    }

    /// Has all records of all threads looked at, and takes them. Called by one thread alone.
    pub fn take_all(&self, mut each: impl FnMut(&[AtomicU64; WORDS])) {
        // Only a thread that needs its first ring waits for this.
        for ring in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            ring.take(&mut each);
        }
    }
}
