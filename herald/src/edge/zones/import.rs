//! `POST /zones/{zone}/import`

use std::sync::Arc;

use herald_core::account::{NsSet, Verb};
use herald_core::command::{Action, Prepared, ZoneRef};
use herald_core::content::Content;
use herald_core::rejection::Rejection;
use herald_core::zone::Zone;
use herald_wire::api::{ImportMode, ImportReport, Problem, Wait, Written};
use serde::Deserialize;
use utoipa::IntoParams;

use super::content::{self, File};
use crate::edge::gate::{Answer, WriteOptions, WriteParams, Writer, Writing, ZoneFileText, blocking};
use crate::edge::present;
use crate::edge::problem::{ApiError, Code, Pointers};

/// How often an import is prepared anew because the zone was changed meanwhile.
pub(super) const ATTEMPTS: usize = 5;

/// What an import does to the RRsets that the file doesn't have, and how to write.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    /// Whether the zone becomes what the file says (`replace`, unless given), or RRsets of the file are put and others
    /// stay (`merge`; the apex NS stay as they are, too).
    #[param(inline)]
    mode: Option<ImportMode>,
    /// Judge everything and do nothing.
    #[serde(default)]
    dry_run: bool,
    /// Answer when PoPs confirmed the change: all that were enabled and not drained, or a majority of them.
    #[param(inline)]
    wait: Option<Wait>,
    /// For how long to wait, in ms: 5000 unless given, at most 60000. Past it the answer is 202.
    timeout_ms: Option<u64>,
    /// Why, for the history.
    message: Option<String>,
}

impl WriteParams for ImportQuery {
    fn options(&self) -> Result<WriteOptions, ApiError> {
        WriteOptions::new(self.dry_run, self.wait, self.timeout_ms)
    }

    fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// A zone file goes in.
///
/// The SOA is made by the system, with a serial above the file's; apex name servers that are not of the zone's set
/// are replaced by the set's, and reported.
#[utoipa::path(post, path = "/zones/{zone}/import", tag = "zones", operation_id = "import_zone",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The zone's ETag."),
        ImportQuery,
    ),
    request_body(content = String, content_type = "text/dns", description = "A zone file (RFC 1035 §5)."),
    responses(
        (status = 200, body = Written<ImportReport>),
        (status = 202, body = Written<ImportReport>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn import(
    request: Writing<ZoneRef, ZoneFileText, ImportQuery>,
) -> Result<Answer<ImportReport>, ApiError> {
    let Writing { mut writer, path, body: ZoneFileText(text), query, preconditions } = request;
    writer.need_whole_zones()?;
    let zone = writer.zone(&path, Verb::Create)?;
    // From here on it is this zone, whatever bears the name later.
    let path = ZoneRef::Id(zone.id);
    let name = zone.name.clone();
    let file = Arc::new(blocking(move || File::read(&text, &name)).await??);
    let mode = query.mode.unwrap_or_default();
    let mut earlier: Option<(Arc<NsSet>, Prepared)> = None;
    for _ in 0..ATTEMPTS {
        let zone = writer.zone(&path, Verb::Create)?.arc();
        preconditions.zone_revision(&zone)?;
        let set = set_of(&writer, &zone)?;
        let content = match earlier.take() {
            // What replaces a zone doesn't depend on what it was, so that what was prepared is good for any base.
            Some((same, content)) if mode == ImportMode::Replace && same == set => content,
            _ => prepare(&writer, &file, &zone, &set, mode).await?,
        };
        let new = content.content.content().clone();
        earlier = Some((Arc::clone(&set), content.clone()));
        let action = Action::ReplaceZone { zone: path.clone(), base: zone.revision, content };
        match writer.submit(action, None, Pointers::None).await {
            Ok(done) => {
                let counts = blocking(move || Counts::of(&zone.content, &new)).await?;
                let report = done.zone().map(|zone| ImportReport {
                    zone: present::zone(&done.state, zone),
                    rrsets_added: counts.added,
                    rrsets_changed: counts.changed,
                    rrsets_removed: counts.removed,
                    foreign_nameservers: file.foreign_nameservers(&set),
                });
                let etag = report.as_ref().map(|report| report.zone.revision.to_string());
                return Ok(writer.answer_with(done, report, file.warnings.clone()).await?.tagged(etag));
            }
            Err(e) if e.code() == Code::Stale => writer.refresh()?,
            Err(e) => return Err(e),
        }
    }
    Err(ApiError::new(
        Code::Conflict,
        "the zone is being changed so often that the import could not be fitted in: try again",
    ))
}

pub(super) fn set_of(writer: &Writer, zone: &Zone) -> Result<Arc<NsSet>, ApiError> {
    let missing = || Rejection::not_found("set of name servers");
    Ok(writer.state().ns_set(zone.ns_set).ok_or_else(missing)?.arc())
}

/// The zone's new content, checked and perhaps staged.
async fn prepare(
    writer: &Writer,
    file: &Arc<File>,
    zone: &Arc<Zone>,
    set: &Arc<NsSet>,
    mode: ImportMode,
) -> Result<Prepared, ApiError> {
    let (read, zone, set) = (Arc::clone(file), Arc::clone(zone), Arc::clone(set));
    let checked = blocking(move || {
        let content = match mode {
            ImportMode::Replace => content::with_apex_ns(&zone.name, read.content.clone(), &set),
            ImportMode::Merge => {
                let mut content = zone.content.clone();
                read.content.iter().for_each(|(key, rrset)| content.put(key.clone(), rrset.clone()));
                content
            }
        };
        content::checked(&zone.name, content)
    });
    writer.prepare(checked.await??, file.serial).await
}

/// RRsets by what becomes of them.
pub(super) struct Counts {
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
}

impl Counts {
    pub(super) fn of(old: &Content, new: &Content) -> Counts {
        let difference = old.diff(new);
        let changed = difference.puts.iter().filter(|(key, _)| old.get(key).is_some()).count();
        Counts {
            added: (difference.puts.len() - changed) as u64,
            changed: changed as u64,
            removed: difference.deletes.len() as u64,
        }
    }
}
