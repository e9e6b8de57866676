//! The firewall from the API to the answers of real Knots: rules of the fleet and of tenants, policy zones, rates.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::api::{Api, Reply};
use testbed::dns::{self, Asked, Transport};
use testbed::herald::{Pop, program};
use testbed::platform::Platform;
use testbed::wait::{wait_for, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// How long an answer is waited for that is not to come.
const SILENCE: Duration = Duration::from_millis(300);

/// All rules are for this source, unless they say otherwise, and others are answered as ever.
const SOURCE: &str = "127.0.7.7";
const OTHER: &str = "127.0.8.8";

fn zone(platform: &Platform, tenant: &Api, name: &str) {
    let record =
        |name: &str, address: &str| json!({ "name": name, "type": "A", "ttl": 60, "records": [address] });
    let records =
        json!([record("www", "192.0.2.1"), record("ftp", "192.0.2.2"), record("deep.in", "192.0.2.3")]);
    let made = tenant.post("/zones?wait=all", &json!({ "name": name, "rrsets": records })).expect(201);
    assert_eq!(made["change"]["state"], "in_sync", "{made}");
    platform.wait_until_in_sync();
}

fn tenant_of(api: &Api) -> String {
    api.get("/whoami").expect(200)["tenant"]["id"].as_str().expect("a tenant's token").to_owned()
}

/// What `source` gets for an A: addresses, else the response code, else nothing.
fn ask(pop: &Pop, name: &str, source: &str) -> String {
    let asked = Asked { source: source.parse().unwrap(), ..Asked::default() };
    let socket = UdpSocket::bind((asked.source, 0)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket.send_to(&dns::question(1, name, "A"), pop.listen).unwrap();
    let mut reply = [0; 512];
    // An answer that is late is an answer: only who is dropped is asked for in vain, which takes its time.
    if socket.recv(&mut reply).is_err() {
        return "nothing".into();
    }
    if reply[2] & 2 != 0 {
        return "truncated".into();
    }
    match dns::query_as(pop.listen, name, "A", &asked) {
        Ok((answer, _)) if answer.answers.is_empty() => answer.rcode.to_string(),
        Ok((answer, _)) => answer.values("A").join(" "),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn assert_asked(platform: &Platform, expected: &[(&str, &str, &str)]) {
    for pop in &platform.pops {
        for (name, source, answer) in expected {
            assert_eq!(
                &ask(pop, name, source),
                answer,
                "{name} from {source} at {}: {}",
                pop.name,
                pop.status_text()
            );
        }
    }
}

fn put_rpz(api: &Api, name: &str, query: &str, text: &str) -> Reply {
    let path = format!("/firewall/rpz/{name}?wait=all&timeout_ms=60000{query}");
    api.try_call("PUT", &path, &[("Content-Type", "text/dns")], Some(text)).unwrap()
}

fn rule(name: &str, action: &str, order: u32, when: &Value) -> Value {
    json!({ "name": name, "action": action, "order": order, "when": when })
}

#[test]
fn rules_decide_in_order_and_a_tenants_are_for_its_zones_alone() {
    let mut platform = Platform::start("firewall-rules", 2);
    let (alice, operator) = (platform.tenant.clone(), platform.herald.operator());
    let bob = platform.herald.tenant("bob");
    zone(&platform, &alice, "example.com");
    zone(&platform, &bob, "example.net");
    let (of_alice, of_bob) = (tenant_of(&alice), tenant_of(&bob));
    let answered = [
        ("www.example.com.", SOURCE, "192.0.2.1"),
        ("ftp.example.com.", SOURCE, "192.0.2.2"),
        ("www.example.net.", SOURCE, "192.0.2.1"),
    ];
    assert_asked(&platform, &answered);

    // A tenant's rules, whatever names they say, are for its own zones.
    let rules = json!({ "rules": [
        rule("no-ftp", "drop", 1, &json!({ "sources": ["127.0.7.0/24"], "names": ["ftp.example.com."] })),
        rule("gone", "nxdomain", 2, &json!({ "names": ["*.in.example.com."] })),
        rule("all-www", "refuse", 3, &json!({ "sources": ["127.0.7.0/24"], "names": ["www.example.com.", "www.example.net."] })),
    ] });
    let path = format!("/tenants/{of_alice}/firewall");
    let set = alice.put(&format!("{path}?wait=all&timeout_ms=60000"), &rules);
    let first = set.expect(200)["change"]["revision"].clone();
    let held = [
        ("ftp.example.com.", SOURCE, "nothing"),
        ("ftp.example.com.", OTHER, "192.0.2.2"),
        ("www.example.com.", SOURCE, "REFUSED"),
        ("deep.in.example.com.", OTHER, "NXDOMAIN"),
        ("www.example.net.", SOURCE, "192.0.2.1"),
    ];
    assert_asked(&platform, &held);
    // By TCP it is the same: what is there isn't answered.
    let by_tcp = dns::query(platform.pops[0].listen, "deep.in.example.com.", "A", Transport::Tcp).unwrap();
    assert_eq!(by_tcp.rcode.to_string(), "NXDOMAIN");

    // Nobody sees another's, or changes it, or the fleet's.
    for (method, path) in [
        ("GET", format!("/tenants/{of_alice}/firewall")),
        ("PUT", format!("/tenants/{of_alice}/firewall")),
        ("DELETE", format!("/tenants/{of_alice}/firewall/gone")),
        ("GET", format!("/tenants/{of_alice}/firewall/history")),
    ] {
        let body = (method == "PUT").then(|| json!({ "rules": [] }));
        assert_eq!(bob.call(method, &path, body.as_ref()).status, 404, "{method} {path}");
    }
    assert_eq!(bob.get("/firewall").status, 403);
    assert_eq!(bob.put("/firewall/rules", &json!({ "rules": [] })).status, 403);
    let test = |api: &Api, name: &str, source: &str| {
        api.get(&format!("/firewall/test?name={name}&type=A&client={source}"))
    };
    let told = test(&alice, "ftp.example.com", SOURCE).expect(200);
    assert_eq!(
        (&told["verdict"], &told["name"], &told["owner"]),
        (&json!("drop"), &json!("no-ftp"), &json!(of_alice))
    );
    assert_eq!(test(&bob, "ftp.example.com", SOURCE).status, 404);

    // The fleet's come first, and pass what a tenant's would have kept out.
    let friends =
        rule("friends", "pass", 1, &json!({ "sources": ["127.0.7.7/32"], "names": ["ftp.example.com."] }));
    let seen = rule("seen", "count", 0, &json!({ "sources": ["127.0.0.0/8"] }));
    let flood = rule("flood", "drop", 2, &json!({ "sources": ["127.0.9.0/24"] }));
    for one in [&friends, &seen, &flood] {
        let path = format!("/firewall/rules/{}?wait=all&timeout_ms=60000", one["name"].as_str().unwrap());
        operator.put(&path, one).expect(200);
    }
    assert_asked(
        &platform,
        &[
            ("ftp.example.com.", SOURCE, "192.0.2.2"),
            ("www.example.com.", SOURCE, "REFUSED"),
            ("www.example.net.", "127.0.9.1", "nothing"),
            ("nothing.example.", "127.0.9.1", "nothing"),
            ("www.example.net.", OTHER, "192.0.2.1"),
        ],
    );
    // How often each was for a query is told.
    let counted = |owner: &str, name: &str| {
        let firewall = operator.get("/firewall").expect(200);
        let counts = firewall["counts"].as_array().unwrap().clone();
        let of_it = counts.iter().filter(|count| count["owner"] == owner && count["name"] == name);
        of_it.map(|count| count["queries"].as_u64().unwrap()).sum::<u64>()
    };
    wait_until(WITHIN, "counts of rules", || {
        counted("fleet", "seen") > 10 && counted("fleet", "flood") == 4 && counted(&of_alice, "all-www") > 0
    })
    .unwrap_or_else(|e| panic!("{e}: {}", operator.get("/firewall").text));

    // knotd alone is killed: nothing is let through by the next one.
    platform.pops[0].kill_knotd();
    let pop = &platform.pops[0];
    wait_until(WITHIN, "knotd to answer again", || ask(pop, "www.example.net.", OTHER) == "192.0.2.1")
        .unwrap();
    assert_eq!(ask(pop, "www.example.net.", "127.0.9.1"), "nothing");
    assert_eq!(ask(pop, "www.example.com.", SOURCE), "REFUSED");
    // The same with the agent, and the control plane away.
    platform.herald.kill();
    platform.pops[0].kill();
    platform.pops[0].launch();
    let pop = &platform.pops[0];
    wait_until(WITHIN, "knotd to answer again", || ask(pop, "www.example.net.", OTHER) == "192.0.2.1")
        .unwrap();
    assert_eq!(ask(pop, "www.example.net.", "127.0.9.1"), "nothing");
    assert_eq!(ask(pop, "www.example.com.", SOURCE), "REFUSED");
    platform.herald.restart();
    platform.wait_until_in_sync();

    // Who changes it twice at once is told.
    let (alice, operator) = (platform.tenant.clone(), platform.herald.operator());
    let tag = alice.get(&path).etag.unwrap();
    let waiting = format!("{path}?wait=all&timeout_ms=60000");
    let none = json!({ "rules": [] });
    alice.call_with("PUT", &waiting, &[("If-Match", &tag)], Some(&none)).expect(200);
    assert_eq!(alice.call_with("PUT", &waiting, &[("If-Match", &tag)], Some(&rules)).status, 412);
    assert_asked(
        &platform,
        &[("www.example.com.", SOURCE, "192.0.2.1"), ("ftp.example.com.", OTHER, "192.0.2.2")],
    );

    // And back, by one more change.
    let back = alice
        .post(&format!("{path}/rollback?wait=all&timeout_ms=60000"), &json!({ "to": first.to_string() }));
    assert_eq!(back.expect(200)["item"], rules);
    assert_asked(
        &platform,
        &[("www.example.com.", SOURCE, "REFUSED"), ("deep.in.example.com.", OTHER, "NXDOMAIN")],
    );
    let history = alice.get(&format!("{path}/history")).expect(200);
    let messages: Vec<&Value> =
        history["items"].as_array().unwrap().iter().map(|item| &item["message"]).collect();
    assert_eq!(messages, [&json!(format!("rollback to revision {first}")), &Value::Null, &Value::Null]);
    let then = alice.get(&format!("{path}?at={first}")).expect(200);
    assert_eq!(then["rules"].as_array().unwrap().len(), 3);
    assert_eq!(operator.get(&format!("/tenants/{of_bob}/firewall")).expect(200), none);
    // What a tenant deletes with itself is no rule any more.
    let fleet = operator.get("/firewall").expect(200);
    assert_eq!(fleet["rules"].as_array().unwrap().len(), 3, "{fleet}");
    for file in fleet["files"].as_array().unwrap() {
        assert!(file["pops"].as_array().unwrap().iter().all(|pop| pop["in_sync"] == true), "{fleet}");
    }
}

#[test]
fn what_is_wrong_with_rules_is_named_and_changes_nothing() {
    let platform = Platform::without_pops("firewall-refused");
    let (tenant, operator) = (&platform.tenant, platform.herald.operator());
    let path = format!("/tenants/{}/firewall", tenant_of(tenant));
    let rules = json!({ "rules": [
        rule("fine", "drop", 1, &json!({})),
        rule("prefix", "drop", 1, &json!({ "sources": ["192.0.2.0/24", "192.0.2.1/24", "example.com"] })),
        rule("place", "drop", 1, &json!({ "countries": ["Germany"] })),
        rule("type", "drop", 1, &json!({ "types": ["A", "NOTYPE"] })),
        rule("name", "drop", 1, &json!({ "names": ["a..b"] })),
    ] });
    let problem = tenant.put(&path, &rules).expect(422);
    let at: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|item| item["pointer"].as_str().unwrap()).collect();
    assert_eq!(
        at,
        [
            "/rules/1/when/sources/1",
            "/rules/1/when/sources/2",
            "/rules/2/when/countries/0",
            "/rules/3/when/types/1",
            "/rules/4/when/names/0",
        ],
        "{problem}"
    );
    for (rules, said) in [
        (json!([rule("Upper", "drop", 1, &json!({}))]), "/rules/0"),
        (json!([rule("a", "drop", 1, &json!({})), rule("a", "pass", 2, &json!({}))]), "/rules/1"),
        (json!([rule("rate", "drop", 1, &json!({ "over": { "per_s": 0 } }))]), "/rules/0"),
    ] {
        let problem = tenant.put(&path, &json!({ "rules": rules })).expect(422);
        assert!(problem["errors"][0]["pointer"].as_str().unwrap().starts_with(said), "{problem}");
    }
    // Limits are told with what they are.
    let many: Vec<Value> = (0..101).map(|n| rule(&format!("r{n}"), "drop", n, &json!({}))).collect();
    let problem = tenant.put(&path, &json!({ "rules": many })).expect(403);
    assert!(problem["detail"].as_str().unwrap().contains("100"), "{problem}");
    assert_eq!(tenant.get(&path).expect(200), json!({ "rules": [] }));
    assert_eq!(operator.get("/firewall").expect(200)["rules"], json!([]));
}

#[test]
fn policy_zones_decide_by_name_and_by_client_and_rubbish_changes_nothing() {
    const RPZ: &str = "$TTL 300\n\
        @ SOA localhost. root.localhost. 2026 3600 600 86400 60\n\
        @ NS localhost.\n\
        www.example.com CNAME .\n\
        ftp.example.com CNAME rpz-drop.\n\
        *.in.example.com A 192.0.2.99\n\
        32.7.7.0.127.rpz-client-ip CNAME rpz-drop.\n\
        24.0.2.0.192.rpz-ip CNAME .\n";
    let platform = Platform::start("firewall-rpz", 1);
    let operator = platform.herald.operator();
    zone(&platform, &platform.tenant, "example.com");

    let put = put_rpz(&operator, "blocklist", "&origin=rpz.example", RPZ).expect(200);
    assert_eq!(
        (
            &put["item"]["names"],
            &put["item"]["clients"],
            &put["item"]["not_applying"],
            &put["item"]["serial"]
        ),
        (&json!(3), &json!(1), &json!(1), &json!(2026)),
        "{put}"
    );
    assert!(put["warnings"][0]["detail"].as_str().unwrap().contains("rpz-ip"), "{put}");
    let decided = [
        ("www.example.com.", OTHER, "NXDOMAIN"),
        ("ftp.example.com.", OTHER, "nothing"),
        ("deep.in.example.com.", OTHER, "192.0.2.99"),
        ("example.com.", SOURCE, "nothing"),
    ];
    assert_asked(&platform, &decided);
    assert_eq!(put_rpz(&platform.tenant, "blocklist", "", RPZ).status, 403);

    // Rubbish, each with where it is; what is in use stays.
    let before = operator.get("/firewall").expect(200);
    for (text, said) in [
        ("this is no zone file\n", "1:"),
        ("www.example.com CNAME .\nbad CNAME\n", "2:"),
        ("99.0.0.0.0.rpz-client-ip CNAME .\n", "1:"),
        ("x.rpz-teapot CNAME .\n", "1:"),
        ("\u{0}\u{1}\u{2}\u{3}", "1:"),
    ] {
        let problem = put_rpz(&operator, "blocklist", "&origin=rpz.example", text).expect(422);
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap();
        assert!(pointer.starts_with(said), "{text:?}: {problem}");
    }
    let after = operator.get("/firewall").expect(200);
    assert_eq!(before["policy_zones"], after["policy_zones"]);
    assert_asked(&platform, &decided);

    // The first policy zone that has something to say says it: this one lets pass.
    let first = "www.example.com CNAME rpz-passthru.\n";
    let revision = put_rpz(&operator, "friends", "&order=0&origin=rpz.example", first).expect(200);
    let with_friends = revision["change"]["revision"].to_string();
    put_rpz(&operator, "blocklist", "&order=1&origin=rpz.example", RPZ).expect(200);
    assert_asked(
        &platform,
        &[("www.example.com.", OTHER, "192.0.2.1"), ("ftp.example.com.", OTHER, "nothing")],
    );
    for name in ["friends", "blocklist"] {
        operator.delete(&format!("/firewall/rpz/{name}?wait=all&timeout_ms=60000")).expect(200);
    }
    assert_asked(
        &platform,
        &[("www.example.com.", OTHER, "192.0.2.1"), ("ftp.example.com.", OTHER, "192.0.2.2")],
    );
    // Back to both, as they were.
    operator.post("/firewall/rollback?wait=all&timeout_ms=60000", &json!({ "to": with_friends })).expect(200);
    assert_asked(&platform, &[("ftp.example.com.", OTHER, "nothing"), ("example.com.", SOURCE, "nothing")]);
    let shown = operator.get("/firewall").expect(200);
    assert_eq!(shown["policy_zones"].as_array().unwrap().len(), 2, "{shown}");
}

#[test]
fn a_policy_zone_of_a_million_rules_is_taken_and_one_of_too_many_refused() {
    const RULES: usize = 1_000_000;
    let platform = Platform::start("firewall-million", 1);
    let operator = platform.herald.operator();
    zone(&platform, &platform.tenant, "example.com");
    let mut text = String::from("www.example.com CNAME .\n");
    (1..RULES).for_each(|n| writeln!(text, "host{n}.bad{}.example CNAME .", n % 1000).unwrap());
    platform.herald.forget_peak();
    let put = put_rpz(&operator, "large", "&origin=rpz.example", &text).expect(200);
    assert_eq!(put["item"]["names"], RULES, "{put}");
    assert_asked(
        &platform,
        &[
            ("www.example.com.", OTHER, "NXDOMAIN"),
            ("host999999.bad999.example.", OTHER, "NXDOMAIN"),
            ("ftp.example.com.", OTHER, "192.0.2.2"),
        ],
    );
    let peak = platform.herald.memory().peak_bytes;
    assert!(peak < 1 << 30, "herald took {peak} bytes at its peak");
    (RULES..=2 * RULES).for_each(|n| writeln!(text, "host{n}.bad{}.example CNAME .", n % 1000).unwrap());
    let problem = put_rpz(&operator, "large", "&origin=rpz.example", &text).expect(422);
    assert!(problem.to_string().contains("at most 2000000 rules"), "{problem}");
    assert_eq!(operator.get("/firewall").expect(200)["policy_zones"][0]["names"], RULES);
}

#[test]
fn rates_are_kept_by_network_and_response_rate_limiting_starves_no_resolver() {
    let mut platform = Platform::without_pops("firewall-rates");
    platform.add_pops(1, None);
    let operator = platform.herald.operator();
    zone(&platform, &platform.tenant, "example.com");
    let over = json!({ "sources": ["127.0.7.0/24"], "over": { "per_s": 1, "burst": 5 } });
    operator
        .put("/firewall/rules/fast?wait=all&timeout_ms=60000", &rule("fast", "truncate", 1, &over))
        .expect(200);
    let burst = |listen: SocketAddr, source: &str, count: usize| {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let mut told = (0_u64, 0_u64);
        for _ in 0..count {
            socket.send_to(&dns::question(1, "www.example.com.", "A"), listen).unwrap();
            let mut reply = [0; 512];
            if let Ok(length) = socket.recv(&mut reply) {
                assert!(length > 12);
                if reply[2] & 2 == 0 { told.0 += 1 } else { told.1 += 1 }
            }
        }
        told
    };
    let listen = platform.pops[0].listen;
    let (whole, by_rule) = burst(listen, SOURCE, 40);
    assert!((5..=8).contains(&whole) && whole + by_rule == 40, "{whole} whole, {by_rule} truncated");
    assert_eq!(burst(listen, OTHER, 40), (40, 0), "another network");

    // The same for all answers of a PoP, by its configuration.
    operator.delete("/firewall/rules/fast?wait=all&timeout_ms=60000").expect(200);
    let pop = &mut platform.pops[0];
    pop.stop().unwrap();
    pop.configure(|config| config + "rate_limit = 20\nrate_limit_except = [\"127.0.8.0/24\"]\n");
    pop.start();
    wait_until(WITHIN, "knotd to answer", || ask(pop, "www.example.com.", OTHER) == "192.0.2.1").unwrap();
    let (whole, truncated) = burst(listen, SOURCE, 200);
    assert!(truncated > 100 && whole > 0, "{whole} whole, {truncated} truncated");
    assert_eq!(whole + truncated, 200, "no answer is withheld: a resolver behind it can come by TCP");
    let by_tcp = dns::query(listen, "www.example.com.", "A", Transport::Tcp).unwrap();
    assert_eq!(by_tcp.values("A"), ["192.0.2.1"]);
    assert_eq!(burst(listen, OTHER, 200), (200, 0), "a network that is excepted");
    // What the rule and the limit truncated is counted.
    let truncated = truncated + by_rule;
    let mut stats = Value::Null;
    wait_until(WITHIN, "counts", || {
        stats = platform.tenant.get("/zones/example.com/stats").expect(200);
        stats["total"]["truncated"].as_u64().is_some_and(|counted| counted >= truncated)
    })
    .unwrap_or_else(|e| panic!("{e}, {truncated}: {stats}"));
}

#[test]
fn the_command_line_sets_and_shows_it() {
    let platform = Platform::start("firewall-cli", 1);
    zone(&platform, &platform.tenant, "example.com");
    let koder = |token: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program("koder"));
        command.args(["dns", "firewall"]).args(arguments).env_clear().env("HOME", platform.folder("home"));
        command.env("KODER_SERVER", format!("http://{}", platform.herald.api)).env("KODER_TOKEN", token);
        let output = command.output().unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let done = |token: &str, arguments: &[&str]| {
        let (success, said) = koder(token, arguments);
        assert!(success, "{arguments:?}: {said}");
        said
    };
    let operator = platform.herald.operator().token().to_owned();
    let tenant = tenant_of(&platform.tenant);
    done(&operator, &["add", "flood", "drop", "--source", "127.0.7.0/24", "--order", "5", "--wait"]);
    assert_asked(
        &platform,
        &[("www.example.com.", SOURCE, "nothing"), ("www.example.com.", OTHER, "192.0.2.1")],
    );
    let said = done(&operator, &["test", "www.example.com", "A", "--client", SOURCE]);
    assert!(said.starts_with("drop: the fleet's rule flood"), "{said}");
    let own = platform.tenant.token();
    let said = done(own, &["test", "www.example.com", "A", "--client", SOURCE]);
    assert!(said.starts_with("drop: the platform's operators have it so"), "{said}");
    done(own, &["add", "no-any", "refuse", "--type", "ANY", "--tenant", &tenant, "--wait"]);
    let yaml = done(own, &["list", "--tenant", &tenant, "--yaml"]);
    let file = platform.folder("files").join("rules.yaml");
    std::fs::File::create(&file).unwrap().write_all(yaml.as_bytes()).unwrap();
    done(own, &["remove", "no-any", "--tenant", &tenant]);
    done(own, &["set", file.to_str().unwrap(), "--tenant", &tenant]);
    assert_eq!(done(own, &["list", "--tenant", &tenant, "--yaml"]), yaml);
    let zone = platform.folder("files").join("block.zone");
    std::fs::write(&zone, "ftp.example.com CNAME .\n").unwrap();
    done(&operator, &["put-rpz", "block", zone.to_str().unwrap(), "--wait"]);
    assert_asked(&platform, &[("ftp.example.com.", OTHER, "NXDOMAIN")]);
    std::fs::write(&zone, "ftp.example.com CNAME\n").unwrap();
    let (success, said) = koder(&operator, &["put-rpz", "block", zone.to_str().unwrap()]);
    assert!(!success && said.contains("line 1, column 17"), "{said}");
    let listed = wait_for(WITHIN, "counts", || {
        let listed = done(&operator, &["list"]);
        listed.contains("policy_zone").then_some(listed)
    })
    .unwrap();
    for part in ["flood", "block", "pop1", "yes"] {
        assert!(listed.contains(part), "{listed}");
    }
    let history = done(own, &["history", "--tenant", &tenant]);
    assert_eq!(history.lines().count(), 4, "{history}");
    let (success, said) = koder(own, &["list"]);
    assert!(!success && said.contains("operators"), "{said}");
}
