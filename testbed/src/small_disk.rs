//! A disk that gets full: a small file system in memory, in a mount namespace of its own, so that nothing of it is left
//! whatever happens to the test.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Launch, Process};
use crate::wait::wait_until;

/// The file that takes all room.
const FILLER: &str = "filler";

/// A small disk. Daemons that are started with [`SmallDisk::prefix`] see it at its folder; all others see that folder
/// empty.
#[derive(Debug)]
pub struct SmallDisk {
    /// Its end is the namespace's, once nobody else is there.
    holder: Process,
    folder: PathBuf,
}

impl SmallDisk {
    /// Whether this user may mount something here at all.
    ///
    /// # Errors
    /// Says why not.
    pub fn is_possible() -> Result<(), String> {
        let script = "mount -t tmpfs -o size=64k tmpfs /mnt";
        let tried = Command::new("unshare").args(["--mount", "sh", "-c", script]).output();
        match tried {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(e) => Err(format!("unshare: {e}")),
        }
    }

    /// Mounts one of so many MiB over `folder`.
    ///
    /// # Panics
    /// If that fails.
    pub fn mount(folder: &Path, mib: u32) -> Self {
        fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let script = format!(
            "mount -t tmpfs -o size={mib}m tmpfs \"$1\" && touch \"$1/{FILLER}\" && exec sleep infinity"
        );
        let log_folder = folder.parent().expect("no disk is mounted over the root");
        let holder = Launch::new("disk", "unshare", log_folder)
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(folder)
            .start();
        let mut disk = Self { holder, folder: folder.to_owned() };
        wait_until(Duration::from_secs(10), "the small disk", || {
            assert!(disk.holder.is_running(), "no disk\n{}", disk.holder.tail());
            disk.seen(FILLER).exists()
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", disk.holder.tail()));
        disk
    }

    /// What has to stand before a command that is to see the disk.
    pub fn prefix(&self) -> Vec<OsString> {
        vec!["nsenter".into(), format!("--mount=/proc/{}/ns/mnt", self.holder.id()).into(), "--".into()]
    }

    /// Where a file of the disk is seen from outside.
    pub fn seen(&self, file: impl AsRef<Path>) -> PathBuf {
        let folder = self.folder.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(folder).join(file)
    }

    /// Takes all room that is left.
    ///
    /// # Panics
    /// If the disk fails otherwise than by being full.
    pub fn fill(&self) {
        let mut file = File::options().append(true).open(self.seen(FILLER)).expect("the filler is there");
        // In ever smaller pieces, so that not a page is left.
        let mut piece = vec![0xff; 1 << 20];
        while !piece.is_empty() {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(e) => panic!("{}: {e}", self.folder.display()),
            }
        }
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// If that fails.
    pub fn make_room(&self) {
        let file = File::options().write(true).open(self.seen(FILLER)).expect("the filler is there");
        file.set_len(0).expect("a file can be cut");
    }
}
