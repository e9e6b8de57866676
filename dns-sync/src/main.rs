//! `koder-dns-sync`, the agent of a PoP.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use dns_sync::agent::Agent;
use dns_sync::config::Config;
use dns_sync::knot::process;
use dns_sync::materialize::{Materialized, materialize};
use dns_sync::status::{self, Status};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Exit codes of `status`.
const DEGRADED: u8 = 1;
const NOT_RUNNING: u8 = 3;

/// Exit code for a configuration that is not right.
const BAD_CONFIG: u8 = 2;

/// The agent of a PoP: keeps a durable replica of what the PoP serves, and has Knot DNS answer it.
#[derive(Parser)]
#[command(name = "koder-dns-sync", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or SIGINT
    Run {
        #[command(flatten)]
        config: ConfigArg,
        /// Stop knotd, too, when the agent stops (as stop_knot_on_exit = true); else it goes on answering
        #[arg(long)]
        stop_knot: bool,
    },
    /// Write knotd's files from the replica, as has to be done before each start of knotd
    Materialize {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show how the agent is; exits with 0 if all is well, 1 if not, 3 if the agent doesn't run
    Status {
        #[command(flatten)]
        config: ConfigArg,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct ConfigArg {
    /// The agent's configuration, agent.toml
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let (Command::Run { config, .. } | Command::Materialize { config } | Command::Status { config, .. }) =
        &cli.command;
    let config = match Config::load(&config.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("koder-dns-sync: {error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let done = match cli.command {
        Command::Run { stop_knot, .. } => run(config, stop_knot),
        Command::Materialize { .. } => write_files(&config),
        Command::Status { json, .. } => return show(&config, json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut message = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                message.push_str(": ");
                message.push_str(&cause.to_string());
                source = cause.source();
            }
            eprintln!("koder-dns-sync: {message}");
            ExitCode::FAILURE
        }
    }
}

type AnyError = Box<dyn std::error::Error>;

fn run(config: Config, stop_knot: bool) -> Result<(), AnyError> {
    abort_on_panic();
    let stop_knot = stop_knot || config.stop_knot_on_exit;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the agent, so that none is missed.
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let agent = Agent::start(config)?;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        agent.stop(stop_knot);
        Ok(())
    })
}

fn write_files(config: &Config) -> Result<(), AnyError> {
    // Its folders and its configuration are only touched while knotd doesn't run.
    if !process::is_running(&config.knot) {
        config.knot.install()?;
    }
    match materialize(&config.data, &config.replica_dir(), &config.knot)? {
        Materialized::Written(written) => {
            println!(
                "{} zones, {} records, digest {:032x}",
                written.zones.len(),
                written.records,
                written.digest
            );
            let damaged = written.damaged.len() as u64 + written.damaged_rows;
            if damaged > 0 {
                eprintln!("koder-dns-sync: {damaged} zones are damaged in the replica and were left out");
            }
        }
        Materialized::LeftAlone { reason } => {
            eprintln!(
                "koder-dns-sync: THE REPLICA CAN'T BE USED, and knotd will answer what it answered at its last \
                 start: {reason}"
            );
        }
    }
    Ok(())
}

fn show(config: &Config, json: bool) -> ExitCode {
    let text = match status::ask(&config.status_socket()) {
        Ok(text) => text,
        Err(error) => {
            eprintln!(
                "koder-dns-sync: no agent answers for {}: {error}; start it with koder-dns-sync run",
                config.data.display()
            );
            return ExitCode::from(NOT_RUNNING);
        }
    };
    let status: Status = match serde_json::from_str(&text) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("koder-dns-sync: the agent's answer can't be read, is it of another version? {error}");
            return ExitCode::from(DEGRADED);
        }
    };
    match json {
        true => print!("{text}"),
        false => print!("{}", status.render()),
    }
    if status.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(DEGRADED) }
}

/// A thread that panicked leaves what it was at undone, and nobody knows what: better to start again from the replica.
/// knotd goes on meanwhile.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
