//! The file of counts that the agent hasn't kept: a magic, with its version, and batches in order, each in a frame with its checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use steering::link::{CountsBatch, decode_frame, encode_frame};

const MAGIC: &[u8; 16] = b"herald-counts-01";

/// Reads it; nothing if there is none.
///
/// # Errors
/// If it isn't what [`write()`] made.
pub fn read(path: &Path) -> io::Result<Vec<CountsBatch>> {
    let octets = match fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut rest = octets.strip_prefix(MAGIC).ok_or(io::ErrorKind::InvalidData)?;
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let frame = decode_frame(rest).map_err(io::Error::other)?;
        let (bytes, batch) = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
        batches.push(batch);
        rest = rest.get(bytes..).unwrap_or_default();
    }
    Ok(batches)
}

/// Writes it in the place of what was there, durably.
///
/// # Errors
/// If that isn't possible: what was there stays.
pub fn write<'a>(path: &Path, batches: impl Iterator<Item = &'a CountsBatch>) -> io::Result<()> {
    let beside = path.with_extension("counts.new");
    let mut octets = MAGIC.to_vec();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    for batch in batches {
        encode_frame(batch, &mut octets);
        file.write_all(&octets)?;
        octets.clear();
    }
    file.write_all(&octets)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
