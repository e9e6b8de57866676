//! The file that the module starts with: frames as the link has them, and an end that tells that it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use steering::link::{SNAPSHOT_MAGIC, ToModule, encode_frame};

/// How much is gathered before a write to the file.
const BUFFER_BYTES: usize = 256 * 1024;

/// A snapshot that is being written: the one before stays until [`SnapshotWriter::finish`].
pub struct SnapshotWriter {
    out: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
}

impl SnapshotWriter {
    /// Begins a snapshot at this path.
    ///
    /// # Errors
    /// If the file can't be made.
    pub fn create(path: &Path) -> io::Result<SnapshotWriter> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push("~");
        let temporary = PathBuf::from(temporary);
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&temporary)?);
        out.write_all(SNAPSHOT_MAGIC)?;
        Ok(SnapshotWriter { out, temporary, path: path.into() })
    }

    /// Adds frames.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn frames(&mut self, frames: &[u8]) -> io::Result<()> {
        self.out.write_all(frames)
    }

    /// Adds a message.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn message(&mut self, message: &ToModule) -> io::Result<()> {
        let mut frame = Vec::new();
        encode_frame(message, &mut frame);
        self.frames(&frame)
    }

    /// Ends it, and puts it in the place of the one before. Nothing is synced: after a crash of the machine it is written anew.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.message(&ToModule::SnapshotEnd)?;
        self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::rename(&self.temporary, &self.path)
    }
}
