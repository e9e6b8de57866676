//! Times and durations, as people write and read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999: RFC 3339 has no later one.
const LATEST_MS: u64 = 253_402_300_799_000;

/// Reads `30s`, `500ms`, `1h 30m`, `90d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a duration such as 500ms, 30s, 12h or 90d".to_owned())
}

/// A point in time (milliseconds since the epoch) as RFC 3339, to the second.
pub fn format_time(time_ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(time_ms.min(LATEST_MS));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The same, to the millisecond.
pub fn format_time_ms(time_ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(time_ms.min(LATEST_MS));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Milliseconds as a person wants them: `0.4 ms`, `12 ms`, `3.2 s`.
pub fn format_ms(duration_ms: f64) -> String {
    if duration_ms < 10.0 {
        format!("{duration_ms:.1} ms")
    } else if duration_ms < 1000.0 {
        format!("{duration_ms:.0} ms")
    } else {
        format!("{:.1} s", duration_ms / 1000.0)
    }
}

/// The milliseconds since the epoch `after` from `now`.
pub fn later_ms(now: SystemTime, after: Duration) -> u64 {
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(after);
    u64::try_from(since_epoch.as_millis()).unwrap_or(LATEST_MS).min(LATEST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("30s", 30), ("2m", 120), ("1h 30m", 5400), ("90d", 90 * 86_400)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "30", "-1s", "soon", "1 parsec", "99999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(format_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(format_time(1_767_225_600_999), "2026-01-01T00:00:00Z");
        assert_eq!(format_time(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn milliseconds() {
        assert_eq!(format_ms(0.42), "0.4 ms");
        assert_eq!(format_ms(12.3), "12 ms");
        assert_eq!(format_ms(3210.0), "3.2 s");
    }

    #[test]
    fn later() {
        let now = UNIX_EPOCH + Duration::from_secs(10);
        assert_eq!(later_ms(now, Duration::from_secs(5)), 15_000);
        assert_eq!(later_ms(now, Duration::MAX), LATEST_MS);
    }
}
