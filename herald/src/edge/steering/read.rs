//! Steering as requests have it, into that of the domain; all that is wrong is collected, each with where it is.

use std::net::IpAddr;

use herald_core::rdata::{format_rtype, parse_rdata, parse_rtype};
use herald_core::steering::{
    self, AnswerMode, City, EndpointRecords, Item, Prefix, Subdivision, answered_type, is_steering_type, item,
};
use herald_core::{MonitorId, Name, Rdatas, Rrset, Rtype};
use herald_wire::api::steering as api;

use crate::edge::names::{Faults, parse_owner, parse_type, shortened};

/// Takes items of one zone; `at` is always the JSON pointer of what is read.
pub struct Reader<'a> {
    pub zone: &'a Name,
    pub faults: &'a mut Faults,
}

impl Reader<'_> {
    fn fault(&mut self, pointer: String, detail: impl Into<String>) {
        self.faults.add(pointer, detail, None, None);
    }

    /// Notes what is wrong with the item by itself; none if something is.
    fn checked(&mut self, item: Item, at: &str) -> Option<Item> {
        let found = steering::faults(&item);
        let is_fine = found.is_empty();
        for steering::Fault { pointer, detail } in found {
            // Of one overlay there is no list.
            let pointer =
                if matches!(item, Item::Overlays(_)) { pointer.trim_start_matches("/0") } else { &pointer };
            self.fault(format!("{at}{pointer}"), detail);
        }
        is_fine.then_some(item)
    }

    pub fn owner(&mut self, text: &str, at: &str) -> Option<Name> {
        parse_owner(text, self.zone).map_err(|e| self.fault(format!("{at}/name"), e.to_string())).ok()
    }

    pub fn rtype(&mut self, text: &str, at: String) -> Option<Rtype> {
        parse_type(text).map_err(|detail| self.fault(at, detail)).ok()
    }

    /// The name of a pool or view.
    pub fn label<'t>(&mut self, text: &'t str, at: String) -> Option<&'t str> {
        let is_label = item::is_label(text);
        if !is_label {
            let detail = "a name has 1 to 63 of a-z, 0-9, `-` and `_`, which `{}` has not";
            self.fault(at, detail.replace("{}", &shortened(text)));
        }
        is_label.then_some(text)
    }

    fn texts<T>(&mut self, texts: &[String], at: &str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut values = Vec::with_capacity(texts.len());
        for (place, text) in texts.iter().enumerate() {
            match read(text) {
                Ok(value) => values.push(value),
                Err(detail) => self.fault(format!("{at}/{place}"), detail),
            }
        }
        values
    }

    fn rdatas(&mut self, rtype: Rtype, records: &[String], at: &str) -> Rdatas {
        self.texts(records, at, |record| parse_rdata(rtype, record).map_err(|e| e.to_string()))
            .into_iter()
            .collect()
    }

    pub fn settings(settings: api::SteeringSettings) -> Item {
        let api::SteeringSettings { ecs, alias_by_region } = settings;
        Item::Settings(steering::Settings { ecs, alias_by_region })
    }

    pub fn pool(&mut self, pool: &api::Pool, at: &str) -> Option<Item> {
        let has_weight = pool.endpoints.iter().any(|endpoint| endpoint.weight.is_some());
        let endpoints = pool.endpoints.iter().enumerate();
        let endpoints =
            endpoints.map(|(place, endpoint)| self.endpoint(endpoint, &format!("{at}/endpoints/{place}")));
        let endpoints: Vec<_> = endpoints.collect();
        let pool = steering::Pool {
            ttl: pool.ttl,
            answer: match pool.answer {
                Some(api::Answer::All) => AnswerMode::All,
                Some(api::Answer::One) => AnswerMode::One,
                Some(api::Answer::UpTo(n)) => AnswerMode::UpTo(n),
                None if has_weight => AnswerMode::One,
                None => AnswerMode::All,
            },
            sticky: pool.sticky.map(|sticky| steering::Sticky {
                ipv4_prefix: sticky.ipv4_prefix,
                ipv6_prefix: sticky.ipv6_prefix,
            }),
            min_healthy: pool.min_healthy,
            endpoints: endpoints.into_iter().collect::<Option<_>>()?,
        };
        self.checked(Item::Pool(pool), at)
    }

    fn endpoint(&mut self, endpoint: &api::Endpoint, at: &str) -> Option<steering::Endpoint> {
        let mut records = Vec::with_capacity(endpoint.records.len());
        let mut is_fine = true;
        for (text, texts) in &endpoint.records {
            let at = format!("{at}/records/{}", text.replace('~', "~0").replace('/', "~1"));
            let Some(rtype) = self.rtype(text, at.clone()) else {
                is_fine = false;
                continue;
            };
            let rdatas = self.rdatas(rtype, texts, &at);
            // Those that are equal are one.
            is_fine &= texts.iter().all(|text| parse_rdata(rtype, text).is_ok());
            records.push(EndpointRecords { rtype, rdatas });
        }
        records.sort_by_key(|records| records.rtype.to_int());
        is_fine.then(|| steering::Endpoint {
            name: endpoint.name.clone(),
            records,
            weight: endpoint.weight.unwrap_or(1),
            state: state(endpoint.state),
            location: endpoint
                .location
                .map(|at| steering::Location { latitude: at.latitude, longitude: at.longitude }),
            bias: endpoint.bias,
            monitor: endpoint.monitor.map(MonitorId),
        })
    }

    pub fn view(&mut self, view: &api::View, at: &str) -> Option<Item> {
        let prefixes = self.texts(&view.prefixes, &format!("{at}/prefixes"), prefix);
        if prefixes.len() < view.prefixes.len() {
            return None;
        }
        self.checked(Item::View(steering::View { prefixes, pops: view.pops.clone() }), at)
    }

    /// A policy for answers of a type, without its name.
    pub fn rules(&mut self, answered: Rtype, policy: &api::PolicyPut, at: &str) -> Option<Item> {
        let rules = &policy.rules;
        let read: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(place, rule)| self.rule(rule, &format!("{at}/rules/{place}")))
            .collect();
        let rules = read.into_iter().collect::<Option<_>>()?;
        let when_all_down = match policy.when_all_down {
            api::WhenAllDown::ServeAll => steering::WhenAllDown::ServeAll,
            api::WhenAllDown::ServeLast => steering::WhenAllDown::ServeLast,
            api::WhenAllDown::NoData => steering::WhenAllDown::NoData,
        };
        let when_isolated = match policy.when_isolated {
            api::WhenIsolated::Hold => steering::WhenIsolated::Hold,
            api::WhenIsolated::Local => steering::WhenIsolated::Local,
        };
        self.checked(Item::Policy(answered, steering::Policy { rules, when_all_down, when_isolated }), at)
    }

    fn rule(&mut self, rule: &api::Rule, at: &str) -> Option<steering::Rule> {
        let api::When { continents, countries, subdivisions, cities, asns, prefixes, pops, views } =
            &rule.when;
        let two = |text: &str| {
            item::letters(text).ok_or_else(|| format!("`{}` is no code of two letters", shortened(text)))
        };
        let subdivision = |text: &str| {
            Subdivision::parse(text)
                .ok_or_else(|| format!("`{}` is no subdivision (ISO 3166-2, as US-CA)", shortened(text)))
        };
        let mut read_cities = Vec::with_capacity(cities.len());
        for (place, city) in cities.iter().enumerate() {
            match city {
                api::City::GeoNames(number) => read_cities.push(City::GeoNames(*number)),
                api::City::Named(api::NamedCity { name, country }) => match two(country) {
                    Ok(country) => read_cities.push(City::Named { name: name.clone(), country }),
                    Err(detail) => self.fault(format!("{at}/when/cities/{place}/country"), detail),
                },
            }
        }
        let when = steering::When {
            continents: self.texts(continents, &format!("{at}/when/continents"), two),
            countries: self.texts(countries, &format!("{at}/when/countries"), two),
            subdivisions: self.texts(subdivisions, &format!("{at}/when/subdivisions"), subdivision),
            cities: read_cities,
            asns: asns.clone(),
            prefixes: self.texts(prefixes, &format!("{at}/when/prefixes"), prefix),
            pops: pops.clone(),
            views: views.clone(),
        };
        let is_whole = when.continents.len() == continents.len()
            && when.countries.len() == countries.len()
            && when.subdivisions.len() == subdivisions.len()
            && when.cities.len() == cities.len()
            && when.prefixes.len() == prefixes.len();
        let (name, pools, nearest) = (rule.name.clone(), rule.pools.clone(), rule.nearest);
        is_whole.then_some(steering::Rule { name, when, pools, nearest })
    }

    /// Owner, type of the answers and rules of a policy.
    pub fn policy(&mut self, policy: &api::Policy, at: &str) -> Option<(Name, Rtype, Item)> {
        let owner = self.owner(&policy.name, at);
        let rtype = self.answered(&policy.rtype, format!("{at}/type"));
        let api::Policy { rules, when_all_down, when_isolated, .. } = policy.clone();
        let body = api::PolicyPut { rules, when_all_down, when_isolated };
        let item = self.rules(rtype.unwrap_or(Rtype::A), &body, at);
        Some((owner?, rtype?, item?))
    }

    /// A type that can be steered.
    pub fn answered(&mut self, text: &str, at: String) -> Option<Rtype> {
        let rtype = self.rtype(text, at.clone())?;
        let is_steerable = steering::STEERABLE.contains(&rtype);
        if !is_steerable {
            let types: Vec<String> = steering::STEERABLE.iter().map(|rtype| format_rtype(*rtype)).collect();
            self.fault(at, format!("{} can't be steered: {} can", format_rtype(rtype), types.join(", ")));
        }
        is_steerable.then_some(rtype)
    }

    /// Owner of an overlay, and what it is.
    pub fn overlay(&mut self, overlay: &api::Overlay, at: &str) -> Option<(Name, steering::Overlay)> {
        let owner = self.owner(&overlay.name, at);
        let rtype = self.overlay_type(&overlay.rtype, format!("{at}/type"));
        let view = self.label(&overlay.view, format!("{at}/view")).map(str::to_owned);
        let body =
            api::OverlayPut { ttl: overlay.ttl, records: overlay.records.clone(), hidden: overlay.hidden };
        let overlay =
            self.overlay_body(view.unwrap_or_else(|| "-".into()), rtype.unwrap_or(Rtype::A), &body, at);
        rtype?;
        Some((owner?, overlay?))
    }

    /// A type that an overlay can be of: `ANY` too.
    pub fn overlay_type(&mut self, text: &str, at: String) -> Option<Rtype> {
        if text.eq_ignore_ascii_case("any") {
            return Some(Rtype::ANY);
        }
        let Some(rtype) = parse_rtype(text) else { return self.rtype(text, at) };
        if is_steering_type(rtype) {
            self.fault(at, format!("{} is a type of steering", format_rtype(rtype)));
            return None;
        }
        Some(rtype)
    }

    pub fn overlay_body(
        &mut self,
        view: String,
        rtype: Rtype,
        body: &api::OverlayPut,
        at: &str,
    ) -> Option<steering::Overlay> {
        let rrset = match (body.hidden, body.ttl) {
            (true, None) if body.records.is_empty() => None,
            (true, _) => {
                self.fault(format!("{at}/hidden"), "what is hidden has no TTL and no records");
                return None;
            }
            (false, None) => {
                self.fault(format!("{at}/ttl"), "records need a TTL; to hide them say `hidden`");
                return None;
            }
            (false, Some(ttl)) => {
                let rdatas = self.rdatas(rtype, &body.records, &format!("{at}/records"));
                if body.records.iter().any(|text| parse_rdata(rtype, text).is_err()) {
                    return None;
                }
                Some(Rrset { ttl, rdatas })
            }
        };
        match self.checked(Item::Overlays(vec![steering::Overlay { view, rtype, rrset }]), at)? {
            Item::Overlays(mut overlays) => overlays.pop(),
            _ => None,
        }
    }
}

/// Whether an endpoint is used.
pub fn state(state: api::EndpointState) -> steering::EndpointState {
    match state {
        api::EndpointState::Enabled => steering::EndpointState::Enabled,
        api::EndpointState::Drained => steering::EndpointState::Drained,
        api::EndpointState::Disabled => steering::EndpointState::Disabled,
    }
}

fn prefix(text: &str) -> Result<Prefix, String> {
    // An IPv6 address with an IPv4 one in it is written as such and would match nobody.
    match text.parse::<Prefix>() {
        Ok(prefix) if matches!(prefix.address(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) => {
            Err(format!("`{}` is an IPv4 address within IPv6: write the IPv4 prefix", shortened(text)))
        }
        Ok(prefix) => Ok(prefix),
        Err(_) => Err(format!(
            "`{}` is no prefix: write an address, a slash and a length whose other bits are zero, as in 192.0.2.0/24",
            shortened(text)
        )),
    }
}

/// The type that a policy's RRset answers, if it is one.
pub fn is_policy(rtype: Rtype) -> bool {
    answered_type(rtype).is_some()
}
