//! ALIAS records that regions answer for.

use herald_core::alias::watch::{Found, Sight, Watch};
use herald_core::rdata::parse_rdata;
use herald_core::state::State;
use herald_core::{Name, PopId, Rdatas, Rrset, Rtype};
use serde_json::{Value, json};

use super::*;

const TARGET: &str = "lb.example.net";

async fn pop(world: &World, name: &str, region: Option<&str>) {
    let mut body = json!({ "name": name });
    if let Some(region) = region {
        body["region"] = json!(region);
    }
    world.operator("POST", "/pops").json(&body).send().await.ok(201);
}

async fn get(world: &World, path: &str) -> Value {
    world.alice("GET", path).send().await.ok(200).json
}

fn found(address: &str) -> Found {
    Found::Addresses(Rrset { ttl: 40, rdatas: Rdatas::single(&parse_rdata(Rtype::A, address).unwrap()) })
}

/// Puts on the log what is to be served if PoPs find these addresses.
async fn resolve(world: &World, finds: &[(&str, &str)]) {
    let state = world.engine.state();
    let mut watch = Watch::default();
    watch.set_pops(0, state.pops().map(|pop| (pop.id, pop.name.clone())));
    state.pops().for_each(|pop| watch.pop_up(pop.id, true));
    watch.follow(&State::default(), &state);
    watch.choose(0);
    for (pop, address) in finds {
        let pop: PopId = state.pops().find(|one| one.name == *pop).unwrap().id;
        let aaaa = Found::Nothing { cause: "NODATA".into() };
        watch.said(pop, 1, &Name::parse(TARGET).unwrap(), Sight { a: found(address), aaaa, since_ms: 0 });
    }
    let zones = watch.due(&state);
    assert!(!zones.is_empty());
    let context = clock::context(Principal::System, None);
    world.engine.submit(Command { context, action: Action::SetResolved { zones } }).await.unwrap();
}

#[tokio::test]
async fn regions_answers_are_explained_and_are_no_content_of_the_tenants() {
    let world = World::new().await;
    world.zone("example.com").await;
    let record = json!({ "ttl": 300, "records": [TARGET] });
    world.alice("PUT", "/zones/example.com/rrsets/@/ALIAS").json(&record).send().await.ok(201);
    // Whoever asks for it where no PoP is in a region is told.
    for name in ["fra1", "iad1"] {
        pop(&world, name, None).await;
    }
    let settings = json!({ "alias_by_region": true });
    let put = world.alice("PUT", "/zones/example.com/steering/settings").json(&settings).send().await.ok(200);
    assert_eq!(put.json["warnings"][0]["code"], "no_region", "{}", put.text);
    assert_eq!(put.json["item"], json!({ "ecs": false, "alias_by_region": true }));
    let lint = get(&world, "/zones/example.com/steering/lint").await;
    assert_eq!(lint["items"][0]["code"], "no_region", "{lint}");
    let patch = |name: &str, region: &str| {
        world.operator("PATCH", &format!("/pops/{name}")).json(&json!({ "region": region })).send()
    };
    assert_eq!(patch("fra1", "eu-west").await.ok(200).json["item"]["region"], "eu-west");
    patch("iad1", "us").await.ok(200);
    pop(&world, "sin1", Some("apac")).await;
    assert!(patch("sin1", "").await.ok(200).json["item"].get("region").is_none());
    patch("sin1", "A b").await.problem(422, "invalid");
    assert_eq!(get(&world, "/zones/example.com/steering/lint").await["items"], json!([]));

    let alias = get(&world, "/zones/example.com/aliases").await["items"][0].clone();
    let of = |alias: &Value, region: &str| {
        let regions = alias["regions"].as_array().unwrap();
        regions
            .iter()
            .find(|one| one["region"] == region)
            .unwrap_or_else(|| panic!("{region}: {alias}"))
            .clone()
    };
    assert_eq!(alias["regions"].as_array().unwrap().len(), 2, "{alias}");
    assert_eq!(
        of(&alias, "us"),
        json!({ "region": "us", "state": "everywhere", "served": [], "pops": ["iad1"], "resolved_by": [] })
    );

    let before = get(&world, "/zones/example.com").await;
    let history = get(&world, "/zones/example.com/history").await;
    let export = async || {
        let text = world.alice("GET", "/zones/example.com/export").send().await.ok(200).text;
        text.lines().filter(|line| !line.contains("SOA")).map(str::to_owned).collect::<Vec<_>>()
    };
    let exported = export().await;
    let steering = get(&world, "/zones/example.com/steering").await;
    resolve(&world, &[("fra1", "193.0.0.1"), ("iad1", "193.0.0.2"), ("sin1", "193.0.0.3")]).await;
    for (name, address) in [("fra1", "193.0.0.1"), ("iad1", "193.0.0.2")] {
        let explained = get(&world, &format!("/explain?name=example.com&client=192.0.2.7&pop={name}")).await;
        assert_eq!(explained["outcome"], "steered", "{explained}");
        assert_eq!(explained["decision"]["answer"]["records"], json!([address]), "{explained}");
        assert_eq!(explained["decision"]["answer"]["ttl"], 40, "{explained}");
        let region = if name == "fra1" { "eu-west" } else { "us" };
        let alias = &explained["alias"];
        let is_own = of(alias, region)["state"] != "everywhere";
        assert_eq!(explained["region"] == region, is_own, "{explained}");
        let note = explained["note"].as_str().unwrap();
        assert_eq!(note.contains("the answer of its region"), is_own, "{note}");
        // Whoever asks isn't told by PoPs, as none has a session: what was good last is served.
        assert_eq!(of(alias, region)["state"] == "last_good", is_own, "{alias}");
        assert_eq!(of(alias, region)["served"][0]["records"], json!([address]), "{alias}");
    }
    // The one that is in no region gives what everybody gets, whoever found that.
    let explained = get(&world, "/explain?name=example.com&client=192.0.2.7&pop=sin1").await;
    let served = &explained["alias"]["served"][0]["records"];
    assert_eq!((&explained["decision"]["answer"]["records"], explained.get("region")), (served, None));
    assert!(explained["note"].as_str().unwrap().contains("no answer of its own"), "{explained}");
    let explained = get(&world, "/explain?name=example.com&type=AAAA&client=192.0.2.7&pop=fra1").await;
    assert_eq!((&explained["outcome"], explained.get("note")), (&json!("no_data"), None), "{explained}");

    // Nothing of it is the tenant's.
    let after = get(&world, "/zones/example.com").await;
    assert_eq!((&after["revision"], &after["steering_count"]), (&before["revision"], &json!(1)), "{after}");
    assert!(after["serial"].as_u64() > before["serial"].as_u64());
    assert_eq!(get(&world, "/zones/example.com/history").await, history);
    assert_eq!(get(&world, "/zones/example.com/steering").await, steering);
    assert_eq!(export().await, exported);
    for kind in ["pools", "policies", "views"] {
        let listed = get(&world, &format!("/zones/example.com/{kind}")).await;
        assert_eq!(listed["items"], json!([]), "{kind}");
    }
    let rrsets = get(&world, "/zones/example.com/rrsets?name=@").await;
    let types: Vec<&Value> = rrsets["items"].as_array().unwrap().iter().map(|rrset| &rrset["type"]).collect();
    assert!(!types.contains(&&json!("A")), "{rrsets}");
    // And no pool of a tenant's can have such a name.
    let pool = json!({ "endpoints": [{ "name": "a", "records": { "A": ["193.0.0.9"] } }] });
    let put = world.alice("PUT", "/zones/example.com/pools/alias~us~0").json(&pool).send().await;
    assert_eq!(put.status, 400, "{}", put.text);
    // What isn't asked for any more is gone with that change.
    let settings = json!({ "alias_by_region": false });
    world.alice("PUT", "/zones/example.com/steering/settings").json(&settings).send().await.ok(200);
    let explained = get(&world, "/explain?name=example.com&client=192.0.2.7&pop=iad1").await;
    assert_eq!((&explained["outcome"], explained.get("region")), (&json!("records"), None), "{explained}");
    assert!(explained["alias"].get("regions").is_none(), "{explained}");
}
