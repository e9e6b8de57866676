//! What the supervisor of knotd asks of the agent, in the supervisor's thread.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use herald_core::Name;

use super::shell::Event;
use crate::config::Config;
use crate::knot::ctl::{self, Batch, Command, Item};
use crate::knot::driver::{Driver, NO_MODULE};
use crate::knot::process::{HookError, Hooks, StartError};
use crate::materialize::{Materialized, materialize, with_causes};
use crate::status::{Board, now_ms};

/// How long knotd may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct AgentHooks {
    pub config: Arc<Config>,
    pub driver: Arc<Driver>,
    pub events: Sender<Event>,
    pub board: Arc<Board>,
    /// The zones in the files that were just written, with their serials.
    pub written: Option<Vec<(Name, u32)>>,
    pub was_up: bool,
}

impl AgentHooks {
    fn tell(&self, event: Event) {
        // The agent is ending if it doesn't listen.
        let _ = self.events.send(event);
    }
}

impl Hooks for AgentHooks {
    fn materialize(&mut self) -> Result<(), HookError> {
        let config = &self.config;
        match materialize(&config.data, &config.replica_dir(), &config.knot)? {
            Materialized::Written(written) => {
                tracing::info!(
                    "wrote {} zones with {} records, digest {:032x}",
                    written.zones.len(),
                    written.records,
                    written.digest
                );
                written.damaged.iter().for_each(|zone| self.tell(Event::Damaged(*zone)));
                for zone in &written.refused {
                    self.board.refused(&zone.to_string(), Some(format!("it has steering, and {NO_MODULE}")));
                }
                self.written = Some(written.zones);
            }
            Materialized::LeftAlone { reason } => {
                let message =
                    format!("knotd starts with the files of its last start, not with the replica: {reason}");
                tracing::error!("{message}");
                self.board.error(message);
                self.written = None;
            }
        }
        Ok(())
    }

    fn up(&mut self, adopted: bool) {
        let version = knot_version(&self.config.knot.control_socket()).unwrap_or_default();
        let how = if adopted { "was found running" } else { "was started" };
        tracing::info!("knotd {version} {how} and answers");
        let restarts = u64::from(self.was_up);
        self.was_up = true;
        self.board.update(|status| {
            let knot = &mut status.knot;
            knot.running = true;
            knot.version = version;
            knot.since_ms = now_ms();
            knot.restarts += restarts;
        });
        let written = self.written.take().filter(|_| !adopted);
        self.tell(Event::KnotUp { written });
    }

    fn down(&mut self, reason: &str) {
        self.driver.suspend();
        tracing::error!("knotd is down: {reason}");
        self.board.update(|status| {
            status.knot.running = false;
            status.knot.since_ms = now_ms();
            status.knot.reason = Some(reason.into());
        });
        self.board.error(format!("knotd is down: {reason}"));
    }

    fn silent(&mut self, is_silent: bool) {
        const REASON: &str = "knotd runs, but does not answer";
        self.board.update(|status| {
            status.knot.running = !is_silent;
            status.knot.since_ms = now_ms();
            if is_silent {
                status.knot.reason = Some(REASON.into());
            }
        });
        if is_silent {
            tracing::error!("{REASON}");
            self.board.error(REASON.into());
        } else {
            tracing::info!("knotd answers again");
        }
    }

    fn start_failed(&mut self, error: &StartError) {
        let reason = with_causes(error);
        let mut is_news = false;
        self.board.update(|status| {
            is_news = status.knot.reason.as_ref() != Some(&reason);
            status.knot.reason = Some(reason.clone());
        });
        if is_news {
            tracing::error!("knotd does not run: {reason}");
            self.board.error(format!("knotd does not run: {reason}"));
        }
    }
}

fn knot_version(socket: &Path) -> Option<String> {
    let mut batch = Batch::new();
    batch.push(Command::Status, &[(Item::Type, b"version")]).ok()?;
    let mut version = None;
    ctl::run_batch(socket, VERSION_TIMEOUT, &batch, |reply| {
        if reply.error().is_none() {
            version = Some(reply.text(Item::Data).trim_start_matches("Version: ").to_owned());
        }
    })
    .ok()?;
    version
}
