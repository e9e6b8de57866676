//! ALIAS: a name that has the addresses of another one, also where a CNAME can't be.
//!
//! The record is the tenant's and is content like any other. PoPs never get it: in its place they get A and AAAA, which targets resolved
//! to ([`Zone::resolved`](crate::zone::Zone::resolved); docs/decisions/0023-alias.md), by region where the tenant asks for that.

pub mod served;
pub mod watch;

use std::collections::BTreeSet;

use domain::base::iana::Rtype;

use crate::state::State;
use crate::zone::Zone;
use crate::{Name, RrKey, Rrset, ZoneId};

/// The type of ALIAS records: of the range for private use (RFC 6895 §3.1), and the number that other software has for it, too.
pub const ALIAS: Rtype = Rtype::from_int(65_401);

/// The types that are served in the place of an ALIAS.
pub const ADDRESS_TYPES: [Rtype; 2] = [Rtype::A, Rtype::AAAA];

/// So many names are followed from a target on, before that counts as leading nowhere.
const STEPS_MAX: usize = 16;

/// What an ALIAS record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Whose addresses the owner has.
    pub target: Name,
    /// The highest TTL of these, in seconds.
    pub ttl: u32,
}

impl Alias {
    /// What an RRset says, if it is an ALIAS.
    pub fn of(key: &RrKey, rrset: &Rrset) -> Option<Alias> {
        let mut rdatas = rrset.rdatas.iter().filter(|_| key.rtype == ALIAS);
        let target = rdatas.next().and_then(|rdata| Name::from_wire(rdata).ok())?;
        Some(Alias { target, ttl: rrset.ttl })
    }
}

/// Where an ALIAS leads within the zones that the state has, if that is in a circle: its names in order, the owner first and last. Names
/// elsewhere, and what views or policies answer, aren't followed.
pub fn circle(state: &State, zone: ZoneId, owner: &Name) -> Option<Vec<Name>> {
    let mut at = state.zone(zone)?.content.aliases().get(owner)?.target.clone();
    let mut way = vec![owner.clone()];
    // Nothing leads back into a private zone: it is the public one of the name that others resolve.
    let mut seen = match state.zone(zone)?.is_private() {
        true => BTreeSet::new(),
        false => BTreeSet::from([owner.clone()]),
    };
    while way.len() <= STEPS_MAX {
        way.push(at.clone());
        let found =
            std::iter::successors(Some(at.clone()), Name::parent).find_map(|apex| state.served_zone(&apex));
        let (holder, next) = next(found?, &at)?;
        // The names on the way that a wildcard answers for are many, the wildcard is one.
        if !seen.insert(holder) {
            return Some(way);
        }
        at = next;
    }
    Some(way)
}

/// Whose record answers for a name with another name, and with which: an ALIAS or a CNAME.
fn next(zone: &Zone, name: &Name) -> Option<(Name, Name)> {
    let content = &zone.content;
    let answers = |owner: &Name| match content.aliases().get(owner) {
        Some(alias) => Some(alias.target.clone()),
        None => {
            let cname = content.get(&RrKey::new(owner.clone(), Rtype::CNAME))?;
            Name::from_wire(cname.rdatas.iter().next()?).ok()
        }
    };
    let is_there = |name: &Name| content.at(name).next().is_some() || content.below(name).next().is_some();
    if is_there(name) {
        return answers(name).map(|target| (name.clone(), target));
    }
    // The closest encloser's wildcard (RFC 4592 §3.3.1).
    let encloser = std::iter::successors(name.parent(), Name::parent).find(|above| is_there(above))?;
    let wildcard = encloser.child("*").ok()?;
    answers(&wildcard).map(|target| (wildcard, target))
}

/// Where an ALIAS at `owner` leads by its zone's own ALIAS records alone, if that is back to it.
pub(crate) fn circle_in_zone(content: &crate::content::Content, owner: &Name) -> Option<Vec<Name>> {
    let mut way = vec![owner.clone()];
    let mut at = owner;
    while let Some(alias) = content.aliases().get(at) {
        at = &alias.target;
        way.push(at.clone());
        if at == owner {
            return Some(way);
        }
        if way.len() > STEPS_MAX {
            break;
        }
    }
    None
}
