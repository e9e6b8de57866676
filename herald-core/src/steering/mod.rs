//! Steering: who gets which answer. What tenants write, and how a zone holds it.
//!
//! Steering *is* zone content: pools, policies, views and overlays are RRsets of private-use types (RFC 6895 §3.1) that are
//! never served. So they share the zone's edits, history, digest, delta and generation, and a change of records and steering
//! is one change wherever it goes (docs/decisions/0014-steering-is-content.md).
//!
//! ```text
//! owner                        type        RDATA
//! example.com                  SETTINGS    settings of the zone
//! eu._steering.example.com     POOL        the pool `eu`
//! office._steering.example.com VIEW        the view `office`
//! www.example.com              POLICY_A    the policy that answers www.example.com A
//! intranet.example.com         OVERLAY     what views have at the name, one RDATA a view and type
//! ```
//!
//! RDATA is a version octet and CBOR. What is said of a name and a type in answers is decided by the crate `steering`.

mod check;
pub mod item;
mod tally;

use domain::base::iana::Rtype;

pub use item::{
    AnswerMode, City, Endpoint, EndpointRecords, EndpointState, Item, ItemError, Location, Overlay, Policy,
    Pool, Prefix, PrefixError, Rule, Settings, Sticky, Subdivision, View, When, WhenAllDown, WhenIsolated,
};

pub use check::{
    ENDPOINTS_MAX, Fault, POOLS_PER_RULE_MAX, PREFIXES_MAX, RULES_MAX, UP_TO_MAX, WEIGHT_MAX, describe_type,
    faults,
};
pub(crate) use check::{Surroundings, check_names, check_owner};
pub(crate) use tally::counts;
pub use tally::{Tally, Used};

use crate::{Name, Rdatas, RrKey, Rrset};

/// Settings of a zone, at its apex.
pub const SETTINGS: Rtype = Rtype::from_int(65_280);
/// A pool, at its label below [`HOLDER`].
pub const POOL: Rtype = Rtype::from_int(65_281);
/// A view, at its label below [`HOLDER`].
pub const VIEW: Rtype = Rtype::from_int(65_282);
/// What views have at a name.
pub const OVERLAY: Rtype = Rtype::from_int(65_283);

/// The first of the types of policies; the n-th is for the n-th of [`STEERABLE`].
const FIRST_POLICY: u16 = 65_296;

/// Types that a policy can answer. The order is persistent: new ones go at the end.
pub const STEERABLE: [Rtype; 15] = [
    Rtype::A,
    Rtype::AAAA,
    Rtype::CNAME,
    Rtype::MX,
    Rtype::TXT,
    Rtype::SRV,
    Rtype::CAA,
    Rtype::HTTPS,
    Rtype::SVCB,
    Rtype::NAPTR,
    Rtype::PTR,
    Rtype::TLSA,
    Rtype::SSHFP,
    Rtype::LOC,
    Rtype::URI,
];

/// Label below the apex below which pools and views are. A user's own records there are no conflict: they are of other types.
pub const HOLDER: &str = "_steering";

/// The TTL that marks a record in knotd as a placeholder for a policy's answer. No user's record may have it.
pub const PLACEHOLDER_TTL_S: u32 = 0x7fff_4b48;

/// Whether the type is one of those that hold steering, and so is never served.
pub fn is_steering_type(rtype: Rtype) -> bool {
    (SETTINGS.to_int()..FIRST_POLICY + 64).contains(&rtype.to_int())
}

/// The type of the RRset that holds a policy for answers of type `answered`; none if that can't be steered.
pub fn policy_type(answered: Rtype) -> Option<Rtype> {
    let place = STEERABLE.iter().position(|rtype| *rtype == answered)?;
    Some(Rtype::from_int(FIRST_POLICY + u16::try_from(place).ok()?))
}

/// The type of the answers of the policies that RRsets of this type hold; none if it holds no policy.
pub fn answered_type(policy: Rtype) -> Option<Rtype> {
    let place = policy.to_int().checked_sub(FIRST_POLICY)?;
    STEERABLE.get(usize::from(place)).copied()
}

/// The type that an RRset stands for among the others at its owner: that of its answers for a policy, none for other steering.
pub fn served_type(rtype: Rtype) -> Option<Rtype> {
    if is_steering_type(rtype) { answered_type(rtype) } else { Some(rtype) }
}

/// Where the zone `apex` holds its pool `pool`.
///
/// # Errors
/// If the label isn't one, or the name gets too long.
pub fn pool_key(apex: &Name, pool: &str) -> Result<RrKey, crate::name::NameError> {
    Ok(RrKey::new(holder(apex)?.child(pool)?, POOL))
}

/// Where the zone `apex` holds its view `view`.
///
/// # Errors
/// If the label isn't one, or the name gets too long.
pub fn view_key(apex: &Name, view: &str) -> Result<RrKey, crate::name::NameError> {
    Ok(RrKey::new(holder(apex)?.child(view)?, VIEW))
}

/// Where the zone `apex` holds its settings.
pub fn settings_key(apex: &Name) -> RrKey {
    RrKey::new(apex.clone(), SETTINGS)
}

/// Where a policy for answers of this name and type is held; none if the type can't be steered.
pub fn policy_key(owner: &Name, answered: Rtype) -> Option<RrKey> {
    policy_type(answered).map(|rtype| RrKey::new(owner.clone(), rtype))
}

/// The name of the pool or view that is held at this owner: its first label, as text.
pub fn held_name(owner: &Name) -> Option<String> {
    owner.labels().next().map(|label| String::from_utf8_lossy(label).into_owned())
}

/// The name below which the zone `apex` holds pools and views.
///
/// # Errors
/// If it gets too long.
pub fn holder(apex: &Name) -> Result<Name, crate::name::NameError> {
    apex.child(HOLDER)
}

/// What knotd has in the place of a policy's answer: a record of the answer's type, so that names, wildcards, NODATA and delegations
/// come out right, with [`PLACEHOLDER_TTL_S`]. It is never sent. None if the type is no policy's.
pub fn placeholder(policy: Rtype) -> Option<(Rtype, Rrset)> {
    let rtype = answered_type(policy)?;
    let text = match rtype {
        // Dummy addresses (RFC 7600 §4.8, RFC 6666) and a name that can't be (RFC 6761 §6.4).
        Rtype::A => "192.0.0.8",
        Rtype::AAAA => "100::",
        Rtype::CNAME | Rtype::PTR => "steered.invalid.",
        Rtype::MX => "0 steered.invalid.",
        Rtype::TXT => "steered",
        Rtype::SRV => "0 0 0 steered.invalid.",
        Rtype::CAA => "0 issue \"steered.invalid\"",
        Rtype::HTTPS | Rtype::SVCB => "0 steered.invalid.",
        Rtype::NAPTR => "0 0 \"\" \"\" \"\" steered.invalid.",
        Rtype::TLSA => "0 0 0 00",
        Rtype::SSHFP => "0 0 00",
        Rtype::LOC => "0 0 0.000 N 0 0 0.000 E 0.00m 1m 10000m 10m",
        Rtype::URI => "0 0 \"steered:\"",
        _ => return None,
    };
    let rdata = crate::rdata::parse_rdata(rtype, text).ok()?;
    Some((rtype, Rrset { ttl: PLACEHOLDER_TTL_S, rdatas: Rdatas::single(&rdata) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_steerable_type_has_a_policy_type_and_a_placeholder() {
        for rtype in STEERABLE {
            let policy = policy_type(rtype).unwrap();
            assert!(is_steering_type(policy));
            assert_eq!(answered_type(policy), Some(rtype));
            assert_eq!(served_type(policy), Some(rtype));
            let (of, rrset) = placeholder(policy).unwrap_or_else(|| panic!("{rtype} has no placeholder"));
            assert_eq!(of, rtype);
            assert_eq!(rrset.rdatas.len(), 1);
        }
        assert_eq!(policy_type(Rtype::NS), None);
        assert_eq!(answered_type(POOL), None);
        assert_eq!((served_type(POOL), served_type(Rtype::A)), (None, Some(Rtype::A)));
        assert!(!is_steering_type(Rtype::A) && !is_steering_type(Rtype::from_int(65_534)));
    }
}
