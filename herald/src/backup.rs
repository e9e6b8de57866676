//! `herald backup`: the store in one file, while the control plane goes on.

use std::path::{Path, PathBuf};

use clap::Args;
use herald_store::{BackupError, OpenError, StoreReader};

use crate::config::{self, ConfigError};

/// Arguments of `herald backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// Directory of the store, as `herald serve` has it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The TOML file of `herald serve`, which may name the directory
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The file to be written; there must be none of that name
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments are not right.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The copy could not be made, or is not right.
    #[error(transparent)]
    Backup(#[from] BackupError),
}

/// Writes the backup and says what is in it.
///
/// # Errors
/// [`enum@Error`]; then no file was left.
pub fn run(args: BackupArgs) -> Result<String, Error> {
    let data = config::data_dir(args.data, args.config.as_deref())?;
    let reader = StoreReader::open(&store_dir(&data))?;
    let (head, verified) = reader.backup(&args.to)?;
    Ok(format!(
        "{}: the store up to revision {head}, verified: {} entries and {} chunks",
        args.to.display(),
        verified.entries,
        verified.chunks
    ))
}

/// The store's directory in the data directory.
pub fn store_dir(data: &Path) -> PathBuf {
    data.join("store")
}
