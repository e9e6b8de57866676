//! `GET`, `POST /tokens`

use herald_core::TokenId;
use herald_core::account::Verb;
use herald_core::command::Action;
use herald_core::decide::Subject;
use herald_core::state::Shared;
use herald_wire::api::{Page, Problem, Token, TokenCreate, Written};

use super::scope::parse_scope;
use crate::access_log::Kind;
use crate::edge::gate::{Answer, Json, Reading, WriteQuery, Writing};
use crate::edge::names::Faults;
use crate::edge::pages::PageQuery;
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::secret::NewSecret;
use crate::edge::{lookup, pages, present, respond};

/// Tokens by age, without their secrets, a page at a time.
#[utoipa::path(get, path = "/tokens", tag = "tokens", operation_id = "list_tokens",
    params(PageQuery), responses(
    (status = 200, body = Page<Token>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: Reading<(), PageQuery>) -> Result<respond::Ok<Page<Token>>, ApiError> {
    let Reading { caller, query, .. } = request;
    let access = caller.access();
    access.need_verb(Verb::Admin)?;
    let after = pages::read_id_cursor(query.cursor.as_deref())?.map(TokenId);
    let limit = pages::limit(query.limit)?;
    let cursor = |token: &&Shared<herald_core::account::Token>| token.id.0.to_be_bytes().to_vec();
    let present = |token: &&Shared<_>| Some(present::token(token));
    Ok(respond::Ok(match access.tenant {
        Some(own) => pages::page(caller.state().tenant_tokens(own, after), limit, cursor, present),
        None => pages::page(caller.state().tokens(after), limit, cursor, present),
    }))
}

/// Make a token, never wider than the one that makes it.
///
/// The answer has its secret, once.
#[utoipa::path(post, path = "/tokens", tag = "tokens", operation_id = "create_token",
    params(WriteQuery), request_body = TokenCreate, responses(
    (status = 201, body = Written<Token>, headers(("Location" = String))),
    (status = 200, body = Written<Token>, description = "Of a dry run."),
    (status = 202, body = Written<Token>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(request: Writing<(), Json<TokenCreate>>) -> Result<Answer<Token>, ApiError> {
    let Writing { writer, body: Json(body), .. } = request;
    let tenant = lookup::tenant_or_own(&writer, body.tenant.as_deref())?;
    let mut faults = Faults::default();
    let scope = parse_scope(&body.scope, &mut faults);
    faults.check()?;
    let secret = NewSecret::draw();
    let action = Action::CreateToken {
        tenant,
        description: body.description,
        scope,
        expires_at_ms: body.expires_at_ms,
        secret_hash: secret.token_hash(),
    };
    let done = writer.submit(action, body.message, Pointers::None).await?;
    let token = match done.subject {
        Some(Subject::Token(id)) => done.state.token(id),
        _ => None,
    };
    let item = token.map(|token| Token {
        secret: done.has_new_secret().then(|| secret.token_text(token.id)),
        ..present::token(token)
    });
    if let (Some(token), true) = (token, done.has_new_secret()) {
        writer.note_secret(Kind::TokenCreated, Some(token.id), "/tokens");
    }
    let path = item.as_ref().map(|item| format!("/tokens/{}", item.id));
    let warnings = done.secret_warnings();
    Ok(writer.answer_with(done, item, warnings).await?.created_at(path))
}
