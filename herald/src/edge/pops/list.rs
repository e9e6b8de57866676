//! `GET`, `POST /pops`

use herald_core::command::Action;
use herald_core::state::Shared;
use herald_wire::api::{Page, Pop, PopCreate, Problem, Written};

use super::one::answer_pop;
use crate::access_log::Kind;
use crate::edge::gate::{Answer, Json, Reading, WriteQuery, Writing};
use crate::edge::pages::PageQuery;
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::secret::NewSecret;
use crate::edge::{pages, present, respond};

/// PoPs by age and how they stand, a page at a time.
#[utoipa::path(get, path = "/pops", tag = "pops", operation_id = "list_pops", params(PageQuery), responses(
    (status = 200, body = Page<Pop>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: Reading<(), PageQuery>) -> Result<respond::Ok<Page<Pop>>, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_operator()?;
    let after = pages::read_id_cursor(query.cursor.as_deref())?;
    let limit = pages::limit(query.limit)?;
    let cursor = |pop: &&Shared<herald_core::account::Pop>| pop.id.0.to_be_bytes().to_vec();
    let pops = caller.state().pops().filter(|pop| after.is_none_or(|after| pop.id.0 > after));
    let page = pages::page(pops, limit, cursor, |pop| Some(present::pop(caller.publisher(), pop)));
    Ok(respond::Ok(page))
}

/// Make a PoP.
///
/// The answer has its credential, once.
#[utoipa::path(post, path = "/pops", tag = "pops", operation_id = "create_pop",
    params(WriteQuery), request_body = PopCreate, responses(
    (status = 201, body = Written<Pop>, headers(("Location" = String))),
    (status = 200, body = Written<Pop>, description = "Of a dry run."),
    (status = 202, body = Written<Pop>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(request: Writing<(), Json<PopCreate>>) -> Result<Answer<Pop>, ApiError> {
    let Writing { writer, body: Json(body), .. } = request;
    let secret = NewSecret::draw();
    let action = Action::CreatePop { name: body.name, secret_hash: secret.pop_hash(), region: body.region };
    let done = writer.submit(action, body.message, Pointers::None).await?;
    if done.has_new_secret() {
        writer.note_secret(Kind::SecretShown, None, "/pops");
    }
    let secret = done.has_new_secret().then(|| secret.pop_text());
    answer_pop(&writer, done, secret).await
}
