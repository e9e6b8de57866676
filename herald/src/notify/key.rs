//! The secrets of webhooks: made of a key that is in a file of its own and of the salt that the log has of each channel, so that no log, no
//! list and no backup of the log has them.

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use data_encoding::BASE64;
use herald_core::channel::Channel;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::NotifyError;
use crate::clock;

/// The file's name in the data directory.
const FILE: &str = "webhook.key";

/// What secrets of the Standard Webhooks specification begin with.
const PREFIX: &str = "whsec_";

/// The key. It has no `Debug`.
#[derive(Clone)]
pub(super) struct Key(Arc<[u8; 32]>);

impl Key {
    /// Reads it, or draws it.
    pub(super) fn open(dir: &Path) -> Result<Key, NotifyError> {
        let path = dir.join(FILE);
        read_or_make(&path).map(|key| Key(Arc::new(key))).map_err(|source| NotifyError::Key { path, source })
    }

    /// The secret of a channel.
    pub(super) fn secret(&self, channel: &Channel) -> [u8; 32] {
        hmac(&*self.0, &[b"webhook", &channel.id.0.to_be_bytes(), &channel.salt])
    }

    /// The same as its tenant has it.
    pub(super) fn secret_text(&self, channel: &Channel) -> String {
        format!("{PREFIX}{}", BASE64.encode(&self.secret(channel)))
    }
}

/// HMAC-SHA256 (RFC 2104) of some parts, one after the other.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may be of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn read_or_make(path: &Path) -> io::Result<[u8; 32]> {
    match std::fs::File::open(path) {
        Ok(mut file) => {
            let mut key = Vec::new();
            Read::by_ref(&mut file).take(64).read_to_end(&mut key)?;
            let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "a key has 32 octets");
            key.try_into().map_err(wrong)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = clock::entropy();
            // Whole or not at all: half a key would be one that nobody has.
            let partial = path.with_extension("key.part");
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&partial)?;
            file.write_all(&key).and_then(|()| file.sync_all())?;
            std::fs::rename(&partial, path)?;
            Ok(key)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_kept_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::open(dir.path()).unwrap();
        assert_eq!(Key::open(dir.path()).unwrap().0, key.0);
        let file = dir.path().join(FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, [1; 31]).unwrap();
        assert!(Key::open(dir.path()).is_err(), "half a key is none");
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let tag = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&tag),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
