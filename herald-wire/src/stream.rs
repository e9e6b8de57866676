//! The session between the control plane and a PoP, protocol version 1.
//!
//! The PoP dials. Both sides send frames over one TCP connection (TLS unless on loopback): a
//! 4-byte length (big endian, of what follows), then one [`ToHerald`] or [`ToPop`] message in CBOR. Fields carry
//! numbers, unknown fields are skipped, so that a newer side can add to them.
//!
//! ```text
//! PoP                                            herald
//!  │ Hello {credential, newest generation, bucket digests} │
//!  ├──────────────────────────────────────────────────────▶│ refuses, or
//!  │◀──────────────────────────────────────────────────────┤ Welcome {epoch, head, buckets that differ}
//!  ├─ Inventory {zones of these buckets} ─────────────────▶│ compares zone by zone
//!  │◀─ Delta │ ZoneBegin ZonePart* ZoneEnd │ Remove ───────┤ pipelined; bulk yields to deltas
//!  ├─ Applied {zone, generation}* ────────────────────────▶│ receipts
//!  ├─ Refused {zone, why} ────────────────────────────────▶│ gap: the whole zone follows
//!  ├─ BulkCredit {bytes} ─────────────────────────────────▶│ bulk in flight is bounded
//!  ├─ Status ─────────────────────────────────────────────▶│ once a second; so is Ping the other way
//!  │◀─ Ping {what the PoP should hold by now, in sum} ─────┤ compared by the PoP once all before it is taken in
//!  ├─ Drifted {bucket digests} ───────────────────────────▶│ if it holds something else
//!  │◀─ Compare {buckets that differ} ──────────────────────┤ answered by Inventory, as after Welcome
//!  │◀─ GeoOffer {hash, bytes} ─────────────────────────────┤ only to who says in Hello that it knows of it; of the firewall's files likewise
//!  ├─ GeoWant {hash, from, to} ───────────────────────────▶│ again and again, from where it left off
//!  │◀─ GeoPart* ───────────────────────────────────────────┤ whenever there is nothing else to be sent
//!  │◀─ Probes {monitors, all or what changed} ─────────────┤ only to who says in Hello that it knows of monitors
//!  ├─ Probed {what is seen}* ─────────────────────────────▶│ at each change, all of it after Probes with all, and what Probes wants now
//!  │◀─ Verdicts {all or what changed} ─────────────────────┤ before anything else
//!  │◀─ QueryLogs {all or what changed} ────────────────────┤ only to who says in Hello that it logs queries, before any zone
//! ```

use std::net::IpAddr;

use herald_core::alias::watch::Found;
use herald_core::firewall::{FirewallCount, FirewallPart};
use herald_core::monitor::{Check, Pace};
use herald_core::steering::Prefix;
use herald_core::{Generation, MonitorId, Name, RrKey, Rrset, ZoneId};
use minicbor::{Decode, Encode};

/// Version of the protocol spoken here. A side that can't speak the other's is refused with words.
pub const PROTOCOL: u16 = 1;

/// Longest frame that is accepted, in bytes, its length field not counted.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many inventory buckets there are: a zone is in the one that its id's last byte names.
pub const BUCKETS: usize = 256;

/// How many bytes of bulk parts may be on their way without the PoP having credited them.
pub const BULK_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// How many bytes of the table of places may be asked for at once.
pub const GEO_WINDOW_BYTES: u64 = 1024 * 1024;

/// A zone's place among the inventory buckets.
pub fn bucket_of(zone: ZoneId) -> usize {
    (zone.0 & 0xff) as usize
}

/// What one zone adds to its bucket's digest; a bucket's digest is the wrapping sum over its zones.
pub fn inventory_digest(zone: ZoneId, generation: Generation, content_digest: u128) -> u128 {
    let mut bytes = [0u8; 48];
    bytes[..16].copy_from_slice(&zone.0.to_be_bytes());
    bytes[16..24].copy_from_slice(&generation.epoch.to_be_bytes());
    bytes[24..32].copy_from_slice(&generation.counter.to_be_bytes());
    bytes[32..].copy_from_slice(&content_digest.to_be_bytes());
    herald_core::digest128(&bytes)
}

/// From the PoP.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ToHerald {
    /// First frame of a session.
    #[n(0)]
    Hello(#[n(0)] Hello),
    /// The zones of the buckets that were asked for; several frames if long, the last one says so.
    #[n(1)]
    Inventory {
        /// Zones that the replica holds.
        #[n(0)]
        zones: Vec<InventoryZone>,
        /// Whether this is the last frame of the inventory.
        #[n(1)]
        last: bool,
    },
    /// These generations are durable in the replica and answered by Knot.
    #[n(2)]
    Applied {
        /// Zone and generation.
        #[n(0)]
        zones: Vec<ZoneGeneration>,
    },
    /// A publication could not be applied.
    #[n(3)]
    Refused(#[n(0)] Refused),
    /// Frames of [`ToPop::ZonePart`] were taken in: as many more bytes of them may be sent. What counts is the whole
    /// frame with its length.
    #[n(4)]
    BulkCredit {
        /// Bytes.
        #[n(0)]
        bytes: u64,
    },
    /// How the PoP is.
    #[n(5)]
    Status(#[n(0)] AgentStatus),
    /// The replica holds something else than the last [`ToPop::Ping`] said, all frames before it taken in. The control
    /// plane answers with [`ToPop::Compare`], and what differs comes again, zone by zone.
    #[n(6)]
    Drifted {
        /// As in [`Hello::bucket_digests`].
        #[cbor(n(0), with = "minicbor::bytes")]
        bucket_digests: Vec<u8>,
    },
    /// Send some of the table of places that was offered: at most [`GEO_WINDOW_BYTES`].
    #[n(7)]
    GeoWant {
        /// SHA-256 of the table.
        #[cbor(n(0), with = "minicbor::bytes")]
        hash: Vec<u8>,
        /// The first byte.
        #[n(1)]
        from: u64,
        /// The byte after the last one.
        #[n(2)]
        to: u64,
        /// The part of the firewall that it is of; none of the table of places.
        #[n(3)]
        part: Option<FirewallPart>,
    },
    /// What the PoP sees of monitors that it probes.
    #[n(8)]
    Probed {
        /// Monitor by monitor.
        #[n(0)]
        seen: Vec<Seen>,
        /// How probes went that were asked for by [`Probes::now`].
        #[n(1)]
        answers: Option<Vec<ProbeAnswer>>,
    },
    /// What the PoP finds of targets of ALIAS records that it resolves.
    #[n(16)]
    Resolved {
        /// Target by target.
        #[n(0)]
        targets: Vec<TargetSeen>,
    },
}

/// From the control plane.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ToPop {
    /// The session stands.
    #[n(0)]
    Welcome(#[n(0)] Welcome),
    /// It doesn't; the connection is closed after this.
    #[n(1)]
    Reject {
        /// Why, in words for the PoP's operator.
        #[n(0)]
        reason: String,
    },
    /// RRsets of one zone changed.
    #[n(2)]
    Delta(#[n(0)] ZoneDelta),
    /// A whole zone follows in parts; what the PoP has of it stays served until [`ToPop::ZoneEnd`]. A zone of
    /// another id and the same name is then replaced in the same step, and both are confirmed, unless one of them is private.
    #[n(3)]
    ZoneBegin(#[n(0)] ZoneBegin),
    /// RRsets of a zone begun, in canonical order. Other messages, whole small zones too, may come between parts.
    #[n(4)]
    ZonePart {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// RRsets.
        #[n(1)]
        rrsets: Vec<ZoneRrset>,
    },
    /// The zone is complete.
    #[n(5)]
    ZoneEnd {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
    },
    /// The zone is not served any more.
    #[n(6)]
    Remove {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// Generation of the removal.
        #[n(1)]
        generation: Generation,
    },
    /// Once a second: the control plane lives, and how the PoP stands.
    #[n(7)]
    Ping {
        /// The control plane's newest generation.
        #[n(0)]
        head: Generation,
        /// Whether the PoP confirmed all that it is to serve.
        #[n(1)]
        in_sync: bool,
        /// What the replica must hold once it has taken in all frames before this one; none while whole zones are
        /// still on their way.
        #[n(2)]
        holding: Option<Holding>,
    },
    /// Send the inventory of these buckets, as it is once all frames before this one are taken in.
    #[n(8)]
    Compare {
        /// Numbers of the buckets; empty: nothing differs any more.
        #[n(0)]
        buckets: Vec<u16>,
    },
    /// The table of places that the PoP is to steer by.
    #[n(9)]
    GeoOffer {
        /// SHA-256 of the table; empty: none.
        #[cbor(n(0), with = "minicbor::bytes")]
        hash: Vec<u8>,
        /// Its length.
        #[n(1)]
        bytes: u64,
        /// The part of the firewall that it is, only to who says in Hello that it has a firewall; none: it is the table of places.
        #[n(2)]
        part: Option<FirewallPart>,
    },
    /// Some of the table of places.
    #[n(10)]
    GeoPart {
        /// SHA-256 of the table.
        #[cbor(n(0), with = "minicbor::bytes")]
        hash: Vec<u8>,
        /// The first byte.
        #[n(1)]
        from: u64,
        /// The bytes.
        #[cbor(n(2), with = "minicbor::bytes")]
        bytes: Vec<u8>,
        /// As in the offer.
        #[n(3)]
        part: Option<FirewallPart>,
    },
    /// What the PoP is to probe.
    #[n(11)]
    Probes(#[n(0)] Probes),
    /// What is held of endpoints.
    #[n(12)]
    Verdicts {
        /// The log's revision as of which these are true: what is older than what the PoP has is passed over.
        #[n(0)]
        as_of: Generation,
        /// Whether these are all monitors that are down, and all others are up.
        #[n(1)]
        is_all: bool,
        /// Monitor by monitor.
        #[n(2)]
        verdicts: Vec<MonitorVerdict>,
    },
    /// What the PoP is to resolve, with its own resolver.
    #[n(16)]
    Targets(#[n(0)] Targets),
    /// Zones whose queries the PoP is to log.
    #[n(28)]
    QueryLogs(#[n(0)] QueryLogs),
}

/// Zones whose queries a PoP logs.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct QueryLogs {
    /// Whether what isn't here isn't to be logged any more.
    #[n(0)]
    pub is_all: bool,
    /// New ones, and those that are different.
    #[n(1)]
    pub puts: Vec<LoggedZone>,
    /// Those that aren't to be logged any more.
    #[n(2)]
    pub deletes: Vec<ZoneId>,
}

/// A zone whose queries are logged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LoggedZone {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// Its apex.
    #[n(1)]
    pub name: Name,
    /// Whether it is private.
    #[n(2)]
    pub is_private: bool,
    /// One query in so many, by chance.
    #[n(3)]
    pub one_in: u32,
    /// For how long from now on, in ms, whatever becomes of the session.
    #[n(4)]
    pub left_ms: u64,
}

/// Targets of ALIAS records that a PoP resolves.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Targets {
    /// Whether what isn't here isn't to be resolved any more.
    #[n(0)]
    pub is_all: bool,
    /// New ones.
    #[n(1)]
    pub puts: Vec<Name>,
    /// Those that are gone.
    #[n(2)]
    pub deletes: Vec<Name>,
}

/// What a PoP found of a target.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TargetSeen {
    /// The target.
    #[n(0)]
    pub target: Name,
    /// Its IPv4 addresses.
    #[n(1)]
    pub a: Found,
    /// Its IPv6 addresses.
    #[n(2)]
    pub aaaa: Found,
    /// For so long it has been so, in ms.
    #[n(3)]
    pub for_ms: u64,
}

/// Monitors that a PoP probes, or would probe.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Probes {
    /// Whether what isn't here isn't to be probed any more.
    #[n(0)]
    pub is_all: bool,
    /// New ones, and those that are different.
    #[n(1)]
    pub puts: Vec<Probe>,
    /// Those that are gone.
    #[n(2)]
    pub deletes: Vec<MonitorId>,
    /// Prefixes of special-purpose addresses (IANA's registries) that may be probed nevertheless, by the operator's word.
    #[n(3)]
    pub allowed: Vec<Prefix>,
    /// Prefixes that may not be probed, whatever else is said: the platform's own, by the operator's word.
    #[n(4)]
    pub refused: Vec<Prefix>,
    /// What is to be probed once at once, beside what is due. Who doesn't know of it doesn't answer.
    #[n(5)]
    pub now: Option<Vec<ProbeNow>>,
    /// Addresses of the platform's hosts, ascending: they may not be probed, unless one is allowed alone.
    #[n(6)]
    pub own: Option<Vec<IpAddr>>,
}

/// A monitor that is to be probed once at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ProbeNow {
    /// Names the request in the answer.
    #[n(0)]
    pub request: u64,
    /// Which monitor.
    #[n(1)]
    pub monitor: MonitorId,
}

/// How a probe went that was asked for at once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ProbeAnswer {
    /// The request.
    #[n(0)]
    pub request: u64,
    /// Whether it went as it should; none if it can't be told from there.
    #[n(1)]
    pub good: Option<bool>,
    /// In words.
    #[n(2)]
    pub cause: String,
    /// How long it took, in microseconds.
    #[n(3)]
    pub took_us: u64,
    /// When the certificate ends, in seconds since the epoch.
    #[n(4)]
    pub certificate_ends_s: Option<u64>,
}

/// A monitor, as PoPs know it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Probe {
    /// Which.
    #[n(0)]
    pub monitor: MonitorId,
    /// Its revision: what is seen is told with it.
    #[n(1)]
    pub revision: u64,
    /// What is asked.
    #[n(2)]
    pub check: Check,
    /// How often, and what to make of what is seen.
    #[n(3)]
    pub pace: Pace,
    /// Whether this PoP was chosen for it. One that wasn't probes only while it is isolated.
    #[n(4)]
    pub is_chosen: bool,
    /// Where it wasn't: whether there are policies that go by its own probes while it is isolated. If that isn't said, there may be.
    #[n(5)]
    pub is_local: Option<bool>,
}

/// What a PoP sees of a monitor.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Seen {
    /// Which.
    #[n(0)]
    pub monitor: MonitorId,
    /// The revision of the monitor that was probed by.
    #[n(1)]
    pub revision: u64,
    /// Whether it is up, by as many probes in a row as its pace asks for; none before that, or where it can't be probed.
    #[n(2)]
    pub up: Option<bool>,
    /// How the last probe went, in words.
    #[n(3)]
    pub cause: String,
    /// For so long it has been seen like that, in ms.
    #[n(4)]
    pub for_ms: u64,
    /// How long the last good probe took, in microseconds.
    #[n(5)]
    pub took_us: Option<u64>,
    /// When the certificate ends, in seconds since the epoch.
    #[n(6)]
    pub certificate_ends_s: Option<u64>,
}

/// What is held of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MonitorVerdict {
    /// Its monitor.
    #[n(0)]
    pub monitor: MonitorId,
    /// Since when it is down, in seconds since the epoch; none if it is up or nothing is known.
    #[n(1)]
    pub down_since_s: Option<u32>,
}

/// All zones of a PoP in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Holding {
    /// How many there are.
    #[n(0)]
    pub zones: u64,
    /// The wrapping sum of their [`inventory_digest`]s, which is that of the bucket digests.
    #[cbor(n(1), with = "herald_core::cbor_u128")]
    pub digest: u128,
}

/// Opens a session.
#[derive(Clone, PartialEq, Encode, Decode)]
pub struct Hello {
    /// [`PROTOCOL`].
    #[n(0)]
    pub protocol: u16,
    /// Name of the PoP.
    #[n(1)]
    pub pop: String,
    /// Its credential.
    #[n(2)]
    pub secret: String,
    /// Version of the agent.
    #[n(3)]
    pub agent_version: String,
    /// Newest generation it has taken from any control plane: an older control plane is refused by it.
    #[n(4)]
    pub newest: Generation,
    /// [`BUCKETS`] digests of 16 bytes (big endian), one after another.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub bucket_digests: Vec<u8>,
    /// The table of places it has; none if it can't be offered one.
    #[n(6)]
    pub geo: Option<GeoStatus>,
    /// As of when it has verdicts, [`Generation::default`] if it has none; none if it knows of no monitors.
    #[n(7)]
    pub verdicts: Option<Generation>,
    /// Whether it keeps private zones from everybody but their insiders. Who doesn't say so would serve them to all, and is
    /// refused as long as there are any.
    #[n(8)]
    pub knows_private: Option<bool>,
    /// The files of the firewall that it has; none if it has no firewall.
    #[n(20)]
    pub firewall: Option<FirewallFiles>,
    /// Whether it has a resolver for targets of ALIAS records; none if it knows of none.
    #[n(12)]
    pub resolves: Option<bool>,
    /// Whether it can log queries; none if it knows of no such thing.
    #[n(28)]
    pub logs_queries: Option<bool>,
}

impl std::fmt::Debug for Hello {
    /// Without the credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("protocol", &self.protocol)
            .field("pop", &self.pop)
            .field("agent_version", &self.agent_version)
            .field("newest", &self.newest)
            .finish_non_exhaustive()
    }
}

/// Answers [`Hello`].
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Welcome {
    /// [`PROTOCOL`].
    #[n(0)]
    pub protocol: u16,
    /// Version of the control plane.
    #[n(1)]
    pub herald_version: String,
    /// Its head.
    #[n(2)]
    pub head: Generation,
    /// Numbers of the buckets whose digests differ: send their inventory. Empty: nothing is missing.
    #[n(3)]
    pub buckets: Vec<u16>,
    /// Where the HTTP API listens, on the same host unless the PoP is told otherwise.
    #[n(20)]
    pub api: Option<ApiListener>,
}

/// Where the HTTP API listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ApiListener {
    /// Its port.
    #[n(0)]
    pub port: u16,
    /// Whether it speaks TLS.
    #[n(1)]
    pub tls: bool,
}

/// A zone in the replica.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct InventoryZone {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// What it has of it.
    #[n(1)]
    pub generation: Generation,
    /// Digest of its content.
    #[cbor(n(2), with = "herald_core::cbor_u128")]
    pub digest: u128,
    /// Its apex, if known: who takes the name over is no loss of a zone. Nobody takes over that of a private one, and none is told.
    #[n(3)]
    pub name: Option<Name>,
    /// How many RRsets it has with its SOA, if known: by it a loss of many is noticed before it is done.
    #[n(4)]
    pub rrset_count: Option<u64>,
}

/// A zone at a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ZoneGeneration {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// The generation.
    #[n(1)]
    pub generation: Generation,
}

/// Why a publication was not applied.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Refused {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// The generation that was refused.
    #[n(1)]
    pub generation: Generation,
    /// In one word.
    #[n(2)]
    pub cause: RefusalCause,
    /// In words.
    #[n(3)]
    pub reason: String,
    /// What the replica has of the zone, if anything.
    #[n(4)]
    pub have: Option<Generation>,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum RefusalCause {
    /// The delta's base is not what the replica has, or the digests differ afterwards: send the whole zone.
    #[n(0)]
    Gap,
    /// The replica has a newer generation.
    #[n(1)]
    Older,
    /// Knot would not take it; the last good state is served.
    #[n(2)]
    Knot,
    /// The replica could not be written (a full disk); it will be tried again.
    #[n(3)]
    Replica,
}

/// What changed in one zone between two generations.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ZoneDelta {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// The generation it starts from.
    #[n(1)]
    pub base: Generation,
    /// The generation it leads to.
    #[n(2)]
    pub generation: Generation,
    /// Digest of the content afterwards (the SOA included).
    #[cbor(n(3), with = "herald_core::cbor_u128")]
    pub digest: u128,
    /// RRsets that are new or different; the SOA is always among them.
    #[n(4)]
    pub puts: Vec<ZoneRrset>,
    /// RRsets that are gone.
    #[n(5)]
    pub deletes: Vec<RrKey>,
}

/// An RRset with its key.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ZoneRrset {
    /// Owner and type.
    #[n(0)]
    pub key: RrKey,
    /// TTL and RDATA.
    #[n(1)]
    pub rrset: Rrset,
}

/// A whole zone is coming.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ZoneBegin {
    /// The zone.
    #[n(0)]
    pub zone: ZoneId,
    /// Its apex.
    #[n(1)]
    pub name: Name,
    /// Its generation.
    #[n(2)]
    pub generation: Generation,
    /// Digest of its content (the SOA included).
    #[cbor(n(3), with = "herald_core::cbor_u128")]
    pub digest: u128,
    /// How many RRsets come.
    #[n(4)]
    pub rrset_count: u64,
    /// Whether it is private: it exists for those alone who are inside its views, and its name is in no other zone's way.
    #[n(5)]
    pub private: Option<bool>,
}

impl ZoneBegin {
    /// Whether it is private.
    pub fn is_private(&self) -> bool {
        self.private == Some(true)
    }
}

/// What a PoP says of itself, once a second.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct AgentStatus {
    /// Version of Knot DNS, empty while unknown.
    #[n(0)]
    pub knot_version: String,
    /// Whether knotd runs.
    #[n(1)]
    pub knot_running: bool,
    /// Zones in the replica.
    #[n(2)]
    pub zones: u64,
    /// Newest generation in the replica.
    #[n(3)]
    pub newest: Generation,
    /// The module in knotd; none where there is none, or from an agent that knows of none.
    #[n(4)]
    pub module: Option<ModuleState>,
    /// The table of places it has; none if it knows of no such thing.
    #[n(5)]
    pub geo: Option<GeoStatus>,
    /// The firewall's files that it has, and what they counted; none if it has no firewall.
    #[n(20)]
    pub firewall: Option<FirewallFiles>,
    /// Addresses of its host, loopback and link-local ones left out; none if it doesn't tell.
    #[n(7)]
    pub addresses: Option<Vec<IpAddr>>,
}

/// The module in knotd, as a PoP tells of it.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct ModuleState {
    /// Whether it can be told of changes.
    #[n(0)]
    pub connected: bool,
    /// Its version.
    #[n(1)]
    pub version: String,
    /// Zones with steering that it has.
    #[n(2)]
    pub zones: u64,
    /// Panics that were caught since knotd was started.
    #[n(3)]
    pub panics: u64,
    /// Answers to steered names that could not be decided.
    #[n(4)]
    pub undecided: u64,
    /// SHA-256 of the table of places that it has, in hexadecimal; empty if it has none.
    #[n(5)]
    pub geo: String,
}

/// The firewall of a PoP.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct FirewallFiles {
    /// The file of rules.
    #[n(0)]
    pub rules: GeoStatus,
    /// The file of policy zones.
    #[n(1)]
    pub policies: GeoStatus,
    /// How often each was for a query since knotd started, those that never were left out. Not in [`Hello`].
    #[n(2)]
    pub counts: Vec<FirewallCount>,
    /// SHA-256 of the file of rules that queries are decided by; empty: none.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub rules_in_use: Vec<u8>,
    /// Likewise of policy zones.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub policies_in_use: Vec<u8>,
}

impl FirewallFiles {
    /// The file of a part.
    pub fn part(&self, part: FirewallPart) -> &GeoStatus {
        match part {
            FirewallPart::Rules => &self.rules,
            FirewallPart::Policies => &self.policies,
        }
    }

    /// SHA-256 of the file of a part that queries are decided by; empty: none.
    pub fn in_use(&self, part: FirewallPart) -> &[u8] {
        match part {
            FirewallPart::Rules => &self.rules_in_use,
            FirewallPart::Policies => &self.policies_in_use,
        }
    }
}

/// The table of places that a PoP has. Of a file of the firewall, there are no databases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct GeoStatus {
    /// SHA-256 of the one in use; empty: none.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub hash: Vec<u8>,
    /// The database of places that it was made from.
    #[n(1)]
    pub city: Option<GeoDatabase>,
    /// The database of autonomous systems that it was made from.
    #[n(2)]
    pub asn: Option<GeoDatabase>,
    /// What is wrong.
    #[n(3)]
    pub problem: Option<GeoProblem>,
}

/// A database that a table was made from.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GeoDatabase {
    /// What it calls itself.
    #[n(0)]
    pub kind: String,
    /// When it was built, in seconds since the epoch.
    #[n(1)]
    pub built_s: u64,
}

/// A table that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GeoProblem {
    /// Its SHA-256.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub hash: Vec<u8>,
    /// Why, in words.
    #[n(1)]
    pub reason: String,
}

/// What is wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// Not a message of this protocol.
    #[error("a frame can't be read: {0}")]
    Malformed(#[from] minicbor::decode::Error),
}

/// Appends a message to `out` as a frame.
///
/// # Panics
/// Never for messages within [`FRAME_BYTES_MAX`]; longer ones are a bug of the sender.
pub fn encode_frame<M: Encode<()>>(message: &M, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    minicbor::encode(message, &mut *out).expect("writing to a Vec can't fail");
    let length = out.len() - start - 4;
    assert!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
    out[start..start + 4].copy_from_slice(&u32::try_from(length).expect("checked").to_be_bytes());
}

/// Takes the first whole frame off `bytes`: how many bytes it had and its message, or `None` if more is needed.
///
/// # Errors
/// [`FrameError`] if the frame is too long or not a message; the session is then to be closed.
pub fn decode_frame<'a, M: Decode<'a, ()>>(bytes: &'a [u8]) -> Result<Option<(usize, M)>, FrameError> {
    let Some(header) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*header) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let Some(body) = bytes[4..].get(..length) else { return Ok(None) };
    Ok(Some((4 + length, minicbor::decode(body)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_core::{Rdatas, Rtype};

    fn delta() -> ToPop {
        let key = RrKey::new(Name::parse("www.example.com").unwrap(), Rtype::A);
        let rrset = Rrset { ttl: 300, rdatas: Rdatas::single(&[192, 0, 2, 1]) };
        let (base, generation) = (Generation { epoch: 1, counter: 7 }, Generation { epoch: 2, counter: 9 });
        let (puts, deletes) = (vec![ZoneRrset { key: key.clone(), rrset }], vec![key]);
        ToPop::Delta(ZoneDelta { zone: ZoneId(5), base, generation, digest: u128::MAX, puts, deletes })
    }

    #[test]
    fn frames_come_apart_as_they_were_put_together() {
        let ping = ToPop::Ping { head: Generation { epoch: 1, counter: 1 }, in_sync: true, holding: None };
        let mut bytes = Vec::new();
        encode_frame(&delta(), &mut bytes);
        encode_frame(&ping, &mut bytes);
        let (first_bytes, first) = decode_frame::<ToPop>(&bytes).unwrap().unwrap();
        assert_eq!(first, delta());
        let (second_bytes, second) = decode_frame::<ToPop>(&bytes[first_bytes..]).unwrap().unwrap();
        assert_eq!(second, ping);
        assert_eq!(first_bytes + second_bytes, bytes.len());
        for cut in 0..first_bytes {
            assert!(
                decode_frame::<ToPop>(&bytes[..cut]).unwrap().is_none(),
                "{cut} bytes are not yet a frame"
            );
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        assert!(matches!(decode_frame::<ToPop>(&[0xff; 8]), Err(FrameError::TooLong(_))));
        assert!(matches!(decode_frame::<ToPop>(&[0, 0, 0, 1, 0xff]), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn a_hello_shown_keeps_its_secret() {
        let hello = Hello {
            protocol: PROTOCOL,
            pop: "fra1".into(),
            secret: "swordfish".into(),
            agent_version: "1".into(),
            newest: Generation::default(),
            bucket_digests: Vec::new(),
            geo: None,
            verdicts: None,
            knows_private: None,
            firewall: None,
            resolves: None,
            logs_queries: None,
        };
        assert!(!format!("{:?}", ToHerald::Hello(hello)).contains("swordfish"));
    }
}
