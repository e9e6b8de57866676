//! `/nameserver-sets`: everybody sees them, operators define them.

mod list;
mod one;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::AppState;

/// The routes of sets of name servers.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list, list::create)).routes(routes!(
        one::get,
        one::put,
        one::delete
    ))
}
