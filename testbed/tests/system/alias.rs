//! ALIAS records: what their targets resolve to is what all PoPs answer, follows the targets, and outlives whoever finds it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::dns::{self, Asked, Transport};
use testbed::knot::Knot;
use testbed::loopback;
use testbed::platform::{Platform, wait_for_answer};
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
        Targets::start_in(platform, "targets", records)
    }

    fn start_in(platform: &Platform, folder: &str, records: &str) -> Targets {
        let (listen, folder) = (loopback::free_endpoint(), platform.folder(folder));
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
    alias_in(platform, "example.com", name)
}

fn alias_in(platform: &Platform, zone: &str, name: &str) -> Value {
    let list: Value = platform.tenant.get(&format!("/zones/{zone}/aliases")).expect(200);
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

/// Name servers of the targets with a recursive resolver each, which know different things of them: as it is in two places.
struct Places {
    targets: [Targets; 2],
    resolvers: [(SocketAddr, Option<Process>, std::path::PathBuf); 2],
}

impl Places {
    fn start(platform: &Platform, records: [&str; 2]) -> Places {
        let targets =
            [0, 1].map(|place| Targets::start_in(platform, &format!("targets{place}"), records[place]));
        let resolvers = [0, 1].map(|place| {
            let (listen, folder) = (loopback::free_endpoint(), platform.folder(&format!("unbound{place}")));
            (listen, None, folder)
        });
        let mut places = Places { targets, resolvers };
        [0, 1].into_iter().for_each(|place| places.resolve(place));
        places
    }

    /// The resolver of a place is started.
    fn resolve(&mut self, place: usize) {
        let (listen, process, folder) = &mut self.resolvers[place];
        let started = process.insert(unbound(folder, *listen, self.targets[place].listen));
        wait_until(SOON, "unbound to answer", || {
            assert!(started.is_running(), "{}", started.tail());
            dns::query(*listen, "ns.target.test.", "A", Transport::Udp).is_ok()
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", started.tail()));
    }

    fn resolver(&self, place: usize) -> SocketAddr {
        self.resolvers[place].0
    }

    /// Nobody resolves anything there any more.
    fn fail(&mut self, place: usize) {
        self.resolvers[place].1 = None;
    }
}

fn set_region(platform: &Platform, pop: &str, region: &str) {
    platform.herald.operator().patch(&format!("/pops/{pop}"), &json!({ "region": region })).expect(200);
}

fn by_region(platform: &Platform, zone: &str, is_asked: bool) {
    let settings = json!({ "alias_by_region": is_asked });
    platform.tenant.put(&format!("/zones/{zone}/steering/settings"), &settings).expect(200);
}

/// What is shown of a region.
fn region(platform: &Platform, name: &str, region: &str) -> Value {
    let alias = alias(platform, name);
    let regions = alias["regions"].as_array().unwrap();
    regions.iter().find(|one| one["region"] == region).unwrap_or_else(|| panic!("{region}: {alias}")).clone()
}

fn explained(platform: &Platform, pop: &str) -> Value {
    platform.tenant.get(&format!("/explain?name=www.example.com&client=192.0.2.77&pop={pop}")).expect(200)
}

#[test]
fn regions_answer_with_what_is_found_there() {
    let mut platform = Platform::without_pops("alias-regions");
    let here = "lb A 198.18.0.1\nlb A 198.18.0.2\nlb AAAA 2001:2::1";
    let mut places = Places::start(&platform, [here, "lb A 198.18.1.1"]);
    platform.add_pop_resolving_with(places.resolver(0));
    platform.add_pop_resolving_with(places.resolver(1));
    // One that has no resolver answers with what others of its region find.
    platform.add_pops(1, None);
    for (pop, region) in [("pop1", "eu"), ("pop2", "us"), ("pop3", "us")] {
        set_region(&platform, pop, region);
    }
    allow(&platform, &["198.18.0.0/15", "2001:2::/48"]);
    platform.create_zone("example.com");
    by_region(&platform, "example.com", true);
    for name in ["@", "www", "*.wild"] {
        put(&platform, name, "lb.target.test.");
    }
    let revision = || platform.tenant.get("/zones/example.com").expect(200)["revision"].clone();
    let told = (revision(), history(&platform));
    let answers = |rtype: &str, values: [&[&str]; 3]| {
        for name in ["example.com.", "www.example.com.", "a.b.wild.example.com."] {
            for (pop, values) in platform.pops.iter().zip(values) {
                wait_for_answer(pop, name, rtype, values);
            }
        }
    };
    let (eu, us): (&[&str], &[&str]) = (&["198.18.0.1", "198.18.0.2"], &["198.18.1.1"]);
    answers("A", [eu, us, us]);
    answers("AAAA", [&["2001:2::1"], &[], &[]]);
    for pop in &platform.pops {
        let answer = dns::query(pop.listen, "www.example.com.", "A", Transport::Udp).unwrap();
        assert!(answer.answers.iter().all(|record| record.ttl <= 5), "{answer:?}");
        // Nobody is told how it comes about.
        for hidden in ["TYPE65401", "TYPE65296", "TXT"] {
            let answer = dns::query(pop.listen, "www.example.com.", hidden, Transport::Udp).unwrap();
            assert!(answer.answers.is_empty(), "{answer:?}");
        }
    }
    for (pop, of, values) in [("pop1", "eu", eu), ("pop2", "us", us), ("pop3", "us", us)] {
        let explained = explained(&platform, pop);
        assert_eq!(explained["decision"]["answer"]["records"], json!(values), "{explained}");
        let shown = region(&platform, "www.example.com.", of);
        assert_eq!(shown["served"][0]["records"], json!(values), "{shown}");
        // Addresses of the other type can be its own, too.
        assert!(explained["region"] != of || shown["state"] == "own", "{explained}");
        assert!(explained["note"].as_str().is_some_and(|note| note.contains("region")), "{explained}");
    }
    let pools: Value = platform.tenant.get("/zones/example.com/steering").expect(200);
    assert!(pools.get("pools").is_none() && pools.get("policies").is_none(), "{pools}");
    assert!(!platform.tenant.get("/zones/example.com/export").text.contains("198.18."));

    // They come to agree: plain records, of which every PoP has the same.
    places.targets[1].serve(here);
    answers("A", [eu, eu, eu]);
    answers("AAAA", [&["2001:2::1"]; 3]);
    wait_until(SOON, "plain records", || explained(&platform, "pop2")["outcome"] == "records")
        .unwrap_or_else(|e| panic!("{e}: {}", explained(&platform, "pop2")));
    places.targets[1].serve("lb A 198.18.1.2");
    answers("A", [eu, &["198.18.1.2"], &["198.18.1.2"]]);
    answers("AAAA", [&["2001:2::1"], &[], &[]]);

    // Nobody resolves any more for the region that has an answer of its own: it keeps that, over restarts too, while all others follow the
    // target. Which of the two it is depends on which PoP is placed best.
    let own = [("pop1", "eu"), ("pop2", "us")].map(|(pop, of)| explained(&platform, pop)["region"] == of);
    assert!(own[0] != own[1], "one of them has what is served everywhere: {own:?}");
    let (failing, good) = if own[1] { (1, 0) } else { (0, 1) };
    places.fail(failing);
    let of = ["eu", "us"][failing];
    wait_until(SOON, "its last good answer", || {
        region(&platform, "www.example.com.", of)["state"] == "last_good"
    })
    .unwrap_or_else(|e| panic!("{e}: {}", alias(&platform, "www.example.com.")));
    places.targets[good].serve("lb A 198.18.2.1");
    let (moved, kept): (&[&str], &[&str]) =
        (&["198.18.2.1"], if failing == 1 { &["198.18.1.2"] } else { eu });
    let expected = if failing == 1 { [moved, kept, kept] } else { [kept, moved, moved] };
    answers("A", expected);
    assert_eq!((revision(), history(&platform)), told, "the tenant changed nothing");
    platform.herald.kill();
    platform.herald.restart();
    platform.pops[2].kill();
    platform.pops[2].start();
    platform.wait_until_in_sync();
    let answers = |rtype: &str, values: [&[&str]; 3]| {
        for (pop, values) in platform.pops.iter().zip(values) {
            wait_for_answer(pop, "www.example.com.", rtype, values);
        }
    };
    answers("A", expected);
    wait_until(SOON, "its last good answer", || {
        region(&platform, "www.example.com.", of)["state"] == "last_good"
    })
    .unwrap_or_else(|e| panic!("{e}: {}", alias(&platform, "www.example.com.")));
    answers("A", expected);
    places.targets[failing].serve("lb A 198.18.3.1");
    places.resolve(failing);
    let new: &[&str] = &["198.18.3.1"];
    let [first, second] = if failing == 1 { [moved, new] } else { [new, moved] };
    answers("A", [first, second, second]);

    // A PoP that moves answers with what its new region has.
    set_region(&platform, "pop3", "eu");
    answers("A", [first, second, first]);
    set_region(&platform, "pop3", "us");
    answers("A", [first, second, second]);
    // And whoever doesn't want it by region any more has one answer.
    by_region(&platform, "example.com", false);
    answers("A", [moved, moved, moved]);
}

#[test]
fn insiders_of_a_private_zone_have_its_aliases() {
    let mut platform = Platform::without_pops("alias-private");
    let places = Places::start(&platform, ["lb A 198.18.0.1", "lb A 198.18.1.1"]);
    for place in 0..2 {
        platform.add_pop_resolving_with(places.resolver(place));
    }
    allow(&platform, &["198.18.0.0/15"]);
    let tenant: Value = platform.tenant.get("/whoami").expect(200);
    let tenant = tenant["tenant"]["id"].as_str().unwrap().to_owned();
    let grant = json!({ "source_prefixes": ["127.0.0.16/28"] });
    platform.herald.operator().patch(&format!("/tenants/{tenant}"), &grant).expect(200);
    let insiders = json!({ "prefixes": ["127.0.0.16/28"] });
    let rrsets = json!([{ "name": "@", "type": "ALIAS", "ttl": 300, "records": ["lb.target.test."] }]);
    let zone = json!({ "name": "example.com", "rrsets": rrsets, "private": true, "insiders": insiders });
    let made = platform.tenant.post("/zones?wait=all", &zone).expect(201);
    // By name there are public zones alone.
    let zone = made["item"]["id"].as_str().unwrap();
    let ask = |pop: usize, source: &str| {
        let asked = Asked { source: source.parse().unwrap(), ..Asked::default() };
        let answer = dns::query_as(platform.pops[pop].listen, "example.com.", "A", &asked).ok()?.0;
        Some(answer.values("A"))
    };
    let wait = |expected: &[[&str; 1]; 2]| {
        wait_until(SOON, &format!("{expected:?}"), || {
            (0..2).all(|pop| ask(pop, "127.0.0.17").is_some_and(|values| values == expected[pop]))
        })
        .unwrap_or_else(|e| panic!("{e}: {:?} {:?}", ask(0, "127.0.0.17"), ask(1, "127.0.0.17")));
        // For everybody else there is no such zone.
        assert!((0..2).all(|pop| ask(pop, "127.0.0.1").is_some_and(|values| values.is_empty())));
    };
    let first = |alias: Value| alias["pops"][0]["answers"][0]["records"][0].as_str().map(str::to_owned);
    let served = wait_for(SOON, "both PoPs to find something", || {
        let alias = alias_in(&platform, zone, "example.com.");
        let is_found = alias["differs_by_place"] == true;
        first(alias).filter(|_| is_found)
    })
    .unwrap_or_else(|e| panic!("{e}: {}", alias_in(&platform, zone, "example.com.")));
    wait(&[[&served], [&served]]);
    // By region as well.
    set_region(&platform, "pop1", "eu");
    set_region(&platform, "pop2", "us");
    by_region(&platform, zone, true);
    wait(&[["198.18.0.1"], ["198.18.1.1"]]);
    by_region(&platform, zone, false);
    wait(&[[&served], [&served]]);
}
