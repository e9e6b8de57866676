//! Tenants, PoPs, sets of name servers, and who the caller is.

use axum::http::header;
use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn whoami_tells_operator_and_tenant() {
    let world = World::new().await;
    let operator = world.operator("GET", "/whoami").send().await.ok(200);
    assert_eq!((&operator.json["kind"], operator.json.get("tenant")), (&json!("operator"), None));
    world.zone("example.com").await;
    let alice = world.alice("GET", "/whoami").send().await.ok(200);
    assert_eq!((&alice.json["kind"], &alice.json["tenant"]["name"]), (&json!("tenant"), &json!("alice")));
    assert_eq!(alice.json["tenant"]["zone_count"], 1);
    assert_eq!(alice.json["token"]["id"].as_str().unwrap(), &world.alice[4..31]);
}

#[tokio::test]
async fn tenants_are_the_operators_affair() {
    let world = World::new().await;
    let made = world
        .operator("POST", "/tenants")
        .json(&json!({ "name": "carol", "message": "new" }))
        .send()
        .await
        .ok(201);
    let id = made.id();
    assert_eq!(made.header(header::LOCATION), format!("/api/v1/tenants/{id}"));
    world
        .operator("POST", "/tenants")
        .json(&json!({ "name": "carol" }))
        .send()
        .await
        .problem(409, "conflict");
    world
        .operator("POST", "/tenants")
        .json(&json!({ "name": "Not Good" }))
        .send()
        .await
        .problem(422, "invalid");
    for path in ["/tenants/carol", &format!("/tenants/{id}")] {
        assert_eq!(world.operator("GET", path).send().await.ok(200).json["id"], id);
    }
    let patched =
        world.operator("PATCH", "/tenants/carol").json(&json!({ "name": "caroline" })).send().await.ok(200);
    assert_eq!(patched.json["item"]["name"], "caroline");
    world.operator("GET", "/tenants/carol").send().await.problem(404, "not_found");
    let page = world.operator("GET", "/tenants?limit=2").send().await.ok(200);
    let cursor = page.json["next_cursor"].as_str().unwrap();
    let rest = world.operator("GET", &format!("/tenants?cursor={cursor}")).send().await.ok(200);
    assert_eq!(rest.json["items"][0]["id"], id);
    assert!(rest.json.get("next_cursor").is_none());

    world.zone("example.com").await;
    world.operator("DELETE", "/tenants/alice").send().await.problem(409, "conflict");
    let token = world.token(&json!({ "tenant": "caroline" })).await;
    world.operator("DELETE", "/tenants/caroline").send().await.ok(200);
    world.operator("DELETE", "/tenants/caroline").send().await.problem(404, "not_found");
    world.with_token(&token, "GET", "/whoami").send().await.problem(401, "unauthenticated");

    for (method, path) in [
        ("GET", "/tenants"),
        ("POST", "/tenants"),
        ("GET", "/tenants/alice"),
        ("PATCH", "/tenants/alice"),
        ("DELETE", "/tenants/alice"),
        ("GET", "/pops"),
        ("POST", "/pops"),
        ("GET", "/pops/nope"),
        ("PATCH", "/pops/nope"),
        ("DELETE", "/pops/nope"),
        ("DELETE", "/nameserver-sets/main"),
    ] {
        let body = if method == "POST" { json!({ "name": "x" }) } else { json!({}) };
        world.alice(method, path).json(&body).send().await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn pops_have_a_credential_that_is_shown_once() {
    let world = World::new().await;
    let made = world.operator("POST", "/pops").json(&json!({ "name": "ams1" })).send().await.ok(201);
    let secret = made.json["item"]["secret"].as_str().unwrap();
    assert!(secret.starts_with("khp_") && secret.len() == 47);
    let seen = world.operator("GET", "/pops/ams1").send().await.ok(200);
    assert!(seen.json.get("secret").is_none());
    assert_eq!((&seen.json["enabled"], &seen.json["connected"]), (&json!(true), &json!(false)));
    assert_eq!(world.operator("GET", "/pops").send().await.ok(200).json["items"][0]["id"], made.id());
    world.operator("POST", "/pops").json(&json!({ "name": "ams1" })).send().await.problem(409, "conflict");
    let drained =
        world.operator("PATCH", "/pops/ams1").json(&json!({ "drained": true })).send().await.ok(200);
    assert_eq!(drained.json["item"]["drained"], true);
    world.operator("DELETE", "/pops/ams1").send().await.problem(409, "conflict");
    world.operator("PATCH", "/pops/ams1").json(&json!({ "enabled": false })).send().await.ok(200);
    world.operator("DELETE", "/pops/ams1").send().await.ok(200);
    world.operator("GET", "/pops/ams1").send().await.problem(404, "not_found");
}

#[tokio::test]
async fn sets_of_name_servers_move_their_zones_along() {
    let world = World::new().await;
    world.zone("example.com").await;
    let input = |extra: Value| {
        let mut input = json!({
            "name": "main", "nameservers": ["ns3.herald.test"], "rname": "dns.herald.test", "ttl": 900,
        });
        input.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        input
    };
    let put = |body: Value| world.operator("PUT", "/nameserver-sets/main").json(&body).send();
    let changed =
        put(input(json!({ "soa": { "refresh": 1, "retry": 2, "expire": 3, "minimum": 4 } }))).await.ok(200);
    assert_eq!(changed.json["item"]["default"], true, "the default stays one");
    assert_eq!(world.records("example.com", "@", "NS").await, json!(["ns3.herald.test."]));
    let soa = world.records("example.com", "@", "SOA").await;
    let soa = soa[0].as_str().unwrap();
    assert!(soa.starts_with("ns3.herald.test. dns.herald.test. ") && soa.ends_with(" 1 2 3 4"), "{soa}");
    let wrong = put(input(json!({ "nameservers": ["ok.example", "a..b"], "rname": "a..b" }))).await;
    assert_eq!(wrong.problem(422, "invalid"), ["/nameservers/1", "/rname"]);
    assert_eq!(put(input(json!({ "nameservers": [] }))).await.problem(422, "invalid"), ["/nameservers"]);
    let dotted = put(input(json!({ "rname": "host.master@herald.test" }))).await.ok(200);
    assert_eq!(dotted.json["item"]["rname"], r"host\.master.herald.test.");
    world.operator("DELETE", "/nameserver-sets/main").send().await.problem(409, "conflict");
    let other = input(json!({ "name": "other" }));
    let other = world.operator("POST", "/nameserver-sets").json(&other).send().await.ok(201);
    assert_eq!(other.json["item"]["default"], false);
    assert_eq!(
        world.alice("GET", "/nameserver-sets").send().await.ok(200).json["items"].as_array().unwrap().len(),
        2
    );
    world.alice("GET", &format!("/nameserver-sets/{}", other.id())).send().await.ok(200);
    world.alice("POST", "/nameserver-sets").json(&input(json!({}))).send().await.problem(403, "forbidden");
    world.operator("DELETE", "/nameserver-sets/other").send().await.ok(200);
    world.alice("GET", "/nameserver-sets/other").send().await.problem(404, "not_found");
}
