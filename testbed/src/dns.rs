//! A small DNS client: asks a server a question over UDP or TCP, and reads whole zones by AXFR.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::name::{Name, ToName};
use domain::base::opt::ClientSubnet;
use domain::base::rdata::ComposeRecordData;
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt};
use domain::base::{Message, MessageBuilder, ParsedRecord};
use domain::rdata::AllRecordData;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How a question travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram, no EDNS.
    Udp,
    /// A connection of its own.
    Tcp,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response code.
    pub rcode: Rcode,
    /// Whether it is authoritative.
    pub authoritative: bool,
    /// Whether it was cut short.
    pub truncated: bool,
    /// The answer section, sorted.
    pub answers: Vec<Record>,
    /// The authority section, sorted.
    pub authority: Vec<Record>,
}

impl Answer {
    /// The RDATA of the answers of this type, as text, sorted.
    pub fn values(&self, rtype: &str) -> Vec<String> {
        self.answers.iter().filter(|r| r.rtype.to_string() == rtype).map(Record::value).collect()
    }
}

/// A record in a form that can be compared: names in lower case, RDATA canonical (RFC 4034 §6.2).
#[derive(Clone)]
pub struct Record {
    /// Owner with the trailing dot.
    pub name: String,
    /// Type.
    pub rtype: Rtype,
    /// TTL in seconds.
    pub ttl: u32,
    /// RDATA.
    pub data: Vec<u8>,
    text: String,
}

impl Record {
    /// RDATA as text; names in it carry the trailing dot.
    pub fn value(&self) -> String {
        self.text.clone()
    }
}

impl Record {
    /// All that tells it from others; the text doesn't, as letters' case in it may differ.
    fn key(&self) -> (&str, Rtype, u32, &[u8]) {
        (&self.name, self.rtype, self.ttl, &self.data)
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Record {}

impl PartialOrd for Record {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Record {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.name, self.ttl, self.rtype, self.text)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The network, or nobody answered in time.
    #[error("no answer: {0}")]
    Io(#[from] io::Error),
    /// Not a DNS message, or not the answer to this question.
    #[error("a bad answer: {0}")]
    Malformed(String),
    /// A transfer was refused.
    #[error("refused with {0}")]
    Refused(Rcode),
}

impl From<domain::base::wire::ParseError> for QueryError {
    fn from(e: domain::base::wire::ParseError) -> Self {
        Self::Malformed(e.to_string())
    }
}

/// Asks `server` for `name` and `rtype`, e.g. `"www.example.com."` and `"AAAA"`.
///
/// # Errors
/// If nobody answers, or not this question.
///
/// # Panics
/// If `name` or `rtype` isn't one.
pub fn query(
    server: SocketAddr,
    name: &str,
    rtype: &str,
    transport: Transport,
) -> Result<Answer, QueryError> {
    let request = question(1, name, rtype);
    let reply = match transport {
        Transport::Udp => {
            let own = if server.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
            let socket = UdpSocket::bind(own)?;
            socket.set_read_timeout(Some(TIMEOUT))?;
            socket.connect(server)?;
            socket.send(&request)?;
            let mut reply = vec![0; 65_535];
            let length = socket.recv(&mut reply)?;
            reply.truncate(length);
            reply
        }
        Transport::Tcp => {
            let mut stream = dial(server)?;
            send_framed(&mut stream, &request)?;
            receive_framed(&mut stream)?
        }
    };
    read(reply, request, 1)
}

fn read(reply: Vec<u8>, request: Vec<u8>, id: u16) -> Result<Answer, QueryError> {
    let message = Message::from_octets(reply).map_err(|e| QueryError::Malformed(e.to_string()))?;
    let asked = Message::from_octets(request).expect("built here");
    // A refusal may come without the question.
    if message.header().id() != id || (message.header_counts().qdcount() > 0 && !message.is_answer(&asked)) {
        return Err(QueryError::Malformed("it answers another question".to_owned()));
    }
    let mut answers = records(message.answer()?)?;
    let mut authority = records(message.authority()?)?;
    answers.sort();
    authority.sort();
    let header = message.header();
    Ok(Answer {
        rcode: header.rcode(),
        authoritative: header.aa(),
        truncated: header.tc(),
        answers,
        authority,
    })
}

/// A question by UDP, from where and on whose behalf it is told.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The id of the message.
    pub id: u16,
    /// The address that it comes from.
    pub source: IpAddr,
    /// The client subnet that a resolver tells of (RFC 7871): an address and a prefix length.
    pub subnet: Option<(IpAddr, u8)>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { id: 1, source: Ipv4Addr::LOCALHOST.into(), subnet: None }
    }
}

/// Asks `server` by UDP; gives the answer, and the scope of the client subnet in it.
///
/// # Errors
/// If nobody answers, or not this question.
///
/// # Panics
/// If `name` or `rtype` isn't one.
pub fn query_as(
    server: SocketAddr,
    name: &str,
    rtype: &str,
    asked: &Asked,
) -> Result<(Answer, Option<u8>), QueryError> {
    let request = question(asked.id, name, rtype);
    let request = match asked.subnet {
        None => request,
        Some((address, length)) => {
            let asked = Message::from_octets(request).expect("built here");
            let mut builder = MessageBuilder::new_vec();
            *builder.header_mut() = asked.header();
            let mut builder = builder.question();
            asked.question().for_each(|question| {
                builder.push(question.expect("built here")).expect("a Vec has room");
            });
            let mut builder = builder.additional();
            builder
                .opt(|opt| {
                    opt.set_udp_payload_size(1232);
                    opt.push(&ClientSubnet::new(length, 0, address))
                })
                .expect("a Vec has room");
            builder.finish()
        }
    };
    let reply = exchange(server, &request, asked.source)?;
    let scope = Message::from_octets(reply.as_slice())
        .ok()
        .and_then(|message| message.opt()?.opt().client_subnet())
        .map(|subnet| subnet.scope_prefix_len());
    Ok((read(reply, request, asked.id)?, scope))
}

/// The octets of an answer by UDP.
///
/// # Errors
/// If nobody answers.
///
/// # Panics
/// If `name` or `rtype` isn't one.
pub fn octets(server: SocketAddr, name: &str, rtype: &str, source: IpAddr) -> io::Result<Vec<u8>> {
    exchange(server, &question(1, name, rtype), source)
}

fn exchange(server: SocketAddr, request: &[u8], source: IpAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect(server)?;
    socket.send(request)?;
    let mut reply = vec![0; 65_535];
    let length = socket.recv(&mut reply)?;
    reply.truncate(length);
    Ok(reply)
}

/// Questions that [`ask_many`] has under way: loopback loses none of so many.
const ASKED_AT_ONCE: u64 = 64;

/// Sends so many queries for a name's A records, and waits for an answer to each, whatever it is.
///
/// # Errors
/// If an answer doesn't come.
pub fn ask_many(server: SocketAddr, name: &str, queries: u64) -> io::Result<()> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" })?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let query = question(7, name, "A");
    let mut buffer = [0; 1500];
    let mut sent = 0;
    while sent < queries {
        let burst = ASKED_AT_ONCE.min(queries - sent);
        for _ in 0..burst {
            socket.send(&query)?;
        }
        for _ in 0..burst {
            socket.recv(&mut buffer)?;
        }
        sent += burst;
    }
    Ok(())
}

/// A query message without EDNS.
///
/// # Panics
/// If `name` or `rtype` isn't one.
pub fn question(id: u16, name: &str, rtype: &str) -> Vec<u8> {
    let name = Name::<Vec<u8>>::from_str(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let rtype = Rtype::from_str(rtype).unwrap_or_else(|_| panic!("{rtype} is no record type"));
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    let mut builder = builder.question();
    builder.push((&name, rtype, Class::IN)).expect("a Vec has room");
    builder.finish()
}

/// The content of a zone, read by AXFR; the SOA is in it once.
///
/// # Errors
/// If the server refuses or breaks off.
///
/// # Panics
/// If `zone` isn't a name.
pub fn transfer(server: SocketAddr, zone: &str) -> Result<BTreeSet<Record>, QueryError> {
    let mut stream = dial(server)?;
    send_framed(&mut stream, &question(2, zone, "AXFR"))?;
    let mut content = BTreeSet::new();
    let mut soa_count = 0;
    while soa_count < 2 {
        let message = Message::from_octets(receive_framed(&mut stream)?)
            .map_err(|e| QueryError::Malformed(e.to_string()))?;
        if message.header().rcode() != Rcode::NOERROR {
            return Err(QueryError::Refused(message.header().rcode()));
        }
        for record in records(message.answer()?)? {
            soa_count += usize::from(record.rtype == Rtype::SOA);
            content.insert(record);
        }
    }
    Ok(content)
}

/// The differences of two zones in words, at most `most` lines; empty if there are none.
pub fn differences(left: &BTreeSet<Record>, right: &BTreeSet<Record>, most: usize) -> String {
    let missing = left.difference(right).map(|r| format!("- {r}"));
    let extra = right.difference(left).map(|r| format!("+ {r}"));
    missing.chain(extra).take(most).collect::<Vec<_>>().join("\n")
}

fn dial(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn send_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).expect("a query is short");
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}

fn receive_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn records<'a>(
    section: domain::base::message::RecordSection<'a, Vec<u8>>,
) -> Result<Vec<Record>, QueryError> {
    section.map(|record| canonical(&record?)).collect()
}

fn canonical(record: &ParsedRecord<'_, Vec<u8>>) -> Result<Record, QueryError> {
    let parsed = record.to_any_record::<AllRecordData<_, _>>()?;
    let mut data = Vec::new();
    parsed.data().compose_canonical_rdata(&mut data).expect("a Vec has room");
    Ok(Record {
        name: record.owner().to_canonical_name::<Vec<u8>>().fmt_with_dot().to_string(),
        rtype: record.rtype(),
        ttl: record.ttl().as_secs(),
        data,
        text: parsed.data().display_zonefile(DisplayKind::Simple).to_string(),
    })
}
