//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a write that names itself is done once, however often it
//! arrives. What is remembered is in the state (`herald_core::idempotency`); here a request becomes a key and a fingerprint.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use herald_core::account::Principal;
use herald_core::idempotency::{KeyHolder, Outcome, RequestKey};
use herald_wire::api::Written;
use hyper::body::{Frame, SizeHint};
use sha2::{Digest, Sha256};

use super::Caller;
use crate::edge::problem::{ApiError, Code};
use crate::edge::{present, respond};

/// The header of a request.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The header of an answer to a repetition.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// The key of a request, whose body may still be on its way.
#[derive(Clone)]
pub(super) struct Key {
    holder: KeyHolder,
    text: String,
    /// Over all but the body.
    head: Sha256,
    /// Over what came of the body.
    body: Arc<Mutex<Sha256>>,
}

impl Key {
    /// The key of a request, if it has one.
    ///
    /// # Errors
    /// If it is none that can be.
    pub(super) fn read(parts: &Parts, principal: Principal) -> Result<Option<Key>, ApiError> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let (Some(value), Some(holder)) = (values.next(), KeyHolder::of(principal)) else { return Ok(None) };
        let text = value.to_str().ok().map(|text| text.trim()).filter(|_| values.next().is_none());
        // A string of structured fields (RFC 9651) is in quotes; many clients leave them out.
        let text = text.map(|text| {
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).to_owned()
        });
        let text = text.filter(|text| (1..=KEY_BYTES_MAX).contains(&text.len())).ok_or_else(|| {
            ApiError::malformed(format!(
                "an Idempotency-Key is one text of 1 to {KEY_BYTES_MAX} printable ASCII characters"
            ))
        })?;
        let mut head = Sha256::new();
        let mut part = |part: &[u8]| {
            head.update((part.len() as u64).to_be_bytes());
            head.update(part);
        };
        part(principal.to_string().as_bytes());
        part(parts.method.as_str().as_bytes());
        part(parts.uri.path().as_bytes());
        // How long to wait for PoPs is nothing that the request does.
        let query = parts.uri.query().unwrap_or_default().split('&');
        let is_about_waiting = |pair: &&str| pair.starts_with("wait=") || pair.starts_with("timeout_ms=");
        query.filter(|pair| !is_about_waiting(pair)).for_each(|pair| part(pair.as_bytes()));
        for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
            part(parts.headers.get(name).map_or(&[], |value| value.as_bytes()));
        }
        Ok(Some(Key { holder, text, head, body: Arc::default() }))
    }

    /// The body, looked at as it is read.
    pub(super) fn watch(&self, body: Body) -> Body {
        Body::new(Watched { body, hash: Arc::clone(&self.body) })
    }

    /// The key with the fingerprint of what was read up to now.
    pub(super) fn request_key(&self) -> RequestKey {
        let body = self.body.lock().expect("nothing panics with it").clone().finalize();
        let hash: [u8; 32] = self.head.clone().chain_update(body).finalize().into();
        let fingerprint = u128::from_be_bytes(hash[..16].try_into().expect("16 of 32 bytes"));
        RequestKey { holder: self.holder, text: self.text.clone(), fingerprint }
    }
}

/// A body whose bytes are hashed as they pass.
struct Watched {
    body: Body,
    hash: Arc<Mutex<Sha256>>,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            self.hash.lock().expect("nothing panics with it").update(bytes);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request whose key is remembered.
pub(super) struct Repetition {
    pub caller: Caller,
    pub key: Key,
    pub outcome: Outcome,
}

impl Repetition {
    /// What stands in for the refusal of a request that was carried out before: what it was about may have changed
    /// since, or be gone, so the answer has the receipt alone. None if it is another request, or another trouble.
    pub(super) async fn instead_of(&self, refusal: StatusCode) -> Option<Response> {
        let is_about_the_state = matches!(refusal.as_u16(), 403 | 404 | 409 | 412 | 422);
        if !is_about_the_state || self.key.request_key().fingerprint != self.outcome.fingerprint {
            return None;
        }
        let Some(receipt) = self.caller.publisher().receipt(self.outcome.revision).await else {
            let detail = "the change was accepted before, and its receipt can't be read";
            return Some(ApiError::new(Code::Unavailable, detail).into_response());
        };
        let change = Some(present::change(&self.caller, receipt));
        let written = Written::<()> { item: None, change, warnings: Vec::new() };
        Some(respond::json(StatusCode::OK, &written))
    }
}
