//! What a receipt says: accepted, and where it is in sync.

use herald_wire::api::{Change, PopSync, SyncState};

use crate::table;
use crate::times::{format_ms, format_time};

/// One line for the end of a write.
pub fn line(change: &Change) -> String {
    let waited: Vec<&PopSync> =
        change.pops.iter().filter(|pop| pop.state != SyncState::NotWaitedFor).collect();
    let in_sync = waited.iter().filter(|pop| pop.state == SyncState::InSync).count();
    let sync = match (change.state, waited.len(), change.in_sync_ms) {
        (_, 0, _) => "no PoP to wait for".to_owned(),
        (SyncState::InSync, all, Some(in_sync_ms)) => {
            format!("in sync at {all} of {all} PoPs after {}", format_ms(in_sync_ms))
        }
        (SyncState::Held, all, _) => {
            format!(
                "in sync at {in_sync} of {all} PoPs, held back from the others till an operator releases it"
            )
        }
        (_, all, _) => format!("in sync at {in_sync} of {all} PoPs so far"),
    };
    format!("change {} accepted, {sync}\n", change.id)
}

/// The PoPs that have not confirmed it, and whether that waits for an operator's word.
pub fn pending(change: &Change) -> impl Iterator<Item = (&str, &'static str)> {
    let lacks = |pop: &&PopSync| matches!(pop.state, SyncState::Pending | SyncState::Held);
    change.pops.iter().filter(lacks).map(|pop| (pop.name.as_str(), state_word(pop.state)))
}

/// The whole receipt.
pub fn show(change: &Change) -> String {
    let zones = change.zones.iter().map(|zone| match zone.serial {
        Some(serial) => format!("{} (serial {serial})", zone.name),
        None => format!("{} (deleted)", zone.name),
    });
    let mut text = table::pairs([
        ("change", Some(change.id.clone())),
        ("revision", Some(change.revision.to_string())),
        ("accepted", Some(format_time(change.accepted_at_ms))),
        ("by", Some(change.principal.clone())),
        ("message", change.message.clone()),
        ("zones", Some(zones.collect::<Vec<_>>().join(", "))),
        ("state", Some(state_word(change.state).to_owned())),
        ("in sync after", change.in_sync_ms.map(format_ms)),
    ]);
    if !change.pops.is_empty() {
        text.push('\n');
        text.push_str(&table::columns(
            ["POP", "STATE", "AFTER"],
            change.pops.iter().map(|pop| {
                let after = pop.in_sync_ms.map(format_ms).unwrap_or_default();
                [pop.name.clone(), state_word(pop.state).to_owned(), after]
            }),
        ));
    }
    text
}

fn state_word(state: SyncState) -> &'static str {
    match state {
        SyncState::Pending => "pending",
        SyncState::InSync => "in sync",
        SyncState::Held => "held",
        SyncState::NotWaitedFor => "not waited for",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_wire::api::ChangedZone;

    fn change(state: SyncState, in_sync_ms: Option<f64>, pops: &[(&str, SyncState, Option<f64>)]) -> Change {
        Change {
            id: "c1".into(),
            revision: 42,
            accepted_at_ms: 1_767_225_600_000,
            principal: "tenant t1".into(),
            message: Some("more web servers".into()),
            zones: vec![
                ChangedZone { id: "z1".into(), name: "example.com.".into(), serial: Some(5) },
                ChangedZone { id: "z2".into(), name: "example.org.".into(), serial: None },
            ],
            state,
            in_sync_ms,
            pops: pops
                .iter()
                .map(|(name, state, in_sync_ms)| PopSync {
                    pop: format!("id-{name}"),
                    name: (*name).into(),
                    state: *state,
                    in_sync_ms: *in_sync_ms,
                })
                .collect(),
        }
    }

    #[test]
    fn one_line() {
        let all = change(SyncState::InSync, Some(12.3), &[("ams", SyncState::InSync, Some(12.3))]);
        assert_eq!(line(&all), "change c1 accepted, in sync at 1 of 1 PoPs after 12 ms\n");
        let some = change(
            SyncState::Pending,
            None,
            &[
                ("ams", SyncState::InSync, Some(3.0)),
                ("fra", SyncState::Pending, None),
                ("nyc", SyncState::NotWaitedFor, None),
            ],
        );
        assert_eq!(line(&some), "change c1 accepted, in sync at 1 of 2 PoPs so far\n");
        assert_eq!(pending(&some).collect::<Vec<_>>(), [("fra", "pending")]);
        let held = change(
            SyncState::Held,
            None,
            &[("ams", SyncState::InSync, Some(3.0)), ("fra", SyncState::Held, None)],
        );
        assert_eq!(
            line(&held),
            "change c1 accepted, in sync at 1 of 2 PoPs, held back from the others till an operator releases it\n"
        );
        assert_eq!(pending(&held).collect::<Vec<_>>(), [("fra", "held")]);
        let none = change(SyncState::InSync, None, &[]);
        assert_eq!(line(&none), "change c1 accepted, no PoP to wait for\n");
    }

    #[test]
    fn all_of_it() {
        let change = change(
            SyncState::Pending,
            None,
            &[("ams", SyncState::InSync, Some(3.0)), ("frankfurt", SyncState::Pending, None)],
        );
        assert_eq!(
            show(&change),
            "change    c1\n\
             revision  42\n\
             accepted  2026-01-01T00:00:00Z\n\
             by        tenant t1\n\
             message   more web servers\n\
             zones     example.com. (serial 5), example.org. (deleted)\n\
             state     pending\n\
             \n\
             POP        STATE    AFTER\n\
             ams        in sync  3.0 ms\n\
             frankfurt  pending\n"
        );
    }
}
