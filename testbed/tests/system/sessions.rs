//! How agents are connected and knotd is run: over TLS, and a knotd that somebody else runs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use testbed::herald::{Pop, program};
use testbed::loopback;
use testbed::platform::{Platform, wait_for_answer};
use testbed::process::Launch;
use testbed::wait::wait_until;

use crate::certificate::make_certificate;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn sessions_over_tls_trust_the_named_authority_alone() {
    let mut platform = Platform::start("tls", 0);
    let folder = platform.folder("tls");
    let (ca, cert, key) = (folder.join("ca.pem"), folder.join("cert.pem"), folder.join("key.pem"));
    let stranger = folder.join("stranger.pem");
    make_certificate("herald.test", &ca, &cert, &key);
    make_certificate("herald.test", &stranger, &folder.join("other-cert.pem"), &folder.join("other-key.pem"));
    let path = |path: &Path| path.display().to_string();
    platform.herald.arguments =
        ["--pop-tls-cert".into(), path(&cert), "--pop-tls-key".into(), path(&key)].into();
    platform.herald.restart();
    platform.create_zone("example.com");

    let mut pop = pop_of(&platform);
    pop.configure(|config| format!("tls_ca = {stranger:?}\ntls_name = \"herald.test\"\n{config}"));
    pop.start();
    wait_until(SOON, "the stranger's authority to be refused", || {
        status(&pop).to_lowercase().contains("certificate")
    })
    .unwrap_or_else(|e| panic!("{e}\n{}\n{}", status(&pop), pop.tail()));
    pop.stop().unwrap();

    pop.configure(|config| config.replace("stranger.pem", "ca.pem"));
    pop.start();
    platform.pops.push(pop);
    put(&platform, "192.0.2.7");
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.7"]);
}

#[test]
fn a_knotd_that_somebody_else_runs_is_attached_to() {
    let mut platform = Platform::start("attach", 0);
    platform.create_zone("example.com");
    let mut pop = pop_of(&platform);
    pop.configure(|config| {
        config.replace("\"supervise\"", "\"attach\"").replace("stop_knot_on_exit = true\n", "")
    });
    // As a unit of systemd would: first the files, then knotd.
    let knotd = |pop: &Pop| {
        let materialize = || {
            let mut command = Command::new(program("koder-dns-sync"));
            command.args(["materialize", "--config"]).arg(pop.config()).output().unwrap()
        };
        // Which a PoP that is new has none of until its agent has made a replica.
        wait_until(SOON, "the files to be written", || materialize().status.success())
            .unwrap_or_else(|e| panic!("{e}\n{}", String::from_utf8_lossy(&materialize().stderr)));
        let config = pop.folder().join("knot/knot.conf");
        Launch::new("knotd", "/usr/sbin/knotd", pop.folder()).arg("-c").arg(config).start()
    };
    pop.launch();
    let first = knotd(&pop);
    platform.pops.push(pop);
    put(&platform, "192.0.2.8");
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.8"]);

    // The agent's end is none of knotd's, nor the other way round.
    platform.pops[0].kill_agent();
    wait_for_answer(&platform.pops[0], "www.example.com.", "A", &["192.0.2.8"]);
    put(&platform, "192.0.2.9");
    platform.pops[0].start();
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.9"]);
    drop(first);
    let _second = knotd(&platform.pops[0]);
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.9"]);
    put(&platform, "192.0.2.10");
    platform.wait_for_answer("www.example.com.", "A", &["192.0.2.10"]);
}

fn pop_of(platform: &Platform) -> Pop {
    let secret = platform.herald.register_pop("pop1");
    Pop::set_up(&platform.folder("pops"), "pop1", &secret, platform.herald.pops, loopback::free_endpoint())
}

fn put(platform: &Platform, address: &str) {
    let reply =
        platform.tenant.put("/zones/example.com/rrsets/www/A", &json!({ "ttl": 60, "records": [address] }));
    assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
}

fn status(pop: &Pop) -> String {
    let said = Command::new(program("koder-dns-sync"))
        .args(["status", "--config"])
        .arg(pop.config())
        .output()
        .unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
}
