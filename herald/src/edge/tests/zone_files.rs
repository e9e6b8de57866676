//! Zone files, in and out.

use axum::http::header;
use serde_json::{Value, json};

use super::World;

const FILE: &str = "\
$ORIGIN example.com.
$TTL 1h
@ IN SOA ns.old.example. me.old.example. 2026010100 7200 3600 1209600 300
@ NS ns1.herald.test.
@ NS ns.old.example.
@ MX 10 mail
mail A 192.0.2.25
*.wild TXT \"a b\" \"c\"
sub NS ns.sub
ns.sub A 192.0.2.53
";

async fn import(world: &World, query: &str, file: &str) -> super::Reply {
    world
        .alice("POST", &format!("/zones/example.com/import{query}"))
        .body("text/dns", file.to_owned())
        .send()
        .await
}

#[tokio::test]
async fn a_zone_file_goes_in_and_comes_out_the_same() {
    let world = World::new().await;
    world.zone("example.com").await;
    let dry = import(&world, "?dry_run=true", FILE).await.ok(200);
    assert!(dry.json.get("change").is_none());
    let report = import(&world, "", FILE).await.ok(200);
    let item = &report.json["item"];
    assert_eq!(item["foreign_nameservers"], json!(["ns.old.example."]));
    assert_eq!(
        ["rrsets_added", "rrsets_changed", "rrsets_removed"].map(|field| item[field].as_u64().unwrap()),
        [5, 0, 0]
    );
    assert_eq!(dry.json["item"]["rrsets_added"], item["rrsets_added"]);
    assert!(item["zone"]["serial"].as_u64().unwrap() > 2_026_010_100);
    assert_eq!(
        world.records("example.com", "@", "NS").await,
        json!(["ns1.herald.test.", "ns2.herald.test."])
    );
    assert_eq!(world.records("example.com", "@", "MX").await, json!(["10 mail.example.com."]));

    let out = world.alice("GET", "/zones/example.com/export").send().await.ok(200);
    assert_eq!(out.header(header::CONTENT_TYPE), "text/dns; charset=utf-8");
    assert_eq!(out.header(header::ETAG), report.header(header::ETAG));
    assert!(out.text.contains("*.wild\t3600\tIN\tTXT\t\"a b\" \"c\"\n"), "{}", out.text);
    // What came out goes in again and changes nothing.
    let again = import(&world, "", &out.text).await.ok(200);
    assert_eq!(again.json["change"]["id"], report.json["change"]["id"]);
    assert_eq!(again.json["item"]["rrsets_added"], 0);

    let less = "$TTL 60\nmail A 192.0.2.26\nnew A 192.0.2.1\n";
    let merged = import(&world, "?mode=merge", less).await.ok(200);
    assert_eq!(merged.json["item"]["rrsets_added"], 1);
    assert_eq!(merged.json["item"]["rrsets_changed"], 1);
    assert_eq!(merged.json["item"]["rrsets_removed"], 0);
    let replaced = import(&world, "?mode=replace", less).await.ok(200);
    assert_eq!(replaced.json["item"]["rrsets_removed"], 4);
    assert_eq!(
        world.records("example.com", "@", "NS").await,
        json!(["ns1.herald.test.", "ns2.herald.test."])
    );
}

#[tokio::test]
async fn a_large_zone_file_is_staged_and_streamed() {
    let world = World::new().await;
    let id = world.zone("example.com").await;
    let records: Vec<String> =
        (0..5000).map(|n| format!("host{n:04} 300 A 10.0.{}.{}\n", n / 250, n % 250)).collect();
    let report = import(&world, "", &records.concat()).await.ok(200);
    assert_eq!(report.json["item"]["rrsets_added"], 5000);
    let out = world.alice("GET", &format!("/zones/{id}/export")).send().await.ok(200);
    assert_eq!(
        out.text.lines().count(),
        2 + 1 + 2 + 5000,
        "$ORIGIN and $TTL once, the SOA, two NS, the hosts"
    );
    let again = import(&world, "", &out.text).await.ok(200);
    assert_eq!(again.json["change"]["id"], report.json["change"]["id"]);
    let made = json!({ "name": "example.org", "zone_file": out.text.replace("example.com", "example.org") });
    let made = world.alice("POST", "/zones").json(&made).send().await.ok(201);
    assert_eq!(made.json["item"]["record_count"], 5003);
}

#[tokio::test]
async fn what_is_wrong_is_told_by_line_and_column() {
    let world = World::new().await;
    world.zone("example.com").await;
    let wrong = import(
        &world,
        "",
        "$TTL 60\nok A 192.0.2.1\nbad A 192.0.2\nworse NOPE x\nfar.example.org. A 192.0.2.1\n",
    )
    .await;
    assert_eq!(wrong.problem(422, "invalid"), ["3:7", "4:7", "5:1"]);
    // Each line is right, and the whole isn't.
    let wrong = import(&world, "", "$TTL 60\nx A 192.0.2.1\nx CNAME y\n").await;
    wrong.problem(422, "invalid");
    assert_eq!(wrong.json["errors"][0]["name"], "x.example.com.");
    assert_eq!(world.records("example.com", "ok", "A").await, Value::Null);

    let path = "/zones/example.com/import";
    world.alice("POST", path).body("text/plain", "x").send().await.problem(415, "unsupported_media_type");
    world.alice("POST", path).send().await.problem(415, "unsupported_media_type");
    let other = world.alice("POST", path).header(header::CONTENT_ENCODING, "br").body("text/dns", "x");
    let reply = other.send().await;
    reply.problem(415, "unsupported_encoding");
    assert_eq!(reply.header(header::ACCEPT_ENCODING), "gzip, zstd, identity");
    let other = world.alice("POST", path).header(header::CONTENT_ENCODING, "gzip").body("text/dns", "x");
    other.send().await.problem(400, "malformed");
    world.alice("POST", path).body("Text/DNS; charset=utf-8", "").send().await.ok(200);
    import(&world, "?mode=nope", "").await.problem(400, "malformed");
    let stale = world.alice("POST", path).header(header::IF_MATCH, "\"1\"").body("text/dns", FILE);
    stale.send().await.problem(412, "precondition_failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_is_fitted_in_between_other_changes() {
    let world = World::new().await;
    world.zone("example.com").await;
    let body = json!({ "ttl": 60, "records": ["192.0.2.1"] });
    let writes = async {
        for n in 0..50 {
            let path = format!("/zones/example.com/rrsets/w{n}/A");
            world.alice("PUT", &path).json(&body).send().await.ok(201);
        }
    };
    let imports = async {
        let mut done = 0;
        for n in 0..10 {
            let file = format!("$TTL 60\ni{n} A 192.0.2.2\n");
            let reply = import(&world, "?mode=merge", &file).await;
            match reply.status {
                200 => done += 1,
                _ => _ = reply.problem(409, "conflict"),
            }
        }
        done
    };
    let ((), done) = tokio::join!(writes, imports);
    assert!(done > 0);
    // None of the writes was lost to an import that was prepared before it.
    for n in 0..50 {
        assert_eq!(world.records("example.com", &format!("w{n}"), "A").await, json!(["192.0.2.1"]));
    }
}

#[tokio::test]
async fn an_import_can_make_the_zone() {
    let world = World::new().await;
    let import = |query: &str, file: &str| {
        let path = format!("/zones/example.com/import{query}");
        world.alice("POST", &path).body("text/dns", file.to_owned()).send()
    };
    import("", FILE).await.problem(404, "not_found");
    import("?create=true", "x A 192.0.2\n").await.problem(422, "invalid");
    world.alice("GET", "/zones/example.com").send().await.problem(404, "not_found");
    let dry = import("?create=true&dry_run=true&preview=2", FILE).await.ok(200);
    let preview = &dry.json["item"]["preview"];
    assert_eq!(preview["changes"].as_array().map(Vec::len), Some(2));
    assert_eq!(preview["more"], 4);
    let made = import("?create=true", FILE).await.ok(201);
    assert!(made.header(header::LOCATION).starts_with("/api/v1/zones/z"));
    assert_eq!(made.json["item"]["foreign_nameservers"], json!(["ns.old.example."]));
    // From then on it is an import like any other.
    import("?create=true", FILE).await.ok(200);
    let changed = FILE.replace("192.0.2.25", "192.0.2.26").replace("@ MX 10 mail\n", "");
    let dry = import("?dry_run=true&preview=10", &changed).await.ok(200);
    assert_eq!(
        dry.json["item"]["preview"],
        json!({
            "changes": [
                { "name": "example.com.", "type": "MX", "ttl_before": 3600, "removed": ["10 mail.example.com."], "added": [] },
                {
                    "name": "mail.example.com.", "type": "A", "ttl_before": 3600, "ttl_after": 3600,
                    "removed": ["192.0.2.25"], "added": ["192.0.2.26"],
                },
            ],
            "more": 0,
        })
    );
    import("?preview=100001", FILE).await.problem(400, "malformed");
}

#[tokio::test]
async fn a_batch_makes_all_of_its_zones_or_none() {
    let world = World::new().await;
    let batch = |body: Value| world.alice("POST", "/batches").json(&body).send();
    let zone = |n: usize| match n % 3 {
        0 => json!({ "name": format!("n{n}.example") }),
        1 => {
            json!({ "name": format!("n{n}.example"), "zone_file": "$TTL 60\nwww A 192.0.2.1\n@ NS ns.old.example.\n" })
        }
        _ => json!({
            "name": format!("n{n}.example"), "labels": { "n": n.to_string() },
            "rrsets": [{ "name": "www", "type": "A", "ttl": 60, "records": ["192.0.2.1"] }],
        }),
    };
    let zones: Vec<Value> = (0..30).map(zone).collect();
    batch(json!({ "create": zones, "message": "moved in" })).await.ok(201);
    let made = world.alice("GET", "/zones?name=.example").send().await.ok(200);
    let made = made.json["items"].as_array().unwrap().clone();
    assert_eq!(made.len(), 30);
    let mut ids: Vec<&str> = made.iter().map(|zone| zone["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 30);
    assert_eq!(world.records("n1.example", "www", "A").await, world.records("n2.example", "www", "A").await);
    // One entry of the log, so that all have one revision.
    assert!(made.iter().all(|zone| zone["revision"] == made[0]["revision"]));

    // Each bad one is named, and the good one isn't made either.
    let bad = json!({ "create": [
        { "name": "good.example" },
        { "name": "n1.example" },
        { "name": "good.example" },
    ] });
    assert_eq!(batch(bad).await.problem(409, "conflict"), ["/create/1", "/create/2"]);
    let bad = json!({ "create": [
        { "name": "good.example" },
        { "name": "a..b" },
        { "name": "c.example", "zone_file": "x A 1\n" },
        { "name": "d.example", "message": "no" },
        { "name": "e.example", "rrsets": [{ "name": "x", "type": "A", "ttl": 1, "records": ["?"] }] },
    ] });
    assert_eq!(
        batch(bad).await.problem(422, "invalid"),
        ["/create/1/name", "/create/2/zone_file", "/create/3/message", "/create/4/rrsets/0/records/0"]
    );
    world.alice("GET", "/zones/good.example").send().await.problem(404, "not_found");
    let both =
        json!({ "create": [{ "name": "good.example" }], "zones": [{ "zone": "n1.example", "changes": [] }] });
    batch(both).await.problem(400, "malformed");
    let many: Vec<Value> = (0..1001).map(|n| json!({ "name": format!("m{n}.example") })).collect();
    assert_eq!(batch(json!({ "create": many })).await.problem(422, "invalid"), ["/create"]);
}
