//! Steering end to end: from the API to the answers of real Knots with the module in them.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use steering::geo::testing::{City, asn_record, mmdb};
use testbed::dns::{self, Asked, Transport};
use testbed::herald::Pop;
use testbed::platform::{Platform, wait_for_answer};
use testbed::wait::wait_until;

const WITHIN: Duration = Duration::from_secs(60);

fn endpoint(name: &str, address: &str, weight: u32) -> Value {
    json!({ "name": name, "records": { "A": [address] }, "weight": weight })
}

fn patch(platform: &Platform, query: &str, body: &Value) -> Value {
    platform.tenant.patch(&format!("/zones/example.com/steering{query}"), body).expect(200)
}

/// A zone in which `www` is answered by weight: all of it is `a`'s.
fn weighted(platform: &Platform) {
    platform.create_zone("example.com");
    let pool = json!({ "ttl": 30, "answer": "one", "endpoints": [
        endpoint("a", "192.0.2.1", 1), endpoint("b", "192.0.2.2", 0),
    ] });
    let changes = json!([
        { "op": "put_pool", "name": "web", "pool": pool },
        { "op": "put_policy", "policy": { "name": "www", "type": "A", "rules": [{ "pools": ["web"] }] } },
    ]);
    let records = json!([
        { "op": "put", "name": "alias", "type": "CNAME", "ttl": 60, "records": ["www.example.com."] },
    ]);
    let made = patch(platform, "?wait=all", &json!({ "changes": changes, "records": records }));
    assert_eq!(made["change"]["state"], "in_sync", "{made}");
}

/// All weight goes to this endpoint.
fn all_to(platform: &Platform, endpoint: &str) -> Value {
    let weight = |name: &str| {
        json!({
            "op": "set_endpoint", "name": "web", "endpoint": name, "weight": u32::from(name == endpoint),
        })
    };
    // The one that gets it comes first: a pool without any weight isn't one.
    let other = if endpoint == "a" { "b" } else { "a" };
    patch(platform, "?wait=all", &json!({ "changes": [weight(endpoint), weight(other)] }))
}

#[track_caller]
fn assert_answers(pop: &Pop, name: &str, values: &[&str]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = dns::query(pop.listen, name, "A", transport).unwrap();
        assert_eq!(answer.values("A"), values, "{name} at {}: {answer:?}\n{}", pop.name, pop.status_text());
    }
}

#[test]
fn a_weight_that_is_changed_by_api_is_answered_by_all_pops_when_the_receipt_says_so() {
    let platform = Platform::start("steering-weights", 3);
    weighted(&platform);
    for (endpoint, address) in [("b", "192.0.2.2"), ("a", "192.0.2.1"), ("b", "192.0.2.2")] {
        let change = &all_to(&platform, endpoint)["change"];
        assert_eq!(change["state"], "in_sync", "{change}");
        for pop in &platform.pops {
            assert_answers(pop, "www.example.com.", &[address]);
            assert_answers(pop, "alias.example.com.", &[address]);
        }
    }
    // A rollback brings back what was, steering and records.
    let history: Value = platform.tenant.get("/zones/example.com/history").expect(200);
    let before = history["items"][1]["id"].as_str().unwrap().to_owned();
    let path = "/zones/example.com/rollback?wait=all";
    platform.tenant.post(path, &json!({ "to": before })).expect(200);
    for pop in &platform.pops {
        assert_answers(pop, "www.example.com.", &["192.0.2.1"]);
    }
    // How the module is, is told.
    let operator = platform.herald.operator();
    for pop in &platform.pops {
        let mut seen = Value::Null;
        wait_until(WITHIN, "the module's zones to be told", || {
            seen = operator.get(&format!("/pops/{}", pop.name)).expect(200);
            let module = &seen["status"]["module"];
            module["connected"] == true && module["zones"] == 1 && module["panics"] == 0
        })
        .unwrap_or_else(|e| panic!("{e}: {seen}"));
    }
}

#[test]
fn steered_answers_outlive_the_agent_and_knotd_and_fill_a_pop_from_nothing() {
    let mut platform = Platform::start("steering-kills", 2);
    weighted(&platform);
    let pop = &mut platform.pops[0];

    // The agent is killed: answers go on, and what changes meanwhile comes with the next one.
    pop.kill_agent();
    assert_answers(pop, "www.example.com.", &["192.0.2.1"]);
    let weight = |name: &str, weight: u32| {
        json!({
            "op": "set_endpoint", "name": "web", "endpoint": name, "weight": weight,
        })
    };
    patch(&platform, "", &json!({ "changes": [weight("b", 1), weight("a", 0)] }));
    wait_for_answer(&platform.pops[1], "www.example.com.", "A", &["192.0.2.2"]);
    assert_answers(&platform.pops[0], "www.example.com.", &["192.0.2.1"]);
    platform.pops[0].start();
    wait_for_answer(&platform.pops[0], "www.example.com.", "A", &["192.0.2.2"]);

    // knotd is killed: its first answer is as good as the last.
    platform.pops[0].kill_knotd();
    let listen = platform.pops[0].listen;
    let mut first = None;
    wait_until(WITHIN, "knotd to come back", || {
        first = dns::query(listen, "www.example.com.", "A", Transport::Tcp)
            .ok()
            .filter(|answer| answer.authoritative);
        first.is_some()
    })
    .unwrap();
    assert_eq!(first.unwrap().values("A"), ["192.0.2.2"]);

    // Both are, and all that the PoP had is lost.
    let pop = &mut platform.pops[0];
    pop.kill();
    fs::remove_dir_all(pop.folder().join("replica")).unwrap();
    fs::remove_dir_all(pop.folder().join("knot")).unwrap();
    pop.start();
    wait_for_answer(pop, "www.example.com.", "A", &["192.0.2.2"]);
    platform.wait_until_in_sync();
    all_to(&platform, "a");
    for pop in &platform.pops {
        assert_answers(pop, "www.example.com.", &["192.0.2.1"]);
    }
}

#[test]
fn a_zone_that_is_made_again_under_its_name_is_steered() {
    let mut platform = Platform::start("steering-again", 1);
    for round in 0..3 {
        weighted(&platform);
        all_to(&platform, if round % 2 == 0 { "b" } else { "a" });
        let address = if round % 2 == 0 { "192.0.2.2" } else { "192.0.2.1" };
        assert_answers(&platform.pops[0], "www.example.com.", &[address]);
        platform.tenant.delete("/zones/example.com?confirm=shrink").expect(200);
    }
    // The PoP hears of the new zone and of the end of the old one at once.
    weighted(&platform);
    platform.pops[0].kill_agent();
    platform.tenant.delete("/zones/example.com?confirm=shrink").expect(200);
    platform.create_zone("example.com");
    let pool = json!({ "ttl": 30, "endpoints": [endpoint("c", "192.0.2.3", 1)] });
    let changes = json!([
        { "op": "put_pool", "name": "web", "pool": pool },
        { "op": "put_policy", "policy": { "name": "www", "type": "A", "rules": [{ "pools": ["web"] }] } },
    ]);
    patch(&platform, "", &json!({ "changes": changes }));
    assert_answers(&platform.pops[0], "www.example.com.", &["192.0.2.1"]);
    platform.pops[0].start();
    platform.wait_until_in_sync();
    assert_answers(&platform.pops[0], "www.example.com.", &["192.0.2.3"]);
    platform.tenant.delete("/zones/example.com?confirm=shrink").expect(200);
    // The last one is away, and its steering with it.
    platform.create_zone("example.com");
    let records = json!({ "ttl": 60, "records": ["192.0.2.9"] });
    platform.tenant.put("/zones/example.com/rrsets/www.example.com/A?wait=all", &records).expect(201);
    assert_answers(&platform.pops[0], "www.example.com.", &["192.0.2.9"]);
}

#[test]
fn garbage_at_the_modules_socket_changes_nothing() {
    let platform = Platform::start("steering-garbage", 1);
    weighted(&platform);
    let pop = &platform.pops[0];
    let socket = pop.folder().join("knot/run/herald.sock");
    let framed = |length: u32, octets: &[u8]| [&length.to_be_bytes()[..], octets].concat();
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        framed(u32::MAX, &[0; 64]),
        framed(16, &[0xff; 24]),
        framed(0, &[0; 8]),
        vec![0; 100_000],
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        // It may hang up in the midst.
        let _ = stream.write_all(&garbage);
        drop(stream);
        assert_answers(pop, "www.example.com.", &["192.0.2.1"]);
    }
    all_to(&platform, "b");
    assert_answers(pop, "www.example.com.", &["192.0.2.2"]);
}

/// The alias' TTL and the address that it leads to are changed as one: each answer has both of one change.
#[test]
fn records_and_steering_that_change_together_are_seen_together() {
    const CHANGES: u32 = 60;
    let platform = Platform::start("steering-whole", 2);
    weighted(&platform);
    let publish = |number: u32| {
        let address = format!("192.0.2.{number}");
        let pool = json!({ "ttl": 30, "answer": "one", "endpoints": [endpoint("a", &address, 1)] });
        let changes = json!([{ "op": "put_pool", "name": "web", "pool": pool }]);
        let records = json!([{
            "op": "put", "name": "alias", "type": "CNAME", "ttl": 1000 + number, "records": ["www.example.com."],
        }]);
        patch(&platform, "", &json!({ "changes": changes, "records": records }));
    };
    publish(1);
    platform.wait_until_in_sync();
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let askers: Vec<_> = platform
            .pops
            .iter()
            .map(|pop| {
                let has_ended = &has_ended;
                scope.spawn(move || {
                    let (mut asked, mut seen) = (0, std::collections::BTreeSet::new());
                    while !has_ended.load(Ordering::Relaxed) || asked == 0 {
                        let Ok(answer) = dns::query(pop.listen, "alias.example.com.", "A", Transport::Udp)
                        else {
                            continue;
                        };
                        let ttl = answer
                            .answers
                            .iter()
                            .find(|record| record.rtype.to_string() == "CNAME")
                            .map(|r| r.ttl);
                        let expected = format!("192.0.2.{}", ttl.unwrap_or_default().wrapping_sub(1000));
                        assert_eq!(answer.values("A"), [expected], "{answer:?}");
                        asked += 1;
                        seen.insert(ttl);
                    }
                    (asked, seen.len())
                })
            })
            .collect();
        for number in 2..CHANGES {
            publish(number);
        }
        platform.wait_until_in_sync();
        has_ended.store(true, Ordering::Relaxed);
        for asker in askers {
            let (asked, seen) = asker.join().unwrap();
            println!("{asked} answers of {seen} versions");
            assert!(seen > 5, "{asked} answers showed {seen} versions only");
        }
    });
}

/// Asks a PoP from an address, perhaps on behalf of somebody; the values, the RCODE and the scope that came.
fn ask(pop: &Pop, name: &str, source: &str, subnet: Option<(&str, u8)>) -> (String, String, Option<u8>) {
    let subnet = subnet.map(|(address, length)| (address.parse::<IpAddr>().unwrap(), length));
    let asked = Asked { source: source.parse().unwrap(), subnet, ..Asked::default() };
    let (answer, scope) = dns::query_as(pop.listen, name, "A", &asked).unwrap();
    (answer.values("A").join(" "), answer.rcode.to_string(), scope)
}

fn told(values: &str, rcode: &str, scope: Option<u8>) -> (String, String, Option<u8>) {
    (values.to_owned(), rcode.to_owned(), scope)
}

const INSIDE: &str = "127.0.0.17";
const OUTSIDE: &str = "127.0.0.1";

#[test]
fn clients_are_told_apart_by_source_by_client_subnet_and_by_pop() {
    let platform = Platform::start("steering-clients", 2);
    weighted(&platform);
    let pool = |address: &str| json!({ "endpoints": [endpoint("only", address, 1)] });
    let rules = json!([
        { "when": { "views": ["office"] }, "pools": ["office"] },
        { "when": { "prefixes": ["198.51.100.0/24"] }, "pools": ["near"] },
        { "when": { "pops": ["pop2"] }, "pools": ["second"] },
        { "pools": ["web"] },
    ]);
    let changes = json!([
        { "op": "put_settings", "settings": { "ecs": true } },
        { "op": "put_view", "name": "office", "view": { "prefixes": ["127.0.0.16/28"] } },
        { "op": "put_pool", "name": "office", "pool": pool("10.0.0.1") },
        { "op": "put_pool", "name": "near", "pool": pool("192.0.2.50") },
        { "op": "put_pool", "name": "second", "pool": pool("192.0.2.60") },
        { "op": "put_policy", "policy": { "name": "www", "type": "A", "rules": rules } },
    ]);
    patch(&platform, "?wait=all", &json!({ "changes": changes }));
    for (pop, elsewhere) in platform.pops.iter().zip(["192.0.2.1", "192.0.2.60"]) {
        let www = |source: &str, subnet| ask(pop, "www.example.com.", source, subnet);
        assert_eq!(www(INSIDE, None), told("10.0.0.1", "NOERROR", None));
        assert_eq!(www(OUTSIDE, None), told(elsewhere, "NOERROR", None));
        // A view is never entered by what a resolver says.
        assert_eq!(www(OUTSIDE, Some((INSIDE, 32))).0, elsewhere);
        let near = www(OUTSIDE, Some(("198.51.100.77", 32)));
        assert_eq!(near, told("192.0.2.50", "NOERROR", Some(24)));
    }
}

#[test]
fn insiders_have_what_a_view_has_and_all_else_as_everybody() {
    let platform = Platform::start("steering-views", 2);
    weighted(&platform);
    let overlay = |name: &str, address: &str| {
        json!({
            "op": "put_overlay",
            "overlay": { "view": "office", "name": name, "type": "A", "ttl": 60, "records": [address] },
        })
    };
    let changes = json!([
        { "op": "put_view", "name": "office", "view": { "prefixes": ["127.0.0.16/28"] } },
        overlay("intranet", "10.0.0.7"),
        overlay("plain", "10.0.0.8"),
    ]);
    let records = json!([{ "op": "put", "name": "plain", "type": "A", "ttl": 60, "records": ["192.0.2.9"] }]);
    patch(&platform, "?wait=all", &json!({ "changes": changes, "records": records }));
    for pop in &platform.pops {
        assert_eq!(ask(pop, "intranet.example.com.", INSIDE, None), told("10.0.0.7", "NOERROR", None));
        assert_eq!(ask(pop, "intranet.example.com.", OUTSIDE, None), told("", "NXDOMAIN", None));
        assert_eq!(ask(pop, "plain.example.com.", INSIDE, None), told("10.0.0.8", "NOERROR", None));
        assert_eq!(ask(pop, "plain.example.com.", OUTSIDE, None), told("192.0.2.9", "NOERROR", None));
        assert_eq!(ask(pop, "www.example.com.", INSIDE, None), told("192.0.2.1", "NOERROR", None));
    }
    // Records alone change: insiders see that where they have nothing of their own.
    let put = json!({ "ttl": 60, "records": ["192.0.2.33"] });
    platform.tenant.put("/zones/example.com/rrsets/other/A?wait=all", &put).expect(201);
    for pop in &platform.pops {
        for source in [INSIDE, OUTSIDE] {
            assert_eq!(ask(pop, "other.example.com.", source, None), told("192.0.2.33", "NOERROR", None));
        }
    }
}

/// Places and autonomous systems of the networks that [`what_is_explained_is_what_is_answered`] asks from, with exceptions within them.
fn databases() -> [(&'static str, Vec<u8>); 2] {
    let place = |continent, country, subdivisions, city, location| {
        City { continent, country, subdivisions, city, location }.record()
    };
    let (berlin, hamburg) = (Some((2_950_159, "Berlin")), Some((2_911_298, "Hamburg")));
    let cities = [
        ("127.0.0.0/27", place("EU", "DE", &["BE"], berlin, Some((52.5, 13.4)))),
        ("198.51.100.0/24", place("EU", "DE", &["BE"], berlin, Some((52.5, 13.4)))),
        ("198.51.100.128/25", place("EU", "DE", &["HH"], hamburg, Some((53.6, 10.0)))),
        ("198.51.7.0/24", place("EU", "FR", &[], Some((2_988_507, "Paris")), Some((48.9, 2.3)))),
        ("203.0.113.0/24", place("NA", "US", &["CA"], None, Some((37.8, -122.4)))),
        ("203.0.113.64/26", place("NA", "US", &["NY"], None, Some((40.7, -74.0)))),
        ("2001:db8::/32", place("EU", "NL", &[], None, Some((52.4, 4.9)))),
        ("2001:db8:1::/48", place("AS", "JP", &[], None, None)),
    ];
    let systems = [
        ("198.51.0.0/16", 64_500),
        ("203.0.113.0/24", 64_501),
        ("203.0.113.128/25", 64_502),
        ("2001:db8::/32", 64_503),
    ];
    let network = |text: &str| text.parse().unwrap();
    [
        ("city", mmdb("GeoLite2-City", 1, &cities.map(|(text, record)| (network(text), record)))),
        ("asn", mmdb("GeoLite2-ASN", 1, &systems.map(|(text, number)| (network(text), asn_record(number))))),
    ]
}

/// Random questions to three PoPs whose draws are known, each held against what `explain` says.
#[test]
fn what_is_explained_is_what_is_answered() {
    const QUESTIONS: u64 = 10_000;
    let mut platform = Platform::without_pops("steering-explain");
    for _ in 0..3 {
        let mut pop = platform.set_up_pop(platform.herald.pops);
        pop.configure(|config| format!("{config}known_draws = true\n"));
        pop.start();
        platform.pops.push(pop);
    }
    weighted(&platform);
    let pool = |answer: Value, sticky: Value, weights: &[u32], net: u8| {
        let endpoints: Vec<Value> = weights
            .iter()
            .enumerate()
            .map(|(number, weight)| endpoint(&format!("e{number}"), &format!("10.{net}.0.{number}"), *weight))
            .collect();
        json!({ "ttl": 30, "answer": answer, "sticky": sticky, "endpoints": endpoints })
    };
    let sticky = json!({ "ipv4_prefix": 24, "ipv6_prefix": 56 });
    let policy = |name: &str, rules: Value| {
        json!({
            "op": "put_policy", "policy": { "name": name, "type": "A", "rules": rules },
        })
    };
    let placed = |name: &str, address: &str, latitude: f64, longitude: f64, bias: i8| {
        json!({
            "name": name, "records": { "A": [address] }, "bias": bias,
            "location": { "latitude": latitude, "longitude": longitude },
        })
    };
    let places = [
        placed("frankfurt", "10.5.0.1", 50.1, 8.7, 0),
        placed("paris", "10.5.0.2", 48.9, 2.4, 20),
        placed("oregon", "10.5.0.3", 45.6, -121.2, -30),
        placed("virginia", "10.5.0.4", 38.9, -77.5, 0),
        endpoint("nowhere", "10.5.0.5", 1),
    ];
    let operator = platform.herald.operator();
    for (kind, database) in databases() {
        let put = operator.put_file(&format!("/geoip/{kind}"), &database).expect(200);
        super::geoip::wait_till_all_have(&platform, &put["item"]["sha256"]);
    }
    let changes = json!([
        { "op": "put_settings", "settings": { "ecs": true } },
        { "op": "put_view", "name": "office", "view": { "prefixes": ["127.0.0.16/28"] } },
        { "op": "put_pool", "name": "one", "pool": pool(json!("one"), Value::Null, &[1, 2, 5, 90], 1) },
        { "op": "put_pool", "name": "some", "pool": pool(json!({ "up_to": 2 }), Value::Null, &[3, 1, 1, 7, 2], 2) },
        { "op": "put_pool", "name": "sticky", "pool": pool(json!("one"), sticky, &[1, 1, 1], 3) },
        { "op": "put_pool", "name": "all", "pool": pool(json!("all"), Value::Null, &[1, 1], 4) },
        policy("w", json!([{ "pools": ["one"] }])),
        policy("n", json!([{ "pools": ["some"] }])),
        policy("*.s", json!([{ "pools": ["sticky"] }])),
        { "op": "put_pool", "name": "places", "pool": { "endpoints": places } },
        policy("g", json!([
            { "when": { "cities": [2_950_159], "pops": ["pop1"] }, "pools": ["sticky"] },
            { "when": { "cities": [{ "name": "Paris", "country": "FR" }] }, "pools": ["one"] },
            { "when": { "subdivisions": ["US-CA"], "asns": [64_502] }, "pools": ["some"] },
            { "when": { "countries": ["DE"] }, "pools": ["all"] },
            { "when": { "continents": ["NA"] }, "pools": ["one"] },
            { "when": { "prefixes": ["2001:db8:1:8000::/49"] }, "pools": ["all"] },
            { "when": { "asns": [64_503] }, "pools": ["some"] },
            { "when": { "views": ["office"] }, "pools": ["sticky"] },
            // Whoever is elsewhere has an answer at one PoP only.
            { "when": { "pops": ["pop3"] }, "pools": ["one"] },
        ])),
        policy("near", json!([
            { "when": { "continents": ["EU", "NA"] }, "pools": ["places"], "nearest": true },
            { "when": { "countries": ["JP"] }, "pools": ["sticky"] },
            { "pools": ["places"], "nearest": true },
        ])),
        policy("r", json!([
            { "when": { "views": ["office"] }, "pools": ["all"] },
            { "when": { "prefixes": ["198.51.100.0/24"], "pops": ["pop1", "pop3"] }, "pools": ["some"] },
            { "when": { "pops": ["pop2"] }, "pools": ["sticky"] },
            { "when": { "prefixes": ["198.51.0.0/16"] }, "pools": ["one"] },
        ])),
    ]);
    patch(&platform, "?wait=all", &json!({ "changes": changes }));

    // SplitMix64, as the module draws for the id of a message.
    let mixed = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let seed = 20_261_123;
    println!("seed {seed}");
    let mut state: u64 = seed;
    let mut random = |below: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(state) % below
    };
    let begin = Instant::now();
    let mut outcomes = std::collections::BTreeSet::new();
    let mut rules = std::collections::BTreeSet::new();
    for number in 0..QUESTIONS {
        let pop = &platform.pops[random(3) as usize];
        let id = random(65_536) as u16;
        let name = match random(9) {
            0 => "w.example.com.".to_owned(),
            1 => "n.example.com.".to_owned(),
            2 => format!("x{}.s.example.com.", random(50)),
            3 | 4 => "r.example.com.".to_owned(),
            5 | 6 => "near.example.com.".to_owned(),
            _ => "g.example.com.".to_owned(),
        };
        let source = format!("127.0.0.{}", 1 + random(40));
        // Bits after the prefix are zero, as a resolver has to send them (RFC 7871 section 6).
        let subnet = (random(4) > 0).then(|| {
            if random(4) == 0 {
                let nets = [0x2001_0db8_0000, 0x2001_0db8_0001, 0x2001_0db8_0001, 0x2001_0db9_0000];
                let length = [44, 48, 49, 56, 64][random(5) as usize];
                let net: u128 = nets[random(4) as usize] << 80 | u128::from(random(1 << 16)) << 64;
                return (IpAddr::from((net >> (128 - length) << (128 - length)).to_be_bytes()), length as u8);
            }
            let nets =
                ["198.51.100.0", "198.51.100.0", "198.51.7.0", "203.0.113.0", "203.0.113.0", "192.0.2.0"];
            let net: std::net::Ipv4Addr = nets[random(6) as usize].parse().unwrap();
            let length = [20, 24, 25, 26, 32][random(5) as usize];
            let octets = (u32::from(net) | random(256) as u32) & (u32::MAX << (32 - length));
            (IpAddr::from(octets.to_be_bytes()), length as u8)
        });
        let asked = Asked { id, source: source.parse().unwrap(), subnet };
        let (answer, scope) = dns::query_as(pop.listen, &name, "A", &asked).unwrap();

        let draw = mixed(u64::from(id).wrapping_add(0x9e37_79b9_7f4a_7c15));
        let ecs = subnet.map(|(address, length)| format!("&ecs={address}/{length}")).unwrap_or_default();
        let query = format!("name={name}&type=A&client={source}&pop={}&draw={draw}{ecs}", pop.name);
        let told: Value = operator.get(&format!("/explain?{query}")).expect(200);
        let decision = &told["decision"];
        let mut expected: Vec<String> = decision["answer"]["records"]
            .as_array()
            .map(|records| records.iter().map(|record| record.as_str().unwrap().to_owned()).collect())
            .unwrap_or_default();
        expected.sort();
        let mut values = answer.values("A");
        values.sort();
        assert_eq!(values, expected, "question {number}: {query}: {answer:?}\n{told:#}");
        let expected_scope = subnet.map(|_| decision["ecs_scope"].as_u64().unwrap() as u8);
        assert_eq!(scope, expected_scope, "question {number}: {query}\n{told:#}");
        if name.starts_with(['g', 'n']) && name != "n.example.com." {
            let last = decision["rules"].as_array().unwrap().last().unwrap();
            rules.insert((name, (last["verdict"] == "matched").then(|| last["number"].as_u64())));
        }
        outcomes.insert(values);
    }
    println!("{QUESTIONS} questions in {:?}, {} different answers", begin.elapsed(), outcomes.len());
    assert!(outcomes.len() > 15, "{outcomes:?}");
    // Each rule by place led somewhere, and some clients were led nowhere.
    println!("{rules:?}");
    assert_eq!(rules.len(), 10 + 3, "{rules:?}");
}
