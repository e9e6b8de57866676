//! The past: who did what, zones as they were, differences, rollback, deleted zones.

use axum::http::header;
use serde_json::{Value, json};

use super::World;

/// A zone of alice's with a past: made, www put, api put, www changed, www deleted. Gives its id and the revisions.
async fn zone_with_a_past(world: &World) -> (String, Vec<u64>) {
    let body = json!({ "name": "example.com", "message": "first" });
    let made = world.alice("POST", "/zones").json(&body).send().await.ok(201);
    let mut revisions = vec![made.json["change"]["revision"].as_u64().unwrap()];
    for (op, name, address) in [
        ("put", "www", "192.0.2.1"),
        ("put", "api", "192.0.2.9"),
        ("put", "www", "192.0.2.2"),
        ("delete", "www", ""),
    ] {
        let change = match op {
            "put" => json!({ "op": op, "name": name, "type": "A", "ttl": 60, "records": [address] }),
            _ => json!({ "op": op, "name": name, "type": "A" }),
        };
        let batch = json!({ "changes": [change], "message": format!("{op} {name}") });
        let done = world.alice("PATCH", "/zones/example.com/rrsets").json(&batch).send().await.ok(200);
        revisions.push(done.json["change"]["revision"].as_u64().unwrap());
    }
    (made.id(), revisions)
}

fn column<'a>(page: &'a Value, field: &str) -> Vec<&'a Value> {
    page["items"].as_array().unwrap().iter().map(|item| &item[field]).collect()
}

#[tokio::test]
async fn a_zone_has_a_history() {
    let world = World::new().await;
    let (id, revisions) = zone_with_a_past(&world).await;
    let history = world.alice("GET", "/zones/example.com/history").send().await.ok(200);
    let messages = ["delete www", "put www", "put api", "put www", "first"];
    assert_eq!(column(&history.json, "message"), messages.map(Value::from).iter().collect::<Vec<_>>());
    let newest = &history.json["items"][0];
    assert_eq!((&newest["kinds"], &newest["rrsets_deleted"]), (&json!(["zone_edited"]), &json!(1)));
    assert!(newest["principal"].as_str().unwrap().starts_with("tenant t"));
    assert_eq!(newest["id"], format!("c{}", revisions[4]));

    // Page by page it is the same.
    let (mut paged, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let page = world.alice("GET", &format!("/zones/{id}/history?{query}")).send().await.ok(200);
        paged.extend(column(&page.json, "revision").into_iter().cloned());
        let Some(cursor) = page.json["next_cursor"].as_str() else { break };
        query = format!("limit=2&cursor={cursor}");
    }
    assert_eq!(paged.iter().collect::<Vec<_>>(), column(&history.json, "revision"));

    // An operator's message is for operators; that something was done is for the tenant too.
    let patch = json!({ "labels": { "a": "b" }, "message": "by the way" });
    world.operator("PATCH", "/zones/example.com").json(&patch).send().await.ok(200);
    let seen = world.alice("GET", "/zones/example.com/history?limit=1").send().await.ok(200);
    assert_eq!(seen.json["items"][0]["principal"], "operator");
    assert!(seen.json["items"][0].get("message").is_none());
    let seen = world.operator("GET", "/zones/example.com/history?limit=1").send().await.ok(200);
    assert_eq!(seen.json["items"][0]["message"], "by the way");
    // Of others there is nothing.
    for path in ["/zones/example.com/history".into(), format!("/zones/{id}/history")] {
        world.bob("GET", &path).send().await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_zone_is_told_as_it_was() {
    let world = World::new().await;
    let (id, revisions) = zone_with_a_past(&world).await;
    let www = |reply: super::Reply| {
        let items = reply.json["items"].as_array().unwrap().clone();
        items.into_iter().find(|item| item["name"] == "www.example.com.").map(|item| item["records"].clone())
    };
    let expected = [None, Some("192.0.2.1"), Some("192.0.2.1"), Some("192.0.2.2"), None];
    for (revision, address) in revisions.iter().zip(expected) {
        for at in [revision.to_string(), format!("c{revision}")] {
            let list = world.alice("GET", &format!("/zones/{id}/rrsets?at={at}")).send().await.ok(200);
            assert_eq!(www(list), address.map(|address| json!([address])), "{at}");
            let file = world.alice("GET", &format!("/zones/{id}/export?at={at}")).send().await.ok(200);
            assert_eq!(file.text.contains("www"), address.is_some(), "{}", file.text);
            assert_eq!(file.header(header::ETAG), format!("\"{revision}\""));
        }
    }
    let now = world.alice("GET", "/zones/example.com/export").send().await.ok(200);
    let same = world.alice("GET", "/zones/example.com/export?at=2099-01-01T00:00:00Z").send().await.ok(200);
    assert_eq!(now.text, same.text);
    let before = revisions[0] - 1;
    let missing = world.alice("GET", &format!("/zones/{id}/export?at={before}")).send().await;
    missing.problem(404, "not_found");
    world.alice("GET", "/zones/example.com/export?at=1980-01-01").send().await.problem(404, "not_found");
    for at in ["x", "999999", "2026-13-01"] {
        let path = format!("/zones/{id}/rrsets?at={at}");
        world.alice("GET", &path).send().await.problem(400, "malformed");
    }
    // A token for some names sees those of the past, and no others.
    let token = json!({ "tenant": "alice", "scope": { "names": ["api.example.com"] } });
    let narrow = world.token(&token).await;
    let path = format!("/zones/{id}/rrsets?at={}", revisions[3]);
    let seen = world.with_token(&narrow, "GET", &path).send().await.ok(200);
    assert_eq!(column(&seen.json, "name"), [&json!("api.example.com.")]);
    let path = format!("/zones/{id}/export?at={}", revisions[3]);
    world.with_token(&narrow, "GET", &path).send().await.problem(403, "forbidden");
    let path = format!("/zones/{id}/diff?from={}", revisions[1]);
    let seen = world.with_token(&narrow, "GET", &path).send().await.ok(200);
    assert_eq!((seen.json["added"].as_array().unwrap().len(), &seen.json["removed"]), (1, &json!([])));
}

#[tokio::test]
async fn two_revisions_differ_by_their_rrsets() {
    let world = World::new().await;
    let (id, revisions) = zone_with_a_past(&world).await;
    let path = format!("/zones/{id}/diff?from={}&to={}", revisions[1], revisions[3]);
    let diff = world.alice("GET", &path).send().await.ok(200).json;
    assert_eq!(diff["added"][0]["name"], "api.example.com.");
    assert_eq!(diff["changed"][0]["before"]["records"], json!(["192.0.2.1"]));
    assert_eq!(diff["changed"][0]["after"]["records"], json!(["192.0.2.2"]));
    assert_eq!((&diff["removed"], &diff["truncated"]), (&json!([]), &json!(false)));
    assert_eq!(diff["from"]["zone"]["revision"], revisions[1]);
    assert!(diff["from"]["zone"]["serial"].as_u64() < diff["to"]["zone"]["serial"].as_u64());

    let text = world.alice("GET", &format!("{path}&format=text")).send().await.ok(200).text;
    let lines: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "+api.example.com. 60 IN A 192.0.2.9",
            "-www.example.com. 60 IN A 192.0.2.1",
            "+www.example.com. 60 IN A 192.0.2.2",
        ]
    );
    // Since before it was there: all of it, the SOA too. And of a change of name servers, the SOA.
    let path = format!("/zones/{id}/diff?from={}&format=text", revisions[0] - 1);
    let text = world.alice("GET", &path).send().await.ok(200).text;
    assert!(text.starts_with("--- not there at revision"), "{text}");
    assert!(text.contains("\n+example.com. 3600 IN SOA "), "{text}");
    let set = json!({ "name": "main", "nameservers": ["ns9.herald.test"], "rname": "dns@herald.test" });
    world.operator("PUT", "/nameserver-sets/main").json(&set).send().await.ok(200);
    let path = format!("/zones/{id}/diff?from={}", revisions[4]);
    let diff = world.alice("GET", &path).send().await.ok(200).json;
    let types: Vec<&Value> =
        diff["changed"].as_array().unwrap().iter().map(|changed| &changed["after"]["type"]).collect();
    assert_eq!(types, ["SOA", "NS"]);
    let nothing = world.alice("GET", &format!("/zones/{id}/diff")).send().await;
    nothing.problem(400, "malformed");
    world.bob("GET", &path).send().await.problem(404, "not_found");
}

#[tokio::test]
async fn a_rollback_is_a_new_change() {
    let world = World::new().await;
    let (id, revisions) = zone_with_a_past(&world).await;
    let path = format!("/zones/{id}/rollback");
    let to = json!({ "to": revisions[1].to_string() });
    let before = world.alice("GET", &format!("/zones/{id}")).send().await;
    let dry = world.alice("POST", &format!("{path}?dry_run=true")).json(&to).send().await.ok(200);
    let item = &dry.json["item"];
    assert_eq!((&item["rrsets_added"], &item["rrsets_removed"]), (&json!(1), &json!(1)));
    assert!(dry.json.get("change").is_none());
    world
        .alice("POST", &path)
        .header(header::IF_MATCH, "\"1\"")
        .json(&to)
        .send()
        .await
        .problem(412, "precondition_failed");
    let etag = before.header(header::ETAG);
    let done = world.alice("POST", &path).header(header::IF_MATCH, etag).json(&to).send().await.ok(200);
    assert_eq!(done.json["item"]["to"], revisions[1]);
    assert_eq!(done.json["item"]["nameservers_kept"], false);
    assert!(done.json["item"]["zone"]["serial"].as_u64() > before.json["serial"].as_u64());
    let message = format!("rollback to revision {}", revisions[1]);
    assert_eq!(done.json["change"]["message"], message);
    assert_eq!(world.records("example.com", "www", "A").await, json!(["192.0.2.1"]));
    assert_eq!(world.records("example.com", "api", "A").await, Value::Null);
    // Once more changes nothing, and has the receipt of what made it so.
    let again = world.alice("POST", &path).json(&to).send().await.ok(200);
    assert_eq!(again.json["change"]["id"], done.json["change"]["id"]);
    // The rollback can be rolled back.
    let to = json!({ "to": format!("c{}", revisions[4]), "message": "not what I wanted" });
    let back = world.alice("POST", &path).json(&to).send().await.ok(200);
    assert_eq!(back.json["change"]["message"], "not what I wanted");
    assert_eq!(world.records("example.com", "api", "A").await, json!(["192.0.2.9"]));
    // Name servers that the set has changed since stay as they are.
    let set = json!({ "name": "main", "nameservers": ["ns9.herald.test"], "rname": "dns@herald.test" });
    world.operator("PUT", "/nameserver-sets/main").json(&set).send().await.ok(200);
    let to = json!({ "to": revisions[1].to_string() });
    let done = world.alice("POST", &path).json(&to).send().await.ok(200);
    assert_eq!(done.json["item"]["nameservers_kept"], true);
    assert_eq!(world.records("example.com", "@", "NS").await, json!(["ns9.herald.test."]));

    for (to, status, code) in
        [("nonsense", 400, "malformed"), ("1", 404, "not_found"), ("99999", 400, "malformed")]
    {
        let wrong = world.alice("POST", &path).json(&json!({ "to": to })).send().await;
        wrong.problem(status, code);
    }
    world.bob("POST", &path).json(&to).send().await.problem(404, "not_found");
    let reader = world.token(&json!({ "tenant": "alice", "scope": { "verbs": ["read", "write"] } })).await;
    world.with_token(&reader, "POST", &path).json(&to).send().await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_deleted_zone_has_a_past_and_comes_back() {
    let world = World::new().await;
    let (id, revisions) = zone_with_a_past(&world).await;
    let not_deleted = world.alice("POST", &format!("/zones/{id}/restore")).send().await;
    not_deleted.problem(409, "conflict");
    let deleted = world.alice("DELETE", "/zones/example.com?message=no+more+needed").send().await.ok(200);
    assert_eq!(deleted.json["change"]["message"], "no more needed");

    // By its id, for who held it and for operators.
    for token in [&world.alice, &world.operator] {
        let history = world.with_token(token, "GET", &format!("/zones/{id}/history")).send().await.ok(200);
        assert_eq!(history.json["items"][0]["kinds"], json!(["zone_deleted"]));
    }
    let file = world.alice("GET", &format!("/zones/{id}/export?at={}", revisions[3])).send().await.ok(200);
    assert!(file.text.contains("192.0.2.2"), "{}", file.text);
    world.alice("GET", &format!("/zones/{id}")).send().await.problem(404, "not_found");
    for path in [format!("/zones/{id}/history"), format!("/zones/{id}/export?at={}", revisions[3])] {
        world.bob("GET", &path).send().await.problem(404, "not_found");
    }
    let listed = world.alice("GET", &format!("/changes?zone={id}&limit=1")).send().await.ok(200);
    let zone = &listed.json["items"][0]["zones"][0];
    assert_eq!((&zone["name"], &zone["deleted"]), (&json!("example.com."), &json!(true)));

    world.bob("POST", &format!("/zones/{id}/restore")).send().await.problem(404, "not_found");
    let dry = world.alice("POST", &format!("/zones/{id}/restore?dry_run=true")).send().await.ok(200);
    assert_eq!(dry.json["item"]["rrset_count"], 3);
    let back = world.alice("POST", &format!("/zones/{id}/restore")).send().await.ok(201);
    assert_ne!(back.id(), id);
    assert_eq!(back.json["change"]["message"], format!("restored {id}"));
    assert_eq!(world.records("example.com", "api", "A").await, json!(["192.0.2.9"]));
    // The name is taken now.
    world.alice("POST", &format!("/zones/{id}/restore")).send().await.problem(409, "conflict");
}

#[tokio::test]
async fn changes_are_listed_for_whom_they_concern() {
    let world = World::new().await;
    let (id, revisions) = zone_with_a_past(&world).await;
    world.bob("POST", "/zones").json(&json!({ "name": "bob.example" })).send().await.ok(201);

    let all = world.operator("GET", "/changes").send().await.ok(200);
    let head = world.engine.state().revision();
    assert_eq!(all.json["items"].as_array().unwrap().len() as u64, head);
    assert_eq!(all.json["items"][0]["zones"][0]["name"], "bob.example.");
    let alices = world.alice("GET", "/changes").send().await.ok(200);
    // Her zone's, her tenant's making and her token's.
    assert_eq!(alices.json["items"].as_array().unwrap().len(), 7);
    assert!(!alices.text.contains("bob"), "{}", alices.text);
    assert_eq!(alices.json["items"][0]["message"], "delete www");

    let count = |query: String| {
        let world = &world;
        async move {
            let page = world.operator("GET", &format!("/changes?{query}")).send().await.ok(200);
            page.json["items"].as_array().unwrap().len()
        }
    };
    assert_eq!(count(format!("zone={id}")).await, 5);
    assert_eq!(count("zone=example.com&principal=alice".into()).await, 5);
    assert_eq!(count("zone=example.com&principal=operator".into()).await, 0);
    assert_eq!(count(format!("since={}&until=c{}", revisions[1], revisions[2])).await, 2);
    assert_eq!(count("until=1980-01-01".into()).await, 0);
    assert_eq!(count("since=1980-01-01&principal=system".into()).await, 2);
    let whoami = world.alice("GET", "/whoami").send().await.ok(200);
    let token = whoami.json["token"]["id"].as_str().unwrap().to_owned();
    assert_eq!(count(format!("principal={token}")).await, 5);
    // Page by page, with a filter that most don't pass.
    let (mut seen, mut query) = (0, "limit=2&principal=alice".to_owned());
    loop {
        let page = world.operator("GET", &format!("/changes?{query}")).send().await.ok(200);
        seen += page.json["items"].as_array().unwrap().len();
        let Some(cursor) = page.json["next_cursor"].as_str() else { break };
        query = format!("limit=2&principal=alice&cursor={cursor}");
    }
    assert_eq!(seen, 5);
    // Bob's names are not to be guessed at.
    world.alice("GET", "/changes?principal=bob").send().await.problem(404, "not_found");
    world.alice("GET", "/changes?zone=bob.example").send().await.problem(404, "not_found");
    world.alice("GET", "/changes?since=x").send().await.problem(400, "malformed");
    // A token for one zone sees what was done to that, and what it did itself.
    let token = json!({ "tenant": "alice", "scope": { "zones": ["other.example"] } });
    let narrow = world.token(&token).await;
    let page = world.with_token(&narrow, "GET", "/changes").send().await.ok(200);
    assert_eq!(page.json["items"], json!([]));
}

#[tokio::test]
async fn every_write_takes_a_message() {
    let world = World::new().await;
    let id = world.zone("example.com").await;
    let rrset = json!({ "ttl": 60, "records": ["192.0.2.1"] });
    world.alice("PUT", &format!("/zones/{id}/rrsets/www/A")).json(&rrset).send().await.ok(201);
    let tenant =
        world.operator("POST", "/tenants").json(&json!({ "name": "gone" })).send().await.ok(201).id();
    let pop = world.operator("POST", "/pops").json(&json!({ "name": "gone" })).send().await.ok(201).id();
    let off = json!({ "enabled": false });
    world.operator("PATCH", &format!("/pops/{pop}")).json(&off).send().await.ok(200);
    let token = world.operator("POST", "/tokens").json(&json!({ "tenant": "bob" })).send().await.ok(201).id();
    let set = json!({ "name": "gone", "nameservers": ["ns1.gone.test"], "rname": "dns@gone.test" });
    world.operator("POST", "/nameserver-sets").json(&set).send().await.ok(201);
    for path in [
        format!("/zones/{id}/rrsets/www/A"),
        format!("/tenants/{tenant}"),
        format!("/pops/{pop}"),
        format!("/tokens/{token}"),
        "/nameserver-sets/gone".to_owned(),
        format!("/zones/{id}"),
    ] {
        let done = world.operator("DELETE", &format!("{path}?message=why%20not")).send().await.ok(200);
        assert_eq!(done.json["change"]["message"], "why not", "{path}");
    }
    world.zone("example.net").await;
    let file = "$TTL 60\nwww A 192.0.2.1\n";
    let import = world.alice("POST", "/zones/example.net/import?message=moved").body("text/dns", file);
    assert_eq!(import.send().await.ok(200).json["change"]["message"], "moved");
    // What the body says goes first.
    let patch = json!({ "labels": { "a": "b" }, "message": "body" });
    let done = world.alice("PATCH", "/zones/example.net?message=query").json(&patch).send().await.ok(200);
    assert_eq!(done.json["change"]["message"], "body");
    let long = "x".repeat(1025);
    let done = world.alice("DELETE", &format!("/zones/example.net?message={long}")).send().await;
    done.problem(422, "invalid");
}

#[tokio::test]
async fn the_access_log_tells_denials_and_secrets() {
    let world = World::new().await;
    let id = world.zone("example.com").await;
    world.bob("GET", &format!("/zones/{id}")).send().await.problem(404, "not_found");
    world.bob("GET", "/zones/nowhere.example").send().await.problem(404, "not_found");
    world.bob("GET", "/pops").send().await.problem(403, "forbidden");
    // Another's secret behind the id of bob's token.
    let wrong = format!("{}{}", &world.bob[..32], &world.alice[32..]);
    world.with_token(&wrong, "GET", "/whoami").send().await.problem(401, "unauthenticated");
    world.operator("POST", "/pops").json(&json!({ "name": "ams" })).send().await.ok(201);

    let denied = world.operator("GET", "/access-log?kind=denied").send().await.ok(200);
    let told: Vec<(u64, &str)> = denied.json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["status"].as_u64().unwrap(), item["route"].as_str().unwrap()))
        .collect();
    // What isn't there at all is no denial.
    assert_eq!(told, [(401, "/api/v1/whoami"), (403, "/api/v1/pops"), (404, "/api/v1/zones/{zone}")]);
    let bob = world.bob("GET", "/whoami").send().await.json["token"]["id"].clone();
    assert!(denied.json["items"].as_array().unwrap().iter().all(|item| item["token"] == bob));
    assert!(denied.json["items"][0].get("principal").is_none(), "nobody knows who it was");
    let shown = world.operator("GET", "/access-log?kind=secret_shown").send().await.ok(200);
    assert_eq!(shown.json["items"][0]["route"], "/api/v1/pops");
    let made = world.operator("GET", "/access-log?kind=token_created").send().await.ok(200);
    assert_eq!(made.json["items"].as_array().unwrap().len(), 2);
    let used = world.operator("GET", "/access-log?kind=token_used").send().await.ok(200);
    assert_eq!(used.json["items"].as_array().unwrap().len(), 3, "three tokens, each once");
    let all = world.operator("GET", "/access-log?limit=2").send().await.ok(200);
    let cursor = all.json["next_cursor"].as_str().unwrap();
    let next = world.operator("GET", &format!("/access-log?limit=2&cursor={cursor}")).send().await.ok(200);
    assert!(next.json["items"][0]["number"].as_u64() < all.json["items"][1]["number"].as_u64());
    world.alice("GET", "/access-log").send().await.problem(403, "forbidden");
    // No secret is in it.
    let text = world.operator("GET", "/access-log").send().await.ok(200).text;
    for secret in [&world.operator, &world.alice, &world.bob, &wrong] {
        assert!(!text.contains(&secret[32..]), "{text}");
    }
}
