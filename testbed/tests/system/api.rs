//! The API's contract, as a client sees it. No PoP is needed for it.

use serde_json::{Value, json};
use testbed::api::{Api, Reply};
use testbed::platform::Platform;

/// A platform without PoPs and with the zone `example.com`.
fn platform() -> Platform {
    let platform = Platform::start("api", 0);
    platform.create_zone("example.com");
    platform
}

/// Makes an RRset.
#[track_caller]
fn put_a(api: &Api, name: &str, address: &str) -> Value {
    api.put(&format!("/zones/example.com/rrsets/{name}/A"), &json!({ "ttl": 60, "records": [address] }))
        .expect(201)
}

#[track_caller]
fn assert_problem(reply: &Reply, status: u16, code: &str) -> Value {
    assert_eq!(reply.status, status, "{}: {}", reply.request, reply.text);
    assert_eq!(reply.content_type.as_deref(), Some("application/problem+json"), "{}", reply.request);
    let problem = reply.json();
    assert_eq!(problem["type"], format!("urn:koder-herald:problem:{code}"), "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    assert!(!problem["detail"].as_str().unwrap_or_default().is_empty(), "{problem}");
    problem
}

#[test]
fn a_change_is_read_back_and_has_a_receipt() {
    let platform = platform();
    let api = &platform.tenant;
    let before = api.get("/zones/example.com").expect(200);
    let written = put_a(api, "www", "192.0.2.1");
    assert_eq!(written["item"]["name"], "www.example.com.");
    assert_eq!(written["item"]["records"], json!(["192.0.2.1"]));
    let read = api.get("/zones/example.com/rrsets/www.example.com./A").expect(200);
    assert_eq!(read, written["item"]);
    let after = api.get("/zones/example.com").expect(200);
    assert!(after["serial"].as_u64() > before["serial"].as_u64());
    let id = written["change"]["id"].as_str().unwrap();
    let change = api.get(&format!("/changes/{id}")).expect(200);
    assert_eq!(change["revision"], written["change"]["revision"]);
    assert_eq!(change["zones"][0]["name"], "example.com.");
    assert_eq!(change["zones"][0]["serial"], after["serial"]);

    let deleted = api.delete("/zones/example.com/rrsets/www/A").expect(200);
    assert!(deleted["item"].is_null(), "{deleted}");
    assert_problem(&api.get("/zones/example.com/rrsets/www/A"), 404, "not_found");
}

#[test]
fn if_match_guards_zones_and_rrsets() {
    let platform = platform();
    let api = &platform.tenant;
    put_a(api, "www", "192.0.2.1");
    for (path, method, body) in [
        ("/zones/example.com/rrsets/www/A", "PUT", json!({ "ttl": 60, "records": ["192.0.2.2"] })),
        (
            "/zones/example.com/rrsets",
            "PATCH",
            json!({ "changes": [{ "op": "put", "name": "b", "type": "A", "ttl": 60, "records": ["192.0.2.3"] }] }),
        ),
    ] {
        let guarded = if method == "PUT" { path } else { "/zones/example.com" };
        let etag = api.get(guarded).etag.expect("there is an ETag");
        api.call_with(method, path, &[("If-Match", &etag)], Some(&body)).expect(200);
        let stale = api.call_with(method, path, &[("If-Match", &etag)], Some(&body));
        assert_problem(&stale, 412, "precondition_failed");
    }
    let any = json!({ "ttl": 60, "records": ["192.0.2.9"] });
    let path = "/zones/example.com/rrsets/nothing/A";
    assert_problem(&api.call_with("PUT", path, &[("If-Match", "*")], Some(&any)), 412, "precondition_failed");
}

#[test]
fn lists_come_in_pages() {
    let platform = platform();
    let api = &platform.tenant;
    for number in 0..7 {
        put_a(api, &format!("host{number}"), "192.0.2.1");
    }
    let whole = api.get("/zones/example.com/rrsets?limit=1000").expect(200);
    let whole = whole["items"].as_array().unwrap();
    let mut pages = Vec::new();
    let mut query = "limit=3".to_owned();
    loop {
        let page = api.get(&format!("/zones/example.com/rrsets?{query}")).expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        pages.extend(items.clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("limit=3&cursor={cursor}");
    }
    assert_eq!(&pages, whole);
    assert_eq!(whole.len(), 9, "7 A, the SOA and NS: {whole:?}");
    let some = api.get("/zones/example.com/rrsets?type=A&name=host3.example.com.").expect(200);
    assert_eq!(some["items"].as_array().unwrap().len(), 1, "{some}");
    assert_problem(&api.get("/zones?limit=0"), 400, "malformed");
    assert_problem(&api.get("/zones?cursor=%21%21"), 400, "malformed");
}

#[test]
fn problems_name_what_is_wrong() {
    let platform = platform();
    let api = &platform.tenant;
    let batch = json!({ "changes": [
        { "op": "put", "name": "good", "type": "A", "ttl": 60, "records": ["192.0.2.1"] },
        { "op": "put", "name": "bad", "type": "A", "ttl": 60, "records": ["192.0.2.256"] },
        { "op": "delete", "name": "missing", "type": "TXT" },
    ] });
    let problem = assert_problem(&api.patch("/zones/example.com/rrsets", &batch), 422, "invalid");
    let pointers: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().filter_map(|e| e["pointer"].as_str()).collect();
    assert!(pointers.iter().any(|p| p.starts_with("/changes/1")), "{problem}");
    assert_problem(&api.get("/zones/example.com/rrsets/good/A"), 404, "not_found");

    put_a(api, "www", "192.0.2.1");
    let exclusive = json!({ "ttl": 60, "records": ["example.net."] });
    let problem = api.put("/zones/example.com/rrsets/www/CNAME", &exclusive);
    let problem = assert_problem(&problem, 422, "invalid");
    assert_eq!(problem["errors"][0]["name"], "www.example.com.", "{problem}");

    let typing_error = json!({ "ttl": 60, "recrods": ["192.0.2.1"] });
    assert_problem(&api.put("/zones/example.com/rrsets/www/A", &typing_error), 400, "malformed");
    assert_problem(&api.get("/zones/nobody.example"), 404, "not_found");
    assert_problem(&api.get("/no/such/thing"), 404, "not_found");
    assert_problem(&api.delete("/zones"), 405, "method_not_allowed");
    let nobody = Api::new(platform.herald.api, "");
    assert_problem(&nobody.get("/zones"), 401, "unauthenticated");
    let text = api.try_call("POST", "/zones", &[("Content-Type", "text/plain")], Some("{}")).unwrap();
    assert_problem(&text, 415, "unsupported_media_type");
}

#[test]
fn the_final_state_is_judged_not_the_order() {
    let platform = platform();
    let api = &platform.tenant;
    put_a(api, "www", "192.0.2.1");
    // The CNAME comes before what it excludes is gone.
    let batch = json!({ "changes": [
        { "op": "put", "name": "www", "type": "CNAME", "ttl": 60, "records": ["example.com"] },
        { "op": "delete", "name": "www", "type": "A" },
    ] });
    api.patch("/zones/example.com/rrsets", &batch).expect(200);
    let read = api.get("/zones/example.com/rrsets/www/CNAME").expect(200);
    assert_eq!(read["records"], json!(["example.com."]));
}

#[test]
fn batches_over_zones_are_whole_or_not_at_all() {
    let platform = platform();
    let api = &platform.tenant;
    platform.create_zone("example.net");
    let batch = |second: &str| {
        let put = |value: &str| json!([{ "op": "put", "name": "both", "type": "A", "ttl": 60, "records": [value] }]);
        json!({ "zones": [
            { "zone": "example.com", "changes": put("192.0.2.1") },
            { "zone": "example.net", "changes": put(second) },
        ] })
    };
    assert_problem(&api.post("/batches", &batch("nonsense")), 422, "invalid");
    for zone in ["example.com", "example.net"] {
        assert_problem(&api.get(&format!("/zones/{zone}/rrsets/both/A")), 404, "not_found");
    }
    let done = api.post("/batches", &batch("192.0.2.2")).expect(200);
    assert_eq!(done["change"]["zones"].as_array().unwrap().len(), 2, "{done}");
    api.get("/zones/example.com/rrsets/both/A").expect(200);
    api.get("/zones/example.net/rrsets/both/A").expect(200);
}

#[test]
fn a_dry_run_judges_and_does_nothing() {
    let platform = platform();
    let api = &platform.tenant;
    let before = api.get("/zones/example.com").expect(200);
    let put = json!({ "ttl": 60, "records": ["192.0.2.1"] });
    let would = api.put("/zones/example.com/rrsets/www/A?dry_run=true", &put).expect(200);
    assert!(would["change"].is_null() && would["item"]["records"] == json!(["192.0.2.1"]), "{would}");
    let bad = json!({ "ttl": 60, "records": ["nonsense"] });
    assert_problem(&api.put("/zones/example.com/rrsets/www/A?dry_run=true", &bad), 422, "invalid");
    api.delete("/zones/example.com?dry_run=true").expect(200);
    assert_eq!(api.get("/zones/example.com").expect(200), before);
}

#[test]
fn import_shows_and_replaces_foreign_name_servers_and_export_gives_all_back() {
    let platform = platform();
    let api = &platform.tenant;
    let report = api.import("example.com", testbed::EXAMPLE_ZONE).expect(200);
    let foreign = &report["item"]["foreign_nameservers"];
    assert_eq!(*foreign, json!(["ns1.old-provider.example.", "ns2.old-provider.example."]), "{report}");
    let ns = api.get("/zones/example.com/rrsets/@/NS").expect(200);
    assert_eq!(ns["records"], json!(["ns1.dns.example.", "ns2.dns.example."]));

    let export = api.get("/zones/example.com/export");
    assert_eq!(export.status, 200);
    assert!(export.content_type.as_deref().unwrap_or_default().starts_with("text/dns"), "{export:?}");
    let again = api.import("example.com", &export.text).expect(200);
    for count in ["rrsets_added", "rrsets_changed", "rrsets_removed"] {
        assert_eq!(again["item"][count], 0, "{again}");
    }
    let types: Vec<Value> = api.get("/zones/example.com/rrsets?limit=1000").expect(200)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rrset| rrset["type"].clone())
        .collect();
    for rtype in testbed::EXAMPLE_TYPES {
        assert!(types.contains(&json!(rtype)), "{rtype} is missing");
    }
}

#[test]
fn a_restart_keeps_all() {
    let mut platform = platform();
    put_a(&platform.tenant, "www", "192.0.2.1");
    let zones = platform.tenant.get("/zones").expect(200);
    let export = platform.tenant.get("/zones/example.com/export").text;
    platform.herald.stop().unwrap();
    platform.herald.restart();
    assert_eq!(platform.tenant.get("/zones").expect(200), zones);
    assert_eq!(platform.tenant.get("/zones/example.com/export").text, export);
    platform.herald.restart();
    assert_eq!(platform.tenant.get("/zones").expect(200), zones);
}

#[test]
fn the_rest_of_the_surface() {
    let platform = platform();
    let nobody = Api::new(platform.herald.api, "");
    let document = nobody.get("/openapi.json").expect(200);
    assert!(document["openapi"].as_str().unwrap_or_default().starts_with("3.1"), "{}", document["openapi"]);
    assert_eq!(nobody.get("//healthz").status, 200);
    assert_eq!(nobody.get("//readyz").status, 200);
    let metrics = nobody.get("//metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.text.contains("# TYPE "), "{}", metrics.text);
}

#[test]
fn the_page_for_operators_explains_every_metric_and_no_other() {
    let platform = testbed::platform::Platform::start("metrics", 1);
    platform.create_zone("example.com");
    platform.wait_until_in_sync();
    let exported = platform.tenant.get("//metrics").text;
    let exported: std::collections::BTreeSet<&str> =
        exported.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let page = include_str!("../../../docs/operations.md");
    let explained = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(exported, explained);
}
