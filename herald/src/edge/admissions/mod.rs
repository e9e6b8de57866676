//! `POST /admissions`: the holder of a name lets another tenant's pending zone in.

use herald_core::Name;
use herald_core::command::Action;
use herald_wire::api::{self, Admission, Problem, Written};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{Answer, AppState, Json, WriteQuery, Writing};
use super::problem::{ApiError, Pointers};

/// The routes of admissions.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create))
}

/// The holder of a name lets another tenant's pending zone in, with the code that its tenant was shown.
///
/// The answer has the receipt alone: the zone is another's.
#[utoipa::path(post, path = "/admissions", tag = "zones", operation_id = "create_admission",
    params(WriteQuery), request_body = Admission, responses(
    (status = 200, body = Written<api::Zone>),
    (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(request: Writing<(), Json<Admission>>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { writer, body: Json(body), .. } = request;
    let name = Name::parse(&body.name).map_err(|e| ApiError::invalid_at("/name", e.to_string()))?;
    let action = Action::AdmitZone { name, code: body.admission_code };
    let done = writer.submit(action, body.message, Pointers::None).await?;
    writer.answer(done, None).await
}
