//! What may be done of a thing from time to time only.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When something was last done, by thing; forgotten as soon as it may be done again.
#[derive(Debug)]
pub struct Spacing<K> {
    interval: Duration,
    last: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> Spacing<K> {
    /// From one time to the next it takes so long.
    pub fn new(interval: Duration) -> Spacing<K> {
        Spacing { interval, last: Mutex::default() }
    }

    /// It is done now.
    ///
    /// # Errors
    /// If it was done a moment ago: how long it takes till it may be done again.
    pub fn take(&self, thing: K) -> Result<(), Duration> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, at| at.elapsed() < self.interval);
        match last.get(&thing) {
            Some(at) => Err(self.interval.saturating_sub(at.elapsed())),
            None => {
                last.insert(thing, Instant::now());
                Ok(())
            }
        }
    }

    /// It wasn't done after all.
    pub fn give_back(&self, thing: &K) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(thing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_a_time_of_its_own() {
        let spacing = Spacing::new(Duration::from_secs(3600));
        assert_eq!(spacing.take(1), Ok(()));
        assert!(spacing.take(1).unwrap_err() > Duration::from_secs(3000));
        assert_eq!(spacing.take(2), Ok(()));
        spacing.give_back(&1);
        assert_eq!(spacing.take(1), Ok(()));
        let none = Spacing::new(Duration::ZERO);
        assert!(none.take(1).is_ok() && none.take(1).is_ok());
    }
}
