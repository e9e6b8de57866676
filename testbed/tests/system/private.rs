//! Private zones: insiders have them, and everybody else gets, octet by octet, what they would get without them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::api::Api;
use testbed::dns::{self, Asked, Transport};
use testbed::herald::{Pop, program};
use testbed::platform::Platform;
use testbed::wait::wait_until;

const WITHIN: Duration = Duration::from_secs(60);

/// Who is inside, and who isn't.
const INSIDE: &str = "127.0.0.17";
const OUTSIDE: &str = "127.0.0.1";

/// Names around all zones of these tests, and their types.
const NAMES: [&str; 16] = [
    "example.com.",
    "www.example.com.",
    "only.example.com.",
    "corp.example.com.",
    "www.corp.example.com.",
    "x.y.corp.example.com.",
    "net.example.",
    "www.net.example.",
    "child.net.example.",
    "www.child.net.example.",
    "loose.net.example.",
    "www.loose.net.example.",
    "internal.",
    "www.internal.",
    "example.",
    ".",
];
const TYPES: [&str; 6] = ["A", "AAAA", "SOA", "NS", "DS", "TXT"];

fn grant(platform: &Platform, tenant: &str, prefixes: &[&str]) -> testbed::api::Reply {
    let operator = platform.herald.operator();
    operator.patch(&format!("/tenants/{tenant}"), &json!({ "source_prefixes": prefixes }))
}

/// The tenant whose zones the platform's are.
fn tenant_of(platform: &Platform) -> String {
    platform.tenant.get("/whoami").expect(200)["tenant"]["id"].as_str().expect("a tenant's token").to_owned()
}

fn records(records: &[(&str, &str, &str)]) -> Value {
    let record = |(name, rtype, data): &(&str, &str, &str)| json!({ "name": name, "type": rtype, "ttl": 60, "records": [data] });
    records.iter().map(record).collect()
}

fn public(platform: &Platform, zone: &str, data: &[(&str, &str, &str)]) {
    let body = json!({ "name": zone, "rrsets": records(data) });
    platform.tenant.post("/zones?wait=all", &body).expect(201);
}

fn private(platform: &Platform, zone: &str, data: &[(&str, &str, &str)]) -> Value {
    let insiders = json!({ "prefixes": ["127.0.0.16/28"] });
    let body = json!({ "name": zone, "rrsets": records(data), "private": true, "insiders": insiders });
    let made = platform.tenant.post("/zones?wait=all", &body).expect(201);
    assert_eq!(
        (&made["change"]["state"], &made["item"]["private"]),
        (&json!("in_sync"), &json!(true)),
        "{made}"
    );
    made["item"].clone()
}

/// All zones that everybody sees: a parent with a wildcard, a zone, and two that lie beneath a private one.
fn publics(platform: &Platform) {
    public(
        platform,
        "example.com",
        &[("www", "A", "192.0.2.1"), ("*.corp", "A", "192.0.2.5"), ("child", "NS", "ns.child.example.net.")],
    );
    public(platform, "child.net.example", &[("www", "A", "192.0.2.6")]);
    public(platform, "loose.net.example", &[("www", "A", "192.0.2.7")]);
}

/// Private zones: beneath a public one, under its name, above two of which it delegates one, and under none.
fn privates(platform: &Platform) {
    private(platform, "corp.example.com", &[("www", "A", "10.0.0.1")]);
    private(platform, "example.com", &[("www", "A", "10.0.0.2"), ("only", "A", "10.0.0.3")]);
    private(platform, "net.example", &[("www", "A", "10.0.0.4"), ("child", "NS", "ns1.herald.example.")]);
    private(platform, "internal", &[("www", "A", "10.0.0.5")]);
}

fn ask(pop: &Pop, name: &str, source: &str) -> (String, String) {
    let asked = Asked { source: source.parse().unwrap(), ..Asked::default() };
    let (answer, _) = dns::query_as(pop.listen, name, "A", &asked).unwrap();
    (answer.values("A").join(" "), answer.rcode.to_string())
}

fn told(values: &str, rcode: &str) -> (String, String) {
    (values.to_owned(), rcode.to_owned())
}

/// All answers that somebody outside gets, as they are on the wire.
fn outside(listen: SocketAddr) -> BTreeMap<(&'static str, &'static str), Vec<u8>> {
    let source: IpAddr = OUTSIDE.parse().unwrap();
    let all = NAMES.iter().flat_map(|name| TYPES.iter().map(move |rtype| (*name, *rtype)));
    all.map(|(name, rtype)| ((name, rtype), dns::octets(listen, name, rtype, source).unwrap())).collect()
}

/// What insiders get once all private zones are there.
#[track_caller]
fn assert_inside(pop: &Pop) {
    for (name, values, rcode) in [
        ("www.corp.example.com.", "10.0.0.1", "NOERROR"),
        ("other.corp.example.com.", "", "NXDOMAIN"),
        ("www.example.com.", "10.0.0.2", "NOERROR"),
        ("only.example.com.", "10.0.0.3", "NOERROR"),
        ("nobody.example.com.", "", "NXDOMAIN"),
        ("www.net.example.", "10.0.0.4", "NOERROR"),
        // Delegated: the zone beneath answers. What isn't delegated is not there, whoever has made it.
        ("www.child.net.example.", "192.0.2.6", "NOERROR"),
        ("www.loose.net.example.", "", "NXDOMAIN"),
        ("www.internal.", "10.0.0.5", "NOERROR"),
    ] {
        assert_eq!(
            ask(pop, name, INSIDE),
            told(values, rcode),
            "{name} at {}\n{}",
            pop.name,
            pop.status_text()
        );
    }
}

fn start(label: &str, pops: usize) -> Platform {
    let platform = Platform::start(label, pops);
    grant(&platform, &tenant_of(&platform), &["127.0.0.16/28"]).expect(200);
    platform
}

#[test]
fn whoever_is_outside_gets_the_same_octets_whether_there_are_private_zones_or_not() {
    let platform = start("private", 2);
    publics(&platform);
    let before: Vec<_> = platform.pops.iter().map(|pop| outside(pop.listen)).collect();
    assert_eq!(ask(&platform.pops[0], "www.internal.", OUTSIDE).1, "REFUSED");
    assert_eq!(ask(&platform.pops[0], "www.corp.example.com.", OUTSIDE).0, "192.0.2.5");
    privates(&platform);
    for (pop, before) in platform.pops.iter().zip(&before) {
        // No waiting: the receipts have said that they are there.
        assert_inside(pop);
        assert_eq!(outside(pop.listen), *before);
    }
    // An edit, a view of its own with an overlay, and a rollback.
    let path = "/zones/private:internal";
    let changes = json!([
        { "op": "put_view", "name": "desk", "view": { "prefixes": ["127.0.0.18/32"] } },
        { "op": "put_overlay", "overlay": { "view": "desk", "name": "www", "type": "A", "ttl": 60, "records": ["10.0.0.9"] } },
    ]);
    let records = json!([{ "op": "put", "name": "new", "type": "A", "ttl": 60, "records": ["10.0.0.8"] }]);
    let body = json!({ "changes": changes, "records": records });
    platform.tenant.patch(&format!("{path}/steering?wait=all"), &body).expect(200);
    for pop in &platform.pops {
        assert_eq!(ask(pop, "new.internal.", INSIDE), told("10.0.0.8", "NOERROR"));
        assert_eq!(ask(pop, "www.internal.", INSIDE), told("10.0.0.5", "NOERROR"));
        assert_eq!(ask(pop, "www.internal.", "127.0.0.18"), told("10.0.0.9", "NOERROR"));
        assert_eq!(ask(pop, "new.internal.", OUTSIDE), told("", "REFUSED"));
    }
    let history = platform.tenant.get(&format!("{path}/history")).expect(200);
    let made = &history["items"][1]["id"];
    platform.tenant.post(&format!("{path}/rollback?wait=all"), &json!({ "to": made })).expect(200);
    for pop in &platform.pops {
        assert_eq!(ask(pop, "new.internal.", INSIDE), told("", "NXDOMAIN"));
    }
    // Deleted, they are gone for insiders, who get what everybody gets; made again and restored, they are there.
    let zone = platform.tenant.get(path).expect(200);
    for name in ["internal", "example.com", "corp.example.com", "net.example"] {
        platform.tenant.delete(&format!("/zones/private:{name}?wait=all&confirm=shrink")).expect(200);
    }
    for (pop, before) in platform.pops.iter().zip(&before) {
        assert_eq!(outside(pop.listen), *before);
        assert_eq!(ask(pop, "www.internal.", INSIDE), told("", "REFUSED"));
        assert_eq!(ask(pop, "www.example.com.", INSIDE), told("192.0.2.1", "NOERROR"));
        assert_eq!(ask(pop, "www.corp.example.com.", INSIDE), told("192.0.2.5", "NOERROR"));
    }
    platform.tenant.get(path).expect(404);
    let restored = platform
        .tenant
        .post(&format!("/zones/{}/restore?wait=all", zone["id"].as_str().unwrap()), &json!({}));
    assert_eq!(restored.expect(201)["item"]["private"], true);
    private(&platform, "example.com", &[("www", "A", "10.0.0.22")]);
    for (pop, before) in platform.pops.iter().zip(&before) {
        assert_eq!(ask(pop, "www.internal.", INSIDE), told("10.0.0.5", "NOERROR"));
        assert_eq!(ask(pop, "www.example.com.", INSIDE), told("10.0.0.22", "NOERROR"));
        assert_eq!(outside(pop.listen), *before);
    }
}

#[test]
fn private_zones_outlive_the_agent_and_knotd_and_fill_a_pop_from_nothing() {
    let mut platform = start("private-kills", 1);
    publics(&platform);
    let before = outside(platform.pops[0].listen);
    privates(&platform);
    assert_inside(&platform.pops[0]);

    // What changes while the agent is dead comes with the next one.
    platform.pops[0].kill_agent();
    assert_inside(&platform.pops[0]);
    let put = json!({ "ttl": 60, "records": ["10.0.0.55"] });
    platform.tenant.put("/zones/private:internal/rrsets/more/A", &put).expect(201);
    platform.tenant.delete("/zones/private:corp.example.com?confirm=shrink").expect(200);
    platform.pops[0].start();
    platform.wait_until_in_sync();
    assert_eq!(ask(&platform.pops[0], "more.internal.", INSIDE), told("10.0.0.55", "NOERROR"));
    // Now that of the enclosing private one.
    assert_eq!(ask(&platform.pops[0], "www.corp.example.com.", INSIDE), told("", "NXDOMAIN"));
    assert_eq!(outside(platform.pops[0].listen), before);

    // knotd's first answers after it was killed are as good as the last ones.
    let listen = platform.pops[0].listen;
    platform.pops[0].kill_knotd();
    wait_until(WITHIN, "knotd to come back", || {
        dns::query(listen, "www.example.com.", "A", Transport::Udp).is_ok()
    })
    .unwrap();
    assert_eq!(ask(&platform.pops[0], "more.internal.", INSIDE), told("10.0.0.55", "NOERROR"));
    assert_eq!(ask(&platform.pops[0], "www.example.com.", INSIDE), told("10.0.0.2", "NOERROR"));
    // knotd loads what it serves to all after it has begun to answer.
    wait_until(WITHIN, "all zones to be loaded", || outside(listen) == before).unwrap();

    // All that the PoP had is lost.
    let pop = &mut platform.pops[0];
    pop.kill();
    std::fs::remove_dir_all(pop.folder().join("replica")).unwrap();
    std::fs::remove_dir_all(pop.folder().join("knot")).unwrap();
    pop.start();
    platform.wait_until_in_sync();
    assert_eq!(ask(&platform.pops[0], "more.internal.", INSIDE), told("10.0.0.55", "NOERROR"));
    assert_eq!(outside(listen), before);
    // No file of knotd's has any of it.
    for folder in ["zones", "catalogs"] {
        let Ok(files) = std::fs::read_dir(platform.pops[0].folder().join("knot").join(folder)) else {
            continue;
        };
        for file in files.flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            assert!(!text.contains("internal.") && !text.contains("more"), "{}", file.path().display());
        }
    }
}

#[test]
fn nobody_reaches_clients_of_others_by_a_private_zone() {
    let platform = start("private-hostile", 1);
    publics(&platform);
    let hostile: Api = platform.herald.tenant("hostile");
    let theirs = hostile.get("/whoami").expect(200)["tenant"]["id"].as_str().unwrap().to_owned();
    let make = |api: &Api, zone: &str, insiders: Value| {
        api.post("/zones", &json!({ "name": zone, "private": true, "insiders": insiders }))
    };
    for insiders in [
        json!({ "prefixes": ["0.0.0.0/0"] }),
        json!({ "prefixes": ["127.0.0.16/28"] }),
        json!({ "pops": ["pop1"] }),
    ] {
        for zone in ["example.com", "google.com", "www.example.com"] {
            let refused = make(&hostile, zone, insiders.clone()).expect(422);
            assert!(refused["detail"].as_str().unwrap().contains("source prefixes"), "{refused}");
        }
    }
    // What is granted to one tenant is nobody else's.
    for prefixes in [&["127.0.0.0/8"][..], &["127.0.0.17"], &["0.0.0.0/0"]] {
        grant(&platform, &theirs, prefixes).expect(409);
    }
    grant(&platform, &theirs, &["127.0.0.32/28", "nonsense"]).expect(422);
    grant(&platform, &theirs, &["127.0.0.32/28"]).expect(200);
    hostile.patch(&format!("/tenants/{theirs}"), &json!({ "source_prefixes": ["127.0.0.0/8"] })).expect(403);
    make(&hostile, "example.com", json!({ "prefixes": ["127.0.0.32/28"] })).expect(201);
    let body = json!({ "ttl": 60, "records": ["10.6.6.6"] });
    hostile.put("/zones/private:example.com/rrsets/www/A?wait=all", &body).expect(201);
    let view = json!({ "prefixes": ["127.0.0.16/28"] });
    hostile.put("/zones/private:example.com/views/more", &view).expect(422);
    private(&platform, "example.com", &[("www", "A", "10.0.0.2")]);
    let pop = &platform.pops[0];
    for (source, address) in [(INSIDE, "10.0.0.2"), (OUTSIDE, "192.0.2.1"), ("127.0.0.33", "10.6.6.6")] {
        assert_eq!(ask(pop, "www.example.com.", source), told(address, "NOERROR"), "{source}");
        // Each is explained as it is answered; of others' zones nobody learns.
        let query = format!("/explain?name=www.example.com&client={source}&pop=pop1");
        let explained = platform.herald.operator().get(&query).expect(200);
        assert_eq!(explained["records"], json!([address]), "{explained}");
    }
    platform.tenant.get("/zones/private:example.com").expect(200);
    let listed = platform.tenant.get("/zones?private=true").expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    platform.herald.operator().get("/zones/private:example.com").expect(409);
    // With a name alone it is the one that everybody sees.
    assert_eq!(platform.tenant.get("/zones/example.com").expect(200)["private"], false);
}

#[test]
fn private_zones_by_command_line() {
    let platform = start("private-cli", 1);
    let koder = |line: &str| {
        let output = Command::new(program("koder"))
            .args(line.split(' '))
            .env_clear()
            .env("HOME", platform.folder("home"))
            .env("KODER_SERVER", format!("http://{}", platform.herald.api))
            .env("KODER_TOKEN", platform.tenant.token())
            .output()
            .expect("koder can be run");
        let text = |octets: Vec<u8>| String::from_utf8(octets).expect("text");
        (output.status.success(), text(output.stdout) + &text(output.stderr))
    };
    let ok = |line: &str| {
        let (is_done, said) = koder(line);
        assert!(is_done, "koder {line}\n{said}");
        said
    };
    assert!(!koder("dns zone create corp.example.com --private").0, "nobody would be inside");
    assert!(ok("dns zone create corp.example.com --private --inside 127.0.0.16/28").contains("(private,"));
    ok("dns record set private:corp.example.com www A 10.0.0.1 --wait");
    assert_eq!(ask(&platform.pops[0], "www.corp.example.com.", INSIDE), told("10.0.0.1", "NOERROR"));
    assert_eq!(ask(&platform.pops[0], "www.corp.example.com.", OUTSIDE), told("", "REFUSED"));
    assert!(ok("dns zone show private:corp.example.com").contains("status          private"));
    assert!(ok("dns zone list --private").contains("corp.example.com."));
    assert!(!ok("dns zone list --public").contains("corp.example.com."));
    assert!(ok("dns zone export private:corp.example.com").contains("10.0.0.1"));
    assert!(ok("dns view list private:corp.example.com").contains("127.0.0.16/28"));
    assert!(!koder("dns zone delete corp.example.com --yes").0, "that isn't there");
    ok("dns zone delete private:corp.example.com --yes --wait");
    assert_eq!(ask(&platform.pops[0], "www.corp.example.com.", INSIDE), told("", "REFUSED"));
}
