//! RRsets: one by one, in batches, over several zones.

use axum::http::header;
use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn an_rrset_lives() {
    let world = World::new().await;
    let zone = world.zone("example.com").await;
    let path = "/zones/example.com/rrsets/www/a";
    let body = json!({ "ttl": 60, "records": ["192.0.2.2", "192.0.2.1", "192.0.2.1"] });
    let made = world.alice("PUT", path).json(&body).send().await.ok(201);
    assert_eq!(made.json["item"]["records"], json!(["192.0.2.1", "192.0.2.2"]));
    assert_eq!(made.json["item"]["type"], "A");
    assert_eq!(made.header(header::LOCATION), format!("/api/v1/zones/{zone}/rrsets/www.example.com./a"));
    let etag = made.header(header::ETAG).to_owned();
    assert_eq!(etag, format!("\"{}\"", made.json["item"]["etag"].as_str().unwrap()));

    for name in ["www", "WWW.example.com", "www.example.com.", "w%77w"] {
        let seen = world.alice("GET", &format!("/zones/example.com/rrsets/{name}/A")).send().await.ok(200);
        assert_eq!(seen.json, made.json["item"]);
        assert_eq!(seen.header(header::ETAG), etag);
    }
    let known = world.alice("GET", path).header(header::IF_NONE_MATCH, &etag).send().await;
    assert_eq!(known.status, 304);

    // The same again: nothing is appended, 200.
    let again = world.alice("PUT", path).json(&body).send().await.ok(200);
    assert_eq!(again.json["change"]["id"], made.json["change"]["id"]);
    let other = json!({ "ttl": 61, "records": ["192.0.2.1"] });
    let put = |header: header::HeaderName, value: &str| {
        world.alice("PUT", path).header(header, value).json(&other).send()
    };
    put(header::IF_NONE_MATCH, "*").await.problem(412, "precondition_failed");
    put(header::IF_MATCH, "\"0\"").await.problem(412, "precondition_failed");
    put(header::IF_MATCH, "\"no such thing\"").await.problem(412, "precondition_failed");
    put(header::IF_NONE_MATCH, "\"0\"").await.problem(400, "malformed");
    put(header::IF_MATCH, &format!("\"0\", {etag}")).await.ok(200);
    put(header::IF_MATCH, &etag).await.problem(412, "precondition_failed");
    put(header::IF_MATCH, "*").await.ok(200);

    let delete = |header: Option<&str>| {
        let call = world.alice("DELETE", path);
        match header {
            Some(value) => call.header(header::IF_MATCH, value),
            None => call,
        }
        .send()
    };
    delete(Some(&etag)).await.problem(412, "precondition_failed");
    assert!(delete(Some("*")).await.ok(200).json.get("item").is_none());
    delete(None).await.problem(404, "not_found");
    delete(Some("*")).await.problem(412, "precondition_failed");
    world.alice("GET", path).send().await.problem(404, "not_found");
    put(header::IF_MATCH, "*").await.problem(412, "precondition_failed");
    put(header::IF_NONE_MATCH, "*").await.ok(201);
}

#[tokio::test]
async fn names_in_paths() {
    let world = World::new().await;
    world.zone("example.com").await;
    world
        .operator("POST", "/zones")
        .json(&json!({ "name": "0/25.2.0.192.in-addr.arpa", "tenant": "alice" }))
        .send()
        .await
        .ok(201);
    let body = json!({ "ttl": 60, "records": ["\"x\""] });
    for (zone, name, owner) in [
        ("example.com", "%2A", "*.example.com."),
        ("example.com", "%2A.example.com", "*.example.com."),
        ("example.com", "@", "example.com."),
        ("example.com", "a%5C.b", r"a\.b.example.com."),
        ("example.com", "_acme-challenge.www", "_acme-challenge.www.example.com."),
        ("example.com", "b%C3%BCcher", "xn--bcher-kva.example.com."),
        ("0%2F25.2.0.192.in-addr.arpa", "1", "1.0/25.2.0.192.in-addr.arpa."),
    ] {
        let path = format!("/zones/{zone}/rrsets/{name}/TXT");
        let reply = world.alice("PUT", &path).json(&body).send().await;
        assert!(reply.status < 300, "{path}: {}", reply.text);
        assert_eq!(reply.json["item"]["name"], owner);
        // What Location says is where it is.
        if reply.status == 201 {
            let location = reply.header(header::LOCATION).strip_prefix("/api/v1").unwrap().to_owned();
            assert_eq!(world.alice("GET", &location).send().await.ok(200).json["name"], owner);
        }
    }
    let put = |path: &str| world.alice("PUT", path).json(&body).send();
    put("/zones/example.com/rrsets/a..b/TXT").await.problem(400, "malformed");
    put("/zones/example.com/rrsets/a/NOPE").await.problem(400, "malformed");
    put("/zones/example.com/rrsets/%FF/TXT").await.problem(400, "malformed");
    put("/zones/exa%20mple.com/rrsets/a/TXT").await.problem(400, "malformed");
    put("/zones/example.com/rrsets/www.example.org./TXT").await.problem(422, "invalid");
    put("/zones/example.com/rrsets/www/TYPE65534").await.problem(422, "invalid");
    let any = json!({ "ttl": 60, "records": ["\\# 2 abcd"] });
    world.alice("PUT", "/zones/example.com/rrsets/www/TYPE65534").json(&any).send().await.ok(201);
    assert_eq!(world.records("example.com", "www", "TYPE65534").await, json!(["\\# 2 ABCD"]));
}

#[tokio::test]
async fn a_batch_is_whole_or_nothing_and_names_each_bad_item() {
    let world = World::new().await;
    world.zone("example.com").await;
    let patch = |body: Value| world.alice("PATCH", "/zones/example.com/rrsets").json(&body).send();
    let good = patch(json!({ "message": "setup", "changes": [
        { "op": "put", "name": "www", "type": "CNAME", "ttl": 60, "records": ["example.com."] },
        { "op": "add", "name": "@", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
        { "op": "add", "name": "example.com", "type": "a", "records": ["192.0.2.2"] },
    ] }))
    .await
    .ok(200);
    assert_eq!(good.json["item"]["rrset_count"], 4);
    assert_eq!(world.records("example.com", "@", "A").await, json!(["192.0.2.1", "192.0.2.2"]));

    // What can't be read.
    let unreadable = patch(json!({ "changes": [
        { "op": "put", "name": "a", "type": "A", "ttl": 60, "records": ["192.0.2.1", "nope"] },
        { "op": "put", "name": "b..c", "type": "NOPE", "ttl": 60, "records": ["x"] },
        { "op": "put", "name": "c", "type": "A", "records": ["192.0.2.1"] },
        { "op": "put", "name": "c", "type": "A", "ttl": 1, "records": [] },
        { "op": "delete", "name": "www", "type": "CNAME", "records": ["x.example."] },
        { "op": "remove", "name": "www", "type": "CNAME", "ttl": 1, "records": ["x.example."] },
    ] }))
    .await;
    let pointers = unreadable.problem(422, "invalid");
    let wanted = [
        "/changes/0/records/1",
        "/changes/1/name",
        "/changes/1/type",
        "/changes/2/ttl",
        "/changes/3/records",
        "/changes/4/records",
        "/changes/4/records/0",
        "/changes/5/ttl",
    ];
    assert!(pointers.iter().all(|pointer| wanted.contains(pointer)) && pointers.len() >= 7, "{pointers:?}");
    assert_eq!(unreadable.json["errors"][0]["name"], "a");
    assert_eq!(unreadable.json["errors"][0]["type"], "A");

    // What can be read and can't be done.
    let wrong = patch(json!({ "changes": [
        { "op": "put", "name": "fine", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
        { "op": "put", "name": "www", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
        { "op": "put", "name": "x.example.org.", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
    ] }))
    .await;
    assert_eq!(wrong.problem(422, "invalid"), ["/changes/1", "/changes/2"]);
    let gone = patch(json!({ "changes": [{ "op": "delete", "name": "nope", "type": "A" }] })).await;
    assert_eq!(gone.problem(422, "invalid"), ["/changes/0"]);
    assert_eq!(world.records("example.com", "fine", "A").await, Value::Null);

    // The final state counts, not the order.
    patch(json!({ "changes": [
        { "op": "put", "name": "www", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
        { "op": "delete", "name": "www", "type": "CNAME" },
        { "op": "remove", "name": "@", "type": "A", "records": ["192.0.2.1"] },
    ] }))
    .await
    .ok(200);
    assert_eq!(world.records("example.com", "@", "A").await, json!(["192.0.2.2"]));

    // At most a hundred items are told.
    let change = json!({ "op": "delete", "name": "no such", "type": "A" });
    let many = patch(json!({ "changes": vec![change; 150] })).await;
    assert_eq!(many.problem(422, "invalid").len(), 100);
    assert!(many.json["detail"].as_str().unwrap().contains("100"));

    // A warning is no error.
    let delegated = patch(json!({ "changes": [
        { "op": "put", "name": "sub", "type": "NS", "ttl": 60, "records": ["ns.example.org."] },
        { "op": "put", "name": "host.sub", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
    ] }))
    .await
    .ok(200);
    assert_eq!(delegated.json["warnings"][0]["code"], "occluded_name");
    assert_eq!(delegated.json["warnings"][0]["name"], "host.sub.example.com.");

    let stale = world.alice("PATCH", "/zones/example.com/rrsets").header(header::IF_MATCH, "\"1\"");
    stale.json(&json!({ "changes": [] })).send().await.problem(412, "precondition_failed");
}

#[tokio::test]
async fn rrsets_are_listed_in_canonical_order() {
    let world = World::new().await;
    world.zone("example.com").await;
    let changes: Vec<Value> = (0..30)
        .map(|n| format!("h{n:02}"))
        .map(|name| json!({ "op": "put", "name": name, "type": "A", "ttl": 60, "records": ["192.0.2.1"] }))
        .chain([
            json!({ "op": "put", "name": "@", "type": "A", "ttl": 60, "records": ["192.0.2.1"] }),
            json!({ "op": "put", "name": "@", "type": "MX", "ttl": 60, "records": ["10 h00.example.com."] }),
        ])
        .collect();
    world
        .alice("PATCH", "/zones/example.com/rrsets")
        .json(&json!({ "changes": changes }))
        .send()
        .await
        .ok(200);
    async fn all(world: &World, query: &str) -> Vec<String> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/zones/example.com/rrsets?{query}{cursor}");
            let reply = world.alice("GET", &path).send().await.ok(200);
            for rrset in reply.json["items"].as_array().unwrap() {
                found.push(format!(
                    "{} {}",
                    rrset["name"].as_str().unwrap(),
                    rrset["type"].as_str().unwrap()
                ));
            }
            match reply.json["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    }
    let whole = all(&world, "limit=1000").await;
    assert_eq!(whole[..4], ["example.com. A", "example.com. NS", "example.com. SOA", "example.com. MX"]);
    assert_eq!(whole.len(), 34);
    for limit in [1, 2, 3, 33] {
        assert_eq!(all(&world, &format!("limit={limit}")).await, whole);
    }
    assert_eq!(all(&world, "name=@&limit=2").await, whole[..4]);
    assert_eq!(all(&world, "name=h07").await, ["h07.example.com. A"]);
    assert_eq!(all(&world, "name=h07&type=TXT").await, [""; 0]);
    assert_eq!(all(&world, "type=soa&limit=1").await, ["example.com. SOA"]);
    assert_eq!(all(&world, "type=A&limit=5").await.len(), 31);
    for bad in ["type=NOPE", "name=a..b", "nope=1", "cursor=AAAA!"] {
        world
            .alice("GET", &format!("/zones/example.com/rrsets?{bad}"))
            .send()
            .await
            .problem(400, "malformed");
    }
}

#[tokio::test]
async fn a_batch_over_several_zones_is_atomic() {
    let world = World::new().await;
    world.zone("one.example").await;
    let two = world.zone("two.example").await;
    let change =
        |record: &str| json!([{ "op": "put", "name": "www", "type": "A", "ttl": 60, "records": [record] }]);
    let post = |body: Value| world.alice("POST", "/batches").json(&body).send();
    let both = post(json!({ "message": "both", "zones": [
        { "zone": "one.example", "changes": change("192.0.2.1") },
        { "zone": two, "changes": change("192.0.2.2") },
    ] }))
    .await
    .ok(200);
    assert_eq!(both.json["item"].as_array().unwrap().len(), 2);
    assert_eq!(both.json["change"]["zones"].as_array().unwrap().len(), 2);
    assert_eq!(both.json["item"][0]["revision"], both.json["item"][1]["revision"]);

    let wrong = post(json!({ "zones": [
        { "zone": "one.example", "changes": change("192.0.2.9") },
        { "zone": "two.example", "changes": [{ "op": "add", "name": "a..b", "type": "A", "records": ["192.0.2.1"] }] },
    ] }))
    .await;
    assert_eq!(wrong.problem(422, "invalid"), ["/zones/1/changes/0/name"]);
    let wrong = post(json!({ "zones": [
        { "zone": "one.example", "changes": change("192.0.2.9") },
        { "zone": "two.example", "changes": [{ "op": "delete", "name": "nope", "type": "A" }] },
    ] }))
    .await;
    assert_eq!(wrong.problem(422, "invalid"), ["/zones/1/changes/0"]);
    let twice = post(json!({ "zones": [
        { "zone": "two.example", "changes": change("192.0.2.9") },
        { "zone": two, "changes": change("192.0.2.9") },
    ] }))
    .await;
    assert_eq!(twice.problem(422, "invalid"), ["/zones/1"]);
    let missing = post(json!({ "zones": [
        { "zone": "two.example", "changes": change("192.0.2.9") },
        { "zone": "nope.example", "changes": change("192.0.2.9") },
    ] }))
    .await;
    assert_eq!(missing.problem(404, "not_found"), ["/zones/1/zone"]);
    let changed = post(json!({ "zones": [
        { "zone": "two.example", "if_match": "\"1\"", "changes": change("192.0.2.9") },
    ] }))
    .await;
    assert_eq!(changed.problem(412, "precondition_failed"), ["/zones/0/if_match"]);
    let etag = both.json["item"][0]["revision"].to_string();
    post(json!({ "zones": [{ "zone": "one.example", "if_match": etag, "changes": change("192.0.2.3") }] }))
        .await
        .ok(200);
    assert_eq!(world.records("two.example", "www", "A").await, json!(["192.0.2.2"]));
    assert_eq!(world.records("one.example", "www", "A").await, json!(["192.0.2.3"]));
}
