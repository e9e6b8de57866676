//! Steered answers beside plain ones, and beside other name servers that steer.

mod failover;
mod flip;
pub(super) mod flood;
mod instructions;
mod names;
mod ours;
pub(super) mod pairs;
mod peers;
mod propagation;
pub(super) mod qps;
mod scale;

pub use failover::run as failover;
pub use flip::run as flip;
pub use instructions::run as instructions;
pub use propagation::run as propagation;
pub use qps::run as qps;
pub use scale::run as scale;

use std::path::PathBuf;

/// Where a GeoLite2 or GeoIP2 City file is, for the benchmarks that need a real one.
const CITY_FILE: &str = "HERALD_GEOIP_CITY";

/// The City file.
///
/// # Panics
/// If the environment names none.
fn city_file() -> PathBuf {
    let file = std::env::var_os(CITY_FILE)
        .unwrap_or_else(|| panic!("{CITY_FILE} is to name a City database (.mmdb)"));
    PathBuf::from(file)
}
