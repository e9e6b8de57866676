//! Entries of the log: envelopes and payloads of any octets, and of a state's checkpoint.

use herald_core::account::Principal;
use herald_core::change::{Change, ChunkAddress, Chunks};
use herald_core::command::Context;
use herald_core::idempotency::{KeyHolder, RequestKey};
use herald_core::state::At;
use herald_core::{Generation, TokenId, log};

/// What is staged: nothing, or one chunk under every address.
struct OneChunk<'a>(Option<&'a [u8]>);

impl Chunks for OneChunk<'_> {
    fn chunk(&self, _: &ChunkAddress) -> Option<Vec<u8>> {
        self.0.map(<[u8]>::to_vec)
    }
}

/// The first two octets say how long the envelope is; then the payload.
pub(crate) fn run(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (envelope, payload) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    // It is opened as what it says it is; that it hashes to the payload's hash is for the seeds.
    let _ = log::open(1, &log::GENESIS, envelope, payload);
    for staged in [None, Some(payload)] {
        let Ok(changes) = log::decode_payload(payload, &mut OneChunk(staged)) else { continue };
        // What is read can be written, and is then read the same.
        let written = log::encode_inline(&changes);
        let again = log::decode_payload(&written, &mut OneChunk(staged)).expect("what was written is read");
        assert_eq!(again, changes);
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let context = Context {
        principal: Principal::System,
        time_ms: 1_000,
        entropy: [7; 32],
        message: Some("why".into()),
        idempotency_key: Some(RequestKey {
            holder: KeyHolder::Operator(TokenId(1)),
            text: "key".into(),
            fingerprint: 1,
        }),
        confirmed: false,
    };
    let entry = |changes: &[Change]| {
        let at = At { generation: Generation { epoch: 1, counter: 1 }, time_ms: 1_000 };
        let sealed = log::seal(&context, at, log::GENESIS, log::encode_inline(changes));
        let length = u16::try_from(sealed.envelope.len()).expect("an envelope is short");
        [&length.to_be_bytes()[..], &sealed.envelope, &sealed.payload].concat()
    };
    // Entries of the first version, as they are kept to be read forever: an envelope and a payload a line, in hexadecimal.
    let kept = include_str!("../../herald-core/src/testdata/log-v1.txt");
    let octets = |word: &str| -> Option<Vec<u8>> {
        let digits = word.is_ascii().then_some(word)?;
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
    };
    let entries = kept.lines().filter_map(|line| {
        let mut words = line.split_whitespace().filter_map(octets).filter(|word| word.len() > 8);
        let (envelope, payload) = (words.next()?, words.next()?);
        let length = u16::try_from(envelope.len()).ok()?;
        Some([&length.to_be_bytes()[..], &envelope, &payload].concat())
    });
    let chunked = [&[0, 0][..], &log::encode_chunked(&[[1; 32], [2; 32]])].concat();
    entries.chain([entry(&[Change::EpochBegan { epoch: 3 }]), entry(&[]), chunked]).collect()
}
