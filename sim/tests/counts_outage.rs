//! Counts pile up at an agent while the control plane is down for an hour, and are counted once each when it is back.

use std::collections::BTreeMap;
use std::path::Path;

use dns_sync::counts::CountsStore;
use herald::stats::{HOUR, Report, Retention, Stats, Step};
use herald_core::{PopId, Rtype, ZoneId};
use steering::counts::{Counts, Tally};
use steering::link::{CountsBatch, CountsRow};

const ZONES: u128 = 200;
const POP: PopId = PopId(1);
const BEGIN: u64 = 20_000 * 24 * HOUR;

/// Something else in each zone and minute.
fn queries(zone: u128, minute: u64) -> u64 {
    u64::try_from(zone).unwrap() * 7 + minute * 13 + 1
}

fn batch(minute: u64) -> CountsBatch {
    let row = |zone| {
        let queries = queries(zone, minute);
        let by_type = Tally::from_iter([(Rtype::A.to_int(), queries)]);
        let counts = Counts { queries, by_type, ..Counts::default() };
        CountsRow { name: None, zone: Some(ZoneId(zone)), minute: BEGIN + minute, counts }
    };
    CountsBatch { instance: 5, sequence: minute + 1, rows: (0..ZONES).map(row).collect() }
}

fn open(dir: &Path) -> CountsStore {
    let mut store = CountsStore::open(&dir.join("counts.sqlite")).unwrap();
    store.recover(&mut |_| None).unwrap();
    store
}

#[test]
fn an_hour_of_counts_is_counted_once() {
    let (agent, control_plane) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = open(agent.path());
    for minute in 0..HOUR {
        store.take(&batch(minute), &mut |_| None).unwrap();
        // The module tells again what it wasn't told to be kept, as after a restart of the agent.
        if minute.is_multiple_of(10) {
            store = open(agent.path());
            store.take(&batch(minute), &mut |_| None).unwrap();
        }
        store.report().unwrap();
    }
    let waiting = usize::try_from(HOUR).unwrap() * usize::try_from(ZONES).unwrap();
    assert_eq!(store.backlog(), waiting);

    let mut stats = Stats::open(control_plane.path(), Retention::default()).unwrap();
    let (mut posts, mut counted) = (0, 0);
    loop {
        let reports = store.first_reports().unwrap();
        if reports.is_empty() {
            break;
        }
        let sent: Vec<Report> = reports
            .iter()
            .map(|report| Report {
                zone: report.zone,
                minute: report.minute,
                sequence: report.sequence,
                counts: report.counts.clone(),
            })
            .collect();
        counted += stats.take_now(POP, &sent).unwrap();
        posts += 1;
        match posts % 4 {
            // The answer is lost: they come again.
            1 => {}
            // So it is by a restart of the agent, or of the control plane.
            2 => store = open(agent.path()),
            3 => stats = Stats::open(control_plane.path(), Retention::default()).unwrap(),
            _ => store.confirmed(&reports).unwrap(),
        }
    }
    assert_eq!((store.backlog(), counted), (0, waiting as u64));
    assert!(posts >= 4 * waiting / 1_000, "many were sent again: {posts}");
    for zone in 0..ZONES {
        let read = stats.read(Some(ZoneId(zone)), BEGIN..BEGIN + HOUR, Step::Minute, None).unwrap();
        let found: BTreeMap<u64, u64> =
            read.iter().map(|(minute, period)| (minute - BEGIN, period.counts.queries)).collect();
        let expected = (0..HOUR).map(|minute| (minute, queries(zone, minute))).collect();
        assert_eq!(found, expected, "zone {zone}");
    }
}
