use std::path::Path;

use herald_core::log::Envelope;
use herald_store::{EmbeddedStore, Entry, Store};
use rusqlite::Connection;

use super::*;
use crate::engine::testing::*;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A store with a zone that was changed a few times, one that was staged, and a checkpoint before the last entry; gives
/// the revision of the first change of the zone.
async fn store(dir: &Path) -> u64 {
    let platform = Platform::new(dir, no_effects()).await;
    let zone = platform.create("example.com").await;
    let first = platform.engine.state().revision();
    for n in 1..=6 {
        platform.submit(put_a(zone, "www.example.com", [192, 0, 2, n])).await.unwrap();
    }
    // A payload that is too long for an entry, and so in chunks.
    let edits = (0..40).map(|n| {
        let key = herald_core::RrKey::new(name(&format!("t{n}.example.com")), herald_core::Rtype::TXT);
        let text: Vec<u8> = std::iter::repeat_n([&[255][..], &[n; 255]].concat(), 16).flatten().collect();
        let op = herald_core::command::EditOp::Put { ttl: 60, rdatas: herald_core::Rdatas::single(&text) };
        herald_core::command::RrsetEdit { key, if_match: None, op }
    });
    platform.submit(edit(zone, edits.collect())).await.unwrap();
    let platform = platform.restart(dir, false).await;
    let store = platform.stop().await;
    store.no_checkpoints.store(true, std::sync::atomic::Ordering::Relaxed);
    drop(store);
    first
}

/// What is said of it.
fn said(dir: &Path) -> Vec<String> {
    verify(dir).unwrap().problems.iter().map(Problem::to_string).collect()
}

fn open(dir: &Path) -> Connection {
    Connection::open(dir.join("store.sqlite")).unwrap()
}

/// The entries of one store, changed by somebody who knows how, put into another: all its checksums are right.
fn forged(from: &Path, to: &Path, forge: impl FnOnce(&mut Vec<Entry>)) {
    let (from, to) = (EmbeddedStore::open(from).unwrap(), EmbeddedStore::open(to).unwrap());
    let mut entries = from.read(0, usize::MAX, usize::MAX).unwrap();
    let checkpoint = from.checkpoint().unwrap().unwrap();
    for entry in &entries {
        for address in log::payload_addresses(&entry.payload) {
            let chunk = from.chunk(&ChunkId::from_bytes(address)).unwrap().unwrap();
            to.put_chunks(&[&chunk]).unwrap();
        }
    }
    for id in &checkpoint.chunks {
        to.put_chunks(&[&from.chunk(id).unwrap().unwrap()]).unwrap();
    }
    forge(&mut entries);
    for entry in entries {
        to.append(entry.revision - 1, &[entry]).unwrap();
    }
    to.set_checkpoint(&checkpoint).unwrap();
}

fn reworded(entry: &mut Entry, message: &str) {
    let mut envelope: Envelope = minicbor::decode(&entry.envelope).unwrap();
    envelope.message = Some(message.into());
    entry.envelope = minicbor::to_vec(&envelope).unwrap();
}

#[tokio::test]
async fn what_is_right_is_found_right() {
    let dir = dir();
    store(dir.path()).await;
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!((report.entries, report.erased), (report.head, 0));
    assert!(report.chunks > 1);
    assert!(verify(&dir.path().join("nowhere")).is_err());
}

#[tokio::test]
async fn damage_is_told_with_its_place() {
    /// Flips a bit in the last byte of a column.
    fn flip(db: &Connection, column: &str, at: i64) {
        let select = format!("SELECT {column} FROM entry WHERE revision = ?1");
        let mut bytes: Vec<u8> = db.query_row(&select, (at,), |row| row.get(0)).unwrap();
        *bytes.last_mut().unwrap() ^= 4;
        db.execute(&format!("UPDATE entry SET {column} = ?2 WHERE revision = ?1"), (at, bytes)).unwrap();
    }
    type Damage = fn(&Connection, i64);
    let cases: &[(Damage, &[(u64, &str)])] = &[
        (
            |db, at| flip(db, "payload", at),
            &[
                (0, "the checksum is not that of the entry"),
                (0, "its payload is not the one that its envelope names"),
            ],
        ),
        (
            // The last byte of an envelope is of the hash of the one before.
            |db, at| flip(db, "envelope", at),
            &[
                (0, "the checksum is not that of the entry"),
                (0, "the hash chain breaks"),
                (1, "the hash chain breaks"),
            ],
        ),
        (
            |db, at| _ = db.execute("DELETE FROM entry WHERE revision = ?1", (at,)).unwrap(),
            &[(0, "the entry is missing")],
        ),
        (
            |db, at| _ = db.execute("DELETE FROM entry WHERE revision IN (?1, ?1 + 1)", (at,)).unwrap(),
            &[(0, "the entries from here to ")],
        ),
        (
            |db, at| {
                db.execute("UPDATE entry SET revision = 100000 WHERE revision = ?1", (at,)).unwrap();
                db.execute("UPDATE entry SET revision = ?1 WHERE revision = ?1 + 1", (at,)).unwrap();
                db.execute("UPDATE entry SET revision = ?1 + 1 WHERE revision = 100000", (at,)).unwrap();
            },
            &[
                (0, "the checksum is not that of the entry"),
                (0, "its number is another"),
                (1, "the checksum is not that of the entry"),
                (1, "its number is another"),
                (2, "the hash chain breaks"),
            ],
        ),
        (
            |db, at| _ = db.execute("UPDATE entry SET payload = x'' WHERE revision = ?1", (at,)).unwrap(),
            &[
                (0, "the checksum is not that of the entry"),
                (0, "its payload is missing, and it is not so old that it may have been erased"),
            ],
        ),
    ];
    for (damage, expected) in cases {
        let dir = dir();
        let at = store(dir.path()).await + 2;
        damage(&open(dir.path()), i64::try_from(at).unwrap());
        let said = said(dir.path());
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for (said, (offset, what)) in said.iter().zip(*expected) {
            assert!(said.starts_with(&format!("revision {}: {what}", at + offset)), "{said}");
        }
    }
}

#[tokio::test]
async fn the_last_entry_and_the_head_are_compared() {
    let dir = dir();
    store(dir.path()).await;
    let head = verify(dir.path()).unwrap().head;
    open(dir.path()).execute("DELETE FROM entry WHERE revision = ?1", (head.cast_signed(),)).unwrap();
    let said = said(dir.path());
    assert_eq!(said[0], format!("revision {head}: the entry is missing"));
}

#[tokio::test]
async fn chunks_that_are_lost_or_damaged_are_told_with_the_entries_that_name_them() {
    let dir = dir();
    let first = store(dir.path()).await;
    let staged = {
        let store = EmbeddedStore::open(dir.path()).unwrap();
        let entries = store.read(0, usize::MAX, usize::MAX).unwrap();
        let addresses =
            entries.iter().flat_map(|entry| log::payload_addresses(&entry.payload)).collect::<Vec<_>>();
        addresses[0]
    };
    let id = ChunkId::from_bytes(staged);
    open(dir.path()).execute("UPDATE chunk SET content = x'00' WHERE id = ?1", (staged,)).unwrap();
    let revision = first + 7;
    assert_eq!(
        said(dir.path()),
        [
            format!("revision {revision}: the chunk {id}, which it names, is damaged"),
            format!("chunk {id}: its content is not what its id says"),
        ]
    );
    open(dir.path()).execute("DELETE FROM chunk WHERE id = ?1", (staged,)).unwrap();
    assert_eq!(
        said(dir.path()),
        [format!("revision {revision}: the chunk {id}, which it names, is missing")]
    );
}

#[tokio::test]
async fn forgery_with_right_checksums_breaks_the_chain() {
    let original = dir();
    let at = store(original.path()).await + 2;
    let index = usize::try_from(at).unwrap() - 1;
    let check = |forge: &dyn Fn(&mut Vec<Entry>), expected: &[(u64, &str)]| {
        let forgery = dir();
        forged(original.path(), forgery.path(), |entries| forge(entries));
        let said = said(forgery.path());
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for (said, (revision, what)) in said.iter().zip(expected) {
            let place = if *revision == 0 { String::new() } else { format!("revision {revision}: ") };
            assert!(said.starts_with(&format!("{place}{what}")), "{said}");
        }
    };
    // Other words in an envelope: the next one names another.
    check(
        &|entries| reworded(&mut entries[index], "by somebody else"),
        &[(at + 1, "the hash chain breaks: its envelope names another")],
    );
    // Another payload.
    check(
        &|entries| entries[index].payload = entries[index + 1].payload.clone(),
        &[(at, "its payload is not the one that its envelope names")],
    );
    // The whole rest of the log written anew, chain and all: what it leads to is not what the checkpoint says, nor is the chain's end.
    check(
        &|entries| {
            reworded(&mut entries[index], "by somebody else");
            for n in index + 1..entries.len() {
                let hash = Sha256::digest(&entries[n - 1].envelope);
                let mut envelope: Envelope = minicbor::decode(&entries[n].envelope).unwrap();
                envelope.previous_hash = hash.into();
                entries[n].envelope = minicbor::to_vec(&envelope).unwrap();
            }
        },
        &[(0, "checkpoint: it names another envelope than that of revision ")],
    );
}

#[tokio::test]
async fn a_checkpoint_that_the_log_does_not_lead_to_is_told() {
    let dir = dir();
    store(dir.path()).await;
    // As a program would leave it that forgot a zone: another store's checkpoint of the same revision.
    let other = self::dir();
    store(other.path()).await;
    {
        let (from, to) =
            (EmbeddedStore::open(other.path()).unwrap(), EmbeddedStore::open(dir.path()).unwrap());
        let mut checkpoint = from.checkpoint().unwrap().unwrap();
        for id in &checkpoint.chunks {
            to.put_chunks(&[&from.chunk(id).unwrap().unwrap()]).unwrap();
        }
        checkpoint.meta = to.checkpoint().unwrap().unwrap().meta;
        to.set_checkpoint(&checkpoint).unwrap();
    }
    let said = said(dir.path());
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].starts_with("checkpoint: it is not what the log leads to at revision "), "{}", said[0]);
    // One that can't be read at all.
    let db = open(dir.path());
    db.execute("UPDATE record SET value = x'00' WHERE name = 'checkpoint'", ()).unwrap();
    drop(db);
    assert!(
        self::said(dir.path())[0].starts_with("checkpoint: the record \"checkpoint\" has a wrong checksum")
    );
}
