//! Steering of the domain as the API's types.

use herald_core::rdata::{format_rdata, format_rtype};
use herald_core::steering::{
    self, AnswerMode, City, EndpointState, Item, answered_type, describe_type, held_name,
};
use herald_core::zone::Zone;
use herald_core::{Name, Rdatas, RrKey, Rrset, Rtype};
use herald_wire::api::steering as api;

use crate::edge::names::parse_owner;

/// All of a zone's steering.
pub fn document(zone: &Zone) -> api::SteeringDocument {
    let mut document = api::SteeringDocument::default();
    if zone.content.steering().is_none() {
        return document;
    }
    for (key, item) in items(zone) {
        match item {
            Item::Settings(settings) => document.settings = self::settings(&settings),
            Item::Pool(pool) => _ = document.pools.insert(held(&key), self::pool(&pool)),
            Item::View(view) => _ = document.views.insert(held(&key), self::view(&view)),
            Item::Policy(answered, policy) => {
                document.policies.push(self::policy(&zone.name, &key.owner, answered, &policy));
            }
            Item::Overlays(overlays) => {
                let overlays = overlays.iter().map(|one| overlay(&zone.name, &key.owner, one));
                document.overlays.extend(overlays);
            }
        }
    }
    document
}

/// The items of a zone's steering, in canonical order.
fn items(zone: &Zone) -> impl Iterator<Item = (RrKey, Item)> {
    let steering = zone.content.iter().filter(|(key, _)| steering::is_steering_type(key.rtype));
    steering.filter_map(|(key, rrset)| Some((key.clone(), Item::read(key.rtype, &rrset.rdatas).ok()?)))
}

/// An RRset of steering as a difference tells it.
pub fn item(zone: &Name, key: &RrKey, rrset: &Rrset) -> api::SteeringItem {
    let mut shown = api::SteeringItem { title: title(zone, key), ..api::SteeringItem::default() };
    match Item::read(key.rtype, &rrset.rdatas) {
        Ok(Item::Settings(settings)) => shown.settings = Some(self::settings(&settings)),
        Ok(Item::Pool(pool)) => shown.pool = Some(self::pool(&pool)),
        Ok(Item::View(view)) => shown.view = Some(self::view(&view)),
        Ok(Item::Policy(answered, policy)) => {
            shown.policy = Some(self::policy(zone, &key.owner, answered, &policy));
        }
        Ok(Item::Overlays(overlays)) => {
            shown.overlays = overlays.iter().map(|one| overlay(zone, &key.owner, one)).collect();
        }
        Err(_) => {}
    }
    shown
}

/// What an RRset of steering is, in a few words: `policy www A`, `pool eu`.
pub fn title(zone: &Name, key: &RrKey) -> String {
    let owner = || relative(zone, &key.owner);
    match (key.rtype, answered_type(key.rtype)) {
        (_, Some(answered)) => format!("policy {} {}", owner(), format_rtype(answered)),
        (steering::POOL | steering::VIEW, _) => format!("{} {}", describe_type(key.rtype), held(key)),
        (steering::OVERLAY, _) => format!("overlays {}", owner()),
        _ => describe_type(key.rtype),
    }
}

fn held(key: &RrKey) -> String {
    held_name(&key.owner).unwrap_or_default()
}

/// A name as it is written in its zone: what is read as the same name there.
pub fn relative(zone: &Name, owner: &Name) -> String {
    let full = owner.to_string();
    if owner == zone {
        return "@".into();
    }
    let short = full.strip_suffix(&zone.to_string()).and_then(|short| short.strip_suffix('.'));
    match short {
        Some(short) if parse_owner(short, zone).as_ref() == Ok(owner) => short.to_owned(),
        _ => full,
    }
}

pub fn settings(settings: &steering::Settings) -> api::SteeringSettings {
    let steering::Settings { ecs, alias_by_region } = *settings;
    api::SteeringSettings { ecs, alias_by_region }
}

pub fn pool(pool: &steering::Pool) -> api::Pool {
    api::Pool {
        ttl: pool.ttl,
        answer: Some(match pool.answer {
            AnswerMode::All => api::Answer::All,
            AnswerMode::One => api::Answer::One,
            AnswerMode::UpTo(n) => api::Answer::UpTo(n),
        }),
        sticky: pool
            .sticky
            .map(|sticky| api::Sticky { ipv4_prefix: sticky.ipv4_prefix, ipv6_prefix: sticky.ipv6_prefix }),
        min_healthy: pool.min_healthy,
        endpoints: pool.endpoints.iter().map(endpoint).collect(),
    }
}

fn endpoint(endpoint: &steering::Endpoint) -> api::Endpoint {
    let records = endpoint.records.iter();
    api::Endpoint {
        name: endpoint.name.clone(),
        records: records.map(|one| (format_rtype(one.rtype), texts(one.rtype, &one.rdatas))).collect(),
        weight: Some(endpoint.weight),
        state: match endpoint.state {
            EndpointState::Enabled => api::EndpointState::Enabled,
            EndpointState::Drained => api::EndpointState::Drained,
            EndpointState::Disabled => api::EndpointState::Disabled,
        },
        location: endpoint
            .location
            .map(|at| api::Location { latitude: at.latitude, longitude: at.longitude }),
        bias: endpoint.bias,
        monitor: endpoint.monitor.map(|monitor| monitor.0),
    }
}

pub fn view(view: &steering::View) -> api::View {
    api::View { prefixes: view.prefixes.iter().map(ToString::to_string).collect(), pops: view.pops.clone() }
}

pub fn policy(zone: &Name, owner: &Name, answered: Rtype, policy: &steering::Policy) -> api::Policy {
    api::Policy {
        name: relative(zone, owner),
        rtype: format_rtype(answered),
        rules: policy.rules.iter().map(rule).collect(),
        when_all_down: match policy.when_all_down {
            steering::WhenAllDown::ServeAll => api::WhenAllDown::ServeAll,
            steering::WhenAllDown::ServeLast => api::WhenAllDown::ServeLast,
            steering::WhenAllDown::NoData => api::WhenAllDown::NoData,
        },
        when_isolated: match policy.when_isolated {
            steering::WhenIsolated::Hold => api::WhenIsolated::Hold,
            steering::WhenIsolated::Local => api::WhenIsolated::Local,
        },
    }
}

fn rule(rule: &steering::Rule) -> api::Rule {
    let when = &rule.when;
    let codes = |codes: &[[u8; 2]]| codes.iter().map(code).collect();
    let city = |city: &City| match city {
        City::GeoNames(number) => api::City::GeoNames(*number),
        City::Named { name, country } => {
            api::City::Named(api::NamedCity { name: name.clone(), country: code(country) })
        }
    };
    api::Rule {
        name: rule.name.clone(),
        when: api::When {
            continents: codes(&when.continents),
            countries: codes(&when.countries),
            subdivisions: when.subdivisions.iter().map(ToString::to_string).collect(),
            cities: when.cities.iter().map(city).collect(),
            asns: when.asns.clone(),
            prefixes: when.prefixes.iter().map(ToString::to_string).collect(),
            pops: when.pops.clone(),
            views: when.views.clone(),
        },
        pools: rule.pools.clone(),
        nearest: rule.nearest,
    }
}

fn code(code: &[u8; 2]) -> String {
    code.escape_ascii().to_string()
}

pub fn overlay(zone: &Name, owner: &Name, overlay: &steering::Overlay) -> api::Overlay {
    let rtype = overlay.rtype;
    api::Overlay {
        view: overlay.view.clone(),
        name: relative(zone, owner),
        rtype: if rtype == Rtype::ANY { "ANY".into() } else { format_rtype(rtype) },
        ttl: overlay.rrset.as_ref().map(|rrset| rrset.ttl),
        records: overlay.rrset.as_ref().map(|rrset| texts(rtype, &rrset.rdatas)).unwrap_or_default(),
        hidden: overlay.rrset.is_none(),
    }
}

fn texts(rtype: Rtype, rdatas: &Rdatas) -> Vec<String> {
    rdatas.iter().map(|rdata| format_rdata(rtype, rdata)).collect()
}
