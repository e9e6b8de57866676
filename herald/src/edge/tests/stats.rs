//! Counts of queries: reported by PoPs, read by those who may see the zone.

use axum::http::header;
use serde_json::{Value, json};

use super::World;

const MINUTE_MS: u64 = 60_000;

/// The minute that has begun.
fn now_ms() -> u64 {
    crate::clock::now_ms() / MINUTE_MS * MINUTE_MS
}

/// Makes a PoP, and gives its credential.
async fn pop(world: &World, name: &str) -> String {
    let reply = world.operator("POST", "/pops").json(&json!({ "name": name })).send().await.ok(201);
    reply.json["item"]["secret"].as_str().unwrap().to_owned()
}

fn report(zone: &str, sequence: u64, queries: u64) -> Value {
    json!({
        "zone_id": zone, "period_start": now_ms() / 1000, "sequence": sequence, "query_count": queries, "nxdomain": 1,
        "by_type": { "A": queries }, "by_rcode": { "NOERROR": queries - 1, "NXDOMAIN": 1 }, "by_transport": { "udp": queries },
        "by_country": { "DE": 1 }, "by_pool": { "www.example.com.": { "east": 1 } },
    })
}

#[tokio::test]
async fn what_pops_report_is_read_back_by_those_who_see_the_zone() {
    let world = World::new().await;
    let zone = world.zone("example.com").await;
    let (fra, ams) = (pop(&world, "fra1").await, pop(&world, "ams1").await);
    let post = |secret: &str, body: &Value| world.with_token(secret, "POST", "/sync/stats").json(body).send();
    let both = json!([report(&zone, 1, 10), report(&zone, 2, 20)]);
    let taken = post(&fra, &both).await.ok(200);
    assert_eq!(taken.json, json!({ "counted": 2, "repeated": 0 }));
    let taken = post(&fra, &both).await.ok(200);
    assert_eq!(taken.json, json!({ "counted": 0, "repeated": 2 }));
    // One alone, of another PoP, with a time in words; and one of no zone, with nothing but what it must have.
    let mut one = report(&zone, 1, 5);
    one["period_start"] = json!(jiff::Timestamp::from_millisecond(now_ms() as i64).unwrap().to_string());
    post(&ams, &one).await.ok(200);
    post(&ams, &json!({ "period_start": now_ms() / 1000, "query_count": 3 })).await.ok(200);

    let path = format!("/zones/{zone}/stats");
    for by in [&path, "/zones/example.com/stats"] {
        let read = world.alice("GET", by).send().await.ok(200).json;
        let total = &read["total"];
        assert_eq!((&total["query_count"], &total["nxdomain"]), (&json!(35), &json!(3)), "{read}");
        assert_eq!(total["by_pop"], json!({ "ams1": 5, "fra1": 30 }));
        assert_eq!(total["by_type"], json!({ "A": 35 }));
        assert_eq!(total["by_pool"], json!({ "www.example.com.": { "east": 3 } }));
        assert_eq!(read["periods"].as_array().unwrap().len(), 1);
        assert_eq!(read["periods"][0]["start_ms"], now_ms());
        assert_eq!((&read["step"], &read["name"]), (&json!("1m"), &json!("example.com.")));
    }
    for (step, from) in [("1h", 3_600_000), ("1d", 86_400_000)] {
        let from = now_ms() - from;
        let read =
            world.alice("GET", &format!("{path}?step={step}&from={from}&pop=fra1")).send().await.ok(200).json;
        assert_eq!(read["total"]["query_count"], 30, "{read}");
    }
    assert_eq!(
        world.alice("GET", &format!("{path}?to={}", now_ms())).send().await.ok(200).json["periods"],
        json!([])
    );
    world.bob("GET", &path).send().await.problem(404, "not_found");
    world.call("GET", &path).send().await.problem(401, "unauthenticated");
    world.alice("GET", "/stats").send().await.problem(403, "forbidden");
    let fleet = world.operator("GET", "/stats").send().await.ok(200).json;
    assert_eq!(fleet["total"]["query_count"], 3);
    for bad in [
        "step=2m",
        "from=x",
        "to=2026",
        "from=2026-11-23T00:00:00Z&to=2026-11-22T00:00:00Z",
        "step=1m&from=0",
        "x=1",
    ] {
        world.alice("GET", &format!("{path}?{bad}")).send().await.problem(400, "malformed");
    }
    world.alice("GET", &format!("{path}?pop=nobody")).send().await.problem(404, "not_found");
    let metrics = world.outside("GET", "/metrics").send().await;
    assert!(metrics.text.contains("herald_stats_reports_repeated_total 2"), "{}", metrics.text);

    // What a deleted zone had is still read by its id.
    world.alice("DELETE", &format!("/zones/{zone}")).send().await.ok(200);
    assert_eq!(world.alice("GET", &path).send().await.ok(200).json["total"]["query_count"], 35);
    world.bob("GET", &path).send().await.problem(404, "not_found");
}

#[tokio::test]
async fn hostile_reports_are_refused_whole_and_by_name() {
    let world = World::new().await;
    let zone = world.zone("example.com").await;
    let secret = pop(&world, "fra1").await;
    let post =
        |body: String| world.with_token(&secret, "POST", "/sync/stats").body("application/json", body).send();
    let sound = report(&zone, 1, 10);
    let with = |field: &str, value: Value| {
        let mut bad = sound.clone();
        bad[field] = value;
        bad
    };
    // One that is wrong, and none is taken.
    let table = [
        (with("query_count", json!(0)), 422, "invalid", "/1/nxdomain"),
        (with("zone_id", json!("z1")), 422, "invalid", "/1/zone_id"),
        (with("zone_id", json!(herald_core::ZoneId(7).to_string())), 404, "not_found", "/1/zone_id"),
        (with("period_start", json!("tomorrow")), 422, "invalid", "/1/period_start"),
        (with("by_rcode", json!({ "NOERROR": 9, "FINE": 1 })), 422, "invalid", "/1/by_rcode/FINE"),
        (with("query_count", json!(-1)), 400, "malformed", ""),
        (with("query_count", json!(1.5)), 400, "malformed", ""),
        (with("query_count", json!("10")), 400, "malformed", ""),
        (with("sequence", json!(1e30)), 400, "malformed", ""),
        (with("by_type", json!([1])), 400, "malformed", ""),
        (with("unknown", json!(1)), 400, "malformed", ""),
        (json!(null), 400, "malformed", ""),
        (json!([[]]), 400, "malformed", ""),
    ];
    for (bad, status, code, pointer) in table {
        let reply = post(json!([sound, bad]).to_string()).await;
        let pointers = reply.problem(status, code);
        assert!(pointer.is_empty() || pointers == [pointer], "{bad}: {}", reply.text);
    }
    for text in ["", "{", "[", "null", "1", "\"\"", "{\"query_count\":1}", &"[".repeat(100_000), "[{}]"] {
        post(text.to_owned()).await.problem(400, "malformed");
    }
    let many = vec![json!({ "period_start": 1_795_426_200, "query_count": 1 }); 10_001];
    post(Value::from(many).to_string()).await.problem(413, "too_large");
    post(format!("[{}]", " ".repeat(5 << 20))).await.problem(413, "too_large");
    world
        .with_token(&secret, "POST", "/sync/stats")
        .body("text/plain", sound.to_string())
        .send()
        .await
        .problem(415, "unsupported_media_type");
    // No credential, that of a tenant, one of nobody, one that was disabled.
    for token in [&world.alice, &world.operator, "khp_", &secret[1..]] {
        let reply = world.with_token(token, "POST", "/sync/stats").json(&sound).send().await;
        reply.problem(401, "unauthenticated");
        assert!(!reply.text.contains(token));
    }
    world
        .call("POST", "/sync/stats")
        .header(header::AUTHORIZATION, "Basic eDp5")
        .json(&sound)
        .send()
        .await
        .problem(401, "unauthenticated");
    world.with_token(&secret, "GET", "/zones").send().await.problem(401, "unauthenticated");
    assert_eq!(
        world.alice("GET", "/zones/example.com/stats").send().await.ok(200).json["total"]["query_count"],
        0
    );
    world.operator("PATCH", "/pops/fra1").json(&json!({ "enabled": false })).send().await.ok(200);
    post(sound.to_string()).await.problem(403, "forbidden");
}
