//! Benchmarks: ours and the peer in the same run, taking turns.

mod bulk;
mod burst;
mod counts;
mod create;
mod firewall;
mod fleet;
mod open_loop;
mod propagation;
mod report;
mod steering;
mod writes;
mod zones;

pub use report::Line;

/// A benchmark, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Durable changes of one RRset by HTTP.
    Writes,
    /// From a request to the answer at the last of three PoPs.
    Propagation,
    /// From the last of many changes to all PoPs being in sync.
    Burst,
    /// From the request for a new zone to its answer at the last of three PoPs.
    Create,
    /// A zone of a million records, imported by the CLI.
    Bulk,
    /// Many zones: an empty PoP, a restart, memory, lists.
    Fleet,
    /// Steered answers a second beside plain ones and other servers that steer.
    SteeringQps,
    /// Instructions of knotd by steered answer beside a plain one, by callgrind.
    SteeringInstructions,
    /// Memory and speed of a million steered names.
    SteeringScale,
    /// From the request that changes a weight to the answer at the last of three PoPs.
    SteerPropagation,
    /// From an endpoint that dies to the answer without it at the last of three PoPs, beside other servers that probe.
    Failover,
    /// From a verdict to the changed answer at the last of three PoPs.
    Flip,
    /// Answers a second with many rules of the firewall beside none, and what a flood leaves of them.
    FirewallQps,
    /// Counts of ten million queries with restarts, what taking counts in costs, and reading a day.
    Counts,
}

/// Which side runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// Both, taking turns.
    #[default]
    Both,
    /// Koder Herald alone.
    Ours,
    /// The peer alone.
    Peer,
}

impl Side {
    fn ours(self) -> bool {
        self != Self::Peer
    }

    fn peer(self) -> bool {
        self != Self::Ours
    }
}

/// How a benchmark is to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Which side, where there is a peer.
    pub side: Side,
    /// How many zones are loaded, instead of what the benchmark says. `writes` and `propagation` then compare ours with so many
    /// zones loaded and ours without.
    pub zones: Option<u64>,
}

/// Runs one benchmark: a line a setting.
///
/// # Panics
/// If something isn't right.
pub fn measure(name: Name, settings: &Settings) -> Vec<Line> {
    match name {
        Name::Writes => writes::run(settings),
        Name::Propagation => propagation::run(settings),
        Name::Burst => burst::run(settings),
        Name::Create => create::run(settings),
        Name::Bulk => bulk::run(settings),
        Name::Fleet => fleet::run(settings),
        Name::SteeringQps => steering::qps(settings),
        Name::SteeringInstructions => steering::instructions(settings),
        Name::SteeringScale => steering::scale(settings),
        Name::SteerPropagation => steering::propagation(settings),
        Name::Failover => steering::failover(settings),
        Name::Flip => steering::flip(settings),
        Name::Counts => counts::run(settings),
        Name::FirewallQps => firewall::run(settings),
    }
}

/// Runs one benchmark and prints its lines: JSON objects, or a table for people.
pub fn run(name: Name, settings: &Settings, json: bool) {
    let lines = measure(name, settings);
    if json {
        for line in &lines {
            println!("{}", line.to_json());
        }
    } else {
        println!("{}", Line::table(&lines));
    }
}
