//! Over real connections: TLS, time limits, a graceful end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{SOON, World};
use crate::delegation::Resolver;
use crate::edge::{ConnectionLimits, Limits, ServeLimits, serve};

async fn served(world: &World) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving =
        tokio::spawn(serve(listener, world.router.clone(), None, shutdown.clone(), ServeLimits::default()));
    (address, shutdown, serving)
}

async fn exchange(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("}\n")
        && !answer.ends_with(b"}")
        && !answer.ends_with(b"ok\n")
    {
        let read = tokio::time::timeout(SOON, stream.read(&mut part)).await.unwrap().unwrap();
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&part[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_that_run_are_finished_and_then_it_ends() {
    let world = World::new().await;
    world.zone("example.com").await;
    world.operator("POST", "/pops").json(&json!({ "name": "ams" })).send().await.ok(201);
    let (address, shutdown, serving) = served(&world).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    assert!(
        exchange(&mut idle, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 200 OK")
    );
    let body = json!({ "ttl": 60, "records": ["192.0.2.1"] }).to_string();
    let request = format!(
        "PUT /api/v1/zones/example.com/rrsets/a/A?wait=all&timeout_ms=500 HTTP/1.1\r\nhost: x\r\n\
         authorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        world.alice,
        body.len()
    );
    let running = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        exchange(&mut stream, &request).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    shutdown.cancel();
    // The one that runs is answered, the idle one is closed, and no other is accepted.
    assert!(running.await.unwrap().starts_with("HTTP/1.1 202 Accepted"));
    tokio::time::timeout(SOON, serving).await.unwrap().unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

/// A body that nobody reads ends the connection after the answer, and the answer says so.
#[tokio::test]
async fn who_sends_what_is_not_read_is_told_that_the_connection_ends() {
    let world = World::new().await;
    let (address, shutdown, served) = served(&world).await;
    let answer = async |request: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        exchange(&mut stream, &request).await.to_ascii_lowercase()
    };
    let head = "POST /api/v1/heartbeats/nobody HTTP/1.1\r\nHost: h\r\n";
    let closes = "\r\nconnection: close\r\n";
    assert!(answer(format!("{head}Content-Length: 2\r\n\r\n{{}}")).await.contains(closes));
    assert!(!answer(format!("{head}Content-Length: 0\r\n\r\n")).await.contains(closes));
    let token = &world.alice;
    let zone = r#"{"name": "example.com"}"#;
    let create = format!(
        "POST /api/v1/zones HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{zone}",
        zone.len()
    );
    let created = answer(create).await;
    assert!(created.starts_with("http/1.1 201 ") && !created.contains(closes), "{created}");
    shutdown.cancel();
    served.await.unwrap();
}

#[tokio::test]
async fn garbage_is_no_request() {
    let world = World::new().await;
    let (address, ..) = served(&world).await;
    for garbage in [
        "\x16\x03\x01\x02\x00\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        &format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        _ = stream.write_all(garbage.as_bytes()).await;
        let mut answer = Vec::new();
        _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(
        exchange(&mut stream, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
}

#[tokio::test]
async fn over_tls() {
    use rustls::pki_types::ServerName;

    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let args = crate::config::ServeArgs {
        data: Some(dir.path().into()),
        tls_cert: Some(cert),
        tls_key: Some(key),
        ..Default::default()
    };
    let config = crate::config::Config::load(args).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(
        listener,
        world.router.clone(),
        config.tls,
        CancellationToken::new(),
        ServeLimits::default(),
    ));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let answer = exchange(&mut stream, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    // In the clear it is refused, and does no harm.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = {
        _ = stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await;
        let mut answer = Vec::new();
        _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
        answer
    };
    assert!(!answer.starts_with(b"HTTP"));
}

/// With these limits, on a loopback port.
async fn served_with(world: &World, limits: ServeLimits) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, world.router.clone(), None, CancellationToken::new(), limits));
    address
}

/// What comes until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it is closed soon");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn is_healthy(address: std::net::SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    asked.is_ok() && rest(&mut stream).await.starts_with("HTTP/1.1 200 OK")
}

#[tokio::test]
async fn who_is_slow_is_cut_off() {
    let world = World::with(
        Limits { body_time: Duration::from_millis(200), ..Limits::default() },
        Resolver::new(vec!["127.0.0.1:1".parse().unwrap()]),
    )
    .await;
    let brief = Duration::from_millis(200);
    let address =
        served_with(&world, ServeLimits { head_time: brief, stall_time: brief, ..ServeLimits::default() })
            .await;
    // Nothing, half a head, a second head that doesn't come.
    for begin in
        ["", "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /"]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert_eq!(answer.contains("200 OK"), begin.ends_with("GET /"), "{answer}");
    }
    // A body that stops.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /api/v1/tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{\"name\":",
        world.alice
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("problem:timeout"), "{answer}");
}

/// Somebody who asks for much and reads nothing of it is let go: the one connection that there may be is free again.
#[tokio::test]
async fn who_does_not_read_is_let_go() {
    let world = World::new().await;
    world.zone("example.com").await;
    // More than the kernel takes in for a connection.
    let text = format!("\"{}\"", "x".repeat(250)).repeat(16);
    let file: String = (0..4_000).map(|n| format!("h{n} 300 TXT {text}\n")).collect();
    world.alice("POST", "/zones/example.com/import").body("text/dns", file).send().await.ok(200);
    let connections = ConnectionLimits { total: 1, per_address: 1 };
    let stall_time = Duration::from_millis(300);
    let address =
        served_with(&world, ServeLimits { connections, stall_time, ..ServeLimits::default() }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/zones/example.com/export HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        world.alice
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    assert!(!is_healthy(address).await, "there is room for one");
    let freed = async {
        while !is_healthy(address).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, freed).await.expect("the one that reads nothing is let go");
}

#[tokio::test]
async fn idle_connections_are_in_nobodys_way() {
    let world = World::new().await;
    let connections = ConnectionLimits { total: 16, per_address: 16 };
    let address = served_with(&world, ServeLimits { connections, ..ServeLimits::default() }).await;
    let mut idle = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Every other one says something, and not enough.
        if n % 2 == 0 {
            stream.write_all(b"GET /he").await.unwrap();
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        assert!(is_healthy(address).await);
    }
    // Those that are gone are those that were there first.
    for stream in &mut idle[..150] {
        assert_eq!(rest(stream).await, "");
    }
}
