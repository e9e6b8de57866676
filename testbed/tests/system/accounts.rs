//! Tenants don't see, take or guess at each other's zones; tokens do no more than their scope says.

use serde_json::{Value, json};
use testbed::api::Api;
use testbed::platform::Platform;

#[test]
fn tenants_are_isolated() {
    let platform = Platform::start("tenants", 0);
    let (one, two) = (&platform.tenant, &platform.herald.tenant("two"));
    let made = one.post("/zones", &json!({ "name": "example.com" })).expect(201);
    let id = made["item"]["id"].as_str().unwrap();
    let change = made["change"]["id"].as_str().unwrap();
    one.put("/zones/example.com/rrsets/www/A", &json!({ "ttl": 60, "records": ["192.0.2.1"] })).expect(201);

    assert_eq!(two.get("/zones").expect(200)["items"], json!([]));
    let other_id: String = id.chars().map(|c| if c == '0' { '1' } else { c }).collect();
    for (zone, nobodys) in [("example.com", "nobody.com"), (id, &other_id)] {
        for path in ["", "/rrsets", "/rrsets/www/A", "/export"] {
            let reply = two.get(&format!("/zones/{zone}{path}"));
            assert_eq!(reply.status, 404, "{}: {}", reply.request, reply.text);
            // Nothing tells it from a zone that isn't there.
            let not_there = two.get(&format!("/zones/{nobodys}{path}"));
            assert_eq!(reply.text.replace(zone, "ZONE"), not_there.text.replace(nobodys, "ZONE"));
        }
        assert_eq!(two.delete(&format!("/zones/{zone}")).status, 404);
    }
    assert_eq!(two.get(&format!("/changes/{change}")).status, 404);
    let batch = json!({ "zones": [{ "zone": "example.com", "changes": [{ "op": "delete", "name": "www", "type": "A" }] }] });
    assert!((400..500).contains(&two.post("/batches", &batch).status));
    one.get("/zones/example.com/rrsets/www/A").expect(200);
}

#[test]
fn names_of_others_are_pending_and_can_be_let_in() {
    let platform = Platform::start("pending", 0);
    let (one, two) = (&platform.tenant, &platform.herald.tenant("two"));
    one.post("/zones", &json!({ "name": "example.com" })).expect(201);
    let status = |zone: &str| two.post("/zones", &json!({ "name": zone })).expect(201)["item"].clone();
    for zone in ["example.com", "sub.example.com"] {
        let pending = status(zone);
        assert_eq!(pending["status"], "pending", "{pending}");
        assert!(pending["proof"]["txt_value"].is_string(), "{pending}");
    }
    assert_eq!(status("free.example.net")["status"], "active");
    for suffix in ["com", "co.uk"] {
        let refused = two.post("/zones", &json!({ "name": suffix }));
        assert_eq!(refused.status, 422, "{}", refused.text);
    }

    let pending = two.get("/zones/sub.example.com").expect(200);
    let code = pending["proof"]["admission_code"].as_str().unwrap();
    let wrong = json!({ "name": "sub.example.com", "admission_code": "wrong" });
    assert!((400..500).contains(&one.post("/admissions", &wrong).status));
    let right = json!({ "name": "sub.example.com", "admission_code": code });
    let admitted = one.post("/admissions", &right);
    assert!(admitted.status < 300, "{}", admitted.text);
    assert_eq!(two.get("/zones/sub.example.com").expect(200)["status"], "active");
}

#[test]
fn tokens_do_what_their_scope_says() {
    let platform = Platform::start("tokens", 0);
    let tenant = &platform.tenant;
    tenant.post("/zones", &json!({ "name": "example.com" })).expect(201);
    let scoped = |scope: Value| -> (String, Api) {
        let made = tenant.post("/tokens", &json!({ "description": "scoped", "scope": scope })).expect(201);
        let secret = made["item"]["secret"].as_str().unwrap();
        (made["item"]["id"].as_str().unwrap().to_owned(), Api::new(platform.herald.api, secret))
    };
    let put = |api: &Api, name: &str, rtype: &str, record: &str| {
        let path = format!("/zones/example.com/rrsets/{name}/{rtype}");
        api.put(&path, &json!({ "ttl": 60, "records": [record] })).status
    };

    let (id, acme) =
        scoped(json!({ "names": ["_acme-challenge.*"], "types": ["TXT"], "verbs": ["read", "write"] }));
    assert_eq!(put(&acme, "_acme-challenge.www", "TXT", "proof"), 201);
    assert_eq!(put(&acme, "www", "TXT", "proof"), 403);
    assert_eq!(put(&acme, "_acme-challenge.www", "A", "192.0.2.1"), 403);
    assert_eq!(acme.delete("/zones/example.com").status, 403);
    assert_eq!(acme.post("/tokens", &json!({ "description": "more" })).status, 403);

    let (_, reader) = scoped(json!({ "verbs": ["read"] }));
    assert_eq!(put(&reader, "www", "A", "192.0.2.1"), 403);
    reader.get("/zones/example.com/rrsets").expect(200);

    let list = tenant.get("/tokens").text;
    assert!(!list.contains(acme.token()), "a secret is shown once");
    assert!((200..300).contains(&tenant.delete(&format!("/tokens/{id}")).status));
    assert_eq!(put(&acme, "_acme-challenge.www", "TXT", "proof"), 401);

    let past = json!({ "description": "old", "expires_at_ms": 1000 });
    let expired = tenant.post("/tokens", &past);
    assert!(
        expired.status == 422 || {
            let secret = expired.json()["item"]["secret"].as_str().unwrap().to_owned();
            Api::new(platform.herald.api, &secret).get("/whoami").status == 401
        }
    );
    assert_eq!(tenant.get("/whoami").expect(200)["kind"], "tenant");
    assert_eq!(tenant.get("/pops").status, 403);
}
