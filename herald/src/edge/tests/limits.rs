//! Limits of tenants, through the API.

use axum::http::header;
use serde_json::json;

use super::World;

async fn limit(world: &World, limits: serde_json::Value) -> super::Reply {
    world.operator("PATCH", "/tenants/alice").json(&json!({ "limits": limits })).send().await
}

#[tokio::test]
async fn a_tenant_has_what_it_may_and_sees_it() {
    let world = World::new().await;
    world.zone("example.com").await;
    let set = limit(&world, json!({ "zones": 1, "records_per_rrset": 2, "tokens": 5 })).await.ok(200);
    assert_eq!(set.json["item"]["limits"]["zones"], 1);
    assert_eq!(set.json["item"]["limits"]["labels_per_zone"], 64);

    let more = world.alice("POST", "/zones").json(&json!({ "name": "example.net" })).send().await;
    more.problem(403, "quota_exceeded");
    assert!(more.text.contains("`zones` of the tenant alice is 1"), "{}", more.text);
    let batch = json!({ "changes": [
        { "op": "put", "name": "a", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
        { "op": "put", "name": "b", "type": "A", "ttl": 60, "records": ["192.0.2.1", "192.0.2.2", "192.0.2.3"] },
    ]});
    let reply = world.alice("PATCH", "/zones/example.com/rrsets").json(&batch).send().await;
    assert_eq!(reply.problem(403, "quota_exceeded"), ["/changes/1"]);
    assert_eq!(reply.json["errors"][0]["name"], "b.example.com.");
    // Another tenant has limits of its own.
    world.bob("POST", "/zones").json(&json!({ "name": "example.net" })).send().await.ok(201);

    let whoami = world.alice("GET", "/whoami").send().await.ok(200);
    assert_eq!(whoami.json["tenant"]["usage"], json!({ "zones": 1, "records": 3, "tokens": 1 }));
    assert_eq!(whoami.json["tenant"]["limits"]["records_per_rrset"], 2);
    limit(&world, json!({ "zones": null })).await.ok(200);
    world.zone("example.org").await;
}

#[tokio::test]
async fn limits_are_set_by_operators_and_by_their_names() {
    let world = World::new().await;
    let reply = limit(&world, json!({ "zones": 3, "zonez": 1, "writes_per_s": 0, "a/b": null })).await;
    assert_eq!(reply.problem(422, "invalid"), ["/limits/a~1b", "/limits/writes_per_s", "/limits/zonez"]);
    assert!(reply.text.contains("rrsets_per_zone"), "{}", reply.text);
    limit(&world, json!({ "zones": -1 })).await.problem(400, "malformed");
    let own = world.alice("PATCH", "/tenants/alice").json(&json!({ "limits": { "zones": 3 } }));
    own.send().await.problem(403, "forbidden");
    let shown = world.operator("GET", "/tenants/alice").send().await.ok(200);
    assert_eq!(shown.json["limits"]["zones"], 100_000);
}

#[tokio::test]
async fn sizes_of_requests_are_the_tenants_too() {
    let world = World::new().await;
    world.zone("example.com").await;
    limit(&world, json!({ "body_bytes": 1024, "zone_file_bytes": 2048 })).await.ok(200);
    let patch = |bytes: usize| {
        let body = format!("{{\"changes\":[]}}{}", " ".repeat(bytes - 14));
        world.alice("PATCH", "/zones/example.com/rrsets").body("application/json", body).send()
    };
    patch(1024).await.ok(200);
    patch(1025).await.problem(413, "too_large");
    let import = |bytes: usize| {
        world.alice("POST", "/zones/example.com/import").body("text/dns", ";".repeat(bytes)).send()
    };
    import(2048).await.ok(200);
    let reply = import(2049).await;
    reply.problem(413, "too_large");
    assert!(reply.text.contains("2048 bytes"), "{}", reply.text);
    assert_eq!(reply.header(header::CONNECTION), "close");
}
