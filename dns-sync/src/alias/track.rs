//! What is made of the answers about one type of one target: what of it is news, and when to ask again.

use std::time::Duration;

use herald_core::Rrset;
use herald_core::alias::watch::Found;
use tokio::time::Instant;

use super::resolve::Answer;

/// Nothing is asked more often, and nothing less often.
const WAIT_MIN: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// How long to wait after a failure: doubled with each further one, up to a minute.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// So often in a row it has to be said that there are no addresses, or to fail where there was an answer.
const DOUBTS: u32 = 2;

/// See the module.
pub(super) struct Track {
    told: Found,
    /// How often in a row something else than what was told was found that isn't taken at its word.
    doubts: u32,
    failures: u32,
    /// When to ask again; none if it was never asked.
    pub at: Option<Instant>,
}

impl Default for Track {
    fn default() -> Track {
        let told = Found::Failed { cause: "not resolved yet".into() };
        Track { told, doubts: 0, failures: 0, at: None }
    }
}

impl Track {
    /// What was told last.
    pub fn told(&self) -> &Found {
        &self.told
    }

    /// Takes an answer in; gives whether that is to be told, and how long it holds.
    pub fn note(&mut self, answer: Answer) -> (bool, Duration) {
        let Answer { mut found, ttl } = answer;
        self.failures = if matches!(found, Found::Failed { .. }) { self.failures + 1 } else { 0 };
        let mut wait = Duration::from_secs(ttl.into()).clamp(WAIT_MIN, WAIT_MAX);
        if self.failures > 0 {
            wait = RETRY_MIN.saturating_mul(1 << self.failures.min(6).saturating_sub(1)).min(RETRY_MAX);
        }
        if let Found::Addresses(rrset) = &mut found {
            rrset.ttl = rounded_down(rrset.ttl);
        }
        let is_news = match (&self.told, &found) {
            (Found::Addresses(told), Found::Addresses(found)) => is_other(told, found),
            (_, Found::Addresses(_)) => true,
            (told, found) if same_kind(told, found) => told != found,
            // What has an answer isn't given up for one that may be a fault of the moment.
            (Found::Addresses(_) | Found::Nothing { .. }, _) | (_, Found::Nothing { .. }) => {
                self.doubts += 1;
                if self.doubts < DOUBTS {
                    return (false, wait.min(WAIT_MIN));
                }
                true
            }
            (_, Found::Failed { .. }) => true,
        };
        self.doubts = 0;
        if is_news {
            self.told = found;
        }
        (is_news, wait)
    }
}

fn same_kind(one: &Found, other: &Found) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// Whether the second is to be served instead of the first: other addresses, a lower TTL, or one that is much higher. A resolver that
/// others ask, too, has a bit less each time.
fn is_other(told: &Rrset, found: &Rrset) -> bool {
    told.rdatas != found.rdatas || found.ttl < told.ttl || found.ttl / 2 >= told.ttl.max(1)
}

/// The TTL, less at most a quarter of it: so that 58 and 60 s are the same.
fn rounded_down(ttl: u32) -> u32 {
    let step = 1 << ttl.checked_ilog2().unwrap_or(0).saturating_sub(2);
    ttl / step * step
}

/// Somewhat longer, so that the resolver's own copy is gone, and targets are spread.
pub(super) fn jittered(wait: Duration) -> Duration {
    wait + Duration::from_millis(50) + crate::probe::phase(wait / 20)
}

#[cfg(test)]
mod tests {
    use herald_core::Rdatas;

    use super::*;

    fn addresses(ttl: u32, last: &[u8]) -> Answer {
        let rdatas = last.iter().map(|n| [192, 0, 2, *n]).collect::<Rdatas>();
        Answer { found: Found::Addresses(Rrset { ttl, rdatas }), ttl }
    }

    fn nothing() -> Answer {
        Answer { found: Found::Nothing { cause: "NXDOMAIN".into() }, ttl: 900 }
    }

    fn failed() -> Answer {
        Answer { found: Found::Failed { cause: "no answer".into() }, ttl: 0 }
    }

    #[test]
    fn what_is_news_and_when_it_is_asked_again() {
        let mut track = Track::default();
        let mut steps = Vec::new();
        for answer in [
            addresses(60, &[1]),
            addresses(58, &[1]),
            addresses(60, &[1, 2]),
            addresses(20, &[1, 2]),
            addresses(39, &[1, 2]),
            addresses(40, &[1, 2]),
            addresses(1, &[1, 2]),
            // One fault is none.
            failed(),
            addresses(1, &[1, 2]),
            nothing(),
            addresses(1, &[1, 2]),
            nothing(),
            nothing(),
            nothing(),
            failed(),
            failed(),
            failed(),
            addresses(100_000, &[1]),
        ] {
            let (is_news, wait) = track.note(answer);
            steps.push((is_news, wait.as_secs()));
        }
        let expected = [
            (true, 60),
            (false, 58),
            (true, 60),
            (true, 20),
            (false, 39),
            (true, 40),
            (true, 5),
            (false, 2),
            (false, 5),
            (false, 5),
            (false, 5),
            (false, 5),
            (true, 900),
            (false, 900),
            (false, 2),
            (true, 4),
            (false, 8),
            (true, 3600),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn at_first_a_failure_is_told_and_no_addresses_are_doubted() {
        let mut track = Track::default();
        assert_eq!(track.note(failed()), (true, Duration::from_secs(2)));
        for seconds in [4, 8, 16, 32, 60, 60] {
            assert_eq!(track.note(failed()), (false, Duration::from_secs(seconds)));
        }
        let mut track = Track::default();
        assert_eq!(track.note(nothing()), (false, Duration::from_secs(5)));
        assert_eq!(track.note(nothing()), (true, Duration::from_secs(900)));
    }

    #[test]
    fn ttls_are_rounded_down_by_a_quarter_at_most() {
        for (ttl, rounded) in
            [(0, 0), (1, 1), (7, 7), (8, 8), (9, 8), (59, 56), (60, 56), (300, 256), (86_400, 81_920)]
        {
            assert_eq!(rounded_down(ttl), rounded, "{ttl}");
        }
        for ttl in 0..100_000 {
            let rounded = rounded_down(ttl);
            assert!(rounded <= ttl && rounded * 4 >= ttl * 3, "{ttl} {rounded}");
        }
        assert_eq!(rounded_down(u32::MAX), 0xe000_0000);
    }
}
