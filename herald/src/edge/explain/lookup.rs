//! Which name and RRset of a zone answers a question (RFC 1034 §4.3.2), for insiders of views with what these have.

use std::net::IpAddr;

use herald_core::steering::{self, Item, Overlay, Policy, answered_type, served_type};
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

/// Finds it.
pub fn find(zone: &Zone, name: &Name, rtype: Rtype, views: &[String]) -> Found {
    let has = |owner: &Name, rtype: Rtype| zone.content.get(&RrKey::new(owner.clone(), rtype)).is_some();
    let above: Vec<Name> = std::iter::successors(name.parent(), Name::parent)
        .take_while(|above| above.is_at_or_below(&zone.name))
        .collect();
    for owner in above.iter().rev() {
        if *owner != zone.name && has(owner, Rtype::NS) {
            return Found::Delegated(owner.clone());
        }
        if has(owner, Rtype::DNAME) {
            return Found::Redirected(owner.clone());
        }
    }
    if *name != zone.name && has(name, Rtype::NS) && rtype != Rtype::DS {
        return Found::Delegated(name.clone());
    }
    if exists(zone, name, views) {
        return at(zone, name, rtype, views);
    }
    // The closest encloser's wildcard (RFC 4592 §3.3.1).
    for encloser in &above {
        if exists(zone, encloser, views) {
            let Ok(wildcard) = encloser.child("*") else { break };
            if exists(zone, &wildcard, views) {
                return at(zone, &wildcard, rtype, views);
            }
            break;
        }
    }
    Found::NoSuchName
}

/// Whether a name is there for insiders of these views: it has something, or lies above what has.
fn exists(zone: &Zone, name: &Name, views: &[String]) -> bool {
    let is_there = |key: &RrKey, rrset: &Rrset| match key.rtype {
        steering::OVERLAY => of_views(key, rrset, views).iter().any(|overlay| overlay.rrset.is_some()),
        rtype => served_type(rtype).is_some() && !is_hidden(zone, &key.owner, rtype, views),
    };
    *name == zone.name
        || zone.content.at(name).any(|(key, rrset)| is_there(key, rrset))
        || zone.content.below(name).any(|(key, rrset)| is_there(key, rrset))
}

/// Whether a view hides what everybody else gets of a type at a name.
fn is_hidden(zone: &Zone, owner: &Name, rtype: Rtype, views: &[String]) -> bool {
    let rtype = served_type(rtype);
    overlays_at(zone, owner, views).iter().any(|overlay| {
        overlay.rrset.is_none() && (overlay.rtype == Rtype::ANY || Some(overlay.rtype) == rtype)
    })
}

fn overlays_at(zone: &Zone, owner: &Name, views: &[String]) -> Vec<Overlay> {
    if views.is_empty() {
        return Vec::new();
    }
    let key = RrKey::new(owner.clone(), steering::OVERLAY);
    zone.content.get(&key).map(|rrset| of_views(&key, rrset, views)).unwrap_or_default()
}

fn of_views(key: &RrKey, rrset: &Rrset, views: &[String]) -> Vec<Overlay> {
    match Item::read(key.rtype, &rrset.rdatas) {
        Ok(Item::Overlays(overlays)) => {
            overlays.into_iter().filter(|overlay| views.contains(&overlay.view)).collect()
        }
        _ => Vec::new(),
    }
}

/// What a name that is there has of a type, or a CNAME in its place.
fn at(zone: &Zone, owner: &Name, rtype: Rtype, views: &[String]) -> Found {
    let overlays = overlays_at(zone, owner, views);
    for wanted in [rtype, Rtype::CNAME] {
        // Of several views the first in the order of their names counts.
        let of_type = overlays.iter().find(|overlay| overlay.rtype == wanted);
        if let Some(Overlay { rrset: Some(rrset), .. }) = of_type {
            let answer = Some((wanted, rrset.clone()));
            return Found::Overlay { owner: owner.clone(), overlays, answer };
        }
        if of_type.is_some() || overlays.iter().any(|overlay| overlay.rtype == Rtype::ANY) {
            continue;
        }
        if wanted == Rtype::SOA && *owner == zone.name {
            return Found::Records { owner: owner.clone(), rtype: wanted, rrset: zone.soa_rrset() };
        }
        if let Some(rrset) = zone.content.get(&RrKey::new(owner.clone(), wanted)) {
            return Found::Records { owner: owner.clone(), rtype: wanted, rrset: rrset.clone() };
        }
        let policy = steering::policy_key(owner, wanted);
        let policy = policy.and_then(|key| Some((zone.content.get(&key)?, key)));
        if let Some((rrset, key)) = policy
            && let (Ok(Item::Policy(_, policy)), Some(rtype)) =
                (Item::read(key.rtype, &rrset.rdatas), answered_type(key.rtype))
        {
            return Found::Policy { owner: owner.clone(), rtype, policy };
        }
    }
    if overlays.is_empty() {
        Found::NoData(owner.clone())
    } else {
        Found::Overlay { owner: owner.clone(), overlays, answer: None }
    }
}
