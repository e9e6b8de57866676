//! `GET`, `DELETE /tokens/{id}`

use herald_core::TokenId;
use herald_core::account::Verb;
use herald_core::command::Action;
use herald_wire::api::{Problem, Token, Written};

use crate::edge::gate::{Answer, NoBody, Reading, WriteQuery, Writing};
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::{present, respond};

/// One token, without its secret.
#[utoipa::path(get, path = "/tokens/{id}", tag = "tokens", operation_id = "get_token",
    params(("id" = String, Path, description = "Its id.")),
    responses(
        (status = 200, body = Token),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<TokenId>) -> Result<respond::Ok<Token>, ApiError> {
    let Reading { caller, path, .. } = request;
    caller.access().need_verb(Verb::Admin)?;
    Ok(respond::Ok(present::token(caller.access().visible_token(caller.state(), path)?)))
}

/// Revoke it: from now on it is refused.
///
/// It stays to be seen.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", operation_id = "revoke_token",
    params(("id" = String, Path, description = "Its id."), WriteQuery),
    responses(
        (status = 200, body = Written<Token>),
        (status = 202, body = Written<Token>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn revoke(request: Writing<TokenId, NoBody>) -> Result<Answer<Token>, ApiError> {
    let Writing { writer, path, .. } = request;
    let done = writer.submit(Action::RevokeToken { token: path }, None, Pointers::None).await?;
    let item = done.state.token(path).map(|token| present::token(token));
    writer.answer(done, item).await
}
