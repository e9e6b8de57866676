//! Facts: what `decide` finds, the log keeps and `apply` folds into the state.
//!
//! Their encoding is persistent. A variant or field number is never used again for something else; what is
//! added is optional or a new number.

use std::collections::BTreeMap;
use std::net::IpAddr;

use minicbor::{Decode, Encode};

use crate::account::{NsSet, Pop, Tenant, Token};
use crate::brakes::Brakes;
use crate::channel::Channel;
use crate::content::{Content, Difference};
use crate::firewall::{Owner, PolicyZone, Rule};
use crate::geoip::Geoip;
use crate::idempotency::Request;
use crate::monitor::{Monitor, ProbeRules, VerdictChange};
use crate::query_log::QueryLog;
use crate::zone::{SoaFields, Zone};
use crate::{ChannelId, MonitorId, Name, NsSetId, PopId, RrKey, Rrset, TenantId, TokenId, ZoneId};

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(context_bound = "Chunks")]
pub enum Change {
    /// A leader's term began. Its entry carries the new epoch too.
    #[n(0)]
    EpochBegan {
        /// The term.
        #[n(0)]
        epoch: u64,
    },
    /// A tenant is new or different.
    #[n(1)]
    TenantPut(#[n(0)] Tenant),
    /// A tenant is gone.
    #[n(2)]
    TenantDeleted(#[n(0)] TenantId),
    /// A token is new.
    #[n(3)]
    TokenPut(#[n(0)] Token),
    /// A token was revoked.
    #[n(4)]
    TokenRevoked {
        /// The token.
        #[n(0)]
        token: TokenId,
        /// When, in ms since the epoch.
        #[n(1)]
        at_ms: u64,
    },
    /// A set of name servers is new or different.
    #[n(5)]
    NsSetPut(#[n(0)] NsSet),
    /// A set of name servers is gone.
    #[n(6)]
    NsSetDeleted(#[n(0)] NsSetId),
    /// A PoP is new or different.
    #[n(7)]
    PopPut(#[n(0)] Pop),
    /// A PoP is gone.
    #[n(8)]
    PopDeleted(#[n(0)] PopId),
    /// A zone is new. Its revision and generation are those of the entry.
    #[n(9)]
    ZoneCreated {
        /// The zone, with empty content.
        #[n(0)]
        zone: Zone,
        /// Its content.
        #[n(1)]
        content: Bulk,
    },
    /// Some RRsets of a zone changed.
    #[n(10)]
    ZoneEdited {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// Its new serial.
        #[n(1)]
        serial: u32,
        /// What changed.
        #[n(2)]
        difference: Difference,
    },
    /// The whole content of a zone is another.
    #[n(11)]
    ZoneReplaced {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// Its new serial.
        #[n(1)]
        serial: u32,
        /// Its content.
        #[n(2)]
        content: Bulk,
    },
    /// Labels of a zone changed.
    #[n(12)]
    ZoneLabelled {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// All its labels.
        #[n(1)]
        labels: BTreeMap<String, String>,
    },
    /// A zone's SOA, and perhaps its set of name servers, changed.
    #[n(13)]
    ZoneSoaSet {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// Its new serial.
        #[n(1)]
        serial: u32,
        /// Its set of name servers.
        #[n(2)]
        ns_set: NsSetId,
        /// The SOA.
        #[n(3)]
        soa: SoaFields,
        /// What changes with it: the apex NS.
        #[n(4)]
        difference: Difference,
    },
    /// A pending zone is served from now on.
    #[n(14)]
    ZoneActivated {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// Its new serial.
        #[n(1)]
        serial: u32,
        /// How the right to the name was shown.
        #[n(2)]
        by: Evidence,
    },
    /// A zone is not served any more, as another has shown the better right to the name.
    #[n(15)]
    ZoneDisplaced {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// Its new challenge.
        #[n(1)]
        challenge: String,
    },
    /// A tenant agreed to another's pending zone, and others still have to.
    #[n(16)]
    ZoneAdmitted {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// Who agreed.
        #[n(1)]
        by: TenantId,
    },
    /// A zone is gone.
    #[n(17)]
    ZoneDeleted {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
    },
    /// In checkpoints: a zone as it is, revision and generation included.
    #[n(18)]
    ZoneRestored {
        /// The zone.
        #[n(0)]
        zone: Zone,
    },
    /// In checkpoints: the highest serial published under a name.
    #[n(19)]
    SerialRestored {
        /// The name.
        #[n(0)]
        name: Name,
        /// The serial.
        #[n(1)]
        serial: u32,
        /// Whose private zones have borne the name; none if it was served to everybody.
        #[n(2)]
        tenant: Option<TenantId>,
    },
    /// In checkpoints: some more RRsets of a zone just restored.
    #[n(21)]
    ContentRestored {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// RRsets.
        #[n(1)]
        rrsets: Vec<(RrKey, Rrset)>,
    },
    /// A token that isn't valid any more is forgotten.
    #[n(22)]
    TokenForgotten(#[n(0)] TokenId),
    /// The request that the entry's other changes come of named itself.
    #[n(23)]
    RequestRemembered(#[n(0)] Request),
    /// In checkpoints: a request that is remembered.
    #[n(24)]
    RequestRestored {
        /// The request.
        #[n(0)]
        request: Request,
        /// The revision of its change.
        #[n(1)]
        revision: u64,
        /// When that was, in ms since the epoch.
        #[n(2)]
        time_ms: u64,
    },
    /// That much of these zones goes in this entry was said to be meant.
    #[n(25)]
    ShrinkConfirmed {
        /// The zones.
        #[n(0)]
        zones: Vec<ZoneId>,
    },
    /// What the emptiness brake holds back from a PoP is let go.
    #[n(26)]
    PopReleased {
        /// The PoP.
        #[n(0)]
        pop: PopId,
        /// What was held as of this revision.
        #[n(1)]
        revision: u64,
    },
    /// The emptiness brake is set otherwise.
    #[n(27)]
    BrakesSet(#[n(0)] Brakes),
    /// In checkpoints: revision at which a zone was last gone.
    #[n(28)]
    LossRestored {
        /// The revision.
        #[n(0)]
        revision: u64,
    },
    /// The emptiness brake set in at a PoP: it goes on serving zones that are gone.
    #[n(29)]
    PopHeld {
        /// The PoP.
        #[n(0)]
        pop: PopId,
        /// What it would lose as of this revision was too much.
        #[n(1)]
        revision: u64,
        /// How many zones would have been lost within an hour.
        #[n(2)]
        zones_lost: u64,
        /// Of how many.
        #[n(3)]
        zones_before: u64,
    },
    /// The log goes on from a copy of itself, and what was done after that copy is lost: all is published anew, so that
    /// PoPs take it for newer than what they have.
    #[n(30)]
    CopyRestored {
        /// How far serials have to go up at least: so often a zone may have been published after the copy was made.
        #[n(0)]
        serials_ahead: u32,
    },
    /// PoPs steer by this table of places from now on, or by none.
    #[n(31)]
    GeoipSet {
        /// The table.
        #[n(0)]
        table: Option<Geoip>,
    },
    /// A monitor is new or different. Its revision is that of the entry.
    #[n(32)]
    MonitorPut(#[n(0)] Monitor),
    /// A monitor is gone.
    #[n(33)]
    MonitorDeleted(#[n(0)] MonitorId),
    /// What is held of endpoints is another.
    #[n(34)]
    VerdictsSet {
        /// Monitor by monitor.
        #[n(0)]
        verdicts: Vec<VerdictChange>,
    },
    /// Monitors may be aimed at these addresses.
    #[n(35)]
    ProbeRulesSet(#[n(0)] ProbeRules),
    /// In checkpoints: a monitor as it is, revision and verdict included.
    #[n(36)]
    MonitorRestored(#[n(0)] Monitor),
    /// In checkpoints: the highest id that a monitor ever had.
    #[n(37)]
    MonitorIdsRestored {
        /// The id.
        #[n(0)]
        last: MonitorId,
    },
    /// Hosts of the platform's have these addresses, ascending; none if they are gone.
    #[n(42)]
    OwnAddressesSet {
        /// The PoP's; none: the control plane's.
        #[n(0)]
        pop: Option<PopId>,
        /// All of them.
        #[n(1)]
        addresses: Vec<IpAddr>,
    },
    /// A notification channel is new or different.
    #[n(38)]
    ChannelPut(#[n(0)] Channel),
    /// A notification channel is gone.
    #[n(39)]
    ChannelDeleted(#[n(0)] ChannelId),
    /// A rule of the firewall is new or different.
    #[n(48)]
    FirewallRulePut {
        /// Whose.
        #[n(0)]
        owner: Owner,
        /// The rule.
        #[n(1)]
        rule: Rule,
    },
    /// A rule of the firewall is gone.
    #[n(49)]
    FirewallRuleDeleted {
        /// Whose.
        #[n(0)]
        owner: Owner,
        /// Its name.
        #[n(1)]
        name: String,
    },
    /// A response policy zone is new or different.
    #[n(50)]
    PolicyZonePut(#[n(0)] PolicyZone),
    /// A response policy zone is gone.
    #[n(51)]
    PolicyZoneDeleted {
        /// Its name.
        #[n(0)]
        name: String,
    },
    /// In checkpoints: when an owner's rules, or of the fleet its policy zones, changed last.
    #[n(52)]
    FirewallRestored {
        /// Whose.
        #[n(0)]
        owner: Owner,
        /// The log's revision.
        #[n(1)]
        revision: u64,
    },
    /// Targets of a zone's ALIAS records resolve to something else. It is no change of the tenant's: neither the zone's content nor its
    /// revision are others, and its history doesn't tell of it.
    #[n(40)]
    ZoneResolved {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// Its new serial.
        #[n(1)]
        serial: u32,
        /// What is served at their owners.
        #[n(2)]
        difference: Difference,
    },
    /// In checkpoints: some of what targets of a zone's ALIAS records resolved to, after its content.
    #[n(41)]
    ResolvedRestored {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// RRsets.
        #[n(1)]
        rrsets: Vec<(RrKey, Rrset)>,
    },
    /// Queries of a zone are logged for some time. Neither the zone's content nor its revision are others.
    #[n(56)]
    QueryLogSet(#[n(0)] QueryLog),
    /// Queries of a zone are logged no more, from this time on.
    #[n(57)]
    QueryLogEnded {
        /// The zone.
        #[n(0)]
        zone: ZoneId,
        /// When, in ms since the epoch.
        #[n(1)]
        at_ms: u64,
    },
    /// In checkpoints: where the log stood.
    #[n(20)]
    PositionRestored {
        /// Revision of the last entry.
        #[n(0)]
        revision: u64,
        /// Its epoch.
        #[n(1)]
        epoch: u64,
        /// Its time, in ms since the epoch.
        #[n(2)]
        time_ms: u64,
    },
}

/// How the right to a name was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Evidence {
    /// The challenge in a TXT record.
    #[n(0)]
    Txt,
    /// The delegation in the parent.
    #[n(1)]
    Delegation,
    /// The holders of conflicting zones agreed.
    #[n(2)]
    Holder,
    /// An operator said so.
    #[n(3)]
    Operator,
}

/// Content that may be too big for an entry: then the entry names chunks that were staged before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// The content.
    pub content: Content,
    /// Addresses of the chunks that hold it, if it was staged.
    pub staged: Option<Vec<ChunkAddress>>,
}

/// Address of a chunk: SHA-256 of its bytes.
pub type ChunkAddress = [u8; 32];

/// Finds staged chunks while an entry is decoded.
pub trait Chunks {
    /// The chunk at this address.
    fn chunk(&self, address: &ChunkAddress) -> Option<Vec<u8>>;
}

impl Chunks for () {
    fn chunk(&self, _: &ChunkAddress) -> Option<Vec<u8>> {
        None
    }
}

/// About how many bytes a chunk of content has.
const CHUNK_BYTES: usize = 512 * 1024;

/// Cuts content into chunks for [`Bulk::staged`]: each is a row of keys and RRsets.
pub fn content_chunks(content: &Content) -> impl Iterator<Item = Vec<u8>> {
    let mut rrsets = content.iter().peekable();
    std::iter::from_fn(move || {
        rrsets.peek()?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + 4096);
        while chunk.len() < CHUNK_BYTES
            && let Some((key, rrset)) = rrsets.next()
        {
            minicbor::encode(key, &mut chunk).expect("writing to a Vec can't fail");
            minicbor::encode(rrset, &mut chunk).expect("writing to a Vec can't fail");
        }
        Some(chunk)
    })
}

impl<C> Encode<C> for Bulk {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match &self.staged {
            None => {
                e.array(2)?.u8(0)?;
                self.content.encode(e, context)
            }
            Some(addresses) => {
                e.array(2)?.u8(1)?.array(addresses.len() as u64)?;
                for address in addresses {
                    e.bytes(address)?;
                }
                Ok(())
            }
        }
    }
}

impl<'b, C: Chunks> Decode<'b, C> for Bulk {
    fn decode(d: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let error = minicbor::decode::Error::message;
        d.array()?;
        match d.u8()? {
            0 => Ok(Bulk { content: Content::decode(d, context)?, staged: None }),
            1 => {
                let count = d.array()?.ok_or_else(|| error("chunks of unknown number"))?;
                let mut content = Content::default();
                let mut staged = Vec::new();
                for _ in 0..count {
                    let address: ChunkAddress =
                        d.bytes()?.try_into().map_err(|_| error("an address has 32 bytes"))?;
                    let chunk = context.chunk(&address).ok_or_else(|| error("a staged chunk is missing"))?;
                    let mut rows = minicbor::Decoder::new(&chunk);
                    let mut rrsets: Vec<(RrKey, Rrset)> = Vec::new();
                    while rows.position() < chunk.len() {
                        rrsets.push((rows.decode()?, rows.decode()?));
                    }
                    content.extend(rrsets);
                    staged.push(address);
                }
                Ok(Bulk { content, staged: Some(staged) })
            }
            _ => Err(error("content of an unknown form")),
        }
    }
}

impl Change {
    /// The zone that this is about.
    pub fn zone(&self) -> Option<ZoneId> {
        match self {
            Change::ZoneCreated { zone, .. } | Change::ZoneRestored { zone } => Some(zone.id),
            Change::ZoneEdited { zone, .. }
            | Change::ZoneReplaced { zone, .. }
            | Change::ZoneLabelled { zone, .. }
            | Change::ZoneSoaSet { zone, .. }
            | Change::ZoneActivated { zone, .. }
            | Change::ZoneDisplaced { zone, .. }
            | Change::ZoneAdmitted { zone, .. }
            | Change::ZoneResolved { zone, .. }
            | Change::QueryLogEnded { zone, .. }
            | Change::ZoneDeleted { zone } => Some(*zone),
            Change::QueryLogSet(log) => Some(log.zone),
            _ => None,
        }
    }
}
