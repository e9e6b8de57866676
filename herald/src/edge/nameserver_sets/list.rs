//! `GET`, `POST /nameserver-sets`

use herald_core::account::Verb;
use herald_core::command::Action;
use herald_core::state::Shared;
use herald_wire::api::{NameserverSet, NameserverSetInput, Page, Problem, Written};

use super::one::{answer_set, parse_input};
use crate::edge::gate::{Answer, Json, Reading, WriteQuery, Writing};
use crate::edge::pages::PageQuery;
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::{pages, present, respond};

/// Sets of name servers by age, a page at a time.
#[utoipa::path(get, path = "/nameserver-sets", tag = "nameserver-sets", operation_id = "list_nameserver_sets",
    params(PageQuery), responses(
    (status = 200, body = Page<NameserverSet>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: Reading<(), PageQuery>) -> Result<respond::Ok<Page<NameserverSet>>, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_verb(Verb::Read)?;
    let after = pages::read_id_cursor(query.cursor.as_deref())?;
    let limit = pages::limit(query.limit)?;
    let cursor = |set: &&Shared<herald_core::account::NsSet>| set.id.0.to_be_bytes().to_vec();
    let sets = caller.state().ns_sets().filter(|set| after.is_none_or(|after| set.id.0 > after));
    let page = pages::page(sets, limit, cursor, |set| Some(present::nameserver_set(set)));
    Ok(respond::Ok(page))
}

/// Define a set of name servers.
///
/// The first one is the default.
#[utoipa::path(post, path = "/nameserver-sets", tag = "nameserver-sets", operation_id = "create_nameserver_set",
    params(WriteQuery),
    request_body = NameserverSetInput,
    responses(
        (status = 201, body = Written<NameserverSet>, headers(("Location" = String))),
        (status = 200, body = Written<NameserverSet>, description = "Of a dry run."),
        (status = 202, body = Written<NameserverSet>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(
    request: Writing<(), Json<NameserverSetInput>>,
) -> Result<Answer<NameserverSet>, ApiError> {
    let Writing { writer, body: Json(mut body), .. } = request;
    writer.access().need_operator()?;
    let message = body.message.take();
    let done = writer.submit(Action::CreateNsSet(parse_input(body)?), message, Pointers::None).await?;
    answer_set(&writer, done, true).await
}
