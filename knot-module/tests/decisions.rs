//! What knotd answers is what `steering` decides, query by query, with draws that are known.

mod support;

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use herald_core::Rtype;
use herald_core::steering::{AnswerMode, Prefix, Sticky, View, When};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use steering::geo::Geo;
use steering::{Client, Knowledge, Outcome};
use support::agent::snapshot;
use support::zone::{pool, rule};
use support::{Answer, Knot, Question, TestZone};

const QUERIES: u32 = 10_000;

#[test]
fn ten_thousand_queries_are_answered_as_decided() {
    let zone = zone();
    let knot = Knot::start(&[&zone], Some(&snapshot(&[&zone])));
    let part = zone.part();
    let geo = Geo::empty();
    let names: Vec<(String, Rtype)> =
        (0..POLICIES).map(|n| (format!("p{n}"), RTYPES[n % RTYPES.len()])).collect();
    let sockets = std::cell::RefCell::new(std::collections::HashMap::new());
    let mut runner = TestRunner::new_with_rng(
        Config { cases: QUERIES, ..Config::default() },
        TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]),
    );
    let network = (any::<[u8; 4]>(), 0..=32u8)
        .prop_map(|(address, length)| Prefix::new(address.into(), length).unwrap());
    let query = (0..POLICIES, any::<u16>(), 1..40u8, proptest::option::of(network), any::<bool>());
    runner
        .run(&query, |(policy, id, source, subnet, is_exact)| {
            let (label, rtype) = &names[policy];
            // The same policy is at a wildcard beside the name.
            let name =
                if is_exact { format!("{label}.example.com.") } else { format!("x.w{label}.example.com.") };
            let source = IpAddr::from([127, 0, 0, source]);
            let mut question = Question::new(&name, &rtype.to_string()).id(id);
            if let Some(subnet) = subnet {
                question = question.subnet(&subnet.address().to_string(), subnet.length());
            }
            let mut sockets = sockets.borrow_mut();
            let socket = sockets.entry(source).or_insert_with(|| {
                let socket = UdpSocket::bind((source, 0)).unwrap();
                socket.connect(knot.address).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                socket
            });
            socket.send(&question.octets()).unwrap();
            let mut reply = [0; 4096];
            let bytes = socket.recv(&mut reply).unwrap();
            let answer = Answer::read(&reply[..bytes]);

            let owner = zone.name(name.trim_end_matches(".example.com."));
            let client =
                Client { source, ecs: subnet, pop: steering::pop_hash("fra1"), draw: known_draw(id) };
            let mut out = Vec::with_capacity(65_536);
            let decision =
                part.decide(owner.as_wire(), *rtype, &client, &Knowledge::places(&geo), &mut out, &mut ());
            prop_assert_eq!(answer.scope, decision.scope, "{:?}: {:?}", &question, decision);
            match decision.outcome {
                Outcome::Answer { ttl, rtype, .. } => {
                    let decided: Vec<String> = rdatas(&out)
                        .map(|rdata| {
                            format!("{name} {ttl} {rtype} {}", herald_core::rdata::format_rdata(rtype, rdata))
                        })
                        .collect();
                    prop_assert_eq!(answer.answers, decided, "{:?}", &question);
                }
                Outcome::NoData => {
                    prop_assert!(answer.answers.is_empty() && answer.authority.len() == 1, "{:?}", answer);
                }
                other => prop_assert!(false, "{:?}", other),
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(knot.agent().synchronize().panics, 0);
}

const POLICIES: usize = 24;
const RTYPES: [Rtype; 3] = [Rtype::A, Rtype::AAAA, Rtype::TXT];

fn zone() -> TestZone {
    let mut zone = TestZone::new("example.com.").ecs();
    let when = |prefixes: &[&str]| When {
        prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        ..When::default()
    };
    let modes = [AnswerMode::All, AnswerMode::One, AnswerMode::UpTo(2)];
    for (kind, rtype) in RTYPES.iter().enumerate() {
        for (place, mode) in modes.iter().enumerate() {
            let texts: Vec<String> = (1..=5)
                .map(|n| match *rtype {
                    Rtype::A => format!("192.0.{place}.{n}"),
                    Rtype::AAAA => format!("2001:db8:{place}::{n}"),
                    _ => format!("\"{place}.{n}\""),
                })
                .collect();
            let endpoints: Vec<(&str, u32)> =
                texts.iter().zip([1, 5, 0, 1000, 7]).map(|(text, weight)| (text.as_str(), weight)).collect();
            let plain = pool(*mode, *rtype, &endpoints);
            let sticky = herald_core::steering::Pool {
                sticky: Some(Sticky { ipv4_prefix: 24, ipv6_prefix: 48 }),
                ..plain.clone()
            };
            zone = zone
                .pool(&format!("plain{kind}{place}"), plain)
                .pool(&format!("sticky{kind}{place}"), sticky);
        }
    }
    zone = zone.view(
        "odd",
        View {
            prefixes: vec!["127.0.0.1/32".parse().unwrap(), "127.0.0.16/28".parse().unwrap()],
            pops: vec![],
        },
    );
    for n in 0..POLICIES {
        let kind = n % RTYPES.len();
        let of = |name: &str, place: usize| format!("{name}{kind}{place}");
        let mut rules = vec![
            rule(when(&["10.0.0.0/8", "192.0.2.0/24"]), &[&of("plain", n % 3)]),
            rule(When { views: vec!["odd".into()], ..When::default() }, &[&of("sticky", n / 3 % 3)]),
            rule(when(&["128.0.0.0/2"]), &["none", &of("plain", 1)]),
            rule(When { pops: vec!["ams1".into()], ..When::default() }, &[&of("plain", 0)]),
            rule(when(&["0.0.0.0/2", "127.0.0.32/27"]), &["none"]),
        ];
        if n % 2 == 0 {
            rules.push(rule(When::default(), &[&of("sticky", 1), &of("plain", 0)]));
        }
        rules.rotate_left(n % 5);
        let rtype = RTYPES[kind];
        zone = zone.rules(&format!("p{n}"), rtype, rules.clone()).rules(&format!("*.wp{n}"), rtype, rules);
    }
    zone
}

/// What the option of the module that is for tests makes of a message's id.
fn known_draw(id: u16) -> u64 {
    let z = u64::from(id).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// RDATAs as they were appended.
fn rdatas(mut octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = octets.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let (rdata, rest) = rest.split_at(length);
        octets = rest.get(length & 1..).unwrap_or_default();
        Some(rdata)
    })
}
