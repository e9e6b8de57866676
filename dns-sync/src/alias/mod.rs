//! Resolving: asks the operator's resolvers again and again for the targets of ALIAS records that this PoP was chosen for, and tells what
//! they have when that changes.
//!
//! ```text
//!   session ──targets──▶ keeper ──a task each──▶ resolve ──▶ resolvers
//!      ▲                   │  ▲                     │
//!      └── what is found ──┘  └──── track ◀─────────┘
//! ```
//!
//! Nothing is kept over a restart: the control plane keeps what is served, and tells again what is to be resolved.

mod resolve;
#[cfg(test)]
mod tests;
mod track;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use domain::base::Rtype;
use herald_core::Name;
use herald_core::alias::watch::Found;
use herald_wire::stream::{TargetSeen, Targets, ToHerald, ToPop};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::track::Track;
use crate::status::{AliasStatus, Board};

/// Questions that are open at a time.
const QUESTIONS_MAX: usize = 200;

/// Targets in one message to the control plane: with 32 addresses of each type they have at most some kilobytes.
const MESSAGE_ITEMS: usize = 100;

/// A handle on who resolves. It ends with the last handle.
#[derive(Clone)]
pub struct AliasKeeper(UnboundedSender<Order>);

enum Order {
    Opened(WeakUnboundedSender<ToHerald>),
    Closed,
    Set(Targets),
    Found { target: Name, number: u64, a: Found, aaaa: Found },
}

impl AliasKeeper {
    /// Starts with nothing to resolve; these resolvers are asked, in turn where one doesn't answer.
    ///
    /// # Errors
    /// If there can't be a thread.
    pub fn start(resolvers: Vec<SocketAddr>, board: Arc<Board>) -> io::Result<AliasKeeper> {
        let (orders, inbox) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Shared { room: Semaphore::new(QUESTIONS_MAX), resolvers, found: orders.downgrade() };
        let keeper =
            Keeper { shared: Arc::new(shared), board, outbox: None, targets: HashMap::new(), next_number: 0 };
        thread::Builder::new().name("aliases".into()).spawn(move || runtime.block_on(keeper.run(inbox)))?;
        Ok(AliasKeeper(orders))
    }

    /// A session stands.
    pub(crate) fn opened(&self, outbox: WeakUnboundedSender<ToHerald>) {
        self.tell(Order::Opened(outbox));
    }

    /// It is over.
    pub(crate) fn closed(&self) {
        self.tell(Order::Closed);
    }

    /// Takes a frame if it is about targets, and gives back any other.
    pub(crate) fn take(&self, frame: ToPop) -> Option<ToPop> {
        match frame {
            ToPop::Targets(targets) => {
                self.tell(Order::Set(targets));
                None
            }
            other => Some(other),
        }
    }

    fn tell(&self, order: Order) {
        // Its thread lives as long as there is a handle.
        let _ = self.0.send(order);
    }
}

/// What all tasks share.
struct Shared {
    resolvers: Vec<SocketAddr>,
    room: Semaphore,
    found: WeakUnboundedSender<Order>,
}

struct Keeper {
    shared: Arc<Shared>,
    board: Arc<Board>,
    outbox: Option<WeakUnboundedSender<ToHerald>>,
    targets: HashMap<Name, Kept>,
    next_number: u64,
}

/// A target, and the task that resolves it.
struct Kept {
    /// Tells it from one of the same name that was before.
    number: u64,
    task: JoinHandle<()>,
    /// What was found of both types, and since when.
    found: Option<(Found, Found, Instant)>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    async fn run(mut self, mut inbox: UnboundedReceiver<Order>) {
        self.show();
        while let Some(order) = inbox.recv().await {
            match order {
                Order::Opened(outbox) => self.outbox = Some(outbox),
                Order::Closed => self.outbox = None,
                Order::Set(targets) => self.set(targets),
                Order::Found { target, number, a, aaaa } => {
                    let Some(kept) = self.targets.get_mut(&target).filter(|kept| kept.number == number)
                    else {
                        continue;
                    };
                    kept.found = Some((a, aaaa, Instant::now()));
                    self.send([target]);
                }
            }
            self.show();
        }
    }

    fn set(&mut self, targets: Targets) {
        let Targets { is_all, puts, deletes } = targets;
        if is_all {
            let named: HashSet<&Name> = puts.iter().collect();
            self.targets.retain(|target, _| named.contains(target));
        }
        deletes.iter().for_each(|target| drop(self.targets.remove(target)));
        for target in &puts {
            if !self.targets.contains_key(target) {
                let number = self.next_number;
                self.next_number += 1;
                let task = tokio::spawn(keep(Arc::clone(&self.shared), target.clone(), number));
                self.targets.insert(target.clone(), Kept { number, task, found: None });
            }
        }
        // What is told of it before it is chosen doesn't count.
        self.send(puts);
    }

    /// Tells what is known of these.
    fn send(&self, targets: impl IntoIterator<Item = Name>) {
        let Some(outbox) = self.outbox.as_ref().and_then(WeakUnboundedSender::upgrade) else { return };
        let seen = targets.into_iter().filter_map(|target| {
            let (a, aaaa, since) = self.targets.get(&target)?.found.clone()?;
            Some(TargetSeen {
                target,
                a,
                aaaa,
                for_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
        });
        let seen: Vec<TargetSeen> = seen.collect();
        for some in seen.chunks(MESSAGE_ITEMS) {
            // A session that has ended needs no word: the next one asks again.
            let _ = outbox.send(ToHerald::Resolved { targets: some.to_vec() });
        }
    }

    fn show(&self) {
        let is_failed = |kept: &&Kept| match &kept.found {
            None => true,
            Some((a, aaaa, _)) => [a, aaaa].iter().any(|found| matches!(found, Found::Failed { .. })),
        };
        let status = AliasStatus {
            resolvers: self.shared.resolvers.iter().map(SocketAddr::to_string).collect(),
            targets: self.targets.len() as u64,
            unresolved: self.targets.values().filter(is_failed).count() as u64,
        };
        self.board.update(|shown| shown.aliases = Some(status));
    }
}

/// Resolves a target for as long as it runs.
async fn keep(shared: Arc<Shared>, target: Name, number: u64) {
    let mut tracks = [Track::default(), Track::default()];
    loop {
        let now = Instant::now();
        let is_due = |track: &Track| track.at.is_none_or(|at| at <= now);
        let (for_a, for_aaaa) = tokio::join!(
            ask(&shared, &target, Rtype::A, is_due(&tracks[0])),
            ask(&shared, &target, Rtype::AAAA, is_due(&tracks[1])),
        );
        let mut is_news = false;
        for (track, answer) in tracks.iter_mut().zip([for_a, for_aaaa]) {
            if let Some((answer, asked_at)) = answer {
                let (changed, wait) = track.note(answer);
                is_news |= changed;
                track.at = Some(asked_at + track::jittered(wait));
            }
        }
        if is_news {
            let [a, aaaa] = [0, 1].map(|n: usize| tracks[n].told().clone());
            let Some(found) = shared.found.upgrade() else { return };
            let _ = found.send(Order::Found { target: target.clone(), number, a, aaaa });
        }
        let next = tracks.iter().filter_map(|track| track.at).min();
        tokio::time::sleep_until(next.unwrap_or_else(Instant::now)).await;
    }
}

/// Asks if it is due; gives the answer, and when it came.
async fn ask(
    shared: &Shared,
    target: &Name,
    rtype: Rtype,
    is_due: bool,
) -> Option<(resolve::Answer, Instant)> {
    if !is_due {
        return None;
    }
    let _room = shared.room.acquire().await.ok()?;
    let answer = resolve::resolve(&shared.resolvers, target, rtype).await;
    Some((answer, Instant::now()))
}
