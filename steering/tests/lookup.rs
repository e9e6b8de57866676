//! Insiders get what a plain reading of the DNS' rules says of the zone as they see it.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use herald_core::steering::{
    AnswerMode, Endpoint, EndpointRecords, EndpointState, Item, OVERLAY, Overlay, Policy, Pool, Rule, View,
    When, policy_key, pool_key, view_key,
};
use herald_core::{Name, Rdatas, RrKey, Rrset, Rtype};
use proptest::prelude::*;
use steering::geo::Geo;
use steering::lookup::{Query, Rcode, Reply, Section};
use steering::{Client, Knowledge, Part, RrsetRef, ViewIndex, rrset_octets};
use world::{apex, name};

const TYPES: [Rtype; 6] = [Rtype::A, Rtype::TXT, Rtype::NS, Rtype::CNAME, Rtype::DNAME, Rtype::DS];
const VIEWS: [(&str, &str); 2] = [("lab", "10.1.0.0/16"), ("office", "10.0.0.0/8")];
const SOA_TTL_S: u32 = 3600;
const NEGATIVE_TTL_S: u32 = 300;

/// What there is of a type at a name.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    Rrset(Rrset),
    /// A policy with this answer, or with none.
    Policy(Option<Rrset>),
}

type Contents = BTreeMap<u16, Content>;

/// A zone, and what views have in it: none hides, ANY hides the name.
#[derive(Clone, Debug, Default)]
struct Zone {
    base: BTreeMap<Name, Contents>,
    overlays: BTreeMap<Name, BTreeMap<usize, BTreeMap<u16, Option<Rrset>>>>,
}

impl Zone {
    fn rrsets(&self) -> BTreeMap<RrKey, Rrset> {
        let write = |item: Item| item.write().unwrap();
        let mut rrsets = BTreeMap::new();
        for (view, prefix) in VIEWS {
            let item = Item::View(View { prefixes: vec![prefix.parse().unwrap()], pops: Vec::new() });
            rrsets.insert(view_key(&apex(), view).unwrap(), write(item));
        }
        let mut pools = 0;
        for (owner, contents) in &self.base {
            for (rtype, content) in contents {
                let rtype = Rtype::from_int(*rtype);
                let Content::Policy(answer) = content else {
                    let Content::Rrset(rrset) = content else { unreachable!() };
                    rrsets.insert(RrKey::new(owner.clone(), rtype), rrset.clone());
                    continue;
                };
                let pool = format!("p{pools}");
                pools += 1;
                let rule =
                    Rule { name: None, when: When::default(), pools: vec![pool.clone()], nearest: false };
                let policy = Item::Policy(rtype, Policy::of_rules(vec![rule]));
                rrsets.insert(policy_key(owner, rtype).unwrap(), write(policy));
                if let Some(answer) = answer {
                    let records = vec![EndpointRecords { rtype, rdatas: answer.rdatas.clone() }];
                    let endpoint = Endpoint {
                        name: "e".into(),
                        records,
                        weight: 1,
                        state: EndpointState::Enabled,
                        location: None,
                        bias: 0,
                        monitor: None,
                    };
                    let item = Item::Pool(Pool {
                        ttl: answer.ttl,
                        answer: AnswerMode::One,
                        sticky: None,
                        min_healthy: 0,
                        endpoints: vec![endpoint],
                    });
                    rrsets.insert(pool_key(&apex(), &pool).unwrap(), write(item));
                }
            }
        }
        for (owner, views) in &self.overlays {
            let overlays = views.iter().flat_map(|(view, contents)| {
                contents.iter().map(|(rtype, rrset)| Overlay {
                    view: VIEWS[*view].0.into(),
                    rtype: Rtype::from_int(*rtype),
                    rrset: rrset.clone(),
                })
            });
            rrsets.insert(RrKey::new(owner.clone(), OVERLAY), write(Item::Overlays(overlays.collect())));
        }
        rrsets
    }

    /// What those in these views see.
    fn seen_by(&self, inside: &[usize]) -> BTreeMap<Name, Contents> {
        let mut seen = self.base.clone();
        for (owner, views) in &self.overlays {
            let at = seen.entry(owner.clone()).or_default();
            // The first view counts most.
            for view in inside.iter().rev() {
                let Some(overlay) = views.get(view) else { continue };
                let is_alias = overlay.get(&Rtype::CNAME.to_int()).is_some_and(Option::is_some);
                if overlay.contains_key(&Rtype::ANY.to_int()) || is_alias {
                    at.clear();
                }
                at.retain(|rtype, _| !overlay.contains_key(rtype));
                if overlay.values().any(Option::is_some) {
                    at.remove(&Rtype::CNAME.to_int());
                }
                let present = overlay.iter().filter_map(|(rtype, rrset)| Some((*rtype, rrset.clone()?)));
                at.extend(present.map(|(rtype, rrset)| (rtype, Content::Rrset(rrset))));
            }
        }
        seen.entry(apex()).or_default().insert(Rtype::SOA.to_int(), Content::Rrset(soa()));
        seen.retain(|_, contents| !contents.is_empty());
        seen
    }
}

/// An RRset of a response.
type Put = (Section, Name, u16, u32, Vec<Vec<u8>>);

#[derive(Clone, Debug, PartialEq)]
struct Response {
    rcode: Rcode,
    is_authoritative: bool,
    puts: Vec<Put>,
}

/// A look-up by the book (RFC 1034 §4.3.2, RFC 4592, RFC 6672), with sets of names.
fn reference(seen: &BTreeMap<Name, Contents>, asked: &Name, qtype: Rtype) -> Response {
    let mut exists: BTreeSet<Name> = BTreeSet::from([apex()]);
    for owner in seen.keys() {
        let mut name = owner.clone();
        while name != apex() {
            exists.insert(name.clone());
            name = name.parent().unwrap();
        }
    }
    let rrset = |name: &Name, rtype: Rtype| match seen.get(name)?.get(&rtype.to_int())? {
        Content::Rrset(rrset) => Some(rrset.clone()),
        Content::Policy(_) => None,
    };
    let octets = |rrset: &Rrset| rrset.rdatas.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let soa = (Section::Authority, apex(), Rtype::SOA.to_int(), NEGATIVE_TTL_S, octets(&soa()));
    let mut response = Response { rcode: Rcode::NoError, is_authoritative: true, puts: Vec::new() };
    let mut visited = BTreeSet::new();
    let mut dnames = BTreeSet::new();
    let mut current = asked.clone();
    for aliases in 0..=5 {
        if !current.is_at_or_below(&apex()) || !visited.insert(current.clone()) {
            return response;
        }
        // From the apex down to the name.
        let mut path = vec![current.clone()];
        while *path.last().unwrap() != apex() {
            path.push(path.last().unwrap().parent().unwrap());
        }
        path.reverse();
        let mut target = None;
        for node in &path {
            let is_here = *node == current;
            if *node != apex()
                && !(is_here && qtype == Rtype::DS)
                && let Some(servers) = rrset(node, Rtype::NS)
            {
                response.is_authoritative = aliases > 0;
                response.puts.push((
                    Section::Authority,
                    node.clone(),
                    Rtype::NS.to_int(),
                    servers.ttl,
                    octets(&servers),
                ));
                if let Some(ds) = rrset(node, Rtype::DS) {
                    response.puts.push((
                        Section::Authority,
                        node.clone(),
                        Rtype::DS.to_int(),
                        ds.ttl,
                        octets(&ds),
                    ));
                }
                for server in servers.rdatas.iter().map(|rdata| Name::from_wire(rdata).unwrap()) {
                    let glue = match seen.get(&server).and_then(|contents| contents.get(&Rtype::A.to_int())) {
                        Some(Content::Rrset(rrset) | Content::Policy(Some(rrset))) => rrset,
                        _ => continue,
                    };
                    response.puts.push((
                        Section::Additional,
                        server,
                        Rtype::A.to_int(),
                        glue.ttl,
                        octets(glue),
                    ));
                }
                return response;
            }
            if !is_here && let Some(dname) = rrset(node, Rtype::DNAME) {
                if aliases == 5 {
                    return response;
                }
                if dnames.insert(node.clone()) {
                    response.puts.push((
                        Section::Answer,
                        node.clone(),
                        Rtype::DNAME.to_int(),
                        dname.ttl,
                        octets(&dname),
                    ));
                }
                let mut new = Name::from_wire(dname.rdatas.iter().next().unwrap()).unwrap();
                let labels: Vec<Vec<u8>> = current.labels().map(<[u8]>::to_vec).collect();
                for label in labels[..current.label_count() - node.label_count()].iter().rev() {
                    new = new.child(label).unwrap();
                }
                let cname = vec![new.as_wire().to_vec()];
                response.puts.push((
                    Section::Answer,
                    current.clone(),
                    Rtype::CNAME.to_int(),
                    dname.ttl,
                    cname,
                ));
                if qtype == Rtype::CNAME || qtype == Rtype::ANY {
                    return response;
                }
                target = Some(new);
                break;
            }
        }
        if let Some(target) = target {
            current = target;
            continue;
        }
        let mut node = current.clone();
        if !exists.contains(&node) {
            let mut encloser = node.parent().unwrap();
            while !exists.contains(&encloser) {
                encloser = encloser.parent().unwrap();
            }
            node = encloser.child("*").unwrap();
            if !exists.contains(&node) {
                response.rcode = Rcode::NxDomain;
                response.puts.push(soa);
                return response;
            }
        }
        let empty = Contents::new();
        let contents = seen.get(&node).unwrap_or(&empty);
        if qtype == Rtype::ANY {
            let answers = contents.iter().find_map(|(rtype, content)| match content {
                Content::Rrset(rrset) | Content::Policy(Some(rrset)) => Some((*rtype, rrset)),
                Content::Policy(None) => None,
            });
            match answers {
                _ if node == apex() => response.puts.push((
                    Section::Answer,
                    apex(),
                    Rtype::SOA.to_int(),
                    SOA_TTL_S,
                    octets(&self::soa()),
                )),
                Some((rtype, rrset)) => {
                    response.puts.push((Section::Answer, current, rtype, rrset.ttl, octets(rrset)));
                }
                None => response.puts.push(soa),
            }
            return response;
        }
        match contents.get(&qtype.to_int()) {
            Some(Content::Rrset(rrset) | Content::Policy(Some(rrset))) => {
                response.puts.push((Section::Answer, current, qtype.to_int(), rrset.ttl, octets(rrset)));
                return response;
            }
            Some(Content::Policy(None)) => {
                response.puts.push(soa);
                return response;
            }
            None => {}
        }
        match contents.get(&Rtype::CNAME.to_int()) {
            Some(_) if aliases == 5 => return response,
            Some(Content::Rrset(rrset) | Content::Policy(Some(rrset))) => {
                response.puts.push((
                    Section::Answer,
                    current,
                    Rtype::CNAME.to_int(),
                    rrset.ttl,
                    octets(rrset),
                ));
                current = Name::from_wire(rrset.rdatas.iter().next().unwrap()).unwrap();
            }
            _ => {
                response.puts.push(soa);
                return response;
            }
        }
    }
    response
}

fn soa() -> Rrset {
    let mut rdata = [apex().as_wire(), apex().as_wire()].concat();
    [7_u32, 1, 2, 3, NEGATIVE_TTL_S].iter().for_each(|number| rdata.extend_from_slice(&number.to_be_bytes()));
    Rrset { ttl: SOA_TTL_S, rdatas: Rdatas::single(&rdata) }
}

#[derive(Default)]
struct Collect(Vec<Put>);

impl Reply for Collect {
    fn put(&mut self, section: Section, owner: &[u8], rrset: RrsetRef<'_>) -> bool {
        let rdatas: Vec<Vec<u8>> = rrset.iter().map(<[u8]>::to_vec).collect();
        assert_eq!(rdatas.len(), usize::from(rrset.count));
        assert_eq!(world::unpack(rrset.rdatas), rdatas);
        self.0.push((section, Name::from_wire(owner).unwrap(), rrset.rtype.to_int(), rrset.ttl, rdatas));
        true
    }
}

fn client(source: &str) -> Client {
    Client { source: source.parse().unwrap(), ecs: None, pop: 0, draw: 0 }
}

fn owner() -> impl Strategy<Value = Name> {
    let label = prop::sample::select(vec!["a", "b", "*"]);
    prop::collection::vec(label, 0..4)
        .prop_map(|labels| labels.into_iter().fold(apex(), |name, label| name.child(label).unwrap()))
}

fn rrset(rtype: Rtype) -> BoxedStrategy<Rrset> {
    let ttl = 0_u32..1000;
    match rtype {
        Rtype::NS | Rtype::CNAME | Rtype::DNAME => {
            let target = prop_oneof![4 => owner(), 1 => Just(name("elsewhere.org"))];
            (ttl, target)
                .prop_map(|(ttl, target)| Rrset { ttl, rdatas: Rdatas::single(target.as_wire()) })
                .boxed()
        }
        _ => (ttl, prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 1..3))
            .prop_map(|(ttl, rdatas)| Rrset { ttl, rdatas: rdatas.iter().collect() })
            .boxed(),
    }
}

fn typed() -> impl Strategy<Value = (Rtype, Rrset)> {
    prop_oneof![
        3 => Just(Rtype::A), 2 => Just(Rtype::TXT), 1 => Just(Rtype::NS), 2 => Just(Rtype::CNAME),
        1 => Just(Rtype::DNAME), 1 => Just(Rtype::DS)
    ]
    .prop_flat_map(|rtype| rrset(rtype).prop_map(move |rrset| (rtype, rrset)))
}

/// With a CNAME there is nothing else.
fn alone<T>(mut contents: BTreeMap<u16, T>, is_there: impl Fn(&T) -> bool) -> BTreeMap<u16, T> {
    let cname = Rtype::CNAME.to_int();
    if contents.get(&cname).is_some_and(&is_there) {
        contents.retain(|rtype, _| *rtype == cname);
    }
    contents
}

fn zone() -> impl Strategy<Value = Zone> {
    let content = (typed(), 0_u8..8).prop_map(|((rtype, rrset), how)| {
        let is_steerable = matches!(rtype, Rtype::A | Rtype::TXT | Rtype::CNAME);
        let content = match how {
            0 if is_steerable => Content::Policy(None),
            1 | 2 if is_steerable => Content::Policy(Some(rrset)),
            _ => Content::Rrset(rrset),
        };
        (rtype.to_int(), content)
    });
    let contents = prop::collection::vec(content, 1..4)
        .prop_map(|contents| alone(contents.into_iter().collect::<Contents>(), |_| true));
    let overlay = prop_oneof![
        1 => Just((Rtype::ANY.to_int(), None)),
        4 => (typed(), prop::bool::weighted(0.7)).prop_map(|((rtype, rrset), is_there)| (rtype.to_int(), is_there.then_some(rrset))),
    ];
    let overlays = prop::collection::vec(overlay, 1..4)
        .prop_map(|overlays| alone(overlays.into_iter().collect::<BTreeMap<_, _>>(), Option::is_some));
    (
        prop::collection::btree_map(owner(), contents, 0..8),
        prop::collection::btree_map(owner(), prop::collection::btree_map(0_usize..2, overlays, 1..3), 0..5),
    )
        .prop_map(|(mut base, overlays)| {
            // No CNAME at the apex: the SOA is there.
            if let Some(contents) = base.get_mut(&apex()) {
                contents.remove(&Rtype::CNAME.to_int());
            }
            let mut overlays: BTreeMap<Name, BTreeMap<usize, BTreeMap<u16, Option<Rrset>>>> = overlays;
            if let Some(views) = overlays.get_mut(&apex()) {
                views.values_mut().for_each(|contents| drop(contents.remove(&Rtype::CNAME.to_int())));
            }
            Zone { base, overlays }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn insiders_get_what_the_book_says(
        zone in zone(),
        asked in prop::collection::vec(owner(), 1..12),
    ) {
        // Every zone has name servers.
        let mut zone = zone;
        let servers = Rrset { ttl: 1, rdatas: Rdatas::single(apex().as_wire()) };
        zone.base.entry(apex()).or_default().insert(Rtype::NS.to_int(), Content::Rrset(servers));
        let part = Part::compile(&apex(), zone.rrsets()).unwrap();
        let (octets, count) = rrset_octets(&soa().rdatas).unwrap();
        let soa = RrsetRef { rtype: Rtype::SOA, ttl: SOA_TTL_S, count, rdatas: &octets };
        for (source, inside) in [("10.1.2.3", &[0, 1][..]), ("10.9.9.9", &[1]), ("192.0.2.1", &[])] {
            let client = client(source);
            let seen = zone.seen_by(inside);
            let inside = part.inside(&client);
            for asked in &asked {
                for rtype in TYPES.into_iter().chain([Rtype::ANY, Rtype::SOA]) {
                    let expected = reference(&seen, asked, rtype);
                    let query = Query { name: asked.as_wire(), rtype, client: &client, inside: &inside, soa };
                    let (mut out, mut reply) = (Vec::with_capacity(4096), Collect::default());
                    let verdict = part.lookup(&query, &Knowledge::places(&Geo::empty()), &mut out, &mut reply);
                    let response = Response {
                        rcode: verdict.rcode,
                        is_authoritative: verdict.is_authoritative,
                        puts: reply.0,
                    };
                    prop_assert_eq!(response, expected, "{} {} from {}", asked, rtype, source);
                }
            }
        }
    }

    #[test]
    fn a_changed_part_with_records_is_the_part_of_what_it_has_become(before in zone(), after in zone()) {
        let (old, new) = (before.rrsets(), after.rrsets());
        let puts: Vec<(RrKey, Rrset)> =
            new.iter().filter(|(key, rrset)| old.get(key) != Some(rrset)).map(|(key, rrset)| (key.clone(), rrset.clone())).collect();
        let deletes: Vec<RrKey> = old.keys().filter(|key| !new.contains_key(key)).cloned().collect();
        let from = Part::compile(&apex(), old).unwrap();
        let (part, whole) = (from.with(puts, deletes).unwrap(), Part::compile(&apex(), new).unwrap());
        // Names are kept track of for good once there were records.
        if from.has_records() == whole.has_records() {
            prop_assert_eq!(&part, &whole);
        }
        prop_assert_eq!(part.has_records(), from.has_records() || whole.has_records());
    }

    #[test]
    fn the_deepest_zone_of_an_insider_is_found(
        zones in prop::collection::vec((owner(), prop::collection::vec((world::prefix(), any::<bool>()), 1..4)), 0..6),
        sources in prop::collection::vec(world::address(), 1..10),
        asked in owner(),
    ) {
        let views: Vec<(Name, Vec<(String, View)>)> = zones
            .iter()
            .map(|(apex, views)| {
                let view = |(prefix, is_here): &(_, bool)| {
                    let pops = vec![if *is_here { "ams" } else { "fra" }.to_owned()];
                    (String::new(), View { prefixes: vec![*prefix], pops })
                };
                (apex.clone(), views.iter().map(view).collect())
            })
            .collect();
        let index = ViewIndex::new("ams", views.iter().enumerate().map(|(number, (apex, views))| (apex.clone(), number, views.as_slice())));
        for source in sources {
            let inside = |number: &usize| {
                zones[*number].1.iter().any(|(prefix, is_here)| *is_here && prefix.contains(source))
            };
            let insides: Vec<usize> = (0..zones.len()).filter(inside).collect();
            prop_assert_eq!(index.is_insider(source), !insides.is_empty());
            for is_above in [false, true] {
                let holds = |number: &&usize| {
                    if is_above { asked.is_below(&zones[**number].0) } else { asked.is_at_or_below(&zones[**number].0) }
                };
                let deepest = insides.iter().filter(holds).map(|number| zones[*number].0.label_count()).max();
                let found = index.find(source, asked.as_wire(), is_above);
                prop_assert_eq!(found.map(|(apex, _)| apex.label_count()), deepest);
                if let Some((apex, number)) = found {
                    prop_assert_eq!(apex, &zones[*number].0);
                    prop_assert!(insides.contains(number));
                }
            }
        }
    }
}

#[test]
fn everybody_at_a_pop_can_be_inside() {
    let views = [("all".to_owned(), View { prefixes: Vec::new(), pops: vec!["ams".into()] })];
    let index = |pop: &str| ViewIndex::new(pop, [(apex(), 1, views.as_slice())]);
    for source in ["192.0.2.1", "2001:db8::1", "255.255.255.255"] {
        let source = source.parse().unwrap();
        assert!(index("ams").find(source, name("www.example.com").as_wire(), false).is_some());
        assert!(index("ams").find(source, name("example.org").as_wire(), false).is_none());
        assert!(!index("fra").is_insider(source));
    }
    assert!(index("fra").is_empty());
}
