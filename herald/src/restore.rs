//! `herald restore`: a backup in the store's place, so that PoPs take it for newer than what they have.
//!
//! What was done after the backup is lost, and its revisions are used again. So the restored log begins an epoch above
//! any that there was: the time in ms, where epochs count starts. All zones are published anew in it, with serials above
//! those that may have been published since the backup.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use herald_core::account::Principal;
use herald_core::command::{Action, Command};
use herald_core::log::Envelope;
use herald_store::{EmbeddedStore, OpenError, Store, StoreError, StoreReader};

use crate::backup::store_dir;
use crate::clock;
use crate::config::{self, ConfigError};
use crate::engine::{RecoverError, Stepped, SubmitError};

/// How often a second a zone may have been changed since the backup, where the replaced store can't tell.
const CHANGES_PER_S: u64 = 100;

/// Arguments of `herald restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// Directory of the store, as `herald serve` has it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The TOML file of `herald serve`, which may name the directory
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The backup
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// How often any one zone may have been changed since the backup: serials go up by as much. Found out unless it is said
    #[arg(long, value_name = "CHANGES")]
    pub serials_ahead: Option<u32>,
}

/// Why nothing was restored. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments are not right.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The backup, or the store that it is to replace, can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backup can't be read.
    #[error("the backup can't be read: {0}")]
    Read(#[from] StoreError),
    /// Its log does not hold.
    #[error("the backup can't be used: {0}")]
    Recover(#[from] RecoverError),
    /// What is to be noted in it could not be.
    #[error("the restored store can't be written: {0}")]
    Submit(#[from] SubmitError),
    /// A file could not be copied or moved.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Puts the backup in the store's place, and says what is there now.
///
/// # Errors
/// [`enum@Error`]; then the store is as it was.
pub fn run(args: RestoreArgs) -> Result<String, Error> {
    let data = config::data_dir(args.data, args.config.as_deref())?;
    let file = |path: &Path, source| Error::File { path: path.into(), source };
    let (place, new) = (store_dir(&data), data.join("store.restoring"));
    let verified = StoreReader::open_backup(&args.from)?.verify()?;
    let replaced = Replaced::look(&place)?;

    // Made beside the old one, and moved when it is all there.
    if new.exists() {
        fs::remove_dir_all(&new).map_err(|e| file(&new, e))?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&new).map_err(|e| file(&new, e))?;
    let copy = new.join("store.sqlite");
    fs::copy(&args.from, &copy).map_err(|e| file(&args.from, e))?;
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&new)?);
    let head = store.head()?;
    let last = envelope_of(&*store, head)?;
    let now_ms = clock::now_ms();
    let ahead = args.serials_ahead.unwrap_or_else(|| replaced.changes_since(last.as_ref(), now_ms));
    let replaced_epoch = replaced.epoch();
    // Closed before it is moved.
    drop(replaced);
    let mut stepped = Stepped::open(Arc::clone(&store), now_ms, Box::new(|_, _| {}))?;
    let epoch = now_ms.max(replaced_epoch + 1).max(stepped.state().epoch() + 1);
    let message = format!("restored from {}, revision {head}", args.from.display());
    let context = clock::context(Principal::System, Some(message));
    let action = Action::RestoreCopy { epoch, serials_ahead: ahead };
    stepped.submit(vec![Command { context, action }]).into_iter().collect::<Result<Vec<_>, _>>()?;
    stepped.checkpoint();
    let zones = stepped.state().zone_count();
    drop((stepped, store));

    let aside = data.join(format!("store.replaced-{epoch}"));
    let had_one = place.exists();
    if had_one {
        fs::rename(&place, &aside).map_err(|e| file(&place, e))?;
    }
    fs::rename(&new, &place).map_err(|e| file(&new, e))?;
    fs::File::open(&data).and_then(|dir| dir.sync_all()).map_err(|e| file(&data, e))?;
    let aside = if had_one { format!("; what was there is in {}", aside.display()) } else { String::new() };
    Ok(format!(
        "{}: the store up to revision {head}, verified: {} entries and {} chunks. It goes on in epoch {epoch} with {zones} zones, \
         all published anew with serials at least {ahead} higher{aside}",
        place.display(),
        verified.entries,
        verified.chunks
    ))
}

/// The store that is to be replaced and its last envelope, if it can be read and has any.
struct Replaced(Option<(EmbeddedStore, Envelope)>);

impl Replaced {
    /// # Errors
    /// If it is in use.
    fn look(dir: &Path) -> Result<Replaced, Error> {
        if !dir.join("store.sqlite").exists() {
            return Ok(Replaced(None));
        }
        match EmbeddedStore::open(dir) {
            Ok(store) => {
                let last = store.head().and_then(|head| envelope_of(&store, head));
                Ok(Replaced(last.ok().flatten().map(|last| (store, last))))
            }
            Err(e @ OpenError::InUse { .. }) => Err(e.into()),
            Err(_) => Ok(Replaced(None)),
        }
    }

    fn epoch(&self) -> u64 {
        self.0.as_ref().map_or(0, |(_, last)| last.epoch)
    }

    /// How often a zone may have been changed after this entry: as often as there are entries, if it is one of its own.
    fn changes_since(&self, copied: Option<&Envelope>, now_ms: u64) -> u32 {
        let Some(copied) = copied else { return 0 };
        if let Some((store, last)) = &self.0
            && let Ok(Some(same)) = envelope_of(store, copied.revision)
            && (same.payload_hash, same.previous_hash) == (copied.payload_hash, copied.previous_hash)
        {
            return u32::try_from(last.revision - copied.revision).unwrap_or(u32::MAX);
        }
        let since_s = now_ms.saturating_sub(copied.time_ms).div_ceil(1000);
        u32::try_from(since_s.saturating_mul(CHANGES_PER_S)).unwrap_or(u32::MAX)
    }
}

/// The envelope of an entry, if there is one.
fn envelope_of(store: &dyn Store, revision: u64) -> Result<Option<Envelope>, StoreError> {
    let Some(after) = revision.checked_sub(1) else { return Ok(None) };
    let entry = store.read(after, 1, 1)?.into_iter().next();
    Ok(entry.and_then(|entry| minicbor::decode(&entry.envelope).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{self, BackupArgs};
    use crate::engine::testing::*;

    fn restore(data: &Path, from: &Path, serials_ahead: Option<u32>) -> Result<String, Error> {
        run(RestoreArgs { data: Some(data.into()), config: None, from: from.into(), serials_ahead })
    }

    #[tokio::test]
    async fn a_restored_copy_is_newer_than_all_that_was() {
        let dir = tempfile::tempdir().unwrap();
        let (data, file) = (dir.path(), dir.path().join("backup.sqlite"));
        let platform = Platform::new(&store_dir(data), no_effects()).await;
        let kept = platform.create("kept.example").await;
        let gone = platform.create("gone.example").await;
        platform.submit(delete_zone(gone)).await.unwrap();
        let copied = platform.engine.state();
        let args = BackupArgs { data: Some(data.into()), config: None, to: file.clone() };
        backup::run(args).unwrap();
        let said = restore(data, &file, None).unwrap_err().to_string();
        assert!(said.contains("is in use by process"), "{said}");

        // It goes on, and all of that is lost.
        let lost = platform.create("lost.example").await;
        for n in 0..30 {
            platform.submit(put_a(kept, "www.kept.example", [192, 0, 2, n])).await.unwrap();
        }
        let again = platform.create("gone.example").await;
        let before = platform.engine.state();
        drop(platform.stop().await);

        let said = restore(data, &file, None).unwrap();
        let ahead = before.revision() - copied.revision();
        assert!(said.contains(&format!("at least {ahead} higher; what was there is in")), "{said}");
        let platform = Platform::open(&store_dir(data));
        let after = platform.engine.state();
        assert!(after.epoch() > before.epoch() + 1 && after.head() > before.head());
        assert!(after.zone(lost).is_none() && after.zone(again).is_none());
        let (was, is) = (before.zone(kept).unwrap(), after.zone(kept).unwrap());
        assert!(is.generation > was.generation);
        assert!(herald_core::zone::serial_is_newer(is.serial, was.serial), "{} {}", is.serial, was.serial);
        assert_eq!(is.content.digest(), copied.zone(kept).unwrap().content.digest());
        let retired =
            |state: &herald_core::State| state.published_serial(None, &name("gone.example")).unwrap();
        assert!(herald_core::zone::serial_is_newer(retired(&after), retired(&before)));
        drop(platform.stop().await);

        // Again, of the same file, where the store in place is of another past: how much was lost is guessed by time.
        assert!(restore(data, &file, Some(7)).unwrap().contains("at least 7 higher"));
        fs::remove_dir_all(store_dir(data)).unwrap();
        let first = restore(data, &file, None).unwrap();
        assert!(!first.contains("what was there"), "{first}");
        let platform = Platform::open(&store_dir(data));
        assert!(platform.engine.state().head() > after.head());
        drop(platform.stop().await);

        // What is no backup leaves all as it was.
        fs::write(&file, "no backup").unwrap();
        let head = || StoreReader::open(&store_dir(data)).unwrap().verify().unwrap().entries;
        let entries = head();
        restore(data, &file, None).unwrap_err();
        assert_eq!(head(), entries);
    }
}
