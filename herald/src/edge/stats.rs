//! `/sync/stats`, where PoPs report counts of queries, and `/zones/{zone}/stats`, `/stats`, where they are read.

use std::collections::BTreeMap;

use herald_core::command::ZoneRef;
use herald_core::rdata::format_rtype;
use herald_core::state::State;
use herald_core::{PopId, Rtype, ZoneId};
use herald_wire::api::stats::{self as api, StatsCounts, StatsReports, StatsTaken};
use herald_wire::api::{Problem, ProblemItem};
use jiff::Timestamp;
use serde::Deserialize;
use steering::counts::{Counts, Tally, Transport, rcode_name};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{AppState, Caller, Json, Reading, Reporting, blocking};
use super::problem::{ApiError, Code, item};
use super::{at, lookup, respond};
use crate::clock;
use crate::stats::{DAY, HOUR, Period, Report, StatsError, Step, read_report};

/// Reports in one request.
const REPORTS_MAX: usize = 10_000;

/// Periods in one answer.
const PERIODS_MAX: u64 = 10_080;

const MINUTE_MS: u64 = 60_000;

/// The routes of counts.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(report)).routes(routes!(of_zone)).routes(routes!(of_fleet))
}

impl From<StatsError> for ApiError {
    fn from(error: StatsError) -> ApiError {
        tracing::error!("{error}");
        ApiError::new(Code::Unavailable, "the counts can't be read or written at the moment")
    }
}

/// Report counts, as a PoP.
///
/// The token is the PoP's credential. All reports are taken, or none. One of the same zone, minute and sequence as one that was taken
/// from the PoP before is passed over, so that what wasn't confirmed can be sent again.
#[utoipa::path(post, path = "/sync/stats", tag = "stats", operation_id = "report_stats",
    request_body = StatsReports,
    responses(
        (status = 200, body = StatsTaken),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn report(request: Reporting<Json<StatsReports>>) -> Result<respond::Ok<StatsTaken>, ApiError> {
    let Reporting { pop, state, stats, body: Json(body), .. } = request;
    let (reports, is_many) = match body {
        StatsReports::One(one) => (vec![*one], false),
        StatsReports::Many(many) => (many, true),
    };
    if reports.len() > REPORTS_MAX {
        return Err(ApiError::new(Code::TooLarge, format!("at most {REPORTS_MAX} reports in a request")));
    }
    let (mut read, mut wrong, mut unknown) = (Vec::with_capacity(reports.len()), Vec::new(), Vec::new());
    for (place, report) in reports.iter().enumerate() {
        let at = if is_many { format!("/{place}") } else { String::new() };
        match read_report(report) {
            Ok(report) => {
                if report.zone.is_some_and(|zone| state.zone(zone).is_none()) {
                    unknown.push(item(format!("{at}/zone_id"), "there is no such zone"));
                }
                read.push(report);
            }
            Err(bad) => wrong.push(item(at + &bad.pointer, bad.detail)),
        }
    }
    refuse(Code::Invalid, wrong)?;
    refuse(Code::NotFound, unknown)?;
    let (all, reports): (u64, Vec<Report>) = (read.len() as u64, read);
    let counted = stats.take(pop, reports).await?;
    Ok(respond::Ok(StatsTaken { counted, repeated: all - counted }))
}

fn refuse(code: Code, items: Vec<ProblemItem>) -> Result<(), ApiError> {
    if items.is_empty() { Ok(()) } else { Err(ApiError::new(code, "").with_items(items)) }
}

/// Which counts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// Since when: RFC 3339, or milliseconds since 1970. By default an hour before `to`.
    from: Option<String>,
    /// Up to when, this moment excluded. By default now, with the minute that has begun.
    to: Option<String>,
    /// How long a period is: `1m`, `1h` or `1d`. By default minutes for up to a day, hours for up to 60 days, and else days.
    step: Option<String>,
    /// Of this PoP alone: its id or name.
    pop: Option<String>,
}

/// Counts of a zone's queries.
///
/// Of a deleted zone they are kept, and read by its id, for as long as counts are kept.
#[utoipa::path(get, path = "/zones/{zone}/stats", tag = "stats", operation_id = "get_zone_stats",
    params(("zone" = String, Path, description = "Id or unambiguous name."), StatsQuery),
    responses(
        (status = 200, body = api::Stats),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn of_zone(request: Reading<ZoneRef, StatsQuery>) -> Result<respond::Ok<api::Stats>, ApiError> {
    let Reading { caller, path, query, .. } = request;
    let zone = at::held(&caller, &path).await?;
    let mut stats = read(&caller, Some(zone.id), query).await?;
    stats.zone_id = Some(zone.id.to_string());
    stats.name = Some(zone.name.to_string());
    Ok(respond::Ok(stats))
}

/// Counts of queries for names in no zone, and of messages that can't be read. For operators.
#[utoipa::path(get, path = "/stats", tag = "stats", operation_id = "get_fleet_stats",
    params(StatsQuery),
    responses(
        (status = 200, body = api::Stats),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn of_fleet(request: Reading<(), StatsQuery>) -> Result<respond::Ok<api::Stats>, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_operator()?;
    Ok(respond::Ok(read(&caller, None, query).await?))
}

async fn read(caller: &Caller, zone: Option<ZoneId>, query: StatsQuery) -> Result<api::Stats, ApiError> {
    let now = clock::now_ms() / MINUTE_MS + 1;
    let to = query.to.as_deref().map_or(Ok(now), |text| minute("to", text))?;
    let from = query.from.as_deref().map_or(Ok(to.saturating_sub(HOUR)), |text| minute("from", text))?;
    if from >= to {
        return Err(ApiError::malformed("`from` is to be before `to`"));
    }
    let step = match query.step.as_deref() {
        Some("1m") => Step::Minute,
        Some("1h") => Step::Hour,
        Some("1d") => Step::Day,
        Some(_) => return Err(ApiError::malformed("`step` is to be 1m, 1h or 1d")),
        None if to - from <= DAY => Step::Minute,
        None if to - from <= 60 * DAY => Step::Hour,
        None => Step::Day,
    };
    // Whole periods.
    let from = from - from % step.minutes();
    let to = to.next_multiple_of(step.minutes());
    if (to - from) / step.minutes() > PERIODS_MAX {
        return Err(ApiError::malformed(format!(
            "these are more than {PERIODS_MAX} periods: ask for less time, or a longer step"
        )));
    }
    let pop = match &query.pop {
        Some(pop) => Some(lookup::pop(caller.state(), pop)?.id),
        None => None,
    };
    let stats = caller.stats().clone();
    let periods = blocking(move || stats.read(zone, from..to, step, pop)).await??;
    let mut total = Period::default();
    for period in periods.values() {
        total.counts.merge(&period.counts);
        for (pop, queries) in &period.by_pop {
            *total.by_pop.entry(*pop).or_default() += queries;
        }
    }
    let state = caller.state();
    Ok(api::Stats {
        zone_id: None,
        name: None,
        from_ms: from * MINUTE_MS,
        to_ms: to * MINUTE_MS,
        step: match step {
            Step::Minute => "1m".into(),
            Step::Hour => "1h".into(),
            Step::Day => "1d".into(),
        },
        periods: periods
            .iter()
            .map(|(start, period)| api::StatsPeriod {
                start_ms: start * MINUTE_MS,
                counts: present(state, period),
            })
            .collect(),
        total: present(state, &total),
    })
}

fn minute(parameter: &str, text: &str) -> Result<u64, ApiError> {
    let time = text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    let ms = text.parse::<u64>().ok().or(time);
    // Years after 9999 are no times either.
    ms.filter(|ms| *ms < 253_402_300_800_000).map(|ms| ms / MINUTE_MS).ok_or_else(|| {
        ApiError::malformed(format!(
            "`{parameter}` is to be a time like 2026-11-23T09:30:00Z, or milliseconds since 1970"
        ))
    })
}

fn present(state: &State, period: &Period) -> StatsCounts {
    let counts: &Counts = &period.counts;
    let pop_name = |pop: &PopId| state.pop(*pop).map_or_else(|| pop.to_string(), |pop| pop.name.clone());
    StatsCounts {
        query_count: counts.queries,
        nxdomain: counts.nxdomain(),
        dropped: counts.dropped,
        truncated: counts.truncated,
        ipv6: counts.ipv6,
        by_type: named(&counts.by_type, |rtype| match rtype {
            0 => "NONE".into(),
            rtype => format_rtype(Rtype::from_int(*rtype)),
        }),
        by_rcode: named(&counts.by_rcode, |rcode| rcode_name(*rcode)),
        by_transport: named(&counts.by_transport, |number| {
            Transport::of(*number).map_or_else(|| number.to_string(), |transport| transport.name().into())
        }),
        by_country: named(&counts.by_country, |country| String::from_utf8_lossy(country).into_owned()),
        by_pool: counts
            .by_pool
            .iter()
            .map(|(name, pools)| (name.to_string(), named(pools, |pool| pool.to_string())))
            .collect(),
        by_pop: period.by_pop.iter().map(|(pop, queries)| (pop_name(pop), *queries)).collect(),
    }
}

fn named<K: Ord>(tally: &Tally<K>, name: impl Fn(&K) -> String) -> BTreeMap<String, u64> {
    tally.iter().map(|(kind, count)| (name(kind), count)).collect()
}
