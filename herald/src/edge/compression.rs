//! Answers are compressed as their client asks (RFC 9110 §12.5.3): long ones, and never too many at once, as each has
//! a buffer of its own for as long as its client takes to read it.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

/// What is shorter fits a packet or two as it is.
const COMPRESSED_BYTES_MIN: u64 = 2048;

/// So many answers are compressed at once, with up to two megabytes of buffers each; others are sent as they are.
const COMPRESSED_MAX: usize = 32;

/// What a request accepts, kept until it is answered.
pub struct Accepted(Vec<HeaderValue>);

impl Accepted {
    /// Of a request with these headers.
    pub fn of(headers: &HeaderMap) -> Accepted {
        Accepted(headers.get_all(header::ACCEPT_ENCODING).iter().cloned().collect())
    }
}

/// Compresses answers, as long as there is room.
pub struct Compressor(Arc<Semaphore>);

impl Default for Compressor {
    fn default() -> Self {
        Compressor(Arc::new(Semaphore::new(COMPRESSED_MAX)))
    }
}

impl Compressor {
    /// The answer, compressed if it is long, that was asked for, and there is room. Most are short, and this is no layer of
    /// the router, so that they don't pay for those that aren't.
    pub async fn compressed(&self, accepted: Accepted, mut response: Response) -> Response {
        if response.body().size_hint().upper().is_some_and(|bytes| bytes < COMPRESSED_BYTES_MIN) {
            return response;
        }
        let place = if accepted.0.is_empty() { None } else { Arc::clone(&self.0).try_acquire_owned().ok() };
        let Some(place) = place else {
            response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
            return response;
        };
        let mut plain = Some(response.map(|body| {
            // Its place is taken until it is compressed to its end, or given up.
            Body::new(body.map_frame(move |frame| {
                _ = &place;
                frame
            }))
        }));
        let mut request = Request::new(Body::empty());
        for value in accepted.0 {
            request.headers_mut().append(header::ACCEPT_ENCODING, value);
        }
        let all = |_: StatusCode, _: Version, _: &HeaderMap, _: &Extensions| true;
        // Quickly rather than well.
        let layer = CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(all);
        let answer = service_fn(move |_: Request| {
            ready(Ok::<_, Infallible>(plain.take().expect("it is asked for once")))
        });
        match layer.layer(answer).oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }
}
