//! Bodies that come compressed (RFC 9110 §8.4): decompressed as they are read, under the limit that plain ones have.
//!
//! The limit holds on both sides: for what comes, as there are compressed bodies that expand to nothing, and for what it
//! expands to, which is never more than a few kilobytes ahead of its reader. So a bomb is a 413 after `bytes_max`
//! bytes, and never lies in memory.

use std::io;

use async_compression::codecs::zstd::params::DParameter;
use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::edge::problem::{ApiError, Code};

/// What a body may be encoded with: the value of `Accept-Encoding` in the refusal of anything else.
pub const ACCEPTED: &str = "gzip, zstd, identity";

/// A frame of zstd may name a window that its reader is to hold; more than this (8 MiB, as RFC 9659 has it) is refused.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Decompressed bytes that are handed on at once.
const PART_BYTES: usize = 16 * 1024;

/// A body as it was before it was compressed, within a limit.
pub type PlainBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body can't be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has, or expands to, more bytes than this.
    #[error("the body is larger than {0} bytes: send less at once")]
    TooLarge(usize),
    /// The client went away.
    #[error("the body ended before its end")]
    CutOff,
    /// It isn't what its `Content-Encoding` says.
    #[error("the body is not whole and valid {0}, as its Content-Encoding says")]
    NotEncoded(&'static str),
    /// Others have all the room that there is.
    #[error("other requests have all the room for bodies that there is: send it again in a moment")]
    NoRoom,
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> ApiError {
        let code = match error {
            BodyError::TooLarge(_) => Code::TooLarge,
            BodyError::CutOff | BodyError::NotEncoded(_) => Code::Malformed,
            BodyError::NoRoom => Code::Unavailable,
        };
        ApiError::new(code, error.to_string())
    }
}

/// The plain body of a request, of at most `bytes_max` bytes. Nothing is read yet.
///
/// # Errors
/// If its encoding is not among [`ACCEPTED`], or its announced length is over the limit.
pub fn plain(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<PlainBody, ApiError> {
    let encoding = Encoding::of(headers)?;
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(BodyError::TooLarge(bytes_max).into());
    }
    let body = within(body, bytes_max);
    Ok(match encoding {
        Encoding::Identity => body,
        Encoding::Gzip => {
            let mut decoder = GzipDecoder::new(reader(body));
            decoder.multiple_members(true);
            expanded(decoder, "gzip", bytes_max)
        }
        Encoding::Zstd => {
            let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
            let mut decoder = ZstdDecoder::with_params(reader(body), &[window]);
            decoder.multiple_members(true);
            expanded(decoder, "zstd", bytes_max)
        }
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// One encoding; a body that was encoded twice is none that a client has a reason to send.
    fn of(headers: &HeaderMap) -> Result<Encoding, ApiError> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(Encoding::Identity) };
        let word = value.as_bytes().trim_ascii().to_ascii_lowercase();
        match word.as_slice() {
            _ if values.next().is_some() => {}
            b"" | b"identity" => return Ok(Encoding::Identity),
            b"gzip" | b"x-gzip" => return Ok(Encoding::Gzip),
            b"zstd" => return Ok(Encoding::Zstd),
            _ => {}
        }
        Err(ApiError::new(
            Code::UnsupportedEncoding,
            format!("a body has one content encoding of: {ACCEPTED}"),
        ))
    }
}

/// A body whose errors say what they mean.
fn within<B>(body: B, bytes_max: usize) -> PlainBody
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let meaning = move |error: Box<dyn std::error::Error + Send + Sync>| {
        if error.is::<LengthLimitError>() {
            return BodyError::TooLarge(bytes_max);
        }
        error.downcast_ref().copied().unwrap_or(BodyError::CutOff)
    };
    Limited::new(body, bytes_max).map_err(meaning).boxed_unsync()
}

fn reader(body: PlainBody) -> impl tokio::io::AsyncBufRead + Send + Unpin {
    StreamReader::new(body.map_err(io::Error::other).into_data_stream())
}

/// What a decoder makes, as a body of its own.
fn expanded(
    decoder: impl AsyncRead + Send + Unpin + 'static,
    name: &'static str,
    bytes_max: usize,
) -> PlainBody {
    let meaning = move |error: axum::Error| on_the_wire(&error).unwrap_or(BodyError::NotEncoded(name));
    within(Body::from_stream(ReaderStream::with_capacity(decoder, PART_BYTES)).map_err(meaning), bytes_max)
}

/// What went wrong before the decoder, if that is what it was: it lies within the errors that the readers handed on.
fn on_the_wire(error: &(dyn std::error::Error + 'static)) -> Option<BodyError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(*found);
        }
        cause = match error.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
    use axum::http::HeaderValue;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    fn headers(encoding: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::try_from(encoding).unwrap())])
    }

    async fn compressed(encoding: &str, plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match encoding {
            "gzip" => _ = GzipEncoder::new(plain).read_to_end(&mut bytes).await.unwrap(),
            "zstd" => _ = ZstdEncoder::new(plain).read_to_end(&mut bytes).await.unwrap(),
            _ => bytes.extend_from_slice(plain),
        }
        bytes
    }

    /// The whole body, coming in parts of `part_bytes`.
    async fn read(
        encoding: &str,
        body: &[u8],
        part_bytes: usize,
        bytes_max: usize,
    ) -> Result<Bytes, BodyError> {
        let parts: Vec<io::Result<Bytes>> =
            body.chunks(part_bytes).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        let stream = tokio_stream(parts);
        plain(&headers(encoding), stream, bytes_max).unwrap().collect().await.map(|body| body.to_bytes())
    }

    /// A body of these parts, one at a time.
    fn tokio_stream(parts: Vec<io::Result<Bytes>>) -> Body {
        struct Parts(std::vec::IntoIter<io::Result<Bytes>>);
        impl hyper::body::Body for Parts {
            type Data = Bytes;
            type Error = io::Error;
            fn poll_frame(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<io::Result<hyper::body::Frame<Bytes>>>> {
                std::task::Poll::Ready(self.0.next().map(|part| part.map(hyper::body::Frame::data)))
            }
        }
        Body::new(Parts(parts.into_iter()))
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_out(
            bytes in proptest::collection::vec(any::<u8>(), 0..5_000),
            times in 1usize..20,
            part_bytes in 1usize..3_000,
            encoding in proptest::sample::select(vec!["gzip", "zstd", "identity"]),
        ) {
            let bytes = bytes.repeat(times);
            let came = block(async { read(encoding, &compressed(encoding, &bytes).await, part_bytes, 1 << 20).await });
            prop_assert_eq!(came.unwrap(), bytes);
        }

        #[test]
        fn rubbish_is_an_error_and_no_more(
            mut bytes in proptest::collection::vec(any::<u8>(), 1..300),
            magic in any::<bool>(),
            encoding in proptest::sample::select(vec!["gzip", "zstd"]),
        ) {
            if magic {
                let begin: &[u8] = if encoding == "gzip" { b"\x1f\x8b\x08" } else { b"\x28\xb5\x2f\xfd" };
                bytes.splice(0..0, begin.iter().copied());
            }
            if let Err(error) = block(read(encoding, &bytes, 100, 4096)) {
                prop_assert_ne!(error, BodyError::CutOff);
            }
        }
    }

    #[tokio::test]
    async fn limits_hold_for_what_comes_and_for_what_it_expands_to() {
        for encoding in ["gzip", "zstd", "identity"] {
            let fits = compressed(encoding, &[b' '; 10_000]).await;
            assert_eq!(read(encoding, &fits, 100, 10_000).await.unwrap().len(), 10_000);
            let over = compressed(encoding, &[b' '; 10_001]).await;
            assert_eq!(read(encoding, &over, 100, 10_000).await, Err(BodyError::TooLarge(10_000)));
        }
        // Members that expand to nothing, without an end.
        let empty = compressed("gzip", b"").await.repeat(1_000);
        assert_eq!(read("gzip", &empty, 1_000, 10_000).await, Err(BodyError::TooLarge(10_000)));
    }

    #[tokio::test]
    async fn what_is_cut_off_is_not_taken_for_the_whole() {
        for encoding in ["gzip", "zstd"] {
            let whole = compressed(encoding, "0123456789".repeat(500).as_bytes()).await;
            for end in [1, whole.len() / 2, whole.len() - 1] {
                let result = read(encoding, &whole[..end], 7, 1 << 20).await;
                assert!(matches!(result, Err(BodyError::NotEncoded(_))), "{encoding} {end}: {result:?}");
            }
            let broken = vec![Ok(Bytes::copy_from_slice(&whole[..9])), Err(io::ErrorKind::BrokenPipe.into())];
            let body = plain(&headers(encoding), tokio_stream(broken), 1 << 20).unwrap();
            assert_eq!(body.collect().await.err(), Some(BodyError::CutOff));
        }
    }

    /// A frame that asks its reader for a window of 2 GiB.
    #[tokio::test]
    async fn a_window_is_not_as_large_as_a_frame_says() {
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        assert_eq!(read("zstd", &frame, 100, 1 << 30).await, Err(BodyError::NotEncoded("zstd")));
    }

    #[test]
    fn other_encodings_are_refused() {
        for encoding in ["br", "deflate", "gzip, gzip", "compress", "\u{fc}"] {
            let refused = plain(&headers(encoding), Body::empty(), 10).err().unwrap();
            assert_eq!(refused.code(), Code::UnsupportedEncoding, "{encoding}");
        }
        for encoding in ["", "identity", "GZIP", " zstd"] {
            assert!(plain(&headers(encoding), Body::empty(), 10).is_ok(), "{encoding}");
        }
    }
}
