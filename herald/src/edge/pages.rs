//! Pages of lists: a cursor says after which item the next page begins, so that items that come and go
//! meanwhile make none appear twice or be left out.

use data_encoding::BASE64URL_NOPAD;
use herald_wire::api::Page;
use serde::Deserialize;
use utoipa::IntoParams;

use super::problem::ApiError;

/// Items of a page unless it is said, and at most.
const ITEMS: usize = 100;
const ITEMS_MAX: usize = 1000;

/// So many candidates are looked at for a page. Past it a page has fewer items than asked for, perhaps none, and a
/// cursor to go on with: a rare match among very many must not hold a request up.
const CANDIDATES_MAX: usize = 10_000;

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    pub cursor: Option<String>,
    /// At most so many items: 100 unless given, at most 1000.
    pub limit: Option<usize>,
}

/// How many items a page is to have.
///
/// # Errors
/// If it is over the limit, or none.
pub fn limit(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(ITEMS) {
        limit @ 1..=ITEMS_MAX => Ok(limit),
        _ => Err(ApiError::malformed(format!("limit is 1 to {ITEMS_MAX}"))),
    }
}

/// A cursor of these octets.
pub fn write_cursor(octets: &[u8]) -> String {
    BASE64URL_NOPAD.encode(octets)
}

/// The octets in a cursor, as what they stand for.
///
/// # Errors
/// If it isn't a cursor of this list.
pub fn read_cursor<K>(
    cursor: Option<&str>,
    read: impl FnOnce(&[u8]) -> Option<K>,
) -> Result<Option<K>, ApiError> {
    let Some(text) = cursor else { return Ok(None) };
    let octets = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    match octets.and_then(|octets| read(&octets)) {
        Some(key) => Ok(Some(key)),
        None => Err(ApiError::malformed("the cursor is not the next_cursor of a page of this list")),
    }
}

/// The id in a cursor of a list by age.
///
/// # Errors
/// If it isn't a cursor of such a list.
pub fn read_id_cursor(cursor: Option<&str>) -> Result<Option<u128>, ApiError> {
    read_cursor(cursor, |octets| Some(u128::from_be_bytes(octets.try_into().ok()?)))
}

/// The revision in a cursor of a list of changes, newest first: the page has those below it.
///
/// # Errors
/// If it isn't a cursor of such a list.
pub fn read_revision_cursor(cursor: Option<&str>) -> Result<Option<u64>, ApiError> {
    read_cursor(cursor, |octets| Some(u64::from_be_bytes(octets.try_into().ok()?)))
}

/// Takes a page from candidates that come after the cursor: those that are wanted, up to the limit.
pub fn page<C, T>(
    candidates: impl IntoIterator<Item = C>,
    limit: usize,
    cursor: impl Fn(&C) -> Vec<u8>,
    mut wanted: impl FnMut(&C) -> Option<T>,
) -> Page<T> {
    let mut candidates = candidates.into_iter().peekable();
    let mut items = Vec::with_capacity(limit.min(ITEMS));
    let mut looked_at = 0;
    while let Some(candidate) = candidates.next() {
        looked_at += 1;
        items.extend(wanted(&candidate));
        if (items.len() == limit || looked_at == CANDIDATES_MAX) && candidates.peek().is_some() {
            return Page { items, next_cursor: Some(write_cursor(&cursor(&candidate))) };
        }
    }
    Page { items, next_cursor: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_to_the_whole_list() {
        let is_even = |n: &u32| n.is_multiple_of(2).then_some(*n);
        let key = |n: &u32| n.to_be_bytes().to_vec();
        let (mut after, mut all, mut pages) = (None, Vec::new(), 0);
        loop {
            let from = after.map_or(0, |n: u32| n + 1);
            let page = page(from..100_000, 700, key, is_even);
            all.extend(page.items);
            pages += 1;
            let Some(cursor) = page.next_cursor else { break };
            after = read_cursor(Some(&cursor), |octets| Some(u32::from_be_bytes(octets.try_into().ok()?)))
                .unwrap();
        }
        assert!(all.iter().copied().eq((0..100_000).step_by(2)));
        assert_eq!(pages, 72);
        // Looked at enough: an empty page that goes on.
        let page = page(0..100_000, 700, key, |_| None::<u32>);
        assert!(page.items.is_empty() && page.next_cursor.is_some());
        assert!(read_cursor(Some("!"), |_| Some(())).is_err());
        assert!(limit(Some(0)).is_err() && limit(Some(1001)).is_err() && limit(Some(1000)).is_ok());
    }
}
