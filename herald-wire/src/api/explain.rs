//! `GET /explain`: which answer a client gets, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::aliases::Alias;
use super::steering::{Location, Overlay};

/// How the answer to a question comes about. Odds are from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Id of the zone that answers.
    pub zone: String,
    /// Its apex.
    pub zone_name: String,
    /// Revision of the zone that is explained.
    pub revision: u64,
    /// Generation that PoPs confirm (`epoch.counter`).
    pub generation: String,
    /// The name that was asked for.
    pub name: String,
    /// The type that was asked for.
    #[serde(rename = "type")]
    pub rtype: String,
    /// What comes of it.
    pub outcome: ExplainedOutcome,
    /// The name that answers: the one asked for, or a wildcard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Type of the answer: that of the question, or CNAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_type: Option<String>,
    /// TTL of the records, in seconds, where they are not steered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The records, where they are not steered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
    /// Views that the source of the query is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<String>,
    /// What these views have at the name instead of what everybody else gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<Overlay>,
    /// The ALIAS at the name that answers: the records are what its target resolved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// The region whose own answer the PoP gives in the place of the ALIAS; absent where it gives what is served everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How it was decided, where the answer is steered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The databases that places are looked up in: those of now, with `at` too.
    pub geo: GeoVersions,
    /// What else is to be known, in words: with `at`, what is of now all the same; with `pop`, what that goes by while it is isolated;
    /// of an ALIAS that regions answer for, which one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What comes of a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExplainedOutcome {
    /// A policy decides.
    Steered,
    /// Plain records, the same for everybody.
    Records,
    /// What a view has.
    Overlay,
    /// The name is there, with no records of the type.
    #[default]
    NoData,
    /// There is no such name.
    NoSuchName,
    /// The name is delegated to others.
    Delegated,
    /// The name is below a DNAME.
    Redirected,
}

/// How a policy decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// The address that rules looked at.
    pub address: String,
    /// Whether it is that of the client subnet that the resolver tells of.
    pub by_ecs: bool,
    /// The length of the prefix for which the answer may be kept (RFC 7871), if the query had a client subnet and the zone uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_scope: Option<u8>,
    /// What is known of the address, if a rule asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<GeoFacts>,
    /// The rules in order, up to the one that matched.
    pub rules: Vec<ExplainedRule>,
    /// The pools of the rule that matched, up to the one that answers.
    pub pools: Vec<ExplainedPool>,
    /// Records that can be answered with: none if nobody's rule or pool is left, which is NODATA.
    pub answers: Vec<ExplainedAnswer>,
    /// Whether the odds are exact; else they are estimated.
    pub odds_are_exact: bool,
    /// The network that gets the same answer each time, if the pool is sticky.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    /// The one answer, if a draw was given or makes no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ChosenAnswer>,
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedRule {
    /// Its place in the policy, from 1.
    pub number: usize,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What came of it.
    pub verdict: RuleOutcome,
    /// The first condition that the client doesn't meet: `continents`, `countries`, `subdivisions`, `cities`, `asns`, `prefixes`,
    /// `pops` or `views`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<String>,
}

/// What came of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleOutcome {
    /// It is for this client.
    Matched,
    /// The client doesn't meet what it asks.
    Unmet,
    /// It asks for the nearest endpoint, and the client's place isn't known.
    PlaceUnknown,
}

/// What came of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedPool {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub verdict: PoolOutcome,
    /// Its endpoints, in their order.
    pub endpoints: Vec<ExplainedEndpoint>,
}

/// What came of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolOutcome {
    /// It answers.
    Answers,
    /// It has no endpoint that can answer.
    Nothing,
    /// It has fewer endpoints that can answer than it is to have.
    TooFew,
    /// Fewer of its endpoints are up than are to be.
    TooFewUp,
    /// The nearest endpoint is asked for, and none has a place.
    NoPlace,
    /// It answers although fewer of its endpoints are up than are to be, as in all pools of the rule: the policy's `when_all_down` says so.
    LastResort,
}

/// What came of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedEndpoint {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub verdict: EndpointOutcome,
    /// How likely it is in an answer.
    pub odds: f64,
    /// Since when it is down, in ms since the epoch, to the second; absent if it counts as up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since_ms: Option<u64>,
    /// Id of the monitor that it goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<u32>,
    /// Why the monitor's verdict is what it is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// What came of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointOutcome {
    /// It can be in the answer.
    Candidate,
    /// It has no records of the type.
    NoRecords,
    /// It is disabled.
    Disabled,
    /// It is drained, and others aren't.
    Drained,
    /// Its weight is zero, and others have one.
    NoWeight,
    /// Another one is nearer, or it has no place.
    NotNearest,
    /// It is down.
    Down,
    /// It could, but its pool is passed over.
    PoolPassedOver,
}

/// How likely a record is in an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedAnswer {
    /// The record, in presentation format.
    pub record: String,
    /// How likely it is in an answer.
    pub odds: f64,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChosenAnswer {
    /// The endpoints in it.
    pub endpoints: Vec<String>,
    /// Its records, in presentation format.
    pub records: Vec<String>,
    /// Its TTL, in seconds.
    pub ttl: u32,
}

/// What is known of an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GeoFacts {
    /// Continent code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continent: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// ISO 3166-2, the larger one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subdivisions: Vec<String>,
    /// City, as its number at GeoNames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<u32>,
    /// Autonomous system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Coordinates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// The databases that places are looked up in; absent where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GeoVersions {
    /// Of places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<GeoVersion>,
    /// Of autonomous systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<GeoVersion>,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GeoVersion {
    /// What it calls itself.
    pub kind: String,
    /// When it was built, in ms since the epoch.
    pub built_ms: u64,
}
