//! The table of places, for all zones.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use steering::geo::Geo;

use crate::knot::{Query, Retired, Shared, free_retired as free};

static TABLE: Shared<Arc<Geo>> = Shared::empty();
static WRITER: Mutex<Writer> = Mutex::new(Writer { hash: Vec::new(), table: None, retired: Vec::new() });

struct Writer {
    /// SHA-256 of the table in use, empty if there is none.
    hash: Vec<u8>,
    table: Option<Arc<Geo>>,
    retired: Vec<Retired<Arc<Geo>>>,
}

/// Without a table nothing is known of any address.
static EMPTY: LazyLock<Geo> = LazyLock::new(|| Geo::empty().keeping_scopes());

/// The table in use. It is made sure in `set_up` that this never waits.
#[inline]
pub fn table<'q>(query: &Query<'q>) -> &'q Geo {
    TABLE.get(query).map_or(&EMPTY, |table| table)
}

/// Makes what queries of before the first table need.
pub fn set_up() {
    LazyLock::force(&EMPTY);
}

/// SHA-256 of the file of the table in use, empty if there is none.
pub fn hash() -> Vec<u8> {
    WRITER.lock().unwrap_or_else(PoisonError::into_inner).hash.clone()
}

/// The table in use, for whoever answers no query.
pub fn current() -> Option<Arc<Geo>> {
    WRITER.lock().unwrap_or_else(PoisonError::into_inner).table.clone()
}

/// Takes the table in this file into use.
///
/// # Errors
/// Why it isn't, in words: what was in use stays.
pub fn load(path: &str, hash: &[u8]) -> Result<(), String> {
    if !hash.is_empty() && self::hash() == hash {
        return Ok(());
    }
    let file = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    if Sha256::digest(&file).as_slice() != hash {
        return Err(format!("{path}: it isn't the file that was announced"));
    }
    let geo = Geo::read(&file).map_err(|error| format!("{path}: {error}"))?;
    replace(Some(Arc::new(geo.keeping_scopes())), hash.to_vec());
    Ok(())
}

/// There is no table from now on.
pub fn clear() {
    replace(None, Vec::new());
}

fn replace(table: Option<Arc<Geo>>, hash: Vec<u8>) {
    let mut writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    writer.retired.push(TABLE.replace(table.clone().map(Box::new)));
    writer.table = table;
    writer.hash = hash;
}

/// Frees what no query reads any more.
pub fn free_retired() {
    free(&mut WRITER.lock().unwrap_or_else(PoisonError::into_inner).retired);
}
