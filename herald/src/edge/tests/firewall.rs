//! Policy zones and the past. What decides at PoPs, and how it gets there, is looked at in the system tests.

use herald_core::change::ChunkAddress;
use serde_json::{Value, json};

use super::{Reply, World};

async fn put(world: &World, text: &str) -> Reply {
    let path = "/firewall/rpz/block?origin=rpz.example";
    world.operator("PUT", path).body("text/dns", text.to_owned()).send().await.ok(200)
}

fn revision(reply: &Reply) -> u64 {
    reply.json["change"]["revision"].as_u64().unwrap()
}

fn chunks(world: &World) -> Vec<ChunkAddress> {
    world.engine.state().firewall().zone("block").unwrap().chunks.clone()
}

async fn compact(world: &World, horizon: u64) {
    let engine = world.engine.clone();
    tokio::task::spawn_blocking(move || engine.compact(horizon)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_policy_zone_that_was_deleted_comes_back() {
    let world = World::new().await;
    let first = put(&world, "a.example CNAME .\n").await;
    let of_first = chunks(&world);
    let second = put(&world, "b.example CNAME .\n").await;
    let of_second = chunks(&world);
    let has = |chunks: &[ChunkAddress]| world.engine.table(chunks).unwrap().is_some();
    world.operator("DELETE", "/firewall/rpz/block").send().await.ok(200);
    compact(&world, 0).await;
    assert!(has(&of_first) && has(&of_second), "both may be wanted back");

    let back = |to: u64| json!({ "to": to.to_string() });
    let path = "/firewall/rollback";
    let tried = world.operator("POST", &format!("{path}?dry_run=true")).json(&back(revision(&first)));
    assert_eq!(tried.send().await.ok(200).json["change"], Value::Null);
    world.operator("POST", path).json(&back(revision(&first))).send().await.ok(200);
    assert_eq!(chunks(&world), of_first);

    let done = world.operator("POST", path).json(&back(revision(&second))).send().await.ok(200);
    assert_eq!(
        (chunks(&world), &done.json["change"]["message"]),
        (of_second, &json!(format!("rollback to revision {}", revision(&second))))
    );
}

#[tokio::test]
async fn what_would_be_done_is_told_by_rules_and_by_policy_zones() {
    let world = World::new().await;
    put(&world, "bad.example CNAME .\n8.0.0.0.10.rpz-client-ip CNAME rpz-drop.\n").await;
    let over = json!({ "name": "fast", "action": "truncate", "when": { "over": { "per_s": 10 } } });
    world.operator("PUT", "/firewall/rules/fast").json(&over).send().await.ok(200);
    let told = async |name: &str, client: &str| {
        let path = format!("/firewall/test?name={name}&client={client}");
        world.operator("GET", &path).send().await.ok(200).json
    };
    let bad = told("bad.example", "192.0.2.1").await;
    assert_eq!(
        (&bad["verdict"], &bad["owner"], &bad["name"]),
        (&json!("nxdomain"), &json!("policy_zone"), &json!("block"))
    );
    // Beyond the rate the rule comes first.
    assert!(bad["when_fast"].as_str().unwrap().starts_with("truncate: the fleet's rule fast"), "{bad}");
    assert_eq!(told("good.example", "10.0.0.2").await["verdict"], "drop");
    assert_eq!(told("good.example", "192.0.2.1").await["verdict"], "pass");
    for wrong in [
        "name=a..b&client=192.0.2.1",
        "name=a.example&client=here",
        "name=a.example",
        "name=a.example&client=::1&type=NOPE",
    ] {
        world.operator("GET", &format!("/firewall/test?{wrong}")).send().await.problem(400, "malformed");
    }
}
