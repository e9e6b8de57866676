//! What is counted about requests, and the text that Prometheus reads.

use std::fmt::Write as _;
use std::time::Duration;

use herald_core::state::State;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Bounds of the histogram, in seconds: from a read in memory to a wait for PoPs.
const BUCKETS_S: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    60.0,
];

/// Counters of the API.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    revision: IntGauge,
    epoch: IntGauge,
    zones: IntGauge,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Panics
    /// Never: the names are right and each is registered once.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new("herald_http_requests_total", "Requests answered, by route, method and status."),
            &["route", "method", "status"],
        );
        let seconds = HistogramVec::new(
            HistogramOpts::new("herald_http_request_seconds", "Time from a request's head to its answer's.")
                .buckets(BUCKETS_S.to_vec()),
            &["route", "method"],
        );
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect("a good name");
        let metrics = Metrics {
            registry,
            requests: requests.expect("good names"),
            seconds: seconds.expect("good names"),
            revision: gauge(
                "herald_engine_revision",
                "Revision of the log's last entry: how many commits there were.",
            ),
            epoch: gauge("herald_engine_epoch", "The leader's term."),
            zones: gauge("herald_zones", "Zones, pending ones included."),
        };
        let Metrics { registry, requests, seconds, revision, epoch, zones } = &metrics;
        let collectors: [Box<dyn prometheus::core::Collector>; 5] = [
            Box::new(requests.clone()),
            Box::new(seconds.clone()),
            Box::new(revision.clone()),
            Box::new(epoch.clone()),
            Box::new(zones.clone()),
        ];
        for collector in collectors {
            registry.register(collector).expect("each is registered once");
        }
        metrics
    }

    /// Counts an answer.
    pub fn count(&self, route: &str, method: &str, status: &str, took: Duration) {
        self.requests.with_label_values(&[route, method, status]).inc();
        self.seconds.with_label_values(&[route, method]).observe(took.as_secs_f64());
    }

    /// The text, with the engine's figures as they are in this state.
    pub fn text(&self, state: &State) -> String {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.revision.set(number(state.revision()));
        self.epoch.set(number(state.epoch()));
        self.zones.set(number(state.zone_count() as u64));
        let mut text = String::with_capacity(16 * 1024);
        if let Err(e) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            _ = writeln!(text, "# {e}");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}
