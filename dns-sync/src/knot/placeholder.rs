//! What knotd has of content with steering: a placeholder in each policy's place, and nothing of the rest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use herald_core::steering::{answered_type, is_steering_type, placeholder};
use herald_core::{RrKey, Rrset};

/// The changes that knotd is told where these are a zone's.
///
/// A policy and a plain RRset of its answers' type have one place in knotd. Whichever is there afterwards is put, whatever
/// is said of the other one's going.
pub fn changes_for_knot(changes: &BTreeMap<RrKey, Option<Rrset>>) -> BTreeMap<RrKey, Option<Rrset>> {
    let mut told: BTreeMap<RrKey, Option<Rrset>> = BTreeMap::new();
    for (key, rrset) in changes {
        let (rtype, rrset) = match answered_type(key.rtype) {
            Some(answered) => (answered, rrset.as_ref().and(placeholder(key.rtype)).map(|(_, rrset)| rrset)),
            None if is_steering_type(key.rtype) => continue,
            None => (key.rtype, rrset.clone()),
        };
        match told.entry(RrKey::new(key.owner.clone(), rtype)) {
            Entry::Vacant(entry) => {
                entry.insert(rrset);
            }
            // Types of policies come after those of their answers: where both are put, which no control plane does, the
            // answer is steered.
            Entry::Occupied(mut entry) => {
                if rrset.is_some() {
                    entry.insert(rrset);
                }
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use herald_core::steering::{POOL, policy_type};
    use herald_core::{Name, Rdatas, Rtype};
    use proptest::prelude::*;

    use super::*;

    type Content = BTreeMap<RrKey, Rrset>;

    fn key(owner: u8, rtype: Rtype) -> RrKey {
        RrKey::new(Name::parse(&format!("n{owner}.example.com.")).unwrap(), rtype)
    }

    fn rrset(value: u8) -> Rrset {
        Rrset { ttl: 60, rdatas: Rdatas::single(&[value; 4]) }
    }

    /// What a zone has at three names: at each, nothing, records, or a policy for A, and perhaps a pool.
    fn content() -> impl Strategy<Value = Content> {
        let names = proptest::collection::vec((0..3_u8, 0..3_u8, any::<bool>()), 3);
        names.prop_map(|names| {
            let mut content = Content::new();
            for (owner, (kind, value, has_pool)) in (0..).zip(names) {
                match kind {
                    1 => drop(content.insert(key(owner, Rtype::A), rrset(value))),
                    2 => drop(content.insert(key(owner, policy_type(Rtype::A).unwrap()), rrset(value))),
                    _ => {}
                }
                if has_pool {
                    content.insert(key(owner, POOL), rrset(value));
                }
            }
            content
        })
    }

    fn difference(old: &Content, new: &Content) -> BTreeMap<RrKey, Option<Rrset>> {
        let gone = old.keys().filter(|key| !new.contains_key(key)).map(|key| (key.clone(), None));
        let put = new.iter().filter(|(key, rrset)| old.get(key) != Some(rrset));
        gone.chain(put.map(|(key, rrset)| (key.clone(), Some(rrset.clone())))).collect()
    }

    /// What the files say.
    fn in_files(content: &Content) -> Content {
        let told = content.iter().filter_map(|(key, rrset)| {
            if !is_steering_type(key.rtype) {
                return Some((key.clone(), rrset.clone()));
            }
            let (rtype, rrset) = placeholder(key.rtype)?;
            Some((RrKey::new(key.owner.clone(), rtype), rrset))
        });
        told.collect()
    }

    proptest! {
        /// However often a name goes from records to a policy and back, and whichever of these changes are put into one
        /// transaction, knotd has what its files would say.
        #[test]
        fn changes_lead_to_what_the_files_say(
            versions in proptest::collection::vec((content(), any::<bool>()), 1..8),
        ) {
            let mut knot = Content::new();
            let mut content = Content::new();
            let mut held: BTreeMap<RrKey, Option<Rrset>> = BTreeMap::new();
            let last = versions.len() - 1;
            for (place, (version, is_sent)) in versions.into_iter().enumerate() {
                held.extend(difference(&content, &version));
                content = version;
                if is_sent || place == last {
                    let told = changes_for_knot(&std::mem::take(&mut held));
                    // As the driver does: all that changes is unset, then what is to be there is set.
                    told.keys().for_each(|key| drop(knot.remove(key)));
                    knot.extend(told.into_iter().filter_map(|(key, rrset)| Some((key, rrset?))));
                    prop_assert_eq!(&knot, &in_files(&content));
                    prop_assert!(knot.keys().all(|key| !is_steering_type(key.rtype)));
                }
            }
        }
    }
}
