//! `/pops`: for operators.

mod list;
mod one;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::AppState;

/// The routes of PoPs.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list, list::create)).routes(routes!(
        one::get,
        one::update,
        one::delete
    ))
}
