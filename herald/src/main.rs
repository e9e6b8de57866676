//! `herald`, the control plane daemon.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use herald::audit::{self, AuditCommand};
use herald::backup::{self, BackupArgs};
use herald::config::{Config, ServeArgs};
use herald::restore::{self, RestoreArgs};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The control plane of Koder Herald.
#[derive(Parser)]
#[command(name = "herald", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane until SIGTERM or SIGINT
    Serve(Box<ServeArgs>),
    /// Write the store into one file, verified, while the control plane goes on
    Backup(BackupArgs),
    /// Put a backup in the store's place, as newer than all that was; herald must be stopped
    Restore(RestoreArgs),
    /// Verify what is kept
    #[command(subcommand)]
    Audit(AuditCommand),
}

fn main() -> ExitCode {
    let args = match Cli::parse().command {
        Command::Serve(args) => args,
        Command::Backup(args) => return tell(backup::run(args)),
        Command::Restore(args) => return tell(restore::run(args)),
        Command::Audit(command) => {
            return match audit::run(command) {
                Ok(status) => status,
                Err(e) => tell(Err(e)),
            };
        }
    };
    let level = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .init();
    abort_on_panic();
    match Config::load(*args) {
        Err(e) => {
            tracing::error!("{e}");
            ExitCode::from(2)
        }
        Ok(config) => match herald::serve::run(config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                tracing::error!("{e}");
                ExitCode::FAILURE
            }
        },
    }
}

/// The end of a command that isn't the daemon.
fn tell(outcome: Result<String, impl std::error::Error>) -> ExitCode {
    match outcome {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut message = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !message.ends_with(&cause_text) {
                    message.push_str(": ");
                    message.push_str(&cause_text);
                }
                source = cause.source();
            }
            eprintln!("herald: {message}");
            ExitCode::FAILURE
        }
    }
}

/// A thread that panicked leaves what it was at undone, and nobody knows what: better to start again from the log.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
