//! Where threads of knotd's leave the queries that are logged: a ring each, with one writer and one reader, made when it is first needed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use steering::query_log::{RECORD_WORDS, Record};

/// Records that fit into a ring (5 MB): what a thread that answers 300,000 queries a second logs between two visits of the reader.
const RECORDS: usize = 1 << 14;

type Words = [AtomicU64; RECORD_WORDS];

/// A ring. It is there as long as knotd is.
pub struct Ring {
    /// Records that were put, ever.
    put: Apart<AtomicUsize>,
    /// Records that were taken, ever.
    taken: Apart<AtomicUsize>,
    records: Box<[Words; RECORDS]>,
}

/// In a cache line that nothing else is in.
#[repr(align(128))]
struct Apart<T>(T);

static RINGS: Mutex<Vec<&'static Ring>> = Mutex::new(Vec::new());

/// A ring for the thread that asks.
#[cold]
pub fn new() -> &'static Ring {
    let mut records = Vec::with_capacity(RECORDS);
    records.resize_with(RECORDS, || [const { AtomicU64::new(0) }; RECORD_WORDS]);
    let Ok(records) = records.into_boxed_slice().try_into() else { unreachable!("so many were made") };
    let ring = Ring { put: Apart(AtomicUsize::new(0)), taken: Apart(AtomicUsize::new(0)), records };
    let ring: &'static Ring = Box::leak(Box::new(ring));
    rings().push(ring);
    ring
}

fn rings() -> MutexGuard<'static, Vec<&'static Ring>> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ring {
    /// Puts a record. False if there is no room.
    pub fn push(&self, record: &Record<'_>) -> bool {
        let put = self.put.0.load(Ordering::Relaxed);
        if put.wrapping_sub(self.taken.0.load(Ordering::Acquire)) >= RECORDS {
            return false;
        }
        let values = record.head().into_iter().chain(record.name_words());
        for (word, value) in self.records[put % RECORDS].iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        self.put.0.store(put.wrapping_add(1), Ordering::Release);
        true
    }

    fn take(&self, mut each: impl FnMut(Taken<'_>)) {
        let taken = self.taken.0.load(Ordering::Relaxed);
        let put = self.put.0.load(Ordering::Acquire);
        for place in 0..put.wrapping_sub(taken) {
            each(Taken(&self.records[taken.wrapping_add(place) % RECORDS]));
        }
        self.taken.0.store(put, Ordering::Release);
    }
}

/// Has all records of all threads looked at, and takes them. Called by one thread alone.
pub fn take_all(mut each: impl FnMut(Taken<'_>)) {
    // Only a thread that logs its first query waits for this.
    for ring in &*rings() {
        ring.take(&mut each);
    }
}

/// A record that is being taken.
pub struct Taken<'a>(&'a Words);

impl Taken<'_> {
    /// Its first word.
    pub fn first(&self) -> u64 {
        self.0[0].load(Ordering::Relaxed)
    }

    /// All of its words.
    pub fn words(&self) -> [u64; RECORD_WORDS] {
        let mut words = [0; RECORD_WORDS];
        for (to, word) in words.iter_mut().zip(self.0) {
            *to = word.load(Ordering::Relaxed);
        }
        words
    }
}
