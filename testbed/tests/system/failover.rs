//! An endpoint that goes down is left out by all PoPs, and comes back; verdicts outlive the control plane and a killed knotd.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::delay::DelayProxy;
use testbed::endpoint::Endpoint;
use testbed::platform::{Platform, wait_for_answer};
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
    set_up_all(platform, endpoint, &json!([policy]))
}

/// The same with several policies.
fn set_up_all(platform: &Platform, endpoint: &Endpoint, policies: &Value) -> Value {
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
        "policies": policies,
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

#[test]
fn a_monitor_is_tested_at_once_at_its_pops() {
    let mut platform = Platform::start("probe-now", 3);
    let endpoint = Endpoint::start("127.0.0.1:0".parse().unwrap());
    platform.herald.operator().put("/probe-rules", &json!({ "allowed": ["127.0.0.0/8"] })).expect(200);
    let check = json!({ "kind": "http", "target": "127.0.0.1", "port": endpoint.address.port() });
    let input = json!({ "name": "web", "check": check, "pace": { "interval_ms": 3_600_000 } });
    let id = platform.tenant.post("/monitors", &input).expect(201)["item"]["id"].clone();
    let tested = |platform: &Platform| -> Value {
        // A test is at most every 5 seconds.
        let test =
            || Some(platform.tenant.post("/monitors/web/test", &json!(null))).filter(|r| r.status != 429);
        wait_for(SOON, "a test", test).unwrap().expect(200)["pops"].clone()
    };
    let went = |pops: &Value| -> Vec<Value> {
        pops.as_array().unwrap().iter().map(|pop| pop["good"].clone()).collect()
    };
    wait_for(SOON, "three PoPs", || (monitor(&platform, &id)["pops"].as_array()?.len() == 3).then_some(()))
        .unwrap();
    let pops = tested(&platform);
    assert_eq!(went(&pops), [true, true, true], "{pops}");
    assert!(pops[0]["took_us"].as_u64().is_some() && pops[0]["cause"] == "status 200", "{pops}");
    // One that is away is said to be, and those that are there say what they see.
    drop(endpoint);
    let away = platform.pops[2].name.clone();
    platform.pops[2].kill();
    wait_for(SOON, "a lost PoP", || {
        let shown = monitor(&platform, &id);
        let pop = shown["pops"].as_array()?.iter().find(|pop| pop["pop"] == away.as_str())?.clone();
        (pop["connected"] == false).then_some(())
    })
    .unwrap();
    for pop in tested(&platform).as_array().unwrap() {
        if pop["pop"] == away.as_str() {
            assert_eq!(pop["cause"], "the PoP is not connected", "{pop}");
        } else {
            assert_eq!(pop["good"], false, "{pop}");
        }
    }
    platform
        .tenant
        .post("/monitors", &json!({ "name": "cron", "check": { "kind": "heartbeat" } }))
        .expect(201);
    platform.tenant.post("/monitors/cron/test", &json!(null)).expect(409);
}

/// A name that goes by the control plane's last word while its PoP is isolated, and one that goes by the PoP's own probes.
fn two_policies() -> Value {
    json!([
        { "name": "hold", "type": "A", "rules": [{ "pools": ["main", "spare"] }] },
        { "name": "local", "type": "A", "when_isolated": "local", "rules": [{ "pools": ["main", "spare"] }] },
    ])
}

#[test]
fn a_pop_that_is_split_off_during_a_flap_goes_on_with_its_last_state() {
    let mut platform = Platform::start("split", 2);
    let way = DelayProxy::start(platform.herald.pops, Duration::ZERO);
    let mut far = platform.set_up_pop(way.listen);
    far.start();
    platform.pops.push(far);
    let endpoint = Endpoint::start("127.0.0.1:0".parse().unwrap());
    let address = endpoint.address;
    let id = set_up_all(&platform, &endpoint, &two_policies());
    wait_for_state(&platform, &id, "up");
    let (up, down) = (["192.0.2.1"], ["192.0.2.2"]);
    platform.wait_for_answer("hold.example.com.", "A", &up);
    platform.wait_for_answer("local.example.com.", "A", &up);

    // Its way to the control plane breaks, and the endpoint goes down: what is left of the PoPs is a quorum.
    let listen = way.listen;
    drop(way);
    drop(endpoint);
    wait_for_state(&platform, &id, "down");
    for pop in &platform.pops[..2] {
        wait_for_answer(pop, "hold.example.com.", "A", &down);
        wait_for_answer(pop, "local.example.com.", "A", &down);
    }
    wait_for_answer(&platform.pops[2], "local.example.com.", "A", &down);
    wait_for_answer(&platform.pops[2], "hold.example.com.", "A", &up);
    let asked = "/explain?name=local.example.com&type=A&client=192.0.2.77&pop=";
    let explained: Value = platform.tenant.get(&format!("{asked}{}", platform.pops[2].name)).expect(200);
    assert!(explained["note"].as_str().is_some_and(|note| note.contains("one vantage point")), "{explained}");
    // It comes back for a while, which that PoP sees by itself.
    let endpoint = Endpoint::start(address);
    for pop in &platform.pops {
        wait_for_answer(pop, "local.example.com.", "A", &up);
        wait_for_answer(pop, "hold.example.com.", "A", &up);
    }
    drop(endpoint);
    wait_for_answer(&platform.pops[2], "local.example.com.", "A", &down);
    wait_for_answer(&platform.pops[0], "hold.example.com.", "A", &down);
    wait_for_answer(&platform.pops[2], "hold.example.com.", "A", &up);
    // The way is there again, and so is the control plane's word.
    let _way = DelayProxy::start_at(listen, platform.herald.pops, Duration::ZERO);
    wait_for_answer(&platform.pops[2], "hold.example.com.", "A", &down);
}

#[test]
fn a_pop_that_is_left_of_three_decides_nothing() {
    let mut platform = Platform::start("minority", 3);
    let endpoint = Endpoint::start("127.0.0.1:0".parse().unwrap());
    let id = set_up_all(&platform, &endpoint, &two_policies());
    wait_for_state(&platform, &id, "up");
    platform.wait_for_answer("hold.example.com.", "A", &["192.0.2.1"]);
    platform.pops[1].kill_agent();
    platform.pops[2].kill_agent();
    drop(endpoint);
    // The one that is left says so.
    let left = platform.pops[0].name.clone();
    let sees_it_down = || {
        let shown = monitor(&platform, &id);
        let pop = shown["pops"].as_array()?.iter().find(|pop| pop["pop"] == left.as_str())?.clone();
        (pop["up"] == false).then_some(())
    };
    wait_for(SOON, "the PoP that is left to see it", sees_it_down).unwrap();
    // A verdict follows within milliseconds where there is one: seconds later there is none.
    let history = || -> usize {
        let history: Value = platform.tenant.get(&format!("/monitors/{id}/history")).expect(200);
        history["items"].as_array().unwrap().len()
    };
    let before = history();
    wait_for(SOON, "five more probes", {
        let begin = std::time::Instant::now();
        move || (begin.elapsed() > Duration::from_secs(5)).then_some(())
    })
    .unwrap();
    assert_eq!((&monitor(&platform, &id)["state"], history()), (&json!("up"), before));
    wait_for_answer(&platform.pops[0], "hold.example.com.", "A", &["192.0.2.1"]);
    // With a second one there is a quorum.
    platform.pops[1].start();
    wait_for_state(&platform, &id, "down");
    wait_for_answer(&platform.pops[0], "hold.example.com.", "A", &["192.0.2.2"]);
}

#[test]
fn a_name_server_is_probed() {
    let mut platform = Platform::start("dns-probe", 1);
    platform.herald.operator().put("/probe-rules", &json!({ "allowed": ["127.0.0.0/8"] })).expect(200);
    platform.create_zone("example.com");
    let records = json!({ "changes": [
        { "op": "put", "name": "www", "type": "A", "ttl": 60, "records": ["192.0.2.80", "192.0.2.81"] },
    ] });
    platform.tenant.patch("/zones/example.com/rrsets?wait=all", &records).expect(200);
    let server = platform.pops[0].listen;
    let made = |name: &str, check: Value| -> Value {
        let mut check = check;
        check["kind"] = "dns".into();
        check["target"] = server.ip().to_string().into();
        check["port"] = server.port().into();
        let pace = json!({ "interval_ms": 1000, "timeout_ms": 500, "probers": 1 });
        let input = json!({ "name": name, "check": check, "pace": pace });
        platform.tenant.post("/monitors", &input).expect(201)["item"]["id"].clone()
    };
    let www = "www.example.com";
    let fine = made("fine", json!({ "name": www, "contains": "192.0.2.81" }));
    let other = made("other", json!({ "name": www, "contains": "192.0.2.82" }));
    let none = made("none", json!({ "name": "none.example.com", "rcode": 3 }));
    let foreign = made("foreign", json!({ "name": "example.net" }));
    wait_for_state(&platform, &fine, "up");
    wait_for_state(&platform, &none, "up");
    wait_for_state(&platform, &other, "down");
    wait_for_state(&platform, &foreign, "down");
    let cause = |id: &Value| monitor(&platform, id)["verdict"]["cause"].as_str().unwrap().to_owned();
    assert!(cause(&foreign).contains("RCODE 5"), "{}", cause(&foreign));
    assert!(cause(&other).contains("192.0.2.82"), "{}", cause(&other));
    // One that doesn't answer is down, and comes back.
    platform.pops[0].freeze_knotd(true);
    wait_for_state(&platform, &fine, "down");
    platform.pops[0].freeze_knotd(false);
    wait_for_state(&platform, &fine, "up");
    platform.herald.stop().unwrap();
}

/// The addresses of this very host are found by herald and its agents, and refused also where the network around them is allowed.
#[test]
fn the_platforms_own_hosts_are_found_and_refused() {
    let platform = Platform::start("own-hosts", 1);
    let operator = platform.herald.operator();
    let told = Command::new("hostname").arg("-I").output().expect("hostname runs");
    let mut here: Vec<String> =
        String::from_utf8(told.stdout).unwrap().split_whitespace().map(str::to_owned).collect();
    here.sort_unstable();
    let expected: Vec<(Value, Vec<String>)> = [Value::Null, json!(platform.pops[0].name)]
        .into_iter()
        .filter(|_| !here.is_empty())
        .map(|host| (host, here.clone()))
        .collect();
    let own = || {
        let rules: Value = operator.get("/probe-rules").expect(200);
        let hosts = rules["own"].as_array().unwrap().iter().map(|host| {
            let addresses = host["addresses"].as_array().unwrap().iter();
            let mut addresses: Vec<String> =
                addresses.map(|address| address.as_str().unwrap().to_owned()).collect();
            addresses.sort_unstable();
            (host["pop"].clone(), addresses)
        });
        hosts.collect::<Vec<_>>()
    };
    wait_for(SOON, "the hosts' addresses", || (own() == expected).then_some(()))
        .unwrap_or_else(|e| panic!("{e}: {:?} and not {expected:?}", own()));

    let monitor = |n: usize, target: &str| {
        let check = json!({ "kind": "tcp", "target": target, "port": 22 });
        platform.tenant.post("/monitors", &json!({ "name": format!("m{n}"), "check": check }))
    };
    operator.put("/probe-rules", &json!({ "allowed": ["0.0.0.0/0", "::/0"] })).expect(200);
    for (n, address) in here.iter().enumerate() {
        let refused = monitor(n, address);
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(refused.text.contains("the platform's own"), "{}", refused.text);
    }
    let allowed: Vec<String> =
        here.iter().map(|own| format!("{own}/{}", if own.contains(':') { 128 } else { 32 })).collect();
    operator.put("/probe-rules", &json!({ "allowed": allowed })).expect(200);
    for (n, address) in here.iter().enumerate() {
        monitor(n, address).expect(201);
    }
}
