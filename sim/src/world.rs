//! The events of a run, in their order on virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use dns_sync::agent::core::{Action, Input};
use dns_sync::agent::{Scrubbed, scrub};
use dns_sync::knot::driver::{Report, TaskError};
use dns_sync::session::Frame;
use herald::publisher::{Next, PopSyncState, Session};
use herald_core::{Name, ZoneId};
use herald_wire::stream::{
    AgentStatus, Hello, PROTOCOL, RefusalCause, ToHerald, ToPop, decode_frame, encode_frame,
};

use crate::Met;
use crate::control::{Control, secret_of};
use crate::link::{Link, Way};
use crate::mutation::Mutation;
use crate::pop::{BACKOFF_MAX_US, BACKOFF_MIN_US, Phase, Pop};
use crate::random::Random;
use crate::record::Record;
use crate::store::Fault;
use crate::trace::Trace;

const MS: u64 = 1_000;
const S: u64 = 1_000_000;

/// A control plane that is not heard from for this long is gone.
const SILENCE_US: u64 = 10 * S;

/// How often a PoP says how it is.
const STATUS_US: u64 = S;

/// How long all may take to be right again once nothing is broken any more: the longest pauses between attempts, twice.
const CONVERGE_US: u64 = 180 * S;

/// What happens.
enum Event {
    // What the plan holds.
    Write,
    Checkpoint,
    Store(Fault),
    ControlDown,
    ControlUp,
    PopDown {
        pop: usize,
        in_midst: bool,
    },
    PopUp {
        pop: usize,
    },
    KnotDown {
        pop: usize,
    },
    Break {
        pop: usize,
    },
    /// A frame is lost, and the connection stands.
    Lose {
        pop: usize,
    },
    /// Whether the replica may grow.
    Disk {
        pop: usize,
        is_full: bool,
    },
    Damage {
        pop: usize,
        choice: u64,
    },
    Calm,
    Check,
    // What follows from the rest.
    Dial {
        pop: usize,
        life: u64,
    },
    Watch {
        pop: usize,
        life: u64,
        link: u64,
    },
    Arrive {
        link: u64,
        way: Way,
        bytes: Vec<u8>,
    },
    /// One side learns that the connection is over.
    Over {
        link: u64,
        way: Way,
    },
    Poll {
        link: u64,
        life: u64,
        at: u64,
    },
    Step {
        pop: usize,
        life: u64,
        at: u64,
    },
    Tell {
        pop: usize,
        life: u64,
        input: Box<Input>,
    },
    KnotWork {
        pop: usize,
        life: u64,
        zone: Name,
    },
    KnotUp {
        pop: usize,
        knot_life: u64,
    },
}

struct Scheduled {
    at_us: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.number == other.number
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// See the module.
pub struct World {
    random: Random,
    now_us: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
    numbers: u64,
    /// What happened.
    pub trace: Trace,
    control: Control,
    pops: Vec<Pop>,
    links: BTreeMap<u64, Link>,
    latencies_us: Vec<u64>,
    is_hostile: bool,
    /// Whether receipts may have got lost for good: a hostile network swallows some, and a lost frame may be the removal of
    /// a zone that the PoP doesn't have, which no digest misses. They come with the next session.
    is_receipt_lost: bool,
    mutation: Option<Mutation>,
    /// What was met.
    pub met: Met,
    /// Whether nothing is broken any more.
    is_calm: bool,
    calm_since_us: u64,
    is_over: bool,
}

type Outcome = Result<(), String>;

impl World {
    /// A world of this seed, with everything that is to go wrong in it. PoPs keep their replicas in `dir`.
    pub fn new(seed: u64, dir: &std::path::Path, trace: Trace, mutation: Option<Mutation>) -> World {
        let mut random = Random::new(seed);
        let pops = random.between(1, 4) as usize;
        let control = Control::new(pops, &mut random);
        let is_hostile = random.permille(250);
        let latencies_us = (0..pops).map(|_| random.between(200, 80 * MS)).collect();
        let mut world = World {
            random,
            now_us: 0,
            events: BinaryHeap::new(),
            numbers: 0,
            trace,
            control,
            pops: (0..pops).map(|pop| Pop::new(pop, dir.join(format!("pop{pop}")))).collect(),
            links: BTreeMap::new(),
            latencies_us,
            is_hostile,
            is_receipt_lost: is_hostile,
            mutation,
            met: Met::new(),
            is_calm: false,
            calm_since_us: 0,
            is_over: false,
        };
        for pop in &mut world.pops {
            pop.knot.mutation = mutation;
            pop.seen.is_hostile = is_hostile;
        }
        world.plan();
        world
    }

    /// Draws what is to happen.
    fn plan(&mut self) {
        let span_us = self.random.between(5 * S, 60 * S);
        let pops = self.pops.len() as u64;
        self.trace.line(
            0,
            format_args!(
                "{pops} PoPs for {} s{}",
                span_us / S,
                if self.is_hostile { ", hostile" } else { "" }
            ),
        );
        let writes = self.random.between(10, 150);
        let faults = self.random.between(0, 12 + 4 * pops);
        for pop in 0..self.pops.len() {
            let at = self.random.below(span_us / 4);
            self.at(at, Event::PopUp { pop });
        }
        for _ in 0..writes {
            // Some alone, some on each other's heels.
            let at = self.random.below(span_us);
            for _ in 0..self.random.between(1, 3) {
                let after = self.random.below(20 * MS);
                self.at(at + after, Event::Write);
            }
        }
        for _ in 0..faults {
            let at = self.random.below(span_us);
            let pop = self.random.below(pops) as usize;
            let event = match self.random.below(20) {
                0..3 => Event::PopDown { pop, in_midst: self.random.permille(500) },
                3..6 => Event::Break { pop },
                6..8 => Event::KnotDown { pop },
                8..10 => Event::ControlDown,
                10..12 => Event::Damage { pop, choice: self.random.number() },
                12 => Event::Checkpoint,
                13 => Event::Store(Fault::Fails),
                14 => Event::Store(Fault::AnswerLost),
                15..18 => Event::Lose { pop },
                18 => {
                    let until = at + self.random.below(8 * S);
                    self.at(until, Event::Disk { pop, is_full: false });
                    Event::Disk { pop, is_full: true }
                }
                _ => {
                    let until = at + self.random.below(5 * S);
                    self.at(until, Event::Store(Fault::None));
                    Event::Store(Fault::Full)
                }
            };
            self.at(at, event);
        }
        self.at(span_us, Event::Calm);
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse(Scheduled { at_us, number: self.numbers, event }));
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us)
    }

    fn met(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.control.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn run(&mut self) -> Outcome {
        while let Some(Reverse(Scheduled { at_us, event, .. })) = self.events.pop() {
            self.now_us = at_us;
            self.control.set_clock(at_us);
            self.take(event)?;
            if self.is_over {
                return Ok(());
            }
        }
        Err("nothing happens any more".into())
    }

    fn take(&mut self, event: Event) -> Outcome {
        match event {
            Event::Write => self.write(),
            Event::Checkpoint => {
                if let Some(running) = &mut self.control.running {
                    self.trace.line(self.now_us, format_args!("checkpoint"));
                    running.engine.checkpoint();
                }
                Ok(())
            }
            Event::Store(fault) => {
                if !self.is_calm {
                    self.trace.line(self.now_us, format_args!("the store: {fault:?}"));
                    self.control.disk.set_fault(fault);
                }
                Ok(())
            }
            Event::ControlDown => self.control_down(),
            Event::ControlUp => self.control_up(),
            Event::PopDown { pop, in_midst } => self.pop_down(pop, in_midst),
            Event::PopUp { pop } => self.pop_up(pop),
            Event::KnotDown { pop } => self.knot_down(pop),
            Event::KnotUp { pop, knot_life } => self.knot_up(pop, knot_life),
            Event::Break { pop } => self.break_link(pop),
            Event::Lose { pop } => {
                self.lose(pop);
                Ok(())
            }
            Event::Disk { pop, is_full } => {
                self.disk(pop, is_full && !self.is_calm);
                Ok(())
            }
            Event::Damage { pop, choice } => {
                if let Some(zone) = self.pops[pop].damage(choice) {
                    self.trace.line(self.now_us, format_args!("pop{pop}: {zone} is damaged on the disk"));
                    self.met("zones damaged");
                }
                Ok(())
            }
            Event::Calm => self.calm(),
            Event::Check => self.check(),
            Event::Dial { pop, life } => self.dial(pop, life),
            Event::Watch { pop, life, link } => self.watch(pop, life, link),
            Event::Arrive { link, way, bytes } => self.arrive(link, way, &bytes),
            Event::Over { link, way } => self.over(link, way),
            Event::Poll { link, life, at } => self.poll(link, life, at),
            Event::Step { pop, life, at } => self.step(pop, life, at),
            Event::Tell { pop, life, input } => match self.pops[pop].life == life {
                true => self.tell(pop, *input),
                false => Ok(()),
            },
            Event::KnotWork { pop, life, zone } => self.knot_work(pop, life, &zone),
        }
    }

    // -- the control plane --------------------------------------------------------------------------

    fn write(&mut self) -> Outcome {
        let (commands, said) = self.control.write(&mut self.random);
        let answers = self.control.submit(commands);
        let accepted = answers.iter().flatten().map(|committed| committed.revision).max();
        let refusal = answers.iter().find_map(|answer| answer.as_ref().err());
        let refusal = refusal.map(ToString::to_string).unwrap_or_default();
        self.trace.line(self.now_us, format_args!("{said}: {accepted:?} {refusal}"));
        self.wake_sessions();
        // A store that lost an answer has more on it than anybody was told.
        if refusal.contains("can't be written") {
            self.record().is_more_possible = true;
            if self.random.permille(500) {
                return self.control_down();
            }
            self.after(3 * S, Event::ControlDown);
        }
        Ok(())
    }

    fn control_down(&mut self) -> Outcome {
        if self.control.running.take().is_some() {
            self.trace.line(self.now_us, format_args!("the control plane is killed"));
            self.met("control planes killed");
            if self.mutation == Some(Mutation::ForgottenEntry) {
                self.control.disk.forget_last();
            }
            let links: Vec<u64> = self.links.keys().copied().collect();
            for link in links {
                self.close(link, Way::ToPop);
            }
            let delay = self.random.between(10 * MS, 8 * S);
            self.after(delay, Event::ControlUp);
        }
        Ok(())
    }

    fn control_up(&mut self) -> Outcome {
        if self.control.running.is_some() {
            return Ok(());
        }
        match self.control.start(self.now_us) {
            Ok(()) => {
                let state = self.record().newest.clone();
                self.trace.line(self.now_us, format_args!("the control plane starts at {}", state.head()));
            }
            // It can't begin its epoch: tried again.
            Err(error) if error.contains("epoch can't be begun") => {
                self.trace.line(self.now_us, format_args!("the control plane doesn't start: {error}"));
                self.record().is_more_possible = true;
                self.after(S, Event::ControlUp);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn wake_sessions(&mut self) {
        let links: Vec<u64> =
            self.control.running.iter().flat_map(|running| running.sessions.keys().copied()).collect();
        for link in links {
            let delay = self.random.below(2 * MS);
            self.poll_in(link, delay);
        }
    }

    fn poll_in(&mut self, link: u64, delay_us: u64) {
        let at = self.now_us + delay_us;
        let life = self.control.life;
        let Some(running) = &mut self.control.running else { return };
        let Some((_, poll_at)) = running.sessions.get_mut(&link) else { return };
        if poll_at.is_none_or(|before| at < before) {
            *poll_at = Some(at);
            self.at(at, Event::Poll { link, life, at });
        }
    }

    fn poll(&mut self, link: u64, life: u64, at: u64) -> Outcome {
        let now = self.now();
        if life != self.control.life {
            return Ok(());
        }
        let Some(running) = &mut self.control.running else { return Ok(()) };
        let Some((session, poll_at)) = running.sessions.get_mut(&link) else { return Ok(()) };
        if *poll_at != Some(at) {
            return Ok(());
        }
        *poll_at = None;
        let mut bytes = Vec::new();
        let next = session.poll(now, &mut bytes);
        self.send(link, Way::ToPop, bytes);
        match next {
            Ok(Next::More) => {
                let delay = self.random.between(1, 2 * MS);
                self.poll_in(link, delay);
            }
            Ok(Next::At(next)) => {
                let delay = (next.as_micros() as u64).saturating_sub(self.now_us).max(1);
                self.poll_in(link, delay);
            }
            Err(error) => {
                self.trace.line(self.now_us, format_args!("session {link} ends: {error}"));
                self.drop_session(link);
            }
        }
        Ok(())
    }

    fn drop_session(&mut self, link: u64) {
        if let Some(running) = &mut self.control.running {
            running.sessions.remove(&link);
        }
        self.close(link, Way::ToPop);
    }

    fn heard(&mut self, link: u64, message: ToHerald) -> Outcome {
        let now = self.now();
        let Some(running) = &mut self.control.running else { return Ok(()) };
        let Some((session, _)) = running.sessions.get_mut(&link) else { return Ok(()) };
        let is_receipt = matches!(message, ToHerald::Applied { .. });
        let is_hello = matches!(message, ToHerald::Hello(_));
        if let Err(error) = session.take(message, now) {
            self.trace.line(self.now_us, format_args!("session {link} ends: {error}"));
            self.drop_session(link);
            return Ok(());
        }
        if is_hello {
            // A session whose place was taken notices it a moment later.
            let replaced = |session: &Session| session.replaced().is_some_and(|token| token.is_cancelled());
            let old: Vec<u64> = running
                .sessions
                .iter()
                .filter(|(_, (session, _))| replaced(session))
                .map(|(link, _)| *link)
                .collect();
            for link in old {
                let delay = self.random.below(20 * MS);
                self.after(delay, Event::Over { link, way: Way::ToHerald });
            }
        }
        let delay = self.random.below(MS);
        self.poll_in(link, delay);
        if is_receipt { self.check_receipts() } else { Ok(()) }
    }

    // -- connections ----------------------------------------------------------------------------------

    fn send(&mut self, link: u64, way: Way, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let Some(connection) = self.links.get_mut(&link) else { return };
        if self.mutation == Some(Mutation::UnnoticedLoss)
            && way == Way::ToPop
            && self.pops[connection.pop]
                .agent
                .as_ref()
                .is_some_and(|agent| agent.link == Some((link, Phase::Open)))
            && self.random.permille(200)
        {
            connection.lose_one(way);
        }
        for (at, bytes) in connection.send(way, bytes, self.now_us, &mut self.random) {
            self.at(at, Event::Arrive { link, way, bytes });
        }
    }

    /// One side closes a connection; `from` is the way that its bytes went.
    fn close(&mut self, link: u64, from: Way) {
        let Some(connection) = self.links.get_mut(&link) else { return };
        let at = connection.close(from, self.now_us);
        self.at(at, Event::Over { link, way: from });
    }

    fn break_link(&mut self, pop: usize) -> Outcome {
        let Some((link, _)) = self.pops[pop].agent.as_ref().and_then(|agent| agent.link) else {
            return Ok(());
        };
        self.trace.line(self.now_us, format_args!("pop{pop}: connection {link} breaks"));
        if let Some(connection) = self.links.get_mut(&link) {
            connection.break_down(self.now_us, &mut self.random);
        }
        for way in [Way::ToPop, Way::ToHerald] {
            // Or nobody tells, and silence does.
            if self.random.permille(700) {
                let delay = self.random.below(S);
                self.after(delay, Event::Over { link, way });
            }
        }
        Ok(())
    }

    fn lose(&mut self, pop: usize) {
        let link = self.pops[pop].agent.as_ref().and_then(|agent| agent.link);
        if let Some((link, Phase::Open)) = link
            && let Some(connection) = self.links.get_mut(&link)
        {
            self.trace.line(self.now_us, format_args!("pop{pop}: {link} loses a frame"));
            connection.lose_one(Way::ToPop);
            self.is_receipt_lost = true;
        }
    }

    fn disk(&mut self, pop: usize, is_full: bool) {
        let Some(agent) = &self.pops[pop].agent else { return };
        let what = if is_full { "is full" } else { "has room" };
        match agent.core.replica().seem_full(is_full) {
            Ok(()) => self.trace.line(self.now_us, format_args!("pop{pop}: the disk {what}")),
            Err(error) => self.trace.line(self.now_us, format_args!("pop{pop}: the disk: {error}")),
        }
    }

    /// The side that `way` leads to learns that the connection is over.
    fn over(&mut self, link: u64, way: Way) -> Outcome {
        match way {
            Way::ToHerald => {
                if self
                    .control
                    .running
                    .as_mut()
                    .is_some_and(|running| running.sessions.remove(&link).is_some())
                {
                    self.trace.line(self.now_us, format_args!("session {link} is over"));
                    self.close(link, Way::ToPop);
                }
                Ok(())
            }
            Way::ToPop => {
                let Some(connection) = self.links.get(&link) else { return Ok(()) };
                let (pop, life) = (connection.pop, connection.pop_life);
                self.session_over(pop, life, link)
            }
        }
    }

    fn arrive(&mut self, link: u64, way: Way, bytes: &[u8]) -> Outcome {
        let Some(connection) = self.links.get_mut(&link) else { return Ok(()) };
        let (pop, life) = (connection.pop, connection.pop_life);
        let Some(buffer) = connection.arrive(way, bytes, self.now_us, &mut self.random) else {
            return Ok(());
        };
        match way {
            Way::ToHerald => {
                let messages: Vec<(ToHerald, u64)> = cut(buffer);
                messages.into_iter().try_for_each(|(message, _)| self.heard(link, message))
            }
            Way::ToPop => {
                let messages: Vec<(ToPop, u64)> = cut(buffer);
                self.frames(pop, life, link, messages)
            }
        }
    }

    // -- a PoP's session ------------------------------------------------------------------------------

    fn dial(&mut self, pop: usize, life: u64) -> Outcome {
        let now = self.now();
        if self.pops[pop].life != life {
            return Ok(());
        }
        let Some(agent) = &mut self.pops[pop].agent else { return Ok(()) };
        if agent.link.is_some() {
            return Ok(());
        }
        agent.heard_us = self.now_us;
        let greeting = match &self.control.running {
            Some(_) => agent.core.greet(now),
            None => None,
        };
        let Some(greeting) = greeting else {
            self.dial_later(pop);
            return self.act(pop);
        };
        let link = self.numbers;
        agent.link = Some((link, Phase::Hello { newest: greeting.newest }));
        let mut connection = Link::new(pop, life, self.latencies_us[pop]);
        // The handshake is left alone: nothing in it makes up for a frame that is lost.
        connection.is_hostile = false;
        self.links.insert(link, connection);
        let hello = Hello {
            protocol: PROTOCOL,
            pop: self.pops[pop].name.clone(),
            secret: secret_of(pop),
            agent_version: "sim".into(),
            newest: greeting.newest,
            bucket_digests: greeting.bucket_digests.iter().flat_map(|digest| digest.to_be_bytes()).collect(),
            geo: None,
            firewall: None,
            verdicts: None,
            knows_private: Some(true),
            resolves: None,
            logs_queries: None,
        };
        self.trace.line(self.now_us, format_args!("pop{pop}: dials as {link} with {}", greeting.newest));
        if let Some(running) = &mut self.control.running {
            let session = Session::new(running.shared.clone(), format!("pop{pop}:{link}"), now);
            running.sessions.insert(link, (session, None));
        }
        self.poll_in(link, 0);
        self.say(link, &ToHerald::Hello(hello));
        self.after(STATUS_US, Event::Watch { pop, life, link });
        self.act(pop)
    }

    fn say(&mut self, link: u64, message: &ToHerald) {
        let mut bytes = Vec::new();
        encode_frame(message, &mut bytes);
        self.send(link, Way::ToHerald, bytes);
    }

    fn dial_later(&mut self, pop: usize) {
        let life = self.pops[pop].life;
        let Some(agent) = &mut self.pops[pop].agent else { return };
        let wait = agent.backoff_us - self.random.below(agent.backoff_us / 2);
        agent.backoff_us = (agent.backoff_us * 2).min(BACKOFF_MAX_US);
        self.after(wait, Event::Dial { pop, life });
    }

    fn session_over(&mut self, pop: usize, life: u64, link: u64) -> Outcome {
        if self.pops[pop].life != life {
            return Ok(());
        }
        let Some(agent) = &mut self.pops[pop].agent else { return Ok(()) };
        if agent.link.is_none_or(|(own, _)| own != link) {
            return Ok(());
        }
        if matches!(agent.link, Some((_, Phase::Open))) {
            agent.backoff_us = BACKOFF_MIN_US;
        }
        agent.link = None;
        self.trace.line(self.now_us, format_args!("pop{pop}: connection {link} is over"));
        self.close(link, Way::ToHerald);
        self.dial_later(pop);
        self.tell(pop, Input::Closed)
    }

    /// Once a second: says how it is, and hears whether the other side lives.
    fn watch(&mut self, pop: usize, life: u64, link: u64) -> Outcome {
        if self.pops[pop].life != life {
            return Ok(());
        }
        let Some(agent) = &self.pops[pop].agent else { return Ok(()) };
        let Some((_, phase)) = agent.link.filter(|(own, _)| *own == link) else { return Ok(()) };
        if self.now_us >= agent.heard_us + SILENCE_US {
            self.trace.line(self.now_us, format_args!("pop{pop}: connection {link} is silent"));
            return self.session_over(pop, life, link);
        }
        if phase == Phase::Open {
            let status = AgentStatus {
                knot_version: "model".into(),
                knot_running: self.pops[pop].knot.is_running,
                zones: agent.core.replica().zone_count(),
                newest: agent.core.replica().newest(),
                module: None,
                geo: None,
                firewall: None,
                addresses: None,
            };
            self.say(link, &ToHerald::Status(status));
        }
        self.after(STATUS_US, Event::Watch { pop, life, link });
        Ok(())
    }

    fn frames(&mut self, pop: usize, life: u64, link: u64, messages: Vec<(ToPop, u64)>) -> Outcome {
        let now_us = self.now_us;
        let mut frames = Vec::new();
        for (message, bytes) in messages {
            if self.pops[pop].life != life {
                return Ok(());
            }
            let Some(agent) = &mut self.pops[pop].agent else { return Ok(()) };
            let Some((_, phase)) = agent.link.as_mut().filter(|(own, _)| *own == link) else {
                return Ok(());
            };
            agent.heard_us = now_us;
            match (*phase, message) {
                (Phase::Hello { newest }, ToPop::Welcome(welcome)) if welcome.head >= newest => {
                    *phase = Phase::Open;
                    self.trace.line(
                        now_us,
                        format_args!("pop{pop}: {link} is up, {} buckets differ", welcome.buckets.len()),
                    );
                    agent.greeted = welcome.head;
                    let (buckets, head) = (welcome.buckets, welcome.head);
                    self.tell(pop, Input::Opened { buckets, head })?;
                    if let Some(connection) = self.links.get_mut(&link) {
                        connection.is_hostile = self.is_hostile && !self.is_calm;
                    }
                }
                (Phase::Hello { .. }, other) => {
                    self.trace.line(now_us, format_args!("pop{pop}: {link} is refused: {}", word(&other)));
                    return self.session_over(pop, life, link);
                }
                (Phase::Open, mut message) => {
                    match &mut message {
                        ToPop::Delta(delta) if delta.generation <= agent.greeted => {
                            self.met("zones brought up to date by delta after a reconnect");
                        }
                        ToPop::Compare { .. } => self.met("comparisons within a session"),
                        ToPop::Ping { holding, .. } if self.mutation == Some(Mutation::UnnoticedLoss) => {
                            *holding = None;
                        }
                        _ => {}
                    }
                    self.trace.line(now_us, format_args!("pop{pop}: ◀ {}", word(&message)));
                    frames.push(Frame::new(message, bytes));
                }
            }
        }
        match frames.is_empty() {
            true => Ok(()),
            false => self.tell(pop, Input::Frames(frames)),
        }
    }

    // -- a PoP's agent --------------------------------------------------------------------------------

    fn pop_up(&mut self, pop: usize) -> Outcome {
        if self.pops[pop].agent.is_some() {
            return Ok(());
        }
        self.pops[pop].start(self.now_us)?;
        let life = self.pops[pop].life;
        self.trace.line(self.now_us, format_args!("pop{pop}: starts"));
        self.pops[pop]
            .check_restarted(&self.control.record.lock().unwrap_or_else(PoisonError::into_inner))?;
        self.after(1, Event::Dial { pop, life });
        match self.pops[pop].knot.is_running {
            // It went on without the agent.
            true => {
                self.after(MS, Event::Tell { pop, life, input: Box::new(Input::KnotUp { written: None }) })
            }
            false => self.knot_starts(pop)?,
        }
        self.act(pop)
    }

    fn pop_down(&mut self, pop: usize, in_midst: bool) -> Outcome {
        let now = self.now();
        let Some(mut agent) = self.pops[pop].agent.take() else { return Ok(()) };
        self.trace.line(self.now_us, format_args!("pop{pop}: the agent is killed"));
        self.met("agents killed");
        if in_midst {
            // A transaction becomes durable, and nothing follows from it.
            agent.core.step(now, &mut || None);
        }
        drop(agent.core);
        if self.mutation == Some(Mutation::ForgottenTransaction) {
            self.pops[pop].bring_back();
        }
        self.pops[pop].knot.forget_driver();
        if let Some((link, _)) = agent.link {
            self.close(link, Way::ToHerald);
        }
        let delay = self.random.between(MS, 5 * S);
        self.after(delay, Event::PopUp { pop });
        Ok(())
    }

    /// Tells the core what has happened; it takes its step a moment later, with all that has happened by then.
    fn tell(&mut self, pop: usize, input: Input) -> Outcome {
        let now = self.now();
        let Some(agent) = &mut self.pops[pop].agent else { return Ok(()) };
        agent.core.handle(input, now);
        let delay = self.random.below(3 * MS);
        self.step_in(pop, delay);
        self.act(pop)
    }

    fn step_in(&mut self, pop: usize, delay_us: u64) {
        let at = self.now_us + delay_us;
        let life = self.pops[pop].life;
        let Some(agent) = &mut self.pops[pop].agent else { return };
        if agent.step_us.is_none_or(|before| at < before) {
            agent.step_us = Some(at);
            self.at(at, Event::Step { pop, life, at });
        }
    }

    fn step(&mut self, pop: usize, life: u64, at: u64) -> Outcome {
        let now = self.now();
        if self.pops[pop].life != life {
            return Ok(());
        }
        let Some(agent) = &mut self.pops[pop].agent else { return Ok(()) };
        if agent.step_us != Some(at) {
            return Ok(());
        }
        agent.step_us = None;
        if self.mutation == Some(Mutation::ForgottenTransaction) && self.random.permille(100) {
            self.pops[pop].remember_disk();
        }
        let Some(agent) = &mut self.pops[pop].agent else { return Ok(()) };
        agent.core.step(now, &mut || None);
        let due = agent.core.next_due(now);
        {
            let record = self.control.record.lock().unwrap_or_else(PoisonError::into_inner);
            self.pops[pop].check_rows(&record)?;
        }
        self.act(pop)?;
        if let Some(due) = due {
            let delay = (due.as_micros() as u64).saturating_sub(self.now_us);
            self.step_in(pop, delay + 1);
        }
        Ok(())
    }

    /// Carries out what the core says.
    fn act(&mut self, pop: usize) -> Outcome {
        let life = self.pops[pop].life;
        let Some(agent) = &mut self.pops[pop].agent else { return Ok(()) };
        for action in agent.core.actions() {
            match action {
                Action::Send(message) => self.pop_says(pop, &message)?,
                Action::HangUp => {
                    if let Some((link, _)) = self.pops[pop].agent.as_ref().and_then(|agent| agent.link) {
                        self.after(1, Event::Over { link, way: Way::ToPop });
                    }
                }
                Action::Submit(jobs) => {
                    if self.mutation == Some(Mutation::EarlyReceipt) {
                        for job in &jobs {
                            let (zone, tag) = (job.zone.clone(), job.tag);
                            self.report(pop, Report::Done { zone, tag, result: Ok(()) });
                        }
                    }
                    for zone in self.pops[pop].knot.submit(jobs) {
                        self.knot_works(pop, zone);
                    }
                }
                Action::Resume(expected) => {
                    let (reports, zones) = self.pops[pop].knot.resume(&expected);
                    reports.into_iter().for_each(|report| self.report(pop, report));
                    zones.into_iter().for_each(|zone| self.knot_works(pop, zone));
                }
                Action::Compare(expected) => {
                    let (reports, zones) = self.pops[pop].knot.compare(&expected);
                    reports.into_iter().for_each(|report| self.report(pop, report));
                    zones.into_iter().for_each(|zone| self.knot_works(pop, zone));
                }
                Action::Scrub(order) => {
                    let scrubbed = scrub(&self.pops[pop].replica_dir(), &order);
                    if let Scrubbed::Zones { damaged, .. } = &scrubbed
                        && !damaged.is_empty()
                    {
                        self.trace.line(self.now_us, format_args!("pop{pop}: found damaged: {damaged:?}"));
                        self.met("damages found by re-reading");
                    }
                    let delay = self.random.between(1, 100 * MS);
                    let input = Box::new(Input::Scrubbed(scrubbed));
                    self.after(delay, Event::Tell { pop, life, input });
                }
                Action::Error(error) => {
                    self.trace.line(self.now_us, format_args!("pop{pop}: {error}"));
                }
                Action::KnotRefuses { .. } | Action::Filling(_) | Action::ForgetSteering(_) => {}
            }
        }
        Ok(())
    }

    fn pop_says(&mut self, pop: usize, message: &ToHerald) -> Outcome {
        match message {
            ToHerald::Drifted { .. } => self.met("drifts noticed"),
            ToHerald::Refused(refused) => self.met(match refused.cause {
                RefusalCause::Gap => "zones asked for whole",
                RefusalCause::Older => "older generations refused",
                RefusalCause::Knot => "zones that knotd refused",
                RefusalCause::Replica => "zones that a full disk refused",
            }),
            _ => {}
        }
        self.trace.line(self.now_us, format_args!("pop{pop}: ▶ {}", word_of(message)));
        if let ToHerald::Applied { zones } = message {
            let record = self.control.record.lock().unwrap_or_else(PoisonError::into_inner);
            for applied in zones {
                self.pops[pop].check_confirmed(applied.zone, applied.generation, &record)?;
            }
        }
        if let Some((link, Phase::Open)) = self.pops[pop].agent.as_ref().and_then(|agent| agent.link) {
            self.say(link, message);
        }
        Ok(())
    }

    // -- knotd ----------------------------------------------------------------------------------------

    fn report(&mut self, pop: usize, report: Report) {
        let life = self.pops[pop].life;
        let delay = self.random.below(MS);
        self.after(delay, Event::Tell { pop, life, input: Box::new(Input::Report(report)) });
    }

    fn knot_works(&mut self, pop: usize, zone: Name) {
        let life = self.pops[pop].life;
        let delay = if self.random.permille(50) { 2 * S } else { 20 * MS };
        let delay = self.random.below(delay);
        self.after(delay, Event::KnotWork { pop, life, zone });
    }

    fn knot_work(&mut self, pop: usize, life: u64, zone: &Name) -> Outcome {
        if self.pops[pop].life != life || self.pops[pop].agent.is_none() {
            return Ok(());
        }
        let fault = match self.random.below(100) {
            _ if self.is_calm => None,
            0 => Some(TaskError::Rejected("a fault".into())),
            1 => Some(TaskError::TimedOut { waited_ms: 1 }),
            2 => Some(TaskError::NotLoaded { serving: None }),
            _ => None,
        };
        let done = self.pops[pop].knot.work(zone, fault);
        if done.is_changed {
            let served = self.pops[pop].knot.zones.get(zone);
            let serial = served.and_then(|served| served.serial(zone));
            self.trace.line(self.now_us, format_args!("pop{pop}: knotd answers {zone} {serial:?}"));
        }
        // Each is told by itself, but in order: the driver has one channel.
        for report in done.reports {
            let input = Box::new(Input::Report(report));
            self.after(MS, Event::Tell { pop, life, input });
        }
        let Some(agent) = &self.pops[pop].agent else { return Ok(()) };
        let damaged: Vec<ZoneId> = agent.damaged.try_iter().collect();
        damaged.into_iter().try_for_each(|zone| self.tell(pop, Input::Damaged(zone)))
    }

    fn knot_down(&mut self, pop: usize) -> Outcome {
        if !self.pops[pop].knot.is_running {
            return Ok(());
        }
        self.trace.line(self.now_us, format_args!("pop{pop}: knotd is killed"));
        self.pops[pop].knot.is_running = false;
        self.pops[pop].knot.suspend();
        self.knot_starts(pop)
    }

    fn knot_starts(&mut self, pop: usize) -> Outcome {
        self.pops[pop].knot_life += 1;
        let knot_life = self.pops[pop].knot_life;
        let delay = self.random.between(10 * MS, 2 * S);
        self.after(delay, Event::KnotUp { pop, knot_life });
        Ok(())
    }

    /// knotd starts, with files that were just written. Without an agent nobody starts it.
    fn knot_up(&mut self, pop: usize, knot_life: u64) -> Outcome {
        if self.pops[pop].knot_life != knot_life || self.pops[pop].agent.is_none() {
            return Ok(());
        }
        let (written, damaged) = self.pops[pop].materialize()?;
        self.pops[pop].knot.is_running = true;
        self.trace.line(
            self.now_us,
            format_args!("pop{pop}: knotd starts with {} zones", self.pops[pop].knot.zones.len()),
        );
        for zone in damaged {
            self.tell(pop, Input::Damaged(zone))?;
        }
        // It takes changes a while later; there may be some by then.
        let life = self.pops[pop].life;
        let delay = self.random.below(500 * MS);
        self.after(delay, Event::Tell { pop, life, input: Box::new(Input::KnotUp { written }) });
        Ok(())
    }

    // -- what must be so ------------------------------------------------------------------------------

    /// A receipt says that a change is in sync at a PoP: then it is.
    fn check_receipts(&mut self) -> Outcome {
        let Some(running) = &self.control.running else { return Ok(()) };
        let record = self.control.record.lock().unwrap_or_else(PoisonError::into_inner);
        let changes: Vec<(u64, &Vec<ZoneId>)> =
            record.changes.iter().map(|(revision, zones)| (*revision, zones)).collect();
        let Some((revision, zones)) = self.random.pick(&changes) else { return Ok(()) };
        let state = running.engine.state();
        for receipt in running.shared.tracker().pops(&state, *revision, zones) {
            let Some(place) = self.control.pops.iter().position(|pop| *pop == receipt.pop) else { continue };
            let pop = &self.pops[place];
            let Some(agent) = &pop.agent else { continue };
            if receipt.state != PopSyncState::InSync {
                continue;
            }
            for zone in zones.iter().filter(|zone| !pop.seen.is_unsure(**zone, &record)) {
                let Ok(row) = agent.core.replica().zone(*zone) else { continue };
                let is_so = match &row {
                    Some(row) => row.generation.counter >= *revision,
                    None => record.had_ceased(*zone, u64::MAX),
                };
                if !is_so {
                    let have = row.map(|row| row.generation);
                    return Err(format!(
                        "the receipt of {revision} says pop{place} has {zone}, which has {have:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Nothing breaks any more; all has to come right.
    fn calm(&mut self) -> Outcome {
        self.trace.line(self.now_us, format_args!("calm"));
        self.is_calm = true;
        self.calm_since_us = self.now_us;
        self.control.disk.set_fault(Fault::None);
        self.links.values_mut().for_each(|link| link.is_hostile = false);
        // What was lost is to be found within the session, or what was swallowed is to be known after the next one.
        if self.is_receipt_lost && self.random.permille(500) {
            (0..self.pops.len()).try_for_each(|pop| self.break_link(pop))?;
            self.is_receipt_lost = false;
        }
        if self.control.running.is_none() {
            self.control_up()?;
        }
        for pop in 0..self.pops.len() {
            self.pop_up(pop)?;
            self.disk(pop, false);
        }
        self.after(S, Event::Check);
        Ok(())
    }

    fn check(&mut self) -> Outcome {
        // Something that failed may have to be opened again first.
        if let Some(running) = &self.control.running {
            let state = running.engine.state();
            let is_enabled = |pop| state.pop(pop).is_some_and(|pop| pop.enabled && !pop.drained);
            if !self.control.pops.iter().all(|pop| is_enabled(*pop)) {
                let commands = self.control.enable_pops(&mut self.random);
                let answers = self.control.submit(commands);
                self.wake_sessions();
                if answers.iter().any(Result::is_err) {
                    self.record().is_more_possible = true;
                    self.control_down()?;
                }
            }
        }
        match self.is_right() {
            Ok(()) => {
                self.trace.line(self.now_us, format_args!("all is right"));
                self.is_over = true;
                Ok(())
            }
            Err(what) if self.now_us >= self.calm_since_us + CONVERGE_US => {
                Err(format!("in the end, {what}"))
            }
            Err(_) => {
                self.after(S, Event::Check);
                Ok(())
            }
        }
    }

    /// Whether every PoP holds and answers just what it is to, and the receipts say so.
    fn is_right(&self) -> Outcome {
        let Some(running) = &self.control.running else { return Err("there is no control plane".into()) };
        let state = running.engine.state();
        let served: Vec<_> = state.zones().filter(|zone| zone.is_served()).collect();
        for (place, pop) in self.pops.iter().enumerate() {
            let wrong = |what: String| Err(format!("pop{place}: {what}"));
            let Some(agent) = &pop.agent else { return wrong("no agent".into()) };
            let replica = agent.core.replica();
            if !pop.knot.is_running || !matches!(agent.link, Some((_, Phase::Open))) {
                return wrong("knotd or the session is down".into());
            }
            // Whoever was never told that it is in sync, as a removal got lost, leaves to knotd what it doesn't know itself.
            let is_too_much_at_knotd = pop.knot.zones.len() > served.len() && !self.is_receipt_lost;
            let is_too_little_at_knotd = pop.knot.zones.len() < served.len();
            if replica.zone_count() != served.len() as u64 || is_too_much_at_knotd || is_too_little_at_knotd {
                return wrong(format!(
                    "{} zones are to be served; {} in the replica, {} at knotd",
                    served.len(),
                    replica.zone_count(),
                    pop.knot.zones.len()
                ));
            }
            for zone in &served {
                let row = replica.zone(zone.id).map_err(|error| error.to_string())?;
                let have = row.as_ref().map(|row| row.generation);
                if row.is_none_or(|row| row.digest != zone.published_digest()) {
                    return wrong(format!("{} at {have:?} is not that of {}", zone.name, zone.generation));
                }
                let answered = pop.knot.zones.get(&zone.name).map(|served| served.digest());
                if answered != Some(zone.published_digest()) {
                    return wrong(format!("knotd answers {} wrongly", zone.name));
                }
            }
            let figures = agent.core.figures();
            if figures.is_drifted || figures.zones_lagging > 0 || figures.replica_error.is_some() {
                return wrong(format!("{figures:?}"));
            }
            let pending = running.shared.tracker().zones_pending(self.control.pops[place]);
            if pending != Some(0) && !self.is_receipt_lost {
                return wrong(format!("{pending:?} zones are pending"));
            }
        }
        Ok(())
    }
}

/// Cuts whole frames off; with their lengths.
fn cut<M: for<'a> minicbor_decode::Decode<'a>>(buffer: &mut Vec<u8>) -> Vec<(M, u64)> {
    let mut messages = Vec::new();
    let mut taken = 0;
    while let Some((length, message)) = M::frame(&buffer[taken..]) {
        taken += length;
        messages.push((message, length as u64));
    }
    buffer.drain(..taken);
    messages
}

/// Frames of either direction.
mod minicbor_decode {
    use super::{ToHerald, ToPop, decode_frame};

    /// Something that frames hold.
    pub trait Decode<'a>: Sized {
        /// The first whole frame.
        fn frame(bytes: &[u8]) -> Option<(usize, Self)>;
    }

    impl Decode<'_> for ToPop {
        fn frame(bytes: &[u8]) -> Option<(usize, ToPop)> {
            decode_frame(bytes).expect("frames are not changed on their way")
        }
    }

    impl Decode<'_> for ToHerald {
        fn frame(bytes: &[u8]) -> Option<(usize, ToHerald)> {
            decode_frame(bytes).expect("frames are not changed on their way")
        }
    }
}

fn word(message: &ToPop) -> String {
    match message {
        ToPop::Welcome(_) => "welcome".into(),
        ToPop::Reject { reason } => format!("reject: {reason}"),
        ToPop::Delta(delta) => format!("delta {} {} → {}", delta.zone, delta.base, delta.generation),
        ToPop::ZoneBegin(begin) => format!("begin {} {} {}", begin.zone, begin.name, begin.generation),
        ToPop::ZonePart { zone, rrsets } => format!("part {zone} ({})", rrsets.len()),
        ToPop::ZoneEnd { zone } => format!("end {zone}"),
        ToPop::Remove { zone, generation } => format!("remove {zone} {generation}"),
        ToPop::Ping { head, in_sync, holding } => {
            format!("ping {head} {in_sync} {:?}", holding.map(|holding| holding.zones))
        }
        ToPop::Compare { buckets } => format!("compare {buckets:?}"),
        ToPop::GeoOffer { bytes, .. } => format!("geo offer {bytes}"),
        ToPop::GeoPart { from, .. } => format!("geo part {from}"),
        ToPop::Probes(probes) => format!("probes {}", probes.puts.len()),
        ToPop::Verdicts { verdicts, .. } => format!("verdicts {}", verdicts.len()),
        ToPop::Targets(targets) => format!("targets {}", targets.puts.len()),
        ToPop::QueryLogs(logs) => format!("query logs {}", logs.puts.len()),
    }
}

fn word_of(message: &ToHerald) -> String {
    match message {
        ToHerald::Hello(_) => "hello".into(),
        ToHerald::Inventory { zones, last } => format!("inventory of {} ({last})", zones.len()),
        ToHerald::Applied { zones } => {
            let zones: Vec<String> =
                zones.iter().map(|applied| format!("{} {}", applied.zone, applied.generation)).collect();
            format!("applied {}", zones.join(", "))
        }
        ToHerald::Refused(refused) => {
            format!("refused {} {} {:?}: {}", refused.zone, refused.generation, refused.cause, refused.reason)
        }
        ToHerald::BulkCredit { bytes } => format!("credit {bytes}"),
        ToHerald::Status(_) => "status".into(),
        ToHerald::Drifted { .. } => "drifted".into(),
        ToHerald::GeoWant { from, to, .. } => format!("geo want {from} {to}"),
        ToHerald::Probed { seen, .. } => format!("probed {}", seen.len()),
        ToHerald::Resolved { targets } => format!("resolved {}", targets.len()),
    }
}
