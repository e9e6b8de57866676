//! Addresses that nobody else takes.
//!
//! A port that was free when it was asked for can be gone when a daemon binds it. So every process of the
//! testbed claims a loopback address of its own out of 127.0.0.0/8, by holding a listener there, and counts ports
//! up on it: no other testbed picks from that address, and the kernel gives out ports for outgoing connections
//! on 127.0.0.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The port whose listener marks an address as claimed.
const CLAIM_PORT: u16 = 5299;

static CLAIM: LazyLock<(Ipv4Addr, TcpListener)> = LazyLock::new(|| {
    let start = std::process::id();
    (0..u32::from(u16::MAX))
        .map(|step| (start.wrapping_add(step) % 0xffff) + 1)
        .map(|host| Ipv4Addr::from(0x7f53_0000 | host))
        .find_map(|address| TcpListener::bind((address, CLAIM_PORT)).ok().map(|held| (address, held)))
        .expect("one of 65,535 loopback addresses is free")
});

static NEXT_PORT: AtomicU16 = AtomicU16::new(CLAIM_PORT + 1);

/// The loopback address of this process.
pub fn address() -> Ipv4Addr {
    CLAIM.0
}

/// An endpoint on [`address`] that is free for UDP and TCP and was never given out before.
pub fn free_endpoint() -> SocketAddr {
    loop {
        let endpoint = SocketAddr::new(IpAddr::V4(address()), NEXT_PORT.fetch_add(1, Ordering::Relaxed));
        if TcpListener::bind(endpoint).is_ok() && UdpSocket::bind(endpoint).is_ok() {
            return endpoint;
        }
    }
}

/// An endpoint on `::1` that is free. There is but one such address, so that each process begins to look elsewhere, below
/// the ports that the kernel gives out.
pub fn free_endpoint_v6() -> SocketAddr {
    let [_, _, high, low] = address().octets();
    let begin = u16::from_be_bytes([high, low]).wrapping_mul(31);
    loop {
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + begin.wrapping_add(step) % 20_000;
        let endpoint = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
        if TcpListener::bind(endpoint).is_ok() && UdpSocket::bind(endpoint).is_ok() {
            return endpoint;
        }
    }
}
