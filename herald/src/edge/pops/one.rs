//! `GET`, `PATCH`, `DELETE /pops/{pop}`

use herald_core::command::Action;
use herald_core::decide::Subject;
use herald_wire::api::{Pop, PopPatch, Problem, Written};

use crate::edge::gate::{Answer, Done, Json, NoBody, Reading, WriteQuery, Writer, Writing};
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::{lookup, present, respond};

/// One PoP, and how it stands.
#[utoipa::path(get, path = "/pops/{pop}", tag = "pops", operation_id = "get_pop",
    params(("pop" = String, Path, description = "Id or name.")),
    responses(
        (status = 200, body = Pop),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<String>) -> Result<respond::Ok<Pop>, ApiError> {
    let Reading { caller, path, .. } = request;
    caller.access().need_operator()?;
    Ok(respond::Ok(present::pop(caller.publisher(), lookup::pop(caller.state(), &path)?)))
}

/// Enable or disable, drain or undrain it, or move it to another region.
///
/// A disabled PoP's credential is refused; a drained one goes on receiving, and nobody waits for it.
#[utoipa::path(patch, path = "/pops/{pop}", tag = "pops", operation_id = "update_pop",
    params(("pop" = String, Path, description = "Id or name."), WriteQuery),
    request_body = PopPatch,
    responses(
        (status = 200, body = Written<Pop>),
        (status = 202, body = Written<Pop>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn update(request: Writing<String, Json<PopPatch>>) -> Result<Answer<Pop>, ApiError> {
    let Writing { writer, path, body: Json(patch), .. } = request;
    writer.access().need_operator()?;
    let pop = lookup::pop(writer.state(), &path)?.id;
    let PopPatch { enabled, drained, region, .. } = patch;
    let action = Action::UpdatePop { pop, enabled, drained, region };
    let done = writer.submit(action, patch.message, Pointers::None).await?;
    answer_pop(&writer, done, None).await
}

/// Delete a PoP that is disabled.
#[utoipa::path(delete, path = "/pops/{pop}", tag = "pops", operation_id = "delete_pop",
    params(("pop" = String, Path, description = "Id or name."), WriteQuery),
    responses(
        (status = 200, body = Written<Pop>),
        (status = 202, body = Written<Pop>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<String, NoBody>) -> Result<Answer<Pop>, ApiError> {
    let Writing { writer, path, .. } = request;
    writer.access().need_operator()?;
    let pop = lookup::pop(writer.state(), &path)?.id;
    let done = writer.submit(Action::DeletePop { pop }, None, Pointers::None).await?;
    writer.answer(done, None).await
}

/// Answers with the PoP; one with a secret was just made.
pub(super) async fn answer_pop(
    writer: &Writer,
    done: Done,
    secret: Option<String>,
) -> Result<Answer<Pop>, ApiError> {
    let pop = match done.subject {
        Some(Subject::Pop(id)) => done.state.pop(id),
        _ => None,
    };
    let is_created = secret.is_some();
    let warnings = if is_created { Vec::new() } else { done.secret_warnings() };
    let item = pop.map(|pop| Pop { secret, ..present::pop(writer.publisher(), pop) });
    let path = item.as_ref().map(|item| format!("/pops/{}", item.id)).filter(|_| is_created);
    Ok(writer.answer_with(done, item, warnings).await?.created_at(path))
}
