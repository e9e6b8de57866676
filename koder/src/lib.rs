//! The client of Koder Herald: [`client::Client`], one method per route of the API, and the command line
//! `koder`, which is [`run`].
//!
//! From the outside in: [`cli`] says what can be typed, [`commands`] does it, [`settings`] finds out whom to
//! talk to, [`client`] talks, [`output`] and [`failure`] say how it went.

pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod failure;
pub mod names;
pub mod output;
pub mod plan;
pub mod progress;
pub mod receipt;
pub mod secret;
pub mod settings;
pub mod table;
pub mod times;
pub mod upload;
pub mod yaml;
pub mod zonefile;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

use clap::Parser;

use crate::cli::Cli;
use crate::commands::Session;
use crate::failure::{ExitStatus, Failure};
use crate::output::Output;
use crate::settings::Environment;

/// Does what the command line says and returns the exit status of the process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no reason to complain about the help text.
            let _ = error.print();
            return if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Done } as u8;
        }
    };
    let mut stdout = BufWriter::new(io::stdout().lock());
    let mut stderr = io::stderr().lock();
    let output = Output::new(&mut stdout, &mut stderr, cli.connection.json);
    let mut session = Session::new(Environment::of_process(), cli.connection, output);
    let result = commands::run(&mut session, cli.topic);
    let status = session.finish(result);
    match stdout.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let failure = Failure::Output(error);
            let _ = stderr.write_all(failure.render().as_bytes());
            failure.exit_status() as u8
        }
        _ => status as u8,
    }
}
