//! Why a command did not do what it should, the words for it, and the exit status.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use herald_core::name::NameError;
use herald_wire::api::{Change, ProblemItem, Wait};

use crate::client::{ClientError, SetupError};
use crate::config::ConfigError;
use crate::receipt;
use crate::settings::SettingsError;
use crate::table::printable;

/// The exit statuses of `koder`. They are part of its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done.
    Done = 0,
    /// Another failure.
    Failed = 1,
    /// The command line makes no sense, or it isn't known whom to talk to.
    Usage = 2,
    /// It isn't there.
    NotFound = 3,
    /// Refused: no valid token, or one that may not.
    Refused = 4,
    /// Conflict, or a precondition that didn't hold.
    Conflict = 5,
    /// Invalid input.
    Invalid = 6,
    /// Accepted, but not in sync before the deadline.
    NotInSync = 7,
    /// The server can't be reached or can't work.
    Unavailable = 8,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server said no, or there was no answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It isn't known whom to talk to.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something named on the command line is no domain name.
    #[error("\"{text}\": {source}")]
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file isn't what it should be.
    #[error("{}: {reason}", path.display())]
    FileContent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The person at the terminal said no.
    #[error("nothing was done: it was not confirmed")]
    NotConfirmed,
    /// Accepted, but the PoPs did not confirm it before the deadline.
    #[error(
        "the change is accepted, and not in sync {} after {}; `koder dns change wait {}` goes on waiting",
        scope(*wait), humantime::format_duration(*timeout), change.id
    )]
    NotInSync {
        /// The receipt.
        change: Box<Change>,
        /// What was waited for.
        wait: Wait,
        /// For how long.
        timeout: Duration,
    },
    /// Some of several zone files were not imported; why was said of each.
    #[error("{failed} of {files} files were not imported")]
    SomeFiles {
        /// How many.
        failed: usize,
        /// Of how many.
        files: usize,
    },
    /// A test message didn't come through; why was said.
    #[error("the test message was not delivered")]
    NotDelivered,
    /// The output can't be written.
    #[error("can't write the output: {0}")]
    Output(io::Error),
}

fn scope(wait: Wait) -> &'static str {
    match wait {
        Wait::All => "at all PoPs",
        Wait::Quorum => "at a majority of the PoPs",
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Failure {
        Failure::Settings(error.into())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Settings(error.into())
    }
}

impl Failure {
    /// The status that the process ends with.
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Failure::Client(ClientError::Transport { .. }) => ExitStatus::Unavailable,
            Failure::Client(error) => of_http_status(error.status().unwrap_or_default()),
            Failure::Settings(SettingsError::TokenFile { .. } | SettingsError::Config(_)) => {
                ExitStatus::Failed
            }
            Failure::Settings(SettingsError::NoContext(_)) => ExitStatus::NotFound,
            Failure::Settings(_) | Failure::Usage(_) => ExitStatus::Usage,
            Failure::Name { .. } | Failure::FileContent { .. } => ExitStatus::Invalid,
            Failure::NotInSync { .. } => ExitStatus::NotInSync,
            Failure::File { .. }
            | Failure::NotConfirmed
            | Failure::SomeFiles { .. }
            | Failure::NotDelivered
            | Failure::Output(_) => ExitStatus::Failed,
        }
    }

    /// The lines for stderr: what is wrong and what to do, then one line for each offending item.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}", printable(&self.to_string()));
        text.push_str(self.hint());
        text.push('\n');
        match self {
            Failure::Client(ClientError::Problem { problem, .. }) => {
                for item in &problem.errors {
                    writeln!(text, "  {}", printable(&item_line(item))).expect("a String takes everything");
                }
            }
            Failure::NotInSync { change, .. } => {
                for (pop, state) in receipt::pending(change) {
                    writeln!(text, "  {}: {state}", printable(pop)).expect("a String takes everything");
                }
            }
            _ => {}
        }
        text
    }

    fn hint(&self) -> &'static str {
        match self {
            Failure::Client(error) => match error.code() {
                Some("unauthenticated") => " (`koder dns login` stores another token)",
                Some("forbidden") => " (`koder dns whoami` shows what the token may do)",
                Some("precondition_failed") => " (look at it again, and give the ETag that it has now)",
                _ => "",
            },
            _ => "",
        }
    }
}

fn of_http_status(status: u16) -> ExitStatus {
    match status {
        404 => ExitStatus::NotFound,
        401 | 403 => ExitStatus::Refused,
        409 | 412 => ExitStatus::Conflict,
        400 | 413 | 415 | 422 => ExitStatus::Invalid,
        408 | 429 | 502..=504 => ExitStatus::Unavailable,
        _ => ExitStatus::Failed,
    }
}

fn item_line(item: &ProblemItem) -> String {
    let mut about: Vec<String> = Vec::new();
    about.extend(item.name.clone());
    about.extend(item.rtype.clone());
    if let Some((line, column)) = line_and_column(&item.pointer) {
        about.insert(0, format!("line {line}, column {column}:"));
    } else if !item.pointer.is_empty() {
        about.push(if about.is_empty() { item.pointer.clone() } else { format!("({})", item.pointer) });
    }
    if about.is_empty() {
        return item.detail.clone();
    }
    let about = about.join(" ");
    format!("{}: {}", about.trim_end_matches(':'), item.detail)
}

fn line_and_column(pointer: &str) -> Option<(u64, u64)> {
    let (line, column) = pointer.split_once(':')?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_wire::api::{PopSync, Problem, SyncState};

    fn problem(code: &str, status: u16, errors: Vec<ProblemItem>) -> Failure {
        let problem = Problem {
            kind: format!("urn:koder-herald:problem:{code}"),
            title: code.to_owned(),
            status,
            detail: "it is so".to_owned(),
            errors,
        };
        Failure::Client(ClientError::Problem { problem: Box::new(problem), text: String::new() })
    }

    #[test]
    fn every_problem_has_its_exit_status() {
        for (code, status, exit) in [
            ("malformed", 400, ExitStatus::Invalid),
            ("unauthenticated", 401, ExitStatus::Refused),
            ("forbidden", 403, ExitStatus::Refused),
            ("not_found", 404, ExitStatus::NotFound),
            ("method_not_allowed", 405, ExitStatus::Failed),
            ("timeout", 408, ExitStatus::Unavailable),
            ("conflict", 409, ExitStatus::Conflict),
            ("precondition_failed", 412, ExitStatus::Conflict),
            ("too_large", 413, ExitStatus::Invalid),
            ("unsupported_media_type", 415, ExitStatus::Invalid),
            ("invalid", 422, ExitStatus::Invalid),
            ("unavailable", 503, ExitStatus::Unavailable),
            ("idempotency_key_reused", 422, ExitStatus::Invalid),
            ("rate_limited", 429, ExitStatus::Unavailable),
            ("quota_exceeded", 403, ExitStatus::Refused),
            ("unsupported_encoding", 415, ExitStatus::Invalid),
        ] {
            assert_eq!(problem(code, status, Vec::new()).exit_status(), exit, "{code}");
        }
    }

    #[test]
    fn other_failures_have_theirs() {
        let malformed =
            |status| Failure::Client(ClientError::Malformed { status, detail: String::new() }).exit_status();
        assert_eq!(malformed(200), ExitStatus::Failed);
        assert_eq!(malformed(502), ExitStatus::Unavailable);
        assert_eq!(Failure::Usage(String::new()).exit_status(), ExitStatus::Usage);
        assert_eq!(Failure::Settings(SettingsError::NoServer).exit_status(), ExitStatus::Usage);
        let source = Box::new(ureq::Error::HostNotFound);
        let transport = ClientError::Transport { server: String::new(), sent: false, source };
        assert_eq!(Failure::Client(transport).exit_status(), ExitStatus::Unavailable);
        assert_eq!(ExitStatus::Unavailable as u8, 8);
    }

    #[test]
    fn an_item_is_named_by_what_is_known_of_it() {
        let item = |pointer: &str, name: Option<&str>, rtype: Option<&str>| ProblemItem {
            pointer: pointer.to_owned(),
            detail: "no address".to_owned(),
            name: name.map(str::to_owned),
            rtype: rtype.map(str::to_owned),
        };
        let failure = problem(
            "invalid",
            422,
            vec![
                item("/changes/0/records/1", Some("www.example.com."), Some("A")),
                item("12:5", Some("www.example.com."), None),
                item("12:5", None, None),
                item("/name", None, None),
                item("", None, None),
            ],
        );
        assert_eq!(
            failure.render(),
            "error: it is so\n\
             \x20 www.example.com. A (/changes/0/records/1): no address\n\
             \x20 line 12, column 5: www.example.com.: no address\n\
             \x20 line 12, column 5: no address\n\
             \x20 /name: no address\n\
             \x20 no address\n"
        );
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = problem("unauthenticated", 401, Vec::new()).render();
        assert_eq!(text, "error: it is so (`koder dns login` stores another token)\n");
    }

    #[test]
    fn a_change_that_is_late_names_who_is_waited_for() {
        let pop = |name: &str, state| PopSync { pop: "p".into(), name: name.into(), state, in_sync_ms: None };
        let change = Change {
            id: "c1".into(),
            revision: 7,
            accepted_at_ms: 0,
            principal: "operator".into(),
            message: None,
            zones: Vec::new(),
            state: SyncState::Pending,
            in_sync_ms: None,
            pops: vec![
                pop("ams", SyncState::InSync),
                pop("fra", SyncState::Pending),
                pop("nyc", SyncState::NotWaitedFor),
            ],
        };
        let failure = Failure::NotInSync {
            change: Box::new(change),
            wait: Wait::All,
            timeout: Duration::from_secs(30),
        };
        assert_eq!(
            failure.render(),
            "error: the change is accepted, and not in sync at all PoPs after 30s; \
             `koder dns change wait c1` goes on waiting\n  fra: pending\n"
        );
        assert_eq!(failure.exit_status() as u8, 7);
    }
}
