//! Rules of the emptiness brake: who removes much of a zone is asked first.

use super::{Decision, Subject};
use crate::account::Pop;
use crate::authorise::Authorised;
use crate::brakes::{Brakes, Size};
use crate::change::Change;
use crate::command::Action;
use crate::rejection::{RejectedItem, Rejection, RejectionKind};
use crate::state::State;
use crate::zone::Zone;
use crate::{PopId, ZoneId};

/// Refuses a decision that removes much of a zone, unless the caller has said that it is meant: then that is noted
/// beside it, for the PoPs.
pub(super) fn need_word(
    state: &State,
    command: &Authorised,
    mut decision: Decision,
) -> Result<Decision, Rejection> {
    let shrunk: Vec<(&Zone, Option<Size>)> =
        decision.changes.iter().filter_map(|change| shrinks(state, change)).collect();
    let Some((first, after)) = shrunk.first() else { return Ok(decision) };
    if !command.context().confirmed {
        let items = shrunk.iter().map(|(zone, after)| RejectedItem {
            zone: place_of(state, command, zone),
            detail: said(zone, *after),
            ..RejectedItem::default()
        });
        let detail = format!("{}: if that is meant, confirm it (`confirm=shrink`)", said(first, *after));
        let rejection = Rejection::new(RejectionKind::NeedsConfirmation, detail);
        return Err(rejection.with_items(items.collect()));
    }
    let zones: Vec<ZoneId> =
        shrunk.iter().filter(|(_, after)| after.is_some()).map(|(zone, _)| zone.id).collect();
    if !zones.is_empty() {
        decision.changes.push(Change::ShrinkConfirmed { zones });
    }
    Ok(decision)
}

/// The zone of which a change removes much, and what is left; none if it is the zone that goes.
fn shrinks<'a>(state: &'a State, change: &Change) -> Option<(&'a Zone, Option<Size>)> {
    let zone = state.zone(change.zone()?)?;
    let after = match change {
        Change::ZoneEdited { difference, .. } | Change::ZoneSoaSet { difference, .. } => {
            Some(Size::after(&zone.content, difference))
        }
        Change::ZoneReplaced { content, .. } => Some(Size::of(&content.content)),
        Change::ZoneDeleted { .. } => None,
        _ => return None,
    };
    let is_held = state.brakes().hold_zone(Size::of(&zone.content), after.unwrap_or_default());
    is_held.then_some((&**zone, after))
}

fn said(zone: &Zone, after: Option<Size>) -> String {
    let (name, before) = (&zone.name, Size::of(&zone.content));
    match after {
        None => format!("{name} is deleted, with its {} records", before.records),
        Some(after) => format!("of {name} with {} records, {} would be left", before.records, after.records),
    }
}

/// Where a command of several zones names this one.
fn place_of(state: &State, command: &Authorised, zone: &Zone) -> Option<usize> {
    let Action::EditZones { zones } = command.action() else { return None };
    zones.iter().position(|edit| {
        super::zones::find(state, command, &edit.zone).is_ok_and(|named| named.id == zone.id)
    })
}

pub(super) fn set(state: &State, brakes: Brakes) -> Result<Decision, Rejection> {
    if brakes.zone_percent > 100 || brakes.pop_percent > 100 {
        return Err(Rejection::invalid("a share is 0 to 100 percent"));
    }
    let changes = if brakes == *state.brakes() { Vec::new() } else { vec![Change::BrakesSet(brakes)] };
    Ok(Decision { changes, ..Decision::default() })
}

/// Notes that zones are held back from a PoP, unless that is known or a later word lets them go.
pub(super) fn hold(state: &State, pop: PopId, revision: u64, zones_lost: u64, zones_before: u64) -> Decision {
    let is_news = |pop: &Pop| pop.held.is_none() && pop.released.is_none_or(|released| released < revision);
    let held = state.pop(pop).filter(|pop| is_news(pop));
    let changes = held.map(|_| Change::PopHeld { pop, revision, zones_lost, zones_before });
    Decision { changes: changes.into_iter().collect(), ..Decision::default() }
}

/// Lets go what is held back from PoPs as of a revision.
pub(super) fn release(
    state: &State,
    pop: Option<PopId>,
    revision: Option<u64>,
) -> Result<Decision, Rejection> {
    let revision = revision.unwrap_or(state.revision());
    if revision > state.revision() {
        let head = state.revision();
        return Err(Rejection::invalid(format!("revision {revision} is yet to come: the newest is {head}")));
    }
    if let Some(pop) = pop
        && state.pop(pop).is_none()
    {
        return Err(Rejection::not_found("PoP"));
    }
    let pops = state.pops().filter(|held| pop.is_none_or(|pop| held.id == pop));
    let news = pops.filter(|held| held.released.is_none_or(|released| released < revision));
    let changes = news.map(|held| Change::PopReleased { pop: held.id, revision }).collect();
    Ok(Decision { changes, subject: pop.map(Subject::Pop), ..Decision::default() })
}
