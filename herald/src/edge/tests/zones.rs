//! Zones: made, seen, changed, deleted; pending ones and how they are let in.

use axum::http::header;
use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn a_zone_lives() {
    let world = World::new().await;
    let body = json!({ "name": "Bücher.example", "labels": { "env": "prod" }, "message": "first" });
    let made = world.alice("POST", "/zones").json(&body).send().await.ok(201);
    let (id, item) = (made.id(), &made.json["item"]);
    assert_eq!(made.header(header::LOCATION), format!("/api/v1/zones/{id}"));
    assert_eq!(item["name"], "xn--bcher-kva.example.");
    assert_eq!(item["name_unicode"], "bücher.example.");
    assert_eq!(item["status"], "active");
    assert_eq!((item["rrset_count"].as_u64(), item["record_count"].as_u64()), (Some(2), Some(3)));
    assert!(item.get("proof").is_none());
    let change = &made.json["change"];
    assert_eq!((&change["message"], &change["state"]), (&json!("first"), &json!("in_sync")));
    assert_eq!(change["zones"][0]["serial"], item["serial"]);

    // By id, by name, by U-label, with and without the dot.
    for path in [&id, "xn--bcher-kva.example", "xn--bcher-kva.example.", "b%C3%BCcher.example"] {
        let seen = world.alice("GET", &format!("/zones/{path}")).send().await.ok(200);
        assert_eq!(&seen.json, item);
        assert_eq!(seen.header(header::ETAG), made.header(header::ETAG));
    }
    let etag = made.header(header::ETAG);
    let known = world.alice("GET", &format!("/zones/{id}")).header(header::IF_NONE_MATCH, etag).send().await;
    assert_eq!((known.status, known.text.as_str()), (304, ""));

    // Changed: the old tag does not match any more.
    let patch = json!({ "labels": { "env": "test", "team": "x" } });
    let path = format!("/zones/{id}");
    let wrong = world.alice("PATCH", &path).header(header::IF_MATCH, "\"1\"").json(&patch).send().await;
    wrong.problem(412, "precondition_failed");
    let patched =
        world.alice("PATCH", &path).header(header::IF_MATCH, etag).json(&patch).send().await.ok(200);
    assert_eq!(patched.json["item"]["labels"], json!({ "env": "test", "team": "x" }));
    world
        .alice("PATCH", &path)
        .header(header::IF_MATCH, etag)
        .json(&patch)
        .send()
        .await
        .problem(412, "precondition_failed");
    // The same again changes nothing, and has the receipt of what made it so.
    let again = world.alice("PATCH", &path).header(header::IF_MATCH, "*").json(&patch).send().await.ok(200);
    assert_eq!(again.json["change"]["id"], patched.json["change"]["id"]);

    world
        .alice("DELETE", &path)
        .header(header::IF_MATCH, etag)
        .send()
        .await
        .problem(412, "precondition_failed");
    let deleted = world.alice("DELETE", &path).send().await.ok(200);
    assert!(deleted.json.get("item").is_none());
    assert!(deleted.json["change"]["zones"][0].get("serial").is_none());
    world.alice("GET", &path).send().await.problem(404, "not_found");
    world.alice("DELETE", &path).send().await.problem(404, "not_found");
}

#[tokio::test]
async fn names_that_cannot_be_zones() {
    let world = World::new().await;
    for (name, status, code) in [
        ("co.uk", 422, "invalid"),
        ("com", 422, "invalid"),
        (".", 422, "invalid"),
        ("*.example.com", 422, "invalid"),
    ] {
        let reply = world.alice("POST", "/zones").json(&json!({ "name": name })).send().await;
        reply.problem(status, code);
    }
    let bad = world.alice("POST", "/zones").json(&json!({ "name": "a..b" })).send().await;
    assert_eq!(bad.problem(422, "invalid"), ["/name"]);
    world.zone("example.com").await;
    let twice = world.alice("POST", "/zones").json(&json!({ "name": "example.com." })).send().await;
    twice.problem(409, "conflict");
    // Whose it is to be: operators say so, and a tenant can only say itself.
    world
        .operator("POST", "/zones")
        .json(&json!({ "name": "o.example" }))
        .send()
        .await
        .problem(422, "invalid");
    let body = json!({ "name": "o.example", "tenant": "bob" });
    world.operator("POST", "/zones").json(&body).send().await.ok(201);
    let body = json!({ "name": "p.example", "tenant": "bob" });
    world.alice("POST", "/zones").json(&body).send().await.problem(404, "not_found");
    let body = json!({ "name": "p.example", "tenant": "alice", "nameserver_set": "nope" });
    world.alice("POST", "/zones").json(&body).send().await.problem(404, "not_found");
    let body = json!({ "name": "p.example", "tenant": "alice", "nameserver_set": "main" });
    world.alice("POST", "/zones").json(&body).send().await.ok(201);
}

#[tokio::test]
async fn a_zone_with_its_first_content() {
    let world = World::new().await;
    let body = json!({ "name": "example.com", "rrsets": [
        { "name": "", "type": "A", "ttl": 60, "records": ["192.0.2.1", "192.0.2.2"] },
        { "name": "www", "type": "CNAME", "ttl": 60, "records": ["example.com."] },
    ] });
    let made = world.alice("POST", "/zones").json(&body).send().await.ok(201);
    assert_eq!(made.json["item"]["rrset_count"], 4);
    assert_eq!(world.records("example.com", "@", "A").await, json!(["192.0.2.1", "192.0.2.2"]));

    let body = json!({ "name": "example.org", "rrsets": [
        { "name": "www", "type": "CNAME", "ttl": 60, "records": ["example.com."] },
        { "name": "www", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
    ] });
    let wrong = world.alice("POST", "/zones").json(&body).send().await;
    assert_eq!(wrong.problem(422, "invalid"), ["/rrsets/0"]);
    let body = json!({ "name": "example.org", "rrsets": [
        { "name": "@", "type": "NS", "ttl": 60, "records": ["ns.example."] },
        { "name": "x", "type": "A", "ttl": 60, "records": [] },
        { "name": "y", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
        { "name": "Y", "type": "A", "ttl": 60, "records": ["192.0.2.2"] },
    ] });
    let wrong = world.alice("POST", "/zones").json(&body).send().await;
    assert_eq!(wrong.problem(422, "invalid"), ["/rrsets/0", "/rrsets/1/records", "/rrsets/3"]);

    let file = "$TTL 300\n@ SOA ns1.old.example. me.old.example. 3000000000 1 2 3 4\n\
                @ NS ns1.old.example.\nwww A 192.0.2.9\n";
    let body = json!({ "name": "example.net", "zone_file": file });
    let made = world.alice("POST", "/zones").json(&body).send().await.ok(201);
    assert_eq!(made.json["item"]["serial"], 3_000_000_001_u32);
    assert_eq!(made.json["warnings"][0]["code"], "foreign_nameserver");
    assert_eq!(made.json["warnings"][0]["name"], "ns1.old.example.");
    let body = json!({ "name": "example.edu", "zone_file": file, "rrsets": [
        { "name": "y", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
    ] });
    let both = world.alice("POST", "/zones").json(&body).send().await;
    assert_eq!(both.problem(422, "invalid"), ["/zone_file"]);
    let body = json!({ "name": "example.edu", "zone_file": "$TTL 1\nwww A 1.2.3\nx\n" });
    let wrong = world.alice("POST", "/zones").json(&body).send().await;
    assert_eq!(wrong.problem(422, "invalid"), ["2:7", "3:1"]);
}

#[tokio::test]
async fn a_dry_run_judges_and_does_nothing() {
    let world = World::new().await;
    let revision = world.engine.state().revision();
    let body = json!({ "name": "example.com", "rrsets": [
        { "name": "w", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
    ] });
    let dry = world.alice("POST", "/zones?dry_run=true").json(&body).send().await.ok(200);
    assert_eq!(dry.json["item"]["name"], "example.com.");
    assert!(dry.json.get("change").is_none());
    assert_eq!((dry.header(header::LOCATION), dry.header(header::ETAG)), ("", ""));
    world
        .alice("POST", "/zones?dry_run=true")
        .json(&json!({ "name": "com" }))
        .send()
        .await
        .problem(422, "invalid");
    let token = world.alice("POST", "/tokens?dry_run=true").json(&json!({})).send().await.ok(200);
    assert!(token.json["item"].get("secret").is_none(), "a token that isn't there has no secret");
    world.operator("POST", "/pops?dry_run=true").json(&json!({ "name": "ams" })).send().await.ok(200);
    assert_eq!(world.engine.state().revision(), revision);
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let world = World::new().await;
    for n in 0..25 {
        let (tenant, env) =
            (if n % 5 == 4 { "bob" } else { "alice" }, if n % 2 == 0 { "even" } else { "odd" });
        let body =
            json!({ "name": format!("zone{n:02}.example"), "tenant": tenant, "labels": { "env": env } });
        world.operator("POST", "/zones").json(&body).send().await.ok(201);
    }
    async fn all(world: &World, token: &str, query: &str) -> Vec<String> {
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let reply = world
                .with_token(token, "GET", &format!("/zones?limit=7{query}{cursor}"))
                .send()
                .await
                .ok(200);
            let items = reply.json["items"].as_array().unwrap();
            assert!(items.len() <= 7);
            names.extend(items.iter().map(|zone| zone["name"].as_str().unwrap().to_owned()));
            match reply.json["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return names,
            }
        }
    }
    let everything = all(&world, &world.operator, "").await;
    assert_eq!(everything.len(), 25);
    assert!(everything.is_sorted());
    assert_eq!(all(&world, &world.alice, "").await.len(), 20);
    assert_eq!(all(&world, &world.bob, "").await.len(), 5);
    assert_eq!(all(&world, &world.operator, "&tenant=bob").await.len(), 5);
    assert_eq!(all(&world, &world.alice, "&tenant=alice&label=env%3Dodd").await.len(), 10);
    assert_eq!(all(&world, &world.operator, "&name=zone1").await.len(), 10);
    assert_eq!(all(&world, &world.operator, "&name=ZONE07").await, ["zone07.example."]);
    assert_eq!(all(&world, &world.operator, "&name_prefix=zone1").await.len(), 10);
    assert_eq!(all(&world, &world.operator, "&name_prefix=one1").await.len(), 0);
    assert_eq!(all(&world, &world.operator, "&name_exact=Zone07.example").await, ["zone07.example."]);
    assert_eq!(all(&world, &world.operator, "&below=example&name=2").await.len(), 7);
    assert_eq!(all(&world, &world.alice, "&below=zone07.example&label=env%3Dodd").await.len(), 1);
    assert_eq!(all(&world, &world.operator, "&nameserver_set=main").await.len(), 25);
    assert_eq!(all(&world, &world.operator, "&status=pending").await.len(), 0);
    assert_eq!(all(&world, &world.operator, "&status=active&label=env%3Deven").await.len(), 13);
    world.alice("GET", "/zones?tenant=bob").send().await.problem(404, "not_found");
    world.alice("GET", "/zones?nameserver_set=none").send().await.problem(404, "not_found");
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "cursor=x",
        "status=x",
        "label=x",
        "nmae=x",
        "name_exact=a..b",
        "below=a..b",
        "name=a&name_prefix=a",
    ] {
        world.alice("GET", &format!("/zones?{bad}")).send().await.problem(400, "malformed");
    }
}

#[tokio::test]
async fn a_conflicting_zone_is_pending_whatever_the_cause() {
    let world = World::new().await;
    world.zone("held.example").await;
    world.zone("deep.parent.example").await;
    let replies = [
        world.bob("POST", "/zones").json(&json!({ "name": "held.example" })).send().await.ok(201),
        world.bob("POST", "/zones").json(&json!({ "name": "below.held.example" })).send().await.ok(201),
        world.bob("POST", "/zones").json(&json!({ "name": "parent.example" })).send().await.ok(201),
    ];
    let shape = |reply: &super::Reply| {
        let name = reply.json["item"]["name"].as_str().unwrap().to_owned();
        let code = reply.json["item"]["proof"]["admission_code"].as_str().unwrap().to_owned();
        let mut json = reply.json.clone();
        for volatile in ["id", "serial", "revision", "created_at_ms", "changed_at_ms"] {
            json["item"][volatile] = Value::Null;
        }
        json["change"] = Value::Null;
        json.to_string()
            .replace(&name, "NAME")
            .replace(name.trim_end_matches('.'), "NAME")
            .replace(&code, "CODE")
    };
    assert_eq!(shape(&replies[0]), shape(&replies[1]));
    assert_eq!(shape(&replies[0]), shape(&replies[2]));
    let proof = &replies[0].json["item"]["proof"];
    assert_eq!(replies[0].json["item"]["status"], "pending");
    assert_eq!(proof["txt_name"], "_koder-herald.held.example.");
    assert_eq!(proof["txt_value"], format!("koder-herald={}", proof["admission_code"].as_str().unwrap()));
    assert_eq!(proof["delegate_to"], json!(["ns1.herald.test.", "ns2.herald.test."]));
    // It can be worked on, and by its name each tenant finds its own.
    let batch =
        json!({ "changes": [{ "op": "put", "name": "w", "type": "A", "ttl": 1, "records": ["192.0.2.1"] }] });
    world.bob("PATCH", "/zones/held.example/rrsets").json(&batch).send().await.ok(200);
    assert_eq!(world.records("held.example", "w", "A").await, Value::Null);
    // For an operator the name is ambiguous.
    world.operator("GET", "/zones/held.example").send().await.problem(409, "conflict");
}

#[tokio::test]
async fn pending_zones_are_let_in_by_the_holder_or_an_operator() {
    let world = World::new().await;
    world.zone("held.example").await;
    let pending =
        world.bob("POST", "/zones").json(&json!({ "name": "sub.held.example" })).send().await.ok(201);
    let code = pending.json["item"]["proof"]["admission_code"].as_str().unwrap();
    let admission = json!({ "name": "sub.held.example", "admission_code": code, "message": "ok" });
    // Not by its own tenant, not with another code, not by an operator in this way; all the same answer.
    world.bob("POST", "/admissions").json(&admission).send().await.problem(404, "not_found");
    let wrong = json!({ "name": "sub.held.example", "admission_code": "x" });
    world.alice("POST", "/admissions").json(&wrong).send().await.problem(404, "not_found");
    world.operator("POST", "/admissions").json(&admission).send().await.problem(403, "forbidden");
    let nowhere = json!({ "name": "nowhere..example", "admission_code": "x" });
    assert_eq!(
        world.alice("POST", "/admissions").json(&nowhere).send().await.problem(422, "invalid"),
        ["/name"]
    );
    let admitted = world.alice("POST", "/admissions").json(&admission).send().await.ok(200);
    assert!(admitted.json.get("item").is_none(), "the zone is another's");
    assert_eq!(admitted.json["change"]["zones"], json!([]));
    let served = world.bob("GET", "/zones/sub.held.example").send().await.ok(200);
    assert_eq!(served.json["status"], "active");
    assert!(served.json.get("proof").is_none());

    // An operator lets one in that bears the very name: the other is displaced.
    let id = world.bob("POST", "/zones").json(&json!({ "name": "held.example" })).send().await.ok(201).id();
    world.bob("POST", &format!("/zones/{id}/admit")).send().await.problem(403, "forbidden");
    world.alice("POST", &format!("/zones/{id}/admit")).send().await.problem(404, "not_found");
    let admitted = world.operator("POST", &format!("/zones/{id}/admit")).send().await.ok(200);
    assert_eq!(admitted.json["item"]["status"], "active");
    let displaced = world.alice("GET", "/zones/held.example").send().await.ok(200);
    assert_eq!(displaced.json["status"], "pending");
    // Alice sees that it happened to her zone, and nothing of whose doing it was.
    let id = admitted.json["change"]["id"].as_str().unwrap();
    let seen = world.alice("GET", &format!("/changes/{id}")).send().await.ok(200);
    assert_eq!(seen.json["principal"], "operator");
    assert_eq!(seen.json["zones"].as_array().unwrap().len(), 1);
    // Letting in what is in changes nothing.
    let path = format!("/zones/{}/admit", admitted.id());
    let again = world.operator("POST", &path).send().await.ok(200);
    assert_eq!(again.json["change"]["id"], id);
}

#[tokio::test]
async fn a_zone_moves_to_another_set() {
    let world = World::new().await;
    let id = world.zone("example.com").await;
    let set = json!({
        "name": "vanity", "nameservers": ["ns.vanity.example"], "rname": "a.vanity.example", "ttl": 60,
    });
    let set = world.operator("POST", "/nameserver-sets").json(&set).send().await.ok(201).id();
    let patch = json!({ "nameserver_set": "vanity" });
    let moved = world.alice("PATCH", "/zones/example.com").json(&patch).send().await.ok(200);
    assert_eq!((moved.id(), &moved.json["item"]["nameserver_set"]), (id, &json!(set)));
    assert_eq!(world.records("example.com", "@", "NS").await, json!(["ns.vanity.example."]));
    let missing = json!({ "nameserver_set": "nope" });
    world.alice("PATCH", "/zones/example.com").json(&missing).send().await.problem(404, "not_found");
}

#[tokio::test]
async fn who_removes_much_of_a_zone_is_asked_first() {
    let world = World::new().await;
    world.alice("POST", "/zones").json(&json!({ "name": "example.com" })).send().await.ok(201);
    let change = |op: &str, n: usize| match op {
        "put" => {
            json!({ "op": op, "name": format!("h{n}"), "type": "A", "ttl": 60, "records": ["192.0.2.1"] })
        }
        _ => json!({ "op": op, "name": format!("h{n}"), "type": "A" }),
    };
    let batch = |op: &str, numbers: std::ops::Range<usize>| json!({ "changes": numbers.map(|n| change(op, n)).collect::<Vec<_>>() });
    let path = "/zones/example.com/rrsets";
    world.alice("PATCH", path).json(&batch("put", 0..30)).send().await.ok(200);
    // Less than half: nobody is asked.
    world.alice("PATCH", path).json(&batch("delete", 0..5)).send().await.ok(200);

    let most = batch("delete", 5..28);
    for query in ["", "?dry_run=true"] {
        let asked = world.alice("PATCH", &format!("{path}{query}")).json(&most).send().await;
        asked.problem(428, "needs_confirmation");
        let detail = asked.json["detail"].as_str().unwrap();
        assert!(detail.contains("example.com.") && detail.contains("confirm=shrink"), "{detail}");
    }
    let unasked = world.alice("DELETE", "/zones/example.com").send().await;
    unasked.problem(428, "needs_confirmation");
    world.alice("GET", "/zones/example.com/rrsets/h27/A").send().await.ok(200);

    world.alice("PATCH", &format!("{path}?confirm=shrink")).json(&most).send().await.ok(200);
    world.alice("GET", "/zones/example.com/rrsets/h27/A").send().await.problem(404, "not_found");
    // What is left of it is a small zone, which goes without a question.
    world.alice("DELETE", "/zones/example.com").send().await.ok(200);
}
