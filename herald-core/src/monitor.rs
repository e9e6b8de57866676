//! Monitors: what is asked of an endpoint again and again, and the verdict on it.
//!
//! A monitor is its tenant's and goes with no zone: pools of all the tenant's zones can name it. PoPs that are chosen for it probe and
//! say what they see; herald comes to one verdict of what they say. The monitor and its verdicts are on the log, what is seen isn't.
//! The encoding of all here is persistent: field numbers are never used again for something else; what is added is optional.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::steering::Prefix;
use crate::{Name, TenantId};

/// Identity of a monitor: small numbers from one upwards, never used again, so that the verdicts on all monitors are a vector that a
/// query looks into by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct MonitorId(#[n(0)] pub u32);

impl fmt::Display for MonitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A monitor.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Monitor {
    /// Identity.
    #[n(0)]
    pub id: MonitorId,
    /// Whose it is.
    #[n(1)]
    pub tenant: TenantId,
    /// Unique among the tenant's.
    #[n(2)]
    pub name: String,
    /// What is asked.
    #[n(3)]
    pub check: Check,
    /// How often, and what to make of what is seen.
    #[n(4)]
    pub pace: Pace,
    /// Whether it is on. One that is off has no verdict, and what names it counts as up.
    #[n(5)]
    pub enabled: bool,
    /// Revision of its last change, verdicts not counted.
    #[n(6)]
    pub revision: u64,
    /// When it was made, in ms since the epoch.
    #[n(7)]
    pub created_at_ms: u64,
    /// The verdict; none before the first one.
    #[n(8)]
    pub verdict: Option<Verdict>,
}

/// How often a monitor probes, and what it makes of what is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pace {
    /// From one probe to the next, in ms.
    #[n(0)]
    pub interval_ms: u32,
    /// A probe that has no answer by then has failed, in ms.
    #[n(1)]
    pub timeout_ms: u32,
    /// So many good probes in a row, and a PoP says "up".
    #[n(2)]
    pub rise: u8,
    /// So many bad probes in a row, and a PoP says "down".
    #[n(3)]
    pub fall: u8,
    /// How many PoPs probe.
    #[n(4)]
    pub probers: u8,
    /// How many of them have to say the same for a verdict; none for more than half.
    #[n(5)]
    pub quorum: Option<u8>,
    /// After "down", "up" has to hold for so long before the verdict follows, in ms.
    #[n(6)]
    pub recovery_ms: u32,
}

/// What is asked of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Check {
    /// HTTP or HTTPS (RFC 9110): a GET or HEAD.
    #[n(0)]
    Http(#[n(0)] HttpCheck),
    /// A TCP connection is made.
    #[n(1)]
    Tcp {
        /// Where.
        #[n(0)]
        target: Target,
        /// Port.
        #[n(1)]
        port: u16,
    },
    /// A TLS handshake is done.
    #[n(2)]
    Tls {
        /// Where.
        #[n(0)]
        target: Target,
        /// Port.
        #[n(1)]
        port: u16,
        /// What is asked of the certificate.
        #[n(2)]
        tls: TlsCheck,
    },
    /// A DNS query is answered, by UDP and, if truncated, by TCP.
    #[n(3)]
    Dns {
        /// The name server.
        #[n(0)]
        target: Target,
        /// Port.
        #[n(1)]
        port: u16,
        /// The name asked for.
        #[n(2)]
        name: Name,
        /// The type asked for.
        #[n(3)]
        rtype: u16,
        /// The RCODE wanted.
        #[n(4)]
        rcode: u8,
        /// RDATA in presentation format that must be among the answers; none if it doesn't matter.
        #[n(5)]
        contains: Option<String>,
    },
    /// An ICMP echo is answered (RFC 792, RFC 4443), where the PoP may send one.
    #[n(4)]
    Icmp {
        /// Where.
        #[n(0)]
        target: Target,
    },
    /// The endpoint calls in, by the address that it was given; nobody probes. The interval says how often it has to.
    #[n(5)]
    Heartbeat {
        /// SHA-256 of the secret in the address.
        #[cbor(n(0), with = "minicbor::bytes")]
        secret_hash: [u8; 32],
    },
    /// The verdicts on other monitors of the tenant.
    #[n(6)]
    Calculated {
        /// The others, none of them calculated.
        #[n(0)]
        of: Vec<MonitorId>,
        /// It is up if at least so many are.
        #[n(1)]
        at_least: u16,
        /// Whether it is the other way round.
        #[n(2)]
        inverted: bool,
    },
}

/// Where a probe goes: an address in presentation format, or a domain name whose addresses are looked up at each probe.
pub type Target = String;

/// An HTTP request, and what its response must be.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HttpCheck {
    /// Where.
    #[n(0)]
    pub target: Target,
    /// Port.
    #[n(1)]
    pub port: u16,
    /// Path and query.
    #[n(2)]
    pub path: String,
    /// The Host header; the target if none.
    #[n(3)]
    pub host: Option<String>,
    /// HEAD instead of GET.
    #[n(4)]
    pub head: bool,
    /// First and last status that is fine, both included: 200 to 399 unless said otherwise.
    #[n(5)]
    pub status: (u16, u16),
    /// What the first 64 KiB of the body must hold.
    #[n(6)]
    pub body_contains: Option<String>,
    /// How many redirects are followed; what comes after the last one is judged.
    #[n(7)]
    pub redirects: u8,
    /// HTTPS; none for HTTP.
    #[n(8)]
    pub tls: Option<TlsCheck>,
}

/// What is asked of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TlsCheck {
    /// The server name indicated (RFC 6066 §3) and looked for in the certificate; the Host or target if none.
    #[n(0)]
    pub sni: Option<String>,
    /// Whether the certificate's chain and name don't matter.
    #[n(1)]
    pub accept_any: bool,
    /// For so many days at least the certificate must be valid yet; zero: just valid.
    #[n(2)]
    pub days_left_min: u16,
}

/// What is held of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Verdict {
    /// Whether it is up.
    #[n(0)]
    pub up: bool,
    /// Since when, in ms since the epoch.
    #[n(1)]
    pub since_ms: u64,
    /// Why, in words.
    #[n(2)]
    pub cause: String,
    /// Revision of the entry that says so.
    #[n(3)]
    pub revision: u64,
}

/// A verdict that is another now.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct VerdictChange {
    /// On which monitor.
    #[n(0)]
    pub monitor: MonitorId,
    /// Whether it is up.
    #[n(1)]
    pub up: bool,
    /// Since when, in ms since the epoch.
    #[n(2)]
    pub since_ms: u64,
    /// Why, in words.
    #[n(3)]
    pub cause: String,
}

/// Which addresses monitors may be aimed at, by the operator's word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ProbeRules {
    /// Special-purpose addresses that may be.
    #[n(0)]
    pub allowed: Vec<Prefix>,
    /// Addresses that may not be, whatever else is said: the platform's own.
    #[n(1)]
    pub refused: Vec<Prefix>,
}

impl Check {
    /// What kind it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Check::Http(http) if http.tls.is_some() => "https",
            Check::Http(_) => "http",
            Check::Tcp { .. } => "tcp",
            Check::Tls { .. } => "tls",
            Check::Dns { .. } => "dns",
            Check::Icmp { .. } => "icmp",
            Check::Heartbeat { .. } => "heartbeat",
            Check::Calculated { .. } => "calculated",
        }
    }

    /// Where probes go; none if nobody probes.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Check::Http(HttpCheck { target, .. })
            | Check::Tcp { target, .. }
            | Check::Tls { target, .. }
            | Check::Dns { target, .. }
            | Check::Icmp { target } => Some(target),
            Check::Heartbeat { .. } | Check::Calculated { .. } => None,
        }
    }
}

impl Monitor {
    /// Since when it is down, in ms since the epoch; none if it is up, off or nothing is known.
    pub fn down_since_ms(&self) -> Option<u64> {
        self.verdict.as_ref().filter(|verdict| self.enabled && !verdict.up).map(|verdict| verdict.since_ms)
    }
}
