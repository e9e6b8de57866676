//! `GET /zones/{zone}/aliases`: what ALIAS records resolve to, and from where.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An ALIAS record, and what is served in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alias {
    /// Its owner, fully qualified.
    pub name: String,
    /// Whose addresses it has, fully qualified.
    pub target: String,
    /// The highest TTL of what is served, in seconds.
    pub ttl: u32,
    /// How it is.
    pub state: AliasState,
    /// Why it isn't resolved, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What is served at the name, wherever a region has no answer of its own.
    pub served: Vec<AliasAnswer>,
    /// Whether PoPs got different addresses for the target: then those of the first one of `pops` that has any are served everywhere, unless
    /// the zone's settings have `alias_by_region`.
    pub differs_by_place: bool,
    /// The PoPs that resolve the target, in the order in which their answers are taken; those that resolve it for their region alone come
    /// last.
    pub pops: Vec<AliasPop>,
    /// What is served in each region, if the zone's settings have `alias_by_region`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<AliasRegion>,
}

/// What the PoPs of a region serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AliasRegion {
    /// Its name.
    pub region: String,
    /// Where what is served there comes from.
    pub state: AliasRegionState,
    /// What its PoPs serve.
    pub served: Vec<AliasAnswer>,
    /// Names of its PoPs.
    pub pops: Vec<String>,
    /// Names of those of them that resolve the target for it, in the order in which their answers are taken.
    pub resolved_by: Vec<String>,
}

/// Where what is served in a region comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AliasRegionState {
    /// It is what is served everywhere, as the region's PoPs found the same, or don't know.
    Everywhere,
    /// The region's PoPs found something else, and that is what is served there.
    Own,
    /// The same, and since then they found nothing that can be served: what was good last is served there.
    LastGood,
}

/// How an ALIAS record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AliasState {
    /// What is served is what the target has, as far as is known.
    Resolved,
    /// The target can't be resolved, or has an address that isn't served: what was good last is served.
    LastGood,
    /// The target was not resolved yet, or can't be, and nothing is served.
    Unresolved,
    /// It leads back to itself: nothing is served.
    Circle,
    /// The zone isn't served, and so nothing is resolved for it.
    NotServed,
}

/// Addresses of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AliasAnswer {
    /// A or AAAA.
    #[serde(rename = "type")]
    pub rtype: String,
    /// Their TTL, in seconds.
    pub ttl: u32,
    /// The addresses.
    pub records: Vec<String>,
}

/// What one PoP found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AliasPop {
    /// Its name.
    pub pop: String,
    /// The region that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether its session is up.
    pub connected: bool,
    /// Since when it has been so, in ms since the epoch; none if it said nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// What its resolver has.
    pub answers: Vec<AliasAnswer>,
    /// Why it has no addresses of a type, or why these aren't served, in words.
    pub causes: Vec<AliasCause>,
}

/// Why there are no addresses of a type, or why they aren't served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AliasCause {
    /// A or AAAA.
    #[serde(rename = "type")]
    pub rtype: String,
    /// In words.
    pub cause: String,
}
