//! Answers that come compressed.

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use axum::body::Body;
use axum::http::{Response, header};
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt;
use tower::ServiceExt;

use super::World;

/// The answer to a request for the zone file, of which nothing was read.
async fn export(world: &World, accept: Option<&str>) -> Response<Body> {
    let mut call = world.alice("GET", "/zones/example.com/export");
    if let Some(accept) = accept {
        call = call.header(header::ACCEPT_ENCODING, accept);
    }
    world.router.clone().oneshot(call.request.body(call.body).unwrap()).await.unwrap()
}

fn encoding(response: &Response<Body>) -> Option<&str> {
    response.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn long_answers_are_compressed_as_is_asked() {
    let world = World::new().await;
    world.zone("example.com").await;
    let records: String = (0..5_000).map(|n| format!("host{n} 60 A 192.0.2.{}\n", n % 250)).collect();
    let call = world.alice("POST", "/zones/example.com/import?mode=merge").body("text/dns", records);
    call.send().await.ok(200);

    let plain = export(&world, None).await;
    assert_eq!(
        (encoding(&plain), &plain.headers()[header::VARY]),
        (None, &"accept-encoding".parse().unwrap())
    );
    let plain = plain.into_body().collect().await.unwrap().to_bytes();
    for (accept, expected) in [
        ("gzip", Some("gzip")),
        ("zstd", Some("zstd")),
        ("gzip;q=0.5, zstd", Some("zstd")),
        ("br, deflate", None),
        ("gzip;q=0", None),
        ("identity", None),
    ] {
        let answer = export(&world, Some(accept)).await;
        assert_eq!(encoding(&answer), expected, "{accept}");
        assert_eq!(answer.headers()[header::VARY], "accept-encoding");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let mut text = Vec::new();
        match expected {
            Some("gzip") => _ = GzipDecoder::new(&*body).read_to_end(&mut text).await.unwrap(),
            Some(_) => _ = ZstdDecoder::new(&*body).read_to_end(&mut text).await.unwrap(),
            None => text = body.to_vec(),
        }
        assert!(text == plain, "{accept}: another zone file");
        assert!(expected.is_none() || body.len() < plain.len() / 3, "{accept}: {} bytes", body.len());
    }
    // What is short is not, whatever is asked.
    let short = world.alice("GET", "/whoami").header(header::ACCEPT_ENCODING, "gzip").send().await.ok(200);
    assert!(short.headers.get(header::CONTENT_ENCODING).is_none());
}

/// Clients that read nothing hold buffers of the compression, and those are bounded.
#[tokio::test]
async fn so_many_answers_are_compressed_at_once() {
    let world = World::new().await;
    world.zone("example.com").await;
    let mut unread = Vec::new();
    for _ in 0..32 {
        unread.push(export(&world, Some("gzip")).await);
    }
    assert!(unread.iter().all(|answer| encoding(answer) == Some("gzip")));
    let more = export(&world, Some("gzip")).await;
    assert_eq!((encoding(&more), &more.headers()[header::VARY]), (None, &"accept-encoding".parse().unwrap()));
    unread.pop();
    assert_eq!(encoding(&export(&world, Some("gzip")).await), Some("gzip"));
}
