//! JSON of the HTTP API, version 1 (`/api/v1`).
//!
//! Conventions: times are milliseconds since the Unix epoch in UTC (`_ms`), TTLs are seconds. Names are
//! fully qualified; on input the trailing dot may be missing and U-labels are accepted, on output names are
//! A-labels with the trailing dot and `name_unicode` shows the U-labels. Unknown fields in a
//! request body are refused, so that a typing error never passes for success.

pub mod aliases;
pub mod channels;
pub mod explain;
pub mod firewall;
pub mod monitors;
pub mod query_log;
pub mod stats;
pub mod steering;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where the API lives under the server's address.
pub const PREFIX: &str = "/api/v1";

// ---------------------------------------------------------------------------------------------- zones

/// Whether a zone is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZoneStatus {
    /// Published to the PoPs.
    Active,
    /// Kept and editable, but not served until the right to the name is proven.
    Pending,
}

/// A zone, without its records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Zone {
    /// Identity, never used again. Paths take this or the name.
    pub id: String,
    /// Apex, fully qualified, A-labels.
    pub name: String,
    /// Apex with U-labels.
    pub name_unicode: String,
    /// Id of the tenant that holds the zone.
    pub tenant: String,
    /// Whether it is served.
    pub status: ZoneStatus,
    /// Whether it is private: it exists for those alone who are inside its views. Paths take `private:` and its name.
    #[serde(default)]
    pub private: bool,
    /// SOA serial (RFC 1982), made by the system.
    pub serial: u32,
    /// Log revision of the last change; also the ETag.
    pub revision: u64,
    /// How many RRsets, the SOA and the steering included.
    pub rrset_count: u64,
    /// How many records, the SOA and the steering included.
    pub record_count: u64,
    /// How many of these RRsets are steering, which `GET /zones/{zone}/steering` shows.
    #[serde(default)]
    pub steering_count: u64,
    /// Free labels of the tenant.
    pub labels: BTreeMap<String, String>,
    /// Id of the set of name servers that the apex NS and the SOA come from.
    pub nameserver_set: String,
    /// When it was made.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub changed_at_ms: u64,
    /// How to prove the right to the name; present while the zone is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<ZoneProof>,
}

/// Ways to have a pending zone let in. Any one of them is enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneProof {
    /// Owner name of the TXT record that proves control.
    pub txt_name: String,
    /// Its value.
    pub txt_value: String,
    /// Or: delegate the zone in its parent to all of these.
    pub delegate_to: Vec<String>,
    /// Or: the holder of the name lets the zone in with this code (`POST /admissions`).
    pub admission_code: String,
}

/// Body of `POST /zones`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneCreate {
    /// Apex.
    pub name: String,
    /// For operators: the tenant (id or name) that will hold it. A tenant's token may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Set of name servers (id or name); the default set if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nameserver_set: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_keys")]
    pub labels: BTreeMap<String, String>,
    /// First RRsets, besides apex NS and SOA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rrsets: Vec<RrsetInput>,
    /// First content as a zone file (RFC 1035 §5), instead of `rrsets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_file: Option<String>,
    /// Make it private, for good: it then exists for `insiders` alone, and everybody else gets what they would get without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// Who is inside a private zone: its view `insiders`. Their prefixes are source prefixes of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insiders: Option<steering::View>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Body of `PATCH /zones/{zone}`: what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZonePatch {
    /// Replaces all labels.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "unique_keys_or_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Moves the apex NS and SOA to another set of name servers (id or name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nameserver_set: Option<String>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A page of a list. Ask for the next with `?cursor=`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

// --------------------------------------------------------------------------------------------- RRsets

/// An RRset as it is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rrset {
    /// Owner name.
    pub name: String,
    /// Owner name with U-labels.
    pub name_unicode: String,
    /// Type: a mnemonic, or `TYPEnnn` (RFC 3597).
    #[serde(rename = "type")]
    pub rtype: String,
    /// TTL in seconds, one for the RRset.
    pub ttl: u32,
    /// RDATA in presentation format.
    pub records: Vec<String>,
    /// ETag of this RRset, for `If-Match`.
    pub etag: String,
}

/// An RRset on input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RrsetInput {
    /// Owner name; `@` or the empty string is the apex, a name outside the zone is an error.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// TTL in seconds.
    pub ttl: u32,
    /// RDATA in presentation format, `\# length hex` (RFC 3597) for any type.
    pub records: Vec<String>,
}

/// Body of `PUT /zones/{zone}/rrsets/{name}/{type}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RrsetPut {
    /// TTL in seconds.
    pub ttl: u32,
    /// RDATA in presentation format.
    pub records: Vec<String>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What one item of a batch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RrsetOp {
    /// The RRset becomes exactly this (`ttl` and `records` needed).
    Put,
    /// Records are added to the RRset, which is made if need be; `ttl`, if given, becomes the RRset's.
    Add,
    /// These records are removed from the RRset; one that isn't there is an error.
    Remove,
    /// The RRset is removed; one that isn't there is an error.
    Delete,
}

/// One item of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RrsetChange {
    /// What to do.
    pub op: RrsetOp,
    /// Owner name; `@` or the empty string is the apex.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// TTL in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// RDATA in presentation format.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
}

/// Body of `PATCH /zones/{zone}/rrsets`: applied whole or not at all; the final state is what is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RrsetBatch {
    /// The items.
    pub changes: Vec<RrsetChange>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Body of `POST /batches`: changes of several zones, atomic in the log and per zone at a PoP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiZoneBatch {
    /// Zones whose RRsets change; a zone may appear once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneBatch>,
    /// Zones to make instead, at most 1000. They have no `tenant` and no `message` of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub create: Vec<ZoneCreate>,
    /// For operators who make zones: the tenant (id or name) that will hold them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The part of a [`MultiZoneBatch`] that is about one zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneBatch {
    /// Id or unambiguous name.
    pub zone: String,
    /// The zone's ETag must be this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// The items.
    pub changes: Vec<RrsetChange>,
}

// ---------------------------------------------------------------------------------- changes, receipts

/// What a caller says it means, where it would be asked else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// That much of a zone goes.
    Shrink,
}

/// Where a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// Durable, and not yet confirmed.
    Pending,
    /// Confirmed: the PoP answers with it.
    InSync,
    /// The emptiness brake holds it back from the PoP till an operator releases it.
    Held,
    /// The PoP is disabled or drained: nobody waits for it.
    NotWaitedFor,
}

/// How a change stands at one PoP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PopSync {
    /// Id of the PoP.
    pub pop: String,
    /// Its name.
    pub name: String,
    /// State there.
    pub state: SyncState,
    /// Milliseconds from acceptance to confirmation; absent while pending, and for changes so old that
    /// only their being in sync is still known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sync_ms: Option<f64>,
}

/// The receipt of a change: accepted (durable) when it is answered, in sync when the PoPs confirmed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Identity of the change.
    pub id: String,
    /// Its place on the log.
    pub revision: u64,
    /// When it was accepted.
    pub accepted_at_ms: u64,
    /// Who: `operator`, `tenant` or `system`, and the token's id.
    pub principal: String,
    /// Why, if it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The zones it touched.
    pub zones: Vec<ChangedZone>,
    /// `in_sync` when every PoP that is waited for confirmed it; `held` when all that it waits for is an operator's word.
    pub state: SyncState,
    /// Milliseconds from acceptance to the last confirmation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sync_ms: Option<f64>,
    /// By PoP.
    pub pops: Vec<PopSync>,
}

/// A zone as a change left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangedZone {
    /// Id of the zone.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The serial that the change gave it; absent where it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
}

/// Something allowed that is probably not meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// Stable word, e.g. `occluded_name`.
    pub code: String,
    /// Owner name it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What, in words.
    pub detail: String,
}

/// The answer to every write: 200 or 201 when accepted (and in sync, if that was waited for), 202 when the
/// deadline of a wait passed first. With `?dry_run=true` there is no `change`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Written<T> {
    /// What was written, as it is now; absent after a deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<T>,
    /// The receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// `?wait=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// All PoPs that were enabled and not drained at acceptance.
    All,
    /// A majority of them.
    Quorum,
}

// -------------------------------------------------------------------------------------------- history

/// What kind of thing a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A control plane started.
    EpochBegan,
    /// A tenant was made or changed.
    TenantPut,
    /// A tenant was deleted.
    TenantDeleted,
    /// A token was made.
    TokenPut,
    /// A token was revoked.
    TokenRevoked,
    /// A token that ended or was revoked long ago is not listed any more.
    TokenForgotten,
    /// That much of a zone goes was said to be meant.
    ShrinkConfirmed,
    /// What was held back from a PoP is let go.
    PopReleased,
    /// What the emptiness brake holds back is set.
    BrakesSet,
    /// The emptiness brake set in at a PoP.
    PopHeld,
    /// The log goes on from a copy that was restored.
    CopyRestored,
    /// A GeoIP database was put or deleted.
    GeoipSet,
    /// A monitor was made or changed.
    MonitorPut,
    /// A monitor was deleted.
    MonitorDeleted,
    /// What is held of endpoints changed.
    VerdictsSet,
    /// Which addresses monitors may be aimed at is set.
    ProbeRulesSet,
    /// A notification channel was made or changed.
    ChannelPut,
    /// A notification channel was deleted.
    ChannelDeleted,
    /// Hosts of the platform's have other addresses.
    OwnAddressesSet,
    /// A rule of the firewall was made or changed.
    FirewallRulePut,
    /// A rule of the firewall was deleted.
    FirewallRuleDeleted,
    /// A response policy zone was made or changed.
    PolicyZonePut,
    /// A response policy zone was deleted.
    PolicyZoneDeleted,
    /// Targets of a zone's ALIAS records came to resolve to something else.
    ZoneResolved,
    /// Queries of a zone are logged for some time.
    QueryLogSet,
    /// Queries of a zone are logged no more.
    QueryLogEnded,
    /// A set of name servers was made or changed.
    NameserverSetPut,
    /// A set of name servers was deleted.
    NameserverSetDeleted,
    /// A PoP was made or changed.
    PopPut,
    /// A PoP was deleted.
    PopDeleted,
    /// A zone was made.
    ZoneCreated,
    /// Some RRsets were changed.
    ZoneEdited,
    /// The whole content was replaced: an import or a rollback.
    ZoneReplaced,
    /// Labels were changed.
    ZoneLabelled,
    /// The SOA, the set of name servers, or both were changed.
    ZoneSoaSet,
    /// A pending zone was let in.
    ZoneActivated,
    /// Another zone has shown the better right to the name.
    ZoneDisplaced,
    /// A holder agreed to a pending zone.
    ZoneAdmitted,
    /// A zone was deleted.
    ZoneDeleted,
}

/// One line of `GET /zones/{zone}/history`: what a change did to the zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneHistoryItem {
    /// Id of the change.
    pub id: String,
    /// Its place on the log.
    pub revision: u64,
    /// When.
    pub accepted_at_ms: u64,
    /// Who: `operator`, `tenant` or `system`, and the token's id.
    pub principal: String,
    /// Why, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What kinds of thing.
    pub kinds: Vec<ChangeKind>,
    /// RRsets that were put: all of them where the whole content is new.
    pub rrsets_put: u64,
    /// RRsets that were deleted one by one.
    pub rrsets_deleted: u64,
}

/// One line of `GET /changes`: who changed what, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeItem {
    /// Id of the change.
    pub id: String,
    /// Its place on the log.
    pub revision: u64,
    /// When.
    pub accepted_at_ms: u64,
    /// Who: `operator`, `tenant` or `system`, and the token's id.
    pub principal: String,
    /// Why, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What kinds of thing.
    pub kinds: Vec<ChangeKind>,
    /// Zones that it touched, at most 100.
    pub zones: Vec<TouchedZone>,
    /// How many those are in all.
    pub zone_count: u64,
}

/// A zone that a change touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TouchedZone {
    /// Identity.
    pub id: String,
    /// Apex.
    pub name: String,
    /// Apex with U-labels.
    pub name_unicode: String,
    /// Whether it has been deleted since.
    pub deleted: bool,
}

/// A zone at some revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneVersion {
    /// The revision that was asked for, or that was the last one at the time that was asked for.
    pub revision: u64,
    /// The zone then; absent if it wasn't there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
}

/// `GET /zones/{zone}/diff`: what leads from one revision of a zone to another. The SOA is among the RRsets if
/// something else than its serial differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneDiff {
    /// Where it begins.
    pub from: ZoneVersion,
    /// Where it leads.
    pub to: ZoneVersion,
    /// RRsets that are only in `to`.
    pub added: Vec<Rrset>,
    /// RRsets with another TTL or other records.
    pub changed: Vec<ChangedRrset>,
    /// RRsets that are only in `from`.
    pub removed: Vec<Rrset>,
    /// Steering that is only in `to`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steering_added: Vec<steering::SteeringItem>,
    /// Steering that is another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steering_changed: Vec<ChangedSteering>,
    /// Steering that is only in `from`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steering_removed: Vec<steering::SteeringItem>,
    /// Whether there are more than are told; `format=text` has all.
    pub truncated: bool,
}

/// An RRset before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangedRrset {
    /// As it was.
    pub before: Rrset,
    /// As it became.
    pub after: Rrset,
}

/// Steering before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangedSteering {
    /// As it was.
    pub before: steering::SteeringItem,
    /// As it became.
    pub after: steering::SteeringItem,
}

/// Body of `POST /zones/{zone}/rollback`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The revision (`4711`, `c4711`) or time (RFC 3339) as of which it is to be again.
    pub to: String,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a rollback did, or with `?dry_run=true` would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RollbackReport {
    /// The zone afterwards.
    pub zone: Zone,
    /// The revision whose records it has again.
    pub to: u64,
    /// RRsets that are new.
    pub rrsets_added: u64,
    /// RRsets with another TTL or other records.
    pub rrsets_changed: u64,
    /// RRsets that are gone.
    pub rrsets_removed: u64,
    /// Whether the apex NS are not those of then but those of the zone's set of name servers, which was changed since.
    pub nameservers_kept: bool,
}

/// What a record of the access log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessKind {
    /// A request was refused for who it came from: 401, 403, or 404 for what is there and not to be seen.
    Denied,
    /// A token was used, for the first time in this hour.
    TokenUsed,
    /// A token was made, and its secret shown.
    TokenCreated,
    /// Another secret was shown: a PoP's credential.
    SecretShown,
    /// So many events are not told one by one: there were too many.
    Others,
    /// A PoP logged in.
    PopLogin,
    /// Somebody who would be a PoP was refused.
    PopDenied,
    /// The query log of a zone was read.
    QueryLogRead,
}

/// One record of the access log. What comes again within a minute is one more record, with a count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AccessRecord {
    /// Its number.
    pub number: u64,
    /// When; the first time, if it stands for several.
    pub time_ms: u64,
    /// The last time, if it stands for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// For how many it stands.
    pub count: u64,
    /// What.
    pub kind: AccessKind,
    /// Who, if that was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Id of the token that was presented, used or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Id of the PoP that logged in, or whose name was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pop: Option<String>,
    /// The answer's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The request's method.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The request's route.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

// ----------------------------------------------------------------------------------- import, admission

/// `?mode=` of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportMode {
    /// The zone becomes what the file says.
    #[default]
    Replace,
    /// RRsets of the file are put, others stay.
    Merge,
}

/// What an import did, or with `?dry_run=true` would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// The zone afterwards.
    pub zone: Zone,
    /// RRsets that are new.
    pub rrsets_added: u64,
    /// RRsets with another TTL or other records.
    pub rrsets_changed: u64,
    /// RRsets that are gone.
    pub rrsets_removed: u64,
    /// Apex name servers in the file that are not of the zone's set and were replaced by the set's.
    pub foreign_nameservers: Vec<String>,
    /// What is different afterwards, if `?preview=` asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<ImportPreview>,
}

/// The RRsets that an import changes, in canonical order, as many as were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImportPreview {
    /// The first ones.
    pub changes: Vec<ImportedRrset>,
    /// How many more there are.
    pub more: u64,
}

/// How an import changes an RRset. Another TTL is another record: then all are removed and added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImportedRrset {
    /// Owner name, fully qualified.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// TTL before, in seconds; absent if the RRset is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_before: Option<u32>,
    /// TTL afterwards, in seconds; absent if the RRset is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after: Option<u32>,
    /// Records that go, in presentation format.
    pub removed: Vec<String>,
    /// Records that come, in presentation format.
    pub added: Vec<String>,
}

/// Body of `POST /admissions`: the holder of a name lets another tenant's pending zone in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// Name of the pending zone.
    pub name: String,
    /// The code that its tenant was shown.
    pub admission_code: String,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `GET /zones/{zone}/check`: how the delegation stands in the parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneCheck {
    /// In one word.
    pub delegation: DelegationState,
    /// The parent zone that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// NS that the parent has.
    pub parent_nameservers: Vec<String>,
    /// NS at our apex.
    pub nameservers: Vec<String>,
    /// In ours and not in the parent's.
    pub missing_in_parent: Vec<String>,
    /// In the parent's and not in ours.
    pub extra_in_parent: Vec<String>,
    /// Whether the parent holds DS records.
    pub ds_in_parent: bool,
    /// Findings in words, and what to do.
    pub findings: Vec<String>,
}

/// How the parent's delegation compares with the apex NS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DelegationState {
    /// Same name servers on both sides.
    Delegated,
    /// Some in common.
    Partial,
    /// To others altogether.
    Elsewhere,
    /// The parent does not delegate the name.
    NotDelegated,
    /// The parent could not be asked.
    Unknown,
}

// ---------------------------------------------------------------------------------- tenants and tokens

/// A tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Identity.
    pub id: String,
    /// Short unique name.
    pub name: String,
    /// A disabled tenant's tokens are refused; its zones go on being served.
    pub enabled: bool,
    /// How many zones it holds.
    pub zone_count: u64,
    /// How much it may have and how fast it may ask, by the limits' names.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    /// How much it has.
    #[serde(default)]
    pub usage: TenantUsage,
    /// Where queries of its own clients come from: who is inside of its private zones comes from there.
    #[serde(default)]
    pub source_prefixes: Vec<String>,
    /// When it was made.
    pub created_at_ms: u64,
}

/// How much a tenant has of what is limited for all of its zones together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantUsage {
    /// Zones, pending ones included.
    pub zones: u64,
    /// Records, the SOAs included.
    pub records: u64,
    /// Tokens, revoked and expired ones included while they are kept.
    pub tokens: u64,
    /// Monitors.
    #[serde(default)]
    pub monitors: u64,
}

/// Body of `POST /tenants`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantCreate {
    /// Short unique name: letters, digits, `-`, at most 63.
    pub name: String,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Body of `PATCH /tenants/{tenant}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantPatch {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether its tokens work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Limits by their names; null goes back to the default, and what is left out stays.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_keys")]
    pub limits: BTreeMap<String, Option<u64>>,
    /// Replaces all prefixes that queries of its own clients come from. No address is in those of two tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_prefixes: Option<Vec<String>>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A verb that a token can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// See zones and records.
    Read,
    /// Change records.
    Write,
    /// Make and import zones, and change their settings.
    Create,
    /// Delete zones.
    Delete,
    /// Tokens; for operators also tenants, PoPs and sets of name servers.
    Admin,
    /// Make, change and delete monitors; see them, too, with a token that is limited to some zones.
    Monitor,
}

/// What a token may do. An empty list allows all of its kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Zones by id or name; `*.example.com` stands for all zones below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// Owner names of records; `*.dyn.example.com` stands for all names below, `_acme-challenge.*` for
    /// all names that begin so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Record types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Verbs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<Verb>,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Identity.
    pub id: String,
    /// The tenant it acts for; absent for an operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it is for.
    pub description: String,
    /// What it may do.
    pub scope: Scope,
    /// When it was made.
    pub created_at_ms: u64,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<u64>,
    /// The secret, in the answer to its creation and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Body of `POST /tokens`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// For operators: the tenant (id or name) it acts for; left out, an operator makes an operator's token
    /// and a tenant one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What it may do: never more than the token that makes it.
    #[serde(default)]
    pub scope: Scope,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `GET /whoami`: whom the caller's token stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// `operator` or `tenant`.
    pub kind: String,
    /// The tenant, if one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// The token.
    pub token: Token,
}

// ------------------------------------------------------------------------------- sets of name servers

/// A set of name servers: where the apex NS and the SOA of zones come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NameserverSet {
    /// Identity.
    pub id: String,
    /// Short unique name.
    pub name: String,
    /// Host names, in the order of the NS RRset; vanity names are allowed.
    pub nameservers: Vec<String>,
    /// SOA RNAME, as a name.
    pub rname: String,
    /// TTL of NS and SOA.
    pub ttl: u32,
    /// SOA timers.
    pub soa: SoaTimers,
    /// New zones take this set where none is named.
    pub default: bool,
    /// When it was made.
    pub created_at_ms: u64,
}

/// SOA timers in seconds (RFC 1035 §3.3.13).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SoaTimers {
    /// REFRESH.
    pub refresh: u32,
    /// RETRY.
    pub retry: u32,
    /// EXPIRE.
    pub expire: u32,
    /// MINIMUM: the negative TTL (RFC 2308).
    pub minimum: u32,
}

impl Default for SoaTimers {
    fn default() -> Self {
        SoaTimers { refresh: 7200, retry: 1800, expire: 1_209_600, minimum: 300 }
    }
}

/// Body of `POST /nameserver-sets`, and of `PUT /nameserver-sets/{set}` (which moves its zones along).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NameserverSetInput {
    /// Short unique name.
    pub name: String,
    /// Host names.
    pub nameservers: Vec<String>,
    /// SOA RNAME, as a name or as a mail address.
    pub rname: String,
    /// TTL of NS and SOA.
    #[serde(default = "default_ns_ttl")]
    pub ttl: u32,
    /// SOA timers.
    #[serde(default)]
    pub soa: SoaTimers,
    /// Make it the default set.
    #[serde(default)]
    pub default: bool,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

fn default_ns_ttl() -> u32 {
    3600
}

// ----------------------------------------------------------------------------------------------- PoPs

/// A point of presence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pop {
    /// Identity.
    pub id: String,
    /// Short unique name.
    pub name: String,
    /// A disabled PoP's credential is refused.
    pub enabled: bool,
    /// A drained PoP goes on receiving, and nobody waits for it.
    pub drained: bool,
    /// Where it is: PoPs of one region get the same answers where these differ by region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether its session is up.
    pub connected: bool,
    /// Zones with changes that it has not confirmed.
    pub zones_pending: u64,
    /// Zones it confirmed.
    pub zones_in_sync: u64,
    /// What the emptiness brake holds back from it; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<PopHeld>,
    /// Zones that it did not hold as it should.
    #[serde(default)]
    pub drift: PopDrift,
    /// What it last said of itself; absent before its first contact since the control plane started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PopStatus>,
    /// When it was made.
    pub created_at_ms: u64,
    /// Its credential, in the answer to its creation and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// What the emptiness brake holds back from a PoP: it goes on serving zones as it has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PopHeld {
    /// How many zones are held back now; 0 while that isn't known, before the PoP's first contact since the control plane
    /// started.
    pub zones: u64,
    /// Since when.
    pub since_ms: u64,
    /// Why, in words.
    pub reason: String,
    /// The first of the zones by name, at most 100.
    pub first: Vec<HeldZone>,
}

/// A zone that a PoP goes on serving as it has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HeldZone {
    /// Id of the zone.
    pub zone: String,
    /// Its name, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is held back.
    pub why: HeldWhy,
}

/// What is held back of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldWhy {
    /// That it is not to be served any more.
    Gone,
    /// That much of it is gone.
    Shrunk,
}

/// Zones that a PoP turned out not to hold as it should, since the control plane started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PopDrift {
    /// How many were found.
    pub found: u64,
    /// How many of them were confirmed since.
    pub mended: u64,
    /// When some were last found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ms: Option<u64>,
}

/// Body of `POST /pops/{pop}/release` and `POST /brakes/release`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Let go what was held as of this revision; up to now if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How much may go before somebody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Brakes {
    /// Percent of a zone's RRsets, or of its records, that may go in one change; 100: all.
    pub zone_percent: u8,
    /// A zone of fewer RRsets may lose all.
    pub zone_rrsets_min: u64,
    /// Percent of a PoP's zones that may go within an hour; 100: all.
    pub pop_percent: u8,
    /// Fewer zones than this may go within an hour, whatever share that is.
    pub pop_zones_min: u64,
}

/// Body of `PATCH /brakes`: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BrakesPatch {
    /// As in `Brakes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_percent: Option<u8>,
    /// As in `Brakes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_rrsets_min: Option<u64>,
    /// As in `Brakes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pop_percent: Option<u8>,
    /// As in `Brakes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pop_zones_min: Option<u64>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a PoP says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PopStatus {
    /// Version of `koder-dns-sync`.
    pub agent_version: String,
    /// Version of Knot DNS.
    pub knot_version: String,
    /// Whether knotd runs and answers.
    pub knot_running: bool,
    /// Zones in its replica.
    pub zones: u64,
    /// Epoch of the newest generation it has.
    pub epoch: u64,
    /// Counter of the newest generation it has.
    pub counter: u64,
    /// Where it was heard from.
    pub address: String,
    /// When it was last heard from.
    pub heard_at_ms: u64,
    /// Publications it refused and still lacks, newest last, at most 20.
    pub refused: Vec<PopRefusal>,
    /// The module that steers answers; absent where there is none, so that zones with steering are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PopModule>,
    /// What it steers by; left out by agents that know of no GeoIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geoip: Option<PopGeoip>,
}

/// The module of a PoP's knotd, which steers answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PopModule {
    /// Whether it can be told of changes; if not, it answers by what it has.
    pub connected: bool,
    /// Its version, empty while unknown.
    pub version: String,
    /// Zones with steering that it has.
    pub zones: u64,
    /// Panics that were caught since knotd was started.
    pub panics: u64,
    /// Answers to steered names that could not be decided (SERVFAIL), since knotd was started.
    pub undecided: u64,
    /// SHA-256 of the table of places that it has, in hexadecimal; empty if it has none.
    pub geo: String,
}

/// The table of places at a PoP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PopGeoip {
    /// SHA-256 of the table in use, in hexadecimal; left out if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The database of places that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<GeoipDatabase>,
    /// The database of autonomous systems that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<GeoipDatabase>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A GeoIP database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GeoipDatabase {
    /// What it calls itself: `GeoLite2-City`.
    #[serde(rename = "type")]
    #[schema(example = "GeoLite2-City")]
    pub kind: String,
    /// When it was built.
    pub built_at_ms: u64,
}

/// Kinds of GeoIP databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeoipKind {
    /// Continents, countries, subdivisions, cities, coordinates.
    City,
    /// Autonomous systems.
    Asn,
}

/// The GeoIP databases, and how far their table has got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Geoip {
    /// The database of places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<GeoipDatabase>,
    /// The database of autonomous systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<GeoipDatabase>,
    /// SHA-256 of the table that is made of both and that PoPs get, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How long the table is.
    pub bytes: u64,
    /// How far it has got.
    pub rollout: GeoipRollout,
    /// What each PoP has, those that were never heard of left out.
    pub pops: Vec<GeoipPop>,
    /// How many zones have rules that need the database of places.
    pub zones_with_geo_rules: u64,
    /// What the operator should know.
    pub notices: Vec<String>,
}

/// How far the table of places has got: one PoP gets a new one first, and the others once that one has loaded it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GeoipRollout {
    /// Where it stands.
    pub state: GeoipRolloutState,
    /// The PoP that has it first, or that stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pop: Option<String>,
    /// Why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Stages of a roll-out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeoipRolloutState {
    /// There is no table.
    #[default]
    None,
    /// One PoP gets it, or will as soon as one is connected.
    FirstPop,
    /// One has loaded it, and all get it.
    All,
    /// A PoP could not use it: those that have another one keep that. Uploading it again starts anew.
    Stopped,
}

/// What a PoP has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GeoipPop {
    /// The PoP's name.
    pub pop: String,
    /// Whether it steers by the present table.
    pub in_sync: bool,
    /// What it steers by.
    #[serde(flatten)]
    pub geoip: PopGeoip,
}

/// A publication that a PoP would not serve; its last good state goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PopRefusal {
    /// Id of the zone.
    pub zone: String,
    /// Why.
    pub reason: String,
}

/// Body of `POST /pops`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PopCreate {
    /// Short unique name.
    pub name: String,
    /// The operator's name for where it is, such as `eu-west`: at most 32 lower-case letters, digits and inner `-`. PoPs are in at most 16
    /// regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Body of `PATCH /pops/{pop}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PopPatch {
    /// Whether its credential works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether it is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<bool>,
    /// The region that it is in; an empty text: in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

// --------------------------------------------------------------------------------------------- errors

/// A problem document (RFC 9457), served as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:koder-herald:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence, in words: what is wrong and what to do.
    pub detail: String,
    /// The offending items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemItem>,
}

/// One offending item of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemItem {
    /// Where in the request: a JSON pointer (RFC 6901), or `line:column` of a zone file.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
    /// Owner name it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Record type it is about.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub rtype: Option<String>,
}

// -------------------------------------------------------------------------------------------- reading

/// An object that has each key once: of two values one would be lost, and nobody told.
struct Unique<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Unique<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(key) = object.next_key::<String>()? {
                    if entries.contains_key(&key) {
                        let shortened: String = key.chars().take(100).collect();
                        return Err(A::Error::custom(format_args!("duplicate key `{shortened}`")));
                    }
                    entries.insert(key, object.next_value()?);
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

fn unique_keys<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    Unique::deserialize(deserializer).map(|Unique(entries)| entries)
}

fn unique_keys_or_none<'de, D, V>(deserializer: D) -> Result<Option<BTreeMap<String, V>>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    Ok(Option::<Unique<V>>::deserialize(deserializer)?.map(|Unique(entries)| entries))
}
