//! What only the embedded store promises: crashes, damage, full disks, locks, its format on disk.

use super::*;
use crate::contract;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU32;

#[test]
fn keeps_the_contract() {
    let base = Dir::new();
    contract::run(&|name| Box::new(open(&base.0.join(name))));
}

// ---- crashes ----------------------------------------------------------------------------------------

/// Set for a child: the directory it has to append to.
const CHILD_DIR: &str = "HERALD_STORE_TEST_CHILD_DIR";

#[test]
fn kill_9_loses_nothing_acknowledged() {
    let dir = Dir::new();
    let mut head = 0;
    // Killed again and again, so that later rounds start from what an earlier kill left.
    for round in 1..=6 {
        let acknowledged = append_in_a_child_and_kill_it(&dir.0, head + 40 * round);
        let store = open(&dir.0);
        head = store.head().unwrap();
        assert!(head >= acknowledged, "{acknowledged} were acknowledged, {head} are there");
        for revision in 1..=head {
            let found = store.read(revision - 1, 1, 0).unwrap();
            assert_eq!(found, [entry(revision)]);
        }
        assert_eq!(store.verify().unwrap().entries, head);
        let checkpoint = store.checkpoint().unwrap().expect("the child sets one with every group");
        assert!(checkpoint.revision + 7 >= acknowledged);
        assert!(store.chunk(&checkpoint.chunks[0]).unwrap().is_some());
    }
}

/// Appends until the child has acknowledged this revision, kills it, and returns what it acknowledged last.
fn append_in_a_child_and_kill_it(dir: &Path, up_to: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::tests::child_that_appends", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acknowledged = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok());
    let reached = acknowledged.find(|revision| *revision >= up_to);
    // SIGKILL, whatever the child is doing at this moment.
    child.kill().unwrap();
    // What it said between our reading and its end was acknowledged too.
    let last = acknowledged.last().or(reached).expect("the child has appended something");
    child.wait().unwrap();
    last
}

/// Not a test: what the child of the test above does, when it is one.
#[test]
fn child_that_appends() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let store = open(Path::new(&dir));
    println!();
    loop {
        let head = store.head().unwrap();
        let group = 1 + head % 7;
        append(&store, group);
        println!("acknowledged {}", head + group);
        let chunks = store.put_chunks(&[&head.to_be_bytes()]).unwrap();
        store.set_checkpoint(&Checkpoint { revision: head + group, chunks, meta: vec![] }).unwrap();
    }
}

/// A copy of the files while the store is open is what a kill -9 at this moment leaves.
fn killed_copy(of: &EmbeddedStore) -> Dir {
    let copy = Dir::new();
    // In another process: closing the files in this one would drop SQLite's locks.
    let done = Command::new("cp").arg("-r").arg(of.dir.join(".")).arg(&copy.0).status().unwrap();
    assert!(done.success());
    copy
}

#[test]
fn a_torn_end_is_dropped_and_a_damaged_middle_is_not() {
    let dir = Dir::new();
    let original = open_small(&dir.0);
    for _ in 0..4 {
        append(&original, 2);
    }
    let killed = killed_copy(&original);
    let wal = fs::read(killed.0.join(WAL)).unwrap();
    drop(original);

    // Torn: cut anywhere, it opens with whole groups, and goes on.
    for length in (0..=wal.len()).step_by(151).chain([wal.len() - 1]) {
        fs::write(killed.0.join(WAL), &wal[..length]).unwrap();
        let copy = Dir::copied(&killed.0);
        let store = open(&copy.0);
        let head = store.head().unwrap();
        assert!(head.is_multiple_of(2) && head <= 8);
        append(&store, 2);
        drop(store);
        assert_eq!(open(&copy.0).head().unwrap(), head + 2);
    }

    // Damaged: whichever bit flips, every group but the last is there, or it is said that it is not.
    let (mut said, mut survived, mut last_lost) = (0, 0, 0);
    for at in (0..wal.len()).step_by(13) {
        let mut damaged = wal.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(killed.0.join(WAL), &damaged).unwrap();
        let copy = Dir::copied(&killed.0);
        match EmbeddedStore::open(&copy.0) {
            Err(OpenError::Damaged { what, .. }) if what.contains("write-ahead log") => said += 1,
            Err(error) => panic!("byte {at}: {error}"),
            Ok(store) => match store.head().unwrap() {
                8 => survived += 1,
                6 => last_lost += 1,
                head => panic!("byte {at}: only {head} of 8 are left, and nothing was said"),
            },
        }
    }
    eprintln!(
        "of flipped bits in the WAL {said} were noticed, {survived} harmless, {last_lost} took the last group"
    );
    assert!(said > 2 * last_lost && last_lost > 0 && survived * 20 < said);
}

#[test]
fn a_missing_database_beside_its_wal_is_noticed() {
    let dir = Dir::new();
    let original = open(&dir.0);
    append(&original, 1);
    let killed = killed_copy(&original);
    fs::remove_file(killed.0.join(DATABASE)).unwrap();
    assert!(said(&killed.0).contains("store.sqlite is missing"), "{}", said(&killed.0));
}

/// What is committed and not yet announced by the head is seen by no reader.
#[test]
fn nothing_beyond_the_head_is_read() {
    let dir = Dir::new();
    let store = open(&dir.0);
    append(&store, 5);
    store.head.store(3, Ordering::Release);
    assert_eq!(store.read(0, 10, usize::MAX).unwrap(), (1..=3).map(entry).collect::<Vec<_>>());
    assert_eq!(store.read(3, 10, usize::MAX).unwrap(), []);
}

// ---- damage -----------------------------------------------------------------------------------------

#[test]
fn the_fixture_of_format_1_opens() {
    let dir = Dir::copied(&fixture());
    let store = open(&dir.0);
    assert_eq!(content(&store).unwrap(), fixture_content());
    assert_eq!(store.verify().unwrap(), Verified { entries: 3, chunks: 1 });
    append(&store, 1);
    assert_eq!(store.head().unwrap(), 4);
}

/// Makes the fixture anew: only for a new version of the format, beside the old one's.
#[test]
#[ignore = "writes to the source tree"]
fn make_the_fixture() {
    let dir = fixture();
    let store = open_small(&dir);
    append(&store, 3);
    let chunks = store.put_chunks(&[b"the state at 2"]).unwrap();
    store.set_checkpoint(&Checkpoint { revision: 2, chunks, meta: b"fixture".to_vec() }).unwrap();
    assert_eq!(content(&store).unwrap(), fixture_content());
    drop(store);
    fs::remove_file(dir.join(LOCK)).unwrap();
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    // With a step of 1 it passes too, and takes half a minute.
    const STEP: usize = 5;
    let original = fs::read(fixture().join(DATABASE)).unwrap();
    let dir = Dir::new();
    let (mut said, mut harmless) = (0, 0);
    for at in (0..original.len()).step_by(STEP) {
        let mut damaged = original.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::remove_dir_all(&dir.0).unwrap();
        fs::create_dir(&dir.0).unwrap();
        fs::write(dir.0.join(DATABASE), &damaged).unwrap();
        let found = match EmbeddedStore::open(&dir.0) {
            Ok(store) => content(&store),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Err(_) => said += 1,
            // A chunk that is named somewhere and isn't there is noticed by the one who wanted it.
            Ok((_, Some(_), chunks)) if chunks == [None] => said += 1,
            // Free space, statistics of SQLite and the like.
            Ok(content) if content == fixture_content() => harmless += 1,
            Ok(content) => panic!("byte {at}: read {content:?}"),
        }
    }
    eprintln!("of the flipped bits {said} were noticed and {harmless} harmless");
    assert!(said > 700 / STEP);
}

#[test]
fn damage_names_the_entry() {
    let dir = Dir::new();
    let with = |statement: &str| {
        fs::remove_dir_all(&dir.0).unwrap();
        let store = open(&dir.0);
        append(&store, 5);
        drop(store);
        connect(&dir.0).unwrap().execute_batch(statement).unwrap();
        match EmbeddedStore::open(&dir.0) {
            Ok(store) => content(&store).unwrap_err(),
            Err(error) => error.to_string(),
        }
    };
    let cases = [
        ("UPDATE entry SET payload = x'00' WHERE revision = 3", "entry 3 has a wrong checksum"),
        ("UPDATE entry SET envelope = 'text' WHERE revision = 3", "entry 3 can't be read"),
        ("DELETE FROM entry WHERE revision = 3", "entry 3 is missing (the next is 4)"),
        ("DELETE FROM entry WHERE revision > 3", "its head should be 5, and its last entry is 3"),
        (
            "UPDATE record SET value = x'0000000000000004' WHERE name = 'head'",
            "\"head\" has a wrong checksum",
        ),
        ("CREATE TABLE other (a)", "its tables are not those of herald-store 1"),
    ];
    for (statement, expected) in cases {
        let said = with(statement);
        assert!(said.contains(expected) && said.contains("restore it from a backup"), "{statement}: {said}");
    }
}

#[test]
fn a_damaged_chunk_is_noticed_and_mended_by_keeping_it_again() {
    let dir = Dir::new();
    let store = open(&dir.0);
    let id = store.put_chunks(&[b"content"]).unwrap()[0];
    store.writer().unwrap().db.execute("UPDATE chunk SET content = x'00'", ()).unwrap();
    let said = store.chunk(&id).unwrap_err().to_string();
    assert!(said.contains(&format!("the content of chunk {id} is not what its id says")), "{said}");
    assert!(store.verify().is_err());
    store.put_chunks(&[b"content"]).unwrap();
    assert_eq!(store.chunk(&id).unwrap().as_deref(), Some(&b"content"[..]));
}

// ---- formats and locks ------------------------------------------------------------------------------

#[test]
fn another_version_of_the_format_is_named() {
    let dir = Dir::new();
    drop(open(&dir.0));
    let db = connect(&dir.0).unwrap();
    let next = b"herald-store 2";
    db.execute(
        "UPDATE record SET value = ?1, sum = ?2 WHERE name = 'format'",
        (next, record_sum(FORMAT, next)),
    )
    .unwrap();
    drop(db);
    let said = said(&dir.0);
    assert!(said.contains("\"herald-store 2\"") && said.contains("\"herald-store 1\""), "{said}");
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let dir = Dir::new();
    connect(&dir.0).unwrap().execute_batch("CREATE TABLE somebodys (a)").unwrap();
    assert!(said(&dir.0).contains("no table of records"), "{}", said(&dir.0));

    fs::write(dir.0.join(DATABASE), "plain text, and more of it than a header").unwrap();
    assert!(said(&dir.0).contains("not a database"), "{}", said(&dir.0));
    assert_eq!(fs::read_to_string(dir.0.join(DATABASE)).unwrap(), "plain text, and more of it than a header");
}

#[test]
fn one_at_a_time() {
    let dir = Dir::new();
    let store = open(&dir.0);
    append(&store, 1);
    match EmbeddedStore::open(&dir.0) {
        Err(OpenError::InUse { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened twice"),
    }
    append(&store, 1);
    drop(store);
    assert_eq!(open(&dir.0).head().unwrap(), 2);
}

// ---- full and failing disks -------------------------------------------------------------------------

#[test]
fn a_full_disk_loses_nothing_and_is_got_over() {
    let dir = Dir::new();
    let store = open(&dir.0);
    append(&store, 3);
    let allow_pages = |pages: u32| {
        let writer = store.writer().unwrap();
        writer.db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    allow_pages(1);
    let large = [Entry { revision: 4, envelope: vec![], payload: vec![1; 100_000] }];
    assert!(matches!(store.append(3, &large), Err(AppendError::Store(StoreError::Full))));
    assert!(matches!(store.put_chunks(&[&[1; 100_000]]), Err(ChunkError::Store(StoreError::Full))));
    assert_eq!(store.head().unwrap(), 3);
    assert_eq!(store.read(0, 10, usize::MAX).unwrap().len(), 3);
    allow_pages(u32::MAX);
    store.append(3, &large).unwrap();
    drop(store);
    let store = open(&dir.0);
    assert_eq!(store.read(3, 10, usize::MAX).unwrap(), large);
    store.verify().unwrap();
}

#[test]
fn after_a_failure_it_must_be_reopened() {
    let dir = Dir::new();
    let store = open(&dir.0);
    append(&store, 3);
    // Any failure that is not a full disk will do.
    store.writer().unwrap().db.pragma_update(None, "query_only", true).unwrap();
    let first = store.append(3, &[entry(4)]).unwrap_err();
    assert!(matches!(first, AppendError::Store(StoreError::Failed { .. })), "{first}");
    store.writer.lock().unwrap().db.pragma_update(None, "query_only", false).unwrap();
    let second = store.append(3, &[entry(4)]).unwrap_err();
    assert!(second.to_string().contains("close it, see to the disk, open it again"), "{second}");
    assert!(matches!(store.put_chunks(&[b""]), Err(ChunkError::Store(StoreError::MustReopen { .. }))));
    assert_eq!(store.read(0, 10, usize::MAX).unwrap().len(), 3);
    drop(store);
    append(&open(&dir.0), 1);
}

#[test]
fn a_panic_of_the_caller_changes_nothing() {
    let dir = Dir::new();
    let store = open(&dir.0);
    let id = store.put_chunks(&[b"kept"]).unwrap()[0];
    let collecting = std::panic::AssertUnwindSafe(|| store.collect_chunks(&|_| panic!("in keep")));
    std::panic::catch_unwind(collecting).unwrap_err();
    append(&store, 1);
    assert!(store.chunk(&id).unwrap().is_some());
}

// ---- readers and backups ----------------------------------------------------------------------------

#[test]
fn a_backup_is_whole_whatever_is_written_meanwhile() {
    let (dir, backups) = (Dir::new(), Dir::new());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::tests::child_that_appends", "--nocapture"])
        .env(CHILD_DIR, &dir.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acknowledged = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
    for number in 1..=5 {
        let before = acknowledged.find(|revision| *revision >= 50 * number).unwrap();
        let reader = StoreReader::open(&dir.0).unwrap();
        let head = reader.head().unwrap();
        assert!(head >= before, "{before} were acknowledged, {head} are seen");
        let file = backups.0.join(format!("{number}.backup"));
        let (copied, verified) = reader.backup(&file).unwrap();
        assert!(copied >= head && verified.entries == copied && verified.chunks > 0);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // What came later isn't seen.
        assert_eq!(reader.read(0, usize::MAX, usize::MAX).unwrap().len() as u64, head);
        assert!(matches!(reader.backup(&file), Err(BackupError::Exists(_))));

        let restored = Dir::new();
        fs::copy(&file, restored.0.join(DATABASE)).unwrap();
        let store = open(&restored.0);
        assert_eq!(
            store.read(0, usize::MAX, usize::MAX).unwrap(),
            (1..=copied).map(entry).collect::<Vec<_>>()
        );
        append(&store, 1);
    }
    // The control plane was not disturbed: it still acknowledges.
    acknowledged.next().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // A reader changes nothing of what a kill leaves.
    let seen = StoreReader::open(&dir.0).unwrap().head().unwrap();
    assert_eq!(open(&dir.0).head().unwrap(), seen);
    let names: Vec<_> = fs::read_dir(&backups.0).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names.len(), 5, "a backup is one file: {names:?}");
}

#[test]
fn a_reader_says_what_is_wrong_and_leaves_no_bad_backup() {
    let dir = Dir::new();
    assert!(StoreReader::open(&dir.0).is_err_and(|error| error.to_string().contains("can't open")));
    assert!(!dir.0.join(DATABASE).exists(), "a reader makes nothing");
    let store = open(&dir.0);
    append(&store, 5);
    store.put_chunks(&[b"a chunk"]).unwrap();
    drop(store);
    let file = dir.0.join("backup");
    for (flip, said) in [
        ("UPDATE entry SET payload = x'00' WHERE revision = 2", "entry 2 has a wrong checksum"),
        ("UPDATE chunk SET content = x'00'", "the content of chunk"),
        ("DELETE FROM entry WHERE revision = 3", "entry 3 is missing"),
    ] {
        let copy = Dir::copied(&dir.0);
        Connection::open(copy.0.join(DATABASE)).unwrap().execute(flip, ()).unwrap();
        let reader = StoreReader::open(&copy.0).unwrap();
        let error = reader.backup(&file).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(!file.exists());
    }
    let reader = StoreReader::open(&dir.0).unwrap();
    let error = reader.backup(&dir.0.join("no/such/backup")).unwrap_err();
    assert!(matches!(error, BackupError::Write { .. }), "{error}");
    assert!(reader.append(5, &[entry(6)]).unwrap_err().to_string().contains("append"));
    reader.backup(&file).unwrap();
}

// ---- helpers ----------------------------------------------------------------------------------------

fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(dir).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

/// With the smallest pages, so that a few entries already take several.
fn open_small(dir: &Path) -> EmbeddedStore {
    Opening { dir }.open(512).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

/// What opening this directory says, and it has to say something.
fn said(dir: &Path) -> String {
    EmbeddedStore::open(dir).unwrap_err().to_string()
}

fn append(store: &EmbeddedStore, count: u64) {
    let head = store.head().unwrap();
    let entries: Vec<Entry> = (head + 1..=head + count).map(entry).collect();
    store.append(head, &entries).unwrap();
}

fn entry(revision: u64) -> Entry {
    Entry {
        revision,
        envelope: format!("envelope {revision}").into_bytes(),
        payload: vec![revision as u8; 60],
    }
}

/// All that a store holds, or what it says is wrong with it.
type Content = (Vec<Entry>, Option<Checkpoint>, Vec<Option<Vec<u8>>>);

fn content(store: &EmbeddedStore) -> Result<Content, String> {
    let read = || {
        let entries = store.read(0, usize::MAX, usize::MAX)?;
        let checkpoint = store.checkpoint()?;
        let ids = checkpoint.iter().flat_map(|checkpoint| &checkpoint.chunks);
        let chunks = ids.map(|id| store.chunk(id)).collect::<Result<_, _>>()?;
        Ok((entries, checkpoint, chunks))
    };
    read().map_err(|error: StoreError| error.to_string())
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1")
}

fn fixture_content() -> Content {
    let chunk = b"the state at 2".to_vec();
    let checkpoint = Checkpoint { revision: 2, chunks: vec![ChunkId::of(&chunk)], meta: b"fixture".to_vec() };
    ((1..=3).map(entry).collect(), Some(checkpoint), vec![Some(chunk)])
}

/// A directory of the test's own, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("herald-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    /// With copies of the files of a store that is not open.
    fn copied(from: &Path) -> Dir {
        let dir = Dir::new();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), dir.0.join(file.file_name())).unwrap();
        }
        dir
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
