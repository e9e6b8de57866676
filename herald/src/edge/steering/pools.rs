//! `/zones/{zone}/pools`

use axum::response::Response;
use herald_core::command::ZoneRef;
use herald_core::name::NameError;
use herald_core::steering::{self, Item};
use herald_core::{Name, RrKey, Rtype};
use herald_wire::api::steering::{Named, Pool};
use herald_wire::api::{Page, Problem, Written};

use super::held::{self, Held};
use super::list::SteeringListQuery;
use super::read::Reader;
use super::{AtQuery, show};
use crate::edge::gate::{Answer, Json, NoBody, Reading, WriteQuery, Writing};
use crate::edge::problem::ApiError;
use crate::edge::respond;

/// Pools of a zone, a page at a time.
#[utoipa::path(get, path = "/zones/{zone}/pools", tag = "steering", operation_id = "list_pools",
    params(("zone" = String, Path, description = "Id or unambiguous name."), SteeringListQuery),
    responses(
        (status = 200, body = Page<Named<Pool>>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    request: Reading<ZoneRef, SteeringListQuery>,
) -> Result<respond::Ok<Page<Named<Pool>>>, ApiError> {
    held::list(request).await
}

/// One pool.
#[utoipa::path(get, path = "/zones/{zone}/pools/{pool}", tag = "steering", operation_id = "get_pool",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("pool" = String, Path, description = "Its name."),
        AtQuery,
    ),
    responses(
        (status = 200, body = Named<Pool>, headers(("ETag" = String))),
        (status = 304, description = "As in If-None-Match."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(request: Reading<(ZoneRef, String), AtQuery>) -> Result<Response, ApiError> {
    held::get::<Pool>(request).await
}

/// The pool becomes this.
#[utoipa::path(put, path = "/zones/{zone}/pools/{pool}", tag = "steering", operation_id = "put_pool",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("pool" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The pool's ETag, or `*`: it is there."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it is not there."),
        WriteQuery,
    ),
    request_body = Pool,
    responses(
        (status = 200, body = Written<Named<Pool>>, headers(("ETag" = String))),
        (status = 201, body = Written<Named<Pool>>, description = "It was not there before.",
            headers(("Location" = String), ("ETag" = String))),
        (status = 202, body = Written<Named<Pool>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(request: Writing<(ZoneRef, String), Json<Pool>>) -> Result<Answer<Named<Pool>>, ApiError> {
    held::put(request).await
}

/// The pool is removed: not while a policy leads to it.
#[utoipa::path(delete, path = "/zones/{zone}/pools/{pool}", tag = "steering", operation_id = "delete_pool",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("pool" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The pool's ETag, or `*`: it is there."),
        WriteQuery,
    ),
    responses(
        (status = 200, body = Written<Named<Pool>>),
        (status = 202, body = Written<Named<Pool>>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<(ZoneRef, String), NoBody>) -> Result<Answer<Named<Pool>>, ApiError> {
    held::delete(request).await
}

impl Held for Pool {
    const RTYPE: Rtype = steering::POOL;
    const SEGMENT: &'static str = "pools";

    fn key(apex: &Name, name: &str) -> Result<RrKey, NameError> {
        steering::pool_key(apex, name)
    }

    fn read(&self, reader: &mut Reader<'_>) -> Option<Item> {
        reader.pool(self, "")
    }

    fn show(item: &Item) -> Option<Pool> {
        let Item::Pool(pool) = item else { return None };
        Some(show::pool(pool))
    }
}
