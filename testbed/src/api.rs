//! Herald's HTTP API as a test sees it: status, headers and JSON, nothing hidden.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::config::AutoHeaderValue;
use ureq::http::{Method, Request};

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A caller with a token.
#[derive(Clone, Debug)]
pub struct Api {
    address: SocketAddr,
    token: String,
    agent: Agent,
}

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The request, for messages.
    pub request: String,
    /// HTTP status.
    pub status: u16,
    /// `ETag`, if there was one.
    pub etag: Option<String>,
    /// `Content-Type`, if there was one.
    pub content_type: Option<String>,
    /// The body as it came.
    pub text: String,
}

impl Api {
    /// A caller of the API at `address` with this token (none if empty).
    pub fn new(address: SocketAddr, token: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // What is measured is no compression.
            .accept_encoding(AutoHeaderValue::None)
            .timeout_global(Some(TIMEOUT))
            .build();
        Self { address, token: token.to_owned(), agent: config.new_agent() }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Calls `path` (with `/api/v1` before it unless it begins with `//`) with headers and a body.
    ///
    /// # Errors
    /// If no reply comes.
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Result<Reply, ureq::Error> {
        self.send(method, path, headers, body.map(str::as_bytes))
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Reply, ureq::Error> {
        let path = path
            .strip_prefix('/')
            .filter(|rest| rest.starts_with('/'))
            .map_or_else(|| format!("/api/v1{path}"), str::to_owned);
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(format!("http://{}{path}", self.address));
        if !self.token.is_empty() {
            request = request.header("Authorization", format!("Bearer {}", self.token));
        }
        if body.is_some() && !headers.iter().any(|(key, _)| key.eq_ignore_ascii_case("content-type")) {
            request = request.header("Content-Type", "application/json");
        }
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body.to_owned()).map_err(ureq::Error::Http)?)?,
            None => self.agent.run(request.body(()).map_err(ureq::Error::Http)?)?,
        };
        let header = |key: &str| Some(response.headers().get(key)?.to_str().ok()?.to_owned());
        Ok(Reply {
            request: format!("{method} {path}"),
            status: response.status().as_u16(),
            etag: header("etag"),
            content_type: header("content-type"),
            text: response.body_mut().with_config().limit(1 << 30).read_to_string()?,
        })
    }

    /// As [`Api::try_call`], without further headers.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.call_with(method, path, &[], body)
    }

    /// As [`Api::call`], with headers.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        let body = body.map(Value::to_string);
        self.try_call(method, path, headers, body.as_deref())
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// GET.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None)
    }

    /// POST.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, Some(body))
    }

    /// PUT.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.call("PUT", path, Some(body))
    }

    /// PATCH.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn patch(&self, path: &str, body: &Value) -> Reply {
        self.call("PATCH", path, Some(body))
    }

    /// DELETE.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, None)
    }

    /// PUT of a file as it is.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn put_file(&self, path: &str, content: &[u8]) -> Reply {
        let headers = [("Content-Type", "application/octet-stream")];
        self.send("PUT", path, &headers, Some(content)).unwrap_or_else(|e| panic!("PUT {path}: {e}"))
    }

    /// Imports a zone file into a zone that is there.
    ///
    /// # Panics
    /// If no reply comes.
    pub fn import(&self, zone: &str, zone_file: &str) -> Reply {
        self.try_call(
            "POST",
            &format!("/zones/{zone}/import"),
            &[("Content-Type", "text/dns")],
            Some(zone_file),
        )
        .unwrap_or_else(|e| panic!("import of {zone}: {e}"))
    }
}

impl Reply {
    /// The JSON of a reply with this status.
    ///
    /// # Panics
    /// If the status is another, or the body isn't JSON.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.request, self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it isn't.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{}: {e}: {}", self.request, self.text))
    }
}
