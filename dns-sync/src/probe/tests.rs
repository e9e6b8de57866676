//! Against servers that answer, and against such as don't, or answer what nobody wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use herald_core::Name;
use herald_core::monitor::{HttpCheck, Pace, TlsCheck};
use herald_core::special::AddressRules;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

const WITHIN: Duration = Duration::from_secs(3);

fn shared(roots: RootCertStore, resolver: Resolver, allowed: &[&str]) -> Shared {
    let targets = Targets::new(resolver);
    let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
    targets.set_rules(AddressRules { allowed, ..AddressRules::default() });
    Shared { targets, tls: Tls::new(roots).unwrap(), room: Semaphore::new(10), tell: Box::new(|_| {}) }
}

fn local() -> Shared {
    shared(RootCertStore::empty(), Resolver::System, &["127.0.0.0/8"])
}

async fn probe(shared: &Shared, check: &Check) -> Outcome {
    probe_within(shared, check, WITHIN).await
}

async fn probe_within(shared: &Shared, check: &Check, within: Duration) -> Outcome {
    match tokio::time::timeout(within, run(shared, check, within)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Bad("time".into()),
    }
}

fn http(port: u16) -> HttpCheck {
    HttpCheck {
        target: "127.0.0.1".into(),
        port,
        path: "/".into(),
        host: None,
        head: false,
        status: (200, 399),
        body_contains: None,
        redirects: 0,
        tls: None,
    }
}

/// What is wrong, in words.
fn bad(outcome: Outcome) -> String {
    match outcome {
        Outcome::Bad(why) => why,
        other => panic!("{other:?}"),
    }
}

fn good(outcome: Outcome) -> Good {
    match outcome {
        Outcome::Good(good) => good,
        other => panic!("{other:?}"),
    }
}

fn unable(outcome: Outcome) -> String {
    match outcome {
        Outcome::Unable(why) => why,
        other => panic!("{other:?}"),
    }
}

/// An HTTP server that answers each request by its head; what it answers is written as it is.
async fn serve(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut octets = [0; 1024];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut octets).await {
                        Ok(bytes) if bytes > 0 => head.extend_from_slice(&octets[..bytes]),
                        _ => return,
                    }
                }
                let text = answer(&String::from_utf8(head).unwrap());
                let _ = stream.write_all(text.as_bytes()).await;
            });
        }
    });
    port
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn http_is_judged_by_status_and_body() {
    let port = serve(|head| match head.split(' ').nth(1).unwrap() {
        "/ok" if head.contains(&"host: www.example.com\r\n".to_owned()) => {
            response("200 OK", "", "all is well")
        }
        "/down" => response("503 Service Unavailable", "", ""),
        _ => response("404 Not Found", "", ""),
    })
    .await;
    let shared = local();
    let ok = HttpCheck { path: "/ok".into(), host: Some("www.example.com".into()), ..http(port) };
    assert_eq!(good(probe(&shared, &Check::Http(ok.clone())).await).cause, "status 200");
    let body = |text: &str| Check::Http(HttpCheck { body_contains: Some(text.into()), ..ok.clone() });
    good(probe(&shared, &body("is well")).await);
    assert!(bad(probe(&shared, &body("is ill")).await).contains("`is ill` is not in the first 11 bytes"));
    let down = HttpCheck { path: "/down".into(), ..http(port) };
    assert_eq!(bad(probe(&shared, &Check::Http(down.clone())).await), "status 503 instead of 200 to 399");
    good(probe(&shared, &Check::Http(HttpCheck { status: (503, 503), ..down })).await);
    let head = HttpCheck { head: true, ..ok };
    good(probe(&shared, &Check::Http(head)).await);
    // Nobody listens there.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert!(bad(probe(&shared, &Check::Http(http(gone))).await).contains("refused"));
    assert!(
        unable(probe(&shared, &Check::Http(HttpCheck { path: "no path".into(), ..http(port) })).await)
            .contains("sent")
    );
}

#[tokio::test]
async fn redirects_are_followed_so_far_and_no_further() {
    let port = serve(|head| match head.split(' ').nth(1).unwrap() {
        "/a" => response("302 Found", "Location: b\r\n", ""),
        "/b" => response("301 Moved", "Location: /c?x#y\r\n", ""),
        "/c?x" => response("200 OK", "", "here"),
        "/inside" => response("307 Moved", "Location: http://10.0.0.1/\r\n", ""),
        "/metadata" => response("302 Found", "Location: //169.254.169.254/latest/\r\n", ""),
        "/file" => response("302 Found", "Location: file:///etc/passwd\r\n", ""),
        _ => response("302 Found", "Location: /for/ever\r\n", ""),
    })
    .await;
    let shared = local();
    let from = |path: &str, redirects| {
        Check::Http(HttpCheck { path: path.into(), redirects, status: (200, 299), ..http(port) })
    };
    assert_eq!(good(probe(&shared, &from("/a", 2)).await).cause, "status 200");
    assert!(
        bad(probe(&shared, &from("/a", 1)).await).contains("status 301"),
        "what comes after the last is judged"
    );
    assert!(bad(probe(&shared, &from("/ever", 255)).await).contains("status 302"));
    for (path, why) in [("/inside", "private use"), ("/metadata", "link-local"), ("/file", "redirects to")] {
        let said = bad(probe(&shared, &from(path, 5)).await);
        assert!(said.contains(why), "{path}: {said}");
    }
}

#[tokio::test]
async fn hostile_endpoints_cost_no_more_than_their_time() {
    // It accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    // A body without an end, as fast as it is taken.
    let endless = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endless_port = endless.local_addr().unwrap().port();
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = sent.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = endless.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut octets = [0; 1024];
                let _ = stream.read(&mut octets).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                    counted.fetch_add(4096, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    // A head without an end.
    let long_head = serve(|_| format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000))).await;
    // One octet of its answer at a time.
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow_port = slow.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = slow.accept().await {
            tokio::spawn(async move {
                for octet in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".iter().cycle() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if stream.write_all(&[*octet]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let shared = local();
    let short = Duration::from_millis(300);
    assert_eq!(bad(probe_within(&shared, &Check::Http(http(silent_port)), short).await), "time");
    assert_eq!(bad(probe_within(&shared, &Check::Http(http(slow_port)), short).await), "time");
    assert!(bad(probe(&shared, &Check::Http(http(long_head))).await).contains("HTTP"));
    let wanted = HttpCheck { body_contains: Some("y".into()), ..http(endless_port) };
    assert!(bad(probe(&shared, &Check::Http(wanted)).await).contains("in the first 65536 bytes"));
    // What the kernel took into its buffers is all there is more.
    assert!(sent.load(std::sync::atomic::Ordering::Relaxed) < 32 * 1024 * 1024);
}

/// A TLS server with a certificate for this name that ends then; gives its port and its certificate as a root.
async fn serve_tls(name: &str, days: i64) -> (u16, RootCertStore) {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let year = if days > 365 { 2090 } else { 2020 };
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut octets = [0; 1024];
                let _ = stream.read(&mut octets).await;
                let _ = stream.write_all(response("200 OK", "", "").as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, roots)
}

#[tokio::test]
async fn certificates_are_looked_at() {
    let (port, roots) = serve_tls("www.example.com", 10_000).await;
    let shared = shared(roots, Resolver::System, &["127.0.0.0/8"]);
    let check = |tls: TlsCheck| Check::Tls { target: "127.0.0.1".into(), port, tls };
    let named = TlsCheck { sni: Some("www.example.com".into()), ..TlsCheck::default() };
    let ends_s = good(probe(&shared, &check(named.clone())).await).certificate_ends_s;
    assert_eq!(ends_s, Some(3_786_912_000), "2090-01-01");
    assert!(bad(probe(&shared, &check(TlsCheck::default())).await).contains("not valid for name"));
    let any = TlsCheck { accept_any: true, ..TlsCheck::default() };
    good(probe(&shared, &check(any.clone())).await);
    let days = TlsCheck { days_left_min: 60_000, ..named.clone() };
    assert!(bad(probe(&shared, &check(days)).await).contains("60000 are asked for"));
    let https =
        HttpCheck { tls: Some(TlsCheck::default()), host: Some("www.example.com".into()), ..http(port) };
    assert_eq!(good(probe(&shared, &Check::Http(https)).await).certificate_ends_s, ends_s);

    let (old, roots) = serve_tls("www.example.com", 0).await;
    let shared = self::shared(roots, Resolver::System, &["127.0.0.0/8"]);
    let check = |tls: TlsCheck| Check::Tls { target: "127.0.0.1".into(), port: old, tls };
    assert!(bad(probe(&shared, &check(named)).await).contains("xpired"));
    good(probe(&shared, &check(any)).await);
}

#[tokio::test]
async fn tcp_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = Check::Tcp { target: "127.0.0.1".into(), port };
    good(probe(&local(), &check).await);
    drop(listener);
    bad(probe(&local(), &check).await);
}

/// A name server that answers each question with the address of the moment, and each with a TTL of zero.
async fn serve_dns(addresses: Vec<[u8; 4]>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut asked = 0;
        let mut octets = [0; 1500];
        while let Ok((bytes, from)) = socket.recv_from(&mut octets).await {
            let question_end = octets[12..bytes].iter().position(|octet| *octet == 0).unwrap() + 12 + 5;
            let mut answer = octets[..question_end].to_vec();
            let is_a = octets[question_end - 3] == 1;
            answer[2] |= 0x80;
            answer[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
            if is_a {
                let address = addresses[asked.min(addresses.len() - 1)];
                asked += 1;
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend_from_slice(&address);
            }
            let _ = socket.send_to(&answer, from).await;
        }
    });
    server
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_the_next_moment_leads_nowhere() {
    let port = serve(|_| response("200 OK", "", "")).await;
    let resolver = serve_dns(vec![[127, 0, 0, 1], [10, 0, 0, 1], [127, 0, 0, 1]]).await;
    let shared = shared(RootCertStore::empty(), Resolver::At(resolver), &["127.0.0.0/8"]);
    let check = Check::Http(HttpCheck { target: "rebind.example.com".into(), ..http(port) });
    good(probe(&shared, &check).await);
    let said = unable(probe(&shared, &check).await);
    assert!(said.contains("10.0.0.1 is not probed: private use"), "{said}");
    good(probe(&shared, &check).await);
}

#[tokio::test]
async fn a_name_server_is_asked() {
    let server = serve_dns(vec![[192, 0, 2, 7]]).await;
    let check = |rcode, contains: Option<&str>| Check::Dns {
        target: "127.0.0.1".into(),
        port: server.port(),
        name: Name::parse("www.example.com").unwrap(),
        rtype: 1,
        rcode,
        contains: contains.map(str::to_owned),
    };
    let shared = local();
    good(probe(&shared, &check(0, None)).await);
    good(probe(&shared, &check(0, Some("192.0.2.7"))).await);
    assert!(bad(probe(&shared, &check(3, None)).await).contains("RCODE 0 instead of 3"));
    assert!(bad(probe(&shared, &check(0, Some("192.0.2.8"))).await).contains("not among the 1 answers"));
    assert!(unable(probe(&shared, &check(0, Some("no address"))).await).contains("no RDATA"));
}

#[tokio::test]
async fn special_addresses_are_not_probed_unless_allowed() {
    let nobody = shared(RootCertStore::empty(), Resolver::System, &[]);
    for target in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "fc00::1",
        "fe80::1",
        "ff02::1",
        "[::1]",
    ] {
        let check = Check::Tcp { target: target.into(), port: 9 };
        assert!(unable(probe(&nobody, &check).await).contains("is not probed"), "{target}");
        let check = Check::Icmp { target: target.into() };
        assert!(unable(probe(&nobody, &check).await).contains("is not probed"), "{target}");
    }
}

#[tokio::test]
async fn an_echo_is_answered_or_not_permitted() {
    for target in ["127.0.0.1", "::1"] {
        let shared = shared(RootCertStore::empty(), Resolver::System, &["127.0.0.0/8", "::1"]);
        match probe(&shared, &Check::Icmp { target: target.into() }).await {
            Outcome::Good(good) => assert_eq!(good.cause, "echo reply"),
            Outcome::Unable(_) => {}
            Outcome::Bad(why) => assert!(target == "::1", "{why}"),
        }
    }
}

#[test]
fn what_changes_is_told_and_what_is_gone_is_not_probed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (told, answered) = (seen.clone(), answers.clone());
    let prober = Prober::with_roots(Resolver::System, RootCertStore::empty, move |what| match what {
        Told::Seen(one) => told.lock().unwrap().push(one),
        Told::Answer(answer) => answered.lock().unwrap().push(answer),
    });
    let prober = prober.unwrap();
    let pace = Pace {
        interval_ms: 100,
        timeout_ms: 1000,
        rise: 1,
        fall: 2,
        probers: 1,
        quorum: None,
        recovery_ms: 0,
    };
    let probe = |monitor, is_chosen| Probe {
        monitor: MonitorId(monitor),
        revision: 7,
        check: Check::Tcp { target: "127.0.0.1".into(), port },
        pace,
        is_chosen,
        // No policy goes by the last one.
        is_local: (!is_chosen).then_some(monitor != 4),
    };
    let allowed = vec!["127.0.0.0/8".parse().unwrap()];
    prober.set(Probes {
        is_all: true,
        puts: vec![probe(1, true), probe(2, false), probe(4, false)],
        allowed,
        ..Probes::default()
    });
    let wait = |what: &str, is_so: &dyn Fn(&[Seen]) -> bool| {
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while !is_so(&seen.lock().unwrap()) {
            assert!(std::time::Instant::now() < until, "{what}: {:?}", seen.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let last = |seen: &[Seen], monitor| {
        seen.iter().rev().find(|one| one.monitor == MonitorId(monitor)).map(|one| (one.revision, one.up))
    };
    wait("up", &|seen| last(seen, 1) == Some((7, Some(true))));
    assert_eq!(last(&seen.lock().unwrap(), 2), None, "others were chosen for it");
    // Who asks for it now gets it, chosen or not, and nothing else comes of that.
    let allowed = vec!["127.0.0.0/8".parse().unwrap()];
    let ask = |request, monitor| ProbeNow { request, monitor: MonitorId(monitor) };
    prober.set(Probes { now: Some(vec![ask(1, 2), ask(2, 3)]), allowed, ..Probes::default() });
    wait("answers", &|_| answers.lock().unwrap().len() == 2);
    let mut answered = answers.lock().unwrap().clone();
    answered.sort_by_key(|answer| answer.request);
    assert_eq!((answered[0].good, answered[1].good), (Some(true), None), "{answered:?}");
    assert!(answered[0].cause.contains("connected to") && answered[1].cause.contains("doesn't know"));
    assert_eq!(last(&seen.lock().unwrap(), 2), None);
    prober.set_isolated(true);
    wait("the other one, too", &|seen| last(seen, 2) == Some((7, Some(true))));
    drop(listener);
    wait("down", &|seen| last(seen, 1) == Some((7, Some(false))) && last(seen, 2) == Some((7, Some(false))));
    assert_eq!(last(&seen.lock().unwrap(), 4), None, "no policy goes by it");
    let told = seen.lock().unwrap().len();
    assert!(told <= 4, "only changes are told: {told}");
}
