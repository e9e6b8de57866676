use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use herald_core::check::CheckedContent;
use herald_core::command::{Action, Prepared, ZoneRef};
use herald_core::idempotency::{KeyHolder, RequestKey};
use herald_core::rejection::RejectionKind;
use herald_core::{Rdatas, RrKey, Rrset, Rtype, ZoneId};

use super::testing::*;
use super::*;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Content of a zone with so many TXT records of this length, all beginning with `mark`.
fn big_content(zone: &str, records: usize, bytes: usize, mark: u8) -> CheckedContent {
    let mut content = Content::default();
    // As the set of name servers gives it.
    let ns = ["ns1.herald.example", "ns2.herald.example"];
    let ns = ns.iter().map(|host| name(host).as_wire().to_vec()).collect();
    content.put(RrKey::new(name(zone), Rtype::NS), Rrset { ttl: 3600, rdatas: ns });
    let mut rdata = vec![mark; bytes];
    rdata[0] = u8::try_from(bytes - 1).unwrap();
    for n in 0..records {
        let owner = name(zone).child(format!("h{n}")).unwrap();
        content.put(RrKey::new(owner, Rtype::TXT), Rrset { ttl: 60, rdatas: Rdatas::single(&rdata) });
    }
    CheckedContent::new(name(zone), content).unwrap()
}

fn replace(platform: &Platform, zone: ZoneId, content: CheckedContent) -> Action {
    let base = platform.zone(zone).revision;
    let content = Prepared { content, staged: None, serial_floor: None };
    Action::ReplaceZone { zone: ZoneRef::Id(zone), base, content }
}

// ------------------------------------------------------------------------------------------ group commit

#[tokio::test]
async fn what_waits_together_is_written_together() {
    const COMMANDS: u64 = 500;
    let dir = dir();
    let commits: Arc<Mutex<Vec<u64>>> = Arc::default();
    let seen = Arc::clone(&commits);
    let note = move |state: &Arc<State>, group: &[Commit]| {
        assert_eq!(state.revision(), group.last().unwrap().revision);
        seen.lock().unwrap().extend(group.iter().map(|commit| commit.revision));
    };
    let platform = Platform::new(dir.path(), Box::new(note)).await;
    let zone = platform.create("example.com").await;
    let before = platform.engine.state().revision();

    // While one append is held, the others queue up.
    platform.store.hold_appends();
    let mut answers = tokio::task::JoinSet::new();
    let mut spawn = |n: u64| {
        let (engine, tenant) = (platform.engine.clone(), platform.tenant);
        let owner = format!("h{n}.example.com");
        answers.spawn(
            async move { submit(&engine, tenant, put_a(zone, &owner, [192, 0, 2, 1])).await.unwrap() },
        );
    };
    spawn(0);
    tokio::task::yield_now().await;
    platform.store.wait_till_held();
    let appends = platform.store.appends.load(Ordering::Relaxed);
    (1..COMMANDS).for_each(&mut spawn);
    // On one thread, those that were spawned run before this goes on.
    tokio::task::yield_now().await;
    assert_eq!(platform.engine.state().revision(), before, "nobody sees what isn't durable");
    platform.store.release_appends();

    let committed = answers.join_all().await;
    let revisions: BTreeSet<u64> = committed.iter().map(|committed| committed.revision).collect();
    assert!(revisions.iter().copied().eq(before + 1..=before + COMMANDS));
    // One for the first, and then as few as the store's limit of 120 entries allows.
    assert_eq!(platform.store.appends.load(Ordering::Relaxed) - appends, 1 + 499_u64.div_ceil(120));
    assert!(commits.lock().unwrap().iter().copied().eq(1..=before + COMMANDS));
    assert_eq!(platform.engine.state().revision(), before + COMMANDS);
    assert_eq!(platform.zone(zone).content.rrset_count(), 1 + COMMANDS);
    platform.engine.revision().wait_for(|revision| *revision == before + COMMANDS).await.unwrap();
    // Each was told the state right after it.
    for committed in committed {
        let zone = committed.state.zone(zone).unwrap();
        assert_eq!(zone.content.rrset_count(), 1 + committed.revision - before);
        assert_eq!(zone.revision, committed.revision);
    }
}

/// Three commands: the first is held, and the other two, who want the same, make the group after it. Before that is
/// written, `prepare` is called.
async fn two_in_a_group(platform: &Platform, prepare: impl FnOnce()) -> [Result<Committed, SubmitError>; 3] {
    platform.store.hold_appends();
    let spawn = |zone: &str| {
        let (engine, tenant, action) = (platform.engine.clone(), platform.tenant, create_zone(zone));
        tokio::spawn(async move { submit(&engine, tenant, action).await })
    };
    let held = spawn("held.example");
    tokio::task::yield_now().await;
    platform.store.wait_till_held();
    let [a, b] = [spawn("twice.example"), spawn("twice.example")];
    tokio::task::yield_now().await;
    prepare();
    platform.store.release_appends();
    [held.await.unwrap(), a.await.unwrap(), b.await.unwrap()]
}

#[tokio::test]
async fn a_refusal_may_rest_on_what_was_decided_in_the_same_group() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let [_, made, refused] = two_in_a_group(&platform, || ()).await;
    assert!(made.is_ok());
    assert!(
        matches!(&refused, Err(SubmitError::Rejected(rejection)) if rejection.kind == RejectionKind::Conflict),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_append_that_fails_leaves_nothing() {
    let dir = dir();
    let noted = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&noted);
    let note = move |_: &Arc<State>, group: &[Commit]| *seen.lock().unwrap() += group.len();
    let platform = Platform::new(dir.path(), Box::new(note)).await;
    let before = platform.engine.state();
    let noted_before = *noted.lock().unwrap();

    // The refusal of the last rested on a draft that came to nothing.
    let fail_twice = || platform.store.failing_appends.store(2, Ordering::Relaxed);
    for answer in two_in_a_group(&platform, fail_twice).await {
        assert!(matches!(answer, Err(SubmitError::Unavailable(_))), "{answer:?}");
    }
    let after = platform.engine.state();
    assert_eq!((after.revision(), after.zone_count()), (before.revision(), 0));
    assert_eq!(platform.store.head().unwrap(), before.revision());
    assert_eq!(*noted.lock().unwrap(), noted_before, "there are no effects");

    // And then it goes on as if nothing had been.
    let committed = platform.submit(create_zone("twice.example")).await.unwrap();
    assert_eq!(committed.revision, before.revision() + 1);
    let platform = platform.restart(dir.path(), true).await;
    assert_eq!(platform.engine.state().zone_count(), 1);
}

#[tokio::test]
async fn what_is_so_already_writes_nothing() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let zone = platform.create("example.com").await;
    let first = platform.submit(put_a(zone, "www.example.com", [192, 0, 2, 1])).await.unwrap();
    platform.create("example.net").await;
    let again = platform.submit(put_a(zone, "www.example.com", [192, 0, 2, 1])).await.unwrap();
    assert_eq!(again.revision, first.revision, "the last change of the zone");
    assert_eq!(platform.store.head().unwrap(), first.revision + 1);
}

#[tokio::test]
async fn a_dry_run_does_nothing() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let command = |action| Command { context: crate::clock::context(platform.tenant, None), action };
    let (decision, state) = platform.engine.dry_run(command(create_zone("example.com"))).unwrap();
    assert_eq!((decision.changes.len(), state.zone_count()), (1, 1));
    assert_eq!(platform.engine.state().zone_count(), 0);
    let refused = platform.engine.dry_run(command(create_zone("com"))).unwrap_err();
    assert_eq!(refused.kind, RejectionKind::Invalid);
}

// ---------------------------------------------------------------------------------------------- recovery

#[tokio::test]
async fn a_restart_finds_all_from_the_log_alone() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let zone = platform.create("example.com").await;
    platform.submit(put_a(zone, "www.example.com", [192, 0, 2, 1])).await.unwrap();
    let other = platform.create("example.net").await;
    platform.submit(delete_zone(other)).await.unwrap();
    let before = platform.engine.state();
    assert_eq!(before.epoch(), 1);

    let platform = platform.restart(dir.path(), true).await;
    assert!(platform.store.checkpoint().unwrap().is_none());
    let after = platform.engine.state();
    assert_eq!(held(&after), held(&before));
    assert_eq!((after.epoch(), after.revision()), (2, before.revision() + 1));
    assert_eq!(after.zone(zone).unwrap().generation, before.zone(zone).unwrap().generation);
}

#[tokio::test]
async fn a_restart_finds_all_from_checkpoint_and_log() {
    let dir = dir();
    let mut platform = Platform::new(dir.path(), no_effects()).await;
    let zone = platform.create("example.com").await;
    for round in 1..=4_u8 {
        platform.submit(put_a(zone, &format!("h{round}.example.com"), [192, 0, 2, round])).await.unwrap();
        let before = platform.engine.state();
        // With a checkpoint at the end in every other round.
        platform = platform.restart(dir.path(), round % 2 == 0).await;
        let after = platform.engine.state();
        assert_eq!(held(&after), held(&before));
        assert_eq!(after.epoch(), u64::from(round) + 1, "a new term with each start");
        let checkpoint = platform.store.checkpoint().unwrap().map(|checkpoint| checkpoint.revision);
        let last = if round % 2 == 1 { before.revision() } else { before.revision() - 2 };
        assert_eq!(checkpoint, Some(last));
    }
}

#[tokio::test]
async fn a_big_zone_is_staged_and_found_again() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let content = big_content("example.com", 6_000, 200, b'x');
    let staged = platform.engine.stage(content.content()).unwrap();
    assert!(staged.len() > 2, "{} chunks", staged.len());
    assert_eq!(platform.store.chunks(), staged.len() as u64);
    let prepared = Prepared { content: content.clone(), staged: Some(staged), serial_floor: None };
    let Action::CreateZone { name, tenant, ns_set, labels, .. } = create_zone("example.com") else {
        unreachable!()
    };
    let action = Action::CreateZone { name, tenant, ns_set, labels, content: Some(prepared), insiders: None };
    let committed = platform.submit(action).await.unwrap();
    let entry = &platform.store.read(committed.revision - 1, 1, 1).unwrap()[0];
    assert!(entry.payload.len() < 1024, "{} bytes", entry.payload.len());

    let before = platform.engine.state();
    let platform = platform.restart(dir.path(), true).await;
    assert_eq!(held(&platform.engine.state()), held(&before));
    assert_eq!(platform.zone(zone_of(&committed)).content, *content.content());
    // A checkpoint doesn't take the log's chunks away.
    let platform = platform.restart(dir.path(), false).await;
    let platform = platform.restart(dir.path(), false).await;
    let entries = platform.store.read(committed.revision - 1, 1, 1).unwrap();
    let envelope: herald_core::log::Envelope = minicbor::decode(&entries[0].envelope).unwrap();
    open_entry(&*platform.store, &envelope.previous_hash, &entries[0]).unwrap();
    assert_eq!(platform.zone(zone_of(&committed)).content, *content.content());
}

#[tokio::test]
async fn a_payload_too_long_for_an_entry_is_chunked() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let zone = platform.create("example.com").await;
    // One just below the limit, one above it, one above what a chunk holds.
    for (records, chunks, mark) in [(500, 0, b'x'), (1_000, 1, b'y'), (10_000, 3, b'z')] {
        let chunks_before = platform.store.chunks();
        let content = big_content("example.com", records, 200, mark);
        let committed = platform.submit(replace(&platform, zone, content)).await.unwrap();
        let entry = &platform.store.read(committed.revision - 1, 1, 1).unwrap()[0];
        assert_eq!(platform.store.chunks() - chunks_before, chunks);
        assert!(entry.payload.len() <= 128 * 1024);
        assert!(chunks == 0 || entry.payload.len() as u64 == 1 + 32 * chunks);
    }
    let before = platform.engine.state();
    let platform = platform.restart(dir.path(), true).await;
    assert_eq!(held(&platform.engine.state()), held(&before));
}

#[tokio::test]
async fn damage_is_said_and_nothing_is_begun() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    platform.store.no_checkpoints.store(true, Ordering::Relaxed);
    platform.create("example.com").await;
    let store = platform.stop().await;
    let head = store.head().unwrap();
    let fails_with = |damage: fn(&mut herald_store::Entry)| {
        *store.damage.lock().unwrap() = Some(damage);
        let refused = start(&store, no_effects()).err().expect("it is damaged").to_string();
        assert_eq!(store.head().unwrap(), head, "nothing was written");
        refused
    };
    let said = fails_with(|entry| {
        if entry.revision == 3 {
            entry.payload[2] ^= 1;
        }
    });
    assert_eq!(said, "the hash chain breaks at entry 3: its payload is another");
    let said = fails_with(|entry| {
        if entry.revision == 2 {
            // The time of the entry.
            let at = entry.envelope.windows(1).position(|byte| byte == [0x1b]).unwrap();
            entry.envelope[at + 8] ^= 1;
        }
    });
    assert_eq!(said, "the hash chain breaks at entry 3: it doesn't follow the entry before");
    let said = fails_with(|entry| entry.envelope.truncate(10));
    assert!(said.starts_with("entry 1 can't be read"), "{said}");
    let said = fails_with(|entry| entry.envelope[1] = 9);
    assert!(said.contains("entry 1 has version 9"), "{said}");
    *store.damage.lock().unwrap() = None;
    start(&store, no_effects()).unwrap();
}

#[tokio::test]
async fn a_damaged_checkpoint_is_said() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let store = platform.stop().await;
    let fails_with = |damage: fn(&mut herald_store::Checkpoint)| {
        *store.damage_checkpoint.lock().unwrap() = Some(damage);
        start(&store, no_effects()).err().expect("it is damaged").to_string()
    };
    let prefix = "the checkpoint can't be used: ";
    type Damage = fn(&mut herald_store::Checkpoint);
    let cases: [(Damage, &str); 5] = [
        (|checkpoint| checkpoint.meta[0] = 2, "it has version 2, and this program knows 1"),
        (|checkpoint| checkpoint.meta.truncate(20), "its hash is cut short"),
        (|checkpoint| checkpoint.meta.clear(), "it is empty"),
        (|checkpoint| checkpoint.chunks[0] = herald_store::ChunkId::of(b"none"), "a chunk is missing"),
        (|checkpoint| checkpoint.revision -= 1, "it ends at revision 5 and says 4"),
    ];
    for (damage, expected) in cases {
        assert_eq!(fails_with(damage), format!("{prefix}{expected}"));
    }
    // The chain goes on from the checkpoint's hash.
    *store.damage_checkpoint.lock().unwrap() = None;
    drop(start(&store, no_effects()).unwrap());
}

#[tokio::test]
async fn checkpoints_are_written_while_commits_go_on() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let zone = platform.create("example.com").await;
    let contents = [b'a', b'b'].map(|mark| big_content("example.com", 500, 200, mark));
    let mut checkpoints = BTreeSet::new();
    let mut committed_since = 0;
    // Each is about 110 KiB of log, and a checkpoint is due every 32 MiB.
    for n in 0..2_000 {
        let content = contents[n % 2].clone();
        platform.submit(replace(&platform, zone, content)).await.unwrap();
        committed_since += 1;
        if let Some(checkpoint) = platform.store.checkpoint().unwrap()
            && checkpoints.insert(checkpoint.revision)
        {
            assert!(committed_since > 100, "not more often than is due");
            committed_since = 0;
        }
        if checkpoints.len() == 2 {
            break;
        }
    }
    assert_eq!(checkpoints.len(), 2, "two were written on the way");
    let before = platform.engine.state();
    let platform = platform.restart(dir.path(), false).await;
    assert_eq!(held(&platform.engine.state()), held(&before));
    // Of those before it nothing is left.
    let last = platform.store.checkpoint().unwrap().unwrap();
    assert_eq!(last.revision, before.revision());
    assert_eq!(platform.store.chunks(), last.chunks.len() as u64);
}

#[tokio::test]
async fn the_time_on_the_log_never_runs_backwards() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let submit_at = |time_ms: u64, zone: &str| {
        let context = Context { time_ms, ..crate::clock::context(platform.tenant, None) };
        platform.engine.submit(Command { context, action: create_zone(zone) })
    };
    let late = platform.engine.state().time_ms() + 1_000_000;
    submit_at(late, "a.example").await.unwrap();
    let committed = submit_at(late - 500_000, "b.example").await.unwrap();
    assert_eq!(committed.state.time_ms(), late);
    assert_eq!(committed.state.zone(zone_of(&committed)).unwrap().created_at_ms, late);
}

// ------------------------------------------------------------------------------------------ repetitions

/// A request that named itself is told what came of it: in the same group, after a restart from the log, and after one
/// from a checkpoint.
#[tokio::test]
async fn a_repetition_is_told_what_came_of_the_first() {
    let dir = dir();
    let mut platform = Platform::new(dir.path(), no_effects()).await;
    let with_key = |platform: &Platform, fingerprint: u128| {
        let mut context = crate::clock::context(platform.tenant, None);
        let holder = KeyHolder::of(platform.tenant).unwrap();
        context.idempotency_key = Some(RequestKey { holder, text: "k".into(), fingerprint });
        let (engine, action) = (platform.engine.clone(), create_zone("once.example"));
        tokio::spawn(async move { engine.submit(Command { context, action }).await })
    };
    platform.store.hold_appends();
    let held = platform.engine.clone();
    let tenant = platform.tenant;
    let held = tokio::spawn(async move { submit(&held, tenant, create_zone("held.example")).await });
    tokio::task::yield_now().await;
    platform.store.wait_till_held();
    let [a, b, c] = [with_key(&platform, 1), with_key(&platform, 1), with_key(&platform, 2)];
    tokio::task::yield_now().await;
    platform.store.release_appends();
    held.await.unwrap().unwrap();
    let (a, b) = (a.await.unwrap().unwrap(), b.await.unwrap().unwrap());
    assert!(!a.is_repetition && b.is_repetition);
    assert_eq!((a.revision, a.subject), (b.revision, b.subject));
    let is_refused = |answer: Result<Committed, SubmitError>| matches!(answer, Err(SubmitError::Rejected(rejection)) if rejection.kind == RejectionKind::KeyReused);
    assert!(is_refused(c.await.unwrap()));
    for no_checkpoint in [true, false] {
        platform = platform.restart(dir.path(), no_checkpoint).await;
        let again = with_key(&platform, 1).await.unwrap().unwrap();
        assert_eq!((again.revision, again.subject, again.is_repetition), (a.revision, a.subject, true));
        assert!(is_refused(with_key(&platform, 2).await.unwrap()));
    }
}

/// What could not be appended did not happen, and its repetition is carried out.
#[tokio::test]
async fn a_request_that_failed_is_not_remembered() {
    let dir = dir();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let mut context = crate::clock::context(platform.tenant, None);
    let holder = KeyHolder::of(platform.tenant).unwrap();
    context.idempotency_key = Some(RequestKey { holder, text: "k".into(), fingerprint: 1 });
    let command = Command { context, action: create_zone("example.com") };
    platform.store.failing_appends.store(1, Ordering::Relaxed);
    assert!(matches!(platform.engine.submit(command.clone()).await, Err(SubmitError::Unavailable(_))));
    assert!(!platform.engine.submit(command.clone()).await.unwrap().is_repetition);
    assert!(platform.engine.submit(command).await.unwrap().is_repetition);
}
