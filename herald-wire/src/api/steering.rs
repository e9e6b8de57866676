//! Steering as tenants read and write it: who gets which answer.
//!
//! Names of owners are relative to the zone (`www`, `@`) where they are written out, so that a document can be taken to
//! another zone; on input fully qualified ones are as good.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{RrsetChange, unique_keys};

/// All steering of a zone: what `GET /zones/{zone}/steering` answers and `PUT` takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SteeringDocument {
    /// Of the zone.
    #[serde(default)]
    pub settings: SteeringSettings,
    /// Views by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_keys")]
    pub views: BTreeMap<String, View>,
    /// Pools by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_keys")]
    pub pools: BTreeMap<String, Pool>,
    /// Which rules answer a name and type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// What views have at names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<Overlay>,
}

/// Settings of a zone that bear on answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SteeringSettings {
    /// Whether the client subnet that a resolver tells of (RFC 7871) is used, and echoed with the scope of the answer.
    #[serde(default)]
    pub ecs: bool,
    /// Whether the PoPs of each region answer for ALIAS records with what the targets resolve to there.
    #[serde(default)]
    pub alias_by_region: bool,
}

/// Endpoints, and how they are answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// TTL of its answers, in seconds: 60 unless given.
    #[serde(default = "default_ttl")]
    pub ttl: u32,
    /// How many endpoints an answer has. Unless given: `one` if an endpoint has a weight, else `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// A client's network gets the same draw each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// With fewer endpoints that can answer, the pool is passed over: 1 unless given.
    #[serde(default = "default_min_healthy")]
    pub min_healthy: u16,
    /// The endpoints, at most 500.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

fn default_ttl() -> u32 {
    60
}

fn default_min_healthy() -> u16 {
    1
}

/// How many endpoints of a pool an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// All; weights mean nothing.
    All,
    /// One, drawn by weight.
    One,
    /// Up to so many (1 to 64), drawn by weight without repetition.
    UpTo(u8),
}

/// Draws depend on the client's network alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sticky {
    /// Length of the IPv4 prefix that counts as one client: 24 unless given.
    #[serde(default = "default_ipv4_prefix")]
    pub ipv4_prefix: u8,
    /// Length of the IPv6 prefix that counts as one client: 56 unless given.
    #[serde(default = "default_ipv6_prefix")]
    pub ipv6_prefix: u8,
}

fn default_ipv4_prefix() -> u8 {
    24
}

fn default_ipv6_prefix() -> u8 {
    56
}

/// What a pool answers with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Unique in its pool.
    pub name: String,
    /// Records in presentation format, by type.
    #[serde(deserialize_with = "unique_keys")]
    pub records: BTreeMap<String, Vec<String>>,
    /// Its share of the draws, at most 1000000; 1 unless given, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Whether it is used.
    #[serde(default)]
    pub state: EndpointState,
    /// Where it is, for rules that choose the nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// From -99 to 99, in percent: how much smaller (positive) or larger its distance is taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bias: i8,
    /// Id of the tenant's monitor that says whether it is up; without one it always counts as up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(bias: &i8) -> bool {
    *bias == 0
}

/// Whether an endpoint is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// It answers.
    #[default]
    Enabled,
    /// It answers only where its pool has nothing else.
    Drained,
    /// It never answers.
    Disabled,
}

/// A place on earth (WGS 84), in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// North, -90 to 90.
    pub latitude: f32,
    /// East, -180 to 180.
    pub longitude: f32,
}

/// Who is inside a view: whose query comes from one of the prefixes, if any are named, to one of the PoPs, if any are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Sources of queries: never what a resolver says of its client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Names of the PoPs that answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pops: Vec<String>,
}

/// What decides the answers at a name and type: the first rule that matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Owner name: relative to the zone, fully qualified, or `@`.
    pub name: String,
    /// Type of the answers.
    #[serde(rename = "type")]
    pub rtype: String,
    /// In order, at most 200.
    pub rules: Vec<Rule>,
    /// What is answered when none of a rule's pools has as many endpoints up as it is to have: `serve_all` unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_all_down: WhenAllDown,
    /// Whose word on endpoints counts at a PoP that hears nothing from the control plane: `hold` unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_isolated: WhenIsolated,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What is answered when none of a rule's pools has as many endpoints up as it is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAllDown {
    /// The first pool answers that would if all were up, as if all were.
    #[default]
    ServeAll,
    /// Those that are up, or else those that went down last.
    ServeLast,
    /// No records (NODATA).
    #[serde(rename = "nodata")]
    NoData,
}

/// Whose word on endpoints counts at a PoP that hears nothing from the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenIsolated {
    /// The control plane's last one.
    #[default]
    Hold,
    /// The PoP's own probes decide: one vantage point.
    Local,
}

/// Whom a rule is for, and what they get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What you call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whom it is for: everybody, unless given.
    #[serde(default, skip_serializing_if = "When::is_any")]
    pub when: When,
    /// Names of pools; the first one that can answer does.
    pub pools: Vec<String>,
    /// Only the endpoint nearest to the client is a candidate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nearest: bool,
}

/// What is asked of a client. Of each kind that is given one alternative must be met.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// `AF`, `AN`, `AS`, `EU`, `NA`, `OC`, `SA`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continents: Vec<String>,
    /// ISO 3166-1 alpha-2: `DE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// ISO 3166-2: `US-CA`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subdivisions: Vec<String>,
    /// By number at GeoNames, or by English name with the country.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cities: Vec<City>,
    /// Numbers of autonomous systems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asns: Vec<u32>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Names of the PoPs that answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pops: Vec<String>,
    /// Names of the views that the source of the query is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<String>,
}

impl When {
    /// Whether everybody meets it.
    pub fn is_any(&self) -> bool {
        *self == When::default()
    }
}

/// A city.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a city is a number of GeoNames, or a name and a country")]
pub enum City {
    /// By its number at GeoNames.
    GeoNames(u32),
    /// Every city of this English name in this country.
    Named(NamedCity),
}

/// A city by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedCity {
    /// Its English name.
    pub name: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
}

/// What a view has at a name and type: records, or nothing (`hidden`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The view.
    pub view: String,
    /// Owner name: relative to the zone, fully qualified, or `@`.
    pub name: String,
    /// Type; `ANY` only to hide all of the name.
    #[serde(rename = "type")]
    pub rtype: String,
    /// TTL in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// RDATA in presentation format.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
    /// Insiders get nothing of what everybody else gets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

// ------------------------------------------------------------------------------------------- changes

/// Body of `PATCH /zones/{zone}/steering`: one change of steering and records, whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SteeringPatch {
    /// Of steering, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<SteeringChange>,
    /// Of records, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RrsetChange>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a change of steering does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SteeringOp {
    /// The settings become `settings`.
    #[default]
    PutSettings,
    /// The pool `name` becomes `pool`.
    PutPool,
    /// The pool `name` is removed.
    DeletePool,
    /// Of the endpoint `endpoint` of the pool `name` the `weight` or the `state` changes, or both.
    SetEndpoint,
    /// The view `name` becomes `view`.
    PutView,
    /// The view `name` is removed.
    DeleteView,
    /// The policy at its name and type becomes `policy`.
    PutPolicy,
    /// The policy at `name` and `type` is removed.
    DeletePolicy,
    /// What a view has at a name and type becomes `overlay`.
    PutOverlay,
    /// What a view has at a name and type is removed: `overlay` without TTL and records.
    DeleteOverlay,
}

/// One change of steering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SteeringChange {
    /// What to do.
    pub op: SteeringOp,
    /// Name of a pool or view, or owner name of a policy that is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Type of a policy that is removed.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub rtype: Option<String>,
    /// The settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SteeringSettings>,
    /// The pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// The view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// The policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The overlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// Name of an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Its weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Whether it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<EndpointState>,
}

// --------------------------------------------------------------------------------------------- items

/// Something of a zone's steering that has a name, with what a change of it needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Named<T> {
    /// Its name.
    pub name: String,
    /// For `If-Match`.
    pub etag: String,
    /// What it is.
    #[serde(flatten)]
    pub item: T,
}

/// An item of a zone's steering that says itself what it is called, with what a change of it needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tagged<T> {
    /// For `If-Match`.
    pub etag: String,
    /// What it is.
    #[serde(flatten)]
    pub item: T,
}

/// Body of `PUT /zones/{zone}/policies/{name}/{type}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyPut {
    /// In order, at most 200.
    pub rules: Vec<Rule>,
    /// What is answered when none of a rule's pools has as many endpoints up as it is to have: `serve_all` unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_all_down: WhenAllDown,
    /// Whose word on endpoints counts at a PoP that hears nothing from the control plane: `hold` unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_isolated: WhenIsolated,
}

/// Body of `PUT /zones/{zone}/views/{view}/records/{name}/{type}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlayPut {
    /// TTL in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// RDATA in presentation format.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
    /// Insiders get nothing of what everybody else gets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// Steering as a difference tells it: one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SteeringItem {
    /// In a few words: `pool eu`, `policy www A`.
    pub title: String,
    /// The settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SteeringSettings>,
    /// A pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// A view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// A policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// What views have at a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<Overlay>,
}
