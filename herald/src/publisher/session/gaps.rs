//! Zones that a PoP asks for whole: at once, and those that it asks for again and again later and later.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use herald_core::ZoneId;

/// The wait before a zone is sent whole the second time; it doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(64);

/// A zone that wasn't asked for this long has done well.
const FORGIVEN_AFTER: Duration = Duration::from_secs(2 * WAIT_MAX.as_secs());

/// How many zones are watched at least before those that have done well are looked for, to be forgotten.
const WATCHED_MIN: usize = 1_024;

/// See the module.
#[derive(Default)]
pub(super) struct Gaps {
    watched: HashMap<ZoneId, Watched>,
    /// Those that have done well are forgotten when there are this many.
    forget_at: usize,
    due: BTreeSet<(Duration, ZoneId)>,
    paused: HashSet<ZoneId>,
}

struct Watched {
    asked_at: Duration,
    wait: Duration,
}

impl Gaps {
    /// The PoP asks for the zone. `true`: send it now; it is [due](Gaps::due) later else.
    pub(super) fn asked(&mut self, zone: ZoneId, now: Duration) -> bool {
        if self.paused.contains(&zone) {
            return false;
        }
        if self.watched.len() >= self.forget_at {
            self.watched.retain(|_, watched| now < watched.asked_at + FORGIVEN_AFTER);
            self.forget_at = WATCHED_MIN.max(2 * self.watched.len());
        }
        let watched = self.watched.entry(zone).or_insert(Watched { asked_at: now, wait: Duration::ZERO });
        if now >= watched.asked_at + FORGIVEN_AFTER {
            watched.wait = Duration::ZERO;
        }
        let wait = watched.wait;
        watched.asked_at = now + wait;
        watched.wait = (wait * 2).clamp(WAIT_MIN, WAIT_MAX);
        if wait.is_zero() {
            return true;
        }
        self.paused.insert(zone);
        self.due.insert((now + wait, zone));
        false
    }

    /// Whether the zone is to be sent later.
    pub(super) fn is_paused(&self, zone: ZoneId) -> bool {
        self.paused.contains(&zone)
    }

    /// Zones that are to be sent later.
    pub(super) fn paused(&self) -> impl Iterator<Item = ZoneId> {
        self.paused.iter().copied()
    }

    /// When the next one is due.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes a zone that is due.
    pub(super) fn due(&mut self, now: Duration) -> Option<ZoneId> {
        let (at, zone) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, zone));
        self.paused.remove(&zone);
        Some(zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn who_asks_again_and_again_waits_longer_and_longer() {
        let (mut gaps, zone, mut now) = (Gaps::default(), ZoneId(1), S);
        assert!(gaps.asked(zone, now));
        for wait_s in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(!gaps.asked(zone, now));
            assert!(!gaps.asked(zone, now), "once is enough");
            assert!(gaps.is_paused(zone) && gaps.asked(ZoneId(now.as_millis()), now), "others do not wait");
            assert_eq!(gaps.next_at(), Some(now + Duration::from_secs(wait_s as u64)));
            now = gaps.next_at().unwrap();
            assert_eq!(gaps.due(now - S / 2), None);
            assert_eq!((gaps.due(now), gaps.due(now)), (Some(zone), None));
        }
        assert!(gaps.asked(zone, now + FORGIVEN_AFTER), "and is forgiven");
    }

    #[test]
    fn what_is_watched_is_bounded() {
        let mut gaps = Gaps::default();
        for n in 0..10 * WATCHED_MIN {
            assert!(gaps.asked(ZoneId(n as u128), FORGIVEN_AFTER * u32::try_from(n / WATCHED_MIN).unwrap()));
        }
        assert!(gaps.watched.len() <= 2 * WATCHED_MIN);
    }
}
