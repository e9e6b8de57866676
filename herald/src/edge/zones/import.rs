//! `POST /zones/{zone}/import`
//!
//! A zone file is read as it arrives, checked, compared with the zone as it is and staged before the writer hears of it; what
//! the writer then does takes no longer for a million records than for one.

use std::collections::BTreeMap;
use std::sync::Arc;

use herald_core::account::{NsSet, Verb};
use herald_core::check::CheckedContent;
use herald_core::command::{Action, Prepared, ZoneRef};
use herald_core::content::{Content, RrsetChange};
use herald_core::rdata::{format_rdata, format_rtype};
use herald_core::rejection::Rejection;
use herald_core::steering::Tally;
use herald_core::zone::Zone;
use herald_core::{Name, Rrset};
use herald_wire::api::{
    Confirm, ImportMode, ImportPreview, ImportReport, ImportedRrset, Problem, Wait, Written,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::content::{self, File};
use super::create::first_set;
use crate::edge::gate::{
    Answer, Done, OffThread, WriteOptions, WriteParams, Writer, Writing, ZoneFileStream, blocking,
};
use crate::edge::lookup;
use crate::edge::present;
use crate::edge::problem::{ApiError, Code, Pointers};

/// How often an import is prepared anew because the zone was changed meanwhile.
pub(super) const ATTEMPTS: usize = 5;

/// The most RRsets of a preview.
const PREVIEW_MAX: u64 = 100_000;

/// The most records of a preview: an RRset may have thousands.
const PREVIEW_RECORDS_MAX: usize = 200_000;

/// What an import does to the RRsets that the file doesn't have, and how to write.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    /// Whether the zone becomes what the file says (`replace`, unless given), or RRsets of the file are put and others
    /// stay (`merge`; the apex NS stay as they are, too).
    #[param(inline)]
    mode: Option<ImportMode>,
    /// Make the zone if it isn't there; the path then has its name.
    #[serde(default)]
    create: bool,
    /// For operators, where a zone is made: the tenant (id or name) that will hold it.
    tenant: Option<String>,
    /// Where a zone is made: its set of name servers (id or name), instead of the default one.
    nameserver_set: Option<String>,
    /// Report up to so many of the RRsets that change, at most 100000.
    #[serde(default)]
    preview: u64,
    /// Judge everything and do nothing.
    #[serde(default)]
    dry_run: bool,
    /// Answer when PoPs confirmed the change: all that were enabled and not drained, or a majority of them.
    #[param(inline)]
    wait: Option<Wait>,
    /// For how long to wait, in ms: 5000 unless given, at most 60000. Past it the answer is 202.
    timeout_ms: Option<u64>,
    /// `shrink`: that much of a zone goes is meant; refused with 428 else.
    #[param(inline)]
    confirm: Option<Confirm>,
    /// Why, for the history.
    message: Option<String>,
}

impl WriteParams for ImportQuery {
    fn options(&self) -> Result<WriteOptions, ApiError> {
        if self.preview > PREVIEW_MAX {
            return Err(ApiError::malformed(format!("preview is at most {PREVIEW_MAX}")));
        }
        Ok(WriteOptions {
            confirm: self.confirm,
            ..WriteOptions::new(self.dry_run, self.wait, self.timeout_ms)?
        })
    }

    fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// A zone file goes in.
///
/// The SOA is made by the system, with a serial above the file's; apex name servers that are not of the zone's set
/// are replaced by the set's, and reported. The zone's steering stays as it is.
#[utoipa::path(post, path = "/zones/{zone}/import", tag = "zones", operation_id = "import_zone",
    params(
        ("zone" = String, Path, description = "Id or unambiguous name."),
        ("If-Match" = Option<String>, Header, description = "The zone's ETag."),
        ImportQuery,
    ),
    request_body(content = String, content_type = "text/dns", description = "A zone file (RFC 1035 §5)."),
    responses(
        (status = 200, body = Written<ImportReport>),
        (status = 201, body = Written<ImportReport>, description = "The zone was made.",
            headers(("Location" = String))),
        (status = 202, body = Written<ImportReport>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn import(
    request: Writing<ZoneRef, ZoneFileStream, ImportQuery>,
) -> Result<Answer<ImportReport>, ApiError> {
    let Writing { mut writer, path, body, query, preconditions } = request;
    writer.need_whole_zones()?;
    let zone = match (writer.zone(&path, Verb::Create), &path) {
        (Ok(zone), _) => zone.arc(),
        (Err(e), ZoneRef::Name(name)) if e.code() == Code::NotFound && query.create => {
            preconditions.zone_is_absent()?;
            return create(&writer, name, body, &query).await;
        }
        (Err(e), _) => return Err(e),
    };
    // From here on it is this zone, whatever bears the name later.
    let path = ZoneRef::Id(zone.id);
    let file = Arc::new(OffThread::new(File::of(body.read_as(&zone.name).await?, &zone.name)?));
    drop(zone);
    let mode = query.mode.unwrap_or_default();
    let mut staged: Option<(Arc<NsSet>, u128, Prepared)> = None;
    for _ in 0..ATTEMPTS {
        let zone = writer.zone(&path, Verb::Create)?.arc();
        preconditions.zone_revision(&zone)?;
        let set = set_of(&writer, &zone)?;
        let (content, differences) = match staged.take() {
            // What replaces all records of a zone doesn't depend on what they were: it is good for any base of the
            // same steering.
            Some((same, steering, content))
                if mode == ImportMode::Replace && same == set && steering == steering_of(&zone) =>
            {
                (content, None)
            }
            _ => {
                let (checked, differences) = prepare(&file, &zone, &set, mode, query.preview).await?;
                let content = writer.prepare(checked, differences.rrsets(), file.serial).await?;
                (content, Some(differences))
            }
        };
        if content.staged.is_some() {
            staged = Some((Arc::clone(&set), steering_of(&zone), content.clone()));
        }
        let new = content.content.content().clone();
        let action = Action::ReplaceZone { zone: path.clone(), base: zone.revision, content };
        match writer.submit(action, None, Pointers::None).await {
            Ok(done) => {
                let differences = match differences {
                    Some(differences) => differences,
                    None => blocking(move || Differences::of(&zone.content, &new, query.preview)).await?,
                };
                let report = differences.report(&done, &file, &set);
                let etag = report.as_ref().map(|report| report.zone.revision.to_string());
                let done = free_later(done);
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

/// The zone is made with its content or not at all, so that a bad file leaves no empty zone behind.
async fn create(
    writer: &Writer,
    name: &Name,
    body: ZoneFileStream,
    query: &ImportQuery,
) -> Result<Answer<ImportReport>, ApiError> {
    writer.access().need_verb(Verb::Create)?;
    let tenant = match &query.tenant {
        Some(text) => Some(lookup::tenant(writer, text)?.id),
        None => None,
    };
    let set = first_set(writer, query.nameserver_set.as_deref())?;
    let file = Arc::new(OffThread::new(File::of(body.read_as(name).await?, name)?));
    let (read, zone, wanted, preview) = (Arc::clone(&file), name.clone(), Arc::clone(&set), query.preview);
    let checked = blocking(move || {
        let content = content::with_apex_ns(&zone, read.content.clone(), &wanted);
        let differences = Differences::of(&Content::default(), &content, preview);
        Ok::<_, ApiError>((content::checked(&zone, content)?, differences))
    });
    let (checked, differences) = checked.await??;
    let content = writer.prepare(checked, differences.rrsets(), file.serial).await?;
    let action = Action::CreateZone {
        name: name.clone(),
        tenant,
        ns_set: Some(set.id),
        labels: BTreeMap::new(),
        content: Some(content),
        insiders: None,
    };
    let done = writer.submit(action, None, Pointers::None).await?;
    let report = differences.report(&done, &file, &set);
    let path = done.zone().map(|zone| format!("/zones/{}", zone.id));
    let etag = report.as_ref().map(|report| report.zone.revision.to_string());
    let done = free_later(done);
    Ok(writer.answer_with(done, report, file.warnings.clone()).await?.tagged(etag).created_at(path))
}

/// Of a dry run nobody else has the state that it would lead to.
fn free_later(mut done: Done) -> Done {
    if done.revision.is_none() {
        drop(OffThread::new(std::mem::take(&mut done.state)));
    }
    done
}

/// Tells the steering of a zone from other steering.
fn steering_of(zone: &Zone) -> u128 {
    zone.content.steering().map_or(0, Tally::digest)
}

pub(super) fn set_of(writer: &Writer, zone: &Zone) -> Result<Arc<NsSet>, ApiError> {
    let missing = || Rejection::not_found("set of name servers");
    Ok(writer.state().ns_set(zone.ns_set).ok_or_else(missing)?.arc())
}

/// The zone's new content, checked, and how it differs from what there is.
async fn prepare(
    file: &Arc<OffThread<File>>,
    zone: &Arc<Zone>,
    set: &Arc<NsSet>,
    mode: ImportMode,
    preview: u64,
) -> Result<(CheckedContent, Differences), ApiError> {
    let (read, zone, set) = (Arc::clone(file), Arc::clone(zone), Arc::clone(set));
    let checked = blocking(move || {
        let content = match mode {
            ImportMode::Replace => {
                let content = content::with_apex_ns(&zone.name, read.content.clone(), &set);
                content::with_steering_of(&zone.content, content)
            }
            ImportMode::Merge => {
                let mut content = zone.content.clone();
                let new = read.content.iter().filter(|(key, rrset)| zone.content.get(key) != Some(*rrset));
                content.extend(new.map(|(key, rrset)| (key.clone(), rrset.clone())));
                content
            }
        };
        let checked = content::checked(&zone.name, content)?.as_version_of(&zone.content);
        let differences = Differences::of(&zone.content, checked.content(), preview);
        Ok((checked, differences))
    });
    checked.await?
}

/// RRsets by what becomes of them.
#[derive(Default)]
pub(super) struct Differences {
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
    preview: Option<ImportPreview>,
}

impl Differences {
    /// Counts them, and describes up to `preview` of them.
    pub(super) fn of(old: &Content, new: &Content, preview: u64) -> Differences {
        let mut found = Differences::default();
        let (mut shown, mut records) = (Vec::new(), 0);
        for change in old.changes(new) {
            match (change.old, change.new) {
                (None, _) => found.added += 1,
                (_, None) => found.removed += 1,
                _ => found.changed += 1,
            }
            if (shown.len() as u64) < preview && records < PREVIEW_RECORDS_MAX {
                let described = describe(&change);
                records += described.removed.len() + described.added.len();
                shown.push(described);
            }
        }
        let more = found.rrsets() - shown.len() as u64;
        found.preview = (preview > 0).then_some(ImportPreview { changes: shown, more });
        found
    }

    pub(super) fn rrsets(&self) -> u64 {
        self.added + self.changed + self.removed
    }

    fn report(self, done: &Done, file: &File, set: &NsSet) -> Option<ImportReport> {
        Some(ImportReport {
            zone: present::zone(&done.state, done.zone()?),
            rrsets_added: self.added,
            rrsets_changed: self.changed,
            rrsets_removed: self.removed,
            foreign_nameservers: file.foreign_nameservers(set),
            preview: self.preview,
        })
    }
}

fn describe(change: &RrsetChange<'_>) -> ImportedRrset {
    let rtype = change.key.rtype;
    let only_in = |one: Option<&Rrset>, other: Option<&Rrset>| -> Vec<String> {
        let Some(one) = one else { return Vec::new() };
        let is_in_other =
            |rdata: &[u8]| other.is_some_and(|other| other.ttl == one.ttl && other.rdatas.contains(rdata));
        let rdatas = one.rdatas.iter().filter(|rdata| !is_in_other(rdata));
        rdatas.map(|rdata| format_rdata(rtype, rdata)).collect()
    };
    ImportedRrset {
        name: change.key.owner.to_string(),
        rtype: format_rtype(rtype),
        ttl_before: change.old.map(|rrset| rrset.ttl),
        ttl_after: change.new.map(|rrset| rrset.ttl),
        removed: only_in(change.old, change.new),
        added: only_in(change.new, change.old),
    }
}
