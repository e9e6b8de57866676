//! `/zones/{zone}/rrsets`: RRsets, one by one and in batches.

mod batch;
mod list;
mod one;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::AppState;

/// The routes of RRsets.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list, batch::patch)).routes(routes!(
        one::get,
        one::put,
        one::delete
    ))
}
