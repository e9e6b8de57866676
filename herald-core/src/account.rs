//! Who and what there is beside zones: tenants, tokens and their scopes, sets of name servers, PoPs.

use minicbor::{Decode, Encode};

use crate::limits::TenantLimits;
use crate::rrset::rtype_number;
use crate::steering::{Prefix, served_type};
use crate::zone::SoaFields;
use crate::{Name, NsSetId, PopId, RrKey, Rtype, TenantId, TokenId, ZoneId};

/// Who is behind a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Principal {
    /// The platform itself.
    #[n(0)]
    System,
    /// An operator, by a token.
    #[n(1)]
    Operator {
        /// The token.
        #[n(0)]
        token: TokenId,
    },
    /// A tenant, by a token.
    #[n(2)]
    Tenant {
        /// The tenant.
        #[n(0)]
        tenant: TenantId,
        /// The token.
        #[n(1)]
        token: TokenId,
    },
}

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Principal::System => f.write_str("system"),
            Principal::Operator { token } => write!(f, "operator {token}"),
            Principal::Tenant { tenant, token } => write!(f, "tenant {tenant} {token}"),
        }
    }
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Tenant {
    /// Identity.
    #[n(0)]
    pub id: TenantId,
    /// Short unique name.
    #[n(1)]
    pub name: String,
    /// Whether its tokens work; its zones are served either way.
    #[n(2)]
    pub enabled: bool,
    /// When it was made, in ms since the epoch.
    #[n(3)]
    pub created_at_ms: u64,
    /// Limits that were set for it.
    #[n(4)]
    pub limits: Option<TenantLimits>,
    /// Where its own clients' queries come from, as an operator has granted it: who is inside of a private zone comes from there.
    /// No address is granted to two tenants.
    #[n(5)]
    pub source_prefixes: Option<Vec<Prefix>>,
}

impl Tenant {
    /// Whether all addresses of a prefix are granted to it.
    pub fn has_source(&self, prefix: &Prefix) -> bool {
        self.source_prefixes.iter().flatten().any(|granted| granted.covers(prefix))
    }
}

/// An API token. The secret itself is nowhere kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Token {
    /// Identity.
    #[n(0)]
    pub id: TokenId,
    /// The tenant it acts for; an operator's has none.
    #[n(1)]
    pub tenant: Option<TenantId>,
    /// What it is for.
    #[n(2)]
    pub description: String,
    /// What it may do.
    #[n(3)]
    pub scope: Scope,
    /// SHA-256 of the secret, which has 256 random bits.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub secret_hash: [u8; 32],
    /// When it was made, in ms since the epoch.
    #[n(5)]
    pub created_at_ms: u64,
    /// When it ends, in ms since the epoch.
    #[n(6)]
    pub expires_at_ms: Option<u64>,
    /// When it was revoked, in ms since the epoch.
    #[n(7)]
    pub revoked_at_ms: Option<u64>,
}

impl Token {
    /// Whether it is valid at this time.
    pub fn is_valid_at(&self, time_ms: u64) -> bool {
        self.revoked_at_ms.is_none() && self.expires_at_ms.is_none_or(|end| time_ms < end)
    }
}

/// What a token may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Verb {
    /// See zones and records.
    #[n(0)]
    Read,
    /// Change records.
    #[n(1)]
    Write,
    /// Make and import zones, and change their settings.
    #[n(2)]
    Create,
    /// Delete zones.
    #[n(3)]
    Delete,
    /// Tokens; for operators also tenants, PoPs and sets of name servers.
    #[n(4)]
    Admin,
    /// Make, change and delete monitors.
    #[n(5)]
    Monitor,
}

/// Limits of a token. An empty list limits nothing of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Scope {
    /// Zones.
    #[n(0)]
    pub zones: Vec<ZonePattern>,
    /// Owner names.
    #[n(1)]
    pub names: Vec<NamePattern>,
    /// Record types.
    #[n(2)]
    pub types: Vec<ScopeType>,
    /// Verbs.
    #[n(3)]
    pub verbs: Vec<Verb>,
}

/// A record type in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct ScopeType(#[cbor(n(0), with = "rtype_number")] pub Rtype);

/// Zones that a scope names.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ZonePattern {
    /// This zone.
    #[n(0)]
    Id(#[n(0)] ZoneId),
    /// The zone of this name.
    #[n(1)]
    Name(#[n(0)] Name),
    /// All zones below this name.
    #[n(2)]
    Below(#[n(0)] Name),
}

/// Owner names that a scope names.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum NamePattern {
    /// This name.
    #[n(0)]
    Name(#[n(0)] Name),
    /// All names below this name.
    #[n(1)]
    Below(#[n(0)] Name),
    /// All names whose first label is this (in lower case).
    #[n(2)]
    FirstLabel(#[n(0)] String),
}

impl Scope {
    /// Whether the verb is allowed.
    pub fn allows_verb(&self, verb: Verb) -> bool {
        self.verbs.is_empty() || self.verbs.contains(&verb)
    }

    /// Whether the zone is within the scope.
    pub fn allows_zone(&self, id: Option<ZoneId>, name: &Name) -> bool {
        self.zones.is_empty() || self.zones.iter().any(|pattern| pattern.matches(id, name))
    }

    /// Whether RRsets of this owner and type are within the scope. A policy is what records of the type that it answers are;
    /// pools, views, overlays and settings bear on the whole zone.
    pub fn allows_rrset(&self, key: &RrKey) -> bool {
        let Some(rtype) = served_type(key.rtype) else { return !self.limits_rrsets() };
        (self.names.is_empty() || self.names.iter().any(|pattern| pattern.matches(&key.owner)))
            && (self.types.is_empty() || self.types.contains(&ScopeType(rtype)))
    }

    /// Whether it is limited to some RRsets of a zone, so that it can't stand for whole zones.
    pub fn limits_rrsets(&self) -> bool {
        !self.names.is_empty() || !self.types.is_empty()
    }

    /// Whether all that `inner` allows is allowed here too; a pattern is compared by what it says, so that
    /// an inner scope is to repeat or narrow one of the outer's patterns.
    pub fn contains(&self, inner: &Scope) -> bool {
        fn within<T>(outer: &[T], inner: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
            outer.is_empty()
                || (!inner.is_empty() && inner.iter().all(|i| outer.iter().any(|o| covers(o, i))))
        }
        within(&self.zones, &inner.zones, ZonePattern::covers)
            && within(&self.names, &inner.names, NamePattern::covers)
            && within(&self.types, &inner.types, |a, b| a == b)
            && within(&self.verbs, &inner.verbs, |a, b| a == b)
    }
}

impl ZonePattern {
    fn matches(&self, id: Option<ZoneId>, name: &Name) -> bool {
        match self {
            ZonePattern::Id(wanted) => Some(*wanted) == id,
            ZonePattern::Name(wanted) => wanted == name,
            ZonePattern::Below(parent) => name.is_below(parent),
        }
    }

    fn covers(&self, inner: &ZonePattern) -> bool {
        self == inner
            || match (self, inner) {
                (ZonePattern::Below(parent), ZonePattern::Name(name) | ZonePattern::Below(name)) => {
                    name.is_below(parent)
                }
                _ => false,
            }
    }
}

impl NamePattern {
    fn matches(&self, name: &Name) -> bool {
        match self {
            NamePattern::Name(wanted) => wanted == name,
            NamePattern::Below(parent) => name.is_below(parent),
            NamePattern::FirstLabel(label) => name.labels().next() == Some(label.as_bytes()),
        }
    }

    fn covers(&self, inner: &NamePattern) -> bool {
        self == inner
            || match inner {
                NamePattern::Name(name) => self.matches(name),
                NamePattern::Below(name) => {
                    matches!(self, NamePattern::Below(parent) if name.is_below(parent))
                }
                NamePattern::FirstLabel(_) => false,
            }
    }
}

/// A set of name servers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NsSet {
    /// Identity.
    #[n(0)]
    pub id: NsSetId,
    /// Short unique name.
    #[n(1)]
    pub name: String,
    /// Host names; the first is the SOA's MNAME.
    #[n(2)]
    pub nameservers: Vec<Name>,
    /// SOA and TTL.
    #[n(3)]
    pub soa: SoaFields,
    /// Whether zones take it where none is named. One set is the default.
    #[n(4)]
    pub is_default: bool,
    /// When it was made, in ms since the epoch.
    #[n(5)]
    pub created_at_ms: u64,
}

/// A point of presence.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pop {
    /// Identity.
    #[n(0)]
    pub id: PopId,
    /// Short unique name.
    #[n(1)]
    pub name: String,
    /// SHA-256 of its credential, which has 256 random bits.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub secret_hash: [u8; 32],
    /// Whether its credential works.
    #[n(3)]
    pub enabled: bool,
    /// Whether nobody waits for it.
    #[n(4)]
    pub drained: bool,
    /// When it was made, in ms since the epoch.
    #[n(5)]
    pub created_at_ms: u64,
    /// Revision up to which an operator has let go what the emptiness brake held back from it.
    #[n(6)]
    pub released: Option<u64>,
    /// Since when the emptiness brake holds zones back from it, if it does.
    #[n(7)]
    pub held: Option<PopHold>,
    /// The operator's name for where it is: PoPs of one region get the same answers where tenants want them by region.
    #[n(8)]
    pub region: Option<String>,
}

/// Zones that a PoP goes on serving though they are gone, till an operator says that this was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PopHold {
    /// The state in which that was too much: a word as of this revision or a later one ends it.
    #[n(0)]
    pub revision: u64,
    /// When it set in, in ms since the epoch.
    #[n(1)]
    pub since_ms: u64,
    /// How many zones would have been lost within an hour.
    #[n(2)]
    pub zones_lost: u64,
    /// Of how many.
    #[n(3)]
    pub zones_before: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn scopes_allow_what_they_name() {
        let scope = Scope {
            zones: vec![ZonePattern::Name(name("example.com")), ZonePattern::Below(name("corp.example"))],
            names: vec![
                NamePattern::FirstLabel("_acme-challenge".into()),
                NamePattern::Below(name("dyn.example.com")),
            ],
            types: vec![ScopeType(Rtype::TXT)],
            verbs: vec![Verb::Write],
        };
        assert!(scope.allows_zone(None, &name("example.com")));
        assert!(scope.allows_zone(None, &name("a.corp.example")));
        assert!(!scope.allows_zone(None, &name("corp.example")));
        assert!(scope.allows_rrset(&RrKey::new(name("_acme-challenge.www.example.com"), Rtype::TXT)));
        assert!(scope.allows_rrset(&RrKey::new(name("h.dyn.example.com"), Rtype::TXT)));
        assert!(!scope.allows_rrset(&RrKey::new(name("dyn.example.com"), Rtype::TXT)));
        assert!(!scope.allows_rrset(&RrKey::new(name("h.dyn.example.com"), Rtype::A)));
        assert!(!scope.allows_verb(Verb::Read));
        assert!(Scope::default().allows_verb(Verb::Admin));
    }

    #[test]
    fn a_scope_contains_only_narrower_ones() {
        let outer = Scope {
            zones: vec![ZonePattern::Below(name("example"))],
            verbs: vec![Verb::Read, Verb::Write],
            ..Scope::default()
        };
        let inner = Scope {
            zones: vec![ZonePattern::Name(name("a.example"))],
            verbs: vec![Verb::Read],
            ..Scope::default()
        };
        assert!(outer.contains(&inner) && outer.contains(&outer));
        assert!(!inner.contains(&outer));
        assert!(!outer.contains(&Scope::default()), "an empty list allows all, so it is wider");
        assert!(Scope::default().contains(&outer));
    }
}
