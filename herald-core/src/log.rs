//! The log's entries: a versioned envelope and a payload.
//!
//! The hash chain runs over envelopes, each of which holds the hash of the one before and the hash of its payload. So
//! payloads can later be compacted, encrypted anew or erased, and the chain still verifies.

use std::borrow::Cow;

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::account::Principal;
use crate::change::{Change, ChunkAddress, Chunks};
use crate::command::Context;
use crate::{Generation, state};

/// Version of envelopes and payloads that is written.
pub const VERSION: u16 = 1;

/// Hash that the first envelope names as the one before.
pub const GENESIS: [u8; 32] = [0; 32];

/// What is known of an entry without its payload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    /// [`VERSION`].
    #[n(0)]
    pub version: u16,
    /// Its number, from 1, without gaps.
    #[n(1)]
    pub revision: u64,
    /// The leader's term.
    #[n(2)]
    pub epoch: u64,
    /// Who.
    #[n(3)]
    pub principal: Principal,
    /// When, in ms since the epoch; never less than the entry before.
    #[n(4)]
    pub time_ms: u64,
    /// Why.
    #[n(5)]
    pub message: Option<String>,
    /// Names the request across repetitions.
    #[n(6)]
    pub idempotency_key: Option<String>,
    /// The key that the payload is encrypted with; none yet.
    #[n(7)]
    pub key_id: Option<u32>,
    /// SHA-256 of the payload as stored.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub payload_hash: [u8; 32],
    /// SHA-256 of the envelope before as stored.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub previous_hash: [u8; 32],
}

impl Envelope {
    /// Where its changes stand.
    pub fn at(&self) -> state::At {
        state::At {
            generation: Generation { epoch: self.epoch, counter: self.revision },
            time_ms: self.time_ms,
        }
    }
}

/// An entry as it is stored, and the hash that the next one will name.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Encoded envelope.
    pub envelope: Vec<u8>,
    /// Encoded payload.
    pub payload: Vec<u8>,
    /// Hash of the envelope.
    pub hash: [u8; 32],
}

/// Seals an entry.
pub fn seal(context: &Context, at: state::At, previous_hash: [u8; 32], payload: Vec<u8>) -> Sealed {
    let envelope = Envelope {
        version: VERSION,
        revision: at.generation.counter,
        epoch: at.generation.epoch,
        principal: context.principal,
        time_ms: at.time_ms,
        message: context.message.clone(),
        idempotency_key: context.idempotency_key.as_ref().map(|key| key.text.clone()),
        key_id: None,
        payload_hash: Sha256::digest(&payload).into(),
        previous_hash,
    };
    let envelope = minicbor::to_vec(&envelope).expect("writing to a Vec can't fail");
    let hash = Sha256::digest(&envelope).into();
    Sealed { envelope, payload, hash }
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not readable.
    #[error("entry {revision} can't be read: {source}")]
    Malformed {
        /// Which.
        revision: u64,
        /// Why.
        source: minicbor::decode::Error,
    },
    /// Written by a newer version.
    #[error(
        "entry {revision} has version {version}, and this program knows up to {VERSION}: use a newer one"
    )]
    Version {
        /// Which.
        revision: u64,
        /// Its version.
        version: u16,
    },
    /// The chain does not hold.
    #[error("the hash chain breaks at entry {revision}: {what}")]
    Chain {
        /// Which.
        revision: u64,
        /// How.
        what: &'static str,
    },
}

/// Opens an envelope and checks that it follows the one with `previous_hash`; gives it and its own hash.
///
/// # Errors
/// [`LogError`].
pub fn open(
    revision: u64,
    previous_hash: &[u8; 32],
    envelope: &[u8],
    payload: &[u8],
) -> Result<(Envelope, [u8; 32]), LogError> {
    let opened = open_envelope(revision, envelope)?;
    let broken = |what| Err(LogError::Chain { revision, what });
    if opened.previous_hash != *previous_hash {
        return broken("it doesn't follow the entry before");
    }
    if opened.payload_hash != *Sha256::digest(payload) {
        return broken("its payload is another");
    }
    Ok((opened, Sha256::digest(envelope).into()))
}

/// Opens an envelope by itself.
///
/// # Errors
/// [`LogError`].
pub fn open_envelope(revision: u64, envelope: &[u8]) -> Result<Envelope, LogError> {
    let malformed = |source| LogError::Malformed { revision, source };
    // Of a newer version nothing else may be readable.
    let version = version_of(envelope).map_err(malformed)?;
    if version > VERSION {
        return Err(LogError::Version { revision, version });
    }
    let opened: Envelope = minicbor::decode(envelope).map_err(malformed)?;
    if opened.revision != revision {
        return Err(LogError::Chain { revision, what: "its number is another" });
    }
    Ok(opened)
}

/// The version of an envelope: its first field, whatever the version.
fn version_of(envelope: &[u8]) -> Result<u16, minicbor::decode::Error> {
    let mut fields = minicbor::Decoder::new(envelope);
    fields.array()?;
    fields.u16()
}

/// Encodes an inline payload.
pub fn encode_inline(changes: &[Change]) -> Vec<u8> {
    let mut bytes = vec![PAYLOAD_INLINE];
    minicbor::encode_with(changes, &mut bytes, &mut ()).expect("writing to a Vec can't fail");
    bytes
}

/// Cuts a payload into chunks of at most `chunk_bytes_max` that are to be staged.
pub fn payload_chunks(payload: &[u8], chunk_bytes_max: usize) -> impl Iterator<Item = Vec<u8>> {
    payload.chunks(chunk_bytes_max - 1).map(|part| [&[CHUNK_MARK], part].concat())
}

/// Encodes a payload whose inline encoding was staged in [`payload_chunks`] at these addresses.
pub fn encode_chunked(addresses: &[ChunkAddress]) -> Vec<u8> {
    std::iter::once(PAYLOAD_CHUNKED).chain(addresses.iter().flatten().copied()).collect()
}

/// Changes of a payload; `chunks` finds what was staged.
///
/// # Errors
/// If it can't be read or a chunk is missing.
pub fn decode_payload(
    payload: &[u8],
    chunks: &mut impl Chunks,
) -> Result<Vec<Change>, minicbor::decode::Error> {
    let inline = inline_of(payload, chunks)?;
    minicbor::decode_with(&inline, chunks)
}

/// As [`decode_payload`], but content that was staged is left out, and only named.
///
/// # Errors
/// As [`decode_payload`].
pub fn decode_outline(payload: &[u8], chunks: &impl Chunks) -> Result<Vec<Change>, minicbor::decode::Error> {
    /// Whatever was staged is taken for empty.
    struct Nothing;

    impl Chunks for Nothing {
        fn chunk(&self, _: &ChunkAddress) -> Option<Vec<u8>> {
            Some(Vec::new())
        }
    }

    let inline = inline_of(payload, chunks)?;
    minicbor::decode_with(&inline, &mut Nothing)
}

/// The chunks that a payload is in, if it is.
pub fn payload_addresses(payload: &[u8]) -> impl Iterator<Item = ChunkAddress> + '_ {
    let addresses = match payload.split_first() {
        Some((&PAYLOAD_CHUNKED, addresses)) => addresses,
        _ => &[],
    };
    addresses.as_chunks().0.iter().copied()
}

/// The encoded changes of a payload, put together if they are in chunks.
fn inline_of<'p>(payload: &'p [u8], chunks: &impl Chunks) -> Result<Cow<'p, [u8]>, minicbor::decode::Error> {
    let error = minicbor::decode::Error::message;
    match payload.split_first() {
        Some((&PAYLOAD_INLINE, changes)) => Ok(Cow::Borrowed(changes)),
        Some((&PAYLOAD_CHUNKED, addresses)) => {
            let mut whole = Vec::new();
            for address in addresses.chunks(32) {
                let address = address.try_into().map_err(|_| error("an address has 32 bytes"))?;
                let chunk = chunks.chunk(&address).ok_or_else(|| error("a staged chunk is missing"))?;
                match chunk.split_first() {
                    Some((&CHUNK_MARK, part)) => whole.extend(part),
                    _ => return Err(error("a chunk is not a part of a payload")),
                }
            }
            if whole.first() != Some(&PAYLOAD_INLINE) {
                return Err(error("a chunked payload holds an inline one"));
            }
            whole.remove(0);
            Ok(Cow::Owned(whole))
        }
        _ => Err(error("a payload of an unknown form")),
    }
}

/// First byte of a payload that holds its changes.
const PAYLOAD_INLINE: u8 = 0;

/// First byte of a payload that names chunks.
const PAYLOAD_CHUNKED: u8 = 1;

/// First byte of a chunk of a payload. Chunks are kept by what they hold, and those of checkpoints, which are dropped
/// again, begin with an array: no part of a payload may ever be the same as one of them.
const CHUNK_MARK: u8 = 0;

#[cfg(test)]
mod tests;
