//! `POST /zones/{zone}/verify`, `POST /zones/{zone}/admit`: a pending zone is let in.

use std::collections::BTreeSet;

use herald_core::Name;
use herald_core::account::Verb;
use herald_core::change::Evidence;
use herald_core::command::{Action, ZoneRef};
use herald_core::decide::delegation_is_evidence;
use herald_core::zone::Zone;
use herald_wire::api::{self, Problem, Written};

use super::one::answer_zone;
use crate::delegation::ParentView;
use crate::edge::gate::{Answer, NoBody, WriteQuery, Writer, Writing};
use crate::edge::present::{PROOF_LABEL, PROOF_PREFIX};
use crate::edge::problem::{ApiError, Code, Pointers};

/// So much of what was found is said.
const FOUND_MAX: usize = 5;

/// Look for the proof of a pending zone, as TXT or by delegation, and let it in. 409 says what was found instead.
#[utoipa::path(post, path = "/zones/{zone}/verify", tag = "zones", operation_id = "verify_zone",
    params(("zone" = String, Path, description = "Id or unambiguous name."), WriteQuery),
    responses(
        (status = 200, body = Written<api::Zone>),
        (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn verify(request: Writing<ZoneRef, NoBody>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { writer, path, .. } = request;
    writer.need_whole_zones()?;
    let zone = writer.zone(&path, Verb::Create)?.arc();
    let by = if zone.is_served() { Evidence::Txt } else { find_proof(&writer, &zone).await? };
    let action = Action::ActivateZone { zone: ZoneRef::Id(zone.id), by };
    let done = writer.submit_as_system(action, None).await?;
    answer_zone(&writer, done).await
}

/// An operator lets a pending zone in.
#[utoipa::path(post, path = "/zones/{zone}/admit", tag = "zones", operation_id = "admit_zone",
    params(("zone" = String, Path, description = "Id or unambiguous name."), WriteQuery),
    responses(
        (status = 200, body = Written<api::Zone>),
        (status = 202, body = Written<api::Zone>, description = "Accepted; the wait's deadline passed."),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn admit(request: Writing<ZoneRef, NoBody>) -> Result<Answer<api::Zone>, ApiError> {
    let Writing { writer, path, .. } = request;
    let zone = ZoneRef::Id(writer.zone(&path, Verb::Create)?.id);
    let action = Action::ActivateZone { zone, by: Evidence::Operator };
    let done = writer.submit(action, None, Pointers::None).await?;
    answer_zone(&writer, done).await
}

/// How the right to the name is shown in the public DNS.
///
/// # Errors
/// Conflict, with what was found instead.
async fn find_proof(writer: &Writer, zone: &Zone) -> Result<Evidence, ApiError> {
    let resolver = writer.resolver();
    let txt_name = zone.name.child(PROOF_LABEL);
    let wanted = format!("{PROOF_PREFIX}{}", zone.challenge);
    let txt_found = match txt_name {
        Ok(txt_name) => match resolver.txt(&txt_name).await {
            Ok(texts) if texts.contains(&wanted) => return Ok(Evidence::Txt),
            Ok(texts) => format!("{txt_name} has {}", listed("no TXT record", texts)),
            Err(e) => format!("{txt_name} could not be looked up: {e}"),
        },
        Err(_) => "the name is too long for a TXT record below it".into(),
    };
    let delegation_found = if delegation_is_evidence(writer.state(), zone) {
        match resolver.parent_view(&zone.name).await {
            Ok(view) if is_delegated_to_us(writer, zone, &view) => return Ok(Evidence::Delegation),
            Ok(view) => {
                let servers = view.nameservers.iter().map(Name::to_string).collect();
                format!("{} delegates it to {}", view.parent, listed("nobody", servers))
            }
            Err(e) => format!("the delegation could not be looked up: {e}"),
        }
    } else {
        "a delegation can't prove it, as the same name servers serve others' zones at or above the name"
            .into()
    };
    Err(ApiError::new(
        Code::Conflict,
        format!("no proof of the right to {} was found: {txt_found}; {delegation_found}", zone.name),
    ))
}

/// Whether the parent delegates to all name servers of the zone's set, beside which there may be others.
fn is_delegated_to_us(writer: &Writer, zone: &Zone, view: &ParentView) -> bool {
    let ours: BTreeSet<&Name> =
        writer.state().ns_set(zone.ns_set).iter().flat_map(|set| &set.nameservers).collect();
    !ours.is_empty() && ours.is_subset(&view.nameservers.iter().collect())
}

fn listed(none: &str, mut found: Vec<String>) -> String {
    if found.is_empty() {
        return none.to_owned();
    }
    let more = if found.len() > FOUND_MAX { ", …" } else { "" };
    found.truncate(FOUND_MAX);
    let shown: Vec<String> = found.iter().map(|one| crate::edge::names::shortened(one)).collect();
    format!("{}{more}", shown.join(", "))
}
