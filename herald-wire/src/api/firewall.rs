//! The firewall: rules, policy zones, and what would be done with a query.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ChangeKind, GeoipRollout};

/// A rule. The first one, by `order` and then by name, that is for a query decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallRule {
    /// Unique among the rules of its owner: lower-case letters, digits and hyphens.
    pub name: String,
    /// Rules are gone through by ascending order.
    #[serde(default)]
    pub order: u32,
    /// Which queries.
    #[serde(default)]
    pub when: FirewallWhen,
    /// What is done with them.
    pub action: FirewallAction,
    /// Why there is this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Which queries a rule is for: all that is said has to hold, and of a list one value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallWhen {
    /// Networks that the query came from: `192.0.2.0/24`. A client subnet that it tells of is of no account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Countries (ISO 3166-1 alpha-2) of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// Autonomous systems of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asns: Vec<u32>,
    /// Names asked for; `*.example.com` is all names below example.com.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Types asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Queries beyond a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<FirewallRate>,
}

/// Queries of a network beyond so many a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallRate {
    /// Queries a second.
    pub per_s: u32,
    /// How many may come at once; as many as `per_s` unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Length in bits of the networks that are counted, of IPv4; 24 unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4_length: Option<u8>,
    /// Of IPv6; 56 unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6_length: Option<u8>,
}

/// What is done with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FirewallAction {
    /// It is answered, whatever comes later.
    Pass,
    /// It gets no answer.
    Drop,
    /// REFUSED.
    Refuse,
    /// An empty truncated answer; by TCP it passes.
    Truncate,
    /// NXDOMAIN.
    Nxdomain,
    /// It is counted, and the next rule is asked.
    Count,
}

/// Rules, all of an owner's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallRules {
    /// In the order in which they are gone through.
    pub rules: Vec<FirewallRule>,
}

/// The firewall of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Firewall {
    /// The fleet's rules, in order.
    pub rules: Vec<FirewallRule>,
    /// Response policy zones, in order: they are asked after the fleet's rules and before those of tenants.
    pub policy_zones: Vec<PolicyZone>,
    /// What PoPs get, and how far it has got.
    pub files: Vec<FirewallFile>,
    /// How often rules and policy zones were for queries, at each PoP since its knotd started.
    pub counts: Vec<FirewallHits>,
}

/// A response policy zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyZone {
    /// Its name.
    pub name: String,
    /// Policy zones are asked by ascending order.
    pub order: u32,
    /// Rules by the name asked for.
    pub names: u64,
    /// Rules by the client's address.
    pub clients: u64,
    /// Triggers that mean nothing to an authoritative server (`rpz-ip`, `rpz-nsdname`, `rpz-nsip`): left out.
    pub not_applying: u64,
    /// The serial of its SOA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
    /// How many bytes it takes on its way to PoPs.
    pub bytes: u64,
    /// SHA-256 of that, in hexadecimal.
    pub sha256: String,
}

/// A file of the firewall that PoPs get: one PoP first, and the others once that one has loaded it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FirewallFile {
    /// `rules` or `policy_zones`.
    pub part: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal; none if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How far it has got.
    pub rollout: GeoipRollout,
    /// What PoPs have, those that never told left out.
    pub pops: Vec<FirewallPop>,
}

/// What a PoP has of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FirewallPop {
    /// The PoP's name.
    pub pop: String,
    /// SHA-256 of the file that it decides by, in hexadecimal; none: of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether it is the present one.
    pub in_sync: bool,
    /// Why it could not use one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How often something was for a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FirewallHits {
    /// The PoP's name.
    pub pop: String,
    /// `fleet`, `policy_zone`, or the id of a tenant.
    pub owner: String,
    /// The name of the rule or the policy zone.
    pub name: String,
    /// What the policy zone did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// How often, since knotd started there.
    pub queries: u64,
}

/// What was done to rules or policy zones by one change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FirewallEvent {
    /// Id of the change.
    pub id: String,
    /// Its place on the log.
    pub revision: u64,
    /// When.
    pub accepted_at_ms: u64,
    /// Who: `operator`, `tenant` or `system`, and the token's id.
    pub principal: String,
    /// Why, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What kinds of thing.
    pub kinds: Vec<ChangeKind>,
}

/// What the firewall does with a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FirewallVerdict {
    /// `pass`, `drop`, `refuse`, `truncate`, `nxdomain`, `nodata` or `local_data`.
    pub verdict: String,
    /// Who decided: `fleet`, `policy_zone`, or the id of a tenant; none if nothing is said of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The rule or the policy zone that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In words.
    pub reason: String,
    /// What is done if the source sends more than all rates allow, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_fast: Option<String>,
}
