//! Our side: a platform with one PoP, whose knotd has one UDP worker as the peers have one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::peers::{ELSEWHERE, NAMES, PLACES, Place, WEIGHTS, ZONE};
use crate::dns::{self, Transport};
use crate::platform::Platform;
use crate::wait::wait_until;

/// A zone without steering.
pub const PLAIN: &str = "plain.test.";

/// A zone with a view that everybody on loopback is inside of.
pub const VIEWED: &str = "viewed.test.";

/// Starts it, with the zones and the City file.
///
/// # Panics
/// If something is refused.
pub fn start(city: &Path) -> Platform {
    let mut platform = Platform::without_pops("bench-steering");
    let mut pop = platform.set_up_pop(platform.herald.pops);
    pop.configure(|config| format!("{config}udp_workers = 1\ntcp_workers = 1\n"));
    pop.start();
    platform.pops.push(pop);
    put_city(&platform, city);
    for (zone, kind) in [(PLAIN, "plain"), (ZONE, "plain"), (VIEWED, "plain")] {
        platform.create_zone(zone);
        let changes: Vec<Value> = (0..NAMES)
            .map(|n| json!({ "op": "put", "name": format!("{kind}{n}"), "type": "A", "ttl": 60, "records": [ELSEWHERE] }))
            .collect();
        platform.tenant.patch(&format!("/zones/{zone}/rrsets"), &json!({ "changes": changes })).expect(200);
    }
    platform.tenant.put(&format!("/zones/{ZONE}/steering"), &steering()).expect(200);
    platform.tenant.put(&format!("/zones/{VIEWED}/steering"), &views()).expect(200);
    for name in ["geo0.steered.test.", "weight0.steered.test.", "view0.viewed.test.", "plain0.plain.test."] {
        let listen = platform.pops[0].listen;
        wait_until(Duration::from_secs(60), name, || {
            dns::query(listen, name, "A", Transport::Udp).is_ok_and(|answer| !answer.values("A").is_empty())
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", platform.pops[0].tail()));
    }
    platform
}

/// Uploads the City file, and waits until the PoP has its table.
fn put_city(platform: &Platform, city: &Path) {
    let file = fs::read(city).unwrap_or_else(|e| panic!("{}: {e}", city.display()));
    platform.herald.operator().put_file("/geoip/city", &file).expect(200);
    wait_until(Duration::from_secs(120), "the table of places", || {
        let shown = platform.herald.operator().get("/geoip").expect(200);
        shown["pops"].as_array().is_some_and(|pops| pops.iter().all(|pop| pop["in_sync"] == true))
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()));
}

/// What the peers have, in our words.
fn steering() -> Value {
    let address = |name: &str, address: &str, weight: u32| json!({ "name": name, "records": { "A": [address] }, "weight": weight });
    let mut pools = serde_json::Map::new();
    for (number, place) in PLACES.iter().enumerate() {
        let endpoints = [address("only", place.address, 1)];
        pools.insert(format!("p{number}"), json!({ "ttl": 60, "answer": "all", "endpoints": endpoints }));
    }
    pools.insert(
        "elsewhere".into(),
        json!({ "ttl": 60, "answer": "all", "endpoints": [address("only", ELSEWHERE, 1)] }),
    );
    let weighted: Vec<Value> =
        WEIGHTS.iter().enumerate().map(|(n, (at, weight))| address(&format!("w{n}"), at, *weight)).collect();
    pools.insert("weights".into(), json!({ "ttl": 60, "answer": "one", "endpoints": weighted }));
    let rule = |(number, place): (usize, &Place)| {
        let when = match place.city {
            Some((_, city)) => json!({ "cities": [{ "name": city, "country": place.country }] }),
            None => json!({ "countries": [place.country] }),
        };
        json!({ "when": when, "pools": [format!("p{number}")] })
    };
    let mut rules: Vec<Value> = PLACES.iter().enumerate().map(rule).collect();
    rules.push(json!({ "pools": ["elsewhere"] }));
    let policies: Vec<Value> = (0..NAMES)
        .flat_map(|n| {
            [
                json!({ "name": format!("geo{n}"), "type": "A", "rules": rules }),
                json!({ "name": format!("weight{n}"), "type": "A", "rules": [{ "pools": ["weights"] }] }),
            ]
        })
        .collect();
    json!({ "settings": { "ecs": true }, "pools": pools, "policies": policies })
}

/// Names that are there for insiders alone.
fn views() -> Value {
    let overlays: Vec<Value> = (0..NAMES)
        .map(|n| json!({ "view": "inside", "name": format!("view{n}"), "type": "A", "ttl": 60, "records": ["192.0.2.20"] }))
        .collect();
    json!({ "views": { "inside": { "prefixes": ["127.0.0.0/8"] } }, "overlays": overlays })
}
