//! Webhooks: an HTTP POST, signed as the Standard Webhooks specification says (<https://www.standardwebhooks.com>).

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::BASE64;
use herald_core::channel::{Channel, Receiver};
use ureq::Agent;
use ureq::http::{Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::key::{Key, hmac};
use super::{Courier, Message};
use crate::clock;
use crate::engine::Follow;

/// For all of a delivery: look-up, connection, TLS, request, and the head of the response.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Octets of a response's head. Its body isn't read.
const HEAD_BYTES: usize = 16 * 1024;

/// Delivers webhooks.
pub(super) struct Webhooks {
    agent: Agent,
    key: Key,
}

impl Webhooks {
    pub(super) fn new(key: Key, follow: Follow) -> Webhooks {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // Where a redirect leads to was neither given nor judged.
            .max_redirects(0)
            .http_status_as_error(false)
            // A proxy of the environment would look names up itself.
            .proxy(None)
            .max_idle_connections(0)
            // The host's authorities, as for mail: an operator may add one.
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .max_response_header_size(HEAD_BYTES)
            .user_agent(concat!("koder-herald/", env!("CARGO_PKG_VERSION")))
            .build();
        Webhooks { agent: Agent::with_parts(config, DefaultConnector::default(), Guard(follow)), key }
    }
}

impl Courier for Webhooks {
    fn deliver(&self, channel: &Channel, message: &Message) -> Result<(), String> {
        let Receiver::Webhook { url } = &channel.receiver else { return Err("it has no URL".into()) };
        let (body, timestamp) = (message.json(), (clock::now_ms() / 1000).to_string());
        let signature = signature(&self.key.secret(channel), &message.id, &timestamp, &body);
        let sent = self
            .agent
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", &signature)
            .send(&body[..]);
        match sent {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) if response.status().is_redirection() => {
                Err(format!("status {}: redirects aren't followed", response.status().as_u16()))
            }
            Ok(response) => Err(format!("status {}", response.status().as_u16())),
            Err(ureq::Error::Timeout(_)) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
            Err(ureq::Error::Other(refused)) => Err(refused.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The header `webhook-signature`.
fn signature(secret: &[u8; 32], id: &str, timestamp: &str, body: &[u8]) -> String {
    let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    format!("v1,{}", BASE64.encode(&hmac(secret, &parts)))
}

/// Looks names up, and refuses a host of which even one address is special-purpose or the platform's own. What is connected to is what
/// was judged: nothing is looked up again in between.
struct Guard(Follow);

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = DefaultResolver::default().resolve(uri, config, timeout)?;
        let state = self.0.state();
        let rules = state.monitors().addresses();
        let why = |address: &SocketAddr| rules.refused(address.ip());
        match addresses.iter().find_map(|address| Some((address.ip(), why(address)?))) {
            None => Ok(addresses),
            Some((address, what)) => {
                let detail =
                    format!("{address} isn't connected to: it is {what}; ask an operator to allow it");
                Err(ureq::Error::Other(detail.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // Of the reference libraries' tests: secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw.
        let secret = BASE64.decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let tag = hmac(&secret, &[b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.", body]);
        assert_eq!(BASE64.encode(&tag), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let said = signature(&[7; 32], "msg_1", "1614265330", body);
        let tag = hmac(&[7; 32], &[b"msg_1.1614265330.", body]);
        assert_eq!(said, format!("v1,{}", BASE64.encode(&tag)));
    }
}
