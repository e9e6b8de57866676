//! What no client should send, to the real daemon: each of it is answered and says what was wrong, others are served
//! meanwhile, and memory doesn't grow.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use testbed::api::Api;
use testbed::herald::Herald;
use testbed::platform::Platform;

/// For an answer to anything.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What somebody else waits at most meanwhile, on a machine that does much else.
const OTHERS_WAIT: Duration = Duration::from_secs(10);

const MIB: u64 = 1 << 20;

/// A platform without PoPs, whose tenant may send zone files of 16 MiB.
fn platform(label: &str) -> Platform {
    let platform = Platform::start(label, 0);
    platform.create_zone("example.com");
    let limits = json!({ "limits": { "zone_file_bytes": 16 * MIB } });
    platform.herald.operator().patch("/tenants/tenant", &limits).expect(200);
    platform
}

/// One request.
struct Bad {
    what: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    status: u16,
    /// What its refusal has to say.
    says: &'static str,
}

const RRSETS: &str = "/zones/example.com/rrsets";
const IMPORT: &str = "/zones/example.com/import";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const TEXT: (&str, &str) = ("Content-Type", "text/dns");
const GZIP: (&str, &str) = ("Content-Encoding", "gzip");
const ZSTD: (&str, &str) = ("Content-Encoding", "zstd");

fn bad(
    what: &'static str,
    (status, says): (u16, &'static str),
    (method, path): (&'static str, &str),
    headers: &[(&'static str, &'static str)],
    body: impl Into<Vec<u8>>,
) -> Bad {
    Bad { what, method, path: path.into(), headers: headers.to_vec(), body: body.into(), status, says }
}

fn everything_bad() -> Vec<Bad> {
    let patch = ("PATCH", RRSETS);
    let import = ("POST", IMPORT);
    let put = |name: &str, ttl: &str| {
        format!(
            r#"{{"changes":[{{"op":"put","name":"{name}","type":"A","ttl":{ttl},"records":["192.0.2.1"]}}]}}"#
        )
    };
    let rubbish: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let spaces = gzip(&vec![b' '; 64 << 20]);
    vec![
        bad("no JSON", (400, "not JSON"), patch, &[JSON], "{\"changes\":[}"),
        bad("half of JSON", (400, "not JSON"), patch, &[JSON], "{\"changes\":["),
        bad("JSON and more", (400, "trailing"), patch, &[JSON], "{\"changes\":[]} {}"),
        bad("a key twice", (400, "duplicate"), patch, &[JSON], r#"{"changes":[],"changes":[]}"#),
        bad(
            "a label twice",
            (400, "duplicate key `k`"),
            ("PATCH", "/zones/example.com"),
            &[JSON],
            r#"{"labels":{"k":"1","k":"2"}}"#,
        ),
        bad("a huge number", (400, "number"), patch, &[JSON], put("a", "1e999")),
        bad("a large number", (400, "expected u32"), patch, &[JSON], put("a", "99999999999999")),
        bad(
            "deep nesting",
            (400, "expected"),
            patch,
            &[JSON],
            format!("{{\"changes\":{}", "[".repeat(1 << 20)),
        ),
        bad("a long name", (422, "255"), patch, &[JSON], put(&"abcdefg.".repeat(40), "60")),
        bad("a long label", (422, "63"), patch, &[JSON], put(&"a".repeat(64), "60")),
        bad("an unknown field", (400, "unknown field"), patch, &[JSON], r#"{"changes":[],"change":[]}"#),
        bad("an unknown parameter", (400, "unknown field"), ("GET", "/zones?nmae=x"), &[], ""),
        bad("another type", (415, "application/json"), patch, &[("Content-Type", "text/xml")], "<a/>"),
        bad("no type", (415, "text/dns"), import, &[], "a 60 A 192.0.2.1"),
        bad("an unknown encoding", (415, "gzip"), patch, &[JSON, ("Content-Encoding", "br")], "x"),
        bad(
            "two encodings",
            (415, "one content encoding"),
            patch,
            &[JSON, ("Content-Encoding", "gzip, gzip")],
            "x",
        ),
        bad("10 MB of JSON", (413, "larger than"), patch, &[JSON], vec![b' '; 10_000_000]),
        bad("a gzip bomb", (413, "larger than"), patch, &[JSON, GZIP], spaces.clone()),
        bad("a zstd bomb", (413, "larger than"), patch, &[JSON, ZSTD], zstd_bomb(10_000)),
        bad("a gzip bomb in gzip", (400, "not JSON"), patch, &[JSON, GZIP], gzip(&spaces)),
        bad("a zstd bomb in gzip", (400, "not JSON"), patch, &[JSON, GZIP], gzip(&zstd_bomb(10_000))),
        bad("no gzip", (400, "gzip"), patch, &[JSON, GZIP], rubbish.clone()),
        bad("half of zstd", (400, "zstd"), patch, &[JSON, ZSTD], &zstd_bomb(3)[..9]),
        bad("a zone file's gzip bomb", (413, "larger than"), import, &[TEXT, GZIP], spaces),
        bad("a zone file's zstd bomb", (413, "larger than"), import, &[TEXT, ZSTD], zstd_bomb(10_000)),
        bad("rubbish for a zone file", (422, ""), import, &[TEXT], rubbish),
        bad("zeros for a zone file", (422, ""), import, &[TEXT], vec![0; 1 << 20]),
        bad("one endless line", (422, ""), import, &[TEXT], vec![b'a'; 8 << 20]),
        bad("an open parenthesis", (422, ""), import, &[TEXT], "@ 60 TXT (".repeat(100_000)),
        bad("a large $GENERATE", (422, ""), import, &[TEXT], "$GENERATE 1-4000000000 a$ 60 A 192.0.2.1\n"),
        bad("an $INCLUDE", (422, "INCLUDE"), import, &[TEXT], "$INCLUDE /etc/passwd\n"),
    ]
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A frame of zstd (RFC 8878) with so many blocks of 128 KiB, four bytes each, that are one space again and again.
fn zstd_bomb(blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for block in 1..=blocks {
        let is_last = u32::from(block == blocks);
        let header = ((128 * 1024) << 3) | (1 << 1) | is_last;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b' ');
    }
    frame
}

#[test]
fn what_is_bad_is_refused_with_words_and_takes_no_memory() {
    let platform = platform("hostile");
    let everything = everything_bad();
    let (herald, tenant) = (&platform.herald, &platform.tenant);
    let (_, others) = with_others(tenant, || {
        let round = || {
            std::thread::scope(|scope| {
                // Several at once, each with all of it.
                for _ in 0..3 {
                    scope.spawn(|| everything.iter().for_each(|bad| refused(tenant, bad)));
                }
            });
        };
        round();
        let before = herald.memory().resident_bytes;
        (0..3).for_each(|_| round());
        assert_no_growth(herald, before, 48 * MIB);
    });
    assert!(others > 0, "nobody else was served");
    tenant
        .put("/zones/example.com/rrsets/www/A", &json!({ "ttl": 60, "records": ["192.0.2.1"] }))
        .expect(201);
}

#[track_caller]
fn refused(api: &Api, bad: &Bad) {
    let mut head = format!(
        "{} /api/v1{} HTTP/1.1\r\nHost: herald\r\nConnection: close\r\nAuthorization: Bearer {}\r\n",
        bad.method,
        bad.path,
        api.token()
    );
    for (name, value) in &bad.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", bad.body.len());
    let (status, text) = exchange(api.address(), &[head.as_bytes(), &bad.body]);
    assert_eq!(status, Some(bad.status), "{}: {text}", bad.what);
    let problem: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}: {text}", bad.what));
    assert!(text.contains(bad.says), "{}: {text}", bad.what);
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{}: {text}", bad.what);
    assert!(text.len() < 100_000, "{}: {} bytes", bad.what, text.len());
}

/// Sends these octets on a connection of their own. What was answered: the status, unless there was none, and the body.
fn exchange(address: SocketAddr, parts: &[&[u8]]) -> (Option<u16>, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    stream.set_write_timeout(Some(ANSWER_WITHIN)).unwrap();
    for part in parts {
        // Who refuses doesn't read it all.
        if stream.write_all(part).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Does something while somebody else reads and writes, without a pause; says how often that was.
fn with_others<T>(api: &Api, act: impl FnOnce() -> T) -> (T, u32) {
    let (is_over, count) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let n = count.load(Ordering::Relaxed);
                let begin = Instant::now();
                let body = json!({ "ttl": 60, "records": [format!("192.0.2.{}", n % 250)] });
                let reply = api.put("/zones/example.com/rrsets/other/A", &body);
                assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
                api.get("/zones/example.com").expect(200);
                let took = begin.elapsed();
                assert!(took < OTHERS_WAIT, "somebody else waited for {took:?}");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        is_over.store(true, Ordering::Relaxed);
        match done {
            Ok(done) => (done, count.load(Ordering::Relaxed)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Memory is what it was, but for `margin` of what an allocator keeps. What was let go may take a moment.
#[track_caller]
fn assert_no_growth(herald: &Herald, before: u64, margin: u64) {
    let mut after = 0;
    let waited = testbed::wait::wait_until(Duration::from_secs(10), "memory to be let go", || {
        after = herald.memory().resident_bytes;
        after <= before + margin
    });
    assert!(waited.is_ok(), "memory grew from {} to {} MiB", before / MIB, after / MIB);
}

/// Raises the limit of open files of this process, and of what it starts, as far as it may; says how far that is.
fn raise_open_files() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_connections_that_say_nothing() {
    let open_files = raise_open_files();
    let count = usize::try_from(open_files.saturating_sub(500)).unwrap().min(10_000);
    if count < 10_000 {
        eprintln!("{open_files} open files are allowed, so that it is {count} connections");
    }
    let platform = platform("idle");
    let address = platform.herald.api;
    let before = platform.herald.memory().resident_bytes;
    let connect = || -> Vec<TcpStream> {
        (0..count)
            .map(|n| TcpStream::connect(address).unwrap_or_else(|e| panic!("connection {n}: {e}")))
            .collect()
    };
    let (_, others) = with_others(&platform.tenant, || {
        let idle = connect();
        // Of those that are kept open (4,096 at most) none takes more than 32 KiB, and they are in nobody's way: who
        // comes last is served.
        assert_no_growth(&platform.herald, before, 128 * MIB);
        let (status, _) =
            exchange(address, &[b"GET /healthz HTTP/1.1\r\nHost: herald\r\nConnection: close\r\n\r\n"]);
        assert_eq!(status, Some(200));
        let held = platform.herald.memory().resident_bytes;
        drop(idle);
        // As many again find room where those were.
        let idle = connect();
        assert_no_growth(&platform.herald, held, 48 * MIB);
        drop(idle);
    });
    assert!(others > 0, "nobody else was served");
}

#[test]
fn clients_that_drip_are_in_nobodys_way() {
    const CLIENTS: usize = 300;
    let platform = platform("drip");
    let (address, token) = (platform.herald.api, platform.tenant.token());
    let head = format!(
        "PATCH /api/v1{RRSETS} HTTP/1.1\r\nHost: herald\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    );
    let before = platform.herald.memory().resident_bytes;
    let (_, others) = with_others(&platform.tenant, || {
        // Half of them drip their heads, half their bodies.
        let mut clients: Vec<(TcpStream, Vec<u8>)> = (0..CLIENTS)
            .map(|n| {
                let mut stream = TcpStream::connect(address).unwrap();
                let (sent, rest) = head.split_at(if n % 2 == 0 { 20 } else { head.len() });
                stream.write_all(sent.as_bytes()).unwrap();
                (stream, if rest.is_empty() { vec![b' '; 100] } else { rest.into() })
            })
            .collect();
        for drop in 0..50 {
            for (stream, rest) in &mut clients {
                if let Some(octet) = rest.get(drop) {
                    // It may have been told already that this takes too long.
                    _ = stream.write_all(std::slice::from_ref(octet));
                }
            }
        }
        assert_no_growth(&platform.herald, before, 48 * MIB);
    });
    assert!(others > 0, "nobody else was served");
}
