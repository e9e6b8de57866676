//! The emptiness brake's settings and the operator's word. What is held back is looked at in the publisher's tests.

use herald_core::PopId;
use herald_core::account::Principal;
use herald_core::command::{Action, Command};
use serde_json::{Value, json};

use super::World;
use crate::clock;

#[tokio::test]
async fn operators_set_the_brakes() {
    let world = World::new().await;
    let brakes =
        json!({ "zone_percent": 50, "zone_rrsets_min": 20, "pop_percent": 20, "pop_zones_min": 100 });
    assert_eq!(world.operator("GET", "/brakes").send().await.ok(200).json, brakes);
    let patch = json!({ "pop_percent": 7, "message": "careful" });
    let set = world.operator("PATCH", "/brakes").json(&patch).send().await.ok(200);
    assert_eq!(
        (&set.json["item"]["pop_percent"], &set.json["change"]["message"]),
        (&json!(7), &json!("careful"))
    );
    let now = world.operator("GET", "/brakes").send().await.ok(200).json;
    assert_eq!((&now["pop_percent"], &now["pop_zones_min"]), (&json!(7), &json!(100)));
    let wrong = world.operator("PATCH", "/brakes").json(&json!({ "zone_percent": 101 })).send().await;
    wrong.problem(422, "invalid");
    let unknown = world.operator("PATCH", "/brakes").json(&json!({ "percent": 1 })).send().await;
    unknown.problem(400, "malformed");
    // Nothing of it is for tenants.
    world.alice("GET", "/brakes").send().await.problem(403, "forbidden");
    world.alice("PATCH", "/brakes").json(&patch).send().await.problem(403, "forbidden");
    world.alice("POST", "/brakes/release").json(&json!({})).send().await.problem(403, "forbidden");
}

#[tokio::test]
async fn what_is_held_back_is_shown_till_it_is_released() {
    let world = World::new().await;
    let pop = world.operator("POST", "/pops").json(&json!({ "name": "ams" })).send().await.ok(201).id();
    let id: PopId = pop.parse().unwrap();
    let hold = async || {
        let revision = world.engine.state().revision();
        let action = Action::HoldPop { pop: id, revision, zones_lost: 120, zones_before: 300 };
        let context = clock::context(Principal::System, None);
        world.engine.submit(Command { context, action }).await.unwrap();
    };
    let shown = async || world.operator("GET", "/pops/ams").send().await.ok(200).json["held"].clone();
    assert_eq!(shown().await, Value::Null);
    for path in ["/pops/ams/release", "/brakes/release"] {
        hold().await;
        let held = shown().await;
        assert_eq!(held["reason"], "120 of its 300 zones would have been gone within an hour");
        assert!(held["since_ms"].as_u64().unwrap() > 0);
        world.alice("POST", path).json(&json!({})).send().await.problem(403, "forbidden");
        let yet_to_come = json!({ "revision": 1_000_000 });
        world.operator("POST", path).json(&yet_to_come).send().await.problem(422, "invalid");
        world.operator("POST", path).json(&json!({ "revision": 1 })).send().await.ok(200);
        assert_ne!(shown().await, Value::Null, "a word as of before");
        let released = world.operator("POST", path).json(&json!({ "message": "meant" })).send().await.ok(200);
        assert_eq!(released.json["change"]["message"], "meant");
        assert_eq!(shown().await, Value::Null);
    }
    world.operator("POST", "/pops/nowhere/release").json(&json!({})).send().await.problem(404, "not_found");
    let changes = world.operator("GET", "/changes?limit=10").send().await.ok(200).text;
    assert!(changes.contains("pop_held") && changes.contains("pop_released"), "{changes}");
}
