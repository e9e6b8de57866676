//! Random histories against what must always hold.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::account::{NamePattern, Verb, ZonePattern};
use crate::authorise::Access;
use crate::command::{EditOp, Insiders, RrsetEdit, RrsetMatch, ZoneEdit};
use crate::history::{ChangeKind, FoldPlan, ZoneFold};
use crate::idempotency::KeyHolder;
use crate::limits::{Limit, Usage};
use crate::log::{decode_outline, decode_payload, encode_inline};
use crate::state::find::{NamePart, ZoneQuery};
use crate::steering::{Item, Prefix, VIEW, View, view_key};
use crate::zone::serial_is_newer;
use crate::{Rdatas, RrKey};

/// Names that meet, enclose each other and are public suffixes.
const ZONES: [&str; 8] = [
    "example.com",
    "sub.example.com",
    "deep.er.sub.example.com",
    "example.net",
    "a.example.net",
    "b.example.net",
    "co.uk",
    "shop.co.uk",
];

const OWNERS: [&str; 10] =
    ["@", "www", "*", "a", "b.a", "c.b.a", "*.a", "ns.a", "sub", "out.of.zone.example."];

/// Prefixes, some in others.
const PREFIXES: [&str; 8] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "0.0.0.0/0",
    "::/0",
];

/// None stands for everybody.
fn random_prefix(n: u8) -> Option<Prefix> {
    Some(PREFIXES[usize::from(n) % 16 % 9..].first()?.parse().unwrap())
}

/// Types, each with some RDATA.
const DATA: [(Rtype, &[&str]); 8] = [
    (Rtype::A, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
    (Rtype::CNAME, &["www", "a", "x.example.org."]),
    (Rtype::DNAME, &["example.org.", "a"]),
    (Rtype::NS, &["ns.a", "ns.example.org.", "ns1.herald.example."]),
    (Rtype::TXT, &["one", "two"]),
    (Rtype::MX, &["10 www", "20 a"]),
    (Rtype::DS, &["1 8 99 00"]),
    (Rtype::AAAA, &["2001:db8::1"]),
];

/// One step. Numbers choose among what there is then.
#[derive(Clone, Debug)]
enum Step {
    Edit { by: u8, zones: Vec<(u8, Vec<Edit>)>, stale: bool },
    Replace { by: u8, zone: u8, edits: Vec<Edit>, stage: bool, floor: Option<u16> },
    Create { by: u8, name: u8, content: Option<Vec<Edit>>, stage: bool, floor: Option<u16> },
    CreatePrivate { by: u8, name: u8, content: Option<Vec<Edit>>, stage: bool, prefix: u8 },
    PutView { by: u8, zone: u8, prefix: u8 },
    Grant { by: u8, tenant: u8, prefixes: Vec<u8> },
    Delete { by: u8, zone: u8 },
    Activate { by: u8, zone: u8, evidence: u8 },
    Admit { by: u8, zone: u8 },
    Label { by: u8, zone: u8, value: u8 },
    MoveZone { by: u8, zone: u8, set: u8 },
    UpdateSet { by: u8, set: u8, hosts: u8, is_default: bool },
    CreateSet { by: u8 },
    DeleteSet { by: u8, set: u8 },
    CreateToken { by: u8, scope: u8, expires: bool },
    RevokeToken { by: u8, token: u8 },
    Tenant { by: u8, tenant: u8, enabled: bool },
    Limit { by: u8, tenant: u8, limit: u8, value: Option<u8> },
    DeleteTenant { by: u8, tenant: u8 },
    Pop { by: u8, pop: u8, enabled: bool },
    Epoch,
    Wait { ms: u16 },
}

#[derive(Clone, Debug)]
struct Edit {
    owner: u8,
    rtype: u8,
    op: u8,
    data: u8,
    ttl: u8,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = any::<(u8, u8, u8, u8, u8)>().prop_map(|(owner, rtype, op, data, ttl)| Edit {
        owner,
        rtype,
        op,
        data,
        ttl,
    });
    prop::collection::vec(edit, 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let n = any::<u8>;
    let floor = || prop::option::weighted(0.3, any::<u16>());
    prop_oneof![
        12 => (n(), prop::collection::vec((n(), edits()), 1..3), prop::bool::weighted(0.05))
            .prop_map(|(by, zones, stale)| Step::Edit { by, zones, stale }),
        2 => (n(), n(), edits(), any::<bool>(), floor())
            .prop_map(|(by, zone, edits, stage, floor)| Step::Replace { by, zone, edits, stage, floor }),
        6 => (n(), n(), prop::option::of(edits()), any::<bool>(), floor())
            .prop_map(|(by, name, content, stage, floor)| Step::Create { by, name, content, stage, floor }),
        4 => (n(), n(), prop::option::of(edits()), any::<bool>(), n())
            .prop_map(|(by, name, content, stage, prefix)| Step::CreatePrivate { by, name, content, stage, prefix }),
        2 => (n(), n(), n()).prop_map(|(by, zone, prefix)| Step::PutView { by, zone, prefix }),
        2 => (n(), n(), prop::collection::vec(n(), 0..3))
            .prop_map(|(by, tenant, prefixes)| Step::Grant { by, tenant, prefixes }),
        2 => (n(), n()).prop_map(|(by, zone)| Step::Delete { by, zone }),
        3 => (n(), n(), n()).prop_map(|(by, zone, evidence)| Step::Activate { by, zone, evidence }),
        3 => (n(), n()).prop_map(|(by, zone)| Step::Admit { by, zone }),
        2 => (n(), n(), n()).prop_map(|(by, zone, value)| Step::Label { by, zone, value }),
        1 => (n(), n(), n()).prop_map(|(by, zone, set)| Step::MoveZone { by, zone, set }),
        1 => (n(), n(), n(), any::<bool>())
            .prop_map(|(by, set, hosts, is_default)| Step::UpdateSet { by, set, hosts, is_default }),
        1 => n().prop_map(|by| Step::CreateSet { by }),
        1 => (n(), n()).prop_map(|(by, set)| Step::DeleteSet { by, set }),
        2 => (n(), n(), any::<bool>()).prop_map(|(by, scope, expires)| Step::CreateToken { by, scope, expires }),
        1 => (n(), n()).prop_map(|(by, token)| Step::RevokeToken { by, token }),
        1 => (n(), n(), prop::bool::weighted(0.9))
            .prop_map(|(by, tenant, enabled)| Step::Tenant { by, tenant, enabled }),
        1 => (n(), n(), n(), any::<Option<u8>>())
            .prop_map(|(by, tenant, limit, value)| Step::Limit { by, tenant, limit, value }),
        1 => (n(), n()).prop_map(|(by, tenant)| Step::DeleteTenant { by, tenant }),
        1 => (n(), n(), any::<bool>()).prop_map(|(by, pop, enabled)| Step::Pop { by, pop, enabled }),
        1 => Just(Step::Epoch),
        2 => any::<u16>().prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn what_must_always_hold(steps in prop::collection::vec(step(), 1..120)) {
        let mut history = History::new();
        for step in &steps {
            history.take(step);
        }
        history.check_log();
        history.check_checkpoint();
        history.check_zones_of_the_past();
        history.check_sharing();
    }
}

struct History {
    world: World,
    principals: Vec<Principal>,
    /// The last serial published under each name.
    published: HashMap<(Option<TenantId>, Name), (ZoneId, Generation, u32)>,
    /// States long past, to be compared with.
    past: Vec<State>,
}

fn pick<T: Clone>(items: &[T], n: u8) -> Option<T> {
    items.get(usize::from(n) % items.len().max(1)).cloned()
}

impl History {
    fn new() -> History {
        let mut world = World::new();
        let mut principals = vec![world.operator];
        for (n, tenant) in ["one", "two", "three"].into_iter().enumerate() {
            let all = world.tenant(tenant);
            world.grant(tenant_of(all), &[PREFIXES[2 * n]]).unwrap();
            // Most of what happens is done by those who may.
            principals.extend([all; 4]);
        }
        let past = vec![world.state.clone()];
        History { world, principals, published: HashMap::new(), past }
    }

    fn take(&mut self, step: &Step) {
        if let Step::Wait { ms } = step {
            self.world.time_ms += u64::from(*ms);
            return;
        }
        let Some((principal, action)) = self.command(step) else { return };
        let before = self.world.state.clone();
        let result = self.world.run(principal, action);
        match &result {
            Err(_) => assert_eq!(before.revision(), self.world.state.revision()),
            Ok(decision) => {
                if let Some(Subject::Token(token)) = decision.subject
                    && let Some(token) = self.world.state.token(token)
                {
                    let token = (token.tenant, token.id);
                    self.principals.push(match token {
                        (Some(tenant), token) => Principal::Tenant { tenant, token },
                        (None, token) => Principal::Operator { token },
                    });
                }
                self.check_others_untouched(principal, &before, &decision.changes);
            }
        }
        self.check_zones();
        // Now and then: it takes long.
        if self.world.state.revision().is_multiple_of(4) {
            check_lists(&self.world.state);
        }
        self.check_limits(&before);
        self.check_published_serials();
        self.check_diffs(&before);
    }

    // ---------------------------------------------------------------------------------- making commands

    fn command(&mut self, step: &Step) -> Option<(Principal, Action)> {
        let state = self.world.state.clone();
        let zones: Vec<ZoneId> = state.zones().map(|zone| zone.id).collect();
        let pending: Vec<ZoneId> =
            state.zones().filter(|zone| !zone.is_served()).map(|zone| zone.id).collect();
        let sets: Vec<NsSetId> = state.ns_sets().map(|set| set.id).collect();
        let tenants: Vec<TenantId> = state.tenants(None).map(|tenant| tenant.id).collect();
        let pops: Vec<_> = state.pops().map(|pop| pop.id).collect();
        let tokens: Vec<TokenId> = state.tokens(None).map(|token| token.id).collect();
        let by = |n: u8| pick(&self.principals, n).expect("there are some");
        let operator = |n: u8| if n.is_multiple_of(8) { by(n) } else { self.world.operator };
        // Mostly whose zone it is.
        let of_zone = |n: u8, id: ZoneId| {
            let holder = state.zone(id).map(|zone| zone.tenant);
            let is_theirs =
                |p: &&Principal| matches!(p, Principal::Tenant { tenant, .. } if Some(*tenant) == holder);
            let theirs: Vec<Principal> = self.principals.iter().filter(is_theirs).copied().collect();
            pick(&theirs, n).filter(|_| !n.is_multiple_of(8)).unwrap_or(by(n))
        };
        let zone_ref = |n: u8, id: ZoneId| match state.zone(id) {
            Some(zone) if n % 2 == 1 && zone.is_private() => ZoneRef::Private(zone.name.clone()),
            Some(zone) if n % 2 == 1 => ZoneRef::Name(zone.name.clone()),
            _ => ZoneRef::Id(id),
        };
        Some(match step {
            Step::Edit { by, zones: edited, stale } => {
                let first = pick(&zones, edited[0].0)?;
                let revision = state.zone(first)?.revision;
                let edit = |(zone, edits): &(u8, Vec<Edit>)| {
                    let zone = pick(&zones, *zone)?;
                    let edits = rrset_edits(state.zone(zone)?, edits);
                    Some(ZoneEdit { zone: ZoneRef::Id(zone), if_match: None, edits })
                };
                let mut zones = edited.iter().map(edit).collect::<Option<Vec<_>>>()?;
                zones[0].if_match = Some(revision - u64::from(*stale));
                (of_zone(*by, first), Action::EditZones { zones })
            }
            Step::Replace { by, zone, edits, stage, floor } => {
                let zone = state.zone(pick(&zones, *zone)?)?;
                let content = random_content(&zone.name, edits)?;
                let content = self.prepare(content, *stage, *floor);
                let action = Action::ReplaceZone { zone: ZoneRef::Id(zone.id), base: zone.revision, content };
                let holder = self
                    .principals
                    .iter()
                    .find(|p| matches!(p, Principal::Tenant { tenant, .. } if *tenant == zone.tenant));
                (pick(&self.principals, *by).filter(|_| by % 8 == 0).or(holder.copied())?, action)
            }
            Step::Create { by, name: n, content, stage, floor } => {
                let zone = name(pick(&ZONES, *n)?);
                let principal = pick(&self.principals, *by)?;
                let content = match content {
                    Some(edits) => Some(self.prepare(random_content(&zone, edits)?, *stage, *floor)),
                    None => None,
                };
                let tenant = match principal {
                    Principal::Tenant { tenant, .. } => Some(tenant),
                    _ => pick(&tenants, *n),
                };
                let labels = BTreeMap::new();
                (
                    principal,
                    Action::CreateZone { name: zone, tenant, ns_set: None, labels, content, insiders: None },
                )
            }
            Step::CreatePrivate { by, name: n, content, stage, prefix } => {
                let zone = name(pick(&ZONES, *n)?);
                let principal = pick(&self.principals, *by)?;
                let content = match content {
                    Some(edits) => Some(self.prepare(random_content(&zone, edits)?, *stage, None)),
                    None => None,
                };
                let tenant = match principal {
                    Principal::Tenant { tenant, .. } => tenant,
                    _ => pick(&tenants, *n)?,
                };
                let granted = state.tenant(tenant)?.source_prefixes.clone().unwrap_or_default();
                // Mostly from where it may.
                let own = pick(&granted, *prefix).filter(|_| !prefix.is_multiple_of(4));
                let prefixes = own.into_iter().chain(random_prefix(*prefix).filter(|_| own.is_none()));
                let insiders = Some(Insiders::View(View { prefixes: prefixes.collect(), pops: Vec::new() }));
                let (labels, tenant) = (BTreeMap::new(), Some(tenant));
                (
                    principal,
                    Action::CreateZone { name: zone, tenant, ns_set: None, labels, content, insiders },
                )
            }
            Step::PutView { by, zone, prefix } => {
                let id = pick(&zones, *zone)?;
                let prefixes = random_prefix(*prefix).into_iter().collect();
                let rrset = Item::View(View { prefixes, pops: Vec::new() }).write().ok()?;
                let key = view_key(&state.zone(id)?.name, pick(&["insiders", "more"], *prefix)?).ok()?;
                let op = EditOp::Put { ttl: rrset.ttl, rdatas: rrset.rdatas };
                let edits = vec![RrsetEdit { key, if_match: None, op }];
                let edit = ZoneEdit { zone: zone_ref(*by, id), if_match: None, edits };
                (of_zone(*by, id), Action::EditZones { zones: vec![edit] })
            }
            Step::Grant { by, tenant, prefixes } => {
                let prefixes = prefixes.iter().filter_map(|n| random_prefix(*n)).collect();
                (operator(*by), grant(pick(&tenants, *tenant)?, prefixes))
            }
            Step::Delete { by, zone } => {
                let id = pick(&zones, *zone)?;
                (of_zone(*by, id), Action::DeleteZone { zone: zone_ref(*by, id), if_match: None })
            }
            Step::Activate { by: n, zone, evidence } => {
                let evidence =
                    [Evidence::Txt, Evidence::Delegation, Evidence::Operator][usize::from(evidence % 3)];
                let principal = if n.is_multiple_of(8) { by(*n) } else { Principal::System };
                let candidates = if n.is_multiple_of(9) { &zones } else { &pending };
                (
                    principal,
                    Action::ActivateZone { zone: ZoneRef::Id(pick(candidates, *zone)?), by: evidence },
                )
            }
            Step::Admit { by: n, zone } => {
                let zone = state.zone(pick(&pending, *zone)?)?;
                (by(*n), Action::AdmitZone { name: zone.name.clone(), code: zone.challenge.clone() })
            }
            Step::Label { by, zone, value } => {
                let id = pick(&zones, *zone)?;
                let label = |key: &str, value: u8| (key.to_owned(), value.to_string());
                let labels =
                    [label("k", value % 3), label("l", value % 2)].into_iter().take(usize::from(value % 4));
                let labels = Some(labels.collect());
                let zone = zone_ref(*by, id);
                (of_zone(*by, id), Action::UpdateZone { zone, if_match: None, labels, ns_set: None })
            }
            Step::MoveZone { by, zone, set } => {
                let id = pick(&zones, *zone)?;
                let (zone, ns_set) = (zone_ref(*by, id), pick(&sets, *set));
                (of_zone(*by, id), Action::UpdateZone { zone, if_match: None, labels: None, ns_set })
            }
            Step::UpdateSet { by, set, hosts, is_default } => {
                let set = pick(&sets, *set)?;
                let hosts: Vec<String> =
                    (0..=hosts % 3).map(|n| format!("ns{n}.{}.example", hosts % 5)).collect();
                let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
                let name = state.ns_set(set)?.name.clone();
                let input = NsSetInput { is_default: *is_default, ..ns_set_input(&name, &hosts) };
                (operator(*by), Action::UpdateNsSet { set, input })
            }
            Step::CreateSet { by } => {
                let name = format!("set{}", by % 6);
                (
                    operator(*by),
                    Action::CreateNsSet(ns_set_input(&name, &["ns1.set.example", "ns2.set.example"])),
                )
            }
            Step::DeleteSet { by, set } => (operator(*by), Action::DeleteNsSet { set: pick(&sets, *set)? }),
            Step::CreateToken { by: n, scope, expires } => {
                let principal = by(*n);
                let tenant = match principal {
                    Principal::Tenant { tenant, .. } => Some(tenant),
                    _ => pick(&tenants, *scope),
                };
                let scopes = [
                    Scope::default(),
                    Scope { verbs: vec![Verb::Read], ..Scope::default() },
                    Scope { zones: vec![ZonePattern::Below(name("com"))], ..Scope::default() },
                    Scope { names: vec![NamePattern::FirstLabel("www".into())], ..Scope::default() },
                ];
                let expires_at_ms = expires.then_some(self.world.time_ms + 30_000);
                let scope = pick(&scopes, *scope)?;
                let description = String::new();
                let secret_hash = [*n; 32];
                (principal, Action::CreateToken { tenant, description, scope, expires_at_ms, secret_hash })
            }
            Step::RevokeToken { by: n, token } => {
                // The first operator's is kept, or nothing more would happen.
                let token = pick(&tokens, *token).filter(|token| *token != token_of(self.world.operator))?;
                (by(*n), Action::RevokeToken { token })
            }
            Step::Tenant { by, tenant, enabled } => {
                let tenant = pick(&tenants, *tenant)?;
                let (name, enabled) = (None, Some(*enabled));
                (
                    operator(*by),
                    Action::UpdateTenant { tenant, name, enabled, limits: Vec::new(), source_prefixes: None },
                )
            }
            Step::Limit { by, tenant, limit, value } => {
                let tenant = pick(&tenants, *tenant)?;
                let limit = pick(Limit::ALL, *limit)?;
                let value = value.map(|value| limit.range().start() + u64::from(value % 8));
                let limits = vec![(limit, value)];
                (
                    operator(*by),
                    Action::UpdateTenant { tenant, name: None, enabled: None, limits, source_prefixes: None },
                )
            }
            Step::DeleteTenant { by, .. } if by % 4 > 0 => return None,
            Step::DeleteTenant { by, tenant } => {
                (operator(*by), Action::DeleteTenant { tenant: pick(&tenants, *tenant)? })
            }
            Step::Pop { by, pop, enabled } => match pick(&pops, *pop) {
                Some(pop) if by % 3 > 0 => (
                    operator(*by),
                    Action::UpdatePop { pop, enabled: Some(*enabled), drained: None, region: None },
                ),
                Some(pop) if by % 2 > 0 => (operator(*by), Action::DeletePop { pop }),
                _ => {
                    let name = format!("pop{}", pop % 4);
                    (operator(*by), Action::CreatePop { name, secret_hash: [*pop; 32], region: None })
                }
            },
            Step::Epoch => (Principal::System, Action::BeginEpoch),
            Step::Wait { .. } => return None,
        })
    }

    fn prepare(&mut self, content: CheckedContent, stage: bool, floor: Option<u16>) -> Prepared {
        let staged = stage.then(|| self.world.stage(content.content()));
        #[expect(clippy::cast_possible_truncation, reason = "serials wrap, RFC 1982")]
        let now_s = (self.world.time_ms / 1000) as u32;
        Prepared { content, staged, serial_floor: floor.map(|ahead| now_s + u32::from(ahead) - 1000) }
    }

    // --------------------------------------------------------------------------------- what must hold

    fn check_zones(&self) {
        let state = &self.world.state;
        let mut served = HashSet::new();
        let mut held = HashSet::new();
        for zone in state.zones() {
            let is_public = zone.is_served() && !zone.is_private();
            assert!(!is_public || served.insert(zone.name.clone()), "{} is served twice", zone.name);
            let holding = (zone.tenant, zone.name.clone(), zone.is_private());
            assert!(held.insert(holding), "{} is held twice by one", zone.name);
            assert!(state.tenant(zone.tenant).is_some() && state.ns_set(zone.ns_set).is_some());
            let found = match zone.is_private() {
                true => state.private_zone(zone.tenant, &zone.name),
                false => state.tenant_zone(zone.tenant, &zone.name),
            };
            assert_eq!(found, Some(zone));
            assert!(state.zones_named(&zone.name).any(|named| named.id == zone.id));

            let fresh: Content =
                zone.content.iter().map(|(key, rrset)| (key.clone(), rrset.clone())).collect();
            assert_eq!(fresh.digest(), zone.content.digest());
            assert_eq!(fresh.rrset_count(), zone.content.rrset_count());
            assert_eq!(fresh.record_count(), zone.content.record_count());
            let checked = CheckedContent::new(zone.name.clone(), fresh);
            assert!(checked.is_ok(), "{} is not valid: {:?}", zone.name, checked.err());
        }
        for served in served {
            assert_eq!(state.served_zone(&served).map(|zone| zone.name.clone()), Some(served));
        }
        assert_eq!(state.zones_by_name(None).count(), state.zone_count());
        self.check_usage();
        self.check_insiders();
        assert_eq!(
            state.ns_sets().filter(|set| set.is_default).count(),
            usize::from(state.ns_sets().next().is_some())
        );
    }

    /// No address is inside of private zones of two tenants, nor inside of one whose tenant wasn't granted it.
    fn check_insiders(&self) {
        let state = &self.world.state;
        let mut inside: Vec<(TenantId, Prefix)> = Vec::new();
        for zone in state.zones().filter(|zone| zone.is_private()) {
            let tenant = state.tenant(zone.tenant).unwrap();
            for (key, rrset) in zone.content.iter().filter(|(key, _)| key.rtype == VIEW) {
                let Ok(Item::View(view)) = Item::read(key.rtype, &rrset.rdatas) else { panic!("{key}") };
                let all = if view.prefixes.is_empty() { Prefix::everybody().to_vec() } else { view.prefixes };
                for prefix in all {
                    assert!(tenant.has_source(&prefix), "{prefix} in {} of {}", zone.name, tenant.name);
                    inside.push((tenant.id, prefix));
                }
            }
        }
        for (place, (tenant, prefix)) in inside.iter().enumerate() {
            let meets = |other: &Prefix| prefix.covers(other) || other.covers(prefix);
            assert!(inside[..place].iter().all(|(other, theirs)| other == tenant || !meets(theirs)));
        }
    }

    /// What is kept count of is what a recount finds.
    fn check_usage(&self) {
        let state = &self.world.state;
        let mut counted: HashMap<TenantId, Usage> = HashMap::new();
        for zone in state.zones() {
            let usage = counted.entry(zone.tenant).or_default();
            usage.zones += 1;
            usage.records += zone.content.record_count() + 1;
        }
        for token in state.tokens(None) {
            if let Some(tenant) = token.tenant {
                counted.entry(tenant).or_default().tokens += 1;
                assert!(state.tenant_tokens(tenant, None).any(|own| own.id == token.id));
            }
        }
        for tenant in state.tenants(None) {
            assert_eq!(state.usage(tenant.id), counted.remove(&tenant.id).unwrap_or_default());
        }
        for (tenant, usage) in counted {
            assert_eq!(state.usage(tenant), usage, "{tenant} is gone");
        }
    }

    /// Nothing grows over a limit, and nothing that is over one is lost.
    fn check_limits(&self, before: &State) {
        let state = &self.world.state;
        for tenant in state.tenants(None) {
            let holds = |limit: Limit, was: u64, is: u64| {
                let allowed = limit.of(tenant.limits.as_ref());
                assert!(is <= allowed || is <= was, "{limit:?} of {allowed}: from {was} to {is}");
            };
            let (was, is) = (before.usage(tenant.id), state.usage(tenant.id));
            holds(Limit::Zones, was.zones, is.zones);
            holds(Limit::Tokens, was.tokens, is.tokens);
            for zone in state.tenant_zones(tenant.id, None) {
                let old = before.zone(zone.id);
                let of = |figure: fn(&Zone) -> u64| (old.map_or(0, |old| figure(old)), figure(zone));
                let (was, is) = of(|zone| zone.labels.len() as u64);
                holds(Limit::LabelsPerZone, was, is);
            }
        }
    }

    fn check_published_serials(&mut self) {
        for zone in self.world.state.zones().filter(|zone| zone.is_served()) {
            let now = (zone.id, zone.generation, zone.serial);
            let of = (zone.private_holder(), zone.name.clone());
            let Some(last) = self.published.insert(of, now) else { continue };
            assert!(
                last == now || serial_is_newer(now.2, last.2),
                "{} went from serial {} to {}",
                zone.name,
                last.2,
                now.2
            );
        }
    }

    /// The difference of two states is what a comparison of all zones finds; the one just before is compared, and one
    /// long past.
    fn check_diffs(&mut self, before: &State) {
        let new = &self.world.state;
        let past = &self.past[usize::try_from(new.revision()).unwrap() % self.past.len()];
        for old in [before, past] {
            let mut found: Vec<_> = old
                .published_diff(new)
                .map(|diff| (diff.old.map(|zone| zone.id), diff.new.map(|zone| zone.id)))
                .collect();
            let published = |state: &State, id: ZoneId| {
                let zone = state.zone(id).filter(|zone| zone.is_served())?;
                Some((zone.published_digest(), zone.generation))
            };
            let ids: HashSet<ZoneId> = old.zones().chain(new.zones()).map(|zone| zone.id).collect();
            let mut expected = Vec::new();
            for id in ids {
                let (was, is) = (published(old, id), published(new, id));
                // A generation stands for one content.
                if let (Some(was), Some(is)) = (was, is) {
                    assert_eq!(was.0 == is.0, was.1 == is.1);
                }
                if was != is {
                    expected.push((was.map(|_| id), is.map(|_| id)));
                }
            }
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
        if new.revision().is_multiple_of(7) {
            self.past.push(new.clone());
        }
    }

    /// A tenant changes nothing of another's, but that it can let a pending zone in.
    fn check_others_untouched(&self, principal: Principal, before: &State, changes: &[Change]) {
        let Principal::Tenant { tenant, .. } = principal else { return };
        for zone in before.zones().filter(|zone| zone.tenant != tenant) {
            if self.world.state.zone(zone.id) == Some(zone) {
                continue;
            }
            let change = changes.iter().find(|change| change.zone() == Some(zone.id));
            match change {
                Some(Change::ZoneAdmitted { by, .. }) => assert_eq!(*by, tenant),
                Some(Change::ZoneActivated { by, .. }) => assert_eq!(*by, Evidence::Holder),
                // With all who are concerned having agreed, this one among them.
                Some(Change::ZoneDisplaced { .. }) => {
                    let agreed = |other: &Zone| other.admitted_by.contains(&zone.tenant);
                    assert!(before.zones_named(&zone.name).any(|other| agreed(other)));
                }
                other => panic!("{principal} made {other:?} of another's zone"),
            }
        }
        for change in changes {
            let is_own = match change {
                Change::RequestRemembered(request) => request.holder == KeyHolder::Tenant(tenant),
                Change::TokenPut(token) => token.tenant == Some(tenant),
                Change::TokenRevoked { token, .. } => before.token(*token).unwrap().tenant == Some(tenant),
                Change::TokenForgotten(token) => before.token(*token).unwrap().tenant == Some(tenant),
                Change::ZoneCreated { zone, .. } => zone.tenant == tenant,
                other => other.zone().is_some(),
            };
            assert!(is_own, "{principal} made {change:?}");
        }
    }

    /// The state is the fold of the log, encoded and decoded.
    fn check_log(&mut self) {
        let mut state = State::default();
        let mut zone_ids = HashSet::new();
        for (at, _, changes) in &self.world.log {
            let payload = encode_inline(changes);
            let decoded = decode_payload(&payload, &mut self.world.chunks).unwrap();
            assert_eq!(&decoded, changes);
            for change in &decoded {
                if let Change::ZoneCreated { zone, .. } = change {
                    assert!(zone_ids.insert(zone.id), "a zone's id is used again");
                }
                state.apply(*at, change);
            }
        }
        assert_same(&state, &self.world.state);
    }

    /// Each zone at each past state is the fold of its own entries alone, and not even of all of these.
    fn check_zones_of_the_past(&self) {
        let mut touches: HashMap<ZoneId, Vec<(u64, ChangeKind)>> = HashMap::new();
        for (at, _, changes) in &self.world.log {
            for change in changes {
                if let Some(zone) = change.zone() {
                    let touch = (at.generation.counter, ChangeKind::of(change));
                    touches.entry(zone).or_default().push(touch);
                }
            }
        }
        for past in self.past.iter().chain([&self.world.state]) {
            for (zone, touches) in &touches {
                let until = touches.partition_point(|(revision, _)| *revision <= past.revision());
                let plan = FoldPlan::new(&touches[..until]);
                let mut fold = ZoneFold::new(*zone);
                for revision in plan.revisions {
                    let (at, _, changes) = &self.world.log[usize::try_from(revision).unwrap() - 1];
                    let payload = encode_inline(changes);
                    let changes = match revision < plan.content_from {
                        true => decode_outline(&payload, &self.world.chunks),
                        false => decode_payload(&payload, &mut self.world.chunks.clone()),
                    };
                    changes.unwrap().iter().for_each(|change| fold.apply(*at, change));
                }
                assert_eq!(fold.zone().as_deref(), past.zone(*zone).map(|zone| &**zone));
            }
        }
    }

    /// A past state is the same if zones share memory with a later one, and those that are the same in both do.
    fn check_sharing(&self) {
        let now = &self.world.state;
        // A few will do.
        for past in self.past.iter().step_by(self.past.len() / 2 + 1).chain([now]) {
            let mut state = State::default();
            for (at, _, changes) in &self.world.log {
                if at.generation.counter <= past.revision() {
                    changes.iter().for_each(|change| state.apply(*at, change));
                    state.share_zones(now, changes.iter().filter_map(Change::zone));
                }
            }
            assert_same(&state, past);
            state.share_zones(now, now.zones().map(|zone| zone.id));
            assert_same(&state, past);
            for zone in past.zones() {
                let (Some(shared), Some(now)) = (state.zone(zone.id), now.zone(zone.id)) else { continue };
                assert_eq!(Arc::ptr_eq(&shared.arc(), &now.arc()), **zone == **now);
            }
        }
    }

    /// The state is the fold of its checkpoint, encoded and decoded.
    fn check_checkpoint(&self) {
        let mut state = State::default();
        let at = At { generation: Generation::default(), time_ms: 0 };
        for change in self.world.state.to_changes() {
            let mut bytes = Vec::new();
            minicbor::encode_with(&change, &mut bytes, &mut ()).unwrap();
            let decoded: Change = minicbor::decode_with(&bytes, &mut ()).unwrap();
            assert_eq!(decoded, change);
            state.apply(at, &decoded);
        }
        assert_same(&state, &self.world.state);
        check_lists(&state);
    }
}

/// What is found through indexes, a few at a time, is what a look at all zones finds.
fn check_lists(state: &State) {
    let zones: Vec<_> = state.zones_by_name(None).collect();
    let Some(some) = zones.get(usize::try_from(state.revision()).unwrap() % zones.len().max(1)) else {
        return;
    };
    let context = Context {
        principal: Principal::System,
        time_ms: 0,
        entropy: [0; 32],
        message: None,
        idempotency_key: None,
        confirmed: false,
    };
    let mut access = Access::of(state, &context).unwrap();
    let scopes = [
        vec![],
        vec![ZonePattern::Below(name("example.com")), ZonePattern::Name(name("co.uk"))],
        vec![
            ZonePattern::Id(some.id),
            ZonePattern::Below(name("com")),
            ZonePattern::Below(name("sub.example.com")),
            ZonePattern::Name(name("example.com")),
        ],
    ];
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    for tenant in [None, Some(some.tenant)] {
        for scope in &scopes {
            (access.tenant, access.scope.zones) = (tenant, scope.clone());
            let all = || ZoneQuery::all(&access);
            let queries = [
                all(),
                ZoneQuery { status: Some(ZoneStatus::Pending), ..all() },
                ZoneQuery { private: Some(true), ..all() },
                ZoneQuery { private: Some(false), name: Some(some.name.clone()), ..all() },
                ZoneQuery { status: Some(ZoneStatus::Active), labels: vec![label("k", "1")], ..all() },
                ZoneQuery {
                    labels: vec![label("k", "0"), label("l", "0")],
                    ns_set: Some(some.ns_set),
                    ..all()
                },
                ZoneQuery { ns_set: Some(some.ns_set), status: Some(ZoneStatus::Pending), ..all() },
                ZoneQuery { name: Some(some.name.clone()), ..all() },
                ZoneQuery { below: Some(name("example.com")), labels: vec![label("l", "1")], ..all() },
                ZoneQuery { below: Some(name("com")), part: Some(NamePart::anywhere("er.s")), ..all() },
                ZoneQuery { part: Some(NamePart::in_front("s")), ..all() },
            ];
            for query in &queries {
                let expected = zones.iter().filter(|zone| {
                    let text = zone.name.to_string();
                    let is_named = query.part.as_ref().is_none_or(|part| match part.is_prefix() {
                        true => text.starts_with(part.text()),
                        false => text.contains(part.text()),
                    });
                    is_named
                        && access.sees(zone)
                        && tenant.is_none_or(|tenant| tenant == zone.tenant)
                        && query.name.as_ref().is_none_or(|name| *name == zone.name)
                        && query.below.as_ref().is_none_or(|top| zone.name.is_at_or_below(top))
                        && query.status.is_none_or(|status| match status {
                            ZoneStatus::Active => zone.is_served(),
                            status => status == zone.status,
                        })
                        && query.private.is_none_or(|private| private == zone.is_private())
                        && query.ns_set.is_none_or(|set| set == zone.ns_set)
                        && query.labels.iter().all(|(key, value)| zone.labels.get(key) == Some(value))
                });
                let (mut found, mut after) = (Vec::new(), None);
                let mut work_max = [5, 40, 40_000].into_iter().cycle();
                loop {
                    let page = state.find_zones_within(work_max.next().unwrap(), query, after.as_ref(), 2);
                    assert!(page.zones.len() <= 2 && (page.next.is_none() || page.next > after));
                    found.extend(page.zones.iter().map(|zone| zone.id));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(found, expected.map(|zone| zone.id).collect::<Vec<_>>(), "{query:?}");
            }
        }
    }
}

#[track_caller]
fn assert_same(a: &State, b: &State) {
    let (a_changes, b_changes): (Vec<Change>, Vec<Change>) =
        (a.to_changes().collect(), b.to_changes().collect());
    assert_eq!(a_changes, b_changes);
    // What is found by name is found the same.
    for zone in b.zones() {
        assert_eq!(
            a.served_zone(&zone.name).map(|zone| zone.id),
            b.served_zone(&zone.name).map(|zone| zone.id)
        );
        for holder in [None, Some(zone.tenant)] {
            assert_eq!(a.published_serial(holder, &zone.name), b.published_serial(holder, &zone.name));
        }
        let found = |state: &State| {
            [state.tenant_zone(zone.tenant, &zone.name), state.private_zone(zone.tenant, &zone.name)]
                .map(|zone| zone.map(|zone| zone.id))
        };
        assert_eq!(found(a), found(b));
        assert!(found(a).contains(&Some(zone.id)));
        let published = |state: &State| state.zone(zone.id).map(|zone| zone.published_digest());
        assert_eq!(published(a), published(b));
    }
    for tenant in b.tenants(None) {
        assert_eq!(a.tenant_named(&tenant.name).map(|tenant| tenant.id), Some(tenant.id));
    }
}

fn rrset_edits(zone: &Zone, edits: &[Edit]) -> Vec<RrsetEdit> {
    let existing: Vec<RrKey> = zone.content.iter().map(|(key, _)| key.clone()).collect();
    let edit = |edit: &Edit| {
        let (rtype, data) = DATA[usize::from(edit.rtype) % DATA.len()];
        let owner = owner(edit, &zone.name);
        let rdatas = rdatas(rtype, data, edit.data, &zone.name);
        let ttl = u32::from(edit.ttl);
        let mut key = RrKey::new(owner, rtype);
        let op = match edit.op % 10 {
            0..5 => EditOp::Put { ttl, rdatas },
            5 | 6 => EditOp::Add { ttl: (edit.ttl > 9).then_some(ttl), rdatas },
            7 => EditOp::Remove { rdatas },
            _ => {
                // What is there, so that deletions happen.
                key = existing.get(usize::from(edit.data) % existing.len().max(1)).cloned().unwrap_or(key);
                EditOp::Delete
            }
        };
        let if_match = (edit.ttl == 7).then_some(RrsetMatch::Present);
        RrsetEdit { key, if_match, op }
    };
    edits.iter().map(edit).collect()
}

fn owner(edit: &Edit, zone: &Name) -> Name {
    match edit.owner {
        u8::MAX => name("out.of.zone.example"),
        n => Name::parse_relative(OWNERS[usize::from(n) % OWNERS.len()], zone).unwrap(),
    }
}

fn rdatas(rtype: Rtype, data: &[&str], n: u8, origin: &Name) -> Rdatas {
    let single = matches!(rtype, Rtype::CNAME | Rtype::DNAME) && n < 250;
    let count = if single { 1 } else { 1 + usize::from(n / 16) % data.len() };
    let start = usize::from(n) % data.len();
    let texts = (0..count).map(|i| data[(start + i) % data.len()]);
    texts.map(|text| rdata(rtype, text, origin)).collect()
}

/// Content with these RRsets, if it is valid.
fn random_content(zone: &Name, edits: &[Edit]) -> Option<CheckedContent> {
    let mut content = Content::default();
    let ns = Rdatas::single(name("ns1.herald.example").as_wire());
    content.put(RrKey::new(zone.clone(), Rtype::NS), crate::Rrset { ttl: 60, rdatas: ns });
    for edit in edits {
        let (rtype, data) = DATA[usize::from(edit.rtype) % DATA.len()];
        let owner = owner(edit, zone);
        let rdatas = rdatas(rtype, data, edit.data, zone);
        content.put(RrKey::new(owner, rtype), crate::Rrset { ttl: u32::from(edit.ttl), rdatas });
    }
    CheckedContent::new(zone.clone(), content).ok()
}
