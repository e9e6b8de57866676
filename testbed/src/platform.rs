//! A whole platform for a test: a control plane, PoPs, a tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::api::Api;
use crate::delay::DelayProxy;
use crate::dns::{self, Record, Transport};
use crate::herald::{Herald, Pop};
use crate::knot::{Knot, zone_files_of};
use crate::loopback;
use crate::scratch::Scratch;
use crate::wait::{wait_for, wait_until};

/// How long the PoPs may take to be in sync.
const IN_SYNC_WITHIN: Duration = Duration::from_secs(60);

/// A running platform; all of it ends with this value.
#[derive(Debug)]
pub struct Platform {
    /// The control plane.
    pub herald: Herald,
    /// The PoPs `pop1`, `pop2` …
    pub pops: Vec<Pop>,
    /// A tenant.
    pub tenant: Api,
    // The last PoP's session goes through it, if that is far away.
    _far: Option<DelayProxy>,
    scratch: Scratch,
}

impl Platform {
    /// Starts one with `pops` PoPs.
    ///
    /// # Panics
    /// If it doesn't come to stand.
    pub fn start(label: &str, pops: usize) -> Self {
        Self::start_with(label, pops, None)
    }

    /// As [`Platform::start`], with the last PoP's session taking this long each way.
    ///
    /// # Panics
    /// If it doesn't come to stand.
    pub fn start_with(label: &str, pops: usize, far: Option<Duration>) -> Self {
        let mut platform = Self::without_pops(label);
        platform.add_pops(pops, far);
        platform
    }

    /// Starts a control plane with a tenant.
    ///
    /// # Panics
    /// If it doesn't come to stand.
    pub fn without_pops(label: &str) -> Self {
        let scratch = Scratch::new(label);
        let herald = Herald::start(&scratch.folder("herald"), &[]);
        herald.define_nameservers();
        let tenant = herald.tenant("tenant");
        Self { herald, pops: Vec::new(), tenant, _far: None, scratch }
    }

    /// Adds PoPs; with `far`, the last one's session takes this long each way.
    ///
    /// # Panics
    /// If they don't start.
    pub fn add_pops(&mut self, count: usize, far: Option<Duration>) {
        let far = far.map(|one_way| DelayProxy::start(self.herald.pops, one_way));
        for number in 1..=count {
            let proxy = far.as_ref().filter(|_| number == count);
            let mut pop = self.set_up_pop(proxy.map_or(self.herald.pops, |proxy| proxy.listen));
            pop.start();
            self.pops.push(pop);
        }
        self._far = far;
    }

    /// Adds a PoP that resolves targets of ALIAS records with this resolver.
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn add_pop_resolving_with(&mut self, resolver: SocketAddr) {
        let mut pop = self.set_up_pop(self.herald.pops);
        let (ip, port) = (resolver.ip(), resolver.port());
        pop.configure(|config| format!("alias_resolvers = [\"{ip}@{port}\"]\n{config}"));
        pop.start();
        self.pops.push(pop);
    }

    /// Makes the next PoP, which is not started yet; its session is dialled to `dial`.
    ///
    /// # Panics
    /// If it is refused.
    pub fn set_up_pop(&self, dial: SocketAddr) -> Pop {
        let name = format!("pop{}", self.pops.len() + 1);
        let secret = self.herald.register_pop(&name);
        Pop::set_up(self.scratch.path(), &name, &secret, dial, loopback::free_endpoint())
    }

    /// Makes a zone.
    ///
    /// # Panics
    /// If that is refused.
    #[track_caller]
    pub fn create_zone(&self, zone: &str) -> Value {
        self.tenant.post("/zones", &serde_json::json!({ "name": zone })).expect(201)
    }

    /// A folder for more.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.scratch.folder(name)
    }

    /// Waits until this A, AAAA, TXT … RRset is what every PoP answers.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn wait_for_answer(&self, name: &str, rtype: &str, values: &[&str]) {
        for pop in &self.pops {
            wait_for_answer(pop, name, rtype, values);
        }
    }

    /// Waits until no PoP lacks anything, and compares what each one's knotd holds of these zones with what the API exports.
    /// Gives that.
    ///
    /// # Panics
    /// If there is a difference.
    #[track_caller]
    pub fn assert_pops_hold(&self, zones: &[String]) -> BTreeMap<String, BTreeSet<Record>> {
        let export = |zone: &String| {
            let reply = self.tenant.get(&format!("/zones/{zone}/export"));
            assert_eq!(reply.status, 200, "{}: {}", reply.request, reply.text);
            (zone.clone(), reply.text)
        };
        let exports: Vec<(String, String)> = zones.iter().map(export).collect();
        self.wait_until_in_sync();
        let folder = self.scratch.folder("comparison");
        let expected = Knot::of_files(&folder, "api", &exports);
        let contents = zones.iter().map(|zone| (zone.clone(), expected.content(zone))).collect();
        drop(expected);
        for pop in 0..self.pops.len() {
            self.assert_holds(pop, &contents);
        }
        contents
    }

    /// Compares what a PoP's knotd holds with these contents.
    ///
    /// # Panics
    /// If there is a difference.
    #[track_caller]
    pub fn assert_holds(&self, pop: usize, contents: &BTreeMap<String, BTreeSet<Record>>) {
        let pop = &self.pops[pop];
        let zones: Vec<String> = contents.keys().cloned().collect();
        // It may have been started a moment ago, and not have loaded all.
        let files = wait_for(IN_SYNC_WITHIN, &format!("{} to have all zones", pop.name), || {
            zone_files_of(&pop.control_socket(), &zones)
        })
        .unwrap_or_else(|e| panic!("{e}\n{}", pop.tail()));
        let held = Knot::of_files(&self.scratch.folder("comparison"), &pop.name, &files);
        for (zone, expected) in contents {
            let differences = dns::differences(expected, &held.content(zone), 20);
            assert!(differences.is_empty(), "{zone} at {}:\n{differences}\n{}", pop.name, pop.tail());
        }
    }

    /// Waits until every PoP has confirmed every zone.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn wait_until_in_sync(&self) {
        self.wait_until_in_sync_within(IN_SYNC_WITHIN);
    }

    /// As [`Platform::wait_until_in_sync`], for as long as is said.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn wait_until_in_sync_within(&self, within: Duration) {
        let operator = self.herald.operator();
        for pop in &self.pops {
            let path = format!("/pops/{}", pop.name);
            let mut seen = Value::Null;
            wait_until(within, &format!("{} to be in sync", pop.name), || {
                seen = operator.get(&path).expect(200);
                seen["connected"] == true && seen["zones_pending"] == 0
            })
            .unwrap_or_else(|e| panic!("{e}: {seen}\n{}\n{}", pop.tail(), self.herald.tail()));
        }
    }
}

/// Waits until this RRset is what a PoP answers.
///
/// # Panics
/// If that takes too long.
#[track_caller]
pub fn wait_for_answer(pop: &Pop, name: &str, rtype: &str, values: &[&str]) {
    let mut last = None;
    let waited = wait_until(IN_SYNC_WITHIN, &format!("{name} {rtype} {values:?} at {}", pop.name), || {
        last = dns::query(pop.listen, name, rtype, Transport::Udp).ok();
        last.as_ref().is_some_and(|answer| answer.values(rtype) == values)
    });
    if let Err(e) = waited {
        panic!("{e}: {last:?}\n{}", pop.tail());
    }
}
