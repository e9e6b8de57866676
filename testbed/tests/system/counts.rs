//! Counts end to end: from queries to real Knots to what the API says, whatever is restarted in between.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use testbed::dns::{self, Transport};
use testbed::platform::Platform;
use testbed::wait::wait_until;

const WITHIN: Duration = Duration::from_secs(120);

fn total(platform: &Platform, path: &str) -> Value {
    platform.herald.operator().get(path).expect(200)["total"].clone()
}

/// Waits until the zone has as many queries as were sent, and then whether more come that nobody sent.
fn wait_for_count(platform: &Platform, zone: &str, queries: u64) {
    let path = format!("/zones/{zone}/stats?step=1h");
    let mut seen = Value::Null;
    wait_until(WITHIN, "all queries to be counted", || {
        seen = total(platform, &path);
        seen["query_count"].as_u64().unwrap() >= queries
    })
    .unwrap_or_else(|e| panic!("{e}: {queries} were sent, {seen}"));
    assert_eq!(seen["query_count"], queries, "{seen}");
}

#[test]
fn each_query_is_counted_once_while_agents_herald_and_knotd_are_restarted() {
    const QUERIES: u64 = 20_000;
    let mut platform = Platform::start("counts", 2);
    platform.create_zone("example.com");
    platform.create_zone("example.net");
    let addresses: Vec<SocketAddr> = platform.pops.iter().map(|pop| pop.listen).collect();
    for address in &addresses {
        for zone in ["example.com.", "example.net."] {
            wait_until(WITHIN, "the zone to be served", || {
                dns::query(*address, zone, "SOA", Transport::Udp)
                    .is_ok_and(|answer| !answer.answers.is_empty())
            })
            .unwrap();
        }
    }
    // What it took to get here is counted too.
    let settled = |platform: &Platform| {
        let mut last = Value::Null;
        let mut same = 0;
        wait_until(WITHIN, "counts to settle", || {
            let now = total(platform, "/zones/example.com/stats?step=1h");
            same = if now == last { same + 1 } else { 0 };
            last = now;
            std::thread::sleep(Duration::from_millis(200));
            same > 40
        })
        .unwrap();
        last["query_count"].as_u64().unwrap()
    };
    let mut sent = settled(&platform);
    let mut ask = |name: &str| {
        for address in &addresses {
            dns::ask_many(*address, name, QUERIES).unwrap();
        }
        sent += QUERIES * addresses.len() as u64;
        sent
    };
    ask("example.com.");
    // Counts pile up at PoPs while the control plane is down.
    platform.herald.kill();
    ask("www.example.com.");
    // An agent that is killed while knotd goes on.
    platform.pops[0].kill_agent();
    ask("example.com.");
    platform.pops[0].start();
    platform.herald.restart();
    ask("www.example.com.");
    // Both daemons of a PoP in order, and again.
    platform.pops[1].stop().unwrap();
    platform.pops[1].start();
    ask("www.example.com.");
    platform.herald.stop().unwrap();
    platform.herald.restart();
    let sent = ask("example.com.");
    wait_for_count(&platform, "example.com", sent);
    let of = total(&platform, "/zones/example.com/stats?step=1h");
    assert_eq!(of["nxdomain"], 3 * 2 * QUERIES, "{of}");
    assert_eq!(of["by_rcode"]["NXDOMAIN"], 3 * 2 * QUERIES, "{of}");
    // Unknown zones are the fleet's.
    let before = total(&platform, "/stats?step=1h")["query_count"].as_u64().unwrap();
    dns::ask_many(addresses[0], "nobodys.test.", 500).unwrap();
    wait_until(WITHIN, "the fleet's to be counted", || {
        total(&platform, "/stats?step=1h")["query_count"].as_u64().unwrap() == before + 500
    })
    .unwrap();
}
