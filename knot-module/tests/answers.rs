//! What a real knotd answers with the module in it.

mod support;

use domain::base::iana::Rcode;
use herald_core::Rtype;
use herald_core::steering::{AnswerMode, EndpointState};
use support::zone::pool;
use support::{Knot, Question, TestZone};

/// A zone with everything that can be at a name.
fn zone() -> TestZone {
    let weighted =
        pool(AnswerMode::One, Rtype::A, &[("192.0.2.10", 1), ("192.0.2.11", 2), ("192.0.2.12", 0)]);
    let all = pool(AnswerMode::All, Rtype::A, &[("192.0.2.20", 1), ("192.0.2.21", 1), ("192.0.2.22", 1)]);
    let some =
        pool(AnswerMode::UpTo(2), Rtype::A, &[("192.0.2.30", 1), ("192.0.2.31", 1), ("192.0.2.32", 1)]);
    let mut nobody = pool(AnswerMode::All, Rtype::A, &[("192.0.2.40", 1)]);
    nobody.endpoints[0].state = EndpointState::Disabled;
    let many: Vec<String> = (0..60).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<(&str, u32)> = many.iter().map(|address| (address.as_str(), 1)).collect();
    let cname = |target: &str| pool(AnswerMode::One, Rtype::CNAME, &[(target, 1)]);
    TestZone::new("example.com.")
        .records(&[
            "plain A 192.0.2.99",
            "aliased CNAME weighted",
            "aliased-away CNAME elsewhere.example.net.",
            "mail MX 10 all",
            "mail MX 20 plain",
            "weighted TXT \"beside\"",
            "sub NS ns.sub",
            "sub NS all",
            "ns.sub A 192.0.2.98",
            "*.plain-wild A 192.0.2.97",
        ])
        .pool("weighted", weighted)
        .pool("all", all)
        .pool("some", some)
        .pool("nobody", nobody)
        .pool("many", pool(AnswerMode::All, Rtype::A, &many))
        .pool(
            "mx",
            pool(AnswerMode::All, Rtype::MX, &[("10 plain.example.com.", 1), ("20 all.example.com.", 1)]),
        )
        .pool("to-plain", cname("plain.example.com."))
        .pool("to-steered", cname("all.example.com."))
        .pool("to-alias", cname("to-steered.example.com."))
        .pool("to-away", cname("elsewhere.example.net."))
        .pool("v6", pool(AnswerMode::All, Rtype::AAAA, &[("2001:db8::1", 1), ("2001:db8::2", 1)]))
        .policy("weighted", Rtype::A, &["weighted"])
        .policy("all", Rtype::A, &["all"])
        .policy("all", Rtype::AAAA, &["v6"])
        .policy("some", Rtype::A, &["some"])
        .policy("nobody", Rtype::A, &["nobody"])
        .policy("many", Rtype::A, &["many"])
        .policy("mx", Rtype::MX, &["mx"])
        .policy("to-plain", Rtype::CNAME, &["to-plain"])
        .policy("to-steered", Rtype::CNAME, &["to-steered"])
        .policy("to-alias", Rtype::CNAME, &["to-alias"])
        .policy("to-away", Rtype::CNAME, &["to-away"])
        .policy("*.wild", Rtype::A, &["all"])
        .policy("*.wild-alias", Rtype::CNAME, &["to-steered"])
        .policy("*.wild-plain", Rtype::CNAME, &["to-plain"])
        .policy("under.sub", Rtype::A, &["all"])
        .policy("@", Rtype::A, &["all"])
}

#[test]
fn answers_are_as_they_were_decided() {
    let zone = zone();
    let knot = Knot::start(&[&zone], None);
    let mut agent = knot.agent();
    assert!(knot.ask("all.example.com.", "A").is_servfail(), "a placeholder without steering is no answer");
    agent.put(&zone);

    let soa = "example.com. 300 SOA ns.example.com. admin.example.com. 1 3600 600 86400 300";
    let all = |owner: &str| [20, 21, 22].map(|n| format!("{owner} 60 A 192.0.2.{n}")).to_vec();

    let answer = knot.ask("all.example.com.", "A");
    assert_eq!((answer.rcode, answer.is_authoritative, answer.is_truncated), (Rcode::NOERROR, true, false));
    assert_eq!(answer.answers, all("all.example.com."));
    assert!(answer.authority.is_empty() && answer.additional.is_empty());

    assert_eq!(knot.ask("example.com.", "A").answers, all("example.com."));
    assert_eq!(
        knot.ask("aLL.exAMPle.com.", "A").answers,
        all("aLL.exAMPle.com."),
        "the query's own spelling"
    );
    assert_eq!(
        Question::new("all.example.com.", "A").tcp().ask(knot.address).answers,
        all("all.example.com.")
    );
    assert_eq!(
        Question::new("all.example.com.", "A").dnssec().ask(knot.address).answers,
        all("all.example.com.")
    );
    assert_eq!(knot.ask("plain.example.com.", "A").answers, ["plain.example.com. 300 A 192.0.2.99"]);
    assert_eq!(knot.ask("weighted.example.com.", "TXT").values(), ["\"beside\""]);

    let mut seen = std::collections::BTreeSet::new();
    for id in 0..64 {
        let answer = Question::new("weighted.example.com.", "A").id(id).ask(knot.address);
        assert_eq!(answer.answers.len(), 1);
        seen.extend(answer.answers);
        let some = Question::new("some.example.com.", "A").id(id).ask(knot.address);
        assert_eq!(some.answers.len(), 2);
    }
    let weighted = ["weighted.example.com. 60 A 192.0.2.10", "weighted.example.com. 60 A 192.0.2.11"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), weighted);

    // Nothing: no candidate, no such type, no such name.
    for (name, rtype) in [("nobody", "A"), ("all", "TXT"), ("x.all", "A"), ("nobody", "AAAA")] {
        let answer = knot.ask(&format!("{name}.example.com."), rtype);
        let rcode = if name == "x.all" { Rcode::NXDOMAIN } else { Rcode::NOERROR };
        assert_eq!((answer.rcode, answer.is_authoritative), (rcode, true), "{name} {rtype}");
        assert_eq!((answer.answers, answer.authority), (vec![], vec![soa.to_owned()]), "{name} {rtype}");
    }

    // Wildcards.
    assert_eq!(knot.ask("a.b.wild.example.com.", "A").answers, all("a.b.wild.example.com."));
    assert_eq!(knot.ask("*.wild.example.com.", "A").answers, all("*.wild.example.com."));
    assert_eq!(knot.ask("X.wild.example.com.", "A").answers, all("X.wild.example.com."));
    assert_eq!(knot.ask("x.plain-wild.example.com.", "A").values(), ["192.0.2.97"]);

    // ANY gives one RRset of the name.
    let any = knot.ask("all.example.com.", "ANY").answers;
    assert!(
        any == all("all.example.com.") || any.iter().all(|line| line.contains(" AAAA 2001:db8::")),
        "{any:?}"
    );

    // Delegations.
    for name in ["under.sub.example.com.", "x.under.sub.example.com.", "sub.example.com."] {
        let answer = knot.ask(name, "A");
        assert_eq!(
            (answer.answers.len(), answer.authority.len(), answer.is_authoritative),
            (0, 2, false),
            "{name}"
        );
        // Addresses of name servers in the zone: one of them is steered.
        let additional = &answer.additional;
        assert!(additional.contains(&"ns.sub.example.com. 300 A 192.0.2.98".to_owned()), "{additional:?}");
        assert!(additional.contains(&"all.example.com. 60 A 192.0.2.21".to_owned()), "{additional:?}");
    }
    let mail = knot.ask("mail.example.com.", "MX");
    assert_eq!(mail.answers.len(), 2);
    let mut additional =
        [all("all.example.com."), vec!["plain.example.com. 300 A 192.0.2.99".into()]].concat();
    additional.extend(["1", "2"].map(|n| format!("all.example.com. 60 AAAA 2001:db8::{n}")));
    let mut found = mail.additional.clone();
    found.sort();
    additional.sort();
    assert_eq!(found, additional);
    assert_eq!(knot.ask("mx.example.com.", "MX").values(), ["10 plain.example.com.", "20 all.example.com."]);

    assert_eq!(agent.synchronize().panics, 0);
    assert_eq!(agent.synchronize().undecided, 1, "the one of the beginning");
}

#[test]
fn aliases_are_followed() {
    let zone = zone();
    let knot = Knot::start(&[&zone], None);
    let mut agent = knot.agent();
    agent.put(&zone);
    let all = [20, 21, 22].map(|n| format!("all.example.com. 60 A 192.0.2.{n}"));

    let answers = |name: &str, rtype: &str| {
        let answer = knot.ask(name, rtype);
        assert_eq!((answer.rcode, answer.is_authoritative), (Rcode::NOERROR, true), "{name} {rtype}");
        answer.answers
    };
    let to = |from: &str, target: &str| format!("{from}.example.com. 60 CNAME {target}.");
    assert_eq!(
        answers("to-plain.example.com.", "A"),
        [to("to-plain", "plain.example.com"), "plain.example.com. 300 A 192.0.2.99".into()]
    );
    let chain = [vec![to("to-steered", "all.example.com")], all.to_vec()].concat();
    assert_eq!(answers("to-steered.example.com.", "A"), chain);
    let longer = [vec![to("to-alias", "to-steered.example.com")], chain.clone()].concat();
    assert_eq!(answers("to-alias.example.com.", "A"), longer);
    assert_eq!(answers("to-away.example.com.", "A"), [to("to-away", "elsewhere.example.net")]);
    assert_eq!(answers("to-alias.example.com.", "CNAME"), [to("to-alias", "to-steered.example.com")]);
    assert_eq!(answers("To-PLAIN.example.com.", "A")[0], "To-PLAIN.example.com. 60 CNAME plain.example.com.");

    let aliased = answers("aliased.example.com.", "A");
    assert_eq!(aliased[0], "aliased.example.com. 300 CNAME weighted.example.com.");
    assert!(aliased[1].starts_with("weighted.example.com. 60 A 192.0.2.1"), "{aliased:?}");
    assert_eq!(answers("aliased-away.example.com.", "A").len(), 1);

    // A wildcard's alias: knotd can't go on from it, and what is steered at its target is put.
    let wild = [vec![to("x.wild-alias", "all.example.com")], all.to_vec()].concat();
    assert_eq!(answers("x.wild-alias.example.com.", "A"), wild);
    assert_eq!(answers("x.wild-plain.example.com.", "A"), [to("x.wild-plain", "plain.example.com")]);

    // No such type at the end of the chain.
    let none = knot.ask("to-steered.example.com.", "TXT");
    assert_eq!((none.rcode, none.answers.len(), none.authority.len()), (Rcode::NOERROR, 1, 1));
}

#[test]
fn what_is_too_long_is_truncated_and_whole_over_tcp() {
    let zone = zone();
    let knot = Knot::start(&[&zone], None);
    knot.agent().put(&zone);
    let udp = knot.ask("many.example.com.", "A");
    assert!(udp.is_truncated && udp.bytes <= 512, "{udp:?}");
    let tcp = Question::new("many.example.com.", "A").tcp().ask(knot.address);
    assert_eq!((tcp.is_truncated, tcp.answers.len()), (false, 60));
    let edns = Question::new("many.example.com.", "A").edns(1232).ask(knot.address);
    assert_eq!((edns.is_truncated, edns.answers.len()), (false, 60));
    let edns = Question::new("many.example.com.", "A").edns(600).ask(knot.address);
    assert!(edns.is_truncated && edns.bytes <= 600, "{edns:?}");
}

#[test]
fn what_was_found_once_is_looked_for_again_when_the_zone_changes() {
    let zone = zone();
    let knot = Knot::start(&[&zone], None);
    let mut agent = knot.agent();
    agent.put(&zone);
    let address = "all.example.com. 60 A 192.0.2.20";
    for name in ["all.example.com.", "x.wild.example.com.", "to-steered.example.com."] {
        let first = knot.ask(name, "A");
        for _ in 0..3 {
            assert_eq!(knot.ask(name, "A"), first, "{name}");
        }
    }
    assert_eq!(knot.ask("ALL.example.com.", "A").answers[0], address.replace("all", "ALL"));
    let many = knot.ask("many.example.com.", "A");
    assert!(many.is_truncated);
    for _ in 0..3 {
        let tcp = Question::new("many.example.com.", "A").tcp().ask(knot.address);
        assert_eq!((tcp.answers.len(), tcp.is_truncated), (60, false));
        let again = knot.ask("many.example.com.", "A");
        assert!(again.is_truncated && again.bytes <= 512 && again.is_authoritative, "{again:?}");
    }

    // The records change and the steering doesn't: the module isn't told of it. A delegation takes the names away, and a name of its own
    // takes one away from its wildcard.
    let mut next = zone.clone().serial(2);
    next.records.extend(["wild NS ns.sub".into(), "all.wild NS ns.sub".into()]);
    knot.reload_zone(&next);
    let referral = knot.ask("x.wild.example.com.", "A");
    assert_eq!((referral.answers.len(), referral.authority.len(), referral.is_authoritative), (0, 1, false));
    assert_eq!(knot.ask("all.example.com.", "A").answers[0], address);
    let mut own = zone.clone().serial(3);
    own.records.push("x.wild TXT \"its own\"".into());
    knot.reload_zone(&own);
    let own = knot.ask("x.wild.example.com.", "A");
    assert_eq!((own.rcode, own.answers.len(), own.authority.len()), (Rcode::NOERROR, 0, 1));
    assert_eq!(knot.ask("y.wild.example.com.", "A").answers.len(), 3);
    assert_eq!(agent.synchronize().panics, 0);
}
