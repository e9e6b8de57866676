//! The thread around the core: brings it what happens, tells it the time, and carries out what it says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use herald_core::{Name, ZoneId};
use herald_wire::stream::ToHerald;
use tokio::sync::mpsc::UnboundedSender;

use super::core::{Action, Core, Figures, Input};
use super::note;
use super::scrubber::{Scrub, Scrubbed};
use crate::knot::driver::{Driver, Report};
use crate::session::{Frame, SessionEvent};
use crate::status::Board;

/// How long to wait for something to happen where nothing is due.
const LONG: Duration = Duration::from_secs(3600);

/// What the agent's threads tell this one.
pub enum Event {
    /// Of the session.
    Session(SessionEvent),
    /// Of a job of the driver.
    Knot(Report),
    /// knotd answers.
    KnotUp {
        /// What is in the files that it was started with; none if it was found running, or the files are old.
        written: Option<Vec<(Name, u32)>>,
    },
    /// A zone was found to be damaged in the replica.
    Damaged(ZoneId),
    /// Zones were re-read.
    Scrubbed(Scrubbed),
    /// The agent is to end.
    End,
}

impl From<SessionEvent> for Event {
    fn from(event: SessionEvent) -> Event {
        Event::Session(event)
    }
}

/// See the module.
pub(super) struct Shell {
    core: Core,
    inbox: Receiver<Event>,
    /// Events that came while frames were looked for.
    stash: VecDeque<Event>,
    started: Instant,
    outside: Outside,
}

/// Where actions go.
struct Outside {
    board: Arc<Board>,
    driver: Arc<Driver>,
    scrubs: Sender<Scrub>,
    outbox: Option<UnboundedSender<ToHerald>>,
    shown: Figures,
}

impl Shell {
    pub(super) fn new(
        core: Core,
        inbox: Receiver<Event>,
        board: Arc<Board>,
        driver: Arc<Driver>,
        scrubs: Sender<Scrub>,
    ) -> Shell {
        let outside = Outside { board, driver, scrubs, outbox: None, shown: Figures::default() };
        Shell { core, inbox, stash: VecDeque::new(), started: Instant::now(), outside }
    }

    pub(super) fn run(mut self) {
        self.outside.carry_out(&mut self.core);
        loop {
            let mut event = match self.stash.pop_front() {
                Some(event) => Some(event),
                None => match self.inbox.recv_timeout(self.wait()) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            // What came in meanwhile goes into the same transaction.
            while let Some(one) = event {
                if let Event::End = one {
                    self.core.end();
                    return;
                }
                self.take(one);
                event = self.stash.pop_front().or_else(|| self.inbox.try_recv().ok());
            }
            let now = self.started.elapsed();
            let (inbox, stash) = (&self.inbox, &mut self.stash);
            self.core.step(now, &mut || look_for_frames(inbox, stash));
            self.outside.carry_out(&mut self.core);
        }
    }

    fn wait(&self) -> Duration {
        let now = self.started.elapsed();
        self.core.next_due(now).map_or(LONG, |due| due.saturating_sub(now).min(LONG))
    }

    fn take(&mut self, event: Event) {
        let now = self.started.elapsed();
        let input = match event {
            Event::Session(SessionEvent::Greet(answer)) => {
                // Without an answer the session ends.
                if let Some(greeting) = self.core.greet(now) {
                    // Nobody may want to know any more.
                    let _ = answer.send(greeting);
                }
                return self.outside.carry_out(&mut self.core);
            }
            Event::Session(SessionEvent::Opened { buckets, head, outbox }) => {
                // What was for the session before must not reach this one.
                self.outside.carry_out(&mut self.core);
                self.outside.outbox = Some(outbox);
                Input::Opened { buckets, head }
            }
            Event::Session(SessionEvent::Frames(frames)) => Input::Frames(frames),
            Event::Session(SessionEvent::Closed) => Input::Closed,
            Event::Knot(report) => Input::Report(report),
            Event::KnotUp { written } => Input::KnotUp { written },
            Event::Damaged(zone) => Input::Damaged(zone),
            Event::Scrubbed(scrubbed) => Input::Scrubbed(scrubbed),
            Event::End => return,
        };
        self.core.handle(input, now);
        self.outside.carry_out(&mut self.core);
    }
}

/// Frames that have come while others are taken in; what else came waits.
fn look_for_frames(inbox: &Receiver<Event>, stash: &mut VecDeque<Event>) -> Option<Vec<Frame>> {
    while stash.is_empty()
        && let Ok(event) = inbox.try_recv()
    {
        match event {
            Event::Session(SessionEvent::Frames(frames)) => return Some(frames),
            event => stash.push_back(event),
        }
    }
    None
}

impl Outside {
    fn carry_out(&mut self, core: &mut Core) {
        for action in core.actions() {
            match action {
                Action::Send(message) => {
                    if let Some(outbox) = &self.outbox {
                        // The session has just ended if it fails.
                        let _ = outbox.send(message);
                    }
                }
                Action::HangUp => self.outbox = None,
                Action::Submit(jobs) => self.driver.submit(jobs),
                Action::Resume(expected) => self.driver.resume(expected),
                Action::Compare(expected) => self.driver.compare(expected),
                Action::ForgetSteering(zones) => self.driver.forget_steering(zones),
                Action::Filling(is_filling) => self.driver.filling(is_filling),
                Action::Scrub(scrub) => {
                    // The agent is ending if nobody scrubs.
                    let _ = self.scrubs.send(scrub);
                }
                Action::Error(message) => note(&self.board, message),
                Action::KnotRefuses { zone, reason } => self.board.refused(&zone.to_string(), reason),
            }
        }
        if *core.figures() != self.shown {
            self.shown = core.figures().clone();
            self.board.show(&self.shown);
        }
    }
}
