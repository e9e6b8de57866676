//! Things by id or by name, among those that the caller may see.

use herald_core::TenantId;
use herald_core::account::{NsSet, Pop, Tenant};
use herald_core::rejection::Rejection;
use herald_core::state::{Shared, State};

use super::gate::Caller;
use super::names::shortened;
use super::problem::{ApiError, Code};

/// A tenant: operators see all, and a tenant itself alone.
///
/// # Errors
/// Not found, whether it isn't there or isn't to be seen.
pub fn tenant<'a>(caller: &'a Caller, text: &str) -> Result<&'a Shared<Tenant>, ApiError> {
    let state = caller.state();
    let by_id = text.parse().ok().and_then(|id| state.tenant(id));
    by_id
        .or_else(|| state.tenant_named(text))
        .filter(|tenant| caller.access().tenant.is_none_or(|own| own == tenant.id))
        .ok_or_else(|| missing("tenant", text))
}

/// The tenant of what is to be made: the one that is named, or else the caller's own, if it is a tenant.
///
/// # Errors
/// As [`tenant`].
pub fn tenant_or_own(caller: &Caller, text: Option<&str>) -> Result<Option<TenantId>, ApiError> {
    match text {
        Some(text) => tenant(caller, text).map(|found| Some(found.id)),
        None => Ok(caller.access().tenant),
    }
}

/// Whether what is changed stays with its tenant, if one is named.
///
/// # Errors
/// If it is another one, and as [`tenant`].
pub fn is_still_of(caller: &Caller, owner: TenantId, text: Option<&str>, what: &str) -> Result<(), ApiError> {
    match tenant_or_own(caller, text)? {
        Some(other) if text.is_some() && other != owner => {
            Err(ApiError::new(Code::Invalid, format!("a {what} stays with its tenant")))
        }
        _ => Ok(()),
    }
}

/// A set of name servers.
///
/// # Errors
/// Not found.
pub fn nameserver_set<'a>(state: &'a State, text: &str) -> Result<&'a Shared<NsSet>, ApiError> {
    let by_id = text.parse().ok().and_then(|id| state.ns_set(id));
    by_id
        .or_else(|| state.ns_sets().find(|set| set.name == text))
        .ok_or_else(|| missing("set of name servers", text))
}

/// A PoP.
///
/// # Errors
/// Not found.
pub fn pop<'a>(state: &'a State, text: &str) -> Result<&'a Shared<Pop>, ApiError> {
    let by_id = text.parse().ok().and_then(|id| state.pop(id));
    by_id.or_else(|| state.pops().find(|pop| pop.name == text)).ok_or_else(|| missing("PoP", text))
}

fn missing(what: &str, text: &str) -> ApiError {
    Rejection::not_found(format_args!("{what} `{}`", shortened(text))).into()
}
