//! `/changes`: what was done, and receipts.

mod list;

use herald_core::rejection::Rejection;
use herald_wire::api::{Change, Problem, Wait};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{AppState, Reading, WriteOptions};
use super::names::shortened;
use super::problem::ApiError;
use super::{present, respond};

/// The routes of changes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list)).routes(routes!(get))
}

/// Whether to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ChangeQuery {
    /// Answer when PoPs confirmed the change: all that were enabled and not drained, or a majority of them.
    #[param(inline)]
    wait: Option<Wait>,
    /// For how long to wait, in ms: 5000 unless given, at most 60000.
    timeout_ms: Option<u64>,
}

/// The receipt of a change: by PoP, whether it is in sync and how long that took.
///
/// Past the deadline of a wait it is answered as it stands.
#[utoipa::path(get, path = "/changes/{id}", tag = "changes", operation_id = "get_change",
    params(("id" = String, Path, description = "The change's id."), ChangeQuery),
    responses(
        (status = 200, body = Change),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<String, ChangeQuery>) -> Result<respond::Ok<Change>, ApiError> {
    let Reading { caller, path: id, query, .. } = request;
    let missing = || ApiError::from(Rejection::not_found(format_args!("change {}", shortened(&id))));
    let options = WriteOptions::new(false, query.wait, query.timeout_ms)?;
    let revision = present::change_revision(&id).ok_or_else(missing)?;
    let receipt = caller.publisher().receipt(revision).await;
    let mut receipt = receipt.filter(|receipt| present::sees_change(&caller, receipt)).ok_or_else(missing)?;
    if options.wait.is_some() {
        caller.wait(revision, &options).await;
        receipt = caller.publisher().receipt(revision).await.ok_or_else(missing)?;
    }
    Ok(respond::Ok(present::change(&caller, receipt)))
}
