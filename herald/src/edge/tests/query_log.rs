//! The query log: switched on by who may, filled by PoPs, read by who may, and noted.

use axum::http::header;
use serde_json::{Value, json};

use super::World;

async fn pop(world: &World, name: &str) -> String {
    let reply = world.operator("POST", "/pops").json(&json!({ "name": name })).send().await.ok(201);
    reply.json["item"]["secret"].as_str().unwrap().to_owned()
}

fn query(name: &str, ago_ms: u64) -> Value {
    json!({
        "time_ms": crate::clock::now_ms() - ago_ms, "name": name, "type": "AAAA", "rcode": "NXDOMAIN", "transport": "tcp",
        "source": "192.0.2.77", "edns": { "udp_bytes": 1232, "dnssec_ok": true, "client_subnet": "2001:db8:1::/48" },
        "answer_bytes": 99, "truncated": true, "policy": "www.example.com.", "pool": "east",
    })
}

fn batch(sequence: u64, zone: &str, queries: &[Value]) -> Value {
    json!({ "instance": "a1", "sequence": sequence, "zones": [{ "zone_id": zone, "left_out": 5, "queries": queries }] })
}

#[tokio::test]
async fn it_is_switched_on_filled_read_and_switched_off() {
    let world = World::new().await;
    let zone = world.zone("example.com").await;
    let (fra, ams) = (pop(&world, "fra1").await, pop(&world, "ams1").await);
    let path = format!("/zones/{zone}/query-log");
    let post =
        |secret: &str, body: &Value| world.with_token(secret, "POST", "/sync/query-log").json(body).send();
    let off = world.alice("GET", &path).send().await.ok(200).json;
    assert_eq!((&off["on"], &off["records"], off.get("until_ms")), (&json!(false), &json!(0), None), "{off}");
    // Nothing is kept of a zone that isn't logged.
    let none = post(&fra, &batch(1, &zone, &[query("www.example.com.", 0)])).await.ok(200).json;
    assert_eq!(none, json!({ "kept": 0, "passed_over": 1 }));

    let etag = world.alice("GET", &format!("/zones/{zone}")).send().await.header(header::ETAG).to_owned();
    let put = world.alice("PUT", &path).json(&json!({ "for_s": 60, "one_in": 3 })).send().await.ok(200).json;
    let item = &put["item"];
    assert_eq!(
        (&item["on"], &item["one_in"], &item["addresses"]),
        (&json!(true), &json!(3), &json!("whole"))
    );
    let (since, until) = (item["since_ms"].as_u64().unwrap(), item["until_ms"].as_u64().unwrap());
    assert_eq!(until - since, 60_000);
    assert_eq!(put["change"]["zones"][0]["name"], "example.com.");
    assert_eq!(world.alice("GET", &format!("/zones/{zone}")).send().await.header(header::ETAG), etag);

    let many: Vec<Value> = (0..5).map(|n| query(&format!("n{n}.example.com."), 5_000 - n * 1_000)).collect();
    let body = batch(2, &zone, &many);
    assert_eq!(post(&fra, &body).await.ok(200).json, json!({ "kept": 5, "passed_over": 0 }));
    // Once, however often it comes; of another process, and another PoP, it is another.
    assert_eq!(post(&fra, &body).await.ok(200).json, json!({ "kept": 0, "passed_over": 5 }));
    assert_eq!(post(&fra, &batch(1, &zone, &many)).await.ok(200).json["kept"], 0);
    post(&ams, &batch(2, &zone, &[query("www.example.com.", 500)])).await.ok(200);
    let state = world.alice("GET", &path).send().await.ok(200).json;
    assert_eq!((&state["records"], &state["left_out"]), (&json!(6), &json!(10)), "{state}");

    let read = |query: &str| world.alice("GET", &format!("{path}/records{query}")).send();
    let all = read("").await.ok(200).json;
    let names = |page: &Value| -> Vec<String> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let newest_first = ["www.example.com.", "n4.example.com.", "n3.example.com.", "n2.example.com."];
    assert_eq!(names(&all)[..4], newest_first);
    let first = &all["items"][0];
    for (field, value) in [
        ("pop", json!("ams1")),
        ("type", json!("AAAA")),
        ("rcode", json!("NXDOMAIN")),
        ("transport", json!("tcp")),
        ("source", json!("192.0.2.77")),
        ("edns", json!({ "udp_bytes": 1232, "dnssec_ok": true, "client_subnet": "2001:db8:1::/48" })),
        ("answer_bytes", json!(99)),
        ("truncated", json!(true)),
        ("dropped", json!(false)),
        ("policy", json!("www.example.com.")),
        ("pool", json!("east")),
    ] {
        assert_eq!(first[field], value, "{field}: {first}");
    }
    // Pages join to the whole, and filters leave out.
    let (mut cursor, mut paged) = (String::new(), Vec::new());
    loop {
        let page = read(&format!("?limit=2{cursor}")).await.ok(200).json;
        paged.extend(names(&page));
        let Some(next) = page.get("next_cursor").and_then(Value::as_str) else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, names(&all));
    let now = crate::clock::now_ms();
    for (filter, count) in [
        ("?name=www".to_owned(), 1),
        ("?name=n2.example.com.&type=AAAA&rcode=nxdomain".into(), 1),
        ("?type=A".into(), 0),
        ("?rcode=NOERROR".into(), 0),
        ("?pop=fra1".into(), 5),
        (format!("?since={}", now - 1_800), 2),
        (format!("?until={}", now - 1_800), 4),
        (format!("?since={}&until={}", now - 3_500, now - 1_500), 2),
    ] {
        let page = read(&filter).await.ok(200).json;
        assert_eq!(names(&page).len(), count, "{filter}: {page}");
    }
    for bad in ["?limit=0", "?cursor=x", "?since=x", "?type=x!", "?rcode=FINE", "?name=a..b", "?x=1"] {
        read(bad).await.problem(400, "malformed");
    }
    read("?pop=nobody").await.problem(404, "not_found");

    // It is noted who read it.
    let noted = world.operator("GET", "/access-log?kind=query_log_read").send().await.ok(200).json;
    assert_eq!(noted["items"][0]["route"], "/api/v1/zones/{zone}/query-log/records", "{noted}");
    let history = world.alice("GET", &format!("/zones/{zone}/history")).send().await.ok(200).json;
    assert_eq!(history["items"][0]["kinds"], json!(["query_log_set"]), "{history}");

    let ended = world.alice("DELETE", &path).send().await.ok(200).json;
    assert_eq!(ended["item"]["on"], false, "{ended}");
    // What is still on its way comes in; switched on anew, what was left out is counted anew.
    assert_eq!(post(&fra, &batch(3, &zone, &many[..1])).await.ok(200).json["kept"], 1);
    world.alice("PUT", &path).json(&json!({})).send().await.ok(200);
    let state = world.alice("GET", &path).send().await.ok(200).json;
    assert_eq!((&state["records"], &state["left_out"], &state["one_in"]), (&json!(7), &json!(0), &json!(1)));
    let metrics = world.outside("GET", "/metrics").send().await;
    assert!(metrics.text.contains("herald_query_log_records_total 7"), "{}", metrics.text);
    assert!(metrics.text.contains("herald_query_log_left_out_total 15"), "{}", metrics.text);

    // It goes with its zone.
    world.alice("DELETE", &format!("/zones/{zone}")).send().await.ok(200);
    read("").await.problem(404, "not_found");
    assert_eq!(post(&fra, &batch(4, &zone, &many[..1])).await.ok(200).json["kept"], 0);
}

#[tokio::test]
async fn who_may_not_change_the_zone_sees_no_clients() {
    let world = World::new().await;
    let zone = world.zone("example.com").await;
    let path = format!("/zones/{zone}/query-log");
    let records = format!("{path}/records");
    world.alice("PUT", &path).json(&json!({})).send().await.ok(200);
    let scoped = |scope: Value| json!({ "tenant": "alice", "scope": scope });
    let reader = world.token(&scoped(json!({ "verbs": ["read"] }))).await;
    let editor = world.token(&scoped(json!({ "verbs": ["read", "write"] }))).await;
    let www = world.token(&scoped(json!({ "names": ["www.example.com"] }))).await;
    world.with_token(&reader, "GET", &path).send().await.ok(200);
    for token in [&reader, &editor, &www] {
        world.with_token(token, "GET", &records).send().await.problem(403, "forbidden");
        world.with_token(token, "PUT", &path).json(&json!({})).send().await.problem(403, "forbidden");
        world.with_token(token, "DELETE", &path).send().await.problem(403, "forbidden");
    }
    for path in [&path, &records] {
        world.bob("GET", path).send().await.problem(404, "not_found");
        world.call("GET", path).send().await.problem(401, "unauthenticated");
    }
    world.bob("PUT", &path).json(&json!({})).send().await.problem(404, "not_found");
    world.operator("GET", &records).send().await.ok(200);

    for (body, pointer) in [
        (json!({ "for_s": 0 }), "/for_s"),
        (json!({ "for_s": 3_601 }), "/for_s"),
        (json!({ "for_s": u64::MAX }), "/for_s"),
        (json!({ "one_in": 0 }), "/one_in"),
        (json!({ "one_in": 10_001 }), "/one_in"),
    ] {
        let reply = world.alice("PUT", &path).json(&body).send().await;
        assert_eq!(reply.problem(422, "invalid"), [pointer], "{body}");
    }
    for body in [json!({ "one_in": "3" }), json!({ "until": 5 }), json!(null), json!({ "for_s": -1 })] {
        world.alice("PUT", &path).json(&body).send().await.problem(400, "malformed");
    }
    world
        .operator("PATCH", "/tenants/alice")
        .json(&json!({ "limits": { "query_logs": 1 } }))
        .send()
        .await
        .ok(200);
    world.zone("example.net").await;
    let over = world.alice("PUT", "/zones/example.net/query-log").json(&json!({})).send().await;
    over.problem(403, "quota_exceeded");
    assert!(over.json["detail"].as_str().unwrap().contains("query_logs"), "{}", over.text);
}

#[tokio::test]
async fn hostile_batches_are_refused_whole_and_by_name() {
    let world = World::new().await;
    let zone = world.zone("example.com").await;
    world.alice("PUT", &format!("/zones/{zone}/query-log")).json(&json!({})).send().await.ok(200);
    let secret = pop(&world, "fra1").await;
    let post = |body: &Value| world.with_token(&secret, "POST", "/sync/query-log").json(body).send();
    let with = |field: &str, value: Value| {
        let mut bad = query("www.example.com.", 0);
        bad[field] = value;
        batch(1, &zone, &[query("www.example.com.", 0), bad])
    };
    let edns = |subnet: &str| json!({ "udp_bytes": 1, "client_subnet": subnet });
    for (field, value, pointer) in [
        ("name", json!("a..b"), "/name"),
        ("type", json!("WHAT"), "/type"),
        ("rcode", json!("FINE"), "/rcode"),
        ("transport", json!("pigeon"), "/transport"),
        ("source", json!("192.0.2.0/24"), "/source"),
        ("policy", json!(""), "/policy"),
        ("pool", json!("p".repeat(256)), "/pool"),
        ("edns", edns("192.0.2.0/33"), "/edns/client_subnet"),
        ("edns", edns("192.0.2.0"), "/edns/client_subnet"),
    ] {
        let reply = post(&with(field, value.clone())).await;
        assert_eq!(reply.problem(422, "invalid"), [format!("/zones/0/queries/1{pointer}")], "{value}");
    }
    for (field, value) in [("time_ms", json!(-1)), ("answer_bytes", json!(1.5)), ("unknown", json!(1))] {
        post(&with(field, value)).await.problem(400, "malformed");
    }
    let mut bad = batch(1, "z1", &[]);
    assert_eq!(post(&bad).await.problem(422, "invalid"), ["/zones/0/zone_id"]);
    bad["instance"] = json!("../x");
    assert_eq!(post(&bad).await.problem(422, "invalid"), ["/instance"]);
    assert_eq!(post(&batch(0, &zone, &[])).await.problem(422, "invalid"), ["/sequence"]);
    // A clock that is far off: a record is of now at the latest, and never so old that it is erased at once.
    let (mut ahead, mut behind) = (query("ahead.example.com.", 0), query("behind.example.com.", 0));
    ahead["time_ms"] = json!(u64::MAX);
    behind["time_ms"] = json!(0);
    assert_eq!(post(&batch(1, &zone, &[ahead, behind])).await.ok(200).json["kept"], 2);
    let page = world.alice("GET", &format!("/zones/{zone}/query-log/records")).send().await.ok(200).json;
    let times: Vec<u64> = (0..2).map(|n| page["items"][n]["time_ms"].as_u64().unwrap()).collect();
    let now = crate::clock::now_ms();
    assert!(times[0] <= now && times[1] >= now - 2 * 3_600_000 - 60_000, "{page}");
    // No credential, and those of others.
    for token in [&world.alice, &world.operator, "khp_", &secret[1..]] {
        let reply =
            world.with_token(token, "POST", "/sync/query-log").json(&batch(9, &zone, &[])).send().await;
        reply.problem(401, "unauthenticated");
    }
    world.operator("PATCH", "/pops/fra1").json(&json!({ "enabled": false })).send().await.ok(200);
    post(&batch(9, &zone, &[])).await.problem(403, "forbidden");
}
