//! ALIAS records: what is refused, what they resolve to, and what of that is kept.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::alias::watch::{ADDRESSES_MAX, Found, Resolved, Sight, VANTAGES, VANTAGES_PER_REGION, Watch};
use crate::alias::{ALIAS, circle};
use crate::command::{EditOp, RrsetEdit, ZoneEdit};
use crate::content::Difference;
use crate::limits::Limit;
use crate::monitor::ProbeRules;
use crate::rdata::parse_rdata;
use crate::state::AliasTerms;
use crate::steering::{
    Item, POOL, Settings, Used, answered_type, held_name, is_steering_type, item, pool_key, settings_key,
};
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

    /// One whose PoPs are in these regions, if they are in any, and a zone of which ALIAS records are answered by region.
    fn by_region(regions: &[Option<&str>], records: &str) -> (Platform, ZoneId, Vec<PopId>) {
        let mut platform = Platform::new(0);
        let mut pops = Vec::new();
        for (number, region) in (1..).zip(regions) {
            let (name, region) = (format!("pop{number}"), region.map(str::to_owned));
            let create = Action::CreatePop { name, secret_hash: [number; 32], region };
            let Some(Subject::Pop(pop)) = platform.world.operate(create).subject else { panic!("no PoP") };
            platform.watch.pop_up(pop, true);
            pops.push(pop);
        }
        let zone = platform.world.import(platform.tenant, "example.com", records);
        platform.ask_by_region(true);
        (platform, zone, pops)
    }

    fn ask_by_region(&mut self, alias_by_region: bool) {
        let Rrset { ttl, rdatas } = Item::Settings(Settings { ecs: true, alias_by_region }).write().unwrap();
        let edits = vec![RrsetEdit {
            key: settings_key(&name("example.com")),
            if_match: None,
            op: EditOp::Put { ttl, rdatas },
        }];
        let zones = vec![ZoneEdit { zone: by_name("example.com"), if_match: None, edits }];
        self.act(Action::EditZones { zones });
        self.settle();
    }

    /// A PoP says something, if it was asked, and it is taken in.
    fn says(&mut self, pop: PopId, target: &str, a: Found, aaaa: Found) {
        self.watch.said(pop, 1, &name(target), Sight { a, aaaa, since_ms: self.now_ms });
        self.settle();
    }

    /// What is served of type A at an owner, everywhere and by regions.
    fn served_by_region(&self, zone: ZoneId, owner: &str) -> String {
        let text = |rrset: &Option<Rrset>| {
            let Some(rrset) = rrset else { return "nothing".to_owned() };
            let texts = rrset.rdatas.iter().map(|rdata| crate::rdata::format_rdata(A, rdata));
            format!("{} {}", rrset.ttl, texts.collect::<Vec<_>>().join(" "))
        };
        let served = self.world.zone(zone).served(&name(owner), A);
        let of_region = |(region, regional): (&String, &crate::alias::served::Regional)| {
            format!("{region} ({}) {}", regional.pops.join(" "), text(&regional.rrset))
        };
        let parts = std::iter::once(text(&served.everywhere)).chain(served.regions.iter().map(of_region));
        parts.collect::<Vec<_>>().join(" | ")
    }

    fn act(&mut self, action: Action) {
        self.world.run(self.tenant, action).unwrap();
    }

    /// Takes the newest state in; gives what is due.
    fn due(&mut self) -> Vec<Resolved> {
        let state = self.world.state.clone();
        if state.pops().next().is_some() {
            self.watch.set_pops(self.now_ms, state.pops().map(|pop| (pop.id, pop.name.clone())));
        }
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

#[test]
fn regions_serve_what_is_found_there() {
    // Which PoPs are placed best depends on the name.
    for target in ["lb", "a", "b", "c", "d", "e"] {
        regions_serve_what_is_found_of(&format!("{target}.example.net"));
    }
}

fn regions_serve_what_is_found_of(t: &str) {
    let regions = [Some("eu"), Some("eu"), Some("us"), Some("us"), Some("us"), None];
    let (mut platform, zone, pops) =
        Platform::by_region(&regions, &format!("@ 300 ALIAS {t}.\nwww 20 ALIAS {t}."));
    let before = platform.world.zone(zone).clone();
    let chosen = platform.watch.view(&name(t));
    assert_eq!(chosen.fleet, VANTAGES);
    assert_eq!(chosen.regions.keys().collect::<Vec<_>>(), ["eu", "us"]);
    for (region, members) in [("eu", &pops[..2]), ("us", &pops[2..5])] {
        let of_region = &chosen.regions[region];
        assert_eq!(of_region.len(), VANTAGES_PER_REGION);
        assert!(of_region.iter().all(|pop| members.contains(pop)), "{region}");
        let ranked: Vec<&PopId> = chosen.pops.iter().map(|(pop, ..)| pop).collect();
        assert!(of_region.iter().all(|pop| ranked.contains(&pop)), "all of them are asked");
    }
    // What the fleet has is what its best placed PoP finds. The region that it isn't in finds something else.
    let best = chosen.pops[0].0;
    let in_region = |region: &str| chosen.regions[region].clone();
    let home = if pops[..2].contains(&best) {
        Some("eu")
    } else if best == pops[5] {
        None
    } else {
        Some("us")
    };
    let (other, names) = if home == Some("us") { ("eu", "pop1 pop2") } else { ("us", "pop3 pop4 pop5") };
    let [first, second] = in_region(other)[..] else { panic!("two are chosen") };
    platform.says(best, t, found(60, &["192.0.2.1"]), nothing());
    let says = |platform: &mut Platform, pop, a| {
        platform.says(pop, t, a, failed());
        (platform.served_by_region(zone, "example.com"), platform.served_by_region(zone, "www.example.com"))
    };
    let both = |apex: &str, www: &str| {
        (
            apex.replace("OTHER", &format!("{other} ({names})")),
            www.replace("OTHER", &format!("{other} ({names})")),
        )
    };
    let same = both("60 192.0.2.1", "20 192.0.2.1");
    let own = both("60 192.0.2.1 | OTHER 30 192.0.2.2", "20 192.0.2.1 | OTHER 20 192.0.2.2");
    // The best placed PoP of the region counts, and the same addresses are no other answer, however long they may be kept.
    assert_eq!(says(&mut platform, second, found(15, &["192.0.2.1"])), same);
    assert_eq!(says(&mut platform, first, found(30, &["192.0.2.2"])), own);
    assert_eq!(platform.served(zone, "www.example.com"), "", "no plain records beside the policy");
    let published = platform.world.zone(zone).published();
    assert_eq!(published.steering().unwrap().policy_count(), 2);
    // The next PoP's counts where the first doesn't know; and then what was good last, whatever the fleet has by then.
    assert_eq!(says(&mut platform, first, failed()), same);
    assert_eq!(says(&mut platform, first, found(30, &["192.0.2.2"])), own);
    assert_eq!(says(&mut platform, second, failed()), own);
    assert_eq!(says(&mut platform, first, failed()), own);
    let moved = both("60 192.0.2.5 | OTHER 30 192.0.2.2", "20 192.0.2.5 | OTHER 20 192.0.2.2");
    assert_eq!(says(&mut platform, best, found(60, &["192.0.2.5"])), moved);
    // An address that may not be served is passed over, and most of a region have to find nothing for there to be nothing.
    assert_eq!(says(&mut platform, first, found(60, &["10.0.0.1"])), moved);
    assert_eq!(says(&mut platform, first, nothing()), moved);
    let none = both("60 192.0.2.5 | OTHER nothing", "20 192.0.2.5 | OTHER nothing");
    assert_eq!(says(&mut platform, second, nothing()), none);
    // Regions that come to agree are answered by plain records.
    assert_eq!(says(&mut platform, second, found(60, &["192.0.2.5"])), both("60 192.0.2.5", "20 192.0.2.5"));
    assert!(platform.world.zone(zone).published().steering().is_none_or(|tally| tally.rrset_count() == 1));
    assert_eq!(platform.served(zone, "www.example.com"), "20 192.0.2.5");

    let after = platform.world.zone(zone);
    assert_eq!(
        (after.revision, &after.content),
        (before.revision, &before.content),
        "the tenant changed nothing"
    );
}

#[test]
fn what_regions_serve_follows_pops_rules_and_the_tenant() {
    // Which PoPs are placed best depends on the name.
    for target in ["lb", "a", "b", "c", "d", "e"] {
        what_regions_serve_of_it_follows(&format!("{target}.example.net"));
    }
}

fn what_regions_serve_of_it_follows(t: &str) {
    let (mut platform, zone, pops) =
        Platform::by_region(&[None, Some("us"), Some("us")], &format!("@ ALIAS {t}.\na.b ALIAS {t}."));
    let served = |platform: &Platform| {
        let (apex, other) = (
            platform.served_by_region(zone, "example.com"),
            platform.served_by_region(zone, "a.b.example.com"),
        );
        assert_eq!(apex, other);
        apex
    };
    let set_region = |platform: &mut Platform, pop: usize, region: &str| {
        let (pop, region) = (pops[pop], Some(region.to_owned()));
        platform.world.operate(Action::UpdatePop { pop, enabled: None, drained: None, region });
        platform.settle();
    };
    let all = |platform: &mut Platform| {
        for (pop, address) in pops.iter().zip(["192.0.2.1", "192.0.2.2", "192.0.2.2"]) {
            platform.says(*pop, t, found(60, &[address]), failed());
        }
    };
    all(&mut platform);
    // All three are the fleet's: the best placed one's answer is everybody's but where a region has another.
    let is_first_best = platform.watch.view(&name(t)).pops[0].0 == pops[0];
    let own = if is_first_best { "60 192.0.2.1 | us (pop2 pop3) 60 192.0.2.2" } else { "60 192.0.2.2" };
    assert_eq!(served(&platform), own);
    // So that it doesn't depend on that, the first has a region of its own.
    set_region(&mut platform, 0, "eu");
    let differs = |everywhere: &str, eu: &str, us: &str| match is_first_best {
        true => format!("{everywhere} | {us}"),
        false => format!("{everywhere} | {eu}"),
    };
    let (best, eu, us) = (
        if is_first_best { "60 192.0.2.1" } else { "60 192.0.2.2" },
        "eu (pop1) 60 192.0.2.1",
        "us (pop2 pop3) 60 192.0.2.2",
    );
    assert_eq!(served(&platform), differs(best, eu, us));
    // PoPs that move take the answer of where they are, at once.
    set_region(&mut platform, 2, "eu");
    let moved = served(&platform);
    assert!(!moved.contains("us (pop2 pop3)") && !moved.contains("eu (pop1)"), "{moved}");
    set_region(&mut platform, 2, "");
    assert!(!served(&platform).contains("pop3"));
    set_region(&mut platform, 2, "us");
    assert_eq!(served(&platform), differs(best, eu, us));
    // What may not be served any more goes at once, everywhere.
    let rules = platform.world.state.monitors().rules().clone();
    platform.world.operate(Action::SetProbeRules(ProbeRules::default()));
    platform.settle();
    assert_eq!(served(&platform), "nothing");
    platform.world.operate(Action::SetProbeRules(rules));
    platform.settle();
    assert_eq!(served(&platform), differs(best, eu, us));
    // A region's own answer is of its target, and no TTL is above that of the record.
    let put_both = |platform: &mut Platform, ttl, target: &str| {
        platform.act(put("example.com", ttl, target));
        platform.act(put("a.b.example.com", ttl, target));
    };
    put_both(&mut platform, 9, t);
    assert_eq!(served(&platform), differs(best, eu, us).replace("60 ", "9 "));
    put_both(&mut platform, 300, "other.example.net");
    assert_eq!(
        served(&platform),
        best.replace("60 ", "9 "),
        "of the old target, until the new one is resolved"
    );
    put_both(&mut platform, 300, t);
    platform.settle();
    all(&mut platform);
    assert_eq!(served(&platform), differs(best, eu, us));
    // PoPs of which none has a resolver go with the fleet; those that are away keep what they have.
    let own_pops: Vec<PopId> = if is_first_best { pops[1..].to_vec() } else { pops[..1].to_vec() };
    own_pops.iter().for_each(|pop| platform.watch.pop_down(platform.now_ms, *pop));
    platform.now_ms = platform.watch.next_at_ms().unwrap_or(platform.now_ms) + crate::choice::ABSENCE_MS;
    platform.settle();
    assert_eq!(served(&platform), differs(best, eu, us));
    own_pops.iter().for_each(|pop| platform.watch.pop_up(*pop, false));
    platform.settle();
    assert_eq!(served(&platform), best);
    // Whoever doesn't ask for it any more has one answer with the very change.
    own_pops.iter().for_each(|pop| platform.watch.pop_down(platform.now_ms, *pop));
    own_pops.iter().for_each(|pop| platform.watch.pop_up(*pop, true));
    platform.settle();
    all(&mut platform);
    assert_eq!(served(&platform), differs(best, eu, us));
    // What regions have may come and go: it is no loss of the zone's, and neither is that nobody asks for it any more.
    let brakes = crate::brakes::Brakes { zone_rrsets_min: 4, ..Default::default() };
    let of = platform.world.zone(zone).clone();
    let count = of.published_rrset_count();
    let plain = of.content.rrset_count();
    assert!(count > plain && !of.is_shrunk_from(count, 2, &brakes) && !of.is_shrunk_from(plain, 2, &brakes));
    assert!(
        !of.is_shrunk_from(plain + 2 * 2 * 3, 2, &brakes),
        "all that two ALIAS could have of two regions"
    );
    assert!(of.is_shrunk_from(3 * plain + 2 * 2 * 3, 2, &brakes));
    platform.ask_by_region(false);
    let of = platform.world.zone(zone);
    assert_eq!(of.shrunk, Some(of.revision));
    assert_eq!(served(&platform), best);
    assert!(platform.world.zone(zone).resolved.steering().is_none());
    assert!(platform.watch.view(&name(t)).regions.is_empty());
    platform.ask_by_region(true);
    all(&mut platform);
    assert_eq!(served(&platform), differs(best, eu, us));
    // Without the record nothing is left.
    platform.act(edit("example.com", ALIAS, EditOp::Delete));
    platform.act(edit("a.b.example.com", ALIAS, EditOp::Delete));
    platform.settle();
    assert_eq!(platform.world.zone(zone).resolved.rrset_count(), 0);
}

#[test]
fn a_private_zone_has_aliases_too() {
    let t = "lb.example.net";
    let (mut platform, public, pops) =
        Platform::by_region(&[Some("eu"), Some("us")], "@ ALIAS lb.example.net.");
    let tenant = platform.tenant;
    platform.world.grant(tenant_of(tenant), &["10.0.0.0/8"]).unwrap();
    let text = "$TTL 300\n@ NS ns1.herald.example.\n@ NS ns2.herald.example.\n@ ALIAS lb.example.net.\n";
    let mut content = content_of("example.com", text);
    let settings = Item::Settings(Settings { ecs: false, alias_by_region: true }).write().unwrap();
    content.put(settings_key(&name("example.com")), settings);
    let insiders = crate::command::Insiders::View(crate::steering::View {
        prefixes: vec!["10.0.0.0/8".parse().unwrap()],
        pops: Vec::new(),
    });
    let create = Action::CreateZone {
        name: name("example.com"),
        tenant: None,
        ns_set: None,
        labels: std::collections::BTreeMap::new(),
        content: Some(prepared("example.com", content)),
        insiders: Some(insiders),
    };
    let Some(Subject::Zone(private)) = platform.world.run(tenant, create).unwrap().subject else {
        panic!("no zone")
    };
    platform.settle();
    platform.says(pops[0], t, found(60, &["192.0.2.1"]), failed());
    platform.says(pops[1], t, found(60, &["192.0.2.2"]), failed());
    let told = platform.served_by_region(public, "example.com");
    assert_eq!(told.matches("pop").count(), 1, "{told}");
    assert_eq!(platform.served_by_region(private, "example.com"), told);
    // It isn't in a circle because somebody's public name leads back to the name that it has, too.
    assert_eq!(circle(&platform.world.state, private, &name("example.com")), None);
    platform.world.import(tenant, "example.net", "lb ALIAS example.com.");
    assert!(circle(&platform.world.state, public, &name("example.com")).is_some());
    platform.settle();
    assert_eq!(platform.served_by_region(public, "example.com"), "nothing");
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
    ByRegion(bool),
    Region(u8, u8),
    /// An ALIAS becomes an address, or an address an ALIAS.
    Swap(u8, Option<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4u8, 0..3u8, 1..400u32).prop_map(|(owner, target, ttl)| Step::Put(owner, target, ttl)),
        1 => (0..4u8).prop_map(Step::Plain),
        1 => (0..4u8).prop_map(Step::Delete),
        1 => prop::collection::vec((0..4u8, 0..3u8), 0..4).prop_map(Step::Replace),
        8 => (0..3u8, 0..3u8, prop::option::weighted(0.8, 0..4u8))
            .prop_map(|(place, target, last)| Step::Say(place, target, last)),
        1 => Just(Step::Time),
        1 => (0..4u8, prop::option::of(0..3u8)).prop_map(|(owner, target)| Step::Swap(owner, target)),
        1 => any::<bool>().prop_map(Step::ByRegion),
        1 => (0..3u8, 0..3u8).prop_map(|(pop, region)| Step::Region(pop, region)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_kept_fits_together_however_it_came_about(steps in prop::collection::vec(step(), 1..40)) {
        let owner = |n: u8| format!("h{n}.example.com");
        let target = |n: u8| format!("t{n}.example.net");
        let (mut platform, zone, pops) = Platform::by_region(
            &[Some("r1"), Some("r2"), None], "h0 ALIAS t0.example.net.\nh1 ALIAS t1.example.net.\nh2 ALIAS t1.example.net.");
        let tenant = platform.tenant;
        let mut before = platform.world.zone(zone).clone();
        for step in steps {
            let action = match step {
                Step::Put(at, to, ttl) => Some(put(&owner(at), ttl, &target(to))),
                Step::Plain(at) => Some(edit(&owner(at), A, EditOp::Put { ttl: 5, rdatas: rrset(5, &["192.0.2.250"]).rdatas })),
                Step::Swap(at, to) => {
                    let alias = to.map(|to| Rdatas::single(&parse_rdata(ALIAS, &target(to)).unwrap()));
                    let (gone, rtype) = if alias.is_some() { (A, ALIAS) } else { (ALIAS, A) };
                    let rdatas = alias.unwrap_or_else(|| rrset(5, &["192.0.2.250"]).rdatas);
                    let one = |rtype, op| RrsetEdit { key: key(&owner(at), rtype), if_match: None, op };
                    let edits = vec![one(gone, EditOp::Delete), one(rtype, EditOp::Put { ttl: 5, rdatas })];
                    let zones = vec![ZoneEdit { zone: by_name("example.com"), if_match: None, edits }];
                    let _ = platform.world.run_confirmed(tenant, Action::EditZones { zones });
                    platform.settle();
                    None
                }
                Step::Delete(at) => Some(edit(&owner(at), ALIAS, EditOp::Delete)),
                Step::Replace(aliases) => {
                    let mut text = "$TTL 300\n@ NS ns1.herald.example.\n@ NS ns2.herald.example.\n".to_owned();
                    let aliases: std::collections::BTreeMap<u8, u8> = aliases.into_iter().collect();
                    for (at, to) in aliases {
                        text += &format!("h{at} ALIAS {}.\n", target(to));
                    }
                    let content = prepared("example.com", content_of("example.com", &text));
                    let base = platform.world.zone(zone).revision;
                    Some(Action::ReplaceZone { zone: ZoneRef::Id(zone), base, content })
                }
                Step::Say(place, to, last) => {
                    let answer = last.map_or_else(nothing, |last| found(u32::from(last) + 1, &[&format!("192.0.2.{last}")]));
                    if usize::from(place) < platform.chosen(&target(to)).len() {
                        platform.say(place.into(), &target(to), answer, failed());
                    }
                    None
                }
                Step::Time => {
                    platform.now_ms += 1_000;
                    platform.settle();
                    None
                }
                Step::ByRegion(is_asked) => {
                    platform.ask_by_region(is_asked);
                    None
                }
                Step::Region(pop, region) => {
                    let region = Some(["", "r1", "r2"][usize::from(region)].to_owned());
                    let pop = pops[usize::from(pop)];
                    platform.world.operate(Action::UpdatePop { pop, enabled: None, drained: None, region });
                    platform.settle();
                    None
                }
            };
            // Some are refused, as an ALIAS and addresses can't be at one name.
            let _ = action.map(|action| platform.world.run_confirmed(tenant, action));
            let state = &platform.world.state;
            let of = state.zone(zone).unwrap();
            let by_region = of.settings().alias_by_region;
            let published = of.published();
            let mut difference = Difference::default();
            for change in before.published_changes(of) {
                match change.new {
                    Some(rrset) => difference.puts.push((change.key.clone(), rrset.clone())),
                    None => difference.deletes.push(change.key.clone()),
                }
            }
            // In whatever order a PoP takes them.
            let mut puts_first = before.published();
            puts_first.apply(&Difference { puts: difference.puts.clone(), deletes: Vec::new() });
            puts_first.apply(&Difference { puts: Vec::new(), deletes: difference.deletes });
            prop_assert_eq!(&puts_first, &published);
            before = Zone::clone(of);
            for (key, rrset) in of.resolved.iter() {
                prop_assert!(by_region || !is_steering_type(key.rtype), "{}", key);
                prop_assert!(of.content.get(key).is_none(), "{}", key);
                if key.rtype == POOL {
                    let pool = held_name(&key.owner).unwrap();
                    prop_assert!(!item::is_label(&pool), "no tenant has one of this name");
                    prop_assert_eq!(of.resolved.steering().unwrap().uses(&Used::Pool(pool.into())), 1);
                    continue;
                }
                let alias = of.content.aliases().get(&key.owner);
                prop_assert!(alias.is_some_and(|alias| rrset.ttl <= alias.ttl), "{}", key);
                let Some(answered) = answered_type(key.rtype) else { continue };
                let plain = RrKey::new(key.owner.clone(), answered);
                prop_assert!(published.get(&plain).is_none(), "{} has records beside its policy", key.owner);
                let served = of.served(&key.owner, answered);
                prop_assert!(!served.regions.is_empty());
                let members = |region: &str| {
                    let of_region = |pop: &&crate::state::Shared<crate::account::Pop>| pop.region.as_deref() == Some(region);
                    let mut names: Vec<String> = state.pops().filter(of_region).map(|pop| pop.name.clone()).collect();
                    names.sort();
                    names
                };
                for (region, regional) in &served.regions {
                    let has_ttl = |rrset: &Rrset| rrset.ttl <= alias.unwrap().ttl;
                    prop_assert!(regional.rrset.as_ref().is_none_or(has_ttl));
                    prop_assert_eq!(&regional.pops, &members(region));
                }
                let Ok(Item::Policy(_, policy)) = Item::read(key.rtype, &rrset.rdatas) else { panic!("{key}") };
                for pool in policy.rules.iter().flat_map(|rule| &rule.pools) {
                    prop_assert!(of.resolved.get(&pool_key(&of.name, pool).unwrap()).is_some(), "{}", pool);
                }
            }
            let soa = of.soa_rrset().digest(&of.soa_key());
            prop_assert_eq!(of.published_digest(), published.digest().wrapping_add(soa));
            prop_assert_eq!(of.published_rrset_count(), published.rrset_count());
            prop_assert!(published.aliases().is_empty());
            let expected: Vec<(Name, ZoneId, Name, AliasTerms)> = {
                let terms = |ttl| AliasTerms { ttl, by_region };
                let mut all: Vec<_> = of.content.aliases().iter()
                    .map(|(owner, alias)| (alias.target.clone(), zone, owner.clone(), terms(alias.ttl))).collect();
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
