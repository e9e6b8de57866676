//! HTTP/1.1 as cheap as it gets: requests are bytes made beforehand, of replies the status and the length
//! are read. Benchmarks share two cores with the server they measure.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply may take when it is waited for.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// The bytes of a request with a JSON body (none if empty); `authorization` is a whole header line.
pub fn request(method: &str, path: &str, host: SocketAddr, authorization: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends a request on a connection of its own and waits for the reply.
///
/// # Errors
/// If the network fails or the reply isn't one.
pub fn call(server: SocketAddr, request: &[u8]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    let mut parser = ReplyParser::default();
    let mut chunk = [0; 16 * 1024];
    loop {
        let length = stream.read(&mut chunk)?;
        if let Some(outcome) = parser.feed(&chunk[..length])? {
            return Ok(Reply { status: outcome.status, body: parser.body().to_vec() });
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads one reply after another off the bytes of a connection.
#[derive(Debug, Default)]
pub struct ReplyParser {
    bytes: Vec<u8>,
    head: Option<Head>,
}

/// What a complete reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its status.
    pub status: u16,
    /// Whether the server closes the connection after it.
    pub closes: bool,
}

#[derive(Debug)]
struct Head {
    outcome: Outcome,
    body_at: usize,
    length: Length,
}

#[derive(Debug)]
enum Length {
    Known(usize),
    Chunked,
    UntilClose,
}

impl ReplyParser {
    /// Takes in what was received (nothing: the connection was closed) and says whether the reply is complete.
    ///
    /// # Errors
    /// If it isn't HTTP.
    pub fn feed(&mut self, received: &[u8]) -> io::Result<Option<Outcome>> {
        self.bytes.extend_from_slice(received);
        if self.head.is_none() {
            self.head = parse_head(&self.bytes)?;
        }
        let Some(head) = &self.head else { return Ok(None) };
        let body = &self.bytes[head.body_at..];
        let complete = match head.length {
            Length::Known(length) => body.len() >= length,
            Length::Chunked => body.ends_with(b"0\r\n\r\n"),
            Length::UntilClose => received.is_empty(),
        };
        Ok(complete.then_some(head.outcome))
    }

    /// The body as it came, after a complete reply; chunk sizes are still in it.
    pub fn body(&self) -> &[u8] {
        self.head.as_ref().map_or(&[], |head| &self.bytes[head.body_at..])
    }

    /// Gets ready for the next reply.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.head = None;
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(io::Error::other)?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.get(9..12)?.parse().ok())
        .ok_or_else(|| io::Error::other("not an HTTP reply"))?;
    let mut closes = head.starts_with("HTTP/1.0");
    let mut length = if matches!(status, 204 | 304) { Length::Known(0) } else { Length::UntilClose };
    for line in lines {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if key.eq_ignore_ascii_case("content-length") {
            length = Length::Known(value.parse().map_err(io::Error::other)?);
        } else if key.eq_ignore_ascii_case("transfer-encoding") {
            length = Length::Chunked;
        } else if key.eq_ignore_ascii_case("connection") {
            closes = value.eq_ignore_ascii_case("close");
        }
    }
    closes |= matches!(length, Length::UntilClose);
    Ok(Some(Head { outcome: Outcome { status, closes }, body_at: end + 4, length }))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, ReplyParser};

    #[test]
    fn reads_a_reply_in_pieces() {
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let mut parser = ReplyParser::default();
        for byte in &reply[..reply.len() - 1] {
            assert_eq!(parser.feed(&[*byte]).unwrap(), None);
        }
        let done = parser.feed(b"o").unwrap();
        assert_eq!(done, Some(Outcome { status: 200, closes: false }));
        assert_eq!(parser.body(), b"hello");
    }

    #[test]
    fn knows_replies_without_a_length() {
        let mut parser = ReplyParser::default();
        let done = parser.feed(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(done, Some(Outcome { status: 204, closes: true }));
        parser.clear();
        assert_eq!(parser.feed(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap(), None);
        assert_eq!(parser.feed(b"").unwrap(), Some(Outcome { status: 200, closes: true }));
        parser.clear();
        assert!(parser.feed(b"ssh-2.0\r\n\r\n").is_err());
    }
}
