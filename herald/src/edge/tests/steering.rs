//! Steering: documents, items, changes together with records, and what guards it.

use axum::http::header;
use serde_json::{Value, json};

use super::{Reply, World};

/// A document with something of everything.
fn document() -> Value {
    json!({
        "settings": { "ecs": true, "alias_by_region": false },
        "views": { "office": { "prefixes": ["192.0.2.0/24", "2001:db8::/32"] }, "fra": { "pops": ["fra1"] } },
        "pools": {
            "eu": {
                "ttl": 30, "answer": { "up_to": 2 }, "min_healthy": 1,
                "sticky": { "ipv4_prefix": 24, "ipv6_prefix": 56 },
                "endpoints": [
                    {
                        "name": "fra1", "weight": 10, "state": "enabled", "bias": -5,
                        "records": { "A": ["192.0.2.1"], "AAAA": ["2001:db8::1"] },
                        "location": { "latitude": 50.1, "longitude": 8.7 },
                    },
                    { "name": "ams1", "weight": 5, "state": "drained", "records": { "A": ["192.0.2.2"] } },
                ],
            },
            "cdn": {
                "ttl": 60, "answer": "one", "min_healthy": 1,
                "endpoints": [
                    { "name": "x", "weight": 1, "state": "enabled", "records": { "CNAME": ["x.cdn.example.net."] } },
                ],
            },
        },
        "policies": [
            { "name": "@", "type": "A", "rules": [{ "pools": ["eu"], "nearest": true }] },
            { "name": "img", "type": "CNAME", "rules": [{ "pools": ["cdn"] }] },
            { "name": "www", "type": "A", "rules": [
                {
                    "name": "Germany",
                    "when": {
                        "continents": ["EU"], "countries": ["DE"], "subdivisions": ["DE-BE"],
                        "cities": [2_950_159, { "name": "Berlin", "country": "DE" }], "asns": [64_496],
                        "prefixes": ["198.51.100.0/24"], "pops": ["fra1"], "views": ["office"],
                    },
                    "pools": ["eu", "cdn"],
                },
                { "pools": ["eu"] },
            ] },
        ],
        "overlays": [
            { "view": "office", "name": "intranet", "type": "A", "ttl": 60, "records": ["10.0.0.1"] },
            { "view": "office", "name": "secret", "type": "ANY", "hidden": true },
        ],
    })
}

async fn put(world: &World, body: &Value) -> Reply {
    world.alice("PUT", "/zones/example.com/steering").json(body).send().await
}

async fn patch(world: &World, body: Value) -> Reply {
    world.alice("PATCH", "/zones/example.com/steering").json(&body).send().await
}

async fn get(world: &World, path: &str) -> Value {
    world.alice("GET", &format!("/zones/example.com{path}")).send().await.ok(200).json
}

#[tokio::test]
async fn a_document_comes_out_as_it_went_in() {
    let world = World::new().await;
    world.zone("example.com").await;
    assert_eq!(
        get(&world, "/steering").await,
        json!({ "settings": { "ecs": false, "alias_by_region": false } })
    );
    let made = put(&world, &document()).await.ok(200);
    assert_eq!(made.json["item"]["steering_count"], 10);
    assert_eq!(get(&world, "/steering").await, document());

    // The same again changes nothing, and in another zone it is the same.
    let again = put(&world, &document()).await.ok(200);
    assert_eq!(again.json["change"]["id"], made.json["change"]["id"]);
    world.zone("example.org").await;
    world.alice("PUT", "/zones/example.org/steering").json(&document()).send().await.ok(200);
    let other = world.alice("GET", "/zones/example.org/steering").send().await.ok(200);
    assert_eq!(other.json, document());

    // What isn't in the document goes.
    let left = json!({ "pools": { "eu": document()["pools"]["eu"] } });
    put(&world, &left).await.ok(200);
    let now = get(&world, "/steering").await;
    assert_eq!((&now["pools"], now.get("policies")), (&left["pools"], None));
    let at = again.json["change"]["id"].as_str().unwrap();
    assert_eq!(get(&world, &format!("/steering?at={at}")).await, document());

    // Told typed, and taken back.
    let diff = get(&world, &format!("/diff?from={at}")).await;
    let removed: Vec<&str> = diff["steering_removed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["title"].as_str().unwrap())
        .collect();
    assert!(removed.contains(&"policy www A") && removed.contains(&"pool cdn"), "{removed:?}");
    assert_eq!(diff["removed"], json!([]));
    let text =
        world.alice("GET", &format!("/zones/example.com/diff?from={at}&format=text")).send().await.ok(200);
    assert!(text.text.contains("-; policy img CNAME {\"policy\":"), "{}", text.text);
    world.alice("POST", "/zones/example.com/rollback").json(&json!({ "to": at })).send().await.ok(200);
    assert_eq!(get(&world, "/steering").await, document());
}

#[tokio::test]
async fn defaults_are_written_out() {
    let world = World::new().await;
    world.zone("example.com").await;
    let endpoint = |weight: Option<u32>| match weight {
        None => json!({ "name": "a", "records": { "a": ["192.0.2.1"] } }),
        Some(weight) => json!({ "name": "a", "records": { "a": ["192.0.2.1"] }, "weight": weight }),
    };
    for (weight, answer) in [(None, "all"), (Some(7), "one")] {
        let path = format!("/zones/example.com/pools/{answer}");
        let made =
            world.alice("PUT", &path).json(&json!({ "endpoints": [endpoint(weight)] })).send().await.ok(201);
        let mut shown = made.json["item"].clone();
        shown.as_object_mut().unwrap().remove("etag");
        let endpoint = json!({ "name": "a", "records": { "A": ["192.0.2.1"] }, "weight": weight.unwrap_or(1), "state": "enabled" });
        assert_eq!(
            shown,
            json!({ "name": answer, "ttl": 60, "answer": answer, "min_healthy": 1, "endpoints": [endpoint] })
        );
    }
}

#[tokio::test]
async fn items_live() {
    let world = World::new().await;
    let zone = world.zone("example.com").await;
    let base = "/zones/example.com";
    let pool = json!({ "endpoints": [{ "name": "a", "records": { "A": ["192.0.2.1"] } }] });
    let made = world.alice("PUT", &format!("{base}/pools/eu")).json(&pool).send().await.ok(201);
    assert_eq!(made.header(header::LOCATION), format!("/api/v1/zones/{zone}/pools/eu"));
    let etag = made.header(header::ETAG).to_owned();
    assert_eq!(etag, format!("\"{}\"", made.json["item"]["etag"].as_str().unwrap()));
    let seen = world.alice("GET", &format!("{base}/pools/eu")).send().await.ok(200);
    assert_eq!((seen.header(header::ETAG), &seen.json), (&etag[..], &made.json["item"]));

    let rules = json!({ "rules": [{ "when": { "views": ["in"] }, "pools": ["eu"] }, { "pools": ["eu"] }] });
    let policy = format!("{base}/policies/www/A");
    world.alice("PUT", &policy).json(&rules).send().await.problem(422, "invalid");
    let view = json!({ "prefixes": ["10.0.0.0/8"] });
    world.alice("PUT", &format!("{base}/views/in")).json(&view).send().await.ok(201);
    let made = world.alice("PUT", &policy).json(&rules).send().await.ok(201);
    assert_eq!(made.json["item"]["rules"], rules["rules"]);
    let at = made.header(header::LOCATION).strip_prefix("/api/v1").unwrap().to_owned();
    assert_eq!(world.alice("GET", &at).send().await.ok(200).json, made.json["item"]);

    for (name, rtype, body) in [
        ("www", "TXT", json!({ "ttl": 5, "records": ["\"inside\""] })),
        ("www", "AAAA", json!({ "ttl": 5, "records": ["2001:db8::1"] })),
        ("gone", "ANY", json!({ "hidden": true })),
    ] {
        let path = format!("{base}/views/in/records/{name}/{rtype}");
        world.alice("PUT", &path).json(&body).send().await.ok(201);
        let seen = world.alice("GET", &path).send().await.ok(200);
        assert_eq!((&seen.json["name"], &seen.json["type"]), (&json!(name), &json!(rtype)));
        // One that shares its RRset with another has a tag of its own.
        let put = |tag: &str| world.alice("PUT", &path).header(header::IF_MATCH, tag).json(&body).send();
        put("\"0\"").await.problem(412, "precondition_failed");
        put(seen.header(header::ETAG)).await.ok(200);
    }

    // Lists are paged, and pages join to the whole.
    for (list, names) in [
        ("pools", vec!["eu"]),
        ("views", vec!["in"]),
        ("policies", vec!["www"]),
        ("views/in/records", vec!["gone", "www", "www"]),
    ] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get(&world, &format!("/{list}?limit=1{cursor}")).await;
            found.extend(page["items"].as_array().unwrap().iter().map(|one| one["name"].clone()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, names, "{list}");
    }

    // What is used can't go, and the answer says who uses it.
    for (path, user) in [("pools/eu", "the policy www.example.com. A"), ("views/in", "example.com.")] {
        let refused = world.alice("DELETE", &format!("{base}/{path}")).send().await;
        refused.problem(422, "invalid");
        assert!(refused.text.contains(user), "{}", refused.text);
    }
    for path in ["policies/www/A", "views/in/records/www/TXT", "views/in/records/www/AAAA"] {
        world.alice("DELETE", &format!("{base}/{path}")).send().await.ok(200);
        world.alice("DELETE", &format!("{base}/{path}")).send().await.problem(404, "not_found");
    }
    world.alice("DELETE", &format!("{base}/views/in/records/gone/ANY")).send().await.ok(200);
    for path in ["pools/eu", "views/in"] {
        world.alice("DELETE", &format!("{base}/{path}")).send().await.ok(200);
        world.alice("GET", &format!("{base}/{path}")).send().await.problem(404, "not_found");
    }
    let settings = format!("{base}/steering/settings");
    world.alice("PUT", &settings).json(&json!({ "ecs": true })).send().await.ok(200);
    assert_eq!(
        world.alice("GET", &settings).send().await.ok(200).json,
        json!({ "ecs": true, "alias_by_region": false })
    );
    assert_eq!(get(&world, "").await["steering_count"], 1);
}

#[tokio::test]
async fn steering_and_records_in_one_change() {
    let world = World::new().await;
    let id = world.zone("example.com").await;
    let a = json!({ "op": "put", "name": "www", "type": "A", "ttl": 60, "records": ["192.0.2.9"] });
    patch(&world, json!({ "records": [a] })).await.ok(200);
    let pool = json!({ "endpoints": [
        { "name": "a", "records": { "A": ["192.0.2.1"] }, "weight": 1 },
        { "name": "b", "records": { "A": ["192.0.2.2"] }, "weight": 1 },
    ] });
    let policy = json!({ "name": "www", "type": "A", "rules": [{ "pools": ["eu"] }] });
    let changes = json!([
        { "op": "put_policy", "policy": policy },
        { "op": "put_pool", "name": "eu", "pool": pool },
        { "op": "put_settings", "settings": { "ecs": true } },
    ]);
    // Records of the steered type are in the way, and the item that is blamed is the policy.
    let refused = patch(&world, json!({ "changes": changes })).await;
    assert_eq!(refused.problem(422, "invalid"), ["/changes/0"]);
    let delete = json!({ "op": "delete", "name": "www", "type": "A" });
    let before = get(&world, "").await["revision"].as_u64().unwrap();
    let done = patch(&world, json!({ "changes": changes, "records": [delete], "message": "steer www" }))
        .await
        .ok(200);
    assert_eq!(done.json["change"]["revision"].as_u64().unwrap(), before + 1, "one entry");
    assert_eq!(world.records("example.com", "www", "A").await, Value::Null);

    let set = |weight: u32| json!({ "op": "set_endpoint", "name": "eu", "endpoint": "b", "weight": weight });
    let drain = json!({ "op": "set_endpoint", "name": "eu", "endpoint": "a", "state": "drained" });
    patch(&world, json!({ "changes": [set(7), drain] })).await.ok(200);
    let pool = get(&world, "/pools/eu").await;
    assert_eq!(
        (&pool["endpoints"][0]["state"], &pool["endpoints"][1]["weight"]),
        (&json!("drained"), &json!(7))
    );

    let overlay = |rtype: &str, records: Value| json!({ "op": "put_overlay", "overlay": { "view": "in", "name": "x", "type": rtype, "ttl": 1, "records": records } });
    let view = json!({ "op": "put_view", "name": "in", "view": { "prefixes": ["10.0.0.0/8"] } });
    patch(
        &world,
        json!({ "changes": [view, overlay("A", json!(["10.0.0.1"])), overlay("TXT", json!(["\"x\""]))] }),
    )
    .await
    .ok(200);
    assert_eq!(get(&world, "/views/in/records").await["items"].as_array().unwrap().len(), 2);
    let gone = json!({ "op": "delete_overlay", "overlay": { "view": "in", "name": "x", "type": "A" } });
    patch(&world, json!({ "changes": [gone] })).await.ok(200);
    assert_eq!(
        patch(&world, json!({ "changes": [gone] })).await.problem(422, "invalid"),
        ["/changes/0/overlay"]
    );
    let all = json!([
        { "op": "delete_policy", "name": "www", "type": "A" },
        { "op": "delete_pool", "name": "eu" },
    ]);
    patch(&world, json!({ "changes": all })).await.ok(200);

    let history = get(&world, "/history").await;
    assert_eq!(history["items"][4]["message"], "steer www", "{history}");
    assert_eq!(get(&world, "").await["id"], json!(id));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let world = World::new().await;
    world.zone("example.com").await;
    let endpoint = |more: Value| {
        let mut endpoint = json!({ "name": "a", "records": { "A": ["192.0.2.1"] } });
        endpoint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "pools": { "eu": { "endpoints": [endpoint] } } })
    };
    let rule = |rule: Value| {
        let mut document = endpoint(json!({}));
        document["policies"] = json!([{ "name": "www", "type": "A", "rules": [rule] }]);
        document
    };
    let when = |when: Value| rule(json!({ "pools": ["eu"], "when": when }));
    let overlay = |overlay: Value| {
        let mut document =
            json!({ "views": { "in": { "prefixes": ["10.0.0.0/8"] } }, "overlays": [overlay] });
        document["overlays"][0]["view"] = json!("in");
        document
    };
    for (body, pointer) in [
        (endpoint(json!({ "weight": 1_000_001 })), "/pools/eu/endpoints/0/weight"),
        (endpoint(json!({ "bias": 100 })), "/pools/eu/endpoints/0/bias"),
        (endpoint(json!({ "name": "A b" })), "/pools/eu/endpoints/0/name"),
        (endpoint(json!({ "records": { "A": ["nope"] } })), "/pools/eu/endpoints/0/records/A/0"),
        (endpoint(json!({ "records": { "NS": ["a."] } })), "/pools/eu/endpoints/0/records/NS"),
        (endpoint(json!({ "records": { "CNAME": ["a.", "b."] } })), "/pools/eu/endpoints/0/records/CNAME"),
        (
            endpoint(json!({ "location": { "latitude": 91, "longitude": 0 } })),
            "/pools/eu/endpoints/0/location/latitude",
        ),
        (json!({ "pools": { "EU": {} } }), "/pools/EU"),
        (json!({ "pools": { "eu": { "ttl": 2_147_437_384u32 } } }), "/pools/eu/ttl"),
        (json!({ "pools": { "eu": { "answer": { "up_to": 65 } } } }), "/pools/eu/answer/up_to"),
        (json!({ "views": { "in": {} } }), "/views/in"),
        (json!({ "views": { "in": { "prefixes": ["192.0.2.1/24"] } } }), "/views/in/prefixes/0"),
        (rule(json!({ "pools": [] })), "/policies/0/rules/0/pools"),
        (rule(json!({ "pools": ["us"] })), "/policies/0"),
        (rule(json!({ "pools": ["eu"], "nearest": true })), "/policies/0"),
        (when(json!({ "continents": ["XX"] })), "/policies/0/rules/0/when/continents/0"),
        (when(json!({ "countries": ["D1"] })), "/policies/0/rules/0/when/countries/0"),
        (when(json!({ "subdivisions": ["US"] })), "/policies/0/rules/0/when/subdivisions/0"),
        (when(json!({ "cities": [{ "name": "", "country": "DE" }] })), "/policies/0/rules/0/when/cities/0"),
        (when(json!({ "views": ["in"] })), "/policies/0"),
        (overlay(json!({ "name": "x", "type": "NS", "ttl": 1, "records": ["a."] })), "/overlays/0/type"),
        (overlay(json!({ "name": "x", "type": "A", "records": ["10.0.0.1"] })), "/overlays/0/ttl"),
        (overlay(json!({ "name": "x", "type": "A", "ttl": 1, "hidden": true })), "/overlays/0/hidden"),
        (overlay(json!({ "name": "@", "type": "ANY", "hidden": true })), "/overlays/0"),
        (overlay(json!({ "name": "@", "type": "CNAME", "ttl": 1, "records": ["a."] })), "/overlays/0"),
        (
            overlay(json!({ "name": "x", "type": "TYPE65281", "ttl": 1, "records": ["a."] })),
            "/overlays/0/type",
        ),
    ] {
        let reply = put(&world, &body).await;
        assert!(reply.problem(422, "invalid").contains(&pointer), "{pointer}: {}", reply.text);
    }
    for (body, pointer) in [
        (json!({ "pools": { "eu": { "endpoint": [] } } }), "/pools/eu/endpoint"),
        (
            json!({ "policies": [{ "name": "www", "type": "A", "rules": [{ "pool": "eu" }] }] }),
            "/policies/0/rules/0/pool",
        ),
        (json!({ "policies": [{ "name": "www", "type": "A" }] }), "/policies/0"),
    ] {
        let reply = put(&world, &body).await;
        assert_eq!(reply.problem(400, "malformed"), [pointer], "{}", reply.text);
    }
    for (change, pointer) in [
        (json!({ "op": "put_pool", "name": "eu" }), "/changes/0/pool"),
        (json!({ "op": "delete_pool", "name": "eu" }), "/changes/0/name"),
        (json!({ "op": "delete_pool", "name": "eu", "type": "A" }), "/changes/0/type"),
        (json!({ "op": "set_endpoint", "name": "eu", "endpoint": "a" }), "/changes/0/name"),
        (
            json!({ "op": "put_policy", "policy": { "name": "w", "type": "NS", "rules": [] } }),
            "/changes/0/policy/type",
        ),
    ] {
        let reply = patch(&world, json!({ "changes": [change] })).await;
        assert!(reply.problem(422, "invalid").contains(&pointer), "{pointer}: {}", reply.text);
    }
    assert_eq!(get(&world, "").await["steering_count"], 0);
}

#[tokio::test]
async fn records_and_steering_keep_apart() {
    let world = World::new().await;
    world.zone("example.com").await;
    put(&world, &document()).await.ok(200);
    let body = json!({ "ttl": 60, "records": ["\\# 2 0100"] });
    for path in ["/rrsets/www/TYPE65296", "/rrsets/eu._steering/TYPE65281", "/rrsets/@/TYPE65343"] {
        let path = format!("/zones/example.com{path}");
        for call in
            [world.alice("PUT", &path).json(&body), world.alice("GET", &path), world.alice("DELETE", &path)]
        {
            let refused = call.send().await;
            refused.problem(400, "malformed");
            assert!(refused.text.contains("holds steering"), "{}", refused.text);
        }
    }
    let change = json!({ "op": "put", "name": "x", "type": "TYPE65281", "ttl": 1, "records": ["\\# 0"] });
    let batch =
        world.alice("PATCH", "/zones/example.com/rrsets").json(&json!({ "changes": [change] })).send().await;
    assert_eq!(batch.problem(422, "invalid"), ["/changes/0/type"]);
    // The TTL that marks a placeholder is nobody's.
    let marked = json!({ "ttl": 0x7fff_4b48, "records": ["192.0.2.1"] });
    let refused = world.alice("PUT", "/zones/example.com/rrsets/a/A").json(&marked).send().await;
    refused.problem(422, "invalid");
    let listed = get(&world, "/rrsets").await;
    let types: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["NS", "SOA"]);

    // A zone file has no steering, says so, and leaves it alone.
    let file = world.alice("GET", "/zones/example.com/export").send().await.ok(200).text;
    assert!(
        file.starts_with("; 10 RRsets of steering are not in this file") && !file.contains("TYPE65"),
        "{file}"
    );
    let import =
        |file: String| world.alice("POST", "/zones/example.com/import").body("text/dns", file).send();
    import(format!("{file}\nnew 60 IN A 192.0.2.7\n")).await.ok(200);
    assert_eq!(get(&world, "/steering").await, document());
    assert_eq!(world.records("example.com", "new", "A").await, json!(["192.0.2.7"]));
    import(format!("{file}\nwww 60 IN A 192.0.2.7\n")).await.problem(422, "invalid");
    import(format!("{file}\nx 60 IN TYPE65281 \\# 1 01\n")).await.problem(422, "invalid");

    // Rules of CNAME, delegation and DNAME know policies.
    let record = |name: &str, rtype: &str, record: &str| json!({ "records": [{ "op": "put", "name": name, "type": rtype, "ttl": 60, "records": [record] }] });
    for body in [
        record("img", "TXT", "\"x\""),
        record("www", "CNAME", "a."),
        record("www", "NS", "ns.example.net."),
        record("@", "DNAME", "example.net."),
    ] {
        patch(&world, body).await.problem(422, "invalid");
    }
    // In a view a CNAME is alone, too, but it may stand where everybody else gets something, and the other way round.
    let overlay = |rtype: &str, record: &str| {
        let overlay =
            json!({ "view": "office", "name": "intranet", "type": rtype, "ttl": 1, "records": [record] });
        json!({ "changes": [{ "op": "put_overlay", "overlay": overlay }] })
    };
    patch(&world, overlay("CNAME", "www")).await.problem(422, "invalid");
    patch(&world, overlay("TXT", "\"x\"")).await.ok(200);
    patch(&world, record("intranet", "CNAME", "www")).await.ok(200);
    let below = json!({ "op": "put_policy", "policy": { "name": "a.sub", "type": "A", "rules": [{ "pools": ["eu"] }] } });
    let cut = record("sub", "NS", "ns.example.net.");
    patch(&world, cut.clone()).await.ok(200);
    patch(&world, json!({ "changes": [below] })).await.problem(422, "invalid");
    patch(
        &world,
        json!({ "records": [{ "op": "delete", "name": "sub", "type": "NS" }], "changes": [below] }),
    )
    .await
    .ok(200);
    assert_eq!(patch(&world, cut).await.problem(422, "invalid"), ["/records/0"]);
}

#[tokio::test]
async fn rights_are_those_of_the_answered_name_and_type() {
    let world = World::new().await;
    world.zone("example.com").await;
    put(&world, &document()).await.ok(200);
    let token = world
        .token(&json!({ "tenant": "alice", "scope": { "names": ["www.example.com"], "types": ["A"] } }))
        .await;
    let call =
        |method: &str, path: &str| world.with_token(&token, method, &format!("/zones/example.com{path}"));
    let rules = json!({ "rules": [{ "pools": ["eu"] }] });
    call("PUT", "/policies/www/A").json(&rules).send().await.ok(200);
    call("PUT", "/policies/www/AAAA").json(&rules).send().await.problem(403, "forbidden");
    call("PUT", "/policies/img/CNAME").json(&rules).send().await.problem(403, "forbidden");
    call("GET", "/policies/img/CNAME").send().await.problem(403, "forbidden");
    let listed = call("GET", "/policies").send().await.ok(200);
    assert_eq!(listed.json["items"].as_array().unwrap().len(), 1);
    for path in ["/steering", "/pools", "/pools/eu", "/views", "/views/office/records"] {
        call("GET", path).send().await.problem(403, "forbidden");
    }
    // Nor do preconditions tell what there is.
    let pool = json!({ "endpoints": [{ "name": "a", "records": { "A": ["192.0.2.1"] } }] });
    let rules_of_others = json!({ "rules": [{ "pools": ["nobody"] }] });
    for (path, body) in [
        ("/pools/eu", &pool),
        ("/pools/nobody", &pool),
        ("/views/office", &json!({ "prefixes": ["10.0.0.0/8"] })),
        ("/steering/settings", &json!({ "ecs": true })),
        ("/policies/img/CNAME", &rules_of_others),
    ] {
        for (header, value) in [(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")] {
            call("PUT", path).header(header, value).json(body).send().await.problem(403, "forbidden");
        }
    }
    let change =
        json!({ "changes": [{ "op": "set_endpoint", "name": "eu", "endpoint": "fra1", "weight": 1 }] });
    call("PATCH", "/steering").json(&change).send().await.problem(403, "forbidden");
    call("PUT", "/steering").json(&document()).send().await.problem(403, "forbidden");
    world.bob("GET", "/zones/example.com/steering").send().await.problem(404, "not_found");
}

#[tokio::test]
async fn policies_have_a_limit() {
    let world = World::new().await;
    world.zone("example.com").await;
    world
        .operator("PATCH", "/tenants/alice")
        .json(&json!({ "limits": { "policies_per_zone": 3 } }))
        .send()
        .await
        .ok(200);
    put(&world, &document()).await.ok(200);
    let rules = json!({ "rules": [{ "pools": ["eu"] }] });
    let over = world.alice("PUT", "/zones/example.com/policies/more/A").json(&rules).send().await;
    over.problem(403, "quota_exceeded");
    assert!(over.text.contains("policies_per_zone"), "{}", over.text);
}
