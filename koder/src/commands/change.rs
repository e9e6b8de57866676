//! `koder dns change …`: receipts.

use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use herald_wire::api::{Change, SyncState, Wait};

use super::Session;
use super::write::TIMEOUT_MAX;
use crate::client::{Answer, Client, ClientError, WaitFor};
use crate::failure::Failure;
use crate::receipt;
use crate::times::parse_duration;

/// The pause between two questions, should the server answer at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What to do about changes.
#[derive(Debug, Subcommand)]
pub enum ChangeCommand {
    /// Show a receipt: who changed what, and where it is in sync
    Show {
        /// Id of the change
        id: String,
    },
    /// Wait until the PoPs answer with a change; exit status 7 if they don't in time
    Wait(WaitArgs),
}

/// Flags of `koder dns change wait`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  koder dns change wait 01JB2Q --quorum --timeout 5m")]
pub struct WaitArgs {
    /// Id of the change
    pub id: String,
    /// A majority of the PoPs is enough
    #[arg(long)]
    pub quorum: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
}

pub(super) fn run(session: &mut Session<'_>, command: &ChangeCommand) -> Result<(), Failure> {
    let client = session.client()?;
    match command {
        ChangeCommand::Show { id } => {
            let answer = client.change(id, None)?;
            session.show(&answer, receipt::show)
        }
        ChangeCommand::Wait(args) => {
            let wait = if args.quorum { Wait::Quorum } else { Wait::All };
            let answer = wait_for(&client, &args.id, wait, args.timeout)?;
            session.show(&answer, receipt::show)?;
            if answer.is_overdue() {
                let change = Box::new(answer.value);
                return Err(Failure::NotInSync { change, wait, timeout: args.timeout });
            }
            Ok(())
        }
    }
}

/// Asks until it is in sync or the time is over, a minute at a time.
pub(super) fn wait_for(
    client: &Client,
    id: &str,
    wait: Wait,
    timeout: Duration,
) -> Result<Answer<Change>, ClientError> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let answer = client.change(id, Some(&WaitFor { wait, timeout: left.min(TIMEOUT_MAX) }))?;
        // Nothing comes of waiting for an operator's word.
        let is_held = answer.state == SyncState::Held;
        if !answer.is_overdue() || is_held || start.elapsed() >= timeout {
            return Ok(answer);
        }
        thread::sleep(PAUSE.min(timeout.saturating_sub(start.elapsed())));
    }
}
