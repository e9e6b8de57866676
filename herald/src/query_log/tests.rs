use std::net::IpAddr;

use herald_core::change::Change;
use herald_core::state::At;
use herald_core::{Generation, Name, TenantId};

use super::*;

const POP: PopId = PopId(9);
const NOW_MS: u64 = 1_800_000_000_000;

/// The zones of these numbers are logged since `NOW_MS`, for an hour.
fn logging(zones: &[u128]) -> State {
    let mut state = State::default();
    for zone in zones {
        log_from(&mut state, *zone, NOW_MS);
    }
    state
}

fn log_from(state: &mut State, zone: u128, since_ms: u64) {
    let at = At { generation: Generation { epoch: 1, counter: 1 }, time_ms: since_ms };
    let (zone, tenant, until_ms) = (ZoneId(zone), TenantId(1), since_ms + 3_600_000);
    let log = herald_core::query_log::QueryLog { zone, tenant, since_ms, until_ms, one_in: 1 };
    state.apply(at, &Change::QueryLogSet(log));
}

fn query(time_ms: u64) -> Query {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let subnet = Prefix::new(address("2001:db8:1:2::"), 64);
    Query {
        time_ms,
        name: Name::parse("www.example.com.").unwrap(),
        rtype: 28,
        rcode: 3,
        transport: 1,
        source: Prefix::whole(address("192.0.2.77")),
        edns: Some(Edns { udp_bytes: 1232, wants_dnssec: true, subnet }),
        answer_bytes: 99,
        is_truncated: true,
        is_dropped: false,
        policy: Some("www.example.com.".into()),
        pool: Some("east".into()),
    }
}

fn batch(sequence: u64, zone: u128, left_out: u64, times: std::ops::Range<u64>) -> Batch {
    let queries = times.map(|n| query(NOW_MS + n)).collect();
    let of_zone = OfZone { zone: ZoneId(zone), since_ms: 0, left_out, queries };
    Batch { instance: "a1".into(), sequence, zones: vec![of_zone] }
}

fn all(logs: &QueryLogs, zone: u128) -> Vec<Record> {
    let mut records = Vec::new();
    logs.read(ZoneId(zone), Place::END, 0, &mut |record| {
        records.push(record);
        true
    })
    .unwrap();
    records
}

fn open(dir: &Path, limits: Limits) -> QueryLogs {
    QueryLogs::open(dir, QueryLogAddresses::Whole, limits).unwrap()
}

#[test]
fn what_is_taken_is_read_newest_first_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), Limits::default());
    let state = logging(&[1, 2]);
    let now_ms = NOW_MS + 1_000;
    let take = |logs: &QueryLogs, batch: Batch| logs.take_now(&state, POP, batch, now_ms).unwrap();
    assert_eq!(take(&logs, batch(1, 1, 3, 0..5)), Taken { kept: 5, passed_over: 0 });
    assert_eq!(take(&logs, batch(1, 1, 3, 0..5)), Taken { kept: 0, passed_over: 5 });
    drop(logs);
    let logs = open(dir.path(), Limits::default());
    assert_eq!(take(&logs, batch(1, 1, 3, 0..5)).kept, 0, "it is remembered");
    take(&logs, batch(2, 2, 0, 0..1));
    let records = all(&logs, 1);
    let times: Vec<u64> = records.iter().map(|record| record.query.time_ms - NOW_MS).collect();
    assert_eq!(times, [4, 3, 2, 1, 0]);
    assert_eq!((&records[0].query, records[0].pop), (&query(NOW_MS + 4), POP));
    // From a place on, and not before a time; and as long as somebody wants more.
    let mut some = Vec::new();
    logs.read(ZoneId(1), records[1].place, NOW_MS + 1, &mut |record| {
        some.push(record.query.time_ms - NOW_MS);
        some.len() < 5
    })
    .unwrap();
    assert_eq!(some, [2, 1]);
    let figures = logs.figures(ZoneId(1)).unwrap();
    assert_eq!((figures.records, figures.left_out, figures.since_ms), (5, 3, NOW_MS));
    assert_eq!(logs.figures(ZoneId(7)).unwrap(), Figures::default());
}

#[test]
fn nothing_comes_of_zones_that_are_not_logged() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), Limits::default());
    let mut state = logging(&[1]);
    assert_eq!(logs.take_now(&state, POP, batch(1, 2, 1, 0..3), NOW_MS).unwrap().passed_over, 3);
    // Some time after its end, and no longer.
    let end_ms = NOW_MS + 3_600_000;
    assert_eq!(logs.take_now(&state, POP, batch(2, 1, 0, 0..1), end_ms + 60_000).unwrap().kept, 1);
    assert_eq!(logs.take_now(&state, POP, batch(3, 1, 0, 0..1), end_ms + 900_000).unwrap().kept, 0);
    // When it is switched on anew, what is left out is counted anew, and records stay.
    logs.take_now(&state, POP, batch(4, 1, 5, 0..0), NOW_MS).unwrap();
    log_from(&mut state, 1, NOW_MS + 50);
    logs.take_now(&state, POP, batch(5, 1, 2, 0..1), NOW_MS + 60).unwrap();
    let figures = logs.figures(ZoneId(1)).unwrap();
    assert_eq!((figures.records, figures.left_out, figures.since_ms), (2, 2, NOW_MS + 50));
}

#[test]
fn the_newest_are_kept_of_each_zone_and_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), Limits { of_zone: 100, of_all: 150 });
    let state = logging(&[1, 2, 3]);
    let now_ms = NOW_MS + 10_000;
    for sequence in 0..5 {
        let times = sequence * 30..(sequence + 1) * 30;
        logs.take_now(&state, POP, batch(sequence + 1, 1, 0, times), now_ms).unwrap();
    }
    let count = |zone: u128| {
        let records = all(&logs, zone).len() as u64;
        assert_eq!(logs.figures(ZoneId(zone)).unwrap().records, records);
        records
    };
    assert_eq!(count(1), 100);
    assert_eq!(all(&logs, 1).last().unwrap().query.time_ms, NOW_MS + 50, "the oldest went");
    logs.take_now(&state, POP, batch(10, 2, 0, 0..60), now_ms).unwrap();
    logs.take_now(&state, POP, batch(11, 3, 0, 0..5), now_ms).unwrap();
    assert_eq!((count(1), count(2), count(3)), (85, 60, 5), "the one with the most gives");
}

#[test]
fn a_day_and_no_longer_and_not_without_its_zone() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), Limits::default());
    let state = logging(&[1, 2]);
    logs.take_now(&state, POP, batch(1, 1, 0, 0..10), NOW_MS + 10).unwrap();
    logs.take_now(&state, POP, batch(2, 2, 0, 0..10), NOW_MS + 10).unwrap();
    // In a state without zones none is there: those of both go.
    logs.writer().erase(NOW_MS + 5, |zone| zone == ZoneId(2)).unwrap();
    assert_eq!((all(&logs, 1).len(), all(&logs, 2).len()), (5, 0));
    assert_eq!(logs.figures(ZoneId(2)).unwrap(), Figures::default());
    assert_eq!(logs.figures(ZoneId(1)).unwrap().records, 5);
    logs.erase(&State::default(), NOW_MS).unwrap();
    assert!(all(&logs, 1).is_empty());
    // What was erased isn't in the file any more.
    drop(logs);
    let octets = std::fs::read(dir.path().join(FILE)).unwrap();
    let name = Name::parse("www.example.com.").unwrap();
    assert!(!octets.windows(name.as_wire().len()).any(|some| some == name.as_wire()));
}

#[test]
fn addresses_are_shortened_before_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let logs = QueryLogs::open(dir.path(), QueryLogAddresses::Prefixes, Limits::default()).unwrap();
    let state = logging(&[1]);
    let mut one = batch(1, 1, 0, 0..2);
    one.zones[0].queries[1].source = Prefix::whole("2001:db8:1:2::3".parse().unwrap());
    logs.take_now(&state, POP, one, NOW_MS + 10).unwrap();
    let records = all(&logs, 1);
    let shown = |prefix: &Prefix| format!("{}/{}", prefix.address().unwrap(), prefix.length());
    let subnet = |record: &Record| shown(record.query.edns.as_ref().unwrap().subnet.as_ref().unwrap());
    assert_eq!(
        (shown(&records[1].query.source), subnet(&records[1])),
        ("192.0.2.0/24".into(), "2001:db8:1::/48".into())
    );
    assert_eq!(shown(&records[0].query.source), "2001:db8:1::/48");
    assert!(!records[0].query.source.is_whole());
    // What a resolver told less of stays as it is.
    let less = Prefix::new("10.0.0.0".parse().unwrap(), 8).unwrap();
    let mut query = query(0);
    query.source = less.clone();
    query.shorten();
    assert_eq!(query.source, less);
    assert_eq!(Prefix::new("10.0.0.0".parse().unwrap(), 33), None);
    assert_eq!(shown(&Prefix::new("10.255.255.255".parse().unwrap(), 9).unwrap()), "10.128.0.0/9");
    assert_eq!(shown(&Prefix::new("10.255.255.255".parse().unwrap(), 0).unwrap()), "0.0.0.0/0");
}

#[test]
fn a_file_of_another_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Limits::default()));
    let db = Connection::open(dir.path().join(FILE)).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    let again = QueryLogs::open(dir.path(), QueryLogAddresses::Whole, Limits::default());
    assert!(matches!(again.err(), Some(QueryLogError::Version { found: 99, .. })));
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/query-log-1")
}

/// Files of this version are in the field: what reads them has to read this one.
#[test]
fn format_1_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture().join(FILE), dir.path().join(FILE)).unwrap();
    let logs = open(dir.path(), Limits::default());
    let records = all(&logs, 1);
    let queries: Vec<&Query> = records.iter().map(|record| &record.query).collect();
    assert_eq!(queries, fixture_queries().iter().rev().collect::<Vec<_>>());
    let figures = logs.figures(ZoneId(1)).unwrap();
    assert_eq!((figures.records, figures.left_out), (2, 4));
    let state = logging(&[1]);
    assert_eq!(logs.take_now(&state, POP, fixture_batch(), NOW_MS).unwrap().kept, 0, "it was taken");
}

fn fixture_queries() -> [Query; 2] {
    let bare = Query { edns: None, policy: None, pool: None, is_dropped: true, ..query(NOW_MS + 1) };
    [query(NOW_MS), Query { source: Prefix::new("2001:db8::".parse().unwrap(), 48).unwrap(), ..bare }]
}

fn fixture_batch() -> Batch {
    let mut batch = batch(1, 1, 4, 0..0);
    batch.zones[0].queries = fixture_queries().to_vec();
    batch
}

/// Makes the fixture anew; for a new version of the format only.
#[test]
#[ignore = "it writes into the source tree"]
fn write_the_fixture() {
    std::fs::create_dir_all(fixture()).unwrap();
    let logs = open(&fixture(), Limits::default());
    logs.take_now(&logging(&[1]), POP, fixture_batch(), NOW_MS + 10).unwrap();
}
