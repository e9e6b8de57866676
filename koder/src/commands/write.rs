//! What all writes have in common: their flags, and how their answers are shown.

use std::time::Duration;

use clap::Args;
use herald_wire::api::{Wait, Written};

use super::Session;
use crate::cli::WaitScope;
use crate::client::{Answer, WaitFor, WriteOptions};
use crate::failure::Failure;
use crate::receipt;
use crate::times::parse_duration;

/// How long a write waits unless it is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The longest that the server waits within one request.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Flags of every command that changes something.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Writing")]
pub struct WriteArgs {
    /// Let the server judge everything, show what would happen, and change nothing
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// Wait until the PoPs answer with it
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub wait: Option<WaitScope>,
    /// How long to wait, at most 60s [default: 30s]
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = parse_timeout)]
    pub timeout: Option<Duration>,
    /// Do it even if much of a zone goes by it
    #[arg(long)]
    pub confirm: bool,
    /// Do it only if what is there has this ETag
    #[arg(long, value_name = "ETAG")]
    pub if_match: Option<String>,
}

/// The reason of a change.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Writing")]
pub struct MessageArgs {
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if timeout > TIMEOUT_MAX {
        return Err("at most 60s; `koder dns change wait` waits longer".to_owned());
    }
    Ok(timeout)
}

impl From<WaitScope> for Wait {
    fn from(scope: WaitScope) -> Wait {
        match scope {
            WaitScope::All => Wait::All,
            WaitScope::Quorum => Wait::Quorum,
        }
    }
}

impl WriteArgs {
    /// The flags as the client takes them.
    pub fn options(&self) -> WriteOptions {
        WriteOptions {
            dry_run: self.dry_run,
            wait: self.wait_for(),
            confirmed: self.confirm,
            if_match: self.if_match.clone(),
            message: None,
        }
    }

    /// The flags, with the reason beside them: for what has no body that could hold it.
    pub fn options_for(&self, reason: &MessageArgs) -> WriteOptions {
        WriteOptions { message: reason.message.clone(), ..self.options() }
    }

    fn wait_for(&self) -> Option<WaitFor> {
        Some(WaitFor { wait: self.wait?.into(), timeout: self.timeout.unwrap_or(TIMEOUT_DEFAULT) })
    }

    /// `done` or, in a dry run, `would`: how a sentence about the change begins.
    pub(super) fn tense<'a>(&self, done: &'a str, would: &'a str) -> &'a str {
        if self.dry_run { would } else { done }
    }
}

impl Session<'_> {
    /// Shows the answer to a write: the text, the receipt, warnings; late is a failure.
    pub(super) fn written<T>(
        &mut self,
        args: &WriteArgs,
        answer: &Answer<Written<T>>,
        people: &str,
    ) -> Result<(), Failure> {
        let mut text = people.to_owned();
        text.extend(answer.change.as_ref().map(receipt::line));
        self.output.result(&answer.text, || text)?;
        self.output.warnings(&answer.warnings);
        if args.dry_run {
            self.output.note("dry run: nothing was changed");
        }
        match (args.wait_for(), &answer.change) {
            (Some(WaitFor { wait, timeout }), Some(change)) if answer.is_overdue() => {
                Err(Failure::NotInSync { change: Box::new(change.clone()), wait, timeout })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flags_are_no_options() {
        assert_eq!(WriteArgs::default().options(), WriteOptions::default());
    }

    #[test]
    fn a_wait_has_a_deadline() {
        let mut args = WriteArgs { wait: Some(WaitScope::Quorum), ..WriteArgs::default() };
        let wait_for = |args: &WriteArgs| args.options().wait.unwrap();
        assert_eq!(wait_for(&args), WaitFor { wait: Wait::Quorum, timeout: TIMEOUT_DEFAULT });
        args.timeout = Some(parse_timeout("5s").unwrap());
        assert_eq!(wait_for(&args).timeout, Duration::from_secs(5));
        assert!(parse_timeout("61s").is_err());
    }
}
