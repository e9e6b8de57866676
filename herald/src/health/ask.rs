//! Probes that somebody wants now, beside those that are due: asked of PoPs, and their answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herald_core::{MonitorId, PopId};
use herald_wire::stream::{ProbeAnswer, ProbeNow};
use tokio::sync::Notify;

/// What is asked of PoPs now. It is memory alone: who asks waits for it.
#[derive(Default)]
pub(super) struct Asks(Mutex<Asked>);

#[derive(Default)]
struct Asked {
    last: u64,
    requests: HashMap<u64, Request>,
}

struct Request {
    monitor: MonitorId,
    /// Who is yet to be asked.
    unasked: BTreeSet<PopId>,
    /// Who is yet to answer.
    unanswered: BTreeSet<PopId>,
    answers: BTreeMap<PopId, ProbeAnswer>,
    answered: Arc<Notify>,
}

impl Asks {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a PoP is to be asked now; it is told so once.
    pub(super) fn take(&self, pop: PopId) -> Vec<ProbeNow> {
        let mut asked = self.lock();
        let requests = asked.requests.iter_mut();
        let of_pop = requests.filter_map(|(id, request)| {
            request.unasked.remove(&pop).then_some(ProbeNow { request: *id, monitor: request.monitor })
        });
        of_pop.collect()
    }

    /// A PoP answers. What nobody waits for any more is passed over.
    pub(super) fn answer(&self, pop: PopId, answer: ProbeAnswer) {
        if let Some(request) = self.lock().requests.get_mut(&answer.request)
            && request.unanswered.remove(&pop)
        {
            request.answers.insert(pop, answer);
            request.answered.notify_one();
        }
    }

    /// Asks these PoPs, calls `wake` and waits for the answers, at most for so long; gives those that came.
    pub(super) async fn ask(
        &self,
        monitor: MonitorId,
        pops: impl IntoIterator<Item = PopId>,
        within: Duration,
        wake: impl FnOnce(),
    ) -> BTreeMap<PopId, ProbeAnswer> {
        let pops: BTreeSet<PopId> = pops.into_iter().collect();
        let answered = Arc::new(Notify::new());
        let id = {
            let mut asked = self.lock();
            asked.last += 1;
            let id = asked.last;
            let request = Request {
                monitor,
                unasked: pops.clone(),
                unanswered: pops,
                answers: BTreeMap::new(),
                answered: Arc::clone(&answered),
            };
            asked.requests.insert(id, request);
            id
        };
        // Who asked may go while it waits.
        let open = Open { asks: self, id };
        wake();
        let all = async {
            while !self.lock().requests.get(&id).is_none_or(|request| request.unanswered.is_empty()) {
                answered.notified().await;
            }
        };
        _ = tokio::time::timeout(within, all).await;
        let answers = self.lock().requests.remove(&id).map(|request| request.answers);
        drop(open);
        answers.unwrap_or_default()
    }
}

/// A request that somebody waits for.
struct Open<'a> {
    asks: &'a Asks,
    id: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.asks.lock().requests.remove(&self.id);
    }
}
