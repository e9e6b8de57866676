//! The PoP stream: frames of both directions, and what a control plane does with any row of them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use herald::publisher::{Next, Session};
use herald_core::firewall::{FirewallCount, FirewallPart, Owner};
use herald_core::{Generation, Name, RrKey, Rrset, Rtype, ZoneId};
use herald_wire::stream::{
    AgentStatus, ApiListener, BUCKETS, FirewallFiles, GeoProblem, GeoStatus, Hello, Holding, InventoryZone,
    ModuleState, PROTOCOL, RefusalCause, Refused, ToHerald, ToPop, Welcome, ZoneBegin, ZoneDelta,
    ZoneGeneration, ZoneRrset, decode_frame, encode_frame,
};
use minicbor::{Decode, Encode};

use crate::control_plane::CONTROL_PLANE;

/// How often a session is polled for more after a frame, at most: far more than two small zones take.
const POLLS_MAX: usize = 64;

/// The first octet chooses the direction; the rest are frames.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    if choice & 1 == 0 { read::<ToHerald>(bytes) } else { read::<ToPop>(bytes) }
}

/// Reads frames as long as there are any. What is read can be written and is then read the same.
fn read<M>(mut bytes: &[u8])
where
    M: for<'b> Decode<'b, ()> + Encode<()> + PartialEq + Debug,
{
    while let Ok(Some((length, message))) = decode_frame::<M>(bytes) {
        assert!(length >= 4 && length <= bytes.len());
        // As long as some of it has yet to come, it is waited for.
        for part in [0, 3, 4, length / 2, length - 1] {
            let cut = &bytes[..part.min(length - 1)];
            assert!(
                matches!(decode_frame::<M>(cut), Ok(None)),
                "{part} octets of {length} are not waited for"
            );
        }
        let mut written = Vec::new();
        encode_frame(&message, &mut written);
        let (again_length, again) =
            decode_frame::<M>(&written).expect("what was written is read").expect("whole");
        assert_eq!((again_length, &again), (written.len(), &message));
        bytes = &bytes[length..];
    }
}

/// A session with the control plane. The first octet's lowest bit says whether a right hello comes first; then frames without
/// their lengths, each with an octet before it that says how much time passes.
pub(crate) fn run_session(data: &[u8]) {
    let Some((&choice, mut bytes)) = data.split_first() else { return };
    let control_plane = &*CONTROL_PLANE;
    let mut now = Duration::ZERO;
    let mut session = Session::new(Arc::clone(&control_plane.shared), "192.0.2.1:4000".into(), now);
    let mut out = Vec::new();
    if choice & 1 == 1 {
        let hello = hello(&control_plane.pop_secret, if choice & 2 == 2 { 1 } else { u64::MAX });
        if session.take(hello, now).is_err() || !drain(&mut session, now, &mut out) {
            return;
        }
    }
    while let Some((&wait, rest)) = bytes.split_first() {
        now += Duration::from_millis(u64::from(wait) * 50);
        let mut decoder = minicbor::Decoder::new(rest);
        let Ok(frame) = decoder.decode::<ToHerald>() else { return };
        bytes = &rest[decoder.position()..];
        if session.take(frame, now).is_err() || !drain(&mut session, now, &mut out) {
            return;
        }
    }
}

/// Takes what the session has to send; whether it goes on. All of it are frames, and it is not without end.
fn drain(session: &mut Session, now: Duration, out: &mut Vec<u8>) -> bool {
    for _ in 0..POLLS_MAX {
        out.clear();
        let next = session.poll(now, out);
        let mut bytes = out.as_slice();
        while !bytes.is_empty() {
            let (length, _) =
                decode_frame::<ToPop>(bytes).expect("a frame of the control plane").expect("a whole one");
            bytes = &bytes[length..];
        }
        match next {
            Ok(Next::More) => {}
            Ok(Next::At(_)) => return true,
            Err(_) => return false,
        }
    }
    panic!("the session has no end of frames to send");
}

fn hello(secret: &str, counter: u64) -> ToHerald {
    ToHerald::Hello(Hello {
        protocol: PROTOCOL,
        pop: "pop1".into(),
        secret: secret.into(),
        agent_version: "0.1.0".into(),
        newest: Generation { epoch: 1, counter: if counter == u64::MAX { 0 } else { counter } },
        bucket_digests: vec![0; BUCKETS * 16],
        geo: Some(GeoStatus::default()),
        firewall: Some(FirewallFiles::default()),
        verdicts: Some(Generation::default()),
        knows_private: Some(true),
        resolves: None,
        logs_queries: None,
    })
}

fn to_herald() -> Vec<ToHerald> {
    let generation = Generation { epoch: 1, counter: 7 };
    let zone = ZoneId(7 << 64 | 9);
    let known = InventoryZone {
        zone,
        generation,
        digest: u128::MAX / 3,
        name: Some(Name::parse("example.com.").expect("a name")),
        rrset_count: Some(3),
    };
    let refused = |cause| Refused { zone, generation, cause, reason: "words".into(), have: Some(generation) };
    vec![
        hello("secret", 3),
        ToHerald::Inventory { zones: vec![known], last: true },
        ToHerald::Inventory { zones: Vec::new(), last: true },
        ToHerald::Applied { zones: vec![ZoneGeneration { zone, generation }] },
        ToHerald::Refused(refused(RefusalCause::Gap)),
        ToHerald::Refused(refused(RefusalCause::Older)),
        ToHerald::BulkCredit { bytes: 70_000 },
        ToHerald::Status(AgentStatus {
            knot_version: "3.2.6".into(),
            addresses: Some(vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()]),
            knot_running: true,
            zones: 2,
            newest: generation,
            module: Some(ModuleState { connected: true, zones: 1, ..ModuleState::default() }),
            geo: Some(GeoStatus {
                hash: vec![7; 32],
                problem: Some(GeoProblem { hash: vec![8; 32], reason: "no room".into() }),
                ..GeoStatus::default()
            }),
            firewall: Some(FirewallFiles {
                rules: GeoStatus { hash: vec![7; 32], ..GeoStatus::default() },
                policies: GeoStatus::default(),
                counts: vec![FirewallCount {
                    owner: Some(Owner::Fleet),
                    name: "flood".into(),
                    action: String::new(),
                    queries: 70_000,
                }],
                rules_in_use: vec![7; 32],
                policies_in_use: Vec::new(),
            }),
        }),
        ToHerald::GeoWant { hash: vec![7; 32], from: 1, to: 70_000, part: None },
        ToHerald::GeoWant { hash: vec![7; 32], from: 1, to: 70_000, part: Some(FirewallPart::Rules) },
        ToHerald::Drifted { bucket_digests: vec![1; BUCKETS * 16] },
    ]
}

fn to_pop() -> Vec<ToPop> {
    let generation = Generation { epoch: 1, counter: 7 };
    let (zone, name) = (ZoneId(7 << 64 | 9), Name::parse("example.com.").expect("a name"));
    let key = RrKey::new(name.clone(), Rtype::A);
    let rrset = ZoneRrset {
        key: key.clone(),
        rrset: Rrset { ttl: 60, rdatas: [vec![192, 0, 2, 1]].into_iter().collect() },
    };
    vec![
        ToPop::Welcome(Welcome {
            protocol: PROTOCOL,
            herald_version: "0.1.0".into(),
            head: generation,
            buckets: vec![0, 255],
            api: Some(ApiListener { port: 8053, tls: true }),
        }),
        ToPop::Reject { reason: "words".into() },
        ToPop::Delta(ZoneDelta {
            zone,
            base: Generation::default(),
            generation,
            digest: 5,
            puts: vec![rrset.clone()],
            deletes: vec![key],
        }),
        ToPop::ZoneBegin(ZoneBegin {
            zone,
            name,
            generation,
            digest: 5,
            rrset_count: 1,
            private: Some(true),
        }),
        ToPop::ZonePart { zone, rrsets: vec![rrset] },
        ToPop::ZoneEnd { zone },
        ToPop::Remove { zone, generation },
        ToPop::Ping { head: generation, in_sync: true, holding: Some(Holding { zones: 2, digest: 5 }) },
        ToPop::Compare { buckets: vec![9] },
        ToPop::GeoOffer { hash: vec![7; 32], bytes: 70_000, part: None },
        ToPop::GeoPart {
            hash: vec![7; 32],
            from: 5,
            bytes: vec![1, 2, 3],
            part: Some(FirewallPart::Policies),
        },
    ]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    fn frames<M: Encode<()>>(choice: u8, messages: &[M]) -> Vec<Vec<u8>> {
        let framed = |message: &M| {
            let mut bytes = vec![choice];
            encode_frame(message, &mut bytes);
            bytes
        };
        messages.iter().map(framed).collect()
    }
    [frames(0, &to_herald()), frames(1, &to_pop())].concat()
}

/// A session alone from each message, and one with all of them.
pub(crate) fn session_seeds() -> Vec<Vec<u8>> {
    let encoded = |message: &ToHerald| {
        let mut bytes = vec![4];
        minicbor::encode(message, &mut bytes).expect("a Vec takes it");
        bytes
    };
    let frames: Vec<Vec<u8>> = to_herald().iter().map(encoded).collect();
    // After the hello the inventory, then everything else.
    let all = [&[1_u8][..], &frames[2], &frames[1..].concat()].concat();
    let single = frames.iter().flat_map(|frame| {
        let empty = &frames[2];
        [[&[0][..], frame].concat(), [&[1][..], frame].concat(), [&[3][..], empty, frame].concat()]
    });
    single.chain([all]).collect()
}
