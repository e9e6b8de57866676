//! Counts of queries: as PoPs report them, and as they are read back.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When a minute begins: a time (RFC 3339), or seconds since 1970 (milliseconds if it is more than 100,000,000,000).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PeriodStart {
    /// Since 1970.
    Number(u64),
    /// RFC 3339.
    Text(String),
}

/// Counts of one zone in one minute, or of what is of no zone, at one PoP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatsReport {
    /// The zone; none for queries for names in no zone, and for messages that can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// The minute, by the PoP's clock.
    pub period_start: PeriodStart,
    /// Tells reports of the zone and minute from one another: one that was taken before is passed over.
    #[serde(default)]
    pub sequence: u64,
    /// Queries.
    pub query_count: u64,
    /// Of these, those for names that don't exist.
    #[serde(default)]
    pub nxdomain: u64,
    /// Of these, those that weren't answered on purpose.
    #[serde(default)]
    pub dropped: u64,
    /// Of these, those whose answer was truncated.
    #[serde(default)]
    pub truncated: u64,
    /// Of these, those that came over IPv6.
    #[serde(default)]
    pub ipv6: u64,
    /// By type, `NONE` being that of messages without a question.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_type: BTreeMap<String, u64>,
    /// By response code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_rcode: BTreeMap<String, u64>,
    /// By transport: `udp`, `tcp`, `quic`, `tls`, `https`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_transport: BTreeMap<String, u64>,
    /// By country of the client (ISO 3166-1 alpha-2), as far as it is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_country: BTreeMap<String, u64>,
    /// By steered name, and then by the pool that answered; `-` where none did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_pool: BTreeMap<String, BTreeMap<String, u64>>,
}

/// One report, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum StatsReports {
    /// Several.
    Many(Vec<StatsReport>),
    /// One.
    One(Box<StatsReport>),
}

impl<'de> Deserialize<'de> for StatsReports {
    /// By its form, so that an error names the place within it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StatsReports, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = StatsReports;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a report of counts, or an array of them")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, reports: A) -> Result<StatsReports, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(reports)).map(StatsReports::Many)
            }

            fn visit_map<A: MapAccess<'de>>(self, report: A) -> Result<StatsReports, A::Error> {
                Box::deserialize(MapAccessDeserializer::new(report)).map(StatsReports::One)
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// What came of reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatsTaken {
    /// Reports that were counted.
    pub counted: u64,
    /// Reports that were counted before.
    pub repeated: u64,
}

/// Counts. What isn't known of a query is in none of the kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatsCounts {
    /// Queries.
    pub query_count: u64,
    /// Of these, those for names that don't exist.
    pub nxdomain: u64,
    /// Of these, those that weren't answered on purpose.
    pub dropped: u64,
    /// Of these, those whose answer was truncated.
    pub truncated: u64,
    /// Of these, those that came over IPv6.
    pub ipv6: u64,
    /// By type.
    pub by_type: BTreeMap<String, u64>,
    /// By response code.
    pub by_rcode: BTreeMap<String, u64>,
    /// By transport.
    pub by_transport: BTreeMap<String, u64>,
    /// By country of the client, as far as it is known.
    pub by_country: BTreeMap<String, u64>,
    /// By steered name, and then by the pool that answered; `-` where none did.
    pub by_pool: BTreeMap<String, BTreeMap<String, u64>>,
    /// By PoP.
    pub by_pop: BTreeMap<String, u64>,
}

/// Counts of one period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatsPeriod {
    /// When it begins.
    pub start_ms: u64,
    /// Counts.
    #[serde(flatten)]
    pub counts: StatsCounts,
}

/// Counts of a zone, or of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// The zone, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// The zone's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Since when.
    pub from_ms: u64,
    /// Up to when, this moment excluded.
    pub to_ms: u64,
    /// How long a period is: `1m`, `1h` or `1d`.
    pub step: String,
    /// Periods in which there were queries, in order.
    pub periods: Vec<StatsPeriod>,
    /// Of all periods.
    pub total: StatsCounts,
}
