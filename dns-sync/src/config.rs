//! `agent.toml`: what an operator tells the agent.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use herald_core::steering::Prefix;
use serde::Deserialize;

use crate::counts::ApiPlace;
use crate::knot::config::{KnotConfig, LogTarget, RateLimit};
use crate::probe::Resolver;

const DEFAULT_KNOTD: &str = "/usr/sbin/knotd";

/// Where the module is, if it isn't beside this program.
const DEFAULT_MODULE: &str = "/usr/lib/koder-herald/herald.so";

/// Names of the module beside this program: as it is shipped, and as it is built.
const MODULE_FILES: [&str; 2] = ["herald.so", "libherald_so.so"];

/// The longest path that a Unix socket can have.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pop: String,
    secret_file: PathBuf,
    herald: Option<String>,
    #[serde(default)]
    heralds: Vec<String>,
    tls_ca: Option<PathBuf>,
    tls_name: Option<String>,
    api: Option<String>,
    data: PathBuf,
    #[serde(default)]
    stop_knot_on_exit: bool,
    resolver: Option<String>,
    alias_resolvers: Option<Vec<String>>,
    knot: KnotFile,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnotFile {
    #[serde(default)]
    mode: Mode,
    listen: Vec<String>,
    knotd: Option<PathBuf>,
    module: Option<PathBuf>,
    /// For tests alone: draws follow from the ids of queries, so that who sends these chooses the answers.
    #[serde(default)]
    known_draws: bool,
    user: Option<String>,
    log: Option<PathBuf>,
    udp_workers: Option<u16>,
    tcp_workers: Option<u16>,
    background_workers: Option<u16>,
    /// Responses a second to a network by datagrams, before they are truncated; none: there is no limit.
    rate_limit: Option<u32>,
    /// Networks that the limit isn't for.
    #[serde(default)]
    rate_limit_except: Vec<String>,
}

/// Who runs knotd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The agent: it starts knotd, and starts it again.
    #[default]
    Supervise,
    /// Somebody else (systemd), who runs `koder-dns-sync materialize` before each start.
    Attach,
}

/// The credential of the PoP. It shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The credential itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// All that the agent is told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the PoP.
    pub pop: String,
    /// Where its credential is; read anew with each session.
    pub secret_file: PathBuf,
    /// Addresses of the control plane, `host:port`, tried in turn.
    pub heralds: Vec<String>,
    /// Certificates that the control plane's is to be signed by, PEM: those of a CA, of your own or of the system, or the control plane's
    /// own if it signed itself and is no CA (`basicConstraints=CA:FALSE`). Without it only loopback addresses are dialled, in the clear.
    pub tls_ca: Option<PathBuf>,
    /// The name in the control plane's certificate, if it isn't the host that is dialled.
    pub tls_name: Option<String>,
    /// Where the control plane's HTTP API is, which counts of queries go to; none: where the session says, on the host that is dialled.
    pub api: Option<ApiPlace>,
    /// Directory of the replica, of knotd's files, of the lock and of the status socket.
    pub data: PathBuf,
    /// Whether knotd ends with the agent.
    ///
    /// It doesn't by default: an agent that is stopped must not stop the answers, and the next one goes on with the knotd it finds.
    pub stop_knot_on_exit: bool,
    /// Who is asked for the addresses of what is probed.
    pub resolver: Resolver,
    /// Who is asked for targets of ALIAS records, in turn: those named for it, or else the one above. With none this PoP isn't chosen to
    /// resolve any.
    pub alias_resolvers: Vec<SocketAddr>,
    /// Who runs knotd.
    pub mode: Mode,
    /// The program.
    pub knotd: PathBuf,
    /// knotd's configuration.
    pub knot: KnotConfig,
}

/// What is wrong with the configuration, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration {} can't be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration {} is not right: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// No control plane, or one twice.
    #[error("give the address of the control plane: herald = \"HOST:PORT\", or heralds = [\"HOST:PORT\", …]")]
    NoHerald,
    /// No address of a control plane.
    #[error("`{0}` is no address of a control plane: give HOST:PORT")]
    BadHerald(String),
    /// In the clear over a network.
    #[error(
        "{0} is not on loopback, and the credential would cross the network in the clear: give tls_ca = \"FILE\""
    )]
    TlsNeeded(String),
    /// No address of the HTTP API.
    #[error("`{0}` is no address of the HTTP API: give https://HOST:PORT")]
    BadApi(String),
    /// knotd has no address.
    #[error("knotd needs an address to answer on: listen = [\"192.0.2.1@53\"] in [knot]")]
    NoListen,
    /// No address to answer on.
    #[error("`{0}` is no address to answer on: give ADDRESS@PORT, such as 192.0.2.1@53")]
    BadListen(String),
    /// No address of a resolver.
    #[error("`{0}` is no address of a resolver: give ADDRESS@PORT, such as 192.0.2.53@53")]
    BadResolver(String),
    /// knotd can't be given such a user.
    #[error("`{0}` is no user: give `user` or `user:group`")]
    BadUser(String),
    /// The module isn't there.
    #[error("the module {} can't be read: {source}", path.display())]
    NoModule {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No limit, said in a wrong way.
    #[error("rate_limit is 1 response a second or more; leave it out to have no limit")]
    BadRateLimit,
    /// No network.
    #[error("rate_limit_except: {0}")]
    BadPrefix(String),
    /// The PoP's name goes into knotd's configuration.
    #[error("`{0}` is no name of a PoP: give letters, digits, hyphens, dots and underscores")]
    BadPop(String),
    /// The control socket would have too long a path.
    #[error(
        "the data directory's path is too long: {} can't be a socket, which {SOCKET_PATH_BYTES_MAX} octets are the limit for",
        path.display()
    )]
    PathTooLong {
        /// The socket.
        path: PathBuf,
    },
}

/// Why the credential can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("the PoP's credential in {} can't be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Everybody can read it.
    #[error("everybody on this machine can read the PoP's credential: chmod 600 {}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("the PoP's credential in {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Config {
    /// Reads and checks the file. Relative paths in it are relative to where it is.
    ///
    /// # Errors
    /// [`ConfigError`] says what to do.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.into(), source };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let file: File = toml::from_str(&text)
            .map_err(|source| ConfigError::Malformed { path: path.into(), source: Box::new(source) })?;
        let base = std::path::absolute(path).map_err(unreadable)?;
        check(file, base.parent().unwrap_or(Path::new("/")))
    }

    /// The credential.
    ///
    /// # Errors
    /// [`SecretError`] if it can't be read, or others can read it.
    pub fn secret(&self) -> Result<Secret, SecretError> {
        let path = &self.secret_file;
        let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
        let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(SecretError::Exposed { path: path.clone() });
        }
        let secret = fs::read_to_string(path).map_err(unreadable)?.trim().to_owned();
        if secret.is_empty() {
            return Err(SecretError::Empty { path: path.clone() });
        }
        Ok(Secret(secret))
    }

    /// Directory of the replica.
    pub fn replica_dir(&self) -> PathBuf {
        self.data.join("replica")
    }

    /// Where counts are that aren't confirmed.
    pub fn counts_file(&self) -> PathBuf {
        self.data.join("counts.sqlite")
    }

    /// Where verdicts are: the module reads them, too, when knotd starts.
    pub fn verdicts_file(&self) -> PathBuf {
        steering::link::verdicts_file(&self.knot.module_snapshot())
    }

    /// The socket at which the agent tells how it is.
    pub fn status_socket(&self) -> PathBuf {
        self.data.join("status.sock")
    }
}

fn check(file: File, base: &Path) -> Result<Config, ConfigError> {
    let heralds = match (file.herald, file.heralds) {
        (Some(one), more) if more.is_empty() => vec![one],
        (None, more) if !more.is_empty() => more,
        _ => return Err(ConfigError::NoHerald),
    };
    for herald in &heralds {
        let host = herald_host(herald).ok_or_else(|| ConfigError::BadHerald(herald.clone()))?;
        let is_loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !is_loopback && file.tls_ca.is_none() {
            return Err(ConfigError::TlsNeeded(herald.clone()));
        }
    }

    let api = file.api.map(|url| ApiPlace::parse(&url).ok_or(ConfigError::BadApi(url))).transpose()?;
    let data = base.join(file.data);
    let mut listen = Vec::new();
    for text in &file.knot.listen {
        listen.push(parse_listen(text).ok_or_else(|| ConfigError::BadListen(text.clone()))?);
    }
    if listen.is_empty() {
        return Err(ConfigError::NoListen);
    }
    let mut knot = KnotConfig::new(data.join("knot"), listen);
    knot.user = file.knot.user.map(checked_user).transpose()?;
    knot.log = file.knot.log.map_or(LogTarget::Stderr, |path| LogTarget::File(base.join(path)));
    knot.udp_workers = file.knot.udp_workers;
    knot.tcp_workers = file.knot.tcp_workers;
    knot.background_workers = file.knot.background_workers;
    if !file.pop.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Err(ConfigError::BadPop(file.pop));
    }
    knot.pop.clone_from(&file.pop);
    knot.known_draws = file.knot.known_draws;
    knot.rate_limit = match (file.knot.rate_limit, file.knot.rate_limit_except) {
        (None, _) => None,
        (Some(0), _) => return Err(ConfigError::BadRateLimit),
        (Some(per_s), except) => {
            let except = except.iter().map(|text| {
                text.parse::<Prefix>().map_err(|error| ConfigError::BadPrefix(error.to_string()))
            });
            Some(RateLimit { per_s, except: except.collect::<Result<_, _>>()? })
        }
    };
    knot.module = match file.knot.module {
        None => default_module(),
        Some(path) => {
            let path = base.join(path);
            match fs::File::open(&path) {
                Ok(_) => Some(path),
                Err(source) => return Err(ConfigError::NoModule { path, source }),
            }
        }
    };
    // The longest one.
    let path = knot.module_socket();
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(ConfigError::PathTooLong { path });
    }
    let resolver = |text: &String| parse_listen(text).ok_or_else(|| ConfigError::BadResolver(text.clone()));
    let named = file.resolver.as_ref().map(resolver).transpose()?;
    let alias_resolvers = match &file.alias_resolvers {
        Some(texts) => texts.iter().map(resolver).collect::<Result<_, _>>()?,
        None => named.into_iter().collect(),
    };
    Ok(Config {
        pop: file.pop,
        secret_file: base.join(file.secret_file),
        heralds,
        tls_ca: file.tls_ca.map(|path| base.join(path)),
        tls_name: file.tls_name,
        api,
        data,
        stop_knot_on_exit: file.stop_knot_on_exit,
        resolver: named.map_or(Resolver::System, Resolver::At),
        alias_resolvers,
        mode: file.knot.mode,
        knotd: file.knot.knotd.unwrap_or_else(|| DEFAULT_KNOTD.into()),
        knot,
    })
}

/// The module beside this program, or where packages put it.
fn default_module() -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent).map(Path::to_owned);
    let beside = beside.into_iter().flat_map(|dir| MODULE_FILES.map(|file| dir.join(file)));
    beside.chain([DEFAULT_MODULE.into()]).find(|path| path.is_file())
}

/// The host of `host:port`, brackets taken off.
pub(crate) fn herald_host(herald: &str) -> Option<&str> {
    let (host, port) = herald.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

/// `address@port`, as knotd has it; the port of DNS if there is none.
fn parse_listen(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once('@').unwrap_or((text, "53"));
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
}

/// The user goes into knotd's configuration as it is.
fn checked_user(user: String) -> Result<String, ConfigError> {
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    match user.split_once(':').map_or(is_name(&user), |(user, group)| is_name(user) && is_name(group)) {
        true => Ok(user),
        false => Err(ConfigError::BadUser(user)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        pop = "fra1"
        secret_file = "secret"
        herald = "127.0.0.1:8054"
        data = "data"
        [knot]
        listen = ["127.0.0.1@5301", "::1@5301"]
    "#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    fn error(text: &str) -> String {
        load(text).unwrap_err().to_string()
    }

    #[test]
    fn the_packaged_file_is_right() {
        let config = load(include_str!("../../packaging/agent.toml")).unwrap();
        assert_eq!((config.pop.as_str(), config.mode), ("fra1", Mode::Supervise));
        let unit = include_str!("../../packaging/koder-dns-sync.service");
        assert!(unit.contains("\nLoadCredential=secret:"), "agent.toml names it");
        assert!(
            unit.contains("\nStateDirectory=koder-dns-sync\n") && config.data.ends_with("koder-dns-sync")
        );
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.heralds, ["127.0.0.1:8054"]);
        assert_eq!((config.mode, config.stop_knot_on_exit), (Mode::Supervise, false));
        assert_eq!(config.knotd, Path::new(DEFAULT_KNOTD));
        assert_eq!(config.knot.listen[1], "[::1]:5301".parse().unwrap());
        assert!(config.data.is_absolute() && config.data.ends_with("data"));
        assert!(config.knot.base.starts_with(&config.data));
    }

    #[test]
    fn errors_say_what_to_do() {
        assert!(error(&GOOD.replace("pop =", "pob =")).contains("pob"));
        assert!(error(&GOOD.replace("herald =", "# herald =")).contains("herald = \"HOST:PORT\""));
        assert!(error(&GOOD.replace("127.0.0.1:8054", "127.0.0.1")).contains("HOST:PORT"));
        assert!(error(&GOOD.replace("127.0.0.1:8054", "192.0.2.1:8054")).contains("tls_ca"));
        assert!(load(&GOOD.replace("127.0.0.1:8054", "[::1]:8054")).is_ok());
        assert!(error(&GOOD.replace("127.0.0.1@5301", "127.0.0.1@x")).contains("ADDRESS@PORT"));
        assert!(error(&GOOD.replace("[\"127.0.0.1@5301\", \"::1@5301\"]", "[]")).contains("listen"));
        assert!(error(&format!("{GOOD}user = \"a b\"")).contains("a b"));
        assert!(error(&GOOD.replace("\"data\"", &format!("\"/{}\"", "d".repeat(120)))).contains("too long"));
        assert!(error(&format!("{GOOD}mode = \"float\"")).contains("float"));
        let resolvers = |text: &str| load(&GOOD.replace("pop =", &format!("{text}\npop =")));
        assert!(resolvers("alias_resolvers = [\"x\"]").unwrap_err().to_string().contains("ADDRESS@PORT"));
        for (text, expected) in [
            ("", &[] as &[&str]),
            ("resolver = \"192.0.2.53\"", &["192.0.2.53:53"]),
            ("resolver = \"192.0.2.53\"\nalias_resolvers = []", &[]),
            (
                "alias_resolvers = [\"192.0.2.1@5353\", \"2001:db8::53\"]",
                &["192.0.2.1:5353", "[2001:db8::53]:53"],
            ),
        ] {
            let expected: Vec<SocketAddr> = expected.iter().map(|one| one.parse().unwrap()).collect();
            assert_eq!(resolvers(text).unwrap().alias_resolvers, expected, "{text}");
        }
    }

    #[test]
    fn a_credential_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = load(GOOD).unwrap();
        config.secret_file = dir.path().join("secret");
        assert!(config.secret().unwrap_err().to_string().contains("can't be read"));
        fs::write(&config.secret_file, "swordfish\n").unwrap();
        fs::set_permissions(&config.secret_file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(config.secret().unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&config.secret_file, fs::Permissions::from_mode(0o600)).unwrap();
        let secret = config.secret().unwrap();
        assert_eq!(secret.expose(), "swordfish");
        assert!(!format!("{secret:?}").contains("swordfish"));
        fs::write(&config.secret_file, "\n").unwrap();
        assert!(config.secret().unwrap_err().to_string().contains("empty"));
    }
}
