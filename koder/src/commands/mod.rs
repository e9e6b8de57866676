//! The commands: one file a topic, its arguments and what they do.

pub mod alias;
pub mod brakes;
pub mod change;
pub mod channel;
pub mod context;
pub mod explain;
pub mod firewall;
pub mod geoip;
pub mod import;
mod input;
mod list;
pub mod login;
pub mod monitor;
pub mod nsset;
pub mod past;
pub mod policy;
pub mod pool;
pub mod pop;
pub mod query_log;
pub mod record;
pub mod stats;
pub mod steering;
pub mod tenant;
pub mod token;
pub mod view;
mod whoami;
mod write;
pub mod zone;

use clap::CommandFactory;

use crate::cli::{Cli, DnsCommand, Topic};
use crate::client::{Answer, Client};
use crate::config::{self, Config};
use crate::failure::{ExitStatus, Failure};
use crate::output::{Output, is_closed_pipe};
use crate::settings::{ConnectionArgs, Environment, Target};

pub use list::ListArgs;
pub use write::{MessageArgs, WriteArgs};

/// What every command has at hand.
pub struct Session<'a> {
    environment: Environment,
    connection: ConnectionArgs,
    output: Output<'a>,
}

impl<'a> Session<'a> {
    /// Puts it together; nothing is read or sent yet.
    pub fn new(environment: Environment, connection: ConnectionArgs, output: Output<'a>) -> Session<'a> {
        Session { environment, connection, output }
    }

    /// A client of the server that is meant.
    fn client(&mut self) -> Result<Client, Failure> {
        let config = self.config()?;
        Ok(Target::resolve(&self.connection, &self.environment, &config)?.client()?)
    }

    fn config(&mut self) -> Result<Config, Failure> {
        // Without a home there may still be everything needed in flags and environment.
        let Ok(path) = self.environment.config_path() else { return Ok(Config::default()) };
        let config = Config::load(&path)?;
        if config::is_exposed(&path) {
            self.output.note(&format!(
                "warning: others can read {}, and the tokens in it: chmod 600 it",
                path.display()
            ));
        }
        Ok(config)
    }

    /// Shows an answer: as it came, or what `people` makes of it.
    fn show<T>(&mut self, answer: &Answer<T>, people: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        self.output.result(&answer.text, || people(&answer.value))
    }

    /// Says what went wrong, if anything did, and returns the exit status.
    pub fn finish(&mut self, result: Result<(), Failure>) -> ExitStatus {
        match result {
            Ok(()) => ExitStatus::Done,
            Err(failure) if is_closed_pipe(&failure) => ExitStatus::Done,
            Err(failure) => {
                self.output.failure(&failure);
                failure.exit_status()
            }
        }
    }
}

/// Does what was typed.
pub fn run(session: &mut Session<'_>, topic: Topic) -> Result<(), Failure> {
    match topic {
        Topic::Dns(dns) => run_dns(session, dns.command),
        Topic::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "koder", &mut script);
            session.output.raw(&script)
        }
    }
}

fn run_dns(session: &mut Session<'_>, command: DnsCommand) -> Result<(), Failure> {
    match command {
        DnsCommand::Login(args) => login::run(session, &args),
        DnsCommand::Context(command) => context::run(session, &command),
        DnsCommand::Whoami => whoami::run(session),
        DnsCommand::Zone(command) => zone::run(session, &command),
        DnsCommand::Record(command) => record::run(session, &command),
        DnsCommand::Alias(command) => alias::run(session, &command),
        DnsCommand::Steering(command) => steering::run(session, &command),
        DnsCommand::Pool(command) => pool::run(session, &command),
        DnsCommand::Policy(command) => policy::run(session, &command),
        DnsCommand::View(command) => view::run(session, &command),
        DnsCommand::Monitor(command) => monitor::run(session, &command),
        DnsCommand::Channel(command) => channel::run(session, &command),
        DnsCommand::Explain(args) => explain::run(session, &args),
        DnsCommand::Stats(args) => stats::run(session, &args),
        DnsCommand::QueryLog(command) => query_log::run(session, &command),
        DnsCommand::Change(command) => change::run(session, &command),
        DnsCommand::Changes(args) => past::changes(session, &args),
        DnsCommand::AccessLog(args) => past::access(session, &args),
        DnsCommand::Pop(command) => pop::run(session, &command),
        DnsCommand::Brakes(command) => brakes::run(session, &command),
        DnsCommand::Firewall(command) => firewall::run(session, &command),
        DnsCommand::Geoip(command) => geoip::run(session, &command),
        DnsCommand::Tenant(command) => tenant::run(session, &command),
        DnsCommand::Token(command) => token::run(session, &command),
        DnsCommand::Nsset(command) => nsset::run(session, &command),
    }
}

/// `yes` or `no`.
fn yes_no(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}
