//! Requests that arrive twice.

use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};

use super::{Call, Reply, World};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

async fn twice<'w>(call: impl Fn() -> Call<'w>) -> (Reply, Reply) {
    let (first, second) = (call().send().await, call().send().await);
    assert_eq!((first.header(REPLAYED), second.header(REPLAYED)), ("", "true"), "{}", second.text);
    assert!(first.status < 300 && second.status < 300, "{} {}", first.text, second.text);
    assert_eq!(first.json["change"]["revision"], second.json["change"]["revision"]);
    (first, second)
}

#[tokio::test]
async fn a_write_with_a_key_is_done_once() {
    let world = World::new().await;
    let create =
        || world.alice("POST", "/zones").header(KEY, "\"make\"").json(&json!({ "name": "example.com" }));
    let (made, again) = twice(create).await;
    assert_eq!((made.status, again.status), (201, 201));
    assert_eq!(made.id(), again.id());
    // The quotes of a structured field may be missing.
    let bare = world.alice("POST", "/zones").header(KEY, "make").json(&json!({ "name": "example.com" }));
    assert_eq!(bare.send().await.header(REPLAYED), "true");

    let batch = json!({ "changes": [{ "op": "add", "name": "a", "type": "A", "ttl": 60, "records": ["192.0.2.1"] }] });
    let tag = made.header(axum::http::header::ETAG).to_owned();
    let path = "/zones/example.com/rrsets";
    // With a precondition that the change itself makes fail.
    twice(|| world.alice("PATCH", path).header(KEY, "add").header(IF_MATCH, &tag).json(&batch)).await;
    let put = json!({ "ttl": 60, "records": ["192.0.2.2"] });
    let path = "/zones/example.com/rrsets/b/A";
    twice(|| world.alice("PUT", path).header(KEY, "put").header(IF_NONE_MATCH, "*").json(&put)).await;
    let import = || world.alice("POST", "/zones/example.com/import").header(KEY, "import");
    twice(|| import().body("text/dns", "c 60 A 192.0.2.3\n")).await;
    // What it was about is gone afterwards.
    let (_, gone) = twice(|| world.alice("DELETE", "/zones/example.com").header(KEY, "delete")).await;
    assert!(gone.json.get("item").is_none());
    // The first of all still has its answer, without the item.
    assert_eq!(create().send().await.json["change"]["revision"], made.json["change"]["revision"]);
}

#[tokio::test]
async fn a_key_is_of_one_request_and_one_holder() {
    let world = World::new().await;
    let create = |name: &str| json!({ "name": name });
    let alice = |body: Value| world.alice("POST", "/zones").header(KEY, "k").json(&body).send();
    alice(create("example.com")).await.ok(201);
    alice(create("example.net")).await.problem(422, "idempotency_key_reused");
    let elsewhere = world.alice("POST", "/tokens").header(KEY, "k").json(&json!({})).send().await;
    elsewhere.problem(422, "idempotency_key_reused");
    world.bob("POST", "/zones").header(KEY, "k").json(&create("example.net")).send().await.ok(201);
    // What was refused, or only judged, is not remembered.
    let refused = || world.alice("POST", "/zones").header(KEY, "late").json(&create("com")).send();
    refused().await.problem(422, "invalid");
    refused().await.problem(422, "invalid");
    world.alice("POST", "/zones").header(KEY, "late").json(&create("late.example")).send().await.ok(201);
    let dry =
        || world.alice("POST", "/zones?dry_run=true").header(KEY, "dry").json(&create("dry.example")).send();
    for _ in 0..2 {
        assert_eq!(dry().await.ok(200).header(REPLAYED), "");
    }
    for bad in ["", "\"\"", "\u{fc}", &"k".repeat(256)] {
        let call = world.alice("POST", "/zones").header(KEY, bad).json(&create("bad.example"));
        call.send().await.problem(400, "malformed");
    }
}

#[tokio::test]
async fn a_secret_is_not_shown_twice() {
    let world = World::new().await;
    for (path, body) in [("/tokens", json!({ "tenant": "bob" })), ("/pops", json!({ "name": "ams" }))] {
        let (first, second) = twice(|| world.operator("POST", path).header(KEY, path).json(&body)).await;
        assert!(first.json["item"]["secret"].is_string());
        assert_eq!(second.id(), first.id());
        assert!(second.json["item"].get("secret").is_none());
        assert_eq!(second.json["warnings"][0]["code"], "secret_not_shown_again");
    }
}

/// Both wait together, so that none of them sees the other in the state when it comes in.
#[tokio::test]
async fn two_at_once_are_one() {
    let world = World::new().await;
    let call =
        || world.alice("POST", "/zones").header(KEY, "k").json(&json!({ "name": "example.com" })).send();
    let (a, b) = tokio::join!(call(), call());
    assert_eq!(a.id(), b.id());
    assert_eq!(a.json["change"]["revision"], b.json["change"]["revision"]);
    assert_eq!([a.header(REPLAYED), b.header(REPLAYED)].concat(), "true");
}
