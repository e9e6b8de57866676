//! What the PoP's agent tells the module in knotd, over a local socket and in the snapshot file that knotd starts with.
//!
//! A frame is a 4-byte length (big endian, of what follows), 8 bytes of XXH3-64 of the message (big endian), and the message in
//! CBOR. The snapshot file is [`SNAPSHOT_MAGIC`] and the frames that a module with nothing would be sent, the last one being
//! [`ToModule::SnapshotEnd`]: a file that was cut off is known by its absence. Verdicts are in a file of their own beside it, of the
//! same form ([`verdicts_file`]), as they change without any zone.
//!
//! ```text
//! agent                                                             module
//!  │ (connects)                                                       │
//!  │◀─ Hello {protocol, zones that it has with their generations} ────┤
//!  ├─ Begin Part* End  (a whole zone), or Delta ─────────────────────▶│ compiles beside what is in use
//!  │◀─ Prepared {zone, generation} │ Refused {zone, generation, why} ─┤
//!  │  (commits the zone to knotd: from here on the new serial is served, and with it the new steering)
//!  ├─ Settle {zone, generation} ─────────────────────────────────────▶│ the old steering is dropped
//!  ├─ Abort {zone, generation} ──────────────────────────────────────▶│ or the new, if knotd did not take the zone
//!  ├─ Remove {zone} ─────────────────────────────────────────────────▶│
//!  ├─ Geo {path, hash} ──────────────────────────────────────────────▶│ reads the table
//!  │◀─ GeoLoaded {hash, problem} ─────────────────────────────────────┤
//!  ├─ CountsKept {instance, sequence} ───────────────────────────────▶│ as soon as the agent wants counts, and for each batch it has kept
//!  │◀─ Counts {instance, sequence, rows} ─────────────────────────────┤ again and again until it is kept
//!  ├─ Firewall {part, path, hash} ───────────────────────────────────▶│ reads the rules, or the policy zones
//!  │◀─ FirewallLoaded {part, hash, problem} ──────────────────────────┤
//!  ├─ Verdicts {whose, all or what changed} ─────────────────────────▶│ from here on endpoints are up or down as they say
//!  ├─ Isolated {whether} ────────────────────────────────────────────▶│
//!  ├─ LogQueries {zones, for how long} ──────────────────────────────▶│ until then, or until this connection ends
//!  │◀─ Queries {by zone} ─────────────────────────────────────────────┤ once a second; what isn't read is dropped, and counted
//! ```
//!
//! A part is chosen by the serial of the zone that a query sees, so that a client gets records and steering of one generation.

use std::path::{Path, PathBuf};

pub use herald_core::firewall::{FirewallCount, FirewallPart};
use herald_core::{Generation, MonitorId, Name, RrKey, Rrset, ZoneId};
use minicbor::{Decode, Encode};

use crate::counts::Counts;

/// Version of what is spoken here.
pub const PROTOCOL: u16 = 1;

/// First octets of a snapshot file, its version among them.
pub const SNAPSHOT_MAGIC: &[u8; 16] = b"herald-steering1";

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The file of verdicts that goes with a snapshot file.
pub fn verdicts_file(snapshot: &Path) -> PathBuf {
    let mut file = snapshot.as_os_str().to_owned();
    file.push(".verdicts");
    file.into()
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ToModule {
    /// A whole zone follows; what the module has of it stays in use.
    #[n(0)]
    Begin(#[n(0)] ZoneHead),
    /// RRsets of the zone begun: its steering, and if insiders are to be answered from here its records too.
    #[n(1)]
    Part {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// RRsets.
        #[n(1)]
        rrsets: Vec<(RrKey, Rrset)>,
    },
    /// The zone is complete: it is compiled and answered with [`ToAgent::Prepared`] or [`ToAgent::Refused`].
    #[n(2)]
    End {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
    },
    /// What changes in a zone that the module has; answered like [`ToModule::End`].
    #[n(3)]
    Delta {
        /// The zone as it will be.
        #[n(0)]
        head: ZoneHead,
        /// The generation that this starts from: that of what is in use.
        #[n(1)]
        base: Generation,
        /// RRsets that are new or different.
        #[n(2)]
        puts: Vec<(RrKey, Rrset)>,
        /// RRsets that are gone.
        #[n(3)]
        deletes: Vec<RrKey>,
    },
    /// knotd serves the generation that was prepared: what was before is dropped.
    #[n(4)]
    Settle {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// The generation.
        #[n(1)]
        generation: Generation,
    },
    /// knotd did not take it: what was prepared is dropped.
    #[n(5)]
    Abort {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// The generation.
        #[n(1)]
        generation: Generation,
    },
    /// The zone has no steering any more, or is gone.
    #[n(6)]
    Remove {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
    },
    /// The table of places is this one from now on.
    #[n(7)]
    Geo {
        /// Its file.
        #[n(0)]
        path: String,
        /// SHA-256 of the file.
        #[cbor(n(1), with = "minicbor::bytes")]
        hash: Vec<u8>,
    },
    /// There is no table of places: rules that need one fall through.
    #[n(8)]
    NoGeo,
    /// The last frame of a snapshot file.
    #[n(9)]
    SnapshotEnd,
    /// Says how the module is; answered with [`ToAgent::Status`].
    #[n(10)]
    Ask,
    /// Counts up to this batch are durable with the agent. The first one of a connection asks for batches; one with the instance zero names
    /// none, and asks for all batches that aren't kept, again.
    #[n(20)]
    CountsKept {
        /// As in [`CountsBatch::instance`].
        #[n(0)]
        instance: u64,
        /// As in [`CountsBatch::sequence`].
        #[n(1)]
        sequence: u64,
    },
    /// This part of the firewall is in this file from now on. Only to a module that says in its hello that it has a firewall.
    #[n(24)]
    Firewall {
        /// Which one.
        #[n(0)]
        part: FirewallPart,
        /// Its file; empty if there is none of it from now on.
        #[n(1)]
        path: String,
        /// SHA-256 of the file, empty without one.
        #[cbor(n(2), with = "minicbor::bytes")]
        hash: Vec<u8>,
    },
    /// What is held of endpoints. Only for a module that says in its hello that it knows of it.
    #[n(11)]
    Verdicts {
        /// Whose verdicts these are.
        #[n(0)]
        whose: Whose,
        /// Whether all others are up.
        #[n(1)]
        is_all: bool,
        /// Monitors, and since when each is down, in seconds since the epoch; zero if it is up.
        #[n(2)]
        verdicts: Vec<(MonitorId, u32)>,
        /// The log's revision as of which they are true, in the agent's file of them.
        #[n(3)]
        as_of: Option<Generation>,
    },
    /// Whether the PoP is isolated: policies that want it so go by its own verdicts then. Only for a module that knows of verdicts.
    #[n(12)]
    Isolated {
        /// Whether it is.
        #[n(0)]
        is_isolated: bool,
    },
    /// Queries of these zones are logged, and of no others, for whoever says so last, and no longer than its connection lasts. Only for a
    /// module that says in its hello that it logs queries.
    #[n(28)]
    LogQueries {
        /// The zones, at most [`LOGGED_ZONES_MAX`].
        #[n(0)]
        zones: Vec<LoggedZone>,
    },
}

/// Zones whose queries are logged at a time.
pub const LOGGED_ZONES_MAX: usize = 1_000;

/// A zone whose queries are logged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LoggedZone {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// Its apex.
    #[n(1)]
    pub name: Name,
    /// Whether it is private, so that the module alone has it.
    #[n(2)]
    pub is_private: bool,
    /// One query in so many, by chance: 1 to 10,000.
    #[n(3)]
    pub one_in: u32,
    /// For how long from now on, in ms.
    #[n(4)]
    pub left_ms: u64,
}

/// What the module has in use of the firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct FirewallHashes {
    /// SHA-256 of the file of rules, empty if there is none.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub rules: Vec<u8>,
    /// SHA-256 of the file of policy zones, empty if there is none.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub policies: Vec<u8>,
}

impl FirewallHashes {
    /// SHA-256 of the file of a part.
    pub fn part(&self, part: FirewallPart) -> &[u8] {
        match part {
            FirewallPart::Rules => &self.rules,
            FirewallPart::Policies => &self.policies,
        }
    }

    /// The same, to be changed.
    pub fn part_mut(&mut self, part: FirewallPart) -> &mut Vec<u8> {
        match part {
            FirewallPart::Rules => &mut self.rules,
            FirewallPart::Policies => &mut self.policies,
        }
    }
}

/// Whose verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Whose {
    /// The control plane's.
    #[n(0)]
    Herald,
    /// The PoP's own; where it has none, the control plane's last ones.
    #[n(1)]
    Local,
}

/// A zone at a generation.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ZoneHead {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// Its apex.
    #[n(1)]
    pub name: Name,
    /// Its generation.
    #[n(2)]
    pub generation: Generation,
    /// The serial that the zone's SOA has at that generation.
    #[n(3)]
    pub serial: u32,
    /// Whether it is private: knotd doesn't have it, and it exists for those inside its views alone.
    #[n(4)]
    pub private: bool,
    /// Its SOA, as served: insiders' negative answers carry it.
    #[n(5)]
    pub soa: Rrset,
}

/// From the module.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ToAgent {
    /// Whoever connects is told first.
    #[n(0)]
    Hello {
        /// [`PROTOCOL`].
        #[n(0)]
        protocol: u16,
        /// Version of the module.
        #[n(1)]
        version: String,
        /// What it has in use. Several frames if these are many; the last one says so.
        #[n(2)]
        zones: Vec<(ZoneId, Generation)>,
        /// Whether this is the last frame of the kind.
        #[n(3)]
        last: bool,
        /// SHA-256 of the table of places in use, empty if there is none.
        #[cbor(n(4), with = "minicbor::bytes")]
        geo: Vec<u8>,
        /// Whether it counts queries, and says so to who sends [`ToModule::CountsKept`].
        #[n(5)]
        counts: Option<bool>,
        /// What it has of the firewall; none if it is too old to have one.
        #[n(24)]
        firewall: Option<FirewallHashes>,
        /// Whether it knows of verdicts.
        #[cbor(n(6), default)]
        knows_verdicts: bool,
        /// Whether it logs queries.
        #[cbor(n(28), default)]
        logs_queries: bool,
    },
    /// The zone is compiled, and in use as soon as its serial is served.
    #[n(1)]
    Prepared {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// The generation.
        #[n(1)]
        generation: Generation,
    },
    /// It isn't, and what was in use stays.
    #[n(2)]
    Refused {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// The generation.
        #[n(1)]
        generation: Generation,
        /// Why, in words.
        #[n(2)]
        reason: String,
    },
    /// Answers [`ToModule::Geo`].
    #[n(3)]
    GeoLoaded {
        /// Of the file.
        #[cbor(n(0), with = "minicbor::bytes")]
        hash: Vec<u8>,
        /// Why it isn't in use, if it isn't: what was before stays.
        #[n(1)]
        problem: Option<String>,
    },
    /// Answers [`ToModule::Firewall`].
    #[n(24)]
    FirewallLoaded {
        /// Which part.
        #[n(0)]
        part: FirewallPart,
        /// Of the file.
        #[cbor(n(1), with = "minicbor::bytes")]
        hash: Vec<u8>,
        /// Why it isn't in use, if it isn't: what was before stays.
        #[n(2)]
        problem: Option<String>,
    },
    /// Answers [`ToModule::Ask`].
    #[n(4)]
    Status(#[n(0)] ModuleStatus),
    /// Counts of queries.
    #[n(20)]
    Counts(#[n(0)] CountsBatch),
    /// Queries that are logged.
    #[n(28)]
    Queries {
        /// Zone by zone.
        #[n(0)]
        zones: Vec<LoggedQueries>,
    },
}

/// What was logged of a zone since the last time.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LoggedQueries {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// Queries that were to be logged and were left out, as there were too many.
    #[n(1)]
    pub left_out: u64,
    /// Queries, in order.
    #[n(2)]
    pub queries: Vec<LoggedQuery>,
}

/// A query, and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LoggedQuery {
    /// When, in ms since the epoch, by the clock of the machine; to some 50 ms.
    #[n(0)]
    pub time_ms: u64,
    /// The name asked for, in small letters.
    #[n(1)]
    pub name: Name,
    /// The type asked for.
    #[n(2)]
    pub rtype: u16,
    /// The response code, the extended one.
    #[n(3)]
    pub rcode: u16,
    /// How it came, as [`Transport`](crate::counts::Transport) has it.
    #[n(4)]
    pub transport: u8,
    /// Where it came from: 4 or 16 octets.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub source: Vec<u8>,
    /// EDNS of the query, if it had any.
    #[n(6)]
    pub edns: Option<LoggedEdns>,
    /// Octets of the answer; zero if there was none.
    #[n(7)]
    pub answer_bytes: u32,
    /// Whether the answer was truncated.
    #[n(8)]
    pub is_truncated: bool,
    /// Whether it wasn't answered, on purpose.
    #[n(9)]
    pub is_dropped: bool,
    /// The name of the policy that was asked first, if one was.
    #[n(10)]
    pub policy: Option<String>,
    /// The pool that answered.
    #[n(11)]
    pub pool: Option<String>,
}

/// EDNS of a query.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LoggedEdns {
    /// Octets of an answer that it takes.
    #[n(0)]
    pub udp_bytes: u16,
    /// Whether signatures are asked for.
    #[n(1)]
    pub wants_dnssec: bool,
    /// First address (4 or 16 octets) and length of the client subnet that came with it.
    #[n(2)]
    pub subnet: Option<LoggedSubnet>,
}

/// A client subnet (RFC 7871).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LoggedSubnet {
    /// 4 or 16 octets.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub address: Vec<u8>,
    /// How many bits of it were told.
    #[n(1)]
    pub length: u8,
}

/// Counts of queries since the batch before. Of one instance they come in order, each as often as it takes.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct CountsBatch {
    /// Drawn by each process that counts.
    #[n(0)]
    pub instance: u64,
    /// From 1 on, of each instance.
    #[n(1)]
    pub sequence: u64,
    /// What was counted.
    #[n(2)]
    pub rows: Vec<CountsRow>,
}

/// Counts of a zone in a minute.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct CountsRow {
    /// The zone's name; none for what is of no zone.
    #[n(0)]
    pub name: Option<Name>,
    /// The zone, where the module knows which one of the name it is.
    #[n(1)]
    pub zone: Option<ZoneId>,
    /// The minute that it was counted in: since 1970, by the clock of the machine.
    #[n(2)]
    pub minute: u64,
    /// Counts.
    #[n(3)]
    pub counts: Counts,
}

/// How the module is.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct ModuleStatus {
    /// Zones with steering in use.
    #[n(0)]
    pub zones: u64,
    /// Panics that were caught in the query path since the start.
    #[n(1)]
    pub panics: u64,
    /// Placeholders that no policy was found for: answered with SERVFAIL.
    #[n(2)]
    pub undecided: u64,
    /// Bytes of all compiled zones, about.
    #[n(3)]
    pub bytes: u64,
    /// Queries that were counted since the start.
    #[n(4)]
    pub counted: Option<u64>,
    /// Of these, queries of which no more than zone and kind of response code was counted, as there was no room for more.
    #[n(5)]
    pub counted_coarsely: Option<u64>,
    /// How often rules and policy zones were for queries; what never was is left out.
    #[n(24)]
    pub firewall: Option<Vec<FirewallCount>>,
    /// Monitors that are down by the control plane's verdicts.
    #[cbor(n(6), default)]
    pub down: u64,
    /// Whether policies that want it so go by the PoP's own verdicts.
    #[cbor(n(7), default)]
    pub is_isolated: bool,
    /// Zones whose queries are logged.
    #[cbor(n(28), default)]
    pub logged_zones: u64,
    /// Queries that were logged since the start, and those that were left out as there were too many.
    #[cbor(n(29), default)]
    pub logged: u64,
    /// See above.
    #[cbor(n(30), default)]
    pub left_out: u64,
}

/// What is wrong with a frame. The connection, or the file from here on, is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes is over the limit of {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
    /// Its octets aren't what was written.
    #[error("a message is damaged")]
    Damaged,
    /// Not a message of this protocol.
    #[error("a message can't be read: {0}")]
    Malformed(#[from] minicbor::decode::Error),
}

/// Octets of a frame before its message.
const HEADER_BYTES: usize = 12;

/// Appends a message to `out` as a frame.
///
/// # Panics
/// Never for messages within [`MESSAGE_BYTES_MAX`]; longer ones are a bug of the sender.
pub fn encode_frame<M: Encode<()>>(message: &M, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    minicbor::encode(message, &mut *out).expect("writing to a Vec can't fail");
    let body = start + HEADER_BYTES;
    let length = out.len() - body;
    assert!(length <= MESSAGE_BYTES_MAX, "a message of {length} bytes");
    let sum = xxhash_rust::xxh3::xxh3_64(&out[body..]);
    out[start..start + 4].copy_from_slice(&u32::try_from(length).expect("checked").to_be_bytes());
    out[start + 4..body].copy_from_slice(&sum.to_be_bytes());
}

/// Takes the first whole frame off `bytes`: how many bytes it had and its message, or `None` if more is needed.
///
/// # Errors
/// [`FrameError`]; nothing after it can be read.
pub fn decode_frame<'a, M: Decode<'a, ()>>(bytes: &'a [u8]) -> Result<Option<(usize, M)>, FrameError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let (length, sum) = header.split_at(4);
    let length = length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    if length > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let Some(body) = bytes.get(HEADER_BYTES..HEADER_BYTES + length) else { return Ok(None) };
    if xxhash_rust::xxh3::xxh3_64(body).to_be_bytes() != sum {
        return Err(FrameError::Damaged);
    }
    Ok(Some((HEADER_BYTES + length, minicbor::decode(body)?)))
}
