//! `POST /zones`

use std::sync::Arc;

use herald_core::Name;
use herald_core::account::{NsSet, Verb};
use herald_core::command::{Action, Insiders};
use herald_core::rejection::Rejection;
use herald_core::steering::Item;
use herald_core::zonefile::parse_zone_file;
use herald_wire::api::steering::View;
use herald_wire::api::{self, Problem, ProblemItem, Warning, Written, ZoneCreate};

use super::content::{self, File};
use super::one::answer_zone_with;
use crate::edge::gate::{Answer, Json, WriteQuery, Writer, Writing, blocking};
use crate::edge::lookup;
use crate::edge::names::Faults;
use crate::edge::problem::{ApiError, Code, Pointers, item};
use crate::edge::steering::Reader;

/// Make a zone.
///
/// A zone whose name conflicts with another tenant's is made *pending*: its `proof` says how to show the right to
/// the name. A private zone is in nobody's way, and is never pending.
#[utoipa::path(post, path = "/zones", tag = "zones", operation_id = "create_zone",
    params(WriteQuery), request_body = ZoneCreate, responses(
    (status = 201, body = Written<api::Zone>, headers(("Location" = String), ("ETag" = String))),
    (status = 200, body = Written<api::Zone>, description = "Of a dry run."),
    (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(request: Writing<(), Json<ZoneCreate>>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { writer, body: Json(mut body), .. } = request;
    // Before the long work.
    writer.access().need_verb(Verb::Create)?;
    writer.need_whole_zones()?;
    let name = Name::parse(&body.name).map_err(|e| ApiError::invalid_at("/name", e.to_string()))?;
    let tenant = match &body.tenant {
        Some(text) => Some(lookup::tenant(&writer, text)?.id),
        None => None,
    };
    let ns_set = match &body.nameserver_set {
        Some(text) => Some(lookup::nameserver_set(writer.state(), text)?.id),
        None => None,
    };
    let insiders =
        insiders(&name, body.private, body.insiders.as_ref()).map_err(|items| invalid().with_items(items))?;
    let (content, warnings) = first_content(&writer, &name, &mut body).await?;
    let action = Action::CreateZone { name, tenant, ns_set, labels: body.labels, content, insiders };
    let done = writer.submit(action, body.message, Pointers::None).await?;
    let path = done.zone().map(|zone| format!("/zones/{}", zone.id));
    Ok(answer_zone_with(&writer, done, warnings).await?.created_at(path))
}

/// Who is inside a zone that is to be private.
pub(in crate::edge) fn insiders(
    zone: &Name,
    private: bool,
    insiders: Option<&View>,
) -> Result<Option<Insiders>, Vec<ProblemItem>> {
    let view = match (private, insiders) {
        (false, None) => return Ok(None),
        (true, Some(view)) => view,
        (true, None) => {
            let detail = "say who is inside the private zone: `prefixes` of clients, and perhaps `pops`";
            return Err(vec![item("/insiders", detail)]);
        }
        (false, Some(_)) => {
            return Err(vec![item(
                "/insiders",
                "nobody is inside unless the zone is private: say `private`",
            )]);
        }
    };
    let mut faults = Faults::default();
    let read = Reader { zone, faults: &mut faults }.view(view, "/insiders");
    faults.check().map_err(ApiError::into_items)?;
    match read {
        Some(Item::View(view)) => Ok(Some(Insiders::View(view))),
        _ => Ok(None),
    }
}

fn invalid() -> ApiError {
    ApiError::new(Code::Invalid, "")
}

/// The content that the zone is to have from the first, if any was given.
async fn first_content(
    writer: &Writer,
    name: &Name,
    body: &mut ZoneCreate,
) -> Result<(Option<herald_core::command::Prepared>, Vec<Warning>), ApiError> {
    let (rrsets, file) = (std::mem::take(&mut body.rrsets), body.zone_file.take());
    if rrsets.is_empty() && file.is_none() {
        return Ok((None, Vec::new()));
    }
    if !rrsets.is_empty() && file.is_some() {
        let both = item("/zone_file", "give `rrsets` or `zone_file`, not both");
        return Err(ApiError::new(Code::Invalid, "").with_items(vec![both]));
    }
    let set = first_set(writer, body.nameserver_set.as_deref())?;
    let name = name.clone();
    let parsed = blocking(move || match file {
        None => Ok((content::checked_rrsets(&name, &rrsets, &set)?, None, Vec::new())),
        Some(text) => {
            let file = File::of(parse_zone_file(text.as_bytes(), &name, None), &name)?;
            let mut warnings: Vec<Warning> =
                file.foreign_nameservers(&set).into_iter().map(replaced).collect();
            warnings.extend(file.warnings);
            let content = content::with_apex_ns(&name, file.content, &set);
            Ok::<_, ApiError>((content::checked(&name, content)?, file.serial, warnings))
        }
    });
    let (content, serial_floor, warnings) = parsed.await??;
    let rrsets = content.content().rrset_count();
    Ok((Some(writer.prepare(content, rrsets, serial_floor).await?), warnings))
}

/// The set of name servers that a new zone gets.
pub(in crate::edge) fn first_set(writer: &Writer, set: Option<&str>) -> Result<Arc<NsSet>, ApiError> {
    let missing = "there is no set of name servers yet: an operator has to define one first";
    match set {
        Some(text) => Ok(lookup::nameserver_set(writer.state(), text)?.arc()),
        None => Ok(writer.state().default_ns_set().ok_or_else(|| Rejection::conflict(missing))?.arc()),
    }
}

pub(in crate::edge) fn replaced(nameserver: String) -> Warning {
    Warning {
        code: "foreign_nameserver".into(),
        detail: format!(
            "the name server {nameserver} is not of the zone's set and was replaced by the set's"
        ),
        name: Some(nameserver),
    }
}
