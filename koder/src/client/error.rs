//! What can go wrong with a request, and before it.

use std::io;
use std::path::PathBuf;

use herald_wire::api::Problem;
use ureq::Timeout;
use ureq::http::Method;

use super::ServerUrl;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The server's address is none.
    #[error("\"{text}\" is no address of a server: {reason}")]
    Server {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The token is empty or has characters that a header can't carry.
    #[error("the token is empty or has characters that a token can't have")]
    Token,
    /// The authorities to trust can't be read.
    #[error("the CA file {} can't be used: {source}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no, and why.
    #[error("{}", problem.detail)]
    Problem {
        /// The problem document.
        problem: Box<Problem>,
        /// The document as it came.
        text: String,
    },
    /// There was no whole answer.
    #[error("{server} can't be reached: {}{}", cause(source), unknown_outcome(*sent))]
    Transport {
        /// The server's address.
        server: String,
        /// Whether a change may have arrived all the same.
        sent: bool,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// There was an answer that makes no sense.
    #[error("the server's answer (status {status}) makes no sense: {detail}")]
    Malformed {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the answer.
        detail: String,
    },
}

fn cause(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => format!("no answer in time ({error})"),
        error => error.to_string(),
    }
}

fn unknown_outcome(sent: bool) -> &'static str {
    if sent { "; whether the change was accepted is not known: look before you repeat it" } else { "" }
}

impl ClientError {
    pub(super) fn transport(server: &ServerUrl, method: &Method, source: ureq::Error) -> ClientError {
        let sent = !method.is_safe() && !is_before_sending(&source);
        ClientError::Transport { server: server.as_str().to_owned(), sent, source: Box::new(source) }
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Problem { problem, .. } => Some(problem.status),
            ClientError::Malformed { status, .. } => Some(*status),
            ClientError::Transport { .. } => None,
        }
    }

    /// The code at the end of the problem's type, such as `not_found`.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Problem { problem, .. } => problem.kind.rsplit(':').next(),
            _ => None,
        }
    }
}

fn is_before_sending(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::BadUri(_)
        | ureq::Error::Http(_)
        | ureq::Error::InvalidProxyUrl
        | ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_)
        | ureq::Error::TlsRequired
        | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_that_may_have_arrived_has_an_unknown_outcome() {
        let server = ServerUrl::parse("https://herald.example").unwrap();
        let lost = || ureq::Error::Timeout(Timeout::RecvResponse);
        let text = |method, error| ClientError::transport(&server, &method, error).to_string();
        assert!(text(Method::PUT, lost()).contains("not known"));
        assert!(!text(Method::GET, lost()).contains("not known"));
        assert!(!text(Method::PUT, ureq::Error::HostNotFound).contains("not known"));
        assert!(!text(Method::PUT, io::Error::from(io::ErrorKind::ConnectionRefused).into()).contains("io:"));
    }
}
