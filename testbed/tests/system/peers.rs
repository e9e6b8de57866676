//! The testbed's own tools, against servers that are known to be right.

use std::time::Duration;

use testbed::chain::Chain;
use testbed::dns::{self, Transport, differences};
use testbed::http;
use testbed::knot::Knot;
use testbed::powerdns;
use testbed::scratch::Scratch;
use testbed::wait::wait_until;

#[test]
fn the_client_reads_every_type_and_whole_zones() {
    let scratch = Scratch::new("peers");
    let zone = ("example.com.".to_owned(), testbed::EXAMPLE_ZONE.to_owned());
    let knot = Knot::of_files(scratch.path(), "knot", std::slice::from_ref(&zone));

    let answer = dns::query(knot.listen, "example.com.", "MX", Transport::Udp).unwrap();
    assert!(answer.authoritative && !answer.truncated);
    assert_eq!(answer.values("MX"), ["10 mx1.example.com.", "20 mx2.example.com."]);
    let over_tcp = dns::query(knot.listen, "example.com.", "MX", Transport::Tcp).unwrap();
    assert_eq!(over_tcp, answer);
    let nothing = dns::query(knot.listen, "nothing.example.com.", "A", Transport::Udp).unwrap();
    assert_eq!(nothing.rcode.to_string(), "NXDOMAIN");
    let refused = dns::query(knot.listen, "example.net.", "A", Transport::Udp).unwrap();
    assert_eq!(refused.rcode.to_string(), "REFUSED");

    let content = knot.content(&zone.0);
    for rtype in testbed::EXAMPLE_TYPES {
        assert!(content.iter().any(|r| r.rtype.to_string() == *rtype), "no {rtype} in the transfer");
    }
    let again = Knot::of_files(scratch.path(), "again", &[zone]);
    assert_eq!(differences(&content, &again.content("example.com."), 10), "");
}

#[test]
fn the_peers_chain_carries_a_change() {
    let scratch = Scratch::new("chain");
    let zone = ("example.org.".to_owned(), vec![("www".to_owned(), "192.0.2.1".to_owned())]);
    let chain = Chain::start(scratch.path(), &[zone], 2, Some(Duration::from_millis(20)));
    let api = chain.primary.api;
    for request in [
        powerdns::set_address(api, "example.org.", "www", "192.0.2.2"),
        powerdns::notify(api, "example.org."),
    ] {
        let reply = http::call(api, &request).unwrap();
        assert!((200..300).contains(&reply.status), "{reply:?}");
    }
    for knot in &chain.secondaries {
        wait_until(Duration::from_secs(20), "the change at a secondary", || {
            dns::query(knot.listen, "www.example.org.", "A", Transport::Udp)
                .is_ok_and(|answer| answer.values("A") == ["192.0.2.2"])
        })
        .unwrap();
    }
}
