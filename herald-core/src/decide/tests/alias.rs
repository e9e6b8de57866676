//! ALIAS records: what is refused, what they resolve to, and what of that is kept.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::alias::watch::{ADDRESSES_MAX, Found, Resolved, Sight, VANTAGES, Watch};
use crate::alias::{ALIAS, circle};
use crate::command::{EditOp, RrsetEdit, ZoneEdit};
use crate::content::Difference;
use crate::limits::Limit;
use crate::monitor::ProbeRules;
use crate::rdata::parse_rdata;
use crate::{PopId, Rdatas, RrKey, Rrset};

const A: Rtype = Rtype::A;
const AAAA: Rtype = Rtype::AAAA;

fn key(owner: &str, rtype: Rtype) -> RrKey {
    RrKey::new(name(owner), rtype)
}

fn rrset(ttl: u32, addresses: &[&str]) -> Rrset {
    let octets = |text: &&str| match text.parse().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    Rrset { ttl, rdatas: addresses.iter().map(octets).collect() }
}

fn found(ttl: u32, addresses: &[&str]) -> Found {
    Found::Addresses(rrset(ttl, addresses))
}

fn nothing() -> Found {
    Found::Nothing { cause: "NXDOMAIN".into() }
}

fn failed() -> Found {
    Found::Failed { cause: "no answer".into() }
}

fn edit(owner: &str, rtype: Rtype, op: EditOp) -> Action {
    let edits = vec![RrsetEdit { key: key(owner, rtype), if_match: None, op }];
    Action::EditZones { zones: vec![ZoneEdit { zone: by_name("example.com"), if_match: None, edits }] }
}

fn put(owner: &str, ttl: u32, target: &str) -> Action {
    let rdatas = Rdatas::single(&parse_rdata(ALIAS, target).unwrap());
    edit(owner, ALIAS, EditOp::Put { ttl, rdatas })
}

/// A platform with PoPs that resolve.
struct Platform {
    world: World,
    tenant: Principal,
    watch: Watch,
    seen: State,
    now_ms: u64,
}

impl Platform {
    fn new(pops: u128) -> Platform {
        let mut world = World::new();
        let tenant = world.tenant("t");
        let allowed = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        world.operate(Action::SetProbeRules(ProbeRules { allowed, refused: Vec::new() }));
        let mut watch = Watch::default();
        watch.set_pops(0, (1..=pops).map(|pop| (PopId(pop), format!("pop{pop}"))));
        (1..=pops).for_each(|pop| watch.pop_up(PopId(pop), true));
        Platform { world, tenant, watch, seen: State::default(), now_ms: 0 }
    }

    fn act(&mut self, action: Action) {
        self.world.run(self.tenant, action).unwrap();
    }

    /// Takes the newest state in; gives what is due.
    fn due(&mut self) -> Vec<Resolved> {
        let state = self.world.state.clone();
        self.watch.follow(&self.seen, &state);
        self.watch.choose(self.now_ms);
        self.seen = state.clone();
        self.watch.due(&state)
    }

    /// The same, and puts it on the log. Gives whether there was anything.
    fn settle(&mut self) -> bool {
        let zones = self.due();
        let is_some = !zones.is_empty();
        if is_some {
            let decision = self.world.run(Principal::System, Action::SetResolved { zones }).unwrap();
            assert!(!decision.changes.is_empty(), "what is due is news");
            assert_eq!(self.due(), [], "and is due once");
        }
        is_some
    }

    fn chosen(&self, target: &str) -> Vec<PopId> {
        self.watch.choices().get(&name(target)).map(|chosen| chosen.to_vec()).unwrap_or_default()
    }

    /// The n-th of the chosen PoPs says something, and it is taken in.
    fn say(&mut self, place: usize, target: &str, a: Found, aaaa: Found) {
        let pop = self.chosen(target)[place];
        self.watch.said(pop, 1, &name(target), Sight { a, aaaa, since_ms: self.now_ms });
        self.settle();
    }

    /// What is served at an owner.
    fn served(&self, zone: ZoneId, owner: &str) -> String {
        let zone = self.world.zone(zone);
        let one = |rtype| {
            let rrset = zone.published().get(&key(owner, rtype)).cloned()?;
            let texts = rrset.rdatas.iter().map(|rdata| crate::rdata::format_rdata(rtype, rdata));
            Some(format!("{} {}", rrset.ttl, texts.collect::<Vec<_>>().join(" ")))
        };
        [one(A), one(AAAA)].into_iter().flatten().collect::<Vec<_>>().join(" | ")
    }
}

#[test]
fn what_an_alias_may_be() {
    let refused = |records: &str| {
        let text = format!("$TTL 300\n@ NS ns1.herald.example.\n@ NS ns2.herald.example.\n{records}\n");
        let found = crate::check::CheckedContent::new(name("example.com"), content_of("example.com", &text));
        found.err().map_or_else(Vec::new, |errors| errors.iter().map(|error| error.code).collect())
    };
    for (records, codes) in [
        ("@ ALIAS lb.example.net.\n@ MX 10 mail.example.net.\n@ TXT x", vec![]),
        ("www ANAME www.example.net.", vec![]),
        ("*.w ALIAS a.example.net.\nw TXT x", vec![]),
        ("a ALIAS b\nb A 192.0.2.1", vec![]),
        ("a ALIAS b\na A 192.0.2.1", vec!["alias_and_address"]),
        ("a ALIAS b\na AAAA 2001:db8::1", vec!["alias_and_address"]),
        ("a ALIAS b\na CNAME c", vec!["cname_and_other"]),
        ("a ALIAS b\na ALIAS c", vec!["more_than_one"]),
        ("a ALIAS .", vec!["alias_target"]),
        ("a ALIAS *.example.net.", vec!["alias_target"]),
        ("a ALIAS a", vec!["alias_circle"]),
        ("a ALIAS b\nb ALIAS c\nc ALIAS a", vec!["alias_circle", "alias_circle", "alias_circle"]),
        ("a ALIAS b\nb ALIAS b", vec!["alias_circle"]),
    ] {
        assert_eq!(refused(records), codes, "{records}");
    }
    // An edit is judged by where it leads, and there is a limit.
    let mut world = World::new();
    let tenant = world.tenant("t");
    world.import(tenant, "example.com", "a ALIAS b\nc A 192.0.2.1");
    assert!(world.run(tenant, put("b.example.com", 60, "a.example.com")).is_err());
    assert!(world.run(tenant, put("c.example.com", 60, "a.example.com")).is_err());
    let limits = vec![(Limit::AliasesPerZone, Some(1))];
    let tenant_id = tenant_of(tenant);
    let action =
        Action::UpdateTenant { tenant: tenant_id, name: None, enabled: None, limits, source_prefixes: None };
    world.operate(action);
    let over = world.run(tenant, put("d.example.com", 60, "e.example.net")).unwrap_err();
    assert!(over.detail.contains("aliases_per_zone"), "{}", over.detail);
    world.run(tenant, put("a.example.com", 60, "e.example.net")).unwrap();
}

#[test]
fn the_best_placed_answer_is_served_and_the_last_good_one_kept() {
    let mut platform = Platform::new(5);
    let (tenant, t) = (platform.tenant, "lb.example.net");
    let zone =
        platform.world.import(tenant, "example.com", "@ ALIAS lb.example.net.\nwww 20 ALIAS lb.example.net.");
    assert!(!platform.settle());
    assert_eq!(platform.chosen(t).len(), VANTAGES);
    let (before, revision) = (platform.world.zone(zone).clone(), platform.world.zone(zone).revision);
    let mut say = |place, a, aaaa| {
        platform.say(place, t, a, aaaa);
        (platform.served(zone, "example.com"), platform.served(zone, "www.example.com"))
    };
    let both = |text: &str, www: &str| (text.to_owned(), www.to_owned());
    assert_eq!(say(1, found(60, &["192.0.2.2"]), failed()), both("60 192.0.2.2", "20 192.0.2.2"));
    assert_eq!(say(2, found(60, &["192.0.2.3"]), nothing()), both("60 192.0.2.2", "20 192.0.2.2"));
    let first = say(0, found(10, &["192.0.2.1", "192.0.2.9"]), found(900, &["2001:db8::1"]));
    assert_eq!(
        first,
        both("10 192.0.2.1 192.0.2.9 | 300 2001:db8::1", "10 192.0.2.1 192.0.2.9 | 20 2001:db8::1")
    );
    // One failure is made up for by others; that of all changes nothing; that there is nothing has to be said by most.
    assert_eq!(
        say(0, failed(), failed()),
        both("60 192.0.2.2 | 300 2001:db8::1", "20 192.0.2.2 | 20 2001:db8::1")
    );
    assert_eq!(say(1, nothing(), nothing()), both("60 192.0.2.3", "20 192.0.2.3"));
    assert_eq!(say(2, failed(), failed()), both("60 192.0.2.3", "20 192.0.2.3"));
    assert_eq!(say(2, nothing(), nothing()), both("", ""));
    // An answer with one address that isn't allowed is refused as a whole.
    assert_eq!(say(0, found(60, &["10.0.0.1", "192.0.2.7"]), failed()), both("", ""));
    assert_eq!(say(2, found(60, &["192.0.2.3"]), failed()), both("60 192.0.2.3", "20 192.0.2.3"));
    // What can't be is passed over.
    assert_eq!(say(0, found(60, &["2001:db8::1"]), failed()), both("60 192.0.2.3", "20 192.0.2.3"));
    let many = Found::Addresses(Rrset {
        ttl: 1,
        rdatas: (0..=ADDRESSES_MAX as u8).map(|n| [192, 0, 2, n]).collect(),
    });
    assert_eq!(say(0, many, failed()), both("60 192.0.2.3", "20 192.0.2.3"));

    let after = platform.world.zone(zone);
    assert_eq!((after.revision, &after.content), (revision, &before.content), "the tenant changed nothing");
    assert_eq!(after.changed_at_ms, before.changed_at_ms);
    assert!(after.generation > before.generation && after.serial > before.serial);
}

#[test]
fn what_is_served_is_judged_again_as_rules_targets_and_pops_change() {
    let mut platform = Platform::new(2);
    let (tenant, t) = (platform.tenant, "lb.example.net");
    let zone = platform.world.import(tenant, "example.com", "@ ALIAS lb.example.net.");
    platform.settle();
    platform.say(0, t, found(60, &["192.0.2.1"]), nothing());
    // The rules are others: what may not be served any more goes, and comes back.
    let rules = platform.world.state.monitors().rules().clone();
    platform.world.operate(Action::SetProbeRules(ProbeRules::default()));
    assert!(platform.settle());
    assert_eq!(platform.served(zone, "example.com"), "");
    platform.world.operate(Action::SetProbeRules(rules));
    assert!(platform.settle());
    assert_eq!(platform.served(zone, "example.com"), "60 192.0.2.1");
    // The TTL is the record's at most, at once; a new target's answer takes the place of the old one's.
    platform.act(put("example.com", 30, "lb.example.net"));
    assert_eq!(platform.served(zone, "example.com"), "30 192.0.2.1");
    platform.act(put("example.com", 300, "other.example.net"));
    platform.settle();
    assert_eq!(platform.served(zone, "example.com"), "30 192.0.2.1");
    assert!(platform.chosen(t).is_empty(), "nobody resolves it any more");
    platform.say(1, "other.example.net", found(60, &["192.0.2.2"]), failed());
    assert_eq!(platform.served(zone, "example.com"), "60 192.0.2.2");
    // A session of before says nothing; a PoP that is away is heard of for a while, and then others are.
    let pop = platform.chosen("other.example.net")[1];
    platform.watch.said(
        pop,
        7,
        &name("other.example.net"),
        Sight { a: found(60, &["192.0.2.3"]), aaaa: failed(), since_ms: 0 },
    );
    platform.watch.said(
        pop,
        6,
        &name("other.example.net"),
        Sight { a: found(60, &["192.0.2.4"]), aaaa: failed(), since_ms: 0 },
    );
    platform.settle();
    assert_eq!(platform.served(zone, "example.com"), "60 192.0.2.3");
    platform.watch.pop_down(platform.now_ms, pop);
    platform.say(0, "other.example.net", failed(), failed());
    assert_eq!(platform.served(zone, "example.com"), "60 192.0.2.3");
    platform.now_ms = platform.watch.next_at_ms().unwrap();
    platform.settle();
    assert_eq!(platform.chosen("other.example.net").len(), 1);
    assert_eq!(platform.served(zone, "example.com"), "60 192.0.2.3", "and the last good answer stays");
    // Without the record nothing is left.
    platform.act(edit("example.com", ALIAS, EditOp::Delete));
    assert_eq!(platform.served(zone, "example.com"), "");
    platform.settle();
    assert_eq!(platform.watch.counts(), (0, 0));
}

#[test]
fn circles_over_zones_are_found_and_lead_to_nothing() {
    let mut platform = Platform::new(1);
    let tenant = platform.tenant;
    let one = platform.world.import(
        tenant,
        "example.com",
        "@ ALIAS a.example.net.\nb CNAME c\nc ALIAS x.example.org.",
    );
    let two =
        platform.world.import(tenant, "example.net", "a ALIAS lb.example.info.\nw ALIAS y.w\n*.w ALIAS z.w");
    platform.settle();
    platform.say(0, "a.example.net", found(60, &["192.0.2.1"]), nothing());
    platform.say(0, "lb.example.info", found(60, &["192.0.2.1"]), nothing());
    assert_eq!(platform.served(one, "example.com"), "60 192.0.2.1");
    assert_eq!(platform.served(two, "a.example.net"), "60 192.0.2.1");
    let state = &platform.world.state;
    assert_eq!(circle(state, one, &name("example.com")), None);
    assert!(circle(state, two, &name("w.example.net")).is_some(), "by the wildcard");
    // Each has the other's last answer, and would for ever.
    let rdatas = Rdatas::single(&parse_rdata(ALIAS, "example.com").unwrap());
    let edits = vec![RrsetEdit {
        key: key("a.example.net", ALIAS),
        if_match: None,
        op: EditOp::Put { ttl: 60, rdatas },
    }];
    let zones = vec![ZoneEdit { zone: by_name("example.net"), if_match: None, edits }];
    platform.act(Action::EditZones { zones });
    assert!(platform.settle());
    assert_eq!(platform.served(one, "example.com") + &platform.served(two, "a.example.net"), "");
    let way = circle(&platform.world.state, one, &name("example.com")).unwrap();
    assert_eq!(way, [name("example.com"), name("a.example.net"), name("example.com")]);
}

#[test]
fn only_the_system_says_what_is_resolved_and_only_of_aliases() {
    let mut world = World::new();
    let tenant = world.tenant("t");
    let zone = world.import(tenant, "example.com", "a ALIAS b.example.net.\nc A 192.0.2.1");
    let resolved = |owner: &str, rtype| {
        let difference =
            Difference { puts: vec![(key(owner, rtype), rrset(60, &["192.0.2.1"]))], deletes: Vec::new() };
        Action::SetResolved { zones: vec![Resolved { zone, difference }] }
    };
    assert!(world.run(tenant, resolved("a.example.com", A)).is_err());
    assert!(world.run(world.operator, resolved("a.example.com", A)).is_err());
    for action in
        [resolved("c.example.com", A), resolved("a.example.com", Rtype::TXT), resolved("example.com", A)]
    {
        assert!(world.run(Principal::System, action).unwrap().changes.is_empty());
    }
    assert_eq!(world.run(Principal::System, resolved("a.example.com", A)).unwrap().changes.len(), 1);
    assert!(world.run(Principal::System, resolved("a.example.com", A)).unwrap().changes.is_empty());
    // A zone that isn't served any more forgets it, as nobody looks after it.
    let displaced = Change::ZoneDisplaced { zone, challenge: "x".into() };
    let at = At { generation: Generation { epoch: 1, counter: world.state.revision() + 1 }, time_ms: 1 };
    world.state.apply(at, &displaced);
    assert_eq!(world.zone(zone).resolved.rrset_count(), 0);
    assert!(world.state.aliases().is_empty());
}

/// What may happen to a zone.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, u32),
    Plain(u8),
    Delete(u8),
    Replace(Vec<(u8, u8)>),
    Say(u8, u8, Option<u8>),
    Time,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, 0..3u8, 1..400u32).prop_map(|(owner, target, ttl)| Step::Put(owner, target, ttl)),
        (0..4u8).prop_map(Step::Plain),
        (0..4u8).prop_map(Step::Delete),
        prop::collection::vec((0..4u8, 0..3u8), 0..4).prop_map(Step::Replace),
        (0..3u8, 0..3u8, prop::option::of(0..250u8))
            .prop_map(|(place, target, last)| Step::Say(place, target, last)),
        Just(Step::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_kept_fits_together_however_it_came_about(steps in prop::collection::vec(step(), 1..40)) {
        let owner = |n: u8| format!("h{n}.example.com");
        let target = |n: u8| format!("t{n}.example.net");
        let mut platform = Platform::new(3);
        let tenant = platform.tenant;
        let zone = platform.world.import(tenant, "example.com", "");
        for step in steps {
            let action = match step {
                Step::Put(at, to, ttl) => put(&owner(at), ttl, &target(to)),
                Step::Plain(at) => edit(&owner(at), A, EditOp::Put { ttl: 5, rdatas: rrset(5, &["192.0.2.250"]).rdatas }),
                Step::Delete(at) => edit(&owner(at), ALIAS, EditOp::Delete),
                Step::Replace(aliases) => {
                    let mut text = "$TTL 300\n@ NS ns1.herald.example.\n@ NS ns2.herald.example.\n".to_owned();
                    let aliases: std::collections::BTreeMap<u8, u8> = aliases.into_iter().collect();
                    for (at, to) in aliases {
                        text += &format!("h{at} ALIAS {}.\n", target(to));
                    }
                    let content = prepared("example.com", content_of("example.com", &text));
                    let base = platform.world.zone(zone).revision;
                    Action::ReplaceZone { zone: ZoneRef::Id(zone), base, content }
                }
                Step::Say(place, to, last) => {
                    let answer = last.map_or_else(nothing, |last| found(u32::from(last) + 1, &[&format!("192.0.2.{last}")]));
                    if usize::from(place) < platform.chosen(&target(to)).len() {
                        platform.say(place.into(), &target(to), answer, failed());
                    }
                    continue;
                }
                Step::Time => {
                    platform.now_ms += 1_000;
                    platform.settle();
                    continue;
                }
            };
            // Some are refused, as an ALIAS and addresses can't be at one name.
            let _ = platform.world.run_confirmed(tenant, action);
            let state = &platform.world.state;
            let of = state.zone(zone).unwrap();
            for (key, rrset) in of.resolved.iter() {
                let alias = of.content.aliases().get(&key.owner);
                prop_assert!(alias.is_some_and(|alias| rrset.ttl <= alias.ttl), "{}", key);
            }
            let published = of.published();
            let soa = of.soa_rrset().digest(&of.soa_key());
            prop_assert_eq!(of.published_digest(), published.digest().wrapping_add(soa));
            prop_assert_eq!(of.published_rrset_count(), published.rrset_count());
            prop_assert!(published.aliases().is_empty());
            let expected: Vec<(Name, ZoneId, Name, u32)> = {
                let mut all: Vec<_> = of.content.aliases().iter()
                    .map(|(owner, alias)| (alias.target.clone(), zone, owner.clone(), alias.ttl)).collect();
                all.sort();
                all
            };
            let index: Vec<_> = state.aliases().iter()
                .map(|(place, ttl)| (place.target.clone(), place.zone, place.owner.clone(), *ttl)).collect();
            prop_assert_eq!(index, expected);
        }
        // A checkpoint has all of it.
        let mut again = State::default();
        let at = At { generation: Generation::default(), time_ms: 0 };
        let changes: Vec<Change> = platform.world.state.to_changes().collect();
        changes.iter().for_each(|change| again.apply(at, change));
        prop_assert_eq!(again.to_changes().collect::<Vec<_>>(), changes);
        prop_assert_eq!(again.aliases(), platform.world.state.aliases());
        let digest = |state: &State| state.zone(zone).unwrap().published_digest();
        prop_assert_eq!(digest(&again), digest(&platform.world.state));
        // The past of the zone, as its history folds it, is the tenant's content alone.
        let mut fold = crate::history::ZoneFold::new(zone);
        for (at, _, changes) in &platform.world.log {
            changes.iter().for_each(|change| fold.apply(*at, change));
        }
        let folded = fold.zone().unwrap();
        prop_assert_eq!(&folded.content, &platform.world.zone(zone).content);
        prop_assert_eq!(folded.resolved.rrset_count(), 0);
    }
}
