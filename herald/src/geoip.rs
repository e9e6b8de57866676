//! GeoIP: MaxMind's databases come in by API, one table is made of them, and what PoPs are to have is told to the publisher.
//!
//! ```text
//! PUT city ─┐  (off the writer)                    one small entry                    sessions, in waves
//! PUT asn ──┴▶ table ──▶ chunks of the store ──▶ on the log ──▶ this follows it ──▶ publisher ──▶ PoPs
//! ```

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use herald_core::ZoneId;
use herald_core::content::Content;
use herald_core::geoip::{Geoip, GeoipDatabase};
use herald_core::state::State;
use herald_core::steering::{Item, Rule, answered_type};
use sha2::{Digest, Sha256};
use steering::geo::{Builder, Database, Geo, MmdbError, MmdbKind};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, SubmitError};
use crate::publisher::{Shared, TableFile};

/// How many zones may steer by the free database before its operator is told of the paid one.
pub const FREE_ZONES_MAX: usize = 50;

/// The largest database that is taken, decompressed, in bytes: the paid City database has about 150 MB.
pub const DATABASE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How long after a table could not be read it is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// How often the log says what the operator should know.
const NOTICE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Types of databases that cost nothing begin like this.
const FREE_KIND: &str = "GeoLite2";

/// A handle. Clones are handles on the same one.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

struct Inner {
    engine: Engine,
    shared: Arc<Shared>,
    /// What decisions are explained by.
    geo: ArcSwap<Geo>,
    /// SHA-256 of the table that was read last.
    loaded: Mutex<Option<Option<[u8; 32]>>>,
    /// One upload at a time.
    uploading: tokio::sync::Mutex<()>,
    counted: Mutex<Counted>,
}

/// Zones that have rules that ask for places, as of a state.
#[derive(Default)]
struct Counted {
    seen: Arc<State>,
    zones: HashSet<ZoneId>,
}

/// A table that was made and staged.
pub struct Staged {
    /// What the log is to say.
    pub table: Option<Geoip>,
    /// SHA-256 of the one that it was made of.
    pub base: Option<[u8; 32]>,
    /// What is odd about it.
    pub warning: Option<String>,
}

/// Why no table was made.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The database can't be used.
    #[error("the database can't be used: {0}")]
    Database(#[from] MmdbError),
    /// It is gzip'd, and not whole.
    #[error("the database can't be decompressed: {0}")]
    Gzip(std::io::Error),
    /// It is too large.
    #[error("the database is larger than {DATABASE_BYTES_MAX} bytes")]
    TooLarge,
    /// The store.
    #[error(transparent)]
    Store(#[from] SubmitError),
}

impl Places {
    /// What is known of places by this engine, told to who shares this.
    pub fn new(engine: Engine, shared: Arc<Shared>) -> Places {
        let geo = ArcSwap::from_pointee(Geo::empty());
        let (loaded, uploading, counted) =
            (Mutex::default(), tokio::sync::Mutex::default(), Mutex::default());
        Places(Arc::new(Inner { engine, shared, geo, loaded, uploading, counted }))
    }

    /// The table as decisions are taken by it.
    pub fn geo(&self) -> Arc<Geo> {
        self.0.geo.load_full()
    }

    /// Held by who uploads, from the making of a table to its being on the log.
    pub async fn uploading(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.uploading.lock().await
    }

    /// Makes a table of a database, and of what there is of the other kind, and puts it into the store. Blocking.
    ///
    /// # Errors
    /// [`StageError`].
    pub fn stage(&self, kind: MmdbKind, database: &[u8]) -> Result<Staged, StageError> {
        let database = decompressed(database)?;
        let mut builder = Builder::default();
        builder.add_mmdb(kind, &database)?;
        drop(database);
        let new = builder.finish();
        self.replace(kind, &new)
    }

    /// Makes a table without what there is of a kind. Blocking.
    ///
    /// # Errors
    /// [`StageError`].
    pub fn stage_without(&self, kind: MmdbKind) -> Result<Staged, StageError> {
        self.replace(kind, &Geo::empty())
    }

    fn replace(&self, kind: MmdbKind, new: &Geo) -> Result<Staged, StageError> {
        self.load()?;
        let state = self.0.engine.state();
        let (old, geo) = (state.geoip(), self.geo());
        let warning = self.warning(kind, new);
        let combined = match kind {
            MmdbKind::City => Geo::combine(new, &geo),
            MmdbKind::Asn => Geo::combine(&geo, new),
        };
        let versions = combined.versions();
        let base = old.map(|table| table.sha256);
        if versions.city.is_none() && versions.asn.is_none() {
            return Ok(Staged { table: None, base, warning });
        }
        let file = combined.write();
        let chunks = self.0.engine.stage_table(&file)?;
        let database = |database: &Option<Database>| {
            database
                .as_ref()
                .map(|Database { kind, built_s }| GeoipDatabase { kind: kind.clone(), built_s: *built_s })
        };
        let table = Geoip {
            sha256: Sha256::digest(&file).into(),
            bytes: file.len() as u64,
            chunks,
            city: database(&versions.city),
            asn: database(&versions.asn),
        };
        Ok(Staged { table: Some(table), base, warning })
    }

    fn warning(&self, kind: MmdbKind, new: &Geo) -> Option<String> {
        let geo = self.geo();
        let of = |geo: &Geo| match kind {
            MmdbKind::City => geo.versions().city.clone(),
            MmdbKind::Asn => geo.versions().asn.clone(),
        };
        let (old, new) = (of(&geo)?, of(new)?);
        (new.built_s <= old.built_s)
            .then(|| format!("this {} is not newer than the {} that it replaces", new.kind, old.kind))
    }

    /// What was on the log before has been replaced: its chunks may go.
    pub fn replaced(&self, old: Option<&Geoip>) {
        let state = self.0.engine.state();
        let present: HashSet<_> = state.geoip().into_iter().flat_map(|table| &table.chunks).collect();
        let gone = old.into_iter().flat_map(|table| &table.chunks).filter(|chunk| !present.contains(chunk));
        self.0.engine.forget_table(&gone.copied().collect::<Vec<_>>());
    }

    /// Begins the roll-out of the present table anew.
    pub fn roll_out_again(&self) {
        self.0.shared.rollout().begin(self.0.shared.rollout().table());
    }

    /// Reads the table that the log names, unless that was done. Blocking.
    ///
    /// # Errors
    /// If the store can't be read, or hasn't got it.
    pub fn load(&self) -> Result<(), SubmitError> {
        let state = self.0.engine.state();
        let wanted = state.geoip();
        let sha256 = wanted.map(|table| table.sha256);
        let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if *loaded == Some(sha256) {
            return Ok(());
        }
        let unusable = |why: String| {
            SubmitError::Unavailable(format!("the GeoIP table can't be read from the store: {why}"))
        };
        let (geo, file) = match wanted {
            None => (Geo::empty(), None),
            Some(table) => {
                let bytes = self.0.engine.table(&table.chunks).map_err(|e| unusable(e.to_string()))?;
                let bytes = bytes.ok_or_else(|| unusable("a part of it is missing".into()))?;
                let sha256: [u8; 32] = Sha256::digest(&bytes).into();
                if sha256 != table.sha256 {
                    return Err(unusable("it isn't what was written".into()));
                }
                let geo = Geo::read(&bytes).map_err(|e| unusable(e.to_string()))?;
                (geo, Some(Arc::new(TableFile { sha256, bytes })))
            }
        };
        self.0.geo.store(Arc::new(geo));
        self.0.shared.rollout().begin(file);
        *loaded = Some(sha256);
        Ok(())
    }

    /// How many zones have rules that ask for places. Takes the time that what changed since the last time takes, and the first
    /// time that of all zones. Blocking.
    pub fn zones_with_geo_rules(&self) -> usize {
        let now = self.0.engine.state();
        let mut counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let Counted { seen, zones } = &mut *counted;
        for diff in seen.published_diff(&now) {
            if let Some(zone) = diff.old.or(diff.new) {
                zones.remove(&zone.id);
            }
            if let Some(zone) = diff.new.filter(|zone| has_geo_rules(&zone.content)) {
                zones.insert(zone.id);
            }
        }
        *seen = now;
        zones.len()
    }

    /// What the operator should know, given so many zones with rules that ask for places.
    pub fn notices(&self, zones: usize) -> Vec<String> {
        let state = self.0.engine.state();
        let city = state.geoip().and_then(|table| table.city.as_ref());
        let is_free = city.is_some_and(|city| city.kind.starts_with(FREE_KIND));
        let worth = (zones > FREE_ZONES_MAX && is_free).then(|| {
            format!(
                "{zones} zones steer by the free {}: for more than {FREE_ZONES_MAX} the paid GeoIP2 City database, which \
                 is right more often, is worth its price",
                city.map_or("", |city| &city.kind)
            )
        });
        let missing = (zones > 0 && city.is_none()).then(|| {
            format!(
                "{zones} zones have rules that need the City database, and there is none: these rules fall through"
            )
        });
        worth.into_iter().chain(missing).collect()
    }

    /// Follows the log until `shutdown`: what it names is read, and what the operator should know is said once a day.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut revision = self.0.engine.revision();
        let mut daily = tokio::time::interval(NOTICE_INTERVAL);
        daily.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            revision.mark_unchanged();
            let is_loaded = self.clone().load_if_other().await;
            tokio::select! {
                changed = revision.changed(), if is_loaded => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if !is_loaded => {}
                _ = daily.tick() => {
                    let places = self.clone();
                    let said = tokio::task::spawn_blocking(move || places.notices(places.zones_with_geo_rules()));
                    for notice in said.await.unwrap_or_default() {
                        tracing::warn!("GeoIP: {notice}");
                    }
                }
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn load_if_other(self) -> bool {
        let wanted = self.0.engine.state().geoip().map(|table| table.sha256);
        // Whoever uploads may be at it, and has it then.
        if self.0.loaded.try_lock().is_ok_and(|loaded| *loaded == Some(wanted)) {
            return true;
        }
        match tokio::task::spawn_blocking(move || self.load()).await {
            Ok(Ok(())) => true,
            Ok(Err(e)) => {
                tracing::error!("{e}");
                false
            }
            Err(_) => false,
        }
    }
}

/// A database as it was before it was gzip'd.
fn decompressed(database: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, StageError> {
    use std::io::Read;
    if !database.starts_with(&[0x1f, 0x8b]) {
        return Ok(database.into());
    }
    let mut plain = Vec::new();
    let limit = DATABASE_BYTES_MAX as u64 + 1;
    flate2::read::MultiGzDecoder::new(database)
        .take(limit)
        .read_to_end(&mut plain)
        .map_err(StageError::Gzip)?;
    if plain.len() > DATABASE_BYTES_MAX {
        return Err(StageError::TooLarge);
    }
    Ok(plain.into())
}

/// Whether a policy of the zone asks where clients are.
fn has_geo_rules(content: &Content) -> bool {
    let asks = |rule: &Rule| {
        let when = &rule.when;
        rule.nearest
            || !(when.continents.is_empty()
                && when.countries.is_empty()
                && when.subdivisions.is_empty()
                && when.cities.is_empty()
                && when.asns.is_empty())
    };
    content.iter().filter(|(key, _)| answered_type(key.rtype).is_some()).any(|(key, rrset)| {
        matches!(Item::read(key.rtype, &rrset.rdatas), Ok(Item::Policy(_, policy)) if policy.rules.iter().any(asks))
    })
}
