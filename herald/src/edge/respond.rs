//! Responses that succeed.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::gate::Preconditions;

/// A JSON document.
pub fn json(status: StatusCode, document: &impl Serialize) -> Response {
    let body = serde_json::to_vec(document).expect("the API's types have string keys only");
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A document with a tag: the document, or 304 if the client has it already.
pub fn tagged_json(
    preconditions: &Preconditions,
    tag: &str,
    document: impl FnOnce() -> Response,
) -> Response {
    let mut response =
        if preconditions.is_known(tag) { StatusCode::NOT_MODIFIED.into_response() } else { document() };
    response.headers_mut().insert(header::ETAG, etag(tag));
    response
}

/// A tag in its quotes.
pub fn etag(tag: &str) -> HeaderValue {
    HeaderValue::try_from(format!("\"{tag}\"")).expect("tags are digits")
}

/// 200 and a JSON document.
pub struct Ok<T>(pub T);

impl<T: Serialize> IntoResponse for Ok<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0)
    }
}
