//! `/channels`: where tenants want to hear of verdicts.

use axum::response::{IntoResponse, Response};
use herald_core::account::Verb;
use herald_core::channel::{self, Channel, Receiver};
use herald_core::command::Action;
use herald_core::decide::Subject;
use herald_core::rejection::Rejection;
use herald_core::state::Shared;
use herald_core::{ChannelId, MonitorId};
use herald_wire::api::channels as api;
use herald_wire::api::{Page, Problem, Warning, Written};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{
    Answer, AppState, Caller, Done, Json, NoBody, Preconditions, Reading, WriteQuery, Writer, Writing,
};
use super::names::{Faults, shortened};
use super::pages;
use super::problem::{ApiError, Code, Pointers};
use super::{lookup, respond};
use crate::access_log::Kind;
use crate::notify::Status;

/// The routes of channels.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, put, delete))
        .routes(routes!(test))
        .routes(routes!(confirm))
}

/// Which channels, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ChannelsQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    limit: Option<usize>,
    /// Those of this tenant, by id or name: for operators.
    tenant: Option<String>,
}

/// Notification channels by name, or all tenants' by age, a page at a time.
#[utoipa::path(get, path = "/channels", tag = "monitors", operation_id = "list_channels",
    params(ChannelsQuery), responses(
    (status = 200, body = Page<api::Channel>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: Reading<(), ChannelsQuery>) -> Result<respond::Ok<Page<api::Channel>>, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_monitors(Verb::Read)?;
    let limit = pages::limit(query.limit)?;
    let tenant = match &query.tenant {
        Some(text) => Some(lookup::tenant(&caller, text)?.id),
        None => caller.access().tenant,
    };
    let channels = caller.state().channels();
    let shown = |channel: &Shared<Channel>| Some(show(channel));
    let page = match tenant {
        Some(tenant) => {
            let after = pages::read_cursor(query.cursor.as_deref(), |octets| {
                String::from_utf8(octets.to_vec()).ok()
            })?;
            let cursor = |channel: &&Shared<Channel>| channel.name.as_bytes().to_vec();
            pages::page(channels.of_tenant(tenant, after.as_deref()), limit, cursor, |it| shown(it))
        }
        None => {
            let after = pages::read_cursor(query.cursor.as_deref(), |octets| {
                Some(ChannelId(u128::from_be_bytes(octets.try_into().ok()?)))
            })?;
            let cursor = |channel: &&Shared<Channel>| channel.id.0.to_be_bytes().to_vec();
            pages::page(channels.iter(after), limit, cursor, |it| shown(it))
        }
    };
    Ok(respond::Ok(page))
}

/// Make a notification channel.
///
/// The answer to a new webhook has the secret that its messages are signed with, once.
#[utoipa::path(post, path = "/channels", tag = "monitors", operation_id = "create_channel",
    params(WriteQuery), request_body = api::ChannelInput, responses(
    (status = 201, body = Written<api::Channel>, headers(("Location" = String), ("ETag" = String))),
    (status = 200, body = Written<api::Channel>, description = "Of a dry run."),
    (status = 202, body = Written<api::Channel>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(request: Writing<(), Json<api::ChannelInput>>) -> Result<Answer<api::Channel>, ApiError> {
    let Writing { writer, body: Json(body), .. } = request;
    writer.access().need_monitors(Verb::Monitor)?;
    let tenant = lookup::tenant_or_own(&writer, body.tenant.as_deref())?;
    let input = read(&writer, &body)?;
    let done = writer.submit(Action::CreateChannel { tenant, input }, None, Pointers::None).await?;
    let Some(Subject::Channel(id)) = done.subject else {
        return Err(ApiError::new(Code::Unavailable, "the channel was made, and can't be shown"));
    };
    Ok(answer(&writer, done, id, true).await?.created_at(Some(format!("/channels/{id}"))))
}

/// One notification channel, and how deliveries go.
#[utoipa::path(get, path = "/channels/{channel}", tag = "monitors", operation_id = "get_channel",
    params(("channel" = String, Path, description = "Id, or for tenants name.")),
    responses(
        (status = 200, body = api::Channel, headers(("ETag" = String))),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<String>) -> Result<Response, ApiError> {
    let Reading { caller, path, .. } = request;
    let channel = find(&caller, &path, Verb::Read)?;
    let status = caller.notify().status(channel.id).await;
    let status = status.map_err(|e| ApiError::new(Code::Unavailable, e.to_string()))?;
    let shown = api::Channel { deliveries: Some(deliveries(status)), ..show(channel) };
    let mut response = respond::Ok(shown).into_response();
    // How deliveries go isn't in the tag: it is for writes.
    response.headers_mut().insert(axum::http::header::ETAG, respond::etag(&channel.revision.to_string()));
    Ok(response)
}

/// The notification channel becomes this.
///
/// A webhook keeps its secret unless `new_secret` says otherwise.
#[utoipa::path(put, path = "/channels/{channel}", tag = "monitors", operation_id = "put_channel",
    params(
        ("channel" = String, Path, description = "Id, or for tenants name."),
        ("If-Match" = Option<String>, Header, description = "The channel's ETag, or `*`."),
        WriteQuery,
    ),
    request_body = api::ChannelInput,
    responses(
        (status = 200, body = Written<api::Channel>, headers(("ETag" = String))),
        (status = 202, body = Written<api::Channel>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(
    request: Writing<String, Json<api::ChannelInput>>,
) -> Result<Answer<api::Channel>, ApiError> {
    let Writing { writer, path, body: Json(body), preconditions, .. } = request;
    let old = find(&writer, &path, Verb::Monitor)?;
    lookup::is_still_of(&writer, old.tenant, body.tenant.as_deref(), "channel")?;
    let (channel, if_match) = (old.id, if_match(&preconditions, old)?);
    let input = read(&writer, &body)?;
    let action = Action::UpdateChannel { channel, if_match, input, new_secret: body.new_secret };
    let done = writer.submit(action, None, Pointers::None).await?;
    answer(&writer, done, channel, body.new_secret).await
}

/// Delete a notification channel. What wasn't delivered yet is never delivered.
#[utoipa::path(delete, path = "/channels/{channel}", tag = "monitors", operation_id = "delete_channel",
    params(
        ("channel" = String, Path, description = "Id, or for tenants name."),
        ("If-Match" = Option<String>, Header, description = "The channel's ETag, or `*`."),
        WriteQuery,
    ),
    responses(
        (status = 200, body = Written<api::Channel>),
        (status = 202, body = Written<api::Channel>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<String, NoBody>) -> Result<Answer<api::Channel>, ApiError> {
    let Writing { writer, path, preconditions, .. } = request;
    let old = find(&writer, &path, Verb::Monitor)?;
    let action = Action::DeleteChannel { channel: old.id, if_match: if_match(&preconditions, old)? };
    let done = writer.submit(action, None, Pointers::None).await?;
    writer.answer(done, None).await
}

/// Confirm the e-mail address of a notification channel, by the code that was sent there.
#[utoipa::path(post, path = "/channels/{channel}/confirm", tag = "monitors", operation_id = "confirm_channel",
    params(("channel" = String, Path, description = "Id, or for tenants name."), WriteQuery),
    request_body = api::ChannelConfirmation,
    responses(
        (status = 200, body = Written<api::Channel>, headers(("ETag" = String))),
        (status = 202, body = Written<api::Channel>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn confirm(
    request: Writing<String, Json<api::ChannelConfirmation>>,
) -> Result<Answer<api::Channel>, ApiError> {
    let Writing { writer, path, body: Json(body), .. } = request;
    let channel = find(&writer, &path, Verb::Monitor)?;
    let Receiver::Email { address } = &channel.receiver else {
        return Err(ApiError::new(Code::Conflict, "a webhook needs no confirmation"));
    };
    if !writer.notify().is_code(channel, &body.code) {
        let detail = format!("this is not the code that was sent to {address} last");
        return Err(ApiError::invalid_at("/code", detail));
    }
    let (id, address) = (channel.id, address.clone());
    let done = writer.submit(Action::ConfirmChannel { channel: id, address }, None, Pointers::None).await?;
    answer(&writer, done, id, false).await
}

/// Send a test message by a notification channel, now and once.
///
/// Where the address isn't confirmed yet it is the message with the code, at most every ten minutes. It doesn't wait for what waits, and isn't repeated. A channel is tested at most every 5 seconds.
#[utoipa::path(post, path = "/channels/{channel}/test", tag = "monitors", operation_id = "test_channel",
    params(("channel" = String, Path, description = "Id, or for tenants name.")),
    responses(
        (status = 200, body = api::ChannelTest),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn test(request: Writing<String, NoBody>) -> Result<respond::Ok<api::ChannelTest>, ApiError> {
    let Writing { writer, path, .. } = request;
    let channel = find(&writer, &path, Verb::Monitor)?;
    let done = match channel.is_unconfirmed() {
        true => {
            let done = writer.notify().send_code(&tenant_name(&writer, channel), channel).await;
            done.map_err(|wait| {
                let detail = "a code was sent a moment ago: an address gets one every ten minutes at most";
                ApiError::new(Code::RateLimited, detail).retry_after(wait.as_secs() + 1)
            })?
        }
        false => {
            let done = writer.notify().test(channel).await;
            done.map_err(|wait| ApiError::tested_lately("channel", wait))?
        }
    };
    let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Ok(respond::Ok(match done {
        Ok(took) => api::ChannelTest { delivered: true, took_ms: Some(millis(took)), error: None },
        Err(error) => api::ChannelTest { delivered: false, took_ms: None, error: Some(error) },
    }))
}

/// Reads what a channel is to be. What depends on its tenant and on monitors is judged by `decide`.
fn read(caller: &Caller, body: &api::ChannelInput) -> Result<channel::ChannelInput, ApiError> {
    let receiver = match &body.receiver {
        api::ChannelReceiver::Webhook(webhook) => Receiver::Webhook { url: webhook.url.clone() },
        api::ChannelReceiver::Email(email) => Receiver::Email { address: email.address.clone() },
    };
    if matches!(receiver, Receiver::Email { .. }) && !caller.notify().has_mail() {
        let mut faults = Faults::default();
        let detail = "this control plane sends no e-mail: an operator has to set mail-relay and mail-from";
        faults.add("/receiver/kind".into(), detail, None, None);
        faults.check()?;
    }
    let monitors = body.monitors.as_ref().map(|ids| ids.iter().copied().map(MonitorId).collect());
    Ok(channel::ChannelInput { name: body.name.clone(), receiver, monitors, enabled: body.enabled })
}

fn unconfirmed(channel: &Channel) -> Warning {
    let (name, to) = (
        &channel.name,
        match &channel.receiver {
            Receiver::Email { address } => address,
            Receiver::Webhook { url } => url,
        },
    );
    Warning {
        code: "unconfirmed".into(),
        name: None,
        detail: format!(
            "nothing is told to {to} until it is confirmed with the code that is sent there: POST \
             /channels/{name}/confirm, or koder dns channel confirm {name} CODE; a test of the channel sends the code again"
        ),
    }
}

fn tenant_name(caller: &Caller, channel: &Channel) -> String {
    caller.state().tenant(channel.tenant).map(|tenant| tenant.name.clone()).unwrap_or_default()
}

fn show(channel: &Channel) -> api::Channel {
    api::Channel {
        id: channel.id.to_string(),
        name: channel.name.clone(),
        tenant: channel.tenant.to_string(),
        receiver: match &channel.receiver {
            Receiver::Webhook { url } => {
                api::ChannelReceiver::Webhook(api::ChannelWebhook { url: url.clone() })
            }
            Receiver::Email { address } => {
                api::ChannelReceiver::Email(api::ChannelEmail { address: address.clone() })
            }
        },
        monitors: channel.monitors.as_ref().map(|ids| ids.iter().map(|id| id.0).collect()),
        enabled: channel.enabled,
        confirmed: channel.confirmed,
        deliveries: None,
        revision: channel.revision,
        created_at_ms: channel.created_at_ms,
        secret: None,
    }
}

fn deliveries(status: Status) -> api::ChannelDeliveries {
    api::ChannelDeliveries {
        pending: status.pending,
        attempts_failed: status.attempts,
        next_attempt_at_ms: status.next_ms,
        delivered: status.delivered,
        given_up: status.given_up,
        last_delivered_at_ms: status.last_delivered_ms,
        last_failed_at_ms: status.last_failed_ms,
        last_error: status.last_error,
    }
}

/// The revision that a channel must still have when the command is decided.
fn if_match(preconditions: &Preconditions, channel: &Channel) -> Result<Option<u64>, ApiError> {
    preconditions.revision(channel.revision, format_args!("channel {}", channel.name))
}

/// Finds a channel that the caller may see, by id or by its tenant's name for it, and asks for a verb.
fn find<'a>(caller: &'a Caller, text: &str, verb: Verb) -> Result<&'a Shared<Channel>, ApiError> {
    caller.access().need_monitors(verb)?;
    let found = match (text.parse(), caller.access().tenant) {
        (Ok(id), _) => caller.access().visible_channel(caller.state(), id).ok(),
        (Err(_), Some(tenant)) => caller.state().channels().named(tenant, text),
        (Err(_), None) => None,
    };
    found.ok_or_else(|| Rejection::not_found(format_args!("channel `{}`", shortened(text))).into())
}

/// Answers with the channel, and the secret of a webhook that got one.
async fn answer(
    writer: &Writer,
    done: Done,
    id: ChannelId,
    has_secret: bool,
) -> Result<Answer<api::Channel>, ApiError> {
    let channel = done.state.channels().get(id);
    let signed = channel.filter(|channel| has_secret && matches!(channel.receiver, Receiver::Webhook { .. }));
    let secret = signed.filter(|_| done.has_new_secret()).map(|channel| writer.notify().secret_text(channel));
    if secret.is_some() {
        writer.note_secret(Kind::SecretShown, None, "/channels");
    }
    let mut warnings = if signed.is_some() { done.secret_warnings() } else { Vec::new() };
    if let Some(channel) = channel.filter(|channel| channel.is_unconfirmed()) {
        warnings.push(unconfirmed(channel));
        // It was made or has another address: what is repeated, or only changed, finds that the address was written to a moment ago.
        if done.revision.is_some() && !done.is_repetition {
            let (notify, tenant) = (writer.notify().clone(), tenant_name(writer, channel));
            let channel = Channel::clone(channel);
            tokio::spawn(async move {
                if let Ok(Err(why)) = notify.send_code(&tenant, &channel).await {
                    tracing::warn!("the code of the channel {} can't be sent: {why}", channel.id);
                }
            });
        }
    }
    let tag = channel.map(|channel| channel.revision.to_string());
    let item = channel.map(|channel| api::Channel { secret, ..show(channel) });
    Ok(writer.answer_with(done, item, warnings).await?.tagged(tag))
}
