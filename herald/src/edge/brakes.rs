//! `/brakes`: how much may go before somebody is asked, and the word that it was meant. For operators.

use herald_core::brakes;
use herald_core::command::Action;
use herald_wire::api::{Brakes, BrakesPatch, Pop, Problem, Release, Written};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{Answer, AppState, Json, Reading, WriteQuery, Writing};
use super::problem::{ApiError, Pointers};
use super::{lookup, present, respond};

/// The routes of the emptiness brake.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get, update)).routes(routes!(release_all)).routes(routes!(release))
}

/// How much may go before somebody is asked.
#[utoipa::path(get, path = "/brakes", tag = "brakes", operation_id = "get_brakes", responses(
    (status = 200, body = Brakes),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading) -> Result<respond::Ok<Brakes>, ApiError> {
    request.caller.access().need_operator()?;
    Ok(respond::Ok(present::brakes(request.caller.state().brakes())))
}

/// Set how much may go before somebody is asked.
///
/// What is held back already stays so until it is released.
#[utoipa::path(patch, path = "/brakes", tag = "brakes", operation_id = "update_brakes",
    params(WriteQuery), request_body = BrakesPatch, responses(
    (status = 200, body = Written<Brakes>),
    (status = 202, body = Written<Brakes>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn update(request: Writing<(), Json<BrakesPatch>>) -> Result<Answer<Brakes>, ApiError> {
    let Writing { writer, body: Json(patch), .. } = request;
    writer.access().need_operator()?;
    let now = *writer.state().brakes();
    let brakes = brakes::Brakes {
        zone_percent: patch.zone_percent.unwrap_or(now.zone_percent),
        zone_rrsets_min: patch.zone_rrsets_min.unwrap_or(now.zone_rrsets_min),
        pop_percent: patch.pop_percent.unwrap_or(now.pop_percent),
        pop_zones_min: patch.pop_zones_min.unwrap_or(now.pop_zones_min),
    };
    let done = writer.submit(Action::SetBrakes(brakes), patch.message, Pointers::None).await?;
    let item = present::brakes(done.state.brakes());
    writer.answer(done, Some(item)).await
}

/// Let go what the emptiness brake holds back from all PoPs.
#[utoipa::path(post, path = "/brakes/release", tag = "brakes", operation_id = "release_pops",
    params(WriteQuery), request_body = Release, responses(
    (status = 200, body = Written<Brakes>),
    (status = 202, body = Written<Brakes>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn release_all(request: Writing<(), Json<Release>>) -> Result<Answer<Brakes>, ApiError> {
    let Writing { writer, body: Json(release), .. } = request;
    writer.access().need_operator()?;
    let action = Action::ReleasePops { pop: None, revision: release.revision };
    let done = writer.submit(action, release.message, Pointers::None).await?;
    let item = present::brakes(done.state.brakes());
    writer.answer(done, Some(item)).await
}

/// Let go what the emptiness brake holds back from a PoP.
///
/// What would be lost after the revision is judged anew.
#[utoipa::path(post, path = "/pops/{pop}/release", tag = "pops", operation_id = "release_pop",
    params(("pop" = String, Path, description = "Id or name."), WriteQuery),
    request_body = Release, responses(
    (status = 200, body = Written<Pop>),
    (status = 202, body = Written<Pop>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn release(request: Writing<String, Json<Release>>) -> Result<Answer<Pop>, ApiError> {
    let Writing { writer, path, body: Json(release), .. } = request;
    writer.access().need_operator()?;
    let pop = lookup::pop(writer.state(), &path)?.id;
    let action = Action::ReleasePops { pop: Some(pop), revision: release.revision };
    let done = writer.submit(action, release.message, Pointers::None).await?;
    let item = done.state.pop(pop).map(|pop| present::pop(writer.publisher(), pop));
    writer.answer(done, item).await
}
