//! What a zone must be to be served: judged on the final state of a change, whatever its order.

use std::collections::{BTreeMap, BTreeSet};

use crate::alias::{ADDRESS_TYPES, ALIAS, circle_in_zone};
use crate::content::Content;
use crate::rdata::{check_rdata, is_meta_type, is_system_type, rdata_names};
use crate::rrset::MAX_TTL_S;
use crate::steering::{self, PLACEHOLDER_TTL_S, Surroundings, is_steering_type, served_type};
use crate::{Name, RrKey, Rrset, Rtype};

/// Longest RRset in a message of 64 KiB, beside header and question (RFC 1035 §4.2.2), in bytes.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// Octets of header (12), question's type and class (4) and an OPT record with room (RFC 6891).
const MESSAGE_FIXED_BYTES: usize = 12 + 4 + 11;

/// How many names below a new delegation are looked at for warnings.
const OCCLUDED_SCAN_MAX: usize = 100;

/// So many errors and warnings of a whole zone are told: nobody reads more.
const ERRORS_MAX: usize = 1_000;
const WARNINGS_MAX: usize = 1_000;

/// Something found in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable word for programs.
    pub code: &'static str,
    /// The owner it is about.
    pub owner: Name,
    /// The type it is about, if one.
    pub rtype: Option<Rtype>,
    /// In words.
    pub detail: String,
}

/// What a check found: errors must not be served, warnings are probably not meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Must not be served.
    pub errors: Vec<Finding>,
    /// Probably not meant.
    pub warnings: Vec<Finding>,
}

/// Content that was found right for a zone of this name.
#[derive(Clone, Debug)]
pub struct CheckedContent {
    zone: Name,
    content: Content,
    warnings: Vec<Finding>,
    records_per_rrset_max: u64,
}

impl CheckedContent {
    /// Checks all of it.
    ///
    /// # Errors
    /// The errors found.
    pub fn new(zone: Name, content: Content) -> Result<CheckedContent, Vec<Finding>> {
        let findings = check_all(&zone, &content);
        if findings.errors.is_empty() {
            let most = content.iter().map(|(_, rrset)| rrset.rdatas.len()).max();
            let records_per_rrset_max = most.unwrap_or(0) as u64;
            Ok(CheckedContent { zone, content, warnings: findings.warnings, records_per_rrset_max })
        } else {
            Err(findings.errors)
        }
    }

    /// The same content as a version of `base`: where most is equal it is shared, so that it takes no memory again, and the
    /// two are compared in the time that their difference takes.
    #[must_use]
    pub fn as_version_of(mut self, base: &Content) -> CheckedContent {
        let changes = base.changes(&self.content).count() as u64;
        if changes * 2 <= base.rrset_count() {
            let mut content = base.clone();
            content.apply(&base.diff(&self.content));
            self.content = content;
        }
        self
    }

    /// The zone's name.
    pub fn zone(&self) -> &Name {
        &self.zone
    }

    /// The content.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// How many records the RRset has that has most.
    pub fn records_per_rrset_max(&self) -> u64 {
        self.records_per_rrset_max
    }

    /// What is probably not meant.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }
}

/// Checks what may have become wrong by a change of RRsets at these owners, in a zone that was right before.
pub fn check<'a>(zone: &Name, content: &Content, touched: impl IntoIterator<Item = &'a Name>) -> Findings {
    let mut findings = Findings::default();
    let mut seen = BTreeSet::new();
    for owner in touched {
        if seen.insert(owner) {
            check_owner(zone, content, owner, &mut findings);
        }
    }
    findings
}

/// Checks everything, in one walk: the names below a cut or a DNAME follow it in canonical order.
fn check_all(zone: &Name, content: &Content) -> Findings {
    let mut all = Findings::default();
    let (mut more_warnings, mut above) = (0, Above::default());
    let mut rrsets: Vec<(&RrKey, &Rrset)> = Vec::new();
    let mut has_apex = false;
    let mut walk = content.iter().peekable();
    while let Some(first) = walk.next() {
        rrsets.clear();
        rrsets.push(first);
        while let Some(next) = walk.next_if(|(key, _)| key.owner == first.0.owner) {
            rrsets.push(next);
        }
        let owner = &first.0.owner;
        has_apex |= owner == zone;
        above.dname = above.dname.filter(|dname| owner.is_below(dname));
        above.cut = above.cut.filter(|cut| owner.is_below(cut));
        let mut findings = Findings::default();
        check_rrsets(zone, content, owner, &rrsets, &mut above, &mut findings);
        all.errors.append(&mut findings.errors);
        let room = WARNINGS_MAX - all.warnings.len();
        more_warnings += findings.warnings.len().saturating_sub(room);
        all.warnings.extend(findings.warnings.into_iter().take(room));
        if all.errors.len() >= ERRORS_MAX {
            break;
        }
        let has = |rtype: Rtype| rrsets.iter().any(|(key, _)| key.rtype == rtype);
        if above.dname.is_none() && has(Rtype::DNAME) {
            above.dname = Some(owner.clone());
        }
        if above.cut.is_none() && owner != zone && has(Rtype::NS) {
            above.cut = Some(owner.clone());
        }
    }
    if !has_apex {
        check_rrsets(zone, content, zone, &[], &mut Above::default(), &mut all);
    }
    if more_warnings > 0 {
        all.warnings.push(Finding {
            code: "more_warnings",
            owner: zone.clone(),
            rtype: None,
            detail: format!("{more_warnings} more warnings are not shown"),
        });
    }
    all
}

fn check_owner(zone: &Name, content: &Content, owner: &Name, findings: &mut Findings) {
    let rrsets: Vec<(&RrKey, &Rrset)> = content.at(owner).collect();
    let has = |name: &Name, rtype: Rtype| content.get(&RrKey::new(name.clone(), rtype)).is_some();
    let mut above = Above::default();
    if !rrsets.is_empty() && owner.is_at_or_below(zone) {
        above.dname = ancestors(owner, zone).find(|name| has(name, Rtype::DNAME));
        above.cut = ancestors(owner, zone).filter(|name| name != zone && has(name, Rtype::NS)).last();
    }
    check_rrsets(zone, content, owner, &rrsets, &mut above, findings);
    let mut error = |code, rtype, detail: String| {
        findings.errors.push(Finding { code, owner: owner.clone(), rtype, detail });
    };
    steering::check_names(zone, content, owner, &mut error);
    if above.cut.is_none() && owner != zone && has(owner, Rtype::NS) {
        if let Some(steered) = first_steered_below(content, owner) {
            let detail = format!("{owner} can't be delegated away: {steered} lies below it");
            error("policy_below_cut", Some(Rtype::NS), detail);
        }
        warn_occluded_below(content, owner, findings);
    }
}

/// What lies above a name in its zone.
#[derive(Default)]
struct Above {
    /// A DNAME.
    dname: Option<Name>,
    /// The highest delegation.
    cut: Option<Name>,
    /// Whether pools have an endpoint whose place is known, as far as it was asked.
    located: BTreeMap<String, bool>,
}

fn check_rrsets(
    zone: &Name,
    content: &Content,
    owner: &Name,
    rrsets: &[(&RrKey, &Rrset)],
    above: &mut Above,
    findings: &mut Findings,
) {
    // A policy stands for records of the type that it answers.
    let has = |rtype: Rtype| rrsets.iter().any(|(key, _)| served_type(key.rtype) == Some(rtype));
    let is_apex = owner == zone;
    let mut error = |code, rtype, detail: String| {
        findings.errors.push(Finding { code, owner: owner.clone(), rtype, detail });
    };

    if !owner.is_at_or_below(zone) {
        error("out_of_zone", None, format!("{owner} is not in the zone {zone}"));
        return;
    }
    for (key, rrset) in rrsets {
        check_rrset(key, rrset, &mut error);
    }
    if is_apex && !has(Rtype::NS) {
        error("apex_ns_missing", Some(Rtype::NS), "the apex needs an NS RRset".into());
    }
    if is_apex && has(Rtype::DS) {
        error("ds_at_apex", Some(Rtype::DS), "DS records belong in the parent zone (RFC 4034 §5)".into());
    }
    if has(Rtype::CNAME) {
        let others: Vec<String> = rrsets
            .iter()
            .filter_map(|(key, _)| served_type(key.rtype))
            .filter(|rtype| *rtype != Rtype::CNAME)
            .map(crate::rdata::format_rtype)
            .collect();
        if is_apex {
            error("cname_at_apex", Some(Rtype::CNAME), "the apex has a SOA, so it can't have a CNAME".into());
        } else if !others.is_empty() {
            error(
                "cname_and_other",
                Some(Rtype::CNAME),
                format!("a CNAME allows no other type at its name, and {owner} has {}", others.join(", ")),
            );
        }
    }
    if has(ALIAS) {
        check_alias(content, owner, ADDRESS_TYPES.into_iter().find(|rtype| has(*rtype)), &mut error);
    }
    if has(Rtype::DNAME)
        && let Some((below, _)) = content.below(owner).find(|(key, _)| has_a_place(key))
    {
        error(
            "below_dname",
            Some(Rtype::DNAME),
            format!("no name may exist below a DNAME (RFC 6672 §2.4), and {} does", below.owner),
        );
    }
    if rrsets.is_empty() {
        return;
    }
    if rrsets.iter().any(|(key, _)| is_steering_type(key.rtype)) {
        let is_cut = !is_apex && has(Rtype::NS);
        let around = Surroundings {
            zone,
            content,
            owner,
            rrsets,
            cut: above.cut.as_ref().or(is_cut.then_some(owner)),
            located: &mut above.located,
        };
        steering::check_owner(around, &mut error);
    }
    if let (Some(dname), true) = (&above.dname, rrsets.iter().any(|(key, _)| has_a_place(key))) {
        error("below_dname", None, format!("{owner} lies below the DNAME at {dname} (RFC 6672 §2.4)"));
    }
    warn_occluded(zone, content, owner, rrsets, above.cut.as_ref(), findings);
    warn_targets(zone, content, rrsets, findings);
}

/// Judges an ALIAS, beside addresses of this type if there are any.
fn check_alias(
    content: &Content,
    owner: &Name,
    beside: Option<Rtype>,
    error: &mut impl FnMut(&'static str, Option<Rtype>, String),
) {
    if let Some(rtype) = beside {
        let detail = format!(
            "an ALIAS stands for A and AAAA at its name, and {owner} has {} as well: remove one of them",
            crate::rdata::format_rtype(rtype)
        );
        error("alias_and_address", Some(ALIAS), detail);
    }
    let target = content.aliases().get(owner).map(|alias| &alias.target);
    if let Some(target) = target.filter(|target| target.is_root() || target.is_wildcard()) {
        error("alias_target", Some(ALIAS), format!("{target} has no addresses that an ALIAS could have"));
    }
    if let Some(way) = circle_in_zone(content, owner) {
        let names: Vec<String> = way.iter().map(Name::to_string).collect();
        error("alias_circle", Some(ALIAS), format!("ALIAS records lead in a circle: {}", names.join(" → ")));
    }
}

/// Whether an RRset stands for something in answers, so that its owner exists. Pools, views and settings don't.
fn has_a_place(key: &RrKey) -> bool {
    served_type(key.rtype).is_some() || key.rtype == steering::OVERLAY
}

/// The names above `owner`, up to and with the apex.
fn ancestors(owner: &Name, zone: &Name) -> impl Iterator<Item = Name> {
    let zone = zone.clone();
    std::iter::successors(owner.parent(), Name::parent).take_while(move |name| name.is_at_or_below(&zone))
}

fn check_rrset(key: &RrKey, rrset: &Rrset, error: &mut impl FnMut(&'static str, Option<Rtype>, String)) {
    let rtype = key.rtype;
    let mnemonic = || crate::rdata::format_rtype(rtype);
    if is_steering_type(rtype) {
        // What it says is judged with all that is steered here.
    } else if rtype == Rtype::SOA {
        error(
            "soa_is_made",
            Some(rtype),
            "the SOA is made by the system; set it through the set of name servers".into(),
        );
    } else if is_meta_type(rtype) {
        error("meta_type", Some(rtype), format!("{} is not a type of data", mnemonic()));
    } else if is_system_type(rtype) {
        error("system_type", Some(rtype), format!("{} records are made by the signer", mnemonic()));
    }
    if let Some(bad) = rrset.rdatas.iter().find_map(|rdata| check_rdata(rtype, rdata).err()) {
        error("bad_rdata", Some(rtype), format!("the RDATA of {key} is not right: {bad}"));
    }
    if rrset.ttl > MAX_TTL_S {
        error(
            "ttl_too_high",
            Some(rtype),
            format!("a TTL is at most {MAX_TTL_S} s (RFC 2181 §8), not {}", rrset.ttl),
        );
    }
    if rrset.ttl == PLACEHOLDER_TTL_S {
        let detail = format!("the TTL {PLACEHOLDER_TTL_S} is the system's own: use another");
        error("ttl_reserved", Some(rtype), detail);
    }
    if matches!(rtype, Rtype::CNAME | Rtype::DNAME | ALIAS) && rrset.rdatas.len() > 1 {
        error("more_than_one", Some(rtype), format!("there can be only one {} at a name", mnemonic()));
    }
    // The owner once in full in the question, and then as a pointer of two octets in each record.
    let bytes = MESSAGE_FIXED_BYTES
        + key.owner.as_wire().len()
        + rrset.rdatas.iter().map(|rdata| 12 + rdata.len()).sum::<usize>();
    if bytes > MESSAGE_BYTES_MAX {
        error(
            "rrset_too_big",
            Some(rtype),
            format!(
                "the RRset needs a message of {bytes} bytes, and {MESSAGE_BYTES_MAX} is the most there is"
            ),
        );
    }
}

fn warn_occluded(
    zone: &Name,
    content: &Content,
    owner: &Name,
    rrsets: &[(&RrKey, &Rrset)],
    cut_above: Option<&Name>,
    findings: &mut Findings,
) {
    if let Some(cut) = cut_above {
        let records = rrsets.iter().filter(|(key, _)| !is_steering_type(key.rtype));
        let occluded = records.filter(|(key, _)| !is_glue(content, key, cut));
        occluded.for_each(|(key, _)| findings.warnings.push(occluded_name(key, cut)));
    } else if owner != zone && rrsets.iter().any(|(key, _)| key.rtype == Rtype::NS) {
        let is_served =
            |key: &RrKey| matches!(key.rtype, Rtype::NS | Rtype::DS) || is_glue(content, key, owner);
        let records = rrsets.iter().filter(|(key, _)| !is_steering_type(key.rtype));
        let occluded = records.filter(|(key, _)| !is_served(key));
        occluded.for_each(|(key, _)| findings.warnings.push(occluded_name(key, owner)));
    }
}

/// Something steered below a name, in words.
fn first_steered_below(content: &Content, cut: &Name) -> Option<String> {
    // Where nothing is steered nothing has to be looked at.
    content.steering()?;
    let (key, _) = content.below(cut).find(|(key, _)| is_steering_type(key.rtype) && has_a_place(key))?;
    Some(format!("the {} at {}", steering::describe_type(key.rtype), key.owner))
}

/// What a new delegation hides, though it was not touched itself.
fn warn_occluded_below(content: &Content, cut: &Name, findings: &mut Findings) {
    let below = content.below(cut).take(OCCLUDED_SCAN_MAX);
    let records = below.filter(|(key, _)| !is_steering_type(key.rtype));
    let occluded = records.filter(|(key, _)| !is_glue(content, key, cut));
    occluded.for_each(|(key, _)| findings.warnings.push(occluded_name(key, cut)));
}

fn occluded_name(key: &RrKey, cut: &Name) -> Finding {
    Finding {
        code: "occluded_name",
        owner: key.owner.clone(),
        rtype: Some(key.rtype),
        detail: format!("{key} will not be answered: {cut} is delegated away"),
    }
}

fn is_glue(content: &Content, key: &RrKey, cut: &Name) -> bool {
    matches!(key.rtype, Rtype::A | Rtype::AAAA)
        && content
            .get(&RrKey::new(cut.clone(), Rtype::NS))
            .is_some_and(|ns| ns.rdatas.iter().any(|target| target == key.owner.as_wire()))
}

fn warn_targets(zone: &Name, content: &Content, rrsets: &[(&RrKey, &Rrset)], findings: &mut Findings) {
    for (key, rrset) in rrsets {
        if key.owner.is_wildcard() && matches!(key.rtype, Rtype::NS | Rtype::DNAME) {
            findings.warnings.push(Finding {
                code: "wildcard_cut",
                owner: key.owner.clone(),
                rtype: Some(key.rtype),
                detail: format!(
                    "{key} on a wildcard is not understood the same by all resolvers (RFC 4592 §4.2, §4.4)"
                ),
            });
        }
        if !matches!(key.rtype, Rtype::NS | Rtype::MX | Rtype::SRV | Rtype::CNAME) {
            continue;
        }
        for target in rrset.rdatas.iter().flat_map(|rdata| rdata_names(key.rtype, rdata)) {
            let mut warn = |code, detail| {
                findings.warnings.push(Finding {
                    code,
                    owner: key.owner.clone(),
                    rtype: Some(key.rtype),
                    detail,
                });
            };
            if key.rtype == Rtype::CNAME {
                if target == key.owner {
                    warn("cname_to_itself", format!("{} is a CNAME of itself", key.owner));
                }
                continue;
            }
            let is_there = |name: &Name, rtype: Rtype| {
                let policy = steering::policy_key(name, rtype);
                content.get(&RrKey::new(name.clone(), rtype)).is_some()
                    || policy.is_some_and(|policy| content.get(&policy).is_some())
                    || ADDRESS_TYPES.contains(&rtype) && content.aliases().contains_key(name)
            };
            if is_there(&target, Rtype::CNAME) {
                warn(
                    "target_is_cname",
                    format!("{target} is a CNAME, which {key} must not lead to (RFC 2181 §10.3)"),
                );
            }
            let has_address =
                |name: &Name| [Rtype::A, Rtype::AAAA].into_iter().any(|rtype| is_there(name, rtype));
            if key.rtype == Rtype::NS
                && key.owner != *zone
                && target.is_at_or_below(&key.owner)
                && !has_address(&target)
            {
                warn(
                    "glue_missing",
                    format!("{target} lies within the delegation and has no A or AAAA as glue"),
                );
            }
        }
    }
}
