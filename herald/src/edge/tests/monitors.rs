//! Monitors, heartbeats and rules of what may be probed.

use axum::http::header;
use serde_json::{Value, json};

use super::{Reply, SOON, World};
use crate::clock;

fn https(name: &str) -> Value {
    json!({ "name": name, "check": { "kind": "https", "target": "www.example.com", "path": "/health" } })
}

fn heartbeat(interval_ms: u32) -> Value {
    let pace = json!({ "interval_ms": interval_ms, "timeout_ms": 1000 });
    json!({ "name": "cron", "check": { "kind": "heartbeat" }, "pace": pace })
}

impl World {
    async fn monitor(&self, body: &Value) -> Reply {
        self.alice("POST", "/monitors").json(body).send().await.ok(201)
    }

    /// Waits till this is held of a monitor of alice's.
    async fn monitor_is(&self, monitor: &str, state: &str) -> Reply {
        let until = std::time::Instant::now() + SOON;
        loop {
            let reply = self.alice("GET", &format!("/monitors/{monitor}")).send().await.ok(200);
            if reply.json["state"] == state {
                return reply;
            }
            assert!(std::time::Instant::now() < until, "not {state}: {}", reply.text);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_monitor_is_made_shown_changed_and_deleted() {
    let world = World::new().await;
    let made = world.monitor(&https("web")).await;
    assert_eq!(made.header(header::LOCATION), "/api/v1/monitors/1");
    let item = &made.json["item"];
    assert_eq!((&item["id"], &item["state"]), (&json!(1), &json!("unknown")));
    assert_eq!(item["check"]["port"], 443);
    assert_eq!(item["check"]["tls"], json!({ "accept_any": false, "days_left_min": 0 }));
    assert_eq!(item["pace"]["timeout_ms"], 2000);

    let shown = world.alice("GET", "/monitors/web").send().await.ok(200);
    assert_eq!(shown.json["id"], 1);
    let tag = shown.header(header::ETAG).to_owned();
    assert_eq!(tag, made.header(header::ETAG));
    // What is shown can be put again.
    let mut body = json!({ "name": "web", "check": shown.json["check"], "pace": shown.json["pace"] });
    let same = world.alice("PUT", "/monitors/1").json(&body).send().await.ok(200);
    assert_eq!(same.header(header::ETAG), tag, "all is so already");
    body["pace"]["interval_ms"] = json!(5000);
    let put =
        world.alice("PUT", "/monitors/web").header(header::IF_MATCH, &tag).json(&body).send().await.ok(200);
    assert_ne!(put.header(header::ETAG), tag);
    let stale = world.alice("PUT", "/monitors/web").header(header::IF_MATCH, &tag).json(&body).send().await;
    stale.problem(412, "precondition_failed");

    let history = world.alice("GET", "/monitors/web/history").send().await.ok(200);
    let events: Vec<&Value> =
        history.json["items"].as_array().unwrap().iter().map(|item| &item["event"]).collect();
    assert_eq!(events, ["put", "put"]);
    world.alice("DELETE", "/monitors/web").send().await.ok(200);
    world.alice("GET", "/monitors/web").send().await.problem(404, "not_found");
    world.alice("GET", "/monitors/1").send().await.problem(404, "not_found");
    // Its history outlives it, for who might have seen it.
    let history = world.alice("GET", "/monitors/1/history").send().await.ok(200);
    let events: Vec<&Value> =
        history.json["items"].as_array().unwrap().iter().map(|item| &item["event"]).collect();
    assert_eq!(events, ["deleted", "put", "put"]);
    world.bob("GET", "/monitors/1/history").send().await.problem(404, "not_found");
    world.alice("GET", "/monitors/2/history").send().await.problem(404, "not_found");
    let changes = world.alice("GET", "/changes").send().await.ok(200);
    assert_eq!(changes.json["items"][0]["kinds"], json!(["monitor_deleted"]));
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let world = World::new().await;
    for n in 0..5 {
        world.monitor(&https(&format!("web-{n}"))).await;
    }
    world
        .monitor(
            &json!({ "name": "db", "check": { "kind": "tcp", "target": "db.example.com", "port": 5432 } }),
        )
        .await;
    world.monitor(&json!({ "name": "off", "enabled": false, "check": { "kind": "icmp", "target": "a.example.com" } })).await;
    world.bob("POST", "/monitors").json(&https("bobs")).send().await.ok(201);
    let names = |reply: &Reply| {
        let items = reply.json["items"].as_array().unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.alice("GET", &format!("/monitors?limit=3{cursor}")).send().await.ok(200);
        all.extend(names(&page));
        let Some(next) = page.json["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(all, ["db", "off", "web-0", "web-1", "web-2", "web-3", "web-4"]);
    for (query, expected) in [
        ("kind=tcp", vec!["db"]),
        ("state=off", vec!["off"]),
        ("name=web-3", vec!["web-3"]),
        ("state=up", vec![]),
    ] {
        let page = world.alice("GET", &format!("/monitors?{query}")).send().await.ok(200);
        assert_eq!(names(&page), expected, "{query}");
    }
    let all = world.operator("GET", "/monitors").send().await.ok(200);
    assert_eq!(names(&all).len(), 8);
    let bobs = world.operator("GET", "/monitors?tenant=bob").send().await.ok(200);
    assert_eq!(names(&bobs), ["bobs"]);
    world.alice("GET", "/monitors?tenant=bob").send().await.problem(404, "not_found");
    world.alice("GET", "/monitors?state=broken").send().await.problem(400, "malformed");
}

/// What is another's isn't there; a token for something else can't.
#[tokio::test]
async fn monitors_are_their_tenants() {
    let world = World::new().await;
    world.monitor(&https("web")).await;
    for (method, path) in [
        ("GET", "/monitors/1"),
        ("DELETE", "/monitors/1"),
        ("GET", "/monitors/1/history"),
        ("GET", "/monitors/web"),
    ] {
        world.bob(method, path).send().await.problem(404, "not_found");
    }
    world.bob("PUT", "/monitors/1").json(&https("web")).send().await.problem(404, "not_found");
    let of_alices = json!({ "name": "x", "check": { "kind": "calculated", "of": [1], "at_least": 1 } });
    let refused = world.bob("POST", "/monitors").json(&of_alices).send().await;
    assert_eq!(refused.problem(422, "invalid"), ["/check/of/0"]);
    for (scope, status) in [
        (json!({ "verbs": ["read"] }), 403),
        (json!({ "zones": ["example.com"] }), 403),
        (json!({ "zones": ["example.com"], "verbs": ["monitor"] }), 201),
    ] {
        let token = world.token(&json!({ "tenant": "alice", "scope": scope })).await;
        let tried = world.with_token(&token, "POST", "/monitors").json(&https("other")).send().await;
        assert_eq!(tried.status, status, "{scope}");
    }
    world.alice("GET", "/probe-rules").send().await.problem(403, "forbidden");
}

#[tokio::test]
async fn hostile_bodies() {
    let world = World::new().await;
    let check = |check: Value| json!({ "name": "x", "check": check });
    for (body, pointers) in [
        (check(json!({ "kind": "tcp", "target": "169.254.169.254", "port": 80 })), vec!["/check/target"]),
        (check(json!({ "kind": "tcp", "target": "::ffff:127.0.0.1", "port": 80 })), vec!["/check/target"]),
        (
            check(json!({ "kind": "tcp", "target": "2130706433", "port": 0 })),
            vec!["/check/target", "/check/port"],
        ),
        (
            check(
                json!({ "kind": "http", "target": "a.example.com", "host": "a\r\nX-Evil: 1", "path": "/\nGET" }),
            ),
            vec!["/check/path", "/check/host"],
        ),
        (check(json!({ "kind": "http", "target": "a.example.com", "tls": {} })), vec!["/check/tls"]),
        (
            check(json!({ "kind": "dns", "target": "9.9.9.9", "name": "a..b", "type": "BOGUS" })),
            vec!["/check/name", "/check/type"],
        ),
        (
            check(json!({ "kind": "calculated", "of": [], "at_least": 0 })),
            vec!["/check/of", "/check/at_least"],
        ),
        (
            json!({ "name": "x", "check": { "kind": "icmp", "target": "a.example.com" },
                    "pace": { "interval_ms": 10, "timeout_ms": 20, "fall": 0 } }),
            vec!["/pace/interval_ms", "/pace/timeout_ms", "/pace/timeout_ms", "/pace/fall"],
        ),
    ] {
        let refused = world.alice("POST", "/monitors").json(&body).send().await;
        assert_eq!(refused.problem(422, "invalid"), pointers, "{body}");
    }
    for body in [
        check(json!({ "kind": "ftp", "target": "a.example.com" })),
        check(json!({ "kind": "tcp", "target": "a.example.com", "port": 65536 })),
        check(json!({ "kind": "tcp", "target": "a.example.com", "port": 1, "extra": true })),
        check(json!({ "kind": "heartbeat", "secret": "guess" })),
        check(json!({ "kind": "calculated", "of": [-1], "at_least": 1 })),
        check(json!("http")),
        json!({ "name": "x", "check": { "kind": "icmp", "target": "a.example.com" }, "pace": { "probers": 256 } }),
        json!({ "name": ["x"], "check": { "kind": "icmp", "target": "a.example.com" } }),
        json!([]),
    ] {
        world.alice("POST", "/monitors").json(&body).send().await.problem(400, "malformed");
    }
    let none = world.alice("GET", "/monitors").send().await.ok(200);
    assert_eq!(none.json["items"], json!([]));
}

#[tokio::test]
async fn operators_allow_and_refuse_addresses() {
    let world = World::new().await;
    let inside = json!({ "name": "in", "check": { "kind": "tcp", "target": "10.1.2.3", "port": 80 } });
    world.alice("POST", "/monitors").json(&inside).send().await.problem(422, "invalid");
    let rules = json!({ "allowed": ["10.0.0.0/8"], "refused": ["1.1.1.0/24"], "own": [] });
    let put = world.operator("PUT", "/probe-rules").json(&rules).send().await.ok(200);
    assert_eq!(put.json["item"], rules);
    assert_eq!(world.operator("GET", "/probe-rules").send().await.ok(200).json, rules);
    world.monitor(&inside).await;
    let bad = json!({ "allowed": ["10.0.0.1/8", "x"] });
    let refused = world.operator("PUT", "/probe-rules").json(&bad).send().await;
    assert_eq!(refused.problem(422, "invalid"), ["/allowed/0", "/allowed/1"]);
}

#[tokio::test]
async fn an_endpoint_calls_in() {
    let world = World::new().await;
    let made = world.monitor(&heartbeat(60_000)).await;
    let path = made.json["item"]["heartbeat_path"].as_str().unwrap().to_owned();
    assert!(path.starts_with("/heartbeats/khh_"), "{path}");
    let secret = path.rsplit('/').next().unwrap();
    let shown = world.alice("GET", "/monitors/cron").send().await.ok(200);
    assert!(!shown.text.contains(secret) && shown.json.get("heartbeat_path").is_none(), "it is shown once");

    let called = world.call("POST", &path).send().await.ok(204);
    assert_eq!(called.header(header::CACHE_CONTROL), "no-store");
    let up = world.monitor_is("cron", "up").await;
    assert!(up.json["last_heartbeat_ms"].is_u64());
    world.call("GET", &path).send().await.ok(204);
    world.call("GET", &format!("{path}x")).send().await.problem(404, "not_found");
    let ahead = format!("{path}?at_ms={}", clock::now_ms() + 60_000);
    world.call("POST", &ahead).send().await.problem(400, "malformed");

    // A secret that got about is replaced.
    let mut renewed = heartbeat(60_000);
    renewed["new_secret"] = json!(true);
    let put = world.alice("PUT", "/monitors/cron").json(&renewed).send().await.ok(200);
    let other = put.json["item"]["heartbeat_path"].as_str().unwrap().to_owned();
    world.call("POST", &path).send().await.problem(404, "not_found");
    world.call("POST", &other).send().await.ok(204);
    let unchanged = world.alice("PUT", "/monitors/cron").json(&heartbeat(60_000)).send().await.ok(200);
    assert!(unchanged.json["item"].get("heartbeat_path").is_none());
    world.call("POST", &other).send().await.ok(204);
    let mut last = 204;
    for _ in 0..40 {
        last = world.call("POST", &other).send().await.status;
    }
    assert_eq!(last, 429);
}

/// A heartbeat says that the endpoint was fine at a time: the same one, said again by whomever, keeps nothing up.
#[tokio::test]
async fn a_heartbeat_replayed_keeps_nothing_up() {
    let world = World::new().await;
    let made = world.monitor(&heartbeat(1_000)).await;
    let path = made.json["item"]["heartbeat_path"].as_str().unwrap().to_owned();
    let call = format!("{path}?at_ms={}", clock::now_ms());
    world.call("POST", &call).send().await.ok(204);
    world.monitor_is("cron", "up").await;
    let until = std::time::Instant::now() + SOON;
    loop {
        // It is taken, as its caller may have missed the answer, and means what it meant.
        assert!(matches!(world.call("POST", &call).send().await.status, 204 | 429));
        let reply = world.alice("GET", "/monitors/cron").send().await.ok(200);
        if reply.json["state"] == "down" {
            assert_eq!(reply.json["verdict"]["cause"], "no heartbeat came for 2 s");
            break;
        }
        assert!(std::time::Instant::now() < until, "{}", reply.text);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(matches!(world.call("POST", &call).send().await.status, 204 | 429));
    let history = world.alice("GET", "/monitors/cron/history").send().await.ok(200);
    let events: Vec<&Value> =
        history.json["items"].as_array().unwrap().iter().map(|item| &item["event"]).collect();
    assert_eq!(events, ["down", "up", "put"]);
    assert_eq!(history.json["items"][0]["principal"], "system");
    let metrics = world.outside("GET", "/metrics").send().await.ok(200);
    assert!(metrics.text.contains("herald_monitors{state=\"down\"} 1"), "{}", metrics.text);
}

#[tokio::test]
async fn what_isolation_and_a_lost_monitor_mean_is_told() {
    let world = World::new().await;
    world.zone("example.com").await;
    world.operator("POST", "/pops").json(&json!({ "name": "fra1" })).send().await.ok(201);
    world.monitor(&https("web")).await;
    let endpoint = |monitor: Value| json!({ "ttl": 5, "endpoints": [{ "name": "a", "records": { "A": ["192.0.2.1"] }, "monitor": monitor }] });
    let policy =
        json!({ "name": "www", "type": "A", "when_isolated": "local", "rules": [{ "pools": ["web"] }] });
    let document = |monitor| json!({ "pools": { "web": endpoint(monitor) }, "policies": [policy] });
    let put = async |document: &Value| {
        world.alice("PUT", "/zones/example.com/steering").json(document).send().await.ok(200)
    };
    let codes = async || -> Vec<String> {
        let lint = world.alice("GET", "/zones/example.com/steering/lint").send().await.ok(200);
        let items = lint.json["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["code"].as_str().unwrap().to_owned()).collect()
    };
    let made = put(&document(json!(1))).await;
    assert!(codes().await.is_empty());
    let asked = "/explain?name=www.example.com&client=192.0.2.9";
    let explained = world.alice("GET", &format!("{asked}&pop=fra1")).send().await.ok(200);
    let note = explained.json["note"].as_str().unwrap().to_owned();
    assert!(note.contains("fra1 isn't connected") && note.contains("one vantage point"), "{note}");
    let anywhere = world.alice("GET", asked).send().await.ok(200);
    assert!(anywhere.json["note"].is_null(), "{}", anywhere.text);

    // Without a monitor there is nothing to go by.
    let warned = put(&document(Value::Null)).await;
    assert_eq!(warned.json["warnings"][0]["code"], "nothing_to_probe", "{}", warned.text);
    // What comes back from the past may name one that is gone.
    world.alice("DELETE", "/monitors/web").send().await.ok(200);
    let back = json!({ "to": made.json["change"]["id"] });
    world.alice("POST", "/zones/example.com/rollback").json(&back).send().await.ok(200);
    assert_eq!(codes().await, ["no_monitor"]);
}
