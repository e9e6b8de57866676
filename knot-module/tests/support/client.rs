//! Questions and answers.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::opt::ClientSubnet;
use domain::base::{Message, MessageBuilder, Name, ParsedRecord};
use domain::rdata::AllRecordData;

const TIMEOUT: Duration = Duration::from_secs(2);

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    pub id: u16,
    pub name: String,
    pub rtype: Rtype,
    pub is_tcp: bool,
    /// The size of a datagram that EDNS says; none without EDNS.
    pub edns: Option<u16>,
    pub wants_dnssec: bool,
    pub subnet: Option<(IpAddr, u8)>,
    /// Where it comes from.
    pub source: Option<IpAddr>,
}

/// What came back. Records are `name TTL type RDATA`, with names as they were spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub rcode: Rcode,
    pub is_authoritative: bool,
    pub is_truncated: bool,
    pub answers: Vec<String>,
    pub authority: Vec<String>,
    pub additional: Vec<String>,
    /// The scope, if there is a client subnet.
    pub scope: Option<u8>,
    pub bytes: usize,
}

impl Question {
    pub fn new(name: &str, rtype: &str) -> Question {
        Question {
            id: 1,
            name: name.into(),
            rtype: Rtype::from_str(rtype).unwrap(),
            is_tcp: false,
            edns: None,
            wants_dnssec: false,
            subnet: None,
            source: None,
        }
    }

    #[must_use]
    pub fn id(self, id: u16) -> Question {
        Question { id, ..self }
    }

    #[must_use]
    pub fn tcp(self) -> Question {
        Question { is_tcp: true, ..self }
    }

    #[must_use]
    pub fn edns(self, bytes: u16) -> Question {
        Question { edns: Some(bytes), ..self }
    }

    #[must_use]
    pub fn dnssec(self) -> Question {
        Question { wants_dnssec: true, edns: Some(1232), ..self }
    }

    #[must_use]
    pub fn subnet(self, address: &str, length: u8) -> Question {
        Question { subnet: Some((address.parse().unwrap(), length)), edns: Some(1232), ..self }
    }

    #[must_use]
    pub fn source(self, address: &str) -> Question {
        Question { source: Some(address.parse().unwrap()), ..self }
    }

    pub fn octets(&self) -> Vec<u8> {
        let name = Name::<Vec<u8>>::from_str(&self.name).unwrap();
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(self.id);
        let mut builder = builder.question();
        builder.push((&name, self.rtype, Class::IN)).unwrap();
        let mut builder = builder.additional();
        if let Some(bytes) = self.edns {
            builder
                .opt(|opt| {
                    opt.set_udp_payload_size(bytes);
                    opt.set_dnssec_ok(self.wants_dnssec);
                    match self.subnet {
                        Some((address, length)) => opt.push(&ClientSubnet::new(length, 0, address)),
                        None => Ok(()),
                    }
                })
                .unwrap();
        }
        builder.finish()
    }

    pub fn ask(&self, server: SocketAddr) -> Answer {
        self.try_ask(server).unwrap_or_else(|| panic!("no answer to {self:?}"))
    }

    pub fn try_ask(&self, server: SocketAddr) -> Option<Answer> {
        let octets = self.octets();
        let reply = if self.is_tcp {
            assert!(self.source.is_none(), "a connection's source can't be chosen");
            let mut stream = TcpStream::connect(server).ok()?;
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            let mut framed = (octets.len() as u16).to_be_bytes().to_vec();
            framed.extend_from_slice(&octets);
            stream.write_all(&framed).ok()?;
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok()?;
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut reply).ok()?;
            reply
        } else {
            let socket = UdpSocket::bind((self.source.unwrap_or(IpAddr::from([127, 0, 0, 1])), 0)).unwrap();
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
            socket.send_to(&octets, server).ok()?;
            let mut reply = vec![0; 65_535];
            let bytes = socket.recv(&mut reply).ok()?;
            reply.truncate(bytes);
            reply
        };
        let answer = Answer::read(&reply);
        assert_eq!(reply[..2], self.id.to_be_bytes(), "the answer to another question");
        Some(answer)
    }
}

impl Answer {
    pub fn read(octets: &[u8]) -> Answer {
        let message = Message::from_octets(octets).unwrap();
        let records = |section: domain::base::message::RecordSection<'_, &[u8]>| {
            section
                .map(|record| record.unwrap())
                .filter(|record| record.rtype() != Rtype::OPT)
                .map(text)
                .collect()
        };
        let opt = message.opt();
        let subnet = opt.as_ref().and_then(|opt| opt.opt().client_subnet());
        Answer {
            rcode: message.header().rcode(),
            is_authoritative: message.header().aa(),
            is_truncated: message.header().tc(),
            answers: records(message.answer().unwrap()),
            authority: records(message.authority().unwrap()),
            additional: records(message.additional().unwrap()),
            scope: subnet.map(|subnet| subnet.scope_prefix_len()),
            bytes: octets.len(),
        }
    }

    /// The RDATA of the answers, sorted.
    pub fn values(&self) -> Vec<&str> {
        let mut values: Vec<&str> =
            self.answers.iter().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
        values.sort_unstable();
        values
    }

    pub fn is_servfail(&self) -> bool {
        self.rcode == Rcode::SERVFAIL && self.answers.is_empty() && self.additional.is_empty()
    }
}

fn text(record: ParsedRecord<'_, &[u8]>) -> String {
    let record = record.into_record::<AllRecordData<_, _>>().unwrap().expect("all types are read");
    assert_ne!(record.ttl().as_secs(), herald_core::steering::PLACEHOLDER_TTL_S, "a placeholder got out");
    format!("{}. {} {} {}", record.owner(), record.ttl().as_secs(), record.rtype(), record.data())
}
