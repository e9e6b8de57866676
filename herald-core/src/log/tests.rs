use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use super::*;
use crate::account::*;
use crate::alias::served::{Regional, Served};
use crate::brakes::Brakes;
use crate::change::{Bulk, Evidence, content_chunks};
use crate::channel::{Channel, Receiver};
use crate::content::{Content, Difference};
use crate::decide::Subject;
use crate::firewall::{self, Owner, PolicyZone, QueryType, Rate};
use crate::geoip::{Geoip, GeoipDatabase};
use crate::idempotency::{KeyHolder, Request, RequestKey};
use crate::limits::{Limit, TenantLimits};
use crate::monitor::{Check, HttpCheck, Monitor, Pace, ProbeRules, TlsCheck, Verdict, VerdictChange};
use crate::query_log::QueryLog;
use crate::state::At;
use crate::steering::{
    AnswerMode, City, Endpoint, EndpointRecords, EndpointState, Item, Location, OVERLAY, Overlay, Policy,
    Pool, Rule, STEERABLE, Settings, Sticky, Subdivision, View, When, policy_key, pool_key, settings_key,
    view_key,
};
use crate::zone::{SoaFields, Zone, ZoneStatus};
use crate::{ChannelId, MonitorId, Name, NsSetId, PopId, RrKey, Rrset, Rtype, TenantId, TokenId, ZoneId};

// -------------------------------------------------------------------------------------------- the chain

fn context(principal: Principal) -> Context {
    Context {
        principal,
        time_ms: 1_800_000_000_000,
        entropy: [0; 32],
        message: Some("why".into()),
        idempotency_key: None,
        confirmed: false,
    }
}

fn at(revision: u64) -> At {
    At { generation: Generation { epoch: 3, counter: revision }, time_ms: 1_800_000_000_000 + revision }
}

/// Three entries in a row.
fn chain() -> Vec<Sealed> {
    let mut previous = GENESIS;
    let seal_next = |revision: u64| {
        let payload = encode_inline(&[Change::EpochBegan { epoch: revision }]);
        let sealed = seal(&context(Principal::System), at(revision), previous, payload);
        previous = sealed.hash;
        sealed
    };
    (1..=3).map(seal_next).collect()
}

/// Opens entries as revisions 1, 2, … of a log.
fn verify<'a>(entries: impl IntoIterator<Item = &'a Sealed>) -> Result<Vec<Envelope>, LogError> {
    let mut previous = GENESIS;
    let mut envelopes = Vec::new();
    for (revision, entry) in (1..).zip(entries) {
        let (envelope, hash) = open(revision, &previous, &entry.envelope, &entry.payload)?;
        assert_eq!(hash, entry.hash);
        previous = hash;
        envelopes.push(envelope);
    }
    Ok(envelopes)
}

fn broken_at<'a>(entries: impl IntoIterator<Item = &'a Sealed>) -> (u64, String) {
    match verify(entries).unwrap_err() {
        LogError::Chain { revision, what } => (revision, what.to_owned()),
        other => panic!("{other}"),
    }
}

/// An envelope changed and encoded anew; the hash is then another too.
fn forged(entry: &Sealed, change: impl FnOnce(&mut Envelope)) -> Sealed {
    let mut envelope: Envelope = minicbor::decode(&entry.envelope).unwrap();
    change(&mut envelope);
    let envelope = minicbor::to_vec(&envelope).unwrap();
    let hash = Sha256::digest(&envelope).into();
    Sealed { envelope, payload: entry.payload.clone(), hash }
}

#[test]
fn a_whole_chain_verifies() {
    let envelopes = verify(&chain()).unwrap();
    let shown: Vec<_> = envelopes.iter().map(|e| (e.version, e.revision, e.epoch, e.at().time_ms)).collect();
    let time = 1_800_000_000_000;
    assert_eq!(shown, [(1, 1, 3, time + 1), (1, 2, 3, time + 2), (1, 3, 3, time + 3)]);
    assert_eq!(envelopes[0].message.as_deref(), Some("why"));
}

#[test]
fn what_was_changed_afterwards_is_found() {
    let [a, b, c] = &chain()[..] else { unreachable!() };
    let not_after = "it doesn't follow the entry before".to_owned();

    // Whatever field of an envelope: the entry after it names another hash.
    let forgeries: [fn(&mut Envelope); 6] = [
        |e| e.epoch += 1,
        |e| e.principal = Principal::Operator { token: TokenId(1) },
        |e| e.time_ms += 1,
        |e| e.message = None,
        |e| e.idempotency_key = Some("key".into()),
        |e| e.key_id = Some(1),
    ];
    for forge in forgeries {
        assert_eq!(broken_at([a, &forged(b, forge), c]), (3, not_after.clone()));
    }
    let renumbered = forged(b, |e| e.revision = 3);
    assert_eq!(broken_at([a, &renumbered, c]), (2, "its number is another".into()));

    let payload = encode_inline(&[Change::EpochBegan { epoch: 9 }]);
    let swapped = Sealed { payload: payload.clone(), ..b.clone() };
    assert_eq!(broken_at([a, &swapped, c]), (2, "its payload is another".into()));
    // With a payload hash that fits, the envelope is another.
    let fitted = Sealed {
        payload: payload.clone(),
        ..forged(b, |e| e.payload_hash = Sha256::digest(&payload).into())
    };
    assert_eq!(broken_at([a, &fitted, c]), (3, not_after.clone()));

    // Order, a missing entry, a missing beginning, one too many.
    assert_eq!(broken_at([b, a, c]).0, 1);
    assert_eq!(broken_at([a, c]), (2, "its number is another".into()));
    let renumbered = forged(c, |e| e.revision = 2);
    assert_eq!(broken_at([a, &renumbered]), (2, not_after.clone()));
    let renumbered = forged(b, |e| e.revision = 1);
    assert_eq!(broken_at([&renumbered]), (1, not_after));
    assert_eq!(broken_at([a, a]).0, 2);
}

#[test]
fn a_newer_version_is_said_to_be_one() {
    let [a, ..] = &chain()[..] else { unreachable!() };
    let newer = forged(a, |e| e.version = 2);
    let refused = verify([&newer]).unwrap_err();
    assert!(matches!(refused, LogError::Version { revision: 1, version: 2 }), "{refused}");
    assert!(refused.to_string().contains("use a newer one"), "{refused}");
    // Whatever else a newer one holds.
    let mut envelope = Vec::new();
    minicbor::Encoder::new(&mut envelope).array(2).unwrap().u16(7).unwrap().str("something else").unwrap();
    let refused = open(1, &GENESIS, &envelope, &[]).unwrap_err();
    assert!(matches!(refused, LogError::Version { revision: 1, version: 7 }), "{refused}");
}

#[test]
fn what_is_no_envelope_is_malformed() {
    for bytes in [&b""[..], b"x", &[0x80], &[0x81, 1], &chain()[0].envelope[..20]] {
        assert!(matches!(open(4, &GENESIS, bytes, &[]), Err(LogError::Malformed { revision: 4, .. })));
    }
}

// --------------------------------------------------------------------------------------------- payloads

/// Chunks by their addresses.
#[derive(Default)]
struct Staged(HashMap<ChunkAddress, Vec<u8>>);

impl Staged {
    fn put(&mut self, chunk: Vec<u8>) -> ChunkAddress {
        let address = Sha256::digest(&chunk).into();
        self.0.insert(address, chunk);
        address
    }
}

impl Chunks for Staged {
    fn chunk(&self, address: &ChunkAddress) -> Option<Vec<u8>> {
        self.0.get(address).cloned()
    }
}

#[test]
fn a_chunked_payload_is_the_inline_one_in_parts() {
    let changes: Vec<Change> = samples().into_iter().map(|(_, change)| change).collect();
    let mut staged = staged_content();
    let inline = encode_inline(&changes);
    for chunk_bytes_max in [2, 100, inline.len(), inline.len() + 1, 1 << 20] {
        let addresses: Vec<ChunkAddress> =
            payload_chunks(&inline, chunk_bytes_max).map(|chunk| staged.put(chunk)).collect();
        assert!(
            staged
                .0
                .values()
                .filter(|chunk| chunk[0] == CHUNK_MARK)
                .all(|chunk| chunk.len() <= chunk_bytes_max.max(100))
        );
        let payload = encode_chunked(&addresses);
        assert_eq!(payload.len(), 1 + 32 * addresses.len());
        assert_eq!(decode_payload(&payload, &mut staged).unwrap(), changes);
    }
}

#[test]
fn what_is_no_payload_is_an_error() {
    let mut staged = Staged::default();
    let inline = encode_inline(&[Change::EpochBegan { epoch: 1 }]);
    let whole = staged.put([&[CHUNK_MARK], &inline[..]].concat());
    let unmarked = staged.put([&[9], &inline[..]].concat());
    let nested = encode_chunked(&[whole]);
    let nested = staged.put([&[CHUNK_MARK], &nested[..]].concat());
    assert!(decode_payload(&encode_chunked(&[whole]), &mut staged).is_ok());
    let wrong = [
        Vec::new(),
        vec![2],
        inline[..inline.len() - 1].to_vec(),
        encode_chunked(&[whole])[..32].to_vec(),
        encode_chunked(&[[0; 32]]),
        encode_chunked(&[unmarked]),
        encode_chunked(&[nested]),
        encode_chunked(&[]),
    ];
    for payload in wrong {
        assert!(decode_payload(&payload, &mut staged).is_err(), "{payload:?}");
    }
    // Staged content that is gone.
    let missing = samples().into_iter().find(|(what, _)| *what == "zone-replaced-staged").unwrap().1;
    assert!(decode_payload(&encode_inline(&[missing]), &mut staged).is_err());
}

/// A chunk of a payload, of content and of a checkpoint are never the same octets: a checkpoint's are dropped again.
#[test]
fn chunks_of_three_kinds_differ() {
    let changes: Vec<Change> = samples().into_iter().map(|(_, change)| change).collect();
    let firsts = |chunk: &[u8]| (chunk[0], chunk[1] >> 5);
    let rows: BTreeSet<_> = content_chunks(&content()).map(|chunk| firsts(&chunk)).collect();
    let parts: BTreeSet<_> = payload_chunks(&encode_inline(&changes), 100).map(|chunk| chunk[0]).collect();
    let checkpoint: BTreeSet<_> = changes
        .iter()
        .map(|change| {
            let mut bytes = Vec::new();
            minicbor::encode_with(change, &mut bytes, &mut ()).unwrap();
            firsts(&bytes)
        })
        .collect();
    assert!(rows.is_disjoint(&checkpoint), "{rows:?} {checkpoint:?}");
    assert!(checkpoint.iter().chain(&rows).all(|(first, _)| !parts.contains(first)));
}

// --------------------------------------------------------------------------------------- format version 1

/// Log format version 1, on disks: `NAME ENVELOPE PAYLOAD` in hexadecimal, one entry a line.
const VERSION_1: &str = include_str!("../testdata/log-v1.txt");

/// What is on disks stays readable and is written in the same way. A new change, or a new optional field of an old one,
/// adds lines at the end of the file; no line in it is ever changed.
#[test]
fn format_version_1_stays_what_it_is() {
    let written = render(&samples());
    let lines: Vec<&str> = VERSION_1.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(written.lines().nth(n), Some(*line), "line {} would be written otherwise", n + 1);
    }
    assert_eq!(written.lines().count(), lines.len(), "add to the file what is new:\n{written}");

    let mut previous = GENESIS;
    for ((revision, line), (what, change)) in (1..).zip(&lines).zip(samples()) {
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some(what));
        let [envelope, payload] = [(); 2].map(|()| unhex(words.next().unwrap()));
        let (opened, hash) = open(revision, &previous, &envelope, &payload).unwrap();
        previous = hash;
        assert_eq!(opened, expected_envelope(revision, &opened), "{what}");
        assert_eq!(decode_payload(&payload, &mut staged_content()).unwrap(), [change], "{what}");
    }
}

#[test]
fn every_change_is_in_the_fixture() {
    let numbers: BTreeSet<u8> = samples().iter().map(|(_, change)| number(change)).collect();
    assert_eq!(numbers, (0..=42).chain(48..=52).chain(56..=57).collect());
}

/// The number that a change has on disk. A new one doesn't compile here until it is in the samples.
fn number(change: &Change) -> u8 {
    match change {
        Change::EpochBegan { .. } => 0,
        Change::TenantPut(_) => 1,
        Change::TenantDeleted(_) => 2,
        Change::TokenPut(_) => 3,
        Change::TokenRevoked { .. } => 4,
        Change::NsSetPut(_) => 5,
        Change::NsSetDeleted(_) => 6,
        Change::PopPut(_) => 7,
        Change::PopDeleted(_) => 8,
        Change::ZoneCreated { .. } => 9,
        Change::ZoneEdited { .. } => 10,
        Change::ZoneReplaced { .. } => 11,
        Change::ZoneLabelled { .. } => 12,
        Change::ZoneSoaSet { .. } => 13,
        Change::ZoneActivated { .. } => 14,
        Change::ZoneDisplaced { .. } => 15,
        Change::ZoneAdmitted { .. } => 16,
        Change::ZoneDeleted { .. } => 17,
        Change::ZoneRestored { .. } => 18,
        Change::SerialRestored { .. } => 19,
        Change::PositionRestored { .. } => 20,
        Change::ContentRestored { .. } => 21,
        Change::TokenForgotten(_) => 22,
        Change::RequestRemembered(_) => 23,
        Change::RequestRestored { .. } => 24,
        Change::ShrinkConfirmed { .. } => 25,
        Change::PopReleased { .. } => 26,
        Change::BrakesSet(_) => 27,
        Change::LossRestored { .. } => 28,
        Change::PopHeld { .. } => 29,
        Change::CopyRestored { .. } => 30,
        Change::GeoipSet { .. } => 31,
        Change::MonitorPut(_) => 32,
        Change::MonitorDeleted(_) => 33,
        Change::VerdictsSet { .. } => 34,
        Change::ProbeRulesSet(_) => 35,
        Change::OwnAddressesSet { .. } => 42,
        Change::MonitorRestored(_) => 36,
        Change::MonitorIdsRestored { .. } => 37,
        Change::ChannelPut(_) => 38,
        Change::ChannelDeleted(_) => 39,
        Change::FirewallRulePut { .. } => 48,
        Change::FirewallRuleDeleted { .. } => 49,
        Change::PolicyZonePut(_) => 50,
        Change::PolicyZoneDeleted { .. } => 51,
        Change::FirewallRestored { .. } => 52,
        Change::ZoneResolved { .. } => 40,
        Change::ResolvedRestored { .. } => 41,
        Change::QueryLogSet(_) => 56,
        Change::QueryLogEnded { .. } => 57,
    }
}

/// The entries of the fixture: principals, messages and idempotency keys take turns.
fn sample_context(revision: u64) -> Context {
    let principal = match revision % 3 {
        0 => Principal::System,
        1 => Principal::Operator { token: TokenId(0x11) },
        _ => Principal::Tenant { tenant: TenantId(0x22), token: TokenId(0x33) },
    };
    Context {
        message: revision.is_multiple_of(2).then(|| "Grüße".into()),
        idempotency_key: revision.is_multiple_of(5).then(|| RequestKey {
            holder: KeyHolder::Operator(TokenId(0x11)),
            text: "key-1".into(),
            fingerprint: 1,
        }),
        ..context(principal)
    }
}

fn expected_envelope(revision: u64, opened: &Envelope) -> Envelope {
    let context = sample_context(revision);
    Envelope {
        version: 1,
        revision,
        epoch: 3,
        principal: context.principal,
        time_ms: 1_800_000_000_000 + revision,
        message: context.message,
        idempotency_key: context.idempotency_key.map(|key| key.text),
        key_id: None,
        // These two `open` has verified.
        payload_hash: opened.payload_hash,
        previous_hash: opened.previous_hash,
    }
}

fn render(samples: &[(&str, Change)]) -> String {
    let mut previous = GENESIS;
    let mut text = String::new();
    for (revision, (what, change)) in (1..).zip(samples) {
        let payload = encode_inline(std::slice::from_ref(change));
        let sealed = seal(&sample_context(revision), at(revision), previous, payload);
        previous = sealed.hash;
        _ = writeln!(text, "{what} {} {}", hex(&sealed.envelope), hex(&sealed.payload));
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn rrset(owner: &str, rtype: Rtype, ttl: u32, rdatas: &[&[u8]]) -> (RrKey, Rrset) {
    (RrKey::new(name(owner), rtype), Rrset { ttl, rdatas: rdatas.iter().collect() })
}

fn content() -> Content {
    [
        rrset("example.com", Rtype::NS, 3600, &[name("ns1.herald.example").as_wire()]),
        rrset("www.example.com", Rtype::A, 300, &[&[192, 0, 2, 1], &[192, 0, 2, 2]]),
        rrset("*.example.com", Rtype::from_int(65280), 0, &[b""]),
    ]
    .into_iter()
    .collect()
}

/// The chunks of [`content`].
fn staged_content() -> Staged {
    let mut staged = Staged::default();
    content_chunks(&content()).for_each(|chunk| _ = staged.put(chunk));
    staged
}

fn bulk(is_staged: bool) -> Bulk {
    let addresses = || content_chunks(&content()).map(|chunk| Sha256::digest(&chunk).into()).collect();
    Bulk { content: content(), staged: is_staged.then(addresses) }
}

fn difference() -> Difference {
    let (gone, _) = rrset("old.example.com", Rtype::MX, 0, &[]);
    Difference { puts: content().iter().map(|(k, r)| (k.clone(), r.clone())).collect(), deletes: vec![gone] }
}

/// What an ALIAS at the apex resolved to, and nothing more at another name.
fn resolved() -> Difference {
    let a = rrset("example.com", Rtype::A, 56, &[&[198, 51, 100, 7], &[198, 51, 100, 8]]);
    Difference { puts: vec![a], deletes: vec![RrKey::new(name("www.example.com"), Rtype::AAAA)] }
}

/// Regions are asked for, and nothing else.
fn settings_by_region() -> Difference {
    let settings = Item::Settings(Settings { ecs: false, alias_by_region: true });
    Difference {
        puts: vec![(settings_key(&name("example.com")), settings.write().unwrap())],
        deletes: Vec::new(),
    }
}

/// What an ALIAS at the apex resolved to, with one region that has something else, and one that has nothing.
fn resolved_by_region() -> Difference {
    let apex = name("example.com");
    let (_, everywhere) = rrset("example.com", Rtype::A, 56, &[&[198, 51, 100, 7], &[198, 51, 100, 8]]);
    let (_, own) = rrset("example.com", Rtype::A, 40, &[&[198, 51, 100, 9]]);
    let regional =
        |pops: &[&str], rrset| Regional { pops: pops.iter().map(|&pop| pop.into()).collect(), rrset };
    let regions = [
        ("eu-west".into(), regional(&["ams1", "fra1"], Some(own))),
        ("us".into(), regional(&["iad1"], None)),
    ];
    let served = Served { everywhere: Some(everywhere), regions: regions.into() };
    served.difference(&resolved().puts.into_iter().collect(), &apex, &apex, Rtype::A)
}

/// Steering with something of everything.
fn steering() -> Difference {
    let apex = name("example.com");
    let www = name("www.example.com");
    let item = |key: RrKey, item: Item| (key, item.write().unwrap());
    let endpoint = |name: &str, state, rtype: Rtype, rdata: &[u8]| Endpoint {
        name: name.into(),
        records: vec![EndpointRecords { rtype, rdatas: crate::Rdatas::single(rdata) }],
        weight: 10,
        state,
        location: Some(Location { latitude: 50.25, longitude: -8.5 }),
        bias: -7,
        monitor: None,
    };
    let when = When {
        continents: vec![*b"EU"],
        countries: vec![*b"DE"],
        subdivisions: vec![Subdivision::parse("US-CA").unwrap()],
        cities: vec![City::GeoNames(2_950_159), City::Named { name: "Berlin".into(), country: *b"DE" }],
        asns: vec![64_496],
        prefixes: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        pops: vec!["fra1".into()],
        views: vec!["office".into()],
    };
    let rules = vec![
        Rule { name: Some("near".into()), when, pools: vec!["eu".into(), "all".into()], nearest: true },
        Rule { name: None, when: When::default(), pools: vec!["all".into()], nearest: false },
    ];
    let eu = Pool {
        ttl: 60,
        answer: AnswerMode::UpTo(2),
        sticky: Some(Sticky { ipv4_prefix: 24, ipv6_prefix: 56 }),
        min_healthy: 2,
        endpoints: vec![
            endpoint("a", EndpointState::Enabled, Rtype::A, &[192, 0, 2, 1]),
            endpoint("b", EndpointState::Drained, Rtype::A, &[192, 0, 2, 2]),
            endpoint("c", EndpointState::Disabled, Rtype::AAAA, &[0x20; 16]),
        ],
    };
    let one = Pool { answer: AnswerMode::One, sticky: None, endpoints: Vec::new(), ..eu.clone() };
    let all = Pool { answer: AnswerMode::All, sticky: None, ..eu.clone() };
    let view = View { prefixes: vec!["10.0.0.0/8".parse().unwrap()], pops: vec!["fra1".into()] };
    let shown = Rrset { ttl: 300, rdatas: crate::Rdatas::single(&[10, 0, 0, 1]) };
    let overlays = vec![
        Overlay { view: "office".into(), rtype: Rtype::A, rrset: Some(shown) },
        Overlay { view: "office".into(), rtype: Rtype::ANY, rrset: None },
    ];
    let mut puts = vec![
        item(settings_key(&apex), Item::Settings(Settings { ecs: true, alias_by_region: false })),
        item(pool_key(&apex, "eu").unwrap(), Item::Pool(eu)),
        item(pool_key(&apex, "one").unwrap(), Item::Pool(one)),
        item(pool_key(&apex, "all").unwrap(), Item::Pool(all)),
        item(view_key(&apex, "office").unwrap(), Item::View(view)),
        item(RrKey::new(www.clone(), OVERLAY), Item::Overlays(overlays)),
    ];
    // The type of a policy is persistent, too.
    for answered in STEERABLE {
        let policy = Item::Policy(answered, Policy::of_rules(rules.clone()));
        puts.push(item(policy_key(&www, answered).unwrap(), policy));
    }
    Difference { puts, deletes: Vec::new() }
}

fn soa() -> SoaFields {
    SoaFields {
        mname: name("ns1.herald.example"),
        rname: name("hostmaster.herald.example"),
        refresh_s: 3600,
        retry_s: 600,
        expire_s: 1_209_600,
        minimum_s: 300,
        ttl: 7200,
    }
}

fn zone(status: ZoneStatus, content: Content) -> Zone {
    Zone {
        id: ZoneId(0xa1 << 100 | 5),
        name: name("example.com"),
        tenant: TenantId(0x22),
        status,
        ns_set: NsSetId(0x44),
        labels: BTreeMap::from([("env".into(), "prod".into()), ("team".into(), "web".into())]),
        created_at_ms: 1_700_000_000_000,
        changed_at_ms: 1_700_000_000_001,
        revision: 17,
        generation: Generation { epoch: 2, counter: 16 },
        serial: 4_294_967_295,
        soa: soa(),
        challenge: "0123456789abcdefghjkmnpqrs".into(),
        admitted_by: vec![TenantId(0x55), TenantId(u128::MAX)],
        content,
        shrunk: None,
        resolved: Content::default(),
    }
}

fn samples() -> Vec<(&'static str, Change)> {
    let id = ZoneId(0xa1 << 100 | 5);
    let scope = Scope {
        zones: vec![
            ZonePattern::Id(id),
            ZonePattern::Name(name("example.com")),
            ZonePattern::Below(name("example.net")),
        ],
        names: vec![
            NamePattern::Name(name("www.example.com")),
            NamePattern::Below(name("example.com")),
            NamePattern::FirstLabel("_acme-challenge".into()),
        ],
        types: vec![ScopeType(Rtype::TXT), ScopeType(Rtype::from_int(65280))],
        verbs: vec![Verb::Read, Verb::Write, Verb::Create, Verb::Delete, Verb::Admin],
    };
    let token = Token {
        id: TokenId(0x33),
        tenant: Some(TenantId(0x22)),
        description: "for the deploy job".into(),
        scope,
        secret_hash: [0xab; 32],
        created_at_ms: 1_700_000_000_002,
        expires_at_ms: Some(1_900_000_000_000),
        revoked_at_ms: Some(1_800_000_000_000),
    };
    let bare_token = Token {
        tenant: None,
        scope: Scope::default(),
        expires_at_ms: None,
        revoked_at_ms: None,
        ..token.clone()
    };
    let activated = |by| Change::ZoneActivated { zone: id, serial: 43, by };
    let empty = || zone(ZoneStatus::Active, Content::default());
    let request = |subject| Request {
        holder: KeyHolder::Tenant(TenantId(0x22)),
        key: 0x5afe << 64,
        fingerprint: 0xf00d << 72,
        subject,
    };
    let mut all_limits = TenantLimits::default();
    for (number, limit) in (1u64..).zip(Limit::ALL) {
        all_limits.set(*limit, Some(number * 1000));
    }
    // Those that came later are in samples of their own.
    let mut alias_limits = all_limits.clone();
    alias_limits.set(Limit::QueryLogs, None);
    let mut channel_limits = alias_limits.clone();
    channel_limits.set(Limit::AliasesPerZone, None);
    let mut monitor_limits = channel_limits.clone();
    monitor_limits.set(Limit::Channels, None);
    let mut policy_limits = monitor_limits.clone();
    for limit in [Limit::Monitors, Limit::MonitorIntervalMs] {
        policy_limits.set(limit, None);
    }
    let mut limits = policy_limits.clone();
    limits.set(Limit::PoliciesPerZone, None);
    let mut samples = vec![
        ("epoch-began", Change::EpochBegan { epoch: 300 }),
        (
            "tenant-put",
            Change::TenantPut(Tenant {
                id: TenantId(0x22),
                name: "acme".into(),
                enabled: true,
                created_at_ms: 1_700_000_000_003,
                limits: None,
                source_prefixes: None,
            }),
        ),
        ("tenant-deleted", Change::TenantDeleted(TenantId(0x22))),
        ("token-put", Change::TokenPut(token)),
        ("token-put-bare", Change::TokenPut(bare_token)),
        ("token-revoked", Change::TokenRevoked { token: TokenId(0x33), at_ms: 1_700_000_000_004 }),
        (
            "ns-set-put",
            Change::NsSetPut(NsSet {
                id: NsSetId(0x44),
                name: "default".into(),
                nameservers: vec![name("ns1.herald.example"), name("ns2.herald.example")],
                soa: soa(),
                is_default: true,
                created_at_ms: 1_700_000_000_005,
            }),
        ),
        ("ns-set-deleted", Change::NsSetDeleted(NsSetId(0x44))),
        (
            "pop-put",
            Change::PopPut(Pop {
                id: PopId(0x66),
                name: "fra1".into(),
                secret_hash: [0xcd; 32],
                enabled: true,
                drained: false,
                created_at_ms: 1_700_000_000_006,
                released: None,
                held: None,
                region: None,
            }),
        ),
        ("pop-deleted", Change::PopDeleted(PopId(0x66))),
        ("zone-created", Change::ZoneCreated { zone: empty(), content: bulk(false) }),
        (
            "zone-created-pending-staged",
            Change::ZoneCreated { zone: zone(ZoneStatus::Pending, Content::default()), content: bulk(true) },
        ),
        ("zone-edited", Change::ZoneEdited { zone: id, serial: 42, difference: difference() }),
        ("zone-replaced", Change::ZoneReplaced { zone: id, serial: 42, content: bulk(false) }),
        ("zone-replaced-staged", Change::ZoneReplaced { zone: id, serial: 42, content: bulk(true) }),
        ("zone-labelled", Change::ZoneLabelled { zone: id, labels: empty().labels }),
        (
            "zone-soa-set",
            Change::ZoneSoaSet {
                zone: id,
                serial: 42,
                ns_set: NsSetId(0x44),
                soa: soa(),
                difference: difference(),
            },
        ),
        ("zone-activated-txt", activated(Evidence::Txt)),
        ("zone-activated-delegation", activated(Evidence::Delegation)),
        ("zone-activated-holder", activated(Evidence::Holder)),
        ("zone-activated-operator", activated(Evidence::Operator)),
        ("zone-displaced", Change::ZoneDisplaced { zone: id, challenge: "new".into() }),
        ("zone-admitted", Change::ZoneAdmitted { zone: id, by: TenantId(0x55) }),
        ("zone-deleted", Change::ZoneDeleted { zone: id }),
        ("zone-restored", Change::ZoneRestored { zone: zone(ZoneStatus::Pending, content()) }),
        ("serial-restored", Change::SerialRestored { name: name("example.com"), serial: 41, tenant: None }),
        (
            "content-restored",
            Change::ContentRestored {
                zone: id,
                rrsets: content().iter().map(|(k, r)| (k.clone(), r.clone())).collect(),
            },
        ),
        (
            "position-restored",
            Change::PositionRestored { revision: 70_000, epoch: 3, time_ms: 1_700_000_000_007 },
        ),
        ("token-forgotten", Change::TokenForgotten(TokenId(0x33))),
        (
            "tenant-put-limited",
            Change::TenantPut(Tenant {
                id: TenantId(0x22),
                name: "acme".into(),
                enabled: false,
                created_at_ms: 1_700_000_000_003,
                limits: Some(limits),
                source_prefixes: None,
            }),
        ),
        ("request-remembered", Change::RequestRemembered(request(None))),
        ("request-remembered-zone", Change::RequestRemembered(request(Some(Subject::Zone(id))))),
        ("request-remembered-token", Change::RequestRemembered(request(Some(Subject::Token(TokenId(0x33)))))),
        (
            "request-restored",
            Change::RequestRestored {
                request: Request {
                    holder: KeyHolder::Operator(TokenId(0x11)),
                    ..request(Some(Subject::Tenant(TenantId(0x22))))
                },
                revision: 69_999,
                time_ms: 1_700_000_000_006,
            },
        ),
        (
            "request-remembered-ns-set",
            Change::RequestRemembered(request(Some(Subject::NsSet(NsSetId(0x44))))),
        ),
        ("request-remembered-pop", Change::RequestRemembered(request(Some(Subject::Pop(PopId(0x66)))))),
        ("shrink-confirmed", Change::ShrinkConfirmed { zones: vec![id, ZoneId(u128::MAX)] }),
        ("pop-released", Change::PopReleased { pop: PopId(0x66), revision: 70_001 }),
        (
            "brakes-set",
            Change::BrakesSet(Brakes {
                zone_percent: 51,
                zone_rrsets_min: 300,
                pop_percent: 21,
                pop_zones_min: 70_002,
            }),
        ),
        ("loss-restored", Change::LossRestored { revision: 70_003 }),
        (
            "pop-put-released",
            Change::PopPut(Pop {
                id: PopId(0x66),
                name: "fra1".into(),
                secret_hash: [0xcd; 32],
                enabled: false,
                drained: true,
                created_at_ms: 1_700_000_000_006,
                released: Some(70_004),
                held: None,
                region: None,
            }),
        ),
        (
            "zone-restored-shrunk",
            Change::ZoneRestored {
                zone: Zone { shrunk: Some(70_005), ..zone(ZoneStatus::Active, content()) },
            },
        ),
        (
            "pop-held",
            Change::PopHeld { pop: PopId(0x66), revision: 70_006, zones_lost: 150, zones_before: 70_007 },
        ),
        ("copy-restored", Change::CopyRestored { serials_ahead: 70_009 }),
        (
            "pop-put-held",
            Change::PopPut(Pop {
                id: PopId(0x66),
                name: "fra1".into(),
                secret_hash: [0xcd; 32],
                enabled: true,
                drained: false,
                created_at_ms: 1_700_000_000_006,
                released: None,
                held: Some(PopHold {
                    revision: 70_008,
                    since_ms: 1_700_000_000_007,
                    zones_lost: 151,
                    zones_before: 152,
                }),
                region: None,
            }),
        ),
        (
            "tenant-put-limited-policies",
            Change::TenantPut(Tenant {
                id: TenantId(0x22),
                name: "acme".into(),
                enabled: true,
                created_at_ms: 1_700_000_000_003,
                limits: Some(policy_limits),
                source_prefixes: None,
            }),
        ),
        ("zone-edited-steering", Change::ZoneEdited { zone: id, serial: 8, difference: steering() }),
        (
            "geoip-set",
            Change::GeoipSet {
                table: Some(Geoip {
                    sha256: [0xee; 32],
                    bytes: 70_010,
                    chunks: vec![[0xef; 32], [0xf0; 32]],
                    city: Some(GeoipDatabase { kind: "GeoLite2-City".into(), built_s: 1_700_000_008 }),
                    asn: Some(GeoipDatabase { kind: "GeoLite2-ASN".into(), built_s: 1_700_000_009 }),
                }),
            },
        ),
        ("geoip-none", Change::GeoipSet { table: None }),
        (
            "tenant-put-sources",
            Change::TenantPut(Tenant {
                id: TenantId(0x22),
                name: "acme".into(),
                enabled: true,
                created_at_ms: 1_700_000_000_003,
                limits: None,
                source_prefixes: Some(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]),
            }),
        ),
        (
            "zone-created-private",
            Change::ZoneCreated { zone: zone(ZoneStatus::Private, Content::default()), content: bulk(false) },
        ),
        (
            "serial-restored-private",
            Change::SerialRestored { name: name("example.com"), serial: 41, tenant: Some(TenantId(0x22)) },
        ),
    ];
    samples.extend(monitor_samples(monitor_limits));
    samples.extend(channel_samples(channel_limits));
    samples.extend(firewall_samples());
    samples.extend([
        ("zone-resolved", Change::ZoneResolved { zone: id, serial: 44, difference: resolved() }),
        ("resolved-restored", Change::ResolvedRestored { zone: id, rrsets: resolved().puts }),
        (
            "tenant-put-limited-aliases",
            Change::TenantPut(Tenant {
                id: TenantId(0x22),
                name: "acme".into(),
                enabled: true,
                created_at_ms: 1_700_000_000_003,
                limits: Some(alias_limits),
                source_prefixes: None,
            }),
        ),
        (
            "own-addresses-set",
            Change::OwnAddressesSet {
                pop: Some(PopId(0x77)),
                addresses: ["192.0.2.53", "2001:db8::53"].map(|own| own.parse().unwrap()).to_vec(),
            },
        ),
        ("own-addresses-set-none", Change::OwnAddressesSet { pop: None, addresses: Vec::new() }),
        (
            "channel-put-unconfirmed",
            Change::ChannelPut(Channel {
                id: ChannelId(0x56),
                tenant: TenantId(0x22),
                name: "mail".into(),
                receiver: Receiver::Email { address: "ops@example.com".into() },
                monitors: None,
                enabled: true,
                salt: [0xce; 16],
                revision: 70_016,
                created_at_ms: 1_700_000_000_014,
                confirmed: Some(false),
            }),
        ),
        (
            "pop-put-region",
            Change::PopPut(Pop {
                id: PopId(0x66),
                name: "fra1".into(),
                secret_hash: [0xcd; 32],
                enabled: true,
                drained: false,
                created_at_ms: 1_700_000_000_006,
                released: None,
                held: None,
                region: Some("eu-west".into()),
            }),
        ),
        (
            "zone-edited-alias-by-region",
            Change::ZoneEdited { zone: id, serial: 45, difference: settings_by_region() },
        ),
        (
            "zone-resolved-by-region",
            Change::ZoneResolved { zone: id, serial: 46, difference: resolved_by_region() },
        ),
    ]);
    samples.extend(query_log_samples(all_limits));
    samples
}

/// The query log, and the limits that came with it.
fn query_log_samples(limits: TenantLimits) -> Vec<(&'static str, Change)> {
    let (zone, tenant, since_ms) = (ZoneId(0x44), TenantId(0x22), 1_800_000_000_000);
    let log = QueryLog { zone, tenant, since_ms, until_ms: since_ms + 3_600_000, one_in: 10_000 };
    let tenant = Tenant {
        id: tenant,
        name: "acme".into(),
        enabled: true,
        created_at_ms: 1_700_000_000_003,
        limits: Some(limits),
        source_prefixes: None,
    };
    vec![
        ("query-log-set", Change::QueryLogSet(log)),
        ("query-log-ended", Change::QueryLogEnded { zone, at_ms: since_ms + 60_000 }),
        ("tenant-put-limited-query-logs", Change::TenantPut(tenant)),
    ]
}

/// Monitors with something of everything.
fn monitor_samples(limits: TenantLimits) -> Vec<(&'static str, Change)> {
    let tls = TlsCheck { sni: Some("sni.example.com".into()), accept_any: true, days_left_min: 14 };
    let http = HttpCheck {
        target: "www.example.com".into(),
        port: 8443,
        path: "/health?full".into(),
        host: Some("www.example.com".into()),
        head: false,
        status: (200, 399),
        body_contains: Some("fine".into()),
        redirects: 3,
        tls: Some(tls.clone()),
    };
    let target = || String::from("2001:db8::7");
    let monitor = |id: u32, check: Check| Monitor {
        id: MonitorId(id),
        tenant: TenantId(0x22),
        name: format!("m{id}"),
        check,
        pace: Pace {
            interval_ms: 1000,
            timeout_ms: 500,
            rise: 2,
            fall: 3,
            probers: 4,
            quorum: Some(3),
            recovery_ms: 70_011,
        },
        enabled: id.is_multiple_of(2),
        revision: 70_012,
        created_at_ms: 1_700_000_000_010,
        verdict: None,
    };
    let verdict =
        Verdict { up: false, since_ms: 1_700_000_000_011, cause: "fra1: timed out".into(), revision: 70_013 };
    let name = Name::parse("www.example.com").unwrap();
    let dns = Check::Dns {
        target: target(),
        port: 53,
        name,
        rtype: 28,
        rcode: 3,
        contains: Some("2001:db8::1".into()),
    };
    let bare = HttpCheck { host: None, body_contains: None, tls: None, head: true, ..http.clone() };
    let put = |id, check| Change::MonitorPut(monitor(id, check));
    let change = VerdictChange {
        monitor: MonitorId(300),
        up: true,
        since_ms: 1_700_000_000_012,
        cause: "fra1: 200 OK".into(),
    };
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let request =
        |subject| Request { holder: KeyHolder::Tenant(TenantId(0x22)), key: 5, fingerprint: 6, subject };
    let scope = Scope { verbs: vec![Verb::Monitor], ..Scope::default() };
    let token = Token {
        id: TokenId(0x33),
        tenant: Some(TenantId(0x22)),
        description: "for monitors".into(),
        scope,
        secret_hash: [0xab; 32],
        created_at_ms: 1_700_000_000_002,
        expires_at_ms: None,
        revoked_at_ms: None,
    };
    let tenant = Tenant {
        id: TenantId(0x22),
        name: "acme".into(),
        enabled: true,
        created_at_ms: 1_700_000_000_003,
        limits: Some(limits),
        source_prefixes: None,
    };
    vec![
        ("monitor-put-http", put(1, Check::Http(http.clone()))),
        ("monitor-put-http-bare", put(2, Check::Http(bare))),
        ("monitor-put-tcp", put(3, Check::Tcp { target: target(), port: 25 })),
        ("monitor-put-tls", put(4, Check::Tls { target: target(), port: 853, tls })),
        ("monitor-put-dns", put(5, dns)),
        ("monitor-put-icmp", put(6, Check::Icmp { target: target() })),
        ("monitor-put-heartbeat", put(7, Check::Heartbeat { secret_hash: [0xbc; 32] })),
        (
            "monitor-put-calculated",
            put(8, Check::Calculated { of: vec![MonitorId(1), MonitorId(300)], at_least: 1, inverted: true }),
        ),
        ("monitor-deleted", Change::MonitorDeleted(MonitorId(300))),
        ("verdicts-set", Change::VerdictsSet { verdicts: vec![change] }),
        (
            "probe-rules-set",
            Change::ProbeRulesSet(ProbeRules {
                allowed: prefixes(&["10.1.0.0/16", "::1"]),
                refused: prefixes(&["192.0.2.0/24"]),
            }),
        ),
        (
            "monitor-restored",
            Change::MonitorRestored(Monitor {
                verdict: Some(verdict),
                ..monitor(9, Check::Icmp { target: target() })
            }),
        ),
        ("monitor-ids-restored", Change::MonitorIdsRestored { last: MonitorId(70_014) }),
        (
            "request-remembered-monitor",
            Change::RequestRemembered(request(Some(Subject::Monitor(MonitorId(300))))),
        ),
        ("token-put-monitor", Change::TokenPut(token)),
        ("tenant-put-limited-monitors", Change::TenantPut(tenant)),
    ]
}

/// Notification channels with something of everything.
fn channel_samples(limits: TenantLimits) -> Vec<(&'static str, Change)> {
    let channel = |receiver, monitors| {
        Change::ChannelPut(Channel {
            id: ChannelId(0x55),
            tenant: TenantId(0x22),
            name: "ops".into(),
            receiver,
            monitors,
            enabled: true,
            salt: [0xcd; 16],
            revision: 70_015,
            created_at_ms: 1_700_000_000_013,
            confirmed: None,
        })
    };
    let url = "https://hooks.example.com/koder?team=ops".into();
    let subject = Some(Subject::Channel(ChannelId(0x55)));
    let request = Request { holder: KeyHolder::Tenant(TenantId(0x22)), key: 7, fingerprint: 8, subject };
    let tenant = Tenant {
        id: TenantId(0x22),
        name: "acme".into(),
        enabled: true,
        created_at_ms: 1_700_000_000_003,
        limits: Some(limits),
        source_prefixes: None,
    };
    vec![
        ("channel-put-webhook", channel(Receiver::Webhook { url }, None)),
        (
            "channel-put-email",
            channel(
                Receiver::Email { address: "ops@example.com".into() },
                Some(vec![MonitorId(1), MonitorId(300)]),
            ),
        ),
        ("channel-deleted", Change::ChannelDeleted(ChannelId(0x55))),
        ("request-remembered-channel", Change::RequestRemembered(request)),
        ("tenant-put-limited-channels", Change::TenantPut(tenant)),
    ]
}

/// The firewall with something of everything.
fn firewall_samples() -> Vec<(&'static str, Change)> {
    vec![
        (
            "firewall-rule-put",
            Change::FirewallRulePut { owner: Owner::Tenant(TenantId(5)), rule: firewall_rule() },
        ),
        (
            "firewall-rule-put-least",
            Change::FirewallRulePut {
                owner: Owner::Fleet,
                rule: firewall::Rule { when: firewall::When::default(), note: None, ..firewall_rule() },
            },
        ),
        ("firewall-rule-deleted", Change::FirewallRuleDeleted { owner: Owner::Fleet, name: "no-any".into() }),
        (
            "policy-zone-put",
            Change::PolicyZonePut(PolicyZone {
                name: "blocklist".into(),
                order: 10,
                sha256: [0xf1; 32],
                bytes: 4_096,
                chunks: vec![[0xf2; 32]],
                names: 100,
                clients: 7,
                not_applying: 3,
                serial: Some(2_024_010_101),
            }),
        ),
        ("policy-zone-deleted", Change::PolicyZoneDeleted { name: "blocklist".into() }),
        (
            "firewall-restored",
            Change::FirewallRestored { owner: Owner::Tenant(TenantId(5)), revision: 70_015 },
        ),
    ]
}

fn firewall_rule() -> firewall::Rule {
    firewall::Rule {
        name: "no-any".into(),
        order: 10,
        when: firewall::When {
            sources: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            countries: vec![*b"DE"],
            asns: vec![64_496],
            names: vec![Name::parse("*.example.com").unwrap()],
            types: vec![QueryType(Rtype::ANY)],
            over: Some(Rate { per_s: 100, burst: 200, v4_length: 24, v6_length: 56 }),
        },
        action: firewall::Action::Truncate,
        note: Some("amplifies".into()),
    }
}
