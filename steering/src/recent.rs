//! Counts of what comes again and again: a few instructions each, whatever it costs to count one where all are.

/// Counts of at most `N` different ones at a time: one takes the place of another.
#[derive(Debug)]
pub struct Recent<K, const N: usize> {
    places: Box<[(K, u64); N]>,
    /// Which places have a count.
    used: Vec<u32>,
}

impl<K: Copy + Default, const N: usize> Default for Recent<K, N> {
    fn default() -> Recent<K, N> {
        const { assert!(N.is_power_of_two()) };
        Recent { places: Box::new([(K::default(), 0); N]), used: Vec::with_capacity(N) }
    }
}

impl<K: Copy + PartialEq, const N: usize> Recent<K, N> {
    /// One more of this; what had its place until now, and how many of it there were. `mixed` is something that differs for different
    /// ones.
    #[inline]
    pub fn count(&mut self, key: K, mixed: u64) -> Option<(K, u64)> {
        let place = (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % N;
        let (known, count) = &mut self.places[place];
        if *known == key && *count > 0 {
            *count = count.wrapping_add(1);
            return None;
        }
        self.put(place, key)
    }

    #[inline(never)]
    fn put(&mut self, place: usize, key: K) -> Option<(K, u64)> {
        let before = std::mem::replace(&mut self.places[place], (key, 1));
        if before.1 == 0 {
            self.used.push(place as u32);
            return None;
        }
        Some(before)
    }

    /// One that has a count, which it has no more.
    pub fn pop(&mut self) -> Option<(K, u64)> {
        let (known, count) = &mut self.places[self.used.pop()? as usize];
        Some((*known, std::mem::take(count)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::Recent;

    #[test]
    fn what_is_counted_is_what_comes_out() {
        // All have a place, some, and few.
        for kinds in [1, 8, 16, 40, 1_000] {
            let mut recent: Recent<u64, 16> = Recent::default();
            let mut counts: HashMap<u64, u64> = HashMap::new();
            for _ in 0..2 {
                for n in 0..1_000 {
                    if let Some((key, count)) = recent.count(n % kinds, n % kinds) {
                        *counts.entry(key).or_default() += count;
                    }
                }
                while let Some((key, count)) = recent.pop() {
                    *counts.entry(key).or_default() += count;
                }
            }
            for kind in 0..kinds {
                let expected = 2 * (0..1_000).filter(|n| n % kinds == kind).count() as u64;
                assert_eq!(counts.get(&kind), Some(&expected), "{kind} of {kinds}");
            }
            assert_eq!(counts.len() as u64, kinds);
        }
    }
}
