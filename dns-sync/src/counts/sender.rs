//! Reports go to the control plane's API, with the PoP's credential.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use herald_core::Rtype;
use herald_wire::api;
use herald_wire::api::stats::{PeriodStart, StatsReport};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use serde::Serialize;
use steering::counts::{Counts, Label, Tally, Transport, rcode_name};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::store::Report;
use crate::config::{Config, SecretError};
use crate::session::{SessionError, tls_config};

/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Octets of an answer that are read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Where the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPlace {
    /// Its host: a name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it speaks TLS. In the clear only loopback is talked to.
    pub tls: bool,
}

impl ApiPlace {
    /// Reads `http://HOST:PORT` or `https://HOST[:PORT]`; none if it is neither.
    pub fn parse(url: &str) -> Option<ApiPlace> {
        let (tls, rest) = match url.split_once("://")? {
            ("https", rest) => (true, rest),
            ("http", rest) => (false, rest),
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let with_port = match rest.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !port.contains(']') => Some((host, port.parse().ok()?)),
            _ => None,
        };
        let (host, port) = with_port.unwrap_or((rest, if tls { 443 } else { 80 }));
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (!host.is_empty() && !host.contains('/')).then(|| ApiPlace { host: host.to_owned(), port, tls })
    }
}

/// Why reports aren't confirmed.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No session has told yet.
    #[error("it isn't known yet where the control plane's API is")]
    NoPlace,
    /// The credential would be sent in the clear.
    #[error("the API at {0} is in the clear and not on loopback: give api = \"https://HOST:PORT\"")]
    TlsNeeded(String),
    /// Nobody is there.
    #[error("the API can't be reached: {0}")]
    Io(#[from] io::Error),
    /// TLS as it is set up.
    #[error(transparent)]
    Tls(#[from] SessionError),
    /// The name for TLS.
    #[error("the API's host is no name: {0}")]
    BadName(#[from] InvalidDnsNameError),
    /// The credential.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// HTTP.
    #[error("the API didn't answer: {0}")]
    Http(String),
    /// It doesn't want it.
    #[error("the API refused it with {status}: {detail}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// Its words.
        detail: String,
    },
    /// The zones of these reports, by place in the request, aren't there.
    #[error("the API knows nothing of {} zones", .0.len())]
    UnknownZones(Vec<usize>),
}

/// Who sends.
pub struct Sender {
    config: Arc<Config>,
}

impl Sender {
    /// One with the PoP's credential.
    pub fn new(config: Arc<Config>) -> Sender {
        Sender { config }
    }

    /// Sends reports, and waits for their confirmation.
    pub(super) async fn post(&self, place: Option<ApiPlace>, reports: &[Report]) -> Result<(), PostError> {
        let items: Vec<StatsReport> = reports.iter().map(item).collect();
        self.send(place, "/sync/stats", &items).await
    }

    /// Sends a document to a route of the API, and waits until it is taken.
    pub(crate) async fn send(
        &self,
        place: Option<ApiPlace>,
        route: &str,
        document: &impl Serialize,
    ) -> Result<(), PostError> {
        let place = self.config.api.clone().or(place).ok_or(PostError::NoPlace)?;
        let body = serde_json::to_vec(document).map_err(|error| PostError::Http(error.to_string()))?;
        match tokio::time::timeout(REQUEST_TIME, self.send_to(&place, route, body)).await {
            Ok(done) => done,
            Err(_) => Err(PostError::Http(format!("nothing within {} s", REQUEST_TIME.as_secs()))),
        }
    }

    async fn send_to(&self, place: &ApiPlace, route: &str, body: Vec<u8>) -> Result<(), PostError> {
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
        stream.set_nodelay(true)?;
        let is_loopback = stream.peer_addr()?.ip().is_loopback();
        match (&self.config.tls_ca, place.tls) {
            (Some(ca), true) => {
                let name = self.config.tls_name.clone().unwrap_or_else(|| place.host.clone());
                let connector = tokio_rustls::TlsConnector::from(Arc::new(tls_config(ca)?));
                let stream = connector.connect(ServerName::try_from(name)?, stream).await?;
                self.exchange(place, stream, route, body).await
            }
            (_, false) if is_loopback => self.exchange(place, stream, route, body).await,
            _ => Err(PostError::TlsNeeded(place.host.clone())),
        }
    }

    async fn exchange<S>(
        &self,
        place: &ApiPlace,
        stream: S,
        route: &str,
        body: Vec<u8>,
    ) -> Result<(), PostError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let http = |error: hyper::Error| PostError::Http(error.to_string());
        let (mut requests, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let connection = tokio::spawn(connection);
        let host = match place.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", place.port),
            _ => format!("{}:{}", place.host, place.port),
        };
        let secret = self.config.secret()?;
        let request = Request::post(format!("{}{route}", api::PREFIX))
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", secret.expose()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| PostError::Http(error.to_string()))?;
        let answer = requests.send_request(request).await.map_err(http)?;
        let status = answer.status();
        let read = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        connection.abort();
        if status.is_success() {
            return Ok(());
        }
        let body = read.map(|body| body.to_bytes()).unwrap_or_default();
        let problem: Option<api::Problem> = serde_json::from_slice(&body).ok();
        let unknown = problem.as_ref().map(unknown_zones).unwrap_or_default();
        if !unknown.is_empty() {
            return Err(PostError::UnknownZones(unknown));
        }
        let detail = problem.map(|problem| problem.detail).unwrap_or_default();
        Err(PostError::Refused { status: status.as_u16(), detail })
    }
}

/// Which items of a request a refusal says are of zones that aren't there.
fn unknown_zones(problem: &api::Problem) -> Vec<usize> {
    let of = |pointer: &str| pointer.strip_prefix('/')?.strip_suffix("/zone_id")?.parse().ok();
    problem
        .errors
        .iter()
        .filter(|_| problem.kind.ends_with(":not_found"))
        .filter_map(|item| of(&item.pointer))
        .collect()
}

/// A report, as the API has it.
fn item(report: &Report) -> StatsReport {
    let Counts { queries, dropped, truncated, ipv6, by_type, by_rcode, by_transport, by_country, by_pool } =
        &report.counts;
    let pools = |pools: &Tally<Label>| {
        pools.iter().map(|(pool, count)| (pool.to_string(), count)).collect::<BTreeMap<_, _>>()
    };
    StatsReport {
        zone_id: report.zone.map(|zone| zone.to_string()),
        period_start: PeriodStart::Number(report.minute.saturating_mul(60)),
        sequence: report.sequence,
        query_count: *queries,
        nxdomain: report.counts.nxdomain(),
        dropped: *dropped,
        truncated: *truncated,
        ipv6: *ipv6,
        by_type: by_type.iter().map(|(rtype, count)| (type_name(*rtype), count)).collect(),
        by_rcode: by_rcode.iter().map(|(rcode, count)| (rcode_name(*rcode), count)).collect(),
        by_transport: by_transport
            .iter()
            .map(|(number, count)| {
                (
                    Transport::of(*number).map_or_else(|| number.to_string(), |known| known.name().into()),
                    count,
                )
            })
            .collect(),
        by_country: by_country
            .iter()
            .map(|(country, count)| (String::from_utf8_lossy(country).into_owned(), count))
            .collect(),
        by_pool: by_pool.iter().map(|(name, by)| (name.to_string(), pools(by))).collect(),
    }
}

fn type_name(rtype: u16) -> String {
    match rtype {
        0 => "NONE".into(),
        rtype => Rtype::from_int(rtype).to_string(),
    }
}
