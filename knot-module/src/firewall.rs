//! The firewall: rules and policy zones, for all queries.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sha2::{Digest, Sha256};
pub use steering::firewall::Question;
use steering::firewall::{BUCKETS, Buckets, Decision, FileError, Live, Policies, Rules, decide as decide_by};
use steering::link::{FirewallCount, FirewallHashes, FirewallPart};

use crate::knot::{Query, Retired, Shared, free_retired as free};
use crate::places;

static RULES: Shared<Arc<Rules>> = Shared::empty();
static POLICIES: Shared<Arc<Policies>> = Shared::empty();
static WRITER: Mutex<Writer> = Mutex::new(Writer { rules: Part::none(), policies: Part::none() });

/// How fast queries come. It stays when rules are replaced.
static RATES: LazyLock<Buckets> = LazyLock::new(|| Buckets::new(BUCKETS));
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

struct Writer {
    rules: Part<Rules>,
    policies: Part<Policies>,
}

/// A part of the firewall, and what of it was in use before.
struct Part<T> {
    /// What queries see.
    used: Option<Arc<T>>,
    /// SHA-256 of its file.
    hash: Vec<u8>,
    retired: Vec<Retired<Arc<T>>>,
}

impl<T: Send + Sync> Part<T> {
    const fn none() -> Part<T> {
        Part { used: None, hash: Vec::new(), retired: Vec::new() }
    }

    /// Has queries see another one, which goes on with the counts of the one before.
    fn replace(
        &mut self,
        seen: &'static Shared<Arc<T>>,
        new: Option<T>,
        hash: &[u8],
        count_on: impl Fn(&mut T, &T),
    ) {
        let new = new.map(|mut new| {
            if let Some(before) = &self.used {
                count_on(&mut new, before);
            }
            Arc::new(new)
        });
        self.retired.push(seen.replace(new.clone().map(Box::new)));
        self.used = new;
        self.hash = hash.to_vec();
    }
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
    let writer = writer();
    FirewallHashes { rules: writer.rules.hash.clone(), policies: writer.policies.hash.clone() }
}

/// Takes what is in this file into use; without a hash there is nothing of this part from now on.
///
/// # Errors
/// Why it isn't, in words: what was in use stays.
pub fn load(part: FirewallPart, path: &str, hash: &[u8]) -> Result<(), String> {
    if hashes().part(part) == hash {
        return Ok(());
    }
    // It is read and compiled before anybody else is kept from telling what is in use.
    match part {
        FirewallPart::Rules => {
            let rules = read(path, hash, Rules::read)?;
            if rules.as_ref().is_some_and(Rules::has_rates) {
                LazyLock::force(&START);
                LazyLock::force(&RATES);
            }
            writer().rules.replace(&RULES, rules, hash, Rules::count_on);
        }
        FirewallPart::Policies => {
            let policies = read(path, hash, Policies::read)?;
            writer().policies.replace(&POLICIES, policies, hash, Policies::count_on);
        }
    }
    Ok(())
}

/// What is in a file; nothing if there is no hash that it should have.
fn read<T>(
    path: &str,
    hash: &[u8],
    compile: impl Fn(&[u8]) -> Result<T, FileError>,
) -> Result<Option<T>, String> {
    if hash.is_empty() {
        return Ok(None);
    }
    let file = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    if Sha256::digest(&file).as_slice() != hash {
        return Err(format!("{path}: it isn't the file that was announced"));
    }
    compile(&file).map(Some).map_err(|error| format!("{path}: {error}"))
}

/// How often rules and policy zones were for queries, and how many bytes they take.
pub fn counts() -> (Vec<FirewallCount>, usize) {
    let writer = writer();
    let mut counts = Vec::new();
    let mut bytes = 0;
    if let Some(rules) = &writer.rules.used {
        bytes += rules.bytes();
        counts.extend(rules.counts().map(|rule| FirewallCount {
            owner: Some(rule.owner),
            name: rule.name.to_owned(),
            action: String::new(),
            queries: rule.hits,
        }));
    }
    if let Some(policies) = &writer.policies.used {
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
    free(&mut writer.rules.retired);
    free(&mut writer.policies.retired);
}
