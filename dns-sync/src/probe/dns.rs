//! DNS questions: to a name server that is probed, and to the resolver that the operator names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use domain::base::iana::{Class, Opcode};
use domain::base::name::ToName;
use domain::base::rdata::ComposeRecordData;
use domain::base::{Message, MessageBuilder, Name as DomainName, Rtype};
use domain::rdata::AllRecordData;
use herald_core::Name;
use herald_core::rdata::{format_rtype, parse_rdata};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::pace::{Good, Outcome};

/// What fits into a UDP answer without fragments.
const UDP_BYTES: u16 = 1232;

/// Most records of an answer that are looked at.
const RECORDS_MAX: usize = 1_000;

/// An answer.
pub(super) struct Answer {
    pub rcode: u8,
    /// Type, TTL and RDATA of each record in the answer section, names not compressed.
    pub records: Vec<(Rtype, u32, Vec<u8>)>,
}

/// Asks a server, and reads what it says.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    rtype: Rtype,
    is_recursive: bool,
) -> io::Result<Answer> {
    read(&exchange(server, name, rtype, is_recursive).await?)
}

/// Asks a server, by UDP and, if truncated, by TCP. It waits for as long as it takes.
pub(crate) async fn exchange(
    server: SocketAddr,
    name: &Name,
    rtype: Rtype,
    is_recursive: bool,
) -> io::Result<Message<Vec<u8>>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let id = u16::from_be_bytes(id);
    let query = question(id, name, rtype, is_recursive).ok_or(io::ErrorKind::InvalidInput)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A socket a question, so that the system draws a port for each; connected, so that only the server is heard.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut octets = vec![0; 4096];
    loop {
        let received = socket.recv(&mut octets).await?;
        let Some(message) = accept(octets.get(..received).unwrap_or_default(), id, name, rtype) else {
            continue;
        };
        if !message.header().tc() {
            return Ok(message);
        }
        break;
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &query].concat()).await?;
    let mut octets = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut octets).await?;
    accept(&octets, id, name, rtype).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn question(id: u16, name: &Name, rtype: Rtype, is_recursive: bool) -> Option<Vec<u8>> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(id);
    message.header_mut().set_rd(is_recursive);
    let mut message = message.question();
    message.push((DomainName::from_octets(name.as_wire()).ok()?, rtype, Class::IN)).ok()?;
    let mut message = message.additional();
    message
        .opt(|opt| {
            opt.set_udp_payload_size(UDP_BYTES);
            Ok(())
        })
        .ok()?;
    Some(message.finish())
}

/// The message, if it answers this question.
pub(crate) fn accept(octets: &[u8], id: u16, name: &Name, rtype: Rtype) -> Option<Message<Vec<u8>>> {
    let message = Message::from_octets(octets.to_vec()).ok()?;
    let header = message.header();
    if !header.qr() || header.id() != id || header.opcode() != Opcode::QUERY {
        return None;
    }
    // A refusal may come without the question.
    if message.header_counts().qdcount() == 0 {
        return Some(message);
    }
    let question = message.sole_question().ok()?;
    let asked: DomainName<Vec<u8>> = question.qname().to_name();
    let is_same = question.qtype() == rtype && asked.as_slice().eq_ignore_ascii_case(name.as_wire());
    is_same.then_some(message)
}

fn read(message: &Message<Vec<u8>>) -> io::Result<Answer> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut records = Vec::new();
    for record in message.answer().map_err(invalid)?.take(RECORDS_MAX) {
        let record = record.map_err(invalid)?;
        let (rtype, ttl_s) = (record.rtype(), record.ttl().as_secs());
        let record = record.to_any_record::<AllRecordData<_, _>>().map_err(invalid)?;
        let mut rdata = Vec::new();
        // A Vec has room.
        let _ = record.data().compose_rdata(&mut rdata);
        records.push((rtype, ttl_s, rdata));
    }
    Ok(Answer { rcode: message.header().rcode().to_int(), records })
}

/// Probes a name server.
pub(super) async fn check(
    server: SocketAddr,
    name: &Name,
    rtype: u16,
    rcode: u8,
    contains: Option<&str>,
) -> Outcome {
    let rtype = Rtype::from_int(rtype);
    let answer = match ask(server, name, rtype, false).await {
        Ok(answer) => answer,
        Err(error) => return Outcome::Bad(format!("{name} {}: {error}", format_rtype(rtype))),
    };
    if answer.rcode != rcode {
        return Outcome::Bad(format!("RCODE {} instead of {rcode}", answer.rcode));
    }
    if let Some(text) = contains {
        let wanted = match parse_rdata(rtype, text) {
            Ok(wanted) => wanted,
            Err(error) => return Outcome::Unable(format!("`{text}` is no RDATA: {error}")),
        };
        // Names in RDATA are equal whatever the case of their letters.
        let is_it =
            |(one, _, rdata): &(Rtype, u32, Vec<u8>)| *one == rtype && rdata.eq_ignore_ascii_case(&wanted);
        if !answer.records.iter().any(is_it) {
            return Outcome::Bad(format!("`{text}` is not among the {} answers", answer.records.len()));
        }
    }
    Outcome::Good(Good { cause: format!("RCODE {rcode}"), certificate_ends_s: None })
}
