//! Tells a damaged write-ahead log from a torn one, before SQLite sees it.
//!
//! SQLite takes the first frame that doesn't verify for the torn end that a crash leaves, and drops it and
//! everything after it, without a word. For a log of acknowledged entries that is wrong when the frame was
//! damaged later on. The two can be told apart: every commit is synced before the next one writes a frame, so
//! a crash can tear the last transaction only. A frame that doesn't verify with a *later transaction* behind
//! it was damaged.
//!
//! Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// What is wrong with this content of a WAL file, `None` when SQLite may have it.
pub(super) fn damage(wal: &[u8]) -> Option<String> {
    let Some((header, frames)) = wal.split_at_checked(HEADER) else {
        // The header is written and synced before the first frame: a crash came first, nothing is lost.
        return None;
    };
    if frames.is_empty() {
        return None;
    }
    let magic = word(header, 0);
    let big_endian = magic & 1 == 1;
    let seed = checksum((0, 0), &header[..24], big_endian);
    let page = word(header, 8) as usize;
    if magic & !1 != 0x377f_0682 || seed != (word(header, 24), word(header, 28)) || page < 512 {
        return Some("the header of its write-ahead log does not verify".into());
    }
    let salts = &header[16..24];

    let frames: Vec<&[u8]> = frames.chunks_exact(FRAME_HEADER + page).collect();
    let same_salts = |frame: &[u8]| &frame[8..16] == salts;
    let ends_transaction = |frame: &[u8]| word(frame, 4) != 0;

    let mut running = seed;
    for (at, frame) in frames.iter().enumerate() {
        running = checksum(running, &frame[..8], big_endian);
        running = checksum(running, &frame[FRAME_HEADER..], big_endian);
        let verifies = running == (word(frame, 16), word(frame, 20));
        if verifies && same_salts(frame) {
            continue;
        }
        // The checksum covers everything but the salts, and runs on from frame to frame: one that is right
        // belongs here, so the salts were damaged. Frames of an earlier round of the file, which normally
        // follow the end, have both wrong.
        let damaged = verifies
            || frames[at..]
                .iter()
                .position(|frame| same_salts(frame) && ends_transaction(frame))
                .is_some_and(|end| frames[at + end + 1..].iter().any(|frame| same_salts(frame)));
        return damaged.then(|| {
            format!(
                "frame {} of its write-ahead log does not verify, and later transactions follow it",
                at + 1
            )
        });
    }
    None
}

/// SQLite's running checksum over a multiple of eight bytes.
fn checksum((mut one, mut two): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let read = if big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    for [first, second] in pairs {
        one = one.wrapping_add(read(*first)).wrapping_add(two);
        two = two.wrapping_add(read(*second)).wrapping_add(one);
    }
    (one, two)
}

/// The big-endian number at this place of a header that is long enough.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
