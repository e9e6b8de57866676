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
    assert_eq!(
        whoami.json["tenant"]["usage"],
        json!({ "zones": 1, "records": 3, "tokens": 1, "monitors": 0 })
    );
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

#[tokio::test]
async fn a_burst_and_then_no_more_than_fills() {
    let world = World::new().await;
    world.zone("example.com").await;
    let name = |text: &'static str| header::HeaderName::from_static(text);
    let usual = world.alice("GET", "/whoami").send().await.ok(200);
    assert_eq!(usual.header(name("ratelimit-policy")), "\"read\";q=10000;w=20");
    assert_eq!(usual.header(name("ratelimit")), "\"read\";r=9999;t=1");
    // One write was taken above, and fills for a long time.
    limit(&world, json!({ "writes_per_s": 1, "write_burst": 1_000 })).await.ok(200);
    limit(&world, json!({ "write_burst": 4 })).await.ok(200);
    let changes: Vec<_> = (0..500)
        .map(|n| json!({ "op": "put", "name": format!("h{n}"), "type": "A", "ttl": 60, "records": ["192.0.2.1"] }))
        .collect();
    let write =
        || world.alice("PATCH", "/zones/example.com/rrsets").json(&json!({ "changes": changes })).send();
    let mut accepted = 0;
    let refused = loop {
        let reply = write().await;
        if reply.status != 200 {
            break reply;
        }
        accepted += 1;
        assert!(reply.header(name("ratelimit")).starts_with("\"write\";r="));
    };
    // A batch is one; some seconds may have passed.
    assert!((3..10).contains(&accepted), "{accepted}");
    refused.problem(429, "rate_limited");
    assert_eq!(refused.header(header::RETRY_AFTER), "1");
    assert_eq!(refused.header(name("ratelimit-policy")), "\"write\";q=4;w=4");
    assert!(refused.header(name("ratelimit")).starts_with("\"write\";r=0;t="));
    // Reads go on, and so do others.
    world.alice("GET", "/zones/example.com").send().await.ok(200);
    world.bob("POST", "/zones").json(&json!({ "name": "example.net" })).send().await.ok(201);
    limit(&world, json!({ "write_burst": null, "writes_per_s": null })).await.ok(200);
    write().await.ok(200);
}

#[tokio::test]
async fn who_has_no_token_is_told_so_only_so_often() {
    let world = World::new().await;
    let mut refused = 0;
    let limited = loop {
        let reply = world.with_token("khs_nonsense", "GET", "/zones").send().await;
        if reply.status != 401 {
            break reply;
        }
        refused += 1;
    };
    limited.problem(429, "rate_limited");
    assert_eq!(limited.header(header::RETRY_AFTER), "1");
    assert!((100..200).contains(&refused), "{refused}");
    // Whoever has one isn't held up by that.
    world.alice("GET", "/zones").send().await.ok(200);
}
