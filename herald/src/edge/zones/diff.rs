//! `GET /zones/{zone}/diff`

use std::fmt::Write as _;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use herald_core::account::Scope;
use herald_core::command::ZoneRef;
use herald_core::content::Content;
use herald_core::rdata::{format_rdata, format_rtype};
use herald_core::state::State;
use herald_core::steering::is_steering_type;
use herald_core::zone::Zone;
use herald_core::{RrKey, Rrset};
use herald_wire::api::{self, ChangedRrset, ChangedSteering, Problem, ZoneDiff, ZoneVersion};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::edge::at::{self, At};
use crate::edge::gate::{Reading, blocking};
use crate::edge::problem::ApiError;
use crate::edge::steering::show;
use crate::edge::{present, respond};

/// So many RRsets are told in JSON.
const RRSETS_MAX: usize = 10_000;

/// Between what.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// Where it begins: a revision (`4711`, `c4711`) or a time (RFC 3339).
    #[param(required = true)]
    from: Option<String>,
    /// Where it leads: a revision or a time; as it is, unless given.
    to: Option<String>,
    /// `json`, unless given, or `text`: a line for each record, `-` for one that goes and `+` for one that comes.
    #[param(inline)]
    format: Option<Format>,
}

/// How a difference is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// RRsets.
    #[default]
    Json,
    /// Records, a line each.
    Text,
}

/// What leads from one revision of a zone to another: RRsets within the token's scope.
#[utoipa::path(get, path = "/zones/{zone}/diff", tag = "zones", operation_id = "diff_zone",
    params(("zone" = String, Path, description = "Id or unambiguous name."), DiffQuery),
    responses(
        (status = 200, body = ZoneDiff),
        (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub async fn diff(request: Reading<ZoneRef, DiffQuery>) -> Result<Response, ApiError> {
    let Reading { caller, path, query, .. } = request;
    let from = query.from.as_deref().ok_or_else(|| {
        ApiError::malformed("say where the difference begins: `from` is a revision or a time")
    })?;
    let from = At::parse("from", from)?;
    let to = query.to.as_deref().map(|text| At::parse("to", text)).transpose()?;
    let held = at::held(&caller, &path).await?;
    let (from, to) = match to {
        Some(to) => (from.revision(&caller).await?, to.revision(&caller).await?),
        None => (from.revision(&caller).await?, caller.state().revision()),
    };
    let history = caller.history();
    let old = history.zone_at(held.id, from).await?;
    let new = history.zone_at(held.id, to).await?;
    if old.is_none() && new.is_none() {
        return Err(at::not_there(&held.name, from.max(to)));
    }
    let versions = Versions { from: (from, old), to: (to, new), scope: caller.access().scope.clone() };
    let (state, format) = (caller.state_arc(), query.format.unwrap_or_default());
    blocking(move || match format {
        Format::Json => respond::json(StatusCode::OK, &versions.as_json(&state)),
        Format::Text => {
            let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
            ([(header::CONTENT_TYPE, content_type)], versions.as_text()).into_response()
        }
    })
    .await
}

/// A zone at two revisions, and what of it may be told.
struct Versions {
    from: (u64, Option<Arc<Zone>>),
    to: (u64, Option<Arc<Zone>>),
    scope: Scope,
}

/// An RRset before and after.
type Pair = (RrKey, Option<Rrset>, Option<Rrset>);

impl Versions {
    /// What differs, in canonical order, the SOA first.
    fn pairs(&self) -> Vec<Pair> {
        let nothing = Content::default();
        let (old, new) = (self.from.1.as_deref(), self.to.1.as_deref());
        let content = |zone: Option<&Zone>| zone.map_or(nothing.clone(), |zone| zone.content.clone());
        let (old_content, new_content) = (content(old), content(new));
        let difference = old_content.diff(&new_content);
        let puts = difference.puts.into_iter().map(|(key, rrset)| {
            let before = old_content.get(&key).cloned();
            (key, before, Some(rrset))
        });
        let deletes = difference.deletes.into_iter().map(|key| {
            let before = old_content.get(&key).cloned();
            (key, before, None)
        });
        let mut pairs: Vec<Pair> = puts.chain(deletes).collect();
        pairs.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let soa_differs = old.map(|zone| &zone.soa) != new.map(|zone| &zone.soa);
        if let (true, Some(zone)) = (soa_differs, old.or(new)) {
            pairs.insert(0, (zone.soa_key(), old.map(Zone::soa_rrset), new.map(Zone::soa_rrset)));
        }
        pairs.retain(|(key, ..)| self.scope.allows_rrset(key));
        pairs
    }

    fn as_json(&self, state: &State) -> ZoneDiff {
        let version = |(revision, zone): &(u64, Option<Arc<Zone>>)| ZoneVersion {
            revision: *revision,
            // The challenge of then proves nothing any more.
            zone: zone.as_ref().map(|zone| api::Zone { proof: None, ..present::zone(state, zone) }),
        };
        let pairs = self.pairs();
        let mut diff = ZoneDiff {
            from: version(&self.from),
            to: version(&self.to),
            added: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
            steering_added: Vec::new(),
            steering_changed: Vec::new(),
            steering_removed: Vec::new(),
            truncated: pairs.len() > RRSETS_MAX,
        };
        for (key, before, after) in pairs.iter().take(RRSETS_MAX) {
            if is_steering_type(key.rtype) {
                let told = |rrset: &Rrset| show::item(apex(key, &self.from, &self.to), key, rrset);
                match (before, after) {
                    (Some(before), Some(after)) => diff
                        .steering_changed
                        .push(ChangedSteering { before: told(before), after: told(after) }),
                    (Some(before), None) => diff.steering_removed.push(told(before)),
                    (None, Some(after)) => diff.steering_added.push(told(after)),
                    (None, None) => {}
                }
                continue;
            }
            let told = |rrset: &Rrset| present::rrset(key, rrset);
            match (before, after) {
                (Some(before), Some(after)) => {
                    diff.changed.push(ChangedRrset { before: told(before), after: told(after) });
                }
                (Some(before), None) => diff.removed.push(told(before)),
                (None, Some(after)) => diff.added.push(told(after)),
                (None, None) => {}
            }
        }
        diff
    }

    fn as_text(&self) -> String {
        let mut text = String::new();
        for (sign, (revision, zone)) in [("---", &self.from), ("+++", &self.to)] {
            _ = match zone {
                Some(zone) => {
                    writeln!(text, "{sign} {} at revision {revision}, serial {}", zone.name, zone.serial)
                }
                None => writeln!(text, "{sign} not there at revision {revision}"),
            };
        }
        for (key, before, after) in self.pairs() {
            if is_steering_type(key.rtype) {
                for (sign, rrset) in [('-', before), ('+', after)] {
                    let Some(rrset) = rrset else { continue };
                    let mut item = show::item(apex(&key, &self.from, &self.to), &key, &rrset);
                    let title = std::mem::take(&mut item.title);
                    let mut json = serde_json::to_value(&item).unwrap_or_default();
                    json.as_object_mut().map(|fields| fields.remove("title"));
                    _ = writeln!(text, "{sign}; {title} {json}");
                }
                continue;
            }
            let line = |text: &mut String, sign: char, ttl: u32, rdata: &[u8]| {
                let rtype = format_rtype(key.rtype);
                _ = writeln!(text, "{sign}{} {ttl} IN {rtype} {}", key.owner, format_rdata(key.rtype, rdata));
            };
            let stays = |other: &Option<Rrset>, ttl: u32, rdata: &[u8]| {
                other.as_ref().is_some_and(|other| other.ttl == ttl && other.rdatas.contains(rdata))
            };
            for (sign, rrset, other) in [('-', &before, &after), ('+', &after, &before)] {
                if let Some(rrset) = rrset {
                    let differing = rrset.rdatas.iter().filter(|rdata| !stays(other, rrset.ttl, rdata));
                    differing.for_each(|rdata| line(&mut text, sign, rrset.ttl, rdata));
                }
            }
        }
        text
    }
}

/// The apex of the zone that a key is of.
fn apex<'a>(
    key: &'a RrKey,
    from: &'a (u64, Option<Arc<Zone>>),
    to: &'a (u64, Option<Arc<Zone>>),
) -> &'a herald_core::Name {
    from.1.as_deref().or(to.1.as_deref()).map_or(&key.owner, |zone| &zone.name)
}
