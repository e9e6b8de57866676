//! Answers a second: each kind of steered answer beside plain zone data of the same knotd, and beside each peer that can do it.
//! All servers have one UDP worker and one CPU, the same for all; the questions come from the other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use domain::base::iana::Rtype;

use super::flood::{self, Questions};
use super::pairs::{Numbers, Side, compare, pin};
use super::peers::{self, NAMES, ZONE};
use super::{city_file, ours};
use crate::bench::{Line, Settings};
use crate::scratch::Scratch;

/// Different questions of a kind.
const QUESTIONS: usize = 20_000;

/// The CPU of the servers.
pub const SERVERS_CPU: usize = 0;
/// The CPU of who asks.
pub const ASKER_CPU: usize = 1;

/// How many subnets are asked at every server that answers by place, before anything is measured: all have to say the same.
const COMPARED: usize = 300;

/// Measures.
///
/// # Panics
/// If something isn't right.
pub fn run(_: &Settings) -> Vec<Line> {
    let city = city_file();
    let scratch = Scratch::new("bench-steering-peers");
    let platform = ours::start(&city);
    let mod_geoip = peers::knot_geoip(scratch.path(), &city);
    let gdnsd = peers::gdnsd(scratch.path(), &city);
    let powerdns = peers::powerdns_lua(scratch.path());
    let servers = [&mod_geoip, &gdnsd, &powerdns].map(|peer| peer.process.id());
    let knotds = platform.pops[0].knotds();
    for process in servers.into_iter().chain(knotds.iter().filter_map(|id| u32::try_from(*id).ok())) {
        pin(process, SERVERS_CPU);
    }
    pin(std::process::id(), ASKER_CPU);

    let here = platform.pops[0].listen;
    let geo = by_place(ZONE, "geo");
    for peer in [&mod_geoip, &gdnsd] {
        need_same_answers(here, peer.listen, peer.process.name());
    }
    let of = |server: SocketAddr, questions: &Questions| Side { server, questions: questions.clone() };
    let (weighted, viewed) = (everywhere(ZONE, "weight"), everywhere(ours::VIEWED, "view"));
    let (plain, plain_by_place) = (everywhere(ours::PLAIN, "plain"), by_place(ours::PLAIN, "plain"));
    let beside = everywhere(ZONE, "plain");
    vec![
        compare(
            "not steered, beside steered names",
            "plain zone",
            &of(here, &beside),
            &of(here, &plain),
            0.97,
        ),
        compare("geo", "plain zone", &of(here, &geo), &of(here, &plain_by_place), 0.97),
        compare("weighted", "plain zone", &of(here, &weighted), &of(here, &plain), 0.97),
        compare("view", "plain zone", &of(here, &viewed), &of(here, &plain), 0.97),
        compare("geo", "mod-geoip", &of(here, &geo), &of(mod_geoip.listen, &geo), 1.0),
        compare("weighted", "mod-geoip", &of(here, &weighted), &of(mod_geoip.listen, &weighted), 1.0),
        compare("geo", "gdnsd", &of(here, &geo), &of(gdnsd.listen, &geo), 1.2),
        compare("weighted", "gdnsd", &of(here, &weighted), &of(gdnsd.listen, &weighted), 1.2),
        compare("weighted", "PowerDNS Lua", &of(here, &weighted), &of(powerdns.listen, &weighted), 50.0),
    ]
}

fn owner(zone: &str, kind: &str, number: usize) -> String {
    format!("{kind}{}.{zone}", number % NAMES)
}

/// Questions without a client subnet.
pub fn everywhere(zone: &str, kind: &str) -> Questions {
    Questions::new((0..QUESTIONS).map(|n| (owner(zone, kind, n), Rtype::A, None)))
}

/// Questions of clients in random networks.
pub fn by_place(zone: &str, kind: &str) -> Questions {
    let mut numbers = Numbers::new(1);
    Questions::new((0..QUESTIONS).map(|n| (owner(zone, kind, n), Rtype::A, Some((subnet(&mut numbers), 24)))))
}

/// A random /24 below 224.0.0.0.
fn subnet(numbers: &mut Numbers) -> IpAddr {
    loop {
        let bits = u32::try_from(numbers.next() >> 32).expect("32 bits") & 0xffff_ff00;
        if (1 << 24..0xe000_0000).contains(&bits) {
            return Ipv4Addr::from_bits(bits).into();
        }
    }
}

/// Asks both for the same clients' addresses and compares.
fn need_same_answers(ours: SocketAddr, peer: SocketAddr, name: &str) {
    let mut numbers = Numbers::new(7);
    let owner = owner(ZONE, "geo", 0);
    let mut different = Vec::new();
    for _ in 0..COMPARED {
        let client = subnet(&mut numbers);
        let question = Questions::new([(owner.clone(), Rtype::A, Some((client, 24)))]);
        let both = [ours, peer].map(|server| {
            flood::ask(server, &question).unwrap_or_else(|e| panic!("{server} for {client}: {e}"))
        });
        if both[0] != both[1] {
            different.push((client, both));
        }
    }
    assert!(
        different.is_empty(),
        "{name} answers {} of {COMPARED} clients otherwise: {different:?}",
        different.len()
    );
}
