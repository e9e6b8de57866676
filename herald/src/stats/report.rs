//! Reports as they come, checked.

use std::collections::BTreeMap;

use herald_core::{Rtype, ZoneId};
use herald_wire::api::stats::{PeriodStart, StatsReport};
use jiff::Timestamp;
use steering::counts::{Counts, Tally, Transport, rcode_of};

use super::store::Report;

/// More queries nobody answers in a minute.
const QUERIES_MAX: u64 = 1 << 50;

/// Kinds of something that a report may tell apart. There are 65,536 types, and as many names with a policy as there is room for in a body.
const KINDS_MAX: usize = 65_536;

/// Characters of a steered name, with each octet escaped, and of a pool's name.
const NAME_CHARS_MAX: usize = 1_020;
const POOL_CHARS_MAX: usize = 255;

/// Minutes from 1970 to 2000, and to 2200: what a clock says outside of it is no time.
const MINUTES: std::ops::Range<u64> = 15_778_080..120_968_640;

const MINUTE_S: u64 = 60;

/// Numbers above this one are milliseconds.
const SECONDS_MAX: u64 = 100_000_000_000;

/// What is wrong with a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadReport {
    /// Where: a JSON pointer within the report.
    pub pointer: String,
    /// What.
    pub detail: String,
}

fn bad<T>(field: &str, detail: impl Into<String>) -> Result<T, BadReport> {
    Err(BadReport { pointer: format!("/{field}"), detail: detail.into() })
}

/// Reads a report.
///
/// # Errors
/// [`BadReport`] names what is wrong.
pub fn read_report(report: &StatsReport) -> Result<Report, BadReport> {
    let zone = match &report.zone_id {
        None => None,
        Some(text) => match text.parse::<ZoneId>() {
            Ok(zone) => Some(zone),
            Err(_) => return bad("zone_id", "it isn't the id of a zone"),
        },
    };
    let queries = report.query_count;
    if queries > QUERIES_MAX {
        return bad("query_count", format!("more than {QUERIES_MAX} queries in a minute can't be"));
    }
    for (field, count) in [
        ("nxdomain", report.nxdomain),
        ("dropped", report.dropped),
        ("truncated", report.truncated),
        ("ipv6", report.ipv6),
    ] {
        if count > queries {
            return bad(field, "it is more than `query_count`");
        }
    }
    let by_type = tally("by_type", &report.by_type, queries, |name| match name {
        "NONE" => Some(0),
        name => herald_core::rdata::parse_rtype(name).map(Rtype::to_int),
    })?;
    let mut by_rcode = tally("by_rcode", &report.by_rcode, queries, rcode_of)?;
    const NXDOMAIN: u16 = 3;
    if by_rcode.is_empty() {
        by_rcode.add(NXDOMAIN, report.nxdomain);
    } else if by_rcode.get(&NXDOMAIN) != report.nxdomain {
        return bad("nxdomain", "it isn't what `by_rcode` has for NXDOMAIN");
    }
    if by_rcode.sum() > queries - report.dropped {
        return bad("by_rcode", "it is more than `query_count` without `dropped`");
    }
    let by_transport = tally("by_transport", &report.by_transport, queries, |name| {
        Transport::named(name).map(|transport| transport as u8)
    })?;
    let by_country = tally("by_country", &report.by_country, queries, |name| {
        <[u8; 2]>::try_from(name.as_bytes()).ok().filter(|code| code.iter().all(u8::is_ascii_uppercase))
    })?;
    let mut by_pool = BTreeMap::new();
    let mut kinds = 0;
    let mut steered: u64 = 0;
    for (name, pools) in &report.by_pool {
        let field = format!("by_pool/{}", escaped(name));
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            return bad("by_pool", "a name is empty or too long");
        }
        let pools = tally(&field, pools, queries, |pool| {
            let is_name = !pool.is_empty() && pool.chars().count() <= POOL_CHARS_MAX;
            is_name.then(|| pool.into())
        })?;
        kinds += pools.iter().count();
        steered = steered.saturating_add(pools.sum());
        by_pool.insert(name.as_str().into(), pools);
    }
    // A report of more names than fit into one has the queries in one part alone.
    if kinds > KINDS_MAX || (steered > queries && queries > 0) {
        return bad("by_pool", "it is of too many names, or of more queries than `query_count`");
    }
    let counts = Counts {
        queries,
        dropped: report.dropped,
        truncated: report.truncated,
        ipv6: report.ipv6,
        by_type,
        by_rcode,
        by_transport,
        by_country,
        by_pool,
    };
    Ok(Report { zone, minute: minute(&report.period_start)?, sequence: report.sequence, counts })
}

fn minute(start: &PeriodStart) -> Result<u64, BadReport> {
    let seconds = match start {
        PeriodStart::Number(number) if *number > SECONDS_MAX => Some(number / 1_000),
        PeriodStart::Number(number) => Some(*number),
        PeriodStart::Text(text) => {
            text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_second()).ok())
        }
    };
    match seconds {
        Some(seconds) if seconds % MINUTE_S == 0 && MINUTES.contains(&(seconds / MINUTE_S)) => {
            Ok(seconds / MINUTE_S)
        }
        Some(seconds) if seconds % MINUTE_S != 0 => bad("period_start", "it isn't the begin of a minute"),
        _ => bad("period_start", "it isn't a time such as 2026-11-23T09:30:00Z, from 2000 to 2199"),
    }
}

fn tally<K: Ord>(
    field: &str,
    counts: &BTreeMap<String, u64>,
    queries: u64,
    read: impl Fn(&str) -> Option<K>,
) -> Result<Tally<K>, BadReport> {
    if counts.len() > KINDS_MAX {
        return bad(field, "it tells too many kinds apart");
    }
    let mut tally = Tally::default();
    for (name, count) in counts {
        match read(name) {
            Some(kind) => tally.add(kind, *count),
            None => return bad(&format!("{field}/{}", escaped(name)), "it isn't known what that is"),
        }
    }
    // Steered names that didn't fit come with no queries of their own.
    if tally.sum() > queries && !(queries == 0 && field.starts_with("by_pool")) {
        return bad(field, "it is more than `query_count`");
    }
    Ok(tally)
}

/// As part of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
