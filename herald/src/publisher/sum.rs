//! Zones in sum: what heartbeats and hellos compare instead of lists.

use herald_core::zone::Zone;
use herald_core::{Generation, ZoneId};
use herald_wire::stream::{BUCKETS, Holding, InventoryZone, bucket_of, inventory_digest};

/// A zone as a PoP holds it, or should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub zone: ZoneId,
    pub generation: Generation,
    pub digest: u128,
}

impl Version {
    pub(super) fn of(zone: &Zone) -> Version {
        Version { zone: zone.id, generation: zone.generation, digest: zone.published_digest() }
    }
}

impl From<&InventoryZone> for Version {
    fn from(zone: &InventoryZone) -> Version {
        Version { zone: zone.zone, generation: zone.generation, digest: zone.digest }
    }
}

/// How many zones, and the digest of each bucket of them. It is kept up to date with each change, in constant time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sum {
    pub zones: u64,
    buckets: Box<[u128; BUCKETS]>,
}

impl Default for Sum {
    fn default() -> Sum {
        Sum { zones: 0, buckets: Box::new([0; BUCKETS]) }
    }
}

impl Sum {
    pub(super) fn add(&mut self, version: Version) {
        self.zones = self.zones.wrapping_add(1);
        let bucket = &mut self.buckets[bucket_of(version.zone)];
        *bucket = bucket.wrapping_add(inventory_digest(version.zone, version.generation, version.digest));
    }

    pub(super) fn subtract(&mut self, version: Version) {
        self.zones = self.zones.wrapping_sub(1);
        let bucket = &mut self.buckets[bucket_of(version.zone)];
        *bucket = bucket.wrapping_sub(inventory_digest(version.zone, version.generation, version.digest));
    }

    /// Follows a zone from what is served of it before to what is after.
    pub(super) fn follow(&mut self, old: Option<&Zone>, new: Option<&Zone>) {
        if let Some(old) = old {
            self.subtract(Version::of(old));
        }
        if let Some(new) = new {
            self.add(Version::of(new));
        }
    }

    /// In one digest.
    pub(super) fn holding(&self) -> Holding {
        let digest = self.buckets.iter().fold(0u128, |sum, bucket| sum.wrapping_add(*bucket));
        Holding { zones: self.zones, digest }
    }

    /// Numbers of the buckets in which somebody else holds something else.
    #[expect(clippy::cast_possible_truncation, reason = "256 buckets")]
    pub(super) fn differing(&self, theirs: &[u128]) -> Vec<u16> {
        let differs = |bucket: &usize| theirs.get(*bucket) != Some(&self.buckets[*bucket]);
        (0..BUCKETS).filter(differs).map(|bucket| bucket as u16).collect()
    }
}

/// Bucket digests as they come in a frame; ones that are cut short differ from all.
pub(super) fn read_digests(bytes: &[u8]) -> Vec<u128> {
    bytes.chunks_exact(16).map(|digest| u128::from_be_bytes(digest.try_into().expect("16"))).collect()
}
