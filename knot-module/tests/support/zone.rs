//! Zones with steering, made for tests.

use std::fmt::Write as _;

use herald_core::rdata::parse_rdata;
use herald_core::steering::{
    AnswerMode, Endpoint, EndpointRecords, EndpointState, Item, Policy, Pool, Rule, Settings, View, When,
    placeholder, policy_key, pool_key, settings_key, view_key,
};
use herald_core::{Generation, Name, Rdatas, RrKey, Rrset, Rtype, ZoneId};
use steering::Part;
use steering::link::{ToModule, ZoneHead};

use super::agent::generation;

/// A zone: its records as text, and its steering.
#[derive(Clone, Debug)]
pub struct TestZone {
    pub id: ZoneId,
    /// With a dot at its end.
    pub apex: String,
    pub serial: u32,
    /// Lines of a zone file, without the SOA and the placeholders.
    pub records: Vec<String>,
    pub steering: Vec<(RrKey, Rrset)>,
    /// Whether knotd doesn't have it.
    pub is_private: bool,
}

impl TestZone {
    pub fn new(apex: &str) -> TestZone {
        let id = apex.bytes().fold(7, |id: u128, octet| id.wrapping_mul(257).wrapping_add(octet.into()));
        TestZone {
            id: ZoneId(id),
            apex: apex.into(),
            serial: 1,
            records: vec!["@ NS ns".into(), "ns A 192.0.2.1".into()],
            steering: vec![],
            is_private: false,
        }
    }

    #[must_use]
    pub fn records(mut self, lines: &[&str]) -> TestZone {
        self.records.extend(lines.iter().map(|line| (*line).to_owned()));
        self
    }

    #[must_use]
    pub fn pool(mut self, name: &str, pool: Pool) -> TestZone {
        let key = pool_key(&self.apex(), name).unwrap();
        self.put(key, &Item::Pool(pool));
        self
    }

    /// A policy whose only rule leads everybody to these pools.
    #[must_use]
    pub fn policy(self, owner: &str, rtype: Rtype, pools: &[&str]) -> TestZone {
        self.rules(owner, rtype, vec![rule(When::default(), pools)])
    }

    #[must_use]
    pub fn rules(mut self, owner: &str, rtype: Rtype, rules: Vec<Rule>) -> TestZone {
        let key = policy_key(&self.name(owner), rtype).unwrap();
        self.put(key, &Item::Policy(rtype, Policy::of_rules(rules)));
        self
    }

    #[must_use]
    pub fn view(mut self, name: &str, view: View) -> TestZone {
        let key = view_key(&self.apex(), name).unwrap();
        self.put(key, &Item::View(view));
        self
    }

    #[must_use]
    pub fn ecs(mut self) -> TestZone {
        let key = settings_key(&self.apex());
        self.put(key, &Item::Settings(Settings { ecs: true, ..Settings::default() }));
        self
    }

    #[must_use]
    pub fn serial(mut self, serial: u32) -> TestZone {
        self.serial = serial;
        self
    }

    pub fn put(&mut self, key: RrKey, item: &Item) {
        self.steering.retain(|(other, _)| *other != key);
        self.steering.push((key, item.write().unwrap()));
    }

    pub fn apex(&self) -> Name {
        Name::parse(&self.apex).unwrap()
    }

    /// A name below the apex, or the apex as `@`.
    pub fn name(&self, relative: &str) -> Name {
        let text = if relative == "@" { self.apex.clone() } else { format!("{relative}.{}", self.apex) };
        Name::parse(&text).unwrap()
    }

    pub fn generation(&self) -> Generation {
        generation(self.serial)
    }

    pub fn head(&self) -> ZoneHead {
        let soa = format!("ns.{0} admin.{0} {1} 3600 600 86400 300", self.apex, self.serial);
        let rdata = parse_rdata(Rtype::SOA, &soa).unwrap();
        ZoneHead {
            zone: self.id,
            name: self.apex(),
            generation: self.generation(),
            serial: self.serial,
            private: self.is_private,
            soa: Rrset { ttl: 3600, rdatas: Rdatas::single(&rdata) },
        }
    }

    /// What tells the module of all of it.
    pub fn messages(&self) -> [ToModule; 3] {
        [
            ToModule::Begin(self.head()),
            ToModule::Part { zone: self.id, rrsets: self.steering.clone() },
            ToModule::End { zone: self.id },
        ]
    }

    /// The steering as the module has it.
    pub fn part(&self) -> Part {
        Part::compile(&self.apex(), self.steering.clone()).unwrap()
    }

    /// The zone file: a placeholder in each policy's place.
    pub fn file(&self) -> String {
        let mut text = format!(
            "$ORIGIN {}\n$TTL 300\n@ 3600 SOA ns admin {} 3600 600 86400 300\n",
            self.apex, self.serial
        );
        for line in &self.records {
            let _ = writeln!(text, "{line}");
        }
        for (key, _) in &self.steering {
            let Some((rtype, rrset)) = placeholder(key.rtype) else { continue };
            for rdata in &rrset.rdatas {
                let hex: String = rdata.iter().map(|octet| format!("{octet:02x}")).collect();
                let (owner, ttl, number, bytes) = (&key.owner, rrset.ttl, rtype.to_int(), rdata.len());
                let _ = writeln!(text, "{owner}. {ttl} TYPE{number} \\# {bytes} {hex}");
            }
        }
        text.replace("..", ".")
    }
}

/// A rule.
pub fn rule(when: When, pools: &[&str]) -> Rule {
    Rule { name: None, when, pools: pools.iter().map(|pool| (*pool).to_owned()).collect(), nearest: false }
}

/// A pool of endpoints of one record each, with their weights.
pub fn pool(answer: AnswerMode, rtype: Rtype, endpoints: &[(&str, u32)]) -> Pool {
    let endpoints = endpoints.iter().enumerate().map(|(place, (text, weight))| Endpoint {
        name: format!("e{place}"),
        records: vec![EndpointRecords { rtype, rdatas: Rdatas::single(&parse_rdata(rtype, text).unwrap()) }],
        weight: *weight,
        state: EndpointState::Enabled,
        location: None,
        bias: 0,
        monitor: None,
    });
    Pool { ttl: 60, answer, sticky: None, min_healthy: 0, endpoints: endpoints.collect() }
}
