//! Lists: all of it unless a limit is given, then a page.

use clap::Args;
use herald_wire::api::Page;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Session;
use crate::client::{Answer, ClientError, PageQuery};
use crate::failure::Failure;

/// The most items that the server gives at once.
const PAGE_ITEMS_MAX: u32 = 1000;

/// Flags of every list.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct ListArgs {
    /// Only so many items, instead of all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
    /// Begin there: what the page before said
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// A list as it will be shown.
#[derive(Debug, PartialEq)]
pub(super) struct Listing<T> {
    /// The items.
    pub(super) items: Vec<T>,
    /// The same as JSON: the page as it came, or all pages joined to one.
    json: String,
    /// Where it goes on, if only a page was asked for.
    next_cursor: Option<String>,
}

impl<T> Listing<T> {
    /// Fetches all, or the page that was asked for.
    pub(super) fn fetch(
        args: &ListArgs,
        mut fetch: impl FnMut(PageQuery) -> Result<Answer<Page<T>>, ClientError>,
    ) -> Result<Listing<T>, ClientError> {
        let mut page = fetch(PageQuery {
            cursor: args.cursor.clone(),
            limit: Some(args.limit.unwrap_or(PAGE_ITEMS_MAX)),
        })?;
        if args.limit.is_some() || page.next_cursor.is_none() {
            let Page { items, next_cursor } = page.value;
            return Ok(Listing { items, json: page.text, next_cursor });
        }
        let (mut items, mut texts) = (Vec::new(), Vec::new());
        loop {
            texts.extend(item_texts(&page)?);
            items.append(&mut page.value.items);
            let Some(cursor) = page.value.next_cursor.take() else { break };
            page = fetch(PageQuery { cursor: Some(cursor), limit: Some(PAGE_ITEMS_MAX) })?;
        }
        Ok(Listing { items, json: format!("{{\"items\":[{}]}}", texts.join(",")), next_cursor: None })
    }
}

fn item_texts<T>(page: &Answer<Page<T>>) -> Result<Vec<String>, ClientError> {
    #[derive(Deserialize)]
    struct Items<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    let malformed =
        |error: serde_json::Error| ClientError::Malformed { status: page.status, detail: error.to_string() };
    let Items { items } = serde_json::from_str(&page.text).map_err(malformed)?;
    Ok(items.into_iter().map(|item| item.get().to_owned()).collect())
}

impl Session<'_> {
    /// Shows a list, and where it goes on.
    pub(super) fn listed<T>(
        &mut self,
        listing: &Listing<T>,
        table: impl FnOnce(&[T]) -> String,
    ) -> Result<(), Failure> {
        self.output.result(&listing.json, || table(&listing.items))?;
        if let (false, Some(cursor)) = (self.output.is_json(), &listing.next_cursor) {
            self.output.note(&format!("there is more: --cursor {cursor}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Answer<Page<u32>> {
        let value = serde_json::from_str(text).unwrap();
        Answer { status: 200, etag: None, text: text.to_owned(), value }
    }

    fn pages(query: PageQuery) -> Answer<Page<u32>> {
        match query.cursor.as_deref() {
            None => page(r#"{"items": [1, 2], "next_cursor": "b"}"#),
            Some("b") => page(r#"{"items":[3],"next_cursor":"c"}"#),
            Some("c") => page(r#"{"items":[]}"#),
            Some(other) => panic!("{other}"),
        }
    }

    #[test]
    fn all_pages_become_one() {
        let listing = Listing::fetch(&ListArgs::default(), |query| Ok(pages(query))).unwrap();
        assert_eq!(listing.items, [1, 2, 3]);
        assert_eq!(listing.json, r#"{"items":[1,2,3]}"#);
        assert_eq!(listing.next_cursor, None);
    }

    #[test]
    fn one_page_is_left_as_it_came() {
        let args = ListArgs { limit: Some(2), cursor: None };
        let listing = Listing::fetch(&args, |query| {
            assert_eq!(query.limit, Some(2));
            Ok(pages(query))
        })
        .unwrap();
        assert_eq!(listing.json, r#"{"items": [1, 2], "next_cursor": "b"}"#);
        assert_eq!(listing.next_cursor.as_deref(), Some("b"));
    }
}
