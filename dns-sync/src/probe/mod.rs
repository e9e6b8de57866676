//! Probing: asks endpoints again and again how they are, and tells what is seen of them when that changes.
//!
//! Each monitor is a task: its phase is drawn, so that monitors of one interval are spread over it, and from then on the interval is
//! kept. A probe has one time for all that it does, and bounded memory; how many run at a time is bounded for all monitors together.

pub(crate) mod dns;
mod http;
mod icmp;
mod pace;
mod target;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use herald_core::MonitorId;
use herald_core::monitor::Check;
use herald_core::special::AddressRules;
use herald_wire::stream::{Probe, ProbeAnswer, ProbeNow, Probes, Seen};
use rustls::RootCertStore;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use self::pace::{Good, Outcome, Sight};
pub use self::target::Resolver;
use self::target::{Targets, connect};
use self::tls::{Tls, system_roots};

/// Probes that run at a time: each has a socket or two.
const PROBES_MAX: usize = 2_000;

/// The phase of a monitor is drawn from no more than this, so that a new one with a long interval doesn't wait for long.
const PHASE_MAX: Duration = Duration::from_secs(5);

/// The shortest interval and time-out that are kept, whatever is asked.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// Threads that may wait for the system's resolver.
const RESOLVER_THREADS_MAX: usize = 32;

/// A handle on who probes. It ends with the handle.
pub struct Prober {
    orders: UnboundedSender<Order>,
}

/// What a prober has to say.
pub enum Told {
    /// What is seen of a monitor, as that changes.
    Seen(Seen),
    /// How a probe went that was asked for at once.
    Answer(ProbeAnswer),
}

enum Order {
    Set(Probes),
    Isolated(bool),
}

impl Prober {
    /// Starts with nothing to probe. `tell` is called with what is seen of a monitor when that changes, and with answers.
    ///
    /// # Errors
    /// If there can't be a thread.
    pub fn start(resolver: Resolver, tell: impl Fn(Told) + Send + Sync + 'static) -> io::Result<Prober> {
        Prober::with_roots(resolver, system_roots, tell)
    }

    /// With these roots of certificates.
    pub(crate) fn with_roots(
        resolver: Resolver,
        roots: impl FnOnce() -> RootCertStore + Send + 'static,
        tell: impl Fn(Told) + Send + Sync + 'static,
    ) -> io::Result<Prober> {
        let (orders, inbox) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVER_THREADS_MAX)
            .build()?;
        thread::Builder::new().name("probes".into()).spawn(move || {
            let tls = match Tls::new(roots()) {
                Ok(tls) => tls,
                Err(error) => return tracing::error!("nothing is probed: {error}"),
            };
            let shared = Shared {
                targets: Targets::new(resolver),
                tls,
                room: Semaphore::new(PROBES_MAX),
                tell: Box::new(tell),
            };
            let shared = Arc::new(shared);
            runtime.block_on(Keeper { shared, tasks: HashMap::new(), is_isolated: false }.run(inbox));
            // Threads that wait for a resolver are left to themselves.
            runtime.shutdown_background();
        })?;
        Ok(Prober { orders })
    }

    /// What is to be probed is another now.
    pub fn set(&self, probes: Probes) {
        // It fails only if nothing can be probed, which was said.
        let _ = self.orders.send(Order::Set(probes));
    }

    /// Whether monitors are probed too that other PoPs were chosen for, and policies go by.
    pub fn set_isolated(&self, is_isolated: bool) {
        let _ = self.orders.send(Order::Isolated(is_isolated));
    }
}

/// What all probes share.
struct Shared {
    targets: Targets,
    tls: Tls,
    room: Semaphore,
    tell: Box<dyn Fn(Told) + Send + Sync>,
}

struct Keeper {
    shared: Arc<Shared>,
    tasks: HashMap<MonitorId, Kept>,
    is_isolated: bool,
}

/// A monitor, and the task that probes it, if it is to be probed.
struct Kept {
    probe: Probe,
    task: Option<JoinHandle<()>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Keeper {
    async fn run(mut self, mut inbox: UnboundedReceiver<Order>) {
        while let Some(order) = inbox.recv().await {
            match order {
                Order::Set(probes) => self.set(probes),
                Order::Isolated(is_isolated) => {
                    self.is_isolated = is_isolated;
                    let others = self.tasks.values_mut().filter(|kept| is_of_isolated(&kept.probe));
                    others.for_each(|kept| kept.turn(&self.shared, is_isolated));
                }
            }
        }
    }

    fn set(&mut self, probes: Probes) {
        let Probes { is_all, puts, deletes, allowed, refused, now, own } = probes;
        self.shared.targets.set_rules(AddressRules { allowed, refused, own: own.unwrap_or_default() });
        if is_all {
            let named: std::collections::HashSet<MonitorId> =
                puts.iter().map(|probe| probe.monitor).collect();
            self.tasks.retain(|monitor, _| named.contains(monitor));
        }
        deletes.iter().for_each(|monitor| drop(self.tasks.remove(monitor)));
        for probe in puts {
            // What is as it was goes on, with what was seen of it.
            if self.tasks.get(&probe.monitor).is_some_and(|kept| kept.probe == probe) {
                continue;
            }
            let is_on = probe.is_chosen || self.is_isolated && is_of_isolated(&probe);
            let mut kept = Kept { probe, task: None };
            kept.turn(&self.shared, is_on);
            self.tasks.insert(kept.probe.monitor, kept);
        }
        for ProbeNow { request, monitor } in now.into_iter().flatten() {
            let probe = self.tasks.get(&monitor).map(|kept| kept.probe.clone());
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                let answer = probe_now(&shared, request, probe.as_ref()).await;
                (shared.tell)(Told::Answer(answer));
            });
        }
    }
}

/// Whether a PoP that wasn't chosen for a monitor probes it while it is isolated.
fn is_of_isolated(probe: &Probe) -> bool {
    !probe.is_chosen && probe.is_local != Some(false)
}

impl Kept {
    /// Probes, or doesn't.
    fn turn(&mut self, shared: &Arc<Shared>, is_on: bool) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        let is_probed = !matches!(self.probe.check, Check::Heartbeat { .. } | Check::Calculated { .. });
        if is_on && is_probed {
            self.task = Some(tokio::spawn(probe_on(Arc::clone(shared), self.probe.clone())));
        }
    }
}

async fn probe_on(shared: Arc<Shared>, probe: Probe) {
    let interval = Duration::from_millis(probe.pace.interval_ms.into()).max(INTERVAL_MIN);
    let began = Instant::now();
    let mut sight = Sight::new(&probe.pace, Duration::ZERO);
    let mut ticks = tokio::time::interval_at(began + phase(interval.min(PHASE_MAX)), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Ok(_room) = shared.room.acquire().await else { return };
        let asked = Instant::now();
        let outcome = run_within(&shared, &probe).await;
        if sight.note(outcome, asked.elapsed(), began.elapsed()) {
            (shared.tell)(Told::Seen(Seen {
                monitor: probe.monitor,
                revision: probe.revision,
                up: sight.up,
                cause: sight.cause.clone(),
                for_ms: 0,
                took_us: sight.took.and_then(|took| took.as_micros().try_into().ok()),
                certificate_ends_s: sight.certificate_ends_s,
            }));
        }
    }
}

/// Probes once; what is seen all the time isn't touched by it.
async fn probe_now(shared: &Shared, request: u64, probe: Option<&Probe>) -> ProbeAnswer {
    let (outcome, took) = match (probe, shared.room.acquire().await) {
        (Some(probe), Ok(_room)) => {
            let asked = Instant::now();
            (run_within(shared, probe).await, asked.elapsed())
        }
        _ => (Outcome::Unable("this PoP doesn't know of the monitor".into()), Duration::ZERO),
    };
    let (good, cause, certificate_ends_s) = match outcome {
        Outcome::Good(Good { cause, certificate_ends_s }) => (Some(true), cause, certificate_ends_s),
        Outcome::Bad(cause) => (Some(false), cause, None),
        Outcome::Unable(cause) => (None, cause, None),
    };
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    ProbeAnswer { request, good, cause, took_us, certificate_ends_s }
}

/// Probes, and takes what isn't answered in the monitor's time for a failure.
async fn run_within(shared: &Shared, probe: &Probe) -> Outcome {
    let within = Duration::from_millis(probe.pace.timeout_ms.into()).max(TIMEOUT_MIN);
    match tokio::time::timeout(within, run(shared, &probe.check, within)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Bad(format!("no answer in {} ms", within.as_millis())),
    }
}

/// From nothing to all of the interval.
pub(crate) fn phase(interval: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness all monitors have one phase, which is no harm to few.
    let _ = getrandom::fill(&mut bytes);
    interval.mul_f64(f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}

async fn run(shared: &Shared, check: &Check, within: Duration) -> Outcome {
    let targets = &shared.targets;
    let done = async {
        match check {
            Check::Http(check) => Ok(http::check(check, targets, &shared.tls, within).await),
            Check::Tcp { target, port } => {
                let stream = connect(&targets.addresses(target, *port).await?, within).await?;
                Ok(Outcome::Good(Good { cause: connected(&stream), certificate_ends_s: None }))
            }
            Check::Tls { target, port, tls } => {
                let stream = connect(&targets.addresses(target, *port).await?, within).await?;
                let cause = connected(&stream);
                let (_, certificate_ends_s) = shared.tls.open(stream, tls, target).await?;
                Ok(Outcome::Good(Good { cause, certificate_ends_s }))
            }
            Check::Dns { target, port, name, rtype, rcode, contains } => {
                let server = first(targets.addresses(target, *port).await?)?;
                Ok(dns::check(server, name, *rtype, *rcode, contains.as_deref()).await)
            }
            Check::Icmp { target } => {
                let address = first(targets.addresses(target, 0).await?)?.ip();
                Ok(icmp::check(address).await)
            }
            Check::Heartbeat { .. } | Check::Calculated { .. } => {
                Err(Outcome::Unable("nobody probes it".into()))
            }
        }
    };
    done.await.unwrap_or_else(|outcome| outcome)
}

fn connected(stream: &tokio::net::TcpStream) -> String {
    stream.peer_addr().map_or_else(|_| "connected".into(), |address| format!("connected to {address}"))
}

fn first(addresses: Vec<std::net::SocketAddr>) -> Result<std::net::SocketAddr, Outcome> {
    addresses.into_iter().next().ok_or_else(|| Outcome::Bad("it has no address".into()))
}
