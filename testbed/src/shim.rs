//! The shim that slows down and counts a program's syncs (`assets/sync-delay.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiled shim.
#[derive(Debug)]
pub struct SyncShim {
    library: PathBuf,
    folder: PathBuf,
}

/// What one program is to be started with.
#[derive(Debug)]
pub struct SyncCounter(PathBuf);

impl SyncShim {
    /// Compiles it into `folder`.
    ///
    /// # Panics
    /// If there is no C compiler, or it refuses.
    pub fn build(folder: &Path) -> Self {
        let source = folder.join("sync-delay.c");
        let library = folder.join("sync-delay.so");
        fs::write(&source, include_str!("../assets/sync-delay.c")).expect("a scratch folder");
        let output = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .unwrap_or_else(|e| panic!("cc can't be run: {e}"));
        assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        Self { library, folder: folder.to_owned() }
    }

    /// The environment of a program whose every sync takes `delay_ms` longer, and the counter of its syncs.
    pub fn environment(&self, name: &str, delay_ms: u64) -> (Vec<(&'static str, String)>, SyncCounter) {
        let counter = self.folder.join(format!("{name}.syncs"));
        let environment = vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("HERALD_SYNC_DELAY_US", (delay_ms * 1000).to_string()),
            ("HERALD_SYNC_COUNT", counter.display().to_string()),
        ];
        (environment, SyncCounter(counter))
    }
}

impl SyncCounter {
    /// How many syncs the program has done so far.
    pub fn count(&self) -> u64 {
        let bytes = fs::read(&self.0).unwrap_or_default();
        bytes.first_chunk().map_or(0, |eight| u64::from_ne_bytes(*eight))
    }
}
