//! Answers are compressed as their client asks (RFC 9110 §12.5.3): long ones, and never too many at once, as each has
//! a buffer of its own for as long as its client takes to read it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::Semaphore;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;

/// What is shorter fits a packet or two as it is.
const COMPRESSED_BYTES_MIN: u64 = 2048;

/// So many answers are compressed at once, with up to two megabytes of buffers each; others are sent as they are.
const COMPRESSED_MAX: usize = 32;

/// Room for answers that are being compressed.
pub fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(COMPRESSED_MAX))
}

/// Compresses answers, quickly rather than well.
pub fn layer() -> CompressionLayer<impl Predicate> {
    let is_to_be = |_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions| {
        extensions.get::<AsItIs>().is_none()
    };
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(is_to_be)
}

/// An answer that is not compressed.
#[derive(Clone, Copy)]
struct AsItIs;

/// Says of each answer whether it is worth compressing and there is room for it. It stands behind the layer.
pub async fn choose(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let is_asked_for = request.headers().contains_key(header::ACCEPT_ENCODING);
    let mut response = next.run(request).await;
    if response.body().size_hint().upper().is_some_and(|bytes| bytes < COMPRESSED_BYTES_MIN) {
        response.extensions_mut().insert(AsItIs);
        return response;
    }
    if !is_asked_for {
        return response;
    }
    match room.try_acquire_owned() {
        Ok(place) => response.map(|body| {
            // Its place is taken until it is compressed to its end, or given up.
            Body::new(body.map_frame(move |frame| {
                _ = &place;
                frame
            }))
        }),
        Err(_) => {
            response.extensions_mut().insert(AsItIs);
            response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
            response
        }
    }
}
