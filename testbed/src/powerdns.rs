//! PowerDNS Authoritative with LMDB, the peer that writes and propagation are measured against.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::http;
use crate::loopback;
use crate::process::{Launch, Process};
use crate::wait::wait_until;

/// How long it may take until its API answers.
const START_WITHIN: Duration = Duration::from_secs(30);

/// The API key of every PowerDNS here: it is reached on loopback only.
pub const API_KEY: &str = "testbed";

/// A running PowerDNS, a primary.
#[derive(Debug)]
pub struct PowerDns {
    /// Where it answers DNS.
    pub listen: SocketAddr,
    /// Where its API is.
    pub api: SocketAddr,
    /// The guard of its process.
    pub process: Process,
}

impl PowerDns {
    /// Starts one on a new database in `folder`, which notifies `secondaries`; `environment` is set for it.
    ///
    /// Set up as its manual advises for a primary that is driven by the API. `lmdb-sync-mode=sync` is said though
    /// 4.7's default comes to the same: an answered change is on disk. The name servers in NS records are not
    /// looked up, only the given secondaries are notified, and no security status is polled for.
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn start(
        folder: &Path,
        listen: SocketAddr,
        secondaries: &[SocketAddr],
        environment: &[(&str, String)],
    ) -> Self {
        let home = folder.join("powerdns");
        fs::create_dir_all(&home).unwrap_or_else(|e| panic!("{}: {e}", home.display()));
        let api = loopback::free_endpoint();
        let also_notify: Vec<String> = secondaries.iter().map(ToString::to_string).collect();
        let config = format!(
            "launch=lmdb\nlmdb-filename={home}/pdns.lmdb\nlmdb-sync-mode=sync\n\
             local-address={ip}\nlocal-port={port}\n\
             primary=yes\nalso-notify={also_notify}\nonly-notify=\nallow-axfr-ips=127.0.0.0/8\n\
             api=yes\napi-key={API_KEY}\nwebserver=yes\nwebserver-address={api_ip}\nwebserver-port={api_port}\n\
             webserver-allow-from=127.0.0.0/8\nwebserver-loglevel=none\nloglevel=3\n\
             security-poll-suffix=\nsocket-dir={home}\ndaemon=no\nguardian=no\nwrite-pid=no\n",
            home = home.display(),
            ip = listen.ip(),
            port = listen.port(),
            also_notify = also_notify.join(","),
            api_ip = api.ip(),
            api_port = api.port(),
        );
        fs::write(home.join("pdns.conf"), config).expect("the folder was just made");
        let mut launch = Launch::new("powerdns", "/usr/sbin/pdns_server", &home)
            .arg(format!("--config-dir={}", home.display()));
        for (key, value) in environment {
            launch = launch.env(key, value);
        }
        let mut powerdns = Self { listen, api, process: launch.start() };
        wait_until(START_WITHIN, "PowerDNS' API to answer", || {
            assert!(powerdns.process.is_running(), "PowerDNS ended\n{}", powerdns.process.tail());
            powerdns.call("GET", "", "").is_ok_and(|reply| reply.status == 200)
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", powerdns.process.tail()));
        powerdns
    }

    /// Makes a primary zone with A records of these owner names (relative) and values.
    ///
    /// # Panics
    /// If it is refused.
    pub fn create_zone(&self, zone: &str, records: &[(String, String)]) {
        let rrsets: Vec<_> = records
            .iter()
            .map(|(name, value)| {
                serde_json::json!({
                    "name": format!("{name}.{zone}"), "type": "A", "ttl": 300, "changetype": "REPLACE",
                    "records": [{ "content": value, "disabled": false }],
                })
            })
            .collect();
        let body = serde_json::json!({
            "name": zone, "kind": "Master", "nameservers": [format!("ns1.{zone}")], "rrsets": rrsets,
        });
        let reply = self.call("POST", "/zones", &body.to_string()).expect("its API answers");
        assert_eq!(reply.status, 201, "{zone}: {}", String::from_utf8_lossy(&reply.body));
    }

    fn call(&self, method: &str, path: &str, body: &str) -> std::io::Result<http::Reply> {
        let path = format!("{PATH}{path}");
        http::call(self.api, &http::request(method, &path, self.api, AUTHORIZATION, body))
    }
}

/// The prefix of the API's paths.
const PATH: &str = "/api/v1/servers/localhost";

/// The header that lets a request in.
const AUTHORIZATION: &str = "X-API-Key: testbed";

/// The request that sets one A record.
pub fn set_address(api: SocketAddr, zone: &str, name: &str, value: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"rrsets":[{{"name":"{name}.{zone}","type":"A","ttl":300,"changetype":"REPLACE","records":[{{"content":"{value}","disabled":false}}]}}]}}"#
    );
    http::request("PATCH", &format!("{PATH}/zones/{zone}"), api, AUTHORIZATION, &body)
}

/// The request that has the secondaries notified at once, instead of at the next minute's check.
pub fn notify(api: SocketAddr, zone: &str) -> Vec<u8> {
    http::request("PUT", &format!("{PATH}/zones/{zone}/notify"), api, AUTHORIZATION, "")
}
