//! What is decided is what a plain reading of the rules says.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use herald_core::Name;
use herald_core::firewall::{QueryType, Rate, Rule, When};
use herald_core::steering::Prefix;
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn question<'a>(source: &str, name: &'a Name) -> Question<'a> {
    Question {
        source: source.parse().unwrap(),
        name: name.as_wire(),
        rtype: Rtype::A,
        is_udp: true,
        zone: None,
    }
}

fn rule(name: &str, order: u32, action: Action, when: When) -> Rule {
    Rule { name: name.into(), order, when, action, note: None }
}

// ------------------------------------------------------------------------------------ rules and the model

const SOURCES: [&str; 8] = [
    "192.0.2.1",
    "192.0.2.200",
    "198.51.100.7",
    "203.0.113.9",
    "255.255.255.255",
    "2001:db8::1",
    "2001:db8:1::1",
    "fe80::1",
];
const PREFIXES: [&str; 10] = [
    "0.0.0.0/0",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "192.0.2.1/32",
    "198.51.100.0/24",
    "255.255.255.255/32",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8::1/128",
];
const NAMES: [&str; 8] =
    [".", "*.", "com.", "*.com.", "example.com.", "*.example.com.", "www.example.com.", "*.www.example.com."];
const ASKED: [&str; 7] =
    [".", "com.", "example.com.", "www.example.com.", "a.www.example.com.", "a.b.example.com.", "org."];
const TYPES: [Rtype; 3] = [Rtype::A, Rtype::TXT, Rtype::ANY];

fn some<T: Clone + std::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![2 => Just(Vec::new()), 3 => proptest::collection::vec(proptest::sample::select(all), 1..4)]
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let prefixes: Vec<Prefix> = PREFIXES.iter().map(|text| text.parse().unwrap()).collect();
    let names: Vec<Name> = NAMES.iter().map(|text| name(text)).collect();
    let when = (some(prefixes), some(names), some(TYPES.map(QueryType).to_vec()), any::<bool>()).prop_map(
        |(sources, names, types, is_limited)| When {
            sources,
            names,
            types,
            over: is_limited.then_some(Rate { per_s: 1, burst: 1, v4_length: 32, v6_length: 128 }),
            ..When::default()
        },
    );
    let rule = (0u32..6, when, proptest::sample::select(Action::ALL.to_vec()));
    proptest::collection::vec(rule, 0..12).prop_map(|rules| {
        let numbered = rules.into_iter().enumerate();
        numbered
            .map(|(n, (order, when, action))| super::tests::rule(&format!("r{n:02}"), order, action, when))
            .collect()
    })
}

fn is_match(pattern: &Name, asked: &Name) -> bool {
    match pattern.parent() {
        Some(base) if pattern.is_wildcard() => asked.is_below(&base),
        _ => pattern == asked,
    }
}

/// All rules in order, one by one: the one that decides, and those that were for the query.
fn plainly<'a>(
    rules: &'a [Rule],
    question: &Question<'_>,
    is_fast: bool,
) -> (Option<&'a Rule>, BTreeSet<&'a str>) {
    let mut sorted: Vec<&Rule> = rules.iter().collect();
    sorted.sort_by_key(|rule| (rule.order, &rule.name));
    let asked = Name::from_wire(question.name).unwrap();
    let mut hits = BTreeSet::new();
    for rule in sorted {
        let When { sources, names, types, over, .. } = &rule.when;
        let is_for = (sources.is_empty() || sources.iter().any(|prefix| prefix.contains(question.source)))
            && (names.is_empty() || names.iter().any(|name| is_match(name, &asked)))
            && (types.is_empty() || types.contains(&QueryType(question.rtype)))
            && (over.is_none() || is_fast);
        if is_for {
            hits.insert(rule.name.as_str());
            if rule.action != Action::Count {
                return (Some(rule), hits);
            }
        }
    }
    (None, hits)
}

/// Rates are all kept or all exceeded, and hits are counted.
struct Counted {
    is_fast: bool,
    /// Places of sources whose rates were asked for.
    asked: RefCell<Vec<IpAddr>>,
}

impl Circumstances for Counted {
    fn is_over(&self, _: &Over, source: IpAddr) -> bool {
        self.asked.borrow_mut().push(source);
        self.is_fast
    }

    fn hit(&self, hits: &AtomicU64) {
        hits.fetch_add(1, Ordering::Relaxed);
    }
}

proptest! {
    #[test]
    fn the_first_rule_decides(rules in rules(), is_fast: bool, is_udp: bool) {
        let geo = Geo::empty();
        for (source, asked, rtype) in SOURCES.iter().flat_map(|source| {
            ASKED.iter().flat_map(move |asked| TYPES.iter().map(move |rtype| (source, asked, rtype)))
        }) {
            let file = RulesFile { fleet: rules.clone(), tenants: Vec::new() };
            let compiled = Rules::read(&file.write()).unwrap();
            let asked = name(asked);
            let question =
                Question { source: source.parse().unwrap(), name: asked.as_wire(), rtype: *rtype, is_udp, zone: None };
            let (expected, hits) = plainly(&rules, &question, is_fast);
            let circumstances = Counted { is_fast, asked: RefCell::default() };
            let decision = decide(Some(&compiled), None, &question, &geo, &circumstances);
            let expected = expected.map(|rule| {
                let verdict = match rule.action {
                    Action::Truncate if !is_udp => Verdict::Pass,
                    action => Verdict::of(action),
                };
                Decision { verdict, by: Decider::Rule { owner: Owner::Fleet, name: &rule.name } }
            });
            prop_assert_eq!(decision, expected);
            let counted: BTreeSet<&str> =
                compiled.counts().filter(|rule| rule.hits == 1).map(|rule| rule.name).collect();
            prop_assert_eq!(counted, hits);
        }
    }

    #[test]
    fn networks_become_ranges(prefixes in proptest::collection::vec((any::<u8>(), 0u8..=32), 0..20)) {
        let prefixes: Vec<Prefix> = prefixes
            .iter()
            .map(|(octet, length)| Prefix::new(IpAddr::from([10, *octet, octet ^ 0x55, *octet]), *length).unwrap())
            .collect();
        let networks = sources::Networks::new(prefixes.clone());
        let ranges = networks.ranges(|place| place as u32 + 1);
        for octet in 0..=255u8 {
            let address = IpAddr::from([10, octet, octet ^ 0x55, octet]);
            let longest = prefixes.iter().filter(|prefix| prefix.contains(address)).max_by_key(|prefix| prefix.length());
            let found = (ranges.get(address) as usize).checked_sub(1).map(|place| networks.prefixes[place]);
            prop_assert_eq!(found, longest.copied());
        }
    }

    #[test]
    fn whatever_octets_are_a_file_or_an_error(octets in proptest::collection::vec(any::<u8>(), 0..200), flip in any::<proptest::sample::Index>(), with: u8) {
        let _ = Rules::read(&octets);
        let _ = Policies::read(&octets);
        let rpz = read_rpz(RPZ.as_bytes(), &name("rpz.example.")).unwrap();
        let mut file = PoliciesFile { zones: vec![("a".into(), rpz.body)] }.write();
        let place = flip.index(file.len());
        file[place] = with;
        let _ = Policies::read(&file);
        file.truncate(place);
        prop_assert!(Policies::read(&file).is_err());
    }
}

#[test]
fn a_tenants_rules_are_for_its_own_zones() {
    let when = When { names: vec![name("*.example.com")], ..When::default() };
    let tenants = vec![TenantRules {
        tenant: TenantId(1),
        zones: vec![name("example.com")],
        rules: vec![rule("no", 1, Action::Refuse, when)],
    }];
    let rules = Rules::compile(&RulesFile { fleet: Vec::new(), tenants }).unwrap();
    let (asked, own, other) = (name("a.b.example.com"), name("example.com"), name("b.example.com"));
    let decided = |zone: Option<&Name>| {
        let question = Question { zone: zone.map(Name::as_wire), ..question("192.0.2.1", &asked) };
        decide(Some(&rules), None, &question, &Geo::empty(), &Trial { is_fast: false })
            .map(|decision| decision.verdict)
    };
    assert_eq!(decided(Some(&own)), Some(Verdict::Refuse));
    // A zone below it, another tenant's, isn't touched.
    assert_eq!((decided(Some(&other)), decided(None)), (None, None));
}

#[test]
fn what_overlaps_too_much_is_refused() {
    let all: Prefix = "0.0.0.0/0".parse().unwrap();
    let one = |n: u32| Prefix::new(IpAddr::from((n << 8).to_be_bytes()), 24).unwrap();
    let mut fleet: Vec<Rule> = (0..900u32)
        .map(|n| {
            let when = When { sources: vec![all], types: vec![QueryType(Rtype::TXT)], ..When::default() };
            rule(&format!("all{n}"), n, Action::Drop, when)
        })
        .collect();
    for n in 0..100 {
        let sources = (0..100).map(|m| one(n * 100 + m)).collect();
        fleet.push(rule(&format!("one{n}"), 1000, Action::Drop, When { sources, ..When::default() }));
    }
    let compiled = Rules::compile(&RulesFile { fleet: fleet.clone(), tenants: Vec::new() });
    assert!(compiled.is_ok(), "networks of one rule share a list");
    for n in 0..10_000 {
        let when = When { sources: vec![one(n)], types: vec![QueryType(Rtype::A)], ..When::default() };
        fleet.push(rule(&format!("each{n}"), 950, Action::Count, when));
    }
    let error = Rules::compile(&RulesFile { fleet, tenants: Vec::new() }).err();
    assert_eq!(error, Some(CompileError::TooManyCandidates));
}

#[test]
fn counts_go_on_when_rules_are_replaced() {
    let when = When { sources: vec!["192.0.2.0/24".parse().unwrap()], ..When::default() };
    let file = RulesFile { fleet: vec![rule("a", 1, Action::Drop, when)], tenants: Vec::new() };
    let old = Rules::compile(&file).unwrap();
    let (buckets, asked) = (Buckets::new(64), name("example.com"));
    let live = Live { buckets: &buckets, now_ns: || 0 };
    let ask = |rules: &Rules| {
        decide(Some(rules), None, &question("192.0.2.1", &asked), &Geo::empty(), &live).unwrap();
    };
    ask(&old);
    let mut new = Rules::compile(&file).unwrap();
    new.count_on(&old);
    // Queries that still see the old ones are counted too.
    ask(&old);
    ask(&new);
    assert_eq!(new.counts().map(|rule| rule.hits).collect::<Vec<_>>(), [3]);
}

// ------------------------------------------------------------------------------------ policy zones

const RPZ: &str = "\
$TTL 60
@ SOA localhost. root.localhost. 7 1h 15m 30d 2h
@ NS localhost.
gone.example.com CNAME .
*.gone.example.com CNAME .
empty.example.com CNAME *.
fine.bad.example.com CNAME rpz-passthru.
old.bad.example.com CNAME old.bad.example.com.
*.bad.example.com CNAME rpz-drop.
tcp.example.com CNAME rpz-tcp-only.
walled.example.com A 192.0.2.80
walled.example.com A 192.0.2.81
walled.example.com AAAA 2001:db8::80
alias.example.com CNAME garden.example.net.
*.each.example.com CNAME *.garden.example.net.
32.9.113.0.203.rpz-client-ip CNAME rpz-passthru.
24.0.113.0.203.rpz-client-ip CNAME .
48.zz.1.db8.2001.rpz-client-ip CNAME rpz-drop.
128.1.zz.2.db8.2001.rpz-client-ip CNAME rpz-drop.
24.0.2.0.192.rpz-ip CNAME .
ns.example.net.rpz-nsdname CNAME .
ns2.example.net.rpz-nsdname CNAME .
24.0.2.0.192.rpz-nsip CNAME .
";

fn policies(zones: &[(&str, &str)]) -> Policies {
    let read = |(called, text): &(&str, &str)| {
        ((*called).to_owned(), read_rpz(text.as_bytes(), &name("rpz.example.")).unwrap().body)
    };
    Policies::read(&PoliciesFile { zones: zones.iter().map(read).collect() }.write()).unwrap()
}

fn decided<'a>(
    policies: &'a Policies,
    source: &str,
    asked: &str,
    is_udp: bool,
) -> Option<(Verdict<'a>, bool)> {
    let asked = name(asked);
    let question = Question { is_udp, ..question(source, &asked) };
    let decision = decide(None, Some(policies), &question, &Geo::empty(), &Trial { is_fast: false })?;
    match decision.by {
        Decider::Policy { by_client, .. } => Some((decision.verdict, by_client)),
        Decider::Rule { .. } => None,
    }
}

#[test]
fn a_policy_zone_does_what_the_draft_says() {
    let rpz = read_rpz(RPZ.as_bytes(), &name("rpz.example.")).unwrap();
    assert_eq!((rpz.names, rpz.clients, rpz.serial), (10, 4, Some(7)));
    let not_applying: Vec<_> = rpz.not_applying.into_iter().collect();
    assert_eq!(not_applying, [("rpz-ip", 1), ("rpz-nsdname", 2), ("rpz-nsip", 1)]);
    let policies = policies(&[("a", RPZ)]);
    let by_name = |asked| decided(&policies, "198.51.100.1", asked, true).map(|(verdict, _)| verdict);
    assert_eq!(by_name("gone.example.com"), Some(Verdict::NxDomain));
    assert_eq!(by_name("x.y.gone.example.com"), Some(Verdict::NxDomain));
    assert_eq!(by_name("empty.example.com"), Some(Verdict::NoData));
    assert_eq!(by_name("x.empty.example.com"), None);
    assert_eq!(by_name("bad.example.com"), None, "a wildcard isn't for its own base");
    assert_eq!(by_name("a.bad.example.com"), Some(Verdict::Drop));
    assert_eq!(by_name("fine.bad.example.com"), Some(Verdict::Pass));
    assert_eq!(by_name("old.bad.example.com"), Some(Verdict::Pass));
    assert_eq!(by_name("tcp.example.com"), Some(Verdict::Truncate));
    let by_tcp = decided(&policies, "198.51.100.1", "tcp.example.com", false);
    assert_eq!(by_tcp, Some((Verdict::Pass, false)));
    let Some(Verdict::Local(walled)) = by_name("walled.example.com") else { panic!() };
    let types: Vec<_> = walled.iter().map(|rrset| (rrset.rtype, rrset.ttl_s, rrset.rdatas.len())).collect();
    assert_eq!(types, [(Rtype::A, 60, 12), (Rtype::AAAA, 60, 18)]);
    let Some(Verdict::Local([alias])) = by_name("alias.example.com") else { panic!() };
    assert!(alias.rtype == Rtype::CNAME && !alias.is_prefixed);
    let Some(Verdict::Local([each])) = by_name("x.each.example.com") else { panic!() };
    assert!(each.is_prefixed && each.rdatas[2..].starts_with(name("garden.example.net").as_wire()));
    // The client comes before the name, the smaller network before the larger.
    let by_client = |source| decided(&policies, source, "gone.example.com", true);
    assert_eq!(by_client("203.0.113.9"), Some((Verdict::Pass, true)));
    assert_eq!(by_client("203.0.113.10"), Some((Verdict::NxDomain, true)));
    assert_eq!(by_client("2001:db8:1::5"), Some((Verdict::Drop, true)));
    assert_eq!(by_client("2001:db8:2::1"), Some((Verdict::Drop, true)));
    assert_eq!(by_client("2001:db8:2::2"), Some((Verdict::NxDomain, false)));
}

#[test]
fn the_first_policy_zone_wins_and_a_rule_comes_before_all() {
    let (one, two) =
        ("a.example.com CNAME rpz-passthru.\n", "a.example.com CNAME .\nb.example.com CNAME .\n");
    let (ab, ba) = (policies(&[("1", one), ("2", two)]), policies(&[("2", two), ("1", one)]));
    let verdict = |policies, asked| decided(policies, "192.0.2.1", asked, true).unwrap().0;
    assert_eq!(verdict(&ab, "a.example.com"), Verdict::Pass);
    assert_eq!(verdict(&ab, "b.example.com"), Verdict::NxDomain);
    assert_eq!(verdict(&ba, "a.example.com"), Verdict::NxDomain);
    let when = When { sources: vec!["192.0.2.0/24".parse().unwrap()], ..When::default() };
    let fleet = vec![rule("ours", 1, Action::Pass, when)];
    let rules = Rules::compile(&RulesFile { fleet, tenants: Vec::new() }).unwrap();
    let asked = name("a.example.com");
    let question = question("192.0.2.1", &asked);
    let by = decide(Some(&rules), Some(&ba), &question, &Geo::empty(), &Trial { is_fast: false }).unwrap().by;
    assert_eq!(by, Decider::Rule { owner: Owner::Fleet, name: "ours" });
}

#[test]
fn rubbish_is_told_with_its_lines() {
    let errors = |text: &str| read_rpz(text.as_bytes(), &name("rpz.example.")).unwrap_err();
    for (line, text) in [
        (2, "a CNAME .\nb CNAME rpz-shrug.\n"),
        (2, "a CNAME .\n33.1.2.0.192.rpz-client-ip CNAME .\n"),
        (1, "24.1.2.0.192.rpz-client-ip CNAME .\n"),
        (1, "24.256.2.0.192.rpz-client-ip CNAME .\n"),
        (1, "24.2.0.192.rpz-client-ip CNAME .\n"),
        (1, "64.zz.1.zz.2001.rpz-client-ip CNAME .\n"),
        (1, "64.xyz.zz.2001.rpz-client-ip CNAME .\n"),
        (1, "rpz-client-ip CNAME .\n"),
        (3, "a CNAME .\n\n24.0.2.0.192.rpz-source CNAME .\n"),
        (1, "a.*.b CNAME .\n"),
        (1, "a CNAME .\na A 192.0.2.1\n"),
        (1, "a NS b.\n"),
        (2, "a CNAME .\n\u{7f}ELF \u{1} \u{2}\n"),
        (1, "a CNAME\n"),
        (1, "a.example.org. CNAME .\n"),
    ] {
        let found = errors(text);
        assert!(found.first.iter().any(|error| error.line == line), "{text}: {found:?}");
    }
}

#[test]
fn a_million_rules_take_the_stated_memory() {
    const RULES: usize = 1_000_000;
    let mut text = String::new();
    for n in 0..RULES {
        use std::fmt::Write;
        let action = if n % 3 == 0 { "A 192.0.2.80" } else { "CNAME ." };
        writeln!(text, "host{n}.example{}.com {action}", n % 1000).unwrap();
    }
    let rpz = read_rpz(text.as_bytes(), &name("rpz.example.")).unwrap();
    assert_eq!(rpz.names, RULES as u64);
    let file = PoliciesFile { zones: vec![("big".into(), rpz.body)] }.write();
    // 0021 says 64 bytes a rule and what its name has; the file is what its names have and 4 bytes a rule.
    let names = RULES * "host123456.example123.com..".len();
    assert!(file.len() < names + RULES * 4, "{}", file.len());
    let policies = Policies::read(&file).unwrap();
    assert!(policies.bytes() < names + RULES * 64, "{}", policies.bytes());
    assert_eq!(policies.len(), (RULES, 0));
    let verdict = |asked: &str| decided(&policies, "192.0.2.1", asked, true).map(|(verdict, _)| verdict);
    for n in (0..RULES).step_by(997) {
        let found = verdict(&format!("host{n}.example{}.com", n % 1000)).unwrap();
        assert_eq!(matches!(found, Verdict::Local(_)), n % 3 == 0, "{n}");
        assert_eq!(verdict(&format!("other{n}.example{}.com", n % 1000)), None);
    }
}
