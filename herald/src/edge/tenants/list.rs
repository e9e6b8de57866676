//! `GET`, `POST /tenants`

use herald_core::TenantId;
use herald_core::command::Action;
use herald_core::state::Shared;
use herald_wire::api::{Page, Problem, Tenant, TenantCreate, Written};

use super::one::answer_tenant;
use crate::edge::gate::{Answer, Json, Reading, WriteQuery, Writing};
use crate::edge::pages::PageQuery;
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::{pages, present, respond};

/// Tenants by age, a page at a time.
#[utoipa::path(get, path = "/tenants", tag = "tenants", operation_id = "list_tenants",
    params(PageQuery), responses(
    (status = 200, body = Page<Tenant>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(request: Reading<(), PageQuery>) -> Result<respond::Ok<Page<Tenant>>, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_operator()?;
    let after = pages::read_id_cursor(query.cursor.as_deref())?.map(TenantId);
    let limit = pages::limit(query.limit)?;
    let cursor = |tenant: &&Shared<herald_core::account::Tenant>| tenant.id.0.to_be_bytes().to_vec();
    let page = pages::page(caller.state().tenants(after), limit, cursor, |tenant| {
        Some(present::tenant(caller.state(), tenant))
    });
    Ok(respond::Ok(page))
}

/// Make a tenant.
#[utoipa::path(post, path = "/tenants", tag = "tenants", operation_id = "create_tenant",
    params(WriteQuery), request_body = TenantCreate, responses(
    (status = 201, body = Written<Tenant>, headers(("Location" = String))),
    (status = 200, body = Written<Tenant>, description = "Of a dry run."),
    (status = 202, body = Written<Tenant>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(request: Writing<(), Json<TenantCreate>>) -> Result<Answer<Tenant>, ApiError> {
    let Writing { writer, body: Json(body), .. } = request;
    let done = writer.submit(Action::CreateTenant { name: body.name }, body.message, Pointers::None).await?;
    answer_tenant(&writer, done, true).await
}
