//! What is counted of queries: of one zone in one minute, and how such counts add up.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

/// Kinds of something, each with how many queries were of it: ascending, and no kind twice.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Tally<K: Ord>(#[n(0)] Vec<(K, u64)>);

impl<K: Ord> Default for Tally<K> {
    fn default() -> Tally<K> {
        Tally(Vec::new())
    }
}

impl<K: Ord> Tally<K> {
    /// So many more of this kind.
    pub fn add(&mut self, kind: K, count: u64) {
        match self.0.binary_search_by(|(other, _)| other.cmp(&kind)) {
            Ok(place) => self.0[place].1 = self.0[place].1.saturating_add(count),
            Err(_) if count == 0 => {}
            Err(place) => self.0.insert(place, (kind, count)),
        }
    }

    /// How many of this kind.
    pub fn get(&self, kind: &K) -> u64 {
        self.0.binary_search_by(|(other, _)| other.cmp(kind)).map_or(0, |place| self.0[place].1)
    }

    /// All kinds, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u64)> {
        self.0.iter().map(|(kind, count)| (kind, *count))
    }

    /// How many there are of all kinds.
    pub fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Ord + Clone> Tally<K> {
    fn merge(&mut self, other: &Tally<K>) {
        for (kind, count) in &other.0 {
            self.add(kind.clone(), *count);
        }
    }
}

impl<K: Ord> FromIterator<(K, u64)> for Tally<K> {
    fn from_iter<I: IntoIterator<Item = (K, u64)>>(counts: I) -> Tally<K> {
        let mut tally = Tally::default();
        counts.into_iter().for_each(|(kind, count)| tally.add(kind, count));
        tally
    }
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Transport {
    /// DNS over UDP.
    Udp = 0,
    /// DNS over TCP.
    Tcp = 1,
    /// DNS over QUIC (RFC 9250).
    Quic = 2,
    /// DNS over TLS (RFC 7858).
    Tls = 3,
    /// DNS over HTTPS (RFC 8484).
    Https = 4,
}

impl Transport {
    /// All.
    pub const ALL: [Transport; 5] =
        [Transport::Udp, Transport::Tcp, Transport::Quic, Transport::Tls, Transport::Https];

    /// What it is called in the API.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Quic => "quic",
            Transport::Tls => "tls",
            Transport::Https => "https",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Transport> {
        Transport::ALL.into_iter().find(|transport| transport.name() == name)
    }

    /// The one of this number.
    pub fn of(number: u8) -> Option<Transport> {
        Transport::ALL.get(usize::from(number)).copied()
    }
}

/// Mnemonics of response codes (RFC 6895 §2.3).
const RCODES: [(u16, &str); 16] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (16, "BADVERS"),
    (17, "BADKEY"),
    (18, "BADTIME"),
    (22, "BADTRUNC"),
    (23, "BADCOOKIE"),
];

/// The mnemonic of a response code, or `RCODEnnn`.
pub fn rcode_name(rcode: u16) -> String {
    let known = RCODES.iter().find(|(known, _)| *known == rcode);
    known.map_or_else(|| format!("RCODE{rcode}"), |(_, name)| (*name).to_owned())
}

/// The response code of what [`rcode_name`] says.
pub fn rcode_of(name: &str) -> Option<u16> {
    let known = RCODES.iter().find(|(_, known)| *known == name).map(|(rcode, _)| *rcode);
    known.or_else(|| name.strip_prefix("RCODE")?.parse().ok().filter(|rcode| *rcode < 4096))
}

/// Counts of queries. What isn't known of a query is in none of the kinds, so that their sums may be lower than the number of queries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Counts {
    /// Queries that came in.
    #[n(0)]
    pub queries: u64,
    /// Of these, those that weren't answered on purpose.
    #[n(1)]
    pub dropped: u64,
    /// Answers that were cut to what fits (TC).
    #[n(2)]
    pub truncated: u64,
    /// Queries that came over IPv6.
    #[n(3)]
    pub ipv6: u64,
    /// By type asked for; zero is that of messages without a question.
    #[n(4)]
    pub by_type: Tally<u16>,
    /// By response code, the extended one (RFC 6891); none for what was dropped.
    #[n(5)]
    pub by_rcode: Tally<u16>,
    /// By [`Transport`].
    #[n(6)]
    pub by_transport: Tally<u8>,
    /// By country of the client, as two letters, as far as it is known.
    #[n(7)]
    pub by_country: Tally<[u8; 2]>,
    /// By name with a policy, and then by the pool that answered.
    #[n(8)]
    pub by_pool: BTreeMap<Label, Tally<Label>>,
}

/// What something is called that is counted, again and again: a copy takes no memory of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(Arc<str>);

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Label {
    fn borrow(&self) -> &str {
        self
    }
}

impl<T: Into<Arc<str>>> From<T> for Label {
    fn from(text: T) -> Label {
        Label(text.into())
    }
}

impl<C> Encode<C> for Label {
    fn encode<W: Write>(&self, encoder: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        encoder.str(self)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Label {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Label, decode::Error> {
        decoder.str().map(Label::from)
    }
}

/// What pools are called that aren't known any more by name, and the answer where no pool was there.
pub const NO_POOL: &str = "-";

impl Counts {
    /// As many more.
    pub fn merge(&mut self, other: &Counts) {
        self.queries = self.queries.saturating_add(other.queries);
        self.dropped = self.dropped.saturating_add(other.dropped);
        self.truncated = self.truncated.saturating_add(other.truncated);
        self.ipv6 = self.ipv6.saturating_add(other.ipv6);
        self.by_type.merge(&other.by_type);
        self.by_rcode.merge(&other.by_rcode);
        self.by_transport.merge(&other.by_transport);
        self.by_country.merge(&other.by_country);
        for (name, pools) in &other.by_pool {
            match self.by_pool.get_mut(name) {
                Some(known) => known.merge(pools),
                None => drop(self.by_pool.insert(name.clone(), pools.clone())),
            }
        }
    }

    /// How many names it has, with one for itself: each may take 300 bytes.
    pub fn weight(&self) -> usize {
        1 + self.by_pool.values().map(|pools| 1 + pools.0.len()).sum::<usize>()
    }

    /// The same as several of which none weighs more than this, and of which the sum is the same. All but names is in the first one.
    pub fn split(mut self, weight_max: usize) -> Vec<Counts> {
        if self.weight() <= weight_max {
            return vec![self];
        }
        let names = std::mem::take(&mut self.by_pool);
        let mut parts = vec![self];
        let mut weight = 1;
        for (name, pools) in names {
            for (pool, count) in pools.0 {
                if weight + 2 > weight_max {
                    parts.push(Counts::default());
                    weight = 1;
                }
                weight += 2;
                if let Some(part) = parts.last_mut() {
                    part.by_pool.entry(name.clone()).or_default().add(pool, count);
                }
            }
        }
        parts
    }

    /// Answers that a name doesn't exist.
    pub fn nxdomain(&self) -> u64 {
        const NXDOMAIN: u16 = 3;
        self.by_rcode.get(&NXDOMAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(queries: u64, rtype: u16, pool: &str) -> Counts {
        Counts {
            queries,
            by_type: Tally::from_iter([(rtype, queries)]),
            by_rcode: Tally::from_iter([(0, queries - 1), (3, 1)]),
            by_country: Tally::from_iter([(*b"DE", queries)]),
            by_pool: BTreeMap::from([("www.example.".into(), Tally::from_iter([(pool.into(), queries)]))]),
            ..Counts::default()
        }
    }

    #[test]
    fn counts_add_up_kind_by_kind() {
        let mut all = counts(5, 1, "a");
        all.merge(&counts(7, 28, "b"));
        all.merge(&counts(1, 1, "a"));
        assert_eq!(all.queries, 13);
        assert_eq!(all.by_type.iter().collect::<Vec<_>>(), [(&1, 6), (&28, 7)]);
        assert_eq!((all.nxdomain(), all.by_rcode.sum()), (3, 13));
        assert_eq!(all.by_pool["www.example."].get(&"a".into()), 6);
        assert_eq!(all.by_country.get(b"DE"), 13);
    }

    #[test]
    fn what_is_too_heavy_is_split_and_adds_up_to_the_same() {
        let mut heavy = Counts::default();
        for n in 0..10 {
            let mut one = counts(5, 1, "a");
            one.by_pool = BTreeMap::from([(
                format!("www{n}.example.").into(),
                Tally::from_iter([("a".into(), 2), ("b".into(), 3)]),
            )]);
            heavy.merge(&one);
        }
        let parts = heavy.clone().split(8);
        assert!(parts.len() > 3 && parts.iter().all(|part| part.weight() <= 8), "{parts:?}");
        let mut sum = Counts::default();
        parts.iter().for_each(|part| sum.merge(part));
        assert_eq!(sum, heavy);
        assert_eq!(parts[1].queries, 0);
    }

    #[test]
    fn what_is_written_is_read_and_more_than_u64_stays_u64() {
        let mut all = counts(5, 1, "a");
        let octets = minicbor::to_vec(&all).unwrap();
        assert_eq!(minicbor::decode::<Counts>(&octets).unwrap(), all);
        all.queries = u64::MAX;
        all.merge(&counts(5, 1, "a"));
        assert_eq!(all.queries, u64::MAX);
    }
}
