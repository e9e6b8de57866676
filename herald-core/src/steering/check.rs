//! What steering must be to be published: each item by itself, and what items say of each other and of records.

use std::collections::{BTreeMap, BTreeSet};

use super::item::{AnswerMode, Endpoint, EndpointRecords, Item, Overlay, Policy, Pool, Rule, View, is_label};
use super::{
    HOLDER, OVERLAY, PLACEHOLDER_TTL_S, POOL, SETTINGS, STEERABLE, Used, VIEW, answered_type, held_name,
    is_steering_type, pool_key, view_key,
};
use crate::content::Content;
use crate::rdata::{check_rdata, format_rtype, is_meta_type, is_system_type};
use crate::rrset::MAX_TTL_S;
use crate::{Name, RrKey, Rrset, Rtype};

/// Endpoints of a pool.
pub const ENDPOINTS_MAX: usize = 500;
/// Rules of a policy.
pub const RULES_MAX: usize = 200;
/// Pools that a rule names.
pub const POOLS_PER_RULE_MAX: usize = 32;
/// Prefixes of a view.
pub const PREFIXES_MAX: usize = 10_000;
/// PoPs that a view or a rule names.
const POPS_MAX: usize = 1_000;
/// The highest weight.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// The most endpoints that are drawn for an answer.
pub const UP_TO_MAX: u8 = 64;
/// Bytes of what a tenant calls a rule or a city.
const TEXT_BYTES_MAX: usize = 200;
/// Octets of records of a type that fit into an answer beside header, question, OPT and the longest owner.
const ANSWER_BYTES_MAX: usize = 65_000;
/// RRsets that are looked at to name one that uses a thing.
const USER_SCAN_MAX: usize = 10_000;
/// The continents.
const CONTINENTS: [&[u8; 2]; 7] = [b"AF", b"AN", b"AS", b"EU", b"NA", b"OC", b"SA"];

/// What is wrong with an item by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where in it: a JSON pointer of the form in which items are written (`/endpoints/0/weight`).
    pub pointer: String,
    /// In words.
    pub detail: String,
}

/// Collects faults.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, pointer: String, detail: impl Into<String>) {
        self.0.push(Fault { pointer, detail: detail.into() });
    }

    fn need(&mut self, holds: bool, pointer: String, detail: impl FnOnce() -> String) {
        if !holds {
            self.add(pointer, detail());
        }
    }

    fn count(&mut self, pointer: String, count: usize, most: usize, what: &str) {
        self.need(count <= most, pointer, || format!("{count} {what} are too many: at most {most}"));
    }
}

/// What is wrong with an item by itself. Of overlays the pointer begins with the overlay's place.
pub fn faults(item: &Item) -> Vec<Fault> {
    let mut faults = Faults::default();
    match item {
        Item::Settings(_) => {}
        Item::Pool(pool) => pool_faults(pool, &mut faults),
        Item::View(view) => view_faults(view, &mut faults),
        Item::Policy(_, policy) => policy_faults(policy, &mut faults),
        Item::Overlays(overlays) => {
            for (place, overlay) in overlays.iter().enumerate() {
                overlay_faults(overlay, place, &mut faults);
            }
        }
    }
    if faults.0.is_empty()
        && let Err(bytes) = item.write()
    {
        faults.add(String::new(), format!("it takes {bytes} bytes, and 65535 is the most there is"));
    }
    faults.0
}

fn pool_faults(pool: &Pool, faults: &mut Faults) {
    ttl_fault(pool.ttl, String::new(), faults);
    if let AnswerMode::UpTo(n) = pool.answer {
        faults.need((1..=UP_TO_MAX).contains(&n), "/answer/up_to".into(), || {
            format!("1 to {UP_TO_MAX} endpoints can be answered with, not {n}")
        });
    }
    if let Some(sticky) = pool.sticky {
        faults.need(sticky.ipv4_prefix <= 32, "/sticky/ipv4_prefix".into(), || {
            format!("an IPv4 prefix has at most 32 bits, not {}", sticky.ipv4_prefix)
        });
        faults.need(sticky.ipv6_prefix <= 128, "/sticky/ipv6_prefix".into(), || {
            format!("an IPv6 prefix has at most 128 bits, not {}", sticky.ipv6_prefix)
        });
    }
    faults.count("/min_healthy".into(), pool.min_healthy.into(), ENDPOINTS_MAX, "endpoints");
    faults.count("/endpoints".into(), pool.endpoints.len(), ENDPOINTS_MAX, "endpoints");
    let mut names = BTreeSet::new();
    let mut bytes: BTreeMap<u16, usize> = BTreeMap::new();
    for (place, endpoint) in pool.endpoints.iter().enumerate() {
        let at = format!("/endpoints/{place}");
        faults.need(names.insert(&endpoint.name), format!("{at}/name"), || {
            format!("there are two endpoints `{}`", endpoint.name)
        });
        endpoint_faults(endpoint, &at, faults);
        for EndpointRecords { rtype, rdatas } in &endpoint.records {
            let own: usize = rdatas.iter().map(|rdata| 12 + rdata.len()).sum();
            let sum = bytes.entry(rtype.to_int()).or_default();
            *sum = if pool.answer == AnswerMode::One { own.max(*sum) } else { *sum + own };
        }
    }
    for (rtype, bytes) in bytes {
        let rtype = format_rtype(Rtype::from_int(rtype));
        faults.need(bytes <= ANSWER_BYTES_MAX, "/endpoints".into(), || {
            format!("an answer could have {bytes} bytes of {rtype} records: at most {ANSWER_BYTES_MAX} fit")
        });
    }
}

fn endpoint_faults(endpoint: &Endpoint, at: &str, faults: &mut Faults) {
    label_fault(&endpoint.name, format!("{at}/name"), "an endpoint", faults);
    faults.need(endpoint.weight <= WEIGHT_MAX, format!("{at}/weight"), || {
        format!("a weight is at most {WEIGHT_MAX}, not {}", endpoint.weight)
    });
    faults.need((-99..=99).contains(&endpoint.bias), format!("{at}/bias"), || {
        format!("a bias is -99 to 99, not {}", endpoint.bias)
    });
    if let Some(place) = endpoint.location {
        faults.need((-90.0..=90.0).contains(&place.latitude), format!("{at}/location/latitude"), || {
            format!("a latitude is -90 to 90, not {}", place.latitude)
        });
        faults.need((-180.0..=180.0).contains(&place.longitude), format!("{at}/location/longitude"), || {
            format!("a longitude is -180 to 180, not {}", place.longitude)
        });
    }
    faults.need(!endpoint.records.is_empty(), format!("{at}/records"), || {
        "an endpoint has records of at least one type".into()
    });
    let mut types = BTreeSet::new();
    for EndpointRecords { rtype, rdatas } in &endpoint.records {
        let mnemonic = format_rtype(*rtype);
        let at = format!("{at}/records/{mnemonic}");
        faults.need(types.insert(rtype.to_int()), at.clone(), || format!("{mnemonic} is given twice"));
        faults.need(STEERABLE.contains(rtype), at.clone(), || not_steerable(*rtype));
        faults.need(!rdatas.is_empty(), at.clone(), || format!("{mnemonic} has no record"));
        faults.need(*rtype != Rtype::CNAME || rdatas.len() == 1, at.clone(), || {
            "a CNAME has exactly one target".into()
        });
        if let Some(e) = rdatas.iter().find_map(|rdata| check_rdata(*rtype, rdata).err()) {
            faults.add(at, e.to_string());
        }
    }
}

fn view_faults(view: &View, faults: &mut Faults) {
    faults.count("/prefixes".into(), view.prefixes.len(), PREFIXES_MAX, "prefixes");
    pops_faults(&view.pops, "/pops", faults);
    faults.need(!(view.prefixes.is_empty() && view.pops.is_empty()), String::new(), || {
        "a view needs prefixes or PoPs: with neither everybody would be inside".into()
    });
}

fn policy_faults(policy: &Policy, faults: &mut Faults) {
    faults.need(!policy.rules.is_empty(), "/rules".into(), || "a policy has at least one rule".into());
    faults.count("/rules".into(), policy.rules.len(), RULES_MAX, "rules");
    for (place, rule) in policy.rules.iter().enumerate() {
        rule_faults(rule, &format!("/rules/{place}"), faults);
    }
}

fn rule_faults(rule: &Rule, at: &str, faults: &mut Faults) {
    if let Some(name) = &rule.name {
        text_fault(name, format!("{at}/name"), faults);
    }
    faults.need(!rule.pools.is_empty(), format!("{at}/pools"), || "a rule leads to at least one pool".into());
    faults.count(format!("{at}/pools"), rule.pools.len(), POOLS_PER_RULE_MAX, "pools");
    for (place, pool) in rule.pools.iter().enumerate() {
        label_fault(pool, format!("{at}/pools/{place}"), "a pool", faults);
    }
    let when = &rule.when;
    for (place, view) in when.views.iter().enumerate() {
        label_fault(view, format!("{at}/when/views/{place}"), "a view", faults);
    }
    for (place, code) in when.continents.iter().enumerate() {
        faults.need(CONTINENTS.contains(&code), format!("{at}/when/continents/{place}"), || {
            format!("`{}` is no continent: AF, AN, AS, EU, NA, OC or SA", code.escape_ascii())
        });
    }
    let subdivisions = when.subdivisions.iter().map(|subdivision| subdivision.country).enumerate();
    let countries = when.countries.iter().copied().enumerate().map(|c| ("countries", c));
    let cities = when.cities.iter().enumerate().filter_map(|(place, city)| match city {
        super::City::Named { country, .. } => Some(("cities", (place, *country))),
        super::City::GeoNames(_) => None,
    });
    for (field, (place, code)) in countries.chain(subdivisions.map(|s| ("subdivisions", s))).chain(cities) {
        let is_code = code.iter().all(u8::is_ascii_uppercase);
        faults.need(is_code, format!("{at}/when/{field}/{place}"), || {
            format!("`{}` is no country (ISO 3166-1 alpha-2, as DE)", code.escape_ascii())
        });
    }
    for (place, city) in when.cities.iter().enumerate() {
        if let super::City::Named { name, .. } = city {
            text_fault(name, format!("{at}/when/cities/{place}"), faults);
        }
    }
    pops_faults(&when.pops, &format!("{at}/when/pops"), faults);
}

fn overlay_faults(overlay: &Overlay, place: usize, faults: &mut Faults) {
    let at = |field: &str| format!("/{place}{field}");
    let (rtype, mnemonic) = (overlay.rtype, format_rtype(overlay.rtype));
    label_fault(&overlay.view, at("/view"), "a view", faults);
    match &overlay.rrset {
        None if rtype == Rtype::ANY => return,
        Some(_) if rtype == Rtype::ANY => {
            faults.add(at("/type"), "ANY can only be hidden: records have a type");
            return;
        }
        _ => {}
    }
    let is_refused = matches!(rtype, Rtype::SOA | Rtype::NS | Rtype::DS | Rtype::DNAME | crate::alias::ALIAS);
    if is_refused || is_meta_type(rtype) || is_system_type(rtype) || is_steering_type(rtype) {
        faults.add(at("/type"), format!("{mnemonic} is the same in every view"));
        return;
    }
    let Some(rrset) = &overlay.rrset else { return };
    ttl_fault(rrset.ttl, at(""), faults);
    faults.need(!rrset.rdatas.is_empty(), at("/records"), || {
        "an overlay has records, or hides: then say `hidden`".into()
    });
    faults.need(rtype != Rtype::CNAME || rrset.rdatas.len() == 1, at("/records"), || {
        "there can be only one CNAME at a name".into()
    });
    if let Some(e) = rrset.rdatas.iter().find_map(|rdata| check_rdata(rtype, rdata).err()) {
        faults.add(at("/records"), e.to_string());
    }
    let bytes: usize = rrset.rdatas.iter().map(|rdata| 12 + rdata.len()).sum();
    faults.need(bytes <= ANSWER_BYTES_MAX, at("/records"), || {
        format!("the records have {bytes} bytes in an answer: at most {ANSWER_BYTES_MAX} fit")
    });
}

fn ttl_fault(ttl: u32, at: String, faults: &mut Faults) {
    faults.need(ttl <= MAX_TTL_S && ttl != PLACEHOLDER_TTL_S, at + "/ttl", || {
        format!("a TTL is at most {MAX_TTL_S} s (RFC 2181 §8), and not {PLACEHOLDER_TTL_S}")
    });
}

fn label_fault(name: &str, at: String, what: &str, faults: &mut Faults) {
    faults.need(is_label(name), at, || {
        format!("the name of {what} has 1 to 63 of a-z, 0-9, `-` and `_`, which `{}` has not", shown(name))
    });
}

fn text_fault(text: &str, at: String, faults: &mut Faults) {
    faults.need((1..=TEXT_BYTES_MAX).contains(&text.len()), at, || {
        format!("it has 1 to {TEXT_BYTES_MAX} bytes, not {}", text.len())
    });
}

fn pops_faults(pops: &[String], at: &str, faults: &mut Faults) {
    faults.count(at.into(), pops.len(), POPS_MAX, "PoPs");
    for (place, pop) in pops.iter().enumerate() {
        label_fault(pop, format!("{at}/{place}"), "a PoP", faults);
    }
}

fn not_steerable(rtype: Rtype) -> String {
    let types: Vec<String> = STEERABLE.iter().map(|rtype| format_rtype(*rtype)).collect();
    format!("{} can't be steered: {} can", format_rtype(rtype), types.join(", "))
}

fn shown(text: &str) -> String {
    text.escape_debug().take(64).collect()
}

// ---------------------------------------------------------------------------------- in their zone

/// What a zone is known by while its steering is checked.
pub(crate) struct Surroundings<'a> {
    pub(crate) zone: &'a Name,
    pub(crate) content: &'a Content,
    pub(crate) owner: &'a Name,
    /// The RRsets at the owner.
    pub(crate) rrsets: &'a [(&'a RrKey, &'a Rrset)],
    /// The delegation at or above the owner.
    pub(crate) cut: Option<&'a Name>,
    /// Whether pools have an endpoint whose place is known, as far as it was asked.
    pub(crate) located: &'a mut BTreeMap<String, bool>,
}

/// Takes a word for programs, the type and a text.
type Report<'r> = &'r mut dyn FnMut(&'static str, Option<Rtype>, String);

/// Checks the steering at an owner, and what its records are beside it.
pub(crate) fn check_owner(mut around: Surroundings<'_>, error: Report<'_>) {
    for (key, rrset) in around.rrsets {
        if is_steering_type(key.rtype) {
            check_item(&mut around, key, rrset, error);
        }
    }
    let has = |rtype: Rtype| around.rrsets.iter().any(|(key, _)| key.rtype == rtype);
    for (key, _) in around.rrsets {
        let Some(answered) = answered_type(key.rtype) else { continue };
        let (owner, mnemonic) = (around.owner, format_rtype(answered));
        if has(answered) {
            error(
                "policy_and_records",
                Some(key.rtype),
                format!("{owner} has a policy and records of the type {mnemonic}: one of them has to go"),
            );
        }
        if let Some(cut) = around.cut {
            error(
                "policy_below_cut",
                Some(key.rtype),
                format!("the policy {owner} {mnemonic} would answer nobody: {cut} is delegated away"),
            );
        }
    }
}

fn check_item(around: &mut Surroundings<'_>, key: &RrKey, rrset: &Rrset, error: Report<'_>) {
    let rtype = Some(key.rtype);
    let item = match Item::read(key.rtype, &rrset.rdatas) {
        Ok(item) => item,
        Err(e) => return error("bad_steering", rtype, format!("the steering at {key} is not right: {e}")),
    };
    for Fault { pointer, detail } in faults(&item) {
        let at = if pointer.is_empty() { String::new() } else { format!("{pointer}: ") };
        error("bad_steering", rtype, format!("{} at {}: {at}{detail}", kind(&item), key.owner));
    }
    match &item {
        Item::Settings(_) if key.owner != *around.zone => {
            error("misplaced_steering", rtype, "settings of a zone are at its apex".into());
        }
        Item::Pool(_) | Item::View(_) if !is_holding_place(&key.owner, around.zone) => {
            error("misplaced_steering", rtype, format!("{} is no place of a pool or view", key.owner));
        }
        Item::Pool(pool) => {
            let Some(name) = held_name(&key.owner) else { return };
            let used = Used::NearestPool(name.as_str().into());
            if !has_location(pool) && uses(around.content, &used) > 0 {
                error("no_location", rtype, no_location(&name));
            }
        }
        Item::Policy(_, policy) => check_policy(around, key, policy, error),
        Item::Overlays(overlays) => check_overlays(around, overlays, error),
        Item::Settings(_) | Item::View(_) => {}
    }
}

fn check_policy(around: &mut Surroundings<'_>, key: &RrKey, policy: &Policy, error: Report<'_>) {
    let mut missing = BTreeSet::new();
    for (place, rule) in policy.rules.iter().enumerate() {
        for pool in &rule.pools {
            let there = pool_key(around.zone, pool).ok().and_then(|key| around.content.get(&key));
            let Some(rrset) = there else {
                if missing.insert(pool) {
                    let detail =
                        format!("rule {} leads to the pool `{}`, which isn't there", place + 1, shown(pool));
                    error("no_pool", Some(key.rtype), detail);
                }
                continue;
            };
            if rule.nearest {
                let read = || match Item::read(POOL, &rrset.rdatas) {
                    Ok(Item::Pool(pool)) => has_location(&pool),
                    _ => true,
                };
                if !*around.located.entry(pool.clone()).or_insert_with(read) {
                    error("no_location", Some(key.rtype), no_location(pool));
                }
            }
        }
        for view in &rule.when.views {
            if !has_view(around, view) {
                let detail =
                    format!("rule {} asks for the view `{}`, which isn't there", place + 1, shown(view));
                error("no_view", Some(key.rtype), detail);
            }
        }
    }
}

fn check_overlays(around: &Surroundings<'_>, overlays: &[Overlay], error: Report<'_>) {
    let rtype = Some(OVERLAY);
    let mut seen = BTreeSet::new();
    let mut by_view: BTreeMap<&str, Vec<&Overlay>> = BTreeMap::new();
    for overlay in overlays {
        let (view, mnemonic) = (shown(&overlay.view), format_rtype(overlay.rtype));
        if !seen.insert((&overlay.view, overlay.rtype.to_int())) {
            error(
                "overlay_twice",
                rtype,
                format!("the view `{view}` has {mnemonic} twice at {}", around.owner),
            );
        }
        by_view.entry(&overlay.view).or_default().push(overlay);
    }
    if let Some(cut) = around.cut {
        let detail = format!("no view can have anything at {}: {cut} is delegated away", around.owner);
        error("overlay_below_cut", rtype, detail);
    }
    for (view, overlays) in by_view {
        if !has_view(around, view) {
            error("no_view", rtype, format!("the view `{}` isn't there", shown(view)));
        }
        check_one_view(around, view, &overlays, error);
    }
}

/// What a view has at a name must be right as a whole. It stands before what everybody gets, so that a CNAME of either is no
/// conflict with the other.
fn check_one_view(around: &Surroundings<'_>, view: &str, overlays: &[&Overlay], error: Report<'_>) {
    let (owner, rtype) = (around.owner, Some(OVERLAY));
    let is_apex = owner == around.zone;
    if is_apex && overlays.iter().any(|overlay| overlay.rtype == Rtype::ANY) {
        error("overlay_at_apex", rtype, "the apex has SOA and NS in every view: hide types, not ANY".into());
    }
    let records = overlays.iter().filter(|overlay| overlay.rrset.is_some());
    let (cnames, others): (Vec<&Overlay>, Vec<&Overlay>) =
        records.partition(|overlay| overlay.rtype == Rtype::CNAME);
    if cnames.is_empty() {
        return;
    }
    if is_apex {
        error("cname_at_apex", rtype, "the apex has a SOA, so it can't have a CNAME in any view".into());
    } else if !others.is_empty() {
        let others: Vec<String> = others.iter().map(|overlay| format_rtype(overlay.rtype)).collect();
        let detail = format!(
            "a CNAME allows no other type at its name, and the view `{}` has {} at {owner}",
            shown(view),
            others.join(", ")
        );
        error("cname_and_other", rtype, detail);
    }
}

/// Checks that a pool or view of this owner that isn't there is used by nobody.
pub(crate) fn check_names(zone: &Name, content: &Content, owner: &Name, error: Report<'_>) {
    if content.steering().is_none() || !is_holding_place(owner, zone) {
        return;
    }
    let Some(name) = held_name(owner) else { return };
    for (rtype, what, used) in
        [(POOL, "pool", Used::Pool(name.as_str().into())), (VIEW, "view", Used::View(name.as_str().into()))]
    {
        let count = uses(content, &used);
        if count == 0 || content.get(&RrKey::new(owner.clone(), rtype)).is_some() {
            continue;
        }
        let user = content
            .iter()
            .take(USER_SCAN_MAX)
            .find(|(key, rrset)| super::tally::uses_of(key, rrset).contains(&used))
            .map(|(key, _)| match answered_type(key.rtype) {
                Some(answered) => format!(", among them the policy {} {}", key.owner, format_rtype(answered)),
                None => format!(", among them what views have at {}", key.owner),
            });
        let detail = format!(
            "the {what} `{name}` is used by {count} policies or overlays{}",
            user.unwrap_or_default()
        );
        error("in_use", Some(rtype), detail);
    }
}

fn has_view(around: &Surroundings<'_>, view: &str) -> bool {
    view_key(around.zone, view).is_ok_and(|key| around.content.get(&key).is_some())
}

fn has_location(pool: &Pool) -> bool {
    pool.endpoints.iter().any(|endpoint| endpoint.location.is_some())
}

fn no_location(pool: &str) -> String {
    format!(
        "of the pool `{}` the nearest endpoint is wanted, and none of its endpoints has a location",
        shown(pool)
    )
}

fn uses(content: &Content, used: &Used) -> u64 {
    content.steering().map_or(0, |tally| tally.uses(used))
}

/// Whether pools and views can be held at this name.
fn is_holding_place(owner: &Name, zone: &Name) -> bool {
    let mut labels = owner.labels();
    let is_named = labels.next().and_then(|label| std::str::from_utf8(label).ok()).is_some_and(is_label);
    is_named
        && labels.next() == Some(HOLDER.as_bytes())
        && owner.is_below(zone)
        && owner.label_count() == zone.label_count() + 2
}

/// What an item is, in words.
fn kind(item: &Item) -> String {
    match item {
        Item::Settings(_) => "the settings".into(),
        Item::Pool(_) => "the pool".into(),
        Item::View(_) => "the view".into(),
        Item::Policy(answered, _) => format!("the policy {}", format_rtype(*answered)),
        Item::Overlays(_) => "what views have".into(),
    }
}

/// The type of an item's RRset, for messages: `policy A`, `pool`.
pub fn describe_type(rtype: Rtype) -> String {
    match (rtype, answered_type(rtype)) {
        (_, Some(answered)) => format!("policy {}", format_rtype(answered)),
        (SETTINGS, _) => "settings".into(),
        (POOL, _) => "pool".into(),
        (VIEW, _) => "view".into(),
        (OVERLAY, _) => "overlay".into(),
        _ => format_rtype(rtype),
    }
}
