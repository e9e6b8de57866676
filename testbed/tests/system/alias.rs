//! ALIAS records: what their targets resolve to is what all PoPs answer, follows the targets, and outlives whoever finds it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::dns::{self, Transport};
use testbed::knot::Knot;
use testbed::loopback;
use testbed::platform::Platform;
use testbed::process::{Launch, Process};
use testbed::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(40);

/// The name server of the targets. The time to live is short, so that agents ask again soon.
struct Targets {
    listen: SocketAddr,
    folder: std::path::PathBuf,
    knot: Option<Knot>,
}

impl Targets {
    fn start(platform: &Platform, records: &str) -> Targets {
        let (listen, folder) = (loopback::free_endpoint(), platform.folder("targets"));
        let mut targets = Targets { listen, folder, knot: None };
        targets.serve(records);
        targets
    }

    /// From now on it has these records.
    fn serve(&mut self, records: &str) {
        self.stop();
        let zone = format!(
            "$ORIGIN target.test.\n$TTL 5\n@ SOA ns hostmaster 1 3600 900 86400 5\n@ NS ns\nns A 192.0.2.53\n{records}\n"
        );
        let zones = [("target.test.".to_owned(), zone)];
        self.knot = Some(Knot::of_files_at(&self.folder, "targets", self.listen, &zones));
    }

    fn stop(&mut self) {
        self.knot = None;
    }
}

fn allow(platform: &Platform, prefixes: &[&str]) {
    let rules = json!({ "allowed": prefixes, "refused": [] });
    platform.herald.operator().put("/probe-rules", &rules).expect(200);
}

fn put(platform: &Platform, name: &str, target: &str) -> Value {
    let body = json!({ "ttl": 300, "records": [target] });
    platform.tenant.put(&format!("/zones/example.com/rrsets/{name}/ALIAS"), &body).expect(201)
}

fn alias(platform: &Platform, name: &str) -> Value {
    let list: Value = platform.tenant.get("/zones/example.com/aliases").expect(200);
    let items = list["items"].as_array().unwrap();
    items.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("{name}: {list}")).clone()
}

/// Waits until an ALIAS is so, and gives it.
#[track_caller]
fn wait_for_state(platform: &Platform, name: &str, state: &str) -> Value {
    wait_for(SOON, &format!("{name} to be {state}"), || {
        Some(alias(platform, name)).filter(|alias| alias["state"] == state)
    })
    .unwrap_or_else(|e| panic!("{e}: {}\n{}", alias(platform, name), platform.herald.tail()))
}

fn history(platform: &Platform) -> Vec<Value> {
    let list: Value = platform.tenant.get("/zones/example.com/history").expect(200);
    list["items"].as_array().unwrap().clone()
}

#[test]
fn targets_are_followed_and_the_last_good_answer_is_kept() {
    let mut platform = Platform::without_pops("alias");
    let mut targets = Targets::start(
        &platform,
        "lb A 198.18.0.1\nlb A 198.18.0.2\nlb AAAA 2001:2::1\nvia CNAME lb\nmail A 198.18.0.9",
    );
    for _ in 0..2 {
        platform.add_pop_resolving_with(targets.listen);
    }
    // One that has no resolver serves what the others find.
    platform.add_pops(1, None);
    allow(&platform, &["198.18.0.0/15", "2001:2::/48"]);
    platform.create_zone("example.com");
    put(&platform, "@", "lb.target.test.");
    put(&platform, "www", "via.target.test.");
    platform.wait_for_answer("example.com.", "A", &["198.18.0.1", "198.18.0.2"]);
    platform.wait_for_answer("example.com.", "AAAA", &["2001:2::1"]);
    platform.wait_for_answer("www.example.com.", "A", &["198.18.0.1", "198.18.0.2"]);
    for pop in &platform.pops {
        let answer = dns::query(pop.listen, "example.com.", "A", Transport::Udp).unwrap();
        assert!(answer.answers.iter().all(|record| record.ttl <= 5), "{answer:?}");
        // Nobody is told how it comes about.
        let answer = dns::query(pop.listen, "example.com.", "TYPE65401", Transport::Udp).unwrap();
        assert!(answer.answers.is_empty(), "{answer:?}");
    }
    let shown = wait_for_state(&platform, "example.com.", "resolved");
    assert_eq!(shown["target"], "lb.target.test.", "{shown}");
    assert_eq!(shown["pops"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(shown["differs_by_place"], false, "{shown}");
    let explained: Value =
        platform.tenant.get("/explain?name=example.com&type=A&client=192.0.2.77").expect(200);
    assert_eq!(explained["records"], json!(["198.18.0.1", "198.18.0.2"]), "{explained}");
    assert_eq!(explained["alias"]["target"], "lb.target.test.", "{explained}");

    // What is found is no matter of the tenant: neither its history nor its revision tells of it.
    let told = history(&platform);
    let zone: Value = platform.tenant.get("/zones/example.com").expect(200);
    targets.serve("lb A 198.18.0.3\nvia A 198.18.0.4");
    platform.wait_for_answer("example.com.", "A", &["198.18.0.3"]);
    platform.wait_for_answer("example.com.", "AAAA", &[]);
    platform.wait_for_answer("www.example.com.", "A", &["198.18.0.4"]);
    assert_eq!(history(&platform), told);
    let later: Value = platform.tenant.get("/zones/example.com").expect(200);
    assert_eq!(later["revision"], zone["revision"]);
    assert!(later["serial"].as_u64() > zone["serial"].as_u64(), "{zone} {later}");
    let rrsets: Value = platform.tenant.get("/zones/example.com/rrsets?name=@&type=A").expect(200);
    assert_eq!(rrsets["items"], json!([]), "the tenant has an ALIAS there, and no A");

    // The export says what the tenant has, and what it says can be imported, by the other name for it, too.
    let export = platform.tenant.get("/zones/example.com/export").text;
    assert!(export.contains("ALIAS\tlb.target.test."), "{export}");
    assert!(!export.contains("198.18."), "{export}");
    let (before, file) =
        (platform.tenant.get("/zones/example.com/export").text, export.replace("ALIAS", "ANAME"));
    let imported = platform.tenant.import("example.com", &file);
    assert_eq!(imported.status, 200, "{}", imported.text);
    assert_eq!(platform.tenant.get("/zones/example.com/export").text, before);
    platform.wait_for_answer("example.com.", "A", &["198.18.0.3"]);

    // Nobody answers: what was good last stays, also over restarts of all that had a part in it.
    targets.stop();
    let kept = wait_for_state(&platform, "example.com.", "last_good");
    assert!(kept["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{kept}");
    platform.herald.kill();
    platform.herald.restart();
    platform.pops[0].kill();
    platform.pops[0].start();
    platform.wait_until_in_sync();
    wait_for_state(&platform, "example.com.", "last_good");
    platform.wait_for_answer("example.com.", "A", &["198.18.0.3"]);
    platform.wait_for_answer("www.example.com.", "A", &["198.18.0.4"]);

    // A rollback leads to the ALIAS of before, with what it resolves to now.
    let revision = history(&platform)[0]["revision"].clone();
    platform.tenant.delete("/zones/example.com/rrsets/www/ALIAS").expect(200);
    platform.wait_for_answer("www.example.com.", "A", &[]);
    platform.tenant.post("/zones/example.com/rollback", &json!({ "to": revision.to_string() })).expect(200);
    targets.serve("lb A 198.18.0.5\nvia A 198.18.0.6");
    platform.wait_for_answer("www.example.com.", "A", &["198.18.0.6"]);
    platform.wait_for_answer("example.com.", "A", &["198.18.0.5"]);
    wait_for_state(&platform, "example.com.", "resolved");

    // A target that is no more has no addresses, once that is sure.
    targets.serve("mail A 198.18.0.9");
    platform.wait_for_answer("example.com.", "A", &[]);
}

#[test]
fn special_purpose_addresses_are_not_served_whoever_has_them() {
    let mut platform = Platform::without_pops("alias-rules");
    let mut targets = Targets::start(
        &platform,
        "direct A 127.0.0.1\nlater A 198.18.0.7\nmixed A 198.18.0.8\nmixed A 10.0.0.1",
    );
    for _ in 0..2 {
        platform.add_pop_resolving_with(targets.listen);
    }
    allow(&platform, &["198.18.0.0/15"]);
    platform.create_zone("example.com");
    for name in ["direct", "later", "mixed"] {
        put(&platform, name, &format!("{name}.target.test."));
    }
    platform.wait_for_answer("later.example.com.", "A", &["198.18.0.7"]);
    for (name, address) in [("direct.example.com.", "127.0.0.1"), ("mixed.example.com.", "10.0.0.1")] {
        let cause = |alias: &Value| alias["cause"].as_str().is_some_and(|cause| cause.contains(address));
        wait_until(SOON, "a refusal", || cause(&alias(&platform, name)))
            .unwrap_or_else(|e| panic!("{e}: {}", alias(&platform, name)));
        assert_eq!(alias(&platform, name)["state"], "unresolved");
    }
    // The target is turned to a special-purpose address: the last good one stays.
    targets.serve("direct A 127.0.0.1\nlater A 127.0.0.1\nmixed A 198.18.0.8\nmixed A 10.0.0.1");
    let kept = wait_for_state(&platform, "later.example.com.", "last_good");
    assert!(kept["cause"].as_str().unwrap().contains("loopback"), "{kept}");
    platform.wait_for_answer("later.example.com.", "A", &["198.18.0.7"]);
    platform.wait_for_answer("direct.example.com.", "A", &[]);
    platform.wait_for_answer("mixed.example.com.", "A", &[]);
    // The operator allows some of them, and thinks again.
    allow(&platform, &["198.18.0.0/15", "10.0.0.0/8", "127.0.0.1"]);
    platform.wait_for_answer("mixed.example.com.", "A", &["10.0.0.1", "198.18.0.8"]);
    platform.wait_for_answer("later.example.com.", "A", &["127.0.0.1"]);
    allow(&platform, &["10.0.0.0/8"]);
    platform.wait_for_answer("mixed.example.com.", "A", &[]);
    platform.wait_for_answer("later.example.com.", "A", &[]);
}

#[test]
fn answers_that_differ_by_place_are_told_and_one_is_served() {
    let mut platform = Platform::without_pops("alias-places");
    let here = Targets::start(&platform, "lb A 198.18.0.1");
    let folder = platform.folder("elsewhere");
    let mut there = Targets { listen: loopback::free_endpoint(), folder, knot: None };
    there.serve("lb A 198.18.0.2");
    platform.add_pop_resolving_with(here.listen);
    platform.add_pop_resolving_with(there.listen);
    allow(&platform, &["198.18.0.0/15"]);
    platform.create_zone("example.com");
    put(&platform, "@", "lb.target.test.");
    wait_until(SOON, "both PoPs to say what they have", || {
        alias(&platform, "example.com.")["differs_by_place"] == true
    })
    .unwrap_or_else(|e| panic!("{e}: {}", alias(&platform, "example.com.")));
    let explained: Value =
        platform.tenant.get("/explain?name=example.com&type=A&client=192.0.2.77").expect(200);
    assert_eq!(explained["alias"]["differs_by_place"], true, "{explained}");
    // The first PoP's are served, by all.
    let first = &explained["alias"]["pops"][0]["answers"][0]["records"];
    let first: Vec<&str> = first.as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    platform.wait_for_answer("example.com.", "A", &first);
    // Where its resolver fails, the other one's count.
    let (mut here, mut there) = (here, there);
    if first == ["198.18.0.1"] {
        here.stop()
    } else {
        there.stop()
    }
    let other = if first == ["198.18.0.1"] { "198.18.0.2" } else { "198.18.0.1" };
    platform.wait_for_answer("example.com.", "A", &[other]);
}

/// A recursive resolver that asks the name server of the targets for these.
fn unbound(folder: &std::path::Path, listen: SocketAddr, targets: SocketAddr) -> Process {
    let config = folder.join("unbound.conf");
    let text = format!(
        "server:\n  interface: {ip}\n  port: {port}\n  do-daemonize: no\n  use-syslog: no\n  chroot: \"\"\n  username: \"\"\n  \
         pidfile: \"\"\n  directory: \"{folder}\"\n  do-not-query-localhost: no\n  module-config: \"iterator\"\n  \
         local-zone: \"test.\" nodefault\n  access-control: 127.0.0.0/8 allow\n\
         remote-control:\n  control-enable: no\n\
         stub-zone:\n  name: \"target.test\"\n  stub-addr: {target}@{target_port}\n",
        ip = listen.ip(),
        port = listen.port(),
        folder = folder.display(),
        target = targets.ip(),
        target_port = targets.port(),
    );
    std::fs::write(&config, text).unwrap();
    Launch::new("unbound", "/usr/sbin/unbound", folder).arg("-d").arg("-c").arg(&config).start()
}

#[test]
fn a_recursive_resolver_is_asked_and_its_ttls_are_kept_to() {
    let mut platform = Platform::without_pops("alias-recursive");
    let targets = Targets::start(&platform, "lb 3600 A 198.18.0.1\nvia 40 CNAME lb\nfar CNAME via");
    let resolver = loopback::free_endpoint();
    let mut process = unbound(&platform.folder("unbound"), resolver, targets.listen);
    wait_until(SOON, "unbound to answer", || {
        assert!(process.is_running(), "{}", process.tail());
        dns::query(resolver, "lb.target.test.", "A", Transport::Udp).is_ok()
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", process.tail()));
    platform.add_pop_resolving_with(resolver);
    allow(&platform, &["198.18.0.0/15"]);
    platform.create_zone("example.com");
    put(&platform, "@", "lb.target.test.");
    put(&platform, "via", "via.target.test.");
    put(&platform, "far", "far.target.test.");
    let ttl = |name: &str| {
        platform.wait_for_answer(name, "A", &["198.18.0.1"]);
        let answer = dns::query(platform.pops[0].listen, name, "A", Transport::Udp).unwrap();
        answer.answers[0].ttl
    };
    assert_eq!(ttl("example.com."), 300, "no more than the record's own");
    assert!((24..=40).contains(&ttl("via.example.com.")), "no more than the lowest on the way");
    assert!(ttl("far.example.com.") <= 5, "no more than the lowest on the way");
}
