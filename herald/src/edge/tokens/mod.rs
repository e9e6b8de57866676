//! `/tokens`: operators see all, tenants their own.

mod list;
mod one;
mod scope;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::AppState;

/// The routes of tokens.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list, list::create)).routes(routes!(one::get, one::revoke))
}
