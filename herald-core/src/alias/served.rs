//! What is served at the owner of an ALIAS, of one type: one answer everywhere, or answers of regions beside it.
//!
//! ```text
//! everywhere the same       example.com  A
//! regions have their own    example.com  POLICY_A            a rule for the PoPs of each such region, and one for all others
//!                           alias~eu~…._steering.example.com POOL   what a rule leads to
//! ```
//!
//! This is the system's steering, beside the tenant's: no pool of a tenant's can have a `~` in its name. All that is known of what regions have
//! is in it, so that the last good answer of each outlives whoever found it.

use std::collections::BTreeMap;

use domain::base::iana::Rtype;

use super::ADDRESS_TYPES;
use crate::content::{Content, Difference};
use crate::steering::{
    AnswerMode, Endpoint, EndpointRecords, EndpointState, Item, POOL, Policy, Pool, Rule, When,
    answered_type, held_name, policy_key, pool_key,
};
use crate::{Name, RrKey, Rrset};

/// What is between the parts of the name of a pool that the system writes, and in no other pool's.
const SEPARATOR: char = '~';

/// What these names begin with.
const PREFIX: &str = "alias";

/// The endpoint that has a target's addresses.
const ENDPOINT: &str = "target";

/// What is served of a type at an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Wherever no region has its own; none: no addresses.
    pub everywhere: Option<Rrset>,
    /// The regions that have answers of their own, by their names.
    pub regions: BTreeMap<String, Regional>,
}

/// A region's own answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regional {
    /// Names of the PoPs that give it, ascending.
    pub pops: Vec<String>,
    /// The answer; none: no addresses.
    pub rrset: Option<Rrset>,
}

impl Served {
    /// What `resolved` has served at an owner of the zone `apex`.
    pub fn read(resolved: &Content, apex: &Name, owner: &Name, rtype: Rtype) -> Served {
        let mut served = Served::default();
        let Some(policy) = policy_at(resolved, owner, rtype) else {
            served.everywhere = resolved.get(&RrKey::new(owner.clone(), rtype)).cloned();
            return served;
        };
        for rule in policy.rules {
            let rrset =
                rule.pools.first().and_then(|pool| addresses_of(resolved.get(&pool_key(apex, pool).ok()?)?));
            match rule.name {
                Some(region) if !rule.when.pops.is_empty() => {
                    served.regions.insert(region, Regional { pops: rule.when.pops, rrset });
                }
                _ => served.everywhere = rrset,
            }
        }
        served
    }

    /// The region that a PoP gives the own answer of, if it does so.
    pub fn region_at(&self, pop: &str) -> Option<&str> {
        let of_pop = |regional: &Regional| regional.pops.iter().any(|name| name == pop);
        self.regions.iter().find(|(_, regional)| of_pop(regional)).map(|(region, _)| region.as_str())
    }

    /// Makes all TTLs at most this.
    pub(crate) fn cap(&mut self, ttl: u32) {
        let regional = self.regions.values_mut().filter_map(|regional| regional.rrset.as_mut());
        for rrset in self.everywhere.iter_mut().chain(regional).filter(|rrset| rrset.ttl > ttl) {
            rrset.ttl = ttl;
        }
    }

    /// What makes `resolved` have this served at an owner.
    pub(crate) fn difference(
        &self,
        resolved: &Content,
        apex: &Name,
        owner: &Name,
        rtype: Rtype,
    ) -> Difference {
        let mut new = self.steering(apex, owner, rtype).unwrap_or_default();
        if new.is_empty() {
            new.extend(self.everywhere.clone().map(|rrset| (RrKey::new(owner.clone(), rtype), rrset)));
        }
        let pools = policy_at(resolved, owner, rtype).into_iter().flat_map(|policy| policy.rules);
        let pools = pools.flat_map(|rule| rule.pools).filter_map(|pool| pool_key(apex, &pool).ok());
        let old = [Some(RrKey::new(owner.clone(), rtype)), policy_key(owner, rtype)].into_iter().flatten();
        let is_gone = |key: &RrKey| !new.contains_key(key) && resolved.get(key).is_some();
        let deletes = old.chain(pools).filter(is_gone).collect();
        let puts = new.into_iter().filter(|(key, rrset)| resolved.get(key) != Some(rrset)).collect();
        Difference { puts, deletes }
    }

    /// The policy and its pools, if a region has its own answer. None as well if that can't be written, as the zone's name or the lists of
    /// PoPs are too long: then everybody gets what is served everywhere.
    fn steering(&self, apex: &Name, owner: &Name, rtype: Rtype) -> Option<BTreeMap<RrKey, Rrset>> {
        if self.regions.is_empty() {
            return None;
        }
        let (mut rules, mut rrsets) = (Vec::new(), BTreeMap::new());
        let mut lead = |region: Option<&str>, pops: &[String], rrset: Option<&Rrset>| {
            let pool = pool_name(region.unwrap_or_default(), owner, rtype);
            rrsets.insert(pool_key(apex, &pool).ok()?, Item::Pool(pool_of(rtype, rrset)).write().ok()?);
            let when = When { pops: pops.to_vec(), ..When::default() };
            rules.push(Rule { name: region.map(str::to_owned), when, pools: vec![pool], nearest: false });
            Some(())
        };
        for (region, Regional { pops, rrset }) in &self.regions {
            lead(Some(region), pops, rrset.as_ref())?;
        }
        if let Some(rrset) = &self.everywhere {
            lead(None, &[], Some(rrset))?;
        }
        let policy = Item::Policy(rtype, Policy::of_rules(rules)).write().ok()?;
        rrsets.insert(policy_key(owner, rtype)?, policy);
        Some(rrsets)
    }
}

/// Whether an RRset can be one of what ALIAS records at these owners resolved to.
pub(crate) fn is_of_aliases(key: &RrKey, is_alias: impl Fn(&Name) -> bool) -> bool {
    match key.rtype {
        POOL => held_name(&key.owner).is_some_and(|name| name.contains(SEPARATOR)),
        rtype => ADDRESS_TYPES.contains(&answered_type(rtype).unwrap_or(rtype)) && is_alias(&key.owner),
    }
}

fn policy_at(resolved: &Content, owner: &Name, rtype: Rtype) -> Option<Policy> {
    let key = policy_key(owner, rtype)?;
    match Item::read(key.rtype, &resolved.get(&key)?.rdatas) {
        Ok(Item::Policy(_, policy)) => Some(policy),
        _ => None,
    }
}

/// Names say the region for those who read them; what tells owners apart is a digest, as a name can be longer than a label.
fn pool_name(region: &str, owner: &Name, rtype: Rtype) -> String {
    let digest = crate::digest128(&[owner.as_wire(), &rtype.to_int().to_be_bytes()].concat()) >> 48;
    format!("{PREFIX}{SEPARATOR}{region}{SEPARATOR}{digest:020x}")
}

fn pool_of(rtype: Rtype, rrset: Option<&Rrset>) -> Pool {
    let endpoint = |rrset: &Rrset| Endpoint {
        name: ENDPOINT.into(),
        records: vec![EndpointRecords { rtype, rdatas: rrset.rdatas.clone() }],
        weight: 1,
        state: EndpointState::Enabled,
        location: None,
        bias: 0,
        monitor: None,
    };
    Pool {
        ttl: rrset.map_or(0, |rrset| rrset.ttl),
        answer: AnswerMode::All,
        sticky: None,
        min_healthy: 1,
        endpoints: rrset.map(endpoint).into_iter().collect(),
    }
}

fn addresses_of(pool: &Rrset) -> Option<Rrset> {
    let Ok(Item::Pool(Pool { ttl, endpoints, .. })) = Item::read(POOL, &pool.rdatas) else { return None };
    let rdatas = endpoints.into_iter().flat_map(|endpoint| endpoint.records).map(|records| records.rdatas);
    rdatas.into_iter().next().map(|rdatas| Rrset { ttl, rdatas })
}
