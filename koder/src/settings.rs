//! Whom to talk to: flags override the environment, and that overrides the config file.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::client::{Client, ClientOptions, ServerUrl, SetupError};
use crate::config::{Config, ConfigError};
use crate::secret::Secret;

/// The flags that every command takes.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct ConnectionArgs {
    /// Print exactly the API's JSON, for machines
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Use this context of the config file, and nothing from KODER_SERVER and KODER_TOKEN
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub context: Option<String>,
    /// Address of the server
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub server: Option<String>,
    /// Read the token from this file ("-" is stdin); it is never an argument
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub token_file: Option<PathBuf>,
    /// Trust the authorities in this PEM file instead of the system's
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub cacert: Option<PathBuf>,
}

/// What the environment says. Empty variables count as absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// `KODER_SERVER`.
    pub server: Option<String>,
    /// `KODER_TOKEN`.
    pub token: Option<Secret>,
    /// `KODER_CONTEXT`.
    pub context: Option<String>,
    /// `KODER_CONFIG`.
    pub config: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, if it is absolute.
    pub xdg_config_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

/// Why it isn't known whom to talk to, or as whom.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No server anywhere.
    #[error("no server is known: run `koder dns login --server URL`, or set KODER_SERVER and KODER_TOKEN")]
    NoServer,
    /// A server, and no token for it.
    #[error("no token for {0} is known: give --token-file FILE, set KODER_TOKEN, or run `koder dns login`")]
    NoToken(ServerUrl),
    /// A context that isn't there.
    #[error("there is no context \"{0}\": `koder dns context list` shows those there are")]
    NoContext(String),
    /// Neither a home nor a config file.
    #[error("there is no place for the config file: set HOME or KODER_CONFIG")]
    NoConfigPath,
    /// The token can't be read.
    #[error("can't read the token from {}: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The config file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Address, token or authorities.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl Environment {
    /// What the process was started with.
    pub fn of_process() -> Environment {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Environment {
            server: text("KODER_SERVER"),
            token: text("KODER_TOKEN").map(|token| Secret::new(&token)),
            context: text("KODER_CONTEXT"),
            config: path("KODER_CONFIG"),
            xdg_config_home: path("XDG_CONFIG_HOME").filter(|path| path.is_absolute()),
            home: path("HOME"),
        }
    }

    /// Where the config file is.
    pub fn config_path(&self) -> Result<PathBuf, SettingsError> {
        if let Some(path) = &self.config {
            return Ok(path.clone());
        }
        let base = self.xdg_config_home.clone().or_else(|| Some(self.home.as_ref()?.join(".config")));
        Ok(base.ok_or(SettingsError::NoConfigPath)?.join("koder").join("config.toml"))
    }
}

/// A server, and what is needed to talk to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The server.
    pub server: ServerUrl,
    /// The token for it.
    pub token: Secret,
    /// Authorities to trust instead of the system's.
    pub cacert: Option<PathBuf>,
}

impl Target {
    /// Puts together what flags, environment and config file say.
    ///
    /// A stored token is only ever used with the server it was stored for.
    pub fn resolve(
        args: &ConnectionArgs,
        environment: &Environment,
        config: &Config,
    ) -> Result<Target, SettingsError> {
        // A context named by flag is meant as a whole: the environment doesn't mix in.
        let nothing = Environment::default();
        let environment = if args.context.is_some() { &nothing } else { environment };
        let named = args.context.as_ref().or(environment.context.as_ref());
        let stored = match named.or(config.current.as_ref()) {
            None => None,
            Some(name) => match config.contexts.get(name) {
                None => return Err(SettingsError::NoContext(name.clone())),
                stored => stored,
            },
        };
        let given_server = args.server.as_ref().or(environment.server.as_ref());
        let server = match (given_server, stored) {
            (Some(text), _) => ServerUrl::parse(text)?,
            (None, Some(stored)) => stored.server.clone(),
            (None, None) => return Err(SettingsError::NoServer),
        };
        let stored = stored.filter(|stored| stored.server == server);
        let token = match (&args.token_file, &environment.token, stored) {
            (Some(path), ..) => read_token(path)?,
            (None, Some(token), _) => token.clone(),
            (None, None, Some(stored)) => stored.token.clone(),
            (None, None, None) => return Err(SettingsError::NoToken(server)),
        };
        let cacert = args.cacert.clone().or_else(|| stored?.cacert.clone());
        Ok(Target { server, token, cacert })
    }

    /// A client for it.
    pub fn client(&self) -> Result<Client, SetupError> {
        let options = ClientOptions { ca_file: self.cacert.clone(), ..ClientOptions::default() };
        Client::new(&self.server, Some(self.token.clone()), &options)
    }
}

/// Reads a token from a file, or from stdin for `-`.
pub fn read_token(path: &Path) -> Result<Secret, SettingsError> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    match text {
        Ok(text) => Ok(Secret::new(&text)),
        Err(source) => Err(SettingsError::TokenFile { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Context;

    fn config() -> Config {
        let mut config = Config::default();
        for (name, host) in [("prod", "prod.example"), ("test", "test.example")] {
            let context = Context {
                server: ServerUrl::parse(host).unwrap(),
                token: Secret::new(&format!("{name}-token")),
                cacert: (name == "test").then(|| "/test.pem".into()),
            };
            config.contexts.insert(name.to_owned(), context);
        }
        config.current = Some("prod".to_owned());
        config
    }

    fn resolve(args: ConnectionArgs, environment: Environment) -> Result<(String, String), SettingsError> {
        let target = Target::resolve(&args, &environment, &config())?;
        Ok((target.server.to_string(), target.token.expose().to_owned()))
    }

    fn pair(server: &str, token: &str) -> (String, String) {
        (server.to_owned(), token.to_owned())
    }

    #[test]
    fn the_current_context_unless_something_else_is_said() {
        let target = resolve(ConnectionArgs::default(), Environment::default()).unwrap();
        assert_eq!(target, pair("https://prod.example", "prod-token"));

        let environment = Environment { context: Some("test".into()), ..Environment::default() };
        let target = resolve(ConnectionArgs::default(), environment.clone()).unwrap();
        assert_eq!(target, pair("https://test.example", "test-token"));

        let args = ConnectionArgs { context: Some("prod".into()), ..ConnectionArgs::default() };
        assert_eq!(resolve(args, environment).unwrap(), pair("https://prod.example", "prod-token"));
    }

    #[test]
    fn the_environment_overrides_the_file_but_not_a_context_flag() {
        let environment = Environment {
            server: Some("http://127.0.0.1:8053".into()),
            token: Some(Secret::new("env-token")),
            ..Environment::default()
        };
        let target = resolve(ConnectionArgs::default(), environment.clone()).unwrap();
        assert_eq!(target, pair("http://127.0.0.1:8053", "env-token"));
        let args = ConnectionArgs { context: Some("test".into()), ..ConnectionArgs::default() };
        assert_eq!(resolve(args, environment).unwrap(), pair("https://test.example", "test-token"));
    }

    #[test]
    fn a_stored_token_never_goes_to_another_server() {
        let args =
            ConnectionArgs { server: Some("https://evil.example".into()), ..ConnectionArgs::default() };
        assert!(matches!(resolve(args, Environment::default()), Err(SettingsError::NoToken(_))));
        let args =
            ConnectionArgs { server: Some("https://prod.example/".into()), ..ConnectionArgs::default() };
        assert_eq!(
            resolve(args, Environment::default()).unwrap(),
            pair("https://prod.example", "prod-token")
        );
    }

    #[test]
    fn authorities_come_with_their_context() {
        let args = ConnectionArgs { context: Some("test".into()), ..ConnectionArgs::default() };
        let target = Target::resolve(&args, &Environment::default(), &config()).unwrap();
        assert_eq!(target.cacert, Some("/test.pem".into()));
    }

    #[test]
    fn nothing_known_says_what_to_do() {
        let args = ConnectionArgs::default();
        let error = Target::resolve(&args, &Environment::default(), &Config::default()).unwrap_err();
        assert!(error.to_string().contains("koder dns login"), "{error}");
        let environment = Environment { context: Some("gone".into()), ..Environment::default() };
        assert!(matches!(resolve(args, environment), Err(SettingsError::NoContext(_))));
    }

    #[test]
    fn the_config_file_has_its_place() {
        let home = Environment { home: Some("/home/me".into()), ..Environment::default() };
        let path = |environment: &Environment| environment.config_path().unwrap();
        assert_eq!(path(&home), Path::new("/home/me/.config/koder/config.toml"));
        let xdg = Environment { xdg_config_home: Some("/xdg".into()), ..home };
        assert_eq!(path(&xdg), Path::new("/xdg/koder/config.toml"));
        let given = Environment { config: Some("/x.toml".into()), ..xdg };
        assert_eq!(path(&given), Path::new("/x.toml"));
        assert!(Environment::default().config_path().is_err());
    }
}
