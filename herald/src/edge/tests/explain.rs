//! Which answer a client gets, and why; and what is odd about policies.

use serde_json::{Value, json};

use super::World;

async fn world() -> World {
    let world = World::new().await;
    world.zone("example.com").await;
    let records = json!([
        { "op": "put", "name": "plain", "type": "A", "ttl": 5, "records": ["192.0.2.9"] },
        { "op": "put", "name": "alias", "type": "CNAME", "ttl": 5, "records": ["www.example.com."] },
        { "op": "put", "name": "sub", "type": "NS", "ttl": 5, "records": ["ns.example.net."] },
        { "op": "put", "name": "intranet", "type": "A", "ttl": 5, "records": ["192.0.2.10"] },
    ]);
    let endpoints = json!([
        { "name": "a", "records": { "A": ["192.0.2.1"] }, "weight": 3 },
        { "name": "b", "records": { "A": ["192.0.2.2"] }, "weight": 1 },
        { "name": "c", "records": { "A": ["192.0.2.3"] }, "weight": 1, "state": "disabled" },
    ]);
    let office = json!({ "endpoints": [{ "name": "in", "records": { "A": ["10.0.0.1"] } }] });
    let rules = json!([
        { "name": "the office", "when": { "views": ["office"] }, "pools": ["office"] },
        { "when": { "prefixes": ["203.0.113.0/24"] }, "pools": ["empty", "web"] },
        { "when": { "prefixes": ["198.51.100.0/24"], "pops": ["fra1"] }, "pools": ["office"] },
        { "when": { "countries": ["DE"] }, "pools": ["office"] },
        { "pools": ["web"] },
    ]);
    let overlay = |name: &str, rtype: &str, records: Value| {
        let mut overlay = json!({ "view": "office", "name": name, "type": rtype });
        if records.is_null() {
            overlay["hidden"] = json!(true);
        } else {
            overlay["ttl"] = json!(9);
            overlay["records"] = records;
        }
        json!({ "op": "put_overlay", "overlay": overlay })
    };
    let changes = json!([
        { "op": "put_settings", "settings": { "ecs": true } },
        { "op": "put_view", "name": "office", "view": { "prefixes": ["10.0.0.0/8"] } },
        { "op": "put_pool", "name": "web", "pool": { "ttl": 30, "endpoints": endpoints } },
        { "op": "put_pool", "name": "office", "pool": office },
        { "op": "put_pool", "name": "empty", "pool": {} },
        { "op": "put_policy", "policy": { "name": "www", "type": "A", "rules": rules } },
        { "op": "put_policy", "policy": { "name": "*.wild", "type": "A", "rules": [{ "pools": ["web"] }] } },
        overlay("intranet", "A", json!(["10.0.0.7"])),
        overlay("plain", "ANY", Value::Null),
        overlay("only", "TXT", json!(["\"inside\""])),
    ]);
    let patch = json!({ "changes": changes, "records": records });
    world.alice("PATCH", "/zones/example.com/steering").json(&patch).send().await.ok(200);
    world
}

async fn explain(world: &World, query: &str) -> Value {
    world.alice("GET", &format!("/explain?{query}")).send().await.ok(200).json
}

#[tokio::test]
async fn a_decision_is_explained() {
    let world = world().await;
    let told = explain(&world, "name=www.example.com&type=A&client=203.0.113.7").await;
    assert_eq!((&told["outcome"], &told["owner"]), (&json!("steered"), &json!("www.example.com.")));
    let decision = &told["decision"];
    let rules: Vec<(&Value, &Value)> =
        decision["rules"].as_array().unwrap().iter().map(|rule| (&rule["verdict"], &rule["unmet"])).collect();
    assert_eq!(rules, [(&json!("unmet"), &json!("views")), (&json!("matched"), &Value::Null)]);
    assert_eq!(decision["rules"][0]["name"], "the office");
    let pools: Vec<(&Value, &Value)> =
        decision["pools"].as_array().unwrap().iter().map(|pool| (&pool["name"], &pool["verdict"])).collect();
    assert_eq!(pools, [(&json!("empty"), &json!("nothing")), (&json!("web"), &json!("answers"))]);
    assert_eq!(
        decision["answers"],
        json!([{ "record": "192.0.2.1", "odds": 0.75 }, { "record": "192.0.2.2", "odds": 0.25 }])
    );
    assert_eq!(decision["pools"][1]["endpoints"][2]["verdict"], "disabled");
    assert!(decision.get("answer").is_none() && decision.get("ecs_scope").is_none());
    let zone = world.alice("GET", "/zones/example.com").send().await.ok(200).json;
    assert_eq!((&told["zone"], &told["revision"]), (&zone["id"], &zone["revision"]));

    // With a draw there is one answer, the same each time.
    let drawn = explain(&world, "name=www.example.com&client=203.0.113.7&draw=42").await;
    assert_eq!(drawn["decision"]["answer"]["ttl"], 30);
    assert_eq!(drawn, explain(&world, "name=WWW.example.com.&type=a&client=203.0.113.7&draw=42").await);

    // The client subnet counts for prefixes and never for views, and its scope is told: whoever asks gets the same here, by whatever rule.
    let ecs = explain(&world, "name=www.example.com&client=192.0.2.53&ecs=203.0.113.0/24").await;
    assert_eq!((&ecs["decision"]["by_ecs"], &ecs["decision"]["ecs_scope"]), (&json!(true), &json!(0)));
    assert_eq!(ecs["decision"]["rules"].as_array().unwrap().len(), 2);
    let office = explain(&world, "name=www.example.com&client=192.0.2.53&ecs=10.0.0.0/8").await;
    assert_eq!(office["decision"]["rules"].as_array().unwrap().len(), 5);
    let office = explain(&world, "name=www.example.com&client=10.1.1.1").await;
    assert_eq!(office["decision"]["answer"]["records"], json!(["10.0.0.1"]));

    for (pop, rules) in [("fra1", 3), ("ams1", 5)] {
        let told = explain(&world, &format!("name=www.example.com&client=198.51.100.1&pop={pop}")).await;
        assert_eq!(told["decision"]["rules"].as_array().unwrap().len(), rules, "{pop}");
    }
}

#[tokio::test]
async fn names_without_policies_are_explained() {
    let world = world().await;
    for (name, rtype, client, outcome, owner) in [
        ("plain", "A", "192.0.2.53", "records", json!("plain.example.com.")),
        ("plain", "A", "10.0.0.1", "no_such_name", Value::Null),
        ("plain", "TXT", "192.0.2.53", "no_data", json!("plain.example.com.")),
        ("alias", "A", "192.0.2.53", "records", json!("alias.example.com.")),
        ("a.wild", "A", "192.0.2.53", "steered", json!("*.wild.example.com.")),
        ("a.wild", "AAAA", "192.0.2.53", "no_data", json!("*.wild.example.com.")),
        ("wild", "A", "192.0.2.53", "no_data", json!("wild.example.com.")),
        ("nope", "A", "192.0.2.53", "no_such_name", Value::Null),
        ("x.sub", "A", "192.0.2.53", "delegated", json!("sub.example.com.")),
        ("intranet", "A", "192.0.2.53", "records", json!("intranet.example.com.")),
        ("intranet", "A", "10.0.0.1", "overlay", json!("intranet.example.com.")),
        ("only", "TXT", "10.0.0.1", "overlay", json!("only.example.com.")),
        ("only", "TXT", "192.0.2.53", "no_such_name", Value::Null),
    ] {
        let told = explain(&world, &format!("name={name}.example.com&type={rtype}&client={client}")).await;
        assert_eq!(
            (&told["outcome"], &told["owner"]),
            (&json!(outcome), &owner),
            "{name} {rtype} {client}: {told}"
        );
    }
    let apex = explain(&world, "name=example.com&type=SOA&client=192.0.2.53").await;
    assert_eq!(apex["answered_type"], "SOA");
}

#[tokio::test]
async fn the_past_is_explained_and_others_zones_are_not() {
    let world = world().await;
    let before =
        world.alice("GET", "/zones/example.com").send().await.ok(200).json["revision"].as_u64().unwrap();
    let set = json!({ "changes": [{ "op": "set_endpoint", "name": "web", "endpoint": "b", "weight": 3 }] });
    world.alice("PATCH", "/zones/example.com/steering").json(&set).send().await.ok(200);
    for (at, odds) in [(String::new(), 0.5), (format!("&at={before}"), 0.75)] {
        let told = explain(&world, &format!("name=www.example.com&client=203.0.113.7{at}")).await;
        assert_eq!(told["decision"]["answers"][0]["odds"], odds, "{at}");
        // Tables of places aren't kept.
        let note = told["note"].as_str().unwrap_or_default();
        assert_eq!(note.contains("GeoIP databases of now"), !at.is_empty(), "{told}");
    }
    let get = |path: &str| world.alice("GET", path).send();
    for path in [
        "/explain?client=192.0.2.1",
        "/explain?name=www.example.com",
        "/explain?name=www.example.com&client=nobody",
        "/explain?name=www.example.com&client=192.0.2.1&ecs=192.0.2.1/24",
        "/explain?name=www.example.com&client=192.0.2.1&type=NOPE",
        "/explain?name=www.example.org&client=192.0.2.1&zone=example.com",
    ] {
        get(path).await.problem(400, "malformed");
    }
    get("/explain?name=www.example.org&client=192.0.2.1").await.problem(404, "not_found");
    world.bob("GET", "/explain?name=www.example.com&client=192.0.2.1").send().await.problem(404, "not_found");
    world.operator("GET", "/explain?name=www.example.com&client=192.0.2.1").send().await.ok(200);
}

#[tokio::test]
async fn what_is_odd_is_told_with_each_change() {
    let world = World::new().await;
    world.zone("example.com").await;
    let pool = json!({ "endpoints": [{ "name": "a", "records": { "A": ["192.0.2.1"] } }] });
    world.alice("PUT", "/zones/example.com/pools/web").json(&pool).send().await.ok(201);
    let rules = json!({ "rules": [
        { "when": { "countries": ["DE"] }, "pools": ["web"] },
        { "when": { "countries": ["DE"], "asns": [64_496] }, "pools": ["web"] },
    ] });
    let made = world.alice("PUT", "/zones/example.com/policies/www/A").json(&rules).send().await.ok(201);
    let codes = |reply: &Value| -> Vec<String> {
        reply["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["code"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(codes(&made.json), ["rule_shadowed", "clients_fall_through"], "{}", made.text);
    assert!(made.text.contains("policy www A: rule 2: "), "{}", made.text);
    // A change of the pool is one of the policy's answers.
    let disabled =
        json!({ "changes": [{ "op": "set_endpoint", "name": "web", "endpoint": "a", "state": "disabled" }] });
    let patch =
        world.alice("PATCH", "/zones/example.com/steering?dry_run=true").json(&disabled).send().await.ok(200);
    assert!(codes(&patch.json).contains(&"pool_cannot_answer".to_owned()), "{}", patch.text);
    let list = world.alice("GET", "/zones/example.com/steering/lint").send().await.ok(200);
    assert_eq!(list.json["items"], made.json["warnings"]);
}
