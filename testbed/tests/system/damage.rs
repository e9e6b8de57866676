//! Files that are not what was written, under the real daemons: found at the start, said clearly. A replica heals from the
//! control plane; a store is refused rather than read wrongly, and never silently loses what it acknowledged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;
use testbed::herald::program;
use testbed::platform::Platform;
use testbed::wait::wait_until;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

const SOON: Duration = Duration::from_secs(30);

/// A text that can be found in files, and an address that can be asked for.
const NEEDLE: &str = "a-needle-in-a-stack-of-hay";

fn put(platform: &Platform, name: &str, rtype: &str, value: &str) {
    let path = format!("/zones/example.com/rrsets/{name}/{rtype}");
    let reply = platform.tenant.put(&path, &json!({ "ttl": 60, "records": [value] }));
    assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
}

/// Changes a letter of the needle wherever it is in a file; in how many places that was.
fn flip_needles(file: &Path, only: Option<usize>) -> usize {
    let mut bytes = fs::read(file).unwrap();
    let needle = NEEDLE.as_bytes();
    let places: Vec<usize> =
        (0..bytes.len().saturating_sub(needle.len())).filter(|&at| bytes[at..].starts_with(needle)).collect();
    for (number, at) in places.iter().enumerate() {
        if only.is_none_or(|only| only == number) {
            bytes[at + 5] ^= 0x04;
        }
    }
    fs::write(file, bytes).unwrap();
    places.len()
}

/// Makes a database say that it has another format, with the right checksum, as a later version would.
fn set_format(file: &Path, format: &str, sum: fn(&[u8]) -> u64) {
    let db = Connection::open(file).unwrap();
    let sum = sum(&[b"format\0".as_slice(), format.as_bytes()].concat()).cast_signed();
    let changed =
        db.execute("UPDATE record SET value = ?1, sum = ?2 WHERE name = 'format'", (format.as_bytes(), sum));
    assert_eq!(changed.unwrap(), 1);
}

fn cut_in_half(file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    fs::File::options().write(true).open(file).unwrap().set_len(length / 2 / 4096 * 4096).unwrap();
}

// -------------------------------------------------------------------------------------------- replica

/// What is done to a replica, and what the agent has to say then.
type Damage = (fn(&Path), &'static str);

const DAMAGES: [Damage; 5] = [
    (|file| assert!(flip_needles(file, None) > 0, "the needle is in the replica"), "damaged"),
    (overwrite_every_other_page, "damaged"),
    (cut_in_half, "damaged"),
    (|file| fs::write(file, b"this is no database".repeat(1000)).unwrap(), "damaged"),
    (
        |file| set_format(file, "koder-dns-sync replica 99", |bytes| (xxh3_128(bytes) >> 64) as u64),
        "koder-dns-sync replica 99",
    ),
];

fn overwrite_every_other_page(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes.chunks_mut(4096).skip(1).step_by(2).for_each(|page| page[7..40].fill(0xa5));
    fs::write(file, bytes).unwrap();
}

fn zones() -> [String; 2] {
    ["example.com.".to_owned(), "other.example.".to_owned()]
}

fn platform_with_content(label: &str) -> Platform {
    let platform = Platform::start(label, 1);
    zones().iter().for_each(|zone| drop(platform.create_zone(zone)));
    platform.tenant.import("example.com", testbed::EXAMPLE_ZONE).expect(200);
    put(&platform, "needle", "TXT", &format!("\"{NEEDLE}\""));
    put(&platform, "www", "A", "192.0.2.1");
    platform.assert_pops_hold(&zones());
    platform
}

#[test]
fn a_damaged_replica_is_noticed_and_heals() {
    let mut platform = platform_with_content("damaged-replica");
    for (number, (damage, said)) in DAMAGES.iter().enumerate() {
        let pop = &mut platform.pops[0];
        pop.stop().unwrap();
        damage(&pop.replica());
        pop.start();
        wait_until(SOON, "the damage to be spoken of", || pop.said().contains(said))
            .unwrap_or_else(|e| panic!("damage {number}: {e}\n{}", pop.tail()));
        platform.assert_pops_hold(&zones());
        // And changes go on.
        let next = format!("192.0.2.{}", number + 2);
        put(&platform, "www", "A", &next);
        platform.wait_for_answer("www.example.com.", "A", &[&next]);
    }
}

#[test]
fn a_replica_that_is_of_no_use_silences_nobody() {
    let mut platform = platform_with_content("useless-replica");
    let contents = platform.assert_pops_hold(&zones());
    for (number, (damage, said)) in DAMAGES.iter().enumerate().skip(2) {
        // A knotd that isn't given a replica has the files of its last start.
        let pop = &mut platform.pops[0];
        pop.stop().unwrap();
        pop.start();
        platform.herald.kill();
        let pop = &mut platform.pops[0];
        pop.kill();
        damage(&pop.replica());
        pop.start();
        // With no control plane it answers what it answered at its last start: with nothing changed since, all of it.
        platform.assert_holds(0, &contents);
        let told = platform.pops[0].said();
        assert!(told.contains(said), "damage {number} is not spoken of\n{told}");
        platform.herald.restart();
        assert_eq!(platform.assert_pops_hold(&zones()), contents);
    }
}

// ---------------------------------------------------------------------------------------------- store

/// A store with a needle in an entry, and many entries after it.
fn herald_with_needle(label: &str) -> (Platform, PathBuf) {
    let platform = Platform::without_pops(label);
    platform.create_zone("example.com");
    put(&platform, "needle", "TXT", &format!("\"{NEEDLE}\""));
    for number in 0..20 {
        put(&platform, &format!("host{number}"), "A", "192.0.2.9");
    }
    let store = platform.herald.data().join("store");
    (platform, store)
}

fn export(platform: &Platform) -> String {
    let reply = platform.tenant.get("/zones/example.com/export");
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.text
}

/// Runs `herald backup`.
fn backup(platform: &Platform, name: &str) -> Result<PathBuf, String> {
    let file = platform.folder("backups").join(name);
    let done = Command::new(program("herald"))
        .args(["backup", "--data"])
        .arg(platform.herald.data())
        .arg("--to")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    if done.status.success() { Ok(file) } else { Err(said) }
}

#[test]
fn a_damaged_store_is_refused_or_whole() {
    let (mut platform, store) = herald_with_needle("damaged-store");
    let whole = export(&platform);
    // All of it in the database, and nothing in the write-ahead log.
    platform.herald.stop().unwrap();
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    Connection::open(store.join("store.sqlite")).unwrap().query_row(checkpoint, (), |_| Ok(())).unwrap();
    let (database, kept) = (store.join("store.sqlite"), platform.folder("kept").join("store.sqlite"));
    fs::copy(&database, &kept).unwrap();

    // The needle is in the log and in the checkpoint. Where the start reads it, herald refuses; else it has all that it
    // should, and whoever verifies is told.
    let places = flip_needles(&kept, Some(usize::MAX));
    assert!(places >= 2, "{places}");
    let (mut refused, mut found) = (0, 0);
    for place in 0..places {
        fs::copy(&kept, &database).unwrap();
        flip_needles(&database, Some(place));
        let backup = backup(&platform, &format!("damaged-{place}"));
        if let Err(said) = &backup {
            assert!(said.contains("is damaged"), "{said}");
            found += 1;
        }
        match platform.herald.try_restart() {
            Ok(()) => assert_eq!(export(&platform), whole, "place {place}"),
            Err(said) => {
                assert!(backup.is_err(), "place {place}: a backup is of what can be read");
                assert!(said.contains("is damaged") && said.contains("restore it from a backup"), "{said}");
                refused += 1;
            }
        }
        platform.herald.kill();
        let _ = fs::remove_file(store.join("store.sqlite-wal"));
        let _ = fs::remove_file(store.join("store.sqlite-shm"));
    }
    // What isn't found lies in a free page: of a checkpoint that was replaced.
    assert!(refused > 0 && found >= 2, "{refused} refused, {found} found of {places}");

    for (damage, expected) in [
        (cut_in_half as fn(&Path), "is damaged"),
        (|file| fs::write(file, b"this is no database".repeat(1000)).unwrap(), "is damaged"),
        (|file| set_format(file, "herald-store 99", xxh3_64), "has the format \"herald-store 99\""),
    ] {
        fs::copy(&kept, &database).unwrap();
        damage(&database);
        let damaged = fs::read(&database).unwrap();
        let said = platform.herald.try_restart().expect_err("a damaged store is refused");
        assert!(said.contains(expected), "{said}");
        let said = backup(&platform, "of-damaged").unwrap_err();
        assert!(said.contains(expected), "{said}");
        assert!(fs::read(&database).unwrap() == damaged, "what is refused is left alone: {expected}");
    }
    fs::copy(&kept, &database).unwrap();
    platform.herald.restart();
    assert_eq!(export(&platform), whole);
}

#[test]
fn a_damaged_write_ahead_log_is_refused_and_a_torn_one_is_not() {
    let (mut platform, store) = herald_with_needle("damaged-wal");
    let before_last = export(&platform);
    put(&platform, "last", "A", "192.0.2.10");
    let whole = export(&platform);
    // Killed: all is in the write-ahead log.
    platform.herald.kill();
    let (wal, database) = (store.join("store.sqlite-wal"), store.join("store.sqlite"));
    let (kept_wal, kept) = (fs::read(&wal).unwrap(), fs::read(&database).unwrap());

    assert!(flip_needles(&wal, Some(0)) > 0, "the needle is in the write-ahead log");
    let damaged = fs::read(&wal).unwrap();
    let said = platform.herald.try_restart().expect_err("acknowledged changes would be lost");
    assert!(said.contains("write-ahead log does not verify") && said.contains("is damaged"), "{said}");
    assert!(backup(&platform, "damaged").unwrap_err().contains("is damaged"));
    assert!(fs::read(&wal).unwrap() == damaged, "what is refused is left alone");

    // Torn in its last transaction, as by a crash before that was acknowledged: all others are there.
    fs::write(&wal, &kept_wal[..kept_wal.len() - 100]).unwrap();
    platform.herald.restart();
    assert_eq!(export(&platform), before_last);
    platform.herald.kill();

    fs::write(&wal, &kept_wal).unwrap();
    fs::write(&database, &kept).unwrap();
    platform.herald.restart();
    assert_eq!(export(&platform), whole);
}
