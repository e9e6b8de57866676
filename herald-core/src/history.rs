//! What the log says of the past: what kind of thing an entry did, which zones it touched, and a zone as it was.

use std::sync::Arc;

use crate::ZoneId;
use crate::change::Change;
use crate::content::Content;
use crate::state::{At, State};
use crate::zone::Zone;

/// What a change is, without what it says. The numbers are those of the encoding of [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "as the variants of Change that they name")]
pub enum ChangeKind {
    EpochBegan = 0,
    TenantPut = 1,
    TenantDeleted = 2,
    TokenPut = 3,
    TokenRevoked = 4,
    NsSetPut = 5,
    NsSetDeleted = 6,
    PopPut = 7,
    PopDeleted = 8,
    ZoneCreated = 9,
    ZoneEdited = 10,
    ZoneReplaced = 11,
    ZoneLabelled = 12,
    ZoneSoaSet = 13,
    ZoneActivated = 14,
    ZoneDisplaced = 15,
    ZoneAdmitted = 16,
    ZoneDeleted = 17,
    /// Of checkpoints; never in an entry.
    Restored = 18,
    TokenForgotten = 22,
    RequestRemembered = 23,
    ShrinkConfirmed = 25,
    PopReleased = 26,
    BrakesSet = 27,
    PopHeld = 29,
    CopyRestored = 30,
    GeoipSet = 31,
    MonitorPut = 32,
    MonitorDeleted = 33,
    VerdictsSet = 34,
    ProbeRulesSet = 35,
    OwnAddressesSet = 42,
    ChannelPut = 38,
    ChannelDeleted = 39,
    FirewallRulePut = 48,
    FirewallRuleDeleted = 49,
    PolicyZonePut = 50,
    PolicyZoneDeleted = 51,
    ZoneResolved = 40,
    QueryLogSet = 56,
    QueryLogEnded = 57,
}

impl ChangeKind {
    /// All that can be in an entry.
    pub const ALL: [ChangeKind; 40] = [
        ChangeKind::EpochBegan,
        ChangeKind::TenantPut,
        ChangeKind::TenantDeleted,
        ChangeKind::TokenPut,
        ChangeKind::TokenRevoked,
        ChangeKind::NsSetPut,
        ChangeKind::NsSetDeleted,
        ChangeKind::PopPut,
        ChangeKind::PopDeleted,
        ChangeKind::ZoneCreated,
        ChangeKind::ZoneEdited,
        ChangeKind::ZoneReplaced,
        ChangeKind::ZoneLabelled,
        ChangeKind::ZoneSoaSet,
        ChangeKind::ZoneActivated,
        ChangeKind::ZoneDisplaced,
        ChangeKind::ZoneAdmitted,
        ChangeKind::ZoneDeleted,
        ChangeKind::TokenForgotten,
        ChangeKind::RequestRemembered,
        ChangeKind::ShrinkConfirmed,
        ChangeKind::PopReleased,
        ChangeKind::BrakesSet,
        ChangeKind::PopHeld,
        ChangeKind::CopyRestored,
        ChangeKind::GeoipSet,
        ChangeKind::MonitorPut,
        ChangeKind::MonitorDeleted,
        ChangeKind::VerdictsSet,
        ChangeKind::ProbeRulesSet,
        ChangeKind::OwnAddressesSet,
        ChangeKind::ChannelPut,
        ChangeKind::ChannelDeleted,
        ChangeKind::FirewallRulePut,
        ChangeKind::FirewallRuleDeleted,
        ChangeKind::PolicyZonePut,
        ChangeKind::PolicyZoneDeleted,
        ChangeKind::ZoneResolved,
        ChangeKind::QueryLogSet,
        ChangeKind::QueryLogEnded,
    ];

    /// The kind of a change.
    pub fn of(change: &Change) -> ChangeKind {
        match change {
            Change::EpochBegan { .. } => ChangeKind::EpochBegan,
            Change::TenantPut(_) => ChangeKind::TenantPut,
            Change::TenantDeleted(_) => ChangeKind::TenantDeleted,
            Change::TokenPut(_) => ChangeKind::TokenPut,
            Change::TokenRevoked { .. } => ChangeKind::TokenRevoked,
            Change::NsSetPut(_) => ChangeKind::NsSetPut,
            Change::NsSetDeleted(_) => ChangeKind::NsSetDeleted,
            Change::PopPut(_) => ChangeKind::PopPut,
            Change::PopDeleted(_) => ChangeKind::PopDeleted,
            Change::ZoneCreated { .. } => ChangeKind::ZoneCreated,
            Change::ZoneEdited { .. } => ChangeKind::ZoneEdited,
            Change::ZoneReplaced { .. } => ChangeKind::ZoneReplaced,
            Change::ZoneLabelled { .. } => ChangeKind::ZoneLabelled,
            Change::ZoneSoaSet { .. } => ChangeKind::ZoneSoaSet,
            Change::ZoneActivated { .. } => ChangeKind::ZoneActivated,
            Change::ZoneDisplaced { .. } => ChangeKind::ZoneDisplaced,
            Change::ZoneAdmitted { .. } => ChangeKind::ZoneAdmitted,
            Change::ZoneDeleted { .. } => ChangeKind::ZoneDeleted,
            Change::TokenForgotten(_) => ChangeKind::TokenForgotten,
            Change::RequestRemembered(_) => ChangeKind::RequestRemembered,
            Change::ShrinkConfirmed { .. } => ChangeKind::ShrinkConfirmed,
            Change::PopReleased { .. } => ChangeKind::PopReleased,
            Change::BrakesSet(_) => ChangeKind::BrakesSet,
            Change::PopHeld { .. } => ChangeKind::PopHeld,
            Change::CopyRestored { .. } => ChangeKind::CopyRestored,
            Change::GeoipSet { .. } => ChangeKind::GeoipSet,
            Change::MonitorPut(_) => ChangeKind::MonitorPut,
            Change::MonitorDeleted(_) => ChangeKind::MonitorDeleted,
            Change::VerdictsSet { .. } => ChangeKind::VerdictsSet,
            Change::ProbeRulesSet(_) => ChangeKind::ProbeRulesSet,
            Change::OwnAddressesSet { .. } => ChangeKind::OwnAddressesSet,
            Change::ChannelPut(_) => ChangeKind::ChannelPut,
            Change::ChannelDeleted(_) => ChangeKind::ChannelDeleted,
            Change::FirewallRulePut { .. } => ChangeKind::FirewallRulePut,
            Change::FirewallRuleDeleted { .. } => ChangeKind::FirewallRuleDeleted,
            Change::PolicyZonePut(_) => ChangeKind::PolicyZonePut,
            Change::PolicyZoneDeleted { .. } => ChangeKind::PolicyZoneDeleted,
            Change::ZoneResolved { .. } => ChangeKind::ZoneResolved,
            Change::QueryLogSet(_) => ChangeKind::QueryLogSet,
            Change::QueryLogEnded { .. } => ChangeKind::QueryLogEnded,
            Change::ZoneRestored { .. }
            | Change::FirewallRestored { .. }
            | Change::RequestRestored { .. }
            | Change::SerialRestored { .. }
            | Change::ContentRestored { .. }
            | Change::ResolvedRestored { .. }
            | Change::LossRestored { .. }
            | Change::MonitorRestored(_)
            | Change::MonitorIdsRestored { .. }
            | Change::PositionRestored { .. } => ChangeKind::Restored,
        }
    }

    /// The kind of this number.
    pub fn from_number(number: u8) -> Option<ChangeKind> {
        ChangeKind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether it says the whole content of a zone, so that what was before is of no account for it.
    fn is_whole_content(self) -> bool {
        matches!(self, ChangeKind::ZoneCreated | ChangeKind::ZoneReplaced)
    }
}

/// Which entries a zone's fold needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldPlan {
    /// Revisions in order.
    pub revisions: Vec<u64>,
    /// Content that entries before this one bring is overwritten: it need not be read.
    pub content_from: u64,
}

impl FoldPlan {
    /// Of all entries that touched a zone, in order, those that say what it is after the last of them: not the
    /// edits before its content was last replaced.
    pub fn new(touches: &[(u64, ChangeKind)]) -> FoldPlan {
        let whole = touches.iter().rev().find(|(_, kind)| kind.is_whole_content());
        let content_from = whole.map_or(0, |(revision, _)| *revision);
        let needed = |(revision, kind): &&(u64, ChangeKind)| {
            *revision >= content_from || *kind != ChangeKind::ZoneEdited
        };
        let mut revisions: Vec<u64> = touches.iter().filter(needed).map(|(revision, _)| *revision).collect();
        revisions.dedup();
        FoldPlan { revisions, content_from }
    }
}

/// One zone, folded from its own changes alone. Whose word it had when much of it went ([`Zone::shrunk`]) and what its ALIAS records
/// resolved to ([`Zone::resolved`]) are of the present only, and aren't told.
#[derive(Clone, Debug)]
pub struct ZoneFold {
    id: ZoneId,
    state: State,
}

impl ZoneFold {
    /// A zone that isn't there yet.
    pub fn new(id: ZoneId) -> ZoneFold {
        ZoneFold { id, state: State::default() }
    }

    /// Begins with the zone as it was, content and all.
    pub fn restore(&mut self, at: At, zone: &Zone) {
        self.apply(
            at,
            &Change::ZoneRestored {
                zone: Zone { shrunk: None, resolved: Content::default(), ..zone.clone() },
            },
        );
    }

    /// Folds a change in, if it is about this zone.
    pub fn apply(&mut self, at: At, change: &Change) {
        let zone = match change {
            Change::ContentRestored { zone, .. } => Some(*zone),
            Change::ZoneResolved { .. } => None,
            other => other.zone(),
        };
        if zone == Some(self.id) {
            self.state.apply(at, change);
        }
    }

    /// The zone as it is now, if it is there.
    pub fn zone(&self) -> Option<Arc<Zone>> {
        self.state.zone(self.id).map(|zone| zone.arc())
    }
}
