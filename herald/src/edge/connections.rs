//! Connections that are open, so that there are never too many: when there is no room, the one that has been idle for longest
//! makes it. Whoever opens connections and says nothing is in nobody's way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// From one address (a /64 of IPv6). Loopback has no such limit: a proxy may be there, and behind it anybody.
    pub per_address: usize,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits { total: 4096, per_address: 512 }
    }
}

/// The open connections.
pub struct Connections {
    limits: ConnectionLimits,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    open: HashMap<u64, Entry>,
    /// Idle ones, by when they became so; the number is the order of becoming so.
    idle: BTreeMap<u64, u64>,
    idle_by_network: BTreeSet<(IpAddr, u64)>,
    open_by_network: HashMap<IpAddr, usize>,
}

struct Entry {
    network: IpAddr,
    /// Requests that run; without any it is idle since this.
    running: u32,
    idle_since: u64,
    ended: CancellationToken,
}

impl Connections {
    /// None yet.
    pub fn new(limits: ConnectionLimits) -> Arc<Connections> {
        Arc::new(Connections { limits, table: Mutex::default() })
    }

    /// Room for one more from this address; none if all that could make room are at work.
    pub fn admit(self: &Arc<Connections>, address: IpAddr) -> Option<Connection> {
        let network = network(address);
        let mut table = self.table();
        let of_network = table.open_by_network.get(&network).copied().unwrap_or(0);
        if !network.is_loopback() && of_network >= self.limits.per_address {
            let longest = table.idle_by_network.range((network, 0)..=(network, u64::MAX)).next();
            let id = longest.and_then(|(_, since)| table.idle.get(since)).copied()?;
            table.end(id);
        } else if table.open.len() >= self.limits.total {
            let id = table.idle.first_key_value().map(|(_, id)| *id)?;
            table.end(id);
        }
        table.last_id += 1;
        let (id, ended) = (table.last_id, CancellationToken::new());
        *table.open_by_network.entry(network).or_default() += 1;
        let entry = Entry { network, running: 0, idle_since: 0, ended: ended.clone() };
        table.open.insert(id, entry);
        table.rest(id);
        Some(Connection { connections: Arc::clone(self), id, ended })
    }

    /// Ends the one that has been idle for longest, where even accepting one fails.
    pub fn end_longest_idle(&self) {
        let mut table = self.table();
        if let Some(id) = table.idle.first_key_value().map(|(_, id)| *id) {
            table.end(id);
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics with it")
    }
}

impl Table {
    /// It is idle from now on.
    fn rest(&mut self, id: u64) {
        // Ids and orders of becoming idle are of one sequence, so that each is used once.
        self.last_id += 1;
        let since = self.last_id;
        if let Some(entry) = self.open.get_mut(&id) {
            entry.idle_since = since;
            self.idle.insert(since, id);
            self.idle_by_network.insert((entry.network, since));
        }
    }

    fn end(&mut self, id: u64) {
        let Some(entry) = self.open.remove(&id) else { return };
        entry.ended.cancel();
        self.idle.remove(&entry.idle_since);
        self.idle_by_network.remove(&(entry.network, entry.idle_since));
        if let Some(count) = self.open_by_network.get_mut(&entry.network) {
            *count -= 1;
            if *count == 0 {
                self.open_by_network.remove(&entry.network);
            }
        }
    }
}

/// An address as it is counted: whoever has an IPv6 address mostly has its whole /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))
        }
        other => other,
    }
}

/// An open connection; it is counted until this is dropped.
pub struct Connection {
    connections: Arc<Connections>,
    id: u64,
    ended: CancellationToken,
}

impl Connection {
    /// A request begins; it runs until what this gives is dropped.
    pub fn begin(self: &Arc<Connection>) -> Running {
        let mut table = self.connections.table();
        let table = &mut *table;
        if let Some(entry) = table.open.get_mut(&self.id) {
            entry.running += 1;
            table.idle.remove(&entry.idle_since);
            table.idle_by_network.remove(&(entry.network, entry.idle_since));
        }
        Running(Arc::clone(self))
    }

    /// Whether a request runs.
    pub fn is_running(&self) -> bool {
        self.connections.table().open.get(&self.id).is_some_and(|entry| entry.running > 0)
    }

    /// Waits until it has to make room.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.table().end(self.id);
    }
}

/// A request that runs, up to the end of its answer.
pub struct Running(Arc<Connection>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut table = self.0.connections.table();
        let id = self.0.id;
        let Some(entry) = table.open.get_mut(&id) else { return };
        entry.running -= 1;
        if entry.running == 0 {
            table.rest(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ended(connection: &Connection) -> bool {
        connection.ended.is_cancelled()
    }

    fn admit(connections: &Arc<Connections>, address: &str) -> Option<Arc<Connection>> {
        connections.admit(address.parse().unwrap()).map(Arc::new)
    }

    #[test]
    fn the_longest_idle_makes_room() {
        let connections = Connections::new(ConnectionLimits { total: 3, per_address: 2 });
        let a = admit(&connections, "192.0.2.1").unwrap();
        let b = admit(&connections, "192.0.2.2").unwrap();
        let c = admit(&connections, "192.0.2.3").unwrap();
        // By a request the first becomes the one that was idle least.
        drop(a.begin());
        let d = admit(&connections, "192.0.2.4").unwrap();
        assert!(is_ended(&b) && !is_ended(&a) && !is_ended(&c));
        // What runs is left alone, and if all do there is no room.
        let runs = [a.begin(), c.begin(), d.begin()];
        assert!(admit(&connections, "192.0.2.5").is_none());
        drop(runs);
        let _e = admit(&connections, "192.0.2.5").unwrap();
        assert_eq!([&a, &c, &d].map(|one| is_ended(one)), [true, false, false]);
        // One that ended is not there any more, whatever it does yet.
        drop(a.begin());
        drop((a, b, c, d));
        let table = connections.table();
        assert_eq!((table.open.len(), table.idle.len(), table.idle_by_network.len()), (1, 1, 1));
        assert_eq!(table.open_by_network.len(), 1);
    }

    #[test]
    fn an_address_has_a_share() {
        let connections = Connections::new(ConnectionLimits { total: 100, per_address: 2 });
        let other = admit(&connections, "198.51.100.1").unwrap();
        let first = admit(&connections, "2001:db8::1").unwrap();
        let second = admit(&connections, "2001:db8::2").unwrap();
        let runs = first.begin();
        let third = admit(&connections, "2001:db8::3").unwrap();
        assert!(is_ended(&second) && !is_ended(&first) && !is_ended(&other));
        let also_runs = third.begin();
        assert!(admit(&connections, "2001:db8::4").is_none());
        assert!(admit(&connections, "2001:db8:0:1::4").is_some());
        drop((runs, also_runs));
        assert!(admit(&connections, "2001:db8::4").is_some());
        // A proxy on this machine.
        let local: Vec<_> = (0..50).map(|_| admit(&connections, "127.0.0.1").unwrap()).collect();
        assert!(local.iter().all(|one| !is_ended(one)));
    }
}
