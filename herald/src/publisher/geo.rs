//! The roll-out of the table of places, and likewise of the firewall's rules and policy zones: one PoP gets a new one first, and the others when it says that it has loaded it.
//!
//! Nothing of this is kept: after a start of the control plane, what PoPs say of themselves tells how far it was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herald_core::PopId;
use herald_wire::stream::GeoStatus;

/// A table, as it is sent.
#[derive(Debug)]
pub struct TableFile {
    /// SHA-256 of it.
    pub sha256: [u8; 32],
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Where a roll-out stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// It isn't known yet what PoPs are to have.
    #[default]
    Unknown,
    /// They are to have none.
    NoTable,
    /// This PoP gets it first; none if none was connected yet.
    First(Option<PopId>),
    /// One has loaded it: all get it.
    All,
    /// This PoP could not use it, and nobody else gets it.
    Stopped { pop: PopId, problem: String },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Rollout(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stage: Stage,
    table: Option<Arc<TableFile>>,
    /// How often one began: what was offered in an earlier one is offered again.
    begun: u64,
}

/// What a PoP is to have.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    /// The table; none to have none.
    pub table: Option<Arc<TableFile>>,
    /// Which roll-out it is.
    pub number: u64,
}

impl Rollout {
    /// From here on PoPs are to have this table, or none. One that had been stopped begins anew.
    pub fn begin(&self, table: Option<Arc<TableFile>>) {
        let mut inner = self.lock();
        inner.stage = match &table {
            Some(_) => Stage::First(None),
            None => Stage::NoTable,
        };
        inner.table = table;
        inner.begun += 1;
    }

    /// Whether it is known what PoPs are to have.
    pub fn is_known(&self) -> bool {
        self.lock().stage != Stage::Unknown
    }

    /// The table that PoPs are to have.
    pub fn table(&self) -> Option<Arc<TableFile>> {
        self.lock().table.clone()
    }

    /// A PoP says what it has.
    pub(super) fn told(&self, pop: PopId, said: &GeoStatus) {
        let mut inner = self.lock();
        let Some(table) = &inner.table else { return };
        let wanted = &table.sha256[..];
        let next = match (&inner.stage, &said.problem) {
            (Stage::Stopped { pop: by, .. }, _) if *by != pop => return,
            (_, Some(problem)) if problem.hash == wanted => {
                Stage::Stopped { pop, problem: problem.reason.clone() }
            }
            _ if said.hash == wanted => Stage::All,
            _ => return,
        };
        if inner.stage != next {
            if let Stage::Stopped { problem, .. } = &next {
                tracing::error!("the roll-out of a file stops: the PoP {pop} can't use it: {problem}");
            }
            inner.stage = next;
        }
    }

    /// What a PoP that is connected is to have now; none if it is to keep what it has.
    pub(super) fn offer(&self, pop: PopId, is_connected: impl Fn(PopId) -> bool) -> Option<Offer> {
        let mut inner = self.lock();
        match &inner.stage {
            Stage::Unknown | Stage::Stopped { .. } => return None,
            Stage::First(Some(first)) if *first != pop && is_connected(*first) => return None,
            Stage::First(_) => inner.stage = Stage::First(Some(pop)),
            Stage::NoTable | Stage::All => {}
        }
        Some(Offer { table: inner.table.clone(), number: inner.begun })
    }

    pub(super) fn stage(&self) -> Stage {
        self.lock().stage.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use herald_wire::stream::GeoProblem;

    use super::*;

    fn table(octet: u8) -> Option<Arc<TableFile>> {
        Some(Arc::new(TableFile { sha256: [octet; 32], bytes: vec![octet] }))
    }

    fn has(octet: u8) -> GeoStatus {
        GeoStatus { hash: vec![octet; 32], ..GeoStatus::default() }
    }

    #[test]
    fn others_wait_for_the_first_one() {
        let (rollout, all_up) = (Rollout::default(), |_| true);
        let offered =
            |pop| rollout.offer(PopId(pop), all_up).map(|offer| offer.table.map(|table| table.sha256[0]));
        assert_eq!(offered(1), None, "nothing is known yet");
        rollout.begin(table(7));
        assert_eq!((offered(2), offered(1), offered(2)), (Some(Some(7)), None, Some(Some(7))));
        rollout.told(PopId(1), &has(6));
        assert_eq!(offered(1), None, "it has another one");
        rollout.told(PopId(2), &has(7));
        assert_eq!((rollout.stage(), offered(1)), (Stage::All, Some(Some(7))));
        rollout.begin(None);
        assert_eq!((offered(1), offered(3)), (Some(None), Some(None)), "deleting waits for nobody");
    }

    #[test]
    fn a_first_one_that_is_gone_is_replaced() {
        let rollout = Rollout::default();
        rollout.begin(table(7));
        assert!(rollout.offer(PopId(1), |_| true).is_some());
        assert!(rollout.offer(PopId(2), |_| true).is_none());
        assert!(rollout.offer(PopId(2), |pop| pop != PopId(1)).is_some());
        assert_eq!(rollout.stage(), Stage::First(Some(PopId(2))));
    }

    #[test]
    fn it_stops_where_a_pop_fails_and_begins_anew_when_told() {
        let rollout = Rollout::default();
        rollout.begin(table(7));
        let number = rollout.offer(PopId(1), |_| true).unwrap().number;
        let problem = |hash| Some(GeoProblem { hash: vec![hash; 32], reason: "no room".into() });
        rollout.told(PopId(1), &GeoStatus { problem: problem(5), ..has(6) });
        assert_eq!(rollout.stage(), Stage::First(Some(PopId(1))), "that is of another table");
        rollout.told(PopId(1), &GeoStatus { problem: problem(7), ..has(6) });
        assert_eq!(rollout.stage(), Stage::Stopped { pop: PopId(1), problem: "no room".into() });
        rollout.told(PopId(2), &has(7));
        assert!(rollout.offer(PopId(2), |_| true).is_none() && rollout.offer(PopId(1), |_| true).is_none());
        rollout.begin(table(7));
        assert!(rollout.offer(PopId(2), |_| true).unwrap().number > number);
        rollout.told(PopId(1), &GeoStatus { problem: problem(7), ..has(6) });
        rollout.told(PopId(1), &has(7));
        assert_eq!(rollout.stage(), Stage::All, "it was mended there");
    }
}
