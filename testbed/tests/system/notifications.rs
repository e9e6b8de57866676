//! Verdicts are told to who asked: by webhook across a killed control plane, and by e-mail through a real SMTP server.

use std::fs;
use std::net::TcpStream;
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
    let input = json!({
        "name": "cron", "check": { "kind": "heartbeat" }, "pace": { "interval_ms": 1000, "timeout_ms": 1000 },
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
    let heartbeat = heartbeat(&platform);
    platform.tenant.post(&heartbeat, &json!({}));
    let told = wait_for(SOON, "two mails", || Some(mails(&folder)).filter(|mails| mails.len() >= 2));
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
