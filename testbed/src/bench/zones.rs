//! Many small zones, as a platform has them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::Api;
use crate::herald::Herald;
use crate::load::{self, Pace};
use crate::platform::Platform;
use crate::{address_of, http};

/// Records of each zone, besides its SOA and NS.
pub const RECORDS_A_ZONE: u64 = 10;

const CONNECTIONS: usize = 32;

/// Zones of a batch, and batches under way.
const BATCH_ZONES: u64 = 500;
const BATCHES_AT_ONCE: usize = 2;

/// The name of zone `number`.
pub fn name(number: u64) -> String {
    format!("shop-{number:06}.example.")
}

/// The owner and the value of the A record that tells whether zone `number` is there.
pub fn proof(number: u64) -> (String, Ipv4Addr) {
    (format!("www.{}", name(number)), address_of(number).parse().expect("an address"))
}

/// The body that makes zone `number`.
pub fn body(number: u64) -> Value {
    let name = name(number);
    let set = |owner: &str, rtype: &str, records: &[&str]| json!({ "name": owner, "type": rtype, "ttl": 300, "records": records });
    let address = address_of(number);
    json!({
        "name": name,
        "labels": { "plan": if number.is_multiple_of(10) { "gold" } else { "free" } },
        "rrsets": [
            set("@", "A", &["192.0.2.80"]),
            set("@", "AAAA", &["2001:db8::80"]),
            set("@", "MX", &[&format!("10 mail.{name}"), "20 mx.mail.example."]),
            set("@", "TXT", &["\"v=spf1 include:spf.mail.example -all\""]),
            set("@", "CAA", &["0 issue \"ca.example\""]),
            set("www", "A", &[&address]),
            set("www", "AAAA", &["2001:db8::80"]),
            set("mail", "A", &["192.0.2.25"]),
            set("_dmarc", "TXT", &["\"v=DMARC1; p=reject\""]),
        ],
    })
}

/// Makes zones `0..count` through batches, as fast as they are accepted, and gives how many that were a second.
///
/// # Panics
/// If one is refused.
pub fn make(herald: &Herald, tenant: &Api, count: u64) -> f64 {
    let (start, next) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..BATCHES_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(BATCH_ZONES, Ordering::Relaxed);
                    if first >= count {
                        return;
                    }
                    let zones: Vec<Value> = (first..count.min(first + BATCH_ZONES)).map(body).collect();
                    let reply = tenant.post("/batches", &json!({ "create": zones }));
                    assert_eq!(reply.status, 201, "{}\n{}", reply.text, herald.tail());
                }
            });
        }
    });
    count as f64 / start.elapsed().as_secs_f64()
}

/// Makes zones from number `first` on, so many a second, until `done`.
///
/// # Panics
/// If one is refused.
pub fn make_meanwhile(platform: &Platform, first: u64, per_s: u32, done: &AtomicBool) {
    let api = platform.herald.api;
    let authorization = format!("Authorization: Bearer {}", platform.tenant.token());
    let pace = Pace::Open { start: Instant::now(), every: Duration::from_secs(1) / per_s, count: u64::MAX };
    let stop = || done.load(Ordering::SeqCst);
    load::run(api, CONNECTIONS, pace, first, &mut requests(api, &authorization), &stop)
        .unwrap_or_else(|e| panic!("{e}\n{}", platform.herald.tail()));
}

fn requests(api: SocketAddr, authorization: &str) -> impl FnMut(u64, usize, &mut Vec<u8>) -> bool {
    move |number, step, out| {
        if step == 0 {
            let body = body(number).to_string();
            out.extend(http::request("POST", "/api/v1/zones", api, authorization, &body));
        }
        step == 0
    }
}

/// A platform whose `pops` PoPs have zones `0..count`.
///
/// # Panics
/// If it doesn't come to stand.
pub fn platform(label: &str, pops: usize, count: u64) -> Platform {
    let mut platform = Platform::without_pops(label);
    make(&platform.herald, &platform.tenant, count);
    platform.add_pops(pops, None);
    platform.wait_until_in_sync_within(sent_within(count));
    platform
}

/// How long PoPs may take to be sent so many zones, each: far more than they need.
pub fn sent_within(count: u64) -> Duration {
    Duration::from_secs(60) + Duration::from_millis(6) * u32::try_from(count).expect("a run is short")
}
