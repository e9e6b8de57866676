//! The replica against a model, its rules, and what it does with damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use herald_core::content::Content;
use herald_core::{Generation, Name, Rdatas, RrKey, Rrset, Rtype, ZoneId};
use herald_wire::stream::{BUCKETS, ZoneBegin, ZoneDelta, ZoneRrset, bucket_of, inventory_digest};
use proptest::prelude::*;
use rusqlite::Connection;

use super::row::{parse_row_key, row_key};
use super::{
    DATABASE, DeltaOutcome, OpenError, ReadZoneError, Reader, Replica, ReplicaError, STEERING_COLUMNS,
    SteeringRow, WholeOutcome, ZoneRow,
};
use crate::replica::Target;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn generation(counter: u64) -> Generation {
    Generation { epoch: 1, counter }
}

fn soa(serial: u32) -> Rrset {
    let mut rdata = b"\x02ns\x04test\0\x01h\x04test\0".to_vec();
    for number in [serial, 3600, 600, 86400, 60] {
        rdata.extend_from_slice(&number.to_be_bytes());
    }
    Rrset { ttl: 60, rdatas: Rdatas::single(&rdata) }
}

/// A zone as the control plane would have it.
#[derive(Clone, Debug)]
struct Zone {
    id: ZoneId,
    name: Name,
    is_private: bool,
    generation: Generation,
    content: Content,
}

impl Zone {
    fn new(id: u128, apex: &str, counter: u64) -> Zone {
        let mut zone = Zone {
            id: ZoneId(id),
            name: name(apex),
            is_private: false,
            generation: generation(counter),
            content: Content::default(),
        };
        let ns = RrKey::new(zone.name.clone(), Rtype::NS);
        zone.content.put(ns, Rrset { ttl: 60, rdatas: Rdatas::single(b"\x02ns\x04test\0") });
        zone.renumber(counter);
        zone
    }

    fn renumber(&mut self, counter: u64) {
        self.generation = generation(counter);
        self.content.put(RrKey::new(self.name.clone(), Rtype::SOA), soa(counter as u32));
    }

    fn set_a(&mut self, label: &str, address: [u8; 4]) {
        let key = RrKey::new(self.name.child(label).unwrap(), Rtype::A);
        self.content.put(key, Rrset { ttl: 60, rdatas: Rdatas::single(&address) });
    }

    /// What leads from this state to another.
    fn delta(&self, new: &Zone) -> ZoneDelta {
        let difference = self.content.diff(&new.content);
        ZoneDelta {
            zone: self.id,
            base: self.generation,
            generation: new.generation,
            digest: new.content.digest(),
            puts: difference.puts.into_iter().map(|(key, rrset)| ZoneRrset { key, rrset }).collect(),
            deletes: difference.deletes,
        }
    }

    fn begin(&self) -> ZoneBegin {
        ZoneBegin {
            zone: self.id,
            name: self.name.clone(),
            generation: self.generation,
            digest: self.content.digest(),
            rrset_count: self.content.rrset_count(),
            private: self.is_private.then_some(true),
        }
    }

    fn rrsets(&self) -> Vec<ZoneRrset> {
        self.content.iter().map(|(key, rrset)| ZoneRrset { key: key.clone(), rrset: rrset.clone() }).collect()
    }
}

/// One transaction.
fn commit<T>(replica: &mut Replica, work: impl FnOnce(&mut Replica) -> Result<T, ReplicaError>) -> T {
    replica.begin().unwrap();
    let done = work(replica).unwrap();
    replica.commit().unwrap();
    done
}

fn put_whole(replica: &mut Replica, zone: &Zone) -> WholeOutcome {
    commit(replica, |replica| {
        replica.whole_begin(zone.begin())?;
        for part in zone.rrsets().chunks(3) {
            replica.whole_part(zone.id, part)?;
        }
        replica.whole_end(zone.id)
    })
}

fn put_delta(replica: &mut Replica, delta: &ZoneDelta) -> DeltaOutcome {
    commit(replica, |replica| replica.delta(delta))
}

fn read(dir: &Path, id: ZoneId) -> Result<(ZoneRow, Content), ReadZoneError> {
    let mut content = Content::default();
    let zone = Reader::open(dir).unwrap().zone(id, None, |key, rrset| {
        content.put(key.clone(), rrset.clone());
        Ok(())
    })?;
    Ok((zone, content))
}

/// The replica holds these zones, and nothing of others.
fn check(replica: &Replica, zones: &BTreeMap<u128, Zone>) {
    let mut buckets = vec![0_u128; BUCKETS];
    for zone in zones.values() {
        let bucket = &mut buckets[bucket_of(zone.id)];
        *bucket = bucket.wrapping_add(inventory_digest(zone.id, zone.generation, zone.content.digest()));
        let (row, content) = read(replica.dir(), zone.id).unwrap();
        assert_eq!(content, zone.content);
        assert_eq!((row.generation, row.digest), (zone.generation, zone.content.digest()));
        assert_eq!(row.serial, zone.generation.counter as u32);
        assert_eq!((row.rrset_count, row.record_count), (content.rrset_count(), content.record_count()));
        // Only who knows its id finds a private one.
        if !zone.is_private {
            assert_eq!(replica.zone_named(&zone.name).unwrap(), Some(row));
        }
    }
    assert_eq!(replica.zone_count(), zones.len() as u64);
    assert_eq!(replica.bucket_digests().to_vec(), buckets);
}

#[derive(Clone, Debug)]
enum Step {
    Delta { zone: u8, sets: Vec<(u8, u8)> },
    Whole { zone: u8, id: u8, sets: Vec<(u8, u8)> },
    Remove { zone: u8 },
    Collect,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sets = || prop::collection::vec(any::<(u8, u8)>(), 0..8);
    let step = prop_oneof![
        5 => (0..4_u8, sets()).prop_map(|(zone, sets)| Step::Delta { zone, sets }),
        3 => (0..4_u8, 0..2_u8, sets()).prop_map(|(zone, id, sets)| Step::Whole { zone, id, sets }),
        1 => (0..4_u8).prop_map(|zone| Step::Remove { zone }),
        1 => Just(Step::Collect),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

fn apply_sets(zone: &mut Zone, sets: &[(u8, u8)]) {
    for (label, value) in sets {
        let key = RrKey::new(zone.name.child(format!("h{}", label % 8)).unwrap(), Rtype::A);
        match value % 4 {
            0 => zone.content.delete(&key),
            _ => zone.set_a(&format!("h{}", label % 8), [192, 0, 2, *value]),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn it_holds_what_it_was_told(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut replica = Replica::open(dir.path()).unwrap();
        let mut model: BTreeMap<u128, Zone> = BTreeMap::new();
        for (counter, step) in (1..).zip(steps) {
            match step {
                Step::Delta { zone, sets } => {
                    let Some(old) = model.values().find(|old| old.id.0 / 2 == u128::from(zone)).cloned() else {
                        continue;
                    };
                    let mut new = old.clone();
                    apply_sets(&mut new, &sets);
                    new.renumber(counter);
                    prop_assert!(matches!(put_delta(&mut replica, &old.delta(&new)), DeltaOutcome::Taken(_)));
                    model.insert(new.id.0, new);
                }
                Step::Whole { zone, id, sets } => {
                    // Two zones of each name; one takes the other's place.
                    let id = u128::from(zone) * 2 + u128::from(id);
                    let mut new = Zone::new(id, &format!("z{zone}.test"), counter);
                    apply_sets(&mut new, &sets);
                    let namesake = model.remove(&(id ^ 1)).map(|namesake| namesake.id);
                    match put_whole(&mut replica, &new) {
                        WholeOutcome::Taken { zone, replaced } => {
                            prop_assert_eq!((zone.id, replaced.map(|row| row.id)), (new.id, namesake));
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                    model.insert(id, new);
                }
                Step::Remove { zone } => {
                    let old = model.values().find(|old| old.id.0 / 2 == u128::from(zone)).map(|old| old.id);
                    let id = old.unwrap_or(ZoneId(u128::from(zone) * 2));
                    let removed = commit(&mut replica, |replica| replica.remove(id, generation(counter)));
                    prop_assert_eq!(removed.map(|row| row.id), old);
                    model.remove(&id.0);
                }
                Step::Collect => {
                    commit(&mut replica, |replica| replica.collect(5));
                }
                Step::Reopen => {
                    drop(replica);
                    replica = Replica::open(dir.path()).unwrap();
                }
            }
        }
        check(&replica, &model);
        while commit(&mut replica, |replica| replica.collect(100)) {}
        check(&replica, &model);
        let rows: i64 = replica.db.query_row("SELECT count(*) FROM rrset", (), |row| row.get(0)).unwrap();
        prop_assert_eq!(rows as u64, model.values().map(|zone| zone.content.rrset_count()).sum::<u64>());
    }

    #[test]
    fn row_keys_are_in_canonical_order(
        labels in prop::collection::vec(prop::collection::vec(prop::collection::vec(0..4_u8, 1..4), 0..4), 2),
        types in prop::collection::vec(any::<u16>(), 2),
    ) {
        let apex = name("example.com");
        let keys: Vec<RrKey> = labels.iter().zip(types).map(|(labels, rtype)| {
            let owner = labels.iter().fold(apex.clone(), |owner, label| owner.child(label).unwrap());
            RrKey::new(owner, Rtype::from_int(rtype))
        }).collect();
        let rows: Vec<Vec<u8>> = keys.iter().map(|key| row_key(&apex, key).unwrap()).collect();
        prop_assert_eq!(rows[0].cmp(&rows[1]), keys[0].cmp(&keys[1]));
        for (key, row) in keys.iter().zip(&rows) {
            prop_assert_eq!(parse_row_key(&apex, row), Some(key.clone()));
        }
    }
}

#[test]
fn what_is_not_in_the_zone_has_no_key() {
    let key = RrKey::new(name("example.org"), Rtype::A);
    assert_eq!(row_key(&name("example.com"), &key), None);
    for row in [
        &b"\0"[..],
        b"\0\x01",
        b"a\0\0\x01",
        b"\0\0\0\x01",
        b"a\x01\0\0\x01",
        b"a\x01\0\0\0\x01",
        b"a\0b\0\x01",
    ] {
        assert_eq!(parse_row_key(&name("example.com"), row), None, "{row:?}");
    }
}

#[test]
fn a_delta_has_to_fit() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path()).unwrap();
    let old = Zone::new(1, "one.test", 5);
    let mut new = old.clone();
    new.set_a("a", [192, 0, 2, 1]);
    new.renumber(7);
    let delta = old.delta(&new);
    assert!(matches!(put_delta(&mut replica, &delta), DeltaOutcome::Gap { have: None, .. }));
    assert!(matches!(put_whole(&mut replica, &old), WholeOutcome::Taken { replaced: None, .. }));

    let gap = |replica: &mut Replica, delta: ZoneDelta| match put_delta(replica, &delta) {
        DeltaOutcome::Gap { reason, have } => (reason, have),
        other => panic!("{other:?}"),
    };
    let (reason, have) = gap(&mut replica, ZoneDelta { base: generation(4), ..delta.clone() });
    assert!(reason.contains("1.4") && have == Some(generation(5)), "{reason}");
    let (reason, _) = gap(&mut replica, ZoneDelta { digest: delta.digest ^ 1, ..delta.clone() });
    assert!(reason.contains("not what it should be"), "{reason}");
    check(&replica, &BTreeMap::from([(1, old.clone())]));

    let DeltaOutcome::Taken(taken) = put_delta(&mut replica, &delta) else { panic!() };
    assert_eq!((taken.zone.serial, taken.soa), (7, soa(7)));
    let key = RrKey::new(name("a.one.test"), Rtype::A);
    assert_eq!(taken.changes, [(key.clone(), new.content.get(&key).cloned())]);
    assert_eq!(put_delta(&mut replica, &delta), DeltaOutcome::Known);
    let older = ZoneDelta { generation: generation(6), ..delta };
    assert_eq!(put_delta(&mut replica, &older), DeltaOutcome::Older(generation(7)));
    assert_eq!(replica.newest(), generation(7));
}

#[test]
fn a_whole_zone_has_to_be_what_was_announced() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path()).unwrap();
    let zone = Zone::new(1, "one.test", 5);
    let end = |replica: &mut Replica, begin: ZoneBegin, rrsets: &[ZoneRrset]| {
        commit(replica, |replica| {
            replica.whole_begin(begin.clone())?;
            replica.whole_part(begin.zone, rrsets)?;
            replica.whole_end(begin.zone)
        })
    };
    let reason = |outcome: WholeOutcome| match outcome {
        WholeOutcome::Bad { reason, have: None, .. } => reason,
        other => panic!("{other:?}"),
    };
    let (begin, rrsets) = (zone.begin(), zone.rrsets());
    assert!(reason(end(&mut replica, begin.clone(), &rrsets[..1])).contains("1 RRsets came of 2"));
    let wrong = ZoneBegin { digest: 1, ..begin.clone() };
    assert!(reason(end(&mut replica, wrong, &rrsets)).contains("not what was announced"));
    let twice = [rrsets.clone(), rrsets.clone()].concat();
    assert!(reason(end(&mut replica, begin.clone(), &twice)).contains("came twice"));
    let elsewhere = ZoneBegin { name: name("two.test"), ..begin.clone() };
    assert!(reason(end(&mut replica, elsewhere, &rrsets)).contains("not in the zone"));
    check(&replica, &BTreeMap::new());

    assert!(matches!(end(&mut replica, begin.clone(), &rrsets), WholeOutcome::Taken { .. }));
    assert_eq!(end(&mut replica, begin.clone(), &rrsets), WholeOutcome::Known(generation(5)));
    let older = ZoneBegin { generation: generation(4), ..begin };
    assert!(matches!(end(&mut replica, older, &rrsets), WholeOutcome::Older { have: Some(_), .. }));
    // An older zone doesn't take the name of a newer one.
    let namesake = Zone::new(2, "one.test", 3);
    assert!(matches!(put_whole(&mut replica, &namesake), WholeOutcome::Older { have: None, .. }));
    assert_eq!(commit(&mut replica, |replica| replica.whole_end(ZoneId(9))), WholeOutcome::NotBegun);
    check(&replica, &BTreeMap::from([(1, zone)]));
}

#[test]
fn a_rollback_takes_everything_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path()).unwrap();
    let mut zone = Zone::new(1, "one.test", 5);
    (0..20).for_each(|n| zone.set_a(&format!("h{n}"), [192, 0, 2, n]));
    let rrsets = zone.rrsets();
    commit(&mut replica, |replica| {
        replica.whole_begin(zone.begin())?;
        replica.whole_part(zone.id, &rrsets[..5])
    });
    // The disk is full.
    replica.seem_full(true).unwrap();
    replica.begin().unwrap();
    let mut big = Zone::new(2, "two.test", 6);
    (0..200).for_each(|n| big.set_a(&format!("h{n}"), [192, 0, 2, n]));
    replica.whole_part(zone.id, &rrsets[5..]).unwrap();
    let failed = replica
        .whole_begin(big.begin())
        .and_then(|()| replica.whole_part(big.id, &big.rrsets()))
        .and_then(|()| replica.whole_end(big.id).map(drop))
        .and_then(|()| replica.commit());
    assert!(matches!(failed, Err(ReplicaError::Full)), "{failed:?}");
    replica.rollback();
    check(&replica, &BTreeMap::new());

    replica.seem_full(false).unwrap();
    let outcome = commit(&mut replica, |replica| {
        replica.whole_part(zone.id, &rrsets[5..])?;
        replica.whole_end(zone.id)
    });
    assert!(matches!(outcome, WholeOutcome::Taken { .. }), "{outcome:?}");
    assert!(matches!(put_whole(&mut replica, &big), WholeOutcome::Taken { .. }));
    check(&replica, &BTreeMap::from([(1, zone), (2, big)]));
}

#[test]
fn marks_stay_until_what_they_mark_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path()).unwrap();
    let old = Zone::new(1, "one.test", 5);
    let mut new = old.clone();
    new.renumber(7);
    put_whole(&mut replica, &old);
    let first = replica.unapplied().unwrap();
    assert_eq!(first.len(), 1);
    put_delta(&mut replica, &old.delta(&new));
    // A confirmation of what went before leaves the newer mark.
    commit(&mut replica, |replica| replica.applied(first[0].1));
    let second = replica.unapplied().unwrap();
    assert_eq!((second[0].0.clone(), second[0].1.generation), (old.name.clone().into(), generation(7)));
    drop(replica);
    let mut replica = Replica::open(dir.path()).unwrap();
    assert_eq!(replica.unapplied().unwrap(), second);
    commit(&mut replica, |replica| replica.applied(second[0].1));
    assert!(replica.unapplied().unwrap().is_empty());
    commit(&mut replica, |replica| replica.remove(old.id, generation(9)));
    assert_eq!(replica.unapplied().unwrap()[0].1.generation, generation(9));
}

/// Private zones have a public one's name and each other's, and nothing is mixed up, also in a replica that an earlier agent wrote: what
/// that reads of a private zone is no name.
#[test]
fn private_zones_stand_beside_the_public_one_of_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let public = Zone::new(1, "one.test", 5);
    {
        // As agents wrote it that knew of nothing private.
        let mut replica = Replica::open(dir.path()).unwrap();
        put_whole(&mut replica, &public);
    }
    let mut replica = Replica::open(dir.path()).unwrap();
    assert_eq!(
        replica.zone_named(&public.name).unwrap().map(|row| (row.id, row.is_private)),
        Some((public.id, false))
    );
    let private = [2, 3]
        .map(|id| Zone { is_private: true, ..Zone::new(id, "one.test", 4 + u64::try_from(id).unwrap()) });
    for zone in &private {
        let outcome = put_whole(&mut replica, zone);
        assert!(matches!(outcome, WholeOutcome::Taken { replaced: None, .. }), "{outcome:?}");
    }
    let mut changed = private[0].clone();
    changed.set_a("www", [10, 0, 0, 1]);
    changed.renumber(9);
    assert!(matches!(put_delta(&mut replica, &private[0].delta(&changed)), DeltaOutcome::Taken(_)));
    let all = BTreeMap::from([(1, public.clone()), (2, changed.clone()), (3, private[1].clone())]);
    check(&replica, &all);
    drop(replica);
    let mut replica = Replica::open(dir.path()).unwrap();
    check(&replica, &all);
    assert_eq!(replica.set_aside_at_opening(), 0);
    let targets: Vec<Target> = replica.unapplied().unwrap().into_iter().map(|(target, _)| target).collect();
    assert_eq!(
        targets,
        [
            Target::Public(public.name.clone()),
            Target::Private(ZoneId(2), public.name.clone()),
            Target::Private(ZoneId(3), public.name.clone())
        ]
    );
    // Another zone takes the public one's name over, and no other's.
    let next = Zone::new(4, "one.test", 10);
    let outcome = put_whole(&mut replica, &next);
    assert!(matches!(&outcome, WholeOutcome::Taken { replaced: Some(row), .. } if row.id == public.id));
    commit(&mut replica, |replica| replica.remove(ZoneId(2), generation(11)));
    let (target, _) = replica.unapplied().unwrap().remove(0);
    assert_eq!(target, Target::Private(ZoneId(2), public.name.clone()), "it is known what is to be removed");
    assert_eq!(replica.target(&target).unwrap(), None);
    assert_eq!(replica.target(&next.name.clone().into()).unwrap().map(|row| row.id), Some(next.id));
    drop(replica);
    let db = Connection::open(dir.path().join(DATABASE)).unwrap();
    let column: Vec<u8> = db
        .query_row("SELECT name FROM zone WHERE id = ?1", (3_u128.to_be_bytes(),), |row| row.get(0))
        .unwrap();
    assert!(Name::from_wire(&column).is_err(), "what knows of nothing private takes it for damaged");
}

/// Changes the file of a replica that nobody has open.
fn damage(dir: &Path, sql: &str) {
    let db = Connection::open(dir.join(DATABASE)).unwrap();
    assert_eq!(db.execute(sql, ()).unwrap(), 1);
}

#[test]
fn damaged_content_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path()).unwrap();
    let (one, two) = (Zone::new(1, "one.test", 5), Zone::new(2, "two.test", 6));
    put_whole(&mut replica, &one);
    put_whole(&mut replica, &two);
    drop(replica);
    // The TTL of the NS records.
    damage(
        dir.path(),
        "UPDATE rrset SET value = x'82183d' || substr(value, 4) WHERE content = 1 AND key = x'000002'",
    );
    assert!(matches!(read(dir.path(), one.id), Err(ReadZoneError::Damaged(_))));
    assert!(read(dir.path(), two.id).is_ok());

    // A change of the damaged RRset doesn't lead to the right digest.
    let mut replica = Replica::open(dir.path()).unwrap();
    let mut new = one.clone();
    new.content
        .put(RrKey::new(one.name.clone(), Rtype::NS), Rrset { ttl: 9, rdatas: Rdatas::single(b"\x01n\0") });
    new.renumber(7);
    assert!(matches!(put_delta(&mut replica, &one.delta(&new)), DeltaOutcome::Gap { .. }));
    commit(&mut replica, |replica| replica.set_aside(one.id));
    check(&replica, &BTreeMap::from([(2, two)]));
}

#[test]
fn damaged_rows_of_zones_are_taken_out_at_the_opening() {
    for column in ["serial", "counter", "content", "record_count"] {
        let dir = tempfile::tempdir().unwrap();
        let mut replica = Replica::open(dir.path()).unwrap();
        let (one, two) = (Zone::new(1, "one.test", 5), Zone::new(2, "two.test", 6));
        put_whole(&mut replica, &one);
        put_whole(&mut replica, &two);
        drop(replica);
        // One bit of it.
        let flip = format!("UPDATE zone SET {column} = ({column} | 64) - ({column} & 64) WHERE serial = 5");
        damage(dir.path(), &flip);
        assert_eq!(Reader::open(dir.path()).unwrap().zones().unwrap().1, 1);
        let mut replica = Replica::open(dir.path()).unwrap();
        assert_eq!(replica.set_aside_at_opening(), 1);
        check(&replica, &BTreeMap::from([(2, two.clone())]));
        put_whole(&mut replica, &one);
        check(&replica, &BTreeMap::from([(1, one), (2, two)]));
    }
}

#[test]
fn a_damaged_or_unknown_database_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    drop(Replica::open(dir.path()).unwrap());
    damage(dir.path(), "UPDATE record SET value = x'00' WHERE name = 'newest'");
    let error = Replica::open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Replica { source: ReplicaError::Damaged(_), .. }), "{error:?}");
    fs::write(
        dir.path().join(DATABASE),
        b"not a database, but long enough to have a header of one".repeat(20),
    )
    .unwrap();
    let error = Replica::open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Replica { source: ReplicaError::Damaged(_), .. }), "{error:?}");

    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::open(dir.path()).unwrap();
    super::set_record(&replica.db, "format", b"koder-dns-sync replica 2").unwrap();
    drop(replica);
    let error = Replica::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("replica 2") && error.contains("replica 1"), "{error}");
    assert!(matches!(Reader::open(&dir.path().join("none")), Err(OpenError::Missing { .. })));
}

#[test]
fn a_replica_starts_afresh() {
    let dir = tempfile::tempdir().unwrap();
    let (home, aside) = (dir.path().join("replica"), dir.path().join("aside"));
    let mut replica = Replica::open(&home).unwrap();
    for round in 1..3 {
        put_whole(&mut replica, &Zone::new(1, "one.test", round));
        replica.start_afresh(&aside).unwrap();
        check(&replica, &BTreeMap::new());
        assert_eq!(replica.newest(), Generation::default());
        assert!(aside.join(DATABASE).exists());
    }
}

/// What the fixture holds.
fn fixture_zones() -> BTreeMap<u128, Zone> {
    let mut one = Zone::new(1, "example.com", 5);
    one.set_a("www", [192, 0, 2, 1]);
    let two = Zone::new(0x1_0002, "2.0.192.in-addr.arpa", 6);
    BTreeMap::from([(one.id.0, one), (two.id.0, two)])
}

/// Replicas of this version are in the field: what reads them has to read this one.
#[test]
fn format_1_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replica-1").join(DATABASE);
    fs::copy(fixture, dir.path().join(DATABASE)).unwrap();
    let replica = Replica::open(dir.path()).unwrap();
    check(&replica, &fixture_zones());
    assert!(replica.is_complete());
    assert_eq!(replica.newest(), generation(8));
    let unapplied: Vec<u64> =
        replica.unapplied().unwrap().iter().map(|(_, zone)| zone.generation.counter).collect();
    assert_eq!(unapplied, [8, 6]);
}

/// That version had no columns for steering: it gets them when it is opened, and what they then say is there the next time.
#[test]
fn format_1_without_steering_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replica-1").join(DATABASE);
    fs::copy(fixture, dir.path().join(DATABASE)).unwrap();
    let columns = |dir: &Path| {
        let db = Connection::open(dir.join(DATABASE)).unwrap();
        let mut statement = db.prepare("SELECT name FROM pragma_table_info('zone')").unwrap();
        let names = statement.query_map((), |row| row.get::<_, String>(0)).unwrap();
        names.filter(|name| STEERING_COLUMNS.contains(&name.as_ref().unwrap().as_str())).count()
    };
    assert_eq!(columns(dir.path()), 0, "the fixture is of the first agents");
    let mut replica = Replica::open(dir.path()).unwrap();
    assert_eq!(columns(dir.path()), STEERING_COLUMNS.len());
    let mut zones = fixture_zones();
    let zone = zones.get_mut(&1).unwrap();
    assert_eq!(replica.zone(zone.id).unwrap().unwrap().steering, SteeringRow::default());

    let mut next = zone.clone();
    let pool = RrKey::new(name("eu._steering.example.com"), herald_core::steering::POOL);
    next.content.put(pool, Rrset { ttl: 0, rdatas: Rdatas::single(b"a pool") });
    next.renumber(9);
    let taken = put_delta(&mut replica, &zone.delta(&next));
    let DeltaOutcome::Taken(taken) = taken else { panic!("{taken:?}") };
    assert_eq!((taken.steering_before.rrset_count, taken.zone.steering.rrset_count), (0, 1));
    *zone = next;
    drop(replica);
    let replica = Replica::open(dir.path()).unwrap();
    assert_eq!(replica.set_aside_at_opening(), 0);
    check(&replica, &zones);
    assert_eq!(replica.zone(ZoneId(1)).unwrap().unwrap().steering, taken.zone.steering);
}

/// Makes the fixture anew; for a new version of the format only.
#[test]
#[ignore = "it writes into the source tree"]
fn write_the_fixture() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replica-1");
    let mut replica = Replica::open(&dir).unwrap();
    for zone in fixture_zones().values() {
        put_whole(&mut replica, zone);
    }
    put_whole(&mut replica, &Zone::new(0x2, "gone.test", 7));
    commit(&mut replica, |replica| {
        replica.remove(ZoneId(0x2), generation(8))?;
        let one = replica.zone(ZoneId(1))?.unwrap();
        replica.applied(herald_wire::stream::ZoneGeneration { zone: one.id, generation: one.generation })?;
        replica.complete();
        Ok(())
    });
    while commit(&mut replica, |replica| replica.collect(100)) {}
}

/// How fast a large zone comes in and is read: `cargo test -p dns-sync --lib -- --ignored --nocapture a_million`.
#[test]
#[ignore = "a measurement"]
fn a_million_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path()).unwrap();
    let mut zone = Zone::new(1, "example.com", 5);
    for n in 0..1_000_000_u32 {
        zone.set_a(&format!("host-{n}"), n.to_be_bytes());
    }
    let rrsets = zone.rrsets();
    let started = std::time::Instant::now();
    commit(&mut replica, |replica| replica.whole_begin(zone.begin()));
    for group in rrsets.chunks(8_000) {
        commit(&mut replica, |replica| {
            group.chunks(500).try_for_each(|part| replica.whole_part(zone.id, part))
        });
    }
    commit(&mut replica, |replica| replica.whole_end(zone.id));
    println!("installed in {:?}", started.elapsed());
    let mut longest = std::time::Duration::ZERO;
    let started = std::time::Instant::now();
    for counter in 6..1006 {
        let began = std::time::Instant::now();
        let mut new = zone.clone();
        new.set_a("host-77", (counter as u32).to_be_bytes());
        new.renumber(counter);
        let delta = zone.delta(&new);
        put_delta(&mut replica, &delta);
        zone = new;
        longest = longest.max(began.elapsed());
    }
    println!("1000 deltas in {:?}, longest {longest:?}", started.elapsed());
    let started = std::time::Instant::now();
    Reader::open(dir.path()).unwrap().zone(zone.id, None, |_, _| Ok(())).unwrap();
    println!("read in {:?}", started.elapsed());
    let bytes = fs::metadata(dir.path().join(DATABASE)).unwrap().len();
    println!("{} MB", bytes / 1_000_000);
    put_whole(&mut replica, &Zone::new(1, "example.com", 2000));
    let started = std::time::Instant::now();
    let mut steps = 0;
    while commit(&mut replica, |replica| replica.collect(1_000)) {
        steps += 1;
    }
    println!("collected in {steps} steps, {:?}", started.elapsed());
}

#[test]
fn what_was_not_synced_is_there_and_the_next_commit_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path()).unwrap();
    let synced = |replica: &Replica| -> i64 {
        replica.db.query_row("PRAGMA synchronous", (), |row| row.get(0)).unwrap()
    };
    let mut zone = Zone::new(1, "example.com", 5);
    (0..10).for_each(|n| zone.set_a(&format!("host-{n}"), [192, 0, 2, n]));
    commit(&mut replica, |replica| replica.whole_begin(zone.begin()));
    for part in zone.rrsets().chunks(3) {
        replica.begin_unsynced().unwrap();
        replica.whole_part(zone.id, part).unwrap();
        replica.commit().unwrap();
        assert_eq!(synced(&replica), 1);
    }
    let outcome = commit(&mut replica, |replica| replica.whole_end(zone.id));
    assert!(matches!(outcome, WholeOutcome::Taken { .. }), "{outcome:?}");
    assert_eq!(synced(&replica), 2);
}
