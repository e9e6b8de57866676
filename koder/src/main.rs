//! `koder`, the command line client.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(koder::run(std::env::args_os()))
}
