//! `GET /zones/{zone}/export`

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use herald_core::RrKey;
use herald_core::command::ZoneRef;
use herald_core::rdata::Soa;
use herald_core::steering::is_steering_type;
use herald_core::zone::Zone;
use herald_core::zonefile::write_zone_file;
use herald_wire::api::Problem;
use hyper::body::Frame;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::edge::at;
use crate::edge::gate::Reading;
use crate::edge::problem::ApiError;
use crate::edge::respond;

/// RRsets in a part of a zone file: some ten to a hundred KiB, written in well under a millisecond or two.
const PART_RRSETS: usize = 1_000;

/// As of when.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// As it was at this revision (`4711`, `c4711`) or time (RFC 3339), instead of as it is.
    at: Option<String>,
}

/// The records of the zone as a zone file, as it is or was.
#[utoipa::path(get, path = "/zones/{zone}/export", tag = "zones", operation_id = "export_zone",
    params(("zone" = String, Path, description = "Id or unambiguous name."), ExportQuery),
    responses(
        (status = 200, body = String, content_type = "text/dns", headers(("ETag" = String))),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn export(request: Reading<ZoneRef, ExportQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path, query, preconditions } = request;
    caller.need_whole_zones()?;
    let zone = at::zone(&caller, &path, query.at.as_deref()).await?;
    let etag = zone.revision.to_string();
    let document = || {
        let mut response = Body::new(ZoneFileParts { zone, place: Place::Begin }).into_response();
        let content_type = HeaderValue::from_static("text/dns; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    };
    Ok(respond::tagged_json(&preconditions, &etag, document))
}

/// A zone file, written as fast as the client takes it: the zone is a value that doesn't move, so that nothing is held
/// up meanwhile and no more than a part is in memory.
struct ZoneFileParts {
    zone: Arc<Zone>,
    place: Place,
}

/// How far it is written.
enum Place {
    Begin,
    After(RrKey),
    End,
}

impl ZoneFileParts {
    fn next(&mut self) -> Option<String> {
        let zone = &self.zone;
        let (after, soa) = match &self.place {
            Place::Begin => {
                let rdatas = zone.soa_rrset().rdatas;
                (None, rdatas.iter().next().and_then(|rdata| Soa::from_rdata(rdata).ok()))
            }
            Place::After(key) => (Some(key), None),
            Place::End => return None,
        };
        let rrsets: Vec<_> = zone.content.after(after).take(PART_RRSETS).collect();
        let mut text = if after.is_none() { steering_left_out(zone) } else { String::new() };
        let records = rrsets.iter().copied().filter(|(key, _)| !is_steering_type(key.rtype));
        let soa = soa.as_ref().map(|soa| (zone.soa.ttl, soa));
        write_zone_file(&zone.name, soa, records, &mut text).expect("a String takes everything");
        if after.is_some() {
            // Every part would begin with the same $ORIGIN.
            text.drain(..=text.find('\n').unwrap_or(0));
        }
        let next = match rrsets.last() {
            Some((last, _)) if rrsets.len() == PART_RRSETS => Place::After((*last).clone()),
            _ => Place::End,
        };
        self.place = next;
        Some(text)
    }
}

/// What is said of steering, which isn't in a zone file.
fn steering_left_out(zone: &Zone) -> String {
    match zone.content.steering() {
        None => String::new(),
        Some(tally) => format!(
            "; {} of steering are not in this file: see /zones/{}/steering\n",
            match tally.rrset_count() {
                1 => "1 RRset".into(),
                count => format!("{count} RRsets"),
            },
            zone.id
        ),
    }
}

impl hyper::body::Body for ZoneFileParts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|part| Ok(Frame::data(Bytes::from(part)))))
    }
}
