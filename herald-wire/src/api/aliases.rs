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
    /// What is served at the name.
    pub served: Vec<AliasAnswer>,
    /// Whether PoPs got different addresses for the target: then those of the first one of `pops` that has any are served, everywhere.
    pub differs_by_place: bool,
    /// The PoPs that resolve the target, in the order in which their answers are taken.
    pub pops: Vec<AliasPop>,
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
