//! The past of the firewall: who changed what, and back to it.

use herald_core::account::Verb;
use herald_core::command::Action;
use herald_core::firewall::{Owner, PolicyZone, Rule};
use herald_wire::api::firewall::{FirewallEvent, FirewallRules};
use herald_wire::api::{Page, Problem, Rollback, Written};

use super::rules;
use crate::edge::at::{self, At};
use crate::edge::gate::{
    Answer, Caller, Json, Preconditions, Reading, WriteQuery, Writer, Writing, blocking,
};
use crate::edge::pages::{self, PageQuery};
use crate::edge::problem::{ApiError, Pointers};
use crate::edge::{lookup, present, respond};
use crate::history::Record;

/// What was done to the fleet's rules and to policy zones, newest first.
#[utoipa::path(get, path = "/firewall/history", tag = "firewall", operation_id = "list_firewall_history",
    params(PageQuery), responses(
    (status = 200, body = Page<FirewallEvent>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn of_fleet(request: Reading<(), PageQuery>) -> Result<respond::Ok<Page<FirewallEvent>>, ApiError> {
    let Reading { caller, query, .. } = request;
    caller.access().need_operator()?;
    history(&caller, Owner::Fleet, &query).await
}

/// What was done to a tenant's rules, newest first.
#[utoipa::path(get, path = "/tenants/{tenant}/firewall/history", tag = "firewall",
    operation_id = "list_tenant_firewall_history",
    params(("tenant" = String, Path, description = "Id or name."), PageQuery), responses(
    (status = 200, body = Page<FirewallEvent>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn of_tenant(
    request: Reading<String, PageQuery>,
) -> Result<respond::Ok<Page<FirewallEvent>>, ApiError> {
    let Reading { caller, path, query, .. } = request;
    let owner = Owner::Tenant(lookup::tenant(&caller, &path)?.id);
    history(&caller, owner, &query).await
}

/// The fleet's rules and the policy zones are again what they were, by a new change.
#[utoipa::path(post, path = "/firewall/rollback", tag = "firewall", operation_id = "rollback_firewall",
    params(("If-Match" = Option<String>, Header, description = "The ETag of `GET /firewall`, or `*`."), WriteQuery),
    request_body = Rollback, responses(
    (status = 200, body = Written<FirewallRules>, headers(("ETag" = String))),
    (status = 202, body = Written<FirewallRules>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn rollback_fleet(request: Writing<(), Json<Rollback>>) -> Result<Answer<FirewallRules>, ApiError> {
    let Writing { writer, body: Json(body), query, preconditions, .. } = request;
    rollback(&writer, Owner::Fleet, &preconditions, body, query.message).await
}

/// A tenant's rules are again what they were, by a new change.
#[utoipa::path(post, path = "/tenants/{tenant}/firewall/rollback", tag = "firewall",
    operation_id = "rollback_tenant_firewall",
    params(
        ("tenant" = String, Path, description = "Id or name."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the tenant's rules, or `*`."),
        WriteQuery,
    ),
    request_body = Rollback, responses(
    (status = 200, body = Written<FirewallRules>, headers(("ETag" = String))),
    (status = 202, body = Written<FirewallRules>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn rollback_tenant(
    request: Writing<String, Json<Rollback>>,
) -> Result<Answer<FirewallRules>, ApiError> {
    let Writing { writer, path, body: Json(body), query, preconditions } = request;
    let owner = Owner::Tenant(lookup::tenant(&writer, &path)?.id);
    rollback(&writer, owner, &preconditions, body, query.message).await
}

async fn history(
    caller: &Caller,
    owner: Owner,
    query: &PageQuery,
) -> Result<respond::Ok<Page<FirewallEvent>>, ApiError> {
    caller.access().need_verb(Verb::Read)?;
    let limit = pages::limit(query.limit)?;
    let before = pages::read_revision_cursor(query.cursor.as_deref())?;
    let records = caller.history().of_firewall(owner, before, limit + 1).await?;
    let cursor = |record: &Record| record.revision.to_be_bytes().to_vec();
    Ok(respond::Ok(pages::page(records, limit, cursor, |record| {
        let (principal, message) = at::who_and_why(caller, record);
        Some(FirewallEvent {
            id: present::change_id(record.revision),
            revision: record.revision,
            accepted_at_ms: record.time_ms,
            principal,
            message,
            kinds: present::kinds(record.kinds),
        })
    })))
}

async fn rollback(
    writer: &Writer,
    owner: Owner,
    preconditions: &Preconditions,
    body: Rollback,
    message: Option<String>,
) -> Result<Answer<FirewallRules>, ApiError> {
    writer.access().need_firewall(owner)?;
    // What is decided on is what it was read beside, so that nobody's change in between is lost.
    let firewall = writer.state().firewall();
    super::if_match(preconditions, writer, owner)?;
    let if_match = Some(firewall.revision(owner));
    let to = At::parse("to", &body.to).map_err(|e| e.at("/to"))?;
    let to = to.revision(writer).await.map_err(|e| e.at("/to"))?;
    let then = writer.history().firewall_at(owner, to).await?;
    let rules: Vec<Rule> = then.rules(owner).cloned().collect();
    let zones: Option<Vec<PolicyZone>> = (owner == Owner::Fleet).then(|| then.zones().cloned().collect());
    if let Some(zones) = zones.clone() {
        let firewalls = writer.publisher().firewalls().clone();
        blocking(move || zones.iter().try_for_each(|zone| firewalls.body(zone).map(drop)))
            .await?
            .map_err(super::unavailable)?;
    }
    let message = body.message.or(message).unwrap_or_else(|| format!("rollback to revision {to}"));
    let action = Action::SetFirewallRules { owner, if_match, rules, zones };
    let done = writer.submit(action, Some(message), Pointers::None).await?;
    rules::answer_all(writer, done, owner).await
}
