//! Which name and RRset of a zone answers a question (RFC 1034 §4.3.2), for insiders of views with what these have.

use std::net::IpAddr;

use herald_core::steering::{self, Item, Overlay, Policy, served_type};
use herald_core::zone::Zone;
use herald_core::{Name, RrKey, Rrset, Rtype};

/// What answers.
pub enum Found {
    /// A view has something at the name: an RRset, or nothing.
    Overlay { owner: Name, overlays: Vec<Overlay>, answer: Option<(Rtype, Rrset)> },
    /// Records.
    Records { owner: Name, rtype: Rtype, rrset: Rrset },
    /// A policy.
    Policy { owner: Name, rtype: Rtype, policy: Policy },
    /// The delegation above the name, or at it.
    Delegated(Name),
    /// The DNAME above the name.
    Redirected(Name),
    /// The name, or the wildcard, that has no such type.
    NoData(Name),
    /// Nothing.
    NoSuchName,
}

/// The views of a zone that the source of a query is in.
pub fn views_of(zone: &Zone, source: IpAddr, pop: Option<&str>) -> Vec<String> {
    let Ok(holder) = steering::holder(&zone.name) else { return Vec::new() };
    if zone.content.steering().is_none() {
        return Vec::new();
    }
    let is_inside = |view: &steering::View| {
        (view.prefixes.is_empty() || view.prefixes.iter().any(|prefix| prefix.contains(source)))
            && (view.pops.is_empty() || pop.is_some_and(|pop| view.pops.iter().any(|name| name == pop)))
    };
    let views = zone.content.below(&holder).filter(|(key, _)| key.rtype == steering::VIEW);
    views
        .filter_map(|(key, rrset)| match Item::read(key.rtype, &rrset.rdatas).ok()? {
            Item::View(view) if is_inside(&view) => steering::held_name(&key.owner),
            _ => None,
        })
        .collect()
}

/// Finds it. What insiders of views see is what `steering::Part::lookup` answers them; a test compares the two.
pub fn find(zone: &Zone, name: &Name, rtype: Rtype, views: &[String]) -> Found {
    let seen = Seen { zone, views };
    let above: Vec<Name> = std::iter::successors(name.parent(), Name::parent)
        .take_while(|above| above.is_at_or_below(&zone.name))
        .collect();
    for owner in above.iter().rev() {
        if *owner != zone.name && seen.effective(owner, Rtype::NS).is_some() {
            return Found::Delegated(owner.clone());
        }
        if seen.effective(owner, Rtype::DNAME).is_some() {
            return Found::Redirected(owner.clone());
        }
    }
    if *name != zone.name && rtype != Rtype::DS && seen.effective(name, Rtype::NS).is_some() {
        return Found::Delegated(name.clone());
    }
    if seen.is_visible(name) {
        return seen.at(name, rtype);
    }
    if seen.has_visible_below(name) {
        return Found::NoData(name.clone());
    }
    // The closest encloser's wildcard (RFC 4592 §3.3.1).
    let encloser = above.iter().find(|above| seen.is_visible(above) || seen.has_visible_below(above));
    let Some(wildcard) = encloser.and_then(|encloser| encloser.child("*").ok()) else {
        return Found::NoSuchName;
    };
    if seen.is_visible(&wildcard) {
        seen.at(&wildcard, rtype)
    } else if seen.has_visible_below(&wildcard) {
        Found::NoData(wildcard)
    } else {
        Found::NoSuchName
    }
}

/// A zone as insiders of these views see it, the views in order of their names.
struct Seen<'a> {
    zone: &'a Zone,
    views: &'a [String],
}

/// What there is of a type at a name.
enum Effective {
    Overlay(Rrset),
    Records(Rrset),
    Policy(Policy),
}

impl Seen<'_> {
    /// At a name the views count in order, and what everybody gets comes last. What a view says of a type stands for what comes
    /// after it; a CNAME stands for all that comes after it, and anything else for a CNAME that does.
    fn effective(&self, owner: &Name, rtype: Rtype) -> Option<Effective> {
        let content = &self.zone.content;
        if rtype == Rtype::SOA && *owner == self.zone.name {
            return Some(Effective::Records(self.zone.soa_rrset()));
        }
        let overlays = self.overlays_at(owner);
        for view in self.views {
            let own = || overlays.iter().filter(|overlay| overlay.view == *view);
            if let Some(overlay) = own().find(|overlay| overlay.rtype == rtype) {
                return overlay.rrset.clone().map(Effective::Overlay);
            }
            let is_settled = own().any(|overlay| match overlay.rrset {
                None => overlay.rtype == Rtype::ANY,
                Some(_) => rtype == Rtype::CNAME || overlay.rtype == Rtype::CNAME,
            });
            if is_settled {
                return None;
            }
        }
        if let Some(rrset) = content.get(&RrKey::new(owner.clone(), rtype)) {
            return Some(Effective::Records(rrset.clone()));
        }
        let key = steering::policy_key(owner, rtype)?;
        match Item::read(key.rtype, &content.get(&key)?.rdatas) {
            Ok(Item::Policy(_, policy)) => Some(Effective::Policy(policy)),
            _ => None,
        }
    }

    fn overlays_at(&self, owner: &Name) -> Vec<Overlay> {
        if self.views.is_empty() {
            return Vec::new();
        }
        let key = RrKey::new(owner.clone(), steering::OVERLAY);
        match self.zone.content.get(&key).map(|rrset| Item::read(key.rtype, &rrset.rdatas)) {
            Some(Ok(Item::Overlays(overlays))) => {
                overlays.into_iter().filter(|overlay| self.views.contains(&overlay.view)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether there is anything at a name.
    fn is_visible(&self, owner: &Name) -> bool {
        let types = self.zone.content.at(owner).filter_map(|(key, _)| served_type(key.rtype));
        *owner == self.zone.name
            || types
                .chain(self.overlays_at(owner).iter().map(|overlay| overlay.rtype))
                .any(|rtype| self.effective(owner, rtype).is_some())
    }

    fn has_visible_below(&self, name: &Name) -> bool {
        let mut last = None;
        self.zone.content.below(name).any(|(key, _)| {
            let is_new = last.replace(&key.owner) != Some(&key.owner);
            is_new && self.is_visible(&key.owner)
        })
    }

    /// What a name that is there has of a type, or a CNAME in its place.
    fn at(&self, owner: &Name, rtype: Rtype) -> Found {
        for wanted in [rtype, Rtype::CNAME] {
            let owner = owner.clone();
            return match self.effective(&owner, wanted) {
                Some(Effective::Overlay(rrset)) => {
                    let overlays = self.overlays_at(&owner);
                    Found::Overlay { owner, overlays, answer: Some((wanted, rrset)) }
                }
                Some(Effective::Records(rrset)) => Found::Records { owner, rtype: wanted, rrset },
                Some(Effective::Policy(policy)) => Found::Policy { owner, rtype: wanted, policy },
                None => continue,
            };
        }
        match self.overlays_at(owner) {
            overlays if overlays.is_empty() => Found::NoData(owner.clone()),
            overlays => Found::Overlay { owner: owner.clone(), overlays, answer: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use ::steering::geo::Geo;
    use ::steering::{Client, Knowledge, Part, RrsetRef, rrset_octets};
    use herald_core::Rdatas;
    use herald_core::content::Content;
    use herald_core::steering::{View, view_key};
    use proptest::prelude::*;

    use super::*;
    use crate::edge::tests::zone_of;

    fn name(text: &str) -> Name {
        match text {
            "@" => Name::parse("example.com"),
            text => Name::parse(&format!("{text}.example.com")),
        }
        .unwrap()
    }

    const OWNERS: [&str; 7] = ["@", "a", "x.a", "*", "*.w", "w", "y.x.w"];
    const TYPES: [Rtype; 4] = [Rtype::A, Rtype::TXT, Rtype::CNAME, Rtype::ANY];

    fn rdata(rtype: Rtype, n: u8) -> Rdatas {
        match rtype {
            // Out of the zone, so that the first step is all there is.
            Rtype::CNAME => Rdatas::single(Name::parse(&format!("n{n}.example.net")).unwrap().as_wire()),
            Rtype::TXT => Rdatas::single(&[1, n]),
            _ => Rdatas::single(&[10, 0, 0, n]),
        }
    }

    /// A zone of records and of overlays of the views `v` and `w`, which everybody is in.
    fn zone(records: &[(usize, usize)], overlays: &[(usize, usize, bool, bool)]) -> Zone {
        let mut content = Content::default();
        let everywhere = View { prefixes: vec!["0.0.0.0/0".parse().unwrap()], pops: Vec::new() };
        for view in ["v", "w"] {
            content.put(view_key(&name("@"), view).unwrap(), Item::View(everywhere.clone()).write().unwrap());
        }
        for (owner, rtype) in records {
            let key = RrKey::new(name(OWNERS[*owner]), TYPES[*rtype]);
            content.put(key, Rrset { ttl: 1, rdatas: rdata(TYPES[*rtype], 1) });
        }
        for (place, owner) in OWNERS.iter().enumerate() {
            let mut here: Vec<Overlay> = Vec::new();
            for (_, rtype, is_w, is_hidden) in overlays.iter().filter(|(at, ..)| *at == place) {
                let (rtype, view) = (TYPES[*rtype], if *is_w { "w" } else { "v" });
                let is_hidden = *is_hidden || rtype == Rtype::ANY;
                let rrset = (!is_hidden).then(|| Rrset { ttl: 1, rdatas: rdata(rtype, 2 + u8::from(*is_w)) });
                if !here.iter().any(|one| one.view == view && one.rtype == rtype) {
                    here.push(Overlay { view: view.into(), rtype, rrset });
                }
            }
            if !here.is_empty() {
                let key = RrKey::new(name(owner), steering::OVERLAY);
                content.put(key, Item::Overlays(here).write().unwrap());
            }
        }
        zone_of("example.com", content)
    }

    /// The first RRset of an answer.
    #[derive(Default)]
    struct First(Option<(Rtype, Vec<Vec<u8>>)>);

    impl ::steering::lookup::Reply for First {
        fn put(&mut self, section: ::steering::lookup::Section, _: &[u8], rrset: RrsetRef<'_>) -> bool {
            if section == ::steering::lookup::Section::Answer && self.0.is_none() {
                self.0 = Some((rrset.rtype, rrset.iter().map(<[u8]>::to_vec).collect()));
            }
            true
        }
    }

    proptest! {
        #[test]
        fn insiders_see_what_the_module_answers(
            records in prop::collection::vec((0..OWNERS.len(), 0..3usize), 0..8),
            overlays in prop::collection::vec((0..OWNERS.len(), 0..TYPES.len(), any::<bool>(), any::<bool>()), 1..8),
        ) {
            let zone = zone(&records, &overlays);
            let source = "192.0.2.1".parse().unwrap();
            let rrsets = zone.content.iter().map(|(key, rrset)| (key.clone(), rrset.clone()));
            let part = Part::compile(&zone.name, rrsets).unwrap();
            let client = Client { source, ecs: None, pop: 0, draw: 0 };
            let inside = part.inside(&client);
            let soa = zone.soa_rrset();
            let (octets, count) = rrset_octets(&soa.rdatas).unwrap();
            let soa = RrsetRef { rtype: Rtype::SOA, ttl: soa.ttl, count, rdatas: &octets };
            let views = views_of(&zone, source, None);
            for asked in OWNERS.iter().copied().chain(["q", "q.a", "q.w", "q.x.w", "q.y.x.w", "x.w"]) {
                for rtype in [Rtype::A, Rtype::TXT, Rtype::CNAME] {
                    let asked_name = name(asked);
                    let query = ::steering::lookup::Query {
                        name: asked_name.as_wire(), rtype, client: &client, inside: &inside, soa,
                    };
                    let mut first = First::default();
                    let verdict = part.lookup(&query, &Knowledge::places(&Geo::empty()), &mut Vec::new(), &mut first);
                    let found = find(&zone, &asked_name, rtype, &views);
                    let is_denied = matches!(found, Found::NoSuchName);
                    let answer = match found {
                        Found::Overlay { answer, .. } => answer,
                        Found::Records { rtype, rrset, .. } => Some((rtype, rrset)),
                        _ => None,
                    };
                    let answer = answer.map(|(rtype, rrset)| {
                        (rtype, rrset.rdatas.iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
                    });
                    prop_assert_eq!(answer, first.0, "{} {}", asked, rtype);
                    let is_nx = verdict.rcode == ::steering::lookup::Rcode::NxDomain;
                    prop_assert_eq!(is_denied, is_nx, "{} {}", asked, rtype);
                }
            }
        }
    }
}
