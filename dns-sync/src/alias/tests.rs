//! What answers of resolvers come to.

use std::net::SocketAddr;

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Name as DomainName, Rtype, Ttl};
use domain::rdata::{A, Aaaa, Cname, Soa};
use herald_core::Name;
use herald_core::alias::watch::Found;
use herald_core::rdata::format_rdata;
use proptest::prelude::*;

use super::resolve::{Answer, read, resolve};

fn name(text: &str) -> DomainName<Vec<u8>> {
    DomainName::vec_from_str(text).unwrap()
}

/// An answer with these records: `OWNER TTL TYPE DATA` a line; the flags are `ra` and `aa`.
fn message(flags: &str, rcode: Rcode, records: &[&str]) -> Message<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_qr(true);
    builder.header_mut().set_ra(flags.contains("ra"));
    builder.header_mut().set_aa(flags.contains("aa"));
    builder.header_mut().set_rcode(rcode);
    let mut question = builder.question();
    question.push((name("t.example"), Rtype::A, Class::IN)).unwrap();
    let mut answer = question.answer();
    for record in records.iter().filter(|record| !record.contains("SOA")) {
        let [owner, ttl, rtype, data] = record.split(' ').collect::<Vec<_>>()[..] else { panic!("{record}") };
        let (owner, ttl) = (name(owner), Ttl::from_secs(ttl.parse().unwrap()));
        match rtype {
            "A" => answer.push((owner, ttl, A::new(data.parse().unwrap()))),
            "AAAA" => answer.push((owner, ttl, Aaaa::new(data.parse().unwrap()))),
            _ => answer.push((owner, ttl, Cname::new(name(data)))),
        }
        .unwrap();
    }
    let mut authority = answer.authority();
    for record in records.iter().filter(|record| record.contains("SOA")) {
        let [owner, ttl, _, minimum] = record.split(' ').collect::<Vec<_>>()[..] else { panic!("{record}") };
        let root = || name(".");
        let second = Ttl::from_secs(1);
        let minimum = Ttl::from_secs(minimum.parse().unwrap());
        let soa = Soa::new(root(), root(), 1.into(), second, second, second, minimum);
        authority.push((name(owner), Ttl::from_secs(ttl.parse().unwrap()), soa)).unwrap();
    }
    authority.into_message()
}

fn told(flags: &str, rcode: Rcode, records: &[&str]) -> String {
    match read(&message(flags, rcode, records), &Name::parse("t.example").unwrap(), Rtype::A) {
        Err(cause) => format!("failed: {cause}"),
        Ok(Answer { found: Found::Addresses(rrset), ttl }) => {
            assert_eq!(rrset.ttl, ttl);
            let texts = rrset.rdatas.iter().map(|rdata| format_rdata(Rtype::A, rdata));
            format!("{ttl} {}", texts.collect::<Vec<_>>().join(" "))
        }
        Ok(Answer { found: Found::Nothing { cause }, ttl }) => format!("{ttl} {cause}"),
        Ok(Answer { found: Found::Failed { .. }, .. }) => panic!("that is an error"),
    }
}

#[test]
fn answers_are_followed_from_the_target_on() {
    let ok = Rcode::NOERROR;
    let chain = ["b.example 20 CNAME c.example", "t.example 300 CNAME b.example", "c.example 60 A 192.0.2.1"];
    for (flags, rcode, records, expected) in [
        ("ra", ok, &["t.example 60 A 192.0.2.2", "T.Example 50 A 192.0.2.1"][..], "50 192.0.2.1 192.0.2.2"),
        ("aa", ok, &["t.example 60 A 192.0.2.1", "t.example 60 A 192.0.2.1"], "60 192.0.2.1"),
        ("ra", ok, &chain, "20 192.0.2.1"),
        ("", ok, &chain, "20 192.0.2.1"),
        // What isn't on the way, or of another type, is passed over.
        ("ra", ok, &["x.example 60 A 192.0.2.9", "t.example 60 AAAA 2001:db8::1"], "30 no such records"),
        (
            "ra",
            ok,
            &["t.example 60 CNAME b.example", "t.example 60 A 192.0.2.9", "b.example 9 SOA 7"],
            "7 no such records",
        ),
        ("ra", Rcode::NXDOMAIN, &["example 9 SOA 700"], "9 NXDOMAIN"),
        ("ra", Rcode::NXDOMAIN, &["t.example 5 CNAME b.example", "example 9 SOA 700"], "5 NXDOMAIN"),
        ("aa", Rcode::NXDOMAIN, &[], "30 NXDOMAIN"),
        // An authoritative server knows nothing of where it leads to.
        (
            "aa",
            ok,
            &["t.example 60 CNAME b.elsewhere"],
            "failed: it doesn't recurse, and hasn't the addresses itself",
        ),
        ("", ok, &[], "failed: it doesn't recurse, and hasn't the addresses itself"),
        ("ra", ok, &["t.example 60 CNAME t.example"], "failed: its aliases lead in a circle, or too far"),
        (
            "ra",
            ok,
            &["t.example 60 CNAME b.example", "b.example 60 CNAME t.example"],
            "failed: its aliases lead in a circle, or too far",
        ),
        ("ra", Rcode::SERVFAIL, &["t.example 60 A 192.0.2.1"], "failed: RCODE SERVFAIL"),
        ("ra", Rcode::REFUSED, &[], "failed: RCODE REFUSED"),
    ] {
        assert_eq!(told(flags, rcode, records), expected, "{flags} {rcode} {records:?}");
    }
    let many: Vec<String> = (0..250).map(|n| format!("t.example 60 A 192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(told("ra", ok, &many).split(' ').count(), 33, "a TTL, and as many as are served");
}

#[tokio::test]
async fn resolvers_that_refuse_or_are_not_there_are_passed_over() {
    // Nobody listens there, and the system says so.
    let closed: SocketAddr = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let target = Name::parse("t.example").unwrap();
    let Answer { found, .. } = resolve(&[closed, closed], &target, Rtype::A).await;
    let Found::Failed { cause } = found else { panic!("{found:?}") };
    assert_eq!(cause.matches(&closed.to_string()).count(), 2, "{cause}");
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(octets in prop::collection::vec(any::<u8>(), 12..300), rtype in any::<bool>()) {
        if let Ok(message) = Message::from_octets(octets) {
            let rtype = if rtype { Rtype::A } else { Rtype::AAAA };
            let _ = read(&message, &Name::parse("t.example").unwrap(), rtype);
        }
    }

    #[test]
    fn answers_with_damage_are_read_or_refused(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let records = ["t.example 300 CNAME b.example", "b.example 60 A 192.0.2.1", "example 9 SOA 700"];
        let mut octets = message("ra", Rcode::NOERROR, &records).into_octets();
        for (place, octet) in damage {
            let place = place.index(octets.len());
            octets[place] = octet;
        }
        if let Ok(message) = Message::from_octets(octets) {
            let _ = read(&message, &Name::parse("t.example").unwrap(), Rtype::A);
        }
    }
}
