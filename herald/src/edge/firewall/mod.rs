//! `/firewall` for operators, and `/tenants/{tenant}/firewall`.

mod past;
mod policy_zones;
mod read;
mod rules;
mod test;

use axum::response::Response;
use herald_core::firewall::Owner;
use herald_wire::api::firewall::{Firewall, FirewallHits};
use herald_wire::api::{Problem, Warning};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{Answer, AppState, Done, Preconditions, Reading, Writer, blocking};
use super::problem::{ApiError, Code};
use super::respond;

/// The routes of the firewall.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(get))
        .routes(routes!(test::test))
        .routes(routes!(rules::get_fleet, rules::set_fleet))
        .routes(routes!(rules::put_fleet, rules::delete_fleet))
        .routes(routes!(rules::get_tenant, rules::set_tenant))
        .routes(routes!(rules::put_tenant, rules::delete_tenant))
        .routes(routes!(past::of_fleet))
        .routes(routes!(past::of_tenant))
        .routes(routes!(past::rollback_fleet))
        .routes(routes!(past::rollback_tenant))
        .routes(routes!(policy_zones::put, policy_zones::delete))
}

/// The fleet's rules, the policy zones, how far they have got, and how often they were for queries.
#[utoipa::path(get, path = "/firewall", tag = "firewall", operation_id = "get_firewall", responses(
    (status = 200, body = Firewall, headers(("ETag" = String))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading) -> Result<Response, ApiError> {
    let caller = request.caller;
    caller.access().need_operator()?;
    let firewall = caller.state().firewall();
    let publisher = caller.publisher();
    let hits = publisher.firewall_counts().into_iter().map(|(pop, count)| FirewallHits {
        pop,
        owner: read::owner(count.owner),
        name: count.name,
        action: Some(count.action).filter(|action| !action.is_empty()),
        queries: count.queries,
    });
    let shown = Firewall {
        rules: read::shown(firewall.rules(Owner::Fleet)),
        policy_zones: firewall.zones().map(policy_zones::shown).collect(),
        files: publisher.firewall_files(),
        counts: hits.collect(),
    };
    // How it does isn't in the tag: it is for writes.
    Ok(rules::tagged(respond::Ok(shown), firewall.revision(Owner::Fleet)))
}

/// The revision that what is an owner's must still have when the command is decided.
fn if_match(preconditions: &Preconditions, writer: &Writer, owner: Owner) -> Result<Option<u64>, ApiError> {
    preconditions.revision(writer.state().firewall().revision(owner), format_args!("firewall"))
}

/// Answers a write with the tag of what is this owner's, once PoPs decide by it if they are waited for.
async fn answer<T: Serialize>(
    writer: &Writer,
    done: Done,
    owner: Owner,
    item: Option<T>,
    warnings: Vec<Warning>,
) -> Result<Answer<T>, ApiError> {
    let tag = done.state.firewall().revision(owner).to_string();
    let waits = writer.waits().filter(|_| done.revision.is_some());
    let answer = writer.answer_with(done, item, warnings).await?.tagged(Some(tag));
    let Some((wait, deadline)) = waits else { return Ok(answer) };
    // What PoPs get is made of the log a moment later: it is that which is waited for.
    let firewalls = writer.publisher().firewalls().clone();
    blocking(move || firewalls.make()).await?.map_err(unavailable)?;
    let in_sync = writer.publisher().wait_for_firewall(wait, deadline).await;
    Ok(if in_sync { answer } else { answer.late() })
}

fn unavailable(error: impl ToString) -> ApiError {
    ApiError::new(Code::Unavailable, error.to_string())
}
