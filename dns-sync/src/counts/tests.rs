use std::collections::BTreeMap;

use herald_core::{Name, ZoneId};
use steering::counts::{Counts, Tally};
use steering::link::{CountsBatch, CountsRow};

use super::ApiPlace;
use super::store::{CountsStore, Report, StoreError};

fn batch(instance: u64, sequence: u64, rows: &[(&str, u64, u64)]) -> CountsBatch {
    let row = |(name, minute, queries): &(&str, u64, u64)| CountsRow {
        name: (!name.is_empty()).then(|| Name::parse(name).unwrap()),
        zone: None,
        minute: *minute,
        counts: Counts { queries: *queries, by_type: Tally::from_iter([(1, *queries)]), ..Counts::default() },
    };
    CountsBatch { instance, sequence, rows: rows.iter().map(row).collect() }
}

/// `a.` is the zone 1, `b.` the zone 2, and there is no other.
fn zone_of(name: &Name) -> Option<ZoneId> {
    match name.to_string().as_str() {
        "a." => Some(ZoneId(1)),
        "b." => Some(ZoneId(2)),
        _ => None,
    }
}

fn open(dir: &tempfile::TempDir) -> CountsStore {
    let mut store = CountsStore::open(&dir.path().join("counts.sqlite")).unwrap();
    store.recover(&mut zone_of).unwrap();
    store
}

fn take(store: &mut CountsStore, batch: CountsBatch) {
    store.take(&batch, &mut zone_of).unwrap();
}

/// Queries by zone and minute, of all reports, which are then confirmed.
fn confirm_all(store: &mut CountsStore) -> BTreeMap<(Option<u128>, u64), u64> {
    let mut all = BTreeMap::new();
    store.report().unwrap();
    loop {
        let reports = store.first_reports().unwrap();
        if reports.is_empty() {
            return all;
        }
        for Report { zone, minute, counts, .. } in &reports {
            *all.entry((zone.map(|zone| zone.0), *minute)).or_default() += counts.queries;
        }
        store.confirmed(&reports).unwrap();
    }
}

#[test]
fn a_batch_is_taken_once_whatever_becomes_of_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    take(&mut store, batch(7, 1, &[("a.", 100, 5), ("", 100, 2)]));
    take(&mut store, batch(7, 1, &[("a.", 100, 5), ("", 100, 2)]));
    // Killed, and started again.
    drop(store);
    let mut store = open(&dir);
    take(&mut store, batch(7, 1, &[("a.", 100, 5), ("", 100, 2)]));
    take(&mut store, batch(7, 2, &[("a.", 100, 1), ("b.", 101, 4), ("gone.", 101, 3)]));
    store.report().unwrap();
    let first = store.first_reports().unwrap();
    drop(store);
    let mut store = open(&dir);
    assert_eq!(store.first_reports().unwrap(), first, "what may have been sent doesn't change");
    take(&mut store, batch(7, 2, &[("a.", 100, 1)]));
    // Another process of the module; and a clock that was put back.
    take(&mut store, batch(8, 1, &[("a.", 90, 10), ("a.", 100, 20)]));
    let expected =
        [((None, 100), 2), ((None, 101), 3), ((Some(1), 90), 10), ((Some(1), 100), 26), ((Some(2), 101), 4)];
    assert_eq!(confirm_all(&mut store), BTreeMap::from(expected));
    assert_eq!((store.backlog(), store.rows()), (0, 0));
    drop(store);
    assert!(confirm_all(&mut open(&dir)).is_empty());
}

#[test]
fn numbers_of_reports_rise_and_none_comes_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 1..=5 {
        let mut store = open(&dir);
        take(&mut store, batch(7, round, &[("a.", round, 5), ("b.", round, 2)]));
        store.report().unwrap();
        let reports = store.first_reports().unwrap();
        assert!(reports.first().unwrap().sequence > last, "{reports:?}");
        assert!(reports.is_sorted_by_key(|report| report.sequence));
        last = reports.last().unwrap().sequence;
        store.confirmed(&reports).unwrap();
    }
}

#[test]
fn zones_that_the_control_plane_does_not_know_are_counted_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    take(&mut store, batch(7, 1, &[("a.", 100, 5), ("b.", 100, 2)]));
    store.report().unwrap();
    let gone: Vec<u64> =
        store.first_reports().unwrap().iter().take(1).map(|report| report.sequence).collect();
    store.of_no_zone(&gone).unwrap();
    assert_eq!(confirm_all(&mut store), BTreeMap::from([((None, 100), 5), ((Some(2), 100), 2)]));
}

#[test]
fn many_names_become_several_reports_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut counts = Counts { queries: 20_000, ..Counts::default() };
    for n in 0..10_000 {
        let pools = Tally::from_iter([("east".into(), 1), ("west".into(), 1)]);
        counts.by_pool.insert(format!("www{n}.a.").into(), pools);
    }
    let row =
        CountsRow { name: Some(Name::parse("a.").unwrap()), zone: None, minute: 5, counts: counts.clone() };
    take(&mut store, CountsBatch { instance: 7, sequence: 1, rows: vec![row] });
    store.report().unwrap();
    let (mut sum, mut reports) = (Counts::default(), 0);
    while let Some(first) = Some(store.first_reports().unwrap()).filter(|reports| !reports.is_empty()) {
        first.iter().for_each(|report| sum.merge(&report.counts));
        reports += first.len();
        store.confirmed(&first).unwrap();
    }
    assert!(reports > 5);
    assert_eq!(sum, counts);
}

#[test]
fn a_file_of_another_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let file = dir.path().join("counts.sqlite");
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(CountsStore::open(&file), Err(StoreError::Format(99))));
}

#[test]
fn addresses_of_the_api_are_read() {
    let place = |host: &str, port, tls| Some(ApiPlace { host: host.into(), port, tls });
    assert_eq!(ApiPlace::parse("https://api.example.com"), place("api.example.com", 443, true));
    assert_eq!(ApiPlace::parse("https://api.example.com:8443/"), place("api.example.com", 8443, true));
    assert_eq!(ApiPlace::parse("http://127.0.0.1:8053"), place("127.0.0.1", 8053, false));
    assert_eq!(ApiPlace::parse("http://[::1]:8053"), place("::1", 8053, false));
    assert_eq!(ApiPlace::parse("https://[2001:db8::1]"), place("2001:db8::1", 443, true));
    for bad in ["", "api.example.com:8053", "ftp://a", "https://", "https://a:99999", "https://a/b"] {
        assert_eq!(ApiPlace::parse(bad), None, "{bad}");
    }
}

fn fixture() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/counts-1/counts.sqlite")
}

/// Files of this version are in the field: what reads them has to read this one.
#[test]
fn format_1_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture(), dir.path().join("counts.sqlite")).unwrap();
    let mut store = open(&dir);
    assert_eq!((store.backlog(), store.rows()), (3, 2));
    // What the module was told to be kept is kept.
    take(&mut store, batch(7, 2, &[("a.", 101, 3), ("b.", 101, 4)]));
    take(&mut store, batch(7, 3, &[("a.", 101, 10)]));
    let sequences: Vec<u64> = store.first_reports().unwrap().iter().map(|report| report.sequence).collect();
    let expected = [
        ((Some(1), 100), 5),
        ((Some(1), 101), 13),
        ((Some(2), 100), 6),
        ((Some(2), 101), 4),
        ((None, 100), 2),
    ];
    assert_eq!(confirm_all(&mut store), BTreeMap::from(expected));
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]), "{sequences:?}");
}

/// Makes the fixture anew; for a new version of the format only.
#[test]
#[ignore = "it writes into the source tree"]
fn write_the_fixture() {
    let mut store = CountsStore::open(&fixture()).unwrap();
    store.recover(&mut zone_of).unwrap();
    take(&mut store, batch(7, 1, &[("a.", 100, 5), ("b.", 100, 6), ("", 100, 2)]));
    store.report().unwrap();
    take(&mut store, batch(7, 2, &[("a.", 101, 3), ("b.", 101, 4)]));
}
