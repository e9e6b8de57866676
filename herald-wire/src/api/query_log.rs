//! The query log of a zone: switched on for some time, filled by PoPs, read back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Switches it on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryLogPut {
    /// For how many seconds from now on: 1 to 3600, 3600 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// One query in so many is logged, by chance: 1 to 10000, 1 (all of them) unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u32>,
}

/// How much of addresses is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueryLogAddresses {
    /// All of it.
    #[default]
    Whole,
    /// The first 24 bits of IPv4 addresses, and 48 of IPv6 addresses.
    Prefixes,
}

/// Whether queries of a zone are logged, and what there is of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueryLog {
    /// The zone.
    pub zone_id: String,
    /// Its name.
    pub name: String,
    /// Whether queries are logged now.
    pub on: bool,
    /// Since when; of the last time if it is off and that isn't long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// One query in so many is logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u32>,
    /// Records that are kept, also of earlier times.
    pub records: u64,
    /// Queries that were to be logged since it was switched on last and were left out, as there were too many.
    pub left_out: u64,
    /// How much of addresses is kept.
    pub addresses: QueryLogAddresses,
}

/// EDNS of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryLogEdns {
    /// Octets of an answer that it takes.
    pub udp_bytes: u16,
    /// Whether signatures are asked for (DO).
    #[serde(default)]
    pub dnssec_ok: bool,
    /// The client subnet that came with it (RFC 7871), such as `192.0.2.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_subnet: Option<String>,
}

/// A query, and how it was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryLogQuery {
    /// When, by the PoP's clock; to some 50 ms.
    pub time_ms: u64,
    /// The name asked for, in small letters.
    pub name: String,
    /// The type asked for.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The response code.
    pub rcode: String,
    /// `udp`, `tcp`, `quic`, `tls` or `https`.
    pub transport: String,
    /// Where it came from: an address, or a prefix if no more is kept.
    pub source: String,
    /// EDNS, if it had any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edns: Option<QueryLogEdns>,
    /// Octets of the answer.
    #[serde(default)]
    pub answer_bytes: u32,
    /// Whether the answer was truncated.
    #[serde(default)]
    pub truncated: bool,
    /// Whether it wasn't answered, on purpose.
    #[serde(default)]
    pub dropped: bool,
    /// The steered name whose policy was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The pool that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// A record of a zone's query log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueryLogRecord {
    /// Tells it from others of the zone.
    pub id: String,
    /// The PoP that was asked.
    pub pop: String,
    /// When, by the PoP's clock; to some 50 ms.
    pub time_ms: u64,
    /// The name asked for, in small letters.
    pub name: String,
    /// The type asked for.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The response code.
    pub rcode: String,
    /// `udp`, `tcp`, `quic`, `tls` or `https`.
    pub transport: String,
    /// Where it came from: an address, or a prefix if no more is kept.
    pub source: String,
    /// EDNS, if it had any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edns: Option<QueryLogEdns>,
    /// Octets of the answer.
    pub answer_bytes: u32,
    /// Whether the answer was truncated.
    pub truncated: bool,
    /// Whether it wasn't answered, on purpose.
    pub dropped: bool,
    /// The steered name whose policy was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The pool that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// What a PoP logged of one zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryLogOfZone {
    /// The zone.
    pub zone_id: String,
    /// Queries that were to be logged and were left out, as there were too many.
    #[serde(default)]
    pub left_out: u64,
    /// Queries.
    #[serde(default)]
    pub queries: Vec<QueryLogQuery>,
}

/// What a PoP logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryLogBatch {
    /// Drawn by each process that sends: 1 to 64 letters and digits.
    pub instance: String,
    /// Rises with each batch of the instance: one that isn't above the last one that was taken is passed over.
    pub sequence: u64,
    /// Zone by zone.
    pub zones: Vec<QueryLogOfZone>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueryLogTaken {
    /// Records that were kept.
    pub kept: u64,
    /// Records that weren't, as their zones aren't logged, or it was taken before.
    pub passed_over: u64,
}
