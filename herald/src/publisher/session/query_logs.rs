//! What a PoP is told of zones whose queries are logged: a difference between the state that was last told and the newest one.

use std::collections::BTreeSet;
use std::sync::Arc;

use herald_core::ZoneId;
use herald_core::state::State;
use herald_wire::stream::{LoggedZone, QueryLogs, ToPop};

/// How many zones a frame has: at most some 300 octets each.
const ZONES_MAX: usize = 1_000;

/// See the module.
#[derive(Default)]
pub(super) struct QueryLogFeed {
    /// The state by which it was told, but for what waits.
    told: Option<Arc<State>>,
    /// These are still to be told.
    waiting: BTreeSet<ZoneId>,
}

impl QueryLogFeed {
    /// Some of what the PoP is to be told at this time, in ms since the epoch.
    pub fn query_logs(&mut self, newest: Arc<State>, now_ms: u64) -> Option<ToPop> {
        let is_all = self.told.is_none();
        match &self.told {
            Some(told) if Arc::ptr_eq(told, &newest) => {}
            Some(told) => self.waiting.extend(told.query_logs_diff(&newest)),
            None => self.waiting.extend(newest.query_logs().map(|log| log.zone)),
        }
        let state = self.told.insert(newest);
        if self.waiting.is_empty() && !is_all {
            return None;
        }
        let mut logs = QueryLogs { is_all, ..QueryLogs::default() };
        for zone in std::iter::from_fn(|| self.waiting.pop_first()).take(ZONES_MAX) {
            let log = state.query_log(zone).filter(|log| log.is_on_at(now_ms));
            let Some((log, served)) = log.zip(state.zone(zone).filter(|zone| zone.is_served())) else {
                logs.deletes.push(zone);
                continue;
            };
            logs.puts.push(LoggedZone {
                zone,
                name: served.name.clone(),
                is_private: served.is_private(),
                one_in: log.one_in,
                left_ms: log.until_ms - now_ms,
            });
        }
        Some(ToPop::QueryLogs(logs))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use herald_core::change::{Bulk, Change};
    use herald_core::content::Content;
    use herald_core::query_log::QueryLog;
    use herald_core::state::At;
    use herald_core::zone::{SoaFields, Zone, ZoneStatus};
    use herald_core::{Generation, Name, NsSetId, TenantId};

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn apply(state: &Arc<State>, change: &Change) -> Arc<State> {
        let mut state = State::clone(state);
        let generation = Generation { epoch: 1, counter: state.revision() + 1 };
        state.apply(At { generation, time_ms: NOW_MS }, change);
        Arc::new(state)
    }

    fn created(number: u128, status: ZoneStatus) -> Change {
        let name = Name::parse(&format!("z{number}.example.")).unwrap();
        let soa = SoaFields {
            mname: name.clone(),
            rname: name.clone(),
            refresh_s: 1,
            retry_s: 1,
            expire_s: 1,
            minimum_s: 1,
            ttl: 1,
        };
        let zone = Zone {
            id: ZoneId(number),
            name,
            tenant: TenantId(1),
            status,
            ns_set: NsSetId(1),
            labels: BTreeMap::new(),
            created_at_ms: 0,
            changed_at_ms: 0,
            revision: 0,
            generation: Generation::default(),
            serial: 1,
            soa,
            challenge: String::new(),
            admitted_by: Vec::new(),
            content: Content::default(),
            shrunk: None,
            resolved: Content::default(),
        };
        Change::ZoneCreated { zone, content: Bulk { content: Content::default(), staged: None } }
    }

    fn log(number: u128, one_in: u32, until_ms: u64) -> Change {
        let (zone, tenant) = (ZoneId(number), TenantId(1));
        Change::QueryLogSet(QueryLog { zone, tenant, since_ms: NOW_MS, until_ms, one_in })
    }

    fn told(feed: &mut QueryLogFeed, state: &Arc<State>, now_ms: u64) -> Option<QueryLogs> {
        match feed.query_logs(Arc::clone(state), now_ms)? {
            ToPop::QueryLogs(logs) => Some(logs),
            other => panic!("{other:?}"),
        }
    }

    fn puts(logs: &QueryLogs) -> Vec<(u128, u32, u64, bool)> {
        logs.puts.iter().map(|log| (log.zone.0, log.one_in, log.left_ms, log.is_private)).collect()
    }

    #[test]
    fn a_pop_is_told_all_first_and_then_what_changes() {
        let mut state = Arc::new(State::default());
        for change in [
            created(1, ZoneStatus::Active),
            created(2, ZoneStatus::Private),
            log(1, 5, NOW_MS + 60_000),
            log(2, 1, NOW_MS + 1_000),
        ] {
            state = apply(&state, &change);
        }
        let mut feed = QueryLogFeed::default();
        let first = told(&mut feed, &state, NOW_MS).unwrap();
        assert!(first.is_all && first.deletes.is_empty());
        assert_eq!(puts(&first), [(1, 5, 60_000, false), (2, 1, 1_000, true)]);
        assert_eq!(told(&mut feed, &state, NOW_MS), None);
        // One that comes later is told what is left, and nothing of what ran out.
        let later = told(&mut QueryLogFeed::default(), &state, NOW_MS + 10_000).unwrap();
        assert_eq!((puts(&later), &later.deletes[..]), (vec![(1, 5, 50_000, false)], &[ZoneId(2)][..]));
        // What has nothing to do with it is no news.
        state = apply(&state, &created(3, ZoneStatus::Active));
        assert_eq!(told(&mut feed, &state, NOW_MS), None);
        state = apply(&state, &Change::QueryLogEnded { zone: ZoneId(1), at_ms: NOW_MS });
        let ended = told(&mut feed, &state, NOW_MS).unwrap();
        assert!(!ended.is_all && ended.puts.is_empty() && ended.deletes == [ZoneId(1)]);
        // Set otherwise, and gone with its zone.
        state = apply(&state, &log(2, 9, NOW_MS + 2_000));
        assert_eq!(puts(&told(&mut feed, &state, NOW_MS).unwrap()), [(2, 9, 2_000, true)]);
        state = apply(&state, &Change::ZoneDeleted { zone: ZoneId(2) });
        assert_eq!(told(&mut feed, &state, NOW_MS).unwrap().deletes, [ZoneId(2)]);
        // Who has nothing to log is told so once: it may have had something before.
        let none = told(&mut QueryLogFeed::default(), &Arc::new(State::default()), NOW_MS).unwrap();
        assert!(none.is_all && none.puts.is_empty() && none.deletes.is_empty());
    }
}
