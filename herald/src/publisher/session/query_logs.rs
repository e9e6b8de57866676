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
