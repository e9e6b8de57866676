//! What every store must do, as tests: the same suite runs against the embedded store, etcd and TiKV.
//!
//! Written against `&dyn Store` and within [`crate::Limits`], so it knows nothing of how a store works.

use crate::{
    AppendError, BaseError, Checkpoint, CheckpointError, ChunkError, ChunkId, Entry, Store, StoreError,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Opens the store of this name: an empty one the first time, and what was left there the next time. The
/// suite never opens a name again before it has dropped the store.
pub type Open<'a> = &'a dyn Fn(&str) -> Box<dyn Store>;

/// Runs the whole suite; panics with an account of the first thing that is not as it must be.
///
/// Every case uses a store of its own, named after the case.
pub fn run(open: Open<'_>) {
    for (name, case) in CASES {
        eprintln!("store contract: {name}");
        case(&|| open(name));
    }
}

type Case = fn(&dyn Fn() -> Box<dyn Store>);

const CASES: &[(&str, Case)] = &[
    ("empty", empty),
    ("appended-is-read", appended_is_read),
    ("only-at-the-head", only_at_the_head),
    ("no-gaps", no_gaps),
    ("one-writer-wins", one_writer_wins),
    ("readers-see-no-gaps", readers_see_no_gaps),
    ("pages", pages),
    ("append-limits", append_limits),
    ("reopened", reopened),
    ("chunks", chunks),
    ("orphans", orphans),
    ("staging-while-collecting", staging_while_collecting),
    ("checkpoints", checkpoints),
    ("bases", bases),
    ("erased-payloads", erased_payloads),
];

fn empty(open: &dyn Fn() -> Box<dyn Store>) {
    let store = open();
    assert_eq!(store.head().unwrap(), 0);
    assert_eq!(store.read(0, 10, 1000).unwrap(), []);
    assert_eq!(store.read(7, 10, 1000).unwrap(), []);
    assert_eq!(store.checkpoint().unwrap(), None);
    assert_eq!(store.chunk(&ChunkId::of(b"never kept")).unwrap(), None);
    assert_eq!(store.collect_chunks(&|_| false).unwrap(), 0);
    assert_eq!(store.put_chunks(&[]).unwrap(), []);
}

fn appended_is_read(open: &dyn Fn() -> Box<dyn Store>) {
    let store = open();
    // All the byte values, nothing at all, and a size that spans pages.
    let contents: [(Vec<u8>, Vec<u8>); 4] = [
        ((0..=255).collect(), (0..=255).rev().collect()),
        (vec![], vec![]),
        (b"envelope only".to_vec(), vec![]),
        (vec![1; 100], vec![2; 100_000]),
    ];
    let entries: Vec<Entry> = (1..)
        .zip(contents)
        .map(|(revision, (envelope, payload))| Entry { revision, envelope, payload })
        .collect();
    store.append(0, &entries[..1]).unwrap();
    assert_eq!(store.head().unwrap(), 1);
    store.append(1, &entries[1..]).unwrap();
    assert_eq!(store.head().unwrap(), 4);
    assert_eq!(store.read(0, 100, usize::MAX).unwrap(), entries);
    assert_eq!(store.read(2, 100, usize::MAX).unwrap(), entries[2..]);
}

fn only_at_the_head(open: &dyn Fn() -> Box<dyn Store>) {
    let store = open();
    store.append(0, &entries(1..=3)).unwrap();
    for (expected_head, revisions) in
        [(0, 1..=1), (2, 3..=4), (4, 5..=5), (u64::MAX - 9, u64::MAX - 8..=u64::MAX - 8)]
    {
        match store.append(expected_head, &entries(revisions)) {
            Err(AppendError::Conflict { head: 3 }) => {}
            other => panic!("an append at {expected_head} instead of 3 gave {other:?}"),
        }
    }
    // Without entries, an append only compares.
    store.append(3, &[]).unwrap();
    assert!(matches!(store.append(2, &[]), Err(AppendError::Conflict { head: 3 })));
    assert_eq!(store.head().unwrap(), 3);
    assert_eq!(store.read(0, 100, usize::MAX).unwrap(), entries(1..=3));
}

fn no_gaps(open: &dyn Fn() -> Box<dyn Store>) {
    let store = open();
    store.append(0, &entries(1..=2)).unwrap();
    for (revisions, expected, found) in [
        (vec![4], 3, 4),
        (vec![2], 3, 2),
        (vec![3, 3], 4, 3),
        (vec![3, 5], 4, 5),
        (vec![3, 2], 4, 2),
        (vec![0], 3, 0),
    ] {
        let entries: Vec<Entry> = revisions.iter().map(|revision| entry(*revision)).collect();
        match store.append(2, &entries) {
            Err(AppendError::NotContiguous { expected: e, found: f }) if (e, f) == (expected, found) => {}
            other => panic!("appending {revisions:?} after 2 gave {other:?}"),
        }
    }
    assert_eq!(store.head().unwrap(), 2);
    store.append(2, &entries(3..=3)).unwrap();
}

fn one_writer_wins(open: &dyn Fn() -> Box<dyn Store>) {
    const WRITERS: u8 = 6;
    const UP_TO: u64 = 120;
    let store = open();
    let store = &*store;
    // Each writer keeps trying to append two entries that bear its name, until the log is long enough.
    let won: Vec<Vec<u64>> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let mut won = Vec::new();
                    loop {
                        let head = store.head().unwrap();
                        if head >= UP_TO {
                            return won;
                        }
                        let pair = [head + 1, head + 2].map(|revision| Entry {
                            revision,
                            envelope: vec![writer],
                            payload: revision.to_be_bytes().to_vec(),
                        });
                        match store.append(head, &pair) {
                            Ok(()) => won.extend([head + 1, head + 2]),
                            Err(AppendError::Conflict { head: now }) => assert!(now > head),
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let mut winner: BTreeMap<u64, u8> = BTreeMap::new();
    for (writer, revisions) in (0..).zip(won) {
        for revision in revisions {
            let other = winner.insert(revision, writer);
            assert_eq!(other, None, "two writers were told that they had appended {revision}");
        }
    }
    let log = store.read(0, 10_000, usize::MAX).unwrap();
    assert_eq!(log.len() as u64, store.head().unwrap());
    for entry in log {
        assert_eq!(entry.envelope, [winner[&entry.revision]], "entry {} is not its winner's", entry.revision);
        assert_eq!(entry.payload, entry.revision.to_be_bytes());
    }
}

fn readers_see_no_gaps(open: &dyn Fn() -> Box<dyn Store>) {
    const UP_TO: u64 = 150;
    let store = open();
    let store = &*store;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut after = 0;
                while after < UP_TO {
                    let head = store.head().unwrap();
                    let some = store.read(after, 7, usize::MAX).unwrap();
                    assert!(!some.is_empty() || head <= after, "head {head}, and nothing after {after}");
                    for found in some {
                        after += 1;
                        assert_eq!(found, entry(after));
                    }
                    assert!(store.head().unwrap() >= after, "read beyond the head");
                }
            });
        }
        for head in (0..UP_TO).step_by(3) {
            store.append(head, &entries(head + 1..=head + 3)).unwrap();
        }
    });
}

fn pages(open: &dyn Fn() -> Box<dyn Store>) {
    let store = open();
    store.append(0, &entries(1..=100)).unwrap();
    let revisions = |after, entries_max, bytes_max| -> Vec<u64> {
        let some = store.read(after, entries_max, bytes_max).unwrap();
        some.iter().map(|entry| entry.revision).collect()
    };
    let size = |revision| entry(revision).size();
    assert_eq!(revisions(0, 3, usize::MAX), [1, 2, 3]);
    assert_eq!(revisions(97, 3, usize::MAX), [98, 99, 100]);
    assert_eq!(revisions(98, 3, usize::MAX), [99, 100]);
    assert_eq!(revisions(100, 3, usize::MAX), []);
    assert_eq!(revisions(101, 3, usize::MAX), []);
    assert_eq!(revisions(u64::MAX, 3, usize::MAX), []);
    assert_eq!(revisions(0, usize::MAX, usize::MAX).len(), 100);
    // Up to and including `bytes_max`; at least one, whatever is asked for.
    assert_eq!(revisions(0, 10, size(1) + size(2)), [1, 2]);
    assert_eq!(revisions(0, 10, size(1) + size(2) - 1), [1]);
    assert_eq!(revisions(0, 10, 0), [1]);
    assert_eq!(revisions(50, 0, 0), [51]);
}

fn append_limits(open: &dyn Fn() -> Box<dyn Store>) {
    let store = open();
    let limits = store.limits();
    let most = limits.append_entries_max as u64;
    assert!(matches!(store.append(0, &entries(1..=most + 1)), Err(AppendError::TooLarge { .. })));
    store.append(0, &entries(1..=most)).unwrap();

    // As many as may be, as large as may be.
    let mut full = entries(most + 1..=2 * most);
    let room = limits.append_bytes_max - full.iter().map(Entry::size).sum::<usize>();
    full[0].payload.extend(vec![7; room]);
    let mut too_full = full.clone();
    too_full[1].payload.push(7);
    assert!(matches!(store.append(most, &too_full), Err(AppendError::TooLarge { .. })));
    assert_eq!(store.head().unwrap(), most);
    store.append(most, &full).unwrap();
    assert_eq!(store.read(most, usize::MAX, usize::MAX).unwrap(), full);

    // What is wrong in itself is refused as such even where the head has moved on.
    assert!(matches!(store.append(0, &too_full), Err(AppendError::TooLarge { .. })));
}

fn reopened(open: &dyn Fn() -> Box<dyn Store>) {
    let checkpoint = Checkpoint { revision: 4, chunks: vec![ChunkId::of(b"kept")], meta: b"meta".to_vec() };
    {
        let store = open();
        store.append(0, &entries(1..=5)).unwrap();
        store.put_chunks(&[b"kept"]).unwrap();
        store.set_checkpoint(&checkpoint).unwrap();
    }
    {
        let store = open();
        assert_eq!(store.head().unwrap(), 5);
        assert!(matches!(store.append(4, &entries(5..=5)), Err(AppendError::Conflict { head: 5 })));
        store.append(5, &entries(6..=6)).unwrap();
    }
    let store = open();
    assert_eq!(store.read(0, 10, usize::MAX).unwrap(), entries(1..=6));
    assert_eq!(store.chunk(&ChunkId::of(b"kept")).unwrap().as_deref(), Some(&b"kept"[..]));
    assert_eq!(store.checkpoint().unwrap(), Some(checkpoint));
}

fn chunks(open: &dyn Fn() -> Box<dyn Store>) {
    let store = open();
    let ids = store.put_chunks(&[b"abc", b"", b"abc"]).unwrap();
    assert_eq!(ids, [ChunkId::of(b"abc"), ChunkId::of(b""), ChunkId::of(b"abc")]);
    // From FIPS 180-2: ids are SHA-256 and nothing else, for they live on in entries.
    assert_eq!(ids[0].to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(store.put_chunks(&[b"abc"]).unwrap(), ids[..1]);
    assert_eq!(store.chunk(&ids[0]).unwrap().as_deref(), Some(&b"abc"[..]));
    assert_eq!(store.chunk(&ids[1]).unwrap().as_deref(), Some(&b""[..]));

    // More in number and in bytes than one request to etcd may hold.
    let many: Vec<Vec<u8>> = (0..300_u32).map(|n| n.to_be_bytes().repeat(5000)).collect();
    let ids = store.put_chunks(&many.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    for (id, content) in ids.iter().zip(&many) {
        assert_eq!(store.chunk(id).unwrap().as_ref(), Some(content));
    }

    let limit = store.limits().chunk_bytes_max;
    let largest = vec![9; limit];
    let id = store.put_chunks(&[&largest]).unwrap()[0];
    assert_eq!(store.chunk(&id).unwrap(), Some(largest));
    let too_large = vec![8; limit + 1];
    match store.put_chunks(&[b"beside it", &too_large]) {
        Err(ChunkError::TooLarge { bytes, limit: l }) if (bytes, l) == (limit + 1, limit) => {}
        other => panic!("a chunk of {} bytes gave {other:?}", limit + 1),
    }
    assert_eq!(store.chunk(&ChunkId::of(b"beside it")).unwrap(), None);
}

fn orphans(open: &dyn Fn() -> Box<dyn Store>) {
    let store = open();
    let contents: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; 50]).collect();
    let ids = store.put_chunks(&contents.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.collect_chunks(&|_| true).unwrap(), 0);
    let kept = &ids[..3];
    assert_eq!(store.collect_chunks(&|id| kept.contains(id)).unwrap(), 197);
    for (index, id) in ids.iter().enumerate() {
        assert_eq!(store.chunk(id).unwrap().is_some(), index < 3, "chunk {index}");
    }
    // What was collected may come back.
    store.put_chunks(&[&contents[10]]).unwrap();
    assert_eq!(store.chunk(&ids[10]).unwrap().as_ref(), Some(&contents[10]));
    assert_eq!(store.collect_chunks(&|_| false).unwrap(), 4);
}

fn staging_while_collecting(open: &dyn Fn() -> Box<dyn Store>) {
    const STAGED: u64 = 60;
    let store = open();
    let store = &*store;
    let done = AtomicBool::new(false);
    // Even numbers are announced before they are staged, as the rule says; odd ones never.
    let announced = AtomicU64::new(0);
    let content = |n: u64| n.to_be_bytes().to_vec();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                store
                    .collect_chunks(&|id| {
                        let up_to = announced.load(Ordering::Acquire);
                        (0..=up_to).step_by(2).any(|n| ChunkId::of(&content(n)) == *id)
                    })
                    .unwrap();
            }
        });
        for n in (0..STAGED).step_by(2) {
            announced.store(n, Ordering::Release);
            store.put_chunks(&[&content(n), &content(n + 1)]).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    for n in (0..STAGED).step_by(2) {
        assert_eq!(
            store.chunk(&ChunkId::of(&content(n))).unwrap(),
            Some(content(n)),
            "staged chunk {n} was collected"
        );
    }
}

fn checkpoints(open: &dyn Fn() -> Box<dyn Store>) {
    let store = open();
    let bare = Checkpoint { revision: 0, chunks: vec![], meta: vec![] };
    store.set_checkpoint(&bare).unwrap();
    assert_eq!(store.checkpoint().unwrap(), Some(bare));

    store.append(0, &entries(1..=10)).unwrap();
    let ids = store.put_chunks(&[b"one", b"two"]).unwrap();
    let first = Checkpoint { revision: 7, chunks: ids.clone(), meta: (0..=255).collect() };
    let second = Checkpoint { revision: 9, chunks: vec![ids[1], ids[0], ids[1]], meta: b"later".to_vec() };
    for checkpoint in [&first, &second, &first] {
        store.set_checkpoint(checkpoint).unwrap();
        assert_eq!(store.checkpoint().unwrap().as_ref(), Some(checkpoint));
    }

    match store.set_checkpoint(&Checkpoint { revision: 11, ..second.clone() }) {
        Err(CheckpointError::AheadOfLog { revision: 11, head: 10 }) => {}
        other => panic!("a checkpoint ahead of the log gave {other:?}"),
    }
    let limit = store.limits().append_bytes_max;
    let mut largest = Checkpoint { meta: vec![], ..second };
    largest.meta = vec![3; limit - largest.size()];
    let mut too_large = largest.clone();
    too_large.meta.push(3);
    match store.set_checkpoint(&too_large) {
        Err(CheckpointError::TooLarge { bytes, limit: l }) if (bytes, l) == (limit + 1, limit) => {}
        other => panic!("a checkpoint of {} bytes gave {other:?}", too_large.size()),
    }
    assert_eq!(store.checkpoint().unwrap(), Some(first), "a refused checkpoint left the last one in place");
    store.set_checkpoint(&largest).unwrap();
    drop(store);
    let found: Result<_, StoreError> = open().checkpoint();
    assert_eq!(found.unwrap(), Some(largest));
}

fn bases(open: &dyn Fn() -> Box<dyn Store>) {
    let base = |revision| Checkpoint { revision, chunks: vec![ChunkId::of(b"one")], meta: b"meta".to_vec() };
    {
        let store = open();
        assert_eq!(store.base().unwrap(), None);
        assert_eq!(store.erase_payloads(0, 10).unwrap(), None, "without a base nothing is erased");
        store.append(0, &entries(1..=10)).unwrap();
        store.put_chunks(&[b"one"]).unwrap();
        // The present never depends on what may be erased.
        match store.set_base(&base(1)) {
            Err(BaseError::AheadOfCheckpoint { revision: 1, checkpoint: 0 }) => {}
            other => panic!("a base without a checkpoint gave {other:?}"),
        }
        store.set_checkpoint(&base(7)).unwrap();
        assert!(matches!(store.set_base(&base(8)), Err(BaseError::AheadOfCheckpoint { checkpoint: 7, .. })));
        for revision in [3, 5, 5, 7] {
            store.set_base(&base(revision)).unwrap();
            assert_eq!(store.base().unwrap(), Some(base(revision)));
        }
        match store.set_base(&base(6)) {
            Err(BaseError::Behind { revision: 6, base: 7 }) => {}
            other => panic!("an older base gave {other:?}"),
        }
        match store.set_checkpoint(&base(6)) {
            Err(CheckpointError::BehindBase { revision: 6, base: 7 }) => {}
            other => panic!("a checkpoint before the base gave {other:?}"),
        }
        store.set_checkpoint(&base(9)).unwrap();
        let limit = store.limits().append_bytes_max;
        let too_large = Checkpoint { meta: vec![3; limit], ..base(7) };
        assert!(matches!(store.set_base(&too_large), Err(BaseError::TooLarge { .. })));
    }
    let store = open();
    assert_eq!(store.base().unwrap(), Some(base(7)));
    assert_eq!(store.checkpoint().unwrap(), Some(base(9)));
}

fn erased_payloads(open: &dyn Fn() -> Box<dyn Store>) {
    let point = |revision| Checkpoint { revision, chunks: vec![], meta: vec![] };
    let expected = |erased: u64| -> Vec<Entry> {
        let mut entries = entries(1..=100);
        let erased = entries.iter_mut().filter(|entry| entry.revision <= erased);
        erased.for_each(|entry| entry.payload.clear());
        entries
    };
    {
        let store = open();
        store.append(0, &entries(1..=100)).unwrap();
        store.set_checkpoint(&point(90)).unwrap();
        store.set_base(&point(40)).unwrap();
        assert_eq!(store.read(0, 200, usize::MAX).unwrap(), expected(0), "a base alone erases nothing");
        // In parts, and stopped in between.
        let reached = store.erase_payloads(0, 7).unwrap().unwrap();
        assert!((1..=7).contains(&reached), "{reached}");
        assert_eq!(store.read(0, 200, usize::MAX).unwrap(), expected(reached));
    }
    let store = open();
    let erase_all = || {
        let mut after = 0;
        while let Some(reached) = store.erase_payloads(after, 7).unwrap() {
            assert!(reached > after && reached <= after + 7, "from {after} to {reached}");
            after = reached;
        }
        after
    };
    assert_eq!(erase_all(), 40);
    assert_eq!(store.read(0, 200, usize::MAX).unwrap(), expected(40));
    assert_eq!(erase_all(), 40, "once more does no harm");
    assert_eq!(store.erase_payloads(40, 7).unwrap(), None);
    assert_eq!(store.erase_payloads(u64::MAX, 7).unwrap(), None);
    // The log goes on, and so does erasing.
    assert_eq!(store.head().unwrap(), 100);
    store.append(100, &entries(101..=101)).unwrap();
    store.set_base(&point(90)).unwrap();
    assert_eq!(erase_all(), 90);
    drop(store);
    let mut all = expected(90);
    all.extend(entries(101..=101));
    assert_eq!(open().read(0, 200, usize::MAX).unwrap(), all);
}

/// Entries whose content tells their revision, all of a different size.
fn entries(revisions: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    revisions.map(entry).collect()
}

fn entry(revision: u64) -> Entry {
    let envelope = format!("envelope of {revision}").into_bytes();
    let payload = revision.to_be_bytes().repeat((revision % 7) as usize);
    Entry { revision, envelope, payload }
}
