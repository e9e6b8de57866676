//! `/zones/{zone}/views`

use axum::response::Response;
use herald_core::command::ZoneRef;
use herald_core::name::NameError;
use herald_core::steering::{self, Item};
use herald_core::{Name, RrKey, Rtype};
use herald_wire::api::steering::{Named, View};
use herald_wire::api::{Page, Problem, Written};

use super::held::{self, Held};
use super::list::SteeringListQuery;
use super::read::Reader;
use super::{AtQuery, show};
use crate::edge::gate::{Answer, Json, NoBody, Reading, WriteQuery, Writing};
use crate::edge::problem::ApiError;
use crate::edge::respond;

/// Views of a zone, a page at a time.
#[utoipa::path(get, path = "/zones/{zone}/views", tag = "steering", operation_id = "list_views",
    params(("zone" = String, Path, description = "Id or unambiguous name."), SteeringListQuery),
    responses(
        (status = 200, body = Page<Named<View>>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    request: Reading<ZoneRef, SteeringListQuery>,
) -> Result<respond::Ok<Page<Named<View>>>, ApiError> {
    held::list(request).await
}

/// One view.
#[utoipa::path(get, path = "/zones/{zone}/views/{view}", tag = "steering", operation_id = "get_view",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "Its name."),
        AtQuery,
    ),
    responses(
        (status = 200, body = Named<View>, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<(ZoneRef, String), AtQuery>) -> Result<Response, ApiError> {
    held::get::<View>(request).await
}

/// The view becomes this.
#[utoipa::path(put, path = "/zones/{zone}/views/{view}", tag = "steering", operation_id = "put_view",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The view's ETag, or `*`: it is there."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it is not there."),
        WriteQuery,
    ),
    request_body = View,
    responses(
        (status = 200, body = Written<Named<View>>, headers(("ETag" = String))),
        (status = 201, body = Written<Named<View>>, description = "It was not there before.",
            headers(("Location" = String), ("ETag" = String))),
        (status = 202, body = Written<Named<View>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<(ZoneRef, String), Json<View>>) -> Result<Answer<Named<View>>, ApiError> {
    held::put(request).await
}

/// The view is removed: not while a policy asks for it or it has anything.
#[utoipa::path(delete, path = "/zones/{zone}/views/{view}", tag = "steering", operation_id = "delete_view",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("view" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The view's ETag, or `*`: it is there."),
        WriteQuery,
    ),
    responses(
        (status = 200, body = Written<Named<View>>),
        (status = 202, body = Written<Named<View>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<(ZoneRef, String), NoBody>) -> Result<Answer<Named<View>>, ApiError> {
    held::delete(request).await
}

impl Held for View {
    const RTYPE: Rtype = steering::VIEW;
    const SEGMENT: &'static str = "views";

    fn key(apex: &Name, name: &str) -> Result<RrKey, NameError> {
        steering::view_key(apex, name)
    }

    fn read(&self, reader: &mut Reader<'_>) -> Option<Item> {
        reader.view(self, "")
    }

    fn show(item: &Item) -> Option<View> {
        let Item::View(view) = item else { return None };
        Some(show::view(view))
    }
}
