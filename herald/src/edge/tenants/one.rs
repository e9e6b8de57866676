//! `GET`, `PATCH`, `DELETE /tenants/{tenant}`

use std::collections::BTreeMap;

use herald_core::command::Action;
use herald_core::decide::Subject;
use herald_core::limits::Limit;
use herald_core::steering::{Prefix, PrefixError};
use herald_wire::api::{Problem, Tenant, TenantPatch, Written};

use crate::edge::gate::{Answer, Done, Json, NoBody, Reading, WriteQuery, Writer, Writing};
use crate::edge::names::shortened;
use crate::edge::problem::{ApiError, Code, Pointers, item};
use crate::edge::{lookup, present, respond};

/// One tenant.
#[utoipa::path(get, path = "/tenants/{tenant}", tag = "tenants", operation_id = "get_tenant",
    params(("tenant" = String, Path, description = "Id or name.")),
    responses(
        (status = 200, body = Tenant),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<String>) -> Result<respond::Ok<Tenant>, ApiError> {
    let Reading { caller, path, .. } = request;
    caller.access().need_operator()?;
    Ok(respond::Ok(present::tenant(caller.state(), lookup::tenant(&caller, &path)?)))
}

/// Change a tenant: its name, its limits, its source prefixes, whether its tokens work.
///
/// A limit that is lowered takes nothing away: only growth over it is refused. The tokens of a disabled one are refused; its zones are served all the same.
#[utoipa::path(patch, path = "/tenants/{tenant}", tag = "tenants", operation_id = "update_tenant",
    params(("tenant" = String, Path, description = "Id or name."), WriteQuery),
    request_body = TenantPatch,
    responses(
        (status = 200, body = Written<Tenant>),
        (status = 202, body = Written<Tenant>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn update(request: Writing<String, Json<TenantPatch>>) -> Result<Answer<Tenant>, ApiError> {
    let Writing { writer, path, body: Json(patch), .. } = request;
    writer.access().need_operator()?;
    let tenant = lookup::tenant(&writer, &path)?.id;
    let limits = read_limits(&patch.limits)?;
    let source_prefixes = patch.source_prefixes.as_deref().map(read_prefixes).transpose()?;
    let (name, enabled) = (patch.name, patch.enabled);
    let action = Action::UpdateTenant { tenant, name, enabled, limits, source_prefixes };
    let done = writer.submit(action, patch.message, Pointers::None).await?;
    answer_tenant(&writer, done, false).await
}

fn read_prefixes(prefixes: &[String]) -> Result<Vec<Prefix>, ApiError> {
    let mut items = Vec::new();
    let read = prefixes.iter().enumerate().filter_map(|(place, text)| {
        let fault = |e: PrefixError| items.push(item(format!("/source_prefixes/{place}"), e.to_string()));
        text.parse().map_err(fault).ok()
    });
    let read = read.collect();
    if items.is_empty() { Ok(read) } else { Err(ApiError::new(Code::Invalid, "").with_items(items)) }
}

/// Limits by their names.
fn read_limits(limits: &BTreeMap<String, Option<u64>>) -> Result<Vec<(Limit, Option<u64>)>, ApiError> {
    let mut items = Vec::new();
    let mut read = Vec::new();
    for (name, value) in limits {
        let shown = shortened(name);
        let detail = match name.parse::<Limit>() {
            Err(_) => {
                let known: Vec<&str> = Limit::ALL.iter().map(|limit| limit.name()).collect();
                format!("there is no limit `{shown}`; there are: {}", known.join(", "))
            }
            Ok(limit) if value.is_none_or(|value| limit.range().contains(&value)) => {
                read.push((limit, *value));
                continue;
            }
            Ok(limit) => {
                format!("`{shown}` can be {} to {}", limit.range().start(), limit.range().end())
            }
        };
        items.push(item(format!("/limits/{}", shown.replace('~', "~0").replace('/', "~1")), detail));
    }
    if items.is_empty() { Ok(read) } else { Err(ApiError::new(Code::Invalid, "").with_items(items)) }
}

/// Delete a tenant that holds no zones; its tokens are revoked.
#[utoipa::path(delete, path = "/tenants/{tenant}", tag = "tenants", operation_id = "delete_tenant",
    params(("tenant" = String, Path, description = "Id or name."), WriteQuery),
    responses(
        (status = 200, body = Written<Tenant>),
        (status = 202, body = Written<Tenant>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<String, NoBody>) -> Result<Answer<Tenant>, ApiError> {
    let Writing { writer, path, .. } = request;
    writer.access().need_operator()?;
    let tenant = lookup::tenant(&writer, &path)?.id;
    let done = writer.submit(Action::DeleteTenant { tenant }, None, Pointers::None).await?;
    writer.answer(done, None).await
}

pub(super) async fn answer_tenant(
    writer: &Writer,
    done: Done,
    is_created: bool,
) -> Result<Answer<Tenant>, ApiError> {
    let tenant = match done.subject {
        Some(Subject::Tenant(id)) => done.state.tenant(id),
        _ => None,
    };
    let item = tenant.map(|tenant| present::tenant(&done.state, tenant));
    let path = item.as_ref().map(|item| format!("/tenants/{}", item.id)).filter(|_| is_created);
    Ok(writer.answer(done, item).await?.created_at(path))
}
