//! Tokens: who is let in, and what a scope allows.

use axum::http::header;
use serde_json::{Value, json};

use super::World;
use crate::clock;

#[tokio::test]
async fn only_a_valid_token_is_let_in() {
    let world = World::new().await;
    world.alice("GET", "/whoami").send().await.ok(200);
    let bare = world.call("GET", "/whoami").send().await;
    bare.problem(401, "unauthenticated");
    assert_eq!(bare.header(header::WWW_AUTHENTICATE), "Bearer");
    // The secret of one token with the id of another.
    let mixed = format!("{}{}", &world.alice[..32], &world.bob[32..]);
    let mut wrong =
        vec!["x".to_owned(), String::new(), mixed, world.alice[1..].to_owned(), format!("{}A", world.alice)];
    wrong.push(format!("{} {}", world.alice, world.alice));
    for token in &wrong {
        world.with_token(token, "GET", "/whoami").send().await.problem(401, "unauthenticated");
    }
    for value in [format!("Basic {}", world.alice), world.alice.clone(), "Bearer".to_owned()] {
        let call = world.call("GET", "/whoami").header(header::AUTHORIZATION, &value);
        call.send().await.problem(401, "unauthenticated");
    }
    let call = world.call("GET", "/whoami").header(header::AUTHORIZATION, &format!("bearer {}", world.alice));
    call.send().await.ok(200);

    // Expired, revoked, of a disabled tenant.
    let short = world.token(&json!({ "tenant": "alice", "expires_at_ms": clock::now_ms() + 300 })).await;
    world.with_token(&short, "GET", "/whoami").send().await.ok(200);
    tokio::time::sleep(std::time::Duration::from_millis(320)).await;
    world.with_token(&short, "GET", "/whoami").send().await.problem(401, "unauthenticated");
    let made = world.alice("POST", "/tokens").json(&json!({ "description": "ci" })).send().await.ok(201);
    let secret = made.json["item"]["secret"].as_str().unwrap();
    world.with_token(secret, "GET", "/zones").send().await.ok(200);
    let revoked = world.alice("DELETE", &format!("/tokens/{}", made.id())).send().await.ok(200);
    assert!(revoked.json["item"]["revoked_at_ms"].is_u64());
    world.with_token(secret, "GET", "/zones").send().await.problem(401, "unauthenticated");
    world.operator("PATCH", "/tenants/alice").json(&json!({ "enabled": false })).send().await.ok(200);
    world.alice("GET", "/zones").send().await.problem(401, "unauthenticated");
    world.operator("PATCH", "/tenants/alice").json(&json!({ "enabled": true })).send().await.ok(200);
    world.alice("GET", "/zones").send().await.ok(200);
}

#[tokio::test]
async fn a_secret_is_shown_once() {
    let world = World::new().await;
    let made = world.alice("POST", "/tokens").json(&json!({ "description": "x" })).send().await.ok(201);
    let id = made.id();
    assert_eq!(made.header(header::LOCATION), format!("/api/v1/tokens/{id}"));
    let seen = world.alice("GET", &format!("/tokens/{id}")).send().await.ok(200);
    assert_eq!((&seen.json["description"], seen.json.get("secret")), (&json!("x"), None));
    let list = world.alice("GET", "/tokens").send().await.ok(200);
    assert_eq!(list.json["items"].as_array().unwrap().len(), 2);
    assert!(!list.text.contains("secret"));
    // The operator sees all, tenants their own.
    let all = world.operator("GET", "/tokens?limit=2").send().await.ok(200);
    assert_eq!(all.json["items"].as_array().unwrap().len(), 2);
    let cursor = all.json["next_cursor"].as_str().unwrap();
    let rest = world.operator("GET", &format!("/tokens?limit=1000&cursor={cursor}")).send().await.ok(200);
    assert_eq!(rest.json["items"].as_array().unwrap().len(), 2);
    let path = format!("/tokens/{id}");
    world.bob("GET", &path).send().await.problem(404, "not_found");
    world.bob("DELETE", &path).send().await.problem(404, "not_found");
    world.bob("GET", "/tokens/nope").send().await.problem(404, "not_found");
    world.bob("POST", "/tokens").json(&json!({ "tenant": "alice" })).send().await.problem(404, "not_found");
    let past = json!({ "expires_at_ms": 1 });
    world.alice("POST", "/tokens").json(&past).send().await.problem(422, "invalid");
}

#[tokio::test]
async fn a_scope_limits_verbs() {
    let world = World::new().await;
    world.zone("example.com").await;
    let scoped =
        async |verbs: Value| world.token(&json!({ "tenant": "alice", "scope": { "verbs": verbs } })).await;
    let (read, write) = (scoped(json!(["read"])).await, scoped(json!(["write"])).await);
    let (create, delete) = (scoped(json!(["create"])).await, scoped(json!(["delete"])).await);
    let batch =
        json!({ "changes": [{ "op": "put", "name": "w", "type": "A", "ttl": 1, "records": ["192.0.2.1"] }] });
    let all = [&read, &write, &create, &delete];
    let allowed = async |method: &str, path: &str, body: Option<&Value>| {
        let mut allowed = Vec::new();
        for (place, token) in all.iter().enumerate() {
            let call = world.with_token(token, method, path);
            let reply = match body {
                Some(body) => call.json(body).send().await,
                None => call.send().await,
            };
            match reply.status {
                403 => _ = reply.problem(403, "forbidden"),
                200 | 201 => allowed.push(place),
                _ => panic!("{}", reply.text),
            }
        }
        allowed
    };
    assert_eq!(allowed("GET", "/zones", None).await, [0]);
    assert_eq!(allowed("GET", "/zones/example.com", None).await, [0]);
    assert_eq!(allowed("GET", "/zones/example.com/rrsets", None).await, [0]);
    assert_eq!(allowed("GET", "/zones/example.com/rrsets/@/NS", None).await, [0]);
    assert_eq!(allowed("GET", "/zones/example.com/export", None).await, [0]);
    assert_eq!(allowed("GET", "/nameserver-sets", None).await, [0]);
    assert_eq!(allowed("PATCH", "/zones/example.com/rrsets", Some(&batch)).await, [1]);
    assert_eq!(allowed("PATCH", "/zones/example.com", Some(&json!({ "labels": {} }))).await, [2]);
    assert_eq!(allowed("POST", "/zones/example.com/verify", None).await, [2]);
    assert_eq!(allowed("POST", "/zones", Some(&json!({ "name": "example.org" }))).await, [2]);
    assert_eq!(allowed("GET", "/tokens", None).await, [0; 0]);
    assert_eq!(allowed("POST", "/tokens", Some(&json!({ "scope": { "verbs": ["read"] } }))).await, [0; 0]);
    assert_eq!(allowed("DELETE", "/zones/example.org", None).await, [3]);
    assert_eq!(allowed("GET", "/whoami", None).await, [0, 1, 2, 3]);

    // A writer sees the receipt of what it did, and not of what others did.
    let put = world.with_token(&write, "PUT", "/zones/example.com/rrsets/x/A");
    let own = put.json(&json!({ "ttl": 1, "records": ["192.0.2.1"] })).send().await.ok(201);
    let own = own.json["change"]["id"].as_str().unwrap().to_owned();
    world.with_token(&write, "GET", &format!("/changes/{own}")).send().await.ok(200);
    world.with_token(&create, "GET", &format!("/changes/{own}")).send().await.problem(404, "not_found");
    world.with_token(&read, "GET", &format!("/changes/{own}")).send().await.ok(200);
}

#[tokio::test]
async fn a_scope_limits_zones_names_and_types() {
    let world = World::new().await;
    world.zone("example.com").await;
    world.zone("other.example").await;
    let scope = json!({
        "zones": ["example.com"],
        "names": ["_acme-challenge.*", "*.dyn.example.com"],
        "types": ["TXT"],
        "verbs": ["read", "write"],
    });
    let token = world.token(&json!({ "tenant": "alice", "scope": scope })).await;
    let whoami = world.with_token(&token, "GET", "/whoami").send().await.ok(200);
    assert_eq!(whoami.json["token"]["scope"]["names"], json!(["_acme-challenge.*", "*.dyn.example.com."]));
    let put = |path: &str, record: &str| {
        world.with_token(&token, "PUT", path).json(&json!({ "ttl": 60, "records": [record] })).send()
    };
    put("/zones/example.com/rrsets/_acme-challenge.www/TXT", "x").await.ok(201);
    put("/zones/example.com/rrsets/h.dyn/TXT", "x").await.ok(201);
    put("/zones/example.com/rrsets/www/TXT", "x").await.problem(403, "forbidden");
    put("/zones/example.com/rrsets/h.dyn/A", "192.0.2.1").await.problem(403, "forbidden");
    // Out of its zones nothing is there.
    put("/zones/other.example/rrsets/_acme-challenge/TXT", "x").await.problem(404, "not_found");
    let call = |method: &str, path: &str| world.with_token(&token, method, path).send();
    let zones = call("GET", "/zones").await.ok(200);
    assert_eq!(zones.json["items"].as_array().unwrap().len(), 1);
    let rrsets = call("GET", "/zones/example.com/rrsets").await.ok(200);
    assert_eq!(rrsets.json["items"].as_array().unwrap().len(), 2, "only what is in the scope");
    call("GET", "/zones/example.com/rrsets/@/SOA").await.problem(403, "forbidden");
    call("DELETE", "/zones/example.com/rrsets/nope/A").await.problem(403, "forbidden");
    call("GET", "/zones/example.com/export").await.problem(403, "forbidden");
    let batch = json!({ "changes": [
        { "op": "put", "name": "_acme-challenge", "type": "TXT", "ttl": 1, "records": ["x"] },
        { "op": "put", "name": "www", "type": "TXT", "ttl": 1, "records": ["x"] },
    ] });
    let reply = world.with_token(&token, "PATCH", "/zones/example.com/rrsets").json(&batch).send().await;
    assert_eq!(reply.problem(403, "forbidden"), ["/changes/1"]);

    // No token makes a wider one.
    let scope = json!({ "zones": ["*.corp.example"], "verbs": ["read", "admin"] });
    let admin = world.token(&json!({ "tenant": "alice", "scope": scope })).await;
    let make =
        |scope: Value| world.with_token(&admin, "POST", "/tokens").json(&json!({ "scope": scope })).send();
    make(json!({})).await.problem(403, "forbidden");
    make(json!({ "zones": ["example.com"], "verbs": ["read"] })).await.problem(403, "forbidden");
    make(json!({ "zones": ["a.corp.example"], "verbs": ["read"] })).await.ok(201);
    let wrong = make(json!({ "zones": ["a..b"], "names": ["a.b.*"], "types": ["NOPE"] })).await;
    assert_eq!(wrong.problem(422, "invalid"), ["/scope/zones/0", "/scope/names/0", "/scope/types/0"]);
    assert_eq!(make(json!({ "verbs": ["fly"] })).await.problem(400, "malformed"), ["/scope/verbs/0"]);
}
