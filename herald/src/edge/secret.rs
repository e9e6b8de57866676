//! Secrets that are shown once: made here, and afterwards only their hashes are known.
//!
//! An API token is `khs_`, the token's id, `_` and 32 random bytes in base64url; a PoP's credential is `khp_` and
//! 32 random bytes, a heartbeat's secret `khh_` and as many. With 256 random bits a plain SHA-256 is enough: there is nothing to guess or stretch.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use herald_core::TokenId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const TOKEN_PREFIX: &str = "khs_";
const POP_PREFIX: &str = "khp_";
const HEARTBEAT_PREFIX: &str = "khh_";

/// Octets of the random part.
const RANDOM_BYTES: usize = 32;

/// Characters of an id, and of the random part in base64url.
const ID_CHARS: usize = 27;
const RANDOM_CHARS: usize = 43;

/// A new secret. It has no `Debug` that shows it.
pub struct NewSecret([u8; RANDOM_BYTES]);

impl NewSecret {
    /// Draws one.
    pub fn draw() -> NewSecret {
        NewSecret(crate::clock::entropy())
    }

    /// What is kept of an API token's secret.
    pub fn token_hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// The API token of this id.
    pub fn token_text(&self, id: TokenId) -> String {
        format!("{TOKEN_PREFIX}{id}_{}", BASE64URL_NOPAD.encode(&self.0))
    }

    /// What is kept of a PoP's credential: the hash of the text as the PoP presents it.
    pub fn pop_hash(&self) -> [u8; 32] {
        Sha256::digest(self.pop_text()).into()
    }

    /// What is kept of a heartbeat's secret: the hash of the text as it is called in.
    pub fn heartbeat_hash(&self) -> [u8; 32] {
        Sha256::digest(self.heartbeat_text()).into()
    }

    /// The secret in a heartbeat's address.
    pub fn heartbeat_text(&self) -> String {
        format!("{HEARTBEAT_PREFIX}{}", BASE64URL_NOPAD.encode(&self.0))
    }

    /// The PoP's credential.
    pub fn pop_text(&self) -> String {
        format!("{POP_PREFIX}{}", BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewSecret(…)")
    }
}

/// An API token as somebody presents it.
pub struct PresentedToken {
    /// The token it claims to be.
    pub id: TokenId,
    random: [u8; RANDOM_BYTES],
}

impl PresentedToken {
    /// Reads the text; none if it isn't of the form.
    pub fn parse(text: &[u8]) -> Option<PresentedToken> {
        let rest = text.strip_prefix(TOKEN_PREFIX.as_bytes())?;
        if rest.len() != ID_CHARS + 1 + RANDOM_CHARS || rest[ID_CHARS] != b'_' {
            return None;
        }
        let id = std::str::from_utf8(&rest[..ID_CHARS]).ok()?.parse().ok()?;
        let mut random = [0; RANDOM_BYTES];
        BASE64URL_NOPAD.decode_mut(&rest[ID_CHARS + 1..], &mut random).ok()?;
        Some(PresentedToken { id, random })
    }

    /// Whether it is the secret of this hash; takes the same time either way.
    pub fn is_secret_of(&self, hash: &[u8; 32]) -> bool {
        let own: [u8; 32] = Sha256::digest(self.random).into();
        own.ct_eq(hash).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let (secret, other) = (NewSecret::draw(), NewSecret::draw());
        let text = secret.token_text(TokenId(7));
        assert_eq!(text.len(), 4 + 27 + 1 + 43);
        let presented = PresentedToken::parse(text.as_bytes()).unwrap();
        assert_eq!(presented.id, TokenId(7));
        assert!(presented.is_secret_of(&secret.token_hash()));
        assert!(!presented.is_secret_of(&other.token_hash()));
        assert!(!format!("{secret:?}").contains(&text[36..]));
        assert!(secret.pop_text().starts_with("khp_") && secret.pop_text().len() == 47);
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let text = NewSecret::draw().token_text(TokenId(7));
        for bad in [
            "",
            "khs_",
            &text[1..],
            &text[..text.len() - 1],
            &text.replace("khs_k", "khs_z"),
            &format!("{text}A"),
        ] {
            assert!(PresentedToken::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
