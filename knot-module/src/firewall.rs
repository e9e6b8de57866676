//! The firewall: rules and policy zones, for all queries.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sha2::{Digest, Sha256};
pub use steering::firewall::Question;
use steering::firewall::{BUCKETS, Buckets, Decision, Live, Policies, Rules, decide as decide_by};
use steering::link::{FirewallCount, FirewallHashes, FirewallPart};

use crate::knot::{Query, Retired, Shared, free_retired as free};
use crate::places;

static RULES: Shared<Arc<Rules>> = Shared::empty();
static POLICIES: Shared<Arc<Policies>> = Shared::empty();
static WRITER: Mutex<Writer> = Mutex::new(Writer {
    rules: None,
    policies: None,
    hashes: FirewallHashes { rules: Vec::new(), policies: Vec::new() },
    retired_rules: Vec::new(),
    retired_policies: Vec::new(),
});

/// How fast queries come. It stays when rules are replaced.
static RATES: LazyLock<Buckets> = LazyLock::new(|| Buckets::new(BUCKETS));
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

struct Writer {
    /// What queries see.
    rules: Option<Arc<Rules>>,
    policies: Option<Arc<Policies>>,
    hashes: FirewallHashes,
    retired_rules: Vec<Retired<Arc<Rules>>>,
    retired_policies: Vec<Retired<Arc<Policies>>>,
}

fn writer() -> MutexGuard<'static, Writer> {
    WRITER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there is anything to be asked.
#[inline]
pub fn is_on() -> bool {
    !RULES.is_empty() || !POLICIES.is_empty()
}

/// What is done with a query; none if nothing says anything of it.
#[inline]
pub fn decide<'q>(query: &Query<'q>, question: &Question<'_>) -> Option<Decision<'q>> {
    // That rates are made is seen to when rules are loaded that ask for them, so that this never waits.
    let live = Live { buckets: &RATES, now_ns: || START.elapsed().as_nanos() as u64 };
    let rules = RULES.get(query).map(|rules| &**rules);
    let policies = POLICIES.get(query).map(|policies| &**policies);
    decide_by(rules, policies, question, places::table(query), &live)
}

/// What is in use.
pub fn hashes() -> FirewallHashes {
    writer().hashes.clone()
}

/// Takes what is in this file into use; without a hash there is nothing of this part from now on.
///
/// # Errors
/// Why it isn't, in words: what was in use stays.
pub fn load(part: FirewallPart, path: &str, hash: &[u8]) -> Result<(), String> {
    let hashes = hashes();
    let used = match part {
        FirewallPart::Rules => hashes.rules,
        FirewallPart::Policies => hashes.policies,
    };
    if used == hash {
        return Ok(());
    }
    if hash.is_empty() {
        match part {
            FirewallPart::Rules => replace_rules(None, Vec::new()),
            FirewallPart::Policies => replace_policies(None, Vec::new()),
        }
        return Ok(());
    }
    let file = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    if Sha256::digest(&file).as_slice() != hash {
        return Err(format!("{path}: it isn't the file that was announced"));
    }
    let unusable = |error| format!("{path}: {error}");
    match part {
        FirewallPart::Rules => replace_rules(Some(Rules::read(&file).map_err(unusable)?), hash.to_vec()),
        FirewallPart::Policies => {
            replace_policies(Some(Policies::read(&file).map_err(unusable)?), hash.to_vec());
        }
    }
    Ok(())
}

fn replace_rules(rules: Option<Rules>, hash: Vec<u8>) {
    if rules.as_ref().is_some_and(Rules::has_rates) {
        LazyLock::force(&START);
        LazyLock::force(&RATES);
    }
    let mut writer = writer();
    let rules = rules.map(|mut rules| {
        if let Some(before) = &writer.rules {
            rules.count_on(before);
        }
        Arc::new(rules)
    });
    let retired = RULES.replace(rules.clone().map(Box::new));
    writer.retired_rules.push(retired);
    writer.rules = rules;
    writer.hashes.rules = hash;
}

fn replace_policies(policies: Option<Policies>, hash: Vec<u8>) {
    let mut writer = writer();
    let policies = policies.map(|mut policies| {
        if let Some(before) = &writer.policies {
            policies.count_on(before);
        }
        Arc::new(policies)
    });
    let retired = POLICIES.replace(policies.clone().map(Box::new));
    writer.retired_policies.push(retired);
    writer.policies = policies;
    writer.hashes.policies = hash;
}

/// How often rules and policy zones were for queries, and how many bytes they take.
pub fn counts() -> (Vec<FirewallCount>, usize) {
    let writer = writer();
    let mut counts = Vec::new();
    let mut bytes = 0;
    if let Some(rules) = &writer.rules {
        bytes += rules.bytes();
        counts.extend(rules.counts().map(|rule| FirewallCount {
            owner: Some(rule.owner),
            name: rule.name.to_owned(),
            action: String::new(),
            queries: rule.hits,
        }));
    }
    if let Some(policies) = &writer.policies {
        bytes += policies.bytes();
        counts.extend(policies.counts().map(|(zone, action, queries)| FirewallCount {
            owner: None,
            name: zone.to_owned(),
            action: action.name().to_owned(),
            queries,
        }));
    }
    counts.retain(|count| count.queries > 0);
    (counts, bytes)
}

/// Frees what no query reads any more.
pub fn free_retired() {
    let mut writer = writer();
    free(&mut writer.retired_rules);
    free(&mut writer.retired_policies);
}
