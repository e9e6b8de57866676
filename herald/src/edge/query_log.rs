//! `/zones/{zone}/query-log`, where a zone's query log is switched on and off and read, and `/sync/query-log`, where PoPs fill it.

use herald_core::account::Verb;
use herald_core::command::{Action, ZoneRef};
use herald_core::rdata::{format_rtype, parse_rtype};
use herald_core::state::State;
use herald_core::zone::Zone;
use herald_core::{Name, PopId, Rtype};
use herald_wire::api::query_log::{
    self as api, QueryLogBatch, QueryLogEdns, QueryLogPut, QueryLogRecord, QueryLogTaken,
};
use herald_wire::api::{Page, Problem, Written};
use jiff::Timestamp;
use serde::Deserialize;
use steering::counts::{Transport, rcode_name, rcode_of};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{
    Answer, AppState, Caller, Done, Json, NoBody, Reading, Reporting, WriteQuery, Writer, Writing, blocking,
};
use super::names::parse_owner;
use super::problem::{ApiError, Code, Pointers, item};
use super::{lookup, pages, respond};
use crate::access_log::Kind;
use crate::clock;
use crate::query_log::{Place, Prefix, QueryLogError, QueryLogs, Record, read_batch};

/// So many records are looked at for a page: past it a page has fewer than asked for, and a cursor to go on with.
const CANDIDATES_MAX: usize = 20_000;

/// The routes of the query log.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(report)).routes(routes!(get, put, delete)).routes(routes!(records))
}

impl From<QueryLogError> for ApiError {
    fn from(error: QueryLogError) -> ApiError {
        tracing::error!("{error}");
        ApiError::new(Code::Unavailable, "the query log can't be read or written at the moment")
    }
}

/// Report logged queries, as a PoP.
///
/// The token is the PoP's credential. What is of zones that aren't logged is passed over, and so is a batch that was taken before.
#[utoipa::path(post, path = "/sync/query-log", tag = "query-log", operation_id = "report_query_log",
    request_body = QueryLogBatch,
    responses(
        (status = 200, body = QueryLogTaken),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn report(request: Reporting<Json<QueryLogBatch>>) -> Result<respond::Ok<QueryLogTaken>, ApiError> {
    let Reporting { pop, state, query_logs, body: Json(body), .. } = request;
    let batch = read_batch(&body)
        .map_err(|bad| ApiError::new(Code::Invalid, "").with_items(vec![item(bad.pointer, bad.detail)]))?;
    let taken = query_logs.take(state, pop, batch).await?;
    Ok(respond::Ok(QueryLogTaken { kept: taken.kept, passed_over: taken.passed_over }))
}

/// Whether queries of a zone are logged, and how many records there are.
#[utoipa::path(get, path = "/zones/{zone}/query-log", tag = "query-log", operation_id = "get_query_log",
    params(("zone" = String, Path, description = "Id or unambiguous name.")),
    responses(
        (status = 200, body = api::QueryLog),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<ZoneRef>) -> Result<respond::Ok<api::QueryLog>, ApiError> {
    let Reading { caller, path, .. } = request;
    let zone = caller.zone(&path, Verb::Read)?.arc();
    Ok(respond::Ok(shown(&caller, caller.state(), &zone).await?))
}

/// Log queries of a zone for some time: an hour at most.
///
/// PoPs know of it as soon as they are told; `wait` waits for none of them. It ends by itself, and can be set again at any time. The answers
/// hold addresses of clients, so that this takes the right to change the zone's settings (the verb `create`).
#[utoipa::path(put, path = "/zones/{zone}/query-log", tag = "query-log", operation_id = "put_query_log",
    params(("zone" = String, Path, description = "Id or unambiguous name."), WriteQuery),
    request_body = QueryLogPut,
    responses(
        (status = 200, body = Written<api::QueryLog>),
        (status = 202, body = Written<api::QueryLog>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<ZoneRef, Json<QueryLogPut>>) -> Result<Answer<api::QueryLog>, ApiError> {
    let Writing { writer, path, body: Json(put), .. } = request;
    let zone = ZoneRef::Id(writer.zone(&path, Verb::Create)?.id);
    let for_ms = put.for_s.map(|for_s| for_s.saturating_mul(1_000));
    let action = Action::SetQueryLog { zone, for_ms, one_in: put.one_in.unwrap_or(1) };
    let done = writer.submit(action, None, Pointers::None).await?;
    answer(&writer, done).await
}

/// Log queries of a zone no more. Its records are kept as long as others.
#[utoipa::path(delete, path = "/zones/{zone}/query-log", tag = "query-log", operation_id = "delete_query_log",
    params(("zone" = String, Path, description = "Id or unambiguous name."), WriteQuery),
    responses(
        (status = 200, body = Written<api::QueryLog>),
        (status = 202, body = Written<api::QueryLog>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<ZoneRef, NoBody>) -> Result<Answer<api::QueryLog>, ApiError> {
    let Writing { writer, path, .. } = request;
    let zone = ZoneRef::Id(writer.zone(&path, Verb::Create)?.id);
    let done = writer.submit(Action::EndQueryLog { zone }, None, Pointers::None).await?;
    answer(&writer, done).await
}

async fn answer(writer: &Writer, done: Done) -> Result<Answer<api::QueryLog>, ApiError> {
    let state = done.state.clone();
    let shown = match done.zone() {
        Some(zone) => Some(shown(writer, &state, &zone.arc()).await?),
        None => None,
    };
    writer.answer(done, shown).await
}

async fn shown(caller: &Caller, state: &State, zone: &Zone) -> Result<api::QueryLog, ApiError> {
    let (logs, id): (QueryLogs, _) = (caller.query_logs().clone(), zone.id);
    let addresses = logs.addresses();
    let figures = blocking(move || logs.figures(id)).await??;
    let log = state.query_log(zone.id);
    let left_out = log.filter(|log| log.since_ms == figures.since_ms).map_or(0, |_| figures.left_out);
    Ok(api::QueryLog {
        zone_id: zone.id.to_string(),
        name: zone.name.to_string(),
        on: log.is_some_and(|log| log.is_on_at(clock::now_ms())),
        since_ms: log.map(|log| log.since_ms),
        until_ms: log.map(|log| log.until_ms),
        one_in: log.map(|log| log.one_in),
        records: figures.records,
        left_out,
        addresses,
    })
}

/// Which records, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RecordsQuery {
    /// Not before this: RFC 3339, or milliseconds since 1970.
    since: Option<String>,
    /// Before this.
    until: Option<String>,
    /// Queries for this name: fully qualified, relative to the zone, or `@`.
    name: Option<String>,
    /// Of this type.
    #[serde(rename = "type")]
    rtype: Option<String>,
    /// With this response code.
    rcode: Option<String>,
    /// At this PoP: its id or name.
    pop: Option<String>,
    /// Where the page begins: the `next_cursor` of the one before.
    cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    limit: Option<usize>,
}

/// What a record is to be.
struct Filter {
    name: Option<Name>,
    rtype: Option<u16>,
    rcode: Option<u16>,
    pop: Option<PopId>,
}

impl Filter {
    fn is_met_by(&self, record: &Record) -> bool {
        let query = &record.query;
        self.name.as_ref().is_none_or(|name| *name == query.name)
            && self.rtype.is_none_or(|rtype| rtype == query.rtype)
            && self.rcode.is_none_or(|rcode| rcode == query.rcode)
            && self.pop.is_none_or(|pop| pop == record.pop)
    }
}

/// Queries of a zone that were logged.
///
/// Newest first, by the PoPs' clocks. A record comes some seconds after its query. There are addresses of clients in it: this takes the right
/// to change the zone's settings (the verb `create`), and is noted in the access log.
#[utoipa::path(get, path = "/zones/{zone}/query-log/records", tag = "query-log", operation_id = "list_query_log",
    params(("zone" = String, Path, description = "Id or unambiguous name."), RecordsQuery),
    responses(
        (status = 200, body = Page<QueryLogRecord>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn records(
    request: Reading<ZoneRef, RecordsQuery>,
) -> Result<respond::Ok<Page<QueryLogRecord>>, ApiError> {
    let Reading { caller, path, query, .. } = request;
    let zone = caller.zone(&path, Verb::Create)?.arc();
    caller.need_whole_zones()?;
    let limit = pages::limit(query.limit)?;
    let after = pages::read_cursor(query.cursor.as_deref(), read_place)?;
    let since_ms = query.since.as_deref().map_or(Ok(0), |text| time_ms("since", text))?;
    let until = match query.until.as_deref() {
        Some(text) => Place { time_ms: time_ms("until", text)?, number: 0 },
        None => Place::END,
    };
    let filter = filter(&caller, &zone, &query)?;
    let before = after.map_or(until, |after| after.min(until));
    caller.note_shown(Kind::QueryLogRead, "GET", "/zones/{zone}/query-log/records");
    let (logs, id) = (caller.query_logs().clone(), zone.id);
    let (records, next) = blocking(move || {
        let (mut records, mut next, mut looked_at, mut last) = (Vec::new(), None, 0, None);
        logs.read(id, before, since_ms, &mut |record| {
            // There is one more: so the page before it has a cursor.
            if records.len() == limit || looked_at == CANDIDATES_MAX {
                next = last;
                return false;
            }
            looked_at += 1;
            last = Some(record.place);
            if filter.is_met_by(&record) {
                records.push(record);
            }
            true
        })?;
        Ok::<_, QueryLogError>((records, next))
    })
    .await??;
    let next_cursor = next.map(|place| pages::write_cursor(&write_place(place)));
    let items = records.into_iter().map(|record| told(caller.state(), record)).collect();
    Ok(respond::Ok(Page { items, next_cursor }))
}

fn filter(caller: &Caller, zone: &Zone, query: &RecordsQuery) -> Result<Filter, ApiError> {
    let name = match &query.name {
        Some(text) => {
            let name = parse_owner(text, &zone.name);
            Some(name.map_err(|e| ApiError::malformed(format!("the parameter `name`: {e}")))?)
        }
        None => None,
    };
    let rtype = match &query.rtype {
        Some(text) => Some(parse_rtype(text).map(Rtype::to_int).ok_or_else(|| {
            ApiError::malformed("the parameter `type` is to be a record type such as AAAA or TYPE65280")
        })?),
        None => None,
    };
    let rcode = match &query.rcode {
        Some(text) => Some(rcode_of(&text.to_ascii_uppercase()).ok_or_else(|| {
            ApiError::malformed("the parameter `rcode` is to be a response code such as NXDOMAIN")
        })?),
        None => None,
    };
    let pop = match &query.pop {
        Some(pop) => Some(lookup::pop(caller.state(), pop)?.id),
        None => None,
    };
    Ok(Filter { name, rtype, rcode, pop })
}

fn time_ms(parameter: &str, text: &str) -> Result<u64, ApiError> {
    let time = text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    // Years after 9999 are no times either.
    text.parse::<u64>().ok().or(time).filter(|ms| *ms < 253_402_300_800_000).ok_or_else(|| {
        ApiError::malformed(format!(
            "`{parameter}` is to be a time like 2026-11-23T09:30:00Z, or milliseconds since 1970"
        ))
    })
}

fn write_place(place: Place) -> Vec<u8> {
    [place.time_ms.to_be_bytes(), place.number.to_be_bytes()].concat()
}

fn read_place(octets: &[u8]) -> Option<Place> {
    let (time_ms, number) = octets.split_first_chunk()?;
    let place =
        Place { time_ms: u64::from_be_bytes(*time_ms), number: u64::from_be_bytes(number.try_into().ok()?) };
    (place.time_ms <= Place::END.time_ms && place.number <= Place::END.number).then_some(place)
}

fn told(state: &State, record: Record) -> QueryLogRecord {
    let Record { place, pop, query } = record;
    let transport = Transport::of(query.transport);
    QueryLogRecord {
        id: format!("{}-{}", place.time_ms, place.number),
        pop: state.pop(pop).map_or_else(|| pop.to_string(), |pop| pop.name.clone()),
        time_ms: query.time_ms,
        name: query.name.to_string(),
        rtype: if query.rtype == 0 { "NONE".into() } else { format_rtype(Rtype::from_int(query.rtype)) },
        rcode: rcode_name(query.rcode),
        transport: transport.map_or_else(|| query.transport.to_string(), |known| known.name().into()),
        source: shown_source(&query.source),
        edns: query.edns.map(|edns| QueryLogEdns {
            udp_bytes: edns.udp_bytes,
            dnssec_ok: edns.wants_dnssec,
            client_subnet: edns.subnet.as_ref().and_then(shown_prefix),
        }),
        answer_bytes: query.answer_bytes,
        truncated: query.is_truncated,
        dropped: query.is_dropped,
        policy: query.policy,
        pool: query.pool,
    }
}

/// An address if all of it is known, and else the prefix.
fn shown_source(source: &Prefix) -> String {
    match source.is_whole() {
        true => source.address().map(|address| address.to_string()),
        false => shown_prefix(source),
    }
    .unwrap_or_default()
}

fn shown_prefix(prefix: &Prefix) -> Option<String> {
    Some(format!("{}/{}", prefix.address()?, prefix.length()))
}
