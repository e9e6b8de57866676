//! `/monitors`, `/heartbeats/{secret}` and `/probe-rules`.

mod document;
mod heartbeat;
mod rules;

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use herald_core::MonitorId;
use herald_core::account::Verb;
use herald_core::command::Action;
use herald_core::decide::Subject;
use herald_core::monitor::{Check, Monitor};
use herald_core::rejection::Rejection;
use herald_core::state::Shared;
use herald_wire::api::monitors as api;
use herald_wire::api::{Page, Problem, Written};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::at;
use super::gate::{
    Answer, AppState, Caller, Done, Json, NoBody, Preconditions, Reading, WriteQuery, Writer, Writing,
};
use super::names::shortened;
use super::pages::{self, PageQuery};
use super::problem::{ApiError, Code, Pointers};
use super::secret::NewSecret;
use super::{lookup, present, respond};
use crate::access_log::Kind;
use crate::history::MonitorEvent;

/// For so long past a monitor's time-out answers to a test are waited for.
const TEST_MARGIN: Duration = Duration::from_secs(2);

/// The routes of monitors.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, put, delete))
        .routes(routes!(history))
        .routes(routes!(test))
        .routes(routes!(heartbeat::post, heartbeat::get))
        .routes(routes!(rules::get, rules::put))
}

/// Which monitors, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MonitorsQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    limit: Option<usize>,
    /// Those of this tenant, by id or name: for operators.
    tenant: Option<String>,
    /// Those of this kind.
    kind: Option<String>,
    /// Those of which this is held.
    #[param(inline)]
    state: Option<api::MonitorState>,
    /// Those whose name has this in it.
    name: Option<String>,
}

/// Monitors by name, or all tenants' by age, a page at a time.
#[utoipa::path(get, path = "/monitors", tag = "monitors", operation_id = "list_monitors",
    params(MonitorsQuery), responses(
    (status = 200, body = Page<api::Monitor>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: Reading<(), MonitorsQuery>) -> Result<respond::Ok<Page<api::Monitor>>, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_monitors(Verb::Read)?;
    let limit = pages::limit(query.limit)?;
    let tenant = match &query.tenant {
        Some(text) => Some(lookup::tenant(&caller, text)?.id),
        None => caller.access().tenant,
    };
    let wanted = |monitor: &&Shared<Monitor>| {
        let is_wanted = query.kind.as_ref().is_none_or(|kind| kind == monitor.check.kind())
            && query.state.is_none_or(|state| state == document::state(monitor))
            && query.name.as_ref().is_none_or(|part| monitor.name.contains(part.as_str()));
        is_wanted.then(|| document::monitor(monitor))
    };
    let monitors = caller.state().monitors();
    let page = match tenant {
        Some(tenant) => {
            let after = pages::read_cursor(query.cursor.as_deref(), |octets| {
                String::from_utf8(octets.to_vec()).ok()
            })?;
            let cursor = |monitor: &&Shared<Monitor>| monitor.name.as_bytes().to_vec();
            pages::page(monitors.of_tenant(tenant, after.as_deref()), limit, cursor, wanted)
        }
        None => {
            let after = pages::read_cursor(query.cursor.as_deref(), |octets| {
                Some(MonitorId(u32::from_be_bytes(octets.try_into().ok()?)))
            })?;
            let cursor = |monitor: &&Shared<Monitor>| monitor.id.0.to_be_bytes().to_vec();
            pages::page(monitors.iter(after), limit, cursor, wanted)
        }
    };
    Ok(respond::Ok(page))
}

/// Make a monitor.
///
/// Probing begins at once, and the first verdict comes as soon as enough PoPs say the same. The answer to a new heartbeat has the
/// path that it is called in at, once.
#[utoipa::path(post, path = "/monitors", tag = "monitors", operation_id = "create_monitor",
    params(WriteQuery), request_body = api::MonitorInput, responses(
    (status = 201, body = Written<api::Monitor>, headers(("Location" = String), ("ETag" = String))),
    (status = 200, body = Written<api::Monitor>, description = "Of a dry run."),
    (status = 202, body = Written<api::Monitor>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(request: Writing<(), Json<api::MonitorInput>>) -> Result<Answer<api::Monitor>, ApiError> {
    let Writing { writer, body: Json(body), .. } = request;
    writer.access().need_monitors(Verb::Monitor)?;
    let tenant = lookup::tenant_or_own(&writer, body.tenant.as_deref())?;
    let secret = NewSecret::draw();
    let input = document::read(&body, secret.heartbeat_hash())?;
    let done = writer.submit(Action::CreateMonitor { tenant, input }, None, Pointers::None).await?;
    let Some(Subject::Monitor(id)) = done.subject else {
        return Err(ApiError::new(Code::Unavailable, "the monitor was made, and can't be shown"));
    };
    let path = format!("/monitors/{id}");
    Ok(answer(&writer, done, id, Some(&secret)).await?.created_at(Some(path)))
}

/// One monitor, its verdict, and what each PoP sees.
#[utoipa::path(get, path = "/monitors/{monitor}", tag = "monitors", operation_id = "get_monitor",
    params(("monitor" = String, Path, description = "Id, or for tenants name.")),
    responses(
        (status = 200, body = api::Monitor, headers(("ETag" = String))),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<String>) -> Result<Response, ApiError> {
    let Reading { caller, path, .. } = request;
    let monitor = find(&caller, &path, Verb::Read)?;
    let mut shown = document::monitor(monitor);
    document::observed(caller.state(), caller.publisher(), monitor, &mut shown);
    let mut response = respond::Ok(shown).into_response();
    // What PoPs see isn't in the tag: it is for writes.
    response.headers_mut().insert(axum::http::header::ETAG, respond::etag(&monitor.revision.to_string()));
    Ok(response)
}

/// The monitor becomes this.
///
/// A heartbeat keeps its address unless `new_secret` says otherwise. The verdict stays, unless the target is another or the monitor was off.
#[utoipa::path(put, path = "/monitors/{monitor}", tag = "monitors", operation_id = "put_monitor",
    params(
        ("monitor" = String, Path, description = "Id, or for tenants name."),
        ("If-Match" = Option<String>, Header, description = "The monitor's ETag, or `*`."),
        WriteQuery,
    ),
    request_body = api::MonitorInput,
    responses(
        (status = 200, body = Written<api::Monitor>, headers(("ETag" = String))),
        (status = 202, body = Written<api::Monitor>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(
    request: Writing<String, Json<api::MonitorInput>>,
) -> Result<Answer<api::Monitor>, ApiError> {
    let Writing { writer, path, body: Json(body), preconditions, .. } = request;
    let old = find(&writer, &path, Verb::Monitor)?;
    lookup::is_still_of(&writer, old.tenant, body.tenant.as_deref(), "monitor")?;
    let (monitor, if_match) = (old.id, if_match(&preconditions, old)?);
    let secret = NewSecret::draw();
    let input = document::read(&body, secret.heartbeat_hash())?;
    let action = Action::UpdateMonitor { monitor, if_match, input, new_secret: body.new_secret };
    let done = writer.submit(action, None, Pointers::None).await?;
    answer(&writer, done, monitor, body.new_secret.then_some(&secret)).await
}

/// Delete a monitor that nothing names.
#[utoipa::path(delete, path = "/monitors/{monitor}", tag = "monitors", operation_id = "delete_monitor",
    params(
        ("monitor" = String, Path, description = "Id, or for tenants name."),
        ("If-Match" = Option<String>, Header, description = "The monitor's ETag, or `*`."),
        WriteQuery,
    ),
    responses(
        (status = 200, body = Written<api::Monitor>),
        (status = 202, body = Written<api::Monitor>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<String, NoBody>) -> Result<Answer<api::Monitor>, ApiError> {
    let Writing { writer, path, preconditions, .. } = request;
    let old = find(&writer, &path, Verb::Monitor)?;
    let action = Action::DeleteMonitor { monitor: old.id, if_match: if_match(&preconditions, old)? };
    let done = writer.submit(action, None, Pointers::None).await?;
    writer.answer(done, None).await
}

/// Have the chosen PoPs probe a monitor now.
///
/// That is beside what is due, and no verdict comes of it. The answer comes when all PoPs have answered, or two seconds after the monitor's
/// time-out. A monitor is tested at most every 5 seconds.
#[utoipa::path(post, path = "/monitors/{monitor}/test", tag = "monitors", operation_id = "test_monitor",
    params(("monitor" = String, Path, description = "Id, or for tenants name.")),
    responses(
        (status = 200, body = api::MonitorTest),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn test(request: Writing<String, NoBody>) -> Result<respond::Ok<api::MonitorTest>, ApiError> {
    let Writing { writer, path, .. } = request;
    let monitor = find(&writer, &path, Verb::Monitor)?;
    if monitor.check.target().is_none() || !monitor.enabled {
        let why = if monitor.enabled { "nobody probes such a monitor" } else { "the monitor is off" };
        return Err(ApiError::new(Code::Conflict, format!("{why}: there is nothing to be tested")));
    }
    let health = writer.publisher().health();
    let chosen = health.view(monitor.id).pops;
    let within = Duration::from_millis(monitor.pace.timeout_ms.into()) + TEST_MARGIN;
    let asked = chosen.iter().filter(|pop| pop.is_connected).map(|pop| pop.pop);
    let answers = health.test(monitor.id, asked, within).await;
    let mut answers = answers.map_err(|wait| ApiError::tested_lately("monitor", wait))?;
    let pops = chosen
        .iter()
        .map(|pop| document::tested(writer.state(), pop.pop, pop.is_connected, answers.remove(&pop.pop)));
    Ok(respond::Ok(api::MonitorTest { pops: pops.collect() }))
}

/// What happened to a monitor, newest first: changes of it, and verdicts with their causes.
///
/// Of one that was deleted it is read by its id, for as long as the past is kept.
#[utoipa::path(get, path = "/monitors/{monitor}/history", tag = "monitors", operation_id = "get_monitor_history",
    params(("monitor" = String, Path, description = "Id, or for tenants name."), PageQuery),
    responses(
        (status = 200, body = Page<api::MonitorEvent>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn history(
    request: Reading<String, PageQuery>,
) -> Result<respond::Ok<Page<api::MonitorEvent>>, ApiError> {
    let Reading { caller, path, query, .. } = request;
    let id = find_ever(&caller, &path).await?;
    let limit = pages::limit(query.limit)?;
    let before = pages::read_revision_cursor(query.cursor.as_deref())?;
    let records = caller.history().of_monitor(id, before, limit + 1).await?;
    let cursor = |record: &crate::history::MonitorRecord| record.record.revision.to_be_bytes().to_vec();
    let page = pages::page(records, limit, cursor, |record| {
        let (principal, message) = at::who_and_why(&caller, &record.record);
        Some(api::MonitorEvent {
            change: present::change_id(record.record.revision),
            at_ms: record.record.time_ms,
            event: match record.event {
                MonitorEvent::Put => api::MonitorEventKind::Put,
                MonitorEvent::Deleted => api::MonitorEventKind::Deleted,
                MonitorEvent::Verdict { up: true, .. } => api::MonitorEventKind::Up,
                MonitorEvent::Verdict { up: false, .. } => api::MonitorEventKind::Down,
            },
            cause: match &record.event {
                MonitorEvent::Verdict { cause, .. } => Some(cause.clone()),
                MonitorEvent::Put | MonitorEvent::Deleted => None,
            },
            principal,
            message,
        })
    });
    Ok(respond::Ok(page))
}

/// The revision that a monitor must still have when the command is decided.
fn if_match(preconditions: &Preconditions, monitor: &Monitor) -> Result<Option<u64>, ApiError> {
    preconditions.revision(monitor.revision, format_args!("monitor {}", monitor.name))
}

/// Finds a monitor that the caller may see, by id or by its tenant's name for it, and asks for a verb.
fn find<'a>(caller: &'a Caller, text: &str, verb: Verb) -> Result<&'a Shared<Monitor>, ApiError> {
    caller.access().need_monitors(verb)?;
    let found = match (text.parse(), caller.access().tenant) {
        (Ok(id), _) => caller.access().visible_monitor(caller.state(), MonitorId(id)).ok(),
        (Err(_), Some(tenant)) => caller.state().monitors().named(tenant, text),
        (Err(_), None) => None,
    };
    found.ok_or_else(|| Rejection::not_found(format_args!("monitor `{}`", shortened(text))).into())
}

/// The id of a monitor that the caller may see, or might have seen before it was deleted.
async fn find_ever(caller: &Caller, text: &str) -> Result<MonitorId, ApiError> {
    let missing = match find(caller, text, Verb::Read) {
        Ok(monitor) => return Ok(monitor.id),
        Err(missing) => missing,
    };
    caller.access().need_monitors(Verb::Read)?;
    let Ok(id) = text.parse() else { return Err(missing) };
    let known = caller.history().known_monitor(MonitorId(id)).await?;
    let own = caller.access().tenant;
    match known.filter(|known| own.is_none_or(|own| own == known.tenant)) {
        Some(known) => Ok(known.id),
        None => Err(missing),
    }
}

/// Answers with the monitor, and the path of a heartbeat that got a new secret.
async fn answer(
    writer: &Writer,
    done: Done,
    id: MonitorId,
    secret: Option<&NewSecret>,
) -> Result<Answer<api::Monitor>, ApiError> {
    let monitor = done.state.monitors().get(id);
    let is_heartbeat = monitor.is_some_and(|monitor| matches!(monitor.check, Check::Heartbeat { .. }));
    let secret = secret.filter(|_| is_heartbeat);
    let is_shown = secret.is_some() && done.has_new_secret();
    if is_shown {
        writer.note_secret(Kind::SecretShown, None, "/monitors");
    }
    let warnings = if secret.is_some() { done.secret_warnings() } else { Vec::new() };
    let tag = monitor.map(|monitor| monitor.revision.to_string());
    let item = monitor.map(|monitor| api::Monitor {
        heartbeat_path: secret
            .filter(|_| is_shown)
            .map(|secret| format!("/heartbeats/{}", secret.heartbeat_text())),
        ..document::monitor(monitor)
    });
    Ok(writer.answer_with(done, item, warnings).await?.tagged(tag))
}
