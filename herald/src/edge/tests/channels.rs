//! Notification channels through the router, and a receiver that listens.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::net::TcpListener;

use super::*;
use crate::edge::{ServeLimits, serve};

/// For this long something may take till it is seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves at a free port of 127.0.0.1; gives the URL.
async fn listen(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, app, None, CancellationToken::new(), ServeLimits::default()));
    url
}

/// What a receiver got: headers and body of each request, and how it answers.
#[derive(Clone, Default)]
struct Seen {
    requests: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    failures_left: Arc<Mutex<u32>>,
}

impl Seen {
    /// A receiver on a free port of 127.0.0.1; it fails so often first.
    async fn listen(failures: u32) -> (Seen, String) {
        let seen = Seen::default();
        *seen.failures_left.lock().unwrap() = failures;
        let app = Router::new().fallback(Seen::take).with_state(seen.clone());
        (seen, format!("{}/hook?of=koder", listen(app).await))
    }

    async fn take(State(seen): State<Seen>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let mut left = seen.failures_left.lock().unwrap();
        seen.requests.lock().unwrap().push((headers, body));
        if *left > 0 {
            *left -= 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        StatusCode::NO_CONTENT
    }

    /// Waits for so many requests.
    async fn wait(&self, count: usize) -> Vec<(HeaderMap, Bytes)> {
        let begin = Instant::now();
        loop {
            let seen = self.requests.lock().unwrap().clone();
            if seen.len() >= count {
                return seen;
            }
            assert!(begin.elapsed() < PATIENCE, "{} of {count} requests came", seen.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Checks the signature as a receiver does, and gives the message's id and what it says.
fn opened(secret: &str, (headers, body): &(HeaderMap, Bytes)) -> (String, Value) {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let now_s = clock::now_ms() / 1000;
    assert!(now_s.abs_diff(timestamp.parse().unwrap()) < 60);
    let key = data_encoding::BASE64.decode(secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    let signature = header("webhook-signature");
    let signature = data_encoding::BASE64.decode(signature.strip_prefix("v1,").unwrap().as_bytes()).unwrap();
    mac.verify_slice(&signature).unwrap();
    (id, serde_json::from_slice(body).unwrap())
}

impl World {
    async fn allow_loopback(&self) {
        let rules = json!({ "allowed": ["127.0.0.0/8"] });
        self.operator("PUT", "/probe-rules").json(&rules).send().await.ok(200);
    }

    async fn heartbeat(&self, name: &str) -> String {
        let body = json!({
            "name": name, "check": { "kind": "heartbeat" }, "pace": { "interval_ms": 1000, "timeout_ms": 1000 },
        });
        let made = self.alice("POST", "/monitors").json(&body).send().await.ok(201);
        made.json["item"]["heartbeat_path"].as_str().unwrap().to_owned()
    }

    async fn deliveries(&self, channel: &str) -> Value {
        let shown = self.alice("GET", &format!("/channels/{channel}")).send().await.ok(200);
        assert!(!shown.text.contains("whsec_"));
        shown.json["deliveries"].clone()
    }
}

fn webhook(name: &str, url: &str) -> Value {
    json!({ "name": name, "receiver": { "kind": "webhook", "url": url } })
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_told_in_order_and_again_till_they_are_taken() {
    let world = World::new().await;
    world.allow_loopback().await;
    let (seen, url) = Seen::listen(2).await;
    let made = world.alice("POST", "/channels").json(&webhook("ops", &url)).send().await.ok(201);
    let (id, secret) = (made.id(), made.json["item"]["secret"].as_str().unwrap().to_owned());
    assert_eq!(made.header(header::LOCATION), format!("/api/v1/channels/{id}"));
    let heartbeat = world.heartbeat("cron").await;
    world.call("POST", &heartbeat).send().await.ok(204);
    let requests = seen.wait(4).await;
    let told: Vec<(String, Value)> = requests.iter().map(|request| opened(&secret, request)).collect();
    // The first one failed twice, and was the same each time.
    assert!(told[0].0 == told[1].0 && told[1].0 == told[2].0 && told[2].0 != told[3].0);
    assert_eq!(told[0].1, told[2].1);
    assert_eq!(requests[0].0["content-type"], "application/json");
    let (up, down) = (&told[2].1, &told[3].1);
    assert_eq!((&up["type"], &down["type"]), (&json!("monitor.up"), &json!("monitor.down")));
    assert_eq!(down["data"]["monitor"], json!({ "id": 1, "name": "cron" }));
    assert!(down["data"]["cause"].as_str().unwrap().contains("heartbeat"), "{down}");
    let history = world.alice("GET", "/monitors/cron/history").send().await.ok(200);
    assert_eq!(down["data"]["change"], history.json["items"][0]["change"]);

    let begin = Instant::now();
    let mut status = world.deliveries("ops").await;
    while status["pending"] != 0 {
        assert!(begin.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        status = world.deliveries(&id).await;
    }
    assert_eq!((&status["delivered"], &status["given_up"]), (&json!(2), &json!(0)));
    assert_eq!(status["last_error"], "status 503");
    let metrics = world.outside("GET", "/metrics").send().await.ok(200);
    for line in [
        "herald_notifications_delivered_total 2",
        "herald_notifications_failed_total 2",
        "herald_notifications_pending 0",
    ] {
        assert!(metrics.text.contains(line), "{line} is not in {}", metrics.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_hears_of_its_monitors_alone() {
    let world = World::new().await;
    world.allow_loopback().await;
    let (seen, url) = Seen::listen(0).await;
    let (first, second) = (world.heartbeat("first").await, world.heartbeat("second").await);
    let one = json!({ "name": "one", "receiver": { "kind": "webhook", "url": url }, "monitors": [2] });
    let made = world.alice("POST", "/channels").json(&one).send().await.ok(201);
    let secret = made.json["item"]["secret"].as_str().unwrap().to_owned();
    // Another tenant hears nothing of it.
    let (other, other_url) = Seen::listen(0).await;
    world.bob("POST", "/channels").json(&webhook("ops", &other_url)).send().await.ok(201);
    world.call("POST", &first).send().await.ok(204);
    world.call("POST", &second).send().await.ok(204);
    for request in seen.wait(2).await {
        assert_eq!(opened(&secret, &request).1["data"]["monitor"]["name"], "second");
    }
    assert!(other.requests.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_how_it_went() {
    let world = World::new().await;
    world.allow_loopback().await;
    let (seen, url) = Seen::listen(1).await;
    let made = world.alice("POST", "/channels").json(&webhook("ops", &url)).send().await.ok(201);
    let secret = made.json["item"]["secret"].as_str().unwrap().to_owned();
    let failed = world.alice("POST", "/channels/ops/test").send().await.ok(200);
    assert_eq!(failed.json, json!({ "delivered": false, "error": "status 503" }));
    let again = world.alice("POST", "/channels/ops/test").send().await;
    again.problem(429, "rate_limited");
    world.bob("POST", &format!("/channels/{}/test", made.id())).send().await.problem(404, "not_found");
    let (_, told) = opened(&secret, &seen.wait(1).await[0]);
    assert_eq!(told["type"], "channel.test");

    // Nobody listens, and what the rules forbid by now isn't connected to.
    let gone = webhook("gone", "http://127.0.0.1:1/");
    world.alice("POST", "/channels").json(&gone).send().await.ok(201);
    let failed = world.alice("POST", "/channels/gone/test").send().await.ok(200);
    assert_eq!(failed.json["delivered"], false);
    let name = webhook("name", "http://localhost.localdomain:1/");
    let made = world.alice("POST", "/channels").json(&webhook("second", &url)).send().await.ok(201);
    world.operator("PUT", "/probe-rules").json(&json!({})).send().await.ok(200);
    let failed = world.alice("POST", &format!("/channels/{}/test", made.id())).send().await.ok(200);
    assert!(failed.json["error"].as_str().unwrap().contains("loopback"), "{}", failed.text);
    assert_eq!(seen.requests.lock().unwrap().len(), 1);
    // So is a name whose address it is: judged when it is looked up.
    if tokio::net::lookup_host("localhost.localdomain:1").await.is_ok() {
        world.alice("POST", "/channels").json(&name).send().await.ok(201);
        let failed = world.alice("POST", "/channels/name/test").send().await.ok(200);
        assert!(failed.json["error"].as_str().unwrap().contains("loopback"), "{}", failed.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed() {
    let world = World::new().await;
    world.allow_loopback().await;
    let (target, target_url) = Seen::listen(0).await;
    let redirect = Router::new().fallback(move || {
        let to = target_url.clone();
        async move { (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]) }
    });
    let url = listen(redirect).await;
    world.alice("POST", "/channels").json(&webhook("ops", &url)).send().await.ok(201);
    let failed = world.alice("POST", "/channels/ops/test").send().await.ok(200);
    assert_eq!(failed.json["error"], "status 307: redirects aren't followed");
    assert!(target.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_channel_is_made_shown_changed_and_deleted() {
    let world = World::new().await;
    let body = webhook("ops", "https://hooks.example.com/a");
    let key: header::HeaderName = "idempotency-key".parse().unwrap();
    let make = || world.alice("POST", "/channels").header(key.clone(), "once").json(&body);
    let made = make().send().await.ok(201);
    let secret = made.json["item"]["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 44);
    let repeated = make().send().await.ok(201);
    assert!(repeated.json["item"]["secret"].is_null(), "{}", repeated.text);
    assert_eq!(repeated.json["warnings"][0]["code"], "secret_not_shown_again");

    let shown = world.alice("GET", "/channels/ops").send().await.ok(200);
    let tag = shown.header(header::ETAG).to_owned();
    assert!(shown.json.get("secret").is_none() && shown.json["deliveries"]["pending"] == 0);
    let listed = world.alice("GET", "/channels").send().await.ok(200);
    assert_eq!(listed.json["items"][0]["receiver"], body["receiver"]);
    assert!(!listed.text.contains("whsec_"));
    let same = world.alice("PUT", "/channels/ops").json(&body).send().await.ok(200);
    assert!(same.json["item"]["secret"].is_null());
    let mut renewed = body.clone();
    renewed["new_secret"] = true.into();
    let put = world.alice("PUT", "/channels/ops").header(header::IF_MATCH, &tag).json(&renewed).send().await;
    let put = put.ok(200);
    assert_ne!(put.json["item"]["secret"].as_str().unwrap(), secret);
    let stale = world.alice("PUT", "/channels/ops").header(header::IF_MATCH, &tag).json(&body).send().await;
    stale.problem(412, "precondition_failed");

    let id = made.id();
    for (method, path) in [
        ("GET", format!("/channels/{id}")),
        ("DELETE", format!("/channels/{id}")),
        ("GET", "/channels/ops".into()),
    ] {
        world.bob(method, &path).send().await.problem(404, "not_found");
    }
    assert_eq!(world.operator("GET", "/channels").send().await.ok(200).json["items"][0]["id"], id);
    let none = world.bob("GET", "/channels").send().await.ok(200);
    assert_eq!(none.json["items"], json!([]));
    // The log has what the secret is made of, and not the secret.
    let wrong = world.alice("POST", "/channels").json(&webhook("x", "http://10.0.0.1/")).send().await;
    assert_eq!(wrong.problem(422, "invalid"), ["/receiver/url"]);
    let mail = json!({ "name": "m", "receiver": { "kind": "email", "address": "ops@example.com" } });
    let refused = world.alice("POST", "/channels").json(&mail).send().await;
    assert_eq!(refused.problem(422, "invalid"), ["/receiver/kind"]);
    assert!(refused.text.contains("mail-relay"));
    world.alice("DELETE", "/channels/ops").send().await.ok(200);
    world.alice("GET", "/channels/ops").send().await.problem(404, "not_found");
    let changes = world.alice("GET", "/changes").send().await.ok(200);
    assert_eq!(changes.json["items"][0]["kinds"], json!(["channel_deleted"]));
}
