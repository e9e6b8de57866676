//! A zone: its content, and what the system knows of it.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use minicbor::{Decode, Encode};

use crate::alias::served::Served;
use crate::alias::{ADDRESS_TYPES, ALIAS, Alias};
use crate::brakes::{Brakes, Size};
use crate::content::{Content, Difference, RrsetChange};
use crate::steering::{Item, POOL, SETTINGS, Settings, answered_type, settings_key};
use crate::{Generation, Name, NsSetId, Rdatas, RrKey, Rrset, Rtype, TenantId, ZoneId};

/// Whether a zone is served.
///
/// ```text
///            create, name is free                 proof by another tenant
///  (none) ───────────────────────▶ Active ───────────────────────────────▶ Pending
///     │                              ▲                                        │
///     └── create, name conflicts ──▶ Pending ── proof, holder or operator ──▶ Active
///     └── create, private ─────────▶ Private, for good
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ZoneStatus {
    /// Published to the PoPs.
    #[n(0)]
    Active,
    /// Kept and editable, but not served until the right to the name is proven.
    #[n(1)]
    Pending,
    /// Published to the PoPs, which serve it to whoever is inside its views: for everybody else it doesn't exist. Nobody has to prove
    /// a right to its name, and it is in nobody's way. Software that knows of no such thing can't read this, and so never takes
    /// one for public.
    #[n(2)]
    Private,
}

/// A zone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Zone {
    /// Identity.
    #[n(0)]
    pub id: ZoneId,
    /// Apex.
    #[n(1)]
    pub name: Name,
    /// Who holds it.
    #[n(2)]
    pub tenant: TenantId,
    /// Whether it is served.
    #[n(3)]
    pub status: ZoneStatus,
    /// Where its apex NS and SOA come from.
    #[n(4)]
    pub ns_set: NsSetId,
    /// Free labels of the tenant.
    #[n(5)]
    pub labels: BTreeMap<String, String>,
    /// When it was made, in ms since the epoch.
    #[n(6)]
    pub created_at_ms: u64,
    /// When it was last changed, in ms since the epoch.
    #[n(7)]
    pub changed_at_ms: u64,
    /// Revision of the last change of anything about it.
    #[n(8)]
    pub revision: u64,
    /// Last change of what is published.
    #[n(9)]
    pub generation: Generation,
    /// SOA serial (RFC 1982).
    #[n(10)]
    pub serial: u32,
    /// The rest of the SOA.
    #[n(11)]
    pub soa: SoaFields,
    /// Proves control of the name while pending: secret to the zone's tenant.
    #[n(12)]
    pub challenge: String,
    /// Tenants that agreed to let it in while it is pending.
    #[n(13)]
    pub admitted_by: Vec<TenantId>,
    /// The RRsets, without the SOA.
    #[n(14)]
    pub content: Content,
    /// Revision of the last change that removed much of it, on its caller's word.
    #[n(15)]
    pub shrunk: Option<u64>,
    /// What the targets of its ALIAS records resolved to, as served: A and AAAA at their owners, or steering of the system's own where
    /// that differs by region ([`Served`]). It isn't the tenant's content, and no change of that says it: it has changes of its own.
    #[cbor(skip)]
    pub resolved: Content,
}

impl Zone {
    /// Whether PoPs serve it, to everybody or to some.
    pub fn is_served(&self) -> bool {
        self.status != ZoneStatus::Pending
    }

    /// Whether it is there for insiders alone.
    pub fn is_private(&self) -> bool {
        self.status == ZoneStatus::Private
    }

    /// Whose it is if it is private: names of private zones are each tenant's own.
    pub fn private_holder(&self) -> Option<TenantId> {
        self.is_private().then_some(self.tenant)
    }

    /// Key of the SOA.
    pub fn soa_key(&self) -> RrKey {
        RrKey::new(self.name.clone(), Rtype::SOA)
    }

    /// The SOA RRset, as served.
    pub fn soa_rrset(&self) -> Rrset {
        self.soa.rrset(self.serial)
    }

    /// Digest of all that is published, the SOA included.
    pub fn published_digest(&self) -> u128 {
        let soa = self.soa_rrset().digest(&self.soa_key());
        let unpublished = self.alias_keys().filter_map(|key| Some(self.content.get(&key)?.digest(&key)));
        let content = unpublished.fold(self.content.digest(), u128::wrapping_sub);
        content.wrapping_add(self.resolved.digest()).wrapping_add(soa)
    }

    /// The RRsets that are published, the SOA left out: the content, with what ALIAS records resolved to in their place. Two versions of a
    /// zone share what their contents share.
    pub fn published(&self) -> Content {
        let mut published = self.content.clone();
        for key in self.alias_keys() {
            published.delete(&key);
        }
        for (key, rrset) in self.resolved.iter() {
            published.put(key.clone(), rrset.clone());
        }
        published
    }

    /// The RRsets that are not published in the same way in `new`, the SOA left out: found in the time that the difference takes.
    pub fn published_changes<'a>(&'a self, new: &'a Zone) -> impl Iterator<Item = RrsetChange<'a>> {
        let content = self.content.changes(&new.content).filter(|change| change.key.rtype != ALIAS);
        // What an ALIAS stood for may be a record now, or the other way round.
        let content = content.filter(|change| change.new.is_some() || new.resolved.get(change.key).is_none());
        let resolved = self.resolved.changes(&new.resolved);
        content.chain(resolved.filter(|change| change.new.is_some() || new.content.get(change.key).is_none()))
    }

    /// How many RRsets are published, the SOA left out.
    pub fn published_rrset_count(&self) -> u64 {
        self.content.rrset_count() - self.content.aliases().len() as u64 + self.resolved.rrset_count()
    }

    /// Its settings that bear on answers.
    pub fn settings(&self) -> Settings {
        let rrset = self.content.get(&settings_key(&self.name));
        match rrset.map(|rrset| Item::read(SETTINGS, &rrset.rdatas)) {
            Some(Ok(Item::Settings(settings))) => settings,
            _ => Settings::default(),
        }
    }

    /// What is served of a type in the place of an ALIAS.
    pub fn served(&self, owner: &Name, rtype: Rtype) -> Served {
        Served::read(&self.resolved, &self.name, owner, rtype)
    }

    /// Whether too much is gone, on nobody's word, of what was so many published RRsets. What regions have of their own comes and goes as
    /// targets do: of so many regions it may be that, and then it is no loss.
    pub fn is_shrunk_from(&self, rrsets: u64, regions: u64, brakes: &Brakes) -> bool {
        let of_regions =
            self.resolved.steering().map_or(0, |tally| tally.rrset_count() - tally.policy_count());
        let of_regions_max = match self.settings().alias_by_region {
            // For each type a pool a region, and one for all others.
            true => self.content.aliases().len() as u64 * ADDRESS_TYPES.len() as u64 * (regions + 1),
            false => 0,
        };
        let size = |rrsets| Size { rrsets, records: 0 };
        let before = size(rrsets.saturating_sub(of_regions_max));
        brakes.hold_zone(before, size(self.published_rrset_count() - of_regions))
    }

    fn alias_keys(&self) -> impl Iterator<Item = RrKey> + '_ {
        self.content.aliases().keys().map(|owner| RrKey::new(owner.clone(), ALIAS))
    }

    /// Targets of ALIAS records resolve to something else.
    pub(crate) fn resolve(&mut self, difference: &Difference) {
        self.resolved.apply(difference);
        let aliases = self.content.aliases().clone();
        let owners = difference.puts.iter().map(|(key, _)| key).filter(|key| key.rtype != POOL);
        self.settle(&aliases, owners.map(|key| key.owner.clone()).collect());
    }

    /// Keeps what was resolved in step with the content, which had these ALIAS records before: nothing is left where no ALIAS is any more,
    /// and no TTL is above that of the ALIAS. What an ALIAS with a new target had stays until that is resolved, too. Regions have nothing
    /// of their own unless that is asked for, and not of a target that is another than before.
    pub(crate) fn settle_resolved(&mut self, before: &OrdMap<Name, Alias>) {
        if !self.is_served() {
            // Nobody resolves for it: what was found gets old.
            self.resolved = Content::default();
        }
        if self.resolved.rrset_count() == 0 {
            return;
        }
        let changed = before.diff(self.content.aliases()).map(|item| match item {
            DiffItem::Add(owner, _) | DiffItem::Remove(owner, _) => owner.clone(),
            DiffItem::Update { new: (owner, _), .. } => owner.clone(),
        });
        let mut owners: BTreeSet<Name> = changed.collect();
        if self.resolved.steering().is_some() && !self.settings().alias_by_region {
            let policies = self.resolved.iter().filter(|(key, _)| answered_type(key.rtype).is_some());
            owners.extend(policies.map(|(key, _)| key.owner.clone()));
        }
        self.settle(before, owners);
    }

    fn settle(&mut self, before: &OrdMap<Name, Alias>, owners: BTreeSet<Name>) {
        let is_by_region = self.resolved.steering().is_some() && self.settings().alias_by_region;
        for owner in owners {
            let alias = self.content.aliases().get(&owner).cloned();
            let is_new = alias.as_ref().map(|now| &now.target) != before.get(&owner).map(|old| &old.target);
            for rtype in ADDRESS_TYPES {
                let mut served = self.served(&owner, rtype);
                match &alias {
                    Some(alias) => served.cap(alias.ttl),
                    None => served = Served::default(),
                }
                if is_new || !is_by_region {
                    served.regions.clear();
                }
                let difference = served.difference(&self.resolved, &self.name, &owner, rtype);
                self.resolved.apply(&difference);
            }
        }
    }

    /// An RRset of the zone, the SOA included.
    pub fn get(&self, key: &RrKey) -> Option<Rrset> {
        if key.rtype == Rtype::SOA && key.owner == self.name {
            return Some(self.soa_rrset());
        }
        self.content.get(key).cloned()
    }
}

/// The SOA's fields but the serial (RFC 1035 §3.3.13), and the TTL of the SOA and the apex NS.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SoaFields {
    /// MNAME.
    #[n(0)]
    pub mname: Name,
    /// RNAME.
    #[n(1)]
    pub rname: Name,
    /// REFRESH, in seconds.
    #[n(2)]
    pub refresh_s: u32,
    /// RETRY, in seconds.
    #[n(3)]
    pub retry_s: u32,
    /// EXPIRE, in seconds.
    #[n(4)]
    pub expire_s: u32,
    /// MINIMUM, in seconds: the negative TTL (RFC 2308 §4).
    #[n(5)]
    pub minimum_s: u32,
    /// TTL of the RRset, in seconds.
    #[n(6)]
    pub ttl: u32,
}

impl SoaFields {
    /// The SOA RRset with this serial.
    pub fn rrset(&self, serial: u32) -> Rrset {
        let mut rdata = Vec::with_capacity(self.mname.as_wire().len() + self.rname.as_wire().len() + 20);
        rdata.extend_from_slice(self.mname.as_wire());
        rdata.extend_from_slice(self.rname.as_wire());
        for number in [serial, self.refresh_s, self.retry_s, self.expire_s, self.minimum_s] {
            rdata.extend_from_slice(&number.to_be_bytes());
        }
        Rrset { ttl: self.ttl, rdatas: Rdatas::single(&rdata) }
    }
}

/// Whether `a` is newer than `b` in serial number arithmetic (RFC 1982 §3.2).
pub fn serial_is_newer(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// The newer of two serials; the first where neither is.
pub fn newest_serial(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if serial_is_newer(b, a) { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The serial to publish after `published`, and after `floor` too as far as serial number arithmetic has a number
/// that is newer than both.
pub fn next_serial_above(published: Option<u32>, floor: Option<u32>, time_ms: u64) -> u32 {
    let next = next_serial(newest_serial(published, floor), time_ms);
    let Some(published) = published else { return next };
    [Some(next), floor.map(following)]
        .into_iter()
        .flatten()
        .find(|serial| serial_is_newer(*serial, published))
        .unwrap_or_else(|| next_serial(Some(published), time_ms))
}

/// The serial that follows `previous`: the time in seconds where that is newer, so that a serial tells when its
/// zone was changed, and else one more.
pub fn next_serial(previous: Option<u32>, time_ms: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "serials wrap, RFC 1982")]
    let now_s = (time_ms / 1000) as u32;
    match previous {
        Some(previous) if !serial_is_newer(now_s, previous) => following(previous),
        _ => now_s,
    }
}

/// A serial that is newer than any that followed `previous` in at most `ahead` changes till now.
pub fn serial_far_ahead(previous: u32, ahead: u32, time_ms: u64) -> u32 {
    // Of numbers further away nobody can tell whether they are newer.
    let ahead = ahead.min(1 << 30);
    let by_time = following(next_serial(Some(previous), time_ms).wrapping_add(ahead));
    match serial_is_newer(by_time, previous) {
        true => by_time,
        false => following(previous.wrapping_add(ahead)),
    }
}

/// One more; zero is left out: it is legal and confuses software that takes it for none.
fn following(serial: u32) -> u32 {
    match serial.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_next_serial_is_newer(previous: u32, time_ms: u64) {
            prop_assert!(serial_is_newer(next_serial(Some(previous), time_ms), previous));
        }

        /// However far away the serial is that a zone had elsewhere.
        #[test]
        fn a_floor_never_makes_a_serial_older(published: u32, ahead in 0u32..=u32::MAX, time_ms: u64) {
            let floor = published.wrapping_add(ahead);
            let next = next_serial_above(Some(published), Some(floor), time_ms);
            prop_assert!(serial_is_newer(next, published));
            if ahead < (1 << 31) - 2 {
                prop_assert!(serial_is_newer(next, floor));
            }
        }
    }

    proptest! {
        /// Whatever a zone's serial came to after the copy was made.
        #[test]
        fn a_serial_far_ahead_is_newer_than_all_that_was_lost(
            copied_s in 1_700_000_000_u32..1_800_000_000,
            is_ahead_by in 0u32..400_000_000,
            changes in 0usize..200,
            pace_ms in 0u64..3_000,
        ) {
            let copied = copied_s.wrapping_add(is_ahead_by);
            let mut time_ms = u64::from(copied_s) * 1000;
            let mut lost = copied;
            for _ in 0..changes {
                lost = next_serial(Some(lost), time_ms);
                time_ms += pace_ms;
            }
            let restored = serial_far_ahead(copied, u32::try_from(changes).unwrap(), time_ms);
            prop_assert!(serial_is_newer(restored, lost) && serial_is_newer(restored, copied));
        }

        #[test]
        fn a_serial_far_ahead_is_newer(previous: u32, ahead: u32, time_ms: u64) {
            prop_assert!(serial_is_newer(serial_far_ahead(previous, ahead, time_ms), previous));
        }
    }

    #[test]
    fn serials_follow_rfc_1982() {
        assert!(serial_is_newer(1, 0));
        assert!(serial_is_newer(0, u32::MAX));
        assert!(!serial_is_newer(5, 5));
        assert!(!serial_is_newer(0, 1));
        // The time where it is ahead, one more where it isn't.
        assert_eq!(next_serial(None, 1_000_000), 1000);
        assert_eq!(next_serial(Some(999), 1_000_000), 1000);
        assert_eq!(next_serial(Some(1000), 1_000_000), 1001);
        assert_eq!(next_serial(Some(2_026_112_301), 1_795_000_000_000), 2_026_112_302);
    }
}
