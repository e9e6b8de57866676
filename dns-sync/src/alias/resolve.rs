//! One question about a target, to resolvers in turn.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::name::ToName;
use domain::base::{Message, Rtype};
use domain::rdata::{A, Aaaa, Cname, Soa};
use herald_core::alias::watch::{ADDRESSES_MAX, Found};
use herald_core::{Name, Rdatas, Rrset};

use crate::probe::dns::exchange;

/// How long a resolver may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How many aliases are followed within an answer.
const CHAIN_MAX: usize = 16;

/// How long a negative answer holds that doesn't say it, in seconds.
const NEGATIVE_TTL_S: u32 = 30;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub found: Found,
    /// How long that holds, in seconds, if it came from a resolver.
    pub ttl: u32,
}

/// Asks for the addresses of one type.
pub(super) async fn resolve(resolvers: &[SocketAddr], target: &Name, rtype: Rtype) -> Answer {
    let mut causes = Vec::new();
    for resolver in resolvers {
        let read = match tokio::time::timeout(TIMEOUT, exchange(*resolver, target, rtype, true)).await {
            Ok(Ok(message)) => read(&message, target, rtype),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer in {} s", TIMEOUT.as_secs())),
        };
        match read {
            Ok(answer) => return answer,
            Err(cause) => causes.push(format!("{resolver}: {cause}")),
        }
    }
    Answer { found: Found::Failed { cause: causes.join("; ") }, ttl: 0 }
}

/// Reads an answer: aliases are followed from the target on, and what isn't on that way is passed over.
///
/// # Errors
/// Why it says nothing, in words.
pub(super) fn read(message: &Message<Vec<u8>>, target: &Name, rtype: Rtype) -> Result<Answer, String> {
    let header = message.header();
    let rcode = header.rcode();
    if rcode != Rcode::NOERROR && rcode != Rcode::NXDOMAIN {
        return Err(format!("RCODE {rcode}"));
    }
    let malformed = |_| "the answer can't be read".to_owned();
    let section = message.answer().map_err(malformed)?;
    let mut ttl = u32::MAX;
    let mut owner = target.clone();
    let mut seen = BTreeSet::from([owner.clone()]);
    // Aliases may come in any order.
    while let Some((next, alias_ttl)) = section
        .limit_to_in::<Cname<_>>()
        .flatten()
        .find(|record| is_owner(record.owner(), &owner))
        .and_then(|record| Some((name(record.data().cname())?, record.ttl().as_secs())))
    {
        ttl = ttl.min(alias_ttl);
        if !seen.insert(next.clone()) || seen.len() > CHAIN_MAX {
            return Err("its aliases lead in a circle, or too far".into());
        }
        owner = next;
    }
    let mut rdatas: Vec<Vec<u8>> = Vec::new();
    let mut take = |record_ttl: u32, rdata: &[u8]| {
        ttl = ttl.min(record_ttl);
        rdatas.push(rdata.to_vec());
    };
    match rtype {
        Rtype::A => section
            .limit_to_in::<A>()
            .flatten()
            .filter(|record| is_owner(record.owner(), &owner))
            .for_each(|record| take(record.ttl().as_secs(), &record.data().addr().octets())),
        _ => section
            .limit_to_in::<Aaaa>()
            .flatten()
            .filter(|record| is_owner(record.owner(), &owner))
            .for_each(|record| take(record.ttl().as_secs(), &record.data().addr().octets())),
    }
    rdatas.sort_unstable();
    rdatas.dedup();
    rdatas.truncate(ADDRESSES_MAX);
    if !rdatas.is_empty() {
        let rdatas = rdatas.iter().collect::<Rdatas>();
        return Ok(Answer { found: Found::Addresses(Rrset { ttl, rdatas }), ttl });
    }
    // Who doesn't recurse knows nothing of names of others.
    if !header.ra() && (!header.aa() || seen.len() > 1) {
        return Err("it doesn't recurse, and hasn't the addresses itself".into());
    }
    let cause = if rcode == Rcode::NXDOMAIN { "NXDOMAIN" } else { "no such records" };
    let authority = message.authority().map_err(malformed)?;
    let soa = authority.limit_to_in::<Soa<_>>().flatten().next();
    // RFC 2308 §5.
    let negative = soa.map_or(NEGATIVE_TTL_S, |soa| soa.ttl().min(soa.data().minimum()).as_secs());
    Ok(Answer { found: Found::Nothing { cause: cause.into() }, ttl: ttl.min(negative) })
}

fn is_owner(owner: impl ToName, wanted: &Name) -> bool {
    name(&owner).as_ref() == Some(wanted)
}

fn name(name: &impl ToName) -> Option<Name> {
    let name: domain::base::Name<Vec<u8>> = name.to_name();
    Name::from_wire(name.as_slice()).ok()
}
