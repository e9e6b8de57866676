//! `koder dns login`: a context is stored once its server takes its token.

use std::io::{self, IsTerminal};
use std::path::Path;

use clap::Args;

use super::{Session, whoami};
use crate::client::ServerUrl;
use crate::config::{Config, Context};
use crate::failure::Failure;
use crate::secret::Secret;
use crate::settings::{SettingsError, Target, read_token};

/// Flags of `koder dns login`.
#[derive(Args, Debug)]
#[command(after_help = "\
The token is read from --token-file, from KODER_TOKEN, from stdin, or asked for without an echo.
The context is named by --context, or after the server's host, and becomes the current one.

Examples:
  koder dns login --server https://herald.example
  koder dns login --server https://herald.example --context prod --token-file token.txt
  pass show herald | koder dns login --server https://herald.example")]
pub struct LoginArgs {}

pub(super) fn run(session: &mut Session<'_>, _args: &LoginArgs) -> Result<(), Failure> {
    let path = session.environment.config_path()?;
    let mut config = session.config()?;
    let known = session.connection.context.as_ref().and_then(|name| config.contexts.get(name));
    let server = match session.connection.server.as_ref().or(session.environment.server.as_ref()) {
        Some(text) => ServerUrl::parse(text).map_err(SettingsError::from)?,
        None => known.ok_or(SettingsError::NoServer)?.server.clone(),
    };
    let cacert = session.connection.cacert.clone().or_else(|| known?.cacert.clone());
    // The file is read from wherever the next command is started.
    let cacert = match cacert {
        Some(cacert) => {
            Some(std::path::absolute(&cacert).map_err(|source| Failure::File { path: cacert, source })?)
        }
        None => None,
    };
    if server.exposes_tokens() {
        session.output.note(&format!("warning: {server} isn't encrypted: the token can be read on the way"));
    }
    let target = Target { token: token(session, &server)?, server, cacert };
    let answer = target.client()?.whoami()?;

    let name = session.connection.context.clone().unwrap_or_else(|| target.server.host().to_owned());
    store(&mut config, &name, target);
    config.save(&path)?;
    session.show(&answer, whoami::table)?;
    session.output.note(&format!("stored as context \"{name}\", which is now the current one"));
    Ok(())
}

fn token(session: &Session<'_>, server: &ServerUrl) -> Result<Secret, Failure> {
    let stdin = Path::new("-");
    match (&session.connection.token_file, &session.environment.token) {
        (Some(path), _) => Ok(read_token(path)?),
        (None, Some(token)) => Ok(token.clone()),
        (None, None) if io::stdin().is_terminal() => {
            let typed = rpassword::prompt_password(format!("Token for {server}: "));
            let typed =
                typed.map_err(|source| SettingsError::TokenFile { path: stdin.to_owned(), source })?;
            Ok(Secret::new(&typed))
        }
        (None, None) => Ok(read_token(stdin)?),
    }
}

fn store(config: &mut Config, name: &str, target: Target) {
    let Target { server, token, cacert } = target;
    config.contexts.insert(name.to_owned(), Context { server, token, cacert });
    config.current = Some(name.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_replaces_the_context_of_its_name_and_becomes_current() {
        let mut config = Config::default();
        for token in ["old", "new"] {
            let server = ServerUrl::parse("herald.example").unwrap();
            store(&mut config, "prod", Target { server, token: Secret::new(token), cacert: None });
        }
        assert_eq!(config.current.as_deref(), Some("prod"));
        assert_eq!(config.contexts.len(), 1);
        assert_eq!(config.contexts["prod"].token.expose(), "new");
    }
}
