//! The rules of one policy zone, compiled.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use herald_core::Rtype;
use herald_core::steering::Prefix;

use super::names::NameIndex;
use super::sources::Networks;
use super::{Circumstances, Count, Question, Verdict};
use crate::geo::ranges::Ranges;

/// What a rule of a policy zone does (draft-vixie-dnsop-dns-rpz §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyAction {
    /// NXDOMAIN.
    NxDomain,
    /// NODATA.
    NoData,
    /// PASSTHRU.
    Passthru,
    /// DROP.
    Drop,
    /// TCP-Only.
    TcpOnly,
    /// Local data.
    Local,
}

impl PolicyAction {
    /// All of them.
    pub const ALL: [PolicyAction; 6] = [
        PolicyAction::NxDomain,
        PolicyAction::NoData,
        PolicyAction::Passthru,
        PolicyAction::Drop,
        PolicyAction::TcpOnly,
        PolicyAction::Local,
    ];

    /// As status and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            PolicyAction::NxDomain => "nxdomain",
            PolicyAction::NoData => "nodata",
            PolicyAction::Passthru => "passthru",
            PolicyAction::Drop => "drop",
            PolicyAction::TcpOnly => "tcp_only",
            PolicyAction::Local => "local_data",
        }
    }
}

/// Of values of rules the first one that is local data.
pub(super) const FIRST_LOCAL: u32 = 5;

/// An RRset that a policy zone answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRrset {
    /// Its type.
    pub rtype: Rtype,
    /// Its TTL, in seconds.
    pub ttl_s: u32,
    /// Its RDATAs, as knotd's RRsets have them: for each its length (u16, native), its octets, and a zero if they are odd in number.
    pub rdatas: Box<[u8]>,
    /// Whether it is an alias to the name asked for followed by what is in RDATA (`CNAME *.example.`).
    pub is_prefixed: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct PolicyRules {
    names: NameIndex,
    /// Addresses to values, with one added; zero where there is no rule.
    clients: Option<Ranges>,
    clients_count: usize,
    local: Vec<Box<[LocalRrset]>>,
    counts: [Count; PolicyAction::ALL.len()],
}

impl PolicyRules {
    /// Of names in wire format and of networks, each once, with their values; and of what is answered by values from
    /// [`FIRST_LOCAL`] on.
    pub(super) fn new<'a>(
        names_count: usize,
        names: impl Iterator<Item = (&'a [u8], u32)>,
        clients: &[(Prefix, u32)],
        local: Vec<Box<[LocalRrset]>>,
    ) -> PolicyRules {
        let networks = Networks::new(clients.iter().map(|(prefix, _)| *prefix).collect());
        let mut values = vec![0; networks.prefixes.len()];
        for (prefix, value) in clients {
            if let Some(place) = networks.place(prefix) {
                values[place] = value + 1;
            }
        }
        PolicyRules {
            names: NameIndex::new(names_count, names),
            clients: (!clients.is_empty()).then(|| networks.ranges(|place| values[place])),
            clients_count: values.len(),
            local,
            counts: Default::default(),
        }
    }

    /// What it says of a query, and whether it is by its source: that comes first.
    #[inline]
    pub(super) fn decide(
        &self,
        question: &Question<'_>,
        circumstances: &impl Circumstances,
    ) -> Option<(Verdict<'_>, bool)> {
        let by_client = self.by_client(question.source);
        let value = by_client.or_else(|| self.names.find(question.name))?;
        let (verdict, action) = self.verdict(value, question.is_udp);
        circumstances.hit(&self.counts[action as usize]);
        Some((verdict, by_client.is_some()))
    }

    #[inline]
    fn by_client(&self, source: IpAddr) -> Option<u32> {
        self.clients.as_ref()?.get(source).checked_sub(1)
    }

    fn verdict(&self, value: u32, is_udp: bool) -> (Verdict<'_>, PolicyAction) {
        match value {
            0 => (Verdict::NxDomain, PolicyAction::NxDomain),
            1 => (Verdict::NoData, PolicyAction::NoData),
            2 => (Verdict::Pass, PolicyAction::Passthru),
            3 => (Verdict::Drop, PolicyAction::Drop),
            4 if is_udp => (Verdict::Truncate, PolicyAction::TcpOnly),
            4 => (Verdict::Pass, PolicyAction::TcpOnly),
            local => (Verdict::Local(&self.local[(local - FIRST_LOCAL) as usize]), PolicyAction::Local),
        }
    }

    pub(super) fn count(&self, action: PolicyAction) -> u64 {
        self.counts[action as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count_on(&mut self, before: &PolicyRules) {
        self.counts = before.counts.each_ref().map(Arc::clone);
    }

    /// By name and by client.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.names.len(), self.clients_count)
    }

    pub(super) fn bytes(&self) -> usize {
        let local = |rrsets: &[LocalRrset]| {
            rrsets.iter().map(|rrset| size_of::<LocalRrset>() + rrset.rdatas.len()).sum::<usize>()
        };
        self.names.bytes()
            + self.clients.as_ref().map_or(0, Ranges::bytes)
            + self.local.iter().map(|rrsets| size_of::<Box<[LocalRrset]>>() + local(rrsets)).sum::<usize>()
    }
}
