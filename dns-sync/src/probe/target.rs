//! Where a probe goes: addresses that may be probed, or a word why not.
//!
//! Each address is judged right before it is connected to, and it is that very address which is connected to: a name that leads
//! elsewhere the next moment (DNS rebinding) changes nothing.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use domain::base::Rtype;
use herald_core::Name;
use herald_core::special::AddressRules;
use tokio::net::{TcpStream, lookup_host};

use super::dns;
use super::pace::Outcome;

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Names whose addresses are remembered.
const NAMES_MAX: usize = 10_000;

/// How long what the system's resolver says is good, as it doesn't tell; and the longest for any.
const SYSTEM_TTL: Duration = Duration::from_secs(2);
const TTL_MAX: Duration = Duration::from_secs(30);

/// Who is asked for the addresses of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolver {
    /// The system's.
    #[default]
    System,
    /// A recursive resolver.
    At(SocketAddr),
}

/// Finds targets.
pub(super) struct Targets {
    resolver: Resolver,
    rules: RwLock<AddressRules>,
    known: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

impl Targets {
    pub(super) fn new(resolver: Resolver) -> Targets {
        Targets { resolver, rules: RwLock::default(), known: Mutex::default() }
    }

    pub(super) fn set_rules(&self, rules: AddressRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Addresses of an address or a name, all of which may be probed.
    ///
    /// # Errors
    /// What came of the probe: a name without addresses is a bad one; where an address may not be probed, nothing can be told.
    pub(super) async fn addresses(&self, target: &str, port: u16) -> Result<Vec<SocketAddr>, Outcome> {
        let addresses = match target.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.resolve(target).await.map_err(|why| Outcome::Bad(format!("{target}: {why}")))?,
        };
        if addresses.is_empty() {
            return Err(Outcome::Bad(format!("{target} has no address")));
        }
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        for address in &addresses {
            if let Some(what) = rules.refused(*address) {
                return Err(Outcome::Unable(format!("{target}: {address} is not probed: {what}")));
            }
        }
        Ok(addresses.into_iter().take(ADDRESSES_MAX).map(|address| SocketAddr::new(address, port)).collect())
    }

    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some((until, addresses)) = known().get(&key)
            && Instant::now() < *until
        {
            return Ok(addresses.clone());
        }
        let (addresses, ttl) = match self.resolver {
            Resolver::System => {
                let found = lookup_host((name, 0)).await?;
                (found.map(|address| address.ip()).collect(), SYSTEM_TTL)
            }
            Resolver::At(server) => ask(server, name).await?,
        };
        let mut known = known();
        if known.len() >= NAMES_MAX {
            let now = Instant::now();
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() < NAMES_MAX {
            known.insert(key, (Instant::now() + ttl.min(TTL_MAX), addresses.clone()));
        }
        Ok(addresses)
    }
}

async fn ask(server: SocketAddr, name: &str) -> io::Result<(Vec<IpAddr>, Duration)> {
    let name =
        Name::parse(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    let (v4, v6) =
        tokio::join!(dns::ask(server, &name, Rtype::A, true), dns::ask(server, &name, Rtype::AAAA, true));
    let (mut addresses, mut ttl_s) = (Vec::new(), u32::MAX);
    let (v4, v6) = match (v4, v6) {
        (Err(error), Err(_)) => return Err(error),
        (v4, v6) => (v4.ok(), v6.ok()),
    };
    for (rtype, record_ttl_s, rdata) in [v4, v6].into_iter().flatten().flat_map(|answer| answer.records) {
        // Aliases on the way bound it too.
        ttl_s = ttl_s.min(record_ttl_s);
        match rtype {
            Rtype::A => addresses.extend(<[u8; 4]>::try_from(rdata).map(IpAddr::from).ok()),
            Rtype::AAAA => addresses.extend(<[u8; 16]>::try_from(rdata).map(IpAddr::from).ok()),
            _ => {}
        }
    }
    Ok((addresses, Duration::from_secs(ttl_s.into())))
}

/// Connects to the first of these that takes a connection; `within` is the time for all.
pub(super) async fn connect(addresses: &[SocketAddr], within: Duration) -> Result<TcpStream, Outcome> {
    let until = tokio::time::Instant::now() + within;
    let mut why = String::new();
    for (place, address) in addresses.iter().enumerate() {
        // One that never answers leaves time for those after it.
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let share = left / u32::try_from(addresses.len() - place).unwrap_or(1);
        why = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: no connection in {} ms", share.as_millis()),
        };
    }
    Err(Outcome::Bad(why))
}
