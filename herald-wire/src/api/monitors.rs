//! Monitors as tenants read and write them: what is asked of an endpoint again and again, and the verdict on it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /monitors` and `PUT /monitors/{monitor}`: what a monitor is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorInput {
    /// Short, unique among the tenant's: letters, digits, `-`, at most 63, and not digits alone.
    pub name: String,
    /// Whose it is to be, by id or name: for operators, and only when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What is asked.
    pub check: MonitorCheck,
    /// How often, and what to make of what is seen.
    #[serde(default)]
    pub pace: MonitorPace,
    /// Whether it is on. One that is off has no verdict, and what names it counts as up.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether a heartbeat gets another address to call, and the one it had works no more. One that is made gets one anyway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_secret: bool,
}

fn yes() -> bool {
    true
}

/// A monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Monitor {
    /// Its id.
    pub id: u32,
    /// Unique among the tenant's.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What is asked.
    pub check: MonitorCheck,
    /// How often, and what to make of what is seen.
    pub pace: MonitorPace,
    /// Whether it is on.
    pub enabled: bool,
    /// What is held of it.
    pub state: MonitorState,
    /// The verdict; none before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<MonitorVerdict>,
    /// What PoPs see of it: where one monitor is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pops: Vec<MonitorPop>,
    /// When a heartbeat last came, as far as this control plane knows since it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_ms: Option<u64>,
    /// Revision of its last change, verdicts not counted: its ETag.
    pub revision: u64,
    /// When it was made.
    pub created_at_ms: u64,
    /// The path below the API's base that a heartbeat is called in at: in the answer that makes it, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_path: Option<String>,
}

/// What is held of a monitor's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MonitorState {
    /// It is up.
    Up,
    /// It is down.
    Down,
    /// There is no verdict yet: what names it counts as up.
    Unknown,
    /// The monitor is off: what names it counts as up.
    Off,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonitorVerdict {
    /// Whether it is up.
    pub up: bool,
    /// Since when.
    pub since_ms: u64,
    /// Why, in words.
    pub cause: String,
    /// The change that says so.
    pub change: String,
}

/// What a PoP sees of a monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonitorPop {
    /// Name of the PoP.
    pub pop: String,
    /// Whether it is connected: what one says that isn't doesn't count.
    pub connected: bool,
    /// Whether it sees it up; none if it can't say yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// How the last probe went, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Since when it has been seen like that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// How long the last good probe took, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    /// When the certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ends_at_ms: Option<u64>,
}

/// How often a monitor probes, and what it makes of what is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorPace {
    /// From one probe to the next: 10000 unless given. A heartbeat has to come so often.
    #[serde(default = "default_interval_ms")]
    pub interval_ms: u32,
    /// A probe without an answer by then has failed; a heartbeat may be late by so much. Unless given: 2000, and at most the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// So many good probes in a row, and a PoP says "up": 2 unless given.
    #[serde(default = "two")]
    pub rise: u8,
    /// So many bad probes in a row, and a PoP says "down": 2 unless given.
    #[serde(default = "two")]
    pub fall: u8,
    /// How many PoPs probe: 3 unless given, at most 15.
    #[serde(default = "three")]
    pub probers: u8,
    /// How many of them have to say the same for a verdict: more than half unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u8>,
    /// After "down", "up" has to hold for so long before the verdict follows: 0 unless given.
    #[serde(default)]
    pub recovery_ms: u32,
}

impl Default for MonitorPace {
    fn default() -> MonitorPace {
        MonitorPace {
            interval_ms: default_interval_ms(),
            timeout_ms: None,
            rise: two(),
            fall: two(),
            probers: three(),
            quorum: None,
            recovery_ms: 0,
        }
    }
}

fn default_interval_ms() -> u32 {
    10_000
}

fn two() -> u8 {
    2
}

fn three() -> u8 {
    3
}

/// What is asked of an endpoint. A target is an address, or a domain name whose addresses are looked up at each probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MonitorCheck {
    /// An HTTP request.
    Http(MonitorHttp),
    /// An HTTPS request.
    Https(MonitorHttp),
    /// A TCP connection is made.
    Tcp(MonitorTcp),
    /// A TLS handshake is done.
    Tls(MonitorTls),
    /// A DNS query is answered.
    Dns(MonitorDns),
    /// An ICMP echo is answered, where PoPs may send one.
    Icmp(MonitorIcmp),
    /// The endpoint calls in.
    Heartbeat(MonitorHeartbeat),
    /// The verdicts on other monitors.
    Calculated(MonitorCalculated),
}

/// An HTTP request, and what its response must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorHttp {
    /// Where.
    pub target: String,
    /// 80 or 443 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path and query: `/` unless given.
    #[serde(default = "default_path")]
    pub path: String,
    /// The Host header: the target unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `GET` unless given.
    #[serde(default)]
    pub method: MonitorMethod,
    /// The first status that is fine: 200 unless given.
    #[serde(default = "default_status_min")]
    pub status_min: u16,
    /// The last status that is fine: 399 unless given.
    #[serde(default = "default_status_max")]
    pub status_max: u16,
    /// What the first 64 KiB of the body must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// How many redirects are followed, at most 10: none unless given.
    #[serde(default)]
    pub redirects: u8,
    /// Of HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<MonitorTlsCheck>,
}

fn default_path() -> String {
    "/".into()
}

fn default_status_min() -> u16 {
    200
}

fn default_status_max() -> u16 {
    399
}

/// Method of an HTTP request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MonitorMethod {
    /// GET.
    #[default]
    Get,
    /// HEAD.
    Head,
}

/// What is asked of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorTlsCheck {
    /// The server name indicated and looked for in the certificate: the Host or target unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Whether the certificate's chain and name don't matter.
    #[serde(default)]
    pub accept_any: bool,
    /// For so many days at least the certificate must be valid yet.
    #[serde(default)]
    pub days_left_min: u16,
}

/// Where a TCP connection is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorTcp {
    /// Where.
    pub target: String,
    /// Port.
    pub port: u16,
}

/// Where a TLS handshake is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorTls {
    /// Where.
    pub target: String,
    /// Port: 443 unless given.
    #[serde(default = "default_tls_port")]
    pub port: u16,
    /// What is asked of the certificate.
    #[serde(default)]
    pub tls: MonitorTlsCheck,
}

fn default_tls_port() -> u16 {
    443
}

/// A DNS query, and what its answer must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorDns {
    /// The name server.
    pub target: String,
    /// Port: 53 unless given.
    #[serde(default = "default_dns_port")]
    pub port: u16,
    /// The name asked for.
    pub name: String,
    /// The type asked for: `A` unless given.
    #[serde(rename = "type", default = "default_rtype")]
    pub rtype: String,
    /// The RCODE wanted: 0, NOERROR, unless given.
    #[serde(default)]
    pub rcode: u8,
    /// RDATA that must be among the answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
}

fn default_dns_port() -> u16 {
    53
}

fn default_rtype() -> String {
    "A".into()
}

/// Where an ICMP echo is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorIcmp {
    /// Where.
    pub target: String,
}

/// Nothing is asked: the endpoint calls in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorHeartbeat {}

/// The verdicts on other monitors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorCalculated {
    /// Ids of the others, at most 64, none of them calculated.
    pub of: Vec<u32>,
    /// It is up if at least so many are.
    pub at_least: u16,
    /// Whether it is the other way round.
    #[serde(default)]
    pub inverted: bool,
}

/// How a probe went that was asked for at once, PoP by PoP: `POST /monitors/{monitor}/test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MonitorTest {
    /// The PoPs that are chosen for the monitor.
    pub pops: Vec<MonitorTestPop>,
}

/// How a probe went at a PoP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MonitorTestPop {
    /// Name of the PoP.
    pub pop: String,
    /// Whether it went as it should; none if it can't be told from there, or the PoP didn't answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<bool>,
    /// In words.
    pub cause: String,
    /// How long it took, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    /// When the certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ends_at_ms: Option<u64>,
}

/// What happened to a monitor: one line of `GET /monitors/{monitor}/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonitorEvent {
    /// Id of the change.
    pub change: String,
    /// When.
    pub at_ms: u64,
    /// What.
    pub event: MonitorEventKind,
    /// Of a verdict: why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Who: `operator`, `tenant` or `system`, and the token's id.
    pub principal: String,
    /// Why, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What happened to a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MonitorEventKind {
    /// It was made or changed.
    Put,
    /// The verdict is "up".
    Up,
    /// The verdict is "down".
    Down,
    /// It was deleted.
    Deleted,
}

/// Which addresses monitors may be aimed at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeRules {
    /// Prefixes of special-purpose addresses (IANA's registries) that may be.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// Prefixes that may not be, whatever else is said: the platform's own.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Addresses of the platform's own hosts, as PoPs tell them and herald sees them. None of them may be, unless it is in `allowed` as a
    /// prefix of its own. Passed over where rules are set.
    #[serde(default)]
    pub own: Vec<OwnAddresses>,
}

/// Addresses of a host of the platform's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnAddresses {
    /// The PoP; none: the control plane.
    pub pop: Option<String>,
    /// Its addresses, but for loopback and link-local ones.
    pub addresses: Vec<String>,
}
