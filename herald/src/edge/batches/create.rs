//! Many new zones in one change.

use std::collections::BTreeMap;
use std::sync::Arc;

use herald_core::Name;
use herald_core::account::{NsSet, Verb};
use herald_core::command::{Action, Prepared, ZONES_PER_BATCH_MAX, ZoneDraft};
use herald_core::zonefile::parse_zone_file;
use herald_wire::api::{self, MultiZoneBatch, ProblemItem, Warning, ZoneCreate};

use crate::edge::gate::{Answer, Writer, blocking};
use crate::edge::lookup;
use crate::edge::present;
use crate::edge::problem::{ApiError, Code, Pointers, item};
use crate::edge::zones::content::{self, File};
use crate::edge::zones::create::{self, first_set, replaced};

/// Makes the zones of a batch.
pub(super) async fn zones(
    writer: &Writer,
    batch: MultiZoneBatch,
) -> Result<Answer<Vec<api::Zone>>, ApiError> {
    writer.access().need_verb(Verb::Create)?;
    writer.need_whole_zones()?;
    let MultiZoneBatch { zones, create, tenant, message } = batch;
    if !zones.is_empty() {
        let detail = "a batch changes zones or makes some: give `zones` or `create`, not both";
        return Err(ApiError::malformed("").with_items(vec![item("/create", detail)]));
    }
    if create.len() > ZONES_PER_BATCH_MAX {
        let detail = format!("{} zones at once are too many: at most {ZONES_PER_BATCH_MAX}", create.len());
        return Err(ApiError::invalid_at("/create", detail));
    }
    let tenant = match &tenant {
        Some(text) => Some(lookup::tenant(writer, text)?.id),
        None => None,
    };
    let sets = sets_of(writer, &create)?;
    let read =
        blocking(move || {
            let (mut drafts, mut warnings, mut faults) = (Vec::new(), Vec::new(), Vec::new());
            for (place, zone) in create.into_iter().enumerate() {
                match draft(zone, &sets, &mut warnings) {
                    Ok(draft) => drafts.push(draft),
                    Err(items) => faults.extend(items.into_iter().map(|item| ProblemItem {
                        pointer: format!("/create/{place}{}", item.pointer),
                        ..item
                    })),
                }
            }
            if faults.is_empty() {
                Ok((drafts, warnings))
            } else {
                Err(ApiError::new(Code::Invalid, "").with_items(faults))
            }
        });
    let (drafts, warnings) = read.await??;
    let names: Vec<(Name, bool)> =
        drafts.iter().map(|draft| (draft.name.clone(), draft.insiders.is_some())).collect();
    let action = Action::CreateZones { tenant, zones: drafts };
    let done = writer.submit(action, message, Pointers::Create).await?;
    let holder = tenant.or(writer.access().tenant);
    let made = names.iter().filter_map(|(name, is_private)| match is_private {
        true => done.state.private_zone(holder?, name),
        false => done.state.tenant_zone(holder?, name),
    });
    let made = made.map(|zone| present::zone(&done.state, zone)).collect();
    Ok(writer.answer_with(done, Some(made), warnings).await?.created())
}

/// The sets of name servers that the zones name, by what they call them.
fn sets_of(writer: &Writer, zones: &[ZoneCreate]) -> Result<BTreeMap<Option<String>, Arc<NsSet>>, ApiError> {
    let mut sets = BTreeMap::new();
    for (place, zone) in zones.iter().enumerate() {
        if !sets.contains_key(&zone.nameserver_set) {
            let set = first_set(writer, zone.nameserver_set.as_deref());
            let at = || format!("/create/{place}/nameserver_set");
            sets.insert(zone.nameserver_set.clone(), set.map_err(|e| e.at(at()))?);
        }
    }
    Ok(sets)
}

/// One zone as it is to be made, or what is wrong with it.
fn draft(
    zone: ZoneCreate,
    sets: &BTreeMap<Option<String>, Arc<NsSet>>,
    warnings: &mut Vec<Warning>,
) -> Result<ZoneDraft, Vec<ProblemItem>> {
    let ZoneCreate { name, tenant, nameserver_set, labels, rrsets, zone_file, private, insiders, message } =
        zone;
    if tenant.is_some() || message.is_some() {
        let field = if tenant.is_some() { "/tenant" } else { "/message" };
        return Err(vec![item(field, "is said once for the whole batch, beside `create`")]);
    }
    let name = Name::parse(&name).map_err(|e| vec![item("/name", e.to_string())])?;
    let insiders = create::insiders(&name, private, insiders.as_ref())?;
    let set = &sets[&nameserver_set];
    let content = match (rrsets.is_empty(), zone_file) {
        (true, None) => None,
        (false, Some(_)) => {
            return Err(vec![item("/zone_file", "give `rrsets` or `zone_file`, not both")]);
        }
        (false, None) => {
            let content = content::checked_rrsets(&name, &rrsets, set).map_err(ApiError::into_items)?;
            Some(Prepared { content, staged: None, serial_floor: None })
        }
        (true, Some(text)) => {
            let in_file = |error: ApiError| {
                let placed = |item: ProblemItem| match item.pointer.as_str() {
                    "" => ProblemItem { pointer: "/zone_file".into(), ..item },
                    place => ProblemItem {
                        detail: format!("{place}: {}", item.detail),
                        pointer: "/zone_file".into(),
                        ..item
                    },
                };
                error.into_items().into_iter().map(placed).collect::<Vec<_>>()
            };
            let file = File::of(parse_zone_file(text.as_bytes(), &name, None), &name).map_err(in_file)?;
            let about_zone =
                |warning: Warning| Warning { detail: format!("{name}: {}", warning.detail), ..warning };
            let foreign = file.foreign_nameservers(set).into_iter().map(replaced);
            warnings.extend(foreign.chain(file.warnings).map(about_zone));
            let content = content::with_apex_ns(&name, file.content, set);
            let content = content::checked(&name, content).map_err(in_file)?;
            Some(Prepared { content, staged: None, serial_floor: file.serial })
        }
    };
    Ok(ZoneDraft { name, ns_set: Some(set.id), labels, content, insiders })
}
