//! What no client should send, and what it gets.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::Notify;
use tower::ServiceExt;

use super::{SOON, World};
use crate::delegation::Resolver;
use crate::edge::Limits;

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be() {
    let world = World::new().await;
    world.zone("example.com").await;
    let patch = |body: &str| {
        world.alice("PATCH", "/zones/example.com/rrsets").body("application/json", body.to_owned()).send()
    };
    for bad in ["", "{", "nope", "[]", "{} {}", "\u{0}", "{\"changes\":[]}x", "null", "{\"changes\":{}}"] {
        patch(bad).await.problem(400, "malformed");
    }
    for (body, pointer) in [
        (json!({ "changes": [{ "op": "fly", "name": "a", "type": "A" }] }), "/changes/0/op"),
        (json!({ "changes": [{ "op": "put", "name": "a", "type": "A", "ttl": -1 }] }), "/changes/0/ttl"),
        (json!({ "changes": [{ "op": "put", "name": "a", "type": "A", "ttl": 1.5 }] }), "/changes/0/ttl"),
        (
            json!({ "changes": [{ "op": "put", "name": "a", "type": "A", "records": [1] }] }),
            "/changes/0/records/0",
        ),
        (json!({ "changes": [{ "op": "put", "name": "a", "type": "A", "tll": 1 }] }), "/changes/0/tll"),
        (json!({ "changes": [], "a/b~c": 1 }), "/a~1b~0c"),
        (json!({ "changes": [{ "op": "put", "type": "A" }] }), "/changes/0"),
    ] {
        assert_eq!(patch(&body.to_string()).await.problem(400, "malformed"), [pointer], "{body}");
    }
    // A key that is there twice: whichever counted, the other would be lost.
    for (body, pointer, key) in [
        (r#"{"changes":[],"message":"a","message":"b"}"#, "", "message"),
        (r#"{"changes":[{"op":"put","name":"a","name":"b","type":"A"}]}"#, "/changes/0", "name"),
    ] {
        let reply = patch(body).await;
        assert_eq!(reply.problem(400, "malformed"), [pointer], "{body}");
        let detail = reply.json["detail"].as_str().unwrap();
        assert!(detail.contains("duplicate") && detail.contains(key), "{detail}");
    }
    let labels = r#"{"labels":{"team":"a","env":"x","team":"b"}}"#;
    let call = world.alice("PATCH", "/zones/example.com").body("application/json", labels);
    let reply = call.send().await;
    assert_eq!(reply.problem(400, "malformed"), ["/labels"]);
    assert!(reply.text.contains("duplicate key `team`"), "{}", reply.text);
    for number in ["1e999", "99999999999999999999999", "-1e-999", "0x10"] {
        let body = format!(r#"{{"changes":[{{"op":"put","name":"a","type":"A","ttl":{number}}}]}}"#);
        patch(&body).await.problem(400, "malformed");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    patch(&format!("{{\"changes\":{deep}}}")).await.problem(400, "malformed");
    patch(&format!("{{\"message\":{deep}}}")).await.problem(400, "malformed");
    patch(&"[".repeat(1_000_000)).await.problem(400, "malformed");
    // JSON that isn't UTF-8.
    let call = world.alice("PATCH", "/zones/example.com/rrsets");
    call.body("application/json", b"{\"changes\":\"\xff\"}".to_vec()).send().await.problem(400, "malformed");
    // Types.
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let call = world.alice("PATCH", "/zones/example.com/rrsets").body(content_type, "{\"changes\":[]}");
        call.send().await.problem(415, "unsupported_media_type");
    }
    let call = world.alice("PATCH", "/zones/example.com/rrsets");
    call.body("Application/JSON ; charset=utf-8", "{\"changes\":[]}").send().await.ok(200);
}

#[tokio::test]
async fn bodies_have_a_size() {
    let world = World::new().await;
    world.zone("example.com").await;
    let ten_mib = "x".repeat(10 * 1024 * 1024);
    let call = world.alice("PATCH", "/zones/example.com/rrsets").body("application/json", ten_mib.clone());
    call.send().await.problem(413, "too_large");
    // Announced, and not announced.
    let call =
        world.alice("PATCH", "/zones/example.com/rrsets").header(header::CONTENT_LENGTH, "99999999999");
    call.body("application/json", "{}").send().await.problem(413, "too_large");
    let body = Body::new(Endless(Bytes::from_static(&[b' '; 1024])));
    let call = world.alice("PATCH", "/zones/example.com/rrsets").body("application/json", body);
    call.send().await.problem(413, "too_large");
    // A zone file may be that large.
    let comments = "; nothing\n".repeat(1024 * 1024);
    world.alice("POST", "/zones/example.com/import").body("text/dns", comments).send().await.ok(200);
    // Nobody without a token has any of it read.
    let call = world.call("PATCH", "/zones/example.com/rrsets").body("application/json", ten_mib);
    call.send().await.problem(401, "unauthenticated");
}

/// A body that has no end.
struct Endless(Bytes);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(self.0.clone()))))
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits { body_time: Duration::from_millis(50), ..Limits::default() };
    let world = World::with(limits, Resolver::new(vec!["127.0.0.1:1".parse().unwrap()])).await;
    let call = world.alice("POST", "/zones").body("application/json", "{}");
    call.send().await.problem(400, "malformed");
    let call = world.alice("POST", "/tokens").body("application/json", Body::new(Silent));
    let reply = call.send().await;
    reply.problem(408, "timeout");
    assert_eq!(reply.header(header::CONNECTION), "close");
}

/// All bodies together have so much room, and who finds none is told to come again.
#[tokio::test]
async fn bodies_have_room_together() {
    let limits = Limits { bodies_bytes: 400_000, ..Limits::default() };
    let world = World::with(limits, Resolver::new(vec!["127.0.0.1:1".parse().unwrap()])).await;
    world.zone("example.com").await;
    let call = || world.alice("PATCH", "/zones/example.com/rrsets");
    let large = || {
        let body = format!("{{\"changes\":[]{}}}", " ".repeat(300_000));
        call().body("application/json", body)
    };
    large().send().await.ok(200);
    let mut held = Vec::new();
    for _ in 0..2 {
        let begun = Arc::new(Notify::new());
        let first = Some(Bytes::from(vec![b' '; 300_000]));
        let body = Body::new(Halting { first, begun: Arc::clone(&begun) });
        let call = call().body("application/json", body);
        let (router, request) = (world.router.clone(), call.request.body(call.body).unwrap());
        held.push(tokio::spawn(router.oneshot(request)));
        tokio::time::timeout(SOON, begun.notified()).await.unwrap();
    }
    let reply = large().send().await;
    reply.problem(503, "unavailable");
    assert_eq!(reply.header(header::RETRY_AFTER), "1");
    // Small ones go on, and when one of the others is gone so do large ones.
    call().json(&json!({ "changes": [] })).send().await.ok(200);
    let one = held.pop().unwrap();
    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());
    large().send().await.ok(200);
}

/// A body that begins and doesn't go on.
struct Halting {
    first: Option<Bytes>,
    begun: Arc<Notify>,
}

impl hyper::body::Body for Halting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.first.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            // What came first was taken.
            None => {
                self.begun.notify_one();
                Poll::Pending
            }
        }
    }
}

/// A body that says nothing.
struct Silent;

impl hyper::body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn routes_methods_and_parameters_that_are_not_there() {
    let world = World::new().await;
    for path in ["/nope", "/zones/a/b/c/d/e/f", "/", ""] {
        world.alice("GET", path).send().await.problem(404, "not_found");
    }
    world.outside("GET", "/").send().await.problem(404, "not_found");
    world.outside("GET", "/api/v2/zones").send().await.problem(404, "not_found");
    for (method, path, allow) in [
        ("DELETE", "/zones", "GET,HEAD,POST"),
        ("PUT", "/zones/x", "GET,HEAD,PATCH,DELETE"),
        ("BREW", "/whoami", "GET,HEAD"),
    ] {
        let reply = world.alice(method, path).send().await;
        reply.problem(405, "method_not_allowed");
        let mut methods: Vec<&str> = reply.header(header::ALLOW).split(',').collect();
        methods.sort_unstable();
        let mut wanted: Vec<&str> = allow.split(',').collect();
        wanted.sort_unstable();
        assert_eq!(methods, wanted);
    }
    world.zone("example.com").await;
    for bad in
        ["wait=some", "timeout_ms=60001", "timeout_ms=x", "dry_run=maybe", "dryrun=true", "wait=all&wait=all"]
    {
        let call = world.alice("PATCH", &format!("/zones/example.com?{bad}"));
        call.json(&json!({})).send().await.problem(400, "malformed");
    }
    world.alice("GET", "/zones/example.com?dry_run=true").send().await.problem(400, "malformed");
    for name in ["%00", "%FF", "a%20b", &"a".repeat(64), &format!("{}a", "a.".repeat(127))] {
        world.alice("GET", &format!("/zones/{name}")).send().await.problem(400, "malformed");
    }
    let call = world.alice("PATCH", "/zones/example.com").header(header::IF_MATCH, "\"\u{fc}\"");
    call.json(&json!({})).send().await.problem(400, "malformed");
}

#[tokio::test]
async fn long_and_odd_values() {
    let world = World::new().await;
    world.zone("example.com").await;
    let put =
        |body: serde_json::Value| world.alice("PUT", "/zones/example.com/rrsets/x/TXT").json(&body).send();
    put(json!({ "ttl": 4_294_967_295u32, "records": ["x"] })).await.problem(422, "invalid");
    put(json!({ "ttl": 1, "records": ["x"], "message": "m".repeat(2000) })).await.problem(422, "invalid");
    let many: Vec<String> = (0..400).map(|n| format!("\"{n}{}\"", "x".repeat(200))).collect();
    put(json!({ "ttl": 1, "records": many })).await.problem(422, "invalid");
    put(json!({ "ttl": 1, "records": ["\"<script>\\000\\255\u{1F600}\""] })).await.ok(201);
    let labels: serde_json::Map<String, serde_json::Value> =
        (0..65).map(|n| (n.to_string(), json!(""))).collect();
    world
        .alice("PATCH", "/zones/example.com")
        .json(&json!({ "labels": labels }))
        .send()
        .await
        .problem(403, "quota_exceeded");
    // A long bad value isn't echoed as a whole.
    let reply = world
        .alice("PUT", &format!("/zones/example.com/rrsets/x/{}", "N".repeat(5000)))
        .json(&json!({ "ttl": 1, "records": [] }))
        .send()
        .await;
    reply.problem(400, "malformed");
    assert!(reply.text.len() < 500);
}
