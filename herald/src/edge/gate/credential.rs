//! Authentication: from what a request presents to a principal. A seam: each way to show who one is will be a
//! variant (API tokens now; JWT, TSIG and others later), and all end in the same [`Principal`].

use axum::http::{HeaderMap, header};
use herald_core::account::{Pop, Principal};
use herald_core::state::State;
use herald_core::{PopId, TokenId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::edge::problem::{ApiError, Code};
use crate::edge::secret::PresentedToken;

/// What a request presents.
pub(super) enum Credential {
    /// `Authorization: Bearer khs_…`.
    ApiToken(PresentedToken),
}

/// Finds the credential of a request.
///
/// # Errors
/// If there is none, or none of a known form.
pub(super) fn present(headers: &HeaderMap) -> Result<Credential, ApiError> {
    let refused = |detail: &str| ApiError::new(Code::Unauthenticated, detail);
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refused("give a token: `Authorization: Bearer TOKEN`"))?
        .as_bytes();
    let token = match value.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token,
        _ => return Err(refused("the authorisation is to be of the form `Bearer TOKEN`")),
    };
    PresentedToken::parse(token.trim_ascii()).map(Credential::ApiToken).ok_or_else(unknown)
}

/// The PoP whose credential a request presents.
///
/// # Errors
/// If it presents none, or that of none that is enabled.
pub(super) fn pop(headers: &HeaderMap, state: &State) -> Result<PopId, ApiError> {
    let refused =
        || ApiError::new(Code::Unauthenticated, "give a PoP's credential: `Authorization: Bearer khp_…`");
    let value = headers.get(header::AUTHORIZATION).ok_or_else(refused)?.as_bytes();
    let secret = match value.split_at_checked("Bearer ".len()) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"Bearer ") => secret.trim_ascii(),
        _ => return Err(refused()),
    };
    let hash: [u8; 32] = Sha256::digest(secret).into();
    // All are compared, each in the same time.
    let is_same = |pop: &Pop| bool::from(pop.secret_hash.ct_eq(&hash));
    let found = state.pops().fold(None, |found, pop| if is_same(pop) { Some(pop) } else { found });
    let pop = found.ok_or_else(|| ApiError::new(Code::Unauthenticated, "the PoP's credential is unknown"))?;
    match pop.enabled {
        true => Ok(pop.id),
        false => Err(ApiError::new(Code::Forbidden, "the PoP is disabled")),
    }
}

impl Credential {
    /// The token that it says it is, if there is such a token.
    pub(super) fn token(&self, state: &State) -> Option<TokenId> {
        match self {
            Credential::ApiToken(presented) => state.token(presented.id).map(|token| token.id),
        }
    }

    /// Whom it stands for. Whether its token is expired or revoked is judged with access.
    ///
    /// # Errors
    /// If it is not genuine.
    pub(super) fn principal(&self, state: &State, now_ms: u64) -> Result<Principal, ApiError> {
        match self {
            Credential::ApiToken(presented) => {
                let token = state.token(presented.id);
                // One answer for an unknown token and a wrong secret, in the same time.
                let hash = token.map_or([0; 32], |token| token.secret_hash);
                let is_genuine = presented.is_secret_of(&hash);
                let token =
                    token.filter(|token| is_genuine && token.is_valid_at(now_ms)).ok_or_else(unknown)?;
                Ok(match token.tenant {
                    Some(tenant) => Principal::Tenant { tenant, token: token.id },
                    None => Principal::Operator { token: token.id },
                })
            }
        }
    }
}

fn unknown() -> ApiError {
    ApiError::new(Code::Unauthenticated, "the token is unknown, expired or revoked")
}
