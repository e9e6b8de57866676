//! The API's client: blocking, typed, one method per route.

mod error;
mod firewall;
mod path;
mod query;
mod routes;
mod server;
mod steering;

use std::io::{self, Read, Write};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use herald_wire::api::{PREFIX, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::config::AutoHeaderValue;
use ureq::http::{Method, Request, Response, StatusCode, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

pub use error::{ClientError, SetupError};
pub use firewall::PolicyZoneOptions;
pub use query::{
    ChangeQuery, ExplainQuery, ImportOptions, PageQuery, QueryLogQuery, RrsetQuery, StatsQuery, WaitFor,
    WriteOptions, ZoneQuery,
};
pub use server::ServerUrl;

use crate::secret::Secret;
use query::Query;

/// How long setting up a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take that carries a whole zone, either way.
const BULK_TIMEOUT: Duration = Duration::from_secs(600);

/// How often a write is sent whose answer is lost, and after what pause, which grows.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(200);

/// A server that asks for more patience than this is left alone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is read into memory.
const ANSWER_BYTES_MAX: u64 = 4 << 30;

/// So much of an answer is copied at once.
const COPIED_BYTES: usize = 64 * 1024;

/// How to connect.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientOptions {
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a request may take, what it waits for PoPs not counted. Imports and exports get ten minutes.
    pub timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions { ca_file: None, timeout: Duration::from_secs(30) }
    }
}

/// A client of one server with one token. Clones share its connections, which are kept alive.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    server: ServerUrl,
    token: Option<Secret>,
    timeout: Duration,
}

/// A successful answer: what it means and what it said.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// The HTTP status. A write that waits has 202 when the deadline passed first.
    pub status: u16,
    /// The `ETag`, if there is one.
    pub etag: Option<String>,
    /// The body as it came.
    pub text: String,
    /// The body's meaning.
    pub value: T,
}

impl<T> Deref for Answer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Answer<T> {
    /// Whether this is a 202: accepted, but a wait's deadline passed before the PoPs confirmed it.
    pub fn is_overdue(&self) -> bool {
        self.status == StatusCode::ACCEPTED.as_u16()
    }
}

impl Client {
    /// A client of `server`. Nothing is sent yet.
    pub fn new(
        server: &ServerUrl,
        token: Option<Secret>,
        options: &ClientOptions,
    ) -> Result<Client, SetupError> {
        if token.as_ref().is_some_and(|token| !is_sendable(token)) {
            return Err(SetupError::Token);
        }
        let roots = match &options.ca_file {
            Some(path) => read_authorities(path)?,
            None => RootCerts::PlatformVerifier,
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // The token is meant for this server and no other.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            // Asked for where it pays.
            .accept_encoding(AutoHeaderValue::None)
            .user_agent(concat!("koder/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        if server.is_loopback() {
            config = config.proxy(None);
        }
        Ok(Client {
            agent: config.build().new_agent(),
            server: server.clone(),
            token,
            timeout: options.timeout,
        })
    }

    /// The server it talks to.
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// A call of a route under [`PREFIX`].
    fn call(&self, method: Method, segments: &[&str]) -> Call<'_> {
        self.call_outside(method, format!("{PREFIX}{}", path::join(segments)))
    }

    /// A call of a path outside the API's base.
    fn call_outside(&self, method: Method, path: String) -> Call<'_> {
        Call {
            client: self,
            method,
            path,
            query: Query::default(),
            if_match: None,
            key: None,
            body: Content::Nothing,
            is_long: false,
            timeout: self.timeout,
        }
    }
}

/// A request in the making.
struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    query: Query,
    if_match: Option<String>,
    /// Names a write, so that it can be repeated when its answer was lost.
    key: Option<String>,
    body: Content<'a>,
    /// Whether the answer may be long, so that it is to come compressed.
    is_long: bool,
    timeout: Duration,
}

/// What a request carries.
enum Content<'a> {
    Nothing,
    /// Content type and content. Present, if empty, for every method that usually has a body.
    Whole(Option<&'static str>, Vec<u8>),
    /// A file that is read while it is sent.
    File(FileUpload<'a>),
}

/// The content type of zone files (RFC 4027).
pub const ZONE_FILE_TYPE: &str = "text/dns";

/// A file on its way to the server.
pub struct FileUpload<'a> {
    /// The content, perhaps compressed.
    pub content: &'a mut dyn Read,
    /// What it is.
    pub content_type: &'static str,
    /// How it is compressed, as `Content-Encoding` says it.
    pub encoding: Option<&'static str>,
}

impl<'a> Call<'a> {
    fn query(mut self, query: Query) -> Self {
        self.query.append(query);
        self
    }

    fn json(mut self, body: &impl Serialize) -> Self {
        let text = serde_json::to_vec(body).expect("the API's types have string keys only");
        self.body = Content::Whole(Some("application/json"), text);
        self
    }

    fn file(mut self, upload: FileUpload<'a>) -> Self {
        self.body = Content::File(upload);
        self.bulk()
    }

    fn empty_body(mut self) -> Self {
        self.body = Content::Whole(None, Vec::new());
        self
    }

    /// The answer is asked for compressed, unless it comes from this machine.
    fn long_answer(mut self) -> Self {
        self.is_long = !self.client.server.is_loopback();
        self
    }

    fn bulk(mut self) -> Self {
        self.timeout = self.timeout.max(BULK_TIMEOUT);
        self
    }

    fn write(mut self, options: &WriteOptions) -> Self {
        self.if_match = options.if_match.as_deref().map(query::entity_tag);
        self.key = draw_key();
        if let Some(wait) = &options.wait {
            self.timeout += wait.timeout;
        }
        self.query(options.query())
    }

    fn wait(mut self, wait: Option<&WaitFor>) -> Self {
        if let Some(wait) = wait {
            self.timeout += wait.timeout;
            self.query.append(wait.query());
        }
        self
    }

    /// Sends it; the answer's body is JSON.
    fn send<T: DeserializeOwned>(self) -> Result<Answer<T>, ClientError> {
        let answer = self.send_for_text()?;
        let value = serde_json::from_str(&answer.text)
            .map_err(|error| ClientError::Malformed { status: answer.status, detail: error.to_string() })?;
        Ok(Answer { status: answer.status, etag: answer.etag, text: answer.text, value })
    }

    /// Sends it; the answer's body is text.
    fn send_for_text(mut self) -> Result<Answer<()>, ClientError> {
        let (server, method) = (&self.client.server.clone(), &self.method.clone());
        let transport = |source| ClientError::transport(server, method, source);
        let (response, body) = self.deliver()?;
        let text = read_text(body).map_err(transport)?;
        let status = response.status();
        if status.is_success() {
            let etag = header_text(&response, header::ETAG);
            return Ok(Answer { status: status.as_u16(), etag, text, value: () });
        }
        Err(refusal(&response, text))
    }

    /// Sends it; the answer's body is copied to `out` as it comes. What `out` says is the inner result.
    fn send_to(mut self, out: &mut dyn Write) -> Result<io::Result<u64>, ClientError> {
        let (server, method) = (&self.client.server.clone(), &self.method.clone());
        let transport = |source| ClientError::transport(server, method, source);
        let (response, body) = self.deliver()?;
        if !response.status().is_success() {
            return Err(refusal(&response, read_text(body).map_err(transport)?));
        }
        let mut body = body.into_with_config().limit(ANSWER_BYTES_MAX).reader();
        let (mut part, mut bytes) = (vec![0; COPIED_BYTES], 0);
        loop {
            let length = body.read(&mut part).map_err(|e| transport(ureq::Error::Io(e)))?;
            if length == 0 {
                return Ok(out.flush().map(|()| bytes));
            }
            if let Err(e) = out.write_all(&part[..length]) {
                return Ok(Err(e));
            }
            bytes += length as u64;
        }
    }

    /// Sends it until it is answered: again if the connection broke after a write was sent, which its key makes safe,
    /// and after a while if the server asks for patience. What is read while it is sent goes but once.
    fn deliver(&mut self) -> Result<(Response<()>, Body), ClientError> {
        let attempts = if matches!(self.body, Content::File(_)) { 1 } else { ATTEMPTS };
        for attempt in 1..attempts {
            match self.exchange() {
                Err(ClientError::Transport { sent: true, source, .. })
                    if self.key.is_some() && !matches!(*source, ureq::Error::Timeout(_)) =>
                {
                    std::thread::sleep(PAUSE * attempt);
                }
                Ok((response, body)) if response.status() == StatusCode::TOO_MANY_REQUESTS => {
                    match retry_after(&response) {
                        Some(pause) => std::thread::sleep(pause),
                        None => return Ok((response, body)),
                    }
                }
                answer => return answer,
            }
        }
        self.exchange()
    }

    /// One trip: the head of the answer and its body, whatever they are.
    fn exchange(&mut self) -> Result<(Response<()>, Body), ClientError> {
        let transport = |source| ClientError::transport(&self.client.server, &self.method, source);
        let uri = format!("{}{}{}", self.client.server.as_str(), self.path, self.query.as_text());
        let mut request = Request::builder().method(self.method.clone()).uri(uri);
        if let Some(token) = &self.client.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if let Some(tag) = &self.if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", format!("\"{key}\""));
        }
        if self.is_long {
            request = request.header(header::ACCEPT_ENCODING, "gzip");
        }
        let agent = &self.client.agent;
        let response = match &mut self.body {
            Content::Nothing => {
                let request = request.body(()).map_err(|error| transport(error.into()))?;
                agent.run(agent.configure_request(request).timeout_global(Some(self.timeout)).build())
            }
            Content::Whole(content_type, content) => {
                if let Some(content_type) = content_type {
                    request = request.header(header::CONTENT_TYPE, *content_type);
                }
                let request = request.body(content.as_slice()).map_err(|error| transport(error.into()))?;
                agent.run(agent.configure_request(request).timeout_global(Some(self.timeout)).build())
            }
            Content::File(FileUpload { content, content_type, encoding }) => {
                request = request.header(header::CONTENT_TYPE, *content_type);
                if let Some(encoding) = encoding {
                    request = request.header(header::CONTENT_ENCODING, *encoding);
                }
                let body = SendBody::from_reader(content);
                let request = request.body(body).map_err(|error| transport(error.into()))?;
                // However long it takes to send, as long as the server goes on taking it.
                let request = agent.configure_request(request).timeout_recv_response(Some(self.timeout));
                agent.run(request.build())
            }
        }
        .map_err(transport)?;
        let (head, body) = response.into_parts();
        Ok((Response::from_parts(head, ()), body))
    }
}

/// What an answer says that is no success.
fn refusal(response: &Response<()>, text: String) -> ClientError {
    let status = response.status();
    if status.is_redirection() {
        let location = header_text(response, header::LOCATION).unwrap_or_default();
        return ClientError::Malformed {
            status: status.as_u16(),
            detail: format!("a redirection to \"{location}\": give the address that it leads to"),
        };
    }
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => ClientError::Problem { problem: Box::new(problem), text },
        Err(_) => ClientError::Malformed {
            status: status.as_u16(),
            detail: "not a problem document: is it a Koder Herald that answers there?".to_owned(),
        },
    }
}

/// A key that no other request has; without random numbers there is none, and the write is sent but once.
fn draw_key() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How long the server asks to wait, if that is worth it.
fn retry_after(response: &Response<()>) -> Option<Duration> {
    let seconds: u64 = header_text(response, header::RETRY_AFTER)?.parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|pause| *pause <= PATIENCE)
}

fn read_text(body: Body) -> Result<String, ureq::Error> {
    body.into_with_config().limit(ANSWER_BYTES_MAX).read_to_string()
}

fn header_text(response: &Response<()>, name: header::HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

fn is_sendable(token: &Secret) -> bool {
    !token.is_empty() && token.expose().bytes().all(|octet| octet.is_ascii_graphic())
}

fn read_authorities(path: &std::path::Path) -> Result<RootCerts, SetupError> {
    let error = |source| SetupError::CaFile { path: path.to_owned(), source };
    let pem = std::fs::read(path).map_err(error)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(problem) => {
                return Err(error(io::Error::new(io::ErrorKind::InvalidData, problem.to_string())));
            }
        }
    }
    if certificates.is_empty() {
        return Err(error(io::Error::new(io::ErrorKind::InvalidData, "there is no certificate in it")));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        let server = ServerUrl::parse("https://herald.example").unwrap();
        for bad in ["", "two words", "a\nb", "ü"] {
            let result = Client::new(&server, Some(Secret::new(bad)), &ClientOptions::default());
            assert!(matches!(result, Err(SetupError::Token)), "{bad:?}");
        }
    }

    #[test]
    fn a_client_does_not_show_its_token() {
        let server = ServerUrl::parse("http://127.0.0.1:1").unwrap();
        let client = Client::new(&server, Some(Secret::new("hush")), &ClientOptions::default()).unwrap();
        assert!(!format!("{client:?}").contains("hush"));
    }

    /// A server that takes a write and hangs up, and answers when it comes again with the same key.
    #[test]
    fn a_write_whose_answer_is_lost_is_repeated_with_its_key() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let mut keys = Vec::new();
            for answer in [
                "",
                "HTTP/1.1 429 x\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut request, mut part) = (Vec::new(), [0; 4096]);
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    let read = stream.read(&mut part).unwrap();
                    assert!(read > 0, "the head is cut short");
                    request.extend_from_slice(&part[..read]);
                }
                let request = String::from_utf8(request).unwrap();
                let key = request.lines().find(|line| line.starts_with("idempotency-key: "));
                keys.push(key.expect("a key").to_owned());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            keys
        });
        let server = ServerUrl::parse(&format!("http://{address}")).unwrap();
        let client = Client::new(&server, None, &ClientOptions::default()).unwrap();
        client.delete_zone("example.com", &WriteOptions::default()).unwrap();
        let keys = serving.join().unwrap();
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[test]
    fn nobody_there_is_a_transport_error_that_was_not_sent() {
        let server = ServerUrl::parse("http://127.0.0.1:1").unwrap();
        let client = Client::new(&server, None, &ClientOptions::default()).unwrap();
        match client.delete_zone("example.com", &WriteOptions::default()) {
            Err(ClientError::Transport { sent: false, server, .. }) => {
                assert_eq!(server, "http://127.0.0.1:1")
            }
            other => panic!("{other:?}"),
        }
    }
}
