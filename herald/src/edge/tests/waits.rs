//! Waiting for PoPs, receipts, health.

use std::time::{Duration, Instant};

use serde_json::json;

use super::World;

#[tokio::test]
async fn past_the_deadline_the_change_is_accepted_all_the_same() {
    let world = World::new().await;
    world.zone("example.com").await;
    let body = json!({ "ttl": 60, "records": ["192.0.2.1"] });
    let put = |name: &str, query: &str| {
        world.alice("PUT", &format!("/zones/example.com/rrsets/{name}/A{query}")).json(&body).send()
    };
    // Nobody to wait for.
    put("a", "?wait=all").await.ok(201);
    world.operator("POST", "/pops").json(&json!({ "name": "ams" })).send().await.ok(201);
    let begin = Instant::now();
    let late = put("b", "?wait=all&timeout_ms=100").await.ok(202);
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!(late.json["change"]["state"], "pending");
    assert_eq!(late.json["change"]["pops"][0]["name"], "ams");
    assert_eq!(late.json["item"]["records"], json!(["192.0.2.1"]));
    put("c", "?wait=quorum&timeout_ms=0").await.ok(202);
    put("d", "").await.ok(201);
    let change = format!("/changes/{}", late.json["change"]["id"].as_str().unwrap());
    let receipt = world.alice("GET", &format!("{change}?wait=all&timeout_ms=50")).send().await.ok(200);
    assert_eq!(receipt.json["state"], "pending");
    world.alice("GET", &format!("{change}?wait=all&timeout_ms=70000")).send().await.problem(400, "malformed");
    // Drained, nobody waits for it.
    world.operator("PATCH", "/pops/ams").json(&json!({ "drained": true })).send().await.ok(200);
    put("e", "?wait=all").await.ok(201);
}

#[tokio::test]
async fn shutting_down_ends_waits_and_readiness() {
    let world = World::new().await;
    world.zone("example.com").await;
    world.operator("POST", "/pops").json(&json!({ "name": "ams" })).send().await.ok(201);
    assert_eq!(world.outside("GET", "/healthz").send().await.ok(200).text, "ok\n");
    world.outside("GET", "/readyz").send().await.ok(200);
    let body = json!({ "ttl": 60, "records": ["192.0.2.1"] });
    let waiting =
        world.alice("PUT", "/zones/example.com/rrsets/a/A?wait=all&timeout_ms=60000").json(&body).send();
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.shutdown.cancel();
    };
    let (reply, ()) =
        tokio::time::timeout(super::SOON, async { tokio::join!(waiting, stopping) }).await.unwrap();
    reply.ok(202);
    world.outside("GET", "/readyz").send().await.problem(503, "unavailable");
    world.outside("GET", "/healthz").send().await.ok(200);
}

#[tokio::test]
async fn metrics_count_by_route() {
    let world = World::new().await;
    let id = world.zone("example.com").await;
    world.alice("GET", &format!("/zones/{id}")).send().await.ok(200);
    world.alice("GET", "/zones/nope.example").send().await;
    world.outside("GET", "/made/up").send().await;
    let text = world.outside("GET", "/metrics").send().await.ok(200).text;
    for line in [
        "herald_http_requests_total{method=\"GET\",route=\"/api/v1/zones/{zone}\",status=\"200\"} 1",
        "herald_http_requests_total{method=\"GET\",route=\"/api/v1/zones/{zone}\",status=\"404\"} 1",
        "herald_http_requests_total{method=\"GET\",route=\"unknown\",status=\"404\"} 1",
        "herald_http_request_seconds_count{method=\"POST\",route=\"/api/v1/zones\"} 1",
        "herald_zones 1",
        "herald_engine_epoch 1",
        "herald_pop_sessions 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("made/up") && !text.contains(&id));
}
