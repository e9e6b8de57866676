//! The RRsets of a zone (its SOA aside, which the system makes), with their digest.
//!
//! A clone costs nothing and shares everything, and the difference of two versions is found in the time that the
//! difference takes: drafts, history and publications all rest on this.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use minicbor::{Decode, Encode};

use crate::alias::{ALIAS, Alias};
use crate::steering::{self, Tally};
use crate::{Name, RrKey, Rrset, Rtype};

/// RRsets in canonical order.
#[derive(Clone, Debug, Default)]
pub struct Content {
    rrsets: OrdMap<RrKey, Rrset>,
    record_count: u64,
    digest: u128,
    /// Of the steering, if there is any.
    steering: Option<Arc<Tally>>,
    /// What its ALIAS records lead to, by their owners.
    aliases: OrdMap<Name, Alias>,
}

impl Content {
    /// The RRset of this owner and type.
    pub fn get(&self, key: &RrKey) -> Option<&Rrset> {
        self.rrsets.get(key)
    }

    /// The RRset becomes this. One without records is removed, as no RRset is empty.
    pub fn put(&mut self, key: RrKey, rrset: Rrset) {
        if rrset.rdatas.is_empty() {
            self.delete(&key);
            return;
        }
        self.record_count += rrset.rdatas.len() as u64;
        self.digest = self.digest.wrapping_add(rrset.digest(&key));
        if steering::counts(&key) {
            Arc::make_mut(self.steering.get_or_insert_default()).add(&key, &rrset);
        }
        let alias = Alias::of(&key, &rrset);
        if let Some(old) = self.rrsets.insert(key.clone(), rrset) {
            self.forget(&key, &old);
        }
        if let Some(alias) = alias {
            self.aliases.insert(key.owner, alias);
        }
    }

    /// The RRset is removed, if it is there.
    pub fn delete(&mut self, key: &RrKey) {
        if let Some(old) = self.rrsets.remove(key) {
            self.forget(key, &old);
        }
    }

    /// Puts RRsets that are in order. A B-tree that only grows at its end is one of half-empty nodes: so every other RRset
    /// goes in first, and the rest then fills the gaps.
    fn put_run(&mut self, run: &mut Vec<(RrKey, Rrset)>) {
        let mut later = Vec::with_capacity(run.len() / 2);
        for (place, (key, rrset)) in run.drain(..).enumerate() {
            if place % 2 == 1 { later.push((key, rrset)) } else { self.put(key, rrset) }
        }
        for (key, rrset) in later {
            self.put(key, rrset);
        }
    }

    fn forget(&mut self, key: &RrKey, old: &Rrset) {
        self.record_count -= old.rdatas.len() as u64;
        self.digest = self.digest.wrapping_sub(old.digest(key));
        if key.rtype == ALIAS {
            self.aliases.remove(&key.owner);
        }
        if steering::counts(key)
            && let Some(tally) = &mut self.steering
        {
            Arc::make_mut(tally).remove(key, old);
            self.steering.take_if(|tally| tally.rrset_count() == 0);
        }
    }

    /// All RRsets in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = (&RrKey, &Rrset)> {
        self.rrsets.iter()
    }

    /// The RRsets after `key`, or all of them.
    pub fn after(&self, key: Option<&RrKey>) -> impl Iterator<Item = (&RrKey, &Rrset)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.rrsets.range::<_, RrKey>((from, Bound::Unbounded))
    }

    /// The RRsets of one owner.
    pub fn at<'a>(&'a self, owner: &'a Name) -> impl Iterator<Item = (&'a RrKey, &'a Rrset)> {
        let first = RrKey::new(owner.clone(), Rtype::from_int(0));
        self.rrsets.range(first..).take_while(move |(key, _)| key.owner == *owner)
    }

    /// The RRsets below a name, the name itself left out.
    pub fn below<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = (&'a RrKey, &'a Rrset)> {
        let last = RrKey::new(name.clone(), Rtype::from_int(u16::MAX));
        self.rrsets
            .range::<_, RrKey>((Bound::Excluded(&last), Bound::Unbounded))
            .take_while(move |(key, _)| key.owner.is_below(name))
    }

    /// How many RRsets there are.
    pub fn rrset_count(&self) -> u64 {
        self.rrsets.len() as u64
    }

    /// How many records there are.
    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    /// What is counted of its steering; none if it has none.
    pub fn steering(&self) -> Option<&Tally> {
        self.steering.as_deref()
    }

    /// What its ALIAS records lead to, by their owners.
    pub fn aliases(&self) -> &OrdMap<Name, Alias> {
        &self.aliases
    }

    /// The wrapping sum of the RRsets' digests: equal content has an equal digest, whatever led to it.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The RRsets that are not the same in `new`, in canonical order.
    pub fn changes<'a>(&'a self, new: &'a Content) -> impl Iterator<Item = RrsetChange<'a>> {
        self.rrsets.diff(&new.rrsets).map(|item| match item {
            DiffItem::Add(key, new) => RrsetChange { key, old: None, new: Some(new) },
            DiffItem::Update { old: (_, old), new: (key, new) } => {
                RrsetChange { key, old: Some(old), new: Some(new) }
            }
            DiffItem::Remove(key, old) => RrsetChange { key, old: Some(old), new: None },
        })
    }

    /// What leads from this content to `new`.
    pub fn diff(&self, new: &Content) -> Difference {
        let mut difference = Difference::default();
        for RrsetChange { key, new, .. } in self.changes(new) {
            match new {
                Some(rrset) => difference.puts.push((key.clone(), rrset.clone())),
                None => difference.deletes.push(key.clone()),
            }
        }
        difference
    }

    /// Does what [`Content::diff`] found.
    pub fn apply(&mut self, difference: &Difference) {
        for key in &difference.deletes {
            self.delete(key);
        }
        for (key, rrset) in &difference.puts {
            self.put(key.clone(), rrset.clone());
        }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Content) -> bool {
        self.digest == other.digest
            && self.rrsets.len() == other.rrsets.len()
            && self.rrsets.diff(&other.rrsets).next().is_none()
    }
}

impl Eq for Content {}

impl FromIterator<(RrKey, Rrset)> for Content {
    fn from_iter<I: IntoIterator<Item = (RrKey, Rrset)>>(rrsets: I) -> Content {
        let mut content = Content::default();
        content.extend(rrsets);
        content
    }
}

impl Extend<(RrKey, Rrset)> for Content {
    /// Puts RRsets. Those that come in order need half the memory of what [`Content::put`] one by one would make of them.
    fn extend<I: IntoIterator<Item = (RrKey, Rrset)>>(&mut self, rrsets: I) {
        let mut run: Vec<(RrKey, Rrset)> = Vec::new();
        for (mut key, rrset) in rrsets {
            if let Some((last, _)) = run.last() {
                // RRsets of one owner share its octets.
                if last.owner == key.owner {
                    key.owner = last.owner.clone();
                }
                if *last >= key || run.len() == RUN_RRSETS {
                    self.put_run(&mut run);
                }
            }
            run.push((key, rrset));
        }
        self.put_run(&mut run);
    }
}

/// So many RRsets are put together: some ten nodes of the map.
const RUN_RRSETS: usize = 1_024;

/// How an RRset differs between two versions of a zone: it is in one of them, or in both and another.
#[derive(Clone, Copy, Debug)]
pub struct RrsetChange<'a> {
    /// Owner and type.
    pub key: &'a RrKey,
    /// As it was.
    pub old: Option<&'a Rrset>,
    /// As it is.
    pub new: Option<&'a Rrset>,
}

/// RRsets to put and to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Difference {
    /// RRsets that are new or different.
    #[n(0)]
    pub puts: Vec<(RrKey, Rrset)>,
    /// RRsets that are gone.
    #[n(1)]
    pub deletes: Vec<RrKey>,
}

impl Difference {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty()
    }
}

impl<C> Encode<C> for Content {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.rrsets.len() as u64 * 2)?;
        for (key, rrset) in &self.rrsets {
            key.encode(e, context)?;
            rrset.encode(e, context)?;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Content {
    fn decode(d: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let items =
            d.array()?.ok_or_else(|| minicbor::decode::Error::message("content of unknown length"))?;
        let mut rrsets = Vec::new();
        for _ in 0..items / 2 {
            rrsets.push((RrKey::decode(d, context)?, Rrset::decode(d, context)?));
        }
        Ok(rrsets.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rdatas;
    use proptest::prelude::*;

    fn key(n: u8) -> RrKey {
        RrKey::new(
            Name::parse(&format!("h{}.example.com", n / 3)).unwrap(),
            Rtype::from_int(u16::from(n % 3) + 1),
        )
    }

    fn content(items: &[(u8, u8)]) -> Content {
        let mut content = Content::default();
        for (name, value) in items {
            // A value of zero stands for a deletion.
            let rdatas = (1..=*value % 4).map(|n| [n, *value]).collect::<Rdatas>();
            content.put(key(*name), Rrset { ttl: u32::from(*value), rdatas });
        }
        content
    }

    proptest! {
        #[test]
        fn digest_and_counts_depend_on_content_alone(
            a in prop::collection::vec(any::<(u8, u8)>(), 0..80),
            b in prop::collection::vec(any::<(u8, u8)>(), 0..80),
        ) {
            let (a, b) = (content(&a), content(&b));
            let difference = a.diff(&b);
            let mut c = a.clone();
            c.apply(&difference);
            prop_assert_eq!(&c, &b);
            prop_assert_eq!(c.digest(), b.digest());
            let fresh: Content = b.iter().map(|(k, r)| (k.clone(), r.clone())).collect();
            prop_assert_eq!(fresh.digest(), c.digest());
            prop_assert_eq!(fresh.record_count(), c.record_count());
            prop_assert_eq!(difference.is_empty(), a == b);
            prop_assert_eq!(crate::brakes::Size::after(&a, &difference), crate::brakes::Size::of(&b));
            let decoded: Content = minicbor::decode(&minicbor::to_vec(&b).unwrap()).unwrap();
            prop_assert_eq!(decoded, b);
        }
    }

    #[test]
    fn at_and_below_find_what_they_say() {
        let name = |text: &str| Name::parse(text).unwrap();
        let rrset = Rrset { ttl: 1, rdatas: Rdatas::single(&[1, 2, 3, 4]) };
        let names = ["example.com", "a.example.com", "x.a.example.com", "b.example.com"];
        let content: Content = names.iter().map(|n| (RrKey::new(name(n), Rtype::A), rrset.clone())).collect();
        let a = name("a.example.com");
        assert_eq!(content.at(&a).count(), 1);
        let below: Vec<String> = content.below(&a).map(|(k, _)| k.owner.to_string()).collect();
        assert_eq!(below, ["x.a.example.com."]);
        assert_eq!(content.below(&name("example.com")).count(), 3);
    }
}
