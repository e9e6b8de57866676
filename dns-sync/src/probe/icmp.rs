//! ICMP echoes, by a ping socket where the system lets us have one, else by a raw one where that is permitted.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use super::pace::{Good, Outcome};

const ECHO_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Octets that are drawn for each echo, so that the reply to it is known.
const TOKEN_BYTES: usize = 16;

/// Probes. It waits for as long as it takes.
pub(super) async fn check(address: IpAddr) -> Outcome {
    let socket = match open(address) {
        Ok(socket) => socket,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Outcome::Unable("this PoP may not send ICMP echoes (net.ipv4.ping_group_range)".into());
        }
        Err(error) => return Outcome::Unable(format!("an ICMP socket can't be had: {error}")),
    };
    match echo(&socket, address).await {
        Ok(()) => Outcome::Good(Good { cause: "echo reply".into(), certificate_ends_s: None }),
        Err(error) => Outcome::Bad(format!("{address}: {error}")),
    }
}

fn open(address: IpAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Socket::new(domain, Type::RAW, Some(protocol))?
        }
        other => other?,
    };
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::from(SocketAddr::new(address, 0)))?;
    // To the runtime it is a socket of datagrams like others.
    UdpSocket::from_std(StdUdpSocket::from(std::os::fd::OwnedFd::from(socket)))
}

async fn echo(socket: &UdpSocket, address: IpAddr) -> io::Result<()> {
    let mut token = [0; TOKEN_BYTES];
    getrandom::fill(&mut token).map_err(|error| io::Error::other(error.to_string()))?;
    let (request, reply) = match address {
        IpAddr::V4(_) => (ECHO_V4, ECHO_REPLY_V4),
        IpAddr::V6(_) => (ECHO_V6, ECHO_REPLY_V6),
    };
    let mut message = vec![request, 0, 0, 0, token[0], token[1], 0, 1];
    message.extend_from_slice(&token);
    if address.is_ipv4() {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    socket.send(&message).await?;
    let mut octets = [0; 2048];
    loop {
        let received = socket.recv(&mut octets).await?;
        let octets = octets.get(..received).unwrap_or_default();
        // A raw socket gives the IPv4 header, too.
        let header_bytes = match octets.first() {
            Some(first) if address.is_ipv4() && first >> 4 == 4 => usize::from(first & 15) * 4,
            _ => 0,
        };
        let octets = octets.get(header_bytes..).unwrap_or_default();
        if octets.first() == Some(&reply) && octets.get(8..) == Some(&token[..]) {
            return Ok(());
        }
    }
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let words =
        octets.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
