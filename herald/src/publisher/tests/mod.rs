//! Sessions with a PoP over a real connection.

mod brake;
mod converge;
mod monitors;
mod pop;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use herald_core::command::{Action, EditOp, RrsetEdit};
use herald_core::decide::Subject;
use herald_core::{Generation, Rdatas, RrKey, Rtype};
use herald_wire::stream::{
    AgentStatus, BULK_WINDOW_BYTES, RefusalCause, Refused, ToHerald, ToPop, encode_frame,
};
use sha2::{Digest, Sha256};

use super::*;
use crate::engine::testing::*;
use pop::{Connection, Replica, TestPop, refuse, wanted};

const SECRET: &str = "swordfish";

/// A platform whose publisher listens.
struct Fleet {
    platform: Platform,
    publisher: Publisher,
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Fleet {
    /// With these PoPs, all of the same credential.
    async fn new(pops: &[&str]) -> Fleet {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::default());
        let platform = Platform::new(dir.path(), shared.on_commit()).await;
        let publisher = Publisher::new(platform.engine.clone(), shared);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(publisher.clone().serve(listener, None, shutdown.clone()));
        for pop in pops {
            let secret_hash = Sha256::digest(SECRET).into();
            platform.operate(Action::CreatePop { name: (*pop).into(), secret_hash, region: None }).await;
        }
        Fleet { platform, publisher, address, shutdown, serving, _dir: dir }
    }

    fn state(&self) -> Arc<State> {
        self.platform.engine.state()
    }

    async fn connect(&self, pop: &str) -> TestPop {
        self.connect_with(pop, Replica::default()).await
    }

    async fn connect_with(&self, pop: &str, replica: Replica) -> TestPop {
        TestPop::connect(self.address, pop, SECRET, replica).await
    }

    async fn second_tenant(&self) -> Principal {
        let tenant = self.platform.operate(Action::CreateTenant { name: "other".into() }).await;
        let Some(Subject::Tenant(tenant)) = tenant.subject else { panic!("no tenant") };
        let token = Action::CreateToken {
            tenant: Some(tenant),
            description: String::new(),
            scope: Default::default(),
            expires_at_ms: None,
            secret_hash: [3; 32],
        };
        let token = self.platform.operate(token).await;
        let Some(Subject::Token(token)) = token.subject else { panic!("no token") };
        Principal::Tenant { tenant, token }
    }

    fn pop(&self, name: &str) -> PopId {
        self.state().pops().find(|pop| pop.name == name).unwrap().id
    }

    /// Makes a zone of about so many bytes.
    async fn create_large(&self, zone: &str, bytes: usize) -> ZoneId {
        let id = self.platform.create(zone).await;
        const RRSET_BYTES: usize = 16 * 1024;
        for chunk in (0..bytes / RRSET_BYTES).collect::<Vec<_>>().chunks(64) {
            let edits = chunk.iter().map(|n| put_txt(&format!("h{n}.{zone}"), RRSET_BYTES, 0)).collect();
            self.platform.submit(edit(id, edits)).await.unwrap();
        }
        id
    }

    /// Waits till a change is in sync everywhere.
    async fn wait(&self, revision: u64) -> bool {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        self.publisher.wait(revision, Wait::All, deadline).await
    }
}

/// An RRset of about so many bytes.
fn put_txt(owner: &str, bytes: usize, mark: u8) -> RrsetEdit {
    let rdata = |n: usize| {
        let mut rdata = vec![mark; 256];
        rdata[0] = 255;
        rdata[1..5].copy_from_slice(&u32::try_from(n).unwrap().to_be_bytes());
        rdata
    };
    let rdatas: Rdatas = (0..(bytes / 256).max(1)).map(rdata).collect();
    RrsetEdit {
        key: RrKey::new(name(owner), Rtype::TXT),
        if_match: None,
        op: EditOp::Put { ttl: 60, rdatas },
    }
}

/// What kind of frame it is and of which zone.
fn shown(frame: &ToPop) -> (&'static str, Option<ZoneId>) {
    match frame {
        ToPop::Delta(delta) => ("delta", Some(delta.zone)),
        ToPop::ZoneBegin(begin) => ("begin", Some(begin.zone)),
        ToPop::ZonePart { zone, .. } => ("part", Some(*zone)),
        ToPop::ZoneEnd { zone } => ("end", Some(*zone)),
        ToPop::Remove { zone, .. } => ("remove", Some(*zone)),
        _ => ("other", None),
    }
}

// ----------------------------------------------------------------------------------------------- hellos

#[tokio::test]
async fn who_is_not_let_in() {
    let fleet = Fleet::new(&["fra1", "off1"]).await;
    let off = fleet.pop("off1");
    fleet
        .platform
        .operate(Action::UpdatePop { pop: off, enabled: Some(false), drained: None, region: None })
        .await;
    let head = fleet.state().head();
    let refused = async |change: &dyn Fn(&mut herald_wire::stream::Hello)| {
        let mut hello = Replica::default().hello("fra1", SECRET);
        change(&mut hello);
        let mut connection = Connection::open(fleet.address).await;
        let answer = connection.greet(hello).await;
        // The connection is closed after a refusal.
        if answer.is_err() {
            assert!(connection.next().await.is_none());
        }
        answer.err()
    };
    let wrong = refused(&|hello| hello.secret = "wrong".into()).await.unwrap();
    assert_eq!(wrong, "the PoP's name or credential is wrong");
    assert_eq!(refused(&|hello| hello.pop = "nowhere".into()).await.unwrap(), wrong);
    assert_eq!(refused(&|hello| hello.secret = String::new()).await.unwrap(), wrong);
    // That it is disabled is said to nobody but itself.
    assert_eq!(refused(&|hello| hello.pop = "off1".into()).await.unwrap(), "the PoP is disabled");
    let off_wrong = refused(&|hello| (hello.pop, hello.secret) = ("off1".into(), "x".into())).await;
    assert_eq!(off_wrong.unwrap(), wrong);

    let newer = Generation { epoch: head.epoch + 1, counter: 0 };
    let old_backup = refused(&|hello| hello.newest = newer).await.unwrap();
    assert!(old_backup.contains("old backup"), "{old_backup}");
    let ahead = Generation { counter: head.counter + 1, ..head };
    assert!(refused(&|hello| hello.newest = ahead).await.is_some());
    assert_eq!(refused(&|hello| hello.newest = head).await, None);
    let other = refused(&|hello| hello.protocol = 2).await.unwrap();
    assert!(other.contains("speaks protocol 1, not 2"), "{other}");
}

#[tokio::test]
async fn what_is_no_hello_ends_the_session() {
    let fleet = Fleet::new(&["fra1"]).await;
    let inventory = ToHerald::Inventory { zones: Vec::new(), last: true };
    let mut connection = Connection::open(fleet.address).await;
    connection.send(&inventory).await.unwrap();
    assert!(connection.next().await.is_none());

    // A stranger can't make us hold a lot.
    let mut connection = Connection::open(fleet.address).await;
    let mut bytes = (3_u32 << 20).to_be_bytes().to_vec();
    bytes.resize(40 * 1024, 0);
    _ = connection.send_bytes(&bytes).await;
    assert!(connection.next().await.is_none());

    let mut connection = Connection::open(fleet.address).await;
    _ = connection.send_bytes(&[0xff; 16]).await;
    assert!(connection.next().await.is_none());

    // Nor is what comes out of turn taken from one that is known.
    for wrong in [ToHerald::Hello(Replica::default().hello("fra1", SECRET)), inventory] {
        let mut pop = fleet.connect("fra1").await;
        pop.reach(&fleet.state()).await;
        pop.reach_in_sync().await;
        pop.connection.send(&wrong).await.unwrap();
        assert!(pop.step().await.is_none());
    }
}

#[tokio::test]
async fn a_second_session_takes_the_place_of_the_first() {
    let fleet = Fleet::new(&["fra1"]).await;
    let zone = fleet.platform.create("example.com").await;
    let mut first = fleet.connect("fra1").await;
    first.reach(&fleet.state()).await;
    let mut second = fleet.connect_with("fra1", first.replica.clone()).await;
    assert!(first.step().await.is_none());
    let committed = fleet.platform.submit(put_a(zone, "www.example.com", [192, 0, 2, 1])).await.unwrap();
    second.reach(&committed.state).await;
    assert!(fleet.wait(committed.revision).await);
    assert!(fleet.publisher.pop_view(fleet.pop("fra1")).connected);
}

/// One that said hello and then nothing knows nothing any more when another has come.
#[tokio::test]
async fn a_session_that_is_replaced_before_its_inventory_has_no_say() {
    let fleet = Fleet::new(&["fra1"]).await;
    fleet.platform.create("example.com").await;
    let mut first = Connection::open(fleet.address).await;
    let welcome = first.greet(Replica::default().hello("fra1", SECRET)).await.unwrap();
    assert_eq!(welcome.buckets.len(), 1);
    let mut second = fleet.connect("fra1").await;
    second.reach(&fleet.state()).await;
    second.reach_in_sync().await;
    assert!(first.next().await.is_none());
}

#[tokio::test]
async fn a_pop_that_is_disabled_is_cut_off() {
    let fleet = Fleet::new(&["fra1"]).await;
    let mut pop = fleet.connect("fra1").await;
    let id = fleet.pop("fra1");
    fleet
        .platform
        .operate(Action::UpdatePop { pop: id, enabled: Some(false), drained: None, region: None })
        .await;
    assert!(pop.step().await.is_none());
}

#[tokio::test]
async fn a_shutdown_waits_for_nobody() {
    let fleet = Fleet::new(&["fra1"]).await;
    fleet.platform.create("example.com").await;
    let mut up = fleet.connect("fra1").await;
    up.reach(&fleet.state()).await;
    // One that says nothing, and one that owes its inventory.
    let mut silent = Connection::open(fleet.address).await;
    let mut slow = Connection::open(fleet.address).await;
    slow.greet(Replica::default().hello("fra1", SECRET)).await.unwrap();
    fleet.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), fleet.serving).await.expect("at once").unwrap();
    for connection in [&mut silent, &mut slow, &mut up.connection] {
        // But for what was on its way all is over.
        while connection.next().await.is_some() {}
    }
}

// ----------------------------------------------------------------------------------------------- deltas

#[tokio::test]
async fn changes_come_as_deltas_in_order() {
    let fleet = Fleet::new(&["fra1", "nyc1"]).await;
    let zone = fleet.platform.create("example.com").await;
    let mut pops = [fleet.connect("fra1").await, fleet.connect("nyc1").await];
    for pop in &mut pops {
        pop.reach(&fleet.state()).await;
    }
    for n in 1..=50 {
        let owner = format!("h{}.example.com", n % 5);
        let committed = fleet.platform.submit(put_a(zone, &owner, [192, 0, 2, n])).await.unwrap();
        for pop in &mut pops {
            // The model checks base, digest and generation.
            let frame = pop.step().await.unwrap();
            assert_eq!(shown(&frame), ("delta", Some(zone)));
            assert_eq!(pop.replica.zones, wanted(&committed.state));
        }
        assert!(fleet.wait(committed.revision).await);
        let receipt = fleet.publisher.receipt(committed.revision).await.unwrap();
        assert!(receipt.pops.iter().all(|pop| pop.state == PopSyncState::InSync && pop.in_sync_ms.is_some()));
    }
    for (pop, name) in pops.iter_mut().zip(["fra1", "nyc1"]) {
        pop.reach_in_sync().await;
        let view = fleet.publisher.pop_view(fleet.pop(name));
        assert_eq!((view.connected, view.zones_pending, view.zones_in_sync), (true, 0, 1));
    }
    let mut metrics = String::new();
    fleet.publisher.metrics(&mut metrics);
    assert!(metrics.contains("herald_pop_sessions 2"), "{metrics}");
    assert!(metrics.contains("herald_pop_deltas_total 100"), "{metrics}");
    assert!(metrics.contains("herald_pop_zones_pending{pop=\"fra1\"} 0"), "{metrics}");
}

#[tokio::test]
async fn a_slow_pop_is_sent_less_often_and_more_at_once() {
    let fleet = Fleet::new(&["slow", "quick"]).await;
    let zone = fleet.platform.create("example.com").await;
    let mut quick = fleet.connect("quick").await;
    let narrow = Connection::open_narrow(fleet.address).await;
    let mut slow = TestPop::begin(narrow, "slow", SECRET, Replica::default()).await;
    for pop in [&mut slow, &mut quick] {
        pop.reach(&fleet.state()).await;
    }
    let (mut frames, mut revision) = (0, 0);
    for n in 0..300_u16 {
        let edits = vec![put_txt("big.example.com", 16 * 1024, u8::try_from(n % 251).unwrap())];
        revision = fleet.platform.submit(edit(zone, edits)).await.unwrap().revision;
        // The slow one reads nothing, and that holds up nobody else.
        quick.reach(&fleet.state()).await;
    }
    while slow.replica.zones != wanted(&fleet.state()) {
        slow.step().await.unwrap();
        frames += 1;
    }
    assert!(frames < 200, "{frames} frames for 300 changes");
    assert!(fleet.wait(revision).await);
}

#[tokio::test]
async fn a_zone_that_came_and_went_while_a_pop_was_slow_is_in_sync() {
    let fleet = Fleet::new(&["slow"]).await;
    let narrow = Connection::open_narrow(fleet.address).await;
    let mut slow = TestPop::begin(narrow, "slow", SECRET, Replica::default()).await;
    // More than fits between the two, so that the session looks at nothing new.
    fleet.create_large("large.example", 4 << 20).await;
    let brief = fleet.platform.create("brief.example").await;
    let deleted = fleet.platform.submit(delete_zone(brief)).await.unwrap();
    slow.reach(&deleted.state).await;
    for revision in 1..=deleted.revision {
        assert!(fleet.wait(revision).await);
    }
    slow.reach_in_sync().await;
}

#[tokio::test]
async fn a_gap_is_answered_with_the_whole_zone() {
    let fleet = Fleet::new(&["fra1"]).await;
    let zone = fleet.platform.create("example.com").await;
    let other = fleet.platform.create("example.net").await;
    let mut pop = fleet.connect("fra1").await;
    pop.reach(&fleet.state()).await;
    // It loses a zone behind its own back.
    pop.replica.zones.remove(&zone);
    pop.replica.lost.insert(zone);
    fleet.platform.submit(put_a(zone, "www.example.com", [192, 0, 2, 1])).await.unwrap();
    let committed = fleet.platform.submit(put_a(other, "www.example.net", [192, 0, 2, 1])).await.unwrap();
    pop.reach(&committed.state).await;
    pop.reach_in_sync().await;
    assert!(fleet.wait(committed.revision).await);

    // What isn't served any more is removed and not sent.
    fleet.platform.submit(delete_zone(other)).await.unwrap();
    pop.reach(&fleet.state()).await;
    pop.connection.send(&refuse(other, committed.state.head())).await.unwrap();
    pop.connection.send(&refuse(ZoneId(1), committed.state.head())).await.unwrap();
    pop.reach_in_sync().await;
}

#[tokio::test]
async fn a_change_too_long_for_a_delta_comes_as_a_whole_zone() {
    let fleet = Fleet::new(&["fra1"]).await;
    let zone = fleet.create_large("example.com", 1 << 20).await;
    let mut pop = fleet.connect("fra1").await;
    pop.reach(&fleet.state()).await;
    let edits = (0..32).map(|n| put_txt(&format!("h{n}.example.com"), 16 * 1024, 1)).collect();
    let committed = fleet.platform.submit(edit(zone, edits)).await.unwrap();
    assert_eq!(shown(&pop.step().await.unwrap()), ("begin", Some(zone)));
    pop.reach(&committed.state).await;
    assert!(fleet.wait(committed.revision).await);
}

// ------------------------------------------------------------------------------------------------- bulk

#[tokio::test]
async fn bulk_is_bounded_by_credit_and_deltas_pass_it() {
    let fleet = Fleet::new(&["fra1"]).await;
    let small = fleet.platform.create("small.example").await;
    let mut pop = fleet.connect("fra1").await;
    pop.reach(&fleet.state()).await;
    // It gives no credit for a zone of more than the window has.
    pop.gives_credit = false;
    pop.credit().await;
    let large = fleet.create_large("large.example", 12 << 20).await;
    while pop.uncredited < BULK_WINDOW_BYTES {
        pop.step().await.unwrap();
    }
    // A delta comes through, and but for what was sent at once no more of the bulk.
    let committed = fleet.platform.submit(put_a(small, "www.small.example", [192, 0, 2, 1])).await.unwrap();
    while shown(&pop.step().await.unwrap()) != ("delta", Some(small)) {}
    assert!(pop.uncredited < BULK_WINDOW_BYTES + 256 * 1024, "{} bytes in flight", pop.uncredited);
    assert!(fleet.wait(committed.revision).await);
    let is_complete = pop.replica.zones[&large].generation == fleet.platform.zone(large).generation;
    assert!(!is_complete, "what is left waits for credit");
    // As much credit, as much more.
    pop.gives_credit = true;
    pop.credit().await;
    pop.reach(&fleet.state()).await;
    pop.reach_in_sync().await;
}

#[tokio::test]
async fn a_delta_waits_behind_little_of_a_large_zone() {
    let fleet = Fleet::new(&["fra1"]).await;
    let small = fleet.platform.create("small.example").await;
    let replica = {
        let mut pop = fleet.connect("fra1").await;
        pop.reach(&fleet.state()).await;
        pop.replica
    };
    let large = fleet.create_large("large.example", 8 << 20).await;
    let narrow = Connection::open_narrow(fleet.address).await;
    let mut pop = TestPop::begin(narrow, "fra1", SECRET, replica).await;
    // Credit is given at once, so that bulk never stops by itself.
    for n in 1..=5 {
        while shown(&pop.step().await.unwrap()) != ("part", Some(large)) {}
        fleet.platform.submit(put_a(small, "www.small.example", [192, 0, 2, n])).await.unwrap();
        let mut parts = 0;
        while shown(&pop.step().await.unwrap()) != ("delta", Some(small)) {
            parts += 1;
        }
        // A part has 32 KiB.
        assert!(parts < 32, "{parts} parts before the delta");
    }
    pop.reach(&fleet.state()).await;
}

#[tokio::test]
async fn a_small_zone_passes_a_large_one() {
    let fleet = Fleet::new(&["fra1"]).await;
    let large = fleet.create_large("large.example", 2 << 20).await;
    let larger = fleet.create_large("larger.example", 3 << 20).await;
    let small = fleet.platform.create("small.example").await;
    let mut pop = fleet.connect("fra1").await;
    let mut ends = Vec::new();
    while ends.len() < 3 {
        if let ("end", Some(zone)) = shown(&pop.step().await.unwrap()) {
            ends.push(zone);
        }
    }
    assert_eq!(ends, [small, large, larger]);
}

#[tokio::test]
async fn a_zone_that_changes_on_its_way_is_brought_up_to_date_after() {
    let fleet = Fleet::new(&["fra1"]).await;
    let zone = fleet.create_large("large.example", 12 << 20).await;
    let mut pop = fleet.connect("fra1").await;
    pop.gives_credit = false;
    while pop.uncredited < BULK_WINDOW_BYTES {
        pop.step().await.unwrap();
    }
    let sent = fleet.state().zone(zone).unwrap().generation;
    fleet.platform.submit(put_a(zone, "a.large.example", [192, 0, 2, 1])).await.unwrap();
    let committed = fleet.platform.submit(put_a(zone, "h1.large.example", [192, 0, 2, 1])).await.unwrap();
    assert!(!fleet.publisher.wait(committed.revision, Wait::All, tokio::time::Instant::now()).await);
    pop.gives_credit = true;
    pop.credit().await;
    while shown(&pop.step().await.unwrap()) != ("end", Some(zone)) {}
    assert_eq!(pop.replica.zones[&zone].generation, sent);
    let ToPop::Delta(delta) = pop.step().await.unwrap() else { panic!("no delta") };
    assert_eq!((delta.base, delta.generation), (sent, committed.state.head()));
    assert_eq!(delta.puts.len(), 3, "two RRsets and the SOA");
    assert!(fleet.wait(committed.revision).await);
    pop.reach_in_sync().await;
}

#[tokio::test]
async fn a_zone_that_is_deleted_on_its_way_is_removed() {
    let fleet = Fleet::new(&["fra1"]).await;
    let zone = fleet.create_large("large.example", 12 << 20).await;
    let mut pop = fleet.connect("fra1").await;
    pop.gives_credit = false;
    while pop.uncredited < BULK_WINDOW_BYTES {
        pop.step().await.unwrap();
    }
    let committed = fleet.platform.submit(delete_zone(zone)).await.unwrap();
    while shown(&pop.step().await.unwrap()) != ("remove", Some(zone)) {}
    assert!(fleet.wait(committed.revision).await);
    pop.reach_in_sync().await;
    assert!(pop.replica.zones.is_empty());
}

// ----------------------------------------------------------------------------------- removal, replacement

#[tokio::test]
async fn a_zone_that_takes_a_name_over_replaces_the_other_in_one_step() {
    let fleet = Fleet::new(&["fra1"]).await;
    let old = fleet.platform.create("example.com").await;
    let kept = fleet.platform.create("example.net").await;
    let mut pop = fleet.connect("fra1").await;
    pop.reach(&fleet.state()).await;

    // A pending zone of the same name, which an operator lets in: one change displaces the one and serves the other.
    let other = fleet.second_tenant().await;
    let new = zone_of(&submit(&fleet.platform.engine, other, create_zone("example.com")).await.unwrap());
    assert!(!fleet.platform.zone(new).is_served());

    let activate = |zone| Action::ActivateZone {
        zone: herald_core::command::ZoneRef::Id(zone),
        by: herald_core::change::Evidence::Operator,
    };
    for (to, from) in [(new, old), (old, new)] {
        let committed = fleet.platform.operate(activate(to)).await;
        let mut frames = Vec::new();
        while frames.last() != Some(&("remove", Some(from))) {
            frames.push(shown(&pop.step().await.unwrap()));
        }
        let expected = ["begin", "part", "part", "end"].map(|frame| (frame, Some(to)));
        assert_eq!(frames[..4], expected, "the name is served all the while");
        assert_eq!(frames[4..], [("remove", Some(from))]);
        assert_eq!(pop.replica.zones, wanted(&committed.state));
        assert!(fleet.wait(committed.revision).await);
    }

    let committed = fleet.platform.submit(delete_zone(kept)).await.unwrap();
    assert_eq!(shown(&pop.step().await.unwrap()), ("remove", Some(kept)));
    assert!(fleet.wait(committed.revision).await);
    pop.reach_in_sync().await;
}

// -------------------------------------------------------------------------------------------- reconnects

#[tokio::test]
async fn a_pop_that_does_not_say_what_it_holds_is_cut_off() {
    let fleet = Fleet::new(&["fra1"]).await;
    let mut now = Duration::from_secs(1000);
    let mut session = Session::new(Arc::clone(&fleet.publisher.shared), "nowhere".into(), now);
    let poll = |session: &mut Session, now| {
        let mut bytes = Vec::new();
        while session.poll(now, &mut bytes)? == Next::More {
            bytes.clear();
        }
        Ok::<(), SessionError>(())
    };
    session.take(ToHerald::Hello(Replica::default().hello("fra1", SECRET)), now).unwrap();
    poll(&mut session, now).unwrap();
    let drifted = || ToHerald::Drifted { bucket_digests: vec![1; 4096] };
    let nothing = |last| ToHerald::Inventory { zones: Vec::new(), last };

    // It says in time.
    session.take(drifted(), now).unwrap();
    poll(&mut session, now).unwrap();
    for last in [false, true] {
        for _ in 0..3 {
            now += Duration::from_secs(9);
            session.take(ToHerald::BulkCredit { bytes: 0 }, now).unwrap();
            poll(&mut session, now).unwrap();
        }
        session.take(nothing(last), now).unwrap();
    }
    // And then it doesn't.
    session.take(drifted(), now).unwrap();
    poll(&mut session, now).unwrap();
    for _ in 0..3 {
        now += Duration::from_secs(9);
        session.take(ToHerald::BulkCredit { bytes: 0 }, now).unwrap();
        poll(&mut session, now).unwrap();
    }
    now += Duration::from_secs(3);
    let ended = poll(&mut session, now);
    assert!(matches!(ended, Err(SessionError::NoInventory(30))), "{ended:?}");
}

#[tokio::test]
async fn after_a_reconnect_only_what_differs_is_sent() {
    let fleet = Fleet::new(&["fra1"]).await;
    let mut zones = Vec::new();
    for n in 0..20 {
        zones.push(fleet.platform.create(&format!("z{n}.example")).await);
    }
    let mut pop = fleet.connect("fra1").await;
    pop.reach(&fleet.state()).await;
    assert!(fleet.wait(fleet.state().revision()).await);
    let replica = pop.replica.clone();
    drop(pop);

    // With nothing missing there is nothing to say.
    let mut pop = fleet.connect_with("fra1", replica.clone()).await;
    assert_eq!(pop.welcome.buckets, Vec::<u16>::new());
    pop.reach_in_sync().await;
    drop(pop);

    let changed = fleet.platform.submit(put_a(zones[3], "www.z3.example", [192, 0, 2, 1])).await.unwrap();
    let deleted = fleet.platform.submit(delete_zone(zones[4])).await.unwrap();
    let made = fleet.platform.create("new.example").await;
    let mut pop = fleet.connect_with("fra1", replica).await;
    assert!((1..=3).contains(&pop.welcome.buckets.len()));
    let mut touched = Vec::new();
    while pop.replica.zones != wanted(&fleet.state()) {
        touched.extend(shown(&pop.step().await.unwrap()).1);
    }
    touched.sort_unstable();
    touched.dedup();
    let mut expected = vec![zones[3], zones[4], made];
    expected.sort_unstable();
    assert_eq!(touched, expected);
    assert!(fleet.wait(changed.revision).await && fleet.wait(deleted.revision).await);
    pop.reach_in_sync().await;

    // One that is damaged has another digest: it is sent again.
    let mut replica = pop.replica.clone();
    drop(pop);
    let held = replica.zones.get_mut(&zones[7]).unwrap();
    let key = held.content.iter().next().unwrap().0.clone();
    held.content.delete(&key);
    let mut pop = fleet.connect_with("fra1", replica).await;
    pop.reach(&fleet.state()).await;
    pop.reach_in_sync().await;
}

/// Deleted just before the control plane was started anew: the receipt, read from the log, waits for the removal.
#[tokio::test]
async fn a_deletion_of_before_a_restart_is_in_sync_when_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::new(dir.path(), no_effects()).await;
    let secret_hash = Sha256::digest(SECRET).into();
    platform.operate(Action::CreatePop { name: "fra1".into(), secret_hash, region: None }).await;
    let zone = platform.create("example.com").await;
    let replica = Replica {
        zones: wanted(&platform.engine.state()),
        newest: platform.engine.state().head(),
        ..Replica::default()
    };
    let deleted = platform.submit(delete_zone(zone)).await.unwrap().revision;
    let store = platform.stop().await;

    let shared = Arc::new(Shared::default());
    let (engine, _writer) = start(&store, shared.on_commit()).unwrap();
    let publisher = Publisher::new(engine, shared);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(publisher.clone().serve(listener, None, CancellationToken::new()));
    let stands = async || publisher.receipt(deleted).await.unwrap().pops[0].state;
    assert_eq!(stands().await, PopSyncState::Pending);
    let mut pop = TestPop::connect(address, "fra1", SECRET, replica).await;
    let ToPop::Remove { zone: removed, .. } = pop.connection.next().await.unwrap().1 else {
        panic!("no removal")
    };
    assert_eq!((removed, stands().await), (zone, PopSyncState::Pending));
    let generation = pop.welcome.head;
    let zones = vec![herald_wire::stream::ZoneGeneration { zone, generation }];
    pop.connection.send(&ToHerald::Applied { zones }).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    assert!(publisher.wait(deleted, Wait::All, deadline).await);
    assert!(publisher.receipt(u64::MAX).await.is_none());
    assert!(publisher.receipt(0).await.is_none());
}

// ------------------------------------------------------------------------------------- what a PoP tells

fn status(newest: Generation) -> AgentStatus {
    AgentStatus {
        knot_version: "3.2.6".into(),
        knot_running: true,
        zones: 1,
        newest,
        module: None,
        geo: None,
        firewall: None,
        addresses: None,
    }
}

#[tokio::test]
async fn what_a_pop_could_not_apply_is_shown_till_it_has() {
    let fleet = Fleet::new(&["fra1"]).await;
    let zone = fleet.platform.create("example.com").await;
    let id = fleet.pop("fra1");
    let mut pop = fleet.connect("fra1").await;
    pop.reach(&fleet.state()).await;
    let generation = fleet.state().zone(zone).unwrap().generation;
    // Even before it has said how it is.
    let reason = "knotd says no".to_owned();
    let refused = Refused { zone, generation, cause: RefusalCause::Knot, reason, have: None };
    pop.connection.send(&ToHerald::Refused(refused)).await.unwrap();
    let status = status(generation);
    pop.connection.send(&ToHerald::Status(status.clone())).await.unwrap();
    let mut told = until(|| fleet.publisher.pop_view(id).status).await;
    assert_eq!((told.knot_version.as_str(), told.agent_version.as_str()), ("3.2.6", "test"));
    assert_eq!(told.refused.pop().map(|refusal| refusal.reason).as_deref(), Some("knotd says no"));

    let committed = fleet.platform.submit(put_a(zone, "www.example.com", [192, 0, 2, 1])).await.unwrap();
    pop.reach(&committed.state).await;
    assert!(fleet.wait(committed.revision).await);
    until(|| fleet.publisher.pop_view(id).status.filter(|status| status.refused.is_empty())).await;
}

/// What this gives, as soon as it does.
async fn until<T>(get: impl Fn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(got) = get() {
            return got;
        }
        assert!(tokio::time::Instant::now() < deadline, "in time");
        tokio::task::yield_now().await;
    }
}

#[test]
fn frames_of_the_largest_messages_are_within_the_limit() {
    // An RRset of 64 KiB with the longest owner, as a part and as a delta that is just not too long.
    let edit = put_txt("x.example", 65_000, 0);
    let EditOp::Put { ttl, rdatas } = edit.op else { unreachable!() };
    let rrset = herald_wire::stream::ZoneRrset { key: edit.key, rrset: herald_core::Rrset { ttl, rdatas } };
    let mut bytes = Vec::new();
    encode_frame(&ToPop::ZonePart { zone: ZoneId(1), rrsets: vec![rrset; 2] }, &mut bytes);
    assert!(bytes.len() < 256 * 1024);
}
