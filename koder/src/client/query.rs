//! What goes behind the question mark, and the header that goes with a write.

use std::time::Duration;

use herald_wire::api::{ImportMode, Wait, ZoneStatus};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageQuery {
    /// Where it begins: the `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// At most so many items.
    pub limit: Option<u32>,
}

/// Which zones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZoneQuery {
    /// Part of the name.
    pub name: Option<String>,
    /// What the name begins with.
    pub name_prefix: Option<String>,
    /// The whole name.
    pub name_exact: Option<String>,
    /// A name that it has, or lies below.
    pub below: Option<String>,
    /// For operators: the tenant, by id or name.
    pub tenant: Option<String>,
    /// Whether it is served.
    pub status: Option<ZoneStatus>,
    /// Whether it is private.
    pub private: Option<bool>,
    /// Its set of name servers, by id or name.
    pub nameserver_set: Option<String>,
    /// Labels that it has, all of them.
    pub labels: Vec<(String, String)>,
    /// The page.
    pub page: PageQuery,
}

/// Which RRsets of a zone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RrsetQuery {
    /// The owner name.
    pub name: Option<String>,
    /// The type.
    pub rtype: Option<String>,
    /// As of this revision or time.
    pub at: Option<String>,
    /// The page.
    pub page: PageQuery,
}

/// Which changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChangeQuery {
    /// Of this zone.
    pub zone: Option<String>,
    /// Done by this token or tenant, by any `operator`, or by the `system`.
    pub principal: Option<String>,
    /// Not before this revision or time.
    pub since: Option<String>,
    /// Not after this revision or time.
    pub until: Option<String>,
    /// The page.
    pub page: PageQuery,
}

/// Which counts.
#[derive(Clone, Debug, Default)]
pub struct StatsQuery {
    /// Since when.
    pub from_ms: u64,
    /// How long a period is: `1m`, `1h` or `1d`.
    pub step: Option<String>,
    /// Of this PoP alone.
    pub pop: Option<String>,
}

/// Which records of a query log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryLogQuery {
    /// Not before this.
    pub since_ms: Option<u64>,
    /// For this name.
    pub name: Option<String>,
    /// Of this type.
    pub rtype: Option<String>,
    /// With this response code.
    pub rcode: Option<String>,
    /// At this PoP.
    pub pop: Option<String>,
    /// The page.
    pub page: PageQuery,
}

/// Who asks what, for an explanation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExplainQuery {
    /// The name that is asked for.
    pub name: String,
    /// The type that is asked for.
    pub rtype: String,
    /// Where the query comes from.
    pub client: String,
    /// The client subnet that the resolver tells of.
    pub ecs: Option<String>,
    /// The PoP that answers.
    pub pop: Option<String>,
    /// As of this revision or time.
    pub at: Option<String>,
    /// The draw.
    pub draw: Option<u64>,
    /// The zone, instead of the one that has the name.
    pub zone: Option<String>,
}

/// What to wait for, and how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WaitFor {
    /// Whose confirmation.
    pub wait: Wait,
    /// The server takes one minute at most.
    pub timeout: Duration,
}

/// How to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteOptions {
    /// Judge everything and do nothing.
    pub dry_run: bool,
    /// Answer only when PoPs confirmed it.
    pub wait: Option<WaitFor>,
    /// Do it only if this is the ETag, with or without the quotes; `*` is any.
    pub if_match: Option<String>,
    /// Why, where no body says it.
    pub message: Option<String>,
    /// That much of a zone goes is meant.
    pub confirmed: bool,
}

impl WriteOptions {
    /// Waits for all PoPs.
    pub fn wait_all(timeout: Duration) -> WriteOptions {
        WriteOptions { wait: Some(WaitFor { wait: Wait::All, timeout }), ..WriteOptions::default() }
    }

    /// Does nothing for real.
    pub fn dry_run() -> WriteOptions {
        WriteOptions { dry_run: true, ..WriteOptions::default() }
    }
}

/// Pairs of names and values.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    fn set(&mut self, name: &'static str, value: Option<impl ToString>) {
        self.0.extend(value.map(|value| (name, value.to_string())));
    }

    pub(super) fn append(&mut self, mut other: Query) {
        self.0.append(&mut other.0);
    }

    /// The text with its question mark, or nothing.
    pub(super) fn as_text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            text.push(if text.is_empty() { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.extend(utf8_percent_encode(value, VALUE));
        }
        text
    }
}

impl PageQuery {
    pub(super) fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("cursor", self.cursor.as_deref());
        query.set("limit", self.limit);
        query
    }
}

impl ZoneQuery {
    pub(super) fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("name", self.name.as_deref());
        query.set("name_prefix", self.name_prefix.as_deref());
        query.set("name_exact", self.name_exact.as_deref());
        query.set("below", self.below.as_deref());
        query.set("tenant", self.tenant.as_deref());
        query.set("nameserver_set", self.nameserver_set.as_deref());
        query.set(
            "status",
            self.status.map(|status| match status {
                ZoneStatus::Active => "active",
                ZoneStatus::Pending => "pending",
            }),
        );
        query.set("private", self.private.map(|private| if private { "true" } else { "false" }));
        for (key, value) in &self.labels {
            query.set("label", Some(format!("{key}={value}")));
        }
        query.append(self.page.query());
        query
    }
}

impl RrsetQuery {
    pub(super) fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("name", self.name.as_deref());
        query.set("type", self.rtype.as_deref());
        query.set("at", self.at.as_deref());
        query.append(self.page.query());
        query
    }
}

impl StatsQuery {
    pub(super) fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("from", Some(self.from_ms));
        query.set("step", self.step.as_deref());
        query.set("pop", self.pop.as_deref());
        query
    }
}

impl QueryLogQuery {
    pub(super) fn query(&self) -> Query {
        let mut query = self.page.query();
        query.set("since", self.since_ms);
        query.set("name", self.name.as_deref());
        query.set("type", self.rtype.as_deref());
        query.set("rcode", self.rcode.as_deref());
        query.set("pop", self.pop.as_deref());
        query
    }
}

impl ExplainQuery {
    pub(super) fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("name", Some(&self.name));
        query.set("type", Some(&self.rtype));
        query.set("client", Some(&self.client));
        query.set("ecs", self.ecs.as_deref());
        query.set("pop", self.pop.as_deref());
        query.set("at", self.at.as_deref());
        query.set("draw", self.draw);
        query.set("zone", self.zone.as_deref());
        query
    }
}

impl ChangeQuery {
    pub(super) fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("zone", self.zone.as_deref());
        query.set("principal", self.principal.as_deref());
        query.set("since", self.since.as_deref());
        query.set("until", self.until.as_deref());
        query.append(self.page.query());
        query
    }
}

/// Of which kind, and which page.
pub(super) fn access_query(kind: Option<&str>, page: &PageQuery) -> Query {
    let mut query = Query::default();
    query.set("kind", kind);
    query.append(page.query());
    query
}

/// What a filter says, and which page.
pub(super) fn filtered(filter: &[(&'static str, &str)], page: &PageQuery) -> Query {
    let mut query = Query::default();
    for (key, value) in filter {
        query.set(key, Some(*value));
    }
    query.append(page.query());
    query
}

/// `?at=`.
pub(super) fn at_query(at: Option<&str>) -> Query {
    let mut query = Query::default();
    query.set("at", at);
    query
}

/// Between what, as records or as the API has it.
pub(super) fn diff_query(from: &str, to: Option<&str>, as_text: bool) -> Query {
    let mut query = Query::default();
    query.set("from", Some(from));
    query.set("to", to);
    query.set("format", as_text.then_some("text"));
    query
}

impl WaitFor {
    pub(super) fn query(&self) -> Query {
        let mut query = Query::default();
        let wait = match self.wait {
            Wait::All => "all",
            Wait::Quorum => "quorum",
        };
        query.set("wait", Some(wait));
        query.set("timeout_ms", Some(self.timeout.as_millis()));
        query
    }
}

impl WriteOptions {
    pub(super) fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("dry_run", self.dry_run.then_some(true));
        if let Some(wait) = &self.wait {
            query.append(wait.query());
        }
        query.set("confirm", self.confirmed.then_some("shrink"));
        query.set("message", self.message.as_deref());
        query
    }
}

/// What an import does, beside what every write does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ImportOptions {
    /// What becomes of RRsets that the file doesn't have.
    pub mode: ImportMode,
    /// Make the zone if it isn't there.
    pub create: bool,
    /// Tell so many of the RRsets that change.
    pub preview: u64,
}

pub(super) fn import_query(options: &ImportOptions) -> Query {
    let ImportOptions { mode, create, preview } = *options;
    let mut query = Query::default();
    query.set("create", create.then_some(true));
    query.set("preview", (preview > 0).then_some(preview));
    let mode = match mode {
        ImportMode::Replace => "replace",
        ImportMode::Merge => "merge",
    };
    query.set("mode", Some(mode));
    query
}

/// An ETag as the header wants it: in quotes, unless it is so already or means any.
pub(super) fn entity_tag(tag: &str) -> String {
    if tag == "*" || tag.ends_with('"') { tag.to_owned() } else { format!("\"{tag}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_is_nothing_said() {
        assert_eq!(ZoneQuery::default().query().as_text(), "");
        assert_eq!(WriteOptions::default().query().as_text(), "");
    }

    #[test]
    fn values_are_encoded() {
        let query = ZoneQuery {
            name: Some("a&b".into()),
            status: Some(ZoneStatus::Pending),
            labels: vec![("team".into(), "web ops".into()), ("env".into(), "ö".into())],
            page: PageQuery { cursor: Some("x+/=".into()), limit: Some(5) },
            ..ZoneQuery::default()
        };
        assert_eq!(
            query.query().as_text(),
            "?name=a%26b&status=pending&label=team%3Dweb%20ops&label=env%3D%C3%B6&cursor=x%2B%2F%3D&limit=5"
        );
    }

    #[test]
    fn writes_say_how() {
        let options = WriteOptions { dry_run: true, ..WriteOptions::wait_all(Duration::from_millis(1500)) };
        assert_eq!(options.query().as_text(), "?dry_run=true&wait=all&timeout_ms=1500");
    }

    #[test]
    fn entity_tags_get_their_quotes() {
        assert_eq!(entity_tag("42"), "\"42\"");
        assert_eq!(entity_tag("\"42\""), "\"42\"");
        assert_eq!(entity_tag("W/\"42\""), "W/\"42\"");
        assert_eq!(entity_tag("*"), "*");
    }
}
