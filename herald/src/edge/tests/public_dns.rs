//! Proofs and checks against a real Knot DNS that plays the public DNS: resolver and parent zone in one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::{SOON, World};
use crate::delegation::Resolver;
use crate::edge::Limits;

/// A knotd that serves the zone `example.`; it ends with this value.
struct PublicDns {
    knotd: Child,
    _dir: tempfile::TempDir,
}

impl Drop for PublicDns {
    fn drop(&mut self) {
        _ = self.knotd.kill();
        _ = self.knotd.wait();
    }
}

impl PublicDns {
    fn start(address: SocketAddr, zone: &str) -> PublicDns {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "server:\n  rundir: {0}\n  listen: {1}@{2}\n  user: {3}\ndatabase:\n  storage: {0}\n\
             log:\n  - target: stderr\n    any: error\n\
             zone:\n  - domain: example.\n    file: {4}\n    journal-content: none\n    semantic-checks: soft\n",
            dir.path().display(),
            address.ip(),
            address.port(),
            whoami(),
            path("zone"),
        );
        std::fs::write(path("knot.conf"), config).unwrap();
        std::fs::write(path("zone"), zone.replace("ADDRESS", &address.ip().to_string())).unwrap();
        let mut knotd = Command::new(program());
        let knotd = knotd.arg("-c").arg(path("knot.conf")).stderr(Stdio::inherit()).spawn().unwrap();
        PublicDns { knotd, _dir: dir }
    }
}

/// Daemons are not in everybody's path.
fn program() -> &'static Path {
    let usual = Path::new("/usr/sbin/knotd");
    if usual.exists() { usual } else { Path::new("knotd") }
}

fn whoami() -> String {
    let id = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(id.stdout).unwrap().trim().to_owned()
}

/// An endpoint that nothing else takes: a loopback address of this process' own, and a port below those that the
/// system gives to clients.
fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let port = 5300 + TAKEN.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 84, high, low.max(1)], port))
}

async fn world_at(address: SocketAddr) -> World {
    let resolver = Resolver::new(vec![address]).with_authoritative_port(address.port());
    World::with(Limits::default(), resolver).await
}

/// Asks until the DNS is up.
async fn check(world: &World, zone: &str) -> Value {
    let begin = Instant::now();
    loop {
        let reply = world.alice("GET", &format!("/zones/{zone}/check")).send().await.ok(200);
        if reply.json["delegation"] != "unknown" || begin.elapsed() > SOON {
            return reply.json;
        }
    }
}

const ZONE: &str = "\
$ORIGIN example.
$TTL 60
@ SOA ns.example. dns.example. 1 1 1 1 1
@ NS ns
ns A ADDRESS
right NS ns1.herald.test.
right NS ns2.herald.test.
partly NS ns1.herald.test.
partly NS ns.old.test.
elsewhere NS ns.old.test.
signed NS ns1.herald.test.
signed NS ns2.herald.test.
signed DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000
within NS ns1.within
within NS ns2.within
ns1.within A 192.0.2.1
";

#[tokio::test]
async fn a_check_says_how_the_delegation_stands_and_what_to_do() {
    let address = free_address();
    let world = world_at(address).await;
    let unknown = {
        world.zone("right.example").await;
        world.alice("GET", "/zones/right.example/check").send().await.ok(200)
    };
    assert_eq!(unknown.json["delegation"], "unknown");
    assert!(unknown.json["findings"][0].as_str().unwrap().contains("could not be asked"), "{}", unknown.text);
    for zone in ["partly.example", "elsewhere.example", "signed.example", "nowhere.example", "within.example"]
    {
        world.zone(zone).await;
    }
    let _dns = PublicDns::start(address, ZONE);

    let right = check(&world, "right.example").await;
    assert_eq!((&right["delegation"], &right["parent"]), (&json!("delegated"), &json!("example.")));
    assert_eq!(right["parent_nameservers"], json!(["ns1.herald.test.", "ns2.herald.test."]));
    assert_eq!(right["findings"].as_array().unwrap().len(), 1);

    let partly = check(&world, "partly.example").await;
    assert_eq!(partly["delegation"], "partial");
    assert_eq!(partly["missing_in_parent"], json!(["ns2.herald.test."]));
    assert_eq!(partly["extra_in_parent"], json!(["ns.old.test."]));
    assert_eq!(partly["findings"].as_array().unwrap().len(), 2);

    let elsewhere = check(&world, "elsewhere.example").await;
    assert_eq!(elsewhere["delegation"], "elsewhere");
    let nowhere = check(&world, "nowhere.example").await;
    assert_eq!((&nowhere["delegation"], &nowhere["parent"]), (&json!("not_delegated"), &json!("example.")));
    assert!(nowhere["findings"][0].as_str().unwrap().contains("ns1.herald.test."));

    let signed = check(&world, "signed.example").await;
    assert_eq!((&signed["delegation"], &signed["ds_in_parent"]), (&json!("delegated"), &json!(true)));
    assert!(signed["findings"].to_string().contains("remove the DS"));
    let within = check(&world, "within.example").await;
    let findings = within["findings"].to_string();
    assert!(
        findings.contains("glue") && findings.contains("ns2.within") && !findings.contains("of ns1.within"),
        "{findings}"
    );
}

#[tokio::test]
async fn a_proof_lets_a_pending_zone_in() {
    let address = free_address();
    let world = world_at(address).await;
    let pending = async |name: &str| {
        let reply = world.bob("POST", "/zones").json(&json!({ "name": name })).send().await.ok(201);
        assert_eq!(reply.json["item"]["status"], "pending");
        reply.json["item"]["proof"]["txt_value"].as_str().unwrap().to_owned()
    };
    // Squatted by alice, who holds the name, a name below, and a name above.
    for zone in ["txt.example", "x.right.example", "x.elsewhere.example", "large.example", "above.example"] {
        world.zone(zone).await;
    }
    let txt = pending("txt.example").await;
    let large = pending("large.example").await;
    pending("right.example").await;
    pending("elsewhere.example").await;
    pending("below.above.example").await;
    let filler: String =
        (0..40).map(|n| format!("_koder-herald.large TXT \"{n} {}\"\n", "x".repeat(100))).collect();
    let zone = format!(
        "{ZONE}_koder-herald.txt TXT \"something else\"\n_koder-herald.txt TXT \"{txt}\"\n\
         {filler}_koder-herald.large TXT \"{}\" \"{}\"\n\
         below.above NS ns1.herald.test.\nbelow.above NS ns2.herald.test.\n",
        &large[..20],
        &large[20..],
    );
    let verify = async |zone: &str| world.bob("POST", &format!("/zones/{zone}/verify")).send().await;
    let nobody = verify("txt.example").await;
    nobody.problem(409, "conflict");
    let _dns = PublicDns::start(address, &zone);
    world.zone("probe.example").await;
    check(&world, "probe.example").await;

    let verified = verify("txt.example").await.ok(200);
    assert_eq!(verified.json["item"]["status"], "active");
    assert_eq!(verified.json["change"]["principal"], "system");
    // Who had it is displaced, and may come back in the same way.
    let displaced = world.alice("GET", "/zones/txt.example").send().await.ok(200);
    assert_eq!(displaced.json["status"], "pending");
    // Over TCP, as it doesn't fit, and in several strings.
    verify("large.example").await.ok(200);
    // By delegation.
    verify("right.example").await.ok(200);
    // Neither; and where a delegation says nothing, it doesn't count.
    let neither = verify("elsewhere.example").await;
    neither.problem(409, "conflict");
    assert!(
        neither.text.contains("no TXT record") && neither.text.contains("ns.old.test."),
        "{}",
        neither.text
    );
    let shared = verify("below.above.example").await;
    shared.problem(409, "conflict");
    assert!(shared.text.contains("can't prove"), "{}", shared.text);
    // A zone that is in stays as it is.
    let again = verify("txt.example").await.ok(200);
    assert_eq!(again.json["change"]["id"], verified.json["change"]["id"]);
}
