//! HTTP probes: one request, the redirects that the monitor follows, and what the last response says.

use std::time::Duration;

use bytes::Bytes;
use herald_core::monitor::{HttpCheck, TlsCheck};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::pace::{Good, Outcome};
use super::target::{Targets, connect};
use super::tls::Tls;

/// How much of a body is looked at.
const BODY_BYTES: usize = 64 * 1024;

/// Octets of a response's head.
const HEAD_BYTES: usize = 64 * 1024;

/// Where a request goes.
struct Place {
    target: String,
    port: u16,
    /// The Host header; the target if none.
    host: Option<String>,
    path: String,
    tls: Option<TlsCheck>,
}

/// Probes. What takes too long is ended by who awaits this; `within` is that time.
pub(super) async fn check(check: &HttpCheck, targets: &Targets, tls: &Tls, within: Duration) -> Outcome {
    let mut place = Place {
        target: check.target.clone(),
        port: check.port,
        host: check.host.clone(),
        path: check.path.clone(),
        tls: check.tls.clone(),
    };
    let mut certificate_ends_s = None;
    let mut redirects = 0;
    loop {
        let (response, ends_s) = match request(&place, check.head, targets, tls, within).await {
            Ok(done) => done,
            // Where the endpoint itself sends us is its own doing.
            Err(Outcome::Unable(why)) if redirects > 0 => {
                return Outcome::Bad(format!("it redirects to {}: {why}", place.target));
            }
            Err(outcome) => return outcome,
        };
        certificate_ends_s = certificate_ends_s.or(ends_s);
        let status = response.parts().0;
        if matches!(status, 301 | 302 | 303 | 307 | 308)
            && redirects < check.redirects
            && let Some(location) = response.parts().1
        {
            place = match place.redirected(&location) {
                Some(place) => place,
                None => return Outcome::Bad(format!("it redirects to `{}`", shortened(&location))),
            };
            redirects += 1;
            continue;
        }
        let (first, last) = check.status;
        if !(first..=last).contains(&status) {
            return Outcome::Bad(format!("status {status} instead of {first} to {last}"));
        }
        if let Some(wanted) = &check.body_contains
            && let Err(why) = response.find(wanted.as_bytes()).await
        {
            return Outcome::Bad(why);
        }
        return Outcome::Good(Good { cause: format!("status {status}"), certificate_ends_s });
    }
}

impl Place {
    /// Where a Location header leads from here; none if that can't be followed.
    fn redirected(&self, location: &str) -> Option<Place> {
        // A path is at the same endpoint, and asked as the same host.
        if !location.starts_with("//") && !location.contains("://") {
            let path = if location.starts_with('/') {
                location.to_owned()
            } else {
                let folder = self.path.split('?').next().and_then(|path| path.rsplit_once('/'));
                format!("{}/{location}", folder.map_or("", |(folder, _)| folder))
            };
            let path = path.split('#').next().unwrap_or_default().to_owned();
            let Place { target, port, host, tls, .. } = self;
            return Some(Place {
                target: target.clone(),
                port: *port,
                host: host.clone(),
                path,
                tls: tls.clone(),
            });
        }
        let is_tls = self.tls.is_some();
        let absolute = match location.strip_prefix("//") {
            Some(rest) => format!("{}://{rest}", if is_tls { "https" } else { "http" }),
            None => location.to_owned(),
        };
        let uri: Uri = absolute.split('#').next()?.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri.host()?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        // The endpoint is what is probed, not what its public name leads to.
        let is_same = self.host.as_deref().unwrap_or(&self.target).eq_ignore_ascii_case(host);
        let tls = is_tls.then(|| match &self.tls {
            Some(tls) if is_same => tls.clone(),
            Some(tls) => TlsCheck { sni: None, ..tls.clone() },
            None => TlsCheck::default(),
        });
        Some(if is_same {
            Place { target: self.target.clone(), port, host: self.host.clone(), path, tls }
        } else {
            Place { target: host.to_owned(), port, host: None, path, tls }
        })
    }

    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or(&self.target)
    }
}

/// A response whose body is still to come, and who drives its connection.
struct Open {
    response: Response<Incoming>,
    _driver: Driver,
}

/// The connection ends with it.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Open {
    /// Its status, and where it redirects to.
    fn parts(&self) -> (u16, Option<String>) {
        let location = self.response.headers().get(LOCATION);
        let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
        (self.response.status().as_u16(), location)
    }

    /// Looks for something at the beginning of the body.
    async fn find(mut self, wanted: &[u8]) -> Result<(), String> {
        let mut read: Vec<u8> = Vec::new();
        while read.len() < BODY_BYTES {
            let Some(frame) = self.response.body_mut().frame().await else { break };
            let frame = frame.map_err(|error| format!("the body breaks off: {error}"))?;
            let Some(data) = frame.data_ref() else { continue };
            // What the end of what was there may begin is looked at again.
            let from = read.len().saturating_sub(wanted.len());
            read.extend_from_slice(data.get(..data.len().min(BODY_BYTES - read.len())).unwrap_or_default());
            if contains(read.get(from..).unwrap_or_default(), wanted) {
                return Ok(());
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let text = shortened(&String::from_utf8_lossy(wanted));
        Err(format!("`{text}` is not in the first {} bytes of the body", read.len()))
    }
}

fn contains(octets: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || octets.windows(wanted.len()).any(|window| window == wanted)
}

async fn request(
    place: &Place,
    is_head: bool,
    targets: &Targets,
    tls: &Tls,
    within: Duration,
) -> Result<(Open, Option<u64>), Outcome> {
    let addresses = targets.addresses(&place.target, place.port).await?;
    let stream = connect(&addresses, within).await?;
    match &place.tls {
        None => Ok((send(place, is_head, stream).await?, None)),
        Some(check) => {
            let (stream, ends_s) = tls.open(stream, check, place.host()).await?;
            Ok((send(place, is_head, stream).await?, ends_s))
        }
    }
}

async fn send<S>(place: &Place, is_head: bool, stream: S) -> Result<Open, Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let default_port = if place.tls.is_some() { 443 } else { 80 };
    let host = match place.host() {
        host if place.host.is_some() || place.port == default_port => host.to_owned(),
        host => format!("{host}:{}", place.port),
    };
    let request = Request::builder()
        .method(if is_head { Method::HEAD } else { Method::GET })
        .uri(&place.path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("koder-herald/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Outcome::Unable(format!("such a request can't be sent: {error}")))?;
    let bad = |error: hyper::Error| Outcome::Bad(format!("HTTP: {error}"));
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await.map_err(bad)?;
    let driver = Driver(tokio::spawn(async move {
        // Whoever reads the response is told of an error, too.
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(bad)?;
    Ok(Open { response, _driver: driver })
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
