//! `/zones`: zones, their proofs, their zone files.

mod check;
pub(super) mod content;
pub(super) mod create;
mod diff;
mod export;
mod history;
mod import;
mod list;
mod one;
mod proof;
mod rollback;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use one::{answer_zone, answer_zone_with};

use super::gate::AppState;

/// The routes of zones.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(one::get, one::update, one::delete))
        .routes(routes!(proof::verify))
        .routes(routes!(proof::admit))
        .routes(routes!(check::check))
        .routes(routes!(import::import))
        .routes(routes!(export::export))
        .routes(routes!(history::list))
        .routes(routes!(diff::diff))
        .routes(routes!(rollback::rollback))
        .routes(routes!(rollback::restore))
}
