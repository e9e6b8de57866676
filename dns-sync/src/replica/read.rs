//! Reading whole zones, with their digests recomputed, while the writer goes on.

use std::io;
use std::path::Path;

use herald_core::{Name, RrKey, Rrset, Rtype, ZoneId};
use herald_wire::stream::{BUCKETS, bucket_of};
use rusqlite::{Connection, OpenFlags};

use super::row::{ZoneRow, parse_row_key, parse_row_value, row_key, with_serial};
use super::{
    COMPLETE_RECORD, DATABASE, OpenError, ReplicaError, ZONE_COLUMNS, add_columns, check_format, connect,
    digest_of, one_zone, read_zone_row, record,
};

/// Memory that a reader's pages may take, in KiB.
const CACHE_KIB: i32 = 2 * 1024;

/// A connection that reads.
pub struct Reader {
    db: Connection,
}

/// What is read of a zone, one after the other.
pub enum Read<'a> {
    /// Its row.
    Zone(&'a ZoneRow),
    /// One of its RRsets.
    Rrset(&'a RrKey, &'a Rrset),
}

/// Why a zone could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadZoneError {
    /// It isn't there any more.
    #[error("the zone is not in the replica any more")]
    Gone,
    /// Its content isn't what was written.
    #[error("the zone is damaged in the replica: {0}")]
    Damaged(String),
    /// The replica failed.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// What the records were written to failed.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl From<rusqlite::Error> for ReadZoneError {
    fn from(error: rusqlite::Error) -> ReadZoneError {
        match ReplicaError::from(error) {
            // Some page of it: others may be sound.
            ReplicaError::Damaged(what) => ReadZoneError::Damaged(what),
            error => ReadZoneError::Replica(error),
        }
    }
}

impl Reader {
    /// Opens the replica in this directory; it must be there.
    ///
    /// # Errors
    /// [`OpenError::Missing`] if it isn't, and those of [`super::Replica::open`].
    pub fn open(dir: &Path) -> Result<Reader, OpenError> {
        if !dir.join(DATABASE).exists() {
            return Err(OpenError::Missing { dir: dir.into() });
        }
        let failed = |error: rusqlite::Error| OpenError::Replica { dir: dir.into(), source: error.into() };
        let db = connect(dir, OpenFlags::empty()).map_err(failed)?;
        // Whoever writes knotd's files may be of a newer version than the agent that wrote the replica.
        add_columns(&db).map_err(failed)?;
        db.pragma_update(None, "query_only", true).map_err(failed)?;
        db.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
        check_format(&db, dir)?;
        Ok(Reader { db })
    }

    /// Whether the replica ever held everything that it was to hold.
    pub fn is_complete(&self) -> Result<bool, ReplicaError> {
        Ok(record(&self.db, COMPLETE_RECORD)? == [1])
    }

    /// Which zone has this name.
    ///
    /// # Errors
    /// If the replica can't be read.
    pub fn zone_named(&self, name: &Name) -> Result<Option<ZoneId>, ReplicaError> {
        let mut select =
            self.db.prepare_cached(&format!("SELECT {ZONE_COLUMNS} FROM zone WHERE name = ?1"))?;
        Ok(one_zone(select.query((name.as_wire(),))?)?.map(|row| row.id))
    }

    /// All zones whose rows are sound, and how many are not.
    pub fn zones(&self) -> Result<(Vec<ZoneRow>, u64), ReplicaError> {
        let mut select = self.db.prepare(&format!("SELECT {ZONE_COLUMNS} FROM zone"))?;
        let mut rows = select.query(())?;
        let (mut zones, mut damaged) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            match read_zone_row(row) {
                Some(zone) => zones.push(zone),
                None => damaged += 1,
            }
        }
        Ok((zones, damaged))
    }

    /// The digest of each inventory bucket, from the zones' rows; none if one of them is damaged.
    pub fn bucket_digests(&self) -> Result<Option<Box<[u128; BUCKETS]>>, ReplicaError> {
        let (zones, damaged) = self.zones()?;
        let mut buckets = Box::new([0_u128; BUCKETS]);
        for zone in &zones {
            let bucket = &mut buckets[bucket_of(zone.id)];
            *bucket = bucket.wrapping_add(digest_of(zone));
        }
        Ok((damaged == 0).then_some(buckets))
    }

    /// Gives the RRsets of a zone as [`Reader::zone_and_rrsets`] does.
    ///
    /// # Errors
    /// As there.
    pub fn zone(
        &self,
        id: ZoneId,
        serial: Option<u32>,
        mut each: impl FnMut(&RrKey, &Rrset) -> io::Result<()>,
    ) -> Result<ZoneRow, ReadZoneError> {
        self.zone_and_rrsets(id, serial, |read| match read {
            Read::Zone(_) => Ok(()),
            Read::Rrset(key, rrset) => each(key, rrset),
        })
    }

    /// Gives a zone's row, then its RRsets, the SOA first, as they are at one moment; and the row again, if all that was given adds up
    /// to what it says. With `serial`, the SOA has that one.
    ///
    /// # Errors
    /// After [`ReadZoneError::Damaged`] what was given is not to be used.
    pub fn zone_and_rrsets(
        &self,
        id: ZoneId,
        serial: Option<u32>,
        mut each: impl FnMut(Read<'_>) -> io::Result<()>,
    ) -> Result<ZoneRow, ReadZoneError> {
        // One snapshot for the row and the RRsets.
        let snapshot = self.db.unchecked_transaction()?;
        let zone = {
            let mut select =
                snapshot.prepare_cached(&format!("SELECT {ZONE_COLUMNS} FROM zone WHERE id = ?1"))?;
            match one_zone(select.query((id.0.to_be_bytes(),))?) {
                Err(ReplicaError::Damaged(what) | ReplicaError::DamagedZone(what)) => {
                    return Err(ReadZoneError::Damaged(what));
                }
                zone => zone?.ok_or(ReadZoneError::Gone)?,
            }
        };
        each(Read::Zone(&zone))?;
        let soa_key = RrKey::new(zone.name.clone(), Rtype::SOA);
        let (mut digest, mut rrset_count) = (0_u128, 0);
        // The SOA's own row first, then all others.
        let soa_row_key = row_key(&zone.name, &soa_key).unwrap_or_default();
        for sql in [
            "SELECT key, value FROM rrset WHERE content = ?1 AND key = ?2",
            "SELECT key, value FROM rrset WHERE content = ?1 AND key <> ?2 ORDER BY key",
        ] {
            let mut select = snapshot.prepare_cached(sql)?;
            let mut rows = select.query((zone.content, &soa_row_key))?;
            while let Some(row) = rows.next()? {
                let unreadable = || ReadZoneError::Damaged("an RRset can't be read".into());
                let key = row.get_ref(0)?.as_blob().ok().and_then(|key| parse_row_key(&zone.name, key));
                let rrset = row.get_ref(1)?.as_blob().ok().and_then(parse_row_value);
                let (key, rrset) = key.zip(rrset).ok_or_else(unreadable)?;
                digest = digest.wrapping_add(rrset.digest(&key));
                rrset_count += 1;
                match serial {
                    Some(serial) if key == soa_key => {
                        each(Read::Rrset(&key, &with_serial(&rrset, serial).ok_or_else(unreadable)?))?;
                    }
                    _ => each(Read::Rrset(&key, &rrset))?,
                }
            }
        }
        if digest != zone.digest || rrset_count != zone.rrset_count {
            return Err(ReadZoneError::Damaged(format!(
                "the digest of its {rrset_count} RRsets is not that of the {} it should have",
                zone.rrset_count
            )));
        }
        Ok(zone)
    }
}
