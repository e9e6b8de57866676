//! The secrets of webhooks: made of a key that is in a file of its own and of the salt that the log has of each channel, so that no log, no
//! list and no backup of the log has them.

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use data_encoding::{BASE32_NOPAD, BASE64};
use herald_core::channel::{Channel, Receiver};
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

    /// What the owner of a channel's address gets, in words that can be typed: 80 bits.
    pub(super) fn code(&self, channel: &Channel) -> Option<String> {
        let Receiver::Email { address } = &channel.receiver else { return None };
        let parts: [&[u8]; 4] = [b"confirm", &channel.id.0.to_be_bytes(), &channel.salt, address.as_bytes()];
        let text = BASE32_NOPAD.encode(&hmac(&*self.0, &parts)[..10]);
        let groups = text.as_bytes().chunks(4).map(String::from_utf8_lossy);
        Some(groups.collect::<Vec<_>>().join("-"))
    }

    /// Whether this is that code, however it is written.
    pub(super) fn is_code(&self, channel: &Channel, typed: &str) -> bool {
        let plain = |text: &str| {
            let kept = text.chars().filter(|c| !c.is_whitespace() && *c != '-').take(64);
            kept.collect::<String>().to_ascii_uppercase()
        };
        // Compared by a keyed hash, so that the time it takes says nothing.
        let sum = |text: &str| hmac(&*self.0, &[b"compare", plain(text).as_bytes()]);
        self.code(channel).is_some_and(|code| sum(&code) == sum(typed))
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

    use herald_core::{ChannelId, TenantId};

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
    fn a_code_is_of_a_channel_and_an_address() {
        let key = Key(Arc::new([7; 32]));
        let channel = |id: u128, address: &str| Channel {
            id: ChannelId(id),
            tenant: TenantId(1),
            name: "mail".into(),
            receiver: Receiver::Email { address: address.into() },
            monitors: None,
            enabled: true,
            salt: [9; 16],
            revision: 1,
            created_at_ms: 0,
            confirmed: Some(false),
        };
        let ours = channel(1, "ops@example.com");
        let code = key.code(&ours).unwrap();
        assert_eq!(code.len(), 19, "{code}");
        for typed in [code.clone(), code.to_ascii_lowercase(), code.replace('-', ""), format!(" {code}\n")] {
            assert!(key.is_code(&ours, &typed), "{typed}");
        }
        assert!(!key.is_code(&ours, "") && !key.is_code(&ours, &code[..18]));
        assert!(!key.is_code(&channel(2, "ops@example.com"), &code));
        assert!(!key.is_code(&channel(1, "other@example.com"), &code));
        assert!(!Key(Arc::new([8; 32])).is_code(&ours, &code));
        let hook = Channel { receiver: Receiver::Webhook { url: "https://example.com/".into() }, ..ours };
        assert!(!key.is_code(&hook, "") && key.code(&hook).is_none());
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
