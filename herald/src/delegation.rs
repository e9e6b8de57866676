//! Questions to the public DNS: for proofs of the right to a name, and for how a zone's delegation stands.
//!
//! A small client of its own: the platform is no resolver, and asks a configured one. Ids and ports are random, and
//! an answer counts only if it comes from who was asked and repeats the question.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::name::ToName;
use domain::base::{Message, MessageBuilder, Name as DomainName, Rtype};
use domain::rdata::AllRecordData;
use herald_core::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Port of DNS.
const DNS_PORT: u16 = 53;

/// For one server to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// For a look-up as a whole, however many servers are asked.
const LOOKUP_TIME: Duration = Duration::from_secs(15);

/// So many look-ups at a time; more wait, as long as a look-up may take.
const LOOKUPS_MAX: usize = 64;

/// How often each server is asked.
const ROUNDS: usize = 2;

/// So many servers of a parent zone are tried.
const PARENT_SERVERS_MAX: usize = 6;

/// What an answer over UDP may have in octets, so that it isn't fragmented.
const UDP_BYTES_MAX: u16 = 1232;

/// Where the system's resolvers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Looks things up through resolvers. Clones share them.
#[derive(Clone, Debug)]
pub struct Resolver {
    resolvers: Arc<[SocketAddr]>,
    /// Where the servers of parent zones listen.
    authoritative_port: u16,
    /// A permit for each look-up at a time.
    lookups: Arc<Semaphore>,
}

/// How a parent zone has a delegation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentView {
    /// The parent zone.
    pub parent: Name,
    /// The NS of the delegation; none: the name is not delegated.
    pub nameservers: Vec<Name>,
    /// Name servers whose addresses came along.
    pub glue: BTreeSet<Name>,
    /// Whether there are DS records.
    pub has_ds: bool,
}

/// Why something could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// There is nobody to ask.
    #[error("no resolver is known: give the daemon one with --resolver")]
    NoResolver,
    /// Nobody answered.
    #[error("nobody answered the question {0}")]
    NoAnswer(String),
    /// The answer was an error.
    #[error("the answer to the question {question} was {rcode}")]
    Refused {
        /// Name and type.
        question: String,
        /// The error.
        rcode: String,
    },
    /// No answer told of a zone above.
    #[error("the zone above {0} could not be found")]
    NoParent(String),
    /// The root has no parent.
    #[error("the root has no parent")]
    Root,
    /// All of it took too long.
    #[error("the look-up took too long")]
    TooLong,
}

impl Resolver {
    /// Asks these resolvers; those of `/etc/resolv.conf` if there are none.
    pub fn new(resolvers: Vec<SocketAddr>) -> Resolver {
        let resolvers = if resolvers.is_empty() { system_resolvers() } else { resolvers };
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Resolver { resolvers: resolvers.into(), authoritative_port: DNS_PORT, lookups }
    }

    /// The same, but with the servers of parent zones at another port, as in tests.
    #[cfg(test)]
    pub(crate) fn with_authoritative_port(self, authoritative_port: u16) -> Resolver {
        Resolver { authoritative_port, ..self }
    }

    /// The TXT records of a name, each with its strings joined; none if there is no such name.
    ///
    /// # Errors
    /// If it can't be known.
    pub async fn txt(&self, name: &Name) -> Result<Vec<String>, LookupError> {
        self.within(async {
            let answer = self.resolve(name, Rtype::TXT).await?;
            Ok(answer.records(Section::Answer).into_iter().filter_map(|record| record.txt).collect())
        })
        .await
    }

    /// Asks the servers of the parent zone, and not the zone itself, how they delegate it.
    ///
    /// # Errors
    /// If the parent can't be found or doesn't answer.
    pub async fn parent_view(&self, zone: &Name) -> Result<ParentView, LookupError> {
        self.within(async {
            let parent = self.parent_zone(zone).await?;
            let mut error = LookupError::NoAnswer(format!("{parent} NS"));
            for server in self.servers(&parent).await? {
                match ask_parent(server, &parent, zone).await {
                    Ok(view) => return Ok(view),
                    Err(e) => error = e,
                }
            }
            Err(error)
        })
        .await
    }

    async fn within<T>(
        &self,
        lookup: impl Future<Output = Result<T, LookupError>>,
    ) -> Result<T, LookupError> {
        let in_turn = async {
            let _permit = self.lookups.acquire().await;
            lookup.await
        };
        timeout(LOOKUP_TIME, in_turn).await.unwrap_or(Err(LookupError::TooLong))
    }

    /// The zone that a delegation of this name is in: the answer to a question for the SOA of the name above it has
    /// that zone's SOA, as answer or as authority.
    async fn parent_zone(&self, zone: &Name) -> Result<Name, LookupError> {
        let mut above = zone.parent().ok_or(LookupError::Root)?;
        loop {
            let answer = self.resolve(&above, Rtype::SOA).await?;
            let soas = [Section::Answer, Section::Authority].map(|section| answer.records(section));
            let soa = soas
                .iter()
                .flatten()
                .find(|record| record.rtype == Rtype::SOA && above.is_at_or_below(&record.owner));
            if let Some(soa) = soa {
                return Ok(soa.owner.clone());
            }
            above = above.parent().ok_or_else(|| LookupError::NoParent(zone.to_string()))?;
        }
    }

    /// Addresses of a zone's name servers.
    async fn servers(&self, zone: &Name) -> Result<Vec<SocketAddr>, LookupError> {
        let answer = self.resolve(zone, Rtype::NS).await?;
        let mut names: Vec<Name> =
            answer.records(Section::Answer).into_iter().filter_map(|record| record.ns).collect();
        names.truncate(PARENT_SERVERS_MAX);
        let mut servers = Vec::new();
        for name in &names {
            for rtype in [Rtype::A, Rtype::AAAA] {
                // One without addresses is no reason to give the others up.
                let Ok(answer) = self.resolve(name, rtype).await else { continue };
                let addresses =
                    answer.records(Section::Answer).into_iter().filter_map(|record| record.address);
                servers.extend(addresses.filter(|ip| self.may_ask(*ip)));
            }
            if servers.len() >= PARENT_SERVERS_MAX {
                break;
            }
        }
        // IPv4 first: not every host has the other.
        servers.sort_by_key(IpAddr::is_ipv6);
        servers.truncate(PARENT_SERVERS_MAX);
        Ok(servers.into_iter().map(|ip| SocketAddr::new(ip, self.authoritative_port)).collect())
    }

    /// Who a zone's servers are is in the hands of its holder: they must not make us ask this host itself, unless
    /// the resolver that we were told to ask is here as well and so knows of such a world.
    fn may_ask(&self, ip: IpAddr) -> bool {
        let is_local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
        let is_link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let knows_local = self.resolvers.iter().any(|resolver| is_local(resolver.ip()));
        !ip.is_multicast() && !is_link_local && (!is_local(ip) || knows_local)
    }

    /// Has a resolver find an answer. That there is no such name is one.
    async fn resolve(&self, name: &Name, rtype: Rtype) -> Result<Answer, LookupError> {
        if self.resolvers.is_empty() {
            return Err(LookupError::NoResolver);
        }
        let question = Question { name, rtype, is_recursive: true };
        let mut error = LookupError::NoAnswer(question.to_string());
        for _ in 0..ROUNDS {
            for resolver in self.resolvers.iter() {
                match question.ask(*resolver).await {
                    Ok(answer) => return Ok(answer),
                    Err(e) => error = e,
                }
            }
        }
        Err(error)
    }
}

/// Asks a server of the parent for NS and DS of a zone.
async fn ask_parent(server: SocketAddr, parent: &Name, zone: &Name) -> Result<ParentView, LookupError> {
    let ns = Question { name: zone, rtype: Rtype::NS, is_recursive: false }.ask(server).await?;
    // A referral has them as authority; a server that serves the zone as well has them as its answer.
    let sections = [Section::Authority, Section::Answer].map(|section| ns.records(section));
    let servers =
        sections.into_iter().flatten().filter(|record| record.owner == *zone).filter_map(|record| record.ns);
    let nameservers: BTreeSet<Name> = servers.collect();
    let additional = ns.records(Section::Additional).into_iter();
    let glue = additional.filter(|record| record.address.is_some()).map(|record| record.owner).collect();
    let ds = Question { name: zone, rtype: Rtype::DS, is_recursive: false }.ask(server).await?;
    let has_ds =
        ds.records(Section::Answer).iter().any(|record| record.rtype == Rtype::DS && record.owner == *zone);
    Ok(ParentView { parent: parent.clone(), nameservers: nameservers.into_iter().collect(), glue, has_ds })
}

// ------------------------------------------------------------------------------------------ the client

struct Question<'a> {
    name: &'a Name,
    rtype: Rtype,
    is_recursive: bool,
}

impl std::fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.rtype)
    }
}

impl Question<'_> {
    /// Asks one server: over UDP, and over TCP if the answer doesn't fit.
    async fn ask(&self, server: SocketAddr) -> Result<Answer, LookupError> {
        let no_answer = || LookupError::NoAnswer(format!("{self} to {server}"));
        let id = random_id();
        let query = self.message(id).ok_or_else(no_answer)?;
        let mut answer = timeout(ANSWER_TIME, self.ask_udp(server, id, &query))
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(no_answer)?;
        if answer.0.header().tc() {
            let over_tcp = timeout(ANSWER_TIME, self.ask_tcp(server, id, &query));
            answer = over_tcp.await.ok().and_then(Result::ok).flatten().ok_or_else(no_answer)?;
        }
        match answer.0.header().rcode() {
            Rcode::NOERROR | Rcode::NXDOMAIN => Ok(answer),
            rcode => Err(LookupError::Refused { question: self.to_string(), rcode: rcode.to_string() }),
        }
    }

    fn message(&self, id: u16) -> Option<Vec<u8>> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(id);
        message.header_mut().set_rd(self.is_recursive);
        let mut message = message.question();
        let name = DomainName::from_octets(self.name.as_wire()).ok()?;
        message.push((name, self.rtype, Class::IN)).ok()?;
        let mut message = message.additional();
        message
            .opt(|opt| {
                opt.set_udp_payload_size(UDP_BYTES_MAX);
                Ok(())
            })
            .ok()?;
        Some(message.finish())
    }

    async fn ask_udp(&self, server: SocketAddr, id: u16, query: &[u8]) -> std::io::Result<Answer> {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A socket a question, so that the system draws a port for each; connected, so that only the server is heard.
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(server).await?;
        socket.send(query).await?;
        let mut octets = vec![0; usize::from(u16::MAX)];
        loop {
            let received = socket.recv(&mut octets).await?;
            if let Some(answer) = self.accept(&octets[..received], id) {
                return Ok(answer);
            }
        }
    }

    async fn ask_tcp(&self, server: SocketAddr, id: u16, query: &[u8]) -> std::io::Result<Option<Answer>> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
        let mut octets = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut octets).await?;
        Ok(self.accept(&octets, id))
    }

    /// The answer, if it is one to this question.
    fn accept(&self, octets: &[u8], id: u16) -> Option<Answer> {
        let message = Message::from_octets(octets.to_vec()).ok()?;
        let header = message.header();
        if !header.qr() || header.id() != id || header.opcode() != Opcode::QUERY {
            return None;
        }
        let question = message.sole_question().ok()?;
        let is_same = question.qtype() == self.rtype && name_of(question.qname()).as_ref() == Some(self.name);
        is_same.then_some(Answer(message))
    }
}

fn random_id() -> u16 {
    let bytes = crate::clock::entropy();
    u16::from_be_bytes([bytes[0], bytes[1]])
}

#[derive(Debug)]
struct Answer(Message<Vec<u8>>);

#[derive(Clone, Copy)]
enum Section {
    Answer,
    Authority,
    Additional,
}

/// A record, as far as it is of interest here.
struct Found {
    owner: Name,
    rtype: Rtype,
    ns: Option<Name>,
    txt: Option<String>,
    address: Option<IpAddr>,
}

impl Answer {
    /// The records of a section; what can't be read ends it.
    fn records(&self, section: Section) -> Vec<Found> {
        let records = match section {
            Section::Answer => self.0.answer(),
            Section::Authority => self.0.authority(),
            Section::Additional => self.0.additional(),
        };
        let Ok(records) = records else { return Vec::new() };
        let mut found = Vec::new();
        for record in records.map_while(Result::ok) {
            let (Some(owner), Ok(record)) =
                (name_of(&record.owner()), record.to_any_record::<AllRecordData<_, _>>())
            else {
                continue;
            };
            let mut one = Found { owner, rtype: record.rtype(), ns: None, txt: None, address: None };
            match record.data() {
                AllRecordData::Ns(ns) => one.ns = name_of(ns.nsdname()),
                AllRecordData::Txt(txt) => {
                    let text: Vec<u8> =
                        txt.iter_charstrs().flat_map(|part| part.as_slice().to_vec()).collect();
                    one.txt = Some(String::from_utf8_lossy(&text).into_owned());
                }
                AllRecordData::A(a) => one.address = Some(IpAddr::V4(a.addr())),
                AllRecordData::Aaaa(aaaa) => one.address = Some(IpAddr::V6(aaaa.addr())),
                _ => {}
            }
            found.push(one);
        }
        found
    }
}

fn name_of(name: &impl ToName) -> Option<Name> {
    let name: DomainName<Vec<u8>> = name.to_name();
    Name::from_wire(name.as_slice()).ok()
}

// ---------------------------------------------------------------------------------------- the system's

fn system_resolvers() -> Vec<SocketAddr> {
    std::fs::read_to_string(RESOLV_CONF).map(|text| parse_resolv_conf(&text)).unwrap_or_default()
}

fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let is_one = words.next() == Some("nameserver");
        words.next().filter(|_| is_one)?.parse().ok().map(|ip| SocketAddr::new(ip, DNS_PORT))
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_of_the_system() {
        let text =
            "# no\nnameserver 192.0.2.1\nsearch example\n nameserver 2001:db8::1 # yes\nnameserver x\n";
        let found: Vec<String> = parse_resolv_conf(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }

    #[test]
    fn this_host_is_not_asked_because_somebody_elses_zone_says_so() {
        let resolver = Resolver::new(vec!["192.0.2.1:53".parse().unwrap()]);
        for (ip, may) in
            [("127.0.0.1", false), ("::1", false), ("169.254.169.254", false), ("198.51.100.1", true)]
        {
            assert_eq!(resolver.may_ask(ip.parse().unwrap()), may, "{ip}");
        }
        assert!(Resolver::new(vec!["127.0.0.1:5300".parse().unwrap()]).may_ask("127.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn an_answer_counts_only_if_it_is_one_to_the_question() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut octets = [0; 512];
            let (length, from) = server.recv_from(&mut octets).await.unwrap();
            let query = &octets[..length];
            let answered = |change: &dyn Fn(&mut Vec<u8>)| {
                let mut answer = query.to_vec();
                answer[2] |= 0x80;
                change(&mut answer);
                answer
            };
            // No answer at all, another id, another question, and then the right one: no such name.
            for packet in [
                query.to_vec(),
                answered(&|answer| answer[0] ^= 1),
                answered(&|answer| answer[14] ^= 1),
                vec![1, 2, 3],
                answered(&|answer| answer[3] = 3),
            ] {
                server.send_to(&packet, from).await.unwrap();
            }
        });
        let resolver = Resolver::new(vec![address]);
        let name = Name::parse("_koder-herald.example.com").unwrap();
        assert_eq!(resolver.txt(&name).await, Ok(Vec::new()));
    }
}
