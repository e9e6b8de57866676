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
