//! Folders that vanish with the test.

use std::path::{Path, PathBuf};

/// A folder of its own, removed on drop. On a disk, not in memory: what is measured there syncs for real.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one under `TMPDIR`, or else under `/var/tmp`.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn new(label: &str) -> Self {
        let base = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let folder = tempfile::Builder::new()
            .prefix(&format!("herald-{label}-"))
            .tempdir_in(&base)
            .unwrap_or_else(|e| panic!("no temporary folder in {}: {e}", base.display()));
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A folder inside, made if need be.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}
