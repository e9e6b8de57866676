//! Commands: what somebody wants done. `authorise` judges whether they may, `decide` what then happens.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::account::{Principal, Scope};
use crate::alias::watch::Resolved;
use crate::brakes::Brakes;
use crate::change::{ChunkAddress, Evidence};
use crate::channel::ChannelInput;
use crate::check::CheckedContent;
use crate::firewall::{Owner, PolicyZone, Rule};
use crate::geoip::Geoip;
use crate::idempotency::RequestKey;
use crate::limits::Limit;
use crate::monitor::{Check, Pace, ProbeRules, VerdictChange};
use crate::steering::{Prefix, View};
use crate::zone::SoaFields;
use crate::{ChannelId, MonitorId, Name, NsSetId, PopId, Rdatas, RrKey, TenantId, TokenId, ZoneId};

/// A command with all that `decide` may not find out by itself: who, when, chance.
#[derive(Clone, Debug)]
pub struct Command {
    /// Who, when, why.
    pub context: Context,
    /// What.
    pub action: Action,
}

/// The circumstances of a command.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who wants it.
    pub principal: Principal,
    /// When, in ms since the epoch.
    pub time_ms: u64,
    /// Fresh random bytes: ids and challenges are made of them.
    pub entropy: [u8; 32],
    /// Why, for the history.
    pub message: Option<String>,
    /// Names the request across repetitions.
    pub idempotency_key: Option<RequestKey>,
    /// Whether it was said that removing much of a zone is meant.
    pub confirmed: bool,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub enum Action {
    /// A leader's term begins (system).
    BeginEpoch,
    /// The first operator's token is made (system); once only.
    Bootstrap {
        /// SHA-256 of its secret.
        secret_hash: [u8; 32],
    },
    /// Make a tenant (operators).
    CreateTenant {
        /// Its name.
        name: String,
    },
    /// Change a tenant (operators).
    UpdateTenant {
        /// Which.
        tenant: TenantId,
        /// New name.
        name: Option<String>,
        /// Whether its tokens work.
        enabled: Option<bool>,
        /// Limits to set, or with none to go back to the default of.
        limits: Vec<(Limit, Option<u64>)>,
        /// All prefixes that its own clients come from.
        source_prefixes: Option<Vec<Prefix>>,
    },
    /// Delete a tenant without zones (operators); its tokens are revoked.
    DeleteTenant {
        /// Which.
        tenant: TenantId,
    },
    /// Make a token, never wider than the one that makes it.
    CreateToken {
        /// The tenant it is for; none for an operator's.
        tenant: Option<TenantId>,
        /// What it is for.
        description: String,
        /// What it may do.
        scope: Scope,
        /// When it ends, in ms since the epoch.
        expires_at_ms: Option<u64>,
        /// SHA-256 of its secret.
        secret_hash: [u8; 32],
    },
    /// Revoke a token.
    RevokeToken {
        /// Which.
        token: TokenId,
    },
    /// Make a set of name servers (operators).
    CreateNsSet(NsSetInput),
    /// Change a set of name servers and move its zones along (operators).
    UpdateNsSet {
        /// Which.
        set: NsSetId,
        /// What it becomes.
        input: NsSetInput,
    },
    /// Delete a set that no zone uses (operators).
    DeleteNsSet {
        /// Which.
        set: NsSetId,
    },
    /// Make a PoP (operators).
    CreatePop {
        /// Its name.
        name: String,
        /// SHA-256 of its credential.
        secret_hash: [u8; 32],
        /// Its region, if it has one.
        region: Option<String>,
    },
    /// Change a PoP (operators).
    UpdatePop {
        /// Which.
        pop: PopId,
        /// Whether its credential works.
        enabled: Option<bool>,
        /// Whether nobody waits for it.
        drained: Option<bool>,
        /// Its region; an empty one is none.
        region: Option<String>,
    },
    /// Let go what the emptiness brake holds back (operators).
    ReleasePops {
        /// From which; from all if none.
        pop: Option<PopId>,
        /// What was held as of this revision; up to now if none.
        revision: Option<u64>,
    },
    /// Go on from a copy that was restored (system): a term of its own begins, and all is published anew.
    RestoreCopy {
        /// The term, above any that PoPs may have heard of.
        epoch: u64,
        /// How often a zone may have been published after the copy was made.
        serials_ahead: u32,
    },
    /// Note that the emptiness brake holds zones back from a PoP (system).
    HoldPop {
        /// The PoP.
        pop: PopId,
        /// What it would lose as of this revision was too much.
        revision: u64,
        /// How many zones would have been lost within an hour.
        zones_lost: u64,
        /// Of how many.
        zones_before: u64,
    },
    /// Set what the emptiness brake holds back (operators).
    SetBrakes(Brakes),
    /// Have PoPs steer by a table of places that was staged (operators).
    SetGeoip {
        /// The table; none to have none.
        table: Option<Geoip>,
        /// SHA-256 of the one that it was made of, none if there was none.
        base: Option<[u8; 32]>,
    },
    /// Make a monitor.
    CreateMonitor {
        /// Whose it is to be; a tenant's token stands for its tenant.
        tenant: Option<TenantId>,
        /// What it is to be.
        input: MonitorInput,
    },
    /// Have a monitor be this.
    UpdateMonitor {
        /// Which.
        monitor: MonitorId,
        /// Its revision must be this.
        if_match: Option<u64>,
        /// What it becomes. Of a heartbeat the secret stays unless `new_secret` says so.
        input: MonitorInput,
        /// Whether a heartbeat is called in with the secret of the input from now on.
        new_secret: bool,
    },
    /// Delete a monitor that nothing names.
    DeleteMonitor {
        /// Which.
        monitor: MonitorId,
        /// Its revision must be this.
        if_match: Option<u64>,
    },
    /// Note which addresses hosts of the platform's have (system). PoPs that aren't there are left out.
    SetOwnAddresses {
        /// Host by host: the PoP's, or none for the control plane's, and all its addresses.
        hosts: Vec<(Option<PopId>, Vec<IpAddr>)>,
    },
    /// Note what is held of endpoints now (system). What is of a monitor that isn't there any more, or is off, is left out.
    SetVerdicts {
        /// Monitor by monitor.
        verdicts: Vec<VerdictChange>,
    },
    /// Note what targets of ALIAS records resolve to now (system). What isn't at the owner of an ALIAS is left out.
    SetResolved {
        /// Zone by zone.
        zones: Vec<Resolved>,
    },
    /// Say which addresses monitors may be aimed at (operators).
    SetProbeRules(ProbeRules),
    /// Make a notification channel.
    CreateChannel {
        /// Whose it is to be; a tenant's token stands for its tenant.
        tenant: Option<TenantId>,
        /// What it is to be.
        input: ChannelInput,
    },
    /// Have a notification channel be this.
    UpdateChannel {
        /// Which.
        channel: ChannelId,
        /// Its revision must be this.
        if_match: Option<u64>,
        /// What it becomes.
        input: ChannelInput,
        /// Whether a webhook is signed with another secret from now on.
        new_secret: bool,
    },
    /// Note that the owner of a notification channel's e-mail address wants to hear of what it tells. The code is judged before.
    ConfirmChannel {
        /// Which.
        channel: ChannelId,
        /// The address that the code was sent to.
        address: String,
    },
    /// Delete a notification channel.
    DeleteChannel {
        /// Which.
        channel: ChannelId,
        /// Its revision must be this.
        if_match: Option<u64>,
    },
    /// Have exactly these rules of the firewall (the fleet's: operators).
    SetFirewallRules {
        /// Whose.
        owner: Owner,
        /// The revision of what is of this owner must be this.
        if_match: Option<u64>,
        /// All of them.
        rules: Vec<Rule>,
        /// Of the fleet: have exactly these policy zones, too, which the log had before.
        zones: Option<Vec<PolicyZone>>,
    },
    /// Make a rule of the firewall, or replace the one of its name (the fleet's: operators).
    PutFirewallRule {
        /// Whose.
        owner: Owner,
        /// The revision of what is of this owner must be this.
        if_match: Option<u64>,
        /// The rule.
        rule: Rule,
    },
    /// Delete a rule of the firewall (the fleet's: operators).
    DeleteFirewallRule {
        /// Whose.
        owner: Owner,
        /// The revision of what is of this owner must be this.
        if_match: Option<u64>,
        /// Its name.
        name: String,
    },
    /// Make a policy zone whose rules were staged, or replace the one of its name (operators).
    PutPolicyZone {
        /// The revision of what is the fleet's must be this.
        if_match: Option<u64>,
        /// The policy zone.
        zone: PolicyZone,
    },
    /// Delete a policy zone (operators).
    DeletePolicyZone {
        /// The revision of what is the fleet's must be this.
        if_match: Option<u64>,
        /// Its name.
        name: String,
    },
    /// Delete a PoP (operators).
    DeletePop {
        /// Which.
        pop: PopId,
    },
    /// Make a zone.
    CreateZone {
        /// Apex.
        name: Name,
        /// Who will hold it; a tenant's token stands for its tenant.
        tenant: Option<TenantId>,
        /// Set of name servers; the default set if none.
        ns_set: Option<NsSetId>,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Its first content; apex NS alone if none.
        content: Option<Prepared>,
        /// Who is inside, if it is to be private.
        insiders: Option<Insiders>,
    },
    /// Make several zones: all or none.
    CreateZones {
        /// Who will hold them; a tenant's token stands for its tenant.
        tenant: Option<TenantId>,
        /// The zones, at most [`ZONES_PER_BATCH_MAX`].
        zones: Vec<ZoneDraft>,
    },
    /// Change a zone's labels or set of name servers.
    UpdateZone {
        /// Which.
        zone: ZoneRef,
        /// Its revision must be this.
        if_match: Option<u64>,
        /// All its labels.
        labels: Option<BTreeMap<String, String>>,
        /// Its set of name servers.
        ns_set: Option<NsSetId>,
    },
    /// Delete a zone.
    DeleteZone {
        /// Which.
        zone: ZoneRef,
        /// Its revision must be this.
        if_match: Option<u64>,
    },
    /// Change RRsets of one or several zones: all or nothing, judged by the final state.
    EditZones {
        /// Zone by zone.
        zones: Vec<ZoneEdit>,
    },
    /// Replace a zone's content by one that was parsed and checked beforehand.
    ReplaceZone {
        /// Which.
        zone: ZoneRef,
        /// Revision of the zone that the content was prepared for.
        base: u64,
        /// The content.
        content: Prepared,
    },
    /// Have queries of a zone logged for some time.
    SetQueryLog {
        /// Which.
        zone: ZoneRef,
        /// For how long, in ms; [`LOG_MS_MAX`](crate::query_log::LOG_MS_MAX) if none.
        for_ms: Option<u64>,
        /// One query in so many, by chance.
        one_in: u32,
    },
    /// Have queries of a zone logged no more.
    EndQueryLog {
        /// Which.
        zone: ZoneRef,
    },
    /// Let a pending zone in on evidence that was found (system on behalf of its tenant, or an operator).
    ActivateZone {
        /// Which.
        zone: ZoneRef,
        /// How the right was shown.
        by: Evidence,
    },
    /// The holder of a name lets another tenant's pending zone in.
    AdmitZone {
        /// Name of the pending zone.
        name: Name,
        /// Its challenge.
        code: String,
    },
}

/// So many zones can be made at once: the writer is busy with them for some ten milliseconds.
pub const ZONES_PER_BATCH_MAX: usize = 1_000;

/// One of several zones that are to be made.
#[derive(Clone, Debug)]
pub struct ZoneDraft {
    /// Apex.
    pub name: Name,
    /// Set of name servers; the default set if none.
    pub ns_set: Option<NsSetId>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its first content; apex NS alone if none.
    pub content: Option<Prepared>,
    /// Who is inside, if it is to be private.
    pub insiders: Option<Insiders>,
}

/// Who is inside a new private zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insiders {
    /// These, by a view `insiders`.
    View(View),
    /// Whom the views in its first content have inside.
    OfContent,
}

/// Content that was parsed, checked and perhaps staged before the command was given.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The content, with the apex NS of the zone's set.
    pub content: CheckedContent,
    /// Where its chunks are, if it was staged.
    pub staged: Option<Vec<ChunkAddress>>,
    /// The serial that the zone had elsewhere: ours will be higher.
    pub serial_floor: Option<u32>,
}

/// A zone as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneRef {
    /// By id.
    Id(ZoneId),
    /// By name: one that isn't private.
    Name(Name),
    /// A private one, by name.
    Private(Name),
}

/// What stands before the name of a private zone: `private:example.com`.
const PRIVATE: &str = "private:";

impl ZoneRef {
    /// An id if it looks like one, and else a name; `private:` before it says that the private zone is meant.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<ZoneRef, crate::name::NameError> {
        match text.parse() {
            Ok(id) => Ok(ZoneRef::Id(id)),
            Err(_) => match text.strip_prefix(PRIVATE) {
                Some(name) => Name::parse(name).map(ZoneRef::Private),
                None => Name::parse(text).map(ZoneRef::Name),
            },
        }
    }
}

impl std::fmt::Display for ZoneRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ZoneRef::Id(id) => id.fmt(f),
            ZoneRef::Name(name) => name.fmt(f),
            ZoneRef::Private(name) => write!(f, "{PRIVATE}{name}"),
        }
    }
}

/// Changes of one zone's RRsets.
#[derive(Clone, Debug)]
pub struct ZoneEdit {
    /// Which zone.
    pub zone: ZoneRef,
    /// Its revision must be this.
    pub if_match: Option<u64>,
    /// In order.
    pub edits: Vec<RrsetEdit>,
}

/// One change of an RRset.
#[derive(Clone, Debug)]
pub struct RrsetEdit {
    /// Owner and type.
    pub key: RrKey,
    /// What the RRset must be before.
    pub if_match: Option<RrsetMatch>,
    /// What to do.
    pub op: EditOp,
}

/// What an RRset must be for an edit to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RrsetMatch {
    /// There, with this digest.
    Digest(u128),
    /// There, whatever it is.
    Present,
    /// Not there.
    Absent,
}

impl RrsetMatch {
    /// Whether an RRset of this digest, or none, is what it must be.
    pub fn is_met_by(self, digest: Option<u128>) -> bool {
        match self {
            RrsetMatch::Digest(wanted) => digest == Some(wanted),
            RrsetMatch::Present => digest.is_some(),
            RrsetMatch::Absent => digest.is_none(),
        }
    }
}

/// What to do with an RRset.
#[derive(Clone, Debug)]
pub enum EditOp {
    /// It becomes this.
    Put {
        /// TTL in seconds.
        ttl: u32,
        /// Its records.
        rdatas: Rdatas,
    },
    /// Records are added.
    Add {
        /// TTL in seconds; what it was if none.
        ttl: Option<u32>,
        /// The records.
        rdatas: Rdatas,
    },
    /// Records are removed.
    Remove {
        /// The records.
        rdatas: Rdatas,
    },
    /// It is removed.
    Delete,
}

/// What a monitor is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorInput {
    /// Short, unique among the tenant's.
    pub name: String,
    /// What is asked.
    pub check: Check,
    /// How often, and what to make of what is seen.
    pub pace: Pace,
    /// Whether it is on.
    pub enabled: bool,
}

/// What a set of name servers is to be.
#[derive(Clone, Debug)]
pub struct NsSetInput {
    /// Short unique name.
    pub name: String,
    /// Host names.
    pub nameservers: Vec<Name>,
    /// The SOA but for MNAME, which is the first name server.
    pub soa: SoaFields,
    /// Make it the default set.
    pub is_default: bool,
}
