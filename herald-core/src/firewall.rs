//! The firewall: which queries are dropped, refused or answered otherwise before a zone answers them. What the log says of it.
//!
//! The encoding of all here is persistent: field numbers are never used again for something else; what is added is optional.

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use minicbor::{Decode, Encode};

use crate::change::{Change, ChunkAddress};
use crate::rrset::rtype_number;
use crate::steering::Prefix;
use crate::{Name, Rtype, TenantId};

/// Most rules of the fleet, and of a tenant.
pub const FLEET_RULES_MAX: usize = 1_000;
/// See [`FLEET_RULES_MAX`].
pub const TENANT_RULES_MAX: usize = 100;
/// Most values of all lists of the fleet's rules together, and of a tenant's.
pub const FLEET_VALUES_MAX: usize = 200_000;
/// See [`FLEET_VALUES_MAX`].
pub const TENANT_VALUES_MAX: usize = 2_000;
/// Most values in the lists of one rule: a rule is one entry of the log when it changes.
pub const RULE_VALUES_MAX: usize = 20_000;
/// Most policy zones.
pub const POLICY_ZONES_MAX: usize = 10;
/// Most rules of one policy zone.
pub const POLICY_RULES_MAX: usize = 2_000_000;
/// The highest rate that can be asked for, in queries a second, and the largest burst.
pub const RATE_MAX: u32 = 1_000_000;
/// Longest note of a rule, in bytes.
const NOTE_BYTES_MAX: usize = 256;
/// Longest name of a rule or a policy zone, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Owner {
    /// All queries of all PoPs: its operators'.
    #[n(0)]
    Fleet,
    /// Queries for this tenant's zones.
    #[n(1)]
    Tenant(#[n(0)] TenantId),
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Rule {
    /// Unique among its owner's: lower-case letters, digits and hyphens.
    #[n(0)]
    pub name: String,
    /// Rules are gone through by ascending order; of equal ones by name.
    #[n(1)]
    pub order: u32,
    /// Which queries.
    #[n(2)]
    pub when: When,
    /// What is done with them.
    #[n(3)]
    pub action: Action,
    /// Why there is this rule, for people.
    #[n(4)]
    pub note: Option<String>,
}

/// Which queries a rule is for: those for which all that is said holds. Of a list one value has to; an empty list says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct When {
    /// The source is in one of these. The source is where the query came from, never what it says of a client (RFC 7871).
    #[n(0)]
    pub sources: Vec<Prefix>,
    /// The source is in one of these countries (ISO 3166-1 alpha-2), as the table of places has it.
    #[cbor(n(1), with = "countries")]
    pub countries: Vec<[u8; 2]>,
    /// The source is in one of these autonomous systems.
    #[n(2)]
    pub asns: Vec<u32>,
    /// The name asked for is one of these; one that begins with `*` stands for all names below the rest, and not for the rest.
    #[n(3)]
    pub names: Vec<Name>,
    /// The type asked for is one of these.
    #[n(4)]
    pub types: Vec<QueryType>,
    /// More queries than this come from the source's network.
    #[n(5)]
    pub over: Option<Rate>,
}

/// A type of records asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct QueryType(#[cbor(n(0), with = "rtype_number")] pub Rtype);

/// How many queries a network may send before a rule is for the rest of them (a token bucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Rate {
    /// Queries a second.
    #[n(0)]
    pub per_s: u32,
    /// How many may come at once.
    #[n(1)]
    pub burst: u32,
    /// Length in bits of the networks that are counted, of IPv4.
    #[n(2)]
    pub v4_length: u8,
    /// Of IPv6.
    #[n(3)]
    pub v6_length: u8,
}

/// What is done with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Action {
    /// It is answered: no rule and no policy zone after this one is asked.
    #[n(0)]
    Pass,
    /// It gets no answer.
    #[n(1)]
    Drop,
    /// REFUSED.
    #[n(2)]
    Refuse,
    /// An empty truncated answer, so that whoever is at the source comes by TCP; a query that came by TCP passes.
    #[n(3)]
    Truncate,
    /// NXDOMAIN.
    #[n(4)]
    NxDomain,
    /// It is counted, and the next rule is asked.
    #[n(5)]
    Count,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 6] =
        [Action::Pass, Action::Drop, Action::Refuse, Action::Truncate, Action::NxDomain, Action::Count];

    /// As the API has it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Pass => "pass",
            Action::Drop => "drop",
            Action::Refuse => "refuse",
            Action::Truncate => "truncate",
            Action::NxDomain => "nxdomain",
            Action::Count => "count",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A response policy zone: what the log says of it. Its rules are in chunks, in the form that PoPs use.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PolicyZone {
    /// Unique: lower-case letters, digits and hyphens.
    #[n(0)]
    pub name: String,
    /// Policy zones are asked by ascending order; of equal ones by name.
    #[n(1)]
    pub order: u32,
    /// SHA-256 of its rules.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub sha256: [u8; 32],
    /// How many bytes its rules have.
    #[n(3)]
    pub bytes: u64,
    /// The chunks that hold them, in order.
    #[cbor(n(4), with = "crate::geoip::addresses")]
    pub chunks: Vec<ChunkAddress>,
    /// Rules by name.
    #[n(5)]
    pub names: u64,
    /// Rules by the client's address.
    #[n(6)]
    pub clients: u64,
    /// Triggers that mean nothing to an authoritative server (`rpz-ip`, `rpz-nsdname`, `rpz-nsip`), left out.
    #[n(7)]
    pub not_applying: u64,
    /// The serial of its SOA.
    #[n(8)]
    pub serial: Option<u32>,
}

impl When {
    /// How many values its lists have together.
    pub fn values(&self) -> usize {
        self.sources.len() + self.countries.len() + self.asns.len() + self.names.len() + self.types.len()
    }
}

/// The rules of all owners, and the policy zones: part of the state.
#[derive(Clone, Debug, Default)]
pub struct Firewall {
    rules: OrdMap<(Owner, String), Arc<Rule>>,
    zones: OrdMap<String, Arc<PolicyZone>>,
    /// When an owner's rules changed last, or of the fleet its policy zones.
    revisions: OrdMap<Owner, u64>,
}

impl Firewall {
    /// An owner's rules, by name.
    pub fn rules(&self, owner: Owner) -> impl Iterator<Item = &Rule> {
        let range = self.rules.range((owner, String::new())..);
        range.take_while(move |((other, _), _)| *other == owner).map(|(_, rule)| &**rule)
    }

    /// A rule.
    pub fn rule(&self, owner: Owner, name: &str) -> Option<&Rule> {
        self.rules.get(&(owner, name.to_owned())).map(|rule| &**rule)
    }

    /// Who has rules, with the rules.
    pub fn all_rules(&self) -> impl Iterator<Item = (Owner, &Arc<Rule>)> {
        self.rules.iter().map(|((owner, _), rule)| (*owner, rule))
    }

    /// Policy zones, in the order in which they are asked.
    pub fn zones(&self) -> impl Iterator<Item = &PolicyZone> {
        let mut zones: Vec<_> = self.zones.values().map(|zone| &**zone).collect();
        zones.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        zones.into_iter()
    }

    /// A policy zone.
    pub fn zone(&self, name: &str) -> Option<&PolicyZone> {
        self.zones.get(name).map(|zone| &**zone)
    }

    /// Whether it has the same rules as another one, found out without comparing them: if not, it may have all the same.
    pub fn has_rules_of(&self, other: &Firewall) -> bool {
        self.rules.ptr_eq(&other.rules)
    }

    /// As [`Firewall::has_rules_of`], of policy zones.
    pub fn has_zones_of(&self, other: &Firewall) -> bool {
        self.zones.ptr_eq(&other.zones)
    }

    /// The revision at which an owner's rules changed last, or of the fleet its policy zones; 0 if they never did.
    pub fn revision(&self, owner: Owner) -> u64 {
        self.revisions.get(&owner).copied().unwrap_or(0)
    }

    /// Folds a change in, if it is about the firewall.
    pub fn apply(&mut self, revision: u64, change: &Change) {
        let (owner, revision) = match change {
            Change::FirewallRulePut { owner, rule } => {
                self.rules.insert((*owner, rule.name.clone()), Arc::new(rule.clone()));
                (*owner, revision)
            }
            Change::FirewallRuleDeleted { owner, name } => {
                self.rules.remove(&(*owner, name.clone()));
                (*owner, revision)
            }
            Change::PolicyZonePut(zone) => {
                self.zones.insert(zone.name.clone(), Arc::new(zone.clone()));
                (Owner::Fleet, revision)
            }
            Change::PolicyZoneDeleted { name } => {
                self.zones.remove(name);
                (Owner::Fleet, revision)
            }
            Change::FirewallRestored { owner, revision } => (*owner, *revision),
            _ => return,
        };
        self.revisions.insert(owner, revision);
    }

    /// The tenant is no more.
    pub(crate) fn forget(&mut self, tenant: TenantId) {
        let owner = Owner::Tenant(tenant);
        let names: Vec<String> = self.rules(owner).map(|rule| rule.name.clone()).collect();
        names.into_iter().for_each(|name| _ = self.rules.remove(&(owner, name)));
        self.revisions.remove(&owner);
    }

    /// The changes that lead to it.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> {
        let rules = self.all_rules();
        let rules = rules.map(|(owner, rule)| Change::FirewallRulePut { owner, rule: (**rule).clone() });
        let zones = self.zones.values().map(|zone| Change::PolicyZonePut((**zone).clone()));
        let revisions = self.revisions.iter();
        // After the rules, which would bring the checkpoint's revision.
        let revisions = revisions
            .map(|(owner, revision)| Change::FirewallRestored { owner: *owner, revision: *revision });
        rules.chain(zones).chain(revisions)
    }
}

/// A part of the firewall: PoPs get each in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum FirewallPart {
    /// The rules of the fleet and of tenants.
    #[n(0)]
    Rules,
    /// The policy zones.
    #[n(1)]
    Policies,
}

impl FirewallPart {
    /// Both.
    pub const ALL: [FirewallPart; 2] = [FirewallPart::Rules, FirewallPart::Policies];
}

/// How often something of the firewall was for a query, since knotd started.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FirewallCount {
    /// Whose rule; none of a policy zone.
    #[n(0)]
    pub owner: Option<Owner>,
    /// The name of the rule or the policy zone.
    #[n(1)]
    pub name: String,
    /// What a policy zone did; empty of a rule.
    #[n(2)]
    pub action: String,
    /// How often.
    #[n(3)]
    pub queries: u64,
}

/// What is wrong with a rule: its field, as the API has it, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct RuleFault {
    /// The field, as a path in the rule.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

/// Whether this can be the name of a rule or a policy zone.
pub fn is_label(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// What is wrong with a rule by itself.
pub fn rule_faults(rule: &Rule) -> Vec<RuleFault> {
    let mut faults = Vec::new();
    let mut fault = |field: &str, detail: String| faults.push(RuleFault { field: field.into(), detail });
    if !is_label(&rule.name) {
        let detail = format!(
            "`{}` is no name of a rule: it has 1 to {NAME_BYTES_MAX} of a-z, 0-9 and hyphens, and neither begins nor ends \
             with a hyphen",
            rule.name.escape_debug()
        );
        fault("name", detail);
    }
    if rule.note.as_ref().is_some_and(|note| note.len() > NOTE_BYTES_MAX) {
        fault("note", format!("a note has at most {NOTE_BYTES_MAX} bytes"));
    }
    let When { countries, names, over, .. } = &rule.when;
    let values = rule.when.values();
    if values > RULE_VALUES_MAX {
        fault(
            "when",
            format!("the lists have {values} values: a rule has at most {RULE_VALUES_MAX}; make two of it"),
        );
    }
    for (place, country) in countries.iter().enumerate() {
        if !country.iter().all(u8::is_ascii_uppercase) {
            let detail = format!("`{}` is no country (ISO 3166-1 alpha-2, as DE)", country.escape_ascii());
            fault(&format!("when.countries[{place}]"), detail);
        }
    }
    for (place, name) in names.iter().enumerate() {
        if name.labels().skip(1).any(|label| label == b"*") {
            let detail = format!("{name}: an asterisk is possible as the first label alone");
            fault(&format!("when.names[{place}]"), detail);
        }
    }
    if let Some(rate) = over {
        if !(1..=RATE_MAX).contains(&rate.per_s) {
            fault("when.over.per_s", format!("a rate is from 1 to {RATE_MAX} queries a second"));
        }
        if !(1..=RATE_MAX).contains(&rate.burst) {
            fault("when.over.burst", format!("a burst is from 1 to {RATE_MAX} queries"));
        }
        if !(1..=32).contains(&rate.v4_length) {
            fault("when.over.v4_length", "networks of IPv4 have 1 to 32 bits".into());
        }
        if !(1..=128).contains(&rate.v6_length) {
            fault("when.over.v6_length", "networks of IPv6 have 1 to 128 bits".into());
        }
    }
    faults
}

mod countries {
    use minicbor::decode::Error;
    use minicbor::encode::Write;
    use minicbor::{Decoder, Encoder};

    pub(super) fn encode<C, W: Write>(
        countries: &[[u8; 2]],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(countries.as_flattened())?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<[u8; 2]>, Error> {
        let (codes, rest) = d.bytes()?.as_chunks::<2>();
        if rest.is_empty() { Ok(codes.to_vec()) } else { Err(Error::message("a country has 2 octets")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule {
            name: "no-any".into(),
            order: 10,
            when: When {
                sources: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
                countries: vec![*b"DE", *b"FR"],
                asns: vec![64496],
                names: vec![Name::parse("*.example.com").unwrap()],
                types: vec![QueryType(Rtype::ANY)],
                over: Some(Rate { per_s: 100, burst: 200, v4_length: 24, v6_length: 56 }),
            },
            action: Action::Truncate,
            note: Some("amplifies".into()),
        }
    }

    #[test]
    fn faults_name_their_field() {
        assert_eq!(rule_faults(&rule()), []);
        let fields = |change: fn(&mut Rule)| {
            let mut rule = rule();
            change(&mut rule);
            rule_faults(&rule).into_iter().map(|fault| fault.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(|rule| rule.name = "No Any".into()), ["name"]);
        assert_eq!(fields(|rule| rule.note = Some("x".repeat(257))), ["note"]);
        assert_eq!(fields(|rule| rule.when.countries.push(*b"de")), ["when.countries[2]"]);
        assert_eq!(
            fields(|rule| rule.when.names.push(Name::parse("a.*.example.com").unwrap())),
            ["when.names[1]"]
        );
        assert_eq!(fields(|rule| rule.when.over.as_mut().unwrap().per_s = 0), ["when.over.per_s"]);
        assert_eq!(fields(|rule| rule.when.over.as_mut().unwrap().v4_length = 33), ["when.over.v4_length"]);
        assert_eq!(fields(|rule| rule.when.asns = vec![1; RULE_VALUES_MAX]), ["when"]);
    }
}
