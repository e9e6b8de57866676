//! Rules of the fleet and of tenants.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use herald_core::account::Verb;
use herald_core::command::Action;
use herald_core::firewall::Owner;
use herald_wire::api::firewall::{FirewallRule, FirewallRules};
use herald_wire::api::{Problem, Written};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{answer, if_match, read};
use crate::edge::at::At;
use crate::edge::gate::{
    Answer, Caller, Done, Json, NoBody, Preconditions, Reading, WriteQuery, Writer, Writing,
};
use crate::edge::names::shortened;
use crate::edge::problem::{ApiError, Code, Pointers};
use crate::edge::{lookup, respond};

/// As of when.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AtQuery {
    /// As of this revision or time (RFC 3339): now unless given.
    at: Option<String>,
}

/// The fleet has exactly these rules.
#[utoipa::path(put, path = "/firewall/rules", tag = "firewall", operation_id = "set_firewall_rules",
    params(("If-Match" = Option<String>, Header, description = "The ETag of `GET /firewall`, or `*`."), WriteQuery), request_body = FirewallRules, responses(
    (status = 200, body = Written<FirewallRules>, headers(("ETag" = String))),
    (status = 202, body = Written<FirewallRules>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn set_fleet(request: Writing<(), Json<FirewallRules>>) -> Result<Answer<FirewallRules>, ApiError> {
    let Writing { writer, body: Json(body), query, preconditions, .. } = request;
    set(&writer, Owner::Fleet, &preconditions, &body, query.message).await
}

/// Make a rule of the fleet's, or replace the one of its name.
#[utoipa::path(put, path = "/firewall/rules/{rule}", tag = "firewall", operation_id = "put_firewall_rule",
    params(
        ("rule" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The ETag of `GET /firewall`, or `*`."),
        WriteQuery,
    ), request_body = FirewallRule, responses(
    (status = 200, body = Written<FirewallRule>, headers(("ETag" = String))),
    (status = 202, body = Written<FirewallRule>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put_fleet(
    request: Writing<String, Json<FirewallRule>>,
) -> Result<Answer<FirewallRule>, ApiError> {
    let Writing { writer, path, body: Json(body), query, preconditions, .. } = request;
    put(&writer, Owner::Fleet, &preconditions, &path, &body, query.message).await
}

/// Delete a rule of the fleet's.
#[utoipa::path(delete, path = "/firewall/rules/{rule}", tag = "firewall", operation_id = "delete_firewall_rule",
    params(
        ("rule" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The ETag of `GET /firewall`, or `*`."),
        WriteQuery,
    ), responses(
    (status = 200, body = Written<FirewallRule>, headers(("ETag" = String))),
    (status = 202, body = Written<FirewallRule>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete_fleet(request: Writing<String, NoBody>) -> Result<Answer<FirewallRule>, ApiError> {
    let Writing { writer, path, query, preconditions, .. } = request;
    delete(&writer, Owner::Fleet, &preconditions, path, query.message).await
}

/// A tenant's rules, in order: they are for queries for its zones, and asked after the fleet's and the policy zones.
#[utoipa::path(get, path = "/tenants/{tenant}/firewall", tag = "firewall", operation_id = "get_tenant_firewall",
    params(("tenant" = String, Path, description = "Id or name."), AtQuery), responses(
    (status = 200, body = FirewallRules, headers(("ETag" = String))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get_tenant(request: Reading<String, AtQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path, query, .. } = request;
    let owner = Owner::Tenant(lookup::tenant(&caller, &path)?.id);
    get(&caller, owner, query.at.as_deref()).await
}

/// The fleet's rules, in order.
#[utoipa::path(get, path = "/firewall/rules", tag = "firewall", operation_id = "get_firewall_rules",
    params(AtQuery), responses(
    (status = 200, body = FirewallRules, headers(("ETag" = String))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get_fleet(request: Reading<(), AtQuery>) -> Result<Response, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_operator()?;
    get(&caller, Owner::Fleet, query.at.as_deref()).await
}

/// A tenant has exactly these rules.
#[utoipa::path(put, path = "/tenants/{tenant}/firewall", tag = "firewall", operation_id = "set_tenant_firewall",
    params(
        ("tenant" = String, Path, description = "Id or name."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the tenant's rules, or `*`."),
        WriteQuery,
    ), request_body = FirewallRules, responses(
    (status = 200, body = Written<FirewallRules>, headers(("ETag" = String))),
    (status = 202, body = Written<FirewallRules>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn set_tenant(
    request: Writing<String, Json<FirewallRules>>,
) -> Result<Answer<FirewallRules>, ApiError> {
    let Writing { writer, path, body: Json(body), query, preconditions, .. } = request;
    let owner = Owner::Tenant(lookup::tenant(&writer, &path)?.id);
    set(&writer, owner, &preconditions, &body, query.message).await
}

/// Make a rule of a tenant's, or replace the one of its name.
#[utoipa::path(put, path = "/tenants/{tenant}/firewall/{rule}", tag = "firewall", operation_id = "put_tenant_firewall_rule",
    params(
        ("tenant" = String, Path, description = "Id or name."),
        ("rule" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the tenant's rules, or `*`."),
        WriteQuery,
    ),
    request_body = FirewallRule, responses(
    (status = 200, body = Written<FirewallRule>, headers(("ETag" = String))),
    (status = 202, body = Written<FirewallRule>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put_tenant(
    request: Writing<(String, String), Json<FirewallRule>>,
) -> Result<Answer<FirewallRule>, ApiError> {
    let Writing { writer, path: (tenant, rule), body: Json(body), query, preconditions, .. } = request;
    let owner = Owner::Tenant(lookup::tenant(&writer, &tenant)?.id);
    put(&writer, owner, &preconditions, &rule, &body, query.message).await
}

/// Delete a rule of a tenant's.
#[utoipa::path(delete, path = "/tenants/{tenant}/firewall/{rule}", tag = "firewall",
    operation_id = "delete_tenant_firewall_rule",
    params(
        ("tenant" = String, Path, description = "Id or name."),
        ("rule" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the tenant's rules, or `*`."),
        WriteQuery,
    ),
    responses(
    (status = 200, body = Written<FirewallRule>, headers(("ETag" = String))),
    (status = 202, body = Written<FirewallRule>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete_tenant(
    request: Writing<(String, String), NoBody>,
) -> Result<Answer<FirewallRule>, ApiError> {
    let Writing { writer, path: (tenant, rule), query, preconditions, .. } = request;
    let owner = Owner::Tenant(lookup::tenant(&writer, &tenant)?.id);
    delete(&writer, owner, &preconditions, rule, query.message).await
}

async fn get(caller: &Caller, owner: Owner, at: Option<&str>) -> Result<Response, ApiError> {
    caller.access().need_verb(Verb::Read)?;
    let firewall = match at {
        None => caller.state().firewall().clone(),
        Some(at) => {
            let revision = At::parse("at", at)?.revision(caller).await?;
            caller.history().firewall_at(owner, revision).await?
        }
    };
    let shown = FirewallRules { rules: read::shown(firewall.rules(owner)) };
    Ok(tagged(respond::Ok(shown), firewall.revision(owner)))
}

async fn set(
    writer: &Writer,
    owner: Owner,
    preconditions: &Preconditions,
    body: &FirewallRules,
    message: Option<String>,
) -> Result<Answer<FirewallRules>, ApiError> {
    writer.access().need_firewall(owner)?;
    let (mut rules, mut faults) = (Vec::new(), Vec::new());
    for (place, rule) in body.rules.iter().enumerate() {
        match read::rule(rule, &format!("/rules/{place}")) {
            Ok(rule) => rules.push(rule),
            Err(more) => faults.extend(more),
        }
    }
    if !faults.is_empty() {
        return Err(ApiError::new(Code::Invalid, "").with_items(faults));
    }
    let pointers = (0..rules.len()).map(|place| format!("/rules/{place}")).collect();
    let if_match = if_match(preconditions, writer, owner)?;
    let action = Action::SetFirewallRules { owner, if_match, rules, zones: None };
    let done = writer.submit(action, message, Pointers::Each(pointers)).await?;
    answer_all(writer, done, owner).await
}

async fn put(
    writer: &Writer,
    owner: Owner,
    preconditions: &Preconditions,
    name: &str,
    body: &FirewallRule,
    message: Option<String>,
) -> Result<Answer<FirewallRule>, ApiError> {
    writer.access().need_firewall(owner)?;
    if body.name != name {
        let (body, path) = (shortened(&body.name), shortened(name));
        return Err(ApiError::malformed(format!("the rule is named `{body}`, and the path says `{path}`")));
    }
    let rule = read::rule(body, "").map_err(|faults| ApiError::new(Code::Invalid, "").with_items(faults))?;
    let if_match = if_match(preconditions, writer, owner)?;
    let action = Action::PutFirewallRule { owner, if_match, rule };
    let done = writer.submit(action, message, Pointers::None).await?;
    let shown = done.state.firewall().rule(owner, name).map(read::show);
    answer(writer, done, owner, shown, Vec::new()).await
}

async fn delete(
    writer: &Writer,
    owner: Owner,
    preconditions: &Preconditions,
    name: String,
    message: Option<String>,
) -> Result<Answer<FirewallRule>, ApiError> {
    writer.access().need_firewall(owner)?;
    let if_match = if_match(preconditions, writer, owner)?;
    let action = Action::DeleteFirewallRule { owner, if_match, name };
    let done = writer.submit(action, message, Pointers::None).await?;
    answer(writer, done, owner, None, Vec::new()).await
}

/// Answers with all rules of an owner.
pub(super) async fn answer_all(
    writer: &Writer,
    done: Done,
    owner: Owner,
) -> Result<Answer<FirewallRules>, ApiError> {
    let shown = FirewallRules { rules: read::shown(done.state.firewall().rules(owner)) };
    answer(writer, done, owner, Some(shown), Vec::new()).await
}

/// A document with the tag of a revision.
pub(super) fn tagged(document: impl IntoResponse, revision: u64) -> Response {
    let mut response = document.into_response();
    response.headers_mut().insert(header::ETAG, respond::etag(&revision.to_string()));
    response
}
