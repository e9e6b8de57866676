//! What waits to be sent: bounded, the oldest goes first.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use herald_core::rdata::format_rtype;
use herald_core::{Rtype, ZoneId};
use herald_wire::api::query_log::{QueryLogBatch, QueryLogEdns, QueryLogOfZone, QueryLogQuery};
use steering::counts::{Transport, rcode_name};
use steering::link::{LoggedQueries, LoggedQuery, LoggedSubnet};

/// Queries that wait at most: with ordinary names some ten megabytes.
pub(super) const WAITING_MAX: usize = 50_000;

/// Queries of one batch: with the longest names some two megabytes.
pub(super) const BATCH_QUERIES: usize = 1_000;

/// What waits. Batches are numbered, and one at a time is on its way.
pub(super) struct Queue {
    instance: u64,
    sequence: u64,
    queries: VecDeque<(ZoneId, LoggedQuery)>,
    /// Queries that were left out and weren't told of, by zone.
    left_out_of: BTreeMap<ZoneId, u64>,
    /// A batch that wasn't confirmed and may have been taken: it is sent as it was.
    unconfirmed: Option<Batch>,
    /// Queries that were sent since the agent started.
    pub sent: u64,
    /// Queries that were left out since then.
    pub left_out: u64,
}

/// What is sent at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    instance: u64,
    sequence: u64,
    zones: BTreeMap<ZoneId, (u64, Vec<LoggedQuery>)>,
}

impl Queue {
    /// Of a process with this number, drawn by chance.
    pub fn new(instance: u64) -> Queue {
        Queue {
            instance,
            sequence: 0,
            queries: VecDeque::new(),
            left_out_of: BTreeMap::new(),
            unconfirmed: None,
            sent: 0,
            left_out: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queries.is_empty() && self.left_out_of.is_empty() && self.unconfirmed.is_none()
    }

    /// Queries that wait, those of an unconfirmed batch left out.
    pub fn waiting(&self) -> usize {
        self.queries.len()
    }

    pub fn push(&mut self, of_zone: LoggedQueries) {
        let LoggedQueries { zone, left_out, queries } = of_zone;
        self.leave_out(zone, left_out);
        for query in queries {
            if self.queries.len() >= WAITING_MAX
                && let Some((oldest, _)) = self.queries.pop_front()
            {
                self.leave_out(oldest, 1);
            }
            self.queries.push_back((zone, query));
        }
    }

    fn leave_out(&mut self, zone: ZoneId, queries: u64) {
        if queries > 0 {
            *self.left_out_of.entry(zone).or_default() += queries;
            self.left_out += queries;
        }
    }

    /// What to send next; none if there is nothing. Until it is confirmed, lost or put back there is no other.
    pub fn next_batch(&mut self) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        if let Some(batch) = self.unconfirmed.take() {
            return Some(batch);
        }
        self.sequence += 1;
        let mut zones: BTreeMap<ZoneId, (u64, Vec<LoggedQuery>)> = BTreeMap::new();
        for (zone, query) in self.queries.drain(..self.queries.len().min(BATCH_QUERIES)) {
            zones.entry(zone).or_default().1.push(query);
        }
        for (zone, left_out) in std::mem::take(&mut self.left_out_of) {
            zones.entry(zone).or_default().0 = left_out;
        }
        Some(Batch { instance: self.instance, sequence: self.sequence, zones })
    }

    pub fn confirmed(&mut self, batch: &Batch) {
        self.sent += batch.queries();
    }

    /// It will never be taken.
    pub fn lost(&mut self, batch: &Batch) {
        self.left_out += batch.queries();
    }

    pub fn put_back(&mut self, batch: Batch) {
        self.unconfirmed = Some(batch);
    }
}

impl Batch {
    fn queries(&self) -> u64 {
        self.zones.values().map(|(_, queries)| queries.len() as u64).sum()
    }

    /// As the API has it.
    pub fn document(&self) -> QueryLogBatch {
        let of_zone = |(zone, (left_out, queries)): (&ZoneId, &(u64, Vec<LoggedQuery>))| QueryLogOfZone {
            zone_id: zone.to_string(),
            left_out: *left_out,
            queries: queries.iter().map(document).collect(),
        };
        QueryLogBatch {
            instance: format!("{:016x}", self.instance),
            sequence: self.sequence,
            zones: self.zones.iter().map(of_zone).collect(),
        }
    }
}

fn document(query: &LoggedQuery) -> QueryLogQuery {
    let transport = Transport::of(query.transport);
    QueryLogQuery {
        time_ms: query.time_ms,
        name: query.name.to_string(),
        rtype: match query.rtype {
            0 => "NONE".into(),
            rtype => format_rtype(Rtype::from_int(rtype)),
        },
        rcode: rcode_name(query.rcode),
        transport: transport.map_or_else(|| query.transport.to_string(), |known| known.name().into()),
        source: address(&query.source).map(|address| address.to_string()).unwrap_or_default(),
        edns: query.edns.as_ref().map(|edns| QueryLogEdns {
            udp_bytes: edns.udp_bytes,
            dnssec_ok: edns.wants_dnssec,
            client_subnet: edns.subnet.as_ref().and_then(subnet),
        }),
        answer_bytes: query.answer_bytes,
        truncated: query.is_truncated,
        dropped: query.is_dropped,
        policy: query.policy.clone(),
        pool: query.pool.clone(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => octets.try_into().ok().map(|octets: [u8; 4]| Ipv4Addr::from(octets).into()),
        _ => octets.try_into().ok().map(|octets: [u8; 16]| Ipv6Addr::from(octets).into()),
    }
}

/// None if its length is none.
fn subnet(subnet: &LoggedSubnet) -> Option<String> {
    let bits = u8::try_from(subnet.address.len() * 8).ok()?;
    (subnet.length <= bits).then_some(())?;
    Some(format!("{}/{}", address(&subnet.address)?, subnet.length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_core::Name;
    use steering::link::LoggedEdns;

    fn query(time_ms: u64) -> LoggedQuery {
        LoggedQuery {
            time_ms,
            name: Name::parse("www.example.com.").unwrap(),
            rtype: 65_280,
            rcode: 23,
            transport: 1,
            source: vec![192, 0, 2, 1],
            edns: None,
            answer_bytes: 50,
            is_truncated: false,
            is_dropped: false,
            policy: None,
            pool: None,
        }
    }

    fn of(zone: u128, left_out: u64, times: std::ops::Range<u64>) -> LoggedQueries {
        LoggedQueries { zone: ZoneId(zone), left_out, queries: times.map(query).collect() }
    }

    fn told(batch: &Batch) -> Vec<(u128, u64, usize)> {
        batch.zones.iter().map(|(zone, (left_out, queries))| (zone.0, *left_out, queries.len())).collect()
    }

    #[test]
    fn a_batch_is_sent_until_it_is_confirmed_and_never_changes() {
        let mut queue = Queue::new(7);
        assert!(queue.is_empty() && queue.next_batch().is_none());
        queue.push(of(1, 5, 0..3));
        queue.push(of(2, 0, 0..1));
        let first = queue.next_batch().unwrap();
        assert_eq!((told(&first), first.sequence), (vec![(1, 5, 3), (2, 0, 1)], 1));
        queue.push(of(1, 1, 3..5));
        queue.put_back(first.clone());
        assert_eq!(queue.next_batch().unwrap(), first, "it may have been taken");
        queue.confirmed(&first);
        let second = queue.next_batch().unwrap();
        assert_eq!((told(&second), second.sequence), (vec![(1, 1, 2)], 2));
        queue.lost(&second);
        assert!(queue.is_empty());
        assert_eq!((queue.sent, queue.left_out), (4, 5 + 1 + 2));
        // What was left out is told alone, too.
        queue.push(of(3, 9, 0..0));
        assert_eq!(told(&queue.next_batch().unwrap()), [(3, 9, 0)]);
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room_and_is_counted() {
        let mut queue = Queue::new(7);
        queue.push(of(1, 0, 0..10));
        queue.push(of(2, 0, 0..WAITING_MAX as u64));
        queue.push(of(2, 0, 0..5));
        assert_eq!((queue.waiting(), queue.left_out), (WAITING_MAX, 15));
        let (mut kept, mut left_out) = (0, BTreeMap::new());
        while let Some(batch) = queue.next_batch() {
            assert!(batch.queries() <= BATCH_QUERIES as u64);
            kept += batch.queries();
            for (zone, of_zone, _) in told(&batch) {
                *left_out.entry(zone).or_insert(0) += of_zone;
            }
        }
        assert_eq!((kept, left_out), (WAITING_MAX as u64, BTreeMap::from([(1, 10), (2, 5)])));
    }

    #[test]
    fn what_is_sent_is_what_was_noted() {
        let mut queue = Queue::new(0xabc);
        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let subnet = |address: &[u8], length| Some(LoggedSubnet { address: address.to_vec(), length });
        let edns = |subnet| Some(LoggedEdns { udp_bytes: 1232, wants_dnssec: true, subnet });
        let mut queries = vec![query(5), query(6), query(7)];
        queries[0].edns = edns(subnet(&[198, 51, 100, 0], 24));
        queries[1].source = v6.octets().to_vec();
        queries[1].edns = edns(subnet(&v6.octets(), 129));
        queries[2].edns = edns(None);
        queries[2].policy = Some("www.example.com.".into());
        queue.push(LoggedQueries { zone: ZoneId(1), left_out: 0, queries });
        let document = queue.next_batch().unwrap().document();
        assert_eq!(document.instance, "0000000000000abc");
        let [first, second, third] = &document.zones[0].queries[..] else { panic!("{document:?}") };
        assert_eq!(
            (&first.rtype[..], &first.rcode[..], &first.transport[..]),
            ("TYPE65280", "BADCOOKIE", "tcp")
        );
        assert_eq!(first.source, "192.0.2.1");
        let subnet_of = |query: &QueryLogQuery| query.edns.clone().unwrap().client_subnet;
        assert_eq!(subnet_of(first).as_deref(), Some("198.51.100.0/24"));
        assert_eq!((&second.source[..], subnet_of(second)), ("2001:db8::1", None));
        assert_eq!((subnet_of(third), third.policy.as_deref()), (None, Some("www.example.com.")));
    }
}
