//! `koder dns context …`: the stored servers and tokens.

use clap::Subcommand;
use serde_json::json;

use super::Session;
use crate::config::{Config, Context};
use crate::failure::Failure;
use crate::settings::SettingsError;
use crate::table;

/// What to do about contexts.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List the contexts
    List,
    /// Make a context the current one
    Use {
        /// Its name
        name: String,
    },
    /// Show a context, or the current one; never its token
    Show {
        /// Its name
        name: Option<String>,
    },
    /// Forget a context and its token
    Delete {
        /// Its name
        name: String,
    },
}

pub(super) fn run(session: &mut Session<'_>, command: &ContextCommand) -> Result<(), Failure> {
    let path = session.environment.config_path()?;
    let mut config = session.config()?;
    match command {
        ContextCommand::List => {
            let all: Vec<_> =
                config.contexts.iter().map(|(name, context)| json(&config, name, context)).collect();
            session.output.result(&json!({ "items": all }).to_string(), || list(&config))
        }
        ContextCommand::Show { name } => {
            let name = name.clone().or_else(|| current(session, &config)).ok_or(SettingsError::NoServer)?;
            let context = find(&config, &name)?;
            session.output.result(&json(&config, &name, context).to_string(), || show(&name, context))
        }
        ContextCommand::Use { name } => {
            find(&config, name)?;
            config.current = Some(name.clone());
            config.save(&path)?;
            session.output.people(&format!("the current context is now \"{name}\"\n"))
        }
        ContextCommand::Delete { name } => {
            find(&config, name)?;
            config.contexts.remove(name);
            config.current = config.current.take().filter(|current| current != name);
            config.save(&path)?;
            session.output.people(&format!(
                "forgot \"{name}\"; its token is still valid until it is revoked or expires\n"
            ))
        }
    }
}

fn current(session: &Session<'_>, config: &Config) -> Option<String> {
    let named = session.connection.context.as_ref().or(session.environment.context.as_ref());
    named.or(config.current.as_ref()).cloned()
}

fn find<'a>(config: &'a Config, name: &str) -> Result<&'a Context, SettingsError> {
    config.contexts.get(name).ok_or_else(|| SettingsError::NoContext(name.to_owned()))
}

fn json(config: &Config, name: &str, context: &Context) -> serde_json::Value {
    json!({
        "name": name,
        "server": context.server.as_str(),
        "cacert": context.cacert,
        "current": config.current.as_deref() == Some(name),
    })
}

fn list(config: &Config) -> String {
    table::columns(
        ["CURRENT", "NAME", "SERVER"],
        config.contexts.iter().map(|(name, context)| {
            let mark = if config.current.as_ref() == Some(name) { "*" } else { "" };
            [mark.to_owned(), name.clone(), context.server.to_string()]
        }),
    )
}

fn show(name: &str, context: &Context) -> String {
    table::pairs([
        ("context", Some(name.to_owned())),
        ("server", Some(context.server.to_string())),
        ("token", Some("stored".to_owned())),
        ("cacert", context.cacert.as_ref().map(|path| path.display().to_string())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ServerUrl;
    use crate::secret::Secret;

    #[test]
    fn no_form_of_it_shows_the_token() {
        let mut config = Config::default();
        config.current = Some("prod".into());
        for name in ["prod", "test"] {
            let server = ServerUrl::parse(&format!("{name}.example")).unwrap();
            let context = Context { server, token: Secret::new("hush"), cacert: None };
            config.contexts.insert(name.into(), context);
        }
        assert_eq!(
            list(&config),
            "CURRENT  NAME  SERVER\n\
             *        prod  https://prod.example\n\
             \x20        test  https://test.example\n"
        );
        let context = &config.contexts["prod"];
        assert_eq!(show("prod", context), "context  prod\nserver   https://prod.example\ntoken    stored\n");
        assert!(!json(&config, "prod", context).to_string().contains("hush"));
    }
}
