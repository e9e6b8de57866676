//! An endpoint that goes down is left out by all PoPs, and comes back; verdicts outlive the control plane and a killed knotd.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::endpoint::Endpoint;
use testbed::platform::Platform;
use testbed::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);

fn monitor(platform: &Platform, id: &Value) -> Value {
    platform.tenant.get(&format!("/monitors/{id}")).expect(200)
}

fn wait_for_state(platform: &Platform, id: &Value, state: &str) {
    wait_for(SOON, "a verdict", || (monitor(platform, id)["state"] == state).then_some(()))
        .unwrap_or_else(|e| panic!("{e}: {}\n{}", monitor(platform, id), platform.herald.tail()));
}

/// Allows endpoints on loopback, and makes a name with an endpoint that is monitored and one that isn't.
fn set_up(platform: &Platform, endpoint: &Endpoint, policy: Value) -> Value {
    let rules = json!({ "allowed": ["127.0.0.0/8"], "refused": [] });
    platform.herald.operator().put("/probe-rules", &rules).expect(200);
    let input = json!({
        "name": "web",
        "check": { "kind": "http", "target": "127.0.0.1", "port": endpoint.address.port() },
        "pace": { "interval_ms": 1000, "timeout_ms": 500, "fall": 2, "rise": 1 },
    });
    let made: Value = platform.tenant.post("/monitors", &input).expect(201);
    let id = made["item"]["id"].clone();
    platform.create_zone("example.com");
    let document = json!({
        "pools": {
            "main": { "ttl": 5, "endpoints": [{ "name": "one", "records": { "A": ["192.0.2.1"] }, "monitor": id }] },
            "spare": { "ttl": 5, "endpoints": [{ "name": "two", "records": { "A": ["192.0.2.2"] } }] },
        },
        "policies": [policy],
    });
    platform.tenant.put("/zones/example.com/steering?wait=all", &document).expect(200);
    id
}

#[test]
fn all_pops_leave_out_what_is_down_and_take_it_back() {
    let mut platform = Platform::start("failover", 3);
    let endpoint = Endpoint::start("127.0.0.1:0".parse().unwrap());
    let address = endpoint.address;
    let policy = json!({ "name": "www", "type": "A", "rules": [{ "pools": ["main", "spare"] }] });
    let id = set_up(&platform, &endpoint, policy);
    wait_for_state(&platform, &id, "up");
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.1"]);

    // What a pool names isn't deleted, and another tenant's monitor, or none, can't be named.
    let refused: Value = platform.tenant.delete(&format!("/monitors/{id}")).expect(409);
    assert!(refused["detail"].as_str().unwrap().contains("example.com"), "{refused}");
    let unknown = json!({ "ttl": 5, "endpoints": [{ "name": "x", "records": { "A": ["192.0.2.9"] }, "monitor": 4711 }] });
    let refused: Value = platform.tenant.put("/zones/example.com/pools/other", &unknown).expect(422);
    assert!(refused.to_string().contains("4711"), "{refused}");

    drop(endpoint);
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.2"]);
    let shown = monitor(&platform, &id);
    assert_eq!(shown["state"], "down", "{shown}");
    let explained: Value =
        platform.tenant.get("/explain?name=www.example.com&type=A&client=192.0.2.77").expect(200);
    let endpoint = &explained["decision"]["pools"][0]["endpoints"][0];
    assert_eq!(endpoint["verdict"], "down", "{explained}");
    assert!(endpoint["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{explained}");

    // A PoP whose knotd is killed knows of it when it is back, and the control plane isn't needed for that.
    platform.herald.stop().unwrap();
    platform.pops[0].kill_knotd();
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.2"]);
    platform.herald.restart();

    let endpoint = Endpoint::start(address);
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.1"]);
    let history: Value = platform.tenant.get(&format!("/monitors/{id}/history")).expect(200);
    assert!(history["items"].as_array().unwrap().len() >= 4, "made, up, down, up: {history}");
    drop(endpoint);
}

#[test]
fn an_isolated_pop_goes_by_its_own_probes_where_the_policy_says_so() {
    let mut platform = Platform::start("isolated", 2);
    let endpoint = Endpoint::start("127.0.0.1:0".parse().unwrap());
    let address = endpoint.address;
    let policy = json!({
        "name": "www", "type": "A", "when_isolated": "local", "rules": [{ "pools": ["main", "spare"] }],
    });
    let id = set_up(&platform, &endpoint, policy);
    wait_for_state(&platform, &id, "up");
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.1"]);
    platform.herald.stop().unwrap();
    drop(endpoint);
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.2"]);
    let endpoint = Endpoint::start(address);
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.1"]);
    // The control plane comes back, and its verdict counts again.
    platform.herald.restart();
    drop(endpoint);
    wait_for_state(&platform, &id, "down");
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.2"]);
}
