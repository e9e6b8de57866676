use std::collections::BTreeMap;

use herald_core::{PopId, ZoneId};
use herald_wire::api::stats::{PeriodStart, StatsReport};
use rusqlite::Connection;
use steering::counts::{Counts, Tally};

use super::store::{DAY, HOUR};
use super::{FILE, Report, Retention, Stats, StatsError, Step, read_report};

const ZONE: ZoneId = ZoneId(5);
const POP: PopId = PopId(1);

/// A midnight.
const MIDNIGHT: u64 = 20_000 * DAY;

fn report(zone: Option<ZoneId>, minute: u64, sequence: u64, queries: u64) -> Report {
    let counts = Counts {
        queries,
        by_type: Tally::from_iter([(1, queries)]),
        by_pool: BTreeMap::from([("www.example.".into(), Tally::from_iter([("east".into(), queries)]))]),
        ..Counts::default()
    };
    Report { zone, minute, sequence, counts }
}

fn queries(stats: &Stats, zone: Option<ZoneId>, step: Step) -> BTreeMap<u64, u64> {
    let periods = stats.read(zone, MIDNIGHT - 5 * DAY..MIDNIGHT + 5 * DAY, step, None).unwrap();
    periods.iter().map(|(start, period)| (start.wrapping_sub(MIDNIGHT), period.counts.queries)).collect()
}

#[test]
fn a_report_is_counted_once_however_often_and_in_which_order_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let stats = Stats::open(dir.path(), Retention::default()).unwrap();
    let one = |sequence| report(Some(ZONE), MIDNIGHT, sequence, 10_u64.pow(sequence as u32));
    assert_eq!(stats.take_now(POP, &[one(3), one(5)]).unwrap(), 2);
    assert_eq!(stats.take_now(POP, &[one(3), one(5)]).unwrap(), 0);
    // Partly the same ones, and out of order.
    assert_eq!(stats.take_now(POP, &[one(5), one(1), one(4), one(1)]).unwrap(), 2);
    drop(stats);
    let stats = Stats::open(dir.path(), Retention::default()).unwrap();
    assert_eq!(stats.take_now(POP, &[one(4), one(2), one(3)]).unwrap(), 1);
    assert_eq!(queries(&stats, Some(ZONE), Step::Minute), BTreeMap::from([(0, 111_110)]));
    // The same number is another report elsewhere: of another PoP, zone, minute, or of no zone.
    assert_eq!(stats.take_now(PopId(2), &[one(3)]).unwrap(), 1);
    let others = [
        report(Some(ZoneId(6)), MIDNIGHT, 3, 7),
        report(Some(ZONE), MIDNIGHT + 1, 3, 8),
        report(None, MIDNIGHT, 3, 9),
    ];
    assert_eq!(stats.take_now(POP, &others).unwrap(), 3);
    assert_eq!(queries(&stats, Some(ZONE), Step::Minute), BTreeMap::from([(0, 112_110), (1, 8)]));
    assert_eq!(queries(&stats, None, Step::Minute), BTreeMap::from([(0, 9)]));
    let at_one = stats.read(Some(ZONE), MIDNIGHT..MIDNIGHT + 1, Step::Minute, Some(PopId(2))).unwrap();
    assert_eq!(at_one[&MIDNIGHT].counts.queries, 1_000);
    assert_eq!(at_one[&MIDNIGHT].by_pop, BTreeMap::from([(PopId(2), 1_000)]));
}

#[test]
fn hours_and_days_are_what_their_minutes_are_before_and_after_they_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let stats = Stats::open(dir.path(), Retention::default()).unwrap();
    let mut sequence = 0;
    let mut add = |minute: u64| {
        sequence += 1;
        stats.take_now(POP, &[report(Some(ZONE), minute, sequence, 1)]).unwrap();
    };
    for minute in (0..2 * DAY).step_by(7) {
        add(MIDNIGHT + minute);
    }
    let (hours, days) = (queries(&stats, Some(ZONE), Step::Hour), queries(&stats, Some(ZONE), Step::Day));
    assert_eq!((hours.len(), days.values().sum::<u64>()), (48, 2 * DAY / 7 + 1));
    let same = |stats: &Stats, hours: &BTreeMap<u64, u64>, days: &BTreeMap<u64, u64>| {
        assert_eq!(&queries(stats, Some(ZONE), Step::Hour), hours);
        assert_eq!(&queries(stats, Some(ZONE), Step::Day), days);
    };
    // The first day is over, and half of the second one.
    for now in [MIDNIGHT + DAY, MIDNIGHT + DAY + 12 * HOUR + 5, MIDNIGHT + 2 * DAY + 5] {
        stats.roll(now).unwrap();
        same(&stats, &hours, &days);
    }
    // A PoP was away for an hour.
    add(MIDNIGHT + 65);
    let (mut hours, mut days) = (hours, days);
    *hours.get_mut(&60).unwrap() += 1;
    *days.get_mut(&0).unwrap() += 1;
    same(&stats, &hours, &days);
    stats.roll(MIDNIGHT + 2 * DAY + 6).unwrap();
    same(&stats, &hours, &days);
    // Minutes of the first days are erased, and what comes of them after that is added to their hours.
    stats.roll(MIDNIGHT + 4 * DAY + 5).unwrap();
    assert_eq!(queries(&stats, Some(ZONE), Step::Minute).len(), 0);
    same(&stats, &hours, &days);
    add(MIDNIGHT + 70);
    *hours.get_mut(&60).unwrap() += 1;
    *days.get_mut(&0).unwrap() += 1;
    same(&stats, &hours, &days);
    for minute in 6..9 {
        stats.roll(MIDNIGHT + 4 * DAY + minute).unwrap();
        same(&stats, &hours, &days);
    }
    let day = stats.read(Some(ZONE), MIDNIGHT..MIDNIGHT + DAY, Step::Day, None).unwrap();
    assert_eq!(day[&MIDNIGHT].counts.by_pool["www.example."].get(&"east".into()), days[&0]);
}

#[test]
fn a_file_of_another_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Stats::open(dir.path(), Retention::default()).unwrap());
    Connection::open(dir.path().join(FILE)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let opened = Stats::open(dir.path(), Retention::default());
    assert!(matches!(opened, Err(StatsError::Version { found: 99, .. })));
}

fn sound() -> StatsReport {
    StatsReport {
        zone_id: Some(ZONE.to_string()),
        period_start: PeriodStart::Text("2026-11-23T09:30:00Z".into()),
        sequence: 1,
        query_count: 10,
        nxdomain: 2,
        dropped: 1,
        truncated: 0,
        ipv6: 0,
        by_type: BTreeMap::from([("A".into(), 5), ("TYPE65400".into(), 4), ("NONE".into(), 1)]),
        by_rcode: BTreeMap::from([("NOERROR".into(), 7), ("NXDOMAIN".into(), 2)]),
        by_transport: BTreeMap::from([("udp".into(), 10)]),
        by_country: BTreeMap::from([("DE".into(), 3)]),
        by_pool: BTreeMap::from([("www.example.".into(), BTreeMap::from([("east".into(), 4)]))]),
    }
}

#[test]
fn what_is_wrong_with_a_report_is_named() {
    let minute = read_report(&sound()).unwrap().minute;
    assert_eq!(minute, 1_795_426_200 / 60);
    for number in [1_795_426_200, 1_795_426_200_000] {
        let same = StatsReport { period_start: PeriodStart::Number(number), ..sound() };
        assert_eq!(read_report(&same).unwrap().minute, minute);
    }
    let one = |name: &str, count: u64| BTreeMap::from([(name.to_owned(), count)]);
    let start = |text: &str| StatsReport { period_start: PeriodStart::Text(text.into()), ..sound() };
    let table = [
        (StatsReport { zone_id: Some("z1".into()), ..sound() }, "/zone_id"),
        (StatsReport { query_count: u64::MAX, ..sound() }, "/query_count"),
        (StatsReport { nxdomain: 11, ..sound() }, "/nxdomain"),
        (StatsReport { nxdomain: 1, ..sound() }, "/nxdomain"),
        (StatsReport { dropped: 11, ..sound() }, "/dropped"),
        (StatsReport { truncated: 11, ..sound() }, "/truncated"),
        (StatsReport { ipv6: 11, ..sound() }, "/ipv6"),
        (StatsReport { by_type: one("A", 11), ..sound() }, "/by_type"),
        (StatsReport { by_type: one("no type", 1), ..sound() }, "/by_type/no type"),
        (StatsReport { dropped: 2, ..sound() }, "/by_rcode"),
        (StatsReport { by_rcode: one("WRONG/~", 1), nxdomain: 0, ..sound() }, "/by_rcode/WRONG~1~0"),
        (StatsReport { by_transport: one("pigeon", 1), ..sound() }, "/by_transport/pigeon"),
        (StatsReport { by_country: one("de", 1), ..sound() }, "/by_country/de"),
        (StatsReport { by_country: one("DEU", 1), ..sound() }, "/by_country/DEU"),
        (StatsReport { by_pool: BTreeMap::from([("w.".into(), one("a", 11))]), ..sound() }, "/by_pool/w."),
        (StatsReport { by_pool: BTreeMap::from([("w.".into(), one("", 1))]), ..sound() }, "/by_pool/w./"),
        (StatsReport { by_pool: BTreeMap::from([("w".repeat(2_000), one("a", 1))]), ..sound() }, "/by_pool"),
        (
            StatsReport {
                by_pool: BTreeMap::from([("v.".into(), one("a", 6)), ("w.".into(), one("a", 6))]),
                ..sound()
            },
            "/by_pool",
        ),
        (start("2026-11-23T09:30:01Z"), "/period_start"),
        (start("yesterday"), "/period_start"),
        (start("1900-01-01T00:00:00Z"), "/period_start"),
        (StatsReport { period_start: PeriodStart::Number(u64::MAX), ..sound() }, "/period_start"),
    ];
    for (bad, pointer) in table {
        let refused = read_report(&bad).unwrap_err();
        assert_eq!(refused.pointer, pointer, "{bad:?}: {}", refused.detail);
    }
}

/// `cargo test -p herald --release --lib stats::tests::figures -- --ignored --nocapture`
#[test]
#[ignore = "it takes a minute, and only says something where little else runs"]
fn figures_of_taking_in_and_of_reading_a_day() {
    const ZONES: u128 = 10_000;
    const POPS: u128 = 15;
    const REQUEST: u128 = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let stats = Stats::open(dir.path(), Retention::default()).unwrap();
    let full = |zone: u128, minute: u64| {
        let item = StatsReport {
            zone_id: Some(ZoneId(zone).to_string()),
            period_start: PeriodStart::Number(minute * 60),
            sequence: minute,
            ..sound()
        };
        serde_json::to_vec(&item).unwrap()
    };
    // A day of one zone, by minute and PoP.
    for pop in 1..=POPS {
        let day: Vec<Report> =
            (0..DAY).map(|minute| report(Some(ZoneId(2)), MIDNIGHT + minute, 1, 9)).collect();
        stats.take_now(PopId(pop), &day).unwrap();
    }
    // A minute of all zones at all PoPs, from JSON on.
    let begin = std::time::Instant::now();
    for pop in 1..=POPS {
        for first in (0..ZONES).step_by(REQUEST as usize) {
            let items: Vec<Vec<u8>> =
                (first..first + REQUEST).map(|zone| full(zone + 1, MIDNIGHT + DAY)).collect();
            let read: Vec<Report> = items
                .iter()
                .map(|item| read_report(&serde_json::from_slice::<StatsReport>(item).unwrap()).unwrap())
                .collect();
            assert_eq!(stats.take_now(PopId(pop), &read).unwrap(), read.len() as u64);
        }
    }
    println!(
        "a minute of {ZONES} zones at {POPS} PoPs: {:.1} s, to be at most 15 s",
        begin.elapsed().as_secs_f64()
    );
    let begin = std::time::Instant::now();
    let day = stats.read(Some(ZoneId(2)), MIDNIGHT..MIDNIGHT + DAY, Step::Minute, None).unwrap();
    println!("{} minutes at {POPS} PoPs: {:.1} ms", day.len(), begin.elapsed().as_secs_f64() * 1_000.0);
}

fn fixture() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stats-1")
}

/// Files of this version are in the field: what reads them has to read this one.
#[test]
fn format_1_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture().join(FILE), dir.path().join(FILE)).unwrap();
    let stats = Stats::open(dir.path(), Retention::default()).unwrap();
    let hours = BTreeMap::from([(0, 12), (60, 4), (DAY, 8)]);
    assert_eq!(queries(&stats, Some(ZONE), Step::Minute), BTreeMap::from([(0, 12), (60, 4), (DAY, 8)]));
    assert_eq!(queries(&stats, Some(ZONE), Step::Hour), hours);
    assert_eq!(queries(&stats, Some(ZONE), Step::Day), BTreeMap::from([(0, 16), (DAY, 8)]));
    assert_eq!(queries(&stats, None, Step::Day), BTreeMap::from([(0, 3)]));
    let at_two = stats.read(Some(ZONE), MIDNIGHT..MIDNIGHT + DAY, Step::Day, Some(PopId(2))).unwrap();
    assert_eq!(at_two[&MIDNIGHT].by_pop, BTreeMap::from([(PopId(2), 2)]));
    assert_eq!(at_two[&MIDNIGHT].counts.by_pool["www.example."].get(&"east".into()), 2);
    // What was counted is known.
    assert_eq!(stats.take_now(POP, &fixture_reports()).unwrap(), 0);
}

fn fixture_reports() -> [Report; 4] {
    [
        report(Some(ZONE), MIDNIGHT, 1, 10),
        report(None, MIDNIGHT, 2, 3),
        report(Some(ZONE), MIDNIGHT + 60, 3, 4),
        report(Some(ZONE), MIDNIGHT + DAY, 4, 8),
    ]
}

/// Makes the fixture anew; for a new version of the format only.
#[test]
#[ignore = "it writes into the source tree"]
fn write_the_fixture() {
    std::fs::create_dir_all(fixture()).unwrap();
    let stats = Stats::open(&fixture(), Retention::default()).unwrap();
    stats.take_now(POP, &fixture_reports()).unwrap();
    stats.roll(MIDNIGHT + DAY + 30).unwrap();
    // It comes late: the hour and the day are to be made again.
    stats.take_now(PopId(2), &[report(Some(ZONE), MIDNIGHT, 1, 2)]).unwrap();
}
