//! A tenant can't see, touch or guess at what is another's: it is answered as if it were not there.

use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn what_is_anothers_is_not_there() {
    let world = World::new().await;
    let id = world.zone("secret.example").await;
    let change = world
        .alice("PUT", "/zones/secret.example/rrsets/www/A")
        .json(&json!({ "ttl": 60, "records": ["192.0.2.1"] }))
        .send()
        .await
        .ok(201);
    let change = change.json["change"]["id"].as_str().unwrap();
    let missing_id = {
        // One digit off.
        let last = if id.ends_with('0') { "1" } else { "0" };
        format!("{}{last}", &id[..id.len() - 1])
    };
    let batch = json!({ "changes": [{ "op": "delete", "name": "www", "type": "A" }] });
    let put = json!({ "ttl": 60, "records": ["192.0.2.1"] });
    let routes: [(&str, &str, Option<&Value>); 14] = [
        ("GET", "/zones/ZONE", None),
        ("PATCH", "/zones/ZONE", Some(&json!({ "labels": {} }))),
        ("DELETE", "/zones/ZONE", None),
        ("POST", "/zones/ZONE/verify", None),
        ("POST", "/zones/ZONE/admit", None),
        ("GET", "/zones/ZONE/check", None),
        ("GET", "/zones/ZONE/rrsets", None),
        ("PATCH", "/zones/ZONE/rrsets", Some(&batch)),
        ("GET", "/zones/ZONE/rrsets/www/A", None),
        ("PUT", "/zones/ZONE/rrsets/www/A", Some(&put)),
        ("DELETE", "/zones/ZONE/rrsets/www/A", None),
        ("GET", "/zones/ZONE/export", None),
        ("POST", "/zones/ZONE/import", None),
        ("POST", "/batches", None),
    ];
    for (existing, missing) in [("secret.example", "nobody.example"), (&id, &missing_id)] {
        for (method, path, body) in routes {
            let answer = async |zone: &str| {
                let call = world.bob(method, &path.replace("ZONE", zone));
                let call = match (path, body) {
                    ("/zones/ZONE/import", _) => call.body("text/dns", "www 60 A 192.0.2.1\n"),
                    ("/batches", _) => {
                        call.json(&json!({ "zones": [{ "zone": zone, "changes": batch["changes"] }] }))
                    }
                    (_, Some(body)) => call.json(body),
                    _ => call,
                };
                let reply = call.send().await;
                reply.problem(404, "not_found");
                reply.text.replace(zone, "ZONE")
            };
            assert_eq!(answer(existing).await, answer(missing).await, "{method} {path}");
        }
    }
    // Receipts.
    let theirs = world.bob("GET", &format!("/changes/{change}")).send().await;
    let none = world.bob("GET", "/changes/c99999999").send().await;
    theirs.problem(404, "not_found");
    assert_eq!(theirs.text.replace(change, "X"), none.text.replace("c99999999", "X"));
    for id in ["c0", "c01", "1", "c", "c-1", "c99999999999999999999999", "x"] {
        world.operator("GET", &format!("/changes/{id}")).send().await.problem(404, "not_found");
    }
    world.operator("GET", &format!("/changes/{change}")).send().await.ok(200);
    world.operator("GET", "/changes/c1").send().await.ok(200);
    // Tokens and tenants.
    let token = &world.alice[4..31];
    world.bob("GET", &format!("/tokens/{token}")).send().await.problem(404, "not_found");
    let theirs = world.bob("POST", "/tokens").json(&json!({ "tenant": "alice" })).send().await;
    let none = world.bob("POST", "/tokens").json(&json!({ "tenant": "carol" })).send().await;
    assert_eq!(theirs.text.replace("alice", "X"), none.text.replace("carol", "X"));
    assert_eq!(world.bob("GET", "/zones").send().await.ok(200).json["items"], json!([]));
}

#[tokio::test]
async fn a_receipt_of_a_change_of_many_shows_each_its_own() {
    let world = World::new().await;
    world.zone("alice.example").await;
    world.bob("POST", "/zones").json(&json!({ "name": "bob.example" })).send().await.ok(201);
    let set = json!({
        "name": "main", "nameservers": ["ns9.herald.test"], "rname": "dns.herald.test", "message": "a note",
    });
    let changed = world.operator("PUT", "/nameserver-sets/main").json(&set).send().await.ok(200);
    assert_eq!(changed.json["change"]["zones"].as_array().unwrap().len(), 2);
    let path = format!("/changes/{}", changed.json["change"]["id"].as_str().unwrap());
    let seen = world.bob("GET", &path).send().await.ok(200);
    assert_eq!(seen.json["zones"].as_array().unwrap().len(), 1);
    assert_eq!(seen.json["zones"][0]["name"], "bob.example.");
    assert_eq!((&seen.json["principal"], seen.json.get("message")), (&json!("operator"), None));
}
