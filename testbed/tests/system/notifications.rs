//! Verdicts are told to who asked: by webhook across a killed control plane, and by e-mail through a real SMTP server.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::endpoint::Endpoint;
use testbed::herald::program;
use testbed::loopback;
use testbed::platform::Platform;
use testbed::process::{Launch, Process};
use testbed::wait::{wait_for, wait_until};

use crate::certificate::make_certificate;

const SOON: Duration = Duration::from_secs(60);

/// aiosmtpd, which keeps what it takes in a Maildir.
fn smtp_server(folder: &Path) -> (Process, String) {
    let address = loopback::free_endpoint();
    let server = Launch::new("aiosmtpd", "aiosmtpd", folder)
        .args(["--nosetuid", "--listen"])
        .arg(address.to_string())
        .args(["--class", "aiosmtpd.handlers.Mailbox"])
        .arg(folder.join("mail"))
        .start();
    wait_until(SOON, "the SMTP server", || TcpStream::connect(address).is_ok()).unwrap();
    (server, format!("smtp://{address}"))
}

/// The messages that the server has taken.
fn mails(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder.join("mail/new")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
}

fn heartbeat(platform: &Platform) -> String {
    heartbeat_named(platform, "cron")
}

fn heartbeat_named(platform: &Platform, name: &str) -> String {
    let input = json!({
        "name": name, "check": { "kind": "heartbeat" }, "pace": { "interval_ms": 1000, "timeout_ms": 1000 },
    });
    let made = platform.tenant.post("/monitors", &input).expect(201);
    made["item"]["heartbeat_path"].as_str().unwrap().to_owned()
}

fn deliveries(platform: &Platform, channel: &str) -> Value {
    platform.tenant.get(&format!("/channels/{channel}")).expect(200)["deliveries"].clone()
}

fn koder(platform: &Platform, line: &str) -> Output {
    Command::new(program("koder"))
        .args(line.split(' '))
        .env_clear()
        .env("KODER_SERVER", format!("http://{}", platform.herald.api))
        .env("KODER_TOKEN", platform.tenant.token())
        .output()
        .expect("koder can be run")
}

/// What is under a key anywhere in the folder's files.
fn is_in_files(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return is_in_files(&path, text);
        }
        let content = fs::read(&path).unwrap_or_default();
        content.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[test]
fn a_webhook_outlives_a_killed_control_plane() {
    let mut platform = Platform::without_pops("webhook");
    platform.herald.operator().put("/probe-rules", &json!({ "allowed": ["127.0.0.0/8"] })).expect(200);
    // Nobody listens there yet.
    let address = loopback::free_endpoint();
    let body =
        json!({ "name": "ops", "receiver": { "kind": "webhook", "url": format!("http://{address}/in") } });
    let made = platform.tenant.post("/channels", &body).expect(201);
    let secret = made["item"]["secret"].as_str().unwrap().to_owned();
    heartbeat(&platform);
    wait_until(SOON, "a failure", || deliveries(&platform, "ops")["last_failed_at_ms"].is_u64()).unwrap();
    platform.herald.kill();
    let receiver = Endpoint::start(address);
    platform.herald.restart();
    wait_until(SOON, "the message", || !receiver.requests().is_empty()).unwrap();
    let first = &receiver.requests()[0];
    assert!(first.starts_with("POST /in HTTP/1.1\r\n"), "{first}");
    for wanted in ["webhook-id: msg_c", "webhook-timestamp: 1", "webhook-signature: v1,", "\"monitor.down\""]
    {
        assert!(first.contains(wanted), "{wanted} is not in {first}");
    }
    wait_until(SOON, "that it is noted", || deliveries(&platform, "ops")["pending"] == 0).unwrap();
    assert_eq!(deliveries(&platform, "ops")["delivered"], 1);

    let tested = koder(&platform, "dns channel test ops");
    assert!(tested.status.success(), "{tested:?}");
    assert!(receiver.requests().last().unwrap().contains("channel.test"));
    drop(receiver);
    wait_until(SOON, "another test to be let", || {
        koder(&platform, "dns channel test ops").status.code() == Some(1)
    })
    .unwrap();
    // Neither the log nor a daemon's output has the secret.
    platform.herald.stop().unwrap();
    assert!(!is_in_files(&platform.folder("herald"), secret.strip_prefix("whsec_").unwrap()));
}

/// The owner of the address reads the code, and the tenant types it.
fn confirm(platform: &Platform, folder: &Path) {
    let asked = wait_for(SOON, "the code", || mails(folder).pop()).unwrap();
    for wanted in
        ["Subject: Confirm a notification channel", "by the channel mail", "X-RcptTo: ops@example.com"]
    {
        assert!(asked.contains(wanted), "{wanted} is not in {asked}");
    }
    // A verdict isn't told before, and the code isn't sent to anybody's heart's content.
    platform.tenant.post(&heartbeat_named(platform, "early"), &json!({}));
    wait_until(SOON, "a verdict", || {
        platform.tenant.get("/monitors/early").expect(200)["state"] != "unknown"
    })
    .unwrap();
    let again = koder(platform, "dns channel test mail");
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("every ten minutes"),
        "{again:?}"
    );
    let wrong = koder(platform, "dns channel confirm mail AAAA-BBBB-CCCC-DDDD");
    assert!(!wrong.status.success(), "{wrong:?}");
    assert_eq!(platform.tenant.get("/channels/mail").expect(200)["confirmed"], false);

    let line = asked.lines().find_map(|line| line.trim().strip_prefix("koder ")).expect("a command");
    let done = koder(platform, line);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(platform.tenant.get("/channels/mail").expect(200)["confirmed"], true);
    assert_eq!(mails(folder).len(), 1);
    platform.tenant.delete("/monitors/early").expect(200);
}

#[test]
fn e_mail_comes_through_a_relay() {
    let mut platform = Platform::without_pops("email");
    let folder = platform.folder("smtp");
    let refused = json!({ "name": "mail", "receiver": { "kind": "email", "address": "ops@example.com" } });
    platform.tenant.post("/channels", &refused).expect(422);
    let (server, relay) = smtp_server(&folder);
    platform.herald.arguments = ["--mail-relay", &relay, "--mail-from", "Koder Herald <dns@herald.example>"]
        .map(str::to_owned)
        .into();
    platform.herald.stop().unwrap();
    platform.herald.restart();

    let made = koder(&platform, "dns channel create mail --email ops@example.com");
    assert!(made.status.success(), "{made:?}");
    confirm(&platform, &folder);
    let heartbeat = heartbeat(&platform);
    platform.tenant.post(&heartbeat, &json!({}));
    let told = wait_for(SOON, "two mails", || Some(mails(&folder)).filter(|mails| mails.len() >= 3));
    let told = told.unwrap_or_else(|e| panic!("{e}: {}", deliveries(&platform, "mail")));
    for (subject, text) in
        [("Subject: cron is up", "is up since"), ("Subject: cron is down", "is DOWN since")]
    {
        let mail = told.iter().find(|mail| mail.contains(subject)).unwrap_or_else(|| panic!("{told:?}"));
        for wanted in [
            text,
            "From: \"Koder Herald\" <dns@herald.example>",
            "To: ops@example.com",
            "Auto-Submitted: auto-generated",
            "Message-ID: <msg_c",
            "X-RcptTo: ops@example.com",
        ] {
            assert!(mail.contains(wanted), "{wanted} is not in {mail}");
        }
    }
    // A relay that is away is tried again.
    drop(server);
    platform.tenant.post(&heartbeat, &json!({}));
    wait_until(SOON, "a failure", || {
        deliveries(&platform, "mail")["last_error"].as_str().is_some_and(|why| why.contains("relay"))
    })
    .unwrap();
}

/// aiosmtpd as relays are: STARTTLS first, then a user and a password.
const STRICT_RELAY: &str = "\
import ssl, sys, threading
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult
host, port, cert, key, mail = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b'herald', b'open sesame'), handled=False)
Controller(Mailbox(mail), hostname=host, port=int(port), tls_context=context, require_starttls=True,
           auth_required=True, authenticator=authenticate).start()
threading.Event().wait()
";

/// An HTTPS server that answers each POST with 204.
const HTTPS_RECEIVER: &str = "\
import http.server, ssl, sys
host, port, cert, key = sys.argv[1:]
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        self.send_response(204)
        self.end_headers()
server = http.server.ThreadingHTTPServer((host, int(port)), Receiver)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

/// Starts a script of Debian's Python, which listens at the address when this returns.
fn script(name: &str, text: &str, folder: &Path, address: SocketAddr, more: &[&Path]) -> Process {
    let file = folder.join(format!("{name}.py"));
    fs::write(&file, text).unwrap();
    let process = Launch::new(name, "/usr/bin/python3", folder)
        .arg(&file)
        .args([address.ip().to_string(), address.port().to_string()])
        .args(more.iter().map(|path| path.to_path_buf()))
        .start();
    wait_until(SOON, name, || TcpStream::connect(address).is_ok())
        .unwrap_or_else(|e| panic!("{e}: {}", process.tail()));
    process
}

/// Webhooks by HTTPS and mail by STARTTLS go to those alone for whom an authority vouches that the host trusts, and a relay that asks
/// for a password gets it.
#[test]
fn receivers_are_known_by_their_certificates() {
    let mut platform = Platform::without_pops("tls");
    let folder = platform.folder("tls");
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name);
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let host = loopback::address().to_string();
    make_certificate(&host, &ca, &cert, &key);
    let (other_cert, other_key) = (file("other-cert.pem"), file("other-key.pem"));
    make_certificate(&host, &file("other-ca.pem"), &other_cert, &other_key);
    let address = loopback::free_endpoint;
    let (known, stranger, relay) = (address(), address(), address());
    let _known = script("known", HTTPS_RECEIVER, &folder, known, &[&cert, &key]);
    let _stranger = script("stranger", HTTPS_RECEIVER, &folder, stranger, &[&other_cert, &other_key]);
    let mail = file("mail");
    let _relay = script("relay", STRICT_RELAY, &folder, relay, &[&cert, &key, &mail]);

    let (right, wrong) = (file("password"), file("wrong"));
    fs::write(&right, "open sesame\n").unwrap();
    fs::write(&wrong, "open barley\n").unwrap();
    let start = |platform: &mut Platform, trusted: &Path, password: &Path| {
        let herald = &mut platform.herald;
        herald.environment.retain(|(key, _)| key != "SSL_CERT_FILE");
        herald.environment.push(("SSL_CERT_FILE".into(), trusted.into()));
        herald.arguments = [
            "--mail-relay",
            &format!("smtp://{relay}?tls=required"),
            "--mail-from",
            "dns@herald.example",
            "--mail-user",
            "herald",
            "--mail-password-file",
            password.to_str().unwrap(),
        ]
        .map(str::to_owned)
        .into();
        herald.stop().unwrap();
        herald.restart();
    };
    let test = |platform: &Platform, channel: &str| {
        let told: Value = platform.tenant.post(&format!("/channels/{channel}/test"), &json!({})).expect(200);
        told["error"].as_str().map(str::to_owned)
    };

    start(&mut platform, &ca, &right);
    platform.herald.operator().put("/probe-rules", &json!({ "allowed": ["127.0.0.0/8"] })).expect(200);
    for (name, address) in [("known", known), ("stranger", stranger)] {
        let receiver = json!({ "kind": "webhook", "url": format!("https://{address}/") });
        platform.tenant.post("/channels", &json!({ "name": name, "receiver": receiver })).expect(201);
    }
    assert_eq!(test(&platform, "known"), None);
    let refused = test(&platform, "stranger").expect("nobody vouches for it");
    assert!(refused.to_lowercase().contains("certificate"), "{refused}");
    let made = koder(&platform, "dns channel create mail --email ops@example.com");
    assert!(made.status.success(), "{made:?}");
    wait_until(SOON, "the code", || !mails(&folder).is_empty()).unwrap();

    // The code is asked for again, by a herald with the wrong password, and by one that doesn't know the relay.
    start(&mut platform, &ca, &wrong);
    let refused = test(&platform, "mail").expect("the password is wrong");
    assert!(refused.contains("535") && !refused.contains("barley"), "{refused}");
    start(&mut platform, &file("other-ca.pem"), &right);
    let refused = test(&platform, "mail").expect("nobody vouches for the relay");
    assert!(refused.to_lowercase().contains("certificate"), "{refused}");
    assert!(test(&platform, "known").is_some());
    assert_eq!((test(&platform, "stranger"), mails(&folder).len()), (None, 1));
}
