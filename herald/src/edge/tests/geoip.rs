//! GeoIP databases go in, and out. How they get to PoPs is looked at in the publisher's and the agent's tests.

use std::io::Write;

use axum::http::header;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use steering::geo::testing::{City, asn_record, mmdb};

use super::World;

const TYPE: &str = "application/octet-stream";

fn city(kind: &str, built_s: u64, country: &str) -> Vec<u8> {
    let record = City { continent: "EU", country, subdivisions: &[], city: None, location: None }.record();
    mmdb(kind, built_s, &[("192.0.2.0/24".parse().unwrap(), record)])
}

fn asn() -> Vec<u8> {
    mmdb("GeoLite2-ASN", 1_700_000_000, &[("192.0.2.0/24".parse().unwrap(), asn_record(64_500))])
}

#[tokio::test]
async fn databases_are_put_shown_and_deleted() {
    let world = World::new().await;
    let none = world.operator("GET", "/geoip").send().await.ok(200).json;
    assert_eq!(
        (&none["rollout"]["state"], &none["sha256"], &none["bytes"]),
        (&json!("none"), &Value::Null, &json!(0))
    );

    let file = city("GeoLite2-City", 1_700_000_000, "DE");
    let put =
        world.operator("PUT", "/geoip/city?message=weekly").body(TYPE, file.clone()).send().await.ok(200);
    let item = &put.json["item"];
    assert_eq!(item["city"], json!({ "type": "GeoLite2-City", "built_at_ms": 1_700_000_000_000_u64 }));
    assert_eq!(
        (&item["rollout"]["state"], &put.json["change"]["message"]),
        (&json!("first_pop"), &json!("weekly"))
    );
    let first = item["sha256"].as_str().unwrap().to_owned();
    let chunks = || world.engine.state().geoip().unwrap().chunks.clone();
    assert!(world.engine.table(&chunks()).unwrap().is_some());

    // gzip'd as a file, and gzip'd on the way.
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&asn()).unwrap();
    let gzipped = encoder.finish().unwrap();
    let put = world.operator("PUT", "/geoip/asn").body(TYPE, gzipped.clone()).send().await.ok(200);
    let both = &put.json["item"];
    assert_eq!(
        (&both["city"]["type"], &both["asn"]["type"]),
        (&json!("GeoLite2-City"), &json!("GeoLite2-ASN"))
    );
    assert_ne!(both["sha256"], first);
    let before = world.engine.state().revision();
    let encoded =
        world.operator("PUT", "/geoip/asn").header(header::CONTENT_ENCODING, "gzip").body(TYPE, gzipped);
    let again = encoded.send().await.ok(200);
    assert_eq!((&again.json["item"]["sha256"], world.engine.state().revision()), (&both["sha256"], before));
    assert_eq!(again.json["warnings"][0]["code"], "not_newer");

    // What is older is taken, and said.
    let older = city("GeoIP2-City", 1_600_000_000, "FR");
    let put = world.operator("PUT", "/geoip/city").body(TYPE, older).send().await.ok(200);
    let warning = "this GeoIP2-City is not newer than the GeoLite2-City that it replaces";
    assert_eq!(put.json["warnings"][0]["detail"], warning);
    let dry = world.operator("PUT", "/geoip/city?dry_run=true").body(TYPE, file).send().await.ok(200);
    assert_eq!(dry.json["change"], Value::Null);
    let shown = world.operator("GET", "/geoip").send().await.ok(200).json;
    assert_eq!(
        (&shown["city"]["type"], &shown["asn"]["type"]),
        (&json!("GeoIP2-City"), &json!("GeoLite2-ASN"))
    );

    // Compaction keeps the present table and nothing of those before.
    let engine = world.engine.clone();
    let deleted =
        tokio::task::spawn_blocking(move || engine.compact(0)).await.unwrap().unwrap().chunks_deleted;
    assert_eq!(deleted, 2, "of the first and of both, which is that of the dry run too");
    assert!(world.engine.table(&chunks()).unwrap().is_some());

    let gone = world.operator("DELETE", "/geoip/city").send().await.ok(200);
    assert_eq!(
        (&gone.json["item"]["city"], &gone.json["item"]["asn"]["type"]),
        (&Value::Null, &json!("GeoLite2-ASN"))
    );
    world.operator("DELETE", "/geoip/city").send().await.problem(404, "not_found");
    let none = world.operator("DELETE", "/geoip/asn").send().await.ok(200);
    assert_eq!(none.json["item"]["rollout"]["state"], "none");
    assert!(world.engine.state().geoip().is_none());
}

#[tokio::test]
async fn what_is_no_database_changes_nothing() {
    let world = World::new().await;
    let file = city("GeoLite2-City", 1_700_000_000, "DE");
    let put = |path: &'static str, body: Vec<u8>| world.operator("PUT", path).body(TYPE, body).send();
    let cut = put("/geoip/city", file[..file.len() / 2].to_vec()).await;
    cut.problem(422, "invalid");
    assert!(cut.text.contains("the database can't be used: it is no whole MaxMind database"), "{}", cut.text);
    let other = put("/geoip/asn", file.clone()).await;
    other.problem(422, "invalid");
    assert!(other.text.contains("and not one of ASN"), "{}", other.text);
    put("/geoip/city", vec![0x1f, 0x8b, 8, 0]).await.problem(422, "invalid");
    put("/geoip/country", file.clone()).await.problem(404, "not_found");
    world
        .operator("PUT", "/geoip/city")
        .body("text/dns", file.clone())
        .send()
        .await
        .problem(415, "unsupported_media_type");
    world.alice("PUT", "/geoip/city").body(TYPE, file).send().await.problem(403, "forbidden");
    world.alice("GET", "/geoip").send().await.problem(403, "forbidden");
    world.alice("DELETE", "/geoip/city").send().await.problem(403, "forbidden");
    assert!(world.engine.state().geoip().is_none());
}

#[tokio::test]
async fn an_operator_is_told_when_the_paid_database_is_worth_its_price() {
    let world = World::new().await;
    let places = crate::geoip::FREE_ZONES_MAX;
    world.alice("POST", "/zones").json(&json!({ "name": "plain.example" })).send().await.ok(201);
    for n in 0..=places {
        world.zone(&format!("z{n}.example")).await;
        let changes = json!([
            { "op": "put_pool", "name": "web", "pool": { "endpoints": [{ "name": "a", "records": { "A": ["192.0.2.1"] } }] } },
            { "op": "put_policy", "policy": { "name": "www", "type": "A", "rules": [
                { "when": { "countries": ["DE"] }, "pools": ["web"] },
                { "pools": ["web"] },
            ] } },
        ]);
        let path = format!("/zones/z{n}.example/steering");
        world.alice("PATCH", &path).json(&json!({ "changes": changes })).send().await.ok(200);
        let file = city("GeoLite2-City", 1_700_000_000, "DE");
        if n == 0 {
            let missing = world.operator("GET", "/geoip").send().await.ok(200).json;
            assert!(missing["notices"][0].as_str().unwrap().contains("there is none"), "{missing}");
            world.operator("PUT", "/geoip/city").body(TYPE, file).send().await.ok(200);
        }
        if n + 1 == places {
            let shown = world.operator("GET", "/geoip").send().await.ok(200).json;
            assert_eq!((&shown["zones_with_geo_rules"], &shown["notices"]), (&json!(places), &json!([])));
        }
    }
    let shown = world.operator("GET", "/geoip").send().await.ok(200).json;
    assert!(shown["notices"][0].as_str().unwrap().contains("is worth its price"), "{shown}");
    let paid = city("GeoIP2-City", 1_700_000_001, "DE");
    let put = world.operator("PUT", "/geoip/city").body(TYPE, paid).send().await.ok(200);
    assert_eq!(put.json["item"]["notices"], json!([]));
}
