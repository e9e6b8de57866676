//! Requests that are repeated because an answer was lost: each that named itself with a key and changed something is
//! remembered in the state, as one with its changes, so that its repetition is told what came of it and does nothing.
//!
//! A request that was refused, or that found all as it wanted it, did nothing and is not remembered: its repetition is
//! judged anew.

use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::account::Principal;
use crate::authorise::Access;
use crate::command::Context;
use crate::decide::Subject;
use crate::rejection::{Rejection, RejectionKind};
use crate::state::{At, State};
use crate::{TenantId, TokenId, cbor_u128};

/// For so long, in the log's time, a request is remembered.
pub const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1000;

/// So many requests of one holder are remembered: the newest.
pub const REMEMBERED_MAX: u64 = 10_000;

/// Whose keys they are: the same key of another is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum KeyHolder {
    /// A tenant, with all of its tokens.
    #[n(0)]
    Tenant(#[n(0)] TenantId),
    /// An operator's token.
    #[n(1)]
    Operator(#[n(0)] TokenId),
}

impl KeyHolder {
    /// Whose keys a principal's are.
    pub fn of(principal: Principal) -> Option<KeyHolder> {
        match principal {
            Principal::System => None,
            Principal::Operator { token } => Some(KeyHolder::Operator(token)),
            Principal::Tenant { tenant, .. } => Some(KeyHolder::Tenant(tenant)),
        }
    }
}

/// A request by its key, as a command brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Whose key it is.
    pub holder: KeyHolder,
    /// The key.
    pub text: String,
    /// Hash of all that makes the request what it is: who, what path, what body.
    pub fingerprint: u128,
}

/// A request that changed something.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// Whose key it was.
    #[n(0)]
    pub holder: KeyHolder,
    /// The first half of the SHA-256 of its key.
    #[cbor(n(1), with = "cbor_u128")]
    pub key: u128,
    /// [`RequestKey::fingerprint`].
    #[cbor(n(2), with = "cbor_u128")]
    pub fingerprint: u128,
    /// What it made or was about.
    #[n(3)]
    pub subject: Option<Subject>,
}

impl Request {
    /// A request as it is remembered.
    pub fn new(key: &RequestKey, subject: Option<Subject>) -> Request {
        let RequestKey { holder, text, fingerprint } = key;
        Request { holder: *holder, key: key_hash(text), fingerprint: *fingerprint, subject }
    }
}

fn key_hash(text: &str) -> u128 {
    let hash: [u8; 32] = Sha256::digest(text).into();
    u128::from_be_bytes(hash[..16].try_into().expect("16 of 32 bytes"))
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// [`RequestKey::fingerprint`].
    pub fingerprint: u128,
    /// What it made or was about.
    pub subject: Option<Subject>,
    /// The revision of its change.
    pub revision: u64,
    /// When that was, in ms since the epoch.
    pub time_ms: u64,
}

/// The requests that are remembered.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    outcomes: OrdMap<(KeyHolder, u128), Outcome>,
    by_age: OrdSet<(KeyHolder, u64, u128)>,
    counts: OrdMap<KeyHolder, u64>,
}

impl Requests {
    /// Remembers one, and forgets what of the same holder is too old or too many.
    pub(crate) fn remember(&mut self, request: &Request, revision: u64, time_ms: u64) {
        let Request { holder, key, fingerprint, subject } = *request;
        self.forget(holder, key);
        self.outcomes.insert((holder, key), Outcome { fingerprint, subject, revision, time_ms });
        self.by_age.insert((holder, revision, key));
        let mut count = self.counts.get(&holder).copied().unwrap_or(0) + 1;
        self.counts.insert(holder, count);
        while let Some((key, oldest)) = self.oldest(holder)
            && (count > REMEMBERED_MAX || is_over(oldest.time_ms, time_ms))
        {
            self.forget(holder, key);
            count -= 1;
        }
    }

    /// Forgets all of a holder.
    pub(crate) fn forget_all(&mut self, holder: KeyHolder) {
        while let Some((key, _)) = self.oldest(holder) {
            self.forget(holder, key);
        }
    }

    fn forget(&mut self, holder: KeyHolder, key: u128) {
        let Some(outcome) = self.outcomes.remove(&(holder, key)) else { return };
        self.by_age.remove(&(holder, outcome.revision, key));
        match self.counts.get(&holder).copied() {
            Some(count) if count > 1 => _ = self.counts.insert(holder, count - 1),
            _ => _ = self.counts.remove(&holder),
        }
    }

    fn oldest(&self, holder: KeyHolder) -> Option<(u128, Outcome)> {
        let (_, _, key) = self.by_age.range((holder, 0, 0)..=(holder, u64::MAX, u128::MAX)).next()?;
        Some((*key, *self.outcomes.get(&(holder, *key))?))
    }

    /// All that are not too old at this time, for a checkpoint.
    pub(crate) fn iter(&self, now_ms: u64) -> impl Iterator<Item = (Request, At)> + '_ {
        self.by_age.iter().filter_map(move |(holder, _, key)| {
            let Outcome { fingerprint, subject, revision, time_ms } =
                self.outcomes.get(&(*holder, *key)).copied()?;
            let generation = crate::Generation { epoch: 0, counter: revision };
            let request = Request { holder: *holder, key: *key, fingerprint, subject };
            (!is_over(time_ms, now_ms)).then_some((request, At { generation, time_ms }))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// What came of the request with this key, if it is remembered.
    pub fn outcome(&self, key: &RequestKey, now_ms: u64) -> Option<&Outcome> {
        let found = self.outcomes.get(&(key.holder, key_hash(&key.text)))?;
        (!is_over(found.time_ms, now_ms)).then_some(found)
    }
}

fn is_over(time_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(time_ms) >= REMEMBERED_MS
}

/// What came of a command's request, if this is a repetition of it.
///
/// # Errors
/// [`RejectionKind::Unauthenticated`], and [`RejectionKind::KeyReused`] if it is another request with the same key.
pub fn repetition(state: &State, context: &Context) -> Result<Option<Outcome>, Rejection> {
    let Some(key) = &context.idempotency_key else { return Ok(None) };
    Access::of(state, context)?;
    match state.requests().outcome(key, context.time_ms.max(state.time_ms())) {
        None => Ok(None),
        Some(outcome) if outcome.fingerprint == key.fingerprint => Ok(Some(*outcome)),
        Some(_) => Err(Rejection::new(
            RejectionKind::KeyReused,
            "this Idempotency-Key was used for another request: give each request one of its own",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(holder: u8, key: u64) -> Request {
        let holder = match holder {
            0 => KeyHolder::Operator(TokenId(7)),
            n => KeyHolder::Tenant(TenantId(n.into())),
        };
        Request::new(&RequestKey { holder, text: key.to_string(), fingerprint: key.into() }, None)
    }

    fn outcome(requests: &Requests, request: &Request, text: u64, now_ms: u64) -> Option<u64> {
        let key = RequestKey { holder: request.holder, text: text.to_string(), fingerprint: 0 };
        requests.outcome(&key, now_ms).map(|outcome| outcome.revision)
    }

    proptest! {
        /// As a plain list has it, and a checkpoint brings the same back.
        #[test]
        fn they_are_remembered_for_a_day(
            steps in prop::collection::vec((0u8..3, 0u64..20, 0..REMEMBERED_MS / 5), 1..100),
        ) {
            let (mut requests, mut model, mut now_ms) = (Requests::default(), Vec::new(), 0);
            for (revision, (holder, key, step_ms)) in (1..).zip(steps) {
                now_ms += step_ms;
                let new = request(holder, key);
                requests.remember(&new, revision, now_ms);
                model.push((holder, key, revision, now_ms));
                for holder in 0..3 {
                    for key in 0..20 {
                        let last = model.iter().rev().find(|one| (one.0, one.1) == (holder, key));
                        let expected = last.filter(|one| now_ms - one.3 < REMEMBERED_MS).map(|one| one.2);
                        prop_assert_eq!(outcome(&requests, &request(holder, key), key, now_ms), expected);
                    }
                }
                let mut restored = Requests::default();
                for (one, at) in requests.iter(now_ms) {
                    restored.remember(&one, at.generation.counter, at.time_ms);
                }
                let all = |requests: &Requests| requests.iter(now_ms).map(|(one, at)| (one, at.time_ms)).collect::<Vec<_>>();
                prop_assert_eq!(all(&restored), all(&requests));
                prop_assert!(requests.by_age.len() == requests.len());
                prop_assert_eq!(requests.counts.values().sum::<u64>(), requests.len() as u64);
            }
            requests.forget_all(KeyHolder::Tenant(TenantId(1)));
            prop_assert!(requests.counts.get(&KeyHolder::Tenant(TenantId(1))).is_none());
        }
    }

    #[test]
    fn the_newest_of_each_holder_are_remembered() {
        let mut requests = Requests::default();
        requests.remember(&request(2, 0), 1, 0);
        for n in 0..REMEMBERED_MAX + 5 {
            requests.remember(&request(1, n), n + 2, 0);
        }
        assert_eq!(requests.len() as u64, REMEMBERED_MAX + 1);
        assert_eq!(outcome(&requests, &request(1, 4), 4, 0), None);
        assert_eq!(outcome(&requests, &request(1, 5), 5, 0), Some(7));
        assert_eq!(outcome(&requests, &request(2, 0), 0, 0), Some(1));
    }
}
