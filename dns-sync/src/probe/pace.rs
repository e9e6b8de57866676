//! What is made of one probe after the other: so many good ones in a row are "up", so many bad ones "down".

use std::time::Duration;

use herald_core::monitor::Pace;

/// How one probe went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Good(Good),
    /// Not so, and why.
    Bad(String),
    /// It can't be told from here, and why: that is no word on the endpoint.
    Unable(String),
}

/// A probe that went as it should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Good {
    /// In words.
    pub cause: String,
    /// When the certificate ends, in seconds since the epoch.
    pub certificate_ends_s: Option<u64>,
}

/// What is seen of one monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    rise: u8,
    fall: u8,
    good_in_a_row: u8,
    bad_in_a_row: u8,
    /// None before enough probes went alike.
    pub up: Option<bool>,
    /// How the last probe went.
    pub cause: String,
    /// When it became so.
    pub since: Duration,
    /// How long the last good probe took.
    pub took: Option<Duration>,
    /// When the certificate ends, in seconds since the epoch.
    pub certificate_ends_s: Option<u64>,
}

impl Sight {
    /// Nothing was seen so far.
    pub fn new(pace: &Pace, now: Duration) -> Sight {
        Sight {
            rise: pace.rise.max(1),
            fall: pace.fall.max(1),
            good_in_a_row: 0,
            bad_in_a_row: 0,
            up: None,
            cause: String::new(),
            since: now,
            took: None,
            certificate_ends_s: None,
        }
    }

    /// Takes note of a probe that took so long. True if what is seen is another now, so that it is to be told.
    pub fn note(&mut self, outcome: Outcome, took: Duration, now: Duration) -> bool {
        let is_first = self.cause.is_empty();
        let up = match outcome {
            Outcome::Good(Good { cause, certificate_ends_s }) => {
                let is_new_certificate = certificate_ends_s != self.certificate_ends_s;
                (self.cause, self.certificate_ends_s, self.took) = (cause, certificate_ends_s, Some(took));
                self.good_in_a_row = self.good_in_a_row.saturating_add(1);
                self.bad_in_a_row = 0;
                if self.good_in_a_row < self.rise || self.up == Some(true) {
                    return is_new_certificate && self.up.is_some();
                }
                Some(true)
            }
            Outcome::Bad(cause) => {
                self.cause = cause;
                self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
                self.good_in_a_row = 0;
                if self.bad_in_a_row < self.fall || self.up == Some(false) {
                    return false;
                }
                Some(false)
            }
            Outcome::Unable(cause) => {
                let is_news = is_first || self.up.is_some() || cause != self.cause;
                self.cause = cause;
                (self.good_in_a_row, self.bad_in_a_row) = (0, 0);
                if !is_news {
                    return false;
                }
                None
            }
        };
        (self.up, self.since) = (up, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        interval_ms: 1000,
        timeout_ms: 500,
        rise: 2,
        fall: 3,
        probers: 1,
        quorum: None,
        recovery_ms: 0,
    };

    #[test]
    fn so_many_in_a_row_make_up_and_down() {
        let good = || Outcome::Good(Good { cause: "200".into(), certificate_ends_s: None });
        let bad = || Outcome::Bad("refused".into());
        let unable = || Outcome::Unable("not permitted".into());
        let mut sight = Sight::new(&PACE, Duration::ZERO);
        let steps = [
            (good(), false, None),
            (bad(), false, None),
            (good(), false, None),
            (good(), true, Some(true)),
            (good(), false, Some(true)),
            (bad(), false, Some(true)),
            (bad(), false, Some(true)),
            (good(), false, Some(true)),
            (bad(), false, Some(true)),
            (bad(), false, Some(true)),
            (bad(), true, Some(false)),
            (bad(), false, Some(false)),
            (good(), false, Some(false)),
            (unable(), true, None),
            (unable(), false, None),
            (good(), false, None),
            (good(), true, Some(true)),
        ];
        for (second, (outcome, is_told, up)) in (1..).zip(steps) {
            let now = Duration::from_secs(second);
            assert_eq!(sight.note(outcome, Duration::from_millis(3), now), is_told, "second {second}");
            assert_eq!(sight.up, up, "second {second}");
            assert!(!is_told || sight.since == now);
        }
    }
}
