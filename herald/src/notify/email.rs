//! E-mail, by the operator's SMTP relay (RFC 5321).

use std::time::Duration;

use herald_core::channel::{Channel, Receiver};
use lettre::message::Mailbox;
use lettre::message::header::{self, ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, SmtpTransport, Transport};

use super::{Courier, Message};

/// For the relay to answer each command.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The operator's relay, and who mail is from.
#[derive(Clone)]
pub struct Mail {
    relay: SmtpTransport,
    from: Mailbox,
}

impl Mail {
    /// By a URL: `smtp://host[:port]`, `smtp://host[:port]?tls=required` for STARTTLS, or `smtps://host[:port]`. With a user and a password
    /// TLS is needed, unless the relay is on this machine.
    ///
    /// # Errors
    /// What is wrong, in words; never the password.
    pub fn new(url: &str, from: &str, credentials: Option<(String, String)>) -> Result<Mail, String> {
        if url.contains('@') {
            return Err(
                "the relay's URL has no user and password: they are mail-user and mail-password-file".into(),
            );
        }
        let from: Mailbox = from.parse().map_err(|e| format!("`{from}` is no sender: {e}"))?;
        let builder = SmtpTransport::from_url(url).map_err(|e| format!("`{url}` is no relay: {e}"))?;
        let name = ClientId::Domain(from.email.domain().to_owned());
        let mut builder = builder.timeout(Some(TIMEOUT)).hello_name(name);
        if let Some((user, password)) = credentials {
            let is_here = ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
                let rest = url.strip_prefix("smtp://").and_then(|rest| rest.strip_prefix(host));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
            });
            if !url.starts_with("smtps://") && !url.contains("tls=required") && !is_here {
                return Err("the password would cross the network in the clear: use smtps://, or smtp:// with ?tls=required".into());
            }
            builder = builder.credentials(Credentials::new(user, password));
        }
        Ok(Mail { relay: builder.build(), from })
    }
}

impl Mail {
    /// Sends a message of plain text; `id` names it, without a domain.
    pub(super) fn send(&self, address: &str, id: &str, subject: String, text: String) -> Result<(), String> {
        let to: Address = address.parse().map_err(|e| format!("{address}: {e}"))?;
        let id = format!("<{id}@{}>", self.from.email.domain());
        let mail = lettre::Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(subject)
            .message_id(Some(id))
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(|e| format!("such a message can't be written: {e}"))?;
        self.relay.send(&mail).map(drop).map_err(|e| format!("the mail relay: {e}"))
    }
}

impl Courier for Mail {
    fn deliver(&self, channel: &Channel, message: &Message) -> Result<(), String> {
        let Receiver::Email { address } = &channel.receiver else { return Err("it has no address".into()) };
        self.send(address, &message.id, message.subject(), message.text())
    }
}

/// `Auto-Submitted: auto-generated` (RFC 3834): nobody's holiday is to be answered with.
#[derive(Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_don_t_cross_networks_in_the_clear() {
        let with = |url: &str| {
            Mail::new(url, "Herald <dns@example.com>", Some(("user".into(), "open sesame".into()))).err()
        };
        for fine in [
            "smtps://relay.example.com",
            "smtp://relay.example.com:587?tls=required",
            "smtp://127.0.0.1:2525",
            "smtp://localhost",
        ] {
            assert_eq!(with(fine), None, "{fine}");
        }
        for wrong in [
            "smtp://relay.example.com",
            "smtp://relay.example.com?tls=opportunistic",
            "smtp://localhost.example.com",
            "smtps://user:secret@relay.example.com",
            "relay.example.com:25",
            "http://relay.example.com",
        ] {
            let said = with(wrong).unwrap_or_else(|| panic!("{wrong} is fine"));
            assert!(!said.contains("sesame"), "{said}");
        }
        assert_eq!(Mail::new("smtp://relay.example.com", "dns@example.com", None).err(), None);
        assert!(Mail::new("smtp://relay.example.com", "nobody", None).is_err());
    }
}
