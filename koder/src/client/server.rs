//! The server's address.

use std::fmt;
use std::net::IpAddr;

use herald_wire::api::PREFIX;
use serde::{Deserialize, Serialize};
use ureq::http::Uri;

use super::SetupError;

/// Where a server is: scheme, host, port and the path that the API's base is under. No slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl {
    text: String,
    is_encrypted: bool,
    is_loopback: bool,
}

impl ServerUrl {
    /// Reads an address. Without a scheme it is `https://`; the API's base at the end may be there or not.
    pub fn parse(text: &str) -> Result<ServerUrl, SetupError> {
        let error = |reason| SetupError::Server { text: text.to_owned(), reason };
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("https", text.trim()));
        let rest = rest.trim_end_matches('/');
        let rest = rest.strip_suffix(PREFIX).unwrap_or(rest).trim_end_matches('/');
        let full = format!("{scheme}://{rest}");
        let uri: Uri = full.parse().map_err(|_| error("expected https://host[:port]"))?;
        let is_encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(error("only https:// and http:// are spoken")),
        };
        if uri.query().is_some() || full.contains('#') {
            return Err(error("there is something behind the path"));
        }
        let authority = uri.authority().ok_or_else(|| error("there is no host"))?;
        if authority.as_str().contains('@') {
            return Err(SetupError::Server {
                text: "…@…".to_owned(), reason: "give no credentials in it"
            });
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(error("there is no host"));
        }
        let is_loopback = host.parse().map_or(host == "localhost", |address: IpAddr| address.is_loopback());
        Ok(ServerUrl { text: full, is_encrypted, is_loopback })
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Whether a token sent there can be read on the way.
    pub fn exposes_tokens(&self) -> bool {
        !self.is_encrypted && !self.is_loopback
    }

    /// The host, as a name for the context.
    pub fn host(&self) -> &str {
        let rest = self.text.split_once("://").map_or(self.text.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = SetupError;

    fn try_from(text: String) -> Result<ServerUrl, SetupError> {
        ServerUrl::parse(&text)
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> String {
        url.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_brought_to_one_form() {
        for (text, url) in [
            ("herald.example", "https://herald.example"),
            ("https://herald.example/", "https://herald.example"),
            ("https://herald.example:8443/dns/api/v1/", "https://herald.example:8443/dns"),
            ("http://[::1]:8053", "http://[::1]:8053"),
        ] {
            assert_eq!(ServerUrl::parse(text).unwrap().as_str(), url);
        }
        assert_eq!(
            ServerUrl::parse("https://herald.example:8443/dns").unwrap().host(),
            "herald.example:8443"
        );
    }

    #[test]
    fn loopback_needs_no_encryption() {
        let exposes = |text| ServerUrl::parse(text).unwrap().exposes_tokens();
        assert!(exposes("http://herald.example"));
        assert!(!exposes("https://herald.example"));
        assert!(!exposes("http://127.0.0.1:80"));
        assert!(!exposes("http://[::1]:80"));
        assert!(!exposes("http://localhost"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "ftp://herald.example", "https://h/?a=b", "https://", "a b", "https://h/#x"] {
            assert!(ServerUrl::parse(text).is_err(), "{text}");
        }
        let error = ServerUrl::parse("https://me:hush@herald.example").unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
    }
}
