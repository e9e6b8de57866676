//! Where threads of knotd's leave what they counted: a ring each, and counters for when it is full.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use herald_core::{Name, ZoneId};

use crate::ring::Rings;

/// Records that fit into a ring: a third of a second of a thread that answers 200,000 queries a second. The reader comes every few
/// milliseconds.
const RECORDS: usize = 1 << 16;

/// Words of a record: what it is, the client's address, the policy, the pool.
const WORDS: usize = 4;

/// A ring. What a record is: its word ([`Record::pack`]), the client's address, and of what was decided the policy and the pool.
pub type Ring = crate::ring::Ring<WORDS, RECORDS>;

static RINGS: Rings<WORDS, RECORDS> = Rings::new();

/// A ring for the thread that asks.
#[cold]
pub fn new() -> &'static Ring {
    RINGS.add()
}

/// Puts a record with nothing decided. False if there is no room.
#[inline]
pub fn push(ring: &Ring, what: u64, address: u64) -> bool {
    ring.push(|words| {
        words[0].store(what, Ordering::Relaxed);
        words[1].store(address, Ordering::Relaxed);
    })
}

/// Puts a record with what was decided. False if there is no room.
#[inline]
pub fn push_decided(ring: &Ring, what: u64, address: u64, policy: u64, pool: u64) -> bool {
    ring.push(|words| {
        words[0].store(what, Ordering::Relaxed);
        words[1].store(address, Ordering::Relaxed);
        words[2].store(policy, Ordering::Relaxed);
        words[3].store(pool, Ordering::Relaxed);
    })
}

/// Takes all records of all threads: what [`Record::unpack`] reads, the address, and of what was decided the policy and the pool. Called
/// by one thread alone.
pub fn take_all(mut each: impl FnMut(u64, u64, Option<(u64, u64)>)) {
    RINGS.take_all(|[what, address, policy, pool]| {
        let what = what.load(Ordering::Relaxed);
        let decided =
            Record::is_decided(what).then(|| (policy.load(Ordering::Relaxed), pool.load(Ordering::Relaxed)));
        each(what, address.load(Ordering::Relaxed), decided);
    });
}

/// What is told of a query, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub zone: u32,
    pub rtype: u16,
    pub rcode: u16,
    pub transport: u8,
    pub is_ipv6: bool,
    pub is_client_ipv6: bool,
    pub is_truncated: bool,
    pub is_dropped: bool,
    pub is_decided: bool,
}

/// Bits of a zone's number: the rest of the word is taken.
const ZONE_BITS: u32 = 28;

impl Record {
    #[inline]
    pub fn pack(self) -> u64 {
        u64::from(self.zone)
            | u64::from(self.rtype) << ZONE_BITS
            | u64::from(self.rcode & 0xfff) << 44
            | u64::from(self.transport & 0x7) << 56
            | u64::from(self.is_ipv6) << 59
            | u64::from(self.is_client_ipv6) << 60
            | u64::from(self.is_truncated) << 61
            | u64::from(self.is_dropped) << 62
            | u64::from(self.is_decided) << 63
    }

    /// What of a packed record says which zone it is, and of which family its client.
    #[inline]
    pub fn zone_and_client(word: u64) -> u64 {
        word & (((1 << ZONE_BITS) - 1) | (1 << 60))
    }

    /// Whether a packed record has a policy and a pool.
    #[inline]
    fn is_decided(word: u64) -> bool {
        word >> 63 == 1
    }

    #[inline]
    pub fn unpack(word: u64) -> Record {
        let bit = |place: u32| word >> place & 1 == 1;
        Record {
            zone: (word & ((1 << ZONE_BITS) - 1)) as u32,
            rtype: (word >> ZONE_BITS) as u16,
            rcode: (word >> 44) as u16 & 0xfff,
            transport: (word >> 56) as u8 & 0x7,
            is_ipv6: bit(59),
            is_client_ipv6: bit(60),
            is_truncated: bit(61),
            is_dropped: bit(62),
            is_decided: bit(63),
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Without room in the ring
// ---------------------------------------------------------------------------------------------------

/// What of a query is counted where there is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NoError,
    ServFail,
    NxDomain,
    Refused,
    Other,
    Dropped,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::NoError, Kind::ServFail, Kind::NxDomain, Kind::Refused, Kind::Other, Kind::Dropped];

    pub fn of(rcode: u16, is_dropped: bool) -> Kind {
        match rcode {
            _ if is_dropped => Kind::Dropped,
            0 => Kind::NoError,
            2 => Kind::ServFail,
            3 => Kind::NxDomain,
            5 => Kind::Refused,
            _ => Kind::Other,
        }
    }

    /// The response code, where it is known.
    pub fn rcode(self) -> Option<u16> {
        match self {
            Kind::NoError => Some(0),
            Kind::ServFail => Some(2),
            Kind::NxDomain => Some(3),
            Kind::Refused => Some(5),
            Kind::Other | Kind::Dropped => None,
        }
    }
}

type Coarse = [AtomicU64; Kind::ALL.len()];

const CHUNK: usize = 1024;

/// Counters by zone, in chunks that are made when a zone of theirs is numbered: 48 bytes a zone.
static COARSE: [OnceLock<Box<[Coarse; CHUNK]>>; 4096] = [const { OnceLock::new() }; 4096];

/// Whether anything was counted there since it was looked at.
static HAS_COARSE: AtomicBool = AtomicBool::new(false);

/// Counts a query for which there is no room.
#[cold]
pub fn count_coarsely(zone: u32, kind: Kind) {
    let chunk = COARSE.get(zone as usize / CHUNK).and_then(OnceLock::get);
    // Zones beyond the last chunk share the place of what is of no zone.
    let place = if chunk.is_some() { zone as usize } else { 0 };
    if let Some(chunk) = chunk.or_else(|| COARSE[0].get()) {
        chunk[place % CHUNK][kind as usize].fetch_add(1, Ordering::Relaxed);
        HAS_COARSE.store(true, Ordering::Release);
    }
}

/// Takes what was counted for want of room.
pub fn take_coarse(mut each: impl FnMut(u32, Kind, u64)) {
    if !HAS_COARSE.swap(false, Ordering::Acquire) {
        return;
    }
    for (number, chunk) in COARSE.iter().enumerate() {
        let Some(chunk) = chunk.get() else { continue };
        for (place, counters) in chunk.iter().enumerate() {
            for (kind, counter) in Kind::ALL.into_iter().zip(counters) {
                if counter.load(Ordering::Relaxed) > 0 {
                    each((number * CHUNK + place) as u32, kind, counter.swap(0, Ordering::Relaxed));
                }
            }
        }
    }
}

/// Makes what zones up to this number need.
fn make_coarse(number: u32) {
    if let Some(chunk) = COARSE.get(number as usize / CHUNK) {
        chunk.get_or_init(|| {
            let mut counters = Vec::with_capacity(CHUNK);
            counters.resize_with(CHUNK, || [const { AtomicU64::new(0) }; Kind::ALL.len()]);
            match counters.into_boxed_slice().try_into() {
                Ok(counters) => counters,
                Err(_) => unreachable!("so many were made"),
            }
        });
    }
}

// ---------------------------------------------------------------------------------------------------
// Numbers of zones
// ---------------------------------------------------------------------------------------------------

/// A zone's number, for as long as this is there. It is never zero.
#[derive(Debug)]
pub struct Numbered(u32);

/// Who has which number.
struct Numbers {
    /// By number, from 1 on.
    zones: Vec<Option<(Name, Option<ZoneId>)>>,
    /// Numbers that nobody has.
    free: Vec<u32>,
    /// Numbers that nobody has, of which there may still be records.
    gone: Vec<u32>,
}

static NUMBERS: Mutex<Numbers> =
    Mutex::new(Numbers { zones: Vec::new(), free: Vec::new(), gone: Vec::new() });

/// Makes what queries of no zone need.
pub fn set_up() {
    make_coarse(0);
}

impl Numbered {
    /// Gives a zone a number. `zone` is which one it is, where its name doesn't say that.
    pub fn new(name: &Name, zone: Option<ZoneId>) -> Numbered {
        let mut numbers = lock(&NUMBERS);
        let of = Some((name.clone(), zone));
        let number = match numbers.free.pop() {
            Some(number) => {
                if let Some(place) = numbers.zones.get_mut(number as usize - 1) {
                    *place = of;
                }
                number
            }
            None => {
                numbers.zones.push(of);
                numbers.zones.len() as u32
            }
        };
        drop(numbers);
        make_coarse(number);
        Numbered(number)
    }

    #[inline]
    pub fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        lock(&NUMBERS).gone.push(self.0);
    }
}

/// Whose number it is, or was last.
pub fn zone_of(number: u32) -> Option<(Name, Option<ZoneId>)> {
    lock(&NUMBERS).zones.get(number.checked_sub(1)? as usize)?.clone()
}

/// Numbers that nobody has any more: to be freed once what is there now was taken and told.
pub fn gone() -> Vec<u32> {
    std::mem::take(&mut lock(&NUMBERS).gone)
}

/// Others may have these.
pub fn free(numbers: Vec<u32>) {
    lock(&NUMBERS).free.extend(numbers);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
