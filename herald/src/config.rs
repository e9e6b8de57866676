//! What the daemon is told at its start: by arguments, and by a file for what isn't given as one.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use herald_wire::api::query_log::QueryLogAddresses;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use crate::notify::Mail;
use crate::stats::Retention;

const DEFAULT_LISTEN: &str = "127.0.0.1:8053";
const DEFAULT_POP_LISTEN: &str = "127.0.0.1:8054";

/// More than a year, so that what was done a year ago can be looked up.
const DEFAULT_HISTORY_DAYS: u32 = 400;

/// Port of resolvers.
const DNS_PORT: u16 = 53;

/// Arguments of `herald serve`. What is left out comes from the file, and else from the defaults.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServeArgs {
    /// Directory of the store and of the first operator's token
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the HTTP API listens [default: 127.0.0.1:8053]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where PoPs are awaited [default: 127.0.0.1:8054]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub pop_listen: Option<SocketAddr>,
    /// Certificate chain of the HTTP API, PEM; needed unless it listens on loopback
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the HTTP API, PEM
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Certificate chain for PoPs, PEM; needed unless they are awaited on loopback
    #[arg(long, value_name = "FILE")]
    pub pop_tls_cert: Option<PathBuf>,
    /// Private key for PoPs, PEM
    #[arg(long, value_name = "FILE")]
    pub pop_tls_key: Option<PathBuf>,
    /// Resolver for proofs and checks, instead of those of /etc/resolv.conf; may be repeated
    #[arg(long, value_name = "IP[:PORT]")]
    #[serde(default)]
    pub resolver: Vec<String>,
    /// For how many days the past is kept: zones as they were, and who changed what [default: 400]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub history_days: Option<u32>,
    /// For how many days counts of queries are kept by minute [default: 2]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub stats_minutes_days: Option<u32>,
    /// For how many days counts of queries are kept by hour [default: 60]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub stats_hours_days: Option<u32>,
    /// For how many days counts of queries are kept by day [default: 800]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub stats_days_days: Option<u32>,
    /// How much of clients' addresses query logs keep: all of them, or the first 24 bits (IPv4) and 48 bits (IPv6) [default: whole]
    #[arg(long, value_name = "HOW")]
    pub query_log_addresses: Option<Addresses>,
    /// Relay for e-mail: smtps://HOST, smtp://HOST:587?tls=required, or smtp://HOST without TLS; none is sent without one
    #[arg(long, value_name = "URL")]
    pub mail_relay: Option<String>,
    /// Who e-mail is from, such as 'Koder Herald <dns@example.com>'
    #[arg(long, value_name = "ADDRESS")]
    pub mail_from: Option<String>,
    /// User at the mail relay
    #[arg(long, value_name = "NAME")]
    pub mail_user: Option<String>,
    /// File with the user's password at the mail relay
    #[arg(long, value_name = "FILE")]
    pub mail_password_file: Option<PathBuf>,
    /// A TOML file with the same settings (`pop-listen = "…"`)
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// How much of clients' addresses query logs keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Addresses {
    /// All of them
    Whole,
    /// The first 24 bits (IPv4) and 48 bits (IPv6)
    Prefixes,
}

/// All that the daemon is told, checked.
#[derive(Clone)]
pub struct Config {
    /// Directory of the store and of the first operator's token.
    pub data_dir: PathBuf,
    /// Where the HTTP API listens.
    pub listen: SocketAddr,
    /// Where PoPs are awaited.
    pub pop_listen: SocketAddr,
    /// TLS of the HTTP API.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// TLS for PoPs.
    pub pop_tls: Option<Arc<rustls::ServerConfig>>,
    /// Resolvers for proofs and checks; none: those of `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// For how many days the past is kept.
    pub history_days: u32,
    /// For how long counts of queries are kept.
    pub stats: Retention,
    /// How much of clients' addresses query logs keep.
    pub query_log_addresses: QueryLogAddresses,
    /// Relay for e-mail.
    pub mail: Option<Mail>,
}

/// What is wrong with the settings, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the settings in {} can't be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the settings in {} are not right: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// No directory.
    #[error("say where the data is to be kept: --data DIR")]
    NoData,
    /// The past of no time at all.
    #[error("history-days is at least 1")]
    NoHistory,
    /// Half of a pair.
    #[error("--{0}-cert and --{0}-key go together: give both or none")]
    HalfTls(&'static str),
    /// Open to a network and in the clear.
    #[error(
        "{address} is not a loopback address, and tokens would cross the network in the clear: \
         give --{option}-cert and --{option}-key, or listen on 127.0.0.1 behind a proxy that does TLS"
    )]
    TlsNeeded {
        /// The listener.
        address: SocketAddr,
        /// What its options begin with.
        option: &'static str,
    },
    /// Certificate or key can't be used.
    #[error("the TLS certificate or key in {} can't be used: {detail}", path.display())]
    BadTls {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The mail relay can't be used.
    #[error("e-mail: {0}")]
    BadMail(String),
    /// No address of a resolver.
    #[error("`{0}` is no resolver: give an IP address, with a port if it isn't 53")]
    BadResolver(String),
}

impl Config {
    /// Puts arguments, file and defaults together and checks them.
    ///
    /// # Errors
    /// [`ConfigError`] says what to do.
    pub fn load(args: ServeArgs) -> Result<Config, ConfigError> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => ServeArgs::default(),
        };
        let listen = args.listen.or(file.listen).unwrap_or_else(|| literal(DEFAULT_LISTEN));
        let pop_listen = args.pop_listen.or(file.pop_listen).unwrap_or_else(|| literal(DEFAULT_POP_LISTEN));
        let tls = load_tls("tls", listen, args.tls_cert.or(file.tls_cert), args.tls_key.or(file.tls_key))?;
        let pop_tls = load_tls(
            "pop-tls",
            pop_listen,
            args.pop_tls_cert.or(file.pop_tls_cert),
            args.pop_tls_key.or(file.pop_tls_key),
        )?;
        let default = Retention::default();
        // None at all is one: the present day is kept.
        let days = |days: Option<u32>, default: u64| days.map_or(default, |days| u64::from(days).max(1));
        let resolvers = if args.resolver.is_empty() { file.resolver } else { args.resolver };
        let mail = load_mail(
            args.mail_relay.or(file.mail_relay),
            args.mail_from.or(file.mail_from),
            args.mail_user.or(file.mail_user),
            args.mail_password_file.or(file.mail_password_file),
        )?;
        let addresses = args.query_log_addresses.or(file.query_log_addresses);
        Ok(Config {
            query_log_addresses: match addresses.unwrap_or(Addresses::Whole) {
                Addresses::Whole => QueryLogAddresses::Whole,
                Addresses::Prefixes => QueryLogAddresses::Prefixes,
            },
            mail,
            data_dir: args.data.or(file.data).ok_or(ConfigError::NoData)?,
            listen,
            pop_listen,
            tls,
            pop_tls,
            history_days: history_days(args.history_days.or(file.history_days))?,
            stats: Retention {
                minutes_days: days(args.stats_minutes_days.or(file.stats_minutes_days), default.minutes_days),
                hours_days: days(args.stats_hours_days.or(file.stats_hours_days), default.hours_days),
                days_days: days(args.stats_days_days.or(file.stats_days_days), default.days_days),
            },
            resolvers: resolvers.into_iter().map(parse_resolver).collect::<Result<_, _>>()?,
        })
    }
}

/// The data directory alone, for commands that need nothing else.
///
/// # Errors
/// [`ConfigError`] if neither names it, or the file is not right.
pub fn data_dir(data: Option<PathBuf>, file: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let named = match (data, file) {
        (Some(data), _) => Some(data),
        (None, Some(file)) => read_file(file)?.data,
        (None, None) => None,
    };
    named.ok_or(ConfigError::NoData)
}

/// For how many days the past is kept.
fn history_days(days: Option<u32>) -> Result<u32, ConfigError> {
    match days.unwrap_or(DEFAULT_HISTORY_DAYS) {
        0 => Err(ConfigError::NoHistory),
        days => Ok(days),
    }
}

fn literal(address: &str) -> SocketAddr {
    address.parse().expect("a literal")
}

fn read_file(path: &Path) -> Result<ServeArgs, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
    toml::from_str(&text)
        .map_err(|source| ConfigError::Malformed { path: path.into(), source: Box::new(source) })
}

fn parse_resolver(text: String) -> Result<SocketAddr, ConfigError> {
    let with_port = || text.parse().ok();
    let without = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    with_port().or_else(without).ok_or(ConfigError::BadResolver(text))
}

fn load_mail(
    relay: Option<String>,
    from: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
) -> Result<Option<Mail>, ConfigError> {
    let bad = |detail: &str| ConfigError::BadMail(detail.into());
    let (relay, from) = match (relay, from) {
        (Some(relay), Some(from)) => (relay, from),
        (None, None) if user.is_none() && password_file.is_none() => return Ok(None),
        _ => return Err(bad("mail-relay and mail-from go together: give both or none")),
    };
    let credentials = match (user, password_file) {
        (None, None) => None,
        (Some(user), Some(path)) => {
            let password = std::fs::read_to_string(&path)
                .map_err(|e| bad(&format!("the password in {} can't be read: {e}", path.display())))?;
            Some((user, password.trim_end_matches(['\r', '\n']).to_owned()))
        }
        _ => return Err(bad("mail-user and mail-password-file go together: give both or none")),
    };
    Mail::new(&relay, &from, credentials).map(Some).map_err(ConfigError::BadMail)
}

fn load_tls(
    option: &'static str,
    address: SocketAddr,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<Arc<rustls::ServerConfig>>, ConfigError> {
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) if address.ip().is_loopback() => return Ok(None),
        (None, None) => return Err(ConfigError::TlsNeeded { address, option }),
        _ => return Err(ConfigError::HalfTls(option)),
    };
    let bad = |path: &Path, detail: String| ConfigError::BadTls { path: path.into(), detail };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&cert)
        .and_then(Iterator::collect)
        .map_err(|e| bad(&cert, e.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|e| bad(&key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|e| bad(&cert, e.to_string()))?;
    if option == "tls" {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    Ok(Some(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(extra: ServeArgs) -> ServeArgs {
        ServeArgs { data: Some("/nowhere".into()), ..extra }
    }

    fn error(args: ServeArgs) -> String {
        Config::load(args).err().expect("an error").to_string()
    }

    #[test]
    fn defaults_are_loopback_without_tls() {
        let config = Config::load(args(ServeArgs::default())).unwrap();
        assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
        assert!(config.tls.is_none() && config.pop_tls.is_none() && config.resolvers.is_empty());
        assert!(error(ServeArgs::default()).contains("--data"));
    }

    #[test]
    fn the_packaged_file_is_right() {
        let file =
            read_file(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/herald.toml"))).unwrap();
        assert_eq!(file.data.as_deref(), Some(Path::new("/var/lib/koder-herald")));
        // It asks for no certificate that isn't there, and for all that an open network needs.
        let said = error(file);
        assert!(said.contains("/etc/koder-herald/api.pem"), "{said}");
    }

    #[test]
    fn the_open_network_needs_tls() {
        let open: Option<SocketAddr> = Some("0.0.0.0:1".parse().unwrap());
        let said = error(args(ServeArgs { listen: open, ..ServeArgs::default() }));
        assert!(said.contains("0.0.0.0:1") && said.contains("--tls-cert"), "{said}");
        let said = error(args(ServeArgs { pop_listen: open, ..ServeArgs::default() }));
        assert!(said.contains("--pop-tls-cert"), "{said}");
        let said = error(args(ServeArgs { tls_key: Some("k".into()), ..ServeArgs::default() }));
        assert!(said.contains("go together"), "{said}");
        let missing = ServeArgs {
            tls_key: Some("/no/k".into()),
            tls_cert: Some("/no/c".into()),
            ..ServeArgs::default()
        };
        assert!(error(args(missing)).contains("/no/c"));
    }

    #[test]
    fn a_file_fills_what_arguments_leave_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("herald.toml");
        std::fs::write(
            &path,
            "data = '/d'\nlisten = '127.0.0.1:1'\npop-listen = '127.0.0.1:2'\n\
             resolver = ['192.0.2.1', '[2001:db8::1]:5353']\n",
        )
        .unwrap();
        let listen = Some("127.0.0.1:9".parse().unwrap());
        let config =
            Config::load(ServeArgs { listen, config: Some(path.clone()), ..ServeArgs::default() }).unwrap();
        assert_eq!(config.listen.port(), 9);
        assert_eq!(config.pop_listen.port(), 2);
        let resolvers: Vec<String> = config.resolvers.iter().map(ToString::to_string).collect();
        assert_eq!(resolvers, ["192.0.2.1:53", "[2001:db8::1]:5353"]);
        std::fs::write(&path, "date = 1\n").unwrap();
        assert!(error(ServeArgs { config: Some(path), ..ServeArgs::default() }).contains("date"));
        let bad = ServeArgs { resolver: vec!["dns.example".into()], ..ServeArgs::default() };
        assert!(error(args(bad)).contains("dns.example"));
    }
}
