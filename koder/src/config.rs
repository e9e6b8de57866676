//! The config file: contexts, each a server and the token for it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client::ServerUrl;
use crate::secret::Secret;

/// The version of the file's format that is written.
const VERSION: u32 = 1;

/// What the config file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    version: u32,
    /// The context that is used if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Contexts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

/// A server and how to talk to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Its address.
    pub server: ServerUrl,
    /// The token.
    pub token: Secret,
    /// PEM file of the authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cacert: Option<PathBuf>,
}

/// Why the config file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can't be written.
    #[error("can't write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It isn't what it should be.
    #[error("{}, line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong. Never a part of the file, since that may be a token.
        reason: String,
    },
    /// A newer koder wrote it.
    #[error("{} has version {version}, and this koder knows {VERSION}: update koder", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl Default for Config {
    fn default() -> Self {
        Config { version: VERSION, current: None, contexts: BTreeMap::new() }
    }
}

impl Config {
    /// Reads the file; one that isn't there is an empty one.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Config::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let syntax = |error: toml::de::Error| {
            // The error's own Display shows the line, and with it perhaps a token.
            let offset = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(offset).filter(|octet| *octet == b'\n').count();
            ConfigError::Syntax { path: path.to_owned(), line, reason: error.message().to_owned() }
        };
        let Versioned { version } = toml::from_str(text).map_err(syntax)?;
        if version > VERSION {
            return Err(ConfigError::Newer { path: path.to_owned(), version });
        }
        toml::from_str(text).map_err(syntax)
    }

    /// Writes the file whole or not at all, for the owner's eyes only.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        let text = toml::to_string(self).expect("a config has string keys and no empty values");
        // A link stays a link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        replace_private(&path, text.as_bytes()).map_err(|source| ConfigError::Write { path, source })
    }
}

fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_private_folders(parent)?;
    }
    let mut draft_name = path.file_name().unwrap_or_default().to_owned();
    draft_name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(draft_name);
    let result = write_private(&draft, content).and_then(|()| fs::rename(&draft, path));
    if result.is_err() {
        // What went wrong is already known; the draft is only tidied up.
        let _ = fs::remove_file(&draft);
    }
    result
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn create_private_folders(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Whether others than the owner may read the file.
pub fn is_exposed(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Config {
        let context = Context {
            server: ServerUrl::parse("https://herald.example").unwrap(),
            token: Secret::new("hush"),
            cacert: Some("/etc/ssl/own.pem".into()),
        };
        Config {
            current: Some("prod".into()),
            contexts: BTreeMap::from([("prod".into(), context)]),
            ..Config::default()
        }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("koder-config-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_comes_back_as_it_was_written() {
        let folder = Folder::new("round-trip");
        let path = folder.0.join("deep/config.toml");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        example().save(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), example());
        assert!(fs::read_to_string(&path).unwrap().starts_with("version = 1\ncurrent = \"prod\"\n"));
    }

    #[cfg(unix)]
    #[test]
    fn it_is_for_the_owner_only_even_if_it_was_not() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("mode");
        let path = folder.0.join("config.toml");
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(&path, "version = 1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(is_exposed(&path));
        example().save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!is_exposed(&path));
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no draft is left");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = Folder::new("link");
        fs::create_dir_all(&folder.0).unwrap();
        let (target, link) = (folder.0.join("target.toml"), folder.0.join("config.toml"));
        fs::write(&target, "version = 1\n").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        example().save(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(Config::load(&target).unwrap(), example());
    }

    #[test]
    fn errors_name_the_line_and_never_the_token() {
        let path = Path::new("config.toml");
        let text = "version = 1\n[contexts.a]\nserver = \"https://h.example\"\ntoken = \"hush\n";
        let error = Config::parse(text, path).unwrap_err().to_string();
        assert!(error.starts_with("config.toml, line 4: "), "{error}");
        assert!(!error.contains("hush"), "{error}");
        let error = Config::parse("version = 1\ntokens = \"hush\"\n", path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("`tokens`") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_newer_file_is_left_alone() {
        let error = Config::parse("version = 2\nfuture = true\n", Path::new("c")).unwrap_err();
        assert!(matches!(error, ConfigError::Newer { version: 2, .. }), "{error}");
    }
}
