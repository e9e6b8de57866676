//! Bodies: within a size and a time, of the right type, and read as what they are to be.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use herald_core::Name;
use herald_core::zonefile::{ZoneFile, ZoneFileErrors, ZoneFileReader};
use herald_wire::api::ZoneCreate;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::encoding::plain;
use super::room::{Room, Roomed};
use super::{Limits, blocking};
use crate::edge::problem::{ApiError, Code, item};
use crate::firewall::POLICY_ZONE_BYTES_MAX;
use crate::geoip::DATABASE_BYTES_MAX;

/// The body of a request.
pub trait Body: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// Wrong type, too large, too slow, malformed; no room.
    fn read(
        headers: &HeaderMap,
        body: axum::body::Body,
        limits: &Limits,
        room: &Arc<Room>,
    ) -> impl Future<Output = Result<Self, ApiError>> + Send;
}

/// Nothing is wanted, and what comes is not looked at.
pub struct NoBody;

impl Body for NoBody {
    async fn read(_: &HeaderMap, _: axum::body::Body, _: &Limits, _: &Arc<Room>) -> Result<NoBody, ApiError> {
        Ok(NoBody)
    }
}

/// A JSON document.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + MayBeLarge> Body for Json<T> {
    async fn read(
        headers: &HeaderMap,
        body: axum::body::Body,
        limits: &Limits,
        room: &Arc<Room>,
    ) -> Result<Json<T>, ApiError> {
        need_type(headers, "application/json")?;
        let (bytes_max, time) = if T::MAY_BE_LARGE {
            (limits.zone_file_bytes.min(ZONE_FILE_IN_JSON_BYTES_MAX), limits.zone_file_time)
        } else {
            (limits.body_bytes, limits.body_time)
        };
        let body = Roomed { body: plain(headers, body, bytes_max)?, room: Arc::clone(room) };
        let bytes = collect(body, time).await?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Json(value)),
            Err(_) => Err(json_error::<T>(&bytes)),
        }
    }
}

/// Whether a document may hold a zone file.
pub trait MayBeLarge {
    /// It may.
    const MAY_BE_LARGE: bool = false;
}

impl MayBeLarge for ZoneCreate {
    const MAY_BE_LARGE: bool = true;
}

impl MayBeLarge for herald_wire::api::firewall::FirewallRules {
    const MAY_BE_LARGE: bool = true;
}

impl MayBeLarge for herald_wire::api::steering::SteeringDocument {
    const MAY_BE_LARGE: bool = true;
}

impl MayBeLarge for herald_wire::api::stats::StatsReports {}

macro_rules! small {
    ($($($body:ident)::+),*) => {
        $(impl MayBeLarge for herald_wire::api::$($body)::+ {})*
    };
}

small!(
    Admission,
    BrakesPatch,
    channels::ChannelInput,
    firewall::FirewallRule,
    MultiZoneBatch,
    NameserverSetInput,
    PopCreate,
    PopPatch,
    query_log::QueryLogBatch,
    query_log::QueryLogPut,
    Release,
    Rollback,
    RrsetBatch,
    RrsetPut,
    steering::OverlayPut,
    steering::PolicyPut,
    steering::Pool,
    steering::SteeringPatch,
    steering::SteeringSettings,
    steering::View,
    TenantCreate,
    TenantPatch,
    TokenCreate,
    ZonePatch,
    monitors::MonitorInput,
    monitors::ProbeRules,
    channels::ChannelConfirmation
);

/// A zone file (`text/dns`, RFC 4027) that is still on its way: it is read as it arrives, and never whole in memory.
pub struct ZoneFileStream {
    body: Roomed,
    limits: Limits,
}

impl Body for ZoneFileStream {
    async fn read(
        headers: &HeaderMap,
        body: axum::body::Body,
        limits: &Limits,
        room: &Arc<Room>,
    ) -> Result<ZoneFileStream, ApiError> {
        need_type(headers, "text/dns")?;
        // What is read of it is about as large as its text.
        let body = Roomed { body: plain(headers, body, limits.zone_file_bytes)?, room: Arc::clone(room) };
        Ok(ZoneFileStream { body, limits: *limits })
    }
}

impl ZoneFileStream {
    /// Reads it as the file of a zone, on a thread where that holds nobody up.
    ///
    /// # Errors
    /// Too large, too slow, cut off. What is wrong with the file comes with it.
    pub async fn read_as(self, zone: &Name) -> Result<Result<ZoneFile, ZoneFileErrors>, ApiError> {
        let Limits { import_records, stall_time, .. } = self.limits;
        let mut reader = ZoneFileReader::new(zone, None).with_records_max(import_records);
        let (parts, mut arriving) = mpsc::channel::<Bytes>(PARTS_AHEAD);
        let (whole, is_whole) = oneshot::channel::<()>();
        let reading = blocking(move || {
            while let Some(part) = arriving.blocking_recv() {
                reader.read(&part);
            }
            // Of what was cut off nobody wants to know what it was.
            is_whole.blocking_recv().is_ok().then(|| reader.finish())
        });
        let sending = async {
            let mut body = self.body;
            let (mut bytes, mut deadline) = (0, Instant::now() + stall_time);
            loop {
                let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
                    Ok(None) => break,
                    Ok(Some(frame)) => frame?,
                    Err(_) => return Err(too_slow(stall_time)),
                };
                let Ok(part) = frame.into_data() else { continue };
                bytes += part.len();
                // It is the client's progress that is measured, and not ours.
                let waiting = Instant::now();
                _ = parts.send(part).await;
                deadline += waiting.elapsed();
                if bytes >= STALL_BYTES {
                    (bytes, deadline) = (0, Instant::now() + stall_time);
                }
            }
            drop(parts);
            _ = whole.send(());
            Ok(())
        };
        let (sent, read) = tokio::join!(sending, reading);
        sent?;
        read?.ok_or_else(|| ApiError::new(Code::Unavailable, "the control plane is stopping"))
    }
}

/// A zone file (`text/dns`) that is read as a whole.
pub struct WholeZoneFile {
    body: Roomed,
    limits: Limits,
}

impl Body for WholeZoneFile {
    async fn read(
        headers: &HeaderMap,
        body: axum::body::Body,
        limits: &Limits,
        room: &Arc<Room>,
    ) -> Result<WholeZoneFile, ApiError> {
        need_type(headers, "text/dns")?;
        let body = Roomed { body: plain(headers, body, POLICY_ZONE_BYTES_MAX)?, room: Arc::clone(room) };
        Ok(WholeZoneFile { body, limits: *limits })
    }
}

impl WholeZoneFile {
    /// All of it.
    ///
    /// # Errors
    /// Too large, too slow, cut off.
    pub async fn collect(self) -> Result<Bytes, ApiError> {
        collect(self.body, self.limits.zone_file_time).await
    }
}

/// A database that is still on its way.
pub struct GeoipFile {
    body: Roomed,
    limits: Limits,
}

impl Body for GeoipFile {
    async fn read(
        headers: &HeaderMap,
        body: axum::body::Body,
        limits: &Limits,
        room: &Arc<Room>,
    ) -> Result<GeoipFile, ApiError> {
        need_type(headers, "application/octet-stream")?;
        let body = Roomed { body: plain(headers, body, DATABASE_BYTES_MAX)?, room: Arc::clone(room) };
        Ok(GeoipFile { body, limits: *limits })
    }
}

impl GeoipFile {
    /// All of it.
    ///
    /// # Errors
    /// Too large, too slow, cut off.
    pub async fn collect(self) -> Result<Bytes, ApiError> {
        collect(self.body, self.limits.zone_file_time).await
    }
}

/// What a JSON body with a zone file in it may have at most, as it is in memory as a whole.
const ZONE_FILE_IN_JSON_BYTES_MAX: usize = 64 * 1024 * 1024;

/// So many parts of a body wait for the one who reads them.
const PARTS_AHEAD: usize = 4;

/// So many octets have to arrive in a stall time for a body to be worth waiting for.
const STALL_BYTES: usize = 64 * 1024;

fn need_type(headers: &HeaderMap, wanted: &str) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let essence = given.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(wanted.as_bytes()) {
        return Ok(());
    }
    Err(ApiError::new(
        Code::UnsupportedMediaType,
        format!("the body is to be of the type `{wanted}`: say so with `Content-Type: {wanted}`"),
    ))
}

fn too_slow(stall_time: Duration) -> ApiError {
    let (bytes, seconds) = (STALL_BYTES, stall_time.as_secs());
    ApiError::new(Code::Timeout, format!("of the body no {bytes} bytes arrived within {seconds} s"))
}

async fn collect(body: Roomed, time: Duration) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(time, body.collect()).await {
        Ok(collected) => Ok(collected?.to_bytes()),
        Err(_) => {
            Err(ApiError::new(Code::Timeout, format!("the body did not arrive within {} s", time.as_secs())))
        }
    }
}

/// What is wrong with a document, and where: it is read a second time for that, as few are wrong.
fn json_error<T: DeserializeOwned>(bytes: &[u8]) -> ApiError {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) => error,
        Ok(_) => {
            let detail = json.end().map_or_else(|e| e.to_string(), |()| "the document is not JSON".into());
            return ApiError::malformed(format!("the body is not one JSON document: {detail}"));
        }
    };
    let detail = error.inner().to_string();
    if error.inner().is_data() {
        return ApiError::malformed("").with_items(vec![item(pointer(error.path()), detail)]);
    }
    ApiError::malformed(format!("the body is not JSON: {detail}"))
}

/// A path as a JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}
