//! Starts real Knots, Heralds and PoPs for tests, `./dev run` and benchmarks.

pub mod api;
pub mod bench;
pub mod chain;
pub mod delay;
pub mod dns;
pub mod herald;
pub mod http;
pub mod knot;
pub mod load;
pub mod loopback;
pub mod observe;
pub mod powerdns;
pub mod process;
pub mod scratch;
pub mod shim;
pub mod wait;
