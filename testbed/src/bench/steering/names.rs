//! Very many steered names: zones of a thousand, each name with a policy and a pool of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::address_of;
use crate::api::Api;
use crate::dns::{self, Transport};
use crate::platform::Platform;
use crate::wait::wait_until;

/// Names of a zone.
pub const NAMES_A_ZONE: u64 = 1_000;

/// Requests under way while zones are made.
const MAKERS: u64 = 2;

/// How long it may take until PoPs have all.
const LOADED_WITHIN: Duration = Duration::from_secs(900);

/// The zone of name `number`.
pub fn zone(number: u64) -> String {
    format!("steer-{:05}.example.", number / NAMES_A_ZONE)
}

/// The label of name `number`, which is its pool's too.
pub fn label(number: u64) -> String {
    format!("host-{:03}", number % NAMES_A_ZONE)
}

/// Name `number`.
pub fn name(number: u64) -> String {
    format!("{}.{}", label(number), zone(number))
}

/// The two addresses of a name.
pub fn addresses(number: u64) -> [Ipv4Addr; 2] {
    [number * 2, number * 2 + 1].map(|n| address_of(n).parse().expect("an address"))
}

/// The pool of a name with these weights of its two endpoints.
pub fn pool(number: u64, weights: [u32; 2]) -> Value {
    let [a, b] = addresses(number);
    json!({ "ttl": 30, "answer": "one", "endpoints": [
        { "name": "a", "records": { "A": [a] }, "weight": weights[0] },
        { "name": "b", "records": { "A": [b] }, "weight": weights[1] },
    ] })
}

/// What names are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each with a policy and a pool, in which the first endpoint has all the weight.
    Steered,
    /// Each with an A record: what the steered ones are compared with.
    Plain,
}

/// Makes `count` names, a whole number of zones, and waits until every PoP answers the last one.
///
/// # Panics
/// If something is refused.
pub fn make(platform: &Platform, count: u64, kind: Kind) {
    let zones = count / NAMES_A_ZONE;
    let (address, token) = (platform.tenant.address(), platform.tenant.token());
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            scope.spawn(move || {
                let api = Api::new(address, token);
                for number in (maker..zones).step_by(usize::try_from(MAKERS).expect("few")) {
                    make_zone(&api, number * NAMES_A_ZONE, kind);
                }
            });
        }
    });
    platform.wait_until_in_sync();
    for pop in &platform.pops {
        let last = name(count - 1);
        wait_until(LOADED_WITHIN, &last, || is_answered(pop.listen, &last))
            .unwrap_or_else(|e| panic!("{e}\n{}", pop.tail()));
    }
}

fn make_zone(api: &Api, first: u64, kind: Kind) {
    let zone = zone(first);
    let numbers = first..first + NAMES_A_ZONE;
    match kind {
        Kind::Plain => {
            let record =
                |n| json!({ "name": label(n), "type": "A", "ttl": 30, "records": [addresses(n)[0]] });
            let rrsets: Vec<Value> = numbers.map(record).collect();
            api.post("/zones", &json!({ "name": zone, "rrsets": rrsets })).expect(201);
        }
        Kind::Steered => {
            api.post("/zones", &json!({ "name": zone })).expect(201);
            let pools: serde_json::Map<String, Value> =
                numbers.clone().map(|n| (label(n), pool(n, [1, 0]))).collect();
            let policy = |n| json!({ "name": label(n), "type": "A", "rules": [{ "pools": [label(n)] }] });
            let policies: Vec<Value> = numbers.map(policy).collect();
            let document = json!({ "pools": pools, "policies": policies });
            api.put(&format!("/zones/{zone}/steering"), &document).expect(200);
        }
    }
}

fn is_answered(server: SocketAddr, name: &str) -> bool {
    dns::query(server, name, "A", Transport::Udp).is_ok_and(|answer| !answer.values("A").is_empty())
}
