//! Response policy zones.

use herald_core::Name;
use herald_core::command::Action;
use herald_core::firewall::{self, Owner};
use herald_core::rejection::Rejection;
use herald_wire::api::firewall::PolicyZone;
use herald_wire::api::{Problem, Wait, Warning, Written};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{answer, if_match, unavailable};
use crate::edge::gate::{
    Answer, NoBody, WholeZoneFile, WriteOptions, WriteParams, WriteQuery, Writing, blocking,
};
use crate::edge::names::shortened;
use crate::edge::problem::{ApiError, Code, ITEMS_MAX, Pointers, item};
use crate::firewall::StageError;

/// Of a policy zone, and how to write.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PolicyZoneQuery {
    /// Policy zones are asked by ascending order: as before unless given, and 0 for a new one.
    order: Option<u32>,
    /// The zone's own domain name, which owners in the file are below: its name here unless given.
    origin: Option<String>,
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

impl WriteParams for PolicyZoneQuery {
    fn options(&self) -> Result<WriteOptions, ApiError> {
        WriteOptions::new(self.dry_run, self.wait, self.timeout_ms)
    }

    fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// The policy zone is what this zone file says.
///
/// Rules by name and by `rpz-client-ip`, with all standard actions. `rpz-ip`, `rpz-nsdname` and `rpz-nsip` mean nothing to an authoritative
/// server: they are counted and left out. A file with errors changes nothing.
#[utoipa::path(put, path = "/firewall/rpz/{zone}", tag = "firewall", operation_id = "put_policy_zone",
    params(("zone" = String, Path, description = "Its name."), 
        ("If-Match" = Option<String>, Header, description = "The ETag of `GET /firewall`, or `*`."), PolicyZoneQuery),
    request_body(content = String, content_type = "text/dns", description = "A zone file."),
    responses(
    (status = 200, body = Written<PolicyZone>, headers(("ETag" = String))),
    (status = 202, body = Written<PolicyZone>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn put(
    request: Writing<String, WholeZoneFile, PolicyZoneQuery>,
) -> Result<Answer<PolicyZone>, ApiError> {
    let Writing { writer, path, body, query, preconditions } = request;
    writer.access().need_operator()?;
    let if_match = if_match(&preconditions, &writer, Owner::Fleet)?;
    let origin = query.origin.as_deref().unwrap_or(&path);
    let origin = Name::parse(origin)
        .map_err(|e| ApiError::malformed(format!("the origin `{}`: {e}", shortened(origin))))?;
    let text = body.collect().await?;
    let firewalls = writer.publisher().firewalls().clone();
    let _uploading = firewalls.uploading().await;
    let before = writer.state().firewall().zone(&path).cloned();
    let order = query.order.or(before.as_ref().map(|zone| zone.order)).unwrap_or(0);
    let (staging, name) = (firewalls.clone(), path.clone());
    let staged = blocking(move || staging.stage(&name, order, &origin, &text)).await?.map_err(unusable)?;
    let action = Action::PutPolicyZone { if_match, zone: staged.zone.clone() };
    let submitted = writer.submit(action, query.message, Pointers::None).await;
    firewalls.forget(&staged.zone.chunks);
    let done = submitted?;
    firewalls.forget(before.as_ref().map_or(&[], |zone| &zone.chunks));
    if before.as_ref() == Some(&staged.zone) && !query.dry_run {
        firewalls.roll_out_again();
    }
    let warnings = staged.not_applying.iter().map(|(kind, count)| Warning {
        code: "not_applying".into(),
        name: None,
        detail: format!(
            "{count} rules have the trigger {kind}, which means nothing to an authoritative server: left out"
        ),
    });
    let warnings = warnings.collect();
    let view = done.state.firewall().zone(&path).map(shown);
    answer(&writer, done, Owner::Fleet, view, warnings).await
}

/// Delete a policy zone.
#[utoipa::path(delete, path = "/firewall/rpz/{zone}", tag = "firewall", operation_id = "delete_policy_zone",
    params(
        ("zone" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "The ETag of `GET /firewall`, or `*`."),
        WriteQuery,
    ), responses(
    (status = 200, body = Written<PolicyZone>, headers(("ETag" = String))),
    (status = 202, body = Written<PolicyZone>, description = "Accepted; the wait's deadline passed."),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(request: Writing<String, NoBody>) -> Result<Answer<PolicyZone>, ApiError> {
    let Writing { writer, path, query, preconditions, .. } = request;
    writer.access().need_operator()?;
    let if_match = if_match(&preconditions, &writer, Owner::Fleet)?;
    let Some(before) = writer.state().firewall().zone(&path).cloned() else {
        return Err(Rejection::not_found(format!("policy zone `{}`", shortened(&path))).into());
    };
    let action = Action::DeletePolicyZone { if_match, name: path };
    let done = writer.submit(action, query.message, Pointers::None).await?;
    writer.publisher().firewalls().forget(&before.chunks);
    answer(&writer, done, Owner::Fleet, None, Vec::new()).await
}

/// A policy zone for people.
pub fn shown(zone: &firewall::PolicyZone) -> PolicyZone {
    PolicyZone {
        name: zone.name.clone(),
        order: zone.order,
        names: zone.names,
        clients: zone.clients,
        not_applying: zone.not_applying,
        serial: zone.serial,
        bytes: zone.bytes,
        sha256: data_encoding::HEXLOWER.encode(&zone.sha256),
    }
}

fn unusable(error: StageError) -> ApiError {
    match error {
        StageError::File(errors) => {
            let items = errors.first.iter().take(ITEMS_MAX);
            let items = items.map(|e| item(format!("{}:{}", e.line, e.column), e.message.clone())).collect();
            let detail = format!("the policy zone has {} errors, and nothing was changed", errors.count);
            ApiError::new(Code::Invalid, detail).with_some_items(items, errors.count)
        }
        StageError::Store(error) => unavailable(error),
    }
}
