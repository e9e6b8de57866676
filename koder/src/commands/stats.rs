//! `koder dns stats`: counts of queries.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use herald_wire::api::stats::{Stats, StatsCounts, StatsPeriod};

use super::Session;
use crate::client::StatsQuery;
use crate::failure::Failure;
use crate::{names, table, times};

/// The longest sparkline, in characters.
const SPARKS_MAX: usize = 60;

/// Kinds that are shown without `--by`.
const TOP: usize = 5;

const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Flags of `koder dns stats`.
#[derive(Args, Debug)]
#[command(after_help = "\
Counts are exact, and some seconds old, where a PoP has many zones up to a minute. Without a zone it is what was asked for in
no zone, and messages that can't be read (operators).

Examples:
  koder dns stats example.com
  koder dns stats example.com --since 1d --by country
  koder dns stats example.com --since 30d --step 1d --pop fra1 --json
  koder dns stats --by rcode")]
pub struct StatsArgs {
    /// The zone (name or id)
    pub zone: Option<String>,
    /// Since when: so long ago
    #[arg(long, value_name = "DURATION", value_parser = times::parse_duration, default_value = "1h")]
    pub since: Duration,
    /// How long a period is, instead of what fits
    #[arg(long)]
    pub step: Option<StepArg>,
    /// By what they are told apart
    #[arg(long, value_name = "KIND")]
    pub by: Option<Kind>,
    /// Of this PoP alone
    #[arg(long)]
    pub pop: Option<String>,
}

/// How long a period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StepArg {
    /// A minute
    #[value(name = "1m")]
    Minute,
    /// An hour
    #[value(name = "1h")]
    Hour,
    /// A day
    #[value(name = "1d")]
    Day,
}

/// What counts are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Type asked for
    Type,
    /// Response code
    Rcode,
    /// PoP
    Pop,
    /// Country of the client
    Country,
    /// Transport
    Transport,
    /// Steered name and pool
    Pool,
}

pub(super) fn run(session: &mut Session<'_>, args: &StatsArgs) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let from_ms = u64::try_from(now.saturating_sub(args.since).as_millis()).unwrap_or_default();
    let step = args.step.map(|step| match step {
        StepArg::Minute => "1m",
        StepArg::Hour => "1h",
        StepArg::Day => "1d",
    });
    let query = StatsQuery { from_ms, step: step.map(str::to_owned), pop: args.pop.clone() };
    let zone = args.zone.as_deref().map(names::zone_for_path);
    let stats = session.client()?.stats(zone.as_deref(), &query)?;
    session.show(&stats, |stats| show(stats, args.by))
}

fn show(stats: &Stats, by: Option<Kind>) -> String {
    let total = &stats.total;
    let seconds = stats.to_ms.saturating_sub(stats.from_ms).max(1_000) / 1_000;
    let of = |count: u64| format!("{count} ({})", percent(count, total.query_count));
    let line = sparkline(stats);
    let mut text = table::pairs([
        (
            "zone",
            Some(stats.name.clone().unwrap_or_else(|| "none: unknown names, unreadable messages".into())),
        ),
        ("from", Some(times::format_time(stats.from_ms))),
        ("to", Some(times::format_time(stats.to_ms))),
        (
            "queries",
            Some(format!("{}, {:.1} a second", total.query_count, total.query_count as f64 / seconds as f64)),
        ),
        ("NXDOMAIN", Some(of(total.nxdomain))),
        ("dropped", Some(of(total.dropped))),
        ("truncated", Some(of(total.truncated))),
        ("over IPv6", Some(of(total.ipv6))),
        ("course", (!line.is_empty()).then_some(line)),
    ]);
    let kinds: &[Kind] = match &by {
        Some(kind) => std::slice::from_ref(kind),
        None => &[Kind::Type, Kind::Rcode, Kind::Pop],
    };
    for kind in kinds {
        let most = if by.is_some() { usize::MAX } else { TOP };
        text.push('\n');
        text.push_str(&kind_table(total, *kind, most));
    }
    text
}

fn kind_table(total: &StatsCounts, kind: Kind, most: usize) -> String {
    let (title, counts): (_, BTreeMap<String, u64>) = match kind {
        Kind::Type => ("TYPE", total.by_type.clone()),
        Kind::Rcode => ("RCODE", total.by_rcode.clone()),
        Kind::Pop => ("POP", total.by_pop.clone()),
        Kind::Country => ("COUNTRY", total.by_country.clone()),
        Kind::Transport => ("TRANSPORT", total.by_transport.clone()),
        Kind::Pool => {
            let pools = total.by_pool.iter().flat_map(|(name, pools)| {
                pools.iter().map(move |(pool, count)| (format!("{name} {pool}"), *count))
            });
            ("NAME AND POOL", pools.collect())
        }
    };
    let mut rows: Vec<(&String, u64)> = counts.iter().map(|(name, count)| (name, *count)).collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    rows.truncate(most);
    table::columns(
        [title, "QUERIES", "SHARE"],
        rows.into_iter().map(|(name, count)| {
            [table::printable(name), count.to_string(), percent(count, total.query_count)]
        }),
    )
}

fn percent(count: u64, of: u64) -> String {
    if of == 0 { "-".into() } else { format!("{:.1}%", count as f64 * 100.0 / of as f64) }
}

/// Queries over time: a character for each period, or for several.
fn sparkline(stats: &Stats) -> String {
    let step_ms: u64 = match stats.step.as_str() {
        "1d" => 86_400_000,
        "1h" => 3_600_000,
        _ => 60_000,
    };
    let periods = (stats.to_ms.saturating_sub(stats.from_ms) / step_ms).max(1) as usize;
    let each = periods.div_ceil(SPARKS_MAX);
    let mut sums = vec![0_u64; periods.div_ceil(each)];
    for StatsPeriod { start_ms, counts } in &stats.periods {
        let period = (start_ms.saturating_sub(stats.from_ms) / step_ms) as usize;
        if let Some(sum) = sums.get_mut(period / each) {
            *sum += counts.query_count;
        }
    }
    let highest = sums.iter().copied().max().unwrap_or_default();
    if highest == 0 {
        return String::new();
    }
    let spark = |sum: u64| match sum {
        0 => ' ',
        sum => SPARKS[((u128::from(sum) * 8).div_ceil(u128::from(highest)) as usize - 1).min(7)],
    };
    let line: String = sums.into_iter().map(spark).collect();
    format!(
        "{line}| {highest} at most in {}",
        match (each, stats.step.as_str()) {
            (1, step) => step.to_owned(),
            (each, step) => format!("{each} × {step}"),
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(from_ms: u64, to_ms: u64, step: &str, periods: &[(u64, u64)]) -> Stats {
        let period = |(start_ms, query_count): &(u64, u64)| StatsPeriod {
            start_ms: *start_ms,
            counts: StatsCounts { query_count: *query_count, ..StatsCounts::default() },
        };
        let periods: Vec<StatsPeriod> = periods.iter().map(period).collect();
        let query_count = periods.iter().map(|period| period.counts.query_count).sum();
        let by_type = BTreeMap::from([("A".into(), query_count)]);
        let total = StatsCounts { query_count, nxdomain: 1, by_type, ..StatsCounts::default() };
        Stats {
            name: Some("example.com.".into()),
            from_ms,
            to_ms,
            step: step.into(),
            periods,
            total,
            ..Stats::default()
        }
    }

    #[test]
    fn the_course_has_a_character_a_period_and_gaps_where_nothing_was() {
        let line = sparkline(&stats(0, 300_000, "1m", &[(0, 1), (60_000, 8), (180_000, 4), (240_000, 800)]));
        assert_eq!(line, "▁▁ ▁█| 800 at most in 1m");
        let line =
            sparkline(&stats(0, 480_000, "1m", &(0..8).map(|n| (n * 60_000, n + 1)).collect::<Vec<_>>()));
        assert_eq!(line, "▁▂▃▄▅▆▇█| 8 at most in 1m");
        assert_eq!(sparkline(&stats(0, 60_000, "1m", &[])), "");
        let day: Vec<(u64, u64)> = (0..1440).map(|n| (n * 60_000, 1)).collect();
        let line = sparkline(&stats(0, 86_400_000, "1m", &day));
        assert!(line.starts_with("██") && line.ends_with("| 24 at most in 24 × 1m"), "{line}");
    }

    #[test]
    fn counts_are_shown_with_their_shares() {
        let text = show(&stats(0, 60_000, "1m", &[(0, 4)]), Some(Kind::Type));
        assert!(text.contains("4, 0.1 a second") && text.contains("1 (25.0%)"), "{text}");
        assert!(text.contains("TYPE") && text.contains("100.0%") && !text.contains("RCODE"), "{text}");
        let mut all = stats(0, 60_000, "1m", &[(0, 4)]);
        all.total.by_rcode = BTreeMap::from([("NOERROR".into(), 3), ("NXDOMAIN".into(), 1)]);
        let text = show(&all, None);
        assert!(text.contains("TYPE") && text.contains("RCODE") && text.contains("75.0%"), "{text}");
    }
}
